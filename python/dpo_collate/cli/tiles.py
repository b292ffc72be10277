"""How many tiles of images rows have, from the sizes of lists."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute

if TYPE_CHECKING:
    import numpy.typing as npt

_SIDES = ("", "chosen_", "rejected_")
TILES = tuple(f"{side}{key}" for key in ("image_flags", "pixel_values") for side in _SIDES)
"""Columns that have an entry for each tile; the flags of a side say it where there are flags, as they are smaller."""


def tiles_of(rows: Any) -> npt.NDArray[np.int64]:
    """How many tiles each row of a table has, int64 ``[n]``: of all sides together."""
    found = np.zeros(rows.num_rows, np.int64)
    for side in _SIDES:
        keys = [key for key in (f"{side}image_flags", f"{side}pixel_values") if key in rows.schema.names]
        if keys:
            found += _sizes(rows.column(keys[0]))
    return found


def _sizes(column: Any) -> npt.NDArray[np.int64]:
    chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
    return np.concatenate([np.zeros(0, np.int64), *map(_of_chunk, chunks)])


def _of_chunk(array: Any) -> npt.NDArray[np.int64]:
    if isinstance(array, pa.ExtensionArray):
        array = array.storage
    if pa.types.is_null(array.type):
        return np.zeros(len(array), np.int64)
    sizes = pa.compute.fill_null(pa.compute.list_value_length(array), 0)
    return np.asarray(sizes, np.int64)
