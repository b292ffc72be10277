"""The layout language: what a batch looks like, said by a table.

A layout is data. A :class:`Layout` has matrices (token rows, padded to one width or end to end),
media (images, concatenated) and scalars (numbers, stacked). A collator holds no padding code of its
own: whatever a trainer wants is a table of these dataclasses, which the Rust core resolves once. The
layouts that have a name are in :mod:`dpo_collate.named`.

Two words in a table stand for ids that only the collator knows: ``"pad_token_id"`` and
``"label_pad_token_id"``. ``"{}"`` in a name stands for a stem, such as ``chosen``; ``"*"`` as a stem, or
in the name of a medium or scalar, for whatever the first sample of a batch has there.

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

from ._checks import check_choice, check_count, check_int64, check_number, check_tuple, check_type

__all__ = ["Column", "Layout", "Length", "Matrix", "Media", "Scalar"]

Fill: TypeAlias = int | float | Literal["pad_token_id", "label_pad_token_id", "continue"]
"""A number, or a word for one."""

TruncationMode: TypeAlias = Literal["keep_start", "keep_end", "error"]
PaddingSide: TypeAlias = Literal["left", "right"]
Extra: TypeAlias = Literal["drop", "list", "stack", "error"]
DType: TypeAlias = Literal["int64", "int32", "bool", "float32", "float64"]
MediaDType: TypeAlias = Literal["int64", "int32", "bool", "float16", "float32", "float64"]
Combine: TypeAlias = Literal["cat", "stack", "pad"]
Tail: TypeAlias = Literal["segment", "outside"]

_COUNTS = ("position", "row", "segment")
"""Contents of cells that count."""

_PER_ROW = ("length", "cu_seq_lens", "max_length")
"""Contents that are no cells: they say something of each row, or of all."""

_WORDS = ("tokens", "ones", *_COUNTS, *_PER_ROW)


def _check_fill(name: str, value: object, *more: str) -> None:
    if isinstance(value, str):
        check_choice(name, value, ("pad_token_id", "label_pad_token_id", *more))
    else:
        check_number(name, value)


@dataclass(frozen=True)
class Length:
    """How long the rows of a matrix are.

    The width of a matrix is the length of its longest row after truncation (of a flat one: of all its
    rows), at least ``min_length``, rounded up; a width that fits already stays as it is.

    Attributes:
        max_length: Most tokens of a row, its segments joined; None: any number.
        truncation_mode: Of a longer row ``"keep_start"`` keeps the first ``max_length`` tokens,
            ``"keep_end"`` the last; ``"error"`` raises a ValueError that names the sample.
        min_length: Least width.
        multiple_of: The width is a multiple of it.
        buckets: If there are any, the width is the least of these that is large enough; a longer
            row is a ValueError that names the sample. Not together with ``multiple_of``.
        row_multiple_of: Every row is a multiple of it as well (context parallelism cuts rows into
            equal parts). In a padded matrix all rows are as long as the matrix is wide; in a flat one
            each row is followed by its own padding.
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
    """One output of a matrix: a property of each of its tokens, or of its rows.

    Attributes:
        name: Key of the array in the batch; ``"{}"`` is the stem of the row's last segment.
        of: What its cells show: ``"tokens"``; ``"ones"``; a key parallel to the tokens, such as
            ``"{}_labels"``, whose rows must be as long as the tokens'; ``"position"``: the index of the
            token among those of its row that are kept; ``"row"``: the index of the token's row;
            ``"segment"``: the index of its segment. Or not cells but something of all rows:
            ``"length"``: the number of tokens of each row, ``[rows]``; ``"cu_seq_lens"``: where each row
            begins, and the last ends, ``[rows + 1]`` (of a flat matrix, its padding included, and one
            more where there is a tail); ``"max_length"``: the longest of these rows, a Python int.
        pad: What its padding holds: a number, ``"pad_token_id"`` or ``"label_pad_token_id"``; of
            positions also ``"continue"``: they go on, those of a tail from the first. None: the pad id
            where tokens are shown as they are, else 0. A column padded with ``"label_pad_token_id"``
            says what is scored: truncation that leaves nothing else in a row is an error.
        dtype: Type of its cells: ``"int64"``, ``"int32"``, ``"bool"``, ``"float32"`` or ``"float64"``; of
            what is counted one of the first two.
        on: Indices of the segments that carry the content, elsewhere it is padding: with rows of
            prompt and completion, ``of="ones", on=(1,)`` is a completion mask. Says what is scored.
        skip: So many leading cells of each row are padding.
        shift: Cell i shows token i + shift: with 1, labels of the token that comes next.
        start: The first position, row or segment.
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
    skip: int = 0
    shift: int = 0
    start: int = 0
    differs_from: Fill | None = None
    optional: bool = False
    default: Literal["ones"] | None = None
    nonempty: bool = False

    def __post_init__(self) -> None:
        for name, kind in (("name", str), ("of", str), ("optional", bool), ("nonempty", bool)):
            check_type(name, getattr(self, name), kind)
        if "{}" not in self.of and self.of not in _WORDS:
            words = ", ".join(map(repr, _WORDS))
            raise ValueError(f"of={self.of!r}: expected {words}, or a key with '{{}}' where the stem goes")
        if self.pad is not None:
            _check_fill("pad", self.pad, *(("continue",) if self.of == "position" else ()))
        dtypes = get_args(DType)
        check_choice("dtype", self.dtype, dtypes[:2] if self.of in (*_COUNTS, *_PER_ROW) else dtypes)
        if self.on is not None:
            check_tuple("on", self.on, int)
        check_count("skip", self.skip, 0)
        check_count("shift", self.shift, 0)
        check_int64("start", self.start)
        if self.differs_from is not None:
            _check_fill("differs_from", self.differs_from)
        check_choice("default", self.default, (None, "ones"))
        if self.optional and self.default is not None:
            raise ValueError("optional leaves the column out, default shows something instead: expected one of them")
        if "{}" not in self.of and (self.optional or self.default is not None):
            raise ValueError(f"of={self.of!r}: only a parallel key can be absent, so optional and default mean nothing")
        self._check_meaning()

    def _check_meaning(self) -> None:
        """Refuses what would mean nothing."""
        without = []
        if self.of not in _COUNTS:
            without.append("start")
        if self.of in (*_COUNTS, *_PER_ROW):
            without += ["skip", "shift", "differs_from", "nonempty"]
        if self.of in _PER_ROW:
            without += ["pad", "on"]
        if self.pad == "continue" and self.on is not None:
            raise ValueError(f"on={self.on!r}: positions that continue are those of all segments")
        for name in without:
            # Not only what is true: 0 is a number to differ from.
            if getattr(self, name) != getattr(Column, name):
                raise ValueError(f"of={self.of!r}: {name}={getattr(self, name)!r} means nothing there")


@dataclass(frozen=True)
class Matrix:
    """Rows of tokens, padded to one width or end to end, and the columns that describe them.

    Attributes:
        rows: The rows that each sample gives; a row joins the segments of its stems:
            ``(("chosen",), ("rejected",))`` gives ``[2B, L]``, ``(("prompt", "chosen"),)`` ``[B, L]``. With
            ``(("*",),)`` there is a matrix for each stem that the first sample of a batch has and no other
            matrix of the same ``tokens`` names.
        columns: The output arrays.
        tokens: Key of a segment's tokens, ``"{}"`` being the stem.
        side: Where the padding goes: ``"right"`` or ``"left"``.
        flat: Rows lie end to end in one, ``[1, T]``: nothing is padded (padding-free training).
        tail: Where the T of a flat matrix is rounded up, there is a tail, which is no part of the last
            row: ``"segment"``: ``cu_seq_lens`` and ``max_length`` count it as a segment of its own;
            ``"outside"``: they do not.
        drop_last: So many tokens at the end of each row get no cell.
        optional: If no sample has the tokens, the matrix is left out; if some have, an error.
        length: How long rows are.
    """

    rows: tuple[tuple[str, ...], ...]
    columns: tuple[Column, ...]
    _: KW_ONLY
    tokens: str = "{}_input_ids"
    side: PaddingSide = "right"
    flat: bool = False
    tail: Tail = "segment"
    drop_last: int = 0
    optional: bool = False
    length: Length = field(default_factory=Length)

    def __post_init__(self) -> None:
        self._check_rows()
        check_tuple("columns", self.columns, Column)
        check_type("tokens", self.tokens, str)
        check_type("length", self.length, Length)
        if "{}" not in self.tokens:
            raise ValueError(f"tokens={self.tokens!r}: expected '{{}}' where the stem goes")
        if self.rows == (("*",),) and self.tokens.count("{}") > 1:
            raise ValueError(f"tokens={self.tokens!r}: expected '{{}}' once, where any stem goes")
        check_choice("side", self.side, get_args(PaddingSide))
        check_type("flat", self.flat, bool)
        check_choice("tail", self.tail, get_args(Tail))
        check_count("drop_last", self.drop_last, 0)
        check_type("optional", self.optional, bool)
        if not self.columns:
            raise ValueError("columns=(): expected at least one column")
        for column in self.columns:
            if column.on is not None and not all(0 <= segment < len(self.rows[0]) for segment in column.on):
                raise ValueError(f"on={column.on!r}: expected indices of the {len(self.rows[0])} segments of a row")
            if len(self.rows) > 1 and "{}" in column.name:
                raise ValueError(f"name={column.name!r}: a matrix of several rows has no one stem to name it by")
            if column.pad == "continue" and self.side == "left":
                raise ValueError(f"side='left': positions ({column.name!r}) cannot continue before the first")
        if self.flat and self.side == "left":
            raise ValueError("side='left': rows of a flat matrix lie end to end, with no padding before them")

    def _check_rows(self) -> None:
        check_tuple("rows", self.rows, tuple)
        for row in self.rows:
            check_tuple("rows", row, str)
        if not self.rows or not all(self.rows) or len({len(row) for row in self.rows}) > 1:
            raise ValueError(f"rows={self.rows!r}: expected rows of equally many stems, at least one")
        if any("*" in stem for row in self.rows for stem in row) and self.rows != (("*",),):
            raise ValueError(f"rows={self.rows!r}: '*' is for rows of any one stem, expected (('*',),)")


@dataclass(frozen=True)
class Media:
    """Images (or what accompanies them), put together in the order of the rows.

    Values are tensors or arrays, of one dtype in a batch. A sample without the key, or with None, has none.

    Attributes:
        name: Key of the result in the batch. With ``"*"`` in it, as in the one key, there is a medium for
            each key that the first sample of a batch has and nothing else of the table names.
        keys: Keys in the sample; one for each row that a sample gives, or one for all. A key that is
            named twice is sent twice.
        combine: ``"cat"``: concatenated on dimension 0, which counts tiles; samples may have any number of
            them. ``"stack"``: along a new first dimension; all samples have one, all of one shape.
            ``"pad"``: likewise, each dimension padded at its end to the largest of the batch.
        pad: What ``"pad"`` pads with.
        dtype: Values become it; None: they stay what they are (bfloat16 and float16 too).
        optional: In no sample: left out; otherwise that is an error.
        blank: Shape of one tile. If no sample has any, the batch gets one such tile of zeros, of that dtype or
            float32 (flags: int64, shape ``()``).
        flags_of: Name of the medium whose tiles these values flag: 1 for a tile that is an image, 0
            for one that only fills a place. They agree in number; a tile with flag 0 does not count as an
            image. In a batch where no sample has any flag, every tile is an image (but with ``blank`` there
            must be flags).
        describes: Name of the medium that these values say something of, such as grids and sizes of images.
    """

    name: str
    keys: tuple[str, ...]
    _: KW_ONLY
    combine: Combine = "cat"
    pad: float = 0
    dtype: MediaDType | None = None
    optional: bool = True
    blank: tuple[int, ...] | None = None
    flags_of: str | None = None
    describes: str | None = None

    def __post_init__(self) -> None:
        _check_names(self.name, self.keys)
        check_choice("combine", self.combine, get_args(Combine))
        check_number("pad", self.pad)
        check_choice("dtype", self.dtype, (None, *get_args(MediaDType)))
        check_type("optional", self.optional, bool)
        if self.blank is not None:
            check_tuple("blank", self.blank, int)
            for size in self.blank:
                check_count("blank", size, 1)
        if self.combine != "cat" and (self.blank is not None or self.flags_of is not None):
            raise ValueError(f"combine={self.combine!r}: blank and flags_of are for tiles, which are concatenated")


@dataclass(frozen=True)
class Scalar:
    """Numbers, one a sample and key, gathered into an array ``[B]`` (two keys: ``[2B]``).

    Values are Python or NumPy numbers, or tensors of one element.

    Attributes:
        name: Key of the array in the batch; ``"*"`` as in :class:`Media`.
        keys: Keys in the sample.
        dtype: Type of the array, one of those that a column can have. None: a list of the samples'
            values, whatever they are, with ``default`` where a sample has none.
        default: Stands in where a sample has no number; None: there is no such value.
        optional: In no sample: left out; in some: an error that names the first without it (in a list:
            None, or ``default``).
    """

    name: str
    keys: tuple[str, ...]
    dtype: DType | None = "float32"
    _: KW_ONLY
    default: float | None = None
    optional: bool = False

    def __post_init__(self) -> None:
        _check_names(self.name, self.keys)
        check_type("optional", self.optional, bool)
        check_choice("dtype", self.dtype, (None, *get_args(DType)))
        if self.default is not None:
            check_number("default", self.default)


def _check_names(name: str, keys: tuple[str, ...]) -> None:
    """Checks the name and the keys of a medium or a scalar."""
    check_type("name", name, str)
    check_tuple("keys", keys, str)
    if not keys:
        raise ValueError("keys=(): expected at least one key")
    if any("*" in key for key in (name, *keys)) and (keys != (name,) or name.count("*") > 1):
        raise ValueError(f"name={name!r}, keys={keys!r}: expected one '*', in a name that is also the one key")


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
        constants: Names and values that every batch has.
        order: Order of what comes from two keys: ``"grouped"``: all chosen, then all rejected;
            ``"interleaved"``: chosen 0, rejected 0, chosen 1, …
        sample: If samples may be tuples, the keys of their parts.
        unbatch: Rows may have a first dimension of one: ``[1, L]``.
        extra: What happens to keys that the table does not name: they are left out (``"drop"``),
            come as a list of the samples' values (``"list"``), are stacked (``"stack"``: tensors and
            arrays stacked, numbers made a tensor, strings and None left out by what the first sample
            has, as InternVL does), or are an error.
        reserved: An unknown key with one of these prefixes is an error, whatever ``extra`` says.
        ignored: Known keys that are not used. (Those that the batch makes anew are ignored already.)
        returns: None: a dict, keys in the order of the table; ``"sample"``: in that of the first sample,
            then those which it does not have. Or tuples and dicts of names in any nesting: the batch is
            the same with each name replaced by what has that name.
    """

    name: str
    matrices: tuple[Matrix, ...]
    media: tuple[Media, ...] = ()
    scalars: tuple[Scalar, ...] = ()
    _: KW_ONLY
    constants: tuple[tuple[str, Any], ...] = ()
    order: Literal["grouped", "interleaved"] = "grouped"
    sample: tuple[str, ...] | None = None
    unbatch: bool = False
    extra: Extra = "drop"
    reserved: tuple[str, ...] = RESERVED
    ignored: tuple[str, ...] = ()
    returns: Any = None

    def __post_init__(self) -> None:
        check_type("name", self.name, str)
        kinds: dict[str, Any] = {"matrices": Matrix, "media": Media, "scalars": Scalar, "reserved": str, "ignored": str}
        for name, kind in kinds.items():
            check_tuple(name, getattr(self, name), kind)
        constants: tuple[Any, ...] = self.constants
        check_tuple("constants", constants, tuple)
        if not all(len(constant) == 2 and isinstance(constant[0], str) for constant in constants):
            raise TypeError(f"constants={constants!r}: expected pairs of a name and a value")
        if not self.matrices:
            raise ValueError("matrices=(): expected at least one matrix")
        check_choice("order", self.order, ("grouped", "interleaved"))
        if self.sample is not None:
            check_tuple("sample", self.sample, str)
        check_type("unbatch", self.unbatch, bool)
        check_choice("extra", self.extra, get_args(Extra))
        names = self.names()
        twice = [name for name, times in Counter(names).items() if times > 1]
        if twice:
            raise ValueError(f"layout {self.name!r} names {twice[0]!r} twice: expected each key of the batch once")
        names = tuple(name for name in names if "*" not in name)
        if self.returns is None or isinstance(self.returns, str):
            check_choice("returns", self.returns, (None, "sample", *names))
        else:
            _check_nest(self.returns, names)
        if self.extra in {"list", "stack"} and self.returns is not None and self.returns != "sample":
            raise ValueError(f"extra={self.extra!r}: unknown keys have no place in returns={self.returns!r}")
        _check_media(self.media)

    def names(self) -> tuple[str, ...]:
        """All keys that a batch can have, in order.

        >>> from dpo_collate.named import SEPARATE
        >>> SEPARATE.names()[:3]
        ('chosen_input_ids', 'chosen_labels', 'chosen_attention_mask')
        """
        columns = (
            column.name.replace("{}", matrix.rows[0][-1]) for matrix in self.matrices for column in matrix.columns
        )
        media = (medium.name for medium in self.media)
        scalars = (scalar.name for scalar in self.scalars)
        return (*columns, *media, *scalars, *(name for name, _ in self.constants))


