"""Every entry point, with what it takes and with what it refuses; and whether memory grows by calling it.

`python tests/growth.py SECONDS` calls each path in turn, for so long in all, and measures what the process has.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import itertools
import json
import sys
import time
import warnings
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

import attacks
import test_arrow_hostile
import test_arrow_memory
import test_errors
import test_memory
from arrow_producers import Single
from arrow_producers import table as table_of
from dpo_collate import PreferenceCollator, _core, _messages, check
from dpo_collate.datasets import lengths
from dpo_collate.sampler import PairBatchSampler
from dpo_collate.stats import PaddingMeter
from figures import note

if TYPE_CHECKING:
    from collections.abc import Callable

Path = tuple["Callable[[], Any]", Any]
"""A call, and the objects that it is made with."""

KIB = 1024
ROUNDS = 8
MOST_GROWTH = 64 * KIB
"""Of one path between two measurements: less is the allocator's."""

KEPT_BY_TESTS = "wrong column"
"""Of paths of this name objects stay: those of the tests' own producers."""

PLAIN = PreferenceCollator(pad_token_id=0)
LISTS = PreferenceCollator(pad_token_id=0, extra_keys="list", return_tensors="np")


def quietly(call: Callable[[], Any]) -> None:
    """Calls, whatever comes of it."""
    with contextlib.suppress(Exception):
        call()


def _of(call: Callable[[Any], Any], make: Callable[[], Any]) -> Path:
    """With the same objects each time, unless they can be read but once."""
    made = make()
    if isinstance(made, list | dict | tuple):
        return partial(call, made), made
    return (lambda: call(make())), None


def paths() -> dict[str, Path]:
    """The table: by name, what is called."""
    return _attacked() | _wrong() | _tables() | _others()


def _attacked() -> dict[str, Path]:
    table: dict[str, Path] = {name: _of(it.call, it.samples) for name, it in attacks.TARGETS.items()}
    for of, cases in (("good", test_memory.GOOD), ("bad", test_memory.BAD), ("arrow", test_arrow_memory.ALL)):
        for name, (collator, samples) in cases.items():
            table[f"{of}: {name}"] = partial(collator, samples), samples
    return table


def _wrong() -> dict[str, Path]:
    table: dict[str, Path] = {}
    for index, (name, make, *_) in enumerate(test_errors.SAMPLES):
        table[f"samples: {name}"] = _of(PLAIN, make)
        if index % 4 == 0:
            table[f"checked: {name}"] = _of(lambda samples: check(samples, PLAIN), make)
    for index, (name, make, *_) in enumerate(test_errors.ROWS):
        samples = [test_errors.pair(), test_errors.pair(rejected_labels=make())]
        table[f"row: {name}"] = partial(PLAIN, samples), samples
        if index % 8 == 0:
            table[f"checked row: {name}"] = partial(check, samples, PLAIN), samples
    for name, make, *_ in test_errors.NUMBERS:
        samples = [test_errors.pair(margin=1), test_errors.pair(margin=make())]
        table[f"number: {name}"] = partial(PLAIN, samples), samples
    for name, options, make, *_ in test_errors.OPTIONS:
        table[f"option: {name}"] = _of(PreferenceCollator(pad_token_id=0, **options), make)
    return table


def _tables() -> dict[str, Path]:
    table: dict[str, Path] = {}
    for name, (column, _) in test_arrow_hostile.WRONG_COLUMNS.items():
        # A producer writes down what it has given, and ctypes keeps its callbacks: see KEPT_BY_TESTS.
        table[f"wrong column: {name}"] = partial(_made_anew, column), None
    rows = _core.ArrowTable([attacks.table(4, 2)])
    for index, ask in enumerate(test_arrow_memory.asks(rows)):
        table[f"table: {index}"] = ask, rows
    return table


def _made_anew(column: Any) -> Any:
    return LISTS(Single(table_of(chosen_labels=column)))


