"""The batches of a ``PairBatchSampler`` in the loops that people train with: torch's, torchdata's, accelerate's,
transformers' and TRL's; stopped and gone on with; what ``docs/sampler.md`` says of them.
"""

from __future__ import annotations

import copy
import importlib
import itertools
import json
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pytest_examples import CodeExample, EvalExample, find_examples
from torch.utils.data import DataLoader

from data_sets import COLLATOR, SIZE, plain, same
from dpo_collate import PreferenceCollator
from dpo_collate.datasets import ArrowRows, lengths
from dpo_collate.sampler import PairBatchSampler, PairBatchSamplerMixin
from loaders import succeeds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning"),  # what DataLoader does
    pytest.mark.filterwarnings("ignore:'set_vital' is deprecated:UserWarning"),  # torchdata's
    pytest.mark.filterwarnings("ignore:`(is_)?gradient_checkpointing:FutureWarning"),  # TRL's
]

DOCS = Path(__file__).parent.parent / "docs" / "sampler.md"
BUDGET = 60
LIMITS: dict[str, Any] = {"max_tokens": BUDGET, "window": 8}  # so small that epochs differ in length
Batches = list[list[int]]


def numbers(batch: dict[str, Any]) -> list[int]:
    """Which pairs a batch has."""
    found: list[int] = (batch["margin"] * 4).long().tolist()
    return found


def cells(batch: dict[str, Any]) -> int:
    """What the budget counts."""
    return sum(value.numel() for key, value in batch.items() if key.endswith("_input_ids"))


def make_sampler(**options: Any) -> PairBatchSampler:
    return PairBatchSampler(ArrowRows(plain()), COLLATOR, **{**LIMITS, **options})


def make_loader(sampler: Any, workers: int, kind: Callable[..., Any] = DataLoader, **options: Any) -> Any:
    return kind(ArrowRows(plain()), batch_sampler=sampler, num_workers=workers, collate_fn=COLLATOR, **options)


def plan(epoch: int, **options: Any) -> Batches:
    """The batches of an epoch."""
    sampler = make_sampler(**options)
    sampler.set_epoch(epoch)
    return list(sampler)


def all_once(batches: Batches) -> bool:
    return sorted(itertools.chain.from_iterable(batches)) == list(range(SIZE))


# --- epochs ---------------------------------------------------------------------------------------


@given(
    pairs=st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), min_size=3, max_size=60),
    options=st.fixed_dictionaries(
        {"max_tokens": st.integers(60, 200), "world_size": st.integers(1, 3), "seed": st.integers(0, 99)},
        optional={"shuffle": st.booleans(), "window": st.integers(1, 20), "drop_last": st.booleans()},
    ),
    epochs=st.integers(1, 4),
)
def test_epochs_of_one_length(pairs: list[tuple[int, int]], options: dict[str, Any], epochs: int) -> None:
    """They are those that they were, but for batches that are split; those of the longest are as they were."""
    lengths = np.array(pairs)
    apart = PairBatchSampler(lengths, "separate", rank=None, **options)
    equal = PairBatchSampler(lengths, "separate", rank=None, epochs=epochs, **options)
    plans = []
    for epoch in range(epochs):
        apart.set_epoch(epoch)
        plans.append((list(apart), apart.left_out))
    longest = max(len(batches) for batches, _ in plans)
    for epoch, (before, left_out) in enumerate(plans):
        equal.set_epoch(epoch)
        batches = list(equal)
        assert len(batches) == len(equal) == longest
        if len(before) == longest:
            assert batches == before
        wholes = list(map(set, before))
        found = set(itertools.chain(*batches))
        assert len(found) == sum(map(len, batches)) == len(pairs) - equal.left_out
        assert equal.left_out <= left_out
        if not left_out:
            assert all(any(whole.issuperset(batch) for whole in wholes) for batch in batches)


def test_epochs_that_are_not_planned() -> None:
    """A later one that would take more steps leaves batches out."""

    def make(**options: Any) -> PairBatchSampler:
        return PairBatchSampler(lengths, "separate", max_tokens=900, window=30, **options)

    def steps(seed: int) -> list[int]:
        found = []
        apart = make(seed=seed)
        for epoch in range(20):
            apart.set_epoch(epoch)
            found.append(len(apart))
        return found

    lengths = np.random.default_rng(0).integers(1, 100, (400, 2))
    seed = next(seed for seed in range(1000) if min(steps(seed)) < steps(seed)[0] < max(steps(seed)))
    equal = make(seed=seed, epochs=1)
    for epoch, count in enumerate(steps(seed)):
        equal.set_epoch(epoch)
        assert len(equal) == steps(seed)[0]
        assert (equal.left_out > 0) == (count > steps(seed)[0])
    with pytest.raises(ValueError, match=r"^epochs=0: expected"):
        make(epochs=0)
    with pytest.raises(ValueError, match=r"^the state has plan="):
        make(seed=seed).load_state_dict(equal.state_dict(batches=2))


# --- torch ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("workers", "method"), [(0, None), (2, "fork"), (1, "spawn")])
def test_a_loader_gives_the_batches_of_the_plan(workers: int, method: str | None) -> None:
    sampler = make_sampler()
    loader = make_loader(sampler, workers, multiprocessing_context=method, persistent_workers=workers > 0)
    for epoch in range(2):
        sampler.set_epoch(epoch)
        assert len(loader) == len(plan(epoch))
        same(loader, plan(epoch))


