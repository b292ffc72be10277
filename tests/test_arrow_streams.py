"""Streams: what their callbacks say, threads that they wait for, signals; and records changed at random."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from arrow_producers import ALIVE, Node, Single, Streamed, bits, lists, metadata, numbers, pack, table
from dpo_collate import PreferenceCollator
from dpo_collate._core import ArrowTable
from loaders import run, succeeds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

COLLATOR = PreferenceCollator(pad_token_id=0, extra_keys="list", return_tensors="np")


def raised(samples: Any) -> tuple[type[BaseException], str]:
    """The exception, and its one sentence."""
    caught: Exception | None = None
    try:
        COLLATOR(samples)
    except Exception as error:  # noqa: BLE001 - `pytest.raises` would keep the frames, and what is in them
        caught = error.with_traceback(None)
    assert caught is not None
    (sentence,) = caught.args
    return type(caught), str(sentence)


# --- callbacks ------------------------------------------------------------------------------------------

FAILED = "the table: reading the Arrow stream failed: "
NOTHING = FAILED + "the stream gives nothing that the interface demands"
CODES = [(22, ValueError), (12, MemoryError), (5, OSError), (-1, OSError), (9999, OSError)]


@pytest.mark.parametrize(("code", "exception"), CODES)
@pytest.mark.parametrize("sentence", [None, b"", b"the disk is on fire", b"no UTF-8: \xff"])
def test_callbacks_that_fail(code: int, exception: type[Exception], sentence: bytes | None) -> None:
    said = FAILED + (sentence.decode(errors="replace") if sentence else f"error {code}")
    for producer in (
        Streamed(table(), schema_code=code, sentence=sentence),
        Streamed(table(), [code], sentence),
        Streamed(table(), [*[table()] * 300, code], sentence),
    ):
        assert raised(producer) == (exception, said)
        assert producer.ledger.balanced()


def test_streams_that_fail_are_not_asked_again() -> None:
    producer = Streamed(table(), [table(), 5, table()])
    assert raised(producer)[0] is OSError
    assert producer.taken == 2


def test_a_list_names_the_stream_that_fails() -> None:
    good, bad = Streamed(table(), [table()]), Streamed(table(), [5], b"torn")
    assert raised([good, bad]) == (OSError, "sample 1: reading the Arrow stream failed: torn")
    assert good.ledger.balanced()
    assert bad.ledger.balanced()


@pytest.mark.parametrize("missing", ["get_schema", "get_next"])
def test_streams_without_a_callback(missing: str) -> None:
    producer = Streamed(table(), [table()], changes={missing: None})
    assert raised(producer) == (ValueError, NOTHING)
    assert producer.ledger.balanced()


def test_streams_that_give_no_schema() -> None:
    producer = Streamed(Node(b"+s", schema={"release": None}))
    assert raised(producer) == (ValueError, NOTHING)
    assert producer.ledger.balanced()


def test_streams_without_a_sentence_callback() -> None:
    producer = Streamed(table(), [5], b"never read", changes={"get_last_error": None})
    assert raised(producer) == (OSError, FAILED + "error 5")


def test_streams_of_no_batch_are_empty_batches() -> None:
    producer = Streamed(table())
    assert raised(producer) == (ValueError, "the batch is empty: expected at least one sample")
    assert producer.ledger.balanced()
    table_of = ArrowTable([Streamed(table(), [replace(table(), length=0)])])
    assert (len(table_of), table_of.names[0]) == (0, "chosen_input_ids")


def test_streams_of_columns_are_no_tables() -> None:
    rows = lists([[1], [2]])
    producer = Streamed(rows, [rows])
    exception, sentence = raised(producer)
    assert exception is TypeError
    assert sentence.startswith("the table is an Arrow column of type list, expected a table: ")
    assert producer.ledger.balanced()


def test_batches_of_a_stream_follow_one_another() -> None:
    empty = replace(table(), length=0)
    producer = Streamed(table(), [empty, *[table()] * 300, empty])
    found = COLLATOR(producer)["rejected_input_ids"]
    assert found.tolist() == [[1, 4], [5, 0]] * 300
    assert producer.ledger.balanced()


def failing(error: BaseException, batches: int) -> Any:
    good = pa.table({"chosen_input_ids": [[1, 2]]})

    def generate() -> Iterator[Any]:
        yield from good.to_batches() * batches
        raise error

    return pa.RecordBatchReader.from_batches(good.schema, generate())


@pytest.mark.parametrize("batches", [0, 1, 300])
def test_readers_that_raise(batches: int) -> None:
    exception, sentence = raised(failing(ArithmeticError("of its own"), batches))
    assert issubclass(exception, OSError | ValueError)
    assert sentence.startswith(FAILED)
    assert "of its own" in sentence


# --- the GIL ---------------------------------------------------------------------------------------------


BLOCKED = """
import ctypes
import os
import threading
import time
from arrow_producers import Streamed, table
from dpo_collate._core import ArrowTable

