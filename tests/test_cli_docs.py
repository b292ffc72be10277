"""What docs/cli.md shows is what the program says."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from cli_data import run
from dpo_collate.cli import folders

if TYPE_CHECKING:
    import pytest

TEXT = (Path(__file__).parent.parent / "docs" / "cli.md").read_text(encoding="utf-8")


def blocks(kind: str) -> list[str]:
    """The blocks of that kind."""
    return re.findall(rf"^```{kind}\n(.*?)^```$", TEXT, flags=re.MULTILINE | re.DOTALL)


def shown(command: str) -> str:
    """What a terminal shows of a command."""
    _, *arguments = shlex.split(command)
    if not {"|", "&&"} & set(arguments):
        done = run(*arguments)
        return done.out + done.err
    Path("dpo-collate").write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m dpo_collate "$@"\n')
    Path("dpo-collate").chmod(0o755)
    environment = os.environ | {"PATH": f"{Path.cwd()}:{os.environ['PATH']}"}
    return subprocess.run(
        ["bash", "-c", f"{command} 2>&1"], capture_output=True, text=True, check=False, env=environment, timeout=240
    ).stdout


def test_what_the_document_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (code,) = blocks("python")
    exec(code, {})
    sessions = "".join(blocks("console"))
    commands = re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", sessions, flags=re.MULTILINE)
    assert len(commands) == sessions.count("$ ") == 6
    for command, output in commands:
        assert shown(command) == output
    (command,) = blocks("sh")
    assert run(*shlex.split(command)[1:]).status == 0
    assert (tmp_path / "report.html").is_file()
    assert [*(tmp_path / "drawings").glob("*.png")]


def test_the_document_names_every_suffix_and_status() -> None:
    assert set(folders.KINDS) <= set(re.findall(r"`(\.\w+)`", TEXT))
