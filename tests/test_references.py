"""No entry point gains or loses a reference, on no path: what it takes, and the shared objects that it uses.

Each path is an entry point with what it takes or what it refuses; the tables are those of the tests that say what is
wrong with samples and tables.
"""

from __future__ import annotations

import gc
import sys
import tracemalloc
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

import dpo_collate
import growth
from figures import note

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CALLS = 16
ROUNDS = 4
SMALLEST = 28
"""Bytes of an int."""
SECONDS = 0.5
ANYWHERE = {int, float, str, bytes, bool, type(None)}
"""Of these one object may be in many places, which change meanwhile."""
PATHS = growth.paths()


def held(value: Any, depth: int = 0) -> Iterator[Any]:
    """An object, and what it holds."""
    yield value
    if type(value) is dict:
        yield from value
    if type(value) in {dict, list, tuple} and depth < 6:
        for inner in value.values() if type(value) is dict else value:
            yield from held(inner, depth + 1)


def shared() -> list[Any]:
    """What is used by every call: one that lost a reference each time would end the interpreter sooner or later."""
    kinds = [object, dict, list, tuple, int, float, str, bool, KeyError, TypeError, ValueError, OverflowError]
    kinds += [MemoryError, IndexError, RuntimeError, np.ndarray, torch.Tensor]
    dtypes = [np.dtype(name) for name in ("i8", "i4", "u1", "?", "f4", "f8", "f2")]
    torches = [torch.int64, torch.int32, torch.float32, torch.bool, torch.uint8, torch.from_numpy]
    return [*kinds, *dtypes, *torches, np, torch, dpo_collate._core]


@pytest.mark.filterwarnings("ignore")
def test_no_reference_is_gained_or_lost() -> None:
    wrong: dict[str, Any] = {}
    for name, (call, inputs) in PATHS.items():
        objects = [*shared(), call, *(value for value in held(inputs) if type(value) not in ANYWHERE)]
        growth.quietly(call)
        before = [sys.getrefcount(value) for value in objects]
        for _ in range(CALLS):
            growth.quietly(call)
        grown = difference(objects, before)
        if grown:  # what waits for the collector is no leak
            gc.collect()
            grown = difference(objects, before)
        if grown:  # nor is what others have left, which does not come again
            before = [sys.getrefcount(value) for value in objects]
            for _ in range(CALLS):
                growth.quietly(call)
            gc.collect()
            grown = difference(objects, before)
        if grown:
            wrong[name] = grown
    note("references", paths=len(PATHS), calls=CALLS * len(PATHS))
    assert wrong == {}


def difference(objects: list[Any], before: list[int]) -> list[Any]:
    """Of which objects there are more references, or fewer, than one in two calls might have."""
    after = [sys.getrefcount(value) for value in objects]
    return [
        (type(value), then, now)
        for value, then, now in zip(objects, before, after, strict=True)
        if abs(now - then) >= CALLS // 2
    ]


@pytest.mark.filterwarnings("ignore")
def test_no_object_and_no_memory_of_ours_is_left() -> None:
    """What the collector knows, and what our files have asked for: the same after as many calls again."""
    calls = [call for name, (call, _) in PATHS.items() if not name.startswith(growth.KEPT_BY_TESTS)]
    ours = [tracemalloc.Filter(inclusive=True, filename_pattern=str(Path(dpo_collate.__file__).parent / "*"))]

    def rounds(times: int) -> None:
        for _ in range(times):
            for call in calls:
                growth.quietly(call)
        gc.collect()

    def measured() -> tuple[int, int]:
        sys._clear_type_cache()  # it keeps the names of attributes that were asked for, thousands of them
        traces = tracemalloc.take_snapshot().filter_traces(ours).statistics("filename")
        return len(gc.get_objects()), sum(trace.size for trace in traces)

    tracemalloc.start(1)
    try:
        rounds(2)  # what is made once is made by then
        objects, memory = measured()
        rounds(ROUNDS)
        after = measured()
    finally:
        tracemalloc.stop()
    assert after[0] - objects < ROUNDS, "one object for each call of one path"
    assert after[1] - memory < SMALLEST * ROUNDS, "one object for each call of one path"


@pytest.mark.filterwarnings("ignore")
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_does_not_grow_by_calls() -> None:
    """For a moment; `make leaks` does it for as long as one likes, in a process of its own."""
    found, grown, calls = growth.leaks(PATHS, SECONDS)
    note("growth", calls=calls, most_growth_bytes=max(0, *grown.values()))
    assert found == {}
    assert len(grown) > 100


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_that_is_kept_is_seen() -> None:
    kept: list[bytes] = []

    def keeping() -> None:
        kept.append(bytes(range(256)) * 256)

    found, *_ = growth.leaks({"keeping": (keeping, None), "good": PATHS["separate"]}, 0.1)
    assert set(found) == {"keeping"}


def test_what_keeps_a_reference_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[Any] = []
    sample = {"chosen_input_ids": [1]}
    keeping: Callable[[], Any] = partial(kept.append, sample)
    monkeypatch.setitem(PATHS, "keeping", (keeping, sample))
    for name in [name for name in PATHS if name != "keeping"]:
        monkeypatch.delitem(PATHS, name)
    with pytest.raises(AssertionError, match="keeping"):
        test_no_reference_is_gained_or_lost()
    monkeypatch.setitem(PATHS, "keeping", (lambda: kept.append([]), None))
    with pytest.raises(AssertionError, match="one object"):
        test_no_object_and_no_memory_of_ours_is_left()
