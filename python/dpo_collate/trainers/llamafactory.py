"""LLaMA-Factory's collator for DPO and reward models: the same arguments, the same batch.

Source: hiyouga/LLaMA-Factory, ``src/llamafactory/data/collator.py`` at commit ff6d4d1 (2026-08-18). To put it in,
take the name out of the import in ``train/dpo/workflow.py`` (or ``train/rm/workflow.py``), and write::

    from dpo_collate.trainers.llamafactory import PairwiseDataCollatorWithPadding

On valid text samples the batch equals the original's in values, dtypes, shapes and order of keys; it is a dict, not a
``BatchEncoding``. What was mended: labels and masks must be as long as ids (the original fills short ones up, and makes
labels wider than ids); masks may be left out, and are then made from lengths; arrays and tensors are taken like lists.

Images, videos and audio are not processed here, as that needs the template's plugin: samples may have what a
processor has made of them (``pixel_values``, ``image_grid_thw``, …), which is concatenated once for each row, chosen
rows first, as the original does. A sample with raw ones is an error. A text batch gets no dummy image.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dpo_collate._checks import check_choice
from dpo_collate._samples import has_items, listed
from dpo_collate.layout import Column, Layout, Matrix
from dpo_collate.named import named

from ._cached import cached

if TYPE_CHECKING:
    from dpo_collate._samples import Samples
    from dpo_collate.collator import Batch

_RAW = ("images", "videos", "audios")

PAIRWISE = Layout(
    "llamafactory",
    matrices=(
        Matrix(
            rows=(("chosen",), ("rejected",)),
            columns=(
                Column("input_ids", pad="pad_token_id"),
                Column("attention_mask", of="{}_attention_mask", default="ones"),
                Column("labels", of="{}_labels", pad="label_pad_token_id"),
            ),
        ),
    ),
    media=named("concatenated", images="per_row").media,
    reserved=(),
)
"""Pairs, for :class:`PairwiseDataCollatorWithPadding`."""

_collator = cached(PAIRWISE)


class PairwiseDataCollatorWithPadding:
    """Collates pairs for LLaMA-Factory's trainers for DPO and rewards.

    Samples have ``chosen_input_ids``, ``chosen_attention_mask``, ``chosen_labels`` (1-D) and the same of
    ``rejected``; and ``images``, ``videos`` and ``audios``, which must be empty or None. The batch has ``input_ids``,
    ``attention_mask`` and ``labels``, int64 ``[2B, L]``, all chosen rows first; and media that were processed before.
    Other keys are left out.

    Args:
        tokenizer: Its ``pad_token_id`` and ``padding_side`` are taken; it is not kept.
        model: Not used.
        padding: True or ``"longest"``: to the longest row; ``"max_length"``: at least to ``max_length``.
        max_length: See ``padding``. Rows are not truncated.
        pad_to_multiple_of: The width is rounded up to a multiple of it. (LLaMA-Factory's workflows say 8.)
        label_pad_token_id: Pads labels.
        return_tensors: ``"pt"``, or ``"np"`` for arrays.
        template: Not used.
        processor: Not used.

    Raises:
        KeyError, TypeError, ValueError, OverflowError, MemoryError: As ``PreferenceCollator`` does; TypeError also if a
            sample has raw media.

    Example:
        >>> from types import SimpleNamespace
        >>> from dpo_collate.trainers.llamafactory import PairwiseDataCollatorWithPadding
        >>> tokenizer = SimpleNamespace(pad_token_id=0, padding_side="right")
        >>> collator = PairwiseDataCollatorWithPadding(tokenizer, pad_to_multiple_of=4)
        >>> chosen = {"chosen_input_ids": [1, 2], "chosen_attention_mask": [1, 1], "chosen_labels": [-100, 2]}
        >>> rejected = {"rejected_input_ids": [1], "rejected_attention_mask": [1], "rejected_labels": [1]}
        >>> collator([{**chosen, **rejected, "images": None, "videos": None, "audios": None}])["input_ids"]
        tensor([[1, 2, 0, 0],
                [1, 0, 0, 0]])
    """

    def __init__(  # noqa: PLR0913, PLR0917 - the original's arguments
        self,
        tokenizer: Any,
        model: Any = None,
        padding: bool | str = True,  # noqa: FBT001, FBT002 - likewise
        max_length: int | None = None,
        pad_to_multiple_of: int | None = None,
        label_pad_token_id: int = -100,
        return_tensors: str = "pt",
        template: Any = None,
        processor: Any = None,
    ) -> None:
        del model, template, processor
        check_choice("padding", padding, (True, "longest", "max_length"))
        if padding == "max_length" and max_length is None:
            raise ValueError("padding='max_length': expected a max_length")
        self.pad_token_id = tokenizer.pad_token_id
        self.padding_side = tokenizer.padding_side
        self.min_length = max_length if padding == "max_length" else None
        self.pad_to_multiple_of = pad_to_multiple_of
        self.label_pad_token_id = label_pad_token_id
        self.return_tensors = return_tensors

    def __call__(self, features: Samples, return_tensors: str | None = None) -> Batch:
        """Makes a batch of a list of samples."""
        samples = listed(features)
        collator = _collator(
            pad_token_id=self.pad_token_id,
            label_pad_token_id=self.label_pad_token_id,
            padding_side=self.padding_side,
            pad_to_multiple_of=self.pad_to_multiple_of,
            return_tensors=return_tensors or self.return_tensors,
        )
        batch = collator(samples, min_length=self.min_length)
        for index in range(len(samples)):
            for key in _RAW:
                if has_items(samples, index, key):
                    raise TypeError(
                        f"sample {index}: '{key}' holds raw media, which are not processed here: process them in the "
                        f"data set, and give what that makes, such as pixel_values"
                    )
        return batch
