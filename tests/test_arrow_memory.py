"""Memory of tables: given back when nothing sees it any more, also after errors; no reference is gained or lost."""

from __future__ import annotations

import contextlib
import gc
import sys
import weakref
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from arrow_producers import Ledger, Single, Streamed, lists
from arrow_producers import table as node
from dpo_collate import PreferenceCollator, delivery
from dpo_collate._core import ArrowTable
from test_memory import MIB, resident

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

KEYS = ("chosen_input_ids", "chosen_labels", "rejected_input_ids", "rejected_labels")
TORCH = PreferenceCollator(pad_token_id=0)
NUMPY = PreferenceCollator(pad_token_id=0, return_tensors="np")
LISTS = PreferenceCollator(pad_token_id=0, extra_keys="list")


@pytest.fixture(scope="module", autouse=True)
def _quick_collections() -> Iterator[None]:
    """What the modules of other tests hold is not looked through a hundred times."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


def table(size: int = 40, rows: int = 2, **columns: Any) -> Any:
    return pa.table({key: [list(range(size))] * rows for key in KEYS} | columns)


def tensors(rows: int = 2, size: int = 64) -> Any:
    return pa.array(np.ones((rows, size), np.float32).tolist(), pa.list_(pa.float32()))


MEDIA: dict[str, Any] = {"pixel_values": tensors(), "image_flags": [[True] * 64] * 2}
GOOD: dict[str, tuple[PreferenceCollator, Any]] = {
    "rows": (TORCH, table()),
    "arrays": (NUMPY, table()),
    "numbers": (TORCH, table(margin=[0.5, 1.5])),
    "halves": (TORCH, table(margin=pa.array(np.ones(2, np.float16)))),
    "images": (TORCH, table(**MEDIA)),
    "image arrays": (NUMPY, table(**MEDIA)),
    "others": (LISTS, table(text=["a", "b"], nested=[[{"a": 1}], None], number=[2**40, 1])),
    "polars": (TORCH, pl.DataFrame(table().to_pydict())),
    "rows of tables": (TORCH, [table(rows=1), table(30, rows=1)]),
    "taken": (LISTS, ArrowTable([table(text=["a", "b"])]).take([1, 0])),
}
BAD: dict[str, tuple[PreferenceCollator, Any]] = {
    "no rows": (TORCH, table(rows=0)),
    "missing": (TORCH, table().drop_columns(["chosen_labels"])),
    "unknown": (TORCH, table(chosen=[1, 2])),
    "lengths": (TORCH, table(chosen_attention_mask=[[1], [2]])),
    "null": (TORCH, table(chosen_attention_mask=[[1] * 40, [None] * 40])),
    "text": (TORCH, table(margin=["a", "b"])),
    "ragged": (TORCH, table(pixel_values=[[[1.0]], [[1.0], []]])),
    "other": (LISTS, table(text=["a", "b"], when=pa.array([1, 2], pa.timestamp("s")))),
    "no table": (TORCH, table()["chosen_labels"]),
    "mixed": (TORCH, [table(), {}]),
    "limit": (PreferenceCollator(pad_token_id=0, max_batch_bytes=10), table()),
    "flags": (TORCH, table(**MEDIA | {"image_flags": [[True], [True]]})),
}
ALL = {**GOOD, **{f"bad: {name}": case for name, case in BAD.items()}}


def collate(collator: PreferenceCollator, samples: Any) -> None:
    with contextlib.suppress(LookupError, MemoryError, TypeError, ValueError, OSError):
        collator(samples)


@pytest.mark.parametrize("what", ALL)
def test_no_reference_is_gained_or_lost(what: str) -> None:
    collator, samples = ALL[what]
    collate(collator, samples)
    assert collator._form is not None
    objects: list[Any] = [
        None,
        True,
        False,
        1,
        np.dtype(np.int64),
        np.dtype(np.float32),
        np.dtype(np.float16),
        np.dtype(bool),
    ]
    objects += [
        np,
        np.ndarray,
        ArrowTable,
        str,
        dict,
        list,
        KeyError,
        TypeError,
        ValueError,
        MemoryError,
        "chosen_labels",
    ]
    objects += [samples, collator, collator._form.core, *(samples if isinstance(samples, list) else [])]
    gc.collect()
    before = [sys.getrefcount(value) for value in objects]
    for _ in range(1000):
        collate(collator, samples)
    gc.collect()
    after = [sys.getrefcount(value) for value in objects]
    assert [
        (value, now - then) for value, then, now in zip(objects, before, after, strict=True) if abs(now - then) > 500
    ] == []


def asks(table_of: ArrowTable) -> Iterator[Callable[[], Any]]:
    """Every entry point, with what it takes and with what it refuses."""
    yield lambda: len(table_of)
    yield lambda: table_of.names
    yield table_of.parts
    yield lambda: table_of.head(1)
    yield lambda: table_of.head(-1)
    yield lambda: table_of.take([1, 0, 1])
    yield lambda: table_of.take([0, 5])
    yield lambda: table_of.take(["a"])  # type: ignore[list-item]
    yield lambda: table_of.lengths("chosen_labels")
    yield lambda: table_of.lengths("text")
    yield lambda: table_of.lengths("no such column")
    for name in (*table_of.names, "no such column"):
        yield partial(table_of.value, 0, name)
        yield partial(table_of.value, 9, name)
    yield lambda: ArrowTable([table_of, table_of])
    yield lambda: ArrowTable([table_of, 5])
    yield lambda: ArrowTable([table_of, table()["chosen_labels"]])
    yield lambda: ArrowTable(5)  # type: ignore[arg-type]


MANY = {
    "text": ["a", "b"],
    "nested": [[{"a": [1, None]}], None],
    "half": pa.array(np.ones(2, np.float16)),
    "when": pa.array([1, 2], pa.timestamp("s")),
    "tensor": pa.FixedSizeListArray.from_arrays(pa.array(range(8)), 4),
    **MEDIA,
}


def test_entry_points_gain_and_lose_nothing() -> None:
    rows = table(**MANY)
    tensor = pa.field(
        "tensor",
        rows["tensor"].type,
        metadata={"ARROW:extension:name": "ray.data.arrow_tensor", "ARROW:extension:metadata": "[2, 2]"},
    )
    rows = rows.set_column(rows.column_names.index("tensor"), tensor, rows["tensor"])
    table_of = ArrowTable([rows])
    allocated = pa.total_allocated_bytes()
    for ask in asks(table_of):
        objects = [
            None,
            True,
            0,
            1,
            table_of,
            ArrowTable,
            np.ndarray,
            np.dtype(np.int64),
            np.dtype(np.float16),
            "text",
            rows,
        ]
        gc.collect()
        before = [sys.getrefcount(value) for value in objects]
        blocks = sys.getallocatedblocks()
        for _ in range(300):
            with contextlib.suppress(LookupError, TypeError, ValueError, OverflowError):
                ask()
        gc.collect()
        after = [sys.getrefcount(value) for value in objects]
        grown = [
            (value, now - then)
            for value, then, now in zip(objects, before, after, strict=True)
            if abs(now - then) > 150
        ]
        assert grown == []
        assert sys.getallocatedblocks() - blocks < 250
    assert pa.total_allocated_bytes() == allocated


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("what", ["good", "bad"])
def test_memory_does_not_grow(what: str) -> None:
    # A table takes 160 KB: one in a hundred that leaked would show.
    pixels = {"pixel_values": tensors(2, 1000), "image_flags": [[True] * 1000] * 2}
    good = [(TORCH, table(2500)), (NUMPY, table(600, **pixels)), (LISTS, table(600, text=["a" * 5000] * 2))]
    bad = [BAD["ragged"], BAD["other"], (TORCH, table(2500, margin=[1.0, None]))]
    cases = good if what == "good" else bad
    batches = [(collator, samples.to_batches()[0]) for collator, samples in cases]

    def turn(number: int) -> None:
        collator, batch = batches[number % 3]
        # A new table each time, of memory of its own.
        collate(collator, pa.Table.from_batches([batch]).take([1, 0]) if number % 2 else batch)

    for number in range(1000):
        turn(number)
    before = resident()
    allocated = pa.total_allocated_bytes()
    for number in range(10_000):
        turn(number)
    assert resident() - before < 8 * MIB
    assert pa.total_allocated_bytes() == allocated


@pytest.mark.parametrize("what", ALL)
def test_arrow_gets_its_memory_back(what: str) -> None:
    collator, samples = ALL[what]
    if isinstance(samples, ArrowTable | list | pl.DataFrame | pa.ChunkedArray):
        samples = table(**MANY)
    collate(collator, samples)
    gc.collect()
    before = pa.total_allocated_bytes()
    if samples.num_rows:
        copy = samples.take([0] * 1000)
        assert pa.total_allocated_bytes() > before
    else:
        copy = samples.slice(0)
    collate(collator, copy)
    collate(collator, [copy, copy])
    del copy
    gc.collect()
    assert pa.total_allocated_bytes() == before


@pytest.mark.parametrize("collator", [TORCH, NUMPY, LISTS], ids=["torch", "numpy", "lists"])
def test_a_batch_that_is_kept_does_not_keep_its_table(collator: PreferenceCollator) -> None:
    before = pa.total_allocated_bytes()
    rows = table(30_000, **MEDIA, text=["a", "b"]).take([1, 0])
    batch = collator(rows)
    expected = [batch[key].tolist() for key in ("chosen_labels", "pixel_values")]
    assert pa.total_allocated_bytes() > before + 30_000 * 8
    rows_are_gone = weakref.ref(rows)
    del rows
    gc.collect()
    assert rows_are_gone() is None
    assert pa.total_allocated_bytes() == before
    pa.array(range(100_000))
    assert [batch[key].tolist() for key in ("chosen_labels", "pixel_values")] == expected


def test_values_that_are_kept_keep_no_table() -> None:
    before = pa.total_allocated_bytes()
    storage = pa.FixedSizeListArray.from_arrays(pa.array(np.arange(40_000.0)), 20_000)
    field = pa.field(
        "a",
        storage.type,
        metadata={"ARROW:extension:name": "ray.data.arrow_tensor", "ARROW:extension:metadata": "[20000]"},
    )
    table_of = ArrowTable([pa.table([storage], schema=pa.schema([field]))])
    del storage
    kept = table_of.take([1]).value(0, "a")[5:]
    del table_of
    gc.collect()
    assert pa.total_allocated_bytes() == before
    assert kept.tolist() == list(range(20_005, 40_000))


def test_rows_that_are_taken_keep_their_table_and_copies_only_their_batches() -> None:
    ledgers = [Ledger() for _ in range(5)]

    def back() -> list[int]:
        return [ledger.back["array"] for ledger in ledgers]

    table_of = ArrowTable([Single(node(), ledger) for ledger in ledgers])
    taken = table_of.take([9, 4, 8])
    del table_of
    assert back() == [0] * 5
    few = ArrowTable([taken])
    del taken
    assert back() == [1, 1, 0, 1, 0]
    assert [few.value(row, "chosen_labels") for row in range(3)] == [[4], [-100, 2, 3], [-100, 2, 3]]
    rest = ArrowTable([few.take([1])])
    del few
    assert back() == [1, 1, 0, 1, 1]
    del rest
    assert all(ledger.balanced() for ledger in ledgers)


def test_an_error_in_a_list_gives_back_what_was_read() -> None:
    good, bad, after = Single(node()), Streamed(node(), [node(), 5]), Single(node())
    collate(TORCH, [good, bad, after])
    gc.collect()
    assert good.ledger.balanced()
    assert bad.ledger.balanced()
    assert not after.ledger.given


def test_every_record_is_given_back_once() -> None:
    for producer in (Single(node()), Streamed(node(), [node()] * 3), Single(node(chosen_labels=lists([[1]] * 2)))):
        for _ in range(20):
            collate(TORCH, producer)
            collate(TORCH, [producer, producer])
            table_of = ArrowTable([producer])
            several = ArrowTable([table_of, table_of.head(1), table_of.take([1, 1])])
            assert len(several) == 2 * len(table_of) + 1 + 2 - len(table_of)
            del table_of, several
        gc.collect()
        assert producer.ledger.balanced()


def test_free_memory_is_given_back() -> None:
    delivery.trim()
    before = resident()
    for _ in range(3):
        TORCH(table(500_000))
    gc.collect()
    delivery.trim()
    pa.default_memory_pool().release_unused()
    assert resident() - before < 64 * MIB
