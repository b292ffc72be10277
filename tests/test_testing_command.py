"""The program ``python -m dpo_collate.testing``: what it tries, finds, writes down and says."""

from __future__ import annotations

import array
import importlib.util
import io
import json
import multiprocessing
import runpy
import subprocess
import sys
import types
from collections import OrderedDict, UserDict
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import find, given, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from rich.console import Console
from torch.utils.data import get_worker_info

from dpo_collate import PreferenceCollator
from dpo_collate.layout import Column, Layout, Matrix
from dpo_collate.testing.__main__ import main
from dpo_collate.testing.comparing import fingerprint
from dpo_collate.testing.drawing.kinds import Convertible, OwnArray, OwnMapping, OwnTensor, Token, TokenList
from dpo_collate.testing.fuzzing import cases as fuzz_cases
from dpo_collate.testing.fuzzing import properties
from dpo_collate.testing.fuzzing import run as fuzzing
from dpo_collate.testing.fuzzing.cases import ALL_KINDS, ARROW, SUBJECTS, cases, options_of, subjects
from dpo_collate.testing.fuzzing.literals import Code
from dpo_collate.testing.fuzzing.properties import broken, through_a_worker
from dpo_collate.testing.fuzzing.run import Totals, fuzz
from dpo_collate.testing.fuzzing.shown import Watch, make_console, print_report
from dpo_collate.trainers.torchtune import padded_collate_dpo
from fewer import fewer
from figures import note

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")


def made(code: str, imports: Any) -> Any:
    """What an expression makes."""
    names: dict[str, Any] = {}
    exec("\n".join(imports), names)
    return eval(code, names)


@pytest.mark.parametrize("subject", SUBJECTS)
@fewer(50)
@given(data=st.data())
def test_every_property_holds_also_of_what_is_written_down(subject: str, data: st.DataObject) -> None:
    case = data.draw(cases(subject))
    how: dict[str, Any] = {"min_length": case.min_length, "agree": case.agree}
    assert broken(case.collate, case.samples, case.expected, **how) is None
    assert set(case.options) <= set(options_of(subject)) | {"pad_token_id"}
    code = Code()
    again = made(code.of([case.collate, case.samples, case.expected]), code.imports)
    assert repr(again[2]) == repr(case.expected)
    assert broken(*again, **how) is None


VALUES: list[Any] = [
    [None, True, 2, -0.0, float("inf"), "text", b"bytes", (), (1,), {"a": [1]}],
    torch.tensor([[1, 2], [3, 4]], dtype=torch.int32),
    torch.arange(12)[3:9:2],
    torch.tensor([1.5, -2]).to(torch.bfloat16),
    torch.tensor(1.5, requires_grad=True),
    torch.ones(2, 3).T,
    torch.tensor([1]).expand(4),
    torch.empty(0, 3),
    torch.complex(torch.zeros(3), torch.arange(3.0)).conj().imag,
    torch.nn.Parameter(torch.ones(2), requires_grad=False),
    torch.ones(2).as_subclass(OwnTensor),
    np.array([[1, 2]], np.int16),
    np.arange(6)[::-1],
    np.arange(6).reshape(2, 3).T,
    np.arange(6)[1::2],
    np.broadcast_to(np.int8(3), (4,)),
    np.arange(3, dtype=">i4"),
    np.frombuffer(b"\1" + bytes(16), "int64", 2, 1),
    np.zeros((0, 2), ">f4"),
    np.ones(2).view(OwnArray),
    np.float32(1.5),
]


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_values_are_made_again_as_they_lie_in_memory(value: Any) -> None:
    code = Code()
    again = made(code.of(value), code.imports)
    assert type(again) is type(value)
    if isinstance(value, torch.Tensor):
        facts = [(one.dtype, one.shape, one.stride(), one.is_neg(), one.requires_grad) for one in (value, again)]
        assert facts[0] == facts[1]
    if isinstance(value, np.ndarray):
        found = [(one.dtype, one.shape, one.strides, one.flags.aligned, one.flags.writeable) for one in (value, again)]
        assert found[0] == found[1]
    assert repr(again) == repr(value)


