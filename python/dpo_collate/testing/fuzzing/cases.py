"""What a fuzz run tries: collators of every layout, and batches for them of every kind of object."""

from __future__ import annotations

import importlib
from dataclasses import dataclass, fields
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from hypothesis import reject
from hypothesis import strategies as st

from dpo_collate.collator import PreferenceCollator
from dpo_collate.named import NAMES
from dpo_collate.testing.comparing import told
from dpo_collate.testing.drawing.batches import Wishes, drawn_batches
from dpo_collate.testing.drawing.kinds import KINDS
from dpo_collate.testing.drawing.media import ARRAY_DTYPES, TILE_DTYPES
from dpo_collate.testing.drawing.options import ANY, MEANINGLESS, NAMED
from dpo_collate.testing.drawing.picking import pick
from dpo_collate.testing.drawing.strategies import arrow_tables, collators
from dpo_collate.testing.drawing.tables import IDS, layouts, wild_layouts
from dpo_collate.testing.reference.collating import reference_batch
from dpo_collate.testing.reference.meant import meant

from .properties import ERRORS, Told

if TYPE_CHECKING:
    from collections.abc import Sequence

MIXED: Final = "mixed"
ARROW: Final = "Arrow"
WITH_MIN_LENGTH: Final = "min_length"

DROP_INS: Final[dict[str, tuple[str, dict[str, tuple[Any, ...]]]]] = {
    "internvl": ("internvl:dpo_concat_pad_data_collator", {"pad_id": (0, 7)}),
    "internvl_gpt_oss": ("internvl_gpt_oss:dpo_concat_pad_data_collator", {"pad_id": (0, 7)}),
    "torchtune": ("torchtune:padded_collate_dpo", {"padding_idx": (0, 7), "pad_to_multiple_of": (1, 8)}),
    "trl": ("trl:DataCollatorForPreference", {"pad_token_id": (0, 7), "pad_to_multiple_of": (None, 8)}),
    "trl_reward": ("trl_reward:DataCollatorForPreference", {"pad_token_id": (0, 7), "pad_to_multiple_of": (None, 8)}),
    "trl_kto": ("trl_kto:DataCollatorForUnpairedPreference", {"pad_token_id": (0, 7)}),
    "trl_legacy": ("trl_legacy:DataCollatorForPreference", {"pad_token_id": (0, 7)}),
    "trl_padding": ("trl_legacy:DPODataCollatorWithPadding", {"pad_token_id": (0, 7)}),
    "xtuner": ("xtuner:preference_collate_fn", {"pad_index": (0, 7), "return_hf_format": (False, True)}),
}
"""Drop-ins by name: where they are, and what their arguments may be. (Those that ask for a tokenizer, and
InternVL's for single responses, whose order of keys is no table's, are not here.)"""

RANDOM: Final = ("random", "wildcards")
"""Tables of one's own, and such with ``"*"``."""

SUBJECTS: Final[tuple[str, ...]] = (*NAMES, *RANDOM, *DROP_INS)
"""What there is to try, by name."""

ALL_KINDS: Final = (*KINDS, MIXED, ARROW)


def options_of(subject: str) -> tuple[str, ...]:
    """The options that a subject may be drawn with."""
    if subject in DROP_INS:
        return tuple(DROP_INS[subject][1])
    known = ANY if subject in RANDOM else NAMED
    names = (*known, "pad_to_multiple_of", "buckets", "label_pad_token_id", WITH_MIN_LENGTH)
    return tuple(name for name in names if name not in MEANINGLESS.get(subject, ()))


@dataclass(frozen=True)
class Case:
    """One batch, and what should come of it."""

    subject: str
    kind: str
    """Of all values of the samples, ``MIXED`` or ``ARROW``."""
    collate: Any
    options: tuple[str, ...]
    """Those that are not as they are by default."""
    samples: Any
    expected: Told
    min_length: int | None
    agree: bool
    """No sample has bfloat16 images."""
    rows: int


def subjects(wanted: str) -> tuple[str, ...]:
    """The subjects of that name: ``"all"``, ``"random"`` (both kinds of random tables), or one of them.

    Raises:
        ValueError: There is none.
    """
    if wanted == "all":
        return SUBJECTS
    if wanted == "random":
        return RANDOM
    if wanted not in SUBJECTS:
        raise ValueError(f"layout {wanted!r}: expected 'all', {', '.join(map(repr, SUBJECTS))}")
    return (wanted,)


@st.composite
def cases(draw: st.DrawFn, subject: str, kinds: Sequence[str] = ALL_KINDS) -> Case:
    """Any batch for a subject.

    Args:
        draw: Hypothesis'.
        subject: One of ``SUBJECTS``.
        kinds: Those that values may be of.
    """
    collate, options = draw(_made(subject))
    kind = pick(draw, kinds)
    agree = kind == ARROW or draw(st.booleans())
    min_length = pick(draw, (None, None, 3, 16)) if isinstance(collate, PreferenceCollator) else None
    what = meant(collate, None, None, {}, None)
    if kind == ARROW:
        samples, given = draw(arrow_tables(collate))
    else:
        dtypes = ARRAY_DTYPES if agree or what.arrays else TILE_DTYPES
        families = KINDS if kind == MIXED else (kind,)
        samples = given = draw(drawn_batches(what, Wishes(tile_dtypes=dtypes), families)).samples
    try:
        expected = told(reference_batch(samples, what, min_length or 0))
    except ERRORS as error:
        expected = ("an error", type(error).__name__)
    if min_length is not None:
        options = (*options, WITH_MIN_LENGTH)
    return Case(subject, kind, collate, options, given, expected, min_length, agree, len(samples))


@st.composite
def _made(draw: st.DrawFn, subject: str) -> tuple[Any, tuple[str, ...]]:
    """A collator or drop-in, and which of its options are not as they are by default."""
    if subject in DROP_INS:
        place, choices = DROP_INS[subject]
        module, _, name = place.partition(":")
        found = getattr(importlib.import_module(f"dpo_collate.trainers.{module}"), name)
        given = {option: pick(draw, values) for option, values in choices.items() if draw(st.booleans())}
        needed = {"pad_token_id": 0} if isinstance(found, type) else {}
        made = found(**needed | given) if isinstance(found, type) else partial(found, **given)
        return made, tuple(given)
    try:
        # A table with bool columns goes with some ids alone.
        ids = {} if subject in NAMES else draw(IDS)
        collator = draw(collators(_layouts(subject, ids), **ids))
    except ValueError:  # an option does not go with the table
        reject()
    changed = (f.name for f in fields(collator) if f.name != "layout" and getattr(collator, f.name) != f.default)
    return collator, tuple(changed)


def _layouts(subject: str, ids: dict[str, int]) -> st.SearchStrategy[Any]:
    if subject in NAMES:
        return st.just(subject)
    return wild_layouts(ids) if subject == "wildcards" else layouts(ids)
