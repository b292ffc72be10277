"""What ``check_collator`` says of single faults (one thing of a right batch is changed), and its tries one by one."""

from __future__ import annotations

import importlib
import itertools
import math
import multiprocessing
import sys
import tracemalloc
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from hypothesis import find
from hypothesis import strategies as st

from dpo_collate import PreferenceCollator, testing
from dpo_collate.layout import Column, Layout, Matrix, Media, Scalar
from dpo_collate.testing import (
    Contract,
    Report,
    arrow_tables,
    assert_no_leak,
    assert_picklable,
    check_collator,
    collators,
    drawing,
)
from dpo_collate.testing.checking import checker, trying
from dpo_collate.testing.checking.checker import _named, _tensors
from dpo_collate.testing.checking.contracts import contract_of
from dpo_collate.testing.checking.looking import expected_of, look
from dpo_collate.testing.checking.reports import Broken
from dpo_collate.testing.checking.samples import code
from dpo_collate.testing.comparing import described, numpy_of, outcome
from dpo_collate.testing.reference.cells import Array

if TYPE_CHECKING:
    from collections.abc import Callable

    Batch = dict[str, Any]

LAYOUT = Layout(
    "of all sorts",
    matrices=(
        Matrix(
            (("chosen",),),
            (
                Column("chosen_ids", "tokens"),
                Column("chosen_mask", "ones", dtype="int64"),
                Column("lengths", "length", dtype="int64"),
            ),
        ),
        Matrix((("rejected",),), (Column("rejected_ids", "tokens"),)),
    ),
    scalars=(Scalar("margin", ("margin",), "float32"),),
    constants=(("kind", "dpo"),),
)
SAMPLES = [
    {"chosen_input_ids": [1, 2, 3], "rejected_input_ids": [4], "margin": 0.5},
    {"chosen_input_ids": [5], "rejected_input_ids": [6, 7], "margin": 1.5},
]
COLLATOR = PreferenceCollator(LAYOUT, pad_token_id=0)
CONTRACT = contract_of(COLLATOR)


CHANGES: dict[str, tuple[Callable[[Batch], Any], dict[str, str]]] = {
    "nothing": (lambda batch: batch, {}),
    "other tokens": (
        lambda batch: batch | {"rejected_ids": torch.tensor([[9], [9]])},
        {"ids": "'rejected_ids' has other tokens: [[9], [9]], expected [[4, 0], [6, 7]]"},
    ),
    "a list": (
        lambda batch: batch | {"chosen_ids": batch["chosen_ids"].tolist()},
        {"containers": "'chosen_ids' is a list, expected a tensor"},
    ),
    "rows that are missing": (
        lambda batch: batch | {"rejected_ids": batch["rejected_ids"][:1]},
        {"shapes": "'rejected_ids' has the shape [1, 2], expected [2, 2]"},
    ),
    "a mask of another width": (
        lambda batch: batch | {"chosen_mask": batch["chosen_mask"][:, :2]},
        {"shapes": "'chosen_mask' has the shape [2, 2], but 'chosen_ids' [2, 3]"},
    ),
    "no lengths": (
        lambda batch: {name: value for name, value in batch.items() if name != "lengths"},
        {"keys": "the batch lacks 'lengths'"},
    ),
    "wrong lengths": (
        lambda batch: batch | {"lengths": batch["lengths"] + 1},
        {"positions": "'lengths', cell 0: found 4, expected 3 (and 1 more differ)"},
    ),
    "lengths of another dtype": (
        lambda batch: batch | {"lengths": batch["lengths"].int()},
        {"dtypes": "'lengths' is int32, expected int64"},
    ),
    "numbers as a list": (
        lambda batch: batch | {"margin": [0.5, 1.5]},
        {"containers": "'margin' is a list, expected a tensor"},
    ),
    "numbers in a column": (
        lambda batch: batch | {"margin": batch["margin"][:, None]},
        {"numbers": "'margin' has the shape [2, 1], expected [2]"},
    ),
    "another constant": (lambda batch: batch | {"kind": "sft"}, {"other keys": "'kind' is 'sft', expected 'dpo'"}),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_is_told(name: str) -> None:
    change, findings = CHANGES[name]
    assert look(CONTRACT, SAMPLES, change(COLLATOR(SAMPLES)), expected_of(CONTRACT, SAMPLES)) == findings


def test_keys_in_another_order() -> None:
    batch = COLLATOR(SAMPLES)
    keys = [*batch]
    expected = expected_of(CONTRACT, SAMPLES)
    said = f"the batch has its keys in the order {keys[::-1]}, expected {keys}"
    contract = replace(CONTRACT, in_order=True)
    assert look(contract, SAMPLES, {key: batch[key] for key in reversed(batch)}, expected) == {"key order": said}


def test_sides_that_are_swapped_are_told_once() -> None:
    contract = Contract.of(PreferenceCollator(pad_token_id=0, attention_mask=None))
    rows = {"chosen_labels": [1, 2], "rejected_labels": [3, 4]}
    samples = [{"chosen_input_ids": [1, 2], "rejected_input_ids": [3, 4]} | rows]
    batch = PreferenceCollator(pad_token_id=0, attention_mask=None)(samples)
    other = {"chosen": "rejected", "rejected": "chosen"}
    mixed = {key: batch[f"{other[key.partition('_')[0]]}_{key.partition('_')[2]}"] for key in batch}
    said = {
        "row order": "'chosen_input_ids' has what belongs to 'rejected_input_ids', and the other way round",
    }
    assert look(contract, samples, mixed, expected_of(contract, samples)) == said


def test_samples_that_make_no_batch_are_not_looked_at() -> None:
    samples = [{"chosen_input_ids": [1]}]
    expected = expected_of(CONTRACT, samples)
    assert (expected, look(CONTRACT, samples, {}, expected), _tensors(expected)) == (None, {}, None)


# --- what is tried --------------------------------------------------------------------------------


class Loader:
    """A loader whose worker is this process."""

    def __init__(self, samples: list[Any], *, collate_fn: Any, batch_size: int, **_: Any) -> None:
        self.batches = [samples[at : at + batch_size] for at in range(0, len(samples), batch_size)]
        self.collate = collate_fn

    def __iter__(self) -> Any:
        return map(self.collate, self.batches)


def make() -> list[Any]:
    return [dict(sample) for sample in SAMPLES]


def every_second(exception: type[Exception] | None = None, text: str = "") -> Any:
    """A collator that is right the first time, and then in every second call."""
    turns = itertools.count()

    def collate(samples: Any) -> Any:
        batch = COLLATOR(samples)
        if next(turns) % 2 == 0:
            return batch
        if exception is not None:
            raise exception(text)
        return batch | {"margin": batch["margin"] + 1}

    return collate


def test_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trying, "DataLoader", Loader)
    assert trying.worker(COLLATOR, make) is None
    assert trying.worker(every_second(), make) == (
        "a worker makes another batch: batch['margin'], cell 0: found 1.5, expected 0.5 (and 1 more differ)"
    )
    one_line, several = "no file", 'Caught OSError:\n  File "x"\nKeyError: 5\n'
    assert trying.worker(every_second(OSError, one_line), make) == "in a worker it raises OSError: no file"
    assert trying.worker(every_second(OSError, several), make) == "in a worker it raises OSError: KeyError: 5"


