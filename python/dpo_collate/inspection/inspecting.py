"""From lengths to all that an inspection finds."""

from __future__ import annotations

from dataclasses import dataclass
from math import lcm
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from dpo_collate._behind import layout_of
from dpo_collate._checks import check_count, check_int64
from dpo_collate._grids import grids_of, kept
from dpo_collate._token_rows import token_rows
from dpo_collate._wildcards import has_wildcards

from . import padding, ways
from .advice import advice
from .buckets import best_buckets
from .cuts import cuts, unscored
from .distributions import distributions
from .figures import BucketList, Choice, Inspection, Memory
from .layouts import Form, bare, forms, joined, prompts_of, row_names
from .padding import EXACT, Batches, Rounding, Tiles

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import numpy.typing as npt

    from dpo_collate.collator import PreferenceCollator
    from dpo_collate.layout import Layout

    Numbers = npt.NDArray[np.int64]

SAMPLE: Final = 200_000
"""Batches are formed of at most so many pairs: to form them in some twenty ways takes seconds."""

_WINDOW: Final = 204_800
"""The largest window that ``PairBatchSampler`` chooses by itself.

A window is a random part of all pairs, as the drawn ones are. So of these a window as large as it is of all pairs pads
as much; a fourth of them would pad more.
"""

_MULTIPLES: Final = (8, 64, 128)

_BUCKETS_ARE: Final = 8
"""Best buckets are multiples of it, as tensor cores like them."""


def inspect(  # noqa: PLR0913 - a question with many options, each by its name
    lengths: npt.ArrayLike,
    collator: PreferenceCollator | Layout | str,
    *,
    parts: Mapping[str, npt.ArrayLike] | None = None,
    tiles: npt.ArrayLike | None = None,
    tile_bytes: int | None = None,
    batch_size: int = 8,
    max_tokens: int | None = None,
    workers: int = 2,
    prefetch: int = 2,
    buckets: int = 8,
    seed: int = 0,
) -> Inspection:
    """Says what batches of these lengths are made of: padding, bytes, what is cut, and what would be better.

    Nothing is collated: all figures come from lengths. Distributions and what is cut are of all pairs; where there are
    more than 200,000, batches are formed of as many, drawn at random.

    Args:
        lengths: Tokens of the rows of each pair, int64 ``[n, rows]``, as :func:`dpo_collate.datasets.lengths` has them.
        collator: A collator, a layout, or the name of a layout.
        parts: Other lengths of the pairs by name, ``[n]`` each, whose distributions are shown. With ``"prompt"`` the
            layout ``prompt_left`` is among those that are compared, the completions of ``prompt + chosen`` are shown
            by themselves, and pairs of whose completions truncation leaves nothing are found; ``"tiles"`` stands for
            the next argument.
        tiles: How many tiles of images each pair has, ``[n]``.
        tile_bytes: Bytes of a tile, such as ``3 * 448 * 448 * 2``; without it tiles count no bytes.
        batch_size: Pairs of a batch.
        max_tokens: Most padded tokens of a batch, for ``PairBatchSampler``, which is then looked at with both limits,
            each by itself.
        workers: Worker processes of the loader.
        prefetch: Batches that each makes ahead (``prefetch_factor``).
        buckets: Most buckets of a list.
        seed: What the random orders are drawn with.

    Returns:
        An :class:`dpo_collate.inspection.Inspection`.

    Raises:
        TypeError: An argument is of the wrong kind.
        ValueError: Lengths have the wrong shape or are negative, an option is too small, or the collator would refuse
            every pair.

    Example:
        >>> from dpo_collate.inspection import inspect
        >>> found = inspect([[10, 4], [3, 2], [9, 10], [2, 2]], "separate", batch_size=2)
        >>> found.distributions[0].name, found.distributions[0].mean
        ('chosen', 6.0)
        >>> sorted = found.choice(way="sorted")
        >>> sorted.real, sorted.padded
        (42, 50)
    """
    layout = _layout(collator)
    numbers = _lengths(lengths, layout)
    named = {name: _counts(f"parts[{name!r}]", values, len(numbers)) for name, values in (parts or {}).items()}
    given = named.pop("tiles", None) if tiles is None else _counts("tiles", tiles, len(numbers))
    ask = _Ask(
        batch_size=check_count("batch_size", batch_size, 1),
        max_tokens=None if max_tokens is None else check_count("max_tokens", max_tokens, 1),
        workers=check_count("workers", workers, 0),
        prefetch=check_count("prefetch", prefetch, 1),
        buckets=check_count("buckets", buckets, 1),
        seed=check_int64("seed", seed),
    )
    tile_bytes = 0 if tile_bytes is None else check_count("tile_bytes", tile_bytes, 0)
    return _inspected(layout, numbers, named, None if given is None else Tiles(given, tile_bytes), ask)


