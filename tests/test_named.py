"""Named layouts: written out, against a plain restatement, and the pairings that make no sense."""

from __future__ import annotations

import pickle
import re
from dataclasses import replace
from typing import Any, get_args

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dpo_collate import PreferenceCollator
from dpo_collate.layout import Media, Scalar
from dpo_collate.named import NAMES, SEPARATE, Images, Inputs, Targets, named
from fewer import fewer
from pairs import IGNORED, PAD, PAIRS, Pair, assert_same, collate, full, listed, restated, samples, split, third

N = IGNORED
WRITTEN: dict[str, dict[str, Any]] = {
    "separate": {
        "chosen_input_ids": [
            [1, 2, 3],  # prompt and chosen 0
            [6, 7, 8],  # prompt and chosen 1
        ],
        "chosen_labels": [[N, N, 3], [N, 7, 8]],
        "chosen_attention_mask": [[1, 1, 1], [1, 1, 1]],
        "rejected_input_ids": [
            [1, 2, 4, 5],
            [6, PAD, PAD, PAD],  # its completion is empty
        ],
        "rejected_labels": [[N, N, 4, 5], [N, N, N, N]],
        "rejected_attention_mask": [[1, 1, 1, 1], [1, 0, 0, 0]],
    },
    "concatenated": {
        "input_ids": [
            [1, 2, 3, PAD],  # chosen 0
            [6, 7, 8, PAD],  # chosen 1
            [1, 2, 4, 5],  # rejected 0
            [6, PAD, PAD, PAD],  # rejected 1
        ],
        "attention_mask": [[1, 1, 1, 0], [1, 1, 1, 0], [1, 1, 1, 1], [1, 0, 0, 0]],
        "labels": [[N, N, 3, N], [N, 7, 8, N], [N, N, 4, 5], [N, N, N, N]],
    },
    "interleaved": {
        "input_ids": [
            [1, 2, 3, PAD],  # chosen 0
            [1, 2, 4, 5],  # rejected 0
            [6, 7, 8, PAD],  # chosen 1
            [6, PAD, PAD, PAD],  # rejected 1
        ],
        "attention_mask": [[1, 1, 1, 0], [1, 1, 1, 1], [1, 1, 1, 0], [1, 0, 0, 0]],
        "labels": [[N, N, 3, N], [N, N, 4, 5], [N, 7, 8, N], [N, N, N, N]],
    },
    "prompt_left": {
        "prompt_input_ids": [[1, 2], [PAD, 6]],
        "prompt_attention_mask": [[1, 1], [0, 1]],
        "chosen_input_ids": [[3, PAD], [7, 8]],
        "chosen_attention_mask": [[1, 0], [1, 1]],
        "rejected_input_ids": [[4, 5], [PAD, PAD]],
        "rejected_attention_mask": [[1, 1], [0, 0]],
    },
    "padding_free": {
        # chosen 0, chosen 1, rejected 0, rejected 1
        "input_ids": [[1, 2, 3, 6, 7, 8, 1, 2, 4, 5, 6]],
        "labels": [[N, N, 3, N, 7, 8, N, N, 4, 5, N]],
        "position_ids": [[0, 1, 2, 0, 1, 2, 0, 1, 2, 3, 0]],
        "cu_seq_lens_q": [0, 3, 6, 10, 11],
        "cu_seq_lens_k": [0, 3, 6, 10, 11],
        "max_length_q": 4,
        "max_length_k": 4,
        "seq_idx": [[0, 0, 0, 1, 1, 1, 2, 2, 2, 2, 3]],
    },
}
MASKS: dict[str, dict[str, Any]] = {
    "separate": {
        "chosen_completion_mask": [[0, 0, 1], [0, 1, 1]],
        "rejected_completion_mask": [[0, 0, 1, 1], [0, 0, 0, 0]],
    },
    "concatenated": {"completion_mask": [[0, 0, 1, 0], [0, 1, 1, 0], [0, 0, 1, 1], [0, 0, 0, 0]]},
    "interleaved": {"completion_mask": [[0, 0, 1, 0], [0, 0, 1, 1], [0, 1, 1, 0], [0, 0, 0, 0]]},
    "padding_free": {"completion_mask": [[0, 0, 1, 0, 1, 1, 0, 0, 1, 1, 0]]},
}
"""What stands in place of the labels with ``targets="completion_mask"``."""
OF_TARGETS = [name for name in NAMES if name != "prompt_left"]
JOINED = ["concatenated", "interleaved", "padding_free"]


