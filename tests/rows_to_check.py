"""Rows for the tests of looking at data sets, and what is found in them."""

from __future__ import annotations

from typing import Any

import pytest

from dpo_collate import PreferenceCollator, check
from pairs import IGNORED, PAD, Pair, full, split

Rows = list[dict[str, Any]]
FULL = PreferenceCollator(pad_token_id=PAD, label_pad_token_id=IGNORED)
SPLIT = PreferenceCollator("concatenated", inputs="split", pad_token_id=PAD)


def pair(index: int) -> Pair:
    """Pairs that are good, and no two of them alike."""
    return Pair([100 + index, 2], [3, 4, index], [5] * (1 + index % 3))


def good(number: int = 4, inputs: str = "full") -> Rows:
    form = split if inputs == "split" else full
    return [form(pair(index)) for index in range(number)]


def found(rows: Any, collator: PreferenceCollator = FULL, **options: Any) -> list[tuple[int, str | None, str]]:
    return [(problem.row, problem.key, problem.kind) for problem in check(rows, collator, **options).problems]


def messages(rows: Any, collator: PreferenceCollator = FULL, **options: Any) -> list[str]:
    return [problem.message for problem in check(rows, collator, **options).problems]


def in_row(changes: dict[str, Any], row: int = 2, inputs: str = "full", number: int = 4) -> Rows:
    """Good rows, one of which is changed; what is `...` there is left out."""
    rows = good(number, inputs)
    changed = {**rows[row], **changes}
    rows[row] = {key: value for key, value in changed.items() if value is not ...}
    return rows


def raises(kind: type[Exception], data: Any, collator: Any = FULL, **options: Any) -> str:
    with pytest.raises(kind) as caught:
        check(data, collator, **options)
    (sentence,) = caught.value.args
    return str(sentence)
