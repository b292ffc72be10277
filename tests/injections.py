"""What is refused and when processes are killed: ``python tests/injections.py all 1`` does all that there is.

``test_injection.py`` runs a part. Each case has a fresh training process and a fresh worker; its batches have to be
right, or an error has to say what was refused; the next loop has to be right, and nothing may be left.
"""

from __future__ import annotations

import errno
import json
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import count, product
from pathlib import Path
from typing import TYPE_CHECKING

from figures import note
from injection import ADDRESS_SPACE, BATCHES, DESCRIPTORS, FILE_SIZE, LIMITS, Outcome, Step, Target, carry_out, prepare

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

# Numbers of system calls (x86_64), and the errors that they may give.
CALLS: dict[str, tuple[int, tuple[int, ...]]] = {
    "memfd_create": (319, (errno.EMFILE, errno.ENFILE, errno.ENOSYS, errno.ENOMEM, errno.EPERM)),
    "mmap": (9, (errno.ENOMEM, errno.EAGAIN)),
    "fallocate": (285, (errno.ENOSPC, errno.ENOMEM, errno.EOPNOTSUPP, errno.EINTR)),
    "ftruncate": (77, (errno.EFBIG, errno.EINVAL)),
    "madvise": (28, (errno.EINVAL, errno.ENOMEM)),
    "munmap": (11, (errno.ENOMEM,)),
    "mprotect": (10, (errno.ENOMEM,)),
    "pidfd_open": (434, (errno.ENOSYS, errno.EMFILE, errno.EPERM)),
    "openat": (257, (errno.EMFILE, errno.ENFILE, errno.ENOENT, errno.EACCES)),
    "fcntl": (72, (errno.EMFILE, errno.EPERM)),
    "dup": (32, (errno.EMFILE,)),
    "socket": (41, (errno.EMFILE, errno.ENOBUFS, errno.EAFNOSUPPORT)),
    "bind": (49, (errno.EADDRINUSE, errno.EACCES, errno.ENOSPC)),
    "listen": (50, (errno.EADDRINUSE,)),
    "accept4": (288, (errno.EMFILE, errno.ECONNABORTED)),
    "connect": (42, (errno.ECONNREFUSED, errno.EAGAIN, errno.EACCES)),
    "sendmsg": (46, (errno.EMFILE, errno.ENOBUFS)),
    "recvmsg": (47, (errno.ECONNRESET, errno.ENOMEM)),
    "clone3": (435, (errno.ENOSYS, errno.EAGAIN)),
    "clone": (56, (errno.EAGAIN,)),
    "getrandom": (318, (errno.ENOSYS, errno.EAGAIN)),
    "fstat": (5, (errno.ENOMEM,)),
    "newfstatat": (262, (errno.EACCES, errno.ENOMEM)),
    "pread64": (17, (errno.EIO,)),
}
TARGETS: tuple[Target, ...] = ("worker", "training")
FOR_EVER = 10**9


def at_each(step: Step, stride: int) -> Iterator[Step]:
    """The step at each time that it can happen. (A function of its own, as the series are gone through later.)"""
    return (replace(step, first=first) for first in count(1, stride))


def refusals(stride: int) -> Iterator[Iterator[Step]]:
    """Each of the calls refused once, at each time that it is made; and from the first time on.

    Each series is to be carried out until nothing happens any more.
    """
    for (call, errors), target, mark in product(CALLS.values(), TARGETS, (0, 3)):
        for number in errors:
            yield iter([Step(target, mark, call, number, 1, FOR_EVER)])
            yield at_each(Step(target, mark, call, number), stride)


def limits(stride: int) -> Iterator[Iterator[Step]]:
    """Limits of a process, from what is enough for nothing on."""
    for target, mark in product(TARGETS, (0, 3)):
        yield iter([Step(target, mark, ADDRESS_SPACE, 4096 << power) for power in range(0, 30, stride)])
        yield iter([Step(target, mark, DESCRIPTORS, number) for number in range(1, 16, stride)])
    yield iter([Step("worker", 0, FILE_SIZE, 1)])


def kills(stride: int, without: tuple[str, int] | None = None) -> Iterator[Iterator[Step]]:
    """Each process killed at each system call, and at each call and return of its interpreter; but those."""
    for target, mark in product(TARGETS, (0, 3)):
        if (target, mark) == without:
            continue
        yield at_each(Step(target, mark, -1), stride)
        yield at_each(Step(target, mark, None), stride * 5)