@pytest.mark.parametrize(
    "value",
    [
        array.array("q", [1, 2]),
        memoryview(array.array("i", [1, 2])),
        OrderedDict(a=1),
        UserDict(a=1),
        types.MappingProxyType({"a": [1]}),
        OwnMapping({"a": 1}),
        TokenList([1, Token(2)]),
        Convertible(np.arange(2)),
        partial(padded_collate_dpo, padding_idx=7),
        PreferenceCollator("concatenated", pad_token_id=0, max_length=8),
        PreferenceCollator(Layout("own", (Matrix((("chosen",),), (Column("ids"),)),)), pad_token_id=1),
        pa.table({"chosen_ids": [[1, 2], None]}),
        1j,
    ],
    ids=lambda value: type(value).__name__,
)
def test_other_objects_are_made_again(value: Any) -> None:
    def seen(one: Any) -> Any:
        if isinstance(one, partial):
            return one.func, one.keywords
        if hasattr(one, "tolist"):
            return one.tolist()
        if isinstance(one, Convertible):
            return one.values.tolist()
        return dict(one) if hasattr(one, "items") else one

    code = Code()
    again = made(code.of(value), code.imports)
    assert type(again) is type(value)
    assert seen(again) == seen(value)


# --- bugs that are put there ----------------------------------------------------------------------

plain: Any = PreferenceCollator.__call__
calls = [0]


def wrong_cell(self: Any, samples: Any, **options: Any) -> Any:
    batch = plain(self, samples, **options)
    if batch["rejected_labels"].shape[1] >= 3:
        batch["rejected_labels"][-1, 2] += 1
    return batch


def writes(self: Any, samples: Any, **options: Any) -> Any:
    batch = plain(self, samples, **options)
    samples[0]["written"] = 1
    return batch


def forgets(self: Any, samples: Any, **options: Any) -> Any:
    calls[0] += 1
    batch = plain(self, samples, **options)
    return dict(reversed(batch.items())) if calls[0] % 2 == 0 else batch


def other_arrays(self: Any, samples: Any, **options: Any) -> Any:
    batch = plain(self, samples, **options)
    return batch | {"margin": np.zeros(1)} if self.return_tensors == "np" else batch


def says_nothing(self: Any, samples: Any, **options: Any) -> Any:
    try:
        return plain(self, samples, **options)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise type(error)("no") from None


def breaks(self: Any, samples: Any, **options: Any) -> Any:
    try:
        return plain(self, samples, **options)
    except (KeyError, TypeError, ValueError, OverflowError):
        raise RuntimeError("a bug") from None


def in_workers(self: Any, samples: Any, **options: Any) -> Any:
    batch = plain(self, samples, **options)
    return batch if get_worker_info() is None else {}


BUGS: dict[str, tuple[Any, str]] = {
    "a cell": (wrong_cell, "the batch is not what the layout says"),
    "samples": (writes, "the samples have changed"),
    "a second batch": (forgets, "the second batch of the same samples is another one"),
    "arrays": (other_arrays, "return_tensors='np' gives another batch than 'pt'"),
    "a sentence": (says_nothing, "the error does not name the sample: no"),
    "an error": (breaks, "the batch is not what the layout says (a bug)"),
    "workers": (in_workers, "the batch that comes from a worker is another one"),
}

TRACED = ("a cell", "workers")
"""The others reach no other lines."""


