"""DPO from data to reward accuracy, on pairs of images and text that are made here: ``make demo``.

The way of Rafailov et al. (2023, arXiv:2305.18290): a policy that has seen the chosen answers for a moment (supervised
warm-up) is copied, the copy is frozen as reference, and the policy is trained with the DPO loss to prefer the chosen
answers. What they say can only be known from the tiles, so held-out reward accuracy leaves 0.5 only if tiles, ids and
labels of every pair arrive together and in order: this is what the collator is there for.

To train your own model, keep how the ``DataLoader`` is made, and everything from ``response_logps`` to
``dpo_loss``.
"""

from __future__ import annotations

import argparse
import copy
import functools
import sys
import time
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import TYPE_CHECKING

import torch
from rich.console import Console
from rich.table import Table
from torch.nn import functional
from torch.utils.data import DataLoader
from tqdm import tqdm

from dpo_collate import PreferenceCollator
from internvl_padding import internvl_padding
from model import TinyVisionLanguageModel
from shapes import IGNORE_INDEX, PAD, ShapePairs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    Batch = dict[str, torch.Tensor]
    Collate = Callable[[Sequence[Batch]], Batch]

BETA = 0.1
WARM_UP_STEPS = 100
TRAINING_PAIRS = 6000
HELD_OUT_PAIRS = 512
MEASURED_STEPS = 15  # of each way of padding, in turn, twice
ACCURACY_TO_REACH = 0.9


def response_logps(model: TinyVisionLanguageModel, batch: Batch, side: str, tiles: torch.Tensor) -> torch.Tensor:
    """Log-probability of each response ``[B]``: the sum over all tokens whose label is not -100."""
    logits = model(batch[f"{side}_input_ids"], batch[f"{side}_attention_mask"], tiles)
    labels = batch[f"{side}_labels"][:, 1:]  # the logits at a token are about the next one
    nll = functional.cross_entropy(logits[:, :-1].transpose(1, 2), labels, ignore_index=IGNORE_INDEX, reduction="none")
    return -nll.sum(dim=1)


