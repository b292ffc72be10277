"""One call of an entry point with samples of which something acts (`hostile.py`), and what must be so afterwards.

`python tests/attacks.py SECONDS [SEED]` makes random attacks for so long.
"""

from __future__ import annotations

import faulthandler
import functools
import gc
import json
import random
import sys
import time
import traceback
import warnings
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import torch

import hostile
from dpo_collate import PreferenceCollator, check, delivery, dpo_collate
from dpo_collate.datasets import lengths
from dpo_collate.sampler import PairBatchSampler
from dpo_collate.stats import PaddingMeter
from dpo_collate.trainers import internvl, llamafactory, openrlhf, torchtune, trl, trl_legacy
from figures import note
from hostile import CURRENT, Pick, Saboteur

if TYPE_CHECKING:
    from collections.abc import Callable

KEYS = ("chosen_input_ids", "chosen_labels", "rejected_input_ids", "rejected_labels")
CONTRACT = (TypeError, ValueError, KeyError, OverflowError, MemoryError)
"""What entry points raise, and the subclasses of these that are Python's own."""
MEANWHILE = ("changed while it was read", "changed size during iteration", "mutated during iteration", "exhausted")
"""What is said of data that were changed meanwhile."""


@dataclass(frozen=True)
class Target:
    """An entry point, and good samples for it."""

    call: Callable[[Any], Any]
    samples: Callable[[], list[Any]]
    takes: str = "samples"


def rows(*sizes: int) -> list[list[int]]:
    """Rows of ints that are no shared objects: freed, they are gone."""
    return [[1000 + 100 * number + index for index in range(size)] for number, size in enumerate(sizes)]


def pair(size: int, **more: Any) -> dict[str, Any]:
    chosen, labels, rejected, mask = rows(size, size, 3, 3)
    given = (chosen, torch.tensor(labels), np.array(rejected), tuple(mask))
    return {**dict(zip(KEYS, given, strict=True)), **more}


def split(size: int, **more: Any) -> dict[str, Any]:
    prompt, chosen, rejected = rows(2, size, 3)
    return {"prompt_ids": prompt, "chosen_ids": torch.tensor(chosen), "rejected_ids": np.array(rejected), **more}


def images(tiles: int) -> dict[str, Any]:
    return {"pixel_values": torch.ones(tiles, 3, 2, 2), "image_flags": np.ones(tiles, np.int64)}


def listed(size: int, images: Any) -> dict[str, Any]:
    return pair(size, **images | {"pixel_values": [np.ones((3, 2, 2), np.float32)], "image_flags": [1]})


def prompts(size: int) -> dict[str, Any]:
    prompt, chosen, rejected = rows(2, size, 3)
    return {"prompt_input_ids": prompt, "chosen_input_ids": tuple(chosen), "rejected_input_ids": np.array(rejected)}


def of_llamafactory(size: int) -> dict[str, Any]:
    masks = {f"{side}_attention_mask": [1] * width for side, width in (("chosen", size), ("rejected", 3))}
    return pair(size, **masks, images=None, videos=[])


def collator(layout: str = "separate", **options: Any) -> Callable[[Any], Any]:
    return PreferenceCollator(layout, pad_token_id=0, **options)


def checked(samples: Any, **options: Any) -> Any:
    report = check(samples, PreferenceCollator(pad_token_id=0, **options), vocab_size=5000)
    return {"rows": report.rows, "problems": [str(problem) for problem in report.problems]}


METER = PaddingMeter()
TOKENIZER = SimpleNamespace(pad_token_id=0, padding_side="left")
PADDED: dict[str, Any] = {"return_tensors": "np", "pad_to_multiple_of": 4, "max_length": 3}
TWO: Callable[[], list[Any]] = lambda: [pair(4), pair(2)]  # noqa: E731 - as those that follow
NUMBERS: Callable[[], list[Any]] = lambda: [pair(4, margin=0.5), pair(2, margin=np.float32(2))]  # noqa: E731
PICTURED: Callable[[], list[Any]] = lambda: [pair(4, **images(2)), pair(2, **images(1)), pair(3)]  # noqa: E731
EXTRA: Callable[[], list[Any]] = lambda: [pair(4, a=[1, 2], b="x"), pair(2, a=[3, 4], b="y")]  # noqa: E731
ARRAYS: Callable[[], list[Any]] = lambda: [pair(4, a=np.ones(2), c=torch.ones(2)) for _ in range(2)]  # noqa: E731
SPLIT: Callable[[], list[Any]] = lambda: [split(4), split(2)]  # noqa: E731

