"""Every kind of object that a value of a sample may be, by name: the same values, dressed differently.

The name of a kind begins with its family, one of ``KINDS``: ``"torch view: int64 strided"``.
"""

from __future__ import annotations

import array
import types
from collections import OrderedDict, UserDict
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dpo_collate.testing.reference.cells import Number

NDArray: TypeAlias = npt.NDArray[Any]
Kinds: TypeAlias = dict[str, Callable[[], Any]]
"""By the name of a kind what makes a new object of it. The first is the plainest."""

KINDS = (
    "list",
    "tuple",
    "torch",
    "numpy",
    "torch view",
    "numpy view",
    "scalars",
    "subclass",
    "buffer",
    "array protocol",
    "mapping",
)
"""The families of kinds of objects, plainest first.

==================  ======================================================================================
``list``            Python's own: lists of ints or bools, nested lists and lists of tensors as images, numbers
``tuple``           tuples; tuples of arrays as images
``torch``           contiguous tensors of any dtype that holds the values; tensors of one element
``numpy``           contiguous arrays of any dtype that holds the values; arrays of one element
``torch view``      tensors that are strided, offset, expanded, conjugated views, not contiguous
``numpy view``      arrays that are strided, reversed, read-only, byte-swapped, misaligned, broadcast, in Fortran order
``scalars``         lists of NumPy or torch scalars; NumPy scalars
``subclass``        subclasses of list, int, ``torch.Tensor`` (``Parameter``) and ``numpy.ndarray``
``buffer``          ``array.array``, ``memoryview``
``array protocol``  objects that have ``__array__`` and nothing else
``mapping``         samples that are no dict: ``OrderedDict``, ``UserDict``, ``MappingProxyType``, one of one's own
==================  ======================================================================================
"""


def family(kind: str) -> str:
    """The family of a kind."""
    return kind.partition(":")[0]


# --- one row, as every kind of object -------------------------------------------------------------

INTS = ("int64", "int32", "int16", "int8", "uint8", "uint16", "uint32", "uint64", "bool")
FLOATS = ("float16", "float32", "float64")
OTHER = 99
"""What lies between and around the values of a view; no value of a row may be read from there."""


class Token(int):
    """An int that is none exactly, as in an ``IntEnum``."""


class TokenList(list[Any]):
    """A list that is none exactly."""


class OwnArray(np.ndarray[Any, Any]):
    """A subclass, as ``numpy.memmap`` is one."""


class OwnTensor(torch.Tensor):
    """A subclass, as ``torch.nn.Parameter`` is one."""


class Convertible:
    """An object that only ``numpy.asarray`` understands."""

    def __init__(self, values: NDArray) -> None:
        self.values = values

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray:  # noqa: FBT001 - NumPy's protocol
        return np.array(self.values, dtype)


def _torch_kinds(values: list[Number], name: str, *, constant: bool) -> Kinds:
    dtype: torch.dtype = getattr(torch, name)

    def spread(columns: int) -> torch.Tensor:
        out = torch.full((len(values), columns), OTHER if dtype != torch.bool else 1).to(dtype)
        out[:, 1] = plain()
        return out

    def plain() -> torch.Tensor:
        return torch.tensor(values, dtype=dtype)

    kinds: Kinds = {
        f"torch: {name}": plain,
        f"torch view: {name} strided": lambda: spread(2)[:, 1],
        f"torch view: {name} offset": lambda: torch.cat([plain().new_ones(3), plain(), plain().new_ones(1)])[
            3 : 3 + len(values)
        ],
        f"subclass: torch {name}": lambda: plain().as_subclass(OwnTensor),
        f"subclass: parameter {name}": lambda: torch.nn.Parameter(plain(), requires_grad=dtype.is_floating_point),
    }
    if constant:
        kinds[f"torch view: {name} expanded"] = lambda: plain()[:1].expand(len(values))
    if dtype in (torch.float32, torch.float64):
        # Its memory holds the negative of its values.
        kinds[f"torch view: {name} negative bit"] = lambda: (
            torch.complex(torch.zeros_like(plain()), -plain()).conj().imag
        )
    return kinds


def _numpy_kinds(values: list[Number], dtype: str, *, constant: bool) -> Kinds:
    def plain() -> NDArray:
        return np.array(values, dtype)

    def read_only() -> NDArray:
        out = plain()
        out.flags.writeable = False
        return out

    def column() -> NDArray:
        return np.stack([np.ones_like(plain()), plain()], axis=1)[:, 1]

    views: dict[str, Callable[[], NDArray]] = {
        "column": column,
        "every second": lambda: np.repeat(plain(), 2)[::2],
        "negative stride": lambda: plain()[::-1].copy()[::-1],
        "read-only": read_only,
        "byte-swapped": lambda: plain().astype(plain().dtype.newbyteorder()),
        "misaligned": lambda: np.frombuffer(b"\1" + plain().tobytes(), dtype, len(values), 1),
    }
    if constant:
        views["broadcast"] = lambda: np.broadcast_to(plain()[:1], len(values))
    return {
        f"numpy: {dtype}": plain,
        **{f"numpy view: {dtype} {name}": view for name, view in views.items()},
        f"subclass: numpy {dtype}": lambda: plain().view(OwnArray),
        f"array protocol: {dtype}": lambda: Convertible(plain()),
    }


_LIMITS = {dtype: (int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)) for dtype in INTS if dtype != "bool"} | {
    "bool": (0, 1)
}


