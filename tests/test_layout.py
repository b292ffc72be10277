"""The layout language: what its dataclasses refuse, and layouts of one's own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import FrozenInstanceError, replace
from typing import Any

import numpy as np
import pytest

from dpo_collate import PreferenceCollator
from dpo_collate.layout import IMAGES, NAMED, SEPARATE, Column, Layout, Length, Matrix, Media, Scalar

# --- wrong tables ---------------------------------------------------------------------------------

Make = Callable[..., Any]

IDS = Column("ids", pad="pad_token_id")
ROW = Matrix((("chosen",),), (IDS,))


def column(**fields: Any) -> Column:
    return Column(**{"name": "ids", **fields})


def matrix(**fields: Any) -> Matrix:
    return Matrix(**{"rows": (("chosen",), ("rejected",)), "columns": (IDS,), **fields})


def media(**fields: Any) -> Media:
    return Media(**{"name": "pixels", "keys": ("pixels",), **fields})


def scalar(**fields: Any) -> Scalar:
    return Scalar(**{"name": "margin", "keys": ("margin",), **fields})


def layout(**fields: Any) -> Layout:
    return Layout(**{"name": "mine", "matrices": (ROW,), **fields})


SYMBOLS = "expected 'pad_token_id' or 'label_pad_token_id'"
DTYPES = "expected 'int64' or 'int32' or 'bool' or 'float32' or 'float64'"

WRONG: list[tuple[Make, dict[str, Any], type[Exception], str]] = [
    (Length, {"max_length": 0}, ValueError, "max_length=0: expected 1 or more"),
    (Length, {"max_length": 2.0}, TypeError, "max_length=2.0: expected an integer"),
    (Length, {"max_length": True}, TypeError, "max_length=True: expected an integer"),
    (
        Length,
        {"truncation_mode": "keep"},
        ValueError,
        "truncation_mode='keep': expected 'keep_start' or 'keep_end' or 'error'",
    ),
    (Length, {"min_length": -1}, ValueError, "min_length=-1: expected 0 or more"),
    (Length, {"min_length": None}, TypeError, "min_length=None: expected an integer"),
    (Length, {"multiple_of": 0}, ValueError, "multiple_of=0: expected 1 or more"),
    (Length, {"multiple_of": "8"}, TypeError, "multiple_of='8': expected an integer"),
    (Length, {"row_multiple_of": -8}, ValueError, "row_multiple_of=-8: expected 1 or more"),
    (Length, {"row_multiple_of": 1.5}, TypeError, "row_multiple_of=1.5: expected an integer"),
    (Length, {"buckets": [8, 16]}, TypeError, "buckets=[8, 16]: expected a tuple of int"),
    (Length, {"buckets": 8}, TypeError, "buckets=8: expected a tuple of int"),
    (Length, {"buckets": (8, 1.5)}, TypeError, "buckets=(8, 1.5): expected a tuple of int"),
    (Length, {"buckets": (0, 8)}, ValueError, "buckets=0: expected 1 or more"),
    (
        Length,
        {"buckets": (8, 12), "row_multiple_of": 8},
        ValueError,
        "buckets=(8, 12): 12 is no multiple of 8",
    ),
    (
        Length,
        {"buckets": (8,), "multiple_of": 8},
        ValueError,
        "buckets and multiple_of both round the width: expected one of them",
    ),
    (column, {"of": "labels"}, ValueError, "of='labels': expected 'tokens' or 'ones' or '{}_<key>'"),
    (column, {"pad": "eos_token_id"}, ValueError, f"pad='eos_token_id': {SYMBOLS}"),
    (column, {"pad": None}, TypeError, "pad=None: expected an integer"),
    (column, {"pad": True}, TypeError, "pad=True: expected an integer"),
    (column, {"pad": 2**63}, ValueError, f"pad={2**63}: expected an integer of 64 bits"),
    (column, {"dtype": "int8"}, ValueError, f"dtype='int8': {DTYPES}"),
    (column, {"dtype": np.int64}, ValueError, f"dtype={np.int64!r}: {DTYPES}"),
    (column, {"on": 1}, TypeError, "on=1: expected a tuple of int"),
    (column, {"on": ("chosen",)}, TypeError, "on=('chosen',): expected a tuple of int"),
    (column, {"differs_from": "pad"}, ValueError, f"differs_from='pad': {SYMBOLS}"),
    (column, {"differs_from": []}, TypeError, "differs_from=[]: expected an integer"),
    (column, {"default": 1}, ValueError, "default=1: expected None or 'ones'"),
    (matrix, {"rows": ("chosen",)}, TypeError, "rows=('chosen',): expected a tuple of tuple"),
    (matrix, {"rows": [("chosen",)]}, TypeError, "rows=[('chosen',)]: expected a tuple of tuple"),
    (matrix, {"rows": ((1,),)}, TypeError, "rows=(1,): expected a tuple of str"),
    (matrix, {"rows": ()}, ValueError, "rows=(): expected rows of equally many stems, at least one"),
    (matrix, {"rows": ((),)}, ValueError, "rows=((),): expected rows of equally many stems, at least one"),
    (
        matrix,
        {"rows": (("a",), ("a", "b"))},
        ValueError,
        "rows=(('a',), ('a', 'b')): expected rows of equally many stems, at least one",
    ),
    (matrix, {"columns": (7,)}, TypeError, "columns=(7,): expected a tuple of Column"),
    (matrix, {"columns": [IDS]}, TypeError, f"columns={[IDS]!r}: expected a tuple of Column"),
    (matrix, {"tokens": "input_ids"}, ValueError, "tokens='input_ids': expected '{}' where the stem goes"),
    (matrix, {"side": "both"}, ValueError, "side='both': expected 'left' or 'right'"),
    (
        matrix,
        {"columns": (column(on=(1,)),)},
        ValueError,
        "on=(1,): expected indices of the 1 segments of a row",
    ),
    (
        matrix,
        {"columns": (column(on=(-1,)),)},
        ValueError,
        "on=(-1,): expected indices of the 1 segments of a row",
    ),
    (
        matrix,
        {"columns": (column(name="{}_ids"),)},
        ValueError,
        "name='{}_ids': a matrix of several rows has no one stem to name it by",
    ),
    (media, {"keys": "pixels"}, TypeError, "keys='pixels': expected a tuple of str"),
    (media, {"keys": ()}, ValueError, "keys=(): expected at least one key"),
    (media, {"blank": [3]}, TypeError, "blank=[3]: expected a tuple of int"),
    (media, {"blank": (3, 0)}, ValueError, "blank=0: expected 1 or more"),
    (scalar, {"keys": ["margin"]}, TypeError, "keys=['margin']: expected a tuple of str"),
    (scalar, {"keys": ()}, ValueError, "keys=(): expected at least one key"),
    (scalar, {"dtype": "float16"}, ValueError, f"dtype='float16': {DTYPES}"),
    (scalar, {"default": [0.0]}, TypeError, "default=[0.0]: expected an integer"),
    (layout, {"matrices": ()}, ValueError, "matrices=(): expected at least one matrix"),
    (layout, {"matrices": [ROW]}, TypeError, f"matrices={[ROW]!r}: expected a tuple of Matrix"),
    (layout, {"matrices": (IDS,)}, TypeError, f"matrices={(IDS,)!r}: expected a tuple of Matrix"),
    (layout, {"media": (scalar(),)}, TypeError, f"media={(scalar(),)!r}: expected a tuple of Media"),
    (layout, {"scalars": (media(),)}, TypeError, f"scalars={(media(),)!r}: expected a tuple of Scalar"),
    (layout, {"reserved": "chosen_"}, TypeError, "reserved='chosen_': expected a tuple of str"),
    (layout, {"ignored": (1,)}, TypeError, "ignored=(1,): expected a tuple of str"),
    (layout, {"order": "random"}, ValueError, "order='random': expected 'grouped' or 'interleaved'"),
    (layout, {"extra": "keep"}, ValueError, "extra='keep': expected 'drop' or 'list' or 'stack' or 'error'"),
    (layout, {"returns": "tuple"}, ValueError, "returns='tuple': expected None or 'sample'"),
    (
        layout,
        {"scalars": (scalar(name="ids"),)},
        ValueError,
        "layout 'mine' names 'ids' twice: expected each key of the batch once",
    ),
    (
        layout,
        {"media": (media(flags_of="images"),)},
        ValueError,
        "flags_of='images': expected the name of another medium",
    ),
    (
        layout,
        {"media": (media(flags_of="pixels"),)},
        ValueError,
        "flags_of='pixels': expected the name of another medium",
    ),
]


@pytest.mark.parametrize(("make", "fields", "error", "sentence"), WRONG, ids=[row[3] for row in WRONG])
def test_wrong_field(make: Make, fields: dict[str, Any], error: type[Exception], sentence: str) -> None:
    make()
    with pytest.raises(error) as caught:
        make(**fields)
    assert caught.value.args == (sentence,)


@pytest.mark.parametrize(
    ("fields", "pad", "sentence"),
    [
        ({"pad": 0.0}, 0, "column 'ids' pads with 0.0, which does not fit int64"),
        ({"pad": 2**31, "dtype": "int32"}, 0, "column 'ids' pads with 2147483648, which does not fit int32"),
        (
            {"pad": "pad_token_id", "dtype": "int32"},
            -(2**40),
            "column 'ids' pads with -1099511627776, which does not fit int32",
        ),
        ({"pad": -100, "dtype": "bool"}, 0, "column 'ids' pads with -100, which does not fit bool"),
        ({"pad": "label_pad_token_id", "dtype": "bool"}, 0, "column 'ids' pads with -100, which does not fit bool"),
        ({"pad": 1e39, "dtype": "float32"}, 0, "column 'ids' pads with 1e39, which does not fit float32"),
    ],
)
def test_pad_that_does_not_fit(fields: dict[str, Any], pad: int, sentence: str) -> None:
    table = layout(matrices=(replace(ROW, columns=(column(**fields),)),))
    with pytest.raises(ValueError, match="which does not fit") as caught:
        PreferenceCollator(table, pad_token_id=pad)
    assert caught.value.args == (sentence,)


def test_multiples_beyond_any_width() -> None:
    length = Length(multiple_of=2**61 - 1, row_multiple_of=2**61)
    with pytest.raises(ValueError, match=r"^multiple_of and row_multiple_of are too large$"):
        PreferenceCollator(layout(matrices=(replace(ROW, length=length),)), pad_token_id=0)


def test_tables_are_values() -> None:
    with pytest.raises(FrozenInstanceError):
        SEPARATE.name = "mine"  # type: ignore[misc]
    assert replace(SEPARATE, name="mine") != SEPARATE
    assert hash(replace(SEPARATE)) == hash(SEPARATE)


# --- names ----------------------------------------------------------------------------------------


def test_names() -> None:
    table = layout(
        matrices=(
            Matrix((("prompt", "chosen"),), (Column("{}_input_ids"), Column("mask", of="ones")), tokens="{}_ids"),
            matrix(columns=(Column("both"),)),
        ),
        media=IMAGES,
        scalars=(scalar(),),
    )
    assert table.names() == ("chosen_input_ids", "mask", "both", "pixel_values", "image_flags", "margin")


def test_named_layouts() -> None:
    assert list(NAMED) == ["separate"]
    assert all(name == table.name for name, table in NAMED.items())
    assert SEPARATE.names() == (
        *("chosen_input_ids", "chosen_labels", "chosen_attention_mask"),
        *("rejected_input_ids", "rejected_labels", "rejected_attention_mask"),
        *("pixel_values", "image_flags"),
        *("ref_chosen_logps", "ref_rejected_logps", "margin"),
    )


# --- layouts of one's own -------------------------------------------------------------------------


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


@pytest.mark.parametrize(("tokens", "width"), [(0, 2), (1, 2), (2, 2), (3, 5), (5, 5), (6, 11), (11, 11)])
def test_width_is_the_least_bucket_that_is_large_enough(tokens: int, width: int) -> None:
    table = layout(matrices=(replace(ROW, length=Length(buckets=(5, 11, 2))),))
    assert batch_of(table, {"chosen_input_ids": [1] * tokens})["ids"].shape == (1, width)


def test_a_row_longer_than_every_bucket() -> None:
    table = layout(matrices=(replace(ROW, length=Length(buckets=(5, 2))),))
    sentence = "sample 1: 'chosen_input_ids' needs a width of 6, more than the largest bucket 5"
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
    table = layout(matrices=(replace(ROW, columns=(column(pad="pad_token_id", nonempty=True),)),))
    if message is None:
        assert batch_of(table, {"chosen_input_ids": ids})["ids"].tolist() == [ids]
        return
    with pytest.raises(ValueError, match=f"^sample 1: {message}: expected at least one value$"):
        batch_of(table, {"chosen_input_ids": [1]}, {"chosen_input_ids": ids})


def test_scalar_defaults() -> None:
    table = layout(
        scalars=(Scalar("weight", ("weight",), default=0.5), Scalar("pair", ("a", "b"), "int64", default=-1))
    )
    batch = batch_of(table, {"chosen_input_ids": [1], "weight": 2, "b": 3}, {"chosen_input_ids": [1], "weight": None})
    assert batch["weight"].tolist() == [2.0, 0.5]
    assert batch["pair"].tolist() == [-1, -1, 3, -1]
