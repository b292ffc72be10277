"""Batches of a ``PairBatchSampler`` for the pairs of ``data_sets``: what its tests in training loops share."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

from torch.utils.data import DataLoader

from data_sets import COLLATOR, SIZE, plain
from dpo_collate.datasets import ArrowRows
from dpo_collate.sampler import PairBatchSampler

if TYPE_CHECKING:
    from collections.abc import Callable

BUDGET = 60
LIMITS: dict[str, Any] = {"max_tokens": BUDGET, "window": 8}  # so small that epochs differ in length
Batches = list[list[int]]


def numbers(batch: dict[str, Any]) -> list[int]:
    """Which pairs a batch has."""
    found: list[int] = (batch["margin"] * 4).long().tolist()
    return found


def cells(batch: dict[str, Any]) -> int:
    """What the budget counts."""
    return sum(value.numel() for key, value in batch.items() if key.endswith("_input_ids"))


def make_sampler(**options: Any) -> PairBatchSampler:
    return PairBatchSampler(ArrowRows(plain()), COLLATOR, **{**LIMITS, **options})


def make_loader(sampler: Any, workers: int, kind: Callable[..., Any] = DataLoader, **options: Any) -> Any:
    return kind(ArrowRows(plain()), batch_sampler=sampler, num_workers=workers, collate_fn=COLLATOR, **options)


def plan(epoch: int, **options: Any) -> Batches:
    """The batches of an epoch."""
    sampler = make_sampler(**options)
    sampler.set_epoch(epoch)
    return list(sampler)


def all_once(batches: Batches) -> bool:
    return sorted(itertools.chain.from_iterable(batches)) == list(range(SIZE))
