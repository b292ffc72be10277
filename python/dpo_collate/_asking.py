"""A question to a collator, in place of samples: which one is it?"""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from .collator import PreferenceCollator

asking: Final[ContextVar[bool]] = ContextVar("asking", default=False)
"""Whether what this thread wants is to know of a collator, not to have a batch."""


class Answer(BaseException):
    """What a collator raises when it is asked. No ``Exception``: nothing between is to take it for a failure."""

    def __init__(self, collator: PreferenceCollator, min_length: int) -> None:
        super().__init__(collator, min_length)
        self.collator = collator
        self.min_length = min_length
