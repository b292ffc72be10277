"""``ArrowTable`` against plain models: rows, lengths, values; and what values of a table are to a batch."""

from __future__ import annotations

import datetime as dt
import itertools
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd  # type: ignore[import-untyped]
import polars as pl
import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from arrow_producers import Node, Single, pack
from arrow_producers import table as producer
from dpo_collate import PreferenceCollator
from dpo_collate._core import ArrowTable
from dpo_collate.layout import Column, Layout, Matrix, Media, Scalar
from dpo_collate.testing.comparing import told
from fewer import fewer

if TYPE_CHECKING:
    from collections.abc import Sequence

Cells = list[list[int] | None]
NESTED = pa.list_(pa.list_(pa.list_(pa.float32())))


def extension(name: str, about: str = "") -> dict[str, str]:
    return {"ARROW:extension:name": name, "ARROW:extension:metadata": about}


def typed(array: Any, name: str, about: str = "") -> Any:
    """A table of one column of an extension type."""
    return pa.table([array], schema=pa.schema([pa.field("a", array.type, metadata=extension(name, about))]))


def of(values: Sequence[Any], kind: Any = None) -> Any:
    return pa.table({"a": pa.array(values, kind)})


# --- rows -------------------------------------------------------------------------------------------------

cells = st.lists(st.none() | st.lists(st.integers(-(2**63), 2**63 - 1), max_size=3), max_size=5)


@given(st.lists(cells, min_size=1, max_size=4), st.data())
def test_rows_are_those_of_a_list(chunks: list[Cells], data: st.DataObject) -> None:
    kind = pa.large_list(pa.int64())
    parts = [pa.table({"a": pa.array(chunk, kind), "row": pa.array(range(len(chunk)), pa.int64())}) for chunk in chunks]
    parts = [pa.concat_tables(parts)] if data.draw(st.booleans()) else parts
    model = [cell for chunk in chunks for cell in chunk]
    table = ArrowTable(parts)
    for _ in range(data.draw(st.integers(0, 3))):
        if data.draw(st.booleans()):
            most = data.draw(st.integers(0, len(model) + 2))
            table, model = table.head(most), model[:most]
        elif model:
            rows = data.draw(st.lists(st.integers(0, len(model) - 1), max_size=6))
            table, model = table.take(rows), [model[row] for row in rows]
        else:
            table = table.take([])
        if data.draw(st.booleans()):
            table, model = ArrowTable([table, table]), model * 2
    assert len(table) == len(model)
    assert not model or table.names == ("a", "row")
    assert [table.value(row, "a") for row in range(len(model))] == model
    if None in model:
        with pytest.raises(TypeError, match=rf"^sample {model.index(None)}: 'a' is None, expected a 1-D tensor"):
            table.lengths("a")
    else:
        lengths = table.lengths("a")
        assert (lengths.dtype.name, lengths.tolist()) == ("int64", [len(cell) for cell in model if cell is not None])


def test_rows_that_are_not_there() -> None:
    table = ArrowTable([of([1, 2, 3])])
    for rows in ([3], [0, 2, 3], [2**63], [0, 2**64 - 1]):
        with pytest.raises(IndexError, match=rf"^no row {rows[-1]}: there are 3$"):
            table.take(rows)
    for row in (3, 2**64 - 1):
        with pytest.raises(IndexError, match=rf"^no row {row}: there are 3$"):
            table.value(row, "a")
    for wrong in (-1, 2**64):
        for ask in (table.head, lambda row: table.take([row]), lambda row: table.value(row, "a")):
            with pytest.raises(OverflowError):
                ask(wrong)
    with pytest.raises(IndexError, match=r"^no row 0: there are 0$"):
        ArrowTable([]).take([0])


def test_a_table_of_no_table() -> None:
    table = ArrowTable([])
    assert (len(table), table.names, table.parts(), len(table.head(3)), len(table.take([]))) == (0, (), [], 0, 0)
    with pytest.raises(KeyError, match=r"no column 'a' \(there are none\)"):
        table.lengths("a")


def test_a_table_without_rows_has_names() -> None:
    table = ArrowTable([pa.table({"a": pa.array([], pa.list_(pa.int64()))})])
    for same in (table, table.head(1), table.take([]), ArrowTable([table])):
        assert (len(same), same.names, same.lengths("a").tolist()) == (0, ("a",), [])
    with pytest.raises(KeyError, match=r"no column 'b' \(there are: 'a'\)"):
        table.lengths("b")


