"""Tensors from a DataLoader worker to the training process: sent as the place of their memory.

In a worker, the pickler of torch's queues asks :func:`_reduce` about each tensor. Memory of this process's arena
goes as (arena, block, generation, offset, dtype, shape, strides); anything else goes the way of torch. The decision
is by address, when the tensor is pickled: whatever was done to the tensor, and in whatever containers it lies.

A message is to be read once: a place that nobody receives keeps its block until the worker ends. Small tensors are
sent by value, so one that is a view of another is a tensor of its own afterwards.
"""

from __future__ import annotations

import io
import os
import select
from contextlib import nullcontext, suppress
from multiprocessing import resource_sharer
from multiprocessing.reduction import DupFd, ForkingPickler
from multiprocessing.util import Finalize
from typing import Any, Final

import numpy as np
import torch
from torch.multiprocessing.reductions import reduce_tensor

from . import _core
from ._pools import watch_forks

SMALL_BYTES: Final = 4096
"""Smaller tensors are sent by value: to keep a `margin` must not keep a block."""

OFFERS: Final = 4
"""So many times a worker sends the descriptor along. One is enough, unless messages are lost or go elsewhere; each
takes a descriptor until it is received."""

MOST_SECONDS: Final = 1.0
"""So long it is waited for a worker that is being killed."""

# NumPy's dtype of the memory, and torch's where NumPy has none.
_DTYPES: Final[dict[str, tuple[np.dtype[Any], torch.dtype | None]]] = {
    str(dtype).removeprefix("torch."): (np.dtype(carrier), dtype if view else None)
    for dtype, carrier, view in [
        (torch.bool, "bool", False),
        (torch.uint8, "uint8", False),
        (torch.int8, "int8", False),
        (torch.int16, "int16", False),
        (torch.int32, "int32", False),
        (torch.int64, "int64", False),
        (torch.float16, "float16", False),
        (torch.float32, "float32", False),
        (torch.float64, "float64", False),
        (torch.complex64, "complex64", False),
        (torch.complex128, "complex128", False),
        (torch.bfloat16, "int16", True),
    ]
}
_NAMES: Final = {getattr(torch, name): name for name in _DTYPES}


class Sender:
    """The worker's end. In each message it becomes the receiver's end: see :func:`_attach`.

    Raises:
        OSError: There is no descriptor left, or no socket to hand it over.
    """

    def __init__(self, identity: bytes, descriptor: int) -> None:
        self._identity = identity
        self._descriptor = descriptor
        self._process = os.getpid()
        self._offers: list[Any] = [_offer(descriptor)]
        self._left = OFFERS - 1

    def prepare(self) -> None:
        """Offers the descriptor once more, if the last offer is gone and nobody has come."""
        if not self._offers and self._left:
            self._left -= 1
            with suppress(OSError, RuntimeError, MemoryError):  # what was offered before may still do
                self._offers.append(_offer(self._descriptor))

    def __reduce__(self) -> tuple[Any, ...]:
        _core.count_sent()
        try:
            offer = self._offers.pop()
        except IndexError:
            offer = None
        return _attach, (self._identity, self._process, self._descriptor, offer)


def _offer(descriptor: int) -> Any:
    """A descriptor that a thread of this process hands over to whoever asks."""
    _forget_unserved_socket()
    try:
        return DupFd(descriptor)
    except Exception:
        _forget_unserved_socket()
        raise


def _forget_unserved_socket() -> None:
    """Has multiprocessing start the thread anew that hands descriptors over, where it could not be started.

    It keeps the socket then, and takes the thread for started: whoever asks there, for descriptors that torch sends as
    well, would wait without end.
    """
    sharer: Any = getattr(resource_sharer, "_resource_sharer", None)
    # (Under its lock, which a thread that is starting it holds: the queue's, which sends what goes torch's way.)
    with getattr(sharer, "_lock", nullcontext()):
        if getattr(sharer, "_listener", None) is not None and getattr(sharer, "_thread", 0) is None:
            with suppress(OSError):
                sharer._listener.close()  # noqa: SLF001 - nothing public ends it without its thread
            sharer._listener = sharer._address = None  # noqa: SLF001


