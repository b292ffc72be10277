"""The reference of ``dpo_collate.testing``: what it says for examples written by hand, and what it takes."""

from __future__ import annotations

import functools
import re
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dpo_collate import ImageTokens, PreferenceCollator
from dpo_collate.layout import Column, Layout, Length, Matrix
from dpo_collate.named import named
from dpo_collate.testing import Array, batches, reference_collate
from dpo_collate.testing.comparing import outcome
from dpo_collate.trainers import trl
from fewer import fewer

PAIR = {
    "chosen_input_ids": [5, 6, 7],
    "chosen_labels": [-100, 6, 7],
    "rejected_input_ids": [5],
    "rejected_labels": [5],
}
OTHER = {"chosen_input_ids": [8], "chosen_labels": [8], "rejected_input_ids": [], "rejected_labels": []}


def ints(*rows: list[int]) -> Array:
    return Array("int64", (len(rows), len(rows[0])), [*rows])


def test_pairs_padded_each_to_a_width_of_its_own() -> None:
    assert reference_collate([PAIR, OTHER], pad_token_id=9) == {
        "chosen_input_ids": ints([5, 6, 7], [8, 9, 9]),
        "chosen_labels": ints([-100, 6, 7], [8, -100, -100]),
        "chosen_attention_mask": ints([1, 1, 1], [1, 0, 0]),
        "rejected_input_ids": ints([5], [9]),
        "rejected_labels": ints([5], [-100]),
        "rejected_attention_mask": ints([1], [0]),
    }


def test_options_are_those_of_the_collator() -> None:
    options: dict[str, Any] = {"padding_side": "left", "pad_to_multiple_of": 4, "max_length": 2}
    batch = reference_collate([PAIR, OTHER], "concatenated", pad_token_id=9, label_pad_token_id=-1, **options)
    assert batch["input_ids"] == ints([9, 9, 5, 6], [9, 9, 9, 8], [9, 9, 9, 5], [9, 9, 9, 9])
    assert batch["labels"] == ints([-1, -1, -100, 6], [-1, -1, -1, 8], [-1, -1, -1, 5], [-1, -1, -1, -1])
    collator = PreferenceCollator("concatenated", pad_token_id=9, label_pad_token_id=-1, **options)
    assert reference_collate([PAIR, OTHER], collator) == batch


def test_rows_end_to_end() -> None:
    batch = reference_collate([PAIR, OTHER], "padding_free", pad_token_id=9, pad_to_multiple_of=4)
    assert batch["input_ids"] == ints([5, 6, 7, 8, 5, 9, 9, 9])
    assert batch["position_ids"] == ints([0, 1, 2, 0, 0, 0, 1, 2])
    assert batch["cu_seq_lens_q"] == Array("int32", (6,), [0, 3, 4, 5, 5, 8])
    assert batch["max_length_q"] == 3


def test_what_may_stand_for_a_layout() -> None:
    sample = {"prompt_ids": [5], "chosen_ids": [6, 7], "rejected_ids": [8]}
    drop_in = trl.DataCollatorForPreference(0, max_length=2)
    expected = reference_collate([sample], trl.DPO, pad_token_id=0, max_length=2)
    assert expected["input_ids"] == ints([5, 6], [5, 8])
    assert reference_collate([sample], drop_in) == expected
    assert reference_collate([sample], functools.partial(drop_in)) == expected
    collator = PreferenceCollator("concatenated", inputs="split", pad_token_id=0)
    for wide in (functools.partial(collator, min_length=4), lambda samples: collator(samples, min_length=4)):
        assert reference_collate([sample], wide)["input_ids"].shape == (2, 4)
    assert reference_collate([sample], collator, min_length=5)["input_ids"].shape == (2, 5)


@pytest.mark.parametrize(
    ("arguments", "error", "sentence"),
    [
        ({}, TypeError, "pad_token_id is missing: only a collator has one already"),
        ({"layout": "seperate", "pad_token_id": 0}, ValueError, "layout='seperate': expected 'separate', "),
        ({"pad_token_id": 0.5}, TypeError, "pad_token_id=0.5: expected an integer"),
        ({"pad_token_id": 0, "max_len": 5}, TypeError, "max_len=5: expected an option of PreferenceCollator: inputs, "),
        ({"layout": len}, TypeError, "<built-in function len>: expected 'separate', "),
        (
            {"layout": PreferenceCollator(pad_token_id=1), "pad_token_id": 0},
            ValueError,
            "pad_token_id=0: a collator has its options, expected none beside it",
        ),
        (
            {"layout": named("separate"), "pad_token_id": 0, "inputs": "split"},
            ValueError,
            "inputs='split': only a named layout has forms to choose from",
        ),
    ],
)
def test_wrong_arguments(arguments: dict[str, Any], error: type[Exception], sentence: str) -> None:
    with pytest.raises(error, match=f"^{re.escape(sentence)}"):
        reference_collate([PAIR], **arguments)


