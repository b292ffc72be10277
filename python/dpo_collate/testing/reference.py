"""What a layout means, in plain Python: slow, and meant to be read.

:func:`reference_collate` is the specification of ``PreferenceCollator(layout)(samples)``. It works on
nested lists of Python numbers, one cell at a time, and says which exception a wrong sample raises
(not in which words). Of a sample with several faults it may find another one first. What media mean is
said in :mod:`reference_media`, what numbers and cells are in :mod:`reference_cells`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import TYPE_CHECKING, Any, TypeAlias

from .reference_cells import RANGES, Array, Number, cell, numbers, single
from .reference_media import all_media, entries

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from dpo_collate.layout import Column, Fill, Layout, Length, Matrix, Scalar

__all__ = ["RANGES", "Array", "Number", "reference_collate"]

Sample: TypeAlias = Mapping[Any, Any]

Batch: TypeAlias = dict[Any, Any]
"""Keys to arrays, in order. A longest length is a number; constants are what they are; numbers that stay a list,
and keys that the layout does not name, may be lists of the samples' values."""


def reference_collate(
    samples: Sequence[Any],
    layout: Layout,
    *,
    pad_token_id: int,
    label_pad_token_id: int = -100,
    min_length: int = 0,
) -> Any:
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
    if layout.sample is not None:
        samples = [_named(sample, layout.sample) for sample in samples]
    if not all(isinstance(sample, Mapping) for sample in samples):
        raise TypeError("a sample is no mapping")
    if not all(samples):
        raise KeyError("a sample without keys")
    any_stem, layout = layout, _expanded(layout, list(samples[0]))
    _check_later(any_stem, layout, samples)
    ids = {"pad_token_id": pad_token_id, "label_pad_token_id": label_pad_token_id}
    reference = _Reference(samples, layout, ids, min_length)
    unknown = reference.unknown_keys()
    batch: Batch = {}
    truncated: set[int] = set()
    for matrix in layout.matrices:
        batch |= reference.matrix(matrix, truncated)
    batch |= all_media(layout, samples, truncated)
    for scalar in layout.scalars:
        batch |= reference.scalar(scalar)
    batch |= layout.constants
    if layout.returns is not None and layout.returns != "sample":
        return _nest(layout.returns, batch)
    for key in unknown:
        batch |= reference.other(key)
    if layout.returns is None:
        return batch
    return {key: batch[key] for key in (*(key for key in samples[0] if key in batch), *batch)}


def _named(sample: Any, names: tuple[str, ...]) -> Any:
    """A sample that is a tuple of its parts, by their names."""
    if not isinstance(sample, tuple | list):
        return sample
    if len(sample) != len(names):
        raise ValueError("a sample of another number of parts")
    return dict(zip(names, sample, strict=True))


def _nest(names: Any, batch: Batch) -> Any:
    """What the names stand for. What the batch lacks is left out of dicts; a tuple has a place for it."""
    if isinstance(names, str):
        return batch[names]
    if isinstance(names, tuple):
        return tuple(_nest(part, batch) for part in names)
    return {key: _nest(part, batch) for key, part in names.items() if not isinstance(part, str) or part in batch}


# --- wildcards ------------------------------------------------------------------------------------


def _expanded(layout: Layout, keys: list[Any]) -> Layout:
    """The table for samples of these keys: of a part with a "*" there is one for each key that only it names."""
    matrices: list[Matrix] = []
    for matrix in layout.matrices:
        alike = [other for other in layout.matrices if other.tokens == matrix.tokens]
        named = {stem for other in alike for stems in other.rows for stem in stems}
        stems = [_star(matrix.tokens.replace("{}", "*"), key) for key in keys]
        free = [stem for stem in stems if stem is not None and stem not in named]
        matrices += [replace(matrix, rows=((stem,),)) for stem in free] if "*" in matrix.rows[0] else [matrix]
    if not matrices:
        raise KeyError("no row of tokens")
    layout = replace(layout, matrices=tuple(matrices))
    parts: tuple[Any, ...] = (*layout.media, *layout.scalars)
    others = [part for part in parts if "*" not in part.name]
    used = {*layout.names(), *layout.ignored, *_row_keys(layout), *(key for part in others for key in part.keys)}
    expanded: dict[str, Any] = {}
    for kind in ("media", "scalars"):
        made: list[Any] = []
        for part in getattr(layout, kind):
            found = [key for key in keys if "*" in part.name and key not in used and _star(part.name, key) is not None]
            if "*" in part.name and not found and not part.optional:
                raise KeyError("no key of that form")
            made += [replace(part, name=key, keys=(key,)) for key in found] if "*" in part.name else [part]
            used |= {*found}
        expanded[kind] = tuple(made)
    return replace(layout, **expanded)