@pytest.mark.parametrize("name", NAMES)
def test_written_out(name: str) -> None:
    assert list(WRITTEN) == list(NAMES)
    assert listed(collate(name, samples(name, None, PAIRS))) == WRITTEN[name]
    assert list(collate(name, samples(name, None, PAIRS))) == list(WRITTEN[name])


@pytest.mark.parametrize("inputs", ["full", "split"])
def test_the_first_token_of_a_flat_row_is_not_scored(inputs: str) -> None:
    given = samples("", inputs, [Pair([], [1, 2], [4])])
    for targets, wanted in (("labels", [[N, 2, N]]), ("completion_mask", [[0, 1, 0]])):
        assert collate("padding_free", given, inputs=inputs, targets=targets)[targets].tolist() == wanted


@pytest.mark.parametrize("inputs", ["full", "split"])
@pytest.mark.parametrize("name", OF_TARGETS)
def test_targets_written_out(name: str, inputs: str) -> None:
    found = listed(collate(name, samples(name, inputs, PAIRS), inputs=inputs, targets="completion_mask"))
    masks = {key.replace("labels", "completion_mask"): key for key in WRITTEN[name]}
    assert found == {key: MASKS[name].get(key, WRITTEN[name].get(old)) for key, old in masks.items()}
    assert list(found) == list(masks)
    labels = collate(name, samples(name, inputs, PAIRS), inputs=inputs, targets="labels")
    assert listed(labels) == WRITTEN[name]
    assert list(labels) == list(WRITTEN[name])


@pytest.mark.parametrize(
    ("name", "inputs", "targets"),
    [
        ("separate", "split", "labels"),
        ("concatenated", "split", "completion_mask"),
        ("interleaved", "split", "completion_mask"),
        ("padding_free", "split", "labels"),
        *((name, "full", "labels") for name in OF_TARGETS),
    ],
)
def test_what_targets_are_where_none_are_named(name: str, inputs: str, targets: str) -> None:
    given = samples(name, inputs, PAIRS)
    assert_same(collate(name, given, inputs=inputs), collate(name, given, inputs=inputs, targets=targets))
    if inputs == "full":
        assert named(name) == named(name, inputs="full")


def rows(least: int = 0) -> st.SearchStrategy[list[int]]:
    return st.lists(st.integers(0, 5), min_size=least, max_size=7)


pairs_of = st.lists(st.builds(Pair, rows(), rows(), rows()), min_size=1, max_size=5)


@pytest.mark.parametrize("name", NAMES)
@given(pairs=pairs_of, targets=st.sampled_from(get_args(Targets)), side=st.sampled_from([None, "left", "right"]))
@fewer(2)
def test_against_a_plain_restatement(name: str, pairs: list[Pair], targets: str, side: str | None) -> None:
    options: dict[str, Any] = {} if name == "prompt_left" else {"targets": targets}
    if side is not None and name not in {"prompt_left", "padding_free"}:
        options["padding_side"] = side
    wanted = restated(name, pairs, targets, left=side == "left")
    for inputs in (None, "split") if name == "prompt_left" else ("full", "split"):
        assert_same(collate(name, samples(name, inputs, pairs), inputs=inputs, **options), wanted)


