"""Looking at tables, data sets and streams: the same problems whatever the rows come as; what is wrong with a table."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
from torch.utils.data import Dataset, Subset

from data_sets import datasets, pa
from dpo_collate import PreferenceCollator, check
from dpo_collate.checking import Checker
from dpo_collate.datasets import ArrowRows
from pairs import IGNORED, full
from rows_to_check import FULL, SPLIT, Rows, found, good, in_row, pair, raises

# --- tables ---------------------------------------------------------------------------------------

FAULTY: Rows = [
    *good(2),
    {**full(pair(2)), "chosen_labels": None, "rejected_labels": [1]},
    {**full(pair(3)), "chosen_input_ids": [1, 2, None, 3, 4], "rejected_labels": [IGNORED] * 3},
    full(pair(0)),
    {**full(pair(5)), "chosen_input_ids": [1] * 5, "rejected_input_ids": [1] * 5},
    {**full(pair(6)), "rejected_input_ids": [1, 2, 999]},
    {**full(pair(7)), "chosen_input_ids": [], "chosen_labels": []},
    full(pair(8)),
]
EXPECTED = [
    (2, "chosen_labels", "null"),
    (2, "rejected_labels", "length_mismatch"),
    (3, "chosen_input_ids", "null"),
    (3, "rejected_labels", "all_ignored"),
    (4, None, "duplicate"),
    (5, "rejected_input_ids", "equal_sides"),
    (6, "rejected_input_ids", "vocabulary"),
    (7, "chosen_input_ids", "empty_completion"),
]


def tables() -> dict[str, Any]:
    whole = pa.Table.from_pylist(FAULTY)
    data = datasets.Dataset(whole)
    shuffled = datasets.Dataset(whole.take([3, 1, 0, 2, *range(4, 9)])).select([2, 1, 3, 0, *range(4, 9)])
    return {
        "list": FAULTY,
        "tuple": tuple(FAULTY),
        "iterator": iter(FAULTY),
        "table": whole,
        "int32": whole.cast(pa.schema([(name, pa.large_list(pa.int32())) for name in whole.column_names])),
        "tables of one row": [whole.slice(row, 1) for row in range(len(FAULTY))],
        "samples and tables": [*FAULTY[:3], whole.slice(3)],
        "reader": whole.to_reader(max_chunksize=2),
        "pieces": pa.concat_tables([whole.slice(begin, 2) for begin in range(0, 9, 2)]),
        "data set": data,
        "selected": shuffled,
        "rows": ArrowRows(data),
        "stream": data.to_iterable_dataset(),
        "torch": Subset(FAULTY, range(len(FAULTY))),  # type: ignore[arg-type]
    }


@pytest.mark.parametrize("of", tables())
def test_every_form_of_rows_has_the_same_problems(of: str) -> None:
    report = check(tables()[of], FULL, vocab_size=300)
    assert report.rows == len(FAULTY)
    assert sorted((problem.row, problem.key or "", problem.kind) for problem in report.problems) == sorted(
        (row, key or "", kind) for row, key, kind in EXPECTED
    )
    assert report.bad_rows.dtype == np.int64
    assert report.bad_rows.tolist() == [2, 3, 4, 5, 6, 7]
    assert report.counts() == Counter(kind for _, _, kind in EXPECTED)


def test_chunks_do_not_matter() -> None:
    whole = pa.Table.from_pylist(FAULTY)
    together = check(whole, FULL, vocab_size=300).problems
    for size in (1, 2, 5):
        checker = Checker(FULL, vocab_size=300)
        added = [problem for begin in range(0, 9, size) for problem in checker.add(whole.slice(begin, size))]
        assert tuple(added) == checker.report().problems == together
    mixed = Checker(FULL, vocab_size=300)
    mixed.add(FAULTY[:4])
    assert [problem.row for problem in mixed.add(whole.slice(4))] == [4, 5, 6, 7]
    assert mixed.report().rows == 9


def test_rows_of_many_pieces() -> None:
    """More rows than are looked at at once, in pieces of the caller's sizes."""
    rows = good(2500)
    rows[1030]["chosen_labels"] = [1]
    rows[2499] = rows[1024]
    expected = [(1030, "chosen_labels", "length_mismatch"), (2499, None, "duplicate")]
    whole = pa.Table.from_pylist(rows)
    seen: list[int] = []
    for data in (rows, whole, pa.concat_tables([whole.slice(0, 1029), whole.slice(1029)]), datasets.Dataset(whole)):
        assert found(data, progress=seen.append) == expected
    assert sum(seen) == 4 * 2500
    assert max(seen) == 1024


