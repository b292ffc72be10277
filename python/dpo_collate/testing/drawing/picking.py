"""One of several, drawn fast: a batch takes hundreds of draws."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, TypeVar

from hypothesis import strategies as st

if TYPE_CHECKING:
    from collections.abc import Sequence

T = TypeVar("T")


def pick(draw: st.DrawFn, choices: Sequence[T]) -> T:
    """What ``draw(st.sampled_from(choices))`` is, in a third of the time: no strategy is made.

    There is always one draw, be there only one choice: a simpler choice made before must not shift all that follows, or
    counterexamples do not shrink.
    """
    return choices[draw(_less_than(len(choices)))]


def seldom(draw: st.DrawFn, one_in: int) -> bool:
    """Once in so many times; shrinks to never."""
    return draw(_less_than(one_in)) == one_in - 1


@cache
def _less_than(number: int) -> st.SearchStrategy[int]:
    return st.integers(0, number - 1)
