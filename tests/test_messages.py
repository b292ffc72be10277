"""What a worker sends, and what the training process makes of it: any containers, any views, right values, once."""

from __future__ import annotations

import copy
import gc
import io
import os
import pickle
import re
import subprocess
import sys
import threading
from collections import OrderedDict, namedtuple
from dataclasses import dataclass
from multiprocessing import resource_sharer
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bounded import ending, run_in_threads
from dpo_collate import PreferenceCollator, _core, _messages, _pools, delivery
from loaders import succeeds
from worker import in_use, message, through_a_queue, worker

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["worker"]  # a fixture

pytestmark = pytest.mark.usefixtures("worker")

COLLATOR = PreferenceCollator(pad_token_id=0)
ROW = list(range(1, 2001))
SAMPLES: list[dict[str, Any]] = [
    {
        "chosen_input_ids": ROW[: 1500 + 100 * index],
        "chosen_labels": ROW[-1500 - 100 * index :],
        "rejected_input_ids": ROW[:1000],
        "rejected_labels": ROW[1000:],
        "margin": index / 2,
        "pixel_values": torch.full((index + 1, 3, 24, 24), float(index)),
        "image_flags": [1] * (index + 1),
    }
    for index in range(4)
]
EXPECTED = PreferenceCollator(pad_token_id=0, delivery="torch")(SAMPLES)


def same(found: Any, expected: Any) -> None:
    assert type(found) is type(expected)
    if isinstance(expected, torch.Tensor):
        assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
        assert torch.equal(found, expected)
    elif isinstance(expected, np.ndarray):
        assert np.array_equal(found, expected)
    elif isinstance(expected, dict):
        assert list(found) == list(expected)
        for key, value in expected.items():
            same(found[key], value)
    elif isinstance(expected, list | tuple):
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            same(one, other)
    else:
        assert found == expected


def descriptors(sent: bytes) -> int:
    """How many tensors of a message went the way of torch."""
    return sent.count(b"rebuild_storage_fd")


Named = namedtuple("Named", ["ids", "rest"])  # noqa: PYI024 - as users write it


@dataclass
class Kept:
    batch: dict[str, Any]
    step: int


WRAPPERS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "as it is": lambda batch: batch,
    "a copy": lambda batch: {**batch},
    "a union": lambda batch: batch | {"step": 5},
    "a key removed": lambda batch: {key: value for key, value in batch.items() if key != "chosen_labels"},
    "a key replaced": lambda batch: batch | {"chosen_labels": batch["chosen_labels"] + 1},
    "a key added": lambda batch: batch | {"sum": batch["pixel_values"].sum(), "name": "x"},
    "a tuple": lambda batch: (batch["chosen_input_ids"], batch["pixel_values"]),
    "a named tuple": lambda batch: Named(batch["chosen_input_ids"], batch),
    "a list": lambda batch: list(batch.values()),
    "ordered": OrderedDict,
    "nested": lambda batch: {"inputs": {"images": [batch["pixel_values"]]}, "rest": (batch,)},
    "twice": lambda batch: [batch, batch],
    "rows": lambda batch: list(batch["chosen_input_ids"]),
    "slices": lambda batch: [batch["chosen_input_ids"][1:, 5:-5], batch["chosen_input_ids"][:, ::3]],
    "transposed": lambda batch: batch["pixel_values"].permute(1, 3, 0, 2),
    "expanded": lambda batch: batch["chosen_labels"][:, None].expand(-1, 3, -1),
    "views": lambda batch: [batch["pixel_values"].flatten(), batch["chosen_labels"].view(torch.int32)],
    "moved": lambda batch: {key: value.to("cpu") for key, value in batch.items()},
    "converted": lambda batch: {key: value.float() for key, value in batch.items()},
    "empty": lambda batch: [batch["pixel_values"][:0], batch["chosen_labels"][:, 7:7]],
    "columns": lambda batch: [value[:, -1] for value in batch.values() if value.ndim == 2],
    "column of one row": lambda batch: batch["chosen_labels"][:1, -1:].expand(1, 2)[:, 1],
    "column of halves": lambda batch: batch["pixel_values"].view(torch.bfloat16)[:1, 0, 0, -1:],
    "far": lambda batch: torch.as_strided(batch["chosen_labels"], (1, 1200), (2**61, 1)),
    "one cell": lambda batch: batch["chosen_input_ids"][1, 1],
    "bytes": lambda batch: batch["pixel_values"].view(torch.uint8),
    "half": lambda batch: batch["pixel_values"].view(torch.bfloat16)[:, :, ::2],
    "complex": lambda batch: batch["pixel_values"].view(torch.complex64),
    "conjugate": lambda batch: batch["pixel_values"].view(torch.complex64).conj(),
    "negative": lambda batch: batch["pixel_values"].view(torch.complex64).conj().imag,
    "with gradient": lambda batch: batch["pixel_values"].requires_grad_(requires_grad=True),
    "a parameter": lambda batch: torch.nn.Parameter(batch["pixel_values"], requires_grad=False),
    "numbers": lambda batch: batch["chosen_labels"].untyped_storage().tolist()[:10],
    "arrays": lambda batch: batch["chosen_labels"].numpy().copy(),
}


