"""Image tokens: as many in each row as its images ask for, before truncation and after it, in every layout."""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dpo_collate import ImageTokens, Layout, PreferenceCollator
from dpo_collate.layout import Column, Length, Matrix, Media
from dpo_collate.named import NAMES
from pairs import Pair, full, listed, samples, split

if TYPE_CHECKING:
    from collections.abc import Callable

IMAGE, VIDEO = 9, 8
TILES = ImageTokens(IMAGE, per_tile=2)
GRIDS = ImageTokens(IMAGE, per_grid=2)
VIDEOS = ImageTokens(VIDEO, per_grid=2, medium="video_grid_thw")
JOINED = [name for name in NAMES if name != "prompt_left"]
LARGER = "expected a larger max_length, or samples that fit it"


def collator(name: str, tokens: Any = TILES, **options: Any) -> PreferenceCollator:
    return PreferenceCollator(name, **{"pad_token_id": 0, "image_tokens": tokens, **options})


def tiles(number: int, flags: Any = None) -> dict[str, Any]:
    return {"pixel_values": torch.zeros(number, 3, 2, 2), "image_flags": [1] * number if flags is None else flags}


def grids(*images: tuple[int, int, int], kind: str = "image") -> dict[str, Any]:
    values = {"image": "pixel_values", "video": "pixel_values_videos"}[kind]
    patches = sum(t * h * w for t, h, w in images)
    return {values: torch.zeros(patches, 4), f"{kind}_grid_thw": torch.tensor(images)}


def said(collate: Callable[[Any], Any], given: list[Any]) -> str:
    """The sentence of the ValueError."""
    with pytest.raises(ValueError, match=r"image|token") as caught:
        collate(given)
    (sentence,) = caught.value.args
    return str(sentence)


def of(whole: int, asked: int, side: str = "chosen", sample: int = 0, **more: Any) -> str:
    what = f"{whole} image tokens (id {more.get('what', IMAGE)})"
    return f"sample {sample}: the {side} row has {what}, but '{more.get('medium', 'pixel_values')}' asks for {asked}"


# --- the right number -----------------------------------------------------------------------------

WITH = Pair([1, IMAGE, IMAGE, IMAGE, IMAGE], [5, 6], [7])
"""Two tiles of two tokens."""
TEXT = Pair([1, 2], [3], [4, 5])


@pytest.mark.parametrize("inputs", [None, "split"])
@pytest.mark.parametrize("name", NAMES)
def test_what_rows_have_is_what_images_ask_for(name: str, inputs: Any) -> None:
    collate = collator(name, inputs=inputs)
    plain = PreferenceCollator(name, pad_token_id=0, inputs=inputs)
    text, image = samples(name, inputs, [TEXT, WITH])
    images = tiles(2) if name != "prompt_left" else {"pixel_values": torch.zeros(2, 3, 2, 2)}
    for good in ([text], [image | images], [image | images] * 2):
        assert listed(collate(good)) == listed(plain(good))
    if name != "prompt_left":
        assert len(collate([text, image | images, text])["pixel_values"]) == (2 if name == "separate" else 4)
    # One too few, in a batch that has others; and none where there are some.
    short = samples(name, inputs, [Pair(WITH.prompt[:-1], *WITH[1:])])[0]
    assert said(collate, [image | images, short | images]) == of(3, 4, sample=1)
    assert said(collate, [text | images]) == of(0, 4)
    assert said(collate, [text, image]) == of(4, 0, sample=1)
    long = samples(name, inputs, [Pair(WITH.prompt, WITH.chosen, [7, IMAGE])])[0]
    assert said(collate, [long | images]) == of(5, 4, "rejected")
    assert collate([image | images])


def test_prompt_and_completion_count_together() -> None:
    """Where they are rows of their own as well as where they are joined."""
    pair = Pair([1, IMAGE, IMAGE], [IMAGE, 5, IMAGE], [IMAGE, IMAGE])
    images = {"pixel_values": torch.zeros(2, 3, 2, 2)}
    for name, inputs in (("prompt_left", None), ("prompt_left", "split"), ("concatenated", "split")):
        (sample,) = samples(name, inputs, [pair])
        collate = collator(name, inputs=inputs)
        assert collate([sample | images])
        (wrong,) = samples(name, inputs, [Pair(pair.prompt, pair.chosen, [IMAGE, 1])])
        assert said(collate, [sample | images, wrong | images]) == of(3, 4, "rejected", 1)


