"""Objects that act while they are read: each of their hooks calls a saboteur, who acts at the n-th call.

What it does is drawn: it raises anything, changes what is being read, frees what others hold, calls the collator again,
collects garbage, or has the hook say what is not true.
"""

from __future__ import annotations

import array
import contextlib
import gc
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias

import numpy as np
import torch

Pick: TypeAlias = Callable[[int], int]
"""A number from 0 on that is less than what it is given: Hypothesis draws it, a fuzzer, or a generator."""


class Own(Exception):  # noqa: N818 - of the user's
    """An exception of the user's."""


class Stop(BaseException):
    """An exception that no one catches by accident."""


UNTOUCHED = (Own, Stop, KeyboardInterrupt, SystemExit, GeneratorExit)
"""What has no meaning to Python or to those who are asked: whoever raises it gets it."""

MEANINGFUL = (
    *(RecursionError, MemoryError, StopIteration, TypeError, ValueError, KeyError, OverflowError, AttributeError),
    *(IndexError, RuntimeError, BufferError, UnicodeError, ZeroDivisionError, NotImplementedError, OSError),
)
"""What may be taken for an answer: that there is no such method, or that the end is reached."""


class Saboteur:
    """Acts at the n-th hook that is called, and may be again so many hooks later."""

    def __init__(self, pick: Pick, again: Callable[[], Any]) -> None:
        self.pick, self.again = pick, again
        self.wait, self.step = pick(4) * pick(4), pick(4)
        self.act = ACTS[pick(len(ACTS))]
        self.samples: list[Any] = []
        self.calls = self.acted = self.reentries = 0
        self.changed = self.busy = False
        self.raised: BaseException | None = None

    def hook(self, name: str) -> bool:
        """Called by every hook. Whether it is to lie."""
        if self.busy:
            return False
        self.calls += 1
        if self.calls <= self.wait:
            return False
        self.wait = self.calls + self.step if self.step and self.acted < 4 else 1 << 60
        self.acted += 1
        self.busy = True
        try:
            return self.act(self, name)
        finally:
            self.busy = False

    def rows(self) -> Iterator[Any]:
        """Everything that samples hold."""
        for sample in list(self.samples):
            with contextlib.suppress(Exception):
                yield from list(dict.values(sample) if issubclass(type(sample), dict) else sample)


CURRENT: list[Saboteur] = []
"""The one at work, if any."""


def hook(name: str) -> bool:
    return bool(CURRENT) and CURRENT[0].hook(name)


# --- what it does ---------------------------------------------------------------------------------------


def _nothing(_saboteur: Saboteur, _name: str) -> bool:
    return False


def _lie(saboteur: Saboteur, _name: str) -> bool:
    saboteur.changed = True
    return True


def _raise(saboteur: Saboteur, name: str) -> bool:
    if name in QUIET:
        return False  # nobody could catch it
    kinds = UNTOUCHED if saboteur.pick(2) else MEANINGFUL
    kind = kinds[saboteur.pick(len(kinds))]
    saboteur.changed = True
    error = kind("the saboteur's")
    if saboteur.raised is None and isinstance(error, UNTOUCHED) and name not in SWALLOWED:
        saboteur.raised = error
    raise error


def _clear(saboteur: Saboteur, _name: str) -> bool:
    """Frees all that others hold of the samples."""
    saboteur.changed = True
    for sample in saboteur.samples:
        if issubclass(type(sample), dict):
            dict.clear(sample)
    saboteur.samples.clear()
    reuse()
    return False


def _shrink(saboteur: Saboteur, _name: str) -> bool:
    saboteur.changed = True
    for row in saboteur.rows():
        with contextlib.suppress(Exception), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of ways that NumPy does not like any more
            if isinstance(row, list):
                list.clear(row)
            elif type(row) is torch.Tensor:
                row.set_(torch.arange(3, dtype=row.dtype)) if saboteur.pick(2) else row.resize_(0)  # type: ignore[call-overload]
            elif type(row) is np.ndarray:
                row.shape = (1, *row.shape)
    reuse()
    return False


def _grow(saboteur: Saboteur, _name: str) -> bool:
    saboteur.changed = True
    for row in saboteur.rows():
        with contextlib.suppress(Exception):
            if isinstance(row, list):
                list.extend(row, [object()] * 100)
            elif type(row) is torch.Tensor:
                row.resize_(1000)
    for number, sample in enumerate(saboteur.samples):
        if type(sample) is dict:
            sample.update({f"grown {number} {index}": index for index in range(50)})
    if saboteur.samples:
        saboteur.samples.append(saboteur.samples[0])
    return False


