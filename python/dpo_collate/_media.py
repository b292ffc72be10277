"""Images and what accompanies them: checked sample by sample, then concatenated into one block.

``torch.cat`` (``numpy.concatenate`` for arrays) copies every tile once, into memory that the core
hands out: all media of a batch lie in one block, apart from the token arrays, so that a kept label
tensor does not pin the pixels.
"""

from __future__ import annotations

import math
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ._budget import allocation
from ._convert import array_of_numbers, dense, is_tensor, to_array

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ._budget import Budget
    from ._pools import Target
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


def _alike(one: Any, other: Any) -> bool:
    """Whether tiles are of one shape and dtype."""
    # What is mostly so is asked first: this runs for every image of a batch, and each slice takes 0.3 us.
    shapes = one.shape == other.shape or one.shape[1:] == other.shape[1:]
    return shapes and (one.dtype is other.dtype or _dtype_name(one) == _dtype_name(other))


def _dtype_name(tiles: Any) -> str:
    """The name of the dtype, the same for tensors and arrays of any byte order."""
    return tiles.dtype.name if isinstance(tiles.dtype, np.dtype) else str(tiles.dtype).removeprefix("torch.")


def combine(
    gathered: Mapping[str, Sequence[tuple[int, str, Any]]],
    media: Sequence[Media],
    truncated: Sequence[int],
    budget: Budget,
    target: Target,
) -> dict[str, Any]:
    """One tensor of each medium, after everything was looked at.

    Args:
        gathered: By the name of a medium, the values that samples have, in row order: (sample, key, value).
        media: The media of the layout.
        truncated: The samples of which a row was truncated; they may not have images.
        budget: What the batch may take.
        target: What to make of them.

    Returns:
        Tensors (or arrays) by the name of the medium, of those that the batch has.

    Raises:
        KeyError, TypeError, ValueError, MemoryError: As ``PreferenceCollator`` says.
    """
    found = {medium.name: _entries(medium, gathered.get(medium.name, ())) for medium in media}
    by_name = {medium.name: medium for medium in media}
    for medium in media:
        if medium.flags_of is not None:
            _check_flags(medium, by_name[medium.flags_of], found)
    cut = _samples_with_images(media, found).intersection(truncated) if truncated else ()
    if cut:
        raise ValueError(
            f"sample {min(cut)}: truncation could cut image tokens, and the sample has images: expected a larger "
            f"max_length, or samples that fit it"
        )
    for medium in media:
        if not found[medium.name] and medium.blank is not None:
            found[medium.name] = [_blank(medium, medium.blank)]
    found = {name: entries for name, entries in found.items() if entries}
    if not found:
        return {}
    shapes = {name: (sum(entry.number for entry in es), *es[0].tiles.shape[1:]) for name, es in found.items()}
    sizes = {name: math.prod(shapes[name]) * entries[0].tiles.itemsize for name, entries in found.items()}

    def largest() -> tuple[str, int]:
        every = (entry for entries in found.values() for entry in entries)
        most, place = max((int(entry.tiles.nbytes), entry.place) for entry in every)
        return place, most

    total = sum(sizes.values())
    budget.take(total, largest)
    if total > sys.maxsize:
        raise MemoryError(f"the images of the batch have {total} bytes, more than the address space")
    # Each medium has its own block: flags that somebody keeps do not keep the pixels.
    return {name: _concatenate(target, entries, shapes[name], sizes[name]) for name, entries in found.items()}


def _entries(medium: Media, values: Sequence[tuple[int, str, Any]]) -> list[Entry]:
    """The entries of a medium in row order; a row without tiles has none. All their tiles are alike."""
    found: list[Entry] = []
    for sample, key, value in values:
        place = f"sample {sample}: '{key}'"
        tiles = _tiles(value, place)
        if not (number := tiles.shape[0]):
            continue
        if found and not _alike(tiles, found[0].tiles):
            first = found[0].tiles
            raise ValueError(
                f"{place} has tiles of shape {list(tiles.shape[1:])} and dtype {_dtype_name(tiles)}, but those of "
                f"sample {found[0].sample} have {list(first.shape[1:])} and {_dtype_name(first)}"
            )
        found.append(Entry(sample, key, tiles, number, place))
    if not found and not medium.optional:
        raise KeyError(f"sample 0: no tile in '{medium.keys[0]}', nor in that of any other sample of the batch")
    return found