def test_flags_of_zero_ask_for_none() -> None:
    for flags in ([0, 1, 1], torch.tensor([True, False, True]), np.array([1.0, 1.0, 0.0]), (2, 0, -1)):
        assert collator("interleaved")([full(WITH) | tiles(3, flags)])
    assert said(collator("interleaved"), [full(WITH) | tiles(3)]) == of(4, 6)
    assert collator("separate")([full(TEXT) | tiles(1, [0]), full(WITH) | tiles(2)])
    assert collator("separate", blank_image=(3, 2, 2))([full(TEXT)])["image_flags"].tolist() == [0]
    # Without any flag every tile is an image.
    assert collator("separate")([full(WITH) | {"pixel_values": torch.zeros(2, 3)}])


KINDS: dict[str, Callable[[list[int]], Any]] = {
    "list": list,
    "tuple": tuple,
    "tensor": torch.tensor,
    "int32 tensor": lambda row: torch.tensor(row, dtype=torch.int32),
    "strided tensor": lambda row: torch.tensor(row).repeat_interleave(2)[::2],
    "array": np.array,
    "byte-swapped array": lambda row: np.array(row, ">i4"),
    "list of NumPy numbers": lambda row: [*map(np.int16, row)],
    "list of tensors": lambda row: [*map(torch.tensor, row)],
    "buffer": lambda row: array("q", row),
}


@pytest.mark.parametrize("kind", KINDS)
def test_rows_of_any_kind(kind: str) -> None:
    for name in JOINED:
        sample = {key: KINDS[kind](row) for key, row in split(WITH).items()}
        assert collator(name, inputs="split")([sample | tiles(2)])
        assert said(collator(name, inputs="split"), [sample | tiles(1)]) == of(4, 2)


def test_ids_of_any_integer() -> None:
    tokens: list[Any] = [-1, 0, 2**40, np.int64(7)]
    for token in tokens:
        pair = Pair([5, int(token), int(token)], [6], [6])
        collate = collator("concatenated", ImageTokens(token, per_tile=1), pad_token_id=0)
        # Padding, which may be of that id too, does not count.
        assert collate([full(pair) | tiles(2), full(Pair([5] * 9, [5], [5]))])
        assert said(collate, [full(pair) | tiles(1)]) == of(2, 1, what=int(token))


# --- grids and videos -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", JOINED)
def test_grids(name: str) -> None:
    collate = collator(name, GRIDS)
    assert collate([full(WITH) | grids((1, 4, 4)), full(TEXT), full(WITH) | grids((1, 2, 2), (1, 2, 6))])
    assert said(collate, [full(WITH) | grids((2, 4, 4))]) == of(4, 8, medium="image_grid_thw")
    assert said(collate, [full(TEXT) | grids((1, 4, 4))]) == of(0, 4, medium="image_grid_thw")
    for kind in (np.array, list, lambda grid: torch.tensor(grid, dtype=torch.uint8)):
        assert collate([full(WITH) | {"image_grid_thw": kind([[1, 4, 4]])}])
    for grid in (torch.tensor([[1.0, 4.0, 4.0]]), np.array([[1, 4, 4]], np.float32), [[1.0, 4.0, 4.0]]):
        with pytest.raises(TypeError) as caught:
            collate([full(TEXT), full(WITH) | {"image_grid_thw": grid}])
        assert caught.value.args == ("sample 1: 'image_grid_thw' has dtype float32, expected integers",)


@pytest.mark.parametrize("name", JOINED)
def test_as_many_patches_as_grids_say(name: str) -> None:
    collate = collator(name, GRIDS)
    short = full(WITH) | grids((1, 4, 4)) | {"pixel_values": torch.zeros(15, 4)}
    sentence = "sample 1: 'pixel_values' has 15 patches, but 'image_grid_thw' asks for 16"
    assert said(collate, [full(TEXT), short]) == sentence
    assert collate([full(WITH) | grids((1, 4, 4)) | {"pixel_values": torch.zeros(1, 3, 8, 8)}])  # no patches
    with pytest.raises(KeyError) as caught:
        collate([full(WITH) | grids((1, 4, 4)), full(TEXT) | {"pixel_values": torch.zeros(2, 4)}])
    assert caught.value.args == ("sample 1: no 'image_grid_thw', but 'pixel_values' has 2 tiles",)
    # What tiles are called is not their number, where tokens are those of each image.
    sizes = ImageTokens(IMAGE, per_tile=4, medium="image_sizes")
    assert collator(name, sizes)([full(WITH) | {"pixel_values": torch.zeros(7, 4), "image_sizes": [[8, 8]]}])


