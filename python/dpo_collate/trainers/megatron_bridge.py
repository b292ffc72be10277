"""Megatron-Bridge's collator for DPO: the same call, the same batch.

Source: NVIDIA-NeMo/Megatron-Bridge, ``src/megatron/bridge/data/datasets/preference.py`` at commit 0eca073 (2026). To
put it in, take the name out of the import that it has now, and write::

    from dpo_collate.trainers.megatron_bridge import preference_collate_fn

On valid samples the batch equals the original's in values, dtypes, shapes and order of keys. The original checks that
masks are as long as ids and that something is scored, as we do; its errors name the ``pair_id``, ours the index of the
sample and the key. ``labels`` is contiguous here.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from dpo_collate._checks import check_count
from dpo_collate.layout import Column, Layout, Matrix, Scalar

from ._cached import cached

if TYPE_CHECKING:
    from dpo_collate._samples import Samples
    from dpo_collate.collator import Batch

_NAMES = ("tokens", "labels", "loss_mask", "position_ids", "attention_mask", "pair_id", "loss_multiplier")
_REFERENCE = ("ref_logprob_sum", "ref_num_tokens")


def _of_sides(name: str) -> tuple[str, str]:
    return (f"ref_chosen_{name}", f"ref_rejected_{name}")


POLICY = Layout(
    "megatron_bridge",
    matrices=(
        Matrix(
            rows=(("chosen",), ("rejected",)),
            drop_last=1,
            columns=(
                Column("tokens", pad="pad_token_id"),
                Column("labels", pad="pad_token_id", shift=1),
                Column("loss_mask", of="{}_loss_mask", differs_from=0, shift=1, nonempty=True),
                Column("position_ids", of="position", pad="continue"),
            ),
        ),
    ),
    scalars=(
        Scalar("pair_id", ("pair_id", "pair_id"), "int64"),
        Scalar("loss_multiplier", ("loss_multiplier", "loss_multiplier"), default=1.0),
    ),
    constants=(("attention_mask", None),),
    order="interleaved",
    reserved=(),
    returns={name: name for name in _NAMES},
)
"""Pairs, without what the reference model says of them."""

PAIRS = replace(
    POLICY,
    scalars=(
        *POLICY.scalars,
        Scalar("ref_logprob_sum", _of_sides("logprob_sum")),
        Scalar("ref_num_tokens", _of_sides("num_tokens"), "int64"),
    ),
    returns={name: name for name in (*_NAMES, *_REFERENCE)},
)
"""Pairs, for :func:`preference_collate_fn`."""

_policy, _pairs = cached(POLICY), cached(PAIRS)


def preference_collate_fn(
    batch: Samples,
    pad_token_id: int,
    pad_seq_length_to_mult: int = 1,
    require_ref_logprobs: bool = True,  # noqa: FBT001, FBT002 - the original's arguments
) -> Batch:
    """Collates pairs for Megatron-Bridge: interleaved rows, labels of the token that comes next.

    Args:
        batch: Samples with ``chosen_input_ids``, ``rejected_input_ids``, ``chosen_loss_mask``, ``rejected_loss_mask``
            (1-D) and ``pair_id``, maybe ``loss_multiplier``, and ``ref_chosen_logprob_sum``,
            ``ref_rejected_logprob_sum``, ``ref_chosen_num_tokens`` and ``ref_rejected_num_tokens``.
        pad_token_id: Pads tokens and labels.
        pad_seq_length_to_mult: The width is rounded up to a multiple of it.
        require_ref_logprobs: Whether the four ``ref_`` keys are wanted.

    Returns:
        ``tokens``, ``labels``, ``loss_mask`` and ``position_ids``, int64 ``[2B, L]``: chosen 0, rejected 0, chosen 1,
        …, each row one token shorter than its sample's; ``attention_mask``, which is None; ``pair_id`` (int64),
        ``loss_multiplier`` and ``ref_logprob_sum`` (float32) and ``ref_num_tokens`` (int64), ``[2B]``.

    Raises:
        KeyError, TypeError, ValueError, OverflowError, MemoryError: As ``PreferenceCollator`` does; ValueError also if
            no token of a row is scored.

    Example:
        >>> from dpo_collate.trainers.megatron_bridge import preference_collate_fn
        >>> sample = {"chosen_input_ids": [1, 2, 3], "chosen_loss_mask": [0, 1, 1], "pair_id": 7}
        >>> sample |= {"rejected_input_ids": [1, 4], "rejected_loss_mask": [0, 1]}
        >>> batch = preference_collate_fn([sample], pad_token_id=0, require_ref_logprobs=False)
        >>> batch["tokens"], batch["labels"]
        (tensor([[1, 2],
                [1, 0]]), tensor([[2, 3],
                [4, 0]]))
    """
    collator = _pairs if require_ref_logprobs else _policy
    return collator(
        pad_token_id=pad_token_id,
        pad_to_multiple_of=max(check_count("pad_seq_length_to_mult", pad_seq_length_to_mult, 0), 1),
    )(batch)
