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

    from .meant import Meant

Sample = dict[str, Any]

TILE_DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.uint8, torch.float64, torch.int64)
ARRAY_DTYPES = tuple(dtype for dtype in TILE_DTYPES if dtype != torch.bfloat16)


class _Group(NamedTuple):
    """Images, and what belongs to them."""

    tiles: Media
    said: tuple[Media, ...]
    """What describes them, in this batch."""
    flags: tuple[Media, ...]
    """None or one."""
    needed: bool
    """Whether some sample has to have them."""


def add_media(draw: st.DrawFn, meant: Meant, samples: Sequence[Sample], dtypes: Sequence[torch.dtype]) -> None:
    """Gives the samples images: every second batch has some of a medium, and each of its samples may have some."""
    for group in _groups(draw, meant):
        stacked = [medium for medium in (group.tiles, *group.said) if medium.combine != "cat"]
        for medium in stacked:
            _add_stacked(draw, medium, samples, pick(draw, dtypes))
        if group.tiles not in stacked:
            said = tuple(medium for medium in group.said if medium not in stacked)
            _add_tiles(draw, meant, group._replace(said=said), samples, pick(draw, dtypes))


def _groups(draw: st.DrawFn, meant: Meant) -> list[_Group]:
    """What a batch has."""
    media = meant.table.media
    groups = []
    for medium in media:
        if medium.flags_of is not None or medium.describes is not None:
            continue
        said = [other for other in media if other.describes == medium.name]
        flags = [other for other in media if other.flags_of == medium.name]
        needed = not all(other.optional for other in (medium, *said, *flags))
        if needed or draw(st.booleans()):
            said = [other for other in said if _is_needed(other, meant) or seldom(draw, 3)]
            flags = [other for other in flags if not other.optional or not seldom(draw, 4)]
            groups.append(_Group(medium, tuple(said), tuple(flags[:1]), needed))
    return groups


def _is_needed(medium: Media, meant: Meant) -> bool:
    """Whether samples with images must have it: as it is not optional, or as image tokens are counted by it."""
    return not medium.optional or any(medium.name.endswith(tokens.medium or "") for tokens in meant.image_tokens)


def _add_tiles(draw: st.DrawFn, meant: Meant, group: _Group, samples: Sequence[Sample], dtype: torch.dtype) -> None:
    """Tiles, and what is said of them: as many as there are tiles. Where grids are said, tiles are their patches."""
    shape = group.tiles.blank or pick(draw, [(3, 2, 2), (2,), ()])
    media = (group.tiles, *group.said)
    grids = [medium for medium in media if medium.name.endswith("grid_thw")]
    shapes = [pick(draw, [(2,), (), (2, 2)]) for _ in group.said]
    for index, sample in enumerate(samples):
        for key, *others in dict.fromkeys(zip(*(medium.keys for medium in (*media, *group.flags)), strict=True)):
            count = pick(draw, [None, 1, 2, 3, 0]) if index or not group.needed else 1
            if count is None:
                if draw(st.booleans()):
                    sample[key] = None
                continue
            grid = _grids(draw, count, meant) if grids else torch.ones(count, 3, dtype=torch.int64)
            number = count if group.tiles in grids else int(grid.prod(1).sum())
            sample[key] = grid if group.tiles in grids else tiles(draw, (number, *shape), dtype)
            for medium, its_key, its_shape in zip(group.said, others, shapes, strict=False):
                sample[its_key] = grid if medium in grids else tiles(draw, (count, *its_shape), torch.int64)
            if group.flags:
                some = [pick(draw, (1, 0)) for _ in range(min(number, 4))]
                sample[others[-1]] = torch.tensor([some[at % 4] for at in range(number)], dtype=torch.int64)


def _grids(draw: st.DrawFn, images: int, meant: Meant) -> torch.Tensor:
    """Patches of each image: how many in time, height and width, so that they fill whole tokens."""
    merged = math.lcm(*(tokens.per_grid or 1 for tokens in meant.image_tokens)) if meant.image_tokens else 2
    grids = [[pick(draw, (1, 2)), *(merged * pick(draw, (1, 2)) for _ in range(2))] for _ in range(images)]
    return torch.tensor(grids, dtype=torch.int64).reshape(images, 3)


def _add_stacked(draw: st.DrawFn, medium: Media, samples: Sequence[Sample], dtype: torch.dtype) -> None:
    """One array of each sample, all of one shape or, where they are padded, of any."""
    shape = [draw(st.integers(0, 3)) for _ in range(draw(st.integers(1, 3)))]
    for sample in samples:
        for key in medium.keys:
            padded = medium.combine == "pad"
            sample[key] = tiles(draw, [draw(st.integers(0, 3)) if padded else size for size in shape], dtype)


def tiles(draw: st.DrawFn, shape: Sequence[int], dtype: torch.dtype) -> torch.Tensor:
    """A tensor of that shape, of numbers that count up."""
    first = draw(st.integers(0, 100))
    return torch.arange(first, first + math.prod(shape)).reshape(tuple(shape)).to(dtype)
