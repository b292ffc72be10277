"""The tables of reports: cells as text, the same on a terminal and on a page."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .words import called, count, counted, nbytes, percent, short

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from .figures import Choice, Cut, Distribution, Inspection


@dataclass(frozen=True)
class Table:
    """A table: the first column says what a row is about, the others are numbers.

    Attributes:
        key: A name for links.
        title: Its title.
        text: What it says, in a sentence or two.
        drawing: Name of the figure that shows it, or "".
        columns: Heads.
        rows: Cells.
    """

    key: str
    title: str
    text: str
    drawing: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def tables(found: Inspection) -> tuple[Table, ...]:
    """All tables of the findings."""
    return (
        _lengths(found),
        _by_layout(found),
        _batches(found),
        _by_rounding(found),
        _buckets(found),
        _cuts(found),
    )


def notes(found: Inspection) -> tuple[str, ...]:
    """How the figures came about."""
    said = [
        "Padding is the share of cells that hold no token. All figures come from lengths; nothing was collated.",
        (
            "shuffled: a random order, cut into batches. LengthGroupedSampler: the rule of transformers: parts of 50 "
            "batches of a random order, each sorted by the longer side. sorted by length: all pairs, always the same "
            "batches."
        ),
        "Bytes are those of token arrays, and of tiles if their size was given; optional columns are not counted.",
        (
            "Buckets are the best for the widths that batches of PairBatchSampler have when widths are exact; they are "
            f"multiples of 8, and the largest holds every row{'' if found.max_tokens is None else ' that fits'}."
        ),
    ]
    if _drawn(found):
        said.insert(
            0, f"Batches were formed of {count(found.sampled)} pairs, drawn at random from {count(found.pairs)}."
        )
    if any(each.layout == "prompt_left" for each in found.least):
        said.append("A batch of prompt_left has each prompt once, and its trainer repeats it: its cells are not all.")
    if any(each.refused for each in found.choices):
        said.append("*: some of the batches are longer than the largest bucket, so that the collator refuses them.")
    return tuple(said)


def _drawn(found: Inspection) -> bool:
    """Whether batches were formed of some of the pairs."""
    return found.sampled < found.pairs - found.refused


def facts(found: Inspection) -> str:
    """What was asked for."""
    text = f"{counted(found.pairs, 'pair')}; layout `{found.layout}`, widths {found.rounding}"
    if found.max_length is not None:
        text += f", max_length={found.max_length}"
    text += f"; {counted(found.batch_size, 'pair')} a batch"
    return text if found.max_tokens is None else f"{text}, or max_tokens={found.max_tokens}"


def _lengths(found: Inspection) -> Table:
    of_tiles = any(each.unit == "tiles" for each in found.distributions)
    columns = ("tokens or tiles" if of_tiles else "tokens", "least", "mean", "50%", "90%", "99%", "most")
    return Table("lengths", "Lengths", _of_lengths(found), "lengths", columns, tuple(map(_length, found.distributions)))


def _of_lengths(found: Inspection) -> str:
    longest = [each for each in found.distributions if each.unit == "tokens"][-1]
    return (
        f"Half of all pairs have at most {count(longest.p50)} tokens in their {longest.name}, 99% at most "
        f"{count(longest.p99)}; the longest has {count(longest.most)}. Lengths are those before truncation."
    )


def _length(each: Distribution) -> tuple[str, ...]:
    return (each.name, *map(count, (each.least, each.mean, each.p50, each.p90, each.p99, each.most)))


def _by_layout(found: Inspection) -> Table:
    """Shares of padding with the collator's own widths."""
    kept = [each for each in found.choices if each.layout != found.layout or each.rounding == found.rounding]
    floors = [f"`{each.layout}` {percent(each.share)}" for each in found.least if each.share]
    text = f"Share of padding with the collator's widths ({found.rounding})."
    if floors:
        text += f" However batches are formed, they pad at least: {', '.join(floors)}."
    return Table("layouts", "Padding by layout", text, "padding_by_layout", *_shares(found, kept, "layout"))


def _by_rounding(found: Inspection) -> Table:
    """Shares of padding of the collator's own layout."""
    kept = [each for each in found.choices if each.layout == found.layout]
    shapes = {each.rounding: count(each.shapes) for each in kept if each.way == found.proposed}
    text = (
        f"Share of padding of `{found.layout}`, by what widths are rounded up to; and how many different shapes the "
        f"batches of {called(found, found.proposed)} have{_of_drawn(found)}."
    )
    columns, rows = _shares(found, kept, "rounding")
    rows = tuple((*row, shapes.get(row[0], "-")) for row in rows)
    return Table("widths", "Padding by widths", text, "padding_by_rounding", (*columns, "shapes"), rows)


