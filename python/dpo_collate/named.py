"""The layouts that have a name, and the options that choose among their forms.

=================  ==========================================================================================
``separate``       InternVL's: chosen and rejected each padded to a width of its own
``concatenated``   ``[2B, L]``, all chosen rows, then all rejected (TRL ≥ 0.29, LLaMA-Factory, ms-swift, …)
``interleaved``    ``[2B, L]``, chosen 0, rejected 0, chosen 1, … (rows as xtuner and Megatron-Bridge order them)
``prompt_left``    prompts padded on the left, chosen and rejected completions on the right (TRL 0.14 to 0.28)
``padding_free``   ``[1, T]``, all chosen rows, then all rejected, end to end; see :mod:`dpo_collate.padding_free`
=================  ==========================================================================================

Example:
    A name stands for a table like any other, from which one can be made that differs:

    >>> import dataclasses
    >>> from dpo_collate import PreferenceCollator
    >>> from dpo_collate.named import SEPARATE
    >>> mine = dataclasses.replace(SEPARATE, ignored=(*SEPARATE.ignored, "prompt_id"))
    >>> PreferenceCollator(mine, pad_token_id=0)
    PreferenceCollator(layout=<Layout 'separate'>, pad_token_id=0)
"""

from __future__ import annotations

from functools import lru_cache
from typing import Literal, TypeAlias, get_args

from ._checks import check_choice
from .layout import RESERVED, Column, Layout, Matrix, Media, Scalar

__all__ = ["IMAGES", "NAMES", "PAIR", "SEPARATE", "Images", "Inputs", "Targets", "named"]

Inputs: TypeAlias = Literal["full", "split"]
Targets: TypeAlias = Literal["labels", "completion_mask"]
Images: TypeAlias = Literal["per_pair", "per_row", "per_side"]

PAIR = ("chosen", "rejected")

NAMES = ("separate", "concatenated", "interleaved", "prompt_left", "padding_free")

IMAGES = (
    Media("pixel_values", ("pixel_values",)),
    Media("image_flags", ("image_flags",), flags_of="pixel_values"),
)
"""InternVL's tiles ``[tiles, 3, H, W]`` and their flags ``[tiles]``."""

_MEDIA = (
    "pixel_values",
    "image_flags",
    "image_grid_thw",
    "image_sizes",
    "pixel_attention_mask",
    "pixel_values_videos",
    "video_grid_thw",
    "second_per_grid_ts",
)
"""What vision models take; concatenated on dimension 0, but in ``prompt_left`` padded or stacked."""

_DESCRIBED = {
    **dict.fromkeys(("image_flags", "image_grid_thw", "image_sizes", "pixel_attention_mask"), "pixel_values"),
    **dict.fromkeys(("video_grid_thw", "second_per_grid_ts"), "pixel_values_videos"),
}
"""Which of them say something of others."""

_NUMBERS = tuple(Scalar(name, (name,), optional=True) for name in ("ref_chosen_logps", "ref_rejected_logps", "margin"))

_PROMPT_ALONE = "its prompts are rows of their own"
_IMPOSSIBLE = {
    "prompt_left": {
        "max_length": f"{_PROMPT_ALONE}, so that a prompt and its completion cannot be truncated together",
        "truncation_mode": f"{_PROMPT_ALONE}, so that a prompt and its completion cannot be truncated together",
        "padding_side": "prompts are padded on the left, completions on the right",
    },
    "padding_free": {
        "padding_side": "its rows lie end to end, so that there is no side to pad",
        "attention_mask": "its rows lie end to end, and cu_seq_lens_q says where each begins",
    },
}
"""By layout the options that make no sense there, and why."""


