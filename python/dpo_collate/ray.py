"""Batches for Ray Data and Ray Train: a collator as the ``collate_fn`` of ``iter_torch_batches``.

Ray Data cuts its blocks into tables of so many rows and hands each, a ``pyarrow.Table``, to the ``collate_fn``, in
threads of the process that asked for batches. The collator reads the table where it lies, in Ray's object store::

    from dpo_collate import PreferenceCollator
    from dpo_collate.ray import collate_fn

    collate = collate_fn(PreferenceCollator(pad_token_id=0))
    shard = ray.train.get_dataset_shard("train")  # or any ray.data.Dataset
    for batch in shard.iter_torch_batches(batch_size=8, collate_fn=collate):
        ...

This module imports ray and torch (the extra ``ray``); ``import dpo_collate`` imports neither.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from .collator import PreferenceCollator

try:
    import torch
    from ray.data.collate_fn import ArrowBatchCollateFn
except ModuleNotFoundError as missing:
    hint = "dpo_collate.ray needs Ray Data and torch (the extra 'ray' of dpo_collate)"
    raise ModuleNotFoundError(f"{missing}; {hint}", name=missing.name) from None

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["collate_fn"]

_MOVED: Final = "Ray Data moves tensors alone"
_EXPECTED: Final = f"but {_MOVED}: expected a tensor, a number or a bool"


def collate_fn(collator: Callable[[Any], Any]) -> ArrowBatchCollateFn:
    """Makes a ``collate_fn`` for ``iter_torch_batches`` of Ray Data and Ray Train.

    Ray moves a batch to ``device``, and pins it with ``pin_memory=True``, only if it is tensors alone. So a number
    becomes a tensor of shape ``[]``: ``max_length_q`` and ``max_length_k`` of layout ``"padding_free"``, constants, and
    those that a collator of yours adds. Integers become int64, bools bool, floats float32. What can become no tensor is
    an error: of a ``PreferenceCollator`` at once, as its options tell; of other collators when a batch has it. Lists
    of tensors are an error too: Ray would concatenate them.

    Args:
        collator: A :class:`dpo_collate.PreferenceCollator`, or anything that makes a batch of a table: the drop-ins of
            :mod:`dpo_collate.trainers`, a ``functools.partial`` of a collator (``min_length=512``), a function of
            yours around one.

    Returns:
        A ``ray.data.collate_fn.ArrowBatchCollateFn``. It takes a ``pyarrow.Table`` whose rows are the samples, at least
        one, and returns the collator's batch: a dict of tensors, or a tuple of them, or a tensor, as the collator's is.
        It may be called by any number of threads, and pickles if the collator does. Ray never gives it a table without
        rows: empty blocks are skipped, and a data set without rows has no batch. If you do, the collator raises.

    Raises:
        TypeError: The collator cannot be called, or its layout has a constant that is no number.
        ValueError: An option of the collator, or its layout, makes a batch of more than tensors and numbers.

    Example:
        >>> import pyarrow as pa
        >>> from dpo_collate import PreferenceCollator
        >>> from dpo_collate.ray import collate_fn
        >>> collate = collate_fn(PreferenceCollator("padding_free", pad_token_id=0))
        >>> collate
        collate_fn(PreferenceCollator(layout='padding_free', pad_token_id=0))
        >>> batch = collate(
        ...     pa.table(
        ...         {
        ...             "chosen_input_ids": [[5, 6, 7], [9]],
        ...             "chosen_labels": [[-100, 6, 7], [9]],
        ...             "rejected_input_ids": [[5, 8], [9, 4]],
        ...             "rejected_labels": [[-100, 8], [-100, 4]],
        ...         }
        ...     )
        ... )
        >>> batch["input_ids"]
        tensor([[5, 6, 7, 9, 5, 8, 9, 4]])
        >>> batch["max_length_q"]
        tensor(3)
    """
    if isinstance(collator, PreferenceCollator):
        _check(collator)
    elif isinstance(collator, type) or not callable(collator):
        raise TypeError(f"collator={collator!r}: expected a PreferenceCollator, or a function that takes a table")
    return _CollateFn(collator)


@dataclass(frozen=True, repr=False)
class _CollateFn(ArrowBatchCollateFn):
    """What :func:`collate_fn` returns. A class of the module, so that it pickles."""

    collator: Callable[[Any], Any]

    def __call__(self, batch: pa.Table) -> Any:
        """The batch of a table, of tensors alone.

        Raises:
            TypeError: The collator's batch has something that is no tensor, number or bool.
            OverflowError: An integer that is to be a tensor does not fit int64.
            KeyError, TypeError, ValueError, OverflowError, MemoryError: As the collator says.
        """
        collated = self.collator(batch)
        if isinstance(collated, Mapping):
            return {key: _tensor(value, f"'{key}'") for key, value in collated.items()}
        if isinstance(collated, tuple):
            return tuple(_tensor(value, f"part {index} of the batch") for index, value in enumerate(collated))
        return _tensor(collated, "the batch")

    def __repr__(self) -> str:
        return f"collate_fn({self.collator!r})"


def _tensor(value: Any, what: str) -> torch.Tensor:
    if isinstance(value, torch.Tensor):
        return value
    if isinstance(value, np.generic):
        value = value.item()  # of whatever width: a number is a number
    if not isinstance(value, int | float):  # bools are ints
        raise TypeError(f"{what} is {_described(value)}, {_EXPECTED}")
    if isinstance(value, int) and not -(1 << 63) <= value < 1 << 63:
        raise OverflowError(f"{what} is {value}, which does not fit int64")
    return torch.tensor(value)


def _described(value: object) -> str:
    return "None" if value is None else f"of type {type(value).__name__}"


def _check(collator: PreferenceCollator) -> None:
    """Refuses options whose batches would have more than tensors and numbers."""
    table = collator._table  # noqa: SLF001 - the options as they are resolved
    if collator.return_tensors != "pt":
        raise ValueError(f"return_tensors={collator.return_tensors!r}: {_MOVED}, expected 'pt'")
    if table.extra == "list":
        raise ValueError(f"extra_keys='list': {_MOVED}, expected 'drop', 'stack' or 'error'")
    names = table.names()
    if isinstance(table.returns, tuple | dict):
        parts = table.returns.values() if isinstance(table.returns, dict) else table.returns
        names = tuple(part for part in parts if isinstance(part, str))
        if len(names) < len(parts):
            raise ValueError(
                f"returns={table.returns!r}: Ray Data does not move such a nest (a tuple of tuples it concatenates), "
                "expected a name, or a tuple or dict of names"
            )
    elif isinstance(table.returns, str) and table.returns != "sample":
        names = (table.returns,)
    for scalar in table.scalars:
        if scalar.dtype is None and scalar.name in names:
            raise ValueError(
                f"scalar {scalar.name!r} (dtype=None) makes a list, but {_MOVED}: give it a dtype, or leave it out"
            )
    for name, value in table.constants:
        if name in names:
            _tensor(value, f"constant {name!r}")
