"""Samples that act while they are read do no harm: no crash, no lost exception, no leak, and the next batch is right.

`attacks.py` says what an attack is, and what must be so after it. Here are a few, drawn and shrunk by Hypothesis; `make
fuzz-python` makes them for as long as one likes.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import attacks
import hostile
from dpo_collate import PreferenceCollator, check
from dpo_collate.image_tokens import ImageTokens
from dpo_collate.layout import Media
from dpo_collate.sampler import PairBatchSampler
from dpo_collate.stats import PaddingMeter
from figures import note
from hostile import Element, Key, Stop
from loaders import succeeds

if TYPE_CHECKING:
    from collections.abc import Callable

NUMPY = PreferenceCollator(pad_token_id=0, return_tensors="np")
SECONDS = os.environ.get("DPO_COLLATE_ATTACK_SECONDS", "2")


@pytest.mark.filterwarnings("ignore")  # of NumPy and torch, about what is done to their arrays
@given(st.data())
def test_attacks_do_no_harm(data: st.DataObject) -> None:
    drawn = 0

    def pick(below: int) -> int:
        nonlocal drawn
        drawn += 1
        return data.draw(st.integers(0, below - 1))

    result = attacks.attack(pick)
    note("hostile", calls=1, errors=result.error is not None, reentries=result.reentries, acts=result.acted)


def test_attacks_do_no_harm_where_freed_memory_shows(tmp_path: Path) -> None:
    """In a process of its own, with allocators that overwrite what is freed, and with Python's own checks."""
    environment = {**os.environ, "PYTHONMALLOC": "debug", "MALLOC_PERTURB_": "165"}
    seed, last = str(random.SystemRandom().randrange(1 << 32)), tmp_path / "seed"
    program = [str(Path(attacks.__file__)), SECONDS, seed, str(last)]
    command = [sys.executable, "-X", "dev", "-X", "faulthandler", *program]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=240)
    assert (done.returncode, done.stderr) == (0, ""), f"seed {last.read_text()}: {done.stderr}"
    assert json.loads(done.stdout)["calls"] > 0


def test_an_attack_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """What does harm is told: a collator that keeps a sample, one that loses an exception, and one that changes."""
    kept: list[Any] = []

    def keeping(samples: Any) -> Any:
        samples = list(samples)
        kept.extend(samples)
        return NUMPY(samples)

    def losing(samples: Any) -> Any:
        try:
            return NUMPY(samples)
        except BaseException:  # noqa: BLE001 - that is what is wrong with it
            return None

    def changing(samples: Any) -> Any:
        kept.append(len(samples))
        return len(kept)

    for name, harm in (("keeping", keeping), ("losing", losing), ("changing", changing)):
        monkeypatch.setattr(attacks, "TARGETS", {name: attacks.Target(harm, attacks.TWO)})
        found = []
        for seed in range(300):
            try:
                attacks.attack(random.Random(seed).randrange)
            except AssertionError as error:
                found.append(str(error))
                break
        assert found, name


# --- what attacks have found --------------------------------------------------------------------------------


def pair(**changes: Any) -> dict[str, Any]:
    chosen, rejected = [1, 2], [1, 3]
    return {**dict(zip(attacks.KEYS, (chosen, chosen, rejected, rejected), strict=True)), **changes}


class Acting(Element):
    def __init__(self, act: Callable[[], object]) -> None:
        super().__init__(1)
        self.act = act

    def __index__(self) -> int:
        self.act()
        return 1


@pytest.mark.parametrize("key", ["chosen_input_ids", "chosen_labels"])
def test_check_of_an_array_that_repeats_one_value_ends(key: str) -> None:
    endless = pair(**{key: np.broadcast_to(np.int8(1), 2**60)})
    problems = {problem.kind for problem in check([endless, pair()], NUMPY, vocab_size=9).problems}
    assert {"too_large", "length_mismatch"} >= problems
    assert problems


class Interrupting(str):
    """A key whose name cannot be asked for."""

    __slots__ = ()
    error: type[BaseException] = KeyboardInterrupt

    def __repr__(self) -> str:
        raise self.error


class Failing(Interrupting):
    __slots__ = ()
    error = ArithmeticError


def test_an_interrupt_while_a_message_is_made_is_not_lost() -> None:
    with pytest.raises(KeyboardInterrupt):
        NUMPY([{Interrupting("x"): 1, "chosen_input_ids": [1]}])
    with pytest.raises(KeyboardInterrupt):
        check([{Interrupting("x"): 1, "chosen_input_ids": [1]}], NUMPY)
    with pytest.raises(KeyError, match=r"^\"sample 0: no 'chosen_labels' \(its keys: 'chosen_input_ids'\)\"$"):
        NUMPY([{Failing("x"): 1, "chosen_input_ids": [1]}])


