"""What the matrices of a batch make of the lengths of its rows: how many cells they have, padding among them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from ._token_rows import id_matrices, segment_keys, token_rows

if TYPE_CHECKING:
    import numpy.typing as npt

    from .layout import Layout, Length, Matrix

    Numbers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Grid:
    """What one matrix of token ids makes of lengths.

    Attributes:
        rows: The columns of :func:`dpo_collate.datasets.lengths` that are rows of it.
        length: How long its rows are.
        flat: Its rows lie end to end in one.
        drop_last: So many tokens at the end of each row get no cell.
        itemsize: Bytes of one cell in all of its columns ``[.., L]`` together, optional ones with them.
    """

    rows: tuple[int, ...]
    length: Length
    flat: bool
    drop_last: int
    itemsize: int


def grids_of(layout: Layout) -> tuple[Grid, ...]:
    """The matrices of token ids of a layout without wildcards; an optional one is none, nor one of labels or masks."""
    columns = {row.keys: column for column, row in enumerate(token_rows(layout))}
    known: dict[tuple[str, ...], int] = {}
    grids = []
    for _, matrix, new in id_matrices(layout):
        of = {stems: columns[segment_keys(matrix, stems)] for stems in new}
        rows = tuple(of[stems] if stems in of else known[stems] for stems in matrix.rows)
        known = dict(zip(matrix.rows, rows, strict=True)) | known
        grids.append(Grid(rows, matrix.length, matrix.flat, matrix.drop_last, _itemsize(matrix)))
    return tuple(grids)


def _itemsize(matrix: Matrix) -> int:
    return sum(_BYTES[column.dtype] for column in matrix.columns if column.of not in _NO_CELLS)


_BYTES: Final = {"bool": 1, "int32": 4, "float32": 4, "int64": 8, "float64": 8}

_NO_CELLS: Final = ("length", "cu_seq_lens", "max_length")


def kept(grid: Grid, lengths: npt.NDArray[np.integer[Any]]) -> Numbers:
    """How many tokens of each row get a cell, after truncation: int64 ``[n, rows of the grid]``."""
    found = lengths[:, list(grid.rows)].astype(np.int64)
    if grid.length.max_length is not None:
        np.minimum(found, grid.length.max_length, out=found)
    found -= grid.drop_last
    return np.maximum(found, 0, out=found)


def widths(length: Length, cells: Numbers) -> Numbers:
    """The widths of matrices whose longest row (flat: all rows together) has so many cells.

    Raises:
        ValueError: One fits no bucket.
    """
    least = np.maximum(cells, length.min_length)
    if length.buckets:
        buckets = np.sort(np.asarray(length.buckets, np.int64))
        places = buckets.searchsorted(least)
        if (places == len(buckets)).any():
            raise ValueError(f"a width of {least.max()} fits no bucket, the largest is {buckets[-1]}")
        return buckets[places]
    return _rounded(least, math.lcm(length.multiple_of, length.row_multiple_of))


def cells(
    grid: Grid, lengths: npt.NDArray[np.integer[Any]], order: npt.NDArray[np.integer[Any]], bounds: Numbers
) -> Numbers:
    """The cells of the matrix in each batch, padding among them: int64 ``[batches]``.

    Args:
        grid: The matrix.
        lengths: Lengths of the rows of all pairs, ``[n, rows]``.
        order: Indices of pairs, those of a batch side by side.
        bounds: Batch i has the pairs ``order[bounds[i]:bounds[i + 1]]``, at least one: ascending, ``[batches + 1]``.

    Raises:
        ValueError: A batch fits no bucket.
    """
    if len(bounds) < 2:
        return np.zeros(0, np.int64)
    content = kept(grid, lengths)[order[: bounds[-1]]]
    begins = bounds[:-1]
    if grid.flat:
        taken = _rounded(content, grid.length.row_multiple_of).sum(axis=1)
        return widths(grid.length, np.add.reduceat(taken, begins))
    longest = np.maximum.reduceat(content.max(axis=1), begins)
    return widths(grid.length, longest) * np.diff(bounds) * len(grid.rows)


def _rounded(numbers: Numbers, multiple_of: int) -> Numbers:
    """Each the next multiple."""
    return -(-numbers // multiple_of) * multiple_of