def named(
    name: str, inputs: Inputs | None = None, targets: Targets | None = None, images: Images | None = None
) -> Layout:
    """The layout of that name.

    Args:
        name: One of ``NAMES``.
        inputs: What samples have. ``"full"``: ``chosen_input_ids`` holds prompt and completion,
            ``chosen_labels`` says which is which. ``"split"``: ``prompt_ids``, ``chosen_ids`` and
            ``rejected_ids``, the latter two being completions. None: ``"full"``; of ``prompt_left``, which
            takes no ``"full"``, a third form: ``prompt_input_ids``, with ``chosen_input_ids`` and
            ``rejected_input_ids`` of completions.
        targets: What the batch has to say what is scored: ``"labels"``, or ``"completion_mask"`` (1 on
            what is). Made of whatever samples have; not of ``prompt_left``, which has neither. None: labels;
            for ``concatenated`` and ``interleaved`` with ``inputs="split"``, TRL's form, its completion mask.
        images: ``"per_pair"``: images are sent once a pair. ``"per_row"``: once for each row, in row
            order, for trainers that hand the batch to the model as it is. ``"per_side"``: the sides have
            images of their own, under ``chosen_pixel_values`` and ``rejected_pixel_values``. None: per
            row where both sides are in one matrix, else per pair.

    Attention masks of the samples, ``{stem}_attention_mask``, are padded with 0, or made from lengths where no
    sample has them; ``padding_free`` has none, and does not look at those of the samples.

    Raises:
        ValueError: There is no such layout, or an option makes no sense with it.

    Example:
        >>> from dpo_collate.named import named
        >>> named("concatenated", inputs="split").names()[:3]
        ('input_ids', 'attention_mask', 'completion_mask')
    """
    check_choice("layout", name, NAMES)
    check_choice("inputs", inputs, (None, *get_args(Inputs)))
    check_choice("targets", targets, (None, *get_args(Targets)))
    check_choice("images", images, (None, *get_args(Images)))
    return _named(name, inputs, targets, images)


@lru_cache(maxsize=64)
def _named(name: str, inputs: Inputs | None, targets: Targets | None, images: Images | None) -> Layout:
    if name == "prompt_left":
        return _prompt_left(inputs, targets, images)
    split = inputs == "split"
    if name == "separate":
        stems = [(("prompt", side),) if split else ((side,),) for side in PAIR]
        matrices = tuple(_matrix(rows, "{}_", split, targets or "labels") for rows in stems)
        return _layout(name, matrices, _media(images or "per_pair", joined=False))
    rows = tuple(("prompt", side) if split else (side,) for side in PAIR)
    media = _media(images or "per_row", joined=True)
    if name == "padding_free":
        return _layout(name, (_flat(rows, split, targets or "labels"),), media)
    matrix = _matrix(rows, "", split, targets or ("completion_mask" if split else "labels"))
    return _layout(name, (matrix,), media)


def refuse(name: str, options: dict[str, object]) -> None:
    """Raises a ValueError for an option that makes no sense with the layout of that name."""
    for option, why in _IMPOSSIBLE.get(name, {}).items():
        if options[option] is not None:
            raise ValueError(f"{option}={options[option]!r}: layout {name!r} takes none, as {why}")


def _layout(name: str, matrices: tuple[Matrix, ...], media: tuple[Media, ...]) -> Layout:
    taken = {key for medium in media for key in medium.keys}
    return Layout(
        name,
        matrices,
        media,
        _NUMBERS,
        order="interleaved" if name == "interleaved" else "grouped",
        # Images under keys that another form of the layout takes would be lost.
        reserved=(*RESERVED, *(key for key in _MEDIA if key not in taken)),
        # Where there is no padding there is nothing to mask, but tokenizers make masks.
        ignored=tuple(f"{stem}_attention_mask" for stem in ("prompt", *PAIR)) if name == "padding_free" else (),
    )


def _ids(prefix: str) -> Column:
    return Column(f"{prefix}input_ids", pad="pad_token_id")


def _mask(prefix: str) -> Column:
    return Column(f"{prefix}attention_mask", of="{}_attention_mask", default="ones")


def _target(prefix: str, targets: Targets, *, split: bool, skip: int = 0) -> Column:
    """What is scored, out of labels or of where the prompt ends."""
    name = f"{prefix}{targets}"
    if targets == "labels":
        if split:
            return Column(name, pad="label_pad_token_id", on=(1,), skip=skip)
        return Column(name, of="{}_labels", pad="label_pad_token_id", skip=skip)
    if split:
        return Column(name, of="ones", on=(1,), skip=skip)
    return Column(name, of="{}_labels", differs_from="label_pad_token_id", skip=skip)


