"""The batches of a ``PairBatchSampler`` in transformers' and TRL's trainers; the examples of ``docs/sampler.md``."""

from __future__ import annotations

import copy
import importlib
import itertools
import json
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import torch
from pytest_examples import CodeExample, EvalExample, find_examples
from torch.utils.data import DataLoader

from data_sets import COLLATOR, plain
from dpo_collate import PreferenceCollator
from dpo_collate.datasets import ArrowRows, lengths
from dpo_collate.sampler import PairBatchSampler, PairBatchSamplerMixin
from loaders import succeeds
from sampling import BUDGET, LIMITS, Batches, all_once, cells, numbers, plan

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning"),  # what DataLoader does
    pytest.mark.filterwarnings("ignore:'set_vital' is deprecated:UserWarning"),  # torchdata's
    pytest.mark.filterwarnings("ignore:`(is_)?gradient_checkpointing:FutureWarning"),  # TRL's
]

DOCS = Path(__file__).parent.parent / "docs" / "sampler.md"


# --- transformers ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def accelerate() -> Any:
    return pytest.importorskip("accelerate")


@pytest.fixture(scope="module")
def training(transformers: Any) -> Any:  # noqa: ARG001 - which it imports
    return importlib.import_module("training")


@pytest.fixture
def make(training: Any, tmp_path: Path) -> Any:
    """Makes a small trainer."""

    def make(data: Any = None, model: Any = None, **options: Any) -> Any:
        data = ArrowRows(plain()) if data is None else data
        return training.pair_trainer(model or training.TextModel(), data, tmp_path, **options)

    return make


def seen(trainer: Any) -> Batches:
    """Which pairs the model got."""
    return [numbers(batch) for batch in trainer.model.seen]


def in_epochs(batches: Batches, count: int) -> Iterator[Batches]:
    steps = len(batches) // count
    assert len(batches) == steps * count
    return (batches[begin : begin + steps] for begin in range(0, len(batches), steps))


