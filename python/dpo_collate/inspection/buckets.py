"""The best list of so many buckets.

What is minimised are the cells of the batches of one epoch, each as wide as the least bucket that holds it: of a matrix
of r rows that would be w wide, ``r * bucket(w)``. The best buckets are among the widths that there are (a bucket
between two of them could be made smaller). With the widths sorted, ``best[k][j]``, the fewest cells of all matrices up
to width j with k buckets, the last of which is width j, is the minimum over i < j of::

    best[k - 1][i] + width[j] * (rows up to j - rows up to i)

For each i that is a line in ``width[j]``, and the lines come by falling slope while the widths rise. So the lower
envelope of the lines is kept in a queue, and a list of k buckets takes time proportional to the number of
widths. All numbers are Python's integers: the result is exact.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt


def best_buckets(
    widths: npt.NDArray[np.int64], rows: npt.NDArray[np.int64], most: int
) -> list[tuple[tuple[int, ...], int]]:
    """The best lists of 1 to ``most`` buckets.

    Args:
        widths: Width of each matrix, at least one; they need not be sorted, nor differ.
        rows: Rows of each matrix; 0 for a width that has to have a bucket, but costs nothing.
        most: Most buckets of a list, at least 1.

    Returns:
        For each number of buckets the list, smallest first, and the cells of all matrices. There are no more lists than
        different widths.

    Example:
        >>> import numpy as np
        >>> best_buckets(np.array([10, 11, 90, 100]), np.array([1, 1, 1, 1]), 3)
        [((100,), 400), ((11, 100), 222), ((11, 90, 100), 212)]
    """
    distinct, inverse = np.unique(widths, return_inverse=True)
    weights = np.zeros(len(distinct), np.int64)
    np.add.at(weights, inverse.reshape(-1), rows)  # not bincount, whose sums are floats
    at: list[int] = distinct.tolist()
    below: list[int] = [0, *np.cumsum(weights).tolist()]
    best = [width * below[j + 1] for j, width in enumerate(at)]
    before: list[list[int]] = []
    found: list[tuple[tuple[int, ...], int]] = [((at[-1],), best[-1])]
    for _ in range(min(most, len(at)) - 1):
        best, chosen = _next(best, at, below)
        before.append(chosen)
        found.append((_traced(before, at), best[-1]))
    return found


def _next(best: list[int], at: list[int], below: list[int]) -> tuple[list[int], list[int]]:
    """The same with one bucket more, and for each width which one the bucket before it is.

    Where there are fewer widths than buckets, one bucket less does as well: so a list never has to have all of them.
    """
    found = list(best)
    chosen = [-1] * len(at)
    lines: list[tuple[int, int, int]] = []  # slope, offset, index; those before `first` are of no more use
    first = 0
    for j, width in enumerate(at):
        while first + 1 < len(lines) and _at(lines[first + 1], width) <= _at(lines[first], width):
            first += 1
        if first < len(lines):
            cost = _at(lines[first], width) + width * below[j + 1]
            if cost < found[j]:
                found[j], chosen[j] = cost, lines[first][2]
        line = (-below[j + 1], best[j], j)
        while len(lines) - first > 1 and _hidden(lines[-2], lines[-1], line):
            lines.pop()
        lines.append(line)
    return found, chosen


def _at(line: tuple[int, int, int], width: int) -> int:
    return line[0] * width + line[1]


def _hidden(before: tuple[int, int, int], line: tuple[int, int, int], after: tuple[int, int, int]) -> bool:
    """Whether the line in the middle is nowhere below both others; slopes fall, or are equal."""
    return (after[1] - before[1]) * (before[0] - line[0]) <= (line[1] - before[1]) * (before[0] - after[0])


def _traced(before: list[list[int]], at: list[int]) -> tuple[int, ...]:
    """The buckets, from the last one back."""
    found = [at[-1]]
    j = len(at) - 1
    for chosen in reversed(before):
        if chosen[j] >= 0:
            j = chosen[j]
            found.append(at[j])
    return tuple(reversed(found))
