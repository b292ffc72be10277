"""Memory comes back: what is kept and dropped, killed workers, sizes that vary, many batches."""

from __future__ import annotations

import gc
import os
import resource
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from dpo_collate import PreferenceCollator, delivery
from loaders import kill

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [
    pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="reads /proc"),
    pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning"),
]

MIB = 2**20
COLLATOR = PreferenceCollator(pad_token_id=0, attention_mask=None)
KEPT = 4 * MIB  # free memory that an arena keeps in any case


class Sizes(Dataset[Any]):
    """Pairs with images of so many bytes (0: none), and rows of so many tokens."""

    def __init__(self, images: list[int], tokens: int = 1000) -> None:
        self.images, self.row = images, torch.arange(tokens)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> dict[str, Any]:
        keys = ("chosen_input_ids", "chosen_labels", "rejected_input_ids", "rejected_labels")
        sample: dict[str, Any] = dict.fromkeys(keys, self.row)
        if size := self.images[index]:
            sample |= {"pixel_values": torch.full((1, size), index % 100, dtype=torch.uint8), "image_flags": [1]}
        return sample


def loader(images: list[int], workers: int = 1, **options: Any) -> Any:
    return DataLoader(Sizes(images), batch_size=1, num_workers=workers, collate_fn=COLLATOR, **options)


def files(iterator: Any) -> list[int]:
    """Descriptors of the arenas of a loader's workers."""
    known = {link.stat().st_ino for link in arenas_of("self")}
    found = []
    for worker in iterator._workers:
        for link in arenas_of(worker.pid):
            try:
                descriptor = os.open(link, os.O_RDONLY)
            except FileNotFoundError:  # it was offered, and has been taken
                continue
            inode = os.fstat(descriptor).st_ino
            if inode in known:  # inherited from this process, or the second descriptor of one
                os.close(descriptor)
            else:
                known.add(inode)
                found.append(descriptor)
    return found


def arenas_of(process: int | str) -> list[Path]:
    found = []
    for link in Path(f"/proc/{process}/fd").iterdir():
        with suppress(FileNotFoundError):  # the descriptor that the folder was read with
            if "memfd:dpo_collate" in str(link.readlink()):
                found.append(link)
    return found


def real(descriptors: list[int]) -> int:
    """Bytes of memory that the files really have."""
    return sum(os.fstat(descriptor).st_blocks * 512 for descriptor in descriptors)


