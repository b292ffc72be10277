"""The original collators of other projects, run from their own files: what the drop-ins are compared with.

None of their code is in this repository. `make peers` (or `python tests/peers.py DIRECTORY`) gets the files at the
commits below; the environment variable DPO_COLLATE_PEERS names the directory if it is not `peers/`. Of each file only
the definitions that the collator consists of are executed, with stand-ins for what they name besides, so that none of
the projects' dependencies has to be there.
"""

from __future__ import annotations

import ast
import copy
import functools
import math
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, SimpleNamespace
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import pytest
import torch
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence

DIRECTORY = Path(os.environ.get("DPO_COLLATE_PEERS") or Path(__file__).parents[1] / "peers")

Collate: TypeAlias = Callable[..., Any]
IGNORED = -100


class Project(NamedTuple):
    name: str
    repository: str
    commit: str
    files: tuple[str, ...]
    tests: tuple[str, ...] = ()
    """Of its collator: test_peers_own.py runs them with ours."""
    tested_at: str | None = None
    """The commit of these, if it is another."""

    def load(self, *wanted: str, **given: Any) -> Callable[..., Any]:
        """Execute the wanted functions and classes, which see only each other and what is given: the last of them.

        `Class.method` takes that method of a class, without what the class derives from.
        """
        names: dict[str, Any] = {"__name__": __name__, "torch": torch, "np": np, "dataclass": dataclass, **given}
        exec(compiled(self, wanted), names)
        last: Callable[..., Any] = names[wanted[-1].partition(".")[0]]
        return last

    def clone(self, into: Path) -> bool:
        """Get the files, and no others, from the project's repository: whether git could."""
        folder = into / self.name
        folder.mkdir(parents=True, exist_ok=True)
        steps: list[tuple[str, ...]] = [("init", "--quiet"), ("config", "remote.origin.url", self.repository)]
        for commit, files in ((self.commit, self.files), (self.tested_at or self.commit, self.tests)):
            if files:
                steps.append(("fetch", "--quiet", "--depth=1", "--filter=blob:none", "origin", commit))
                steps.append(("checkout", "--quiet", commit, "--", *files))
        return all(subprocess.run(("git", *step), cwd=folder, check=False).returncode == 0 for step in steps)