def test_an_interrupt_of_a_look_up_for_a_message_is_not_lost() -> None:
    armed: list[Any] = []

    class Same(Key):
        def __eq__(self, other: object) -> bool:
            if armed.count(None) > 1:
                raise Stop
            armed.append(None)
            return False

        __hash__ = Key.__hash__

    key: Any = Same("chosen_labels")
    with pytest.raises(Stop):
        NUMPY([{key: 1, "chosen_input_ids": [1]}])


def test_an_exception_without_words_comes_through_a_check() -> None:
    class Odd(Exception):  # noqa: N818 - of the user's
        def __str__(self) -> str:
            raise OSError

    def act() -> None:
        raise Odd

    with pytest.raises(Odd):  # and nothing is said of an exception that was ignored
        check([pair(chosen_labels=[Acting(act), 1])], NUMPY)


def test_a_list_of_samples_that_is_emptied_counts_as_it_was() -> None:
    padded = PreferenceCollator(pad_token_id=0, return_tensors="np", media=(Media("m", ("m",), combine="pad"),))
    samples = [pair(m=np.ones(2)), pair()]
    samples[1]["chosen_labels"] = [Acting(samples.clear), 1]
    with pytest.raises(KeyError, match=r"^\"sample 1: no 'm', but sample 0 has 'm': expected in all"):
        padded(samples)
    meter = PaddingMeter()
    samples = [pair(), pair()]
    samples[1]["chosen_labels"] = [Acting(samples.clear), 1]
    meter.watch(NUMPY)(samples)
    assert (samples, meter.total.pairs, meter.total.rows) == ([], 2, 4)


def test_what_only_says_that_it_is_a_tensor_is_none() -> None:
    with pytest.raises((TypeError, ValueError)):
        NUMPY([pair(chosen_labels=Mock(spec=torch.Tensor))])
    with pytest.raises(TypeError, match=r"^sample 0: 'pixel_values' is a Mock, expected a tensor or an array$"):
        NUMPY([pair(pixel_values=Mock(spec=torch.Tensor), image_flags=[1])])


ENDLESS: dict[str, Any] = {"array": np.broadcast_to(np.int8(1), 2**60), "tensor": torch.ones(1).expand(2**60)}


@pytest.mark.parametrize("kind", ENDLESS)
def test_images_without_end_are_refused_where_they_are_looked_at(kind: str) -> None:
    images = {"pixel_values": ENDLESS[kind].reshape(2**60, 1), "image_flags": ENDLESS[kind]}
    samples = [pair(**images)]
    short = PreferenceCollator(pad_token_id=0, max_length=1)
    too_large = "'image_flags' is too large: there is no memory for a copy of it"
    with pytest.raises(MemoryError, match=f"^sample 0: {too_large}$"):
        short(samples)
    assert f"row 0: {too_large}" in {problem.message for problem in check(samples, short).problems}
    counting = PreferenceCollator(pad_token_id=0, image_tokens=ImageTokens(7, per_tile=2))
    with pytest.raises(MemoryError, match=f"^sample 0: {too_large}$"):
        counting(samples)
    for problem in check(samples, PreferenceCollator(pad_token_id=0)).problems:
        assert problem.kind == "too_large"


def test_check_of_images_of_more_bytes_than_there_are_addresses() -> None:
    images = {"pixel_values": torch.zeros(1).expand(2**31, 2**31), "image_flags": [1]}
    problems = check([pair(**images)], PreferenceCollator(pad_token_id=0)).problems
    assert {problem.kind for problem in problems} == {"image_flags"}


STRANGE = {
    "meta": torch.ones(3, device="meta"),
    "sparse": torch.eye(2).to_sparse(),
    "deep": hostile.nested(500),
    "itself": hostile.itself(),
}


@pytest.mark.parametrize("value", STRANGE.values(), ids=STRANGE)
def test_an_extra_key_of_any_kind_comes_through(value: Any) -> None:
    """And the judge of attacks can look at it."""
    batch = PreferenceCollator(pad_token_id=0, extra_keys="list")([pair(a=value)])
    assert batch["a"][0] is value
    assert len(attacks.plain(batch)["a"]) == 1


def emptied(act_on: str) -> list[Any]:
    """Nested lists, of which an element frees the others while they are read."""
    rows: list[Any] = [[1.5 + index for index in range(50)] for _ in range(20)]

    class Freeing:
        def __array__(self, *_args: Any, **_options: Any) -> Any:
            for row in rows[1:]:
                row.clear()
            rows.clear()
            hostile.reuse()
            return np.array(5.0)

        def __float__(self) -> float:
            return float(self.__array__())

        __index__ = None if act_on == "float" else lambda self: int(self.__array__())

    rows[0][0] = Freeing()
    return rows