@pytest.mark.parametrize("name", OF_TARGETS)
@given(
    pairs=st.lists(st.builds(Pair, rows(), rows(1), rows(1)), min_size=1, max_size=4),
    options=st.fixed_dictionaries(
        {"targets": st.sampled_from([*get_args(Targets)])},
        optional={
            "pad_to_multiple_of": st.integers(1, 9),
            "row_multiple_of": st.integers(1, 4),
            "max_length": st.integers(1, 12),
            "truncation_mode": st.sampled_from(["keep_start", "keep_end"]),
            "return_tensors": st.sampled_from(["pt", "np"]),
        },
    ),
    min_length=st.integers(0, 20),
)
@fewer(2)
def test_split_and_full_are_two_ways_to_say_the_same(
    name: str, pairs: list[Pair], options: dict[str, Any], min_length: int
) -> None:
    """Also in what is refused: a row that truncation leaves nothing to score."""
    found: list[dict[str, Any]] = []
    for inputs in get_args(Inputs):
        try:
            batch = collate(name, samples(name, inputs, pairs), inputs=inputs, min_length=min_length, **options)
            found.append({key: (getattr(value, "dtype", None), value) for key, value in batch.items()})
        except ValueError as error:
            assert "leaves nothing to score" in str(error)  # noqa: PT017
            found.append({"sample": str(error).partition(":")[0]})
    assert list(found[0]) == list(found[1])
    for one, other in zip(found[0].values(), found[1].values(), strict=True):
        if isinstance(one, str):
            assert one == other
        else:
            assert one[0] == other[0]
            assert torch.equal(torch.as_tensor(one[1]), torch.as_tensor(other[1]))


@pytest.mark.parametrize(
    ("name", "chosen"), [("separate", [0, 1, 2]), ("concatenated", [0, 1, 2, 0]), ("interleaved", [0, 1, 2, 0])]
)
def test_masks_of_the_samples(name: str, chosen: list[int]) -> None:
    masks = {"chosen_attention_mask": [0, 1, 2], "rejected_attention_mask": [1, 1, 1, 0]}
    batch = collate(name, [full(PAIRS[0]) | masks])
    found = [row for key, value in batch.items() if key.endswith("attention_mask") for row in value.tolist()]
    assert found == [chosen, [1, 1, 1, 0]]


@pytest.mark.parametrize("inputs", get_args(Inputs))
def test_masks_that_a_layout_has_no_use_for(inputs: Inputs) -> None:
    masks = {f"{stem}_attention_mask": [1] for stem in ("prompt", "chosen", "rejected")}
    plain = samples("", inputs, PAIRS)
    batch = collate("padding_free", [sample | masks for sample in plain], inputs=inputs)
    assert listed(batch) == listed(collate("padding_free", plain, inputs=inputs))


def test_masks_of_split_samples() -> None:
    """Those of the prompt and of the completion, joined like the ids."""
    masks = {"prompt_attention_mask": [0, 1], "chosen_attention_mask": [1], "rejected_attention_mask": [1, 0]}
    batch = listed(collate("concatenated", [split(PAIRS[0]) | masks], inputs="split"))
    assert batch["attention_mask"] == [[0, 1, 1, 0], [0, 1, 1, 0]]
    del masks["prompt_attention_mask"]
    with pytest.raises(KeyError, match=r"^.sample 0: no 'prompt_attention_mask'"):
        collate("concatenated", [split(PAIRS[0]) | masks], inputs="split")


@pytest.mark.parametrize(
    ("name", "images", "key"),
    [("prompt_left", None, "image_grid_thw"), ("concatenated", "per_side", "image_flags")],
)
def test_images_under_keys_of_another_form(name: str, images: Images | None, key: str) -> None:
    """They would be lost."""
    with pytest.raises(KeyError, match=f"sample 0: unknown key '{key}': it begins like a key that matters, but is no"):
        collate(name, [samples(name, None, PAIRS)[0] | {key: torch.ones(1)}], images=images)


def test_masks_of_samples_whose_prompts_are_rows() -> None:
    masks = {"prompt_attention_mask": [0, 1], "chosen_attention_mask": [2], "rejected_attention_mask": [1, 0]}
    batch = listed(collate("prompt_left", [third(PAIRS[0]) | masks]))
    assert [batch[key] for key in masks] == [[[0, 1]], [[2]], [[1, 0]]]


def test_masks_by_value_and_none() -> None:
    """Of the ids of the first pair, 3 is the pad id."""
    zero = listed(collate("concatenated", samples("", "full", PAIRS), attention_mask="value"))
    assert zero["attention_mask"] == [[1, 1, 0, 0], [1, 1, 1, 0], [1, 1, 1, 1], [1, 0, 0, 0]]
    for name in NAMES:
        keys = [key for key in WRITTEN[name] if not key.endswith("attention_mask")]
        assert list(collate(name, samples(name, None, PAIRS), attention_mask=None)) == keys


