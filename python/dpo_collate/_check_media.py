"""The images of one row: by the collator's own code, each fault by itself."""

from __future__ import annotations

import re
from contextlib import contextmanager
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np

from . import _media, image_tokens
from ._budget import Budget, allocation
from ._convert import is_tensor
from ._pools import Target
from ._tiles import Entry, check_alike, entries_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ._check_layout import Form
    from ._core import Rest
    from .layout import Media

REFUSED = (KeyError, TypeError, ValueError, OverflowError, MemoryError)
"""What a collator raises."""

Fault: TypeAlias = tuple[int, str | None, str, str]
"""Row, key, kind and message."""


class _Like(NamedTuple):
    """What the first tiles of a medium are, in place of them."""

    shape: tuple[int, ...]
    dtype: Any
    ndim: int


class Images:
    """Looks at the images of rows, one after the other."""

    def __init__(self) -> None:
        self._first: dict[str, Entry] = {}
        self._flagged: dict[str, tuple[int, bool]] = {}
        """By the name of flags: the first good row that has tiles, and whether they have flags."""

    def look(self, form: Form, sample: Any, row: int) -> tuple[list[Fault], bytes | None]:
        """What is wrong with one row's images.

        Args:
            form: What rows are looked at by.
            sample: A list of one sample, or a table of one row.
            row: Its number.

        Returns:
            What was found, and a digest of the images; None if there is none, as they cannot be read.
        """
        noted = _Noted(row)
        gathered, rest = _gathered(form, sample, noted)
        found = _entries(form, gathered, noted)
        if not noted.faults and rest is not None:
            _check_tokens(form, rest, found, noted)
        if not noted.faults:
            with noted.noting("too_large"):
                budget = Budget(form.collator.max_batch_bytes, 0 if rest is None else rest.nbytes)
                _media.join(found, form.media, budget, Target(form.collator.return_tensors == "pt", "heap"))
        if not noted.faults:
            noted.faults += self._unlike_flags(form, found, row)
        for medium in form.media:
            for entry in found.get(medium.name, ()):
                with noted.noting("images_differ", own=row):
                    self._compare(medium, entry, row)
        return noted.faults, _digest(found) if len(found) == len(form.media) else None

    def _unlike_flags(self, form: Form, found: dict[str, list[Entry]], row: int) -> Iterator[Fault]:
        """In a batch the tiles of all rows have flags, or those of none."""
        for flags in form.media:
            if flags.flags_of is None or not found[flags.flags_of]:
                continue
            flagged = bool(found[flags.name])
            first, expected = self._flagged.setdefault(flags.name, (row, flagged))
            if flagged != expected:
                key = flags.keys[0]
                what = (
                    f"'{key}' is there, but row {first} has tiles and none"
                    if flagged
                    else f"no '{key}', but row {first} has it"
                )
                sentence = f"row {row}: {what}: expected flags of the tiles of all rows, or of none"
                yield row, key, "not_in_all", sentence

    def _compare(self, medium: Media, entry: Entry, row: int) -> None:
        """Tiles are like those of the first row that has any, or no batch can have both."""
        tiles = entry.tiles
        first = self._first.get(medium.name)
        if first is None:
            like = _Like(tuple(tiles.shape), tiles.dtype, tiles.ndim)
            self._first[medium.name] = entry._replace(sample=row, tiles=like)
            return
        check_alike(medium, tiles, f"sample {row}: '{entry.key}'", first)


class _Noted:
    """The faults of one row."""

    def __init__(self, row: int) -> None:
        self._row = row
        self.faults: list[Fault] = []

    @contextmanager
    def noting(self, kind: str, *, own: int = 0, key: str | None = None) -> Iterator[None]:
        """Keeps what is raised of sample ``own``, which is the row; about ``key`` where the sentence names none."""
        try:
            yield
        except REFUSED as error:
            if not error.args:  # there is no memory
                raise
            row, named, kind, message = fault(self._row, kind, str(error.args[0]), own)
            self.faults.append((row, named or key, kind, message))


