"""The layout language: what its dataclasses refuse, and what they say of themselves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import FrozenInstanceError, replace
from typing import Any

import numpy as np
import pytest

from dpo_collate import PreferenceCollator
from dpo_collate.layout import Column, Layout, Length, Matrix, Media, Scalar
from dpo_collate.named import IMAGES, NAMES, SEPARATE, named

# --- wrong tables ---------------------------------------------------------------------------------

Make = Callable[..., Any]

COUNTS = ("position", "row", "segment")
PER_ROW = ("length", "cu_seq_lens", "max_length")

IDS = Column("ids", pad="pad_token_id")
ROW = Matrix((("chosen",),), (IDS,))


def column(**fields: Any) -> Column:
    return Column(**{"name": "ids", **fields})


def matrix(**fields: Any) -> Matrix:
    return Matrix(**{"rows": (("chosen",), ("rejected",)), "columns": (IDS,), **fields})


def media(**fields: Any) -> Media:
    return Media(**{"name": "pixels", "keys": ("pixels",), **fields})


def scalar(**fields: Any) -> Scalar:
    return Scalar(**{"name": "margin", "keys": ("margin",), **fields})


def layout(**fields: Any) -> Layout:
    return Layout(**{"name": "mine", "matrices": (ROW,), **fields})


SYMBOLS = "expected 'pad_token_id' or 'label_pad_token_id'"
DTYPES = "expected 'int64' or 'int32' or 'bool' or 'float32' or 'float64'"
WORDS = "'tokens', 'ones', 'position', 'row', 'segment', 'length', 'cu_seq_lens', 'max_length'"
ONE_STAR = "expected one '*', in a name that is also the one key"
NESTS = "expected None, 'sample', or tuples and dicts of names"
TILES = "blank and flags_of are for tiles, which are concatenated"

MEANINGLESS: list[tuple[str, str, Any]] = [
    *((of, "start", 1) for of in ("tokens", "ones", "{}_labels", *PER_ROW)),
    *((of, name, 1) for of in (*COUNTS, *PER_ROW) for name in ("skip", "shift")),
    *((of, "differs_from", 0) for of in (*COUNTS, *PER_ROW)),
    *((of, "nonempty", True) for of in (*COUNTS, *PER_ROW)),
    *((of, "pad", 0) for of in PER_ROW),
    *((of, "on", ()) for of in PER_ROW),
]

WRONG: list[tuple[Make, dict[str, Any], type[Exception], str]] = [
    (Length, {"max_length": 0}, ValueError, "max_length=0: expected 1 or more"),
    (Length, {"max_length": 2.0}, TypeError, "max_length=2.0: expected an integer"),
    (Length, {"max_length": True}, TypeError, "max_length=True: expected an integer"),
    (
        Length,
        {"truncation_mode": "keep"},
        ValueError,
        "truncation_mode='keep': expected 'keep_start' or 'keep_end' or 'error'",
    ),
    (Length, {"min_length": -1}, ValueError, "min_length=-1: expected 0 or more"),
    (Length, {"min_length": None}, TypeError, "min_length=None: expected an integer"),
    (Length, {"multiple_of": 0}, ValueError, "multiple_of=0: expected 1 or more"),
    (Length, {"multiple_of": "8"}, TypeError, "multiple_of='8': expected an integer"),
    (Length, {"row_multiple_of": -8}, ValueError, "row_multiple_of=-8: expected 1 or more"),
    (Length, {"row_multiple_of": 1.5}, TypeError, "row_multiple_of=1.5: expected an integer"),
    (Length, {"multiple_of": 2**62}, ValueError, f"multiple_of={2**62}: expected less than 2**62"),
    (Length, {"buckets": [8, 16]}, TypeError, "buckets=[8, 16]: expected a tuple of int"),
    (Length, {"buckets": 8}, TypeError, "buckets=8: expected a tuple of int (a tuple of one needs a comma)"),
    (Length, {"buckets": (8, 1.5)}, TypeError, "buckets=(8, 1.5): expected a tuple of int"),
    (Length, {"buckets": (0, 8)}, ValueError, "buckets=0: expected 1 or more"),
    (
        Length,
        {"buckets": (8, 12), "row_multiple_of": 8},
        ValueError,
        "buckets=(8, 12): 12 is no multiple of 8",
    ),
    (
        Length,
        {"buckets": (8,), "multiple_of": 8},
        ValueError,
        "buckets and multiple_of both round the width: expected one of them",
    ),
    (
        Length,
        {"buckets": (8, 16), "min_length": 17},
        ValueError,
        "min_length=17: expected at most the largest bucket 16",
    ),
    (column, {"name": 5}, TypeError, "name=5: expected a str"),
    (column, {"of": None}, TypeError, "of=None: expected a str"),
    (column, {"optional": "yes"}, TypeError, "optional='yes': expected a bool"),
    (column, {"nonempty": 1}, TypeError, "nonempty=1: expected a bool"),
    (
        column,
        {"of": "{}_mask", "optional": True, "default": "ones"},
        ValueError,
        "optional leaves the column out, default shows something instead: expected one of them",
    ),
    (
        column,
        {"optional": True},
        ValueError,
        "of='tokens': only a parallel key can be absent, so optional and default mean nothing",
    ),
    (
        column,
        {"of": "ones", "default": "ones"},
        ValueError,
        "of='ones': only a parallel key can be absent, so optional and default mean nothing",
    ),
    (
        column,
        {"of": "labels"},
        ValueError,
        f"of='labels': expected {WORDS}, or a key with '{{}}' where the stem goes",
    ),
    (column, {"pad": "eos_token_id"}, ValueError, f"pad='eos_token_id': {SYMBOLS}"),
    (column, {"pad": []}, TypeError, "pad=[]: expected an integer"),
    (column, {"pad": True}, TypeError, "pad=True: expected an integer"),
    (column, {"pad": 2**63}, ValueError, f"pad={2**63}: expected an integer of 64 bits"),
    (column, {"dtype": "int8"}, ValueError, f"dtype='int8': {DTYPES}"),
    (column, {"dtype": np.int64}, ValueError, f"dtype={np.int64!r}: {DTYPES}"),
    (column, {"on": 1}, TypeError, "on=1: expected a tuple of int (a tuple of one needs a comma)"),
    (column, {"on": ("chosen",)}, TypeError, "on=('chosen',): expected a tuple of int"),
    (column, {"differs_from": "pad"}, ValueError, f"differs_from='pad': {SYMBOLS}"),
    (column, {"differs_from": []}, TypeError, "differs_from=[]: expected an integer"),
    (column, {"default": 1}, ValueError, "default=1: expected None or 'ones'"),
    (column, {"skip": -1}, ValueError, "skip=-1: expected 0 or more"),
    (column, {"shift": 0.5}, TypeError, "shift=0.5: expected an integer"),
    (column, {"start": "0"}, TypeError, "start='0': expected an integer"),
    (column, {"of": "row", "start": 2**63}, ValueError, f"start={2**63}: expected an integer of 64 bits"),
    (column, {"pad": "continue"}, ValueError, f"pad='continue': {SYMBOLS}"),
    (
        column,
        {"of": "position", "pad": "continue", "on": (0,)},
        ValueError,
        "on=(0,): positions that continue are those of all segments",
    ),
    (column, {"of": "row", "pad": "continue"}, ValueError, f"pad='continue': {SYMBOLS}"),
    (column, {"of": "position", "pad": "stop"}, ValueError, f"pad='stop': {SYMBOLS} or 'continue'"),
    *(
        (column, {"of": of, "dtype": "float32"}, ValueError, "dtype='float32': expected 'int64' or 'int32'")
        for of in (*COUNTS, *PER_ROW)
    ),
    *(
        (column, {"of": of, name: value}, ValueError, f"of={of!r}: {name}={value!r} means nothing there")
        for of, name, value in MEANINGLESS
    ),
    (matrix, {"rows": ("chosen",)}, TypeError, "rows=('chosen',): expected a tuple of tuple"),
    (matrix, {"rows": [("chosen",)]}, TypeError, "rows=[('chosen',)]: expected a tuple of tuple"),
    (matrix, {"rows": ((1,),)}, TypeError, "rows=(1,): expected a tuple of str"),
    (matrix, {"rows": ()}, ValueError, "rows=(): expected rows of equally many stems, at least one"),
    (matrix, {"rows": ((),)}, ValueError, "rows=((),): expected rows of equally many stems, at least one"),
    (
        matrix,
        {"rows": (("a",), ("a", "b"))},
        ValueError,
        "rows=(('a',), ('a', 'b')): expected rows of equally many stems, at least one",
    ),
    (matrix, {"columns": ()}, ValueError, "columns=(): expected at least one column"),
    (matrix, {"tokens": None}, TypeError, "tokens=None: expected a str"),
    (matrix, {"length": 8}, TypeError, "length=8: expected a Length"),
    (matrix, {"columns": (7,)}, TypeError, "columns=(7,): expected a tuple of Column"),
    (matrix, {"columns": [IDS]}, TypeError, f"columns={[IDS]!r}: expected a tuple of Column"),
    (matrix, {"tokens": "input_ids"}, ValueError, "tokens='input_ids': expected '{}' where the stem goes"),
    (matrix, {"side": "both"}, ValueError, "side='both': expected 'left' or 'right'"),
    (
        matrix,
        {"columns": (column(on=(1,)),)},
        ValueError,
        "on=(1,): expected indices of the 1 segments of a row",
    ),
    (
        matrix,
        {"columns": (column(on=(-1,)),)},
        ValueError,
        "on=(-1,): expected indices of the 1 segments of a row",
    ),
    (
        matrix,
        {"columns": (column(name="{}_ids"),)},
        ValueError,
        "name='{}_ids': a matrix of several rows has no one stem to name it by",
    ),
    (matrix, {"flat": 1}, TypeError, "flat=1: expected a bool"),
    (matrix, {"tail": "row"}, ValueError, "tail='row': expected 'segment' or 'outside'"),
    (matrix, {"drop_last": -1}, ValueError, "drop_last=-1: expected 0 or more"),
    (matrix, {"optional": None}, TypeError, "optional=None: expected a bool"),
    (
        matrix,
        {"flat": True, "side": "left"},
        ValueError,
        "side='left': rows of a flat matrix lie end to end, with no padding before them",
    ),
    (
        matrix,
        {"columns": (column(of="position", pad="continue"),), "side": "left"},
        ValueError,
        "side='left': positions ('ids') cannot continue before the first",
    ),
    *(
        (
            matrix,
            {"rows": rows},
            ValueError,
            f"rows={rows!r}: '*' is for rows of any one stem, expected (('*',),)",
        )
        for rows in ((("*",), ("rejected",)), (("prompt", "*"),), (("*_side",),))
    ),
    (
        matrix,
        {"rows": (("*",),), "tokens": "{}_and_{}"},
        ValueError,
        "tokens='{}_and_{}': expected '{}' once, where any stem goes",
    ),
    (media, {"combine": "sum"}, ValueError, "combine='sum': expected 'cat' or 'stack' or 'pad'"),
    (media, {"pad": "0"}, TypeError, "pad='0': expected an integer"),
    (
        media,
        {"dtype": "bfloat16"},
        ValueError,
        "dtype='bfloat16': expected None or 'int64' or 'int32' or 'bool' or 'float16' or 'float32' or 'float64'",
    ),
    (media, {"combine": "stack", "blank": (3,)}, ValueError, f"combine='stack': {TILES}"),
    (media, {"combine": "pad", "flags_of": "images"}, ValueError, f"combine='pad': {TILES}"),
    (
        media,
        {"name": "*_pixels", "keys": ("pixels",)},
        ValueError,
        f"name='*_pixels', keys=('pixels',): {ONE_STAR}",
    ),
    (
        media,
        {"name": "pixels", "keys": ("*_pixels",)},
        ValueError,
        f"name='pixels', keys=('*_pixels',): {ONE_STAR}",
    ),
    (
        scalar,
        {"name": "*_of_*", "keys": ("*_of_*",)},
        ValueError,
        f"name='*_of_*', keys=('*_of_*',): {ONE_STAR}",
    ),
    (media, {"name": 5}, TypeError, "name=5: expected a str"),
    (media, {"optional": 0}, TypeError, "optional=0: expected a bool"),
    (media, {"keys": "pixels"}, TypeError, "keys='pixels': expected a tuple of str (a tuple of one needs a comma)"),
    (media, {"keys": ()}, ValueError, "keys=(): expected at least one key"),
    (media, {"blank": [3]}, TypeError, "blank=[3]: expected a tuple of int"),
    (media, {"blank": (3, 0)}, ValueError, "blank=0: expected 1 or more"),
    (scalar, {"name": None}, TypeError, "name=None: expected a str"),
    (scalar, {"optional": "no"}, TypeError, "optional='no': expected a bool"),
    (scalar, {"keys": ["margin"]}, TypeError, "keys=['margin']: expected a tuple of str"),
    (scalar, {"keys": ()}, ValueError, "keys=(): expected at least one key"),
    (scalar, {"dtype": "float16"}, ValueError, f"dtype='float16': {DTYPES.replace('expected', 'expected None or')}"),
    (scalar, {"default": [0.0]}, TypeError, "default=[0.0]: expected an integer"),
    (scalar, {"default": "pad_token_id"}, TypeError, "default='pad_token_id': expected an integer"),
    (layout, {"name": 5}, TypeError, "name=5: expected a str"),
    (layout, {"matrices": ()}, ValueError, "matrices=(): expected at least one matrix"),
    (layout, {"matrices": [ROW]}, TypeError, f"matrices={[ROW]!r}: expected a tuple of Matrix"),
    (layout, {"matrices": (IDS,)}, TypeError, f"matrices={(IDS,)!r}: expected a tuple of Matrix"),
    (layout, {"media": (scalar(),)}, TypeError, f"media={(scalar(),)!r}: expected a tuple of Media"),
    (layout, {"scalars": (media(),)}, TypeError, f"scalars={(media(),)!r}: expected a tuple of Scalar"),
    (
        layout,
        {"reserved": "chosen_"},
        TypeError,
        "reserved='chosen_': expected a tuple of str (a tuple of one needs a comma)",
    ),
    (layout, {"ignored": (1,)}, TypeError, "ignored=(1,): expected a tuple of str"),
    (layout, {"order": "random"}, ValueError, "order='random': expected 'grouped' or 'interleaved'"),
    (layout, {"extra": "keep"}, ValueError, "extra='keep': expected 'drop' or 'list' or 'stack' or 'error'"),
    (layout, {"constants": {"mask": None}}, TypeError, "constants={'mask': None}: expected a tuple of tuple"),
    (layout, {"constants": ("mask", None)}, TypeError, "constants=('mask', None): expected a tuple of tuple"),
    (layout, {"constants": (("mask",),)}, TypeError, "constants=(('mask',),): expected pairs of a name and a value"),
    (layout, {"constants": ((1, None),)}, TypeError, "constants=((1, None),): expected pairs of a name and a value"),
    (
        layout,
        {"constants": (("ids", None),)},
        ValueError,
        "layout 'mine' names 'ids' twice: expected each key of the batch once",
    ),
    (layout, {"sample": ["chosen"]}, TypeError, "sample=['chosen']: expected a tuple of str"),
    (layout, {"unbatch": 1}, TypeError, "unbatch=1: expected a bool"),
    (layout, {"returns": "tuple"}, ValueError, "returns='tuple': expected None or 'sample' or 'ids'"),
    (layout, {"returns": ("ids", "labels")}, ValueError, "returns='labels': expected 'ids'"),
    (layout, {"returns": {"data": ("sample",)}}, ValueError, "returns='sample': expected 'ids'"),
    (
        layout,
        {"returns": ("ids",), "extra": "list"},
        ValueError,
        "extra='list': unknown keys have no place in returns=('ids',)",
    ),
    (layout, {"returns": 5}, TypeError, f"returns=5: {NESTS}"),
    (layout, {"returns": ["ids"]}, TypeError, f"returns=['ids']: {NESTS}"),
    (layout, {"returns": {"data": None}}, TypeError, f"returns=None: {NESTS}"),
    (
        layout,
        {"scalars": (scalar(name="*_logps", keys=("*_logps",)),), "returns": ("ids", "*_logps")},
        ValueError,
        "returns='*_logps': expected 'ids'",
    ),
    (
        layout,
        {"media": (media(combine="stack"), media(name="flags", flags_of="pixels"))},
        ValueError,
        "flags_of='pixels': expected the name of another medium, of tiles",
    ),
    (
        layout,
        {"scalars": (scalar(name="ids"),)},
        ValueError,
        "layout 'mine' names 'ids' twice: expected each key of the batch once",
    ),
    (
        layout,
        {"media": (media(keys=("a", "b")), media(name="flags", keys=("c",), flags_of="pixels"))},
        ValueError,
        "keys=('c',): expected as many as 'pixels' has",
    ),
    (
        layout,
        {"media": (media(blank=(1,)), media(name="flags", flags_of="pixels"))},
        ValueError,
        "'flags' flags 'pixels': expected a blank tile of both or none",
    ),
    (
        layout,
        {"media": (media(flags_of="images"),)},
        ValueError,
        "flags_of='images': expected the name of another medium, of tiles",
    ),
    (
        layout,
        {"media": (media(flags_of="pixels"),)},
        ValueError,
        "flags_of='pixels': expected the name of another medium, of tiles",
    ),
    (
        layout,
        {"media": (media(name="*_x", keys=("*_x",)), media(name="flags", flags_of="*_x"))},
        ValueError,
        "flags_of='*_x': media of any name have no flags",
    ),
    (
        layout,
        {"media": (media(describes="images"),)},
        ValueError,
        "describes='images': expected the name of another medium, and no flags",
    ),
    (
        layout,
        {"media": (media(), media(name="flags", flags_of="pixels", describes="pixels"))},
        ValueError,
        "describes='pixels': expected the name of another medium, and no flags",
    ),
    (
        layout,
        {"media": (media(name="*_x", keys=("*_x",)), media(describes="*_x"))},
        ValueError,
        "describes='*_x': nothing can be said of media of any name",
    ),
    (
        layout,
        {"media": (media(), media(name="sizes", keys=("a", "b"), describes="pixels"))},
        ValueError,
        "keys=('a', 'b'): expected as many as 'pixels' has",
    ),
]


@pytest.mark.parametrize(("make", "fields", "error", "sentence"), WRONG, ids=[row[3] for row in WRONG])
def test_wrong_field(make: Make, fields: dict[str, Any], error: type[Exception], sentence: str) -> None:
    make()
    with pytest.raises(error) as caught:
        make(**fields)
    assert caught.value.args == (sentence,)


@pytest.mark.parametrize(
    ("fields", "pad", "sentence"),
    [
        ({"pad": 0.0}, 0, "column 'ids' pads with 0.0, which does not fit int64"),
        ({"pad": 2**31, "dtype": "int32"}, 0, "column 'ids' pads with 2147483648, which does not fit int32"),
        (
            {"pad": "pad_token_id", "dtype": "int32"},
            -(2**40),
            "column 'ids' pads with -1099511627776, which does not fit int32",
        ),
        ({"pad": -100, "dtype": "bool"}, 0, "column 'ids' pads with -100, which does not fit bool"),
        ({"pad": "label_pad_token_id", "dtype": "bool"}, 0, "column 'ids' pads with -100, which does not fit bool"),
        ({"pad": 1e39, "dtype": "float32"}, 0, "column 'ids' pads with 1e39, which does not fit float32"),
    ],
)
def test_pad_that_does_not_fit(fields: dict[str, Any], pad: int, sentence: str) -> None:
    table = layout(matrices=(replace(ROW, columns=(column(**fields),)),))
    with pytest.raises(ValueError, match="which does not fit") as caught:
        PreferenceCollator(table, pad_token_id=pad)
    assert caught.value.args == (sentence,)


def test_multiples_beyond_any_width() -> None:
    length = Length(multiple_of=2**61 - 1, row_multiple_of=2**61)
    with pytest.raises(ValueError, match=r"^multiple_of and row_multiple_of are too large$"):
        PreferenceCollator(layout(matrices=(replace(ROW, length=length),)), pad_token_id=0)


def test_tables_are_values() -> None:
    with pytest.raises(FrozenInstanceError):
        SEPARATE.name = "mine"  # type: ignore[misc]
    assert replace(SEPARATE, name="mine") != SEPARATE
    assert hash(replace(SEPARATE)) == hash(SEPARATE)


# --- names ----------------------------------------------------------------------------------------


def test_names() -> None:
    table = layout(
        matrices=(
            Matrix((("prompt", "chosen"),), (Column("{}_input_ids"), Column("mask", of="ones")), tokens="{}_ids"),
            matrix(columns=(Column("both"),)),
        ),
        media=IMAGES,
        scalars=(scalar(),),
        constants=(("kind", "dpo"),),
    )
    assert table.names() == ("chosen_input_ids", "mask", "both", "pixel_values", "image_flags", "margin", "kind")


def test_named_layouts() -> None:
    assert [named(name).name for name in NAMES] == list(NAMES)
    assert named("separate") is SEPARATE
    names = SEPARATE.names()
    assert names[:3] == ("chosen_input_ids", "chosen_labels", "chosen_attention_mask")
    assert names[3:6] == ("rejected_input_ids", "rejected_labels", "rejected_attention_mask")
    assert names[6:8] == ("pixel_values", "image_flags")
    assert names[-3:] == ("ref_chosen_logps", "ref_rejected_logps", "margin")