@pytest.mark.parametrize("wrapper", WRAPPERS.values(), ids=WRAPPERS)
def test_any_wrapper(wrapper: Callable[[dict[str, Any]], Any]) -> None:
    expected = wrapper({key: value.clone() for key, value in EXPECTED.items()})
    found = through_a_queue(wrapper(COLLATOR(SAMPLES)))
    if isinstance(expected, torch.Tensor):
        assert found.requires_grad == expected.requires_grad
        found, expected = found.detach().resolve_conj(), expected.detach().resolve_conj()
    same(found, expected)


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors:UserWarning")
def test_nested_tensor() -> None:
    rows = [COLLATOR(SAMPLES)["chosen_labels"][0], torch.arange(5)]
    nested = torch.nested.nested_tensor(rows)
    found = through_a_queue({"nested": nested})["nested"]
    assert [row.tolist() for row in found.unbind()] == [row.tolist() for row in rows]


def test_what_repeats_a_few_cells_is_sent_as_it_is() -> None:
    mask = COLLATOR(SAMPLES)["chosen_attention_mask"][:1, :500][:, None].expand(8, 4000, 500)
    sent = message(mask)
    assert len(sent) < 1000
    found = pickle.loads(sent)
    assert found.stride() == mask.stride()
    same(found, mask)


def test_another_default_device_changes_nothing() -> None:
    sent = message([COLLATOR(SAMPLES)["chosen_labels"][:, :0], COLLATOR(SAMPLES)["margin"], COLLATOR(SAMPLES)])
    with torch.device("meta"):
        found = pickle.loads(sent)
    assert {value.device.type for value in (*found[:2], *found[2].values())} == {"cpu"}


def test_dataclass() -> None:
    found = through_a_queue(Kept(COLLATOR(SAMPLES), 3))
    assert type(found) is Kept
    same(found.batch, EXPECTED)


def test_large_tensors_are_places_and_small_ones_values() -> None:
    sent = message(COLLATOR(SAMPLES))
    assert descriptors(sent) == 0
    assert len(sent) < 3000
    # Six matrices of at least 4 x 1000 integers, and the pixels; the flags and margins are in the message.
    assert in_use()[0] == 2
    same(pickle.loads(sent), EXPECTED)
    small = message(COLLATOR(SAMPLES)["image_flags"])
    assert in_use()[0] == 0, "what is sent by value keeps no block"
    same(pickle.loads(small), EXPECTED["image_flags"])
    same(pickle.loads(small), EXPECTED["image_flags"])


def test_flags_and_labels_do_not_keep_the_pixels() -> None:
    large = [sample | {"pixel_values": torch.zeros(2, 3, 448, 448), "image_flags": [1, 1]} for sample in SAMPLES]
    batch = through_a_queue(COLLATOR(large))
    assert in_use()[1] > 8 * 3 * 448 * 448 * 4
    kept = batch["image_flags"], batch["chosen_labels"], batch["margin"]
    del batch
    assert in_use()[1] < 2**19
    assert kept[0].tolist() == [1] * 8
    before = delivery.stats().bytes_in_use
    flags = COLLATOR(large)["image_flags"]  # and so without a queue, where nothing is sent by value
    assert delivery.stats().bytes_in_use - before < 2**19
    assert flags.tolist() == [1] * 8


