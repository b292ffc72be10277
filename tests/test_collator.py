"""The collator as an object: what it refuses, copies, equality, use; and ``dpo_collate``."""

from __future__ import annotations

import copy
import pickle
import sys
from collections import deque
from dataclasses import FrozenInstanceError, asdict
from typing import Any

import numpy as np
import pytest
import torch

from dpo_collate import Layout, PreferenceCollator, dpo_collate
from dpo_collate.layout import Column, Length, Matrix
from dpo_collate.named import SEPARATE
from dpo_collate.testing.comparing import fingerprint, outcome
from dpo_collate.testing.reference.cells import Array
from sentences import OF_A_MAPPING

# --- wrong options --------------------------------------------------------------------------------

LAYOUTS = (
    "expected 'separate', 'concatenated', 'interleaved', 'prompt_left', 'padding_free', or a dpo_collate.layout.Layout"
)
SHAPE = "expected the shape of a tile, such as (3, 448, 448)"
WRONG: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"layout": "stacked"}, ValueError, f"layout='stacked': {LAYOUTS}"),
    ({"layout": None}, TypeError, f"layout=None: {LAYOUTS}"),
    ({"layout": [SEPARATE]}, TypeError, f"layout={[SEPARATE]!r}: {LAYOUTS}"),
    (
        {"pad_token_id": None},
        TypeError,
        (
            "pad_token_id=None: expected an integer; of a tokenizer without a pad token, "
            "set tokenizer.pad_token = tokenizer.eos_token first"
        ),
    ),
    ({"label_pad_token_id": None}, TypeError, "label_pad_token_id=None: expected an integer"),
    ({"pad_token_id": "0"}, TypeError, "pad_token_id='0': expected an integer"),
    ({"pad_token_id": False}, TypeError, "pad_token_id=False: expected an integer"),
    ({"pad_token_id": 2**63}, ValueError, "pad_token_id=9223372036854775808: expected an integer of 64 bits"),
    ({"label_pad_token_id": -100.0}, TypeError, "label_pad_token_id=-100.0: expected an integer"),
    (
        {"label_pad_token_id": -(2**63) - 1},
        ValueError,
        "label_pad_token_id=-9223372036854775809: expected an integer of 64 bits",
    ),
    ({"padding_side": "both"}, ValueError, "padding_side='both': expected None or 'left' or 'right'"),
    ({"pad_to_multiple_of": 0}, ValueError, "pad_to_multiple_of=0: expected 1 or more"),
    ({"pad_to_multiple_of": 8.0}, TypeError, "pad_to_multiple_of=8.0: expected an integer"),
    ({"max_length": 0}, ValueError, "max_length=0: expected 1 or more"),
    ({"max_length": 2**62}, ValueError, f"max_length={2**62}: expected less than 2**62"),
    ({"max_length": "512"}, TypeError, "max_length='512': expected an integer"),
    (
        {"truncation_mode": "keep"},
        ValueError,
        "truncation_mode='keep': expected None or 'keep_start' or 'keep_end' or 'error'",
    ),
    ({"attention_mask": False}, ValueError, "attention_mask=False: expected 'auto' or 'value' or None"),
    ({"extra_keys": "keep"}, ValueError, "extra_keys='keep': expected None or 'drop' or 'list' or 'stack' or 'error'"),
    ({"blank_image": 448}, TypeError, f"blank_image=448: {SHAPE}"),
    ({"blank_image": ()}, TypeError, f"blank_image=(): {SHAPE}"),
    ({"blank_image": "3"}, TypeError, f"blank_image='3': {SHAPE}"),
    ({"blank_image": (3, 0)}, ValueError, "blank_image=0: expected 1 or more"),
    ({"blank_image": (3, 4.0)}, TypeError, "blank_image=4.0: expected an integer"),
    ({"return_tensors": "tf"}, ValueError, "return_tensors='tf': expected 'pt' or 'np'"),
    ({"return_tensors": None}, ValueError, "return_tensors=None: expected 'pt' or 'np'"),
    ({"max_batch_bytes": 0}, ValueError, "max_batch_bytes=0: expected 1 or more"),
    ({"max_batch_bytes": 1e9}, TypeError, "max_batch_bytes=1000000000.0: expected an integer"),
]

BUCKETS = Layout("bucketed", (Matrix((("chosen",),), (Column("ids"),), length=Length(buckets=(8,))),))


@pytest.mark.parametrize(("options", "error", "sentence"), WRONG, ids=[row[2] for row in WRONG])
def test_wrong_option(options: dict[str, Any], error: type[Exception], sentence: str) -> None:
    with pytest.raises(error) as caught:
        PreferenceCollator(**{"pad_token_id": 0, **options})
    assert caught.value.args == (sentence,)


def test_an_option_goes_before_what_the_layout_says() -> None:
    samples = [{"chosen_input_ids": [1, 2, 3]}]
    widths = {
        8: PreferenceCollator(BUCKETS, pad_token_id=0),
        4: PreferenceCollator(BUCKETS, pad_token_id=0, pad_to_multiple_of=2),
        5: PreferenceCollator(BUCKETS, pad_token_id=0, buckets=(2, 5)),
    }
    assert [collator(samples)["ids"].shape[1] for collator in widths.values()] == list(widths)


