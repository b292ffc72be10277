"""Batches from Arrow tables beside batches from lists: of a Hugging Face data set, and of tables that are in hand.

`python benches/arrow.py` prints three tables; `--help` lists the options. The first and the second are of data sets
that are written to a temporary folder (`TMPDIR` says where; at most 0.9 GB at a time), one by one. When they are read
they are in the page cache:

- **A data set** of 100,000 pairs of prompt, chosen and rejected completion, as TRL stores them: int32, in record
  batches of 1000 rows, as datasets writes them; memory-mapped. And one of fewer pairs in InternVL's form, ids and
  labels of whole rows. The lengths are drawn as those of `collate.py` are. Each call makes another batch, of rows
  chosen at random (by a sampler, or by `dataset.shuffle`), or of rows that follow one another.
- **Arrow** is `ArrowRows.__getitems__` and our collator; **lists** is `Dataset.__getitems__`, what a `DataLoader`
  calls, and our collator; **TRL** likewise with TRL's own.
- **In this process** it is processor time of one thread, medians over rounds in which the candidates take turns. **With
  two workers** it is the time on the clock that a batch takes, from a loader that has delivered its first batches,
  which were more than it prefetches; so there the processors of the machine are shared as they are in training.

The third table is of collating alone: one batch, always the same rows, which are in the caches, as an `ArrowBatch`
(what `ArrowRows` gives), as tables, as NumPy arrays of the same type (a list of dicts of them) and as lists.

All batches are compared before anything is timed.
"""

from __future__ import annotations

import argparse
import importlib
import itertools
import json
import random
import statistics
import sys
import tempfile
import warnings
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch.utils.data import DataLoader

from baselines import memcpy
from cases import PAD_TOKEN_ID, SIDES, VOCABULARY_SIZE, Size
from collate import MEMCPY, machine, print_machine
from dpo_collate import PreferenceCollator, delivery
from dpo_collate.datasets import ArrowRows, lengths
from timing import Timing, interleaved

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Form: TypeAlias = Literal["split", "full"]
Order: TypeAlias = Literal["sampler shuffles", "data set shuffled", "in order"]

ARROW: Final = "Arrow"
LISTS: Final = "lists"
TRL: Final = "TRL"
READ: Final = "reading alone"
READ_LISTS: Final = "lists alone"
ORDERS: Final[tuple[Order, ...]] = ("sampler shuffles", "data set shuffled", "in order")

BLOCK: Final = 1000
"""Rows of a record batch, as datasets writes them."""

ONE_CHUNK: Final = "table"
CHUNK_PER_ROW: Final = "table, a chunk per row"
ROW_TABLES: Final = "tables of one row"
ROWS: Final = "ArrowBatch"
ARRAYS: Final = "arrays"


@dataclass(frozen=True)
class Stored:
    """A data set, and the batches that are made of it."""

    form: Form
    size: Size
    rows: int

    def __str__(self) -> str:
        layout = "concatenated, split" if self.form == "split" else "separate"
        return f"{self.size}, {layout}, {self.rows:,} pairs"


STORED: Final = (
    Stored("split", Size(8, 2048), 100_000),
    Stored("split", Size(32, 1024), 100_000),
    Stored("full", Size(8, 2048), 40_000),
)


@dataclass(frozen=True)
class Effort:
    """How long is measured."""

    rows: int | None
    """Rows of a data set; None: as many as it has."""
    seconds: float | None
    """For each case; None: one call each."""
    rounds: int
    """Loaders of each way."""
    loader_seconds: float


THOROUGH: Final = Effort(rows=None, seconds=2.0, rounds=5, loader_seconds=1.0)
FAST: Final = Effort(rows=2 * BLOCK, seconds=None, rounds=1, loader_seconds=0.0)


# --- data -----------------------------------------------------------------------------------------


def blocks(stored: Stored) -> Iterator[Any]:
    """The data set's record batches."""
    rng = np.random.default_rng([stored.size.pairs, stored.size.longest])
    for begin in range(0, stored.rows, BLOCK):
        yield block(stored, min(BLOCK, stored.rows - begin), rng)


