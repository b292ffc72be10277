"""TRL's collator for ``RewardTrainer``: the same call, the same batch.

Source: huggingface/trl, ``trl/trainer/reward_trainer.py``, as in TRL 1.16. (Its class has the name of the one for DPO,
and takes other samples.) Put it in where the trainer is made::

    from dpo_collate.trainers.trl_reward import DataCollatorForPreference

    RewardTrainer(..., data_collator=DataCollatorForPreference(tokenizer.pad_token_id))

On valid samples the batch equals the original's in values, dtypes, shapes and order of keys. What was mended: margins
must be in all samples or in none (the original looks into the first one); ids are int64 whatever the first row is
(there int32 or, if it is empty, floats).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from dpo_collate.layout import Column, Layout, Matrix, Scalar

from ._cached import cached
from ._trl_call import TrlCall

if TYPE_CHECKING:
    from dpo_collate._samples import Samples
    from dpo_collate.collator import Batch

REWARD = Layout(
    "trl_reward",
    matrices=(
        Matrix(
            rows=(("chosen",), ("rejected",)),
            tokens="{}_ids",
            columns=(Column("input_ids", pad="pad_token_id"), Column("attention_mask", of="ones")),
        ),
    ),
    scalars=(Scalar("margin", ("margin",), optional=True),),
    reserved=(),
)
"""Pairs, for :class:`DataCollatorForPreference`."""

_collator = cached(REWARD)


@dataclass
class DataCollatorForPreference(TrlCall):
    """Collates pairs for ``trl.RewardTrainer``.

    Samples have ``chosen_ids`` and ``rejected_ids`` (1-D, prompts included), and maybe ``margin``. The batch has
    ``input_ids`` and ``attention_mask``, int64 ``[2B, L]``: all chosen rows, then all rejected, padded on the right;
    and ``margin``, float32 ``[B]``. Other keys are left out.

    Attributes:
        pad_token_id: Pads token ids.
        pad_to_multiple_of: The width is rounded up to a multiple of it.
        return_tensors: ``"pt"``, or ``"np"`` for arrays.

    Raises:
        KeyError, TypeError, ValueError, OverflowError, MemoryError: As ``PreferenceCollator`` does.

    Example:
        >>> from dpo_collate.trainers.trl_reward import DataCollatorForPreference
        >>> DataCollatorForPreference(pad_token_id=0)([{"chosen_ids": [1, 2], "rejected_ids": [3]}])["input_ids"]
        tensor([[1, 2],
                [3, 0]])
    """

    pad_token_id: int
    pad_to_multiple_of: int | None = None
    return_tensors: Literal["pt", "np"] = "pt"

    def _collate(self, features: Samples, return_tensors: Literal["pt", "np"]) -> Batch:
        collator = _collator(
            pad_token_id=self.pad_token_id,
            pad_to_multiple_of=self.pad_to_multiple_of,
            return_tensors=return_tensors,
        )
        return collator(features)
