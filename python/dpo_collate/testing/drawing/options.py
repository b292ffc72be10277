"""Hypothesis strategies: collators of named layouts with options, and of tables of one's own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hypothesis import strategies as st

from dpo_collate.collator import PreferenceCollator
from dpo_collate.image_tokens import ImageTokens
from dpo_collate.layout import Layout
from dpo_collate.named import NAMES

from .picking import pick, seldom
from .tables import IDS, layouts, wild_layouts

if TYPE_CHECKING:
    from collections.abc import Mapping

ANY: dict[str, tuple[Any, ...]] = {
    "max_length": (8, 1, 4, 9),
    "truncation_mode": ("keep_start", "keep_end", "error"),
    "row_multiple_of": (2, 3),
    "extra_keys": ("drop", "list", "stack", "error"),
    "return_tensors": ("pt", "np"),
}
"""Options that every layout takes."""

NAMED: dict[str, tuple[Any, ...]] = {
    **ANY,
    "inputs": ("full", "split"),
    "targets": ("labels", "completion_mask"),
    "images": ("per_pair", "per_row", "per_side"),
    "padding_side": ("right", "left"),
    "attention_mask": ("value", None),
    "blank_image": ((3, 2, 2), (1,)),
    "image_tokens": (ImageTokens(7, per_tile=2), ImageTokens(7, per_grid=2)),
}
"""Options of the named layouts."""

WIDTHS: tuple[dict[str, Any], ...] = (
    {},
    {"pad_to_multiple_of": 8},
    {"pad_to_multiple_of": 7},
    {"buckets": (6, 12, 1200)},
)
"""What a width is rounded to: one or the other."""

MEANINGLESS: dict[str, tuple[str, ...]] = {
    "prompt_left": ("max_length", "truncation_mode", "padding_side", "targets", "images", "blank_image"),
    "padding_free": ("padding_side", "attention_mask"),
}
"""What makes no sense with a layout."""


@st.composite
def drawn_collators(
    draw: st.DrawFn, layouts_: st.SearchStrategy[str | Layout] | None, given: Mapping[str, Any]
) -> PreferenceCollator:
    """See :func:`dpo_collate.testing.collators`."""
    ids = {"pad_token_id": 0, "label_pad_token_id": -100} if layouts_ is not None else draw(IDS)
    ids |= {name: given[name] for name in ids if name in given}
    if layouts_ is None:
        layouts_ = st.one_of(st.sampled_from(NAMES), layouts(ids), wild_layouts(ids))
    layout = draw(layouts_)
    options: dict[str, Any] = {**draw(_options(layout, given)), **ids, **given}
    return PreferenceCollator(layout, **options)


@st.composite
def _options(draw: st.DrawFn, layout: Any, given: Mapping[str, Any]) -> dict[str, Any]:
    """Some options that make sense with the layout, and with those that are given."""
    choices = dict(ANY if isinstance(layout, Layout) else NAMED)
    for name in MEANINGLESS.get(layout, ()) if isinstance(layout, str) else ():
        del choices[name]
    if layout == "prompt_left":
        choices |= {"inputs": ("split",), "image_tokens": (ImageTokens(7, per_tile=2),)}
    if isinstance(layout, Layout) and layout.returns not in (None, "sample"):
        choices["extra_keys"] = ("drop", "error")
    if "media" in given:
        for name in ("images", "blank_image", "image_tokens"):
            choices.pop(name, None)
    # As many draws whichever are there: so each can go while a counterexample shrinks.
    drawn = {name: (seldom(draw, 5), pick(draw, choices[name])) for name in sorted(choices.keys() - given.keys())}
    found = {name: value for name, (there, value) in drawn.items() if there}
    rounded = isinstance(layout, Layout) and any(matrix.length.buckets for matrix in layout.matrices)
    if rounded or "buckets" in given:
        found.pop("row_multiple_of", None)  # of which buckets would have to be multiples
    if not {"buckets", "pad_to_multiple_of"} & given.keys():
        found |= pick(draw, WIDTHS)
    return found
