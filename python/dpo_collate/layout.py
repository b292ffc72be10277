"""The layout language: what a batch looks like, said by a table.

A layout is data. A :class:`Layout` has matrices (token rows, padded to one width), media (images,
concatenated) and scalars (numbers, stacked). A collator holds no padding code of its own: whatever
a trainer wants is a table of these dataclasses, which the Rust core resolves once.

Two words in a table stand for ids that only the collator knows: ``"pad_token_id"`` and
``"label_pad_token_id"``. ``"{}"`` in a name stands for a stem, such as ``chosen``.

Example:
    Both sides of a pair in one matrix ``[2B, L]``, all chosen rows first, from samples whose prompt
    is a row of its own (what ``trl.DPOTrainer`` takes):

    >>> from dpo_collate import PreferenceCollator
    >>> from dpo_collate.layout import Column, Layout, Matrix
    >>> stacked = Layout(
    ...     "stacked",
    ...     matrices=(
    ...         Matrix(
    ...             rows=(("prompt", "chosen"), ("prompt", "rejected")),
    ...             tokens="{}_ids",
    ...             columns=(
    ...                 Column("input_ids", pad="pad_token_id"),
    ...                 Column("attention_mask", of="ones"),
    ...                 Column("completion_mask", of="ones", on=(1,)),
    ...             ),
    ...         ),
    ...     ),
    ... )
    >>> collator = PreferenceCollator(stacked, pad_token_id=0, return_tensors="np")
    >>> batch = collator([{"prompt_ids": [1, 2], "chosen_ids": [3], "rejected_ids": [4, 5]}])
    >>> batch["input_ids"]
    array([[1, 2, 3, 0],
           [1, 2, 4, 5]])
    >>> batch["completion_mask"]
    array([[0, 0, 1, 0],
           [0, 0, 1, 1]])
"""

from __future__ import annotations

from collections import Counter
from dataclasses import KW_ONLY, dataclass, field
from typing import Any, Literal, TypeAlias, get_args

from ._checks import check_choice, check_count, check_number, check_tuple, check_type

__all__ = ["IMAGES", "NAMED", "PAIR", "SEPARATE", "Column", "Layout", "Length", "Matrix", "Media", "Scalar"]

Fill: TypeAlias = int | float | Literal["pad_token_id", "label_pad_token_id"]
"""What a cell of padding holds."""

TruncationMode: TypeAlias = Literal["keep_start", "keep_end", "error"]
PaddingSide: TypeAlias = Literal["left", "right"]
Extra: TypeAlias = Literal["drop", "list", "stack", "error"]
DType: TypeAlias = Literal["int64", "int32", "bool", "float32", "float64"]

_SYMBOLS = ("pad_token_id", "label_pad_token_id")


def _check_fill(name: str, value: object) -> None:
    if isinstance(value, str):
        check_choice(name, value, _SYMBOLS)
    else:
        check_number(name, value)


@dataclass(frozen=True)
class Length:
    """How long the rows of a matrix are.

    The width of a matrix is the length of its longest row after truncation, at least
    ``min_length``, rounded up; a width that fits already stays as it is.

    Attributes:
        max_length: Most tokens of a row, its segments joined; None: any number.
        truncation_mode: Of a longer row ``"keep_start"`` keeps the first ``max_length`` tokens,
            ``"keep_end"`` the last; ``"error"`` raises a ValueError that names the sample.
        min_length: Least width.
        multiple_of: The width is a multiple of it.
        buckets: If there are any, the width is the least of these that is large enough; a longer
            row is a ValueError that names the sample. Not together with ``multiple_of``.
        row_multiple_of: Every row is a multiple of it as well (context parallelism cuts rows into
            equal parts). In a padded matrix all rows are as long as the matrix is wide.
    """

    _: KW_ONLY
    max_length: int | None = None
    truncation_mode: TruncationMode = "keep_start"
    min_length: int = 0
    multiple_of: int = 1
    buckets: tuple[int, ...] = ()
    row_multiple_of: int = 1

    def __post_init__(self) -> None:
        if self.max_length is not None:
            check_count("max_length", self.max_length, 1)
        check_choice("truncation_mode", self.truncation_mode, get_args(TruncationMode))
        check_count("min_length", self.min_length, 0)
        check_count("multiple_of", self.multiple_of, 1)
        check_count("row_multiple_of", self.row_multiple_of, 1)
        check_tuple("buckets", self.buckets, int)
        for bucket in self.buckets:
            check_count("buckets", bucket, 1)
            if bucket % self.row_multiple_of:
                raise ValueError(f"buckets={self.buckets!r}: {bucket} is no multiple of {self.row_multiple_of}")
        if self.buckets and self.min_length > max(self.buckets):
            raise ValueError(f"min_length={self.min_length}: expected at most the largest bucket {max(self.buckets)}")
        if self.buckets and self.multiple_of != 1:
            raise ValueError("buckets and multiple_of both round the width: expected one of them")


