"""A fuzz run: batches of every layout, kind of object and option, until time is over or something breaks."""

from __future__ import annotations

import contextlib
import importlib.util
import random
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from hypothesis import HealthCheck, Phase, Verbosity, errors, given, seed, settings

from .cases import ALL_KINDS, ARROW, Case, cases
from .properties import broken, can_fork, refused, through_a_worker
from .scripts import write_script, written

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from .properties import Told

EXAMPLES: Final = 20
"""So many batches of one layout follow one another."""

SENT_TOGETHER: Final = 40
"""So many batches are made and sent by a worker at a time: to start one takes as long as to try ten."""

_SETTINGS: Final = settings(
    max_examples=EXAMPLES,
    database=None,
    deadline=None,
    phases=[Phase.generate, Phase.shrink],
    report_multiple_bugs=False,
    print_blob=False,
    suppress_health_check=list(HealthCheck),
    verbosity=Verbosity.quiet,
)


class _Broken(Exception):  # noqa: N818 - what is raised and caught here alone
    """A batch of which a property does not hold."""


@dataclass(frozen=True)
class Finding:
    """What a run has found: the smallest batch that shows it."""

    case: Case
    sentence: str
    found: Told
    script: Path


@dataclass
class Totals:
    """What a run has done."""

    seed: int
    kinds: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Batches of each layout and kind of object."""
    options: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Batches of each layout and option that was not as it is by default."""
    rows: Counter[str] = field(default_factory=Counter)
    """Samples of each layout."""
    batches: int = 0
    refused: int = 0
    """Batches that the reference refuses as well."""
    executions: int = 0
    """Batches that were tried, those that made a finding smaller included."""
    sent: int = 0
    """Batches that a worker made and sent."""
    seconds: float = 0.0
    findings: list[Finding] = field(default_factory=list)

    def figures(self) -> dict[str, float]:
        """All of it in numbers."""
        return {
            "seed": self.seed,
            "seconds": round(self.seconds, 3),
            "batches": self.batches,
            "rows": self.rows.total(),
            "refused": self.refused,
            "executions": self.executions,
            "sent": self.sent,
            "most_layouts": len(self.rows),
            "findings": len(self.findings),
        }


def fuzz(
    subjects: Sequence[str], *, seconds: float, seed: int, out: Path, tell: Callable[[Totals, str], None]
) -> Totals:
    """Try batches until time is over, a whole round of ``EXAMPLES`` at a time. Ctrl-C ends it early.

    Args:
        subjects: What is tried, in turn: see ``cases.SUBJECTS``. One of which something is found is left out from
            then on.
        seconds: How long.
        seed: The same seed draws the same batches, as far as time goes.
        out: The folder for scripts that show what is found.
        tell: Called before each round with what is done by then and the layout that comes next.
    """
    totals = Totals(seed)
    begin = time.monotonic()
    kinds = ALL_KINDS if has_arrow() else tuple(kind for kind in ALL_KINDS if kind != ARROW)
    left, waiting, turn = list(subjects), [], 0  # type: list[str], list[Case], int
    try:
        while left and totals.seconds < seconds:
            subject = left[turn % len(left)]
            tell(totals, subject)
            drawn = _Round(totals, subject, kinds, random.Random(f"{seed} {subject} {turn}").getrandbits(64))  # noqa: S311 - no secret
            drawn.run()
            if drawn.last is None:
                waiting += drawn.tried
            if drawn.last is None and len(waiting) >= SENT_TOGETHER:
                drawn.last = _sent(totals, waiting)
                waiting = []
            if drawn.last is not None:
                _note(totals, drawn.last, out)
                left = [each for each in left if each != drawn.last[0].subject]
            turn += 1
            totals.seconds = time.monotonic() - begin
        shown = _sent(totals, waiting)
        if shown is not None:
            _note(totals, shown, out)
    except KeyboardInterrupt:
        pass
    totals.seconds = time.monotonic() - begin
    return totals


_Shown = tuple[Case, str, Any, bool, Any]
"""A case, what does not hold of it, what was found, whether it shows only where batches are sent, and the code."""


class _Round:
    """Some batches of one layout, drawn by one seed; and the smallest of those that show something."""

    def __init__(self, totals: Totals, subject: str, kinds: Sequence[str], number: int) -> None:
        self.totals, self.subject, self.kinds, self.number = totals, subject, kinds, number
        self.tried: list[Case] = []
        self.last: _Shown | None = None

    def run(self) -> None:
        """Draws and tries them."""

        @seed(self.number)
        @_SETTINGS
        @given(cases(self.subject, self.kinds))
        def tries(case: Case) -> None:
            self._try(case)

        with contextlib.suppress(_Broken, errors.Flaky):  # (what is not always wrong is wrong)
            tries()

    def _try(self, case: Case) -> None:
        totals = self.totals
        totals.executions += 1
        if self.last is None:
            self.tried.append(case)
            totals.batches += 1
            totals.rows[case.subject] += case.rows
            totals.refused += refused(case.expected)
            totals.kinds[case.subject, case.kind] += 1
            totals.options.update((case.subject, option) for option in case.options)
        code = None if self.last is None else written(case)
        shown = broken(case.collate, case.samples, case.expected, min_length=case.min_length, agree=case.agree)
        if shown is not None:
            self.last = (case, *shown, False, code)
            raise _Broken


def _sent(totals: Totals, tried: Sequence[Case]) -> _Shown | None:
    """Has a worker make the batches and send them, and returns the smallest that comes as another one."""
    if not tried or not can_fork():
        return None
    found = through_a_worker([(case.collate, case.samples, case.min_length) for case in tried])
    totals.sent += len(found)
    wrong = [(case, told) for case, told in zip(tried, found, strict=True) if told != case.expected]
    if not wrong:
        return None
    case, told = min(wrong, key=lambda pair: len(repr(pair[0].expected)))
    return case, "the batch that comes from a worker is another one", told, True, None


def _note(totals: Totals, shown: _Shown, out: Path) -> None:
    case, sentence, found, sent, code = shown
    script = write_script(case, code or written(case), sentence, out=out, seed=totals.seed, sent=sent)
    totals.findings.append(Finding(case, sentence, found, script))


def has_arrow() -> bool:
    """Whether there can be tables."""
    return importlib.util.find_spec("pyarrow") is not None
