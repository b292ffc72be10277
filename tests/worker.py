"""This process as a DataLoader worker and its training process at once: what tests of messages run in.

A message is what torch's queue would carry: bytes from `ForkingPickler`, read by `pickle`.
"""

from __future__ import annotations

import gc
import pickle
from multiprocessing.reduction import ForkingPickler
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import torch
import torch.utils.data
from torch.multiprocessing.reductions import reduce_tensor

from dpo_collate import PreferenceCollator, _core, _pools, delivery

if TYPE_CHECKING:
    from collections.abc import Iterator


def message(value: Any) -> bytes:
    return bytes(ForkingPickler.dumps(value))


def through_a_queue(value: Any) -> Any:
    return pickle.loads(message(value))


@pytest.fixture(scope="module")
def worker() -> Iterator[None]:
    """What is collated can be sent. Tests of one module have one arena, as what is received stays mapped."""
    info = SimpleNamespace(worker_method="multiprocessing")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.utils.data, "get_worker_info", lambda: info)
        _pools._open()
        assert _pools._sender is not None
        through_a_queue(PreferenceCollator(pad_token_id=0)([ONE]))
        yield
    ForkingPickler.register(torch.Tensor, reduce_tensor)
    _core.fall_back("end of a module")
    _pools._sender = None


ONE = dict.fromkeys(("chosen_input_ids", "chosen_labels", "rejected_input_ids", "rejected_labels"), [1] * 1000)


def in_use() -> tuple[int, int]:
    """Blocks and bytes that are used; this process counts its arena twice, as its owner and as its receiver."""
    gc.collect()
    stats = delivery.stats()
    return stats.blocks_in_use // 2, stats.bytes_in_use // 2
