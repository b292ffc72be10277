"""How much of what the model is given is padding: counted while batches are made, summed up where they arrive.

A :class:`PaddingMeter` watches collators. They count in the DataLoader's workers; the counts travel with the batches,
and add up in the training process when a batch arrives there. Nothing is added to the batch, and a collator that is not
watched does not count::

    meter = PaddingMeter()
    loader = DataLoader(data, batch_size=8, num_workers=2, collate_fn=meter.watch(collator))
    for batch in loader:
        ...
        meter.log(logging.getLogger(__name__), every=100)
    print(meter.total.padding_share)

Neither torch nor transformers is imported here.
"""

from __future__ import annotations

import logging
import os
from dataclasses import astuple, dataclass
from typing import TYPE_CHECKING, Any, NoReturn

from ._checks import check_count, check_type
from ._watched import Account, Watched

if TYPE_CHECKING:
    from collections.abc import Callable

    from transformers import TrainerCallback

__all__ = ["Counts", "PaddingMeter"]


@dataclass(frozen=True)
class Counts:
    """What batches have in them. Counts can be added and subtracted.

    Tokens are counted once, in the ids, not again in labels and masks.

    Attributes:
        batches: Batches: calls of a watched collator.
        pairs: Samples.
        rows: Rows of token ids, such as two a pair. Those of a prompt that is a row of its own count as well, and
            those of optional ids that a batch has (TRL's ``KL_input_ids``).
        tokens: Cells that have a token of a sample; what truncation has taken off is not there.
        padding: Cells that have none.
        tiles: First dimension of ``pixel_values`` (and of all media that have these words in their name): tiles of
            InternVL, patches of Qwen-VL. Tiles that only fill a place count.
        truncated: Rows of which truncation has taken tokens.

    Example:
        >>> from dpo_collate.stats import Counts
        >>> counts = Counts(batches=1, pairs=2, rows=4, tokens=30, padding=10)
        >>> (counts + counts).padded_tokens, (counts + counts).padding_share
        (80, 0.25)
        >>> print(counts)
        batches: 1, pairs: 2, rows: 4 (truncated: 0), tokens: 30, padding: 10 (25.0 %)
    """

    batches: int = 0
    pairs: int = 0
    rows: int = 0
    tokens: int = 0
    padding: int = 0
    tiles: int = 0
    truncated: int = 0

    @property
    def padded_tokens(self) -> int:
        """All cells: tokens and padding. What the model computes."""
        return self.tokens + self.padding

    @property
    def padding_share(self) -> float:
        """The part of all cells that is padding, from 0 to 1; 0 where there are no cells."""
        return self.padding / self.padded_tokens if self.padded_tokens else 0.0

    def figures(self, prefix: str = "") -> dict[str, float]:
        """What loggers are given.

        Args:
            prefix: What the names begin with, such as ``"train/"``.

        Returns:
            ``padding_share``, ``tokens_per_batch`` (without padding), ``truncated_rows`` and, if there are images,
            ``tiles_per_batch``.

        Example:
            >>> from dpo_collate.stats import Counts
            >>> Counts(batches=2, pairs=4, rows=8, tokens=30, padding=10).figures("train/")
            {'train/padding_share': 0.25, 'train/tokens_per_batch': 15.0, 'train/truncated_rows': 0}
        """
        batches = max(self.batches, 1)
        found: dict[str, float] = {
            "padding_share": self.padding_share,
            "tokens_per_batch": self.tokens / batches,
            "truncated_rows": self.truncated,
        }
        if self.tiles:
            found["tiles_per_batch"] = self.tiles / batches
        return {f"{prefix}{name}": figure for name, figure in found.items()}

    def __add__(self, other: Counts) -> Counts:
        if not isinstance(other, Counts):
            return NotImplemented
        return Counts(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))

    def __sub__(self, other: Counts) -> Counts:
        if not isinstance(other, Counts):
            return NotImplemented
        return Counts(*(a - b for a, b in zip(astuple(self), astuple(other), strict=True)))

    def __str__(self) -> str:
        tiles = f", tiles: {self.tiles:,}" if self.tiles else ""
        return (
            f"batches: {self.batches:,}, pairs: {self.pairs:,}, rows: {self.rows:,} (truncated: {self.truncated:,}), "
            f"tokens: {self.tokens:,}, padding: {self.padding:,} ({100 * self.padding_share:.1f} %){tiles}"
        )


