"""A data set in tables and lists of few rows, whatever it is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from ._arrow_rows import ArrowRows, hugging_face
from ._samples import is_table, table_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ._core import ArrowTable

ROWS = 1024
"""So many rows are looked at before Python looks whether it is interrupted."""


def pieces(data: Any) -> Iterator[Any]:
    """The data in tables and lists of few rows."""
    kind = hugging_face(data)
    if kind is not None and kind.__name__ == "IterableDataset":
        data = data.with_format("arrow").iter(batch_size=ROWS)
    elif kind is not None:
        data = ArrowRows(data)
    if isinstance(data, ArrowRows):
        table, order = data._read, data._order()  # noqa: SLF001 - of this package
        for begin in range(0, len(data), ROWS):
            some = slice(begin, begin + ROWS)
            yield table.slice(begin, ROWS) if order is None else table.take(order[some].tolist())
    elif is_table(data):
        yield from _slices(data)
    else:
        yield from _of_samples(_iterable(data))


def _iterable(data: Any) -> Iterable[Any]:
    if isinstance(data, Mapping | str | bytes):
        raise TypeError(f"data is a {type(data).__name__}, {_EXPECTED}")
    if hasattr(data, "__getitem__") and hasattr(data, "__len__"):
        return (data[index] for index in range(len(data)))  # torch's data sets are no iterables
    if not isinstance(data, Iterable):
        raise TypeError(f"data is a {type(data).__name__}, {_EXPECTED}")
    return data


_EXPECTED = "expected a data set, a table with the Arrow PyCapsule protocol, or a list of samples"


def _of_samples(samples: Iterable[Any]) -> Iterator[Any]:
    """Lists of samples; among them may be tables."""
    some: list[Any] = []
    for sample in samples:
        if type(sample) is not dict and is_table(sample):
            if some:
                yield some
            some = []
            yield from _slices(sample)
            continue
        some.append(sample)
        if len(some) == ROWS:
            yield some
            some = []
    if some:
        yield some


def _slices(data: Any) -> Iterator[ArrowTable]:
    table = table_of(data)
    for begin in range(0, len(table), ROWS):
        yield table.slice(begin, ROWS)
