"""``dpo-collate check``: what is wrong with the rows of a data set, and a file of those that are right."""

from __future__ import annotations

import re
import sys
from contextlib import ExitStack
from pathlib import Path  # noqa: TC003 - typer reads annotations
from typing import TYPE_CHECKING, Annotated, NamedTuple

import numpy as np
import typer
from rich.console import Console

from dpo_collate import PreferenceCollator  # noqa: TC001 - typer reads annotations
from dpo_collate.checking import Checker, Problem

from .cleaned import Cleaned
from .failure import Failure, by_option
from .files import open_data
from .json_lines import as_dicts
from .options import OUTPUT, Source, Split, not_fitting, with_collator
from .progress import watched
from .report import Found, show, write_json

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .blocks import Block
    from .files import Data

UNREADABLE = "unreadable"
"""The kind of problem of a row that cannot be read."""


@with_collator
def check(  # noqa: PLR0913 - as many as there are
    data: Source,
    *,
    collator: PreferenceCollator,
    split: Split = None,
    vocab_size: Annotated[
        int | None, typer.Option(metavar="N", show_default=False, help="Token ids of N and more are problems.")
    ] = None,
    no_duplicates: Annotated[
        bool, typer.Option("--no-duplicates", metavar="", help="Do not look for rows that come twice.")
    ] = False,
    ignore: Annotated[
        list[str] | None,
        typer.Option(
            metavar="COLUMN", show_default=False, help="Check the rows without this column (may be repeated)."
        ),
    ] = None,
    examples: Annotated[
        int, typer.Option(metavar="N", min=0, rich_help_panel=OUTPUT, help="How many problems of each kind are shown.")
    ] = 3,
    as_json: Annotated[
        bool, typer.Option("--json", metavar="", rich_help_panel=OUTPUT, help="All problems, as one JSON document.")
    ] = False,
    write_clean: Annotated[
        Path | None,
        typer.Option(
            metavar="OUT",
            rich_help_panel=OUTPUT,
            show_default=False,
            help="Write the rows without problems (and the first of those that come twice) to a .parquet, .arrow or "
            ".jsonl file; it is written whole or not at all.",
        ),
    ] = None,
) -> int:
    """Say what is wrong with each row, before a training run stops at it.

    Every row is checked as the collator would check it when it makes a batch.

      dpo-collate check pairs.parquet --inputs split --max-length 2048
      dpo-collate check pairs.jsonl --write-clean clean.parquet

    Exit statuses: 0 no problems, 1 problems, 2 it could not run.
    """
    found = Found(str(data))
    try:
        looking = _Looking(collator, _checker(collator, vocab_size, duplicates=not no_duplicates), tuple(ignore or ()))
        opened = open_data(data, split)
        found.data = opened.name
        _check(opened, looking, found, write_clean)
    except BaseException as error:
        if as_json:
            found.error = "interrupted" if isinstance(error, KeyboardInterrupt) else str(error) or type(error).__name__
            write_json(sys.stdout, found)
        raise
    if as_json:
        write_json(sys.stdout, found)
    else:
        show(Console(highlight=False, markup=False, emoji=False), found, examples)
    return 1 if found.problems else 0


def _checker(collator: PreferenceCollator, vocab_size: int | None, *, duplicates: bool) -> Checker:
    try:
        return Checker(collator, vocab_size=vocab_size, duplicates=duplicates)
    except ValueError as error:
        raise Failure(by_option(str(error))) from error


def _check(data: Data, looking: _Looking, found: Found, out: Path | None) -> None:
    """Checks all blocks, and writes what is good in them."""
    sentence = not_fitting(looking.collator, data.columns)
    if sentence is not None:
        raise Failure(f"cannot check {data.path}: {sentence}")
    with ExitStack() as stack:
        cleaned = None if out is None else stack.enter_context(Cleaned(out, data))
        for block in watched(data, data.blocks()):
            try:
                problems = looking.problems(block, found.rows)
            except (KeyError, TypeError, ValueError) as error:
                raise Failure(f"cannot check {data.path}: {_of_column(error)}") from error
            found.problems += problems
            if cleaned is not None:
                good = np.ones(len(block), np.bool_)
                good[[problem.row - found.rows for problem in problems]] = False
                cleaned.write(block, good)
            found.rows += len(block)
        if cleaned is not None and found.bad() == found.rows:
            raise Failure(f"no row is without problems: {out} is not written")
    found.cleaned = out


class _Looking(NamedTuple):
    """What looks at rows, and the columns that it does not look at."""

    collator: PreferenceCollator
    checker: Checker
    ignored: tuple[str, ...]

    def problems(self, block: Block, before: int) -> list[Problem]:
        """What is wrong with the rows of a block, of which so many came before."""
        if not isinstance(block.rows, list):
            try:
                return self.checker.add(block.rows.select(self._seen(block.rows.schema.names)))
            except (KeyError, TypeError):
                # A column that none of these lines has, or has as it should be, though others do: then each line is
                # wrong by itself.
                if block.lines is None or before == 0:
                    raise
                block = as_dicts(block.lines, block.numbers)
        rows = [row if row is None else {key: row[key] for key in self._seen(row)} for row in block.rows]
        problems = [problem for problem in self.checker.add(rows) if problem.row - before not in block.unreadable]
        for index, sentence in block.unreadable.items():
            problems.append(Problem(before + index, None, UNREADABLE, f"row {before + index}: {sentence}"))
        return sorted(problems, key=lambda problem: problem.row)

    def _seen(self, names: Iterable[str]) -> list[str]:
        return [name for name in names if name not in self.ignored]


def _of_column(error: Exception) -> str:
    """What is said of a column, which is wrong in all rows."""
    sentence = re.sub(r"^row \d+: ", "", error.args[0])
    unknown = re.match("unknown key '(.*?)'", sentence)
    return f"{sentence}; --ignore {unknown[1]} checks the rows without it" if unknown else sentence
