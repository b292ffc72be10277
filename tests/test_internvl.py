"""The drop-ins for InternVL's collators: equal to the originals, and better where they say so."""

from __future__ import annotations

import copy
import importlib.util
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dpo_collate.testing.comparing import fingerprint, outcome
from dpo_collate.testing.reference.cells import Array
from dpo_collate.trainers.internvl import concat_pad_data_collator, dpo_concat_pad_data_collator

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import ModuleType

# --- golden vectors: made by InternVL's own function ----------------------------------------------

VECTORS = json.loads((Path(__file__).parent / "data" / "internvl.json").read_text())


def read(entry: dict[str, Any]) -> Any:
    if "value" in entry:
        return entry["value"]
    if "ndarray" in entry:
        return np.array(entry["ndarray"], entry["dtype"]).reshape(entry["shape"])
    return torch.tensor(entry["tensor"], dtype=getattr(torch, entry["dtype"])).reshape(entry["shape"])


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["name"])
def test_golden_vector(vector: dict[str, Any]) -> None:
    samples = [{key: read(entry) for key, entry in sample.items()} for sample in vector["samples"]]
    before = fingerprint(samples)
    found = outcome(dpo_concat_pad_data_collator, samples, pad_id=vector["pad_id"])
    assert found == [(key, Array.of(read(vector["batch"][key]))) for key in vector["key_order"]]
    assert fingerprint(samples) == before


# --- what every user meets ------------------------------------------------------------------------


def pair(chosen: Sequence[int] = (5, 6), rejected: Sequence[int] = (7,), **others: Any) -> dict[str, Any]:
    ids = {"chosen_input_ids": torch.tensor(chosen), "rejected_input_ids": torch.tensor(rejected)}
    labels = {"chosen_labels": torch.tensor(chosen), "rejected_labels": torch.tensor(rejected)}
    return {**ids, **labels, **others}


def test_masks_compare_ids_with_the_pad_id() -> None:
    batch = dpo_concat_pad_data_collator([pair([5, 0, 6]), pair([0])])
    assert batch["chosen_attention_mask"].tolist() == [
        [True, False, True],  # a real 0 is masked, as in the original
        [False, False, False],  # a real 0, then padding
    ]
    assert dpo_concat_pad_data_collator([pair([5, 0])], pad_id=5)["chosen_attention_mask"].tolist() == [[False, True]]


def test_order_of_keys_is_that_of_the_first_sample() -> None:
    first = {"note": "left out", **pair(margin=1), "rejected_attention_mask": torch.ones(1)}
    second = dict(reversed(pair(margin=2, note=None).items()))
    assert list(dpo_concat_pad_data_collator([first, second])) == [
        *("chosen_input_ids", "rejected_input_ids", "chosen_labels", "rejected_labels"),
        *("margin", "rejected_attention_mask"),
        "chosen_attention_mask",  # made, and not in the first sample
    ]


def test_samples_stay_as_they_are() -> None:
    samples = [pair(), pair([1, 2, 3], [4, 5, 6], pixel_values=torch.ones(1, 3, 2, 2), image_flags=torch.ones(1))]
    samples[0] |= {"pixel_values": torch.ones(2, 3, 2, 2), "image_flags": torch.ones(2)}
    before = fingerprint(samples)
    first = outcome(dpo_concat_pad_data_collator, samples)
    assert outcome(dpo_concat_pad_data_collator, samples) == first
    assert fingerprint(samples) == before


def test_extra_keys() -> None:
    batch = dpo_concat_pad_data_collator(
        [
            pair(
                tensor=torch.tensor([1, 2], dtype=torch.int32),
                array=np.array([0.5], np.float64),
                whole=1,
                real=0.5,
                flag=True,
                nested=[[1], [2]],
                text="a",
                nothing=None,
                later=None,
            ),
            pair(
                tensor=torch.tensor([3, 4], dtype=torch.int32),
                array=np.array([1.5], np.float64),
                whole=2,
                real=1,
                flag=False,
                nested=[[3], [4]],
                text=2,
                nothing=None,
                later=3,
            ),
        ]
    )
    extra = {key: Array.of(batch[key]) for key in list(batch)[4:-2]}
    assert extra == {
        "tensor": Array("int32", (2, 2), [[1, 2], [3, 4]]),
        "array": Array("float64", (2, 1), [[0.5], [1.5]]),
        "whole": Array("int64", (2,), [1, 2]),
        "real": Array("float32", (2,), [0.5, 1.0]),
        "flag": Array("bool", (2,), [True, False]),
        "nested": Array("int64", (2, 2, 1), [[[1], [2]], [[3], [4]]]),
        # text, nothing and later: the first sample has a string or None
    }