@pytest.mark.parametrize(
    "name", [*TRACED, *(pytest.param(name, marks=pytest.mark.no_cover) for name in BUGS if name not in TRACED)]
)
def test_a_bug_is_found_and_its_script_fails_until_it_is_mended(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bug, sentence = BUGS[name]
    calls[0] = 0
    monkeypatch.setattr(PreferenceCollator, "__call__", bug)
    status = main(
        [
            "--layout",
            "separate",
            "--seconds",
            "0.01" if name == "workers" else "600",
            "--seed",
            "1",
            "--out",
            str(tmp_path / "new"),
        ]
    )
    said = capsys.readouterr().out
    script = tmp_path / "new" / "repro_separate_1.py"
    assert status == 1
    assert f"separate: {sentence}\n    python {script}\n" in said
    calls[0] = 0
    with pytest.raises(AssertionError, match=sentence.partition("(")[0].strip()):
        runpy.run_path(str(script))
    assert "expected: (" in capsys.readouterr().out
    monkeypatch.undo()
    found = runpy.run_path(str(script))
    expected, shown = capsys.readouterr().out.splitlines()
    assert expected.partition(":")[2].strip() == shown.partition(":")[2].strip()
    if name == "a cell":
        assert [len(sample["rejected_labels"]) <= 3 for sample in found["samples"]] == [True]
        done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")


def test_a_bug_that_is_seen_once_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def once(self: Any, samples: Any, **options: Any) -> Any:
        calls[0] += 1
        return {} if calls[0] == 5 else plain(self, samples, **options)

    calls[0] = 0
    monkeypatch.setattr(PreferenceCollator, "__call__", once)
    totals = fuzz(["separate"], seconds=5, seed=1, out=tmp_path, tell=lambda *_: None)
    assert len(totals.findings) == 1
    assert totals.executions > totals.batches


# --- what it says ---------------------------------------------------------------------------------


def figures(tmp_path: Path, *arguments: str) -> dict[str, float]:
    assert main([*arguments, "--json", str(tmp_path / "totals.json"), "--out", str(tmp_path)]) == 0
    found: dict[str, float] = json.loads((tmp_path / "totals.json").read_text())
    return found


def test_a_run_says_what_it_has_tried(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ("--layout", "random", "--seconds", "0.01", "--seed", "7")
    found = figures(tmp_path, *arguments)
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert f"seed 7: {found['batches']} batches of {found['rows']} samples in" in out
    assert "never" in out
    assert found["batches"] == found["executions"] == found["sent"] == 20
    assert found["most_layouts"] == 1
    again = figures(tmp_path, *arguments)
    assert again | {"seconds": 0} == found | {"seconds": 0}
    assert [path.name for path in tmp_path.iterdir()] == ["totals.json"]
    note("kit", **{name: found[name] for name in ("seconds", "batches", "most_layouts", "findings")})


def test_tables_count_what_was_drawn(capsys: pytest.CaptureFixture[str]) -> None:
    totals = Totals(3, seconds=2.0, batches=10)
    totals.kinds["trl", "list"] = 4
    totals.options["trl", "pad_token_id"] = 5
    totals.rows["trl"] = 6
    print_report(make_console(), totals, ("separate", "trl"))
    out = capsys.readouterr().out
    rows = [line.split() for line in out.splitlines()]
    assert ["trl", "4", "6", "4", *["never"] * (len(ALL_KINDS) - 1)] in rows
    assert ["pad_token_id", "5"] in rows
    assert ["max_length", "never"] in rows
    assert "seed 3: 10 batches of 6 samples in 2.0 s (5/s)" in out


def test_ctrl_c_ends_it_with_its_tables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def tell(_watch: Any, totals: Totals, _subject: str) -> None:
        if totals.batches:
            raise KeyboardInterrupt

    monkeypatch.setattr(Watch, "tell", tell)
    monkeypatch.setattr(fuzzing, "SENT_TOGETHER", 20)
    assert figures(tmp_path, "--layout", "separate", "--seconds", "1000")["batches"] == 20
    assert "20 batches of" in capsys.readouterr().out


def test_progress_on_a_terminal_and_on_a_pipe() -> None:
    totals = Totals(0, batches=50, seconds=5.0)
    for terminal in (True, False):
        console = Console(force_terminal=terminal, width=100, record=True, file=io.StringIO())
        with Watch(console, 10) as watch:
            watch.tell(totals, "separate")
            watch.tell(totals, "separate")
        assert ("5 s: 50 batches, 10/s, 0 findings\n" in console.export_text()) != terminal


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--layout", "sideways"], "layout 'sideways': expected 'all', 'separate', 'concatenated'"),
        (["--seconds", "0"], "--seconds 0.0: expected a positive number"),
        (["--seconds", "nan"], "--seconds nan: expected a positive number"),
        (["--seed", "x"], "argument --seed: invalid int value: 'x'"),
    ],
)
def test_wrong_usage(arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert sentence in capsys.readouterr().err


def test_without_rich(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.delitem(sys.modules, "dpo_collate.testing.fuzzing.shown")
    monkeypatch.setitem(sys.modules, "rich", None)
    with pytest.raises(SystemExit):
        main([])
    assert "the extra 'testing' of dpo_collate has it\n" in capsys.readouterr().err


def test_the_module_is_a_program(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["dpo_collate.testing", "--help"])
    with pytest.raises(SystemExit) as ended, pytest.warns(RuntimeWarning, match="found in sys.modules"):
        runpy.run_module("dpo_collate.testing", run_name="__main__")
    assert ended.value.code == 0
    assert "Exit statuses: 0 nothing was found, 1 something was, 2 wrong" in capsys.readouterr().out


def test_what_can_be_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert subjects("all") == SUBJECTS
    assert subjects("random") == ("random", "wildcards")
    assert subjects("trl") == ("trl",)
    # Without pyarrow there are no tables, and without fork no workers.
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    monkeypatch.setattr(multiprocessing, "get_all_start_methods", lambda: ["spawn"])
    monkeypatch.setattr(fuzzing, "can_fork", properties.can_fork)
    totals = fuzz(["torchtune"], seconds=0.01, seed=1, out=tmp_path, tell=lambda *_: None)
    assert totals.batches == 20
    assert totals.sent == totals.kinds["torchtune", ARROW] == 0


def test_options_that_do_not_go_with_a_table_are_not_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fuzz_cases, "collators", lambda *_, **__: st.builds(int, st.just("x")))
    with pytest.raises(Unsatisfiable):
        find(cases("random"), lambda _case: True, settings=settings(database=None))


def test_workers_send_what_is_made_here() -> None:
    sample = {f"{side}_{of}": [1, 2] for side in ("chosen", "rejected") for of in ("input_ids", "labels")}
    collator = PreferenceCollator(pad_token_id=0)
    calls_: list[tuple[Any, Any, int | None]] = [
        (collator, [sample], None),
        (collator, [sample], 5),
        (collator, [], None),
    ]
    here = [properties.outcome(*call)[0] for call in calls_]
    assert here[2] == ("an error", "ValueError")
    assert through_a_worker(calls_) == here
    batches = properties._Batches(calls_)
    assert [batches[index][0] for index in range(len(batches))] == ["a batch", "a batch", "an error"]
    assert properties._as_it_is(sample) is sample
    assert fingerprint(sample) == fingerprint(sample)


def test_nan_is_not_a_change() -> None:
    samples = [{"margin": torch.tensor(float("nan"))}]
    before = fingerprint(samples)
    assert fingerprint(samples) == before
    samples[0]["margin"].fill_(0)
    assert fingerprint(samples) != before


def test_a_table_of_which_a_batch_is_one_array() -> None:
    table = Layout("own", (Matrix((("chosen",),), (Column("ids"),), tokens="{}_ids"),), returns="ids")
    collate = PreferenceCollator(table, pad_token_id=0)
    samples = [{"chosen_ids": [1]}]
    expected, _ = properties.outcome(collate, samples)
    assert broken(collate, samples, expected) is None
