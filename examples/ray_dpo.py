"""DPO on a Ray cluster, from Parquet files to reward accuracy: ``make demo-ray``.

The pairs and the model of ``train_dpo.py``, with what Ray is there for: raw pairs (text, and tiles as bytes) lie in
Parquet files; Ray Data reads and encodes them in processes of its own, while Ray Train trains in others, each of which
collates its share of the pairs. The cluster is this machine: elsewhere, leave out ``ray.init``'s arguments, and put the
files and ``storage_path`` where all machines see them.

To train your own model, keep ``encode``, ``endless`` with ``everywhere``, and how ``TorchTrainer`` is made.

The same options give the same numbers on the same machine: ``preserve_order`` deals the pairs out in one order, each
worker shuffles by its seed, and gradients are summed in one order. Another number of workers makes other batches.
"""

from __future__ import annotations

import argparse
import itertools
import logging
import random
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
import ray
import torch
from pyarrow import parquet
from ray import train
from ray.data import DataContext
from ray.train.torch import TorchTrainer
from rich.console import Console
from rich.table import Table
from torch import distributed

from dpo_collate import PreferenceCollator
from dpo_collate.ray import collate_fn
from model import TinyVisionLanguageModel
from shapes import EOS, IGNORE_INDEX, PAD, TILE_SIZE, Pair, Tile, draw_tile, encode_prompt, make_pair
from train_dpo import ACCURACY_TO_REACH, HELD_OUT_PAIRS, TRAINING_PAIRS, WARM_UP_STEPS, Trainer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ray.data import DataIterator, Dataset

    Batch = dict[str, torch.Tensor]

PAIRS_IN_A_FILE: Final = 500
STEPS_BETWEEN: Final = 50  # looks at the held-out pairs
SIDES: Final = ("chosen", "rejected")
MEAN, DEVIATION = np.float32(0.25), np.float32(0.3)  # of a tile's values from 0 to 1, as shapes.py normalises them


def write_pairs(folder: Path, size: int, seed: int) -> None:
    """Write the pairs of ``shapes.ShapePairs`` raw: one row a pair, tiles ``[p, 3, 16, 16]`` as their bytes."""
    rows = []
    for index in range(size):
        rng = random.Random(f"{folder.name} {seed} {index}")
        pair = make_pair(rng)
        tiles = np.stack([draw_tile(tile, rng) for tile in pair.tiles]) * DEVIATION + MEAN
        text = {"question": pair.question, "chosen": pair.chosen, "rejected": pair.rejected}
        rows.append({**text, "tiles": np.rint(tiles * 255).astype(np.uint8).tobytes()})
    folder.mkdir()
    for begin in range(0, size, PAIRS_IN_A_FILE):
        table = pa.Table.from_pylist(rows[begin : begin + PAIRS_IN_A_FILE])
        parquet.write_table(table, folder / f"{begin:05}.parquet")


def encode(rows: dict[str, Any]) -> dict[str, list[Any]]:
    """Turn raw pairs into samples in InternVL's format, column by column.

    Every pair has tiles here. Of one that has none, ``pixel_values`` should be an array ``[0, 3, H, W]``: a column with
    arrays and None Ray stores as pickled objects.
    """
    columns: dict[str, list[Any]] = {key: [] for key in ("pixel_values", "image_flags")}
    columns |= {f"{side}_{of}": [] for side in SIDES for of in ("input_ids", "labels")}
    for index, (question, pixels) in enumerate(zip(rows["question"], rows["tiles"], strict=True)):
        tiles = np.frombuffer(pixels, dtype=np.uint8).reshape(-1, 3, TILE_SIZE, TILE_SIZE)
        columns["pixel_values"].append((tiles / np.float32(255) - MEAN) / DEVIATION)
        columns["image_flags"].append([1] * len(tiles))
        # The prompt says how many tiles there are. What is drawn there it cannot know.
        prompt = encode_prompt(Pair((Tile("", ""),) * len(tiles), question, "", ""))
        for side in SIDES:
            answer = [*rows[side][index].encode(), EOS]
            columns[f"{side}_input_ids"].append(prompt + answer)
            columns[f"{side}_labels"].append([IGNORE_INDEX] * len(prompt) + answer)
    return columns


def read_pairs(folder: Path) -> Dataset:
    """Encoded pairs. Nothing is read before somebody iterates."""
    return ray.data.read_parquet(str(folder)).map_batches(encode, batch_size=256)


def everywhere(here: bool) -> bool:  # noqa: FBT001 - the question, not an option
    """Whether it is so in all workers. All of them have to ask."""
    answer = torch.tensor(int(here))
    distributed.all_reduce(answer, distributed.ReduceOp.MIN)
    return bool(answer)


def mean(number: float) -> float:
    """The mean of the workers' numbers."""
    total = torch.tensor(number, dtype=torch.float64)
    distributed.all_reduce(total)
    return float(total) / distributed.get_world_size()


def average_gradient(parameter: torch.nn.Parameter) -> None:
    """Make a gradient the mean of the workers' own, as ``DistributedDataParallel`` does (which takes one forward)."""
    if parameter.grad is not None:
        distributed.all_reduce(parameter.grad)
        parameter.grad /= distributed.get_world_size()


