"""Images: concatenated whatever they are kept in, counted, checked, and laid out apart from the tokens."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from dpo_collate import PreferenceCollator, dpo_collate
from dpo_collate.layout import Layout, Media
from dpo_collate.named import SEPARATE

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

Make: TypeAlias = "Callable[[], Any]"

COLLATOR = PreferenceCollator(pad_token_id=0)
NUMPY = PreferenceCollator(pad_token_id=0, return_tensors="np")


def pair(**more: Any) -> dict[str, Any]:
    sides = {f"{side}_{key}": [1, 2, 3] for side in ("chosen", "rejected") for key in ("input_ids", "labels")}
    return {**sides, **more}


def pictures(tiles: int = 2, **changes: Any) -> dict[str, Any]:
    return pair(**{"pixel_values": torch.zeros(tiles, 3, 2, 2), "image_flags": [1] * tiles, **changes})


def ids(table: Sequence[tuple[Any, ...]]) -> list[Any]:
    return [pytest.param(*row, id=name) for name, *row in table]


VALUES = torch.arange(24).reshape(2, 3, 4).sub(7)
TENSORS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "plain": lambda tiles: tiles,
    "transposed": lambda tiles: tiles.transpose(1, 2).contiguous().transpose(1, 2),
    "strided": lambda tiles: tiles.repeat_interleave(2, 2)[:, :, ::2],
    "offset": lambda tiles: torch.cat([tiles, tiles])[len(tiles) :],
    "parameter": lambda tiles: torch.nn.Parameter(tiles, requires_grad=tiles.is_floating_point()),
    "requires grad": lambda tiles: tiles.clone().requires_grad_(tiles.is_floating_point()),
    "result of a graph": lambda tiles: tiles.clone().requires_grad_(tiles.is_floating_point()).view(tiles.shape),
    "inference": lambda tiles: torch.inference_mode()(tiles.clone)(),
}
DTYPES = ["float32", "float16", "bfloat16", "float64", "uint8", "int64", "bool"]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("way", TENSORS)
def test_tensors(way: str, dtype: str) -> None:
    tiles = VALUES.to(getattr(torch, dtype))
    given = [TENSORS[way](tiles[:1]), TENSORS[way](tiles), TENSORS["plain"](tiles)]
    batch = COLLATOR([pair(pixel_values=value, image_flags=[1] * len(value)) for value in given])
    pixels = batch["pixel_values"]
    assert (type(pixels), pixels.dtype) == (torch.Tensor, tiles.dtype)
    assert torch.equal(pixels, torch.cat([tiles[:1], tiles, tiles]))
    assert pixels.is_contiguous()
    assert not pixels.requires_grad


def test_tensors_whose_memory_is_not_their_value() -> None:
    complexes = torch.complex(VALUES.float(), VALUES.float() + 1)
    for tiles, expected in (
        (complexes.conj().imag, -VALUES.float() - 1),
        (complexes.conj(), complexes.conj().resolve_conj()),
    ):
        samples = [pair(pixel_values=tiles, image_flags=[1, 1])] * 2
        assert torch.equal(COLLATOR(samples)["pixel_values"], torch.cat([expected, expected]))
        assert np.array_equal(NUMPY(samples)["pixel_values"], torch.cat([expected, expected]).numpy())


def test_channels_last_becomes_contiguous() -> None:
    tiles = torch.arange(2 * 3 * 4 * 5.0).reshape(2, 3, 4, 5)
    last = tiles.to(memory_format=torch.channels_last)
    pixels = COLLATOR([pair(pixel_values=last, image_flags=[1, 1])] * 2)["pixel_values"]
    assert pixels.is_contiguous()
    assert torch.equal(pixels, torch.cat([tiles, tiles]))


def read_only(values: Any) -> Any:
    values = values.copy()
    values.flags.writeable = False
    return values


ARRAYS: dict[str, Callable[[Any], Any]] = {
    "plain": lambda values: values,
    "read-only": read_only,
    "byte-swapped": lambda values: values.astype(values.dtype.newbyteorder()),
    "strided": lambda values: np.repeat(values, 2, axis=2)[:, :, ::2],
    "negative stride": lambda values: values[:, ::-1].copy()[:, ::-1],
    "Fortran order": np.asfortranarray,
    "broadcast": lambda values: np.broadcast_to(values, (1, *values.shape))[0],
    "subclass": lambda values: values.view(type("Array", (np.ndarray,), {})),
    "tensor": torch.from_numpy,
    "strided tensor": lambda values: torch.from_numpy(values).repeat_interleave(2, 2)[:, :, ::2],
}


@pytest.mark.parametrize("collator", [COLLATOR, NUMPY], ids=["torch", "numpy"])
@pytest.mark.parametrize("dtype", ["float32", "float16", "uint8", "int64", "bool"])
@pytest.mark.parametrize("way", ARRAYS)
def test_arrays_and_mixtures(way: str, dtype: str, collator: PreferenceCollator) -> None:
    tiles = VALUES.numpy().astype(dtype)
    for given in ([ARRAYS[way](tiles)], [tiles, ARRAYS[way](tiles)], [ARRAYS[way](tiles), torch.from_numpy(tiles)]):
        batch = collator([pair(pixel_values=value, image_flags=np.ones(2, np.int64)) for value in given])
        pixels = batch["pixel_values"]
        assert type(pixels) is (np.ndarray if collator is NUMPY else torch.Tensor)
        assert np.asarray(pixels).dtype == np.dtype(dtype)
        assert np.array_equal(pixels, np.concatenate([tiles] * len(given)))


@pytest.mark.parametrize(
    ("flags", "dtype"),
    [
        ([1, 0], torch.int64),
        ((1, 0), torch.int64),
        ([True, False], torch.bool),
        ([np.int32(1), 0], torch.int64),
        ([torch.tensor(1), torch.tensor(0)], torch.int64),
        ([1.0, 0.0], torch.float32),
        (np.array([1, 0], np.uint8), torch.uint8),
        (torch.tensor([1, 0], dtype=torch.int32), torch.int32),
    ],
)
def test_flags(flags: Any, dtype: torch.dtype) -> None:
    found = COLLATOR([pictures(image_flags=flags)])["image_flags"]
    assert found.dtype == dtype
    assert found.tolist() == [1, 0]


def test_lists_of_pixels() -> None:
    batch = COLLATOR(
        [pair(pixel_values=[[[0.5, 1.0]]], image_flags=[1]), pictures(1, pixel_values=torch.ones(1, 1, 2))]
    )
    assert batch["pixel_values"].dtype == torch.float32
    assert batch["pixel_values"].tolist() == [[[0.5, 1.0]], [[1.0, 1.0]]]


NONE: dict[str, Callable[[], dict[str, Any]]] = {
    "absent": pair,
    "None": lambda: pair(pixel_values=None, image_flags=None),
    "no tile": lambda: pictures(0),
    "no tile, no flags": lambda: pictures(0, image_flags=None),
    "no tile of another shape": lambda: pictures(0, pixel_values=torch.zeros(0)),
}


@pytest.mark.parametrize("without", NONE)
def test_samples_without_images(without: str) -> None:
    keys = list(COLLATOR([pair()]))
    assert list(COLLATOR([NONE[without](), pair()])) == keys
    tiles = torch.arange(12.0).reshape(1, 3, 2, 2)
    samples = [NONE[without](), pictures(1, pixel_values=tiles), NONE[without](), pictures(2), NONE[without]()]
    batch = COLLATOR(samples)
    assert list(batch) == [*keys, "pixel_values", "image_flags"]
    assert torch.equal(batch["pixel_values"], torch.cat([tiles, torch.zeros(2, 3, 2, 2)]))
    assert batch["image_flags"].tolist() == [1, 1, 1]


@pytest.mark.parametrize("without", NONE)
@pytest.mark.parametrize("return_tensors", ["pt", "np"])
def test_blank_image(without: str, return_tensors: Any) -> None:
    collator = PreferenceCollator(pad_token_id=0, blank_image=(3, 2, 5), return_tensors=return_tensors)
    batch = collator([NONE[without](), pair()])
    assert list(batch)[-2:] == ["pixel_values", "image_flags"]
    assert str(batch["pixel_values"].dtype).removeprefix("torch.") == "float32"
    assert str(batch["image_flags"].dtype).removeprefix("torch.") == "int64"
    assert batch["pixel_values"].tolist() == np.zeros((1, 3, 2, 5)).tolist()
    assert batch["image_flags"].tolist() == [0]
    batch["pixel_values"][:] = 9  # a batch's own: not the next one's
    assert not collator([pair()])["pixel_values"].any()
    assert torch.as_tensor(collator([NONE[without](), pictures(1)])["image_flags"]).tolist() == [1]


def test_tiles_with_flag_0_are_no_images_that_truncation_could_cut() -> None:
    collator = PreferenceCollator(pad_token_id=0, max_length=2)
    for flags in ([0, 0], torch.tensor([False, False]), np.zeros(2)):
        batch = collator([pictures(2, image_flags=flags)])
        assert batch["chosen_input_ids"].tolist() == [[1, 2]]
        assert batch["pixel_values"].shape == (2, 3, 2, 2)


@pytest.mark.parametrize(
    ("order", "expected"), [("grouped", [1, 2, 5, 3, 4, 6, 7]), ("interleaved", [1, 3, 4, 2, 5, 6, 7])]
)
def test_two_keys(order: Any, expected: list[int]) -> None:
    media = (Media("images", ("image_a", "image_b"), optional=False),)
    collator = PreferenceCollator(Layout("two", SEPARATE.matrices, media, order=order), pad_token_id=0)
    samples = [
        pair(image_a=torch.tensor([1]), image_b=torch.tensor([3, 4])),
        pair(image_a=np.array([2])),
        pair(image_b=[6, 7], image_a=[5]),
    ]
    assert collator(samples)["images"].tolist() == expected
    with pytest.raises(
        ValueError, match=r"^sample 2: 'image_b' has tiles of shape \[1\] and dtype int64, but those of "
    ):
        collator([*samples[:2], pair(image_b=[[6]])])
    with pytest.raises(KeyError, match="sample 0: no tile in 'image_a', nor in that of any other sample of the batch"):
        collator([pair()])


def test_key_named_twice_is_sent_twice() -> None:
    media = (Media("images", ("image", "image")),)
    collator = PreferenceCollator(Layout("twice", SEPARATE.matrices, media), pad_token_id=0)
    assert collator([pair(image=[1, 2]), pair(image=[3])])["images"].tolist() == [1, 2, 3, 1, 2, 3]


def test_media_of_their_own() -> None:
    media = (
        Media("audio", ("audio",)),
        Media("sizes", ("sizes",), optional=False),
        Media("audio_flags", ("f",), flags_of="audio"),
    )
    collator = PreferenceCollator(Layout("own", SEPARATE.matrices, media), pad_token_id=0)
    batch = collator([pair(sizes=[[2, 3]]), pair(sizes=[[4, 5], [6, 7]], audio=[0.5], f=[True])])
    assert {key: batch[key].tolist() for key in list(batch)[6:]} == {
        "audio": [0.5],
        "sizes": [[2, 3], [4, 5], [6, 7]],
        "audio_flags": [True],
    }


def block(array: Any) -> Any:
    """What keeps the memory of an array."""
    while isinstance(array, np.ndarray):
        array = array.base
    return array


def test_each_medium_lies_in_a_block_of_its_own() -> None:
    """So that flags which somebody keeps do not keep the pixels."""
    batch = NUMPY([pictures(3), pictures(2)])
    pixels, flags = batch.pop("pixel_values"), batch.pop("image_flags")
    assert len({id(block(array)) for array in batch.values()}) == 1
    assert block(pixels) is not block(flags)
    assert all(block(medium) is not block(batch["chosen_labels"]) for medium in (pixels, flags))


def test_torch_media_lie_apart() -> None:
    batch = COLLATOR([pictures(3, pixel_values=torch.zeros(3, 5)), pictures(4, pixel_values=torch.zeros(4, 5))])
    pixels, flags = batch.pop("pixel_values"), batch.pop("image_flags")
    assert pixels.data_ptr() % 64 == flags.data_ptr() % 64 == 0
    pixels.fill_(7)
    assert flags.tolist() == [1] * 7
    assert all(abs(tensor.data_ptr() - pixels.data_ptr()) >= tensor.nbytes for tensor in [flags, *batch.values()])


def test_batches_share_nothing_with_samples() -> None:
    tiles, flags = torch.ones(1, 3), np.ones(1, np.int64)
    for collator in (COLLATOR, NUMPY):
        batch = collator([pair(pixel_values=tiles, image_flags=flags)])
        batch["pixel_values"][:] = 5
        batch["image_flags"][:] = 5
        assert (tiles.tolist(), flags.tolist()) == ([[1, 1, 1]], [1])
        tiles[:], flags[:] = 6, 6
        assert (batch["pixel_values"].tolist(), batch["image_flags"].tolist()) == ([[5, 5, 5]], [5])
        tiles[:], flags[:] = 1, 1


CPU = "is on device meta, expected cpu: collate first, then move the batch"
CUT = (
    "truncation could cut image tokens, and the sample has images: expected a larger max_length, samples that fit it, "
    "or PreferenceCollator's image_tokens, which counts them"
)
FLAGS = "expected flags of the tiles of all samples, or of none"
FIRST = "those of sample 0 have [3, 2, 2] and float32"
AT = "sample 2: 'pixel_values'"
SPARSE = torch.ones(2, 2).to_sparse()
MANY = torch.zeros(1, dtype=torch.uint8).expand(2**62)


def fake() -> torch.Tensor:
    with FakeTensorMode():
        return torch.ones(2, 3, 2, 2)


def pixels(value: Any) -> Callable[[], list[dict[str, Any]]]:
    """A wrong value in sample 2, made by a function or given."""
    return lambda: [pictures(), pair(), pictures(pixel_values=value() if callable(value) else value)]


WRONG: list[tuple[Any, ...]] = [
    ("string", {}, pixels("a.png"), TypeError, f"{AT} is a str, expected a tensor or an array"),
    ("number", {}, pixels(1), TypeError, f"{AT} is a int, expected a tensor or an array"),
    ("masked", {}, pixels(np.ma.array([1])), TypeError, f"{AT} is a MaskedArray, expected a tensor or an array"),
    ("objects", {}, pixels(np.array([None])), TypeError, f"{AT} has dtype object, expected numbers"),
    ("strings", {}, pixels(["a.png"]), TypeError, f"{AT} has dtype <U5, expected numbers"),
    ("ragged", {}, pixels([[1], [1, 2]]), TypeError, f"{AT} is a list that is no array: …"),
    (
        "one number",
        {},
        pixels(torch.tensor(1.0)),
        ValueError,
        f"{AT} is a single number, expected a first dimension that counts tiles",
    ),
    ("meta", {}, pixels(torch.ones(2, 3, device="meta")), ValueError, f"{AT} {CPU}"),
    ("sparse", {}, pixels(SPARSE), TypeError, f"{AT} is a tensor of layout sparse_coo, expected a dense one"),
    ("fake", {}, pixels(fake), TypeError, f"{AT} is a FakeTensor…"),
    ("longdouble", {}, lambda: [pictures(pixel_values=np.ones((2, 3), "g"))], TypeError, "sample 0: 'pixel_values' …"),
    (
        "other shape",
        {},
        pixels(torch.zeros(2, 3, 4, 4)),
        ValueError,
        f"{AT} has tiles of shape [3, 4, 4] and dtype float32, but {FIRST}",
    ),
    (
        "other dtype",
        {},
        pixels(np.zeros((2, 3, 2, 2), np.uint8)),
        ValueError,
        f"{AT} has tiles of shape [3, 2, 2] and dtype uint8, but {FIRST}",
    ),
    (
        "too few flags",
        {},
        lambda: [pictures(), pictures(image_flags=[1])],
        ValueError,
        "sample 1: 'image_flags' has 1 flags, but 'pixel_values' has 2 tiles (its first dimension counts them)",
    ),
    (
        "flags of two dimensions",
        {},
        lambda: [pictures(1, image_flags=[[1]])],
        ValueError,
        "sample 0: 'image_flags' has shape [1, 1], expected one dimension",
    ),
    (
        "no flags",
        {},
        lambda: [pictures(), pictures(image_flags=None)],
        KeyError,
        f"sample 1: no 'image_flags', but 'pixel_values' has 2 tiles: {FLAGS}",
    ),
    (
        "empty flags",
        {},
        lambda: [pictures(image_flags=[])],
        ValueError,
        "sample 0: 'image_flags' has no flag, but 'pixel_values' has 2 tiles",
    ),
    (
        "no flags in any sample, with a blank tile",
        {"blank_image": (3, 2, 2)},
        lambda: [pair(), pictures(image_flags=None)],
        KeyError,
        f"sample 1: no 'image_flags', but 'pixel_values' has 2 tiles: {FLAGS}",
    ),
    (
        "no pixels",
        {},
        lambda: [pair(image_flags=torch.ones(2))],
        KeyError,
        "sample 0: no 'pixel_values', but 'image_flags' has 2 flags",
    ),
    ("cut", {"max_length": 2}, lambda: [pair(), pictures(), pictures()], ValueError, f"sample 1: {CUT}"),
    (
        "bytes",
        {"max_batch_bytes": 1500},
        lambda: [pictures(1), pictures(20), pictures(2)],
        MemoryError,
        "sample 1: 'pixel_values', of 960 bytes, makes a batch of 2000 bytes, more than max_batch_bytes=1500",
    ),
    (
        "bytes with a blank tile",
        {"max_batch_bytes": 1200, "blank_image": (3, 8, 8)},
        lambda: [pair(chosen_input_ids=[1] * 9, chosen_labels=[1] * 9)],
        MemoryError,
        "the blank tile of 'pixel_values', of 768 bytes, makes a batch of 1312 bytes, more than max_batch_bytes=1200",
    ),
    (
        "more bytes than addresses",
        {},
        lambda: [pair(pixel_values=MANY, image_flags=MANY)] * 4,
        MemoryError,
        "the images of the batch have …",
    ),
    (
        "bfloat16 for NumPy",
        {"return_tensors": "np"},
        lambda: [pictures(pixel_values=torch.zeros(2, 3, dtype=torch.bfloat16))],
        TypeError,
        "sample 0: 'pixel_values' has dtype bfloat16, which NumPy does not have: use return_tensors='pt'",
    ),
]


@pytest.mark.parametrize(("options", "make", "exception", "sentence"), ids(WRONG))
def test_wrong(options: dict[str, Any], make: Make, exception: type[Exception], sentence: str) -> None:
    collator = PreferenceCollator(pad_token_id=0, **options)
    samples = make()
    before = [{key: (id(value), repr(value)) for key, value in sample.items()} for sample in samples]
    with pytest.raises(exception) as caught:
        collator(samples)
    assert type(caught.value) is exception
    (said,) = caught.value.args
    assert (said[: len(sentence) - 1] + "…" if sentence.endswith("…") else said) == sentence
    assert [{key: (id(value), repr(value)) for key, value in sample.items()} for sample in samples] == before
    assert collator([pair()])


def test_six_fields_without_any_image() -> None:
    with pytest.raises(KeyError) as caught:
        dpo_collate([pair(), pictures(0)])
    assert caught.value.args == ("sample 0: no tile in 'pixel_values', nor in that of any other sample of the batch",)


class Tile(torch.Tensor):
    """A subclass whose code takes torch's functions over."""

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return "garbage" if func is torch.cat else super().__torch_function__(func, types, args, kwargs or {})  # type: ignore[no-untyped-call]


