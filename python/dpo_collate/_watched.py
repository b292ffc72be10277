"""Collators that are watched, and how their counts come to the process of the meter.

There the counts of a call are added at once. In another process, a DataLoader worker, they wait beside the tensors of
the batch, and the pickler of the loader's queue sends them along with the first of these: so they arrive with the
batch, in whatever containers it lies, and those of a batch that is never sent are never counted. Nothing is added to
the batch.

An error in a reducer would be raised in a thread of the queue's, and the loader would wait for ever: so whatever goes
wrong with counts is swallowed there, and the tensor sent without them.
"""

from __future__ import annotations

import io
import os
import sys
import threading
import weakref
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from multiprocessing.reduction import ForkingPickler
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np

from ._counting import watched_call

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from ._counting import Made

Numbers: TypeAlias = tuple[int, ...]
"""The fields of :class:`dpo_collate.stats.Counts`, in order."""

NOTHING: Final[Numbers] = (0,) * 7


class Account:
    """What has arrived for one meter, in any thread of its process.

    A finalizer or a signal handler may count a batch while its own thread is counting one: it leaves what it has to
    the latter, and waits for nothing.
    """

    def __init__(self) -> None:
        self.token: Final = os.urandom(16)
        self.process: Final = os.getpid()
        self._total = self._last = NOTHING
        self._arrived: deque[Numbers] = deque()
        self._lock = threading.RLock()
        self._is_adding = False
        _accounts[self.token] = self

    def add(self, numbers: Numbers) -> None:
        """Counts a batch."""
        self._arrived.append(numbers)
        self._add_up()

    def total(self) -> Numbers:
        """What has arrived since the account was made."""
        self._add_up()
        return self._total

    def last(self) -> Numbers:
        """The batch that arrived last."""
        self._add_up()
        return self._last

    def forget_last(self) -> None:
        """Nothing has arrived last."""
        self._add_up()
        self._last = NOTHING

    def _add_up(self) -> None:
        with self._lock:
            if self._is_adding:  # by this thread
                return
            self._is_adding = True
            try:
                while self._arrived:
                    numbers = self._arrived[0]
                    total = _sum((self._total, numbers))
                    self._arrived.popleft()
                    self._total, self._last = total, numbers
            finally:
                self._is_adding = False


_accounts: Final[weakref.WeakValueDictionary[bytes, Account]] = weakref.WeakValueDictionary()


def _count(token: bytes, numbers: Numbers) -> None:
    account = _accounts.get(token)
    # (None: nobody has the meter any more. A forked process has only a copy of it, whose lock may be held for ever.)
    if account is not None and account.process == os.getpid():
        account.add(numbers)


@dataclass(frozen=True, repr=False, eq=False)
class Watched:
    """A collator whose batches are counted. It pickles if the collator does, and has the collator's attributes."""

    collate: Callable[..., Any]
    token: bytes
    """That of the account."""
    process: int
    """That of the account."""

    def __call__(self, *args: Any, **options: Any) -> Any:
        """What the collator returns, which is counted."""
        made: list[Made] = []
        before = watched_call.get()
        reset = watched_call.set(made)
        try:
            batch = self.collate(*args, **options)
        finally:
            watched_call.reset(reset)
        if before is not None:  # another meter watches what calls this
            before.extend(made)
        numbers = _sum(((1, *NOTHING[1:]), *map(_numbers, made)))
        if self.process == os.getpid():
            _count(self.token, numbers)
        else:
            _send_along((self.token, numbers), batch, made)
        return batch

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "collate":  # a copy that is being made lacks it
            raise AttributeError(name)
        return getattr(self.collate, name)

    def __repr__(self) -> str:
        return f"watched({self.collate!r})"


if hasattr(os, "register_at_fork"):  # pragma: no branch - elsewhere nothing forks
    # A process that is forked in a watched call would keep every batch that it makes, for a call that is not its own.
    os.register_at_fork(after_in_child=partial(watched_call.set, None))


def _sum(every: Iterable[Numbers]) -> Numbers:
    return tuple(map(sum, zip(*every, strict=True)))


