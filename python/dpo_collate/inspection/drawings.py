"""The figures of reports, drawn with matplotlib.

They are small, so that a phone shows them at their own size, and each says the same in its ``alt`` text. Ways are told
apart by marker as well as by colour. Importing this imports matplotlib.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

from .tables import share
from .words import called, percent, short

if TYPE_CHECKING:
    from collections.abc import Iterator
    from io import StringIO
    from pathlib import Path

    from matplotlib.axes import Axes

    from .figures import Choice, Inspection

SERIES: Final = ("#0072b2", "#d55e00", "#00855f", "#b5558a", "#777777")
"""Told apart by those who do not see all colours (after Okabe and Ito, darkened for white paper)."""

_OF_WAY: Final = {
    "shuffled": (SERIES[1], "X"),
    "grouped": (SERIES[3], "s"),
    "sorted": (SERIES[4], "|"),
    "pairs": (SERIES[0], "o"),
    "budget": (SERIES[2], "D"),
}

_WIDTH: Final = 4.5
_ROW: Final = 0.36


_PLAIN: Final[Any] = {"text.parse_math": False}
"""Names may have dollars, which say nothing of mathematics."""


@dataclass(frozen=True)
class Ink:
    """The colours that are no data: of text and axes, and of lines in the background."""

    text: str = "#222222"
    line: str = "#d0d4da"


@dataclass(frozen=True)
class Drawing:
    """A figure, the name of its file, its title, and what it shows in words."""

    name: str
    title: str
    alt: str
    figure: Figure


def render(drawing: Drawing, file: Path | StringIO, **options: Any) -> None:
    """Writes the figure, with the options of matplotlib's ``savefig``; of an SVG the text stays text."""
    with rc_context({**_PLAIN, "svg.fonttype": "none", "svg.hashsalt": drawing.name}):
        drawing.figure.savefig(file, **options)


def drawings(found: Inspection, ink: Ink | None = None) -> tuple[Drawing, ...]:
    """All figures of the findings.

    Args:
        found: What was found.
        ink: The colours of text and lines.
    """
    ink = ink or Ink()
    rc: Any = {
        "font.size": 10,
        "text.color": ink.text,
        "axes.edgecolor": ink.line,
        "axes.labelcolor": ink.text,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "grid.color": ink.line,
        "grid.linewidth": 0.6,
        "xtick.color": ink.line,
        "ytick.color": ink.line,
        "xtick.labelcolor": ink.text,
        "ytick.labelcolor": ink.text,
        "legend.frameon": False,
        "legend.fontsize": 9.5,
        **_PLAIN,
    }
    with rc_context(rc):
        return tuple(_all(found, ink))


def _all(found: Inspection, ink: Ink) -> Iterator[Drawing]:
    yield _lengths(found)
    own = [each for each in found.choices if each.layout == found.layout]
    as_it_is = [each for each in found.choices if each.layout != found.layout or each.rounding == found.rounding]
    floors = {each.layout: each.share for each in found.least}
    yield _dots(found, as_it_is, "layout", floors, ink)
    yield _tokens(found, ink)
    yield _dots(found, own, "rounding", {}, ink)
    yield _buckets(found, ink)
    yield _cuts(found)


def _new(height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(_WIDTH, height), layout="constrained")
    return figure, figure.subplots()


def _legend(figure: Figure, axes: Axes, columns: int) -> None:
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower left", ncols=columns, handletextpad=0.4, columnspacing=1.2)


def _two_lines(name: str) -> str:
    return name.replace("(", "\n(")


def _lengths(found: Inspection) -> Drawing:
    """Histograms on an axis of octaves."""
    tokens = [each for each in found.distributions if each.unit == "tokens"]
    # Of "prompt", "chosen", "prompt + chosen" and "longer side" the third would be one line too many.
    names = {each.name for each in tokens}
    joined = {name for name in names if " + " in name and names.issuperset(name.split(" + "))}
    shown = [each for each in tokens if each.name not in joined][-len(SERIES) :]
    figure, axes = _new(2.9)
    for each, colour in zip(reversed(shown), SERIES, strict=False):
        shares = [100 * number / found.pairs for number in each.counts]
        axes.stairs(shares, each.edges, color=colour, linewidth=2.2 if each is shown[-1] else 1.3, label=each.name)
    if len(shown[0].counts) > 12:
        axes.set_xscale("symlog", base=2, linthresh=1)
        _octaves(axes, shown[0].edges[0], shown[0].edges[-1])
    axes.set_xlabel("tokens")
    axes.set_ylabel("share of pairs, %")
    axes.set_ylim(bottom=0)
    _legend(figure, axes, 3)
    alt = "; ".join(f"{each.name}: half have at most {each.p50} tokens, 99% at most {each.p99}" for each in shown)
    return Drawing("lengths", "How long they are", f"Histograms of lengths. {alt}.", figure)


