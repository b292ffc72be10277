"""What the collation bench collates: preference pairs whose lengths vary as real ones do, the same in every run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

import numpy as np
import torch

Kind: TypeAlias = Literal["tensors", "arrays", "lists"]
"""What the rows of a sample are: torch tensors, NumPy arrays or lists of ints."""

LayoutName: TypeAlias = Literal["separate", "concatenated", "split"]
"""Layouts of full rows, and "concatenated" of samples that are split: `prompt_ids`, `chosen_ids`, `rejected_ids`."""

Row: TypeAlias = np.ndarray[Any, np.dtype[np.int64]]

Samples: TypeAlias = list[dict[str, Any]]
Batch: TypeAlias = dict[str, Any]

SIDES: Final = ("chosen", "rejected")

PAD_TOKEN_ID: Final = 0
LABEL_PAD_TOKEN_ID: Final = -100
VOCABULARY_SIZE: Final = 151_936


@dataclass(frozen=True)
class Size:
    """A batch of `pairs` pairs, whose rows (prompt and completion) have up to `longest` tokens."""

    pairs: int
    longest: int

    def __str__(self) -> str:
        return f"B={self.pairs} L≤{self.longest}"


SIZES: Final = (Size(1, 512), Size(4, 512), Size(8, 2048), Size(32, 1024), Size(16, 8192))


@dataclass(frozen=True)
class Case:
    """Samples, and the layout that they are collated into."""

    size: Size
    layout: LayoutName
    kind: Kind
    samples: Samples
    ints: int
    """Values that are read: those of ids and labels, or those of ids alone, a prompt once for each row it begins."""


def draw(size: Size) -> list[dict[str, Row]]:
    """All rows of each pair: split, full, and the labels of the full ones. They depend on the size alone."""
    rng = np.random.default_rng([size.pairs, size.longest])
    pairs = []
    for _ in range(size.pairs):
        # Below a quarter of the longest, so that no row is a prompt alone.
        prompt = _ids(rng, int(rng.integers(size.longest // 8, size.longest // 4)))
        pair = {"prompt_ids": prompt}
        for side in SIDES:
            length = int(rng.integers(size.longest // 4, size.longest + 1))
            completion = _ids(rng, length - len(prompt))
            pair[f"{side}_ids"] = completion
            pair[f"{side}_input_ids"] = np.concatenate([prompt, completion])
            pair[f"{side}_labels"] = np.concatenate([np.full_like(prompt, LABEL_PAD_TOKEN_ID), completion])
        pairs.append(pair)
    return pairs


def make_case(size: Size, layout: LayoutName, kind: Kind) -> Case:
    """Draw the samples of a case."""
    pairs = draw(size)
    parts = ("ids",) if layout == "split" else ("input_ids", "labels")
    samples = [{key: converted(row, kind) for key, row in pair.items() if _part(key) in parts} for pair in pairs]
    tokens = sum(len(pair[f"{side}_input_ids"]) for pair in pairs for side in SIDES)
    return Case(size, layout, kind, samples, tokens * (1 if layout == "split" else 2))


def _part(key: str) -> str:
    """The key without its stem: `chosen_input_ids` is `input_ids`."""
    return key.partition("_")[2]


def _ids(rng: np.random.Generator, length: int) -> Row:
    """Random ids. None is the pad id: a mask by value (InternVL's) is then the mask by length, and can be compared."""
    return rng.integers(1, VOCABULARY_SIZE, length)


def converted(row: np.ndarray[Any, Any], kind: Kind) -> torch.Tensor | np.ndarray[Any, Any] | list[Any]:
    """A copy of its own for every row, as a tokenizer would give."""
    if kind == "tensors":
        return torch.tensor(row)
    return row.copy() if kind == "arrays" else row.tolist()
