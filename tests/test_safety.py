"""Code of the user's that runs during a call reaches no freed memory; nothing leaks; memory is the batch's own."""

from __future__ import annotations

import collections
import functools
import gc
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import pytest
import torch

from dpo_collate import PreferenceCollator

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Act: TypeAlias = "Callable[[], object]"

COLLATOR = PreferenceCollator(pad_token_id=0)
NUMPY = PreferenceCollator(pad_token_id=0, return_tensors="np")
CHOSEN = list(range(1_000_000, 1_000_400))


def pair(**changes: Any) -> dict[str, Any]:
    """A sample whose ints are no shared objects: freed, they are gone."""
    sample: dict[str, Any] = {"chosen_input_ids": list(CHOSEN), "chosen_labels": torch.tensor(CHOSEN)}
    sample |= {"rejected_input_ids": np.array(CHOSEN), "rejected_labels": tuple(CHOSEN)}
    return sample | changes


def reuse_memory() -> list[Any]:
    """Takes memory of the sizes that samples have, so that what was freed holds something else."""
    return [[[7] * 400, np.full(400, 7), torch.full((400,), 7), tuple([7] * 400)] for _ in range(20)]


def destroy(samples: list[Any]) -> None:
    """Takes from the samples what they hold, and from the list the samples."""
    for sample in samples:
        sample.clear()
    samples.clear()
    gc.collect()
    reuse_memory()


def shrink(*samples: dict[str, Any]) -> None:
    """Leaves samples their values, and takes from those their elements."""
    for sample in samples:
        sample["chosen_input_ids"].clear()
        sample["chosen_labels"].resize_(0)
        sample["rejected_input_ids"].resize((0,), refcheck=False)
    reuse_memory()


class Key:
    """A key that the look-up of another one meets."""

    def __init__(self, name: str, act: Act) -> None:
        self.name = name
        self.act = act

    def __hash__(self) -> int:
        return hash(self.name)

    def __eq__(self, other: object) -> bool:
        self.act()
        return False


class Index:
    def __init__(self, act: Act, value: int = 5) -> None:
        self.act = act
        self.value = value

    def __index__(self) -> int:
        self.act()
        return self.value


class HasArray:
    def __init__(self, act: Act) -> None:
        self.act = act

    def __array__(self, *_args: Any, **_options: Any) -> Any:
        return self.act() or np.array(CHOSEN)


class Dying(list[int]):
    """Its finalizer acts."""

    act: Act = staticmethod(lambda: None)

    def __del__(self) -> None:
        self.act()


class Lazy(collections.UserDict[str, Any]):
    """Makes its values when asked; nothing else holds them."""

    def __getitem__(self, key: str) -> Any:
        return self.data[key]()


def expect(batch: Any, rows: int = 2) -> None:
    for key in ("chosen_input_ids", "chosen_labels", "rejected_input_ids", "rejected_labels"):
        assert batch[key].tolist() == [CHOSEN] * rows, key


@pytest.mark.parametrize("images", [{}, {"pixel_values": torch.ones(1, 2), "image_flags": [1]}], ids=["text", "images"])
def test_key_that_takes_away_what_was_gathered(images: dict[str, Any]) -> None:
    samples: list[Any] = [pair(**images)]
    key: Any = Key("margin", lambda: destroy(samples))
    samples.append({**pair(**images), key: 0})
    expect(COLLATOR(samples))
    assert samples == []


@pytest.mark.parametrize("name", ["chosen_input_ids", "chosen_labels", "rejected_labels", "margin"])
def test_key_that_changes_its_own_sample(name: str) -> None:
    sample: dict[Any, Any] = {}

    def act() -> None:
        sample.update({f"key {len(sample)}": 1, "rejected_labels": list(CHOSEN)})
        for key in list(sample)[40:]:
            del sample[key]
        reuse_memory()

    key: Any = Key(name, act)
    sample |= {key: 0, **pair()}
    expect(COLLATOR([pair(), sample]))


