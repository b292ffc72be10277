"""Values that the core does not read directly become plain arrays and numbers here.

The core reads exact ``torch.Tensor``, ``numpy.ndarray``, ``list`` and ``tuple`` objects by itself.
What is left comes through this module: tensors of older torch or with gradients, floating-point
tensors, subclasses, buffers, objects with ``__array__``, lists that hold NumPy or torch scalars, and
everything that is wrong. Speed does not matter here, the sentence of the error does.
"""

from __future__ import annotations

import operator
import reprlib
import sys
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from ._budget import allocation, check_size, is_no_memory

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt
    import torch

_USER_DTYPES = 256
"""Where the numbers of dtypes that somebody registered begin (NumPy's NPY_USERDEF); the newer kind has -1."""

_EXPECTED = "expected a 1-D tensor, array or list of integers"


def row(value: Any, place: str, floats: bool) -> npt.NDArray[Any]:  # noqa: FBT001 - called by the core
    """A row of tokens (or of values parallel to them) as a plain 1-D array of numbers.

    Args:
        value: What the sample has.
        place: How messages begin: ``sample 3: 'chosen_labels'``.
        floats: Whether floating-point numbers are of use.

    Raises:
        TypeError: It is no row of numbers, or an array of floats that are of no use.
        ValueError: It has not one dimension, or lies on another device.
        OverflowError: It holds an integer beyond 64 bits.
        MemoryError: There is no memory for a copy of it.
    """
    if isinstance(value, list | tuple):
        return _from_items(list(value), place)
    with allocation(place):
        return _from_array(value, place, floats=floats)


def unbatched_row(value: Any, place: str, floats: bool) -> npt.NDArray[Any]:  # noqa: FBT001 - called by the core
    """As :func:`row`; a first dimension of one is none."""
    nested = isinstance(value, list | tuple) and len(value) == 1
    if nested and (isinstance(value[0], list | tuple) or getattr(value[0], "ndim", 0) == 1):
        value = value[0]
    if getattr(value, "ndim", 0) == 2 and value.shape[0] == 1:
        value = value[0]
    return row(value, place, floats)


def _from_array(value: Any, place: str, *, floats: bool) -> npt.NDArray[Any]:
    array, dtype = _array_of(value, place)
    if array.ndim != 1:
        raise ValueError(f"{place} has shape {list(array.shape)}, expected one dimension")
    # An empty row has no value that could be misread: `torch.tensor([])` is float32.
    kinds = "iubf" if floats or not array.size else "iub"
    if array.dtype.kind not in kinds or array.itemsize > 8 or not 0 <= array.dtype.num < _USER_DTYPES:
        raise TypeError(f"{place} has dtype {dtype}, expected {'numbers' if floats else 'integers'}")
    if array.dtype.kind == "f" and array.itemsize == 2:
        check_size(4 * array.size, place)
        return array.astype(np.float32)
    return array


def _array_of(value: Any, place: str) -> tuple[npt.NDArray[Any], str]:
    """The value as a plain array, and the dtype that it had: NumPy has no bfloat16."""
    if is_tensor(value):
        return to_array(dense(value, place), place), str(value.dtype).removeprefix("torch.")
    if isinstance(value, np.ma.MaskedArray):
        raise TypeError(f"{place} is a masked array, which has no value where it is masked: {_EXPECTED}")
    if isinstance(value, np.ndarray):
        array = np.asarray(value)
    elif isinstance(value, np.generic | str | bytes) or not (_is_buffer(value) or hasattr(value, "__array__")):
        raise TypeError(f"{place} is {_described(value)}, {_EXPECTED}")
    else:
        array = np.asarray(memoryview(value) if _is_buffer(value) else value)
    return array, str(array.dtype)


def number(value: Any, place: str) -> int | float:
    """A number as a Python int or float; tensors and arrays of one element are numbers too.

    Raises:
        TypeError: It is none.
        ValueError: It has more than one element.
    """
    if is_tensor(value):
        value = dense(value, place)
    elif isinstance(value, np.ma.MaskedArray):
        raise TypeError(f"{place} is a masked array, expected a number")
    if isinstance(value, np.ndarray | np.generic) and value.dtype.kind in "mM":
        raise TypeError(f"{place} has dtype {value.dtype}, expected a number")
    if isinstance(value, np.ndarray | np.generic) or is_tensor(value):
        if value.size != 1 if isinstance(value, np.ndarray | np.generic) else value.numel() != 1:
            raise ValueError(f"{place} has shape {list(value.shape)}, expected a single number")
        value = value.item()
    for kind, read in (("__index__", operator.index), ("__float__", float)):
        if hasattr(value, kind):
            return read(value)
    raise TypeError(f"{place} is {_described(value)}, expected a number")


