"""ms-swift's collator for DPO and its kin: the same samples, the same batch.

Source: modelscope/ms-swift, ``swift/template/base.py`` at commit 3602360 (2026-08-22, 4.6.0.dev0), the method
``Template._rlhf_data_collator``. It is a method there, so put it in by an assignment, before the trainer is made::

    from dpo_collate.trainers.swift import PreferenceDataCollator

    template.data_collator = PreferenceDataCollator(template.tokenizer.pad_token_id, padding_free=template.padding_free)

On valid samples the batch equals the original's in values, dtypes, shapes and order of keys: ids, labels,
``loss_scale``, ``token_type_ids``, positions, masks, media, ``margin``. What was mended: labels and what else is
parallel to the ids must be as long as these, and in all rows or in none (the original makes fewer rows of them); so
must margins (one version makes a shorter tensor, another fills in 0.0); with ``padding_free`` tensors and arrays are
taken like lists, and lengths are those of the rows. Not here, and left out of the batch if samples have it: Megatron,
sequence parallelism, ``inputs_embeds``, ``channel``, samples' own positions, keys that one model's template adds.

``swift`` pads on the left when it evaluates, whatever its template says: make a second one for that, with
``training=False``.
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass, replace
from typing import TYPE_CHECKING, Literal

from dpo_collate._checks import check_choice
from dpo_collate.layout import Column, Layout, Matrix, Media, Scalar
from dpo_collate.named import TOKEN_TYPES

from ._cached import cached

if TYPE_CHECKING:
    from dpo_collate._samples import Samples
    from dpo_collate.collator import Batch

_IDS = Column("input_ids", pad="pad_token_id")
_LABELS = Column("labels", of="{}_labels", pad="label_pad_token_id", optional=True)
_LOSS_SCALE = Column("loss_scale", of="{}_loss_scale", pad=0.0, dtype="float32", optional=True)
_MASK = Column("attention_mask", of="ones")
_POSITIONS = Column("position_ids", of="position", pad=0)
_ROWS = (("chosen",), ("rejected",))
_MEDIA = ("pixel_values", "image_sizes", "pixel_values_videos", "image_grid_thw", "video_grid_thw")

RIGHT = Layout(
    "swift",
    matrices=(Matrix(_ROWS, (_IDS, _LABELS, _LOSS_SCALE, *TOKEN_TYPES, _MASK)),),
    media=tuple(Media(key, (f"chosen_{key}", f"rejected_{key}")) for key in _MEDIA),
    scalars=(Scalar("margin", ("margin",), optional=True),),
    unbatch=True,
    reserved=(),
)
"""Pairs, padded on the right."""

LEFT = replace(
    RIGHT,
    name="swift_left",
    matrices=(Matrix(_ROWS, (_IDS, _LABELS, _LOSS_SCALE, *TOKEN_TYPES, _MASK, _POSITIONS), side="left"),),
)
"""Pairs, padded on the left: with positions."""

EVALUATION = replace(RIGHT, name="swift_evaluation", matrices=(replace(RIGHT.matrices[0], side="left"),))
"""Pairs, padded on the left: without positions."""

FLAT = replace(
    RIGHT,
    name="swift_padding_free",
    matrices=(Matrix(_ROWS, (_IDS, _LABELS, _LOSS_SCALE, _POSITIONS, *TOKEN_TYPES), flat=True),),
)
"""Pairs, end to end."""

_right, _left, _evaluation, _flat = cached(RIGHT), cached(LEFT), cached(EVALUATION), cached(FLAT)


@dataclass
class PreferenceDataCollator:
    """Collates pairs for ms-swift's trainers.

    Samples have ``chosen_input_ids`` and ``rejected_input_ids`` (1-D), and maybe, with the same prefixes, ``labels``,
    ``loss_scale``, ``token_type_ids``, ``mm_token_type_ids`` and media; and maybe ``margin``. The batch has them
    without prefix, int64 (``loss_scale`` float32) ``[2B, L]``, all chosen rows first, and ``attention_mask``; padded
    on the left also ``position_ids``. Media are concatenated in the order of the rows; ``margin`` is float32 ``[B]``.

    Attributes:
        pad_token_id: Pads ids; labels are padded with -100, all else with 0.
        padding_side: ``"right"`` or ``"left"``.
        padding_free: Rows lie end to end, ``[1, T]``: there are ``position_ids``, which begin anew in each row, and no
            masks.
        training: False is for evaluation: the original pads on the left then, whatever the side, and without positions.

    Raises:
        KeyError, TypeError, ValueError, OverflowError, MemoryError: As ``PreferenceCollator`` does.

    Example:
        >>> from dpo_collate.trainers.swift import PreferenceDataCollator
        >>> sample = {"chosen_input_ids": [1, 2], "rejected_input_ids": [3]}
        >>> PreferenceDataCollator(pad_token_id=0, padding_side="left")([sample])["input_ids"]
        tensor([[1, 2],
                [0, 3]])
        >>> PreferenceDataCollator(pad_token_id=0, padding_free=True)([sample])["position_ids"]
        tensor([[0, 1, 0]])
    """

    pad_token_id: int
    padding_side: Literal["right", "left"] = "right"
    padding_free: bool = False
    _: KW_ONLY
    training: bool = True

    def __call__(self, batch: Samples, *, padding_to: int | None = None) -> Batch:
        """Makes a batch of a list of samples, ``padding_to`` wide at least."""
        check_choice("padding_side", self.padding_side, ("right", "left"))
        padded = (_left if self.padding_side == "left" else _right) if self.training else _evaluation
        collator = _flat if self.padding_free else padded
        return collator(pad_token_id=self.pad_token_id)(batch, min_length=padding_to)
