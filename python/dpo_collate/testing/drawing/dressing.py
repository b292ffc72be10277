"""Samples as a data set may hand them over: the same values, as other kinds of objects."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any, TypeAlias

from hypothesis import strategies as st

from .kinds import KINDS, family, number_kinds, row_kinds, tile_kinds, unbatched
from .picking import pick
from .rows import domains

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from dpo_collate.layout import Layout

    from .kinds import Kinds


def families(kinds: Any) -> tuple[str, ...]:
    """The families that are meant, plainest first; none: everything stays plain.

    Raises:
        TypeError: ``kinds`` is no word and no collection of words.
        ValueError: There is no such family.
    """
    expected = f"expected 'all', 'plain', or some of {', '.join(map(repr, KINDS))}"
    if kinds == "plain":
        return ()
    if not isinstance(kinds, Collection):
        raise TypeError(f"kinds={kinds!r}: {expected}")
    named = (KINDS if kinds == "all" else (kinds,)) if isinstance(kinds, str) else tuple(kinds)
    if not named or not all(name in KINDS for name in named):
        raise ValueError(f"kinds={kinds!r}: {expected}")
    return tuple(name for name in KINDS if name in named)


Makers: TypeAlias = "dict[str, Callable[[Any], Kinds]]"
"""By key what tells all kinds of objects that a value may be."""


def makers_of(layout: Layout) -> Makers:
    """For the keys of rows, numbers and images."""

    def rows(values: list[Any]) -> Kinds:
        return unbatched(row_kinds(values)) if layout.unbatch else row_kinds(values)

    numbers = {key for scalar in layout.scalars if scalar.dtype is not None for key in scalar.keys}
    return {
        **dict.fromkeys(domains(layout), rows),
        **dict.fromkeys(numbers, number_kinds),
        **dict.fromkeys((key for medium in layout.media for key in medium.keys), tile_kinds),
    }


def kinds_of(key: str, value: Any, makers: Makers) -> Kinds:
    """Every kind of object that a plain value of a sample may be."""
    return {"as it is": lambda: value} if value is None or key not in makers else makers[key](value)


def families_of_batch(draw: st.DrawFn, kinds: Sequence[str]) -> tuple[str, ...]:
    """In every second batch all values are of one family, as those of most data sets are; in the others of any."""
    one, is_one = pick(draw, kinds or [""]), not draw(st.booleans())
    return (one,) if kinds and is_one else tuple(kinds)


def dressed(draw: st.DrawFn, plain: Mapping[str, Any], makers: Makers, allowed: Sequence[str]) -> dict[str, Any]:
    """The sample, each value as an object of one of these families."""
    if not allowed:
        return dict(plain)
    # As many draws whatever the sample has, as it may lose keys while it shrinks.
    numbers = {key: draw(_NUMBERS) for key in makers}
    return {key: _object(numbers.get(key, 0), kinds_of(key, value, makers), allowed) for key, value in plain.items()}


_NUMBERS = st.integers(0, 4095)
"""What chooses a family and one of its kinds."""


def _object(number: int, kinds: Kinds, allowed: Sequence[str]) -> Any:
    """One of the kinds of these families, each family as likely as the others; the plainest if there is none."""
    by_family = [[make for name, make in kinds.items() if family(name) == one] for one in allowed]
    found = [makers for makers in by_family if makers] or [[next(iter(kinds.values()))]]
    makers = found[number % len(found)]
    return makers[number // len(found) % len(makers)]()
