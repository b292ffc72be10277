"""Hugging Face data sets: the batches of their rows as Arrow tables are those of their rows as lists."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import Subset

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
    table_of,
)
from dpo_collate import PreferenceCollator
from dpo_collate.datasets import ArrowRows, lengths
from fewer import fewer
from pairs import PAD, assert_same, full

if TYPE_CHECKING:
    from collections.abc import Callable


# Forks of a process with threads are what DataLoader makes by default.
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")


@pytest.mark.parametrize("kind", KINDS)
def test_rows_and_batches_are_those_of_the_data_set(kind: str) -> None:
    data = data_set(kind)
    rows = ArrowRows(data)
    assert len(rows) == len(data)
    assert rows.columns == tuple(data.column_names)
    everything = list(data)
    assert [rows[index].to_pylist() for index in range(len(rows))] == [[row] for row in everything]
    assert rows[:].to_pylist() == everything
    random = np.random.default_rng(0).permutation(len(data)).tolist()
    for indices in (range(len(data)), random, random[:7], [0, 1, 2, 0, 1, 0] if everything else []):
        found = rows.__getitems__(indices)
        wanted = [everything[index] for index in indices]
        assert len(found) == len(wanted)
        assert rows[indices].to_pylist() == found.to_arrow().to_pylist() == pa.table(found).to_pylist() == wanted
        if wanted:
            for batch in (COLLATOR(found), COLLATOR(found.to_arrow()), COLLATOR([rows[index] for index in indices])):
                assert_same(batch, COLLATOR(wanted))


def test_stored(stored: Any) -> None:
    for data in (stored, stored.shuffle(seed=5)):
        rows = ArrowRows(data)
        assert rows[range(SIZE)].to_pylist() == list(data)
        assert len(pickle.dumps(rows)) < 10_000  # where the files are, and not what is in them


def test_a_batch_has_what_a_table_has() -> None:
    batch = ArrowRows(plain(), columns=["margin"]).__getitems__([3, 1])
    assert (len(batch), batch.num_rows, batch.column_names) == (2, 2, ["margin"])
    assert batch["margin"].to_pylist() == [0.75, 0.25]
    assert batch.rename_columns(["other"]).to_pylist() == [{"other": 0.75}, {"other": 0.25}]
    with pytest.raises(AttributeError, match=r"^'ArrowBatch' object has no attribute '_private'$"):
        _ = batch._private
    with pytest.raises(AttributeError, match="no attribute 'unknown'"):
        _ = batch.unknown


def test_batches() -> None:
    batch = ArrowRows(plain(), columns=["margin"]).__getitems__([3, 1])
    assert repr(batch) == "ArrowBatch(num_rows=2, columns=('margin',))"
    there = pickle.loads(pickle.dumps(batch))
    assert type(there) is type(batch.to_arrow()) is pa.Table
    assert there.to_pylist() == [{"margin": 0.75}, {"margin": 0.25}]
    assert len(pickle.dumps(ArrowRows(plain()).__getitems__([0]))) < 5000  # not the rows beside it
    with pytest.raises(
        TypeError,
        match=r"^rows of an Arrow table were taken for a list of samples, which their to_pylist\(\) makes: with",
    ):
        list(batch)


def test_rows_that_follow_one_another_are_one_piece() -> None:
    rows = ArrowRows(plain())
    assert rows[[5, 6, 7, 8]].column(0).num_chunks == 1
    assert rows[[5, 7, 8, 6]].column(0).num_chunks == 3
    assert rows[range(SIZE)].column(0).num_chunks == 5


def test_tokens_are_not_copied() -> None:
    rows = ArrowRows(plain())
    there = {chunk.values.buffers()[1].address for chunk in plain().data.table["chosen_input_ids"].chunks}
    assert {chunk.values.buffers()[1].address for chunk in rows[[9, 3, 4]]["chosen_input_ids"].chunks} <= there


INDICES = {
    "negative": -3,
    "NumPy's": np.int32(20),
    "torch's": torch.tensor(20),
    "an array of no dimension": np.array(20),
}


@pytest.mark.parametrize("kind", INDICES)
@pytest.mark.parametrize("data", ["plain", "shuffled"])
def test_indices(kind: str, data: str) -> None:
    rows = ArrowRows(data_set(data))
    assert rows[INDICES[kind]].to_pylist() == [data_set(data)[20]]
    assert rows.__getitems__([INDICES[kind]]).to_arrow().to_pylist() == [data_set(data)[20]]


@pytest.mark.parametrize(
    "indices", [[2, -1], (2, 22), range(2, 23, 20), np.array([2, -1]), torch.tensor([2, 22]), slice(2, None, 20)]
)
def test_several_indices(indices: Any) -> None:
    assert ArrowRows(plain())[indices].to_pylist() == [sample(2), sample(22)]


@pytest.mark.parametrize("index", [SIZE, -SIZE - 1, 2**70, np.int64(SIZE), [0, SIZE]])
def test_there_is_no_such_row(index: Any) -> None:
    with pytest.raises(IndexError, match=rf"^index -?\d+ is out of range: the data set has {SIZE} rows$"):
        ArrowRows(plain())[index]


@pytest.mark.parametrize("index", [True, "chosen_input_ids", 1.0, None, [None], np.zeros((1, 1), int)])
def test_no_index(index: Any) -> None:
    with pytest.raises(TypeError, match=r"^index=.*: expected an integer$"):
        ArrowRows(plain())[index]


def test_columns() -> None:
    tokens = ["chosen_input_ids", "rejected_input_ids"]
    data = plain().with_format("numpy", columns=tokens)
    assert ArrowRows(data).columns == tuple(tokens)
    assert list(ArrowRows(data)[0].to_pydict()) == tokens
    some = plain().with_format("torch", columns=tokens, output_all_columns=True)
    assert ArrowRows(some).columns == tuple(plain().column_names)
    assert ArrowRows(data, columns=["margin", "prompt", "margin"])[3].to_pylist() == [
        {"margin": 0.75, "prompt": "text 3"}
    ]
    with pytest.raises(KeyError) as caught:
        ArrowRows(plain().select_columns(tokens), columns=["prompt"])
    assert caught.value.args == ("no column 'prompt': there are 'chosen_input_ids', 'rejected_input_ids'",)
    for nothing in ({"dataset": plain(), "columns": []}, {"dataset": datasets.Dataset.from_dict({})}):
        with pytest.raises(ValueError, match=r"^no columns: expected at least one$"):
            ArrowRows(**nothing)
    with pytest.raises(TypeError, match=r"^columns='margin': expected a list of names$"):
        ArrowRows(plain(), columns="margin")


def test_repr_and_copies() -> None:
    rows = ArrowRows(plain().shuffle(seed=6), columns=["margin"])
    assert repr(rows) == "ArrowRows(num_rows=23, columns=('margin',))"
    for other in (copy.copy(rows), copy.deepcopy(rows), pickle.loads(pickle.dumps(rows))):
        assert repr(other) == repr(rows)
        assert other[[4, 2]].equals(rows[[4, 2]])


def test_what_the_data_set_becomes_later_does_not_matter() -> None:
    data = datasets.Dataset.from_list([sample(0), sample(1)])
    rows = ArrowRows(data)
    data.set_format("numpy", columns=["margin"])
    data.set_transform(lambda batch: batch)
    assert rows[0].to_pylist() == [sample(0)]


def test_it_imports_nothing() -> None:
    program = "import sys, dpo_collate.datasets; print({'torch', 'datasets', 'pyarrow'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=240)
    assert done.stdout == "set()\n"


class Own(datasets.Dataset):  # type: ignore[misc]
    """Says more than it changes: its rows are those that are stored."""


class Decoded(datasets.Dataset):  # type: ignore[misc]
    def __getitem__(self, key: Any) -> Any:
        return {**super().__getitem__(key), "margin": 1}


def test_subclasses() -> None:
    assert ArrowRows(Own(plain().data))[1].to_pylist() == [sample(1)]


EXPECTED = "expected a Hugging Face datasets.Dataset"
REFUSED: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "DatasetDict": (
        lambda: datasets.DatasetDict({"train": plain(), "test": plain()}),
        TypeError,
        "dataset has splits ('train', 'test'): expected one of them, as in dataset['train']",
    ),
    "IterableDatasetDict": (
        lambda: datasets.IterableDatasetDict({}),
        TypeError,
        "dataset has splits (none): expected one of them, as in dataset['train']",
    ),
    "IterableDataset": (
        lambda: plain().to_iterable_dataset(),
        TypeError,
        (
            "dataset is an IterableDataset, whose rows have no index: give it to the DataLoader itself, or iterate "
            "over dataset.with_format('arrow').iter(batch_size=8), whose tables the collator takes"
        ),
    ),
    "with_transform": (
        lambda: plain().with_transform(lambda batch: batch),
        ValueError,
        (
            "dataset has a transform (with_transform or set_transform), which would not be called: give it to the "
            "DataLoader itself, apply the transform once with map, or take the columns as they are stored with "
            "dataset.with_format(None)"
        ),
    ),
    "a class of its own": (
        lambda: Decoded(plain().data),
        TypeError,
        (
            "dataset is a Decoded, whose __getitem__ is its own and would not be called: give it to the DataLoader "
            "itself"
        ),
    ),
    "Subset": (
        lambda: Subset(plain(), [1]),
        TypeError,
        (
            f"dataset is a Subset, {EXPECTED}: wrap the data set before it is split, as in "
            "Subset(ArrowRows(dataset), indices)"
        ),
    ),
    "a table": (
        lambda: table_of(1),
        TypeError,
        (
            f"dataset is a Table, {EXPECTED}, such as datasets.Dataset(pyarrow.table(data)); "
            "the collator takes tables as they are"
        ),
    ),
    "a list": (lambda: [sample(0)], TypeError, f"dataset is a list, {EXPECTED}"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_refused(kind: str) -> None:
    make, exception, sentence = REFUSED[kind]
    with pytest.raises(exception) as caught:
        ArrowRows(make())
    assert caught.value.args == (sentence,)


def test_data_sets_that_have_no_lengths() -> None:
    for kind in ("DatasetDict", "IterableDataset", "with_transform"):
        make, exception, sentence = REFUSED[kind]
        with pytest.raises(exception) as caught:
            lengths(make())
        assert caught.value.args == (sentence,)


@given(some_data(), st.data())
@fewer(2)
def test_any_batch(given_data: tuple[Samples, Any], draw: st.DataObject) -> None:
    rows, data = given_data
    collator = PreferenceCollator("concatenated", inputs="split", pad_token_id=PAD)
    indices = draw.draw(st.lists(st.integers(-len(rows), len(rows) - 1), min_size=1, max_size=6))
    found = ArrowRows(data).__getitems__(indices)
    assert_same(collator(found), collator([rows[index] for index in indices]))
    assert_same(collator([ArrowRows(data)[index] for index in indices]), collator(found))


def test_images() -> None:
    """Undecoded under a key that nobody knows; as arrays they are tiles."""
    tiles = np.arange(2 * 3 * 4 * 4, dtype=np.float32).reshape(2, 3, 4, 4)
    picture = {"bytes": b"no picture", "path": None}
    rows = [
        {**full(pair(index)), "pixel_values": tiles + index, "image_flags": [1, 1], "image": picture}
        for index in (0, 1)
    ]
    features = datasets.Features(
        {
            **{key: datasets.Sequence(datasets.Value("int32")) for key in (*full(pair(0)), "image_flags")},
            "pixel_values": datasets.Array4D((2, 3, 4, 4), "float32"),
            "image": datasets.Image(),
        }
    )
    data = datasets.Dataset.from_list(rows, features=features)
    batch = COLLATOR(ArrowRows(data).__getitems__([1, 0]))
    assert "image" not in batch
    assert torch.equal(batch["pixel_values"], torch.from_numpy(np.concatenate([tiles + 1, tiles])))
    assert batch["image_flags"].tolist() == [1] * 4
    undecoded = data.remove_columns(["pixel_values", "image_flags"]).rename_column("image", "pixel_values")
    with pytest.raises(TypeError, match=r"^sample 0: 'pixel_values' is an Arrow column of type struct, expected"):
        COLLATOR(ArrowRows(undecoded).__getitems__([0]))