TARGETS: dict[str, Target] = {
    "separate": Target(collator(), TWO),
    "numbers": Target(collator(), NUMBERS),
    "arrays": Target(collator(**PADDED, max_batch_bytes=10**6), NUMBERS),
    "images": Target(collator(), PICTURED),
    "image arrays": Target(collator(return_tensors="np"), PICTURED),
    "lists of images": Target(collator(), lambda: [listed(4, images(1)), listed(2, images(1))]),
    "concatenated": Target(collator("concatenated", inputs="split"), SPLIT),
    "interleaved": Target(collator("interleaved", inputs="split", targets="completion_mask"), SPLIT),
    "prompt_left": Target(collator("prompt_left"), lambda: [prompts(4), prompts(1)]),
    "padding_free": Target(collator("padding_free"), TWO),
    "per row": Target(collator("concatenated", images="per_row"), PICTURED),
    "lists": Target(collator(extra_keys="list"), EXTRA),
    "stacked": Target(collator(extra_keys="stack"), EXTRA),
    "stacked arrays": Target(collator(extra_keys="stack"), ARRAYS),
    "nothing else": Target(collator(extra_keys="error"), TWO),
    "six fields": Target(dpo_collate, PICTURED),
    "watched": Target(METER.watch(collator()), PICTURED),
    "internvl": Target(internvl.dpo_concat_pad_data_collator, PICTURED),
    "llamafactory": Target(
        llamafactory.PairwiseDataCollatorWithPadding(TOKENIZER), lambda: [of_llamafactory(4), of_llamafactory(1)]
    ),
    "torchtune": Target(torchtune.padded_collate_dpo, TWO),
    "openrlhf": Target(openrlhf.RewardCollator(0), lambda: [(*map(torch.tensor, rows(4, 4, 3, 3)), 0.5)] * 2),
    "trl": Target(trl.DataCollatorForPreference(0), SPLIT),
    "trl_legacy": Target(trl_legacy.DPODataCollatorWithPadding(0), lambda: [prompts(4), prompts(1)]),
    "checked": Target(checked, TWO),
    "checked images": Target(functools.partial(checked, max_length=3), PICTURED),
}


class Table:
    """A table whose methods act."""

    def __init__(self, table: Any, pick: Pick) -> None:
        self.table, self.pick = table, pick

    def _lies(self) -> Any:
        used = self.table.__arrow_c_stream__()
        pa.RecordBatchReader._import_from_c_capsule(used)
        lies = (self, None, (), (1, 2), self.table.schema.__arrow_c_schema__(), used)
        return lies[self.pick(len(lies))]

    def __arrow_c_stream__(self, _schema: Any = None) -> Any:
        return self._lies() if hostile.hook("__arrow_c_stream__") else self.table.__arrow_c_stream__()


class Batch(Table):
    def __arrow_c_array__(self, _schema: Any = None) -> Any:
        if hostile.hook("__arrow_c_array__"):
            return self._lies()
        return self.table.to_batches()[0].__arrow_c_array__()


class Opened(Table):
    def __dpo_collate_table__(self) -> Any:
        return self._lies() if hostile.hook("__dpo_collate_table__") else self.table

    def __getattr__(self, name: str) -> Any:
        if hostile.hook(f"__getattr__ {name}"):
            return self
        raise AttributeError(name)


def table(*sizes: int) -> Any:
    every = [rows(size, size, 3, 3) for size in sizes]
    return pa.table({key: [of[index] for of in every] for index, key in enumerate(KEYS)})


