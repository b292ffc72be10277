"""The command line: ``dpo-collate check`` and ``dpo-collate inspect`` (extra ``cli``). ``docs/cli.md`` shows it.

============  ========================================================================================
``app``       the program: its commands, what its errors look like, how it ends
``options``   the options of a collator, which all commands have
``files``     opens data: one file, or several; ``folders`` finds them; ``json_lines`` reads lines
``cleaned``   writes the rows that are right
``check``     ``dpo-collate check``; ``report`` shows what it found
``inspect``   ``dpo-collate inspect``
============  ========================================================================================
"""

from __future__ import annotations

import importlib.util
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_NEEDED = ("typer", "rich", "pyarrow")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the program.

    Args:
        arguments: What follows the program's name; None: those of this process.

    Returns:
        The exit status: 0 if all is well, 1 if ``check`` found problems, 2 if it could not run, more than 128 if a
        signal ended it.

    Example:
        >>> from dpo_collate.cli import main
        >>> main(["--version"])  # doctest: +ELLIPSIS
        dpo-collate ...
        0
    """
    missing = [name for name in _NEEDED if not _is_there(name)]
    if missing:
        print(  # noqa: T201 - a program
            f"dpo-collate: needs {' and '.join(missing)}: pip install 'dpo_collate[cli]'", file=sys.stderr
        )
        return 2
    from .app import run  # noqa: PLC0415 - needs what may be missing

    return run(sys.argv[1:] if arguments is None else arguments)


def _is_there(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):
        return False
