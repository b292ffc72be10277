"""Counts that come from workers: with what is received, once, whatever the batch lies in; and nothing hangs."""

from __future__ import annotations

import gc
import io
import pickle
import threading
from collections import UserDict
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing.reduction import ForkingPickler
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from bounded import run_in_threads
from dpo_collate import PreferenceCollator, _watched
from dpo_collate.stats import Counts, PaddingMeter
from loaders import PAD, Pairs, Stream, expected, groups, lengths, succeeds, tiles, wrong
from worker import message, through_a_queue

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

# Forks of a process with threads are what DataLoader makes by default.
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")

Remote: TypeAlias = "Callable[[Any], Any]"

SIZE, EACH = 10, 4
COLLATOR = PreferenceCollator(pad_token_id=PAD, attention_mask=None)
LOADER: dict[str, Any] = {"batch_size": EACH, "timeout": 60}


def plainly(indices: Iterable[list[int]] = groups(SIZE, EACH)) -> Counts:
    """What batches of those samples have, by their lengths alone."""
    counts = Counts()
    for batch in indices:
        for sides in zip(*map(lengths, batch), strict=True):
            padding = max(sides) * len(sides) - sum(sides)
            counts += Counts(rows=len(sides), tokens=sum(sides), padding=padding)
        counts += Counts(1, len(batch), tiles=sum(map(tiles, batch)))
    return counts


def same(batch: dict[str, Any], indices: list[int]) -> None:
    """It is the batch of those samples."""
    tensors = {key: torch.as_tensor(value) for key, value in batch.items()}
    assert wrong(tensors, expected(indices)) == []


# --- what is done to a batch ----------------------------------------------------------------------


@dataclass
class Box:
    batch: Any


def knot(batch: dict[str, Any]) -> list[Any]:
    """Something that contains itself."""
    found: list[Any] = [batch["chosen_labels"].clone()]
    found.append(found)
    return found


KEPT = torch.arange(2000)
WAYS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "as it is": lambda batch: batch,
    "dict": lambda batch: {**batch, "more": torch.ones(3)},
    "tuple": lambda batch: (1, tuple(batch.values())),
    "nest": lambda batch: {"a": [{"b": batch["chosen_labels"]}], "c": "text"},
    "one": lambda batch: batch["rejected_labels"],
    "own mapping": UserDict,
    "own class": Box,
    "own class and more": lambda batch: [KEPT, Box(batch)],
    "copies": lambda batch: {key: value.clone() for key, value in batch.items()},
    "arrays": lambda batch: {key: value.numpy().copy() for key, value in batch.items()},
    "copies in an own class": lambda batch: Box(WAYS["copies"](batch)),
    "copies in an own mapping": lambda batch: UserDict(WAYS["copies"](batch)),
    "itself": knot,
}


@dataclass(frozen=True)
class Way:
    """A user's function around a collator; it pickles."""

    name: str
    collator: PreferenceCollator = COLLATOR

    def __call__(self, samples: Any) -> Any:
        return WAYS[self.name](self.collator(samples))


@pytest.mark.parametrize("name", WAYS)
def test_ways(name: str, remote: Remote) -> None:
    meter = PaddingMeter()
    collate = remote(meter.watch(Way(name)))
    for indices in groups(SIZE, EACH):
        before = meter.total
        batch = collate(some(*indices))
        assert meter.total == before
        through_a_queue(batch)
    assert meter.total == plainly()


# --- this process as both ends --------------------------------------------------------------------


@pytest.fixture
def remote() -> Iterator[Remote]:
    """Watched collators as they are in another process. Afterwards nothing waits, and tensors are sent as before."""
    reducers: dict[Any, Any] = ForkingPickler._extra_reducers  # type: ignore[attr-defined] # which typeshed lacks
    before = dict(reducers)
    yield lambda collate: replace(collate, process=0)
    reducers.clear()
    reducers.update(before)
    if _watched._waiting:
        gc.collect()
    assert _watched._waiting == {}


def some(*indices: int) -> list[Any]:
    return [Pairs(SIZE)[index] for index in indices]


