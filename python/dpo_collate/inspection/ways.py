"""Ways to form batches of one epoch, as they are compared."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from dpo_collate.sampler import PairBatchSampler

if TYPE_CHECKING:
    import numpy.typing as npt

    from dpo_collate.layout import Layout

    Numbers = npt.NDArray[np.int64]


class Plan(NamedTuple):
    """The batches of an epoch: batch i has the pairs ``order[bounds[i]:bounds[i + 1]]``."""

    order: Numbers
    bounds: Numbers


def shuffled(pairs: int, batch_size: int, seed: int) -> Plan:
    """A random order, cut into batches."""
    return _cut(np.random.default_rng(seed).permutation(pairs), batch_size)


def in_order(longer: Numbers, batch_size: int) -> Plan:
    """All pairs by their longer side, the longest first: always the same batches."""
    return _cut(np.argsort(-longer, kind="stable"), batch_size)


def grouped(longer: Numbers, batch_size: int, seed: int) -> Plan:
    """The rule of transformers' ``LengthGroupedSampler``, given the longer side of each pair.

    A random order is cut into parts of 50 batches, or fewer so that there are four parts. Each is sorted, the longest
    first. Then the longest pair of all and the one that comes first change places.
    """
    pairs = len(longer)
    part = min(pairs // (batch_size * 4), 50) or 1
    order = np.random.default_rng(seed).permutation(pairs)
    parts = np.arange(pairs) // (part * batch_size)
    order = order[np.lexsort((-longer[order], parts))]
    longest = int(np.argmax(longer[order]))
    order[[0, longest]] = order[[longest, 0]]
    return _cut(order, batch_size)


def paired(  # noqa: PLR0913 - what PairBatchSampler is made of, each by its name
    lengths: Numbers, layout: Layout, *, batch_size: int | None, max_tokens: int | None, window: int | None, seed: int
) -> Plan:
    """The batches of ``PairBatchSampler``, in one process; pairs that it would refuse are left out."""
    limits: dict[str, Any] = {"batch_size": batch_size, "max_tokens": max_tokens, "window": window}
    sampler = PairBatchSampler(lengths, layout, **limits, seed=seed, oversize="drop")
    plan = sampler._planned()  # noqa: SLF001 - of this package: all batches in one array, which the iterator has as lists
    return Plan(plan.order.astype(np.int64), plan.bounds)


def _cut(order: npt.NDArray[Any], batch_size: int) -> Plan:
    return Plan(order.astype(np.int64), np.append(np.arange(0, len(order), batch_size, dtype=np.int64), len(order)))
