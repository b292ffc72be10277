"""Hugging Face data sets: the batches of their rows as Arrow tables are those of their rows as lists; lengths.

What ``docs/data.md`` says of data sets, loaders and trainers is tested here, its examples included.
"""

from __future__ import annotations

import copy
import importlib
import itertools
import pickle
import re
import subprocess
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pytest_examples import CodeExample, EvalExample, find_examples
from torch import nn
from torch.utils.data import ConcatDataset, DataLoader, RandomSampler, Subset, random_split

from dpo_collate import PreferenceCollator
from dpo_collate.datasets import ArrowRows, lengths
from dpo_collate.layout import Column, Layout, Matrix
from dpo_collate.named import named
from dpo_collate.trainers import internvl, trl_legacy
from pairs import PAD, SIDES, Pair, assert_same, full, split, third
from strategies import fewer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    import numpy.typing as npt

datasets: Any = pytest.importorskip("datasets")
pa: Any = pytest.importorskip("pyarrow")

# Forks of a process with threads are what DataLoader makes by default.
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")

DOCS = Path(__file__).parent.parent / "docs" / "data.md"
COLLATOR = PreferenceCollator(pad_token_id=PAD)
SIZE = 23
CHUNK = 5
Samples = list[dict[str, Any]]


@pytest.fixture(scope="module", autouse=True)
def _quiet() -> Iterator[None]:
    datasets.disable_progress_bars()
    yield
    datasets.enable_progress_bars()


def pair(index: int) -> Pair:
    """Rows that say of which pair they are; some are empty."""
    first = 100 * index
    return Pair(
        list(range(first, first + 1 + index % 4)),
        list(range(first + 10, first + 10 + 7 * index % 11)),
        list(range(first + 30, first + 30 + 5 * index % 9)),
    )


def sample(index: int) -> dict[str, Any]:
    return {"prompt": f"text {index}", **full(pair(index)), "margin": index / 4}


def table(rows: Samples, chunks: Iterable[int] = ()) -> Any:
    """The rows as a table of pieces of these sizes, and one of the rest."""
    whole = pa.Table.from_pylist(rows)
    begins = [0, *itertools.accumulate(chunks), len(rows)]
    return pa.concat_tables([whole.slice(begin, end - begin) for begin, end in itertools.pairwise(begins)])


