"""A check of any collator: whether it does what a trainer expects of it, property by property."""

from __future__ import annotations

import copy
import time
import warnings
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from dpo_collate.testing.assertions import changed, shares
from dpo_collate.testing.comparing import Difference, difference, facts, is_array, numpy_of, parts, shared

from . import trying
from .contracts import Contract, contract_of
from .looking import expected_of, facets, look
from .reports import ADVICE, FACETS, PROPERTIES, Broken, Report, ordered
from .samples import dressed, kinds, plain_batches
from .searching import drawn, size, smallest

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from hypothesis import strategies as st

    from .looking import Findings
    from .samples import Plain

__all__ = ["check_collator"]

_FEW = 15
"""Of so many examples there is a closer look at what takes several calls."""

_LONG = 3000
_LATE = "the {:g} s are over"
_UNSEEN = "it cannot be seen: {!r} is broken"
_RAISED = "valid samples are not collated"
_APART = "no batch can be taken apart"
_OF_ONE = ("picklable", "thread-safe", "no leak", "DataLoader worker")


def check_collator(  # noqa: PLR0913 - a collator, a contract, and how long and hard it is tried
    collator: Callable[[list[Any]], Any],
    contract: str | Contract | Any = "separate",
    *,
    seed: int = 0,
    max_examples: int = 60,
    properties: Collection[str] | None = None,
    seconds: float = 120,
) -> Report:
    """Checks a collator: any callable that makes a batch of a list of samples.

    Random samples that the contract promises are collated, and what is made of them is compared with what the table
    means in plain Python. A property that is broken is told once, with the smallest samples that were found to show it;
    the check goes on behind it, so that one run tells of all. The same seed gives the same report.

    Args:
        collator: The one that is tested. It has to pad with the ids of the contract.
        contract: What it should do: a name in ``CONTRACTS``, or a :class:`Contract`; or a ``Layout``, a
            ``PreferenceCollator`` or a drop-in, whose table is meant.
        seed: Of the search.
        max_examples: So many random batches.
        properties: The names of those to check; None: all.
        seconds: A check of a slow collator ends about then, and the report says what was skipped. (A call that does
            not return is waited for.)

    Returns:
        A report: ``report.broken``, ``report.advice``, ``report.ok``; to print it, or ``report.raise_for_broken()``.

    Raises:
        ValueError: There is no such contract, or no such property.
        TypeError: The contract is nothing of the kind.

    Example:
        >>> import torch
        >>> from dpo_collate.testing import check_collator
        >>> from dpo_collate.trainers.trl import DataCollatorForPreference
        >>> check_collator(DataCollatorForPreference(0), "trl", properties=["ids", "masks"], max_examples=10).ok
        True
    """
    unknown = [name for name in properties or () if name not in PROPERTIES]
    if unknown:
        raise ValueError(f"properties={properties!r}: expected some of {', '.join(map(repr, PROPERTIES))}")
    check = _Check(collator, contract_of(contract), seed, max_examples, frozenset(properties or PROPERTIES), seconds)
    with warnings.catch_warnings():
        # What a collator warns of is no finding.
        warnings.simplefilter("ignore")
        return check.report()


