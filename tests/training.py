"""A model that remembers its batches, and trainers of it, for the tests of what reaches a training loop."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import transformers
from torch import nn

from data_sets import COLLATOR
from dpo_collate.sampler import PairBatchSamplerMixin

if TYPE_CHECKING:
    from pathlib import Path


class TextModel(nn.Module):
    """Names the keys of text, and remembers the batches."""

    def __init__(self) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(1))
        self.seen: list[dict[str, Any]] = []

    def forward(self, chosen_input_ids: Any = None, **others: Any) -> Any:
        self.seen.append({"chosen_input_ids": chosen_input_ids, **others})
        return {"loss": self.bias.square().mean()}


class NamedModel(TextModel):
    """Names what it takes: other columns are removed."""

    def forward(
        self,
        chosen_input_ids: Any = None,
        chosen_labels: Any = None,
        rejected_input_ids: Any = None,
        rejected_labels: Any = None,
        margin: Any = None,
        **masks: Any,
    ) -> Any:
        labels = {"chosen_labels": chosen_labels, "rejected_labels": rejected_labels}
        return super().forward(
            chosen_input_ids, rejected_input_ids=rejected_input_ids, margin=margin, **labels, **masks
        )


class PairTrainer(PairBatchSamplerMixin, transformers.Trainer):  # type: ignore[misc]
    pass


def pair_trainer(model: nn.Module, data: Any, folder: Path, kind: Any = PairTrainer, **options: Any) -> Any:
    arguments = transformers.TrainingArguments(
        output_dir=str(folder),
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
        **{"save_strategy": "no", "remove_unused_columns": False, **options},
    )
    return kind(model=model, args=arguments, train_dataset=data, data_collator=COLLATOR)
