"""The collators behind a drop-in."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

from dpo_collate.collator import PreferenceCollator

if TYPE_CHECKING:
    from collections.abc import Callable

    from dpo_collate.layout import Layout


def cached(layout: Layout) -> Callable[..., PreferenceCollator]:
    """What makes the collators of a layout: called with options, each is made once.

    A drop-in asks with its present attributes at every call (a microsecond), so that it has no state that could
    fall behind them, and pickles by itself.
    """

    @lru_cache(maxsize=64, typed=True)  # 7.0 is no token id, though it equals 7
    def made(**options: Any) -> PreferenceCollator:
        return PreferenceCollator(layout, **options)

    def collator(**options: Any) -> PreferenceCollator:
        try:
            return made(**options)
        except TypeError:  # also where an option has no hash: then it is no option either, and this says so
            return PreferenceCollator(layout, **options)

    return collator
