"""Every wrong sample: the exception's type and its whole sentence.

After each of them the samples are as they were, and the same collator still makes batches.
"""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from dpo_collate import PreferenceCollator
from dpo_collate.layout import Column, Layout, Matrix
from sentences import OF_A_MAPPING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

Make: TypeAlias = "Callable[[], Any]"
Wrong: TypeAlias = tuple[Any, ...]
"""A name, what makes the wrong value or samples, the exception, its sentence (or what follows the place)."""

ABSENT = object()
CHOSEN = "'chosen_input_ids', 'chosen_labels', 'chosen_attention_mask'"
REJECTED = "'rejected_input_ids', 'rejected_labels', 'rejected_attention_mask'"
BOTH = f"{CHOSEN}, {REJECTED}"
LOGPS = "'ref_chosen_logps', 'ref_rejected_logps'"
ALL = "expected in all samples or in none"
MISSPELT = (
    "it begins like a key that matters, but is none here: rename or remove it, or choose the layout or the option that "
    "takes it"
)
SEPARATE_TAKES = "(layout 'separate' takes"
WIDE = "padded to a width of"
NO_MASK = "no 'rejected_attention_mask'"
MASK = {"rejected_attention_mask": [1, 1]}
HAS = "(its keys: 'chosen_input_ids', 'rejected_input_ids', 'rejected_labels')"


def pair(**changes: Any) -> dict[str, Any]:
    """A good sample, with some of its keys changed."""
    sample = {
        "chosen_input_ids": [1, 2, 3],
        "chosen_labels": [-100, 2, 3],
        "rejected_input_ids": [1, 4],
        "rejected_labels": [-100, 4],
        **changes,
    }
    return {key: value for key, value in sample.items() if value is not ABSENT}


def fake(size: int, dtype: torch.dtype = torch.int64) -> torch.Tensor:
    with FakeTensorMode():
        return torch.ones(size, dtype=dtype)


def nested() -> torch.Tensor:
    return torch.nested.nested_tensor([torch.ones(1), torch.ones(2)], layout=torch.jagged)


def shown(samples: Any) -> str:
    """Everything that samples hold, and which objects those are."""
    if not isinstance(samples, list) or not all(isinstance(sample, dict) for sample in samples):
        return repr(samples)
    values = [(key, value) for sample in samples for key, value in sample.items()]
    huge = [key for key, value in values if isinstance(value[0] if isinstance(value, list) and value else value, int)]
    return repr([(key, id(value), key if key in huge else value) for key, value in values])


def check(collate: Callable[[Any], Any], samples: Any, exception: type[Exception], sentence: str) -> None:
    before = shown(samples)
    with pytest.raises(exception) as caught:
        collate(samples)
    assert type(caught.value) is exception
    (said,) = caught.value.args
    assert (said[: len(sentence) - 1] + "…" if sentence.endswith("…") else said) == sentence
    assert shown(samples) == before
    assert collate([pair()])


def ids(table: Iterable[Wrong]) -> list[Any]:
    return [pytest.param(*wrong, id=name) for name, *wrong in table]


