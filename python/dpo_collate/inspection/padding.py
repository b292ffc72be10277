"""How many cells batches have: a layout, a rule by which widths are rounded, and a way to form batches."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from dpo_collate._grids import cells, grids_of, kept, widths

from .figures import Choice, Least
from .ways import Plan

if TYPE_CHECKING:
    import numpy.typing as npt

    from dpo_collate._grids import Grid
    from dpo_collate.layout import Layout, Length

    Numbers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Rounding:
    """A rule by which widths are rounded, and what it is called.

    Attributes:
        name: What it is called.
        multiple_of: Widths are multiples of it.
        buckets: Widths are one of these.
        by_layout: Each matrix has the rule that the layout's table says; then the other two mean nothing.
    """

    name: str
    multiple_of: int = 1
    buckets: tuple[int, ...] = ()
    by_layout: bool = False

    def length(self, length: Length) -> Length:
        """How long the rows of a matrix are whose widths are rounded so."""
        if self.by_layout:
            return length
        return replace(length, multiple_of=self.multiple_of, buckets=self.buckets)

    def layout(self, layout: Layout) -> Layout:
        """The layout with widths that are rounded so."""
        matrices = (replace(matrix, length=self.length(matrix.length)) for matrix in layout.matrices)
        return replace(layout, matrices=tuple(matrices))


EXACT = Rounding("exact")


def rounding_of(layout: Layout) -> Rounding:
    """The rule that a layout has."""
    rules = {(grid.length.multiple_of, grid.length.buckets) for grid in grids_of(layout)}
    if len(rules) > 1:
        return Rounding("as the layout says", by_layout=True)
    ((multiple_of, buckets),) = rules
    if buckets:
        return Rounding(f"{len(buckets)} buckets" if len(buckets) > 1 else "1 bucket", buckets=buckets)
    return multiple(multiple_of)


def multiple(multiple_of: int) -> Rounding:
    """Multiples of it."""
    return EXACT if multiple_of == 1 else Rounding(f"multiple of {multiple_of}", multiple_of)


@dataclass(frozen=True)
class Tiles:
    """Images: how many tiles each pair has, ``[n]``, and how many bytes a tile has."""

    counts: Numbers
    nbytes: int


@dataclass(frozen=True)
class Batches:
    """What the batches of a plan need in one layout, before widths are rounded.

    Attributes:
        grids: The matrices.
        needs: For each of them the width that each batch needs.
        rows: For each of them how many rows it has in each batch; 1 where they lie end to end.
        real: Tokens of each batch.
        media: Bytes of the tiles of each batch.
    """

    grids: tuple[Grid, ...]
    needs: tuple[Numbers, ...]
    rows: tuple[Numbers, ...]
    real: Numbers
    media: Numbers


def batches_of(layout: Layout, lengths: Numbers, plan: Plan, tiles: Tiles | None) -> Batches:
    """What the batches need; of the layout's own rule of rounding only ``row_multiple_of`` counts."""
    grids = grids_of(layout)
    begins, sizes = plan.bounds[:-1], np.diff(plan.bounds)
    needs, rows = [], []
    real = np.zeros(len(begins), np.int64)
    for grid in grids:
        plain = replace(grid, length=replace(grid.length, multiple_of=1, buckets=(), min_length=0))
        of_grid = np.ones_like(sizes) if grid.flat else sizes * len(grid.rows)
        needs.append(cells(plain, lengths, plan.order, plan.bounds) // of_grid)
        rows.append(of_grid)
        real += np.add.reduceat(kept(grid, lengths).sum(axis=1)[plan.order], begins)
    media = np.zeros_like(real)
    if tiles is not None:
        media = np.add.reduceat(tiles.counts[plan.order], begins) * (tiles.nbytes * _copies(layout))
    return Batches(grids, tuple(needs), tuple(rows), real, media)


def _copies(layout: Layout) -> int:
    """How often a batch has each image."""
    return max((len(medium.keys) // len(set(medium.keys)) for medium in layout.media), default=1)


def choice(batches: Batches, rounding: Rounding, *, layout: str, way: str) -> Choice:
    """The figures of an epoch of batches whose widths are rounded so."""
    lengths = [rounding.length(grid.length) for grid in batches.grids]
    fits = np.ones(len(batches.real), np.bool_)
    for length, needs in zip(lengths, batches.needs, strict=True):
        if length.buckets:
            fits &= needs <= max(length.buckets)
    padded = np.zeros(int(fits.sum()), np.int64)
    nbytes = batches.media[fits]
    shapes = []
    for grid, length, needs, rows in zip(batches.grids, lengths, batches.needs, batches.rows, strict=True):
        wide = widths(length, needs[fits])
        padded += wide * rows[fits]
        nbytes = nbytes + wide * rows[fits] * grid.itemsize
        shapes += [rows[fits], wide]
    real, total = int(batches.real[fits].sum()), int(padded.sum())
    count = max(len(padded), 1)
    return Choice(
        layout=layout,
        rounding=rounding.name,
        multiple_of=rounding.multiple_of,
        buckets=rounding.buckets,
        way=way,
        batches=len(fits),
        refused=len(fits) - len(padded),
        real=real,
        padded=total,
        share=share(real, total),
        real_mean=real / count,
        padded_mean=total / count,
        padded_most=int(padded.max(initial=0)),
        bytes_mean=float(nbytes.sum()) / count,
        bytes_most=int(nbytes.max(initial=0)),
        shapes=len(set(zip(*(each.tolist() for each in shapes), strict=True))),
    )


def least(layout: Layout, lengths: Numbers) -> Least:
    """What the layout cannot go below: each pair a batch, at exact widths."""
    every = np.arange(len(lengths) + 1)
    batches = batches_of(layout, lengths, Plan(every[:-1], every), None)
    found = choice(batches, EXACT, layout=layout.name, way="")
    return Least(layout.name, found.real, found.padded, found.share)


def share(real: int, padded: int) -> float:
    """Share of padding among cells; 0 where there are none."""
    return 1 - real / padded if padded else 0.0


def refused(layout: Layout, lengths: Numbers) -> npt.NDArray[np.bool_]:
    """Which pairs the collator would refuse by themselves: they fit no bucket, or truncation is an error."""
    found = np.zeros(len(lengths), np.bool_)
    for grid in grids_of(layout):
        length = grid.length
        if length.max_length is not None and length.truncation_mode == "error":
            found |= (lengths[:, list(grid.rows)] > length.max_length).any(axis=1)
        if length.buckets:
            rows = -(-kept(grid, lengths) // length.row_multiple_of) * length.row_multiple_of
            taken = rows.sum(axis=1) if grid.flat else rows.max(axis=1)
            found |= taken > max(length.buckets)
    return found


def alone(layout: Layout, lengths: Numbers) -> Numbers:
    """The cells that each pair would have as a batch by itself, ``[n]``; refused: a number above all."""
    wrong = refused(layout, lengths)
    found = np.where(wrong, np.iinfo(np.int64).max, 0)
    every = np.arange(len(lengths) - int(wrong.sum()) + 1)
    for grid in grids_of(layout):
        found[~wrong] += cells(grid, lengths[~wrong], every[:-1], every)
    return found