def open_sender() -> Sender:
    """Makes this process a sender.

    Raises:
        OSError, MemoryError, RuntimeError: The system refuses.
    """
    sender = Sender(*_core.open_shared())
    # Else what is free would stay until the training process looks for dead workers.
    Finalize(None, _core.close, exitpriority=0)

    def reduce(tensor: torch.Tensor) -> Any:
        try:
            return _reduce(sender, tensor)
        except Exception:  # noqa: BLE001 - raised here, whatever it is would make the loader wait for ever
            return reduce_tensor(tensor)  # type: ignore[no-untyped-call]

    # Who sends something beside tensors goes on with it: the queue's thread may be sending what asks for it.
    around = getattr(ForkingPickler(io.BytesIO()).dispatch_table.get(torch.Tensor), "around", None)
    ForkingPickler.register(torch.Tensor, reduce if around is None else around(reduce))
    return sender


def _reduce(sender: Sender, tensor: torch.Tensor) -> Any:
    name = _NAMES.get(tensor.dtype)
    foreign = tensor.device.type != "cpu" or tensor.requires_grad or tensor.is_nested
    if name is None or foreign or tensor.layout is not torch.strided:
        return reduce_tensor(tensor)  # type: ignore[no-untyped-call]
    # Torch would send the memory without the flag that says how it is to be read.
    tensor = tensor.resolve_conj().resolve_neg()
    shape, strides = tuple(tensor.shape), tensor.stride()
    if not tensor.numel():
        return _of_bytes, (b"", name, shape)
    small = tensor.nbytes < SMALL_BYTES
    place = _core.send(tensor.data_ptr(), tensor.itemsize, shape, strides, SMALL_BYTES if small else 0)
    if place is None:
        return reduce_tensor(tensor)  # type: ignore[no-untyped-call]
    if not place:
        return _of_bytes, (_plain(tensor).tobytes(), name, shape)
    return _receive, (sender, place, name, shape, None if tensor.is_contiguous() else strides)


def _plain(tensor: torch.Tensor) -> Any:
    """The tensor as an array, of integers where NumPy has no such dtype."""
    return (tensor.view(torch.int16) if tensor.dtype == torch.bfloat16 else tensor).numpy()


def _of_bytes(values: bytes, name: str, shape: tuple[int, ...]) -> torch.Tensor:
    dtype = getattr(torch, name)
    if not values:
        return torch.empty(shape, dtype=dtype, device="cpu")
    return torch.frombuffer(bytearray(values), dtype=dtype).view(shape)


def _receive(
    arena: _core.Arena,
    place: tuple[int, int, int],
    name: str,
    shape: tuple[int, ...],
    strides: tuple[int, ...] | None,
) -> torch.Tensor:
    carrier, dtype = _DTYPES[name]
    tensor = torch.from_numpy(_core.receive(arena, place, carrier, shape, strides))
    return tensor if dtype is None else tensor.view(dtype)


def _attach(identity: bytes, process: int, descriptor: int, offer: Any) -> _core.Arena:
    """The arena of a message.

    Raises:
        RuntimeError: It cannot be mapped.
    """
    watch_forks()
    arena = _core.attached(identity)
    file = None
    if offer is not None:
        with suppress(OSError, EOFError, RuntimeError):  # the worker is gone, or somebody has no descriptor left
            file = offer.detach()
    if arena is not None:
        if file is not None:
            os.close(file)
        return arena
    try:
        if file is None:
            file = os.open(f"/proc/{process}/fd/{descriptor}", os.O_RDWR | os.O_CLOEXEC)
        return _core.attach(identity, file, process, descriptor)
    except (OSError, MemoryError) as error:
        _wait_for_end(process)
        raise RuntimeError(
            f"cannot map the memory of the DataLoader worker with process id {process}: {error}; "
            f"PreferenceCollator(delivery='torch') sends batches as torch does"
        ) from error


def _wait_for_end(process: int) -> None:
    """Waits a moment for a worker that is being killed. When it is dead, torch has an error of its own for that."""
    with suppress(OSError):  # it is gone
        descriptor = os.pidfd_open(process)
        try:
            ended = select.poll()
            ended.register(descriptor, select.POLLIN)
            ended.poll(MOST_SECONDS * 1000)
        finally:
            os.close(descriptor)
