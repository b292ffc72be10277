"""Layouts whose table depends on the keys of the samples: each ``"*"`` becomes what there is."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .layout import Layout, Matrix, Media, Scalar

_ANY = (("*",),)


def has_wildcards(layout: Layout) -> bool:
    """Whether the table depends on the samples."""
    return any(matrix.rows == _ANY for matrix in layout.matrices) or any("*" in name for name in layout.names())


def expanded(layout: Layout, keys: Iterable[str]) -> Layout:
    """The layout for samples of these keys. A key goes to the first part of the table that takes it.

    Raises:
        KeyError: No key is that of a token row.
    """
    keys = tuple(keys)
    matrices: list[Matrix] = []
    for matrix in layout.matrices:
        if matrix.rows != _ANY:
            matrices.append(matrix)
            continue
        named = {
            stem for other in layout.matrices if other.tokens == matrix.tokens for row in other.rows for stem in row
        }
        for key in keys:
            stem = _between(key, *matrix.tokens.split("{}"))
            if stem is not None and stem not in named:
                matrices.append(replace(matrix, rows=((stem,),)))
    if not matrices:
        rows = " or ".join(f"'{matrix.tokens.replace('{}', '*')}'" for matrix in layout.matrices)
        raise KeyError(f"sample 0: no key like {rows}")
    layout = replace(layout, matrices=tuple(matrices))
    taken = {*layout.names(), *layout.ignored}
    taken |= {key for medium in layout.media for key in medium.keys}
    taken |= {key for scalar in layout.scalars for key in scalar.keys}
    for matrix in matrices:
        templates = (matrix.tokens, *(column.of for column in matrix.columns if "{}" in column.of))
        taken |= {template.replace("{}", stem) for template in templates for row in matrix.rows for stem in row}
    media: list[Media] = []
    for medium in layout.media:
        found = _matching(medium.name, keys, taken)
        media += [medium] if found is None else [replace(medium, name=key, keys=(key,)) for key in found]
    scalars: list[Scalar] = []
    for scalar in layout.scalars:
        found = _matching(scalar.name, keys, taken)
        scalars += [scalar] if found is None else [replace(scalar, name=key, keys=(key,)) for key in found]
    return replace(layout, media=tuple(media), scalars=tuple(scalars))


def _matching(name: str, keys: tuple[str, ...], taken: set[str]) -> list[str] | None:
    """The keys that a name with a wildcard takes; None if it has none."""
    if "*" not in name:
        return None
    found = [key for key in keys if key not in taken and _between(key, *name.split("*")) is not None]
    taken.update(found)
    return found


def _between(key: object, prefix: str, suffix: str) -> str | None:
    """What is between the two, if they are there."""
    # A key may be anything that has a hash.
    if not isinstance(key, str) or len(key) < len(prefix) + len(suffix):
        return None
    if not (key.startswith(prefix) and key.endswith(suffix)):
        return None
    return key[len(prefix) : len(key) - len(suffix)]