@dataclass(frozen=True)
class _Ask:
    """The options, as :func:`inspect` has them."""

    batch_size: int
    max_tokens: int | None
    workers: int
    prefetch: int
    buckets: int
    seed: int


def _inspected(
    layout: Layout, lengths: Numbers, parts: dict[str, Numbers], tiles: Tiles | None, ask: _Ask
) -> Inspection:
    rounding = padding.rounding_of(layout)
    rows, max_length = joined(layout, lengths), _max_length(layout)
    mode = _truncation_mode(layout)
    prompts = prompts_of(layout, lengths, parts) if mode == "keep_start" else None
    empty = np.zeros(len(lengths), np.bool_)
    if prompts is not None and max_length is not None:
        empty = unscored(rows, prompts, max_length)
    wrong = padding.refused(layout, lengths) | empty
    if wrong.all():
        why = ", or its prompt leaves nothing of a completion" if empty.any() else ""
        raise ValueError(f"the collator would refuse all {len(lengths)} pairs: every one is longer than it allows{why}")
    found = forms(layout, lengths, parts)
    too_large = _too_large(found[0].only(~wrong), rounding, ask)
    usable = np.flatnonzero(~wrong)
    chosen = _sample(usable, ask.seed)
    chosen_tiles = None if tiles is None else Tiles(tiles.counts[chosen], tiles.nbytes)
    window = None if len(chosen) == len(usable) else min(len(usable) // 4, _WINDOW)
    epochs = _Epochs(tuple(form.only(chosen) for form in found), chosen_tiles, ask, window)
    proposed, lists = _bucket_lists(epochs, found[0].only(~wrong).lengths)
    choices = tuple(_choices(epochs, rounding, lists))
    own = [choice for choice in choices if (choice.layout, choice.rounding) == (layout.name, rounding.name)]
    parts_found = distributions(_named(layout, lengths, parts), "tokens")
    if tiles is not None:
        parts_found += distributions({"tiles": tiles.counts}, "tiles")
    values: dict[str, Any] = {
        "pairs": len(lengths),
        "refused": int(wrong.sum()),
        "unscored": int(empty.sum()),
        "too_large": too_large,
        "sampled": len(chosen),
        "layout": layout.name,
        "rounding": rounding.name,
        "batch_size": ask.batch_size,
        "max_tokens": ask.max_tokens,
        "max_length": max_length,
        "truncation_mode": mode,
        "seed": ask.seed,
        "distributions": parts_found,
        "choices": choices,
        "least": tuple(padding.least(form.layout, form.lengths) for form in epochs.forms),
        "cuts": cuts(rows, max_length, refused=_refuses_long(layout), prompts=prompts),
        "proposed": proposed,
        "bucket_lists": tuple(lists),
        "memory": tuple(_memory(choice, ask) for choice in own),
    }
    return Inspection(**values, advice=advice(Inspection(**values, advice=())))


def _layout(collator: Any) -> Layout:
    layout = bare(layout_of(collator))
    if has_wildcards(layout):
        raise ValueError(f"layout {layout.name!r} depends on the keys of the samples: expected one that names its rows")
    return layout


def _lengths(lengths: npt.ArrayLike, layout: Layout) -> Numbers:
    """Checks lengths, and makes an array of them."""
    numbers = _integers("lengths", lengths)
    rows = len(token_rows(layout))
    if numbers.ndim != 2 or not len(numbers) or numbers.shape[1] != rows:
        names = ", ".join(row_names(layout))
        raise ValueError(
            f"lengths has shape {[*numbers.shape]}, expected [n, {rows}] of layout {layout.name!r} ({names}), n at "
            "least 1"
        )
    return numbers


def _counts(name: str, values: npt.ArrayLike, pairs: int) -> Numbers:
    """Checks one number a pair, and makes an array of them."""
    numbers = _integers(name, values)
    if numbers.shape != (pairs,):
        raise ValueError(f"{name} has shape {[*numbers.shape]}, expected [{pairs}]: one number a pair")
    return numbers


def _integers(name: str, values: npt.ArrayLike) -> Numbers:
    array = np.asarray(values)
    if array.dtype.kind not in "iu" and array.size:
        raise TypeError(f"{name} has dtype {array.dtype}, expected integers")
    if array.size and int(array.min()) < 0:
        raise ValueError(f"{name} has {int(array.min())}, expected no negative number")
    return array.astype(np.int64)


def _sample(pairs: Numbers, seed: int) -> Numbers:
    """The pairs, or some of them."""
    if len(pairs) <= SAMPLE:
        return pairs
    return np.sort(np.random.default_rng(seed & _WORD).choice(pairs, SAMPLE, replace=False))


_WORD: Final = (1 << 64) - 1


def _too_large(form: Form, rounding: Rounding, ask: _Ask) -> int:
    """How many pairs have more cells by themselves than a batch may have."""
    if ask.max_tokens is None:
        return 0
    cells = padding.alone(rounding.layout(form.layout), form.lengths)
    if cells.min() > ask.max_tokens:
        raise ValueError(f"max_tokens={ask.max_tokens}: every pair has more, the smallest {cells.min()} padded tokens")
    return int((cells > ask.max_tokens).sum())


class _Epochs:
    """The batches of each way, made as they are asked for."""

    def __init__(self, forms_found: tuple[Form, ...], tiles: Tiles | None, ask: _Ask, window: int | None) -> None:
        self.forms = forms_found
        self.tiles = tiles
        self.ask = ask
        self.window = window
        own = forms_found[0]
        rows = joined(own.layout, own.lengths)
        limit = _max_length(own.layout)
        self.longer = rows.max(axis=1) if limit is None else np.minimum(rows.max(axis=1), limit)
        seed = ask.seed & _WORD
        self.plans = {
            "shuffled": ways.shuffled(len(rows), ask.batch_size, seed),
            "grouped": ways.grouped(self.longer, ask.batch_size, seed),
            "sorted": ways.in_order(self.longer, ask.batch_size),
        }

    def ways(self, form: Form, rounding: Rounding) -> Iterator[tuple[str, Batches]]:
        """The batches of each way in this layout."""
        for way, plan in self.plans.items():
            yield way, padding.batches_of(form.layout, form.lengths, plan, self.tiles)
        for way in ("pairs", "budget"):
            batches = self.paired(form, rounding, way)
            if batches is not None:
                yield way, batches

    def paired(self, form: Form, rounding: Rounding, way: str) -> Batches | None:
        """The batches of ``PairBatchSampler``; None where there is no budget, or one that no pair fits."""
        layout = rounding.layout(form.layout)
        limits: dict[str, Any] = {"batch_size": self.ask.batch_size, "max_tokens": None}
        if way == "budget":
            budget = self.ask.max_tokens
            if budget is None or padding.alone(layout, form.lengths).min() > budget:
                return None
            limits = {"batch_size": None, "max_tokens": budget}
        plan = ways.paired(form.lengths, layout, **limits, window=self.window, seed=self.ask.seed)
        return padding.batches_of(form.layout, form.lengths, plan, self.tiles)


def _choices(epochs: _Epochs, rounding: Rounding, lists: list[BucketList]) -> Iterator[Choice]:
    """Every layout with the collator's own widths, then its own layout with others."""
    own = epochs.forms[0]
    for form in epochs.forms:
        for way, batches in epochs.ways(form, of_form := padding.rounding_of(form.layout)):
            yield padding.choice(batches, of_form, layout=form.layout.name, way=way)
    others = [EXACT, *map(padding.multiple, _MULTIPLES)]
    if len(lists) > 1:
        best = lists[-1].buckets
        others.append(Rounding(f"best {len(best)} buckets", buckets=best))
    for other in others:
        if other.name != rounding.name and not _forbidden(own.layout, other):
            for way, batches in epochs.ways(own, other):
                yield padding.choice(batches, other, layout=own.layout.name, way=way)


def _forbidden(layout: Layout, rounding: Rounding) -> bool:
    """Whether rows would not be multiples of what they have to be."""
    return any(bucket % grid.length.row_multiple_of for grid in grids_of(layout) for bucket in rounding.buckets)


def _bucket_lists(epochs: _Epochs, lengths: Numbers) -> tuple[str, list[BucketList]]:
    """The best lists for the widths that ``PairBatchSampler`` makes where nothing is rounded."""
    form = epochs.forms[0]
    way = "pairs" if epochs.ask.max_tokens is None else "budget"
    if epochs.ask.max_tokens is not None:  # what fits no batch needs no bucket
        lengths = lengths[padding.alone(EXACT.layout(form.layout), lengths) <= epochs.ask.max_tokens]
    batches = epochs.paired(form, EXACT, way)
    assert batches is not None  # noqa: S101 - a pair that fits with the collator's widths fits without rounding
    unit = lcm(_BUCKETS_ARE, *(grid.length.row_multiple_of for grid in batches.grids))
    needs = np.concatenate(batches.needs)
    widths = [max(1, *(grid.length.min_length for grid in batches.grids)), *_widest(batches, lengths, epochs.ask)]
    forced = np.array(widths)
    rounded = -(-np.concatenate([needs, forced]) // unit) * unit
    rows = np.concatenate([*batches.rows, np.zeros_like(forced)])
    real, exact = int(batches.real.sum()), int((needs * rows[: len(needs)]).sum())
    found = []
    for buckets, padded in best_buckets(np.maximum(rounded, rounded[len(needs)]), rows, epochs.ask.buckets):
        found.append(BucketList(buckets, padded, exact, padding.share(real, padded)))
    return way, found


def _widest(batches: Batches, lengths: Numbers, ask: _Ask) -> Iterator[int]:
    """The widest that batches of other epochs can be, which must have a bucket as well."""
    for grid in batches.grids:
        rows = -(-kept(grid, lengths) // grid.length.row_multiple_of) * grid.length.row_multiple_of
        if not grid.flat:
            yield int(rows.max())
            continue
        totals = rows.sum(axis=1)
        if ask.max_tokens is None:
            yield int(np.sort(totals)[-ask.batch_size :].sum())
        else:
            yield ask.max_tokens


def _max_length(layout: Layout) -> int | None:
    """The limit that all matrices have."""
    limits = {grid.length.max_length for grid in grids_of(layout)}
    return limits.pop() if len(limits) == 1 else None


def _refuses_long(layout: Layout) -> bool:
    return any(grid.length.truncation_mode == "error" for grid in grids_of(layout))


def _truncation_mode(layout: Layout) -> str | None:
    """Which end of rows all matrices keep, or that what is longer is an error."""
    modes: set[str] = {grid.length.truncation_mode for grid in grids_of(layout)}
    return modes.pop() if len(modes) == 1 else None


def _named(layout: Layout, lengths: Numbers, parts: dict[str, Numbers]) -> dict[str, Numbers]:
    """All parts by name, and the longer side."""
    found = dict(parts)
    rows = dict(zip(row_names(layout), lengths.T, strict=True))
    for name, column in rows.items():
        if name.startswith("prompt + ") and "prompt" in parts:
            found.setdefault(name.removeprefix("prompt + "), column - parts["prompt"])
    for name, column in rows.items():
        found.setdefault(name, column)
    if lengths.shape[1] > 1:
        found["longer side"] = joined(layout, lengths).max(axis=1)
    return found


def _memory(choice: Choice, ask: _Ask) -> Memory:
    batches = ask.workers * ask.prefetch + 1
    return Memory(
        way=choice.way,
        workers=ask.workers,
        prefetch=ask.prefetch,
        batches=batches,
        bytes_mean=batches * choice.bytes_mean,
        bytes_most=batches * choice.bytes_most,
    )
