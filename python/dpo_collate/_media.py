"""Images and what accompanies them: checked sample by sample, then put together, each in a block of its own.

``torch.cat`` (``numpy.concatenate`` for arrays) copies every tile once, into memory that the core hands
out, apart from the token arrays, so that a kept label tensor does not pin the pixels.
"""

from __future__ import annotations

import math
import sys
from typing import TYPE_CHECKING, Any

import numpy as np

from ._budget import allocation
from ._convert import is_tensor, to_array
from ._tiles import Entry, dtype_name, entries_of

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from ._budget import Budget
    from ._pools import Target
    from .image_tokens import Images
    from .layout import Media


def entries(
    gathered: Mapping[str, Sequence[tuple[int, str, Any]]], media: Sequence[Media], samples: int
) -> dict[str, list[Entry]]:
    """What there is of each medium, looked at.

    Args:
        gathered: By the name of a medium, the values that samples have, in row order: (sample, key, value).
        media: The media of the layout.
        samples: How many samples there are.

    Raises:
        KeyError, TypeError, ValueError, MemoryError: As ``PreferenceCollator`` says.
    """
    found = {medium.name: entries_of(medium, gathered.get(medium.name, ())) for medium in media}
    by_name = {medium.name: medium for medium in media}
    for medium in media:
        if medium.flags_of is not None:
            given = {(sample, key) for sample, key, _ in gathered.get(medium.name, ())}
            check_flags(medium, by_name[medium.flags_of], found, given)
        if medium.combine != "cat" and found[medium.name]:
            _check_all_have(medium, found[medium.name], samples)
    return found


def join(found: Mapping[str, list[Entry]], media: Sequence[Media], budget: Budget, target: Target) -> dict[str, Any]:
    """One tensor (or array) of each medium that the batch has.

    Args:
        found: The entries of each medium.
        media: The media of the layout.
        budget: What the batch may take.
        target: What to make of them.

    Raises:
        TypeError, MemoryError: As ``PreferenceCollator`` says.
    """
    parts = {}
    for medium in media:
        # Flags alone are never made up: with a blank tile in the layout, tiles have theirs.
        blank = [] if medium.blank is None else [_blank(medium, medium.blank)]
        if these := found[medium.name] or blank:
            parts[medium.name] = these, _shape(medium, these)
    if not parts:
        return {}

    def largest() -> tuple[str, int]:
        every = (entry for these, _ in parts.values() for entry in these)
        most, place = max((int(entry.tiles.nbytes), entry.place) for entry in every)
        return place, most

    total = sum(math.prod(shape) * these[0].tiles.itemsize for these, shape in parts.values())
    budget.take(total, largest)
    if total > sys.maxsize:
        raise MemoryError(f"the images of the batch have {total} bytes, more than the address space")
    # Each medium has its own block: flags that somebody keeps do not keep the pixels.
    return {medium.name: _join(target, medium, *parts[medium.name]) for medium in media if medium.name in parts}


def _shape(medium: Media, entries: list[Entry]) -> tuple[int, ...]:
    if medium.combine == "cat":
        return (sum(entry.number for entry in entries), *entries[0].tiles.shape[1:])
    return (len(entries), *map(max, zip(*(entry.tiles.shape for entry in entries), strict=True)))


def _check_all_have(medium: Media, entries: list[Entry], samples: int) -> None:
    """What is stacked must be there for every row, or the rows of the result are not those of the batch."""
    has = {(entry.sample, entry.key) for entry in entries}
    for sample in range(samples):
        for key in medium.keys:
            if (sample, key) not in has:
                other = entries[0].sample
                raise KeyError(
                    f"sample {sample}: no '{key}', but sample {other} has '{entries[0].key}': expected in all samples "
                    f"or in none"
                )


