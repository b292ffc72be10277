"""A question to a collator, in place of samples: which one is it?"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .collator import PreferenceCollator


class Asking(threading.local):
    """Whether this thread wants to know of a collator, not to have a batch."""

    now: bool = False


asking = Asking()


class Answer(BaseException):
    """What a collator raises when it is asked. No ``Exception``: nothing between is to take it for a failure."""

    def __init__(self, collator: PreferenceCollator, min_length: int) -> None:
        super().__init__(collator, min_length)
        self.collator = collator
        self.min_length = min_length
