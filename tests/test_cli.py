"""The program: its help, its errors of one line, its exit statuses, signals and pipes."""

from __future__ import annotations

import io
import json
import os
import re
import runpy
import signal
import subprocess
import sys
import threading
import tomllib
from contextlib import redirect_stderr, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import typer

import dpo_collate
from bounded import ending, run_in_threads
from cli_data import pair, pairs, read, run, write_lines, write_parquet
from dpo_collate import checking
from dpo_collate.cli import app, main, report

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parent.parent
SPLIT = ("--inputs", "split")
ENVIRONMENT = {key: value for key, value in os.environ.items() if key not in {"FORCE_COLOR", "PY_COLORS", "COLUMNS"}}


def start(*arguments: object, program: str = "import dpo_collate.cli", **options: Any) -> subprocess.Popen[str]:
    """The program in a process of its own, after some lines of Python."""
    code = f"import sys\n{program}\nfrom dpo_collate.cli import main\nsys.exit(main())"
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT, **options
    )


def test_help_names_every_option() -> None:
    assert run("--help").status == 0
    assert {"check", "inspect"} <= set(re.findall(r"│ (\w+) ", run("--help").out))
    group: Any = typer.main.get_command(app.app)
    for name, command in group.commands.items():
        shown = run(name, "--help")
        assert shown.status == 0
        for parameter in command.params:
            options = ",".join(option for option in parameter.opts if option.startswith("--"))
            assert f"│ {options} " in shown.out or f"│ *    {parameter.metavar} " in shown.out
            assert parameter.help
        assert "Exit statuses: 0 " in shown.out
        assert f"  dpo-collate {name} pairs.parquet" in shown.out
        assert "\x1b" not in shown.out
        assert max(map(len, shown.out.splitlines())) <= 80


def test_version() -> None:
    assert run("--version") == (0, f"dpo-collate {dpo_collate.__version__}\n", "")


def test_nothing_is_asked() -> None:
    done = run()
    assert (done.status, done.err) == (2, "")
    assert "Usage: dpo-collate" in done.out


ERRORS = {
    ("chek",): "No such command 'chek'.",
    ("check",): "Missing argument 'DATA'.",
    ("check", "a", "--foo"): "No such option: --foo",
    ("check", "a", "--layout", "b"): "Invalid value for '--layout': 'b' is not one of 'separate', 'concatenated', ",
    ("check", "a", "--buckets", "8,x"): "Invalid value for '--buckets': '8,x': expected widths, such as 512,1024",
    ("check", "a", "--max-length", "x"): "Invalid value for '--max-length': ",
    ("check", "a", "--max-length", "0"): "--max-length 0: expected 1 or more",
    ("check", "a", "--vocab-size", "0"): "--vocab-size 0: expected 1 or more",
    ("check", "a", "--layout", "prompt_left", "--max-length", "5"): "--max-length 5: layout 'prompt_left' takes none",
    (
        "check",
        "a",
        "--per-grid",
        "2",
        "--image-token",
        "3",
        "--layout",
        "prompt_left",
    ): "--image-token: layout 'prompt_left' has no medium 'image_grid_thw'",
    ("check", "a", "--image-token", "3"): "--image-token needs --per-tile or --per-grid, which say how",
    ("check", "a", "--image-token", str(2**70), "--per-tile", "2"): f"--image-token {2**70}: expected an integer of 64",
    ("inspect", "a"): "cannot read a: No such file or directory",
}


@pytest.mark.parametrize("arguments", ERRORS)
def test_errors_take_one_line(arguments: tuple[str, ...]) -> None:
    done = run(*arguments)
    assert (done.status, done.out) == (2, "")
    assert done.err.startswith(f"dpo-collate: {ERRORS[arguments]}")
    assert done.err.count("\n") == 1


def test_every_option_reaches_the_collator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    collators: list[Any] = []

    class Checker(checking.Checker):
        def __init__(self, collator: dpo_collate.PreferenceCollator, **options: Any) -> None:
            collators.append(collator)
            super().__init__(collator, **options)

    monkeypatch.setattr("dpo_collate.cli.check.Checker", Checker)
    write_parquet(tmp_path / "a.parquet", pairs(2))
    options: dict[str, Any] = {
        "layout": "concatenated",
        "inputs": "split",
        "targets": "labels",
        "pad_token_id": 3,
        "label_pad_token_id": -1,
        "max_length": 64,
        "truncation_mode": "keep_end",
        "row_multiple_of": 2,
        "images": "per_side",
        "return_tensors": "np",
    }
    for width in ({"buckets": (8, 64)}, {"pad_to_multiple_of": 4}):
        wanted = dpo_collate.PreferenceCollator(**options, **width, image_tokens=dpo_collate.ImageTokens(9, per_tile=2))
        given = {**options, **width}
        del given["return_tensors"]  # no tensors are made
        arguments = [f"--{name.replace('_', '-')}={str(value).strip('()')}" for name, value in given.items()]
        run("check", tmp_path / "a.parquet", *arguments, "--image-token=9", "--per-tile=2")
        assert collators[-1] == wanted


