"""Tests for collators: samples that try everything, what a layout means in plain Python, and assertions."""

from __future__ import annotations

try:
    import hypothesis as _hypothesis  # noqa: F401 - only that it is there
    import torch as _torch  # noqa: F401
except ModuleNotFoundError as missing:
    hint = "dpo_collate.testing needs hypothesis and torch (the extra 'testing' of dpo_collate has hypothesis)"
    raise ModuleNotFoundError(f"{missing}; {hint}", name=missing.name) from None

from .kinds import KINDS as KINDS
from .reference import reference_collate as reference_collate
from .reference_cells import Array as Array
from .strategies import ArrowBatch as ArrowBatch
from .strategies import arrow_tables as arrow_tables
from .strategies import batches as batches
from .strategies import collators as collators
from .strategies import layouts as layouts
from .strategies import samples as samples

__all__ = [
    "KINDS",
    "Array",
    "ArrowBatch",
    "arrow_tables",
    "batches",
    "collators",
    "layouts",
    "reference_collate",
    "samples",
]
