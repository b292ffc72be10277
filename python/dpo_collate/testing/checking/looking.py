"""What is wrong with a batch: facet by facet, so that one fault is one finding, and hides no other.

A batch whose rows are in another order differs from the right one everywhere. So the order (and the side of the
padding, and the width) is found out first, by the token ids; what else there is, is then compared as if it were right.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from dpo_collate.layout import Column
from dpo_collate.testing.comparing import difference, dtype_of, first_cell, is_array, numpy_of, unequal
from dpo_collate.testing.reference.collating import reference_collate

from .aligning import Alignment, ambiguous
from .samples import EXTRA

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy.typing as npt

    from dpo_collate.layout import Matrix

    from .contracts import Contract
    from .samples import Plain

    NDArray: TypeAlias = npt.NDArray[Any]

Findings: TypeAlias = dict[str, str]
"""By property, what is wrong."""

_REAL = "real cells of matrix {}"
_PER_ROW = ("length", "cu_seq_lens", "max_length")


def expected_of(contract: Contract, plain: Plain) -> dict[Any, Any] | None:
    """The right batch, as a flat dict, with a matrix of ones for the cells of each that are real; None: there is none.

    (Of a sample of which truncation leaves nothing, for example.)
    """
    layout = contract.layout
    matrices = tuple(
        replace(matrix, columns=(*matrix.columns, Column(_REAL.format(at), of="ones")))
        for at, matrix in enumerate(layout.matrices)
    )
    flat = replace(layout, matrices=matrices, returns="sample" if layout.returns == "sample" else None)
    try:
        batch: dict[Any, Any] = reference_collate(
            plain, flat, pad_token_id=contract.pad_token_id, label_pad_token_id=contract.label_pad_token_id
        )
    except (TypeError, ValueError, KeyError, OverflowError):
        return None
    return batch


def places(returns: Any) -> dict[str, tuple[Any, ...]]:
    """Where in a nest each name is."""
    if isinstance(returns, str):
        return {returns: ()}
    parts = returns.items() if isinstance(returns, dict) else enumerate(returns)
    return {name: (at, *path) for at, part in parts for name, path in places(part).items()}


def look(contract: Contract, plain: Plain, batch: Any, expected: dict[Any, Any] | None) -> Findings:
    """What is wrong with a collator's batch of these samples, which must be valid; `expected` is the right one."""
    if expected is None:
        return {}
    looking = _Looking(contract, plain, expected)
    looking.take(batch)
    if looking.found:
        if not looking.swapped():
            for at, matrix in enumerate(contract.layout.matrices):
                looking.matrix(at, matrix)
        looking.media()
        looking.numbers()
    return looking.findings


