"""Training and worker processes that the system refuses something, or that are killed, at one exact step.

A supervisor forks training processes, each of which has a DataLoader with one worker. At its mark, the worker or the
training process (the target) lets the supervisor begin, which has refuse.c watch it. What is done: injections.py.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import resource
import select
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch.utils.data._utils
import torch.utils.data._utils.worker
from torch.utils.data import DataLoader

from bounded import ended
from dpo_collate import _messages, delivery
from loaders import COLLATOR, Pairs, expected, wrong

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

BATCHES = 6
TILE = 8
TIMEOUT = 10
"""Seconds, after which a loader that waits for ever is given up by torch."""
MOST_SECONDS = 60.0
"""So long a training process may take."""
BEGIN, END = -770001, -770002
"""Descriptors that are not there: to close them is what refuse.c looks for."""

UNSEEN_OWNER = {("training", 5), ("training", 262)}
"""Calls (fstat, newfstatat) without which it is not known when a worker ends: its arena stays mapped."""

Target = Literal["worker", "training"]

ADDRESS_SPACE, DESCRIPTORS, FILE_SIZE = -2, -3, -4
LIMITS = {ADDRESS_SPACE: resource.RLIMIT_AS, DESCRIPTORS: resource.RLIMIT_NOFILE, FILE_SIZE: resource.RLIMIT_FSIZE}


@dataclass(frozen=True)
class Step:
    """Where something is to happen."""

    target: Target
    mark: int
    """The batch, which is collated or received."""
    call: int | None = None
    """The number of a system call; -1: any. None: an event of the interpreter. One of :data:`LIMITS`: no call, but a
    limit that the target sets itself."""
    number: int = 0
    """The error, or how far the limit is from what is used. 0: the target is killed."""
    first: int = 1
    count: int = 1
    is_torchs: bool = False
    """Batches are sent as torch sends them: to see what comes of that."""


@dataclass
class Report:
    """What a training process says."""

    right: int = 0
    differences: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    bytes_left: int = 0
    fallbacks: int = 0
    received: int = 0


@dataclass
class Outcome:
    """What came of a step."""

    step: Step
    report: Report | None
    """None: the training process was killed."""
    code: int
    happened: int
    """How many calls were refused; or 1."""
    seconds: float
    problems: list[str]


# --- the target -----------------------------------------------------------------------------------


class Killer:
    """Kills this process at one of the interpreter's calls and returns, in whichever of its threads."""

    def __init__(self, first: int, count: int) -> None:
        self.first, self.seen, self.say = first, 0, count

    def __call__(self, frame: FrameType, *_: Any) -> None:
        # A worker that is killed while it looks at torch's event keeps its lock: then torch itself waits without end.
        self.seen += not frame.f_code.co_filename.endswith("multiprocessing/synchronize.py")
        if self.seen >= self.first:
            os.write(self.say, b"k")
            os.kill(os.getpid(), signal.SIGKILL)


@dataclass
class Marks:
    """The target's side: says where its steps begin and end."""

    step: Step
    ask: int
    go: int
    active: bool = True

    def begin(self, mark: int) -> None:
        if not self.active or mark != self.step.mark:
            return
        if self.step.call is None:
            killer = Killer(self.step.first, self.ask)
            threading.setprofile(killer)
            sys.setprofile(killer)
            return
        if self.step.call in LIMITS:
            os.write(self.ask, b"k")
            self.limit()
            return
        ctypes.CDLL(None).prctl(0x59616D61, -1, 0, 0, 0)  # PR_SET_PTRACER: whoever it is
        os.write(self.ask, b"%d\n" % os.getpid())
        os.read(self.go, 1)
        close(BEGIN)

    def end(self, mark: int) -> None:
        if not self.active or mark != self.step.mark + 2:
            return
        self.active = False
        if self.step.call is None:
            sys.setprofile(None)
            threading.setprofile(None)
        elif self.step.call in LIMITS:
            kind = LIMITS[self.step.call]
            resource.setrlimit(kind, (resource.getrlimit(kind)[1],) * 2)
        else:
            close(END)

    def limit(self) -> None:
        used = 0
        if self.step.call == ADDRESS_SPACE:
            used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        if self.step.call == DESCRIPTORS:
            used = max(int(path.name) for path in Path("/proc/self/fd").iterdir())
        kind = LIMITS[self.step.call or 0]
        resource.setrlimit(kind, (used + self.step.number, resource.getrlimit(kind)[1]))


