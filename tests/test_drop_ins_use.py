"""How drop-ins are used: pickles, changed attributes, arrays, DataLoaders; and that they are tables."""

from __future__ import annotations

import ast
import pickle
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from dpo_collate import delivery, trainers
from dpo_collate.trainers import trl
from drop_ins import described
from drop_ins_examples import COLLATORS, EXAMPLES, KEYWORDS, called, with_tokens

if TYPE_CHECKING:
    from collections.abc import Iterator

# --- objects --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", COLLATORS)
def test_pickled(name: str) -> None:
    samples = [EXAMPLES[name]] * 2
    before = described(called(name, samples))  # a collator that has been used
    loaded = pickle.loads(pickle.dumps(COLLATORS[name]))
    assert described(loaded(samples, **KEYWORDS.get(name, {}))) == before


class Doubled(trl.DataCollatorForPreference):
    """A collator of TRL's is extended by this method."""

    def torch_call(self, examples: Any) -> dict[str, Any]:
        return {"twice": super().torch_call(examples)["input_ids"] * 2}


def test_a_subclass_may_override_what_trl_calls() -> None:
    samples = [EXAMPLES["trl"]]
    collator = Doubled(pad_token_id=0)
    assert torch.equal(collator(samples)["twice"], COLLATORS["trl"](samples)["input_ids"] * 2)
    assert "twice" not in collator(samples, return_tensors="np")


CHANGES = [
    *[(name, "pad_token_id", 9) for name in ("trl", "trl_reward", "trl_kto", "trl_legacy", "trl_padding")],
    *[(name, "pad_token_id", 9) for name in ("llamafactory", "openrlhf", "swift")],
    *[(name, "pad_to_multiple_of", 7) for name in ("trl", "trl_reward", "trl_kto", "llamafactory")],
    *[("trl", "max_length", 3), ("trl_kto", "max_length", 3), ("trl", "model_keys", ("image",))],
    *[("trl_padding", "is_encoder_decoder", True), ("openrlhf", "is_dpo", False)],
    *[("llamafactory", name, value) for name, value in (("padding_side", "left"), ("label_pad_token_id", 3))],
    *[("llamafactory", "min_length", 9), ("swift", "padding_side", "left"), ("swift", "padding_free", True)],
    *[("open_instruct", f"return_{name}", False) for name in ("flash_attn_kwargs", "position_ids", "seq_idx")],
    *[("open_instruct", "separator_id", 3), ("open_instruct", "max_seq_length", 9)],
    *[(name, "return_tensors", "np") for name in ("trl", "trl_reward", "trl_kto", "trl_legacy")],
    *[(name, "return_tensors", "np") for name in ("llamafactory", "open_instruct")],
]


@pytest.mark.parametrize(("name", "attribute", "value"), CHANGES)
def test_a_changed_attribute_is_respected(name: str, attribute: str, value: Any) -> None:
    sample = EXAMPLES[name]
    if isinstance(sample, dict):
        sample = sample | {"chosen_input_ids": [5, 6, 7], "image": torch.ones(1)} if name == "trl" else sample
    longer = with_tokens(name, [4] * 3)
    if isinstance(longer, tuple):
        longer = ([4] * 3, [1] * 3, *longer[2:])
    else:
        longer |= {key: [1] * 3 for key in ("chosen_labels", "chosen_attention_mask") if key in longer}
        longer |= {"prompt_ids": [1]} if attribute == "max_length" else {}
    collator = pickle.loads(pickle.dumps(COLLATORS[name]))
    batch = described(collator([sample, longer]))
    before = getattr(collator, attribute)
    setattr(collator, attribute, value)
    changed = described(collator([sample, longer]))
    assert changed != batch or attribute == "return_tensors"
    if name != "llamafactory":
        assert described(replace(COLLATORS[name], **{attribute: value})([sample, longer])) == changed
    setattr(collator, attribute, before)
    assert described(collator([sample, longer])) == batch


