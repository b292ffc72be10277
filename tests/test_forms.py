"""Samples of other forms: tuples, rows with a first dimension of one, and tables that depend on their keys."""

from __future__ import annotations

from collections import UserDict
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from dpo_collate import Layout, PreferenceCollator
from dpo_collate.layout import Column, Matrix, Media, Scalar
from dpo_collate.named import named
from pairs import PAIRS, full, listed
from sentences import OF_A_MAPPING

IDS = Matrix((("a",),), (Column("ids"),), tokens="{}")


# --- tuples ---------------------------------------------------------------------------------------

TUPLES = PreferenceCollator(
    Layout("tuples", (IDS,), (Media("image", ("image",)),), sample=("a", "image")), pad_token_id=0
)


def test_samples_that_are_tuples() -> None:
    given: list[Any] = [([1, 2], None), [[3], torch.ones(1)], {"a": [4]}, UserDict({"a": [5], "image": [2.0]})]
    wanted = {"ids": [[1, 2], [3, 0], [4, 0], [5, 0]], "image": [1.0, 2.0]}
    before = list(given)
    for samples in (given, tuple(given), iter(given)):
        assert listed(TUPLES(samples)) == wanted  # type: ignore[arg-type]
    assert given == before


@pytest.mark.parametrize(
    ("samples", "error", "sentence"),
    [
        ([([1], None), ([1],)], ValueError, "sample 1 has 1 parts, expected 2: a, image"),
        ([([1], None, 3)], ValueError, "sample 0 has 3 parts, expected 2: a, image"),
        ([([1], None), 5], TypeError, "sample 1: expected a mapping such as a dict, got int"),
        ([], ValueError, "the batch is empty: expected at least one sample"),
        (5, TypeError, "expected a list of samples or a table, got int"),
        ({"a": [1]}, TypeError, f"expected a list of samples or a table, got dict{OF_A_MAPPING}"),
    ],
)
def test_no_tuples(samples: Any, error: type[Exception], sentence: str) -> None:
    with pytest.raises(error) as caught:
        TUPLES(samples)
    assert caught.value.args == (sentence,)


# --- rows of one more dimension -------------------------------------------------------------------

LABELLED = Matrix((("a",),), (Column("ids"), Column("labels", of="{}_labels", pad=-1, optional=True)), tokens="{}")
UNBATCHED = PreferenceCollator(Layout("unbatched", (LABELLED,), unbatch=True), pad_token_id=0)
ROWS: list[tuple[Any, list[int]]] = [
    ([1, 2], [1, 2]),
    ([[1, 2]], [1, 2]),
    (([1, 2],), [1, 2]),
    (torch.tensor([[1, 2]]), [1, 2]),
    (torch.tensor([1, 2], dtype=torch.int16), [1, 2]),
    (np.array([[1, 2]]), [1, 2]),
    ([torch.tensor([1, 2])], [1, 2]),
    ((np.array([1, 2]),), [1, 2]),
    ([[np.int8(1), 2]], [1, 2]),
    ([5], [5]),
    ([torch.tensor(5)], [5]),
    ([], []),
    ([[]], []),
    (torch.zeros(1, 0), []),
]


@pytest.mark.parametrize(("row", "wanted"), ROWS, ids=[repr(row) for row, _ in ROWS])
def test_a_first_dimension_of_one(row: Any, wanted: list[int]) -> None:
    assert listed(UNBATCHED([{"a": row}])) == {"ids": [wanted]}
    assert listed(UNBATCHED([{"a": row, "a_labels": row}, {"a": [7] * 3, "a_labels": torch.tensor([[7] * 3])}])) == {
        "ids": [wanted + [0] * (3 - len(wanted)), [7] * 3],
        "labels": [wanted + [-1] * (3 - len(wanted)), [7] * 3],
    }


@pytest.mark.parametrize(
    ("row", "error", "rest"),
    [
        ([[1, 2], [3, 4]], TypeError, "holds [1, 2] at position 0, expected an integer"),
        ([[[1]]], TypeError, "holds [1] at position 0, expected an integer"),
        ([torch.ones(1, 1)], TypeError, "holds a Tensor at position 0, expected an integer"),
        (torch.ones(2, 2), ValueError, "has shape [2, 2], expected one dimension"),
        (torch.ones(1, 1, 1), ValueError, "has shape [1, 1, 1], expected one dimension"),
        (torch.ones(1, 2), TypeError, "has dtype float32, expected integers"),
        (np.ones((1, 1, 2)), ValueError, "has shape [1, 1, 2], expected one dimension"),
        (np.array(5), ValueError, "has shape [], expected one dimension"),
        (["x"], TypeError, "holds 'x' at position 0, expected an integer"),
        ("x", TypeError, "is 'x', expected a 1-D tensor, array or list of integers"),
    ],
)
def test_more_dimensions(row: Any, error: type[Exception], rest: str) -> None:
    with pytest.raises(error) as caught:
        UNBATCHED([{"a": [1]}, {"a": row}])
    assert caught.value.args == (f"sample 1: 'a' {rest}",)


# --- tables that depend on the keys ---------------------------------------------------------------

