"""The findings as a page."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from .figures import Inspection


def write(path: Path, inspection: Inspection, *, title: str = "Preference pairs") -> None:
    """Writes one HTML file that needs nothing else; ``title`` says what data it is about, such as a file name."""
