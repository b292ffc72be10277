"""Code that makes a value again: samples of any kind of object, tables, collators. What repro scripts are made of."""

from __future__ import annotations

import array
import math
import pickle
import types
from collections import OrderedDict, UserDict
from dataclasses import MISSING, fields, is_dataclass
from functools import partial
from typing import Any

import numpy as np
import torch

_NUMBERS = (bool, int, str, bytes, type(None))


class Code:
    """Writes values as expressions, and notes what these need to be imported.

    Example:
        >>> from dpo_collate.testing.fuzzing.literals import Code
        >>> code = Code()
        >>> code.of({"ids": torch.tensor([1, 2, 3])[::2], "margin": float("nan")})
        "{'ids': torch.as_strided(torch.tensor([1, 2, 3], dtype=torch.int64), (2,), (2,), 0), 'margin': float('nan')}"
        >>> code.imports
        {'import torch': None}
    """

    def __init__(self) -> None:
        self.imports: dict[str, None] = {}
        self.texts: dict[str, str] = {}

    def of(self, value: Any) -> str:  # noqa: PLR0911 - one for each kind
        """The expression that makes an equal object of the same kind.

        Args:
            value: Numbers, text, containers, tensors, arrays, the objects of ``kinds.py``, dataclasses; anything else
                is written as the bytes that it pickles to.
        """
        if type(value) in _NUMBERS:
            return repr(value)
        if type(value) is float:
            return repr(value) if math.isfinite(value) else f"float('{value}')"
        if isinstance(value, torch.Tensor):
            return self._tensor(value)
        if isinstance(value, np.ndarray):
            return self._array(value)
        if isinstance(value, np.generic):
            return f"{self._array(np.asarray(value))}[()]"
        if type(value) in (list, tuple, dict):
            return self._container(value)
        if isinstance(value, partial):
            options = "".join(f", {name}={self.of(each)}" for name, each in value.keywords.items())
            return f"{self._named(partial)}({self._named(value.func)}{options})"
        if is_dataclass(value):
            return self._dataclass(value)
        return self._other(value)

    def _named(self, thing: Any) -> str:
        """Something that a module has."""
        self.imports[f"from {thing.__module__} import {thing.__qualname__}"] = None
        return str(thing.__qualname__)

    def _container(self, value: Any) -> str:
        if isinstance(value, dict):
            return "{" + ", ".join(f"{self.of(key)}: {self.of(each)}" for key, each in value.items()) + "}"
        inner = ", ".join(map(self.of, value))
        if isinstance(value, list):
            return f"[{inner}]"
        return f"({inner},)" if len(value) == 1 else f"({inner})"

    def _other(self, value: Any) -> str:
        """The objects of ``kinds.py``."""
        kind = type(value)
        if isinstance(value, array.array):
            self.imports["import array"] = None
            return f"array.{value!r}"
        if isinstance(value, memoryview) and isinstance(value.obj, array.array):
            return f"memoryview({self.of(value.obj)})"
        if kind in (OrderedDict, UserDict):
            return f"{self._named(kind)}({self.of(dict(value))})"
        if isinstance(value, types.MappingProxyType):
            self.imports["import types"] = None
            return f"types.MappingProxyType({self.of(dict(value))})"
        if kind.__module__ == "dpo_collate.testing.drawing.kinds":
            inner: Any = int(value) if isinstance(value, int) else list(value) if isinstance(value, list) else None
            inner = inner if inner is not None else getattr(value, "values", None)
            return f"{self._named(kind)}({self.of(dict(value) if callable(inner) else inner)})"
        self.imports["import pickle"] = None
        return f"pickle.loads({pickle.dumps(value)!r})"

    def _dataclass(self, value: Any) -> str:
        """Of the fields those that are not what they are by default."""
        given = [(field, getattr(value, field.name)) for field in fields(value) if field.init]
        said = [
            f"{field.name}={self.of(each)}"
            for field, each in given
            if field.default is MISSING or type(each) is not type(field.default) or each != field.default
        ]
        return f"{self._named(type(value))}({', '.join(said)})"

    def _array(self, value: np.ndarray[Any, Any]) -> str:
        """An array, and how it lies in memory where that is not as NumPy makes them."""
        self.imports["import numpy as np"] = None
        if type(value) is not np.ndarray:
            return f"{self._array(value.view(np.ndarray))}.view({self._named(type(value))})"
        if value.dtype.isnative and value.flags.carray:
            return f"np.array({self.of(value.tolist())}, np.{value.dtype.type.__name__}).reshape({value.shape})"
        first = value.ctypes.data
        steps = [(size - 1) * stride for size, stride in zip(value.shape, value.strides, strict=True)]
        low, high = (sum(step for step in steps if (step < 0) == below) for below in (True, False))
        memory = _memory(first + low, high - low + value.itemsize) if value.size else b""
        # An address that the dtype is not aligned to stays one, and bytes are read-only.
        before = b"\0" if not value.flags.aligned else b""
        held = repr(before + memory) if not value.flags.writeable else f"bytearray({before + memory!r})"
        offset = len(before) - low if value.size else 0
        return f"np.ndarray({value.shape}, {value.dtype.str!r}, {held}, {offset}, {value.strides})"

    def _tensor(self, value: torch.Tensor) -> str:
        """A tensor, its strides, and whether it is of a class of its own, negated or has a gradient."""
        self.imports["import torch"] = None
        if type(value) is torch.nn.Parameter:
            return f"torch.nn.Parameter({self._tensor(value.detach())}, requires_grad={value.requires_grad})"
        if type(value) is not torch.Tensor:
            return f"{self._tensor(value.as_subclass(torch.Tensor))}.as_subclass({self._named(type(value))})"
        if value.requires_grad:
            return f"{self._tensor(value.detach())}.requires_grad_()"
        if value.is_neg():
            return f"{self._tensor(torch._neg_view(value))}._neg_view()"  # noqa: SLF001 - there is no other name
        if value.is_contiguous() and value.storage_offset() == 0:
            made = f"torch.tensor({self.of(value.tolist())}, dtype={value.dtype})"
            return made if value.ndim == 1 else f"{made}.reshape({tuple(value.shape)})"
        size = value.untyped_storage().nbytes() // value.element_size()
        memory = torch.empty(0, dtype=value.dtype).set_(value.untyped_storage(), 0, (size,), (1,))
        place = f"{tuple(value.shape)}, {value.stride()}, {value.storage_offset()}"
        return f"torch.as_strided({self._tensor(memory)}, {place})"


def _memory(address: int, size: int) -> bytes:
    import ctypes  # noqa: PLC0415 - only for the strangest of arrays

    return ctypes.string_at(address, size)