def test_where_there_are_no_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trying, "_uses_cuda", lambda: True)
    with pytest.raises(
        trying.Skipped, match=r"^this process is not to be forked: it uses CUDA, or is a worker itself$"
    ):
        trying.worker(COLLATOR, make)
    monkeypatch.setattr(multiprocessing, "get_all_start_methods", lambda: ["spawn"])
    with pytest.raises(trying.Skipped, match=r"^there is no fork here$"):
        trying.worker(COLLATOR, make)


def test_threads() -> None:
    assert trying.thread_safe(COLLATOR, make) is None
    calls = itertools.count()

    def raising(samples: Any) -> Any:
        if next(calls) > 1:
            raise ValueError("not again")
        return COLLATOR(samples)

    assert trying.thread_safe(raising, make) == "with 4 threads at the same time: it raises ValueError: not again"
    with pytest.raises(trying.Skipped, match=r"^valid samples are not collated$"):
        trying.thread_safe(lambda _samples: 1 / 0, make)


# --- pieces ---------------------------------------------------------------------------------------


def test_kinds_in_words() -> None:
    kinds = ("list plain", "tuple", "numpy narrow", "numpy strided", "torch plain", "torch read-only")
    assert [*map(_named, kinds)] == [
        "lists plain",
        "tuples",
        "int32 arrays",
        "int64 arrays (strided)",
        "int64 tensors",
        "int64 tensors (read-only)",
    ]


def test_code_of_what_is_no_dict() -> None:
    assert (code([]), code([(1, [2])])) == ("samples = []", "samples = [(1, [2])]")


def test_arrays_of_the_reference() -> None:
    assert numpy_of(Array("bfloat16", (2,), [1.0, 2.0])).dtype == np.float32
    with pytest.raises(AssertionError, match=r"^a batch is a dict, and this is <class 'list'>$"):
        outcome(list)


def test_leaks_are_looked_for_while_somebody_traces() -> None:
    tracemalloc.start()
    try:
        assert_no_leak(COLLATOR, make(), calls=20, rounds=2)
        assert tracemalloc.is_tracing()
    finally:
        tracemalloc.stop()


class Forgetful:
    """A collator that is another one where it is unpickled, in this process or in others."""

    def __init__(self, *, raises: bool = False) -> None:
        self.raises, self.calls = raises, 0

    def __call__(self, samples: list[Any]) -> Any:
        self.calls += 1
        if self.raises and multiprocessing.parent_process() is not None:
            raise ValueError("not here")
        return {"ids": torch.tensor([len(samples), int(multiprocessing.parent_process() is not None)])}


