"""What a meter counts, against plain computations from samples and batches; its front; in this process."""

from __future__ import annotations

import logging
import os
import pickle
import re
import sys
from dataclasses import astuple, replace
from functools import partial
from types import SimpleNamespace
from typing import Any, TypeAlias

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dpo_collate import PreferenceCollator, dpo_collate
from dpo_collate.layout import Column, Layout, Matrix, Media
from dpo_collate.named import NAMES, named
from dpo_collate.stats import Counts, PaddingMeter
from dpo_collate.trainers import internvl
from drop_ins import described
from drop_ins_examples import COLLATORS, EXAMPLES, KEYWORDS, TOKENS, with_tokens
from loaders import succeeds
from pairs import PAD, PAIRS, SIDES, Pair, samples


def watched(collator: Any, *given: Any, **options: Any) -> tuple[Any, Counts]:
    """A batch, and what is counted of it."""
    meter = PaddingMeter()
    batch = meter.watch(collator)(*given, **options)
    assert meter.last == meter.total
    return batch, meter.total


# --- layouts --------------------------------------------------------------------------------------


def seen_in(batch: dict[str, Any], rows: int) -> tuple[int, int, int]:
    """Rows, tokens and padding, from masks (of rows end to end: from what says whose each cell is)."""
    if "seq_idx" in batch:
        real = int((batch["seq_idx"] >= 0).sum())
        return rows, real, batch["seq_idx"].numel() - real
    masks = [mask for key, mask in batch.items() if key.endswith("attention_mask")]
    real = sum(int(mask.sum()) for mask in masks)
    return sum(map(len, masks)), real, sum(mask.numel() for mask in masks) - real


def parts(least: int) -> st.SearchStrategy[list[int]]:
    return st.lists(st.integers(5, 9), min_size=least, max_size=6)


OPTIONS = st.fixed_dictionaries(
    {"inputs": st.sampled_from([None, "split"])},
    optional={
        "max_length": st.integers(7, 9),  # longer than each prompt, so that something is left to score
        "pad_to_multiple_of": st.integers(1, 4),
        "row_multiple_of": st.integers(1, 4),
    },
)


@given(
    name=st.sampled_from(NAMES),
    pairs=st.lists(st.builds(Pair, parts(0), parts(1), parts(1)), min_size=1, max_size=4),
    options=OPTIONS,
    least=st.none() | st.integers(0, 9),
)
def test_named_layouts(name: str, pairs: list[Pair], options: dict[str, Any], least: int | None) -> None:
    if name == "prompt_left":
        options = {key: value for key, value in options.items() if key != "max_length"}
    collator = PreferenceCollator(name, pad_token_id=PAD, **options)
    given = samples(name, options["inputs"], pairs)
    batch, counts = watched(collator, given, min_length=least)
    assert described(batch) == described(collator(given, min_length=least))
    most = options.get("max_length", 99)
    long = [len(pair.prompt) + len(getattr(pair, side)) > most for pair in pairs for side in SIDES]
    rows, tokens, padding = seen_in(batch, len(long))
    assert counts == Counts(1, len(pairs), rows, tokens, padding, truncated=sum(long))
    assert (counts.padded_tokens, counts.padding_share) == (tokens + padding, padding / (tokens + padding))


def test_tables() -> None:
    pa = pytest.importorskip("pyarrow")
    table = pa.Table.from_pylist(SAMPLES)
    assert watched(COLLATOR, table)[1] == watched(COLLATOR, [table[:1], table[1:]])[1] == ONE


SAMPLES = samples("separate", None, PAIRS)


def tiles(*counts: int) -> list[dict[str, Any]]:
    return [{"pixel_values": torch.ones(count, 3, 2, 2), "image_flags": torch.ones(count)} for count in counts]