def block(stored: Stored, rows: int, rng: np.random.Generator) -> Any:
    """So many pairs, of lengths as `cases.draw` draws them."""
    arrow = importlib.import_module("pyarrow")
    longest = stored.size.longest
    prompt = rng.integers(longest // 8, longest // 4, rows)
    columns = {}
    for side in SIDES:
        whole = rng.integers(longest // 4, longest + 1, rows)
        if stored.form == "split":
            columns["prompt_ids"] = prompt
            columns[f"{side}_ids"] = whole - prompt
        else:
            columns |= {f"{side}_{of}": whole for of in ("input_ids", "labels")}

    def lists(counts: np.ndarray[Any, Any]) -> Any:
        offsets = np.concatenate([[0], counts.cumsum()]).astype(np.int32)
        return arrow.ListArray.from_arrays(offsets, rng.integers(1, VOCABULARY_SIZE, offsets[-1], np.int32))

    return arrow.record_batch([lists(counts) for counts in columns.values()], list(columns))


def written(stored: Stored, path: Path) -> Any:
    """The data set, memory-mapped from a file that is written first."""
    arrow = importlib.import_module("pyarrow")
    batches = blocks(stored)
    first = next(batches)
    with arrow.OSFile(str(path), "wb") as file, arrow.ipc.new_stream(file, first.schema) as writer:
        for batch in itertools.chain([first], batches):
            writer.write(batch)
    return importlib.import_module("datasets").Dataset.from_file(str(path))


def collator_of(form: Form) -> PreferenceCollator:
    """Ours."""
    if form == "split":
        return PreferenceCollator("concatenated", inputs="split", pad_token_id=PAD_TOKEN_ID)
    return PreferenceCollator(pad_token_id=PAD_TOKEN_ID)


def trl() -> Any:
    """TRL's."""
    module = importlib.import_module("trl.trainer.dpo_trainer")
    return module.DataCollatorForPreference(pad_token_id=PAD_TOKEN_ID)


def check(where: str, batches: dict[str, dict[str, Any]]) -> int:
    """End the program if batches differ; the bytes of one."""
    (name, first), *others = batches.items()
    for other, batch in others:
        if batch.keys() != first.keys():
            sys.exit(f"{where}: {other} has the keys {sorted(batch)}, {name} has {sorted(first)}")
        for key, value in first.items():
            if batch[key].dtype != value.dtype or not torch.equal(batch[key], value):
                sys.exit(f"{where}: {other} and {name} differ in {key!r}")
    return sum(tensor.nbytes for tensor in first.values())


# --- from a data set ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Way:
    """A data set as a loader gets it, and what collates."""

    dataset: Any
    collate: Callable[[Any], Any]

    def calls(self, batches: list[list[int]]) -> Callable[[], Any]:
        """Makes one batch after the other."""
        forever = itertools.cycle(batches)
        read, collate = self.dataset.__getitems__, self.collate
        return lambda: collate(read(next(forever)))


@dataclass(frozen=True)
class Case:
    """A data set in one order."""

    stored: Stored
    order: Order
    ways: dict[str, Way]
    batches: list[list[int]]

    def check(self) -> None:
        """End the program if ways differ."""
        for indices in (self.batches[0], self.batches[-1]):
            made = {name: way.collate(way.dataset.__getitems__(indices)) for name, way in self.ways.items()}
            check(f"{self.stored}, {self.order}", made)

    def in_process(self, seconds: float | None) -> dict[str, Timing]:
        """Microseconds of a batch."""
        delivery.trim()  # memory that is kept for larger batches, of the case before, would be in the way of these
        candidates = {name: way.calls(self.batches) for name, way in self.ways.items()}
        for name, of in ((READ, ARROW), (READ_LISTS, LISTS)):
            candidates[name] = Way(self.ways[of].dataset, lambda rows: rows).calls(self.batches)
        return interleaved(candidates, seconds)

    def from_workers(self, workers: int, effort: Effort) -> dict[str, float]:
        """Milliseconds of a batch: medians over rounds."""
        readings: dict[str, list[float]] = {name: [] for name in self.ways}
        names, rng = list(self.ways), random.Random(0)
        for _ in range(effort.rounds):
            rng.shuffle(names)
            for name in names:
                readings[name].append(self._reading(self.ways[name], workers, effort.loader_seconds))
        return {name: statistics.median(found) for name, found in readings.items()}

    def _reading(self, way: Way, workers: int, seconds: float) -> float:
        """Of one loader, the batches after the first ones."""
        loader: DataLoader[Any] = DataLoader(
            way.dataset, batch_sampler=self.batches, num_workers=workers, collate_fn=way.collate
        )
        first, least = 8 * workers, 16
        start = perf_counter()
        for number, _batch in enumerate(loader, 1):
            if number == first:
                start = perf_counter()
            elif number >= first + least and perf_counter() - start >= seconds:
                break
        return (perf_counter() - start) * 1e3 / (number - first)


def make_case(stored: Stored, order: Order, data: Any) -> Case:
    """The ways of a data set in one order."""
    rng = np.random.default_rng(1)
    rows, pairs = len(data), stored.size.pairs
    chosen = rng.permutation(rows) if order == "sampler shuffles" else np.arange(rows)
    batches = chosen[: rows // pairs * pairs].reshape(-1, pairs).tolist()
    if order == "data set shuffled":
        data = data.shuffle(seed=1, keep_in_memory=True)
    ours = collator_of(stored.form)
    ways = {ARROW: Way(ArrowRows(data), ours), LISTS: Way(data, ours)}
    if stored.form == "split":
        ways[TRL] = Way(data, trl())
    return Case(stored, order, ways, batches)


def print_data_sets(console: Console, title: str, unit: str, measured: list[tuple[Case, dict[str, float]]]) -> None:
    """A row for each case; in brackets how many times as long as Arrow."""
    table = Table(title=title, title_justify="left")
    table.add_column("data set")
    table.add_column("rows")
    shown = (ARROW, LISTS, TRL, READ, READ_LISTS)
    names = [name for name in shown if any(name in times for _, times in measured)]
    for name in names:
        table.add_column(f"{name}, {unit}" if name == ARROW else name, justify="right")
    for case, times in measured:
        cells = []
        for name in names:
            ratio = "" if name in {ARROW, READ, READ_LISTS} or name not in times else times[name] / times[ARROW]
            cells.append(f"{times[name]:.4g}{ratio and f' ({ratio:.1f}x)'}" if name in times else "-")
        table.add_row(str(case.stored), case.order, *cells)
    console.print(table)
    console.print()


# --- lengths --------------------------------------------------------------------------------------


def time_of_lengths(data: Any, form: Form, rows: int) -> str:
    """How long the lengths of so many rows take."""
    times = -(-rows // len(data))
    many = importlib.import_module("datasets").concatenate_datasets([data] * times).select(range(rows))
    shuffled = many.shuffle(seed=1, keep_in_memory=True)
    found = []
    for of in (many, shuffled):
        readings = []
        for _ in range(5):
            begin = perf_counter()
            lengths(of, collator_of(form))
            readings.append(perf_counter() - begin)
        found.append(f"{statistics.median(readings) * 1e3:.0f} ms")
    return f"lengths() of {rows:,} rows: {found[0]}, shuffled {found[1]}"


# --- tables in hand -------------------------------------------------------------------------------


def in_hand(form: Form, size: Size) -> dict[str, Any]:
    """The same rows as everything that the collator takes."""
    arrow = importlib.import_module("pyarrow")
    batch = block(Stored(form, size, size.pairs), size.pairs, np.random.default_rng(0))
    table = arrow.Table.from_batches([batch])
    rows = [table.slice(row, 1) for row in range(size.pairs)]
    data = importlib.import_module("datasets").Dataset(table)
    given = {
        ROWS: ArrowRows(data).__getitems__(range(size.pairs)),
        ONE_CHUNK: table,
        CHUNK_PER_ROW: arrow.concat_tables(rows),
        ROW_TABLES: rows,
        ARRAYS: [{name: value.values.to_numpy() for name, value in _row(table, row)} for row in range(size.pairs)],
        LISTS: table.to_pylist(),
    }
    for name, convert in (("polars", "from_arrow"), ("duckdb", "from_arrow")):
        try:
            module = importlib.import_module(name)
        except ModuleNotFoundError:
            continue
        given[name] = getattr(module, convert)(table)
    return given


def _row(table: Any, row: int) -> Iterator[tuple[str, Any]]:
    return ((name, table[name][row]) for name in table.column_names)


def measure_in_hand(form: Form, size: Size, seconds: float | None) -> dict[str, Timing]:
    """Check, and time, the collation of one batch."""
    collator = collator_of(form)
    given = in_hand(form, size)
    nbytes = check(f"{size}, {form}", {name: collator(rows) for name, rows in given.items()})
    candidates: dict[str, Callable[[], object]] = {
        name: (lambda rows=rows: collator(rows))  # type: ignore[misc]
        for name, rows in given.items()
    }
    return interleaved(candidates | {MEMCPY: memcpy(nbytes)}, seconds)


def print_in_hand(console: Console, measured: dict[str, dict[str, Timing]]) -> None:
    """A column for each form of the rows; in brackets how many times as long as arrays."""
    table = Table(
        title="Collating alone, of rows in hand: µs; in brackets, as many times as arrays", title_justify="left"
    )
    table.add_column("batch")
    names = list(next(iter(measured.values())))
    for name in names:
        table.add_column(name, justify="right")
    for batch, times in measured.items():
        base = times[ARRAYS].median
        cells = [
            f"{times[name].median:.1f}" + f" ({times[name].median / base:.2f}x)" * (name != ARRAYS) for name in names
        ]
        table.add_row(batch, *cells)
    console.print(table)


# --- all of it ------------------------------------------------------------------------------------


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(description="Batches from Arrow tables beside batches from lists.")
    parser.add_argument("--fast", action="store_true", help="small data sets and single calls, for the checks alone")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all measurements to FILE as well")
    options = parser.parse_args()
    effort = FAST if options.fast else THOROUGH

    torch.set_num_threads(1)
    # From Python 3.12 on: torch's threads are idle when a loader forks, and its workers begin threads of their own.
    warnings.filterwarnings("ignore", ".*multi-threaded, use of fork", DeprecationWarning)
    # A pipe has no width of its own, and these tables are wider than the 80 columns it is given.
    console = Console(width=None if sys.stdout.isatty() else 160, highlight=False, markup=False)
    facts = machine() | {name: version(name) for name in ("datasets", "pyarrow", "trl")}
    print_machine(console, facts)
    if options.fast:
        console.print("These are single calls and few batches: they are checked, the times mean nothing.")
    console.print()
    alone: list[tuple[Case, dict[str, float]]] = []
    loaded: list[tuple[Case, dict[str, float]]] = []
    notes = []
    report: list[dict[str, Any]] = []
    for planned in STORED:
        with tempfile.TemporaryDirectory() as folder:
            stored = planned if effort.rows is None else replace(planned, rows=effort.rows)
            path = Path(folder, "pairs.arrow")
            data = written(stored, path)
            notes.append(f"{stored}: {path.stat().st_size / 1e9:.2f} GB on disk")
            for order in ORDERS:
                case = make_case(stored, order, data)
                case.check()
                timings = case.in_process(effort.seconds)
                alone.append((case, {name: timing.median for name, timing in timings.items()}))
                loaded.append((case, case.from_workers(2, effort)))
                times = {name: asdict(timing) for name, timing in timings.items()}
                report.append({**asdict(stored), "order": order, "timings_us": times, "workers_ms": loaded[-1][1]})
            notes.append(time_of_lengths(data, stored.form, 10 * stored.rows))
    print_data_sets(console, "From a data set, in this process: µs of a batch", "µs", alone)
    print_data_sets(console, "From a data set, with 2 workers: ms of a batch", "ms", loaded)
    for note in notes:
        console.print(note)
    console.print()
    hand = {
        f"{size}, {form}": measure_in_hand(form, size, effort.seconds)
        for form in ("full", "split")
        for size in (Size(8, 2048), Size(32, 1024))
    }
    print_in_hand(console, hand)
    if options.json is not None:
        hands = {name: {way: asdict(timing) for way, timing in times.items()} for name, times in hand.items()}
        whole = {"machine": facts, "data_sets": report, "in_hand": hands}
        options.json.write_text(json.dumps(whole, indent=2, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