def _swap(saboteur: Saboteur, _name: str) -> bool:
    """Puts other values under the keys; nobody else holds the old ones."""
    saboteur.changed = True
    for sample in saboteur.samples:
        if type(sample) is dict:
            for key in list(dict.keys(sample)):
                with contextlib.suppress(Exception):
                    dict.__setitem__(sample, key, [5] * saboteur.pick(5) if saboteur.pick(2) else None)
    reuse()
    return False


def _drop_keys(saboteur: Saboteur, _name: str) -> bool:
    saboteur.changed = True
    for sample in saboteur.samples:
        if type(sample) is dict and sample:
            sample.popitem()
    return False


def _reenter(saboteur: Saboteur, name: str) -> bool:
    if name not in QUIET:
        saboteur.reentries += 1
        saboteur.again()
    return False


def _collect(_saboteur: Saboteur, _name: str) -> bool:
    gc.collect(1)
    reuse()
    return False


def _yield(_saboteur: Saboteur, _name: str) -> bool:
    time.sleep(0)
    return False


def reuse() -> None:
    """Takes memory of the sizes that samples have, so that what was freed holds something else."""
    del [[[7] * size, np.full(size, 7), torch.full((size,), 7), tuple([7] * size)] for size in range(1, 9)][:]


ACTS = (_nothing, _raise, _raise, _lie, _clear, _shrink, _grow, _swap, _drop_keys, _reenter, _collect, _yield)
QUIET = {"__del__"}
"""Hooks whose exceptions reach nobody."""
SWALLOWED = {"__del__", "__repr__", "__len__", "element __len__", "__array_finalize__"}
"""Hooks whose exceptions those who call them may swallow: `reprlib`, NumPy."""


# --- the objects ------------------------------------------------------------------------------------------


def _hooked(base: type, names: tuple[str, ...], lies: Mapping[str, Callable[[Any], Any]]) -> dict[str, Any]:
    """Methods that call the saboteur before they are what they are in the base."""

    def method(name: str, inherited: Any) -> Any:
        def acting(self: Any, *arguments: Any, **options: Any) -> Any:
            if hook(name):
                return lies.get(name, lambda _self: None)(self)  # type: ignore[no-untyped-call]
            return inherited(self, *arguments, **options)

        return acting

    return {name: method(name, getattr(base, name)) for name in names}


_ANY_LIES: dict[str, Callable[[Any], Any]] = {
    "__len__": lambda _: (0, 1, 2**40, -1, 2**62)[CURRENT[0].pick(5)],
    "__iter__": lambda _: iter((1, "2", None)),
    "__getitem__": lambda self: self,
    "__index__": lambda _: (2**100, -5, "x", True)[CURRENT[0].pick(4)],
    "__int__": lambda _: 2**70,
    "__float__": lambda _: (float("nan"), 1e300, "x")[CURRENT[0].pick(3)],
    "__bool__": lambda _: bool(CURRENT[0].pick(2)),
    "__eq__": lambda _: (True, NotImplemented, np.array([1, 2]), None)[CURRENT[0].pick(4)],
    "__hash__": lambda _: 0,
    "__contains__": lambda _: True,
    "__repr__": lambda _: "'lie'",
    "keys": lambda self: (["chosen_input_ids"], [[]], 5, [*dict.keys(self), "nowhere"])[CURRENT[0].pick(4)],
    "items": lambda _: [(1, 2), 3],
    "values": lambda _: [1],
    "get": lambda _: 0,
}

_SEQUENCE = ("__len__", "__iter__", "__getitem__", "__contains__", "__repr__", "__eq__")
_NUMBER = ("__index__", "__int__", "__float__", "__bool__", "__eq__", "__repr__", "__hash__")

List = type("List", (list,), _hooked(list, (*_SEQUENCE, "__reversed__"), _ANY_LIES) | {"__hash__": None})
Tuple = type("Tuple", (tuple,), _hooked(tuple, (*_SEQUENCE, "__hash__"), _ANY_LIES))
Dict = type("Dict", (dict,), _hooked(dict, (*_SEQUENCE, "keys", "items", "values", "get"), _ANY_LIES))
Int = type("Int", (int,), _hooked(int, (*_NUMBER, "__lt__", "__le__", "bit_length"), _ANY_LIES))
Float = type("Float", (float,), _hooked(float, tuple(name for name in _NUMBER if name != "__index__"), _ANY_LIES))
Text = type("Text", (str,), _hooked(str, ("__eq__", "__hash__", "__repr__", "__len__", "startswith"), _ANY_LIES))


