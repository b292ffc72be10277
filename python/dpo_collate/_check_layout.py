"""What a layout says about one row: the tables that rows are looked at by, and the keys of ids, sides and labels."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from . import _convert
from ._core import Collator, RowCheck
from ._token_rows import segment_keys, shows_ids
from ._wildcards import named_keys
from .image_tokens import PROMPT, has_ids
from .layout import Column, Length, Matrix

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .collator import PreferenceCollator
    from .layout import Extra, Layout, Media

_MASKS = ("completion_mask", "loss_mask")
"""Columns of these names say what is scored, whatever they are padded with."""

OWN = frozenset(("empty_completion", "all_ignored", "equal_sides", "vocabulary"))
"""What is found by looking at ids and labels alone, and no batch is refused for."""

_NO_TOKENS = Matrix((("\0",),), (Column("\0"),), tokens="\0{}", optional=True)
"""A matrix that no sample has: a layout without token rows."""


@dataclass(frozen=True)
class Form:
    """What the rows of one layout are looked at by."""

    collator: PreferenceCollator
    table: Layout
    vocab_size: int | None

    @cached_property
    def whole(self) -> RowCheck:
        """Of everything but media."""
        made = {medium.name for medium in self.table.media if not medium.name.startswith(self.table.reserved)}
        ignored = (*self.table.ignored, *self.media_keys, *made)
        extra: Extra = "error" if self.table.extra == "error" else "drop"
        table = replace(self._bare(), scalars=self.table.scalars, extra=extra, ignored=ignored)
        return self._check(replace(table, matrices=self.table.matrices, reserved=self.table.reserved), own=True)

    @cached_property
    def own(self) -> RowCheck:
        """Of ids and labels, whatever else there is: for a sample that cannot be taken as a whole."""
        ids, _ = _ids_and_sides(self.table)
        keys = dict.fromkeys((*ids, *(key for keys, _, _ in self._scored() for key in keys)))
        matrices = (Matrix(((key,),), (Column(f"\0{at}"),), tokens="{}", optional=True) for at, key in enumerate(keys))
        return self._check(self._bare(matrices=tuple(matrices) or (_NO_TOKENS,)), own=True)

    @cached_property
    def parts(self) -> list[RowCheck]:
        """Of each number, and of each column of each matrix, row and segment: each finds a fault of its own."""
        tables: dict[Layout, None] = {}
        for scalar in self.table.scalars:
            if scalar.dtype is not None:
                tables[self._bare(scalars=(scalar,))] = None
                for key in scalar.keys:
                    tables[self._bare(scalars=(replace(scalar, keys=(key,)),))] = None
        for matrix in self.table.matrices:
            for part in _parts(matrix):
                tables[self._bare(matrices=(part,))] = None
        return [self._check(table) for table in tables]

    @cached_property
    def images(self) -> Collator:
        """Of token ids, which are counted, and media: what makes a batch of images of one row."""
        return self._core(self.images_table)

    @cached_property
    def images_table(self) -> Layout:
        """The table of that."""
        matrices = [matrix for matrix in self.table.matrices if has_ids(matrix)]
        named = (replace(matrix, columns=(Column(f"\0{at}"),)) for at, matrix in enumerate(matrices))
        return self._bare(matrices=tuple(named) or (_NO_TOKENS,), media=self.media)

    @cached_property
    def images_alone(self) -> list[tuple[Media, Collator]]:
        """Of one medium each."""
        return [(medium, self._core(self._bare(media=(_alone(medium),)))) for medium in self.media]

    @cached_property
    def media(self) -> tuple[Media, ...]:
        """The media, of which a row need not have any."""
        return tuple(replace(medium, optional=True, blank=None) for medium in self.table.media)

    @cached_property
    def media_keys(self) -> tuple[str, ...]:
        """Their keys."""
        return tuple(dict.fromkeys(key for medium in self.table.media for key in medium.keys))

    def _bare(self, **parts: Any) -> Layout:
        """The layout with nothing but these parts; all that the whole knows is ignored."""
        options = {"matrices": (_NO_TOKENS,), "media": (), "scalars": (), **parts}
        return replace(
            self.table,
            **options,
            constants=(),
            returns=None,
            extra="drop",
            reserved=(),
            ignored=tuple(sorted(named_keys(self.table))),
        )

    def _core(self, table: Layout) -> Collator:
        return Collator(
            table,
            pad_token_id=self.collator.pad_token_id,
            label_pad_token_id=self.collator.label_pad_token_id,
            row=_convert.unbatched_row if table.unbatch else _convert.row,
            number=_convert.number,
            wrap=None,
            max_batch_bytes=self.collator.max_batch_bytes,
            memory="heap",
            counted=sorted({tokens.id for tokens in self.collator.counted_tokens()}),
        )

    def _check(self, table: Layout, *, own: bool = False) -> RowCheck:
        core = self._core(table)
        if not own:
            return RowCheck(core, ids=[], sides=[], may_be_equal=True, scored=[], vocab_size=None, image_tokens=[])
        ids, sides = _ids_and_sides(self.table)
        return RowCheck(
            core,
            ids=ids,
            sides=sides,
            may_be_equal=_has_images_of_sides(self.table, sides),
            scored=[*self._scored()],
            vocab_size=self.vocab_size,
            image_tokens=[tokens.id for tokens in self.collator.counted_tokens()],
        )

    def _scored(self) -> Iterator[tuple[list[str], float, bool]]:
        """For each row that says what is scored: its keys, what is not scored, and whether the rest are token ids."""
        known = set()
        for matrix in self.table.matrices:
            for column in matrix.columns:
                labels = "label_pad_token_id" in {column.pad, column.differs_from}
                says = labels or column.on is not None or column.nonempty or column.name.endswith(_MASKS)
                if "{}" not in column.of or not says:
                    continue
                nothing = self._number(column.pad if column.differs_from is None else column.differs_from)
                for row in matrix.rows:
                    on = range(len(row)) if column.on is None else column.on
                    keys = tuple(column.of.replace("{}", row[segment]) for segment in on)
                    if keys and keys not in known:
                        known.add(keys)
                        yield list(keys), nothing, labels

    def _number(self, fill: float | str | None) -> float:
        words = {"pad_token_id": self.collator.pad_token_id, "label_pad_token_id": self.collator.label_pad_token_id}
        return words[fill] if isinstance(fill, str) else fill or 0


def _alone(medium: Media) -> Media:
    return replace(medium, flags_of=None, describes=None)


def _ids_and_sides(table: Layout) -> tuple[list[str], list[list[str]]]:
    """The keys of token ids; and of rows that end in a completion the keys of their segments."""
    ids: dict[str, None] = {}
    sides: dict[tuple[str, ...], None] = {}
    for matrix in table.matrices:
        if not (has_ids(matrix) and shows_ids(matrix)):
            continue
        for row in matrix.rows:
            keys = segment_keys(matrix, row)
            ids.update(dict.fromkeys(keys))
            if row[-1] != PROMPT:
                sides[keys] = None
    return list(ids), [list(side) for side in sides]


def _has_images_of_sides(table: Layout, sides: list[list[str]]) -> bool:
    """Whether each side may have images of its own."""
    stems = {side[-1].partition("_")[0] for side in sides}
    return any(len(set(medium.keys)) > 1 or medium.keys[0].partition("_")[0] in stems for medium in table.media)


def _parts(matrix: Matrix) -> Iterator[Matrix]:
    """The matrix, cut into what can be wrong by itself."""
    length = matrix.length
    unlimited = replace(length, buckets=(), max_length=None if length.truncation_mode == "error" else length.max_length)
    for number, column in enumerate(matrix.columns):
        # That a row is too long is said by one of its columns; others may say more.
        for limit in (length, unlimited) if number == 0 else (unlimited,):
            alone = replace(matrix, columns=(column,), length=limit)
            yield alone
            for row in matrix.rows:
                yield replace(alone, rows=(row,))
        if len(matrix.rows[0]) > 1 and (column.of == "tokens" or "{}" in column.of):
            free = replace(column, on=None, nonempty=False)
            for stem in (stem for row in matrix.rows for stem in row):
                yield replace(matrix, rows=((stem,),), columns=(free,), length=Length())
    yield from _keys_alone(matrix)


def _keys_alone(matrix: Matrix) -> Iterator[Matrix]:
    """A matrix for each of its keys: a value that cannot be taken must not hide those beside it."""
    columns = [column for column in matrix.columns if column.of == "tokens" or "{}" in column.of]
    if all(column.of != "tokens" for column in columns):
        columns.append(Column("\0"))  # tokens that give a row its length, and no more
    for column in columns:
        parallel = column.of != "tokens"
        # Floats may be compared with what they differ from, unless they are tokens.
        dtype = "float64" if parallel and column.differs_from is not None else column.dtype
        optional = matrix.optional or column.optional or column.default is not None
        alone = Column("\0", pad=0, dtype=dtype)
        for stem in dict.fromkeys(stem for row in matrix.rows for stem in row):
            key = (column.of if parallel else matrix.tokens).replace("{}", stem)
            yield Matrix(((key,),), (alone,), tokens="{}", optional=optional)
