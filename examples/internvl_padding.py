"""InternVL's way of padding, written plainly: the baseline that the demo compares with.

This says what ``dpo_concat_pad_data_collator`` does (OpenGVLab/InternVL, ``patch/pad_data_collator.py``), sample by
sample and in Python: a list of pad ids becomes a tensor, the row is copied over its beginning, the mask is made by
comparing ids with the pad id, and everything is stacked. The original writes padded rows back into the samples; here
each sample is copied first (a new dict around the same tensors), so that the data set stays as it is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

    Sample = dict[str, torch.Tensor]

IGNORE_INDEX = -100


def pad_row(row: torch.Tensor, width: int, pad: int) -> torch.Tensor:
    """A row as int64, filled up with the pad on the right."""
    padded = torch.LongTensor([pad] * width)
    padded[: len(row)] = row
    return padded


def internvl_padding(samples: Sequence[Sample], pad_id: int) -> Sample:
    """Pads chosen and rejected, each to its own longest row, and concatenates the tiles."""
    samples = [dict(sample) for sample in samples]
    for side in ("chosen", "rejected"):
        width = max(len(sample[f"{side}_input_ids"]) for sample in samples)
        for sample in samples:
            sample[f"{side}_input_ids"] = pad_row(sample[f"{side}_input_ids"], width, pad_id)
            sample[f"{side}_labels"] = pad_row(sample[f"{side}_labels"], width, IGNORE_INDEX)
            sample[f"{side}_attention_mask"] = sample[f"{side}_input_ids"].ne(pad_id)
    batch = {}
    for key in samples[0]:
        join = torch.concat if key in {"pixel_values", "image_flags"} else torch.stack
        batch[key] = join([sample[key] for sample in samples])
    return batch
