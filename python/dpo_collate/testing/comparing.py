"""What is compared: batches, errors, and values that nobody may touch."""

from __future__ import annotations

import array
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from .reference.cells import Array

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt


def described(value: Any) -> Any:
    """A value of a batch in such a form that it can be compared; those of lists are the very objects."""
    if isinstance(value, list):
        return [id(item) for item in value]
    return value if isinstance(value, Array) else Array.of(value)


def told(value: Any) -> Any:
    """All that there is to a batch: containers, keys in their order, dtypes, shapes, values."""
    if isinstance(value, dict):
        return ("a dict", [(key, told(each)) for key, each in value.items()])
    if isinstance(value, list | tuple):
        return (f"a {type(value).__name__}", [told(each) for each in value])
    if isinstance(value, Array):
        return value
    if isinstance(value, torch.Tensor | np.ndarray):
        return Array.of(value)
    return (type(value).__name__, repr(value))


def outcome(collate: Any, *arguments: Any, **options: Any) -> list[tuple[str, Any]] | type[Exception]:
    """The batch, key by key in its order, or which exception there is instead."""
    try:
        batch = collate(*arguments, **options)
    except (TypeError, ValueError, KeyError, OverflowError) as error:
        return type(error)
    if type(batch) is not dict:
        raise AssertionError(f"a batch is a dict, and this is {type(batch)}")
    return [(key, described(value)) for key, value in batch.items()]


# --- values that nobody may touch -----------------------------------------------------------------


def facts(value: Any, place: str = "samples") -> Iterator[tuple[str, str, Any]]:
    """All that there is to a value, part by part: where, what of it, and how it is."""
    yield place, "identity", id(value)
    if isinstance(value, torch.Tensor):
        # (The version counter tells of writes that leave everything as it was.)
        names = ("dtype", "shape", "requires_grad", "_version")
        yield from ((place, name, getattr(value, name)) for name in names)
        yield place, "strides", (value.stride(), value.storage_offset())
        yield place, "values", repr(value.tolist()) if value.numel() <= _FEW else ...  # a NaN equals itself
        yield place, "memory", _memory(value)
    elif isinstance(value, np.ndarray):
        yield from ((place, name, str(getattr(value, name))) for name in ("dtype", "shape", "strides", "flags"))
        yield place, "values", repr(value.tolist()) if value.size <= _FEW else ...
        yield place, "memory", value.tobytes()
    elif isinstance(value, array.array | memoryview):
        yield place, "memory", value.tobytes()
    elif isinstance(value, list | tuple):
        yield place, "length", len(value)
        for at, item in enumerate(value):
            yield from facts(item, f"{place}[{at}]")
    elif hasattr(value, "items"):
        yield place, "keys", [*value]
        for key, item in value.items():
            yield from facts(item, f"{place}[{key!r}]")
    else:
        yield place, "value", repr(value)


def _memory(tensor: torch.Tensor) -> bytes:
    """Every byte of the storage that a tensor lies in."""
    whole = torch.empty(0, dtype=torch.uint8, device=tensor.device).set_(tensor.untyped_storage())
    return whole.cpu().numpy().tobytes()


_FEW = 64
"""Of so many values a message shows all."""


def fingerprint(value: Any) -> Any:
    """All that there is to a value: while it stays the same, the value has not been touched."""
    return tuple(facts(value))


def parts(value: Any) -> list[Any]:
    """The value and all that it holds: as long as these are kept, no other object has the identity of one of them."""
    if isinstance(value, torch.Tensor | np.ndarray | str | bytes):
        return [value]
    if isinstance(value, list | tuple):
        return [value, *(part for item in value for part in parts(item))]
    if hasattr(value, "items"):
        return [value, *(part for _, item in value.items() for part in parts(item))]
    return [value]


# --- memory that is shared ------------------------------------------------------------------------


def arrays_of(value: Any, place: str) -> Iterator[tuple[str, Any]]:
    """The tensors and arrays in a value, and where each is."""
    if isinstance(value, torch.Tensor | np.ndarray):
        yield place, value
    elif isinstance(value, list | tuple):
        for at, item in enumerate(value):
            yield from arrays_of(item, f"{place}[{at}]")
    elif hasattr(value, "items"):
        for key, item in value.items():
            yield from arrays_of(item, f"{place}[{key!r}]")


def shared(batch: Any, samples: Any) -> tuple[str, str] | None:
    """Two places, in the batch and in the samples, that have memory in common; None: there are none."""
    of_samples = [(place, _span(value)) for place, value in arrays_of(samples, "samples")]
    for place, value in arrays_of(batch, "batch"):
        begin, end = _span(value)
        for theirs, (first, last) in of_samples:
            if max(begin, first) < min(end, last):
                return place, theirs
    return None


def _span(value: Any) -> tuple[int, int]:
    """Where the memory of an array begins and ends; of a tensor, that of its whole storage."""
    if isinstance(value, torch.Tensor):
        storage = value.untyped_storage()
        return storage.data_ptr(), storage.data_ptr() + storage.nbytes()
    if value.size == 0:
        return 0, 0
    begin = value.__array_interface__["data"][0]
    reach = [(size - 1) * stride for size, stride in zip(value.shape, value.strides, strict=True)]
    return begin + sum(min(step, 0) for step in reach), begin + sum(max(step, 0) for step in reach) + value.itemsize


