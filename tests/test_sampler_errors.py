"""What a sampler refuses, and the sentences that say so."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from data_sets import plain, table_of
from dpo_collate import PreferenceCollator
from dpo_collate.layout import Column, Layout, Matrix
from dpo_collate.sampler import PairBatchSampler
from pairs import PAD

LENGTHS = np.array([[5, 6], [7, 900], [3, 3], [800, 2]])
SHORT = np.array([[5, 6]] * 4)


def short(**options: Any) -> PreferenceCollator:
    return PreferenceCollator(pad_token_id=PAD, **options)


WRONG: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "no limit": (
        {"batch_size": None},
        ValueError,
        "max_tokens, batch_size and max_tiles are None: expected at least one limit of a batch",
    ),
    "batch size": ({"batch_size": 0}, ValueError, "batch_size=0: expected 1 or more"),
    "tokens": ({"max_tokens": "8k"}, TypeError, "max_tokens='8k': expected an integer"),
    "shuffle": ({"shuffle": 1}, TypeError, "shuffle=1: expected a bool"),
    "drop_last": ({"drop_last": None}, TypeError, "drop_last=None: expected a bool"),
    "oversize": ({"oversize": "keep"}, ValueError, "oversize='keep': expected 'error' or 'drop'"),
    "seed": ({"seed": 1 << 63}, ValueError, f"seed={1 << 63}: expected an integer of 64 bits"),
    "window": ({"window": 0}, ValueError, "window=0: expected 1 or more"),
    "multiple": ({"batch_size_multiple": 0}, ValueError, "batch_size_multiple=0: expected 1 or more"),
    "no multiple": (
        {"batch_size": 6, "batch_size_multiple": 4},
        ValueError,
        "batch_size=6: expected a multiple of batch_size_multiple=4",
    ),
    "world size": ({"world_size": 0}, ValueError, "world_size=0: expected 1 or more"),
    "rank": ({"rank": 2, "world_size": 2}, ValueError, "rank=2: expected less than world_size=2"),
    "ranks": ({"world_size": 5}, ValueError, "4 pairs: expected at least one for each rank, world_size=5"),
    "no pairs": (
        {"lengths": np.zeros((0, 2), int)},
        ValueError,
        "0 pairs: expected at least one for each rank, world_size=1",
    ),
    "tiles alone": (
        {"tiles": [1] * 4},
        ValueError,
        "tiles and max_tiles say together how many tiles a batch has: expected both or none",
    ),
    "max_tiles alone": (
        {"max_tiles": 4},
        ValueError,
        "tiles and max_tiles say together how many tiles a batch has: expected both or none",
    ),
    "tiles of others": (
        {"tiles": [1] * 3, "max_tiles": 4},
        ValueError,
        "tiles has shape [3]: expected [4], a number for each pair",
    ),
    "tiles of no kind": (
        {"tiles": [0.5] * 4, "max_tiles": 4},
        TypeError,
        "tiles is an array of float64: expected integers",
    ),
    "too few tiles": (
        {"tiles": [1, -2, 1, 1], "max_tiles": 4},
        ValueError,
        "tiles has -2: expected 0 to 2**32 - 1",
    ),
    "lengths": ({"lengths": SHORT * 1.5}, TypeError, "lengths is an array of float64: expected integers"),
    "too short": ({"lengths": SHORT - 6}, ValueError, "lengths has -1: expected 0 to 2**32 - 1"),
    "shape": (
        {"lengths": SHORT[:, :1]},
        ValueError,
        "lengths has shape [4, 1]: expected [n, 2], as layout 'separate' has 2 rows of token ids",
    ),
    "dimensions": (
        {"lengths": SHORT.ravel(), "collator": "prompt_left"},
        ValueError,
        "lengths has shape [8]: expected [n, 3], as layout 'prompt_left' has 3 rows of token ids",
    ),
    "columns": (
        {"lengths": (SHORT[0], SHORT[:, 0])},
        ValueError,
        "lengths has columns of shapes [2], [4]: expected one dimension, equally long",
    ),
    "wildcards": (
        {"collator": Layout("any", (Matrix((("*",),), (Column("{}", pad="pad_token_id"),)),))},
        ValueError,
        "layout 'any' depends on the keys of samples: expected data in place of lengths",
    ),
    "no ids": (
        {
            "lengths": np.zeros((4, 0), int),
            "collator": Layout("none", (Matrix((("x",),), (Column("x"),), optional=True),)),
        },
        ValueError,
        "layout 'none' has no rows of token ids that every pair has: expected one or more",
    ),
    "layout": (
        {"collator": "stacked"},
        ValueError,
        "layout='stacked': expected 'separate' or 'concatenated' or 'interleaved' or 'prompt_left' or 'padding_free'",
    ),
    "too many tokens": (
        {"lengths": LENGTHS, "max_tokens": 100},
        ValueError,
        "pair 1: 907 padded tokens, more than max_tokens=100 (and 1 more pair); oversize='drop' leaves them out",
    ),
    "too many tokens of several": (
        {"lengths": LENGTHS, "max_tokens": 10},
        ValueError,
        "pair 0: 11 padded tokens, more than max_tokens=10 (and 2 more pairs); oversize='drop' leaves them out",
    ),
    "too many tiles": (
        {"tiles": [1, 5, 2, 3], "max_tiles": 4},
        ValueError,
        "pair 1: 5 tiles, more than max_tiles=4; oversize='drop' leaves it out",
    ),
    "no bucket": (
        {"lengths": LENGTHS, "collator": short(buckets=[16, 820])},
        ValueError,
        "pair 1: a width of 900, more than the largest bucket 820; oversize='drop' leaves it out",
    ),
    "too long": (
        {"lengths": LENGTHS, "collator": short(max_length=600, truncation_mode="error")},
        ValueError,
        "pair 1: a row of 900 tokens, more than max_length=600 (and 1 more pair); oversize='drop' leaves them out",
    ),
}


@pytest.mark.parametrize("kind", WRONG)
def test_wrong_arguments(kind: str) -> None:
    options, wrong, sentence = WRONG[kind]
    given: dict[str, Any] = {"lengths": SHORT, "collator": "separate", "batch_size": 4, **options}
    with pytest.raises(wrong, match=f"^{re.escape(sentence)}$"):
        PairBatchSampler(given.pop("lengths"), given.pop("collator"), **given)


def test_wrong_data() -> None:
    with pytest.raises(TypeError, match=r"^data is a int, expected a datasets.Dataset, an ArrowRows, a table with "):
        PairBatchSampler(7, "separate", batch_size=4)
    with pytest.raises(KeyError, match="no column 'prompt_ids'"):
        PairBatchSampler(plain(), PreferenceCollator("concatenated", inputs="split", pad_token_id=PAD), batch_size=4)
    with pytest.raises(TypeError, match=r"^data\[1\] is a list, expected"):
        PairBatchSampler((table_of(0), [1]), "separate", batch_size=4)


def test_wrong_epochs() -> None:
    batches = PairBatchSampler(SHORT, "separate", batch_size=4)
    with pytest.raises(ValueError, match=r"^epoch=-1: expected 0 or more$"):
        batches.set_epoch(-1)
    with pytest.raises(TypeError, match=r"^epoch=0.5: expected an integer$"):
        batches.set_epoch(0.5)  # type: ignore[arg-type]
