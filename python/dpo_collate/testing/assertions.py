"""Assertions about any collator, or any callable, for tests of one's own."""

from __future__ import annotations

import contextlib
import copy
import multiprocessing
import pickle
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from dpo_collate.collator import PreferenceCollator
from dpo_collate.layout import Layout

from .checking.growth import grows
from .comparing import difference, facts, parts, shared
from .reference.collating import reference_collate

if TYPE_CHECKING:
    from .comparing import Difference

Samples = Sequence[Any]

__all__ = ["assert_collates_like", "assert_no_leak", "assert_picklable", "assert_samples_unchanged"]


# --- what is collated -----------------------------------------------------------------------------


def assert_collates_like(  # noqa: PLR0913 - two collators, samples, and what a table is called with
    collator: Callable[[Any], Any],
    reference: Callable[[Any], Any] | Layout,
    samples: Samples,
    *,
    pad_token_id: int = 0,
    label_pad_token_id: int = -100,
    in_order: bool = False,
) -> None:
    """Asserts that two collators make the same of samples: the same batch, or an exception of the same class.

    Each gets a copy of its own, so that neither sees what the other does to samples.

    Args:
        collator: The one that is tested.
        reference: What it should do: another collator; a :class:`dpo_collate.layout.Layout`; or a
            ``PreferenceCollator``, which stands for its table. What a table means is computed in plain Python.
        samples: The samples of one batch.
        pad_token_id: Of a ``Layout``: what it calls by that name.
        label_pad_token_id: Likewise.
        in_order: Whether the keys must be in the same order.

    Raises:
        AssertionError: They differ: where (key, row, cell), and both values.

    Example:
        >>> from dpo_collate import PreferenceCollator
        >>> from dpo_collate.testing import assert_collates_like
        >>> sides = ("chosen", "rejected")
        >>> sample = {f"{side}_{of}": [7, 5] for side in sides for of in ("input_ids", "labels")}
        >>> collator = PreferenceCollator(pad_token_id=0, attention_mask="value")
        >>> assert_collates_like(collator, PreferenceCollator(pad_token_id=0), [sample])
        >>> sample["chosen_input_ids"] = [7, 0]
        >>> assert_collates_like(collator, PreferenceCollator(pad_token_id=0), [sample])
        Traceback (most recent call last):
        AssertionError: batch['chosen_attention_mask'], row 0, cell 1: found 0, expected 1
    """
    expected = _attempt(_plain(reference, pad_token_id, label_pad_token_id), copied(samples))
    found = _attempt(collator, copied(samples))
    if isinstance(expected, Exception) or isinstance(found, Exception):
        if type(expected) is not type(found):
            raise AssertionError(f"the collator {_did(found)}, but the reference {_did(expected)}")
        return
    where = difference(found, expected, in_order=in_order)
    if where is not None:
        raise AssertionError(where.sentence)


def _plain(
    reference: Callable[[Any], Any] | Layout, pad_token_id: int, label_pad_token_id: int
) -> Callable[[Any], Any]:
    if isinstance(reference, PreferenceCollator):
        return lambda samples: reference_collate(samples, reference)
    if isinstance(reference, Layout):
        ids = {"pad_token_id": pad_token_id, "label_pad_token_id": label_pad_token_id}
        return lambda samples: reference_collate(samples, reference, **ids)
    return reference


def _attempt(collate: Callable[[Any], Any], samples: Any) -> Any:
    """The batch, or the exception that there is instead."""
    try:
        return collate(samples)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is compared
        return error


def _did(batch: Any) -> str:
    if isinstance(batch, Exception):
        return f"raised {type(batch).__name__}: {batch}"
    return "made a batch"


def copied(samples: Any) -> Any:
    """A copy that has nothing in common with the samples; what cannot be copied stays itself."""
    try:
        return copy.deepcopy(samples)
    except Exception:  # noqa: BLE001 - whatever a class of somebody else does
        if isinstance(samples, list):
            return [copied(sample) for sample in samples]
        if type(samples) is dict:
            return {key: copied(value) for key, value in samples.items()}
        return samples


