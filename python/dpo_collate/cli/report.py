"""What ``dpo-collate check`` has found: as text, and as JSON."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TextIO

from rich.text import Text

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console

    from dpo_collate.checking import Problem


@dataclass
class Found:
    """What has been found so far.

    Attributes:
        data: The name of the data.
        rows: How many rows were looked at.
        problems: What is wrong with them.
        cleaned: The file of those that are right, once it is there.
        error: What ended the check before its end.
    """

    data: str
    rows: int = 0
    problems: list[Problem] = field(default_factory=list)
    cleaned: Path | None = None
    error: str | None = None

    def kinds(self) -> dict[str, list[Problem]]:
        """The problems of each kind, the most frequent kind first; a row once, with the first that it has."""
        found: dict[str, dict[int, Problem]] = {}
        for problem in self.problems:
            found.setdefault(problem.kind, {}).setdefault(problem.row, problem)
        return {kind: [*rows.values()] for kind, rows in sorted(found.items(), key=lambda item: -len(item[1]))}

    def bad(self) -> int:
        """How many rows have problems."""
        return len({problem.row for problem in self.problems})

    def dropped(self) -> dict[str, int]:
        """How many rows are left out for each kind: a row counts once, for the first of its problems."""
        first: dict[int, str] = {}
        for problem in self.problems:
            first.setdefault(problem.row, problem.kind)
        return dict(Counter(first.values()).most_common())


def show(console: Console, found: Found, examples: int) -> None:
    """Prints what was found, kind by kind."""
    bad = found.bad()
    outcome = f"{bad:,} with problems" if bad else "no problems"
    _print(
        console,
        Text.assemble((found.data, "bold"), f": {_rows(found.rows)}, ", (outcome, "red" if bad else "green")),
    )
    for kind, problems in found.kinds().items():
        _print(console, Text.assemble("\n", (kind, "bold"), f": {_rows(len(problems))}"))
        for problem in problems[:examples]:
            _print(console, Text(f"  {problem.message}"))
        if examples and len(problems) > examples:
            _print(console, Text(f"  … and {len(problems) - examples:,} more", "dim"))
    if found.cleaned is not None:
        why = ", ".join(f"{count:,} {kind}" for kind, count in found.dropped().items())
        dropped = f"{bad:,} left out ({why})" if bad else "none left out"
        _print(console, Text.assemble("\n", (str(found.cleaned), "bold"), f": {_rows(found.rows - bad)}, {dropped}"))


def write_json(stream: TextIO, found: Found) -> None:
    """Writes one JSON document."""
    bad = found.bad()
    cleaned = None
    if found.cleaned is not None:
        cleaned = {"path": str(found.cleaned), "rows": found.rows - bad, "dropped": found.dropped()}
    document: dict[str, Any] = {
        "data": found.data,
        "rows": found.rows,
        "rows_with_problems": bad,
        "counts": {kind: len(problems) for kind, problems in found.kinds().items()},
        "problems": [
            {"row": problem.row, "key": problem.key, "kind": problem.kind, "message": problem.message}
            for problem in found.problems
        ],
        "cleaned": cleaned,
        "error": found.error,
    }
    json.dump(document, stream, indent=2)
    stream.write("\n")


def _rows(number: int) -> str:
    return f"{number:,} row" if number == 1 else f"{number:,} rows"


def _print(console: Console, text: Text) -> None:
    console.print(text, soft_wrap=True)
