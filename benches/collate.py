"""Collation in one process and on one thread, against other ways of doing it.

`python benches/collate.py` prints a table for each kind of input; `--help` lists the options. Every other way's batch
is compared with ours before anything is timed, and once more afterwards. The candidates of a case are timed in turn, in
one run. What they read is in the caches, since they read the same samples each time; so is what memcpy copies.

A peer that is not installed is left out, and the header says so. InternVL's own code is in no package: the environment
variable `DPO_COLLATE_INTERNVL` may name its file `pad_data_collator.py`.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

import dpo_collate
from baselines import Baseline, copies, installed, memcpy
from cases import PAD_TOKEN_ID, SIZES, Batch, Case, Kind, LayoutName, make_case
from dpo_collate import PreferenceCollator
from timing import Timing, interleaved

if TYPE_CHECKING:
    from collections.abc import Callable

OURS: Final = "dpo_collate"
MEMCPY: Final = "memcpy"
COPIES: Final = "copies of the dicts"


class Heading(NamedTuple):
    """Which cases a table has."""

    title: str
    layout: LayoutName
    kind: Kind


TABLES: Final = (
    Heading("Layout 'separate' with masks, from torch tensors", "separate", "tensors"),
    Heading("Layout 'separate' with masks, from NumPy arrays", "separate", "arrays"),
    Heading("Layout 'separate' with masks, from lists", "separate", "lists"),
    Heading("Layout 'concatenated' with masks, from torch tensors", "concatenated", "tensors"),
    Heading("Layout 'concatenated' of split samples, as TRL makes it, from lists", "split", "lists"),
)


@dataclass(frozen=True)
class Result:
    """What was measured in one case."""

    case: Case
    nbytes: int
    timings: dict[str, Timing]

    def ratio(self, above: str, below: str) -> float:
        """How much longer one candidate takes than another."""
        return self.timings[above].median / self.timings[below].median

    @property
    def ns_per_int(self) -> float | None:
        """Nanoseconds of ours for each int that is read, where the input is lists."""
        return 1000 * self.timings[OURS].median / self.case.ints if self.case.kind == "lists" else None

    def report(self) -> dict[str, Any]:
        """All of it, as JSON can hold it."""
        names = [name for name in self.timings if name not in (OURS, COPIES)]
        return {
            "layout": self.case.layout,
            "input": self.case.kind,
            "pairs": self.case.size.pairs,
            "longest": self.case.size.longest,
            "ints_read": self.case.ints,
            "bytes_written": self.nbytes,
            "timings_us": {name: asdict(timing) for name, timing in self.timings.items()},
            "times_ours": {name: self.ratio(name, OURS) for name in names},
            "ns_per_int": self.ns_per_int,
        }


def measure(case: Case, baselines: list[Baseline], seconds: float | None) -> Result:
    """Check one case, time it, and check it again."""
    if case.layout == "split":
        collator = PreferenceCollator("concatenated", inputs="split", pad_token_id=PAD_TOKEN_ID)
    else:
        collator = PreferenceCollator(case.layout, pad_token_id=PAD_TOKEN_ID)
    samples = case.samples
    baselines = [baseline for baseline in baselines if baseline.applies(case)]
    calls = {baseline.name: baseline.call(case) for baseline in baselines}

    def checked() -> Batch:
        batch = collator(samples)
        for baseline in baselines:
            check(case, baseline, batch, calls[baseline.name]())
        return batch

    nbytes = sum(tensor.nbytes for tensor in checked().values())
    candidates: dict[str, Callable[[], object]] = {OURS: lambda: collator(samples), **calls, MEMCPY: memcpy(nbytes)}
    if any(baseline.writes for baseline in baselines):
        candidates[COPIES] = lambda: copies(samples)
    result = Result(case, nbytes, interleaved(candidates, seconds))
    checked()
    return result


def check(case: Case, baseline: Baseline, ours: Batch, theirs: Batch) -> None:
    """End the program if the two batches differ."""
    where = f"{case.size}, layout {case.layout!r}, from {case.kind}: {baseline.name}"
    if ours.keys() != theirs.keys():
        sys.exit(f"{where} has the keys {sorted(theirs)}, {OURS} has {sorted(ours)}")
    for key, mine in ours.items():
        tensor = theirs[key]
        if baseline.own_masks and key.endswith("attention_mask"):
            tensor = tensor.to(mine.dtype)
        if tensor.dtype != mine.dtype or tensor.shape != mine.shape:
            found, wanted = (f"{other.dtype} {list(other.shape)}" for other in (tensor, mine))
            sys.exit(f"{where} makes {key!r} {found}, {OURS} makes {wanted}")
        differing = torch.nonzero(tensor != mine)
        if len(differing) > 0:
            sys.exit(f"{where} and {OURS} differ in {key!r}, at first in cell {differing[0].tolist()}")


def print_machine(console: Console, facts: dict[str, str]) -> None:
    """Say where the numbers come from."""
    console.print(", ".join(f"{name} {value}" if name != "cpu" else value for name, value in facts.items()))


def print_header(console: Console, facts: dict[str, str], baselines: list[Baseline], missing: dict[str, str]) -> None:
    """Say what runs where, and what does not."""
    print_machine(console, facts)
    ran = {baseline.name: baseline.version for baseline in baselines}
    console.print(
        f"Compared with {', '.join(f'{name} ({version})' for name, version in ran.items())}, {MEMCPY} (numpy)"
    )
    for name, reason in missing.items():
        console.print(f"Not with {name}: {reason}")
    console.print("µs of one thread for one batch, medians. In brackets: how many times as long as ours.\n")


def print_table(console: Console, heading: Heading, results: list[Result]) -> None:
    """Print what was measured from one kind of input."""
    table = Table(title=heading.title, title_justify="left")
    names = [name for name in results[0].timings if name not in (OURS, MEMCPY, COPIES)]
    for column in ("case", OURS, *names, MEMCPY, f"{OURS} / {MEMCPY}"):
        table.add_column(column, justify="left" if column == "case" else "right")
    if heading.kind == "lists":
        table.add_column("ns per int", justify="right")
    for result in results:
        cells = [str(result.case.size), f"{result.timings[OURS].median:.1f}"]
        cells += [f"{result.timings[name].median:.1f} ({result.ratio(name, OURS):.1f}x)" for name in names]
        cells += [f"{result.timings[MEMCPY].median:.1f}", f"{result.ratio(OURS, MEMCPY):.2f}"]
        if result.ns_per_int is not None:
            cells.append(f"{result.ns_per_int:.2f}")
        table.add_row(*cells)
    console.print(table)
    shares = [result.timings[COPIES].median for result in results if COPIES in result.timings]
    if shares:
        # The original would otherwise pad what it has padded before.
        console.print(
            f"InternVL's time includes {min(shares):.1f} to {max(shares):.1f} µs for {COPIES}: it changes them."
        )
    console.print()


def machine() -> dict[str, str]:
    """Where the numbers come from."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "cpu": models[0] if models else platform.processor() or platform.machine(),
        "Python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        OURS: dpo_collate.__version__,
    }


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(description="Collation against other ways of doing it.")
    parser.add_argument("--fast", action="store_true", help="one call each, for the checks alone")
    parser.add_argument("--seconds", type=float, default=2.0, help="for each case (default: %(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all measurements to FILE as well")
    options = parser.parse_args()

    torch.set_num_threads(1)
    # A pipe has no width of its own, and these tables are wider than the 80 columns it is given.
    console = Console(width=None if sys.stdout.isatty() else 120, highlight=False, markup=False)
    baselines, missing = installed()
    facts = machine()
    print_header(console, facts, baselines, missing)
    if options.fast:
        console.print("These are single calls: the batches are checked, the times mean nothing.\n")
    everything: list[Result] = []
    for heading in TABLES:
        cases = [make_case(size, heading.layout, heading.kind) for size in SIZES]
        results = [measure(case, baselines, None if options.fast else options.seconds) for case in cases]
        print_table(console, heading, results)
        everything += results
    if options.json is not None:
        found = {baseline.name: baseline.version for baseline in baselines}
        report = {"machine": facts, "baselines": found, "missing": missing, "cases": [r.report() for r in everything]}
        options.json.write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
