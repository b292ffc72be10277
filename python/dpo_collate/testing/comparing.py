"""What is compared: batches, errors, and values that nobody may touch."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from .reference_cells import Array


def described(value: Any) -> Any:
    """A value of a batch in such a form that it can be compared; those of lists are the very objects."""
    if isinstance(value, list):
        return [id(item) for item in value]
    return value if isinstance(value, Array) else Array.of(value)


def outcome(collate: Any, *arguments: Any, **options: Any) -> list[tuple[str, Any]] | type[Exception]:
    """The batch, key by key in its order, or which exception there is instead."""
    try:
        batch = collate(*arguments, **options)
    except (TypeError, ValueError, KeyError, OverflowError) as error:
        return type(error)
    if type(batch) is not dict:
        raise AssertionError(f"a batch is a dict, and this is {type(batch)}")
    return [(key, described(value)) for key, value in batch.items()]


def fingerprint(value: Any) -> Any:
    """All that there is to a value: while it stays the same, the value has not been touched."""
    if isinstance(value, torch.Tensor):
        facts = (value.dtype, value.shape, value.stride(), value.storage_offset(), value.requires_grad, value._version)  # noqa: SLF001 - torch counts writes there
        return (id(value), facts, bytes(value.untyped_storage()))
    if isinstance(value, np.ndarray):
        return (id(value), value.dtype.str, value.shape, value.strides, value.flags.writeable, value.tobytes())
    if isinstance(value, list | tuple):
        return (id(value), [fingerprint(item) for item in value])
    if hasattr(value, "items"):
        return (id(value), [(key, fingerprint(item)) for key, item in value.items()])
    return (id(value), repr(value))
