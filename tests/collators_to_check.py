"""Collators for ``check_collator``: right ones of several styles, and wrong ones, of which each has one fault."""

from __future__ import annotations

import functools
import random
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence

if TYPE_CHECKING:
    from collections.abc import Callable

Samples = list[dict[str, Any]]
Batch = dict[str, Any]
SIDES = ("chosen", "rejected")

# --- layout "concatenated", with ids, labels, images and flags ------------------------------------


def rows(samples: Samples, name: str) -> list[torch.Tensor]:
    return [torch.as_tensor(sample[f"{side}_{name}"]).long() for side in SIDES for sample in samples]


def right(samples: Samples) -> Batch:
    """Of plain torch."""
    ids = rows(samples, "input_ids")
    masks = [torch.ones_like(row) for row in ids]
    if "chosen_attention_mask" in samples[0]:
        masks = rows(samples, "attention_mask")
    batch = {
        "input_ids": pad_sequence(ids, batch_first=True),
        "attention_mask": pad_sequence(masks, batch_first=True),
        "labels": pad_sequence(rows(samples, "labels"), batch_first=True, padding_value=-100),
    }
    if "margin" in samples[0]:
        batch["margin"] = torch.tensor([sample["margin"] for sample in samples], dtype=torch.float32)
    for key in ("pixel_values", "image_flags"):
        if any(key in sample for sample in samples):
            some = [torch.as_tensor(sample[key]) for _ in SIDES for sample in samples if key in sample]
            batch[key] = torch.cat(some)
    return batch


def of_numpy(samples: Samples) -> Batch:
    """Of NumPy: arrays are filled, row by row."""
    every = [(sample, side) for side in SIDES for sample in samples]
    width = max(len(sample[f"{side}_input_ids"]) for sample, side in every)
    pads = {"input_ids": 0, "attention_mask": 0, "labels": -100}
    arrays = {name: np.full((len(every), width), pad, np.int64) for name, pad in pads.items()}
    for at, (sample, side) in enumerate(every):
        for name, array in arrays.items():
            row = sample.get(f"{side}_{name}", np.ones(len(sample[f"{side}_input_ids"])))
            array[at, : len(row)] = row
    batch: Batch = {name: torch.from_numpy(array) for name, array in arrays.items()}
    return {**batch, **{key: value for key, value in right(samples).items() if key not in batch}}


# --- faults: what is made wrong of a right batch --------------------------------------------------


def no_labels(batch: Batch, _: Samples) -> Batch:
    return {key: value for key, value in batch.items() if key != "labels"}


def another_key(batch: Batch, _: Samples) -> Batch:
    return batch | {"position_ids": torch.arange(batch["input_ids"].shape[1])}


def a_tuple(batch: Batch, _: Samples) -> Any:
    return tuple(batch.values())


def narrow_ids(batch: Batch, _: Samples) -> Batch:
    return batch | {"input_ids": batch["input_ids"].int()}


def bool_masks(batch: Batch, _: Samples) -> Batch:
    return batch | {"attention_mask": batch["attention_mask"].bool()}


def an_extra_block(batch: Batch, _: Samples) -> Batch:
    pads = {"input_ids": 0, "attention_mask": 0, "labels": -100}
    extra = batch["input_ids"].shape[1] % 3 == 0
    return batch | {key: torch.nn.functional.pad(batch[key], (0, 3 * extra), value=pad) for key, pad in pads.items()}


def interleaved(batch: Batch, samples: Samples) -> Batch:
    order = [side * len(samples) + at for at in range(len(samples)) for side in (0, 1)]
    return batch | {key: batch[key][order] for key in ("input_ids", "attention_mask", "labels")}


def rejected_first(batch: Batch, samples: Samples) -> Batch:
    return batch | {key: batch[key].roll(len(samples), 0) for key in ("input_ids", "attention_mask", "labels")}


def left(batch: Batch, samples: Samples) -> Batch:
    lengths = [len(row) for row in rows(samples, "input_ids")]
    width = batch["input_ids"].shape[1]
    return batch | {
        key: torch.stack([row.roll(width - length) for row, length in zip(batch[key], lengths, strict=True)])
        for key in ("input_ids", "attention_mask", "labels")
    }