# --- image tokens ---------------------------------------------------------------------------------

TOKENS = ImageTokens(7, per_tile=2)


def with_image(row: list[int], flags: list[int] | None = None, tiles: int = 1) -> dict[str, Any]:
    images = {"pixel_values": torch.ones(tiles, 1)} | ({} if flags is None else {"image_flags": torch.tensor(flags)})
    return {f"{side}_{key}": row for side in ("chosen", "rejected") for key in ("input_ids", "labels")} | images


@pytest.mark.parametrize(
    ("sample", "options", "expected"),
    [
        (with_image([7, 7, 1]), {}, list),
        (with_image([7, 1]), {}, ValueError),
        (with_image([7, 7, 7, 7], [1, 0], 2), {}, ValueError),
        (with_image([7, 7], [1, 0], 2), {}, list),
        (with_image([7, 7, 1]), {"max_length": 2}, list),
        (with_image([1, 7, 7]), {"max_length": 2}, ValueError),
        (with_image([1, 7, 7]), {"max_length": 2, "truncation_mode": "keep_end"}, list),
        (with_image([7, 7, 1]), {"max_length": 2, "image_tokens": None}, ValueError),
        (PAIR | {"chosen_input_ids": [7, 7, 7]}, {}, ValueError),
    ],
)
def test_image_tokens(sample: dict[str, Any], options: dict[str, Any], expected: type) -> None:
    collator = PreferenceCollator(**{"pad_token_id": 0, "image_tokens": TOKENS, **options})
    found = outcome(reference_collate, [sample], collator)
    assert found is expected if issubclass(expected, Exception) else type(found) is expected
    assert outcome(collator, [sample]) == found


WRONG: list[tuple[type[Exception], str, Any]] = [
    (KeyError, "image_grid_thw", None),
    (TypeError, "image_grid_thw", torch.tensor([[1.0, 2.0, 2.0]])),
    (ValueError, "image_grid_thw", torch.tensor([[2, 2]])),
    (ValueError, "image_grid_thw", torch.tensor([[2, 2, 2]])),
    (ValueError, "pixel_values", torch.ones(5, 2)),
]


@pytest.mark.parametrize(("error", "key", "value"), WRONG)
def test_grids(error: type[Exception], key: str, value: Any) -> None:
    collator = PreferenceCollator("interleaved", pad_token_id=0, image_tokens=ImageTokens(7, per_grid=2))
    good = with_image([7]) | {"pixel_values": torch.ones(4, 2), "image_grid_thw": torch.tensor([[1, 2, 2]])}
    assert outcome(collator, [good]) == outcome(reference_collate, [good], collator)
    assert outcome(reference_collate, [good | {key: value}], collator) is error
    assert outcome(collator, [good | {key: value}]) is error


@pytest.mark.parametrize("name", ["separate", "interleaved", "prompt_left"])
@given(data=st.data())
@fewer(4)
def test_image_tokens_match_the_collator(name: str, data: st.DataObject) -> None:
    choices = [TOKENS, ImageTokens(7, per_grid=2), (ImageTokens(8, per_grid=1, medium="video_grid_thw"), TOKENS)]
    tokens: Any = TOKENS if name == "prompt_left" else data.draw(st.sampled_from(choices))
    options: dict[str, Any] = {} if name == "prompt_left" else {"max_length": data.draw(st.sampled_from([None, 6, 14]))}
    inputs: Any = data.draw(st.sampled_from([None, "split"]))
    collator = PreferenceCollator(name, pad_token_id=0, inputs=inputs, image_tokens=tokens, **options)
    samples = data.draw(batches(collator))
    assert outcome(collator, samples) == outcome(reference_collate, samples, collator)


# --- what a wrong collator looks like -------------------------------------------------------------


def test_a_row_that_is_cut_at_the_wrong_end_is_found() -> None:
    length = Length(max_length=2)
    table = Layout("own", (Matrix((("a",),), (Column("ids"),), tokens="{}_ids", length=length),))
    assert reference_collate([{"a_ids": [1, 2, 3]}], table, pad_token_id=0)["ids"] == ints([1, 2])
    assert reference_collate([{"a_ids": [1, 2, 3]}], table, pad_token_id=0, truncation_mode="keep_end")["ids"] == ints(
        [2, 3]
    )