def close(descriptor: int) -> None:
    with suppress(OSError):
        os.close(descriptor)


class Collate:
    """What the loader's worker calls."""

    def __init__(self, marks: Marks | None, collate: Callable[[list[Any]], Any] = COLLATOR) -> None:
        self.marks, self.calls, self.collate = marks, 0, collate

    def __call__(self, samples: list[Any]) -> Any:
        if self.marks is None:
            return self.collate(samples)
        self.marks.end(self.calls)
        self.marks.begin(self.calls)
        self.calls += 1
        return self.collate(samples), sum(delivery.stats().fallbacks.values())


# --- the training process -------------------------------------------------------------------------


def resources() -> tuple[Counter[str], int]:
    """What this process has of descriptors and mappings, and bytes of memory behind arenas of workers."""
    gc.collect()
    delivery.trim()
    found: Counter[str] = Counter()
    nbytes, inside = 0, False
    for path in Path("/proc/self/fd").iterdir():
        with suppress(OSError):
            found[f"descriptor of {path.readlink()}".split(":[")[0]] += 1
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if "memfd:dpo_collate" in line:
            found["mapping of an arena"] += 1
            inside = True
        elif "-" in line.split(" ", 1)[0]:
            inside = False
        elif line.startswith("Rss:") and inside:
            nbytes += 1024 * int(line.split()[1])
    return found, nbytes


def train(step: Step, marks: Marks) -> Report:
    """A loop, and another one after it, in which nothing is refused."""
    report = Report()
    before, _ = resources()
    collate = replace(COLLATOR, delivery="torch") if step.is_torchs else COLLATOR
    loop(report, Collate(marks if step.target == "worker" else None, collate), marks)
    again = Report()
    loop(again, Collate(None), None)
    report.differences += again.differences + [f"afterwards: {error}" for error in again.errors]
    if again.right != BATCHES:
        report.differences.append(f"{again.right} batches afterwards")
    after, report.bytes_left = resources()
    stats = delivery.stats()
    report.received = stats.batches_received
    report.left = [f"{count} {name}" for name, count in (after - before).items()]
    if stats.blocks_in_use or stats.blocks_retired:
        report.left.append(f"{stats}")
    return report


def loop(report: Report, collate: Collate, marks: Marks | None) -> None:
    own = marks if collate.marks is None else None  # the training process is the target
    options: dict[str, Any] = {"num_workers": 1, "collate_fn": collate, "timeout": TIMEOUT}
    iterator: Any = iter(DataLoader(Pairs(2 * BATCHES, TILE), batch_size=2, **options))
    for at in range(BATCHES):
        if own is not None:
            own.end(at)
            own.begin(at)
        try:  # (That a worker was killed torch raises wherever this process is just then.)
            batch = next(iterator)
            if collate.marks is not None:
                batch, report.fallbacks = batch
            look(report, at, batch)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is told
            text = str(error).strip()
            report.errors.append(f"{type(error).__name__}: {text.splitlines()[-1] if text else ''}")
            if not text.startswith("Caught "):  # else it is of one batch
                break
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    if own is not None:
        own.end(own.step.mark + 2)
    end(report, iterator)


def look(report: Report, at: int, batch: Any) -> None:
    keys = wrong(batch, expected([2 * at, 2 * at + 1], TILE))
    if keys:
        report.differences.append(f"batch {at}: {keys}")
    report.right += not keys


def end(report: Report, iterator: Any) -> None:
    workers = iterator._workers
    with suppress(Exception):
        iterator._shutdown_workers()
    for worker in workers:
        worker.join(TIMEOUT)
        if worker.is_alive():
            report.left.append("a worker that does not end")
            worker.kill()
            worker.join(TIMEOUT)


# --- the supervisor -------------------------------------------------------------------------------


