"""Producers of Arrow data that say whatever a test wants: the C records, written with ctypes.

A `Node` is a type and an array of it. Every buffer has junk around it that may be read, so that a test of what can be
checked never depends on what cannot: how long a buffer is.
"""

from __future__ import annotations

import ctypes
import struct
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence


class Schema(ctypes.Structure):
    pass


class Array(ctypes.Structure):
    pass


class Stream(ctypes.Structure):
    pass


Record = TypeVar("Record", bound=ctypes.Structure)
RELEASE = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
GET = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)
LAST_ERROR = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p)

Schema._fields_ = [
    ("format", ctypes.c_char_p),
    ("name", ctypes.c_char_p),
    ("metadata", ctypes.c_void_p),
    ("flags", ctypes.c_int64),
    ("n_children", ctypes.c_int64),
    ("children", ctypes.POINTER(ctypes.POINTER(Schema))),
    ("dictionary", ctypes.POINTER(Schema)),
    ("release", ctypes.c_void_p),
    ("private_data", ctypes.c_void_p),
]
Array._fields_ = [
    ("length", ctypes.c_int64),
    ("null_count", ctypes.c_int64),
    ("offset", ctypes.c_int64),
    ("n_buffers", ctypes.c_int64),
    ("n_children", ctypes.c_int64),
    ("buffers", ctypes.POINTER(ctypes.c_void_p)),
    ("children", ctypes.POINTER(ctypes.POINTER(Array))),
    ("dictionary", ctypes.POINTER(Array)),
    ("release", ctypes.c_void_p),
    ("private_data", ctypes.c_void_p),
]
Stream._fields_ = [
    ("get_schema", ctypes.c_void_p),
    ("get_next", ctypes.c_void_p),
    ("get_last_error", ctypes.c_void_p),
    ("release", ctypes.c_void_p),
    ("private_data", ctypes.c_void_p),
]

_new = ctypes.pythonapi.PyCapsule_New
_new.restype = ctypes.py_object
_new.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]

ALIVE: list[Any] = []
"""What records lead to: all that was ever made, as nobody says when the last look at it is over."""

SLACK = 4096
"""Bytes around each buffer that may be read."""


def capsule(record: Any, name: bytes) -> Any:
    ALIVE.append((record, name))
    return _new(ctypes.addressof(record), name, None)


@dataclass
class Ledger:
    """How often each record was given back, by its kind."""

    given: Counter[str] = field(default_factory=Counter)
    back: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    def release(self, kind: str, record: type[Any]) -> int:
        """A callback that counts, and sees that it is called once and for no child."""
        self.given[kind] += 1
        done: list[bool] = []

        def give_back(address: int) -> None:
            self.back[kind] += 1
            if done or kind.startswith("child"):
                self.wrong.append(kind)
            done.append(True)
            record.from_address(address).release = None

        callback = RELEASE(give_back)
        ALIVE.append(callback)
        return ctypes.cast(callback, ctypes.c_void_p).value or 0

    def balanced(self) -> bool:
        """Every record that was handed over has been given back, once; children by their parents alone."""
        return not self.wrong and all(
            self.back[kind] == (0 if kind.startswith("child") else given) for kind, given in self.given.items()
        )


def pack(code: str, values: Iterable[Any]) -> bytes:
    """Numbers as the bytes of a buffer."""
    values = list(values)
    return struct.pack(f"<{len(values)}{code}", *values)


def bits(values: Iterable[Any]) -> bytes:
    values = list(values)
    return bytes(
        sum(bool(value) << at for at, value in enumerate(values[begin : begin + 8]))
        for begin in range(0, len(values), 8)
    )


def metadata(entries: dict[bytes, bytes], count: int | None = None) -> bytes:
    parts = [struct.pack("<i", len(entries) if count is None else count)]
    parts += [struct.pack("<i", len(part)) + part for entry in entries.items() for part in entry]
    return b"".join(parts)


@dataclass
class Node:
    """A type, and an array of it; whatever is not the truth is said by `schema` and `array`."""

    format: bytes | None
    length: int = 0
    buffers: Sequence[bytes | None] = (None,)
    children: Sequence[Node | None] = ()
    name: bytes | None = b""
    offset: int = 0
    null_count: int = 0
    metadata: bytes | None = None
    dictionary: Node | None = None
    misaligned: int = 0
    schema: dict[str, Any] = field(default_factory=dict)
    """Fields of its schema that say something else."""
    array: dict[str, Any] = field(default_factory=dict)
    """Fields of its array that do."""

    def to_schema(self, ledger: Ledger, kind: str = "schema") -> Schema:
        children = [None if child is None else child.to_schema(ledger, "child schema") for child in self.children]
        record = Schema()
        record.format, record.name, record.flags = self.format, self.name, 2
        if self.metadata is not None:
            record.metadata = _at(self.metadata, 0)
        record.n_children, record.children = len(children), _pointers(children, Schema)
        if self.dictionary is not None:
            record.dictionary = ctypes.pointer(self.dictionary.to_schema(ledger, "child schema"))
        return _finished(record, self.schema, ledger, kind)

    def to_array(self, ledger: Ledger, kind: str = "array") -> Array:
        children = [None if child is None else child.to_array(ledger, "child array") for child in self.children]
        record = Array()
        record.length, record.null_count, record.offset = self.length, self.null_count, self.offset
        record.n_buffers, record.n_children = len(self.buffers), len(children)
        addresses = [None if buffer is None else _at(buffer, self.misaligned) for buffer in self.buffers]
        record.buffers = (ctypes.c_void_p * len(addresses))(*addresses)
        record.children = _pointers(children, Array)
        if self.dictionary is not None:
            record.dictionary = ctypes.pointer(self.dictionary.to_array(ledger, "child array"))
        return _finished(record, self.array, ledger, kind)


