"""What a batch costs that comes from Ray Data, by the number of blocks, of batches made ahead, and of workers.

`python benches/ray_data.py` prints a table for each; `--help` lists the options. Ray runs on this machine alone. The
pairs lie in its object store before anything is timed: nothing is read, and nothing is mapped. What is timed:

- **A reading** iterates once over a data set with `iter_torch_batches`. Its first fifth is not timed. The other batches
  are, by the clock on the wall, as there are several threads and processes, and by the processor time of all threads of
  the process that iterates, Ray's own in it included.
- **The ways take turns**, in one run, in an order that changes from round to round. What is printed are medians over
  rounds; what a round gives is the mean over its batches.
- **A batch is dropped** when the next has come.

"Ray alone" is a collate function that always returns the same tensors: what is left is what Ray takes to cut its blocks
into tables and to hand these over. Every other way's batches are compared with those of dpo_collate before anything is
timed.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import json
import logging
import random
import statistics
import sys
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from time import perf_counter_ns, process_time_ns
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np
import pyarrow as pa
import ray
import torch
from ray.data import DataContext, DataIterator, Dataset
from ray.data.collate_fn import ArrowBatchCollateFn, CollateFn, NumpyBatchCollateFn
from rich.console import Console
from rich.table import Table

from baselines import Baseline, installed
from cases import PAD_TOKEN_ID, Batch, Case, Samples, Size, make_case
from collate import OURS, check, machine, print_machine
from dpo_collate import PreferenceCollator
from dpo_collate.ray import collate_fn
from dpo_collate.trainers.trl import DataCollatorForPreference

if TYPE_CHECKING:
    from collections.abc import Callable

ALONE: Final = "Ray alone"
SIZE: Final = Size(8, 2048)
SIDE: Final = 448  # of a tile

Collate: TypeAlias = CollateFn[Any]
Blocks: TypeAlias = list[Any]
"""References to tables in the object store."""


@dataclass(frozen=True)
class Effort:
    """How long is measured."""

    rounds: int
    batches: int
    blocks: tuple[int, ...]
    ahead: tuple[int, ...]
    """Values of `prefetch_batches`."""
    workers: tuple[int, ...]


THOROUGH: Final = Effort(rounds=5, batches=250, blocks=(1, 10, 100, 1000), ahead=(0, 1, 2, 4), workers=(1, 2))
FAST: Final = Effort(rounds=1, batches=10, blocks=(1, 10, 20), ahead=(1,), workers=(2,))


class Rows(ArrowBatchCollateFn):
    """Collates what `to_pylist` makes of a table: dicts of lists of ints."""

    def __init__(self, collate: Callable[[Samples], Batch]) -> None:
        self.collate = collate

    def __call__(self, batch: pa.Table) -> Any:
        """A batch of Python's objects."""
        return self.collate(batch.to_pylist())


class Tensors(NumpyBatchCollateFn):
    """Collates what Ray makes of a table for NumPy: tensors that are copies, as these arrays cannot be written."""

    def __init__(self, collate: Callable[[Samples], Batch]) -> None:
        self.collate = collate

    def __call__(self, batch: dict[str, np.ndarray[Any, Any]]) -> Any:
        """A batch of tensors."""
        columns = ([torch.tensor(value) for value in column] for column in batch.values())
        return self.collate([dict(zip(batch, row, strict=True)) for row in zip(*columns, strict=True)])


class Same(ArrowBatchCollateFn):
    """Always the same batch, made of nothing."""

    def __init__(self, batch: Batch) -> None:
        self.batch = batch

    def __call__(self, batch: pa.Table) -> Any:  # noqa: ARG002 - what is given is not looked at
        """What remains is Ray."""
        return self.batch


