"""Pairs of a prompt and two completions, as each kind of sample, and what each named layout makes of them."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch.nn.utils.rnn import pad_sequence

from dpo_collate import PreferenceCollator

SIDES = ("chosen", "rejected")
PAD, IGNORED = 3, -7
"""Ids that tests use: 3 is a token of some samples as well."""


class Pair(NamedTuple):
    """What a sample says, whatever its form."""

    prompt: list[int]
    chosen: list[int]
    rejected: list[int]


PAIRS = [Pair([1, 2], [3], [4, 5]), Pair([6], [7, 8], [])]


def full(pair: Pair) -> dict[str, Any]:
    """``inputs="full"``: rows of prompt and completion, and labels that ignore the prompt."""
    sample: dict[str, Any] = {}
    for side in SIDES:
        completion: list[int] = getattr(pair, side)
        sample[f"{side}_input_ids"] = pair.prompt + completion
        sample[f"{side}_labels"] = [IGNORED] * len(pair.prompt) + completion
    return sample


def split(pair: Pair) -> dict[str, Any]:
    """``inputs="split"``."""
    return {f"{part}_ids": row for part, row in pair._asdict().items()}


def third(pair: Pair) -> dict[str, Any]:
    """What ``prompt_left`` takes where ``inputs`` is None."""
    return {f"{part}_input_ids": row for part, row in pair._asdict().items()}


def samples(name: str, inputs: str | None, pairs: list[Pair]) -> list[dict[str, Any]]:
    """The pairs in the form that a layout takes."""
    form = split if inputs == "split" else third if name == "prompt_left" else full
    return [form(pair) for pair in pairs]


def collate(name: str, given: list[dict[str, Any]], *, min_length: int | None = None, **options: Any) -> dict[str, Any]:
    collator = PreferenceCollator(name, **{"pad_token_id": PAD, "label_pad_token_id": IGNORED, **options})
    batch: dict[str, Any] = collator(given, min_length=min_length)
    return batch


def listed(batch: dict[str, Any]) -> dict[str, Any]:
    """Tensors as nested lists."""
    return {key: value.tolist() if hasattr(value, "tolist") else value for key, value in batch.items()}


def padded(rows: list[list[int]], pad: int, *, left: bool = False) -> torch.Tensor:
    """Rows of one width, as torch pads them."""
    if left:
        return padded([row[::-1] for row in rows], pad).flip(1)
    return pad_sequence([torch.tensor(row, dtype=torch.int64) for row in rows], batch_first=True, padding_value=pad)


def in_order(name: str, pairs: list[Pair]) -> list[tuple[Pair, str]]:
    """Pair and side of each row of a layout in which both sides are in one matrix."""
    if name == "interleaved":
        return [(pair, side) for pair in pairs for side in SIDES]
    return [(pair, side) for side in SIDES for pair in pairs]


def restated(name: str, pairs: list[Pair], targets: str, *, left: bool = False) -> dict[str, Any]:
    """The batch, said plainly."""
    if name == "prompt_left":
        batch: dict[str, Any] = {}
        for part in Pair._fields:
            rows: list[list[int]] = [getattr(pair, part) for pair in pairs]
            batch[f"{part}_input_ids"] = padded(rows, PAD, left=part == "prompt")
            batch[f"{part}_attention_mask"] = padded([[1] * len(row) for row in rows], 0, left=part == "prompt")
        return batch
    if name == "separate":
        return {
            f"{side}_{key}": value
            for side in SIDES
            for key, value in _joined([(pair, side) for pair in pairs], targets, left=left).items()
        }
    if name == "padding_free":
        return _flat(in_order(name, pairs), targets)
    batch = _joined(in_order(name, pairs), targets, left=left)
    return {key: batch[key] for key in ("input_ids", "attention_mask", targets)}


def _joined(rows: list[tuple[Pair, str]], targets: str, *, left: bool) -> dict[str, torch.Tensor]:
    ids, scored = _of(rows, targets)
    return {
        "input_ids": padded(ids, PAD, left=left),
        targets: padded(scored, IGNORED if targets == "labels" else 0, left=left),
        "attention_mask": padded([[1] * len(row) for row in ids], 0, left=left),
    }


def _of(rows: list[tuple[Pair, str]], targets: str) -> tuple[list[list[int]], list[list[int]]]:
    """Each row's ids, and what is scored of it."""
    ids = [pair.prompt + getattr(pair, side) for pair, side in rows]
    if targets == "labels":
        return ids, [[IGNORED] * len(pair.prompt) + getattr(pair, side) for pair, side in rows]
    return ids, [[0] * len(pair.prompt) + [1] * len(getattr(pair, side)) for pair, side in rows]


def _flat(rows: list[tuple[Pair, str]], targets: str) -> dict[str, Any]:
    ids, scored = _of(rows, targets)
    nothing = IGNORED if targets == "labels" else 0
    lengths = torch.tensor([len(row) for row in ids])
    ends = torch.tensor([0, *lengths.cumsum(0).tolist()], dtype=torch.int32)

    def joined(parts: list[list[int]], dtype: torch.dtype = torch.int64) -> torch.Tensor:
        return torch.tensor([[cell for part in parts for cell in part]], dtype=dtype)

    return {
        "input_ids": joined(ids),
        # The first token of a row is predicted from nothing of it.
        targets: joined([[nothing] * len(row[:1]) + row[1:] for row in scored]),
        "position_ids": joined([list(range(len(row))) for row in ids]),
        "cu_seq_lens_q": ends,
        "cu_seq_lens_k": ends,
        "max_length_q": max(map(len, ids)),
        "max_length_k": max(map(len, ids)),
        "seq_idx": joined([[index] * len(row) for index, row in enumerate(ids)], torch.int32),
    }


def assert_same(found: dict[str, Any], wanted: dict[str, Any]) -> None:
    """The same keys in the same order, of the same dtypes, shapes and values."""
    assert list(found) == list(wanted)
    for key, value in wanted.items():
        if isinstance(value, int):
            assert (key, type(found[key]), found[key]) == (key, int, value)
        else:
            assert (key, found[key].dtype, found[key].tolist()) == (key, value.dtype, value.tolist())
            assert found[key].shape == value.shape
