"""Layouts whose table depends on the keys of the samples: each ``"*"`` becomes what there is."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ._samples import keys_of

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
    taken = named_keys(layout)
    media: list[Media] = []
    for medium in layout.media:
        media += [replace(medium, name=key, keys=its) for key, its in _found(medium, keys, taken)]
    scalars: list[Scalar] = []
    for scalar in layout.scalars:
        scalars += [replace(scalar, name=key, keys=its) for key, its in _found(scalar, keys, taken)]
    return replace(layout, media=tuple(media), scalars=tuple(scalars))


def check_later(layout: Layout, table: Layout, samples: Any) -> None:
    """Refuses what only later samples have, if a wildcard takes it: it would be lost.

    Args:
        layout: The layout with wildcards.
        table: What it became for the first sample.
        samples: The samples: a list, of which the first is a mapping, or a table.

    Raises:
        KeyError: A later sample has a key that the first one lacks, and that a wildcard takes.
    """
    patterns = [matrix.tokens.replace("{}", "*") for matrix in layout.matrices if matrix.rows == _ANY]
    parts: tuple[Media | Scalar, ...] = (*layout.media, *layout.scalars)
    patterns += [part.name for part in parts if "*" in part.name]
    every = keys_of(samples)
    first = set(next(every)[1])
    for index, keys in every:
        if first.issuperset(keys):
            continue
        for key in set(keys) - first - named_keys(table):
            if any(_between(key, *pattern.split("*")) is not None for pattern in patterns):
                raise KeyError(
                    f"sample {index}: the key {key!r} is not in sample 0: expected in all samples or in none"
                )


def named_keys(layout: Layout) -> set[str]:
    """The keys that a table names, so that no wildcard takes them."""
    named = {*layout.names(), *layout.ignored}
    named |= {key for medium in layout.media for key in medium.keys}
    named |= {key for scalar in layout.scalars for key in scalar.keys}
    for matrix in layout.matrices:
        templates = (matrix.tokens, *(column.of for column in matrix.columns if "{}" in column.of))
        named |= {template.replace("{}", stem) for template in templates for row in matrix.rows for stem in row}
    return named


def _found(part: Media | Scalar, keys: tuple[str, ...], taken: set[str]) -> list[tuple[str, tuple[str, ...]]]:
    """The names and keys that a medium or a scalar has: its own, or those that its wildcard takes."""
    if "*" not in part.name:
        return [(part.name, part.keys)]
    found = [key for key in keys if key not in taken and _between(key, *part.name.split("*")) is not None]
    if not found and not part.optional:
        raise KeyError(f"sample 0: no key like '{part.name}'")
    taken.update(found)
    return [(key, (key,)) for key in found]


def _between(key: object, prefix: str, suffix: str) -> str | None:
    """What is between the two, if they are there."""
    # A key may be anything that has a hash.
    if not isinstance(key, str) or len(key) < len(prefix) + len(suffix):
        return None
    if not (key.startswith(prefix) and key.endswith(suffix)):
        return None
    return key[len(prefix) : len(key) - len(suffix)]
