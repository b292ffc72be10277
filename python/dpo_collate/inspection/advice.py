"""What to do, in plain words, with the figures it rests on."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .figures import Advice, Inspection


def advice(found: Inspection) -> tuple[Advice, ...]:
    """Advice, what must be known first, then what saves most."""
    return ()
