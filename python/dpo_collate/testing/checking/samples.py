"""Samples that a contract promises, and the code that makes them.

They are drawn *plain*: rows are lists of ints, images are arrays. :func:`dressed` makes what a collator gets of them,
new at each call.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch
from hypothesis import strategies as st

from .contracts import ROWS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt

    from dpo_collate.layout import Matrix, Media, Scalar

    from .contracts import Contract

Plain: TypeAlias = list[dict[str, Any]]

EXTRA = "example_id"
"""A key that no layout has."""


@dataclass(frozen=True)
class Keys:
    """The keys of token rows that samples may have.

    Attributes:
        stems: Of each its stem: rows of one stem are of one length.
        required: Those that are always there.
        groups: Those that may be there, all of a group or none.
    """

    stems: dict[str, str]
    required: tuple[str, ...]
    groups: tuple[tuple[str, ...], ...]


def row_keys(contract: Contract) -> Keys:
    """The keys of token rows that samples of a contract may have."""
    stems: dict[str, str] = {}
    required: dict[str, None] = {}
    groups: list[tuple[str, ...]] = []
    for matrix in contract.layout.matrices:
        needed = _keys(matrix, matrix.tokens)
        for column in matrix.columns:
            if "{}" in column.of:
                keys = _keys(matrix, column.of)
                stems |= keys
                if (column.optional or column.default is not None) and not {*keys} & {*contract.always}:
                    groups.append(tuple(keys))
                else:
                    needed |= keys
        stems |= needed
        if matrix.optional:
            groups.insert(0, tuple(needed))
        else:
            required |= dict.fromkeys(needed)
    left = [tuple(key for key in group if key not in required) for group in groups]
    return Keys(stems, tuple(required), tuple(group for group in left if group and not {*group} & {*contract.absent}))


def _keys(matrix: Matrix, template: str) -> dict[str, str]:
    return {template.replace("{}", stem): stem for row in matrix.rows for stem in row}


# --- drawing --------------------------------------------------------------------------------------


def lengths(contract: Contract) -> st.SearchStrategy[int]:
    """Lengths of rows: short ones, and those about every number that the layout rounds to or cuts at."""
    edges: set[int] = set()
    for length in (matrix.length for matrix in contract.layout.matrices):
        for edge in (length.multiple_of, length.row_multiple_of, length.max_length or 1, *length.buckets):
            edges |= {edge - 1, edge, edge + 1} if 1 < edge <= 64 else set()
    short = st.integers(contract.least, contract.least + 3)
    edges = {edge for edge in edges if edge >= contract.least}
    return short | st.sampled_from(sorted(edges)) if edges else short


@st.composite
def plain_batches(draw: st.DrawFn, contract: Contract, least: int = 1, most: int = 3) -> Plain:
    """Samples that go together."""
    keys = row_keys(contract)
    there = {*keys.required, *(key for group in keys.groups if draw(st.booleans()) for key in group)}
    rows = [key for key in keys.stems if key in there]
    sizes, tokens = lengths(contract), st.sampled_from((1, 2, 3, 4, contract.pad_token_id, 5, 30000))
    samples: Plain = []
    for _ in range(draw(st.integers(least, most))):
        length = {stem: draw(sizes) for stem in dict.fromkeys(keys.stems[key] for key in rows)}
        ids = {stem: draw(st.lists(tokens, min_size=size, max_size=size)) for stem, size in length.items()}
        samples.append({key: _row(draw, key, ids[keys.stems[key]], contract) for key in rows})
    _draw_media(draw, contract, samples)
    there_are: dict[str, bool] = {}
    for scalar in contract.layout.scalars:
        # (Of both sides or of neither.)
        about = scalar.name.replace("rejected", "chosen")
        if about not in there_are:
            there_are[about] = not scalar.optional or draw(st.booleans())
        if there_are[about] and not {*scalar.keys} & {*contract.absent}:
            _draw_numbers(draw, scalar, samples)
    if contract.layout.extra != "error" and contract.layout.sample is None and draw(st.booleans()):
        for sample in samples:
            sample[EXTRA] = draw(st.integers(0, 9))
    return samples


def _row(draw: st.DrawFn, key: str, ids: list[int], contract: Contract) -> list[Any]:
    """A row that is parallel to ids, by what its key says it is."""
    bits = st.lists(st.sampled_from((1, 1, 0)), min_size=len(ids), max_size=len(ids))
    if key.endswith("labels"):
        prompt = draw(st.integers(0, len(ids)))
        return [contract.label_pad_token_id] * prompt + ids[prompt:]
    if key.endswith("loss_mask"):
        return [*draw(bits)[:-1], *([1] * bool(ids))]
    if key.endswith("mask") or "token_type" in key:
        return draw(bits)
    if key.endswith(("scale", "weight")):
        return [bit / 2 for bit in draw(bits)]
    return list(range(len(ids))) if key.endswith("position_ids") else list(ids)


def _draw_media(draw: st.DrawFn, contract: Contract, samples: Plain) -> None:
    by_name = {medium.name: medium for medium in contract.layout.media}
    flags = {medium.flags_of: medium for medium in contract.layout.media if medium.flags_of is not None}
    for medium in contract.layout.media:
        if medium.flags_of is not None or {*medium.keys} & {*contract.absent}:
            continue
        if medium.optional and not draw(st.booleans()):
            continue
        dimensions = draw(st.sampled_from([(2, 2), (1, 2)]))
        for at, sample in enumerate(samples):
            for part, key in enumerate(dict.fromkeys(medium.keys)):
                described = medium.describes is None or by_name[medium.describes].keys[part] in sample
                if not described or (contract.sparse and medium.combine == "cat" and at and draw(st.booleans())):
                    continue
                count = draw(st.integers(1, 2)) if medium.combine != "stack" else 1
                if medium.combine == "pad":
                    dimensions = draw(st.sampled_from([(2, 2), (1, 2), (2, 3)]))
                sample[key] = _tiles(medium, count, dimensions, 10 * at + 5 * part)
                flag = flags.get(medium.name)
                if flag is not None and not {*flag.keys} & {*contract.absent}:
                    real = draw(st.lists(st.sampled_from((1, 1, 0)), min_size=count, max_size=count))
                    sample[flag.keys[part]] = np.array(real, np.int64)


def _tiles(medium: Media, count: int, dimensions: tuple[int, int], first: int) -> npt.NDArray[Any]:
    """So many tiles, each of values of its own."""
    name = medium.name
    whole = name.endswith(("grid_thw", "sizes", "mask"))
    shape: tuple[int, ...] = dimensions if name.endswith("mask") else (3, *dimensions)
    for suffix, its in (("grid_thw", (3,)), ("sizes", (2,)), ("grid_ts", ())):
        if name.endswith(suffix):
            shape = its
    values = np.arange(count).reshape(count, *[1] * len(shape)) + first + np.zeros(shape)
    return values.astype(np.int64) if whole else (values + 0.5).astype(np.float32)


def _draw_numbers(draw: st.DrawFn, scalar: Scalar, samples: Plain) -> None:
    whole = st.integers(0, 9)
    values: dict[str | None, st.SearchStrategy[Any]] = {None: st.sampled_from("abc"), "bool": st.booleans()}
    for sample in samples:
        for key in dict.fromkeys(scalar.keys):
            if scalar.default is None or draw(st.booleans()):
                floating = str(scalar.dtype).startswith("float")
                default = whole.map(lambda number: number / 2 + 0.5) if floating else whole
                sample[key] = draw(values.get(scalar.dtype, default))


# --- what a collator gets -------------------------------------------------------------------------


def kinds(contract: Contract) -> tuple[str, ...]:
    """The kinds of rows that the contract promises; the first is what most tests have."""
    return tuple(kind for family in contract.rows for kind in ROWS[family])


def dressed(plain: Plain, contract: Contract, kind: str | None = None) -> list[Any]:
    """The samples as a collator gets them, all of it new."""
    stems = row_keys(contract).stems
    return [_dressed(sample, contract, kind or kinds(contract)[0], stems) for sample in plain]


def _dressed(sample: dict[str, Any], contract: Contract, kind: str, stems: dict[str, str]) -> Any:
    made: dict[str, Any] = {}
    for key, value in sample.items():
        if key in stems:
            made[key] = _as(kind, value, boxed=contract.boxed)
        elif isinstance(value, np.ndarray):
            made[key] = torch.from_numpy(value.copy()) if contract.media == "torch" else value.copy()
        else:
            made[key] = value
    made |= {name: len(sample[key]) for name, key in contract.lengths if key in sample}
    made |= contract.present
    if contract.layout.sample is not None:
        return tuple(made.get(name) for name in contract.layout.sample)
    return made


def _read_only(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    array.flags.writeable = False
    return array


def _torch(row: list[Any], dtype: str) -> torch.Tensor:
    return torch.from_numpy(np.array(row, dtype))


_MADE: dict[str, Callable[[list[Any], str], Any]] = {
    "list": lambda row, _: list(row),
    "tuple": lambda row, _: tuple(row),
    "list of numpy scalars": lambda row, dtype: list(np.array(row, f"{dtype}64")),
    "numpy plain": lambda row, dtype: np.array(row, f"{dtype}64"),
    "numpy narrow": lambda row, dtype: np.array(row, f"{dtype}32"),
    "numpy strided": lambda row, dtype: np.repeat(np.array(row, f"{dtype}64"), 2)[::2],
    "numpy read-only": lambda row, dtype: _read_only(np.array(row, f"{dtype}64")),
    "torch plain": lambda row, dtype: _torch(row, f"{dtype}64"),
    "torch narrow": lambda row, dtype: _torch(row, f"{dtype}32"),
    "torch strided": lambda row, dtype: _torch(row, f"{dtype}64").repeat_interleave(2)[::2],
}


def _as(kind: str, row: list[Any], *, boxed: bool) -> Any:
    made = _MADE[kind](row, "float" if any(isinstance(value, float) for value in row) else "int")
    if boxed:
        return made[None] if isinstance(made, torch.Tensor | np.ndarray) else [made]
    return made


# --- code -----------------------------------------------------------------------------------------


def code(samples: Sequence[Any], name: str = "samples") -> str:
    """Python that makes the samples."""
    if not samples or not isinstance(samples[0], dict):
        return f"{name} = [{', '.join(_code(sample) for sample in samples)}]"
    lines = [
        "    {\n" + "".join(f"        {key!r}: {_code(value)},\n" for key, value in sample.items()) + "    },\n"
        for sample in samples
    ]
    return f"{name} = [\n{''.join(lines)}]"


def _code(value: Any) -> str:
    if isinstance(value, torch.Tensor | np.ndarray):
        return _array_code(value)
    if isinstance(value, list | tuple):
        if len(value) > _MANY:
            return _long_code(value)
        inner = ", ".join(map(_code, value))
        if isinstance(value, list):
            return f"[{inner}]"
        return f"({inner},)" if len(value) == 1 else f"({inner})"
    if isinstance(value, np.generic):
        return f"np.{value.dtype.name}({value.item()!r})"
    return repr(value)


_MANY = 64


def _long_code(values: Sequence[Any]) -> str:
    """A long row, which is a short one again and again."""
    period = next((size for size in range(1, _MANY) if [*values[size:]] == [*values[:-size]]), len(values))
    times = -(-len(values) // period)
    end = "" if len(values) % period == 0 else f"[:{len(values)}]"
    text = _code(values[:period])
    return text if times == 1 else f"({text} * {times}){end}"


def _array_code(value: Any) -> str:
    """A tensor or an array; one that is a view of others is made as one."""
    tensor = isinstance(value, torch.Tensor)
    module, dtype = ("torch.tensor", value.dtype) if tensor else ("np.array", f"np.{value.dtype.name}")
    contiguous = value.is_contiguous() if tensor else value.flags["C_CONTIGUOUS"]
    numbers = value.tolist()
    if not contiguous and value.ndim == 1:
        return f"{module}({_code([number for number in numbers for _ in (0, 1)])}, dtype={dtype})[::2]"
    text = f"{module}({_code(numbers)}, dtype={dtype})"
    if 0 in value.shape[:-1]:
        text += f".reshape({tuple(value.shape)})"
    return text
