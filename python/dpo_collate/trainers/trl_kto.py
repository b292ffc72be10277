"""TRL's collator for ``KTOTrainer``: the same call, the same batch.

Source: huggingface/trl, ``trl/trainer/kto_trainer.py``, as in TRL 1.16. Put it in where the trainer is made::

    from dpo_collate.trainers.trl_kto import DataCollatorForUnpairedPreference

    KTOTrainer(..., data_collator=DataCollatorForUnpairedPreference(tokenizer.pad_token_id, max_length=1024))

On valid samples the batch equals the original's in values, dtypes, shapes and order of keys. What was mended: arrays
and tensors are taken like lists; labels are bool, and log-probabilities float32, whatever they come as; what may be
left out must be in all samples or in none (the original looks into the first one); a sample of whose completion
truncation leaves nothing is an error that names it.
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

KTO = Layout(
    "trl_kto",
    matrices=tuple(
        Matrix(
            rows=(("prompt", f"{prefix}completion"),),
            tokens="{}_ids",
            columns=(
                Column(f"{prefix}input_ids", pad="pad_token_id"),
                Column(f"{prefix}attention_mask", of="ones"),
                Column(f"{prefix}completion_mask", of="ones", on=(1,)),
            ),
            optional=prefix == "KL_",
        )
        for prefix in ("", "KL_")
    ),
    scalars=(
        Scalar("ref_logps", ("ref_logps",), optional=True),
        Scalar("ref_KL_logps", ("ref_KL_logps",), optional=True),
        Scalar("label", ("label",), "bool"),
    ),
    reserved=(),
)
"""Single completions, for :class:`DataCollatorForUnpairedPreference`."""

_collator = cached(KTO)


@dataclass
class DataCollatorForUnpairedPreference(TrlCall):
    """Collates single completions, each of them good or bad, for ``trl.KTOTrainer``.

    Samples have ``prompt_ids`` and ``completion_ids`` (1-D) and ``label``, and maybe ``KL_completion_ids``,
    ``ref_logps`` and ``ref_KL_logps``. The batch has ``input_ids``, ``attention_mask`` and ``completion_mask``, int64
    ``[B, L]``, padded on the right; the same with ``KL_`` before it, of its own width; ``label``, bool ``[B]``; and the
    log-probabilities, float32 ``[B]``. Other keys are left out.

    Attributes:
        pad_token_id: Pads token ids.
        max_length: Of longer rows the beginning is kept, prompt and completion together.
        pad_to_multiple_of: Widths are rounded up to a multiple of it.
        return_tensors: ``"pt"``, or ``"np"`` for arrays.

    Raises:
        KeyError, TypeError, ValueError, OverflowError, MemoryError: As ``PreferenceCollator`` does.

    Example:
        >>> from dpo_collate.trainers.trl_kto import DataCollatorForUnpairedPreference
        >>> collator = DataCollatorForUnpairedPreference(pad_token_id=0)
        >>> batch = collator([{"prompt_ids": [1], "completion_ids": [2, 3], "label": True}])
        >>> batch["completion_mask"], batch["label"]
        (tensor([[0, 1, 1]]), tensor([True]))
    """

    pad_token_id: int
    max_length: int | None = None
    pad_to_multiple_of: int | None = None
    return_tensors: Literal["pt", "np"] = "pt"

    def _collate(self, features: Samples, return_tensors: Literal["pt", "np"]) -> Batch:
        collator = _collator(
            pad_token_id=self.pad_token_id,
            max_length=self.max_length,
            pad_to_multiple_of=self.pad_to_multiple_of,
            return_tensors=return_tensors,
        )
        return collator(features)