def check_flags(
    flags: Media, tiles_medium: Media, found: Mapping[str, list[Entry]], given: Collection[tuple[int, str]]
) -> None:
    """Flags and tiles of a sample agree in number. In a batch without any flag every tile is an image.

    Args:
        flags: The medium of the flags.
        tiles_medium: That of the tiles.
        found: What there is of both.
        given: Samples and keys that have flags, be there none.
    """
    if not given and flags.blank is None:
        return
    tiles, flagged = (
        {(entry.sample, medium.keys.index(entry.key)): entry for entry in found[medium.name]}
        for medium in (tiles_medium, flags)
    )
    for at in sorted(tiles.keys() | flagged.keys()):
        sample, part = at
        if at not in flagged and (sample, flags.keys[part]) in given:
            raise ValueError(
                f"sample {sample}: '{flags.keys[part]}' has no flag, but '{tiles[at].key}' has {tiles[at].number} tiles"
            )
        if at not in flagged:
            raise KeyError(
                f"sample {sample}: no '{flags.keys[part]}', but '{tiles[at].key}' has {tiles[at].number} tiles: "
                f"expected flags of the tiles of all samples, or of none"
            )
        if at not in tiles:
            key = tiles_medium.keys[part]
            raise KeyError(f"sample {sample}: no '{key}', but '{flagged[at].key}' has {flagged[at].number} flags")
        if flagged[at].tiles.ndim != 1:
            shape = list(flagged[at].tiles.shape)
            raise ValueError(f"{flagged[at].place} has shape {shape}, expected one dimension")
        if tiles[at].number != flagged[at].number:
            raise ValueError(
                f"{flagged[at].place} has {flagged[at].number} flags, but '{tiles[at].key}' has "
                f"{tiles[at].number} tiles (its first dimension counts them)"
            )


def check_truncated(
    truncated: Sequence[int], media: Sequence[Media], found: Mapping[str, list[Entry]], counted: Collection[Images]
) -> None:
    """Refuses to truncate a sample that has images whose tokens nobody has counted. A tile with flag 0 is none.

    Args:
        truncated: Samples of which a row was truncated.
        media: The media of the layout.
        found: What there is of them.
        counted: Images whose tokens have been counted: the name of their medium, and the sample.

    Raises:
        ValueError: That is what happens to a sample.
        MemoryError: There is no memory to look at flags.
    """
    if not truncated:
        return
    flags = {medium.flags_of: medium.name for medium in media if medium.flags_of is not None and found[medium.name]}
    for medium in media:
        if medium.flags_of is not None:
            continue
        flagged = medium.name in flags
        for entry in found[flags.get(medium.name, medium.name)]:
            with allocation(entry.place):
                images = not flagged or bool((entry.tiles != 0).any())
            if images and entry.sample in truncated and (medium.describes or medium.name, entry.sample) not in counted:
                raise ValueError(
                    f"sample {entry.sample}: truncation could cut image tokens, and the sample has images: expected a "
                    f"larger max_length, samples that fit it, or PreferenceCollator's image_tokens, which counts them"
                )


def _blank(medium: Media, shape: tuple[int, ...]) -> Entry:
    """One tile of zeros. It takes no memory before it is copied into the batch."""
    zero = np.zeros((), medium.dtype or ("float32" if medium.flags_of is None else "int64"))
    place = f"the blank tile of '{medium.name}'"
    try:
        tile = np.broadcast_to(zero, (1, *shape))
    except ValueError as error:
        raise MemoryError(f"{place}, of shape {list(shape)}, is larger than the address space") from error
    return Entry(0, medium.keys[0], tile, 1, place)


def _join(target: Target, medium: Media, entries: list[Entry], shape: tuple[int, ...]) -> Any:
    """Puts the entries of a medium together."""
    tensors = [entry.tiles for entry in entries if is_tensor(entry.tiles)]
    if target.tensors and len(tensors) == len(entries):
        import torch  # noqa: PLC0415 - imported long since where tensors are asked for

        tensor = target.empty_tensor(tensors[0].dtype, shape)
        return torch.cat(tensors, out=tensor) if medium.combine == "cat" else _stack(tensors, tensor, medium)
    # NumPy reads arrays as they are (read-only, byte-swapped); bfloat16 it never has.
    if dtype_name(entries[0].tiles) == "bfloat16":
        raise TypeError(f"{entries[0].place} has dtype bfloat16, which NumPy does not have: use return_tensors='pt'")
    arrays = [to_array(entry.tiles, entry.place) if is_tensor(entry.tiles) else entry.tiles for entry in entries]
    # By its name: NumPy has several dtypes of one size (ulonglong), of which torch knows one.
    dtype = np.dtype(arrays[0].dtype.newbyteorder("=").str)
    out = target.empty(math.prod(shape) * dtype.itemsize).view(dtype).reshape(shape)
    joined = np.concatenate(arrays, out=out) if medium.combine == "cat" else _stack(arrays, out, medium)
    if not target.tensors:
        return joined
    import torch  # noqa: PLC0415 - as above

    return torch.from_numpy(joined)


def _stack(values: Sequence[Any], out: Any, medium: Media) -> Any:
    """Copies each value to the beginning of its place in ``out``; what is left there is padding."""
    # By index: of a row of single numbers an array gives copies.
    for index, value in enumerate(values):
        if value.shape != out.shape[1:]:
            out[index] = medium.pad
        out[(index, *(slice(size) for size in value.shape))] = value
    return out
