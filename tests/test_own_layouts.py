"""Layouts of one's own: what the words of a table mean, in matrices that are written out."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from dpo_collate import PreferenceCollator
from dpo_collate.layout import Column, Layout, Length, Matrix, Media, Scalar
from dpo_collate.named import SEPARATE

IDS = Column("ids", pad="pad_token_id")
ROW = Matrix((("chosen",),), (IDS,))


def layout(**fields: Any) -> Layout:
    return Layout(**{"name": "mine", "matrices": (ROW,), **fields})


def batch_of(table: Layout, *samples: dict[str, Any], **options: Any) -> dict[str, Any]:
    return PreferenceCollator(table, pad_token_id=9, return_tensors="np", **options)(samples)


STACKED = Layout(
    "stacked",
    matrices=(
        Matrix(
            rows=(("prompt", "chosen"), ("prompt", "rejected")),
            tokens="{}_ids",
            columns=(
                Column("input_ids", pad="pad_token_id"),
                Column("attention_mask", of="ones"),
                Column("completion_mask", of="ones", on=(1,)),
            ),
        ),
    ),
    scalars=(Scalar("ref_logps", ("ref_chosen_logps", "ref_rejected_logps")),),
)
"""What TRL's DPOTrainer takes."""

PAIRS = (
    {
        "prompt_ids": [1, 2],
        "chosen_ids": [3],
        "rejected_ids": [4, 5],
        "ref_chosen_logps": -1.0,
        "ref_rejected_logps": -2.0,
    },
    {"prompt_ids": [6], "chosen_ids": [7, 8], "rejected_ids": [], "ref_chosen_logps": -3, "ref_rejected_logps": -4},
)


def test_both_sides_in_one_matrix() -> None:
    batch = batch_of(STACKED, *PAIRS)
    assert list(batch) == ["input_ids", "attention_mask", "completion_mask", "ref_logps"]
    assert batch["input_ids"].tolist() == [
        [1, 2, 3, 9],  # prompt + chosen 0, padded
        [6, 7, 8, 9],  # prompt + chosen 1, padded
        [1, 2, 4, 5],  # prompt + rejected 0
        [6, 9, 9, 9],  # prompt + rejected 1, which is empty
    ]
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 0], [1, 1, 1, 0], [1, 1, 1, 1], [1, 0, 0, 0]]
    assert batch["completion_mask"].tolist() == [[0, 0, 1, 0], [0, 1, 1, 0], [0, 0, 1, 1], [0, 0, 0, 0]]
    assert batch["ref_logps"].tolist() == [-1.0, -3.0, -2.0, -4.0]
    assert batch["ref_logps"].dtype == np.float32


def test_interleaved() -> None:
    batch = batch_of(replace(STACKED, order="interleaved"), *PAIRS, padding_side="left")
    assert batch["input_ids"].tolist() == [
        [9, 1, 2, 3],  # chosen 0
        [1, 2, 4, 5],  # rejected 0
        [9, 6, 7, 8],  # chosen 1
        [9, 9, 9, 6],  # rejected 1
    ]
    assert batch["ref_logps"].tolist() == [-1.0, -2.0, -3.0, -4.0]


@pytest.mark.parametrize(
    ("mode", "kept"),
    [
        # The window lies over the joined row: the prompt's end is cut off where the start is kept.
        ("keep_start", [[1, 2, 3], [6, 7, 8]]),
        ("keep_end", [[2, 3, 4], [6, 7, 8]]),
    ],
)
def test_truncation_of_joined_rows(mode: str, kept: list[list[int]]) -> None:
    table = replace(STACKED, scalars=(), matrices=(replace(STACKED.matrices[0], rows=(("prompt", "chosen"),)),))
    samples = ({"prompt_ids": [1, 2], "chosen_ids": [3, 4]}, {"prompt_ids": [6], "chosen_ids": [7, 8]})
    batch = batch_of(table, *samples, max_length=3, truncation_mode=mode)
    assert batch["input_ids"].tolist() == kept


