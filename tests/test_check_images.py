"""Looking at a data set with images: what is wrong with them, row by row and beside other rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from data_sets import datasets, pa
from dpo_collate import ImageTokens, PreferenceCollator, _media, check
from dpo_collate.checking import Problem
from dpo_collate.collator import _SIX_FIELDS
from dpo_collate.layout import Column, Layout, Matrix, Media
from pairs import IGNORED, Pair, full

IMAGE = 9
TILES = ImageTokens(IMAGE, per_tile=2)
THE_FIRST = "but those of row 0 have [3, 2, 2] and float32"
Rows = list[dict[str, Any]]


def collator(name: Any = "separate", **options: Any) -> PreferenceCollator:
    return PreferenceCollator(name, pad_token_id=0, label_pad_token_id=IGNORED, **options)


def row(index: int, tokens: int = 0, **media: Any) -> dict[str, Any]:
    """A pair with so many image tokens in its prompt."""
    return {**full(Pair([100 + index, *[IMAGE] * tokens], [3, 4], [5])), **media}


def images(number: int, value: float = 0, size: int = 2, **more: Any) -> dict[str, Any]:
    return {"pixel_values": torch.full((number, 3, size, size), float(value)), "image_flags": [1] * number, **more}


def found(rows: Any, with_: PreferenceCollator | None = None, **options: Any) -> list[tuple[int, str | None, str]]:
    problems = check(rows, with_ or collator(), **options).problems
    return [(problem.row, problem.key, problem.kind) for problem in problems]


def messages(rows: Any, with_: PreferenceCollator | None = None, **options: Any) -> list[str]:
    return [problem.message for problem in check(rows, with_ or collator(), **options).problems]


def test_good_images_have_no_problems() -> None:
    rows = [row(0, 4, **images(2)), row(1), row(2, 2, **images(2, image_flags=[0, 1])), row(3, 0, pixel_values=None)]
    assert messages(rows, collator(image_tokens=TILES), vocab_size=200) == []
    assert messages(rows) == []
    shapes = [row(0, pixel_values=torch.zeros(0, 3, 2, 2), image_flags=[]), row(1, **images(1))]
    assert messages(shapes) == []
    # None of a row must have an image where only a batch must have one.
    assert messages([row(0), row(1, **images(1))], collator(_SIX_FIELDS)) == []
    assert messages([row(0), row(1, **images(1))], collator(blank_image=(3, 2, 2))) == []


@pytest.mark.parametrize(
    ("media", "key", "kind", "sentence"),
    [
        (
            images(2, image_flags=[1]),
            "image_flags",
            "image_flags",
            "'image_flags' has 1 flags, but 'pixel_values' has 2 tiles (its first dimension counts them)",
        ),
        (
            {"image_flags": [1]},
            "pixel_values",
            "image_flags",
            "no 'pixel_values', but 'image_flags' has 1 flags",
        ),
        (
            {"pixel_values": "text"},
            "pixel_values",
            "images",
            "'pixel_values' is a str, expected a tensor or an array",
        ),
        (
            {"pixel_values": [[[1.0, 2.0], [3.0]]]},
            "pixel_values",
            "images",
            "'pixel_values' is a list that is no array: ",
        ),
        (
            {"pixel_values": torch.tensor(1.0)},
            "pixel_values",
            "images",
            "'pixel_values' is a single number, expected a first dimension that counts tiles",
        ),
        (
            images(1, size=4),
            "pixel_values",
            "images_differ",
            f"'pixel_values' has tiles of shape [3, 4, 4] and dtype float32, {THE_FIRST}",
        ),
        (
            images(1, pixel_values=np.zeros((1, 3, 2, 2))),
            "pixel_values",
            "images_differ",
            f"'pixel_values' has tiles of shape [3, 2, 2] and dtype float64, {THE_FIRST}",
        ),
    ],
)
def test_each_fault_of_images(media: dict[str, Any], key: str, kind: str, sentence: str) -> None:
    rows = [row(0, **images(1)), row(1), row(2, **media), row(3, **images(2))]
    (problem,) = check(rows, collator()).problems
    assert (problem.row, problem.key, problem.kind) == (2, key, kind)
    assert problem.message.startswith(f"row 2: {sentence}")
    assert problem.message.endswith(sentence) or sentence.endswith(": ")


def test_image_tokens() -> None:
    rows = [
        row(0, 4, **images(2)),
        row(1, 3, **images(2)),
        row(2, 1),
        row(3, 2, **images(2, image_flags=[0, 1])),
        {**row(4, 2, **images(1)), "rejected_input_ids": [1, 2, 3, 4]},
    ]
    with_tokens = collator(image_tokens=TILES)
    assert messages(rows, with_tokens) == [
        # (of both sides, if both are wrong)
        "row 1: the chosen row has 3 image tokens (id 9), but 'pixel_values' asks for 4",
        "row 1: the rejected row has 3 image tokens (id 9), but 'pixel_values' asks for 4",
        "row 2: the chosen row has 1 image tokens (id 9), but 'pixel_values' asks for 0",
        "row 2: the rejected row has 1 image tokens (id 9), but 'pixel_values' asks for 0",
        "row 4: the rejected row has 0 image tokens (id 9), but 'pixel_values' asks for 2",
    ]
    assert found(rows) == []


def test_tokens_of_several_kinds() -> None:
    videos = ImageTokens(8, per_grid=2, medium="video_grid_thw")
    faulty = row(1, 3, **images(2), pixel_values_videos=torch.zeros(4, 2), video_grid_thw=torch.tensor([[1, 2, 2]]))
    assert messages([faulty], collator(image_tokens=(TILES, videos))) == [
        f"row 0: the {side} row has {count} image tokens (id {of}), but '{medium}' asks for {asked}"
        for count, of, medium, asked in ((3, IMAGE, "pixel_values", 4), (0, 8, "video_grid_thw", 1))
        for side in ("chosen", "rejected")
    ]


def test_truncation_of_rows_with_images() -> None:
    rows = [row(0, 4, **images(2)), row(1), row(2, 4)]
    rows[0]["chosen_labels"] = [1] * 7
    rows[0]["rejected_labels"] = [1] * 6
    short = collator(max_length=4)
    (problem,) = check(rows[:2], short).problems
    assert (problem.row, problem.kind) == (0, "truncated_images")
    assert problem.message.startswith("row 0: truncation could cut image tokens, and the sample has images: ")
    assert messages(rows[:2], collator(max_length=4, image_tokens=TILES)) == [
        f"row 0: truncation cuts 1 of the 4 image tokens (id 9) of the {side} row: expected a larger max_length, or "
        f"samples that fit it"
        for side in ("chosen", "rejected")
    ]


def test_faults_of_tokens_and_images_in_one_row() -> None:
    faulty = row(1, 3, **images(2, image_flags=[1]), image_sizes="text")
    faulty["chosen_labels"] = [1]
    assert set(found([row(0, 2, **images(1)), faulty], collator(image_tokens=TILES))) == {
        (1, "chosen_labels", "length_mismatch"),
        (1, "image_flags", "image_flags"),
        (1, "image_sizes", "images"),
    }
    faulty = row(1, 3, **images(2))
    faulty["chosen_labels"] = [1]
    problems = [problem.kind for problem in check([row(0), faulty], collator(image_tokens=TILES)).problems]
    assert problems == ["length_mismatch", "image_tokens", "image_tokens"]
    # Of a row that has tokens and no images, likewise.
    faulty = row(1, 1)
    faulty["chosen_labels"] = [1]
    problems = [problem.kind for problem in check([row(0), faulty], collator(image_tokens=TILES)).problems]
    assert problems == ["length_mismatch", "image_tokens", "image_tokens"]
    # Of ids that cannot be read, images are still looked at.
    faulty = row(1, 3, **images(2, image_flags=[1]))
    faulty["chosen_input_ids"] = None
    assert set(found([row(0), faulty], collator(image_tokens=TILES))) == {
        (1, "chosen_input_ids", "null"),
        (1, "image_flags", "image_flags"),
    }


def test_too_many_bytes() -> None:
    small = collator(max_batch_bytes=4096)
    (problem,) = check([row(0, **images(1)), row(1, **images(1, size=64))], small).problems[:1]
    assert (problem.row, problem.kind) == (1, "too_large")
    assert problem.message.startswith("row 1: 'pixel_values', of 49152 bytes, makes a batch of ")
    arrays = collator(return_tensors="np")
    assert messages([row(0, pixel_values=torch.zeros(1, 3, 2, 2, dtype=torch.bfloat16))], arrays)[0].startswith(
        "row 0: 'pixel_values' has dtype bfloat16, which NumPy does not have"
    )


def test_what_is_no_memory_for_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    def join(*_: Any) -> None:
        raise MemoryError

    monkeypatch.setattr(_media, "join", join)
    with pytest.raises(MemoryError):
        check([row(0, **images(1))], collator())


def test_flags_are_there_for_the_tiles_of_all_rows_or_of_none() -> None:
    flagged, plain = row(0, **images(2)), row(1, pixel_values=torch.zeros(1, 3, 2, 2), image_flags=None)
    expected = "expected flags of the tiles of all rows, or of none"
    assert check([flagged, row(2), plain], collator()).problems == (
        Problem(2, "image_flags", "not_in_all", f"row 2: no 'image_flags', but row 0 has it: {expected}"),
    )
    assert messages([plain, flagged]) == [
        f"row 1: 'image_flags' is there, but row 0 has tiles and none: {expected}",
    ]
    assert messages([plain, row(2, pixel_values=torch.zeros(1, 3, 2, 2))]) == []
    with pytest.raises(KeyError, match=r"^\"sample 1: no 'image_flags', but 'pixel_values' has 1 tiles: "):
        collator()([flagged, plain])


def test_pairs_with_other_images_are_no_duplicates() -> None:
    rows = [row(0, **images(1, value)) for value in (0.0, 1.0, 0.0)]
    assert found(rows) == [(2, None, "duplicate")]
    assert found([row(0), *rows[:1]]) == []
    half = [row(0, pixel_values=torch.zeros(1, 2, dtype=dtype)) for dtype in (torch.bfloat16, torch.float16)]
    assert [kind for _, _, kind in found(half)] == ["images_differ"]
    assert found([half[0], half[0]]) == [(1, None, "duplicate")]
    assert found(rows, duplicates=False) == []


def test_sides_with_images_of_their_own_may_be_equal() -> None:
    equal = {**full(Pair([1], [2], [2]))}
    mine = collator(images="per_side")
    apart = {"chosen_pixel_values": torch.zeros(1, 2), "rejected_pixel_values": torch.ones(1, 2)}
    assert found([{**equal, **apart}], mine) == []
    assert found([equal], mine) == [(0, "rejected_input_ids", "equal_sides")]
    joined = collator("concatenated", images="per_side")
    assert found([{**equal, **apart}], joined) == []
    shared = {"pixel_values": torch.zeros(1, 2)}
    assert found([{**equal, **shared}]) == [(0, "rejected_input_ids", "equal_sides")]


def table(rows: Rows) -> Any:
    def plain(value: Any) -> Any:
        return value.tolist() if hasattr(value, "tolist") else value

    return pa.Table.from_pylist([{key: plain(value) for key, value in one.items()} for one in rows])


def test_images_in_tables() -> None:
    rows = [
        row(0, 4, **images(2)),
        row(1, pixel_values=None, image_flags=None),
        row(2, 2, **images(1, image_flags=[1, 1])),
        row(3, 2, **images(1, 1.0, size=4)),
        row(4, 1, **images(1)),
        row(0, 4, **images(2)),
        row(0, 4, **images(2, 1.0)),
        row(7, 2, pixel_values=[[[[1.0, 2.0], [3.0, 4.0]]], [[[1.0]]]], image_flags=[1, 1]),
        row(8, 2, pixel_values=[[[[1.0, None], [3.0, 4.0]]]], image_flags=[1]),
    ]
    expected = [
        (2, "image_flags", "image_flags"),
        (3, "pixel_values", "images_differ"),
        (4, "chosen_input_ids", "image_tokens"),
        (4, "rejected_input_ids", "image_tokens"),
        (5, None, "duplicate"),
        (7, "pixel_values", "images"),
        (8, "pixel_values", "images"),
    ]
    whole = table(rows)
    for data in (whole, datasets.Dataset(whole), [whole.slice(at, 1) for at in range(len(rows))]):
        assert found(data, collator(image_tokens=TILES)) == expected
    assert messages(whole)[-1].startswith("row 8: 'pixel_values' holds null at position 1")


def test_media_that_are_stacked() -> None:
    media = (Media("one", ("a_one", "b_one"), combine="stack"), Media("two", ("two",), combine="pad", pad=-1))
    layout = Layout("stacked", (Matrix((("a",), ("b",)), (Column("ids"),), tokens="{}_ids"),), media)
    ids = {"a_ids": [1], "b_ids": [2]}
    rows = [
        {**ids, "a_one": np.zeros(2), "b_one": np.zeros(2), "two": np.zeros(3)},
        {**ids, "a_one": np.zeros(2), "b_one": np.zeros(3)},
        {**ids, "two": np.zeros((3, 1)), "a_one": np.zeros(4), "b_one": np.zeros(4)},
        {**ids, "two": np.zeros(3, np.uint8)},
    ]
    of_one = "and dtype float64, but that of row {} has [2] and float64: they cannot be stacked"
    of_two = "and dtype float64, but that of row 0 has [3] and float64: they cannot be padded to one shape"
    assert messages(rows, collator(layout)) == [
        f"row 1: 'b_one' has shape [3] {of_one.format(1)}",
        f"row 2: 'a_one' has shape [4] {of_one.format(0)}",
        f"row 2: 'b_one' has shape [4] {of_one.format(0)}",
        f"row 2: 'two' has shape [3, 1] {of_two}",
        "row 3: 'two' has dtype uint8, which cannot hold the padding -1",
    ]