def _others() -> dict[str, Path]:
    """Entry points that take no samples."""
    sizes, tiles = np.array([[4, 3], [9, 2]]), np.array([1, 2])
    meter = PaddingMeter()
    given = attacks.TWO()
    wrong: dict[str, Callable[[], Any]] = {
        "sampler": lambda: list(PairBatchSampler(sizes, "separate", max_tokens=64, tiles=tiles, max_tiles=3)),
        "sampler: too long": lambda: PairBatchSampler(sizes, "separate", max_tokens=2),
        "sampler: floats": lambda: PairBatchSampler(sizes / 2, "separate", max_tokens=64),
        "sampler: negative": lambda: PairBatchSampler(-sizes, "separate", max_tokens=64),
        "sampler: tiles": lambda: PairBatchSampler(sizes, "separate", max_tokens=64, tiles=sizes, max_tiles=2),
        "lengths: no table": lambda: lengths([given]),
        "collator: no pad": lambda: PreferenceCollator(pad_token_id="x"),  # type: ignore[arg-type]
        "collator: layout": lambda: PreferenceCollator("x", pad_token_id=0),
        "min_length": lambda: PLAIN(given, min_length=-1),
        "meter": lambda: meter.watch(PLAIN)(given),
        "meter: raises": lambda: meter.watch(PLAIN)([5]),
        "meter: nothing to call": lambda: meter.watch(5),  # type: ignore[arg-type]
        "send: foreign": lambda: _core.send(64, 8, (2, 2), (2, 1), 0),
        "send: no shape": lambda: _core.send(64, 8, ("x",), (1,), 0),  # type: ignore[arg-type]
        "attached: unknown": lambda: _core.attached(b"0123456789abcdef"),
        "attached: no id": lambda: _core.attached(b"0"),
        "attach: no process": lambda: _messages._attach(b"0123456789abcdef", 2**22 - 1, 5, None),
        "message: bytes": lambda: _messages._of_bytes(bytes(16), "int64", (2,)),
        "message: wrong bytes": lambda: _messages._of_bytes(bytes(15), "int64", (2,)),
        "empty": lambda: _core.empty(4096, "private"),
        "empty: word": lambda: _core.empty(4096, "x"),  # type: ignore[arg-type]
        "empty: too large": lambda: _core.empty(2**62, "heap"),
        "seen": lambda: _core.Seen().first((1, 2), 0, keep=True),
    }
    return {name: (call, [sizes, tiles, given]) for name, call in wrong.items()}


def measure(table: dict[str, Path], seconds: float) -> tuple[dict[str, int], int]:
    """Calls the paths in turn. By name, what the process has grown in each measurement of a path; and the calls."""
    grown: dict[str, int] = {}
    counted = 0
    for name, (call, _inputs) in table.items():
        share = seconds / len(table) / ROUNDS
        sizes = []
        for _ in range(ROUNDS):
            end = time.perf_counter() + share
            while time.perf_counter() < end:
                quietly(call)
                counted += 1
            gc.collect()  # all: what waits for the collector is no leak
            sizes.append(test_memory.resident())
        # A leak shows in each part; what is made once, or kept to be used again, does not.
        half = sizes[ROUNDS // 2 :]
        grown[name] = min(after - before for before, after in itertools.pairwise(half)) * (len(half) - 1)
    return grown, counted


def leaks(table: dict[str, Path], seconds: float) -> tuple[dict[str, int], dict[str, int], int]:
    """By name, what the process grows by paths that it does grow by; and by all; and how many calls were made.

    What there is is frozen: see `gc`.
    """
    table = {name: path for name, path in table.items() if not name.startswith(KEPT_BY_TESTS)}
    for call, _inputs in table.values():
        quietly(call)
    gc.collect()
    gc.freeze()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
    grown, calls = measure(table, seconds)
    return {name: growth for name, growth in grown.items() if growth > MOST_GROWTH}, grown, calls


def main() -> None:
    warnings.simplefilter("ignore")
    found, grown, calls = leaks(paths(), float(sys.argv[1]))
    note("growth", calls=calls, most_growth_bytes=max(0, *grown.values()))
    gc.unfreeze()  # else other libraries say when it ends that they leak
    sys.stdout.write(json.dumps({"paths": len(grown), "most_growth_bytes": max(0, *grown.values())}) + "\n")
    if found:
        sys.exit(f"memory grows by calling: {found}")


if __name__ == "__main__":
    main()
