"""Hypothesis strategies: images of samples, and what is said of them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from hypothesis import strategies as st

from .picking import pick, seldom

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dpo_collate.layout import Media
    from dpo_collate.testing.reference.meant import Meant

Sample = dict[str, Any]

TILE_DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.uint8, torch.float64, torch.int64)
ARRAY_DTYPES = tuple(dtype for dtype in TILE_DTYPES if dtype != torch.bfloat16)


class Group(NamedTuple):
    """Images that the samples of a batch may have, and what belongs to them."""

    tiles: Media
    dtype: torch.dtype
    shape: tuple[int, ...]
    """Of one tile."""
    said: tuple[tuple[Media, tuple[int, ...]], ...]
    """What describes them, and the shape of what it says of each."""
    flags: Media | None
    there: bool
    """Whether any sample has them."""
    needed: bool
    """Whether some sample has to have them."""


class Stacked(NamedTuple):
    """An array that every sample of a batch has."""

    medium: Media
    dtype: torch.dtype
    shape: tuple[int, ...]
    """Where arrays are padded, only its length counts."""


def media_of_batch(draw: st.DrawFn, meant: Meant, dtypes: Sequence[torch.dtype]) -> list[Group | Stacked]:
    """The images that a batch has: of each medium every second one has some."""
    media = meant.table.media
    found: list[Group | Stacked] = []
    for medium in media:
        if medium.flags_of is not None or medium.describes is not None:
            continue
        said = [other for other in media if other.describes == medium.name]
        flags = [other for other in media if other.flags_of == medium.name]
        needed = not all(other.optional for other in (medium, *said, *flags))
        there = needed or draw(st.booleans())
        said = [other for other in said if _is_needed(other, meant) or seldom(draw, 3)] if there else []
        for stacked in (other for other in (medium, *said) if there and other.combine != "cat"):
            shape = tuple(draw(st.integers(0, 3)) for _ in range(draw(st.integers(1, 3))))
            found.append(Stacked(stacked, pick(draw, dtypes), shape))
        if medium.combine == "cat":
            shape = medium.blank or pick(draw, [(2,), (3, 2, 2), ()])
            shapes = tuple((other, pick(draw, [(2,), (), (2, 2)])) for other in said if other.combine == "cat")
            flagged = next((other for other in flags if not other.optional or not seldom(draw, 4)), None)
            found.append(Group(medium, pick(draw, dtypes), shape, shapes, flagged, there, needed))
    return found


def _is_needed(medium: Media, meant: Meant) -> bool:
    """Whether samples with images must have it: as it is not optional, or as image tokens are counted by it."""
    return not medium.optional or any(medium.name.endswith(tokens.medium or "") for tokens in meant.image_tokens)


def media_of_sample(draw: st.DrawFn, meant: Meant, found: Sequence[Group | Stacked]) -> Sample:
    """The images of one sample."""
    sample: Sample = {}
    for part in found:
        if isinstance(part, Group):
            _add_tiles(draw, meant, part, sample)
            continue
        for key in part.medium.keys:
            padded = part.medium.combine == "pad"
            sizes = [draw(st.integers(0, 3)) for _ in part.shape] if padded else part.shape
            sample[key] = tiles(draw, sizes, part.dtype)
    return sample


def _add_tiles(draw: st.DrawFn, meant: Meant, group: Group, sample: Sample) -> None:
    """Tiles, and what is said of them: as many as there are tiles. Where grids are said, tiles are their patches."""
    media = (group.tiles, *(medium for medium, _ in group.said))
    grids = [medium for medium in media if medium.name.endswith("grid_thw")]
    every = (*media, group.flags) if group.flags is not None else media
    for key, *others in dict.fromkeys(zip(*(medium.keys for medium in every), strict=True)):
        count = pick(draw, [1, 2, 3, 1, None, -1] if group.needed else [None, 1, 2, 3, 0, -1])
        if count is None or not group.there:
            continue
        if count < 0:
            sample[key] = None
            continue
        grid = _grids(draw, count, meant) if grids else torch.ones(count, 3, dtype=torch.int64)
        number = count if group.tiles in grids else int(grid.prod(1).sum())
        sample[key] = grid if group.tiles in grids else tiles(draw, (number, *group.shape), group.dtype)
        for (medium, shape), its_key in zip(group.said, others, strict=False):
            sample[its_key] = grid if medium in grids else tiles(draw, (count, *shape), torch.int64)
        if group.flags is not None:
            some = [pick(draw, (1, 0)) for _ in range(min(number, 4))]
            sample[others[-1]] = torch.tensor([some[at % 4] for at in range(number)], dtype=torch.int64)


def _grids(draw: st.DrawFn, images: int, meant: Meant) -> torch.Tensor:
    """Patches of each image: how many in time, height and width, so that they fill whole tokens."""
    merged = math.lcm(*(tokens.per_grid or 1 for tokens in meant.image_tokens)) if meant.image_tokens else 2
    grids = [[pick(draw, (1, 2)), *(merged * pick(draw, (1, 2)) for _ in range(2))] for _ in range(images)]
    return torch.tensor(grids, dtype=torch.int64).reshape(images, 3)


def tiles(draw: st.DrawFn, shape: Sequence[int], dtype: torch.dtype) -> torch.Tensor:
    """A tensor of that shape, of numbers that count up."""
    first = draw(st.integers(0, 100))
    return torch.arange(first, first + math.prod(shape)).reshape(tuple(shape)).to(dtype)
