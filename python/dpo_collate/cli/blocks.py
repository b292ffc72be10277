"""What data is read in: blocks of rows."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

BLOCK_BYTES = 32 << 20
"""About how large a block is in memory; a row that is larger is a block of its own."""


@dataclass(frozen=True)
class Block:
    """Some rows.

    Attributes:
        rows: A ``pyarrow.RecordBatch``; or dicts, of lines that are not all alike, with None for each that cannot be
            read.
        lines: The lines that they were in, in JSON Lines.
        unreadable: What is wrong with those that cannot be read, by their index in the block.
        numbers: The numbers of the lines in their file, from 1.
    """

    rows: Any
    lines: list[bytes] | None = None
    unreadable: dict[int, str] = field(default_factory=dict)
    numbers: Sequence[int] = ()

    def __len__(self) -> int:
        return len(self.rows)


def sliced(batch: Any, size: int) -> Iterator[Block]:
    """A ``pyarrow.RecordBatch`` in blocks of about so many bytes, which are views of it."""
    rows = rows_in(size, batch.num_rows, batch.nbytes)
    for begin in range(0, batch.num_rows, rows):
        yield Block(batch.slice(begin, rows))


def rows_in(size: int, rows: int, taken: int) -> int:
    """How many rows go into so many bytes, if ``rows`` of them take ``taken``."""
    return max(1, rows if taken <= size else rows * size // taken)
