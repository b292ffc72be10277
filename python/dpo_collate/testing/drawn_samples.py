"""Hypothesis strategies: samples of a layout.

A sample is drawn *plain* (rows are lists of Python numbers, images are contiguous tensors) and then
*dressed*: the same values as whatever a data set may hand over.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch
from hypothesis import strategies as st

from .kinds import SAMPLE_KINDS, number_kinds, row_kinds, tile_kinds
from .reference import RANGES

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from dpo_collate.layout import Layout, Matrix, Media

    from .reference import Number

Sample: TypeAlias = dict[str, Any]


def kinds_of(key: str, value: Any, layout: Layout) -> dict[str, Callable[[], Any]]:
    """Every kind of object that a plain value of a sample may be."""
    if value is not None:
        if key in {key for medium in layout.media for key in medium.keys}:
            return tile_kinds(value)
        if key in {key for scalar in layout.scalars if scalar.dtype is not None for key in scalar.keys}:
            return number_kinds(value)
        if key in domains(layout):
            kinds = row_kinds(value)
            return {**kinds, **_unbatched(kinds)} if layout.unbatch else kinds
    return {"as it is": lambda: value}


def _unbatched(kinds: Mapping[str, Callable[[], Any]]) -> dict[str, Callable[[], Any]]:
    """Rows with a first dimension of one."""
    found: dict[str, Callable[[], Any]] = {}
    for name, make in kinds.items():
        if name.startswith(("torch", "numpy")):
            found[f"{name} [1, L]"] = partial(lambda make: make()[None], make)
        if name in {"list", "tuple"} or name.endswith("plain"):
            found[f"{name} in a list"] = partial(lambda make: [make()], make)
            found[f"{name} in a tuple"] = partial(lambda make: (make(),), make)
    return found


@st.composite
def dressed(draw: st.DrawFn, plain: Sequence[Any], layout: Layout) -> list[Any]:
    """The samples, each value as any kind of object, each sample as any kind of mapping (a tuple stays one)."""
    samples: list[Any] = []
    for sample in plain:
        names = layout.sample or ()
        by_name = dict(zip(names, sample, strict=True)) if isinstance(sample, tuple) else sample
        kinds = {key: kinds_of(key, value, layout) for key, value in by_name.items()}
        values = {key: kinds[key][draw(st.sampled_from(list(kinds[key])))]() for key in by_name}
        if isinstance(sample, tuple):
            samples.append(draw(st.sampled_from((tuple, list)))(values.values()))
        else:
            samples.append(draw(st.sampled_from(SAMPLE_KINDS))(values))
    return samples


# --- plain samples of a layout --------------------------------------------------------------------


def domains(layout: Layout) -> dict[str, str]:
    """For each key of a token row what it may hold: the dtype of the narrowest column that shows it."""
    narrowest = ("bool", "int32", "int64", "float32", "float64")
    found: dict[str, str] = {}
    for matrix in layout.matrices:
        for stem in (stem for row in matrix.rows for stem in row):
            found.setdefault(matrix.tokens.replace("{}", stem), "int64")
            for column in matrix.columns:
                template = matrix.tokens if column.of == "tokens" else column.of
                if "{}" in template:
                    dtype = "int64" if column.differs_from is not None else column.dtype
                    key = template.replace("{}", stem)
                    found[key] = min(found.get(key, dtype), dtype, key=narrowest.index)
    return found


DOUBLY_ROUNDED = 2**60 + 2**36 + 1
"""As float32 it is 2**60 + 2**37; by way of float64 it would be 2**60."""


def values(dtype: str, special: Sequence[int]) -> st.SearchStrategy[Number]:
    """Numbers that a column of that type may show: small ones, the special ones, and the edges."""
    if dtype.startswith("float"):
        return st.one_of(st.sampled_from([0.0, -0.0, 1.0, -1.5]), st.floats(width=32), st.integers(-(2**63), 2**63 - 1))
    least, greatest = RANGES[dtype]
    edges = [
        *special,
        -100,
        0,
        1,
        127,
        255,
        2**15,
        2**30 - 1,
        2**30,
        2**31 - 1,
        2**31,
        2**53 + 1,
        DOUBLY_ROUNDED,
        least,
        greatest,
    ]
    fitting = [edge for edge in edges if least <= edge <= greatest]
    return st.one_of(
        st.sampled_from(fitting),
        st.integers(max(least, -100), min(greatest, 100)),
        st.integers(0, min(greatest, 255)),
    )


@st.composite
def rows(draw: st.DrawFn, length: int, dtype: str, special: Sequence[int]) -> list[Number]:
    """A row of so many values; those of a long one repeat themselves."""
    some = draw(st.lists(values(dtype, special), min_size=min(length, 1), max_size=min(length, 6)))
    if draw(st.booleans()):
        some = some[:1]
    return [some[at % len(some)] for at in range(length)]


def lengths(layout: Layout) -> st.SearchStrategy[int]:
    """Lengths of rows: about every number that a layout rounds to or cuts at, and now and then a long one."""
    edges = {0, 1, 2, 5}
    for length in (matrix.length for matrix in layout.matrices):
        for edge in (length.multiple_of, length.row_multiple_of, length.max_length or 1, *length.buckets):
            edges |= {edge - 1, edge, edge + 1} if edge < 20 else set()
    often = st.sampled_from(sorted(edges))
    return st.one_of(often, often, often, st.sampled_from([1, 3, 255, 256, 257, 600]))


TILE_DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.uint8, torch.float64, torch.int64)


@st.composite
def tiles(draw: st.DrawFn, count: int, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
    """So many tiles of a shape."""
    first = draw(st.integers(0, 100))
    return torch.arange(first, first + count * int(np.prod(shape))).reshape(count, *shape).to(dtype)


@st.composite
def plain_samples(
    draw: st.DrawFn, layout: Layout, special: Sequence[int] = (0,), tile_dtypes: Sequence[torch.dtype] = TILE_DTYPES
) -> list[Any]:
    """Samples of a layout, most of them valid: truncation may go too far, a row may fit no bucket."""
    samples: list[Sample] = [{} for _ in range(draw(st.integers(1, 4)))]
    holds = domains(layout)
    templates, needed = draw(_templates(layout))
    for sample in samples:
        length = {
            stem: draw(lengths(layout)) for stem in sorted({stem for stems in templates.values() for stem in stems})
        }
        for template, stems in sorted(templates.items()):
            for stem in sorted(stems):
                key = template.replace("{}", stem)
                sample[key] = draw(rows(length[stem], holds[key], special))
        absent = sorted(holds.keys() - sample.keys() - needed)
        sample.update(dict.fromkeys(key for key in absent if draw(st.integers(0, 5)) == 0))
    _draw_media(draw, layout, samples, tile_dtypes)
    _draw_numbers(draw, layout, samples, special)
    _draw_extras(draw, layout, samples)
    names = layout.sample
    if names is not None and draw(st.booleans()):
        return [tuple(sample.get(name) for name in names) for sample in samples]
    # Samples of one data set mostly have their keys in one order, but need not.
    return [
        {key: sample[key] for key in (draw(st.permutations(list(sample))) if draw(st.booleans()) else sample)}
        for sample in samples
    ]


@st.composite
def _templates(draw: st.DrawFn, layout: Layout) -> tuple[dict[str, set[str]], set[str]]:
    """The token rows that the samples of one batch have: the stems of each template.

    And the keys that must be there, if their matrix is.
    """
    needed: set[str] = set()
    left_out: list[Matrix] = []
    there: list[Matrix] = []
    for matrix in layout.matrices:
        (left_out if matrix.optional and draw(st.booleans()) else there).append(matrix)
    # What another matrix has is there.
    taken = {key for matrix in there for key in _keys_of(matrix)}
    while any(_keys_of(matrix) & taken for matrix in left_out):
        there += [matrix for matrix in left_out if _keys_of(matrix) & taken]
        left_out = [matrix for matrix in left_out if not _keys_of(matrix) & taken]
        taken = {key for matrix in there for key in _keys_of(matrix)}
    templates: dict[str, set[str]] = {}
    for matrix in there:
        stems = {stem for row in matrix.rows for stem in row}
        templates.setdefault(matrix.tokens, set()).update(stems)
        needed.add(matrix.tokens)
        for column in matrix.columns:
            if "{}" in column.of:
                templates.setdefault(column.of, set()).update(stems)
                if not column.optional and column.default is None:
                    needed.add(column.of)
    required = {
        column.of.replace("{}", stem)
        for matrix in layout.matrices
        for column in matrix.columns
        if "{}" in column.of and not column.optional and column.default is None
        for row in matrix.rows
        for stem in row
    }
    found = {
        template: stems for template, stems in sorted(templates.items()) if template in needed or draw(st.booleans())
    }
    return found, required


def _keys_of(matrix: Matrix) -> set[str]:
    templates = (matrix.tokens, *(column.of for column in matrix.columns if "{}" in column.of))
    return {template.replace("{}", stem) for template in templates for row in matrix.rows for stem in row}


def _draw_media(draw: st.DrawFn, layout: Layout, samples: Sequence[Sample], tile_dtypes: Sequence[torch.dtype]) -> None:
    flags = {medium.flags_of: medium for medium in layout.media if medium.flags_of is not None}
    for medium in layout.media:
        if medium.combine != "cat":
            _draw_stacked(draw, medium, samples, tile_dtypes)
        if medium.combine != "cat" or medium.flags_of is not None:
            continue
        shape = medium.blank or draw(st.sampled_from([(3, 2, 2), (2,), ()]))
        dtype = draw(st.sampled_from(tile_dtypes))
        flagged = medium.name in flags and not (flags[medium.name].optional and draw(st.integers(0, 3)) == 3)
        accompanying = flags[medium.name].keys if flagged else medium.keys
        for index, sample in enumerate(samples):
            for key, flags_key in dict(zip(medium.keys, accompanying, strict=True)).items():
                count = draw(st.sampled_from([None, 0, 1, 2, 3]))
                if index == 0 and not medium.optional:
                    count = 1
                if count is not None:
                    sample[key] = draw(tiles(count, shape, dtype))
                    if flagged:
                        real = [draw(st.integers(0, 1)) for _ in range(count)]
                        sample[flags_key] = torch.tensor(real, dtype=torch.int64)
                elif draw(st.booleans()):
                    sample[key] = None


def _draw_stacked(
    draw: st.DrawFn, medium: Media, samples: Sequence[Sample], tile_dtypes: Sequence[torch.dtype]
) -> None:
    if medium.optional and draw(st.booleans()):
        return
    dtype = draw(st.sampled_from(tile_dtypes))
    sizes = st.integers(0, 3) if medium.combine == "pad" else st.just(draw(st.integers(0, 3)))
    dimensions = draw(st.integers(1, 3))
    for sample in samples:
        for key in medium.keys:
            shape = [draw(sizes) for _ in range(dimensions)]
            sample[key] = draw(tiles(shape[0], tuple(shape[1:]), dtype))


def _draw_numbers(draw: st.DrawFn, layout: Layout, samples: Sequence[Sample], special: Sequence[int]) -> None:
    for scalar in layout.scalars:
        has_any = not scalar.optional or draw(st.booleans())
        for sample in samples:
            for key in scalar.keys if has_any else ():
                if scalar.dtype is None:
                    sample[key] = draw(st.sampled_from([None, "a name", ("anything",), 0, 0.5]))
                elif scalar.default is None or draw(st.booleans()):
                    sample[key] = draw(values(scalar.dtype, special))


def _draw_extras(draw: st.DrawFn, layout: Layout, samples: Sequence[Sample]) -> None:
    read = {*domains(layout), *(key for part in (layout.media, layout.scalars) for found in part for key in found.keys)}
    made = set(layout.names()) - {medium.name for medium in layout.media if medium.name.startswith(layout.reserved)}
    for key in (*layout.ignored, *sorted(made - read)):
        if draw(st.integers(0, 4)) == 0:
            samples[draw(st.integers(0, len(samples) - 1))][key] = "what the batch makes anew"
    if layout.extra == "error" or not draw(st.booleans()):
        return
    size = draw(st.integers(0, 2))
    for index, sample in enumerate(samples):
        sample["text"] = f"sample {index}" if draw(st.booleans()) or index == 0 else None
        sample["nothing"] = None if index == 0 else draw(st.sampled_from([None, 1]))
        sample["whole"] = draw(st.integers(-(2**63), 2**63 - 1))
        sample["real"] = draw(st.floats(width=32))
        sample["nested"] = [[index, at] for at in range(size)] if size else 0
        sample["vector"] = np.arange(index, index + size, dtype=np.float32)
        sample["tensor"] = torch.full((size, 1), index, dtype=torch.int16)
