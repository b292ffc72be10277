"""What the loader bench sends to the training process, and in which ways."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, get_worker_info

import dpo_collate
from baselines import Baseline, Call, installed, memcpy
from cases import LABEL_PAD_TOKEN_ID, PAD_TOKEN_ID, SIDES, Batch, Case, Samples, Size, make_case
from dpo_collate import PreferenceCollator

Batches: TypeAlias = Iterator[Any]
"""Batches without an end."""

OURS: Final = "dpo_collate"
SLICES: Final = "slices + cat"
EMPTY: Final = "empty loader"
LOOK: Final = "look alone"
LIMIT: Final = "one copy"

PREFETCH_FACTOR: Final = 2
"""Batches that each worker makes ahead: torch's default."""

SHARED_MEMORY: Final = Path("/dev/shm")  # noqa: S108 - where torch makes shared memory; it is only asked for its room


@dataclass(frozen=True)
class LoaderCase:
    """One batch, which is sent again and again."""

    name: str
    case: Case
    reference: Batch
    """What every way has to deliver: made in this process, in memory of its own."""

    @property
    def nbytes(self) -> int:
        """Bytes of the batch."""
        return sum(tensor.nbytes for tensor in self.reference.values())

    @property
    def title(self) -> str:
        """The name and the size."""
        return f"{self.name}: {self.nbytes / 1e6:.{0 if self.nbytes > 1e7 else 1}f} MB"


@dataclass(frozen=True)
class Way:
    """One way for a batch to come to the training process, or a part of the way."""

    name: str
    version: str
    open: Callable[[int], Batches]
    """Starts it, with so many workers."""
    baseline: Baseline | None = None
    """What collates, where whole batches are delivered: they are compared."""
    in_shared_memory: bool = False
    """torch sends its batches: all that are on their way at once lie in /dev/shm."""

    def lacks(self, nbytes: int, workers: int) -> str | None:
        """Why it cannot deliver batches of that size here. Without enough room it would hang, or the worker die."""
        if not self.in_shared_memory or not workers or not SHARED_MEMORY.is_dir():
            return None
        # Made ahead; besides, the one that has just come and the one before it.
        needed, free = nbytes * (workers * PREFETCH_FACTOR + 2), shutil.disk_usage(SHARED_MEMORY).free
        if needed <= free:
            return None
        return f"{SHARED_MEMORY} has room for {free / 1e6:.0f} MB, and it needs {needed / 1e6:.0f} MB"


class Repeated(Dataset[dict[str, Any]]):
    """The samples of one batch, over and over. They have been made before: getting them costs next to nothing."""

    def __init__(self, samples: Samples) -> None:
        self.samples = samples

    def __len__(self) -> int:
        return 10**9

    def __getitem__(self, index: int) -> dict[str, Any]:
        """A dict of its own, as any data set gives: InternVL's function writes into it."""
        return dict(self.samples[index % len(self.samples)])


def make_cases(size: Size, tiles: list[int], side: int) -> list[LoaderCase]:
    """Text alone, and the same text with each of these numbers of square tiles in every sample."""
    text = make_case(size, "separate", "tensors")
    collator = PreferenceCollator(pad_token_id=PAD_TOKEN_ID, delivery="torch")
    torch.manual_seed(0)
    cases = []
    for number in (0, *tiles):
        samples = [dict(sample) for sample in text.samples]
        for sample in samples if number else ():
            sample["pixel_values"] = torch.rand(number, 3, side, side)
            sample["image_flags"] = torch.ones(number, dtype=torch.int64)
        images = f", each with {number} tile{'s' if number > 1 else ''} of 3x{side}x{side}" if number else ""
        name = f"{size.pairs} pairs of up to {size.longest} tokens{images}"
        cases.append(LoaderCase(name, dataclasses.replace(text, samples=samples), collator(samples)))
    return cases