def test_a_layout_that_nobody_has_named() -> None:
    # Prompt, chosen and rejected in one row of a flat batch: the prompt is read once, both answers follow it, each
    # counted from the end of the prompt by a trainer that knows the segments.
    columns = (
        Column("input_ids"),
        Column("labels", pad="label_pad_token_id", on=(1, 2)),
        Column("segment", of="segment", pad=-1),
        Column("position_ids", of="position"),
        Column("cu_seq_lens", of="cu_seq_lens", dtype="int32"),
    )
    row = Matrix((("prompt", "chosen", "rejected"),), columns, tokens="{}_ids", flat=True, length=Length(multiple_of=4))
    batch = batch_of(Layout("shared prompts", (row,), reserved=()), *PAIRS)
    assert {key: value.tolist() for key, value in batch.items()} == {
        "input_ids": [[1, 2, 3, 4, 5, 6, 7, 8]],
        "labels": [[-100, -100, 3, 4, 5, -100, 7, 8]],
        "segment": [[0, 0, 1, 2, 2, 0, 1, 1]],
        "position_ids": [[0, 1, 2, 3, 4, 0, 1, 2]],
        "cu_seq_lens": [0, 5, 8],
    }


def test_three_ways() -> None:
    # Chosen, rejected and a reference answer, all in one matrix [3B, L], and as many rewards.
    sides = ("chosen", "rejected", "reference")
    table = Layout(
        "three ways",
        (Matrix(tuple((side,) for side in sides), (Column("input_ids"), Column("lengths", of="length"))),),
        scalars=(Scalar("rewards", tuple(f"{side}_reward" for side in sides)),),
        returns=("input_ids", {"lengths": "lengths", "rewards": "rewards"}),
    )
    first = {"chosen_input_ids": [1, 2], "rejected_input_ids": [3], "reference_input_ids": [4]}
    second = {"chosen_input_ids": [5], "rejected_input_ids": [6], "reference_input_ids": []}
    rewards = {"chosen_reward": 0.5, "rejected_reward": 0.25, "reference_reward": 0}
    nest: Any = batch_of(table, {**first, **rewards}, {**second, **rewards})
    ids, more = nest
    assert ids.tolist() == [[1, 2], [5, 9], [3, 9], [6, 9], [4, 9], [9, 9]]
    assert more["lengths"].tolist() == [2, 1, 1, 1, 1, 0]
    assert more["rewards"].tolist() == [0.5, 0.5, 0.25, 0.25, 0, 0]


def test_parallel_columns_of_other_dtypes() -> None:
    table = layout(
        matrices=(
            Matrix(
                rows=(("chosen",),),
                columns=(
                    IDS,
                    Column("{}_weights", of="{}_weights", pad=-1.5, dtype="float32"),
                    Column("{}_types", of="{}_types", pad=7, dtype="int32"),
                    Column("{}_real", of="{}_real", pad=1, dtype="bool"),
                    Column("{}_scored", of="{}_types", differs_from=3, dtype="bool"),
                    Column("{}_exact", of="{}_exact", dtype="float64", optional=True),
                ),
                side="left",
            ),
        ),
    )
    first = {
        "chosen_input_ids": [1, 2],
        "chosen_weights": [0.1, 2],
        "chosen_types": [3, 4],
        "chosen_real": [True, False],
    }
    second = {"chosen_input_ids": [5], "chosen_weights": [np.inf], "chosen_types": [-1], "chosen_real": [0]}
    batch = batch_of(table, first, second)
    assert {key: str(array.dtype) for key, array in batch.items()} == {
        "ids": "int64",
        "chosen_weights": "float32",
        "chosen_types": "int32",
        "chosen_real": "bool",
        "chosen_scored": "bool",
        # chosen_exact: no sample has it
    }
    assert batch["chosen_weights"].tolist() == [[float(np.float32(0.1)), 2.0], [-1.5, np.inf]]
    assert batch["chosen_types"].tolist() == [[3, 4], [7, -1]]
    assert batch["chosen_real"].tolist() == [[True, False], [True, False]]
    assert batch["chosen_scored"].tolist() == [[False, True], [False, True]]


def test_integers_are_rounded_once() -> None:
    column = Column("weights", of="{}_weights", dtype="float32")
    table = layout(matrices=(replace(ROW, columns=(column,)),))
    for number, rounded in ((2**24 + 1, 2**24), (2**24 + 3, 2**24 + 4), (2**60 + 2**36 + 1, 2**60 + 2**37)):
        sample = {"chosen_input_ids": [1], "chosen_weights": [number]}
        # By way of float64 the last would be rounded twice, to 2**60.
        assert batch_of(table, sample)["weights"].tolist() == [[float(rounded)]]


@pytest.mark.parametrize(("tokens", "width"), [(0, 2), (1, 2), (2, 2), (3, 5), (5, 5), (6, 11), (11, 11)])
def test_width_is_the_least_bucket_that_is_large_enough(tokens: int, width: int) -> None:
    table = layout(matrices=(replace(ROW, length=Length(buckets=(5, 11, 2))),))
    assert batch_of(table, {"chosen_input_ids": [1] * tokens})["ids"].shape == (1, width)


def test_a_row_longer_than_every_bucket() -> None:
    table = layout(matrices=(replace(ROW, length=Length(buckets=(5, 2))),))
    sentence = "sample 1: 'chosen_input_ids', the longest row, makes a width of 6, more than the largest bucket 5"
    with pytest.raises(ValueError, match=f"^{sentence}$"):
        batch_of(table, {"chosen_input_ids": [1]}, {"chosen_input_ids": [1] * 6})


@pytest.mark.parametrize(
    ("length", "width"),
    [
        (Length(), 5),
        (Length(min_length=7), 7),
        (Length(min_length=3), 5),
        (Length(multiple_of=5), 5),
        (Length(multiple_of=4, row_multiple_of=6), 12),
        (Length(row_multiple_of=3), 6),
        (Length(max_length=3, multiple_of=2), 4),
        (Length(max_length=3, min_length=6), 6),
    ],
)
def test_width(length: Length, width: int) -> None:
    table = layout(matrices=(replace(ROW, length=length),))
    assert batch_of(table, {"chosen_input_ids": [1] * 5})["ids"].shape == (1, width)


@pytest.mark.parametrize(
    ("ids", "message"),
    [([9, 9], "'chosen_input_ids' is all padding"), ([], "'chosen_input_ids' is all padding"), ([9, 3], None)],
)
def test_nonempty(ids: list[int], message: str | None) -> None:
    table = layout(matrices=(replace(ROW, columns=(Column("ids", pad="pad_token_id", nonempty=True),)),))
    if message is None:
        assert batch_of(table, {"chosen_input_ids": ids})["ids"].tolist() == [ids]
        return
    with pytest.raises(ValueError, match=f"^sample 1: {message}: expected at least one value$"):
        batch_of(table, {"chosen_input_ids": [1]}, {"chosen_input_ids": ids})


