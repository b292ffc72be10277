"""The example programs run, and do what they say."""

import re
import subprocess
import sys
from pathlib import Path

import torch

from dpo_collate.trainers.internvl import dpo_concat_pad_data_collator
from internvl_padding import internvl_padding
from shapes import IGNORE_INDEX, PAD, ShapePairs

EXAMPLES = Path(__file__).parent.parent / "examples"


def run(*options: str) -> str:
    command = [sys.executable, str(EXAMPLES / "train_dpo.py"), *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_demo_runs_and_is_deterministic() -> None:
    options = ("--steps", "3", "--batch-size", "4", "--seed", "5")
    first = run(*options)
    assert "held-out reward accuracy before DPO: 0.500" in first
    assert "dpo_collate" in first
    assert "InternVL's padding" in first
    steps = [re.findall(r"step 3: .*", text) for text in (first, run(*options, "--workers", "0"))]
    assert len(steps[0]) == 1
    assert steps[0] == steps[1]


def test_a_batch_larger_than_the_data_is_refused() -> None:
    command = [sys.executable, str(EXAMPLES / "train_dpo.py"), "--batch-size", "6001"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert done.stderr.endswith("error: there are 6000 training pairs: no batch has 6001\n")


def test_pairs_are_answered_by_their_images_alone() -> None:
    """A chosen answer is, elsewhere, the rejected one to the same prompt."""
    pairs = ShapePairs("train", 3000, seed=0)
    answers: dict[str, set[tuple[int, ...]]] = {"chosen": set(), "rejected": set()}
    for index in range(len(pairs)):
        sample = pairs[index]
        assert 1 <= len(sample["pixel_values"]) == len(sample["image_flags"]) <= 3
        for side, seen in answers.items():
            assert PAD not in sample[f"{side}_input_ids"]
            kept = sample[f"{side}_labels"] != IGNORE_INDEX
            assert torch.equal(sample[f"{side}_input_ids"][kept], sample[f"{side}_labels"][kept])
            if len(sample[f"{side}_input_ids"]) < 50:  # short ones recur
                seen.add(tuple(sample[f"{side}_input_ids"].tolist()))
    assert len(answers["chosen"] & answers["rejected"]) > len(answers["chosen"]) / 2


def test_baseline_pads_as_the_drop_in_does() -> None:
    pairs = ShapePairs("train", 6, seed=0)
    samples = [pairs[index] for index in range(6)]
    baseline, ours = internvl_padding(samples, PAD), dpo_concat_pad_data_collator(samples, PAD)
    assert baseline.keys() == ours.keys()
    for key, tensor in baseline.items():
        assert tensor.dtype == ours[key].dtype
        assert torch.equal(tensor, ours[key])
