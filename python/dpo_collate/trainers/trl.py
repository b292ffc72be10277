"""TRL's collator for ``DPOTrainer``, TRL 0.29 and later: the same call, the same batch.

Source: huggingface/trl, ``trl/trainer/dpo_trainer.py``, as in TRL 1.16. Put it in where the trainer is made; TRL gives
its own settings to its own collator only, so ``max_length`` has to be said here::

    from dpo_collate.trainers.trl import DataCollatorForPreference

    DPOTrainer(..., data_collator=DataCollatorForPreference(tokenizer.pad_token_id, max_length=1024))

On valid samples the batch equals the original's in values, dtypes, shapes and order of keys. What was mended:

- prompts and completions may be arrays and tensors as well (the original adds them element by element);
- reference log-probabilities are float32 whatever they come as, and must be in all samples or in none (the original
  looks into the first one);
- an empty first row gives integers like all others (there: floats);
- a sample of whose completion truncation leaves nothing is an error that names it. (TRL removes such samples from its
  data sets when it tokenises them.)
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Literal

from dpo_collate.layout import Column, Layout, Matrix, Media, Scalar

from ._cached import cached
from ._trl_call import TrlCall

if TYPE_CHECKING:
    from collections.abc import Callable

    from dpo_collate._samples import Samples
    from dpo_collate.collator import Batch, PreferenceCollator

DPO = Layout(
    "trl",
    matrices=(
        Matrix(
            rows=(("prompt", "chosen"), ("prompt", "rejected")),
            tokens="{}_ids",
            columns=(
                Column("input_ids", pad="pad_token_id"),
                Column("attention_mask", of="ones"),
                Column("completion_mask", of="ones", on=(1,)),
            ),
        ),
    ),
    scalars=tuple(Scalar(name, (name,), optional=True) for name in ("ref_chosen_logps", "ref_rejected_logps")),
    reserved=(),
)
"""Pairs, for :class:`DataCollatorForPreference`."""


@dataclass
class DataCollatorForPreference(TrlCall):
    """Collates pairs for ``trl.DPOTrainer``.

    Samples have ``prompt_ids``, ``chosen_ids`` and ``rejected_ids`` (1-D), and maybe ``ref_chosen_logps`` and
    ``ref_rejected_logps``. The batch has ``input_ids``, ``attention_mask`` and ``completion_mask``, int64 ``[2B, L]``:
    all chosen rows, then all rejected, padded on the right; and the log-probabilities, float32 ``[B]``. Other keys are
    left out: TRL hands what a batch has to the model.

    Attributes:
        pad_token_id: Pads token ids.
        max_length: Longer rows are truncated, prompt and completion together.
        truncation_mode: ``"keep_start"`` or ``"keep_end"``.
        pad_to_multiple_of: The width is rounded up to a multiple of it.
        return_tensors: ``"pt"``, or ``"np"`` for arrays.
        model_keys: Further keys that the model takes, such as ``("pixel_values", "image_grid_thw")``: concatenated on
            dimension 0, once for each row, in row order.

    Raises:
        KeyError, TypeError, ValueError, OverflowError, MemoryError: As ``PreferenceCollator`` does.

    Example:
        >>> from dpo_collate.trainers.trl import DataCollatorForPreference
        >>> collator = DataCollatorForPreference(pad_token_id=0)
        >>> batch = collator([{"prompt_ids": [1, 2], "chosen_ids": [3], "rejected_ids": [4, 5]}])
        >>> batch["input_ids"]
        tensor([[1, 2, 3, 0],
                [1, 2, 4, 5]])
        >>> batch["completion_mask"]
        tensor([[0, 0, 1, 0],
                [0, 0, 1, 1]])
    """

    pad_token_id: int
    max_length: int | None = None
    truncation_mode: Literal["keep_start", "keep_end"] = "keep_start"
    pad_to_multiple_of: int | None = None
    return_tensors: Literal["pt", "np"] = "pt"
    _: KW_ONLY
    model_keys: tuple[str, ...] = ()

    def _collate(self, features: Samples, return_tensors: Literal["pt", "np"]) -> Batch:
        if isinstance(self.model_keys, str):
            raise TypeError(f"model_keys={self.model_keys!r}: expected a tuple of keys")
        collator = _with(tuple(self.model_keys))(
            pad_token_id=self.pad_token_id,
            max_length=self.max_length,
            truncation_mode=self.truncation_mode,
            pad_to_multiple_of=self.pad_to_multiple_of,
            return_tensors=return_tensors,
        )
        return collator(features)


@lru_cache(maxsize=64)
def _with(model_keys: tuple[str, ...]) -> Callable[..., PreferenceCollator]:
    return cached(replace(DPO, media=tuple(Media(key, (key, key)) for key in model_keys)))