@pytest.mark.parametrize(("accumulated", "workers"), [(1, 0), (2, 2)])
def test_trainer(make: Any, accumulated: int, workers: int) -> None:
    options = {
        "num_train_epochs": 3,
        "gradient_accumulation_steps": accumulated,
        "dataloader_num_workers": workers,
        "dataloader_persistent_workers": workers > 0,
        "save_strategy": "steps",
        "save_steps": 1,
    }
    trainer = make(**options)
    sampler = trainer.use_pair_batches(**LIMITS)
    trainer.train()
    assert max(map(cells, trainer.model.seen)) <= BUDGET
    batches = seen(trainer)
    epochs = list(in_epochs(batches, 3))
    assert all(map(all_once, epochs))
    assert len({str(sorted(map(sorted, epoch))) for epoch in epochs}) == 3
    for epoch, found in enumerate(epochs):
        sampler.set_epoch(epoch)
        assert list(sampler) == found
    updates = -(-len(sampler) // accumulated)
    for done in (2, updates, updates + 3):
        again = make(**options)
        again.use_pair_batches(**LIMITS)
        again.train(resume_from_checkpoint=f"{again.args.output_dir}/checkpoint-{done}")
        begun, more = divmod(done, updates)
        assert seen(again) == batches[begun * len(sampler) + more * accumulated :]


def test_trainer_that_is_not_asked(make: Any, training: Any) -> None:
    trainers = [make(max_steps=2), make(max_steps=2, kind=training.transformers.Trainer)]
    for trainer in trainers:
        trainer.train()
    assert seen(trainers[0]) == seen(trainers[1])
    assert [len(batch) for batch in seen(trainers[0])] == [8, 8]


class Spy:
    """A collator that remembers the keys of samples."""

    def __init__(self) -> None:
        self.keys: set[str] = set()

    def __call__(self, samples: Any) -> Any:
        self.keys.update(*samples)
        return COLLATOR(samples)


def test_trainer_and_its_options(make: Any, training: Any) -> None:
    """A data set whose columns it removes; a seed for the data; lengths and a collator that are given."""
    trainer = make(plain(), training.NamedModel(), remove_unused_columns=True, data_seed=7, num_train_epochs=1)
    of = lengths(plain(), COLLATOR)[::-1]
    sampler = trainer.use_pair_batches(lengths=of, collator="separate", batch_size=5, window=10)
    trainer.data_collator = Spy()
    trainer.train()
    assert trainer.data_collator.keys == {key for key in plain().column_names if key != "prompt"}
    wanted = PairBatchSampler(of, "separate", batch_size=5, window=10, seed=7)
    assert seen(trainer) == list(wanted) == list(sampler)
    for options, more, equal in (({"seed": 7}, {}, True), ({"seed": 8}, {}, False), ({"seed": 8}, {"seed": 7}, True)):
        found = make(**options).use_pair_batches(lengths=of, batch_size=5, window=10, **more)
        assert (list(found) == list(wanted)) == equal


def test_trainer_of_many_epochs(make: Any) -> None:
    """At least four are equally long; as many as are trained."""

    def longest(seed: int) -> list[int]:
        return list(itertools.accumulate((len(plan(epoch, seed=seed)) for epoch in range(6)), max))

    seed = next(seed for seed in range(1000) if longest(seed)[0] < longest(seed)[3] < longest(seed)[5])
    for count, last in ((1, 3), (4, 3), (5.5, 5)):
        sampler = make(num_train_epochs=count, seed=seed).use_pair_batches(**LIMITS)
        assert len(sampler) == longest(seed)[last]


def test_trainer_refuses(make: Any) -> None:
    trainer = make()
    trainer.use_pair_batches(**LIMITS)
    trainer.train_dataset = ArrowRows(plain().select(range(9)))
    with pytest.raises(ValueError, match=r"^train_dataset has 9 samples, but use_pair_batches was given 23 lengths$"):
        trainer.train()
    for options in (
        {"auto_find_batch_size": True},
        {"accelerator_config": {"dispatch_batches": True}},
        {"accelerator_config": {"split_batches": True}},
    ):
        trainer = make(**options)
        with pytest.raises(ValueError, match=r"^(auto_find|dispatch|split)_batch(es|_size)=True: .*; expected False$"):
            trainer.use_pair_batches(**LIMITS)


def test_what_the_mixin_makes_of_a_loader(accelerate: Any) -> None:
    """Of a trainer of its own kind, as the second of two processes."""

    class Base:
        args = SimpleNamespace(
            train_batch_size=4, gradient_accumulation_steps=2, num_train_epochs=2, seed=3, data_seed=None
        )
        train_dataset, data_collator = ArrowRows(plain()), COLLATOR

        def __init__(self) -> None:
            self.accelerator = SimpleNamespace(even_batches=True, prepare=self.prepare)

        def prepare(self, loader: Any) -> Any:
            assert not self.accelerator.even_batches
            return accelerate.data_loader.prepare_data_loader(loader, None, 2, 1)

        def get_total_train_batch_size(self, _args: Any) -> int:
            return 4 * 2 * 2

        def get_train_dataloader(self) -> Any:
            return DataLoader(self.train_dataset, batch_size=4, **told)

    class Trainer(PairBatchSamplerMixin, Base):
        pass

    told: dict[str, Any] = {
        "collate_fn": Spy(),
        "num_workers": 1,
        "pin_memory": True,
        "timeout": 7,
        "worker_init_fn": print,
        "multiprocessing_context": "spawn",
        "generator": torch.Generator(),
        "prefetch_factor": 5,
        "persistent_workers": True,
        "in_order": False,
    }
    trainer = Trainer()
    sampler = trainer.use_pair_batches(**LIMITS)
    assert sampler.state_dict()["world_size"] == 2
    loader = trainer.get_train_dataloader()
    assert trainer.accelerator.even_batches
    of_the_loader = {name: getattr(loader, name) for name in told}
    assert of_the_loader.pop("multiprocessing_context").get_start_method() == told.pop("multiprocessing_context")
    assert of_the_loader == told
    batches = list(sampler)
    assert list(loader.batch_sampler) == batches[1::2]
    assert len(loader) * 2 == len(batches)
    for started in (loader, accelerate.skip_first_batches(loader, 2)):
        sampler.set_epoch(0)
        started.set_epoch(1)
        assert sampler.epoch == 1


def test_two_processes(accelerate: Any, training: Any) -> None:
    """Of accelerate and of the trainer, which goes on in its second epoch."""
    assert accelerate
    assert training
    ranks = json.loads(succeeds("import two_ranks; two_ranks.main()").splitlines()[-1])
    for epoch in range(2):
        batches = plan(epoch, rank=None, world_size=2)
        assert [rank["accelerate"][epoch] for rank in ranks] == [batches[0::2], batches[1::2]]
    steps = ranks[0]["trainer"]["steps"]
    for epoch in range(2):
        begin, end = epoch * steps, (epoch + 1) * steps
        first, second = (rank["trainer"]["seen"][begin:end] for rank in ranks)
        assert len(first) == len(second) == steps
        assert all_once([*first, *second])
    for rank in ranks:
        seen = rank["trainer"]["seen"]
        assert len(seen) == 2 * steps
        assert seen[:steps] != seen[steps:]
        assert rank["trainer"]["rest"] == seen[steps + 2 :]


# --- TRL ------------------------------------------------------------------------------------------


def test_trl(training: Any, tmp_path: Path) -> None:
    assert training
    trl: Any = pytest.importorskip("trl")
    example: Any = importlib.import_module("trl_dpo")
    tokenizer = example.make_tokenizer()
    model = example.make_model(tokenizer)

    class PairTrainer(PairBatchSamplerMixin, trl.DPOTrainer):  # type: ignore[misc]
        pass

    def make() -> Any:
        config = trl.DPOConfig(
            output_dir=str(tmp_path),
            num_train_epochs=1,
            save_strategy="steps",
            save_steps=3,
            max_length=example.MAX_LENGTH,
            use_cpu=True,
            bf16=False,
            report_to=[],
            disable_tqdm=True,
        )
        trainer = PairTrainer(
            model=copy.deepcopy(model),
            ref_model=copy.deepcopy(model),
            args=config,
            data_collator=example.DataCollatorForPreference(tokenizer.pad_token_id, max_length=config.max_length),
            train_dataset=example.make_pairs(20, seed=0),
            processing_class=tokenizer,
        )
        of = PreferenceCollator("concatenated", inputs="split", pad_token_id=0, max_length=config.max_length)
        sampler = trainer.use_pair_batches(max_tokens=300, collator=of)
        ids: list[Any] = []
        trainer.model.register_forward_pre_hook(
            lambda _model, _args, named: ids.append(named["input_ids"]), with_kwargs=True
        )
        trainer.train(resume_from_checkpoint=None if not list(tmp_path.iterdir()) else str(tmp_path / "checkpoint-3"))
        wanted = [trainer.data_collator([trainer.train_dataset[index] for index in batch]) for batch in sampler]
        assert sorted(itertools.chain.from_iterable(sampler)) == list(range(20))
        return ids, [batch["input_ids"] for batch in wanted]

    found, wanted = make()
    assert len(found) > 4
    assert max(map(torch.numel, found)) <= 300
    assert all(map(torch.equal, found, wanted))
    assert len(found) == len(wanted)
    rest, _ = make()
    assert len(rest) == len(wanted) - 3
    assert all(map(torch.equal, rest, wanted[3:]))


# --- the document ---------------------------------------------------------------------------------


@pytest.mark.parametrize("example", list(find_examples(str(DOCS))), ids=str)
def test_docs(example: CodeExample, eval_example: EvalExample, training: Any) -> None:
    assert training
    for module in ("trl", "torchdata", "accelerate"):
        if f"from {module}" in example.source:
            pytest.importorskip(module)
    eval_example.set_config(line_length=120)
    eval_example.run_print_check(example)
