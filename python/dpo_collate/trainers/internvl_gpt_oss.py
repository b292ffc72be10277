"""InternVL's collator for gpt-oss models (``internvl_chat_gpt_oss``): the same call, the same batch.

Source: OpenGVLab/InternVL, ``internvl_chat_gpt_oss/internvl/patch/pad_data_collator.py`` at commit 2410d1d
(2025-09-22). To put it in, take the name out of the import that it has now, and write::

    from dpo_collate.trainers.internvl_gpt_oss import dpo_concat_pad_data_collator

On valid samples the batch equals the original's bit for bit, as :mod:`dpo_collate.trainers.internvl` says of its own,
which also says what was mended. Prompts are padded on the right here, as the original does. Labels, if samples have
any, are not padded but stacked.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dpo_collate._checks import check_int64
from dpo_collate.layout import Column, Layout, Matrix
from dpo_collate.named import IMAGES

from ._cached import cached

if TYPE_CHECKING:
    from dpo_collate._samples import Samples
    from dpo_collate.collator import Batch

DPO = Layout(
    "internvl_gpt_oss",
    matrices=tuple(
        Matrix(
            rows=((stem,),),
            columns=(
                Column("{}_input_ids", pad="pad_token_id"),
                Column("{}_attention_mask", differs_from="pad_token_id"),
            ),
        )
        for stem in ("chosen", "rejected", "prompt")
    ),
    media=IMAGES,
    extra="stack",
    reserved=(),
    returns="sample",
)
"""Pairs with prompts of their own, for :func:`dpo_concat_pad_data_collator`."""

_collator = cached(DPO)


def dpo_concat_pad_data_collator(features: Samples, pad_id: int = 0) -> Batch:
    """Collates preference pairs with images, whose prompts are rows of their own.

    Args:
        features: Samples with ``prompt_input_ids``, ``chosen_input_ids`` and ``rejected_input_ids`` (1-D), and mostly
            ``pixel_values`` ``[p, 3, H, W]`` and ``image_flags`` ``[p]``.
        pad_id: Pads ids; a mask is 0 where an id equals it.

    Returns:
        The keys of the first sample in its order, then those attention masks which it does not have: ids and masks
        int64 ``[B, L]``, each padded on the right to a width of its own; ``pixel_values`` and ``image_flags``
        concatenated; other keys stacked, strings and None left out.

    Raises:
        KeyError, TypeError, ValueError, OverflowError, MemoryError: As ``PreferenceCollator`` does.

    Example:
        >>> from dpo_collate.trainers.internvl_gpt_oss import dpo_concat_pad_data_collator
        >>> sample = {"prompt_input_ids": [7], "chosen_input_ids": [5, 0], "rejected_input_ids": [6]}
        >>> dpo_concat_pad_data_collator([sample])["chosen_attention_mask"]  # as the original: the token 0 is masked
        tensor([[1, 0]])
    """
    return _collator(pad_token_id=check_int64("pad_id", pad_id))(features)
