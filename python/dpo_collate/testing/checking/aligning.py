"""How the rows of a batch lie, compared with the right ones: in which order, padded on which side, how wide."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from dpo_collate.testing.comparing import unequal

if TYPE_CHECKING:
    import numpy.typing as npt

    NDArray: TypeAlias = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class Alignment:
    """How the rows of a batch lie, compared with the right ones.

    Attributes:
        real: Which cells of the right rows are tokens.
        left: Whether the right ones are padded on the left.
        flipped: Whether the batch's are padded on the other side.
        order: Where each right row is in the batch; None: where it should be.
    """

    real: NDArray
    left: bool
    flipped: bool = False
    order: tuple[int, ...] | None = None

    def common(self, found: NDArray, expected: NDArray) -> tuple[NDArray, NDArray, NDArray]:
        """Both, and which cells are tokens, in the right order, on the side that the batch has, as wide as both are."""
        real = self.real
        if self.flipped:
            expected = _flipped(expected, self.real, left=self.left)
            real = _flipped(real, self.real, left=self.left)
        width = min(found.shape[1], expected.shape[1])
        cells = slice(-width, None) if self.left != self.flipped and width else slice(width)
        if self.order is not None:
            found = found[list(self.order)]
        return found[:, cells], expected[:, cells], real[:, cells]

    def content(self, found: NDArray, expected: NDArray) -> NDArray:
        """Which rows have the right tokens."""
        theirs, right, real = self.common(found, expected)
        return np.asarray((~unequal(theirs, right) | ~real).all(axis=1))

    def equal(self, found: NDArray, expected: NDArray) -> bool:
        """Whether all cells are right."""
        theirs, right, _ = self.common(found, expected)
        return found.shape == expected.shape and not unequal(theirs, right).any()

    def surplus(self, found: NDArray) -> bool:
        """Whether what the batch's rows have more than the right ones is the same number everywhere, as padding is."""
        width = self.real.shape[1]
        if found.shape[1] <= width:
            return True
        more = found[:, : found.shape[1] - width] if self.left != self.flipped else found[:, width:]
        return len({*more.ravel().tolist()}) == 1

    def reordered(self, found: NDArray, expected: NDArray) -> Alignment | None:
        """The one with the order in which the right rows are found; None: they are not, or in their own."""
        theirs, right, real = self.common(found, expected)
        at: dict[int, int] = {}
        # (Rows of few tokens, or of none, are found in others: they come last.)
        for index in sorted(range(len(right)), key=lambda row: -int(real[row].sum())):
            row, cells = right[index], real[index]
            free = [other for other in range(len(theirs)) if other not in at.values()]
            match = [other for other in free if (theirs[other] == row).all()]
            match += [
                other for other in free if (theirs[other][cells] == row[cells]).all() and _padded(theirs[other], cells)
            ]
            if not match:
                return None
            at[index] = match[0]
        order = tuple(at[index] for index in range(len(right)))
        return None if order == (*range(len(order)),) else replace(self, order=order)


def ambiguous(grid: NDArray, real: NDArray) -> bool:
    """Whether some rows have the same tokens, or look as if they had."""
    contents = {tuple(row[cells].tolist()) for row, cells in zip(grid, real, strict=True)}
    return min(len(contents), len({*map(tuple, grid.tolist())})) < len(grid)


def _padded(row: NDArray, cells: NDArray) -> bool:
    """Whether what lies beside the cells of a row is the same number everywhere, as padding is."""
    return len({*row[~cells].tolist()}) <= 1


def _flipped(grid: NDArray, real: NDArray, *, left: bool) -> NDArray:
    """The rows with their padding on the other side: on the left, or if that is where it is, on the right."""
    parts = [(row[cells], row[~cells]) for row, cells in zip(grid, real, strict=True)]
    return np.array([np.concatenate(pair if left else pair[::-1]) for pair in parts]).reshape(grid.shape)