TABLES: Callable[[], list[Any]] = lambda: [table(4), table(2, 1)]  # noqa: E731 - as those before
TARGETS |= {
    "tables": Target(collator(), TABLES, "tables"),
    "lists of tables": Target(collator(extra_keys="list", return_tensors="np"), TABLES, "tables"),
    "checked tables": Target(checked, TABLES, "tables"),
    "lengths": Target(lengths, TABLES, "tables"),
    "sampler": Target(lambda given: _planned(given, None), lambda: [[4, 3], [2, 3], [5, 1]], "columns"),
    "sampler with tiles": Target(lambda given: _planned(given, given), lambda: [[4, 3], [2, 3], [5, 1]], "columns"),
}


def _planned(columns: Any, tiles: Any) -> Any:
    tiled = {} if tiles is None else {"tiles": tiles[0], "max_tiles": 9}
    sampler = PairBatchSampler(tuple(columns[:2]), "separate", max_tokens=64, shuffle=False, **tiled)
    return {"batches": list(sampler), "costs": sampler.costs()}


# --- what is put into samples --------------------------------------------------------------------------------


def _acting_value(value: Any, pick: Pick) -> tuple[Any, bool]:  # noqa: PLR0911 - a case for each kind
    """Something that acts in place of a value, and whether it says the same."""
    if type(value) is hostile.Pretender:
        return value, False
    if isinstance(value, list | tuple) and value and all(type(item) is int for item in value):
        at = pick(len(value))
        element = (hostile.Element, hostile.Int)[pick(2)](value[at])
        made: list[Any] = [
            hostile.List(value),
            hostile.Tuple(value),
            [*value[:at], element, *value[at + 1 :]],
            hostile.List([*value[:at], element, *value[at + 1 :]]),
            hostile.HasArray(np.array(value)),
            hostile.HasInterface(value),
            np.array(value).view(hostile.Array),
            torch.tensor(value).as_subclass(hostile.Tensor),
            hostile.Dying(value),
        ]
        return made[pick(len(made))], True
    if isinstance(value, torch.Tensor):
        made = [
            value.as_subclass(hostile.Tensor),
            hostile.HasArray(value.numpy()),
            value.numpy().view(hostile.Array),
            hostile.List(list(value)),
            [*list(value)[:-1], value[-1].as_subclass(hostile.Tensor)] if len(value) else [],
            [hostile.HasArray(tile.numpy()) for tile in value],
            hostile.List(value.tolist()),
        ]
        return made[pick(len(made))], False
    if isinstance(value, np.ndarray):
        made = [
            value.view(hostile.Array),
            hostile.HasArray(value),
            hostile.HasInterface(value),
            [*list(value)[:-1], np.array(value[-1]).view(hostile.Array)] if len(value) else [],
            hostile.List(value.tolist()),
            torch.from_numpy(value).as_subclass(hostile.Tensor),
        ]
        return made[pick(len(made))], False
    if isinstance(value, int | float | np.generic):
        number = float(value)
        made = [hostile.Float(number), hostile.Element(number), hostile.HasArray(np.array(number))]
        made += [np.array(number).view(hostile.Array), torch.tensor(number).as_subclass(hostile.Tensor)]
        return made[pick(len(made))], False
    if isinstance(value, str):
        return hostile.Text(value), True
    return hostile.Everything(), False


def _acting(value: Any, pick: Pick) -> tuple[Any, bool]:
    try:
        return _acting_value(value, pick)
    except Exception:  # noqa: BLE001 - it is a strange one already
        return value, False


