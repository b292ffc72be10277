"""``dpo-collate inspect``: what is read of the data, and that what was found is shown, written and drawn."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from cli_data import KINDS, pa, pair, pairs, pq, run, write_lines, write_parquet
from dpo_collate import inspection
from dpo_collate.cli import files, json_lines
from dpo_collate.cli.tiles import tiles_of

if TYPE_CHECKING:
    from pathlib import Path

SPLIT = ("--inputs", "split")


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, dict[str, Any]]]:
    """What ``inspection.inspect`` is given."""
    calls: list[tuple[Any, dict[str, Any]]] = []
    before = inspection.inspect

    def inspect(lengths: Any, collator: Any, **options: Any) -> Any:
        calls.append((lengths, options))
        return before(lengths, collator, **options)

    monkeypatch.setattr(inspection, "inspect", inspect)
    return calls


@pytest.mark.parametrize("kind", KINDS)
def test_lengths_of_every_kind(
    kind: str, tmp_path: Path, asked: list[tuple[Any, dict[str, Any]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "BLOCK_BYTES", 300)
    monkeypatch.setattr(json_lines, "TEXT_BYTES", 300)
    rows = [{**row, "loss_scale": [0.5]} for row in pairs(23)]
    KINDS[kind](tmp_path / kind, rows)
    done = run("inspect", tmp_path / kind, *SPLIT)
    assert (done.status, done.err) == (0, "")
    ((lengths, options),) = asked
    sizes = [[len(row[f"{stem}_ids"]) for stem in ("prompt", "chosen", "rejected")] for row in rows]
    assert lengths.tolist() == [[prompt + chosen, prompt + rejected] for prompt, chosen, rejected in sizes]
    assert options["parts"]["prompt"].tolist() == [prompt for prompt, _, _ in sizes]
    assert options["tiles"] is None


def test_what_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    write_parquet(tmp_path / "a.parquet", pairs(50))
    done = run("inspect", tmp_path / "a.parquet", *SPLIT, "--batch-size", 4)
    assert done.status == 0
    assert done.out.startswith(f"{tmp_path}/a.parquet\n50 pairs")
    assert max(map(len, done.out.splitlines()[1:])) <= 80
    assert "\x1b" not in done.out


def test_options_are_handed_on(tmp_path: Path, asked: list[tuple[Any, dict[str, Any]]]) -> None:
    full = {f"{side}_{of}": [1, 2] for side in ("chosen", "rejected") for of in ("input_ids", "labels")}
    write_parquet(tmp_path / "a.parquet", [{**full, "image_flags": [1] * (index % 3)} for index in range(9)])
    options = {"batch_size": 3, "max_tokens": 40, "tile_bytes": 100, "workers": 1, "prefetch": 4, "seed": 7}
    arguments = [part for name, value in options.items() for part in (f"--{name.replace('_', '-')}", value)]
    done = run("inspect", tmp_path / "a.parquet", *arguments, "--best-buckets", 2)
    assert (done.status, done.err) == (0, "")
    ((lengths, given),) = asked
    assert lengths.tolist() == [[2, 2]] * 9
    assert given.pop("tiles").tolist() == [0, 1, 2] * 3
    assert given == {**options, "buckets": 2, "parts": None}


def test_reports(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    write_parquet(tmp_path / "a.parquet", pairs(50))
    page, folder = tmp_path / "report.html", tmp_path / "drawn"
    assert run("inspect", tmp_path / "a.parquet", *SPLIT, "--html", page, "--png", folder).status == 0
    assert "a.parquet" in page.read_text()
    assert [*folder.glob("*.png")]
    done = run("inspect", tmp_path / "a.parquet", *SPLIT, "--html", tmp_path / "no" / "report.html")
    assert done.status == 2
    assert done.err == f"dpo-collate: cannot write {tmp_path}/no/report.html: No such file or directory\n"


def failed(*arguments: object) -> str:
    done = run("inspect", *arguments)
    assert (done.status, done.out) == (2, "")
    assert done.err.count("\n") == 1
    return done.err.removeprefix("dpo-collate: ").rstrip("\n")


def test_what_cannot_be_inspected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "BLOCK_BYTES", 300)
    path = tmp_path / "a.parquet"
    write_parquet(path, [*pairs(20), {**pair(1), "chosen_ids": None}])
    where = "dpo-collate check finds all such rows"
    assert failed(path).endswith("; the columns that there are fit --layout separate --inputs split")
    assert failed(path, *SPLIT).startswith("row 20: 'chosen_ids' is None")
    assert failed(path, *SPLIT).endswith(f"; {where}")
    write_parquet(path, pairs(20))
    assert failed(path, *SPLIT, "--batch-size", 0) == "--batch-size 0: expected 1 or more"
    assert failed(path, *SPLIT, "--max-tokens", 1).startswith("--max-tokens 1: every pair has more")


def test_lines(tmp_path: Path, asked: list[tuple[Any, dict[str, Any]]]) -> None:
    path = tmp_path / "a.jsonl"
    write_lines(path, [{**pair(0), "loss_scale": [1.5]}, {**pair(1), "other": "x"}])
    assert run("inspect", path, *SPLIT).status == 0
    assert asked[0][0].tolist() == [[3, 2], [4, 4]]
    path.write_text(json.dumps(pair(0)) + "\n{")
    assert failed(path, *SPLIT).startswith("line 2 is no JSON: ")
    write_lines(path, [pair(0), {**pair(1), "chosen_ids": "x"}])
    assert failed(path, *SPLIT).startswith("lines differ in what they have: ")
    write_lines(path, [pair(0), {"prompt_ids": [1.5]}])
    assert failed(path, *SPLIT).startswith("row 1: 'chosen_ids' is None")


FLAGS = [[1, 0], [], None]
TILES = [[[[0.5]], [[0.5]], [[0.5]]], [[[0.5]]], None]


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({"a": [1, 2, 3]}, [0, 0, 0]),
        ({"image_flags": FLAGS}, [2, 0, 0]),
        ({"pixel_values": TILES}, [3, 1, 0]),
        ({"pixel_values": TILES, "image_flags": FLAGS}, [2, 0, 0]),
        ({"chosen_pixel_values": TILES, "rejected_image_flags": FLAGS}, [5, 1, 0]),
        ({"pixel_values": pa.nulls(3)}, [0, 0, 0]),
        ({"pixel_values": pa.FixedSizeListArray.from_arrays(pa.array([0.5] * 6), 2)}, [2, 2, 2]),
        ({"pixel_values": pa.array(TILES, pa.large_list(pa.list_(pa.list_(pa.float32()))))}, [3, 1, 0]),
    ],
)
def test_tiles(columns: dict[str, Any], expected: list[int]) -> None:
    whole = pa.table(columns)
    for rows in (whole, *whole.to_batches(), pa.concat_tables([whole.slice(0, 1), whole.slice(1)])):
        assert tiles_of(rows).tolist() == expected
        assert tiles_of(rows).dtype == np.int64


def test_tiles_of_data_sets(tmp_path: Path, asked: list[tuple[Any, dict[str, Any]]]) -> None:
    datasets = pytest.importorskip("datasets")
    features = datasets.Features(
        {key: datasets.List(datasets.Value("int32")) for key in pair(0)}
        | {"pixel_values": datasets.Array4D((None, 3, 2, 2), "float32")}
    )
    rows = [{**pair(index), "pixel_values": np.zeros((index + 1, 3, 2, 2))} for index in range(3)]
    datasets.Dataset.from_list(rows, features=features).save_to_disk(tmp_path / "saved")
    assert run("inspect", tmp_path / "saved", *SPLIT).status == 0
    assert asked[0][1]["tiles"].tolist() == [1, 2, 3]
    pq.write_table(datasets.load_from_disk(tmp_path / "saved").data.table, tmp_path / "a.parquet")
    assert run("inspect", tmp_path / "a.parquet", *SPLIT).status == 0
    assert asked[1][1]["tiles"].tolist() == [1, 2, 3]
