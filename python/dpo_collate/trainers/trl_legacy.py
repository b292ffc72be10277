"""TRL's older collators: ``DPOTrainer`` of TRL 0.14 to 0.28, and the trainers for CPO, ORPO and SimPO.

Source: huggingface/trl at v0.28.0, ``trl/trainer/dpo_trainer.py`` and ``trl/experimental/utils.py`` (the same in TRL
1.16). Put them in where the trainer is made::

    from dpo_collate.trainers.trl_legacy import DataCollatorForPreference  # or DPODataCollatorWithPadding

    DPOTrainer(..., data_collator=DataCollatorForPreference(tokenizer.pad_token_id))

On valid samples the batches equal the originals' in values, dtypes, shapes and order of keys. What was mended: lists,
arrays and tensors are taken alike; ids are int64 and log-probabilities float32 whatever they come as; what may be left
out must be in all samples or in none (the originals look into the first one, and drop one of the two log-probabilities
without the other).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from dpo_collate.layout import Column, Layout, Matrix, Media, Scalar

from ._cached import cached
from ._trl_call import TrlCall

if TYPE_CHECKING:
    from dpo_collate._samples import Samples
    from dpo_collate.collator import Batch

_KEYS = tuple(f"{stem}_{of}" for stem in ("prompt", "chosen", "rejected") for of in ("input_ids", "attention_mask"))
_MORE = ("pixel_values", "pixel_attention_mask", "image_sizes")
_LOGPS = ("ref_chosen_logps", "ref_rejected_logps")

DPO = Layout(
    "trl_legacy",
    matrices=(
        *(
            Matrix(
                rows=((stem,),),
                columns=(Column("{}_input_ids", pad="pad_token_id"), Column("{}_attention_mask", of="ones")),
                side="left" if stem == "prompt" else "right",
            )
            for stem in ("prompt", "chosen", "rejected")
        ),
        # Of the prompt, but padded to a width of its own.
        Matrix(
            rows=(("",),),
            columns=(Column("token_type_ids", pad=0),),
            tokens="{}token_type_ids",
            side="left",
            optional=True,
        ),
    ),
    media=(
        Media("pixel_values", ("pixel_values",), combine="pad"),
        Media("pixel_attention_mask", ("pixel_attention_mask",), combine="pad"),
        Media("image_sizes", ("image_sizes",), combine="stack"),
    ),
    scalars=tuple(Scalar(name, (name,), optional=True) for name in _LOGPS),
    reserved=(),
    returns={name: name for name in (*_KEYS, *_MORE, *_LOGPS, "token_type_ids")},
)
"""Pairs, for :class:`DataCollatorForPreference`."""


def _padded(
    stem: str, tokens: str, pad: Literal["pad_token_id"] | int, side: Literal["left", "right"] = "right"
) -> Matrix:
    """Rows of one key, shown under their own name."""
    return Matrix(rows=((stem,),), columns=(Column(tokens, pad=pad),), tokens=tokens, side=side, optional=stem != "*")


BY_SUFFIX = Layout(
    "trl_by_suffix",
    matrices=(
        _padded("prompt", "{}_input_ids", "pad_token_id", "left"),
        _padded("prompt", "{}_attention_mask", 0, "left"),
        _padded("*", "{}_input_ids", "pad_token_id"),
        _padded("*", "{}_labels", -100),
        _padded("*", "{}_attention_mask", 0),
    ),
    media=(Media("*_pixel_values", ("*_pixel_values",), combine="pad", dtype="float32"),),
    scalars=(Scalar("*_logps", ("*_logps",), optional=True),),
    extra="list",
    reserved=(),
    returns="sample",
)
"""Whatever the keys end in, for :class:`DPODataCollatorWithPadding`."""

ENCODER_DECODER = Layout(
    "trl_encoder_decoder",
    matrices=(
        _padded("prompt", "{}_input_ids", "pad_token_id"),
        _padded("*", "{}_input_ids", -100),
        _padded("*", "{}_labels", -100),
        _padded("*", "{}_attention_mask", 0),
    ),
    scalars=BY_SUFFIX.scalars,
    extra="list",
    reserved=(),
    returns="sample",
)
"""Likewise, for models that have an encoder and a decoder."""

_dpo, _by_suffix, _encoder_decoder = cached(DPO), cached(BY_SUFFIX), cached(ENCODER_DECODER)


@dataclass
class DataCollatorForPreference(TrlCall):
    """Collates pairs for ``trl.DPOTrainer`` of TRL 0.14 to 0.28.

    Samples have ``prompt_input_ids``, ``chosen_input_ids`` and ``rejected_input_ids`` (1-D, the latter two
    completions), and maybe ``pixel_values`` ``[images, C, H, W]``, ``pixel_attention_mask``, ``image_sizes``,
    ``token_type_ids``, ``ref_chosen_logps`` and ``ref_rejected_logps``. The batch has these ids and their attention
    masks, int64 ``[B, L]``, each padded to a width of its own, prompts on the left; ``pixel_values`` and their masks
    padded with 0 in every dimension; ``image_sizes`` stacked; the log-probabilities, float32 ``[B]``. Other keys are
    left out.

    Attributes:
        pad_token_id: Pads token ids.
        return_tensors: ``"pt"``, or ``"np"`` for arrays.

    Raises:
        KeyError, TypeError, ValueError, OverflowError, MemoryError: As ``PreferenceCollator`` does.

    Example:
        >>> from dpo_collate.trainers.trl_legacy import DataCollatorForPreference
        >>> sample = {"prompt_input_ids": [1, 2], "chosen_input_ids": [3], "rejected_input_ids": [4, 5]}
        >>> batch = DataCollatorForPreference(pad_token_id=0)([sample, sample | {"prompt_input_ids": [6]}])
        >>> batch["prompt_input_ids"]
        tensor([[1, 2],
                [0, 6]])
    """

    pad_token_id: int
    return_tensors: Literal["pt", "np"] = "pt"

    def _collate(self, features: Samples, return_tensors: Literal["pt", "np"]) -> Batch:
        return _dpo(pad_token_id=self.pad_token_id, return_tensors=return_tensors)(features)


@dataclass
class DPODataCollatorWithPadding:
    """Collates whatever samples have, by what the keys of the first one end in (CPO, ORPO, SimPO, BCO).

    ``*_input_ids`` are padded with the pad id, ``*_labels`` with -100, ``*_attention_mask`` with 0, all int64 ``[B,
    L]``, each to a width of its own, prompts on the left; ``*_pixel_values``, float32, with 0 in every dimension;
    ``*_logps`` become float32 ``[B]``; all other keys become lists of the samples' values. With
    ``is_encoder_decoder`` everything is padded on the right, ids other than those of prompts with -100, and
    ``*_pixel_values`` become lists like other keys.

    Attributes:
        pad_token_id: Pads token ids.
        is_encoder_decoder: Whether the model has an encoder and a decoder.

    Raises:
        KeyError, TypeError, ValueError, OverflowError, MemoryError: As ``PreferenceCollator`` does.

    Example:
        >>> from dpo_collate.trainers.trl_legacy import DPODataCollatorWithPadding
        >>> samples = [{"chosen_labels": [-100, 3], "prompt": "a"}, {"chosen_labels": [4], "prompt": "b"}]
        >>> DPODataCollatorWithPadding()(samples)
        {'chosen_labels': tensor([[-100,    3],
                [   4, -100]]), 'prompt': ['a', 'b']}
    """

    pad_token_id: int = 0
    is_encoder_decoder: bool | None = False

    def __call__(self, features: Samples) -> Batch:
        """Makes a batch of a list of samples."""
        collator = _encoder_decoder if self.is_encoder_decoder else _by_suffix
        return collator(pad_token_id=self.pad_token_id)(features)
