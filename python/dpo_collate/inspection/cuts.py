"""What a ``max_length`` cuts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from .distributions import percentiles
from .figures import Cut

if TYPE_CHECKING:
    import numpy.typing as npt

PERCENTS: Final = (90, 95, 99)


def cuts(
    rows: npt.NDArray[np.int64],
    max_length: int | None,
    *,
    refused: bool = False,
    prompts: npt.NDArray[np.int64] | None = None,
) -> tuple[Cut, ...]:
    """What is cut at powers of two from 512, as long as anything is, at percentiles of the longer side, and at the own.

    Args:
        rows: Tokens of the rows of each pair, ``[n, rows]``, before truncation.
        max_length: The collator's own.
        refused: Whether the collator refuses what is longer, and cuts nothing.
        prompts: How many tokens at the start of all rows of a pair are its prompt, ``[n]``, where that is known and
            the start of rows is kept.
    """
    longer = rows.max(axis=1)
    most = int(longer.max())
    found = {
        limit: f"percentile {percent}" for limit, percent in zip(percentiles(longer, PERCENTS), PERCENTS, strict=True)
    }
    found.pop(0, None)  # no max_length is 0
    limit = 512
    while limit < most:
        found.setdefault(limit, "")
        limit *= 2
    if max_length is not None:
        found[max_length] = "refused" if refused else "max_length"
    return tuple(_cut(rows, limit, found[limit], prompts) for limit in sorted(found))


def unscored(rows: npt.NDArray[np.int64], prompts: npt.NDArray[np.int64], max_length: int) -> npt.NDArray[np.bool_]:
    """Which pairs have a completion of which nothing is left; one without tokens had nothing to lose."""
    return (prompts >= max_length) & (rows > prompts[:, None]).any(axis=1)


def _cut(rows: npt.NDArray[np.int64], max_length: int, why: str, prompts: npt.NDArray[np.int64] | None) -> Cut:
    lost = np.maximum(rows - max_length, 0)
    cut = lost > 0
    pairs, of_rows, tokens = int(cut.any(axis=1).sum()), int(cut.sum()), int(lost.sum())
    return Cut(
        max_length=max_length,
        why=why,
        pairs=pairs,
        pair_share=pairs / len(rows),
        rows=of_rows,
        row_share=of_rows / rows.size,
        tokens=tokens,
        token_share=tokens / max(int(rows.sum()), 1),
        unscored=None if prompts is None else int(unscored(rows, prompts, max_length).sum()),
    )