def test_what_is_not_sent_is_not_counted(remote: Remote) -> None:
    meter = PaddingMeter()
    collate = remote(meter.watch(COLLATOR))
    collate(some(1, 2))
    batch = collate(some(3))
    assert meter.total == Counts()
    sent = message(batch)
    assert meter.total == Counts()
    pickle.loads(sent)
    through_a_queue(batch)  # once more: it has been counted
    assert meter.total == plainly([[3]])
    pickle.loads(pickle.dumps(collate(some(4))))  # no queue: of plain pickles nothing is known
    assert meter.total == meter.last == plainly([[3]])


def test_a_part_of_a_batch(remote: Remote) -> None:
    """Whatever is done to it behind the watched call: counts come with what is left of it."""
    meter = PaddingMeter()
    collate = remote(meter.watch(Way("dict")))
    keys = list(collate(some(1, 2)))
    for key in keys:
        through_a_queue(collate(some(1, 2))[key])
    assert "more" in keys  # which is not the collator's
    assert meter.total == plainly([[1, 2]] * (len(keys) - 1))


def test_a_batch_that_is_emptied(remote: Remote) -> None:
    """Its tensors go elsewhere, where nobody looks for them."""

    def boxed(samples: Any) -> Box:
        batch = COLLATOR(samples)
        return Box([batch.pop(key) for key in list(batch)])

    meter = PaddingMeter()
    row = {key: [1, 2] for key in ("chosen_input_ids", "chosen_labels", "rejected_input_ids", "rejected_labels")}
    through_a_queue(remote(meter.watch(boxed))([row]))
    assert meter.total == Counts(1, 1, 2, 4)


def test_a_tensor_of_all_batches(remote: Remote) -> None:
    """It does not take along what waits for later ones."""
    meter = PaddingMeter()
    collate = remote(meter.watch(Way("dict")))
    first, second = collate(some(1)), collate(some(2))
    first["more"] = second["more"]
    through_a_queue(first)
    assert meter.total == plainly([[1]])
    del second
    through_a_queue({"more": first["more"]})
    assert meter.total == plainly([[1]])


def test_batches_of_one_tensor(remote: Remote) -> None:
    """Batches that have nothing else take each other's counts along: none is lost, none counted twice."""
    meter = PaddingMeter()
    collate = remote(meter.watch(lambda samples: (COLLATOR(samples), KEPT)[1]))
    for index in (1, 2):
        collate(some(index))
    through_a_queue(KEPT)
    through_a_queue(KEPT)
    assert meter.total == plainly([[1], [2]])


def test_no_tensor_at_all(remote: Remote) -> None:
    meter = PaddingMeter()
    collate = remote(meter.watch(lambda samples: {key: value.tolist() for key, value in COLLATOR(samples).items()}))
    through_a_queue(collate(some(1)))
    assert meter.total == Counts()


def test_two_meters(remote: Remote) -> None:
    first, second = PaddingMeter(), PaddingMeter()
    collate = remote(second.watch(remote(first.watch(COLLATOR))))
    through_a_queue(collate(some(1, 2)))
    assert first.total == second.total == plainly([[1, 2]])
    through_a_queue(remote(first.watch(COLLATOR))(some(3)))
    assert first.total - second.total == first.last == plainly([[3]])


@pytest.mark.parametrize("return_tensors", ["pt", "np"])
def test_batches_are_equal(return_tensors: Any, remote: Remote) -> None:
    collator = replace(COLLATOR, return_tensors=return_tensors)
    batch = through_a_queue(remote(PaddingMeter().watch(collator))(some(1, 2, 3)))
    same(batch, [1, 2, 3])
    assert {type(value) for value in batch.values()} == {torch.Tensor if return_tensors == "pt" else np.ndarray}


def test_a_meter_that_is_gone(remote: Remote) -> None:
    batch = remote(PaddingMeter().watch(COLLATOR))(some(1))
    gc.collect()
    same(through_a_queue(batch), [1])


def test_a_meter_of_another_process(remote: Remote) -> None:
    meter = PaddingMeter()
    collate = remote(meter.watch(COLLATOR))
    meter._account.process = 0  # type: ignore[misc] # as in a process that was forked from the meter's
    same(through_a_queue(collate(some(1))), [1])
    assert meter._account.total() == _watched.NOTHING


