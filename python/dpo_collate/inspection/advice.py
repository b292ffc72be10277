"""What to do, in plain words, with the figures it rests on.

The measure is the batch as it is now: shuffled, with the collator's layout and widths. What saves less than a hundredth of
its cells is not said.
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


def advice(found: Inspection) -> tuple[Advice, ...]:
    """Advice: what must be known first, then what saves most, then what saves nothing but helps."""
    now = found.choice()
    assert now is not None  # noqa: S101 - it is among the choices
    savings = [*_sampler(found, now), *_layout(found, now), *_rounding(found, now)]
    if not savings:
        savings.append(Advice(0.0, "nothing", _nothing(now)))
    savings.sort(key=lambda each: -each.saves)
    return (*_warnings(found), *savings, *_outliers(found), *_static(found))


def _warnings(found: Inspection) -> Iterator[Advice]:
    if found.refused:
        why = "longer than the largest bucket" if "bucket" in found.rounding else "longer than max_length"
        text = (
            f"The collator refuses {counted(found.refused, 'pair')} of {count(found.pairs)}, as rows are {why}. No batch "
            f"here has them."
        )
        yield Advice(0.0, "refused", text)
    if found.too_large:
        text = (
            f"{counted(found.too_large, 'pair has', 'pairs have')} more than max_tokens={found.max_tokens} padded tokens "
            f"by {'itself' if found.too_large == 1 else 'themselves'}: PairBatchSampler refuses them, or leaves them out "
            f"with oversize='drop', as here."
        )
        yield Advice(0.0, "refused", text)
    for cut in found.cuts:
        if cut.why == "max_length" and cut.rows:
            text = (
                f"max_length={cut.max_length} cuts {percent(cut.row_share)} of the rows and loses "
                f"{percent(cut.token_share)} of the tokens; it touches {counted(cut.pairs, 'pair')} of {count(found.pairs)}."
            )
            yield Advice(0.0, "cut", text)


def _sampler(found: Inspection, now: Choice) -> Iterator[Advice]:
    """Pairs of like lengths in a batch."""
    own = [each for each in (found.choice(way="pairs"), found.choice(way="budget")) if each is not None]
    best = min(own, key=lambda each: each.share)
    saves = _saved(now, best)
    if saves < _LEAST:
        return
    grouped = found.choice(way="grouped")
    beside = "" if grouped is None else f" LengthGroupedSampler of transformers pads {percent(grouped.share)}."
    fewer = _fewer(now, best)
    yield Advice(
        saves,
        "sampler",
        f"`{found.layout}` with {called(found, best.way)} pads {percent(best.share)} where shuffled batches pad "
        f"{percent(now.share)}: {fewer}, {percent(saves)} less to compute.{beside}",
    )


def _fewer(before: Choice, after: Choice) -> str:
    padding = after.padded - after.real
    # Per token: where pairs are left out there are fewer of both.
    ratio = (before.padded - before.real) / before.real * after.real / padding if padding and before.real else 0
    return f"{times(ratio)} fewer padded tokens" if ratio else "no padded tokens"


def _saved(before: Choice, after: Choice) -> float:
    """Share of cells that it saves for each token."""
    if not before.padded or not before.real or not after.real:
        return 0.0
    return 1 - (after.padded / after.real) / (before.padded / before.real)


def _layout(found: Inspection, now: Choice) -> Iterator[Advice]:
    """Sides that share no width."""
    own = found.choice(way="pairs")
    assert own is not None  # noqa: S101 - it is among the choices
    others = []
    for least in found.least[1:]:
        other = next(each for each in found.choices if each.layout == least.layout and each.way == "pairs")
        # A batch of prompt_left has each prompt once, and its trainer repeats them: its cells are not all.
        if other.layout != "prompt_left" and not other.refused:
            others.append((_saved(now, other) - _saved(now, own), other))
    others = [each for each in others if each[0] >= _LEAST]
    if not others:
        return
    least = found.least[0]
    begin = f"With PairBatchSampler `{found.layout}` pads {percent(own.share)}"
    if least.share >= _LEAST:
        begin = (
            f"`{found.layout}` cannot pad less than {percent(least.share)}, however batches are formed, as rows of a pair "
            f"share one width. With PairBatchSampler it pads {percent(own.share)}"
        )
    pads = " and ".join(
        f"`{other.layout}` pads {_pads(other)}" for _, other in sorted(others, key=lambda each: each[0])
    )
    yield Advice(
        max(saves for saves, _ in others),
        "layout",
        f"{begin}; {pads}. That needs a trainer that takes such batches.",
    )


def _pads(choice: Choice) -> str:
    return percent(choice.share) if choice.padded > choice.real else "nothing"


def _rounding(found: Inspection, now: Choice) -> Iterator[Advice]:
    """Widths that are rounded up too far."""
    own = found.choice(way="pairs")
    exact = found.choice(rounding="exact", way="pairs")
    assert own is not None  # noqa: S101 - it is among the choices
    if exact is None or own is exact:
        return
    best = _best_buckets(found)
    if own.buckets and best is not None and not best.refused:
        saves = _saved(now, best) - _saved(now, own)
        if saves >= _LEAST:
            yield Advice(
                saves,
                "buckets",
                f"buckets={best.buckets} pad {percent(best.share)} where the collator's {counted(len(own.buckets), 'bucket')} "
                f"pad {percent(own.share)}, both with PairBatchSampler.",
            )
    saves = _saved(now, exact) - _saved(now, own)
    if not own.buckets and saves >= _LEAST:
        eight = found.choice(rounding="multiple of 8", way="pairs")
        beside = "" if eight is None or eight is own else f", a multiple of 8 pads {percent(eight.share)}"
        yield Advice(
            saves,
            "rounding",
            f"Widths rounded up ({own.rounding}) pad {percent(own.share)} with PairBatchSampler; exact widths pad "
            f"{percent(exact.share)}{beside}.",
        )


def _best_buckets(found: Inspection) -> Choice | None:
    for choice in found.choices:
        if choice.way == "pairs" and choice.rounding.startswith("best "):
            return choice
    return None


def _outliers(found: Inspection) -> Iterator[Advice]:
    """Few long pairs that set how much memory is needed."""
    own = found.choice(way="pairs")
    assert own is not None  # noqa: S101 - it is among the choices
    if own.padded_most < 4 * own.padded_mean or found.max_length is not None:
        return
    rare = [cut for cut in found.cuts if 0 < cut.pair_share <= _RARE]
    for cut in rare[:1]:
        text = (
            f"{counted(cut.pairs, 'pair is', 'pairs are')} longer than {count(cut.max_length)} tokens. The largest batch "
            f"has {count(own.padded_most)} cells ({nbytes(own.bytes_most)}) where the mean has {count(own.padded_mean)}: "
            f"it decides how much memory you need. max_length={cut.max_length} would cut {percent(cut.row_share)} of the "
            f"rows and {percent(cut.token_share)} of the tokens; max_tokens of PairBatchSampler bounds a batch without "
            f"cutting."
        )
        yield Advice(0.0, "outliers", text)


def _static(found: Inspection) -> Iterator[Advice]:
    """Few shapes, for compiled models."""
    best, exact = _best_buckets(found), found.choice(rounding="exact", way="pairs")
    own = found.choice(way="pairs")
    if best is None or exact is None or own is None or own.buckets or best.refused or exact.shapes <= 2 * best.shapes:
        return
    more = best.padded / best.real / (exact.padded / exact.real) - 1 if best.real and exact.padded else 0.0
    text = (
        f"For compiled models and CUDA graphs: buckets={best.buckets} give {counted(best.shapes, 'shape')} where exact "
        f"widths give {count(exact.shapes)}, for {percent(more)} more cells."
    )
    yield Advice(0.0, "buckets", text)


def _nothing(now: Choice) -> str:
    if now.padded == now.real:
        return f"There is nothing to gain: `{now.layout}` pads nothing, even in shuffled batches."
    return (
        f"There is nothing to gain: shuffled batches of `{now.layout}` pad {percent(now.share)}, and no other way that was "
        f"looked at saves a hundredth."
    )
