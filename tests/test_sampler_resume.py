"""An epoch that is resumed goes on exactly where it was; what cannot go on is refused."""

from __future__ import annotations

import copy
import itertools
import pickle
import re
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from dpo_collate import PreferenceCollator
from dpo_collate.sampler import PairBatchSampler
from fewer import fewer
from pairs import PAD

if TYPE_CHECKING:
    from collections.abc import Callable

LENGTHS = np.random.default_rng(3).integers(1, 300, (90, 2))


def sampler(lengths: Any = LENGTHS, collator: Any = "separate", **options: Any) -> PairBatchSampler:
    return PairBatchSampler(lengths, collator, **{"max_tokens": 2000, **options})


@given(st.integers(0, 3), st.integers(0, 2**40), st.sampled_from([(1, 0), (3, 1), (2, None)]), st.data())
@fewer(2)
def test_resumed_anywhere(epoch: int, seed: int, ranks: tuple[int, int | None], data: st.DataObject) -> None:
    world_size, rank = ranks
    options: dict[str, Any] = {"seed": seed, "world_size": world_size, "rank": rank}
    batches = sampler(**options)
    batches.set_epoch(epoch)
    whole = list(batches)
    done = data.draw(st.integers(0, len(whole)))
    running = iter(batches)
    taken = list(itertools.islice(running, done))
    states = [batches.state_dict(), batches.state_dict(done)]
    assert states[0] == states[1]
    for state in states:
        other = sampler(**options)
        other.load_state_dict(pickle.loads(pickle.dumps(state)))
        assert other.epoch == epoch
        assert other.state_dict() == state
        other.set_epoch(epoch)  # as loops do, at the begin of each epoch
        assert taken + list(other) == whole
        assert list(other) == whole
        assert len(other) == len(whole)


def test_epochs_after_one_that_was_resumed() -> None:
    batches = sampler()
    batches.load_state_dict(sampler().state_dict(3))
    batches.set_epoch(1)
    other = sampler()
    other.set_epoch(1)
    assert list(batches) == list(other)
    assert batches.state_dict()["batches"] == len(batches)
    batches.set_epoch(0)
    assert batches.state_dict()["batches"] == 0


def test_the_newest_iterator_counts() -> None:
    batches = sampler()
    first = iter(batches)
    next(first)
    second = iter(batches)
    assert iter(second) is second
    assert batches.state_dict()["batches"] == 0
    next(second)
    next(second)
    assert batches.state_dict()["batches"] == 2
    batches.load_state_dict(batches.state_dict(5))
    assert batches.state_dict()["batches"] == 5


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda batches: pickle.loads(pickle.dumps(batches))])
def test_copies(copied: Callable[[PairBatchSampler], PairBatchSampler]) -> None:
    batches = sampler()
    batches.set_epoch(2)
    whole = list(batches)
    for _ in zip(range(4), batches, strict=False):
        pass
    other = copied(batches)
    assert other.state_dict() == batches.state_dict(4)
    assert list(other) == whole[4:]
    assert list(other) == whole


def test_states_are_the_same_on_all_ranks() -> None:
    states = [sampler(rank=rank, world_size=3).state_dict(2) for rank in range(3)]
    assert states[0] == states[1] == states[2]
    assert sorted(states[0]) == ["batches", "epoch", "pairs", "plan", "seed", "version", "world_size"]


STATE = sampler().state_dict(2)
OTHERS: dict[str, tuple[dict[str, Any], str]] = {
    "seed": ({"seed": 1}, "the state has seed=0: expected 1, the seed of this sampler"),
    "ranks": ({"world_size": 2}, "the state has world_size=1: expected 2, the number of ranks of this sampler"),
    "pairs": ({"lengths": LENGTHS[:-1]}, "the state has pairs=90: expected 89, the number of pairs of this sampler"),
    "lengths": ({"lengths": LENGTHS + 1}, "plan"),
    "limit": ({"max_tokens": 2001}, "plan"),
    "every rank": ({"rank": None}, "plan"),
    "multiple": ({"batch_size_multiple": 2}, "plan"),
    "order": ({"shuffle": False}, "plan"),
    "window": ({"window": 30}, "plan"),
    "rest": ({"drop_last": True}, "plan"),
    "tiles": ({"tiles": [1] * 90, "max_tiles": 9}, "plan"),
    "layout": ({"collator": "concatenated"}, "plan"),
    "width": ({"collator": PreferenceCollator(pad_token_id=PAD, pad_to_multiple_of=8)}, "plan"),
}