def test_stacked_extras_are_in_blocks_as_well() -> None:
    collator = PreferenceCollator(pad_token_id=0, extra_keys="stack")
    extras = {"number": 3, "tensor": torch.arange(1000), "array": np.arange(1000), "list": [0.5] * 1000}
    samples = [sample | extras for sample in SAMPLES]
    sent = message(collator(samples))
    assert descriptors(sent) == 0
    same(pickle.loads(sent), {**EXPECTED, **collator(samples)})


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64, torch.uint8, torch.int32], ids=str)
def test_dtypes_of_images(dtype: torch.dtype) -> None:
    samples = [sample | {"pixel_values": sample["pixel_values"].to(dtype)} for sample in SAMPLES]
    sent = message(COLLATOR(samples))
    assert descriptors(sent) == 0
    same(pickle.loads(sent)["pixel_values"], EXPECTED["pixel_values"].to(dtype))


def test_dtype_that_only_torch_knows_goes_its_way() -> None:
    batch = COLLATOR(SAMPLES)["pixel_values"].view(torch.float8_e5m2)
    sent = message(batch)
    assert descriptors(sent) == 1
    assert torch.equal(pickle.loads(sent).view(torch.uint8), batch.view(torch.uint8))


@given(
    st.lists(
        st.tuples(st.sampled_from([0, 1]), st.integers(0, 5), st.integers(1, 1600), st.integers(1, 7)), max_size=4
    ),
    st.permutations([0, 1, 2]),
)
def test_any_slices(slices: list[tuple[int, int, int, int]], order: list[int]) -> None:
    def cut(tensor: torch.Tensor) -> torch.Tensor:
        for dimension, start, stop, step in slices:
            tensor = tensor[start:stop:step] if dimension == 0 else tensor[:, start:stop:step]
        return tensor[:, :, None].expand(-1, -1, 2).permute(order)

    found = through_a_queue(cut(COLLATOR(SAMPLES)["chosen_input_ids"]))
    same(found, cut(EXPECTED["chosen_input_ids"]))


def resized(batch: dict[str, Any]) -> None:
    batch["chosen_labels"].resize_(2, 1000)


def shared(batch: dict[str, Any]) -> None:
    for value in batch.values():
        value.share_memory_()


def replaced(batch: dict[str, Any]) -> None:
    batch["chosen_labels"].data = torch.arange(5000)
    batch["chosen_input_ids"].set_(torch.arange(3000))


def set_to_another(batch: dict[str, Any]) -> None:
    batch["chosen_labels"].set_(batch["rejected_labels"].untyped_storage(), 0, (3, 1000))


def dimensions(batch: dict[str, Any]) -> None:
    batch["chosen_labels"].unsqueeze_(1)
    batch["chosen_input_ids"].t_()
    batch["pixel_values"].swapaxes_(0, 3)


def written(batch: dict[str, Any]) -> None:
    batch["chosen_labels"].mul_(2)
    batch["margin"].zero_()


@pytest.mark.parametrize("change", [resized, shared, replaced, set_to_another, dimensions, written])
def test_what_is_done_before_sending_arrives(change: Callable[[dict[str, Any]], None]) -> None:
    batch, expected = COLLATOR(SAMPLES), PreferenceCollator(pad_token_id=0, delivery="torch")(SAMPLES)
    change(batch)
    change(expected)
    same(through_a_queue(batch), expected)


def test_a_message_is_read_once() -> None:
    sent = message(COLLATOR(SAMPLES))
    first = pickle.loads(sent)
    for _ in range(2):
        with pytest.raises(RuntimeError, match=r"^the message was received before, or its block was given to another"):
            pickle.loads(sent)
    same(first, EXPECTED)
    del first
    gc.collect()
    others = [through_a_queue(COLLATOR(SAMPLES)) for _ in range(5)]
    with pytest.raises(RuntimeError, match=r"^the message was received before"):
        pickle.loads(sent)
    for other in others:
        same(other, EXPECTED)
    assert in_use()[0] == 2 * 5


def test_two_messages_of_one_batch() -> None:
    batch = COLLATOR(SAMPLES)
    first, second = message(batch), message(batch)
    del batch
    same(pickle.loads(first), EXPECTED)
    same(pickle.loads(second), EXPECTED)
    assert in_use()[0] == 0