# --- samples that stay what they are --------------------------------------------------------------


def assert_samples_unchanged(collator: Callable[[Any], Any], samples: Samples, *, may_share: bool = False) -> None:
    """Asserts that a collator leaves samples as they are, also when it raises.

    Everything counts: which objects there are, keys and their order, lengths, shapes, strides, every byte of the
    memory behind a tensor, and torch's count of writes to it. What the collator raises is swallowed.

    Args:
        collator: The one that is tested.
        samples: The samples of one batch.
        may_share: Whether tensors of the batch may lie in the memory of the samples. To write to such a batch, as an
            in-place operation of a training loop does, changes the data set.

    Raises:
        AssertionError: What is not as it was, and where; or what of the batch lies in a sample.

    Example:
        >>> from dpo_collate.testing import assert_samples_unchanged
        >>> assert_samples_unchanged(lambda samples: [sample["ids"] + [0] for sample in samples], [{"ids": [1]}])
        >>> assert_samples_unchanged(lambda samples: [sample["ids"].append(0) for sample in samples], [{"ids": [1]}])
        Traceback (most recent call last):
        AssertionError: the collator changes the samples: samples[0]['ids'] had the length 1, and has 2
    """
    kept = parts(samples)
    before = list(facts(samples))
    batch = _attempt(collator, samples)
    sentence = changed(before, list(facts(samples)))
    del kept
    if sentence is not None:
        raise AssertionError(f"the collator changes the samples: {sentence}")
    if not may_share and not isinstance(batch, Exception):
        common = shared(batch, samples)
        if common is not None:
            raise AssertionError(shares(*common))


def shares(of_batch: str, of_samples: str) -> str:
    """Says that two places have memory in common."""
    return f"{of_batch} lies in the memory of {of_samples}: to write to the batch changes the sample"


def changed(before: list[tuple[str, str, Any]], after: list[tuple[str, str, Any]]) -> str | None:
    """What is no longer as it was, in words; of several things the one that says most. None: nothing."""
    now = {(place, name): fact for place, name, fact in after}
    differing = [
        (name, place, fact) for place, name, fact in before if (place, name) in now and now[place, name] != fact
    ]
    if not differing:
        return None if len(before) == len(after) else "they have other parts than before"
    order = ("keys", "length", "dtype", "shape", "values", "value", "memory", "strides", "requires_grad", "flags")
    said = {name: at for at, name in enumerate((*order, "identity", "_version"))}
    name, place, fact = min(differing, key=lambda each: said[each[0]])
    if name == "identity":
        return f"{place} is another object than before"
    if name == "_version":
        return f"{place} was written to (with the same values)"
    if name == "memory":
        return f"the memory of {place} was written to"
    label, verb = {"value": ("", "was"), "values": ("", "was"), "keys": ("the keys ", "had")}.get(
        name, (f"the {name} ", "had")
    )
    return (
        f"{place} {verb} {label}{_plainly(fact)}, and {'is' if verb == 'was' else 'has'} {_plainly(now[place, name])}"
    )


def _plainly(fact: Any) -> str:
    return str([*fact]) if isinstance(fact, tuple) else str(fact)


# --- memory ---------------------------------------------------------------------------------------


