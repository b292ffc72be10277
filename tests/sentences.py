"""Sentences that several tests look for in messages."""

from __future__ import annotations

OF_A_MAPPING = (
    ": put a single sample into a list, and columns into a table (for Ray Data, use dpo_collate.ray.collate_fn)"
)
"""What messages say of a mapping in place of a list of samples."""
