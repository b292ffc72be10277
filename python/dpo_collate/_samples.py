"""What a collator is given: a list of samples, or a table in Arrow's memory."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np

from . import _convert
from ._core import ArrowTable

if TYPE_CHECKING:
    from collections.abc import Iterator


class ArrowStream(Protocol):
    """What has a table: ``pyarrow.Table``, ``polars.DataFrame``, a DuckDB relation and others."""

    def __arrow_c_stream__(self, requested_schema: Any = None) -> Any: ...


class ArrowArray(Protocol):
    """What has rows of a table in one piece: ``pyarrow.RecordBatch``."""

    def __arrow_c_array__(self, requested_schema: Any = None) -> Any: ...


Tables: TypeAlias = ArrowStream | ArrowArray
"""A table that any of Arrow's libraries has made."""

Samples: TypeAlias = Sequence[Mapping[str, Any] | Tables] | Tables
"""Mappings; a table, whose rows are the samples; or several tables.

(Not a list of both, though it says so: written in two, mypy does not infer the type of a list of dicts.)
"""


def listed(samples: Any) -> Any:
    """A list of our own, or a table.

    Of our own, as samples may be an iterator, and Python code in them may change their list.

    Raises:
        TypeError, ValueError, MemoryError, OSError: A table cannot be read.
    """
    if is_table(samples):
        return table_of(samples)
    sequence = isinstance(samples, Iterable) or hasattr(samples, "__getitem__")
    if isinstance(samples, Mapping | str | bytes) or not sequence:
        return samples  # the core refuses it
    made = list(samples)
    if made and type(made[0]) is not dict and is_table(made[0]):
        return ArrowTable([_opened(table) for table in made], several=True)
    return made


def table_of(table: Any) -> ArrowTable:
    """A table, taken over."""
    opened = _opened(table)
    return opened if isinstance(opened, ArrowTable) else ArrowTable([opened])


def _opened(table: Any) -> Any:
    """What was taken over before, of rows of a data set: their numbers are all that is new."""
    opened = getattr(table, "__dpo_collate_table__", None)
    return table if opened is None else opened()


def is_table(value: Any) -> bool:
    """Whether it has the methods of the Arrow PyCapsule interface."""
    if isinstance(value, Mapping):
        return False  # some have whatever attribute one asks for
    return isinstance(value, ArrowTable) or hasattr(value, "__arrow_c_stream__") or hasattr(value, "__arrow_c_array__")


def mappings(samples: Any, names: tuple[str, ...]) -> Any:
    """The samples as dicts where they are tuples (or lists) of the parts that have these names.

    Raises:
        ValueError: A sample has another number of parts.
    """
    if not isinstance(samples, list):
        return samples  # a table, whose columns have names; anything else the core refuses
    named = list(samples)
    for index, sample in enumerate(samples):
        if isinstance(sample, tuple | list):
            if len(sample) != len(names):
                raise ValueError(f"sample {index} has {len(sample)} parts, expected {len(names)}: {', '.join(names)}")
            named[index] = dict(zip(names, sample, strict=True))
    return named


def keys_of(samples: Any) -> Iterator[tuple[int, tuple[Any, ...]]]:
    """The keys of each sample, or of the first row of each part of a table: the others have the same ones."""
    if isinstance(samples, ArrowTable):
        yield from samples.parts()
    elif isinstance(samples, list):
        for index, sample in enumerate(samples):
            if isinstance(sample, Mapping):
                yield index, tuple(sample)


def first_keys(samples: Any) -> tuple[Any, ...]:
    """The keys of the first sample, in its order; none where it is no mapping, or not there."""
    index, keys = next(keys_of(samples), (0, ()))
    return keys if index == 0 else ()


def has(samples: Any, index: int, key: str) -> bool:
    """Whether a sample has a value under a key, which is not None."""
    if isinstance(samples, ArrowTable):
        return samples.size(index, key) is not None
    return samples[index].get(key) is not None


def has_items(samples: Any, index: int, key: str) -> bool:
    """Whether a sample has something under a key: a value that is no empty list."""
    if isinstance(samples, ArrowTable):
        return bool(samples.size(index, key))
    value = samples[index].get(key)
    try:
        return value is not None and len(value) > 0
    except TypeError:  # one of them, not in a list
        return True


def head(samples: Any, count: int) -> Any:
    """The first samples."""
    return samples.head(count) if isinstance(samples, ArrowTable) else samples[:count]


def lengths(samples: Any, key: str) -> Iterator[int]:
    """How many tokens each row of a key has, one after the other; 0 where there is none, which the collator says."""
    if isinstance(samples, ArrowTable):
        for index in range(len(samples)):
            try:
                yield int(samples.lengths(key, rows=np.array([index]))[0])
            except (KeyError, TypeError, ValueError):
                yield 0
        return
    for index, sample in enumerate(samples):
        yield _length(sample, index, key)


def _length(sample: Any, index: int, key: str) -> int:
    try:
        ids = sample[key]
    except (KeyError, TypeError, IndexError):
        return 0
    try:
        return len(ids)
    except TypeError:
        return len(_convert.row(ids, f"sample {index}: '{key}'", floats=False))