@pytest.mark.parametrize("act_on", ["itself", "another list", "everything"])
def test_element_that_empties_lists(act_on: str) -> None:
    samples = [pair(), pair(), pair()]
    acts: dict[str, Act] = {
        "itself": samples[1]["chosen_input_ids"].clear,
        "another list": samples[0]["chosen_input_ids"].clear,
        "everything": lambda: destroy(samples),
    }
    samples[1]["chosen_input_ids"][0] = Index(lambda: (acts[act_on](), reuse_memory()), CHOSEN[0])
    expect(COLLATOR(samples), 3)


def test_element_that_shrinks_what_was_looked_at() -> None:
    for key in ("chosen_input_ids", "rejected_labels"):
        samples = [pair(), pair(), pair()]
        samples[1][key] = [Index(functools.partial(shrink, samples[0], samples[2])), *CHOSEN[1:]]
        with pytest.raises(ValueError, match=r"^sample \d: '\w+' has (400|0) tokens, but '\w+' has (400|0)$"):
            COLLATOR(samples)


def test_array_that_takes_away_what_was_gathered() -> None:
    samples = [pair(), pair(), pair()]
    samples[1]["chosen_labels"] = HasArray(lambda: destroy(samples))
    expect(COLLATOR(samples), 3)


def test_finalizer_that_takes_away_what_was_gathered() -> None:
    samples: list[Any] = [pair(), None, pair()]
    given = list(samples)

    def dying() -> Dying:
        value = Dying(CHOSEN)
        value.act = lambda: destroy(samples)
        return value

    given[1] = Lazy({key: (lambda value=value: value) for key, value in pair().items()})
    given[1].data["chosen_labels"] = dying
    samples[1] = {}
    expect(COLLATOR(given), 3)
    assert samples == []


def test_garbage_collection_at_any_time() -> None:
    given: list[Any] = []

    def act(_phase: str, _info: Any) -> None:
        for sample in given[:1]:
            sample["rejected_labels"] = sample["chosen_input_ids"].clear()
            reuse_memory()

    thresholds = gc.get_threshold()
    gc.callbacks.append(act)
    gc.set_threshold(1)
    try:
        for turn in range(60):
            given[:] = [pair(), pair(chosen_labels=[Index(list)] if turn % 2 else HasArray(list))]
            try:
                COLLATOR(given)
            except (TypeError, ValueError) as error:
                assert str(error).startswith("sample ")  # noqa: PT017
    finally:
        gc.set_threshold(*thresholds)
        gc.callbacks.remove(act)


def test_list_that_contains_itself() -> None:
    ids: list[Any] = [1]
    ids.append(ids)
    with pytest.raises(
        TypeError, match=r"^sample 0: 'chosen_labels' holds \[1, \[1, .* at position 1, expected an integer$"
    ):
        COLLATOR([pair(chosen_input_ids=[1, 2], chosen_labels=ids)])


def test_call_within_a_call() -> None:
    inner: list[Any] = []
    sample = pair()
    sample["chosen_input_ids"] = [Index(lambda: inner.append(COLLATOR([pair(), pair()])), CHOSEN[0]), *CHOSEN[1:]]
    expect(COLLATOR([pair(), sample]))
    expect(inner[0])
    sample["chosen_labels"] = [Index(lambda: COLLATOR([sample]))] * 400
    with pytest.raises(RecursionError):
        COLLATOR([sample])


class Stop(BaseException):
    """An exception that no one catches by accident."""


def throw() -> Any:
    raise Stop


class RaisingKeys(collections.UserDict[str, Any]):
    def keys(self) -> Any:
        return throw()


class RaisingValue(collections.UserDict[str, Any]):
    def __getitem__(self, key: str) -> Any:
        return throw()


def raising_samples() -> Iterator[Any]:
    yield pair()
    throw()


RAISING: dict[str, Callable[[], Any]] = {
    "element": lambda: [pair(), pair(chosen_input_ids=[*CHOSEN[1:], Index(throw)])],
    "array": lambda: [pair(), pair(chosen_input_ids=HasArray(throw))],
    "number": lambda: [pair(margin=Index(throw))],
    "key": lambda: [{Key("chosen_labels", throw): 0, **pair()}],
    "keys": lambda: [pair(), RaisingKeys(pair())],
    "value": lambda: [RaisingValue(pair())],
    "samples": raising_samples,
    "extra key": lambda: [pair(other=1), {**pair(other=2), Once(): 0}],
}


