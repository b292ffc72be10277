"""``check_collator``: each wrong collator is found out under the right property and no other, right ones are clean."""

from __future__ import annotations

import functools
import math
import os
import re
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import collators_to_check as mine
import peers
from collators_to_check import WRONG
from dpo_collate import PreferenceCollator
from dpo_collate.layout import Column, Layout, Matrix
from dpo_collate.testing import CONTRACTS, Contract, Report, check_collator
from dpo_collate.testing.checking import searching
from dpo_collate.testing.checking.contracts import ROWS
from dpo_collate.testing.checking.reports import PROPERTIES
from dpo_collate.testing.checking.samples import code
from dpo_collate.trainers import internvl, internvl_gpt_oss, llamafactory, megatron_bridge, openrlhf, swift
from drop_ins_examples import COLLATORS
from figures import note
from loaders import succeeds

KNOWN = {"pixel_values", "image_flags", "margin", "chosen_attention_mask", "rejected_attention_mask"}
MORE = ("image_grid_thw", "image_sizes", "pixel_attention_mask", "pixel_values_videos", "video_grid_thw")
TYPES = tuple(f"{side}_{of}token_type_ids" for side in mine.SIDES for of in ("", "mm_"))
CONTRACT = CONTRACTS["concatenated"].without(
    *MORE, *TYPES, "second_per_grid_ts", "ref_chosen_logps", "ref_rejected_logps"
)
SLOW = {"no leak", "thread-safe", "DataLoader worker"}
QUICK = [name for name in PROPERTIES if name not in SLOW]


def check(collator: Any, contract: Any = CONTRACT, properties: Any = QUICK, examples: int = 12) -> Report:
    # (How long it takes on a busy machine is no matter.)
    return check_collator(collator, contract, properties=properties, max_examples=examples, seconds=math.inf)