ANY = Layout(
    "any stem",
    (Matrix((("*",),), (Column("{}_ids"), Column("{}_mask", of="ones")), tokens="{}_ids"),),
    (Media("*_image", ("*_image",)),),
    (Scalar("*_score", ("*_score",), optional=True),),
)


def test_the_first_sample_says_what_there_is() -> None:
    collator = PreferenceCollator(ANY, pad_token_id=0)
    first = {"b_ids": [1], "a_ids": [2, 3], "a_image": torch.ones(1, 2), "z_score": 1, "other": None}
    assert listed(collator([first, first | {"a_image": None}])) == {
        "b_ids": [[1], [1]],
        "b_mask": [[1], [1]],
        "a_ids": [[2, 3], [2, 3]],
        "a_mask": [[1, 1], [1, 1]],
        "a_image": [[1.0, 1.0]],
        "z_score": [1.0, 1.0],
    }
    assert listed(collator([{"c_ids": [4]}, {"c_ids": []}])) == {"c_ids": [[4], [0]], "c_mask": [[1], [0]]}
    assert listed(collator(iter([UserDict({5: 6, "c_ids": [4]})]))) == {"c_ids": [[4]], "c_mask": [[1]]}  # type: ignore[arg-type]
    parts = PreferenceCollator(replace(ANY, sample=("a_ids", "b_ids")), pad_token_id=0)
    assert list(parts([([1], [2])])) == ["a_ids", "a_mask", "b_ids", "b_mask"]  # type: ignore[list-item]


def test_forms_are_kept_up_to_a_number() -> None:
    collator = PreferenceCollator(ANY, pad_token_id=0)
    for _ in range(2):
        for index in range(70):
            assert list(collator([{f"{index}_ids": [index]}])) == [f"{index}_ids", f"{index}_mask"]
    # Whenever there are 64 they are forgotten.
    assert list(collator._forms) == [(f"{index}_ids",) for index in range(58, 70)]
    form = collator._forms["60_ids",]
    assert collator([{"60_ids": [1]}])
    assert collator._forms["60_ids",] is form


def test_batches_in_the_order_of_each_first_sample() -> None:
    collator = PreferenceCollator(replace(ANY, returns="sample"), pad_token_id=0)
    for keys in (["a_ids", "b_ids", "z_score"], ["z_score", "b_ids", "a_ids"]) * 2:
        first = {key: 1.0 if key == "z_score" else [1] for key in keys}
        assert list(collator([first, dict(reversed(first.items()))]))[:3] == keys


REMOVED = (
    "transformers' Trainer removes the columns that the model's forward does not name; "
    "pass remove_unused_columns=False in its TrainingArguments"
)


@pytest.mark.parametrize(
    ("samples", "error", "sentence"),
    [
        ([{"a": [1]}], KeyError, "sample 0: no key like '*_ids'"),
        (
            [{"a_ids": [1]}, {"b_ids": [1]}],
            KeyError,
            "sample 1: the key 'b_ids' is not in sample 0: expected in all samples or in none",
        ),
        ([{"a_ids": [1]}, {"x": [1]}], KeyError, "sample 1: no 'a_ids' (its keys: 'x')"),
        ([{"a_ids": [1]}, 5], TypeError, "sample 1: expected a mapping such as a dict, got int"),
        ([], ValueError, "the batch is empty: expected at least one sample"),
        (iter(()), ValueError, "the batch is empty: expected at least one sample"),
        (None, TypeError, "expected a list of samples or a table, got NoneType"),
        ({"a_ids": [1]}, TypeError, f"expected a list of samples or a table, got dict{OF_A_MAPPING}"),
        ([5], TypeError, "sample 0: expected a mapping such as a dict, got int"),
        ([{}], KeyError, f"sample 0: an empty dict: {REMOVED}"),
        ([{"a_ids": [1]}, {}], KeyError, f"sample 1: an empty dict: {REMOVED}"),
    ],
)
def test_samples_that_say_nothing(samples: Any, error: type[Exception], sentence: str) -> None:
    collator = PreferenceCollator(ANY, pad_token_id=0)
    with pytest.raises(error) as caught:
        collator(samples)
    assert caught.value.args == (sentence,)
    assert not [keys for keys in collator._forms if keys != ("a_ids",)]


# --- batches of other forms -------------------------------------------------------------------------


def test_a_nest_of_names() -> None:
    media = (Media("pixels", ("pixel_values",)),)
    layout = replace(named("concatenated"), media=media, returns=("labels", {"x": "input_ids", "images": "pixels"}))
    collator: Any = PreferenceCollator(layout, pad_token_id=0)
    labels, rest = collator([full(PAIRS[0])])
    assert labels.tolist() == [[-7, -7, 3, -100], [-7, -7, 4, 5]]
    assert list(rest) == ["x"]
    assert list(collator([full(PAIRS[0]) | {"pixel_values": [0.5]}])[1]) == ["x", "images"]
    with pytest.raises(
        KeyError, match="the batch has no 'pixels', as no sample has what it is made of: a tuple cannot"
    ):
        PreferenceCollator(replace(layout, returns=("labels", "pixels")), pad_token_id=0)([full(PAIRS[0])])