NOT_A_LIST = "expected a list of samples or a table, got "
REMOVED_COLUMNS = (
    "transformers' Trainer removes the columns that the model's forward does not name; "
    "pass remove_unused_columns=False in its TrainingArguments"
)
EMPTY_DICT = f"an empty dict: {REMOVED_COLUMNS}"
SAMPLES: list[Wrong] = [
    ("no sample", list, ValueError, "the batch is empty: expected at least one sample"),
    ("no sample in an iterator", lambda: iter(()), ValueError, "the batch is empty: expected at least one sample"),
    ("None", lambda: None, TypeError, NOT_A_LIST + "NoneType"),
    ("a number", lambda: 5, TypeError, NOT_A_LIST + "int"),
    ("a string", lambda: "samples", TypeError, NOT_A_LIST + "str"),
    ("one sample", pair, TypeError, NOT_A_LIST + "dict" + OF_A_MAPPING),
    ("a number in the list", lambda: [5], TypeError, "sample 0: expected a mapping such as a dict, got int"),
    ("a tuple", lambda: [pair(), ()], TypeError, "sample 1: expected a mapping such as a dict, got tuple"),
    ("empty", lambda: [{}], KeyError, f"sample 0: {EMPTY_DICT}"),
    ("later one empty", lambda: [pair(), pair(), {}], KeyError, f"sample 2: {EMPTY_DICT}"),
    (
        "all but the images removed",
        lambda: [{"pixel_values": torch.ones(1, 1), "image_flags": [1]}],
        KeyError,
        f"sample 0: no 'chosen_input_ids' (its keys: 'pixel_values', 'image_flags'): {REMOVED_COLUMNS}",
    ),
    (
        "all of them of another kind",
        lambda: [{"prompt": "a", "chosen": "b", "rejected": "c"}],
        KeyError,
        "sample 0: no 'chosen_input_ids' (its keys: 'prompt', 'chosen', 'rejected')",
    ),
    (
        "misspelt, and no UTF-8",
        lambda: [pair(**{"ref_\ud800": 1})],
        KeyError,
        f"sample 0: unknown key 'ref_\\ud800': {MISSPELT} {SEPARATE_TAKES} {LOGPS})",
    ),
    ("missing", lambda: [pair(chosen_labels=ABSENT)], KeyError, f"sample 0: no 'chosen_labels' {HAS}"),
    ("missing later", lambda: [pair(), pair(chosen_labels=ABSENT)], KeyError, f"sample 1: no 'chosen_labels' {HAS}"),
    ("mask later", lambda: [pair(), pair(**MASK)], KeyError, f"sample 0: {NO_MASK}, but sample 1 has it: {ALL}"),
    (
        "mask None later",
        lambda: [pair(**MASK), pair(**dict.fromkeys(MASK))],
        KeyError,
        f"sample 1: {NO_MASK}, but sample 0 has it: {ALL}",
    ),
    ("number later", lambda: [pair(), pair(margin=1)], KeyError, f"sample 0: no 'margin', but sample 1 has it: {ALL}"),
    ("number first", lambda: [pair(margin=1), pair()], KeyError, f"sample 1: no 'margin', but sample 0 has it: {ALL}"),
    *(
        (
            f"misspelt {key}",
            lambda key=key: [pair(), pair(**{key: 1})],
            KeyError,
            f"sample 1: unknown key '{key}': {MISSPELT} {SEPARATE_TAKES} {alike})",
        )
        for key, alike in {
            "chosen_ids": CHOSEN,
            "rejected_label": REJECTED,
            "prompt_input_ids": BOTH,
            "ref_logps": LOGPS,
        }.items()
    ),
    (
        "labels too short",
        lambda: [pair(), pair(chosen_labels=[1])],
        ValueError,
        "sample 1: 'chosen_labels' has 1 tokens, but 'chosen_input_ids' has 3",
    ),
    (
        "mask too long",
        lambda: [pair(rejected_attention_mask=torch.ones(5, dtype=torch.int64))],
        ValueError,
        "sample 0: 'rejected_attention_mask' has 5 tokens, but 'rejected_input_ids' has 2",
    ),
    (
        "larger than the address space",
        lambda: [pair(), pair(**dict.fromkeys(pair(), np.broadcast_to(np.int8(1), (2**62,))))],
        MemoryError,
        f"sample 1: 'chosen_input_ids', {WIDE} {2**62}, makes a batch larger than the address space",
    ),
    (
        "labels expanded beyond the address space",
        lambda: [pair(chosen_labels=torch.ones(1, dtype=torch.int8).expand(2**62))],
        ValueError,
        "sample 0: 'chosen_labels' has 4611686018427387904 tokens, but 'chosen_input_ids' has 3",
    ),
    (
        "larger than any memory",
        lambda: [pair(**dict.fromkeys(pair(), torch.ones(1, dtype=torch.int8).expand(2**57)))],
        MemoryError,
        f"cannot allocate {6 * 2**60} bytes for the batch",
    ),
]


@pytest.mark.parametrize(("make", "exception", "sentence"), ids(SAMPLES))
def test_samples(make: Make, exception: type[Exception], sentence: str) -> None:
    check(PreferenceCollator(pad_token_id=0), make(), exception, sentence)