IMAGES = [sample | images for sample, images in zip(SAMPLES, tiles(2, 1), strict=True)]
GRIDS = [sample | {"image_grid_thw": torch.ones(3, 3)} for sample in IMAGES]
OF_SIDES = [sample | {f"{side}_pixel_values": torch.ones(2, 4) for side in SIDES} for sample in SAMPLES]
VIDEOS = [sample | {"pixel_values_videos": torch.ones(5, 4)} for sample in IMAGES]
NESTED = replace(named("separate"), returns=("chosen_input_ids", {"images": "pixel_values"}))
OTHERS = replace(named("separate"), media=(Media("pictures", ("pixel_values",)),), ignored=("image_flags",))


@pytest.mark.parametrize(
    ("collator", "given", "number"),
    [
        (PreferenceCollator(pad_token_id=0), IMAGES, 3),
        (PreferenceCollator(pad_token_id=0), SAMPLES, 0),
        (PreferenceCollator(pad_token_id=0), GRIDS, 3),
        (PreferenceCollator(pad_token_id=0), VIDEOS, 3 + 10),
        (PreferenceCollator("concatenated", pad_token_id=0), IMAGES, 6),
        (PreferenceCollator("padding_free", images="per_pair", pad_token_id=0), IMAGES, 3),
        (PreferenceCollator(images="per_side", pad_token_id=0), OF_SIDES, 8),
        (PreferenceCollator(pad_token_id=0, blank_image=(3, 2, 2)), SAMPLES, 1),
        (PreferenceCollator(NESTED, pad_token_id=0), IMAGES, 3),
        (PreferenceCollator(OTHERS, pad_token_id=0), IMAGES, 0),
        (PreferenceCollator(pad_token_id=0, return_tensors="np"), IMAGES, 3),
        (dpo_collate, IMAGES, 3),
        (internvl.dpo_concat_pad_data_collator, IMAGES, 3),
    ],
)
def test_tiles(collator: Any, given: Any, number: int) -> None:
    batch, counts = watched(collator, given)
    assert counts.tiles == number
    assert described(batch) == described(collator(given))


def test_token_arrays_count_once() -> None:
    ids, ones = Column("{}_ids", pad="pad_token_id"), Column("{}_ones", of="ones")
    layout = Layout(
        "twice",
        (
            Matrix((("chosen",),), (ids, ones)),
            Matrix((("chosen",),), (Column("labels", of="{}_labels", pad=0),)),  # of rows that are there
            Matrix((("chosen",),), (Column("again", pad="pad_token_id"),)),  # the same row
            Matrix((("rejected",),), (Column("types", pad=0),), tokens="{}_types", optional=True),
            Matrix((("rejected",),), (Column("maybe", pad="pad_token_id"),), optional=True),
        ),
        reserved=(),
    )
    row = {"chosen_input_ids": [1, 2], "chosen_labels": [1, 2], "rejected_types": [1]}
    longer = {"chosen_input_ids": [1, 2, 3], "chosen_labels": [1, 2, 3], "rejected_types": [1]}
    collator = PreferenceCollator(layout, pad_token_id=0)
    assert watched(collator, [row, longer])[1] == Counts(1, 2, 2, 5, 1)
    both = [sample | {"rejected_input_ids": ids} for sample, ids in ((row, [1] * 4), (longer, [1]))]
    assert watched(collator, both)[1] == Counts(1, 2, 4, 10, 4)


# --- drop-ins -------------------------------------------------------------------------------------

Rows: TypeAlias = "list[list[tuple[Any, ...]]]"
APART: Rows = [[("chosen_input_ids",)], [("rejected_input_ids",)]]
TOGETHER: Rows = [[("chosen_input_ids",), ("rejected_input_ids",)]]
ROWS: dict[str, Rows] = {
    "internvl_gpt_oss": [[("prompt_input_ids",)], *APART],
    "trl": [[("prompt_ids", "chosen_ids"), ("prompt_ids", "rejected_ids")]],
    "trl_reward": [[("chosen_ids",), ("rejected_ids",)]],
    "trl_kto": [[("prompt_ids", "completion_ids")]],
    "trl_legacy": [[("prompt_input_ids",)], *APART],
    "trl_padding": APART,
    "llamafactory": TOGETHER,
    "torchtune": TOGETHER,
    "openrlhf": [[(0,)], [(2,)]],  # its samples are tuples
    "swift": TOGETHER,
    "megatron_bridge": TOGETHER,
    "open_instruct": APART,
    "xtuner": [[("chosen_ids",), ("rejected_ids",)]],
}
"""The matrices of each drop-in, their rows, and the keys that a row joins."""


