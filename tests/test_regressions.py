"""What was wrong once: each test failed before it was mended."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from dpo_collate import PreferenceCollator, dpo_collate
from dpo_collate.layout import Column, Layout, Matrix, Media, Scalar
from dpo_collate.trainers.internvl import concat_pad_data_collator, dpo_concat_pad_data_collator

if TYPE_CHECKING:
    from collections.abc import Iterator

PAIR = {"chosen_input_ids": [5], "chosen_labels": [5], "rejected_input_ids": [6], "rejected_labels": [6]}
IMAGE = {"pixel_values": torch.ones(1, 2), "image_flags": torch.ones(1)}


def one(*columns: Column, **fields: Any) -> PreferenceCollator:
    matrix = Matrix((("chosen",),), columns, tokens="{}_ids")
    return PreferenceCollator(Layout("one", (matrix,), **fields), pad_token_id=0, return_tensors="np")


def test_internvl_label_puts_labels_first() -> None:
    # The original puts `labels` (made of `label`, then overwritten) before all other keys.
    sample = {"input_ids": torch.tensor([5]), "labels": torch.tensor([5]), "label": 1}
    assert list(concat_pad_data_collator([sample])) == ["labels", "input_ids", "attention_mask"]


def test_internvl_numbers_of_python_and_numpy_mixed() -> None:
    # AttributeError: 'float' object has no attribute 'shape'
    assert dpo_concat_pad_data_collator([{**PAIR, "m": 0.5}, {**PAIR, "m": np.float64(1.5)}])["m"].tolist() == [
        0.5,
        1.5,
    ]


def test_an_extra_key_does_not_replace_a_number_of_the_batch() -> None:
    collator = one(Column("ids"), scalars=(Scalar("logps", ("chosen_logps",)),), extra="list")
    assert collator([{"chosen_ids": [1], "chosen_logps": 2.0, "logps": "oops"}])["logps"].tolist() == [2.0]


def test_an_extra_key_does_not_replace_images_of_the_batch() -> None:
    collator = one(Column("ids"), media=(Media("images", ("chosen_images",)),), extra="stack")
    batch = collator([{"chosen_ids": [1], "chosen_images": np.ones((1, 2)), "images": 7}])
    assert batch["images"].tolist() == [[1.0, 1.0]]


def test_lists_of_numpy_bools() -> None:
    assert one(Column("ids", dtype="bool"))([{"chosen_ids": [np.True_, np.False_]}])["ids"].tolist() == [[True, False]]


def test_byte_swapped_float16() -> None:
    collator = one(Column("w", of="{}_w", dtype="float32"))
    assert collator([{"chosen_ids": [1], "chosen_w": np.array([0.5], ">f2")}])["w"].tolist() == [[0.5]]


@pytest.mark.parametrize("values", [(1, "x"), (1, None), (["a"], ["b"]), ({"a": 1}, {"a": 2}), (np.array(["a"]),) * 2])
def test_stacked_arrays_hold_numbers(values: tuple[Any, ...]) -> None:
    # Tensors refuse them with a ValueError; arrays become ['1', 'x'] or objects.
    collator = PreferenceCollator(pad_token_id=0, extra_keys="stack", return_tensors="np")
    with pytest.raises(ValueError, match="'extra' of 2 samples cannot be stacked"):
        collator([{**PAIR, "extra": value} for value in values])


def test_stacked_floats_are_of_one_dtype() -> None:
    # float32 as tensors, float64 as arrays
    made = [PreferenceCollator(pad_token_id=0, extra_keys="stack", return_tensors=kind) for kind in ("pt", "np")]
    tensor, array = (collator([{**PAIR, "extra": 0.5}])["extra"] for collator in made)
    assert str(tensor.dtype) == f"torch.{array.dtype}"


def test_max_batch_bytes_counts_the_blank_image() -> None:
    # Six arrays of 8 bytes at multiples of 64: 328. The blank tile and its flag have 200 more.
    collator = PreferenceCollator(pad_token_id=0, blank_image=(3, 4, 4), max_batch_bytes=400)
    with pytest.raises(MemoryError):
        collator([PAIR])


def test_pad_token_id_is_checked_each_time() -> None:
    sample = {**PAIR, **IMAGE}
    dpo_collate([sample], pad_token_id=7)
    with pytest.raises(TypeError):
        dpo_collate([sample], pad_token_id=7.0)  # type: ignore[arg-type]


class OnlyIterable:
    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter([{**PAIR, **IMAGE}])


def test_samples_that_can_only_be_iterated() -> None:
    # Text-only samples work so. TypeError: object of type 'OnlyIterable' has no len()
    assert PreferenceCollator(pad_token_id=0)(OnlyIterable())["image_flags"].tolist() == [1.0]  # type: ignore[arg-type]


def test_ones_differ_from_one_nowhere() -> None:
    assert one(Column("m", of="ones", differs_from=1))([{"chosen_ids": [5, 6]}])["m"].tolist() == [[0, 0]]


@pytest.mark.parametrize("default", [0.5, 2])
def test_default_that_does_not_fit_is_refused_at_once(default: float) -> None:
    with pytest.raises(ValueError, match="fit"):
        one(Column("ids"), scalars=(Scalar("flag", ("flag",), "bool", default=default),))


def test_flags_of_fewer_keys_are_refused() -> None:
    # IndexError while collating a sample with rejected images
    images = Media("images", ("chosen_images", "rejected_images"))
    with pytest.raises(ValueError, match="keys"):
        one(Column("ids"), media=(images, Media("flags", ("chosen_flags",), flags_of="images")))


def test_a_key_is_not_used_for_two_things() -> None:
    # KeyError: sample 0: no 'chosen_ids' (its keys: 'chosen_ids')
    with pytest.raises(ValueError, match="chosen_ids"):
        one(Column("ids"), scalars=(Scalar("n", ("chosen_ids",)),))


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        (Column, {"name": 5}),  # AttributeError: 'int' object has no attribute 'replace'
        (Column, {"name": "x", "of": None}),  # TypeError: argument of type 'NoneType' is not iterable
        (Column, {"name": "x", "nonempty": 1}),  # TypeError: failed to extract field LayoutTable.matrices
        (Column, {"name": "x", "optional": "yes"}),
        (Matrix, {"rows": (("a",),), "columns": (), "tokens": None}),
        (Matrix, {"rows": (("a",),), "columns": (), "length": 8}),  # replace() should be called on dataclass instances
        (Media, {"name": 5, "keys": ("a",)}),
        (Scalar, {"name": 5, "keys": ("a",)}),
        (Scalar, {"name": "x", "keys": ("a",), "optional": 1}),
    ],
)
def test_fields_that_nothing_checks(kind: Any, fields: dict[str, Any]) -> None:
    wrong_field = list(fields)[-1] if fields.get("name") != 5 else "name"
    with pytest.raises(TypeError, match=f"^{wrong_field}="):
        kind(**fields)
