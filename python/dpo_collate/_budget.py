"""The bytes of a batch, counted before its memory is asked for."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@dataclass
class Budget:
    """What a batch may take (None: any number of bytes), and what it takes so far."""

    limit: int | None
    used: int

    def take(self, nbytes: int, largest: Callable[[], tuple[str, int]]) -> None:
        """Counts as many bytes more.

        Args:
            nbytes: How many.
            largest: Says which sample and key ask for most of them, as messages begin, and for how many.

        Raises:
            MemoryError: The batch would have more than its limit.
        """
        self.used += nbytes
        if self.limit is not None and self.used > self.limit:
            place, most = largest()
            raise MemoryError(
                f"{place}, of {most} bytes, makes a batch of {self.used} bytes, more than max_batch_bytes={self.limit}"
            )


def check_size(nbytes: int, place: str) -> None:
    """Raises a MemoryError for what the address space cannot hold: NumPy and torch have other words for that."""
    if nbytes > sys.maxsize:
        raise MemoryError(_TOO_LARGE.format(place))


_TOO_LARGE = "{} is too large: there is no memory for a copy of it"


def is_no_memory(error: Exception) -> bool:
    """Whether it says that there is no memory."""
    said = ("can't allocate memory", "Storage size calculation overflowed")
    return isinstance(error, MemoryError) or any(words in str(error) for words in said)


@contextmanager
def allocation(place: str) -> Iterator[None]:
    """Makes a MemoryError of one string out of whatever NumPy and torch raise where there is no memory.

    NumPy's own exception takes two arguments, so that a DataLoader worker cannot hand it on; torch's
    is a RuntimeError.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if is_no_memory(error):
            raise MemoryError(_TOO_LARGE.format(place)) from None
        raise
