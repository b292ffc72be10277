"""What collators report while somebody counts; see :mod:`dpo_collate.stats`."""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from ._finish import Finish


class Made(NamedTuple):
    """A batch that was made."""

    finish: Finish
    """What knows its layout."""
    samples: int
    """How many samples it has."""
    taken: list[tuple[int, int, int, int, int, int]]
    """Of each part of each matrix: matrix, part, rows, tokens, cells, truncated rows."""
    arrays: dict[str, Any]
    """Its tensors (or arrays), whatever nest the layout makes of them; extra keys may be missing."""


watched_call: Final[ContextVar[list[Made] | None]] = ContextVar("watched_call", default=None)
"""Where collators that this thread calls report their batches; None, and nothing is counted, outside a watched call."""