def _check_later(layout: Layout, expanded: Layout, samples: Sequence[Sample]) -> None:
    """What a wildcard takes is in the first sample, or it would be lost."""
    patterns = [matrix.tokens.replace("{}", "*") for matrix in layout.matrices if "*" in matrix.rows[0]]
    parts: tuple[Any, ...] = (*layout.media, *layout.scalars)
    patterns += [part.name for part in parts if "*" in part.name]
    named = {*samples[0], *expanded.names(), *expanded.ignored, *_row_keys(expanded)}
    named |= {key for medium in expanded.media for key in medium.keys}
    named |= {key for scalar in expanded.scalars for key in scalar.keys}
    for sample in samples:
        new = [key for key in sample if key not in named]
        if any(_star(pattern, key) is not None for pattern in patterns for key in new):
            raise KeyError("a key that the first sample lacks")


def _star(pattern: str, key: Any) -> str | None:
    """What the "*" of a pattern stands for in a key."""
    if not isinstance(key, str):
        return None
    found = re.fullmatch(re.escape(pattern).replace(r"\*", "(.*)"), key, re.DOTALL)
    return found.group(1) if found and found.groups() else None


def _row_keys(layout: Layout) -> set[str]:
    """The keys of all rows of tokens, and of what is parallel to them."""
    found = set()
    for matrix in layout.matrices:
        for template in (matrix.tokens, *(column.of for column in matrix.columns if "{}" in column.of)):
            found |= {template.replace("{}", stem) for stems in matrix.rows for stem in stems}
    return found