read, write = os.pipe()
os.dup2(read, 0)


def later():
    time.sleep(0.3)
    os.write(write, bytes(1))


# It waits in C, without a word to Python, for a byte of 0: then it returns that there is no more.
waits = ctypes.cast(ctypes.CDLL(None).getchar, ctypes.c_void_p)
threading.Thread(target=later).start()
producer = Streamed(table(), changes={"get_next": waits})
print(len(ArrowTable([producer])), producer.ledger.balanced())
"""


def test_callbacks_may_wait_for_a_python_thread() -> None:
    done = run(BLOCKED, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "0 True\n", "")


FILES = """
import sys
import fsspec
import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet
from dpo_collate import PreferenceCollator

keys = ("chosen_input_ids", "chosen_labels", "rejected_input_ids", "rejected_labels")
rows = pa.table({key: [[1, 2, 3]] * 5000 for key in keys})
memory = fsspec.filesystem("memory")
for part in range(4):
    with memory.open(f"/pairs/{part}.parquet", "wb") as file:
        pa.parquet.write_table(rows, file, row_group_size=500)
data = pa.dataset.dataset("/pairs", filesystem=memory, format="parquet")
collator = PreferenceCollator(pad_token_id=0)
assert pa.cpu_count() >= 1
for _ in range(5):
    assert collator(data.scanner(batch_size=100).to_reader())["chosen_labels"].shape == (20_000, 3)
with memory.open("/pairs/0.parquet", "rb") as file:
    reader = pa.parquet.ParquetFile(file, pre_buffer=True)
    whole = pa.RecordBatchReader.from_batches(reader.schema_arrow, reader.iter_batches(batch_size=64))
    assert collator(whole)["chosen_labels"].shape == (5000, 3)
print("read")
"""


def test_files_that_python_reads_in_threads_end() -> None:
    assert succeeds(FILES) == "read\n"


# --- signals ---------------------------------------------------------------------------------------------

ENDLESS = """
import signal
import threading
import duckdb
from dpo_collate._core import ArrowTable

reader = duckdb.sql("select range as a from range(1000000000000)").to_arrow_reader(2048)
threading.Timer(0.5, signal.raise_signal, [signal.SIGINT]).start()
try:
    ArrowTable([reader])
except KeyboardInterrupt:
    print("interrupted")
"""


def test_endless_streams_can_be_interrupted() -> None:
    done = run(ENDLESS, timeout=60)
    assert (done.returncode, done.stdout) == (0, "interrupted\n"), done.stderr


# --- lengths that take no memory -------------------------------------------------------------------------

HUGE = """
import resource
import sys
from arrow_producers import ALIVE, Node, Single, Streamed
from dpo_collate import PreferenceCollator
from dpo_collate._core import ArrowTable

resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30))
keys = (b"chosen_input_ids", b"chosen_labels", b"rejected_input_ids", b"rejected_labels")
collator = PreferenceCollator(pad_token_id=0, delivery="torch")
for rows in (2**33, 2**40, 2**61, 2**62, 2**63 - 1):
    table = Node(b"+s", rows, (None,), [Node(b"n", rows, (), name=key) for key in keys])
    producer = Single(table)
    try:
        collator(producer)
    except ValueError as error:
        print(type(error).__name__, *error.args)
    assert producer.ledger.balanced()
    whole = ArrowTable([Single(table)])
    assert (whole.value(rows - 1, "chosen_labels"), len(whole)) == (None, rows)
    assert len(whole.take([rows - 1, 0])) == 2 == len(whole.head(2))
    try:
        whole.lengths("chosen_labels")
    except (MemoryError, TypeError) as error:
        print(type(error).__name__, *error.args)