def test_lists_of_more_nulls_than_memory_are_refused() -> None:
    many = 1 << 40
    nulls = Node(b"+L", 2, (None, pack("q", [0, many - 1, many])), (Node(b"n", many, ()),))
    with pytest.raises(ValueError, match="a list has more items than memory, as they take none"):
        ArrowTable([Single(producer(a=nulls))]).value(0, "a")
    few = ArrowTable([pa.table({"a": [[None] * 1000]})])
    assert few.value(0, "a") == [None] * 1000


def test_rows_taken_of_rows_taken() -> None:
    table = ArrowTable([of(range(100)), of(range(100, 200))])
    taken = table.take([150, 3, 3, 199, 0]).take([4, 1, 1, 3, 0]).head(4)
    assert [taken.value(row, "a") for row in range(4)] == [0, 3, 3, 199]


def test_parts_are_told_where_columns_may_change() -> None:
    one, other = pa.table({"a": [1, 2]}), pa.table({"b": [3], "a": [4]})
    table = ArrowTable([one, pa.concat_tables([one, one]), one.slice(0, 0), other])
    assert table.parts() == [(0, ("a",)), (2, ("a",)), (6, ("b", "a"))]
    assert table.names == ("a",)
    assert table.take([6, 0, 1]).parts() == [(0, ("b", "a")), (1, ("a",))]
    assert [table.value(row, "b") for row in (5, 6)] == [None, 3]
    assert ArrowTable([pa.table({"a": [1]}).slice(1), other]).parts() == [(0, ("b", "a"))]


# --- lengths ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [pa.list_(pa.int8()), pa.large_list(pa.bool_()), pa.list_(pa.null())])
def test_lengths_come_from_offsets_alone(kind: Any) -> None:
    table = ArrowTable([of([[None], [], [None, None]], kind).slice(1), of([[None] * 5], kind)])
    assert table.lengths("a").tolist() == [0, 2, 5]


def test_lengths_of_lists_of_one_size() -> None:
    assert ArrowTable([of([[1, 2], [3, 4]], pa.list_(pa.int8(), 2))]).lengths("a").tolist() == [2, 2]


def test_lengths_are_those_of_rows_of_tokens() -> None:
    table = ArrowTable([typed(pa.array([[1, 2], [3, 4]]), "ray.data.arrow_tensor", "[2]")])
    assert table.lengths("a").tolist() == [2, 2]
    assert ArrowTable([of([[[1, 2]], [[3]]])]).lengths("a", unbatch=True).tolist() == [2, 1]
    several = r"^sample 0: 'a' has shape \[2, 1\], expected one dimension$"
    for two in (of([[[1], [2]]]), typed(pa.array([[1, 2]]), "ray.data.arrow_tensor", "[2, 1]")):
        with pytest.raises(ValueError, match=several):
            ArrowTable([two]).lengths("a")
    with pytest.raises(TypeError, match=r"^sample 0: 'a' is an Arrow column of type list of string, expected lists of"):
        ArrowTable([of([["a"]])]).lengths("a")


def test_lengths_that_are_none() -> None:
    table = ArrowTable([of([[1]]), pa.table({"b": [[1]]})])
    with pytest.raises(KeyError, match=r"no column 'a' \(there are: 'b'\)"):
        table.lengths("a")
    with pytest.raises(
        TypeError, match=r"^sample 0: 'a' is an Arrow column of type int64, expected lists of integers$"
    ):
        ArrowTable([of([1])]).lengths("a")
    with pytest.raises(KeyError, match=r"no column '' \(there are: 'a'\)"):
        ArrowTable([of([1])]).lengths("")


# --- values -----------------------------------------------------------------------------------------------

leaves: list[tuple[Any, st.SearchStrategy[Any]]] = [
    (pa.bool_(), st.booleans()),
    *((getattr(pa, f"int{bits}")(), st.integers(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)) for bits in (8, 16, 32, 64)),
    *((getattr(pa, f"uint{bits}")(), st.integers(0, 2**bits - 1)) for bits in (8, 16, 32, 64)),
    (pa.float16(), st.floats(width=16).map(np.float16)),
    (pa.float32(), st.floats(width=32)),
    (pa.float64(), st.floats()),
    *((kind, st.text(max_size=20)) for kind in (pa.string(), pa.large_string(), pa.string_view())),
    *((kind, st.binary(max_size=20)) for kind in (pa.binary(), pa.large_binary(), pa.binary_view())),
]


