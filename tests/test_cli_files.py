"""Opening data: every kind of file and folder, in blocks; what cannot be read is said in a line."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli_data import (
    KINDS,
    arrow_table,
    pa,
    pair,
    pairs,
    pq,
    run,
    table,
    write_arrow,
    write_lines,
    write_parquet,
    write_saved,
)
from dpo_collate.cli import blocks, files, json_lines
from dpo_collate.cli.failure import Failure
from dpo_collate.cli.files import Data, open_data

if TYPE_CHECKING:
    from pathlib import Path


def rows_of(data: Data, columns: list[str] | None = None) -> list[Any]:
    """All rows, as dicts."""
    found: list[Any] = []
    for block in data.blocks(columns):
        found += block.rows if isinstance(block.rows, list) else block.rows.to_pylist()
    return found


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of a few rows."""
    monkeypatch.setattr(files, "BLOCK_BYTES", 200)
    monkeypatch.setattr(json_lines, "TEXT_BYTES", 200)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind(kind: str, tmp_path: Path) -> None:
    rows = pairs(23)
    KINDS[kind](tmp_path / kind, rows)
    data = open_data(tmp_path / kind)
    assert data.columns == ("prompt_ids", "chosen_ids", "rejected_ids")
    assert data.rows in {23, None}
    assert data.read == 0
    assert rows_of(data) == rows
    assert data.read == data.size
    data = open_data(tmp_path / kind)
    read = [data.read for _ in data.blocks()]
    assert len(read) > 2
    assert read == sorted(read)
    assert 0 < read[-1] <= data.size
    if data.schema is not None:
        assert rows_of(data, ["chosen_ids"]) == [{"chosen_ids": row["chosen_ids"]} for row in rows]