def test_a_message_that_makes_no_sense_is_refused() -> None:
    arena, place, name, shape, _ = read(message(COLLATOR(SAMPLES)["chosen_labels"]))
    dtype = np.dtype(name)
    with pytest.raises(RuntimeError, match=r"^the message names memory that is not there$"):
        _core.receive(arena, place, dtype, (10**9, *shape), None)
    with pytest.raises(RuntimeError, match=r"^the message names memory that is not there$"):
        _core.receive(arena, (2**40, *place[1:]), dtype, shape, None)
    for wrong_dtype, wrong_shape, wrong_strides in [
        (dtype, (-1, 5), None),
        (dtype, (2**62, 2**62), None),
        (dtype, (2, 2), (1,)),
        (dtype, (2, 2), (-1, 1)),
        (dtype, (2, 2**62), (2**62, 2**62)),
        (np.dtype(object), (2,), None),
    ]:
        with pytest.raises(ValueError, match=r"^a message that no tensor makes$"):
            _core.receive(arena, place, wrong_dtype, wrong_shape, wrong_strides)
    assert _core.receive(arena, place, dtype, shape, None).tolist() == EXPECTED["chosen_labels"].tolist()


def read(sent: bytes) -> Any:
    """What `_receive` is called with."""

    class Unpickler(pickle.Unpickler):
        def find_class(self, module: str, name: str) -> Any:
            return (lambda *arguments: arguments) if name == "_receive" else super().find_class(module, name)

    return Unpickler(io.BytesIO(sent)).load()


def test_received_tensors_are_ordinary() -> None:
    batch = through_a_queue(COLLATOR(SAMPLES))
    assert type(batch) is dict
    for key, tensor in batch.items():
        assert type(tensor) is torch.Tensor
        assert tensor.is_contiguous()
        assert tensor.is_leaf
        assert not tensor.requires_grad
        assert not tensor.is_shared()  # type: ignore[no-untyped-call]
        tensor.add_(1)
        assert torch.equal(tensor, EXPECTED[key] + 1)
        assert np.array_equal(tensor.numpy(), EXPECTED[key].numpy() + 1)
        same(tensor.to(torch.float64), (EXPECTED[key] + 1).to(torch.float64))
        same(copy.deepcopy(tensor), EXPECTED[key] + 1)
        same(pickle.loads(pickle.dumps(tensor)), EXPECTED[key] + 1)
        file = io.BytesIO()
        torch.save(tensor, file)
        assert len(file.getvalue()) < tensor.nbytes + 3000
        tensor.share_memory_()  # type: ignore[no-untyped-call]
        assert tensor.is_shared()  # type: ignore[no-untyped-call]
        same(tensor, EXPECTED[key] + 1)
    assert in_use()[0] == 0, "what is shared has moved"


def test_compiled() -> None:
    batch = through_a_queue(COLLATOR(SAMPLES))
    double = torch.compile(lambda tensor: tensor * 2, backend="eager")
    same(double(batch["chosen_labels"]), EXPECTED["chosen_labels"] * 2)


def test_views_keep_the_block() -> None:
    view = through_a_queue(COLLATOR(SAMPLES))["chosen_input_ids"][1:, 3:5]
    array = through_a_queue(COLLATOR(SAMPLES))["chosen_labels"].numpy()
    storage = through_a_queue(COLLATOR(SAMPLES))["rejected_labels"].untyped_storage()
    assert in_use()[0] == 3
    for _ in range(10):
        through_a_queue(COLLATOR(SAMPLES))["chosen_input_ids"].zero_()
    assert view.tolist() == EXPECTED["chosen_input_ids"][1:, 3:5].tolist()
    assert array.tolist() == EXPECTED["chosen_labels"].tolist()
    assert bytes(storage) == EXPECTED["rejected_labels"].numpy().tobytes()
    del view, array, storage
    assert in_use()[0] == 0


def test_plain_pickle_is_self_contained() -> None:
    before = delivery.stats().batches_sent
    pickled = pickle.dumps(COLLATOR(SAMPLES))
    assert len(pickled) > sum(value.nbytes for value in EXPECTED.values())
    for _ in range(2):
        same(pickle.loads(pickled), EXPECTED)
    assert delivery.stats().batches_sent == before


def test_memory_of_others_goes_the_way_of_torch() -> None:
    other = torch.arange(5000)
    sent = message({**COLLATOR(SAMPLES), "other": other})
    assert descriptors(sent) == 1
    same(pickle.loads(sent), {**EXPECTED, "other": other})
    sent = message(PreferenceCollator(pad_token_id=0, delivery="torch")(SAMPLES))
    assert (descriptors(sent), sent.count(b"_receive")) == (1, 0)  # (what is named again is not named in full)
    same(pickle.loads(sent), EXPECTED)


