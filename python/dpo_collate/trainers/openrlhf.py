"""OpenRLHF's collator of ``RewardDataset``: the same samples, the same batch.

Source: OpenRLHF/OpenRLHF, ``openrlhf/datasets/reward_dataset.py`` at commit 3c3be62 (2026-08-13). It is a method there,
so put it in by an assignment, before the data set is handed to ``strategy.setup_dataloader``::

    from dpo_collate.trainers.openrlhf import RewardCollator

    train_dataset.collate_fn = RewardCollator(tokenizer.pad_token_id, is_dpo=True)  # rewards: is_dpo=False

On valid samples the batch equals the original's in values, dtypes and shapes. What was mended: rows may be ``[L]`` as
well as ``[1, L]`` (the original makes one long row of those), arrays and lists as well as tensors; masks must be as
long as ids; ids and masks are int64 whatever they come as.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from dpo_collate.layout import Column, Layout, Matrix, Scalar

from ._cached import cached

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch

_PARTS = ("chosen_ids", "chosen_mask", "reject_ids", "reject_mask", "extra")

PAIRS = Layout(
    "openrlhf",
    matrices=tuple(
        Matrix(
            rows=((stem,),),
            tokens="{}_ids",
            columns=(Column("{}_ids", pad="pad_token_id"), Column("{}_mask", of="{}_mask")),
        )
        for stem in ("chosen", "reject")
    ),
    scalars=(Scalar("extra", ("extra",), dtype=None),),
    sample=_PARTS,
    unbatch=True,
    reserved=(),
    returns=_PARTS,
)
"""Pairs, for :class:`RewardCollator`."""

_collator = cached(PAIRS)

RewardBatch: TypeAlias = "tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, list[Any]]"


@dataclass
class RewardCollator:
    """Collates the pairs of OpenRLHF's ``RewardDataset``, for DPO and for reward models.

    A sample is a tuple: the chosen row's ids ``[1, L]`` and mask ``[1, L]``, those of the rejected row, and an extra
    (the length of the prompt, or the margin). The batch is a tuple too: ids and masks, int64 ``[B, L]``, each side of a
    width of its own, and the list of extras.

    Attributes:
        pad_token_id: Pads ids; masks are padded with 0.
        is_dpo: Padding is on the right; for reward models, on the left.

    Raises:
        KeyError, TypeError, ValueError, OverflowError, MemoryError: As ``PreferenceCollator`` does.

    Example:
        >>> from dpo_collate.trainers.openrlhf import RewardCollator
        >>> short, long = ([[3]], [[1]]), ([[3, 4]], [[1, 1]])
        >>> batch = RewardCollator(pad_token_id=0, is_dpo=False)([(*short, *long, 0.5), (*long, *short, 1.0)])
        >>> batch[0], batch[4]
        (tensor([[0, 3],
                [3, 4]]), [0.5, 1.0])
    """

    pad_token_id: int
    is_dpo: bool = True

    def __call__(self, item_list: Sequence[Any]) -> RewardBatch:
        """Makes a batch of a list of samples."""
        collator = _collator(pad_token_id=self.pad_token_id, padding_side="right" if self.is_dpo else "left")
        return cast("RewardBatch", collator(item_list))
