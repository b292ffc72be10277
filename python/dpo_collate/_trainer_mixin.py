"""The batches of a ``PairBatchSampler`` in transformers' ``Trainer`` and the trainers that are made of it.

Neither torch nor transformers is imported before a loader is made.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from .sampler import PairBatchSampler

_EPOCHS: Final = 4
"""At least so many epochs are made equally long, so that training can go on for more of them than it was begun with."""

_LOADER_OPTIONS: Final = (
    "collate_fn",
    "num_workers",
    "pin_memory",
    "timeout",
    "worker_init_fn",
    "multiprocessing_context",
    "generator",
    "prefetch_factor",
    "persistent_workers",
    "in_order",  # since torch 2.6
)
"""What a ``DataLoader`` is told, but for the data and for what is in a batch."""

_REFUSED: Final = {
    "auto_find_batch_size": "where memory runs out it makes batches of fewer pairs, which changes nothing here",
    "dispatch_batches": "one process would make a single batch of those of all, and cut it by the number of its rows",
    "split_batches": "every batch would be cut into pieces, by a batch size that is not there",
}


class PairBatchSamplerMixin:
    """The batches of a :class:`dpo_collate.sampler.PairBatchSampler` for transformers' ``Trainer``, TRL's too.

    These trainers make their own ``DataLoader``, which takes no batch sampler. The mixin stands before the trainer's
    class::

        class PairTrainer(PairBatchSamplerMixin, DPOTrainer):
            pass


        trainer = PairTrainer(model, args=args, train_dataset=dataset, data_collator=collator)
        trainer.use_pair_batches(max_tokens=16_384)
        trainer.train()

    Without ``use_pair_batches`` the trainer is as it was. With it, it still makes its loader, and what that was told
    (the data without unused columns, the collator, workers) goes to one with this batch sampler, which the trainer's
    accelerator prepares: of several processes, each gets its part of the batches. Evaluation is as it was.
    """

    args: Any
    accelerator: Any
    data_collator: Any
    train_dataset: Any

    _pair_sampler: PairBatchSampler | None = None

    def use_pair_batches(self, *, lengths: Any = None, collator: Any = None, **options: Any) -> PairBatchSampler:
        """Trains on batches of pairs of like lengths, from the next ``train()`` on.

        Every epoch has the same number of steps, as the trainer takes for granted: that of the longest of the first
        four epochs (of ``num_train_epochs``, if these are more). In the others batches are split. With ``max_steps``
        there may be later ones that would take more steps: a few of their batches are left out.

        Args:
            lengths: How long the pairs of ``train_dataset`` are, as a ``PairBatchSampler`` takes them. None: they are
                read from ``train_dataset``, a data set or a table that ``dpo_collate.datasets.lengths`` takes.
            collator: What is made of them: a ``PreferenceCollator``, a layout, or its name. None: ``data_collator``.
            **options: Those of a ``PairBatchSampler`` but for ``rank``, ``world_size`` and ``epochs``, which the
                trainer knows: at least one of ``max_tokens``, ``batch_size`` and ``max_tiles``, for a batch of one
                process. If no ``seed`` is given, it is the trainer's ``data_seed``, or its ``seed``.

        Returns:
            The sampler, to look at: ``costs()`` and ``padding_share()`` of an epoch, ``dropped`` pairs. Its batches are
            those of all processes, in turn.

        Raises:
            ValueError: The trainer has ``auto_find_batch_size``, ``dispatch_batches`` or ``split_batches``; or a
                ``PairBatchSampler`` refuses the lengths or the options.
            KeyError, TypeError: The same; or lengths cannot be read from the data.
        """
        from .sampler import PairBatchSampler  # noqa: PLC0415 - which imports this module

        for name, why in _REFUSED.items():
            if getattr(self.args, name, False) or getattr(self.accelerator, name, False):
                raise ValueError(f"{name}=True: {why}; expected False")
        seed = self.args.seed if self.args.data_seed is None else self.args.data_seed
        self._pair_sampler = PairBatchSampler(
            self.train_dataset if lengths is None else lengths,
            self.data_collator if collator is None else collator,
            rank=None,
            world_size=self._data_parallel_size(),
            epochs=max(_EPOCHS, math.ceil(self.args.num_train_epochs)),
            **{"seed": seed, **options},
        )
        return self._pair_sampler

    def get_train_dataloader(self) -> Any:
        """The trainer's ``DataLoader``, with the batches that ``use_pair_batches`` asked for.

        Raises:
            ValueError: ``train_dataset`` is not as long as it was then.
        """
        loader: Any = super().get_train_dataloader()  # type: ignore[misc]
        sampler = self._pair_sampler
        if sampler is None:
            return loader
        samples, pairs = len(loader.dataset), sampler.state_dict()["pairs"]
        if samples != pairs:
            raise ValueError(f"train_dataset has {samples} samples, but use_pair_batches was given {pairs} lengths")
        from torch.utils.data import DataLoader  # noqa: PLC0415 - not before it is needed

        told = {name: getattr(loader, name) for name in _LOADER_OPTIONS if hasattr(loader, name)}
        made: Any = DataLoader(loader.dataset, batch_sampler=sampler, **told)
        # There is nothing to even; accelerate before 1.14 can't with batches of several sizes, and says so.
        even, self.accelerator.even_batches = self.accelerator.even_batches, False
        try:
            made = self.accelerator.prepare(made)
        finally:
            self.accelerator.even_batches = even
        if made.batch_sampler is not sampler:
            # Of several processes, accelerate's own batch sampler is around ours. Its loader tells the epoch to what
            # has this name there; so the sampler hears of it where training goes on in the middle of an epoch, too.
            made.batch_sampler.sampler = sampler
        return made

    def _data_parallel_size(self) -> int:
        """How many processes get different batches (those of tensor or context parallelism get the same)."""
        of_one = self.args.train_batch_size * self.args.gradient_accumulation_steps
        size: int = self.get_total_train_batch_size(self.args) // of_one  # type: ignore[attr-defined]
        return size
