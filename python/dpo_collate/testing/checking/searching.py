"""A search for samples that show something, and for the smallest of them: Hypothesis, whatever its profile says."""

from __future__ import annotations

import random
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np
from hypothesis import HealthCheck, Phase, Verbosity, errors, find, settings

if TYPE_CHECKING:
    from collections.abc import Callable

    from hypothesis import strategies as st

    from .samples import Plain

_TRIES = 300
"""So many tries make an example smaller."""


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


def smallest(
    strategy: st.SearchStrategy[Plain], shows: Callable[[Plain], bool], first: Plain, count: int, seed: int
) -> Plain:
    """The smallest example that is found to show something, as the first does.

    Args:
        strategy: What it is searched in.
        shows: Whether an example shows it; it may answer differently when asked again.
        first: One that does.
        count: How many examples are drawn, until one does.
        seed: Of the search.
    """
    best, tries = first, 0

    def tried(plain: Plain) -> bool:
        nonlocal best, tries
        if tries >= _TRIES or not shows(plain):
            return False
        best = min(best, plain, key=size)
        return True

    def counted(plain: Plain) -> bool:
        nonlocal tries
        found = tried(plain)
        tries += bool(tries or found)
        return found

    _find(strategy, counted, _settings(count, [Phase.generate, Phase.shrink]), seed)
    return best


def _find(strategy: st.SearchStrategy[Plain], condition: Callable[[Plain], bool], how: settings, seed: int) -> None:
    """A search whose outcome the condition has noted."""
    with suppress(errors.NoSuchExample, errors.Flaky, errors.Unsatisfiable):
        find(strategy, condition, settings=how, random=random.Random(seed))  # noqa: S311 - no secret


def size(plain: Plain) -> tuple[int, int, int, str]:
    """How large samples are: cells first, then keys."""
    cells = sum(_cells(value) for sample in plain for value in sample.values())
    text = repr(plain)
    return cells + len(plain), sum(map(len, plain)), len(text), text


def _cells(value: Any) -> int:
    return len(value) if isinstance(value, list) else value.size if isinstance(value, np.ndarray) else 1
