"""Hugging Face data sets of all kinds, for the tests of what is made of them."""

from __future__ import annotations

import itertools
from functools import cache
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import strategies as st

from dpo_collate import PreferenceCollator
from pairs import PAD, Pair, assert_same, full

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


datasets: Any = pytest.importorskip("datasets")
pa: Any = pytest.importorskip("pyarrow")

datasets.disable_progress_bars()

COLLATOR = PreferenceCollator(pad_token_id=PAD)
SIZE = 23
CHUNK = 5
Samples = list[dict[str, Any]]


def pair(index: int) -> Pair:
    """Rows that say of which pair they are; some are empty."""
    first = 100 * index
    return Pair(
        list(range(first, first + 1 + index % 4)),
        list(range(first + 10, first + 10 + 7 * index % 11)),
        list(range(first + 30, first + 30 + 5 * index % 9)),
    )


def sample(index: int) -> dict[str, Any]:
    return {"prompt": f"text {index}", **full(pair(index)), "margin": index / 4}


def table(rows: Samples, chunks: Iterable[int] = ()) -> Any:
    """The rows as a table of pieces of these sizes, and one of the rest."""
    whole = pa.Table.from_pylist(rows)
    begins = [0, *itertools.accumulate(chunks), len(rows)]
    return pa.concat_tables([whole.slice(begin, end - begin) for begin, end in itertools.pairwise(begins)])


@cache
def plain() -> Any:
    """A data set of several pieces, in memory."""
    return datasets.Dataset(table([sample(index) for index in range(SIZE)], [CHUNK] * (SIZE // CHUNK)))


def whole_margin(row: dict[str, Any]) -> bool:
    return row["margin"] % 1 == 0  # type: ignore[no-any-return]


def beside(data: Any) -> Any:
    return datasets.concatenate_datasets([data.select_columns(["margin"]), data.remove_columns(["margin"])], axis=1)


def one_after_the_other(*parts: Any) -> Any:
    return datasets.concatenate_datasets(list(parts))


KINDS: dict[str, Callable[[Any], Any]] = {
    "plain": lambda data: data,
    "empty": lambda data: data.select([]),
    "shuffled": lambda data: data.shuffle(seed=1),
    "shuffled twice": lambda data: data.shuffle(seed=1).shuffle(seed=2),
    "selected": lambda data: data.select([3, 3, 0, 22, 21, 4, 5, 6, 4]),
    "a range": lambda data: data.select(range(7, 18)),
    "a range of a selection": lambda data: data.shuffle(seed=1).select(range(3, 9)),
    "a shard": lambda data: data.shard(3, 1, contiguous=False),
    "filtered": lambda data: data.filter(whole_margin, keep_in_memory=True),
    "concatenated": lambda data: one_after_the_other(data, data.select(range(4)), data),
    "concatenated selections": lambda data: one_after_the_other(data.select([5, 2]), data.shuffle(seed=3)),
    "interleaved": lambda data: datasets.interleave_datasets([data.select(range(3)), data.select([9, 8, 7])]),
    "flattened": lambda data: data.shuffle(seed=4).flatten_indices(keep_in_memory=True),
    "one more column": lambda data: data.shuffle(seed=4).add_column("more", list(range(SIZE))),
    "beside another": beside,
    "renamed": lambda data: data.rename_column("prompt", "text").shuffle(seed=2),
}


@cache
def data_set(kind: str) -> Any:
    return KINDS[kind](plain())


INTEGERS = ("int16", "int32", "int64", "uint16", "uint32")
LISTS = ("list_", "large_list")


@st.composite
def some_data(draw: st.DrawFn, least: int = 1) -> tuple[Samples, Any]:
    """Split pairs, and a data set of them: of any types, pieces and order."""
    token = st.integers(0, 2**15 - 1)
    rows = [
        {f"{part}_ids": draw(st.lists(token, max_size=6)) for part in Pair._fields}
        for _ in range(draw(st.integers(least, 8)))
    ]
    types = {
        f"{part}_ids": getattr(pa, draw(st.sampled_from(LISTS)))(getattr(pa, draw(st.sampled_from(INTEGERS)))())
        for part in Pair._fields
    }
    whole = pa.Table.from_pylist(rows, pa.schema(types.items()))
    cuts = sorted(draw(st.lists(st.integers(0, len(rows)), max_size=3)))
    begins = [0, *cuts, len(rows)]
    data = datasets.Dataset(pa.concat_tables([whole.slice(a, b - a) for a, b in itertools.pairwise(begins)]))
    for change in draw(st.lists(st.sampled_from(["shuffle", "select", "range", "shard", "concatenate"]), max_size=3)):
        numbers = st.integers(0, len(data) - 1) if len(data) else st.nothing()
        if change == "shuffle" and len(data):
            order = draw(st.permutations(list(range(len(data)))))
        elif change == "select" and len(data):
            order = draw(st.lists(numbers, min_size=least, max_size=8))
        elif change == "range" and len(data):
            begin = draw(numbers)
            order = list(range(begin, draw(st.integers(begin + least, len(data)))))
        elif change == "shard" and len(data) >= 2 * least:
            order = list(range(draw(st.integers(0, 1)), len(data), 2))
        else:
            data, rows = datasets.concatenate_datasets([data, data]), rows + rows
            continue
        data, rows = data.select(order), [rows[index] for index in order]
    return rows, data


def same(batches: Iterable[Any], wanted: list[list[int]]) -> None:
    """The batches are those of these samples."""
    found = list(batches)
    assert len(found) == len(wanted)
    for batch, indices in zip(found, wanted, strict=True):
        assert_same(batch, COLLATOR([sample(index) for index in indices]))


def cut(indices: Iterable[int], size: int = 4) -> list[list[int]]:
    order = list(indices)
    return [order[begin : begin + size] for begin in range(0, len(order), size)]


def table_of(*indices: int) -> Any:
    return table([sample(index) for index in indices])