def test_bugs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def fail(error: Exception) -> Callable[..., None]:
        def raising(*_: object) -> None:
            raise error

        return raising

    write_parquet(tmp_path / "a.parquet", pairs(2))
    monkeypatch.setattr(checking.Checker, "add", fail(ZeroDivisionError("by nought\nof course")))
    done = run("check", tmp_path / "a.parquet", *SPLIT)
    said = "ZeroDivisionError: by nought: this is a bug in dpo-collate; DPO_COLLATE_TRACEBACK=1 shows where"
    assert done == (2, "", f"dpo-collate: {said}\n")
    monkeypatch.setattr(checking.Checker, "add", fail(MemoryError()))
    assert run("check", tmp_path / "a.parquet", *SPLIT) == (2, "", "dpo-collate: not enough memory\n")
    monkeypatch.setenv(app.TRACEBACK, "1")
    with pytest.raises(MemoryError):
        run("check", tmp_path / "a.parquet", *SPLIT)


def test_python_m(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["dpo_collate", "--version"])
    with pytest.raises(SystemExit) as caught:
        runpy.run_module("dpo_collate", run_name="__main__")
    assert caught.value.code == 0
    assert capsys.readouterr().out == f"dpo-collate {dpo_collate.__version__}\n"
    runpy.run_module("dpo_collate", run_name="imported")  # which does nothing


def test_the_script_of_the_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert project["project"]["scripts"] == {"dpo-collate": "dpo_collate.cli:main"}
    assert project["project"]["optional-dependencies"]["cli"] == project["dependency-groups"]["cli"]


BLOCKED = """
class Blocked:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name.partition(".")[0] in {"typer", "pyarrow", "torch"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Blocked)
"""


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    process = start("--help", program=BLOCKED)
    sentence = "dpo-collate: needs typer and pyarrow: pip install 'dpo_collate[cli]'\n"
    assert (*process.communicate(timeout=120), process.returncode) == ("", sentence, 2)
    monkeypatch.setitem(sys.modules, "rich", None)
    assert run("--help") == (2, "", "dpo-collate: needs rich: pip install 'dpo_collate[cli]'\n")

    def find_spec(name: str) -> None:
        raise ModuleNotFoundError(name)

    monkeypatch.setattr("importlib.util.find_spec", find_spec)
    assert run("--help").err == "dpo-collate: needs typer and rich and pyarrow: pip install 'dpo_collate[cli]'\n"


def test_torch_is_not_needed(tmp_path: Path) -> None:
    write_parquet(tmp_path / "a.parquet", pairs(5))
    process = start("check", tmp_path / "a.parquet", *SPLIT, program=BLOCKED.replace('"typer", "pyarrow", ', ""))
    out, err = process.communicate(timeout=120)
    assert (out, err, process.returncode) == (f"{tmp_path}/a.parquet: 5 rows, no problems\n", "", 0)


def test_a_pipe_that_nobody_reads(tmp_path: Path) -> None:
    write_lines(tmp_path / "a.jsonl", [{**pair(0), "chosen_ids": []}] * 5000)
    with ending(start("check", tmp_path / "a.jsonl", *SPLIT, "--json")) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.read(1) == "{"
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 128 + signal.SIGPIPE


SLOW = """
import signal, time
from dpo_collate.cli import tables
for number in (signal.SIGHUP, signal.SIGTERM):  # which nohup, or a shell's &, has children ignore
    signal.signal(number, signal.SIG_DFL)
signal.signal(signal.SIGINT, signal.default_int_handler)
for writer in (tables.Tables, tables.Lines):
    def write(self, block, good, *, before=writer.write):
        before(self, block, good)
        print("writing", flush=True)
        for _ in range(1000):  # a signal that comes just before a sleep is not looked at before its end
            time.sleep(0.1)
    writer.write = write
"""
ENDINGS = {
    signal.SIGINT: (130, "dpo-collate: interrupted\n"),
    signal.SIGTERM: (143, "dpo-collate: ended by SIGTERM\n"),
    signal.SIGHUP: (129, "dpo-collate: ended by SIGHUP\n"),
}


