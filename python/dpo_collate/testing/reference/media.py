"""What a medium of a layout means: images and what accompanies them, in plain Python."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

from .cells import Array, cell, converted, full, mapped

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from dpo_collate.layout import Layout, Media

    from .cells import Number

Found: TypeAlias = "dict[tuple[int, int], Array]"
"""What samples have for a medium: by which of its keys, and which sample, in row order."""


def entries(order: str, parts: int, samples: int) -> list[tuple[int, int]]:
    """The order of what comes from several keys of each sample: (which of the keys, which sample)."""
    if order == "grouped":
        return [(part, sample) for part in range(parts) for sample in range(samples)]
    return [(part, sample) for sample in range(samples) for part in range(parts)]


def found_media(layout: Layout, samples: Sequence[Mapping[Any, Any]]) -> dict[str, Found]:
    """What samples have, of each medium.

    Where any sample has flags, or a tile may be blank, all tiles have flags.
    """
    found = {medium.name: values_of(medium, layout.order, samples) for medium in layout.media}
    for medium in layout.media:
        if medium.flags_of is not None:
            has = [sample.get(key) is not None for sample in samples for key in medium.keys]
            if any(has) or medium.blank is not None:
                _check_flags(medium, samples, found[medium.name], found[medium.flags_of])
    return found


def check_truncated(
    layout: Layout, found: Mapping[str, Found], truncated: set[int], counted: set[tuple[str, int]]
) -> None:
    """No sample is truncated that has an image, unless its image tokens have been counted.

    A tile with flag 0 is no image. Without any flag in the batch every tile is one.
    """
    flagged = {medium.flags_of for medium in layout.media if found[medium.name]}
    for medium in layout.media:
        if medium.name in flagged:
            continue
        name = medium.flags_of or medium.describes or medium.name
        for (_, at), array in found[medium.name].items():
            is_image = medium.flags_of is None or any(array.values)
            if is_image and at in truncated and (name, at) not in counted:
                raise ValueError("truncation could cut the image tokens of a sample")


def combined(layout: Layout, found: Mapping[str, Found]) -> dict[Any, Any]:
    """One array of each medium that the batch has; of one that nobody has maybe a blank tile."""
    batch = {}
    for medium in layout.media:
        arrays = list(found[medium.name].values())
        if not arrays and medium.blank is not None:
            dtype = medium.dtype or ("float32" if medium.flags_of is None else "int64")
            arrays = [Array(dtype, (1, *medium.blank), [full(medium.blank, cell(0, dtype))])]
        if arrays:
            batch[medium.name] = _combined(medium, arrays)
    return batch


def values_of(medium: Media, order: str, samples: Sequence[Mapping[Any, Any]], *, needed: bool = True) -> Found:
    """What the samples have, if it goes together."""
    found: Found = {}
    for part, at in entries(order, len(medium.keys), len(samples)):
        value = samples[at].get(medium.keys[part])
        if value is not None:
            array = Array.of(value)
            if not array.shape and medium.combine == "cat":
                raise ValueError("the first dimension counts tiles, and there is none")
            if medium.combine != "cat" or array.shape[0] > 0:
                found[part, at] = _cast(array, medium.dtype)
    if not found and not medium.optional and needed:
        raise KeyError(f"no sample has '{medium.name}'")
    if medium.combine != "cat" and len(found) not in {0, len(medium.keys) * len(samples)}:
        raise KeyError(f"only some samples have '{medium.name}'")
    alike: set[Any] = {
        # Concatenated on the first dimension; stacked; padded to the same size in every dimension.
        {"cat": array.shape[1:], "stack": array.shape, "pad": len(array.shape)}[medium.combine]
        for array in found.values()
    }
    if len(alike) > 1 or len({array.dtype for array in found.values()}) > 1:
        raise ValueError("values of one medium are of one dtype and of shapes that go together")
    return found


def _cast(array: Array, dtype: str | None) -> Array:
    if dtype is None:
        return array
    return Array(dtype, array.shape, mapped(array.values, lambda number: converted(number, dtype)))


def _combined(medium: Media, arrays: Sequence[Array]) -> Array:
    dtype = arrays[0].dtype
    if medium.combine == "cat":
        tiles = [tile for array in arrays for tile in array.values]
        return Array(dtype, (len(tiles), *arrays[0].shape[1:]), tiles)
    largest = tuple(max(sizes) for sizes in zip(*(array.shape for array in arrays), strict=True))
    if "float" not in dtype and medium.pad != int(medium.pad):
        raise OverflowError("a padding that is no integer")
    pad = cell(medium.pad if "float" in dtype else int(medium.pad), dtype)
    return Array(dtype, (len(arrays), *largest), [_padded(array.values, largest, pad) for array in arrays])


def _padded(values: Any, shape: Sequence[int], pad: Number) -> Any:
    """The values in the beginning of an array of that shape, the rest of which is padding."""
    if not shape:
        return values
    missing = shape[0] - len(values)
    return [*(_padded(value, shape[1:], pad) for value in values), *(full(shape[1:], pad) for _ in range(missing))]


def _check_flags(medium: Media, samples: Sequence[Mapping[Any, Any]], flags: Found, tiles: Found) -> None:
    """Each tile has a flag."""
    for part, at in sorted(flags.keys() | tiles.keys()):
        place = (part, at)
        if place not in tiles or (place not in flags and samples[at].get(medium.keys[part]) is None):
            raise KeyError("tiles without flags, or flags without tiles")
        if place not in flags or flags[place].shape != tiles[place].shape[:1]:
            raise ValueError("not one flag for each tile")