def _shares(found: Inspection, choices: list[Choice], by: str) -> tuple[tuple[str, ...], tuple[tuple[str, ...], ...]]:
    """Heads and rows: one for each layout or rounding, with the share of each way."""
    ways = dict.fromkeys(each.way for each in found.choices)
    of = {(getattr(each, by), each.way): each for each in choices}
    names = dict.fromkeys(getattr(each, by) for each in choices)
    rows = tuple((name, *(share(of.get((name, way))) for way in ways)) for name in names)
    return ("layout" if by == "layout" else "widths", *(called(found, way) for way in ways)), rows


def share(choice: Choice | None) -> str:
    """A share; a star where some batches are refused, and nothing else where all are."""
    if choice is None:
        return "-"
    known = percent(choice.share) if choice.batches > choice.refused else "-"
    return known + ("*" if choice.refused else "")


def _batches(found: Inspection) -> Table:
    own = [each for each in found.choices if (each.layout, each.rounding) == (found.layout, found.rounding)]
    columns = ("way", "batches", "tokens, mean", "cells, mean", "cells, most", "bytes, mean", "bytes, most", "shapes")
    text = f"Batches of `{found.layout}`{_of_drawn(found)}; cells are tokens and padding. {_held(found)}"
    if _drawn(found):
        text = f"{text} Numbers of batches are those that all pairs would make, about."
    return Table("batches", "Batches and memory", text, "batches", columns, tuple(_batch(found, each) for each in own))


def _batch(found: Inspection, choice: Choice) -> tuple[str, ...]:
    return (
        called(found, choice.way),
        _about(found, choice.batches) if _drawn(found) else count(choice.batches),
        *map(short, (choice.real_mean, choice.padded_mean, choice.padded_most)),
        nbytes(choice.bytes_mean),
        nbytes(choice.bytes_most),
        count(choice.shapes),
    )


def _of_drawn(found: Inspection) -> str:
    return f", of {count(found.sampled)} pairs that were drawn" if _drawn(found) else ""


def _about(found: Inspection, batches: int) -> str:
    """As many batches of all pairs as there are of the drawn ones: ``"about 125k"``."""
    return f"about {short(batches * (found.pairs - found.refused) / found.sampled)}"


def _held(found: Inspection) -> str:
    """What batches take that wait or are in use."""
    first = found.memory[0]
    parts = [
        f"{nbytes(each.bytes_mean)} {'if' if each.way == 'shuffled' else 'by'} {called(found, each.way)}"
        for each in found.memory
        if each.way != "sorted"
    ]
    most = max(each.bytes_most for each in found.memory)
    return (
        f"{counted(first.batches, 'batch', 'batches')} at a time ({counted(first.workers, 'worker')}, each "
        f"{count(first.prefetch)} ahead, and one in use) hold {', '.join(parts)}; {nbytes(most)} if all are as large "
        f"as the largest. Free memory that is kept to be used again comes on top."
    )


def _buckets(found: Inspection) -> Table:
    way = called(found, found.proposed)
    text = (
        f"The lists that pad least, for the widths that batches of {way} have where nothing is rounded; how many cells "
        "more than exact widths."
    )
    if len(found.bucket_lists) > 1:
        text += (
            " Where the collator has the buckets, the sampler forms other batches, by these widths: so the share that "
            "Padding by widths and advice have can differ by a point or two."
        )
    rows = tuple(
        (
            str(len(each.buckets)),
            percent(each.share),
            percent(each.padded / each.exact - 1 if each.exact else 0.0),
            ", ".join(map(str, each.buckets)),
        )
        for each in found.bucket_lists
    )
    return Table("buckets", "Best buckets", text, "buckets", ("buckets", "padding", "more cells", "widths"), rows)


def _cuts(found: Inspection) -> Table:
    text = "What would be lost if rows were truncated."
    columns: tuple[str, ...] = ("max_length", "pairs cut", "of pairs", "of rows", "of tokens")
    if any(each.unscored is not None for each in found.cuts):
        columns = (*columns, "pairs refused")
        text += (
            " A pair whose prompt has max_length tokens or more has nothing left to score: the collator refuses such "
            "pairs."
        )
    elif found.truncation_mode == "keep_start":
        text += (
            " A pair whose prompt has max_length tokens or more has nothing left to score, and the collator refuses "
            "it: how long prompts are is not known here, but `dpo-collate check` finds such pairs."
        )
    return Table("max-length", "What a max_length cuts", text, "max_length", columns, tuple(_cut_rows(found.cuts)))


def _cut_rows(cuts: Iterable[Cut]) -> Iterator[tuple[str, ...]]:
    for each in cuts:
        shares = map(percent, (each.pair_share, each.row_share, each.token_share))
        refused = () if each.unscored is None else (count(each.unscored),)
        yield f"{each.max_length}{_why(each)}", count(each.pairs), *shares, *refused


def _why(cut: Cut) -> str:
    if cut.why.startswith("percentile "):
        return f" (fits {cut.why.removeprefix('percentile ')}% of pairs)"
    return " (the collator's)" if cut.why else ""
