"""Hypothesis strategies: samples as the Arrow tables that say the same, in every way that Arrow has of saying it.

Lists are `list`, `large_list` or `fixed_size_list`; numbers are of any type that holds them; arrays are nested lists or
one of the extension types of tensors; what nobody may read (before the first row, after the last one, behind a null)
holds junk and nulls; tables are slices of larger ones, in pieces.
"""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import torch
from hypothesis import assume
from hypothesis import strategies as st

from .kinds import FLOATS, INTS, holds
from .picking import pick

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    import numpy.typing as npt

    NDArray = npt.NDArray[Any]

Samples = list[dict[str, Any]]


# --- samples ---------------------------------------------------------------------------------------


def rectangular(samples: Sequence[Any], names: Sequence[str] | None = None) -> Samples:
    """The samples with the same keys each, in one order: tuples have these names, and what a sample lacks is None."""
    mappings = [
        sample if isinstance(sample, dict) else dict(zip(names or (), sample, strict=True)) for sample in samples
    ]
    keys = list(dict.fromkeys(key for sample in mappings for key in sample))
    return [{key: sample.get(key) for key in keys} for sample in mappings]


def _plain(value: Any) -> Any:
    """As Python has it, of what a table can hold."""
    if isinstance(value, torch.Tensor | np.ndarray | np.generic):
        return value.tolist()
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    whole = isinstance(value, int) and not isinstance(value, bool)
    return (value + 2**63) % 2**64 - 2**63 if whole else value


def _of_one_type(values: list[Any]) -> list[Any]:
    """A column has values of one type: those of several become text."""
    plain = [_plain(value) for value in values]
    types = {type(value) for value in plain if value is not None}
    return plain if len(types) < 2 else [None if value is None else str(value) for value in plain]


# --- arrays of lists -------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Cell:
    """An array of one row, and whether nobody may read it."""

    values: NDArray
    hidden: bool = False


def _junk(dimensions: int, dtype: np.dtype[Any], size: int = 2) -> _Cell:
    return _Cell(np.ones((size,) * dimensions, dtype), hidden=True)


def _values(draw: st.DrawFn, cells: Sequence[_Cell], dtype: np.dtype[Any]) -> Any:
    """All values, one after the other; those that nobody may read may be null."""
    flat = [cell.values.reshape(-1) for cell in cells]
    before = pick(draw, [0, 0, 1, 7, 9])
    values = np.concatenate([np.ones(before, dtype), *flat])
    hidden = np.repeat([True, *(cell.hidden for cell in cells)], [before, *map(len, flat)])
    return pa.array(values, mask=hidden if draw(st.booleans()) else None).slice(before)


def _lists(  # noqa: PLR0913 - it calls itself with all of them
    draw: st.DrawFn, cells: Sequence[_Cell], nulls: Sequence[bool], dimensions: int, dtype: np.dtype[Any], *, even: bool
) -> Any:
    """Arrays of so many dimensions as lists of lists, of fixed sizes only if they are `even`."""
    before = [_junk(dimensions - 1, dtype)] * pick(draw, [0, 0, 0, 1, 3])
    if dimensions == 1:
        inner = _values(draw, [*before, *cells], dtype)
    else:
        parts = [*before, *(_Cell(part, cell.hidden) for cell in cells for part in cell.values)]
        null = draw(st.booleans())
        inner = _lists(draw, parts, [part.hidden and null for part in parts], dimensions - 1, dtype, even=even)
    lengths = [len(cell.values) for cell in cells]
    kinds = ["list", "large"]
    if even and len(set(lengths)) == 1 and lengths[0] > 0:
        kinds += ["fixed"] * 2
    kind = pick(draw, kinds)
    mask = pa.array(nulls, pa.bool_())
    if kind == "fixed":
        return pa.FixedSizeListArray.from_arrays(inner.slice(len(before)), lengths[0], mask=mask)
    offsets = list(itertools.accumulate(lengths, initial=len(before)))
    made, width = (pa.ListArray, pa.int32()) if kind == "list" else (pa.LargeListArray, pa.int64())
    return made.from_arrays(pa.array(offsets, width), inner, mask=mask)


@dataclass(frozen=True)
class _Around:
    """How many rows there are before and after those that are read."""

    before: int
    after: int
    common: bool = False
    """Of types that other libraries have as well."""

    def __call__(self, values: Sequence[Any], junk: Any) -> list[Any]:
        return [*[junk] * self.before, *values, *[junk] * self.after]


