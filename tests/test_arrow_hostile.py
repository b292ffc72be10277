"""Producers that say what is not true: an exception of one sentence, every record given back once, and no crash.

How long a buffer is nobody says, so that no test here lies about that.
"""

from __future__ import annotations

import ctypes
import itertools
from typing import Any

import numpy as np
import pytest

from arrow_producers import (
    Array,
    Ledger,
    Node,
    Single,
    Streamed,
    bits,
    capsule,
    metadata,
    numbers,
    pack,
    table,
)
from dpo_collate import PreferenceCollator
from dpo_collate._core import ArrowTable

COLLATOR = PreferenceCollator(pad_token_id=0, extra_keys="list", return_tensors="np")
TABLE = "the table is an Arrow table that contradicts itself: "
NULL = "it has rows, but their buffer is at NULL"
BEYOND = "it has more values than memory"
FEWER = "a child has fewer rows than it"
SIZE = "its lists have a size that is no number"
PRODUCT = "its rows have another number of values than their shape"


def said(samples: Any, exception: type[Exception]) -> str:
    """The one sentence of that exception."""
    caught: Exception | None = None
    try:
        COLLATOR(samples)
    except Exception as error:  # noqa: BLE001 - `pytest.raises` would keep the frames, and what is in them
        caught = error.with_traceback(None)
    assert type(caught) is exception, repr(caught)
    (sentence,) = caught.args
    return str(sentence)


def column(sentence: str, sample: int = 0, key: str = "chosen_labels") -> str:
    return f"sample {sample}: '{key}' is an Arrow column that contradicts itself: {sentence}"


# --- arrays that contradict themselves -----------------------------------------------------------------

OFFSETS = pack("i", [0, 3, 4])
FOUR = numbers([-100, 2, 3, 4])


def ragged(offsets: bytes | None = OFFSETS, values: Node | None = FOUR, **changes: Any) -> Node:
    return Node(b"+l", 2, (None, offsets), (values,), **changes)


def of_size(size: bytes, values: Node = FOUR, **changes: Any) -> Node:
    return Node(b"+w:" + size, 2, (None,), (values,), **changes)


WRONG_COLUMNS: dict[str, tuple[Node, str]] = {
    "offsets go backwards": (ragged(pack("i", [0, 3, 2])), column("its offsets go backwards", 1)),
    "offsets past the end": (
        ragged(pack("i", [0, 3, 5])),
        column("its offsets go past the end of the values", 1),
    ),
    "wide offsets past the end": (
        Node(b"+L", 2, (None, pack("q", [0, 2**62, 2**63 - 1])), (FOUR,)),
        column("its offsets go past the end of the values"),
    ),
    "a negative offset": (ragged(pack("i", [-1, 3, 4])), column("an offset is negative")),
    "a negative end": (ragged(pack("i", [0, -3, 4])), column("an offset is negative")),
    "no offsets": (ragged(None), column(NULL)),
    "no values": (ragged(values=Node(b"l", 4, (None, None))), column(NULL)),
    "a negative length": (
        ragged(values=numbers([-100, 2, 3, 4], array={"length": -1})),
        column("its length or offset is negative"),
    ),
    "a negative offset of the array": (ragged(offset=-1), column("its length or offset is negative")),
    "an offset and a length beyond memory": (
        ragged(values=numbers([1, 2, 3, 4], array={"offset": 2**63 - 1, "length": 2**63 - 1})),
        column(BEYOND),
    ),
    "values beyond memory": (ragged(values=numbers([1], array={"length": 2**61})), column(BEYOND)),
    "more nulls than rows": (ragged(null_count=3), column("it has more nulls than rows")),
    "fewer nulls than unknown": (ragged(null_count=-2), column("it has more nulls than rows")),
    "nulls nowhere": (ragged(null_count=1), column("it has nulls, but does not say where")),
    "a buffer too few": (
        ragged(array={"n_buffers": 1}),
        column("it has another number of buffers than its type"),
    ),
    "a buffer too many": (
        ragged(array={"n_buffers": 3}),
        column("it has another number of buffers than its type"),
    ),
    "no buffers at all": (ragged(array={"buffers": None}), column("its buffers are at NULL")),
    "a child too few": (ragged(array={"n_children": 0}), column("it has another number of children than its type")),
    "a negative number of children": (
        ragged(array={"n_children": -1}),
        column("it has another number of children than its type"),
    ),
    "children at NULL": (ragged(array={"children": None}), column("its children are at NULL")),
    "a child at NULL": (
        ragged(array={"children": (ctypes.POINTER(Array) * 1)()}),
        column("a child is at NULL"),
    ),
    "a child that was released": (
        ragged(values=numbers([-100, 2, 3, 4], array={"release": None})),
        column("an array of it was released"),
    ),
    "a list of a size without its items": (of_size(b"3"), column(FEWER)),
    "lists larger than memory": (of_size(b"9223372036854775807"), column(BEYOND)),
    "a text": (
        Node(b"+l", 2, (None, OFFSETS), (Node(b"u", 4, (None, pack("i", [0] * 5))),)),
        column("it has another number of buffers than its type"),
    ),
}


