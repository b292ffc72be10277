"""The examples of docs/testing.md are run, and print what it says."""

from pathlib import Path

import pytest
from pytest_examples import CodeExample, EvalExample, find_examples

DOCUMENT = Path(__file__).parent.parent / "docs" / "testing.md"


@pytest.mark.parametrize("example", [*find_examples(str(DOCUMENT))], ids=str)
def test_examples(example: CodeExample, eval_example: EvalExample) -> None:
    if example.prefix == "python":
        eval_example.set_config(line_length=120)
        eval_example.run_print_check(example)
