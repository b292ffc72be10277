"""Which rows of a layout are rows of token ids: what a sample gives to a batch, each once."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .layout import Layout, Matrix

    Stems = tuple[str, ...]


class TokenRow(NamedTuple):
    """One of them."""

    matrix: int
    """Index of its matrix."""
    part: int
    """Which of the matrix's rows."""
    keys: tuple[str, ...]
    """Keys of its segments."""


def token_rows(layout: Layout, *, optional: bool = False) -> list[TokenRow]:
    """The rows of token ids, in the order of the table: the columns of ``datasets.lengths``.

    Left out are rows that occur a second time, and matrices that say something else of rows that are there (labels,
    masks, token types).

    Args:
        layout: A table without wildcards.
        optional: Whether matrices of token ids count that batches may lack.
    """
    found: dict[tuple[str, ...], TokenRow] = {}
    for index, matrix, new in id_matrices(layout, optional=optional):
        for part, stems in enumerate(matrix.rows):
            if stems in new:
                keys = segment_keys(matrix, stems)
                found.setdefault(keys, TokenRow(index, part, keys))
    return list(found.values())


def id_matrices(layout: Layout, *, optional: bool = False) -> Iterator[tuple[int, Matrix, list[Stems]]]:
    """The matrices of token ids: the index of each, and those of its rows that are token ids."""
    known: set[Stems] = set()
    for index, matrix in enumerate(layout.matrices):
        ids = shows_ids(matrix)
        if matrix.optional and not (optional and ids):
            continue
        # What is no id for certain may say something else of rows that are there: those of the same stems.
        new = [stems for stems in matrix.rows if ids or stems not in known]
        known.update(matrix.rows)
        if new:
            yield index, matrix, new


def segment_keys(matrix: Matrix, stems: Stems) -> tuple[str, ...]:
    """The keys of the tokens of a row."""
    return tuple(matrix.tokens.replace("{}", stem) for stem in stems)


def shows_ids(matrix: Matrix) -> bool:
    """Whether its tokens are ids for certain: they are padded with the pad id."""
    return any(column.of == "tokens" and column.pad in {None, "pad_token_id"} for column in matrix.columns)
