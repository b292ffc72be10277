"""Memory: batches own theirs, views keep it, nothing leaks; threads and forked processes may collate."""

from __future__ import annotations

import contextlib
import gc
import os
import sys
import threading
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from bounded import ended, run_in_threads
from dpo_collate import PreferenceCollator, _convert, delivery

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MIB = 2**20
NUMPY = PreferenceCollator(pad_token_id=0, return_tensors="np")
TORCH = PreferenceCollator(pad_token_id=0)
STACK = PreferenceCollator(pad_token_id=0, extra_keys="stack")
MASKLESS = PreferenceCollator(pad_token_id=0, attention_mask=None)
SHORT = PreferenceCollator(pad_token_id=0, max_length=3)
SMALL = PreferenceCollator(pad_token_id=0, max_batch_bytes=10**6)


def pair(size: int = 40, **changes: Any) -> dict[str, Any]:
    row = list(range(1000, 1000 + size))
    sample: dict[str, Any] = {"chosen_input_ids": torch.tensor(row), "chosen_labels": np.array(row)}
    return {**sample, "rejected_input_ids": row, "rejected_labels": tuple(row), **changes}


class HasArray:
    def __array__(self, *_args: Any, **_options: Any) -> Any:
        return np.arange(40)


class Raising:
    def __index__(self) -> int:
        raise ArithmeticError


IMAGES: dict[str, Any] = {"pixel_values": torch.zeros(2, 3, 4, 4), "image_flags": [1, 1]}
GOOD: dict[str, tuple[PreferenceCollator, list[Any]]] = {
    "tensors": (TORCH, [pair(), pair(30)]),
    "arrays": (NUMPY, [pair(), pair(30)]),
    "numbers": (TORCH, [pair(margin=0.5), pair(margin=torch.tensor(1.0))]),
    "converted": (TORCH, [pair(chosen_labels=HasArray()), pair(rejected_labels=[*range(39), np.int8(7)])]),
    "subclass": (TORCH, [pair(chosen_input_ids=torch.nn.Parameter(torch.arange(40), requires_grad=False))]),
    "images": (TORCH, [pair(**IMAGES), pair()]),
    "image arrays": (NUMPY, [pair(**IMAGES), pair()]),
    "stacked": (STACK, [pair(z=1.5, name="x"), pair(z=2, name=None)]),
    "dropped": (TORCH, [pair(z=1.5, chosen_attention_mask=None), pair(a=object())]),
    "ignored": (MASKLESS, [pair(chosen_attention_mask=torch.ones(40)), pair(rejected_attention_mask=None)]),
}
BAD: dict[str, tuple[PreferenceCollator, list[Any]]] = {
    "no sample": (TORCH, []),
    "no mapping": (TORCH, [pair(), 5]),
    "missing": (TORCH, [pair(), {"chosen_input_ids": [1]}]),
    "unknown": (TORCH, [pair(), pair(chosen=1)]),
    "lengths": (TORCH, [pair(), pair(chosen_labels=[1])]),
    "None": (TORCH, [pair(), pair(chosen_labels=None)]),
    "dtype": (TORCH, [pair(), pair(chosen_labels=torch.ones(40))]),
    "meta": (TORCH, [pair(), pair(chosen_labels=torch.ones(40, device="meta"))]),
    "misfit in an array": (TORCH, [pair(), pair(rejected_labels=np.full(40, 2**63, np.uint64))]),
    "misfit in a list": (TORCH, [pair(), pair(rejected_labels=[2**63] * 40)]),
    "raising": (TORCH, [pair(), pair(rejected_labels=[*range(39), Raising()])]),
    "no number": (TORCH, [pair(margin=1.0), pair(margin="1")]),
    "number that does not fit": (TORCH, [pair(margin=1.0), pair(margin=1e300)]),
    "nothing to score": (SHORT, [pair(chosen_labels=[-100] * 40)]),
    "images are cut": (SHORT, [pair(), pair(**IMAGES)]),
    "flags": (TORCH, [pair(**IMAGES | {"image_flags": [1]})]),
    "tiles": (NUMPY, [pair(**IMAGES), pair(pixel_values=torch.zeros(1, 3, 2, 2), image_flags=[1])]),
    "limit": (SMALL, [pair(), pair(20_000)]),
    "address space": (TORCH, [pair(chosen_input_ids=np.broadcast_to(np.int8(0), (2**62,)))]),
    "stacked": (STACK, [pair(z=1), pair(z=None)]),
}


def collate(collator: PreferenceCollator, samples: list[Any]) -> None:
    with contextlib.suppress(ArithmeticError, LookupError, MemoryError, TypeError, ValueError):
        collator(samples)


