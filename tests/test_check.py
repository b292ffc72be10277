"""Looking at a data set: each kind of fault found and named, none invented, whatever the rows come as."""

from __future__ import annotations

import itertools
import pickle
import signal
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import dpo_collate
from data_sets import pa
from dpo_collate import PreferenceCollator, check
from dpo_collate.checking import Checker, Problem, Report
from dpo_collate.layout import Column, Layout, Matrix, Scalar
from dpo_collate.named import NAMES
from pairs import IGNORED, Pair, full, samples, split
from rows_to_check import FULL, SPLIT, Rows, found, good, in_row, messages, pair, raises

if TYPE_CHECKING:
    from collections.abc import Callable

# --- each kind, in a list of samples --------------------------------------------------------------

NULL = "expected a 1-D tensor, array or list of integers"
MISSPELT = (
    "it begins like a key that matters, but is none here: rename or remove it, or choose the layout or the option"
)

FAULTS: dict[str, tuple[dict[str, Any], str, str | None, str]] = {
    "missing": ({"chosen_labels": ...}, "missing", "chosen_labels", "no 'chosen_labels' (its keys: "),
    "null": ({"chosen_labels": None}, "null", "chosen_labels", f"'chosen_labels' is None, {NULL}"),
    "null token": (
        {"rejected_labels": [IGNORED, None, 5, 5, 5]},
        "null",
        "rejected_labels",
        "'rejected_labels' holds None at position 1, expected an integer",
    ),
    "text": ({"chosen_labels": "text"}, "type", "chosen_labels", f"'chosen_labels' is 'text', {NULL}"),
    "floats": (
        {"chosen_labels": np.zeros(5)},
        "type",
        "chosen_labels",
        "'chosen_labels' has dtype float64, expected integers",
    ),
    "number": ({"margin": "text"}, "type", "margin", "'margin' is 'text', expected a number"),
    "shape": (
        {"chosen_labels": np.zeros((1, 5), int)},
        "shape",
        "chosen_labels",
        "'chosen_labels' has shape [1, 5], expected one dimension",
    ),
    "length": (
        {"chosen_labels": [1] * 4},
        "length_mismatch",
        "chosen_labels",
        "'chosen_labels' has 4 tokens, but 'chosen_input_ids' has 5",
    ),
    "overflow": (
        {"chosen_labels": [1, 2, 3, 4, 2**63]},
        "overflow",
        "chosen_labels",
        f"'chosen_labels' holds {2**63} at position 4, which does not fit int64",
    ),
    "misspelt": (
        {"chosen_label": [1]},
        "unknown_key",
        "chosen_label",
        f"unknown key 'chosen_label': {MISSPELT} that takes it (layout 'separate' takes 'chosen_input_ids', ",
    ),
    "empty": (
        {"chosen_input_ids": [], "chosen_labels": []},
        "empty_completion",
        "chosen_input_ids",
        "'chosen_input_ids' has no tokens: expected a completion",
    ),
    "all ignored": (
        {"chosen_labels": [IGNORED] * 5},
        "all_ignored",
        "chosen_labels",
        "'chosen_labels' is -7 at all of its 5 positions: nothing would be scored",
    ),
    "equal": (
        {"rejected_input_ids": [102, 2, 3, 4, 2]},
        "equal_sides",
        "rejected_input_ids",
        "'rejected_input_ids' makes the same row of 5 tokens as 'chosen_input_ids': there is nothing to prefer",
    ),
    "again": (full(pair(1)), "duplicate", None, "the same pair as row 1"),
    "unknown id": (
        {"rejected_input_ids": [1, 2, 300, -1, 301]},
        "vocabulary",
        "rejected_input_ids",
        "'rejected_input_ids' holds 300 at position 2, which is not in the vocabulary of 300 ids",
    ),
    "negative label": (
        {"rejected_labels": [IGNORED, 2, IGNORED, -1, 301]},
        "vocabulary",
        "rejected_labels",
        "'rejected_labels' holds -1 at position 3, which is not in the vocabulary of 300 ids",
    ),
    "number of one": (
        {"margin": 1.0},
        "not_in_all",
        "margin",
        "'margin' is there, but row 0 has none: expected in all rows or in none",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_is_found_and_named(fault: str) -> None:
    changes, kind, key, sentence = FAULTS[fault]
    (problem,) = check(in_row(changes), FULL, vocab_size=300).problems
    assert (problem.row, problem.kind, problem.key) == (2, kind, key)
    assert problem.message.startswith(f"row 2: {sentence}")
    if not sentence.endswith((": ", ", ")):
        assert problem.message == f"row 2: {sentence}"


def test_good_rows_have_no_problems() -> None:
    report = check(good(), FULL, vocab_size=300)
    assert (report.ok, report.rows, report.problems, report.counts()) == (True, 4, (), {})
    assert report.bad_rows.tolist() == []
    assert str(report) == "4 rows, no problems"


@pytest.mark.parametrize("inputs", ["full", "split", None])
@pytest.mark.parametrize("name", NAMES)
def test_good_rows_of_named_layouts_have_no_problems(name: str, inputs: Any) -> None:
    if name == "prompt_left" and inputs == "full":
        return
    rows = samples(name, inputs, [pair(index) for index in range(5)])
    for targets in (None,) if name == "prompt_left" else (None, "labels", "completion_mask"):
        collator = PreferenceCollator(name, inputs=inputs, targets=targets, pad_token_id=0, label_pad_token_id=IGNORED)
        for data in (rows, pa.Table.from_pylist(rows)):
            assert check(data, collator, vocab_size=300).problems == ()
        rejected = "rejected_ids" if inputs == "split" else "rejected_input_ids"
        emptied = [
            rows[0],
            {**rows[1], rejected: [], **({"rejected_labels": []} if "rejected_labels" in rows[1] else {})},
        ]
        for data in (emptied, pa.Table.from_pylist(emptied)):
            assert found(data, collator) == [(1, rejected, "empty_completion")]


def test_no_mapping_and_no_keys() -> None:
    rows: list[Any] = [*good(2), 5, {}]
    assert messages(rows)[0] == "row 2: expected a mapping such as a dict, got int"
    assert found(rows) == [(2, None, "type"), (3, None, "missing")]


def test_several_faults_in_one_row() -> None:
    changes = {
        "chosen_input_ids": [1, 2, None],
        "chosen_labels": [IGNORED] * 3,
        "rejected_input_ids": [1, 400],
        "rejected_labels": [5, 2**64],
        "rejected_label": [1],
        "prompt_length": 5,
        "margin": "text",
        "ref_chosen_logps": "text",
    }
    assert set(found(in_row(changes), vocab_size=300)) == {
        (2, "chosen_input_ids", "null"),
        (2, "chosen_labels", "all_ignored"),
        (2, "rejected_labels", "overflow"),
        (2, "rejected_input_ids", "vocabulary"),
        (2, "rejected_label", "unknown_key"),
        (2, "prompt_length", "unknown_key"),
        (2, "margin", "type"),
        (2, "ref_chosen_logps", "type"),
    }


def test_samples_that_cannot_be_taken_are_not_compared_with_others() -> None:
    rows = [{**row, "margin": "text"} for row in good(2)]
    del rows[1]["chosen_labels"]
    assert found(rows) == [(0, "margin", "type"), (1, "margin", "type"), (1, "chosen_labels", "missing")]


def test_several_faults_of_joined_rows() -> None:
    rows = in_row({"prompt_ids": [2**63], "chosen_ids": None, "rejected_ids": [1.5]}, inputs="split")
    assert set(found(rows, SPLIT)) == {
        (2, "prompt_ids", "overflow"),
        (2, "chosen_ids", "null"),
        (2, "rejected_ids", "type"),
    }


def test_masks_of_one_side() -> None:
    rows = in_row({"chosen_attention_mask": [1] * 5})
    sentence = "no 'rejected_attention_mask', but it has 'chosen_attention_mask': expected both or none"
    joined = PreferenceCollator("concatenated", pad_token_id=0, label_pad_token_id=IGNORED)
    assert messages(rows, joined) == [f"row 2: {sentence}"]
    # Where sides are matrices of their own, a batch of such rows is one.
    assert found(rows) == [(2, "chosen_attention_mask", "not_in_all")]
    rows[0]["chosen_attention_mask"] = [1] * 5
    assert messages(rows)[0] == ("row 1: no 'chosen_attention_mask', but row 0 has it: expected in all rows or in none")


# --- lengths --------------------------------------------------------------------------------------


def test_what_is_too_long() -> None:
    rows = in_row({"chosen_input_ids": [1] * 9, "chosen_labels": [1] * 9, "rejected_input_ids": [2] * 8})
    rows[2]["rejected_labels"] = [1] * 8
    strict = PreferenceCollator(pad_token_id=0, max_length=7, truncation_mode="error")
    assert messages(rows, strict) == [
        "row 2: 'chosen_input_ids' has 9 tokens, more than max_length=7",
        "row 2: 'rejected_input_ids' has 8 tokens, more than max_length=7",
    ]
    buckets = PreferenceCollator("concatenated", pad_token_id=0, buckets=(4, 7))
    assert messages(rows, buckets) == [
        "row 2: 'chosen_input_ids', the longest row, makes a width of 9, more than the largest bucket 7",
        "row 2: 'rejected_input_ids', the longest row, makes a width of 8, more than the largest bucket 7",
    ]
    small = PreferenceCollator(pad_token_id=0, max_batch_bytes=512)
    assert found(rows, small) == [(2, "chosen_input_ids", "too_large")]


def test_truncation_that_leaves_nothing_to_score() -> None:
    row = {"chosen_input_ids": [1] * 5, "chosen_labels": [IGNORED] * 4 + [1]}
    collator = PreferenceCollator(pad_token_id=0, label_pad_token_id=IGNORED, max_length=4)
    assert messages(in_row(row), collator) == [
        "row 2: truncation from 5 to 4 tokens leaves nothing to score in 'chosen_labels'"
    ]
    # What was not scored before is another fault.
    row["chosen_labels"] = [IGNORED] * 5
    assert found(in_row(row), collator) == [(2, "chosen_labels", "all_ignored")]
    joined = PreferenceCollator("concatenated", inputs="split", pad_token_id=0, max_length=3)
    long = in_row({"prompt_ids": [1] * 3}, inputs="split")
    assert found(long, joined) == [(2, "chosen_ids", "nothing_scored"), (2, "rejected_ids", "nothing_scored")]


# --- options --------------------------------------------------------------------------------------


def test_duplicates_are_looked_for_only_if_asked() -> None:
    rows = [*good(2), *good(2)]
    assert found(rows) == [(2, None, "duplicate"), (3, None, "duplicate")]
    assert found(rows, duplicates=False) == []


def test_a_good_row_is_no_duplicate_of_a_bad_one() -> None:
    """Else none of them would be left."""
    row = full(pair(0))
    bad = {**row, "chosen_labels": [1]}
    unreadable = {**row, "margin": "text"}
    assert found([bad, unreadable, row, row, bad]) == [
        (0, "chosen_labels", "length_mismatch"),
        (1, "margin", "type"),
        (3, None, "duplicate"),
        (4, "chosen_labels", "length_mismatch"),
        (4, None, "duplicate"),
    ]


def test_pairs_are_the_same_by_ids_alone() -> None:
    """Other labels and numbers make no other pair; where a prompt ends does."""
    row = full(pair(0))
    assert found([row, {**row, "chosen_labels": [1] * len(row["chosen_labels"])}]) == [(1, None, "duplicate")]
    assert found([{**row, "margin": 1.0}, {**row, "margin": 2.0}]) == [(1, None, "duplicate")]
    prompts = [Pair([1, 2], [3, 4], [3, 5]), Pair([1, 2, 3], [4], [5])]
    assert found([split(one) for one in prompts], SPLIT) == []
    sides = [Pair([1], [2, 3], [4]), Pair([1], [2], [3, 4]), Pair([1], [4], [2, 3])]
    assert found([split(one) for one in sides], SPLIT) == []


def test_without_a_vocabulary_ids_are_not_looked_at() -> None:
    rows = in_row({"chosen_input_ids": [-5, 2**62, 0, 0, 0]})
    assert found(rows) == []
    assert found(rows, vocab_size=2**62 - 1) == [(2, "chosen_input_ids", "vocabulary")]


def test_an_extra_key_that_is_not_allowed() -> None:
    strict = PreferenceCollator(pad_token_id=0, label_pad_token_id=IGNORED, extra_keys="error")
    rows = in_row({"text": "one", "other": 1})
    assert found(rows, strict) == [(2, "text", "unknown_key"), (2, "other", "unknown_key")]
    for how in ("list", "stack"):
        loose = PreferenceCollator(pad_token_id=0, label_pad_token_id=IGNORED, extra_keys=how)
        assert found(rows, loose) == []


# --- layouts of one's own -------------------------------------------------------------------------


def test_a_mask_of_what_is_scored() -> None:
    columns = (Column("ids"), Column("loss_mask", of="{}_mask", dtype="bool"))
    layout = Layout("masked", (Matrix((("a",), ("b",)), columns, tokens="{}_ids"),))
    collator = PreferenceCollator(layout, pad_token_id=0)
    rows = [
        {"a_ids": [1, 2], "b_ids": [3], "a_mask": [0, 1], "b_mask": [1]},
        {"a_ids": [1, 3], "b_ids": [3], "a_mask": [0, 0], "b_mask": [2]},
    ]
    assert messages(rows, collator) == [
        "row 1: 'b_mask' holds 2 at position 0, which does not fit bool",
        "row 1: 'a_mask' is 0 at all of its 2 positions: nothing would be scored",
    ]
    for data in (rows, pa.Table.from_pylist(rows)):
        assert set(found(data, collator)) == {(1, "b_mask", "overflow"), (1, "a_mask", "all_ignored")}


def test_tokens_that_no_column_shows() -> None:
    columns = (Column("lengths", of="length", dtype="int32"), Column("mask", of="ones"))
    collator = PreferenceCollator(
        Layout("counts", (Matrix((("a",), ("b",)), columns, tokens="{}_ids"),)), pad_token_id=0
    )
    rows: Rows = [{"a_ids": [1], "b_ids": [2]}, {"a_ids": None, "b_ids": ["text"]}]
    assert found(rows, collator, vocab_size=1) == [(1, "a_ids", "null"), (1, "b_ids", "type")]


def test_labels_that_two_columns_show_are_looked_at_once() -> None:
    labels = (Column(name, of="{}_labels", pad="label_pad_token_id") for name in ("labels", "targets"))
    matrix = Matrix((("a",),), (Column("ids"), *labels), tokens="{}_ids")
    collator = PreferenceCollator(Layout("twice", (matrix,)), pad_token_id=0, label_pad_token_id=IGNORED)
    assert found([{"a_ids": [1], "a_labels": [IGNORED]}], collator) == [(0, "a_labels", "all_ignored")]


def test_a_column_that_must_not_be_padding_says_it_once() -> None:
    columns = (Column("ids"), Column("mask", of="{}_mask", differs_from=0, nonempty=True))
    collator = PreferenceCollator(Layout("one", (Matrix((("a",),), columns, tokens="{}_ids"),)), pad_token_id=0)
    assert messages([{"a_ids": [1], "a_mask": [0]}], collator) == [
        "row 0: 'a_mask' is all padding: expected at least one value"
    ]


def test_numbers() -> None:
    scalars = (
        Scalar("both", ("one", "two")),
        Scalar("whole", ("whole",), "int64", default=1),
        Scalar("any", ("any",), None),
    )
    layout = Layout("numbers", (Matrix((("a",),), (Column("ids"),), tokens="{}_ids"),), scalars=scalars)
    collator = PreferenceCollator(layout, pad_token_id=0)
    rows = [
        {"a_ids": [1], "one": 1.0, "two": 2, "any": "text"},
        {"a_ids": [2], "one": "text", "two": 10**50, "whole": 1.5},
        {"a_ids": [3], "one": 1.0, "two": None},
    ]
    assert messages(rows, collator) == [
        "row 1: 'one' is 'text', expected a number",
        "row 1: 'two' is an integer beyond 64 bits",
        "row 1: 'whole' has dtype float, expected integers",
        "row 2: no 'two': it is None",
    ]
    table = pa.table({"a_ids": [[1], [2]], "one": [1.0, None], "two": [1, None], "whole": [1, None]})
    assert messages(table, collator) == ["row 1: no 'one': it is None", "row 1: no 'two': it is None"]
    assert raises(KeyError, table.drop_columns("one"), collator).startswith("row 0: no 'one' (its keys: ")


def test_samples_that_are_tuples() -> None:
    matrix = Matrix((("a",), ("b",)), (Column("ids"),), tokens="{}_ids")
    collator = PreferenceCollator(Layout("parts", (matrix,), sample=("a_ids", "b_ids")), pad_token_id=0)
    rows: list[Any] = [([1], [2]), ([3], [4], [5]), ([6], []), {"a_ids": [1], "b_ids": [2]}]
    assert messages(rows, collator) == [
        "row 1: has 3 parts, expected 2: a_ids, b_ids".replace("row 1:", "row 1"),
        "row 2: 'b_ids' has no tokens: expected a completion",
        "row 3: the same pair as row 0",
    ]


def test_a_layout_that_depends_on_the_keys() -> None:
    matrix = Matrix((("*",),), (Column("{}_input_ids"), Column("{}_labels", of="{}_labels", pad="label_pad_token_id")))
    collator = PreferenceCollator(Layout("any", (matrix,), reserved=()), pad_token_id=0, label_pad_token_id=IGNORED)
    rows: list[Any] = in_row({"chosen_labels": [1]})
    rows += [{"other": 1}, 5]
    assert found(rows, collator) == [
        (2, "chosen_labels", "length_mismatch"),
        (4, None, "missing"),
        (5, None, "missing"),
    ]
    table = pa.Table.from_pylist(rows[:4])
    other = pa.table({"good_input_ids": [[1], []], "good_labels": [[1], []]})
    assert found([table, other], collator) == [
        (2, "chosen_labels", "length_mismatch"),
        (5, "good_input_ids", "empty_completion"),
    ]
    assert raises(KeyError, [table, pa.table({"other": [1]})], collator) == "row 4: no key like '*_input_ids'"


# --- the report -----------------------------------------------------------------------------------


def test_a_report_shows_some_of_each_kind() -> None:
    rows = [{**row, "chosen_labels": [1]} for row in good(5)]
    report = check([*rows, *good(1), *good(1)], FULL)
    assert str(report) == "\n".join(
        [
            "7 rows, of which 6 have problems",
            "  length_mismatch: 5",
            *(f"    row {row}: 'chosen_labels' has 1 tokens, but 'chosen_input_ids' has 5" for row in range(3)),
            "    and 2 more",
            "  duplicate: 1",
            "    row 6: the same pair as row 5",
        ]
    )
    assert pickle.loads(pickle.dumps(report)) == report


def test_problems_are_data() -> None:
    problem = Problem(1, None, "duplicate", "row 1: the same pair as row 0")
    assert str(problem) == problem.message
    assert Report(2, (problem,)).bad_rows.tolist() == [1]
    assert dpo_collate.check is check
    assert dpo_collate.checking.check is check


# --- long runs ------------------------------------------------------------------------------------


def test_a_long_run_can_be_interrupted() -> None:
    class Enough(Exception):  # noqa: N818 - it is none
        pass

    def stop(*_: Any) -> None:
        raise Enough

    piece = pa.Table.from_pylist(good(1000, "split"))
    whole = pa.concat_tables(itertools.repeat(piece, 2000))
    seen: list[int] = []
    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    try:
        with pytest.raises(Enough):
            check(whole, SPLIT, duplicates=False, progress=seen.append)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert sum(seen) < len(whole)


CALLS: dict[str, Callable[[Any], Any]] = {"check": lambda rows: check(rows, FULL), "add": Checker(FULL).add}


@pytest.mark.parametrize("call", CALLS)
def test_rows_are_not_changed(call: str) -> None:
    rows = in_row({"chosen_labels": None, "chosen_lable": 1})
    before = pickle.dumps(rows)
    CALLS[call](rows)
    assert pickle.dumps(rows) == before