@st.composite
def typed_values(draw: st.DrawFn, depth: int = 3) -> tuple[Any, st.SearchStrategy[Any]]:
    """A type, and values of it."""
    kind = draw(st.sampled_from(["leaf", "list", "large", "fixed", "struct"])) if depth else "leaf"
    if kind == "leaf":
        leaf: tuple[Any, st.SearchStrategy[Any]] = draw(st.sampled_from(leaves))
        return leaf
    inner, values = draw(typed_values(depth - 1))
    values = st.none() | values
    if kind == "struct":
        other, more = draw(st.sampled_from(leaves))
        return pa.struct([("x", inner), ("", other)]), st.fixed_dictionaries({"x": values, "": more})
    if kind == "fixed":
        size = draw(st.integers(0, 3))
        return pa.list_(inner, size), st.lists(values, min_size=size, max_size=size)
    return (pa.list_ if kind == "list" else pa.large_list)(inner), st.lists(values, max_size=3)


@given(st.data())
def test_values_are_those_of_pyarrow(data: st.DataObject) -> None:
    kind, values = data.draw(typed_values())
    array = pa.array(data.draw(st.lists(st.none() | values, max_size=6)), kind)
    begin = data.draw(st.integers(0, len(array)))
    table = ArrowTable([pa.table({"a": array[begin:]})])
    found = [table.value(row, "a") for row in range(len(table))]
    assert told(found) == told(array[begin:].to_pylist())
    assert table.lengths("a").tolist() == [] if len(table) == 0 and pa.types.is_list(kind) else True


def test_every_half_is_its_float() -> None:
    halves = np.arange(2**16, dtype=np.uint16).view(np.float16)
    table = ArrowTable([pa.table({"a": pa.array(halves)})])
    with np.errstate(invalid="ignore"):
        expected = halves.astype(np.float64)
    found = np.array([table.value(row, "a") for row in range(2**16)])
    assert np.array_equal(found, expected, equal_nan=True)
    assert np.array_equal(np.signbit(found[~np.isnan(found)]), np.signbit(expected[~np.isnan(expected)]))


@pytest.mark.parametrize(
    ("array", "name"),
    [
        (pa.array([dt.datetime(2026, 1, 1)]), "timestamp"),  # noqa: DTZ001
        (pa.array([dt.date(2026, 1, 1)]), "date"),
        (pa.array([dt.time(1)]), "time"),
        (pa.array([dt.timedelta(1)]), "duration"),
        (pa.array([1], pa.decimal128(5)), "decimal"),
        (pa.array([[("a", 1)]], pa.map_(pa.string(), pa.int8())), "map"),
        (pa.array([b"ab"], pa.binary(2)), "fixed_size_binary"),
        (pa.array([[1]], pa.list_view(pa.int8())), "list_view"),
        (pa.RunEndEncodedArray.from_arrays(pa.array([1], pa.int16()), pa.array([5])), "run_end_encoded"),
        (pa.UnionArray.from_sparse(pa.array([0], pa.int8()), [pa.array([1])]), "union"),
    ],
)
def test_values_that_are_not_read(array: Any, name: str) -> None:
    table = ArrowTable([pa.table({"a": array, "b": pa.array([7])})])
    expected = "expected numbers, text, bytes, or lists or structs of them$"
    with pytest.raises(TypeError, match=rf"^sample 0: 'a' is an Arrow column of type {name}, {expected}"):
        table.value(0, "a")
    assert table.value(0, "b") == 7


@pytest.mark.parametrize("dtype", ["bool", "int8", "uint16", "int64", "float16", "float32", "float64"])
@pytest.mark.parametrize("name", ["ray.data.arrow_tensor", "ray.data.arrow_tensor_v2", "arrow.fixed_shape_tensor"])
def test_tensors_are_arrays_that_keep_no_table(dtype: str, name: str) -> None:
    expected = (np.arange(24) % 2 if dtype == "bool" else np.arange(24)).astype(dtype).reshape(2, 3, 4)
    storage = pa.FixedSizeListArray.from_arrays(pa.array(expected.reshape(-1)), 12)
    about = '{"shape": [3, 4]}' if name.startswith("arrow") else "[3, 4]"
    table = ArrowTable([typed(storage, name, about)])
    found = [table.value(row, "a") for row in range(2)]
    del table, storage
    assert [array.dtype for array in found] == [np.dtype(dtype)] * 2
    assert np.array_equal(found, expected)
    assert [(array.flags.writeable, array.flags.owndata) for array in found] == [(True, True)] * 2