def test_patches_of_each_side() -> None:
    for name in ("separate", "concatenated"):
        collate = collator(name, GRIDS, images="per_side")
        images = {f"chosen_{key}": value for key, value in grids((1, 4, 4)).items()}
        given = full(Pair([1], [IMAGE] * 4, [3])) | images
        assert collate([full(TEXT), given])
        sentence = "sample 0: 'chosen_pixel_values' has 9 patches, but 'chosen_image_grid_thw' asks for 16"
        assert said(collate, [given | {"chosen_pixel_values": torch.zeros(9, 4)}]) == sentence
        with pytest.raises(KeyError, match="sample 0: no 'rejected_image_grid_thw', but 'rejected_pixel_values' has 2"):
            collate([given | {"rejected_pixel_values": torch.zeros(2, 4)}])


def test_patches_that_do_not_fill_a_token() -> None:
    """Each image for itself, as the processors of models count."""
    nine = ImageTokens(IMAGE, per_grid=3)
    pair = Pair([IMAGE], [5], [6])
    assert collator("separate", nine)([full(pair) | grids((1, 3, 4), (1, 2, 4))])
    assert said(collator("separate", nine), [full(pair) | grids((1, 3, 6))]) == of(1, 2, medium="image_grid_thw")


@pytest.mark.parametrize("grid", [[1, 4, 4], [[1, 4]], [[[1, 4, 4]]]])
def test_grids_of_another_shape(grid: list[Any]) -> None:
    shape = list(torch.tensor(grid).shape)
    sentence = f"sample 1: 'image_grid_thw' has shape {shape}, expected [images, 3]"
    given = [full(TEXT), full(WITH) | {"image_grid_thw": grid}]
    assert said(collator("concatenated", GRIDS), given) == sentence


VIDEO_PAIR = Pair([VIDEO, VIDEO, IMAGE, IMAGE, IMAGE, IMAGE], [5, 6], [7, 1, 2])


def test_images_and_videos() -> None:
    collate = collator("padding_free", (GRIDS, VIDEOS))
    clip = grids((1, 2, 4), kind="video") | {"second_per_grid_ts": [0.5]}
    both = full(VIDEO_PAIR) | grids((1, 4, 4)) | clip
    batch = collate([full(TEXT), both, full(WITH) | grids((1, 4, 4))])
    assert batch["video_grid_thw"].tolist() == [[1, 2, 4]] * 2
    assert batch["second_per_grid_ts"].tolist() == [0.5] * 2
    assert batch["image_grid_thw"].tolist() == [[1, 4, 4]] * 4
    wrong = both | grids((1, 2, 2), (1, 2, 2), kind="video") | grids((1, 2, 2))
    assert said(collate, [wrong]) == of(4, 1, medium="image_grid_thw")
    wrong = both | grids((1, 2, 2), kind="video")
    assert said(collate, [wrong]) == of(2, 1, medium="video_grid_thw", what=VIDEO)
    assert said(collate, [full(WITH) | clip]) == of(4, 0, medium="image_grid_thw")
    # The one kind is not counted where only the other is named.
    assert collator("padding_free", VIDEOS)([both, full(WITH)])
    assert collator("padding_free", (VIDEOS,))([both])
    assert collator("padding_free", ())([full(WITH)])


# --- a side's own ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", JOINED)
def test_images_of_each_side(name: str) -> None:
    collate = collator(name, images="per_side")
    pair = Pair([1], [IMAGE] * 4, [IMAGE] * 2)
    images = {"chosen_pixel_values": torch.zeros(2, 3), "rejected_pixel_values": torch.zeros(1, 3)}
    assert collate([full(TEXT), full(pair) | images])
    assert said(collate, [full(TEXT), full(Pair([1], [IMAGE] * 4, [IMAGE] * 4)) | images]) == of(4, 2, "rejected", 1)
    assert said(collate, [full(Pair([1], [IMAGE] * 2, [IMAGE] * 2)) | images]) == of(2, 4)
    only = {"chosen_pixel_values": torch.zeros(2, 3), "chosen_image_flags": [0, 1]}
    assert collate([full(Pair([1], [IMAGE, IMAGE], [3])) | only])
    assert said(collate, [full(Pair([1], [IMAGE, IMAGE], [IMAGE])) | only]) == of(1, 0, "rejected")
    # Flags go with the tiles of their own side.
    flags = {"chosen_image_flags": [1, 1], "rejected_image_flags": [0]}
    assert collate([full(Pair([1], [IMAGE] * 4, [3])) | images | flags])


