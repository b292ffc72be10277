"""What vision models take, in every named layout: order, dtypes, kinds of values, flags, and through workers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, get_args

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader, Dataset

from dpo_collate import PreferenceCollator, delivery
from dpo_collate.named import NAMES, Images, named
from fewer import fewer
from pairs import PAIRS, SIDES, assert_same, collate, full, samples

JOINED = ["concatenated", "interleaved", "padding_free"]
CATTED = [name for name in NAMES if name != "prompt_left"]
MEDIA: dict[str, tuple[tuple[int, ...], str]] = {
    "pixel_values": ((3, 2, 2), "bfloat16"),
    "image_flags": ((), "int64"),
    "image_grid_thw": ((3,), "int64"),
    "image_sizes": ((2,), "int32"),
    "pixel_attention_mask": ((2, 2), "bool"),
    "pixel_values_videos": ((6,), "float16"),
    "video_grid_thw": ((3,), "int64"),
    "second_per_grid_ts": ((), "float32"),
}
"""By key the shape of one entry, and a dtype: tiles of InternVL, patches of Qwen-VL."""


def value(key: str, number: int, seed: int) -> torch.Tensor:
    """Entries that differ from those of any other seed."""
    shape, dtype = MEDIA[key]
    noise = torch.randint(0, 99, (number, *shape), generator=torch.Generator().manual_seed(seed))
    return noise.to(getattr(torch, dtype))


def with_media(numbers: list[dict[str, int]], prefixes: tuple[str, ...] = ("",)) -> list[dict[str, Any]]:
    """Samples with so many entries of each key."""
    made = []
    for index, sample in enumerate(numbers):
        media = {
            f"{prefix}{key}": value(key, sample[key] if prefix != "rejected_" else sample[key] // 2, 10 * index + at)
            for at, prefix in enumerate(prefixes)
            for key in sample
        }
        made.append(full(PAIRS[index % 2]) | media)
    return made


def in_rows(name: str, images: str, given: list[dict[str, Any]], key: str) -> torch.Tensor:
    """The entries in the order of rows, said plainly."""
    keys = {"per_pair": [key], "per_row": [key, key], "per_side": [f"{side}_{key}" for side in SIDES]}[images]
    if name == "interleaved":
        return torch.cat([sample[each] for sample in given for each in keys])
    return torch.cat([sample[each] for each in keys for sample in given])


counts = st.lists(st.fixed_dictionaries(dict.fromkeys(MEDIA, st.integers(0, 3))), min_size=1, max_size=4)


@pytest.mark.parametrize("images", get_args(Images))
@pytest.mark.parametrize("name", CATTED)
@given(numbers=counts, some=st.sets(st.sampled_from([key for key in MEDIA if key != "image_flags"])))
@fewer(3)
def test_order(name: str, images: Images, numbers: list[dict[str, int]], some: set[str]) -> None:
    numbers = [{key: sample[key] for key in MEDIA if key in some} for sample in numbers]
    if "pixel_values" in some:
        numbers = [sample | {"image_flags": sample["pixel_values"]} for sample in numbers]
    prefixes = ("chosen_", "rejected_") if images == "per_side" else ("",)
    given = with_media(numbers, prefixes)
    batch = collate(name, given, images=images)
    wanted: dict[str, torch.Tensor] = {}
    for key in MEDIA:
        if key not in numbers[0]:
            continue
        if name == "separate" and images == "per_side":
            wanted |= {f"{side}_{key}": torch.cat([sample[f"{side}_{key}"] for sample in given]) for side in SIDES}
        else:
            wanted[key] = in_rows(name, images, given, key)
    wanted = {key: entries for key, entries in wanted.items() if len(entries)}
    assert_same({key: batch[key] for key in batch if key in wanted}, wanted)
    assert not [key for key in batch if key not in wanted and key.removeprefix("chosen_") in MEDIA]
    plain = collate(name, [full(PAIRS[index % 2]) for index in range(len(given))])
    assert list(batch) == [*plain, *wanted]


def test_what_has_no_entry_in_a_batch_is_left_out() -> None:
    given = [full(PAIRS[0]) | {"image_grid_thw": np.zeros((0, 3), np.int64), "pixel_values": None}]
    assert list(collate("concatenated", given)) == list(collate("concatenated", [full(PAIRS[0])]))


def test_images_of_rows_that_interleave() -> None:
    """Written out: two images of the first pair, one of the second."""
    given = [
        full(PAIRS[0]) | {"image_grid_thw": [[1, 1, 1], [2, 2, 2]], "pixel_values": torch.tensor([[1.0], [2.0]])},
        full(PAIRS[1]) | {"image_grid_thw": torch.tensor([[3, 3, 3]]), "pixel_values": np.array([[3]], np.float32)},
    ]
    orders = {"interleaved": [1, 2, 1, 2, 3, 3], "concatenated": [1, 2, 3, 1, 2, 3], "padding_free": [1, 2, 3] * 2}
    for name, order in orders.items():
        batch = collate(name, given)
        assert batch["pixel_values"].tolist() == [[number] for number in order]
        assert batch["image_grid_thw"].tolist() == [[number] * 3 for number in order]
        once = collate(name, given, images="per_pair")
        assert once["pixel_values"].tolist() == [[1], [2], [3]]
    assert collate("separate", given)["image_grid_thw"].tolist() == [[1] * 3, [2] * 3, [3] * 3]


@pytest.mark.parametrize("key", MEDIA)
def test_kinds_of_values(key: str) -> None:
    tensors = [value(key, 2, 1), value(key, 1, 2)]
    numbers = [tensor.float().numpy() if tensor.dtype == torch.bfloat16 else tensor.numpy() for tensor in tensors]
    flagged = {"pixel_values": tensors} if key == "image_flags" else {}
    kinds: list[Any] = [tensors, numbers, [numbers[0], torch.from_numpy(numbers[1])], [list(numbers[0]), [*numbers[1]]]]
    for entries in kinds:
        rows = [
            full(PAIRS[0]) | {key: entry} | {other: tiles[index] for other, tiles in flagged.items()}
            for index, entry in enumerate(entries)
        ]
        found = collate("interleaved", rows, images="per_pair")[key]
        assert found.tolist() == torch.cat(tensors).tolist()
        assert found.dtype == (tensors[0].dtype if entries is tensors else torch.from_numpy(numbers[0]).dtype)
        if entries is not tensors:
            array = collate("interleaved", rows, images="per_row", return_tensors="np")[key]
            assert type(array) is np.ndarray
            assert array.dtype == numbers[0].dtype
            assert array.tolist() == torch.cat([tensors[0], tensors[0], tensors[1], tensors[1]]).tolist()


def test_nested_lists_become_what_torch_makes_of_them() -> None:
    given = [full(PAIRS[0]) | {"image_grid_thw": [[1, 2, 3]], "second_per_grid_ts": [0.5], "image_sizes": ((4, 5),)}]
    batch = collate("concatenated", given, images="per_pair")
    assert [(batch[key].dtype, batch[key].tolist()) for key in list(batch)[3:]] == [
        (torch.int64, [[1, 2, 3]]),
        (torch.int64, [[4, 5]]),
        (torch.float32, [0.5]),
    ]


@pytest.mark.parametrize("name", JOINED)
def test_blank_image_and_flags(name: str) -> None:
    batch = collate(name, samples(name, None, PAIRS), blank_image=(3, 2, 2))
    assert (batch["pixel_values"].shape, batch["image_flags"].tolist()) == ((1, 3, 2, 2), [0])
    sided = PreferenceCollator("separate", pad_token_id=0, images="per_side", blank_image=(3, 2, 2))
    only = [full(PAIRS[0]) | {"chosen_pixel_values": torch.ones(2, 3, 2, 2), "chosen_image_flags": [1, 1]}]
    assert {key: len(entries) for key, entries in sided(only).items() if "pixel" in key or "flags" in key} == {
        "chosen_pixel_values": 2,
        "rejected_pixel_values": 1,
        "chosen_image_flags": 2,
        "rejected_image_flags": 1,
    }


FLAGS = "expected flags of the tiles of all samples, or of none"


def test_flags_of_all_samples_or_of_none() -> None:
    tiles = {"pixel_values": torch.ones(2, 3)}
    none = [full(PAIRS[0]) | tiles, full(PAIRS[1]), full(PAIRS[1]) | tiles]
    batch = collate("interleaved", none)
    assert batch["pixel_values"].shape == (8, 3)
    assert "image_flags" not in batch
    assert "image_flags" not in collate("interleaved", [sample | {"image_flags": None} for sample in none])
    flagged = none[0] | {"image_flags": [1, 0]}
    assert collate("interleaved", [flagged, none[1]])["image_flags"].tolist() == [1, 0, 1, 0]
    for wrong, sentence in (
        ([flagged, none[0]], f"sample 1: no 'image_flags', but 'pixel_values' has 2 tiles: {FLAGS}"),
        ([none[0], none[1], flagged], f"sample 0: no 'image_flags', but 'pixel_values' has 2 tiles: {FLAGS}"),
        ([none[1] | {"image_flags": [1]}], "sample 0: no 'pixel_values', but 'image_flags' has 1 flags"),
        ([flagged, none[1] | {"image_flags": [1]}], "sample 1: no 'pixel_values', but 'image_flags' has 1 flags"),
    ):
        with pytest.raises(KeyError) as caught:
            collate("interleaved", wrong)
        assert caught.value.args == (sentence,)


@pytest.mark.parametrize("name", CATTED)
def test_flags_of_one_side(name: str) -> None:
    """Where the sides share a matrix they share a medium; else each side's flags are its own."""
    sided = full(PAIRS[0]) | {"chosen_pixel_values": torch.ones(2, 3), "rejected_pixel_values": torch.ones(1, 3)}
    given = [sided | {"chosen_image_flags": [1, 0]}]
    if name == "separate":
        assert collate(name, given, images="per_side")["chosen_image_flags"].tolist() == [1, 0]
        return
    with pytest.raises(KeyError) as caught:
        collate(name, given, images="per_side")
    said = f"sample 0: no 'rejected_image_flags', but 'rejected_pixel_values' has 1 tiles: {FLAGS}"
    assert caught.value.args == (said,)


