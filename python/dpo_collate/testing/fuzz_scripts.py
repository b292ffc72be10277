"""Scripts that show a finding: plain Python files that run alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .literals import Code

if TYPE_CHECKING:
    from pathlib import Path

    from .fuzz_cases import Case

_SCRIPT = '''"""{sentence}.

Found by `python -m dpo_collate.testing --layout {subject} --seed {seed}`, and made smaller.
"""

{imports}

collate = {collate}
samples = {samples}
expected = {expected}

found, said = outcome(collate, samples, {min_length})
print("expected:", expected)
print("found:   ", found, said)
wrong = broken(collate, samples, expected, min_length={min_length}, agree={agree}, sent={sent})
assert wrong is None, "{{}}: {{}}".format(*wrong)
print("as expected")
'''


def write_script(case: Case, sentence: str, *, out: Path, seed: int, sent: bool) -> Path:
    """Write a script that fails while a finding is there, and succeeds when it is mended.

    Args:
        case: The batch that shows it.
        sentence: What does not hold.
        out: The folder; it is made where there is none.
        seed: Of the run.
        sent: Whether it shows only where a worker sends the batch.

    Returns:
        Its path, ``repro_<layout>_<seed>.py`` in that folder.
    """
    code = Code()
    code.imports["from dpo_collate.testing.properties import broken, outcome"] = None
    written = {name: code.of(getattr(case, name)) for name in ("collate", "samples", "expected", "min_length", "agree")}
    said = sentence.replace("\\", "/").replace('"', "'").splitlines()[0]
    text = _SCRIPT.format(
        sentence=said, subject=case.subject, seed=seed, sent=sent, imports="\n".join(sorted(code.imports)), **written
    )
    out.mkdir(parents=True, exist_ok=True)
    path = out / f"repro_{case.subject}_{seed}.py"
    path.write_text(text, encoding="utf-8")
    return path