@pytest.mark.parametrize("what", WRONG_COLUMNS)
@pytest.mark.parametrize("streamed", [False, True])
def test_columns_that_contradict_themselves(what: str, streamed: bool) -> None:  # noqa: FBT001
    wrong, sentence = WRONG_COLUMNS[what]
    whole = table(chosen_labels=wrong)
    producer = Streamed(whole, [whole]) if streamed else Single(whole)
    assert said(producer, ValueError) == sentence
    assert producer.ledger.balanced()


def deep(levels: int) -> Node:
    node = numbers([1])
    for _ in range(levels):
        node = Node(b"+l", 1, (None, pack("i", [0, 1])), (node,))
    return node


WRONG_SCHEMAS: dict[str, tuple[Node, str]] = {
    "no format": (Node(None, 2, (None, bytes(16))), "it has no format"),
    "a size that is none": (of_size(b"x"), SIZE),
    "a negative size": (of_size(b"-1"), SIZE),
    "a size beyond 64 bits": (of_size(b"99999999999999999999"), SIZE),
    "a list of nothing": (Node(b"+l", 2, (None, OFFSETS)), "a list has another number of children than one"),
    "a list of two": (Node(b"+l", 2, (None, OFFSETS), (FOUR, FOUR)), "a list has another number of children than one"),
    "a negative number of children": (
        ragged(schema={"n_children": -1}),
        "it has a negative number of children",
    ),
    "children at NULL": (ragged(schema={"children": None}), "its children are at NULL"),
    "a child at NULL": (ragged(values=None), "a child is at NULL"),
    "a child that was released": (
        ragged(values=numbers([1, 2, 3, 4], schema={"release": None})),
        "a schema of it was released",
    ),
    "nested 40 times": (deep(40), "its type is nested too deep"),
    "a negative number of metadata": (ragged(metadata=metadata({}, -1)), "its metadata have a negative length"),
    "metadata of negative length": (
        ragged(metadata=metadata({}, 1) + pack("i", [-5])),
        "its metadata have a negative length",
    ),
}


@pytest.mark.parametrize("what", WRONG_SCHEMAS)
@pytest.mark.parametrize("streamed", [False, True])
def test_schemas_that_contradict_themselves(what: str, streamed: bool) -> None:  # noqa: FBT001
    wrong, sentence = WRONG_SCHEMAS[what]
    whole = table(note=wrong)
    producer = Streamed(whole, [whole]) if streamed else Single(whole)
    assert said(producer, ValueError) == TABLE + sentence
    assert producer.ledger.balanced()


def whole(**changes: Any) -> Node:
    node = table()
    for name, value in changes.items():
        setattr(node, name, value)
    return node


WRONG_TABLES: dict[str, tuple[Node, str]] = {
    "more rows than its columns": (whole(length=3), FEWER),
    "an offset behind its columns": (whole(offset=1), FEWER),
    "a negative length": (whole(array={"length": -2}), "its length or offset is negative"),
    "a null without bits": (whole(null_count=1), "it has nulls, but does not say where"),
    "a column less": (whole(array={"n_children": 3}), "it has another number of children than its type"),
    "two buffers": (whole(array={"n_buffers": 2}), "it has another number of buffers than its type"),
    "beyond memory": (whole(array={"length": 2**63 - 1, "offset": 2**63 - 1}), BEYOND),
}


@pytest.mark.parametrize("what", WRONG_TABLES)
def test_tables_that_contradict_themselves(what: str) -> None:
    wrong, sentence = WRONG_TABLES[what]
    for producer in (Single(wrong), Streamed(table(), [table(), wrong])):
        assert said(producer, ValueError) == TABLE + sentence
        assert producer.ledger.balanced()


def tensor(name: bytes, about: bytes) -> bytes:
    return metadata({b"ARROW:extension:name": name, b"ARROW:extension:metadata": about})


def variable(sizes: list[int], lengths: list[int], names: tuple[bytes, bytes] = (b"data", b"shape")) -> Node:
    offsets = pack("i", [0, *itertools.accumulate(lengths)])
    shapes = Node(b"+l", 2, (None, offsets), (numbers(sizes),), name=names[1])
    return Node(
        b"+s",
        2,
        (None,),
        (ragged(name=names[0]), shapes),
        metadata=tensor(b"ray.data.arrow_variable_shaped_tensor", b""),
    )


