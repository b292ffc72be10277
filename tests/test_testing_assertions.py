"""The assertions: what they let pass, and what they say of what they do not."""

from __future__ import annotations

import array
import functools
import os
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dpo_collate import PreferenceCollator
from dpo_collate.named import named
from dpo_collate.testing import (
    assert_collates_like,
    assert_no_leak,
    assert_picklable,
    assert_samples_unchanged,
)
from dpo_collate.testing.comparing import difference, fingerprint, shared
from dpo_collate.testing.drawing.kinds import row_kinds

SIDES = ("chosen", "rejected")
SAMPLE: dict[str, Any] = {f"{side}_{of}": [7, 5] for side in SIDES for of in ("input_ids", "labels")}
OURS = PreferenceCollator(pad_token_id=0)


def message(call: Any, *arguments: Any, **options: Any) -> str:
    with pytest.raises(AssertionError) as caught:
        call(*arguments, **options)
    return str(caught.value)


# --- batches --------------------------------------------------------------------------------------

ONE = torch.tensor([[1, 2], [3, 4]])
DIFFER: list[tuple[Any, Any, str]] = [
    ({"a": 1}, [1], "batch is a dict ({'a': 1}), expected a list ([1])"),
    ([1], {"a": 1}, "batch is a list ([1]), expected a dict ({'a': 1})"),
    ((1,), (1, 2), "batch has 1 parts, expected 2"),
    ({"a": 1, "b": 2}, {"a": 1, "c": 2}, "batch lacks 'c', has 'b', which is not expected"),
    ({"a": [1, None]}, {"a": [1, 2]}, "batch['a'][1] is a NoneType (None), expected an int (2)"),
    ({"a": "x"}, {"a": "y"}, "batch['a'] is 'x', expected 'y'"),
    ({"a": 1}, {"a": ONE}, "batch['a'] is an int (1), expected a tensor"),
    ({"a": ONE}, {"a": ONE.numpy()}, "batch['a'] is a Tensor (tensor([[1, 2],        [3, 4]])), expected an array"),
    ({"a": ONE.int()}, {"a": ONE}, "batch['a'] is int32, expected int64"),
    ({"a": ONE[:1]}, {"a": ONE}, "batch['a'] has the shape [1, 2], expected [2, 2]"),
    ({"a": ONE * 2}, {"a": ONE}, "batch['a'], row 0, cell 0: found 2, expected 1 (and 3 more differ)"),
    (torch.tensor([1, 2]), torch.tensor([1, 3]), "batch, cell 1: found 2, expected 3"),
    (torch.tensor(1), torch.tensor(2), "batch: found 1, expected 2"),
    (torch.zeros(1, 1, 2), torch.ones(1, 1, 2), "batch, index [0, 0, 0]: found 0.0, expected 1.0 (and 1 more differ)"),
    (torch.tensor([0.0]), torch.tensor([-0.0]), "batch, cell 0: found 0.0, expected -0.0"),
    (ONE.bfloat16(), ONE.bfloat16() + 1, "batch, row 0, cell 0: found 1.0, expected 2.0 (and 3 more differ)"),
]


@pytest.mark.parametrize(("found", "expected", "sentence"), DIFFER)
def test_differences(found: Any, expected: Any, sentence: str) -> None:
    assert message(assert_collates_like, lambda _: found, lambda _: expected, []) == sentence
    assert difference(found, found) is None


def test_nans_are_the_same_and_keys_have_an_order_where_it_is_asked_for() -> None:
    nan = torch.tensor([float("nan")])
    assert_collates_like(lambda _: {"a": nan, "b": 1}, lambda _: {"b": 1, "a": nan.clone()}, [])
    sentence = message(assert_collates_like, lambda _: {"a": 1, "b": 1}, lambda _: {"b": 1, "a": 1}, [], in_order=True)
    assert sentence == "batch has its keys in the order ['a', 'b'], expected ['b', 'a']"
    long = message(assert_collates_like, lambda _: "a" * 90, lambda _: "b", [])
    assert long == f"batch is '{'a' * 76}..., expected 'b'"


