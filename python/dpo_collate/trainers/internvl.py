"""InternVL's collators: the same call, the same batch.

Source: OpenGVLab/InternVL, ``internvl_chat/internvl/patch/pad_data_collator.py`` at commit 2410d1d
(2025-09-22). To put them in, change the import in ``internvl_chat_mpo.py`` (or your own script)::

    from dpo_collate.trainers.internvl import dpo_concat_pad_data_collator

On valid samples the batch equals the original's bit for bit: values, dtypes, shapes, order of keys,
bool attention masks made by comparing ids with the pad id, extra keys stacked. What was mended:

- samples are left as they are (the original writes padded rows back into them, so that a data set
  that keeps its samples in memory sees rows that only ever grow);
- lists, tuples and arrays of ids work like tensors;
- what it accepts by accident is an error that names the sample: labels shorter than ids (filled with
  -100), floating-point ids (cut to integers), keys that only later samples have (dropped), flags and
  tiles that differ in number, images of different dtypes (promoted);
- images of no tile at all count as no images.

The masks are wrong wherever a real token has the pad id (InternVL's issue 908: pad id 0 is ``!`` in
Qwen2's vocabulary), and equal the original's all the same; ``PreferenceCollator`` makes right ones.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING

from dpo_collate._checks import check_count, check_int64
from dpo_collate._samples import has, listed
from dpo_collate.layout import Column, Layout, Length, Matrix
from dpo_collate.named import IMAGES, PAIR

from ._cached import cached

if TYPE_CHECKING:
    from collections.abc import Callable

    from dpo_collate._samples import Samples
    from dpo_collate.collator import Batch, PreferenceCollator

_IDS = Column("{}input_ids", pad="pad_token_id")
_LABELS = Column("{}labels", of="{}labels", pad="label_pad_token_id")
_MASK = Column("{}attention_mask", dtype="bool", differs_from="pad_token_id")

DPO = Layout(
    "internvl",
    matrices=tuple(
        Matrix(rows=((f"{side}_",),), tokens="{}input_ids", columns=(_IDS, _LABELS, _MASK)) for side in PAIR
    ),
    media=IMAGES,
    extra="stack",
    reserved=(),
    returns="sample",
)
"""Pairs, for ``dpo_concat_pad_data_collator``."""

SFT = Layout(
    "internvl_sft",
    matrices=(
        Matrix(
            rows=(("",),),
            tokens="{}input_ids",
            columns=(
                _IDS,
                _LABELS,
                _MASK,
                Column("{}position_ids", of="{}position_ids", pad="pad_token_id", optional=True),
                Column("{}loss_weight", of="{}loss_weight", pad="pad_token_id", dtype="float32", optional=True),
            ),
        ),
    ),
    media=IMAGES,
    extra="stack",
    reserved=(),
    ignored=("label", "label_ids"),
    returns="sample",
)
"""Single responses, for ``concat_pad_data_collator``."""

_dpo, _sft = cached(DPO), cached(SFT)


def dpo_concat_pad_data_collator(features: Samples, pad_id: int = 0) -> Batch:
    """Collates preference pairs with images.

    Args:
        features: Samples with ``chosen_input_ids``, ``chosen_labels``, ``rejected_input_ids``,
            ``rejected_labels`` (1-D), and mostly ``pixel_values`` ``[p, 3, H, W]`` and ``image_flags``
            ``[p]``.
        pad_id: Pads ids; a mask is False where an id equals it.

    Returns:
        The keys of the first sample in its order, then those attention masks which it does not
        have. Chosen and rejected are padded independently on the right: ids and labels int64
        ``[B, L]``, masks bool ``[B, L]``; ``pixel_values`` and ``image_flags`` are concatenated;
        other keys are stacked, strings and None left out.

    Raises:
        KeyError, TypeError, ValueError, OverflowError, MemoryError: As ``PreferenceCollator`` does.

    Example:
        >>> from dpo_collate.trainers.internvl import dpo_concat_pad_data_collator
        >>> side = {"chosen_input_ids": [7, 0, 5], "chosen_labels": [-100, 0, 5]}
        >>> other = {"rejected_input_ids": [7, 6], "rejected_labels": [-100, 6]}
        >>> batch = dpo_concat_pad_data_collator([{**side, **other}])
        >>> batch["chosen_attention_mask"]  # as the original: the real token 0 is masked
        tensor([[ True, False,  True]])
    """
    return _dpo(pad_token_id=check_int64("pad_id", pad_id))(features)


def concat_pad_data_collator(features: Samples, max_item_length: int | None = None, pad_id: int = 0) -> Batch:
    """Collates single responses with images: the collator that the one for pairs extends.

    Args:
        features: Samples with ``input_ids`` and ``labels`` (1-D), optionally ``position_ids`` and
            ``loss_weight``, and mostly ``pixel_values`` and ``image_flags``.
        max_item_length: Width of the batch; None: that of the longest sample.
        pad_id: Pads ids, positions and weights; a mask is False where an id equals it.

    Returns:
        As :func:`dpo_concat_pad_data_collator`; ``loss_weight`` is float32.

    Raises:
        ValueError: A sample is longer than ``max_item_length``.
        KeyError, TypeError, ValueError, OverflowError, MemoryError: As ``PreferenceCollator`` does.

    Example:
        >>> from dpo_collate.trainers.internvl import concat_pad_data_collator
        >>> concat_pad_data_collator([{"input_ids": [7, 5], "labels": [-100, 5]}], max_item_length=3)["labels"]
        tensor([[-100,    5, -100]])
    """
    pad_id = check_int64("pad_id", pad_id)
    if max_item_length is not None:
        max_item_length = check_count("max_item_length", max_item_length, 0)
    features = listed(features)
    batch = (_fixed(max_item_length) if max_item_length else _sft)(pad_token_id=pad_id)(features)
    if any(has(features, 0, key) for key in ("label", "label_ids")):
        # The original makes `labels` of these, first of all, and then overwrites them by the labels.
        batch = {"labels": batch["labels"], **batch}
    return batch


@lru_cache(maxsize=64)
def _fixed(width: int) -> Callable[..., PreferenceCollator]:
    length = Length(max_length=width, truncation_mode="error", min_length=width)
    return cached(replace(SFT, matrices=tuple(replace(matrix, length=length) for matrix in SFT.matrices)))
