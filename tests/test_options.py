"""What the collator's options mean, in matrices that are written out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from dpo_collate import PreferenceCollator, dpo_collate
from dpo_collate.layout import Column, Layout, Matrix


def pair(chosen: list[int], rejected: list[int], **others: Any) -> dict[str, Any]:
    """A pair whose labels are its ids, the first one masked."""
    labels = {"chosen_labels": [-100, *chosen[1:]], "rejected_labels": [-100, *rejected[1:]]}
    return {"chosen_input_ids": chosen, "rejected_input_ids": rejected, **labels, **others}


PAIRS = [pair([5, 6, 7], [8, 9]), pair([1, 2], [3, 4, 5, 6])]


def batch_of(samples: list[dict[str, Any]], min_length: int | None = None, **options: Any) -> dict[str, Any]:
    """The batch as nested lists."""
    batch = PreferenceCollator(**{"pad_token_id": 0, **options})(samples, min_length=min_length)
    return {key: value.tolist() if hasattr(value, "tolist") else value for key, value in batch.items()}


def test_defaults() -> None:
    assert batch_of(PAIRS) == {
        "chosen_input_ids": [
            [5, 6, 7],  # pair 0
            [1, 2, 0],  # pair 1, padded
        ],
        "chosen_labels": [[-100, 6, 7], [-100, 2, -100]],
        "chosen_attention_mask": [[1, 1, 1], [1, 1, 0]],
        "rejected_input_ids": [
            [8, 9, 0, 0],  # pair 0, padded to the width of the rejected rows only
            [3, 4, 5, 6],  # pair 1
        ],
        "rejected_labels": [[-100, 9, -100, -100], [-100, 4, 5, 6]],
        "rejected_attention_mask": [[1, 1, 0, 0], [1, 1, 1, 1]],
    }


def test_padding_side_left() -> None:
    assert batch_of(PAIRS, padding_side="left") == {
        "chosen_input_ids": [
            [5, 6, 7],  # pair 0
            [0, 1, 2],  # pair 1: padding first
        ],
        "chosen_labels": [[-100, 6, 7], [-100, -100, 2]],
        "chosen_attention_mask": [[1, 1, 1], [0, 1, 1]],
        "rejected_input_ids": [[0, 0, 8, 9], [3, 4, 5, 6]],
        "rejected_labels": [[-100, -100, -100, 9], [-100, 4, 5, 6]],
        "rejected_attention_mask": [[0, 0, 1, 1], [1, 1, 1, 1]],
    }


def test_pads() -> None:
    batch = batch_of(PAIRS, pad_token_id=151643, label_pad_token_id=-1)
    assert batch["chosen_input_ids"] == [[5, 6, 7], [1, 2, 151643]]
    # What the samples have as labels stays: -100 is a label like any other.
    assert batch["chosen_labels"] == [[-100, 6, 7], [-100, 2, -1]]


@pytest.mark.parametrize(
    ("multiple", "chosen", "rejected"),
    [(1, 3, 4), (2, 4, 4), (3, 3, 6), (4, 4, 4), (5, 5, 5), (64, 64, 64)],
)
def test_pad_to_multiple_of(multiple: int, chosen: int, rejected: int) -> None:
    batch = PreferenceCollator(pad_token_id=0, pad_to_multiple_of=multiple)(PAIRS)
    # A width that fits already stays as it is.
    assert batch["chosen_input_ids"].shape == (2, chosen)
    assert batch["rejected_labels"].shape == (2, rejected)
    assert batch["rejected_attention_mask"].sum().item() == 6


@pytest.mark.parametrize(("min_length", "chosen", "rejected"), [(0, 3, 4), (3, 3, 4), (4, 4, 4), (9, 9, 9)])
def test_min_length(min_length: int, chosen: int, rejected: int) -> None:
    collator = PreferenceCollator(pad_token_id=0)
    batch = collator(PAIRS, min_length=min_length)
    assert batch["chosen_input_ids"].shape == (2, chosen)
    assert batch["rejected_labels"].shape == (2, rejected)
    assert collator(PAIRS)["chosen_input_ids"].shape == (2, 3)


def test_min_length_is_rounded_up_too() -> None:
    collator = PreferenceCollator(pad_token_id=0, pad_to_multiple_of=4, max_length=2)
    assert collator(PAIRS, min_length=5)["chosen_input_ids"].shape == (2, 8)


def test_rows_of_no_tokens() -> None:
    empty: dict[str, Any] = {key: [] for key in PAIRS[0]}
    assert batch_of([empty])["chosen_input_ids"] == [[]]
    assert batch_of([empty], pad_to_multiple_of=8)["chosen_labels"] == [[]]
    assert batch_of([empty], min_length=2)["chosen_attention_mask"] == [[0, 0]]
    batch = batch_of([empty, pair([1, 2], [3, 4])], padding_side="left")
    assert batch["chosen_input_ids"] == [[0, 0], [1, 2]]
    # An empty tensor is of a floating-point dtype, and has no value that could be one.
    assert batch_of([dict.fromkeys(PAIRS[0], torch.tensor([]))])["chosen_input_ids"] == [[]]


# --- truncation -----------------------------------------------------------------------------------


def test_truncation_keeps_the_start() -> None:
    batch = batch_of(PAIRS, max_length=3)
    assert batch["chosen_input_ids"] == [[5, 6, 7], [1, 2, 0]]
    assert batch["rejected_input_ids"] == [[8, 9, 0], [3, 4, 5]]
    assert batch["rejected_labels"] == [[-100, 9, -100], [-100, 4, 5]]
    assert batch["rejected_attention_mask"] == [[1, 1, 0], [1, 1, 1]]


def test_truncation_keeps_the_end() -> None:
    batch = batch_of(PAIRS, max_length=2, truncation_mode="keep_end", padding_side="left")
    assert batch["chosen_input_ids"] == [[6, 7], [1, 2]]
    assert batch["chosen_labels"] == [[6, 7], [-100, 2]]
    assert batch["rejected_input_ids"] == [[8, 9], [5, 6]]


def test_truncation_is_an_error_if_asked() -> None:
    with pytest.raises(ValueError, match=r"^sample 1: 'rejected_input_ids' has 4 tokens, more than max_length=3$"):
        batch_of(PAIRS, max_length=3, truncation_mode="error")
    assert batch_of(PAIRS, max_length=4, truncation_mode="error") == batch_of(PAIRS)


def test_truncation_that_leaves_nothing_to_score() -> None:
    scored_at_the_end = pair([1, 2, 3], [4, 5, 6]) | {"rejected_labels": [-100, -100, 6]}
    with pytest.raises(ValueError, match="truncation from 3 to 2 tokens leaves nothing to score") as caught:
        batch_of([*PAIRS[:1], scored_at_the_end], max_length=2)
    assert caught.value.args == (
        "sample 1: truncation from 3 to 2 tokens leaves nothing to score in 'rejected_labels'",
    )
    assert batch_of([scored_at_the_end], max_length=2, truncation_mode="keep_end")["rejected_labels"] == [[-100, 6]]


def test_rows_that_are_not_truncated_need_nothing_to_score() -> None:
    nothing = pair([1, 2], [3, 4]) | {"chosen_labels": [-100, -100]}
    assert batch_of([nothing], max_length=2)["chosen_labels"] == [[-100, -100]]


IMAGE = {"pixel_values": torch.ones(2, 3), "image_flags": torch.tensor([0, 1])}
NO_IMAGE = {"pixel_values": torch.ones(2, 3), "image_flags": torch.tensor([0, 0])}


def test_truncation_of_a_sample_with_images() -> None:
    samples = [PAIRS[0] | NO_IMAGE, PAIRS[1] | IMAGE]
    sentence = (
        "sample 1: truncation could cut image tokens, and the sample has images: expected a larger max_length, "
        "samples that fit it, or PreferenceCollator's image_tokens, which counts them"
    )
    with pytest.raises(ValueError, match="truncation could cut image tokens") as caught:
        batch_of(samples, max_length=3)
    assert caught.value.args == (sentence,)
    with pytest.raises(ValueError, match="sample 1: truncation could cut image tokens"):
        batch_of(samples, max_length=3, truncation_mode="keep_end")
    # A tile with flag 0 is no image, and a sample that fits is not truncated.
    assert batch_of([PAIRS[0] | IMAGE, PAIRS[1] | NO_IMAGE], max_length=3)["rejected_input_ids"] == [
        [8, 9, 0],
        [3, 4, 5],
    ]


# --- masks ----------------------------------------------------------------------------------------

PADLIKE = [pair([0, 5, 0], [0]), pair([6], [7, 0])]
"""Real tokens that equal the pad id."""


def test_masks_come_from_lengths() -> None:
    batch = batch_of(PADLIKE)
    assert batch["chosen_attention_mask"] == [
        [1, 1, 1],  # 0, 5, 0: all of them real
        [1, 0, 0],  # 6, then padding
    ]
    assert batch["rejected_attention_mask"] == [[1, 0], [1, 1]]


def test_masks_by_value() -> None:
    batch = batch_of(PADLIKE, attention_mask="value")
    assert batch["chosen_attention_mask"] == [[0, 1, 0], [1, 0, 0]]
    assert batch["rejected_attention_mask"] == [[0, 0], [1, 0]]


def test_no_masks() -> None:
    batch = batch_of(PADLIKE, attention_mask=None)
    assert list(batch) == ["chosen_input_ids", "chosen_labels", "rejected_input_ids", "rejected_labels"]


OWN_MASKS = [
    pair([5, 6, 7], [8]) | {"chosen_attention_mask": [0, 1, 2], "rejected_attention_mask": [True]},
    pair([1], [2, 3])
    | {"chosen_attention_mask": np.array([1]), "rejected_attention_mask": torch.tensor([False, True])},
]


def test_masks_of_the_samples() -> None:
    batch = batch_of(OWN_MASKS, padding_side="left")
    assert batch["chosen_attention_mask"] == [
        [0, 1, 2],  # as it is
        [0, 0, 1],  # padded with 0
    ]
    assert batch["rejected_attention_mask"] == [[0, 1], [0, 1]]
    assert batch_of(OWN_MASKS, attention_mask="value")["chosen_attention_mask"] == [[1, 1, 1], [1, 0, 0]]
    assert "chosen_attention_mask" not in batch_of(OWN_MASKS, attention_mask=None, extra_keys="error")


def test_masks_of_some_samples() -> None:
    with pytest.raises(KeyError) as caught:
        batch_of([*OWN_MASKS, *PAIRS])
    assert caught.value.args == (
        "sample 2: no 'chosen_attention_mask', but sample 0 has it: expected in all samples or in none",
    )
    both = [OWN_MASKS[0], {key: value for key, value in OWN_MASKS[1].items() if key != "rejected_attention_mask"}]
    with pytest.raises(KeyError) as caught:
        batch_of(both[1:], layout="concatenated")
    assert caught.value.args == (
        "sample 0: no 'rejected_attention_mask', but it has 'chosen_attention_mask': expected both or none",
    )
    # Each side for itself: masks of the chosen rows only.
    sided = [{key: value for key, value in sample.items() if key != "rejected_attention_mask"} for sample in OWN_MASKS]
    assert batch_of(sided)["rejected_attention_mask"] == [[1, 0], [1, 1]]


@pytest.mark.parametrize("name", ["chosen_attention_mask", "{}_attention_mask", "attention_mask", "KL_attention_mask"])
def test_masks_of_an_own_layout(name: str) -> None:
    columns = (Column("ids", pad="pad_token_id"), Column(name, of="ones"))
    table = Layout("mine", (Matrix(columns=columns, rows=(("chosen",),), tokens="{}_ids"),))
    mask = name.replace("{}", "chosen")
    samples = [{"chosen_ids": [5, 0]}, {"chosen_ids": [6]}]
    assert batch_of(samples, layout=table) == {"ids": [[5, 0], [6, 0]], mask: [[1, 1], [1, 0]]}
    assert batch_of(samples, layout=table, attention_mask="value") == {"ids": [[5, 0], [6, 0]], mask: [[1, 0], [1, 0]]}
    assert batch_of(samples, layout=table, attention_mask=None) == {"ids": [[5, 0], [6, 0]]}


@pytest.mark.parametrize("mask", ["value", None])
def test_masks_that_are_rows_of_their_own(mask: Any) -> None:
    rows = (("chosen",),)
    matrices = (
        Matrix(rows, (Column("ids"),), tokens="{}_ids"),
        Matrix(rows, (Column("mask"),), tokens="{}_attention_mask"),
    )
    with pytest.raises(ValueError, match="rows of their own") as caught:
        PreferenceCollator(Layout("mine", matrices), pad_token_id=0, attention_mask=mask)
    assert caught.value.args == (f"attention_mask={mask!r}: layout 'mine' has masks that are rows of their own",)
    batch = batch_of([{"chosen_ids": [5], "chosen_attention_mask": [0, 1]}], layout=Layout("mine", matrices))
    assert batch == {"ids": [[5]], "mask": [[0, 1]]}


def test_masks_by_value_of_a_layout_without_masks() -> None:
    table = Layout("mine", (Matrix((("chosen",),), (Column("ids"), Column("mask", of="ones"))),))
    with pytest.raises(ValueError, match=r"^attention_mask='value': layout 'mine' has no column of that name$"):
        PreferenceCollator(table, pad_token_id=0, attention_mask="value")
    assert list(batch_of([{"chosen_input_ids": [5]}], layout=table, attention_mask=None)) == ["ids", "mask"]


# --- other keys -----------------------------------------------------------------------------------


def test_extra_keys() -> None:
    samples = [PAIRS[0] | {"id": 7, "text": "a"}, PAIRS[1] | {"id": 8, "text": "b"}]
    assert batch_of(samples) == batch_of(PAIRS)
    assert batch_of(samples, extra_keys="list") == {**batch_of(PAIRS), "id": [7, 8], "text": ["a", "b"]}
    assert batch_of(samples, extra_keys="stack") == {**batch_of(PAIRS), "id": [7, 8]}
    with pytest.raises(KeyError) as caught:
        batch_of(samples, extra_keys="error")
    assert caught.value.args[0].startswith("sample 0: unknown key 'id': extra_keys=\"error\" allows none (layout ")


@pytest.mark.parametrize("return_tensors", ["pt", "np"])
@pytest.mark.parametrize(
    ("values", "stacked", "dtype"),
    [
        ((7, 8), [7, 8], "int64"),
        ((0.5, 2), [0.5, 2.0], "float32"),
        (([1, 2], [3, 4]), [[1, 2], [3, 4]], "int64"),
        ((np.array([1, 2], np.int16), np.array([3, 4], np.int16)), [[1, 2], [3, 4]], "int16"),
        ((torch.tensor([True]), torch.tensor([False])), [[True], [False]], "bool"),
        ((torch.tensor(0.5, dtype=torch.float16),) * 2, [0.5, 0.5], "float16"),
    ],
    ids=["ints", "numbers", "lists", "arrays", "tensors", "scalar tensors"],
)
def test_stacked_extra_keys(values: tuple[Any, ...], stacked: list[Any], dtype: str, return_tensors: str) -> None:
    options: dict[str, Any] = {"extra_keys": "stack", "return_tensors": return_tensors}
    collator = PreferenceCollator(pad_token_id=0, **options)
    made = collator([sample | {"id": value} for sample, value in zip(PAIRS, values, strict=True)])["id"]
    assert type(made) is (torch.Tensor if return_tensors == "pt" else np.ndarray)
    assert (str(made.dtype).removeprefix("torch."), made.tolist()) == (dtype, stacked)


@pytest.mark.parametrize("extra_keys", ["list", "stack"])
def test_extra_keys_of_some_samples(extra_keys: str) -> None:
    for samples, sentence in (
        (
            [PAIRS[0] | {"id": 7}, PAIRS[1]],
            "sample 1: no 'id', but sample 0 has it: expected in all samples or in none",
        ),
        (
            [PAIRS[0], PAIRS[1] | {"id": 8}],
            "sample 1: the key 'id' is not in sample 0: expected in all samples or in none",
        ),
    ):
        with pytest.raises(KeyError) as caught:
            batch_of(samples, extra_keys=extra_keys)
        assert caught.value.args == (sentence,)


@pytest.mark.parametrize("prefix", ["chosen_", "rejected_", "prompt_", "ref_", "reference_", "pixel_"])
@pytest.mark.parametrize("extra_keys", ["drop", "list", "stack", "error"])
def test_a_key_that_is_most_likely_misspelt(prefix: str, extra_keys: str) -> None:
    with pytest.raises(KeyError, match=f"sample 1: unknown key '{prefix}logp': it begins like a key that matters"):
        batch_of([PAIRS[0], PAIRS[1] | {f"{prefix}logp": 1}], extra_keys=extra_keys)


def test_known_numbers() -> None:
    numbers = [{"ref_chosen_logps": -1, "ref_rejected_logps": np.float64(-2.5), "margin": torch.tensor([0.5])}] * 2
    batch = PreferenceCollator(pad_token_id=0)([sample | more for sample, more in zip(PAIRS, numbers, strict=True)])
    assert list(batch)[6:] == ["ref_chosen_logps", "ref_rejected_logps", "margin"]
    assert [batch[key].tolist() for key in list(batch)[6:]] == [[-1.0, -1.0], [-2.5, -2.5], [0.5, 0.5]]
    assert {batch[key].dtype for key in list(batch)[6:]} == {torch.float32}


# --- images ---------------------------------------------------------------------------------------


def test_blank_image() -> None:
    collator = PreferenceCollator(pad_token_id=0, blank_image=(3, 2, 1))
    batch = collator(PAIRS)
    assert batch["pixel_values"].dtype == torch.float32
    assert batch["pixel_values"].tolist() == torch.zeros(1, 3, 2, 1).tolist()
    assert batch["image_flags"].dtype == torch.int64
    assert batch["image_flags"].tolist() == [0]
    # Not where there is an image.
    assert collator([PAIRS[0] | IMAGE, PAIRS[1]])["image_flags"].tolist() == [0, 1]
    assert "pixel_values" not in PreferenceCollator(pad_token_id=0)(PAIRS)


@pytest.mark.parametrize("layout", ["separate", "concatenated"])
def test_images_and_media(layout: str) -> None:
    for images in ("per_pair", "per_side"):
        with pytest.raises(ValueError, match="images and media both say what images there are: expected one of them"):
            batch_of(PAIRS, layout=layout, images=images, media=())
    assert "pixel_values" not in batch_of(PAIRS, layout=layout, media=())


def test_images_keep_their_order_and_dtype() -> None:
    tiles = [torch.full((count, 2), count, dtype=torch.bfloat16) for count in (2, 0, 1)]
    samples = [PAIRS[0] | {"pixel_values": tile, "image_flags": torch.ones(len(tile))} for tile in tiles]
    batch = PreferenceCollator(pad_token_id=0)([*samples, PAIRS[1], PAIRS[1] | {"pixel_values": None}])
    assert batch["pixel_values"].dtype == torch.bfloat16
    assert batch["pixel_values"].tolist() == [[2.0, 2.0], [2.0, 2.0], [1.0, 1.0]]
    assert batch["image_flags"].tolist() == [1.0, 1.0, 1.0]


# --- what comes back ------------------------------------------------------------------------------


def test_return_tensors() -> None:
    tensors = PreferenceCollator(pad_token_id=0)([PAIRS[0] | IMAGE])
    arrays = PreferenceCollator(pad_token_id=0, return_tensors="np")([PAIRS[0] | IMAGE])
    assert {type(value) for value in tensors.values()} == {torch.Tensor}
    assert {type(value) for value in arrays.values()} == {np.ndarray}
    assert {key: value.tolist() for key, value in arrays.items()} == {
        key: value.tolist() for key, value in tensors.items()
    }
    assert all(value.is_contiguous() for value in tensors.values())
    assert all(value.flags.c_contiguous and value.flags.writeable for value in arrays.values())


def test_arrays_have_no_bfloat16() -> None:
    image = IMAGE | {"pixel_values": torch.ones(2, 3, dtype=torch.bfloat16)}
    with pytest.raises(TypeError) as caught:
        batch_of([PAIRS[0] | image], return_tensors="np")
    assert caught.value.args == (
        "sample 0: 'pixel_values' has dtype bfloat16, which NumPy does not have: use return_tensors='pt'",
    )


def test_max_batch_bytes() -> None:
    # Six arrays, each from a multiple of 64 bytes on; the last has 2 rows of 4 cells of 8 bytes.
    assert batch_of(PAIRS, max_batch_bytes=5 * 64 + 64) == batch_of(PAIRS)
    with pytest.raises(MemoryError) as caught:
        batch_of(PAIRS, max_batch_bytes=5 * 64 + 63)
    assert caught.value.args == (
        (
            "sample 1: 'rejected_input_ids', padded to a width of 4, "
            "makes a batch of 384 bytes, more than max_batch_bytes=383"
        ),
    )
    with pytest.raises(MemoryError, match=r"sample 0: 'pixel_values', of [0-9]+ bytes, makes a batch of"):
        batch_of([PAIRS[0] | IMAGE, PAIRS[1]], max_batch_bytes=384)


@pytest.mark.parametrize(
    ("values", "place", "nbytes"),
    [
        ((torch.zeros(10), torch.zeros(10)), "sample 0: 'z', of 40 bytes,", 80),
        ((np.zeros(10), np.zeros(10)), "sample 0: 'z', of 80 bytes,", 160),
        (([1] * 10, [2] * 10), "'z' of 2 samples, of 160 bytes,", 160),
        ((torch.zeros(10, dtype=torch.int8), torch.zeros(10)), "sample 0: 'z', of 40 bytes,", 80),
        ((np.zeros(10, np.int8), np.zeros(10)), "sample 0: 'z', of 80 bytes,", 160),
    ],
    ids=["tensors", "arrays", "numbers", "tensors of two dtypes", "arrays of two dtypes"],
)
def test_max_batch_bytes_counts_stacked_extra_keys(values: tuple[Any, ...], place: str, nbytes: int) -> None:
    samples = [pair | {"z": value} for pair, value in zip(PAIRS, values, strict=True)]
    assert "z" in batch_of(samples, extra_keys="stack", max_batch_bytes=384 + nbytes)
    with pytest.raises(MemoryError) as caught:
        batch_of(samples, extra_keys="stack", max_batch_bytes=384 + nbytes - 1)
    made = f"makes a batch of {384 + nbytes} bytes, more than max_batch_bytes={384 + nbytes - 1}"
    assert caught.value.args == (f"{place} {made}",)


@pytest.mark.parametrize(
    ("shape", "sentence"),
    [
        ((3, 2**20, 2**20), f"of {12 * 2**40} bytes, makes a batch of {392 + 12 * 2**40} bytes, more than max_batch_b"),
        ((2**61, 2**61), f"of shape [{2**61}, {2**61}], is larger than the address space"),
    ],
)
def test_a_blank_image_is_counted_before_it_is_made(shape: tuple[int, ...], sentence: str) -> None:
    with pytest.raises(MemoryError) as caught:
        batch_of(PAIRS, blank_image=shape, max_batch_bytes=1000)
    assert caught.value.args[0].startswith(f"the blank tile of 'pixel_values', {sentence}")


def test_max_batch_bytes_counts_bfloat16_as_what_arrays_have_instead() -> None:
    samples = [pair | {"z": torch.zeros(10, dtype=torch.bfloat16)} for pair in PAIRS]
    options: dict[str, Any] = {"extra_keys": "stack", "max_batch_bytes": 384 + 40}
    assert "z" in batch_of(samples, **options)
    with pytest.raises(MemoryError, match=r"^sample 0: 'z', of 40 bytes, makes a batch of 464 bytes"):
        batch_of(samples, return_tensors="np", **options)


def test_options_may_be_numpy_integers() -> None:
    made = PreferenceCollator(
        pad_token_id=np.int64(3),  # type: ignore[arg-type]
        pad_to_multiple_of=np.uint8(4),  # type: ignore[arg-type]
        blank_image=(np.int32(3), 2, 2),  # type: ignore[arg-type]
    )
    assert repr(made) == "PreferenceCollator(pad_token_id=3, pad_to_multiple_of=4, blank_image=(3, 2, 2))"
    assert made(PAIRS)["chosen_input_ids"].tolist() == [[5, 6, 7, 3], [1, 2, 3, 3]]
    six = dpo_collate([PAIRS[0] | IMAGE, PAIRS[1]], pad_token_id=np.array(3))  # type: ignore[arg-type]
    assert six["chosen_input_ids"].tolist() == [[5, 6, 7], [1, 2, 3]]