@functools.cache
def compiled(project: Project, wanted: tuple[str, ...]) -> CodeType:
    """What makes a project's functions and classes."""
    bodies = [node for file in project.files for node in parsed(DIRECTORY / project.name / file).body]
    definitions = {node.name: node for node in bodies if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    methods: dict[str, set[str]] = {}
    for name in wanted:
        owner, _, method = name.partition(".")
        methods.setdefault(owner, set()).update({method} - {""})
    nodes = [only(definitions[name], some) if some else definitions[name] for name, some in methods.items()]
    # Annotations stay text: they name what is not there. A dataclass looks for its module, whatever is in it.
    flags = annotations.compiler_flag
    made: CodeType = compile(ast.Module(nodes, []), f"<{project.name}>", "exec", flags=flags, dont_inherit=True)
    return made


def only(node: ast.stmt, methods: set[str]) -> ast.stmt:
    """A class of some of the methods, which needs no bases."""
    bare = copy.copy(node)
    assert isinstance(bare, ast.ClassDef)
    bare.bases = []
    bare.body = [item for item in bare.body if isinstance(item, ast.FunctionDef) and item.name in methods]
    assert len(bare.body) == len(methods), methods
    return bare


@functools.cache
def parsed(path: Path) -> ast.Module:
    if not path.exists():
        pytest.skip(f"{path} is not there: `make peers` gets the originals to compare with")
    return ast.parse(path.read_text(encoding="utf-8"))


INTERNVL_GPT_OSS = Project(
    "internvl_gpt_oss",
    "https://github.com/OpenGVLab/InternVL",
    "2410d1dbf208f0e799459aff9376e5747dbf41a2",
    ("internvl_chat_gpt_oss/internvl/patch/pad_data_collator.py",),
)
TRL_LEGACY = Project(
    "trl_legacy",
    "https://github.com/huggingface/trl",
    "49ef33428c47235991acb4e185ea599b70c6dab4",  # v0.28.0, the last with separate prompts
    ("trl/trainer/utils.py", "trl/trainer/dpo_trainer.py", "trl/experimental/utils.py"),
    ("tests/test_collators.py",),
)
TRL = Project(  # the package has the collators
    "trl",
    "https://github.com/huggingface/trl",
    "f2cd57710ae345ea6428ae95363267fcf38a3dc8",
    (),
    ("tests/test_dpo_trainer.py", "tests/test_reward_trainer.py", "tests/test_kto_trainer.py"),
)
LLAMAFACTORY = Project(
    "llamafactory",
    "https://github.com/hiyouga/LLaMA-Factory",
    "ff6d4d12eeb035d6ce06805a5733dd7b29f2ac30",
    ("src/llamafactory/data/collator.py",),
)
TORCHTUNE = Project(
    "torchtune",
    "https://github.com/meta-pytorch/torchtune",
    "bd2a0fc7c31430972728494fa01aaeeb0ebf1ba1",
    ("torchtune/data/_collate.py",),
    ("tests/torchtune/data/test_collate.py",),
)
OPENRLHF = Project(
    "openrlhf",
    "https://github.com/OpenRLHF/OpenRLHF",
    "3c3be6234e0cb353e76bb8019947db9dfe99fca7",
    ("openrlhf/utils/utils.py", "openrlhf/datasets/reward_dataset.py"),
)
SWIFT = Project(
    "swift",
    "https://github.com/modelscope/ms-swift",
    "3602360a562313afbf2ef6065fdf61f271a2c5b9",
    ("swift/template/base.py",),
)
MEGATRON_BRIDGE = Project(
    "megatron_bridge",
    "https://github.com/NVIDIA-NeMo/Megatron-Bridge",
    "0eca073e6f1415c0e62a608b70b96f712f0d364d",
    ("src/megatron/bridge/data/collators/sequence_padding.py", "src/megatron/bridge/data/datasets/preference.py"),
    ("tests/unit_tests/data/datasets/test_preference.py",),
    "14da1775ab1fe2305c536e6c646d729a9ec7e31f",
)
OPEN_INSTRUCT = Project(
    "open_instruct",
    "https://github.com/allenai/open-instruct",
    "e6c3044aa6201c8bfa4573c1b03142af599e730d",
    ("open_instruct/tensor_utils.py", "open_instruct/padding_free_collator.py"),
    ("open_instruct/test_padding_free_collator.py",),
)
XTUNER = Project(
    "xtuner",
    "https://github.com/InternLM/xtuner",
    "b934f462095c1e750229de35367c50ae36caa786",
    ("xtuner/dataset/collate_fns/preference_collate_fn.py",),
)
PROJECTS = (
    *(INTERNVL_GPT_OSS, TRL, TRL_LEGACY, LLAMAFACTORY, TORCHTUNE, OPENRLHF),
    *(SWIFT, MEGATRON_BRIDGE, OPEN_INSTRUCT, XTUNER),
)


# --- from files: each gives the original, or skips the test ---------------------------------------


def internvl_gpt_oss() -> Collate:
    """`(features, pad_id=0)`; it changes the samples."""
    return INTERNVL_GPT_OSS.load("dpo_concat_pad_data_collator")


def trl_legacy(pad_token_id: int) -> Collate:
    """TRL 0.14 to 0.28: `DataCollatorForPreference`."""
    mixin = pytest.importorskip("transformers.data.data_collator").DataCollatorMixin
    made: Collate = TRL_LEGACY.load("pad", "DataCollatorForPreference", DataCollatorMixin=mixin)(pad_token_id)
    return made


def trl_padding(pad_token_id: int = 0, *, is_encoder_decoder: bool = False) -> Collate:
    """TRL's `DPODataCollatorWithPadding`, of the trainers for CPO and ORPO."""
    made: Collate = TRL_LEGACY.load("pad", "DPODataCollatorWithPadding", pad_sequence=pad_sequence)(
        pad_token_id, is_encoder_decoder
    )
    return made


def llamafactory(pad_token_id: int, *, padding_side: str = "right", **options: Any) -> Collate:
    """`PairwiseDataCollatorWithPadding` of a model without images; the options are those of DataCollatorForSeq2Seq."""
    transformers = pytest.importorskip("transformers")
    tokenizers = pytest.importorskip("tokenizers")
    collator = LLAMAFACTORY.load(
        "MultiModalDataCollatorForSeq2Seq",
        "PairwiseDataCollatorWithPadding",
        DataCollatorForSeq2Seq=transformers.DataCollatorForSeq2Seq,
        PeftModel=type("PeftModel", (), {}),
        MROPE_MODELS=(),
    )
    words = tokenizers.models.WordLevel({"<pad>": pad_token_id}, unk_token="<pad>")
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizers.Tokenizer(words), pad_token="<pad>", padding_side=padding_side
    )
    plugin = SimpleNamespace(image_token=None, audio_token=None, get_mm_inputs=lambda *_: {})
    # What its trainers for DPO and rewards always pass.
    options = {"pad_to_multiple_of": 8, "label_pad_token_id": IGNORED, **options}
    made: Collate = collator(tokenizer=tokenizer, template=SimpleNamespace(mm_plugin=plugin), **options)
    return made


