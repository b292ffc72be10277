"""Wrong samples and options, given to the drop-ins: errors that say what and where."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch

from dpo_collate.trainers import llamafactory, megatron_bridge, open_instruct, torchtune, trl, xtuner
from drop_ins_examples import (
    EXAMPLES,
    IDS,
    KTO,
    MEGATRON,
    MINE,
    PAIR,
    SPLIT,
    THREE,
    TOKENS,
    XTUNER,
    called,
    collate,
    with_tokens,
    without,
)

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.mark.parametrize("name", EXAMPLES)
def test_floats_are_no_ids(name: str) -> None:
    with pytest.raises(TypeError) as caught:
        called(name, [EXAMPLES[name], with_tokens(name, [1.5, 2.5])])
    assert caught.value.args == (f"sample 1: '{TOKENS[name]}' has dtype float64, expected integers",)


@pytest.mark.parametrize("name", EXAMPLES)
def test_tokens_that_are_not_there(name: str) -> None:
    sample = EXAMPLES[name]
    bad = with_tokens(name, None) if isinstance(sample, tuple) else without(sample, TOKENS[name])
    with pytest.raises((KeyError, TypeError), match=rf"sample 1: (no '{TOKENS[name]}'|'{TOKENS[name]}' is None)"):
        called(name, [sample, bad])


REFS = ("ref_chosen_logps", "ref_rejected_logps")
PARALLEL = {
    **dict.fromkeys(("torchtune", "swift", "open_instruct", "llamafactory", "xtuner"), "rejected_labels"),
    "llamafactory ": "rejected_attention_mask",
    "megatron_bridge": "rejected_loss_mask",
}


@pytest.mark.parametrize("name", PARALLEL)
def test_lengths_that_differ(name: str) -> None:
    key, name = PARALLEL[name], name.strip()
    sample = EXAMPLES[name]
    tokens = TOKENS[name].replace("chosen", "rejected")
    with pytest.raises(ValueError, match=r"^sample 1: ") as caught:
        called(name, [sample, sample | {key: [1] * 7}])
    assert caught.value.args == (f"sample 1: '{key}' has 7 tokens, but '{tokens}' has {len(sample[tokens])}",)


SOME = [
    *[(name, key) for name in ("trl", "trl_legacy") for key in REFS],
    *[("trl_reward", "margin"), ("swift", "margin"), ("trl_kto", "ref_logps"), ("trl_kto", "ref_KL_logps")],
    *[("trl_kto", "KL_completion_ids"), ("trl_legacy", "token_type_ids"), ("llamafactory", "chosen_attention_mask")],
    *[("swift", "chosen_labels"), ("swift", "rejected_loss_scale"), ("swift", "chosen_token_type_ids")],
]


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize(("name", "key"), SOME)
def test_what_may_be_left_out_is_in_all_samples_or_in_none(name: str, key: str, *, first: bool) -> None:
    row = [1] * (1 if key.startswith("rejected") else 2)
    lacks = without(EXAMPLES[name], key)
    samples = [lacks | {key: row if "_ids" in key or "_mask" in key or key.startswith(("ch", "rej")) else 1.0}, lacks]
    with pytest.raises(KeyError) as caught:
        called(name, samples if first else samples[::-1])
    endings = ("in all samples or in none", "expected both or none", "(its keys: ")
    assert any(ending in str(caught.value) for ending in endings)


NO_PAD_TOKEN = (
    "pad_token_id=None: expected an integer; of a tokenizer without a pad token, set tokenizer.pad_token = "
    "tokenizer.eos_token first"
)

ERRORS: list[tuple[str, dict[str, Any], Any, type[Exception], str]] = [
    *(
        (
            name,
            {"max_length": 2},
            sample,
            ValueError,
            f"sample 0: truncation from {of} to 2 tokens leaves nothing to score in '{key}'",
        )
        for name, sample, of, key in (("trl", SPLIT, 3, "chosen_ids"), ("trl_kto", KTO, 3, "completion_ids"))
    ),
    (
        "trl",
        {"truncation_mode": "x"},
        SPLIT,
        ValueError,
        "truncation_mode='x': expected None or 'keep_start' or 'keep_end' or 'error'",
    ),
    ("trl", {"model_keys": "pixel_values"}, SPLIT, TypeError, "model_keys='pixel_values': expected a tuple of keys"),
    ("trl_kto", {}, KTO | {"label": 2}, OverflowError, "sample 0: 'label' is 2, which does not fit bool"),
    ("trl_padding", {"pad_token_id": None}, PAIR, TypeError, NO_PAD_TOKEN),
    ("llamafactory", {"padding": False}, MINE, ValueError, "padding=False: expected True or 'longest' or 'max_length'"),
    (
        "llamafactory",
        {},
        MINE | {"chosen_labels": None},
        TypeError,
        "sample 0: 'chosen_labels' is None, expected a 1-D tensor, array or list of integers",
    ),
    (
        "openrlhf",
        {},
        ([1], [1], [1], [1]),
        ValueError,
        "sample 0 has 4 parts, expected 5: chosen_ids, chosen_mask, reject_ids, reject_mask, extra",
    ),
    (
        "openrlhf",
        {},
        ([1], [1, 1], [1], [1], 0),
        ValueError,
        "sample 0: 'chosen_mask' has 2 tokens, but 'chosen_ids' has 1",
    ),
    ("swift", {"padding_side": "up"}, PAIR, ValueError, "padding_side='up': expected 'right' or 'left'"),
    (
        "megatron_bridge",
        {},
        MEGATRON | {"chosen_loss_mask": [1, 0]},
        ValueError,
        "sample 0: 'chosen_loss_mask' is all padding: expected at least one value",
    ),
    (
        "open_instruct",
        {},
        PAIR,
        KeyError,
        "sample 0: no 'index' (its keys: 'chosen_input_ids', 'rejected_input_ids', 'chosen_labels', 'rejected_labels')",
    ),
    ("open_instruct", {"max_seq_length": 3}, 5, TypeError, "sample 0: expected a mapping such as a dict, got int"),
    (
        "open_instruct",
        {"max_seq_length": 3},
        PAIR | {"chosen_input_ids": 5},
        TypeError,
        "sample 0: 'chosen_input_ids' is 5, expected a 1-D tensor, array or list of integers",
    ),
    (
        "open_instruct",
        {},
        IDS | {"index": 1},
        KeyError,
        "sample 0: no 'chosen_labels' (its keys: 'chosen_input_ids', 'rejected_input_ids', 'index')",
    ),
    (
        "xtuner",
        {"use_varlen_attn": True},
        XTUNER,
        ValueError,
        (
            "use_varlen_attn=True takes rows that were packed before, which is not done here; layout 'padding_free' of "
            "PreferenceCollator puts pairs end to end"
        ),
    ),
    (
        "internvl_gpt_oss",
        {},
        THREE | {"pixel_values": torch.ones(1, 3, 2, 2), "image_flags": [1, 1]},
        ValueError,
        "sample 0: 'image_flags' has 2 flags, but 'pixel_values' has 1 tiles (its first dimension counts them)",
    ),
]


@pytest.mark.parametrize(("name", "options", "sample", "error", "sentence"), ERRORS)
def test_errors(name: str, options: dict[str, Any], sample: Any, error: type[Exception], sentence: str) -> None:
    with pytest.raises(error) as caught:
        collate(name, sample, **options)
    assert caught.value.args == (sentence,)


WRONG_OPTIONS: list[tuple[Callable[[], Any], type[Exception], str]] = [
    (lambda: trl.DataCollatorForPreference([7])([SPLIT]), TypeError, "pad_token_id=[7]: expected an integer"),  # type: ignore[arg-type]
    (lambda: xtuner.preference_collate_fn([PAIR], None), TypeError, "pad_index=None: expected an integer"),  # type: ignore[arg-type]
    (lambda: torchtune.padded_collate_dpo([PAIR], 0.5), TypeError, "padding_idx=0.5: expected an integer"),  # type: ignore[arg-type]
    (
        lambda: megatron_bridge.preference_collate_fn([MEGATRON], 0, None),  # type: ignore[arg-type]
        TypeError,
        "pad_seq_length_to_mult=None: expected an integer",
    ),
    (
        lambda: open_instruct.TensorDataCollatorWithFlatteningDPO(max_seq_length=0)([PAIR]),
        ValueError,
        "max_seq_length=0: expected 1 or more",
    ),
    (
        lambda: llamafactory.PairwiseDataCollatorWithPadding(None, padding="max_length"),
        ValueError,
        "padding='max_length': expected a max_length",
    ),
]


@pytest.mark.parametrize(("call", "exception", "sentence"), WRONG_OPTIONS, ids=[it[2] for it in WRONG_OPTIONS])
def test_options_by_their_own_names(call: Callable[[], Any], exception: type[Exception], sentence: str) -> None:
    with pytest.raises(exception) as caught:
        call()
    assert caught.value.args == (sentence,)


def test_whether_an_option_is_wrong_does_not_depend_on_what_was_asked_before() -> None:
    trl.DataCollatorForPreference(7)([SPLIT])
    with pytest.raises(TypeError, match=r"^pad_token_id=7\.0: expected an integer$"):
        trl.DataCollatorForPreference(7.0)([SPLIT])  # type: ignore[arg-type]
