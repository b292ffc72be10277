"""Lengths of samples: those of lists, from Arrow's offsets alone."""

from __future__ import annotations

import importlib
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_sets import (
    COLLATOR,
    KINDS,
    SIZE,
    Samples,
    data_set,
    datasets,
    pa,
    pair,
    plain,
    sample,
    some_data,
    table,
    table_of,
)
from dpo_collate import PreferenceCollator
from dpo_collate.datasets import ArrowRows, lengths
from dpo_collate.layout import Column, Layout, Matrix
from dpo_collate.named import named
from dpo_collate.trainers import internvl, trl_legacy
from fewer import fewer
from pairs import PAD, SIDES, Pair, full, split, third

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy.typing as npt


FORMS = {"full": full, "split": split, "third": third}
LAYOUTS = [
    *(
        (name, inputs, inputs or "full")
        for name in ("separate", "concatenated", "interleaved", "padding_free")
        for inputs in (None, "full", "split")
    ),
    ("prompt_left", None, "third"),
    ("prompt_left", "split", "split"),
]


def wanted_lengths(name: str, pairs: Iterable[Pair]) -> list[list[int]]:
    if name == "prompt_left":
        return [[len(part) for part in pair] for pair in pairs]
    return [[len(pair.prompt) + len(getattr(pair, side)) for side in SIDES] for pair in pairs]


@pytest.mark.parametrize(("name", "inputs", "form"), LAYOUTS)
def test_lengths(name: str, inputs: Any, form: str) -> None:
    pairs = [pair(index) for index in range(SIZE)]
    data = table([FORMS[form](pair) for pair in pairs], [4, 0, 9])
    wanted = wanted_lengths(name, pairs)
    collator = PreferenceCollator(name, inputs=inputs, pad_token_id=PAD)
    for layout in (named(name, inputs), collator):
        found = lengths(data, layout)
        assert found.dtype == np.int64
        assert found.tolist() == wanted
    assert lengths(data, name, inputs=inputs).tolist() == wanted
    batch = collator(data)
    masks = [value.sum(1).tolist() for key, value in batch.items() if key.endswith("attention_mask")]
    if name in {"separate", "prompt_left"}:
        assert [list(row) for row in zip(*masks, strict=True)] == wanted


def test_lengths_are_those_before_truncation() -> None:
    short = PreferenceCollator(pad_token_id=PAD, max_length=2, pad_to_multiple_of=8)
    assert lengths(plain(), short).tolist() == lengths(plain()).tolist()


@pytest.mark.parametrize("kind", KINDS)
def test_lengths_of_data_sets(kind: str) -> None:
    data = data_set(kind)
    wanted = [[len(row[f"{side}_input_ids"]) for side in SIDES] for row in data]
    for given_data in (data, ArrowRows(data)):
        found = lengths(given_data)
        assert found.shape == (len(data), 2)
        assert found.tolist() == wanted


def tables_of_all_kinds() -> dict[str, Any]:
    polars, duckdb = pytest.importorskip("polars"), pytest.importorskip("duckdb")
    first, second = table_of(0, 1, 2), table_of(3, 4)
    both = pa.concat_tables([first, second])
    return {
        "table": both,
        "record batch": both.combine_chunks().to_batches()[0],
        "list": [first, second.to_batches()[0]],
        "tuple": (first, polars.from_arrow(second)),
        "reader": pa.RecordBatchReader.from_batches(both.schema, both.to_batches()),
        "polars": polars.from_arrow(both),
        "duckdb": duckdb.from_arrow(both),
    }


@pytest.mark.parametrize("kind", ["table", "record batch", "list", "tuple", "reader", "polars", "duckdb"])
def test_lengths_of_tables(kind: str) -> None:
    wanted = [[len(sample(index)[f"{side}_input_ids"]) for side in SIDES] for index in range(5)]
    assert lengths(tables_of_all_kinds()[kind]).tolist() == wanted


def ids(tokens: str, *columns: Column, **options: Any) -> Matrix:
    stems = options.pop("stems", SIDES)
    return Matrix(
        tuple((stem,) for stem in stems), columns or (Column("ids", pad="pad_token_id"),), tokens=tokens, **options
    )


