"""A few seconds of the soak, which ``make soak`` runs for as long as it is told."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from soak import is_torchs


def test_a_few_seconds() -> None:
    command = [sys.executable, "-W", "ignore", str(Path(__file__).parent / "soak.py"), "--seconds", "4", "--seed", "4"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=150)
    assert done.returncode == 0, done.stdout + done.stderr
    said = json.loads(done.stdout)
    assert (said["differences"], said["problems"]) == (0, [])
    assert said["batches"] > 20
    assert said["trainer_kills"] > 0


def test_what_is_left_is_torchs_only_where_every_process_waits_for_its_lock() -> None:
    stack = (
        'Fatal Python error: Aborted\n\nCurrent thread 0x1 (most recent call first):\n  File "/lib/{}", line 9 in f\n'
    )
    lock, ours = stack.format("multiprocessing/synchronize.py"), stack.format("dpo_collate/_messages.py")
    assert [is_torchs(text) for text in (lock, lock + lock, ours, lock + ours, "")] == [True, True, False, False, False]
