"""What was wrong once: each test failed before it was mended."""

from __future__ import annotations

import subprocess
import sys
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


@pytest.mark.parametrize("values", [(["a"], ["b"]), ({"a": 1}, {"a": 2}), (np.array(["a"]),) * 2])
def test_stacked_arrays_hold_numbers(values: tuple[Any, ...]) -> None:
    # Tensors refuse them with a ValueError; arrays become ['1', 'x'] or objects.
    collator = PreferenceCollator(pad_token_id=0, extra_keys="stack", return_tensors="np")
    with pytest.raises(ValueError, match="'extra' of 2 samples cannot be stacked"):
        collator([{**PAIR, "extra": value} for value in values])
    for value, kind in (("x", "str"), (None, "NoneType")):
        with pytest.raises(TypeError) as caught:
            collator([{**PAIR, "extra": 1}, {**PAIR, "extra": value}])
        kinds = f"a {kind}, but that of sample 0 is a int: they cannot be stacked"
        assert caught.value.args == (f"sample 1: 'extra' is {kinds}",)


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


def test_storage_smaller_than_its_tensor() -> None:
    # torch.cat read beyond the end, and numpy() made an array of anything.
    tensor = torch.ones(2, 3)
    tensor.untyped_storage().resize_(0)
    image = {"pixel_values": tensor, "image_flags": [1, 1]}
    with pytest.raises(
        ValueError, match=r"^sample 0: 'pixel_values' is a tensor whose storage is smaller than its shape$"
    ):
        dpo_collate([{**PAIR, **image}])
    ids = torch.tensor([5])
    ids.untyped_storage().resize_(0)
    with pytest.raises(ValueError, match=r"^sample 0: 'chosen_input_ids' is a tensor whose storage is smaller"):
        PreferenceCollator(pad_token_id=0)([{**PAIR, "chosen_input_ids": ids}])


def test_import_without_numpy() -> None:
    # A panic, which is no Exception.
    code = (
        "import sys; sys.modules['numpy'] = None\ntry:\n import dpo_collate\nexcept ImportError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=240)
    assert "numpy" in done.stdout


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16, torch.uint8, torch.int32])
def test_list_of_tiles_keeps_its_dtype(dtype: torch.dtype) -> None:
    # float64 became float32, and 1e300 infinite.
    tiles = [torch.ones(3, 2, 2, dtype=dtype, requires_grad=dtype.is_floating_point) for _ in range(2)]
    batch = dpo_collate([{**PAIR, "pixel_values": tiles, "image_flags": [1, 1]}])
    assert (batch["pixel_values"].dtype, batch["pixel_values"].shape) == (dtype, (2, 3, 2, 2))
    if dtype != torch.bfloat16:
        arrays = [tile.detach().numpy() for tile in tiles]
        batch = dpo_collate([{**PAIR, "pixel_values": arrays, "image_flags": np.ones(2)}])
        assert batch["pixel_values"].dtype == dtype


def test_list_of_tiles_that_differ() -> None:
    with pytest.raises(ValueError, match=r"^sample 0: 'pixel_values' is a list of tiles that cannot be stacked: "):
        dpo_collate([{**PAIR, "pixel_values": [torch.ones(2), torch.ones(3)], "image_flags": [1, 1]}])
    with pytest.raises(TypeError, match=r"^sample 0: 'pixel_values' is a tensor of layout sparse_coo"):
        dpo_collate([{**PAIR, "pixel_values": [torch.ones(2).to_sparse()], "image_flags": [1]}])


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_quantized_images_are_refused() -> None:
    tiles = torch.quantize_per_tensor(torch.ones(1, 2), 0.1, 0, torch.qint8)
    with pytest.raises(TypeError, match=r"^sample 0: 'pixel_values' is a quantized tensor, expected plain values$"):
        dpo_collate([{**PAIR, "pixel_values": tiles, "image_flags": [1]}])


def test_list_of_rows_of_one_is_not_flattened() -> None:
    for items in ([torch.tensor([5])], [np.array([5])]):
        with pytest.raises(
            TypeError, match=r"^sample 0: 'chosen_input_ids' holds a .* at position 0, expected an integer$"
        ):
            PreferenceCollator(pad_token_id=0)([{**PAIR, "chosen_input_ids": items}])


def test_numbers_that_are_times_or_none() -> None:
    collator = one(Column("ids"), scalars=(Scalar("n", ("n",)),))
    with pytest.raises(TypeError, match=r"^sample 0: 'n' has dtype timedelta64\[ns\], expected a number$"):
        collator([{"chosen_ids": [1], "n": np.timedelta64(5, "ns")}])
    with pytest.raises(KeyError, match="sample 0: no 'n': it is None"):
        collator([{"chosen_ids": [1], "n": None}])


