"""In a DataLoader: the same batches from workers of every start method, and the same exceptions."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch.utils.data import BatchSampler, DataLoader, Dataset, IterableDataset, SequentialSampler, get_worker_info

from dpo_collate import PreferenceCollator, dpo_collate
from dpo_collate.trainers.internvl import dpo_concat_pad_data_collator

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# Forks of a process with threads are what DataLoader makes by default.
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")

SIZE = 10


def sample(index: int) -> dict[str, Any]:
    """A sample of its own length for each index; every second one has images."""
    row = list(range(100 * index, 101 * index + 3))
    sides = {
        "chosen_input_ids": torch.tensor(row),
        "chosen_labels": np.array([-100, *row[1:]]),
        "rejected_input_ids": row[1:],
        "rejected_labels": tuple(row[1:]),
        "margin": index / 4,
    }
    if index % 2:
        sides |= {"pixel_values": torch.full((index % 3, 3, 2, 2), float(index)), "image_flags": [1] * (index % 3)}
    return sides


class Samples(Dataset[Any]):
    def __len__(self) -> int:
        return SIZE

    def __getitem__(self, index: int) -> dict[str, Any]:
        return sample(index)


class Batches(Dataset[Any]):
    """Reads whole batches at once."""

    def __len__(self) -> int:
        return SIZE // 2

    def __getitem__(self, index: int) -> list[dict[str, Any]]:
        return [sample(2 * index), sample(2 * index + 1)]


class Stream(IterableDataset[Any]):
    def __iter__(self) -> Iterator[dict[str, Any]]:
        info = get_worker_info()
        first, step = (0, 1) if info is None else (info.id, info.num_workers)
        return map(sample, range(first, SIZE, step))


COLLATOR = PreferenceCollator(pad_token_id=1, pad_to_multiple_of=4)


def same(batches: Any, expected: list[list[int]], collate: Callable[[Any], Any] = COLLATOR) -> None:
    """The batches are those of the indices, collated in this process."""
    found = list(batches)
    assert len(found) == len(expected)
    for batch, indices in zip(found, expected, strict=True):
        here = collate([sample(index) for index in indices])
        assert list(batch) == list(here)
        for key, value in here.items():
            assert (key, batch[key].dtype, batch[key].tolist()) == (key, value.dtype, value.tolist())


IN_TWOS = [[index, index + 1] for index in range(0, SIZE, 2)]


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_workers(method: str) -> None:
    # Workers that are started anew import this module; pytest's own name for it they do not know.
    samples = importlib.import_module("test_loader").Samples()
    loader = DataLoader(
        samples,
        batch_size=4,
        num_workers=1,
        collate_fn=COLLATOR,
        multiprocessing_context=method,
        persistent_workers=True,
    )
    for _epoch in range(3):
        same(loader, [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]])


def test_two_workers_in_order() -> None:
    loader = DataLoader(Samples(), batch_size=2, num_workers=2, collate_fn=COLLATOR, drop_last=True)
    for _epoch in range(2):
        same(loader, IN_TWOS)


@pytest.mark.parametrize("workers", [0, 1])
def test_ways_to_batch(workers: int) -> None:
    sampler = BatchSampler(SequentialSampler(range(SIZE)), 3, drop_last=False)
    in_threes = [[0, 1, 2], [3, 4, 5], [6, 7, 8], [9]]
    same(DataLoader(Samples(), batch_sampler=sampler, num_workers=workers, collate_fn=COLLATOR), in_threes)
    same(DataLoader(Batches(), batch_size=None, num_workers=workers, collate_fn=COLLATOR), IN_TWOS)
    same(DataLoader(Stream(), batch_size=2, num_workers=workers, collate_fn=COLLATOR), IN_TWOS)


def test_stream_of_two_workers() -> None:
    loader = DataLoader(Stream(), batch_size=5, num_workers=2, collate_fn=COLLATOR)
    same(loader, [[0, 2, 4, 6, 8], [1, 3, 5, 7, 9]])


@pytest.mark.parametrize("collate", [dpo_collate, dpo_concat_pad_data_collator], ids=["dpo_collate", "internvl"])
def test_functions(collate: Callable[[Any], Any]) -> None:
    given = [[index + 1, index] for index in (0, 4, 6)]  # (one with images first: InternVL's follows its keys)
    same(DataLoader(Samples(), batch_sampler=given, num_workers=1, collate_fn=collate), given, collate)


def test_batches_outlive_their_loader() -> None:
    batches = list(DataLoader(Samples(), batch_size=1, num_workers=2, collate_fn=COLLATOR))
    rows = [batch["chosen_labels"][0, 1:] for batch in batches]
    del batches
    same([COLLATOR([sample(index)]) for index in range(SIZE)], [[index] for index in range(SIZE)])
    assert [row[: 2 + index].tolist() for index, row in enumerate(rows)] == [
        list(range(100 * index + 1, 101 * index + 3)) for index in range(SIZE)
    ]


def wrong(**changes: Any) -> list[dict[str, Any]]:
    return [sample(0), {**sample(2), **changes}]


WRONG: list[tuple[Any, type[Exception], str]] = [
    ([], ValueError, "the batch is empty: expected at least one sample"),
    ([{}], KeyError, "sample 0: an empty dict: transformers' Trainer removes the columns that the model's forward"),
    (wrong(chosen_label=1), KeyError, "sample 1: unknown key 'chosen_label': it begins like a key that matters"),
    (wrong(chosen_labels=[1]), ValueError, "sample 1: 'chosen_labels' has 1 tokens, but 'chosen_input_ids' has 5"),
    (wrong(chosen_labels="1"), TypeError, "sample 1: 'chosen_labels' is '1', expected a 1-D tensor, array or list"),
    (wrong(chosen_labels=[2**64] * 5), OverflowError, f"sample 1: 'chosen_labels' holds {2**64} at position 0, which"),
    (
        wrong(rejected_labels=np.full(4, 2**63, np.uint64)),
        OverflowError,
        f"sample 1: 'rejected_labels' holds {2**63} at position 0, which does not fit int64",
    ),
    (
        wrong(chosen_input_ids=np.broadcast_to(np.int8(0), (2**62,))),
        MemoryError,
        f"sample 1: 'chosen_input_ids', padded to a width of {2**62}, makes a batch larger than the address space",
    ),
    (wrong(image_flags=[1]), KeyError, "sample 1: no 'pixel_values', but 'image_flags' has 1 flags"),
]


class Wrong(Dataset[Any]):
    def __len__(self) -> int:
        return len(WRONG)

    def __getitem__(self, index: int) -> Any:
        return WRONG[index][0]


def test_exceptions_come_from_workers() -> None:
    batches = iter(DataLoader(Wrong(), batch_size=None, num_workers=1, collate_fn=COLLATOR))
    for _, exception, sentence in WRONG:
        with pytest.raises(exception) as caught:
            next(batches)
        assert type(caught.value) is exception
        assert sentence in str(caught.value)
    assert not list(batches)