def pair_logps(model: TinyVisionLanguageModel, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probabilities of chosen and rejected; the images come once a pair and are encoded once."""
    tiles = model.encode_tiles(batch["pixel_values"], batch["image_flags"])
    return response_logps(model, batch, "chosen", tiles), response_logps(model, batch, "rejected", tiles)


def reward_margins(policy: TinyVisionLanguageModel, reference: TinyVisionLanguageModel, batch: Batch) -> torch.Tensor:
    """Implicit reward of chosen less that of rejected ``[B]``: equations 5 and 7 of the paper."""
    chosen, rejected = pair_logps(policy, batch)
    with torch.no_grad():
        reference_chosen, reference_rejected = pair_logps(reference, batch)
    return BETA * ((chosen - reference_chosen) - (rejected - reference_rejected))


def dpo_loss(margins: torch.Tensor) -> torch.Tensor:
    """The loss: how surprising it is that chosen was preferred."""
    return -functional.logsigmoid(margins).mean()


def reward_accuracy(margins: torch.Tensor) -> float:
    """Share of pairs whose chosen response has the higher reward; a tie, as before the first step, counts one half."""
    return float((torch.sign(margins) + 1).mean() / 2)


def make_loader(options: argparse.Namespace, collate: Collate) -> DataLoader[Batch]:
    """Shuffled batches of training pairs, the same for every collator."""
    return DataLoader(
        ShapePairs("train", TRAINING_PAIRS, options.seed),
        batch_size=options.batch_size,
        shuffle=True,
        drop_last=True,
        num_workers=options.workers,
        generator=torch.Generator().manual_seed(options.seed),
        collate_fn=collate,
    )


def endless(loader: DataLoader[Batch]) -> Iterator[Batch]:
    """Epoch after epoch."""
    return chain.from_iterable(iter(lambda: loader, None))


@dataclass
class Trainer:
    """Policy, reference and optimiser, and what one step is."""

    policy: TinyVisionLanguageModel
    reference: TinyVisionLanguageModel = field(init=False)
    optimizer: torch.optim.Optimizer = field(init=False)
    schedule: torch.optim.lr_scheduler.LRScheduler = field(init=False)

    def begin_warm_up(self, steps: int) -> None:
        """Begin to learn the chosen answers."""
        self._begin(steps, lr=2e-3)

    def begin_dpo(self, steps: int) -> None:
        """Freeze a copy of the policy as reference, and begin to prefer."""
        self.reference = copy.deepcopy(self.policy).requires_grad_(requires_grad=False)
        self._begin(steps, lr=1e-3)

    def _begin(self, steps: int, lr: float) -> None:
        self.optimizer = torch.optim.AdamW(self.policy.parameters(), lr=lr, betas=(0.9, 0.98))
        # pct_start 0.1 of a handful of steps would be a phase of no step, which OneCycleLR divides by.
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(
            self.optimizer, lr, total_steps=max(steps, 30), pct_start=0.1
        )

    def supervised_step(self, batch: Batch) -> float:
        """One step towards the chosen answers; returns the loss in nats a token."""
        chosen, _ = pair_logps(self.policy, batch)
        loss = -chosen.sum() / (batch["chosen_labels"] != IGNORE_INDEX).sum()
        self._descend(loss)
        return float(loss.detach())

    def dpo_step(self, batch: Batch) -> tuple[float, torch.Tensor]:
        """One step of DPO; returns the loss and the reward margins."""
        margins = reward_margins(self.policy, self.reference, batch)
        loss = dpo_loss(margins)
        self._descend(loss)
        return float(loss.detach()), margins.detach()

    def _descend(self, loss: torch.Tensor) -> None:
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call] # torch's own
        torch.nn.utils.clip_grad_norm_(self.policy.parameters(), 1.0)
        self.optimizer.step()
        self.schedule.step()

    @torch.no_grad()
    def held_out_accuracy(self, batches: Sequence[Batch]) -> float:
        """Reward accuracy on pairs that were never trained on."""
        return reward_accuracy(torch.cat([reward_margins(self.policy, self.reference, batch) for batch in batches]))


@dataclass
class Waiting:
    """What a loop does with its time, and what its batches are made of."""

    pairs: int = 0
    seconds: float = 0.0
    waited: float = 0.0
    cells: int = 0
    padding: int = 0

    def count(self, batch: Batch) -> None:
        """Add one batch's cells."""
        for side in ("chosen", "rejected"):
            mask = batch[f"{side}_attention_mask"]
            self.cells += mask.numel()
            self.padding += int((mask == 0).sum())
        self.pairs += len(batch["chosen_input_ids"])


def measure(trainer: Trainer, batches: Iterator[Batch], steps: int, waiting: Waiting) -> None:
    """Time real steps, and of these the waiting for their batch."""
    for _ in range(steps):
        begin = time.perf_counter()
        batch = next(batches)
        waiting.waited += time.perf_counter() - begin
        trainer.dpo_step(batch)
        waiting.seconds += time.perf_counter() - begin
        waiting.count(batch)


def compare(trainer: Trainer, options: argparse.Namespace, collators: dict[str, Collate]) -> Table:
    """The same loop with each collator in turn, on a copy of the model: the same steps, the same batches."""
    figures = {name: Waiting() for name in collators}
    for _ in range(2):
        for name, collate in collators.items():
            model = Trainer(copy.deepcopy(trainer.policy))
            model.begin_dpo(steps=3 + MEASURED_STEPS)
            batches = endless(make_loader(options, collate))
            measure(model, batches, 3, Waiting())  # workers start, memory gets warm
            measure(model, batches, MEASURED_STEPS, figures[name])
    table = Table(
        title=f"The same training loop, batches of {options.batch_size} pairs, {options.workers} workers",
        caption="The workers pad while the model takes its step, which is far longer here: both ways wait about as "
        "long. `make bench` measures the padding itself.",
    )
    for column in ("collator", "samples/s", "waiting for data", "padding"):
        table.add_column(column, justify="left" if column == "collator" else "right")
    for name, waiting in figures.items():
        table.add_row(
            name,
            f"{waiting.pairs / waiting.seconds:.0f}",
            f"{waiting.waited / waiting.seconds:.2%} of the step",
            f"{waiting.padding / waiting.cells:.1%} of the cells",
        )
    return table


def parse_options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--steps", type=int, default=200, help="steps of DPO (%(default)s)")
    parser.add_argument("--batch-size", type=int, default=16, help="pairs in a batch (%(default)s)")
    parser.add_argument("--workers", type=int, default=2, help="DataLoader workers (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of data, model and order (%(default)s)")
    options = parser.parse_args()
    if options.steps < 1 or options.batch_size < 1 or options.workers < 0:
        parser.error("steps and batch size must be 1 or more, workers 0 or more")
    if options.batch_size > TRAINING_PAIRS:
        parser.error(f"there are {TRAINING_PAIRS} training pairs: no batch has {options.batch_size}")
    return options


def train(options: argparse.Namespace, collate: Collate) -> tuple[Trainer, float]:
    """Warm up, then DPO; returns the trained model and its held-out reward accuracy."""
    trainer = Trainer(TinyVisionLanguageModel())
    pairs = ShapePairs("held-out", HELD_OUT_PAIRS, options.seed)
    held_out = [collate([pairs[index] for index in range(begin, begin + 64)]) for begin in range(0, HELD_OUT_PAIRS, 64)]
    batches = endless(make_loader(options, collate))

    steps = min(WARM_UP_STEPS, options.steps)
    trainer.begin_warm_up(steps)
    bar = tqdm(islice(batches, steps), "warm-up", total=steps)
    for batch in bar:
        bar.set_postfix_str(f"loss {trainer.supervised_step(batch):.3f}", refresh=False)

    trainer.begin_dpo(options.steps)
    accuracy = trainer.held_out_accuracy(held_out)
    print(f"held-out reward accuracy before DPO: {accuracy:.3f}")
    bar = tqdm(islice(batches, options.steps), "DPO", total=options.steps)
    for step, batch in enumerate(bar, start=1):
        loss, margins = trainer.dpo_step(batch)
        margin, right = float(margins.mean()), reward_accuracy(margins)
        bar.set_postfix_str(f"loss {loss:.3f} margin {margin:.2f} accuracy {right:.2f}", refresh=False)
        if step == options.steps or step % 50 == 0:
            accuracy = trainer.held_out_accuracy(held_out)
            tqdm.write(f"step {step}: loss {loss:.6f}, margin {margin:.3f}, held-out reward accuracy {accuracy:.3f}")
    return trainer, accuracy


def main() -> int:
    """Train, compare, and say whether the accuracy was reached."""
    options = parse_options()
    torch.manual_seed(options.seed)
    torch.set_num_threads(1)  # the same sums in the same order on every machine; the other cores are the workers'
    collator = PreferenceCollator(pad_token_id=PAD)
    trainer, accuracy = train(options, collator)
    collators: dict[str, Collate] = {
        "dpo_collate": collator,
        "InternVL's padding": functools.partial(internvl_padding, pad_id=PAD),
    }
    Console().print(compare(trainer, options, collators))
    print(f"held-out reward accuracy after {options.steps} steps of DPO: {accuracy:.3f}")
    if options.steps >= 200 and accuracy < ACCURACY_TO_REACH:
        print(f"expected at least {ACCURACY_TO_REACH}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
