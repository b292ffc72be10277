"""What the drop-ins mend and say in their docstrings, one by one; equality with the originals is in test_peers.py."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from dpo_collate.testing.comparing import fingerprint
from drop_ins import DROP_INS, described
from drop_ins_batches import SIDES
from drop_ins_examples import CONCATENATED, EXAMPLES, KTO, MEGATRON, MINE, PAIR, SPLIT, THREE, collate, without

TILE = torch.ones(1, 3, 2, 2)


@pytest.mark.parametrize("name", EXAMPLES)
def test_lists_arrays_and_tensors_are_the_same(name: str) -> None:
    """And the samples stay as they are."""
    expected = described(collate(name, EXAMPLES[name]))
    for make in (tuple, np.array, torch.tensor, lambda row: np.array(row, np.int32)):
        sample = EXAMPLES[name]
        if isinstance(sample, tuple):
            sample = (*map(make, sample[:4]), sample[4])
        else:
            sample = {key: make(value) if value and type(value) is list else value for key, value in sample.items()}
        before = fingerprint(sample)
        assert described(collate(name, sample)) == expected
        assert fingerprint(sample) == before


@pytest.mark.parametrize("name", [name for name in EXAMPLES if name not in {"internvl_gpt_oss", "trl_padding"}])
def test_other_keys_are_left_out(name: str) -> None:
    sample = EXAMPLES[name]
    if isinstance(sample, dict):
        assert described(collate(name, sample | {"note": "a", "chosen_note": 1})) == described(collate(name, sample))


@pytest.mark.parametrize("name", ["trl", "trl_reward", "trl_kto", "trl_legacy", "torchtune"])
def test_an_empty_first_row_is_integers(name: str) -> None:
    row = {"trl_reward": "chosen_ids", "trl": "prompt_ids", "trl_kto": "prompt_ids"}.get(name, "chosen_input_ids")
    empty = EXAMPLES[name] | {row: []}
    if name == "torchtune":
        empty["chosen_labels"] = []
    batch = collate(name, empty, EXAMPLES[name])
    assert {str(value.dtype) for value in (batch.values() if isinstance(batch, dict) else batch)} <= {
        *("torch.int64", "torch.bool")
    }


# --- InternVL, gpt-oss ----------------------------------------------------------------------------


def test_gpt_oss_masks_compare_ids_with_the_pad_id() -> None:
    batch = collate("internvl_gpt_oss", THREE | {"prompt_input_ids": [1, 0]}, THREE | {"prompt_input_ids": [3] * 3})
    assert batch["prompt_input_ids"].tolist() == [[1, 0, 0], [3, 3, 3]]  # on the right
    assert batch["prompt_attention_mask"].tolist() == [[1, 0, 0], [1, 1, 1]]


def test_gpt_oss_order_labels_and_images() -> None:
    sample = THREE | {"chosen_labels": [1, 2], "pixel_values": TILE, "image_flags": [1]}
    batch = collate("internvl_gpt_oss", sample, sample)
    assert list(batch) == [*sample, *(f"{stem}_attention_mask" for stem in ("chosen", "rejected", "prompt"))]
    assert batch["chosen_labels"].tolist() == [[1, 2]] * 2  # stacked
    assert batch["pixel_values"].shape == (2, 3, 2, 2)


def test_gpt_oss_no_tile_at_all_is_no_image() -> None:
    sample = THREE | {"pixel_values": TILE[:0], "image_flags": []}
    assert "pixel_values" not in collate("internvl_gpt_oss", sample)


# --- TRL ------------------------------------------------------------------------------------------


def test_trl_arrays_are_joined_not_added() -> None:
    sample = {key: np.array([1, 2]) for key in SPLIT}
    assert collate("trl", sample)["input_ids"].tolist() == [[1, 2, 1, 2]] * 2


@pytest.mark.parametrize("name", ["trl", "trl_legacy"])
@pytest.mark.parametrize("logp", [-1, np.float64(-1), torch.tensor([-1.0], dtype=torch.float64), np.array(-1)])
def test_trl_log_probabilities_are_float32(name: str, logp: Any) -> None:
    batch = collate(name, EXAMPLES[name] | {"ref_chosen_logps": logp, "ref_rejected_logps": -2.5})
    assert [batch[f"ref_{side}_logps"].dtype for side in SIDES] == [torch.float32] * 2
    assert [batch[f"ref_{side}_logps"].tolist() for side in SIDES] == [[-1], [-2.5]]


def test_trl_model_keys_are_sent_once_for_each_row() -> None:
    samples = [SPLIT | {"pixel_values": torch.full((index + 1, 2), index).bfloat16()} for index in range(2)]
    batch = collate("trl", *samples, model_keys=["pixel_values"])
    assert batch["pixel_values"][:, 0].tolist() == [0, 1, 1, 0, 1, 1]
    assert batch["pixel_values"].dtype == torch.bfloat16
    assert "pixel_values" not in collate("trl", *samples)


def test_trl_kto() -> None:
    batch = collate("trl_kto", KTO | {"label": 1, "KL_completion_ids": [9, 9], "ref_logps": np.float64(1)})
    assert batch["label"].dtype == torch.bool
    assert batch["ref_logps"].dtype == torch.float32
    assert batch["KL_input_ids"].tolist() == [[1, 2, 9, 9]]


def test_trl_reward_margin_and_width() -> None:
    batch = collate("trl_reward", SPLIT | {"margin": 2}, pad_to_multiple_of=4)
    assert batch["margin"].dtype == torch.float32
    assert batch["input_ids"].tolist() == [[3, 0, 0, 0], [4, 5, 0, 0]]


def test_trl_legacy_pads_prompts_on_the_left_and_images_in_every_dimension() -> None:
    more: dict[str, Any] = {
        "pixel_values": np.ones((1, 1, 2, 1), np.float32),
        "image_sizes": [[2, 1]],
        "token_type_ids": [1],
    }
    other: dict[str, Any] = {
        "pixel_values": np.ones((2, 1, 1, 2), np.float32),
        "image_sizes": [[1, 2]],
        "token_type_ids": [1, 2, 3],
    }
    more["pixel_attention_mask"], other["pixel_attention_mask"] = [[1, 1]], [[1, 1], [1, 1]]
    batch = collate("trl_legacy", THREE | more, THREE | {"prompt_input_ids": [9] * 3} | other)
    assert batch["prompt_input_ids"].tolist() == [[0, 1, 2], [9, 9, 9]]
    assert batch["pixel_values"].tolist() == [
        [[[[1, 0], [1, 0]]], [[[0, 0], [0, 0]]]],
        [[[[1, 1], [0, 0]]], [[[1, 1], [0, 0]]]],
    ]
    assert batch["pixel_attention_mask"].tolist() == [[[1, 1], [0, 0]], [[1, 1], [1, 1]]]
    assert batch["image_sizes"].tolist() == [[[2, 1]], [[1, 2]]]
    assert batch["token_type_ids"].tolist() == [[0, 0, 1], [1, 2, 3]]


def test_trl_legacy_one_log_probability_is_not_dropped() -> None:
    assert collate("trl_legacy", THREE | {"ref_chosen_logps": 1})["ref_chosen_logps"].tolist() == [1]


def test_trl_padding_goes_by_what_keys_end_in() -> None:
    thing = object()
    long = {"x_input_ids": [1, 2], "x_labels": [1, 2], "x_attention_mask": [1, 1], "prompt_input_ids": [1, 2]}
    short = {key: value[:1] for key, value in long.items()}
    more = {"x_logps": 1, "x_pixel_values": np.ones((1, 1, 1)), "thing": thing}
    batch = collate("trl_padding", long | more, short | more | {"x_pixel_values": np.ones((2, 1, 1))})
    assert batch["thing"][0] is thing
    assert {key: batch[key][1].tolist() for key in long} == {
        "x_input_ids": [1, 0],
        "x_labels": [1, -100],
        "x_attention_mask": [1, 0],
        "prompt_input_ids": [0, 1],
    }
    assert batch["x_pixel_values"].tolist() == [[[[1]], [[0]]], [[[1]], [[1]]]]
    assert (batch["x_pixel_values"].dtype, batch["x_logps"].dtype) == (torch.float32, torch.float32)
    other = collate("trl_padding", long, short, is_encoder_decoder=True)
    assert {key: other[key][1].tolist() for key in ("x_input_ids", "prompt_input_ids")} == {
        "x_input_ids": [1, -100],
        "prompt_input_ids": [1, 0],
    }


# --- LLaMA-Factory --------------------------------------------------------------------------------


def test_llamafactory_masks_are_made_where_there_are_none() -> None:
    batch = collate("llamafactory", CONCATENATED, pad_to_multiple_of=1)
    assert type(batch) is dict
    assert batch["attention_mask"].tolist() == [[1, 1], [1, 0]]
    assert list(batch) == ["input_ids", "attention_mask", "labels"]


def test_llamafactory_options() -> None:
    batch = collate("llamafactory", MINE, padding_side="left", label_pad_token_id=0, padding="max_length", max_length=3)
    assert batch["labels"].tolist() == [[0] * 6 + [-100, 6], [0] * 7 + [7]]
    assert collate("llamafactory", MINE, max_length=99)["labels"].shape == (2, 8)  # rows are padded to the longest
    assert collate("llamafactory", MINE, max_length=9, padding="max_length")["labels"].shape == (2, 16)


def test_llamafactory_media_that_were_processed() -> None:
    samples = [
        MINE | {"pixel_values": index + TILE, "image_grid_thw": torch.tensor([[1, 2, index]])} for index in (1, 2)
    ]
    batch = collate("llamafactory", *samples)
    assert batch["pixel_values"][:, 0, 0, 0].tolist() == [2, 3, 2, 3]
    assert batch["image_grid_thw"].tolist() == [[1, 2, 1], [1, 2, 2]] * 2
    assert "pixel_values" not in collate("llamafactory", MINE)  # no dummy image


@pytest.mark.parametrize("raw", [["a.png"], "a.png", [torch.ones(3)], object()])
def test_llamafactory_raw_media_are_an_error(raw: Any) -> None:
    with pytest.raises(TypeError, match=r"^sample 1: 'images' holds raw media, which are not processed here: "):
        collate("llamafactory", MINE, MINE | {"images": raw})


# --- torchtune, OpenRLHF, ms-swift ----------------------------------------------------------------


@pytest.mark.parametrize(("multiple", "width"), [(1, 2), (2, 2), (3, 3), (4, 4)])
def test_torchtune_adds_no_block(multiple: int, width: int) -> None:
    ids, labels = collate("torchtune", PAIR, pad_to_multiple_of=multiple, ignore_idx=-1)
    assert (ids.shape, labels.shape) == ((2, width), (2, width))
    assert labels[1].tolist() == [7] + [-1] * (width - 1)


def test_openrlhf_rows_of_one_or_two_dimensions() -> None:
    flat = ([5, 6], [1, 1], [7], [1], "extra")
    boxed = tuple([part] for part in flat[:4]) + flat[4:]
    tensors = (*(torch.tensor([part], dtype=torch.int32) for part in flat[:4]), "extra")
    expected = described(collate("openrlhf", flat, flat))
    for samples in ((boxed, boxed), (tensors, tensors), (flat, boxed), (boxed, tensors)):
        assert described(collate("openrlhf", *samples)) == expected
    assert described(collate("openrlhf", tensors)[4]) == described(["extra"])


def test_openrlhf_side() -> None:
    samples = ([5], [1], [7], [1], 1), ([5, 6], [1, 1], [7, 8, 9], [1, 1, 1], 2)
    for is_dpo, row in ((True, [7, 0, 0]), (False, [0, 0, 7])):
        batch = collate("openrlhf", *samples, is_dpo=is_dpo)
        assert type(batch) is tuple
        assert [array.shape for array in batch[:4]] == [(2, 2), (2, 2), (2, 3), (2, 3)]
        assert batch[2][0].tolist() == row
        assert batch[4] == [1, 2]


def test_swift_media_in_the_order_of_the_rows() -> None:
    sides = [{f"{side}_pixel_values": torch.full((1, 2), at).bfloat16()} for at, side in enumerate(SIDES)]
    batch = collate("swift", PAIR | sides[0] | sides[1], PAIR | sides[1], PAIR | sides[0])
    assert batch["pixel_values"][:, 0].tolist() == [0, 0, 1, 1]
    assert batch["pixel_values"].dtype == torch.bfloat16


def test_swift_padding_free_takes_lengths_from_rows() -> None:
    wrong = PAIR | {
        "chosen_length": 99,
        "rejected_length": 1,
        "chosen_loss_scale": [0.5, 1],
        "rejected_loss_scale": [2],
    }
    tensors = {key: torch.tensor(value) if isinstance(value, list) else value for key, value in wrong.items()}
    for sample in (wrong, tensors):
        batch = collate("swift", sample, sample, padding_free=True, padding_to=8)
        assert batch["position_ids"].tolist() == [[0, 1, 0, 1, 0, 0, 0, 0]]
        assert batch["input_ids"].tolist() == [[5, 6, 5, 6, 7, 7, 0, 0]]
        assert batch["loss_scale"].tolist() == [[0.5, 1, 0.5, 1, 2, 2, 0, 0]]
        assert "attention_mask" not in batch


def test_swift_sides() -> None:
    right = collate("swift", PAIR, padding_to=3)
    assert right["input_ids"].tolist() == [[5, 6, 0], [7, 0, 0]]
    assert "position_ids" not in right
    left = collate("swift", PAIR, padding_side="left")
    assert left["position_ids"].tolist() == [[0, 1], [0, 0]]
    assert left["labels"].tolist() == [[-100, 6], [-100, 7]]


@pytest.mark.parametrize("side", ["right", "left"])
def test_swift_pads_on_the_left_when_it_evaluates(side: str) -> None:
    batch = collate("swift", PAIR, padding_side=side, training=False)
    assert batch["input_ids"].tolist() == [[5, 6], [0, 7]]
    assert "position_ids" not in batch


def test_swift_leaves_out_what_is_not_here() -> None:
    more = {"chosen_inputs_embeds": TILE, "chosen_channel": "a", "chosen_position_ids": [3, 4]}
    assert described(collate("swift", PAIR | more)) == described(collate("swift", PAIR))


# --- Megatron-Bridge, open-instruct, xtuner -------------------------------------------------------


def test_megatron_bridge() -> None:
    batch = collate("megatron_bridge", MEGATRON | {"loss_multiplier": 0.5}, MEGATRON, multiple=4)
    assert batch["labels"].is_contiguous()
    assert batch["labels"].tolist() == [[6, 0, 0, 0], [8, 9, 0, 0]] * 2
    assert batch["loss_multiplier"].tolist() == [0.5, 0.5, 1, 1]
    assert batch["attention_mask"] is None
    policy = collate("megatron_bridge", without(MEGATRON, "ref_"), multiple=0, require_ref=False)
    assert policy["tokens"].tolist() == [[5, 0], [7, 8]]
    assert "ref_logprob_sum" not in policy


def test_open_instruct_leaves_out_pairs_that_do_not_fit() -> None:
    samples = [PAIR | {"index": index} for index in range(4)]
    for most, taken in ((1, 1), (2, 1), (4, 2), (5, 2), (8, 4), (99, 4), (None, 4)):
        batch = collate("open_instruct", *samples, max_seq_length=most)
        assert batch["index"].tolist() == list(range(taken))
        assert batch["chosen_input_ids"].shape == (1, max(most or 0, 2 * taken))


def test_open_instruct_fills_up_with_the_separator() -> None:
    batch = collate("open_instruct", PAIR | {"index": 0}, max_seq_length=4, separator_id=9)
    assert batch["chosen_labels"].tolist() == [[9, 6, 9, 9]]  # the original: [9, 6, -100, -100]
    assert batch["chosen_seq_idx"].tolist() == [[0, 0, -1, -1]]
    assert batch["chosen_cu_seq_lens_q"].tolist() == [0, 2]  # the tail is in no segment
    collator = DROP_INS["open_instruct"].ours(separator_id=9)
    assert collator([PAIR | {"index": 0}], separator_id=0)["chosen_labels"].tolist() == [[0, 6]]


@pytest.mark.parametrize("ids", [np.array, torch.tensor, memoryview])
def test_open_instruct_counts_tokens_of_any_kind(ids: Any) -> None:
    sample = PAIR | {"index": 0, "chosen_input_ids": ids(np.array([1, 2]))}
    assert collate("open_instruct", sample, sample, max_seq_length=3)["index"].tolist() == [0]


def test_xtuner() -> None:
    named = EXAMPLES["xtuner"] | {"ds_name": "a"}
    batch = collate("xtuner", named, EXAMPLES["xtuner"])
    assert batch["data_samples"] == {"ds_names": ["a", None]}
    assert batch["data"]["position_ids"].tolist() == [[0, 1]] * 4
    flat = collate("xtuner", named, EXAMPLES["xtuner"], return_hf_format=True)
    assert described(flat) == described(batch["data"])