# --- batches --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Difference:
    """Where two batches differ first, and how."""

    what: str
    """``"container"``, ``"keys"``, ``"order"``, ``"dtype"``, ``"shape"`` or ``"value"``."""
    sentence: str


def difference(found: Any, expected: Any, place: str = "batch", *, in_order: bool = False) -> Difference | None:
    """Where two batches differ: containers, keys (and their order), dtypes, shapes, values; None: nowhere.

    Arrays of the plain reference stand for tensors as well as for NumPy arrays.
    """
    if is_array(expected):
        return _of_arrays(found, expected, place)
    if isinstance(expected, Mapping):
        return _of_mappings(found, expected, place, in_order=in_order)
    if type(found) is not type(expected):
        return _of_kinds(found, expected, place)
    if isinstance(expected, list | tuple):
        return _of_sequences(found, expected, place, in_order=in_order)
    if found is not expected and repr(found) != repr(expected):
        return Difference("value", f"{place} is {_short(found)}, expected {_short(expected)}")
    return None


def _of_sequences(found: Any, expected: Any, place: str, *, in_order: bool) -> Difference | None:
    if len(found) != len(expected):
        return Difference("container", f"{place} has {len(found)} parts, expected {len(expected)}")
    for at, pair in enumerate(zip(found, expected, strict=True)):
        inner = difference(*pair, f"{place}[{at}]", in_order=in_order)
        if inner is not None:
            return inner
    return None


def _of_kinds(found: Any, expected: Any, place: str) -> Difference:
    return Difference("container", f"{place} is {_article(found)}, expected {_article(expected)}")


def _article(value: Any) -> str:
    name = "NoneType" if value is None else type(value).__name__
    return f"{'an' if name[0] in 'aeiouAEIOU' else 'a'} {name} ({_short(value)})"


def _short(value: Any) -> str:
    text = repr(value).replace("\n", "")
    return text if len(text) <= 80 else f"{text[:77]}..."


def _of_mappings(found: Any, expected: Any, place: str, *, in_order: bool) -> Difference | None:
    if not isinstance(found, Mapping) and not hasattr(found, "items"):
        return _of_kinds(found, expected, place)
    absent, more = [key for key in expected if key not in found], [key for key in found if key not in expected]
    if absent or more:
        sentences = [f"lacks {key!r}" for key in absent] + [f"has {key!r}, which is not expected" for key in more]
        return Difference("keys", f"{place} {', '.join(sentences)}")
    if in_order and [*found] != [*expected]:
        return Difference("order", f"{place} has its keys in the order {[*found]}, expected {[*expected]}")
    for key, value in expected.items():
        inner = difference(found[key], value, f"{place}[{key!r}]", in_order=in_order)
        if inner is not None:
            return inner
    return None


def is_array(value: Any) -> bool:
    """Whether it is a tensor, a NumPy array, or an array of the plain reference."""
    return isinstance(value, torch.Tensor | np.ndarray | Array)


def dtype_of(value: Any) -> str:
    """The name of an array's dtype."""
    return str(value.dtype).removeprefix("torch.")


def numpy_of(value: Any) -> npt.NDArray[Any]:
    """The values of an array, to compare them: those of bfloat16 as float32."""
    if isinstance(value, Array):
        return np.array(value.values, value.dtype.replace("bfloat16", "float32")).reshape(value.shape)
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu()
        return np.asarray((value.float() if value.dtype == torch.bfloat16 else value).numpy())
    return np.asarray(value)


def _of_arrays(found: Any, expected: Any, place: str) -> Difference | None:
    either = isinstance(expected, Array) or isinstance(found, Array)
    same = either or isinstance(found, torch.Tensor) == isinstance(expected, torch.Tensor)
    if not is_array(found) or not same:
        of = "tensor" if isinstance(expected, torch.Tensor) else "array" if not either else "tensor or an array"
        return Difference("container", f"{place} is {_article(found)}, expected a{'n' * (of == 'array')} {of}")
    if dtype_of(found) != dtype_of(expected):
        return Difference("dtype", f"{place} is {dtype_of(found)}, expected {dtype_of(expected)}")
    if tuple(found.shape) != tuple(expected.shape):
        return Difference("shape", f"{place} has the shape {[*found.shape]}, expected {[*expected.shape]}")
    cell = first_cell(numpy_of(found), numpy_of(expected))
    return None if cell is None else Difference("value", f"{place}{cell}")


def unequal(found: npt.NDArray[Any], expected: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Where two arrays of one shape differ: a NaN equals itself, and 0.0 is not -0.0."""
    differs = np.asarray(found != expected)
    if found.dtype.kind == expected.dtype.kind == "f":
        differs &= ~(np.isnan(found) & np.isnan(expected))
        differs |= (found == 0) & (expected == 0) & (np.signbit(found) != np.signbit(expected))
    return differs


def first_cell(found: npt.NDArray[Any], expected: npt.NDArray[Any]) -> str | None:
    """The first cell in which two arrays of one shape differ, with both values."""
    differs = unequal(found, expected)
    if not differs.any():
        return None
    index = [int(at) for at in np.argwhere(differs)[0]] if differs.ndim else []
    where = ("", ", cell {}", ", row {}, cell {}")[len(index)].format(*index) if len(index) < 3 else f", index {index}"
    values = f"found {found[tuple(index)].item()!r}, expected {expected[tuple(index)].item()!r}"
    more = int(differs.sum()) - 1
    return f"{where}: {values}" + (f" (and {more} more differ)" if more else "")