@dataclass
class _Looking:
    contract: Contract
    plain: Plain
    expected: dict[Any, Any]
    found: dict[Any, Any] = field(default_factory=dict)
    findings: Findings = field(default_factory=dict)
    moved: bool = False
    """Whether rows are in another order."""

    def say(self, about: str, sentence: str) -> None:
        self.findings.setdefault(about, sentence)

    # --- containers and keys ----------------------------------------------------------------------

    def take(self, batch: Any) -> None:
        """Takes a batch apart: what has which name."""
        returns = self.contract.layout.returns
        wanted = [key for key in self.expected if not str(key).startswith(_REAL[:-2])]
        if returns is None or returns == "sample":
            nest = {key: (key,) for key in wanted}
        else:
            nest = {name: path for name, path in places(returns).items() if name in wanted}
        if not self.container(batch, returns):
            return
        for name, path in nest.items():
            value, there = _at(batch, path)
            if there:
                self.found[name] = value
            else:
                self.say("keys", f"the batch lacks {name!r}")
        if isinstance(batch, Mapping):
            known = {path[0] for path in nest.values()}
            more = [key for key in batch if key not in known]
            samples = {key for sample in self.plain for key in sample} - {*self.contract.layout.names()}
            for key in more:
                about = "other keys" if key in samples else "keys"
                self.say(about, f"the batch has {key!r}, which {self.contract.name!r} does not have")
            order = [key for key in batch if key in known]
            wished = [*dict.fromkeys(path[0] for path in nest.values())]
            if self.contract.in_order and not more and len(order) == len(wished) and order != wished:
                self.say("key order", f"the batch has its keys in the order {order}, expected {wished}")

    def container(self, batch: Any, returns: Any) -> bool:
        """Whether the outermost container is right."""
        if isinstance(returns, tuple):
            right = isinstance(batch, tuple | list) and len(batch) == len(returns)
            wanted = f"a tuple of {len(returns)} parts"
        else:
            right, wanted = isinstance(batch, Mapping) or hasattr(batch, "items"), "a dict"
        if not right:
            parts = f" of {len(batch)} parts" if isinstance(batch, tuple | list) else ""
            self.say("containers", f"the batch is a {type(batch).__name__}{parts}, expected {wanted}")
        return right

    def array(self, name: Any) -> NDArray | None:
        """What the batch has of that name, if it is an array; its dtype is looked at."""
        if name not in self.found:
            return None
        value = self.found[name]
        if not is_array(value):
            self.say("containers", f"{name!r} is a {type(value).__name__}, expected a tensor")
            return None
        wanted = dtype_of(self.expected[name])
        if dtype_of(value) != wanted:
            self.say("dtypes", f"{name!r} is {dtype_of(value)}, expected {wanted}")
        return numpy_of(value)

    # --- matrices ---------------------------------------------------------------------------------

    def matrix(self, at: int, matrix: Matrix) -> None:
        """Looks at the columns of one matrix."""
        if _REAL.format(at) not in self.expected:
            return
        real = numpy_of(self.expected[_REAL.format(at)]).astype(bool)
        named = [(column.name.replace("{}", matrix.rows[0][-1]), column) for column in matrix.columns]
        named = [(name, column) for name, column in named if name in self.expected]
        grids: dict[str, NDArray] = {}
        for name, _ in ((name, column) for name, column in named if column.of not in _PER_ROW):
            array = self.array(name)
            if array is None:
                continue
            if array.ndim != 2 or len(array) != len(real):
                shape = f"{[*array.shape]}, expected {[*self.expected[name].shape]}"
                self.say("shapes", f"{name!r} has the shape {shape}")
                continue
            grids[name] = array
        tokens = [name for name, column in named if column.of == "tokens" and column.differs_from is None]
        there = [name for name in tokens if name in grids]
        if not there:
            return
        name = there[0]
        alignment = self.aligned(name, grids, real, left=matrix.side == "left", flat=matrix.flat)
        if alignment is None:
            return
        rows = self.ids(name, grids[name], alignment)
        for other, column in named:
            if other in grids and other != name:
                self.column(other, column, grids[other], alignment, rows, name)
            elif column.of in _PER_ROW and rows.all():
                self.per_row(other)

    def swapped(self) -> bool:
        """Whether two matrices of one row each have each other's."""
        names = [
            [column.name.replace("{}", matrix.rows[0][-1]) for column in matrix.columns]
            for matrix in self.contract.layout.matrices
        ]
        for one, other in combinations(names, 2):
            pairs = [*zip((*one, *other), (*other, *one), strict=False)]
            there = [(self.found.get(mine), self.expected.get(its), self.expected.get(mine)) for mine, its in pairs]
            there = [each for each in there if is_array(each[0]) and is_array(each[1]) and is_array(each[2])]
            alike = len(one) == len(other) and all(_same(found, its) for found, its, _ in there)
            if there and alike and not all(_same(found, own) for found, _, own in there):
                self.moved = True
                self.say("row order", f"{one[0]!r} has what belongs to {other[0]!r}, and the other way round")
                return True
        return False

    def aligned(
        self, name: str, grids: dict[str, NDArray], real: NDArray, *, left: bool, flat: bool
    ) -> Alignment | None:
        """How the batch's rows lie: where the right ones are best found in it."""
        wanted = {other: numpy_of(self.expected[other]) for other in grids}
        found, expected = grids[name], wanted[name]
        candidates = [Alignment(real, left=left)]
        if not flat:
            candidates += [Alignment(real, left=left, flipped=True)]
            moved = [each.reordered(found, expected) for each in candidates]
            candidates += [each for each in moved if each is not None]
        every = [each for each in candidates if all(each.equal(grids[key], wanted[key]) for key in grids)]
        by_ids = [each for each in candidates if each.content(found, expected).all()]
        best = (every or by_ids or candidates)[0]
        if not every and not flat and ambiguous(expected, real):
            # Which row is which cannot be told, so that what is said of them might not be true.
            return None
        if best.order is not None:
            self.moved = True
            self.say("row order", f"rows of {name!r} are in another order: {_rows(found)}, expected {_rows(expected)}")
        if best.flipped and not real.all():
            self.say("padding side", f"{name!r} is padded on the {'right' if left else 'left'}: {_rows(found)}")
        if found.shape[1] != expected.shape[1]:
            if not best.content(found, expected).any() or not best.surplus(found):
                cells = f"{_rows(found)}, expected {_rows(expected)}"
                self.say(facet(name), f"{name!r} has other tokens: {cells}")
                return None
            self.say("shapes", f"{name!r} has the shape {[*found.shape]}, expected {[*expected.shape]}")
        for other, grid in grids.items():
            if grid.shape != found.shape:
                self.say("shapes", f"{other!r} has the shape {[*grid.shape]}, but {name!r} {[*found.shape]}")
        return best

    def ids(self, name: str, found: NDArray, aligned: Alignment) -> NDArray:
        """Looks at ids; which rows have the right ones."""
        expected = numpy_of(self.expected[name])
        theirs, right, _ = aligned.common(found, expected)
        cell = first_cell(theirs, right)
        rows = aligned.content(found, expected)
        if cell is not None:
            self.say(facet(name), f"{name!r}{cell}")
        return rows

    def column(  # noqa: PLR0913, PLR0917 - all that is known of the column
        self, name: str, column: Column, found: NDArray, aligned: Alignment, rows: NDArray, ids: str
    ) -> None:
        """Looks at what is parallel to ids, in those rows that have the right ones."""
        theirs, right, real = aligned.common(found, numpy_of(self.expected[name]))
        differs = unequal(theirs, right) & rows[:, None]
        if not differs.any():
            return
        cell = first_cell(np.where(differs, theirs, right), right)
        about = facet(name, column.of)
        why = ""
        _, tokens, _ = aligned.common(found, numpy_of(self.expected[ids]))
        zero = differs & (theirs == 0) & (right != 0) & real
        if "mask" in name and zero.any() and (tokens[zero] == self.contract.pad_token_id).all():
            why = f": a real token that has the pad id ({self.contract.pad_token_id}) is masked"
        elif column.pad == "label_pad_token_id" and (differs & ~real).any() and not (differs & real).any():
            why = ", in the padding"
        self.say(about, f"{name!r}{cell}{why}")

    def per_row(self, name: str) -> None:
        """Looks at what says how long rows are."""
        if name not in self.found:
            return
        sentence = _one(self.found[name], self.expected[name], name)
        if sentence is not None:
            self.say(*sentence)

    # --- the rest ---------------------------------------------------------------------------------

    def media(self) -> None:
        """Looks at images and what accompanies them."""
        for medium in self.contract.layout.media:
            if medium.name not in self.expected:
                continue
            found = self.array(medium.name)
            if found is None:
                continue
            expected = numpy_of(self.expected[medium.name])
            about = "image flags" if medium.flags_of is not None else "images"
            if found.shape != expected.shape:
                self.say(about, f"{medium.name!r} has the shape {[*found.shape]}, expected {[*expected.shape]}")
            elif not (self.moved and _same_tiles(found, expected)):
                cell = first_cell(found, expected)
                if cell is not None:
                    self.say(about, f"{medium.name!r}{cell}")

    def numbers(self) -> None:
        """Looks at numbers, constants and other keys."""
        scalars = {scalar.name for scalar in self.contract.layout.scalars}
        others = {name for name, _ in self.contract.layout.constants}
        for name, value in self.expected.items():
            if name not in self.found or not (name in scalars or name in others or name == EXTRA):
                continue
            about = "numbers" if name in scalars else "other keys"
            if is_array(value):
                found = self.array(name)
                expected = numpy_of(value)
                if found is None:
                    continue
                if found.shape != expected.shape:
                    self.say(about, f"{name!r} has the shape {[*found.shape]}, expected {[*expected.shape]}")
                elif not (self.moved and sorted(found.tolist()) == sorted(expected.tolist())):
                    cell = first_cell(found, expected)
                    if cell is not None:
                        self.say(about, f"{name!r}{cell}")
                continue
            where = difference(self.found[name], value, repr(name))
            if where is not None:
                self.say(about, where.sentence)


