"""What a fuzz run prints: how far it is, and in the end what it has tried."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Self

from rich import box
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table

from .cases import ALL_KINDS, DROP_INS, options_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from .run import Totals

NEVER: Final = "never"
"""In a cell of a table: it can be reached, and was not."""

_LINES: Final = 10
"""So many lines of progress are printed where there is no terminal."""


def make_console() -> Console:
    """For the standard output; a pipe has no width of its own."""
    console = Console(highlight=False, markup=False)
    return console if console.is_terminal else Console(highlight=False, markup=False, width=140)


class Watch:
    """Progress: a bar on a terminal, else a line now and then.

    Args:
        console: Where to.
        seconds: How long the run takes.
    """

    def __init__(self, console: Console, seconds: float) -> None:
        self.console, self.seconds, self.said = console, seconds, 0.0
        columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[rate]}"))
        # Without a thread of its own: the run forks.
        self.bar = Progress(*columns, console=console, auto_refresh=False, transient=True)
        self.task = self.bar.add_task("", total=seconds, rate="")

    def __enter__(self) -> Self:
        """Begins to show it."""
        if self.console.is_terminal:
            self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Ends."""
        self.bar.stop()

    def tell(self, totals: Totals, subject: str) -> None:
        """Shows how far a run is."""
        rate = f"{totals.batches} batches, {totals.batches / max(totals.seconds, 1e-3):.0f}/s"
        if self.console.is_terminal:
            self.bar.update(self.task, completed=totals.seconds, description=subject, rate=rate, refresh=True)
        elif totals.seconds - self.said >= self.seconds / _LINES:
            self.said = totals.seconds
            self.console.print(f"{totals.seconds:5.0f} s: {rate}, {len(totals.findings)} findings")


def print_report(console: Console, totals: Totals, subjects: Sequence[str], kinds: Sequence[str] = ALL_KINDS) -> None:
    """Print what was tried, and what was found.

    Args:
        console: Where to.
        totals: Of the run.
        subjects: Those that it had.
        kinds: Likewise.
    """
    table = _table("batches by kind of object", ("batches", "samples", *kinds))
    for subject in subjects:
        counts = [totals.kinds[subject, kind] for kind in kinds]
        table.add_row(subject, str(sum(counts)), str(totals.rows[subject]), *map(_cell, counts))
    console.print(table)
    for group in ([each for each in subjects if each not in DROP_INS], [each for each in subjects if each in DROP_INS]):
        names = list(dict.fromkeys(name for subject in group for name in options_of(subject)))
        if not group:
            continue
        table = _table("batches by option", group)
        for name in names:
            has = [name in options_of(subject) for subject in group]
            counts = [totals.options[subject, name] for subject in group]
            table.add_row(name, *(_cell(count) if known else "" for count, known in zip(counts, has, strict=True)))
        console.print(table)
    rate = totals.batches / max(totals.seconds, 1e-3)
    console.print(
        f"seed {totals.seed}: {totals.batches} batches of {totals.rows.total()} samples in {totals.seconds:.1f} s "
        f"({rate:.0f}/s), {totals.refused} refused as they should be, {totals.sent} sent from a worker, "
        f"{totals.executions} executions, {len(totals.findings)} findings"
    )
    for finding in totals.findings:
        console.print(f"{finding.case.subject}: {finding.sentence}\n    python {finding.script}", soft_wrap=True)


def _table(title: str, columns: Sequence[str]) -> Table:
    table = Table(title=title, title_justify="left", box=box.SIMPLE, padding=(0, 1, 0, 0))
    table.add_column("", no_wrap=True)
    for column in columns:
        table.add_column(column, justify="right", overflow="fold")
    return table


def _cell(count: int) -> str:
    return str(count) if count else NEVER
