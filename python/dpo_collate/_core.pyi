# The Rust core. Private: it may change at any time.

from collections.abc import Callable, Sequence
from typing import Any, Final, TypeAlias, final

import numpy as np
import numpy.typing as npt

from ._grids import Grid
from ._pools import Memory
from .layout import Layout

__all__ = [
    "ALIGNMENT",
    "DEBUG_BUILD",
    "Arena",
    "ArrowTable",
    "Collator",
    "Findings",
    "PairPlanner",
    "Rest",
    "RowCheck",
    "Seen",
    "__version__",
    "after_fork_in_child",
    "after_fork_in_parent",
    "attach",
    "attached",
    "before_fork",
    "close",
    "count_sent",
    "empty",
    "fall_back",
    "is_open",
    "open_shared",
    "receive",
    "send",
    "set_open",
    "stats",
    "trim",
]

__version__: Final[str]
ALIGNMENT: Final[int]
DEBUG_BUILD: Final[bool]

_Taken: TypeAlias = tuple[int, int, int, int, int, int]  # matrix, part, rows, tokens, cells, truncated rows

@final
class Collator:
    def __new__(
        cls,
        layout: Layout,
        *,
        pad_token_id: int,
        label_pad_token_id: int,
        row: Callable[[Any, str, bool], npt.NDArray[Any]],
        number: Callable[[Any, str], float],
        wrap: Callable[[npt.NDArray[Any]], Any] | None,
        max_batch_bytes: int | None,
        memory: Memory,
        counted: Sequence[int],
    ) -> Collator: ...
    def collate(
        self, samples: Any, min_length: int, taken: list[_Taken] | None
    ) -> tuple[dict[str, Any], Rest | None]: ...

@final
class Rest:
    @property
    def media(self) -> dict[str, list[tuple[int, str, Any]]]: ...
    @property
    def extras(self) -> dict[Any, list[Any]]: ...
    @property
    def truncated(self) -> list[int]: ...
    @property
    def counts(self) -> list[tuple[int, int, int, int, int, int]]: ...
    @property
    def nbytes(self) -> int: ...

@final
class ArrowTable:
    def __new__(cls, tables: Sequence[Any], *, several: bool = False) -> ArrowTable: ...
    def __len__(self) -> int: ...
    @property
    def names(self) -> tuple[str, ...]: ...
    def parts(self) -> list[tuple[int, tuple[str, ...]]]: ...
    def head(self, rows: int) -> ArrowTable: ...
    def slice(self, begin: int, rows: int) -> ArrowTable: ...
    def take(self, rows: Sequence[int]) -> ArrowTable: ...
    def lengths(
        self, key: str, *, rows: npt.NDArray[np.int64] | None = None, unbatch: bool = False
    ) -> npt.NDArray[np.int64]: ...
    def size(self, row: int, key: str) -> int | None: ...
    def value(self, row: int, key: str) -> Any: ...

@final
class PairPlanner:
    def __new__(
        cls,
        lengths: npt.NDArray[np.int64],
        tiles: npt.NDArray[np.int64] | None,
        grids: Sequence[Grid],
        *,
        batch_size: int | None,
        max_tokens: int | None,
        max_tiles: int | None,
        multiple_of: int,
        shuffle: bool,
        window: int | None,
        drop_last: bool,
        world_size: int,
    ) -> PairPlanner: ...
    @property
    def refused(self) -> npt.NDArray[np.int64]: ...
    @property
    def why(self) -> str | None: ...
    def plan(
        self, seed: int, epoch: int, steps: int | None = None
    ) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.int64], npt.NDArray[np.int64]]: ...

@final
class RowCheck:
    def __new__(
        cls,
        collator: Collator,
        *,
        ids: Sequence[str],
        sides: Sequence[Sequence[str]],
        may_be_equal: bool,
        scored: Sequence[tuple[Sequence[str], float, bool]],
        vocab_size: int | None,
        image_tokens: Sequence[int],
    ) -> RowCheck: ...
    def look(self, samples: Any, first: int, apart: Sequence[int], seen: Seen | None) -> Findings: ...

@final
class Findings:
    @property
    def problems(self) -> list[tuple[int, str, str | None, str]]: ...
    @property
    def duplicates(self) -> list[tuple[int, int]]: ...
    @property
    def apart(self) -> list[tuple[int, tuple[int, int]]]: ...
    @property
    def counted(self) -> list[int]: ...
    @property
    def refused(self) -> list[int]: ...
    @property
    def not_taken(self) -> list[int]: ...

@final
class Seen:
    def __new__(cls) -> Seen: ...
    def first(self, digest: tuple[int, int], row: int, keep: bool) -> int | None: ...
    def __len__(self) -> int: ...

def empty(nbytes: int, memory: Memory) -> npt.NDArray[np.uint8]: ...

@final
class Arena: ...

def is_open() -> bool: ...
def set_open() -> None: ...
def open_shared() -> tuple[bytes, int]: ...
def fall_back(reason: str) -> None: ...
def count_sent() -> None: ...
def send(
    address: int, itemsize: int, shape: Sequence[int], strides: Sequence[int], small: int
) -> tuple[int, int, int] | tuple[()] | None: ...
def attached(identity: bytes) -> Arena | None: ...
def attach(identity: bytes, file: int, pid: int, descriptor: int) -> Arena: ...
def receive(
    arena: Arena,
    place: tuple[int, int, int],
    dtype: np.dtype[Any],
    shape: Sequence[int],
    strides: Sequence[int] | None,
) -> npt.NDArray[Any]: ...
def before_fork() -> None: ...
def after_fork_in_parent() -> None: ...
def after_fork_in_child() -> None: ...

_Held: TypeAlias = tuple[int, int]  # blocks, bytes

def stats() -> tuple[int, _Held, _Held, _Held, int, int, int, list[tuple[str, int]]]: ...
def close() -> None: ...
def trim() -> None: ...
