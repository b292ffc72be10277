"""What is meant by a layout and options: a table, and what a collator knows that no table says."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from dpo_collate._behind import behind
from dpo_collate._checks import check_int64
from dpo_collate.collator import PreferenceCollator
from dpo_collate.layout import Layout
from dpo_collate.named import NAMES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dpo_collate.image_tokens import ImageTokens

_OPTIONS = tuple(
    field.name
    for field in fields(PreferenceCollator)
    if field.name not in {"layout", "pad_token_id", "label_pad_token_id"}
)


@dataclass(frozen=True)
class Meant:
    """A table, and the rest of what makes a batch of samples."""

    table: Layout
    """With all options in it."""
    pad_token_id: int
    label_pad_token_id: int
    min_length: int = 0
    """Least width of every matrix, besides the table's own."""
    image_tokens: tuple[ImageTokens, ...] = ()
    arrays: bool = False
    """Whether the batch is of NumPy's arrays, which are never bfloat16."""

    @property
    def ids(self) -> dict[str, int]:
        """The ids that a table calls by these names."""
        return {"pad_token_id": self.pad_token_id, "label_pad_token_id": self.label_pad_token_id}


def meant(
    layout: Any,
    pad_token_id: int | None,
    label_pad_token_id: int | None,
    options: Mapping[str, Any],
    default: int | None,
) -> Meant:
    """What is meant by a layout, as everything in :mod:`dpo_collate.testing` takes it.

    Args:
        layout: The name of a layout, a table, a collator, a drop-in, or a function that calls one of these.
        pad_token_id: None: not given.
        label_pad_token_id: None: not given.
        options: Those of ``PreferenceCollator``, for a name or a table.
        default: The pad id where none is given; None: one must be given.

    Raises:
        TypeError: The layout is nothing of the kind; an option is unknown, of the wrong kind, or missing.
        ValueError: An option makes no sense with the layout, or belongs to a collator that has its own.
    """
    for name, value in options.items():
        if name not in _OPTIONS:
            raise TypeError(f"{name}={value!r}: expected an option of PreferenceCollator: {', '.join(_OPTIONS)}")
    ids = {"pad_token_id": pad_token_id, "label_pad_token_id": label_pad_token_id}
    given: dict[str, Any] = {name: check_int64(name, value) for name, value in ids.items() if value is not None}
    if not isinstance(layout, str | Layout):
        answer = behind(layout, f"{', '.join(map(repr, NAMES))}, a dpo_collate.layout.Layout, ")
        for name, value in {**given, **options}.items():
            raise ValueError(f"{name}={value!r}: a collator has its options, expected none beside it")
        return _of(answer.collator, answer.min_length)
    if default is not None:
        given.setdefault("pad_token_id", default)
    if "pad_token_id" not in given:
        raise TypeError("pad_token_id is missing: only a collator has one already")
    if isinstance(layout, Layout) and not options:
        return Meant(layout, given["pad_token_id"], given.get("label_pad_token_id", -100))
    return _of(PreferenceCollator(layout, **given, **options), 0)


def _of(collator: PreferenceCollator, min_length: int) -> Meant:
    return Meant(
        collator._table,  # noqa: SLF001 - of this package
        collator.pad_token_id,
        collator.label_pad_token_id,
        min_length,
        collator.counted_tokens(),
        arrays=collator.return_tensors == "np",
    )