def _octaves(axes: Axes, least: float, most: float) -> None:
    """Ticks at powers of two, not more than there is room for."""
    powers = [2**power for power in range(64) if least <= 2**power <= most]
    step = -(-len(powers) // 7)
    axes.set_xticks(powers[::-1][::step])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.set_xlim(least, most)


def _dots(found: Inspection, choices: list[Choice], by: str, floors: dict[str, float], ink: Ink) -> Drawing:
    """A row for each layout or rounding, a mark for each way."""
    rows = list(dict.fromkeys(getattr(each, by) for each in choices))
    ways = list(dict.fromkeys(each.way for each in choices))
    figure, axes = _new(0.95 + _ROW * len(rows) + 0.2 * (-(-len(ways) // 2) + any(floors.values())))
    for way in ways:
        colour, marker = _OF_WAY[way]
        of_way = [each for each in choices if each.way == way and each.batches > each.refused]
        axes.scatter(
            [100 * each.share for each in of_way],
            [rows.index(getattr(each, by)) for each in of_way],
            marker=marker,
            color=colour,
            s=120 if marker == "|" else 38,
            linewidths=1.6 if marker == "|" else 0,
            alpha=0.9,
            label=_two_lines(called(found, way)),
            zorder=3,
        )
    for name, least in floors.items():
        if least:
            axes.barh(rows.index(name), 100 * least, height=0.75, color=ink.line, zorder=1)
    axes.set_yticks(range(len(rows)), rows)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlim(-2, 102)
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")
    axes.set_xlabel("share of padding, %" + ("\n(grey: the least of any way)" if any(floors.values()) else ""))
    _legend(figure, axes, 2)
    parts = [
        f"{row}: "
        + ", ".join(f"{share(each)} {called(found, each.way)}" for each in choices if getattr(each, by) == row)
        for row in rows
    ]
    title = "Padding by layout" if by == "layout" else f"Padding of {found.layout} by how widths are rounded"
    return Drawing(f"padding_by_{by}", title, f"Share of padding. {'; '.join(parts)}.", figure)


def _tokens(found: Inspection, ink: Ink) -> Drawing:
    """Tokens and padding of a mean batch."""
    own = [each for each in found.choices if (each.layout, each.rounding) == (found.layout, found.rounding)]
    figure, axes = _new(1.0 + _ROW * len(own))
    names = [_two_lines(called(found, each.way)) for each in own]
    real = [each.real_mean for each in own]
    padding = [each.padded_mean - each.real_mean for each in own]
    axes.barh(names, real, color=SERIES[0], height=0.68, label="tokens")
    bars = axes.barh(
        names,
        padding,
        left=real,
        color=SERIES[1],
        height=0.68,
        label="padding",
        hatch="////",
        edgecolor=ink.line,
        linewidth=0,
    )
    axes.bar_label(bars, [short(each.padded_mean) for each in own], padding=3, fontsize=9.5)
    axes.invert_yaxis()
    axes.set_xlim(0, 1.12 * max(1, *(each.padded_mean for each in own)))
    axes.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")
    axes.set_xlabel("tokens of a batch, mean")
    _legend(figure, axes, 2)
    parts = [
        f"{called(found, each.way)}: {short(each.real_mean)} tokens, {short(each.padded_mean)} with padding"
        for each in own
    ]
    return Drawing("batches", "A mean batch", f"Tokens and padding. {'; '.join(parts)}.", figure)


def _buckets(found: Inspection, ink: Ink) -> Drawing:
    """Padding over the number of buckets."""
    figure, axes = _new(2.5)
    numbers = [len(each.buckets) for each in found.bucket_lists]
    shares = [100 * each.share for each in found.bucket_lists]
    axes.plot(numbers, shares, color=SERIES[0], marker="o", linewidth=1.8, label="best list of so many buckets")
    exact = found.choice(rounding="exact", way=found.proposed)
    label = f"exact widths: {percent(exact.share)}"
    axes.axhline(100 * exact.share, color=ink.text, linewidth=1, linestyle="--", label=label)
    axes.set_xticks(numbers)
    axes.set_ylim(0, 100)
    axes.set_xlabel("buckets")
    axes.set_ylabel("share of padding, %")
    _legend(figure, axes, 2)
    parts = [f"{len(each.buckets)}: {percent(each.share)}" for each in found.bucket_lists]
    return Drawing(
        "buckets", "What buckets cost", f"Share of padding by number of buckets. {', '.join(parts)}.", figure
    )


def _cuts(found: Inspection) -> Drawing:
    """What is cut, over max_length."""
    figure, axes = _new(2.5)
    limits = [each.max_length for each in found.cuts]
    for label, attribute, colour, marker in (
        ("pairs cut", "pair_share", SERIES[1], "X"),
        ("rows cut", "row_share", SERIES[3], "s"),
        ("tokens lost", "token_share", SERIES[0], "o"),
    ):
        shares = [100 * getattr(each, attribute) for each in found.cuts]
        axes.plot(limits, shares, color=colour, marker=marker, markersize=5, linewidth=1.4, label=label)
    if limits and limits[-1] > limits[0]:
        axes.set_xscale("log", base=2)
        _octaves(axes, limits[0] / 1.1, limits[-1] * 1.1)
    axes.set_ylim(0, 1.05 * max(100 * max((each.pair_share for each in found.cuts), default=0), 1))
    axes.set_xlabel("max_length, tokens of a row")
    axes.set_ylabel("share, %")
    _legend(figure, axes, 3)
    parts = [
        f"{each.max_length}: {percent(each.row_share)} of rows, {percent(each.token_share)} of tokens"
        for each in found.cuts
    ]
    return Drawing("max_length", "What a max_length cuts", f"{'; '.join(parts)}.", figure)
