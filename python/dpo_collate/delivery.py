"""Batches from DataLoader workers to the training process: what memory they take, and how to give it back.

There is nothing to configure. ``PreferenceCollator(delivery="torch")`` turns it off.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from . import _core

if TYPE_CHECKING:
    from collections.abc import Mapping


__all__ = ["Stats", "stats", "trim"]


@dataclass(frozen=True, repr=False)
class Stats:
    """What this process knows of the memory of batches: its own, and that of the workers it received batches from.

    Attributes:
        arenas: How many arenas (files of workers, and this process's own memory) there are.
        blocks_in_use: Blocks that some tensor sees, or that are on their way; with images, a batch has several.
        bytes_in_use: Their memory.
        blocks_free: Blocks that are kept to be used again.
        bytes_free: Their memory: what was needed again lately and an eighth more, at least two of the largest
            blocks, and 4 MiB; for each arena.
        blocks_retired: Blocks that no tensor here sees any more, but a process that was forked may.
        bytes_retired: Their memory.
        recycled: How often a batch of *this* process got memory that an earlier batch had had. (In the training
            process that is 0, but for ``num_workers=0``.)
        batches_sent: Batches that this process sent, as a worker.
        batches_received: Batches that this process received. One all of whose tensors are small is sent by value
            and not counted.
        fallbacks: Why there was no such memory, and how often it was tried. Each process has its own: those of a
            worker are seen in the worker.

    Example:
        >>> from dpo_collate import PreferenceCollator, delivery
        >>> before = delivery.stats().blocks_in_use
        >>> row = {"chosen_input_ids": [1], "chosen_labels": [1], "rejected_input_ids": [2], "rejected_labels": [2]}
        >>> batch = PreferenceCollator(pad_token_id=0)([row])
        >>> delivery.stats().blocks_in_use - before
        1
        >>> del batch
        >>> delivery.stats().blocks_in_use - before
        0
    """

    arenas: int
    blocks_in_use: int
    bytes_in_use: int
    blocks_free: int
    bytes_free: int
    blocks_retired: int
    bytes_retired: int
    recycled: int
    batches_sent: int
    batches_received: int
    fallbacks: Mapping[str, int]

    def __repr__(self) -> str:
        kinds = ("in_use", "free", "retired")
        held = [f"{kind}={getattr(self, f'blocks_{kind}')} blocks, {_mib(self, kind):.1f} MiB" for kind in kinds]
        return (
            f"Stats(arenas={self.arenas}; {'; '.join(held)}; recycled={self.recycled}; "
            f"batches: sent={self.batches_sent}, received={self.batches_received}; fallbacks={dict(self.fallbacks)})"
        )


def _mib(stats: Stats, kind: str) -> float:
    nbytes: Any = getattr(stats, f"bytes_{kind}")
    return float(nbytes / 2**20)


def stats() -> Stats:
    """What the memory of batches is used for, in this process."""
    arenas, in_use, free, retired, recycled, sent, received, fallbacks = _core.stats()
    return Stats(arenas, *in_use, *free, *retired, recycled, sent, received, dict(fallbacks))


def trim() -> None:
    """Gives memory back that is kept to be used again: of this process, and of the workers it received batches from."""
    _core.trim()