def _finished(record: Record, changes: dict[str, Any], ledger: Ledger, kind: str) -> Record:
    record.release = ledger.release(kind, type(record))
    for name, value in changes.items():
        setattr(record, name, value)
    if not record.release:
        ledger.given[kind] -= 1
    ALIVE.append(record)
    return record


def _pointers(records: Sequence[Any], kind: type[Any]) -> Any:
    pointer = ctypes.POINTER(kind)
    return (pointer * len(records))(*(pointer() if record is None else ctypes.pointer(record) for record in records))


def _at(content: bytes, misaligned: int) -> int:
    """The address of these bytes, with room around them."""
    # Small numbers, be they read as 32 or 64 bits: offsets among them lead to nowhere else.
    junk = (b"\x01" + bytes(7)) * (SLACK // 8)
    room = ctypes.create_string_buffer(junk + bytes(len(content) + 32) + junk)
    ALIVE.append(room)
    begin = ctypes.addressof(room) + SLACK
    aligned = begin + -begin % 16
    ctypes.memmove(aligned, junk, len(junk))
    ctypes.memmove(aligned + misaligned, content, len(content))
    return aligned + misaligned


# --- arrays ------------------------------------------------------------------------------------------


def numbers(values: Sequence[Any], code: str = "q", arrow: bytes = b"l", **changes: Any) -> Node:
    return Node(arrow, len(values), (None, pack(code, values)), **changes)


def lists(rows: Sequence[Sequence[Any]], **changes: Any) -> Node:
    """Lists of int64."""
    offsets = [0]
    for row in rows:
        offsets.append(offsets[-1] + len(row))
    values = numbers([value for row in rows for value in row], name=b"item")
    return Node(b"+l", len(rows), (None, pack("i", offsets)), (values,), **changes)


ROWS: dict[bytes, list[list[int]]] = {
    b"chosen_input_ids": [[1, 2, 3], [4]],
    b"chosen_labels": [[-100, 2, 3], [4]],
    b"rejected_input_ids": [[1, 4], [5]],
    b"rejected_labels": [[-100, 4], [5]],
}


def table(**columns: Node | None) -> Node:
    """Two good pairs, with some columns changed or added; None: there is no such column."""
    nodes: dict[bytes, Node | None] = {name: lists(rows, name=name) for name, rows in ROWS.items()}
    for name, node in columns.items():
        nodes[name.encode()] = None if node is None else replace(node, name=name.encode())
    return Node(b"+s", 2, (None,), [node for node in nodes.values() if node is not None])


# --- objects -----------------------------------------------------------------------------------------


@dataclass
class Single:
    """A table by ``__arrow_c_array__``; every call makes new records."""

    node: Node
    ledger: Ledger = field(default_factory=Ledger)
    names: tuple[bytes, bytes] = (b"arrow_schema", b"arrow_array")

    def __arrow_c_array__(self, requested_schema: object = None) -> Any:
        schema, array = self.node.to_schema(self.ledger), self.node.to_array(self.ledger)
        return capsule(schema, self.names[0]), capsule(array, self.names[1])


@dataclass
class Streamed:
    """A table by ``__arrow_c_stream__``: a schema, then what `batches` gives."""

    node: Node
    batches: Iterable[Node | int] = ()
    """Arrays; or numbers that the callback returns."""
    sentence: bytes | None = None
    schema_code: int = 0
    ledger: Ledger = field(default_factory=Ledger)
    changes: dict[str, Any] = field(default_factory=dict)
    taken: int = 0
    name: bytes = b"arrow_array_stream"

    def __arrow_c_stream__(self, requested_schema: object = None) -> Any:
        batches = iter(self.batches)

        def get_schema(_stream: int, out: int) -> int:
            if self.schema_code:
                return self.schema_code
            _fill(out, self.node.to_schema(self.ledger))
            return 0

        def get_next(_stream: int, out: int) -> int:
            batch = next(batches, None)
            self.taken += 1
            if isinstance(batch, int):
                return batch
            if batch is not None:
                _fill(out, batch.to_array(self.ledger))
            return 0

        sentence = None if self.sentence is None else ctypes.create_string_buffer(self.sentence)
        record = Stream()
        callbacks: list[Callable[..., Any]] = [
            GET(get_schema),
            GET(get_next),
            LAST_ERROR(lambda _stream: None if sentence is None else ctypes.addressof(sentence)),
        ]
        ALIVE.extend([sentence, *callbacks])
        for name, callback in zip(("get_schema", "get_next", "get_last_error"), callbacks, strict=True):
            setattr(record, name, ctypes.cast(callback, ctypes.c_void_p))  # type: ignore[arg-type]
        return capsule(_finished(record, self.changes, self.ledger, "stream"), self.name)


def _fill(out: int, record: Any) -> None:
    ctypes.memmove(out, ctypes.addressof(record), ctypes.sizeof(record))