RAY = b"ray.data.arrow_tensor"
WRONG_TENSORS: dict[str, tuple[Node, str]] = {
    "another shape": (ragged(metadata=tensor(RAY, b"[2, 2]")), column(PRODUCT, key="pixel_values")),
    "a shape beyond memory": (
        ragged(metadata=tensor(RAY, b"[4294967296, 4294967296]")),
        column(PRODUCT, key="pixel_values"),
    ),
    "sizes of another array": (variable([3, 2], [1, 1]), column(PRODUCT, 1, "pixel_values")),
    "a negative size": (variable([-3, 1], [1, 1]), column("an array has a negative size", key="pixel_values")),
    "sizes beyond memory": (variable([2**62, 4, 1], [2, 1]), column(PRODUCT, key="pixel_values")),
    "no sizes": (
        variable([3, 1], [1, 1], (b"data", b"sizes")),
        column("an array has no list of values, or none of sizes", key="pixel_values"),
    ),
}


@pytest.mark.parametrize("what", WRONG_TENSORS)
def test_tensors_that_contradict_themselves(what: str) -> None:
    wrong, sentence = WRONG_TENSORS[what]
    producer = Single(table(pixel_values=wrong))
    assert said(producer, ValueError) == sentence
    assert producer.ledger.balanced()


def view(length: int, buffer: int = 0, begin: int = 0) -> bytes:
    return pack("i", [length, 0, buffer, begin])


def views(record: bytes, sizes: bytes | None = pack("q", [20])) -> Node:
    return Node(b"vu", 2, (None, record + view(0), b"x" * 20, sizes))


WRONG_TEXTS: dict[str, tuple[Node, str]] = {
    "no UTF-8": (Node(b"u", 2, (None, pack("i", [0, 1, 1]), b"\xff")), "its text is not UTF-8"),
    "no text": (Node(b"U", 2, (None, pack("q", [0, 1, 1]), None)), "it has text, but its buffer is at NULL"),
    "backwards": (Node(b"z", 2, (None, pack("i", [3, 1, 1]), b"abc")), "its offsets go backwards"),
    "a negative view": (views(view(-1)), "a text has a negative length"),
    "a view before its buffer": (views(view(13, 0, -1)), "a text begins before its buffer"),
    "a view of another buffer": (views(view(13, 1)), "a text is in a buffer that is not there"),
    "a view of a negative buffer": (views(view(13, -1)), "a text begins before its buffer"),
    "a view behind its buffer": (views(view(13, 0, 8)), "a text ends behind its buffer"),
    "views without lengths": (views(view(13), None), "its buffers of text have no lengths"),
}


@pytest.mark.parametrize("what", WRONG_TEXTS)
def test_texts_that_contradict_themselves(what: str) -> None:
    wrong, sentence = WRONG_TEXTS[what]
    producer = Single(table(note=wrong))
    assert said(producer, ValueError) == column(sentence, key="note")
    assert producer.ledger.balanced()


# --- records that are true, if odd -----------------------------------------------------------------------

SHIFTED = Node(
    b"+l", 2, (None, pack("i", [9, 0, 3, 4])), (numbers([7, -100, 2, 3, 4], offset=1, array={"length": 4}),), offset=1
)


@pytest.mark.parametrize(
    "odd",
    [
        ragged(null_count=-1),
        SHIFTED,
        ragged(misaligned=1, values=numbers([-100, 2, 3, 4], misaligned=3)),
        Node(
            b"+L", 2, (None, pack("q", [0, 3, 4])), (numbers([-100, 2, 3, 4], "h", b"s", misaligned=1),), misaligned=5
        ),
        # Empty lists need no values, nor a table without nulls its bits.
        Node(b"+l", 2, (bits([1, 1]), OFFSETS), (FOUR,), null_count=0),
    ],
)
def test_odd_columns_are_read(odd: Node) -> None:
    producer = Single(table(chosen_labels=odd))
    assert COLLATOR(producer)["chosen_labels"].tolist() == [[-100, 2, 3], [4, -100, -100]]
    assert producer.ledger.balanced()


def test_bits_decide_what_is_null_not_their_number() -> None:
    lied = Single(table(chosen_labels=Node(b"+l", 2, (bits([1, 0]), OFFSETS), (FOUR,), null_count=0)))
    assert said(lied, TypeError) == (
        "sample 1: 'chosen_labels' is None, expected a 1-D tensor, array or list of integers"
    )
    assert lied.ledger.balanced()


