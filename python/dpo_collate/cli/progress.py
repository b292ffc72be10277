"""A bar on stderr, where that is a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .blocks import Block
    from .files import Data


def watched(data: Data, blocks: Iterator[Block]) -> Iterator[Block]:
    """The blocks of the data, and a bar that says how far they are."""
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %  {task.fields[rows]:,} rows"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(data.path.name, total=data.size, rows=0)
        rows = 0
        for block in blocks:
            yield block
            rows += len(block)
            bar.update(task, completed=data.read, rows=rows)
        bar.update(task, completed=data.size)