def _nested(
    draw: st.DrawFn, arrays: Sequence[NDArray | None], dimensions: int, dtype: np.dtype[Any], around: _Around
) -> Any:
    """Lists of lists, and null where there is None: behind it may be anything."""
    given = [len(array) for array in arrays if array is not None] or [2]
    # Of equal lengths, so that they may be lists of a fixed size.
    junk = _junk(dimensions, dtype, given[0] if dimensions == 1 else 2)
    behind = pick(draw, [junk, _junk(dimensions, dtype, 0)])
    cells = around([behind if array is None else _Cell(array) for array in arrays], junk)
    nulls = around([array is None for array in arrays], draw(st.booleans()))
    # A list of no lists says how long they would be if they are of a fixed size, and else does not.
    even = dimensions == 1 or all(array.size for array in arrays if array is not None)
    return _lists(draw, cells, nulls, dimensions, dtype, even=even)


# --- the extension types of tensors ----------------------------------------------------------------


def _extension(name: str, metadata: str) -> dict[str, str]:
    return {"ARROW:extension:name": name, "ARROW:extension:metadata": metadata}


def _fixed(
    draw: st.DrawFn, arrays: Sequence[NDArray | None], dtype: np.dtype[Any], around: _Around
) -> tuple[Any, dict[str, str]]:
    """Arrays of one shape: its values as a list, the shape in the type."""
    shape = list(next(array.shape for array in arrays if array is not None))
    flat = [None if array is None else array.reshape(-1) for array in arrays]
    types = [
        ("ray.data.arrow_tensor", json.dumps(shape)),
        ("ray.data.arrow_tensor_v2", json.dumps(shape)),
        ("arrow.fixed_shape_tensor", json.dumps({"shape": shape})),
        ("arrow.fixed_shape_tensor", json.dumps({"shape": shape, "permutation": list(range(len(shape)))})),
    ]
    return _nested(draw, flat, 1, dtype, around), _extension(*pick(draw, types))


def _variable(
    draw: st.DrawFn, arrays: Sequence[NDArray | None], dtype: np.dtype[Any], around: _Around
) -> tuple[Any, dict[str, str]]:
    """Arrays of any shape: a struct of the values and the sizes."""
    dimensions = next(array.ndim for array in arrays if array is not None)
    flat = [None if array is None else array.reshape(-1) for array in arrays]
    sizes = [None if array is None else np.array(array.shape, np.int32) for array in arrays]
    width = pick(draw, ["int32", "int64"])
    columns = [_nested(draw, flat, 1, dtype, around), _nested(draw, sizes, 1, np.dtype(width), around)]
    mask = pa.array(around([array is None for array in arrays], junk=False))
    struct = pa.StructArray.from_arrays(columns, ["data", "shape"], mask=mask)
    ray = _extension("ray.data.arrow_variable_shaped_tensor", str(dimensions))
    return struct, pick(draw, [ray, _extension("arrow.variable_shape_tensor", "{}")])


Column = tuple[Any, dict[str, str], list[Any]]
"""An array, the metadata of its field, and the values as a list of samples holds them."""


def array_column(draw: st.DrawFn, values: Sequence[NDArray | None], around: _Around) -> Column:
    """Arrays of one dtype and as many dimensions each."""
    there = [array for array in values if array is not None]
    if not there:
        return pa.nulls(len(around(values, None))), {}, list(values)
    (dtype,) = {array.dtype for array in there}
    (dimensions,) = {array.ndim for array in there}
    kinds = ["nested", "nested", "Array3D", "variable"]
    kinds += ["fixed"] * 2 if len({array.shape for array in there}) == 1 else []
    kind = "nested" if around.common else pick(draw, kinds)
    if kind == "fixed":
        return *_fixed(draw, values, dtype, around), list(values)
    if kind == "variable":
        return *_variable(draw, values, dtype, around), list(values)
    # Hugging Face's extension types are as their storage is.
    metadata = _extension("datasets.features.features.Array3DExtensionType", "[]") if kind == "Array3D" else {}
    given = [None if array is None else array.reshape(_nested_shape(array.shape)) for array in values]
    return _nested(draw, given, dimensions, dtype, around), metadata, given


def _nested_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(0 if 0 in shape[: at + 1] else size for at, size in enumerate(shape))


# --- columns -----------------------------------------------------------------------------------------


def _type_of(draw: st.DrawFn, numbers: list[Any], around: _Around) -> np.dtype[Any]:
    """A dtype that holds all of them."""
    floats = any(isinstance(number, float) for number in numbers)
    dtypes = FLOATS[around.common :] if floats else (*INTS, "int64")
    return np.dtype(pick(draw, [dtype for dtype in dtypes if holds(dtype, numbers)]))


