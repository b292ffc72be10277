"""Sums over the rows of a padding-free batch: against a plain loop, and a whole model against its padded batch."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from dpo_collate import PreferenceCollator, padding_free
from dpo_collate.padding_free import row_logps, row_sums

F32, F64 = torch.float32, torch.float64


# --- batches --------------------------------------------------------------------------------------


def flat(
    chosen: list[list[int]], rejected: list[list[int]], *, paddings: list[int] | None = None, tail: int = 0
) -> dict[str, Any]:
    """A padding-free batch of rows of labels (ids are of no matter here), each row padded, and T rounded up.

    Padding has labels too, which nobody may score.
    """
    rows = chosen + rejected
    paddings = paddings or [0] * len(rows)
    labels, seq_idx, ends = [], [], [0]
    for index, (row, padding) in enumerate(zip(rows, paddings, strict=True)):
        labels += [-100, *row[1:]][: len(row)] + [1] * padding
        seq_idx += [index] * len(row) + [-1] * padding
        ends.append(len(labels))
    if tail:
        labels += [1] * tail
        seq_idx += [-1] * tail
        ends.append(len(labels))
    return {
        "labels": torch.tensor([labels], dtype=torch.int64),
        "seq_idx": torch.tensor([seq_idx], dtype=torch.int32),
        "cu_seq_lens_q": torch.tensor(ends, dtype=torch.int32),
    }


BATCH = flat([[0, 3, 4], [], [0, 5]], [[0, 1], [0], [0, -100, 2, 3]], paddings=[1, 0, 2, 0, 0, 1], tail=2)
"""18 tokens, whose rows are: 0 0 0 . 2 2 . . 3 3 4 5 5 5 5 . . ."""


def slow_sums(values: Any, batch: Any) -> list[float]:
    rows = [0.0] * ((len(batch["cu_seq_lens_q"]) - 1) // 2 * 2)
    for value, row in zip(values[0].tolist(), batch["seq_idx"][0].tolist(), strict=True):
        if row >= 0:
            rows[row] += value
    return rows


def slow_logps(logits: Any, batch: Any) -> list[float]:
    rows = [0.0] * ((len(batch["cu_seq_lens_q"]) - 1) // 2 * 2)
    logps = logits[0].double().log_softmax(-1)
    labels, owners = batch["labels"][0].tolist(), batch["seq_idx"][0].tolist()
    for token, (label, row) in enumerate(zip(labels, owners, strict=True)):
        if row >= 0 and label != -100:
            rows[row] += logps[token - 1, label].item()
    return rows


def noise(*shape: int, dtype: torch.dtype = F64, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=F64).to(dtype)


def joined(sides: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    assert sides[0].shape == sides[1].shape
    return torch.cat(sides)


def slope(function: Any, values: torch.Tensor) -> torch.Tensor:
    """The gradient of the squares of a function's results, summed."""
    leaf = values.detach().requires_grad_()
    return torch.autograd.grad(joined(function(leaf, BATCH)).square().sum(), leaf)[0]


# --- by hand --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dtype", "result"), [(F32, F32), (F64, F64), (torch.bfloat16, F32), (torch.float16, F32)], ids=str
)
def test_row_sums_by_hand(dtype: torch.dtype, result: torch.dtype) -> None:
    chosen, rejected = row_sums(torch.arange(1, 19, dtype=dtype)[None], BATCH)
    assert chosen.tolist() == [1 + 2 + 3, 0, 5 + 6]
    assert rejected.tolist() == [9 + 10, 11, 12 + 13 + 14 + 15]
    assert chosen.dtype == rejected.dtype == result


def test_row_logps_by_hand() -> None:
    probabilities = torch.full((1, 18, 6), 0.125)
    probabilities[0, 0, 3] = probabilities[0, 1, 4] = 0.5
    probabilities[0, 8, 1] = 0.25
    chosen, rejected = row_logps(probabilities.log(), BATCH)  # as if sums were 1: here each is made so
    norms = probabilities.sum(-1)[0]
    one = (0.25 / norms[0] / norms[1]).log()
    torch.testing.assert_close(chosen, torch.stack([one, torch.tensor(0.0), torch.tensor(1 / 6).log()]))
    two = (0.25 / norms[8]).log()
    torch.testing.assert_close(rejected, torch.stack([two, torch.tensor(0.0), 2 * torch.tensor(1 / 6).log()]))


