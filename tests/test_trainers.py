"""In the loops that people use: accelerate's loader, transformers' Trainer, torchdata's loader."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from dpo_collate import delivery
from loaders import COLLATOR, Pairs, Stream, expected, groups, wrong

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore:'set_vital' is deprecated:UserWarning"),
    pytest.mark.filterwarnings("ignore:'pin_memory' argument is set as true:UserWarning"),
]


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_accelerate(workers: int) -> None:
    accelerate = pytest.importorskip("accelerate")
    loader: Any = torch.utils.data.DataLoader(Pairs(20), batch_size=2, num_workers=workers, collate_fn=COLLATOR)
    prepared = accelerate.Accelerator(cpu=True).prepare(loader)
    received = delivery.stats().batches_received
    for _epoch in range(2):
        for batch, indices in zip(prepared, groups(20, 2), strict=True):
            assert wrong(batch, expected(indices)) == []
    assert (delivery.stats().batches_received > received) == (workers > 0)


class Bias(nn.Module):
    """A model that remembers what it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(1))
        self.seen: list[Any] = []

    def forward(self, **batch: Any) -> Any:
        self.seen.append(batch)
        return {"loss": (self.bias - batch["margin"]).square().mean()}


@pytest.mark.parametrize("workers", [0, 1])
def test_transformers_trainer(tmp_path: Any, workers: int) -> None:
    transformers = pytest.importorskip("transformers")
    if not transformers.utils.is_torch_available():
        pytest.skip("this transformers needs a newer torch")
    arguments = transformers.TrainingArguments(
        output_dir=str(tmp_path),
        per_device_train_batch_size=2,
        gradient_accumulation_steps=2,
        num_train_epochs=2,
        train_sampling_strategy="sequential",
        dataloader_num_workers=workers,
        remove_unused_columns=False,
        report_to=[],
        use_cpu=True,
        save_strategy="no",
        disable_tqdm=True,
    )
    model = Bias()
    trainer = transformers.Trainer(model=model, args=arguments, train_dataset=Pairs(20), data_collator=COLLATOR)
    trainer.train()
    assert len(model.seen) == 20
    for batch, indices in zip(model.seen, groups(20, 2) * 2, strict=True):
        assert wrong(batch, expected(indices)) == []


@pytest.mark.parametrize("data", [Pairs, Stream])
def test_torchdata_stateful_loader(data: Any) -> None:
    stateful = pytest.importorskip("torchdata.stateful_dataloader").StatefulDataLoader
    loader = stateful(data(20), batch_size=2, num_workers=1, collate_fn=COLLATOR)
    iterator = iter(loader)
    for indices in groups(20, 2)[:4]:
        assert wrong(next(iterator), expected(indices)) == []
    state = loader.state_dict()
    resumed = stateful(data(20), batch_size=2, num_workers=1, collate_fn=COLLATOR)
    resumed.load_state_dict(state)
    for batch, indices in zip(resumed, groups(20, 2)[4:], strict=True):
        assert wrong(batch, expected(indices)) == []