@dataclass(frozen=True)
class Column:
    """One output array of a matrix: a property of each of its tokens.

    Attributes:
        name: Key of the array in the batch; ``"{}"`` is the stem of the row's last segment.
        of: What its cells show: ``"tokens"``; ``"ones"``; or a key parallel to the tokens, such as
            ``"{}_labels"``, whose rows must be as long as the tokens'.
        pad: What its padding holds: a number, ``"pad_token_id"`` or ``"label_pad_token_id"``. None: the
            pad id where tokens are shown as they are, else 0. A column padded with
            ``"label_pad_token_id"`` says what is scored: truncation that leaves nothing else in a row
            is an error.
        dtype: Type of its cells: ``"int64"``, ``"int32"``, ``"bool"``, ``"float32"`` or ``"float64"``.
        on: Indices of the segments that carry the content, elsewhere it is padding: with rows of
            prompt and completion, ``of="ones", on=(1,)`` is a completion mask. Says what is scored.
        differs_from: Cells are 1 where the content is not this value, else 0. A mask made out of
            ``"label_pad_token_id"`` says what is scored.
        optional: If no sample has the parallel keys, the column is left out; if some have, an error.
        default: ``"ones"``: if no sample has the parallel keys, the column shows ones instead.
        nonempty: A row that is all padding is an error.
    """

    name: str
    of: str = "tokens"
    pad: Fill | None = None
    dtype: DType = "int64"
    _: KW_ONLY
    on: tuple[int, ...] | None = None
    differs_from: Fill | None = None
    optional: bool = False
    default: Literal["ones"] | None = None
    nonempty: bool = False

    def __post_init__(self) -> None:
        for name, kind in (("name", str), ("of", str), ("optional", bool), ("nonempty", bool)):
            check_type(name, getattr(self, name), kind)
        if "{}" not in self.of and self.of not in {"tokens", "ones"}:
            raise ValueError(f"of={self.of!r}: expected 'tokens', 'ones', or a key with '{{}}' where the stem goes")
        if self.pad is not None:
            _check_fill("pad", self.pad)
        check_choice("dtype", self.dtype, get_args(DType))
        if self.on is not None:
            check_tuple("on", self.on, int)
        if self.differs_from is not None:
            _check_fill("differs_from", self.differs_from)
        check_choice("default", self.default, (None, "ones"))
        if self.optional and self.default is not None:
            raise ValueError("optional leaves the column out, default shows something instead: expected one of them")
        if "{}" not in self.of and (self.optional or self.default is not None):
            raise ValueError(f"of={self.of!r}: only a parallel key can be absent, so optional and default mean nothing")


