"""Keys that a layout does not name, where the caller wants them in the batch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from .convert import array_of_numbers, dense, is_tensor, to_array

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def collect(
    keys: Sequence[str], samples: Sequence[Mapping[str, Any]], how: str, return_tensors: Literal["pt", "np"]
) -> dict[str, Any]:
    """The values of each key: as a list of the samples' values, or stacked.

    Stacking follows InternVL's collators: what the first sample has decides. Tensors and arrays are
    stacked, numbers (and nested lists of them) become a tensor, strings and None are left out.

    Args:
        keys: Keys of the first sample that the layout does not name.
        samples: The samples.
        how: ``"list"`` or ``"stack"``.
        return_tensors: What to make of stacked values.

    Raises:
        KeyError: A sample lacks one of the keys.
        TypeError: Values are not of one kind.
        ValueError: Values are not of one shape.
    """
    batch: dict[str, Any] = {}
    for key in keys:
        for index, sample in enumerate(samples):
            if key not in sample:
                raise KeyError(f"sample {index}: no '{key}', but sample 0 has it: expected in all samples or in none")
        values = [sample[key] for sample in samples]
        if how == "list":
            batch[key] = values
        elif values[0] is not None and not isinstance(values[0], str):
            batch[key] = _stack(key, values, return_tensors)
    return batch


def _stack(key: str, values: list[Any], return_tensors: Literal["pt", "np"]) -> Any:
    for index, value in enumerate(values):
        place = f"sample {index}: '{key}'"
        if _kind(value) is not _kind(values[0]):
            kinds = f"a {type(value).__name__}, but that of sample 0 is a {type(values[0]).__name__}"
            raise TypeError(f"{place} is {kinds}: they cannot be stacked")
        if is_tensor(value):
            dense(value, place)
        if _kind(value) is not object and value.shape != values[0].shape:
            shapes = f"shape {list(value.shape)}, but that of sample 0 has {list(values[0].shape)}"
            raise ValueError(f"{place} has {shapes}: they cannot be stacked")
    try:
        return _stack_arrays(key, values) if return_tensors == "np" else _stack_tensors(values)
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise ValueError(f"'{key}' of {len(values)} samples cannot be stacked: {error}") from error


def _kind(value: object) -> type:
    """What has to be alike in all samples: tensors with tensors, arrays with arrays, and the rest."""
    return type(None) if is_tensor(value) else np.ndarray if isinstance(value, np.ndarray) else object


def _stack_tensors(values: list[Any]) -> Any:
    import torch  # noqa: PLC0415 - imported long since where tensors are asked for

    if is_tensor(values[0]):
        return torch.stack(values)
    return torch.tensor(np.stack(values) if isinstance(values[0], np.ndarray) else values)


def _stack_arrays(key: str, values: list[Any]) -> Any:
    if is_tensor(values[0]):
        values = [to_array(value, f"sample {index}: '{key}'") for index, value in enumerate(values)]
    stacked = array_of_numbers(values) if all(map(_is_python, values)) else np.stack(values)
    if stacked.dtype.kind not in "iubfc":
        raise TypeError(f"they make an array of dtype {stacked.dtype}")
    return stacked


def _is_python(value: Any) -> bool:
    """Whether numbers are Python's, in lists or not."""
    if isinstance(value, list | tuple):
        return all(map(_is_python, value))
    return not isinstance(value, np.ndarray | np.generic)
