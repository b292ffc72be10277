"""open-instruct's padding-free collator for DPO: the same arguments, the same batch.

Source: allenai/open-instruct, ``open_instruct/padding_free_collator.py`` at commit e6c3044 (2026-08-20). To put it
in, take the name out of the import that it has now, and write::

    from dpo_collate.trainers.open_instruct import TensorDataCollatorWithFlatteningDPO

On valid samples the batch equals the original's in values, dtypes and shapes, also in this: with ``max_seq_length``
the last pairs of a batch that do not fit are left out, and the loader has to bring them again (open-instruct's own
does, by the length of ``index``; a plain ``DataLoader`` would lose them). What was mended: lists and arrays are taken
like tensors; labels must be there, and as long as ids; ids, labels and positions are int64 whatever they come as.
Labels that fill up are ``separator_id`` like the first of each row (there: -100 whatever that is).

As in the original, the tail of a side that is filled up to ``max_seq_length`` is in no segment of its
``cu_seq_lens``; if the sides are then joined, it becomes a part of the first rejected row (open-instruct's issue
1900). The layout ``padding_free`` of :class:`dpo_collate.PreferenceCollator` has both sides in one row, and a tail
that is a segment.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from dpo_collate._checks import check_count
from dpo_collate._samples import head, lengths, listed
from dpo_collate.layout import Column, Layout, Matrix, Scalar

from ._cached import cached

if TYPE_CHECKING:
    from collections.abc import Callable

    from dpo_collate._samples import Samples
    from dpo_collate.collator import Batch, PreferenceCollator

_OPTIONAL = {
    "return_flash_attn_kwargs": ("{}_cu_seq_lens_q", "{}_cu_seq_lens_k", "{}_max_length_q", "{}_max_length_k"),
    "return_position_ids": ("{}_position_ids",),
    "return_seq_idx": ("{}_seq_idx",),
}

FLAT = Layout(
    "open_instruct",
    matrices=tuple(
        Matrix(
            rows=((side,),),
            columns=(
                Column("{}_input_ids", pad=0),
                Column("{}_labels", of="{}_labels", pad="label_pad_token_id", skip=1),
                Column("{}_cu_seq_lens_q", of="cu_seq_lens", dtype="int32"),
                Column("{}_cu_seq_lens_k", of="cu_seq_lens", dtype="int32"),
                Column("{}_max_length_q", of="max_length"),
                Column("{}_max_length_k", of="max_length"),
                Column("{}_position_ids", of="position"),
                Column("{}_seq_idx", of="row", pad=-1, dtype="int32"),
            ),
            flat=True,
            tail="outside",
        )
        for side in ("chosen", "rejected")
    ),
    scalars=(Scalar("index", ("index",), "int64"),),
    reserved=(),
)
"""Pairs, each side end to end, for :class:`TensorDataCollatorWithFlatteningDPO`."""


@lru_cache
def _without(options: tuple[str, ...]) -> Callable[..., PreferenceCollator]:
    """What makes collators without the columns of these options."""
    left_out = {name for option in options for name in _OPTIONAL[option]}
    matrices = (
        replace(matrix, columns=tuple(column for column in matrix.columns if column.name not in left_out))
        for matrix in FLAT.matrices
    )
    return cached(replace(FLAT, matrices=tuple(matrices)))


@dataclass
class TensorDataCollatorWithFlatteningDPO:
    """Collates pairs for open-instruct's DPO, without padding.

    Samples have ``chosen_input_ids``, ``chosen_labels``, ``rejected_input_ids``, ``rejected_labels`` (1-D) and
    ``index``. The batch has of each side ``input_ids`` and ``labels`` (the first of each row is ``separator_id``),
    int64 ``[1, T]``, ``cu_seq_lens_q`` and ``cu_seq_lens_k``, int32 ``[B + 1]``, ``max_length_q`` and
    ``max_length_k``, ints, ``position_ids``, int64 ``[1, T]``, and ``seq_idx``, int32 ``[1, T]``, all with
    ``chosen_`` or ``rejected_`` before it; and ``index``, int64 ``[B]``.

    Attributes:
        return_tensors: ``"pt"``.
        return_flash_attn_kwargs: Whether ``cu_seq_lens_*`` and ``max_length_*`` are wanted.
        return_position_ids: Whether ``position_ids`` are wanted.
        return_seq_idx: Whether ``seq_idx`` is wanted.
        separator_id: The label of each row's first token, and of tokens that fill up.
        max_seq_length: As many pairs are taken, from the first on, as neither side has more tokens; one at least. Each
            side is filled up to it: ids with 0, labels with ``separator_id``, positions with 0, ``seq_idx`` with -1.

    Raises:
        KeyError, TypeError, ValueError, OverflowError, MemoryError: As ``PreferenceCollator`` does.

    Example:
        >>> from dpo_collate.trainers.open_instruct import TensorDataCollatorWithFlatteningDPO
        >>> sample = {"chosen_input_ids": [1, 2], "chosen_labels": [1, 2], "index": 5}
        >>> sample |= {"rejected_input_ids": [3], "rejected_labels": [3]}
        >>> batch = TensorDataCollatorWithFlatteningDPO()([sample, sample])
        >>> batch["chosen_labels"], batch["chosen_cu_seq_lens_q"]
        (tensor([[-100,    2, -100,    2]]), tensor([0, 2, 4], dtype=torch.int32))
    """

    return_tensors: str = "pt"
    return_flash_attn_kwargs: bool = True
    return_position_ids: bool = True
    return_seq_idx: bool = True
    separator_id: int = -100
    max_seq_length: int | None = None

    def __call__(
        self,
        features: Samples,
        return_tensors: str | None = None,
        separator_id: int | None = None,
    ) -> Batch:
        """Makes a batch of a list of samples."""
        features = listed(features)
        collator = _without(tuple(option for option in _OPTIONAL if not getattr(self, option)))(
            pad_token_id=0,
            label_pad_token_id=self.separator_id if separator_id is None else separator_id,
            return_tensors=return_tensors or self.return_tensors,
        )
        if self.max_seq_length is not None:
            check_count("max_seq_length", self.max_seq_length, 1)
        fitting = features if self.max_seq_length is None else _fitting(features, self.max_seq_length)
        return collator(fitting, min_length=self.max_seq_length)


def _fitting(features: Any, most: int) -> Any:
    """As many pairs as can be taken before one side has more tokens than that; one at least."""
    chosen = rejected = 0
    sides = (lengths(features, f"{side}_input_ids") for side in ("chosen", "rejected"))
    for index, tokens in enumerate(zip(*sides, strict=True)):
        chosen += tokens[0]
        rejected += tokens[1]
        if index > 0 and max(chosen, rejected) > most:
            return head(features, index)
    return features
