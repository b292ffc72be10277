"""The layouts that lengths can be laid out in."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import numpy as np

from dpo_collate._grids import grids_of
from dpo_collate._token_rows import token_rows
from dpo_collate.named import named

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

    from dpo_collate.layout import Layout, Length

    Numbers = npt.NDArray[np.int64]

_OTHERS: Final = ("separate", "concatenated", "padding_free", "prompt_left")


@dataclass(frozen=True)
class Form:
    """A layout, and the lengths of the rows that its matrices have, ``[n, rows]``."""

    layout: Layout
    lengths: Numbers

    def only(self, pairs: npt.NDArray[np.integer | np.bool_]) -> Form:
        """The same of some pairs: their indices, or a mask."""
        return Form(self.layout, self.lengths[pairs])


def bare(layout: Layout) -> Layout:
    """The layout without what samples may leave out: its bytes are those of batches that have no optional column."""
    matrices = []
    for matrix in layout.matrices:
        columns = tuple(column for column in matrix.columns if not column.optional)
        matrices.append(replace(matrix, columns=columns or matrix.columns))
    return replace(layout, matrices=tuple(matrices))


def row_names(layout: Layout) -> tuple[str, ...]:
    """What the columns of lengths are called: ``"chosen"``, or ``"prompt + chosen"``."""
    return tuple(" + ".join(map(_short, row.keys)) for row in token_rows(layout))


def _short(key: str) -> str:
    return key.removesuffix("_ids").removesuffix("_input")


def joined(layout: Layout, lengths: Numbers) -> Numbers:
    """The tokens that the model sees of each row: with the prompt, where the layout has it in a row of its own."""
    if _is_prompt_left(layout):
        return lengths[:, 1:] + lengths[:, :1]
    return lengths


def prompts_of(layout: Layout, lengths: Numbers, parts: Mapping[str, Numbers]) -> Numbers | None:
    """How long prompts are, where that is known, ``[n]``."""
    return lengths[:, 0] if _is_prompt_left(layout) else parts.get("prompt")


def forms(layout: Layout, lengths: Numbers, parts: Mapping[str, Numbers]) -> tuple[Form, ...]:
    """The layout itself, and the others that these pairs could have.

    There are others where the rows are the two of a pair; ``prompt_left`` is one if ``parts`` has the prompts. They
    truncate and round as the layout does; but buckets are for rows or for whole batches, so that where the layout has
    rows end to end and the other has not, the other one has exact widths. ``prompt_left`` does not truncate.

    Raises:
        ValueError: A prompt is longer than a row that it should be part of.
    """
    found = [Form(layout, lengths)]
    rows = joined(layout, lengths)
    if rows.shape[1] != 2:
        return tuple(found)
    prompts = prompts_of(layout, lengths, parts)
    known = {_signature(layout)}
    for name in _OTHERS:
        other = bare(named(name))
        if _signature(other) in known or (name == "prompt_left" and prompts is None):
            continue
        if name == "prompt_left":
            found.append(Form(_like(other, layout), _apart(rows, prompts)))
        else:
            found.append(Form(_like(other, layout), rows))
    return tuple(found)


def _is_prompt_left(layout: Layout) -> bool:
    return layout.name == "prompt_left"


def _signature(layout: Layout) -> tuple[tuple[tuple[int, ...], bool, int], ...]:
    """What of a layout decides over its cells."""
    return tuple(sorted((grid.rows, grid.flat, grid.drop_last) for grid in grids_of(layout)))


def _apart(rows: Numbers, prompts: Numbers | None) -> Numbers:
    """Prompt, and what rows have besides."""
    assert prompts is not None  # noqa: S101 - for mypy
    found = np.column_stack([prompts, rows - prompts[:, None]])
    wrong = np.flatnonzero((found < 0).any(axis=1))
    if len(wrong):
        pair = int(wrong[0])
        raise ValueError(
            f"pair {pair}: parts['prompt'] is {int(prompts[pair])}, more than its shorter row of "
            f"{int(rows[pair].min())} tokens"
        )
    return found


def _like(other: Layout, layout: Layout) -> Layout:
    """The other layout with lengths as this one has them."""
    own = grids_of(layout)[0]
    matrices = []
    for matrix in other.matrices:
        length: Length = own.length
        if matrix.flat != own.flat:
            length = replace(length, buckets=())
        if _is_prompt_left(other):
            length = replace(length, max_length=None, truncation_mode="keep_start")
        matrices.append(replace(matrix, length=length))
    return replace(other, matrices=tuple(matrices))
