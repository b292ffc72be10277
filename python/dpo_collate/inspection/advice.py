"""What to do, in plain words, with the figures it rests on.

The measure is the batch as it is now: shuffled, with the collator's layout and widths. What saves less than a hundredth
of its cells is not said.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from .figures import Advice
from .words import called, count, counted, nbytes, percent, times

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .figures import Choice, Inspection

_LEAST: Final = 0.01

_RARE: Final = 0.001
"""A length that at most this share of the pairs exceeds is one that few need."""

_COSTLY: Final = 0.5
"""Few shapes that take so many more cells, for each of them, help nobody."""

_FEW: Final = 2
"""Where there are more than so many times as many shapes, the others are few."""

_TIMES: Final = 1.05
"""Less would be written as 1.0 times."""

_UNEVEN: Final = 4
"""So many times as large as the mean a batch is one that few pairs make large."""


def advice(found: Inspection) -> tuple[Advice, ...]:
    """Advice: what must be known first, then what saves most, then what saves nothing but helps."""
    now = found.choice()
    savings = [*_sampler(found, now), *_layout(found, now), *_rounding(found, now)]
    if not savings and not now.refused:  # (of those that are refused nothing is known)
        savings.append(Advice(0.0, "nothing", _nothing(now)))
    savings.sort(key=lambda each: -each.saves)
    return (*_refusals(found), *_cut(found), *savings, *_outliers(found), *_static(found))


def _refusals(found: Inspection) -> Iterator[Advice]:
    longer = found.refused - found.unscored
    if longer:
        limits = ["max_length"] if any(cut.why == "refused" for cut in found.cuts) else []
        limits += ["the largest bucket"] if found.choice().buckets else []
        text = (
            f"The collator refuses {counted(longer, 'pair')} of {count(found.pairs)}, as rows are longer than "
            f"{' or '.join(limits) or 'it allows'}. No batch here has them."
        )
        yield Advice(0.0, "refused", text)
    if found.unscored:
        their, them = ("its", "it") if found.unscored == 1 else ("their", "them")
        text = (
            f"{counted(found.unscored, 'pair has', 'pairs have')} a prompt of max_length={found.max_length} tokens or "
            f"more: nothing of {their} completions would be left, and the collator refuses {them}; "
            f"`dpo-collate check --write-clean` leaves {them} out. No batch here has {them}."
        )
        yield Advice(0.0, "refused", text)
    if found.too_large:
        them = "it" if found.too_large == 1 else "them"
        text = (
            f"{counted(found.too_large, 'pair has', 'pairs have')} more padded tokens by "
            f"{'itself' if found.too_large == 1 else 'themselves'} than max_tokens={found.max_tokens}: "
            f"PairBatchSampler refuses {them}, or leaves {them} out with oversize='drop', as here."
        )
        yield Advice(0.0, "refused", text)
    shuffled = found.choice()
    if shuffled.refused:
        text = (
            f"{counted(shuffled.refused, 'batch', 'batches')} of {count(shuffled.batches)}, if shuffled, would be "
            "longer than the largest bucket: the collator would refuse them. They are in no figure here. "
            "PairBatchSampler makes none that is refused."
        )
        yield Advice(0.0, "refused", text)


def _cut(found: Inspection) -> Iterator[Advice]:
    for cut in found.cuts:
        if cut.why == "max_length" and cut.rows:
            text = (
                f"max_length={cut.max_length} cuts {percent(cut.row_share)} of the rows and loses "
                f"{percent(cut.token_share)} of the tokens; it touches {counted(cut.pairs, 'pair')} of "
                f"{count(found.pairs)}."
            )
            yield Advice(0.0, "cut", text)


def _sampler(found: Inspection, now: Choice) -> Iterator[Advice]:
    """Pairs of like lengths in a batch."""
    best = found.choice(way=found.proposed)
    saves = _saved(now, best)
    if saves >= _LEAST:
        text = (
            f"`{found.layout}` with {called(found, best.way)} pads {percent(best.share)} where shuffled batches pad "
            f"{percent(now.share)}: {_fewer(now, best)}{percent(saves)} fewer cells in all. LengthGroupedSampler of "
            f"transformers pads {percent(found.choice(way='grouped').share)}."
        )
        yield Advice(saves, "sampler", text)
    if saves <= -_LEAST:  # only with max_tokens: its batches can have far more pairs
        other = found.choice(way="pairs")
        text = (
            f"`{found.layout}` with {called(found, best.way)} pads {percent(best.share)}, more than shuffled batches, "
            f"which pad {percent(now.share)}: its batches are larger, with {count(best.real_mean)} tokens where those "
            f"have {count(now.real_mean)}. {called(found, 'pairs')} pads {percent(other.share)}."
        )
        yield Advice(0.0, "sampler", text)


def _fewer(before: Choice, after: Choice) -> str:
    """How many times fewer padded tokens there are; for each token, as pairs may be left out."""
    if after.padded == after.real:
        return "no padded tokens, "
    ratio = (before.padded / before.real - 1) / (after.padded / after.real - 1)
    return f"{times(ratio)} fewer padded tokens, " if ratio >= _TIMES else ""


def _besides(now: Choice, own: Choice, other: Choice) -> float:
    """Share of all cells that the other saves besides what the own saves, if that saves anything."""
    return _saved(now, other) - max(_saved(now, own), 0.0)


def _saved(before: Choice, after: Choice) -> float:
    """Share of cells that it saves for each token."""
    if not before.real or not after.real:
        return 0.0
    return 1 - (after.padded / after.real) / (before.padded / before.real)


def _layout(found: Inspection, now: Choice) -> Iterator[Advice]:
    """Sides that share no width."""
    way = found.proposed
    own = found.choice(way=way)
    others = []
    for other in found.choices:
        saves = _besides(now, own, other)
        # A batch of prompt_left has each prompt once, and its trainer repeats them: its cells are not all there are.
        if other.way == way and other.layout != found.layout and "prompt_left" not in {found.layout, other.layout}:
            others.append((saves, other))
    others = sorted((each for each in others if each[0] >= _LEAST), key=lambda each: each[0])
    if not others:
        return
    begin = f"With {called(found, way)} `{found.layout}` pads {percent(own.share)}"
    floors = {each.layout: each.share for each in found.least}
    if floors[found.layout] - floors.get("separate", 1.0) >= _LEAST:  # (else it comes of how widths are rounded)
        begin = (
            f"`{found.layout}` cannot pad less than {percent(floors[found.layout])}, however batches are formed, as "
            f"the rows of a pair share one width. With {called(found, way)} it pads {percent(own.share)}"
        )
    pads = ", ".join(f"`{other.layout}` {percent(other.share)}" for _, other in others)
    yield Advice(others[-1][0], "layout", f"{begin}; {pads}. That needs a trainer that takes such batches.")


def _rounding(found: Inspection, now: Choice) -> Iterator[Advice]:
    """Widths that are rounded up too far."""
    way = found.proposed
    own, exact = found.choice(way=way), found.choice(rounding="exact", way=way)
    saves = _besides(now, own, exact)
    if not own.buckets and saves >= _LEAST:
        text = (
            f"Widths rounded up ({own.rounding}) pad {percent(own.share)} with {called(found, way)}; exact widths pad "
            f"{percent(exact.share)}."
        )
        yield Advice(saves, "rounding", text)
    for best in _best_buckets(found) if own.buckets else ():
        saves = _besides(now, own, best)
        if saves >= _LEAST:
            text = (
                f"buckets={best.buckets} pad {percent(best.share)} where the collator's "
                f"{counted(len(own.buckets), 'bucket pads', 'buckets pad')} {percent(own.share)}, both with "
                f"{called(found, way)}."
            )
            yield Advice(saves, "buckets", text)


def _best_buckets(found: Inspection) -> list[Choice]:
    """Batches whose widths are the best buckets, if a list of several was looked at."""
    return [each for each in found.choices if each.way == found.proposed and each.rounding.startswith("best ")]


def _outliers(found: Inspection) -> Iterator[Advice]:
    """Few long pairs that set how much memory is needed."""
    own = found.choice(way=found.proposed)
    rare = [cut for cut in found.cuts if 0 < cut.pair_share <= _RARE]
    if not rare or own.padded_most < _UNEVEN * own.padded_mean or found.max_length is not None:
        return
    cut = rare[0]
    text = (
        f"{counted(cut.pairs, 'pair is', 'pairs are')} longer than {count(cut.max_length)} tokens. The largest batch "
        f"has {count(own.padded_most)} cells ({nbytes(own.bytes_most)}), the mean {count(own.padded_mean)}: the "
        f"largest decides how much memory you need. max_length={cut.max_length} would cut {percent(cut.row_share)} of "
        f"the rows and {percent(cut.token_share)} of the tokens"
    )
    if cut.unscored:
        text += f", and leave {counted(cut.unscored, 'pair')} with nothing to score"
    text += "." if found.batch_size == 1 else "; max_tokens of PairBatchSampler bounds a batch without cutting."
    yield Advice(0.0, "outliers", text)


def _static(found: Inspection) -> Iterator[Advice]:
    """Few shapes, for compiled models."""
    own = found.choice(way=found.proposed)
    widths = "exact widths" if own.rounding == "exact" else "your widths"
    for best in _best_buckets(found):
        if own.buckets or own.shapes <= _FEW * best.shapes or -_saved(own, best) > _COSTLY:
            continue
        text = (
            f"For compiled models and CUDA graphs: buckets={best.buckets} give {counted(best.shapes, 'shape')} where "
            f"{widths} give {count(own.shapes)}, for {_more(own, best)} cells"
        )
        multiples = [
            each
            for each in found.choices
            if each.layout == found.layout
            and each.way == found.proposed
            and own.shapes > _FEW * each.shapes
            and _saved(best, each) > 0
        ]
        if multiples:
            few = min(multiples, key=lambda each: each.shapes)
            text += f"; a {few.rounding} gives {counted(few.shapes, 'shape')} for {_more(own, few)} cells"
        yield Advice(0.0, "buckets", f"{text}.")


def _more(before: Choice, after: Choice) -> str:
    """How many cells more it has for each token: ``"9.1% more"``."""
    saves = _saved(before, after)
    return f"{percent(saves)} fewer" if saves > 0 else f"{percent(-saves)} more"


def _nothing(now: Choice) -> str:
    if now.padded == now.real:
        return f"There is nothing to gain: `{now.layout}` pads nothing, even in shuffled batches."
    return (
        f"There is nothing to gain: shuffled batches of `{now.layout}` pad {percent(now.share)}, and no other way that "
        "was looked at saves a hundredth."
    )
