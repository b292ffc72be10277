"""Every wrong table: the exception's type and its whole sentence, whoever has the table.

After each of them the same collator still makes batches.
"""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd  # type: ignore[import-untyped]
import polars as pl
import pyarrow as pa
import pytest
import torch

from arrow_tables import Stream
from dpo_collate import ImageTokens, PreferenceCollator
from dpo_collate._core import ArrowTable
from dpo_collate.trainers import llamafactory, open_instruct, openrlhf, trl_legacy
from drop_ins_examples import TOKENIZER
from test_errors import ALL, BOTH, CHOSEN, LOGPS, MISSPELT, REMOVED_COLUMNS

if TYPE_CHECKING:
    from collections.abc import Callable

GOOD: dict[str, Any] = {
    "chosen_input_ids": [[1, 2, 3], [4]],
    "chosen_labels": [[-100, 2, 3], [4]],
    "rejected_input_ids": [[1, 4], [5]],
    "rejected_labels": [[-100, 4], [5]],
}
COLLATOR = PreferenceCollator(pad_token_id=0)


def table(**columns: Any) -> Any:
    """Two good pairs, with some columns changed or added; None: there is no such column."""
    return pa.table({name: values for name, values in (GOOD | columns).items() if values is not None})


def check(collate: Callable[[Any], Any], samples: Any, exception: type[Exception], sentence: str) -> None:
    with pytest.raises(exception) as caught:
        collate(samples)
    assert type(caught.value) is exception
    assert caught.value.args == (sentence,)
    assert collate(table())


WANTED = "expected lists of integers"
NULL = "expected a number"
IS_NONE = "is None, expected a 1-D tensor, array or list of integers"
DICTIONARY = pa.array([1, 2, 3, 4]).dictionary_encode()


def is_of(kind: str) -> str:
    return f"sample 0: 'chosen_labels' is an Arrow column of type {kind}, {WANTED}"


def said(what: str, sample: int = 0) -> str:
    return f"sample {sample}: 'chosen_labels' {what}"


MISFIT = "which does not fit int64"
ROWS: dict[str, tuple[Any, type[Exception], str]] = {
    "a null token": ([[-100, None, 3], [4]], TypeError, said(f"holds null at position 1, {NULL}")),
    "a null token later": ([[1, 2, 3], [None]], TypeError, said(f"holds null at position 0, {NULL}", 1)),
    "nothing but null tokens": ([[None] * 3, [None]], TypeError, said(f"holds null at position 0, {NULL}")),
    "a null bool": ([[True, True, None], [True]], TypeError, said(f"holds null at position 2, {NULL}")),
    "a null row": ([[1, 2, 3], None], TypeError, said(IS_NONE, 1)),
    "a column of nulls": (pa.nulls(2), TypeError, said(IS_NONE)),
    "strings": (["1 2", "3"], TypeError, is_of("string")),
    "bytes": ([b"1", b"3"], TypeError, is_of("binary")),
    "numbers": ([1, 3], TypeError, is_of("int64")),
    "timestamps": (pa.array([1, 2], pa.timestamp("s")), TypeError, is_of("timestamp")),
    "dates": ([dt.date(2026, 1, 1)] * 2, TypeError, is_of("date")),
    "lists of strings": ([["a"], ["b"]], TypeError, is_of("list of string")),
    "lists of structs": ([[{"a": 1}], []], TypeError, is_of("list of struct")),
    "structs": ([{"a": 1}] * 2, TypeError, is_of("struct")),
    "dictionaries": (DICTIONARY[:2], TypeError, is_of("dictionary")),
    "lists of dictionaries": (pa.ListArray.from_arrays([0, 3, 4], DICTIONARY), TypeError, is_of("list of dictionary")),
    "list views": (pa.array([[1], [2]], pa.list_view(pa.int64())), TypeError, is_of("list_view")),
    "decimals": (pa.array([[1], [2]], pa.list_(pa.decimal128(3))), TypeError, is_of("list of decimal")),
    "maps": (pa.array([[("a", 1)]] * 2, pa.map_(pa.string(), pa.int8())), TypeError, is_of("map")),
    "two dimensions": ([[[1, 2, 3]], [[4]]], ValueError, said("has shape [1, 3], expected one dimension")),
    "two dimensions later": (
        pa.array([np.ones((2, 3)).tolist()] * 2, pa.list_(pa.list_(pa.int8(), 3))),
        ValueError,
        said("has shape [2, 3], expected one dimension"),
    ),
    "too few": ([[1, 2], [4]], ValueError, "sample 0: 'chosen_labels' has 2 tokens, but 'chosen_input_ids' has 3"),
    "floats": ([[1.0, 2.0, 3.0], [4.0]], TypeError, said("has dtype float64, expected integers")),
    "float32": (
        pa.array([[1, 2, 3], [4]], pa.list_(pa.float32())),
        TypeError,
        said("has dtype float32, expected integers"),
    ),
    "float16": (
        pa.array([np.ones(3, np.float16), np.ones(1, np.float16)]),
        TypeError,
        said("has dtype float16, expected integers"),
    ),
    "beyond int64": (
        pa.array([[1, 2, 3], [2**63]], pa.list_(pa.uint64())),
        OverflowError,
        said(f"holds {2**63} at position 0, {MISFIT}", 1),
    ),
}
SOURCES: dict[str, Callable[[Any], Any]] = {
    "table": lambda rows: rows,
    "stream": Stream,
    "rows": lambda rows: [rows.slice(0, 1), rows.slice(1)],
    "taken": lambda rows: ArrowTable([rows]).take([0, 1]),
    "behind another": lambda rows: rows.slice(0, 2),
}


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("what", ROWS)
def test_rows(what: str, source: str) -> None:
    values, exception, sentence = ROWS[what]
    check(COLLATOR, SOURCES[source](table(chosen_labels=values)), exception, sentence)


