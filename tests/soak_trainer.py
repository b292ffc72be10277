"""A training process of the soak: loops over loaders of random kinds, and looks at every batch."""

from __future__ import annotations

import gc
import json
import os
import random
import signal
import threading
import time
from collections import Counter, deque
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import torch
import torch.multiprocessing
from torch.utils.data import DataLoader, Dataset

from bounded import ended, run_in_threads
from dpo_collate import delivery
from dpo_collate.stats import PaddingMeter
from loaders import COLLATOR, Batch, Pairs, Stream, expected, wrong

Delivery = Literal["auto", "torch"]
TEXT = ("chosen_input_ids", "chosen_labels", "rejected_input_ids", "rejected_labels", "margin")


class Tables(Dataset[Any]):
    """Pairs as tables of one row each, without images."""

    def __init__(self, size: int) -> None:
        self.pairs = Pairs(size)

    def __len__(self) -> int:
        return self.pairs.size

    def __getitem__(self, index: int) -> pa.Table:
        sample = self.pairs[index]
        row = {key: sample[key] if key == "margin" else [int(value) for value in sample[key]] for key in TEXT}
        return pa.Table.from_pylist([row])


@dataclass
class Loop:
    """A loader that is gone through."""

    kind: str
    iterator: Any
    size: int
    tile: int
    meter: PaddingMeter | None
    in_order: bool
    seen: list[int] = field(default_factory=list)
    batches: int = 0
    killed: bool = False

    def wanted(self, batch: Batch) -> Batch:
        indices = [int(index) for index in batch["margin"].tolist()]
        whole = expected(indices, self.tile)
        return whole if self.kind != "tables" else {key: whole[key] for key in TEXT}


