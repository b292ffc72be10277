"""What is tried with a collator and one typical batch."""

from __future__ import annotations

import multiprocessing
import re
import sys
import threading
from typing import TYPE_CHECKING, Any, Final

import torch
from torch.utils.data import DataLoader

from dpo_collate.testing.assertions import assert_no_leak, assert_picklable
from dpo_collate.testing.comparing import difference

from .samples import dressed, row_keys

if TYPE_CHECKING:
    from collections.abc import Callable

    from .contracts import Contract
    from .samples import Plain

    Collate = Callable[[list[Any]], Any]
    Make = Callable[[], list[Any]]

_THREADS, _EACH = 4, 8
_CALLS, _ROUNDS = 50, 3
_SOON = 1e-5


class Skipped(Exception):  # noqa: N818 - no error
    """Something cannot be tried here."""


def picklable(collator: Collate, make: Make) -> str | None:
    """Why the collator does not pickle."""
    steady = difference(collator(make()), collator(make())) is None
    return _said(lambda: assert_picklable(collator, make() if steady else None, most_bytes=2**62))


def no_leak(collator: Collate, make: Make) -> str | None:
    """What is left behind by calls."""
    return _said(lambda: assert_no_leak(collator, make(), calls=_CALLS, rounds=_ROUNDS))


def _said(asserts: Callable[[], None]) -> str | None:
    try:
        asserts()
    except AssertionError as error:
        return str(error)
    return None


def thread_safe(collator: Collate, make: Make) -> str | None:
    """What goes wrong while other threads collate."""
    try:
        rest, every = collator(make()[:1]), collator(make())
    except Exception as error:
        raise Skipped("valid samples are not collated") from error
    found: list[str] = []
    begin = threading.Barrier(_THREADS)

    def run(at: int) -> None:
        begin.wait()
        for turn in range(_EACH):
            few = (at + turn) % 2 == 0
            samples = make()[:1] if few else make()
            try:
                where = difference(collator(samples), rest if few else every)
            except Exception as error:  # noqa: BLE001 - whatever it is
                found.append(f"it raises {type(error).__name__}: {error}")
                return
            if where is not None:
                found.append(where.sentence)

    threads = [threading.Thread(target=run, args=(at,)) for at in range(_THREADS)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(_SOON)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    return f"with {_THREADS} threads at the same time: {found[0]}" if found else None


def worker(collator: Collate, make: Make) -> str | None:
    """How the batch of a forked DataLoader worker differs."""
    if "fork" not in multiprocessing.get_all_start_methods():
        raise Skipped("there is no fork here")
    if _uses_cuda() or multiprocessing.current_process().daemon:
        raise Skipped("this process is not to be forked: it uses CUDA, or is a worker itself")
    samples: Any = make()
    expected = collator(make())
    loader = DataLoader(
        samples,
        batch_size=len(samples),
        collate_fn=collator,
        num_workers=1,
        multiprocessing_context="fork",
        timeout=60,
    )
    try:
        (batch,) = loader
    except Exception as error:  # noqa: BLE001 - whatever it is
        return f"in a worker it raises {type(error).__name__}: {_last_line(error)}"
    where = difference(batch, expected)
    return None if where is None else f"a worker makes another batch: {where.sentence}"


def _uses_cuda() -> bool:
    return bool(torch.cuda.is_initialized())  # type: ignore[no-untyped-call]


def _last_line(error: Exception) -> str:
    return str(error).strip().split("\n")[-1]


TRIES: Final[dict[str, tuple[Callable[[Collate, Make], str | None], int]]] = {
    "picklable": (picklable, 4),
    "thread-safe": (thread_safe, 2 + _THREADS * _EACH),
    "no leak": (no_leak, _CALLS * (_ROUNDS + 2)),
    "DataLoader worker": (worker, 2),
}
"""Each, and how many calls of the collator it takes."""


def bad_samples(collator: Collate, plain: Plain, contract: Contract) -> tuple[str, list[Any]] | None:
    """Which bad sample is not refused by name, and how it goes; None: each is."""
    keys = row_keys(contract)
    own = {
        matrix.tokens.replace("{}", stem) for matrix in contract.layout.matrices for row in matrix.rows for stem in row
    }
    at = len(plain) - 1
    tries: list[tuple[str, dict[str, Any]]] = []
    for key in keys.required:
        if contract.layout.sample is None:
            tries.append((f"without {key!r}", {name: row for name, row in plain[at].items() if name != key}))
        if key not in own and plain[at][key]:
            tries.append((f"whose {key!r} is too short", plain[at] | {key: plain[at][key][:-1]}))
    for how, sample in tries:
        samples = dressed([*plain[:at], sample], contract)
        sentence = f"a sample {how} is collated all the same"
        try:
            collator(samples)
        except Exception as error:  # noqa: BLE001 - whatever it is
            names = {at, *(value for key, value in sample.items() if key.endswith(("id", "index")))}
            if {*map(str, names)} & {*re.findall(r"\w+", str(error))}:
                continue
            sentence = (
                f"a sample {how} raises {type(error).__name__}: {error}, which does not say that it is sample {at}"
            )
        return sentence, dressed([*plain[:at], sample], contract)
    return None