@pytest.mark.parametrize(
    ("raises", "said"),
    [
        (
            False,
            r"^in a spawned process the collator makes another batch: batch\['ids'\], cell 1: found 1, expected 0$",
        ),
        (True, r"^in a spawned process the collator raised ValueError: not here$"),
    ],
)
def test_pickling_to_a_process_where_it_is_another(raises: bool, said: str) -> None:  # noqa: FBT001 - a parameter
    with pytest.raises(AssertionError, match=said):
        assert_picklable(Forgetful(raises=raises), [1, 2], spawned=True)


class Stubborn:
    """A collator that cannot be copied."""

    def __call__(self, samples: list[Any]) -> Any:
        return COLLATOR(samples)

    def __deepcopy__(self, _memo: Any) -> Any:
        raise RuntimeError("there is one of me")


def only_lists(samples: list[Any]) -> Any:
    if not all(type(sample["chosen_input_ids"]) is list for sample in samples):
        raise TypeError
    return COLLATOR(samples)


def check(collator: Any, *properties: str) -> Report:
    return check_collator(collator, CONTRACT, properties=properties, max_examples=4, seconds=math.inf)


def test_a_collator_that_cannot_be_copied() -> None:
    assert check(Stubborn(), "ids", "deterministic").passed == ("ids", "deterministic")


def test_a_collator_of_lists_alone() -> None:
    (broken,) = check(only_lists, "input kinds").broken
    assert broken.sentence == "rows that are tuples raise TypeError"


def test_nothing_is_tried_with_what_raises() -> None:
    said = check(lambda _samples: 1 / 0, "thread-safe").skipped
    assert said == (("thread-safe", "valid samples are not collated"),)


def test_what_cannot_be_tried_is_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    def impossible(_collator: Any, _make: Any) -> None:
        raise trying.Skipped("not here")

    monkeypatch.setitem(trying.TRIES, "thread-safe", (impossible, 1))
    assert check(COLLATOR, "thread-safe").skipped == (("thread-safe", "not here"),)


def test_what_needs_a_steady_collator_is_skipped_without_one() -> None:
    report = check(every_second(), "deterministic", "thread-safe")
    assert [each.property for each in report.broken] == ["deterministic"]
    assert [name for name, _ in report.skipped] == ["thread-safe"]


def test_a_contract_that_no_batch_keeps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checker, "_valid", lambda *_: [])
    with pytest.raises(ValueError, match=r"none of 4 random batches is valid$"):
        check(COLLATOR, "ids")


def test_small_pieces() -> None:
    assert Broken("picklable", "it is a lambda", None, None, None).code == ""
    value = [1]
    assert described([value]) == [id(value)]


def test_options_that_are_given_are_not_drawn() -> None:
    media = (Media("tiles", ("tiles",)),)
    found = find(collators(st.just("separate"), media=media, buckets=(8,)), lambda _: True)
    assert (found.media, found.buckets, found.images, found.pad_to_multiple_of) == (media, (8,), None, None)


def test_what_is_not_installed_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.delitem(sys.modules, "dpo_collate.testing.drawing.arrow", raising=False)
    monkeypatch.delattr(drawing, "arrow", raising=False)
    with pytest.raises(ModuleNotFoundError, match=r"arrow_tables needs pyarrow$"):
        arrow_tables()
    monkeypatch.setitem(sys.modules, "hypothesis", None)
    with pytest.raises(ModuleNotFoundError, match=r"dpo_collate\.testing needs hypothesis and torch"):
        importlib.reload(testing)


def other_of_tuples(samples: list[Any]) -> Any:
    batch = COLLATOR(samples)
    if all(type(sample["chosen_input_ids"]) is list for sample in samples):
        return batch
    return batch | {"margin": batch["margin"] + 1}


def test_rows_of_one_kind_that_give_another_batch() -> None:
    (broken,) = check(other_of_tuples, "input kinds").broken
    assert broken.sentence.startswith("rows that are tuples give another batch than lists: batch['margin'], cell 0: ")


def test_a_fault_that_comes_and_goes_is_no_fault_of_its_facet() -> None:
    turns = itertools.count()

    def now_and_then(samples: Any) -> Any:
        batch = COLLATOR(samples)
        return batch | {"margin": batch["margin"] + 1} if next(turns) // 3 % 2 == 0 else batch

    report = check(now_and_then, "deterministic", "numbers")
    assert [each.property for each in report.broken] == ["deterministic"]


def test_images_that_are_missing_are_told_once() -> None:
    collator = PreferenceCollator(pad_token_id=0)
    rows = {f"{side}_{of}": [1, 2] for side in ("chosen", "rejected") for of in ("input_ids", "labels")}
    samples = [rows | {"pixel_values": np.ones((1, 3, 2, 2), np.float32), "image_flags": np.ones(1, np.int64)}]
    contract = contract_of(collator)
    batch = {name: value for name, value in collator(samples).items() if name != "pixel_values"}
    found = look(contract, samples, batch, expected_of(contract, samples))
    assert found == {"keys": "the batch lacks 'pixel_values'"}
    array = np.ones(2)
    assert numpy_of(array) is array