def close(descriptors: list[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


def settled(descriptors: list[int]) -> int:
    """The same, once the worker has nothing more to do."""
    last, size = -1, real(descriptors)
    while size != last:
        time.sleep(0.2)
        last, size = size, real(descriptors)
    return size


@pytest.fixture(autouse=True)
def before() -> delivery.Stats:
    """What other tests have left: messages that this process sent itself."""
    gc.collect()
    delivery.trim()
    return delivery.stats()


def test_twenty_large_batches_kept_and_dropped(before: delivery.Stats) -> None:
    """The mark: what is in use or on its way, two of the largest blocks and an eighth, and 4 MiB."""
    iterator = iter(loader([8 * MIB] * 60, persistent_workers=True))
    kept = [next(iterator) for _ in range(20)]
    arena = files(iterator)
    assert settled(arena) > 20 * 8 * MIB
    del kept
    gc.collect()
    on_its_way = 2 * 8 * MIB + MIB
    assert settled(arena) <= on_its_way + 2 * 9 * MIB + KEPT + MIB
    assert delivery.stats().bytes_free - before.bytes_free <= 2 * 9 * MIB + KEPT + MIB
    delivery.trim()
    assert settled(arena) <= on_its_way + MIB
    close(arena)


class Same(Dataset[Any]):
    """One sample, made beforehand: to read it costs nothing."""

    def __init__(self, size: int) -> None:
        self.sample = Sizes([size])[0]

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.sample


@pytest.mark.parametrize("workers", [0, 1])
def test_windows_cost_no_page_faults(workers: int) -> None:
    """Batches that are held and dropped together, as gradient accumulation does."""
    windows = 12
    iterator = iter(
        DataLoader(Same(4 * MIB), batch_size=1, sampler=[0] * 16 * windows, num_workers=workers, collate_fn=COLLATOR)
    )
    faults = []
    for _window in range(windows):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        held = [next(iterator) for _ in range(16)]
        for batch in held:
            batch["pixel_values"].add_(1)
        faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
        del held, batch
    assert max(faults[:2]) > 20 * max(faults[4:]), faults


@pytest.fixture
def other() -> Iterator[Any]:
    """Another loader, whose workers live through the test."""
    iterator = iter(loader([0] * 20, persistent_workers=True))
    next(iterator)
    yield iterator
    list(iterator)


def test_killed_workers_leave_nothing_once_the_last_batch_goes(other: Any) -> None:
    iterator = iter(loader([8 * MIB] * 60, 2))
    kept = [next(iterator) for _ in range(6)]
    arenas = files(iterator)
    assert len(arenas) == 2
    # Workers that are forked now have the mappings, though no lease.
    third = iter(loader([0] * 20, persistent_workers=True))
    next(third)
    kill(iterator)
    del iterator
    views = [batch["pixel_values"][0, 5:] for batch in kept]
    del kept
    gc.collect()
    assert real(arenas) >= 6 * 8 * MIB
    assert [int(view[0]) for view in views] == list(range(6))
    list(third)
    next(other)  # the third one's workers are seen to be gone
    del views, third
    gc.collect()
    next(other)
    assert real(arenas) < MIB
    close(arenas)


def test_the_last_batch_itself_gives_all_back() -> None:
    iterator = iter(loader([8 * MIB] * 60, 1))
    kept = [next(iterator) for _ in range(6)]
    arenas = files(iterator)
    kill(iterator)
    del iterator
    del kept[1:]
    gc.collect()
    assert int(kept[0]["pixel_values"][0, 0]) == 0
    kept.clear()
    assert real(arenas) < MIB
    close(arenas)


def test_a_worker_gives_back_what_is_free_when_it_ends() -> None:
    """Nobody looks for dead workers afterwards: the last batch was dropped before they ended."""
    iterator = iter(loader([8 * MIB] * 30, 2, persistent_workers=True))
    for _ in range(30):
        next(iterator)
    gc.collect()
    arenas = files(iterator)
    assert settled(arenas) > 2 * 8 * MIB
    iterator._shutdown_workers()
    del iterator
    assert real(arenas) < MIB
    close(arenas)


def test_a_label_that_is_kept_does_not_keep_the_memory_of_a_dead_worker(other: Any) -> None:
    iterator = iter(loader([8 * MIB] * 60))
    kept = [next(iterator) for _ in range(6)]
    label = kept[2]["chosen_labels"]
    arenas = files(iterator)
    kill(iterator)
    del iterator
    next(other)
    stats = delivery.stats()
    assert stats.bytes_in_use > 6 * 8 * MIB
    del kept
    gc.collect()
    assert label.tolist() == [list(range(1000))]
    assert real(arenas) < MIB
    close(arenas)


def test_an_orphan_is_found_by_the_next_message(other: Any) -> None:
    iterator = iter(loader([8 * MIB] * 60))
    next(iterator)
    gc.collect()
    arenas = files(iterator)
    assert settled(arenas) > 8 * MIB
    kill(iterator)
    del iterator
    gc.collect()
    next(other)
    assert real(arenas) < MIB
    close(arenas)


def test_a_loader_that_is_left_early_leaves_nothing(other: Any, before: delivery.Stats) -> None:
    arenas = []
    for _epoch in range(3):
        iterator = iter(loader([8 * MIB] * 60, 2))
        batch = next(iterator)
        first, *others = files(iterator)
        arenas.append(first)
        close(others)  # of a worker that nothing came from: the file would be there only because of this test
        del iterator
        gc.collect()
    del batch
    gc.collect()
    next(other)
    assert real(arenas) < MIB
    assert delivery.stats().arenas <= before.arenas + 2
    close(arenas)


def mappings() -> int:
    return Path("/proc/self/maps").read_text().count("memfd:dpo_collate")


def test_epochs_add_nothing_up(other: Any) -> None:
    counts = []
    for _epoch in range(8):
        for batch in loader([100_000] * 4, 2):
            assert batch["pixel_values"].shape == (1, 100_000)
        next(other)
        gc.collect()
        counts.append((mappings(), len(list(Path("/proc/self/fd").iterdir()))))
    maps, descriptors = zip(*counts, strict=True)
    assert max(maps[2:]) <= max(maps[:2]), counts
    assert max(descriptors[2:]) <= max(descriptors[:2]) + 2, counts


def test_small_batches_do_not_lie_in_large_blocks(before: delivery.Stats) -> None:
    kept = [batch for batch in loader([8 * MIB, 0, 0, 0] * 30) if "pixel_values" not in batch]
    assert len(kept) == 90
    assert delivery.stats().bytes_in_use - before.bytes_in_use <= 90 * 2 * 4 * 8 * 1000


def test_sizes_that_vary_a_thousandfold() -> None:
    images = [2 ** (12 + index * 7 % 12) for index in range(600)]
    iterator = iter(loader(images))
    batch = next(iterator)
    arena = files(iterator)
    for batch in iterator:
        assert real(arena) < 6 * 8 * MIB + KEPT
        assert batch["pixel_values"].shape[1] % 2**12 == 0
    close(arena)


def resident(process: int) -> int:
    return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_flat_over_many_small_batches() -> None:
    count = 20_000
    iterator = iter(DataLoader(Sizes([0] * count, 150), batch_size=1, num_workers=1, collate_fn=COLLATOR))
    processes = [os.getpid(), iterator._workers[0].pid]  # type: ignore[attr-defined]
    sizes = []
    for step, _batch in enumerate(iterator):
        if step % (count // 10) == count // 20:
            sizes.append([resident(process) for process in processes])
    for first, last in zip(sizes[1], sizes[-1], strict=True):
        assert last - first < 4 * MIB, sizes
