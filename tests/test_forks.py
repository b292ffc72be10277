"""Forks of a process that holds batches: what the child sees stays right, and it counts nothing down."""

from __future__ import annotations

import ctypes
import gc
import os
import pickle
import sys
import threading
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch.utils.data import DataLoader

from bounded import ended, joined
from dpo_collate import PreferenceCollator, delivery
from loaders import COLLATOR, Pairs, expected, succeeds, wrong
from worker import in_use, message, through_a_queue, worker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["worker"]  # a fixture

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning"),
]


def fork() -> int:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 and later, where there are threads
        return os.fork()


def raw_fork() -> int:
    """A fork that Python does not know of."""
    # Were a thread asking for the GIL meanwhile, the child would give it up, and wait until that thread, which it does
    # not have, has taken it. So threads ask later than they ever wait, and those that have asked get it now.
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1000)
    time.sleep(0.02)
    child: int = ctypes.PyDLL(None).fork()
    sys.setswitchinterval(interval)
    return child


class Child:
    """A forked process that runs `work` when it is told to, and says whether that returned."""

    def __init__(self, work: Callable[[], bool], fork: Callable[[], int] = fork) -> None:
        told, self.tell = os.pipe()
        self.process = fork()
        if self.process == 0:
            code = 1
            try:
                os.read(told, 1)
                code = 0 if work() else 2
            finally:
                os._exit(code)
        os.close(told)

    def run(self) -> int:
        os.write(self.tell, b"x")
        os.close(self.tell)
        return ended(self.process)


def iterator(size: int = 4000, **options: Any) -> Iterator[Any]:
    return iter(DataLoader(Pairs(size), batch_size=2, num_workers=1, collate_fn=COLLATOR, **options))


def right(batches: list[Any], first: int = 0) -> bool:
    return all(wrong(batch, expected([2 * i, 2 * i + 1])) == [] for i, batch in enumerate(batches, first))


def test_a_child_reads_its_parents_batches_while_the_parent_goes_on() -> None:
    batches = iterator()
    kept = [next(batches) for _ in range(6)]
    child = Child(lambda: right(kept))
    kept.clear()
    for step in range(6, 200):
        assert right([next(batches)], step)
    assert child.run() == 0


def test_workers_of_another_loader_read_them() -> None:
    batches = iterator()
    kept = [next(batches) for _ in range(4)]

    class Kept(torch.utils.data.Dataset[Any]):
        def __getitem__(self, index: int) -> Any:
            return wrong(kept[index % 4], expected([2 * (index % 4), 2 * (index % 4) + 1]))

    others = iter(DataLoader(Kept(), batch_size=None, num_workers=2, sampler=range(400), prefetch_factor=2))
    assert next(others) == []
    kept.clear()
    for step in range(4, 200):
        assert right([next(batches)], step)
    assert all(found == [] for found in others)


def test_a_child_counts_nothing_down() -> None:
    batches = iterator()
    kept = [next(batches) for _ in range(6)]

    def drop() -> bool:
        kept.clear()
        gc.collect()
        return delivery.stats().arenas == 0

    assert Child(drop).run() == 0
    for step in range(6, 100):
        assert right([next(batches)], step)
    assert right(kept)


UNKNOWN = """
from test_forks import COLLATOR, Child, Pairs, gc, iterator, raw_fork, right

batches = iterator()
kept = [next(batches) for _ in range(6)]

def drop():
    kept.clear()
    gc.collect()
    return bool(COLLATOR([Pairs(9)[1]])["margin"] == 1)

assert Child(drop, raw_fork).run() == 0
for step in range(6, 100):
    assert right([next(batches)], step)
assert right(kept)
"""


def test_nor_does_one_that_python_does_not_know_of() -> None:
    succeeds(UNKNOWN)  # by itself: this process has threads of other tests by now


def test_nor_does_one_with_the_same_process_id() -> None:
    """In a namespace of its own a process may have the number that its parent has in the one outside."""
    batches = iterator()
    kept = [next(batches) for _ in range(6)]
    own = os.getpid()

    def drop() -> bool:
        libc = ctypes.CDLL(None)
        if libc.unshare(0x20000000) != 0:  # CLONE_NEWPID
            os._exit(77)
        wanted = own
        inner = Child(lambda: True)  # process 1 of the namespace: it ends when that does

        def last() -> bool:
            try:
                Path("/proc/sys/kernel/ns_last_pid").write_text(str(wanted - 1), encoding="ascii")
            except OSError:
                os._exit(77)

            def clear() -> bool:
                kept.clear()
                return gc.collect() >= 0 and os.getpid() == wanted

            innermost = Child(clear)
            code = innermost.run()
            if code == 2:
                os._exit(77)
            return code == 0

        first = Child(last)
        code = first.run()
        inner.run()
        if code == 77:
            os._exit(77)
        return code == 0

    code = Child(drop).run()
    if code == 77:
        pytest.skip("process id namespaces are not permitted here")
    assert code == 0
    for step in range(6, 100):
        assert right([next(batches)], step)
    assert right(kept)