def plainly(name: str, given: list[Any]) -> Counts:
    counts = Counts(1, len(given))
    dropped = 1 if name == "megatron_bridge" else 0  # its last token is only a label
    for rows in ROWS[name]:
        lengths = [sum(len(sample[key]) for key in row) - dropped for row in rows for sample in given]
        cells = sum(lengths) if name == "open_instruct" else len(lengths) * max(lengths)
        counts += Counts(0, 0, len(lengths), sum(lengths), cells - sum(lengths))
    return counts


@pytest.mark.parametrize("name", COLLATORS)
def test_drop_ins(name: str) -> None:
    longer = with_tokens(name, [4] * 3)
    if isinstance(longer, tuple):
        longer = ([4] * 3, [1] * 3, *longer[2:])
    else:
        fits = ("chosen_labels", "chosen_attention_mask", "chosen_loss_mask")
        longer |= {key: [1] * 3 for key in fits if key in longer and "chosen" in TOKENS[name]}
    given = [EXAMPLES[name], longer]
    collate = partial(COLLATORS[name], **KEYWORDS.get(name, {}))
    batch, counts = watched(collate, given)
    assert described(batch) == described(collate(given))
    assert counts == plainly(name, given)


def test_optional_ids() -> None:
    given = [EXAMPLES["trl_kto"] | {"KL_completion_ids": ids} for ids in ([1, 2, 3], [])]
    assert watched(COLLATORS["trl_kto"], given)[1] == Counts(1, 2, 4, 6 + 7, 0 + 3)


# --- calls ----------------------------------------------------------------------------------------

COLLATOR = PreferenceCollator(pad_token_id=0)
ONE = Counts(1, 2, 4, 11, 3)  # of SAMPLES: chosen rows of 3 and 3 tokens, rejected ones of 4 and 1


def halves(given: list[Any]) -> Any:
    return COLLATOR(given[:1]), COLLATOR(given[1:])


def emptied(given: list[Any]) -> Any:
    batch = COLLATOR(given)
    return [batch.pop(key) for key in list(batch)]


def nothing(given: list[Any]) -> int:
    return len(given)


def fails_later(given: list[Any]) -> Any:
    COLLATOR(given)
    raise KeyError("afterwards")


def tries(given: list[Any]) -> Any:
    try:
        return COLLATOR([*given, {}])
    except KeyError:
        return COLLATOR(given)


def test_what_a_call_counts() -> None:
    assert watched(COLLATOR, SAMPLES)[1] == ONE
    assert watched(halves, SAMPLES)[1] == replace(ONE, padding=0)
    assert watched(emptied, IMAGES)[1] == replace(ONE, tiles=3)
    assert watched(nothing, SAMPLES) == (2, Counts(batches=1))
    assert watched(tries, SAMPLES)[1] == ONE
    meter = PaddingMeter()
    with pytest.raises(KeyError, match=r"^'afterwards'$"):
        meter.watch(fails_later)(SAMPLES)
    COLLATOR(SAMPLES)
    assert meter.total == Counts()


def test_several_meters() -> None:
    train, evaluation, both = PaddingMeter(), PaddingMeter(), PaddingMeter()
    first, second = both.watch(train.watch(COLLATOR)), both.watch(evaluation.watch(COLLATOR))
    for collate in (first, second, first):
        collate(SAMPLES)
    assert [meter.total.batches for meter in (train, evaluation, both)] == [2, 1, 3]
    assert both.total == train.total + evaluation.total
    inside = PaddingMeter()
    counted = inside.watch(COLLATOR)
    assert watched(lambda given: (counted(given), COLLATOR(given)), SAMPLES)[1] == replace(ONE + ONE, batches=1)
    assert inside.total == ONE


