"""The drop-ins, the collators that they take the place of, and samples as the data sets of their trainers give them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final, TypeAlias

import numpy as np

import baselines
from cases import LABEL_PAD_TOKEN_ID, PAD_TOKEN_ID, SIDES, Kind, Size, converted, draw
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

# The tests are a folder, not a package.
sys.path.append(str(Path(__file__).parent.parent / "tests"))
import peers

PEERS: Final = peers.DIRECTORY

Rows: TypeAlias = dict[str, Any]
"""What is drawn of a pair, in the kind that is wanted, by names of our own."""

Collate: TypeAlias = Callable[[list[Any]], Any]


@dataclass(frozen=True)
class DropIn:
    """Two ways of making the same batch of the same samples."""

    name: str
    kind: Kind
    sample: Callable[[Rows], object]
    """Makes a sample of the rows of a pair."""
    ours: Collate
    original: Callable[[], Collate]
    """Gets the original, or says by an exception why it is not there."""
    writes: bool = False
    """The original writes into the samples: it gets fresh copies of the dicts, in a microsecond or two."""


def keys(*names: str | Mapping[str, str], more: Mapping[str, object] | None = None) -> Callable[[Rows], object]:
    """Samples with these rows (a dict has them under other names), and with what is the same in all samples."""
    pairs = [pair for name in names for pair in (name.items() if isinstance(name, Mapping) else [(name, name)])]
    return lambda rows: {key: rows[row] for key, row in pairs} | dict(more or {})


def sides(*parts: str) -> list[str]:
    """The names of such rows of both sides."""
    return [f"{side}_{part}" for side in SIDES for part in parts]


def reward_sample(rows: Rows) -> object:
    """A tuple of tensors `[1, L]`, as OpenRLHF's tokenizer gives them, and the length of the prompt."""
    return *(rows[key][None] for key in sides("input_ids", "attention_mask")), len(rows["prompt_ids"])


_REFERENCES = {
    f"ref_{side}_{what}": value for side in SIDES for what, value in (("logprob_sum", -9.5), ("num_tokens", 9))
}
_NO_MEDIA = dict.fromkeys(("images", "videos", "audios"))
_TOKENIZER = SimpleNamespace(pad_token_id=PAD_TOKEN_ID, padding_side="right")
_FULL = sides("input_ids", "labels")
_FULL_IDS = {f"{side}_ids": f"{side}_input_ids" for side in SIDES}
_PROMPTS = {"prompt_input_ids": "prompt_ids"}
_LEGACY = _PROMPTS | {f"{side}_input_ids": f"{side}_ids" for side in SIDES}

TRL: Final = (
    DropIn(
        "TRL DPO",
        "lists",
        keys("prompt_ids", *sides("ids")),
        trl.DataCollatorForPreference(PAD_TOKEN_ID),
        lambda: peers.trl(PAD_TOKEN_ID),
    ),
    DropIn(
        "TRL rewards",
        "lists",
        keys(_FULL_IDS),
        trl_reward.DataCollatorForPreference(PAD_TOKEN_ID),
        lambda: peers.trl_reward(PAD_TOKEN_ID),
    ),
    DropIn(
        "TRL KTO",
        "lists",
        keys("prompt_ids", {"completion_ids": "chosen_ids", "KL_completion_ids": "rejected_ids"}, more={"label": True}),
        trl_kto.DataCollatorForUnpairedPreference(PAD_TOKEN_ID),
        lambda: peers.trl_kto(PAD_TOKEN_ID),
    ),
)
"""Of the package, which is always there."""

