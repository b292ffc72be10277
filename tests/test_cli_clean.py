"""``dpo-collate check --write-clean``: the rows that are right, whole or not at all."""

from __future__ import annotations

import errno
import json
import resource
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli_data import (
    BAD,
    KINDS,
    OPTIONS,
    SPLIT,
    Rows,
    arrow_table,
    pa,
    pair,
    pairs,
    planted,
    pq,
    read,
    run,
    table,
    write_lines,
    write_parquet,
)
from dpo_collate.cli import files, json_lines, tables

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of a few rows."""
    monkeypatch.setattr(files, "BLOCK_BYTES", 300)
    monkeypatch.setattr(json_lines, "TEXT_BYTES", 300)
    monkeypatch.setattr(tables, "GROUP_BYTES", 400)


OUT = ("clean.parquet", "clean.arrow", "clean.jsonl")


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("name", OUT)
@pytest.mark.parametrize("kind", KINDS)
def test_clean_files(kind: str, name: str, tmp_path: Path) -> None:
    KINDS[kind](tmp_path / kind, planted())
    out = tmp_path / name
    done = run("check", tmp_path / kind, *OPTIONS, "--write-clean", out)
    assert (done.status, done.err) == (1, "")
    left_out = ", ".join(f"1 {kind}" for kind in BAD)
    assert done.out.endswith(f"\n{out}: 20 rows, 5 left out ({left_out})\n")
    assert read(out) == pairs(20)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([kind, name])
    again = run("check", out, *OPTIONS, "--json", "--write-clean", tmp_path / f"again{out.suffix}")
    assert again.status == 0
    assert json.loads(again.out)["cleaned"] == {"path": f"{tmp_path}/again{out.suffix}", "rows": 20, "dropped": {}}
    assert run("check", out, *OPTIONS, "--write-clean", out.with_name("b.jsonl")).out.endswith(
        "20 rows, none left out\n"
    )


def test_arrow_stays_a_stream(tmp_path: Path) -> None:
    for kind, magic in {"stream.arrow": b"\xff\xff\xff\xff", "file.arrow": b"ARRO", "pairs.jsonl": b"ARRO"}.items():
        KINDS[kind](tmp_path / kind, pairs(3))
        assert run("check", tmp_path / kind, *SPLIT, "--write-clean", tmp_path / "out.arrow").status == 0
        assert (tmp_path / "out.arrow").read_bytes()[:4] == magic


@pytest.mark.parametrize("name", OUT[:2])
def test_types_and_metadata_stay(name: str, tmp_path: Path) -> None:
    types = {
        "prompt_ids": pa.list_(pa.uint16()),
        "chosen_ids": pa.large_list(pa.int32()),
        "rejected_ids": pa.list_(pa.int8()),
    }
    schema = pa.schema([*types.items(), ("text", pa.dictionary(pa.int8(), pa.string())), ("raw", pa.binary())])
    schema = schema.with_metadata({"huggingface": '{"info": {}}', "pandas": "{}"})
    rows = [{**row, "text": "a", "raw": b"\xff"} for row in planted(5)]
    pq.write_table(pa.Table.from_pylist(rows, schema), tmp_path / "a.parquet", row_group_size=2)
    assert run("check", tmp_path / "a.parquet", *OPTIONS, "--write-clean", tmp_path / name).status == 1
    found = pq.read_table(tmp_path / name) if "parquet" in name else arrow_table(tmp_path / name)
    assert found.schema.equals(pq.read_schema(tmp_path / "a.parquet"), check_metadata=True)
    assert found.to_pylist() == [{**row, "text": "a", "raw": b"\xff"} for row in pairs(5)]


def test_pandas_and_datasets_read_what_is_left(tmp_path: Path) -> None:
    pandas, datasets = pytest.importorskip("pandas"), pytest.importorskip("datasets")
    pandas.DataFrame(planted(5)).to_parquet(tmp_path / "a.parquet")
    assert run("check", tmp_path / "a.parquet", *OPTIONS, "--write-clean", tmp_path / "b.parquet").status == 1
    frame = pandas.read_parquet(tmp_path / "b.parquet")
    assert frame.index.tolist() == list(range(5))
    assert [row.tolist() for row in frame["prompt_ids"]] == [row["prompt_ids"] for row in pairs(5)]
    features = datasets.Features({key: datasets.List(datasets.Value("int32")) for key in pair(0)})
    datasets.Dataset.from_list(planted(5), features=features).save_to_disk(tmp_path / "saved")
    assert run("check", tmp_path / "saved", *OPTIONS, "--write-clean", tmp_path / "b.arrow").status == 1
    data = datasets.Dataset.from_file(str(tmp_path / "b.arrow"))
    assert (data.features, data.to_list()) == (features, pairs(5))


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("name", OUT[:2])
def test_lines_become_tables_whose_types_show_late(name: str, tmp_path: Path) -> None:
    rows: Rows = [{**row, "when": "2024-05-06", "meta": {"days": ["2024-05-06"]}} for row in pairs(30)]
    for index, row in enumerate(rows):
        row["margin"] = None if index < 15 else 1 if index < 20 else 0.5
        row["mask"] = [None, 1] if index == 7 else []
    rows[29]["late"] = True
    write_lines(tmp_path / "a.jsonl", rows)
    ignored = ("--ignore", "margin")
    assert run("check", tmp_path / "a.jsonl", *SPLIT, *ignored, "--write-clean", tmp_path / name).status == 0
    assert read(tmp_path / name) == [{"late": None, **row} for row in rows]


def test_lines_that_make_no_table(tmp_path: Path) -> None:
    write_lines(tmp_path / "a.jsonl", [{**pair(0), "meta": 1}, {**pair(1), "meta": {"a": 2}}])
    assert run("check", tmp_path / "a.jsonl", *SPLIT, "--write-clean", tmp_path / "b.jsonl").status == 0
    done = run("check", tmp_path / "a.jsonl", *SPLIT, "--write-clean", tmp_path / "b.parquet")
    assert done.status == 2
    assert done.err.startswith(f"dpo-collate: cannot write {tmp_path}/b.parquet: ")
    assert done.err.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.jsonl", "b.jsonl"]


@given(
    st.lists(st.sampled_from(["good", *BAD, "unreadable"]), max_size=12),
    st.sampled_from(["pairs.parquet", "stream.arrow", "pairs.jsonl"]),
    st.sampled_from(OUT),
    st.integers(1, 1000),
)
def test_what_is_left_are_the_good_rows(
    tmp_path_factory: pytest.TempPathFactory, plan: list[str], kind: str, name: str, size: int
) -> None:
    folder = tmp_path_factory.mktemp("clean")
    lines = kind.endswith("jsonl")
    rows = [pair(0), pair(1), *[pair(100 + at) if what == "good" else BAD.get(what) for at, what in enumerate(plan)]]
    if lines:
        (folder / kind).write_text("\n".join("{" if row is None else json.dumps(row) for row in rows))
    else:
        rows = [row for row in rows if row is not None]
        KINDS[kind](folder / kind, [row for row in rows if row is not None])
    good = [row for row in rows if row is not None and row not in BAD.values()]
    good.insert(1, pair(1))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "BLOCK_BYTES", size)
        patch.setattr(json_lines, "TEXT_BYTES", size)
        patch.setattr(tables, "GROUP_BYTES", size)
        found = json.loads(run("check", folder / kind, *OPTIONS, "--json", "--write-clean", folder / name).out)
    bad = [at for at, row in enumerate(rows) if row is None or (row in BAD.values() and at != 1)]
    # Of rows that come twice the first may be bad by itself: then it is bad twice.
    assert sorted({problem["row"] for problem in found["problems"]}) == bad
    assert read(folder / name) == good


def refused(data: Path, out: Path) -> str:
    done = run("check", data, *SPLIT, "--write-clean", out)
    assert (done.status, done.out) == (2, "")
    start = f"dpo-collate: cannot write {out}: "
    assert done.err.startswith(start)
    return done.err.removeprefix(start).rstrip("\n")


def test_places_where_nothing_is_written(tmp_path: Path) -> None:
    data = tmp_path / "a.parquet"
    write_parquet(data, pairs(3))
    assert refused(data, tmp_path / "a.csv") == "expected a name that ends in .parquet, .arrow or .jsonl"
    assert refused(data, data) == "it is the data that is read"
    (tmp_path / "link.parquet").symlink_to(data)
    assert refused(data, tmp_path / "link.parquet") == "it is the data that is read"
    (tmp_path / "folder.jsonl").mkdir()
    assert refused(data, tmp_path / "folder.jsonl") == "it is a folder"
    assert refused(data, tmp_path / "no" / "b.jsonl") == "No such file or directory"
    KINDS["folder"](tmp_path / "parts", pairs(3))
    into = refused(tmp_path / "parts", tmp_path / "parts" / "clean.parquet")
    assert into == f"it would be one more file of the data in {tmp_path}/parts"
    assert read(data) == pairs(3)


def test_another_file_is_replaced_only_when_all_is_written(tmp_path: Path) -> None:
    data, out = tmp_path / "a.parquet", tmp_path / "b.jsonl"
    write_parquet(data, [pair(0)])
    out.write_text("before")
    write_parquet(tmp_path / "bad.parquet", [BAD["null"] | {"chosen_ids": []}])
    done = run("check", tmp_path / "bad.parquet", *SPLIT, "--write-clean", out)
    assert done == (2, "", f"dpo-collate: no row is without problems: {out} is not written\n")
    assert out.read_text() == "before"
    assert run("check", data, *SPLIT, "--write-clean", out).status == 0
    assert read(out) == [pair(0)]


@contextmanager
def limited(size: int) -> Iterator[None]:
    """Files cannot be larger, as on a disk that is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("name", OUT)
