"""From a `DataLoader` worker to the training process: the time of a batch, and what it costs the training process.

`python benches/loader.py` prints a table for each batch that is sent; `--help` lists the options. What is timed:

- **A reading** is a new loader. Its first batches are reported apart, all together, the start of the workers included:
  memory is new to everybody then. The batches after them are timed by the clock on the wall, as there are several
  processes, and by the processor time of the training process: that of all its threads, and not that of the workers.
- **The training process looks at every batch**: it reads one value of each page. A tensor in new shared memory costs
  its receiver little until it is read, and every batch is read, by the copy to the accelerator if by nothing else: a
  loop that does not look leaves out half of what such memory costs. To read every value would take all ways the same
  time more, and make them alike. What looking takes at the least, at a batch that is mapped and in the caches, is in
  the column "look alone"; looking is part of the time of all ways that deliver batches.
- **A batch is dropped when the next has come**, as `for batch in loader` does.
- **The ways take turns**, in one run, in an order that changes from round to round. What is printed are medians over
  rounds; what a round gives is the mean over its batches, so that a slow one now and then is not lost.

Each reading ends with a comparison, when the clock has stopped: the last batch must be the one that is made in this
process. All ways take one turn for this alone, before anything is timed.

"empty loader" delivers nothing: it is the floor. "one copy" is the limit: in this process, the images (of text alone:
as many bytes) are copied once, to memory that has been used before. A way of torch's for which /dev/shm is too small is
left out. InternVL's own code is in no package: the environment variable `DPO_COLLATE_INTERNVL` may name its file
`pad_data_collator.py`; else `examples/internvl_padding.py`, which restates it, takes its place.
"""

from __future__ import annotations

import argparse
import gc
import json
import mmap
import random
import statistics
import sys
import warnings
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from time import perf_counter_ns, process_time_ns
from typing import Any, Final

import torch
from rich.console import Console
from rich.table import Table

from cases import Size
from collate import check, machine, print_machine
from dpo_collate import delivery
from loader_ways import EMPTY, LIMIT, LOOK, OURS, LoaderCase, Way, make_cases, make_ways


@dataclass(frozen=True)
class Effort:
    """How long is measured."""

    rounds: int
    seconds: float
    """A reading goes on for so long at least."""
    batches: int
    """So many batches are timed at least."""
    first: int
    """So many batches of each worker come before."""


THOROUGH: Final = Effort(rounds=7, seconds=0.3, batches=20, first=8)
FAST: Final = Effort(rounds=1, seconds=0, batches=3, first=2)


@dataclass(frozen=True)
class Reading:
    """Milliseconds."""

    first: float
    """All first batches together, and the start of the workers."""
    wall: float
    """A batch after them."""
    cpu: float
    """The training process's processor time for a batch after them."""


@dataclass(frozen=True)
class Result:
    """What was measured of one case with one number of workers."""

    case: LoaderCase
    workers: int
    first: int
    readings: dict[str, list[Reading]]

    @property
    def delivered(self) -> list[str]:
        """The ways that deliver batches."""
        return [name for name in self.readings if name not in (EMPTY, LIMIT, LOOK)]

    def median(self, name: str, what: str) -> float:
        """The median over rounds."""
        readings: list[float] = [getattr(reading, what) for reading in self.readings[name]]
        return statistics.median(readings)

    def shown(self, name: str, what: str) -> str:
        """The median in three digits, without an exponent."""
        median = self.median(name, what)
        return f"{median:.0f}" if median >= 100 else f"{median:.3g}"

    def ratio(self, above: str, below: str, what: str) -> float:
        """How much longer one way takes than another."""
        return self.median(above, what) / self.median(below, what)

    def report(self) -> dict[str, Any]:
        """All of it, as JSON can hold it."""
        return {
            "case": self.case.name,
            "bytes": self.case.nbytes,
            "workers": self.workers,
            "first_batches": self.first,
            "readings_ms": {name: list(map(asdict, readings)) for name, readings in self.readings.items()},
        }


def measure(case: LoaderCase, workers: int, ways: list[Way], effort: Effort) -> Result:
    """Check all ways, and time them in turn."""
    first = effort.first * max(workers, 1)
    ways = list(ways)
    readings: dict[str, list[Reading]] = {way.name: [] for way in ways}
    gc.collect()
    gc.freeze()  # neither this process nor the workers look at what exists by now in a later collection
    rng = random.Random(0)
    if effort.seconds:  # else little is timed, and each reading compares
        for way in ways:
            read(case, workers, way, first, FAST)
    for _ in range(effort.rounds):
        rng.shuffle(ways)
        for way in ways:
            readings[way.name].append(read(case, workers, way, first, effort))
            gc.collect()
    gc.unfreeze()
    return Result(case, workers, first, readings)


