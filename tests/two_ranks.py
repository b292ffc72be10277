"""Two training processes: what each of them gets of a batch sampler, by accelerate and by transformers' ``Trainer``.

A program of its own, as it forks (``test_sampler_trainers.py`` runs it, and reads what it prints).
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import accelerate  # type: ignore[import-untyped]
import torch
import torch.distributed
from torch.multiprocessing.spawn import start_processes
from torch.utils.data import DataLoader

from data_sets import COLLATOR, plain
from dpo_collate.datasets import ArrowRows
from dpo_collate.sampler import PairBatchSampler
from sampling import LIMITS, numbers
from training import TextModel, pair_trainer

RANKS = 2
EPOCHS = 2


def of_accelerate() -> list[list[list[int]]]:
    """For each epoch this rank's batches, as numbers of pairs."""
    rows = ArrowRows(plain())
    sampler = PairBatchSampler(rows, COLLATOR, **LIMITS, rank=None, world_size=RANKS)
    loader: Any = DataLoader(rows, batch_sampler=sampler, collate_fn=COLLATOR)
    loader = accelerate.Accelerator(cpu=True).prepare(loader)
    epochs = []
    for epoch in range(EPOCHS):
        sampler.set_epoch(epoch)
        loader.set_epoch(epoch)
        epochs.append([numbers(batch) for batch in loader])
    return epochs


def of_the_trainer(folder: Path) -> dict[str, Any]:
    """This rank's batches of all epochs, and those of a training that goes on in the last of them."""
    options = {"num_train_epochs": EPOCHS, "save_strategy": "steps", "save_steps": 1}
    trainer = pair_trainer(TextModel(), ArrowRows(plain()), folder, ddp_find_unused_parameters=False, **options)
    sampler = trainer.use_pair_batches(**LIMITS)
    trainer.train()
    steps = len(sampler) // RANKS
    again = pair_trainer(TextModel(), ArrowRows(plain()), folder, ddp_find_unused_parameters=False, **options)
    again.use_pair_batches(**LIMITS)
    again.train(resume_from_checkpoint=str(folder / f"checkpoint-{steps + 2}"))
    seen, rest = ([numbers(batch) for batch in made.model.seen] for made in (trainer, again))
    return {"steps": steps, "seen": seen, "rest": rest}


def run(rank: int, folder: Path) -> None:
    """One of the processes."""
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(RANKS), OMP_NUM_THREADS="1")
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT="0")  # asked for, and not used: they meet in a file
    torch.set_num_threads(1)
    store = f"file://{folder / 'store'}"
    torch.distributed.init_process_group("gloo", init_method=store, rank=rank, world_size=RANKS)
    answer = {"accelerate": of_accelerate(), "trainer": of_the_trainer(folder / "trainer")}
    (folder / f"{rank}.json").write_text(json.dumps(answer), encoding="utf-8")
    torch.distributed.destroy_process_group()


def main() -> None:
    """Print, for each rank, what it got."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        start_processes(run, (folder,), RANKS, start_method="fork")  # type: ignore[no-untyped-call]
        answers = [(folder / f"{rank}.json").read_text(encoding="utf-8") for rank in range(RANKS)]
    sys.stdout.write(f"[{', '.join(answers)}]\n")


if __name__ == "__main__":
    main()
