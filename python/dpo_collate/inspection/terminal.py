"""The findings on a terminal: tables and small histograms that are readable from 80 columns, without colours as well."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from .words import called, count, counted, nbytes, percent, short

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from rich.console import Console
    from rich.table import Table

    from .figures import Choice, Cut, Distribution, Inspection

_SHADES: Final = " ▁▂▃▄▅▆▇█"
_ASCII_SHADES: Final = " .:-=+*#@"
_COLUMNS: Final = 14
"""Most columns of a small histogram."""

_BAR: Final = 40


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
        2 pairs...
    """
    from rich.markup import escape  # noqa: PLC0415 - rich is for those who print
    from rich.padding import Padding  # noqa: PLC0415

    if title:
        console.print(f"[bold]{escape(title)}[/bold]", soft_wrap=True)
    console.print(_facts(inspection), highlight=False)
    _head(console, "What to do")
    for number, each in enumerate(inspection.advice, 1):
        console.print(Padding(f"[bold]{number}.[/bold] {escape(each.text)}", (0, 0, 0, 1)), highlight=False)
    _head(console, "Lengths")
    console.print(_lengths(inspection, ascii_only=console.options.ascii_only))
    _histogram(console, inspection)
    _head(console, f"Share of padding, widths: {inspection.rounding}")
    console.print(_by_layout(inspection))
    console.print(_floors(inspection), highlight=False)
    _head(console, f"Batches of {inspection.layout}")
    console.print(_by_way(inspection))
    console.print(_held(inspection), highlight=False)
    _head(console, f"Share of padding of {inspection.layout}, by how widths are rounded")
    console.print(_by_rounding(inspection))
    _head(console, "Best buckets")
    console.print(_buckets(inspection))
    _head(console, "What a max_length cuts")
    console.print(_cuts(inspection))


def _head(console: Console, text: str) -> None:
    console.print(f"\n[bold]{text}[/bold]", highlight=False)


def _facts(found: Inspection) -> str:
    batches = counted(found.batch_size, "pair") + " a batch"
    limit = "" if found.max_tokens is None else f", or max_tokens={found.max_tokens}"
    text = f"{counted(found.pairs, 'pair')}, layout {found.layout}, {batches}{limit}"
    if found.sampled < found.pairs - found.refused:
        text += f"; batches were formed of {count(found.sampled)} pairs, drawn at random"
    return text