WANTED = "expected a 1-D tensor, array or list of integers"
MASKED = "is a masked array, which has no value where it is masked: "
MISFIT = "which does not fit int64"
DIMENSION = "expected one dimension"
ELSEWHERE = "is on device meta, expected cpu: collate first, then move the batch"
ROWS: list[Wrong] = [
    ("None", lambda: None, TypeError, f"is None, {WANTED}"),
    ("string", lambda: "1 2 3", TypeError, f"is '1 2 3', {WANTED}"),
    ("number", lambda: 5, TypeError, f"is 5, {WANTED}"),
    ("NumPy number", lambda: np.int64(5), TypeError, f"is 5, {WANTED}"),
    ("dict", lambda: {"a": 1}, TypeError, f"is {{'a': 1}}, {WANTED}"),
    ("set", lambda: {1, 2, 3}, TypeError, f"is a set, {WANTED}"),
    ("bytes", lambda: b"abc", TypeError, f"is b'abc', {WANTED}"),
    ("range", lambda: range(3), TypeError, f"is a range, {WANTED}"),
    ("masked array", lambda: np.ma.array([1, 2, 3]), TypeError, MASKED + WANTED),
    ("2-D tensor", lambda: torch.ones(1, 3, dtype=torch.int64), ValueError, f"has shape [1, 3], {DIMENSION}"),
    ("2-D array", lambda: np.ones((3, 1), np.int64), ValueError, f"has shape [3, 1], {DIMENSION}"),
    ("0-d tensor", lambda: torch.tensor(3), ValueError, f"has shape [], {DIMENSION}"),
    ("0-d array", lambda: np.array(3), ValueError, f"has shape [], {DIMENSION}"),
    ("float32 tensor", lambda: torch.ones(3), TypeError, "has dtype float32, expected integers"),
    *(
        (
            f"{dtype} tensor",
            lambda dtype=dtype: torch.ones(3, dtype=dtype),
            TypeError,
            f"has dtype {name}, expected integers",
        )
        for dtype, name in ((torch.bfloat16, "bfloat16"), (torch.float16, "float16"))
    ),
    ("float16 array", lambda: np.ones(3, np.float16), TypeError, "has dtype float16, expected integers"),
    ("float64 array", lambda: np.ones(3), TypeError, "has dtype float64, expected integers"),
    ("float in a list", lambda: [1, 2.0, 3], TypeError, "has dtype float64, expected integers"),
    ("complex tensor", lambda: torch.ones(3) * 1j, TypeError, "has dtype complex64, expected integers"),
    ("complex array", lambda: np.ones(3) * 1j, TypeError, "has dtype complex128, expected integers"),
    ("complex in a list", lambda: [1, 2j, 3], TypeError, "holds a complex at position 1, expected an integer"),
    ("array of objects", lambda: np.array([1, 2, None]), TypeError, "has dtype object, expected integers"),
    ("array of strings", lambda: np.array(["1"]), TypeError, "has dtype <U1, expected integers"),
    ("array of dates", lambda: np.zeros(3, "M8[s]"), TypeError, "has dtype datetime64[s], expected integers"),
    (
        "tensor without NumPy type",
        lambda: torch.ones(3).to(torch.float8_e4m3fn),
        TypeError,
        "is a Tensor of dtype torch.float8_e4m3fn, expected plain values",
    ),
    ("meta tensor", lambda: torch.ones(3, dtype=torch.int64, device="meta"), ValueError, ELSEWHERE),
    (
        "sparse tensor",
        lambda: torch.tensor([0, 1, 2]).to_sparse(),
        TypeError,
        "is a tensor of layout sparse_coo, expected a dense one",
    ),
    ("nested tensor", nested, TypeError, "is a nested tensor, expected a dense one"),
    ("fake tensor", lambda: fake(3), TypeError, "is a FakeTensor of dtype torch.int64, expected plain values"),
    (
        "functional tensor",
        lambda: torch._to_functional_tensor(torch.tensor([1, 2, 3])),
        TypeError,
        "is a Tensor of dtype torch.int64, expected plain values",
    ),
    ("nested list", lambda: [[1, 2, 3]], TypeError, "holds [1, 2, 3] at position 0, expected an integer"),
    ("None in a list", lambda: [1, None, 3], TypeError, "holds None at position 1, expected an integer"),
    ("string in a list", lambda: [1, 2, "3"], TypeError, "holds '3' at position 2, expected an integer"),
    ("tensor in a list", lambda: [0, torch.ones(2)], TypeError, "holds a Tensor at position 1, expected an integer"),
    ("2**63", lambda: [1, 2**63], OverflowError, f"holds {2**63} at position 1, {MISFIT}"),
    (
        "-2**63 - 1 beyond a run",
        lambda: [*range(300), -(2**63) - 1],
        OverflowError,
        f"holds {-(2**63) - 1} at position 300, {MISFIT}",
    ),
    ("2**63, mixed", lambda: [np.int8(1), 2**63], OverflowError, f"holds {2**63} at position 1, {MISFIT}"),
    (
        "more digits than Python prints",
        lambda: [1, 1 << 20_000],
        OverflowError,
        f"holds an integer of 20001 bits at position 1, {MISFIT}",
    ),
    ("uint64 array", lambda: np.array([1, 2**63], np.uint64), OverflowError, f"holds {2**63} at position 1, {MISFIT}"),
    (
        "uint64 tensor",
        lambda: torch.tensor([2**64 - 1, 2], dtype=torch.uint64),
        OverflowError,
        f"holds {2**64 - 1} at position 0, {MISFIT}",
    ),
]


