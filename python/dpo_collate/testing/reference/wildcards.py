"""What a layout with wildcards means: a table of its own for the keys of each batch, in plain Python."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from dpo_collate.layout import Layout, Matrix


def expanded(layout: Layout, keys: list[Any]) -> Layout:
    """The table for samples of these keys: of a part with a "*" there is one for each key that only it names."""
    matrices: list[Matrix] = []
    for matrix in layout.matrices:
        alike = [other for other in layout.matrices if other.tokens == matrix.tokens]
        named = {stem for other in alike for stems in other.rows for stem in stems}
        stems = [_star(matrix.tokens.replace("{}", "*"), key) for key in keys]
        free = [stem for stem in stems if stem is not None and stem not in named]
        matrices += [replace(matrix, rows=((stem,),)) for stem in free] if "*" in matrix.rows[0] else [matrix]
    if not matrices:
        raise KeyError("no row of tokens")
    layout = replace(layout, matrices=tuple(matrices))
    parts: tuple[Any, ...] = (*layout.media, *layout.scalars)
    others = [part for part in parts if "*" not in part.name]
    used = {*layout.names(), *layout.ignored, *row_keys(layout), *(key for part in others for key in part.keys)}
    others_of: dict[str, Any] = {}
    for kind in ("media", "scalars"):
        made: list[Any] = []
        for part in getattr(layout, kind):
            found = [key for key in keys if "*" in part.name and key not in used and _star(part.name, key) is not None]
            if "*" in part.name and not found and not part.optional:
                raise KeyError("no key of that form")
            made += [replace(part, name=key, keys=(key,)) for key in found] if "*" in part.name else [part]
            used |= {*found}
        others_of[kind] = tuple(made)
    return replace(layout, **others_of)


def check_later(layout: Layout, expanded: Layout, samples: Sequence[Mapping[Any, Any]]) -> None:
    """What a wildcard takes is in the first sample, or it would be lost."""
    patterns = [matrix.tokens.replace("{}", "*") for matrix in layout.matrices if "*" in matrix.rows[0]]
    parts: tuple[Any, ...] = (*layout.media, *layout.scalars)
    patterns += [part.name for part in parts if "*" in part.name]
    named = {*samples[0], *expanded.names(), *expanded.ignored, *row_keys(expanded)}
    named |= {key for medium in expanded.media for key in medium.keys}
    named |= {key for scalar in expanded.scalars for key in scalar.keys}
    for sample in samples:
        new = [key for key in sample if key not in named]
        if any(_star(pattern, key) is not None for pattern in patterns for key in new):
            raise KeyError("a key that the first sample lacks")


def _star(pattern: str, key: Any) -> str | None:
    """What the "*" of a pattern stands for in a key."""
    if not isinstance(key, str):
        return None
    found = re.fullmatch(re.escape(pattern).replace(r"\*", "(.*)"), key, re.DOTALL)
    return found.group(1) if found and found.groups() else None


def row_keys(layout: Layout) -> set[str]:
    """The keys of all rows of tokens, and of what is parallel to them."""
    found = set()
    for matrix in layout.matrices:
        for template in (matrix.tokens, *(column.of for column in matrix.columns if "{}" in column.of)):
            found |= {template.replace("{}", stem) for stems in matrix.rows for stem in stems}
    return found