def test_many_threads(remote: Remote) -> None:
    """The threads that pin memory are such."""
    meter = PaddingMeter()
    collate = remote(meter.watch(COLLATOR))
    sent = [message(collate(some(index % SIZE))) for index in range(40)]

    def receive(part: list[bytes]) -> None:
        for each in part:
            pickle.loads(each)

    run_in_threads(threading.Thread(target=receive, args=(sent[first::4],)) for first in range(4))
    assert meter.total == plainly([[index % SIZE] for index in range(40)])


def test_a_finalizer_that_counts_while_its_thread_is_counting(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the garbage collector may run one wherever an object is made."""
    account = _watched.Account()
    numbers = [(number,) * 7 for number in range(4)]
    adding_up, inner = _watched._sum, iter(numbers[1:3])

    def interrupted(every: Any) -> Any:
        for one in inner:
            account.add(one)
            assert account.total() == numbers[0]
        return adding_up(every)

    monkeypatch.setattr(_watched, "_sum", interrupted)
    run_in_threads([threading.Thread(target=account.add, args=(numbers[3],))])
    assert (account.total(), account.last()) == ((6,) * 7, numbers[2])


def test_what_is_not_counted_for_an_error_is_counted_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that a signal handler raises, say."""
    account = _watched.Account()
    with monkeypatch.context() as patch:
        patch.setattr(_watched, "_sum", lambda _: 1 // 0)
        with pytest.raises(ZeroDivisionError):
            account.add((1,) * 7)
    account.add((2,) * 7)
    account._arrived.append((3,) * 7)
    assert account.total() == (6,) * 7


def test_a_way_to_send_tensors_that_is_new(remote: Remote) -> None:
    """Whatever sends tensors at the time, as after the first batch of a worker; and no pickler asks twice."""
    meter = PaddingMeter()
    collate = remote(meter.watch(COLLATOR))
    collate(some(1))
    asked: list[str] = []

    def reduce(name: str, tensor: torch.Tensor) -> Any:
        asked.append(name)
        return torch.tensor, (tensor.tolist(),)

    for name in ("first", "second"):
        ForkingPickler.register(torch.Tensor, partial(reduce, name))
        for _ in range(2):
            through_a_queue(collate(some(2)))
            reducer = ForkingPickler(io.BytesIO()).dispatch_table[torch.Tensor]
            assert isinstance(reducer, _watched._Reducer)
            assert not isinstance(reducer.inner, _watched._Reducer)
    assert meter.total == plainly([[2]] * 4)
    assert set(asked) == {"first", "second"}


def test_errors_where_counts_are_looked_for(remote: Remote, monkeypatch: pytest.MonkeyPatch) -> None:
    meter = PaddingMeter()
    batch = remote(meter.watch(COLLATOR))(some(1))
    monkeypatch.setattr(_watched, "_loads", None)
    same(through_a_queue(batch), [1])
    assert meter.total == Counts()


def test_a_tensor_that_is_sent_as_a_name(remote: Remote, monkeypatch: pytest.MonkeyPatch) -> None:
    meter = PaddingMeter()
    collate = remote(meter.watch(Way("one")))
    ForkingPickler.register(torch.Tensor, lambda _: "a_global")
    batch = collate(some(1))
    monkeypatch.setattr(torch, "a_global", batch, raising=False)
    assert through_a_queue(batch) is batch
    assert meter.total == Counts()


def test_counts_that_cannot_be_added(remote: Remote, monkeypatch: pytest.MonkeyPatch) -> None:
    batch = remote(PaddingMeter().watch(COLLATOR))(some(1))
    monkeypatch.setattr(_watched, "_count", None)
    same(through_a_queue(batch), [1])


# --- loaders --------------------------------------------------------------------------------------


WORKERS = [
    ("auto", {}),
    ("torch", {}),
    ("auto", {"num_workers": 2, "multiprocessing_context": "fork", "persistent_workers": True}),
    ("torch", {"num_workers": 2, "multiprocessing_context": "fork"}),
    ("auto", {"num_workers": 1, "multiprocessing_context": "spawn", "persistent_workers": True}),
]


@pytest.mark.parametrize(("delivery", "options"), WORKERS)
def test_loaders(delivery: Any, options: Any) -> None:
    meter = PaddingMeter()
    collate = meter.watch(replace(COLLATOR, delivery=delivery))
    loader = DataLoader(Pairs(SIZE), collate_fn=collate, **((LOADER if options else {"batch_size": EACH}) | options))
    for epoch in (1, 2):
        for batch, indices in zip(loader, groups(SIZE, EACH), strict=True):
            same(batch, indices)
        assert meter.total == plainly(groups(SIZE, EACH) * epoch)


def test_two_loaders_at_once() -> None:
    """In each worker the first collator is sent as torch sends it, so that the way changes after the first batch."""
    torchs, autos = PaddingMeter(), PaddingMeter()
    both = Alternating(torchs.watch(replace(COLLATOR, delivery="torch")), autos.watch(COLLATOR))
    loader: Any = DataLoader(Pairs(40), num_workers=2, collate_fn=both, **LOADER)
    other = PaddingMeter()
    others = DataLoader(Pairs(SIZE), num_workers=1, collate_fn=other.watch(Way("arrays")), **LOADER)
    for _ in zip(loader, others, strict=False):
        pass
    assert (torchs.total + autos.total).batches in {4, 5}  # one that is not needed was asked for
    for _ in loader:
        pass
    assert other.total == plainly()


@dataclass
class Alternating:
    """The first batch of a worker with one, others with the other."""

    first: Any
    other: Any
    begun: bool = False

    def __call__(self, samples: Any) -> Any:
        begun, self.begun = self.begun, True
        return (self.other if begun else self.first)(samples)


def test_a_loop_that_ends_early() -> None:
    meter = PaddingMeter()
    iterator: Any = iter(DataLoader(Pairs(400), num_workers=1, collate_fn=meter.watch(COLLATOR), **LOADER))
    for _ in range(3):
        next(iterator)
    assert meter.total == plainly(groups(3 * EACH, EACH))
    iterator._shutdown_workers()
    assert meter.total == plainly(groups(3 * EACH, EACH))


def test_streams_in_any_order() -> None:
    meter = PaddingMeter()
    loader = DataLoader(
        Stream(20),
        num_workers=2,
        in_order=False,
        collate_fn=meter.watch(replace(COLLATOR, return_tensors="np")),
        **LOADER,
    )
    for _ in loader:
        pass
    assert meter.total == plainly(
        list(range(first + 2 * EACH * at, min(first + 2 * EACH * (at + 1), 20), 2))
        for first in (0, 1)
        for at in (0, 1, 2)
    )


class Wrong(Pairs):
    def __getitem__(self, index: int) -> Any:
        sample = super().__getitem__(index)
        if index == 5:
            del sample["chosen_labels"]
        return sample


def test_an_error_in_a_worker() -> None:
    meter = PaddingMeter()
    iterator: Any = iter(DataLoader(Wrong(SIZE), num_workers=1, collate_fn=meter.watch(COLLATOR), **LOADER))
    next(iterator)
    with pytest.raises(KeyError, match="sample 1: no 'chosen_labels'"):
        next(iterator)
    next(iterator)
    iterator._shutdown_workers()
    assert meter.total == plainly([[0, 1, 2, 3], [8, 9]])


@pytest.mark.parametrize("broken", ["_loads", "_arrived"])
def test_no_loader_hangs(broken: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever goes wrong with counts, in a worker's thread or here."""
    meter = PaddingMeter()
    if broken == "_loads":
        monkeypatch.setattr(_watched, "_loads", None)  # the workers are forked from this
    else:
        monkeypatch.setattr(meter._account, "add", None)
    loader = DataLoader(Pairs(SIZE), num_workers=1, collate_fn=meter.watch(COLLATOR), **LOADER)
    for batch, indices in zip(loader, groups(SIZE, EACH), strict=True):
        same(batch, indices)
    assert meter.total == Counts()


REGISTERED = """
import io
from multiprocessing.reduction import ForkingPickler
import torch
from dpo_collate import PreferenceCollator, _messages, _watched

def registered():
    return ForkingPickler(io.BytesIO()).dispatch_table[torch.Tensor]

_watched._watch_pickler(torch.Tensor)
before = registered()
sender = _messages.open_sender()
print(type(registered()) is _watched._Reducer, registered() is before)
"""


def test_counts_go_on_where_another_way_begins_while_a_batch_is_sent() -> None:
    """The queue's thread asks for the reducer anew for each tensor."""
    assert succeeds(REGISTERED) == "True False\n"
