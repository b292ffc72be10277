"""What the plain reference refuses: the collator refuses it as well. And pieces that chance seldom draws."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import find

from dpo_collate import PreferenceCollator, _messages, _watched
from dpo_collate.layout import Column, Layout, Length, Matrix, Media, Scalar
from dpo_collate.testing import reference_collate
from dpo_collate.testing.assertions import _collated
from dpo_collate.testing.comparing import told
from dpo_collate.testing.drawing import arrow
from dpo_collate.testing.fuzzing import properties

ROWS = Matrix((("chosen",),), (Column("ids", "tokens"),))
OPTIONAL = Matrix(
    (("prompt",),), (Column("prompts", "tokens"), Column("more", "{}_labels", dtype="int64")), optional=True
)
WILD = Matrix((("*",),), (Column("{}_ids", "tokens"),), tokens="{}_ids")
SAMPLE = {"chosen_input_ids": [1]}


def layout(*matrices: Matrix, **options: Any) -> Layout:
    return Layout("of a test", **{"matrices": matrices or (ROWS,), **options})


def with_media(combine: Any, **options: Any) -> Layout:
    return layout(media=(Media("images", ("images",), combine=combine, **options),))


REFUSED: dict[str, tuple[Layout, list[Any], type[Exception]]] = {
    "another number of parts": (layout(sample=("chosen_input_ids",)), [([1], [2])], ValueError),
    "labels without tokens": (layout(ROWS, OPTIONAL), [SAMPLE | {"prompt_labels": [1]}], KeyError),
    "no number": (layout(scalars=(Scalar("margin", ("margin",), "float32"),)), [SAMPLE], KeyError),
    "an unknown key": (layout(extra="error", reserved=()), [SAMPLE | {"text": 1}], KeyError),
    "a row that fits no bucket": (
        layout(Matrix((("chosen",),), (Column("ids", "tokens"),), length=Length(buckets=(1,)))),
        [{"chosen_input_ids": [1, 2]}],
        ValueError,
    ),
    "no images": (with_media("cat", optional=False), [SAMPLE], KeyError),
    "images of some": (
        with_media("stack"),
        [SAMPLE | {"images": np.ones((1, 2))}, SAMPLE],
        KeyError,
    ),
    "images of other shapes": (
        with_media("cat"),
        [SAMPLE | {"images": np.ones((1, 2))}, SAMPLE | {"images": np.ones((1, 3))}],
        ValueError,
    ),
    "a padding that is no integer": (
        with_media("pad", pad=0.5),
        [SAMPLE | {"images": np.ones(1, np.int64)}, SAMPLE | {"images": np.ones(2, np.int64)}],
        OverflowError,
    ),
    "values of several kinds": (
        layout(extra="stack", reserved=()),
        [SAMPLE | {"more": torch.ones(1)}, SAMPLE | {"more": [1.0]}],
        TypeError,
    ),
    "values of several shapes": (
        layout(extra="stack", reserved=()),
        [SAMPLE | {"more": torch.ones(1)}, SAMPLE | {"more": torch.ones(2)}],
        ValueError,
    ),
    "lists of several lengths": (with_media("cat"), [SAMPLE | {"images": [[1.0], [1.0, 2.0]]}], TypeError),
    "no row of tokens": (layout(WILD), [{"text": 1}], KeyError),
    "no key of that form": (
        layout(WILD, scalars=(Scalar("*_logps", ("*_logps",), "float32"),)),
        [{"a_ids": [1]}],
        KeyError,
    ),
    "a key that is no text": (layout(WILD), [{5: 1}], KeyError),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_by_both(name: str) -> None:
    table, samples, exception = REFUSED[name]
    with pytest.raises(exception):
        PreferenceCollator(table, pad_token_id=0)(samples)
    with pytest.raises((exception, ValueError)):  # (of what kind the error is depends on who reads nested lists)
        reference_collate(samples, table, pad_token_id=0)


def test_columns_of_nothing_and_of_common_types() -> None:
    """Other libraries have no null columns, and no halves."""
    halves = [{"images": np.ones((1, 2), np.float16)}]

    def seen(told: arrow.Told) -> bool:
        return bool(pa.types.is_int64(told.table.schema.field("nothing").type))

    samples = [{"nothing": None} | one for one in halves]
    told = find(arrow.tables(samples, common=True), seen)
    assert repr(told).endswith(told.table.schema.to_string())
    draw: Any = None
    nothing = arrow.array_column(draw, [None, None], arrow._Around(0, 0))
    mixed = [{"chosen_input_ids": [1, 0.5]}, {"chosen_input_ids": [2]}]
    assert find(arrow.tables(mixed), lambda _: True).samples == [
        {"chosen_input_ids": [1.0, 0.5]},
        {"chosen_input_ids": [2.0]},
    ]
    assert (nothing[0].null_count, nothing[2]) == (2, [None, None])


def broken(collate: Any, samples: list[Any], **options: Any) -> str:
    expected = told(reference_collate(samples, "separate", pad_token_id=0))
    found = properties.broken(
        collate, samples, expected, **{"min_length": None, "agree": True, "sent": False, **options}
    )
    assert found is not None
    return found[0]


def test_properties_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    right = PreferenceCollator(pad_token_id=0)
    keys = ("chosen_input_ids", "chosen_labels", "rejected_input_ids", "rejected_labels")
    samples = [{key: [1, 2] for key in keys}]
    calls = [0]

    def writing(given: Any, **_: Any) -> Any:
        batch = right(given)
        given[0]["chosen_labels"] = [1, 2]
        return batch

    def forgetting(given: Any, **_: Any) -> Any:
        calls[0] += 1
        return right(given) if calls[0] == 1 else {}

    assert broken(writing, samples) == "the samples have changed"
    assert broken(forgetting, samples) == "the second batch of the same samples is another one"
    one = [{key: [1] for key in keys}]
    refused = ("an error", "ValueError")

    def refusing(_given: Any, **_: Any) -> Any:
        raise ValueError("no")

    found = properties.broken(refusing, one, refused, min_length=None, agree=False, sent=False)
    assert found is not None
    assert found[0] == "the error does not name the sample: no"
    real = PreferenceCollator.__call__

    def other_arrays(self: Any, given: Any, **options: Any) -> Any:
        batch = real(self, given, **options)
        return batch if self.return_tensors == "pt" else {}

    monkeypatch.setattr(PreferenceCollator, "__call__", other_arrays)
    assert broken(right, samples) == "return_tensors='np' gives another batch than 'pt'"


def test_what_another_process_says() -> None:
    good, bad = pickle.dumps(PreferenceCollator(pad_token_id=0)), pickle.dumps(len)
    keys = ("chosen_input_ids", "chosen_labels", "rejected_input_ids", "rejected_labels")
    batch = pickle.loads(_collated(good, pickle.dumps([{key: [1] for key in keys}])))
    assert batch["chosen_input_ids"].tolist() == [[1]]
    assert pickle.loads(_collated(bad, pickle.dumps(5))) == "TypeError: object of type 'int' has no len()"


def test_a_descriptor_that_cannot_be_offered(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(_descriptor: int) -> Any:
        raise OSError("no descriptor")

    monkeypatch.setattr(_messages, "DupFd", refuses)
    with pytest.raises(OSError, match=r"^no descriptor$"):
        _messages._offer(0)


def test_counts_go_on_beside_what_sends_tensors_from_now_on() -> None:
    reducer = _watched._Reducer(repr)
    assert reducer.around(str) == _watched._Reducer(str)