def test_tensors_of_pyarrow_itself() -> None:
    arrays = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    table = ArrowTable([pa.table({"a": pa.FixedShapeTensorArray.from_numpy_ndarray(arrays)})])
    assert np.array_equal([table.value(row, "a") for row in range(2)], arrays)


@pytest.mark.parametrize("about", ['{"shape": [2, 2], "permutation": [0, 1]}', '{"permutation":[0,1],"shape":[2,2]}'])
def test_tensors_in_the_plain_order(about: str) -> None:
    table = ArrowTable([typed(pa.array([[1, 2, 3, 4]]), "arrow.fixed_shape_tensor", about)])
    assert table.value(0, "a").tolist() == [[1, 2], [3, 4]]


@pytest.mark.parametrize(
    ("name", "about"),
    [
        ("arrow.fixed_shape_tensor", '{"shape": [2, 2], "permutation": [1, 0]}'),
        ("arrow.fixed_shape_tensor", "{}"),
        ("arrow.fixed_shape_tensor", ""),
        ("ray.data.arrow_tensor", "shape"),
        ("ray.data.arrow_tensor", "[-2, 2]"),
        ("arrow.variable_shape_tensor", ""),
    ],
)
def test_tensors_that_are_not_understood(name: str, about: str) -> None:
    with pytest.raises(TypeError, match=r"^sample 0: 'a' is an Arrow column of type .*, expected lists of numbers"):
        ArrowTable([typed(pa.array([[1, 2, 3, 4]]), name, about)]).value(0, "a")


def test_lists_of_a_fixed_size_say_it_without_any() -> None:
    """(Of lists of any size nobody knows.)"""
    fixed = pa.array([[], []], pa.list_(pa.list_(pa.list_(pa.int8(), 3), 2)))
    lists = pa.array([[], []], pa.list_(pa.list_(pa.list_(pa.int8()))))
    media = (Media("fixed", ("fixed",), combine="stack"), Media("lists", ("lists",), combine="stack"))
    collator = PreferenceCollator(Layout("media", (ROWS,), media=media), pad_token_id=0)
    found = collator(pa.table({"a": [[1], [2]], "fixed": fixed, "lists": lists}))
    assert (found["fixed"].shape, found["lists"].shape) == ((2, 0, 2, 3), (2, 0, 0, 0))


def test_extension_types_of_others_are_their_storage() -> None:
    table = ArrowTable([typed(pa.array([[[1], [2]]]), "datasets.features.features.Array2DExtensionType", "[[2, 1]]")])
    assert table.value(0, "a") == [[1], [2]]


# --- what values are to a batch ---------------------------------------------------------------------------

ROWS = Matrix((("",),), (Column("row"), Column("real", dtype="float64")), tokens="{}a")