@pytest.mark.parametrize(("make", "exception", "rest"), ids(ROWS))
@pytest.mark.parametrize("key", ["chosen_input_ids", "rejected_labels"])
def test_rows(key: str, make: Make, exception: type[Exception], rest: str) -> None:
    value = make()
    size = len(value) if exception is not ValueError and hasattr(value, "__len__") else 3
    row = [1] * size  # of the same length: else that is what the sentence speaks of
    parallel = {"chosen_input_ids": row, "chosen_labels": row, "rejected_input_ids": row, "rejected_labels": row}
    samples = [pair(), pair(**{**parallel, key: value})]
    check(PreferenceCollator(pad_token_id=0), samples, exception, f"sample 1: '{key}' {rest}")


@pytest.mark.skipif(not hasattr(np.dtypes, "StringDType"), reason="NumPy 2 has dtypes of strings")
def test_a_registered_dtype() -> None:
    with pytest.raises(TypeError) as caught:
        PreferenceCollator(pad_token_id=0)([pair(chosen_labels=np.array(["a", "b", "c"], np.dtypes.StringDType()))])
    assert caught.value.args == ("sample 0: 'chosen_labels' has dtype StringDType(), expected integers",)


def test_a_buffer_that_was_released() -> None:
    view = memoryview(bytearray(3))
    view.release()
    with pytest.raises(TypeError) as caught:
        PreferenceCollator(pad_token_id=0)([pair(chosen_input_ids=view)])
    assert caught.value.args == (f"sample 0: 'chosen_input_ids' is a memoryview, {WANTED}",)


NUMBERS: list[Wrong] = [
    ("string", lambda: "0.5", TypeError, "is '0.5', expected a number"),
    ("list", lambda: [0.5], TypeError, "is [0.5], expected a number"),
    ("complex", lambda: 1j, TypeError, "is a complex, expected a number"),
    ("complex tensor", lambda: torch.tensor(1j), TypeError, "is a complex, expected a number"),
    ("array of objects", lambda: np.array(None), TypeError, "is None, expected a number"),
    ("masked", lambda: np.ma.masked, TypeError, "is a masked array, expected a number"),
    ("two numbers", lambda: torch.ones(2), ValueError, "has shape [2], expected a single number"),
    ("no number", lambda: np.ones((1, 0)), ValueError, "has shape [1, 0], expected a single number"),
    ("meta tensor", lambda: torch.ones(1, device="meta"), ValueError, ELSEWHERE),
    ("fake tensor", lambda: fake(1), TypeError, "is a FakeTensor of dtype torch.int64, expected plain values"),
    ("1e39", lambda: 1e39, OverflowError, "is 1e39, which does not fit float32"),
    ("2**64", lambda: 2**64, OverflowError, "is an integer beyond 64 bits"),
    ("more digits than Python prints", lambda: 1 << 20_000, OverflowError, "is an integer beyond 64 bits"),
]


