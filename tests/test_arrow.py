"""The same batch, bit for bit, from a list of samples and from every table that says the same."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any

import duckdb
import numpy as np
import pandas as pd  # type: ignore[import-untyped]
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import event, given
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from arrow_tables import SOURCES, Rows, Singles, duck, outcome, polars, sources
from bounded import run_in_threads
from dpo_collate import PreferenceCollator, dpo_collate
from dpo_collate._core import ArrowTable
from dpo_collate.named import NAMES, named
from dpo_collate.testing import arrow_tables, layouts
from dpo_collate.testing.comparing import told
from dpo_collate.testing.drawing.arrow import tables
from dpo_collate.testing.drawing.tables import IDS, wild_layouts
from dpo_collate.trainers import openrlhf
from dpo_collate.trainers.internvl import concat_pad_data_collator
from dpo_collate.trainers.llamafactory import PairwiseDataCollatorWithPadding
from dpo_collate.trainers.open_instruct import TensorDataCollatorWithFlatteningDPO
from drop_ins import DROP_INS
from fewer import fewer


def kind_of(found: Any) -> str:
    return found.__name__ if isinstance(found, type) else "a batch"


FORMS = [
    (name, inputs, targets, images)
    for name in NAMES
    for inputs in (None, "full", "split")
    for targets in (None, "labels", "completion_mask")
    for images in (None, "per_pair", "per_row", "per_side")
    if name != "prompt_left" or (inputs != "full" and targets is None and images in {None, "per_pair"})
]


@pytest.mark.no_cover
@given(st.data(), st.sampled_from(FORMS), IDS, sources, st.sampled_from([("pt", None), ("np", 0), ("pt", 16)]))
def test_named_layouts(
    data: st.DataObject, form: Any, ids: dict[str, Any], source: str, shape: tuple[Any, int | None]
) -> None:
    (tensors, min_length), layout = shape, named(*form)
    pair = data.draw(arrow_tables(layout, **ids))
    collator = PreferenceCollator(layout, return_tensors=tensors, **ids)
    expected = outcome(collator, pair.samples, min_length=min_length)
    event(kind_of(expected))
    assert outcome(collator, SOURCES[source](pair.table), min_length=min_length) == expected


@given(st.data(), IDS, sources, st.sampled_from(["pt", "np"]), st.sampled_from([0, 0, 3, 16]))
@fewer(2)
def test_any_layout(data: st.DataObject, ids: dict[str, Any], source: str, tensors: Any, min_length: int) -> None:
    layout = data.draw(layouts(**ids))
    pair = data.draw(arrow_tables(layout, **ids))
    collator = PreferenceCollator(layout, return_tensors=tensors, **ids)
    expected = outcome(collator, pair.samples, min_length=min_length)
    event(kind_of(expected))
    assert outcome(collator, SOURCES[source](pair.table), min_length=min_length) == expected


@given(st.data(), IDS, sources)
@fewer(2)
def test_any_layout_with_wildcards(data: st.DataObject, ids: dict[str, Any], source: str) -> None:
    wild = data.draw(wild_layouts(ids))
    pair = data.draw(arrow_tables(wild, **ids))
    collator = PreferenceCollator(wild, **ids)
    expected = outcome(collator, pair.samples)
    event(kind_of(expected))
    assert outcome(collator, SOURCES[source](pair.table)) == expected


@pytest.mark.parametrize("name", DROP_INS)
@pytest.mark.no_cover
@given(data=st.data(), source=sources)
@fewer(4)
def test_every_drop_in(name: str, data: st.DataObject, source: str) -> None:
    drop_in = DROP_INS[name]
    options, plain = data.draw(drop_in.batches)
    tuples = openrlhf.PAIRS.sample if name == "openrlhf" else None
    pair = data.draw(tables(plain, (*drop_in.as_they_are, "extra"), tuples, unbatch=tuples is not None))
    collate = drop_in.ours(**options)
    expected = outcome(collate, [tuple(row.values()) for row in pair.samples] if tuples else pair.samples)
    event(kind_of(expected))
    assert outcome(collate, SOURCES[source](pair.table)) == expected


# --- other libraries --------------------------------------------------------------------------------


@pytest.mark.parametrize("library", [polars, duck])
@pytest.mark.no_cover
@given(st.data(), st.sampled_from(FORMS), IDS)
@fewer(4)
def test_tables_of_other_libraries(library: Any, data: st.DataObject, form: Any, ids: dict[str, Any]) -> None:
    layout = named(*form)
    pair = data.draw(arrow_tables(layout, common=True, **ids))
    collator = PreferenceCollator(layout, **ids)
    assert outcome(collator, library(pair.table)) == outcome(collator, pair.samples)


PAIRS: list[dict[str, Any]] = [
    {
        "chosen_input_ids": [1, 2, 3 + index],
        "chosen_labels": [-100, 2, 3 + index],
        "rejected_input_ids": [1, 4] * index,
        "rejected_labels": [-100, 4] * index,
        "margin": index / 2,
        "text": f"pair {index}",
        "flag": index % 2 == 0,
    }
    for index in range(3)
]


@pytest.mark.parametrize(
    "frame",
    [
        pd.DataFrame(PAIRS),
        pd.DataFrame(PAIRS, index=[7, 3, 5]),
        pd.DataFrame([{**PAIRS[0], "number": 1}, *PAIRS])[1:],
        pd.DataFrame(PAIRS).convert_dtypes(dtype_backend="pyarrow"),
        pl.DataFrame(PAIRS),
        pl.DataFrame(PAIRS).lazy().filter(pl.col("margin") >= 0).collect(),
        pl.concat([pl.DataFrame(PAIRS)[:1], pl.DataFrame(PAIRS)[1:]], rechunk=False),
        [pl.DataFrame(PAIRS[:1]), pa.Table.from_pylist(PAIRS[1:2]), pd.DataFrame(PAIRS[2:])],
    ],
)
def test_frames_of_python_values(frame: Any) -> None:
    collator = PreferenceCollator(pad_token_id=0, extra_keys="list")
    found = told(collator(frame))[1]
    assert [(key, value) for key, value in found if key not in {"number", "__index_level_0__"}] == told(
        collator(PAIRS)
    )[1]


def test_relations_of_duckdb_are_read_as_often_as_one_likes() -> None:
    rows = pa.Table.from_pylist(PAIRS)
    relation = duckdb.from_arrow(rows).filter("margin < 1").order("margin desc")
    collator = PreferenceCollator(pad_token_id=0)
    expected = told(collator(PAIRS[1::-1]))
    assert [told(collator(relation)) for _ in range(2)] == [expected] * 2


# --- every way of making a batch ---------------------------------------------------------------------


@pytest.mark.parametrize("delivery", ["auto", "torch"])
@pytest.mark.parametrize("tensors", ["pt", "np"])
@pytest.mark.parametrize("min_length", [None, 9])
def test_every_kind_of_memory(delivery: Any, tensors: Any, min_length: int | None) -> None:
    collator = PreferenceCollator(pad_token_id=0, delivery=delivery, return_tensors=tensors)
    found = collator(pa.Table.from_pylist(PAIRS), min_length=min_length)
    assert told(found) == told(collator(PAIRS, min_length=min_length))
    assert found["chosen_input_ids"].shape == (3, min_length or 3)


TILES = pa.array([[[1.0, 2.0]], None, [[3.0, 4.0], [5.0, 6.0]]] * 20, pa.list_(pa.list_(pa.float32(), 2)))
FLAGS = pa.array([[True], None, [True, False]] * 20, pa.list_(pa.bool_()))
WITH_IMAGES = pa.Table.from_pylist(PAIRS * 20).append_column("pixel_values", TILES).append_column("image_flags", FLAGS)


def as_samples(table: Any) -> list[dict[str, Any]]:
    kinds = {"pixel_values": np.float32, "image_flags": np.bool_}
    return [
        {
            key: np.array(value, kinds[key]) if key in kinds and value is not None else value
            for key, value in row.items()
        }
        for row in table.to_pylist()
    ]


@pytest.mark.parametrize("data", [Rows(WITH_IMAGES), Singles(WITH_IMAGES)], ids=["one table", "tables of one row"])
@pytest.mark.parametrize("start", [None, "fork", "spawn"])
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_tables_through_a_loader(data: Rows, start: str | None) -> None:
    collator = PreferenceCollator("concatenated", pad_token_id=0, extra_keys="list")
    workers = {None: 0, "fork": 2, "spawn": 1}[start]
    loader = DataLoader(data, batch_size=7, collate_fn=collator, num_workers=workers, multiprocessing_context=start)
    begins = range(0, len(data), 7)
    expected = [told(collator(as_samples(WITH_IMAGES.slice(begin, 7)))) for begin in begins]
    assert [told(batch) for batch in loader] == expected


def test_threads_share_a_table_and_a_collator() -> None:
    collator = PreferenceCollator(pad_token_id=0)
    table: Any = ArrowTable([WITH_IMAGES])
    samples = as_samples(WITH_IMAGES)
    barrier = threading.Barrier(4)
    wrong: list[Any] = []

    def work(number: int) -> None:
        rows = [(number * 7 + step) % len(samples) for step in range(5)]
        expected = told(collator([samples[row] for row in rows]))
        barrier.wait(60)
        for _ in range(50):
            wrong.extend(row for row in rows[:1] if told(collator(table.take(rows))) != expected)
            wrong.extend(row for row in rows[:1] if told(collator(WITH_IMAGES.take(rows))) != expected)

    run_in_threads(threading.Thread(target=work, args=(number,)) for number in range(4))
    assert wrong == []


class AnyAttribute(dict[str, Any]):
    """A mapping that has whatever attribute it is asked for, as ``addict.Dict`` does."""

    def __getattr__(self, name: str) -> Any:
        return AnyAttribute()


def test_mappings_are_no_tables_whatever_attributes_they_have() -> None:
    collator = PreferenceCollator(pad_token_id=0)
    assert told(collator([AnyAttribute(pair) for pair in PAIRS])) == told(collator(PAIRS))


def test_the_plain_function_takes_tables() -> None:
    assert told(dpo_collate(WITH_IMAGES)) == told(dpo_collate(as_samples(WITH_IMAGES)))


@pytest.mark.parametrize("kind", ["lists", "table"])
def test_open_instruct_looks_at_no_pair_behind_those_that_fit(kind: str) -> None:
    sides: dict[str, list[Any]] = {"chosen": [[1] * 8, [1] * 8, [1], None], "rejected": [[2], [2], [2] * 20, [2]]}
    columns: dict[str, list[Any]] = {
        f"{side}_{of}": rows for side, rows in sides.items() for of in ("input_ids", "labels")
    }
    rows = pa.table(columns | {"index": [0, 1, 2, 3]})
    given = rows if kind == "table" else rows.to_pylist()
    for most, pairs in ((11, 1), (17, 2)):
        batch = TensorDataCollatorWithFlatteningDPO(max_seq_length=most)(given)
        assert batch["index"].tolist() == list(range(pairs))
    with pytest.raises(TypeError, match=r"^sample 3: 'chosen_input_ids' is None"):
        TensorDataCollatorWithFlatteningDPO(max_seq_length=100)(given)


@pytest.mark.parametrize("key", ["images", "videos"])
def test_llamafactory_refuses_raw_media_of_tables(key: str) -> None:
    tokenizer = SimpleNamespace(pad_token_id=0, padding_side="right")
    collator = PairwiseDataCollatorWithPadding(tokenizer)
    sides = ("chosen_input_ids", "chosen_attention_mask", "chosen_labels")
    columns: dict[str, list[Any]] = {
        name: [[1], [2]] for side in sides for name in (side, side.replace("chosen", "rejected"))
    }
    assert collator(pa.table(columns | {key: [None, []]}))
    with pytest.raises(TypeError, match=f"^sample 1: '{key}' holds raw media"):
        collator(pa.table(columns | {key: [None, ["a.png"]]}))


@pytest.mark.parametrize("label", [[5], [None], None, ["five"]])
def test_labels_of_internvl_come_first_where_samples_have_others(label: Any) -> None:
    columns = {"input_ids": [[1, 2]], "labels": [[3, 4]], "pixel_values": [[[0.5]]], "image_flags": [[1]]}
    rows = pa.table(columns | ({} if label is None else {"label": label}))
    batch = concat_pad_data_collator(rows)
    assert told(batch) == told(concat_pad_data_collator(rows.to_pylist()))
    assert next(iter(batch)) == ("input_ids" if label in (None, [None]) else "labels")
