"""Looks at a data set before it is trained on: ``dpo_collate.check`` finds every bad row, and says why it is bad.

Each row goes through the checks of the collator, alone, and through some more: a row that a collator takes may still be
worth nothing. All problems are collected, none is raised.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import islice, starmap
from typing import TYPE_CHECKING, Any

import numpy as np

from ._behind import behind
from ._check_layout import OWN, Form
from ._check_media import Images, fault
from ._check_pieces import pieces
from ._checks import check_count
from ._core import ArrowTable, Seen
from ._samples import has, mappings
from ._wildcards import expanded, has_wildcards

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy.typing as npt

    from ._check_media import Fault
    from .collator import PreferenceCollator

__all__ = ["Checker", "Problem", "Report", "check"]

_SHOWN = 3
"""So many problems of a kind a report shows."""


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong with one row.

    Attributes:
        row: Its number, from 0.
        key: The key (the column) that it is about, if it is about one.
        kind: One of the short names that :func:`check` lists.
        message: One sentence that names row and key.
    """

    row: int
    key: str | None
    kind: str
    message: str

    def __str__(self) -> str:
        return self.message


@dataclass(frozen=True)
class Report:
    """What was found in a data set.

    Attributes:
        rows: How many rows were looked at.
        problems: What is wrong, in the order of the rows.

    Example:
        >>> from dpo_collate.checking import Problem, Report
        >>> report = Report(2, (Problem(1, "chosen_ids", "empty_completion", "row 1: 'chosen_ids' has no tokens"),))
        >>> report.ok, report.bad_rows, report.counts()
        (False, array([1]), {'empty_completion': 1})
        >>> print(report)
        2 rows, of which 1 has problems
          empty_completion: 1
            row 1: 'chosen_ids' has no tokens
    """

    rows: int
    problems: tuple[Problem, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems

    @cached_property
    def bad_rows(self) -> npt.NDArray[np.int64]:
        """The numbers of the rows that have problems: int64, ascending, each once."""
        return np.unique(np.array([problem.row for problem in self.problems], np.int64))

    def counts(self) -> dict[str, int]:
        """How many problems there are of each kind, the most frequent first."""
        return dict(Counter(problem.kind for problem in self.problems).most_common())

    def __str__(self) -> str:
        """How many problems there are, and the first ones of each kind."""
        if self.ok:
            return f"{self.rows:,} rows, no problems"
        bad = len(self.bad_rows)
        lines = [f"{self.rows:,} rows, of which {bad:,} {'has' if bad == 1 else 'have'} problems"]
        for kind, count in self.counts().items():
            lines.append(f"  {kind}: {count:,}")
            shown = islice((problem for problem in self.problems if problem.kind == kind), _SHOWN)
            lines += [f"    {problem}" for problem in shown]
            if count > _SHOWN:
                lines.append(f"    and {count - _SHOWN:,} more")
        return "\n".join(lines)


class Checker:
    """Looks at rows that come in pieces: what :func:`check` does, for those who read a data set themselves.

    Memory does not grow with the rows, but by their problems, and with ``duplicates`` by 30 to 60 bytes a row.

    Args:
        collator: As for :func:`check`.
        vocab_size: As for :func:`check`.
        duplicates: As for :func:`check`.

    Raises:
        TypeError: ``collator`` is none of ours, or ``vocab_size`` no integer.
        ValueError: ``vocab_size`` is less than 1.

    Example:
        >>> from dpo_collate import PreferenceCollator
        >>> from dpo_collate.checking import Checker
        >>> checker = Checker(PreferenceCollator("concatenated", inputs="split", pad_token_id=0))
        >>> checker.add([{"prompt_ids": [1, 2], "chosen_ids": [3], "rejected_ids": [4]}])
        []
        >>> for problem in checker.add([{"prompt_ids": [1, 2], "chosen_ids": [], "rejected_ids": None}]):
        ...     print(problem)
        row 1: 'rejected_ids' is None, expected a 1-D tensor, array or list of integers
        row 1: 'chosen_ids' has no tokens: expected a completion
        >>> checker.report().bad_rows
        array([1])
    """

    def __init__(
        self,
        collator: PreferenceCollator | Callable[..., Any],
        *,
        vocab_size: int | None = None,
        duplicates: bool = True,
    ) -> None:
        collator = behind(collator).collator
        self._collator = collator
        self._vocab_size = None if vocab_size is None else check_count("vocab_size", vocab_size, 1)
        self._seen = Seen() if duplicates else None
        self._images = Images()
        table = collator._table  # noqa: SLF001 - of this package
        self._form = None if has_wildcards(table) else Form(collator, table, self._vocab_size)
        self._forms: dict[tuple[Any, ...], Form] = {}
        self._rows = 0
        self._problems: list[Problem] = []

    def add(self, rows: Any) -> list[Problem]:
        """Looks at some more rows, which are numbered on from those before.

        If it raises, none of them counts: they may be added once more, in another form.

        Args:
            rows: A table (whatever has the Arrow PyCapsule protocol), or a list of samples, as collators take them.

        Returns:
            What is wrong with them.

        Raises:
            KeyError: A table has no column at all that every row must have, or one that is misspelt.
            TypeError: A column is of a type that cannot be what it is wanted for; these are no rows.
            ValueError, MemoryError, OSError: A table cannot be read.
        """
        before, known = self._rows, len(self._problems)
        try:
            for piece in pieces(rows):
                self._add(piece)
        except BaseException:
            self._rows = before
            del self._problems[known:]
            raise
        return self._problems[known:]

    def report(self) -> Report:
        """What was found so far."""
        return Report(self._rows, tuple(self._problems))

    def _add(self, samples: Any) -> None:
        """Looks at a table or a list of few rows."""
        begin = self._rows
        if isinstance(samples, ArrowTable):
            for form, part, at in self._parts(samples, begin):
                self._problems += starmap(Problem, self._look(form, part, at))
        else:
            for row, sample in enumerate(samples, begin):
                self._problems += starmap(Problem, self._look_at(sample, row))
        self._rows = begin + len(samples)

    def _parts(self, table: ArrowTable, begin: int) -> Iterator[tuple[Form, ArrowTable, int]]:
        """The rows that have the same columns, where the layout depends on these; and the number of the first."""
        if self._form is not None:
            yield self._form, table, begin
            return
        parts = table.parts()
        ends = [*(at for at, _ in parts[1:]), len(table)]
        for (at, names), end in zip(parts, ends, strict=True):
            try:
                form = self._form_of(names)
            except KeyError as error:
                raise KeyError(fault(begin + at, "missing", error.args[0])[3]) from None
            yield form, table.slice(at, end - at), begin + at

    def _form_of(self, keys: tuple[Any, ...]) -> Form:
        form = self._forms.get(keys)
        if form is None:
            table = expanded(self._collator._table, keys)  # noqa: SLF001 - of this package
            form = self._forms[keys] = Form(self._collator, table, self._vocab_size)
        return form

    def _look_at(self, sample: Any, row: int) -> list[Fault]:
        """The faults of one sample."""
        names = self._collator._table.sample  # noqa: SLF001 - of this package
        try:
            samples = [sample] if names is None else mappings([sample], names)
        except ValueError as error:
            return [fault(row, "shape", str(error))]
        form = self._form
        if form is None:
            try:
                form = self._form_of(tuple(samples[0]) if isinstance(samples[0], Mapping) else ())
            except KeyError as error:
                return [fault(row, "missing", error.args[0])]
        return self._look(form, samples, row)

    def _look(self, form: Form, samples: Any, begin: int) -> list[Fault]:
        """The faults of rows of one form, in the order of the rows; of each row each kind and key once."""
        pictured = [begin + index for index in _with_media(samples, form.media_keys)]
        looked = form.whole.look(samples, begin, pictured, self._seen)
        faults = [(row, key, kind, message) for row, kind, key, message in looked.problems]
        digests = dict(looked.apart)
        if looked.refused:
            faults += _more(form, samples, begin, looked.refused)
        if looked.not_taken:  # a list of one
            own = form.own.look(samples, begin, pictured, None)
            faults += [(row, key, kind, message) for row, kind, key, message in own.problems if kind in OWN]
        faults = _once(faults) + [_duplicate(row, first) for row, first in looked.duplicates]
        counted = looked.refused if form.collator.counted_tokens() else ()
        for row in sorted({*pictured, *looked.counted, *counted}):
            found, digest = self._images.look(form, _rows(samples, [row - begin]), row)
            faults += found
            if row in digests and digest is not None and self._seen is not None:
                good = all(known[0] != row for known in faults)
                first = self._seen.first(_combined(digests[row], digest), row, good)
                faults += [] if first is None else [_duplicate(row, first)]
        return sorted(faults, key=lambda found: found[0])


def _once(faults: list[Fault]) -> list[Fault]:
    """Of each row, key and kind the first one: the whole row says it as well as its parts."""
    once: dict[tuple[int, str | None, str], Fault] = {}
    for found in faults:
        once.setdefault(found[:3], found)
    return list(once.values())


def _more(form: Form, samples: Any, begin: int, refused: list[int]) -> list[Fault]:
    """What else is wrong with rows that a batch is refused for: the collator says but the first."""
    some = _rows(samples, [row - begin for row in refused])
    faults: list[Fault] = []
    for part in form.parts:
        for index, kind, key, message in part.look(some, 0, [], None).problems:
            if kind != "not_in_all":  # some of the rows are not all of them
                faults.append((refused[index], key, kind, f"row {refused[index]}: {message.partition(': ')[2]}"))
    if isinstance(some, list) and isinstance(some[0], Mapping):
        for unknown in some[0]:
            alone = form.whole.look([{unknown: some[0][unknown]}], refused[0], [], None).problems
            faults += [(row, key, kind, message) for row, kind, key, message in alone if kind == "unknown_key"]
    return faults


def _rows(samples: Any, indices: list[int]) -> Any:
    return samples.take(indices) if isinstance(samples, ArrowTable) else [samples[index] for index in indices]


def _with_media(samples: Any, keys: tuple[str, ...]) -> list[int]:
    """The indices of the samples that have any of these."""
    if isinstance(samples, ArrowTable):
        there = {name for _, names in samples.parts() for name in names}
        keys = tuple(key for key in keys if key in there)
    elif not isinstance(samples[0], Mapping):
        return []
    return [index for index in range(len(samples)) if any(has(samples, index, key) for key in keys)] if keys else []


def _duplicate(row: int, first: int) -> Fault:
    return row, None, "duplicate", f"row {row}: the same pair as row {first}"


def _combined(tokens: tuple[int, int], images: bytes) -> tuple[int, int]:
    """The digest of tokens and images."""
    one, other = struct.unpack("<QQ", images)
    return tokens[0] ^ one, tokens[1] ^ other


def check(
    data: Any,
    collator: PreferenceCollator | Callable[..., Any],
    *,
    vocab_size: int | None = None,
    duplicates: bool = True,
    progress: Callable[[int], object] | None = None,
) -> Report:
    """Looks at every row of a data set, and collects what is wrong with it.

    What the collator refuses, it refuses here, with the same sentence, which says ``row`` in place of ``sample``. Of
    tables tokens are read where they are, some hundred thousand rows a second; lists of samples take longer.

    ====================  ==========================================================================================
    kind                  what is wrong with the row
    ====================  ==========================================================================================
    ``missing``           there is no such key, or its value is None where numbers must be
    ``null``              a list of tokens is null (None), or one of its values is
    ``type``              a value is of the wrong kind: floats where ids must be, text, no mapping
    ``shape``             a row of tokens has several dimensions, or lists of unequal lengths
    ``length_mismatch``   values that are parallel to tokens (labels, masks) are not as many
    ``overflow``          a number does not fit its array
    ``unknown_key``       a key begins like one that matters, and is most likely misspelt; ``extra_keys="error"``
    ``too_long``          the row is longer than ``max_length`` with ``truncation_mode="error"``; it fits no bucket
    ``too_large``         alone it takes more than ``max_batch_bytes``
    ``nothing_scored``    truncation leaves nothing to score
    ``images``            images are no array, or their tiles are not alike
    ``image_flags``       there are not as many flags as tiles
    ``image_tokens``      a row has not as many image tokens as its images ask for, or truncation cuts some
    ``truncated_images``  the row has images and is truncated, and there are no ``image_tokens`` to count
    ====================  ==========================================================================================

    These a collator would take, or takes as long as they do not meet in one batch:

    ====================  ==========================================================================================
    kind                  what is wrong with the row
    ====================  ==========================================================================================
    ``empty_completion``  a completion has no tokens (or the whole row, where prompts are in it)
    ``all_ignored``       labels are all ``label_pad_token_id``, or a mask of what is scored is all 0
    ``equal_sides``       chosen and rejected are equal, token for token, and so are their images
    ``duplicate``         the same tokens, and the same images, were in a good row before
    ``vocabulary``        an id, or a label, is less than 0 or not less than ``vocab_size``
    ``not_in_all``        masks, numbers or other values that all samples or none must have are there and were not in
                          the first good row, or the other way round
    ``images_differ``     tiles have another shape or dtype than those of the first row that has any
    ====================  ==========================================================================================

    All problems of a row are found; of one kind and key the first one. Of a value that cannot be read no more is said;
    and rows of more than 2**24 tokens go through the collator's own checks alone, as do images of which there is no
    memory for a copy.

    Args:
        data: A Hugging Face ``Dataset`` or an :class:`dpo_collate.datasets.ArrowRows`; a table (whatever has the Arrow
            PyCapsule protocol) or several; samples, as a list, a torch ``Dataset`` or anything that can be iterated.
        collator: Its layout and its options say what is looked at. A drop-in, or a function that calls a collator, is
            as good as that.
        vocab_size: How many ids the model knows (``model.config.vocab_size``, or ``len(tokenizer)``). None: ids are not
            looked at. The ids of the collator's ``image_tokens`` may be any.
        duplicates: Whether to look for pairs that are there twice: it takes 30 to 60 bytes of memory a row. Pairs are
            told apart by 128 bits made of their ids, lengths and images.
        progress: Called after each piece with the number of its rows, such as the ``update`` of a ``tqdm``.

    Returns:
        What was found: the number of rows, and the problems.

    Raises:
        KeyError: A table has no column at all that every row must have, or one that is misspelt: the layout or
            ``inputs`` is most likely not meant.
        TypeError: An argument is of the wrong kind; a column of a table is of a type that cannot be what it is for.
        ValueError: ``vocab_size`` is less than 1; a table cannot be read; a data set has a transform.
        MemoryError, OSError: A table cannot be read; there is no memory for duplicates.

    Example:
        >>> import pyarrow as pa
        >>> import dpo_collate
        >>> table = pa.table(
        ...     {
        ...         "prompt_ids": [[1, 2], [3], [1, 2], [5]],
        ...         "chosen_ids": [[6, 7], [8], [6, 7], [9]],
        ...         "rejected_ids": [[6], [8], [6], [90]],
        ...     }
        ... )
        >>> collator = dpo_collate.PreferenceCollator("concatenated", inputs="split", pad_token_id=0)
        >>> report = dpo_collate.check(table, collator, vocab_size=64)
        >>> report.bad_rows
        array([1, 2, 3])
        >>> for problem in report.problems:
        ...     print(problem)
        row 1: 'rejected_ids' makes the same row of 2 tokens as 'chosen_ids': there is nothing to prefer
        row 2: the same pair as row 0
        row 3: 'rejected_ids' holds 90 at position 0, which is not in the vocabulary of 64 ids
    """
    checker = Checker(collator, vocab_size=vocab_size, duplicates=duplicates)
    for piece in pieces(data):
        checker._add(piece)  # noqa: SLF001 - of this file
        if progress is not None:
            progress(len(piece))
    return checker.report()