def prepare() -> None:
    """Orphans become children of this process, and look for their parents often."""
    ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER
    torch.set_num_threads(1)
    assert _messages.OFFERS  # imported before workers are forked, as few calls are to be made in them
    for module in (torch.utils.data._utils, torch.utils.data._utils.worker):
        module.MP_STATUS_CHECK_INTERVAL = 0.3  # type: ignore[attr-defined]


def readable(descriptor: int, seconds: float) -> bool:
    return bool(select.select([descriptor], [], [], max(0.0, seconds))[0])


def carry_out(step: Step, tracer: str) -> Outcome:
    """One training process, and what is done to it or its worker."""
    begun = time.monotonic()
    asked, ask = os.pipe()
    go, tell = os.pipe()
    said, say = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            for end in (asked, tell, said):
                os.close(end)
            os.write(say, json.dumps(vars(train(step, Marks(step, ask, go)))).encode())
            code = 0
        except BaseException:  # noqa: BLE001 - told, where else nobody would
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)
    for end in (ask, go, say):
        os.close(end)
    deadline = begun + MOST_SECONDS
    watch, happened = None, 0
    if readable(asked, deadline - time.monotonic()) and (name := os.read(asked, 20)):
        if name == b"k":
            happened = 1
        else:
            watch = watched(name.decode().strip(), step, tracer)
            os.write(tell, b"g")
    text = heard(said, deadline)
    for end in (asked, tell, said):
        os.close(end)
    try:
        code, problems = ended(child, max(1.0, deadline - time.monotonic())), []
    except TimeoutError:
        code, problems = -signal.SIGKILL, ["it hangs"]
    if watch is not None:
        happened = refused_by(watch)
    problems += [f"process {process} is left" for process in orphans(20)]
    report = Report(**json.loads(text)) if text else None
    problems += judged(step, report, code, happened)
    return Outcome(step, report, code, happened, time.monotonic() - begun, problems)


def heard(said: int, deadline: float) -> bytes:
    text = b""
    while readable(said, deadline - time.monotonic()) and (part := os.read(said, 1 << 16)):
        text += part
    return text


NOT_PERMITTED = 4
"""What the tracer ends with where it may not trace."""


def watched(process: str, step: Step, tracer: str) -> subprocess.Popen[str]:
    numbers = (step.call, step.number, step.first, step.count)
    watch = subprocess.Popen([tracer, process, *map(str, numbers)], stdout=subprocess.PIPE, text=True)
    assert watch.stdout is not None
    if watch.stdout.readline() != "ready\n" and watch.wait(10) == NOT_PERMITTED:
        raise PermissionError("processes cannot be traced here")
    return watch  # which has refused nothing, if the process had ended by then


def refused_by(watch: subprocess.Popen[str]) -> int:
    """How many calls were refused."""
    with suppress(subprocess.TimeoutExpired):
        watch.wait(10)
    watch.kill()
    out, _ = watch.communicate()
    return int(out.split()[1]) if out else 0


def orphans(seconds: float) -> list[int]:
    """Processes that have not ended after so long; they are killed."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if not os.waitpid(-1, os.WNOHANG)[0]:
                time.sleep(0.01)
        except ChildProcessError:
            return []
    children = [int(name) for name in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()]
    for child in children:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    return children


def judged(step: Step, report: Report | None, code: int, happened: int) -> list[str]:
    """What is not as it should be."""
    if step.number == 0 and step.target == "training" and happened:
        return [] if code == -signal.SIGKILL else [f"it was to be killed: {code}"]
    if report is None:
        return [f"the training process ended with {code}"]
    found = [f"difference: {difference}" for difference in report.differences]
    if (step.target, step.call) not in UNSEEN_OWNER:
        found += [f"left: {what}" for what in report.left]
        found += [f"left: {report.bytes_left} bytes"] if report.bytes_left else []
    for error in report.errors:
        if "timed out" in error or (step.number and "exited unexpectedly" in error):
            found.append(f"error: {error}")
    lost = BATCHES - report.right
    if lost and not report.errors:
        found.append(f"{lost} batches are lost without an error")
    return found
