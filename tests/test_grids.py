"""What matrices make of lengths: the same as what a collator makes of samples of these lengths."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpo_collate import Layout, PreferenceCollator
from dpo_collate._grids import Grid, cells, grids_of, kept, widths
from dpo_collate._token_rows import token_rows
from dpo_collate.layout import Column, Length, Matrix
from dpo_collate.named import NAMES, named
from dpo_collate.testing.drawing.tables import matrix_lengths
from pairs import PAD, Pair, samples

if TYPE_CHECKING:
    import numpy.typing as npt


def made(layout: Layout, batch: dict[str, Any]) -> list[int]:
    """The cells of a batch's matrices of ids, and the bytes of all of their columns that have cells."""
    found: list[int] = []
    for matrix in layout.matrices:
        names = [column.name.replace("{}", matrix.rows[0][-1]) for column in matrix.columns]
        arrays = [batch[name] for name in names if name in batch and isinstance(batch[name], np.ndarray)]
        arrays = [array for array in arrays if array.ndim == 2]
        if arrays:
            found += [arrays[0].size, sum(array.nbytes for array in arrays)]
    return found


def shortened(name: str, length: Length, drop_last: int) -> Layout:
    """A named layout with rows of another length, and without columns that say what is scored: truncation is free."""
    layout = named(name, "split" if name != "prompt_left" else None)
    matrices = [matrix for matrix in layout.matrices if not matrix.optional]
    return replace(
        layout,
        matrices=tuple(
            replace(matrix, columns=matrix.columns[:1], length=length, drop_last=drop_last) for matrix in matrices
        ),
    )


@given(st.sampled_from(NAMES), matrix_lengths(), st.sampled_from([0, 0, 1, 3]), st.data())
def test_any_cells(name: str, length: Length, drop_last: int, data: st.DataObject) -> None:
    layout = shortened(name, replace(length, truncation_mode="keep_end"), drop_last)
    counts = data.draw(st.lists(st.tuples(*[st.integers(0, 14)] * 3), min_size=1, max_size=9))
    pairs = [Pair(*([1] * count for count in row)) for row in counts]
    columns = [[p, c, r] if name == "prompt_left" else [p + c, p + r] for p, c, r in counts]
    order = np.array(data.draw(st.permutations(range(len(pairs)))))
    inner = data.draw(st.sets(st.integers(1, len(pairs)), max_size=4))
    bounds = np.array(sorted({data.draw(st.integers(0, len(pairs) - 1)), *inner}), np.int64)
    collator = PreferenceCollator(layout, pad_token_id=PAD, return_tensors="np")
    inputs = None if name == "prompt_left" else "split"
    wanted = []
    for begin, end in itertools.pairwise(bounds):
        batch = collator(samples(name, inputs, [pairs[index] for index in order[begin:end]]))
        wanted.append(made(layout, batch))
    lengths = np.array(columns)
    found: list[npt.NDArray[np.int64]] = []
    for grid in grids_of(layout):
        count = cells(grid, lengths, order, bounds)
        assert count.dtype == np.int64
        found += [count, count * grid.itemsize]
    assert np.array(found).T.tolist() == wanted


IDS = Column("ids", pad="pad_token_id")
MASK = Column("mask", pad=0, dtype="bool")


def matrix(tokens: str, *columns: Column, stems: tuple[str, ...] = ("chosen", "rejected"), **options: Any) -> Matrix:
    return Matrix(tuple((stem,) for stem in stems), columns or (IDS,), tokens=tokens, **options)


LAYOUTS = {
    "every column": (
        (matrix("{}_ids", IDS, Column("size", of="length"), Column("row", of="row", dtype="int32")),),
        [((0, 1), 12)],
    ),
    "the same ids twice": ((matrix("{}_ids"), matrix("{}_ids", replace(IDS, name="also"))), [((0, 1), 8), ((0, 1), 8)]),
    "a mask of its own": ((matrix("{}_ids"), matrix("{}_mask", MASK)), [((0, 1), 8)]),
    "mostly known": (
        (matrix("{}_ids", stems=("chosen",)), matrix("{}_mask", MASK, stems=("other", "chosen"))),
        [((0,), 8), ((1, 0), 1)],
    ),
    "other ids": (
        (
            matrix("{}_ids"),
            matrix("{}_more", replace(IDS, name="more")),
            matrix("{}_mask", MASK, stems=("chosen", "new")),
        ),
        [((0, 1), 8), ((2, 3), 8), ((0, 4), 1)],
    ),
    "optional": ((matrix("{}_ids"), matrix("{}_types", MASK, stems=("",), optional=True)), [((0, 1), 8)]),
    "one row twice": ((matrix("{}_ids", stems=("chosen", "chosen")),), [((0, 0), 8)]),
}


@pytest.mark.parametrize("kind", LAYOUTS)
def test_grids_of_own_layouts(kind: str) -> None:
    matrices, wanted = LAYOUTS[kind]
    layout = Layout("own", matrices)
    assert [(grid.rows, grid.itemsize) for grid in grids_of(layout)] == wanted
    assert len(token_rows(layout)) == 1 + max(row for rows, _ in wanted for row in rows)


def test_grids_of_options() -> None:
    collator = PreferenceCollator("concatenated", pad_token_id=PAD, pad_to_multiple_of=8, row_multiple_of=6)
    (grid,) = grids_of(collator._table)
    length = Length(multiple_of=8, row_multiple_of=6)
    assert grid == Grid(rows=(0, 1), length=length, flat=False, drop_last=0, itemsize=40)
    assert widths(length, np.array([0, 1, 24, 25])).tolist() == [0, 24, 24, 48]
    assert kept(replace(grid, drop_last=2), np.array([[1, 5]], np.int32)).tolist() == [[0, 3]]


def test_rows_that_are_rounded() -> None:
    layout = named("padding_free")
    length = Length(row_multiple_of=4, multiple_of=6)
    (grid,) = grids_of(replace(layout, matrices=(replace(layout.matrices[0], length=length),)))
    lengths = np.array([[1, 5], [4, 0], [7, 7]])
    assert cells(grid, lengths, np.array([2, 0, 1]), np.array([0, 2, 3])).tolist() == [36, 12]


def test_widths_that_fit_no_bucket() -> None:
    length = Length(buckets=(8, 4))
    assert widths(length, np.array([0, 4, 5, 8])).tolist() == [4, 4, 8, 8]
    with pytest.raises(ValueError, match=r"^a width of 9 fits no bucket, the largest is 8$"):
        widths(length, np.array([3, 9]))


def test_no_batches() -> None:
    (grid, _) = grids_of(named("separate"))
    for bounds in ([], [0]):
        assert cells(grid, np.zeros((0, 2), int), np.zeros(0, int), np.array(bounds, np.int64)).tolist() == []