def names(report: Report) -> list[str]:
    return [each.property for each in report.broken]


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Samples need not be the smallest where nobody looks at them."""
    monkeypatch.setattr(searching, "_TRIES", 10)


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_collator_breaks_one_property(name: str) -> None:
    broken, collator = WRONG[name]
    report = check(collator, properties=[*QUICK, broken])
    assert names(report) == [broken], str(report)
    assert broken not in report.passed
    note("check_collator", wrong_collators=1)
    with pytest.raises(AssertionError, match=broken):
        report.raise_for_broken()


@pytest.mark.parametrize("collator", [mine.right, mine.of_numpy, PreferenceCollator("concatenated", pad_token_id=0)])
def test_a_right_collator_breaks_none(collator: Any) -> None:
    report = check(collator, properties=[name for name in PROPERTIES if name != "DataLoader worker"])
    assert report.ok, str(report)
    report.raise_for_broken()
    assert {"ids", "masks", "no leak", "thread-safe", "picklable", "images", "long row"} <= {*report.passed}
    note("check_collator", right_collators=1)


TOKENIZER = SimpleNamespace(pad_token_id=0, padding_side="right")
OURS: dict[str, Any] = {
    **{name: PreferenceCollator(name, pad_token_id=0) for name in ("separate", "interleaved", "prompt_left")},
    "padding_free": PreferenceCollator("padding_free", pad_token_id=0),
    **COLLATORS,
    "internvl_by_value": internvl.dpo_concat_pad_data_collator,
    "internvl_sft_by_value": internvl.concat_pad_data_collator,
    "internvl_gpt_oss_by_value": internvl_gpt_oss.dpo_concat_pad_data_collator,
    "llamafactory": llamafactory.PairwiseDataCollatorWithPadding(TOKENIZER, pad_to_multiple_of=8),
    "megatron_bridge": functools.partial(megatron_bridge.preference_collate_fn, pad_token_id=0),
    "openrlhf_rewards": openrlhf.RewardCollator(0, is_dpo=False),
    "swift_padding_free": swift.PreferenceDataCollator(0, padding_free=True),
}
del OURS["internvl_gpt_oss"]


@pytest.mark.parametrize("name", OURS)
def test_a_drop_in_keeps_its_contract(name: str) -> None:
    first, *_ = CONTRACTS[name].rows
    every = (first, *(family for family in ROWS if family != first))
    report = check(OURS[name], replace(CONTRACTS[name], rows=every), examples=6)
    assert (names(report), report.advice, report.skipped) == ([], (), ()), str(report)
    note("check_collator", own_collators=1)


def test_there_is_a_contract_for_each() -> None:
    assert {*COLLATORS} | {"internvl", "internvl_sft"} <= {*CONTRACTS}
    by_value = {"internvl", "internvl_sft", "internvl_gpt_oss"}
    assert {*OURS} | by_value | {"concatenated"} == {*CONTRACTS}


@pytest.mark.parametrize("name", ["internvl", "internvl_sft", "internvl_gpt_oss"])
def test_masks_by_value_are_the_one_thing_of_internvl(name: str) -> None:
    (broken,) = check(OURS[f"{name}_by_value"], name, ["ids", "labels", "masks", "samples unchanged"]).broken
    assert broken.property == "masks"
    assert broken.sentence.endswith("a real token that has the pad id (0) is masked")
    assert broken.samples is not None
    assert len(broken.samples) == 1
    namespace: dict[str, Any] = {"collator": OURS[f"{name}_by_value"]}
    exec(broken.code, namespace)
    found, expected = namespace["batch"], broken.expected
    assert [key for key in expected if not torch.equal(found[key], expected[key])] != []


EMPTY = ["empty rows"]
PEERS: dict[str, tuple[Any, Any, list[str]]] = {
    "internvl_gpt_oss": (peers.internvl_gpt_oss, "internvl_gpt_oss", ["masks", "samples unchanged"]),
    "trl": (lambda: peers.trl(0), "trl", EMPTY),
    "trl_reward": (lambda: peers.trl_reward(0), "trl_reward", EMPTY),
    "trl_kto": (lambda: peers.trl_kto(0), "trl_kto", []),
    "trl_legacy": (lambda: peers.trl_legacy(0), "trl_legacy", EMPTY),
    "trl_padding": (lambda: peers.trl_padding(0), "trl_padding", []),
    "llamafactory": (lambda: peers.llamafactory(0), "llamafactory", []),
    "torchtune": (
        lambda: functools.partial(peers.torchtune(), pad_to_multiple_of=4),
        CONTRACTS["torchtune"].having(pad_to_multiple_of=4),
        ["shapes", "empty rows"],
    ),
    "openrlhf": (lambda: peers.openrlhf(0, is_dpo=True), "openrlhf", []),
    "openrlhf_rewards": (lambda: peers.openrlhf(0, is_dpo=False), "openrlhf_rewards", []),
    "swift": (lambda: peers.swift(0), "swift", EMPTY),
    "swift_padding_free": (lambda: peers.swift(0, padding_free=True), "swift_padding_free", EMPTY),
    "megatron_bridge": (lambda: functools.partial(peers.megatron_bridge(), pad_token_id=0), "megatron_bridge", []),
    "open_instruct": (peers.open_instruct, "open_instruct", EMPTY),
    "xtuner": (peers.xtuner, "xtuner", []),
}


@pytest.mark.no_cover
@pytest.mark.usefixtures("hasty")
@pytest.mark.skipif("DPO_COLLATE_PEERS" not in os.environ, reason="DPO_COLLATE_PEERS does not name the originals")
@pytest.mark.parametrize("name", PEERS)
def test_what_is_known_of_the_originals(name: str) -> None:
    """All of it, and nothing else; run from their own files they cannot be pickled."""
    make, contract, broken = PEERS[name]
    report = check(make(), contract, [name for name in QUICK if name != "picklable"])
    assert names(report) == broken, str(report)
    assert [each.property for each in report.advice] == ["bad samples"]


# --- how it goes about it -------------------------------------------------------------------------


@pytest.mark.usefixtures("hasty")
def test_several_faults_are_all_told() -> None:
    def wrong(samples: Any) -> Any:
        batch = mine.interleaved(mine.right(samples), samples)
        batch["attention_mask"] = batch["attention_mask"].bool()
        batch["labels"] = batch["labels"].masked_fill(batch["input_ids"] == 0, -100)
        samples[0]["chosen_labels"] = []
        return batch

    expected = ["dtypes", "row order", "labels", "samples unchanged", "picklable"]
    assert names(check(wrong)) == expected


def test_the_same_seed_gives_the_same_report() -> None:
    wrong = mine.spoilt(mine.masks_by_value)
    first, second = (str(check(wrong, properties=["masks", "ids"])) for _ in range(2))
    assert first == second
    assert first.startswith("concatenated: 1 property is broken, 1 property holds\n\nbroken: masks: ")


def test_a_worker_makes_the_same_batch() -> None:
    program = """
from collators_to_check import Spoilt, right
from test_testing_check import CONTRACT
from dpo_collate.testing import check_collator
for collator in (right, Spoilt()):
    print(check_collator(collator, CONTRACT, properties=["DataLoader worker"], max_examples=5).ok)
