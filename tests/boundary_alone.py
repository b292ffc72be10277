"""The boundary without torch, in a small program: for valgrind, under which importing torch takes many minutes.

`make valgrind-python` runs it.
"""

from __future__ import annotations

import contextlib
import sys
from typing import Any

import numpy as np

from dpo_collate import PreferenceCollator, check
from dpo_collate.sampler import PairBatchSampler

KEYS = ("chosen_input_ids", "chosen_labels", "rejected_input_ids", "rejected_labels")
ROUNDS = 3


def pair(size: int, **changes: Any) -> dict[str, Any]:
    row = [1000 + index for index in range(size)]
    return {**dict(zip(KEYS, (row, np.array(row), tuple(row), np.array(row, "u2")[::-1]), strict=True)), **changes}


class Acting:
    """An element that empties what is being read."""

    def __init__(self, samples: list[Any]) -> None:
        self.samples = samples

    def __index__(self) -> int:
        for sample in self.samples:
            sample.clear()
        self.samples.clear()
        return 5


class HasArray:
    def __array__(self, *_args: Any, **_options: Any) -> Any:
        return np.arange(4)


def acting() -> list[Any]:
    samples = [pair(4), pair(3)]
    samples[1]["chosen_labels"] = [Acting(samples), 1, 2]
    return samples


def given() -> list[Any]:
    """Samples of every kind, and wrong ones."""
    images = {"pixel_values": np.ones((2, 3, 2, 2), np.float32), "image_flags": [1, 1]}
    return [
        [pair(5), pair(300)],
        [pair(4, margin=0.5), pair(2, margin=np.float32(1))],
        [pair(4, **images), pair(2)],
        [pair(4, chosen_labels=HasArray())],
        [pair(4, a=[1], b="x"), pair(2, a=[2], b="y")],
        acting(),
        [],
        [5],
        [pair(4), {}],
        [pair(4, chosen_labels=[1])],
        [pair(4, chosen_labels=[1, 2, "3", 4])],
        [pair(4, chosen_labels=[2**70] * 4)],
        [pair(4, chosen_labels=np.ones(4))],
        [pair(4, chosen_labels=np.broadcast_to(np.int8(1), 2**60))],
        [pair(4, **images | {"image_flags": [1]})],
        [pair(4, margin="x")],
    ]


def main() -> None:
    calls = errors = 0
    for layout in ("separate", "concatenated", "padding_free"):
        for options in ({}, {"extra_keys": "stack"}, {"extra_keys": "list", "max_length": 3}):
            collator = PreferenceCollator(layout, pad_token_id=0, return_tensors="np", **options)
            for _ in range(ROUNDS):
                for samples in given():
                    calls += 1
                    with contextlib.suppress(KeyError, TypeError, ValueError, OverflowError, MemoryError):
                        collator(samples)
                        errors -= 1
                    errors += 1
                    check(given()[calls % 4], collator)
    lengths = np.array([[5, 4], [3, 2], [9, 1]])
    list(PairBatchSampler(lengths, "separate", max_tokens=64))
    assert "torch" not in sys.modules
    sys.stdout.write(f"{calls} calls, {errors} errors\n")


if __name__ == "__main__":
    main()