@dataclass
class _Check:
    collator: Callable[[list[Any]], Any]
    contract: Contract
    seed: int
    max_examples: int
    wanted: frozenset[str]
    seconds: float
    broken: dict[str, Broken] = field(default_factory=dict)
    passed: dict[str, None] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    other: Plain = field(default_factory=list)
    """Samples of an earlier call."""
    kind: str | None = None
    """What rows were that showed something; None: what they are first."""
    raised: bool = True
    """Whether all batches raised."""
    whole: bool = False
    """Whether some batch was made of the right containers."""
    last: tuple[Plain, dict[Any, Any] | None] | None = None

    def __post_init__(self) -> None:
        self.end = time.monotonic() + self.seconds
        # Rows are lists, arrays or tensors where it matters whose memory they have.
        first, *others = kinds(self.contract)
        self.families = (first, *(kind for kind in others if kind.endswith(" plain")))
        try:
            self.pristine = copy.deepcopy(self.collator)
        except Exception:  # noqa: BLE001 - whatever an object of somebody else does
            self.pristine = self.collator

    def report(self) -> Report:
        """Checks everything."""
        strategy = plain_batches(self.contract)
        examples = _valid(self.contract, self.max_examples, self.seed)
        if not examples:
            raise ValueError(f"{self.contract!r}: none of {self.max_examples} random batches is valid")
        self.other = max(examples, key=size)
        some = examples[:_FEW]
        self.search("deterministic", self.repeated, some, strategy)
        self.search("independent of earlier calls", self.after_others, some, strategy)
        self.facets(examples, strategy)
        self.search("empty rows", partial(self.odd, "empty rows"), *self.with_empty_rows())
        several = [plain for plain in some if len(plain) > 1]
        self.search("long row", self.long_row, several[:1], plain_batches(self.contract, 2), lengthened)
        self.search("input kinds", self.kinds, some if len(kinds(self.contract)) > 1 else [], strategy)
        self.search("samples unchanged", self.unchanged, examples, strategy)
        self.search("no aliasing", self.own_memory, some, strategy)
        self.once(examples)
        self.unseen()
        found = ordered([each for name, each in self.broken.items() if name in self.wanted])
        return Report(
            self.contract.name,
            tuple(each for each in found if each.property not in ADVICE),
            tuple(each for each in found if each.property in ADVICE),
            tuple(name for name in PROPERTIES if name in self.passed and name in self.wanted),
            tuple((name, why) for name, why in self.skipped.items() if name in self.wanted),
        )

    # --- calls ------------------------------------------------------------------------------------

    def call(self, plain: Plain, kind: str | None = None) -> Any:
        """The batch of new samples; of a collator that remembers earlier calls, by one that has none."""
        collator = self.collator
        if "independent of earlier calls" in self.broken:
            collator = copy.deepcopy(self.pristine)
        return collator(dressed(plain, self.contract, kind))

    def right(self, plain: Plain) -> dict[Any, Any] | None:
        """The right batch; that of the same samples is not made twice in a row."""
        if self.last is None or self.last[0] is not plain:
            self.last = (plain, expected_of(self.contract, plain))
        return self.last[1]

    def valid(self, plain: Plain) -> bool:
        return self.right(plain) is not None

    def search(
        self,
        name: str,
        shows: Callable[[Plain], str | None],
        examples: list[Plain],
        strategy: st.SearchStrategy[Plain],
        changed_by: Callable[[Plain], Plain] = lambda plain: plain,
    ) -> None:
        """Looks for the smallest samples that show a property to be broken; none: it holds."""
        if not self.needed(name) or not examples:
            return
        if "deterministic" in self.broken and name in {"empty rows", "long row", "input kinds"}:
            self.skipped[name] = _UNSEEN.format("deterministic")
            return
        first = next((plain for plain in self.in_time(examples) if shows(plain) is not None), None)
        if first is None:
            self.holds(name)
            return
        found = self.smallest(strategy, lambda plain: shows(plain) is not None, first)
        self.kind = None
        sentence = shows(found) or shows(first) or "now and then it does"
        self.say(name, sentence, changed_by(found), self.kind)

    def smallest(self, strategy: st.SearchStrategy[Plain], shows: Callable[[Plain], bool], first: Plain) -> Plain:
        """The smallest valid samples that show something, as the first do."""
        return smallest(
            strategy,
            lambda plain: self.valid(plain) and shows(plain),
            first,
            count=self.max_examples,
            seed=self.seed,
            late=self.late,
        )

    def holds(self, name: str) -> None:
        """Notes that nothing was found, if all was tried."""
        if self.late():
            self.skipped[name] = _LATE.format(self.seconds)
        else:
            self.passed[name] = None

    def in_time(self, examples: list[Plain]) -> Iterator[Plain]:
        """The examples, until the time is over."""
        for plain in examples:
            if self.late():
                return
            yield plain

    def late(self) -> bool:
        """Whether the time is over."""
        return time.monotonic() > self.end

    def needed(self, name: str) -> bool:
        """Whether a property is looked at: if it is wanted, or if others depend on it."""
        return name in self.wanted or name in {"deterministic", "independent of earlier calls"}

    def say(self, name: str, sentence: str, plain: Plain | None = None, kind: str | None = None) -> None:
        """Notes what is broken."""
        if plain is None:
            self.broken[name] = Broken(name, sentence)
            return
        try:
            found = self.call(plain, kind)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is what was found
            found = error
        samples = dressed(plain, self.contract, kind)
        self.broken[name] = Broken(name, sentence, samples, _tensors(self.right(plain)), found)

    # --- what is in a batch -----------------------------------------------------------------------

    def facets(self, examples: list[Plain], strategy: st.SearchStrategy[Plain]) -> None:
        """Looks at batches, facet by facet."""
        first: dict[str, Plain] = {}
        for plain in self.in_time(examples):
            findings = self.look(plain)
            self.raised &= "collates" in findings
            self.whole |= not {"collates", "containers"} & {*findings}
            for name in findings:
                first.setdefault(name, plain)
        for name in [name for name in PROPERTIES if name in first]:
            if name not in self.wanted:
                continue

            def shows(plain: Plain, name: str = name) -> bool:
                return name in self.look(plain)

            found = self.smallest(strategy, shows, first[name])
            # What is not so each time is no fault of this facet.
            if "deterministic" in self.broken and not all(shows(found) for _ in range(5)):
                continue
            self.say(name, self.look(found).get(name, "now and then it does"), found)
        seen = facets(self.contract, examples)
        for name in PROPERTIES:
            if name in seen and name not in first:
                self.holds(name)

    def look(self, plain: Plain) -> Findings:
        """What is wrong with the batch of these samples."""
        try:
            batch = self.call(plain)
        except Exception as error:  # noqa: BLE001 - whatever it is
            return {"collates": f"it raises {_said(error)}"}
        if "deterministic" in self.broken and difference(self.call(plain), batch) is not None:
            return {}
        return look(self.contract, plain, batch, self.right(plain))

    def odd(self, _: str, plain: Plain) -> str | None:
        """What is wrong with a batch of odd samples that is not wrong with others."""
        found = [sentence for name, sentence in self.look(plain).items() if name not in self.broken]
        return found[0] if found else None

    def with_empty_rows(self) -> tuple[list[Plain], st.SearchStrategy[Plain]]:
        """Batches in which some row has no token; none if the contract does not promise to have them."""
        contract = replace(self.contract, least=0)
        strategy = plain_batches(contract).filter(_has_empty)
        if not self.contract.empty or "empty rows" not in self.wanted:
            return [], strategy
        return [plain for plain in _valid(contract, 2 * _FEW, self.seed) if _has_empty(plain)], strategy

    def long_row(self, plain: Plain) -> str | None:
        """What is wrong with these samples, one of which gets long rows."""
        longer = lengthened(plain)
        return self.odd("long row", longer) if self.valid(longer) else None

    def kinds(self, plain: Plain) -> str | None:
        """Which kind of rows gives another batch."""
        first, *others = kinds(self.contract)
        try:
            expected = self.call(plain)
        except Exception:  # noqa: BLE001 - told already
            return None
        for kind in others:
            try:
                where = difference(self.call(plain, kind), expected)
            except Exception as error:  # noqa: BLE001 - whatever it is
                self.kind = kind
                return f"rows that are {_named(kind)} raise {_said(error)}"
            if where is not None:
                self.kind = kind
                return f"rows that are {_named(kind)} give another batch than {_named(first)}: {where.sentence}"
        return None

    # --- what a call does besides -----------------------------------------------------------------

    def unchanged(self, plain: Plain) -> str | None:
        """What a call changes of the samples."""
        for kind in self.families:
            self.kind = kind
            samples = dressed(plain, self.contract, kind)
            kept = parts(samples)
            before = list(facts(samples))
            with suppress(Exception):  # told already
                self.collator(samples)
            sentence = changed(before, list(facts(samples)))
            del kept
            if sentence is not None:
                return sentence
        return None

    def own_memory(self, plain: Plain) -> str | None:
        """Which of the batch's tensors lies in the memory of a sample."""
        for kind in self.families:
            self.kind = kind
            samples = dressed(plain, self.contract, kind)
            # (What a collator takes out of a sample is its memory still.)
            before = [copy.copy(sample) for sample in samples]
            with suppress(Exception):  # told already
                common = shared(self.collator(samples), before)
                if common is not None:
                    return shares(*common)
        return None

    def repeated(self, plain: Plain) -> str | None:
        """How two batches of the same samples differ."""
        try:
            first = self.call(plain)
            where = next((found for _ in range(3) if (found := difference(self.call(plain), first)) is not None), None)
        except Exception:  # noqa: BLE001 - told elsewhere
            return None
        return None if where is None else f"a second call makes another batch of these samples: {where.sentence}"

    def after_others(self, plain: Plain) -> str | None:
        """How other calls show in a batch."""
        if "deterministic" in self.broken:
            return None
        try:
            collator = copy.deepcopy(self.pristine)
            first = collator(dressed(plain, self.contract))
            kept = copy.deepcopy(first)
            collator(dressed(self.other, self.contract))
            where: Difference | None = difference(first, kept)
            if where is not None:
                return f"a later call changes a batch that was kept: {where.sentence}"
            where = difference(collator(dressed(plain, self.contract)), kept)
        except Exception:  # noqa: BLE001 - told elsewhere
            return None
        return None if where is None else f"after a call with other samples the batch is another: {where.sentence}"

    def unseen(self) -> None:
        """Notes what cannot be said to hold, as there was no batch to see it in."""
        if self.late() or self.whole:
            return
        names = [name for name in self.passed if self.raised or name in FACETS]
        self.skipped = dict.fromkeys(names, _RAISED if self.raised else _APART) | self.skipped
        self.passed = {name: None for name in self.passed if name not in names}

    def once(self, examples: list[Plain]) -> None:
        """What takes one typical batch to see."""
        good = [plain for plain in self.in_time(examples) if "collates" not in self.look(plain)]
        if not good:
            why = _LATE.format(self.seconds) if self.late() else _RAISED
            self.skipped |= dict.fromkeys(("bad samples", *_OF_ONE), why)
            return
        typical = min([plain for plain in good if len(plain) > 1] or good, key=size)
        if "bad samples" in self.wanted:
            advice = trying.bad_samples(self.collator, typical, self.contract)
            if advice is None:
                self.passed["bad samples"] = None
            else:
                self.broken["bad samples"] = Broken("bad samples", *advice)
        make = partial(dressed, typical, self.contract)
        begin = time.monotonic()
        self.call(typical)
        took = time.monotonic() - begin
        unsteady = [name for name in ("deterministic", "independent of earlier calls") if name in self.broken]
        for name in _OF_ONE:
            if name not in self.wanted:
                continue
            if unsteady and name not in {"picklable", "no leak"}:
                self.skipped[name] = _UNSEEN.format(unsteady[0])
                continue
            tried, calls = trying.TRIES[name]
            if calls * took > self.end - time.monotonic():
                self.skipped[name] = (
                    f"{calls} calls of {took:.2g} s take longer than what is left of {self.seconds:g} s"
                )
                continue
            try:
                sentence = tried(self.collator, make)
            except trying.Skipped as why:
                self.skipped[name] = str(why)
                continue
            if sentence is None:
                self.passed[name] = None
            else:
                self.say(name, sentence, typical if name != "picklable" else None)