@pytest.mark.parametrize(("make", "exception", "rest"), ids(NUMBERS))
def test_numbers(make: Make, exception: type[Exception], rest: str) -> None:
    samples = [pair(margin=1), pair(margin=make())]
    check(PreferenceCollator(pad_token_id=0), samples, exception, f"sample 1: 'margin' {rest}")


LONG = {"chosen_input_ids": [1] * 5, "chosen_labels": [1, 2, -100, -100, -100]}
LIMITED = {"max_length": 3}
STACK = {"extra_keys": "stack"}
STACKED = "they cannot be stacked"
OPTIONS: list[Wrong] = [
    (
        "leaves no label at the start",
        LIMITED,
        lambda: [pair(), pair(rejected_input_ids=[1] * 4, rejected_labels=[-100, -100, -100, 4])],
        ValueError,
        "sample 1: truncation from 4 to 3 tokens leaves nothing to score in 'rejected_labels'",
    ),
    (
        "leaves no label at the end",
        LIMITED | {"truncation_mode": "keep_end"},
        lambda: [pair(**LONG)],
        ValueError,
        "sample 0: truncation from 5 to 3 tokens leaves nothing to score in 'chosen_labels'",
    ),
    (
        "too long",
        LIMITED | {"truncation_mode": "error"},
        lambda: [pair(), pair(**LONG)],
        ValueError,
        "sample 1: 'chosen_input_ids' has 5 tokens, more than max_length=3",
    ),
    (
        "bytes of tokens",
        {"max_batch_bytes": 400},
        lambda: [pair(), pair(chosen_input_ids=[1] * 9, chosen_labels=[1] * 9)],
        MemoryError,
        f"sample 1: 'chosen_input_ids', {WIDE} 9, makes a batch of 736 bytes, more than max_batch_bytes=400",
    ),
    (
        "unknown key",
        {"extra_keys": "error"},
        lambda: [pair(), pair(id=5)],
        KeyError,
        f"sample 1: unknown key 'id': extra_keys=\"error\" allows none {SEPARATE_TAKES} {BOTH})",
    ),
    (
        "extra key lacking",
        {"extra_keys": "list"},
        lambda: [pair(id=5), pair()],
        KeyError,
        f"sample 1: no 'id', but sample 0 has it: {ALL}",
    ),
    (
        "extra key later",
        STACK,
        lambda: [pair(), pair(id=5)],
        KeyError,
        f"sample 1: the key 'id' is not in sample 0: {ALL}",
    ),
    (
        "tensor and array",
        STACK,
        lambda: [pair(z=torch.ones(2)), pair(z=np.ones(2))],
        TypeError,
        f"sample 1: 'z' is a ndarray, but that of sample 0 is a Tensor: {STACKED}",
    ),
    (
        "shapes",
        STACK,
        lambda: [pair(z=torch.ones(2)), pair(z=torch.ones(3))],
        ValueError,
        f"sample 1: 'z' has shape [3], but that of sample 0 has [2]: {STACKED}",
    ),
    (
        "stacked on meta",
        STACK,
        lambda: [pair(z=torch.ones(2, device="meta"))],
        ValueError,
        f"sample 0: 'z' {ELSEWHERE}",
    ),
    (
        "stacked dicts",
        STACK,
        lambda: [pair(z={}), pair(z={})],
        ValueError,
        "'z' of 2 samples cannot be stacked: Could not infer dtype of dict",
    ),
    (
        "stacked masked array",
        STACK,
        lambda: [pair(z=np.ones(1)), pair(z=np.ma.array([1.0], mask=[True]))],
        TypeError,
        "sample 1: 'z' is a masked array, which has no value where it is masked",
    ),
    (
        "stacked beyond any memory",
        STACK,
        lambda: [pair(z=np.broadcast_to(np.float32(1), (2**57,)))] * 2,
        MemoryError,
        "'z' of 2 samples is too large: there is no memory for a copy of it",
    ),
    (
        "stacked tensors beyond any memory",
        STACK,
        lambda: [pair(z=torch.ones(1).expand(2**57))] * 2,
        MemoryError,
        "'z' of 2 samples is too large: there is no memory for a copy of it",
    ),
    (
        "cut off, and no integer",
        {"max_length": 3},
        lambda: [pair(), pair(**{key: [1, 2, 3, "x"] for key in pair()})],
        TypeError,
        "sample 1: 'chosen_input_ids' holds 'x' at position 3, expected an integer",
    ),
    (
        "cut off, of the labels alone",
        {"max_length": 2},
        lambda: [pair(), pair(chosen_labels=[1, 2, "x"])],
        TypeError,
        "sample 1: 'chosen_labels' holds 'x' at position 2, expected an integer",
    ),
    (
        "cut off at the beginning, and beyond int64",
        {"max_length": 3, "truncation_mode": "keep_end"},
        lambda: [pair(), pair(**{key: [2**80, 1, 2, 3] for key in pair()})],
        OverflowError,
        f"sample 1: 'chosen_input_ids' holds {2**80} at position 0, which does not fit int64",
    ),
    (
        "number and None",
        STACK,
        lambda: [pair(z=np.float32(1)), pair(z=None)],
        TypeError,
        "sample 1: 'z' is a NoneType, but that of sample 0 is a float32: they cannot be stacked",
    ),
]