@dataclass(frozen=True)
class _Reference:
    """The arguments of :func:`reference_collate`, and what each part of a layout makes of them."""

    samples: Sequence[Sample]
    layout: Layout
    ids: Mapping[str, int]
    min_length: int

    def entries(self, parts: int) -> list[tuple[int, int]]:
        return entries(self.layout.order, parts, len(self.samples))

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
        keys = [matrix.tokens.replace("{}", stem) for stems in matrix.rows for stem in stems]
        if matrix.optional and not self.all_have(keys):
            templates = [column.of for column in matrix.columns if "{}" in column.of]
            parallel = {of.replace("{}", stem) for of in templates for stems in matrix.rows for stem in stems}
            if any(sample.get(key) is not None for sample in self.samples for key in parallel):
                raise KeyError("what is parallel to tokens that no sample has")
            return {}
        rows = [_Row(self, matrix, *which, index) for index, which in enumerate(self.entries(len(matrix.rows)))]
        truncated |= {row.at for row in rows if row.is_truncated}
        shape = _Shape(matrix, [row.content for row in rows], self.min_length)
        batch: Batch = {}
        for column in matrix.columns:
            shows = column.of
            keys = [shows.replace("{}", stem) for stems in matrix.rows for stem in stems]
            if (column.optional or column.default == "ones") and "{}" in shows and not self.all_have(keys):
                if column.default is None:
                    continue
                shows = "ones"
            batch[column.name.replace("{}", matrix.rows[0][-1])] = self.column(column, shows, rows, shape)
        return batch

    def column(self, column: Column, shows: str, rows: list[_Row], shape: _Shape) -> Any:
        """The array of a column, or the number that it is."""
        of_rows = {"length": shape.contents, "cu_seq_lens": list(accumulate(shape.segments, initial=0))}
        if shows == "max_length":
            return max(shape.segments)
        if shows in of_rows:
            lengths = [cell(length, column.dtype) for length in of_rows[shows]]
            return Array(column.dtype, (len(lengths),), lengths)
        lines = []
        for row, room in zip(rows, shape.rooms, strict=True):
            content = self.cells(column, shows, row)
            padding = self.padding(column, room - row.content, row.content)
            lines.append(content + padding if shape.matrix.side == "right" else padding + content)
        if shape.matrix.flat:
            lines = [[value for line in lines for value in line] + self.padding(column, shape.tail, 0)]
        return Array(column.dtype, (len(lines), shape.width), lines)

    def pad(self, column: Column) -> Number:
        """What the padding of a column holds: of ids, unless the table says it, the pad id; else 0."""
        if column.pad is None:
            return self.ids["pad_token_id"] if (column.of, column.differs_from) == ("tokens", None) else 0
        return 0 if column.pad == "continue" else self.filled(column.pad)

    def padding(self, column: Column, length: int, before: int) -> list[Number]:
        """So many cells of padding. Positions may go on, after those that are before."""
        if column.pad == "continue":
            return [cell(column.start + before + at, column.dtype) for at in range(length)]
        return [cell(self.pad(column), column.dtype)] * length

    def cells(self, column: Column, shows: str, row: _Row) -> list[Number]:
        """The cells of a column for the content of a row."""
        content: list[Number | None] = []
        for segment, values in enumerate(self.values(column, shows, row)):
            hidden = column.on is not None and segment not in column.on
            content += [None for _ in values] if hidden else values
        kept = content[row.start : row.end]
        after = kept[column.shift :]
        shown = [after[at] if column.skip <= at < len(after) else None for at in range(row.content)]
        pad = self.pad(column)
        scored = "label_pad_token_id" in (column.pad, column.differs_from) or column.on is not None
        # Of what samples have, values like the padding (or, in a mask, those that do not differ) are nothing; but of
        # tokens in chosen segments any is something.
        chosen = shows == "tokens" and column.on is not None and column.differs_from is None
        own = (shows == "tokens" or "{}" in shows) and not chosen
        nothing = {None, *([pad if column.differs_from is None else 0] if own else [])}
        cut = scored and row.is_truncated and any(value not in nothing for value in content)
        if (column.nonempty or cut) and all(value in nothing for value in shown):
            raise ValueError("a row is all padding")
        return [cell(pad if value is None else value, column.dtype) for value in shown]

    def values(self, column: Column, shows: str, row: _Row) -> list[list[Number]]:
        """What a column shows of each segment, before truncation."""
        segments = row.values(shows)
        if shows in ("position", "row", "segment"):
            return [[value + column.start for value in values] for values in segments]
        if column.differs_from is not None:
            return [[int(value != self.filled(column.differs_from)) for value in values] for values in segments]
        if not column.dtype.startswith("float") and any(isinstance(value, float) for row in segments for value in row):
            raise TypeError("floating-point numbers where integers belong")
        return segments

    # --- numbers ----------------------------------------------------------------------------------

    def scalar(self, scalar: Scalar) -> Batch:
        """One number of each sample and key; or, where no type is wanted, a list of whatever they are."""
        given = [self.samples[at].get(scalar.keys[part]) for part, at in self.entries(len(scalar.keys))]
        if scalar.dtype is None:
            left_out = scalar.optional and all(value is None for value in given)
            return {} if left_out else {scalar.name: [scalar.default if value is None else value for value in given]}
        if scalar.default is None and not self.all_have(scalar.keys):
            if scalar.optional:
                return {}
            raise KeyError(f"no sample has '{scalar.name}'")
        values = [scalar.default if value is None and scalar.default is not None else value for value in given]
        return {
            scalar.name: Array(scalar.dtype, (len(given),), [cell(single(value), scalar.dtype) for value in values])
        }

    # --- keys that the layout does not name -------------------------------------------------------

    def unknown_keys(self) -> list[Any]:
        """Those of the first sample, if the layout wants them in the batch."""
        # What the batch makes anew is known, but not images under a reserved name: the batch has others there.
        images = {medium.name for medium in self.layout.media if medium.name.startswith(self.layout.reserved)}
        known = {*self.layout.names()} - images | {*self.layout.ignored, *_row_keys(self.layout)}
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

    def other(self, key: Any) -> Batch:
        """The samples' values as a list, or stacked if the first is no string and not None."""
        values = [sample[key] for sample in self.samples]
        if self.layout.extra == "list":
            return {key: values}
        if values[0] is None or isinstance(values[0], str):
            return {}
        return {key: Array.stack(values) if hasattr(values[0], "dtype") else Array.of(values)}