def test_unhashable_options() -> None:
    calls: tuple[Any, ...] = (dpo_collate, dpo_concat_pad_data_collator, concat_pad_data_collator)
    for call in calls:
        name = "pad_token_id" if call is dpo_collate else "pad_id"
        with pytest.raises(TypeError, match=rf"^{name}=\[\]: expected an integer$"):
            call([PAIR], **{name: []})


def test_sft_samples_may_be_an_iterator() -> None:
    assert concat_pad_data_collator(iter([{"input_ids": [5], "labels": [5]}]))["labels"].tolist() == [[5]]  # type: ignore[arg-type]


def test_only_attention_masks_are_masks() -> None:
    masks = ("attention_mask", "KL_attention_mask", "attention_mask_of_images")
    columns = (Column("ids"), *(Column(name, of="ones") for name in masks))
    layout = Layout("masks", (Matrix((("chosen",),), columns, tokens="{}_ids"),))
    batch = PreferenceCollator(layout, pad_token_id=0, attention_mask=None)([{"chosen_ids": [1]}])
    assert list(batch) == ["ids", "attention_mask_of_images"]


def test_own_parallel_masks_may_be_by_value() -> None:
    columns = (Column("ids"), Column("attention_mask", of="ones"))
    layout = Layout("masks", (Matrix((("chosen",),), columns, tokens="{}_ids"),))
    batch = PreferenceCollator(layout, pad_token_id=0, attention_mask="value")([{"chosen_ids": [1, 0]}])
    assert batch["attention_mask"].tolist() == [[1, 0]]


def test_extra_lists_of_lists_are_stacked() -> None:
    collator = PreferenceCollator(pad_token_id=0, extra_keys="stack", return_tensors="np")
    batch = collator([{**PAIR, "extra": [0.5, 1.5]}, {**PAIR, "extra": (2.5, 3.5)}])
    assert (batch["extra"].dtype, batch["extra"].tolist()) == (np.float32, [[0.5, 1.5], [2.5, 3.5]])


class Stumbling:
    """An iterator that fails once, and then goes on."""

    def __init__(self) -> None:
        self.count = 0

    def __iter__(self) -> Stumbling:
        return self

    def __next__(self) -> dict[str, Any]:
        self.count += 1
        if self.count == 2:
            raise TypeError("the second sample is broken")
        if self.count > 4:
            raise StopIteration
        return PAIR


def test_a_type_error_of_an_iterator_comes_through() -> None:
    # The batch has two samples: the first and the second are gone without a word.
    with pytest.raises(TypeError, match="the second sample is broken"):
        PreferenceCollator(pad_token_id=0)(Stumbling())  # type: ignore[arg-type]


def test_a_type_error_of_a_generator_comes_through() -> None:
    # ValueError: the batch is empty: expected at least one sample
    def samples() -> Iterator[dict[str, Any]]:
        yield PAIR
        raise TypeError("the second sample is broken")

    with pytest.raises(TypeError, match="the second sample is broken"):
        PreferenceCollator(pad_token_id=0)(samples())  # type: ignore[arg-type]


@pytest.mark.parametrize("values", [(2**63, 1), (2**63, 2**63), ([2**63], [-1])])
def test_stacked_integers_beyond_int64(values: tuple[Any, ...]) -> None:
    # As tensors: ValueError. As arrays: float32 (9.22e18, 1.0), or uint64.
    collator = PreferenceCollator(pad_token_id=0, extra_keys="stack", return_tensors="np")
    with pytest.raises(ValueError, match="'extra' of 2 samples cannot be stacked"):
        collator([{**PAIR, "extra": value} for value in values])


@pytest.mark.parametrize("tiles", [[[2**63]], [[2**63], [-1]]])
def test_tiles_of_integers_beyond_int64(tiles: list[Any]) -> None:
    # TypeError of torch without a place; float32
    sample = {**PAIR, "pixel_values": tiles, "image_flags": torch.ones(len(tiles))}
    with pytest.raises((TypeError, OverflowError), match=r"^sample 0: 'pixel_values'"):
        PreferenceCollator(pad_token_id=0)([sample])


def test_dtype_that_numpy_has_twice() -> None:
    # TypeError: can't convert np.ndarray of type numpy.ulonglong
    sample = {**PAIR, "pixel_values": np.ones((1, 2), np.ulonglong), "image_flags": torch.ones(1)}
    assert PreferenceCollator(pad_token_id=0)([sample])["pixel_values"].dtype == torch.uint64


@pytest.mark.filterwarnings("error")
def test_floats_beyond_float32_do_not_warn() -> None:
    # RuntimeWarning: overflow encountered in cast. As tensors there is no warning (nor an error: inf, as in torch).
    collator = PreferenceCollator(pad_token_id=0, extra_keys="stack", return_tensors="np")
    assert collator([{**PAIR, "extra": 1e300}])["extra"].tolist() == [float("inf")]