MASK = Column("mask", pad=0)
OWN = {
    "twice": ((ids("{}_input_ids"), ids("{}_input_ids", MASK)), [2, 3]),
    "one of them": ((ids("{}_input_ids", stems=("rejected",)),), [3]),
    "labels are not counted": ((ids("{}_input_ids"), ids("{}_labels", MASK)), [2, 3]),
    "labels alone are": ((ids("{}_labels", MASK),), [4, 5]),
    "optional ones are not": ((ids("{}_input_ids"), ids("{}x_labels", MASK, stems=("",), optional=True)), [2, 3]),
    "other ids of the same stems are": ((ids("{}_input_ids"), ids("{}_labels", Column("x"))), [2, 3, 4, 5]),
    "any": ((Matrix((("*",),), (Column("{}", pad="pad_token_id"),), tokens="{}_input_ids"),), [2, 3]),
}


@pytest.mark.parametrize("kind", OWN)
def test_lengths_of_own_layouts(kind: str) -> None:
    matrices, wanted = OWN[kind]
    row = {
        "chosen_input_ids": [1] * 2,
        "rejected_input_ids": [1] * 3,
        "chosen_labels": [1] * 4,
        "rejected_labels": [1] * 5,
    }
    assert lengths(table([row]), Layout("own", matrices)).tolist() == [wanted]


def test_lengths_of_batches_of_one_row() -> None:
    rows = {"chosen": [[[1, 2, 3]], [[4]]], "rejected": [[[5]], [[]]]}
    table = pa.table({f"{side}_input_ids": lists for side, lists in rows.items()})
    layout = replace(named("separate"), unbatch=True)
    assert lengths(table, layout).tolist() == [[3, 1], [1, 0]]
    sentence = "sample 0: 'chosen_input_ids' has shape [1, 3], expected one dimension"
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        lengths(table)


def test_lengths_of_what_a_data_set_has_left() -> None:
    rows: dict[str, list[Any]] = {"chosen": [[[1, 2]], [[1], [2]], [[3]], None], "rejected": [[[5]], None, [[]], [[6]]]}
    data = importlib.import_module("datasets").Dataset.from_dict({f"{key}_input_ids": row for key, row in rows.items()})
    layout = replace(named("separate"), unbatch=True)
    assert lengths(data.select([2, 0]), layout).tolist() == [[1, 0], [2, 1]]
    for bad, wrong, sentence in (
        (1, ValueError, "sample 1: 'chosen_input_ids' has shape [2, 1], expected one dimension"),
        (3, TypeError, "sample 1: 'chosen_input_ids' is None, expected a 1-D tensor, array or list of integers"),
    ):
        with pytest.raises(wrong, match=f"^{re.escape(sentence)}$"):
            lengths(data.select([0, bad]), layout)


def test_lengths_of_no_table() -> None:
    with pytest.raises(KeyError, match=r"no column 'chosen_input_ids': there are none"):
        lengths([])


def test_lengths_of_drop_ins() -> None:
    row = {"chosen_input_ids": [1, 2], "rejected_input_ids": [3], "chosen_labels": [1, 2], "rejected_labels": [3]}
    masks = {"chosen_attention_mask": [1, 1], "rejected_attention_mask": [1]}
    assert lengths(table([row]), internvl.DPO).tolist() == [[2, 1]]
    for layout in (trl_legacy.BY_SUFFIX, trl_legacy.ENCODER_DECODER):
        assert lengths(table([{**row, **masks}]), layout).tolist() == [[2, 1]]


NULLS: Samples = [
    {"chosen_input_ids": [1, 2], "rejected_input_ids": [3]},
    {"chosen_input_ids": [4], "rejected_input_ids": None},
]


def test_null_rows() -> None:
    null = "'rejected_input_ids' is None, expected a 1-D tensor, array or list of integers$"
    data = datasets.Dataset(table(NULLS * 2, [1]))
    for given_data in (data, data.data.table, [data.data.table]):
        with pytest.raises(TypeError, match=f"^sample 1: {null}"):
            lengths(given_data)
    # A row that was left out may be null, though the table has it still.
    assert lengths(data.select([2, 0, 2])).tolist() == [[2, 1]] * 3
    assert lengths(data.filter(lambda row: row["rejected_input_ids"] is not None, keep_in_memory=True)).shape == (2, 2)
    with pytest.raises(TypeError, match=f"^sample 2: {null}"):
        lengths(data.select([2, 0, 3]))


def test_columns_that_are_no_lists() -> None:
    for given_data in (plain(), plain().shuffle(seed=1), table_of(0)):
        with pytest.raises(
            TypeError, match=r"'margin' is an Arrow column of type float64, expected lists of integers$"
        ):
            lengths(given_data, Layout("wrong", (ids("{}margin", stems=("",)),)))