# --- types of tokens ------------------------------------------------------------------------------

TYPES = ("token_type_ids", "mm_token_type_ids")


@pytest.mark.parametrize("key", TYPES)
@pytest.mark.parametrize("name", JOINED)
def test_types_of_tokens(name: str, key: str) -> None:
    types = [
        {f"chosen_{key}": [0, 1, 2], f"rejected_{key}": [3, 4, 5, 6]},
        {f"chosen_{key}": [7, 8, 9], f"rejected_{key}": [1]},
    ]
    given = samples(name, None, PAIRS)
    batch = listed(collate(name, [sample | more for sample, more in zip(given, types, strict=True)]))
    assert (
        batch.pop(key)
        == {
            "concatenated": [[0, 1, 2, 0], [7, 8, 9, 0], [3, 4, 5, 6], [1, 0, 0, 0]],
            "interleaved": [[0, 1, 2, 0], [3, 4, 5, 6], [7, 8, 9, 0], [1, 0, 0, 0]],
            "padding_free": [[0, 1, 2, 7, 8, 9, 3, 4, 5, 6, 1]],
        }[name]
    )
    assert batch == WRITTEN[name]
    with pytest.raises(KeyError) as caught:
        collate(name, [given[0] | types[0], given[1]])
    said = f"sample 1: no 'chosen_{key}', but sample 0 has it: expected in all samples or in none"
    assert caught.value.args == (said,)
    with pytest.raises(KeyError) as caught:
        collate(name, [given[0] | {f"chosen_{key}": [0, 1, 2]}])
    said = f"sample 0: no 'rejected_{key}', but it has 'chosen_{key}': expected both or none"
    assert caught.value.args == (said,)


@pytest.mark.parametrize("name", JOINED)
def test_types_of_tokens_of_split_samples(name: str) -> None:
    given = split(PAIRS[0]) | {
        f"{part}_{key}": [at + index for at in range(len(row))]
        for key in TYPES
        for index, (part, row) in enumerate(PAIRS[0]._asdict().items())
    }
    batch = listed(collate(name, [given], inputs="split"))
    flat = name == "padding_free"
    assert [batch[key] for key in TYPES] == [[[0, 1, 1, 0, 1, 2, 3]] if flat else [[0, 1, 1, 0], [0, 1, 2, 3]]] * 2


def test_types_of_the_tokens_of_prompts_that_are_rows() -> None:
    given = [third(PAIRS[0]) | {"token_type_ids": [0, 1, 1]}, third(PAIRS[1]) | {"token_type_ids": [2]}]
    batch = listed(collate("prompt_left", given))
    assert batch.pop("token_type_ids") == [[0, 1, 1], [0, 0, 2]]
    assert batch == WRITTEN["prompt_left"]
    with pytest.raises(
        KeyError, match="sample 1: no 'token_type_ids', but sample 0 has it: expected in all samples or"
    ):
        collate("prompt_left", [given[0], third(PAIRS[1])])


# --- what makes no sense --------------------------------------------------------------------------

