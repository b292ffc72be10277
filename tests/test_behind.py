"""The collator behind a drop-in, or behind a function that calls one."""

from __future__ import annotations

import functools
import re
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest

from dpo_collate import Layout, PreferenceCollator, check
from dpo_collate._behind import behind, layout_of
from dpo_collate.datasets import lengths
from dpo_collate.named import named
from dpo_collate.sampler import PairBatchSampler
from dpo_collate.stats import PaddingMeter
from dpo_collate.trainers import (
    internvl,
    internvl_gpt_oss,
    llamafactory,
    megatron_bridge,
    open_instruct,
    openrlhf,
    swift,
    torchtune,
    trl,
    trl_kto,
    trl_legacy,
    trl_reward,
    xtuner,
)

TOKENIZER = SimpleNamespace(pad_token_id=7, padding_side="left")
DROP_INS: dict[str, tuple[Any, Layout, int]] = {
    "internvl": (internvl.dpo_concat_pad_data_collator, internvl.DPO, 0),
    "internvl sft": (internvl.concat_pad_data_collator, internvl.SFT, 0),
    "internvl gpt-oss": (internvl_gpt_oss.dpo_concat_pad_data_collator, internvl_gpt_oss.DPO, 0),
    "llamafactory": (llamafactory.PairwiseDataCollatorWithPadding(TOKENIZER), llamafactory.PAIRWISE, 0),
    "megatron bridge": (
        functools.partial(megatron_bridge.preference_collate_fn, pad_token_id=7),
        megatron_bridge.PAIRS,
        0,
    ),
    "open-instruct": (
        open_instruct.TensorDataCollatorWithFlatteningDPO(max_seq_length=50),
        open_instruct.FLAT,
        50,
    ),
    "openrlhf": (openrlhf.RewardCollator(7), openrlhf.PAIRS, 0),
    "swift": (swift.PreferenceDataCollator(7, padding_free=True), swift.FLAT, 0),
    "torchtune": (torchtune.padded_collate_dpo, torchtune.DPO, 0),
    "trl": (trl.DataCollatorForPreference(7, max_length=5), trl.DPO, 0),
    "trl kto": (trl_kto.DataCollatorForUnpairedPreference(7), trl_kto.KTO, 0),
    "trl legacy": (trl_legacy.DataCollatorForPreference(7), trl_legacy.DPO, 0),
    "trl by suffix": (trl_legacy.DPODataCollatorWithPadding(), trl_legacy.BY_SUFFIX, 0),
    "trl reward": (trl_reward.DataCollatorForPreference(7), trl_reward.REWARD, 0),
    "xtuner": (xtuner.preference_collate_fn, xtuner.PAIRS, 0),
}


@pytest.mark.parametrize("name", DROP_INS)
def test_behind_a_drop_in(name: str) -> None:
    drop_in, layout, min_length = DROP_INS[name]
    for function in (drop_in, lambda samples: (drop_in(samples), len(samples))):
        answer = behind(function)
        assert answer.collator.layout == layout
        assert answer.min_length == min_length
        assert {matrix.length.min_length for matrix in layout_of(function).matrices} == {min_length}


def test_the_options_of_a_drop_in_are_its_collators() -> None:
    collator = behind(trl.DataCollatorForPreference(7, max_length=5, truncation_mode="keep_end")).collator
    assert (collator.pad_token_id, collator.max_length, collator.truncation_mode) == (7, 5, "keep_end")
    changed = trl.DataCollatorForPreference(7)
    changed.pad_to_multiple_of = 64
    assert layout_of(changed).matrices[0].length.multiple_of == 64


def test_a_least_width_is_no_less_than_the_layouts_own() -> None:
    collator = PreferenceCollator(pad_token_id=0)
    assert layout_of(lambda samples: collator(samples, min_length=9)).matrices[1].length.min_length == 9
    assert layout_of("separate") == layout_of(collator) == named("separate")
    assert layout_of("prompt_left", "split") == named("prompt_left", "split")


def test_after_the_question_there_are_batches_again() -> None:
    collator = PreferenceCollator("concatenated", inputs="split", pad_token_id=0)
    behind(functools.partial(collator, min_length=3))
    batch = collator([{"prompt_ids": [1], "chosen_ids": [2], "rejected_ids": [3]}])
    assert batch["input_ids"].tolist() == [[1, 2], [1, 3]]


EXPECTED = (
    "expected 'separate', 'concatenated', 'interleaved', 'prompt_left', 'padding_free', a dpo_collate.layout.Layout, a "
    "PreferenceCollator, a drop-in, or a function that calls one"
)


def first(samples: Any) -> Any:
    return samples[0]


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (5, f"5: {EXPECTED}"),
        (list, f"<class 'list'>: {EXPECTED}"),
        (len, f"<built-in function len>: {EXPECTED}"),
        (first, f"{first!r}: {EXPECTED} (called with no samples, it raises IndexError: list index out of range)"),
    ],
)
def test_what_calls_no_collator(given: Any, sentence: str) -> None:
    with pytest.raises(TypeError, match=f"^{re.escape(sentence)}$"):
        layout_of(given)


def test_inputs_are_for_names() -> None:
    with pytest.raises(ValueError, match=r"^inputs='split': only a named layout has forms to choose from$"):
        layout_of(trl.DataCollatorForPreference(7), "split")


def test_lengths_for_a_drop_in() -> None:
    table = pa.table({"prompt_ids": [[1], [2, 3]], "chosen_ids": [[4, 5], [6]], "rejected_ids": [[7], []]})
    assert lengths(table, trl.DataCollatorForPreference(0)).tolist() == [[3, 2], [3, 2]]
    assert lengths(table, trl_reward.DataCollatorForPreference(0)).tolist() == [[2, 1], [1, 0]]


def test_a_watched_drop_in() -> None:
    meter = PaddingMeter()
    assert behind(meter.watch(trl.DataCollatorForPreference(7))).collator.layout == trl.DPO
    assert meter.total.batches == 0


def test_rows_are_checked_and_batches_planned_for_a_drop_in() -> None:
    table = pa.table({"prompt_ids": [[1], [2, 3]], "chosen_ids": [[4, 5], []], "rejected_ids": [[7], [8]]})
    drop_in = trl.DataCollatorForPreference(0, pad_to_multiple_of=4)
    assert [(problem.row, problem.kind) for problem in check(table, drop_in).problems] == [(1, "empty_completion")]
    assert PairBatchSampler(table, drop_in, batch_size=2).costs().tolist() == [16]