OTHERS: Final = (
    DropIn(
        "TRL 0.14-0.28 DPO",
        "lists",
        keys(_LEGACY),
        trl_legacy.DataCollatorForPreference(PAD_TOKEN_ID),
        lambda: peers.trl_legacy(PAD_TOKEN_ID),
    ),
    DropIn(
        "TRL CPO/ORPO",
        "lists",
        keys("prompt_attention_mask", *sides("input_ids", "attention_mask", "labels"), _PROMPTS),
        trl_legacy.DPODataCollatorWithPadding(PAD_TOKEN_ID),
        lambda: peers.trl_padding(PAD_TOKEN_ID),
    ),
    DropIn(
        "LLaMA-Factory",
        "lists",
        keys(*sides("input_ids", "attention_mask", "labels"), more=_NO_MEDIA),
        llamafactory.PairwiseDataCollatorWithPadding(_TOKENIZER, pad_to_multiple_of=8),
        lambda: peers.llamafactory(PAD_TOKEN_ID),
    ),
    DropIn("torchtune", "lists", keys(*_FULL), torchtune.padded_collate_dpo, peers.torchtune),
    DropIn(
        "ms-swift",
        "lists",
        keys(*_FULL, *sides("length")),
        swift.PreferenceDataCollator(PAD_TOKEN_ID),
        lambda: peers.swift(PAD_TOKEN_ID),
    ),
    DropIn(
        "ms-swift padding-free",
        "lists",
        keys(*_FULL, *sides("length")),
        swift.PreferenceDataCollator(PAD_TOKEN_ID, padding_free=True),
        lambda: peers.swift(PAD_TOKEN_ID, padding_free=True),
    ),
    DropIn(
        "xtuner",
        "lists",
        keys(*sides("labels"), _FULL_IDS),
        xtuner.preference_collate_fn,
        peers.xtuner,
    ),
    DropIn(
        "Megatron-Bridge",
        "lists",
        keys(*sides("input_ids", "loss_mask"), more={"pair_id": 7, **_REFERENCES}),
        partial(megatron_bridge.preference_collate_fn, pad_token_id=PAD_TOKEN_ID),
        lambda: partial(peers.megatron_bridge(), pad_token_id=PAD_TOKEN_ID),
    ),
    DropIn(
        "OpenRLHF DPO",
        "tensors",
        reward_sample,
        openrlhf.RewardCollator(PAD_TOKEN_ID),
        lambda: peers.openrlhf(PAD_TOKEN_ID, is_dpo=True),
    ),
    DropIn(
        "OpenRLHF rewards",
        "tensors",
        reward_sample,
        openrlhf.RewardCollator(PAD_TOKEN_ID, is_dpo=False),
        lambda: peers.openrlhf(PAD_TOKEN_ID, is_dpo=False),
    ),
    DropIn(
        "open-instruct",
        "tensors",
        keys(*_FULL, more={"index": 3}),
        open_instruct.TensorDataCollatorWithFlatteningDPO(),
        peers.open_instruct,
    ),
    DropIn(
        "InternVL DPO",
        "tensors",
        keys(*_FULL),
        internvl.dpo_concat_pad_data_collator,
        lambda: baselines.internvl("dpo_concat_pad_data_collator"),
        writes=True,
    ),
    DropIn(
        "InternVL SFT",
        "tensors",
        keys({"input_ids": "chosen_input_ids", "labels": "chosen_labels"}),
        internvl.concat_pad_data_collator,
        lambda: baselines.internvl("concat_pad_data_collator"),
        writes=True,
    ),
    DropIn(
        "InternVL gpt-oss",
        "tensors",
        keys(*sides("input_ids"), _PROMPTS),
        internvl_gpt_oss.dpo_concat_pad_data_collator,
        peers.internvl_gpt_oss,
        writes=True,
    ),
)


def make_samples(drop_in: DropIn, size: Size) -> list[Any]:
    """Samples of the trainer's kind."""
    samples = []
    for pair in draw(size):
        masks = {"prompt_attention_mask": np.ones_like(pair["prompt_ids"])}
        lengths = {}
        for side in SIDES:
            ids = pair[f"{side}_input_ids"]
            masks[f"{side}_attention_mask"] = np.ones_like(ids)
            masks[f"{side}_loss_mask"] = pair[f"{side}_labels"] != LABEL_PAD_TOKEN_ID
            lengths[f"{side}_length"] = len(ids)
        rows = {key: converted(row, drop_in.kind) for key, row in (pair | masks).items()}
        samples.append(drop_in.sample(rows | lengths))
    return samples
