# The Rust core. Private: it may change at any time.

from collections.abc import Callable
from typing import Any, Final, final

import numpy as np
import numpy.typing as npt

from .layout import Layout

__all__ = ["DEBUG_BUILD", "Collator", "Rest", "__version__", "empty"]

__version__: Final[str]
DEBUG_BUILD: Final[bool]

@final
class Collator:
    def __new__(
        cls,
        layout: Layout,
        *,
        pad_token_id: int,
        label_pad_token_id: int,
        row: Callable[[Any, str], npt.NDArray[Any]],
        number: Callable[[Any, str], float],
        wrap: Callable[[npt.NDArray[Any]], Any] | None,
        max_batch_bytes: int | None,
    ) -> Collator: ...
    def collate(self, samples: Any, min_length: int) -> tuple[dict[str, Any], Rest | None]: ...

@final
class Rest:
    @property
    def samples(self) -> int: ...
    @property
    def truncated(self) -> list[int]: ...
    @property
    def unknown(self) -> list[Any]: ...
    @property
    def nbytes(self) -> int: ...

def empty(nbytes: int) -> npt.NDArray[np.uint8]: ...
