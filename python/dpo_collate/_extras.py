"""Keys that a layout does not name, where the caller wants them in the batch."""

from __future__ import annotations

import functools
import math
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from ._budget import allocation
from ._convert import array_of_numbers, dense, is_tensor, own_lists, to_array

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ._budget import Budget
    from ._pools import Target


def collect(extras: Mapping[Any, list[Any]], how: str, budget: Budget, target: Target) -> dict[Any, Any]:
    """The values of each key: as a list of the samples' values, or stacked.

    Stacking follows InternVL's collators: what the first sample has decides. Tensors and arrays are
    stacked, numbers (and nested lists of them) become a tensor, strings and None are left out.

    Args:
        extras: By key, the values of all samples.
        how: ``"list"`` or ``"stack"``.
        budget: What the batch may take.
        target: What to make of stacked values.

    Raises:
        TypeError: Values are not of one kind.
        ValueError: Values are not of one shape.
        MemoryError: The batch is too large.
    """
    if how == "list":
        return dict(extras)
    wanted = {key: values for key, values in extras.items() if values[0] is not None and not isinstance(values[0], str)}
    return {key: _stack(key, values, budget, target) for key, values in wanted.items()}


def _stack(key: Any, values: list[Any], budget: Budget, target: Target) -> Any:
    kind = _kind(values[0])
    shaped = kind in {"tensor", "array"}
    values = list(values)
    for index, value in enumerate(values):
        place = f"sample {index}: '{key}'"
        if isinstance(value, np.ma.MaskedArray):
            raise TypeError(f"{place} is a masked array, which has no value where it is masked")
        if _kind(value) != kind:
            kinds = f"a {type(value).__name__}, but that of sample 0 is a {type(values[0]).__name__}"
            raise TypeError(f"{place} is {kinds}: they cannot be stacked")
        if kind == "tensor":
            values[index] = dense(value, place)
        if shaped and value.shape != values[0].shape:
            shapes = f"shape {list(value.shape)}, but that of sample 0 has {list(values[0].shape)}"
            raise ValueError(f"{place} has {shapes}: they cannot be stacked")
    what = f"'{key}' of {len(values)} samples"
    if shaped:
        with _stacking(what):
            nbytes = _nbytes(values, target)
        budget.take(nbytes, lambda: (f"sample 0: '{key}'", nbytes // len(values)))
    with _stacking(what):
        stacked = _stack_tensors(values, target) if target.tensors else _stack_arrays(key, values)
    if not shaped:
        budget.take(stacked.nbytes, lambda: (what, stacked.nbytes))
    return stacked


@contextmanager
def _stacking(what: str) -> Iterator[None]:
    """Names what cannot be stacked."""
    try:
        with allocation(what):
            yield
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise ValueError(f"{what} cannot be stacked: {error}") from error


def _kind(value: object) -> str:
    """What has to be alike in all samples: tensors with tensors, arrays with arrays, numbers with numbers."""
    if is_tensor(value):
        return "tensor"
    if isinstance(value, np.ndarray):
        return "array"
    return "none" if value is None else "text" if isinstance(value, str | bytes) else "numbers"


def _nbytes(values: list[Any], target: Target) -> int:
    """Bytes of the stack: its dtype is one that all values can become."""
    count = len(values) * math.prod(values[0].shape)
    if isinstance(values[0], np.ndarray):
        return int(count * np.result_type(*values).itemsize)
    torch = sys.modules["torch"]
    dtype = _promoted(values)
    wider = dtype == torch.bfloat16 and not target.tensors
    return int(count * (torch.float32 if wider else dtype).itemsize)


def _promoted(values: list[Any]) -> Any:
    """The dtype that tensors of several dtypes have together."""
    torch = sys.modules["torch"]
    return functools.reduce(torch.promote_types, (value.dtype for value in values))


def _stack_tensors(values: list[Any], target: Target) -> Any:
    import torch  # noqa: PLC0415 - imported long since where tensors are asked for

    if is_tensor(values[0]):
        return torch.stack(values, out=target.empty_tensor(_promoted(values), (len(values), *values[0].shape)))
    stacked = torch.tensor(np.stack(values) if isinstance(values[0], np.ndarray) else own_lists(values))
    # Not in new memory: of that a DataLoader worker would have to send a descriptor.
    return target.empty_tensor(stacked.dtype, tuple(stacked.shape)).copy_(stacked)


def _stack_arrays(key: str, values: list[Any]) -> Any:
    if is_tensor(values[0]):
        values = [to_array(value, f"sample {index}: '{key}'") for index, value in enumerate(values)]
    stacked = np.asarray(np.stack(values)) if isinstance(values[0], np.ndarray) else array_of_numbers(values)
    if stacked.dtype.kind not in "iubfc":
        raise TypeError(f"they make an array of dtype {stacked.dtype}")
    return stacked