def test_what_a_child_may_see_is_used_again_when_it_is_gone() -> None:
    batches = iterator()
    kept = [next(batches) for _ in range(6)]
    used = delivery.stats().blocks_in_use
    assert used > 6
    child = Child(lambda: True)
    del kept
    gc.collect()
    next(batches)
    retired = delivery.stats()
    assert retired.blocks_retired > 6
    assert child.run() == 0
    next(batches)
    freed = delivery.stats()
    assert freed.blocks_retired == 0
    assert freed.bytes_free >= retired.bytes_free + retired.bytes_retired - 2**16


def test_memory_is_given_back_when_the_child_is_gone() -> None:
    collator = PreferenceCollator(pad_token_id=0)
    samples = [Pairs(9, 300)[3]] * 40
    batches = iter(DataLoader(samples, batch_size=2, num_workers=1, collate_fn=collator))  # type: ignore[arg-type]
    kept = [next(batches) for _ in range(8)]
    child = Child(lambda: True)
    kept.clear()
    retired = delivery.stats()
    assert retired.bytes_retired > 8 * 6 * 3 * 300 * 300 * 4
    assert child.run() == 0
    freed = delivery.stats()
    assert freed.blocks_retired == 0
    assert freed.bytes_free - retired.bytes_free < 4 * 6 * 3 * 300 * 300 * 4


def test_a_child_of_a_child_counts_as_one() -> None:
    batches = iterator()
    kept = [next(batches) for _ in range(6)]
    told, tell = os.pipe()
    ready, say = os.pipe()

    def leave_another() -> bool:
        if fork() == 0:
            os.close(tell)
            os.read(told, 1)
            os.write(say, b"+" if right(kept) else b"-")
            os._exit(0)
        return True

    assert Child(leave_another).run() == 0
    kept.clear()
    for step in range(6, 100):
        assert right([next(batches)], step)
    assert delivery.stats().blocks_retired > 6
    os.write(tell, b"x")
    assert os.read(ready, 1) == b"+"
    for descriptor in (told, tell, ready, say):
        os.close(descriptor)
    deadline = time.monotonic() + 30
    while delivery.stats().blocks_retired and time.monotonic() < deadline:
        time.sleep(0.01)
    assert delivery.stats().blocks_retired == 0


def test_evaluations_do_not_add_up() -> None:
    """A trainer that holds a batch while it starts the workers of an evaluation, again and again."""
    batches = iterator()
    sizes = []
    for _evaluation in range(8):
        held = next(batches)
        for _ in DataLoader(Pairs(4), batch_size=2, num_workers=1, collate_fn=COLLATOR):
            pass
        del held
        for _ in range(10):
            next(batches)
        sizes.append(delivery.stats().blocks_retired)
    assert max(sizes[2:]) <= 3


def test_a_child_reads_batches_of_workers_that_have_ended() -> None:
    """As a validation set does that is collated once and kept."""
    others = iterator()
    kept = list(DataLoader(Pairs(40), batch_size=2, num_workers=1, collate_fn=COLLATOR))
    for step in range(10):  # the dead worker is found
        assert right([next(others)], step)
    assert delivery.stats().blocks_in_use > 20
    child = Child(lambda: right(kept))
    kept.clear()
    for step in range(10, 50):
        assert right([next(others)], step)
    arenas = delivery.stats()
    assert arenas.blocks_retired > 20
    assert child.run() == 0
    assert delivery.stats().blocks_retired == 0
    assert delivery.stats().arenas == arenas.arenas - 1


def test_a_child_receives_from_the_loader_of_its_parent() -> None:
    batches = iterator(prefetch_factor=20)
    kept = [next(batches) for _ in range(3)]

    def receive() -> bool:
        return right([next(batches) for _ in range(3)], 3)

    assert Child(receive).run() == 0
    assert right(kept)


BETWEEN = """
import os
from torch.utils.data import DataLoader
from loaders import *

received = []

def receive():  # it runs after the hook of dpo_collate, as another thread could
    if armed:
        armed.clear()
        received.append(next(batches))

armed = []
os.register_at_fork(before=receive)
batches = iter(DataLoader(Pairs(4000), batch_size=2, num_workers=1, collate_fn=COLLATOR))
COLLATOR([Pairs(4)[1]])
first = int(sys.argv[1])
for _ in range(first):
    next(batches)
told, tell = os.pipe()
armed.append(1)
child = os.fork()
if child == 0:
    os.read(told, 1)
    os._exit(bool(wrong(received[0], expected([2 * first, 2 * first + 1]))))
received.clear()
for step in range(first + 1, first + 100):
    assert wrong(next(batches), expected([2 * step, 2 * step + 1])) == []
os.write(tell, b"x")
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.parametrize("first", [1, 3])  # (before the first, all was sent by value: no arena is attached)
def test_a_batch_that_comes_between_the_hook_and_the_fork(first: int) -> None:
    assert succeeds(BETWEEN, str(first)) == "0\n"


COLLATED = """
import os
from dpo_collate import _core, _messages
from loaders import *

