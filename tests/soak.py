"""A soak: loaders of all kinds at once, while workers and whole training processes are killed; every batch is compared.

``make soak MINUTES=15``, or ``python tests/soak.py --seconds 30 --seed 3``. A supervisor forks training processes
(soak_trainer.py), kills some of them, and adds up what they say. One of them, the elder, lives as long as the soak: of
that one the growth is told.
"""

from __future__ import annotations

import argparse
import ctypes
import faulthandler
import json
import os
import random
import re
import select
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import torch
import torch.utils.data._utils
import torch.utils.data._utils.worker
import torch.utils.data.dataloader as loader
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from figures import note
from soak_trainer import Delivery, Trainer

SILENT_SECONDS = 90.0
"""So long a training process may say nothing."""

LEFT_SECONDS = 70.0
"""So long processes may outlive their training process: those that it forks by itself end by an alarm after 60."""


@dataclass
class Totals:
    """What all training processes have done."""

    batches: int = 0
    bytes: int = 0
    forks: int = 0
    worker_kills: int = 0
    trainer_kills: int = 0
    trainers: int = 0
    differences: int = 0
    left_by_torch: int = 0
    """Processes that wait for a lock of torch's, which another one had when it was killed: told, not judged."""
    most_growth_bytes: int = 0
    elder_bytes: list[list[int]] = field(default_factory=list)
    """The least of what the elder had, own and shared, in each tenth of its life."""
    errors: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)

    @property
    def kills(self) -> int:
        return self.worker_kills + self.trainer_kills

    def add(self, said: dict[str, Any]) -> None:
        for name in ("batches", "bytes", "forks", "worker_kills"):
            setattr(self, name, getattr(self, name) + said.get(name, 0))
        self.errors.update(said.get("errors", {}))
        for problem in said.get("differences", []):
            self.differences += 1
            self.problems.append(problem)
        self.problems += said.get("left", [])


@dataclass
class Child:
    """A training process, as the supervisor sees it."""

    process: int
    said: int
    seed: int
    until: float
    to_be_killed: bool
    elder: bool
    stacks: IO[str]
    """Where it and its workers write what they are doing, if they are ended by SIGABRT."""
    aborted: bool = False
    heard: float = field(default_factory=time.monotonic)
    text: bytes = b""
    sizes: list[list[int]] = field(default_factory=list)
    """Bytes of its memory at the end of each round: its own, and that of arenas."""

    @classmethod
    def start(cls, seed: int, seconds: float, delivery: Delivery, *, to_be_killed: bool, elder: bool) -> Child:
        stacks = tempfile.NamedTemporaryFile("w+")  # noqa: SIM115 - closed when its processes have ended
        said, say = os.pipe()
        process = os.fork()
        if process == 0:
            code = 1
            try:
                os.setpgid(0, 0)
                os.close(said)
                faulthandler.enable(stacks)
                life = seconds * (10 if to_be_killed else 1)
                Trainer(seed, say, life, delivery, to_be_killed=to_be_killed).run()
                code = 0
            except BaseException:  # noqa: BLE001 - whatever it is, it is told
                traceback.print_exc()
            finally:
                sys.stderr.flush()
                os._exit(code)
        with suppress(OSError):  # the child has done it
            os.setpgid(process, process)
        os.close(say)
        return cls(process, said, seed, time.monotonic() + seconds, to_be_killed, elder, stacks)

    def hear(self, totals: Totals) -> bool:
        """Adds what it has said; whether its end of the pipe is closed."""
        part = os.read(self.said, 1 << 16)
        self.heard = time.monotonic()
        *lines, self.text = (self.text + part).split(b"\n")
        for line in lines:
            said = json.loads(line)
            totals.add(said)
            self.sizes.append(said["size"])
        return not part

    def is_left(self) -> bool:
        """Whether some process of it is there."""
        try:
            os.killpg(self.process, 0)
        except ProcessLookupError:
            return False
        return True

    def least(self, parts: int) -> list[list[int]]:
        """The least that it had in each of so many parts of its life: what comes and goes with batches is not in it."""
        each = len(self.sizes) // parts
        parted = [self.sizes[part * each : (part + 1) * each] for part in range(parts if each else 0)]
        return [[min(sizes) for sizes in zip(*part, strict=True)] for part in parted]

    def growth(self) -> int:
        """By how much it has grown from the second third of its life to the last one."""
        thirds = self.least(3)
        return max(0, sum(thirds[2]) - sum(thirds[1])) if thirds else 0


