"""What grows while a function is called again and again."""

from __future__ import annotations

import gc
import os
import sys
import tracemalloc
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dpo_collate import delivery

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt

_PER_CALL = {"objects": 0.5, "bytes of Python objects": 16, "blocks of batches": 0.5, "open file descriptors": 0.5}
"""What counts as growth with the calls: the least of it for one call, in every round."""

_RESIDENT = "bytes of the process"
_RESIDENT_PER_CALL, _LEAST_RESIDENT = 2**10, 2**20
"""The process grows by pages, and for many reasons: only much counts."""


def grows(call: Callable[[], None], arguments: Sequence[Any], calls: int, rounds: int) -> list[str]:
    """What grows in every round of so many calls, in words."""
    held = [(f"references to {place}", value) for place, value in _held(arguments, "arguments")]
    names = [*(name for name, _ in held), *_PER_CALL, _RESIDENT]
    # All there is to keep figures in is made before.
    figures = np.zeros((rounds + 1, len(names)), np.int64)
    tracing = tracemalloc.is_tracing()
    if not tracing:
        tracemalloc.start()
    try:
        for at in range(-1, rounds + 1):
            for _ in range(calls):
                call()
            _measure(held, figures[max(at, 0)])
    finally:
        if not tracing:
            tracemalloc.stop()
    growth = dict(zip(names, np.diff(figures, axis=0).T.tolist(), strict=True))
    found = [name for name, steps in growth.items() if _grows(name, steps, calls)]
    references = [name for name in found if name.startswith("references")]
    # An argument that is kept keeps all that is in it: the outermost says it.
    return [f"{name}, {_steps(growth[name])}" for name in (references[:1] or found)]


def _steps(steps: list[int]) -> str:
    if len(set(steps)) == 1:
        return f"{steps[0]} more after each round"
    return f"{', '.join(map(str, steps))} more after the rounds"


def _grows(name: str, steps: list[int], calls: int) -> bool:
    """Whether something grew with the calls: in every round, and bytes by about the same.

    (What tracemalloc does not see freed, as torch frees it, makes it count more and more slowly.)
    """
    least: float = max(_PER_CALL.get(name, 0.5) * calls, 1)
    if name == _RESIDENT:
        least = max(_RESIDENT_PER_CALL * calls, _LEAST_RESIDENT)
    steady = not name.startswith("bytes") or 2 * min(steps) >= max(steps)
    return steady and min(steps) >= least


def _held(value: Any, place: str) -> list[tuple[str, Any]]:
    """The arguments, and all that is in them, with their places; but numbers and strings are everybody's."""
    found: list[tuple[str, Any]] = []
    if isinstance(value, list | tuple):
        inner = [(f"{place}[{at}]", item) for at, item in enumerate(value)]
    else:
        inner = [(f"{place}[{key!r}]", item) for key, item in value.items()] if type(value) is dict else []
    for name, item in inner:
        if not isinstance(item, int | float | str | bytes | None):
            found += [(name, item), *_held(item, name)]
    return found


def _measure(held: list[tuple[str, Any]], figures: npt.NDArray[np.int64]) -> None:
    gc.collect()
    for at, (_, value) in enumerate(held):
        figures[at] = sys.getrefcount(value)
    figures[-5] = len(gc.get_objects())
    figures[-4] = tracemalloc.get_traced_memory()[0]
    figures[-3] = delivery.stats().blocks_in_use
    figures[-2] = sum(1 for _ in Path("/proc/self/fd").iterdir())
    figures[-1] = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")