def test_keys_of_another_form() -> None:
    """Images that the layout has no place for are an error, not left out."""
    tiles = torch.ones(2, 3)
    for images, key in (
        ("per_side", "pixel_values"),
        ("per_row", "chosen_pixel_values"),
        ("per_pair", "rejected_pixel_values"),
        ("per_side", "pixel_attention_mask"),
    ):
        with pytest.raises(KeyError, match=f"^\"sample 0: unknown key '{key}': it begins like a key that matters"):
            collate("separate", [full(PAIRS[0]) | {key: tiles}], images=images)


@pytest.mark.parametrize("images", get_args(Images))
@pytest.mark.parametrize("name", CATTED)
def test_max_batch_bytes_counts_images(name: str, images: Images) -> None:
    prefixes = ("chosen_", "rejected_") if images == "per_side" else ("",)
    given = with_media([{"image_grid_thw": 4, "pixel_values_videos": 6}, {"image_grid_thw": 0}], prefixes)
    batch = collate(name, given, images=images)
    rows = [key for key in batch if key.rpartition("_")[2] not in {"thw", "videos"}]
    arrays = [batch[key].nbytes for key in rows if isinstance(batch[key], torch.Tensor)]
    tokens = sum(-(-nbytes // 64) * 64 for nbytes in arrays[:-1]) + arrays[-1]
    total = tokens + sum(batch[key].nbytes for key in batch if key not in rows)
    assert collate(name, given, images=images, max_batch_bytes=total)
    with pytest.raises(
        MemoryError, match=f"^sample 0: '.*', of [0-9]+ bytes, makes a batch of {total} bytes, more than"
    ):
        collate(name, given, images=images, max_batch_bytes=total - 1)


# --- through workers ------------------------------------------------------------------------------


class Pictures(Dataset[Any]):
    """Pairs, of which two in three have images."""

    def __len__(self) -> int:
        return 12

    def __getitem__(self, index: int) -> dict[str, Any]:
        number = index % 3
        return with_media([{}] * index + [dict.fromkeys(("pixel_values", "image_flags", "image_grid_thw"), number)])[-1]


def same(found: Any, wanted: Any) -> None:
    """The same tuples and dicts of the same tensors."""
    assert type(found) is type(wanted)
    if isinstance(wanted, tuple):
        assert len(found) == len(wanted)
        for one, other in zip(found, wanted, strict=True):
            same(one, other)
    elif isinstance(wanted, dict):
        assert list(found) == list(wanted)
        for key, other in wanted.items():
            same(found[key], other)
    elif isinstance(wanted, torch.Tensor):
        assert found.dtype == wanted.dtype
        assert torch.equal(found, wanted)
    else:
        assert found == wanted


FLAT = named("padding_free")
NESTS: dict[str, Any] = {
    "tuple": ("input_ids", "labels"),
    "nest": ({"input_ids": "input_ids", "images": {"pixels": "pixel_values"}}, ("labels", "max_length_q")),
}


@pytest.mark.parametrize("what", ["concatenated", "interleaved", "padding_free", "separate", *NESTS])
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_through_workers(what: str) -> None:
    layout = replace(FLAT, returns=NESTS[what]) if what in NESTS else what
    # Smaller tensors than these are sent by value.
    collator = PreferenceCollator(layout, pad_token_id=0, pad_to_multiple_of=1024)
    before = delivery.stats().batches_received
    data = Pictures()
    options: dict[str, Any] = {"batch_size": 2, "num_workers": 2, "collate_fn": collator, "timeout": 100}
    found = list(DataLoader(data, **options))
    for index, batch in enumerate(found):
        same(batch, collator([data[2 * index], data[2 * index + 1]]))
    assert len(found) == 6
    assert delivery.stats().batches_received == before + 6