ALONE = "layout 'prompt_left' has prompts and completions in rows of their own"
NONE_LEFT, NONE_FREE = "layout 'prompt_left' takes none", "layout 'padding_free' takes none"
TOGETHER = "its prompts are rows of their own, so that a prompt and its completion cannot be truncated together"
OWN = "only a named layout has forms to choose from"
MINE = replace(SEPARATE, name="mine")
IMPOSSIBLE: list[tuple[Any, dict[str, Any], str]] = [
    ("prompt_left", {"max_length": 5}, f"max_length=5: {NONE_LEFT}, as {TOGETHER}"),
    (
        "prompt_left",
        {"truncation_mode": "error"},
        f"truncation_mode='error': {NONE_LEFT}, as {TOGETHER}",
    ),
    (
        "prompt_left",
        {"padding_side": "right"},
        f"padding_side='right': {NONE_LEFT}, as prompts are padded on the left, completions on the right",
    ),
    (
        "prompt_left",
        {"inputs": "full"},
        f"inputs='full': {ALONE}, and a full row does not say where its prompt ends",
    ),
    ("prompt_left", {"targets": "labels"}, f"targets='labels': {ALONE}: every token of a completion is scored"),
    (
        "prompt_left",
        {"targets": "completion_mask", "inputs": "split"},
        f"targets='completion_mask': {ALONE}: every token of a completion is scored",
    ),
    *(
        ("prompt_left", {"images": images}, f"images={images!r}: {ALONE}, and its trainer repeats the images itself")
        for images in ("per_row", "per_side")
    ),
    (
        "padding_free",
        {"padding_side": "left"},
        f"padding_side='left': {NONE_FREE}, as its rows lie end to end, so that there is no side to pad",
    ),
    (
        "padding_free",
        {"attention_mask": "value"},
        f"attention_mask='value': {NONE_FREE}, as its rows lie end to end, and cu_seq_lens_q says where each begins",
    ),
    (MINE, {"inputs": "split"}, f"inputs='split': {OWN}"),
    (MINE, {"targets": "labels"}, f"targets='labels': {OWN}"),
    (MINE, {"images": "per_pair"}, f"images='per_pair': {OWN}"),
    (
        "separate",
        {"buckets": (8,), "pad_to_multiple_of": 8},
        "buckets and pad_to_multiple_of both round the width: expected one of them",
    ),
    ("separate", {"buckets": (8, 9), "row_multiple_of": 4}, "buckets=(8, 9): 9 is no multiple of 4"),
    ("prompt_left", {"blank_image": (3, 2)}, "blank_image=(3, 2): layout 'prompt_left' has no images with flags"),
    ("separate", {"inputs": "both"}, "inputs='both': expected None or 'full' or 'split'"),
    ("separate", {"targets": "mask"}, "targets='mask': expected None or 'labels' or 'completion_mask'"),
    ("separate", {"images": "twice"}, "images='twice': expected None or 'per_pair' or 'per_row' or 'per_side'"),
    (
        "concatenated",
        {"media": (Media("labels", ("x",)),)},
        "layout 'concatenated' names 'labels' twice: expected each key of the batch once",
    ),
]


@pytest.mark.parametrize(("layout", "options", "sentence"), IMPOSSIBLE, ids=[row[2] for row in IMPOSSIBLE])
def test_impossible(layout: Any, options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=re.escape(sentence)) as caught:
        PreferenceCollator(layout, pad_token_id=0, **options)
    assert caught.value.args == (sentence,)


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"buckets": 8}, "buckets=8: expected widths, such as [512, 1024]"),
    ({"buckets": ()}, "buckets=(): expected widths, such as [512, 1024]"),
    ({"buckets": [8.0]}, "buckets=8.0: expected an integer"),
    ({"row_multiple_of": "8"}, "row_multiple_of='8': expected an integer"),
    ({"scalars": []}, "scalars=[]: expected a tuple of Scalar"),
    (
        {"media": Media("a", ("a",))},
        f"media={Media('a', ('a',))!r}: expected a tuple of Media (a tuple of one needs a comma)",
    ),
]


