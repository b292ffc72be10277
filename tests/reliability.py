"""The table of docs/reliability.md: each promise, the tests that hold it, and what they did when they last ran.

``make reliability`` runs them, and then this program: ``python tests/reliability.py FOLDER`` reads the figures that
they wrote to the folder (:mod:`figures`), keeps them in docs/reliability.json, and writes the page. Without a folder
the page is written anew from the figures that are kept. No figure of the page is written by hand.
"""

from __future__ import annotations

import json
import platform
import sys
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import figures

ROOT = Path(__file__).parents[1]
KEPT = ROOT / "docs" / "reliability.json"
PAGE = ROOT / "docs" / "reliability.md"


class Promise(NamedTuple):
    """A line of the table."""

    text: str
    tests: tuple[str, ...]
    """Files that hold it."""
    campaign: str
    """Whose figures are shown."""
    shown: str
    """A sentence with the figures' names in braces."""


PROMISES: tuple[Promise, ...] = (
    Promise(
        "A batch is what its layout means in plain Python, whatever objects samples are made of, and samples stay as "
        "they are.",
        ("tests/test_differential.py", "tests/test_arrow.py", "tests/test_testing_command.py"),
        "kit",
        "{batches} random batches of {rows} samples for {most_layouts} layouts and drop-ins, {refused} of them rightly "
        "refused, {sent} sent from a worker: {findings} differences",
    ),
    Promise(
        "No input makes the core panic, read out of bounds, or differ from a naive model.",
        ("tests/rust/fuzz_replay.rs", "fuzz/run.sh"),
        "fuzz",
        "{executions} inputs in {seconds} s, part of them with AddressSanitizer: {crashes} crashes",
    ),
    Promise(
        "Samples that act while they are read (raise, change what is read, free it, call again) do no harm: no crash, "
        "no lost exception, no leak, and the next batch is right.",
        ("tests/test_hostile.py", "tests/attacks.py", "tests/atheris_boundary.py"),
        "hostile",
        "{calls} attacks, {errors} of them errors, {reentries} calls within calls",
    ),
    Promise(
        "No path, whether it ends in a batch or in an error, gains or loses references.",
        ("tests/test_references.py",),
        "references",
        "{paths} paths, {calls} calls",
    ),
    Promise(
        "Memory does not grow by calling, whatever comes of the calls.",
        ("tests/growth.py", "tests/test_references.py", "tests/test_memory.py"),
        "growth",
        "{calls} calls, at most {most_growth_bytes} more",
    ),
    Promise(
        "In every state that processes can reach, killed or forked at any step, no block is used again while somebody "
        "sees it, and none is kept when nobody does.",
        ("tests/rust/explorer.rs", "tests/model/scenarios.rs"),
        "model",
        "{states} states, {transitions} transitions; {executions} orders of threads under loom",
    ),
    Promise(
        "What the system refuses (memory, descriptors, files, threads) ends in the right batch or in an error, and the "
        "next loop is right.",
        ("tests/test_injection.py", "tests/test_refusals.py"),
        "refusals",
        "{cases} cases: {fallbacks} went torch's way, {errors} had errors, none took more than {most_seconds} s",
    ),
    Promise(
        "A process that is killed between any two system calls or calls of Python leaves no memory of batches, and the "
        "next worker works. (But for steps inside multiprocessing's locks, where torch's own loaders wait for ever.)",
        ("tests/test_injection.py", "tests/test_forks.py"),
        "kills",
        "{kills} kills, {worker_kills} of workers and {training_kills} of training processes: {most_bytes_left} left",
    ),
    Promise(
        "Batches are right while workers and training processes are killed, tensors are kept, and processes fork.",
        ("tests/test_soak.py", "tests/soak.py"),
        "soak",
        "{batches} batches of {bytes}, {kills} kills in {seconds} s: {differences} differences",
    ),
    Promise(
        "Nothing that was freed is read, and nothing is written past its end.",
        ("tests/boundary_alone.py", "tests/test_safety.py", "tests/test_arrow_hostile.py"),
        "debug-malloc",
        "{tests} tests with Python's debug allocator, and the calls of the next line",
    ),
    Promise(
        "valgrind sees no invalid read or write at the boundary to Python.",
        ("tests/boundary_alone.py",),
        "valgrind",
        "{calls} calls: {errors} errors",
    ),
    Promise(
        "Threads that collate at once do not disturb each other.",
        ("tests/test_errors.py", "tests/test_arrow_errors.py", "tests/test_named.py"),
        "parallel",
        "{tests} tests, each in {most_threads} threads at once",
    ),
    Promise(
        "A wrong collator is found out under what it breaks, and right ones are not accused.",
        ("tests/test_testing_check.py",),
        "check_collator",
        "{wrong_collators} wrong collators, {right_collators} right ones, {own_collators} of our own",
    ),
)

HEAD = """\
# Reliability

What is promised, which tests hold it, and what these did when they last ran for long. `make reliability` runs them all
and writes this page; its figures are those of that run.

| Promise | Held by | The last run |
| --- | --- | --- |
"""


def page(kept: dict[str, Any]) -> str:
    """The text of docs/reliability.md."""
    lines = []
    for promise in PROMISES:
        held = ", ".join(f"`{file}`" for file in promise.tests)
        found = {name: said(name, figure) for name, figure in kept["figures"][promise.campaign].items()}
        lines.append(f"| {promise.text} | {held} | {promise.shown.format(**found)} |\n")
    ran = ", ".join(f"{name} {release}" for name, release in kept["with"].items())
    return f"{HEAD}{''.join(lines)}\nRun on {kept['on']} with {ran}.\n"


def said(name: str, figure: float) -> str:
    """A figure, as people read it."""
    if "bytes" in name:
        return size(figure)
    return f"{figure:,.0f}" if figure == int(figure) or figure >= 100 else f"{figure:.1f}"


def size(count: float) -> str:
    """So many bytes, with three digits."""
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if abs(count) < 1024 or unit == "GiB":
            break
        count /= 1024
    return f"{count:,.0f} {unit}" if unit == "bytes" or count >= 100 else f"{count:.1f} {unit}"


def gathered(folder: Path) -> dict[str, Any]:
    """What is kept of a run: the figures of every campaign, and what it ran with.

    Raises:
        ValueError: A campaign has not run.
    """
    found = {promise.campaign: figures.total(folder, promise.campaign) for promise in PROMISES}
    missing = sorted(campaign for campaign, numbers in found.items() if not numbers)
    if missing:
        raise ValueError(f"{folder} has no figures of {', '.join(missing)}")
    releases = {"Python": platform.python_version()} | {
        name: version(name) for name in ("torch", "numpy", "hypothesis")
    }
    return {"on": f"{datetime.now(UTC):%Y-%m-%d}", "with": releases, "figures": found}


def main(*arguments: str) -> None:
    """Write the page."""
    if arguments:
        KEPT.write_text(json.dumps(gathered(Path(arguments[0])), indent=1, sort_keys=True) + "\n", encoding="utf-8")
    PAGE.write_text(page(json.loads(KEPT.read_text(encoding="utf-8"))), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