class Once:
    """An extra key that raises where it is compared with another one."""

    def __eq__(self, other: object) -> bool:
        return other == "other" and throw()

    def __hash__(self) -> int:
        return 1


@pytest.mark.parametrize("what", RAISING)
def test_exceptions_of_user_code_come_through(what: str) -> None:
    with pytest.raises(Stop):
        PreferenceCollator(pad_token_id=0, extra_keys="list")(RAISING[what]())


@pytest.mark.parametrize("exception", [StopIteration, TypeError, OverflowError, ValueError, KeyError, MemoryError])
def test_exceptions_of_elements_and_samples_come_through(exception: type[Exception]) -> None:
    def raising() -> None:
        raise exception("the user's")

    def samples() -> Iterator[Any]:
        yield pair()
        raising()

    with pytest.raises(exception, match="the user's"):
        COLLATOR([pair(chosen_input_ids=[*CHOSEN[1:], Index(raising)])])
    if exception is not StopIteration:
        with pytest.raises(exception, match="the user's"):
            COLLATOR(samples())  # type: ignore[arg-type]


class Lying(collections.UserDict[str, Any]):
    def __init__(self, sample: dict[str, Any], keys: Any) -> None:
        super().__init__(sample)
        self.named = keys

    def keys(self) -> Any:
        return self.named

    def __len__(self) -> int:
        return 10**6


def test_mapping_that_lies() -> None:
    expect(COLLATOR([pair(), Lying(pair(), [*pair(), *pair()])]))
    with pytest.raises(KeyError, match="no 'rejected_labels'"):
        COLLATOR([pair(), Lying(pair(), [key for key in pair() if key != "rejected_labels"])])
    for keys, exception in ((["nowhere"], KeyError), (5, TypeError), ([[]], TypeError)):
        with pytest.raises(exception):
            COLLATOR([Lying(pair(), keys)])


@pytest.mark.parametrize("nonsense", [5, "text", [1, 2], None, np.ma.array([1]), np.array(["a"])], ids=repr)
def test_array_that_is_none(nonsense: Any) -> None:
    class Nonsense:
        def __array__(self, *_args: Any, **_options: Any) -> Any:
            return nonsense

    with pytest.raises((TypeError, ValueError)):
        COLLATOR([pair(chosen_input_ids=Nonsense())])


FIRST_ARRAY = """
import sys
import numpy as np
from dpo_collate import PreferenceCollator

ids = [index + 1_000_000 for index in range(100_000)]

def act(*_):
    if ids[0] and "numpy" in sys._getframe(1).f_globals["__name__"]:
        ids.clear()
        ids.append(0)

collator = PreferenceCollator(pad_token_id=0, return_tensors="np")
sample = {"chosen_input_ids": ids, "chosen_labels": np.arange(100_000), "rejected_input_ids": (), "rejected_labels": ()}
sys.setprofile(act)
try:
    found = collator([sample])["chosen_input_ids"].sum()
except ValueError:  # the list was emptied before it was looked at
    found = sum(range(1_000_000, 1_100_000))
sys.setprofile(None)
print(found)
"""


def overwriting(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs Python with allocators that overwrite what is freed, so that reading it shows."""
    environment = {**os.environ, "PYTHONMALLOC": "debug", "MALLOC_PERTURB_": "165"}
    command = [sys.executable, "-X", "faulthandler", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=240)


def test_first_array_of_a_process() -> None:
    # NumPy's C interface is then looked for, by Python code.
    done = overwriting("-c", FIRST_ARRAY)
    assert (done.stdout, done.stderr) == (f"{sum(range(1_000_000, 1_100_000))}\n", "")


def test_no_freed_memory_is_read() -> None:
    done = overwriting(
        "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__, "-k", "not memory_is_read and not first_array"
    )
    assert done.returncode == 0, done.stdout + done.stderr
