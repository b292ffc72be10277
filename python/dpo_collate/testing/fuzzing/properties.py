"""What holds for every batch: it is what the table says, and nothing else has changed."""

from __future__ import annotations

import multiprocessing
import re
import warnings
from dataclasses import replace
from typing import Any

from torch.utils.data import DataLoader, Dataset

from dpo_collate.collator import PreferenceCollator
from dpo_collate.testing.comparing import fingerprint, told

ERRORS = (KeyError, TypeError, ValueError, OverflowError)
"""What samples that make no batch are refused with."""

Told = Any
"""A batch in such a form that it can be compared and printed: names of containers, keys in order, ``Array``; or
``("an error", the name of its class)``."""


def refused(found: Told) -> bool:
    """Whether there is an error instead of a batch."""
    return isinstance(found, tuple) and found[0] == "an error"


def outcome(collate: Any, samples: Any, min_length: int | None = None) -> tuple[Told, str]:
    """What a call comes to, and the sentence of an error."""
    options = {} if min_length is None else {"min_length": min_length}
    try:
        return told(collate(samples, **options)), ""
    except Exception as error:  # noqa: BLE001 - whatever it is, it is compared
        return ("an error", type(error).__name__), str(error)


def broken(  # noqa: PLR0911, PLR0913 - one for each property
    collate: Any,
    samples: Any,
    expected: Told,
    *,
    min_length: int | None = None,
    agree: bool = False,
    sent: bool = False,
) -> tuple[str, Told] | None:
    """The first property that does not hold, and what there is instead of what is expected.

    Args:
        collate: A collator or a drop-in.
        samples: What it is called with.
        expected: What should come out.
        min_length: The collator is called with it.
        agree: Tensors and arrays are to be equal (no sample has bfloat16 images).
        sent: The batch is also sent from a worker of a ``DataLoader``.

    Returns:
        A sentence and what was found; None if all is well.
    """
    before = fingerprint(samples)
    found, said = outcome(collate, samples, min_length)
    if found != expected:
        return "the batch is not what the layout says" + (f" ({said})" if said else ""), found
    if refused(found) and not re.search(r"\bsamples?\b", said):
        return f"the error does not name the sample: {said}", found
    if fingerprint(samples) != before:
        return "the samples have changed", found
    again, _ = outcome(collate, samples, min_length)
    if again != expected:
        return "the second batch of the same samples is another one", again
    if agree and isinstance(collate, PreferenceCollator):
        other = "np" if collate.return_tensors == "pt" else "pt"
        found, _ = outcome(replace(collate, return_tensors=other), samples, min_length)  # type: ignore[arg-type]
        if found != expected:
            return f"return_tensors='{other}' gives another batch than '{collate.return_tensors}'", found
    if sent:
        (found,) = through_a_worker([(collate, samples, min_length)])
        if found != expected:
            return "the batch that comes from a worker is another one", found
    return None


# --- workers --------------------------------------------------------------------------------------


class _Batches(Dataset[Any]):
    """Whose items are batches, made where they are asked for."""

    def __init__(self, calls: list[tuple[Any, Any, int | None]]) -> None:
        self.calls = calls

    def __len__(self) -> int:
        return len(self.calls)

    def __getitem__(self, index: int) -> Any:
        collate, samples, min_length = self.calls[index]
        options = {} if min_length is None else {"min_length": min_length}
        try:
            return "a batch", collate(samples, **options)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is compared
            return "an error", type(error).__name__


def _as_it_is(value: Any) -> Any:
    return value


def can_fork() -> bool:
    """Whether workers can have what this process has without pickling it."""
    return "fork" in multiprocessing.get_all_start_methods()


def through_a_worker(calls: list[tuple[Any, Any, int | None]]) -> list[Told]:
    """What comes of the calls where a worker of a ``DataLoader`` makes them, and sends the batches.

    Args:
        calls: Collators, their samples, and ``min_length``.
    """
    loader: Any = DataLoader(
        _Batches(calls), batch_size=None, num_workers=1, collate_fn=_as_it_is, multiprocessing_context="fork"
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 and later, where there are threads
        return [("an error", value) if kind == "an error" else told(value) for kind, value in loader]
