"""TRL's ``DPOTrainer`` with its own collator and with ours, the same losses to the last bit: ``make demo-trl``.

A tiny Qwen2 of random weights learns to prefer right answers over wrong ones; nothing is downloaded. To train your own
model, keep how the collator is made and handed over.
"""

from __future__ import annotations

import argparse
import copy
import random
import sys
import tempfile

import datasets
import torch
from rich.console import Console
from rich.table import Table
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, PrinterCallback, Qwen2Config, Qwen2ForCausalLM
from trl import DPOConfig, DPOTrainer

from dpo_collate.trainers.trl import DataCollatorForPreference

WORDS = "Which number is the largest of , ? . The It easy to see"
MAX_LENGTH = 58  # tokens of a prompt and its answer; the longest have more


def make_pairs(count: int, seed: int) -> datasets.Dataset:
    """Questions of many lengths, each with a right answer (chosen) and a wrong one (rejected)."""
    draw = random.Random(seed)
    rows = []
    for _ in range(count):
        numbers = draw.sample(range(100), draw.randint(2, 25))
        listed = " , ".join(map(str, numbers))
        remark = " It is easy to see ." if draw.random() < 0.5 else ""
        rows.append(
            {
                "prompt": f"Which number is the largest of {listed} ?",
                "chosen": f" The largest is {max(numbers)} .{remark}",
                "rejected": f" It is {min(numbers)} .",
            }
        )
    return datasets.Dataset.from_list(rows)


def make_tokenizer() -> PreTrainedTokenizerFast:
    """One token a word."""
    words = ["<pad>", "<eos>", *WORDS.split(), *map(str, range(100))]
    tokenizer = Tokenizer(models.WordLevel({word: index for index, word in enumerate(words)}))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>")


def make_model(tokenizer: PreTrainedTokenizerFast) -> Qwen2ForCausalLM:
    """The same small model each time."""
    torch.manual_seed(0)
    special = {"pad_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.eos_token_id}
    size = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2}
    return Qwen2ForCausalLM(Qwen2Config(vocab_size=len(tokenizer), **special, **size, **heads))


def make_trainer(steps: int, workers: int, *, ours: bool) -> DPOTrainer:
    """The trainer, with our collator or with TRL's."""
    config = DPOConfig(
        output_dir=tempfile.gettempdir(),
        save_strategy="no",  # nothing is written there
        max_steps=steps,
        per_device_train_batch_size=4,
        learning_rate=1e-3,
        logging_steps=1,
        dataloader_num_workers=workers,
        max_length=MAX_LENGTH,
        use_cpu=True,
        bf16=False,
        report_to=[],
        disable_tqdm=True,
    )
    tokenizer = make_tokenizer()
    # TRL tells these three to its own collator alone; one that is handed over has to be told by you. In the config,
    # max_length stays: by it TRL drops the pairs whose prompt alone is as long.
    collator = DataCollatorForPreference(
        pad_token_id=tokenizer.pad_token_id,
        max_length=config.max_length,
        truncation_mode=config.truncation_mode,
        pad_to_multiple_of=config.pad_to_multiple_of,
    )
    model = make_model(tokenizer)
    trainer = DPOTrainer(
        model=model,
        ref_model=copy.deepcopy(model),  # not needed for a model that is loaded by its name
        args=config,
        data_collator=collator if ours else None,
        train_dataset=make_pairs(96, seed=0),
        eval_dataset=make_pairs(16, seed=1),
        processing_class=tokenizer,
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


def train(steps: int, workers: int, *, ours: bool) -> list[float]:
    """Trains; returns the loss of each step, and at last that of the evaluation."""
    trainer = make_trainer(steps, workers, ours=ours)
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    return [*losses, trainer.evaluate()["eval_loss"]]


def parse_options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--steps", type=int, default=20, help="steps of DPO (%(default)s)")
    parser.add_argument("--workers", type=int, default=2, help="DataLoader workers, after a run without (%(default)s)")
    options = parser.parse_args()
    if options.steps < 1 or options.workers < 0:
        parser.error("steps must be 1 or more, workers 0 or more")
    return options


def main() -> int:
    """Train with each collator, without workers and with them; say whether all losses are equal."""
    options = parse_options()
    torch.set_num_threads(1)  # the same sums in the same order each time
    datasets.disable_progress_bars()
    runs = {
        f"{name}\n{workers} workers": train(options.steps, workers, ours=ours)
        for workers in dict.fromkeys((0, options.workers))
        for name, ours in (("TRL's", False), ("dpo_collate", True))
    }
    table = Table("step", *runs, title="DPO loss")
    for step, losses in enumerate(zip(*runs.values(), strict=True), start=1):
        table.add_row("held out" if step > options.steps else str(step), *(f"{loss:.9g}" for loss in losses))
    Console().print(table)
    first, *others = runs.values()
    if any(losses != first for losses in others):
        print("the losses differ", file=sys.stderr)
        return 1
    print("all losses are equal to the last bit")
    return 0


if __name__ == "__main__":
    sys.exit(main())