def facets(contract: Contract, examples: Iterable[Plain]) -> set[str]:
    """The properties that batches of these samples can show."""
    found = {"collates", "containers", "keys", "dtypes", "shapes", "row order", "padding side", "other keys"}
    names = {name for plain in examples for name in expected_of(contract, plain) or ()}
    layout = contract.layout
    if all(matrix.flat for matrix in layout.matrices):
        found -= {"padding side", "row order"}
    for matrix in layout.matrices:
        for column in matrix.columns:
            name = column.name.replace("{}", matrix.rows[0][-1])
            if name in names:
                found.add(facet(name, column.of))
    media = {medium.name: "images" if medium.flags_of is None else "image flags" for medium in layout.media}
    numbers = dict.fromkeys((scalar.name for scalar in layout.scalars), "numbers")
    found |= {about for name, about in (media | numbers).items() if name in names}
    return found | ({"key order"} if contract.in_order else set())


def facet(name: str, of: str = "tokens") -> str:
    """The property that a column of that name is a part of."""
    if name.endswith(("labels", "completion_mask", "loss_mask", "loss_scale", "loss_weight")):
        return "labels"
    if name.endswith("mask"):
        return "masks"
    return "positions" if name.endswith("position_ids") or of in {*_PER_ROW, "position", "row", "segment"} else "ids"


def _at(batch: Any, path: tuple[Any, ...]) -> tuple[Any, bool]:
    """What is at a place of a nest, and whether there is such a place."""
    for part in path:
        try:
            batch = batch[part]
        except (KeyError, IndexError, TypeError):
            return None, False
    return batch, True


def _one(found: Any, expected: Any, name: str) -> tuple[str, str] | None:
    """What is wrong with what a row has one of, or a batch."""
    where = difference(found, expected, repr(name))
    if where is None:
        return None
    return {"container": "containers", "dtype": "dtypes"}.get(where.what, "positions"), where.sentence


def _rows(grid: NDArray) -> str:
    text = str(grid.tolist())
    return text if len(text) <= 100 else f"{text[:97]}..."


def _same(found: Any, expected: Any) -> bool:
    return tuple(found.shape) == tuple(expected.shape) and not unequal(numpy_of(found), numpy_of(expected)).any()


def _same_tiles(found: NDArray, expected: NDArray) -> bool:
    return sorted(map(bytes, found)) == sorted(map(bytes, expected))
