"""Which rows of a layout are rows of token ids: what a sample gives to a batch, each once."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from .layout import Layout, Matrix


class TokenRow(NamedTuple):
    """One of them."""

    matrix: int
    """Index of its matrix."""
    part: int
    """Which of the matrix's rows."""
    keys: tuple[str, ...]
    """Keys of its segments."""


def token_rows(layout: Layout, *, optional: bool) -> list[TokenRow]:
    """The rows of token ids, in the order of the table.

    Left out are rows that occur a second time, and matrices that say something else of rows that are there (labels,
    masks, token types).

    Args:
        layout: A table without wildcards.
        optional: Whether matrices of token ids count that batches may lack.
    """
    found: dict[tuple[str, ...], TokenRow] = {}
    known: set[tuple[str, ...]] = set()
    for index, matrix in enumerate(layout.matrices):
        shows_ids = _shows_ids(matrix)
        if matrix.optional and not (optional and shows_ids):
            continue
        for part, stems in enumerate(matrix.rows):
            if shows_ids or stems not in known:
                keys = tuple(matrix.tokens.replace("{}", stem) for stem in stems)
                found.setdefault(keys, TokenRow(index, part, keys))
        known.update(matrix.rows)
    return list(found.values())


def _shows_ids(matrix: Matrix) -> bool:
    """Whether its tokens are ids for certain: they are padded with the pad id."""
    return any(column.of == "tokens" and column.pad in {None, "pad_token_id"} for column in matrix.columns)