def read(case: LoaderCase, workers: int, way: Way, first: int, effort: Effort) -> Reading:
    """Time one loader, and compare its last batch."""
    delivery.trim()  # with no workers, memory of the reading before would be there
    begin = start = perf_counter_ns()
    used = 0
    for number, batch in enumerate(way.open(workers), 1):
        look(batch)
        now = perf_counter_ns()
        if number == first:
            start, used = now, process_time_ns()
        elif number >= first + effort.batches and now - start >= effort.seconds * 1e9:
            break
    used = process_time_ns() - used
    if way.baseline is not None:
        check(case.case, way.baseline, case.reference, batch)
    timed = number - first
    return Reading((start - begin) / 1e6, (now - start) / 1e6 / timed, used / 1e6 / timed)


def look(batch: object) -> None:
    """Read one value of each page of each tensor."""
    if isinstance(batch, dict):
        for tensor in batch.values():
            # NumPy does it with the least ado: 1.4 µs for a small tensor.
            tensor.numpy().reshape(-1)[:: mmap.PAGESIZE // tensor.itemsize].copy()


def print_header(console: Console, facts: dict[str, str], ways: list[Way]) -> None:
    """Say what runs where."""
    print_machine(console, facts)
    for way in ways[1:]:
        console.print(f"{way.name}: {way.version}")
    console.print("Milliseconds, medians. In brackets: how many times as long as ours.\n")


def print_table(console: Console, results: list[Result], ways: list[Way]) -> None:
    """Print what was measured of one case."""
    table = Table(title=results[0].case.title, title_justify="left")
    others = [way.name for way in ways if way.baseline is not None and way.name != OURS]
    for column in ("", OURS, *others, EMPTY, LIMIT, LOOK, "ours / empty", "ours / copy"):
        table.add_column(column, justify="right" if column else "left")
    for result in results:
        rows = {
            "wall": f"{_counted(result.workers)}, a batch",
            "cpu": "  processor time",
            "first": f"  the first {result.first}",
        }
        for what, label in rows.items():
            table.add_row(label, *_cells(result, what, others), end_section=what == "first")
    console.print(table)
    console.print()


def _cells(result: Result, what: str, others: list[str]) -> list[str]:
    cells = [result.shown(OURS, what)]
    for name in others:
        measured = name in result.readings
        cells.append(f"{result.shown(name, what)} ({result.ratio(name, OURS, what):.1f}x)" if measured else "-")
    cells.append(result.shown(EMPTY, what))
    # The copy is not one of the training process's, nor has it a start.
    cells.append(result.shown(LIMIT, what) if what == "wall" else "")
    cells.append(result.shown(LOOK, what) if what != "first" else "")
    cells.append(f"{result.ratio(OURS, EMPTY, what):.2f}")
    cells.append(f"{result.ratio(OURS, LIMIT, what):.2f}" if what == "wall" else "")
    return cells


def _counted(workers: int) -> str:
    return f"{workers} worker{'' if workers == 1 else 's'}"


def _able(console: Console, case: LoaderCase, workers: int, ways: list[Way]) -> list[Way]:
    """The ways for which there is room; say which have none."""
    lacking = {way.name: way.lacks(case.nbytes, workers) for way in ways}
    for name, why in lacking.items():
        if why is not None:
            console.print(f"Without {name}, {_counted(workers)}, {case.title}: {why}")
    return [way for way in ways if lacking[way.name] is None]


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(description="Batches from DataLoader workers to the training process.")
    parser.add_argument("--fast", action="store_true", help="small images and few batches, for the checks alone")
    parser.add_argument("--rounds", type=int, help=f"readings of each way (default: {THOROUGH.rounds})")
    parser.add_argument("--workers", type=int, nargs="+", help="numbers of workers (default: 0 1 2; with --fast: 0 1)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all measurements to FILE as well")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw a chart of those with 1 worker (PNG)")
    options = parser.parse_args()

    torch.set_num_threads(1)
    # From Python 3.12 on: torch's threads are idle when a loader forks, and its workers begin threads of their own.
    warnings.filterwarnings("ignore", ".*multi-threaded, use of fork", DeprecationWarning)
    # A pipe has no width of its own, and these tables are wider than the 80 columns it is given.
    console = Console(width=None if sys.stdout.isatty() else 140, highlight=False, markup=False)
    effort = FAST if options.fast else THOROUGH
    if options.rounds is not None:
        effort = replace(effort, rounds=options.rounds)
    workers = options.workers or ([0, 1] if options.fast else [0, 1, 2])
    cases = make_cases(Size(8, 2048), [1, 7], 32 if options.fast else 448)
    facts = machine()
    print_header(console, facts, make_ways(cases[0]))
    if options.fast:
        console.print("These are a few batches: they are checked, the times mean nothing.\n")
    everything: list[Result] = []
    for case in cases:
        ways = make_ways(case)
        results = [measure(case, number, _able(console, case, number, ways), effort) for number in workers]
        print_table(console, results, ways)
        everything += results
    if options.json is not None:
        report = {"machine": facts, "cases": [result.report() for result in everything]}
        options.json.write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n")
    if options.plot is not None:
        from loader_plot import plot  # noqa: PLC0415 - what it imports would be in every worker

        plot(options.plot, [result for result in everything if result.workers == 1], facts)


if __name__ == "__main__":
    main()