def test_another_label_pad() -> None:
    labels = BATCH["labels"].masked_fill(BATCH["labels"] == -100, -1)
    logits = noise(1, 18, 6)
    other = row_logps(logits, {**BATCH, "labels": labels}, label_pad_token_id=-1)
    assert torch.equal(joined(other), joined(row_logps(logits, BATCH)))


def test_a_first_label_is_never_scored() -> None:
    scored_first = BATCH["labels"].clone()
    scored_first[0, [0, 4, 8, 10, 11]] = 2
    logits = noise(1, 18, 6)
    assert torch.equal(joined(row_logps(logits, {**BATCH, "labels": scored_first})), joined(row_logps(logits, BATCH)))


def test_log_probabilities_that_somebody_else_made() -> None:
    logits, batch = noise(1, 18, 6), BATCH | {"labels": BATCH["labels"].masked_fill(BATCH["seq_idx"] < 0, -100)}
    following = batch["labels"][:, 1:]
    logps = logits[:, :-1].log_softmax(-1).gather(-1, following.clamp(min=0)[..., None])[..., 0]
    shifted = functional.pad(logps.masked_fill(following == -100, 0), (1, 0))
    torch.testing.assert_close(row_sums(shifted, batch), row_logps(logits, batch))


def test_the_last_token_does_not_predict_the_first() -> None:
    batch = flat([[0, 1, 2]], [[]])  # so first and last are of one row
    batch["labels"][0, 0] = 1
    chosen, _ = row_logps(torch.zeros(1, 3, 4, dtype=F64), batch)
    torch.testing.assert_close(chosen, 2 * torch.tensor([0.25], dtype=F64).log())


def test_long_rows_lose_nothing() -> None:
    length = 1 << 17
    batch = flat([[0] * length], [[0] * length])
    values = -noise(1, 2 * length, dtype=F32).abs()
    chosen, rejected = row_sums(values, batch)
    assert chosen.item() == values[0, :length].double().sum().float().item()
    assert rejected.item() == values[0, length:].double().sum().float().item()


# --- against a loop -------------------------------------------------------------------------------


@st.composite
def batches(draw: st.DrawFn) -> dict[str, Any]:
    row = st.lists(st.sampled_from([-100, 0, 1, 2, 3, 4]), max_size=6)
    pairs = draw(st.lists(st.tuples(row, row), min_size=1, max_size=4))
    paddings = draw(st.lists(st.integers(0, 2), min_size=2 * len(pairs), max_size=2 * len(pairs)))
    chosen, rejected = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    return flat(chosen, rejected, paddings=paddings, tail=draw(st.integers(0, 3)))


TOLERANCES = {F64: 1e-12, F32: 1e-5, torch.bfloat16: 1e-5, torch.float16: 1e-5}