WITH_TENSORS = ["trl", "trl_reward", "trl_kto", "trl_legacy", "llamafactory", "open_instruct"]


@pytest.mark.parametrize("name", WITH_TENSORS)
def test_arrays(name: str) -> None:
    samples = [EXAMPLES[name]]
    collator = pickle.loads(pickle.dumps(COLLATORS[name]))
    tensors = collator(samples)
    for batch in (collator(samples, return_tensors="np"), collator(samples, "np")):
        assert {type(value) for value in batch.values()} <= {np.ndarray, int}
        assert {key: np.asarray(value).tolist() for key, value in batch.items()} == {
            key: np.asarray(value).tolist() for key, value in tensors.items()
        }
    collator.return_tensors = "np"
    assert isinstance(next(iter(collator(samples).values())), np.ndarray)
    assert isinstance(next(iter(collator(samples, return_tensors="pt").values())), torch.Tensor)


# --- through workers ------------------------------------------------------------------------------

TIMES = 3000


class Stretched(Dataset[Any]):
    """The sample of a drop-in with long rows."""

    def __init__(self, name: str) -> None:
        self.sample = EXAMPLES[name]

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> Any:
        if isinstance(self.sample, tuple):
            return (*(row * (TIMES + index) for row in self.sample[:4]), self.sample[4])
        return {key: row * (TIMES + index) if isinstance(row, list) else row for key, row in self.sample.items()}


def tensors_in(batch: Any) -> Iterator[torch.Tensor]:
    if isinstance(batch, torch.Tensor):
        yield batch
    elif isinstance(batch, dict | tuple | list):
        for value in batch.values() if isinstance(batch, dict) else batch:
            yield from tensors_in(value)


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
@pytest.mark.parametrize("name", COLLATORS)
def test_two_workers(name: str) -> None:
    data = Stretched(name)
    before = delivery.stats()
    loader = DataLoader(
        data, batch_size=2, num_workers=2, collate_fn=partial(COLLATORS[name], **KEYWORDS.get(name, {}))
    )
    batches = list(loader)
    after = delivery.stats()
    assert after.batches_received - before.batches_received == len(batches) == 4
    assert after.fallbacks == before.fallbacks
    held = sum(tensor.nbytes for batch in batches for tensor in tensors_in(batch) if tensor.nbytes > 4096)
    assert after.bytes_in_use - before.bytes_in_use >= held > 4 * TIMES * 8  # they lie in the workers' memory
    for at, batch in enumerate(batches):
        assert described(batch) == described(called(name, [data[2 * at], data[2 * at + 1]]))


# --- tables ---------------------------------------------------------------------------------------

MODULES = sorted(Path(trainers.__file__).parent.glob("[a-z]*.py"))
PADDING = {"pad", "pad_sequence", "full", "full_like", "new_full", "zeros", "new_zeros", "ones", "empty", "arange"}
PADDING |= {"cat", "concat", "concatenate", "stack", "repeat", "expand", "extend", "append"}
PADDING |= {"tensor", "as_tensor", "nested_tensor", "array", "asarray", "from_numpy"}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.stem))
def test_a_drop_in_holds_no_padding_code(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    typing = {node for block in tree.body if isinstance(block, ast.If) for node in ast.walk(block)}
    imported: set[str] = set()
    calls: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import) and node not in typing:
            imported |= {name.name.split(".")[0] for name in node.names}
        if isinstance(node, ast.ImportFrom) and node not in typing:
            imported.add((node.module or "").split(".")[0])
        if isinstance(node, ast.Call):
            calls.append(node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", ""))
    libraries = {"__future__", "collections", "dataclasses", "functools", "typing"}
    assert imported <= libraries | {"dpo_collate", "_cached", "_trl_call"}
    assert set(calls) & PADDING == set()
    assert "Layout" in calls


def test_every_drop_in_is_here() -> None:
    assert {path.stem for path in MODULES} == {"internvl", *COLLATORS} - {"trl_padding"}
