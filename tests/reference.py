"""What a layout means, in plain Python: slow, and meant to be read.

:func:`reference_collate` is the specification of ``PreferenceCollator(layout)(samples)``. It works on
nested lists of Python numbers, one cell at a time, and says which exception a wrong sample raises
(not in which words). Of a sample with several faults it may find another one first.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from dpo_collate.layout import Column, Fill, Layout, Length, Matrix, Media, Scalar

Number: TypeAlias = int | float
Sample: TypeAlias = Mapping[Any, Any]

RANGES = {"int64": (-(2**63), 2**63 - 1), "int32": (-(2**31), 2**31 - 1), "bool": (0, 1)}
"""The integers that fit a cell: least and greatest."""


@dataclass(frozen=True)
class Array:
    """An array of a batch: nested lists of numbers, and what they do not tell."""

    dtype: str
    shape: tuple[int, ...]
    values: Any

    def __eq__(self, other: object) -> bool:
        """By what is printed: 1, 1.0 and True differ there, and a NaN equals itself."""
        return isinstance(other, Array) and repr(self) == repr(other)

    __hash__ = None  # type: ignore[assignment]

    @classmethod
    def of(cls, value: Any) -> Array:
        """A tensor or an array, or (nested) lists of numbers, which are what torch makes of them."""
        if hasattr(value, "dtype"):
            name = getattr(value.dtype, "name", None) or str(value.dtype).removeprefix("torch.")
            return cls(name, tuple(value.shape), value.tolist())
        if isinstance(value, list | tuple) and value and all(hasattr(item, "dtype") for item in value):
            return cls.stack(value)
        kinds = {type(number) for number in _leaves(value)}
        if not isinstance(value, list | tuple) or not kinds <= {bool, int, float}:
            raise TypeError(f"{value!r} is no array of numbers")
        dtype = "float32" if float in kinds or not kinds else "int64" if int in kinds else "bool"
        return cls(dtype, _shape(value), _cells(value, dtype))

    @classmethod
    def stack(cls, values: Sequence[Any]) -> Array:
        """Tensors (or arrays) of one shape and dtype, along a new first dimension."""
        if not all(type(value) is type(values[0]) for value in values):
            raise TypeError("values of different kinds cannot be stacked")
        arrays = [cls.of(value) for value in values]
        if len({array.shape for array in arrays}) > 1:
            raise ValueError("values of different shapes cannot be stacked")
        return cls(arrays[0].dtype, (len(arrays), *arrays[0].shape), [array.values for array in arrays])


Batch: TypeAlias = dict[Any, Array | list[Any]]
"""Keys to arrays, in order. Keys that the layout does not name may be lists of the samples' values."""


def reference_collate(
    samples: Sequence[Sample],
    layout: Layout,
    *,
    pad_token_id: int,
    label_pad_token_id: int = -100,
    min_length: int = 0,
) -> Batch:
    """Makes the batch that a layout describes.

    Args:
        samples: The samples; they are only read.
        layout: The table.
        pad_token_id: What the table calls by that name.
        label_pad_token_id: Likewise.
        min_length: Least width of every matrix, besides the table's own.

    Raises:
        TypeError: A value is of the wrong kind.
        ValueError: A value is wrong, lengths differ, or truncation takes what must stay.
        KeyError: A key is missing or unknown.
        OverflowError: A number does not fit its cell.
    """
    if not samples:
        raise ValueError("no sample")
    if not all(isinstance(sample, Mapping) for sample in samples):
        raise TypeError("a sample is no mapping")
    if not all(samples):
        raise KeyError("a sample without keys")
    ids = {"pad_token_id": pad_token_id, "label_pad_token_id": label_pad_token_id}
    reference = _Reference(samples, layout, ids, min_length)
    unknown = reference.unknown_keys()
    batch: Batch = {}
    truncated: set[int] = set()
    for matrix in layout.matrices:
        batch |= reference.matrix(matrix, truncated)
    batch |= reference.all_media(truncated)
    for scalar in layout.scalars:
        batch |= reference.scalar(scalar)
    for key in unknown:
        batch |= reference.extra(key)
    if layout.returns == "sample":
        return {key: batch[key] for key in (*(key for key in samples[0] if key in batch), *batch)}
    return batch