def test_what_watch_returns() -> None:
    meter = PaddingMeter()
    collate: Any = meter.watch(COLLATOR)
    assert repr(collate) == "watched(PreferenceCollator(pad_token_id=0))"
    assert collate.pad_token_id == 0
    assert not hasattr(collate, "tokenizer")
    assert not hasattr(object.__new__(type(collate)), "pad_token_id")  # a copy that is being made
    pickle.loads(pickle.dumps(collate))(SAMPLES)
    assert meter.total == ONE
    loaded = pickle.loads(pickle.dumps(partial(collate, min_length=4)))
    loaded(SAMPLES)
    assert meter.total.padded_tokens == ONE.padded_tokens + 16
    forgotten: Any = PaddingMeter().watch(COLLATOR)
    assert described(forgotten(SAMPLES)) == described(COLLATOR(SAMPLES))


# --- counts and the front -------------------------------------------------------------------------

numbers = st.integers(0, 10**6)


@given(*(st.builds(Counts, *[numbers] * 7) for _ in range(2)))
def test_sums(a: Counts, b: Counts) -> None:
    assert astuple(a + b) == tuple(x + y for x, y in zip(astuple(a), astuple(b), strict=True))
    assert a + b - b == a
    assert sum([a, b], Counts()) == a + b


def test_counts() -> None:
    counts = Counts(2, 16, 32, 3000, 1000, 24, 5)
    assert str(counts) == (
        "batches: 2, pairs: 16, rows: 32 (truncated: 5), tokens: 3,000, padding: 1,000 (25.0 %), tiles: 24"
    )
    assert counts.figures("x/") == {
        "x/padding_share": 0.25,
        "x/tokens_per_batch": 1500.0,
        "x/truncated_rows": 5,
        "x/tiles_per_batch": 12.0,
    }
    assert Counts().figures() == {"padding_share": 0.0, "tokens_per_batch": 0.0, "truncated_rows": 0}
    for wrong in (counts.__add__, counts.__sub__):
        assert wrong(1) is NotImplemented  # type: ignore[arg-type]


def test_a_meter() -> None:
    meter = PaddingMeter()
    assert str(meter) == repr(meter) == f"PaddingMeter({Counts()})"
    collate = meter.watch(COLLATOR)
    collate(SAMPLES)
    collate(SAMPLES[1:])
    assert (meter.total, meter.last) == (ONE + Counts(1, 1, 2, 4), Counts(1, 1, 2, 4))
    before = meter.total
    collate(SAMPLES)
    assert meter.total - before == meter.last == ONE
    meter.reset()
    assert (meter.total, meter.last) == (Counts(), Counts())
    collate(SAMPLES)
    assert (meter.total, meter.last) == (ONE, ONE)


def test_loggers(caplog: pytest.LogCaptureFixture) -> None:
    meter = PaddingMeter()
    collate = meter.watch(COLLATOR)
    logged: list[Any] = []
    run = SimpleNamespace(log=logged.append)
    found = []
    for _ in range(5):
        collate(SAMPLES)
        found.append(meter.log(run, every=2, prefix="train/"))
    assert found == [False, True, False, True, False]
    assert logged == [(ONE + ONE).figures("train/")] * 2
    logger = logging.getLogger("dpo_collate.tests")
    with caplog.at_level(logging.INFO):
        assert meter.log(logger, prefix="train: ")
        assert not meter.log(logger)
        collate(SAMPLES)
        assert meter.log(logging.LoggerAdapter(logger, {}))
    assert [record.getMessage() for record in caplog.records] == [f"train: {ONE}", str(ONE)]
    collate(SAMPLES)
    meter.reset()
    assert not meter.log(run)


