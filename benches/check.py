"""Looking at a data set beside the same done plainly in Python.

`python benches/check.py` prints a table; `--help` lists the options. The rows are pairs of prompt, chosen and rejected
completion (`inputs="split"`), and of ids and labels (`inputs="full"`), in one Arrow table, int32, of lengths as in
`arrow.py`. The plain way goes over the same table in pieces of 1000 rows: `to_pylist`, then for each row what a careful
user writes: is anything None, are lengths alike, is an id outside of the vocabulary, is there a completion, are the
sides equal, was the pair there before. Both have to find the same rows before anything is timed.

Times are processor time of one thread, medians over rounds in which the candidates take turns.
"""

from __future__ import annotations

import argparse
import importlib
import json
import resource
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from rich.console import Console
from rich.table import Table

from arrow import Stored, block, collator_of
from cases import VOCABULARY_SIZE, Size
from collate import machine, print_machine
from dpo_collate import check
from timing import Timing, interleaved

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from arrow import Form
    from dpo_collate import PreferenceCollator

OURS: Final = "check"
ALONE: Final = "without duplicates"
PLAIN: Final = "plain Python"
READING: Final = "to_pylist alone"
PIECE: Final = 1000
IGNORED: Final = -100


def faulty(form: Form, rows: int) -> Any:
    """A table of so many pairs, one in 97 of which has a fault."""
    arrow = importlib.import_module("pyarrow")
    rng = np.random.default_rng(rows)
    stored = Stored(form, Size(8, 1024), rows)
    # (a prompt is drawn once a side by `block`: its names are the columns)
    table = arrow.Table.from_batches([block(stored, min(PIECE, rows - at), rng) for at in range(0, rows, PIECE)])
    columns = {name: table[name].to_pylist() for name in table.column_names}
    first, *_, last = columns
    for number, row in enumerate(range(96, rows, 97)):
        match number % 6:
            case 0:
                columns[last][row] = None
            case 1:
                columns[last][row] = []
            case 2:
                columns[first][row] = [*columns[first][row][1:], VOCABULARY_SIZE]
            case 3:
                columns[last][row] = [IGNORED] * len(columns[last][row])
            case 4:
                for column in columns.values():
                    column[row] = column[row - 5]
            case _:
                columns[last][row] = [*columns[last][row], None]
    of = arrow.list_(arrow.int32())
    return arrow.table({name: arrow.array(column, of) for name, column in columns.items()})


def plainly(table: Any, form: Form) -> list[int]:
    """The rows that have faults, found as one would do it."""
    bad: list[int] = []
    seen: set[tuple[int, ...]] = set()
    for begin in range(0, len(table), PIECE):
        for row, sample in enumerate(table.slice(begin, PIECE).to_pylist(), begin):
            if any(_faults(sample, form)):
                bad.append(row)
            ids = [sample[key] for key in sample if not key.endswith("labels")]
            if any(one is None or None in one for one in ids):
                continue
            pair = tuple(token for one in ids for token in (len(one), *one))
            if pair in seen and row not in bad[-1:]:
                bad.append(row)
            seen.add(pair)
    return bad


def _faults(sample: dict[str, Any], form: Form) -> Iterator[bool]:
    for values in sample.values():
        yield values is None or None in values
    if form == "split":
        prompt, chosen, rejected = sample.values()
        for values in (prompt, chosen, rejected):
            yield max(values, default=0) >= VOCABULARY_SIZE or min(values, default=0) < 0
        yield not chosen or not rejected
        yield chosen == rejected
        return
    for side in ("chosen", "rejected"):
        ids, labels = sample[f"{side}_input_ids"], sample[f"{side}_labels"]
        yield len(ids) != len(labels) or not ids
        yield max(ids, default=0) >= VOCABULARY_SIZE or min(ids, default=0) < 0
        yield all(label == IGNORED for label in labels)
        yield any(not 0 <= label < VOCABULARY_SIZE for label in labels if label != IGNORED)
    yield sample["chosen_input_ids"] == sample["rejected_input_ids"]


def verify(table: Any, form: Form, collator: PreferenceCollator) -> int:
    """End the program if not the same rows are found; how many are."""
    found = check(table, collator, vocab_size=VOCABULARY_SIZE).bad_rows.tolist()
    expected = plainly(table, form)
    if found != expected:
        sys.exit(f"{form}: they differ in the rows {sorted(set(found) ^ set(expected))[:10]}")
    return len(found)


def measure(form: Form, rows: int, seconds: float | None) -> dict[str, Timing]:
    """Microseconds that the table takes, after what is found was compared."""
    collator = collator_of(form)
    table = faulty(form, rows)
    verify(table, form, collator)
    candidates: dict[str, Callable[[], object]] = {
        OURS: lambda: check(table, collator, vocab_size=VOCABULARY_SIZE),
        ALONE: lambda: check(table, collator, vocab_size=VOCABULARY_SIZE, duplicates=False),
        PLAIN: lambda: plainly(table, form),
        READING: lambda: [table.slice(begin, PIECE).to_pylist() for begin in range(0, rows, PIECE)] and None,
    }
    return interleaved(candidates, seconds)


def a_million(times: int) -> str:
    """How long many rows take, and what memory: the same rows again and again, without looking for duplicates."""
    arrow = importlib.import_module("pyarrow")
    stored = Stored("split", Size(8, 1024), PIECE)
    piece = arrow.Table.from_batches([block(stored, PIECE, np.random.default_rng(0))])
    many = arrow.concat_tables([piece] * times)
    collator = collator_of("split")
    check(piece, collator)
    before = resource.getrusage(resource.RUSAGE_SELF)
    check(many, collator, duplicates=False)
    after = resource.getrusage(resource.RUSAGE_SELF)
    grown = (after.ru_maxrss - before.ru_maxrss) / 1024
    return f"{len(many):,} rows: {after.ru_utime - before.ru_utime:.1f} s, {grown:.0f} MB more memory at most"


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(description="Looking at a data set beside the same done plainly in Python.")
    parser.add_argument("--fast", action="store_true", help="few rows and single calls, for the checks alone")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all measurements to FILE as well")
    options = parser.parse_args()
    console = Console()
    facts = machine()
    print_machine(console, facts)
    rows, seconds = (600, None) if options.fast else (5 * PIECE, 10.0)
    forms: tuple[Form, ...] = ("split", "full")
    measured = {form: measure(form, rows, seconds) for form in forms}
    table = Table(title=f"{rows:,} rows: µs a row; in brackets, as many times as check", title_justify="left")
    table.add_column("inputs")
    for name in (OURS, ALONE, PLAIN, READING):
        table.add_column(name, justify="right")
    for form, times in measured.items():
        base = times[OURS].median
        cells = [f"{times[name].median / rows:.2f} ({times[name].median / base:.2f}x)" for name in times]
        table.add_row(form, *cells)
    console.print(table)
    console.print()
    console.print(a_million(2 if options.fast else 1000))
    if options.json is not None:
        found = {form: {name: asdict(timing) for name, timing in times.items()} for form, times in measured.items()}
        whole = {"machine": facts, "rows": rows, "timings_us": found}
        options.json.write_text(json.dumps(whole, indent=2, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
