"""The waits of tests end."""

from __future__ import annotations

import subprocess
import sys
import threading

import pytest

import bounded
from bounded import ended, ending, joined, run_in_threads
from loaders import run, succeeds

FORKED = """
import os, time
from bounded import ended

def fork(work):
    child = os.fork()
    if not child:
        work()
        os._exit(7)
    return child

print(ended(fork(lambda: None)))
child = fork(lambda: time.sleep(1000))
try:
    ended(child, 0.01)
except TimeoutError as error:
    print(str(error).replace(str(child), "PID"))
try:
    os.waitpid(-1, 0)
except ChildProcessError:
    print("none is left")
"""


def test_a_forked_process_is_waited_for() -> None:
    assert succeeds(FORKED) == "7\nprocess PID had not ended after 0.01 s\nnone is left\n"
    with pytest.raises(ChildProcessError):
        ended(2**22 - 1)


def test_threads_are_waited_for() -> None:
    found: list[int] = []
    run_in_threads(threading.Thread(target=found.append, args=(number,)) for number in (1, 2))
    assert sorted(found) == [1, 2]
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait, name="a thread", daemon=True)
    thread.start()
    with pytest.raises(TimeoutError, match=r"^a thread had not ended after 0\.01 s$"):
        joined([thread], 0.01)
    stop.set()
    joined([thread])


def test_a_process_ends_with_its_block(monkeypatch: pytest.MonkeyPatch) -> None:
    command = [sys.executable, "-c", "print(1, flush=True); input()"]
    pipe = subprocess.PIPE

    def start() -> subprocess.Popen[str]:
        return subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True)

    with ending(start()) as process:
        process.communicate("\n", timeout=60)
    assert process.returncode == 0
    with pytest.raises(ZeroDivisionError), ending(start()) as process:
        raise ZeroDivisionError
    assert process.returncode == -9
    monkeypatch.setattr(bounded, "MOST_SECONDS", 0.01)
    with pytest.raises(subprocess.TimeoutExpired), ending(start()) as process:
        pass
    assert process.returncode == -9


def test_a_program_that_hangs_says_where() -> None:
    done = run("import time\ndef here():\n    time.sleep(1000)\nhere()", timeout=2)
    assert done.returncode == 1
    assert "Timeout (0:00:02)!" in done.stderr
    assert "in here" in done.stderr
