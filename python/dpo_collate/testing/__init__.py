"""Tests for collators: samples that try everything, what a layout means in plain Python, and assertions."""

from .reference import reference_collate

__all__ = ["reference_collate"]