def endless(shard: DataIterator, options: dict[str, int]) -> Iterator[Batch]:
    """Epoch after epoch of this worker's pairs; each is over for all workers when one of them has no batch left.

    Else the others would wait for ever for its gradients.
    """
    collate = collate_fn(PreferenceCollator(pad_token_id=PAD))
    for epoch in itertools.count():
        batches = iter(
            shard.iter_torch_batches(
                batch_size=options["batch_size"],
                drop_last=True,
                collate_fn=collate,
                local_shuffle_buffer_size=16 * options["batch_size"],
                local_shuffle_seed=options["seed"] + epoch,
            )
        )
        while everywhere(bool(batch := list(itertools.islice(batches, 1)))):
            yield from batch


def train_worker(options: dict[str, int]) -> list[tuple[int, float, float, float]]:
    """What each worker runs; returns steps, losses, margins and held-out reward accuracies, those of all workers."""
    torch.manual_seed(options["seed"])  # the same model in each
    torch.set_num_threads(1)
    trainer = Trainer(TinyVisionLanguageModel())
    for parameter in trainer.policy.parameters():
        parameter.register_post_accumulate_grad_hook(average_gradient)  # type: ignore[no-untyped-call] # torch's own
    collate = collate_fn(PreferenceCollator(pad_token_id=PAD))
    held_out = list(train.get_dataset_shard("held-out").iter_torch_batches(batch_size=64, collate_fn=collate))
    batches = endless(train.get_dataset_shard("train"), options)

    steps = min(WARM_UP_STEPS, options["steps"])
    trainer.begin_warm_up(steps)
    for batch in itertools.islice(batches, steps):
        trainer.supervised_step(batch)

    trainer.begin_dpo(options["steps"])
    found = []
    for step, batch in enumerate(itertools.islice(batches, options["steps"]), start=1):
        loss, margins = trainer.dpo_step(batch)
        if step == options["steps"] or step % STEPS_BETWEEN == 0:
            # Shards are of equal length: the mean over workers is the mean over pairs.
            accuracy = mean(trainer.held_out_accuracy(held_out))
            found.append((step, mean(loss), mean(float(margins.mean())), accuracy))
    return found


def fit(options: argparse.Namespace, folder: Path) -> list[tuple[int, float, float, float]]:
    """Start a cluster, train on it, and shut it down."""
    for split, size in (("train", TRAINING_PAIRS), ("held-out", HELD_OUT_PAIRS)):
        write_pairs(folder / split, size, options.seed)
    # What counts as a CPU: one for each worker, and one for reading. There need not be so many.
    ray.init(
        address="local",
        num_cpus=options.workers + 1,
        object_store_memory=512 << 20,
        include_dashboard=False,
        logging_level=logging.ERROR,
        log_to_driver=False,
    )
    try:
        context = DataContext.get_current()
        context.enable_progress_bars = False
        context.print_on_execution_start = False
        context.execution_options.preserve_order = True
        trainer = TorchTrainer(
            train_worker,
            train_loop_config=vars(options),
            datasets={split: read_pairs(folder / split) for split in ("train", "held-out")},
            scaling_config=train.ScalingConfig(num_workers=options.workers),
            run_config=train.RunConfig(storage_path=str(folder), name="run"),
        )
        found: list[tuple[int, float, float, float]] = trainer.fit().return_value
    finally:
        ray.shutdown()
    return found


def parse_options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--steps", type=int, default=200, help="steps of DPO (%(default)s)")
    parser.add_argument("--batch-size", type=int, default=8, help="pairs in a batch of each worker (%(default)s)")
    parser.add_argument("--workers", type=int, default=2, help="workers of Ray Train (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of data, model and order (%(default)s)")
    options = parser.parse_args()
    if options.steps < 1 or options.batch_size < 1 or options.workers < 1:
        parser.error("steps, batch size and workers must be 1 or more")
    if options.batch_size > TRAINING_PAIRS // options.workers:
        parser.error(f"there are {TRAINING_PAIRS // options.workers} pairs a worker: no batch has {options.batch_size}")
    return options


def main() -> int:
    """Train, and say whether the accuracy was reached."""
    options = parse_options()
    with tempfile.TemporaryDirectory(prefix="ray_dpo_") as folder:
        doing = f"{options.steps} steps of DPO in {options.workers} workers: about a minute and a half for 200 in 2"
        with Console(stderr=True).status(doing):
            found = fit(options, Path(folder))
    table = Table("step", "loss", "margin", "held-out reward accuracy", title="DPO with Ray")
    for step, *numbers in found:
        table.add_row(str(step), *(f"{number:.6f}" for number in numbers[:1]), *(f"{n:.3f}" for n in numbers[1:]))
    Console().print(table)
    accuracy = found[-1][-1]
    print(f"held-out reward accuracy after {options.steps} steps of DPO: {accuracy:.3f}")
    if options.steps >= 200 and accuracy < ACCURACY_TO_REACH:
        print(f"expected at least {ACCURACY_TO_REACH}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