def _check_nest(nest: object, names: tuple[str, ...]) -> None:
    if isinstance(nest, str):
        check_choice("returns", nest, names)
    elif isinstance(nest, tuple | dict):
        for part in nest.values() if isinstance(nest, dict) else nest:
            _check_nest(part, names)
    else:
        raise TypeError(f"returns={nest!r}: expected None, 'sample', or tuples and dicts of names")


def _check_media(media: tuple[Media, ...]) -> None:
    """Checks what media say of each other."""
    by_name = {medium.name: medium for medium in media}
    for flags in media:
        if flags.flags_of is None:
            continue
        tiles = by_name.get(flags.flags_of)
        if tiles is None or tiles is flags or tiles.combine != "cat":
            raise ValueError(f"flags_of={flags.flags_of!r}: expected the name of another medium, of tiles")
        if len(tiles.keys) != len(flags.keys):
            raise ValueError(f"keys={flags.keys!r}: expected as many as {tiles.name!r} has")
        if (flags.blank is None) != (tiles.blank is None):
            raise ValueError(f"{flags.name!r} flags {tiles.name!r}: expected a blank tile of both or none")
        if "*" in tiles.name:
            raise ValueError(f"flags_of={flags.flags_of!r}: media of any name have no flags")
    for medium in media:
        if medium.describes is not None:
            _check_describes(medium, by_name.get(medium.describes))


def _check_describes(medium: Media, other: Media | None) -> None:
    if other is None or medium.flags_of is not None:
        raise ValueError(f"describes={medium.describes!r}: expected the name of another medium, and no flags")
    if "*" in other.name:
        raise ValueError(f"describes={medium.describes!r}: nothing can be said of media of any name")
    if len(other.keys) != len(medium.keys):
        raise ValueError(f"keys={medium.keys!r}: expected as many as {other.name!r} has")
