"""How numbers are written."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from .figures import WAYS

if TYPE_CHECKING:
    from .figures import Inspection

_UNITS: Final = ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "KB"))


def percent(share: float) -> str:
    """A share in per cent, with a decimal or two where it is small: ``"61%"``, ``"3.1%"``, ``"0.02%"``.

    Example:
        >>> [percent(share) for share in (0.6123, 0.0312, 0.00021, 0.0, 1e-7)]
        ['61%', '3.1%', '0.02%', '0%', '<0.01%']
    """
    value = 100 * share
    if 0 < abs(value) < 0.005:
        return "<0.01%"
    digits = 2 if 0 < abs(value) < 0.095 else 1 if 0 < abs(value) < 9.95 else 0
    return f"{value:.{digits}f}%"


def count(number: float) -> str:
    """A number with thousands apart: ``"1,637"``.

    Example:
        >>> count(1637), count(8244.27)
        ('1,637', '8,244')
    """
    return f"{number:,.0f}"


def short(number: float) -> str:
    """A number in a few characters: ``"248k"``.

    Example:
        >>> [short(number) for number in (0, 999, 1637, 10437.9, 247936, 1.5e9)]
        ['0', '999', '1.6k', '10k', '248k', '1.5G']
    """
    for size, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= size * 0.9995:
            return f"{number / size:.{1 if number < 9.95 * size else 0}f}{unit}"
    return f"{number:.0f}"


def nbytes(number: float) -> str:
    """Bytes in decimal units: ``"5.7 MB"``.

    Example:
        >>> [nbytes(number) for number in (12, 1500, 5950464, 249434931)]
        ['12 B', '1.5 KB', '6.0 MB', '249 MB']
    """
    for size, unit in _UNITS:
        if number >= size * 0.9995:
            return f"{number / size:.{1 if number < 99.95 * size else 0}f} {unit}"
    return f"{number:.0f} B"


def times(ratio: float) -> str:
    """A ratio: ``"2.4 times"``.

    Example:
        >>> times(2.41), times(17.2)
        ('2.4 times', '17 times')
    """
    return f"{ratio:.{1 if ratio < 9.95 else 0}f} times"


def counted(number: int, one: str, more: str | None = None) -> str:
    """A number of things: ``"1 pair"``, ``"3 pairs"``.

    Example:
        >>> counted(1, "pair"), counted(3000, "pair")
        ('1 pair', '3,000 pairs')
    """
    return f"{count(number)} {one if number == 1 else more or one + 's'}"


def called(found: Inspection, way: str) -> str:
    """What a way is called, with its limit if it has one: ``"PairBatchSampler(max_tokens=16384)"``."""
    if way == "budget":
        return f"PairBatchSampler(max_tokens={found.max_tokens})"
    if way == "pairs" and found.max_tokens is not None:
        return f"PairBatchSampler(batch_size={found.batch_size})"
    return WAYS[way]
