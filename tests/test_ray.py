"""Ray Data and Ray Train: the batches of `dpo_collate.ray` are those of the collator, and of tensors alone.

One cluster of two CPUs serves all of it.
"""

from __future__ import annotations

import functools
import importlib.util
import itertools
import logging
import pickle
import re
import subprocess
import sys
from collections import UserDict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pytest
import ray
import torch
from hypothesis import given
from hypothesis import strategies as st
from ray import cloudpickle, train
from ray.data import DataContext
from ray.data.collate_fn import ArrowBatchCollateFn, is_tensor_batch_type
from ray.train.torch import TorchTrainer

import dpo_collate.ray
import ray_dpo
from dpo_collate import PreferenceCollator
from dpo_collate.layout import Column, Layout, Matrix, Scalar
from dpo_collate.ray import collate_fn
from dpo_collate.trainers.torchtune import padded_collate_dpo
from dpo_collate.trainers.trl import DataCollatorForPreference
from dpo_collate.trainers.trl_legacy import DPODataCollatorWithPadding
from fewer import fewer
from pairs import PAD, Pair, full, split, third

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ray.data import DataIterator

EXAMPLE = Path(__file__).parent.parent / "examples" / "ray_dpo.py"

pytestmark = [
    # Ray's DataContext sets options of its own that it has deprecated, in whichever test makes the first one.
    pytest.mark.filterwarnings(
        r"ignore:`use_(push_based_shuffle|polars|arrow_tensor_v2)` is deprecated:DeprecationWarning"
    )
]


def run_example(*options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(EXAMPLE), *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)


def test_the_example_runs() -> None:
    """It is the first test, while there is no other cluster."""
    done = run_example("--steps", "3", "--batch-size", "4", "--seed", "5")
    assert done.returncode == 0, done.stderr
    assert re.search(r"held-out reward accuracy after 3 steps of DPO: 0\.\d{3}\n$", done.stdout)


def test_the_example_refuses_a_batch_larger_than_the_data() -> None:
    done = run_example("--batch-size", "3001")
    assert done.returncode == 2
    assert done.stderr.endswith("error: there are 3000 pairs a worker: no batch has 3001\n")


def test_epochs_of_the_example_end_for_all_workers_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """This one has three batches in each; another has two, and says so when it is asked for a third."""
    others = itertools.cycle([1, 1, 0])
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda answer, _: answer.mul_(next(others)))
    shard: Any = SimpleNamespace(iter_torch_batches=lambda **of: ((of["local_shuffle_seed"], n) for n in range(3)))
    found: list[Any] = list(itertools.islice(ray_dpo.endless(shard, {"batch_size": 8, "seed": 5}), 5))
    assert found == [(5, 0), (5, 1), (6, 0), (6, 1), (7, 0)]


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.execution_options.preserve_order = True
    yield
    ray.shutdown()


def alone(batch: Any) -> Any:
    """A batch as Ray's has to be: numbers as tensors."""
    if isinstance(batch, tuple):
        return tuple(map(torch.as_tensor, batch))
    return {key: torch.as_tensor(value) for key, value in batch.items()}


def described(batch: Any) -> Any:
    """All that there is to a batch of tensors: its order, and each to the last bit."""
    if isinstance(batch, torch.Tensor):
        return batch.dtype, batch.shape, batch.tolist()
    if isinstance(batch, tuple):
        return tuple(map(described, batch))
    assert type(batch) is dict
    return [(key, described(value)) for key, value in batch.items()]


def chunks(samples: list[Any], size: int) -> list[list[Any]]:
    return [samples[begin : begin + size] for begin in range(0, len(samples), size)]


def batches(
    samples: list[dict[str, Any]], collator: Callable[[Any], Any], size: int, blocks: int, **options: Any
) -> Any:
    """What Ray Data gives of samples that lie in so many blocks."""
    data = ray.data.from_items(samples, override_num_blocks=blocks)
    return list(data.iter_torch_batches(batch_size=size, collate_fn=collate_fn(collator), **options))


