"""Figures of padding in the logs of a real Trainer."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn
from torch.utils.data import Subset

from dpo_collate import PreferenceCollator
from dpo_collate.stats import PaddingMeter
from loaders import PAD, Pairs

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")

COLLATOR = PreferenceCollator(pad_token_id=PAD)
TRAIN, EVALUATION = Pairs(24), Pairs(6)


class Model(nn.Module):
    """Takes what the collator's batches have, and nothing else."""

    def __init__(self) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(1))

    def forward(self, **batch: Any) -> Any:
        assert set(batch) <= set(COLLATOR._table.names())
        return {"loss": self.bias.square().mean()}


def trained(transformers: Any, meter: PaddingMeter, folder: Path, **options: Any) -> Any:
    arguments = transformers.TrainingArguments(
        output_dir=str(folder),
        per_device_train_batch_size=4,
        per_device_eval_batch_size=3,
        train_sampling_strategy="sequential",
        report_to=[],
        use_cpu=True,
        save_strategy="no",
        disable_tqdm=True,
        remove_unused_columns=False,
        prediction_loss_only=True,
        **options,
    )
    trainer = transformers.Trainer(
        model=Model(),
        args=arguments,
        train_dataset=TRAIN,
        eval_dataset=EVALUATION,
        data_collator=meter.watch(COLLATOR),
        callbacks=[meter.callback()],
    )
    trainer.train()
    return trainer


def plainly(size: int, first: int, last: int, prefix: str = "") -> dict[str, float]:
    """The figures of batches of that size of those samples."""
    meter = PaddingMeter()
    collate = meter.watch(COLLATOR)
    for begin in range(first, last, size):
        collate([TRAIN[index] for index in range(begin, min(begin + size, last))])
    return meter.total.figures(prefix)


def figures(entry: dict[str, Any]) -> dict[str, Any]:
    words = ("padding_share", "tokens_per_batch", "truncated_rows", "tiles_per_batch")
    return {name: value for name, value in entry.items() if name.endswith(words)}


@pytest.mark.parametrize("workers", [0, 1])
def test_logs(transformers: Any, tmp_path: Path, workers: int, capsys: pytest.CaptureFixture[str]) -> None:
    meter = PaddingMeter()
    options = {"eval_strategy": "steps", "eval_steps": 3, "logging_steps": 2, "dataloader_num_workers": workers}
    # (accelerate is a batch ahead of the loop, until its end.)
    trainer = trained(transformers, meter, tmp_path, num_train_epochs=1, **options)
    history = trainer.state.log_history
    training = [figures(entry) for entry in history if "loss" in entry]
    assert training == [plainly(4, 0, 12), plainly(4, 12, 20), plainly(4, 20, 24)]
    evaluations = [figures(entry) for entry in history if "eval_runtime" in entry]
    assert evaluations == [plainly(3, 0, 6, "eval_")] * 2
    summary = plainly(4, 0, 24, "train_")
    assert [figures(entry) for entry in history if "train_loss" in entry] == [summary]
    assert "'train_padding_share'" in capsys.readouterr().out  # printed by a callback of the Trainer's
    assert meter.total.batches == 6 + 2 * 2


def test_what_is_not_training(transformers: Any, tmp_path: Path) -> None:
    meter = PaddingMeter()
    trainer = trained(transformers, meter, tmp_path, max_steps=2, logging_steps=10)
    history = trainer.state.log_history
    assert [set(figures(entry)) for entry in history] == [set(plainly(4, 0, 8, "train_"))]
    trainer.predict(TRAIN)
    metrics = trainer.evaluate(metric_key_prefix="test")
    assert figures(history[-1]) == plainly(3, 0, 6, "test_")
    assert figures(metrics) == figures(history[-1])
    trainer.log({"mine": 1.0})
    assert set(figures(history[-1])) <= set(plainly(4, 0, 8))
    before = len(history)
    trainer.log({"mine": 1.0})
    assert [figures(entry) for entry in history[before:]] == [{}]
    meter.watch(COLLATOR)([TRAIN[0]])
    trainer.train_dataset = Subset(TRAIN, range(8, 16))
    trainer.train()
    assert figures(trainer.state.log_history[-1]) == plainly(4, 8, 16, "train_")


def test_first_among_callbacks(transformers: Any) -> None:
    """Before those that report, as docs say; a state without history is of no matter."""
    meter = PaddingMeter()
    callback: Any = meter.callback()
    meter.watch(COLLATOR)([TRAIN[0]])
    state = transformers.TrainerState()
    callback.on_step_end(None, state, None)
    logs = {"loss": 1.0}
    callback.on_log(None, state, None, logs=logs)
    assert logs == {"loss": 1.0, **meter.total.figures()}
    callback.on_log(None, state, None)
    assert state.log_history == []


@pytest.mark.filterwarnings("ignore:`(is_)?gradient_checkpointing:FutureWarning")  # TRL's, of transformers 5.24
def test_trl(tmp_path: Path) -> None:
    trl = pytest.importorskip("trl")
    example = importlib.import_module("trl_dpo")
    tokenizer = example.make_tokenizer()
    meter = PaddingMeter()
    config = trl.DPOConfig(
        output_dir=str(tmp_path),
        save_strategy="no",
        per_device_train_batch_size=2,
        max_steps=2,
        logging_steps=1,
        use_cpu=True,
        bf16=False,
        report_to=[],
        disable_tqdm=True,
    )
    trainer = trl.DPOTrainer(
        model=example.make_model(tokenizer),
        ref_model=example.make_model(tokenizer),
        args=config,
        data_collator=meter.watch(example.DataCollatorForPreference(tokenizer.pad_token_id, max_length=38)),
        train_dataset=example.make_pairs(4, seed=0),
        processing_class=tokenizer,
        callbacks=[meter.callback()],
    )
    trainer.train()
    first, *_, last = trainer.state.log_history
    assert first["padding_share"] == last["train_padding_share"] == meter.total.padding_share  # both batches are there
    assert last["train_truncated_rows"] == meter.total.truncated > 0
