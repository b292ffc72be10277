"""The memory that this process takes batches from: opened when its first batch is collated."""

from __future__ import annotations

import math
import os
import sys
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

from . import _core

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import torch

    from ._messages import Sender

Memory: TypeAlias = Literal["heap", "private", "delivered"]
"""``"heap"``: new memory for each batch. ``"private"``: memory that is used again. ``"delivered"``: likewise, and in
a DataLoader worker such that the training process can see it."""


@dataclass(frozen=True)
class Target:
    """What a batch is made of."""

    tensors: bool
    """Tensors; else arrays."""
    memory: Memory

    def empty(self, nbytes: int) -> npt.NDArray[np.uint8]:
        """Memory of that many bytes, its content whatever was there before."""
        return _core.empty(nbytes, self.memory)

    def empty_tensor(self, dtype: torch.dtype, shape: tuple[int, ...]) -> torch.Tensor:
        """A tensor of that dtype and shape, its content whatever was there before."""
        from torch import from_numpy  # noqa: PLC0415 - imported long since where tensors are asked for

        return from_numpy(self.empty(math.prod(shape) * dtype.itemsize)).view(dtype).view(shape)


_sender: Sender | None = None
_opening = threading.RLock()
_watching = False


def ready() -> None:
    """Opens what this process needs, the first time; until a receiver is there, does what has to be done for it.

    All that can fail in delivery is done here, in ``collate()``, where torch's way is still open. An error in a
    reducer would be raised in a thread of the queue's, and the loader would wait for ever.
    """
    if not _core.is_open():
        with _opening:  # a thread that comes second finds the sender
            _open()


def _open() -> None:
    global _sender  # noqa: PLW0603 - one for each process
    if _sender is not None:
        _sender.prepare()
        return
    watch_forks()
    if _is_worker_process():
        try:
            from . import _messages  # noqa: PLC0415 - imports torch, which is there: this is a worker of its DataLoader

            _sender = _messages.open_sender()
        except (OSError, MemoryError, RuntimeError) as error:  # RuntimeError: no thread can be started
            _core.fall_back(f"batches are sent as torch sends them: {error}")
    _core.set_open()


def _is_worker_process() -> bool:
    data = sys.modules.get("torch.utils.data")
    info = None if data is None else data.get_worker_info()
    # Workers may come to be threads, which share all memory as it is.
    return info is not None and getattr(info, "worker_method", "multiprocessing") == "multiprocessing"


def watch_forks() -> None:
    """Sees to it that forked processes and this one do not take each other's memory for their own."""
    global _watching  # noqa: PLW0603 - what is registered is inherited by forked processes, and so is this
    if not _watching:
        _watching = True
        if hasattr(os, "register_at_fork"):  # pragma: no branch - elsewhere nothing forks
            os.register_at_fork(
                before=_core.before_fork, after_in_parent=_core.after_fork_in_parent, after_in_child=_forked
            )


def _forked() -> None:  # pragma: no cover - runs in forked processes, of which nothing is measured
    global _sender, _opening
    _sender, _opening = None, threading.RLock()  # another thread may have held it
    _core.after_fork_in_child()
