"""The batches of a ``PairBatchSampler`` in torch's, torchdata's and accelerate's loops, stopped and gone on with."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_sets import COLLATOR, plain, same
from dpo_collate.datasets import ArrowRows
from dpo_collate.sampler import PairBatchSampler
from loaders import succeeds
from sampling import LIMITS, Batches, all_once, make_loader, make_sampler, numbers, plan

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning"),  # what DataLoader does
    pytest.mark.filterwarnings("ignore:'set_vital' is deprecated:UserWarning"),  # torchdata's
]


# --- epochs ---------------------------------------------------------------------------------------


@given(
    pairs=st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), min_size=3, max_size=60),
    options=st.fixed_dictionaries(
        {"max_tokens": st.integers(60, 200), "world_size": st.integers(1, 3), "seed": st.integers(0, 99)},
        optional={
            "shuffle": st.booleans(),
            "window": st.integers(1, 20),
            "drop_last": st.booleans(),
            "batch_size_multiple": st.integers(1, 4),
        },
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


def test_epochs_of_one_length_come_before_multiples() -> None:
    """Where too few batches can be split into multiples, they are split all the same."""
    lengths = np.random.default_rng(0).integers(1, 100, (200, 2))
    options: dict[str, Any] = {"max_tokens": 400, "batch_size_multiple": 4, "window": 20}
    apart, equal = (PairBatchSampler(lengths, "separate", **options, epochs=epochs) for epochs in (None, 4))
    counts, equals = [], []
    for epoch in range(4):
        apart.set_epoch(epoch)
        equal.set_epoch(epoch)
        counts.append(len(apart))
        assert sorted(itertools.chain.from_iterable(equal)) == list(range(200))
        equals.append(len(equal))
    assert min(counts) < max(counts)
    assert equals == [max(counts)] * 4


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
