"""What a check of a collator has found."""

from __future__ import annotations

import builtins
import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .samples import code

if TYPE_CHECKING:
    from collections.abc import Sequence

PROPERTIES = {
    "collates": "valid samples are collated, and nothing is raised",
    "containers": "the batch is made of the containers that the trainer takes apart",
    "keys": "the batch has the keys that the trainer expects, and no others",
    "key order": "its keys are in the order that the contract has",
    "dtypes": "its arrays are of the dtypes that the trainer expects",
    "shapes": "its arrays have as many rows and columns as the samples need",
    "row order": "its rows are in the order that the trainer splits them by",
    "padding side": "rows are padded on the side that the trainer expects",
    "ids": "token ids are those of the samples, padded with the pad id",
    "labels": "labels (or what else says what is scored) are those of the samples, padded with what the loss ignores",
    "masks": "attention masks come from lengths (or are the samples' own), never from the values of tokens",
    "positions": "positions, and what says where rows begin and end, fit the rows",
    "images": "images are those of the samples, in the order of the rows",
    "image flags": "flags are those of the images",
    "numbers": "numbers are those of the samples",
    "other keys": "keys that the contract does not name are left out, or come as it says",
    "empty rows": "a row without tokens is collated like others",
    "long row": "one row of 3000 tokens among short ones is collated like others",
    "input kinds": "rows give the same batch whatever they are, of what the contract promises",
    "samples unchanged": "samples stay what they are, down to the memory behind a tensor",
    "no aliasing": "the batch has memory of its own: to write to it changes no sample",
    "deterministic": "the same samples give the same batch",
    "independent of earlier calls": "earlier calls do not show in a batch, and later ones do not change it",
    "bad samples": "a bad sample raises an error that says which one it is",
    "picklable": "the collator pickles, as workers need it that are spawned",
    "thread-safe": "threads may use it at the same time",
    "no leak": "calls leave nothing behind",
    "DataLoader worker": "a DataLoader worker makes the same batch",
}
"""The properties that are checked, in this order, and what each says."""

FACETS = (
    *("keys", "key order", "dtypes", "shapes", "row order", "padding side", "ids", "labels", "masks", "positions"),
    *("images", "image flags", "numbers", "other keys"),
)
"""Those that are seen in a batch that can be taken apart."""

ADVICE = ("bad samples",)
"""Those that a collator should have; one without is not broken."""


@dataclass(frozen=True, eq=False)
class Broken:
    """A property that a collator does not have.

    Attributes:
        property: Its name, one of ``PROPERTIES``.
        sentence: What is wrong, in words.
        samples: The smallest batch that was found to show it, as the collator got it; None: no batch shows it.
        expected: What the collator should have made of it, if that can be said.
        found: What it made of it.
    """

    property: str
    sentence: str
    samples: list[Any] | None = None
    expected: Any = None
    found: Any = None

    @builtins.property  # (`property` is a field here)
    def code(self) -> str:
        """Python that makes the samples, to paste; ``collator`` is the one that was checked."""
        if self.samples is None:
            return ""
        made = code(self.samples)
        modules = [name for name, use in {"import numpy as np": "np.", "import torch": "torch."}.items() if use in made]
        return "\n".join([*modules, made, "batch = collator(samples)"])

    def __str__(self) -> str:
        lines = [f"{self.property}: {PROPERTIES[self.property]}", f"  but {self.sentence}"]
        return "\n".join([*lines, *([textwrap.indent(self.code, "    ")] if self.samples is not None else [])])


@dataclass(frozen=True, eq=False)
class Report:
    """What a check has found.

    Attributes:
        contract: The name of the contract.
        broken: What the collator does not do as it should, each with its smallest batch.
        advice: What it could do better.
        passed: The names of the properties that hold, as far as was tried.
        skipped: Those that were not tried, and why.

    Example:
        >>> from dpo_collate.testing import check_collator
        >>> from dpo_collate.trainers.torchtune import padded_collate_dpo
        >>> report = check_collator(padded_collate_dpo, "torchtune", properties=["ids", "shapes"], max_examples=10)
        >>> print(report)
        torchtune: 2 properties hold
    """

    contract: str
    broken: tuple[Broken, ...]
    advice: tuple[Broken, ...]
    passed: tuple[str, ...]
    skipped: tuple[tuple[str, str], ...]

    @property
    def ok(self) -> bool:
        """Whether nothing is broken."""
        return not self.broken

    def raise_for_broken(self) -> None:
        """Raises an AssertionError that has the whole report, if something is broken."""
        if self.broken:
            raise AssertionError(str(self))

    def __str__(self) -> str:
        head = [f"{_count(len(self.passed), 'hold')}"]
        if self.broken:
            head.insert(0, f"{_count(len(self.broken), 'broken')}")
        blocks = [f"{self.contract}: {', '.join(head)}"]
        blocks += [f"broken: {each}" for each in self.broken]
        blocks += [f"advice: {each}" for each in self.advice]
        for reason in dict.fromkeys(why for _, why in self.skipped):
            names = [name for name, why in self.skipped if why == reason]
            blocks.append(textwrap.fill(f"skipped: {', '.join(names)}: {reason}", 120, subsequent_indent="  "))
        return "\n\n".join(blocks) if len(blocks) > 1 else blocks[0]


def _count(number: int, verb: str) -> str:
    if verb == "hold":
        return f"{number} {'property holds' if number == 1 else 'properties hold'}"
    return f"{number} {'property is' if number == 1 else 'properties are'} {verb}"


def ordered(found: Sequence[Broken]) -> list[Broken]:
    """In the order of ``PROPERTIES``."""
    names = [*PROPERTIES]
    return sorted(found, key=lambda each: names.index(each.property))
