"""How wide named layouts are: multiples, buckets, rows that are multiples themselves, least widths."""

from __future__ import annotations

from math import lcm
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpo_collate.named import NAMES
from pairs import IGNORED, PAD, PAIRS, Pair, collate, listed, samples

N = IGNORED
PADDED = [name for name in NAMES if name != "padding_free"]


def ids(batch: dict[str, Any]) -> list[Any]:
    return [value for key, value in batch.items() if key.endswith("input_ids")]


def widths(name: str, pairs: list[Pair] | None = None, **options: Any) -> list[int]:
    batch = collate(name, samples(name, None, pairs or PAIRS), **options)
    found = [value.shape[1] for value in ids(batch)]
    cells = {key: value for key, value in batch.items() if getattr(value, "ndim", 0) == 2}
    assert [value.shape[1] for value in cells.values()] == [
        width for width in found for _ in range(len(cells) // len(found))
    ]
    return found


WIDTHS = {"separate": [3, 4], "concatenated": [4], "interleaved": [4], "prompt_left": [2, 2, 2], "padding_free": [11]}
"""Of the pairs as they are."""


@pytest.mark.parametrize("name", NAMES)
def test_multiples_and_buckets(name: str) -> None:
    plain = WIDTHS[name]
    assert widths(name) == plain
    for multiple in (1, 2, 5, 8):
        assert widths(name, pad_to_multiple_of=multiple) == [-(-width // multiple) * multiple for width in plain]
    assert widths(name, buckets=(64, 11, 4)) == [11 if width == 11 else 4 for width in plain]
    assert widths(name, buckets=[12]) == [12] * len(plain)
    assert widths(name, min_length=9) == [max(width, 9) for width in plain]
    assert widths(name, min_length=9, buckets=(4, 10, 20)) == [20 if width == 11 else 10 for width in plain]
    assert widths(name, min_length=9, pad_to_multiple_of=4) == [12] * len(plain)


@pytest.mark.parametrize("name", NAMES)
def test_what_fits_already_stays_as_it_is(name: str) -> None:
    pairs = [Pair([1, 2], [3, 4], [5, 6]), Pair([7], [8], [9])]  # all parts are two wide, all rows four, twelve in all
    given = samples(name, None, pairs)
    width = {"prompt_left": 2, "padding_free": 12}.get(name, 4)
    plain = listed(collate(name, given))
    options: list[dict[str, Any]] = [
        {"pad_to_multiple_of": width},
        {"buckets": (width, 2 * width)},
        {"min_length": width},
        {"pad_to_multiple_of": 1, "row_multiple_of": 1},
    ]
    for more in options:
        assert listed(collate(name, given, **more)) == plain


@pytest.mark.parametrize("name", PADDED)
def test_rows_of_a_matrix_are_multiples_as_it_is(name: str) -> None:
    plain = WIDTHS[name]
    for multiple in (1, 3, 4):
        assert widths(name, row_multiple_of=multiple) == [-(-width // multiple) * multiple for width in plain]
    assert widths(name, row_multiple_of=4, pad_to_multiple_of=6) == [12] * len(plain)
    assert widths(name, row_multiple_of=5, buckets=(5, 10)) == [5] * len(plain)


def test_flat_rows_are_multiples_each() -> None:
    assert listed(collate("padding_free", samples("", None, PAIRS), row_multiple_of=4)) == {
        # chosen 0, chosen 1, rejected 0, rejected 1, each with its own padding
        "input_ids": [[1, 2, 3, PAD, 6, 7, 8, PAD, 1, 2, 4, 5, 6, PAD, PAD, PAD]],
        "labels": [[N, N, 3, N, N, 7, 8, N, N, N, 4, 5, N, N, N, N]],
        "position_ids": [[0, 1, 2, 3] * 4],
        "cu_seq_lens_q": [0, 4, 8, 12, 16],
        "cu_seq_lens_k": [0, 4, 8, 12, 16],
        "max_length_q": 4,
        "max_length_k": 4,
        "seq_idx": [[0, 0, 0, -1, 1, 1, 1, -1, 2, 2, 2, 2, 3, -1, -1, -1]],
    }


def test_the_tail_of_flat_rows_is_a_segment_of_its_own() -> None:
    assert listed(collate("padding_free", samples("", None, PAIRS), row_multiple_of=2, pad_to_multiple_of=10)) == {
        "input_ids": [[1, 2, 3, PAD, 6, 7, 8, PAD, 1, 2, 4, 5, 6, *[PAD] * 7]],
        "labels": [[N, N, 3, N, N, 7, 8, N, N, N, 4, 5, N, *[N] * 7]],
        "position_ids": [[0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3, 0, 1, *range(6)]],
        "cu_seq_lens_q": [0, 4, 8, 12, 14, 20],
        "cu_seq_lens_k": [0, 4, 8, 12, 14, 20],
        "max_length_q": 6,
        "max_length_k": 6,
        "seq_idx": [[0, 0, 0, -1, 1, 1, 1, -1, 2, 2, 2, 2, 3, *[-1] * 7]],
    }


@pytest.mark.parametrize(
    ("name", "buckets", "sentence"),
    [
        (
            "separate",
            (2, 3),
            "sample 0: 'rejected_input_ids', the longest row, makes a width of 4, more than the largest bucket 3",
        ),
        (
            "separate",
            (2, 1),
            "sample 0: 'chosen_input_ids', the longest row, makes a width of 3, more than the largest bucket 2",
        ),
        (
            "concatenated",
            (2, 3),
            "sample 0: 'rejected_input_ids', the longest row, makes a width of 4, more than the largest bucket 3",
        ),
        (
            "interleaved",
            (3,),
            "sample 0: 'rejected_input_ids', the longest row, makes a width of 4, more than the largest bucket 3",
        ),
        (
            "prompt_left",
            (1,),
            "sample 0: 'prompt_input_ids', the longest row, makes a width of 2, more than the largest bucket 1",
        ),
    ],
)
def test_a_row_longer_than_every_bucket(name: str, buckets: tuple[int, ...], sentence: str) -> None:
    with pytest.raises(ValueError, match=f"^{sentence}$"):
        collate(name, samples(name, None, PAIRS), buckets=buckets)
    last = [Pair([6], [7], [8]), *PAIRS[:1]]
    with pytest.raises(ValueError, match=f"^{sentence.replace('sample 0', 'sample 1')}$"):
        collate(name, samples(name, None, last), buckets=buckets)


def test_flat_rows_longer_than_every_bucket() -> None:
    with pytest.raises(
        ValueError,
        match=r"^sample 0: 'rejected_input_ids', the longest row, makes a width of 11, more than the largest bucket 8$",
    ):
        collate("padding_free", samples("", None, PAIRS), buckets=(4, 8))


def test_rows_are_cut_before_they_are_put_in_buckets() -> None:
    batch = collate("concatenated", samples("", None, PAIRS), buckets=(3, 8), max_length=3)
    assert batch["input_ids"].tolist() == [[1, 2, 3], [6, 7, 8], [1, 2, 4], [6, PAD, PAD]]


row = st.lists(st.integers(0, 5), min_size=1, max_size=9)


@given(
    pairs=st.lists(st.builds(Pair, row, row, row), min_size=1, max_size=4),
    multiple=st.integers(1, 12),
    row_multiple=st.integers(1, 5),
    min_length=st.integers(0, 30),
)
def test_widths_against_a_plain_restatement(
    pairs: list[Pair], multiple: int, row_multiple: int, min_length: int
) -> None:
    lengths = [len(pair.prompt + side) for pair in pairs for side in (pair.chosen, pair.rejected)]
    given = samples("", "full", pairs)
    options: dict[str, Any] = {
        "pad_to_multiple_of": multiple,
        "row_multiple_of": row_multiple,
        "min_length": min_length,
    }
    both = lcm(multiple, row_multiple)
    batch = collate("interleaved", given, **options)
    assert batch["input_ids"].shape[1] == -(-max(*lengths, min_length) // both) * both
    flat = collate("padding_free", given, **options)
    rounded = [-(-length // row_multiple) * row_multiple for length in lengths]
    total = -(-max(sum(rounded), min_length) // both) * both
    assert flat["input_ids"].shape == (1, total)
    grouped = rounded[::2] + rounded[1::2]
    tail = [total - sum(rounded)] if total > sum(rounded) else []
    assert flat["cu_seq_lens_q"].diff().tolist() == grouped + tail
    assert flat["max_length_k"] == max(grouped + tail)
    assert (flat["seq_idx"] >= 0).sum().item() == sum(lengths)
