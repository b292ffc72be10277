"""The README's examples are run, and print what it says."""

from pathlib import Path

import pytest
from pytest_examples import CodeExample, EvalExample, find_examples

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize("example", list(find_examples(str(ROOT / "README.md"))), ids=str)
def test_readme(example: CodeExample, eval_example: EvalExample) -> None:
    eval_example.set_config(line_length=120)
    eval_example.run_print_check(example)
