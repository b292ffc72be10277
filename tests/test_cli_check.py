"""``dpo-collate check``: what it finds, and how it says so."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from cli_data import (
    BAD,
    KINDS,
    OPTIONS,
    SPLIT,
    Rows,
    ipc,
    pair,
    pairs,
    planted,
    read,
    run,
    write_arrow,
    write_lines,
    write_parquet,
)
from dpo_collate import _check_pieces
from dpo_collate.cli import files, json_lines, tables

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of a few rows."""
    monkeypatch.setattr(files, "BLOCK_BYTES", 300)
    monkeypatch.setattr(json_lines, "TEXT_BYTES", 300)
    monkeypatch.setattr(tables, "GROUP_BYTES", 400)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("kind", KINDS)
def test_planted_faults_are_found(kind: str, tmp_path: Path) -> None:
    KINDS[kind](tmp_path / kind, planted())
    done = run("check", tmp_path / kind, *OPTIONS, "--json")
    assert (done.status, done.err) == (1, "")
    found = json.loads(done.out)
    name = f"{tmp_path / kind} (train)" if kind == "splits" else str(tmp_path / kind)
    assert (found["data"], found["rows"], found["rows_with_problems"]) == (name, 25, 5)
    assert [problem["kind"] for problem in found["problems"]] == [*BAD]
    assert [problem["row"] for problem in found["problems"]] == [3, 7, 11, 15, 19]
    assert found["counts"] == dict.fromkeys(BAD, 1)
    assert (found["cleaned"], found["error"]) == (None, None)
    assert found["problems"][3] == {
        "row": 15,
        "key": None,
        "kind": "duplicate",
        "message": "row 15: the same pair as row 1",
    }


def test_good_data(tmp_path: Path) -> None:
    write_parquet(tmp_path / "a.parquet", pairs(1234))
    done = run("check", tmp_path / "a.parquet", *OPTIONS, "--vocab-size", "2000")
    assert done == (0, f"{tmp_path}/a.parquet: 1,234 rows, no problems\n", "")


def test_what_is_said(tmp_path: Path) -> None:
    path = tmp_path / "[red]pairs:smile:.jsonl"
    write_lines(path, [pair(0), pair(1), *[pair(0)] * 2, {**pair(2), "rejected_ids": []}, *[pair(1)] * 3])
    done = run("check", path, *SPLIT, "--examples", 2, "--write-clean", tmp_path / "clean.jsonl")
    assert done.status == 1
    assert done.out == (
        f"{path}: 8 rows, 6 with problems\n"
        "\n"
        "duplicate: 5 rows\n"
        "  row 2: the same pair as row 0\n"
        "  row 3: the same pair as row 0\n"
        "  … and 3 more\n"
        "\n"
        "empty_completion: 1 row\n"
        "  row 4: 'rejected_ids' has no tokens: expected a completion\n"
        "\n"
        f"{tmp_path}/clean.jsonl: 2 rows, 6 left out (5 duplicate, 1 empty_completion)\n"
    )
    counts = run("check", path, *SPLIT, "--examples", 0).out
    assert counts == f"{path}: 8 rows, 6 with problems\n\nduplicate: 5 rows\n\nempty_completion: 1 row\n"
    assert run("check", path, *SPLIT, "--no-duplicates").out.startswith(f"{path}: 8 rows, 1 with problems\n")


