"""Through real workers: right values while memory is used again, whatever the loader and whatever is kept."""

from __future__ import annotations

import gc
import importlib
import inspect
import os
import queue
import random
import sys
import threading
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
import torch
import torch.multiprocessing
from torch.utils.data import BatchSampler, DataLoader, SequentialSampler

from bounded import joined, run_in_threads
from dpo_collate import PreferenceCollator, delivery
from dpo_collate.trainers.internvl import dpo_concat_pad_data_collator
from loaders import COLLATOR, PAD, Batch, Pairs, Stream, expected, groups, run, succeeds, wrong

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# Forks of a process with threads are what DataLoader makes by default.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning"),
]

BATCHES = int(os.environ.get("DPO_COLLATE_BATCHES", "8000"))
"""So many go through the test of values; state more for a soak."""


def anew(name: str) -> Any:
    """What workers that are started anew can import: pytest has the modules of tests under other names."""
    return getattr(importlib.import_module("loaders"), name)


def check(loader: Any, wanted: list[list[int]], unpack: Callable[[Any], Batch] = dict) -> None:
    found = list(loader)
    assert len(found) == len(wanted)
    for batch, indices in zip(found, wanted, strict=True):
        assert wrong(unpack(batch), expected(indices)) == []


class Keeper:
    """Keeps batches for random times, as they are, as views or written to, and has other threads drop them."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.kept: list[tuple[Batch, Batch]] = []
        self.most = 0
        self.dropping: queue.Queue[Any] = queue.Queue(maxsize=20)
        self.threads = [threading.Thread(target=self.drop, daemon=True) for _ in range(2)]
        for thread in self.threads:
            thread.start()

    def drop(self) -> None:
        while self.dropping.get() is not None:
            pass

    def take(self, batch: Batch, wanted: Batch) -> None:
        what = self.rng.randrange(6)
        if what == 1:
            wanted = {key: value.clone() for key, value in wanted.items()}
            for value in (*batch.values(), *wanted.values()):
                value[-1:] = 7
        if what == 2:
            batch, wanted = ({key: value[..., 1:] for key, value in some.items()} for some in (batch, wanted))
        if what in {1, 2, 3}:
            self.kept.append((batch, wanted))
        self.most = max(self.most, len(self.kept))
        for _ in range(min(len(self.kept), self.rng.choice([0, 0, 1, 1, 1, 5]))):
            found, wanted = self.kept.pop(self.rng.randrange(len(self.kept)))
            assert wrong(found, wanted) == []
            if self.rng.random() < 0.5:
                self.dropping.put(found, timeout=60)

    def end(self) -> None:
        for _ in self.threads:
            self.dropping.put(None, timeout=60)
        joined(self.threads)
        assert [wrong(found, wanted) for found, wanted in self.kept] == [[]] * len(self.kept)
        assert self.most > 5


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_values_stay_right_while_memory_is_used_again(workers: int) -> None:
    rng = random.Random(workers)
    count = BATCHES * {1: 2, 2: 1, 4: 1}[workers] // 4
    sampler = [[rng.randrange(10_000) for _ in range(rng.choice([1, 2, 3]))] for _ in range(count)]
    received = delivery.stats().batches_received
    loader = DataLoader(Pairs(10_000, 12), batch_sampler=sampler, num_workers=workers, collate_fn=COLLATOR)
    keeper = Keeper(rng)
    for indices, batch in zip(sampler, loader, strict=True):
        wanted = expected(indices, 12)
        assert wrong(batch, wanted) == []
        keeper.take(batch, wanted)
    keeper.end()
    assert delivery.stats().batches_received - received > count / 2  # small ones are sent by value


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_start_methods(method: str) -> None:
    loader = DataLoader(
        anew("Pairs")(21),
        batch_size=2,
        num_workers=2,
        collate_fn=anew("COLLATOR"),
        multiprocessing_context=method,
        persistent_workers=True,
    )
    received = delivery.stats().batches_received
    for _epoch in range(3):
        check(loader, groups(21, 2))
    assert delivery.stats().batches_received - received == 3 * 10  # one is small, and sent by value


def rebuilt(batch: Any) -> Batch:
    first, rest, _ = batch
    return {**first, **rest}


def in_tuple(samples: Any) -> Any:
    batch = COLLATOR(samples)
    return ({key: batch.pop(key) for key in list(batch)[:3]}, batch, len(samples))


LOADERS: dict[str, Callable[[int], Any]] = {
    "persistent": lambda n: DataLoader(
        Pairs(20), batch_size=2, num_workers=n, collate_fn=COLLATOR, persistent_workers=True
    ),
    "out of order": lambda n: DataLoader(Pairs(20), batch_size=2, num_workers=n, collate_fn=COLLATOR, in_order=n < 2),
    "timeout": lambda n: DataLoader(Pairs(20), batch_size=2, num_workers=n, collate_fn=COLLATOR, timeout=60),
    "prefetch": lambda n: DataLoader(Pairs(20), batch_size=2, num_workers=n, collate_fn=COLLATOR, prefetch_factor=100),
    "stream": lambda n: DataLoader(Stream(20), batch_size=2, num_workers=n, collate_fn=COLLATOR),
    "by sampler": lambda n: DataLoader(
        Pairs(20), batch_sampler=BatchSampler(SequentialSampler(range(20)), 2, drop_last=False), num_workers=n,
        collate_fn=COLLATOR,
    ),
}  # fmt: skip


if "in_order" not in inspect.signature(DataLoader).parameters:  # torch < 2.6
    del LOADERS["out of order"]


@pytest.mark.parametrize("kind", LOADERS)
@pytest.mark.parametrize("workers", [1, 2])
def test_kinds_of_loaders(kind: str, workers: int) -> None:
    loader = LOADERS[kind](workers)
    for _epoch in range(2):
        found = sorted((batch["margin"].tolist(), batch) for batch in loader) if workers > 1 else [
            (batch["margin"].tolist(), batch) for batch in loader
        ]  # fmt: skip
        assert sorted(index for indices, _ in found for index in indices) == list(range(20))
        for indices, batch in found:
            assert wrong(batch, expected([int(index) for index in indices])) == []


def by_two_threads(samples: list[Any]) -> Any:
    found: list[Any] = [None, None]

    def work(number: int) -> None:
        found[number] = COLLATOR(samples)

    run_in_threads(threading.Thread(target=work, args=(number,)) for number in (0, 1))
    return found


def test_two_threads_of_a_worker_begin_at_once() -> None:
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        for _ in range(20):
            for found in DataLoader(Pairs(60), batch_size=20, num_workers=1, collate_fn=by_two_threads):
                assert [wrong(batch, found[0]) for batch in found] == [[], []]
    finally:
        sys.setswitchinterval(interval)


def test_whole_batches_are_read() -> None:
    class Whole(Pairs):
        def __getitem__(self, index: int) -> Any:
            pairs = Pairs(self.size)
            return [pairs[2 * index], pairs[2 * index + 1]]

    check(DataLoader(Whole(10), batch_size=None, num_workers=1, collate_fn=COLLATOR), groups(20, 2))


def test_wrapped_batches() -> None:
    check(DataLoader(Pairs(20), batch_size=2, num_workers=1, collate_fn=in_tuple), groups(20, 2), rebuilt)


def test_drop_in() -> None:
    pairs = Pairs(20)
    samples: Any = [{key: pairs[index][key] for key in pairs[index] if key != "margin"} for index in (1, 2, 3, 5)]
    loader: Any = DataLoader(
        samples, batch_size=2, num_workers=1, collate_fn=partial(dpo_concat_pad_data_collator, pad_id=PAD)
    )
    received = delivery.stats().batches_received
    for found, indices in zip(loader, ([1, 2], [3, 5]), strict=True):
        wanted = expected(indices)
        del wanted["margin"]
        assert wrong({key: value for key, value in found.items() if "mask" not in key}, wanted) == []
    assert delivery.stats().batches_received - received == 2


def test_break_and_begin_again() -> None:
    loader = DataLoader(Pairs(200), batch_size=2, num_workers=2, collate_fn=COLLATOR, persistent_workers=True)
    for stop in (1, 3, 7, 0):
        for step, batch in enumerate(loader):
            assert wrong(batch, expected([2 * step, 2 * step + 1])) == []
            if step == stop:
                break


def test_two_loaders_at_once() -> None:
    loaders = [
        DataLoader(Pairs(40), batch_size=size, num_workers=1, collate_fn=COLLATOR, persistent_workers=True)
        for size in (2, 4)
    ]
    for _epoch in range(2):
        for step, (two, four) in enumerate(zip(*loaders, strict=False)):
            assert wrong(two, expected([2 * step, 2 * step + 1])) == []
            assert wrong(four, expected(list(range(4 * step, 4 * step + 4)))) == []


@pytest.mark.filterwarnings("ignore:'pin_memory' argument is set as true:UserWarning")
def test_pinned_on_a_machine_without_an_accelerator() -> None:
    check(DataLoader(Pairs(20), batch_size=2, num_workers=1, collate_fn=COLLATOR, pin_memory=True), groups(20, 2))


@pytest.mark.parametrize("workers", [0, 1])
def test_torchs_transport_gives_the_same(workers: int) -> None:
    collator = PreferenceCollator(pad_token_id=PAD, attention_mask=None, delivery="torch")
    received = delivery.stats().batches_received
    check(DataLoader(Pairs(20), batch_size=2, num_workers=workers, collate_fn=collator), groups(20, 2))
    assert delivery.stats().batches_received == received


def test_arrays_from_a_worker() -> None:
    collator = PreferenceCollator(pad_token_id=PAD, attention_mask=None, return_tensors="np")
    loader = DataLoader(Pairs(20), batch_size=2, num_workers=1, collate_fn=collator)
    check(loader, groups(20, 2), lambda batch: {key: torch.from_numpy(value) for key, value in batch.items()})


@pytest.fixture
def by_file_names() -> Iterator[None]:
    strategy = torch.multiprocessing.get_sharing_strategy()  # type: ignore[no-untyped-call]
    torch.multiprocessing.set_sharing_strategy("file_system")  # type: ignore[no-untyped-call]
    yield
    torch.multiprocessing.set_sharing_strategy(strategy)  # type: ignore[no-untyped-call]


@pytest.mark.usefixtures("by_file_names")
def test_torchs_other_sharing_strategy() -> None:
    check(DataLoader(Pairs(20), batch_size=2, num_workers=1, collate_fn=COLLATOR), groups(20, 2))


KEEPS = """
import resource, sys
import torch
from torch.utils.data import DataLoader
from loaders import *