def array_of_numbers(value: Any) -> npt.NDArray[Any]:
    """Python's numbers, in nested lists or not, as torch has them: bool, int64 or float32.

    NumPy's numbers have their own dtype; of several, the result is what all of them can become.

    Raises:
        OverflowError: An integer is beyond 64 bits.
        TypeError, ValueError: They are no numbers, or make no array.
    """
    value = own_lists(value)
    array = np.asarray(value)
    items = list(_flat(value))
    if array.dtype.kind in "uf" and any(isinstance(item, int) and not -(1 << 63) <= item < 1 << 63 for item in items):
        raise OverflowError("an integer does not fit int64")
    # Of the widest kind alone: one float among integers makes floats of its own width, as in torch.
    dtypes: set[np.dtype[Any] | None] = {
        item.dtype if isinstance(item, np.ndarray | np.generic) else _TORCH.get(type(item)) for item in items
    }
    widest = [dtype for dtype in dtypes if dtype is not None and dtype.kind == array.dtype.kind]
    if array.dtype.kind not in "if" or None in dtypes:
        return array
    with np.errstate(over="ignore"):  # infinite, as in torch
        return array.astype(np.result_type(*(widest or [_TORCH[float]])), copy=False)


MOST_ITEMS = 1 << 26
"""So many numbers and lists nested lists may hold: no real ones do, and lists that share others could hold any."""

_MOST_DIMENSIONS = 64
"""NumPy's."""


def own_lists(value: Any) -> Any:
    """Nested lists and tuples as lists of our own; anything else as it is.

    Python code in them (an element's ``__array__`` or ``__index__``) may change the lists: NumPy and torch, which read
    them as they lie, reach freed memory then.

    Raises:
        ValueError: A list contains itself, or they are nested too deep.
        MemoryError: They hold too many numbers and lists.
    """
    return _own_lists(value, {}, 0)[0]


def _own_lists(value: Any, made: dict[int, tuple[Any, Any, int] | None], depth: int) -> tuple[Any, int]:
    """The copy, and how many items it holds; `made` has the lists that were met: itself, its copy, its items."""
    if not isinstance(value, list | tuple) or hasattr(type(value), "__array__"):
        return value, 1
    if depth > _MOST_DIMENSIONS:
        raise ValueError(f"lists are nested more than {_MOST_DIMENSIONS} deep")
    if id(value) in made:
        known = made[id(value)]
        if known is None:
            raise ValueError("a list contains itself")
        return known[1:]
    made[id(value)] = None
    # Its items, not what a class of its own makes of them: NumPy reads it so as well.
    copy: list[Any] = list.copy(value) if isinstance(value, list) else list(tuple.__iter__(value))
    items = len(copy)
    if any(issubclass(kind, list | tuple) for kind in set(map(type, copy))):
        parts = [_own_lists(part, made, depth + 1) for part in copy]
        copy, items = [part for part, _ in parts], items + sum(count for _, count in parts)
    if items > MOST_ITEMS:
        raise MemoryError(f"lists hold {items} numbers and lists, expected at most {MOST_ITEMS}")
    made[id(value)] = value, copy, items  # with what it is the id of, which no other gets so
    return copy, items


_TORCH: dict[type, np.dtype[Any]] = {int: np.dtype(np.int64), float: np.dtype(np.float32), bool: np.dtype(np.bool_)}
"""What torch makes of Python's numbers. An empty list is of its floats."""


def _flat(value: Any) -> Iterator[Any]:
    if isinstance(value, list | tuple):
        for item in value:
            yield from _flat(item)
    else:
        yield value


def is_tensor(value: object) -> bool:
    """Whether it is a torch tensor. Does not import torch: without it there are none."""
    kind = getattr(sys.modules.get("torch"), "Tensor", None)  # absent as well while torch is being imported
    return kind is not None and issubclass(type(value), kind)  # what only says so, as a Mock does, is none


