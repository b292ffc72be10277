"""From the output of a model to the rows of a padding-free batch: one number a row, with gradients.

In the layout ``"padding_free"`` a batch is one sequence ``[1, T]``: all chosen rows, then all rejected ones, end to
end. So the model gives one value a token, and a loss over pairs needs to know which tokens are whose::

    logits = model(**inputs, use_cache=False).logits  # [1, T, V]
    chosen, rejected = row_logps(logits, batch)  # [B] each
    with torch.no_grad():
        ref_chosen, ref_rejected = row_logps(ref_model(**inputs, use_cache=False).logits, batch)
    loss = -logsigmoid(beta * ((chosen - rejected) - (ref_chosen - ref_rejected))).mean()

``use_cache=False`` is not for speed: with a cache, models of transformers do not look for the ends of rows in
``position_ids``, and the rows attend to each other.

Of the batch these keys are read, all of them tensors on the device of the values:

- ``seq_idx`` int32 ``[1, T]``: the row of each token; -1 for one of no row (``T`` rounded up, rows rounded up);
- ``cu_seq_lens_q`` int32: it tells how many rows there are, as rows may be empty. It has an entry more than there are
  rows, and another one if there is a tail; rows come in pairs, so nothing else has to be known, and no value is looked
  at: on a GPU nothing waits;
- ``labels`` int64 ``[1, T]``, not shifted (``targets="labels"``, the default); :func:`row_logps` alone reads them.

Rows must be in the order of the named layout: all chosen ones, then all rejected ones (``order="grouped"``). Of a table
of your own with another order the sums would be those of other rows, without an error.

Where log-probabilities are made without logits (TRL's ``add_fused_lm_head``), there is one for each token but the
first: ``row_sums(torch.nn.functional.pad(log_probs, (1, 0)), batch)``.

Sources: TRL had this half of padding-free DPO until 0.28; since 0.29 its ``padding_free=True`` does nothing. Names are
those of transformers' ``DataCollatorWithFlattening``.

torch is imported when a function is called.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from ._checks import check_int64
from ._convert import is_tensor

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import torch

__all__ = ["row_logps", "row_sums"]

_CELLS: Final = 1 << 23
"""So many logits are worked on at a time: 32 MiB of float32, a few of which are needed meanwhile."""

_FUNCTIONS: Final[list[Any]] = []
"""What :func:`_function` made, once there was torch. No `functools.cache`: `torch.compile` warns of that."""


def row_sums(values: torch.Tensor, batch: Mapping[str, Any]) -> tuple[torch.Tensor, torch.Tensor]:
    """Sums values of tokens over each row of a padding-free batch.

    Tokens of no row count nowhere, be their values NaN; their gradient is 0. The sum of an empty row is 0. On CPUs and
    with CUDA sums are taken in float64, whatever the dtype: so long rows lose nothing to the order of their tokens.

    Args:
        values: One value a token, ``[1, T]``, of any floating-point dtype.
        batch: A batch of layout ``"padding_free"``; ``seq_idx`` and ``cu_seq_lens_q`` are read.

    Returns:
        The sums of the chosen and those of the rejected rows, ``[B]`` each: float64 for values of float64, else
        float32.

    Raises:
        KeyError: The batch is of another layout.
        TypeError: The values are no floating-point tensor; the batch holds no tensors.
        ValueError: The values are not one a token, or the batch's own shapes do not fit.

    Example:
        >>> import torch
        >>> from dpo_collate.padding_free import row_sums
        >>> batch = {  # chosen: 3 tokens; rejected: 2 tokens; T rounded up to 6
        ...     "seq_idx": torch.tensor([[0, 0, 0, 1, 1, -1]], dtype=torch.int32),
        ...     "cu_seq_lens_q": torch.tensor([0, 3, 5, 6], dtype=torch.int32),
        ... }
        >>> row_sums(torch.tensor([[1.0, 2.0, 3.0, 4.0, 5.0, torch.nan]]), batch)
        (tensor([6.]), tensor([9.]))
    """
    seq_idx = _seq_idx(batch)
    _check_values("values", values, (*seq_idx.shape,))
    return _sums(values.flatten(), seq_idx.flatten(), _tensor(batch, "cu_seq_lens_q"))


def row_logps(
    logits: torch.Tensor, batch: Mapping[str, Any], *, label_pad_token_id: int = -100
) -> tuple[torch.Tensor, torch.Tensor]:
    """Sums the log-probabilities of the labels over each row of a padding-free batch.

    The logits of a token are those of the next token of its row; so the first label of a row is never scored. What
    is not scored counts nowhere, be its logits NaN; its gradient is 0.

    The same as ``logits.float().log_softmax(-1)`` at the labels, without a copy of the logits: they are worked on part
    by part, in float32 where their dtype is a shorter one (as in TRL's fused head; its ``selective_log_softmax`` rounds
    each to bfloat16). Nothing of their size is kept for the gradient, which is the one thing as large as they are.
    There is no second derivative.

    Args:
        logits: What the model gives for the whole batch, ``[1, T, V]``, of any floating-point dtype; not shifted.
        batch: A batch of layout ``"padding_free"``; ``labels``, ``seq_idx`` and ``cu_seq_lens_q`` are read.
        label_pad_token_id: The label of what is not scored, as the collator has it.

    Returns:
        The sums of the chosen and those of the rejected rows, ``[B]`` each: float64 for logits of float64, else
        float32.

    Raises:
        KeyError: The batch is of another layout.
        TypeError: The logits are no floating-point tensor; the batch holds no tensors.
        ValueError: The logits are not those of every token, or the batch's own shapes do not fit.

    Example:
        >>> import torch
        >>> from dpo_collate.padding_free import row_logps
        >>> batch = {  # chosen: 3 tokens, 2 of them scored; rejected: 2 tokens, 1 of them scored
        ...     "labels": torch.tensor([[-100, 7, 8, -100, 9]]),
        ...     "seq_idx": torch.tensor([[0, 0, 0, 1, 1]], dtype=torch.int32),
        ...     "cu_seq_lens_q": torch.tensor([0, 3, 5], dtype=torch.int32),
        ... }
        >>> row_logps(torch.zeros(1, 5, 10), batch)  # each label has the probability 1/10
        (tensor([-4.6052]), tensor([-2.3026]))
    """
    label_pad_token_id = check_int64("label_pad_token_id", label_pad_token_id)
    seq_idx = _seq_idx(batch)
    if "labels" not in batch and "completion_mask" in batch:
        raise KeyError("the batch has no 'labels' but 'completion_mask': collate it with targets='labels'")
    labels = _tensor(batch, "labels")
    if labels.shape != seq_idx.shape:
        raise ValueError(f"'labels' has shape {[*labels.shape]}, but 'seq_idx' has {[*seq_idx.shape]}")
    _check_values("logits", logits, (*seq_idx.shape, "V"))
    rows = seq_idx.flatten()
    following = labels.flatten().roll(-1)
    scored = (rows >= 0) & (rows == rows.roll(-1)) & (following != label_pad_token_id)
    scored[-1:] = False  # what follows the last token is the first one
    # A view, as is all that is made of the logits: to select or cut them would make a copy of the gradient.
    logps = _function()(logits.flatten(0, 1), following.masked_fill(~scored, 0), scored)
    return _sums(logps, rows, _tensor(batch, "cu_seq_lens_q"))


def _sums(values: torch.Tensor, rows: torch.Tensor, cu_seq_lens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    import torch  # noqa: PLC0415 - there are tensors, so it is there

    if cu_seq_lens.ndim != 1 or not cu_seq_lens.numel():
        raise ValueError(f"'cu_seq_lens_q' has shape {[*cu_seq_lens.shape]}, expected [rows + 1]")
    pairs = (cu_seq_lens.numel() - 1) // 2  # with a tail there is one segment more than rows
    dtype = _accumulated(values.dtype)
    wide = torch.float64 if values.device.type in {"cpu", "cuda"} else dtype  # not every device has float64
    # What belongs to no row has a sum of its own, the first, which nobody looks at: so its gradient is 0, not NaN.
    sums = values.new_zeros(2 * pairs + 1, dtype=wide).index_add(0, rows + 1, values.to(wide)).to(dtype)
    return sums[1 : pairs + 1], sums[pairs + 1 :]


def _function() -> Any:
    """The function of logits ``[T, V]``, labels ``[T]`` and which are scored: log-probabilities ``[T]``, or 0."""
    if not _FUNCTIONS:
        _FUNCTIONS.append(_make_function())
    return _FUNCTIONS[0]


def _make_function() -> Any:
    import torch  # noqa: PLC0415 - there are tensors, so it is there

    class Logps(torch.autograd.Function):
        """By hand, as autograd keeps the exponentials of all logits, in float32."""

        @staticmethod
        def forward(ctx: Any, logits: torch.Tensor, labels: torch.Tensor, scored: torch.Tensor) -> torch.Tensor:
            dtype = _accumulated(logits.dtype)
            logps = logits.new_empty(labels.shape, dtype=dtype)
            norms = torch.empty_like(logps)
            for part, label, logp, norm in _parts(logits, labels, logps, norms):
                wide = part.to(dtype)
                norm.copy_(wide.logsumexp(-1))
                logp.copy_(wide.gather(-1, label[:, None])[:, 0] - norm)
            ctx.save_for_backward(logits, labels, scored, norms)
            return logps.masked_fill(~scored, 0)

        @staticmethod
        @torch.autograd.function.once_differentiable
        def backward(ctx: Any, slopes: torch.Tensor) -> tuple[torch.Tensor, None, None]:
            logits, labels, scored, norms = ctx.saved_tensors
            gradient = torch.empty_like(logits)
            for part, label, keep, norm, slope, out in _parts(logits, labels, scored, norms, slopes, gradient):
                # What the label has (1) less its probability; the others have none of it.
                wide = (part - norm[:, None]).exp_().mul_(-slope[:, None])
                wide.scatter_add_(-1, label[:, None], slope[:, None])
                out.copy_(wide.masked_fill_(~keep[:, None], 0))
            return gradient, None, None

    return Logps.apply


def _parts(logits: torch.Tensor, *others: torch.Tensor) -> Iterator[tuple[torch.Tensor, ...]]:
    """Some tokens of each at a time, those of the logits first."""
    tokens = max(_CELLS // logits.shape[-1], 1)
    for start in range(0, len(logits), tokens):
        yield tuple(each[start : start + tokens] for each in (logits, *others))


def _accumulated(dtype: torch.dtype) -> torch.dtype:
    """What numbers of this dtype are computed in: at least float32."""
    import torch  # noqa: PLC0415 - there are tensors, so it is there

    return torch.float64 if dtype == torch.float64 else torch.float32


def _tensor(batch: Mapping[str, Any], key: str) -> torch.Tensor:
    if key not in batch:
        raise KeyError(f'a batch of layout "padding_free" is expected: no "{key}"')
    value: Any = batch[key]
    if not is_tensor(value):
        raise TypeError(f"'{key}' is a {type(value).__name__}, expected a tensor")
    tensor: torch.Tensor = value
    return tensor


def _seq_idx(batch: Mapping[str, Any]) -> torch.Tensor:
    seq_idx = _tensor(batch, "seq_idx")
    if seq_idx.ndim != 2 or seq_idx.shape[0] != 1:
        raise ValueError(f"'seq_idx' has shape {[*seq_idx.shape]}, expected [1, T]")
    return seq_idx


def _check_values(name: str, values: object, shape: tuple[int | str, ...]) -> None:
    """Raises a TypeError or ValueError unless they are floating-point numbers of that shape; ``"V"`` is any size."""
    if not is_tensor(values):
        raise TypeError(f"{name} is a {type(values).__name__}, expected a tensor")
    tensor: torch.Tensor = values  # type: ignore[assignment]
    if not tensor.is_floating_point():
        raise TypeError(f"{name} has dtype {str(tensor.dtype).removeprefix('torch.')}, expected floating-point numbers")
    if tensor.ndim != len(shape) or tensor.shape[:2] != shape[:2] or tensor.shape[-1] == 0 != shape[-1]:
        expected = ", ".join(map(str, shape))
        raise ValueError(f"{name} has shape {[*tensor.shape]}, expected [{expected}] of a batch of {shape[1]} tokens")
