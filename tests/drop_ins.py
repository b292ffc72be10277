"""The drop-ins, each next to its original, and random batches that both take.

A batch is written plainly here: rows are lists, media torch tensors, arrays or nested lists. `theirs` gives a sample
the form that the original wants; `dressed` gives it any form that ours takes.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from hypothesis import strategies as st

import peers
from dpo_collate.testing.drawing.kinds import number_kinds, row_kinds, tile_kinds
from dpo_collate.testing.reference.cells import Array
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
from drop_ins_batches import (
    SIDES,
    gpt_oss_batches,
    kto_batches,
    legacy_batches,
    llamafactory_batches,
    megatron_batches,
    open_instruct_batches,
    openrlhf_batches,
    padding_batches,
    reward_batches,
    swift_batches,
    torchtune_batches,
    trl_batches,
    xtuner_batches,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from drop_ins_batches import Options
    from peers import Collate, Project


@dataclass(frozen=True)
class DropIn:
    """What is compared with what: both are made with the same options, and called with a list of samples."""

    batches: st.SearchStrategy[tuple[Options, list[Any]]]
    original: Callable[..., Collate]
    ours: Callable[..., Collate]
    source: Project | str
    theirs: Callable[[Any], Any] = lambda sample: sample
    cut: Callable[[Any, Options, list[Any]], Any] = lambda batch, _options, _samples: batch
    """What is taken off the original's batch, as ours differs there."""
    refused: Callable[[Options, list[Any]], bool] = lambda _options, _samples: False
    """Whether ours refuses what the original takes."""
    as_they_are: tuple[str, ...] = ()
    """Keys whose values are handed on."""
    in_order: bool = True
    """Whether the docstring promises the order of keys."""


# --- ours and theirs, by the same options ---------------------------------------------------------


def nothing_to_score(*pairs: tuple[str, str]) -> Callable[[Options, list[Any]], bool]:
    """Whether truncation leaves nothing of a completion: such a sample is an error in ours."""

    def refused(options: Options, samples: list[Any]) -> bool:
        most = options.get("max_length") or math.inf
        for sample in samples:
            for prompt, completion in pairs:
                first, last = len(sample[prompt]), len(sample.get(completion, ()))
                kept = last if options.get("truncation_mode") == "keep_end" else most - first
                if last > 0 and first + last > most and kept <= 0:
                    return True
        return False

    return refused


def without_extra_block(batch: Any, options: Options, samples: list[Any]) -> Any:
    """torchtune adds a block where the width is a multiple already: that block is cut off."""
    multiple = options.get("pad_to_multiple_of", 1)
    longest = max(len(sample[f"{side}_input_ids"]) for sample in samples for side in SIDES)
    if multiple == 1 or longest % multiple:
        return batch
    for array, pad in zip(batch, (options["pad_token_id"], options.get("ignore_idx", -100)), strict=True):
        assert (array[:, longest:] == pad).all()
        assert array.shape[1] == longest + multiple
    return tuple(array[:, :longest] for array in batch)


def tensors(sample: dict[str, Any]) -> dict[str, Any]:
    """Rows as tensors."""
    return {key: torch.tensor(it, dtype=torch.int64) if type(it) is list else it for key, it in sample.items()}


def openrlhf_sample(sample: tuple[Any, ...]) -> tuple[Any, ...]:
    return (*(torch.tensor([part]) for part in sample[:4]), sample[4])


def swift_sample(sample: dict[str, Any]) -> dict[str, Any]:
    lengths = {f"{side}_length": len(sample[f"{side}_input_ids"]) for side in SIDES}
    types = {f"{side}_mm_token_type_ids" for side in SIDES} & sample.keys()
    return sample | lengths | {key: torch.tensor([sample[key]]) for key in types}


def swift_by(make: Callable[..., Collate]) -> Callable[..., Collate]:
    return lambda padding_to=None, **options: functools.partial(make(**options), padding_to=padding_to)


def llamafactory_original(**options: Any) -> Collate:
    collate = peers.llamafactory(**options)
    return lambda samples: dict(collate(samples))  # of a BatchEncoding


def llamafactory_ours(*, pad_token_id: int, padding_side: str = "right", **options: Any) -> Collate:
    tokenizer = SimpleNamespace(pad_token_id=pad_token_id, padding_side=padding_side)
    return llamafactory.PairwiseDataCollatorWithPadding(tokenizer, **({"pad_to_multiple_of": 8} | options))


def by_name(load: Callable[[], Collate], **names: str) -> Callable[..., Collate]:
    """What makes of options a function that has them; `names` are its own names for some."""
    return lambda **options: functools.partial(load(), **{names.get(key, key): value for key, value in options.items()})


MEGATRON = {"multiple": "pad_seq_length_to_mult", "require_ref": "require_ref_logprobs"}

Dense = np.ndarray | torch.Tensor