def test_more_tensors_of_one_block_than_can_be_counted() -> None:
    rows = COLLATOR(SAMPLES)["chosen_input_ids"]
    sent = [message(rows) for _ in range(2**14 + 2)]
    assert descriptors(sent[2**14 - 2]) == 0
    assert descriptors(sent[-1]) == 1
    for one in sent:
        found = pickle.loads(one)
    same(found, EXPECTED["chosen_input_ids"])


def test_batches_are_counted() -> None:
    before = delivery.stats()
    for _ in range(3):
        through_a_queue(COLLATOR(SAMPLES))
    after = delivery.stats()
    assert (after.batches_sent - before.batches_sent, after.batches_received - before.batches_received) == (3, 3)
    assert after.recycled > before.recycled
    assert after.blocks_free > 0
    delivery.trim()
    trimmed = delivery.stats()
    assert (trimmed.blocks_free, trimmed.bytes_free) == (0, 0)


def test_stats_are_readable() -> None:
    kept = through_a_queue(COLLATOR(SAMPLES))
    shown = repr(delivery.stats())
    assert shown.startswith("Stats(arenas=")
    assert re.search(r"; in_use=\d+ blocks, \d+\.\d MiB; free=\d+ blocks, \d+\.\d MiB; retired=0 blocks", shown)
    assert re.search(r"batches: sent=\d+, received=\d+; fallbacks=\{.*\}\)$", shown)
    same(kept, EXPECTED)


def test_threads_receive_and_drop() -> None:
    wrong: list[Any] = []

    def work(number: int) -> None:
        kept: list[Any] = []
        for turn in range(100):
            batch = through_a_queue(COLLATOR(SAMPLES))
            batch["chosen_labels"] += number
            kept.append(batch)
            if turn % 7 == number:
                for one in kept:
                    wrong.extend(
                        key
                        for key, value in EXPECTED.items()
                        if not torch.equal(one[key], value + number if key == "chosen_labels" else value)
                    )
                kept.clear()

    run_in_threads(threading.Thread(target=work, args=(number,)) for number in range(4))
    assert wrong == []
    assert in_use()[0] == 0


def test_worker_that_is_gone() -> None:
    with pytest.raises(RuntimeError) as caught:
        _messages._attach(b"0123456789abcdef", 2**22 - 1, 5, None)
    assert str(caught.value) == (
        "cannot map the memory of the DataLoader worker with process id 4194303: [Errno 2] No such file or directory: "
        "'/proc/4194303/fd/5'; PreferenceCollator(delivery='torch') sends batches as torch does"
    )


def test_a_file_that_is_no_arena() -> None:
    with Path("/dev/zero").open("rb") as file, pytest.raises(OSError, match=r"^not the memory of an arena$"):
        _core.attach(b"0123456789abcdef", os.dup(file.fileno()), os.getpid(), file.fileno())


ENDING = "import threading; [threading.Thread(target=input).start() for _ in range(6)]; print(flush=True); input()"


def test_worker_that_is_being_killed_is_waited_for() -> None:
    """So that torch, which looks after its workers when there is an error, finds it dead: with all its threads."""
    pipe = subprocess.PIPE
    with ending(subprocess.Popen([sys.executable, "-c", ENDING], stdin=pipe, stdout=pipe, text=True)) as process:
        assert process.stdout is not None
        process.stdout.readline()
        threading.Timer(0.1, process.kill).start()
        with pytest.raises(RuntimeError, match=r"^cannot map the memory of the DataLoader worker with process id"):
            _messages._attach(b"0123456789abcdef", process.pid, 1000, None)
        assert os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is not None


def test_but_not_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_messages, "MOST_SECONDS", 0.01)
    with pytest.raises(RuntimeError, match=r"^cannot map the memory of the DataLoader worker with process id"):
        _messages._attach(b"0123456789abcdef", os.getpid(), 100_000, None)


def test_the_descriptor_is_offered_a_few_times() -> None:
    sender = _pools._sender
    assert sender is not None
    for _ in range(10):
        sender._offers.clear()
        sender.prepare()
    assert (sender._left, sender._offers) == (0, [])
    same(through_a_queue(COLLATOR(SAMPLES)), EXPECTED)