@given(batch=batches(), dtype=st.sampled_from(list(TOLERANCES)), seed=st.integers(0, 9), cells=st.sampled_from([1, 12]))
def test_equals_a_plain_loop(batch: dict[str, Any], dtype: torch.dtype, seed: int, cells: int) -> None:
    tokens, pairs = batch["seq_idx"].shape[1], (len(batch["cu_seq_lens_q"]) - 1) // 2
    values = noise(1, tokens, dtype=dtype, seed=seed)
    logits = noise(1, tokens, 5, dtype=dtype, seed=seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(padding_free, "_CELLS", cells)  # one token at a time, or two
        sums, logps = row_sums(values, batch), row_logps(logits, batch)
    assert {side.shape for side in (*sums, *logps)} == {(pairs,)}
    for found, expected in ((sums, slow_sums(values, batch)), (logps, slow_logps(logits, batch))):
        assert joined(found).tolist() == pytest.approx(expected, rel=0, abs=TOLERANCES[dtype])


# --- what does not count, and gradients -----------------------------------------------------------


@pytest.mark.parametrize("nothing", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("dtype", list(TOLERANCES), ids=str)
def test_what_does_not_count(nothing: float, dtype: torch.dtype) -> None:
    stray = BATCH["seq_idx"] < 0
    values = noise(1, 18, dtype=dtype)
    spoilt = values.masked_fill(stray, nothing)
    assert torch.equal(joined(row_sums(spoilt, BATCH)), joined(row_sums(values, BATCH)))
    assert torch.equal(slope(row_sums, spoilt), slope(row_sums, values))
    assert torch.equal(slope(row_sums, spoilt) == 0, stray)

    scored = torch.zeros(1, 18, dtype=torch.bool)
    scored[0, [0, 1, 4, 8, 12, 13]] = True  # those before a label of their row
    logits = noise(1, 18, 6, dtype=dtype)
    spoilt = logits.masked_fill(~scored[..., None], nothing)
    assert torch.equal(joined(row_logps(spoilt, BATCH)), joined(row_logps(logits, BATCH)))
    assert torch.equal(slope(row_logps, spoilt), slope(row_logps, logits))
    assert torch.equal(slope(row_logps, spoilt).abs().sum(-1) > 0, scored)


@pytest.mark.parametrize("cells", [1, 12])
def test_gradients(monkeypatch: pytest.MonkeyPatch, cells: int) -> None:
    monkeypatch.setattr(padding_free, "_CELLS", cells)  # one token at a time, or two
    values, logits = noise(1, 18).requires_grad_(), noise(1, 18, 6).requires_grad_()
    assert torch.autograd.gradcheck(lambda each: row_sums(each, BATCH), (values,))
    assert torch.autograd.gradcheck(lambda each: row_logps(each, BATCH), (logits,))
    cut = noise(1, 19, 8).requires_grad_()  # not contiguous
    assert torch.autograd.gradcheck(lambda each: row_logps(each[:, 1:, ::2][..., [0, 1, 2, 3, 0, 1]], BATCH), (cut,))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_gradients_of_short_dtypes_are_rounded_once(dtype: torch.dtype) -> None:
    logits = noise(1, 18, 6, dtype=dtype)
    assert torch.equal(slope(row_logps, logits), slope(row_logps, logits.float()).to(dtype))


def test_nothing_of_the_size_of_the_logits_is_kept() -> None:
    logits = noise(1, 18, 6, dtype=torch.bfloat16).requires_grad_()
    kept: list[torch.Tensor] = []

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, keep):
        row_logps(logits, BATCH)
    own = logits.untyped_storage().data_ptr()
    assert max(tensor.numel() for tensor in kept if tensor.untyped_storage().data_ptr() != own) == 18


def test_there_is_no_second_derivative() -> None:
    logits = noise(1, 18, 6).requires_grad_()
    (first,) = torch.autograd.grad(joined(row_logps(logits, BATCH)).square().sum(), logits, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        torch.autograd.backward(first.sum())


def test_no_token_at_all() -> None:
    batch = flat([[]], [[]])
    for function, shape in ((row_sums, (1, 0)), (row_logps, (1, 0, 6))):
        nothing = torch.zeros(shape, requires_grad=True)
        sums = joined(function(nothing, batch))
        assert sums.tolist() == [0, 0]
        assert torch.autograd.grad(sums.sum(), nothing)[0].shape == shape


def test_results_and_batch_are_left_to_the_user() -> None:
    logits = noise(1, 18, 6).requires_grad_()
    before = {key: value.clone() for key, value in BATCH.items()}
    chosen, rejected = row_logps(logits, BATCH)
    chosen -= rejected  # in place, which views of several would not allow
    assert chosen.requires_grad
    assert all(torch.equal(BATCH[key], value) for key, value in before.items())


def test_importing_it_does_not_import_torch() -> None:
    program = "import sys, dpo_collate.padding_free; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, timeout=240)
    assert done.stdout == b"False\n"


# --- errors ---------------------------------------------------------------------------------------

TOKENS = "of a batch of 18 tokens"
OTHER = 'a batch of layout "padding_free" is expected: no '
WRONG: list[tuple[Any, Any, dict[str, Any], type[Exception], str]] = [
    (row_sums, torch.zeros(18), {}, ValueError, f"values has shape [18], expected [1, 18] {TOKENS}"),
    (row_sums, torch.zeros(2, 18), {}, ValueError, f"values has shape [2, 18], expected [1, 18] {TOKENS}"),
    (row_sums, torch.zeros(1, 17), {}, ValueError, f"values has shape [1, 17], expected [1, 18] {TOKENS}"),
    (row_sums, torch.zeros(1, 18, 1), {}, ValueError, f"values has shape [1, 18, 1], expected [1, 18] {TOKENS}"),
    (row_sums, BATCH["labels"], {}, TypeError, "values has dtype int64, expected floating-point numbers"),
    (row_sums, [[0.0] * 18], {}, TypeError, "values is a list, expected a tensor"),
    (row_sums, None, {"seq_idx": ...}, KeyError, f'{OTHER}"seq_idx"'),
    (row_sums, torch.zeros(1, 18), {"cu_seq_lens_q": ...}, KeyError, f'{OTHER}"cu_seq_lens_q"'),
    (row_sums, None, {"seq_idx": np.zeros((1, 18))}, TypeError, "'seq_idx' is a ndarray, expected a tensor"),
    (row_sums, None, {"seq_idx": torch.zeros(18)}, ValueError, "'seq_idx' has shape [18], expected [1, T]"),
    (row_sums, None, {"seq_idx": torch.zeros(2, 9)}, ValueError, "'seq_idx' has shape [2, 9], expected [1, T]"),
    (
        row_sums,
        torch.zeros(1, 18),
        {"cu_seq_lens_q": BATCH["cu_seq_lens_q"][None]},
        ValueError,
        "'cu_seq_lens_q' has shape [1, 8], expected [rows + 1]",
    ),
    (
        row_sums,
        torch.zeros(1, 18),
        {"cu_seq_lens_q": BATCH["cu_seq_lens_q"][:0]},
        ValueError,
        "'cu_seq_lens_q' has shape [0], expected [rows + 1]",
    ),
    (row_logps, torch.zeros(1, 18), {}, ValueError, f"logits has shape [1, 18], expected [1, 18, V] {TOKENS}"),
    (row_logps, torch.zeros(1, 18, 0), {}, ValueError, f"logits has shape [1, 18, 0], expected [1, 18, V] {TOKENS}"),
    (row_logps, torch.zeros(18, 6), {}, ValueError, f"logits has shape [18, 6], expected [1, 18, V] {TOKENS}"),
    (row_logps, torch.zeros(1, 17, 6), {}, ValueError, f"logits has shape [1, 17, 6], expected [1, 18, V] {TOKENS}"),
    (row_logps, torch.zeros(2, 18, 6), {}, ValueError, f"logits has shape [2, 18, 6], expected [1, 18, V] {TOKENS}"),
    (
        row_logps,
        torch.zeros(1, 18, 6, dtype=torch.int32),
        {},
        TypeError,
        "logits has dtype int32, expected floating-point numbers",
    ),
    (row_logps, None, {}, TypeError, "logits is a NoneType, expected a tensor"),
    (row_logps, None, {"labels": ...}, KeyError, f'{OTHER}"labels"'),
    (
        row_logps,
        None,
        {"labels": ..., "completion_mask": BATCH["labels"]},
        KeyError,
        "the batch has no 'labels' but 'completion_mask': collate it with targets='labels'",
    ),
    (
        row_logps,
        None,
        {"labels": torch.zeros(1, 17)},
        ValueError,
        "'labels' has shape [1, 17], but 'seq_idx' has [1, 18]",
    ),
]


@pytest.mark.parametrize(("function", "values", "changes", "error", "sentence"), WRONG, ids=[row[4] for row in WRONG])
def test_wrong(function: Any, values: Any, changes: dict[str, Any], error: type[Exception], sentence: str) -> None:
    batch = {key: value for key, value in {**BATCH, **changes}.items() if value is not ...}
    with pytest.raises(error) as caught:
        function(values, batch)
    assert caught.value.args == (sentence,)


def test_wrong_label_pad() -> None:
    with pytest.raises(TypeError, match=r"^label_pad_token_id=None: expected an integer$"):
        row_logps(torch.zeros(1, 18, 6), BATCH, label_pad_token_id=None)  # type: ignore[arg-type]


# --- a whole model --------------------------------------------------------------------------------

VOCABULARY, BETA = 40, 0.1


def preference_pairs() -> list[dict[str, list[int]]]:
    """Pairs of random tokens, the prompt of which is not scored."""
    random = np.random.default_rng(0)
    samples = []
    for prompt, chosen, rejected in ((3, 5, 2), (1, 1, 9), (6, 4, 4), (2, 12, 1)):
        start = random.integers(1, VOCABULARY, prompt).tolist()
        sample: dict[str, list[int]] = {}
        for side, length in (("chosen", chosen), ("rejected", rejected)):
            answer = random.integers(1, VOCABULARY, length).tolist()
            sample |= {f"{side}_input_ids": start + answer, f"{side}_labels": [-100] * prompt + answer}
        samples.append(sample)
    return samples


def padded(samples: list[dict[str, list[int]]]) -> dict[str, Any]:
    """The same rows as a matrix ``[2B, L]`` each, padded on the right."""
    sides = ("chosen", "rejected")
    rows = {
        key: [torch.tensor(sample[f"{side}_{key}"]) for side in sides for sample in samples]
        for key in ("input_ids", "labels")
    }
    pad = torch.nn.utils.rnn.pad_sequence
    return {
        "input_ids": pad(rows["input_ids"], batch_first=True),
        "labels": pad(rows["labels"], batch_first=True, padding_value=-100),
        "attention_mask": pad([torch.ones_like(row) for row in rows["input_ids"]], batch_first=True),
    }


def padded_logps(model: Any, batch: dict[str, Any]) -> Any:
    """As DPO is written for a padded batch."""
    logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], use_cache=False).logits[:, :-1]
    labels = batch["labels"][:, 1:]
    logps = logits.log_softmax(-1).gather(-1, labels.clamp(min=0)[..., None])[..., 0]
    return (logps * (labels != -100)).sum(-1).chunk(2)