def test_every_option_of_rows_is_heard(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    write_parquet(path, [{**pair(4), "chosen_ids": [1] * 30}])
    for options in ("--max-length 20 --truncation-mode error", "--buckets 8,16", "--layout prompt_left --buckets 8"):
        kinds = json.loads(run("check", path, *SPLIT, *options.split(), "--json").out)["counts"]
        assert kinds == {"too_long": 1}
    for options in ("--max-length 20", "--buckets 16,64", "--pad-to-multiple-of 8 --row-multiple-of 4"):
        assert run("check", path, *SPLIT, *options.split()).status == 0


def with_images(flags: int) -> Rows:
    ids = {f"{side}_ids": row for side, row in {"prompt": [9] * 4, "chosen": [1], "rejected": [2]}.items()}
    return [{**ids, "pixel_values": [[[[0.5]]]], "image_flags": [1] * flags}]


def test_images(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    write_parquet(path, with_images(1))
    tokens = (*SPLIT, "--image-token", 9)
    assert run("check", path, *tokens, "--per-tile", 4).status == 0
    assert run("check", path, *tokens, "--per-tile", 5).out.count("image_tokens: 1 row\n") == 1
    write_parquet(path, with_images(2))
    assert run("check", path, *SPLIT).out.count("image_flags: 1 row\n") == 1
    assert run("check", path, *SPLIT, "--per-tile", 4) == (
        2,
        "",
        "dpo-collate: --per-tile and --per-grid say how many image tokens there are: expected --image-token as well\n",
    )
    assert run("check", path, *tokens).err == (
        "dpo-collate: --image-token needs --per-tile or --per-grid, which say how many an image takes\n"
    )


LINES = {
    3: "{oops",
    7: "[1]",
    11: json.dumps({**pair(60), "chosen_ids": "text"}),
    15: json.dumps({**pair(61), "prompt_ids": [1.5, 2]}),
    19: json.dumps({"prompt_ids": [1]}),
}


@pytest.mark.parametrize("size", [10, 300, 1 << 20])
def test_lines_that_are_wrong_are_problems_of_their_rows(
    size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(json_lines, "TEXT_BYTES", size)
    lines = [json.dumps(row) for row in pairs(20)]
    for place, line in LINES.items():
        lines.insert(place, line)
    path = tmp_path / "a.jsonl"
    path.write_text("\n\n".join(lines))
    found = json.loads(run("check", path, *SPLIT, "--json", "--write-clean", tmp_path / "clean.jsonl").out)
    assert sorted({problem["row"] for problem in found["problems"]}) == [*LINES]
    kinds = [next(problem["kind"] for problem in found["problems"] if problem["row"] == row) for row in LINES]
    assert kinds[:4] == ["unreadable", "unreadable", "type", "type"]
    assert kinds[4] in {"missing", "null"}
    assert found["problems"][0]["message"].startswith("row 3: line 7 is no JSON: Expecting property name")
    assert found["problems"][1]["message"] == "row 7: line 15 is a list, expected an object"
    assert found["cleaned"]["rows"] == 20
    assert read(tmp_path / "clean.jsonl") == pairs(20)


def test_columns_that_no_row_of_a_later_block_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_lines, "TEXT_BYTES", 200)
    path = tmp_path / "a.jsonl"
    write_lines(path, [*pairs(6), *[{"prompt_ids": [1], "chosen_ids": [2]}] * 9, *[{**pair(7), "chosen_ids": "x"}] * 9])
    done = run("check", path, *SPLIT, "--no-duplicates", "--examples", 1)
    assert done.status == 1
    assert "row 6: no 'rejected_ids'" in done.out
    assert "row 15: 'chosen_ids' is 'x', expected" in done.out


def test_lines_that_are_looked_at_once_more_keep_their_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A column that shows in a later piece of a block that it is of another type."""
    monkeypatch.setattr(json_lines, "TEXT_BYTES", 200)
    monkeypatch.setattr(_check_pieces, "ROWS", 2)
    path = tmp_path / "a.jsonl"
    write_lines(path, [*pairs(6), *[{**pair(6), "chosen_ids": None}] * 3, {**pair(7), "chosen_ids": ["x"]}, pair(8)])
    found = json.loads(run("check", path, *SPLIT, "--no-duplicates", "--json").out)
    assert [(problem["row"], problem["kind"]) for problem in found["problems"]] == [
        (6, "null"),
        (7, "null"),
        (8, "null"),
        (9, "type"),
    ]


def test_columns_that_do_not_fit(tmp_path: Path) -> None:
    def said(row: dict[str, Any], *options: object) -> str:
        write_parquet(tmp_path / "a.parquet", [row])
        done = run("check", tmp_path / "a.parquet", *options)
        start = f"dpo-collate: cannot check {tmp_path}/a.parquet: "
        assert (done.status, done.out, done.err[: len(start)]) == (2, "", start)
        return done.err[len(start) :].rstrip("\n")

    full = {f"{side}_{of}": [1] for side in ("chosen", "rejected") for of in ("input_ids", "labels")}
    apart = {f"{stem}_input_ids": [1] for stem in ("prompt", "chosen", "rejected")}
    fit = "; the columns that there are fit "
    assert said(pair(0)) == (
        f"there is no column chosen_input_ids, which --layout separate needs{fit}--layout separate --inputs split"
    )
    assert said(full, "--layout", "concatenated", *SPLIT) == (
        f"there is no column prompt_ids, which --layout concatenated --inputs split needs{fit}--layout concatenated"
    )
    assert said(full, "--layout", "prompt_left") == (
        f"there is no column prompt_input_ids, which --layout prompt_left needs{fit}--layout separate"
    )
    assert said(apart) == f"there is no column chosen_labels, which --layout separate needs{fit}--layout prompt_left"
    assert said({"chosen": "a", "rejected": "b"}) == (
        "there is no column chosen_input_ids, which --layout separate needs; "
        "chosen and rejected, if they are text, have to be tokenized first"
    )
    assert said({"a": 1, "b": 2}).endswith("; there are a, b")
    unknown = said(pair(0) | {"prompt_id": 5}, *SPLIT)
    assert unknown.startswith("unknown key 'prompt_id': ")
    assert unknown.endswith("; --ignore prompt_id checks the rows without it")
    assert run("check", tmp_path / "a.parquet", *SPLIT, "--ignore", "prompt_id").status == 0
    assert said({**pair(0), "chosen_ids": "text"}, *SPLIT).startswith("'chosen_ids' is an Arrow column of type string")


@pytest.mark.parametrize("arguments", [("no.parquet",), ("a.parquet",), ("a.parquet", *SPLIT, "--max-length", "0")])
def test_json_is_valid_whatever_happens(
    arguments: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_parquet(tmp_path / "a.parquet", pairs(2))
    done = run("check", *arguments, "--json")
    assert done.status == 2
    assert done.err.startswith("dpo-collate: ")
    if "--max-length" not in arguments:
        assert f"dpo-collate: {json.loads(done.out)['error']}\n" == done.err


def test_json_of_a_file_that_breaks_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "BLOCK_BYTES", 100)
    write_arrow(tmp_path / "a.arrow", [{**pair(0), "rejected_ids": []}, *pairs(50)], ipc.new_stream)
    whole = (tmp_path / "a.arrow").read_bytes()
    (tmp_path / "a.arrow").write_bytes(whole[: len(whole) * 3 // 4])
    done = run("check", tmp_path / "a.arrow", *SPLIT, "--json", "--write-clean", tmp_path / "b.parquet")
    found = json.loads(done.out)
    assert done.status == 2
    assert 0 < found["rows"] < 50
    assert found["counts"] == {"empty_completion": 1}
    assert f"dpo-collate: {found['error']}\n" == done.err
    assert [path.name for path in tmp_path.iterdir()] == ["a.arrow"]