@dataclass(frozen=True)
class _Reference:
    """The arguments of :func:`reference_collate`, and what each part of a layout makes of them."""

    samples: Sequence[Sample]
    layout: Layout
    ids: Mapping[str, int]
    min_length: int

    def entries(self, parts: int) -> list[tuple[int, int]]:
        """The order of what comes from several keys of each sample: (which of the keys, which sample)."""
        if self.layout.order == "grouped":
            return [(part, sample) for part in range(parts) for sample in range(len(self.samples))]
        return [(part, sample) for sample in range(len(self.samples)) for part in range(parts)]

    def all_have(self, keys: Iterable[str]) -> bool:
        """Whether all samples have the keys, or none. None is as good as absent."""
        having = [sample.get(key) is not None for sample in self.samples for key in keys]
        if any(having) and not all(having):
            raise KeyError(f"some samples lack one of {keys}")
        return all(having)

    def filled(self, fill: Fill) -> Number:
        return self.ids[fill] if isinstance(fill, str) else fill

    # --- token rows -------------------------------------------------------------------------------

    def matrix(self, matrix: Matrix, truncated: set[int]) -> Batch:
        """The columns of a matrix. Notes the samples of which it truncates a row."""
        rows = [_Row(matrix, part, self.samples[at], at) for part, at in self.entries(len(matrix.rows))]
        truncated |= {row.at for row in rows if row.kept < row.tokens}
        width = _width(max(row.kept for row in rows), matrix.length, self.min_length)
        batch: Batch = {}
        for column in matrix.columns:
            shows = column.of
            keys = [shows.replace("{}", stem) for stems in matrix.rows for stem in stems]
            if (column.optional or column.default == "ones") and "{}" in shows and not self.all_have(keys):
                if column.default is None:
                    continue
                shows = "ones"
            lines = []
            for row in rows:
                cells = self.row(column, shows, row)
                padding = [cell(self.pad(column), column.dtype)] * (width - row.kept)
                lines.append(cells + padding if matrix.side == "right" else padding + cells)
            batch[column.name.replace("{}", matrix.rows[0][-1])] = Array(column.dtype, (len(rows), width), lines)
        return batch

    def pad(self, column: Column) -> Number:
        """What the padding of a column holds: of ids, unless the table says it, the pad id; else 0."""
        if column.pad is None:
            return self.ids["pad_token_id"] if (column.of, column.differs_from) == ("tokens", None) else 0
        return self.filled(column.pad)

    def row(self, column: Column, shows: str, row: _Row) -> list[Number]:
        """The cells of a column for what is kept of a row."""
        content: list[Number | None] = []
        for segment, values in enumerate(row.values(shows)):
            if column.on is not None and segment not in column.on:
                content += [None for _ in values]
            elif column.differs_from is not None:
                content += [int(value != self.filled(column.differs_from)) for value in values]
            elif not column.dtype.startswith("float") and any(isinstance(value, float) for value in values):
                raise TypeError("floating-point numbers where integers belong")
            else:
                content += values
        pad = cell(self.pad(column), column.dtype)
        kept = content[row.start : row.end]
        cells = [pad if value is None else cell(value, column.dtype) for value in kept]
        scored = "label_pad_token_id" in (column.pad, column.differs_from) or column.on is not None
        if (column.nonempty or (scored and row.kept < row.tokens)) and all(value == pad for value in cells):
            raise ValueError("a row is all padding")
        return cells

    # --- numbers ----------------------------------------------------------------------------------

    def scalar(self, scalar: Scalar) -> Batch:
        """One number of each sample and key."""
        if scalar.default is None and not self.all_have(scalar.keys):
            if scalar.optional:
                return {}
            raise KeyError(f"no sample has '{scalar.name}'")
        cells = []
        for part, at in self.entries(len(scalar.keys)):
            value = self.samples[at].get(scalar.keys[part])
            if value is None and scalar.default is not None:
                value = self.filled(scalar.default)
            cells.append(cell(_single(value), scalar.dtype))
        return {scalar.name: Array(scalar.dtype, (len(cells),), cells)}

    # --- images -----------------------------------------------------------------------------------

    def all_media(self, truncated: set[int]) -> Batch:
        """Tiles, concatenated. A sample that has an image is not truncated; a tile with flag 0 is none."""
        media = self.layout.media
        found = {medium.name: self.tiles(medium) for medium in media}
        flagged = {medium.flags_of for medium in media}
        for medium in media:
            images = {at for (_, at), array in found[medium.name].items()}
            if medium.flags_of is not None:
                _check_flags(found[medium.name], found[medium.flags_of])
                images = {at for (_, at), array in found[medium.name].items() if any(array.values)}
            if medium.name not in flagged and images & truncated:
                raise ValueError("truncation could cut the image tokens of a sample")
        batch: Batch = {}
        for medium in media:
            arrays = list(found[medium.name].values())
            if not arrays and medium.blank is not None:
                dtype = "float32" if medium.flags_of is None else "int64"
                arrays = [Array(dtype, (1, *medium.blank), [_full(medium.blank, cell(0, dtype))])]
            if arrays:
                tiles = [tile for array in arrays for tile in array.values]
                batch[medium.name] = Array(arrays[0].dtype, (len(tiles), *arrays[0].shape[1:]), tiles)
        return batch

    def tiles(self, medium: Media) -> dict[tuple[int, int], Array]:
        """The tiles of each key and sample that has any, in row order."""
        found = {}
        for part, at in self.entries(len(medium.keys)):
            value = self.samples[at].get(medium.keys[part])
            if value is not None:
                array = Array.of(value)
                if not array.shape:
                    raise ValueError("the first dimension counts tiles, and there is none")
                if array.shape[0] > 0:
                    found[part, at] = array
        if len({(array.dtype, array.shape[1:]) for array in found.values()}) > 1:
            raise ValueError("tiles are of one dtype and one shape")
        if not found and not medium.optional:
            raise KeyError(f"no sample has '{medium.name}'")
        return found

    # --- keys that the layout does not name -------------------------------------------------------

    def unknown_keys(self) -> list[Any]:
        """Those of the first sample, if the layout wants them in the batch."""
        known = {*self.layout.names(), *self.layout.ignored}
        for matrix in self.layout.matrices:
            templates = [matrix.tokens, *(column.of for column in matrix.columns if "{}" in column.of)]
            known |= {template.replace("{}", stem) for template in templates for row in matrix.rows for stem in row}
        known |= {key for medium in self.layout.media for key in medium.keys}
        known |= {key for scalar in self.layout.scalars for key in scalar.keys}
        unknown = [[key for key in sample if key not in known] for sample in self.samples]
        for keys in unknown:
            if any(str(key).startswith(self.layout.reserved) for key in keys):
                raise KeyError("an unknown key that begins like one that matters")
            if keys and self.layout.extra == "error":
                raise KeyError("an unknown key")
            if set(keys) != set(unknown[0]) and self.layout.extra != "drop":
                raise KeyError("a key that only some samples have")
        return [] if self.layout.extra == "drop" else unknown[0]

    def extra(self, key: Any) -> Batch:
        """The samples' values as a list, or stacked if the first is no string and not None."""
        values = [sample[key] for sample in self.samples]
        if self.layout.extra == "list":
            return {key: values}
        if values[0] is None or isinstance(values[0], str):
            return {}
        return {key: Array.stack(values) if hasattr(values[0], "dtype") else Array.of(values)}