# --- truncation -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", JOINED)
def test_truncation(name: str) -> None:
    pair = Pair([IMAGE, IMAGE, 1], [5, 6, 7], [8, 4])
    given = [full(TEXT), full(pair) | tiles(1)]
    batch = collator(name, max_length=4)(given)
    assert [row for key, value in batch.items() if "input_ids" in key for row in value.tolist()] == {
        "separate": [[1, 2, 3, 0], [9, 9, 1, 5], [1, 2, 4, 5], [9, 9, 1, 8]],
        "concatenated": [[1, 2, 3, 0], [9, 9, 1, 5], [1, 2, 4, 5], [9, 9, 1, 8]],
        "interleaved": [[1, 2, 3, 0], [1, 2, 4, 5], [9, 9, 1, 5], [9, 9, 1, 8]],
        "padding_free": [[1, 2, 3, 9, 9, 1, 5, 1, 2, 4, 5, 9, 9, 1, 8]],
    }[name]
    cut = "sample 1: truncation cuts {} of the 2 image tokens (id 9) of the {} row: " + LARGER
    assert said(collator(name, max_length=5, truncation_mode="keep_end"), given) == cut.format(1, "chosen")
    assert said(collator(name, max_length=4, truncation_mode="keep_end"), given) == cut.format(2, "chosen")
    only_rejected = [full(TEXT), full(Pair([IMAGE, IMAGE], [3], [4, 5, 6])) | tiles(1)]
    late = collator(name, max_length=3, truncation_mode="keep_end")
    assert said(late, only_rejected) == cut.format(2, "rejected")
    # The number is wrong before truncation: that is said.
    assert said(collator(name, max_length=4), [full(pair) | tiles(2)]) == of(2, 4)
    after = Pair([IMAGE, IMAGE, 1], [5, IMAGE], [6, IMAGE])
    assert said(collator(name, max_length=4), [full(after) | tiles(1)]) == of(3, 2)


def test_truncation_of_what_nobody_counts_stays_an_error() -> None:
    could = (
        "truncation could cut image tokens, and the sample has images: expected a larger max_length, samples that fit "
        "it, or PreferenceCollator's image_tokens, which counts them"
    )
    image = full(Pair([IMAGE] * 4, [1, 2], [3])) | grids((1, 4, 4))
    clip = full(Pair([VIDEO, VIDEO], [1, 2, 3, 4], [3])) | grids((1, 2, 4), kind="video")
    clip |= {"second_per_grid_ts": [0.5]}
    assert said(collator("concatenated", None, max_length=5), [full(TEXT), image]) == f"sample 1: {could}"
    assert said(collator("concatenated", VIDEOS, max_length=5), [clip, image]) == f"sample 1: {could}"
    assert said(collator("concatenated", GRIDS, max_length=5), [image, clip]) == f"sample 1: {could}"
    assert collator("concatenated", GRIDS, max_length=5)([image])
    assert collator("concatenated", VIDEOS, max_length=5)([clip])
    assert collator("concatenated", (GRIDS, VIDEOS), max_length=5)([clip, image])
    # Videos whose tokens are counted as those of images are not.
    assert said(collator("concatenated", TILES, max_length=5), [full(TEXT) | grids((1, 2, 4), kind="video"), clip]) == (
        f"sample 1: {could}"
    )


def test_only_images_that_were_counted_may_be_truncated() -> None:
    """What says something of images counts with them; other media do not."""
    media = (
        Media("pixel_values", ("pixel_values",)),
        Media("sizes", ("sizes",), describes="pixel_values"),
        Media("audio", ("audio",)),
    )
    collate = collator("concatenated", TILES, max_length=5, media=media)
    image = full(Pair([IMAGE, IMAGE, 1], [5, 6, 7], [8, 4])) | {"pixel_values": torch.zeros(1, 3)}
    assert collate([image | {"sizes": [[1, 2]]}])
    assert said(collate, [image | {"audio": [0.5]}]).startswith("sample 0: truncation could cut image tokens")
    # Sizes without their images: nobody counts the tokens of these.
    sizes = full(Pair([1, 2, 3], [5, 6, 7], [8])) | {"sizes": [[1, 2]]}
    assert said(collate, [sizes]).startswith("sample 0: truncation could cut image tokens")


