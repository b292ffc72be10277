"""The other ways of collating that the bench compares with, and which of them can run here."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import os
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence

from cases import LABEL_PAD_TOKEN_ID, PAD_TOKEN_ID, SIDES, Batch, Case, Kind, Samples

# The examples are programs in a folder, not a package.
sys.path.append(str(Path(__file__).parent.parent / "examples"))
from internvl_padding import internvl_padding

Call: TypeAlias = Callable[[], Any]

INTERNVL_VARIABLE: Final = "DPO_COLLATE_INTERNVL"
TRL_SINCE: Final = (0, 29)  # the first version whose collator takes `prompt_ids`


@dataclass(frozen=True)
class Baseline:
    """One other way, for the cases that it can collate at all."""

    name: str
    version: str
    layout: str
    kinds: tuple[Kind, ...]
    collate: Callable[[Samples], Batch]
    writes: bool = False
    """It writes into the samples, so that every call needs fresh copies of the dicts."""
    own_masks: bool = False
    """Its attention masks have another dtype: their values are compared, but not their dtype."""

    def applies(self, case: Case) -> bool:
        """Whether it can collate the case."""
        return case.layout == self.layout and case.kind in self.kinds

    def call(self, case: Case) -> Call:
        """What is timed."""
        collate, samples = self.collate, case.samples
        if self.writes:
            return lambda: collate(copies(samples))
        return lambda: collate(samples)


def copies(samples: Samples) -> Samples:
    """Shallow copies: what protects samples from a collator that writes into them."""
    return [dict(sample) for sample in samples]


def pad_separate(samples: Samples, tensor: Callable[[Any], torch.Tensor] | None) -> Batch:
    """The six matrices by `pad_sequence`; `tensor` makes tensors of rows that are none."""
    batch: Batch = {}
    for side in SIDES:
        ids = [sample[f"{side}_input_ids"] for sample in samples]
        labels = [sample[f"{side}_labels"] for sample in samples]
        if tensor is not None:
            ids = [tensor(row) for row in ids]
            labels = [tensor(row) for row in labels]
        batch |= {f"{side}_{name}": matrix for name, matrix in _padded(ids, labels).items()}
    return batch


def pad_concatenated(samples: Samples) -> Batch:
    """The three matrices of both sides by `pad_sequence`, from tensors."""
    ids, labels = ([sample[f"{side}_{of}"] for side in SIDES for sample in samples] for of in ("input_ids", "labels"))
    return _padded(ids, labels)


def _padded(ids: list[torch.Tensor], labels: list[torch.Tensor]) -> Batch:
    return {
        "input_ids": pad_sequence(ids, batch_first=True, padding_value=PAD_TOKEN_ID),
        "labels": pad_sequence(labels, batch_first=True, padding_value=LABEL_PAD_TOKEN_ID),
        "attention_mask": pad_sequence([torch.ones_like(row) for row in ids], batch_first=True, padding_value=0),
    }


def pad_split(samples: Samples) -> Batch:
    """The three matrices that TRL takes by `pad_sequence`, from lists."""
    ids, ones, completion = [], [], []
    for side in SIDES:
        for sample in samples:
            row = torch.tensor(sample["prompt_ids"] + sample[f"{side}_ids"])
            mask = torch.ones_like(row)
            ids.append(row)
            ones.append(mask)
            mask = mask.clone()
            mask[: len(sample["prompt_ids"])] = 0
            completion.append(mask)
    return {
        "input_ids": pad_sequence(ids, batch_first=True, padding_value=PAD_TOKEN_ID),
        "attention_mask": pad_sequence(ones, batch_first=True, padding_value=0),
        "completion_mask": pad_sequence(completion, batch_first=True, padding_value=0),
    }


def memcpy(nbytes: int) -> Call:
    """One copy of as many bytes as a batch has, between two buffers that have been touched before."""
    source, target = np.ones(nbytes, np.uint8), np.ones(nbytes, np.uint8)
    return lambda: np.copyto(target, source)


def installed() -> tuple[list[Baseline], dict[str, str]]:
    """The baselines that can run, and why the others cannot."""
    pytorch = f"torch {torch.__version__}"
    restated = functools.partial(internvl_padding, pad_id=PAD_TOKEN_ID)
    found = [
        Baseline("InternVL's way", "examples/internvl_padding.py", "separate", ("tensors",), restated, own_masks=True),
        Baseline("pad_sequence", pytorch, "separate", ("tensors",), lambda samples: pad_separate(samples, None)),
        Baseline("pad_sequence", pytorch, "separate", ("arrays",), lambda s: pad_separate(s, torch.from_numpy)),
        Baseline("pad_sequence", pytorch, "separate", ("lists",), lambda s: pad_separate(s, torch.tensor)),
        Baseline("pad_sequence", pytorch, "concatenated", ("tensors",), pad_concatenated),
        Baseline("pad_sequence", pytorch, "split", ("lists",), pad_split),
    ]
    missing = {}
    for name, find in (("InternVL", _internvl), ("TRL", _trl)):
        baseline = find()
        if isinstance(baseline, Baseline):
            found.append(baseline)
        else:
            missing[name] = baseline
    return found, missing


def internvl(function: str) -> Callable[[Samples], Batch]:
    """A function of InternVL's own, from its own file: it is in no package that could be installed.

    Raises:
        FileNotFoundError: The file is not there.
    """
    path = os.environ.get(INTERNVL_VARIABLE)
    if not path:
        raise FileNotFoundError(f"{INTERNVL_VARIABLE} does not name InternVL's pad_data_collator.py")
    spec = importlib.util.spec_from_file_location("pad_data_collator", path)
    if spec is None or spec.loader is None or not Path(path).is_file():
        raise FileNotFoundError(f"{INTERNVL_VARIABLE}: {path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found: Callable[[Samples], Batch] = getattr(module, function)
    return found


def _internvl() -> Baseline | str:
    try:
        collate = internvl("dpo_concat_pad_data_collator")
    except FileNotFoundError as error:
        return str(error)
    return Baseline("InternVL", "its own file", "separate", ("tensors",), collate, writes=True, own_masks=True)


def _trl() -> Baseline | str:
    try:
        version = importlib.import_module("trl").__version__
        if tuple(map(int, re.findall(r"\d+", version)[:2])) < TRL_SINCE:
            return f"TRL {version} takes other samples: expected {'.'.join(map(str, TRL_SINCE))} or later"
        collator = importlib.import_module("trl.trainer.dpo_trainer").DataCollatorForPreference
    except (ImportError, RuntimeError) as error:  # its modules are lazy: what one of them lacks is a RuntimeError
        return str(error)
    return Baseline("TRL", f"trl {version}", "split", ("lists",), collator(pad_token_id=PAD_TOKEN_ID))
