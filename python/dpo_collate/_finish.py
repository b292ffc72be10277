"""What the core leaves to do: media, lists, constants, keys that the layout does not name, the shape of the batch."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from . import _extras, _media, image_tokens
from ._budget import Budget
from ._samples import first_keys
from ._token_rows import token_rows

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from ._core import Rest
    from ._pools import Target
    from .image_tokens import ImageTokens
    from .layout import Layout, Scalar


@dataclass(frozen=True)
class Finish:
    """What is done to the batches of one layout."""

    table: Layout
    tokens: tuple[ImageTokens, ...]
    """What is known of its image tokens."""
    limit: int | None
    """Most bytes of a batch."""
    target: Target

    def has_more(self) -> bool:
        """Whether there is something to do for every batch, whatever its samples have."""
        table = self.table
        always = any(medium.blank is not None or not medium.optional for medium in table.media)
        lists = any(scalar.dtype is None for scalar in table.scalars)
        return always or lists or bool(table.constants) or table.returns is not None

    def __call__(self, batch: dict[str, Any], rest: Rest | None, samples: Any) -> Any:
        """The batch with all that its layout says.

        Args:
            batch: What the core has made.
            rest: What it has gathered for the others.
            samples: The samples: a list of mappings, or a table.

        Raises:
            KeyError, TypeError, ValueError, MemoryError: As ``PreferenceCollator`` says.
        """
        table = self.table
        budget = Budget(self.limit, 0 if rest is None else rest.nbytes)
        found = _media.entries({} if rest is None else rest.media, table.media, len(samples))
        if rest is not None:
            counted = image_tokens.check(rest.counts, self.tokens, table, found)
            _media.check_truncated(rest.truncated, table.media, found, counted)
        more = _media.join(found, table.media, budget, self.target)
        more |= _lists(rest, table, len(samples))
        more |= {name: copy.copy(value) for name, value in table.constants}
        batch |= more
        if table.returns is not None and table.returns != "sample":
            return _nest(table.returns, batch)
        if more:
            batch = {name: batch[name] for name in self.names if name in batch}
        if rest is not None and rest.extras:
            batch |= _extras.collect(rest.extras, table.extra, budget, self.target)
        if table.returns is None:
            return batch
        return {key: batch[key] for key in (*(key for key in first_keys(samples) if key in batch), *batch)}

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The keys that a batch can have, in order."""
        return self.table.names()

    @cached_property
    def token_rows(self) -> frozenset[tuple[int, int]]:
        """Matrix and part of the rows of token ids."""
        return frozenset((row.matrix, row.part) for row in token_rows(self.table, optional=True))

    @cached_property
    def image_names(self) -> tuple[str, ...]:
        """The media that are images, not what is said of them."""
        return tuple(medium.name for medium in self.table.media if "pixel_values" in medium.name)


def _lists(rest: Rest | None, table: Layout, samples: int) -> dict[str, list[Any]]:
    """The values of scalars that are lists."""
    found: dict[str, list[Any]] = {}
    for scalar in table.scalars:
        if scalar.dtype is None:
            given = () if rest is None else rest.media.get(scalar.name, ())
            if given or not scalar.optional:
                values = {(sample, key): value for sample, key, value in given}
                entries = _entries(scalar, table.order, samples)
                found[scalar.name] = [values.get(entry, scalar.default) for entry in entries]
    return found


def _entries(scalar: Scalar, order: str, samples: int) -> Iterable[tuple[int, str]]:
    """The sample and the key of each value, in the order of rows."""
    if order == "grouped":
        return ((sample, key) for key in scalar.keys for sample in range(samples))
    return ((sample, key) for sample in range(samples) for key in scalar.keys)


def _nest(names: Any, batch: Mapping[str, Any]) -> Any:
    """The same tuples and dicts, with each name replaced by what has it; what the batch lacks is left out of dicts.

    Raises:
        KeyError: A tuple names what the batch lacks.
    """
    if isinstance(names, str):
        if names not in batch:
            raise KeyError(
                f"the batch has no '{names}', as no sample has what it is made of: a tuple cannot leave it out"
            )
        return batch[names]
    if isinstance(names, dict):
        return {key: _nest(part, batch) for key, part in names.items() if not isinstance(part, str) or part in batch}
    return tuple(_nest(part, batch) for part in names)