@pytest.mark.parametrize("what", ROWS)
def test_rows_of_the_second_table_of_a_list(what: str) -> None:
    values, exception, sentence = ROWS[what]
    later = sentence.replace("sample 1", "sample 3").replace("sample 0", "sample 2")
    check(COLLATOR, [table(), table(chosen_labels=values)], exception, later)


KEYS = "(its keys: 'chosen_input_ids', 'rejected_input_ids', 'rejected_labels')"
NUMBER = "expected numbers"
ARRAY = "expected lists of numbers, nested or not"
COLUMNS: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "missing": ({"chosen_labels": None}, KeyError, f"sample 0: no 'chosen_labels' {KEYS}"),
    "all but the images removed": (
        {**dict.fromkeys(GOOD), "pixel_values": [[1.0], [2.0]]},
        KeyError,
        f"sample 0: no 'chosen_input_ids' (its keys: 'pixel_values'): {REMOVED_COLUMNS}",
    ),
    "misspelt": (
        {"chosen_label": [1, 2]},
        KeyError,
        f"sample 0: unknown key 'chosen_label': {MISSPELT} (layout 'separate' takes {CHOSEN})",
    ),
    "misspelt numbers": (
        {"ref_logps": [1, 2]},
        KeyError,
        f"sample 0: unknown key 'ref_logps': {MISSPELT} (layout 'separate' takes {LOGPS})",
    ),
    "a number that is missing": (
        {"margin": [1, None]},
        KeyError,
        f"sample 1: no 'margin', but sample 0 has it: {ALL}",
    ),
    "a mask that is missing": (
        {"chosen_attention_mask": [None, [1]]},
        KeyError,
        f"sample 0: no 'chosen_attention_mask', but sample 1 has it: {ALL}",
    ),
    "numbers that are text": (
        {"margin": ["a", "b"]},
        TypeError,
        f"sample 0: 'margin' is an Arrow column of type string, {NUMBER}",
    ),
    "numbers that are lists": (
        {"margin": [[1], [2]]},
        TypeError,
        f"sample 0: 'margin' is an Arrow column of type list of int64, {NUMBER}",
    ),
    "a number that does not fit": (
        {"margin": [1.0, 1e300]},
        OverflowError,
        "sample 1: 'margin' is 1e300, which does not fit float32",
    ),
    "images that are text": (
        {"pixel_values": ["a.png", None]},
        TypeError,
        f"sample 0: 'pixel_values' is an Arrow column of type string, {ARRAY}",
    ),
    "images that are structs": (
        {"pixel_values": [None, {"bytes": b"PNG", "path": "a.png"}]},
        TypeError,
        f"sample 1: 'pixel_values' is an Arrow column of type struct, {ARRAY}",
    ),
    "images that are numbers": (
        {"pixel_values": [1, 2]},
        TypeError,
        f"sample 0: 'pixel_values' is an Arrow column of type int64, {ARRAY}",
    ),
    "images of text": (
        {"pixel_values": [[["a"]], None]},
        TypeError,
        f"sample 0: 'pixel_values' is an Arrow column of type list of list of string, {ARRAY}",
    ),
    "ragged images": (
        {"pixel_values": [None, [[1.0, 2.0], [3.0]]]},
        ValueError,
        "sample 1: 'pixel_values' holds lists of unequal lengths, expected an array",
    ),
    "ragged images, deep": (
        {"pixel_values": [[[[1.0], [2.0]], [[3.0], []]], None]},
        ValueError,
        "sample 0: 'pixel_values' holds lists of unequal lengths, expected an array",
    ),
    "images with a null": (
        {"pixel_values": [[[1.0, 2.0], [3.0, None]], None]},
        TypeError,
        f"sample 0: 'pixel_values' holds null at position 3, {NULL}",
    ),
    "a null tile": (
        {"pixel_values": [[[1.0, 2.0], None], None]},
        TypeError,
        f"sample 0: 'pixel_values' holds null at position 1, {NULL}",
    ),
    "images of two shapes": (
        {"pixel_values": [[[1.0, 2.0]], [[1.0]]]},
        ValueError,
        "sample 1: 'pixel_values' has tiles of shape [1] and dtype float32, but those of sample 0 have [2] and float32",
    ),
    "flags without images": (
        {"image_flags": [None, [1]]},
        KeyError,
        "sample 1: no 'pixel_values', but 'image_flags' has 1 flags",
    ),
    "fewer flags than images": (
        {"pixel_values": [[1.0, 2.0], None], "image_flags": [[1], None]},
        ValueError,
        "sample 0: 'image_flags' has 1 flags, but 'pixel_values' has 2 tiles (its first dimension counts them)",
    ),
}


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("what", COLUMNS)
def test_columns(what: str, source: str) -> None:
    columns, exception, sentence = COLUMNS[what]
    check(COLLATOR, SOURCES[source](table(**columns)), exception, sentence)


