"""Hypothesis strategies: samples of a layout.

A sample is drawn *plain* (rows are lists of Python numbers, images are contiguous tensors) and then *dressed*: the same
values as whatever a data set may hand over.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np
import torch
from hypothesis import strategies as st

from dpo_collate._checks import check_count
from dpo_collate._wildcards import has_wildcards
from dpo_collate.image_tokens import PROMPT, has_ids, sides_of
from dpo_collate.testing.reference.cells import RANGES
from dpo_collate.testing.reference.image_tokens import asked_of

from .dressing import dressed, families_of_batch, makers_of
from .kinds import SAMPLE_KINDS
from .media import TILE_DTYPES, media_of_batch, media_of_sample
from .picking import pick, seldom
from .rows import domains, row, row_lengths, values, with_tokens
from .tables import tamed

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from dpo_collate.layout import Layout, Matrix, Media, Scalar
    from dpo_collate.testing.reference.cells import Number
    from dpo_collate.testing.reference.meant import Meant

    from .dressing import Makers
    from .media import Group, Stacked

Sample: TypeAlias = dict[str, Any]


@dataclass(frozen=True)
class Wishes:
    """What batches are wanted; :func:`dpo_collate.testing.batches` says what each means."""

    min_size: int = 1
    max_size: int = 4
    tile_dtypes: Sequence[torch.dtype] = TILE_DTYPES
    vocab_size: int | None = None
    unnamed_keys: bool = True
    valid: bool = False

    def __post_init__(self) -> None:
        check_count("min_size", self.min_size, 1)
        if check_count("max_size", self.max_size, 1) < self.min_size:
            raise ValueError(f"max_size={self.max_size}: expected at least min_size, which is {self.min_size}")
        if self.vocab_size is not None:
            check_count("vocab_size", self.vocab_size, 2)
        dtypes = tuple(self.tile_dtypes)
        if not dtypes or not all(isinstance(dtype, torch.dtype) for dtype in dtypes):
            raise TypeError(f"tile_dtypes={self.tile_dtypes!r}: expected dtypes of torch, at least one")


class Drawn(NamedTuple):
    """A batch, and the table that is its own: one without wildcards."""

    samples: list[Any]
    table: Layout


@st.composite
def drawn_batches(draw: st.DrawFn, meant: Meant, wishes: Wishes, kinds: Sequence[str]) -> Drawn:
    """Samples that go together. What is the same for all is drawn first; each sample by itself, so that it can go."""
    if has_wildcards(meant.table):
        meant = replace(meant, table=draw(tamed(meant.table)))
    layout = meant.table
    templates, left_out, needed = _templates(draw, layout)
    whole = _Batch(
        meant=meant,
        wishes=wishes,
        templates=templates,
        left_out=left_out,
        needed=needed,
        # Mostly images have their tokens, and truncation takes none of them.
        counting=wishes.valid or not seldom(draw, 10),
        fitting=wishes.valid or not seldom(draw, 4),
        media=tuple(media_of_batch(draw, meant, wishes.tile_dtypes)),
        absent=frozenset(scalar.name for scalar in layout.scalars if not draw(st.booleans()) and scalar.optional),
        others=_others(draw, layout) if wishes.unnamed_keys else None,
        are_tuples=layout.sample is not None and draw(st.booleans()),
        kinds=families_of_batch(draw, kinds),
    )
    # (Not st.lists: of one that is long Hypothesis does not find which samples can go.)
    size, sample = draw(st.integers(wishes.min_size, wishes.max_size)), _samples(whole)
    return Drawn([draw(sample) for _ in range(size)], layout)


@dataclass(frozen=True)
class _Batch:
    """What is the same for all samples of a batch.

    Where it is that they lack something, as much is drawn of each sample as if they had it: else all draws would shift
    when a counterexample loses that, and it would not shrink.
    """

    meant: Meant
    wishes: Wishes
    templates: dict[str, set[str]]
    """The stems of each key of rows that samples have."""
    left_out: set[str]
    """Those of them that they may lack, and do."""
    needed: set[str]
    """Keys that must not be there as None."""
    counting: bool
    """Whether rows have the image tokens that images ask for."""
    fitting: bool
    """Whether rows are short enough, if longer ones would be an error."""
    media: tuple[Group | Stacked, ...]
    absent: frozenset[str]
    """Scalars that no sample has."""
    others: int | None
    """How large what the layout does not name is; None: there is nothing of the kind."""
    are_tuples: bool
    kinds: tuple[str, ...]

    @cached_property
    def holds(self) -> dict[str, str]:
        """What each row may hold."""
        return domains(self.meant.table)

    @cached_property
    def makers(self) -> Makers:
        """What kinds of objects each value may be."""
        return makers_of(self.meant.table)

    @cached_property
    def stale(self) -> list[str]:
        """Keys that samples may have, and that a batch makes anew or ignores."""
        layout = self.meant.table
        images = {medium.name for medium in layout.media if medium.name.startswith(layout.reserved)}
        return [*layout.ignored, *sorted({*layout.names()} - images - read_keys(layout))]


@st.composite
def _samples(draw: st.DrawFn, whole: _Batch) -> Any:
    """One sample of a batch."""
    images = media_of_sample(draw, whole.meant, whole.media)
    plain = _rows(draw, whole, images)
    plain.update(images)
    for scalar in whole.meant.table.scalars:
        numbers = _numbers_of(draw, scalar, whole.meant)
        plain.update({} if scalar.name in whole.absent else numbers)
    if whole.wishes.unnamed_keys:
        stale = pick(draw, (*[None] * (3 * len(whole.stale) + 1), *whole.stale))
        plain.update({} if stale is None else {stale: "what the batch makes anew"})
        first = draw(st.integers(0, 9))
        plain.update({} if whole.others is None else _other_values(first, whole.others))
    names = whole.meant.table.sample
    if names is not None and whole.are_tuples:
        values = dressed(draw, {name: plain.get(name) for name in names}, whole.makers, whole.kinds).values()
        return list(values) if "list" in whole.kinds and draw(st.booleans()) else tuple(values)
    # Samples of one data set mostly have their keys in one order, but need not.
    keys = list(plain)
    keys = pick(draw, (keys, keys, keys, keys[::-1], [*keys[1:], *keys[:1]], sorted(keys)))
    sample = dressed(draw, {key: plain[key] for key in keys}, whole.makers, whole.kinds)
    return pick(draw, SAMPLE_KINDS if "mapping" in whole.kinds else SAMPLE_KINDS[:1])(sample)


# --- rows -----------------------------------------------------------------------------------------


def _rows(draw: st.DrawFn, whole: _Batch, images: Sample) -> Sample:
    """The rows of a sample, which go with its images."""
    meant, holds, stems = whole.meant, whole.holds, {stem for those in whole.templates.values() for stem in those}
    of_ids = {matrix.tokens for matrix in meant.table.matrices if has_ids(matrix)}
    counted = _counted(draw, meant, stems, images) if whole.counting else {}
    most = _most(meant.table, whole.wishes.max_size, images, counted) if whole.fitting else None
    length = row_lengths(draw, meant.table, stems, meant.min_length, most)
    sample: Sample = {}
    ids: dict[str, list[Number]] = {}
    # Tokens come before what is said of each of them.
    for template in sorted(whole.templates, key=lambda template: (template not in of_ids, template)):
        for stem in sorted(whole.templates[template]):
            key = template.replace("{}", stem)
            numbers = _numbers(template, holds[key], meant, whole.wishes, is_ids=template in of_ids)
            if template in of_ids:
                some = row(draw, length[stem], numbers)
                ids[stem] = sample[key] = with_tokens(draw, some, counted.get(stem, {}), _ordinary(meant))
                continue
            tokens = ids.get(stem, [0] * length[stem])
            found = row(draw, len(tokens), numbers)
            if template.endswith("labels"):
                found = _labelled(draw, tokens, holds[key], meant) or found
            if template not in whole.left_out:
                sample[key] = found
    nones = [key for key in sorted(holds.keys() - whole.needed) if seldom(draw, 6)]
    sample.update(dict.fromkeys(key for key in nones if key not in sample))
    return sample


def _numbers(template: str, dtype: str, meant: Meant, wishes: Wishes, *, is_ids: bool) -> st.SearchStrategy[Number]:
    """What the rows of a template are made of."""
    special = tuple(meant.ids.values())
    if template.endswith("attention_mask"):
        return st.sampled_from([1, 0])
    if wishes.vocab_size is None or not (is_ids or template.endswith("labels")):
        return values(dtype, special)
    if not template.endswith("labels"):
        special = tuple(number for number in special if 0 <= number < wishes.vocab_size)
    return values(dtype, special, wishes.vocab_size)


def _labelled(draw: st.DrawFn, ids: Sequence[Number], dtype: str, meant: Meant) -> list[Number] | None:
    """Every second time, and where they can be labels, the tokens but for those of a prompt."""
    masked = meant.label_pad_token_id
    least, greatest = RANGES.get(dtype, (0, -1))
    others, prompt = draw(st.booleans()), draw(st.integers(0, len(ids)))
    if others or not all(isinstance(id_, int) and least <= id_ <= greatest for id_ in (*ids, masked)):
        return None
    return [*[masked] * prompt, *ids[prompt:]]


def _ordinary(meant: Meant) -> int:
    """A token of no meaning."""
    taken = {*meant.ids.values(), *(tokens.id for tokens in meant.image_tokens)}
    return next(number for number in range(1, len(taken) + 2) if number not in taken)


def _counted(
    draw: st.DrawFn, meant: Meant, stems: Collection[str], images: Mapping[str, Any]
) -> dict[str, dict[int, int]]:
    """By stem how many of each image token there have to be."""
    found: dict[str, dict[int, int]] = {stem: {} for stem in stems}
    sides = [side for side in sides_of(meant.table) if side in stems]
    for tokens in meant.image_tokens:
        asked = asked_of(tokens, meant.table, images)
        whole = {side: asked.get(None, 0) + asked.get(side, 0) for side in sides}
        prompt = min(whole.values(), default=0) if PROMPT in stems and PROMPT not in sides else 0
        prompt = pick(draw, (prompt, 0))
        for stem in stems:
            found[stem][tokens.id] = prompt if stem == PROMPT and stem not in sides else 0
        for side in sides:
            found[side][tokens.id] = whole[side] - prompt
    return found


def _most(
    layout: Layout, samples: int, images: Mapping[str, Any], counted: Mapping[str, Mapping[int, int]]
) -> int | None:
    """The longest row, image tokens apart, that is not refused: as too long, or as truncation could take images."""
    has_images = any(value is not None and len(value) > 0 for value in images.values())
    most: list[int] = []
    for matrix in layout.matrices:
        length = matrix.length
        if length.max_length is not None and (has_images or length.truncation_mode == "error"):
            most.append(length.max_length)
        if length.buckets:
            most.append(max(length.buckets) // (samples * len(matrix.rows) if matrix.flat else 1))
    tokens = [
        sum(number for stem in row for number in counted.get(stem, {}).values())
        for matrix in layout.matrices
        for row in matrix.rows
    ]
    return max(min(most) - max(tokens), 0) if most else None


def _templates(draw: st.DrawFn, layout: Layout) -> tuple[dict[str, set[str]], set[str], set[str]]:
    """The rows that the samples of one batch may have: the stems of each template.

    And those of these templates that they lack; and the keys that must be there, if their matrix is.
    """
    needed: set[str] = set()
    left_out: list[Matrix] = []
    there: list[Matrix] = []
    for matrix in layout.matrices:
        (left_out if matrix.optional and not draw(st.booleans()) else there).append(matrix)
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
    return (
        templates,
        {template for template in sorted(templates) if template not in needed and not draw(st.booleans())},
        required,
    )


def _keys_of(matrix: Matrix) -> set[str]:
    templates = (matrix.tokens, *(column.of for column in matrix.columns if "{}" in column.of))
    return {template.replace("{}", stem) for template in templates for row in matrix.rows for stem in row}


# --- numbers, and what the layout does not name ---------------------------------------------------


def _numbers_of(draw: st.DrawFn, scalar: Scalar, meant: Meant) -> Sample:
    """The numbers of a sample; or whatever there is, where they stay a list."""
    if scalar.dtype is None:
        return {key: pick(draw, (None, "a name", ("anything",), 0, 0.5)) for key in scalar.keys}
    numbers = values(scalar.dtype, tuple(meant.ids.values()))
    found = {key: (draw(numbers), draw(st.booleans())) for key in scalar.keys}
    return {key: number for key, (number, there) in found.items() if there or scalar.default is None}


def _others(draw: st.DrawFn, layout: Layout) -> int | None:
    there, size = draw(st.booleans()), draw(st.integers(0, 2))
    return size if there and layout.extra != "error" else None


def _other_values(first: int, size: int) -> Sample:
    """Values under keys that no layout names, which can be stacked: arrays of so many values each."""
    return {
        "text": "some text" if first % 2 else None,
        "nothing": None,
        "whole": 2**62 if first == 9 else first,
        "real": float("nan") if first == 8 else first / 2,
        "nested": [[first, at] for at in range(size)] if size else 0,
        "vector": np.arange(first, first + size, dtype=np.float32),
        "tensor": torch.full((size, 1), first, dtype=torch.int16),
    }


def read_keys(layout: Layout) -> set[str]:
    """The keys of samples that a batch is made of."""
    parts: tuple[Media | Scalar, ...] = (*layout.media, *layout.scalars)
    return {*domains(layout), *(key for part in parts for key in part.keys)}
