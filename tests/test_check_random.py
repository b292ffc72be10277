"""Random faults, against a slow plain reference; and random samples, against the collator itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from data_sets import pa
from dpo_collate import PreferenceCollator, check
from dpo_collate.checking import Checker
from dpo_collate.named import NAMES
from dpo_collate.testing import batches
from fewer import fewer
from pairs import IGNORED, SIDES
from reference_check import Asked, reference_check

if TYPE_CHECKING:
    from dpo_collate.checking import Problem

Rows = list[dict[str, Any]]
REFUSED = {
    "missing",
    "null",
    "type",
    "shape",
    "length_mismatch",
    "overflow",
    "unknown_key",
    "too_long",
    "too_large",
    "nothing_scored",
    "images",
    "image_flags",
    "image_tokens",
    "truncated_images",
}
"""Kinds of what a collator refuses of a row alone."""


@st.composite
def rows(draw: st.DrawFn, inputs: str) -> Rows:
    """Rows of few tokens, so that equal ones come about; some have faults."""
    token = st.integers(0, 3) if draw(st.booleans()) else st.integers(-1, 6)
    some = st.lists(token, max_size=4)
    made: Rows = []
    for _ in range(draw(st.integers(1, 6))):
        row: dict[str, Any] = {}
        parts = ("prompt", *SIDES) if inputs == "split" else SIDES
        for part in parts:
            ids = draw(some)
            row[f"{part}_ids" if inputs == "split" else f"{part}_input_ids"] = ids
            if inputs == "full":
                row[f"{part}_labels"] = [draw(st.sampled_from([IGNORED, one])) for one in ids]
        if draw(st.integers(0, 3)) == 0:
            for part in parts:
                tokens = row[f"{part}_ids" if inputs == "split" else f"{part}_input_ids"]
                row[f"{part}_attention_mask"] = [1] * len(tokens)
        if draw(st.booleans()):
            row["margin"] = draw(st.sampled_from([None, 1.0]))
        made.append(row)
    for _ in range(draw(st.integers(0, 4))):
        row = draw(st.sampled_from(made))
        key = draw(st.sampled_from(sorted(row)))
        if key == "margin":
            continue
        values = list(row[key] or ())
        row[key] = draw(
            st.sampled_from([None, [*values, 1], values[:-1], [*values[:-1], None], [IGNORED] * len(values), []])
        )
    return made


def cases() -> list[tuple[str, str]]:
    return [(name, inputs) for name in NAMES for inputs in ("full", "split") if name != "prompt_left"]


@pytest.mark.parametrize(("name", "inputs"), cases())
@fewer(4)
@given(st.data())
def test_random_faults_are_those_of_the_reference(name: str, inputs: str, data: st.DataObject) -> None:
    given_rows = data.draw(rows(inputs))
    if name == "padding_free":  # it looks at no masks
        given_rows = [{key: row[key] for key in row if "mask" not in key} for row in given_rows]
    asked = Asked(
        inputs,
        joined=name != "separate",
        max_length=data.draw(st.sampled_from([None, None, 1, 3, 5])),
        keep=data.draw(st.sampled_from(["keep_start", "keep_end", "error"])),
        vocab_size=data.draw(st.sampled_from([None, 5])),
        skip=int(name == "padding_free"),
    )
    collator = PreferenceCollator(
        name,
        inputs=inputs,  # type: ignore[arg-type]
        pad_token_id=0,
        label_pad_token_id=IGNORED,
        max_length=asked.max_length,
        truncation_mode=asked.keep,  # type: ignore[arg-type]
    )
    expected = reference_check(given_rows, asked)
    assert by_row(check(given_rows, collator, vocab_size=asked.vocab_size).problems, len(given_rows)) == expected
    table = as_table(given_rows)
    size = data.draw(st.integers(1, 6))
    checker = Checker(collator, vocab_size=asked.vocab_size)
    for begin in range(0, len(given_rows), size):
        checker.add(table.slice(begin, size))
    assert by_row(checker.report().problems, len(given_rows)) == expected
    event(f"faults: {min(sum(map(len, expected)), 3)}")


def by_row(problems: tuple[Problem, ...], number: int) -> list[set[tuple[str | None, str]]]:
    found: list[set[tuple[str | None, str]]] = [set() for _ in range(number)]
    for problem in problems:
        assert problem.message.startswith(f"row {problem.row}: ")
        assert (problem.key, problem.kind) not in found[problem.row], "nothing is said twice"
        found[problem.row].add((problem.key, problem.kind))
    assert [problem.row for problem in problems] == sorted(problem.row for problem in problems)
    return found


def as_table(given_rows: Rows) -> Any:
    names = dict.fromkeys(name for row in given_rows for name in row)
    types = {name: pa.float64() if name == "margin" else pa.list_(pa.int64()) for name in names}
    return pa.Table.from_pylist(given_rows, schema=pa.schema(types.items()))


FORMS = [
    (name, inputs) for name in NAMES for inputs in (None, "full", "split") if (name, inputs) != ("prompt_left", "full")
]


@pytest.mark.parametrize(("name", "inputs"), FORMS)
@fewer(12)
@given(st.data())
def test_a_row_is_refused_as_the_collator_refuses_it(name: str, inputs: Any, data: st.DataObject) -> None:
    """Samples with images, numbers and keys of all kinds: what a batch of one is refused for, in the same words."""
    options: dict[str, Any] = {"max_length": data.draw(st.sampled_from([None, 1, 5])), "truncation_mode": "keep_end"}
    if name == "prompt_left":
        options = {}
    collator = PreferenceCollator(name, inputs=inputs, pad_token_id=0, **options)
    samples = data.draw(batches(name, inputs=inputs, kinds="plain"))
    problems = check(samples, collator).problems
    for row, sample in enumerate(samples):
        of_row = [problem for problem in problems if problem.row == row]
        try:
            collator([sample])
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            event("refused")
            sentence = error.args[0].replace("sample 0:", f"row {row}:")
            assert sentence in {problem.message for problem in of_row}
        else:
            assert not REFUSED & {problem.kind for problem in of_row}


@st.composite
def good_rows(draw: st.DrawFn, name: str, inputs: Any) -> Rows:
    """Rows of any length, no two alike, with all of one batch's keys."""
    number = draw(st.integers(1, 5))
    masks, margins = draw(st.booleans()), draw(st.booleans())
    split = inputs == "split" or name == "prompt_left"
    made: Rows = []
    for index in range(number):
        row: dict[str, Any] = {}
        for at, part in enumerate(("prompt", *SIDES) if split else SIDES):
            ids = [index, at, *draw(st.lists(st.integers(0, 99), max_size=draw(st.sampled_from([3, 40]))))]
            row[f"{part}_ids" if inputs == "split" else f"{part}_input_ids"] = ids
            if not split:
                prompt = draw(st.integers(0, len(ids) - 1))
                row[f"{part}_labels"] = [IGNORED] * prompt + ids[prompt:]
            if masks:
                row[f"{part}_attention_mask"] = [1] * len(ids)
        if margins:
            row["margin"] = draw(st.floats(0, 1))
        made.append(row)
    return made


@pytest.mark.parametrize(("name", "inputs"), FORMS)
@fewer(12)
@given(st.data())
def test_good_rows_have_no_problems(name: str, inputs: Any, data: st.DataObject) -> None:
    made = data.draw(good_rows(name, inputs))
    collator = PreferenceCollator(name, inputs=inputs, pad_token_id=0, label_pad_token_id=IGNORED)
    for given_rows in (made, as_table(made), [*made[:1], as_table(made).slice(1)]):
        assert check(given_rows, collator, vocab_size=100).problems == ()