def flat_logps(model: Any, batch: dict[str, Any]) -> Any:
    inputs = {key: batch[key] for key in ("input_ids", "position_ids")}
    return row_logps(model(**inputs, use_cache=False).logits, batch)


def dpo(logps: Any, model: Any, reference: Any, batch: dict[str, Any]) -> tuple[torch.Tensor, torch.Tensor, Any]:
    """The log-probabilities of the rows, the loss of DPO, and its gradient for every parameter."""
    chosen, rejected = logps(model, batch)
    with torch.no_grad():
        ref_chosen, ref_rejected = logps(reference, batch)
    loss = -functional.logsigmoid(BETA * ((chosen - rejected) - (ref_chosen - ref_rejected))).mean()
    return torch.cat([chosen, rejected]).detach(), loss.detach(), torch.autograd.grad(loss, list(model.parameters()))


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_dpo_equals_that_of_the_padded_batch() -> None:
    transformers = pytest.importorskip("transformers")
    if not transformers.utils.is_torch_available():
        pytest.skip("this transformers needs a newer torch")
    config = transformers.Qwen2Config(
        vocab_size=VOCABULARY,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        attn_implementation="sdpa",
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model, reference = (transformers.Qwen2ForCausalLM(config).to(F64).eval() for _ in range(2))
    samples = preference_pairs()
    logps, loss, gradients = dpo(
        flat_logps, model, reference, PreferenceCollator("padding_free", pad_token_id=0)(samples)
    )
    expected_logps, expected_loss, expected_gradients = dpo(padded_logps, model, reference, padded(samples))
    torch.testing.assert_close(logps, expected_logps, rtol=0, atol=1e-10)
    torch.testing.assert_close(loss, expected_loss, rtol=0, atol=1e-10)
    torch.testing.assert_close(gradients, expected_gradients, rtol=0, atol=1e-10)
    assert min(gradient.abs().max() for gradient in gradients) > 1e-6  # there is something to compare