DROP_INS = {
    "internvl_gpt_oss": DropIn(
        gpt_oss_batches(),
        by_name(peers.internvl_gpt_oss, pad_token_id="pad_id"),
        by_name(lambda: internvl_gpt_oss.dpo_concat_pad_data_collator, pad_token_id="pad_id"),
        peers.INTERNVL_GPT_OSS,
        theirs=tensors,
        as_they_are=("margin", "whole", "text", "chosen_labels", "rejected_labels"),
    ),
    "trl": DropIn(
        trl_batches(),
        peers.trl,
        trl.DataCollatorForPreference,
        "trl",
        refused=nothing_to_score(("prompt_ids", "chosen_ids"), ("prompt_ids", "rejected_ids")),
    ),
    "trl_reward": DropIn(reward_batches(), peers.trl_reward, trl_reward.DataCollatorForPreference, "trl"),
    "trl_kto": DropIn(
        kto_batches(),
        peers.trl_kto,
        trl_kto.DataCollatorForUnpairedPreference,
        "trl",
        refused=nothing_to_score(("prompt_ids", "completion_ids"), ("prompt_ids", "KL_completion_ids")),
    ),
    "trl_legacy": DropIn(legacy_batches(), peers.trl_legacy, trl_legacy.DataCollatorForPreference, peers.TRL_LEGACY),
    "trl_padding": DropIn(
        padding_batches(),
        peers.trl_padding,
        trl_legacy.DPODataCollatorWithPadding,
        peers.TRL_LEGACY,
        as_they_are=("prompt", "n", "raw"),
    ),
    "llamafactory": DropIn(
        llamafactory_batches(),
        llamafactory_original,
        llamafactory_ours,
        peers.LLAMAFACTORY,
        as_they_are=("images", "videos", "audios"),
    ),
    "torchtune": DropIn(
        torchtune_batches(),
        by_name(peers.torchtune, pad_token_id="padding_idx"),
        by_name(lambda: torchtune.padded_collate_dpo, pad_token_id="padding_idx"),
        peers.TORCHTUNE,
        cut=without_extra_block,
    ),
    "openrlhf": DropIn(
        openrlhf_batches(),
        peers.openrlhf,
        openrlhf.RewardCollator,
        peers.OPENRLHF,
        theirs=openrlhf_sample,
    ),
    "swift": DropIn(
        swift_batches(), swift_by(peers.swift), swift_by(swift.PreferenceDataCollator), peers.SWIFT, theirs=swift_sample
    ),
    "megatron_bridge": DropIn(
        megatron_batches(),
        by_name(peers.megatron_bridge, **MEGATRON),
        by_name(lambda: megatron_bridge.preference_collate_fn, **MEGATRON),
        peers.MEGATRON_BRIDGE,
    ),
    "open_instruct": DropIn(
        open_instruct_batches(),
        peers.open_instruct,
        open_instruct.TensorDataCollatorWithFlatteningDPO,
        peers.OPEN_INSTRUCT,
        theirs=tensors,
        in_order=False,
    ),
    "xtuner": DropIn(
        xtuner_batches(),
        by_name(peers.xtuner, pad_token_id="pad_index"),
        by_name(lambda: xtuner.preference_collate_fn, pad_token_id="pad_index"),
        peers.XTUNER,
        as_they_are=("ds_name",),
    ),
}


# --- what is compared -----------------------------------------------------------------------------


def described(batch: Any, *, in_order: bool = True) -> Any:
    """All there is to a batch: containers, keys, dtypes, shapes, values."""
    if type(batch) is dict:
        items = [(key, described(value, in_order=in_order)) for key, value in batch.items()]
        return (dict, items if in_order else sorted(items, key=lambda item: str(item[0])))
    if type(batch) in {list, tuple}:
        return (type(batch), [described(value, in_order=in_order) for value in batch])
    if isinstance(batch, torch.Tensor):
        return Array.of(batch)
    return (type(batch), repr(batch))


@st.composite
def dressed(draw: st.DrawFn, drop_in: DropIn, sample: Any, kind: str) -> Any:
    """The sample, with values of any kind that holds them, or of that kind."""
    if isinstance(sample, tuple):
        *parts, extra = sample
        values = [draw(value_of(part, kind)) for part in parts]
        boxed = [isinstance(value, list | tuple | Dense) and draw(st.booleans()) for value in values]
        return (*(box(value) if wish else value for value, wish in zip(values, boxed, strict=True)), extra)
    return {key: value if key in drop_in.as_they_are else draw(value_of(value, kind)) for key, value in sample.items()}


def box(value: Any) -> Any:
    """A row `[L]` as `[1, L]`."""
    return value[None] if isinstance(value, Dense) else [value]


@st.composite
def value_of(draw: st.DrawFn, value: Any, kind: str) -> Any:
    if value is None or isinstance(value, str) or kind == "as it is":
        return value
    if isinstance(value, int | float):
        kinds = number_kinds(value)
    elif isinstance(value, list) and not (value and isinstance(value[0], list)):
        kinds = row_kinds(value)
    else:
        kinds = tile_kinds(torch.as_tensor(value))
    return kinds[kind if kind in kinds else draw(st.sampled_from(sorted(kinds)))]()


DRESSES = ("as it is", "torch: int64", "numpy: int64", "any", "any")
