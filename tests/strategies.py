"""Hypothesis strategies: layouts, and samples of a layout.

A sample is drawn *plain* (rows are lists of Python numbers, images are contiguous tensors) and then
*dressed*: the same values as whatever a data set may hand over.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch
from hypothesis import settings
from hypothesis import strategies as st

from dpo_collate.layout import RESERVED, Column, Layout, Length, Matrix, Media, Scalar
from kinds import SAMPLE_KINDS, number_kinds, row_kinds, tile_kinds
from reference import RANGES

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from dpo_collate.layout import DType
    from reference import Number

Sample: TypeAlias = dict[str, Any]


def kinds_of(key: str, value: Any, layout: Layout) -> dict[str, Callable[[], Any]]:
    """Every kind of object that a plain value of a sample may be."""
    if value is not None:
        if key in {key for medium in layout.media for key in medium.keys}:
            return tile_kinds(value)
        if key in {key for scalar in layout.scalars for key in scalar.keys}:
            return number_kinds(value)
        if key in domains(layout):
            return row_kinds(value)
    return {"as it is": lambda: value}


@st.composite
def dressed(draw: st.DrawFn, plain: Sequence[Sample], layout: Layout) -> list[Any]:
    """The samples, each value as any kind of object, each sample as any kind of mapping."""
    samples = []
    for sample in plain:
        kinds = {key: kinds_of(key, value, layout) for key, value in sample.items()}
        values = {key: kinds[key][draw(st.sampled_from(list(kinds[key])))]() for key in sample}
        samples.append(draw(st.sampled_from(SAMPLE_KINDS))(values))
    return samples


def fewer(times: int) -> settings:
    """For a test whose examples are many each: that many times fewer of them."""
    return settings(max_examples=max(settings.get_profile("dpo_collate").max_examples // times, 2))


# --- layouts --------------------------------------------------------------------------------------

DTYPES: tuple[DType, ...] = ("int64", "int64", "int32", "bool", "float32", "float64")
ROWS = (
    (("chosen",),),
    (("chosen",), ("rejected",)),
    (("prompt", "chosen"),),
    (("prompt", "chosen"), ("prompt", "rejected")),
    (("system", "prompt", "rejected"),),
    (("",),),
)


IDS = st.fixed_dictionaries(
    {"pad_token_id": st.sampled_from([0, 1, 151643, -1]), "label_pad_token_id": st.sampled_from([-100, 0, -1])}
)


@st.composite
def matrix_lengths(draw: st.DrawFn) -> Length:
    row_multiple_of = draw(st.sampled_from([1, 1, 2, 6]))
    buckets = tuple(bucket * row_multiple_of for bucket in draw(st.sampled_from([(), (), (4, 12, 2000), (2000, 1, 9)])))
    return Length(
        max_length=draw(st.sampled_from([None, None, None, None, 1, 4, 8])),
        truncation_mode=draw(
            st.sampled_from(["keep_start", "keep_start", "keep_end", "keep_end", "keep_end", "error"])
        ),
        min_length=draw(st.sampled_from([0, 0, 3, 20])),
        multiple_of=1 if buckets else draw(st.sampled_from([1, 1, 4, 7])),
        buckets=buckets,
        row_multiple_of=row_multiple_of,
    )


def _pads(dtype: str, ids: dict[str, int]) -> list[Any]:
    pads: list[Any] = [None, 0, 1] if dtype == "bool" else [None, 0, 1, -100, 2**31 - 1, *ids]
    if dtype == "bool":
        pads += [symbol for symbol, value in ids.items() if value in (0, 1)]
    return [*pads, 0.0, -1.5, float("nan"), float("-inf")] if dtype.startswith("float") else pads


@st.composite
def columns(draw: st.DrawFn, name: str, segments: int, ids: dict[str, int]) -> Column:
    of = draw(st.sampled_from(["tokens", "tokens", "ones", "{}_labels", "{}_labels", "{}_mask"]))
    differs_from: Any = draw(st.sampled_from([None, None, None, 0, 1, -100, *ids]))
    optional, default = False, None  # type: bool, Any
    if "{}" in of:
        optional, default = draw(st.sampled_from([(False, None), (False, None), (True, None), (False, "ones")]))
    shows_all = of == "tokens" and differs_from is None
    dtype = draw(st.sampled_from([dtype for dtype in DTYPES if dtype != "bool" or not shows_all]))
    on = draw(st.sampled_from([None, None, None, None, (), (0,), (segments - 1,), tuple(range(segments))]))
    nonempty = draw(st.integers(0, 15)) == 15
    pad = draw(st.sampled_from(_pads(dtype, ids)))
    if pad != pad:  # noqa: PLR0124 - a NaN, which is not equal to itself and so no padding
        on, nonempty = None, False
    if nonempty or on is not None or "label_pad_token_id" in (pad, differs_from):
        # Whether a row is all padding is asked: 1 must not be padding, nor 0 content.
        ones = of == "ones" or default == "ones"
        pad = 0 if ones or differs_from is not None else pad
        differs_from = None if ones else differs_from
    return Column(
        name,
        of,
        pad,
        dtype,
        on=on,
        differs_from=differs_from,
        optional=optional,
        default=default,
        nonempty=nonempty,
    )


@st.composite
def matrices(draw: st.DrawFn, index: int, ids: dict[str, int]) -> Matrix:
    rows = draw(st.sampled_from(ROWS))
    tokens = draw(st.sampled_from(["{}_input_ids", "{}_ids"]))
    names = [f"column_{index}_{at}" for at in range(draw(st.integers(1, 4)))]
    if len(rows) == 1 and index == 0:
        # Names that the samples have as well.
        names = ["{}_labels", tokens, "{}_mask", "mask"][: len(names)]
    return Matrix(
        rows=rows,
        columns=tuple(draw(columns(name, len(rows[0]), ids)) for name in names),
        tokens=tokens,
        side=draw(st.sampled_from(["left", "right"])),
        length=draw(matrix_lengths()),
    )


@st.composite
def media(draw: st.DrawFn) -> tuple[Media, ...]:
    optional = draw(st.integers(0, 3)) > 0
    blank = (3, 2) if optional and draw(st.booleans()) else None
    tiles = draw(st.sampled_from([("pixel_values",), ("chosen_pixels", "rejected_pixels"), ("pixels", "pixels")]))
    if draw(st.booleans()):
        return (Media("pixel_values", tiles, optional=optional, blank=blank),)
    flags = Media(
        "flags",
        tuple(f"{key}_flags" for key in tiles),
        optional=optional,
        blank=() if blank else None,
        flags_of="pixel_values",
    )
    found = [Media("pixel_values", tiles, optional=optional, blank=blank), flags]
    return tuple(draw(st.permutations(found)))


@st.composite
def scalars(draw: st.DrawFn, index: int, ids: dict[str, int]) -> Scalar:
    dtype = draw(st.sampled_from(DTYPES))
    default = draw(st.sampled_from([None, None, *(pad for pad in _pads(dtype, ids) if not isinstance(pad, str))]))
    keys = tuple(f"number_{index}_{part}" for part in range(draw(st.integers(1, 2))))
    name = draw(st.sampled_from([keys[0], f"numbers_{index}"]))
    return Scalar(name, keys, dtype, default=default, optional=draw(st.booleans()))


@st.composite
def layouts(draw: st.DrawFn, ids: dict[str, int]) -> Layout:
    """Any table that says something."""
    return Layout(
        "drawn",
        matrices=tuple(draw(matrices(index, ids)) for index in range(draw(st.integers(1, 2)))),
        media=draw(media()) if draw(st.booleans()) else (),
        scalars=tuple(draw(scalars(index, ids)) for index in range(draw(st.integers(0, 2)))),
        order=draw(st.sampled_from(["grouped", "interleaved"])),
        extra=draw(st.sampled_from(["drop", "list", "stack", "error"])),
        reserved=draw(st.sampled_from([(), RESERVED])),
        ignored=draw(st.sampled_from([(), ("chosen_note",)])),
        returns=draw(st.sampled_from([None, "sample"])),
    )


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
    first = draw(st.integers(0, 100))
    return torch.arange(first, first + count * int(np.prod(shape))).reshape(count, *shape).to(dtype)


@st.composite
def plain_samples(
    draw: st.DrawFn, layout: Layout, special: Sequence[int] = (0,), tile_dtypes: Sequence[torch.dtype] = TILE_DTYPES
) -> list[Sample]:
    """Samples of a layout, most of them valid: truncation may go too far, a row may fit no bucket."""
    samples: list[Sample] = [{} for _ in range(draw(st.integers(1, 4)))]
    holds = domains(layout)
    templates = _templates(layout, draw)
    for sample in samples:
        length = {
            stem: draw(lengths(layout)) for stem in sorted({stem for stems in templates.values() for stem in stems})
        }
        for template, stems in sorted(templates.items()):
            for stem in stems:
                key = template.replace("{}", stem)
                sample[key] = draw(rows(length[stem], holds[key], special))
        absent = sorted(holds.keys() - sample.keys())
        sample.update(dict.fromkeys(key for key in absent if draw(st.integers(0, 5)) == 0))
    _draw_media(draw, layout, samples, tile_dtypes)
    _draw_numbers(draw, layout, samples, special)
    _draw_extras(draw, layout, samples)
    # Samples of one data set mostly have their keys in one order, but need not.
    return [
        {key: sample[key] for key in (draw(st.permutations(list(sample))) if draw(st.booleans()) else sample)}
        for sample in samples
    ]


def _templates(layout: Layout, draw: st.DrawFn) -> dict[str, set[str]]:
    """The token rows that the samples of one batch have: the stems of each template."""
    templates: dict[str, set[str]] = {}
    needed = {matrix.tokens for matrix in layout.matrices}
    for matrix in layout.matrices:
        stems = {stem for row in matrix.rows for stem in row}
        templates.setdefault(matrix.tokens, set()).update(stems)
        for column in matrix.columns:
            if "{}" in column.of:
                templates.setdefault(column.of, set()).update(stems)
            if not column.optional and column.default is None:
                needed.add(column.of)
    return {
        template: stems for template, stems in sorted(templates.items()) if template in needed or draw(st.booleans())
    }


def _draw_media(draw: st.DrawFn, layout: Layout, samples: Sequence[Sample], tile_dtypes: Sequence[torch.dtype]) -> None:
    flags = {medium.flags_of: medium for medium in layout.media if medium.flags_of is not None}
    for medium in layout.media:
        if medium.flags_of is not None:
            continue
        shape = medium.blank or draw(st.sampled_from([(3, 2, 2), (2,), ()]))
        dtype = draw(st.sampled_from(tile_dtypes))
        accompanying = flags[medium.name].keys if medium.name in flags else medium.keys
        for index, sample in enumerate(samples):
            for key, flags_key in dict(zip(medium.keys, accompanying, strict=True)).items():
                count = draw(st.sampled_from([None, 0, 1, 2, 3]))
                if index == 0 and not medium.optional:
                    count = 1
                if count is not None:
                    sample[key] = draw(tiles(count, shape, dtype))
                    if medium.name in flags:
                        real = [draw(st.integers(0, 1)) for _ in range(count)]
                        sample[flags_key] = torch.tensor(real, dtype=torch.int64)
                elif draw(st.booleans()):
                    sample[key] = None


def _draw_numbers(draw: st.DrawFn, layout: Layout, samples: Sequence[Sample], special: Sequence[int]) -> None:
    for scalar in layout.scalars:
        has_any = not scalar.optional or draw(st.booleans())
        for sample in samples:
            for key in scalar.keys if has_any else ():
                if scalar.default is None or draw(st.booleans()):
                    sample[key] = draw(values(scalar.dtype, special))


def _draw_extras(draw: st.DrawFn, layout: Layout, samples: Sequence[Sample]) -> None:
    read = {*domains(layout), *(key for part in (layout.media, layout.scalars) for found in part for key in found.keys)}
    for key in (*layout.ignored, *sorted(set(layout.names()) - read)):
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
