"""Who may have an Arrow table, and what comes out of one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import duckdb
import polars as pl
import pyarrow as pa
from hypothesis import strategies as st
from torch.utils.data import Dataset

from dpo_collate._core import ArrowTable
from dpo_collate.testing.comparing import told

if TYPE_CHECKING:
    from collections.abc import Callable


def outcome(collate: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """What comes out, or which exception there is instead."""
    try:
        return told(collate(*arguments, **options))
    except (TypeError, ValueError, KeyError, OverflowError) as error:
        (said,) = error.args
        assert "bug in dpo_collate" not in said
        return type(error)


# --- who has the table -------------------------------------------------------------------------------


class Stream:
    """A class of one's own that has a table."""

    def __init__(self, table: Any) -> None:
        self.table = table

    def __arrow_c_stream__(self, requested_schema: object = None) -> Any:
        return self.table.__arrow_c_stream__(requested_schema)


def _struct(table: Any) -> Any:
    """One struct array, which begins behind its children's first row."""
    whole = table.combine_chunks().to_struct_array()
    whole = whole.combine_chunks() if isinstance(whole, pa.ChunkedArray) else whole
    return pa.concat_arrays([whole.slice(0, 1), whole]).slice(1)


SOURCES: dict[str, Callable[[Any], Any]] = {
    "table": lambda table: table,
    "own class": Stream,
    "reader": lambda table: table.to_reader(),
    "reader of small batches": lambda table: table.to_reader(max_chunksize=1),
    "record batch": lambda table: table.combine_chunks().to_batches()[0],
    "struct": _struct,
    "ArrowTable": lambda table: ArrowTable([table]),
    "rows": lambda table: [table.slice(row, 1) for row in range(table.num_rows)],
    "row batches": lambda table: tuple(table.to_batches(max_chunksize=1)),
    "taken": lambda table: ArrowTable([table]).take(range(table.num_rows)),
    "taken one by one": lambda table: [ArrowTable([table]).take([row]) for row in range(table.num_rows)],
    "head": lambda table: ArrowTable([table, table]).head(table.num_rows),
}
"""By what a table can be handed over."""


def polars(table: Any) -> Any:
    """(It does not read every slice of lists of lists: they are written anew.)"""
    return pl.from_arrow(
        pa.table({name: pa.array(table[name].to_pylist(), table[name].type) for name in table.column_names})
    )


def duck(table: Any) -> Any:
    return duckdb.from_arrow(table)


sources = st.sampled_from(sorted(SOURCES))


class Rows(Dataset[Any]):
    """A data set that has a table for every batch. (Here, as workers that are spawned import it.)"""

    def __init__(self, table: Any) -> None:
        self.table = table

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def __getitem__(self, index: int) -> Any:
        return self.table.slice(index, 1)

    def __getitems__(self, indices: list[int]) -> Any:
        return self.table.take(indices)


class Singles(Rows):
    """A data set of tables of one row."""

    __getitems__: Any = None