def test_lists_tuples_and_arrays_work_like_tensors() -> None:
    tensors = [pair([5, 6, 7], [8]), pair([1], [2, 3])]
    expected = outcome(dpo_concat_pad_data_collator, tensors)
    for make in (list, tuple, np.array):
        samples = [{key: make(tensor.tolist()) for key, tensor in sample.items()} for sample in tensors]
        assert outcome(dpo_concat_pad_data_collator, samples) == expected


TILE = torch.zeros(1, 3, 2, 2)
FLAGS = "expected flags of the tiles of all samples, or of none"

DEVIATIONS: list[tuple[str, list[dict[str, Any]], type[Exception], str]] = [
    (
        "labels shorter than ids",
        [pair(), pair() | {"chosen_labels": torch.tensor([6])}],
        ValueError,
        "sample 1: 'chosen_labels' has 1 tokens, but 'chosen_input_ids' has 2",
    ),
    (
        "floating-point ids",
        [pair() | {"chosen_input_ids": torch.tensor([5.9, 6.1])}],
        TypeError,
        "sample 0: 'chosen_input_ids' has dtype float32, expected integers",
    ),
    (
        "a key that only a later sample has",
        [pair(), pair(margin=1)],
        KeyError,
        "sample 1: the key 'margin' is not in sample 0: expected in all samples or in none",
    ),
    (
        "more flags than tiles",
        [pair(pixel_values=TILE, image_flags=torch.ones(2))],
        ValueError,
        "sample 0: 'image_flags' has 2 flags, but 'pixel_values' has 1 tiles (its first dimension counts them)",
    ),
    (
        "tiles without flags, next to others that have them",
        [pair(pixel_values=TILE), pair(pixel_values=TILE, image_flags=torch.ones(1))],
        KeyError,
        f"sample 0: no 'image_flags', but 'pixel_values' has 1 tiles: {FLAGS}",
    ),
    (
        "flags without tiles",
        [pair(image_flags=torch.ones(1))],
        KeyError,
        "sample 0: no 'pixel_values', but 'image_flags' has 1 flags",
    ),
]


@pytest.mark.parametrize(
    ("samples", "error", "sentence"), [row[1:] for row in DEVIATIONS], ids=[r[0] for r in DEVIATIONS]
)
def test_what_the_original_accepts_by_accident(samples: list[Any], error: type[Exception], sentence: str) -> None:
    with pytest.raises(error) as caught:
        dpo_concat_pad_data_collator(samples)
    assert caught.value.args == (sentence,)


# --- single responses -----------------------------------------------------------------------------


def response(ids: Sequence[int], **others: Any) -> dict[str, Any]:
    return {"input_ids": torch.tensor(ids), "labels": torch.tensor(ids), **others}


def test_single_responses() -> None:
    batch = concat_pad_data_collator(
        [
            response([5, 6, 9], position_ids=torch.tensor([0, 1, 2]), loss_weight=torch.tensor([0.5, 1.0, 2.0])),
            response([9], position_ids=torch.tensor([4]), loss_weight=torch.tensor([0.25])),
        ],
        pad_id=9,
    )
    assert [(key, Array.of(tensor)) for key, tensor in batch.items()] == [
        ("input_ids", Array("int64", (2, 3), [[5, 6, 9], [9, 9, 9]])),
        ("labels", Array("int64", (2, 3), [[5, 6, 9], [9, -100, -100]])),
        ("position_ids", Array("int64", (2, 3), [[0, 1, 2], [4, 9, 9]])),  # padded with the pad id too
        ("loss_weight", Array("float32", (2, 3), [[0.5, 1.0, 2.0], [0.25, 9.0, 9.0]])),
        ("attention_mask", Array("bool", (2, 3), [[True, True, False], [False, False, False]])),
    ]


@pytest.mark.parametrize(("max_item_length", "width"), [(None, 3), (0, 3), (3, 3), (5, 5)])
def test_max_item_length_is_the_width(max_item_length: int | None, width: int) -> None:
    batch = concat_pad_data_collator([response([1, 2, 3]), response([4])], max_item_length)
    assert {tuple(tensor.shape) for tensor in batch.values()} == {(2, width)}


def test_a_response_longer_than_max_item_length() -> None:
    with pytest.raises(ValueError, match=r"^sample 0: 'input_ids' has 3 tokens, more than max_length=2$"):
        concat_pad_data_collator([response([1, 2, 3])], max_item_length=2)


@pytest.mark.parametrize("label", [1, 0.5, torch.tensor(2), None])
def test_label_is_overwritten_by_labels(label: Any) -> None:
    batch = concat_pad_data_collator([response([1, 2], label=label, label_ids=[3])])
    assert batch.keys() == {"input_ids", "labels", "attention_mask"}
    assert batch["labels"].tolist() == [[1, 2]]


# --- InternVL's own file, where there is one ------------------------------------------------------


