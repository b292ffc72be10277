"""The program ``dpo-collate``: its commands, what its errors look like, and how it ends."""

from __future__ import annotations

import os
import signal
import sys
import threading
from contextlib import contextmanager
from io import TextIOWrapper
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer
from typer.exceptions import TyperException

from dpo_collate import __version__

from .check import check
from .failure import Failure, reason
from .inspect import inspect

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

TRACEBACK = "DPO_COLLATE_TRACEBACK"
"""The environment variable that asks for the traceback of an error."""

app = typer.Typer(
    name="dpo-collate",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("check")(check)
app.command("inspect")(inspect)


def _version(wanted: bool) -> None:  # noqa: FBT001 - typer calls it
    if wanted:
        typer.echo(f"dpo-collate {__version__}")
        raise typer.Exit


@app.callback()
def _program(
    *,
    version: Annotated[
        bool, typer.Option("--version", metavar="", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Look at preference pairs before you train on them: what is wrong with them, and what batches they make.

    Each command has its own --help, with examples.

    Exit statuses: 0 all is well, 1 there are problems, 2 it could not run,
    more than 128 a signal ended it (130: Ctrl-C).
    """


def run(arguments: Sequence[str]) -> int:
    """Runs the program, and says in one line what ended it.

    Returns:
        The exit status.
    """
    command = typer.main.get_command(app)
    try:
        with _signals(), _printable(sys.stdout):
            status = command.main(list(arguments), prog_name="dpo-collate", standalone_mode=False)
            if sys.stdout is not None:
                sys.stdout.flush()
    except (BrokenPipeError, SystemExit):  # the latter is typer's for the former
        # What reads our output has ended (`| head`); Python would say so once more when it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except _Ended as ended:
        return _say(str(ended), 128 + ended.number)
    except Exception as error:
        if os.environ.get(TRACEBACK):
            raise
        sentence = _sentence(error)
        return _say(sentence, 2) if sentence else 2
    return _say("interrupted", status) if status == 128 + signal.SIGINT else int(status or 0)


def _sentence(error: Exception) -> str:
    if isinstance(error, TyperException):
        sentence = error.format_message().replace("Value error, ", "")
        return f"{sentence} (dpo-collate --help)" if sentence else ""  # else the help is shown already
    if isinstance(error, Failure):
        return str(error)
    if isinstance(error, MemoryError):
        return "not enough memory"
    if isinstance(error, OSError):  # of files it is a Failure
        return f"cannot write the output: {reason(error)}"
    return f"{type(error).__name__}: {reason(error)}: this is a bug in dpo-collate; {TRACEBACK}=1 shows where"


def _say(sentence: str, status: int) -> int:
    print(f"dpo-collate: {sentence}", file=sys.stderr)  # noqa: T201 - a program
    return status


class _Ended(BaseException):
    """A signal came that asks the program to end."""

    def __init__(self, number: int) -> None:
        super().__init__(f"ended by {signal.Signals(number).name}")
        self.number = number


@contextmanager
def _printable(stream: TextIO | None) -> Iterator[None]:
    """What the encoding of a terminal or a pipe lacks is escaped: names of files and of columns may be anything."""
    if not isinstance(stream, TextIOWrapper) or stream.errors != "strict":
        yield
        return
    stream.reconfigure(errors="backslashreplace")
    try:
        yield
    finally:
        stream.reconfigure(errors="strict")


@contextmanager
def _signals() -> Iterator[None]:
    """Signals that end the program are exceptions, so that what it was writing is removed."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def ended(number: int, _: Any) -> None:
        raise _Ended(number)

    ours = [number for number in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(number) == signal.SIG_DFL]
    for number in ours:
        signal.signal(number, ended)
    try:
        yield
    finally:
        for number in ours:
            signal.signal(number, signal.SIG_DFL)