def _put(samples: list[Any], pick: Pick) -> bool:
    """Puts something into one sample. Whether it says the same as before."""
    at = pick(len(samples))
    sample = samples[at]
    if type(sample) is pa.Table:
        samples[at] = (Table, Batch, Opened)[pick(3)](sample, pick)
        return True
    if type(sample) is list:
        samples[at], faithful = _acting(sample, pick)
        return faithful and type(samples[at]) is not hostile.Dying
    if isinstance(sample, tuple):
        place = pick(len(sample))
        value, faithful = _acting(sample[place], pick)
        samples[at] = (*sample[:place], value, *sample[place + 1 :])
        return faithful
    if type(sample) is not dict:
        return True
    keys = list(sample)
    key = keys[pick(len(keys))]
    what = pick(8)
    if what <= 3:
        sample[key], faithful = _acting(sample[key], pick)
        faithful = faithful and key not in HANDED_ON
    elif what == 4:
        sample[key], faithful = hostile.STRANGE[pick(len(hostile.STRANGE))](), False
    elif what == 5:  # another one is met first, or after it
        named = dict(sample)
        sample.clear()
        sample[hostile.Key(key)] = 0
        sample.update(named)
        faithful = False
    elif what == 6:
        items = [(hostile.Text(name) if name == key else name, value) for name, value in sample.items()]
        sample.clear()
        sample.update(items)
        faithful = False
    else:
        made = [hostile.Dict(sample), hostile.Lazy(sample), {**sample, "itself": sample}, hostile.Pretender(dict), 5]
        chosen = pick(len(made))
        samples[at], faithful = made[chosen], chosen < 2
        if chosen == 2:
            sample["itself"] = sample
    return faithful


def _batch(samples: list[Any], pick: Pick) -> Any:
    """The samples as a list, mostly, or something that gives them."""
    kinds = (hostile.List, hostile.Once, hostile.Indexed, tuple, iter, _given)
    chosen = pick(2 * len(kinds))
    return kinds[chosen](samples) if chosen < len(kinds) else samples


def _given(samples: list[Any]) -> Any:
    for sample in samples:
        hostile.hook("__next__")
        yield sample


# --- the attack ------------------------------------------------------------------------------------------------


def plain(batch: Any, depth: int = 0) -> Any:
    """Everything that a batch says; reading it would show memory that is gone."""
    kind = type(batch)  # some say that they are of another
    if depth > 64:
        return kind.__name__
    if issubclass(kind, dict):
        return {str(key): plain(value, depth + 1) for key, value in dict.items(batch)}
    if kind in {list, tuple}:
        return [plain(value, depth + 1) for value in batch]
    if kind is torch.Tensor and (batch.is_meta or batch.is_sparse or batch.is_quantized):  # an extra key's
        return str(batch.dtype), list(batch.shape), "values that no list can have"
    if kind in {torch.Tensor, np.ndarray} and np.prod(batch.shape, dtype=float) < 10**5:
        return (str(batch.dtype), list(batch.shape), batch.tolist())
    return batch if kind in {int, float, str} else kind.__name__


def well_formed(batch: Any) -> None:
    """The columns of a matrix are of one shape, whatever their values are."""
    if type(batch) is dict:
        for side in ("chosen_", "rejected_", ""):
            names = [f"{side}{name}" for name in ("input_ids", "labels", "attention_mask")]
            shapes = {tuple(batch[name].shape) for name in names if hasattr(batch.get(name), "shape")}
            assert len(shapes) <= 1, shapes
        first = [batch[name].shape[0] for name in KEYS if hasattr(batch.get(name), "shape")]
        assert len(set(first)) <= 1, first


HANDED_ON = {"a", "b", "c", "images", "videos"}
SHARED = {int, float, str, bytes, bool, type(None), type, tuple}
"""Of these one object may be in many places."""
EXPECTED: dict[str, Any] = {}


def expected(name: str) -> Any:
    if name not in EXPECTED:
        EXPECTED[name] = plain(TARGETS[name].call(TARGETS[name].samples()))
    return EXPECTED[name]


def honest(name: str) -> None:
    found = plain(TARGETS[name].call(TARGETS[name].samples()))
    assert found == expected(name), f"an honest call of {name} gives another batch"


class Result(SimpleNamespace):
    """What has come of an attack."""