def test_references() -> None:
    assert_collates_like(OURS, OURS, [SAMPLE])
    assert_collates_like(OURS, named("separate"), [SAMPLE])
    other = PreferenceCollator(pad_token_id=1, label_pad_token_id=-1)
    short = SAMPLE | {"chosen_input_ids": [7], "chosen_labels": [7]}
    assert_collates_like(other, named("separate"), [SAMPLE, short], pad_token_id=1, label_pad_token_id=-1)
    assert "row 1, cell 1: found 1, expected 0" in message(assert_collates_like, other, OURS, [SAMPLE, short])


def test_errors() -> None:
    bad = SAMPLE | {"chosen_labels": [7]}
    assert_collates_like(OURS, OURS, [bad])
    said = message(assert_collates_like, lambda _: {}, OURS, [bad])
    assert said.startswith("the collator made a batch, but the reference raised ValueError: ")
    said = message(assert_collates_like, lambda samples: samples[1], OURS, [bad])
    assert said.startswith("the collator raised IndexError: list index out of range, but the reference raised ValueE")


def test_each_gets_samples_of_its_own() -> None:
    def takes(samples: Any) -> Any:
        return samples[0].pop("a") if type(samples[0]) is dict else samples[0]["a"]

    samples: list[Any] = [{"a": 1, "b": memoryview(b"")}]
    assert_collates_like(takes, takes, samples)
    assert samples[0].keys() == {"a", "b"}


# --- samples --------------------------------------------------------------------------------------


def touched(write: Any) -> str:
    """What is said of what a function does to samples."""
    samples: list[Any] = [
        {"t": torch.zeros(3), "n": np.zeros(3), "l": [1], "x": 1, "a": array.array("q", [1]), "big": torch.zeros(99)}
    ]

    def collate(samples: Any) -> Any:
        write(samples[0])
        raise ValueError("which does not matter")

    said = message(assert_samples_unchanged, collate, samples)
    assert said.startswith("the collator changes the samples: ")
    return said.partition(": ")[2]


def test_what_is_touched_is_said() -> None:
    assert touched(lambda it: it["t"].add_(1)) == "samples[0]['t'] was [0.0, 0.0, 0.0], and is [1.0, 1.0, 1.0]"
    assert touched(lambda it: it["t"].add_(0)) == "samples[0]['t'] was written to (with the same values)"
    assert touched(lambda it: it["t"].requires_grad_()) == ("samples[0]['t'] had the requires_grad False, and has True")
    assert touched(lambda it: it["big"].add_(1)) == "the memory of samples[0]['big'] was written to"
    assert touched(lambda it: it.update(t=torch.zeros(3))) == "samples[0]['t'] is another object than before"
    assert touched(lambda it: it["n"].fill(2)) == "samples[0]['n'] was [0.0, 0.0, 0.0], and is [2.0, 2.0, 2.0]"
    assert touched(lambda it: it["l"].append(2)) == "samples[0]['l'] had the length 1, and has 2"
    assert touched(lambda it: it.update(x=2)) == "samples[0]['x'] was 1, and is 2"
    assert touched(lambda it: it["a"].append(2)) == "the memory of samples[0]['a'] was written to"
    assert "had the keys ['t', 'n', 'l', 'x', 'a', 'big'], and has" in touched(lambda it: it.update(t=it.pop("t")))


def test_memory_that_is_shared() -> None:
    tensor, numbers = torch.zeros(2, 3), np.zeros((2, 3))
    samples = [{"t": tensor, "n": numbers, "empty": np.zeros(0)}]
    said = message(assert_samples_unchanged, lambda _: {"a": [tensor.T[1:]]}, samples)
    assert said == ("batch['a'][0] lies in the memory of samples[0]['t']: to write to the batch changes the sample")
    assert "of samples[0]['n']" in message(assert_samples_unchanged, lambda _: numbers[::-1, 1], samples)
    assert "of samples[0]['n']" in message(assert_samples_unchanged, lambda _: torch.from_numpy(numbers)[1], samples)
    assert_samples_unchanged(lambda _: tensor, samples, may_share=True)
    assert_samples_unchanged(lambda _: (tensor.clone(), numbers.copy(), np.zeros(0)), samples)
    assert_samples_unchanged(OURS, [SAMPLE])


