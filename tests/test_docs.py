"""The examples of the README and of the documents are run, and print what these say; so are the one-line changes."""

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pytest_examples import CodeExample, EvalExample, find_examples

from dpo_collate.trainers.openrlhf import RewardCollator
from dpo_collate.trainers.swift import PreferenceDataCollator

ROOT = Path(__file__).parent.parent
DOCUMENTS = (str(ROOT / "README.md"), *(str(ROOT / "docs" / name) for name in ("inspect.md", "layouts.md")))
"""Those of the others are run by tests that have what they need: test_trl_trainer.py, test_cli_docs.py, …"""


@pytest.mark.parametrize("example", list(find_examples(*DOCUMENTS)), ids=str)
def test_examples(example: CodeExample, eval_example: EvalExample) -> None:
    eval_example.set_config(line_length=120)
    eval_example.run_print_check(example)


ROW = [7, 5]
FULL = {f"{side}_{of}": ROW for side in ("chosen", "rejected") for of in ("input_ids", "labels")}
SPLIT = {f"{stem}_ids": ROW for stem in ("prompt", "chosen", "rejected", "completion")}
REFERENCE = {f"ref_{side}_{of}": 1 for side in ("chosen", "rejected") for of in ("logprob_sum", "num_tokens")}
MASKS = {f"{side}_loss_mask": [0, 1] for side in ("chosen", "rejected")}
SAMPLES: dict[str, Any] = {
    "InternVL, MPO/DPO": FULL,
    "InternVL, SFT": {"input_ids": ROW, "labels": ROW},
    "InternVL, gpt-oss": FULL | {"prompt_input_ids": ROW},
    "TRL ≥ 0.29, `DPOTrainer`": SPLIT,
    "TRL, `RewardTrainer`": {"chosen_ids": ROW, "rejected_ids": ROW},
    "TRL, `KTOTrainer`": SPLIT | {"label": True},
    "TRL 0.14 to 0.28, `DPOTrainer`": FULL | {"prompt_input_ids": ROW},
    "TRL, CPO, ORPO, SimPO, BCO": FULL,
    "LLaMA-Factory, DPO and rewards": FULL | {"images": None, "videos": [], "audios": None},
    "torchtune, DPO": FULL,
    "xtuner (v0), DPO and rewards": SPLIT | {"chosen_labels": ROW, "rejected_labels": ROW},
    "Megatron-Bridge, DPO": FULL | MASKS | REFERENCE | {"pair_id": 3},
    "open-instruct, DPO, padding-free": FULL | {"index": 3},
    "OpenRLHF, DPO": ([ROW], [ROW], [ROW], [ROW], 1),
    "OpenRLHF, rewards": ([ROW], [ROW], [ROW], [ROW], 1),
    "ms-swift, DPO and its kin": FULL,
}
ARGUMENTS = {
    "Megatron-Bridge, DPO": {"pad_token_id": 0},
}
"""What the originals have no default for either."""


def lines() -> dict[str, str]:
    """The README's table of one-line changes."""
    section = (ROOT / "README.md").read_text(encoding="utf-8").split("change this line\n")[1].split("\n## ")[0]
    return dict(re.findall(r"^\| ([^|]+?) \| `([^|]+?)` \|$", section, flags=re.MULTILINE))


def test_every_line_is_run() -> None:
    assert lines().keys() == SAMPLES.keys()


@pytest.mark.parametrize("trainer", SAMPLES)
def test_the_line_puts_a_collator_in(trainer: str) -> None:
    tokenizer = SimpleNamespace(pad_token_id=0, padding_side="right")
    there: dict[str, Any] = {
        "tokenizer": tokenizer,
        "template": SimpleNamespace(tokenizer=tokenizer, padding_free=False),
        "train_dataset": SimpleNamespace(),
        "RewardCollator": RewardCollator,
        "PreferenceDataCollator": PreferenceDataCollator,
    }
    names = dict(there)
    exec(lines()[trainer], names)
    new = [value for name, value in names.items() if name not in {*there, "__builtins__"}]
    put = [value for holder in (there["train_dataset"], there["template"]) for value in vars(holder).values()]
    (collate,) = new or [value for value in put if callable(value)]
    if isinstance(collate, type):
        collate = collate(tokenizer if "LLaMA" in trainer else 0) if "open-instruct" not in trainer else collate()
    batch = collate([SAMPLES[trainer]] * 2, **ARGUMENTS.get(trainer, {}))
    shown = str(batch)
    assert "7" in shown
    assert "5" in shown
