"""What an inspection finds: plain numbers, strings and tuples of them, so that ``dataclasses.asdict`` gives JSON."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

__all__ = ["WAYS", "Advice", "BucketList", "Choice", "Cut", "Distribution", "Inspection", "Least", "Memory"]

WAYS: Final = {
    "shuffled": "shuffled",
    "grouped": "LengthGroupedSampler",
    "sorted": "sorted by length",
    "pairs": "PairBatchSampler",
    "budget": "PairBatchSampler, max_tokens",
}
"""The ways to form batches, by the word that :attr:`Choice.way` has, and how they are called in reports.

``shuffled``: a new order, cut into batches. ``grouped``: transformers' sampler: a shuffled order is cut into parts of
50 batches, each sorted by its longer side. ``sorted``: all pairs by their longer side, always the same batches.
``pairs``: :class:`dpo_collate.sampler.PairBatchSampler` with the batch size; ``budget``: with ``max_tokens`` instead.
"""


@dataclass(frozen=True)
class Distribution:
    """How something is distributed over the pairs.

    Attributes:
        name: What is counted, such as ``"chosen"``.
        unit: ``"tokens"`` or ``"tiles"``.
        total: Sum over all pairs.
        least: The least.
        mean: The mean.
        p50: The median: the least number that is not exceeded by half of the pairs.
        p90: Likewise, by 90 of 100 pairs.
        p99: Likewise, by 99 of 100 pairs.
        most: The most.
        edges: Bounds of the histogram's bins, one more than there are bins; bin i has what is at least ``edges[i]`` and
            less than ``edges[i + 1]``. They are the same for all that have the same unit.
        counts: How many pairs are in each bin.
    """

    name: str
    unit: str
    total: int
    least: int
    mean: float
    p50: int
    p90: int
    p99: int
    most: int
    edges: tuple[int, ...]
    counts: tuple[int, ...]


@dataclass(frozen=True)
class Choice:
    """One epoch of batches: a layout, a rule by which widths are rounded, and a way to form batches.

    Attributes:
        layout: Name of the layout.
        rounding: What widths are rounded up to: ``"exact"``, ``"multiple of 64"``, ``"3 buckets"`` or
            ``"best 8 buckets"``.
        multiple_of: The multiple; 1 where there is none.
        buckets: The buckets, if any.
        way: One of ``WAYS``.
        batches: How many batches there are.
        refused: How many batches the collator would refuse, as a flat one is longer than the largest bucket. They are
            left out of all the other numbers.
        real: Tokens of all batches, after truncation.
        padded: Cells of all batches: tokens and padding.
        share: Share of padding among the cells.
        real_mean: Tokens of a batch.
        padded_mean: Cells of a batch.
        padded_most: Cells of the largest batch.
        bytes_mean: Bytes of a batch: of all its token arrays and its tiles.
        bytes_most: Bytes of the largest batch.
        shapes: How many different shapes the batches' token arrays have, taken together.
    """

    layout: str
    rounding: str
    multiple_of: int
    buckets: tuple[int, ...]
    way: str
    batches: int
    refused: int
    real: int
    padded: int
    share: float
    real_mean: float
    padded_mean: float
    padded_most: int
    bytes_mean: float
    bytes_most: int
    shapes: int


@dataclass(frozen=True)
class Least:
    """What no batch of a layout can go below: the padding of pairs by themselves, at exact widths.

    Attributes:
        layout: Name of the layout.
        real: Tokens of all pairs, after truncation.
        padded: Cells of all pairs; ``sum(2 * max(chosen, rejected))`` where both share one width.
        share: Share of padding.
    """

    layout: str
    real: int
    padded: int
    share: float


@dataclass(frozen=True)
class Cut:
    """What a ``max_length`` would cut.

    Attributes:
        max_length: Most tokens of a row.
        why: ``"max_length"`` for the collator's own, ``"refused"`` for its own where it cuts nothing, but refuses
            the pairs, ``"percentile 99"``, or ``""``: a power of two.
        pairs: How many pairs have a row that is cut.
        pair_share: Their share of all pairs.
        rows: How many rows are cut.
        row_share: Their share of all rows.
        tokens: How many tokens are lost.
        token_share: Their share of all tokens.
        unscored: How many pairs have nothing left of a completion, as the prompt alone has ``max_length`` tokens or
            more; None where prompts are not known, or the collator does not keep the start of rows.
    """

    max_length: int
    why: str
    pairs: int
    pair_share: float
    rows: int
    row_share: float
    tokens: int
    token_share: float
    unscored: int | None = None


@dataclass(frozen=True)
class BucketList:
    """The best list of so many buckets, for the widths that batches have.

    Attributes:
        buckets: The widths, smallest first.
        padded: Cells of all batches with these widths.
        exact: Cells of the same batches with widths that are not rounded.
        share: Share of padding.
    """

    buckets: tuple[int, ...]
    padded: int
    exact: int
    share: float


@dataclass(frozen=True)
class Memory:
    """What batches take that wait in the workers' memory, or are in use.

    Attributes:
        way: The way to form batches that is meant, one of ``WAYS``.
        workers: Worker processes of the loader; 0: none.
        prefetch: Batches that each worker makes ahead.
        batches: How many batches there are at a time: ``workers * prefetch``, and the one in use.
        bytes_mean: Bytes of as many batches of mean size.
        bytes_most: Bytes of as many batches that are all as large as the largest.
    """

    way: str
    workers: int
    prefetch: int
    batches: int
    bytes_mean: float
    bytes_most: int


@dataclass(frozen=True)
class Advice:
    """One thing to do or to know.

    Attributes:
        saves: Share of the cells of the batches as they are now (shuffled, the collator's layout and widths) that it
            saves; 0 where it saves none, but should be known.
        topic: ``"refused"``, ``"cut"``, ``"sampler"``, ``"layout"``, ``"buckets"``, ``"rounding"``, ``"outliers"`` or
            ``"nothing"``.
        text: Sentences with the figures they rest on.
    """

    saves: float
    topic: str
    text: str


@dataclass(frozen=True)
class Inspection:
    """What :func:`dpo_collate.inspection.inspect` finds.

    Attributes:
        pairs: How many pairs there are.
        refused: How many of them the collator would refuse. They are in no batch here.
        unscored: How many of the refused have a prompt that leaves nothing of a completion within ``max_length``; 0
            where prompts are not known.
        too_large: How many more exceed ``max_tokens`` by themselves, so that ``PairBatchSampler`` would refuse them.
        sampled: How many pairs the batches were formed of: all that are left, or that many, drawn at random.
        layout: Name of the collator's layout.
        rounding: The rule by which the collator rounds widths, as :attr:`Choice.rounding` has it.
        batch_size: Pairs of a batch.
        max_tokens: Most cells of a batch, if that was asked for.
        max_length: The collator's ``max_length``, if there is one.
        truncation_mode: Its ``truncation_mode``; None where that differs between matrices.
        seed: What the random orders were drawn with.
        distributions: Of each part, of the longer side, and of tiles.
        choices: Every layout and every way with the collator's own widths; its own layout with the other widths.
        least: What each layout cannot go below.
        cuts: What each ``max_length`` would cut, ascending.
        proposed: The way to form batches that advice and ``bucket_lists`` are about: ``"budget"`` if there is one, else
            ``"pairs"``.
        bucket_lists: The best lists of 1, 2, … buckets.
        memory: What batches take in memory, of each way.
        advice: What to do, the most that can be saved first.
    """

    pairs: int
    refused: int
    unscored: int
    too_large: int
    sampled: int
    layout: str
    rounding: str
    batch_size: int
    max_tokens: int | None
    max_length: int | None
    truncation_mode: str | None
    seed: int
    distributions: tuple[Distribution, ...]
    choices: tuple[Choice, ...]
    least: tuple[Least, ...]
    cuts: tuple[Cut, ...]
    proposed: str
    bucket_lists: tuple[BucketList, ...]
    memory: tuple[Memory, ...]
    advice: tuple[Advice, ...]

    def choice(self, *, layout: str | None = None, rounding: str | None = None, way: str = "shuffled") -> Choice:
        """The choice of that layout, rounding and way; None for the first two: the collator's own.

        Buckets of rows are none for rows that lie end to end: of such a layout it is the one with exact widths.

        Raises:
            KeyError: No such choice was looked at.
        """
        layout = layout or self.layout
        if rounding is None and layout == self.layout:
            rounding = self.rounding
        for choice in self.choices:
            if (choice.layout, choice.way) == (layout, way) and rounding in {None, choice.rounding}:
                return choice
        raise KeyError(f"layout={layout!r}, rounding={rounding!r}, way={way!r}: no such choice was looked at")