def test_tiles_of_a_subclass_become_plain_tensors() -> None:
    tiles = torch.ones(1, 3, 2, 2).as_subclass(Tile)
    batch = COLLATOR([pictures(1, pixel_values=tiles), pictures(1, pixel_values=tiles)])
    assert type(batch["pixel_values"]) is torch.Tensor
    assert batch["pixel_values"].tolist() == torch.ones(2, 3, 2, 2).tolist()


@pytest.mark.parametrize(
    "values",
    [
        [1, 2],
        [0.5, 1],
        [True, False],
        [True, 2],
        [np.float32(1), 2.5],
        [np.float64(1), 2],
        [np.int16(1), 2],
        [np.int16(1), np.int16(2)],
        [np.float16(2), 1],
        [True, np.int8(1)],
        [np.int8(1), 0.5],
    ],
    ids=repr,
)
def test_lists_of_mixed_numbers_have_the_dtype_that_torch_gives_them(values: list[Any]) -> None:
    expected = torch.tensor(values)
    for collator in (COLLATOR, NUMPY):
        found = torch.as_tensor(collator([pictures(2, pixel_values=values)])["pixel_values"])
        assert (found.dtype, found.tolist()) == (expected.dtype, expected.tolist())


@pytest.mark.filterwarnings("ignore:In future, it will be an error for 'np.bool_'")  # torch's, with NumPy 1
@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "int32", "bool"])
def test_lists_of_numpy_numbers_keep_their_dtype(dtype: str) -> None:
    values = [[np.dtype(dtype).type(1)], [np.dtype(dtype).type(0)]]
    found = COLLATOR([pictures(2, pixel_values=values)])["pixel_values"]
    assert found.dtype == torch.tensor(values).dtype == getattr(torch, dtype)
    assert found.tolist() == [[1], [0]]