@pytest.mark.parametrize("kind", ["pairs.parquet", "pairs.jsonl"])
def test_a_full_disk(kind: str, name: str, tmp_path: Path) -> None:
    KINDS[kind](tmp_path / kind, [{**pair(index), "text": str(index) * 9} for index in range(500)])
    with limited(2000):
        done = run("check", tmp_path / kind, *SPLIT, "--write-clean", tmp_path / name)
    assert (done.status, done.out) == (2, "")
    assert done.err.startswith(f"dpo-collate: cannot write {tmp_path}/{name}: ")
    assert "File too large" in done.err
    assert done.err.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == [kind]


@pytest.mark.parametrize("error", [OSError(errno.EPERM, "not permitted"), KeyboardInterrupt()])
def test_a_file_that_cannot_take_its_place(
    error: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def replace(*_: object) -> None:
        raise error

    write_parquet(tmp_path / "a.parquet", pairs(3))
    monkeypatch.setattr(Path, "replace", replace)
    assert run("check", tmp_path / "a.parquet", *SPLIT, "--write-clean", tmp_path / "b.parquet").status in {2, 130}
    assert [path.name for path in tmp_path.iterdir()] == ["a.parquet"]


def test_a_disk_that_is_full_when_lines_become_a_table(tmp_path: Path) -> None:
    write_lines(tmp_path / "a.jsonl", [{**pair(index), "ones": [1] * 99} for index in range(100)])
    with limited((tmp_path / "a.jsonl").stat().st_size + 1):
        done = run("check", tmp_path / "a.jsonl", *SPLIT, "--write-clean", tmp_path / "b.arrow")
    assert (done.status, done.out) == (2, "")
    assert "File too large" in done.err
    assert [path.name for path in tmp_path.iterdir()] == ["a.jsonl"]


def test_columns_without_a_form_in_json(tmp_path: Path) -> None:
    write_parquet(tmp_path / "a.parquet", [{**pair(0), "raw": b"1"}])
    said = "JSON has no form for bytes, which a column has: .parquet and .arrow take it"
    assert refused(tmp_path / "a.parquet", tmp_path / "b.jsonl") == said
    whole = table([pair(0)]).append_column("day", pa.array([19000], pa.date32()))
    pq.write_table(whole, tmp_path / "a.parquet")
    assert run("check", tmp_path / "a.parquet", *SPLIT, "--write-clean", tmp_path / "b.jsonl").status == 0
    assert read(tmp_path / "b.jsonl") == [{**pair(0), "day": "2022-01-08"}]


def test_files_of_other_columns_make_no_file(tmp_path: Path) -> None:
    folder = tmp_path / "parts"
    folder.mkdir()
    write_parquet(folder / "a.parquet", pairs(2))
    whole = table([pair(5)])
    pq.write_table(
        whole.select([2, 0, 1]).cast(
            pa.schema([(name, pa.list_(pa.int32())) for name in list(pair(0))[-1:] + list(pair(0))[:2]])
        ),
        folder / "b.parquet",
    )
    assert run("check", folder, *SPLIT, "--write-clean", tmp_path / "clean.parquet").status == 0
    assert read(tmp_path / "clean.parquet") == [*pairs(2), pair(5)]
    write_parquet(folder / "c.parquet", [{**pair(6), "more": 1}])
    assert run("check", folder, *SPLIT).status == 0
    said = refused(folder, tmp_path / "other.parquet")
    assert said == "cannot write one file of files that have other columns: more"
    pq.write_table(whole.drop_columns(["chosen_ids"]), folder / "d.parquet")
    missing = run("check", folder, *SPLIT).err
    assert missing.startswith(f"dpo-collate: cannot check {folder}: no 'chosen_ids'")
