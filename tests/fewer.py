"""How many examples property tests try."""

from __future__ import annotations

from hypothesis import settings


def fewer(times: int) -> settings:
    """For a test whose examples are many each: that many times fewer of them."""
    return settings(max_examples=max(settings.get_profile("dpo_collate").max_examples // times, 2))