@pytest.mark.parametrize("size", [0, 1, 7, 8, 9, 127, 128, 129, 255, 256, 257, 1000])
@pytest.mark.parametrize("first", [0, 1, 7, 8, 13])
def test_bits_of_bools_at_every_place(size: int, first: int) -> None:
    bits = [at * at % 3 == 0 for at in range(first + size)]
    values = pa.array(bits).slice(first)
    rows = pa.ListArray.from_arrays([0, size // 2, size], values)
    collator = PreferenceCollator(Layout("bits", (ROWS,)), pad_token_id=9)
    found = collator(pa.table({"a": rows}).slice(1))
    assert found["row"].tolist() == [[int(bit) for bit in bits[first + size // 2 :]]]
    media = PreferenceCollator(Layout("bits", (ROWS,), media=(Media("tiles", ("tiles",)),)), pad_token_id=9)
    tiles = media(pa.table({"a": rows, "tiles": rows}))
    if size:
        assert tiles["tiles"].dtype == torch.bool
        assert tiles["tiles"].tolist() == bits[first:]


@pytest.mark.parametrize("kind", [pa.float16(), pa.float32(), pa.float64(), pa.null(), pa.bool_(), pa.uint64()])
def test_empty_rows_are_of_any_type(kind: Any) -> None:
    collator = PreferenceCollator(Layout("rows", (Matrix((("",),), (Column("row"),), tokens="{}a"),)), pad_token_id=0)
    found = collator(of([[], []], pa.list_(kind)))
    assert (found["row"].dtype, found["row"].shape) == (torch.int64, (2, 0))


@given(
    st.lists(st.none() | st.floats(width=16) | st.sampled_from([0.0, -0.0, 2.0**-24, 65504.0]), min_size=1, max_size=5)
)
@fewer(2)
def test_numbers_of_every_float(values: list[float | None]) -> None:
    layout = Layout("numbers", (ROWS,), scalars=(Scalar("n", ("n",), "float32", default=-3.5),))
    collator = PreferenceCollator(layout, pad_token_id=0)
    expected = told(collator([{"_": 0, "a": [1], "n": value} for value in values])["n"])
    for kind in (pa.float16(), pa.float32(), pa.float64()):
        halves = [None if value is None else np.float16(value) for value in values]
        numbers = pa.array(halves, kind) if kind == pa.float16() else pa.array(values, kind)
        assert told(collator(pa.table({"a": pa.array([[1]] * len(values)), "n": numbers}))["n"]) == expected


def test_media_have_the_dtype_of_their_column() -> None:
    layout = Layout("media", (ROWS,), media=(Media("tiles", ("tiles",)),))
    collator = PreferenceCollator(layout, pad_token_id=0, return_tensors="np")
    for dtype in ("bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"):
        tiles = pa.array([np.array([1, 0], dtype), None, np.array([1], dtype)])
        found = collator(pa.table({"a": [[1], [2], [3]], "tiles": tiles}))["tiles"]
        assert (found.dtype, found.tolist()) == (np.dtype(dtype), [1, 0, 1])


@given(st.lists(st.integers(0, 3), min_size=1, max_size=3), st.integers(1, 3), st.data())
@fewer(2)
def test_arrays_of_any_dimensions(counts: list[int], dimensions: int, data: st.DataObject) -> None:
    shape = [data.draw(st.integers(1, 3)) for _ in range(dimensions - 1)]
    arrays = [np.arange(count * int(np.prod(shape)), dtype=np.float32).reshape(count, *shape) for count in counts]
    kind: Any = pa.float32()
    for size in reversed(shape):
        kind = pa.list_(kind, size) if data.draw(st.booleans()) else pa.large_list(kind)
    column = pa.array([array.tolist() for array in arrays], pa.list_(kind))
    layout = Layout("media", (ROWS,), media=(Media("tiles", ("tiles",)),))
    found = PreferenceCollator(layout, pad_token_id=0)(pa.table({"a": [[1]] * len(counts), "tiles": column}))
    if any(counts):
        assert np.array_equal(found["tiles"], np.concatenate(arrays))
    else:
        assert "tiles" not in found


def test_layouts_of_several_tables_may_differ_in_types_and_order() -> None:
    collator = PreferenceCollator(Layout("rows", (ROWS,), extra="list"), pad_token_id=0)
    tables = [
        pa.table({"a": pa.array([[1, 2]], pa.list_(pa.int8())), "x": ["one"]}),
        pa.table({"x": [2.5], "a": pa.array([[2**40]], pa.large_list(pa.uint64()))}),
        pa.table({"x": pa.nulls(1), "a": pa.array([[True, False, True]])}),
    ]
    found = collator(tables)
    assert found["row"].tolist() == [[1, 2, 0], [2**40, 0, 0], [1, 0, 1]]
    assert found["x"] == ["one", 2.5, None]
    for order in itertools.permutations(range(3)):
        assert collator([tables[at] for at in order])["x"] == [found["x"][at] for at in order]


def test_categories_are_the_text_that_they_stand_for() -> None:
    texts = ["a", None, "b", "a"]
    for array in (
        pa.array(texts).dictionary_encode(),
        pa.array(texts, pa.large_string()).dictionary_encode(),
    ):
        table = ArrowTable([pa.table({"a": array})])
        assert [table.value(row, "a") for row in range(4)] == texts
    frame = pl.DataFrame({"a": texts}, schema={"a": pl.Categorical})
    assert [ArrowTable([frame]).value(row, "a") for row in range(4)] == texts
    numbers = pa.array([1.5, 2.5, 1.5]).dictionary_encode()
    assert [ArrowTable([pa.table({"a": numbers})]).value(row, "a") for row in range(3)] == [1.5, 2.5, 1.5]


def test_what_is_stacked_leaves_categories_out_as_it_does_text() -> None:
    pair = {key: [[1]] for key in ("chosen_input_ids", "chosen_labels", "rejected_input_ids", "rejected_labels")}
    rows = pa.table(pair | {"source": pa.array(["web"]).dictionary_encode(), "weight": [0.5]})
    batch = PreferenceCollator(pad_token_id=0, extra_keys="stack")(rows)
    assert "source" not in batch
    assert batch["weight"].tolist() == [0.5]


def test_sizes() -> None:
    table = ArrowTable([pa.table({"a": [[1, 2], [], None], "b": ["xyz", "", None], "c": [5, 0, None]})])
    sizes = [[table.size(row, key) for row in range(3)] for key in ("a", "b", "c", "d")]
    assert sizes == [[2, 0, None], [3, 0, None], [1, 1, None], [None] * 3]
    with pytest.raises(IndexError, match=r"^no row 3: there are 3$"):
        table.size(3, "a")


def test_lengths_of_some_rows() -> None:
    table = ArrowTable([of([[1, 2], [], [3]]), of([[4] * 5])])
    assert table.lengths("a", rows=np.array([3, 0, 3, 2])).tolist() == [5, 2, 5, 1]
    assert table.lengths("a", rows=np.array([], np.int64)).tolist() == []
    for row in (4, -1):
        with pytest.raises(IndexError, match=rf"^no row {row}: there are 4$"):
            table.lengths("a", rows=np.array([0, row]))
    nulls = ArrowTable([of([[1], None])])
    assert nulls.lengths("a", rows=np.array([0, 0])).tolist() == [1, 1]
    with pytest.raises(TypeError, match=r"^sample 2: 'a' is None"):
        nulls.lengths("a", rows=np.array([0, 0, 1]))


def test_floats_in_lists_are_float32_but_where_their_type_says_otherwise() -> None:
    layout = Layout("images", (Matrix((("a",),), (Column("a"),), tokens="{}"),), (Media("image", ("image",)),))
    collator = PreferenceCollator(layout, pad_token_id=0)
    pixels = [[[0.1, 1e300], [float("nan"), -0.0]]]
    for kind, dtype in ((pa.float64(), torch.float32), (pa.float32(), torch.float32), (pa.float16(), torch.float16)):
        image = pa.array([[[0.5, 0.25]]], pa.list_(pa.list_(kind)))
        assert collator(pa.table({"a": [[1]], "image": image}))["image"].dtype == dtype
    table = pa.table({"a": [[1]], "image": pixels})
    expected = collator(table.to_pylist())["image"]
    torch.testing.assert_close(collator(table)["image"], expected, rtol=0, atol=0, equal_nan=True)
    storage = pa.array([[0.1, 0.2]], pa.list_(pa.float64()))
    for name, about in (("ray.data.arrow_tensor", "[2, 1]"), ("somebody.else", "")):
        metadata = {"ARROW:extension:name": name, "ARROW:extension:metadata": about}
        field = pa.field("image", storage.type, metadata=metadata)
        schema = pa.schema([pa.field("a", pa.list_(pa.int64())), field])
        assert collator(pa.table([pa.array([[1]]), storage], schema=schema))["image"].dtype == torch.float64


def test_tables_of_more_rows_than_a_batch_are_refused() -> None:
    with pytest.raises(ValueError, match=r"^the table has 1048577 rows: expected those of a batch, 1048576 at most$"):
        PreferenceCollator(pad_token_id=0)(pa.table({"u": pa.nulls((1 << 20) + 1)}))
    with pytest.raises(KeyError, match=r"sample 0: no 'chosen_input_ids' \(its keys: 'u'\)"):
        PreferenceCollator(pad_token_id=0)(pa.table({"u": pa.nulls(1 << 20)}))


def test_the_index_of_a_frame_is_no_key() -> None:
    pair = {key: [[1], [2]] for key in ("chosen_input_ids", "chosen_labels", "rejected_input_ids", "rejected_labels")}
    frame = pd.DataFrame(pair).set_axis([5, 9])
    assert "__index_level_0__" in pa.table(frame).column_names
    batch = PreferenceCollator(pad_token_id=0, extra_keys="error")(frame)
    assert batch["chosen_input_ids"].tolist() == [[1], [2]]