def test_a_missing_column_shows_sixteen_others() -> None:
    names = [f"column {index:02}" for index in range(20)]
    shown = ", ".join(f"'{name}'" for name in names[:16])
    wide = pa.table({name: [1] for name in names})
    check(COLLATOR, wide, KeyError, f"sample 0: no 'chosen_input_ids' (its keys: {shown}, …)")


def test_columns_that_differ_between_tables() -> None:
    later = [table(), table(chosen_labels=None)]
    check(COLLATOR, later, KeyError, f"sample 2: no 'chosen_labels' {KEYS}")
    lists = PreferenceCollator(pad_token_id=0, extra_keys="list")
    check(lists, [table(), table(z=[1, 2])], KeyError, f"sample 2: the key 'z' is not in sample 0: {ALL}")
    check(lists, [table(z=[1, 2]), table()], KeyError, f"sample 2: no 'z', but sample 0 has it: {ALL}")


def test_unknown_columns_are_errors_where_that_is_asked_for() -> None:
    strict = PreferenceCollator(pad_token_id=0, extra_keys="error")
    sentence = f"sample 0: unknown key 'z': extra_keys=\"error\" allows none (layout 'separate' takes {BOTH})"
    check(strict, table(z=[1, 2]), KeyError, sentence)


def test_columns_of_one_name() -> None:
    twice = pa.Table.from_arrays([pa.array([[1]])] * 5, [*GOOD, "chosen_labels"])
    check(COLLATOR, twice, ValueError, "sample 0: the table has two columns 'chosen_labels'")
    unused = pa.Table.from_arrays([pa.array([[1]])] * 6, [*GOOD, "other", "other"])
    assert COLLATOR(unused)


