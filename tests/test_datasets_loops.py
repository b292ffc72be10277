"""Hugging Face data sets, as tables, in loaders and trainers of all kinds; streams.

What ``docs/data.md`` says is tested here as well, its examples included.
"""

from __future__ import annotations

import copy
import importlib
import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
from pytest_examples import CodeExample, EvalExample, find_examples
from torch import nn
from torch.utils.data import ConcatDataset, DataLoader, RandomSampler, Subset, random_split

from data_sets import (
    COLLATOR,
    SIZE,
    cut,
    datasets,
    pa,
    plain,
    same,
)
from dpo_collate.datasets import ArrowRows, lengths
from pairs import assert_same

# Forks of a process with threads are what DataLoader makes by default.
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")

DOCS = Path(__file__).parent.parent / "docs" / "data.md"


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


@pytest.mark.parametrize("example", list(find_examples(str(DOCS))), ids=str)
def test_docs(example: CodeExample, eval_example: EvalExample) -> None:
    for module in ("polars", "duckdb"):
        if f"import {module}" in example.source:
            pytest.importorskip(module)
    if "import transformers" in example.source:
        transformers_with_torch()
    eval_example.set_config(line_length=120)
    eval_example.run_print_check(example)