def test_blocks_are_as_large_as_they_may_be() -> None:
    (batch,) = table(pairs(20)).to_batches()
    sizes = [len(block) for block in blocks.sliced(batch, batch.nbytes // 3)]
    assert sizes == [6, 6, 6, 2]
    assert [len(block) for block in blocks.sliced(batch, 1)] == [1] * 20
    assert [len(block) for block in blocks.sliced(batch, batch.nbytes)] == [20]


def test_a_data_set_of_hugging_face(stored: Any, tmp_path: Path) -> None:
    stored.save_to_disk(tmp_path / "saved", num_shards=3)
    data = open_data(tmp_path / "saved")
    assert rows_of(data) == stored.to_list()
    assert b"huggingface" in data.schema.metadata


@pytest.mark.parametrize("split", [None, "train", "test"])
def test_splits_of_saved_data_sets(split: str | None, tmp_path: Path) -> None:
    KINDS["splits"](tmp_path / "data", pairs(5))
    assert len(rows_of(open_data(tmp_path / "data", split))) == (2 if split == "test" else 5)


@pytest.mark.parametrize("split", [None, "train", "test"])
def test_splits_by_names_of_files(split: str | None, tmp_path: Path) -> None:
    names = {"train-00000-of-00002": 0, "train-00001-of-00002": 1, "test-00000-of-00001": 2}
    for name, index in names.items():
        write_parquet(tmp_path / f"{name}.parquet", [pair(index)])
    assert rows_of(open_data(tmp_path, split)) == ([pair(2)] if split == "test" else [pair(0), pair(1)])


def test_names_of_files_that_say_no_split(tmp_path: Path) -> None:
    write_lines(tmp_path / "train.jsonl", pairs(2))
    write_lines(tmp_path / "more.jsonl", pairs(3))
    said = f"{tmp_path} has files of train, but also more.jsonl: name a file, or a --split"
    assert error(tmp_path) == said
    data = open_data(tmp_path, "train")
    assert (rows_of(data), data.name) == (pairs(2), f"{tmp_path} (train)")


def test_one_split_needs_no_name(tmp_path: Path) -> None:
    write_lines(tmp_path / "validation.jsonl", pairs(2))
    assert rows_of(open_data(tmp_path)) == pairs(2)


def test_files_without_rows_are_passed_over(tmp_path: Path) -> None:
    write_parquet(tmp_path / "b.parquet", pairs(3))
    pq.write_table(table(pairs(1)).slice(0, 0), tmp_path / "a.parquet")
    assert rows_of(open_data(tmp_path)) == pairs(3)


def error(path: Path, split: str | None = None) -> str:
    """What is said of data that cannot be read, without the folder of the test."""
    with pytest.raises(Failure) as caught:
        rows_of(open_data(path, split))
    return str(caught.value)


def test_what_is_not_there(tmp_path: Path) -> None:
    assert error(tmp_path / "no.parquet") == f"cannot read {tmp_path}/no.parquet: No such file or directory"
    write_saved(tmp_path / "saved", pairs(4))
    (tmp_path / "saved" / "data-00001-of-00002.arrow").unlink()
    missing = f"{tmp_path}/saved/data-00001-of-00002.arrow"
    assert error(tmp_path / "saved") == f"cannot read {missing}: No such file or directory"


@pytest.mark.parametrize("name", ["a.parquet", "a.arrow", "a.jsonl"])
def test_empty_files(name: str, tmp_path: Path) -> None:
    (tmp_path / name).touch()
    assert error(tmp_path / name) == f"{tmp_path / name} is empty"


def test_no_rows(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(" \n\n")
    assert error(tmp_path / "a.jsonl") == f"{tmp_path}/a.jsonl is empty"
    pq.write_table(table(pairs(1)).slice(0, 0), tmp_path / "a.parquet")
    assert error(tmp_path / "a.parquet") == f"{tmp_path}/a.parquet has no rows"
    stream = tmp_path / "a.arrow"
    with pa.ipc.new_stream(stream, table(pairs(1)).schema):
        pass
    assert run("check", stream, "--inputs", "split") == (2, "", f"dpo-collate: {stream} has no rows\n")


def test_unknown_kinds(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("1,2")
    suffixes = ".parquet, .arrow, .arrows, .feather, .ipc, .jsonl, .ndjson or .json"
    assert error(tmp_path / "a.csv") == (
        f"cannot read {tmp_path}/a.csv: expected a file that ends in {suffixes}, or a folder of such"
    )
    assert error(tmp_path) == f"{tmp_path} has no files that end in {suffixes}"
    write_parquet(tmp_path / "a.parquet", pairs(1))
    write_lines(tmp_path / "a.jsonl", pairs(1))
    assert error(tmp_path) == (
        f"{tmp_path} has files of JSON Lines and Parquet: name the files, or a folder of one kind"
    )


def test_wrong_splits(tmp_path: Path) -> None:
    KINDS["splits"](tmp_path / "splits", pairs(4))
    saved = tmp_path / "splits"
    assert error(saved, "tset") == f"{saved} has no split 'tset': it has train and test"
    assert error(saved / "train", "train") == f"{saved}/train is one data set without splits: leave --split out"
    (saved / "dataset_dict.json").write_text('{"splits": ["one", "two"]}')
    assert error(saved) == f"{saved} has several splits: choose one with --split (it has one and two)"
    (saved / "dataset_dict.json").write_text('{"splits": "train"}')
    assert error(saved) == f"cannot read {saved}/dataset_dict.json: expected the names of splits"
    file = tmp_path / "a.parquet"
    write_parquet(file, pairs(1))
    assert error(file, "train") == f"{file} is one file: --split is for folders"
    assert error(tmp_path, "train") == f"{tmp_path} has no split 'train': it has none"


@pytest.mark.parametrize("state", ["[]", '{"_data_files": []}', '{"_data_files": [1]}', '{"_data_files": null}'])
def test_states_that_name_no_files(state: str, tmp_path: Path) -> None:
    (tmp_path / "state.json").write_text(state)
    assert error(tmp_path) == f"cannot read {tmp_path}/state.json: it names no files"


def test_other_states(tmp_path: Path) -> None:
    (tmp_path / "state.json").write_text("{")
    assert error(tmp_path).startswith(f"cannot read {tmp_path}/state.json: Expecting")
    (tmp_path / "state.json").write_text('{"_data_files": [{"filename": "a"}], "_indices_data_files": [{}]}')
    chosen = "its rows are chosen by another file; flatten_indices() writes them out"
    assert error(tmp_path) == f"cannot read {tmp_path}: {chosen}"


@pytest.mark.parametrize("kind", ["pairs.parquet", "file.arrow", "stream.arrow"])
def test_files_that_are_cut_off(kind: str, tmp_path: Path) -> None:
    path = tmp_path / kind
    KINDS[kind](path, pairs(20))
    whole = path.read_bytes()
    for size in (4, len(whole) // 2):
        path.write_bytes(whole[:size])
        said = error(path)
        assert said.startswith(f"cannot read {path}: ")
        assert "\n" not in said


def test_an_array_of_json_is_no_json_lines(tmp_path: Path) -> None:
    path = tmp_path / "pairs.json"
    path.write_text(json.dumps(pairs(2), indent=2))
    assert error(path) == (
        f"cannot read {path}: it begins with '[', expected JSON Lines, an object a line; "
        "jq -c '.[]' pairs.json > pairs.jsonl makes them of an array"
    )


LINES = {
    b'{"a": [1, 2]': "is no JSON: Expecting ',' delimiter (column 13)",
    b'{"a": [1]} {"a": [2]}': "is no JSON: Extra data (column 12)",
    b"7": "is a int, expected an object",
    b'{"a": 1, "a": 2}': "has 'a' twice",
    b'{"a": [1], "b": "\xff"}': "is no UTF-8: byte 18 is 0xff",
    b'{"a": ' + b"[" * 100_000: "is nested too deeply",
    b'{"a": ' + b"1" * 5000 + b"}": "is no JSON: Exceeds the limit (4300 digits) for integer string conversion: value "
    "has 5000 digits; use sys.set_int_max_str_digits() to increase the limit",
}


@pytest.mark.parametrize("line", LINES, ids=[text[:30] for text in LINES.values()])
def test_lines_that_cannot_be_read(line: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"a": [1]}\r\n\n' + line + b'\n{"a": [2]}')
    (block,) = open_data(path).blocks()
    assert block.rows == [{"a": [1]}, None, {"a": [2]}]
    assert block.unreadable == {1: f"line 3 {LINES[line]}"}
    assert block.numbers == [1, 3, 4]


def test_files_of_no_lines_that_can_be_read(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('\n{"prompt_ids":\n[1]}\n')
    sentence = "line 2 is no JSON: Expecting value (column 15), and no line after it is better"
    assert run("check", path) == (2, "", f"dpo-collate: cannot read {path}: {sentence}\n")
    path.write_text("{}\n")
    assert run("check", path).err.endswith("which --layout separate needs; there are none\n")


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.floats(allow_nan=False) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("xyz"), inner, max_size=2),
    max_leaves=4,
)


@given(
    st.lists(st.dictionaries(st.sampled_from("abc"), VALUES, max_size=3), min_size=1, max_size=8), st.integers(1, 300)
)
def test_lines_mean_what_json_says(rows: list[dict[str, Any]], size: int) -> None:
    lines = [json.dumps(row).encode() for row in rows]
    found: list[Any] = []
    for begin in range(0, len(lines), size):
        block = json_lines.block_of(lines[begin : begin + size], range(begin, len(lines))[:size])
        found += block.rows if isinstance(block.rows, list) else block.rows.to_pylist()
    whole = {key for row in rows for key in row}
    for row, wanted in zip(found, rows, strict=True):
        for key in whole:
            assert same(row.get(key), wanted.get(key))


def same(found: Any, wanted: Any) -> bool:
    """Whether it is the same to a collator: of a struct, a key that is not there is None; numbers are equal."""
    if isinstance(found, dict) and isinstance(wanted, dict):
        return all(same(found.get(key), wanted.get(key)) for key in found | wanted)
    if isinstance(found, list) and isinstance(wanted, list):
        return len(found) == len(wanted) and all(map(same, found, wanted))
    if hasattr(found, "isoformat"):
        return isinstance(wanted, str)
    return bool(found == wanted) and isinstance(found, bool) == isinstance(wanted, bool)


def test_forms_of_arrow(tmp_path: Path) -> None:
    write_arrow(tmp_path / "a.arrow", pairs(9))
    assert not files.is_stream(tmp_path / "a.arrow")
    assert open_data(tmp_path / "a.arrow").rows == 9
    assert arrow_table(tmp_path / "a.arrow").num_rows == 9