@dataclass(frozen=True)
class Matrix:
    """Rows of tokens, padded to one width, and the columns that describe them.

    Attributes:
        rows: The rows that each sample gives; a row joins the segments of its stems:
            ``(("chosen",), ("rejected",))`` gives ``[2B, L]``, ``(("prompt", "chosen"),)`` ``[B, L]``.
        columns: The output arrays.
        tokens: Key of a segment's tokens, ``"{}"`` being the stem.
        side: Where the padding goes: ``"right"`` or ``"left"``.
        length: How long rows are.
    """

    rows: tuple[tuple[str, ...], ...]
    columns: tuple[Column, ...]
    _: KW_ONLY
    tokens: str = "{}_input_ids"
    side: PaddingSide = "right"
    length: Length = field(default_factory=Length)

    def __post_init__(self) -> None:
        check_tuple("rows", self.rows, tuple)
        for row in self.rows:
            check_tuple("rows", row, str)
        if not self.rows or not all(self.rows) or len({len(row) for row in self.rows}) > 1:
            raise ValueError(f"rows={self.rows!r}: expected rows of equally many stems, at least one")
        check_tuple("columns", self.columns, Column)
        check_type("tokens", self.tokens, str)
        check_type("length", self.length, Length)
        if "{}" not in self.tokens:
            raise ValueError(f"tokens={self.tokens!r}: expected '{{}}' where the stem goes")
        check_choice("side", self.side, get_args(PaddingSide))
        if not self.columns:
            raise ValueError("columns=(): expected at least one column")
        for column in self.columns:
            if column.on is not None and not all(0 <= segment < len(self.rows[0]) for segment in column.on):
                raise ValueError(f"on={column.on!r}: expected indices of the {len(self.rows[0])} segments of a row")
            if len(self.rows) > 1 and "{}" in column.name:
                raise ValueError(f"name={column.name!r}: a matrix of several rows has no one stem to name it by")


@dataclass(frozen=True)
class Media:
    """Images (or what accompanies them), concatenated on dimension 0.

    Values are tensors or arrays; their first dimension counts tiles. A sample without the key, or
    with None, has none. The order is always the order of the rows.

    Attributes:
        name: Key of the result in the batch.
        keys: Keys in the sample.
        optional: In no sample: left out; otherwise that is an error.
        blank: Shape of one tile. If no sample has any, the batch gets one such tile of zeros, float32
            (flags: int64, shape ``()``).
        flags_of: Name of the medium whose tiles these values flag: 1 for a tile that is an image, 0
            for one that only fills a place. Both come together and agree in number; a tile with
            flag 0 does not count as an image.
    """

    name: str
    keys: tuple[str, ...]
    _: KW_ONLY
    optional: bool = True
    blank: tuple[int, ...] | None = None
    flags_of: str | None = None

    def __post_init__(self) -> None:
        check_type("name", self.name, str)
        check_tuple("keys", self.keys, str)
        if not self.keys:
            raise ValueError("keys=(): expected at least one key")
        check_type("optional", self.optional, bool)
        if self.blank is not None:
            check_tuple("blank", self.blank, int)
            for size in self.blank:
                check_count("blank", size, 1)


@dataclass(frozen=True)
class Scalar:
    """Numbers, one a sample and key, gathered into an array ``[B]`` (two keys: ``[2B]``).

    Values are Python or NumPy numbers, or tensors of one element.

    Attributes:
        name: Key of the array in the batch.
        keys: Keys in the sample.
        dtype: Type of the array, one of those that a column can have.
        default: Stands in where a sample has no number; None: there is no such value.
        optional: In no sample: left out; in some: an error that names the first without it.
    """

    name: str
    keys: tuple[str, ...]
    dtype: DType = "float32"
    _: KW_ONLY
    default: float | None = None
    optional: bool = False

    def __post_init__(self) -> None:
        check_type("name", self.name, str)
        check_tuple("keys", self.keys, str)
        if not self.keys:
            raise ValueError("keys=(): expected at least one key")
        check_type("optional", self.optional, bool)
        check_choice("dtype", self.dtype, get_args(DType))
        if self.default is not None:
            check_number("default", self.default)


RESERVED = ("chosen_", "rejected_", "prompt_", "ref_", "reference_", "pixel_")
"""An unknown key that begins like this is most likely misspelt."""