def _numbers(made: Made) -> Numbers:
    """What one batch of a collator adds; the watched call, which may make several, counts as a batch itself."""
    finish, samples, taken, arrays = made
    shown = [part for part in taken if part[:2] in finish.token_rows]
    rows, tokens, cells, truncated = (sum(part[field] for part in shown) for field in range(2, 6))
    tiles = sum(len(arrays[name]) for name in finish.image_names if name in arrays)
    return 0, samples, rows, tokens, cells - tokens, tiles, truncated


# --- from a worker --------------------------------------------------------------------------------

_Load: TypeAlias = tuple[bytes, Numbers]
_waiting: Final[dict[int, tuple[weakref.ref[Any], list[list[_Load]]]]] = {}
"""By the id of a tensor, while it lives: the loads that wait beside it. Each lies in a list which it shares with the
other tensors of its batch, and is taken out of it once."""


def _send_along(load: _Load, batch: Any, made: list[Made]) -> None:
    kinds = _kinds()
    carriers = [value for value in _carriers(batch, made, kinds) if type(value) in kinds]
    shared = [load]
    for value in carriers:
        key = id(value)
        known = _waiting.get(key)  # (the queue's thread may be sending it just now)
        if known is not None:
            known[1].append(shared)
        else:
            forget = partial(_waiting.pop, key)  # called with the reference, which it takes for its default
            _waiting[key] = weakref.ref(value, forget), [shared]
    for kind in {type(value) for value in carriers}:
        _watch_pickler(kind)


def _kinds() -> tuple[type, ...]:
    """What counts wait beside: these types exactly, as the pickler knows no others by them."""
    torch = sys.modules.get("torch")
    return (np.ndarray,) if torch is None else (torch.Tensor, np.ndarray)


def _carriers(batch: Any, made: list[Made], kinds: tuple[type, ...]) -> list[Any]:
    """The tensors that collators made; those of the batch as well unless it has one of these."""
    own = [value for each in made for value in each.arrays.values()]
    known = set(map(id, own))
    others = []
    for value in _leaves(batch):
        if type(value) in kinds:
            if id(value) in known:
                return own
            others.append(value)
    return own + others


def _leaves(batch: Any) -> Iterator[Any]:
    """What lies in dicts, lists, tuples and attributes of objects, of any nesting."""
    containers: list[Any] = [(batch,)]
    seen: dict[int, Any] = {}  # with what it is the id of, which no other gets so
    while containers:
        container = containers.pop()
        if id(container) in seen:  # it contains itself, or lies in two places
            continue
        seen[id(container)] = container
        for value in dict.values(container) if isinstance(container, dict) else container:
            if isinstance(value, dict | list | tuple):
                containers.append(value)
            else:
                yield value
                if type(value).__dictoffset__:  # (asked of the value, its own `__getattr__` could answer)
                    containers.append(vars(value))


def _watch_pickler(kind: type) -> None:
    """Sees to it that loads are sent with tensors, whatever sends these: it may have changed since the last batch."""
    reduce = ForkingPickler(io.BytesIO()).dispatch_table.get(kind)
    if not isinstance(reduce, _Reducer):
        ForkingPickler.register(kind, _Reducer(_plainly if reduce is None else reduce))


def _plainly(value: Any) -> Any:
    return value.__reduce_ex__(4)  # what any protocol from 4 on can say


@dataclass(frozen=True)
class _Reducer:
    """Sends a tensor, and with it what waits beside it."""

    inner: Callable[[Any], Any]
    """What sends the tensor."""

    def around(self, inner: Callable[[Any], Any]) -> _Reducer:
        """The like of it, where something else sends tensors from now on."""
        return _Reducer(inner)

    def __call__(self, value: Any) -> Any:
        reduced = self.inner(value)
        try:
            loads = _loads(value)
            if loads and isinstance(reduced, tuple):  # (else it is the name of something)
                make, arguments, *rest = reduced
                return _arrived, (loads, make, arguments), *rest
        except Exception:  # noqa: BLE001, S110 - raised here, whatever it is would make the loader wait for ever
            pass
        return reduced


def _loads(value: Any) -> tuple[_Load, ...]:
    waiting = _waiting.pop(id(value), None)
    return () if waiting is None else tuple(shared.pop() for shared in waiting[1] if shared)


def _arrived(loads: tuple[_Load, ...], make: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    """What :class:`_Reducer` sent, in the process that receives it."""
    value = make(*arguments)
    for load in loads:
        with suppress(Exception):  # the batch is there, and must not be lost
            _count(*load)
    return value
