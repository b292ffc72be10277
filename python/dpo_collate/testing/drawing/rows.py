"""Hypothesis strategies: rows of tokens, and what is parallel to them."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from hypothesis import strategies as st

from dpo_collate.testing.reference.cells import RANGES, Number

from .picking import pick

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from dpo_collate.layout import Layout


def domains(layout: Layout) -> dict[str, str]:
    """For each key of a row of tokens what it may hold: the dtype of the narrowest column that shows it."""
    narrowest = ("bool", "int32", "int64", "float32", "float64")
    found: dict[str, str] = {}
    for matrix in layout.matrices:
        for stem in (stem for row in matrix.rows for stem in row):
            found.setdefault(matrix.tokens.replace("{}", stem), "int64")
            for column in matrix.columns:
                template = matrix.tokens if column.of == "tokens" else column.of
                if "{}" in template:
                    dtype = "int64" if column.differs_from is not None else column.dtype
                    key = template.replace("{}", stem)
                    found[key] = min(found.get(key, dtype), dtype, key=narrowest.index)
    return found


# --- values ---------------------------------------------------------------------------------------

DOUBLY_ROUNDED = 2**60 + 2**36 + 1
"""As float32 it is 2**60 + 2**37; by way of float64 it would be 2**60."""

EDGES = (-100, 0, 1, 127, 255, 2**15, 2**30 - 1, 2**30, 2**31 - 1, 2**31, 2**53 + 1, DOUBLY_ROUNDED)


@lru_cache(maxsize=256)
def values(dtype: str, special: tuple[int, ...], vocab_size: int | None = None) -> st.SearchStrategy[Number]:
    """Numbers that a column of that type may show: an ordinary one, the special ones, edges, and any small ones.

    With a ``vocab_size`` they are less than it and no less than zero, but for the special ones.
    """
    if dtype.startswith("float"):
        return st.one_of(st.sampled_from([1.0, 0.0, -0.0, -1.5]), st.floats(width=32), st.integers(-(2**63), 2**63 - 1))
    least, greatest = RANGES[dtype]
    if vocab_size is not None:
        least, greatest = 0, min(greatest, vocab_size - 1)
    ordinary = next((number for number in range(1, 9) if number not in special and number <= greatest), 0)
    fitting = [number for number in special if RANGES[dtype][0] <= number <= RANGES[dtype][1]]
    edges = [ordinary, *fitting, *(edge for edge in (*EDGES, least, greatest) if least <= edge <= greatest)]
    small = range(max(least, -100), min(greatest, 255) + 1)
    # One draw a value, the ordinary one first: so counterexamples shrink to it.
    return st.sampled_from([*edges * max(len(small) // len(edges), 1), *small])


def row(draw: st.DrawFn, length: int, numbers: st.SearchStrategy[Number]) -> list[Number]:
    """A row of so many values; those of a long one repeat themselves."""
    # As many draws for an empty row as for one of a token, which is the simpler one for who reads it.
    different = pick(draw, [few for few in (1, 2, 1, 3, 6) if few <= max(length, 1)])
    some = [draw(numbers) for _ in range(different)]
    return [some[at % different] for at in range(length)]


# --- lengths --------------------------------------------------------------------------------------

LONG = (255, 256, 257, 600)
LONGEST = 5000
"""Edges beyond it are not tried: rows of that many tokens take too long."""


def lengths(layout: Layout, min_length: int = 0, most: int | None = None) -> st.SearchStrategy[int]:
    """Lengths of rows, at most so long.

    Three of four are 0, 1, 2, 5 or within one of what a layout rounds to or cuts at, if that is less than 20; the
    others are long, or within one of a larger such number.
    """
    edges = {0, 1, 2, 5}
    for length in (matrix.length for matrix in layout.matrices):
        numbers = (length.multiple_of, length.row_multiple_of, length.max_length or 1, length.min_length, min_length)
        for edge in (*numbers, *length.buckets):
            edges |= {max(edge - 1, 0), edge, edge + 1} if edge <= LONGEST else set()
    # An ordinary row has a token; none at all is more exotic than many.
    few = [1, *sorted(edge for edge in edges if 1 < edge < 20), 0]
    many = [1, 3, *sorted({*LONG, *(edge for edge in edges if edge >= 20)})]
    few, many = ([edge for edge in some if most is None or edge <= most] or [0] for some in (few, many))
    # One draw, few tokens first: so counterexamples shrink to them.
    return st.sampled_from([*few * -(-3 * len(many) // len(few)), *many])


def row_lengths(
    draw: st.DrawFn, layout: Layout, stems: Collection[str], min_length: int = 0, most: int | None = None
) -> dict[str, int]:
    """How many tokens each segment has.

    Of a row that joins segments every second has one of these lengths as a whole.
    """
    some = lengths(layout, min_length, most)
    found = {stem: draw(some) for stem in sorted(stems)}
    joined = {row for matrix in layout.matrices for row in matrix.rows if len(row) > 1 and {*row} <= {*stems}}
    for row in sorted(joined):
        if draw(st.booleans()):
            before = sum(found[stem] for stem in row[:-1])
            found[row[-1]] = max(draw(some) - before, 0)
        left = sum(found.values()) if most is None else most
        for stem in row:
            found[stem] = min(found[stem], left)
            left -= found[stem]
    return found


def with_tokens(draw: st.DrawFn, values: Sequence[Number], counted: Mapping[int, int], ordinary: int) -> list[Number]:
    """The values with so many of each of these tokens, all in one place, and nowhere else."""
    found = [ordinary if value in counted else value for value in values]
    at = draw(st.integers(0, len(found))) if any(counted.values()) else 0
    return [*found[:at], *(token for token, number in counted.items() for _ in range(number)), *found[at:]]
