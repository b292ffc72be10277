"""What image tokens mean: each row has as many as its images ask for, in plain Python."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dpo_collate.image_tokens import PROMPT, has_ids, media_of, sides_of

from .media import Found, values_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from dpo_collate.image_tokens import ImageTokens
    from dpo_collate.layout import Layout, Media

    from .collating import Row


def counted_images(
    wanted: Sequence[ImageTokens], layout: Layout, rows: Sequence[Row], found: Mapping[str, Found]
) -> set[tuple[str, int]]:
    """Checks the image tokens of all rows: they are as many as images ask for, and truncation cuts none.

    A prompt that is a row of its own counts together with each completion.

    Returns:
        The images whose tokens have been counted, and which truncation therefore may come near: the name of their
        medium, and the sample.
    """
    counted: set[tuple[str, int]] = set()
    for tokens in wanted:
        whole: dict[tuple[int, tuple[str, ...]], int] = {}
        kept: dict[tuple[int, tuple[str, ...]], int] = {}
        for row in rows:
            if has_ids(row.matrix):
                place = row.at, row.stems
                values = [value for segment in row.segments for value in segment]
                whole[place] = values.count(tokens.id)
                left = values[row.start : row.start + row.content].count(tokens.id)
                # The same row may be in several matrices, and be cut in one of them.
                kept[place] = min(left, kept.get(place, left))
        for at, stems in whole:
            parts = [(at, stems)]
            if stems[-1] != PROMPT and PROMPT not in stems and (at, (PROMPT,)) in whole:
                parts.append((at, (PROMPT,)))
            if stems[-1] == PROMPT and sides_of(layout) != [PROMPT]:
                continue
            asked = _asked(tokens, layout, found, at)
            total = sum(whole[part] for part in parts)
            if total != asked.get(None, 0) + asked.get(stems[-1], 0):
                raise ValueError("a row has more or fewer image tokens than its images ask for")
            if sum(kept[part] for part in parts) != total:
                raise ValueError("truncation cuts image tokens")
        for medium, _, _ in media_of(tokens, layout):
            counted |= {(medium.describes or medium.name, at) for _, at in found[medium.name]}
    return counted


def asked_of(tokens: ImageTokens, layout: Layout, sample: Mapping[Any, Any]) -> dict[str | None, int]:
    """How many tokens the images of one sample ask for, by side; None: of every side."""
    found = {medium.name: values_of(medium, layout.order, [sample], needed=False) for medium in layout.media}
    return _asked(tokens, layout, found, 0)


def _asked(tokens: ImageTokens, layout: Layout, found: Mapping[str, Found], at: int) -> dict[str | None, int]:
    asked: dict[str | None, int] = {}
    for medium, key, side in media_of(tokens, layout):
        place = medium.keys.index(key), at
        images = found[medium.name].get(place)
        for described in (other for other in layout.media if other.name == medium.describes):
            _check_described(tokens, images, found[described.name].get(place))
        if images is None:
            continue
        flags = [
            found[other.name][place] for other in layout.media if _flags(other, medium) and place in found[other.name]
        ]
        if tokens.per_grid is not None:
            asked[side] = sum(patches // tokens.per_grid**2 for patches in _patches(images))
        else:
            asked[side] = (tokens.per_tile or 0) * (sum(map(bool, flags[0].values)) if flags else len(images.values))
    return asked


def _flags(other: Media, medium: Media) -> bool:
    return other.flags_of == medium.name


def _check_described(tokens: ImageTokens, says: Any, images: Any) -> None:
    """Images have what describes them; and as many patches as it says, where patches are counted."""
    if images is None:
        return
    if says is None:
        raise KeyError("images without what says how many tokens they take")
    if tokens.per_grid is not None and len(images.shape) == 2 and sum(_patches(says)) != len(images.values):
        raise ValueError("more or fewer patches than the grids say")


def _patches(grids: Any) -> list[int]:
    """The patches of each image: time, height and width, multiplied."""
    if "int" not in grids.dtype:
        raise TypeError("grids that are no integers")
    if len(grids.shape) != 2 or grids.shape[1] != 3:
        raise ValueError("grids that are not three numbers of each image")
    return [time * height * width for time, height, width in grids.values]
