"""Hypothesis strategies: layouts that say anything that the language can say."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from hypothesis import strategies as st

from dpo_collate.layout import RESERVED, Column, Layout, Length, Matrix, Media, Scalar

from .rows import domains

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dpo_collate.layout import Combine, DType, MediaDType

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
    """How wide a matrix may be."""
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


COUNTS = ("position", "row", "segment")
PER_ROW = ("length", "cu_seq_lens", "max_length")
CELLS = ("tokens", "ones", "{}_labels", "{}_mask")


@st.composite
def columns(draw: st.DrawFn, name: str, segments: int, ids: dict[str, int], *, left: bool = False) -> Column:
    """One column of a matrix whose rows have so many segments."""
    of = draw(st.sampled_from([*CELLS, *COUNTS, *PER_ROW]))
    dtype: DType
    if of in PER_ROW:
        return Column(name, of, dtype=draw(st.sampled_from(("int64", "int32"))))
    on = draw(st.sampled_from([None, None, None, None, (), (0,), (segments - 1,), tuple(range(segments))]))
    if of in COUNTS:
        dtype = draw(st.sampled_from(("int64", "int32")))
        more = ["continue", "continue"] if of == "position" and on is None and not left else []
        pad = draw(st.sampled_from([*_pads(dtype, ids), *more]))
        return Column(name, of, pad, dtype, on=on, start=draw(st.sampled_from([0, 0, 1, -3, 2**20])))
    differs_from: Any = draw(st.sampled_from([None, None, None, 0, 1, -100, *ids]))
    optional, default = False, None  # type: bool, Any
    if "{}" in of:
        optional, default = draw(st.sampled_from([(False, None), (False, None), (True, None), (False, "ones")]))
    shows_all = of == "tokens" and differs_from is None
    dtype = draw(st.sampled_from([dtype for dtype in DTYPES if dtype != "bool" or not shows_all]))
    return Column(
        name,
        of,
        draw(st.sampled_from(_pads(dtype, ids))),
        dtype,
        on=on,
        skip=draw(st.sampled_from([0, 0, 0, 1, 3])),
        shift=draw(st.sampled_from([0, 0, 0, 1, 2])),
        differs_from=differs_from,
        optional=optional,
        default=default,
        nonempty=draw(st.integers(0, 15)) == 15,
    )


@st.composite
def matrices(draw: st.DrawFn, index: int, ids: dict[str, int]) -> Matrix:
    """The matrix of that index."""
    rows = draw(st.sampled_from(ROWS))
    tokens = draw(st.sampled_from(["{}_input_ids", "{}_ids"]))
    names = [f"column_{index}_{at}" for at in range(draw(st.integers(1, 4)))]
    if len(rows) == 1 and index == 0:
        # Names that the samples have as well.
        names = ["{}_labels", tokens, "{}_mask", "mask"][: len(names)]
    return Matrix(
        rows=rows,
        tokens=tokens,
        length=draw(matrix_lengths()),
        **draw(_shapes(names, len(rows[0]), ids)),
    )


@st.composite
def _shapes(draw: st.DrawFn, names: Sequence[str], segments: int, ids: dict[str, int]) -> dict[str, Any]:
    """All of a matrix but which tokens it has."""
    flat = draw(st.booleans())
    side = draw(st.sampled_from(["left", "right"])) if not flat else "right"
    return {
        "columns": tuple(draw(columns(name, segments, ids, left=side == "left")) for name in names),
        "side": side,
        "flat": flat,
        "tail": draw(st.sampled_from(["segment", "outside"])),
        "drop_last": draw(st.sampled_from([0, 0, 0, 1, 3])),
        "optional": draw(st.integers(0, 3)) == 3,
    }


@st.composite
def media(draw: st.DrawFn) -> tuple[Media, ...]:
    """Images, with or without flags, and what is stacked."""
    optional = draw(st.integers(0, 3)) > 0
    blank = (3, 2) if optional and draw(st.booleans()) else None
    tiles = draw(st.sampled_from([("pixel_values",), ("chosen_pixels", "rejected_pixels"), ("pixels", "pixels")]))
    if draw(st.booleans()):
        dtype = draw(st.sampled_from(MEDIA_DTYPES))
        return (Media("pixel_values", tiles, optional=optional, blank=blank, dtype=dtype), *draw(stacked("sizes")))
    flags = Media(
        "flags",
        tuple(f"{key}_flags" for key in tiles),
        optional=optional,
        blank=() if blank else None,
        flags_of="pixel_values",
    )
    found = [Media("pixel_values", tiles, optional=optional, blank=blank), flags]
    return tuple(draw(st.permutations([*found, *draw(stacked("sizes"))])))


MEDIA_DTYPES: tuple[MediaDType | None, ...] = (
    None,
    None,
    None,
    "int64",
    "int32",
    "bool",
    "float16",
    "float32",
    "float64",
)


@st.composite
def stacked(draw: st.DrawFn, name: str) -> tuple[Media, ...]:
    """None, or one that has a first dimension of its own."""
    combine: Combine | None = draw(st.sampled_from(["stack", "pad", "pad", None]))
    if combine is None:
        return ()
    keys = draw(st.sampled_from([(name,), (name, name), (f"chosen_{name}", f"rejected_{name}")]))
    dtype = draw(st.sampled_from(MEDIA_DTYPES))
    pad = draw(st.sampled_from([0, 1, -1.5, 0.5] if str(dtype).startswith("float") else [0, 1, 1]))
    return (Media(name, keys, combine=combine, pad=pad, dtype=dtype, optional=draw(st.booleans())),)


@st.composite
def scalars(draw: st.DrawFn, index: int, ids: dict[str, int]) -> Scalar:
    """Numbers of the samples."""
    dtype = draw(st.sampled_from((*DTYPES, None)))
    pads = [pad for pad in _pads(dtype or "float64", ids) if not isinstance(pad, str)]
    default = draw(st.sampled_from([None, None, *pads]))
    keys = tuple(f"number_{index}_{part}" for part in range(draw(st.integers(1, 2))))
    name = draw(st.sampled_from([keys[0], f"numbers_{index}"]))
    return Scalar(name, keys, dtype, default=default, optional=draw(st.booleans()))


CONSTANTS = ((), (), (("attention_mask", None),), (("kind", "dpo"), ("sizes of it", (1, 2.5))))


@st.composite
def layouts(draw: st.DrawFn, ids: dict[str, int]) -> Layout:
    """Any table that says something."""
    layout = Layout(
        "drawn",
        matrices=tuple(draw(matrices(index, ids)) for index in range(draw(st.integers(1, 2)))),
        media=draw(media()) if draw(st.booleans()) else (),
        scalars=tuple(draw(scalars(index, ids)) for index in range(draw(st.integers(0, 2)))),
        constants=draw(st.sampled_from(CONSTANTS)),
        order=draw(st.sampled_from(["grouped", "interleaved"])),
        unbatch=draw(st.integers(0, 3)) == 3,
        extra=draw(st.sampled_from(["drop", "list", "stack", "error"])),
        reserved=draw(st.sampled_from([(), RESERVED])),
        ignored=draw(st.sampled_from([(), ("chosen_note",)])),
        returns=draw(st.sampled_from([None, "sample"])),
    )
    if draw(st.integers(0, 3)) == 3:
        extra = "drop" if layout.extra in {"list", "stack"} else layout.extra
        layout = replace(layout, extra=extra, returns=draw(nests(layout.names())))
    if draw(st.integers(0, 3)) == 3:
        parts: tuple[Any, ...] = (*layout.media, *layout.scalars)
        keys = sorted({*domains(layout), *(key for part in parts for key in part.keys)})
        others = [] if layout.extra == "error" else ["text"]
        layout = replace(layout, sample=tuple(draw(st.permutations([*keys, *others]))))
    return layout


def nests(names: Sequence[str]) -> st.SearchStrategy[Any]:
    """Tuples and dicts of names."""
    some = st.sampled_from(names)
    keys = st.sampled_from(["data", "samples", *names])
    return st.recursive(
        some, lambda parts: st.one_of(st.lists(parts, max_size=4).map(tuple), st.dictionaries(keys, parts, max_size=4))
    )


# --- layouts that depend on the samples -----------------------------------------------------------

STEMS = ("chosen", "rejected", "", "KL")


@st.composite
def wild_layouts(draw: st.DrawFn, ids: dict[str, int]) -> Layout:
    """A table of which each "*" becomes what there is."""
    tokens = draw(st.sampled_from(["{}_input_ids", "{}_ids"]))
    names = [f"{{}}_column_{at}" for at in range(draw(st.integers(1, 3)))]
    wild = Matrix(rows=(("*",),), tokens=tokens, length=draw(matrix_lengths()), **draw(_shapes(names, 1, ids)))
    fixed = Matrix(
        rows=(("prompt",),),
        tokens=draw(st.sampled_from([tokens, "{}_tokens"])),
        length=draw(matrix_lengths()),
        **draw(_shapes(["prompts"], 1, ids)),
    )
    of_media = [Media("*_image", ("*_image",)), Media("one_image", ("one_image",))]
    of_scalars = [
        Scalar(
            "*_logps", ("*_logps",), draw(st.sampled_from(["float32", "float64", None])), optional=draw(st.booleans())
        ),
        Scalar("ref", ("ref_logps",), optional=True),
        Scalar("*_note", ("*_note",), None, default=draw(st.sampled_from([None, 0.5]))),
    ]
    return Layout(
        "wild",
        matrices=tuple(draw(st.permutations([wild, *draw(st.sampled_from([[], [fixed]]))]))),
        media=tuple(draw(st.permutations(of_media))[: draw(st.integers(0, 2))]),
        scalars=tuple(draw(st.permutations(of_scalars))[: draw(st.integers(0, 3))]),
        order=draw(st.sampled_from(["grouped", "interleaved"])),
        extra=draw(st.sampled_from(["drop", "list"])),
        reserved=(),
        returns=draw(st.sampled_from([None, "sample"])),
    )


@st.composite
def tamed(draw: st.DrawFn, wild: Layout) -> Layout:
    """What such a table may become: stems and keys that samples may have, in any order."""
    stems = draw(st.lists(st.sampled_from(STEMS), min_size=1, max_size=3, unique=True))
    some = st.lists(st.sampled_from(["a", "chosen", "", "b"]), max_size=2, unique=True)
    parts: dict[str, Any] = {"media": [], "scalars": []}
    for kind, found in parts.items():
        for part in getattr(wild, kind):
            begins = draw(some) or ([] if part.optional else ["a"])
            keys = [part.name.replace("*", begin) for begin in begins]
            found.extend([replace(part, name=key, keys=(key,)) for key in keys] if "*" in part.name else [part])
    fixed = [matrix for matrix in wild.matrices if "*" not in matrix.rows[0]]
    free = [matrix for matrix in wild.matrices if "*" in matrix.rows[0]]
    matrices = (*fixed, *(replace(matrix, rows=((stem,),)) for matrix in free for stem in stems))
    return replace(wild, matrices=matrices, media=tuple(parts["media"]), scalars=tuple(parts["scalars"]))