def collate():  # as another thread could, after the hook of dpo_collate
    if armed:
        armed.clear()
        made.append(COLLATOR(samples))

armed, made = [], []
samples = [Pairs(40)[30], Pairs(40)[31]]
os.register_at_fork(before=collate)
COLLATOR(samples)
sender = _messages.Sender(*_core.open_shared())
told, tell = os.pipe()
armed.append(1)
child = os.fork()
if child == 0:
    os.read(told, 1)
    os._exit(bool(wrong(made[0], expected([30, 31]))))
made.clear()
for _ in range(5):
    for value in COLLATOR(samples).values():
        value.zero_()
os.write(tell, b"x")
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_a_batch_that_is_collated_between_the_hook_and_the_fork() -> None:
    assert succeeds(COLLATED) == "0\n"


@pytest.mark.usefixtures("worker")
def test_a_worker_finds_by_itself_that_its_children_are_gone() -> None:
    row = list(range(2000))
    sample = dict.fromkeys(("chosen_input_ids", "chosen_labels", "rejected_input_ids", "rejected_labels"), row)
    kept = [COLLATOR([sample])]
    address = kept[0]["chosen_input_ids"].data_ptr()
    assert Child(lambda: True).run() == 0
    kept.clear()
    again = [COLLATOR([sample]) for _ in range(3)]
    assert address in [batch["chosen_input_ids"].data_ptr() for batch in again]


@pytest.mark.usefixtures("worker")
def test_forks_of_a_worker_add_nothing_up() -> None:
    row = list(range(2000))
    sample = dict.fromkeys(("chosen_input_ids", "chosen_labels", "rejected_input_ids", "rejected_labels"), row)
    counts = []
    for _ in range(200):
        batch = COLLATOR([sample])
        assert Child(lambda: True).run() == 0
        del batch
        counts.append(len(list(Path("/proc/self/fd").iterdir())))
    through_a_queue(COLLATOR([sample]))
    assert max(counts) <= counts[0] + 2, counts
    assert delivery.stats().blocks_retired == 0


@pytest.mark.usefixtures("worker")
def test_many_forks_while_a_batch_is_held() -> None:
    row = list(range(2000))
    batch = COLLATOR(
        [dict.fromkeys(("chosen_input_ids", "chosen_labels", "rejected_input_ids", "rejected_labels"), row)]
    )
    for _ in range(140):
        assert Child(lambda: True).run() == 0
    del batch
    gc.collect()
    assert (delivery.stats().blocks_retired, in_use()[0]) == (0, 0)


@pytest.mark.usefixtures("worker")
def test_a_worker_forks() -> None:
    collator = PreferenceCollator(pad_token_id=0, extra_keys="stack")
    row = list(range(2000))
    sample = dict.fromkeys(("chosen_input_ids", "chosen_labels", "rejected_input_ids", "rejected_labels"), row)
    sent = message(collator([sample]))
    kept = [collator([sample])]
    child = Child(lambda: kept[0]["chosen_labels"].tolist() == [row])
    kept.clear()
    for _ in range(10):
        through_a_queue(collator([sample]))["chosen_labels"].zero_()
    assert child.run() == 0
    child = Child(lambda: through_a_queue(collator([sample]))["chosen_labels"].tolist() == [row])
    assert child.run() == 0
    assert pickle.loads(sent)["chosen_labels"].tolist() == [row]
    assert in_use()[0] == 0


@pytest.mark.usefixtures("worker")
def test_a_thread_forks_while_others_collate_drop_and_receive() -> None:
    """No deadlock, and no wrong value, in hundreds of forks."""
    stop, wrong_values, turns = threading.Event(), [], [0, 0, 0]
    row = list(range(600))
    sample = dict.fromkeys(("chosen_input_ids", "chosen_labels", "rejected_input_ids", "rejected_labels"), row)

    def work(number: int) -> None:
        while not stop.is_set():
            batch = through_a_queue(COLLATOR([sample] * (1 + number)))
            batch["chosen_labels"] += number
            turns[number] += 1
            if batch["chosen_labels"][-1].tolist() != [value + number for value in row]:
                wrong_values.append(number)

    threads = [threading.Thread(target=work, args=(number,), daemon=True) for number in range(3)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(300):  # of a process that has imported everything one takes 60 ms
            child = fork()
            if child == 0:
                code = 1
                try:
                    code = 0 if COLLATOR([sample])["chosen_labels"].tolist() == [row] else 2
                finally:
                    os._exit(code)
            assert ended(child) == 0
    finally:
        stop.set()
        joined(threads)
    assert wrong_values == []
    assert min(turns) > 10
    through_a_queue(COLLATOR([sample]))
    assert delivery.stats().blocks_retired == 0
    assert in_use()[0] == 0
