"""The package: what importing it imports, its version, and how it gets on with torch's absence, age and lateness."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

import dpo_collate

ROOT = Path(__file__).parent.parent
VERSION = tomllib.loads((ROOT / "Cargo.toml").read_text())["package"]["version"]
HEAVY = (
    *("torch", "transformers", "trl", "datasets", "ray", "pyarrow", "hypothesis", "pandas", "pytest"),
    *("typer", "rich", "matplotlib"),
)
SAMPLE = '{"chosen_input_ids": [1, 2], "chosen_labels": (3, 4), "rejected_input_ids": (4,), "rejected_labels": [5]}'


def run(program: str, *options: str) -> str:
    """What a program prints. Nothing goes to stderr."""
    command = [sys.executable, *options, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=240)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_import_is_light() -> None:
    program = f"""
import sys
import dpo_collate, dpo_collate.layout, dpo_collate.trainers, dpo_collate.trainers.internvl
collator = dpo_collate.PreferenceCollator(pad_token_id=0, return_tensors="np", extra_keys="stack")
images = {{"pixel_values": [[1.0]], "image_flags": [1], "other": 5}}
assert collator([{SAMPLE} | images])["pixel_values"].tolist() == [[1.0]]
assert "numpy" in sys.modules
print([name for name in {HEAVY} if name in sys.modules])
"""
    assert run(program, "-W", "error") == "[]\n"


def test_version_is_said_once() -> None:
    assert dpo_collate.__version__ == VERSION
    assert importlib.metadata.version("dpo_collate") == VERSION
    assert VERSION not in (ROOT / "README.md").read_text()
    assert VERSION not in (ROOT / "pyproject.toml").read_text()


def test_public_names() -> None:
    names = {name for name, value in vars(dpo_collate).items() if not isinstance(value, ModuleType)}
    modules = {"checking", "delivery", "layout", "named", "padding_free"}  # that it imports
    public = {name for name in names if not name.startswith("_")} | modules
    assert public == set(dpo_collate.__all__) - {"__version__"}
    assert all(hasattr(dpo_collate, name) for name in dpo_collate.__all__)
    assert len(set(dpo_collate.__all__)) == len(dpo_collate.__all__)


def test_is_typed() -> None:
    files = {path.name for path in Path(dpo_collate.__file__).parent.iterdir()}
    assert {"py.typed", "_core.pyi"} <= files


def test_core_is_built_with_optimisation() -> None:
    assert not dpo_collate._core.DEBUG_BUILD


def test_without_torch() -> None:
    program = f"""
import sys

class Blocked:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name.partition(".")[0] == "torch":
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Blocked)
from dpo_collate import PreferenceCollator, dpo_collate
from dpo_collate.trainers import internvl
print(PreferenceCollator(pad_token_id=0, return_tensors="np")([{SAMPLE}])["chosen_labels"].tolist())
for call in (lambda: PreferenceCollator(pad_token_id=0), lambda: dpo_collate([{SAMPLE}])):
    try:
        call()
    except ModuleNotFoundError as error:
        print(error.name, str(error).partition("; ")[2])
print("torch" in sys.modules)
"""
    hint = "tensors need torch (the extra 'torch' of dpo_collate); PreferenceCollator can give arrays without it"
    assert run(program) == f"[[3, 4]]\ntorch {hint}\ntorch {hint}\nFalse\n"


def test_tensors_need_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)  # as if it were not installed
    with pytest.raises(ModuleNotFoundError, match="; tensors need torch"):
        dpo_collate.PreferenceCollator(pad_token_id=0)


EXCHANGE = "__dlpack_c_exchange_api__"


@pytest.mark.parametrize(
    ("before", "between"),
    [
        (f"import torch\nif hasattr(torch.Tensor, {EXCHANGE!r}): del torch.Tensor.{EXCHANGE}", ""),
        (f"import torch\ntorch.Tensor.{EXCHANGE} = None", ""),
        ("", "assert 'torch' not in sys.modules"),
    ],
    ids=["without the exchange API", "with an unknown one", "imported later"],
)
def test_other_torch(before: str, between: str) -> None:
    program = f"""
import sys
{before}
from dpo_collate import PreferenceCollator
collator = PreferenceCollator(pad_token_id=0, return_tensors="np")
sample = {SAMPLE}
expected = collator([sample])
{between}
import torch
labels = torch.tensor([3, 4])
for ids in (torch.tensor([1, 2]), torch.tensor([1, 9, 2])[::2], torch.tensor([1, 2], dtype=torch.uint8)):
    batch = collator([{{**sample, "chosen_input_ids": ids, "chosen_labels": labels}}])
    assert all(batch[key].tolist() == expected[key].tolist() for key in expected | batch)
    assert PreferenceCollator(pad_token_id=0)([sample])["chosen_labels"].tolist() == [[3, 4]]
try:
    collator([{{**sample, "chosen_input_ids": torch.tensor([1.0, 2.0])}}])
except TypeError as error:
    print(error)
"""
    assert run(program) == "sample 0: 'chosen_input_ids' has dtype float32, expected integers\n"