def attack(pick: Pick) -> Result:
    """Calls an entry point with samples of which something acts, and looks at what comes of it.

    Raises:
        AssertionError: Something came of it that must not.
    """
    name = list(TARGETS)[pick(len(TARGETS))]
    target = TARGETS[name]
    expected(name)
    delivery_before = delivery.stats().blocks_in_use
    saboteur = Saboteur(pick, functools.partial(honest, name))
    samples = target.samples()
    saboteur.samples = samples
    put = [_put(samples, pick) for _ in range(1 + pick(3))]
    faithful = all(put)
    held = [value for sample in samples if issubclass(type(sample), dict) for value in dict.values(sample)]
    held += [sample for sample in samples if issubclass(type(sample), dict)]
    held = [value for value in held if type(value) not in SHARED]
    before = [sys.getrefcount(value) for value in held]
    given = _batch(samples, pick) if target.takes == "samples" else samples
    caught: BaseException | None = None
    batch = None
    CURRENT.append(saboteur)
    try:
        batch = target.call(given)
    except BaseException as error:  # noqa: BLE001 - whatever it is
        caught = error
    finally:
        CURRENT.pop()
    if caught is None:
        assert saboteur.raised is None, f"{name}: {saboteur.raised!r} is lost"
        said = plain(batch)
        if faithful and not saboteur.changed:
            assert said == expected(name), f"{name}: another batch"
        well_formed(batch)
        del said
    else:
        judge(name, caught, saboteur)
        caught = caught.with_traceback(None)
        caught.__context__ = caught.__cause__ = None
    result = Result(name=name, error=type(caught).__name__ if caught else None, calls=saboteur.calls)
    result.acted, result.reentries = saboteur.acted, saboteur.reentries
    changed = saboteur.changed
    saboteur.raised = caught = batch = given = None
    honest(name)
    if [sys.getrefcount(value) for value in held] != before and not changed:
        gc.collect()
        after = [sys.getrefcount(value) for value in held]
        more = [(type(value), b, a) for value, b, a in zip(held, before, after, strict=True) if a != b]
        assert not more, f"{name}: references {more}"
    del held, samples, saboteur
    if delivery.stats().blocks_in_use != delivery_before:
        gc.collect()
        assert delivery.stats().blocks_in_use <= delivery_before, f"{name}: a block stays in use"
    return result


def judge(name: str, error: BaseException, saboteur: Saboteur) -> None:
    """Whether the exception may come of it."""
    if error is saboteur.raised:
        return
    said = f"{name}: {type(error).__name__}: {error}"
    assert saboteur.raised is None, f"{said}, but {saboteur.raised!r} is lost"
    assert "this is a bug" not in str(error), said
    if "the saboteur's" in str(error):  # another one than the first, or one that says something
        return
    assert isinstance(error, Exception), said
    if isinstance(error, RecursionError) or any(words in str(error) for words in MEANWHILE):
        return
    if saboteur.changed and isinstance(error, (IndexError, AttributeError, RuntimeError)):
        return  # what was asked for is not there any more
    if isinstance(error, AttributeError) and "Pretender" in str(error):
        return  # it has not what it says
    assert isinstance(error, CONTRACT), said


def main() -> None:
    seconds = float(sys.argv[1])
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else random.SystemRandom().randrange(1 << 32)
    warnings.simplefilter("ignore")
    gc.collect()
    gc.freeze()
    counted = {"calls": 0, "errors": 0, "reentries": 0, "acts": 0}
    failures: dict[str, int] = {}
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        seed += 1
        Path(sys.argv[3]).write_text(str(seed)) if len(sys.argv) > 3 else None
        faulthandler.dump_traceback_later(120, exit=True)
        try:
            result = attack(random.Random(seed).randrange)
        except AssertionError:
            text = traceback.format_exc(limit=3)
            key = text.splitlines()[-1][:100]
            failures[key] = failures.get(key, 0) + 1
            if failures[key] == 1:
                sys.stderr.write(f"seed {seed}: {text}")
            continue
        counted["calls"] += 1
        counted["errors"] += result.error is not None
        counted["reentries"] += result.reentries
        counted["acts"] += result.acted
    note("hostile", **counted)
    sys.stdout.write(json.dumps(counted))
    if failures:
        sys.exit(f"{sum(failures.values())} attacks did harm: {json.dumps(failures, indent=1)}")


if __name__ == "__main__":
    main()
