"""Hypothesis strategies: layouts that say anything that the language can say."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from hypothesis import strategies as st

from dpo_collate.layout import RESERVED, Column, Layout, Length, Matrix, Media, Scalar

from .picking import pick
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
    row_multiple_of = pick(draw, [1, 1, 2, 6])
    buckets = tuple(bucket * row_multiple_of for bucket in pick(draw, [(), (), (4, 12, 2000), (2000, 1, 9)]))
    return Length(
        max_length=pick(draw, [None, None, None, None, 1, 4, 8]),
        truncation_mode=draw(
            st.sampled_from(["keep_start", "keep_start", "keep_end", "keep_end", "keep_end", "error"])
        ),
        min_length=pick(draw, [0, 0, 3, 20]),
        multiple_of=1 if buckets else pick(draw, [1, 1, 4, 7]),
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
    of = pick(draw, [*CELLS, *COUNTS, *PER_ROW])
    dtype: DType
    if of in PER_ROW:
        return Column(name, of, dtype=pick(draw, ("int64", "int32")))
    on = pick(draw, [None, None, None, None, (), (0,), (segments - 1,), tuple(range(segments))])
    if of in COUNTS:
        dtype = pick(draw, ("int64", "int32"))
        more = ["continue", "continue"] if of == "position" and on is None and not left else []
        pad = pick(draw, [*_pads(dtype, ids), *more])
        return Column(name, of, pad, dtype, on=on, start=pick(draw, [0, 0, 1, -3, 2**20]))
    differs_from: Any = pick(draw, [None, None, None, 0, 1, -100, *ids])
    optional, default = False, None  # type: bool, Any
    if "{}" in of:
        optional, default = pick(draw, [(False, None), (False, None), (True, None), (False, "ones")])
    shows_all = of == "tokens" and differs_from is None
    dtype = pick(draw, [dtype for dtype in DTYPES if dtype != "bool" or not shows_all])
    return Column(
        name,
        of,
        pick(draw, _pads(dtype, ids)),
        dtype,
        on=on,
        skip=pick(draw, [0, 0, 0, 1, 3]),
        shift=pick(draw, [0, 0, 0, 1, 2]),
        differs_from=differs_from,
        optional=optional,
        default=default,
        nonempty=draw(st.integers(0, 15)) == 15,
    )


@st.composite
def matrices(draw: st.DrawFn, index: int, ids: dict[str, int]) -> Matrix:
    """The matrix of that index."""
    rows = pick(draw, ROWS)
    tokens = pick(draw, ["{}_input_ids", "{}_ids"])
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
    side = pick(draw, ["left", "right"]) if not flat else "right"
    return {
        "columns": tuple(draw(columns(name, segments, ids, left=side == "left")) for name in names),
        "side": side,
        "flat": flat,
        "tail": pick(draw, ["segment", "outside"]),
        "drop_last": pick(draw, [0, 0, 0, 1, 3]),
        "optional": draw(st.integers(0, 3)) == 3,
    }


@st.composite
def media(draw: st.DrawFn) -> tuple[Media, ...]:
    """Images, with or without flags, and what is stacked."""
    optional = draw(st.integers(0, 3)) > 0
    blank = (3, 2) if optional and draw(st.booleans()) else None
    tiles = pick(draw, [("pixel_values",), ("chosen_pixels", "rejected_pixels"), ("pixels", "pixels")])
    if draw(st.booleans()):
        dtype = pick(draw, MEDIA_DTYPES)
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
    combine: Combine | None = pick(draw, ["stack", "pad", "pad", None])
    if combine is None:
        return ()
    keys = pick(draw, [(name,), (name, name), (f"chosen_{name}", f"rejected_{name}")])
    dtype = pick(draw, MEDIA_DTYPES)
    pad = pick(draw, [0, 1, -1.5, 0.5] if str(dtype).startswith("float") else [0, 1, 1])
    return (Media(name, keys, combine=combine, pad=pad, dtype=dtype, optional=draw(st.booleans())),)


@st.composite
def scalars(draw: st.DrawFn, index: int, ids: dict[str, int]) -> Scalar:
    """Numbers of the samples."""
    dtype = pick(draw, (*DTYPES, None))
    pads = [pad for pad in _pads(dtype or "float64", ids) if not isinstance(pad, str)]
    default = pick(draw, [None, None, *pads])
    keys = tuple(f"number_{index}_{part}" for part in range(draw(st.integers(1, 2))))
    name = pick(draw, [keys[0], f"numbers_{index}"])
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
        constants=pick(draw, CONSTANTS),
        order=pick(draw, ["grouped", "interleaved"]),
        unbatch=draw(st.integers(0, 3)) == 3,
        extra=pick(draw, ["drop", "list", "stack", "error"]),
        reserved=pick(draw, [(), RESERVED]),
        ignored=pick(draw, [(), ("chosen_note",)]),
        returns=pick(draw, [None, "sample"]),
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
    tokens = pick(draw, ["{}_input_ids", "{}_ids"])
    names = [f"{{}}_column_{at}" for at in range(draw(st.integers(1, 3)))]
    wild = Matrix(rows=(("*",),), tokens=tokens, length=draw(matrix_lengths()), **draw(_shapes(names, 1, ids)))
    fixed = Matrix(
        rows=(("prompt",),),
        tokens=pick(draw, [tokens, "{}_tokens"]),
        length=draw(matrix_lengths()),
        **draw(_shapes(["prompts"], 1, ids)),
    )
    of_media = [Media("*_image", ("*_image",)), Media("one_image", ("one_image",))]
    of_scalars = [
        Scalar("*_logps", ("*_logps",), pick(draw, ["float32", "float64", None]), optional=draw(st.booleans())),
        Scalar("ref", ("ref_logps",), optional=True),
        Scalar("*_note", ("*_note",), None, default=pick(draw, [None, 0.5])),
    ]
    return Layout(
        "wild",
        matrices=tuple(draw(st.permutations([wild, *pick(draw, [[], [fixed]])]))),
        media=tuple(draw(st.permutations(of_media))[: draw(st.integers(0, 2))]),
        scalars=tuple(draw(st.permutations(of_scalars))[: draw(st.integers(0, 3))]),
        order=pick(draw, ["grouped", "interleaved"]),
        extra=pick(draw, ["drop", "list"]),
        reserved=(),
        returns=pick(draw, [None, "sample"]),
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
