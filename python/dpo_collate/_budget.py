"""The bytes of a batch, counted before its memory is asked for."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass
class Budget:
    """What a batch may take (None: any number of bytes), and what it takes so far."""

    limit: int | None
    used: int

    def take(self, nbytes: int, place: str, largest: int) -> None:
        """Counts as many bytes more.

        Args:
            nbytes: How many.
            place: How a message begins: the sample and key that ask for most of them.
            largest: How many that sample and key ask for.

        Raises:
            MemoryError: The batch would have more than its limit.
        """
        self.used += nbytes
        if self.limit is not None and self.used > self.limit:
            raise MemoryError(
                f"{place}, of {largest} bytes, makes a batch of {self.used} bytes, more than "
                f"max_batch_bytes={self.limit}"
            )


@contextmanager
def allocation(place: str) -> Iterator[None]:
    """Makes a MemoryError of one string out of whatever NumPy and torch raise where there is no memory.

    NumPy's own exception takes two arguments, so that a DataLoader worker cannot hand it on; torch's
    is a RuntimeError.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, MemoryError) or "can't allocate memory" in str(error):
            raise MemoryError(f"{place} is too large: there is no memory for a copy of it") from None
        raise
