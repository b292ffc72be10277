"""Numbers, and arrays of them, in plain Python: what the reference makes batches of."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

Number: TypeAlias = int | float

RANGES = {"int64": (-(2**63), 2**63 - 1), "int32": (-(2**31), 2**31 - 1), "bool": (0, 1), "uint8": (0, 255)}
"""The integers that fit a cell: least and greatest."""


@dataclass(frozen=True)
class Array:
    """An array of a batch: nested lists of numbers, and what they do not tell."""

    dtype: str
    shape: tuple[int, ...]
    values: Any

    def __eq__(self, other: object) -> bool:
        """By what is printed: 1, 1.0 and True differ there, and a NaN equals itself."""
        return isinstance(other, Array) and repr(self) == repr(other)

    __hash__ = None  # type: ignore[assignment]

    @classmethod
    def of(cls, value: Any) -> Array:
        """A tensor or an array, or (nested) lists of numbers, which are what torch makes of them."""
        if hasattr(value, "dtype"):
            name = getattr(value.dtype, "name", None) or str(value.dtype).removeprefix("torch.")
            return cls(name, tuple(value.shape), value.tolist())
        if isinstance(value, list | tuple) and value and all(hasattr(item, "dtype") for item in value):
            return cls.stack(value)
        kinds = {type(number) for number in _leaves(value)}
        if not isinstance(value, list | tuple) or not kinds <= {bool, int, float}:
            raise TypeError(f"{value!r} is no array of numbers")
        dtype = "float32" if float in kinds or not kinds else "int64" if int in kinds else "bool"
        return cls(dtype, _shape(value), _cells(value, dtype))

    @classmethod
    def stack(cls, values: Sequence[Any]) -> Array:
        """Tensors (or arrays) of one shape and dtype, along a new first dimension."""
        if not all(type(value) is type(values[0]) for value in values):
            raise TypeError("values of different kinds cannot be stacked")
        arrays = [cls.of(value) for value in values]
        if len({array.shape for array in arrays}) > 1:
            raise ValueError("values of different shapes cannot be stacked")
        return cls(arrays[0].dtype, (len(arrays), *arrays[0].shape), [array.values for array in arrays])


def numbers(value: Any, *, unbatch: bool = False) -> list[Number]:
    """A row of a sample: a tensor, array, list or tuple of one dimension; or of two, the first of which is one."""
    if hasattr(value, "__array__") and not hasattr(value, "tolist"):
        value = value.__array__()
    if unbatch and getattr(value, "ndim", 0) == 2 and value.shape[0] == 1:
        value = value[0]
    elif unbatch and isinstance(value, list | tuple) and len(value) == 1:
        (only,) = value
        value = only if isinstance(only, list | tuple) or getattr(only, "ndim", 0) == 1 else value
    if getattr(value, "ndim", 1) != 1:
        raise ValueError("a row has one dimension")
    items = value.tolist() if hasattr(value, "tolist") else value
    if not isinstance(items, list | tuple):
        raise TypeError(f"{value!r} is no row")
    if any(getattr(item, "ndim", 0) for item in items):
        raise TypeError("a row of rows")
    return [single(item) for item in items]


def single(value: Any) -> Number:
    """A number; a tensor or array of one element is one too."""
    if hasattr(value, "shape"):
        if any(size != 1 for size in value.shape):
            raise ValueError("not a single number")
        value = value.item()
    if not isinstance(value, int | float):
        raise TypeError(f"{value!r} is no number")
    return int(value) if isinstance(value, int) else value


def cell(number: Number, dtype: str) -> Number:
    """The number as a cell of that type holds it: integers exactly, floats rounded to the nearest.

    (Those of bfloat16 as float32 has them: the tests take numbers that are the same in both.)
    """
    if "float" not in dtype:
        if isinstance(number, float):
            raise TypeError(f"{number!r} is no integer")
        least, greatest = RANGES[dtype]
        if not least <= number <= greatest:
            raise OverflowError(f"{number} does not fit {dtype}")
        return bool(number) if dtype == "bool" else number
    if isinstance(number, int):
        if not -(2**63) <= number < 2**63:
            raise OverflowError(f"{number} does not fit 64 bits")
        # At once to the 24 bits that float32 has: by way of float64 it would be rounded twice.
        spare = 2 ** max(number.bit_length() - (24 if dtype == "float32" else 53), 0)
        number = float(round(Fraction(number, spare)) * spare)
    for short, code in (("float32", "<f"), ("bfloat16", "<f"), ("float16", "<e")):
        if dtype == short:
            (number,) = struct.unpack(code, struct.pack(code, number))
    return number


def converted(number: Number, dtype: str) -> Number:
    """The number as another dtype, which must hold it: floats are rounded, and become no integers."""
    if isinstance(number, float) and "float" not in dtype:
        raise TypeError("a float where integers belong")
    return cell(number, dtype)


def mapped(value: Any, change: Any) -> Any:
    """Nested lists, each number changed."""
    return [mapped(item, change) for item in value] if isinstance(value, list) else change(value)


def _leaves(value: Any) -> Iterator[Any]:
    if not isinstance(value, list | tuple):
        yield value
        return
    for item in value:
        yield from _leaves(item)


def _shape(value: Any) -> tuple[int, ...]:
    if not isinstance(value, list | tuple):
        return ()
    shapes = {_shape(item) for item in value}
    if len(shapes) > 1:
        raise ValueError("lists of different lengths")
    return (len(value), *(shapes.pop() if shapes else ()))


def _cells(value: Any, dtype: str) -> Any:
    return [_cells(item, dtype) for item in value] if isinstance(value, list | tuple) else cell(value, dtype)


def full(shape: Sequence[int], value: Number) -> Any:
    """Nested lists of that shape, the same value everywhere."""
    return [full(shape[1:], value) for _ in range(shape[0])] if shape else value
