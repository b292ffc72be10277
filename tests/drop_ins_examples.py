"""One small sample for each drop-in."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from dpo_collate.trainers import (
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
from drop_ins import DROP_INS
from drop_ins_batches import SIDES

IDS: dict[str, Any] = {"chosen_input_ids": [5, 6], "rejected_input_ids": [7]}
LABELS: dict[str, Any] = {"chosen_labels": [-100, 6], "rejected_labels": [7]}
PAIR = IDS | LABELS
THREE = IDS | {"prompt_input_ids": [1, 2]}
SPLIT: dict[str, Any] = {"prompt_ids": [1, 2], "chosen_ids": [3], "rejected_ids": [4, 5]}
KTO: dict[str, Any] = {"prompt_ids": [1, 2], "completion_ids": [3], "label": True}
CONCATENATED = PAIR | {"images": None, "videos": [], "audios": None}
MINE = CONCATENATED | {"chosen_attention_mask": [1, 1], "rejected_attention_mask": [1]}
MEGATRON: dict[str, Any] = {
    "chosen_input_ids": [5, 6],
    "rejected_input_ids": [7, 8, 9],
    "pair_id": 3,
    "chosen_loss_mask": [0, 1],
    "rejected_loss_mask": [0, 1, 1],
    **{f"ref_{side}_{name}": 1 for side in SIDES for name in ("logprob_sum", "num_tokens")},
}
XTUNER = LABELS | {"chosen_ids": [5, 6], "rejected_ids": [7]}

EXAMPLES: dict[str, Any] = {
    "internvl_gpt_oss": THREE,
    "trl": SPLIT,
    "trl_reward": SPLIT,
    "trl_kto": KTO,
    "trl_legacy": THREE,
    "trl_padding": PAIR,
    "llamafactory": MINE,
    "torchtune": PAIR,
    "openrlhf": ([5, 6], [1, 1], [7], [1], 0.5),
    "swift": PAIR,
    "megatron_bridge": MEGATRON,
    "open_instruct": PAIR | {"index": 4},
    "xtuner": XTUNER,
}


TOKENIZER = SimpleNamespace(pad_token_id=0, padding_side="right", no_pickle_takes=lambda: 0)
COLLATORS: dict[str, Any] = {
    "internvl_gpt_oss": internvl_gpt_oss.dpo_concat_pad_data_collator,
    "trl": trl.DataCollatorForPreference(0),
    "trl_reward": trl_reward.DataCollatorForPreference(0),
    "trl_kto": trl_kto.DataCollatorForUnpairedPreference(0),
    "trl_legacy": trl_legacy.DataCollatorForPreference(0),
    "trl_padding": trl_legacy.DPODataCollatorWithPadding(),
    "llamafactory": llamafactory.PairwiseDataCollatorWithPadding(TOKENIZER),
    "torchtune": torchtune.padded_collate_dpo,
    "openrlhf": openrlhf.RewardCollator(0),
    "swift": swift.PreferenceDataCollator(0),
    "megatron_bridge": megatron_bridge.preference_collate_fn,
    "open_instruct": open_instruct.TensorDataCollatorWithFlatteningDPO(),
    "xtuner": xtuner.preference_collate_fn,
}
KEYWORDS = {"megatron_bridge": {"pad_token_id": 0}}


def called(name: str, samples: list[Any]) -> Any:
    """The batch of a collator as a user has it."""
    return COLLATORS[name](samples, **KEYWORDS.get(name, {}))


TOKENS = {
    **dict.fromkeys(EXAMPLES, "chosen_input_ids"),
    **dict.fromkeys(("trl", "trl_reward", "openrlhf", "xtuner"), "chosen_ids"),
    "trl_kto": "completion_ids",
}
"""The key of the ids of one row."""


def with_tokens(name: str, ids: Any) -> Any:
    """The example with these for that row."""
    sample = EXAMPLES[name]
    return (ids, *sample[1:]) if isinstance(sample, tuple) else sample | {TOKENS[name]: ids}


def collate(name: str, *samples: Any, **options: Any) -> Any:
    """A drop-in's batch of the samples; it pads with 0."""
    pad = {} if name == "open_instruct" else {"pad_token_id": 0}
    return DROP_INS[name].ours(**(pad | options))(list(samples))


def without(sample: dict[str, Any], *keys: str) -> dict[str, Any]:
    """The sample without keys that begin like these."""
    return {key: value for key, value in sample.items() if not key.startswith(keys)}