TOKEN_TYPES = tuple(
    Column(name, of=f"{{}}_{name}", pad=0, optional=True) for name in ("token_type_ids", "mm_token_type_ids")
)
"""What some models that are handed the batch want of each token, if samples have it (Gemma, Qwen-VL)."""


def _tokens(*, split: bool) -> str:
    return "{}_ids" if split else "{}_input_ids"


def _matrix(rows: tuple[tuple[str, ...], ...], prefix: str, split: bool, targets: Targets) -> Matrix:  # noqa: FBT001
    """Padded rows."""
    target = _target(prefix, targets, split=split)
    # Each in the order of the trainer that has this layout.
    described = (target, _mask(prefix)) if prefix else (_mask(prefix), target, *TOKEN_TYPES)
    return Matrix(rows, (_ids(prefix), *described), tokens=_tokens(split=split))


def _flat(rows: tuple[tuple[str, ...], ...], split: bool, targets: Targets) -> Matrix:  # noqa: FBT001
    """Rows end to end, named as transformers' ``DataCollatorWithFlattening`` names them."""
    columns = (
        _ids(""),
        # A row's first label would be scored on the last token of the row before.
        _target("", targets, split=split, skip=1),
        *TOKEN_TYPES,
        Column("position_ids", of="position", pad="continue"),
        Column("cu_seq_lens_q", of="cu_seq_lens", dtype="int32"),
        Column("cu_seq_lens_k", of="cu_seq_lens", dtype="int32"),
        Column("max_length_q", of="max_length"),
        Column("max_length_k", of="max_length"),
        Column("seq_idx", of="row", pad=-1, dtype="int32"),
    )
    return Matrix(rows, columns, tokens=_tokens(split=split), flat=True)


def _prompt_left(inputs: Inputs | None, targets: Targets | None, images: Images | None) -> Layout:
    alone = "layout 'prompt_left' has prompts and completions in rows of their own"
    if inputs == "full":
        raise ValueError(f"inputs='full': {alone}, and a full row does not say where its prompt ends")
    if targets is not None:
        raise ValueError(f"targets={targets!r}: {alone}: every token of a completion is scored")
    if images not in {None, "per_pair"}:
        raise ValueError(f"images={images!r}: {alone}, and its trainer repeats the images itself")
    split = inputs == "split"
    columns = (_ids("{}_"), _mask("{}_"))
    matrices = tuple(
        Matrix(((stem,),), columns, tokens=_tokens(split=split), side="left" if stem == "prompt" else "right")
        for stem in ("prompt", *PAIR)
    )
    media = (
        Media("pixel_values", ("pixel_values",), combine="pad"),
        Media("pixel_attention_mask", ("pixel_attention_mask",), combine="pad", describes="pixel_values"),
        Media("image_sizes", ("image_sizes",), combine="stack", describes="pixel_values"),
    )
    # Of the prompt, but padded to a width of its own, as TRL does.
    types = Matrix((("",),), (Column("token_type_ids", pad=0),), tokens="{}token_type_ids", side="left", optional=True)
    return _layout("prompt_left", (*matrices, types), media)


def _media(images: Images, *, joined: bool) -> tuple[Media, ...]:
    """All media; ``joined``: both sides in one matrix."""
    if images == "per_side" and not joined:
        return tuple(_medium(f"{side}_{key}", (f"{side}_{key}",), f"{side}_") for key in _MEDIA for side in PAIR)
    of_pair = {"per_pair": ("{}",), "per_row": ("{}", "{}"), "per_side": tuple(f"{side}_{{}}" for side in PAIR)}
    return tuple(_medium(key, tuple(form.format(key) for form in of_pair[images])) for key in _MEDIA)


def _medium(name: str, keys: tuple[str, ...], prefix: str = "") -> Media:
    of = _DESCRIBED.get(name.removeprefix(prefix))
    if of is None:
        return Media(name, keys)
    if name.endswith("image_flags"):
        return Media(name, keys, flags_of=f"{prefix}{of}")
    return Media(name, keys, describes=f"{prefix}{of}")


SEPARATE = named("separate")
"""The layout ``"separate"`` in its plain form."""
