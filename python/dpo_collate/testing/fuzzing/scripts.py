"""Scripts that show a finding: plain Python files that run alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .literals import Code

if TYPE_CHECKING:
    from pathlib import Path

    from .cases import Case

_SCRIPT = '''"""{sentence}.

Found by `python -m dpo_collate.testing --layout {subject} --seed {seed}`, and made smaller.
"""

{imports}

collate = {collate}
samples = {samples}
expected = {expected}

wrong = broken(collate, samples, expected, min_length={min_length}, agree={agree}, sent={sent})
print("expected:", expected)
print("found:   ", expected if wrong is None else wrong[1])
assert wrong is None, wrong[0]
'''


def written(case: Case) -> Code:
    """The code that makes a case again, asked for before it is tried: a collator may write to its samples."""
    code = Code()
    code.imports["from dpo_collate.testing.fuzzing.properties import broken"] = None
    for name in ("collate", "samples", "expected", "min_length", "agree"):
        code.texts[name] = code.of(getattr(case, name))
    return code


def write_script(  # noqa: PLR0913 - all that is known of a finding
    case: Case, code: Code, sentence: str, *, out: Path, seed: int, sent: bool
) -> Path:
    """Write a script that fails while a finding is there, and succeeds when it is mended.

    Args:
        case: The batch that shows it.
        code: What makes it.
        sentence: What does not hold.
        out: The folder; it is made where there is none.
        seed: Of the run.
        sent: Whether it shows only where a worker sends the batch.

    Returns:
        Its path, ``repro_<layout>_<seed>.py`` in that folder.
    """
    said = sentence.replace("\\", "/").replace('"', "'").splitlines()[0]
    text = _SCRIPT.format(
        sentence=said, subject=case.subject, seed=seed, sent=sent, imports="\n".join(sorted(code.imports)), **code.texts
    )
    out.mkdir(parents=True, exist_ok=True)
    path = out / f"repro_{case.subject}_{seed}.py"
    path.write_text(text, encoding="utf-8")
    return path
