"""xtuner's collator for DPO and reward models (v0): the same call, the same batch.

Source: InternLM/xtuner, ``xtuner/dataset/collate_fns/preference_collate_fn.py`` at commit b934f46 (2026-08-21). To
put it in, name it in the configuration, or import it in place of
``xtuner.dataset.collate_fns.preference_collate_fn``::

    from dpo_collate.trainers.xtuner import preference_collate_fn

On valid samples the batch equals the original's in values, dtypes, shapes and order of keys. What was mended: labels
must be as long as ids; arrays and tensors are taken like lists. Not here: ``use_varlen_attn``, whose rows are packed
before they are collated, and sequence parallelism.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from dpo_collate._checks import check_int64
from dpo_collate.layout import Column, Layout, Matrix, Scalar

from ._cached import cached

if TYPE_CHECKING:
    from dpo_collate._samples import Samples
    from dpo_collate.collator import Batch

_DATA = {name: name for name in ("input_ids", "attention_mask", "position_ids", "labels")}

HF_FORMAT = Layout(
    "xtuner",
    matrices=(
        Matrix(
            rows=(("chosen",), ("rejected",)),
            tokens="{}_ids",
            columns=(
                Column("input_ids", pad="pad_token_id"),
                Column("attention_mask", of="ones", dtype="bool"),
                Column("position_ids", of="position", pad="continue"),
                Column("labels", of="{}_labels", pad="label_pad_token_id"),
            ),
        ),
    ),
    order="interleaved",
    reserved=(),
)
"""Pairs, as a flat dict."""

PAIRS = replace(
    HF_FORMAT,
    scalars=(Scalar("ds_names", ("ds_name",), dtype=None),),
    returns={"data": _DATA, "data_samples": {"ds_names": "ds_names"}},
)
"""Pairs, for :func:`preference_collate_fn`."""

_pairs, _hf_format = cached(PAIRS), cached(HF_FORMAT)


def preference_collate_fn(
    instances: Samples,
    pad_index: int = 0,
    return_hf_format: bool = False,  # noqa: FBT001, FBT002 - the original's arguments
    use_varlen_attn: bool = False,  # noqa: FBT001, FBT002
) -> Batch:
    """Collates pairs for xtuner: interleaved rows.

    Args:
        instances: Samples with ``chosen_ids``, ``chosen_labels``, ``rejected_ids`` and ``rejected_labels`` (1-D), and
            maybe ``ds_name``.
        pad_index: Pads ids; labels are padded with -100.
        return_hf_format: Whether ``data`` alone is wanted.
        use_varlen_attn: Must be False.

    Returns:
        ``{"data": {...}, "data_samples": {"ds_names": [...]}}``, where ``data`` has ``input_ids``, ``attention_mask``
        (bool), ``position_ids`` and ``labels``, ``[2B, L]``: chosen 0, rejected 0, chosen 1, …, padded on the right.

    Raises:
        KeyError, TypeError, ValueError, OverflowError, MemoryError: As ``PreferenceCollator`` does; ValueError also for
            ``use_varlen_attn``.

    Example:
        >>> from dpo_collate.trainers.xtuner import preference_collate_fn
        >>> sample = {"chosen_ids": [1, 2], "chosen_labels": [-100, 2], "rejected_ids": [3], "rejected_labels": [3]}
        >>> batch = preference_collate_fn([sample])
        >>> batch["data"]["input_ids"], batch["data_samples"]
        (tensor([[1, 2],
                [3, 0]]), {'ds_names': [None]})
    """
    if use_varlen_attn:
        raise ValueError(
            "use_varlen_attn=True takes rows that were packed before, which is not done here; layout 'padding_free' of "
            "PreferenceCollator puts pairs end to end"
        )
    return (_hf_format if return_hf_format else _pairs)(pad_token_id=check_int64("pad_index", pad_index))(instances)
