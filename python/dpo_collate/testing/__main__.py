"""``python -m dpo_collate.testing``: a fuzz run of ``PreferenceCollator`` against what layouts mean."""

from __future__ import annotations

import argparse
import json
import random
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from .fuzzing.cases import SUBJECTS, subjects
from .fuzzing.run import fuzz

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the program.

    Args:
        arguments: Those of the command line; None: the process's own.

    Returns:
        The exit status: 0 nothing was found, 1 something was. (2, wrong arguments, is a ``SystemExit``.)
    """
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        from .fuzzing.shown import Watch, make_console, print_report  # noqa: PLC0415 - what rich is needed for
    except ModuleNotFoundError as missing:
        parser.error(f"{missing}; the extra 'testing' of dpo_collate has it")
    try:
        wanted = subjects(options.layout)
    except ValueError as error:
        parser.error(str(error))
    if not 0 < options.seconds < float("inf"):
        parser.error(f"--seconds {options.seconds}: expected a positive number")
    seed = random.SystemRandom().getrandbits(32) if options.seed is None else options.seed
    console = make_console()
    with Watch(console, options.seconds) as watch:
        totals = fuzz(wanted, seconds=options.seconds, seed=seed, out=options.out, tell=watch.tell)
    print_report(console, totals, wanted)
    if options.json is not None:
        options.json.write_text(json.dumps(totals.figures()) + "\n", encoding="utf-8")
    return 1 if totals.findings else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m dpo_collate.testing",
        description="Tries PreferenceCollator with random batches, and compares each with what its layout means in "
        "plain Python. Of what is found a script is written that shows it.",
        epilog="Exit statuses: 0 nothing was found, 1 something was, 2 wrong arguments. Ctrl-C ends a run early, with "
        f"its tables. Layouts: {', '.join(SUBJECTS)}.",
    )
    parser.add_argument(
        "--layout", default="all", metavar="NAME", help="a layout or drop-in (see below), random, or all"
    )
    parser.add_argument("--seconds", type=float, default=60.0, metavar="S", help="how long (default: 60)")
    parser.add_argument(
        "--seed", type=int, metavar="N", help="the same seed draws the same batches (default: a new one)"
    )
    parser.add_argument(
        "--out", type=Path, default=Path(), metavar="DIR", help="folder for scripts (default: this one)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the totals to FILE as well")
    return parser


if __name__ == "__main__":
    sys.exit(main())