_Gathered: TypeAlias = dict[str, list[tuple[int, str, Any]]]
"""By the name of each medium what there is of it: sample, key, value."""


def _gathered(form: Form, sample: Any, noted: _Noted) -> tuple[_Gathered, Rest | None]:
    """What there is of each medium that can be read; and what the core has counted, if the token rows are good."""
    try:
        rest = form.images.collate(sample, 0, None)[1]
    except REFUSED:
        rest = None
    else:
        media = {} if rest is None else rest.media
        return {medium.name: media.get(medium.name, []) for medium in form.media}, rest
    gathered: _Gathered = {}
    for medium, core in form.images_alone:
        with noted.noting("images"):
            alone = core.collate(sample, 0, None)[1]
            gathered[medium.name] = [] if alone is None else alone.media.get(medium.name, [])
    return gathered, None


def _entries(form: Form, gathered: _Gathered, noted: _Noted) -> dict[str, list[Entry]]:
    """What there is of each medium that can be read, looked at."""
    found: dict[str, list[Entry]] = {}
    for medium in form.media:
        if medium.name not in gathered:
            continue
        with noted.noting("images"):
            found[medium.name] = entries_of(medium, gathered[medium.name])
    for medium in form.media:
        tiles = next((other for other in form.media if other.name == medium.flags_of), None)
        if tiles is not None and medium.name in found and tiles.name in found:
            given = {(at, key) for at, key, _ in gathered[medium.name]}
            with noted.noting("image_flags"):
                _media.check_flags(medium, tiles, found, given)
    return found


def _check_tokens(form: Form, rest: Rest, found: dict[str, list[Entry]], noted: _Noted) -> None:
    """Every row has as many image tokens as its images ask for; truncation cuts none."""
    table = form.images_table
    counted = set()
    for tokens in form.collator.counted_tokens():
        for side in image_tokens.sides_of(table):
            ends = (side, image_tokens.PROMPT)
            counts = [count for count in rest.counts if table.matrices[count[0]].rows[count[1]][-1] in ends]
            keys = (
                matrix.tokens.replace("{}", side) for matrix in table.matrices for row in matrix.rows if side in row
            )
            with noted.noting("image_tokens", key=next(keys)):
                counted |= image_tokens.check(counts, (tokens,), table, found)
    if not noted.faults:
        with noted.noting("truncated_images"):
            _media.check_truncated(rest.truncated, table.media, found, counted)


def _digest(found: dict[str, list[Entry]]) -> bytes | None:
    """Of all that the images of a row are; None where there is no memory for a copy: an array may repeat one value."""
    try:
        with allocation("an image"):
            return _digest_of(found)
    except MemoryError:
        return None


def _digest_of(found: dict[str, list[Entry]]) -> bytes:
    digest = blake2b(digest_size=16)
    for name, entries in found.items():
        for entry in entries:
            tiles = entry.tiles
            digest.update(repr((name, entry.key, tuple(tiles.shape), str(tiles.dtype))).encode())
            if is_tensor(tiles):
                import torch  # noqa: PLC0415 - there are tensors, so it is there

                # (What a tensor says may be the negative, or the conjugate, of what lies there.)
                tiles = tiles.resolve_conj().resolve_neg().contiguous()
                # (Of one value any stride is contiguous, but then it cannot be viewed as bytes.)
                tiles = tiles.as_strided((tiles.numel(),), (1,)).view(torch.uint8).numpy()
            digest.update(np.ascontiguousarray(tiles).view(np.uint8).data)
    return digest.digest()


def fault(row: int, kind: str, sentence: str, own: int = 0) -> Fault:
    """A fault of a row, from the sentence that says it of samples, of which this row is sample ``own``."""

    def renamed(found: re.Match[str]) -> str:
        sample = int(found[1])
        return f"row {row if sample == own else sample}"

    message = re.sub(r"\bsample (\d+)\b", renamed, sentence)
    key = re.match(r"row \d+: (?:no )?'([^']*)'", message)
    return row, None if key is None else key[1], kind, message