@pytest.fixture(scope="module")
def original() -> ModuleType:
    path = os.environ.get("DPO_COLLATE_INTERNVL")
    if not path:
        pytest.skip("set DPO_COLLATE_INTERNVL to the path of InternVL's pad_data_collator.py to compare with it")
    spec = importlib.util.spec_from_file_location("internvl_pad_data_collator", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


IDS = st.one_of(st.integers(0, 5), st.integers(-(2**63), 2**63 - 1))
EXTRAS: dict[str, st.SearchStrategy[Any]] = {
    "whole": st.integers(-(2**31), 2**31),
    "real": st.floats(width=32) | st.integers(-5, 5),
    "numpy_number": st.floats().map(np.float64),
    "flag": st.booleans(),
    "text": st.text(),
    "text_or_nothing": st.none() | st.text(),
    "tensor": st.builds(torch.full, st.just((2, 1)), st.integers(-5, 5), dtype=st.just(torch.int16)),
    "scalar_tensor": st.builds(torch.tensor, st.floats(width=32)),
    "array": st.builds(np.full, st.just((2,)), st.floats()),
    "nested": st.lists(st.lists(st.floats(width=32), min_size=2, max_size=2), min_size=1, max_size=1),
}


@st.composite
def token_rows(draw: st.DrawFn, /, prefix: str, **parallel: torch.dtype) -> dict[str, torch.Tensor]:
    length = draw(st.integers(0, 7) | st.sampled_from([255, 300]))
    some = draw(st.lists(IDS, min_size=1, max_size=7))
    values = [some[at % len(some)] for at in range(length)]
    small = draw(st.sampled_from([torch.int64, torch.int64, torch.int32, torch.uint8, torch.bool]))
    tensor = torch.tensor(values, dtype=torch.int64).to(small)
    given = {
        name: torch.arange(length).to(dtype) / 2 if dtype.is_floating_point else tensor.flip(0)
        for name, dtype in parallel.items()
    }
    return {f"{prefix}input_ids": tensor, **{f"{prefix}{name}": row for name, row in given.items()}}


@st.composite
def features(draw: st.DrawFn, /, prefixes: Sequence[str], **parallel: torch.dtype) -> list[dict[str, Any]]:
    """Samples that InternVL's collators take."""
    extras = draw(st.lists(st.sampled_from(sorted(EXTRAS)), unique=True, max_size=4))
    images = draw(st.sampled_from([None, (3, 2, 2), ()]))
    dtype = draw(st.sampled_from([torch.float32, torch.bfloat16, torch.float16, torch.uint8]))
    samples = []
    for index in range(draw(st.integers(1, 4))):
        sample: dict[str, Any] = {}
        for prefix in prefixes:
            sample |= draw(token_rows(prefix, labels=torch.int64, **parallel))
            if draw(st.booleans()):
                sample[f"{prefix}attention_mask"] = torch.ones(3, dtype=torch.bool)
        sample |= {key: draw(EXTRAS[key]) for key in extras}
        if images is not None:
            tiles = draw(st.integers(1 if index == 0 else 0, 3))
            sample["pixel_values"] = torch.full((tiles, *images), index).to(dtype)
            sample["image_flags"] = torch.arange(tiles) % 2
        samples.append({key: sample[key] for key in draw(st.permutations(sorted(sample)))})
    return samples


@given(features(["chosen_", "rejected_"]), st.sampled_from([0, 0, 1, 151643, -1]))
def test_pairs_match_original(original: ModuleType, samples: list[Any], pad_id: int) -> None:
    expected = outcome(original.dpo_concat_pad_data_collator, copy.deepcopy(samples), pad_id)
    assert isinstance(expected, list)
    before = fingerprint(samples)
    assert outcome(dpo_concat_pad_data_collator, samples, pad_id) == expected
    assert fingerprint(samples) == before


@given(st.data(), st.sampled_from([0, 0, 1, 151643, -1]), st.sampled_from([None, 0, 300, 301]))
def test_single_responses_match_original(
    original: ModuleType, data: st.DataObject, pad_id: int, max_item_length: int | None
) -> None:
    parallel = {"position_ids": torch.int64, "loss_weight": torch.float32}
    names = data.draw(st.lists(st.sampled_from(sorted(parallel)), unique=True))
    samples = data.draw(features([""], **{name: parallel[name] for name in names}))
    labels: dict[str, Any] = data.draw(
        st.sampled_from([{}, {"label": 1}, {"label": torch.tensor(0.5)}, {"label": None, "label_ids": [1]}])
    )
    samples = [labels | sample if data.draw(st.booleans()) else sample | labels for sample in samples]
    expected = outcome(original.concat_pad_data_collator, copy.deepcopy(samples), max_item_length, pad_id)
    assert isinstance(expected, list)
    assert outcome(concat_pad_data_collator, samples, max_item_length, pad_id) == expected
