"""The findings on a terminal: tables and small histograms, readable from 80 columns, without colours as well."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from .tables import facts, notes, tables
from .words import count, percent

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.console import Console
    from rich.table import Table as RichTable

    from .figures import Distribution, Inspection

_SHADES: Final = " ▁▂▃▄▅▆▇█"
_ASCII_SHADES: Final = " .:-=+*#@"

_SPARK: Final = 14
"""Most columns of a histogram in one line."""

_BAR: Final = 40

_BREAKS: Final = (
    *(("LengthGrouped", "Length-\nGrouped\n"), ("sorted ", "sorted\n"), ("Sampler(", "\n")),
    *(("pairs ", "pairs\n"), (", ", "\n")),
)
"""Where heads are broken."""


def show(console: Console, inspection: Inspection, *, title: str = "") -> None:
    """Prints it.

    Args:
        console: Where to; its width and its encoding are respected.
        inspection: What was found.
        title: What data it is about, such as a file name.

    Example:
        >>> from rich.console import Console
        >>> from dpo_collate.inspection import inspect
        >>> from dpo_collate.inspection.terminal import show
        >>> show(Console(width=80), inspect([[3, 2], [3, 3]], "separate", batch_size=2))  # doctest: +ELLIPSIS
        2 pairs; layout separate, widths exact; 2 pairs a batch
        ...
    """
    from rich.padding import Padding  # noqa: PLC0415 - rich is for those who print

    if title:
        console.print(title, style="bold", markup=False, highlight=False)
    console.print(_plain(facts(inspection)), markup=False, highlight=False)
    console.print("\nWhat to do", style="bold")
    for number, each in enumerate(inspection.advice, 1):
        console.print(Padding(_hanging(f"{number}. ", each.text), (0, 0, 0, 1)))
    ascii_only = console.options.ascii_only
    for table in tables(inspection):
        console.print(f"\n{table.title}", style="bold", highlight=False)
        console.print(_plain(table.text), markup=False, highlight=False)
        columns, rows = table.columns, table.rows
        if table.key == "lengths":
            sparks = [
                _spark(each.counts, _ASCII_SHADES if ascii_only else _SHADES) for each in inspection.distributions
            ]
            columns, rows = (*columns, ""), tuple((*row, spark) for row, spark in zip(rows, sparks, strict=True))
        console.print(_table(columns, rows, last_is_text=table.key in {"lengths", "buckets"}))
        if table.key == "lengths":
            console.print(_histogram(inspection, "#" if ascii_only else "█"))
    console.print("\nNotes", style="bold")
    for note in notes(inspection):
        console.print(Padding(_hanging("- ", note), (0, 0, 0, 1)), style="dim")


def _plain(text: str) -> str:
    return text.replace("`", "")


def _hanging(mark: str, text: str) -> RichTable:
    """A paragraph of a list, its lines below each other."""
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    grid = Table.grid()
    grid.add_column(width=len(mark))
    grid.add_column()
    grid.add_row(Text(mark), Text(_plain(text)))
    return grid


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, last_is_text: bool) -> RichTable:
    """A table whose first column is text, and the others numbers."""
    from rich.box import SIMPLE_HEAD  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False, header_style="")
    for index, name in enumerate(columns):
        is_text = index == 0 or (last_is_text and index == len(columns) - 1)
        table.add_column(_head(name), justify="left" if is_text else "right", no_wrap=not is_text or not index)
    for row in rows:
        table.add_row(Text(row[0].replace("Sampler(", "Sampler\n(")), *map(Text, row[1:]))
    return table


def _head(name: str) -> str:
    """A head, in several lines where it is long."""
    for text, broken in _BREAKS:
        name = name.replace(text, broken)
    return name.replace("=", "\n=").removesuffix(")")


def _spark(counts: tuple[int, ...], shades: str) -> str:
    """A histogram in one line; of many bins neighbours are added up. What is there is never blank."""
    step = -(-len(counts) // _SPARK)
    sums = [sum(counts[start : start + step]) for start in range(0, len(counts), step)]
    most = max(sums)
    return "".join(shades[-(-number * (len(shades) - 1) // most)] for number in sums)


def _histogram(found: Inspection, mark: str) -> RichTable:
    """The longer side, or the only one, by octaves."""
    each = [one for one in found.distributions if one.unit == "tokens"][-1]
    bins = list(_octaves(each))
    while not bins[0][1]:
        del bins[0]
    most = max(number for _, number in bins)
    rows = [
        (name, count(number), percent(number / found.pairs), mark * max(round(number / most * _BAR), number > 0))
        for name, number in bins
    ]
    return _table((f"\n{each.name}, tokens".replace(", ", " in "), "\npairs", "\nshare", ""), rows, last_is_text=True)


def _octaves(each: Distribution) -> Iterator[tuple[str, int]]:
    """The bins; where they are half octaves, up to the next power of two."""
    edges, counts = each.edges, each.counts
    start = 0
    while start < len(counts):
        stop = start + 1
        while len(counts) > 12 and stop < len(counts) and edges[stop] & (edges[stop] - 1):
            stop += 1
        first, last = edges[start], edges[stop] - 1
        yield count(first) if first == last else f"{count(first)} to {count(last)}", sum(counts[start:stop])
        start = stop
