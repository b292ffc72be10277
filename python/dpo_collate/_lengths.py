"""How many tokens the rows of samples have, from Arrow's offsets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ._arrow_rows import ArrowRows, check_column, hugging_face
from ._behind import layout_of
from ._core import ArrowTable
from ._samples import is_table, listed
from ._token_rows import token_rows
from ._wildcards import expanded, has_wildcards

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    from .collator import PreferenceCollator
    from .layout import Layout
    from .named import Inputs


def lengths(
    data: Any,
    layout: str | Layout | PreferenceCollator | Callable[..., Any] = "separate",
    *,
    inputs: Inputs | None = None,
) -> npt.NDArray[np.int64]:
    """How many tokens each row has that a sample gives to a batch, before truncation and padding.

    Lists are stored with their offsets, and these alone are read: of memory-mapped tokens no page is touched.

    What a sample gives are the rows of the layout's token ids, in the order of the table. A row that joins a prompt and
    a completion is as long as both. Left out are rows that occur a second time, matrices that are optional
    (``token_type_ids``) and those that say something else of rows that are there (labels, masks).

    ==================================================================  ========================================
    layout                                                              columns of the result
    ==================================================================  ========================================
    ``separate``, ``concatenated``, ``interleaved``, ``padding_free``   chosen, rejected
    the same with ``inputs="split"``                                    prompt + chosen, prompt + rejected
    ``prompt_left``                                                     prompt, chosen, rejected
    ==================================================================  ========================================

    Args:
        data: A ``datasets.Dataset`` (shuffled, selected, …), an :class:`ArrowRows`, or a table: whatever has the Arrow
            PyCapsule protocol, such as those of pyarrow, polars and DuckDB; or a list of tables, their rows one after
            the other.
        layout: Name of a layout, a :class:`dpo_collate.layout.Layout`, or a collator, whose layout is meant: a
            ``PreferenceCollator``, a drop-in, or a function that calls one.
        inputs: What samples have, of a named layout; see :func:`dpo_collate.named.named`.

    Returns:
        An array int64 ``[n, rows]``: for each of n samples the lengths of its rows.

    Raises:
        KeyError: A column is missing.
        TypeError: A column is not of lists, or a list is null; the data or the layout are of the wrong kind.
        ValueError: There is no such layout, ``inputs`` makes no sense with it, or a data set has a transform.

    Example:
        >>> import pyarrow as pa
        >>> from dpo_collate.datasets import lengths
        >>> table = pa.table({"prompt_ids": [[1], [2, 3]], "chosen_ids": [[4, 5], [6]], "rejected_ids": [[7], []]})
        >>> lengths(table, "concatenated", inputs="split")
        array([[3, 2],
               [3, 2]])
        >>> lengths(table, "prompt_left", inputs="split")
        array([[1, 2, 1],
               [2, 1, 0]])
    """
    return measured(data, layout_of(layout, inputs))[0]


def measured(data: Any, table: Layout) -> tuple[npt.NDArray[np.int64], Layout]:
    """The lengths, and the table without wildcards: what it becomes with the keys of the data."""
    source, names, order = _source(data)
    if has_wildcards(table):
        table = expanded(table, names)
    rows = [row.keys for row in token_rows(table)]
    keys = tuple(dict.fromkeys(key for row in rows for key in row))
    for key in keys:
        check_column(key, names)
    of = {key: source.lengths(key, rows=order, unbatch=table.unbatch) for key in keys}
    found = np.zeros((len(source) if order is None else len(order), len(rows)), np.int64)
    for column, row in enumerate(rows):
        for key in row:
            found[:, column] += of[key]
    return found, table


def _source(data: Any) -> tuple[ArrowTable, tuple[str, ...], npt.NDArray[np.int64] | None]:
    """The table, the columns that are meant, and of which rows in what order (None: all)."""
    if hugging_face(data) is not None:
        data = ArrowRows(data)
    if isinstance(data, ArrowRows):
        return data._read, data.columns, data._order()  # noqa: SLF001 - of this package
    tables = data if isinstance(data, list | tuple) else [data]
    for index, table in enumerate(tables):
        if not is_table(table):
            what = "data" if table is data else f"data[{index}]"
            raise TypeError(f"{what} is a {type(table).__name__}, {_EXPECTED_DATA}")
    table = listed(list(tables) if isinstance(data, list | tuple) else data) if tables else ArrowTable([])
    return table, table.names, None


_EXPECTED_DATA = (
    "expected a datasets.Dataset, an ArrowRows, a table with the Arrow PyCapsule protocol (__arrow_c_stream__), or a "
    "list of such tables"
)