class _Row:
    """One row of a matrix: the segments that it joins, and the window of it that is kept."""

    def __init__(self, reference: _Reference, matrix: Matrix, part: int, at: int, index: int) -> None:
        self.at = at
        self.index = index
        self.sample = reference.samples[at]
        self.unbatch = reference.layout.unbatch
        self.stems = matrix.rows[part]
        self.segments = self.of(matrix.tokens)
        tokens = sum(len(segment) for segment in self.segments)
        self.start, self.end = _window(tokens, matrix.length)
        self.is_truncated = self.end - self.start < tokens
        self.content = max(self.end - self.start - matrix.drop_last, 0)

    def of(self, template: str) -> list[list[Number]]:
        """The values of a key for each segment."""
        return [numbers(self.sample[template.replace("{}", stem)], unbatch=self.unbatch) for stem in self.stems]

    def values(self, shows: str) -> list[list[Number]]:
        """What there is to show of each token of each segment, before truncation."""
        lengths = [len(segment) for segment in self.segments]
        begins = list(accumulate(lengths, initial=0))
        counted: dict[str, Any] = {
            "tokens": self.segments,
            "ones": [[1] * length for length in lengths],
            # Those of tokens that are cut off at the start are never shown.
            "position": [
                [begin - self.start + at for at in range(n)] for begin, n in zip(begins, lengths, strict=False)
            ],
            "row": [[self.index] * length for length in lengths],
            "segment": [[segment] * length for segment, length in enumerate(lengths)],
        }
        if shows in counted:
            return counted[shows]  # type: ignore[no-any-return]
        values = self.of(shows)
        if [len(row) for row in values] != lengths:
            raise ValueError("a row is not as long as its tokens")
        return values


class _Shape:
    """How many cells the rows of a matrix take."""

    def __init__(self, matrix: Matrix, contents: list[int], min_length: int) -> None:
        self.matrix = matrix
        self.contents = contents
        if matrix.flat:
            self.rooms = [_rounded(content, matrix.length.row_multiple_of) for content in contents]
            self.width = _width(sum(self.rooms), matrix.length, min_length)
            self.tail = self.width - sum(self.rooms)
            self.segments = [*self.rooms, *([self.tail] if self.tail > 0 and matrix.tail == "segment" else [])]
        else:
            self.width = _width(max(contents), matrix.length, min_length)
            self.rooms = [self.width for _ in contents]
            self.segments = contents


def _window(tokens: int, length: Length) -> tuple[int, int]:
    """Of a row of so many tokens: where what is kept of it starts, and where it ends."""
    if length.max_length is None or tokens <= length.max_length:
        return 0, tokens
    if length.truncation_mode == "error":
        raise ValueError("a row is too long")
    if length.truncation_mode == "keep_start":
        return 0, length.max_length
    return tokens - length.max_length, tokens


def _width(cells: int, length: Length, min_length: int) -> int:
    """The width of a matrix: what its rows need, rounded up."""
    width = max(cells, length.min_length, min_length)
    if length.buckets:
        large_enough = [bucket for bucket in length.buckets if bucket >= width]
        if not large_enough:
            raise ValueError("a row is longer than every bucket")
        return min(large_enough)
    return _rounded(width, length.multiple_of, length.row_multiple_of)


def _rounded(number: int, *multiples: int) -> int:
    while any(number % multiple for multiple in multiples):
        number += 1
    return number