@dataclass
class Summary:
    """Figures of many steps."""

    cases: int = 0
    right: int = 0
    fallbacks: int = 0
    errors: int = 0
    worker_kills: int = 0
    training_kills: int = 0
    most_seconds: float = 0.0
    most_bytes_left: int = 0
    torchs: int = 0
    """Times that the loader waited in vain or a process ended, where torch's way comes to the same."""
    said: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)

    @property
    def kills(self) -> int:
        return self.worker_kills + self.training_kills

    def add(self, outcome: Outcome) -> None:
        self.cases += 1
        self.most_seconds = max(self.most_seconds, outcome.seconds)
        self.problems += [f"{outcome.step}: {problem}" for problem in outcome.problems]
        if outcome.step.number == 0 and outcome.happened:
            self.worker_kills += outcome.step.target == "worker"
            self.training_kills += outcome.step.target == "training"
        if outcome.report is not None:
            self.right += outcome.report.right == BATCHES
            self.fallbacks += outcome.report.fallbacks > 0
            self.errors += len(outcome.report.errors) > 0
            self.said.update(outcome.report.errors)
            if outcome.step.number == 0:
                self.most_bytes_left = max(self.most_bytes_left, outcome.report.bytes_left)


WAITS = ("error: ", "it hangs", "the training process ended")
"""What torch's own way may come to as well. (Wrong values, lost batches and what is left are never excused.)"""


def carried_out(series: Iterable[Iterator[Step]], tracer: str, until: float, *, twice: bool) -> Summary:
    """Carries series of steps out, each until nothing happens any more.

    Torch has races of its own: a worker whose parent is killed before it has begun to look after it stays. `twice` is
    for a sample that must not fail by them: what is wrong is carried out again, and told if it is wrong again.
    """
    summary = Summary()
    for steps in series:
        for step in steps:
            if time.monotonic() > until:
                return summary
            outcome = carry_out(step, tracer)
            if outcome.problems and twice:
                sys.stderr.write(f"once more, after {outcome}\n")
                outcome = carry_out(step, tracer)
            if not outcome.happened:
                break
            waits = all(problem.startswith(WAITS) for problem in outcome.problems)
            if outcome.problems and waits and step.number and torchs_own(replace(step, is_torchs=True), tracer):
                outcome.problems = []
                summary.torchs += 1
            summary.add(outcome)
            if outcome.problems:
                sys.stdout.write(f"{outcome}\n")
                sys.stdout.flush()
    return summary


@cache
def is_bad(step: Step, tracer: str) -> bool | None:
    """Whether there are problems; None: nothing happened."""
    outcome = carry_out(step, tracer)
    return bool(outcome.problems) if outcome.happened else None


def torchs_own(step: Step, tracer: str) -> bool:
    """Whether a step, or the like of it at another call, has problems where torch sends."""
    if step.call in LIMITS or step.count > 1:
        return bool(is_bad(step, tracer))
    for first in count(1):
        if (bad := is_bad(replace(step, first=first), tracer)) is not False:
            return bool(bad)
    return False


SAMPLED = ("memfd_create", "fallocate", "ftruncate", "pidfd_open", "openat", "fcntl", "socket", "bind", "getrandom")


def sample(stride: int) -> Iterator[Iterator[Step]]:
    """A part of it all, in seconds: calls refused once or for ever, and some kills."""
    for name in SAMPLED:
        call, errors = CALLS[name]
        # (were it refused sockets, or files, for ever, torch's own way would wait in vain)
        yield iter([Step("worker", 0, call, errors[0], 1, FOR_EVER if name in {"memfd_create", "pidfd_open"} else 1)])
    for name in ("openat", "pidfd_open"):
        call, errors = CALLS[name]
        yield iter([Step("training", 0, call, errors[0], 1, FOR_EVER)])
    yield iter([Step("worker", 0, ADDRESS_SPACE, 1 << 27)])
    # (A worker that has only just begun may not look after its parent yet: where this is killed then, it stays.)
    yield from kills(stride, without=("training", 0))


SERIES = {"sample": sample, "refusals": refusals, "limits": limits, "kills": kills}


def main(what: str, stride: str = "1", seconds: str = "inf") -> int:
    """Does it (as much as so many seconds take), notes the figures and tells them; 1 if something is not right."""
    prepare()
    with tempfile.TemporaryDirectory() as folder:
        tracer = str(Path(folder) / "refuse")
        source = Path(__file__).parent / "refuse.c"
        subprocess.run(["cc", "-O1", "-o", tracer, str(source)], check=True, timeout=120)
        kinds = [refusals, limits, kills] if what == "all" else [SERIES[what]]
        series = [steps for of in kinds for steps in of(int(stride))]
        random.Random(stride).shuffle(series)
        summary = carried_out(series, tracer, time.monotonic() + float(seconds), twice=what == "sample")
    if summary.cases > summary.kills:
        refused = {"cases": summary.cases - summary.kills, "fallbacks": summary.fallbacks, "torchs": summary.torchs}
        note("refusals", **refused, problems=len(summary.problems), most_seconds=summary.most_seconds)
    if summary.kills:
        killed = {"worker_kills": summary.worker_kills, "training_kills": summary.training_kills}
        note(
            "kills",
            kills=summary.kills,
            **killed,
            problems=len(summary.problems),
            most_bytes_left=summary.most_bytes_left,
        )
    sys.stdout.write(json.dumps(vars(summary)) + "\n")
    return int(bool(summary.problems))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