def test_missing_columns() -> None:
    there = "there are 'prompt', 'chosen_input_ids', 'chosen_labels', 'rejected_input_ids', 'rejected_labels', 'margin'"
    for data in (plain(), table_of(1)):
        with pytest.raises(KeyError) as caught:
            lengths(data, "concatenated", inputs="split")
        assert caught.value.args == (f"no column 'prompt_ids': {there}",)
    with pytest.raises(KeyError) as caught:
        lengths(ArrowRows(plain(), columns=["margin"]))
    assert caught.value.args == ("no column 'chosen_input_ids': there are 'margin'",)
    with pytest.raises(KeyError, match="no key like"):
        lengths(plain().select_columns(["margin"]), Layout("any", OWN["any"][0]))


WRONG: dict[str, tuple[tuple[Any, ...], dict[str, Any], type[Exception], str]] = {
    "layout's name": (("stacked",), {}, ValueError, "layout='stacked': expected 'separate' or "),
    "layout's type": ((7,), {}, TypeError, "7: expected 'separate', .*, a dpo_collate.layout.Layout, a Pref"),
    "inputs": (("separate",), {"inputs": "all"}, ValueError, "inputs='all': expected None or 'full' or 'split'"),
    "inputs of a collator": ((COLLATOR,), {"inputs": "full"}, ValueError, "inputs='full': only a named layout has"),
    "inputs of a layout": ((named("separate"),), {"inputs": "full"}, ValueError, "inputs='full': only a named layout"),
    "inputs that make no sense": (
        ("prompt_left",),
        {"inputs": "full"},
        ValueError,
        "inputs='full': layout 'prompt_left'",
    ),
}


@pytest.mark.parametrize("kind", WRONG)
def test_wrong_layouts(kind: str) -> None:
    arguments, options, exception, sentence = WRONG[kind]
    with pytest.raises(exception, match=f"^{sentence}"):
        lengths(plain(), *arguments, **options)


@pytest.mark.parametrize(("data", "what"), [([sample(0)], r"data\[0\] is a dict"), ({"a": 1}, "data is a dict")])
def test_wrong_data(data: Any, what: str) -> None:
    with pytest.raises(TypeError, match=f"^{what}, expected a datasets.Dataset, an ArrowRows, a table with the Arrow "):
        lengths(data)


def resident(path: str) -> int:
    """Kilobytes of a file that this process has touched (or the system has mapped around what it touched)."""
    found = 0
    lines = iter(Path("/proc/self/smaps").read_text(encoding="utf-8").splitlines())
    for line in lines:
        if line.endswith(path):
            found += next(int(fact.split()[1]) for fact in lines if fact.startswith("Rss:"))
    return found


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="only Linux says what is resident")
def test_tokens_are_not_read(tmp_path: Path) -> None:
    width, size = 50_000, 200  # 40 MB in one file, of which the offsets are 2 KB
    row: npt.NDArray[np.int32] = np.zeros(width, np.int32)
    rows = pa.ListArray.from_arrays(np.arange(size + 1, dtype=np.int32) * width, np.tile(row, size))
    with (
        pa.OSFile(str(tmp_path / "file.arrow"), "wb") as file,
        pa.ipc.new_stream(file, pa.schema({"chosen_input_ids": rows.type})) as writer,
    ):
        writer.write(pa.record_batch([rows], ["chosen_input_ids"]))
    data = datasets.Dataset.from_file(str(tmp_path / "file.arrow"))
    layout = Layout("one", (ids("{}_input_ids", stems=("chosen",)),))
    for given_data in (data, data.shuffle(seed=1, keep_in_memory=True)):
        assert lengths(given_data, layout).tolist() == [[width]] * size
        assert 0 < resident("file.arrow") < 2000
    assert int(data.data.table["chosen_input_ids"].chunk(0).values.to_numpy().sum()) == 0
    assert resident("file.arrow") > 30_000  # what it would be


@given(some_data(least=0), st.sampled_from(["separate", "prompt_left", "padding_free"]))
@fewer(2)
def test_any_lengths(given_data: tuple[Samples, Any], layout: str) -> None:
    rows, data = given_data
    found = lengths(data, layout, inputs="split")
    assert found.dtype == np.int64
    assert found.shape == (len(rows), 3 if layout == "prompt_left" else 2)
    assert found.tolist() == [counted(row, layout) for row in rows]


def counted(row: dict[str, Any], layout: str) -> list[int]:
    prompt, *sides = (len(row[f"{part}_ids"]) for part in Pair._fields)
    return [prompt, *sides] if layout == "prompt_left" else [prompt + side for side in sides]
