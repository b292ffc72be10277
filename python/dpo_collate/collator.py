"""``PreferenceCollator`` and ``dpo_collate``: options in, a resolved layout, batches out."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass, fields, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeAlias, get_args

from . import _convert, _extras, _media
from ._budget import Budget
from ._checks import check_choice, check_count, check_int64
from ._core import Collator, Rest
from ._pools import Target, ready
from .layout import NAMED, PAIR, SEPARATE, Column, Extra, Layout, Matrix, PaddingSide, TruncationMode

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Batch: TypeAlias = dict[str, Any]
"""Keys to tensors (to arrays with ``return_tensors="np"``)."""


@dataclass(frozen=True, repr=False)
class PreferenceCollator:
    """Collates preference pairs: the ``collate_fn`` of a ``DataLoader``.

    A sample is a dict (or any mapping). Its rows of token ids are 1-D integer tensors, NumPy arrays,
    lists or tuples, mixed as you like. With layout ``"separate"`` (InternVL's):

    ==============================================  ==================================================
    in each sample                                  in the batch (B pairs, L tokens, P tiles)
    ==============================================  ==================================================
    ``chosen_input_ids``, ``rejected_input_ids``    the same, int64 ``[B, L]``, each its own L
    ``chosen_labels``, ``rejected_labels``          the same, int64 ``[B, L]``
    ``chosen_attention_mask``, ``rejected_…``,      the same, int64 ``[B, L]``, 1 = real; made from
    in all samples or in none                       lengths if there are none
    ``pixel_values`` ``[p, 3, H, W]``, if any       the same, ``[P, 3, H, W]``, dtype as it is
    ``image_flags`` ``[p]``, with pixel_values      the same, ``[P]``
    ``ref_chosen_logps``, ``ref_rejected_logps``,   the same, float32 ``[B]``
    ``margin``, in all samples or in none
    ==============================================  ==================================================

    Samples are never changed. A bad sample raises, and the message names its index in the batch and
    the key. The collator pickles, and may be used for any number of batches and by any number of
    threads.

    Args:
        layout: Name of a layout, or a :class:`dpo_collate.layout.Layout` of your own.
        pad_token_id: Pads token ids. There is no default: a wrong id would go unnoticed.
        label_pad_token_id: Pads labels; what the loss ignores.
        padding_side: ``"right"`` or ``"left"``.
        pad_to_multiple_of: Widths are rounded up to a multiple of it.
        max_length: Longer rows are truncated; of a sample with images that is an error, as it could
            cut image tokens. The width may exceed it by ``pad_to_multiple_of``.
        truncation_mode: ``"keep_start"``, ``"keep_end"`` or ``"error"``.
        attention_mask: ``"auto"``: the samples' own masks, or masks made from lengths. ``"value"``: 1
            where an id is not the pad id (InternVL's way: it masks real tokens that have that id).
            None: no masks.
        extra_keys: What happens to keys that the layout does not name: ``"drop"``, ``"list"``,
            ``"stack"`` or ``"error"``. An unknown key that begins with ``chosen_``, ``rejected_``,
            ``prompt_``, ``ref_``, ``reference_`` or ``pixel_`` is always an error, as it is most likely
            misspelt; ``dataclasses.replace(SEPARATE, ignored=("prompt_id",))`` is a layout that knows
            one more key and does not use it.
        blank_image: Shape of one tile, such as ``(3, 448, 448)``. A batch without any image then gets
            one tile of zeros, float32, with flag 0: for trainers that always run the vision tower
            (ranks without images hang ZeRO-3).
        return_tensors: ``"pt"`` or ``"np"``.
        max_batch_bytes: A batch of more bytes is a MemoryError: token arrays, images and stacked extra
            keys are each added up before their memory is asked for (lists of numbers or of tiles when
            they have been made arrays). None: no limit.
        delivery: ``"auto"``: batches lie in memory that is used again when nothing sees it any more, and that
            a DataLoader worker and the training process share; see :mod:`dpo_collate.delivery`.
            ``"torch"``: new memory for each batch, sent as torch sends tensors.

    Where None is the default, it means the layout's own value, or that there is none;
    ``attention_mask=None`` means no masks.

    Raises:
        ImportError: ``return_tensors="pt"``, and torch is not installed.
        TypeError: An option, or a value in a sample, is of the wrong kind.
        ValueError: An option or a value is wrong; lengths differ; truncation removes what matters.
        KeyError: A key is missing or unknown.
        OverflowError: A number does not fit its array.
        MemoryError: The batch is too large.

    Example:
        >>> from dpo_collate import PreferenceCollator
        >>> collator = PreferenceCollator(pad_token_id=0)
        >>> batch = collator(
        ...     [
        ...         {
        ...             "chosen_input_ids": [5, 6, 7],
        ...             "chosen_labels": [-100, 6, 7],
        ...             "rejected_input_ids": [5, 8],
        ...             "rejected_labels": [-100, 8],
        ...         },
        ...         {
        ...             "chosen_input_ids": [9],
        ...             "chosen_labels": [9],
        ...             "rejected_input_ids": [9, 0, 4],
        ...             "rejected_labels": [-100, 0, 4],
        ...         },
        ...     ]
        ... )
        >>> batch["chosen_input_ids"]
        tensor([[5, 6, 7],
                [9, 0, 0]])
        >>> batch["rejected_attention_mask"]
        tensor([[1, 1, 0],
                [1, 1, 1]])
        >>> collator
        PreferenceCollator(pad_token_id=0)
    """

    layout: str | Layout = "separate"
    _: KW_ONLY
    pad_token_id: int
    label_pad_token_id: int = -100
    padding_side: PaddingSide | None = None
    pad_to_multiple_of: int | None = None
    max_length: int | None = None
    truncation_mode: TruncationMode | None = None
    attention_mask: Literal["auto", "value"] | None = "auto"
    extra_keys: Extra | None = None
    blank_image: tuple[int, ...] | None = None
    return_tensors: Literal["pt", "np"] = "pt"
    max_batch_bytes: int | None = None
    delivery: Literal["auto", "torch"] = "auto"
    # Made of the options, and no fields: `dataclasses.asdict` is for the options.
    _table: ClassVar[Layout]
    _core: ClassVar[Collator]
    _done_by_core: ClassVar[bool]
    _target: ClassVar[Target]

    def __post_init__(self) -> None:
        self._check_options()
        table = _resolved(self)
        tensors = self.return_tensors == "pt"
        target = Target(tensors, "heap" if self.delivery == "torch" else "delivered" if tensors else "private")
        core = Collator(
            table,
            pad_token_id=self.pad_token_id,
            label_pad_token_id=self.label_pad_token_id,
            row=_convert.row,
            number=_convert.number,
            wrap=_from_numpy() if tensors else None,
            max_batch_bytes=self.max_batch_bytes,
            memory=target.memory,
        )
        always = any(medium.blank is not None or not medium.optional for medium in table.media)
        object.__setattr__(self, "_table", table)
        object.__setattr__(self, "_core", core)
        object.__setattr__(self, "_target", target)
        object.__setattr__(self, "_done_by_core", table.returns is None and not always)

    def __call__(self, samples: Sequence[Mapping[str, Any]], *, min_length: int | None = None) -> Batch:
        """Makes a batch of a list of samples.

        Args:
            samples: At least one sample.
            min_length: Least width of this batch, for example the longest of all ranks.
        """
        min_length = 0 if min_length is None else check_count("min_length", min_length, 0)
        if type(samples) is not list or self._table.returns is not None:
            samples = _convert.listed(samples)
        if self._target.memory != "heap":
            ready()
        batch, rest = self._core.collate(samples, min_length)
        if rest is None and self._done_by_core:
            return batch
        return self._finish(batch, rest, samples)

    def _finish(self, batch: Batch, rest: Rest | None, samples: Sequence[Mapping[str, Any]]) -> Batch:
        """Does what the core leaves to do: media, extra keys, the order of keys."""
        table = self._table
        budget = Budget(self.max_batch_bytes, rest.nbytes if rest is not None else 0)
        found = rest.media if rest is not None else {}
        truncated = rest.truncated if rest is not None else ()
        images = _media.combine(found, table.media, truncated, budget, self._target)
        if images:
            batch |= images
            batch = {name: batch[name] for name in table.names() if name in batch}
        if rest is not None and rest.extras:
            batch |= _extras.collect(rest.extras, table.extra, budget, self._target)
        if table.returns == "sample":
            batch = {key: batch[key] for key in (*(key for key in samples[0] if key in batch), *batch)}
        return batch

    def _check_options(self) -> None:
        layout: Any = self.layout
        if not isinstance(layout, Layout) and not (isinstance(layout, str) and layout in NAMED):
            wrong = ValueError if isinstance(layout, str) else TypeError
            names = " or ".join(map(repr, NAMED))
            raise wrong(f"layout={layout!r}: expected {names}, or a dpo_collate.layout.Layout")
        for name in ("pad_token_id", "label_pad_token_id"):
            object.__setattr__(self, name, check_int64(name, getattr(self, name)))
        check_choice("padding_side", self.padding_side, (None, *get_args(PaddingSide)))
        check_choice("truncation_mode", self.truncation_mode, (None, *get_args(TruncationMode)))
        check_choice("attention_mask", self.attention_mask, ("auto", "value", None))
        check_choice("extra_keys", self.extra_keys, (None, *get_args(Extra)))
        check_choice("return_tensors", self.return_tensors, ("pt", "np"))
        check_choice("delivery", self.delivery, ("auto", "torch"))
        for name in ("pad_to_multiple_of", "max_length", "max_batch_bytes"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, check_count(name, getattr(self, name), 1))
        if self.blank_image is not None:
            shape: Any = self.blank_image
            if not isinstance(shape, tuple | list) or not shape:
                raise TypeError(f"blank_image={shape!r}: expected the shape of a tile, such as (3, 448, 448)")
            object.__setattr__(self, "blank_image", tuple(check_count("blank_image", size, 1) for size in shape))

    def _options(self) -> dict[str, Any]:
        return {option.name: getattr(self, option.name) for option in fields(self) if option.init}

    def __getstate__(self) -> dict[str, Any]:
        """The options; what is made of them is made anew."""
        return self._options()

    def __setstate__(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            object.__setattr__(self, name, value)
        self.__post_init__()

    def __repr__(self) -> str:
        defaults = {option.name: option.default for option in fields(self)}
        options = {name: value for name, value in self._options().items() if value != defaults[name]}
        shown = {name: repr(value) for name, value in options.items()}
        if isinstance(self.layout, Layout):
            shown["layout"] = f"<Layout {self.layout.name!r}>"  # the whole table would fill a page
        return f"{type(self).__name__}({', '.join(f'{name}={value}' for name, value in shown.items())})"


def _from_numpy() -> Any:
    """What makes a tensor of an array. torch is imported here: `import dpo_collate` must not need it."""
    try:
        from torch import from_numpy  # noqa: PLC0415
    except ModuleNotFoundError as error:
        hint = "tensors need torch (the extra 'torch' of dpo_collate); PreferenceCollator can give arrays without it"
        raise ModuleNotFoundError(f"{error}; {hint}", name=error.name) from None
    return from_numpy


def _resolved(collator: PreferenceCollator) -> Layout:
    """The layout with the collator's options written into its table."""
    layout = NAMED[collator.layout] if isinstance(collator.layout, str) else collator.layout
    lengths = {
        "multiple_of": collator.pad_to_multiple_of,
        "max_length": collator.max_length,
        "truncation_mode": collator.truncation_mode,
    }
    lengths = {name: value for name, value in lengths.items() if value is not None}
    matrices = []
    for matrix in layout.matrices:
        length = replace(matrix.length, **lengths)  # type: ignore[arg-type]
        matrices.append(replace(matrix, length=length, side=collator.padding_side or matrix.side))
    layout = replace(layout, matrices=tuple(matrices), extra=collator.extra_keys or layout.extra)
    if collator.attention_mask != "auto":
        layout = _with_masks(layout, collator.attention_mask)
    if collator.blank_image is not None:
        layout = _with_blank(layout, collator.blank_image)
    return layout


def _with_masks(layout: Layout, mask: Literal["value"] | None) -> Layout:
    """The layout with masks by value, or without any; the samples' own are ignored."""
    matrices: list[Matrix] = []
    ignored = list(layout.ignored)
    found = False
    for matrix in layout.matrices:
        columns: list[Column] = []
        stems = {stem.removesuffix("_") for row in matrix.rows for stem in row}
        masks = {"attention_mask", "{}attention_mask", *(f"{stem}_attention_mask" for stem in ("{}", *stems))}
        for column in matrix.columns:
            if column.name not in masks:
                columns.append(column)
                continue
            found = True
            if "{}" in column.of:
                ignored.extend(column.of.replace("{}", stem) for row in matrix.rows for stem in row)
            if mask == "value":
                columns.append(replace(column, of="tokens", differs_from="pad_token_id", default=None, optional=False))
        matrices.append(replace(matrix, columns=tuple(columns)))
    if mask == "value" and not found:
        raise ValueError(f"attention_mask={mask!r}: layout {layout.name!r} has no column of that name")
    return replace(layout, matrices=tuple(matrices), ignored=tuple(ignored))


def _with_blank(layout: Layout, shape: tuple[int, ...]) -> Layout:
    """The layout with one blank tile for batches without an image."""
    flagged = {medium.flags_of for medium in layout.media}
    blanks = []
    for medium in layout.media:
        if medium.name in flagged:
            blanks.append(replace(medium, blank=shape))
        else:
            blanks.append(replace(medium, blank=()) if medium.flags_of is not None else medium)
    if not flagged - {None}:
        raise ValueError(f"blank_image={shape!r}: layout {layout.name!r} has no images with flags")
    return replace(layout, media=tuple(blanks))


_SIX_FIELDS = replace(
    _with_masks(SEPARATE, None),
    name="six fields",
    media=tuple(replace(medium, optional=False) for medium in SEPARATE.media),
    scalars=(),
    ignored=(*(f"{side}_attention_mask" for side in PAIR), *(scalar.name for scalar in SEPARATE.scalars)),
)


def dpo_collate(
    samples: Sequence[Mapping[str, Any]], *, pad_token_id: int = 0, label_pad_token_id: int = -100
) -> Batch:
    """Collates preference pairs with images into exactly six fields.

    Chosen and rejected are padded independently, on the right: ``chosen_input_ids`` and
    ``rejected_input_ids`` with ``pad_token_id``, ``chosen_labels`` and ``rejected_labels`` with
    ``label_pad_token_id``, all int64 ``[B, L]``. ``pixel_values`` ``[P, 3, H, W]`` and ``image_flags``
    ``[P]`` are concatenated on dimension 0. Other keys are dropped, unless they begin with ``chosen_``,
    ``rejected_``, ``prompt_``, ``ref_``, ``reference_`` or ``pixel_``: those are most likely misspelt,
    and an error. For pairs without images, masks, truncation and everything else, use
    :class:`PreferenceCollator`.

    Args:
        samples: At least one sample, of which at least one has images.
        pad_token_id: Pads token ids.
        label_pad_token_id: Pads labels.

    Raises:
        TypeError: A value is of the wrong kind.
        ValueError: A value is wrong; lengths differ.
        KeyError: A key is missing, or most likely misspelt.
        OverflowError: A number does not fit int64.
        MemoryError: There is no memory for the batch.

    Example:
        >>> import torch
        >>> from dpo_collate import dpo_collate
        >>> sample = {
        ...     "chosen_input_ids": [1, 2, 3],
        ...     "chosen_labels": [-100, 2, 3],
        ...     "rejected_input_ids": [1, 4],
        ...     "rejected_labels": [-100, 4],
        ...     "pixel_values": torch.zeros(2, 3, 8, 8),
        ...     "image_flags": torch.ones(2, dtype=torch.int64),
        ... }
        >>> batch = dpo_collate([sample, sample])
        >>> list(batch)
        ['chosen_input_ids', 'chosen_labels', 'rejected_input_ids', 'rejected_labels', 'pixel_values', 'image_flags']
        >>> batch["pixel_values"].shape
        torch.Size([4, 3, 8, 8])
    """
    pad_token_id = check_int64("pad_token_id", pad_token_id)
    label_pad_token_id = check_int64("label_pad_token_id", label_pad_token_id)
    return _six_fields(pad_token_id, label_pad_token_id)(samples)


@lru_cache(maxsize=16)
def _six_fields(pad_token_id: int, label_pad_token_id: int) -> PreferenceCollator:
    return PreferenceCollator(_SIX_FIELDS, pad_token_id=pad_token_id, label_pad_token_id=label_pad_token_id)
