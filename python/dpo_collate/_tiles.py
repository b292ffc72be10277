"""What one sample has for a medium: a tensor or an array, whose first dimension counts tiles."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ._budget import allocation, check_size
from ._convert import array_of_numbers, dense, is_tensor

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .layout import Media


class Entry(NamedTuple):
    """The tiles of one key of one sample: a tensor or an array of at least one tile."""

    sample: int
    key: str
    tiles: Any
    number: int
    """Number of tiles. (``len`` of a tensor is Python code, and slow.)"""
    place: str
    """How messages begin."""


def alike(one: Any, other: Any) -> bool:
    """Whether tiles are of one shape and dtype."""
    # What is mostly so is asked first: this runs for every image of a batch, and each slice takes 0.3 us.
    shapes = one.shape == other.shape or one.shape[1:] == other.shape[1:]
    return shapes and (one.dtype is other.dtype or dtype_name(one) == dtype_name(other))


def dtype_name(tiles: Any) -> str:
    """The name of the dtype, the same for tensors and arrays of any byte order."""
    return tiles.dtype.name if isinstance(tiles.dtype, np.dtype) else str(tiles.dtype).removeprefix("torch.")


def entries_of(medium: Media, values: Sequence[tuple[int, str, Any]]) -> list[Entry]:
    """The entries of a medium in row order; a row without tiles has none. All are of one dtype and shape."""
    found: list[Entry] = []
    for sample, key, value in values:
        place = f"sample {sample}: '{key}'"
        tiles = tiles_of(value, place)
        if tiles.ndim == 0 and medium.combine == "cat":
            raise ValueError(f"{place} is a single number, expected a first dimension that counts tiles")
        if medium.dtype is not None:
            tiles = _cast(tiles, medium.dtype, place)
        number = tiles.shape[0] if tiles.ndim else 1
        if not number and medium.combine == "cat":
            continue
        if found:
            check_alike(medium, tiles, place, found[0])
        found.append(Entry(sample, key, tiles, number, place))
    if found and medium.combine == "pad" and not _holds(dtype_name(found[0].tiles), medium.pad):
        dtype = dtype_name(found[0].tiles)
        raise OverflowError(f"{found[0].place} has dtype {dtype}, which cannot hold the padding {medium.pad!r}")
    if not found and not medium.optional:
        what = "tile" if medium.flags_of is None else "flag"
        raise KeyError(f"sample 0: no {what} in '{medium.keys[0]}', nor in that of any other sample of the batch")
    return found


def check_alike(medium: Media, tiles: Any, place: str, first: Entry) -> None:
    if medium.combine == "cat":
        if not alike(tiles, first.tiles):
            raise ValueError(
                f"{place} has tiles of shape {list(tiles.shape[1:])} and dtype {dtype_name(tiles)}, but those of "
                f"sample {first.sample} have {list(first.tiles.shape[1:])} and {dtype_name(first.tiles)}"
            )
        return
    padded = medium.combine == "pad"
    shapes = tiles.ndim == first.tiles.ndim if padded else tiles.shape == first.tiles.shape
    if not shapes or dtype_name(tiles) != dtype_name(first.tiles):
        raise ValueError(
            f"{place} has shape {list(tiles.shape)} and dtype {dtype_name(tiles)}, but that of sample {first.sample} "
            f"has {list(first.tiles.shape)} and {dtype_name(first.tiles)}: they cannot be "
            f"{'padded to one shape' if padded else 'stacked'}"
        )


def _holds(dtype: str, pad: float) -> bool:
    if dtype == "bool":
        return pad in {0, 1}
    if "int" not in dtype:
        return True
    return float(pad).is_integer() and np.iinfo(dtype).min <= pad <= np.iinfo(dtype).max


def _cast(tiles: Any, dtype: str, place: str) -> Any:
    """The same as another dtype, if it is not already: floats are rounded, nothing else is lost.

    Raises:
        TypeError: That is no dtype for such values.
        OverflowError: A value does not fit it.
    """
    known = dtype_name(tiles)
    if known == dtype:
        return tiles
    if "complex" in known or ("float" in known and "float" not in dtype and 0 not in tiles.shape):
        raise TypeError(f"{place} has dtype {known}, expected one that becomes {dtype}")
    check_size(tiles.nbytes * 8, place)
    with allocation(place), np.errstate(over="ignore"):
        if is_tensor(tiles):
            import torch  # noqa: PLC0415 - there are tensors, so it is there

            made = tiles.to(getattr(torch, dtype))
        else:
            made = tiles.astype(dtype)
        if _lost(tiles, made):
            raise OverflowError(f"{place} has dtype {known}, and a value that does not fit {dtype}")
    return made


def _lost(tiles: Any, made: Any) -> bool:
    """Whether a value has become infinite, or another integer."""
    if 0 in tiles.shape:
        return False
    if "float" in dtype_name(made):
        infinite = abs(made) == float("inf")
        if not bool(infinite.any()):
            return False
        return "float" not in dtype_name(tiles) or bool((infinite & (abs(tiles) != float("inf"))).any())
    # torch does not compare its unsigned dtypes with others.
    before, after = (values.numpy() if is_tensor(values) else values for values in (tiles, made))
    return bool((before != after).any())


def tiles_of(value: Any, place: str) -> Any:
    """The value as a dense tensor or a plain array."""
    if isinstance(value, list | tuple):
        value = _of_list(value, place)
    if is_tensor(value):
        return dense(value, place)
    if isinstance(value, np.ndarray) and not isinstance(value, np.ma.MaskedArray):
        if value.dtype.kind not in "iubfc" or value.dtype.char in "gG":  # torch has no long double
            raise TypeError(f"{place} has dtype {value.dtype}, expected numbers")
        return np.asarray(value)
    raise TypeError(f"{place} is a {type(value).__name__}, expected a tensor or an array")


def _of_list(value: Sequence[Any], place: str) -> Any:
    """A list of tiles as one tensor or array, dtype as it is; of numbers as torch has them."""
    try:
        with allocation(place):
            if value and all(is_tensor(tile) for tile in value):
                import torch  # noqa: PLC0415 - there are tensors, so it is there

                return torch.stack([dense(tile, place) for tile in value])
            if value and all(isinstance(tile, np.ndarray) for tile in value):
                return np.stack(value)
            return array_of_numbers(value)
    except RuntimeError as error:
        raise ValueError(f"{place} is a {type(value).__name__} of tiles that cannot be stacked: {error}") from error
    except (TypeError, ValueError, OverflowError) as error:
        if str(error).startswith(place):
            raise
        raise TypeError(f"{place} is a {type(value).__name__} that is no array: {error}") from error
