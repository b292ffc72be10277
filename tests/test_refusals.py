"""What goes wrong outside: refused descriptors, memory and mappings, killed processes, a small /dev/shm."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch.utils.data import DataLoader

from bounded import ending
from dpo_collate import delivery  # in a worker without descriptors it could not be imported
from loaders import COLLATOR, Pairs, expected, groups, run, succeeds, wrong

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="about Linux"),
    pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning"),
]


def with_stats(samples: list[Any]) -> Any:
    return COLLATOR(samples), dict(delivery.stats().fallbacks)


class Scarce:
    """A collator whose first call finds only so many descriptors left."""

    def __init__(self, left: int) -> None:
        self.left, self.first = left, True

    def __call__(self, samples: list[Any]) -> Any:
        if not self.first:
            return with_stats(samples)
        self.first = False
        import resource  # noqa: PLC0415 - in the worker

        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (200, limits[1]))
        taken = []
        try:
            while True:
                taken.append(os.open("/dev/null", os.O_RDONLY))
        except OSError:
            pass
        for _ in range(self.left):
            os.close(taken.pop())
        try:
            return with_stats(samples)
        finally:
            for descriptor in taken:
                os.close(descriptor)
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def refuse_memfd(_worker: int) -> None:
    refuse({"x86_64": 319, "aarch64": 279}[platform.machine()])


def refuse_pidfd(_worker: int) -> None:
    refuse(434)


def refuse(call: int) -> None:
    """The kernel does not know a system call: a seccomp filter says so."""
    import ctypes  # noqa: PLC0415 - in the worker
    import struct  # noqa: PLC0415

    steps = [(0x20, 0, 0, 0), (0x15, 0, 1, call), (0x06, 0, 0, 0x00050000 | 38), (0x06, 0, 0, 0x7FFF0000)]
    filters = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in steps))
    program = struct.pack("HxxxxxxP", len(steps), ctypes.addressof(filters))
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.prctl(38, 1, 0, 0, 0) == 0  # PR_SET_NO_NEW_PRIVS
    assert libc.prctl(22, 2, program, 0, 0) == 0  # PR_SET_SECCOMP


def little_address_space(_worker: int) -> None:
    import resource  # noqa: PLC0415 - in the worker

    used = int(Path("/proc/self/statm").read_text().split()[0]) * 4096
    resource.setrlimit(resource.RLIMIT_AS, (used + 2**27, resource.RLIM_INFINITY))


REFUSED: dict[str, tuple[Any, Callable[[int], None] | None, str]] = {
    "no descriptor": (Scarce(0), None, "Too many open files"),
    "one descriptor": (Scarce(1), None, "Too many open files"),
    "two descriptors": (Scarce(2), None, "Too many open files"),
    "no memfd": (with_stats, refuse_memfd, "Function not implemented (os error 38)"),
    "no pidfd": (with_stats, refuse_pidfd, "Function not implemented (os error 38)"),
    "no address space": (with_stats, little_address_space, "Cannot allocate memory (os error 12)"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_torchs_transport_where_a_worker_is_refused(what: str) -> None:
    collate, init, reason = REFUSED[what]
    received = delivery.stats().batches_received
    options: dict[str, Any] = {"num_workers": 1, "collate_fn": collate, "worker_init_fn": init, "timeout": 60}
    found = list(DataLoader(Pairs(12), batch_size=2, **options))
    assert [wrong(batch, expected(indices)) for (batch, _), indices in zip(found, groups(12, 2), strict=True)] == [
        []
    ] * 6
    for _, fallbacks in found:
        assert any(
            known.startswith("batches are sent as torch sends them: ") and reason in known for known in fallbacks
        ), fallbacks
    assert delivery.stats().batches_received == received


class Threadless:
    """A collator whose first call can start no thread."""

    def __init__(self) -> None:
        self.first = True

    def __call__(self, samples: list[Any]) -> Any:
        if not self.first:
            return with_stats(samples)
        self.first = False
        import threading  # noqa: PLC0415 - in the worker

        def refused(_: threading.Thread) -> None:
            raise RuntimeError("can't start new thread")

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(threading.Thread, "start", refused)
            return with_stats(samples)


def test_a_thread_that_is_refused_once_is_asked_for_again() -> None:
    """By torch, which sends descriptors with the same thread; else the loader would wait for one without end."""
    options: dict[str, Any] = {"num_workers": 1, "collate_fn": Threadless(), "timeout": 60}
    found = list(DataLoader(Pairs(12), batch_size=2, **options))
    assert [wrong(batch, expected(indices)) for (batch, _), indices in zip(found, groups(12, 2), strict=True)] == [
        []
    ] * 6
    assert found[-1][1] == {"batches are sent as torch sends them: can't start new thread": 1}


RECEIVER = """
import resource, sys
from pathlib import Path
from torch.utils.data import DataLoader
import dpo_collate._messages  # noqa: F401 - a worker without descriptors could not import it
from dpo_collate import delivery
from loaders import *

