"""The strategies of ``dpo_collate.testing``: what they draw, what they shrink to, and what they find."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
import torch
from hypothesis import HealthCheck, Phase, assume, find, given, seed, settings
from hypothesis import strategies as st

from dpo_collate import ImageTokens, Layout, PreferenceCollator
from dpo_collate.named import NAMES
from dpo_collate.testing import KINDS, arrow_tables, batches, collators, layouts, reference_collate, samples
from dpo_collate.testing.comparing import outcome
from dpo_collate.testing.drawing.kinds import family, number_kinds, row_kinds, tile_kinds, unbatched
from test_behind import DROP_INS

if TYPE_CHECKING:
    from collections.abc import Callable


def drawn(strategy: st.SearchStrategy[Any], number: int = 100) -> list[Any]:
    """So many examples, the same ones each time."""
    found: list[Any] = []

    @seed(1)
    @settings(
        max_examples=number,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
        deadline=None,
    )
    @given(strategy)
    def collect(example: Any) -> None:
        found.append(example)

    collect()
    return found


def accepted(collator: Any, found: list[list[Any]]) -> int:
    """How many of the batches are batches."""
    return sum(outcome_of(reference_collate, batch, collator) == "a batch" for batch in found)


# --- what is drawn --------------------------------------------------------------------------------


def test_lengths_hit_the_edges() -> None:
    options: dict[str, Any] = {"pad_to_multiple_of": 8, "max_length": 12}
    lengths = Counter(
        len(sample["chosen_input_ids"]) for batch in drawn(batches(kinds="plain", **options), 200) for sample in batch
    )
    assert lengths.keys() >= {0, 1, 2, 5, 7, 8, 9, 11, 12, 13, 600}
    lengths = Counter(
        len(sample["chosen_input_ids"])
        for batch in drawn(batches(buckets=(4, 40), kinds="plain"), 200)
        for sample in batch
    )
    assert lengths.keys() >= {3, 4, 5, 39, 40}
    joined = batches("concatenated", inputs="split", max_length=12, kinds="plain")
    whole = Counter(len(one["prompt_ids"]) + len(one["chosen_ids"]) for batch in drawn(joined) for one in batch)
    assert min(whole[11], whole[12], whole[13]) > 3


def test_ids_that_mean_something_are_drawn() -> None:
    found = [sample for batch in drawn(batches(pad_token_id=17, kinds="plain"), 200) for sample in batch]
    ids = {id_ for sample in found for id_ in sample["chosen_input_ids"]}
    assert ids >= {17, -100, 0, 1, 2**31, 2**63 - 1, -(2**63)}
    labels = [(sample["chosen_labels"], sample["chosen_input_ids"]) for sample in found]
    assert any(-100 in row and row != ids and row[-1:] == ids[-1:] for row, ids in labels)
    assert {mask for sample in found for mask in sample.get("chosen_attention_mask") or ()} == {0, 1}


def test_a_vocabulary_is_kept_to() -> None:
    found = drawn(batches("concatenated", vocab_size=5, pad_token_id=9, kinds="plain"))
    assert {id_ for batch in found for sample in batch for id_ in sample["chosen_input_ids"]} <= {0, 1, 2, 3, 4}
    assert {label for batch in found for sample in batch for label in sample["chosen_labels"]} >= {-100, 0, 4}


def test_images_are_drawn_with_what_describes_them() -> None:
    found = [sample for batch in drawn(batches("interleaved", kinds="plain"), 300) for sample in batch]
    with_images = [sample for sample in found if sample.get("pixel_values") is not None]
    assert len(found) / 8 < len(with_images) < len(found) / 2
    grids = [sample for sample in with_images if "image_grid_thw" in sample]
    assert grids
    assert all(sample["image_grid_thw"].prod(1).sum() == len(sample["pixel_values"]) for sample in grids)
    flags = {flag for sample in with_images for flag in sample.get("image_flags", torch.ones(0)).tolist()}
    assert flags == {0, 1}
    assert {len(sample["pixel_values"]) for sample in with_images} >= {0, 1, 2, 3}
    assert any("pixel_values" in sample and sample["pixel_values"] is None for sample in found)


def test_keys_that_no_layout_names_are_a_wish() -> None:
    assert any("text" in sample for batch in drawn(batches(kinds="plain"), 20) for sample in batch)
    named = {"chosen", "rejected", "pixel", "image", "video", "second", "ref", "margin"}
    plain = drawn(batches(unnamed_keys=False, kinds="plain"), 50)
    assert {key.partition("_")[0] for batch in plain for sample in batch for key in sample} <= named


def families_of(values: list[Any]) -> set[str]:
    return {type(value).__module__.partition(".")[0] + "." + type(value).__name__ for value in values}


@pytest.mark.parametrize(
    ("kinds", "types"),
    [
        ("plain", {"builtins.list"}),
        ("list", {"builtins.list"}),
        (("tuple", "torch"), {"builtins.tuple", "torch.Tensor"}),
        ("buffer", {"array.array", "builtins.memoryview"}),
        ("numpy view", {"numpy.ndarray"}),
        ("all", {"builtins.list", "builtins.tuple", "torch.Tensor", "numpy.ndarray", "array.array"}),
    ],
)
def test_kinds(kinds: Any, types: set[str]) -> None:
    number = 150 if kinds == "all" else 40
    found = [sample for batch in drawn(batches(kinds=kinds, unnamed_keys=False), number) for sample in batch]
    seen = families_of([sample["chosen_input_ids"] for sample in found])
    assert seen >= types
    assert kinds == "all" or seen == types
    assert {type(sample) for sample in found} == {dict} or kinds == "all"


def test_every_kind_is_of_a_family() -> None:
    rows = unbatched(row_kinds([0, 1])) | unbatched(row_kinds([0.5])) | number_kinds(1) | tile_kinds(torch.ones(1, 2))
    assert {family(kind) for kind in rows} == {*KINDS} - {"mapping"}
    assert [family(next(iter(kinds))) for kinds in (row_kinds([1]), tile_kinds(torch.ones(1)))] == ["list", "torch"]


@pytest.mark.parametrize("name", NAMES)
def test_named_batches_are_valid(name: str) -> None:
    found = drawn(batches(name, kinds="plain"), 25)
    assert accepted(PreferenceCollator(name, pad_token_id=0), found) == 25
    assert {len(batch) for batch in found} <= {1, 2, 3, 4}


def test_batches_are_of_every_size() -> None:
    assert {len(batch) for batch in drawn(batches(kinds="plain", unnamed_keys=False), 60)} == {1, 2, 3, 4}


@pytest.mark.parametrize("name", DROP_INS)
def test_every_drop_in_takes_what_is_drawn_for_it(name: str) -> None:
    drop_in = DROP_INS[name][0]
    for batch in drawn(batches(drop_in, valid=True), 5):
        assert drop_in(batch) is not None


def test_valid_batches() -> None:
    collator = PreferenceCollator(
        pad_token_id=0, max_length=4, truncation_mode="error", image_tokens=ImageTokens(7, per_tile=2)
    )
    some, all_valid = (drawn(batches(collator, kinds="plain", valid=valid), 40) for valid in (False, True))
    assert 20 < accepted(collator, some) < 40
    assert accepted(collator, all_valid) == 40
    assert any(7 in list(sample["chosen_input_ids"]) for batch in all_valid for sample in batch)


@given(st.data())
@settings(max_examples=30)
def test_any_collator_has_batches(data: st.DataObject) -> None:
    collator = data.draw(collators())
    batch = data.draw(batches(collator, min_size=2, max_size=2))
    assert len(batch) == 2
    expected = outcome_of(reference_collate, batch, collator)
    assume(expected is not None)
    assert outcome_of(collator, batch) == expected


def outcome_of(collate: Callable[..., Any], *arguments: Any) -> str | None:
    try:
        collate(*arguments)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        return type(error).__name__
    return "a batch"


def test_collators_have_options_and_those_that_are_given() -> None:
    found = drawn(collators(return_tensors="np"), 100)
    assert all(collator.return_tensors == "np" for collator in found)
    kinds = Counter(type(collator.layout) for collator in found)
    assert min(kinds[str], kinds[Layout]) > 20
    for option in ("max_length", "buckets", "pad_to_multiple_of", "image_tokens", "padding_side", "images", "inputs"):
        assert any(getattr(collator, option) is not None for collator in found), option
    own = drawn(collators(layouts(pad_token_id=3), pad_token_id=3), 20)
    assert {collator.pad_token_id for collator in own} == {3}


def test_layouts() -> None:
    assert not any("*" in row[0] for layout in drawn(layouts(), 30) for each in layout.matrices for row in each.rows)
    wild = drawn(layouts(wildcards=True), 30)
    assert any("*" in row[0] for layout in wild for each in layout.matrices for row in each.rows)


def test_arrow_tables_say_the_same() -> None:
    collator = PreferenceCollator("interleaved", pad_token_id=0)
    for batch in drawn(arrow_tables(collator, unnamed_keys=False), 10):
        assert batch.table.num_rows == len(batch.samples)
        assert outcome(collator, batch.table) == outcome(collator, batch.samples)


# --- what counterexamples shrink to ---------------------------------------------------------------

ONE = {"chosen_input_ids": [1], "chosen_labels": [1], "rejected_input_ids": [1], "rejected_labels": [1]}

SMALLEST: dict[str, tuple[Any, Any, Any]] = {
    "anything": (batches(), lambda _batch: True, [ONE]),
    "two samples": (batches(), lambda batch: len(batch) > 1, [ONE, ONE]),
    "an id that is the pad id": (
        batches(pad_token_id=9, kinds=["list", "tuple"]),
        lambda batch: any(9 in list(sample["chosen_input_ids"]) for sample in batch),
        [ONE | {"chosen_input_ids": [9], "chosen_labels": [9]}],
    ),
    "a row that is cut": (
        batches(max_length=2),
        lambda batch: any(len(sample["rejected_input_ids"]) > 2 for sample in batch),
        [ONE | {"rejected_input_ids": [1, 1, 1], "rejected_labels": [1, 1, 1]}],
    ),
    "a sample of its own class": (
        batches(kinds="mapping", unnamed_keys=False),
        lambda batch: any(type(sample) is not dict for sample in batch),
        [ONE],
    ),
}


@pytest.mark.no_cover
@pytest.mark.parametrize("name", SMALLEST)
def test_smallest_counterexample(name: str) -> None:
    strategy, condition, expected = SMALLEST[name]
    found = find(strategy, condition, settings=settings(database=None))
    assert [dict(sample) for sample in found] == expected


# --- what wrong collators are found by ------------------------------------------------------------


def right(batch: list[Any], pad: int = 0, **_: Any) -> torch.Tensor:
    rows = [torch.tensor(list(sample["chosen_input_ids"]), dtype=torch.int64) for sample in batch]
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=pad)


def no_gap(batch: list[Any]) -> torch.Tensor:
    """Takes ids that are the pad id for padding."""
    width = max(int((row != 0).sum()) for row in right(batch))
    return right(batch)[:, :width]


WRONG: dict[str, Callable[[list[Any]], torch.Tensor]] = {
    "pads with another id": lambda batch: right(batch, 1),
    "is of 32 bits": lambda batch: right(batch).int().long(),
    "cuts at the pad id": no_gap,
    "forgets the last sample": lambda batch: right(batch[:-1] or batch),
    "sorts by length": lambda batch: right(sorted(batch, key=lambda sample: -len(sample["chosen_input_ids"]))),
    "takes at most 255 tokens": lambda batch: right(batch)[:, :255],
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_collator_is_found(name: str) -> None:
    @seed(1)
    @settings(max_examples=200, database=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
    @given(batches(kinds="plain", unnamed_keys=False))
    def is_right(batch: list[Any]) -> None:
        assert WRONG[name](batch).tolist() == reference_collate(batch, pad_token_id=0)["chosen_input_ids"].values

    with pytest.raises(AssertionError):
        is_right()


# --- what cannot be drawn -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "error", "sentence"),
    [
        (lambda: batches("seperate"), ValueError, "layout='seperate': expected 'separate', "),
        (lambda: batches(kinds="lists"), ValueError, "kinds='lists': expected 'all', 'plain', or some of 'list', "),
        (lambda: batches(kinds=()), ValueError, r"kinds=(): expected 'all', 'plain', or some of 'list', "),
        (lambda: batches(kinds=3), TypeError, "kinds=3: expected 'all', 'plain', or some of 'list', "),  # type: ignore[arg-type]
        (lambda: batches(min_size=0), ValueError, "min_size=0: expected 1 or more"),
        (lambda: batches(min_size=3, max_size=2), ValueError, "max_size=2: expected at least min_size, which is 3"),
        (lambda: batches(vocab_size=1), ValueError, "vocab_size=1: expected 2 or more"),
        (lambda: batches(tile_dtypes=()), TypeError, "tile_dtypes=(): expected dtypes of torch, at least one"),
        (lambda: batches(multiple=8), TypeError, "multiple=8: expected an option of PreferenceCollator: inputs, "),
        (lambda: samples(max_size=2), TypeError, "max_size=2: samples() draws one: expected batches() for more"),
        (lambda: layouts(pad_token_id=2**63), ValueError, f"pad_token_id={2**63}: expected an integer of 64 bits"),
        (lambda: arrow_tables("padding"), ValueError, "layout='padding': expected 'separate', "),
    ],
)
def test_wrong_wishes(make: Callable[[], Any], error: type[Exception], sentence: str) -> None:
    with pytest.raises(error, match=f"^{re.escape(sentence)}"):
        make()


@pytest.mark.parametrize(
    ("missing", "program", "sentence"),
    [
        (
            "hypothesis",
            "import dpo_collate.testing",
            "dpo_collate.testing needs hypothesis and torch (the extra 'testing' of dpo_collate has hypothesis)",
        ),
        (
            "pyarrow",
            "from dpo_collate.testing import arrow_tables; arrow_tables()",
            "arrow_tables needs pyarrow",
        ),
    ],
)
def test_what_is_missing_is_said(missing: str, program: str, sentence: str) -> None:
    command = [sys.executable, "-c", f"import sys; sys.modules[{missing!r}] = None; {program}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stderr.splitlines()[-1].endswith(f"; {sentence}")
