"""torchtune's collator for DPO: the same call, the same batch.

Source: meta-pytorch/torchtune, ``torchtune/data/_collate.py`` at commit bd2a0fc (2026-04-23, 0.7.0). To put it in, name
it in the recipe's configuration, or import it in place of ``torchtune.data.padded_collate_dpo``::

    collate_fn: dpo_collate.trainers.torchtune.padded_collate_dpo

On valid samples the batch equals the original's in values, dtypes and shapes. What was mended: where the longest row
already is a multiple of ``pad_to_multiple_of``, the original adds one multiple more; labels must be as long as ids;
arrays and tensors are taken like lists; ids are int64 whatever they come as.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from dpo_collate._checks import check_int64
from dpo_collate.layout import Column, Layout, Matrix

from ._cached import cached

if TYPE_CHECKING:
    import torch

    from dpo_collate._samples import Samples

DPO = Layout(
    "torchtune",
    matrices=(
        Matrix(
            rows=(("chosen",), ("rejected",)),
            columns=(
                Column("input_ids", pad="pad_token_id"),
                Column("labels", of="{}_labels", pad="label_pad_token_id"),
            ),
        ),
    ),
    reserved=(),
    returns=("input_ids", "labels"),
)
"""Pairs, for :func:`padded_collate_dpo`."""

_collator = cached(DPO)


def padded_collate_dpo(
    batch: Samples, padding_idx: int = 0, ignore_idx: int = -100, pad_to_multiple_of: int = 1
) -> tuple[torch.Tensor, torch.Tensor]:
    """Collates pairs for torchtune's DPO recipes.

    Args:
        batch: Samples with ``chosen_input_ids``, ``chosen_labels``, ``rejected_input_ids`` and ``rejected_labels``
            (1-D); other keys are left out.
        padding_idx: Pads ids.
        ignore_idx: Pads labels.
        pad_to_multiple_of: The width is rounded up to a multiple of it.

    Returns:
        Ids and labels, both int64 ``[2B, L]``: all chosen rows, then all rejected, padded on the right.

    Raises:
        KeyError, TypeError, ValueError, OverflowError, MemoryError: As ``PreferenceCollator`` does.

    Example:
        >>> from dpo_collate.trainers.torchtune import padded_collate_dpo
        >>> side = {"chosen_input_ids": [1, 2], "chosen_labels": [-100, 2]}
        >>> other = {"rejected_input_ids": [1], "rejected_labels": [1]}
        >>> padded_collate_dpo([{**side, **other}])
        (tensor([[1, 2],
                [1, 0]]), tensor([[-100,    2],
                [   1, -100]]))
    """
    collator = _collator(
        pad_token_id=check_int64("padding_idx", padding_idx),
        label_pad_token_id=check_int64("ignore_idx", ignore_idx),
        pad_to_multiple_of=pad_to_multiple_of,
    )
    return cast("tuple[torch.Tensor, torch.Tensor]", collator(batch))