@pytest.mark.parametrize("flags", [{}, {"image_flags": None}])
def test_flags_may_be_absent_without_a_blank_tile(flags: dict[str, Any]) -> None:
    batch = COLLATOR([pair(), pair(pixel_values=torch.zeros(2, 3)) | flags])
    assert batch["pixel_values"].shape == (2, 3)
    assert "image_flags" not in batch


def test_a_blank_of_ones_own_stays() -> None:
    table = replace(SEPARATE, media=(*SEPARATE.media, Media("video", ("video",), blank=(2, 2))))
    for blank_image in (None, (3, 4, 4)):
        batch = PreferenceCollator(table, pad_token_id=0, blank_image=blank_image)([pair()])
        assert batch["video"].tolist() == [[[0.0, 0.0], [0.0, 0.0]]]
        assert ("pixel_values" in batch) is (blank_image is not None)


@pytest.mark.parametrize("return_tensors", ["pt", "np"])
def test_stacked_tensors_are_plain(return_tensors: Any) -> None:
    collator = PreferenceCollator(pad_token_id=0, extra_keys="stack", return_tensors=return_tensors)
    samples = [pair(a=torch.ones(2).as_subclass(Stacked), b=torch.ones(2, requires_grad=True)) for _ in range(2)]
    batch = collator(samples)
    assert batch["a"].tolist() == batch["b"].tolist() == [[1.0, 1.0], [1.0, 1.0]]
    # A graph would keep a DataLoader worker from sending the batch, and its loader waiting for ever.
    assert return_tensors == "np" or (type(batch["a"]), batch["b"].requires_grad) == (torch.Tensor, False)


class Stacked(torch.Tensor):
    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return "garbage" if func is torch.stack else super().__torch_function__(func, types, args, kwargs or {})  # type: ignore[no-untyped-call]
