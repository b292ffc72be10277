"""Hypothesis strategies for those who write a collator, a layout, a data set or a trainer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from hypothesis import strategies as st

from dpo_collate._checks import check_int64
from dpo_collate.testing.reference.collating import reference_batch
from dpo_collate.testing.reference.meant import meant

from . import tables
from .batches import Wishes, drawn_batches, read_keys
from .dressing import families
from .media import ARRAY_DTYPES, TILE_DTYPES
from .options import drawn_collators

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    import torch

    from dpo_collate.collator import PreferenceCollator
    from dpo_collate.layout import Layout
    from dpo_collate.testing.reference.meant import Meant

    from .batches import Drawn

Sample = Any
"""A dict or another mapping, or a tuple where the layout takes tuples."""


def samples(
    layout: Any = "separate", *, kinds: str | Collection[str] = "all", **wishes: Any
) -> st.SearchStrategy[Sample]:
    """One sample of a layout.

    Two of them need not go together: one may have masks or images of another dtype. For those that do see
    :func:`batches`, which also says what is drawn.

    Args:
        layout: As :func:`batches` takes it.
        kinds: Likewise.
        **wishes: Likewise, but for the sizes.

    Raises:
        TypeError, ValueError: As :func:`batches` does.

    Example:
        >>> from hypothesis import find
        >>> from dpo_collate.testing import samples
        >>> find(samples("concatenated", inputs="split"), lambda sample: len(sample["chosen_ids"]))
        {'chosen_ids': [1], 'prompt_ids': [1], 'rejected_ids': [1]}
    """
    for name in ("min_size", "max_size"):
        if name in wishes:
            raise TypeError(f"{name}={wishes[name]!r}: samples() draws one: expected batches() for more")
    drawn = batches(layout, kinds=kinds, min_size=1, max_size=1, **wishes)

    @st.composite
    def samples(draw: st.DrawFn) -> Sample:
        return draw(drawn)[0]

    return samples()


def batches(  # noqa: PLR0913 - each is a wish of its own
    layout: Any = "separate",
    *,
    kinds: str | Collection[str] = "all",
    pad_token_id: int | None = None,
    label_pad_token_id: int | None = None,
    min_size: int = 1,
    max_size: int = 4,
    valid: bool = False,
    vocab_size: int | None = None,
    unnamed_keys: bool = True,
    tile_dtypes: Sequence[torch.dtype] | None = None,
    **options: Any,
) -> st.SearchStrategy[list[Sample]]:
    """Samples that go together: what a ``collate_fn`` is called with.

    What is drawn, unless the arguments say otherwise:

    - Lengths: of four segments three have 0, 1, 2 or 5 tokens, or a number within one of what the layout rounds to or
      cuts at (``pad_to_multiple_of``, ``max_length``, ``buckets``, …); one has 255 to 257 or 600, or a number within
      one of such a number that is 20 or more (up to 5000). Of rows that join segments, every second has one of these
      lengths as a whole.
    - Token ids: any integer that the batch's columns hold (mostly of 64 bits, negative ones too): an ordinary one, the
      pad id, the label pad id, edges such as 2**31, and small numbers. A row has at most six different ones. Labels
      are, half of the time, the tokens with some first ones replaced by the label pad id; else any such integers.
      Attention masks are 0 and 1, not always in one piece. Floats where columns are floats, NaN and infinity too.
    - Keys that samples may lack: in all samples of a batch or in none; now and then as None.
    - Images: every second batch has some of a medium, and there each sample has none (no key, None or no tile) to three
      tiles, with flags three times in four (0 and 1). What describes a medium has one entry a tile; where grids are
      among it (``image_grid_thw``), tiles are as many patches as they say. With ``image_tokens`` rows have as many of
      these tokens as the images ask for, but for one batch of ten.
    - Numbers (``margin``, …), all that ``dtype`` holds.
    - Keys that the layout does not name, in every second batch: text, None, numbers, lists, arrays and tensors; and
      text under keys that only the batch has.
    - For a layout with ``"*"`` keys that fit it; for one that takes tuples, tuples in every second batch.

    Never drawn: values that no collator takes (text as tokens, rows of two dimensions, labels of another length than
    their tokens), keys that look misspelt, tables. Most batches are valid. The others: truncation leaves nothing to
    score, a row fits no bucket or is too long, truncation could cut images.

    A counterexample shrinks to one sample of one token a row, the token 1, in plain lists and dicts.

    Args:
        layout: The name of a layout, a :class:`dpo_collate.layout.Layout`, a :class:`dpo_collate.PreferenceCollator`,
            a drop-in of :mod:`dpo_collate.trainers`, or a function that calls one of these.
        kinds: What objects values are. ``"plain"``: rows are lists of ints, images contiguous tensors, samples dicts.
            ``"all"``: all families of :data:`KINDS`; or one of them, or some: what none of these can be is plain. In
            every second batch all values are of one family, in the others each is of any.
        pad_token_id: What the table calls by that name; None: 0. Not together with a collator, which has its own.
        label_pad_token_id: Likewise; None: -100.
        min_size: Least number of samples, at least 1.
        max_size: Most samples.
        valid: Only batches of which :func:`reference_collate` makes something.
        vocab_size: Token ids are less than it and not negative, and so are labels but for the label pad id: what a
            model with that many embeddings takes.
        unnamed_keys: Whether samples may have keys that no batch is made of.
        tile_dtypes: What images may be; None: float32, float16, bfloat16 (not if the collator returns arrays), uint8,
            float64 and int64.
        **options: Any other option of ``PreferenceCollator``, with a name or a table.

    Returns:
        A strategy for lists of samples: dicts (or other mappings), or tuples where the layout takes them.

    Raises:
        TypeError: An argument is of the wrong kind, or no option of ``PreferenceCollator``.
        ValueError: An argument is wrong, or an option makes no sense with the layout.

    Example:
        A test of a collator of one's own. That an id may equal the pad id, is found at once:

        >>> import torch
        >>> from hypothesis import find
        >>> from dpo_collate.testing import batches
        >>> def masks(samples):
        ...     rows = [torch.tensor(sample["chosen_input_ids"], dtype=torch.int64) for sample in samples]
        ...     return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True) != 0
        >>> def is_wrong(samples):
        ...     return masks(samples).sum() != sum(len(sample["chosen_input_ids"]) for sample in samples)
        >>> (sample,) = find(batches(kinds="plain", valid=True, unnamed_keys=False), is_wrong)
        >>> sample["chosen_input_ids"]
        [0]
    """
    what = meant(layout, pad_token_id, label_pad_token_id, options, 0)
    dtypes = tile_dtypes if tile_dtypes is not None else ARRAY_DTYPES if what.arrays else TILE_DTYPES
    wishes = Wishes(min_size, max_size, dtypes, vocab_size, unnamed_keys=unnamed_keys, valid=valid)
    drawn = _drawn(what, wishes, families(kinds))

    # (No `map`: of that Hypothesis prints how a value came about.)
    @st.composite
    def batches(draw: st.DrawFn) -> list[Sample]:
        return draw(drawn).samples

    return batches()


def _drawn(what: Meant, wishes: Wishes, kinds: Sequence[str]) -> st.SearchStrategy[Drawn]:
    drawn = drawn_batches(what, wishes, kinds)
    return drawn.filter(lambda found: _is_accepted(found.samples, what)) if wishes.valid else drawn


def _is_accepted(plain: Sequence[Any], what: Meant) -> bool:
    """Whether the samples make a batch."""
    try:
        reference_batch(plain, what)
    except (KeyError, TypeError, ValueError, OverflowError):
        return False
    return True


def layouts(
    *, wildcards: bool = False, pad_token_id: int = 0, label_pad_token_id: int = -100
) -> st.SearchStrategy[Layout]:
    """Tables that say anything that the language can say: for code that takes any :class:`dpo_collate.layout.Layout`.

    Each has one or two matrices of one to four columns, maybe images, up to two numbers; every field of
    :mod:`dpo_collate.layout` has its default and other values, alone and together. A batch of one may be an error, as
    its table says: see :func:`batches`. ``describes`` is not drawn.

    Args:
        wildcards: Every second table has a ``"*"``.
        pad_token_id: Of the collators that are to be made of it: a bool column is padded by an id only if that is 0 or
            1.
        label_pad_token_id: Likewise.

    Returns:
        A strategy for layouts.

    Raises:
        TypeError, ValueError: An id is no integer of 64 bits.

    Example:
        >>> from hypothesis import find
        >>> from dpo_collate.testing import layouts
        >>> find(layouts(), lambda layout: layout.matrices[0].side == "left").matrices[0].rows
        (('chosen',),)
    """
    check_int64("pad_token_id", pad_token_id)
    check_int64("label_pad_token_id", label_pad_token_id)
    ids = {"pad_token_id": pad_token_id, "label_pad_token_id": label_pad_token_id}
    drawn = tables.layouts(ids)
    return st.one_of(drawn, tables.wild_layouts(ids)) if wildcards else drawn


def collators(
    layouts: st.SearchStrategy[str | Layout] | None = None, **options: Any
) -> st.SearchStrategy[PreferenceCollator]:
    """Collators of named layouts with options, and of tables of one's own.

    Of the options that make sense with the layout each is given one time in five, with small numbers: ``max_length`` 1
    to 9, image tokens of id 7. Widths are in multiples of 7 or 8, in buckets of 6, 12 and 1200, or not rounded. The pad
    id is 0, 1, 151643 or -1, the label pad id -100, 0 or -1. ``media``, ``scalars``, ``max_batch_bytes`` and
    ``delivery`` are as they are by default.

    Args:
        layouts: What layouts to make collators of; None: in equal parts the named ones, tables of one's own
            (:func:`layouts`), and such with ``"*"``.
        **options: Options that all collators have. Pad ids have to be those that the tables were drawn for.

    Returns:
        A strategy for collators.

    Raises:
        TypeError: There is no such option.

    Example:
        >>> from hypothesis import find, strategies
        >>> from dpo_collate.testing import collators
        >>> named = strategies.sampled_from(["separate", "concatenated"])
        >>> find(collators(named, return_tensors="np"), lambda collator: collator.max_length)
        PreferenceCollator(pad_token_id=0, max_length=8, return_tensors='np')
    """
    return drawn_collators(layouts, options)


class ArrowBatch(NamedTuple):
    """The same batch twice."""

    samples: list[dict[str, Any]]
    """The rows of the table: plain samples that all have the same keys."""
    table: Any
    """A ``pyarrow.Table``."""


def arrow_tables(  # noqa: PLR0913 - each is a wish of its own
    layout: Any = "separate",
    *,
    common: bool = False,
    pad_token_id: int | None = None,
    label_pad_token_id: int | None = None,
    min_size: int = 1,
    max_size: int = 4,
    valid: bool = False,
    vocab_size: int | None = None,
    unnamed_keys: bool = True,
    **options: Any,
) -> st.SearchStrategy[ArrowBatch]:
    """The same batch as a list of dicts and as a ``pyarrow.Table``, in every way that Arrow has of saying it.

    Lists are ``list``, ``large_list`` or ``fixed_size_list``; numbers are of any type that holds them; images are
    nested lists or one of the extension types of tensors; what nobody may read (before the first row, after the last
    one, behind a null) holds junk and nulls; tables are slices of larger ones, in pieces.

    Args:
        layout: As :func:`batches` takes it.
        common: Only types that other libraries (polars, DuckDB) have as well.
        pad_token_id: As :func:`batches` takes it; so are all that follow.
        label_pad_token_id: Likewise.
        min_size: Likewise.
        max_size: Likewise.
        valid: Likewise.
        vocab_size: Likewise.
        unnamed_keys: Likewise.
        **options: Likewise.

    Returns:
        A strategy for pairs of ``samples``, which are plain and all have the same keys (one that a sample lacks is
        None), and ``table``.

    Raises:
        ModuleNotFoundError: pyarrow is not installed.
        TypeError, ValueError: As :func:`batches` does.

    Example:
        >>> from hypothesis import find
        >>> from dpo_collate.testing import arrow_tables
        >>> batch = find(arrow_tables("prompt_left"), lambda batch: True)
        >>> batch.table.to_pylist()
        [{'chosen_input_ids': [1], 'prompt_input_ids': [1], 'rejected_input_ids': [1]}]
        >>> batch.samples == batch.table.to_pylist()
        True
    """
    try:
        from . import arrow  # noqa: PLC0415 - nothing else here needs pyarrow
    except ModuleNotFoundError as missing:
        raise ModuleNotFoundError(f"{missing}; arrow_tables needs pyarrow", name=missing.name) from None
    what = meant(layout, pad_token_id, label_pad_token_id, options, 0)
    wishes = Wishes(min_size, max_size, ARRAY_DTYPES, vocab_size, unnamed_keys=unnamed_keys, valid=valid)

    @st.composite
    def drawn(draw: st.DrawFn) -> ArrowBatch:
        plain, table = draw(_drawn(what, wishes, ()))
        read = read_keys(table) - {key for scalar in table.scalars if scalar.dtype is None for key in scalar.keys}
        keys = {key for sample in plain for key in (sample if isinstance(sample, dict) else table.sample or ())}
        told = draw(arrow.tables(plain, keys - read, table.sample, unbatch=table.unbatch, common=common))
        return ArrowBatch(told.samples, told.table)

    return drawn()