def row_column(draw: st.DrawFn, values: Sequence[Any], around: _Around, *, boxed: bool = False) -> Column:
    """Rows of tokens, `[1, L]` if they are boxed."""
    numbers = [number for row in values if row is not None for number in row]
    if any(isinstance(number, float) for number in numbers):
        numbers = [float(number) for number in numbers]
        values = [None if row is None else [float(number) for number in row] for row in values]
    dtype = _type_of(draw, numbers, around)
    arrays = [None if row is None else np.array(row, dtype) for row in values]
    if boxed:
        arrays = [None if array is None else array[None] for array in arrays]
    array, metadata, _ = array_column(draw, arrays, around)
    return array, metadata, [[row] if boxed and row is not None else row for row in values]


def number_column(draw: st.DrawFn, values: Sequence[Any], around: _Around) -> Column:
    """Numbers, one of each sample."""
    given = [_plain(value) for value in values]
    there = [number for number in given if number is not None]
    if any(isinstance(number, float) for number in there):
        given = [None if number is None else float(number) for number in given]
        there = [float(number) for number in there]
    if not there:
        return pa.nulls(len(around(given, None))), {}, given
    dtype = _type_of(draw, there, around)
    made = around([0 if number is None else number for number in given], 1)
    nulls = around([number is None for number in given], draw(st.booleans()))
    return pa.array(np.array(made, dtype), mask=np.array(nulls)), {}, given


def other_column(values: Sequence[Any], around: _Around) -> Column:
    """What becomes Python values."""
    array = pa.array(around(_of_one_type(list(values)), None))
    return array, {}, array.to_pylist()[around.before : around.before + len(values)]


def _column(  # noqa: PLR0913 - all that is known of a key
    draw: st.DrawFn, key: str, values: list[Any], around: _Around, flags: str, *, boxed: bool
) -> Column:
    kinds = {type(value) for value in values if value is not None}
    if kinds <= {int, float, bool, np.float64}:
        return number_column(draw, values, around)
    if kinds <= {torch.Tensor, np.ndarray} or any(
        kinds == {list} and value and isinstance(value[0], list) for value in values
    ):
        arrays = [None if value is None else _as_array(value) for value in values]
        if "flag" in key:
            arrays = [None if array is None else array.astype(flags) for array in arrays]
        if around.common:
            halves = {np.dtype(np.float16): np.dtype(np.float32)}
            arrays = [None if array is None else array.astype(halves.get(array.dtype, array.dtype)) for array in arrays]
        return array_column(draw, arrays, around)
    return row_column(draw, values, around, boxed=boxed)


def _as_array(value: Any) -> NDArray:
    value = value.float() if isinstance(value, torch.Tensor) and value.dtype == torch.bfloat16 else value
    array = np.ascontiguousarray(value)
    # Lists of float64 become float32, which tests/test_arrow_values.py shows.
    return array.astype(np.float32) if array.dtype == np.float64 else array


@dataclass(frozen=True)
class Told:
    """The same twice."""

    samples: Samples
    table: Any

    def __repr__(self) -> str:
        return f"{self.samples!r} as {self.table.schema.to_string()}"


@st.composite
def tables(  # noqa: PLR0913 - Hypothesis' draw is not one that callers give
    draw: st.DrawFn,
    plain: Sequence[Any],
    others: Collection[str] = (),
    names: Sequence[str] | None = None,
    *,
    unbatch: bool = False,
    common: bool = False,
) -> Told:
    """The samples as a list of dicts, and as a table; values under the keys of `others` become Python's.

    Tuples are by `names`; with `unbatch` rows may be lists of one row; `common` types are those that other libraries
    have as well.
    """
    samples = rectangular(plain, names)
    assume(samples[0])  # a table without columns has no rows
    around = _Around(pick(draw, [0, 0, 1, 3]), pick(draw, [0, 0, 1]), common)
    flags = pick(draw, ["int64", "bool", "uint8"])
    fields, arrays, columns = [], [], {}
    for key in samples[0]:
        values = [sample[key] for sample in samples]
        if key in others or any(isinstance(value, str) for value in values):
            array, metadata, columns[key] = other_column(values, around)
        else:
            boxed = unbatch and draw(st.booleans())
            array, metadata, columns[key] = _column(draw, key, values, around, flags, boxed=boxed)
        if common and pa.types.is_null(array.type):
            array = array.cast(pa.int64())
        fields.append(pa.field(key, array.type, metadata=metadata))
        arrays.append(array)
    table = pa.table(arrays, schema=pa.schema(fields)).slice(around.before, len(samples))
    given = [{key: columns[key][row] for key in columns} for row in range(len(samples))]
    return Told(given, pieces(draw, table))


def pieces(draw: st.DrawFn, table: Any) -> Any:
    """The table in pieces, some of which may be empty."""
    cuts = sorted(draw(st.lists(st.integers(0, table.num_rows), max_size=3)))
    ends = itertools.pairwise([0, *cuts, table.num_rows])
    return pa.concat_tables([table.slice(begin, end - begin) for begin, end in ends])