def _table(columns: Iterable[str], rows: Iterable[tuple[str, ...]]) -> Table:
    """A table whose first column is text, the others numbers."""
    from rich.box import SIMPLE_HEAD  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False, header_style="")
    for index, name in enumerate(columns):
        table.add_column(name, justify="right" if index else "left", overflow="fold", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    return table


def _lengths(found: Inspection, *, ascii_only: bool) -> Table:
    columns = ("tokens", "least", "mean", "50%", "90%", "99%", "most", "")
    table = _table(columns, (_distribution(each, ascii_only=ascii_only) for each in found.distributions))
    table.columns[-1].justify = "left"
    return table


def _distribution(each: Distribution, *, ascii_only: bool) -> tuple[str, ...]:
    numbers = (each.least, each.mean, each.p50, each.p90, each.p99, each.most)
    return (each.name, *map(count, numbers), _spark(each.counts, _ASCII_SHADES if ascii_only else _SHADES))


def _spark(counts: tuple[int, ...], shades: str) -> str:
    """A histogram in one line; of many bins neighbours are added up. What is there is never blank."""
    step = -(-len(counts) // _COLUMNS)
    sums = [sum(counts[start : start + step]) for start in range(0, len(counts), step)]
    most = max(sums)
    return "".join(shades[-(-number * (len(shades) - 1) // most)] for number in sums)


def _histogram(console: Console, found: Inspection) -> None:
    """The longer side, or the only one, bin by bin in octaves."""
    each = [one for one in found.distributions if one.unit == "tokens"][-1]
    bins = list(_octaves(each))
    while not bins[0][1]:
        del bins[0]
    most = max(number for _, number in bins)
    total = sum(number for _, number in bins)
    mark = "#" if console.options.ascii_only else "█"
    rows = []
    for name, number in bins:
        bar = mark * max(round(number / most * _BAR), number > 0)
        rows.append((name, count(number), percent(number / total), bar))
    table = _table((f"{each.name}, tokens", "pairs", "share", ""), rows)
    table.columns[-1].justify = "left"
    console.print()
    console.print(table)


def _octaves(each: Distribution) -> Iterator[tuple[str, int]]:
    """Two half octaves at a time, where the bins are half octaves."""
    edges, counts = each.edges, each.counts
    start = 0
    while start < len(counts):
        stop = start + 1
        if len(counts) > 12:
            while stop < len(counts) and edges[stop] & (edges[stop] - 1):
                stop += 1
        last = edges[stop] - 1
        yield (
            (count(last) if last == edges[start] else f"{count(edges[start])} to {count(last)}"),
            sum(counts[start:stop]),
        )
        start = stop


def _names(found: Inspection) -> dict[str, str]:
    """The ways that were looked at, and short heads for them."""
    heads = {
        "shuffled": "shuffled",
        "grouped": "Length-\nGrouped",
        "sorted": "sorted",
        "pairs": "PairBatch-\nSampler",
        "budget": "with\nmax_tokens",
    }
    seen = dict.fromkeys(choice.way for choice in found.choices)
    return {way: heads[way] for way in seen}


def _shares(found: Inspection, keys: Iterable[tuple[str, str]], attribute: str) -> Iterator[tuple[str, ...]]:
    """A row of shares for each layout and rounding."""
    of = {(choice.layout, choice.rounding, choice.way): choice for choice in found.choices}
    for key in keys:
        cells = [of.get((*key, way)) for way in _names(found)]
        named = key[0] if attribute == "layout" else key[1]
        yield named, *("–" if cell is None else _share(cell) for cell in cells)


def _share(choice: Choice) -> str:
    return f"{percent(choice.share)}*" if choice.refused else percent(choice.share)


def _by_layout(found: Inspection) -> Table:
    keys = dict.fromkeys((each.layout, each.rounding) for each in found.choices if _as_it_is(found, each))
    return _table(("layout", *_names(found).values()), _shares(found, keys, "layout"))


def _as_it_is(found: Inspection, choice: Choice) -> bool:
    """Whether it has the collator's own widths, as far as its layout can."""
    return choice.layout != found.layout or choice.rounding == found.rounding


def _floors(found: Inspection) -> str:
    floors = [f"{each.layout} {percent(each.share)}" for each in found.least if each.share]
    text = f"No way can go below: {', '.join(floors)} (a pair by itself, exact widths). " if floors else ""
    if any(choice.refused for choice in found.choices):
        text += "*: some batches are longer than the largest bucket, and refused. "
    if any(each.layout == "prompt_left" for each in found.least):
        text += "prompt_left has each prompt once; its trainer repeats it. "
    return text + "LengthGrouped is transformers' LengthGroupedSampler."


def _by_way(found: Inspection) -> Table:
    columns = ("way", "batches", "tokens\nmean", "cells\nmean", "cells\nmost", "bytes\nmean", "bytes\nmost", "shapes")
    return _table(columns, (_way(found, each) for each in found.choices if _is_own(found, each)))


def _is_own(found: Inspection, choice: Choice) -> bool:
    return choice.layout == found.layout and choice.rounding == found.rounding


def _way(found: Inspection, choice: Choice) -> tuple[str, ...]:
    numbers = (choice.real_mean, choice.padded_mean, choice.padded_most)
    return (
        called(found, choice.way).replace("(", "\n("),
        count(choice.batches),
        *map(short, numbers),
        nbytes(choice.bytes_mean),
        nbytes(choice.bytes_most),
        count(choice.shapes),
    )


def _held(found: Inspection) -> str:
    first = found.memory[0]
    parts = [f"{nbytes(each.bytes_mean)} {called(found, each.way)}" for each in found.memory if each.way != "sorted"]
    most = max(each.bytes_most for each in found.memory)
    return (
        f"{counted(first.batches, 'batch', 'batches')} at a time ({counted(first.workers, 'worker')}, each "
        f"{count(first.prefetch)} ahead, and one in use) hold {', '.join(parts)}; {nbytes(most)} if all are as large as the "
        f"largest. Free memory that is kept to be used again comes on top."
    )


def _by_rounding(found: Inspection) -> Table:
    keys = dict.fromkeys((each.layout, each.rounding) for each in found.choices if each.layout == found.layout)
    return _table(("widths", *_names(found).values()), _shares(found, keys, "rounding"))


def _buckets(found: Inspection) -> Table:
    rows = (
        (
            " ".join(map(str, each.buckets)),
            str(len(each.buckets)),
            percent(each.share),
            percent(_more(each.padded, each.exact)),
        )
        for each in found.bucket_lists
    )
    return _table((f"buckets, for {called(found, found.bucket_way)}", "", "padding", "more than\nexact"), rows)


def _more(padded: int, exact: int) -> float:
    return padded / exact - 1 if exact else 0.0


def _cuts(found: Inspection) -> Table:
    rows = (
        (
            str(each.max_length),
            _why(each),
            count(each.pairs),
            percent(each.pair_share),
            percent(each.row_share),
            percent(each.token_share),
        )
        for each in found.cuts
    )
    return _table(("max_length", "", "pairs cut", "of pairs", "of rows", "of tokens"), rows)


def _why(cut: Cut) -> str:
    if cut.why.startswith("percentile "):
        return f"fits {cut.why.removeprefix('percentile ')}% of pairs"
    return "the collator's" if cut.why else ""