loader = iter(DataLoader(Pairs(60), batch_size=2, num_workers=1, collate_fn=COLLATOR, timeout=60))
used = int(Path("/proc/self/statm").read_text().split()[0]) * 4096
resource.setrlimit(resource.RLIMIT_AS, (used + int(sys.argv[1]), used + int(sys.argv[1])))
found = list(loader)
resource.setrlimit(resource.RLIMIT_AS, (used + int(sys.argv[1]),) * 2)
assert [wrong(batch, expected(indices)) for batch, indices in zip(found, groups(60, 2))] == [[]] * 30
print(delivery.stats().batches_received, delivery.stats().blocks_in_use)
"""


def test_a_receiver_without_address_space_reads_the_file() -> None:
    received, used = map(int, succeeds(RECEIVER, str(2**28)).split())
    assert received >= 25
    assert used <= 1


def test_a_receiver_without_any_says_what_to_do() -> None:
    done = run(RECEIVER, str(2**22))
    assert done.returncode == 1
    assert "PreferenceCollator(delivery='torch') sends batches as torch does" in done.stderr


SMALL = """
import os, subprocess, sys
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", "/dev/shm"], check=True)
import torch
from torch.utils.data import DataLoader, Dataset
from dpo_collate import PreferenceCollator
from loaders import run

collator = PreferenceCollator(pad_token_id=0)
image = torch.rand(7, 3, 448, 448)

class Large(Dataset):
    def __getitem__(self, index):
        row = torch.arange(100)
        keys = ("chosen_input_ids", "chosen_labels", "rejected_input_ids", "rejected_labels")
        return dict.fromkeys(keys, row) | {"pixel_values": image, "image_flags": torch.ones(7)}

wrappers = {
    "as it is": collator,
    "copy": lambda samples: {**collator(samples)},
    "tuple": lambda samples: tuple(collator(samples).values()),
    "slices": lambda samples: [value[1:] for value in collator(samples).values()],
    "more": lambda samples: collator(samples) | {"step": 1},
}
for name, wrapper in wrappers.items():
    loader = DataLoader(Large(), batch_size=8, sampler=range(8 * 6), num_workers=2, collate_fn=wrapper, timeout=100)
    count = 0
    for batch in loader:
        values = batch if isinstance(batch, (list, tuple)) else list(batch.values())
        pixels = max((value for value in values if isinstance(value, torch.Tensor)), key=torch.numel)
        assert torch.equal(pixels[-7:], image)
        count += 1
    assert count == 6
assert os.listdir("/dev/shm") == [], os.listdir("/dev/shm")
print("all", os.statvfs("/dev/shm").f_blocks * os.statvfs("/dev/shm").f_frsize)
"""


def test_a_small_dev_shm() -> None:
    can = subprocess.run(
        ["unshare", "-m", "mount", "-t", "tmpfs", "tmpfs", "/dev/shm"], capture_output=True, check=False
    )
    if can.returncode:
        pytest.skip("mount namespaces are not permitted here")
    command = ["unshare", "-m", sys.executable, "-W", "ignore", "-c", SMALL]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=240, cwd=Path(__file__).parent)
    assert (done.stdout, done.stderr) == (f"all {64 * 2**20}\n", "")


def in_shm() -> set[str]:
    return {path.name for path in Path("/dev/shm").iterdir() if path.name.startswith("torch")}


# In a process of its own: torch raises wherever the signal finds the interpreter. That may be in a finalizer, or where
# a lock has just been taken, which is never given back then: so the interpreter does not end.
KILLED = """
import os, signal, sys, time
from torch.utils.data import DataLoader
from bounded import ended
from loaders import *