class _Row:
    """One row of a matrix: the segments that it joins, and the window of it that is kept."""

    def __init__(self, matrix: Matrix, part: int, sample: Sample, at: int) -> None:
        self.at = at
        self.sample = sample
        self.stems = matrix.rows[part]
        self.segments = [numbers(sample[matrix.tokens.replace("{}", stem)]) for stem in self.stems]
        self.tokens = sum(len(segment) for segment in self.segments)
        self.start, self.end = _window(self.tokens, matrix.length)
        self.kept = self.end - self.start

    def values(self, shows: str) -> list[list[Number]]:
        """What a column shows of each segment, before truncation."""
        if shows == "tokens":
            return self.segments
        if shows == "ones":
            return [[1 for _ in segment] for segment in self.segments]
        values = [numbers(self.sample[shows.replace("{}", stem)]) for stem in self.stems]
        if [len(row) for row in values] != [len(segment) for segment in self.segments]:
            raise ValueError("a row is not as long as its tokens")
        return values


def _window(tokens: int, length: Length) -> tuple[int, int]:
    """Of a row of so many tokens: where what is kept of it starts, and where it ends."""
    if length.max_length is None or tokens <= length.max_length:
        return 0, tokens
    if length.truncation_mode == "error":
        raise ValueError("a row is too long")
    if length.truncation_mode == "keep_start":
        return 0, length.max_length
    return tokens - length.max_length, tokens