def _valid(contract: Contract, count: int, seed: int) -> list[Plain]:
    """Of so many random batches the valid ones."""
    try:
        return _of_contract(contract, count, seed)
    except TypeError:  # a table that has no hash
        return _of_contract.__wrapped__(contract, count, seed)


@lru_cache(maxsize=4)
def _of_contract(contract: Contract, count: int, seed: int) -> list[Plain]:
    found = drawn(plain_batches(contract), count, seed)
    return [plain for plain in found if expected_of(contract, plain) is not None]


def _has_empty(plain: Plain) -> bool:
    return any(value == [] for sample in plain for value in sample.values() if isinstance(value, list))


def lengthened(plain: Plain) -> Plain:
    """The samples, of which the last has long rows: what it has, again and again."""
    *before, last = plain
    longer = {key: (value * _LONG)[:_LONG] if isinstance(value, list) else value for key, value in last.items()}
    return [*before, longer]


def _named(kind: str) -> str:
    """A kind of rows, in words."""
    family, _, how = kind.partition(" ")
    if family in {"list", "tuple"}:
        return f"{family}s {how}".strip()
    what = {"numpy": "arrays", "torch": "tensors"}[family]
    return f"{'int32' if how == 'narrow' else 'int64'} {what}{f' ({how})' if how in {'strided', 'read-only'} else ''}"


def _said(error: Exception) -> str:
    text = str(error).split("\n")[0]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _tensors(expected: dict[Any, Any] | None) -> Any:
    """The right batch, as tensors."""
    if expected is None:
        return None
    found = {name: value for name, value in expected.items() if not str(name).startswith("real cells")}
    return {
        name: torch.from_numpy(np.array(numpy_of(value))) if is_array(value) else value for name, value in found.items()
    }