def _tiles(value: Any, place: str) -> Any:
    """The value as a dense tensor or a plain array."""
    if isinstance(value, list | tuple):
        value = _of_list(value, place)
    if is_tensor(value):
        return _counted(dense(value, place), place)
    if isinstance(value, np.ndarray) and not isinstance(value, np.ma.MaskedArray):
        if value.dtype.kind not in "iubfc" or value.dtype.char in "gG":  # torch has no long double
            raise TypeError(f"{place} has dtype {value.dtype}, expected numbers")
        return _counted(np.asarray(value), place)
    raise TypeError(f"{place} is a {type(value).__name__}, expected a tensor or an array")


def _counted(value: Any, place: str) -> Any:
    if value.ndim == 0:
        raise ValueError(f"{place} is a single number, expected a first dimension that counts tiles")
    return value


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


def _check_flags(flags: Media, tiles_medium: Media, found: Mapping[str, list[Entry]]) -> None:
    """Flags and tiles of a sample come together and agree in number."""
    tiles, flagged = (
        {(entry.sample, medium.keys.index(entry.key)): entry for entry in found[medium.name]}
        for medium in (tiles_medium, flags)
    )
    for at in sorted(tiles.keys() | flagged.keys()):
        sample, part = at
        for has, lacks, key in ((tiles, flagged, flags.keys[part]), (flagged, tiles, tiles_medium.keys[part])):
            if at in has and at not in lacks:
                raise KeyError(f"sample {sample}: no '{key}', but '{has[at].key}' has {has[at].number} tiles")
        if flagged[at].tiles.ndim != 1:
            shape = list(flagged[at].tiles.shape)
            raise ValueError(f"{flagged[at].place} has shape {shape}, expected one dimension")
        if tiles[at].number != flagged[at].number:
            raise ValueError(
                f"{flagged[at].place} has {flagged[at].number} flags, but '{tiles[at].key}' has "
                f"{tiles[at].number} tiles (its first dimension counts them)"
            )


def _samples_with_images(media: Sequence[Media], found: Mapping[str, list[Entry]]) -> set[int]:
    """The samples that have an image; a tile with flag 0 is none."""
    flags = {medium.flags_of: medium.name for medium in media if medium.flags_of is not None}
    samples: set[int] = set()
    for medium in media:
        if medium.flags_of is None:
            entries = found[flags.get(medium.name, medium.name)]
            flagged = medium.name in flags
            samples.update(entry.sample for entry in entries if not flagged or bool((entry.tiles != 0).any()))
    return samples


def _blank(medium: Media, shape: tuple[int, ...]) -> Entry:
    """One tile of zeros: float32, or int64 for flags. It takes no memory before it is copied into the batch."""
    zero = np.float32(0) if medium.flags_of is None else np.int64(0)
    place = f"the blank tile of '{medium.name}'"
    try:
        tile = np.broadcast_to(zero, (1, *shape))
    except ValueError as error:
        raise MemoryError(f"{place}, of shape {list(shape)}, is larger than the address space") from error
    return Entry(0, medium.keys[0], tile, 1, place)


def _concatenate(target: Target, entries: list[Entry], shape: tuple[int, ...], size: int) -> Any:
    """Concatenates a medium on dimension 0."""
    tensors = [entry.tiles for entry in entries if is_tensor(entry.tiles)]
    if target.tensors and len(tensors) == len(entries):
        import torch  # noqa: PLC0415 - imported long since where tensors are asked for

        return torch.cat(tensors, out=target.empty_tensor(tensors[0].dtype, shape))
    # NumPy reads arrays as they are (read-only, byte-swapped); bfloat16 it never has.
    if _dtype_name(entries[0].tiles) == "bfloat16":
        raise TypeError(f"{entries[0].place} has dtype bfloat16, which NumPy does not have: use return_tensors='pt'")
    arrays = [to_array(entry.tiles, entry.place) if is_tensor(entry.tiles) else entry.tiles for entry in entries]
    # By its name: NumPy has several dtypes of one size (ulonglong), of which torch knows one.
    dtype = np.dtype(arrays[0].dtype.newbyteorder("=").str)
    joined = np.concatenate(arrays, out=target.empty(size).view(dtype).reshape(shape))
    if not target.tensors:
        return joined
    import torch  # noqa: PLC0415 - as above

    return torch.from_numpy(joined)