@pytest.mark.parametrize("kind", OTHERS)
def test_states_of_others_are_refused(kind: str) -> None:
    options, sentence = OTHERS[kind]
    batches = sampler(**options)
    batches.set_epoch(4)
    if sentence == "plan":
        plan = batches.state_dict()["plan"]
        meant = "the digest of the lengths and options of this sampler"
        sentence = f"the state has plan={STATE['plan']!r}: expected {plan!r}, {meant}"
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        batches.load_state_dict(STATE)
    assert batches.epoch == 4


@pytest.mark.parametrize(
    ("change", "wrong", "sentence"),
    [
        (
            {"version": 2},
            ValueError,
            "the state has version=2: expected 1, the version of plans that this package makes",
        ),
        ({"epoch": -1}, ValueError, "epoch=-1: expected 0 or more"),
        ({"epoch": "1"}, TypeError, "epoch='1': expected an integer"),
        ({"batches": -1}, ValueError, "the state's batches=-1: expected 0 or more"),
        ({"batches": 2.0}, TypeError, "the state's batches=2.0: expected an integer"),
        (
            {"batches": 99},
            ValueError,
            f"the state's batches=99: expected at most {len(sampler())}, as many as epoch 0 has",
        ),
    ],
)
def test_wrong_states(change: dict[str, Any], wrong: type[Exception], sentence: str) -> None:
    batches = sampler()
    batches.set_epoch(3)
    with pytest.raises(wrong, match=f"^{re.escape(sentence)}$"):
        batches.load_state_dict({**STATE, **change})
    assert batches.epoch == 3
    with pytest.raises(KeyError, match="epoch"):
        batches.load_state_dict({name: value for name, value in STATE.items() if name != "epoch"})


@pytest.mark.parametrize("change", [{"epoch": 4, "batches": 999}, {"epoch": 4, "batches": None}, {"epoch": -1}])
def test_a_state_that_is_refused_changes_nothing(change: dict[str, Any]) -> None:
    batches = sampler()
    batches.set_epoch(3)
    running = iter(batches)
    next(running)
    before = batches.state_dict()
    with pytest.raises((TypeError, ValueError)):
        batches.load_state_dict({**STATE, **change})
    with pytest.raises(KeyError, match="batches"):
        batches.load_state_dict({name: value for name, value in STATE.items() if name != "batches"})
    assert batches.state_dict() == before
    assert before["batches"] == 1
    over = sampler()
    batches.set_epoch(1)
    batches.load_state_dict(batches.state_dict(2))
    batches.load_state_dict(over.state_dict(len(over)))  # nor does one of the epoch before, which is over
    assert batches.state_dict() == {**STATE, "epoch": 1}


def test_more_batches_than_there_are() -> None:
    batches = sampler()
    sentence = f"batches={len(batches) + 1}: expected at most {len(batches)}, as many as epoch 0 has"
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        batches.state_dict(len(batches) + 1)


def indices(batch: list[int]) -> list[int]:
    return batch


@pytest.mark.filterwarnings("ignore:'set_vital' is deprecated")  # torchdata calls it
@pytest.mark.parametrize("workers", [0, 2])
def test_loaders(workers: int) -> None:
    batches = sampler()
    whole = list(batches)
    options: dict[str, Any] = {"collate_fn": indices, "num_workers": workers}
    assert list(DataLoader(range(90), batch_sampler=batches, **options)) == whole  # type: ignore[arg-type]
    stateful = pytest.importorskip("torchdata.stateful_dataloader").StatefulDataLoader
    loader = stateful(range(90), batch_sampler=sampler(), **options)
    taken = list(itertools.islice(loader, 4))
    state = loader.state_dict()
    resumed = stateful(range(90), batch_sampler=sampler(), **options)
    resumed.load_state_dict(state)
    assert taken + list(resumed) == whole
    assert list(resumed) == whole


def test_tiles_of_others_are_refused() -> None:
    one, other = (sampler(tiles=[tiles] * 90, max_tiles=9) for tiles in (1, 2))
    with pytest.raises(ValueError, match=r"^the state has plan="):
        other.load_state_dict(one.state_dict())
