"""Tests for collators: samples that try everything, what a layout means in plain Python, and assertions.

=========================================================  ===========================================================
:func:`check_collator`, :data:`CONTRACTS`                  all of it at once: does a callable do what a trainer wants?
:func:`batches`, :func:`samples`, :func:`arrow_tables`     Hypothesis strategies for what a ``collate_fn`` is given
:func:`layouts`, :func:`collators`                         strategies for code that takes any table or collator
:func:`reference_collate`                                  the batch that a table means, computed slowly and plainly
:func:`assert_collates_like` and the other assertions      for tests of one's own, of any callable
``python -m dpo_collate.testing``                          random batches of every layout, for as long as one likes
=========================================================  ===========================================================

Example:
    A collator of one's own, which should do what a named layout means:

    >>> from hypothesis import given, settings
    >>> from dpo_collate import PreferenceCollator
    >>> from dpo_collate.testing import assert_collates_like, batches
    >>> collator = PreferenceCollator("concatenated", inputs="split", pad_token_id=0)
    >>> @settings(max_examples=10, deadline=None, database=None)
    ... @given(batches(collator))
    ... def test_as_the_table_says(samples):
    ...     assert_collates_like(collator, collator, samples)  # with what its table means in plain Python
    >>> test_as_the_table_says()

    What is expected of it, in plain Python:

    >>> from dpo_collate.testing import reference_collate
    >>> sample = {"prompt_ids": [5], "chosen_ids": [6, 7], "rejected_ids": [8]}
    >>> reference_collate([sample], collator)["input_ids"].values
    [[5, 6, 7], [5, 8, 0]]
"""

from __future__ import annotations

try:
    import hypothesis as _hypothesis  # noqa: F401 - only that it is there
    import torch as _torch  # noqa: F401
except ModuleNotFoundError as missing:
    hint = "dpo_collate.testing needs hypothesis and torch (the extra 'testing' of dpo_collate has hypothesis)"
    raise ModuleNotFoundError(f"{missing}; {hint}", name=missing.name) from None

from .assertions import assert_collates_like as assert_collates_like
from .assertions import assert_no_leak as assert_no_leak
from .assertions import assert_picklable as assert_picklable
from .assertions import assert_samples_unchanged as assert_samples_unchanged
from .checking.checker import check_collator as check_collator
from .checking.contracts import CONTRACTS as CONTRACTS
from .checking.contracts import Contract as Contract
from .checking.reports import Broken as Broken
from .checking.reports import Report as Report
from .drawing.kinds import KINDS as KINDS
from .drawing.strategies import ArrowBatch as ArrowBatch
from .drawing.strategies import arrow_tables as arrow_tables
from .drawing.strategies import batches as batches
from .drawing.strategies import collators as collators
from .drawing.strategies import layouts as layouts
from .drawing.strategies import samples as samples
from .reference.cells import Array as Array
from .reference.collating import reference_collate as reference_collate

__all__ = [
    "CONTRACTS",
    "KINDS",
    "Array",
    "ArrowBatch",
    "Broken",
    "Contract",
    "Report",
    "arrow_tables",
    "assert_collates_like",
    "assert_no_leak",
    "assert_picklable",
    "assert_samples_unchanged",
    "batches",
    "check_collator",
    "collators",
    "layouts",
    "reference_collate",
    "samples",
]