@pytest.mark.parametrize(("options", "make", "exception", "sentence"), ids(OPTIONS))
def test_options(options: dict[str, Any], make: Make, exception: type[Exception], sentence: str) -> None:
    check(PreferenceCollator(pad_token_id=0, **options), make(), exception, sentence)


@pytest.mark.parametrize("width", [2**60, 2**61])
def test_width_beyond_the_address_space(width: int) -> None:
    with pytest.raises(MemoryError) as caught:
        PreferenceCollator(pad_token_id=0)([pair()], min_length=width)
    said = f"sample 0: 'chosen_input_ids', {WIDE} {width}, makes a batch larger than the address space"
    assert caught.value.args == (said,)


@pytest.mark.parametrize(
    "weights",
    [
        np.broadcast_to(np.float16(1), (2**60,)),
        np.broadcast_to(np.float16(1), (2**61,)),
        torch.ones(1, dtype=torch.bfloat16).expand(2**57),
        torch.ones(1, dtype=torch.bfloat16).expand(2**61),
    ],
    ids=["float16 array", "float16 array beyond", "bfloat16 tensor", "bfloat16 tensor beyond"],
)
def test_rows_that_cannot_be_converted_in_memory(weights: Any) -> None:
    columns = (Column("ids", of="ones", dtype="bool"), Column("weights", of="{}_weights", dtype="float32"))
    table = Layout("weighted", (Matrix((("chosen",),), columns, tokens="{}_ids"),))
    ids = np.broadcast_to(np.int8(1), weights.shape)
    with pytest.raises(MemoryError) as caught:
        PreferenceCollator(table, pad_token_id=0)([{"chosen_ids": ids, "chosen_weights": weights}])
    assert caught.value.args == ("sample 0: 'chosen_weights' is too large: there is no memory for a copy of it",)


PROGRAM = """
import resource
import numpy as np
from dpo_collate import PreferenceCollator

collator = PreferenceCollator(pad_token_id=0, return_tensors="np")
row = np.zeros(1000, np.int64)
sample = {"chosen_input_ids": row, "chosen_labels": row, "rejected_input_ids": row, "rejected_labels": row}
wide = dict(sample, pixel_values=np.broadcast_to(np.int8(0), (1, 2**32)), image_flags=[1])
used = next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith("VmSize"))
resource.setrlimit(resource.RLIMIT_AS, (used + 2**28, used + 2**28))
for samples, options in (([sample], {"min_length": 2**26}), ([wide], {})):
    try:
        collator(samples, **options)
    except MemoryError as error:
        print(*error.args)
    assert collator([sample])["chosen_input_ids"].shape == (1, 1000)
"""


def test_allocator_refuses() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False, timeout=240)
    said = [f"cannot allocate {size} bytes for the batch" for size in (6 * 2**29, 2**32)]
    assert (done.stdout.splitlines(), done.stderr) == (said, "")
