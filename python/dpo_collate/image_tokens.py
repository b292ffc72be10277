"""Image tokens: as many in each row as its images ask for, before truncation and after it."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING, TypeAlias

from ._budget import allocation
from ._checks import check_count, check_int64, check_type
from ._tiles import dtype_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from ._tiles import Entry
    from .layout import Layout, Matrix, Media

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
            where grids are, unless another is named, such as ``"video_grid_thw"``. Of a medium with several keys
            each is that of one side, in the order of the rows.

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
            raise ValueError("expected per_tile or per_grid: one of them says how many tokens an image takes")
        for name in ("per_tile", "per_grid"):
            if getattr(self, name) is not None:
                check_count(name, getattr(self, name), 1)
        if self.medium is None:
            object.__setattr__(self, "medium", "pixel_values" if self.per_grid is None else "image_grid_thw")
        check_type("medium", self.medium, str)

    def asked_for(self, entry: Entry, flags: Entry | None) -> int:
        """How many tokens the tiles of one value ask for."""
        if self.per_grid is None:
            if flags is None:
                return (self.per_tile or 0) * entry.number
            with allocation(flags.place):
                return (self.per_tile or 0) * int((flags.tiles != 0).sum())
        return sum(patches // self.per_grid**2 for patches in patches_of(entry))


def patches_of(entry: Entry) -> list[int]:
    """The number of patches of each image of ``[images, 3]`` grids: time, height, width.

    Raises:
        TypeError: They are no integers.
        ValueError: They are no grids.
        MemoryError: They are too many.
    """
    if "int" not in dtype_name(entry.tiles):
        raise TypeError(f"{entry.place} has dtype {dtype_name(entry.tiles)}, expected integers")
    if entry.tiles.ndim != 2 or entry.tiles.shape[1] != 3:
        raise ValueError(f"{entry.place} has shape {list(entry.tiles.shape)}, expected [images, 3]")
    with allocation(entry.place):
        return [t * h * w for t, h, w in entry.tiles.tolist()]


Count: TypeAlias = tuple[int, int, int, int, int, int]
"""Of one row and one id: (matrix, part, sample, id, in the row, in what is kept of it)."""


Images: TypeAlias = tuple[str, int]
"""The images of one sample: the name of their medium, and the sample."""


def check(
    counts: Sequence[Count], wanted: Iterable[ImageTokens], layout: Layout, found: Mapping[str, Sequence[Entry]]
) -> set[Images]:
    """Checks the image tokens of every row.

    A row of one side and, where the prompt is a row of its own, that of the prompt, count together.

    Returns:
        The images whose tokens have been counted.

    Raises:
        KeyError, TypeError, ValueError: A row has more or fewer than its images ask for, or truncation cut some;
            images lack what says how many tokens they take.
    """
    counted: set[Images] = set()
    for tokens in wanted:
        of_row: dict[tuple[int, tuple[str, ...]], tuple[int, int]] = {}
        for matrix, part, sample, token_id, whole, kept in counts:
            if token_id == tokens.id and has_ids(layout.matrices[matrix]):
                row = sample, layout.matrices[matrix].rows[part]
                # The same row may be in several matrices, and be cut in one.
                of_row[row] = whole, min(kept, of_row.get(row, (whole, kept))[1])
        asked = _asked(tokens, layout, found)
        for (sample, stems), (whole, kept) in of_row.items():
            side = stems[-1]
            apart = side != PROMPT and PROMPT not in stems
            prompt = of_row.get((sample, (PROMPT,)), (0, 0)) if apart else (0, 0)
            if side != PROMPT or sides_of(layout) == [PROMPT]:
                expected = asked.get((sample, None), 0) + asked.get((sample, side), 0)
                _compare(sample, side, tokens, (whole + prompt[0], kept + prompt[1]), expected)
        counted |= {
            (medium.describes or medium.name, entry.sample)
            for medium, _, _ in media_of(tokens, layout)
            for entry in found[medium.name]
        }
    return counted


PROMPT = "prompt"


def has_ids(matrix: Matrix) -> bool:
    """Whether its rows are token ids, not what is said of them in rows of their own."""
    return not matrix.tokens.endswith(("attention_mask", "token_type_ids"))


def sides_of(layout: Layout) -> list[str]:
    """What rows end in, in the order of the table; the prompt only if there is nothing else."""
    ends = list(dict.fromkeys(row[-1] for matrix in layout.matrices if has_ids(matrix) for row in matrix.rows))
    return [end for end in ends if end != PROMPT] or ends


def media_of(tokens: ImageTokens, layout: Layout) -> list[tuple[Media, str, str | None]]:
    """What is counted: the medium, the key, and the side whose rows it belongs to (None: those of all)."""
    found: list[tuple[Media, str, str | None]] = []
    sides = sides_of(layout)
    for medium in layout.media:
        if medium.name == tokens.medium:
            several = len(set(medium.keys)) > 1
            found += zip((medium,) * len(medium.keys), medium.keys, sides if several else (None,), strict=False)
        found += [(medium, medium.keys[0], side) for side in sides if medium.name == f"{side}_{tokens.medium}"]
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
        part = medium.keys.index(key)
        flags = [_entries(other, part, found) for other in layout.media if other.flags_of == medium.name]
        flagged = flags[0] if flags else {}
        entries = _entries(medium, part, found)
        for other in layout.media:
            if other.name == medium.describes:
                _check_described(key, entries, _entries(other, part, found), tokens)
        for sample, entry in entries.items():
            asked[sample, side] = tokens.asked_for(entry, flagged.get(sample))
    return asked


def _entries(medium: Media, part: int, found: Mapping[str, Sequence[Entry]]) -> dict[int, Entry]:
    """What samples have under one of the keys of a medium."""
    return {entry.sample: entry for entry in found[medium.name] if entry.key == medium.keys[part]}


def _check_described(key: str, entries: Mapping[int, Entry], images: Mapping[int, Entry], tokens: ImageTokens) -> None:
    """Images have what describes them; and as many patches as it says, where patches are counted (Qwen-VL)."""
    for sample, image in images.items():
        if sample not in entries:
            raise KeyError(f"sample {sample}: no '{key}', but '{image.key}' has {image.number} tiles")
        if tokens.per_grid is not None and image.tiles.ndim == 2:
            patches = sum(patches_of(entries[sample]))
            if patches != image.number:
                raise ValueError(f"{image.place} has {image.number} patches, but '{key}' asks for {patches}")
