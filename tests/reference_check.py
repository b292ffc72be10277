"""What is wrong with rows of a data set, in plain Python: slow, and meant to be read.

:func:`reference_check` looks at lists of ints and None, of the named layouts in their two forms, without images.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from pairs import IGNORED, SIDES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

Row: TypeAlias = "Mapping[str, Any]"
Fault: TypeAlias = tuple[str | None, str]


@dataclass(frozen=True)
class Asked:
    """What the rows are looked at for."""

    inputs: str
    joined: bool
    """Both sides are in one matrix."""
    max_length: int | None
    keep: str
    vocab_size: int | None
    skip: int = 0
    """So many leading labels of a row are not scored."""

    def sides(self) -> list[tuple[str, ...]]:
        """The keys of each side's ids."""
        if self.inputs == "split":
            return [("prompt_ids", f"{side}_ids") for side in SIDES]
        return [(f"{side}_input_ids",) for side in SIDES]

    def groups(self) -> list[list[str]]:
        """The masks of each matrix, in order."""
        masks = [[_mask(key) for key in side] for side in self.sides()]
        return [[mask for side in masks for mask in side]] if self.joined else masks


def _mask(ids: str) -> str:
    return ids.removesuffix("_ids").removesuffix("_input") + "_attention_mask"


def reference_check(rows: Sequence[Row], asked: Asked) -> list[set[Fault]]:
    """The key and the kind of each fault of each row."""
    faults = [set(_faults(row, asked)) for row in rows]
    first_good: Row | None = None
    pairs: list[Any] = []
    for row, found in zip(rows, faults, strict=True):
        ids = [row.get(key) for side in asked.sides() for key in side]
        if all(_good(one) for one in ids):
            if ids in pairs:
                found.add((None, "duplicate"))
            elif not found:  # a good row is no duplicate of a bad one
                pairs.append(ids)
        if not any(kind in REFUSED for _, kind in found):
            first_good = row if first_good is None else first_good
            for keys in [*asked.groups(), ["margin"]]:
                if (row.get(keys[0]) is None) != (first_good.get(keys[0]) is None):
                    found.add((keys[0], "not_in_all"))
    return faults


REFUSED = {"missing", "null", "length_mismatch", "too_long", "nothing_scored"}


def _good(values: Any) -> bool:
    return values is not None and None not in values


def _faults(row: Row, asked: Asked) -> Iterator[Fault]:
    required = [key for side in asked.sides() for key in side]
    masks = {_mask(key): key for key in required}
    labels = {} if asked.inputs == "split" else {f"{side}_labels": f"{side}_input_ids" for side in SIDES}
    for key in dict.fromkeys((*required, *labels)):
        if not _good(row.get(key)):
            yield key, "null" if key in row else "missing"
    yield from _of_masks(row, masks, asked)
    yield from _lengths(row, labels | masks)
    for side, keys in zip(SIDES, asked.sides(), strict=True):
        yield from _of_side(row, side, keys, asked)
    yield from _equal(row, asked)
    for key in (*required, *labels):
        if asked.vocab_size is not None and _good(row.get(key)):
            ids = [one for one in row[key] if key not in labels or one != IGNORED]
            if any(not 0 <= one < asked.vocab_size for one in ids):
                yield key, "vocabulary"


def _of_masks(row: Row, masks: Mapping[str, str], asked: Asked) -> Iterator[Fault]:
    """All of a matrix or none; of a row as well, be it of a matrix that others of its masks are missing in."""
    null = {mask for mask in masks if row.get(mask) is not None and None in row[mask]}
    yield from ((mask, "null") for mask in null)
    for group in [*asked.groups(), *([_mask(key) for key in side] for side in asked.sides())]:
        lacking = [mask for mask in group if row.get(mask) is None]
        readable = all(_good(row.get(masks[mask])) and mask not in null for mask in group)
        parallel = {mask: masks[mask] for mask in group}
        if readable and not list(_lengths(row, parallel)) and lacking and len(lacking) < len(group):
            yield lacking[0], "missing"


def _lengths(row: Row, parallel: Mapping[str, str]) -> Iterator[Fault]:
    for key, tokens in parallel.items():
        if _good(row.get(tokens)) and _good(row.get(key)) and len(row[tokens]) != len(row[key]):
            yield key, "length_mismatch"


def _of_side(row: Row, side: str, keys: tuple[str, ...], asked: Asked) -> Iterator[Fault]:
    if _good(row.get(keys[-1])) and not row[keys[-1]]:
        yield keys[-1], "empty_completion"
    labels = row.get(f"{side}_labels") if asked.inputs == "full" else None
    ignored = _good(labels) and bool(labels) and all(label == IGNORED for label in labels or ())
    if ignored:
        yield f"{side}_labels", "all_ignored"
    if not all(_good(row.get(key)) for key in keys):
        return
    tokens = [token for key in keys for token in row[key]]
    if asked.max_length is None or len(tokens) <= asked.max_length:
        return
    if asked.keep == "error":
        yield keys[-1], "too_long"
        return
    if asked.inputs == "split":
        scored = [0] * len(row["prompt_ids"]) + [1] * len(row[keys[-1]])
        key = keys[-1]
    else:
        if not _good(labels) or labels is None or len(labels) != len(tokens):
            return
        scored = [int(label != IGNORED) for label in labels]
        key = f"{side}_labels"
    kept = scored[: asked.max_length] if asked.keep == "keep_start" else scored[-asked.max_length :]
    if any(scored) and not any(kept[asked.skip :]):
        yield key, "nothing_scored"


def _equal(row: Row, asked: Asked) -> Iterator[Fault]:
    chosen, rejected = asked.sides()
    if not all(_good(row.get(key)) for key in (*chosen, *rejected)) or not (row[chosen[-1]] or row[rejected[-1]]):
        return
    first, second = ([token for key in side for token in row[key]] for side in (chosen, rejected))
    if first == second:
        yield rejected[-1], "equal_sides"
