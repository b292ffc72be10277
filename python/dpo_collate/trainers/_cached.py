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

    @lru_cache(maxsize=64)
    def collator(**options: Any) -> PreferenceCollator:
        return PreferenceCollator(layout, **options)

    return collator
