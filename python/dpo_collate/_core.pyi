# The Rust core. Private: it may change at any time.

from collections.abc import Callable
from typing import Any, Final, final

import numpy as np
import numpy.typing as npt

from .layout import Layout

__all__ = ["ALIGNMENT", "DEBUG_BUILD", "Collator", "Rest", "__version__", "empty"]

__version__: Final[str]
ALIGNMENT: Final[int]
DEBUG_BUILD: Final[bool]

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
    ) -> Collator: ...
    def collate(self, samples: Any, min_length: int) -> tuple[dict[str, Any], Rest | None]: ...

@final
class Rest:
    @property
    def media(self) -> dict[str, list[tuple[int, str, Any]]]: ...
    @property
    def extras(self) -> dict[Any, list[Any]]: ...
    @property
    def truncated(self) -> list[int]: ...
    @property
    def nbytes(self) -> int: ...

def empty(nbytes: int) -> npt.NDArray[np.uint8]: ...
