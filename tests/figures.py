"""Figures of what tests have really done: how many batches, kills, bytes.

Where ``DPO_COLLATE_FIGURES`` names a folder, each is a line of a file there; ``docs/reliability.md`` is made of them.
`python tests/figures.py CAMPAIGN [NAME=FIGURE...]` hands on what is said to it, by pytest, by `cargo test` and by
valgrind, and notes what their own words say.
"""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


def note(campaign: str, **figures: float) -> None:
    """Write down what one test of a campaign has done.

    Args:
        campaign: What the test is a part of: the file's name.
        **figures: What was counted. Of one campaign, figures of one name are added up; those whose name begins with
            ``most_`` are not: the greatest counts.
    """
    folder = os.environ.get("DPO_COLLATE_FIGURES")
    if folder is not None:
        with (Path(folder) / f"{campaign}.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(figures) + "\n")


def total(folder: Path, campaign: str) -> dict[str, float]:
    """The figures of a campaign: sums, and greatest ones."""
    found: dict[str, float] = {}
    file = folder / f"{campaign}.jsonl"
    for line in file.read_text(encoding="utf-8").splitlines() if file.exists() else ():
        for name, figure in json.loads(line).items():
            known = found.get(name, figure)
            if name in found and not name.startswith("most_"):
                found[name] = known + figure
            else:
                found[name] = max(known, figure)
    return found


SAID = {
    "tests": re.compile(r"\b(\d+) passed\b"),
    "calls": re.compile(r"^(\d+) calls, \d+ errors$"),
}
"""What the last lines of programs say."""
FAULT = re.compile(r"==\d+== [A-Z0-9](?!arning)")
"""How valgrind begins to tell an error (the lines that follow are indented)."""


def said(lines: Iterable[str], counted: dict[str, int]) -> None:
    """Adds what a program has counted that says these lines, which are handed on."""
    for line in lines:
        sys.stdout.write(line)
        sys.stdout.flush()
        found = [(name, int(match[1])) for name, words in SAID.items() if (match := words.search(line))]
        if FAULT.match(line):
            found.append(("errors", 1))
        for name, count in found:
            counted[name] = counted.get(name, 0) + count


def main() -> None:
    campaign, *given = sys.argv[1:]
    counted = {name: int(figure) for name, _, figure in (one.partition("=") for one in given)}
    said(sys.stdin, counted)
    note(campaign, **counted)


if __name__ == "__main__":
    main()