@dataclass(frozen=True)
class Layout:
    """What a batch looks like.

    Attributes:
        name: Name of the layout, for messages.
        matrices: Token arrays.
        media: Images.
        scalars: Numbers.
        order: Order of what comes from two keys: ``"grouped"``: all chosen, then all rejected;
            ``"interleaved"``: chosen 0, rejected 0, chosen 1, …
        extra: What happens to keys that the table does not name: they are left out (``"drop"``),
            come as a list of the samples' values (``"list"``), are stacked (``"stack"``: tensors and
            arrays stacked, numbers made a tensor, strings and None left out by what the first sample
            has, as InternVL does), or are an error.
        reserved: An unknown key with one of these prefixes is an error, whatever ``extra`` says.
        ignored: Known keys that are not used. (Those that the batch makes anew are ignored already.)
        returns: None: keys in the order of the table; ``"sample"``: in that of the first sample,
            then those which it does not have.
    """

    name: str
    matrices: tuple[Matrix, ...]
    media: tuple[Media, ...] = ()
    scalars: tuple[Scalar, ...] = ()
    _: KW_ONLY
    order: Literal["grouped", "interleaved"] = "grouped"
    extra: Extra = "drop"
    reserved: tuple[str, ...] = RESERVED
    ignored: tuple[str, ...] = ()
    returns: Literal["sample"] | None = None

    def __post_init__(self) -> None:
        check_type("name", self.name, str)
        kinds: dict[str, Any] = {"matrices": Matrix, "media": Media, "scalars": Scalar, "reserved": str, "ignored": str}
        for name, kind in kinds.items():
            check_tuple(name, getattr(self, name), kind)
        if not self.matrices:
            raise ValueError("matrices=(): expected at least one matrix")
        check_choice("order", self.order, ("grouped", "interleaved"))
        check_choice("extra", self.extra, get_args(Extra))
        check_choice("returns", self.returns, (None, "sample"))
        twice = [name for name, times in Counter(self.names()).items() if times > 1]
        if twice:
            raise ValueError(f"layout {self.name!r} names {twice[0]!r} twice: expected each key of the batch once")
        keys = {medium.name: len(medium.keys) for medium in self.media}
        blanks = {medium.name: medium.blank for medium in self.media}
        for medium in self.media:
            if medium.flags_of is not None:
                if medium.flags_of not in keys or medium.flags_of == medium.name:
                    raise ValueError(f"flags_of={medium.flags_of!r}: expected the name of another medium")
                if keys[medium.flags_of] != len(medium.keys):
                    raise ValueError(f"keys={medium.keys!r}: expected as many as {medium.flags_of!r} has")
                if (medium.blank is None) != (blanks[medium.flags_of] is None):
                    raise ValueError(
                        f"{medium.name!r} flags {medium.flags_of!r}: expected a blank tile of both or none"
                    )

    def names(self) -> tuple[str, ...]:
        """All keys that a batch can have, in order.

        >>> SEPARATE.names()[:3]
        ('chosen_input_ids', 'chosen_labels', 'chosen_attention_mask')
        """
        columns = (
            column.name.replace("{}", matrix.rows[0][-1]) for matrix in self.matrices for column in matrix.columns
        )
        media = (medium.name for medium in self.media)
        scalars = (scalar.name for scalar in self.scalars)
        return (*columns, *media, *scalars)


IMAGES = (
    Media("pixel_values", ("pixel_values",)),
    Media("image_flags", ("image_flags",), flags_of="pixel_values"),
)
"""InternVL's tiles ``[tiles, 3, H, W]`` and their flags ``[tiles]``."""

PAIR = ("chosen", "rejected")

_KNOWN_NUMBERS = tuple(
    Scalar(name, (name,), optional=True) for name in ("ref_chosen_logps", "ref_rejected_logps", "margin")
)

SEPARATE = Layout(
    "separate",
    matrices=tuple(
        Matrix(
            rows=((side,),),
            columns=(
                Column("{}_input_ids", pad="pad_token_id"),
                Column("{}_labels", of="{}_labels", pad="label_pad_token_id"),
                Column("{}_attention_mask", of="{}_attention_mask", default="ones"),
            ),
        )
        for side in PAIR
    ),
    media=IMAGES,
    scalars=_KNOWN_NUMBERS,
)
"""InternVL's: chosen and rejected padded independently, masks from lengths, images sent once."""

NAMED = {layout.name: layout for layout in (SEPARATE,)}
"""The layouts that a collator knows by name."""