# --- what is no table, or has no rows ---------------------------------------------------------------------

EMPTY = "the batch is empty: expected at least one sample"
APART = (
    "expected a table: transformers' Trainer takes a table apart into its columns unless its TrainingArguments have "
    "remove_unused_columns=False, and a DataLoader does unless it has ArrowRows(datasets.Dataset(table))"
)


@pytest.mark.parametrize(
    "empty",
    [
        table().slice(2),
        table().schema.empty_table(),
        pa.record_batch([], names=[]),
        table().schema.empty_table().to_reader(),
        pl.DataFrame(GOOD)[:0],
        pd.DataFrame(GOOD)[:0],
        [table().slice(0, 0), table().slice(1, 0)],
        ArrowTable([]),
        ArrowTable([table()]).take([]),
    ],
)
def test_no_rows(empty: Any) -> None:
    check(COLLATOR, empty, ValueError, EMPTY)


def test_readers_are_read_once() -> None:
    reader = table().to_reader()
    assert COLLATOR(reader)
    check(COLLATOR, reader, ValueError, EMPTY)


def test_rows_without_columns() -> None:
    bare = table().select([])
    assert bare.num_rows == 2
    check(COLLATOR, bare, KeyError, f"sample 0: the table has no columns: {REMOVED_COLUMNS}")


@pytest.mark.parametrize("name", ["chosen_labels", "kind"])
def test_columns_are_no_tables(name: str) -> None:
    rows = table(kind=["a", "b"])
    kind = "string" if name == "kind" else "list"
    for column in (
        rows[name],
        rows[name].chunk(0),
        pl.DataFrame(rows.to_pydict())[name],
        pd.Series(rows[name].to_pylist(), name=name),
    ):
        check(COLLATOR, column, TypeError, f"the table is an Arrow column of type {kind}, {APART}")


def test_a_table_that_was_taken_apart() -> None:
    """What ``transformers.trainer_utils.RemoveColumnsCollator`` makes of a table, or of a batch of tables."""
    apart = list(table().columns)
    check(COLLATOR, apart, TypeError, f"sample 0 is an Arrow column of type list, {APART}")


def test_tables_and_mappings_in_one_list() -> None:
    sample = table().to_pylist()[0]
    alone = "which is no Arrow table (it has no __arrow_c_stream__): expected tables alone, or samples alone"
    no_table = f"sample 1 is a dict, {alone}"
    check(COLLATOR, [table(), sample], TypeError, no_table)
    check(COLLATOR, [sample, table()], TypeError, "sample 1: expected a mapping such as a dict, got Table")
    none = f"sample 1 is a NoneType, {alone}"
    check(COLLATOR, [table(), None], TypeError, none)


def test_rows_that_are_null_as_a_whole() -> None:
    columns = [pa.array(values) for values in GOOD.values()]
    rows = pa.StructArray.from_arrays(columns, list(GOOD), mask=pa.array([False, True]))
    check(COLLATOR, rows, TypeError, "sample 1: expected a mapping such as a dict, got null")
    check(COLLATOR, [table(), rows.slice(1)], TypeError, "sample 2: expected a mapping such as a dict, got null")
    assert len(COLLATOR(rows.slice(0, 1))["chosen_labels"]) == 1


# --- options ----------------------------------------------------------------------------------------------


