"""Every drop-in beside the collator that it takes the place of, in one process and on one thread.

`python benches/trainers.py` prints a table; `--help` lists the options. The samples are text, as the data set of the
trainer gives them. What `collate.py` says of itself holds here as well: batches are compared before anything is timed,
and once more afterwards; the two are timed in turn, in one run; what they read is in the caches.

TRL has to be installed. The other originals are in no package: `tests/peers.py` says what they are, where their files
come from and how they are run, and `make peers` gets them; the environment variable `DPO_COLLATE_INTERNVL` may name
InternVL's `pad_data_collator.py`. What is not there is left out, and the header says so.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import pytest
import torch
from rich.console import Console
from rich.table import Table

from baselines import copies, memcpy
from cases import Size
from collate import MEMCPY, OURS, machine, print_machine
from originals import OTHERS, PEERS, TRL, Collate, DropIn, make_samples
from timing import Timing, interleaved

ORIGINAL: Final = "original"
TIMED: Final = (ORIGINAL, OURS, MEMCPY)
SIZES: Final = (Size(4, 2048), Size(8, 2048), Size(16, 2048))
MAIN: Final = SIZES[1]


def measure(drop_in: DropIn, original: Collate, size: Size, seconds: float | None) -> dict[str, Timing]:
    """Check one drop-in, time it and its original, and check it again."""
    samples = make_samples(drop_in, size)

    def theirs() -> Any:
        return original(copies(samples) if drop_in.writes else samples)

    def checked() -> Any:
        batch = drop_in.ours(samples)
        for difference in differences(batch, theirs()):
            sys.exit(f"{drop_in.name}, {size}: the batch{difference}")
        return batch

    copy = memcpy(nbytes(checked()))
    timings = interleaved({OURS: lambda: drop_in.ours(samples), ORIGINAL: theirs, MEMCPY: copy}, seconds)
    checked()
    return timings


def nbytes(batch: Any) -> int:
    """Bytes of all its tensors."""
    if isinstance(batch, Mapping):
        return sum(map(nbytes, batch.values()))
    return sum(map(nbytes, batch)) if isinstance(batch, tuple | list) else getattr(batch, "nbytes", 0)


def differences(ours: Any, theirs: Any) -> Iterator[str]:
    """Where two batches differ, and how; they may be nested."""
    if isinstance(ours, torch.Tensor) and isinstance(theirs, torch.Tensor):
        mine, other = (f"{tensor.dtype} {list(tensor.shape)}" for tensor in (ours, theirs))
        if mine != other:
            yield f" is {mine}, the original's is {other}"
        elif not torch.equal(ours, theirs):
            yield f" differs, at first in cell {torch.nonzero(ours != theirs)[0].tolist()}"
    elif isinstance(ours, Mapping) and isinstance(theirs, Mapping):
        if list(ours) != list(theirs):
            yield f" has the keys {list(ours)}, the original's has {list(theirs)}"
        for key in ours.keys() & theirs.keys():
            yield from (f"[{key!r}]{difference}" for difference in differences(ours[key], theirs[key]))
    elif isinstance(ours, tuple | list) and type(ours) is type(theirs) and len(ours) == len(theirs):
        for index, (mine, other) in enumerate(zip(ours, theirs, strict=True)):
            yield from (f"[{index}]{difference}" for difference in differences(mine, other))
    elif type(ours) is not type(theirs) or ours != theirs:
        yield f" is {ours!r}, the original's is {theirs!r}"


def found() -> tuple[list[tuple[DropIn, Collate]], dict[str, list[str]]]:
    """The drop-ins with their originals; and why others have none, with the names of these."""
    there = []
    missing: dict[str, list[str]] = {}
    for drop_in in (*TRL, *OTHERS):
        try:
            there.append((drop_in, drop_in.original()))
        except (FileNotFoundError, pytest.skip.Exception) as reason:
            if drop_in in TRL:
                sys.exit(f"{drop_in.name}: {reason}; it has to be there")
            none = isinstance(reason, pytest.skip.Exception) and not PEERS.is_dir()
            why = f"{PEERS} is not there: `make peers` gets it" if none else str(reason)
            missing.setdefault(why, []).append(drop_in.name)
    return there, missing


def ratio(timings: dict[str, Timing]) -> float:
    """How many times as long as ours the original takes."""
    return timings[ORIGINAL].median / timings[OURS].median


def row(drop_in: DropIn, measured: dict[Size, dict[str, Timing]]) -> list[str]:
    """A row of the table."""
    times = [f"{measured[MAIN][name].median:.1f}" for name in TIMED]
    return [drop_in.name, drop_in.kind, *times, *(f"{ratio(measured[size]):.1f}x" for size in SIZES)]


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(description="Drop-ins beside the collators that they take the place of.")
    parser.add_argument("--fast", action="store_true", help="one call each, for the checks alone")
    parser.add_argument("--seconds", type=float, default=2.0, help="for each size (default: %(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all measurements to FILE as well")
    options = parser.parse_args()

    torch.set_num_threads(1)
    # A pipe has no width of its own, and this table is wider than the 80 columns it is given.
    console = Console(width=None if sys.stdout.isatty() else 120, highlight=False, markup=False)
    there, missing = found()
    facts = machine() | {"TRL": version("trl")}
    print_machine(console, facts)
    for reason, names in missing.items():
        console.print(f"Not with {', '.join(names)}: {reason}")
    console.print(
        f"µs of one thread for a batch of {MAIN}, medians. Then how many times as long as ours the original takes.\n"
    )
    if options.fast:
        console.print("These are single calls: the batches are checked, the times mean nothing.\n")
    table = Table("drop-in for", "samples hold")
    for column in (*TIMED, *map(str, SIZES)):
        table.add_column(column, justify="right")
    report = []
    for drop_in, original in there:
        seconds = None if options.fast else options.seconds
        measured = {size: measure(drop_in, original, size, seconds) for size in SIZES}
        table.add_row(*row(drop_in, measured))
        for size, timings in measured.items():
            times = {name: asdict(timing) for name, timing in timings.items()}
            report.append({"drop_in": drop_in.name, **asdict(size), "timings_us": times, "ratio": ratio(timings)})
    console.print(table)
    if options.json is not None:
        whole = {"machine": facts, "missing": missing, "cases": report}
        options.json.write_text(json.dumps(whole, indent=2, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