rows = st.lists(st.sampled_from([1, 2, IMAGE, IMAGE]), min_size=1, max_size=8)


@given(
    pairs=st.lists(st.builds(Pair, rows, rows, rows), min_size=1, max_size=3),
    numbers=st.lists(st.integers(0, 12), min_size=3, max_size=3),
    name=st.sampled_from(JOINED),
    max_length=st.integers(2, 17),
    mode=st.sampled_from(["keep_start", "keep_end"]),
)
def test_against_a_plain_restatement(
    pairs: list[Pair], numbers: list[int], name: str, max_length: int, mode: str
) -> None:
    window = slice(-max_length, None) if mode == "keep_end" else slice(max_length)
    tokens = ImageTokens(IMAGE, per_tile=1)
    # Every second batch is right in number as far as chosen goes.
    if numbers[0] % 2:
        numbers = [(pair.prompt + pair.chosen).count(IMAGE) for pair in pairs]
    wrong = []
    for pair, number in zip(pairs, numbers, strict=False):
        both = [pair.prompt + pair.chosen, pair.prompt + pair.rejected]
        wrong.append(any({row.count(IMAGE), row[window].count(IMAGE)} != {number} for row in both))
    given = [full(pair) | {"pixel_values": np.zeros((n, 1))} for pair, n in zip(pairs, numbers, strict=False)]
    labelled = [{key: [5] * len(row) if "labels" in key else row for key, row in sample.items()} for sample in given]
    collate = collator(name, tokens, max_length=max_length, truncation_mode=mode)
    if any(wrong):
        sentence = said(collate, labelled)
        assert "image tokens" in sentence
        assert wrong[int(sentence.split()[1].strip(":"))]
    else:
        assert collate(labelled)


# --- layouts of one's own, and what cannot be made ------------------------------------------------


def test_layouts_of_ones_own() -> None:
    ids = (Column("ids"),)
    rows = {"": (("",),), "prompt": (("prompt",),), "response": (("response",),)}
    for stem, parts in rows.items():
        table = Layout("own", (Matrix(parts, ids, tokens="{}ids"),), (Media("pixel_values", ("image",)),))
        collate = PreferenceCollator(table, pad_token_id=0, image_tokens=TILES)
        assert collate([{f"{stem}ids": [IMAGE] * 2, "image": [0.5]}])
        row = f"the {stem} row" if stem else "the row"
        sentence = f"sample 0: {row} has 1 image tokens (id 9), but 'pixel_values' asks for 2"
        assert said(collate, [{f"{stem}ids": [IMAGE], "image": [0.5]}]) == sentence


def test_sides_are_what_rows_end_in() -> None:
    rows = (("prompt", "best"), ("prompt", "worst"))
    media = (Media("pixel_values", ("best_image", "worst_image")),)
    table = Layout("own", (Matrix(rows, (Column("ids"),), tokens="{}_ids"),), media)
    collate = PreferenceCollator(table, pad_token_id=0, image_tokens=TILES)
    sample = {"prompt_ids": [1], "best_ids": [IMAGE] * 4, "worst_ids": [IMAGE] * 2}
    images = {"best_image": torch.zeros(2, 3), "worst_image": torch.zeros(1, 3)}
    assert collate([sample | images])
    assert said(collate, [sample | images | {"worst_ids": [IMAGE]}]) == of(1, 2, "worst")
    assert said(collate, [sample | images | {"best_ids": [IMAGE]}]) == of(1, 4, "best")


def test_a_row_in_two_matrices_counts_once() -> None:
    """Truncation cuts it in one of them."""
    cut = Matrix((("prompt",),), (Column("short"),), tokens="{}_ids", length=Length(max_length=3))
    whole = Matrix((("prompt",),), (Column("long"),), tokens="{}_ids")
    answers = Matrix((("chosen",),), (Column("answer"),), tokens="{}_ids")
    media = (Media("pixel_values", ("image",)),)
    sentence = f"sample 0: truncation cuts 1 of the 4 image tokens (id 9) of the chosen row: {LARGER}"
    for matrices in ((cut, whole, answers), (whole, cut, answers)):
        collate = PreferenceCollator(Layout("own", matrices, media), pad_token_id=0, image_tokens=TILES)
        good = {"prompt_ids": [IMAGE] * 2, "chosen_ids": [IMAGE] * 2, "image": torch.zeros(2, 3)}
        assert collate([good])
        assert said(collate, [good | {"prompt_ids": [1, 2, IMAGE, IMAGE]}]) == sentence