def holds(dtype: str, values: Sequence[Number]) -> bool:
    """Whether a dtype has each of the values, exactly."""
    if dtype in INTS:
        least, greatest = _LIMITS[dtype]
        return all(least <= value <= greatest for value in values)
    with np.errstate(over="ignore"):
        return repr(np.array(values, dtype).tolist()) == repr([float(value) for value in values])


def row_kinds(values: list[Number]) -> Kinds:
    """Every kind of object that can hold the row."""
    # A long row has few different values: each is looked at once. (0.0 is not -0.0, and 1 not 1.0.)
    different = list({repr(value): value for value in values}.values())
    integers, constant = all(isinstance(value, int) for value in different), len(different) == 1
    wide = "int64" if integers else "float64"
    kinds: Kinds = {
        "list": lambda: list(values),
        "tuple": lambda: tuple(values),
        "subclass: list": lambda: TokenList(values),
        f"scalars: numpy {wide}": lambda: [np.dtype(wide).type(value) for value in values],
        f"scalars: torch {wide}": lambda: [torch.tensor(value, dtype=getattr(torch, wide)) for value in values],
        "scalars: mixed": lambda: [value if at % 2 else np.dtype(wide).type(value) for at, value in enumerate(values)],
    }
    if integers:
        kinds["subclass: int"] = lambda: [Token(value) for value in values]
        kinds["buffer: array.array"] = lambda: array.array("q", [int(value) for value in values])
        kinds["buffer: memoryview"] = lambda: memoryview(array.array("q", [int(value) for value in values]))
        if holds("bool", different):
            kinds["list: bools"] = lambda: [bool(value) for value in values]
            kinds["scalars: numpy bool"] = lambda: [np.bool_(value) for value in values]
    for dtype in INTS if integers else FLOATS:
        if holds(dtype, different):
            kinds |= _torch_kinds(values, dtype, constant=constant) | _numpy_kinds(values, dtype, constant=constant)
    if not integers and all(repr(value) == repr(torch.tensor(value).bfloat16().item()) for value in different):
        kinds["torch: bfloat16"] = lambda: torch.tensor(values, dtype=torch.bfloat16)
    return kinds


def unbatched(kinds: Kinds) -> Kinds:
    """The kinds of rows, and those with a first dimension of one: ``[1, L]``."""
    found = dict(kinds)
    for name, make in kinds.items():
        if family(name) in {"torch", "torch view", "numpy", "numpy view"} or name.startswith("subclass: numpy"):
            found[f"{name} [1, L]"] = partial(lambda make: make()[None], make)
        if family(name) in {"torch", "numpy"} or name in {"list", "tuple"}:
            found[f"list: one {name}"] = partial(lambda make: [make()], make)
            found[f"tuple: one {name}"] = partial(lambda make: (make(),), make)
    return found


# --- the other values of a sample, and samples ----------------------------------------------------


def tile_kinds(tiles: torch.Tensor) -> Kinds:
    """Every kind of object that can hold the tiles (or flags)."""

    def backwards() -> torch.Tensor:
        return tiles.permute(*reversed(range(tiles.ndim))).contiguous().permute(*reversed(range(tiles.ndim)))

    kinds: Kinds = {
        "torch": tiles.clone,
        "torch view: not contiguous": backwards,
        "subclass: torch": lambda: tiles.clone().as_subclass(OwnTensor),
    }
    if tiles.dtype.is_floating_point:
        kinds["torch: with gradient"] = lambda: tiles.clone().requires_grad_()
    if len(tiles) > 0:
        kinds["list: of tensors"] = lambda: list(tiles.clone())
    if tiles.dtype == torch.bfloat16:
        return kinds
    plain = tiles.numpy()
    kinds["numpy"] = plain.copy
    kinds["numpy view: Fortran order"] = lambda: np.array(plain, order="F")
    kinds["numpy view: byte-swapped"] = lambda: plain.astype(plain.dtype.newbyteorder())
    kinds["numpy view: misaligned"] = lambda: np.frombuffer(
        b"\1" + plain.tobytes(), plain.dtype, plain.size, 1
    ).reshape(plain.shape)
    kinds["subclass: numpy"] = lambda: plain.copy().view(OwnArray)
    if len(tiles) > 0:
        kinds["tuple: of arrays"] = lambda: tuple(np.array(tile) for tile in plain)
    if tiles.numel() > 0 and tiles.dtype in (torch.float32, torch.int64, torch.bool):
        kinds["list: nested"] = plain.tolist
    return kinds


def number_kinds(number: Number) -> Kinds:
    """Every kind of object that can be the number."""
    wide = "int64" if isinstance(number, int) else "float64"
    return {
        "list: number": lambda: number,
        "scalars: numpy": lambda: np.dtype(wide).type(number),
        "numpy: array": lambda: np.array(number, wide),
        "numpy: array of one": lambda: np.array([[number]], wide),
        "torch: tensor": lambda: torch.tensor(number, dtype=getattr(torch, wide)),
        "torch: tensor of one": lambda: torch.tensor([number], dtype=getattr(torch, wide)),
    }


class OwnMapping(Mapping[str, Any]):
    """A mapping that is no dict at all."""

    def __init__(self, entries: Mapping[str, Any]) -> None:
        self._entries = dict(entries)

    def __getitem__(self, key: str) -> Any:
        return self._entries[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)


SAMPLE_KINDS: tuple[Callable[[dict[str, Any]], Any], ...] = (
    dict,
    OrderedDict,
    UserDict,
    OwnMapping,
    types.MappingProxyType,
)