def torchtune() -> Collate:
    """`(batch, padding_idx=0, ignore_idx=-100, pad_to_multiple_of=1)`."""
    return TORCHTUNE.load(
        "padded_collate_dpo", F=functional, pad_sequence=pad_sequence, CROSS_ENTROPY_IGNORE_IDX=IGNORED
    )


def openrlhf(pad_token_id: int, *, is_dpo: bool) -> Collate:
    """`RewardDataset.collate_fn`; for rewards (not `is_dpo`) the padding is on the left."""
    dataset = OPENRLHF.load("zero_pad_sequences", "RewardDataset.collate_fn", F=functional)()
    vars(dataset).update(is_dpo=is_dpo, tokenizer=SimpleNamespace(pad_token_id=pad_token_id))
    made: Collate = dataset.collate_fn
    return made


def swift(pad_token_id: int, *, training: bool = True, **attributes: Any) -> Collate:
    """`Template._rlhf_data_collator(batch, padding_to=None)`; the attributes are the template's (`padding_free`, …)."""
    methods = "is_training _fetch_inputs_startswith concat_tensor _rlhf_data_collator _handle_megatron_cp packing_row"
    methods += " _data_collator _data_collator_mm_data _pad_3d_position_ids _pad_sequence"
    wanted = [f"Template.{method}" for method in methods.split()]
    template = SWIFT.load(*wanted, F=functional, math=math, pad_sequence=pad_sequence)()
    vars(template).update(
        {
            "tokenizer": SimpleNamespace(pad_token_id=pad_token_id),
            "mode": "rlhf" if training else "transformers",
            "padding_side": "right",
            "padding_free": False,
            "use_megatron": False,
            "sequence_parallel_size": 1,
            **attributes,
        }
    )
    made: Collate = template._rlhf_data_collator
    return made


def megatron_bridge() -> Collate:
    """`(batch, pad_token_id, pad_seq_length_to_mult=1, require_ref_logprobs=True)`."""
    return MEGATRON_BRIDGE.load("_ceil_to_multiple", "preference_collate_fn")


def open_instruct(**options: Any) -> Collate:
    """`TensorDataCollatorWithFlatteningDPO`; `max_seq_length` bounds, and pads, the tokens of each side."""
    default = pytest.importorskip("transformers").DefaultDataCollator
    pad_to_length = OPEN_INSTRUCT.load("pad_to_length", F=functional)
    made: Collate = OPEN_INSTRUCT.load(
        "_collect_flattened_features",
        "_filter_feature_dicts",
        "count_features_within_token_budget",
        "TensorDataCollatorWithFlattening",
        "TensorDataCollatorWithFlatteningDPO",
        DefaultDataCollator=default,
        tensor_utils=SimpleNamespace(pad_to_length=pad_to_length),
    )(**options)
    return made


def xtuner() -> Collate:
    """`(instances, pad_index=0, return_hf_format=False, use_varlen_attn=False)` of one process."""
    return XTUNER.load(
        "preference_collate_fn",
        pad_sequence=pad_sequence,
        get_sequence_parallel_world_size=lambda: 1,
        DEFAULT_PAD_TOKEN_INDEX=0,
        IGNORE_INDEX=IGNORED,
    )


# --- from the package -----------------------------------------------------------------------------


def trl(pad_token_id: int, **options: Any) -> Collate:
    """Today's `DataCollatorForPreference`, for DPO."""
    made: Collate = installed("dpo_trainer").DataCollatorForPreference(pad_token_id, **options)
    return made


def trl_reward(pad_token_id: int, **options: Any) -> Collate:
    """The class of the same name for reward models."""
    made: Collate = installed("reward_trainer").DataCollatorForPreference(pad_token_id, **options)
    return made


def trl_kto(pad_token_id: int, **options: Any) -> Collate:
    """`DataCollatorForUnpairedPreference`."""
    made: Collate = installed("kto_trainer").DataCollatorForUnpairedPreference(pad_token_id, **options)
    return made


def installed(module: str) -> Any:
    pytest.importorskip("trl", minversion="1.0")
    return pytest.importorskip(f"trl.trainer.{module}")


if __name__ == "__main__":
    directory = Path(sys.argv[1]) if sys.argv[1:] else DIRECTORY
    failed = [project.name for project in PROJECTS if not project.clone(directory)]
    sys.exit(f"not there: {', '.join(failed)}" if failed else 0)
