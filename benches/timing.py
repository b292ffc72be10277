"""Timing of several candidates against one another, on a machine that does other things as well."""

from __future__ import annotations

import gc
import math
import random
import statistics
from dataclasses import dataclass
from itertools import repeat
from time import perf_counter_ns, thread_time_ns
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

READING_NS: Final = 400_000
"""So long is one reading at least, by as many calls as that takes: asking for the time, 0.3 µs, must not matter."""

LEAST_ROUNDS: Final = 5


@dataclass(frozen=True)
class Timing:
    """Microseconds of one call: the median over rounds, and the quartiles around it."""

    median: float
    lower: float
    upper: float
    rounds: int
    calls: int


def interleaved(candidates: Mapping[str, Callable[[], object]], seconds: float | None) -> dict[str, Timing]:
    """Time the candidates in turn, round after round, for about `seconds` (None: one call each).

    Whatever slows the machine down for a while slows all of them. Every round has its own order, so that none always
    finds the caches and the heap as the same other one has left them.
    """
    gc.collect()
    gc.freeze()  # what exists by now is looked at in no later collection: these take microseconds
    rng = random.Random(0)
    names = list(candidates)
    readings: dict[str, list[float]] = {name: [] for name in names}
    calls = dict.fromkeys(names, 1)
    if seconds is not None:
        for name in names:
            once = min(_reading(candidates[name], 1) for _ in range(3))
            calls[name] = math.ceil(READING_NS / max(once, 1))
    deadline = perf_counter_ns() + (seconds or 0) * 1e9
    least = LEAST_ROUNDS if seconds is not None else 1
    while perf_counter_ns() < deadline or len(readings[names[0]]) < least:
        rng.shuffle(names)
        for name in names:
            readings[name].append(_reading(candidates[name], calls[name]) / calls[name] / 1000)
        gc.collect()
    gc.unfreeze()
    return {name: _summary(readings[name], calls[name]) for name in candidates}


def _reading(call: Callable[[], object], calls: int) -> int:
    """Nanoseconds of that many calls. Each result is dropped at once, as a worker drops a batch that it has sent.

    It is the thread's own time. By the clock on the wall, another process that takes the processor away would make long
    calls seem longer and leave most short ones as they are: every ratio would look better than it is.
    """
    call()  # brings code and inputs into the caches, and the allocator to where it will be
    gc.disable()
    try:
        begin = thread_time_ns()
        for _ in repeat(None, calls):
            call()
        return thread_time_ns() - begin
    finally:
        gc.enable()


def _summary(readings: list[float], calls: int) -> Timing:
    if len(readings) == 1:
        return Timing(readings[0], readings[0], readings[0], 1, calls)
    lower, median, upper = statistics.quantiles(readings, n=4, method="inclusive")
    return Timing(median, lower, upper, len(readings), calls)
