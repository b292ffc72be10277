"""How TRL's collators are called."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from dpo_collate._samples import Samples
    from dpo_collate.collator import Batch


class TrlCall(ABC):
    """A collator of TRL's form: a call asks ``torch_call`` for tensors, which a subclass may override."""

    return_tensors: Literal["pt", "np"]

    @abstractmethod
    def _collate(self, features: Samples, return_tensors: Literal["pt", "np"]) -> Batch:
        """Makes a batch of a list of samples."""

    def torch_call(self, examples: Samples) -> Batch:
        """Makes a batch of tensors of a list of samples."""
        return self._collate(examples, "pt")

    def __call__(self, features: Samples, return_tensors: Literal["pt", "np"] | None = None) -> Batch:
        """Makes a batch of a list of samples."""
        kind = return_tensors or self.return_tensors
        return self.torch_call(features) if kind == "pt" else self._collate(features, kind)
