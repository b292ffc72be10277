"""Random batches that an original and its drop-in both take, and the options to collate them with."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch
from hypothesis import strategies as st

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

Options: TypeAlias = dict[str, Any]
SIDES = ("chosen", "rejected")
SPLIT = ("prompt", *SIDES)

# --- parts of samples -----------------------------------------------------------------------------

IDS = st.integers(0, 9) | st.integers(-(2**63), 2**63 - 1)
PADS = st.sampled_from([0, 1, 7, 151643])
BITS = st.integers(0, 1)
REAL = st.sampled_from([0.0, -0.5, 1.0, 0.3, -1e30]) | st.floats(width=32)
MOST = st.integers(1, 12) | st.integers(2, 9) | st.integers(10, 80)
MULTIPLES = st.none() | st.integers(1, 9)
FLOATING = st.sampled_from([torch.float32, torch.float32, torch.bfloat16, torch.float16, torch.uint8])


def row(draw: st.DrawFn, least: int = 1) -> list[int]:
    length = draw(st.integers(least, 6) | st.just(33))
    some = draw(st.lists(IDS, min_size=1, max_size=6))
    return [some[at % len(some)] for at in range(length)]


def labels(draw: st.DrawFn, ids: list[int]) -> list[int]:
    prompt = draw(st.integers(0, len(ids)))
    return [-100] * prompt + ids[prompt:]


def each(values: st.SearchStrategy[Any]) -> Callable[[st.DrawFn, list[int]], list[Any]]:
    """What makes a row that is parallel to ids."""
    return lambda draw, ids: [draw(values) for _ in range(min(len(ids), 6))] + [1] * (len(ids) - 6)


def rows(draw: st.DrawFn, stems: Iterable[str], tokens: str, least: int = 1, **parallel: Any) -> dict[str, Any]:
    """Rows of ids, and of what is parallel to them: each under its stem."""
    sample: dict[str, Any] = {}
    for stem in stems:
        ids = sample[f"{stem}_{tokens}"] = row(draw, least)
        sample |= {f"{stem}_{name}": make(draw, ids) for name, make in parallel.items()}
    return sample


def some(draw: st.DrawFn, **wanted: Any) -> dict[str, Any]:
    """Some of these; whether a key is there is decided once a batch."""
    return {name: what for name, what in wanted.items() if draw(st.booleans())}


def shuffled(draw: st.DrawFn, sample: dict[str, Any]) -> dict[str, Any]:
    return {key: sample[key] for key in draw(st.permutations(list(sample)))}


def count(draw: st.DrawFn) -> range:
    return range(draw(st.integers(1, 4)))


# --- batches --------------------------------------------------------------------------------------


@st.composite
def gpt_oss_batches(draw: st.DrawFn) -> tuple[Options, list[Any]]:
    extras: dict[str, st.SearchStrategy[Any]] = {
        "margin": REAL,
        "whole": st.integers(-5, 5),
        "text": st.none() | st.text(max_size=2),
    }
    extras |= {f"{side}_labels": st.just(torch.tensor([-100, 3])) for side in SIDES}
    chosen = some(draw, **extras)
    tile, dtype = draw(st.sampled_from([None, (3, 2, 2), (3, 1, 2)])), draw(FLOATING)
    samples = []
    for index in count(draw):
        sample = rows(draw, SPLIT, "input_ids", 0) | {key: draw(values) for key, values in chosen.items()}
        sample |= {f"{stem}_attention_mask": [1, 1] for stem in SPLIT if draw(st.booleans())}
        if tile is not None:
            tiles = draw(st.integers(0 if index else 1, 2))
            sample["pixel_values"] = torch.full((tiles, *tile), index + 0.5).to(dtype)
            sample["image_flags"] = torch.arange(tiles)
        samples.append(shuffled(draw, sample))
    return {"pad_token_id": draw(PADS)}, samples


@st.composite
def legacy_batches(draw: st.DrawFn) -> tuple[Options, list[Any]]:
    there = some(draw, logps=1, pixel_values=1, pixel_attention_mask=1, image_sizes=1, token_type_ids=1, margin=1)
    dtype, kind = draw(st.sampled_from(["float32", "float64", "uint8"])), draw(st.sampled_from(["int64", "bool"]))
    samples = []
    for index in count(draw):
        sample = rows(draw, SPLIT, "input_ids", 0 if index else 1)
        if "token_type_ids" in there:
            sample["token_type_ids"] = row(draw)
        if "logps" in there:
            sample |= {f"ref_{side}_logps": draw(REAL) for side in SIDES}
        shape = draw(st.tuples(*[st.integers(1, 3)] * 4))
        if "pixel_values" in there:
            sample["pixel_values"] = (np.arange(math.prod(shape)) + 1).astype(dtype).reshape(shape)
        if "pixel_attention_mask" in there:
            sample["pixel_attention_mask"] = np.ones((shape[0], *shape[2:]), kind)
        if "image_sizes" in there:
            sample["image_sizes"] = [[index, 2], [3, 4]]
        samples.append(sample | ({"margin": 1.0} if "margin" in there else {}))
    return {"pad_token_id": draw(PADS)}, samples


@st.composite
def padding_batches(draw: st.DrawFn) -> tuple[Options, list[Any]]:
    encoder = draw(st.booleans())
    stems = [*SPLIT, "completion_decoder", *([] if encoder else ["KL_prompt", "x"])]
    keys = [f"{stem}_{of}" for stem in stems for of in ("input_ids", "attention_mask", "labels")]
    keys = [key for key in keys if not (encoder and key == "prompt_labels")]
    there = draw(st.lists(st.sampled_from(keys), unique=True, min_size=1, max_size=6))
    more = some(draw, reference_chosen_logps=REAL, prompt=st.text(max_size=3), n=st.integers(), raw=st.just([1, 2]))
    pixels = draw(st.booleans()) and not encoder
    samples = []
    for index in count(draw):
        sample: dict[str, Any] = {key: row(draw, 0) for key in there} | {key: draw(of) for key, of in more.items()}
        if pixels:
            sample["prompt_pixel_values"] = np.full(draw(st.tuples(*[st.integers(1, 2)] * 3)), index + 0.5)
        samples.append(shuffled(draw, sample))
    return {"pad_token_id": draw(PADS), "is_encoder_decoder": encoder}, samples


@st.composite
def trl_batches(draw: st.DrawFn) -> tuple[Options, list[Any]]:
    options = {"pad_token_id": draw(PADS)} | some(draw, pad_to_multiple_of=draw(MULTIPLES))
    truncated: Options = {"max_length": draw(MOST)}
    modes = [{}, truncated, *[truncated | {"truncation_mode": f"keep_{mode}"} for mode in ("start", "end", "end")]]
    options |= draw(st.sampled_from(modes))
    more = some(draw, ref_chosen_logps=REAL, ref_rejected_logps=REAL, margin=REAL)
    samples = []
    for index in count(draw):
        sample = rows(draw, SPLIT, "ids", 0 if index else 1)
        samples.append(sample | {key: draw(values) for key, values in more.items()})
    return options, samples


@st.composite
def reward_batches(draw: st.DrawFn) -> tuple[Options, list[Any]]:
    more = some(draw, margin=REAL | st.integers(-5, 5), prompt_ids=st.just([1]))
    samples = []
    for index in count(draw):
        sample = rows(draw, SIDES, "ids", 0 if index else 1)
        samples.append(sample | {key: draw(values) for key, values in more.items()})
    return {"pad_token_id": draw(PADS), "pad_to_multiple_of": draw(MULTIPLES)}, samples


@st.composite
def kto_batches(draw: st.DrawFn) -> tuple[Options, list[Any]]:
    options = {"pad_token_id": draw(PADS)} | some(draw, pad_to_multiple_of=draw(MULTIPLES), max_length=draw(MOST))
    more = {"label": st.booleans()} | some(draw, ref_logps=REAL, ref_KL_logps=REAL)
    stems = ["prompt", "completion", *some(draw, KL_completion=1)]
    samples = [rows(draw, stems, "ids", 0) for _ in count(draw)]
    return options, [sample | {key: draw(values) for key, values in more.items()} for sample in samples]


@st.composite
def llamafactory_batches(draw: st.DrawFn) -> tuple[Options, list[Any]]:
    options: Options = {"pad_token_id": draw(PADS), "padding_side": draw(st.sampled_from(["right", "left"]))}
    options |= some(draw, pad_to_multiple_of=draw(st.sampled_from([1, 3, 64, None])))
    options |= some(draw, label_pad_token_id=options["pad_token_id"])
    samples = []
    for index in count(draw):
        parallel = {"attention_mask": each(BITS), "labels": labels}
        sample = rows(draw, SIDES, "input_ids", 0 if index else 1, **parallel)
        media = draw(st.tuples(*[st.sampled_from([None, []])] * 3))
        samples.append(sample | dict(zip(("images", "videos", "audios"), media, strict=True)) | {"note": "a"})
    if draw(st.booleans()):  # (to fewer tokens than there are is not asked of it)
        longest = max(len(sample[f"{side}_input_ids"]) for sample in samples for side in SIDES)
        options |= {"max_length": draw(st.integers(longest, longest + 9)), "padding": "max_length"}
    return options, samples


@st.composite
def torchtune_batches(draw: st.DrawFn) -> tuple[Options, list[Any]]:
    options = {"pad_token_id": draw(PADS)} | some(draw, ignore_idx=draw(st.sampled_from([-100, 0, 5])))
    options |= some(draw, pad_to_multiple_of=draw(st.integers(1, 9)))
    samples = [rows(draw, SIDES, "input_ids", 0 if index else 1, labels=labels) for index in count(draw)]
    return options, [sample | {"prompt": "a"} for sample in samples]


@st.composite
def openrlhf_batches(draw: st.DrawFn) -> tuple[Options, list[Any]]:
    samples = []
    for _ in count(draw):
        sample = rows(draw, ("chosen", "reject"), "ids", mask=each(BITS))
        samples.append((*sample.values(), draw(st.integers(0, 9) | REAL)))
    return {"pad_token_id": draw(PADS), "is_dpo": draw(st.booleans())}, samples


@st.composite
def swift_batches(draw: st.DrawFn) -> tuple[Options, list[Any]]:
    layout: Options = draw(st.sampled_from([{}, {"padding_side": "left"}, {"padding_free": True}, {"training": False}]))
    options = {"pad_token_id": draw(PADS)} | layout | some(draw, padding_to=draw(st.none() | st.integers(0, 40)))
    types = each(st.integers(0, 2))
    parallel = some(draw, labels=labels, loss_scale=each(REAL), token_type_ids=types, mm_token_type_ids=types)
    media, there, dtype = draw(st.sampled_from(["", "image", "video"])), draw(st.booleans()), draw(FLOATING)
    samples = []
    for index in count(draw):
        sample = rows(draw, SIDES, "input_ids", **parallel)
        if "chosen_loss_scale" in sample:
            sample |= {f"{side}_loss_scale": list(map(float, sample[f"{side}_loss_scale"])) for side in SIDES}
        for side in SIDES if media else ():
            tiles = draw(st.integers(1, 2) | st.none())
            if tiles is not None:
                name = "pixel_values" if media == "image" else "pixel_values_videos"
                sample[f"{side}_{name}"] = torch.full((tiles, 3), index + (side == "chosen") / 2).to(dtype)
                sample[f"{side}_{media}_grid_thw"] = torch.full((1, 3), index)
                if media == "image":
                    sample[f"{side}_image_sizes"] = torch.full((tiles, 2), index)
        samples.append(sample | ({"margin": draw(REAL)} if there else {}))
    return options, samples


@st.composite
def megatron_batches(draw: st.DrawFn) -> tuple[Options, list[Any]]:
    options = {"pad_token_id": draw(PADS)} | some(
        draw, multiple=draw(st.integers(0, 9)), require_ref=draw(st.booleans())
    )
    reals = [f"ref_{side}_logprob_sum" for side in SIDES]
    samples = []
    for _ in count(draw):
        sample = rows(draw, SIDES, "input_ids", 2, loss_mask=each(st.booleans()))
        for side in SIDES:
            mask = sample[f"{side}_loss_mask"]
            mask[draw(st.integers(1, len(mask) - 1))] = draw(st.sampled_from([True, 1, 2]))
        sample |= {"pair_id": draw(st.integers(0, 2**40))} | some(draw, loss_multiplier=draw(REAL))
        if options.get("require_ref", True):
            sample |= {key: draw(REAL) for key in reals} | {f"ref_{side}_num_tokens": draw(IDS) for side in SIDES}
        samples.append(sample)
    return options, samples


@st.composite
def open_instruct_batches(draw: st.DrawFn) -> tuple[Options, list[Any]]:
    names = ("flash_attn_kwargs", "position_ids", "seq_idx")
    options: Options = some(draw, **{f"return_{name}": draw(st.booleans()) for name in names})
    # With another separator than -100 what fills up differs: test_drop_ins.py.
    options |= draw(st.sampled_from([{}, {"separator_id": 5}, {"max_seq_length": draw(st.integers(1, 90))}]))
    samples = [rows(draw, SIDES, "input_ids", labels=labels) for _ in count(draw)]
    return options, [sample | {"index": draw(IDS), "note": "a"} for sample in samples]


@st.composite
def xtuner_batches(draw: st.DrawFn) -> tuple[Options, list[Any]]:
    options = {"pad_token_id": draw(PADS)} | some(draw, return_hf_format=draw(st.booleans()))
    samples = [rows(draw, SIDES, "ids", 0, labels=labels) for _ in count(draw)]
    return options, [sample | some(draw, ds_name=draw(st.sampled_from(["a", "b"]))) for sample in samples]
