"""A search for samples that show something, and for the smallest of them: Hypothesis, whatever its profile says."""

from __future__ import annotations

import random
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np
from hypothesis import HealthCheck, Phase, Verbosity, errors, find, settings
from hypothesis import strategies as st

if TYPE_CHECKING:
    from collections.abc import Callable

    from .samples import Plain

_TRIES = 150
"""So many tries make an example smaller."""


class _Enough(BaseException):
    """Ends a search: an exception would be a finding to Hypothesis."""


def _settings(examples: int, phases: list[Phase]) -> settings:
    return settings(
        max_examples=examples,
        database=None,
        deadline=None,
        derandomize=False,
        phases=phases,
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
        verbosity=Verbosity.quiet,
    )


def drawn(strategy: st.SearchStrategy[Plain], count: int, seed: int) -> list[Plain]:
    """So many examples; always the same ones of a seed."""
    found: list[Plain] = []

    def take(plain: Plain) -> bool:
        found.append(plain)
        return False

    _find(strategy, take, _settings(count, [Phase.generate]), seed)
    return found


def smallest(  # noqa: PLR0913 - what is searched, where, and how long
    strategy: st.SearchStrategy[Plain],
    shows: Callable[[Plain], bool],
    first: Plain,
    *,
    count: int,
    seed: int,
    late: Callable[[], bool] = lambda: False,
) -> Plain:
    """The smallest example that is found to show something, as the first does.

    Args:
        strategy: What it is searched in.
        shows: Whether an example shows it; it may answer differently when asked again.
        first: One that does.
        count: How many examples are drawn, until one does.
        seed: Of the search.
        late: Whether the time for it is over.
    """
    best, tries = first, 0

    @st.composite
    def counted(draw: st.DrawFn) -> Plain:
        # (Most of what makes an example smaller is no example any more: it never gets to be asked for.)
        nonlocal tries
        tries += best is not first
        if tries > _TRIES or late():
            raise _Enough
        return draw(strategy)

    def tried(plain: Plain) -> bool:
        nonlocal best
        found = shows(plain)
        if found:
            best = plain if best is first else min(best, plain, key=size)
        return found

    _find(counted(), tried, _settings(count, [Phase.generate, Phase.shrink]), seed)
    return min(best, first, key=size)


def _find(strategy: st.SearchStrategy[Plain], condition: Callable[[Plain], bool], how: settings, seed: int) -> None:
    """A search whose outcome the condition has noted."""
    with suppress(errors.NoSuchExample, errors.Flaky, errors.Unsatisfiable, _Enough):
        find(strategy, condition, settings=how, random=random.Random(seed))  # noqa: S311 - no secret


def size(plain: Plain) -> tuple[int, int, int, str]:
    """How large samples are: cells first, then keys."""
    cells = sum(_cells(value) for sample in plain for value in sample.values())
    text = repr(plain)
    return cells + len(plain), sum(map(len, plain)), len(text), text


def _cells(value: Any) -> int:
    return len(value) if isinstance(value, list) else value.size if isinstance(value, np.ndarray) else 1
