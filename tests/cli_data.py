"""Data in every kind of file, and the program run in this process."""

from __future__ import annotations

import contextlib
import io
import json
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from dpo_collate.cli import main

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pa: Any = pytest.importorskip("pyarrow")
pq: Any = pytest.importorskip("pyarrow.parquet")
ipc: Any = pytest.importorskip("pyarrow.ipc")

Rows = list[dict[str, Any]]


class Done(NamedTuple):
    """What the program did."""

    status: int
    out: str
    err: str


def run(*arguments: object) -> Done:
    """Runs the program in this process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = main([str(argument) for argument in arguments])
    return Done(status, out.getvalue(), err.getvalue())


def pair(index: int) -> dict[str, Any]:
    """A good row that is like no other."""
    return {
        "prompt_ids": [index + 1] * (1 + index % 5),
        "chosen_ids": [7, index + 1],
        "rejected_ids": [8] * (1 + index % 3),
    }


def pairs(size: int) -> Rows:
    return [pair(index) for index in range(size)]


def table(rows: Rows) -> Any:
    return pa.Table.from_pylist(rows)


def write_parquet(path: Path, rows: Rows) -> None:
    pq.write_table(table(rows), path, row_group_size=4)


def write_arrow(path: Path, rows: Rows, new: Any = ipc.new_file) -> None:
    whole = table(rows)
    with new(path, whole.schema) as writer:
        writer.write_table(whole, max_chunksize=4)


def write_stream(path: Path, rows: Rows) -> None:
    write_arrow(path, rows, ipc.new_stream)


def write_lines(path: Path, rows: Rows) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def write_saved(path: Path, rows: Rows) -> None:
    """As ``save_to_disk`` of ``datasets`` does it."""
    path.mkdir()
    names = [f"data-{index:05d}-of-00002.arrow" for index in range(2)]
    for name, some in zip(names, (rows[: len(rows) // 2], rows[len(rows) // 2 :]), strict=True):
        write_stream(path / name, some)
    (path / "state.json").write_text(json.dumps({"_data_files": [{"filename": name} for name in names]}))
    (path / "dataset_info.json").write_text("{}")


def write_splits(path: Path, rows: Rows) -> None:
    path.mkdir()
    (path / "dataset_dict.json").write_text(json.dumps({"splits": ["train", "test"]}))
    write_saved(path / "train", rows)
    write_saved(path / "test", rows[:2])


def write_folder(path: Path, rows: Rows) -> None:
    path.mkdir()
    write_parquet(path / "b.parquet", rows[len(rows) // 2 :])
    write_parquet(path / "a.parquet", rows[: len(rows) // 2])
    (path / "README.md").write_text("not data")
    (path / "cache-1.parquet").write_text("what datasets keeps for itself")
    (path / ".a.parquet.part.parquet").write_text("what was being written when the power failed")


KINDS: dict[str, Callable[[Path, Rows], None]] = {
    "pairs.parquet": write_parquet,
    "file.arrow": write_arrow,
    "stream.arrow": write_stream,
    "pairs.feather": write_arrow,
    "pairs.jsonl": write_lines,
    "pairs.json": write_lines,
    "saved": write_saved,
    "splits": write_splits,
    "folder": write_folder,
}


def read(path: Path) -> Rows:
    """What a file holds, read in the plainest way."""
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in path.read_text().splitlines()]
    if path.suffix == ".parquet":
        return pq.read_table(path).to_pylist()  # type: ignore[no-any-return]
    return arrow_table(path).to_pylist()  # type: ignore[no-any-return]


def arrow_table(path: Path) -> Any:
    with pa.memory_map(str(path)) as source:
        stream = source.read(6) != b"ARROW1"
        source.seek(0)
        return (ipc.open_stream if stream else ipc.open_file)(source).read_all()


SPLIT = ("--inputs", "split")
BAD = {
    "null": {**pair(50), "chosen_ids": None},
    "empty_completion": {**pair(51), "rejected_ids": []},
    "equal_sides": {**pair(52), "rejected_ids": pair(52)["chosen_ids"]},
    "duplicate": pair(1),
    "vocabulary": {**pair(53), "prompt_ids": [1, 1000]},
}
OPTIONS = (*SPLIT, "--vocab-size", "1000")


def planted(size: int = 20) -> Rows:
    """Good rows, and after every third a bad one."""
    rows = pairs(size)
    for place, row in enumerate(BAD.values()):
        rows.insert(4 * place + 3, row)
    return rows