@pytest.mark.parametrize(("arrow", "code"), list(zip(b"cCsSiIlLfg", "bBhHiIqQfd", strict=True)))
@pytest.mark.parametrize("misaligned", [0, 1])
def test_numbers_at_any_address(arrow: int, code: str, misaligned: int) -> None:
    kind = bytes([arrow])
    values = numbers([1, 2, 3, 4], code, kind, misaligned=misaligned)
    more = numbers([5, 6], code, kind, misaligned=misaligned)
    producer = Single(table(pixel_values=ragged(values=values), margin=more, note=more))
    batch = COLLATOR(producer)
    assert batch["pixel_values"].tolist() == [1, 2, 3, 4]
    assert batch["pixel_values"].dtype == (np.float32 if code == "d" else np.dtype(code))
    assert (batch["margin"].tolist(), batch["note"]) == ([5, 6], [5, 6])
    assert producer.ledger.balanced()


def test_arrays_at_any_address_are_good_arrays() -> None:
    kept = ArrowTable(
        [
            Single(
                table(
                    pixel_values=ragged(
                        values=numbers([1.0, 2.0, 3.0, 4.0], "d", b"g", misaligned=1), metadata=tensor(RAY, b"[3]")
                    )
                )
            )
        ]
    )
    with pytest.raises(ValueError, match="another number of values"):
        kept.value(1, "pixel_values")
    array = kept.value(0, "pixel_values")
    assert (array.tolist(), array.flags.aligned, array.flags.writeable) == ([1, 2, 3], True, True)


# --- capsules -------------------------------------------------------------------------------------------


class Gives:
    """An object whose method gives that."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __arrow_c_array__(self, requested_schema: object = None) -> Any:
        return self.value


class GivesStream:
    def __init__(self, value: Any) -> None:
        self.value = value

    def __arrow_c_stream__(self, requested_schema: object = None) -> Any:
        return self.value


NO_TUPLE = "the table: __arrow_c_array__ gives no tuple of a schema and an array"


@pytest.mark.parametrize("given", [None, (), (1,), (1, 2, 3), [1, 2]])
def test_no_pair_of_capsules(given: Any) -> None:
    assert said(Gives(given), TypeError) == NO_TUPLE


def test_no_capsules() -> None:
    schema, array = Single(table()).__arrow_c_array__()
    expected = "the table: expected a capsule 'arrow_schema', got "
    assert said(Gives((1, array)), TypeError) == expected + "a int"
    assert said(Gives((array, schema)), ValueError) == expected + "one of another name"
    assert said(Gives((schema, None)), TypeError) == "the table: expected a capsule 'arrow_array', got a NoneType"
    assert said(GivesStream(array), ValueError) == (
        "the table: expected a capsule 'arrow_array_stream', got one of another name"
    )
    assert said([GivesStream(5)], TypeError) == "sample 0: expected a capsule 'arrow_array_stream', got a int"


@pytest.mark.parametrize("names", [(b"arrow_schema", b"arrow_schema"), (b"", b"arrow_array"), (b"dltensor", b"x")])
def test_capsules_of_other_names_are_left_alone(names: tuple[bytes, bytes]) -> None:
    producer = Single(table(), names=names)
    assert "got one of another name" in said(producer, ValueError)
    assert producer.ledger.back["array"] == 0
    assert producer.ledger.back["schema"] == (names[0] == b"arrow_schema")


def test_capsules_are_consumed_once() -> None:
    producer = Single(table())
    pair = producer.__arrow_c_array__()
    assert COLLATOR(Gives(pair))
    assert said(Gives(pair), ValueError) == "the table: its capsule 'arrow_schema' has been consumed before"
    streamed = Streamed(table(), [table()])
    stream = streamed.__arrow_c_stream__()
    assert COLLATOR(GivesStream(stream))
    assert said(GivesStream(stream), ValueError) == (
        "the table: its capsule 'arrow_array_stream' has been consumed before"
    )
    assert producer.ledger.balanced()
    assert streamed.ledger.balanced()


def test_an_array_that_was_released_takes_its_schema_back() -> None:
    ledger = Ledger()
    gone = table()
    gone.array = {"release": None}
    pair = capsule(gone.to_schema(ledger), b"arrow_schema"), capsule(gone.to_array(ledger), b"arrow_array")
    assert said(Gives(pair), ValueError) == "the table: its capsule 'arrow_array' has been consumed before"
    assert ledger.back == {"schema": 1}


def test_exceptions_of_producers_are_theirs() -> None:
    class Raises:
        def __arrow_c_stream__(self, requested_schema: object = None) -> Any:
            raise ArithmeticError("of its own")

    with pytest.raises(ArithmeticError, match=r"^of its own$"):
        COLLATOR(Raises())