PAIRS = [
    Pair([1, 2], [3], [4, 5]),
    Pair([6], [7, 8], [9]),
    Pair([2], [3, 4, 5, 6], [7]),
    Pair([1], [2], [3]),
    Pair([9], [8], [7, 6]),
]
LOGPS = {"ref_chosen_logps": -1.5, "ref_rejected_logps": -2.25}
FULL = [full(pair) for pair in PAIRS]
TABLE = pa.Table.from_pylist(FULL)
SPLIT = [split(pair) | LOGPS for pair in PAIRS]
ROWS_OF_FULL = Layout(
    "own",
    matrices=(
        Matrix(
            (("chosen",), ("rejected",)), (Column("input_ids", pad="pad_token_id"), Column("longest", of="max_length"))
        ),
    ),
    scalars=(Scalar("index", ("index",), "int32"),),
    reserved=(),
    constants=(("scale", 0.5), ("packed", False), ("version", 3), ("order", torch.tensor([1, 0]))),
)

CASES: dict[str, tuple[Callable[[Any], Any], list[dict[str, Any]]]] = {
    "separate": (PreferenceCollator(pad_token_id=PAD), FULL),
    "separate, on the left": (PreferenceCollator(pad_token_id=PAD, padding_side="left", max_length=3), FULL),
    "concatenated": (PreferenceCollator("concatenated", pad_token_id=PAD, inputs="split"), SPLIT),
    "interleaved": (PreferenceCollator("interleaved", pad_token_id=PAD, pad_to_multiple_of=4), FULL),
    "prompt_left": (PreferenceCollator("prompt_left", pad_token_id=PAD), [third(pair) for pair in PAIRS]),
    "padding_free": (PreferenceCollator("padding_free", pad_token_id=PAD), FULL),
    "other keys": (
        PreferenceCollator(pad_token_id=PAD, extra_keys="stack"),
        [sample | {"index": index, "name": "some"} for index, sample in enumerate(FULL)],
    ),
    "a table of one's own": (
        PreferenceCollator(ROWS_OF_FULL, pad_token_id=PAD),
        [sample | {"index": index} for index, sample in enumerate(FULL)],
    ),
    "at least so wide": (functools.partial(PreferenceCollator(pad_token_id=PAD), min_length=16), FULL),
    "TRL": (DataCollatorForPreference(PAD, max_length=4), SPLIT),
    "TRL, CPO": (DPODataCollatorWithPadding(pad_token_id=PAD), FULL),
    "torchtune": (padded_collate_dpo, FULL),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.usefixtures("cluster")
def test_batches_are_those_of_lists(case: str) -> None:
    collator, samples = CASES[case]
    found = batches(samples, collator, size=2, blocks=3)
    assert [described(batch) for batch in found] == [described(alone(collator(part))) for part in chunks(samples, 2)]
    assert all(map(is_tensor_batch_type, found))


@st.composite
def columns(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Samples, each key's rows of a kind: what Ray makes tensors, and what it leaves lists."""
    rows = st.lists(st.integers(-5, 5), min_size=1, max_size=5)
    pairs = draw(st.lists(st.builds(Pair, rows, rows, rows), min_size=1, max_size=6))
    samples = [full(pair) for pair in pairs]
    for key in samples[0]:
        kind = draw(st.sampled_from(["lists", "int64", "int32", "int16"]))
        if kind != "lists":
            for sample in samples:
                sample[key] = np.array(sample[key], dtype=kind)
    return samples


@given(columns(), st.integers(1, 6), st.integers(1, 7), st.integers(0, 4))
@fewer(5)
@pytest.mark.usefixtures("cluster")
def test_any_columns_blocks_and_batches(samples: list[dict[str, Any]], blocks: int, size: int, prefetch: int) -> None:
    collator = PreferenceCollator("padding_free", pad_token_id=PAD)
    found = batches(samples, collator, size, blocks, prefetch_batches=prefetch)
    assert [described(batch) for batch in found] == [described(alone(collator(part))) for part in chunks(samples, size)]


def with_tiles(counts: list[int], dtype: str, size: tuple[int, int] = (3, 2)) -> list[dict[str, Any]]:
    samples = []
    for index, count in enumerate(counts):
        tiles = np.arange(count * 3 * size[0] * size[1]).reshape(count, 3, *size) + 7 * index
        samples.append(FULL[index] | {"pixel_values": tiles.astype(dtype), "image_flags": np.ones(count, np.int64)})
    return samples


@pytest.mark.parametrize("dtype", ["float32", "float16", "uint8", "float64"])
@pytest.mark.parametrize(
    ("counts", "extension"),
    [
        ([2, 2, 2, 2, 2], "ArrowTensorTypeV2"),
        ([1, 3, 2, 1, 4], "ArrowVariableShapedTensorType"),
        ([1, 0, 2, 0, 0], "ArrowVariableShapedTensorType"),
    ],
    ids=["of one shape", "of several", "and none"],
)
@pytest.mark.usefixtures("cluster")
def test_tiles(counts: list[int], extension: str, dtype: str) -> None:
    samples = with_tiles(counts, dtype)
    data = ray.data.from_items(samples, override_num_blocks=1)
    assert type(data.schema().types[data.schema().names.index("pixel_values")]).__name__ == extension
    collator = PreferenceCollator(pad_token_id=PAD)
    found = batches(samples, collator, size=2, blocks=2)
    assert [described(batch) for batch in found] == [described(collator(part)) for part in chunks(samples, 2)]


@pytest.mark.usefixtures("cluster")
def test_blocks_of_one_shape_and_of_several() -> None:
    """Ray makes one column of them for a batch that has rows of both."""
    samples = with_tiles([2, 2, 1, 3], "float32")
    collator = PreferenceCollator(pad_token_id=PAD)
    (found,) = batches(samples, collator, size=4, blocks=2)
    assert described(found) == described(collator(samples))


@pytest.mark.usefixtures("cluster")
def test_arrays_and_none_in_one_column() -> None:
    """Ray pickles them: a pair without tiles has to have an array of none."""
    samples = [FULL[0] | {"pixel_values": np.zeros((1, 3, 2, 2), np.float32)}, FULL[1] | {"pixel_values": None}]
    with pytest.raises(TypeError, match=r"^sample 0: 'pixel_values' is "):
        batches(samples, PreferenceCollator(pad_token_id=PAD), size=2, blocks=1)


@pytest.mark.usefixtures("cluster")
def test_columns_that_map_batches_made() -> None:
    """In another process, as lists, as arrays of several shapes and as one array."""

    def encode(rows: dict[str, Any]) -> dict[str, Any]:
        numbers = [int(number) for number in rows["id"]]
        tokens = [list(range(number + 1)) for number in numbers]
        return {
            "chosen_input_ids": tokens,
            "chosen_labels": [np.array(row) for row in tokens],
            "rejected_input_ids": np.stack([np.array([number, 1, 2]) for number in numbers]),
            "rejected_labels": np.stack([np.array([number, 1, 2]) for number in numbers]),
            "pixel_values": [np.full((number % 2 + 1, 3, 2, 2), number, np.float32) for number in numbers],
            "index": rows["id"],
        }

    collator = PreferenceCollator(pad_token_id=PAD)
    data = ray.data.range(12, override_num_blocks=3).map_batches(encode)
    found = list(data.iter_torch_batches(batch_size=5, collate_fn=collate_fn(collator)))
    encoded = encode({"id": np.arange(12)})
    samples = [dict(zip(encoded, row, strict=True)) for row in zip(*encoded.values(), strict=True)]
    assert [described(batch) for batch in found] == [described(collator(part)) for part in chunks(samples, 5)]


@pytest.mark.usefixtures("cluster")
def test_shuffled_batches_have_whole_pairs() -> None:
    samples = [
        {
            f"{side}_{of}": [number] * (number % 5 + 1)
            for side in ("chosen", "rejected")
            for of in ("input_ids", "labels")
        }
        | {"pixel_values": np.full((number % 3 + 1, 3, 2, 2), number, np.float32)}
        for number in range(1, 41)
    ]
    collator = PreferenceCollator(pad_token_id=0)
    found = batches(samples, collator, size=8, blocks=4, local_shuffle_buffer_size=16, local_shuffle_seed=0)
    order = [int(number) for batch in found for number in batch["chosen_input_ids"][:, 0]]
    assert sorted(order) == list(range(1, 41))
    assert order != sorted(order)
    ordered = [samples[number - 1] for number in order]
    assert [described(batch) for batch in found] == [described(collator(part)) for part in chunks(ordered, 8)]


@pytest.mark.usefixtures("cluster")
def test_ray_moves_what_it_gets() -> None:
    (batch,) = batches(FULL, PreferenceCollator("padding_free", pad_token_id=PAD), size=8, blocks=1, device="meta")
    assert {value.device.type for value in batch.values()} == {"meta"}
    (parts,) = batches(FULL, padded_collate_dpo, size=8, blocks=1, device="meta")
    assert [part.device.type for part in parts] == ["meta", "meta"]


@pytest.mark.usefixtures("cluster")
def test_ray_gives_no_table_without_rows() -> None:
    tables = [TABLE.slice(begin, rows) for begin, rows in ((0, 0), (0, 2), (2, 0), (2, 1))]
    collate = collate_fn(PreferenceCollator(pad_token_id=PAD))
    for size, number in ((2, 2), (None, 2), (8, 1)):
        assert len(list(ray.data.from_arrow(tables).iter_torch_batches(batch_size=size, collate_fn=collate))) == number
    assert not list(ray.data.from_arrow(tables[:1]).iter_torch_batches(batch_size=2, collate_fn=collate))


def test_a_table_without_rows_is_the_collators_error() -> None:
    with pytest.raises(ValueError, match=r"^the batch is empty: expected at least one sample$"):
        made(PreferenceCollator(pad_token_id=PAD), TABLE.slice(0, 0))


@pytest.mark.usefixtures("cluster")
def test_an_error_names_the_sample_of_the_batch() -> None:
    samples = [*FULL[:3], FULL[3] | {"chosen_labels": [1]}]
    with pytest.raises(ValueError, match=r"^sample 1: 'chosen_labels' has 1 tokens?, but 'chosen_input_ids' has 2$"):
        batches(samples, PreferenceCollator(pad_token_id=PAD), size=2, blocks=1)


NUMBERED = [
    {f"{side}_{of}": [number] * number for side in ("chosen", "rejected") for of in ("input_ids", "labels")}
    for number in range(1, 10)
]


def numbers(batch: dict[str, torch.Tensor]) -> list[int]:
    """Of which of the samples above it is, having made sure that it is their batch."""
    found = [int(number) for number in batch["chosen_input_ids"][:, 0]]
    collator = PreferenceCollator(pad_token_id=0)
    assert described(batch) == described(collator([NUMBERED[number - 1] for number in found]))
    return found


@pytest.mark.usefixtures("cluster")
def test_shards() -> None:
    """What `ray.train.get_dataset_shard` gives to two workers: as many pairs each, and no pair twice."""
    shards = ray.data.from_items(NUMBERED, override_num_blocks=4).streaming_split(2, equal=True)
    collate = collate_fn(PreferenceCollator(pad_token_id=0))

    def epochs(shard: DataIterator) -> list[list[list[int]]]:
        return [[numbers(batch) for batch in shard.iter_torch_batches(batch_size=2, collate_fn=collate)] for _ in "12"]

    with ThreadPoolExecutor(2) as pool:
        workers = list(pool.map(epochs, shards))
    for epoch in (0, 1):
        found = [worker[epoch] for worker in workers]
        assert [[len(batch) for batch in shard] for shard in found] == [[2, 2], [2, 2]]
        seen = list(itertools.chain(*itertools.chain(*found)))
        assert len(set(seen)) == len(seen) == 8


@pytest.mark.usefixtures("cluster")
def test_ray_train(tmp_path: Path) -> None:
    """In this process, as there are no workers. In several it is what the example does."""

    def work(config: dict[str, Any]) -> list[list[int]]:
        shard = train.get_dataset_shard("train")
        return [numbers(batch) for batch in shard.iter_torch_batches(batch_size=4, collate_fn=config["collate"])]

    fitted = TorchTrainer(
        work,
        train_loop_config={"collate": collate_fn(PreferenceCollator(pad_token_id=0))},
        datasets={"train": ray.data.from_items(NUMBERED)},
        scaling_config=train.ScalingConfig(num_workers=0),
        run_config=train.RunConfig(storage_path=str(tmp_path), name="run"),
    ).fit()
    assert fitted.return_value == [[1, 2, 3, 4], [5, 6, 7, 8], [9]]


def made(collator: Callable[[Any], Any], rows: pa.Table = TABLE) -> Any:
    """What Ray would get of a table."""
    return collate_fn(collator)(rows)


def constant(value: Any) -> Callable[[Any], Any]:
    """A collator of somebody's own that always gives this. Not a lambda: it pickles."""
    return functools.partial(_second, value)


def _second(value: Any, _: pa.Table) -> Any:
    return value


def test_numbers_become_tensors_of_no_dimension() -> None:
    batch = made(PreferenceCollator("padding_free", pad_token_id=PAD))
    for key in ("max_length_q", "max_length_k"):
        assert described(batch[key]) == (torch.int64, torch.Size([]), 5)
    batch = made(PreferenceCollator(ROWS_OF_FULL, pad_token_id=PAD), TABLE.append_column("index", [range(5)]))
    assert [(key, described(value)) for key, value in batch.items() if key != "input_ids"] == [
        ("longest", (torch.int64, torch.Size([]), 5)),
        ("index", (torch.int32, torch.Size([5]), [0, 1, 2, 3, 4])),
        ("scale", (torch.float32, torch.Size([]), 0.5)),
        ("packed", (torch.bool, torch.Size([]), False)),
        ("version", (torch.int64, torch.Size([]), 3)),
        ("order", (torch.int64, torch.Size([2]), [1, 0])),
    ]


def test_a_class_is_no_collator() -> None:
    with pytest.raises(
        TypeError, match=r"^collator=<class .*: expected a PreferenceCollator, or a function that takes"
    ):
        collate_fn(PreferenceCollator)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("value", "dtype"),
    [
        (True, torch.bool),
        (-(1 << 63), torch.int64),
        ((1 << 63) - 1, torch.int64),
        (float("inf"), torch.float32),
        (np.int32(5), torch.int64),
        (np.float64(0.5), torch.float32),
        (np.float16(0.5), torch.float32),
        (np.True_, torch.bool),
    ],
)
def test_numbers_of_any_kind(value: Any, dtype: torch.dtype) -> None:
    assert described(made(constant(value))) == (dtype, torch.Size([]), value)
    assert described(made(constant(UserDict(key=value)))) == [("key", (dtype, torch.Size([]), value))]
    assert described(made(constant((value,)))) == ((dtype, torch.Size([]), value),)


def test_tensors_are_handed_on_as_they_are() -> None:
    tensor = torch.tensor([1.0], requires_grad=True)
    for batch in ({"key": tensor}, (tensor,), tensor):
        found = made(constant(batch))
        assert (found["key"] if isinstance(found, dict) else found[0] if isinstance(found, tuple) else found) is tensor


MOVED = "Ray Data moves tensors alone"
NEST = (
    "Ray Data does not move such a nest (a tuple of tuples it concatenates), "
    "expected a name, or a tuple or dict of names"
)
EXPECTED = f"but {MOVED}: expected a tensor, a number or a bool"


@pytest.mark.parametrize(
    ("batch", "sentence"),
    [
        ({"a": torch.ones(1), "tags": ["x"]}, f"'tags' is of type list, {EXPECTED}"),
        ({"tags": [torch.ones(1)]}, f"'tags' is of type list, {EXPECTED}"),
        ({"name": "x"}, f"'name' is of type str, {EXPECTED}"),
        ({"mask": None}, f"'mask' is None, {EXPECTED}"),
        ({"z": np.complex64(1)}, f"'z' is of type complex, {EXPECTED}"),
        ({"ids": np.ones(1)}, f"'ids' is of type ndarray, {EXPECTED}"),
        ({"data": {"a": torch.ones(1)}}, f"'data' is of type dict, {EXPECTED}"),
        ((torch.ones(1), (torch.ones(1),)), f"part 1 of the batch is of type tuple, {EXPECTED}"),
        ([torch.ones(1)], f"the batch is of type list, {EXPECTED}"),
        (None, f"the batch is None, {EXPECTED}"),
    ],
)
def test_refusals_of_what_a_collator_gives(batch: Any, sentence: str) -> None:
    collate = collate_fn(constant(batch))
    with pytest.raises(TypeError, match=f"^{re.escape(sentence)}$"):
        collate(TABLE)


@pytest.mark.parametrize("number", [1 << 63, -(1 << 63) - 1])
def test_integers_that_are_too_large(number: int) -> None:
    with pytest.raises(OverflowError, match=rf"^'n' is {number}, which does not fit int64$"):
        made(constant({"n": number}))


def table(**fields: Any) -> Layout:
    matrix = Matrix((("chosen",),), (Column("input_ids", pad="pad_token_id"), Column("mask", of="ones")))
    return Layout("own", (matrix,), reserved=(), **fields)


LISTED = (Scalar("names", ("name",), None), Scalar("index", ("index",)))


@pytest.mark.parametrize(
    ("layout", "options", "error", "sentence"),
    [
        ("separate", {"return_tensors": "np"}, ValueError, f"return_tensors='np': {MOVED}, expected 'pt'"),
        (
            "separate",
            {"extra_keys": "list"},
            ValueError,
            f"extra_keys='list': {MOVED}, expected 'drop', 'stack' or 'error'",
        ),
        (
            table(extra="list"),
            {},
            ValueError,
            f"extra_keys='list': {MOVED}, expected 'drop', 'stack' or 'error'",
        ),
        (
            table(),
            {"scalars": LISTED},
            ValueError,
            f"scalar 'names' (dtype=None) makes a list, but {MOVED}: give it a dtype, or leave it out",
        ),
        (
            table(constants=(("scale", 1), ("source", "web"))),
            {},
            TypeError,
            f"constant 'source' is of type str, {EXPECTED}",
        ),
        (table(constants=(("mask_", None),)), {}, TypeError, f"constant 'mask_' is None, {EXPECTED}"),
        (
            table(returns={"data": {"ids": "input_ids"}, "mask": "mask"}),
            {},
            ValueError,
            f"returns={{'data': {{'ids': 'input_ids'}}, 'mask': 'mask'}}: {NEST}",
        ),
        (table(returns=(("input_ids", "mask"),)), {}, ValueError, f"returns=(('input_ids', 'mask'),): {NEST}"),
    ],
)
def test_refusals_of_options(
    layout: str | Layout, options: dict[str, Any], error: type[Exception], sentence: str
) -> None:
    collator = PreferenceCollator(layout, pad_token_id=PAD, **options)
    with pytest.raises(error, match=f"^{re.escape(sentence)}$"):
        collate_fn(collator)


@pytest.mark.parametrize("returns", ["mask", ("input_ids", "mask"), {"ids": "input_ids", "mask": "mask"}])
def test_what_does_not_reach_the_batch_is_not_refused(returns: Any) -> None:
    layout = table(returns=returns, scalars=LISTED, constants=(("source", "web"),))
    collator = PreferenceCollator(layout, pad_token_id=PAD)
    rows = pa.table({"chosen_input_ids": [[1, 2], [3]], "name": ["a", "b"], "index": [0, 1]})
    assert described(made(collator, rows)) == described(collator(rows.to_pylist()))


def test_a_layout_that_returns_keys_in_the_order_of_the_sample() -> None:
    with pytest.raises(ValueError, match=r"^scalar 'names' \(dtype=None\) makes a list"):
        collate_fn(PreferenceCollator(table(returns="sample", scalars=LISTED), pad_token_id=PAD))
    collator = PreferenceCollator(table(returns="sample"), pad_token_id=PAD)
    assert described(made(collator)) == described(collator(FULL))


@pytest.mark.parametrize("collator", [None, 5, "separate", {"pad_token_id": 0}])
def test_what_is_no_collator(collator: Any) -> None:
    sentence = f"collator={collator!r}: expected a PreferenceCollator, or a function that takes a table"
    with pytest.raises(TypeError, match=f"^{re.escape(sentence)}$"):
        collate_fn(collator)


def dumped(value: object) -> bytes:
    """As Ray pickles."""
    pickled: bytes = cloudpickle.dumps(value)  # type: ignore[no-untyped-call]
    return pickled


@pytest.mark.parametrize("dumps", [pickle.dumps, dumped], ids=["pickle", "cloudpickle"])
def test_it_pickles(dumps: Callable[[Any], bytes]) -> None:
    for collator in (PreferenceCollator("padding_free", pad_token_id=PAD), DataCollatorForPreference(PAD)):
        collate = collate_fn(collator)
        again = pickle.loads(dumps(collate))
        assert isinstance(again, ArrowBatchCollateFn)
        assert again == collate
        assert repr(again) == repr(collate) == f"collate_fn({collator!r})"
    again = pickle.loads(dumps(collate_fn(PreferenceCollator(pad_token_id=PAD))))
    assert described(again(TABLE)) == described(PreferenceCollator(pad_token_id=PAD)(FULL))


def test_functions_of_ones_own_pickle_as_ray_pickles() -> None:
    collate = collate_fn(lambda rows: {"rows": rows.num_rows})
    assert described(pickle.loads(dumped(collate))(TABLE)) == [("rows", (torch.int64, torch.Size([]), 5))]


def test_any_number_of_threads() -> None:
    """Of a layout that makes what it needs for the keys of a batch, when it meets them."""
    collate = collate_fn(PreferenceCollator(pad_token_id=PAD, extra_keys="stack"))
    parts = [FULL[index % 5 :] for index in range(200)]
    tables = [pa.Table.from_pylist(part) for part in parts]
    with ThreadPoolExecutor(8) as pool:
        found: list[Any] = list(pool.map(collate, tables))
    collator = PreferenceCollator(pad_token_id=PAD, extra_keys="stack")
    assert [described(batch) for batch in found] == [described(collator(part)) for part in parts]


def test_without_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray.data.collate_fn", None)  # as if it were not installed
    spec = importlib.util.spec_from_file_location("dpo_collate._ray", dpo_collate.ray.__file__)
    assert spec is not None
    assert spec.loader is not None
    sentence = "; dpo_collate.ray needs Ray Data and torch (the extra 'ray' of dpo_collate)"
    with pytest.raises(ModuleNotFoundError, match=f"{re.escape(sentence)}$") as refused:
        spec.loader.exec_module(importlib.util.module_from_spec(spec))
    assert refused.value.name == "ray.data.collate_fn"
