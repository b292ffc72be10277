"""The page about reliability is what its program makes of the figures that are kept."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

import figures
import reliability

if TYPE_CHECKING:
    from pathlib import Path


def test_the_page_is_made_of_the_figures() -> None:
    kept = json.loads(reliability.KEPT.read_text(encoding="utf-8"))
    assert reliability.PAGE.read_text(encoding="utf-8") == reliability.page(kept)


def test_every_promise_is_held_by_files_that_are_there() -> None:
    named = [file for promise in reliability.PROMISES for file in promise.tests]
    assert [file for file in named if not (reliability.ROOT / file).exists()] == []


def test_figures_add_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    figures.note("nobody asked", kills=1)
    monkeypatch.setenv("DPO_COLLATE_FIGURES", str(tmp_path))
    figures.note("kills", kills=3, most_bytes=10)
    figures.note("kills", kills=4, most_bytes=7)
    assert figures.total(tmp_path, "kills") == {"kills": 7, "most_bytes": 10}
    assert list(tmp_path.iterdir()) == [tmp_path / "kills.jsonl"]


def test_what_programs_say_is_counted(capsys: pytest.CaptureFixture[str]) -> None:
    lines = [
        "......  [100%]\n",
        "536 passed, 2 skipped in 9 s\n",
        "432 calls, 3 errors\n",
        "==7== Invalid read of size 8\n",
    ]
    lines += ["==7==    at 0x1\n", "==7== Warning: something\n", "test result: ok. 4 passed; 0 failed\n"]
    counted: dict[str, int] = {"most_threads": 4}
    figures.said(lines, counted)
    assert capsys.readouterr().out == "".join(lines)
    assert counted == {"most_threads": 4, "tests": 540, "calls": 432, "errors": 1}


def test_a_campaign_that_has_not_run(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"has no figures of [a-z_, -]+$"):
        reliability.gathered(tmp_path)


@pytest.mark.parametrize(
    ("name", "figure", "text"),
    [
        ("kills", 1234567, "1,234,567"),
        ("seconds", 0.25, "0.2"),
        ("seconds", 100.6, "101"),
        ("most_bytes", 0, "0 bytes"),
        ("bytes", 1536, "1.5 KiB"),
        ("bytes", 300 * 2**20, "300 MiB"),
        ("bytes", 2**42, "4,096 GiB"),
    ],
)
def test_figures_as_people_read_them(name: str, figure: float, text: str) -> None:
    assert reliability.said(name, figure) == text
