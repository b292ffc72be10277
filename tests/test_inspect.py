"""What is found out about lengths, against batches that are really made."""

import dataclasses
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dpo_collate import PreferenceCollator
from dpo_collate.inspection import Choice, Cut, Distribution, Inspection, inspect, inspecting, padding, ways
from dpo_collate.inspection.cuts import cuts
from dpo_collate.inspection.distributions import distributions
from dpo_collate.inspection.drawings import drawings
from dpo_collate.inspection.layouts import forms
from dpo_collate.layout import Column, Layout, Length, Matrix
from dpo_collate.named import named
from dpo_collate.sampler import PairBatchSampler
from loaders import succeeds

Lengths = npt.NDArray[np.int64]
rows = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)), min_size=1, max_size=25)


def log_normal(pairs: int, seed: int = 0) -> tuple[Lengths, Lengths, Lengths]:
    """Prompts and completions with long tails, those of a pair alike."""
    random = np.random.default_rng(seed)
    prompt = np.exp(random.normal(4.9, 1.0, pairs))
    alike = random.normal(size=pairs)
    sides = (np.exp(5.4 + 0.75 * (0.7 * alike + 0.71 * random.normal(size=pairs))) for _ in range(2))
    found = [np.clip(each, 1, 20_000).astype(np.int64) for each in (prompt, *sides)]
    return found[0], found[1], found[2]


def collated(collator: PreferenceCollator, lengths: Lengths, plan: ways.Plan) -> list[dict[str, Any]]:
    """The batches themselves, of pairs of which nothing but the lengths is known."""
    batches = []
    for start, stop in zip(plan.bounds[:-1], plan.bounds[1:], strict=True):
        samples = []
        for pair in lengths[plan.order[start:stop]]:
            if len(pair) == 3:
                sample = {
                    f"{stem}_ids": [1] * n for stem, n in zip(("prompt", "chosen", "rejected"), pair, strict=True)
                }
            else:
                sample = {
                    f"{side}_{key}": [1] * n
                    for side, n in zip(("chosen", "rejected"), pair, strict=True)
                    for key in ("input_ids", "labels")
                }
            samples.append(sample)
        batches.append(collator(samples))
    return batches