def _width(longest: int, length: Length, min_length: int) -> int:
    """The width of a matrix: what its longest row needs, rounded up."""
    width = max(longest, length.min_length, min_length)
    if length.buckets:
        large_enough = [bucket for bucket in length.buckets if bucket >= width]
        if not large_enough:
            raise ValueError("a row is longer than every bucket")
        return min(large_enough)
    while width % length.multiple_of or width % length.row_multiple_of:
        width += 1
    return width


def _check_flags(flags: Mapping[tuple[int, int], Array], tiles: Mapping[tuple[int, int], Array]) -> None:
    """Flags and tiles come together and agree in number."""
    if flags.keys() != tiles.keys():
        raise KeyError("tiles without flags, or flags without tiles")
    for at, array in flags.items():
        if array.shape != tiles[at].shape[:1]:
            raise ValueError("not one flag for each tile")


def numbers(value: Any) -> list[Number]:
    """A row of a sample: a tensor, array, list or tuple of one dimension."""
    if hasattr(value, "__array__") and not hasattr(value, "tolist"):
        value = value.__array__()
    if getattr(value, "ndim", 1) != 1:
        raise ValueError("a row has one dimension")
    items = value.tolist() if hasattr(value, "tolist") else value
    if not isinstance(items, list | tuple):
        raise TypeError(f"{value!r} is no row")
    return [_single(item) for item in items]


def _single(value: Any) -> Number:
    """A number; a tensor or array of one element is one too."""
    if hasattr(value, "shape"):
        if any(size != 1 for size in value.shape):
            raise ValueError("not a single number")
        value = value.item()
    if not isinstance(value, int | float):
        raise TypeError(f"{value!r} is no number")
    return int(value) if isinstance(value, int) else value


def cell(number: Number, dtype: str) -> Number:
    """The number as a cell of that type holds it: integers exactly, floats rounded to the nearest."""
    if not dtype.startswith("float"):
        if isinstance(number, float):
            raise TypeError(f"{number!r} is no integer")
        least, greatest = RANGES[dtype]
        if not least <= number <= greatest:
            raise OverflowError(f"{number} does not fit {dtype}")
        return bool(number) if dtype == "bool" else number
    if isinstance(number, int):
        if not -(2**63) <= number < 2**63:
            raise OverflowError(f"{number} does not fit 64 bits")
        # At once to the 24 bits that float32 has: by way of float64 it would be rounded twice.
        spare = 2 ** max(number.bit_length() - (24 if dtype == "float32" else 53), 0)
        number = float(round(Fraction(number, spare)) * spare)
    if dtype == "float32":
        (number,) = struct.unpack("<f", struct.pack("<f", number))
    return number


def _leaves(value: Any) -> Iterator[Any]:
    if not isinstance(value, list | tuple):
        yield value
        return
    for item in value:
        yield from _leaves(item)


def _shape(value: Any) -> tuple[int, ...]:
    if not isinstance(value, list | tuple):
        return ()
    shapes = {_shape(item) for item in value}
    if len(shapes) > 1:
        raise ValueError("lists of different lengths")
    return (len(value), *(shapes.pop() if shapes else ()))


def _cells(value: Any, dtype: str) -> Any:
    return [_cells(item, dtype) for item in value] if isinstance(value, list | tuple) else cell(value, dtype)


def _full(shape: Sequence[int], value: Number) -> Any:
    return [_full(shape[1:], value) for _ in range(shape[0])] if shape else value