class Trainer:
    """Says once a round, as a line of JSON, what it has done and seen."""

    def __init__(self, seed: int, say: int, seconds: float, delivery: Delivery, *, to_be_killed: bool) -> None:
        self.collator = replace(COLLATOR, delivery=delivery)
        # By one that is killed no fork server is started: that and its workers would wait for each other for ever.
        # (Each worker has what keeps its server, from multiprocessing; torch's waits for its parent's end.) Nor does
        # torch's worker end which was not yet in its loop when its training process was killed.
        self.begin = partial(end_without, os.getpid()) if to_be_killed else None
        self.contexts = ["fork"] * 60 + ["spawn"] + ["forkserver"] * (not to_be_killed)
        self.seed, self.say, self.until = seed, say, time.monotonic() + seconds
        self.rng = random.Random(seed)
        self.kept: deque[tuple[Loop, Batch]] = deque()
        self.events: deque[str] = deque(maxlen=200)
        self.said: Counter[str] = Counter()
        self.errors: Counter[str] = Counter()
        self.differences: list[str] = []
        self.descriptors: set[str] = set()

    def run(self) -> None:
        self.tell()  # from here on descriptors are counted
        self.descriptors = open_files()
        while time.monotonic() < self.until:
            self.round()
            self.tell()
        self.kept.clear()
        deadline = time.monotonic() + 20  # the threads of queues are ending
        while (left := self.left()) and time.monotonic() < deadline:
            time.sleep(0.02)
        self.tell(left=[f"seed {self.seed}: {one}" for one in left])

    def left(self) -> list[str]:
        gc.collect()
        delivery.trim()
        files, stats = open_files(), delivery.stats()
        left = [f"descriptors: {files - self.descriptors}"] if len(files) > len(self.descriptors) else []
        if stats.blocks_in_use or stats.blocks_retired:
            left.append(repr(stats))
        if "memfd:dpo_collate" in Path("/proc/self/maps").read_text():
            left.append("a mapping of an arena")
        return left

    def tell(self, **more: Any) -> None:
        line = {**self.said, "errors": self.errors, "differences": self.differences, "size": sizes(), **more}
        os.write(self.say, json.dumps(line).encode() + b"\n")
        self.said, self.errors, self.differences = Counter(), Counter(), []

    def differs(self, what: str) -> None:
        """Tells what happened, and writes the events before it down."""
        self.differences.append(f"seed {self.seed}: {what}")
        folder = Path(os.environ.get("DPO_COLLATE_SOAK", "target/soak"))
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{self.seed}-{len(self.events)}.txt").write_text("\n".join([*self.events, what]))

    # --- a round: some loaders at once ---

    def round(self) -> None:
        loops = [self.loop() for _ in range(self.rng.choice([1, 1, 2, 3]))]
        while loops and time.monotonic() < self.until:
            loop = self.rng.choice(loops)
            if not self.go_on(loop):
                loops.remove(loop)
                self.end(loop)
        for loop in loops:
            loop.killed = True  # not gone through
            self.end(loop)
        while len(self.kept) > self.rng.choice([0, 0, 5]):
            self.drop()

    def loop(self) -> Loop:
        rng = self.rng
        kind = rng.choice(["pairs", "pairs", "images", "stream", "tables", "unordered"])
        workers = rng.choice([0, 1, 1, 2, 2, 3])
        size, tile = rng.randrange(1, 120), 64 if kind == "images" else 16
        data = Tables(size) if kind == "tables" else Stream(size) if kind == "stream" else Pairs(size, tile)
        meter = PaddingMeter() if rng.random() < 0.3 else None
        options: dict[str, Any] = {"collate_fn": self.collator if meter is None else meter.watch(self.collator)}
        if workers:
            options["prefetch_factor"] = rng.choice([1, 2, 2, 5])
            options["persistent_workers"] = rng.random() < 0.3
            # (one that is started anew imports everything, which takes seconds)
            options["multiprocessing_context"] = rng.choice(self.contexts)
            options["worker_init_fn"] = self.begin
        if kind == "unordered" and workers:
            options["in_order"] = False
        loader: Any = DataLoader(data, batch_size=rng.choice([1, 2, 2, 3, 8]), num_workers=workers, **options)
        self.events.append(f"{kind} of {size}, {workers} workers, {options}")
        iterator = iter(loader)
        # Else torch raises wherever a signal finds this process.
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        return Loop(kind, iterator, size, tile, meter, workers < 2 or kind not in {"unordered", "stream"})

    def go_on(self, loop: Loop) -> bool:
        """A batch, and what is done to it or its workers; whether the loop goes on."""
        workers = getattr(loop.iterator, "_workers", [])
        if workers and self.rng.random() < 0.01:
            os.kill(self.rng.choice(workers).pid, signal.SIGKILL)
            loop.killed = True
            self.said["worker_kills"] += 1
            self.events.append("a worker is killed")
        try:
            batch = next(loop.iterator)
        except StopIteration:
            return False
        except RuntimeError as error:
            self.errors[type(error).__name__ + ": " + "".join(c for c in str(error)[:60] if not c.isdigit())] += 1
            if not loop.killed:
                self.differs(f"an error of nothing: {error}")
            loop.killed = True
            return False
        loop.batches += 1
        loop.seen += [int(index) for index in batch["margin"].tolist()]
        self.said["batches"] += 1
        self.said["bytes"] += sum(value.nbytes for value in batch.values())
        self.look(loop, batch)
        self.use(loop, batch)
        return True

    def look(self, loop: Loop, batch: Batch) -> None:
        keys = wrong(batch, loop.wanted(batch))
        if keys:
            self.differs(f"{loop.kind}: {keys} of {batch['margin'].tolist()}")

    def use(self, loop: Loop, batch: Batch) -> None:
        what = self.rng.random()
        if what < 0.4:
            self.kept.append((loop, batch))
        elif what < 0.5:
            self.copy(loop, batch)
        elif what < 0.51:
            self.fork(loop, batch)
        elif what < 0.515:
            self.forward(loop, batch)
        while len(self.kept) > 12 or (self.kept and self.rng.random() < 0.3):
            self.drop()

    def drop(self) -> None:
        """One of those that are kept, whichever; it must still be what it was."""
        self.kept.rotate(self.rng.randrange(len(self.kept)))
        loop, batch = self.kept.popleft()
        self.look(loop, batch)

    def copy(self, loop: Loop, batch: Batch) -> None:
        """As the thread does that pins memory; it drops the batch."""
        copied: Batch = {}
        run_in_threads([threading.Thread(target=lambda: copied.update({k: v.clone() for k, v in batch.items()}))])
        self.look(loop, copied)

    def fork(self, loop: Loop, batch: Batch) -> None:
        self.events.append("a fork")
        self.said["forks"] += 1
        wanted = loop.wanted(batch)
        child = os.fork()
        if child == 0:
            signal.alarm(60)
            os._exit(bool(wrong(batch, wanted)))
        if ended(child):
            self.differs(f"{loop.kind}: a forked process sees something else")

    def forward(self, loop: Loop, batch: Batch) -> None:
        """To another process, by torch's way."""
        self.events.append("a batch is forwarded")
        wanted = loop.wanted(batch)
        queue: Any = torch.multiprocessing.get_context("fork").SimpleQueue()
        child = os.fork()
        if child == 0:
            code = 1
            signal.alarm(60)  # where nothing comes
            try:
                code = bool(wrong(queue.get(), wanted))
            finally:
                os._exit(code)
        queue.put(batch)
        if ended(child):
            self.differs(f"{loop.kind}: a process that it is forwarded to sees something else")
        queue.close()

    def end(self, loop: Loop) -> None:
        if not loop.killed:
            in_order = loop.seen if loop.in_order else sorted(loop.seen)
            if in_order != [*range(loop.size)]:
                self.differs(f"{loop.kind} of {loop.size}: samples {loop.seen}")
            if loop.meter is not None and loop.meter.total.batches != loop.batches:
                self.differs(f"{loop.kind}: {loop.batches} batches, counted {loop.meter.total}")
        with suppress(Exception):
            loop.iterator._shutdown_workers()
        loop.iterator = None


def end_without(parent: int, _: int) -> None:
    """Ends a worker whose training process is gone: torch's looks only for one that goes while it is in its loop."""
    if os.getppid() != parent:
        os._exit(0)


def sizes() -> list[int]:
    """Bytes of this process's memory: its own, and that of arenas."""
    lines = Path("/proc/self/status").read_text().splitlines()
    found = {line.split(":")[0]: line.split()[1] for line in lines if line.startswith("Rss")}
    return [1024 * int(found["RssAnon"]), 1024 * int(found["RssShmem"])]


def open_files() -> set[str]:
    """Descriptors but for pipes and sockets: multiprocessing keeps its own (of a forkserver, say)."""
    found = set()
    for path in Path("/proc/self/fd").iterdir():
        with suppress(OSError):
            found.add(f"{path.name} {path.readlink()}")
    return {name for name in found if "pipe:" not in name and "socket:" not in name}