@settings(max_examples=15)
@given(data=st.data())
def test_every_kind_of_row_has_facts(data: st.DataObject) -> None:
    kinds = row_kinds([1, 2, 3])
    value = kinds[data.draw(st.sampled_from(sorted(kinds)))]()
    before = fingerprint(value)
    assert fingerprint(value) == before
    assert shared([], [value]) is None
    if isinstance(value, torch.Tensor | np.ndarray) and (isinstance(value, torch.Tensor) or value.flags.writeable):
        with torch.no_grad():
            value[1] = 3 if value.dtype not in (torch.bool, bool) else 0
        assert fingerprint(value) != before


# --- leaks ----------------------------------------------------------------------------------------


class Leaks:
    """Whatever is kept."""

    def __init__(self) -> None:
        self.kept: list[Any] = []
        self.calls = 0

    def objects(self) -> None:
        self.kept.append([])

    def text(self) -> None:
        self.calls += 1
        self.kept.append(f"call number {self.calls}" * 3)

    def descriptors(self) -> None:
        self.kept.append(os.open("/dev/null", os.O_RDONLY))

    def blocks(self) -> None:
        self.kept.append(OURS([SAMPLE])["chosen_labels"])

    def now_and_then(self) -> None:
        self.calls += 1
        if self.calls in {30, 90}:
            self.kept.extend([[]] * 1000)


@pytest.mark.parametrize(
    ("method", "what"),
    [
        ("objects", "objects"),
        ("text", "bytes of Python objects"),
        ("descriptors", "open file descriptors"),
        ("blocks", "blocks of batches"),
    ],
)
def test_leaks(method: str, what: str) -> None:
    leaks = Leaks()
    said = message(assert_no_leak, getattr(leaks, method), calls=40, rounds=3)
    assert said.startswith("40 calls leave something behind: ")
    assert what in said
    for descriptor in leaks.kept if method == "descriptors" else ():
        os.close(descriptor)


def test_an_argument_that_is_kept() -> None:
    kept: list[Any] = []
    samples = [dict(SAMPLE)]
    said = message(assert_no_leak, lambda samples: kept.append(samples[0]), samples, calls=20, rounds=2)
    assert said == "20 calls leave something behind: references to arguments[0][0], 20 more after each round"


def test_what_does_not_leak() -> None:
    assert_no_leak(OURS, [SAMPLE], calls=40)
    assert_no_leak(Leaks().now_and_then, calls=20)
    assert_no_leak(OURS, [SAMPLE | {"chosen_labels": [1]}], calls=20, raises=ValueError)
    with pytest.raises(ValueError, match="chosen_labels"):
        assert_no_leak(OURS, [SAMPLE | {"chosen_labels": [1]}])


# --- pickling -------------------------------------------------------------------------------------


class Forgets:
    """What it is is lost on the way."""

    def __init__(self, number: int = 0) -> None:
        self.number = number

    def __reduce__(self) -> Any:
        return (Forgets, ())

    def __call__(self, samples: Any) -> Any:
        return [self.number, len(samples)]


def test_pickling() -> None:
    assert_picklable(OURS, [SAMPLE])
    assert message(assert_picklable, lambda samples: samples).startswith("the collator does not pickle: ")
    large = functools.partial(len, "a tokenizer" * 2**18)
    assert " KiB when it is pickled, expected at most 1024.0 KiB: what is in it?" in message(assert_picklable, large)
    assert_picklable(large, most_bytes=2**23)
    said = message(assert_picklable, Forgets(1), [SAMPLE])
    assert said == "the pickled collator makes another batch: batch[0] is 0, expected 1"
    with pytest.raises(ValueError, match=r"^spawned=True: expected samples to try the collator with$"):
        assert_picklable(OURS, spawned=True)


def test_pickling_to_another_process() -> None:
    assert_picklable(OURS, [SAMPLE], spawned=True)