def assert_no_leak(
    function: Callable[..., Any],
    *arguments: Any,
    calls: int = 100,
    rounds: int = 4,
    raises: type[BaseException] | tuple[type[BaseException], ...] = (),
) -> None:
    """Asserts that calling a function again and again leaves nothing behind.

    After a round to get warm, each round of calls is measured: references to the arguments (and to all that is in
    them), objects that the garbage collector knows, bytes that Python has allocated, blocks of batches
    (:func:`dpo_collate.delivery.stats`), open file descriptors, and the memory of the process. Something leaks if it
    grows with the calls in every round: what is kept once, or now and then, does not count.

    Args:
        function: What is called; what it returns is dropped.
        *arguments: What it is called with.
        calls: Calls of one round.
        rounds: How many rounds must agree.
        raises: What the calls may raise.

    Raises:
        AssertionError: What grows, and by how much in each round.

    Example:
        >>> from dpo_collate.testing import assert_no_leak
        >>> assert_no_leak(sorted, [3, 1, 2])
        >>> kept = []
        >>> assert_no_leak(kept.append, [3, 1, 2])
        Traceback (most recent call last):
        AssertionError: 100 calls leave something behind: references to arguments[0], 100 more after each round
    """

    def call() -> None:
        with contextlib.suppress(*(raises if isinstance(raises, tuple) else (raises,))):
            function(*arguments)

    found = grows(call, arguments, calls, rounds)
    if found:
        raise AssertionError(f"{calls} calls leave something behind: {'; '.join(found)}")


# --- pickling -------------------------------------------------------------------------------------


def assert_picklable(
    collator: Callable[[Any], Any], samples: Samples | None = None, *, spawned: bool = False, most_bytes: int = 2**20
) -> None:
    """Asserts that a collator pickles, as DataLoader workers that are spawned (or forked by a server) need it.

    Args:
        collator: The one that is tested.
        samples: If given, the copy must make the same batch of them.
        spawned: Whether to try it in a process of its own as well (some seconds); ``samples`` must be given.
        most_bytes: A collator that takes more is an error: a tokenizer, a model or a data set may be in it, which
            every worker gets a copy of.

    Raises:
        AssertionError: It does not pickle, or not to the same collator, or to too many bytes.

    Example:
        >>> from dpo_collate import PreferenceCollator
        >>> from dpo_collate.testing import assert_picklable
        >>> assert_picklable(PreferenceCollator(pad_token_id=0))
        >>> from functools import partial
        >>> assert_picklable(partial(print, "words" * 2**20))
        Traceback (most recent call last):
        AssertionError: the collator takes 5120.1 KiB when it is pickled, expected at most 1024.0 KiB: what is in it?
    """
    try:
        data = pickle.dumps(collator)
        copy_of_it = pickle.loads(data)  # noqa: S301 - just made
    except Exception as error:
        raise AssertionError(f"the collator does not pickle: {type(error).__name__}: {error}") from error
    if len(data) > most_bytes:
        sizes = (f"{size / 2**10:.1f} KiB" for size in (len(data), most_bytes))
        raise AssertionError(
            "the collator takes {} when it is pickled, expected at most {}: what is in it?".format(*sizes)
        )
    if samples is None:
        if spawned:
            raise ValueError("spawned=True: expected samples to try the collator with")
        return
    expected = collator(copied(samples))
    where = difference(copy_of_it(copied(samples)), expected)
    if where is not None:
        raise AssertionError(f"the pickled collator makes another batch: {where.sentence}")
    if spawned:
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            where = _from(pool.apply(_collated, (data, pickle.dumps(samples))), expected)
        if where is not None:
            raise AssertionError(f"in a spawned process the collator makes another batch: {where.sentence}")


def _from(data: bytes, expected: Any) -> Difference | None:
    found = pickle.loads(data)  # noqa: S301 - made by _collated
    if isinstance(found, str):
        raise AssertionError(f"in a spawned process the collator raised {found}")  # noqa: TRY004 - a finding
    return difference(found, expected)


def _collated(collator: bytes, samples: bytes) -> bytes:
    """In another process: the batch, or what was raised."""
    try:
        return pickle.dumps(pickle.loads(collator)(pickle.loads(samples)))  # noqa: S301 - made by assert_picklable
    except Exception as error:  # noqa: BLE001 - said where it was asked for
        return pickle.dumps(f"{type(error).__name__}: {error}")