@dataclass(frozen=True)
class Input:
    """Pairs, and the ways to make batches of them."""

    name: str
    case: Case
    table: pa.Table
    ways: dict[str, Collate]
    others: list[Baseline]
    """What the other ways collate with: their batches are compared."""

    def blocks(self, number: int) -> Blocks:
        """The pairs as so many tables of equal length, in the object store."""
        rows = self.table.num_rows
        ends = [rows * index // number for index in range(number + 1)]
        parts = [self.table.slice(begin, end - begin) for begin, end in itertools.pairwise(ends)]
        return [ray.put(part) for part in parts]


def make_text(batches: int) -> Input:
    """Pairs as TRL has them: `prompt_ids`, `chosen_ids` and `rejected_ids`, lists of int64."""
    case = make_case(Size(SIZE.pairs * batches, SIZE.longest), "split", "arrays")
    table = pa.table({key: [sample[key] for sample in case.samples] for key in case.samples[0]})
    others = [baseline for baseline in installed()[0] if baseline.name == "TRL"]
    ours = DataCollatorForPreference(PAD_TOKEN_ID)
    ways: dict[str, Collate] = {OURS: collate_fn(ours)}
    ways |= {f"to_pylist + {baseline.name}": Rows(baseline.collate) for baseline in others}
    ways[ALONE] = Same(ours(case.samples[: SIZE.pairs]))
    shown = Case(SIZE, "split", "lists", [], 0)
    return Input(f"{SIZE.pairs} pairs of up to {SIZE.longest} tokens", shown, table, ways, others)


def make_images(side: int) -> Input:
    """The pairs of one batch in InternVL's format, each with one tile of float32."""
    case = make_case(SIZE, "separate", "arrays")
    rng = np.random.default_rng(0)
    tiles = rng.random((SIZE.pairs, 1, 3, side, side), dtype=np.float32)
    samples = [
        {**sample, "pixel_values": tile, "image_flags": np.ones(1, np.int64)}
        for sample, tile in zip(case.samples, tiles, strict=True)
    ]
    table = ray.get(ray.data.from_items(samples, override_num_blocks=1).to_arrow_refs()[0])
    others = [baseline for baseline in installed()[0] if baseline.name == "InternVL's way"]
    ours = PreferenceCollator(pad_token_id=PAD_TOKEN_ID)
    ways: dict[str, Collate] = {OURS: collate_fn(ours)}
    ways |= {f"tensors + {baseline.name}": Tensors(baseline.collate) for baseline in others}
    ways[ALONE] = Same(ours(samples))
    shown = Case(SIZE, "separate", "tensors", [], 0)
    return Input(f"{SIZE.pairs} pairs, each with a tile of 3x{side}x{side}", shown, table, ways, others)


@dataclass(frozen=True)
class Reading:
    """Milliseconds a batch."""

    wall: float
    cpu: float
    """Of the process that iterates."""


def read(shard: DataIterator | Dataset, collate: Collate, batches: int, ahead: int) -> Reading:
    """Iterate once; the first batches are not timed."""
    wall = cpu = 0
    for number, _ in enumerate(
        shard.iter_torch_batches(batch_size=SIZE.pairs, prefetch_batches=ahead, collate_fn=collate, drop_last=True)
    ):
        if number == batches // 5:
            wall, cpu = perf_counter_ns(), process_time_ns()
    timed = number - batches // 5
    return Reading((perf_counter_ns() - wall) / 1e6 / timed, (process_time_ns() - cpu) / 1e6 / timed)


class Worker:
    """A process that iterates over its shard, as those of Ray Train do."""

    def read(self, shard: DataIterator, collate: Collate, batches: int) -> Reading:
        """As :func:`read`, with one batch made ahead."""
        torch.set_num_threads(1)
        return read(shard, collate, batches, 1)


@dataclass(frozen=True)
class Result:
    """What was measured in one row of a table."""

    label: str
    readings: dict[str, list[Reading]]

    def median(self, name: str, what: str) -> float:
        """The median over rounds."""
        values: list[float] = [getattr(reading, what) for reading in self.readings[name]]
        return statistics.median(values)


def measure(label: str, ways: dict[str, Collate], rounds: int, once: Callable[[Collate], Reading]) -> Result:
    """Read with all ways in turn."""
    rng = random.Random(0)
    names = list(ways)
    readings: dict[str, list[Reading]] = {name: [] for name in names}
    for _ in range(rounds):
        rng.shuffle(names)
        for name in names:
            readings[name].append(once(ways[name]))
            gc.collect()
    return Result(label, readings)


def compare(given: Input) -> None:
    """End the program if another way gives other batches than ours."""
    data = ray.data.from_arrow(given.table.slice(0, 3 * SIZE.pairs))
    names = [name for name in given.ways if name not in {OURS, ALONE}]
    found = {
        name: list(data.iter_torch_batches(batch_size=SIZE.pairs, collate_fn=given.ways[name]))
        for name in (OURS, *names)
    }
    for name, baseline in zip(names, given.others, strict=True):
        for ours, theirs in zip(found[OURS], found[name], strict=True):
            check(given.case, baseline, ours, theirs)


def by_blocks(given: Input, effort: Effort) -> list[Result]:
    """The same pairs, in more blocks."""
    results = []
    for number in effort.blocks:
        data = ray.data.from_arrow_refs(given.blocks(number))
        label = f"{number} block{'s' if number > 1 else ''}"
        results.append(measure(label, given.ways, effort.rounds, lambda way: read(data, way, effort.batches, 1)))  # noqa: B023
    return results


def by_ahead(given: Input, effort: Effort) -> list[Result]:
    """The same pairs in the same blocks, with more batches made ahead, each by a thread of its own."""
    data = ray.data.from_arrow_refs(given.blocks(effort.blocks[-2]))
    return [
        measure(f"{ahead} ahead", given.ways, effort.rounds, lambda way: read(data, way, effort.batches, ahead))  # noqa: B023
        for ahead in effort.ahead
    ]


def repeated(given: Input, effort: Effort) -> list[Result]:
    """One block of a batch's pairs, over and over: it is in the object store once."""
    batches = max(effort.batches // 5, 5)
    data = ray.data.from_arrow_refs(given.blocks(1) * batches)
    return [
        measure(f"{ahead} ahead", given.ways, effort.rounds, lambda way: read(data, way, batches, ahead))  # noqa: B023
        for ahead in effort.ahead[:2]
    ]


def by_workers(given: Input, effort: Effort) -> list[Result]:
    """As many batches for each worker, whatever their number; the mean over workers."""
    blocks = given.blocks(effort.blocks[-2])
    results = []
    ways = {name: given.ways[name] for name in (OURS, ALONE)}
    for number in effort.workers:
        workers: list[Any] = [ray.remote(Worker).remote() for _ in range(number)]
        shards = ray.data.from_arrow_refs(blocks * number).streaming_split(number, equal=True)

        def once(way: Collate, workers: Any = workers, shards: Any = shards) -> Reading:
            running = [
                worker.read.remote(shard, way, effort.batches) for worker, shard in zip(workers, shards, strict=True)
            ]
            found = ray.get(running)
            return Reading(*(statistics.mean(getattr(one, what) for one in found) for what in ("wall", "cpu")))

        once(ways[ALONE])  # processes start
        results.append(measure(f"{number} worker{'s' if number > 1 else ''}", ways, effort.rounds, once))
        for worker in workers:
            ray.kill(worker)
    return results


def print_table(console: Console, title: str, results: list[Result]) -> None:
    """Print what was measured of one thing that varies."""
    table = Table(title=title, title_justify="left")
    others = [name for name in results[0].readings if name not in {OURS, ALONE}]
    for column in ("", OURS, *others, ALONE, f"{OURS} less {ALONE}"):
        table.add_column(column, justify="right" if column else "left")
    for result in results:
        for what, label in (("wall", result.label), ("cpu", "  processor time")):
            ours, alone = (result.median(name, what) for name in (OURS, ALONE))
            times = (result.median(name, what) for name in others)
            cells = [f"{ours:.2f}", *(f"{time:.2f} ({time / ours:.1f}x)" for time in times), f"{alone:.2f}"]
            table.add_row(label, *cells, f"{ours - alone:.2f}", end_section=what == "cpu")
    console.print(table)
    console.print()


def start() -> None:
    """Start Ray on this machine, without what it prints."""
    ray.init(address="local", num_cpus=4, include_dashboard=False, logging_level=logging.ERROR, log_to_driver=False)
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(description="Batches from Ray Data, beside what Ray itself takes.")
    parser.add_argument("--fast", action="store_true", help="few batches and small images, for the checks alone")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all measurements to FILE as well")
    options = parser.parse_args()

    torch.set_num_threads(1)
    # A pipe has no width of its own, and these tables are wider than the 80 columns it is given.
    console = Console(width=None if sys.stdout.isatty() else 120, highlight=False, markup=False)
    effort = FAST if options.fast else THOROUGH
    facts = machine() | {"Ray": version("ray"), "pyarrow": version("pyarrow")}
    print_machine(console, facts)
    console.print("Milliseconds a batch, medians. In brackets: how many times as long as ours.\n")
    if options.fast:
        console.print("These are a few batches: they are checked, the times mean nothing.\n")
    start()
    try:
        text, images = make_text(effort.batches), make_images(32 if options.fast else SIDE)
        for given in (text, images):
            compare(given)
        found = {
            f"{text.name}, by blocks": by_blocks(text, effort),
            f"{text.name} in {effort.blocks[-2]} blocks, by prefetch_batches": by_ahead(text, effort),
            f"{images.name}, by prefetch_batches": repeated(images, effort),
            f"{text.name} in {effort.blocks[-2]} blocks, by workers, each in a process": by_workers(text, effort),
        }
    finally:
        ray.shutdown()
    for title, results in found.items():
        print_table(console, title, results)
    if options.json is not None:
        report = {title: [asdict(result) for result in results] for title, results in found.items()}
        whole = {"machine": facts, "tables": report}
        options.json.write_text(json.dumps(whole, indent=2, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
