"""How lengths are distributed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .figures import Distribution

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt


def distributions(named: Mapping[str, npt.NDArray[np.int64]], unit: str) -> tuple[Distribution, ...]:
    """The distribution of each, with bins that are the same for all.

    Args:
        named: Numbers of tokens or tiles of each pair, ``[n]``, n at least 1, by name.
        unit: What they count.
    """
    edges = edges_of(min(int(values.min()) for values in named.values()), max(int(v.max()) for v in named.values()))
    return tuple(_distribution(name, unit, values, edges) for name, values in named.items())


def _distribution(name: str, unit: str, values: npt.NDArray[np.int64], edges: npt.NDArray[np.int64]) -> Distribution:
    p50, p90, p99 = percentiles(values, (50, 90, 99))
    counts = np.bincount(np.searchsorted(edges, values, side="right") - 1, minlength=len(edges) - 1)
    return Distribution(
        name=name,
        unit=unit,
        total=int(values.sum()),
        least=int(values.min()),
        mean=float(values.mean()),
        p50=p50,
        p90=p90,
        p99=p99,
        most=int(values.max()),
        edges=tuple(edges.tolist()),
        counts=tuple(counts.tolist()),
    )


def percentiles(values: npt.NDArray[np.int64], percents: Sequence[int]) -> list[int]:
    """Of each percentage the least value that so many of 100 values do not exceed: always one that is there."""
    in_order = np.sort(values)
    return [int(in_order[-(-percent * len(values) // 100) - 1]) for percent in percents]


def edges_of(least: int, most: int) -> npt.NDArray[np.int64]:
    """Bounds of bins that hold all integers from ``least`` to ``most``: each half an octave wide, or one by one.

    Lengths have long tails, which bins of equal width would not show. The numbers are powers of two and, rounded, those
    times the square root of two; below 12, where these come too close, every other one is left out.
    """
    if most - least < 12:
        return np.arange(least, most + 2, dtype=np.int64)
    half_octaves = np.unique(np.rint(2.0 ** (np.arange(0, 125) / 2)).astype(np.int64))
    edges = np.concatenate([[0], half_octaves])
    first = np.searchsorted(edges, least, side="right") - 1
    last = np.searchsorted(edges, most, side="right")
    return edges[first : last + 1]