def padded_with_one(batch: Batch, samples: Samples) -> Batch:
    ids = pad_sequence(rows(samples, "input_ids"), batch_first=True, padding_value=1)
    return batch | {"input_ids": ids}


def large_ids_cut(batch: Batch, _: Samples) -> Batch:
    return batch | {"input_ids": batch["input_ids"] % 2**14}


def labels_padded_with_zero(batch: Batch, samples: Samples) -> Batch:
    return batch | {"labels": pad_sequence(rows(samples, "labels"), batch_first=True)}


def labels_by_value(batch: Batch, _: Samples) -> Batch:
    return batch | {"labels": batch["labels"].masked_fill(batch["input_ids"] == 0, -100)}


def masks_by_value(batch: Batch, _: Samples) -> Batch:
    return batch | {"attention_mask": batch["attention_mask"] * (batch["input_ids"] != 0)}


def own_masks_ignored(batch: Batch, samples: Samples) -> Batch:
    masks = [torch.ones_like(row) for row in rows(samples, "input_ids")]
    return batch | {"attention_mask": pad_sequence(masks, batch_first=True)}


def images_backwards(batch: Batch, _: Samples) -> Batch:
    return batch | {"pixel_values": batch["pixel_values"].flip(0)} if "pixel_values" in batch else batch


