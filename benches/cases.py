"""What the collation bench collates: preference pairs whose lengths vary as real ones do, the same in every run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

import numpy as np
import torch

from dpo_collate.layout import Column, Layout, Matrix

Kind: TypeAlias = Literal["tensors", "arrays", "lists"]
"""What the rows of a sample are: torch tensors, NumPy arrays or lists of ints."""

LayoutName: TypeAlias = Literal["separate", "stacked"]

Samples: TypeAlias = list[dict[str, Any]]
Batch: TypeAlias = dict[str, Any]

PAD_TOKEN_ID: Final = 0
LABEL_PAD_TOKEN_ID: Final = -100
VOCABULARY_SIZE: Final = 151_936

STACKED: Final = Layout(
    "stacked",
    matrices=(
        Matrix(
            rows=(("prompt", "chosen"), ("prompt", "rejected")),
            tokens="{}_ids",
            columns=(
                Column("input_ids", pad="pad_token_id"),
                Column("attention_mask", of="ones"),
                Column("completion_mask", of="ones", on=(1,)),
            ),
        ),
    ),
)
"""What `trl.DPOTrainer` takes, as a user would write it: all chosen rows, then all rejected ones, in `[2B, L]`."""


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


def make_case(size: Size, layout: LayoutName, kind: Kind) -> Case:
    """Draw the samples of a case; what is drawn depends on the size alone."""
    rng = np.random.default_rng([size.pairs, size.longest])
    samples: Samples = []
    ints = 0
    for _ in range(size.pairs):
        # Below a quarter of the longest, so that no row is a prompt alone.
        prompt = _ids(rng, int(rng.integers(size.longest // 8, size.longest // 4)))
        sample = {"prompt_ids": prompt}
        for side in ("chosen", "rejected"):
            length = int(rng.integers(size.longest // 4, size.longest + 1))
            completion = _ids(rng, length - len(prompt))
            sample[f"{side}_ids"] = completion
            sample[f"{side}_input_ids"] = np.concatenate([prompt, completion])
            sample[f"{side}_labels"] = np.concatenate([np.full_like(prompt, LABEL_PAD_TOKEN_ID), completion])
            ints += length * (2 if layout == "separate" else 1)
        parts = ("input_ids", "labels") if layout == "separate" else ("ids",)
        samples.append({key: _converted(ids, kind) for key, ids in sample.items() if _part(key) in parts})
    return Case(size, layout, kind, samples, ints)


def _part(key: str) -> str:
    """The key without its stem: `chosen_input_ids` is `input_ids`."""
    return key.partition("_")[2]


def _ids(rng: np.random.Generator, length: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Random ids. None is the pad id: a mask by value (InternVL's) is then the mask by length, and can be compared."""
    return rng.integers(1, VOCABULARY_SIZE, length)


def _converted(ids: np.ndarray[Any, np.dtype[np.int64]], kind: Kind) -> torch.Tensor | np.ndarray[Any, Any] | list[int]:
    """A copy of its own for every row, as a tokenizer would give."""
    if kind == "tensors":
        return torch.tensor(ids)
    return ids.copy() if kind == "arrays" else ids.tolist()