@pytest.mark.parametrize(("options", "sentence"), WRONG, ids=[row[1] for row in WRONG])
def test_wrong_options(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(TypeError) as caught:
        PreferenceCollator(pad_token_id=0, **options)
    assert caught.value.args == (sentence,)


def test_a_name_that_there_is_not() -> None:
    with pytest.raises(
        ValueError, match=r"^layout='joined': expected 'separate' or 'concatenated' or 'interleaved' or"
    ):
        named("joined")


@pytest.mark.parametrize("name", NAMES)
def test_a_named_layout_is_a_table_like_any_other(name: str) -> None:
    layout = named(name)
    assert layout.name == name
    given = samples(name, None, PAIRS)
    assert_same(PreferenceCollator(layout, pad_token_id=0)(given), PreferenceCollator(name, pad_token_id=0)(given))
    collator = PreferenceCollator(name, pad_token_id=0)
    assert_same(pickle.loads(pickle.dumps(collator))(given), collator(given))


@pytest.mark.parametrize("images", get_args(Images))
def test_keys_of_images(images: Images) -> None:
    media = {name: {medium.name: medium.keys for medium in named(name, images=images).media} for name in OF_TARGETS}
    sides = ("chosen_pixel_values", "rejected_pixel_values")
    assert [media["separate"].get(key) for key in ("pixel_values", *sides)] == {
        "per_pair": [("pixel_values",), None, None],
        "per_row": [("pixel_values",) * 2, None, None],
        "per_side": [None, (sides[0],), (sides[1],)],
    }[images]
    keys = {"per_pair": ("pixel_values",), "per_row": ("pixel_values",) * 2, "per_side": sides}
    assert [media[name]["pixel_values"] for name in JOINED] == [keys[images]] * 3
    assert named("separate", images="per_pair") == SEPARATE
    assert [named(name, images="per_row") == named(name) for name in JOINED] == [True] * 3


# --- numbers --------------------------------------------------------------------------------------


@pytest.mark.parametrize("inputs", [None, "split"])
@pytest.mark.parametrize("name", NAMES)
def test_numbers(name: str, inputs: str | None) -> None:
    numbers = {"ref_chosen_logps": -1.5, "ref_rejected_logps": -2, "margin": torch.tensor(0.5)}
    given = samples(name, inputs, PAIRS)
    batch = collate(name, [sample | numbers for sample in given], inputs=inputs)
    assert {key: batch[key].tolist() for key in list(batch)[-3:]} == {
        "ref_chosen_logps": [-1.5, -1.5],
        "ref_rejected_logps": [-2.0, -2.0],
        "margin": [0.5, 0.5],
    }
    assert {batch[key].dtype for key in numbers} == {torch.float32}
    assert numbers.keys() & collate(name, given, inputs=inputs).keys() == set()
    for key, value in numbers.items():
        for has in ((0,), (1,)):
            some = [sample | ({key: value} if index in has else {}) for index, sample in enumerate(given)]
            with pytest.raises(KeyError) as caught:
                collate(name, some, inputs=inputs)
            said = f"sample {1 - has[0]}: no '{key}', but sample {has[0]} has it: expected in all samples or in none"
            assert caught.value.args == (said,)


def test_scalars_of_ones_own() -> None:
    scalars = (Scalar("id", ("id",), "int64"), Scalar("weight", ("w",), default=2), Scalar("text", ("text",), None))
    given = [split(PAIRS[0]) | {"id": 7, "text": "a"}, split(PAIRS[1]) | {"id": 2**40, "w": 0.5, "text": None}]
    batch = collate("concatenated", given, inputs="split", scalars=scalars)
    assert listed({key: batch[key] for key in list(batch)[3:]}) == {
        "id": [7, 2**40],
        "weight": [2.0, 0.5],
        "text": ["a", None],
    }
    none = [sample | {"margin": 1} for sample in samples("", "full", PAIRS)]
    assert list(collate("concatenated", none, scalars=())) == list(WRITTEN["concatenated"])


@pytest.mark.parametrize(
    ("name", "order"), [("concatenated", ["a", None, 3, "d"]), ("interleaved", ["a", 3, None, "d"])]
)
def test_lists_of_whatever_samples_have(name: str, order: list[Any]) -> None:
    both = Scalar("notes", ("chosen_note", "rejected_note"), None, optional=True)
    given = samples(name, None, PAIRS)
    some = [given[0] | {"chosen_note": "a", "rejected_note": 3}, given[1] | {"rejected_note": "d"}]
    assert collate(name, some, scalars=(both,))["notes"] == order
    other = collate(name, some, scalars=(replace(both, default=0.5),))["notes"]
    assert other == [0.5 if note is None else note for note in order]
    assert "notes" not in collate(name, given, scalars=(both,))
    assert collate(name, given, scalars=(replace(both, optional=False),))["notes"] == [None] * 4


@pytest.mark.parametrize("name", NAMES)
def test_memory_is_of_no_matter(name: str) -> None:
    given = samples(name, None, PAIRS)
    assert_same(collate(name, given, delivery="torch"), collate(name, given))