def killed(after):
    iterator = iter(DataLoader(Pairs(100_000), batch_size=2, num_workers=2, collate_fn=COLLATOR))
    kept = [next(iterator)]
    try:
        time.sleep(after)
        os.kill(iterator._workers[1].pid, signal.SIGKILL)
        kept.extend(iterator)
    except RuntimeError as error:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        print(error, flush=True)
    for step, batch in enumerate(kept):
        assert wrong(batch, expected([2 * step, 2 * step + 1])) == []
    iterator._workers[0].kill()
    os._exit(0)

sys.unraisablehook = lambda _: None
for after in (0.0, 0.002, 0.01, 0.03, 0.1):
    child = os.fork()
    if child == 0:
        try:
            killed(after)
        finally:
            os._exit(1)
    assert ended(child) == 0, after
"""


def test_a_killed_worker() -> None:
    done = run(KILLED)  # (What the other worker says of its connection is no matter.)
    assert done.returncode == 0, done.stderr
    said = done.stdout.splitlines()
    assert len(said) == 5
    for line in said:
        assert re.match(r"DataLoader worker \(pid\(?s?\)? ?[0-9, ]+\) (is killed by|exited)", line), said


PARENT = """
import time
from torch.utils.data import DataLoader
from loaders import *

iterator = iter(DataLoader(Pairs(100_000), batch_size=2, num_workers=2, collate_fn=COLLATOR))
kept = [next(iterator) for _ in range(10)]
print(*(worker.pid for worker in iterator._workers), flush=True)
time.sleep(100)
"""


def test_a_killed_parent() -> None:
    before = in_shm()
    command = [sys.executable, "-W", "ignore", "-c", PARENT]
    with ending(subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parent)) as parent:
        assert parent.stdout is not None
        workers = [int(word) for word in parent.stdout.readline().split()]
        parent.kill()
    assert len(workers) == 2
    deadline = time.monotonic() + 60
    while any(alive(worker) for worker in workers):
        assert time.monotonic() < deadline, "torch's workers look for their parent every 5 s"
        time.sleep(0.1)
    assert in_shm() == before


def alive(process: int) -> bool:
    try:
        return ") Z " not in Path(f"/proc/{process}/stat").read_text()
    except FileNotFoundError:
        return False


def unpicklable(samples: list[Any]) -> Any:
    batch = COLLATOR(samples)
    return batch | {"function": lambda: None} if int(batch["margin"][0]) == 6 else batch


def test_a_value_that_cannot_be_pickled(capfd: pytest.CaptureFixture[str]) -> None:
    """Torch's queue prints the error and drops the message: the loader waits for as long as it is told."""
    iterator = iter(DataLoader(Pairs(400), batch_size=2, num_workers=1, collate_fn=unpicklable, timeout=3))
    for step in range(3):
        assert wrong(next(iterator), expected([2 * step, 2 * step + 1])) == []
    with pytest.raises(RuntimeError, match="DataLoader timed out after 3 seconds"):
        list(iterator)
    assert "pickle" in capfd.readouterr().err
    del iterator


@pytest.mark.parametrize("where", ["dataset", "collator"])
def test_exceptions(where: str) -> None:
    class Bad(Pairs):
        def __getitem__(self, index: int) -> dict[str, Any]:
            if index == 7 and where == "dataset":
                raise LookupError("seven")
            sample = super().__getitem__(index)
            return sample | {"chosen_labels": torch.zeros(1)} if index == 7 else sample

    iterator = iter(DataLoader(Bad(20), batch_size=2, num_workers=1, collate_fn=COLLATOR))
    for step in range(3):
        assert wrong(next(iterator), expected([2 * step, 2 * step + 1])) == []
    with pytest.raises(LookupError if where == "dataset" else TypeError, match=r"seven|sample 1: 'chosen_labels' has"):
        next(iterator)
    for step in range(4, 10):
        assert wrong(next(iterator), expected([2 * step, 2 * step + 1])) == []
