"""The options of a collator, written into the table of its layout."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

from .image_tokens import media_of
from .named import named, refuse

if TYPE_CHECKING:
    from .collator import PreferenceCollator
    from .layout import Column, Layout, Matrix

_OF_NAMED = ("inputs", "targets", "images")


def resolved(collator: PreferenceCollator) -> Layout:
    """The layout with the collator's options written into its table.

    Raises:
        ValueError: An option makes no sense with the layout.
    """
    layout = _chosen(collator)
    if collator.buckets is not None and collator.pad_to_multiple_of is not None:
        raise ValueError("buckets and pad_to_multiple_of both round the width: expected one of them")
    lengths: dict[str, Any] = {
        "multiple_of": 1 if collator.buckets is not None else collator.pad_to_multiple_of,
        "buckets": () if collator.pad_to_multiple_of is not None else collator.buckets,
        "row_multiple_of": collator.row_multiple_of,
        "max_length": collator.max_length,
        "truncation_mode": collator.truncation_mode,
    }
    lengths = {name: value for name, value in lengths.items() if value is not None}
    matrices = []
    for matrix in layout.matrices:
        length = replace(matrix.length, **lengths)
        matrices.append(replace(matrix, length=length, side=collator.padding_side or matrix.side))
    layout = replace(
        layout,
        matrices=tuple(matrices),
        media=layout.media if collator.media is None else collator.media,
        scalars=layout.scalars if collator.scalars is None else collator.scalars,
        extra=collator.extra_keys or layout.extra,
    )
    if collator.attention_mask != "auto":
        layout = with_masks(layout, collator.attention_mask)
    if collator.blank_image is not None:
        layout = _with_blank(layout, collator.blank_image)
    for tokens in collator.counted_tokens():
        if not media_of(tokens, layout):
            raise ValueError(f"image_tokens={tokens!r}: layout {layout.name!r} has no medium {tokens.medium!r}")
    return layout


def _chosen(collator: PreferenceCollator) -> Layout:
    """The layout itself, in the form that is asked for."""
    if collator.media is not None and collator.images is not None:
        raise ValueError("images and media both say what images there are: expected one of them")
    if isinstance(collator.layout, str):
        given = {name: getattr(collator, name) for name in ("max_length", "truncation_mode", "padding_side")}
        given["attention_mask"] = None if collator.attention_mask == "auto" else collator.attention_mask
        refuse(collator.layout, given)
        return named(collator.layout, collator.inputs, collator.targets, collator.images)
    for name in _OF_NAMED:
        if getattr(collator, name) is not None:
            raise ValueError(f"{name}={getattr(collator, name)!r}: only a named layout has forms to choose from")
    return collator.layout


def with_masks(layout: Layout, mask: Literal["value"] | None) -> Layout:
    """The layout with masks by value, or without any; the samples' own are ignored."""
    matrices: list[Matrix] = []
    ignored = list(layout.ignored)
    found = False
    for matrix in layout.matrices:
        columns: list[Column] = []
        for column in matrix.columns:
            if not column.name.endswith("attention_mask") and not matrix.tokens.endswith("attention_mask"):
                columns.append(column)
                continue
            found = True
            if column.of == "tokens" and column.differs_from is None:
                raise ValueError(
                    f"attention_mask={mask!r}: layout {layout.name!r} has masks that are rows of their own"
                )
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
