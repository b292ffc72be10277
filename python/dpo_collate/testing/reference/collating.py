"""What a layout means, in plain Python: slow, and meant to be read.

:func:`reference_collate` is the specification of ``PreferenceCollator(layout)(samples)``. It works on nested lists of
Python numbers, one cell at a time. A batch is made in this order:

1. Samples that are tuples get the names of their parts; a table with wildcards becomes the table of the first sample.
2. Each matrix: a row joins its segments, and a window of it is kept (:func:`_window`); the width is that of the longest
   row, rounded up (:func:`_width`); each column shows something of every token that is kept, and padding elsewhere.
3. Media (``media.py``), unless truncation could have cut what stands for them (``image_tokens.py``).
4. Numbers, constants, and the keys that the layout does not name.

It says which exception a wrong sample raises, not in which words; of a sample with several faults it may find another
one first. What numbers and cells are is said in ``cells.py``, what a ``"*"`` becomes in ``wildcards.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Any, TypeAlias

from .cells import Array, Number, cell, numbers, single
from .image_tokens import counted_images
from .meant import Meant, meant
from .media import check_truncated, combined, entries, found_media
from .wildcards import check_later, expanded, row_keys

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from dpo_collate.layout import Column, Fill, Layout, Length, Matrix, Scalar

Sample: TypeAlias = Mapping[Any, Any]

Batch: TypeAlias = dict[Any, Any]
"""Keys to arrays, in order. A longest length is a number; constants are what they are; numbers that stay a list,
and keys that the layout does not name, may be lists of the samples' values."""


def reference_collate(
    samples: Sequence[Any],
    layout: Any = "separate",
    *,
    pad_token_id: int | None = None,
    label_pad_token_id: int | None = None,
    min_length: int = 0,
    **options: Any,
) -> Any:
    """Makes the batch that a layout describes: plainly, slowly, without a line of the collator's own code.

    (Only the options of a named layout are written into its table by the collator, so that they are said once.)

    Args:
        samples: The samples; they are only read. Any kind of object that the collator takes, but no Arrow tables: of
            those ``table.to_pylist()`` has the samples.
        layout: The name of a layout, a :class:`dpo_collate.layout.Layout`, a :class:`dpo_collate.PreferenceCollator`,
            a drop-in of :mod:`dpo_collate.trainers`, or a function that calls one of these. Of a drop-in it is what the
            collator behind it makes, before the drop-in does anything more with it.
        pad_token_id: As ``PreferenceCollator`` has it, which needs one as well; not together with a collator.
        label_pad_token_id: Likewise; None: -100.
        min_length: Least width of every matrix, besides the table's own.
        **options: Any other option of ``PreferenceCollator``, with a name or a table. ``return_tensors``,
            ``delivery`` and ``max_batch_bytes`` change no value and are not looked at.

    Returns:
        A dict of keys to :class:`Array`, or the nest of them that the layout's ``returns`` is; what is no array (a
        longest length, a constant, a list of the samples' values) is as it is. ``Array.of(tensor)`` makes a tensor
        comparable.

    Raises:
        TypeError: A value is of the wrong kind.
        ValueError: A value is wrong, lengths differ, or truncation takes what must stay.
        KeyError: A key is missing or unknown.
        OverflowError: A number does not fit its cell.

    Example:
        >>> from dpo_collate.testing import Array, reference_collate
        >>> sample = {"prompt_ids": [5], "chosen_ids": [6, 7], "rejected_ids": []}
        >>> batch = reference_collate([sample], "concatenated", inputs="split", pad_token_id=0)
        >>> batch["input_ids"]
        Array(dtype='int64', shape=(2, 3), values=[[5, 6, 7], [5, 0, 0]])
        >>> import torch
        >>> batch["completion_mask"] == Array.of(torch.tensor([[0, 1, 1], [0, 0, 0]]))
        True
    """
    return reference_batch(samples, meant(layout, pad_token_id, label_pad_token_id, options, None), min_length)


def reference_batch(samples: Sequence[Any], meant: Meant, min_length: int = 0) -> Any:
    """The batch of a table: see :func:`reference_collate`."""
    layout = meant.table
    if not samples:
        raise ValueError("no sample")
    if layout.sample is not None:
        samples = [_named(sample, layout.sample) for sample in samples]
    if not all(isinstance(sample, Mapping) for sample in samples):
        raise TypeError("a sample is no mapping")
    if not all(samples):
        raise KeyError("a sample without keys")
    layout = expanded(meant.table, list(samples[0]))
    check_later(meant.table, layout, samples)
    reference = _Reference(samples, layout, meant.ids, max(min_length, meant.min_length))
    unknown = reference.unknown_keys()
    batch: Batch = {}
    rows: list[Row] = []
    for matrix in layout.matrices:
        batch |= reference.matrix(matrix, rows)
    media = found_media(layout, samples)
    counted = counted_images(meant.image_tokens, layout, rows, media)
    check_truncated(layout, media, {row.at for row in rows if row.is_truncated}, counted)
    batch |= combined(layout, media)
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


# --- the parts of a layout ---


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

    def matrix(self, matrix: Matrix, every: list[Row]) -> Batch:
        """The columns of a matrix, whose rows are added to all of the batch."""
        keys = [matrix.tokens.replace("{}", stem) for stems in matrix.rows for stem in stems]
        if matrix.optional and not self.all_have(keys):
            templates = [column.of for column in matrix.columns if "{}" in column.of]
            parallel = {of.replace("{}", stem) for of in templates for stems in matrix.rows for stem in stems}
            if any(sample.get(key) is not None for sample in self.samples for key in parallel):
                raise KeyError("what is parallel to tokens that no sample has")
            return {}
        rows = [Row(self, matrix, *which, index) for index, which in enumerate(self.entries(len(matrix.rows)))]
        every += rows
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

    def column(self, column: Column, shows: str, rows: list[Row], shape: _Shape) -> Any:
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

    def cells(self, column: Column, shows: str, row: Row) -> list[Number]:
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

    def values(self, column: Column, shows: str, row: Row) -> list[list[Number]]:
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
        known = {*self.layout.names()} - images | {*self.layout.ignored, *row_keys(self.layout)}
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


class Row:
    """One row of a matrix: the segments that it joins, and the window of it that is kept."""

    def __init__(self, reference: _Reference, matrix: Matrix, part: int, at: int, index: int) -> None:
        self.matrix = matrix
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
