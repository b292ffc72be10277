"""The findings on a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

    from .figures import Inspection


def show(console: Console, inspection: Inspection) -> None:
    """Prints it: tables and small histograms, readable from 80 columns, without colours as well."""
    console.print(inspection)