class PaddingMeter:
    """Counts tokens and padding of the batches that arrive in this process.

    A batch arrives when this process receives it from a DataLoader's worker, which is not later than when the loop gets
    it: workers that are not in order, or ``pin_memory=True``, can be ahead of the loop by as many batches as the loader
    prefetches. Without workers it arrives when it is made. Batches that are never received, as the loop has ended
    before, are not counted. (``persistent_workers=True`` receives those at the start of the next loop, and drops them:
    they are counted then.)

    Counts come with the batch's tensors, or arrays, through the queues of ``multiprocessing``, as those of a
    DataLoader. They do not come with a batch that has neither, nor with what is made of it behind the watched call (as
    by a loader with ``batch_size=None``, which makes tensors of arrays), nor through pickles of other kinds (from a
    remote function of Ray). What another thread makes for the collator is not counted.

    Make the meter in the process that trains: in distributed training each has its own, which counts what that process
    is given. A meter does not pickle, and in a forked process it raises a RuntimeError.

    Example:
        >>> from dpo_collate import PreferenceCollator
        >>> from dpo_collate.stats import PaddingMeter
        >>> meter = PaddingMeter()
        >>> collate = meter.watch(PreferenceCollator(pad_token_id=0))
        >>> keys = ("chosen_input_ids", "chosen_labels", "rejected_input_ids", "rejected_labels")
        >>> batch = collate([dict(zip(keys, ([5, 6], [5, 6], row, row))) for row in ([7], [7, 8, 9])])
        >>> meter.total
        Counts(batches=1, pairs=2, rows=4, tokens=8, padding=2, tiles=0, truncated=0)
        >>> print(meter)
        PaddingMeter(batches: 1, pairs: 2, rows: 4 (truncated: 0), tokens: 8, padding: 2 (20.0 %))
    """

    def __init__(self) -> None:
        self._account = Account()
        self._begin = self._logged = Counts()

    def watch(self, collate_fn: Callable[..., Any]) -> Callable[..., Any]:
        """Makes a ``collate_fn`` that does the same, and is counted.

        Args:
            collate_fn: A :class:`dpo_collate.PreferenceCollator`, a drop-in of :mod:`dpo_collate.trainers`, a
                ``functools.partial`` of one, or a function of yours that calls one, or several, and returns what it
                likes. (Of collators that are not from here only the batches are counted.) Several meters may watch
                the same one; what this meter watches already is returned as it is.

        Returns:
            A callable that takes and returns what ``collate_fn`` does, raises what it raises, and pickles if it does.
            Its attributes are those of ``collate_fn``. For Ray Data, give it to :func:`dpo_collate.ray.collate_fn`.

        Raises:
            TypeError: ``collate_fn`` cannot be called.
            RuntimeError: Another process has made the meter.
        """
        if not callable(collate_fn):
            raise TypeError(f"collate_fn={collate_fn!r}: expected a collator, or a function that calls one")
        self._check_process()
        if isinstance(collate_fn, Watched) and collate_fn.token == self._account.token:
            return collate_fn  # else its batches would be counted twice
        return Watched(collate_fn, self._account.token, self._account.process)

    @property
    def total(self) -> Counts:
        """What has arrived since the meter was made, or since :meth:`reset`."""
        return self._ever() - self._begin

    @property
    def last(self) -> Counts:
        """The batch that arrived last; nothing, if none has since :meth:`reset`."""
        self._check_process()
        return Counts(*self._account.last())

    def reset(self) -> None:
        """Begins anew."""
        self._begin = self._logged = self._ever()
        self._account.forget_last()

    def log(self, logger: Any, *, every: int = 1, prefix: str = "") -> bool:
        """Logs what has arrived since it was logged last, if that are enough batches. Call it in each step.

        Args:
            logger: A ``logging.Logger`` gets a line of text, of level INFO. Whatever else has a method ``log`` (a run
                of wandb, an ``Accelerator``, a ``Trainer``) gets :meth:`Counts.figures` with it.
            every: How many batches are enough.
            prefix: What the names of figures begin with, or the line.

        Returns:
            Whether it has logged.

        Raises:
            TypeError: The logger is none, or ``every`` no integer.
            ValueError: ``every`` is less than 1.

        Example:
            >>> from types import SimpleNamespace
            >>> from dpo_collate.stats import PaddingMeter
            >>> run = SimpleNamespace(log=print)
            >>> PaddingMeter().log(run, every=100)
            False
        """
        every = check_count("every", every, 1)
        check_type("prefix", prefix, str)
        if not callable(getattr(logger, "log", None)):
            raise TypeError(f"logger={logger!r}: expected a logging.Logger, or what has a method log that takes a dict")
        now = self._ever()
        counts = now - self._logged
        if counts.batches < every:
            return False
        if isinstance(logger, logging.Logger | logging.LoggerAdapter):
            logger.info("%s%s", prefix, counts)
        else:
            logger.log(counts.figures(prefix))
        self._logged = now
        return True

    def callback(self) -> TrainerCallback:
        """Makes a callback for the Trainer of transformers (and TRL's), which adds figures to its logs.

        Give the Trainer ``data_collator=meter.watch(collator)`` and ``callbacks=[meter.callback()]``. What it logs of
        training then has :meth:`Counts.figures` of the batches that have arrived since it logged last (accelerate is a
        batch ahead of the loop, so that the last entry of an epoch may have none); what it logs of an evaluation has
        them with the evaluation's prefix (``eval_padding_share``), and the summary at the end those of the whole
        training (``train_padding_share``). They are in ``trainer.state.log_history`` as well. Where there are several
        processes, they are those of the process that logs.

        Callbacks that report to a service (wandb, TensorBoard) come before those that the Trainer is given, and have
        reported by then. For these, put the callback first::

            trainer.callback_handler.callbacks.insert(0, meter.callback())

        Raises:
            ModuleNotFoundError: transformers is not installed.
        """
        try:
            from ._padding_callback import PaddingCallback  # noqa: PLC0415 - imports transformers
        except ModuleNotFoundError as error:
            hint = "a callback is for the Trainer of transformers"
            raise ModuleNotFoundError(f"{error}; {hint}", name=error.name) from None
        return PaddingCallback(self._ever)

    def _ever(self) -> Counts:
        """What has arrived since the meter was made.

        Raises:
            RuntimeError: In another process, where nothing arrives.
        """
        self._check_process()
        return Counts(*self._account.total())

    def _check_process(self) -> None:
        if self._account.process != os.getpid():
            raise RuntimeError("the PaddingMeter was made in another process: make it in the one that trains")

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.total})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a PaddingMeter counts in the process that made it: pickle what its method watch returns")