class Supervisor:
    """Starts training processes, hears what they say, kills some of them."""

    def __init__(self, seconds: float, seed: int, at_once: int, delivery: Delivery) -> None:
        self.seconds, self.at_once, self.delivery = seconds, at_once, delivery
        self.rng = random.Random(seed)
        self.totals = Totals()
        self.alive: list[Child] = []
        self.ended: dict[int, int] = {}
        self.begun = time.monotonic()

    def run(self) -> Totals:
        """Until the time is over; then all of them come to their end."""
        ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER: workers without a parent become its children
        for module in (torch.utils.data._utils, torch.utils.data._utils.worker):
            module.MP_STATUS_CHECK_INTERVAL = 0.3  # type: ignore[attr-defined]
        # And by this the training process looks for dead workers while it waits.
        loader._MultiProcessingDataLoaderIter._try_get_data.__defaults__ = (0.3,)
        torch.set_num_threads(1)
        with Progress(
            TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), console=Console(stderr=True)
        ) as progress:
            line = progress.add_task("", total=self.seconds)
            while self.alive or self.left() > 0:
                self.step()
                totals = self.totals
                told = f"{totals.batches} batches, {totals.kills} kills, {totals.differences} differences"
                progress.update(line, completed=min(self.seconds, self.seconds - self.left()), description=told)
        self.reap()
        return self.totals

    def left(self) -> float:
        return self.seconds - (time.monotonic() - self.begun)

    def step(self) -> None:
        while len(self.alive) < self.at_once and self.left() > 0:
            elder = not self.totals.trainers
            seconds = self.left() if elder else min(self.left(), self.rng.uniform(0.5, 12))
            to_be_killed = not elder and self.rng.random() < 0.6
            seed = self.rng.randrange(2**32)
            child = Child.start(seed, seconds, self.delivery, to_be_killed=to_be_killed, elder=elder)
            self.alive.append(child)
            self.totals.trainers += 1
        ready, _, _ = select.select([child.said for child in self.alive], [], [], 0.05)
        for child in [*self.alive]:
            now = time.monotonic()
            if child.to_be_killed and now > child.until:
                os.kill(child.process, signal.SIGKILL)
                self.totals.trainer_kills += 1
                self.end(child)
            elif child.said in ready and child.hear(self.totals):
                self.end(child)
            elif now - child.heard > SILENT_SECONDS:
                self.abort(child, "has said nothing")
                self.end(child)
        self.reap()

    def reap(self) -> None:
        with suppress(ChildProcessError):
            while (found := os.waitpid(-1, os.WNOHANG))[0]:
                self.ended[found[0]] = os.waitstatus_to_exitcode(found[1])

    def end(self, child: Child) -> None:
        """Waits for it and all its workers."""
        self.alive.remove(child)
        deadline = time.monotonic() + LEFT_SECONDS
        is_silent = False
        while not is_silent or child.is_left():
            if not is_silent and select.select([child.said], [], [], 0.0)[0]:
                is_silent = child.hear(self.totals)
            self.reap()
            if time.monotonic() > deadline:
                break
            time.sleep(0.01)
        os.close(child.said)
        if child.is_left():
            self.abort(child, "has left processes")
        child.stacks.close()
        code = self.ended.get(child.process)
        if code and not child.aborted and not (child.to_be_killed and code == -signal.SIGKILL):
            self.totals.problems.append(f"the training process of seed {child.seed} ended with {code}")
        if child.elder:
            self.totals.most_growth_bytes = child.growth()
            self.totals.elder_bytes = child.least(10)

    def abort(self, child: Child, why: str) -> None:
        """Ends all processes of a training process: a problem, unless it is a lock of torch's that they wait for."""
        child.aborted, left = True, members(child.process)
        with suppress(ProcessLookupError):
            os.killpg(child.process, signal.SIGABRT)
            time.sleep(2)
            os.killpg(child.process, signal.SIGKILL)
        stacks = Path(child.stacks.name).read_text()
        if is_torchs(stacks):
            self.totals.left_by_torch += 1
        else:
            self.totals.problems.append(f"the training process of seed {child.seed} {why}: {left}\n{stacks}")


def members(group: int) -> list[str]:
    """The processes of a group: number, state, what they wait for, command."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            state, _, of, *_ = (path / "stat").read_text().rsplit(")", 1)[1].split()
            if int(of) == group:
                command = (path / "cmdline").read_text().replace("\0", " ")
                found.append(f"{path.name} {state} {(path / 'wchan').read_text()} {command}")
    return found


def is_torchs(stacks: str) -> bool:
    """Whether each of the processes was waiting in a lock that torch's processes share."""
    innermost = re.findall(r"^Current thread .*\n  File (.*)", stacks, re.MULTILINE)
    return bool(innermost) and all("multiprocessing/synchronize.py" in frame for frame in innermost)


def main() -> int:
    parser = argparse.ArgumentParser(description="Loaders of all kinds, kills, and a look at every batch.")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--delivery", choices=["auto", "torch"], default="auto", help="torch: what comes of its way")
    parser.add_argument("--at-once", type=int, default=2, help="training processes at a time")
    options = parser.parse_args()
    totals = Supervisor(options.seconds, options.seed, options.at_once, options.delivery).run()
    figures = {
        name: getattr(totals, name)
        for name in ("batches", "kills", "worker_kills", "trainer_kills", "bytes", "differences", "most_growth_bytes")
    }
    note("soak", seconds=round(options.seconds), **figures)
    print(json.dumps(vars(totals) | {"seed": options.seed}))  # noqa: T201 - what it has done
    return int(bool(totals.problems))


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    sys.exit(main())