def everything(value: Any) -> Iterator[Any]:
    yield value
    if isinstance(value, dict):
        yield from value
        for inner in value.values():
            yield from everything(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from everything(inner)


@pytest.mark.parametrize("what", [*GOOD, *(f"bad: {what}" for what in BAD)])
def test_no_reference_is_gained_or_lost(what: str) -> None:
    collator, samples = BAD[what.removeprefix("bad: ")] if what.startswith("bad") else GOOD[what]
    collate(collator, samples)  # what is made once is made now
    objects: list[Any] = [
        None,
        True,
        torch.from_numpy,
        np.dtype(np.int64),
        np.dtype(np.float32),
        np.dtype(np.uint8),
        np.ndarray,
    ]
    objects += [_convert.row, _convert.number]
    assert collator._form is not None
    core = collator._form.core
    objects += [torch.Tensor, torch.int64, "chosen_input_ids", collator, core, type(core)]
    objects += [object, dict, list, KeyError, TypeError, ValueError, OverflowError, MemoryError, *everything(samples)]
    held = [id(value) for value in everything(samples)]
    gc.collect()
    before = [sys.getrefcount(value) for value in objects]
    for _ in range(500):
        collate(collator, samples)
    gc.collect()
    after = [sys.getrefcount(value) for value in objects]
    leaked = [
        (type(value), now - then) for value, then, now in zip(objects, before, after, strict=True) if now - then > 250
    ]
    assert not leaked
    assert [id(value) for value in everything(samples)] == held


def resident() -> int:
    """Bytes of memory that this process has."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("what", ["good", "bad"])
def test_memory_does_not_grow(what: str) -> None:
    # A batch takes 240 KB: one in a hundred that leaked would show.
    table = {
        "tensors": (TORCH, [pair(2500)] * 2),
        "images": (NUMPY, [pair(600, **IMAGES)] * 2),
        "stacked": GOOD["stacked"],
    }
    late = [pair(2500), pair(2500, rejected_labels=np.array([0] * 2499 + [2**63], np.uint64))]
    table = table if what == "good" else {"late": (TORCH, late), "tiles": BAD["tiles"], "dtype": BAD["dtype"]}
    turns = 10_000
    for turn in range(2 * turns // 10):
        collate(*table[list(table)[turn % 3]])
    before = resident()
    for turn in range(turns):
        collate(*table[list(table)[turn % 3]])
    assert resident() - before < 8 * MIB


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("collator", [NUMPY, TORCH], ids=["numpy", "torch"])
def test_a_view_keeps_the_memory_of_its_batch(collator: PreferenceCollator) -> None:
    samples = [pair(4), pair(4, chosen_labels=[7, 8, 9, 10])]
    before = resident()
    batch = collator(samples, min_length=2 * MIB)  # six arrays of 32 MiB
    batch["chosen_input_ids"][:, 100:] = 5
    view = batch["chosen_labels"][1, 1:3]
    del batch
    gc.collect()
    assert resident() - before > 150 * MIB
    others = [collator(samples, min_length=MIB) for _ in range(2)]
    assert view.tolist() == [8, 9]
    del others, view
    gc.collect()
    delivery.trim()
    assert resident() - before < 40 * MIB


def arrays(batch: dict[str, Any]) -> Iterator[np.ndarray[Any, Any]]:
    return (np.asarray(value) for value in batch.values())


@pytest.mark.parametrize("collator", [NUMPY, TORCH], ids=["numpy", "torch"])
def test_arrays_are_writable_aligned_and_contiguous(collator: PreferenceCollator) -> None:
    for size in range(1, 40):
        for array in arrays(collator([pair(size, margin=1, **IMAGES)] * 3)):
            assert array.flags.carray
            assert array.ctypes.data % 64 == 0


@pytest.mark.parametrize("collator", [NUMPY, TORCH], ids=["numpy", "torch"])
def test_batches_and_samples_share_no_memory(collator: PreferenceCollator) -> None:
    samples = [pair(), pair(chosen_labels=np.arange(40)[::-1])]
    batch, other = collator(samples), collator(samples)
    for turn, array in enumerate(arrays(batch)):
        array[:] = turn + 1
    assert [np.unique(array).tolist() for array in arrays(batch)] == [[turn + 1] for turn in range(len(batch))]
    for array, again in zip(arrays(other), arrays(collator(samples)), strict=True):
        assert np.array_equal(array, again)
    assert samples[0]["chosen_input_ids"].tolist() == samples[0]["rejected_input_ids"] == list(range(1000, 1040))
    samples[0]["chosen_input_ids"].zero_()
    samples[1]["chosen_labels"][:] = 0
    assert other["chosen_input_ids"][0].tolist() == list(range(1000, 1040))
    assert other["chosen_labels"][1].tolist() == list(range(39, -1, -1))


@pytest.fixture
def eager_switching() -> Iterator[None]:
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


@pytest.mark.usefixtures("eager_switching")
def test_threads_share_a_collator() -> None:
    barrier = threading.Barrier(4)
    wrong: list[Any] = []

    def work(number: int) -> None:
        rows = [[number * 1000 + index for index in range(5 + 10 * number)] for _ in range(3)]
        kinds: list[Callable[[Any], Any]] = [
            torch.tensor,
            list,
            lambda row: [*map(np.int64, row)],
            lambda row: np.array(row)[:, None][:, 0],
        ]
        barrier.wait(60)
        for turn in range(300):
            kind = kinds[turn % 4]
            keys = ("chosen_input_ids", "chosen_labels", "rejected_input_ids", "rejected_labels")
            samples = [{key: kind(row) for key in keys} | {"margin": number, **IMAGES} for row in rows]
            if turn % 7 == 0:
                collate(TORCH, [*samples, {"chosen_input_ids": [1, "2"]}])
            batch = TORCH(samples)
            wrong.extend(key for key in keys if batch[key].tolist() != rows)
            wrong.extend(key for key in ("margin",) if batch[key].tolist() != [number] * 3)

    run_in_threads(threading.Thread(target=work, args=(number,)) for number in range(4))
    assert wrong == []


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_forked_process_collates_and_reads_its_parents_batch() -> None:
    samples = [pair(margin=0.5, **IMAGES)]
    batch = TORCH(samples)
    expected = {key: value.tolist() for key, value in batch.items()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 and later, where there are threads
        child = os.fork()
    if child == 0:
        code = 1
        try:
            again = TORCH(samples)
            code = (
                0 if all(again[key].tolist() == batch[key].tolist() == value for key, value in expected.items()) else 2
            )
            batch["chosen_labels"].zero_()  # the child's own copy
            del batch, again
        finally:
            os._exit(code)
    assert ended(child) == 0
    assert {key: value.tolist() for key, value in batch.items()} == expected
