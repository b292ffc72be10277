"""Data for real DataLoader workers, and programs that are run in a process of their own."""

from __future__ import annotations

import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.random
import torch
from torch.utils.data import Dataset, IterableDataset, get_worker_info

from dpo_collate import PreferenceCollator

if TYPE_CHECKING:
    from collections.abc import Iterator

PAD = 3
COLLATOR = PreferenceCollator(pad_token_id=PAD, attention_mask=None)
Batch = dict[str, Any]


def lengths(index: int) -> tuple[int, int]:
    """How long the sides of a sample are: mostly a few hundred tokens, one in thirteen very short."""
    mixed = (index * 2654435761) % 2**32
    return (1 + mixed % 7, 2) if mixed % 13 == 0 else (1 + mixed % 900, 1 + mixed // 1000 % 700)


def tiles(index: int) -> int:
    return index % 4


class Pairs(Dataset[Any]):
    """Pairs whose values say of which sample they are."""

    def __init__(self, size: int, tile: int = 16) -> None:
        self.size, self.tile = size, tile

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> dict[str, Any]:
        chosen, rejected = lengths(index)
        return {
            "chosen_input_ids": np.arange(index, index + chosen),
            "chosen_labels": torch.arange(-index, -index + chosen),
            "rejected_input_ids": np.full(rejected, index, np.int32),
            "rejected_labels": torch.arange(rejected) * index,
            "margin": index,
            "pixel_values": torch.full((tiles(index), 3, self.tile, self.tile), float(index)),
            "image_flags": torch.full((tiles(index),), index),
        }


class Stream(IterableDataset[Any]):
    def __init__(self, size: int) -> None:
        self.pairs = Pairs(size)

    def __iter__(self) -> Any:
        info = get_worker_info()
        first, step = (0, 1) if info is None else (info.id, info.num_workers)
        return map(self.pairs.__getitem__, range(first, self.pairs.size, step))


def expected(indices: list[int], tile: int = 16) -> Batch:
    """The batch of those samples, made in the plainest way."""
    sizes = [lengths(index) for index in indices]
    sides = [(max(size[side] for size in sizes), side) for side in (0, 1)]
    batch: Batch = {}
    for (width, side), name in zip(sides, ("chosen", "rejected"), strict=True):
        batch[f"{name}_input_ids"] = torch.full((len(indices), width), PAD)
        batch[f"{name}_labels"] = torch.full((len(indices), width), -100)
        for row, (index, size) in enumerate(zip(indices, sizes, strict=True)):
            place, along = (row, slice(size[side])), torch.arange(size[side])
            batch[f"{name}_input_ids"][place] = along + index if side == 0 else index
            batch[f"{name}_labels"][place] = along - index if side == 0 else along * index
    batch["margin"] = torch.tensor(indices, dtype=torch.float32)
    counts = torch.tensor([tiles(index) for index in indices])
    if counts.sum():
        owners = torch.tensor(indices).repeat_interleave(counts)
        batch["image_flags"] = owners
        batch["pixel_values"] = owners[:, None, None, None].expand(-1, 3, tile, tile).to(torch.float32)
    return batch


def wrong(found: Batch, wanted: Batch) -> list[str]:
    """The keys in which two batches differ."""
    keys = [key for key, value in wanted.items() if not torch.equal(found.get(key, torch.empty(0)), value)]
    return keys + [key for key in found if key not in wanted]


def groups(size: int, batch_size: int) -> list[list[int]]:
    return [list(range(first, min(first + batch_size, size))) for first in range(0, size, batch_size)]


@contextmanager
def unwatched() -> Iterator[None]:
    """While workers are killed: else torch raises in this process, wherever it is just then."""
    handler = signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGCHLD, handler)


def kill(iterator: Any) -> None:
    """Kills a loader's workers, and ends it."""
    with unwatched():
        for worker in iterator._workers:
            worker.kill()
            worker.join(60)
        iterator._shutdown_workers()


IGNORED = ("-W", "ignore::DeprecationWarning", "-W", "ignore:This DataLoader will create:UserWarning")
WATCHED = "import faulthandler; faulthandler.dump_traceback_later({}, exit=True)\n"
"""Where a program hangs is said by itself, in each of its threads. What it forks has to end by ``os._exit``, and leave
the watch alone: both its end and a new watch would wait for the old one's thread, which a forked process has not."""


def run(program: str, *arguments: str, timeout: int = 240) -> subprocess.CompletedProcess[str]:
    """A program in a process of its own, with this folder on its path; it ends in time."""
    return subprocess.run(
        [sys.executable, *IGNORED, "-c", WATCHED.format(timeout) + program, *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout + 20,
        cwd=Path(__file__).parent,
    )


def succeeds(program: str, *arguments: str) -> str:
    """What such a program prints; it must not fail, nor say anything on its error output."""
    done = run(program, *arguments)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout
