"""Batches of pairs of like lengths: how much of them is padding, how many there are, and how long a plan takes.

`python benches/sampler.py` prints four tables; `--help` lists the options. The lengths of chosen and rejected rows (of
`prompt_left`: of prompt, chosen and rejected) are drawn independently of each other, which is the hardest case, from
one log-normal distribution of mean 6 and sigma 0.8: 556 tokens on average. Long-tailed ones have sigma 1.3.

- **Padding with batches of 8**: the share of the cells of token ids that is padding. **Shuffled** is any order that
  does not look at lengths; **LengthGroupedSampler** is that of transformers, by the longer row of a pair; **sorted** is
  one order by that row, always the same; **PairBatchSampler** is ours, in windows of at most 204,800 pairs.
- **Batches of a budget of tokens**: each has as many pairs as fit; in shuffled and sorted order a batch ends where the
  next pair does not fit. What must be there at least: a pair that alone takes c cells is in a batch of at most
  budget // c pairs; where nothing is padded, all tokens are in some batch.
- **Eight ranks**: by how much, on average over steps, the costliest batch of a step exceeds the mean of the step; and
  the same if the batches were dealt out without looking at what they cost.
- **Time of a plan**: processor time of one thread, medians over rounds in which the candidates take turns.

Each plan is checked before it counts: every pair once, no batch above its limit, and its costs are what the layout
makes of the lengths, said a second time by NumPy.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from dataclasses import dataclass
from importlib.metadata import version
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch.utils.data import BatchSampler, RandomSampler

from collate import machine, print_machine
from dpo_collate._grids import cells, grids_of
from dpo_collate.named import NAMES, named
from dpo_collate.sampler import PairBatchSampler
from timing import Timing, interleaved

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    Numbers = npt.NDArray[np.int64]

LAYOUTS: Final = tuple(name for name in NAMES if name != "interleaved")  # which costs what `concatenated` costs
BATCH_SIZE: Final = 8
BUDGETS: Final = ((16_384, 0.8), (16_384, 1.3), (65_536, 1.3))
RANKS: Final = 8
OURS: Final = "PairBatchSampler"
GROUPED: Final = "LengthGroupedSampler"
SHUFFLED: Final = "shuffled"
SORTED: Final = "sorted"


def drawn(pairs: int, layout: str, sigma: float = 0.8) -> Numbers:
    """Lengths of the rows of pairs."""
    rows = 3 if layout == "prompt_left" else 2
    found = np.random.default_rng(0).lognormal(6, sigma, (pairs, rows))
    return np.maximum(found.round(), 1).astype(np.int64)


def cost(layout: str, lengths: Numbers, order: Numbers, bounds: Numbers) -> Numbers:
    """The cells of each batch."""
    costs: Numbers = np.sum([cells(grid, lengths, order, bounds) for grid in grids_of(named(layout))], axis=0)
    return costs


def grouped(lengths: Numbers) -> Any:
    """The sampler of transformers."""
    module = importlib.import_module("transformers.trainer_pt_utils")
    generator = torch.Generator().manual_seed(0)
    return module.LengthGroupedSampler(BATCH_SIZE, lengths=lengths.max(axis=1).tolist(), generator=generator)


def checked(sampler: PairBatchSampler, layout: str, lengths: Numbers, limit: int | None = None) -> PairBatchSampler:
    """The sampler, if its plan is right."""
    batches = list(sampler)
    order = np.fromiter(chain.from_iterable(batches), np.int64)
    bounds = np.cumsum([0, *map(len, batches)])
    if len(np.unique(order)) != len(order) or len(order) + len(sampler.dropped) != len(lengths):
        sys.exit(f"{layout}: not every pair comes once")
    costs = cost(layout, lengths, order, bounds)
    if not np.array_equal(costs, sampler.costs()) or (limit is not None and costs.max() > limit):
        sys.exit(f"{layout}: the plan's costs are wrong, or too high")
    return sampler


# --- padding --------------------------------------------------------------------------------------


def padding_by_size(pairs: int) -> dict[str, dict[str, float]]:
    """By layout and way, the share of padding with batches of a size."""
    found: dict[str, dict[str, float]] = {}
    bounds = np.append(np.arange(0, pairs, BATCH_SIZE), pairs)
    for layout in LAYOUTS:
        lengths = drawn(pairs, layout)

        def share(order: Numbers, layout: str = layout, lengths: Numbers = lengths) -> float:
            return float(1 - lengths.sum() / cost(layout, lengths, order, bounds).sum())

        found[layout] = {
            SHUFFLED: share(np.random.default_rng(1).permutation(pairs)),
            GROUPED: share(np.array(list(grouped(lengths)))),
            SORTED: share(lengths.max(axis=1).argsort()),
            OURS: checked(
                PairBatchSampler(lengths, layout, batch_size=BATCH_SIZE, rank=None), layout, lengths
            ).padding_share(),
        }
    return found


def print_padding(console: Console, found: dict[str, dict[str, float]]) -> None:
    """The first table."""
    table = Table(title=f"Share of padding with batches of {BATCH_SIZE}", title_justify="left")
    table.add_column("layout")
    for way in (SHUFFLED, GROUPED, SORTED, OURS):
        table.add_column(way, justify="right")
    for layout, shares in found.items():
        table.add_row(layout, *(f"{share:.3f}" for share in shares.values()))
    console.print(table)


# --- budgets --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Budget:
    """How many batches of a budget there are."""

    layout: str
    max_tokens: int
    sigma: float
    dropped: int
    least: float
    batches: dict[str, int]
    padding: float


def of_budget(pairs: int, layout: str, max_tokens: int, sigma: float) -> Budget:
    """Batches of one budget; pairs that alone are too large are left out."""
    lengths = drawn(pairs, layout, sigma)
    alone = cost(layout, lengths, np.arange(pairs), np.arange(pairs + 1))
    kept = lengths[alone <= max_tokens]
    alone = alone[alone <= max_tokens]
    least = alone.sum() / max_tokens if layout == "padding_free" else (1 / (max_tokens // alone)).sum()
    ours = PairBatchSampler(lengths, layout, max_tokens=max_tokens, oversize="drop")
    batches = {OURS: len(checked(ours, layout, lengths, max_tokens))}
    orders = {SHUFFLED: np.random.default_rng(1).permutation(len(kept)), SORTED: kept.max(axis=1).argsort()}
    for way, order in orders.items():
        batches[way] = len(PairBatchSampler(kept[order], layout, max_tokens=max_tokens, shuffle=False))
    return Budget(layout, max_tokens, sigma, len(ours.dropped), float(least), batches, ours.padding_share())


def print_budgets(console: Console, found: list[Budget]) -> None:
    """The second table."""
    table = Table(title="Batches of a budget of tokens, and how many there must be", title_justify="left")
    table.add_column("layout")
    for name in ("budget", "sigma", "dropped", SHUFFLED, SORTED, OURS, "at least", "ours / least", "its padding"):
        table.add_column(name, justify="right")
    for budget in found:
        counts = (f"{budget.batches[way]:,}" for way in (SHUFFLED, SORTED, OURS))
        ratio = budget.batches[OURS] / budget.least
        first = (budget.layout, f"{budget.max_tokens:,}", f"{budget.sigma}", f"{budget.dropped:,}")
        table.add_row(*first, *counts, f"{budget.least:,.0f}", f"{ratio:.3f}", f"{budget.padding:.3f}")
    console.print(table)


# --- ranks and time -------------------------------------------------------------------------------


def excess(costs: Numbers) -> float:
    """By which part of the mean the costliest batch of a step exceeds it, on average."""
    steps = costs[: len(costs) // RANKS * RANKS].reshape(-1, RANKS)
    return float((steps.max(axis=1) / steps.mean(axis=1) - 1).mean())


def print_ranks(console: Console, pairs: int) -> dict[str, tuple[float, float]]:
    """The third table."""
    found: dict[str, tuple[float, float]] = {}
    table = Table(title=f"{RANKS} ranks: excess of the costliest batch of a step over the mean", title_justify="left")
    for name in ("layout and limit", "dealt without a look", OURS):
        table.add_column(name, justify="left" if name.startswith("layout") else "right")
    for layout in LAYOUTS:
        lengths = drawn(pairs, layout)
        for limit in ({"batch_size": BATCH_SIZE}, {"max_tokens": 16_384}):
            options: dict[str, Any] = {**limit, "oversize": "drop", "rank": None}
            ranks = PairBatchSampler(lengths, layout, world_size=RANKS, **options)
            checked(ranks, layout, lengths)
            name = f"{layout}, {'='.join(map(str, next(iter(limit.items()))))}"
            found[name] = (excess(PairBatchSampler(lengths, layout, **options).costs()), excess(ranks.costs()))
            table.add_row(name, *(f"{part:.4f}" for part in found[name]))
    console.print(table)
    return found


def times(pairs: int, seconds: float | None) -> dict[str, Timing]:
    """Microseconds of a plan of one epoch."""
    lengths = drawn(pairs, "separate")
    limits: dict[str, dict[str, Any]] = {
        "batches of 8": {"batch_size": BATCH_SIZE},
        "16384 tokens": {"max_tokens": 16_384},
    }
    samplers = {
        f"{OURS}, {layout}, {name}": PairBatchSampler(drawn(pairs, layout), layout, oversize="drop", **limit)
        for layout in LAYOUTS
        for name, limit in limits.items()
    }

    def next_epoch(sampler: PairBatchSampler) -> Callable[[], int]:
        def plan() -> int:
            sampler.set_epoch(sampler.epoch + 1)
            return len(sampler)

        return plan

    shuffled = BatchSampler(RandomSampler(range(pairs)), BATCH_SIZE, drop_last=False)
    theirs = grouped(lengths)
    candidates: dict[str, Callable[[], object]] = {
        "BatchSampler of RandomSampler, all batches": lambda: sum(1 for _ in shuffled),
        f"{GROUPED}, all indices": lambda: sum(1 for _ in theirs),
        f"{OURS}, handing out all batches of a plan": lambda: sum(
            1 for _ in samplers[f"{OURS}, separate, batches of 8"]
        ),
    }
    return interleaved(candidates | {name: next_epoch(sampler) for name, sampler in samplers.items()}, seconds)


def print_times(console: Console, found: dict[str, Timing]) -> None:
    """The fourth table."""
    table = Table(title="Time of an epoch's plan", title_justify="left")
    for name in ("what", "ms", "quartiles"):
        table.add_column(name, justify="left" if name == "what" else "right")
    for name, timing in found.items():
        quartiles = f"{timing.lower / 1e3:,.1f} to {timing.upper / 1e3:,.1f}"
        table.add_row(name, f"{timing.median / 1e3:,.1f}", quartiles)
    console.print(table)


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(description="Batches of pairs of like lengths.")
    parser.add_argument("--fast", action="store_true", help="20,000 pairs and single calls")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all measurements to FILE as well")
    options = parser.parse_args()
    pairs, seconds = (20_000, None) if options.fast else (1_000_000, 10.0)
    torch.set_num_threads(1)
    console = Console(width=None if sys.stdout.isatty() else 160, highlight=False, markup=False)
    facts = machine() | {"transformers": version("transformers"), "pairs": f"{pairs:,}"}
    print_machine(console, facts)
    if options.fast:
        console.print("These are single calls with few pairs: they are checked, the times mean nothing.")
    padding = padding_by_size(pairs)
    print_padding(console, padding)
    budgets = [of_budget(pairs, layout, *budget) for layout in LAYOUTS for budget in BUDGETS]
    print_budgets(console, budgets)
    ranks = print_ranks(console, pairs)
    timings = times(pairs, seconds)
    print_times(console, timings)
    if options.json is not None:
        whole = {"machine": facts, "padding": padding, "budgets": [vars(budget) for budget in budgets], "ranks": ranks}
        whole["timings_us"] = {name: vars(timing) for name, timing in timings.items()}
        options.json.write_text(json.dumps(whole, indent=2, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