"""
    assert succeeds(program) == "True\nFalse\n"


def test_what_cannot_be_tried_is_said() -> None:
    def never(_: Any) -> Any:
        raise RuntimeError("no")

    report = check(never, properties=PROPERTIES, examples=5)
    assert names(report) == ["collates"]
    assert {*dict(report.skipped).values()} == {"valid samples are not collated"}
    assert {*PROPERTIES} - {*dict(report.skipped)} == {"collates", "key order", "positions"}
    assert report.passed == ()
    assert str(report).endswith("thread-safe, no leak, DataLoader worker: valid samples are not collated")
    assert report.broken[0].sentence == "it raises RuntimeError: no"
    assert isinstance(report.broken[0].found, RuntimeError)


def views(samples: Any) -> Any:
    """Of one sample, ids that are a tensor are taken as they are."""
    batch, ids = mine.right(samples), samples[0]["chosen_input_ids"]
    if len(samples) == 1 and isinstance(ids, torch.Tensor) and ids.dtype == torch.int64:
        batch["input_ids"] = ids[None]
    return batch


def test_memory_is_looked_at_with_every_kind_of_rows() -> None:
    (broken,) = (each for each in check(views, properties=["no aliasing"], examples=25).broken)
    assert broken.sentence.startswith("batch['input_ids'] lies in the memory of samples[0]['chosen_input_ids']: ")
    assert "torch.tensor(" in broken.code.partition("'chosen_input_ids'")[2].partition("\n")[0]


@pytest.mark.usefixtures("hasty")
def test_the_samples_are_those_that_show_it() -> None:
    (broken,) = check(mine.lists_only, properties=["input kinds"]).broken
    assert broken.samples is not None
    assert not isinstance(broken.samples[0]["chosen_labels"], list)
    (broken,) = check(mine.spoilt(mine.cut_at_1024), properties=["long row"], examples=5).broken
    assert broken.samples is not None
    assert len(broken.samples[-1]["chosen_labels"]) == 3000


def test_what_could_not_be_seen_does_not_hold() -> None:
    report = check(mine.spoilt(mine.a_tuple), properties=["ids", "containers", "no aliasing"], examples=5)
    assert names(report) == ["containers"]
    assert (report.passed, report.skipped) == (("no aliasing",), (("ids", "no batch can be taken apart"),))


def test_time_that_is_over() -> None:
    report = check_collator(mine.right, CONTRACT, max_examples=5, seconds=0)
    assert (report.broken, report.passed) == ((), ())
    assert {why for _, why in report.skipped} == {"the 0 s are over"}


def test_calls_that_take_long() -> None:
    report = check_collator(mine.slow, CONTRACT, properties=["no leak"], max_examples=5, seconds=5)
    ((name, why),) = report.skipped
    assert name == "no leak"
    assert re.fullmatch(r"250 calls of [\d.]+ s take longer than what is left of 5 s|the 5 s are over", why)


def test_contracts() -> None:
    ours = PreferenceCollator("interleaved", pad_token_id=7, pad_to_multiple_of=4)
    assert check(ours, ours, ["ids", "shapes"], 5).ok
    wide = PreferenceCollator("interleaved", pad_token_id=0, pad_to_multiple_of=4)
    assert names(check(wide, "interleaved", ["ids", "shapes"])) == ["shapes"]
    own = Layout("own", matrices=(Matrix(rows=(("a",),), columns=(Column("ids"),), tokens="{}_ids"),))
    assert check(PreferenceCollator(own, pad_token_id=0), own, ["ids"], 5).passed == ("ids",)
    assert repr(Contract.of(ours)) == "Contract('interleaved')"


def test_wrong_arguments() -> None:
    with pytest.raises(ValueError, match=r"^contract='trl1': expected one of 'separate', 'concatenated', "):
        check_collator(mine.right, "trl1")
    with pytest.raises(TypeError, match="expected a PreferenceCollator"):
        check_collator(mine.right, 5)
    with pytest.raises(ValueError, match=r"^properties=\['id'\]: expected some of 'collates', "):
        check_collator(mine.right, CONTRACT, properties=["id"])
    with pytest.raises(ValueError, match=r"^rows=\('lists',\): expected some of 'list', "):
        replace(CONTRACT, rows=("lists",))


def test_code_makes_the_samples() -> None:
    samples = [
        {
            "a": torch.arange(6)[::2],
            "b": [1, 2] * 40,
            "c": torch.zeros(0, 3),
            "d": (1,),
            "e": [*torch.arange(2).numpy()],
        }
    ]
    namespace: dict[str, Any] = {}
    exec("import torch\nimport numpy as np\n" + code(samples), namespace)
    (made,) = namespace["samples"]
    assert made["a"].tolist() == [0, 2, 4]
    assert made["a"].stride() == (2,)
    assert made["b"] == samples[0]["b"]
    assert made["c"].shape == (0, 3)
    assert (made["d"], made["e"]) == ((1,), [0, 1])
