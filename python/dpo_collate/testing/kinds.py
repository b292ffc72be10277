"""Every kind of object that a value of a sample may be, by name: the same values, dressed differently."""

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
    from .reference import Number

NDArray: TypeAlias = npt.NDArray[Any]

# --- one row, as every kind of object -------------------------------------------------------------

INTS = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "bool")
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


def _torch_views(values: list[Number], dtype: torch.dtype) -> dict[str, Callable[[], torch.Tensor]]:
    def spread(columns: int) -> torch.Tensor:
        out = torch.full((len(values), columns), OTHER if dtype != torch.bool else 1).to(dtype)
        out[:, 1] = plain()
        return out

    def plain() -> torch.Tensor:
        return torch.tensor(values, dtype=dtype)

    views: dict[str, Callable[[], torch.Tensor]] = {
        "plain": plain,
        "strided": lambda: spread(2)[:, 1],
        "offset": lambda: torch.cat([plain().new_ones(3), plain(), plain().new_ones(1)])[3 : 3 + len(values)],
        "subclass": lambda: plain().as_subclass(OwnTensor),
        "parameter": lambda: torch.nn.Parameter(plain(), requires_grad=dtype.is_floating_point),
    }
    if values and all(repr(value) == repr(values[0]) for value in values):
        views["expanded"] = lambda: plain()[:1].expand(len(values))
    if dtype in (torch.float32, torch.float64):
        # Its memory holds the negative of its values.
        views["negative bit"] = lambda: torch.complex(torch.zeros_like(plain()), -plain()).conj().imag
    return views


def _numpy_views(values: list[Number], dtype: str) -> dict[str, Callable[[], NDArray]]:
    def plain() -> NDArray:
        return np.array(values, dtype)

    def read_only() -> NDArray:
        out = plain()
        out.flags.writeable = False
        return out

    def column() -> NDArray:
        return np.stack([np.ones_like(plain()), plain()], axis=1)[:, 1]

    views: dict[str, Callable[[], NDArray]] = {
        "plain": plain,
        "column": column,
        "every second": lambda: np.repeat(plain(), 2)[::2],
        "negative stride": lambda: plain()[::-1].copy()[::-1],
        "read-only": read_only,
        "byte-swapped": lambda: plain().astype(plain().dtype.newbyteorder()),
        "misaligned": lambda: np.frombuffer(b"\1" + plain().tobytes(), dtype, len(values), 1),
        "subclass": lambda: plain().view(OwnArray),
    }
    if values and all(repr(value) == repr(values[0]) for value in values):
        views["broadcast"] = lambda: np.broadcast_to(plain()[:1], len(values))
    return views


def holds(dtype: str, values: list[Number]) -> bool:
    """Whether a dtype has each of the values, exactly."""
    if dtype == "bool":
        return set(values) <= {0, 1}
    if dtype in INTS:
        limits = np.iinfo(dtype)
        return all(limits.min <= value <= limits.max for value in values)
    with np.errstate(over="ignore"):
        return repr(np.array(values, dtype).tolist()) == repr([float(value) for value in values])


def row_kinds(values: list[Number]) -> dict[str, Callable[[], Any]]:
    """Every kind of object that can hold the row, by name; each call makes a new one."""
    integers = all(isinstance(value, int) for value in values)
    wide = "int64" if integers else "float64"
    kinds: dict[str, Callable[[], Any]] = {
        "list": lambda: list(values),
        "tuple": lambda: tuple(values),
        "list subclass": lambda: TokenList(values),
        f"list of numpy {wide}": lambda: [np.dtype(wide).type(value) for value in values],
        "list of torch scalars": lambda: [torch.tensor(value, dtype=getattr(torch, wide)) for value in values],
        "mixed list": lambda: [value if at % 2 else np.dtype(wide).type(value) for at, value in enumerate(values)],
    }
    if integers:
        kinds["list of an int subclass"] = lambda: [Token(value) for value in values]
        kinds["array.array"] = lambda: array.array("q", [int(value) for value in values])
        kinds["memoryview"] = lambda: memoryview(array.array("q", [int(value) for value in values]))
        if holds("bool", values):
            kinds["list of bools"] = lambda: [bool(value) for value in values]
            kinds["list of numpy bools"] = lambda: [np.bool_(value) for value in values]
    for dtype in INTS if integers else FLOATS:
        if holds(dtype, values):
            kinds |= {
                f"torch {dtype} {name}": view for name, view in _torch_views(values, getattr(torch, dtype)).items()
            }
            views = _numpy_views(values, dtype)
            kinds |= {f"numpy {dtype} {name}": view for name, view in views.items()}
            kinds[f"__array__ {dtype}"] = partial(lambda plain: Convertible(plain()), views["plain"])
    if not integers and all(repr(value) == repr(torch.tensor(value).bfloat16().item()) for value in values):
        kinds["torch bfloat16"] = lambda: torch.tensor(values, dtype=torch.bfloat16)
    return kinds


# --- the other values of a sample, and samples ----------------------------------------------------


def tile_kinds(tiles: torch.Tensor) -> dict[str, Callable[[], Any]]:
    """Every kind of object that can hold the tiles (or flags)."""

    def backwards() -> torch.Tensor:
        return tiles.permute(*reversed(range(tiles.ndim))).contiguous().permute(*reversed(range(tiles.ndim)))

    kinds: dict[str, Callable[[], Any]] = {
        "torch": tiles.clone,
        "torch not contiguous": backwards,
        "torch subclass": lambda: tiles.clone().as_subclass(OwnTensor),
    }
    if tiles.dtype.is_floating_point:
        kinds["torch with gradient"] = lambda: tiles.clone().requires_grad_()
    if len(tiles) > 0:
        kinds["list of tensors"] = lambda: list(tiles.clone())
    if tiles.dtype == torch.bfloat16:
        return kinds
    plain = tiles.numpy()
    kinds["numpy"] = plain.copy
    kinds["numpy Fortran order"] = lambda: np.array(plain, order="F")
    kinds["numpy byte-swapped"] = lambda: plain.astype(plain.dtype.newbyteorder())
    kinds["numpy misaligned"] = lambda: np.frombuffer(b"\1" + plain.tobytes(), plain.dtype, plain.size, 1).reshape(
        plain.shape
    )
    kinds["numpy subclass"] = lambda: plain.copy().view(OwnArray)
    if len(tiles) > 0:
        kinds["tuple of arrays"] = lambda: tuple(np.array(tile) for tile in plain)
    if tiles.numel() > 0 and tiles.dtype in (torch.float32, torch.int64, torch.bool):
        kinds["nested lists"] = plain.tolist
    return kinds


def number_kinds(number: Number) -> dict[str, Callable[[], Any]]:
    """Every kind of object that can be the number."""
    wide = "int64" if isinstance(number, int) else "float64"
    return {
        "number": lambda: number,
        "numpy scalar": lambda: np.dtype(wide).type(number),
        "array": lambda: np.array(number, wide),
        "array of one": lambda: np.array([[number]], wide),
        "tensor": lambda: torch.tensor(number, dtype=getattr(torch, wide)),
        "tensor of one": lambda: torch.tensor([number], dtype=getattr(torch, wide)),
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