def test_media_of_several_keys() -> None:
    images = Media("images", ("chosen_image", "rejected_image"))
    table = layout(media=(images,))
    samples: list[dict[str, Any]] = [
        {"chosen_input_ids": [1] * 3, "chosen_image": np.zeros((1, 2)), "rejected_image": np.ones((1, 2))},
        {"chosen_input_ids": [1], "chosen_image": np.full((1, 2), 2.0), "rejected_image": None},
    ]
    assert batch_of(table, *samples)["images"].tolist() == [
        [0.0, 0.0],  # chosen 0
        [2.0, 2.0],  # chosen 1
        [1.0, 1.0],  # rejected 0
    ]
    interleaved = batch_of(replace(table, order="interleaved"), *samples)
    assert interleaved["images"].tolist() == [[0.0, 0.0], [1.0, 1.0], [2.0, 2.0]]
    # Messages name the sample and the key.
    wrong = [samples[0], samples[1] | {"rejected_image": np.zeros((1, 3))}]
    for order in ("grouped", "interleaved"):
        with pytest.raises(ValueError, match="sample 1: 'rejected_image' has tiles of shape"):
            batch_of(replace(table, order=order), *wrong)
    one_cut: list[dict[str, Any]] = [samples[0], {"chosen_input_ids": [1]}]
    with pytest.raises(ValueError, match="sample 0: truncation could cut image tokens"):
        batch_of(table, *one_cut, max_length=2)
    other_cut = [samples[0] | {"chosen_input_ids": [1]}, {"chosen_input_ids": [1, 2, 3]}]
    assert batch_of(table, *other_cut, max_length=2)["ids"].tolist() == [[1, 9], [1, 2]]


def test_scalar_defaults() -> None:
    table = layout(
        scalars=(Scalar("weight", ("weight",), default=0.5), Scalar("pair", ("a", "b"), "int64", default=-1))
    )
    batch = batch_of(table, {"chosen_input_ids": [1], "weight": 2, "b": 3}, {"chosen_input_ids": [1], "weight": None})
    assert batch["weight"].tolist() == [2.0, 0.5]
    assert batch["pair"].tolist() == [-1, -1, 3, -1]


def test_a_mask_made_out_of_labels_says_what_is_scored() -> None:
    # InternVL's data in TRL's batch.
    columns = (
        IDS,
        Column("completion_mask", of="{}_labels", differs_from="label_pad_token_id"),
    )
    table = layout(matrices=(replace(ROW, columns=columns),))
    sample = {"chosen_input_ids": [1, 2, 3], "chosen_labels": [-100, -100, 3]}
    assert batch_of(table, sample)["completion_mask"].tolist() == [[0, 0, 1]]
    sentence = "sample 0: truncation from 3 to 2 tokens leaves nothing to score in 'chosen_labels'"
    with pytest.raises(ValueError, match=f"^{sentence}$"):
        batch_of(table, sample, max_length=2)
    assert batch_of(table, sample, max_length=2, truncation_mode="keep_end")["completion_mask"].tolist() == [[0, 1]]


@pytest.mark.parametrize(
    ("ids", "exception", "sentence"),
    [
        (["a"], TypeError, "holds 'a' at position 0, expected an integer"),
        ([1, None], TypeError, "holds None at position 1, expected an integer"),
        ([2**63], OverflowError, f"holds {2**63} at position 0, which does not fit int64"),
        ([0.5], TypeError, "has dtype float64, expected integers"),
        (np.array([0.5]), TypeError, "has dtype float64, expected integers"),
        (np.array([0.5], np.float16), TypeError, "has dtype float16, expected integers"),
    ],
)
@pytest.mark.parametrize(
    "columns",
    [(Column("mask", of="ones"),), (Column("mask", differs_from=0),), (IDS,)],
    ids=["only their number is shown", "compared", "shown"],
)
def test_tokens_are_integers_whatever_is_shown_of_them(
    columns: tuple[Column, ...], ids: Any, exception: type[Exception], sentence: str
) -> None:
    table = layout(matrices=(replace(ROW, columns=columns),))
    with pytest.raises(exception) as caught:
        batch_of(table, {"chosen_input_ids": [1]}, {"chosen_input_ids": ids})
    assert caught.value.args == (f"sample 1: 'chosen_input_ids' {sentence}",)


TYPES = "{}_types"


@pytest.mark.parametrize(
    "columns",
    [
        (Column("a", of=TYPES, dtype="float32"), Column("b", of=TYPES)),
        (Column("b", of=TYPES), Column("a", of=TYPES, dtype="float32")),
    ],
)
def test_floats_are_of_use_where_every_column_can_show_them(columns: tuple[Column, ...]) -> None:
    table = layout(matrices=(replace(ROW, columns=columns),))
    with pytest.raises(TypeError) as caught:
        batch_of(table, {"chosen_input_ids": [1], "chosen_types": np.array([0.5], np.float16)})
    assert caught.value.args == ("sample 0: 'chosen_types' has dtype float16, expected integers",)