@pytest.mark.parametrize("act_on", ["float", "index"])
def test_lists_that_are_emptied_while_numpy_or_torch_reads_them(act_on: str) -> None:
    """NumPy and torch read lists as they lie: they would reach what has been freed."""
    stacking = PreferenceCollator(pad_token_id=0, extra_keys="stack")
    for collator, key in ((NUMPY, "pixel_values"), (stacking, "z"), (replace(stacking, return_tensors="np"), "z")):
        with contextlib.suppress(TypeError, ValueError):
            collator([pair(**{key: emptied(act_on)})])
    with contextlib.suppress(TypeError, ValueError):
        PairBatchSampler((emptied(act_on), [1]), "separate", max_tokens=9)
    with contextlib.suppress(TypeError, ValueError):
        PairBatchSampler(np.ones((1, 2), int), "separate", max_tokens=9, tiles=emptied(act_on), max_tiles=1)


def itself_twice() -> Any:
    row: list[Any] = []
    row += [row, row]
    return row


def shared(levels: int, *items: float) -> Any:
    row: Any = [*items]
    for _ in range(levels):
        row = [row, row]
    return row


WHAT = "is a list that is no array"


@pytest.mark.parametrize(
    ("make", "exception", "said"),
    [
        (itself_twice, TypeError, f"{WHAT}: a list contains itself"),
        (lambda: hostile.nested(10**5), TypeError, f"{WHAT}: lists are nested more than 64 deep"),
        (lambda: shared(60, 1.0), MemoryError, "is too large: there is no memory for a copy of it"),
        (lambda: shared(60), MemoryError, "is too large: there is no memory for a copy of it"),
    ],
    ids=["itself", "deep", "shared", "empty and shared"],
)
def test_lists_without_end_are_refused(make: Callable[[], Any], exception: type[Exception], said: str) -> None:
    """NumPy would look through them for ever."""
    with pytest.raises(exception, match=f"^sample 0: 'pixel_values' {said}$"):
        NUMPY([pair(pixel_values=make(), image_flags=[1])])


class Arrayed(list[Any]):
    """A list that says itself which array it is."""

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:  # noqa: FBT001 - NumPy's protocol
        return np.arange(3.0)


class Counted(list[Any]):
    """A list that is iterated over without end."""

    def __iter__(self) -> Any:
        return itertools.count()


def test_lists_of_their_own_class_are_what_numpy_takes_them_for() -> None:
    batch = NUMPY([pair(pixel_values=[Arrayed([1, 2]), Counted([3.0, 4.0, 5.0])], image_flags=[1, 1])])
    assert batch["pixel_values"].tolist() == [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]


ENDLESS_KEYS = """
import itertools, resource
from dpo_collate import PreferenceCollator

class Endless(dict):
    def keys(self):
        return itertools.repeat("x")

collator = PreferenceCollator(pad_token_id=0, return_tensors="np")
resource.setrlimit(resource.RLIMIT_AS, (2**31, 2**31))
try:
    collator([Endless(x=1)])
except MemoryError:
    print("no memory")
"""


def test_keys_without_end_are_an_error_and_no_abort() -> None:
    assert succeeds(ENDLESS_KEYS) == "no memory\n"


def test_lists_that_are_shared_are_copied_once() -> None:
    row = [1.0, 2.0]
    batch = NUMPY([pair(pixel_values=[row, (row, row)[0]], image_flags=[1, 1])])
    assert batch["pixel_values"].tolist() == [row, row]


def test_check_of_images_that_lie_as_their_negatives() -> None:
    tiles = torch.tensor([[1 + 2j], [3 + 4j]])
    views = {"pixel_values": tiles.conj().imag, "image_flags": [1, 1]}
    plain = {"pixel_values": torch.tensor([[-2.0], [-4.0]]), "image_flags": [1, 1]}
    problems = check([pair(**views), pair(**plain)], PreferenceCollator(pad_token_id=0)).problems
    assert [problem.message for problem in problems] == ["row 1: the same pair as row 0"]


def test_check_of_one_value_that_lies_with_a_stride() -> None:
    strided = {"pixel_values": torch.ones(2)[::2], "image_flags": [1]}
    plain = {"pixel_values": torch.ones(1), "image_flags": [1]}
    problems = check([pair(**strided), pair(**plain)], PreferenceCollator(pad_token_id=0)).problems
    assert [problem.message for problem in problems] == ["row 1: the same pair as row 0"]


def test_a_sample_whose_class_cannot_be_asked() -> None:
    class Odd:
        @property  # type: ignore[misc]
        def __class__(self) -> Any:
            raise Stop

    for samples in ([Odd()], [pair(), Odd()]):
        with pytest.raises(Stop):
            NUMPY(samples)  # type: ignore[arg-type]