def test_dropped_tokens_are_not_kept() -> None:
    matrix = Matrix((("chosen",),), (Column("ids"),), tokens="{}_ids", drop_last=1)
    table = Layout("own", (matrix,), (Media("pixel_values", ("image",)),))
    collate = PreferenceCollator(table, pad_token_id=0, image_tokens=TILES)
    image = {"image": torch.zeros(1, 3)}
    assert collate([{"chosen_ids": [IMAGE, IMAGE, 1]} | image])["ids"].tolist() == [[IMAGE, IMAGE]]
    sentence = f"sample 0: truncation cuts 1 of the 2 image tokens (id 9) of the chosen row: {LARGER}"
    assert said(collate, [{"chosen_ids": [1, IMAGE, IMAGE]} | image]) == sentence


def test_what_is_said_of_tokens_in_rows_of_its_own_is_no_token() -> None:
    collate = collator("prompt_left", ImageTokens(1, per_tile=2))
    (sample,) = samples("prompt_left", None, [Pair([1, 1, 5], [6], [7])])
    given = sample | {"pixel_values": torch.zeros(1, 3, 2, 2), "token_type_ids": [1, 1, 1]}
    assert collate([given])["token_type_ids"].tolist() == [[1, 1, 1]]
    assert said(collate, [given | {"prompt_input_ids": [1, 5, 5]}]) == of(1, 2, what=1)


@pytest.mark.parametrize(
    ("arguments", "error", "sentence"),
    [
        ({}, ValueError, "expected per_tile or per_grid: one of them says how many tokens an image takes"),
        (
            {"per_tile": 256, "per_grid": 2},
            ValueError,
            "expected per_tile or per_grid: one of them says how many tokens an image takes",
        ),
        ({"per_tile": 0}, ValueError, "per_tile=0: expected 1 or more"),
        ({"per_grid": 2.0}, TypeError, "per_grid=2.0: expected an integer"),
        ({"id": "<image>", "per_tile": 1}, TypeError, "id='<image>': expected an integer"),
        ({"id": 2**63, "per_tile": 1}, ValueError, f"id={2**63}: expected an integer of 64 bits"),
        ({"per_tile": 1, "medium": 5}, TypeError, "medium=5: expected a str"),
    ],
)
def test_wrong_tokens(arguments: dict[str, Any], error: type[Exception], sentence: str) -> None:
    with pytest.raises(error) as caught:
        ImageTokens(**{"id": IMAGE, **arguments})
    assert caught.value.args == (sentence,)


def test_the_medium_that_is_counted() -> None:
    assert ImageTokens(1, per_tile=2).medium == "pixel_values"
    assert ImageTokens(1, per_grid=2).medium == "image_grid_thw"
    assert VIDEOS.medium == "video_grid_thw"


@pytest.mark.parametrize(
    ("layout", "tokens", "error", "sentence"),
    [
        (
            "prompt_left",
            GRIDS,
            ValueError,
            f"image_tokens={GRIDS!r}: layout 'prompt_left' has no medium 'image_grid_thw'",
        ),
        (
            "separate",
            (TILES, ImageTokens(1, per_tile=1, medium="audio")),
            ValueError,
            f"image_tokens={ImageTokens(1, per_tile=1, medium='audio')!r}: layout 'separate' has no medium 'audio'",
        ),
        ("separate", (TILES, TILES), ValueError, f"image_tokens={(TILES, TILES)!r}: expected tokens of different ids"),
        ("separate", 256, TypeError, "image_tokens=256: expected a tuple of ImageTokens"),
        ("separate", [TILES], TypeError, f"image_tokens={[TILES]!r}: expected a tuple of ImageTokens"),
        ("separate", (TILES, 9), TypeError, f"image_tokens={(TILES, 9)!r}: expected a tuple of ImageTokens"),
    ],
)
def test_wrong_option(layout: str, tokens: Any, error: type[Exception], sentence: str) -> None:
    with pytest.raises(error) as caught:
        collator(layout, tokens)
    assert caught.value.args == (sentence,)
