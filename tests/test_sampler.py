"""Batches of pairs of like lengths: each pair once an epoch, within the limits as the collator makes batches."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_sets import COLLATOR, plain
from dpo_collate import PreferenceCollator
from dpo_collate.datasets import ArrowRows
from dpo_collate.layout import Column, Layout, Matrix
from dpo_collate.named import NAMES, named
from dpo_collate.sampler import PairBatchSampler
from dpo_collate.testing.drawing.tables import matrix_lengths
from pairs import PAD, Pair, samples

LENGTHS = np.maximum(np.random.default_rng(1).lognormal(4, 0.9, (600, 2)).round().astype(np.int64), 1)


def sampler(lengths: Any = LENGTHS, collator: Any = "separate", **options: Any) -> PairBatchSampler:
    return PairBatchSampler(lengths, collator, **options)


def ranks(count: int, **options: Any) -> list[list[list[int]]]:
    """The batches of each rank."""
    return [list(sampler(rank=rank, world_size=count, **options)) for rank in range(count)]


def flat(batches: Any) -> list[int]:
    return [pair for batch in batches for pair in batch]


LIMITS: list[dict[str, Any]] = [{"batch_size": 8}, {"max_tokens": 3000}, {"batch_size": 8, "max_tokens": 3000}]


@pytest.mark.parametrize("limits", LIMITS)
@pytest.mark.parametrize("layout", NAMES)
def test_every_pair_comes_once_in_each_epoch(layout: str, limits: dict[str, Any]) -> None:
    lengths = np.random.default_rng(2).integers(1, 400, (200, 3 if layout == "prompt_left" else 2))
    batches = sampler(lengths, layout, **limits)
    seen = []
    for epoch in range(3):
        batches.set_epoch(epoch)
        found = list(batches)
        assert len(found) == len(batches) == len(batches.costs())
        assert sorted(flat(found)) == list(range(200))
        assert all(type(pair) is int for pair in flat(found))
        assert batches.left_out == 0
        seen.append(found)
    assert seen[0] != seen[1] != seen[2]
    # No batch of one epoch is one of another.
    sets = [{frozenset(batch) for batch in epoch if len(batch) > 1} for epoch in seen]
    assert len(sets[0] & sets[1]) <= 1


def collated(collator: PreferenceCollator, pairs: list[Pair]) -> int:
    """The cells of token ids that a collator makes."""
    name = collator._table.name
    batch = collator(samples(name, None if name == "prompt_left" else "split", pairs))
    return sum(array.size for key, array in batch.items() if key.endswith("input_ids"))


def collator_of(name: str, length: Any, drop_last: int = 0) -> PreferenceCollator:
    """A collator of ids alone: nothing is scored, so that truncation may leave nothing."""
    layout = named(name, None if name == "prompt_left" else "split")
    matrices = tuple(
        replace(matrix, columns=matrix.columns[:1], length=length, drop_last=drop_last)
        for matrix in layout.matrices
        if not matrix.optional
    )
    return PreferenceCollator(replace(layout, matrices=matrices), pad_token_id=PAD, return_tensors="np")


OPTIONS = st.fixed_dictionaries(
    {
        "max_tokens": st.sampled_from([None, 40, 100, 200]),
        "batch_size": st.sampled_from([6, 12, 24, 6000]),
        "max_tiles": st.sampled_from([None, 3, 7]),
        "world_size": st.sampled_from([1, 1, 2, 3]),
        "batch_size_multiple": st.sampled_from([1, 1, 2, 3]),
        "shuffle": st.booleans(),
        "drop_last": st.booleans(),
        "seed": st.integers(-(2**63), 2**63 - 1),
        "oversize": st.just("drop"),
    }
)


@given(
    st.sampled_from(NAMES),
    matrix_lengths(),
    st.sampled_from([0, 0, 2]),
    st.lists(st.tuples(*[st.integers(0, 14)] * 3), min_size=3, max_size=40),
    OPTIONS,
)
def test_any_batches_cost_what_the_collator_makes(
    name: str, length: Any, drop_last: int, counts: list[tuple[int, int, int]], options: dict[str, Any]
) -> None:
    collator = collator_of(name, length, drop_last)
    pairs = [Pair(*([1] * count for count in row)) for row in counts]
    lengths = np.array([row if name == "prompt_left" else (row[0] + row[1], row[0] + row[2]) for row in counts])
    max_tokens, max_tiles, world_size = (options[name] for name in ("max_tokens", "max_tiles", "world_size"))
    tiles = None if max_tiles is None else np.arange(len(pairs)) % 9
    options["tiles"] = tiles

    def tokens(batch: list[int]) -> int | None:
        try:
            return collated(collator, [pairs[pair] for pair in batch])
        except ValueError:
            return None

    def fits(batch: list[int]) -> bool:
        found = tokens(batch)
        small = tiles is None or tiles[batch].sum() <= max_tiles
        fits_tokens = found is not None and (max_tokens is None or found <= max_tokens)
        return fits_tokens and small and len(batch) <= options["batch_size"]

    usable = [pair for pair in range(len(pairs)) if fits([pair])]
    if len(usable) < world_size:
        with pytest.raises(ValueError, match="expected at least one for each rank"):
            PairBatchSampler(lengths, collator, **options)
        return
    found = [PairBatchSampler(lengths, collator, rank=rank, **options) for rank in range(world_size)]
    assert len({len(list(one)) for one in found}) == 1
    every = PairBatchSampler(lengths, collator, rank=None, **options)
    batches = list(every)
    assert batches == [batch for step in zip(*found, strict=True) for batch in step]
    assert all(fits(batch) for batch in batches)
    assert found[0].costs().tolist() == [tokens(batch) for batch in batches]
    times = Counter(flat(batches))
    assert set(times.values()) <= {1}
    assert set(times) <= set(usable)
    assert every.dropped.tolist() == sorted(set(range(len(pairs))) - set(usable))
    assert every.left_out == len(usable) - len(times)
    assert every.left_out == 0 or options["drop_last"] or (world_size > 1 and len(batches) >= world_size)


def test_batches_have_pairs_of_like_lengths() -> None:
    lengths = np.maximum(np.random.default_rng(2).lognormal(6, 0.8, (20_000, 2)).round().astype(np.int64), 1)
    for collator, most in (("separate", 0.08), ("concatenated", 0.31), ("padding_free", 0.0)):
        batches = sampler(lengths, collator, batch_size=8)
        assert batches.padding_share() <= most
        if collator == "separate":
            cells = sum(len(batch) * int(lengths[batch].max(axis=0).sum()) for batch in batches)
            assert batches.costs().sum() == cells
            assert batches.padding_share() == pytest.approx(1 - lengths.sum() / cells)
    wider = sampler(lengths, PreferenceCollator(pad_token_id=PAD, max_length=1000, pad_to_multiple_of=64), batch_size=8)
    assert 0.05 < wider.padding_share() < 0.15
    assert sampler(np.zeros((3, 2), int), batch_size=2).padding_share() == 0


def test_ranks_get_as_many_batches_of_about_the_same_cost() -> None:
    for limits in LIMITS:
        for count in (2, 3, 8):
            found = ranks(count, **limits)
            assert len({len(batches) for batches in found}) == 1
            assert sorted(flat(itertools.chain(*found))) == list(range(len(LENGTHS)))
            costs = sampler(rank=1, world_size=count, **limits).costs().reshape(-1, count)
            cost = [
                [len(batch) * int(LENGTHS[batch].max(axis=0).sum()) for batch in step]
                for step in zip(*found, strict=True)
            ]
            assert costs.tolist() == cost
            spread = costs.max(axis=1) - costs.min(axis=1)
            assert spread.sum() <= costs.max() - costs.min()


def test_batches_of_a_size_are_as_few_as_can_be() -> None:
    assert {len(sampler(batch_size=7, seed=seed)) for seed in range(5)} == {86}
    assert len(sampler(batch_size=7, drop_last=True)) == 85
    assert sampler(batch_size=7, drop_last=True).left_out == 600 - 85 * 7
    assert all(len(batch) == 7 for batch in sampler(batch_size=7, drop_last=True))
    # In steps of two, one of 86 more batches would be none.
    assert [len(batches) for batches in ranks(4, batch_size=7)] == [22] * 4
    few = sampler(batch_size=7, drop_last=True, world_size=4)
    assert (len(few), few.left_out) == (21, 600 - 84 * 7)


def test_pairs_that_no_rank_gets_are_others_in_each_epoch() -> None:
    batches = sampler(LENGTHS[:7], batch_size=1, rank=None, world_size=3)
    seen: set[int] = set()
    for epoch in range(10):
        batches.set_epoch(epoch)
        assert (len(batches), batches.left_out) == (6, 1)
        seen |= set(range(7)) - set(flat(batches))
    assert len(seen) > 3


def test_order_of_the_data() -> None:
    batches = sampler(batch_size=7, shuffle=False)
    assert list(batches) == [list(range(at, min(at + 7, 600))) for at in range(0, 600, 7)]
    batches.set_epoch(1)
    assert flat(batches) == list(range(600))
    found = ranks(4, max_tokens=3000, shuffle=False)
    assert flat(itertools.chain(*zip(*found, strict=True))) == list(range(600))


def test_multiples_of_pairs() -> None:
    sizes = [len(batch) for batch in sampler(max_tokens=3000, batch_size_multiple=4)]
    assert sum(size % 4 > 0 for size in sizes) <= sum(size < 4 for size in sizes)
    assert max(sizes) >= 8


def test_oversize() -> None:
    lengths = np.array([[10, 10], [400, 10], [10, 10], [10, 500]])
    batches = sampler(lengths, max_tokens=100, oversize="drop")
    assert batches.dropped.tolist() == [1, 3]
    assert batches.dropped.dtype == np.int64
    assert sorted(flat(batches)) == [0, 2]
    assert batches.left_out == 0


def test_what_says_lengths() -> None:
    wanted = list(sampler(batch_size=4))
    columns: tuple[Any, ...] = tuple(LENGTHS.T)
    assert list(sampler(columns, batch_size=4)) == wanted
    assert list(sampler(tuple(map(list, columns)), batch_size=4)) == wanted
    assert list(sampler((columns[0], columns[1].astype(np.uint64)), batch_size=4)) == wanted
    assert list(sampler(LENGTHS.astype(np.uint16), named("separate"), batch_size=4)) == wanted
    assert list(sampler(LENGTHS[::-1][::-1], COLLATOR, batch_size=4)) == wanted
    measured = np.array([[len(row[f"{side}_input_ids"]) for side in ("chosen", "rejected")] for row in plain()])
    wanted = list(sampler(measured, batch_size=4))
    shown = [plain(), ArrowRows(plain()), plain().data.table, [plain().data.table]]
    for data in shown:
        assert list(sampler(data, COLLATOR, batch_size=4)) == wanted
    any_stem = Layout("any", (Matrix((("*",),), (Column("{}", pad="pad_token_id"),), tokens="{}_input_ids"),))
    assert list(sampler(plain(), any_stem, batch_size=4)) == wanted


def test_flat_batches_of_a_size_are_of_about_one_size() -> None:
    """They are as they come. Filled up, they would be of all sizes, and rounded up by more."""
    lengths = np.exp(np.random.default_rng(0).normal(6, 0.8, (4000, 2))).astype(np.int64)
    tokens = lengths.sum(1).reshape(500, 8).sum(1)
    buckets = np.array([*np.quantile(tokens, [0.2, 0.4, 0.6, 0.8]).astype(int), 8 * lengths.sum(1).max()])
    collator = PreferenceCollator("padding_free", pad_token_id=0, buckets=tuple(buckets.tolist()))
    sampler = PairBatchSampler(lengths, collator, batch_size=8)
    assert len(sampler) == 500
    as_they_come = 1 - tokens.sum() / buckets[buckets.searchsorted(tokens)].sum()
    assert sampler.padding_share() < as_they_come + 0.05
