"""Image tokens: as many in each row as its images ask for, before truncation and after it."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING

from ._checks import check_count, check_int64, check_type
from .named import PAIR

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from ._tiles import Entry
    from .layout import Layout, Media

__all__ = ["ImageTokens"]


@dataclass(frozen=True)
class ImageTokens:
    """The token that stands for a part of an image, and how many of them an image takes.

    With it a collator checks every row, and lets samples with images be truncated as long as no image
    token is cut off.

    Attributes:
        id: The token id (InternVL: that of ``<IMG_CONTEXT>``; Qwen-VL: of ``<|image_pad|>``).
        per_tile: Tokens of each tile; tiles with flag 0 have none. (InternVL: 256.)
        per_grid: Or: how many patches of a side are merged to one token (Qwen-VL's ``merge_size``, 2): an
            image of t by h by w patches has ``t * h * w / per_grid**2`` tokens.
        medium: Name of the medium that is counted: ``"pixel_values"`` where tiles are, ``"image_grid_thw"``
            where grids are, unless another is named, such as ``"video_grid_thw"``. Of a medium with two keys the
            first is taken for that of the chosen rows, the second for that of the rejected ones.

    Example:
        >>> from dpo_collate import ImageTokens, PreferenceCollator
        >>> collator = PreferenceCollator(pad_token_id=0, max_length=6, image_tokens=ImageTokens(9, per_tile=4))
        >>> import numpy as np
        >>> side = [9, 9, 9, 9, 5]
        >>> sample = {f"{key}_{of}": side for key in ("chosen", "rejected") for of in ("input_ids", "labels")}
        >>> images = {"pixel_values": np.zeros((2, 3, 8, 8)), "image_flags": np.ones(2, dtype=int)}
        >>> collator([{**sample, **images}])
        Traceback (most recent call last):
        ValueError: sample 0: the chosen row has 4 image tokens (id 9), but 'pixel_values' asks for 8
    """

    id: int
    _: KW_ONLY
    per_tile: int | None = None
    per_grid: int | None = None
    medium: str | None = None

    def __post_init__(self) -> None:
        check_int64("id", self.id)
        if (self.per_tile is None) == (self.per_grid is None):
            raise ValueError("per_tile and per_grid both say how many tokens an image takes: expected one of them")
        for name in ("per_tile", "per_grid"):
            if getattr(self, name) is not None:
                check_count(name, getattr(self, name), 1)
        if self.medium is None:
            object.__setattr__(self, "medium", "pixel_values" if self.per_grid is None else "image_grid_thw")
        check_type("medium", self.medium, str)

    def asked_for(self, entry: Entry, flags: Entry | None) -> int:
        """How many tokens the tiles of one value ask for."""
        if self.per_grid is None:
            return (self.per_tile or 0) * (entry.number if flags is None else int((flags.tiles != 0).sum()))
        if entry.tiles.ndim != 2 or entry.tiles.shape[1] != 3:
            raise ValueError(f"{entry.place} has shape {list(entry.tiles.shape)}, expected [images, 3]")
        return sum(int(t * h * w) // self.per_grid**2 for t, h, w in entry.tiles.tolist())


Count = tuple[int, int, int, int, int, int]
"""Of one row and one id: (matrix, part, sample, id, in the row, in what is kept of it)."""


def check(
    counts: Sequence[Count], wanted: Iterable[ImageTokens], layout: Layout, found: Mapping[str, Sequence[Entry]]
) -> None:
    """Checks the image tokens of every row.

    A row of one side and, where the prompt is a row of its own, that of the prompt, count together.

    Raises:
        ValueError: A row has more or fewer than its images ask for, or truncation cut some.
    """
    for tokens in wanted:
        of_row: dict[tuple[int, str], list[int]] = {}
        for matrix, part, sample, token_id, whole, kept in counts:
            if token_id == tokens.id:
                total = of_row.setdefault((sample, layout.matrices[matrix].rows[part][-1]), [0, 0])
                total[0] += whole
                total[1] += kept
        asked = _asked(tokens, layout, found)
        sides = {side for _, side in of_row if side != "prompt"}
        for (sample, side), (whole, kept) in of_row.items():
            if side == "prompt" and sides:
                continue
            prompt = of_row.get((sample, "prompt"), [0, 0]) if side != "prompt" else [0, 0]
            expected = asked.get((sample, None), 0) + asked.get((sample, side), 0)
            _compare(sample, side, tokens, (whole + prompt[0], kept + prompt[1]), expected)


def media_of(tokens: ImageTokens, layout: Layout) -> list[tuple[Media, str, str | None]]:
    """What is counted: the medium, the key, and the side whose rows it belongs to (None: those of both)."""
    found: list[tuple[Media, str, str | None]] = []
    for medium in layout.media:
        if medium.name == tokens.medium:
            sides = PAIR if len(set(medium.keys)) == len(PAIR) else (None,)
            found += [(medium, key, side) for key, side in zip(medium.keys, sides, strict=False)]
        found += [(medium, medium.keys[0], side) for side in PAIR if medium.name == f"{side}_{tokens.medium}"]
    return found


def _compare(sample: int, side: str, tokens: ImageTokens, row: tuple[int, int], expected: int) -> None:
    whole, kept = row
    of = f"the {side} row" if side else "the row"
    what = f"image tokens (id {tokens.id})"
    if whole != expected:
        raise ValueError(f"sample {sample}: {of} has {whole} {what}, but '{tokens.medium}' asks for {expected}")
    if kept != whole:
        raise ValueError(
            f"sample {sample}: truncation cuts {whole - kept} of the {whole} {what} of {of}: "
            f"expected a larger max_length, or samples that fit it"
        )


def _asked(
    tokens: ImageTokens, layout: Layout, found: Mapping[str, Sequence[Entry]]
) -> dict[tuple[int, str | None], int]:
    """By sample and side how many tokens its images ask for."""
    asked: dict[tuple[int, str | None], int] = {}
    for medium, key, side in media_of(tokens, layout):
        flags = {
            entry.sample: entry
            for other in layout.media
            if other.flags_of == medium.name
            for entry in found[other.name]
            if entry.key == other.keys[medium.keys.index(key)]
        }
        for entry in found[medium.name]:
            if entry.key == key:
                asked[entry.sample, side] = tokens.asked_for(entry, flags.get(entry.sample))
    return asked