@pytest.mark.parametrize("workers", [0, 2])
def test_a_loader_goes_on_where_training_stopped(workers: int) -> None:
    """With workers it asks for batches before training does, and twice for an iterator."""
    sampler = make_sampler()
    sampler.set_epoch(1)
    batches = iter(make_loader(sampler, workers))
    for _step in range(3):
        next(batches)
    ahead = sampler.state_dict()
    assert ahead["batches"] == 3 + 2 * workers
    assert ahead == sampler.state_dict(batches=3 + 2 * workers)
    again = make_sampler()
    again.load_state_dict(sampler.state_dict(batches=3))
    loader = make_loader(again, workers)
    same(loader, plan(1)[3:])
    same(loader, plan(1))
    again.set_epoch(2)
    same(loader, plan(2))


# --- torchdata ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def stateful() -> Any:
    return pytest.importorskip("torchdata.stateful_dataloader").StatefulDataLoader


@pytest.mark.parametrize("done", [0, 3, None])
@pytest.mark.parametrize("workers", [0, 2])
def test_a_stateful_loader(stateful: Any, workers: int, done: int | None) -> None:
    sampler = make_sampler()
    sampler.set_epoch(1)
    stopped = make_loader(sampler, workers, stateful)
    count = len(sampler) if done is None else done
    same(itertools.islice(stopped, count), plan(1)[:count])
    again = make_sampler()
    loader = make_loader(again, workers, stateful)
    loader.load_state_dict(stopped.state_dict())
    same(loader, plan(1)[count:])
    again.set_epoch(2)
    same(loader, plan(2))


@pytest.mark.parametrize("workers", [0, 2])
def test_a_stateful_loader_whose_epoch_is_over(stateful: Any, workers: int) -> None:
    """It sets the sampler back to that epoch when the next one begins."""
    sampler = make_sampler()
    stopped = make_loader(sampler, workers, stateful)
    assert len(list(stopped)) == len(sampler)
    again = make_sampler()
    loader = make_loader(again, workers, stateful)
    loader.load_state_dict(stopped.state_dict())
    again.set_epoch(1)
    same(loader, plan(1))


# --- accelerate -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def accelerate() -> Any:
    return pytest.importorskip("accelerate")


def test_accelerate(accelerate: Any) -> None:
    sampler = make_sampler()
    prepared = accelerate.Accelerator(cpu=True).prepare(make_loader(sampler, 0))
    for epoch in (0, 1, 4):
        sampler.set_epoch(epoch)
        prepared.set_epoch(epoch)
        same(prepared, plan(epoch))
    sampler.set_epoch(2)
    same(prepared, plan(5))  # it counts by itself, where it is not told
    sampler.set_epoch(2)
    prepared.set_epoch(2)
    same(accelerate.skip_first_batches(prepared, 3), plan(2)[3:])


@pytest.mark.parametrize("done", [3, None])
def test_accelerate_with_a_stateful_loader(accelerate: Any, stateful: Any, done: int | None) -> None:
    assert stateful
    configuration = accelerate.DataLoaderConfiguration(use_stateful_dataloader=True)
    sampler, again = make_sampler(), make_sampler()
    stopped, loader = (
        accelerate.Accelerator(cpu=True, dataloader_config=configuration).prepare(make_loader(each, 0))
        for each in (sampler, again)
    )
    stopped.set_epoch(1)
    same(itertools.islice(stopped, done), plan(1)[:done])
    loader.load_state_dict(stopped.state_dict())
    if done is not None:
        loader.set_epoch(1)
        same(loader, plan(1)[done:])
    loader.set_epoch(2)
    same(loader, plan(2))


def shards(accelerate: Any, sampler: Any, **options: Any) -> list[Batches]:
    """What two processes get."""
    prepare = accelerate.data_loader.prepare_data_loader
    return [
        [numbers(batch) for batch in prepare(make_loader(sampler, 0), None, 2, rank, **options)] for rank in range(2)
    ]


@pytest.mark.parametrize("even", [False, True])
def test_accelerate_deals_batches_out(accelerate: Any, even: Any) -> None:
    batches = plan(0, rank=None, world_size=2)
    dealt = shards(accelerate, make_sampler(rank=None, world_size=2), even_batches=even)
    assert dealt == [batches[0::2], batches[1::2]] == [plan(0, rank=rank, world_size=2) for rank in range(2)]
    assert all_once(batches)
    sampler = make_sampler(rank=None, world_size=2)
    prepared = accelerate.data_loader.prepare_data_loader(make_loader(sampler, 0), None, 2, 0, even_batches=even)
    prepared.set_epoch(1)
    assert sampler.epoch == 0  # it says so to its own alone
    sampler.set_epoch(1)
    skipped = accelerate.skip_first_batches(prepared, 2)
    assert list(map(numbers, skipped)) == plan(1, rank=0, world_size=2)[2:]


def test_the_mixin_imports_nothing_else() -> None:
    modules = "torch", "transformers", "accelerate"
    succeeds(f"import sys, dpo_collate.sampler; assert not sys.modules.keys() & {set(modules)}")


def test_why_there_is_no_batch_size(accelerate: Any) -> None:
    """Accelerate takes it for the size of every batch, and leaves the others out."""

    class WithBatchSize(PairBatchSampler):
        batch_size = 2

    sampler = WithBatchSize(ArrowRows(plain()), COLLATOR, **LIMITS, rank=None, world_size=2)
    assert not all_once([*itertools.chain.from_iterable(shards(accelerate, sampler, even_batches=False))])
    for name in ("batch_size", "drop_last", "sampler", "batch_sampler"):
        assert not hasattr(make_sampler(batch_size=2, drop_last=True), name)


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


# --- transformers ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def training() -> Any:
    transformers = pytest.importorskip("transformers")
    if not transformers.utils.is_torch_available():
        pytest.skip("this transformers needs a newer torch")
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
