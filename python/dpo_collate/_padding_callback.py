"""Figures of padding in the logs of a Trainer. Imports transformers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from transformers import TrainerCallback

from .stats import Counts

if TYPE_CHECKING:
    from collections.abc import Callable


class PaddingCallback(TrainerCallback):  # type: ignore[misc] # the types of transformers are not complete
    """What :meth:`dpo_collate.stats.PaddingMeter.callback` makes.

    The batches of an evaluation arrive between two steps of training, and with the same collator: what arrives up to
    the end of a step is training's, what arrives from there to the log of an evaluation is the evaluation's.

    Args:
        ever: Says what has arrived so far.
    """

    def __init__(self, ever: Callable[[], Counts]) -> None:
        self._ever = ever
        self._seen = ever()
        """What has been told apart so far."""
        self._training = self._logged = Counts()
        """Of training: all, and what has been logged of it."""

    def _arrived(self) -> Counts:
        """What has arrived since this was asked last."""
        seen, self._seen = self._seen, self._ever()
        return self._seen - seen

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        """What came before is not of this training."""
        self._arrived()
        self._training = self._logged = Counts()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        """What has arrived is training's."""
        self._training += self._arrived()

    def on_predict(self, *_: Any, **__: Any) -> None:
        """What has arrived is logged by nobody."""
        self._arrived()

    def on_log(self, _: Any, state: Any, __: Any, logs: dict[str, Any] | None = None, **___: Any) -> None:
        """Adds figures to what is logged, and to the entry that the state has of it already."""
        if logs is None:
            return
        runtimes = (name.removesuffix("runtime") for name in logs if name.endswith("_runtime"))
        evaluated = next((prefix for prefix in runtimes if prefix != "train_"), None)
        if evaluated is not None:
            counts, prefix = self._arrived(), evaluated
        elif "train_loss" in logs:  # the summary at the end
            counts, prefix = self._training, "train_"
        else:
            counts, prefix = self._training - self._logged, ""
            self._logged = self._training
        if counts.batches:
            figures = counts.figures(prefix)
            logs.update(figures)
            for entry in state.log_history[-1:]:
                entry.update(figures)