def test_a_signal_leaves_no_file(tmp_path: Path) -> None:
    write_parquet(tmp_path / "a.parquet", pairs(50))
    (tmp_path / "clean.jsonl").write_text("before")
    names = ["clean.jsonl", "clean.arrow", "clean.parquet"]
    started = [
        start("check", tmp_path / "a.parquet", *SPLIT, "--json", "--write-clean", tmp_path / name, program=SLOW)
        for name in names
    ]
    for process, (number, at_end) in zip(started, ENDINGS.items(), strict=True):
        assert process.stdout is not None
        assert process.stdout.readline() == "writing\n"
        assert len([*tmp_path.glob(".*part*")]) >= 1
        process.send_signal(number)
        out, err = process.communicate(timeout=120)
        assert (process.returncode, err) == at_end
        assert json.loads(out)["error"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.parquet", "clean.jsonl"]
    assert (tmp_path / "clean.jsonl").read_text() == "before"


def test_signals_are_as_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def handler(*_: object) -> None:
        """One that is there already."""

    write_parquet(tmp_path / "a.parquet", pairs(2))
    before = signal.signal(signal.SIGHUP, handler)
    try:
        run("--version")
        assert signal.getsignal(signal.SIGHUP) is handler
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    finally:
        signal.signal(signal.SIGHUP, before)
    statuses: list[int] = []
    monkeypatch.setattr(sys, "argv", ["dpo-collate", "check", str(tmp_path / "a.parquet"), *SPLIT])
    run_in_threads([threading.Thread(target=lambda: statuses.append(main()))])
    assert statuses == [0]


def test_interrupted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The same in this process."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    def end(*_: object) -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    write_parquet(tmp_path / "a.parquet", pairs(2))
    monkeypatch.setattr(checking.Checker, "add", interrupt)
    done = run("check", tmp_path / "a.parquet", *SPLIT, "--json")
    assert (done.status, done.err, json.loads(done.out)["error"]) == (130, "dpo-collate: interrupted\n", "interrupted")
    monkeypatch.setattr(checking.Checker, "add", end)
    assert run("check", tmp_path / "a.parquet", *SPLIT) == (143, "", "dpo-collate: ended by SIGTERM\n")


def test_broken_pipes_in_this_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise BrokenPipeError

    write_parquet(tmp_path / "a.parquet", pairs(2))
    monkeypatch.setattr("dpo_collate.cli.check.show", broken)
    monkeypatch.setattr(os, "dup2", lambda *_: None)
    with open(os.devnull, "w") as nothing:  # noqa: PTH123 - it has a descriptor, as stdout has
        monkeypatch.setattr(sys, "stdout", nothing)
        assert main(["check", str(tmp_path / "a.parquet"), *SPLIT]) == 141


def test_a_terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_parquet(tmp_path / "a.parquet", pairs(50))
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.delenv("NO_COLOR", raising=False)
    done = run("check", tmp_path / "a.parquet", *SPLIT)
    assert "100 %  50 rows" in re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", done.err)
    assert "\x1b[32mno problems\x1b[0m" in done.out
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[32m" not in run("check", tmp_path / "a.parquet", *SPLIT).out


def test_long_lines_stay_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    row = {**pair(0), "chosen_ids": [1, "x" * 100]}
    write_lines(tmp_path / "a.jsonl", [row, pair(1)])
    out = run("check", tmp_path / "a.jsonl", *SPLIT).out
    assert len(out.splitlines()) == 4


@pytest.mark.parametrize("errors", ["strict", "replace"])
def test_what_an_encoding_lacks_is_escaped(errors: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_lines(tmp_path / "a.jsonl", [{**pair(index), "chosen_ids": []} for index in range(9)])
    out = io.TextIOWrapper(io.BytesIO(), "ascii", errors=errors)
    monkeypatch.setattr(sys, "stdout", out)
    assert main(["check", str(tmp_path / "a.jsonl"), *SPLIT]) == 1
    assert out.errors == errors
    more = "\\u2026" if errors == "strict" else "?"
    assert f"  {more} and 6 more\n".encode() in out.buffer.getvalue()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux has a file that is always full")
def test_an_output_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_lines(tmp_path / "a.jsonl", pairs(2))
    with open("/dev/full", "w") as full:  # noqa: PTH123 - as stdout is opened
        monkeypatch.setattr(sys, "stdout", full)
        with redirect_stderr(io.StringIO()) as err:
            assert main(["check", str(tmp_path / "a.jsonl"), *SPLIT]) == 2
        monkeypatch.undo()
        with suppress(OSError):
            full.close()
    assert err.getvalue() == "dpo-collate: cannot write the output: [Errno 28] No space left on device\n"


def test_no_output_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_lines(tmp_path / "a.jsonl", pairs(2))
    monkeypatch.setattr(sys, "stdout", None)
    assert main(["check", str(tmp_path / "a.jsonl"), *SPLIT]) == 0


def test_a_found_kind_is_counted_once_a_row() -> None:
    problem = checking.Problem
    found = report.Found(
        "a", 4, [problem(0, "a", "x", "one"), problem(0, "b", "x", "two"), problem(0, None, "y", "three")]
    )
    assert {kind: [str(each) for each in problems] for kind, problems in found.kinds().items()} == {
        "x": ["one"],
        "y": ["three"],
    }
    assert (found.bad(), found.dropped()) == (1, {"x": 1})


def test_clean_file_has_the_mode_of_any_file(tmp_path: Path) -> None:
    write_parquet(tmp_path / "a.parquet", pairs(2))
    assert run("check", tmp_path / "a.parquet", *SPLIT, "--write-clean", tmp_path / "b.jsonl").status == 0
    assert (tmp_path / "b.jsonl").stat().st_mode == (tmp_path / "a.parquet").stat().st_mode
    assert read(tmp_path / "b.jsonl") == pairs(2)
