"""``PreferenceCollator`` and ``dpo_collate``: options in, a resolved layout, batches out."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass, fields, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple, TypeAlias, get_args

from . import _convert
from ._asking import Answer, asking
from ._checks import check_choice, check_count, check_int64, check_tuple
from ._core import Collator
from ._counting import Made, watched_call
from ._finish import Finish
from ._options import resolved, with_masks
from ._pools import Target, ready
from ._samples import first_keys, listed, mappings
from ._wildcards import check_later, expanded, has_wildcards
from .image_tokens import ImageTokens
from .layout import Column, Extra, Layout, Matrix, Media, PaddingSide, Scalar, TruncationMode
from .named import IMAGES, NAMES, PAIR, SEPARATE, Images, Inputs, Targets

if TYPE_CHECKING:
    from ._samples import Samples

Batch: TypeAlias = dict[str, Any]
"""Keys to tensors (to arrays with ``return_tensors="np"``)."""


class _Form(NamedTuple):
    """What makes batches of samples that have the same keys."""

    core: Collator
    finish: Finish
    done_by_core: bool
    """Nothing is left to do where the core says so."""


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
    ``image_grid_thw``, ``image_sizes``, …, if any  the same, concatenated on dimension 0
    ``ref_chosen_logps``, ``ref_rejected_logps``,   the same, float32 ``[B]``
    ``margin``, in all samples or in none
    ==============================================  ==================================================

    The samples may also be the rows of a table: a ``pyarrow.Table`` or ``RecordBatch``, a ``polars.DataFrame``, a
    DuckDB relation, anything that has the Arrow PyCapsule interface, or a list of these, one after the other. Its
    columns are the keys, rows of tokens are lists of integers (of any width), images are lists of lists, and null is
    None. Tokens go from Arrow's memory to the batch in one copy. For data sets see :mod:`dpo_collate.datasets`.

    The other layouts that have a name are ``"concatenated"``, ``"interleaved"``, ``"prompt_left"`` and
    ``"padding_free"``; see :mod:`dpo_collate.named`.

    Samples are never changed. A bad sample raises, and the message names its index in the batch and
    the key. The collator pickles, and may be used for any number of batches and by any number of
    threads.

    Args:
        layout: Name of a layout, or a :class:`dpo_collate.layout.Layout` of your own.
        pad_token_id: Pads token ids. There is no default: a wrong id would go unnoticed.
        label_pad_token_id: Pads labels; what the loss ignores.
        inputs: What samples have, of a named layout: ``"full"``: ``chosen_input_ids`` (the prompt in it) and
            ``chosen_labels``; ``"split"``: ``prompt_ids``, ``chosen_ids`` and ``rejected_ids``. See
            :func:`dpo_collate.named.named`.
        targets: What the batch says of what is scored, of a named layout: ``"labels"`` or
            ``"completion_mask"``.
        padding_side: ``"right"`` or ``"left"``.
        pad_to_multiple_of: Widths are rounded up to a multiple of it; one that fits already stays.
        buckets: Widths are rounded up to the least of these that is large enough, so that a compiled model
            meets few of them; a row that fits none is an error. Not together with ``pad_to_multiple_of``.
        row_multiple_of: Every row is a multiple of it as well: what context parallelism needs.
        max_length: Longer rows are truncated; of a sample with images that is an error, as it could
            cut image tokens, unless there are ``image_tokens``. The width may exceed it by
            ``pad_to_multiple_of``.
        truncation_mode: ``"keep_start"``, ``"keep_end"`` or ``"error"``.
        attention_mask: ``"auto"``: the samples' own masks, or masks made from lengths. ``"value"``: 1
            where an id is not the pad id (InternVL's way: it masks real tokens that have that id).
            None: no masks.
        images: How often images are sent, of a named layout: ``"per_pair"``, ``"per_row"``, or
            ``"per_side"``: each side has its own, ``chosen_pixel_values`` and ``rejected_pixel_values``.
        image_tokens: An :class:`dpo_collate.ImageTokens`, or several: every row is checked to have as many
            image tokens as its images ask for, before truncation and after it.
        media: A table of images in place of the layout's own.
        scalars: A table of numbers in place of the layout's own.
        extra_keys: What happens to keys that the layout does not name: ``"drop"``, ``"list"``,
            ``"stack"`` or ``"error"``. An unknown key that begins with ``chosen_``, ``rejected_``,
            ``prompt_``, ``ref_``, ``reference_`` or ``pixel_`` is always an error, as it is most likely
            misspelt; ``dataclasses.replace(table, ignored=(*table.ignored, "prompt_id"))``, with ``table =
            named("separate")``, is a layout that knows one more key and does not use it.
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
        OSError: A table cannot be read.

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
    inputs: Inputs | None = None
    targets: Targets | None = None
    padding_side: PaddingSide | None = None
    pad_to_multiple_of: int | None = None
    buckets: tuple[int, ...] | None = None
    row_multiple_of: int | None = None
    max_length: int | None = None
    truncation_mode: TruncationMode | None = None
    attention_mask: Literal["auto", "value"] | None = "auto"
    images: Images | None = None
    blank_image: tuple[int, ...] | None = None
    image_tokens: ImageTokens | tuple[ImageTokens, ...] | None = None
    media: tuple[Media, ...] | None = None
    scalars: tuple[Scalar, ...] | None = None
    extra_keys: Extra | None = None
    return_tensors: Literal["pt", "np"] = "pt"
    max_batch_bytes: int | None = None
    delivery: Literal["auto", "torch"] = "auto"
    # Made of the options, and no fields: `dataclasses.asdict` is for the options.
    _table: ClassVar[Layout]
    _target: ClassVar[Target]
    _form: ClassVar[_Form | None]
    """None: it depends on the keys of the samples."""
    _forms: ClassVar[dict[tuple[str, ...], _Form]]

    def __post_init__(self) -> None:
        self._check_options()
        tensors = self.return_tensors == "pt"
        target = Target(tensors, "heap" if self.delivery == "torch" else "delivered" if tensors else "private")
        table = resolved(self)
        made = {"_table": table, "_target": target, "_forms": {}}
        for name, value in made.items():
            object.__setattr__(self, name, value)
        object.__setattr__(self, "_form", None if has_wildcards(table) else self._form_of(table))

    def _form_of(self, table: Layout) -> _Form:
        core = Collator(
            table,
            pad_token_id=self.pad_token_id,
            label_pad_token_id=self.label_pad_token_id,
            row=_convert.unbatched_row if table.unbatch else _convert.row,
            number=_convert.number,
            wrap=_from_numpy() if self._target.tensors else None,
            max_batch_bytes=self.max_batch_bytes,
            memory=self._target.memory,
            counted=sorted({tokens.id for tokens in self.counted_tokens()}),
        )
        finish = Finish(table, self.counted_tokens(), self.max_batch_bytes, self._target)
        return _Form(core, finish, not finish.has_more())

    def __call__(self, samples: Samples, *, min_length: int | None = None) -> Batch:
        """Makes a batch of a list of samples, or of a table.

        Args:
            samples: At least one sample; or a table whose rows are the samples, or several.
            min_length: Least width of this batch, for example the longest of all ranks.

        Returns:
            A dict of keys to tensors (to arrays with ``return_tensors="np"``) and, where the layout says so, ints
            and lists; or the nest of them that the layout's ``returns`` is.
        """
        min_length = 0 if min_length is None else check_count("min_length", min_length, 0)
        if asking.get():
            raise Answer(self, min_length)
        form = self._form
        plain = type(samples) is list and samples and type(samples[0]) is dict
        # A list of our own in either case, as Python code in samples may change theirs: `form.finish` counts them.
        given: Any = samples
        samples = list(given) if plain and form is not None and form.done_by_core else listed(given)
        if self._table.sample is not None:
            samples = mappings(samples, self._table.sample)
        if form is None:
            form = self._form_for(samples)
        if self._target.memory != "heap":
            ready()
        counting = watched_call.get()
        taken: list[Any] | None = None if counting is None else []
        batch, rest = form.core.collate(samples, min_length, taken)
        done = batch if rest is None and form.done_by_core else form.finish(batch, rest, samples)
        if counting is not None and taken is not None:
            # (To finish a batch adds the media to `batch` itself, whatever nest it makes of it.)
            count = len(samples)  # type: ignore[arg-type] # a list, or a table, by now
            counting.append(Made(form.finish, count, taken, dict(batch)))
        return done

    def _form_for(self, samples: Samples) -> _Form:
        """The form for the keys of the first sample, which all samples must have."""
        keys = first_keys(samples)
        if not keys:
            return self._form_of(_ANY)  # whose core says what is wrong with the samples
        form = self._forms.get(keys)
        if form is None:
            if len(self._forms) >= _FORMS:
                self._forms.clear()
            form = self._forms.setdefault(keys, self._form_of(expanded(self._table, keys)))
        check_later(self._table, form.finish.table, samples)
        return form

    def counted_tokens(self) -> tuple[ImageTokens, ...]:
        """What ``image_tokens`` says, as a tuple."""
        tokens = self.image_tokens
        return tokens if isinstance(tokens, tuple) else () if tokens is None else (tokens,)

    def _check_options(self) -> None:
        layout: Any = self.layout
        if not isinstance(layout, Layout) and not (isinstance(layout, str) and layout in NAMES):
            wrong = ValueError if isinstance(layout, str) else TypeError
            names = ", ".join(map(repr, NAMES))
            raise wrong(f"layout={layout!r}: expected {names}, or a dpo_collate.layout.Layout")
        self._check_choices()
        self._check_numbers()
        for name, kind in (("media", Media), ("scalars", Scalar)):
            if getattr(self, name) is not None:
                check_tuple(name, getattr(self, name), kind)
        if self.image_tokens is not None and not isinstance(self.image_tokens, ImageTokens):
            check_tuple("image_tokens", self.image_tokens, ImageTokens)
        if len({tokens.id for tokens in self.counted_tokens()}) < len(self.counted_tokens()):
            raise ValueError(f"image_tokens={self.image_tokens!r}: expected tokens of different ids")

    def _check_choices(self) -> None:
        choices: dict[str, tuple[object, ...]] = {
            "padding_side": (None, *get_args(PaddingSide)),
            "truncation_mode": (None, *get_args(TruncationMode)),
            "attention_mask": ("auto", "value", None),
            "extra_keys": (None, *get_args(Extra)),
            "return_tensors": ("pt", "np"),
            "delivery": ("auto", "torch"),
        }
        for name, allowed in choices.items():
            check_choice(name, getattr(self, name), allowed)

    def _check_numbers(self) -> None:
        """Checks numbers, and makes Python's integers of them."""
        for name in ("pad_token_id", "label_pad_token_id"):
            if name == "pad_token_id" and self.pad_token_id is None:
                raise TypeError(
                    "pad_token_id=None: expected an integer; of a tokenizer without a pad token, set "
                    "tokenizer.pad_token = tokenizer.eos_token first"
                )
            object.__setattr__(self, name, check_int64(name, getattr(self, name)))
        for name in ("pad_to_multiple_of", "row_multiple_of", "max_length", "max_batch_bytes"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, check_count(name, getattr(self, name), 1))
        several = {
            "buckets": "widths, such as [512, 1024]",
            "blank_image": "the shape of a tile, such as (3, 448, 448)",
        }
        for name, expected in several.items():
            value = getattr(self, name)
            if value is not None:
                if not isinstance(value, tuple | list) or not value:
                    raise TypeError(f"{name}={value!r}: expected {expected}")
                object.__setattr__(self, name, tuple(check_count(name, number, 1) for number in value))

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


_FORMS = 64
"""Sets of keys whose form is kept. (A data set has a few.)"""

_ANY = Layout("any", (Matrix((("any",),), (Column("any"),)),))

_SIX_FIELDS = replace(
    with_masks(SEPARATE, None),
    name="six fields",
    media=tuple(replace(medium, optional=False) for medium in IMAGES),
    scalars=(),
    ignored=(*(f"{side}_attention_mask" for side in PAIR), *(scalar.name for scalar in SEPARATE.scalars)),
)


def dpo_collate(samples: Samples, *, pad_token_id: int = 0, label_pad_token_id: int = -100) -> Batch:
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