def make_ways(case: LoaderCase) -> list[Way]:
    """All ways; InternVL's own function where its file is named, else what the example restates."""
    samples, pytorch = case.case.samples, f"torch {torch.__version__}"
    found = {baseline.name: baseline for baseline in installed()[0] if baseline.applies(case.case)}
    ours = Baseline(
        f"{OURS} from a loader",
        dpo_collate.__version__,
        "separate",
        ("tensors",),
        PreferenceCollator(pad_token_id=PAD_TOKEN_ID),
    )
    slices = Baseline(SLICES, f"numpy {np.__version__}, {pytorch}", "separate", ("tensors",), by_slices)
    internvl = found.get("InternVL") or found["InternVL's way"]

    def collating(baseline: Baseline, name: str, *, shared: bool) -> Way:
        def opened(workers: int) -> Batches:
            return loader(samples, workers, baseline.collate)

        return Way(name, baseline.version, opened, baseline, in_shared_memory=shared)

    copy = one_copy(case)
    return [
        collating(ours, OURS, shared=False),
        collating(internvl, internvl.name, shared=True),
        collating(slices, SLICES, shared=True),
        Way(EMPTY, "collate_fn returns 0", lambda workers: loader(samples, workers, nothing)),
        Way(LIMIT, "torch.cat(out=) of the images; of text, memcpy of as many bytes", lambda _: repeated(copy)),
        Way(LOOK, "at a batch that is there already", lambda _: repeated(lambda: case.reference)),
    ]


def loader(samples: Samples, workers: int, collate: Callable[[Samples], object]) -> Batches:
    """A new `DataLoader` that begins to iterate."""
    return iter(
        DataLoader(
            Repeated(samples),
            batch_size=len(samples),
            num_workers=workers,
            collate_fn=collate,
            prefetch_factor=PREFETCH_FACTOR if workers else None,
            # The samples need not be pickled then, nor what collates.
            multiprocessing_context="fork" if workers else None,
        )
    )


def repeated(call: Call) -> Batches:
    """What the call gives, again and again."""
    while True:
        yield call()


def nothing(_samples: Samples) -> int:
    """No batch at all: what remains is the loader."""
    return 0


def one_copy(case: LoaderCase) -> Call:
    """The limit: the images copied once, or the bytes of the text, to where others have been copied before."""
    if "pixel_values" not in case.reference:
        return memcpy(case.nbytes)
    tiles = [sample["pixel_values"] for sample in case.case.samples]
    out = torch.empty_like(case.reference["pixel_values"])
    return lambda: torch.cat(tiles, out=out)


def by_slices(samples: Samples) -> Batch:
    """What a careful user writes: arrays filled by slices, images concatenated in the memory that torch sends.

    torch moves the arrays to shared memory when it sends them. To make each of them there is no faster, as what takes
    the time is that each is a file of its own; only as views of one storage would they come in about half the time.
    """
    batch: Batch = {}
    for side in SIDES:
        rows = [sample[f"{side}_input_ids"].numpy() for sample in samples]
        shape = len(rows), max(map(len, rows))
        ids = np.full(shape, PAD_TOKEN_ID)
        labels = np.full(shape, LABEL_PAD_TOKEN_ID)
        mask = np.zeros(shape, np.int64)
        for at, (row, sample) in enumerate(zip(rows, samples, strict=True)):
            length = len(row)
            ids[at, :length] = row
            labels[at, :length] = sample[f"{side}_labels"].numpy()
            mask[at, :length] = 1
        batch[f"{side}_input_ids"] = torch.from_numpy(ids)
        batch[f"{side}_labels"] = torch.from_numpy(labels)
        batch[f"{side}_attention_mask"] = torch.from_numpy(mask)
    for key in ("pixel_values", "image_flags"):
        if key in samples[0]:
            batch[key] = _concatenated([sample[key] for sample in samples])
    return batch


def _concatenated(tensors: list[torch.Tensor]) -> torch.Tensor:
    """In a worker, straight into shared memory, as torch's own `default_collate` does."""
    if get_worker_info() is None:
        return torch.cat(tensors)
    first, size = tensors[0], sum(tensor.numel() for tensor in tensors)
    typed: Any = first._typed_storage()  # type: ignore[no-untyped-call]  # noqa: SLF001 - it is what torch does
    storage = typed._new_shared(size, device=first.device)  # noqa: SLF001 - likewise
    out = first.new(storage).resize_(sum(map(len, tensors)), *first.shape[1:])
    return torch.cat(tensors, out=out)