def test_options_that_the_layout_has_no_use_for() -> None:
    with pytest.raises(ValueError, match=r"^blank_image=\(3, 2, 2\): layout 'bucketed' has no images with flags$"):
        PreferenceCollator(BUCKETS, pad_token_id=0, blank_image=(3, 2, 2))


def test_pad_token_id_has_no_default() -> None:
    with pytest.raises(TypeError, match="missing 1 required keyword-only argument: 'pad_token_id'"):
        PreferenceCollator()  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="takes from 1 to 2 positional arguments"):
        PreferenceCollator("separate", 0)  # type: ignore[call-arg]


def test_tensors_without_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(
        ModuleNotFoundError, match=r"; tensors need torch \(the extra 'torch' of dpo_collate\)"
    ) as caught:
        PreferenceCollator(pad_token_id=0)
    assert caught.value.name == "torch"
    assert PreferenceCollator(pad_token_id=0, return_tensors="np")([pair()])["chosen_labels"].tolist() == [[5, 6, 7]]


@pytest.mark.parametrize(
    ("min_length", "error", "sentence"),
    [
        (-1, ValueError, "min_length=-1: expected 0 or more"),
        (True, TypeError, "min_length=True: expected an integer"),
        ("4", TypeError, "min_length='4': expected an integer"),
    ],
)
def test_wrong_min_length(min_length: Any, error: type[Exception], sentence: str) -> None:
    with pytest.raises(error) as caught:
        PreferenceCollator(pad_token_id=0)([pair()], min_length=min_length)
    assert caught.value.args == (sentence,)


# --- the collator as an object --------------------------------------------------------------------


def pair(chosen: Any = (5, 6, 7), rejected: Any = (8,), **others: Any) -> dict[str, Any]:
    """A pair whose labels are its ids."""
    ids = {"chosen_input_ids": list(chosen), "rejected_input_ids": list(rejected)}
    return {**ids, "chosen_labels": list(chosen), "rejected_labels": list(rejected), **others}


OPTIONS: list[dict[str, Any]] = [
    {},
    {"padding_side": "left", "max_length": 2, "truncation_mode": "keep_end", "pad_to_multiple_of": 4},
    {"attention_mask": "value", "label_pad_token_id": -1, "extra_keys": "stack", "return_tensors": "np"},
    {"blank_image": [3, 2, 2], "attention_mask": None, "max_batch_bytes": 2**20},
    {"layout": Layout("mine", SEPARATE.matrices, reserved=(), returns="sample")},
]


@pytest.mark.parametrize(
    ("options", "shown"),
    [
        (OPTIONS[0], ""),
        (OPTIONS[1], ", padding_side='left', pad_to_multiple_of=4, max_length=2, truncation_mode='keep_end'"),
        (OPTIONS[2], ", label_pad_token_id=-1, attention_mask='value', extra_keys='stack', return_tensors='np'"),
        (OPTIONS[3], ", attention_mask=None, blank_image=(3, 2, 2), max_batch_bytes=1048576"),
    ],
)
def test_repr(options: dict[str, Any], shown: str) -> None:
    assert repr(PreferenceCollator(pad_token_id=7, **options)) == f"PreferenceCollator(pad_token_id=7{shown})"


def test_repr_of_a_layout_of_ones_own() -> None:
    collator = PreferenceCollator(**OPTIONS[4], pad_token_id=7)
    assert repr(collator) == "PreferenceCollator(layout=<Layout 'mine'>, pad_token_id=7)"


def test_options_as_a_dict() -> None:
    options = asdict(PreferenceCollator(pad_token_id=7, blank_image=(3, 4, 4)))  # what loggers of configurations do
    assert list(options)[:2] == ["layout", "pad_token_id"]
    assert PreferenceCollator(**options) == PreferenceCollator(pad_token_id=7, blank_image=(3, 4, 4))


@pytest.mark.parametrize("options", OPTIONS)
def test_equality_and_hash(options: dict[str, Any]) -> None:
    collator = PreferenceCollator(pad_token_id=7, **options)
    assert collator == PreferenceCollator(pad_token_id=7, **options)
    assert hash(collator) == hash(PreferenceCollator(pad_token_id=7, **options))
    assert collator != PreferenceCollator(pad_token_id=8, **options)
    assert [collator == PreferenceCollator(pad_token_id=7, **others) for others in OPTIONS].count(True) == 1


def test_options_stay_as_they_are() -> None:
    with pytest.raises(FrozenInstanceError):
        PreferenceCollator(pad_token_id=7).pad_token_id = 8  # type: ignore[misc]


COPIES = {
    **{f"pickle {protocol}": protocol for protocol in range(pickle.HIGHEST_PROTOCOL + 1)},
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
}


@pytest.mark.parametrize("how", COPIES)
@pytest.mark.parametrize("options", OPTIONS)
def test_copies_make_the_same_batches(options: dict[str, Any], how: str) -> None:
    collator = PreferenceCollator(pad_token_id=7, **options)
    way: Any = COPIES[how]
    other = way(collator) if callable(way) else pickle.loads(pickle.dumps(collator, way))
    assert other is not collator
    assert other == collator
    assert repr(other) == repr(collator)
    samples = [pair(), pair([7], [7, 8])]
    assert outcome(other, samples, min_length=5) == outcome(collator, samples, min_length=5)


def test_batches_are_independent() -> None:
    collator = PreferenceCollator(pad_token_id=0)
    first = collator([pair()])
    first["chosen_input_ids"][:] = -5
    second = collator([pair([1, 2, 3])])
    assert first["chosen_input_ids"].tolist() == [[-5, -5, -5]]
    assert second["chosen_input_ids"].tolist() == [[1, 2, 3]]
    with pytest.raises(KeyError):
        collator([{}])
    assert outcome(collator, [pair([1, 2, 3])]) == [(key, Array.of(tensor)) for key, tensor in second.items()]


def test_any_sequence_of_samples() -> None:
    collator = PreferenceCollator(pad_token_id=0, extra_keys="list")
    image = {"pixel_values": torch.ones(1, 2), "image_flags": torch.ones(1)}
    samples = [pair(**image), pair([1])]
    expected = outcome(collator, samples)
    assert isinstance(expected, list)
    for given in (tuple(samples), deque(samples), iter(samples), (sample for sample in samples), np.array(samples)):
        assert outcome(collator, given) == expected


@pytest.mark.parametrize(
    ("samples", "error", "sentence"),
    [
        ([], ValueError, "the batch is empty: expected at least one sample"),
        (None, TypeError, "expected a list of samples or a table, got NoneType"),
        ({}, TypeError, f"expected a list of samples or a table, got dict{OF_A_MAPPING}"),
        ("ab", TypeError, "expected a list of samples or a table, got str"),
        (3, TypeError, "expected a list of samples or a table, got int"),
        ([3], TypeError, "sample 0: expected a mapping such as a dict, got int"),
    ],
)
def test_no_samples(samples: Any, error: type[Exception], sentence: str) -> None:
    with pytest.raises(error) as caught:
        PreferenceCollator(pad_token_id=0)(samples)
    assert caught.value.args == (sentence,)


# --- dpo_collate ----------------------------------------------------------------------------------

SIX = [
    *("chosen_input_ids", "chosen_labels", "rejected_input_ids", "rejected_labels"),
    *("pixel_values", "image_flags"),
]


def test_six_fields_in_order() -> None:
    image = {"pixel_values": torch.ones(2, 3, 2, 2), "image_flags": torch.tensor([1, 0])}
    masks = {"chosen_attention_mask": [1, 1, 1], "rejected_attention_mask": [1]}
    numbers = {"ref_chosen_logps": -1.0, "ref_rejected_logps": -2.0, "margin": 0.5, "note": "dropped"}
    samples = [{**numbers, **image, **masks, **pair()}, pair([9], [1, 2])]
    before = fingerprint(samples)
    batch = dpo_collate(samples)
    assert list(batch) == SIX
    assert batch["chosen_input_ids"].tolist() == [[5, 6, 7], [9, 0, 0]]
    assert batch["chosen_labels"].tolist() == [[5, 6, 7], [9, -100, -100]]
    assert batch["rejected_input_ids"].tolist() == [[8, 0], [1, 2]]
    assert batch["rejected_labels"].tolist() == [[8, -100], [1, 2]]
    assert batch["pixel_values"].shape == (2, 3, 2, 2)
    assert batch["image_flags"].tolist() == [1, 0]
    assert fingerprint(samples) == before


def test_six_fields_with_other_pads() -> None:
    image = {"pixel_values": torch.ones(1, 3, 2, 2), "image_flags": torch.tensor([1])}
    batch = dpo_collate([pair(**image), pair([9])], pad_token_id=1, label_pad_token_id=-1)
    assert batch["chosen_input_ids"].tolist() == [[5, 6, 7], [9, 1, 1]]
    assert batch["chosen_labels"].tolist() == [[5, 6, 7], [9, -1, -1]]


@pytest.mark.parametrize(
    "nothing", [{}, {"pixel_values": None, "image_flags": None}, {"pixel_values": torch.ones(0, 3)}]
)
def test_six_fields_need_an_image(nothing: dict[str, Any]) -> None:
    sentence = "sample 0: no tile in 'pixel_values', nor in that of any other sample of the batch"
    with pytest.raises(KeyError) as caught:
        dpo_collate([pair(**nothing)])
    assert caught.value.args == (sentence,)


def test_six_fields_refuse_a_misspelt_key() -> None:
    with pytest.raises(KeyError, match="sample 0: unknown key 'chosen_label': it begins like a key that matters"):
        dpo_collate([pair(chosen_label=[1])])