def dense(tensor: torch.Tensor, place: str) -> torch.Tensor:
    """The same as a plain tensor without gradient, if it lies in the memory of this machine as it is.

    Raises:
        TypeError: It is nested or sparse, or has no values (a fake or functional tensor).
        ValueError: It lies on another device, or its storage was resized below its shape.
    """
    torch = sys.modules["torch"]
    # In the order of what a training batch is made of: this runs for every image of it.
    if type(tensor) is not torch.Tensor:
        if type(tensor).__torch_dispatch__ is not torch.Tensor.__torch_dispatch__:
            _refuse(tensor, place)  # fake and distributed tensors: what is behind them is Python's business
        with torch._C.DisableTorchFunctionSubclass():  # noqa: SLF001 - its values are wanted, its code is not asked
            tensor = tensor.as_subclass(torch.Tensor)
    if tensor.layout is not torch.strided or tensor.is_nested or not tensor.is_cpu or tensor.is_quantized:
        _refuse(tensor, place)
    if torch._is_functional_tensor(tensor):  # noqa: SLF001 - there is no public name
        _refuse(tensor, place)  # `numpy()` of it is an array of anything
    cells = tensor.numel()
    if cells:
        if not tensor.is_contiguous():
            cells = 1 + sum((size - 1) * step for size, step in zip(tensor.shape, tensor.stride(), strict=True))
        if (tensor.storage_offset() + cells) * tensor.itemsize > tensor.untyped_storage().nbytes():
            # torch itself reads beyond the end then.
            raise ValueError(f"{place} is a tensor whose storage is smaller than its shape")
    return tensor.detach() if tensor.requires_grad else tensor


def _refuse(tensor: torch.Tensor, place: str) -> NoReturn:
    torch = sys.modules["torch"]
    if tensor.is_nested:
        raise TypeError(f"{place} is a nested tensor, expected a dense one")
    if tensor.layout is not torch.strided:
        kind = str(tensor.layout).removeprefix("torch.")
        raise TypeError(f"{place} is a tensor of layout {kind}, expected a dense one")
    if not tensor.is_cpu:
        raise ValueError(f"{place} is on device {tensor.device}, expected cpu: collate first, then move the batch")
    if tensor.is_quantized:
        raise TypeError(f"{place} is a quantized tensor, expected plain values")
    raise TypeError(f"{place} is {_described(tensor)} of dtype {tensor.dtype}, expected plain values")


def to_array(tensor: torch.Tensor, place: str) -> npt.NDArray[Any]:
    """The values of a dense tensor. bfloat16, which NumPy does not have, becomes float32.

    Raises:
        TypeError: Its values are of a kind that NumPy does not know.
    """
    try:
        if str(tensor.dtype) == "torch.bfloat16":
            check_size(4 * tensor.numel(), place)
            tensor = tensor.float()
        if tensor._is_zerotensor():  # noqa: SLF001 - there is no public name
            tensor = tensor.clone()  # of a tensor without memory older torch makes an array of anything
        return tensor.numpy(force=True)
    except (RuntimeError, TypeError) as error:
        if is_no_memory(error):
            raise
        raise TypeError(f"{place} is {_described(tensor)} of dtype {tensor.dtype}, expected plain values") from error


def _from_items(items: list[Any], place: str) -> npt.NDArray[Any]:
    """Reads a list item by item: ``__index__`` first, as Python does for anything that is an integer."""
    # NumPy's bools are the one kind of integer that has no __index__ (or, before NumPy 2, an unwanted one).
    items = [int(item) if isinstance(item, np.bool_) else item for item in items]
    try:
        if not any(getattr(item, "ndim", 0) for item in items):  # one-element tensors have __index__ too
            return np.array([operator.index(item) for item in items], dtype=np.int64)
    except (TypeError, OverflowError):
        # Which item it was is not told.
        pass
    numbers: list[int | float] = []
    for position, item in enumerate(items):
        where = f"{place} holds {_described(item)} at position {position}"
        if hasattr(item, "__index__") and getattr(item, "ndim", 0) == 0:
            index = _index(item)
            if index is not None and not -(1 << 63) <= index < 1 << 63:
                raise OverflowError(f"{where}, which does not fit int64")
            numbers.append(float(item) if index is None else index)
        elif isinstance(item, float | np.floating):
            numbers.append(float(item))
        else:
            raise TypeError(f"{where}, expected an integer")
    dtype = np.int64 if all(isinstance(entry, int) for entry in numbers) else np.float64
    return np.array(numbers, dtype=dtype)


def _index(item: Any) -> int | None:
    """The integer that it is. Tensors have ``__index__`` whatever their dtype: None for a float's."""
    try:
        return operator.index(item)
    except TypeError:
        return None


def _is_buffer(value: object) -> bool:
    try:
        memoryview(value).release()  # type: ignore[arg-type]
    except (TypeError, ValueError, BufferError):  # no buffer; one that was released; one that is not contiguous
        return False
    return True


def _described(value: object) -> str:
    """A short description: the value itself where that helps, else its type."""
    if isinstance(value, int | float | str | bytes | list | tuple | dict | np.generic) or value is None:
        try:
            return reprlib.repr(value.item() if isinstance(value, np.generic) else value)
        except ValueError:  # an int of more digits than Python prints
            return f"an integer of {value.bit_length()} bits" if isinstance(value, int) else type(value).__name__
    return f"a {type(value).__name__}"