class Lazy(Mapping[Any, Any]):
    """A mapping that is no dict; nothing else holds its values."""

    def __init__(self, entries: Mapping[Any, Any]) -> None:
        self.entries = dict(entries)

    def __getitem__(self, key: Any) -> Any:
        return self if hook("__getitem__") else self.entries[key]

    def __iter__(self) -> Iterator[Any]:
        for key in list(self.entries):
            yield [] if hook("__iter__") else key

    def __len__(self) -> int:
        return -1 if hook("__len__") else len(self.entries)


class Element:
    """What is an integer when asked."""

    def __init__(self, value: float) -> None:
        self.value = value

    def __index__(self) -> Any:
        return "x" if hook("__index__") else int(self.value)

    def __float__(self) -> Any:
        return None if hook("__float__") else float(self.value)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__array") or hook(f"element {name}"):
            raise AttributeError(name)
        return {"ndim": 0}.get(name, self)

    def __len__(self) -> int:
        hook("element __len__")
        raise TypeError

    def __eq__(self, other: object) -> bool:
        return hook("__eq__") or self is other

    def __hash__(self) -> int:
        return 1


class Key:
    """Of the hash of a key of the layout."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __hash__(self) -> int:
        return hash(self.name)

    def __eq__(self, other: object) -> bool:
        return hook("__eq__") and self.name == other

    def __repr__(self) -> str:
        hook("key repr")
        return "Key"


class HasArray:
    def __init__(self, values: Any) -> None:
        self.values = values

    def __array__(self, *_args: Any, **_options: Any) -> Any:
        if hook("__array__"):
            lies = (self, 5, np.array(5), np.array([None]), np.broadcast_to(np.int8(1), 2**62), np.array(["a"]))
            return lies[CURRENT[0].pick(len(lies))]
        return self.values


class HasInterface:
    """What NumPy asks for after buffers; the address is never a lie."""

    def __init__(self, values: Any) -> None:
        self.values = np.array(values)

    @property
    def __array_interface__(self) -> Any:
        if hook("__array_interface__"):
            return ({}, None, {"version": 3}, {"shape": (1,), "typestr": "O"}, 5)[CURRENT[0].pick(5)]
        return self.values.__array_interface__

    def __array__(self, *_args: Any, **_options: Any) -> Any:
        hook("__array__")
        return self.values


class Everything:
    """Whatever attribute one asks for is there, and is this."""

    def __getattr__(self, name: str) -> Any:
        if hook("__getattr__"):
            raise AttributeError(name)
        return self

    def __call__(self, *_args: Any, **_options: Any) -> Any:
        return self


class Pretender:
    """Says that it is of another class."""

    def __init__(self, kind: Any) -> None:
        self.kind = kind

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        hook("__class__")
        return self.kind


class Array(np.ndarray[Any, Any]):
    """A subclass that is asked about everything."""

    def __array_finalize__(self, _obj: Any) -> None:
        hook("__array_finalize__")

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        if hook("__array_ufunc__"):
            return NotImplemented
        plain = [np.asarray(value) if isinstance(value, Array) else value for value in inputs]
        return getattr(ufunc, method)(*plain, **options)

    def __array_function__(self, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
        return 5 if hook("__array_function__") else super().__array_function__(func, types, args, kwargs)

    def __len__(self) -> int:
        return 2**40 if hook("__len__") else super().__len__()

    def __getitem__(self, index: Any) -> Any:
        return None if hook("__getitem__") else super().__getitem__(index)

    @property  # type: ignore[misc]
    def shape(self) -> Any:
        return (2**62,) if hook("shape") else super().shape

    @property
    def ndim(self) -> Any:
        return 2 if hook("ndim") else super().ndim

    @property
    def dtype(self) -> Any:
        return np.dtype("M8[s]") if hook("dtype") else super().dtype

    def item(self, *arguments: Any) -> Any:
        return self if hook("item") else super().item(*arguments)


class Tensor(torch.Tensor):
    """A subclass whose every operation is asked about."""

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if hook("__torch_function__"):
            return 5
        return super().__torch_function__(func, types, args, kwargs or {})  # type: ignore[no-untyped-call]

    def numel(self) -> Any:
        return 2**62 if hook("numel") else super().numel()

    def __len__(self) -> int:
        return 0 if hook("__len__") else super().__len__()  # type: ignore[no-untyped-call]


class Dying(list[Any]):
    """Its finalizer acts."""

    def __del__(self) -> None:
        hook("__del__")


class Once:
    """An iterator of samples that says how many there will be."""

    def __init__(self, samples: list[Any]) -> None:
        self.samples = iter(samples)

    def __iter__(self) -> Once:
        return self

    def __next__(self) -> Any:
        hook("__next__")
        return next(self.samples)

    def __length_hint__(self) -> Any:
        return (2**62, -1, "x", 10**6)[CURRENT[0].pick(4)] if hook("__length_hint__") else 1


class Indexed:
    """A sequence by its `__getitem__` alone."""

    def __init__(self, samples: list[Any]) -> None:
        self.samples = samples

    def __getitem__(self, index: int) -> Any:
        hook("__getitem__")
        return self.samples[index]

    def __len__(self) -> Any:
        return (10**3, 0, -1)[CURRENT[0].pick(3)] if hook("__len__") else len(self.samples)


def itself() -> list[Any]:
    """A list that contains itself."""
    row: list[Any] = [1]
    row.append(row)
    return row


def released() -> memoryview:
    view = memoryview(b"12345678")
    view.release()
    return view


def nested(levels: int) -> Any:
    row: Any = [1]
    for _ in range(levels):
        row = [row]
    return row


STRANGE: tuple[Callable[[], Any], ...] = (
    itself,
    released,
    lambda: nested(3),
    lambda: nested(500),
    lambda: nested(100_000),
    lambda: [2**70, -(2**70)],
    lambda: 10**5000,
    lambda: [10**5000],
    lambda: array.array("q", [1, 2]),
    lambda: array.array("u", "ab"),
    lambda: bytearray(b"abc"),
    lambda: memoryview(b"12345678").cast("q"),
    lambda: memoryview(b"12345678")[::2],
    lambda: memoryview(b"1234").cast("B", (2, 2)),
    lambda: np.array([(1, 2)], "i4,i4"),
    lambda: np.array([None, 1]),
    lambda: np.array(["NaT"], "M8[s]"),
    lambda: np.array([1.5, np.nan], np.float16),
    lambda: np.array([1j]),
    lambda: np.array([1], np.longdouble),
    lambda: np.array(["a", "b"]),
    lambda: np.array(5),
    lambda: np.datetime64("NaT"),
    lambda: np.broadcast_to(np.int8(1), (2**60,)),
    lambda: np.broadcast_to(np.float32(1), (2**30, 2**30)),
    lambda: np.zeros((0, 5)),
    lambda: np.ma.array([1, 2], mask=[False, True]),
    lambda: np.rec.array([(1,)], dtype=[("a", "i4")]),
    lambda: torch.ones(3, device="meta", dtype=torch.int64),
    lambda: torch.eye(2).to_sparse(),
    lambda: torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8),
    lambda: torch.tensor([1 + 2j]).conj(),
    lambda: torch.tensor([1 + 2j]).conj().imag,
    lambda: torch.tensor(5),
    lambda: torch.zeros(1, dtype=torch.int8).expand(2**60),
    lambda: torch.zeros(1).expand(2**31, 2**31),
    lambda: torch.empty(0),
    lambda: torch.tensor([1, 2], dtype=torch.uint16),
    lambda: torch.tensor([1.5, 2.5], dtype=torch.bfloat16),
    lambda: torch.ones(2, requires_grad=True),
    lambda: torch.nn.Parameter(torch.ones(2)),
    lambda: torch.zeros(2).view(torch.int64)[0:0],
    dict,
    lambda: {1},
    lambda: iter([1, 2]),
    lambda: (number for number in (1, 2)),
    lambda: range(3),
    lambda: "text",
    lambda: b"bytes",
    lambda: None,
    object,
    lambda: type,
    lambda: float("nan"),
    lambda: -0.0,
    Everything,
    *(
        lambda kind=kind: Pretender(kind)
        for kind in (list, tuple, dict, int, float, str, np.ndarray, np.int64, torch.Tensor, Mapping, np.ma.MaskedArray)
    ),
)
"""What no hook is needed for."""
