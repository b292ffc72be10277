"""The projects' own tests of their collators, run with ours in their place; they skip where the files aren't there.

Of a file only the named classes and functions are executed, with stand-ins for what they name besides.
"""

from __future__ import annotations

import ast
import unittest
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

import peers
from dpo_collate.trainers import megatron_bridge, open_instruct, torchtune, trl, trl_kto, trl_legacy, trl_reward

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


def expand(rows: Iterable[Any]) -> Callable[[Any], Any]:
    """In place of `parameterized.expand`: one test runs all rows."""

    def decorate(test: Any) -> Any:
        def run(self: Any) -> None:
            for row in rows:
                test(self, *row)

        run.__name__ = test.__name__
        return run

    return decorate


def own(project: peers.Project, file: int, *names: str, **given: Any) -> type:
    """A class of the project's tests: its last of these names; or of the one function that tests."""
    path = peers.DIRECTORY / project.name / project.tests[file]
    if not path.exists():
        return type("Absent", (), {"test_own": lambda _self: peers.parsed(path)})
    nodes = [node for node in ast.parse(path.read_text()).body if getattr(node, "name", None) in names]
    for node in nodes:
        if isinstance(node, ast.ClassDef) and "unittest" not in ast.unparse(node):
            node.bases = []
    there = {"torch": torch, "np": np, "pytest": pytest, "unittest": unittest, "PAD_ID": 0}
    there |= {"parameterized": SimpleNamespace(expand=expand), "__name__": __name__, **given}
    exec(compile(ast.Module(nodes, []), str(path), "exec"), there)
    last: Any = there[names[-1]]
    return last if isinstance(last, type) else type("Own", (), {names[-1]: staticmethod(last)})


TestTrl = own(*(peers.TRL, 0, "TestDataCollatorForPreference"), DataCollatorForPreference=trl.DataCollatorForPreference)
TestTrlReward = own(
    *(peers.TRL, 1, "TestDataCollatorForPreference"), DataCollatorForPreference=trl_reward.DataCollatorForPreference
)
TestTrlKto = own(
    *(peers.TRL, 2, "TestDataCollatorForUnpairedPreference"),
    DataCollatorForUnpairedPreference=trl_kto.DataCollatorForUnpairedPreference,
)


TestTrlLegacy = own(
    *(peers.TRL_LEGACY, 0, "TestDataCollatorForPreference"),
    DataCollatorForPreference=trl_legacy.DataCollatorForPreference,
)
TestTorchtune = own(*(peers.TORCHTUNE, 0, "TestPaddedCollateDPO"), padded_collate_dpo=torchtune.padded_collate_dpo)
TestMegatronBridge = own(
    *(peers.MEGATRON_BRIDGE, 0, "test_collate_shift_mask_and_padding"),
    preference_collate_fn=megatron_bridge.preference_collate_fn,
)


def theirs(name: str) -> Callable[..., Any]:
    """What open-instruct does with a batch."""

    def run(*batch: Any, **options: Any) -> Any:
        return peers.OPEN_INSTRUCT.load("_split_prefixed_batch", name)(*batch, **options)

    return run


TestOpenInstruct = own(
    *(peers.OPEN_INSTRUCT, 0, "_make_dpo_features", "TestDPOPackingIndices"),
    TensorDataCollatorWithFlatteningDPO=open_instruct.TensorDataCollatorWithFlatteningDPO,
    concatenated_inputs=theirs("concatenated_inputs"),
    calculate_per_token_logps=theirs("calculate_per_token_logps"),
    get_batch_logps=theirs("get_batch_logps"),
)