def measured(batches: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What a choice says of them, read from the arrays."""
    ids = [[value for name, value in each.items() if name.endswith("input_ids")] for each in batches]
    padded = [sum(value.size for value in each) for each in ids]
    cells = ("input_ids", "attention_mask", "labels", "position_ids", "seq_idx")
    nbytes = [sum(value.nbytes for name, value in each.items() if name.endswith(cells)) for each in batches]
    return {
        "batches": len(batches),
        "real": sum(int((value != 0).sum()) for each in ids for value in each),
        "padded": sum(padded),
        "padded_most": max(padded),
        "padded_mean": sum(padded) / len(padded),
        "bytes_most": max(nbytes),
        "bytes_mean": sum(nbytes) / len(nbytes),
        "shapes": len({tuple(value.shape for value in each) for each in ids}),
    }


OPTIONS: list[dict[str, Any]] = [
    {},
    {"pad_to_multiple_of": 8},
    {"max_length": 17, "pad_to_multiple_of": 4},
    {"buckets": (16, 24, 41)},
    {"row_multiple_of": 4, "max_length": 30},
]


@settings(max_examples=25)
@given(
    pairs=rows,
    batch_size=st.integers(1, 9),
    layout=st.sampled_from(["separate", "concatenated", "interleaved", "padding_free"]),
    options=st.sampled_from(OPTIONS),
    seed=st.integers(0, 3),
)
def test_figures_are_those_of_batches_that_are_made(
    pairs: list[tuple[int, int]], batch_size: int, layout: str, options: dict[str, Any], seed: int
) -> None:
    if layout == "padding_free" and "buckets" in options:
        options = {"buckets": (300, 2000)}
    lengths = np.array(pairs)
    collator = PreferenceCollator(layout, pad_token_id=0, return_tensors="np", **options)
    found = inspect(lengths, collator, batch_size=batch_size, seed=seed)
    plan = ways.shuffled(len(lengths), batch_size, seed)
    expected = measured(collated(collator, lengths, plan))
    choice = dataclasses.asdict(found.choice())
    assert {name: choice[name] for name in expected} == expected
    assert choice["real_mean"] == expected["real"] / expected["batches"]
    assert choice["share"] == (1 - expected["real"] / expected["padded"] if expected["padded"] else 0)
    for each in found.choices:
        assert each.batches >= -(-len(lengths) // batch_size)
        assert each.real == expected["real"] or each.layout != layout


@settings(max_examples=12)
@given(pairs=st.lists(st.tuples(*[st.integers(0, 20)] * 3), min_size=1, max_size=12), batch_size=st.integers(1, 5))
def test_prompts_by_themselves(pairs: list[tuple[int, int, int]], batch_size: int) -> None:
    lengths = np.array(pairs)
    collator = PreferenceCollator("prompt_left", inputs="split", pad_token_id=0, return_tensors="np")
    found = inspect(lengths, collator, batch_size=batch_size)
    expected = measured(collated(collator, lengths, ways.shuffled(len(lengths), batch_size, 0)))
    choice = dataclasses.asdict(found.choice())
    assert {name: choice[name] for name in expected} == expected
    # The other way round: what is known of the parts is enough for this layout.
    joined = lengths[:, 1:] + lengths[:, :1]
    again = inspect(joined, "separate", batch_size=batch_size, parts={"prompt": lengths[:, 0]})
    assert again.choice(layout="prompt_left") == found.choice()
    assert found.choice(layout="separate") == again.choice()


@settings(max_examples=15)
@given(pairs=st.lists(st.tuples(*[st.integers(0, 6)] * 3), min_size=1, max_size=8), limit=st.integers(1, 6))
def test_the_same_pairs_have_nothing_to_score_as_for_the_collator(
    pairs: list[tuple[int, int, int]], limit: int
) -> None:
    pairs = [(0, 1, 1), *pairs]
    lengths = np.array(pairs)
    collator = PreferenceCollator(inputs="split", pad_token_id=0, return_tensors="np", max_length=limit)
    found = inspect(lengths[:, 1:] + lengths[:, :1], collator, parts={"prompt": lengths[:, 0]})
    raised = 0
    for index in range(len(pairs)):
        try:
            collated(collator, lengths, ways.Plan(np.array([index]), np.array([0, 1])))
        except ValueError as error:
            assert "leaves nothing to score" in str(error)  # noqa: PT017 - some are refused, and counted
            raised += 1
    assert (found.unscored, found.refused, found.sampled) == (raised, raised, len(pairs) - raised)


def test_no_way_goes_below_what_sides_of_one_width_force() -> None:
    prompt, chosen, rejected = log_normal(2000)
    lengths = np.column_stack([prompt + chosen, prompt + rejected])
    found = inspect(lengths, "concatenated")
    least = found.least[0]
    assert least.padded == int((2 * lengths.max(axis=1)).sum())
    assert least.real == int(lengths.sum())
    assert all(each.share >= least.share for each in found.choices if each.layout == "concatenated")
    assert [(each.layout, each.share) for each in found.least[1:]] == [("separate", 0.0), ("padding_free", 0.0)]


def test_the_order_of_transformers(monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = pytest.importorskip("transformers.trainer_pt_utils").get_length_grouped_indices
    random = np.random.default_rng(1)
    for pairs, batch_size in ((1, 4), (5, 2), (400, 4), (1003, 2)):
        longer = random.permutation(pairs).astype(np.int64)  # all differ: one order alone is right
        order = torch.from_numpy(np.random.default_rng(7).permutation(pairs))
        monkeypatch.setattr(torch, "randperm", lambda *_args, order=order, **_options: order)
        plan = ways.grouped(longer, batch_size, 7)
        assert plan.order.tolist() == theirs(longer.tolist(), batch_size)
        assert plan.bounds.tolist() == [*range(0, pairs, batch_size), pairs]


def test_a_shape_has_rows_as_well() -> None:
    found = inspect([[5, 3]] * 5, "separate", batch_size=2)
    assert [(each.shapes, each.batches) for each in found.choices if each.layout == "separate"][:4] == [(2, 3)] * 4


def test_sorted_pairs_come_with_the_longest_first() -> None:
    plan = ways.in_order(np.array([3, 9, 9, 1]), 3)
    assert plan.order.tolist() == [1, 2, 0, 3]
    assert plan.bounds.tolist() == [0, 3, 4]


@given(pairs=rows, limit=st.none() | st.integers(1, 60), prompts=st.lists(st.integers(0, 600), min_size=25))
def test_what_is_cut(pairs: list[tuple[int, int]], limit: int | None, prompts: list[int]) -> None:
    lengths = np.array(pairs) * 30
    prompt = np.minimum(prompts[: len(pairs)], lengths.min(axis=1))
    found = cuts(lengths, limit, prompts=prompt)
    assert cuts(lengths, limit) == tuple(dataclasses.replace(each, unscored=None) for each in found)
    limits = [each.max_length for each in found]
    assert limits == sorted(set(limits))
    longest = lengths.max()
    assert {512 * 2**power for power in range(5) if 512 * 2**power < longest} <= set(limits)
    assert [each.max_length for each in found if each.why == "max_length"] == ([] if limit is None else [limit])
    for each in found:
        over = [[max(length - each.max_length, 0) for length in pair] for pair in lengths.tolist()]
        assert each.pairs == sum(any(pair) for pair in over)
        assert each.rows == sum(length > 0 for pair in over for length in pair)
        assert each.tokens == sum(map(sum, over))
        assert each.pair_share == each.pairs / len(pairs)
        assert each.row_share == each.rows / (2 * len(pairs))
        assert each.unscored == sum(
            any(length > own and min(length, each.max_length) <= own for length in pair)
            for pair, own in zip(lengths.tolist(), prompt.tolist(), strict=True)
        )
        assert each.token_share == (each.tokens / lengths.sum() if lengths.sum() else 0)
        assert each.rows or each.why
        if each.why.startswith("percentile"):
            assert 100 * each.pairs <= (100 - int(each.why.split()[1])) * len(pairs)


@given(values=st.lists(st.integers(0, 10**6) | st.integers(0, 3), min_size=1, max_size=30))
def test_distributions(values: list[int]) -> None:
    one, other = distributions({"one": np.array(values), "other": np.array([5, 7])}, "tokens")
    assert (one.least, one.most, one.total) == (min(values), max(values), sum(values))
    assert one.mean == pytest.approx(np.mean(values))
    in_order = sorted(values)
    for percent, value in ((50, one.p50), (90, one.p90), (99, one.p99)):
        assert value == in_order[-(-percent * len(values) // 100) - 1]
    assert one.edges == other.edges
    assert list(one.edges) == sorted(set(one.edges))
    assert one.edges[0] <= min(*values, 5)
    assert one.edges[-1] > max(*values, 7)
    for count, first, stop in zip(one.counts, one.edges[:-1], one.edges[1:], strict=True):
        assert count == sum(first <= value < stop for value in values)


def test_tiles_are_counted_as_often_as_they_are_sent() -> None:
    lengths = np.array([[4, 4], [2, 2], [3, 3]])
    tiles = [1, 0, 5]
    text = inspect(lengths, "separate", batch_size=3).choice()
    once = inspect(lengths, "separate", batch_size=3, tiles=tiles, tile_bytes=100)
    assert once.choice().bytes_most == text.bytes_most + 600
    twice = inspect(lengths, "concatenated", batch_size=3, tiles=tiles, tile_bytes=100).choice()
    assert twice.bytes_most == inspect(lengths, "concatenated", batch_size=3).choice().bytes_most + 1200
    assert inspect(lengths, "separate", batch_size=3, parts={"tiles": tiles}, tile_bytes=100) == once
    of_tiles = once.distributions[-1]
    assert (of_tiles.name, of_tiles.unit, of_tiles.total, of_tiles.most) == ("tiles", "tiles", 6, 5)
    unknown = inspect(lengths, "separate", batch_size=3, tiles=tiles)
    assert unknown.choice() == text
    assert unknown.distributions == once.distributions


def test_memory_of_workers() -> None:
    found = inspect([[4, 4], [2, 2], [3, 3]], "separate", batch_size=2, workers=3, prefetch=4)
    of_way = {each.way: each for each in found.memory}
    assert list(of_way) == ["shuffled", "grouped", "sorted", "pairs"]
    sorted_batches = found.choice(way="sorted")
    assert of_way["sorted"].batches == 13
    assert of_way["sorted"].bytes_mean == 13 * sorted_batches.bytes_mean
    assert of_way["sorted"].bytes_most == 13 * sorted_batches.bytes_most
    alone = inspect([[4, 4]], "separate", workers=0)
    assert alone.memory[0].batches == 1


def test_what_the_collator_refuses_is_in_no_batch() -> None:
    lengths = np.array([[5, 3], [60, 2], [2, 8]])
    bucketed = PreferenceCollator("concatenated", pad_token_id=0, buckets=(8, 16))
    strict = PreferenceCollator("concatenated", pad_token_id=0, max_length=10, truncation_mode="error")
    for collator in (bucketed, strict):
        found = inspect(lengths, collator)
        assert (found.pairs, found.refused, found.sampled) == (3, 1, 2)
        assert found.choice().real == 18
        assert found.distributions[0].most == 60
    flat = inspect(lengths, PreferenceCollator("padding_free", pad_token_id=0, buckets=(12, 16)), batch_size=2)
    assert (flat.refused, flat.choice().refused, flat.choice().batches) == (1, 1, 1)
    assert (flat.choice().real, flat.choice().padded, flat.choice().share) == (0, 0, 0)
    assert flat.choice(way="pairs").real == 18
    # Buckets are for rows or for all of a batch: the others have exact widths.
    assert flat.choice(layout="separate").rounding == "exact"


@given(
    pairs=st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12)), min_size=1, max_size=8),
    layout=st.sampled_from(["separate", "padding_free"]),
    options=st.sampled_from(
        [
            {"buckets": (4, 8)},
            {"max_length": 6, "truncation_mode": "error"},
            {"max_length": 9, "buckets": (12,), "row_multiple_of": 3},
        ]
    ),
)
def test_the_same_pairs_are_refused_as_by_the_sampler(
    pairs: list[tuple[int, int]], layout: str, options: dict[str, Any]
) -> None:
    collator = PreferenceCollator(layout, pad_token_id=0, **options)
    refused = padding.refused(collator._table, np.array([(0, 0), *pairs]))
    sampler = PairBatchSampler(np.array([(0, 0), *pairs]), collator, batch_size=1, oversize="drop")
    assert np.flatnonzero(refused).tolist() == sampler.dropped.tolist()


def test_pairs_beyond_the_budget() -> None:
    lengths = np.array([[5, 3], [60, 2], [2, 8], [4, 4]])
    found = inspect(lengths, "concatenated", max_tokens=40)
    assert (found.too_large, found.proposed) == (1, "budget")
    assert found.choice(way="budget").real == 26
    assert found.choice(way="budget").padded_most <= 40
    assert found.choice(way="pairs").real == 88
    assert inspect([[2, 8], [9, 9]], "concatenated", max_tokens=16).too_large == 1
    # A multiple of 64 is more than any batch may have.
    with pytest.raises(KeyError, match="rounding='multiple of 64', way='budget': no such choice was looked at"):
        found.choice(rounding="multiple of 64", way="budget")
    flat = inspect(lengths, "padding_free", max_tokens=40)
    assert flat.bucket_lists[0].buckets == (40,)


def test_buckets_fit_the_batches_of_every_epoch() -> None:
    lengths = np.array([[10, 10], [30, 31], [50, 20], [5, 5]])
    padded = inspect(lengths, "separate", batch_size=2)
    assert {each.buckets[-1] for each in padded.bucket_lists} == {56}
    flat = inspect(lengths, "padding_free", batch_size=2)  # 61 + 70 tokens is the most
    assert {each.buckets[-1] for each in flat.bucket_lists} == {136}
    assert [len(each.buckets) for each in inspect(lengths, "separate", buckets=2).bucket_lists] == [1, 2]
    rows_of_12 = PreferenceCollator("separate", pad_token_id=0, row_multiple_of=12)
    for each in inspect(lengths, rows_of_12).bucket_lists:
        assert all(bucket % 24 == 0 for bucket in each.buckets)


def test_what_fits_no_batch_has_no_bucket() -> None:
    """Else the largest bucket would be one that no batch has: a list of one less."""
    rows = [[length, length] for length in range(1, 65)]
    for layout in ("separate", "concatenated", "padding_free"):
        found = inspect([*rows, [9000, 9000]], layout, max_tokens=256, buckets=4)
        assert found.too_large == 1
        assert found.bucket_lists == inspect(rows, layout, max_tokens=256, buckets=4).bucket_lists


def test_a_layout_of_ones_own() -> None:
    matrices = (
        Matrix((("best",), ("worst",)), (Column("one"),), tokens="{}_ids", length=Length(multiple_of=4)),
        Matrix((("other",),), (Column("two", dtype="int32"), Column("three", of="ones")), tokens="{}_ids"),
    )
    found = inspect([[3, 5, 9], [1, 1, 1]], Layout("mine", matrices), batch_size=2)
    assert [each.name for each in found.distributions] == ["best", "worst", "other", "longer side"]
    assert found.rounding == "as the layout says"
    assert {each.layout for each in found.choices} == {"mine"}
    assert (found.choice().padded, found.choice().bytes_most) == (8 * 4 + 9 * 2, 32 * 8 + 18 * 12)
    assert found.choice(rounding="exact").padded == 5 * 4 + 9 * 2
    assert found.choice(rounding="multiple of 8").padded == 8 * 4 + 16 * 2
    single = inspect([[3], [1]], Layout("single", matrices[1:]), batch_size=2)
    assert [each.name for each in single.distributions] == ["other"]
    # Columns that samples may leave out count no bytes, but where there are no others.
    maybe = Matrix((("a",),), (Column("a", of="{}_x", optional=True),), tokens="{}_ids")
    assert inspect([[3]], Layout("maybe", (maybe,))).choice().bytes_most == 24


def test_completions_are_shown_where_prompts_are_known() -> None:
    collator = PreferenceCollator("concatenated", inputs="split", pad_token_id=0)
    found = inspect([[7, 9], [5, 4]], collator, parts={"prompt": [3, 4]})
    assert [(each.name, each.total) for each in found.distributions] == [
        ("prompt", 7),
        ("chosen", 5),
        ("rejected", 6),
        ("prompt + chosen", 12),
        ("prompt + rejected", 13),
        ("longer side", 14),
    ]
    (lengths, *_) = drawings(found)
    assert [text.get_text() for text in lengths.figure.legends[0].get_texts()] == [
        "longer side",
        "rejected",
        "chosen",
        "prompt",
    ]
    (lengths, *_) = drawings(inspect([[7, 9], [5, 4]], collator))
    assert [text.get_text() for text in lengths.figure.legends[0].get_texts()] == [
        "longer side",
        "prompt + rejected",
        "prompt + chosen",
    ]


def test_which_layouts_are_compared() -> None:
    lengths = np.array([[3, 4]])
    for layout, others in (
        ("separate", ["concatenated", "padding_free"]),
        ("interleaved", ["separate", "padding_free"]),
        ("prompt_left", ["separate", "concatenated", "padding_free"]),
    ):
        given_lengths = np.array([[1, 2, 3]]) if layout == "prompt_left" else lengths
        assert [form.layout.name for form in forms(named(layout), given_lengths, {})] == [layout, *others]
    left = PreferenceCollator("concatenated", pad_token_id=0, max_length=2, truncation_mode="error", buckets=(4, 8))
    with_prompts = forms(left._table, lengths, {"prompt": np.array([3])})
    assert with_prompts[-1].lengths.tolist() == [[3, 0, 1]]
    assert with_prompts[-1].layout.matrices[0].length.max_length is None


@pytest.mark.parametrize("lengths", [[[0, 0]] * 5, [[7, 7]] * 9, [[1, 0]], [[3, 3]] * 20 + [[100_000, 2]]])
@pytest.mark.parametrize("layout", ["separate", "concatenated", "padding_free"])
def test_small_and_uneven_inputs(lengths: list[list[int]], layout: str) -> None:
    found = inspect(lengths, layout, batch_size=4, max_tokens=300_000)
    assert all(0 <= each.share <= 1 for each in found.choices)
    assert found.advice
    assert json.loads(json.dumps(dataclasses.asdict(found)))["pairs"] == len(lengths)


def test_of_many_pairs_some_are_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inspecting, "SAMPLE", 100)
    prompt, chosen, _ = log_normal(300)
    lengths = np.column_stack([prompt, chosen])
    found = inspect(lengths, "separate", tiles=np.arange(300), seed=-1)
    assert (found.pairs, found.sampled) == (300, 100)
    assert found.distributions[0].total == int(prompt.sum())
    assert found.distributions[-1].total == 44850
    assert found.choice().batches == 13
    assert found.bucket_lists[0].buckets[0] >= lengths.max()
    assert found == inspect(lengths, "separate", tiles=np.arange(300), seed=-1)


@pytest.mark.parametrize("limit", [{"batch_size": 4}, {"max_tokens": 40_000}])
def test_drawn_pairs_pad_as_all_would(monkeypatch: pytest.MonkeyPatch, limit: dict[str, Any]) -> None:
    monkeypatch.setattr(inspecting, "SAMPLE", 1000)
    prompt, chosen, _ = log_normal(4000)
    lengths = np.column_stack([prompt, chosen])
    found = inspect(lengths, "separate", **limit)
    whole = PairBatchSampler(lengths, "separate", **limit)
    small = PairBatchSampler(lengths[:1000], "separate", **limit)
    share = found.choice(way=found.proposed).share
    assert abs(share - whole.padding_share()) < abs(share - small.padding_share()) / 4


ERRORS: list[tuple[Any, type[Exception], str]] = [
    (
        {"lengths": np.zeros((0, 2), np.int64)},
        ValueError,
        "lengths has shape [0, 2], expected [n, 2] of layout 'separate' (chosen, rejected), n at least 1",
    ),
    ({"lengths": [1, 2]}, ValueError, "lengths has shape [2], expected [n, 2] of layout 'separate' (chosen, rejected)"),
    (
        {"lengths": [[1, 2, 3]], "collator": named("concatenated", "split")},
        ValueError,
        "lengths has shape [1, 3], expected [n, 2]",
    ),
    ({"lengths": [[1.5, 2]]}, TypeError, "lengths has dtype float64, expected integers"),
    ({"lengths": [[1, -2]]}, ValueError, "lengths has -2, expected no negative number"),
    ({"parts": {"prompt": [1, 2]}}, ValueError, "parts['prompt'] has shape [2], expected [1]: one number a pair"),
    (
        {"parts": {"prompt": [4]}},
        ValueError,
        "pair 0: parts['prompt'] is 4, more than its shorter row of 3 tokens",
    ),
    ({"tiles": [[1]]}, ValueError, "tiles has shape [1, 1], expected [1]: one number a pair"),
    ({"tile_bytes": -1}, ValueError, "tile_bytes=-1: expected 0 or more"),
    ({"batch_size": 0}, ValueError, "batch_size=0: expected 1 or more"),
    ({"max_tokens": 0}, ValueError, "max_tokens=0: expected 1 or more"),
    ({"max_tokens": 7}, ValueError, "max_tokens=7: every pair has more, the smallest 8 padded tokens"),
    ({"workers": -1}, ValueError, "workers=-1: expected 0 or more"),
    ({"prefetch": 0}, ValueError, "prefetch=0: expected 1 or more"),
    ({"buckets": 0}, ValueError, "buckets=0: expected 1 or more"),
    ({"seed": "x"}, TypeError, "seed='x': expected an integer"),
    ({"collator": "pairwise"}, ValueError, "layout='pairwise': expected "),
    (
        {"collator": PreferenceCollator(pad_token_id=0, buckets=(2, 4))},
        ValueError,
        "the collator would refuse all 1 pairs: every one is longer than it allows",
    ),
    (
        {"collator": PreferenceCollator(inputs="split", pad_token_id=0, max_length=2), "parts": {"prompt": [2]}},
        ValueError,
        "the collator would refuse all 1 pairs: every one is longer than it allows, or its prompt leaves nothing",
    ),
    (
        {"collator": Layout("any", (Matrix((("*",),), (Column("{}"),)),))},
        ValueError,
        "layout 'any' depends on the keys of the samples: expected one that names its rows",
    ),
]


@pytest.mark.parametrize(("arguments", "wrong", "message"), ERRORS)
def test_what_is_wrong_is_named(arguments: dict[str, Any], wrong: type[Exception], message: str) -> None:
    call = {"lengths": [[5, 3]], "collator": "separate", **arguments}
    with pytest.raises(wrong) as caught:
        inspect(call.pop("lengths"), call.pop("collator"), **call)
    assert str(caught.value).startswith(message)


def test_what_is_found_is_plain() -> None:
    found = inspect([[3, 4], [9, 9]], "separate", parts={"prompt": [1, 2]}, tiles=[1, 2], max_tokens=100)

    def plain(value: Any) -> bool:
        if dataclasses.is_dataclass(value):
            return all(plain(getattr(value, field.name)) for field in dataclasses.fields(value))
        return all(map(plain, value)) if type(value) is tuple else type(value) in {int, float, str, type(None)}

    assert plain(found)
    assert {type(each) for each in (found, *found.choices, *found.cuts, *found.distributions)} == {
        Inspection,
        Choice,
        Cut,
        Distribution,
    }
    assert padding.share(0, 0) == 0


def test_nothing_heavy_is_imported() -> None:
    heavy = {"matplotlib", "rich", "torch", "transformers", "pyarrow"}
    succeeds(f"import sys, dpo_collate.inspection.html; assert not {heavy} & set(sys.modules)")