def test_a_logger_that_fails() -> None:
    meter = PaddingMeter()
    meter.watch(COLLATOR)(SAMPLES)
    logged: list[Any] = []

    class Run:
        def log(self, figures: Any) -> None:
            logged.append(figures)
            if len(logged) == 1:
                raise OSError("no network")

    run = Run()
    with pytest.raises(OSError, match="no network"):
        meter.log(run)
    assert meter.log(run)
    assert logged == [ONE.figures()] * 2


@pytest.mark.parametrize(
    ("call", "error", "sentence"),
    [
        (
            lambda meter: meter.watch(3),
            TypeError,
            "collate_fn=3: expected a collator, or a function that calls one",
        ),
        (
            lambda meter: meter.log("wandb"),
            TypeError,
            "logger='wandb': expected a logging.Logger, or what has a method log that takes a dict",
        ),
        (lambda meter: meter.log(logging.getLogger(), every=0), ValueError, "every=0: expected 1 or more"),
        (lambda meter: meter.log(logging.getLogger(), prefix=3), TypeError, "prefix=3: expected a str"),
        (
            pickle.dumps,
            TypeError,
            "a PaddingMeter counts in the process that made it: pickle what its method watch returns",
        ),
    ],
)
def test_errors(call: Any, error: type[Exception], sentence: str) -> None:
    with pytest.raises(error, match=f"^{re.escape(sentence)}$"):
        call(PaddingMeter())


def test_another_process(monkeypatch: pytest.MonkeyPatch) -> None:
    meter = PaddingMeter()
    monkeypatch.setattr(os, "getpid", lambda: 0)
    for call in (lambda: meter.total, lambda: meter.last, meter.reset, lambda: meter.watch(COLLATOR)):
        with pytest.raises(RuntimeError, match=r"^the PaddingMeter was made in another process: make it in the one "):
            call()


def test_without_transformers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)  # as if it were not installed
    monkeypatch.delitem(sys.modules, "dpo_collate._padding_callback", raising=False)
    with pytest.raises(ModuleNotFoundError, match=r"; a callback is for the Trainer of transformers$"):
        PaddingMeter().callback()


def test_import_is_light() -> None:
    program = """
import sys
from dpo_collate import PreferenceCollator
from dpo_collate.stats import PaddingMeter
meter = PaddingMeter()
row = dict.fromkeys(("chosen_input_ids", "chosen_labels", "rejected_input_ids", "rejected_labels"), [1])
meter.watch(PreferenceCollator(pad_token_id=0, return_tensors="np"))([row])
print(meter.total.tokens, [name for name in ("torch", "transformers") if name in sys.modules])
"""
    assert succeeds(program) == "2 []\n"


def test_a_process_that_is_forked_in_a_watched_call() -> None:
    """What it makes is nobody's, and is not kept for the call that it was forked in."""
    program = """
import os, weakref
from dpo_collate import PreferenceCollator
from dpo_collate.stats import PaddingMeter

collator = PreferenceCollator(pad_token_id=0)
keys = ("chosen_input_ids", "chosen_labels", "rejected_input_ids", "rejected_labels")
samples = [{key: [1, 2] for key in keys}]

def collate(samples):
    child = os.fork()
    if not child:
        batch = weakref.ref(collator(samples)["chosen_labels"])
        os._exit(batch() is not None)
    assert os.waitpid(child, 0)[1] == 0
    return collator(samples)

meter = PaddingMeter()
meter.watch(collate)(samples)
print(meter.total.batches, meter.total.pairs)
"""
    assert succeeds(program) == "1 1\n"


def test_what_is_watched_twice_is_counted_once() -> None:
    meter, other = PaddingMeter(), PaddingMeter()
    watched = meter.watch(PreferenceCollator(pad_token_id=PAD))
    assert meter.watch(watched) is watched
    assert other.watch(watched) is not watched