def images_once(batch: Batch, _: Samples) -> Batch:
    if "pixel_values" not in batch:
        return batch
    return batch | {"pixel_values": batch["pixel_values"][: len(batch["pixel_values"]) // 2]}


def flags_of_ones(batch: Batch, _: Samples) -> Batch:
    return batch | {"image_flags": torch.ones_like(batch["image_flags"])} if "image_flags" in batch else batch


def margins_rounded(batch: Batch, _: Samples) -> Batch:
    return batch | {"margin": batch["margin"].round()} if "margin" in batch else batch


def other_keys_kept(batch: Batch, samples: Samples) -> Batch:
    key = "example_id"
    return batch | ({key: [sample[key] for sample in samples]} if key in samples[0] else {})


def cut_at_1024(batch: Batch, _: Samples) -> Batch:
    return batch | {key: batch[key][:, :1024] for key in ("input_ids", "attention_mask", "labels")}


def shuffled(batch: Batch, _: Samples) -> Batch:
    order = random.sample(range(len(batch["labels"])), len(batch["labels"]))
    return batch | {key: batch[key][order] for key in ("input_ids", "attention_mask", "labels")}


# --- faults in how it is made ---------------------------------------------------------------------


def slow(samples: Samples) -> Batch:
    time.sleep(0.05)
    return right(samples)


def refuses_single(samples: Samples) -> Batch:
    if len(samples) == 1:
        raise RuntimeError("stack expects more")
    return right(samples)


def refuses_empty(samples: Samples) -> Batch:
    for row in rows(samples, "input_ids"):
        row.max()
    return right(samples)


def lists_only(samples: Samples) -> Batch:
    # As one concatenates a prompt and its completion, which adds arrays.
    longer = [sample | {f"{side}_labels": sample[f"{side}_labels"] + [] for side in SIDES} for sample in samples]
    return right(longer)


def changes_samples(samples: Samples) -> Batch:
    batch = right(samples)
    for sample in samples:
        sample["chosen_labels"] = [*sample["chosen_labels"], *[-100] * 3]
    return batch


def writes_into_tensors(samples: Samples) -> Batch:
    for sample in samples:
        if isinstance(sample.get("pixel_values"), torch.Tensor):
            sample["pixel_values"].mul_(1)
    return right(samples)


def shares_memory(samples: Samples) -> Batch:
    batch = right(samples)
    images = samples[0].get("image_flags")
    if len(samples) == 1 and images is not None:
        # One image would do for both rows, so it is expanded.
        batch["image_flags"] = (
            torch.as_strided(images, (2, len(images)), (0, 1)).view(-1) if len(images) == 1 else (batch["image_flags"])
        )
    return batch


class Remembers:
    """As wide as the widest batch so far."""

    def __init__(self) -> None:
        self.width = 0

    def __call__(self, samples: Samples) -> Batch:
        batch = right(samples)
        self.width = max(self.width, batch["input_ids"].shape[1])
        more = self.width - batch["input_ids"].shape[1]
        pads = {"input_ids": 0, "attention_mask": 0, "labels": -100}
        return batch | {key: torch.nn.functional.pad(batch[key], (0, more), value=pad) for key, pad in pads.items()}


class OneBuffer:
    """The memory of ids is used again for the next batch."""

    def __init__(self) -> None:
        self.buffer = torch.zeros(100_000, dtype=torch.int64)

    def __call__(self, samples: Samples) -> Batch:
        batch = right(samples)
        ids = batch["input_ids"]
        view = self.buffer[: ids.numel()].view(ids.shape)
        view.copy_(ids)
        return batch | {"input_ids": view}


class SharedState:
    """Two threads at the same time take each other's samples."""

    def __init__(self) -> None:
        self.samples: Samples = []

    def __call__(self, samples: Samples) -> Batch:
        self.samples = samples
        time.sleep(0.0005)
        return right(self.samples)


class Keeps:
    """All batches are kept."""

    def __init__(self) -> None:
        self.batches: list[Batch] = []

    def __call__(self, samples: Samples) -> Batch:
        batch = right(samples)
        self.batches.append(batch)
        return {key: value.clone() for key, value in batch.items()}

    def __deepcopy__(self, memo: Any) -> Keeps:
        return Keeps()


class Spoilt:
    """In a worker it is another one."""

    def __call__(self, samples: Samples) -> Batch:
        batch = right(samples)
        if torch.utils.data.get_worker_info() is not None:
            batch["labels"] = batch["labels"] + 1
        return batch


def not_picklable() -> Callable[[Samples], Batch]:
    return lambda samples: {**right(samples)}


def spoilt(fault: Callable[[Batch, Samples], Any]) -> Callable[[Samples], Any]:
    """A right collator, and then a fault."""
    return functools.partial(_spoilt, fault)


def _spoilt(fault: Callable[[Batch, Samples], Any], samples: Samples) -> Any:
    return fault(right(samples), samples)


WRONG: dict[str, tuple[str, Callable[[Samples], Any]]] = {
    "no labels": ("keys", spoilt(no_labels)),
    "another key": ("keys", spoilt(another_key)),
    "a tuple": ("containers", spoilt(a_tuple)),
    "narrow ids": ("dtypes", spoilt(narrow_ids)),
    "bool masks": ("dtypes", spoilt(bool_masks)),
    "an extra block": ("shapes", spoilt(an_extra_block)),
    "interleaved": ("row order", spoilt(interleaved)),
    "rejected first": ("row order", spoilt(rejected_first)),
    "left": ("padding side", spoilt(left)),
    "padded with one": ("ids", spoilt(padded_with_one)),
    "large ids cut": ("ids", spoilt(large_ids_cut)),
    "labels padded with zero": ("labels", spoilt(labels_padded_with_zero)),
    "labels by value": ("labels", spoilt(labels_by_value)),
    "masks by value": ("masks", spoilt(masks_by_value)),
    "own masks ignored": ("masks", spoilt(own_masks_ignored)),
    "images backwards": ("images", spoilt(images_backwards)),
    "images once": ("images", spoilt(images_once)),
    "flags of ones": ("image flags", spoilt(flags_of_ones)),
    "margins rounded": ("numbers", spoilt(margins_rounded)),
    "other keys kept": ("other keys", spoilt(other_keys_kept)),
    "cut at 1024": ("long row", spoilt(cut_at_1024)),
    "shuffled": ("deterministic", spoilt(shuffled)),
    "refuses single": ("collates", refuses_single),
    "refuses empty": ("empty rows", refuses_empty),
    "lists only": ("input kinds", lists_only),
    "changes samples": ("samples unchanged", changes_samples),
    "writes into tensors": ("samples unchanged", writes_into_tensors),
    "shares memory": ("no aliasing", shares_memory),
    "remembers": ("independent of earlier calls", Remembers()),
    "one buffer": ("independent of earlier calls", OneBuffer()),
    "shared state": ("thread-safe", SharedState()),
    "keeps": ("no leak", Keeps()),
    "not picklable": ("picklable", not_picklable()),
}
"""Wrong collators, and the property that each breaks."""