def test_a_bug_in_sending_is_no_hang(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_arguments: Any) -> None:
        raise ArithmeticError

    monkeypatch.setattr(_core, "send", broken)
    same(through_a_queue(COLLATOR(SAMPLES)), EXPECTED)


def test_a_process_that_is_refused_falls_back(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused() -> None:
        raise MemoryError("no")

    monkeypatch.setattr(_messages, "open_sender", refused)
    monkeypatch.setattr(_pools, "_sender", None)
    _pools._open()
    assert delivery.stats().fallbacks["batches are sent as torch sends them: no"] == 1
    same(through_a_queue(COLLATOR(SAMPLES)), EXPECTED)


ALONE = """
import os, sys, threading
from multiprocessing.reduction import DupFd
import torch
from dpo_collate import _core, _messages

if "refused" in sys.argv[1]:  # the thread, to torch
    start, threading.Thread.start = threading.Thread.start, None
    try:
        DupFd(0)
    except TypeError:
        threading.Thread.start = start
identity, descriptor = _core.open_shared()
sender = _messages.Sender(identity, descriptor)
if sys.argv[1].startswith("the descriptor"):
    print(_messages._attach(identity, 2**22 - 1, 5, sender._offers.pop()))
else:
    print(_messages._attach(identity, os.getpid(), descriptor, None))
"""


@pytest.mark.parametrize("way", ["the descriptor", "the descriptor, refused before", "its name in /proc"])
def test_either_way_to_the_arena_is_enough(way: str) -> None:
    assert "Arena object" in succeeds(ALONE, way)


HOOKS = """
import os
registered = []
os.register_at_fork = lambda **hooks: registered.append(hooks)
from bounded import ending, run_in_threads
from loaders import *
for _ in range(2):
    COLLATOR([Pairs(9)[1]])
from dpo_collate import _core
ours = [hooks for hooks in registered if hooks.get("before") is _core.before_fork]
print(len(ours), *sorted(ours[0]))
"""


def test_forks_are_watched_once() -> None:
    assert succeeds(HOOKS) == "1 after_in_child after_in_parent before\n"


def test_a_socket_whose_thread_is_being_started_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the queue's thread, for what goes torch's way: it holds the lock until the thread is there."""
    sharer: Any = resource_sharer._resource_sharer  # type: ignore[attr-defined]
    closed: list[str] = []
    listener = SimpleNamespace(close=lambda: closed.append("closed"))
    for name, value in (("_listener", listener), ("_address", "a place"), ("_thread", None)):
        monkeypatch.setattr(sharer, name, value)
    other = threading.Thread(target=_messages._forget_unserved_socket, daemon=True)
    with sharer._lock:
        other.start()
        other.join(0.05)
        assert other.is_alive()
        sharer._thread = threading.current_thread()  # it is there
    other.join(60)
    assert (other.is_alive(), closed, sharer._address) == (False, [], "a place")
    sharer._thread = None  # it is not
    _messages._forget_unserved_socket()
    assert (closed, sharer._address) == (["closed"], None)


NO_PIDFD = """
import os, resource, sys
from dpo_collate import _core

said, say = os.pipe()
asked, ask = os.pipe()
worker = os.fork()
if worker == 0:
    os.close(ask)
    identity, descriptor = _core.open_shared()
    os.write(say, identity + b"%d" % descriptor)
    os.read(asked, 1)  # until the end of the other
    os._exit(0)
os.close(asked)
name = os.read(said, 100)
identity, descriptor = name[:16], int(name[16:])
file = os.open(f"/proc/{worker}/fd/{descriptor}", os.O_RDWR)
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))  # nothing can be opened
arena = _core.attach(identity, file, worker, descriptor)
del arena
arenas = _core.stats()[0]
if sys.argv[1] == "in time":
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert _core.stats()[0] == arenas
os.kill(worker, 9)
if sys.argv[1] == "in time":
    os.waitid(os.P_PID, worker, os.WEXITED | os.WNOWAIT)  # a zombie has no descriptors to look at any more
else:
    os.waitpid(worker, 0)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
print(arenas, _core.stats()[0])
"""


@pytest.mark.parametrize("when", ["in time", "too late"])
def test_a_worker_whose_end_could_not_be_watched_at_first(when: str) -> None:
    """Its arena is forgotten all the same: as it is asked for a pidfd again, or is found to be gone."""
    assert succeeds(NO_PIDFD, when) == "1 0\n"
