"""Waits that end. A signal, as pytest-timeout sends one, ends a wait but once: what then waits again waits for ever."""

from __future__ import annotations

import os
import signal
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import subprocess
    import threading
    from collections.abc import Iterable, Iterator

MOST_SECONDS = 120.0
"""So long it is waited for what takes a moment."""


def ended(process: int, seconds: float = MOST_SECONDS) -> int:
    """The exit code of a process that this one has forked, which is killed if it goes on for too long."""
    deadline = time.monotonic() + seconds
    pause = 0.0005
    while True:
        found, status = os.waitpid(process, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > deadline:
            os.kill(process, signal.SIGKILL)
            os.waitpid(process, 0)
            raise TimeoutError(f"process {process} had not ended after {seconds} s")
        time.sleep(pause)
        pause = min(2 * pause, 0.02)


def joined(threads: Iterable[threading.Thread], seconds: float = MOST_SECONDS) -> None:
    """Waits until the threads have ended."""
    deadline = time.monotonic() + seconds
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
        if thread.is_alive():
            raise TimeoutError(f"{thread.name} had not ended after {seconds} s")


def run_in_threads(threads: Iterable[threading.Thread]) -> None:
    """Starts threads and waits until they have ended; one that does not keeps no interpreter from ending."""
    every = list(threads)
    for thread in every:
        thread.daemon = True
        thread.start()
    joined(every)


@contextmanager
def ending(process: subprocess.Popen[str]) -> Iterator[subprocess.Popen[str]]:
    """A process that ends with the block. (``Popen``'s own would wait for it.)"""
    try:
        yield process
        process.wait(MOST_SECONDS)
    finally:
        process.kill()
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe is not None:
                with suppress(OSError):  # nobody reads what was left in it
                    pipe.close()
        process.wait()