@pytest.mark.parametrize("optional", [(True, False), (False, True)])
def test_a_row_is_required_if_any_column_requires_it(optional: tuple[bool, bool]) -> None:
    columns = tuple(Column(f"types{index}", of=TYPES, optional=can) for index, can in enumerate(optional))
    table = layout(matrices=(replace(ROW, columns=columns),))
    with pytest.raises(TypeError, match=r"^sample 0: 'chosen_types' is None, expected a 1-D tensor, array or list of"):
        batch_of(table, {"chosen_input_ids": [1], "chosen_types": None})


def test_ids_are_padded_with_the_pad_id() -> None:
    columns = (Column("ids"), Column("mask", of="ones"), Column("by_value", differs_from=1), Column("zero", pad=0))
    table = layout(matrices=(replace(ROW, columns=columns),))
    batch = batch_of(table, {"chosen_input_ids": [1, 2]}, {"chosen_input_ids": [3]})
    assert batch["ids"].tolist() == [[1, 2], [3, 9]]
    assert batch["mask"].tolist() == [[1, 1], [1, 0]]
    assert batch["by_value"].tolist() == [[0, 1], [1, 0]]
    assert batch["zero"].tolist() == [[1, 2], [3, 0]]


def test_a_known_layout_that_knows_one_more_key() -> None:
    sides = {f"{side}_{key}": [1] for side in ("chosen", "rejected") for key in ("input_ids", "labels")}
    table = replace(SEPARATE, ignored=("prompt_id",))
    assert batch_of(table, {**sides, "prompt_id": "x"})["chosen_input_ids"].tolist() == [[1]]


JOINED = Matrix((("p", "c"),), (IDS, Column("types", of="{}_types", optional=True)), tokens="{}_ids")


@pytest.mark.parametrize("key", ["p_ids", "c_ids", "p_types", "c_types"])
@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("mode", ["keep_start", "keep_end"])
@pytest.mark.parametrize("max_length", [1, 2, 3, 4, 5, None])
@pytest.mark.parametrize("at", [0, 1, 2])
def test_what_is_cut_off_is_looked_at(key: str, side: Any, mode: Any, max_length: int | None, at: int) -> None:
    good = {"p_ids": [1, 2, 3], "c_ids": [4, 5, 6], "p_types": [1, 1, 1], "c_types": [2, 2, 2]}
    bad: dict[str, list[Any]] = {**good, key: [*good[key][:at], "x", *good[key][at + 1 :]]}
    table = layout(matrices=(JOINED,))
    with pytest.raises(TypeError) as caught:
        batch_of(table, good, bad, padding_side=side, max_length=max_length, truncation_mode=mode)
    assert caught.value.args == (f"sample 1: '{key}' holds 'x' at position {at}, expected an integer",)


@pytest.mark.parametrize("of", ["tokens", "{}_types"])
@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ([1, "x"], "holds 'x' at position 1, expected an integer"),
        (np.array([1, 0.5]), "has dtype float64, expected integers"),
        (np.array([1, 0.5], np.float16), "has dtype float16, expected integers"),
    ],
)
def test_a_segment_that_a_column_does_not_show_is_looked_at(of: str, values: Any, sentence: str) -> None:
    table = layout(matrices=(replace(JOINED, columns=(Column("shown", of=of, on=(1,)),)),))
    key = "p_ids" if of == "tokens" else "p_types"
    sample = {"p_ids": [1, 2], "c_ids": [3], "p_types": [1, 1], "c_types": [2], key: values}
    with pytest.raises(TypeError) as caught:
        batch_of(table, sample)
    assert caught.value.args == (f"sample 0: '{key}' {sentence}",)
