"""The collator against the reference: any layout, any options, any kind of object, wrong samples too."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from hypothesis import assume, event, given
from hypothesis import strategies as st

from dpo_collate import PreferenceCollator
from dpo_collate.layout import Column, Layout, Length, Matrix, Media, Scalar
from dpo_collate.named import NAMES
from dpo_collate.testing import KINDS, Array, batches, collators, layouts, reference_collate
from dpo_collate.testing.comparing import described, fingerprint
from dpo_collate.testing.drawing.batches import Wishes, drawn_batches
from dpo_collate.testing.drawing.dressing import kinds_of, makers_of
from dpo_collate.testing.drawing.kinds import row_kinds
from dpo_collate.testing.drawing.media import ARRAY_DTYPES
from dpo_collate.testing.drawing.rows import domains
from dpo_collate.testing.drawing.tables import IDS, STEMS, wild_layouts
from dpo_collate.testing.reference.meant import Meant
from fewer import fewer

if TYPE_CHECKING:
    from dpo_collate.testing.reference.cells import Number


def check(collator: PreferenceCollator, samples: list[Any], layout: Any, **options: Any) -> Any:
    """The batch is that of the reference; the samples stay as they are."""
    before = fingerprint(samples)
    found = result(collator, samples, min_length=options.get("min_length"))
    expected = result(reference_collate, samples, layout, **options)
    event(kind_of(expected))
    assert found == expected
    assert fingerprint(samples) == before
    return found


def result(collate: Any, *arguments: Any, **options: Any) -> Any:
    """What comes out, nest and all, in such a form that it can be compared; or which exception there is instead."""
    try:
        batch = collate(*arguments, **options)
    except (TypeError, ValueError, KeyError, OverflowError) as error:
        return type(error)
    return told(batch)


def told(value: Any) -> Any:
    if isinstance(value, dict):
        return "a dict", [(key, told(part)) for key, part in value.items()]
    if isinstance(value, tuple):
        return "a tuple", [told(part) for part in value]
    if isinstance(value, list | Array) or hasattr(value, "dtype"):
        return described(value)
    return type(value).__name__, value


def kind_of(expected: Any) -> str:
    return expected.__name__ if isinstance(expected, type) else "a batch"


# --- the named layout, with options ---------------------------------------------------------------

OPTIONS: dict[str, list[Any]] = {
    "label_pad_token_id": [-100, -1, 0],
    "padding_side": ["left", "right"],
    "pad_to_multiple_of": [1, 2, 8, 7],
    "max_length": [1, 4, 9],
    "truncation_mode": ["keep_start", "keep_end", "error"],
    "attention_mask": ["auto", "value", None],
    "extra_keys": ["drop", "list", "stack", "error"],
    "blank_image": [(3, 2, 2), [1]],
}


@st.composite
def options(draw: st.DrawFn) -> dict[str, Any]:
    chosen = draw(st.lists(st.sampled_from(sorted(OPTIONS)), unique=True))
    drawn: dict[str, Any] = {name: draw(st.sampled_from(OPTIONS[name])) for name in chosen}
    return {"pad_token_id": draw(st.sampled_from([0, 1, 151643, -1])), **drawn}


def separate(given: dict[str, Any]) -> Layout:
    """What the layout "separate" with options means, written out."""
    blank = given.get("blank_image")
    length = Length(
        max_length=given.get("max_length"),
        truncation_mode=given.get("truncation_mode", "keep_start"),
        multiple_of=given.get("pad_to_multiple_of", 1),
    )
    mask = given.get("attention_mask", "auto")
    masks = {
        "auto": [Column("{}_attention_mask", of="{}_attention_mask", default="ones")],
        "value": [Column("{}_attention_mask", differs_from="pad_token_id")],
        None: [],
    }
    matrices = tuple(
        Matrix(
            rows=((side,),),
            columns=(
                Column("{}_input_ids", pad="pad_token_id"),
                Column("{}_labels", of="{}_labels", pad="label_pad_token_id"),
                *masks[mask],
            ),
            side=given.get("padding_side", "right"),
            length=length,
        )
        for side in ("chosen", "rejected")
    )
    return Layout(
        "written out",
        matrices=matrices,
        media=(
            Media("pixel_values", ("pixel_values",), blank=None if blank is None else tuple(blank)),
            Media("image_flags", ("image_flags",), blank=None if blank is None else (), flags_of="pixel_values"),
        ),
        scalars=tuple(
            Scalar(f"{key}", (key,), optional=True) for key in ("ref_chosen_logps", "ref_rejected_logps", "margin")
        ),
        extra=given.get("extra_keys", "drop"),
        ignored=("chosen_attention_mask", "rejected_attention_mask") if masks[mask] == [] else (),
    )


@given(st.data(), options(), st.sampled_from(["pt", "np"]), st.sampled_from([None, 0, 1, 9]))
def test_named_layout_matches_reference(
    data: st.DataObject, given: dict[str, Any], tensors: str, min_length: int | None
) -> None:
    collator = PreferenceCollator(return_tensors=tensors, **given)  # type: ignore[arg-type]
    ids = {name: id_ for name, id_ in given.items() if name in ("pad_token_id", "label_pad_token_id")}
    # The samples may have masks of their own, whatever becomes of them.
    drawn_from = separate(
        given if given.get("attention_mask", "auto") == "auto" else {**given, "attention_mask": "auto"}
    )
    tile_dtypes = None if tensors == "pt" else ARRAY_DTYPES
    samples = data.draw(batches(drawn_from, tile_dtypes=tile_dtypes, **ids))
    check(collator, samples, separate(given), **ids, min_length=min_length or 0)


@given(st.data(), st.sampled_from([0, 0, 3, 16]))
def test_any_collator_of_a_name_matches_reference(data: st.DataObject, min_length: int) -> None:
    collator = data.draw(collators(st.sampled_from(NAMES)))
    check(collator, data.draw(batches(collator)), collator, min_length=min_length)


# --- layouts of one's own -------------------------------------------------------------------------


@given(st.data(), IDS, st.sampled_from(["pt", "np"]), st.sampled_from([0, 0, 3, 16]))
def test_any_layout_matches_reference(data: st.DataObject, ids: dict[str, Any], tensors: Any, min_length: int) -> None:
    layout = data.draw(layouts(**ids))
    collator = PreferenceCollator(layout, return_tensors=tensors, **ids)
    check(collator, data.draw(batches(collator)), layout, **ids, min_length=min_length)


@given(st.data(), IDS)
def test_tensors_and_arrays_agree(data: st.DataObject, ids: dict[str, Any]) -> None:
    layout = data.draw(layouts(**ids))
    plain = data.draw(batches(layout, kinds="plain", tile_dtypes=ARRAY_DTYPES, **ids))
    tensors = result(PreferenceCollator(layout, return_tensors="pt", **ids), plain)
    assert result(PreferenceCollator(layout, return_tensors="np", **ids), plain) == tensors


# --- layouts that depend on the samples -----------------------------------------------------------


@given(st.data(), IDS, st.sampled_from(["pt", "np"]))
@fewer(2)
def test_any_layout_with_wildcards_matches_reference(data: st.DataObject, ids: dict[str, Any], tensors: Any) -> None:
    wild = data.draw(wild_layouts(ids))
    collator = PreferenceCollator(wild, return_tensors=tensors, **ids)
    for _ in range(data.draw(st.integers(1, 3))):
        # Batches of one collator may differ in their keys, or in the order of their keys.
        samples, tame = data.draw(drawn_batches(Meant(wild, **ids), Wishes(tile_dtypes=ARRAY_DTYPES), KINDS))
        found = check(collator, samples, wild, **ids)
        tokens = {matrix.tokens.replace("{}", row[0]) for matrix in tame.matrices for row in matrix.rows}
        if all(sample.keys() == samples[0].keys() >= tokens for sample in samples):
            # The same as a table that names what there is, in the order of that table.
            written_out = result(reference_collate, samples, tame, **ids)
            assert kind_of(found) == kind_of(written_out)
            if kind_of(found) == "a batch":
                assert dict(found[1]) == dict(written_out[1])


@given(st.lists(st.lists(st.sampled_from(STEMS), unique=True), min_size=1, max_size=4))
@fewer(2)
def test_key_sets_that_change_match_reference(batches: list[list[str]]) -> None:
    matrix = Matrix((("*",),), (Column("{}_ids"), Column("{}_mask", of="ones")), tokens="{}_ids")
    named = Matrix((("KL",),), (Column("of all"),), tokens="{}_ids", optional=True)
    margin = Scalar("*_margin", ("*_margin",), optional=True)
    layout = Layout("wild", (matrix, named), scalars=(margin,), reserved=())
    collator = PreferenceCollator(layout, pad_token_id=9)
    for stems in batches:
        first = {f"{stem}_ids": [7] * at for at, stem in enumerate(stems)} | {"note": 0}
        # The second sample has one more margin: the first decides that it is none.
        second = {**first, "other_margin": 0.5}
        for samples in ([first], [first, second], [second, first], [second, second]):
            expected = result(reference_collate, samples, layout, pad_token_id=9)
            assert result(collator, samples) == expected


# --- counts that do not fit -----------------------------------------------------------------------


@given(
    st.sampled_from([("position", 0), ("position", "continue"), ("row", -1), ("segment", 0)]),
    st.sampled_from([("int32", 2**31), ("int32", -(2**31)), ("int64", 2**63), ("int64", -(2**63))]),
    st.integers(-6, 2),
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=3),
    st.fixed_dictionaries({"flat": st.booleans(), "multiple": st.sampled_from([1, 4])}),
)
def test_counts_at_the_ends_of_their_type_match_reference(
    shows: tuple[str, Any],
    end: tuple[Any, int],
    distance: int,
    lengths: list[tuple[int, int]],
    shape: dict[str, Any],
) -> None:
    (of, pad), (dtype, edge) = shows, end
    start = edge + distance
    assume(-(2**63) <= start < 2**63)
    column = Column("count", of, pad, dtype, start=start)
    multiples = {"multiple_of": shape["multiple"], "row_multiple_of": shape["multiple"]}
    length = Length(**multiples, max_length=5, truncation_mode="keep_end")
    layout = Layout("count", (Matrix((("a", "b"),), (column,), tokens="{}_ids", flat=shape["flat"], length=length),))
    samples = [{"a_ids": [7] * a, "b_ids": [7] * b} for a, b in lengths]
    expected = result(reference_collate, samples, layout, pad_token_id=0)
    event(kind_of(expected))
    assert result(PreferenceCollator(layout, pad_token_id=0), samples) == expected


# --- rows of a batch of one -----------------------------------------------------------------------

TWO_DIMENSIONS: dict[str, Any] = {
    "none": lambda row: row,
    "list of a list": lambda row: [row],
    "tuple of a tuple": lambda row: (tuple(row),),
    "list of a tensor": lambda row: [torch.tensor(row, dtype=torch.int64)],
    "tuple of an array": lambda row: (np.array(row, np.int32),),
    "tensor": lambda row: torch.tensor([row], dtype=torch.int64),
    "array": lambda row: np.array([row], np.int16),
    "wide tensor": lambda row: torch.tensor([row, row]),
    "list of two lists": lambda row: [row, row],
    "three dimensions": lambda row: torch.tensor([[row]]),
    "list of a [1, L] tensor": lambda row: [torch.tensor([row])],
}


@pytest.mark.parametrize("labels", TWO_DIMENSIONS)
@pytest.mark.parametrize("ids", TWO_DIMENSIONS)
@pytest.mark.parametrize("row", [[5], [5, 6, 7]])
def test_rows_of_a_batch_of_one_match_reference(row: list[int], ids: str, labels: str) -> None:
    layout = Layout("one", (Matrix((("c",),), (Column("ids"), Column("labels", of="{}_labels"))),), unbatch=True)
    sample = {"c_input_ids": TWO_DIMENSIONS[ids](row), "c_labels": TWO_DIMENSIONS[labels](row)}
    expected = result(reference_collate, [sample], layout, pad_token_id=0)
    found = result(PreferenceCollator(layout, pad_token_id=0), [sample])
    # A row of the wrong shape is a ValueError or, if it is a list, a TypeError; each may have one fault.
    assert found == expected or {kind_of(found), kind_of(expected)} == {"TypeError", "ValueError"}
    good = list(TWO_DIMENSIONS)[:7]
    assert (kind_of(found) == "a batch") == (ids in good and labels in good)


# --- every kind of object -------------------------------------------------------------------------

EVERYTHING = Layout(
    "everything",
    matrices=(
        Matrix(
            rows=(("prompt", "chosen"), ("prompt", "rejected")),
            tokens="{}_ids",
            columns=(
                Column("input_ids", pad="pad_token_id"),
                Column("labels", of="{}_labels", pad="label_pad_token_id", on=(1,)),
                Column("types", of="{}_types", dtype="int32", optional=True),
                Column("mask", of="{}_mask", dtype="bool", default="ones"),
                Column("weights", of="{}_weights", pad=-0.5, dtype="float32", optional=True),
            ),
            side="left",
        ),
    ),
    media=(
        Media("pixel_values", ("chosen_pixels", "rejected_pixels")),
        Media("flags", ("chosen_flags", "rejected_flags"), flags_of="pixel_values"),
    ),
    scalars=(
        Scalar("margin", ("margin",)),
        Scalar("count", ("chosen_count", "rejected_count"), "int32", optional=True),
    ),
    extra="stack",
)


@pytest.mark.parametrize(
    "values",
    [
        [],
        [7],
        [0, 1, 1, 0],
        [1, 2, -100, 127],
        [300, -(2**31), 2**31 - 1],
        [2**53 + 1, -(2**63)],
        [0.5, -1.5, 2.25],
        [0.1, 1],
    ],
)
@pytest.mark.parametrize("length", [1, 100])
def test_every_kind_of_row_matches_a_list(values: list[Number], length: int) -> None:
    column = Column("cells", dtype="float64" if any(isinstance(value, float) for value in values) else "int64")
    collator = PreferenceCollator(Layout("cells", (Matrix((("",),), (column,)),)), pad_token_id=0)
    kinds = row_kinds(values * length)
    assert kinds.keys() > {"list", "tuple"}
    for name, make in kinds.items():
        assert collator([{"_input_ids": make()}])["cells"].tolist() == [values * length], name


@given(st.data())
@fewer(10)
def test_every_kind_of_object_matches_reference(data: st.DataObject) -> None:
    plain = data.draw(batches(EVERYTHING, kinds="plain"))
    expected = result(reference_collate, plain, EVERYTHING, pad_token_id=0)
    collator = PreferenceCollator(EVERYTHING, pad_token_id=0)
    makers = makers_of(EVERYTHING)
    kinds = [{key: kinds_of(key, value, makers) for key, value in sample.items()} for sample in plain]
    for name in sorted({name for sample in kinds for found in sample.values() for name in found}):
        # All values that can be of this kind are; the others are as they come.
        samples = [
            {key: found.get(name, next(iter(found.values())))() for key, found in sample.items()} for sample in kinds
        ]
        assert result(collator, samples) == expected, name


# --- wrong samples --------------------------------------------------------------------------------

ROWS = domains(EVERYTHING)
WRONG: list[tuple[type[Exception], str, Any]] = [
    (TypeError, "rejected_ids", None),
    (TypeError, "prompt_labels", None),
    (TypeError, "chosen_ids", "[1, 2]"),
    (TypeError, "chosen_ids", 7),
    (TypeError, "chosen_ids", {1: 2}),
    (TypeError, "chosen_ids", [[1], [2]]),
    (TypeError, "chosen_ids", [1, "2"]),
    (TypeError, "chosen_ids", [1, None]),
    (TypeError, "chosen_ids", [1, 0.5]),
    (TypeError, "chosen_ids", [1.0, 2.0]),
    (TypeError, "chosen_ids", torch.tensor([1.0])),
    (TypeError, "chosen_ids", torch.tensor([1.0], dtype=torch.bfloat16)),
    (TypeError, "chosen_ids", np.array([1.0], np.float16)),
    (TypeError, "chosen_ids", np.array([1j])),
    (TypeError, "chosen_ids", np.array(["1"])),
    (ValueError, "chosen_ids", torch.tensor(3)),
    (ValueError, "chosen_ids", torch.tensor([[1, 2]])),
    (ValueError, "chosen_ids", np.array([[1], [2]])),
    (OverflowError, "chosen_ids", [2**63]),
    (OverflowError, "chosen_ids", [2**64]),
    (OverflowError, "chosen_ids", np.array([2**63], np.uint64)),
    (TypeError, "margin", "0.5"),
    (TypeError, "margin", [0.5]),
    (TypeError, "chosen_count", 0.5),
    (ValueError, "margin", torch.zeros(2)),
    (ValueError, "margin", np.zeros(0)),
    (OverflowError, "margin", 1e300),
    (OverflowError, "chosen_count", 2**31),
    (TypeError, "chosen_pixels", "image.png"),
    (TypeError, "chosen_pixels", 3),
    (ValueError, "chosen_pixels", torch.tensor(1.0)),
    (KeyError, "chosen_image", torch.zeros(1)),
    (KeyError, "only_here", 1),
    (OverflowError, "margin", 2**63),
    (OverflowError, "margin", 2**64),
]


@pytest.mark.parametrize(("error", "key", "value"), WRONG)
@given(st.data())
@fewer(25)
def test_wrong_value_matches_reference(error: type[Exception], key: str, value: Any, data: st.DataObject) -> None:
    plain = data.draw(batches(EVERYTHING, kinds="plain"))
    plain.append(dict(plain[0]))
    sample = plain[data.draw(st.integers(0, len(plain) - 1))]
    if key == "chosen_ids" and (isinstance(value, list) or getattr(value, "ndim", 0) == 1):
        # Only the values are to be wrong, not how many there are.
        sample |= {
            name: [0] * len(value) for name in ROWS if name.startswith("chosen_") and sample.get(name) is not None
        }
    if key == "chosen_count":
        for other in plain:
            other |= {"chosen_count": 1, "rejected_count": 1}
    sample[key] = value
    assert result(reference_collate, plain, EVERYTHING, pad_token_id=0) is error
    assert result(PreferenceCollator(EVERYTHING, pad_token_id=0), plain) is error


def change(sample: dict[str, Any], key: str, how: str) -> None:
    if how == "gone":
        assume(sample.get(key) is not None)
        del sample[key]
    elif how == "shorter":
        assume(sample.get(key))
        sample[key] = sample[key][:-1]
    elif how == "longer":
        assume(sample.get(key) is not None)
        sample[key] = [*sample[key], 0]
    elif how == "more tiles":
        side = key.partition("_")[0]
        both = [sample.get(f"{side}_{what}") for what in ("pixels", "flags")]
        assume(all(value is not None and len(value) > 0 for value in both))
        sample[key] = torch.cat([sample[key], sample[key]])
    elif how == "other dtype":
        assume(sample.get(key) is not None and len(sample[key]) > 0)
        sample[key] = sample[key].to(torch.int32)


CHANGES: list[tuple[type[Exception], str, str]] = [
    (KeyError, "chosen_ids", "gone"),
    (KeyError, "prompt_labels", "gone"),
    (KeyError, "rejected_weights", "gone"),
    (KeyError, "chosen_mask", "gone"),
    (KeyError, "margin", "gone"),
    (KeyError, "chosen_count", "gone"),
    (ValueError, "prompt_ids", "longer"),
    (ValueError, "chosen_labels", "shorter"),
    (ValueError, "rejected_labels", "longer"),
    (ValueError, "prompt_weights", "longer"),
    (ValueError, "chosen_flags", "more tiles"),
    (ValueError, "rejected_pixels", "more tiles"),
]


@pytest.mark.parametrize(("error", "key", "how"), CHANGES)
@given(st.data())
@fewer(25)
def test_change_of_one_sample_matches_reference(
    error: type[Exception], key: str, how: str, data: st.DataObject
) -> None:
    plain = data.draw(batches(EVERYTHING, kinds="plain"))
    plain.append(dict(plain[0]))
    change(plain[data.draw(st.integers(0, len(plain) - 1))], key, how)
    assert result(reference_collate, plain, EVERYTHING, pad_token_id=0) is error
    assert result(PreferenceCollator(EVERYTHING, pad_token_id=0), plain) is error


@pytest.mark.parametrize("samples", [[], [{}], [3], [None], ["chosen_ids"], [[("chosen_ids", [1])]]], ids=repr)
def test_wrong_samples_match_reference(samples: list[Any]) -> None:
    expected = result(reference_collate, samples, EVERYTHING, pad_token_id=0)
    assert isinstance(expected, type)
    assert result(PreferenceCollator(EVERYTHING, pad_token_id=0), samples) is expected
