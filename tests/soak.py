"""A soak: loaders of all kinds at once, while workers and whole training processes are killed; every batch is compared.

``make soak MINUTES=15``, or ``python tests/soak.py --seconds 30 --seed 3``. A supervisor forks training processes
(soak_trainer.py), kills some of them, and adds up what they say. One of them, the elder, lives as long as the soak: of
that one the growth is told.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import random
import select
import signal
import sys
import time
import traceback
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.utils.data._utils
import torch.utils.data._utils.worker
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from figures import note
from soak_trainer import Trainer

MOST_SECONDS = 200.0
"""So long a training process may say nothing, and may its workers outlive it."""


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
    left_processes: int = 0
    most_growth_bytes: int = 0
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
    heard: float = field(default_factory=time.monotonic)
    text: bytes = b""
    sizes: list[int] = field(default_factory=list)

    @classmethod
    def start(cls, seed: int, seconds: float, *, to_be_killed: bool, elder: bool) -> Child:
        said, say = os.pipe()
        process = os.fork()
        if process == 0:
            code = 1
            try:
                os.setpgid(0, 0)
                os.close(said)
                Trainer(seed, say, seconds * (10 if to_be_killed else 1)).run()
                code = 0
            except BaseException:  # noqa: BLE001 - whatever it is, it is told
                traceback.print_exc()
            finally:
                sys.stderr.flush()
                os._exit(code)
        with suppress(OSError):  # the child has done it
            os.setpgid(process, process)
        os.close(say)
        return cls(process, said, seed, time.monotonic() + seconds, to_be_killed, elder)

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

    def growth(self) -> int:
        """By how much it has grown since the first third of its life: the least of each, as batches come and go."""
        third = len(self.sizes) // 3
        return max(0, min(self.sizes[-third:]) - min(self.sizes[third : 2 * third])) if third else 0


class Supervisor:
    def __init__(self, seconds: float, seed: int, at_once: int) -> None:
        self.seconds, self.at_once = seconds, at_once
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
            self.alive.append(Child.start(seed, seconds, to_be_killed=to_be_killed, elder=elder))
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
            elif now - child.heard > MOST_SECONDS:
                self.totals.problems.append(f"the training process of seed {child.seed} has said nothing: it hangs")
                with suppress(ProcessLookupError):
                    os.kill(child.process, signal.SIGABRT)  # (faulthandler shows where)
                    time.sleep(2)
                    os.killpg(child.process, signal.SIGKILL)
                self.end(child)
        self.reap()

    def reap(self) -> None:
        with suppress(ChildProcessError):
            while (found := os.waitpid(-1, os.WNOHANG))[0]:
                self.ended[found[0]] = os.waitstatus_to_exitcode(found[1])

    def end(self, child: Child) -> None:
        """Waits for it and all its workers."""
        self.alive.remove(child)
        while not child.hear(self.totals):
            pass
        os.close(child.said)
        deadline = time.monotonic() + MOST_SECONDS
        while child.is_left() and time.monotonic() < deadline:
            self.reap()
            time.sleep(0.01)
        if child.is_left():
            self.totals.left_processes += 1  # told, not judged: why a worker of a killed process stays is not known yet
            os.killpg(child.process, signal.SIGKILL)
        code = self.ended.get(child.process)
        if code and not (child.to_be_killed and code == -signal.SIGKILL):
            self.totals.problems.append(f"the training process of seed {child.seed} ended with {code}")
        if child.elder:
            self.totals.most_growth_bytes = child.growth()


def main() -> int:
    parser = argparse.ArgumentParser(description="Loaders of all kinds, kills, and a look at every batch.")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--at-once", type=int, default=2, help="training processes at a time")
    options = parser.parse_args()
    totals = Supervisor(options.seconds, options.seed, options.at_once).run()
    figures = {
        name: getattr(totals, name) for name in ("batches", "kills", "bytes", "differences", "most_growth_bytes")
    }
    note("soak", seconds=round(options.seconds), **figures)
    print(json.dumps(vars(totals) | {"seed": options.seed}))  # noqa: T201 - what it has done
    return int(bool(totals.problems))


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    sys.exit(main())