try:
    collator([Single(table)] * 3)
except (MemoryError, ValueError, OverflowError) as error:
    print(type(error).__name__, *error.args)
"""


def test_huge_tables_of_nulls_are_memory_errors() -> None:
    for line in succeeds(HUGE).splitlines():
        assert line.startswith(
            ("MemoryError ", "TypeError sample 0: 'chosen_", "ValueError the table has ", "ValueError sample ")
        )


# --- records changed at random ---------------------------------------------------------------------------


def everything() -> Node:
    """A table of two rows with a column of every kind."""
    ext = {b"ARROW:extension:name": b"ray.data.arrow_tensor", b"ARROW:extension:metadata": b"[2, 1]"}
    pixels = Node(
        b"+w:2", 2, (bits([1, 0]),), (numbers([1, 2, 3, 4], "f", b"f"),), metadata=metadata(ext), null_count=1
    )
    nested = Node(b"+L", 2, (None, pack("q", [0, 1, 2])), (lists([[1, 2], [3, 4]]),))
    sizes = Node(b"+l", 2, (None, pack("i", [0, 1, 2])), (numbers([2, 2]),), name=b"shape")
    ext = {b"ARROW:extension:name": b"ray.data.arrow_variable_shaped_tensor", b"ARROW:extension:metadata": b"1"}
    variable = Node(b"+s", 2, (None,), (lists([[1, 2], [3, 4]], name=b"data"), sizes), metadata=metadata(ext))
    return table(
        pixel_values=pixels,
        image_grid_thw=nested,
        image_sizes=variable,
        margin=numbers([1.5, 2.5], "d", b"g"),
        chosen_attention_mask=Node(b"+l", 2, (None, pack("i", [0, 3, 4])), (Node(b"b", 4, (None, bits([1] * 4))),)),
        rejected_attention_mask=lists([[1, 1], [1]]),
        half=Node(b"e", 2, (None, pack("e", [1, 2]))),
        flag=Node(b"b", 2, (bits([1, 1]), bits([1, 0]))),
        text=Node(b"u", 2, (None, pack("i", [0, 1, 3]), b"abc")),
        long_text=Node(b"U", 2, (None, pack("q", [0, 1, 3]), b"abc")),
        view=Node(b"vu", 2, (None, pack("i", [20, 0, 0, 0, 2, 25185, 0, 0]), b"x" * 20, pack("q", [20]))),
        nothing=Node(b"n", 2, ()),
        struct=Node(b"+s", 2, (None,), (numbers([1, 2], name=b"a"),)),
        dictionary=Node(b"i", 2, (None, pack("i", [0, 0])), dictionary=numbers([1])),
        other=Node(b"tsu:", 2, (None, pack("q", [1, 2]))),
    )


FORMATS = [
    b"n",
    b"b",
    b"c",
    b"S",
    b"l",
    b"e",
    b"g",
    b"u",
    b"Z",
    b"vu",
    b"+l",
    b"+L",
    b"+s",
    b"+w:2",
    b"+w:0",
    b"+vl",
    b"@",
]
FORMATS_WITHOUT_TEXT = [form for form in FORMATS if form not in {b"u", b"Z", b"vu"}]
NUMBERS = st.integers(-3, 12) | st.sampled_from([-(2**63), -1, 64])


def paths(node: Node, path: tuple[int, ...] = ()) -> Iterator[tuple[int, ...]]:
    yield path
    for index, child in enumerate(node.children):
        if child is not None:
            yield from paths(child, (*path, index))


def changed(node: Node, path: tuple[int, ...], change: Any) -> Node:
    if not path:
        return change(node)  # type: ignore[no-any-return]
    children = list(node.children)
    child = children[path[0]]
    assert child is not None
    children[path[0]] = changed(child, path[1:], change)
    return replace(node, children=children)


@st.composite
def lies(draw: st.DrawFn, node: Node) -> Node:
    """The node, with one thing said of it that can be checked, and may be wrong."""
    what = draw(st.sampled_from(["array", "schema", "format", "buffer", "offsets", "child", "bits"]))
    if what == "array":
        name = draw(st.sampled_from(["length", "offset", "null_count", "n_children", "n_buffers"]))
        most = {"n_children": len(node.children), "n_buffers": len(node.buffers)}.get(name, 64)
        value = min(draw(NUMBERS), most)
        return replace(node, array={**node.array, name: value})
    if what == "schema":
        value = min(draw(NUMBERS), len(node.children))
        return replace(node, schema={**node.schema, "n_children": value})
    if what == "format":
        # Where a text ends, nobody says: offsets of another width would lead anywhere.
        formats = FORMATS if len(node.buffers) < 3 else FORMATS_WITHOUT_TEXT
        return replace(node, format=draw(st.sampled_from(formats)))
    if what == "child":
        return (
            replace(node, array={**node.array, "release": None})
            if draw(st.booleans())
            else replace(node, array={"children": None})
        )
    if not node.buffers:
        return node
    buffers = list(node.buffers)
    at = draw(st.integers(0, len(buffers) - 1))
    if what == "buffer":
        buffers[at] = None
    elif what == "bits":
        buffers[0] = bytes(draw(st.lists(st.integers(0, 255), min_size=2, max_size=2)))
    elif len(buffers) > 1 and buffers[1] is not None:
        code, size = ("q", 8) if node.format in {b"U", b"+L"} else ("i", 4)
        count = len(buffers[1]) // size
        buffers[1] = pack(code, draw(st.lists(st.integers(-2, 8), min_size=count, max_size=count)))
    return replace(node, buffers=buffers)


@given(st.data(), st.booleans())
def test_records_changed_at_random(data: st.DataObject, streamed: bool) -> None:  # noqa: FBT001
    mark = len(ALIVE)
    node = everything()
    every = list(paths(node))
    for _ in range(data.draw(st.integers(0, 3))):
        node = changed(node, data.draw(st.sampled_from(every)), lambda part: data.draw(lies(part)))
    producer = Streamed(node, [node, node]) if streamed else Single(node)
    asked(lambda: touch(ArrowTable([producer])))
    assert producer.ledger.balanced()
    del ALIVE[mark:]  # nobody looks at them any more


def asked(ask: Callable[[], Any]) -> None:
    """Asks; what is refused has one sentence."""
    arguments: tuple[Any, ...] = ("no exception",)
    try:
        ask()
    except (TypeError, ValueError, KeyError, OverflowError, MemoryError) as error:
        event(type(error).__name__)
        arguments = error.args
    (sentence,) = arguments
    assert "bug in dpo_collate" not in str(sentence)


def touch(found: ArrowTable) -> None:
    """Everything that can be asked of a table."""
    for collator in (COLLATOR, PreferenceCollator("prompt_left", pad_token_id=0, extra_keys="stack")):
        asked(partial(collator, found))  # type: ignore[arg-type]
    found.parts()
    for name in found.names:
        asked(partial(found.lengths, name))
        for row in range(min(len(found), 70)):
            asked(partial(found.value, row, name))


UNREADABLE = (b"dictionary", b"nothing", b"other")


def test_what_is_changed_at_random_is_good_before() -> None:
    node = everything()
    node.children = [child for child in node.children if child is not None and child.name not in UNREADABLE]
    batch = COLLATOR(Streamed(node, [node]))
    assert batch["pixel_values"].tolist() == [[1], [2]]
    assert batch["image_grid_thw"].tolist() == [[1, 2], [3, 4]]
    assert batch["image_sizes"].tolist() == [1, 2, 3, 4]
    assert batch["chosen_attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]
    assert (batch["half"], batch["flag"], batch["view"]) == ([1, 2], [True, False], ["x" * 20, "ab"])
    assert (batch["long_text"], batch["struct"]) == (["a", "bc"], [{"a": 1}, {"a": 2}])