torch.multiprocessing.set_sharing_strategy(sys.argv[1])
resource.setrlimit(resource.RLIMIT_NOFILE, (128, 128))
sampler = [[index % 500] for index in range(int(sys.argv[3]))]
loader = DataLoader(Pairs(500), batch_sampler=sampler, num_workers=2, collate_fn=COLLATOR,
                    prefetch_factor=int(sys.argv[2]))
kept = list(loader)
assert [wrong(batch, expected(indices)) for batch, indices in zip(kept, sampler)] == [[]] * len(kept)
print(len(kept))
"""


@pytest.mark.parametrize("strategy", ["file_descriptor", "file_system"])
@pytest.mark.parametrize(("prefetch", "count"), [(2, 1000), (100, 600)])
def test_with_few_open_files(strategy: str, prefetch: int, count: int) -> None:
    assert succeeds(KEEPS, strategy, str(prefetch), str(count)) == f"{count}\n"


AT_EXIT = """
import threading, time
from torch.utils.data import DataLoader
from loaders import *

def work():
    while True:
        for batch in DataLoader(Pairs(4000), batch_size=2, num_workers=1, collate_fn=COLLATOR):
            seen.append(batch)

seen = []
threading.Thread(target=work, daemon=True).start()
while len(seen) < 20:
    time.sleep(0.01)
print("end")
"""


def test_a_thread_that_iterates_when_the_interpreter_ends() -> None:
    done = run(AT_EXIT)  # what torch prints on its error output is torch's business
    assert (done.returncode, done.stdout) == (0, "end\n"), done


def test_batches_outlive_their_loader() -> None:
    kept = list(DataLoader(Pairs(30), batch_size=1, num_workers=2, collate_fn=COLLATOR))
    views = [batch["chosen_labels"][0, 1:] for batch in kept]
    gc.collect()
    check(DataLoader(Pairs(30), batch_size=1, num_workers=2, collate_fn=COLLATOR), groups(30, 1))
    for index, (batch, view) in enumerate(zip(kept, views, strict=True)):
        assert wrong(batch, expected([index])) == []
        assert torch.equal(view, expected([index])["chosen_labels"][0, 1:])
