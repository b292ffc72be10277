"""Figures of what tests have really done: how many batches, kills, bytes.

Where ``DPO_COLLATE_FIGURES`` names a folder, each is a line of a file there; ``docs/reliability.md`` is made of them.
"""

from __future__ import annotations

import json
import os
from pathlib import Path


def note(campaign: str, **figures: float) -> None:
    """Write down what one test of a campaign has done.

    Args:
        campaign: What the test is a part of: the file's name.
        **figures: What was counted. Of one campaign, figures of one name are added up; those whose name begins with
            ``most_`` are not: the greatest counts.
    """
    folder = os.environ.get("DPO_COLLATE_FIGURES")
    if folder is not None:
        with (Path(folder) / f"{campaign}.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(figures) + "\n")


def total(folder: Path, campaign: str) -> dict[str, float]:
    """The figures of a campaign: sums, and greatest ones."""
    found: dict[str, float] = {}
    file = folder / f"{campaign}.jsonl"
    for line in file.read_text(encoding="utf-8").splitlines() if file.exists() else ():
        for name, figure in json.loads(line).items():
            known = found.get(name, figure)
            if name in found and not name.startswith("most_"):
                found[name] = known + figure
            else:
                found[name] = max(known, figure)
    return found