def test_truncation_and_limits() -> None:
    images = {"pixel_values": [None, [[1.0]]], "chosen_input_ids": [[1], [4, 5, 6]], "chosen_labels": [[1], [4, 5, 6]]}
    cut = (
        "sample 1: truncation could cut image tokens, and the sample has images: expected a larger max_length, samples "
        "that fit it, or PreferenceCollator's image_tokens, which counts them"
    )
    check(PreferenceCollator(pad_token_id=0, max_length=2), table(**images), ValueError, cut)
    strict = PreferenceCollator(pad_token_id=0, max_length=3, truncation_mode="error")
    longer = {"rejected_input_ids": [[1], [1] * 4], "rejected_labels": [[1], [1] * 4]}
    check(strict, table(**longer), ValueError, "sample 1: 'rejected_input_ids' has 4 tokens, more than max_length=3")
    nothing = "sample 0: truncation from 3 to 1 tokens leaves nothing to score in 'chosen_labels'"
    with pytest.raises(ValueError, match=f"^{nothing}$"):
        PreferenceCollator(pad_token_id=0, max_length=1)(table())
    bucket = "sample 0: 'chosen_input_ids', the longest row, makes a width of 3, more than the largest bucket 2"
    with pytest.raises(ValueError, match=f"^{bucket}$"):
        PreferenceCollator(pad_token_id=0, buckets=(2,))(table())
    limit = (
        "sample 0: 'chosen_input_ids', padded to a width of 3, makes a batch of 352 bytes, more than max_batch_bytes=99"
    )
    with pytest.raises(MemoryError, match=f"^{limit}$"):
        PreferenceCollator(pad_token_id=0, max_batch_bytes=99)(table())


def test_images_are_counted_in_the_limit() -> None:
    small = PreferenceCollator(pad_token_id=0, max_batch_bytes=1000)
    tiles = np.zeros((3, 100)).tolist()
    with pytest.raises(MemoryError) as caught:
        small(table(pixel_values=[None, tiles]))
    with pytest.raises(MemoryError) as expected:
        small([table().to_pylist()[0], table().to_pylist()[1] | {"pixel_values": np.zeros((3, 100), np.float32)}])
    assert caught.value.args == expected.value.args


@pytest.mark.parametrize("tokens", [ImageTokens(7, per_tile=2), ImageTokens(7, per_tile=1)])
def test_image_tokens_are_counted_in_tables(tokens: ImageTokens) -> None:
    rows = {"chosen_input_ids": [[1, 7, 7], [4]], "rejected_input_ids": [[7, 7], [5]]}
    given = table(**rows, pixel_values=[[[1.0]], None], image_flags=[[True], None])
    samples = given.to_pylist()
    samples[0] |= {"pixel_values": torch.ones(1, 1), "image_flags": torch.ones(1, dtype=torch.bool)}
    collator = PreferenceCollator(pad_token_id=0, image_tokens=tokens)
    if tokens.per_tile == 2:
        assert collator(given)["chosen_input_ids"].tolist() == collator(samples)["chosen_input_ids"].tolist()
        return
    asked = r"^sample 0: the chosen row has 2 image tokens \(id 7\), but 'pixel_values' asks for 1$"
    with pytest.raises(ValueError, match=asked) as caught:
        collator(given)
    with pytest.raises(ValueError, match=r"^sample 0: ") as expected:
        collator(samples)
    assert caught.value.args == expected.value.args


# --- drop-ins ---------------------------------------------------------------------------------------------


def test_drop_ins_say_what_is_wrong_with_tables() -> None:
    wild = trl_legacy.DPODataCollatorWithPadding()
    with pytest.raises(KeyError, match=r"^\"sample 2: the key 'x_input_ids' is not in sample 0: expected in all"):
        wild([table(), table(x_input_ids=[[1], [2]])])
    raw = (
        "sample 1: 'images' holds raw media, which are not processed here: process them in the data set, and give what"
    )
    with pytest.raises(TypeError, match=f"^{raw}"):
        llamafactory.PairwiseDataCollatorWithPadding(TOKENIZER)(table(images=[[], ["a.png"]]))
    with pytest.raises(KeyError, match="no 'chosen_mask'"):
        openrlhf.RewardCollator(0)(pa.table({"chosen_ids": [[1]]}))
    flattening = open_instruct.TensorDataCollatorWithFlatteningDPO(max_seq_length=5)
    with pytest.raises(KeyError, match="no 'chosen_input_ids'"):
        flattening(table(index=[0, 1], chosen_input_ids=None))
    with pytest.raises(TypeError, match=r"^sample 1: 'rejected_input_ids' is None"):
        flattening(table(index=[0, 1], rejected_input_ids=[[1, 4], None]))
