"""Calls that the system refuses, and processes killed between two steps: nothing is wrong, lost or left.

All cases take hours (``python tests/injections.py all 1 3600`` does an hour of them); here is a part.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import sys
from itertools import product

import pytest

from injections import TARGETS, kills, limits, refusals
from loaders import run

STRIDE = os.environ.get("DPO_COLLATE_INJECTION", "401")
"""One step of so many at which processes are killed."""

pytestmark = [
    pytest.mark.skipif((sys.platform, platform.machine()) != ("linux", "x86_64"), reason="numbers of system calls"),
    pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler"),
]


def test_a_part_of_all_refusals_and_kills() -> None:
    done = run("import injections, sys; sys.exit(injections.main('sample', sys.argv[1], '120'))", STRIDE)
    if "processes cannot be traced here" in done.stderr:
        pytest.skip("processes cannot be traced here")
    assert done.returncode == 0, done.stdout + done.stderr  # (which has what torch's queues say of errors)
    said = json.loads(done.stdout.splitlines()[-1])
    assert said["problems"] == []
    assert said["cases"] > 12
    assert said["worker_kills"] > 2
    assert said["training_kills"] > 0
    assert said["fallbacks"] > 2
    assert said["most_bytes_left"] == 0


def test_all_that_there_is_has_both_processes_at_both_marks() -> None:
    """Series are made first and gone through afterwards."""
    for series in (refusals, limits, kills):
        firsts = [next(steps) for steps in [*series(1)]]
        assert {(step.target, step.mark) for step in firsts} == {*product(TARGETS, (0, 3))}
