"""Keys that a layout does not name, where the caller wants them in the batch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ._budget import allocation
from ._convert import array_of_numbers, dense, is_tensor, to_array

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ._budget import Budget


def collect(
    extras: Mapping[Any, list[Any]], how: str, budget: Budget, return_tensors: Literal["pt", "np"]
) -> dict[Any, Any]:
    """The values of each key: as a list of the samples' values, or stacked.

    Stacking follows InternVL's collators: what the first sample has decides. Tensors and arrays are
    stacked, numbers (and nested lists of them) become a tensor, strings and None are left out.

    Args:
        extras: By key, the values of all samples.
        how: ``"list"`` or ``"stack"``.
        budget: What the batch may take.
        return_tensors: What to make of stacked values.

    Raises:
        TypeError: Values are not of one kind.
        ValueError: Values are not of one shape.
        MemoryError: The batch is too large.
    """
    if how == "list":
        return dict(extras)
    wanted = {key: values for key, values in extras.items() if values[0] is not None and not isinstance(values[0], str)}
    return {key: _stack(key, values, budget, return_tensors) for key, values in wanted.items()}


def _stack(key: Any, values: list[Any], budget: Budget, return_tensors: Literal["pt", "np"]) -> Any:
    for index, value in enumerate(values):
        place = f"sample {index}: '{key}'"
        if isinstance(value, np.ma.MaskedArray):
            raise TypeError(f"{place} is a masked array, which has no value where it is masked")
        if _kind(value) != _kind(values[0]):
            kinds = f"a {type(value).__name__}, but that of sample 0 is a {type(values[0]).__name__}"
            raise TypeError(f"{place} is {kinds}: they cannot be stacked")
        if is_tensor(value):
            dense(value, place)
        if _kind(value) in _SHAPED and value.shape != values[0].shape:
            shapes = f"shape {list(value.shape)}, but that of sample 0 has {list(values[0].shape)}"
            raise ValueError(f"{place} has {shapes}: they cannot be stacked")
    if _kind(values[0]) in _SHAPED:
        budget.take(sum(value.nbytes for value in values), f"sample 0: '{key}'", values[0].nbytes)
    try:
        with allocation(f"'{key}' of {len(values)} samples"):
            stacked = _stack_arrays(key, values) if return_tensors == "np" else _stack_tensors(values)
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise ValueError(f"'{key}' of {len(values)} samples cannot be stacked: {error}") from error
    if _kind(values[0]) not in _SHAPED:
        budget.take(stacked.nbytes, f"'{key}' of {len(values)} samples", stacked.nbytes)
    return stacked


def _kind(value: object) -> str:
    """What has to be alike in all samples: tensors with tensors, arrays with arrays, numbers with numbers."""
    if is_tensor(value):
        return "tensor"
    if isinstance(value, np.ndarray):
        return "array"
    return "none" if value is None else "text" if isinstance(value, str | bytes) else "numbers"


_SHAPED = ("tensor", "array")


def _stack_tensors(values: list[Any]) -> Any:
    import torch  # noqa: PLC0415 - imported long since where tensors are asked for

    if is_tensor(values[0]):
        return torch.stack(values)
    return torch.tensor(np.stack(values) if isinstance(values[0], np.ndarray) else values)


def _stack_arrays(key: str, values: list[Any]) -> Any:
    if is_tensor(values[0]):
        values = [to_array(value, f"sample {index}: '{key}'") for index, value in enumerate(values)]
    stacked = np.stack(values) if isinstance(values[0], np.ndarray) else array_of_numbers(values)
    if stacked.dtype.kind not in "iubfc":
        raise TypeError(f"they make an array of dtype {stacked.dtype}")
    return stacked