@cache
def plain() -> Any:
    """A data set of several pieces, in memory."""
    return datasets.Dataset(table([sample(index) for index in range(SIZE)], [CHUNK] * (SIZE // CHUNK)))


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The same, in memory-mapped files."""
    folder = tmp_path_factory.mktemp("stored")
    plain().save_to_disk(folder, num_shards=2)
    return datasets.load_from_disk(folder)


def whole_margin(row: dict[str, Any]) -> bool:
    return row["margin"] % 1 == 0  # type: ignore[no-any-return]


def beside(data: Any) -> Any:
    return datasets.concatenate_datasets([data.select_columns(["margin"]), data.remove_columns(["margin"])], axis=1)


def one_after_the_other(*parts: Any) -> Any:
    return datasets.concatenate_datasets(list(parts))


KINDS: dict[str, Callable[[Any], Any]] = {
    "plain": lambda data: data,
    "empty": lambda data: data.select([]),
    "shuffled": lambda data: data.shuffle(seed=1),
    "shuffled twice": lambda data: data.shuffle(seed=1).shuffle(seed=2),
    "selected": lambda data: data.select([3, 3, 0, 22, 21, 4, 5, 6, 4]),
    "a range": lambda data: data.select(range(7, 18)),
    "a range of a selection": lambda data: data.shuffle(seed=1).select(range(3, 9)),
    "a shard": lambda data: data.shard(3, 1, contiguous=False),
    "filtered": lambda data: data.filter(whole_margin, keep_in_memory=True),
    "concatenated": lambda data: one_after_the_other(data, data.select(range(4)), data),
    "concatenated selections": lambda data: one_after_the_other(data.select([5, 2]), data.shuffle(seed=3)),
    "interleaved": lambda data: datasets.interleave_datasets([data.select(range(3)), data.select([9, 8, 7])]),
    "flattened": lambda data: data.shuffle(seed=4).flatten_indices(keep_in_memory=True),
    "one more column": lambda data: data.shuffle(seed=4).add_column("more", list(range(SIZE))),
    "beside another": beside,
    "renamed": lambda data: data.rename_column("prompt", "text").shuffle(seed=2),
}


@cache
def data_set(kind: str) -> Any:
    return KINDS[kind](plain())


# --- rows -----------------------------------------------------------------------------------------


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
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
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


def table_of(*indices: int) -> Any:
    return table([sample(index) for index in indices])


@pytest.mark.parametrize("kind", REFUSED)
def test_refused(kind: str) -> None:
    make, exception, sentence = REFUSED[kind]
    with pytest.raises(exception) as caught:
        ArrowRows(make())
    assert caught.value.args == (sentence,)


# --- any data set ---------------------------------------------------------------------------------

INTEGERS = ("int16", "int32", "int64", "uint16", "uint32")
LISTS = ("list_", "large_list")


@st.composite
def some_data(draw: st.DrawFn, least: int = 1) -> tuple[Samples, Any]:
    """Split pairs, and a data set of them: of any types, pieces and order."""
    token = st.integers(0, 2**15 - 1)
    rows = [
        {f"{part}_ids": draw(st.lists(token, max_size=6)) for part in Pair._fields}
        for _ in range(draw(st.integers(least, 8)))
    ]
    types = {
        f"{part}_ids": getattr(pa, draw(st.sampled_from(LISTS)))(getattr(pa, draw(st.sampled_from(INTEGERS)))())
        for part in Pair._fields
    }
    whole = pa.Table.from_pylist(rows, pa.schema(types.items()))
    cuts = sorted(draw(st.lists(st.integers(0, len(rows)), max_size=3)))
    begins = [0, *cuts, len(rows)]
    data = datasets.Dataset(pa.concat_tables([whole.slice(a, b - a) for a, b in itertools.pairwise(begins)]))
    for change in draw(st.lists(st.sampled_from(["shuffle", "select", "range", "shard", "concatenate"]), max_size=3)):
        numbers = st.integers(0, len(data) - 1) if len(data) else st.nothing()
        if change == "shuffle" and len(data):
            order = draw(st.permutations(list(range(len(data)))))
        elif change == "select" and len(data):
            order = draw(st.lists(numbers, min_size=least, max_size=8))
        elif change == "range" and len(data):
            begin = draw(numbers)
            order = list(range(begin, draw(st.integers(begin + least, len(data)))))
        elif change == "shard" and len(data) >= 2 * least:
            order = list(range(draw(st.integers(0, 1)), len(data), 2))
        else:
            data, rows = datasets.concatenate_datasets([data, data]), rows + rows
            continue
        data, rows = data.select(order), [rows[index] for index in order]
    return rows, data


@given(some_data(), st.data())
@fewer(2)
def test_any_batch(given_data: tuple[Samples, Any], draw: st.DataObject) -> None:
    rows, data = given_data
    collator = PreferenceCollator("concatenated", inputs="split", pad_token_id=PAD)
    indices = draw.draw(st.lists(st.integers(-len(rows), len(rows) - 1), min_size=1, max_size=6))
    found = ArrowRows(data).__getitems__(indices)
    assert_same(collator(found), collator([rows[index] for index in indices]))
    assert_same(collator([ArrowRows(data)[index] for index in indices]), collator(found))


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


# --- loaders --------------------------------------------------------------------------------------


def same(batches: Iterable[Any], wanted: list[list[int]]) -> None:
    """The batches are those of these samples."""
    found = list(batches)
    assert len(found) == len(wanted)
    for batch, indices in zip(found, wanted, strict=True):
        assert_same(batch, COLLATOR([sample(index) for index in indices]))


def cut(indices: Iterable[int], size: int = 4) -> list[list[int]]:
    order = list(indices)
    return [order[begin : begin + size] for begin in range(0, len(order), size)]


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_workers(method: str, stored: Any) -> None:
    # (Of data sets in memory, those of workers that are started anew are copies.)
    data = stored if method != "spawn" else plain()
    order = data.add_column("place", list(range(SIZE))).shuffle(seed=7)["place"]
    loader = DataLoader(
        ArrowRows(data.shuffle(seed=7)),
        batch_size=4,
        num_workers=1,
        collate_fn=COLLATOR,
        multiprocessing_context=method,
        persistent_workers=True,
    )
    for _epoch in range(2):
        same(loader, cut(order))


@pytest.mark.parametrize("workers", [0, 2])
def test_shuffled_by_the_loader(workers: int, stored: Any) -> None:
    rows = ArrowRows(stored)
    loader = DataLoader(rows, batch_size=4, shuffle=True, num_workers=workers, collate_fn=COLLATOR)
    margins = torch.cat([batch["margin"] for batch in loader]) * 4
    assert sorted(margins.tolist()) == list(range(SIZE))
    assert margins.tolist() != list(range(SIZE))


def test_ways_to_choose_samples() -> None:
    rows = ArrowRows(plain())
    order = [7, 3, 4, 5, 22, 0]
    batches = [[5, 4, 3], [0], [22, 1]]
    same(DataLoader(rows, batch_size=4, sampler=order, collate_fn=COLLATOR), cut(order))
    same(DataLoader(rows, batch_sampler=batches, collate_fn=COLLATOR), batches)
    same(DataLoader(rows, batch_size=None, sampler=batches, collate_fn=COLLATOR), batches)
    same(DataLoader(rows, batch_size=None, sampler=order, collate_fn=COLLATOR), [[index] for index in order])
    same(DataLoader(Subset(rows, order), batch_size=4, collate_fn=COLLATOR), cut(order))
    first, second = random_split(rows, [0.5, 0.5], torch.Generator().manual_seed(0))
    same(DataLoader(first, batch_size=4, collate_fn=COLLATOR), cut(first.indices))
    assert sorted([*first.indices, *second.indices]) == list(range(SIZE))
    both: Any = ConcatDataset([Subset(rows, [1, 2, 3]), rows])  # gives lists of tables of one row each
    same(DataLoader(both, batch_size=4, collate_fn=COLLATOR), cut([1, 2, 3, *range(SIZE)]))


def test_arrow_format_in_a_loader_fails() -> None:
    """The reason why there is ArrowRows: a data set makes of a table what it makes of a dict of lists."""
    with pytest.raises(TypeError, match="Index must either be string or integer"):
        next(iter(DataLoader(plain().with_format("arrow"), batch_size=4, collate_fn=COLLATOR)))


@pytest.mark.filterwarnings("ignore:'set_vital' is deprecated:UserWarning")  # torchdata's
@pytest.mark.parametrize("workers", [0, 1])
def test_a_loader_that_goes_on_where_it_stopped(workers: int) -> None:
    module = pytest.importorskip("torchdata.stateful_dataloader")

    def make() -> Any:
        sampler = RandomSampler(rows, generator=torch.Generator().manual_seed(5))
        return module.StatefulDataLoader(rows, batch_size=4, sampler=sampler, num_workers=workers, collate_fn=COLLATOR)

    rows = ArrowRows(plain())
    whole = list(make())
    stopped = make()
    begun = list(itertools.islice(stopped, 2))
    again = make()
    again.load_state_dict(stopped.state_dict())
    for batch, wanted in zip([*begun, *again], whole, strict=True):
        assert_same(batch, wanted)


@pytest.mark.parametrize("kind", ["rows", "stream"])
def test_accelerate(kind: str) -> None:
    accelerate = pytest.importorskip("accelerate")
    data = ArrowRows(plain()) if kind == "rows" else plain().to_iterable_dataset().with_format("arrow")
    loader: Any = DataLoader(data, batch_size=4, collate_fn=COLLATOR)
    configuration = accelerate.DataLoaderConfiguration(dispatch_batches=False)
    same(accelerate.Accelerator(cpu=True, dataloader_config=configuration).prepare(loader), cut(range(SIZE)))


class TextModel(nn.Module):
    """Names the keys of text, and remembers the batches."""

    def __init__(self) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(1))
        self.seen: list[dict[str, Any]] = []

    def forward(self, chosen_input_ids: Any = None, **others: Any) -> Any:
        self.seen.append({"chosen_input_ids": chosen_input_ids, **others})
        return {"loss": self.bias.square().mean()}


def transformers_with_torch() -> Any:
    transformers = pytest.importorskip("transformers")
    if not transformers.utils.is_torch_available():
        pytest.skip("this transformers needs a newer torch")
    return transformers


def trainer(model: nn.Module, data: Any, folder: Path, **options: Any) -> Any:
    transformers = transformers_with_torch()
    arguments = transformers.TrainingArguments(
        output_dir=str(folder),
        per_device_train_batch_size=4,
        max_steps=3,
        train_sampling_strategy="sequential",
        report_to=[],
        use_cpu=True,
        save_strategy="no",
        disable_tqdm=True,
        **options,
    )
    return transformers.Trainer(model=model, args=arguments, train_dataset=data, data_collator=COLLATOR)


@pytest.mark.parametrize("workers", [0, 1])
def test_transformers(tmp_path: Path, workers: int) -> None:
    model = TextModel()
    options = {"remove_unused_columns": False, "dataloader_num_workers": workers}
    trainer(model, ArrowRows(plain()), tmp_path, **options).train()
    same(model.seen, cut(range(12)))


def test_transformers_removes_columns(tmp_path: Path) -> None:
    """Its collator takes a table for a list of samples, which are the columns then."""
    with pytest.raises(TypeError, match=r"transformers' Trainer.*remove_unused_columns=False"):
        trainer(TextModel(), ArrowRows(plain()), tmp_path).train()


def defined(name: str) -> Any:
    """What an example of the document defines."""
    (source,) = (example.source for example in find_examples(str(DOCS)) if f" {name}(" in example.source)
    names: dict[str, Any] = {}
    exec(source, names)
    return names[name]


def test_transformers_groups_by_lengths(tmp_path: Path) -> None:
    """Its own way asks each row for its length, and refuses what is no dict. (The remedy is in docs/data.md.)"""
    made = trainer(TextModel(), ArrowRows(plain()), tmp_path, remove_unused_columns=False)
    made.args.train_sampling_strategy = "group_by_length"
    with pytest.raises(ValueError, match="Can only automatically infer lengths for datasets whose items are dict"):
        made.train()
    made = defined("Trainer")(
        model=TextModel(), args=made.args, train_dataset=made.train_dataset, data_collator=COLLATOR
    )
    order = list(made._get_train_sampler())
    assert sorted(order) == list(range(SIZE))
    assert order[0] == lengths(made.train_dataset).max(1).argmax()
    made.train()
    assert [len(batch["margin"]) for batch in made.model.seen] == [4, 4, 4]


def test_transformers_stream(tmp_path: Path) -> None:
    model = TextModel()
    stream = plain().to_iterable_dataset().with_format("arrow")
    options = {"remove_unused_columns": False, "accelerator_config": {"dispatch_batches": False}}
    trainer(model, stream, tmp_path, **options).train()
    same(model.seen, cut(range(12)))


@pytest.mark.filterwarnings("ignore:`(is_)?gradient_checkpointing:FutureWarning")  # TRL's, of transformers 5.24
def test_trl(tmp_path: Path) -> None:
    """Its trainers take no other data set than one of datasets; but afterwards it can be replaced."""
    trl = pytest.importorskip("trl")
    example = importlib.import_module("trl_dpo")
    config = trl.DPOConfig(
        output_dir=str(tmp_path),
        save_strategy="no",
        per_device_train_batch_size=2,
        max_steps=2,
        logging_steps=1,
        learning_rate=1e-3,
        use_cpu=True,
        bf16=False,
        report_to=[],
        disable_tqdm=True,
        remove_unused_columns=False,
    )

    def make(data: Any) -> Any:
        tokenizer = example.make_tokenizer()
        collator = example.DataCollatorForPreference(tokenizer.pad_token_id, max_length=config.max_length)
        model = example.make_model(tokenizer)
        return trl.DPOTrainer(
            model=model,
            ref_model=copy.deepcopy(model),
            args=config,
            data_collator=collator,
            train_dataset=data,
            processing_class=tokenizer,
        )

    def losses(trainer: Any) -> list[float]:
        trainer.train()
        return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]

    pairs = example.make_pairs(4, seed=0)
    with pytest.raises(TypeError, match="`train_dataset` must be a `Dataset` or `IterableDataset`"):
        make(ArrowRows(pairs))
    read_with_arrow = defined("read_with_arrow")
    made = read_with_arrow(make(pairs))
    assert type(made.train_dataset) is ArrowRows
    assert losses(made) == losses(make(pairs))


# --- streams --------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("kind", [None, "arrow", "numpy"])
def test_stream(kind: str | None, workers: int) -> None:
    """With the format "arrow", rows are tables of one row."""
    stream = plain().to_iterable_dataset(num_shards=2).with_format(kind)
    loader = DataLoader(stream, batch_size=4, num_workers=workers, collate_fn=COLLATOR)
    margins = [index for batch in loader for index in (batch["margin"] * 4).int().tolist()]
    assert sorted(margins) == list(range(SIZE))
    if not workers:
        same(loader, cut(range(SIZE)))
    assert isinstance(next(iter(stream)), pa.Table if kind == "arrow" else dict)


def test_data_sets_of_other_tables() -> None:
    polars = pytest.importorskip("polars")
    whole = plain().data.table
    for data in (datasets.Dataset(whole), datasets.Dataset.from_polars(polars.from_arrow(whole))):
        same([COLLATOR(ArrowRows(data).__getitems__([3, 1]))], [[3, 1]])


def test_stream_in_tables() -> None:
    stream = plain().to_iterable_dataset().with_format("arrow")
    same(map(COLLATOR, stream.iter(batch_size=4)), cut(range(SIZE)))
    shuffled = stream.shuffle(seed=1, buffer_size=10).take(9)
    assert sum(len(COLLATOR(found)["margin"]) for found in shuffled.iter(batch_size=4)) == 9


# --- columns of other kinds -----------------------------------------------------------------------


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


# --- lengths --------------------------------------------------------------------------------------

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
    "layout's type": ((7,), {}, TypeError, "layout=7: expected 'separate', .*, a dpo_collate.layout.Layout or a Pref"),
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


def test_data_sets_that_have_no_lengths() -> None:
    for kind in ("DatasetDict", "IterableDataset", "with_transform"):
        make, exception, sentence = REFUSED[kind]
        with pytest.raises(exception) as caught:
            lengths(make())
        assert caught.value.args == (sentence,)


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


# --- the document ---------------------------------------------------------------------------------


@pytest.mark.parametrize("example", list(find_examples(str(DOCS))), ids=str)
def test_docs(example: CodeExample, eval_example: EvalExample) -> None:
    for module in ("polars", "duckdb"):
        if f"import {module}" in example.source:
            pytest.importorskip(module)
    if "import transformers" in example.source:
        transformers_with_torch()
    eval_example.set_config(line_length=120)
    eval_example.run_print_check(example)