def test_null_rows_of_a_table() -> None:
    struct = pa.array([*good(2), None, full(pair(3)), None])

    class Struct:
        def __arrow_c_array__(self, requested_schema: Any = None) -> Any:
            return struct.__arrow_c_array__(requested_schema)

    report = check(Struct(), FULL)
    assert [(problem.row, problem.kind) for problem in report.problems] == [(2, "null"), (4, "null")]
    assert report.problems[0].message == "row 2: expected a mapping such as a dict, got null"


# --- what is wrong with a table as a whole --------------------------------------------------------


def test_a_column_that_is_missing_is_one_error() -> None:
    table = pa.Table.from_pylist(good(3))
    names = ", ".join(f"'{name}'" for name in table.column_names if name != "chosen_labels")
    assert raises(KeyError, table.drop_columns("chosen_labels")) == f"row 0: no 'chosen_labels' (its keys: {names})"
    later = pa.table(table.slice(1).drop_columns("chosen_labels"))
    assert raises(KeyError, [table, later]) == f"row 3: no 'chosen_labels' (its keys: {names})"
    assert raises(KeyError, table, SPLIT).startswith("row 0: ")
    beside = table.append_column("chosen_attention_mask", table["chosen_labels"])
    joined = PreferenceCollator("concatenated", pad_token_id=0)
    assert raises(KeyError, beside, joined) == (
        "row 0: no 'rejected_attention_mask', but it has 'chosen_attention_mask': expected both or none"
    )


def test_a_column_that_is_misspelt_is_one_error() -> None:
    table = pa.Table.from_pylist(good(3))
    misspelt = table.append_column("chosen_label", table["chosen_labels"])
    assert raises(KeyError, [table, misspelt]).startswith("row 3: unknown key 'chosen_label': it begins like")


def test_a_column_of_another_type_is_one_error() -> None:
    table = pa.Table.from_pylist([{**row, "chosen_labels": "text"} for row in good(3)])
    sentence = "row 0: 'chosen_labels' is an Arrow column of type "
    assert raises(TypeError, table).startswith(sentence)
    assert raises(TypeError, [pa.Table.from_pylist(good(2)), table]).startswith(sentence.replace("0", "2"))


def test_what_are_no_rows() -> None:
    expected = "expected a data set, a table with the Arrow PyCapsule protocol, or a list of samples"
    assert raises(TypeError, 5) == f"data is a int, {expected}"
    assert raises(TypeError, good()[0]) == f"data is a dict, {expected}"
    assert raises(TypeError, "text") == f"data is a str, {expected}"
    assert raises(TypeError, datasets.DatasetDict()).startswith("dataset has splits (none)")
    assert raises(TypeError, good(), "separate") == (
        "'separate': expected a PreferenceCollator, a drop-in, or a function that calls one"
    )
    assert raises(ValueError, good(), vocab_size=0) == "vocab_size=0: expected 1 or more"
    assert raises(TypeError, good(), vocab_size="all") == "vocab_size='all': expected an integer"


def test_nothing_is_a_good_data_set() -> None:
    nothing: list[Any] = [[], pa.Table.from_pylist(good(1)).slice(1), ()]
    for data in nothing:
        assert check(data, FULL).rows == 0
        assert check(data, FULL).ok


def test_what_a_data_set_raises_is_raised() -> None:
    class Rows(Dataset[Any]):
        def __len__(self) -> int:
            return 3

        def __getitem__(self, index: int) -> Any:
            raise RuntimeError(f"row {index} cannot be read")

    assert raises(RuntimeError, Rows()) == "row 0 cannot be read"

    class Value:
        def __array__(self, *_: Any, **__: Any) -> Any:
            raise ValueError("there is no such file")

    assert raises(ValueError, in_row({"chosen_labels": Value()})) == "there is no such file"

    class Number:
        def __float__(self) -> float:
            raise ValueError("not today")

    assert raises(ValueError, in_row({"margin": Number()})) == "not today"


def test_rows_that_raise_are_not_counted() -> None:
    """Whoever brings them into another form, and looks at that, has the right numbers, and no row is its own double."""
    rows: Rows = [{**row, "chosen_labels": None} for row in good(1500)]
    rows[-1]["chosen_labels"] = ["text"]
    checker = Checker(FULL)
    checker.add(good(2))
    with pytest.raises(TypeError, match=r"^row 1501: 'chosen_labels' is an Arrow column of type "):
        checker.add(pa.Table.from_pylist(rows))
    assert (checker.report().rows, checker.report().problems) == (2, ())
    checker.add(rows)
    assert checker.report().rows == 1502
    kinds = dict.fromkeys(range(1499), "null") | {1499: "type"}
    assert [(problem.row - 2, problem.kind) for problem in checker.report().problems] == [*kinds.items()]
