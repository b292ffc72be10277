"""Every kind of value, mapping and list of samples gives the same batch."""

from __future__ import annotations

import array
import collections
import copy
import ctypes
import enum
import itertools
import types
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import pytest
import torch

from dpo_collate import PreferenceCollator
from dpo_collate.layout import Column, Layout, Matrix

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

Make: TypeAlias = "Callable[[list[int]], Any]"

# The core reads what does not lie side by side in runs of 128 (and once did in runs of 256).
LENGTHS = (1, 0, 127, 128, 129, 255, 256, 257, 600)
INT_DTYPES = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
PAD, LABEL_PAD = 77, -100
INT64 = np.iinfo(np.int64)


def rows_of(dtype: str) -> list[list[int]]:
    """Rows with the least and the greatest value of the dtype (as far as int64 goes) at both ends."""
    low, high = (0, 1) if dtype == "bool" else (np.iinfo(dtype).min, min(np.iinfo(dtype).max, INT64.max))
    return [[(high, low, 0, 1)[(index + length) % 4] for index in range(length)] for length in LENGTHS]


def check(make: Make, rows: list[list[int]]) -> None:
    """Collates rows as ids, and reversed as labels; compares with what plain Python pads."""
    samples = [
        {
            "chosen_input_ids": make(row),
            "chosen_labels": make(row[::-1]),
            "rejected_input_ids": make(row[1:]),
            "rejected_labels": make(row[1:]),
        }
        for row in rows
    ]
    batch = PreferenceCollator(pad_token_id=PAD, label_pad_token_id=LABEL_PAD)(samples)
    tails = [row[1:] for row in rows]
    assert {key: value.dtype for key, value in batch.items()} == dict.fromkeys(batch, torch.int64)
    assert batch["chosen_input_ids"].tolist() == padded(rows, PAD)
    assert batch["chosen_labels"].tolist() == padded([row[::-1] for row in rows], LABEL_PAD)
    assert batch["chosen_attention_mask"].tolist() == padded([[1] * len(row) for row in rows], 0)
    assert batch["rejected_input_ids"].tolist() == padded(tails, PAD)
    assert batch["rejected_labels"].tolist() == padded(tails, LABEL_PAD)
    assert batch["rejected_attention_mask"].tolist() == padded([[1] * len(row) for row in tails], 0)


def padded(rows: list[list[int]], pad: int) -> list[list[int]]:
    width = max(len(row) for row in rows)
    return [row + [pad] * (width - len(row)) for row in rows]


class Tensor(torch.Tensor):
    """A subclass, whose type the core does not know."""


def offset(tensor: torch.Tensor) -> torch.Tensor:
    return torch.cat([tensor[:0], torch.ones(3, dtype=tensor.dtype), tensor])[3:]


def spread(tensor: torch.Tensor) -> torch.Tensor:
    out = torch.ones(len(tensor), 3, dtype=tensor.dtype)
    out[:, 1] = tensor
    return out[:, 1]


def misaligned_tensor(tensor: torch.Tensor) -> torch.Tensor:
    if not len(tensor):
        return tensor
    raw = bytearray(b"\1" + tensor.numpy().tobytes())
    return torch.frombuffer(raw, dtype=tensor.dtype, offset=1)


TENSORS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "plain": lambda tensor: tensor,
    "offset": offset,
    "strided": spread,
    "misaligned": misaligned_tensor,
    "subclass": lambda tensor: tensor.as_subclass(Tensor),
    "parameter": lambda tensor: torch.nn.Parameter(tensor, requires_grad=False),
    "inference": lambda tensor: torch.inference_mode()(tensor.clone)(),
    "from_numpy": lambda tensor: torch.from_numpy(tensor.numpy()),
}


@pytest.mark.parametrize("dtype", [*INT_DTYPES, "bool"])
@pytest.mark.parametrize("way", TENSORS)
def test_tensor(way: str, dtype: str) -> None:
    def make(row: list[int]) -> torch.Tensor:
        return TENSORS[way](torch.tensor(row, dtype=getattr(torch, dtype)))

    check(make, rows_of(dtype))


def test_expanded_tensor() -> None:
    check(lambda row: torch.tensor([6]).expand(len(row)), [[6] * length for length in LENGTHS])


def test_zero_tensor() -> None:
    check(lambda row: torch._efficientzerotensor((len(row),), dtype=torch.int64), [[0] * 300, [0]])


class Array(np.ndarray[Any, Any]):
    """A subclass, whose type the core does not know."""


def misaligned(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return np.frombuffer(b"\1" + values.tobytes(), values.dtype, offset=1)


def read_only(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    values.flags.writeable = False
    return values


ARRAYS: dict[str, Callable[[np.ndarray[Any, Any]], np.ndarray[Any, Any]]] = {
    "plain": lambda values: values,
    "strided": lambda values: np.repeat(values, 3)[::3],
    "negative stride": lambda values: values[::-1].copy()[::-1],
    "column": lambda values: np.stack([values, values], axis=1)[:, 1],
    "read-only": read_only,
    "byte-swapped": lambda values: values.astype(values.dtype.newbyteorder()),
    "byte-swapped and strided": lambda values: np.repeat(values.astype(values.dtype.newbyteorder()), 2)[::2],
    "misaligned": misaligned,
    "subclass": lambda values: values.view(Array),
    "byte-swapped subclass": lambda values: values.astype(values.dtype.newbyteorder()).view(Array),
}


@pytest.mark.parametrize("dtype", [*INT_DTYPES, "bool"])
@pytest.mark.parametrize("way", ARRAYS)
def test_array(way: str, dtype: str) -> None:
    check(lambda row: ARRAYS[way](np.array(row, dtype)), rows_of(dtype))


def test_broadcast_array() -> None:
    check(lambda row: np.broadcast_to(np.int16(6), (len(row),)), [[6] * length for length in LENGTHS])


def test_memmap(tmp_path: Path) -> None:
    files = (tmp_path / str(number) for number in range(100))

    def make(row: list[int]) -> Any:
        file = next(files)
        np.array([0] * 5 + row, np.int32).tofile(file)
        return np.memmap(file, np.int32, "r", offset=20)

    check(make, [[1, 2, 3], [4] * 300])


def test_empty_rows_of_any_dtype() -> None:
    # `torch.tensor([])` and `np.array([])` are floating-point numbers, none of which is wrong.
    check(torch.tensor, [[]])
    check(np.array, [[]])
    check(lambda row: np.array(row, np.float16), [[]])


class List(list[int]):
    """A subclass, whose iteration is its own."""

    def __iter__(self) -> Iterator[int]:
        return reversed(self)


class Tuple(tuple[int, ...]):
    __slots__ = ()

    def __iter__(self) -> Iterator[int]:
        return reversed(self)


class Token(enum.IntEnum):
    PAD = 0
    END = 7


class Index:
    def __init__(self, value: int) -> None:
        self.value = value

    def __index__(self) -> int:
        return self.value


LISTS: dict[str, Make] = {
    "list": list,
    "tuple": tuple,
    "list subclass": lambda row: List(row[::-1]),
    "tuple subclass": lambda row: Tuple(row[::-1]),
    "enum": lambda row: [Token.END if item == 7 else item for item in row],
    "index": lambda row: [Index(item) for item in row],
    "last is not plain": lambda row: [*row[:-1], *map(Index, row[-1:])],
    "int64 scalars": lambda row: list(np.array(row, np.int64)),
    "uint8 scalars": lambda row: tuple(np.array(row, np.uint8)),
    "0-d arrays": lambda row: [np.array(item) for item in row],
    "torch scalars": lambda row: list(torch.tensor(row, dtype=torch.int16)),
    "mixed": lambda row: [(int, np.int32, torch.tensor, Index)[index % 4](item) for index, item in enumerate(row)],
}


@pytest.mark.parametrize("way", LISTS)
def test_list(way: str) -> None:
    check(LISTS[way], [[3, 0, 5, 7], [], [1], [2] * 300])


@pytest.mark.parametrize("make", [bool, torch.tensor, np.bool_], ids=["python", "torch", "numpy"])
def test_list_of_bools(make: Callable[[bool], Any]) -> None:
    check(lambda row: [make(item == 1) for item in row], rows_of("bool"))


# CPython's representation changes at 2**15 or 2**30 and at 2**60; ints from -5 to 256 are shared objects.
BITS = (8, 15, 16, 30, 31, 32, 45, 60, 62)
NEAR = [sign * (1 << bits) + step for bits in BITS for sign in (1, -1) for step in (-1, 0, 1)]
SIZES = [0, -5, -6, 256, 257, *NEAR, INT64.max, INT64.max - 1, INT64.min, INT64.min + 1]


@pytest.mark.parametrize("length", [1, 127, 128, 129, 256, 257, 513])
@pytest.mark.parametrize("way", ["list", "tuple", "list subclass", "int64 scalars"])
def test_integers_of_every_size(way: str, length: int) -> None:
    for turn in range(0, len(SIZES), 5):
        check(LISTS[way], [[int(SIZES[(turn + index) % len(SIZES)]) for index in range(length)]])


class HasArray:
    """What pandas and JAX objects are to NumPy."""

    def __init__(self, values: np.ndarray[Any, Any]) -> None:
        self.values = values

    def __array__(self, dtype: Any = None, *, copy: bool | None = None) -> np.ndarray[Any, Any]:
        assert dtype is None
        assert not copy
        return self.values


BUFFERS: dict[str, Make] = {
    "bytearray": bytearray,
    "memoryview": lambda row: memoryview(array.array("i", row)),
    "strided memoryview": lambda row: memoryview(array.array("h", [item for item in row for _ in "ab"]))[::2],
    "ctypes": lambda row: (ctypes.c_int32 * len(row))(*row),
    "object with __array__": lambda row: HasArray(np.array(row)),
    "object with __array__ of a subclass": lambda row: HasArray(np.array(row, ">i2").view(Array)),
}


@pytest.mark.parametrize("way", BUFFERS)
def test_buffer(way: str) -> None:
    check(BUFFERS[way], [[3, 0, 5, 7], [], [1], [2] * 300])


@pytest.mark.parametrize("code", "bBhHiIlLqQ")
def test_array_array(code: str) -> None:
    check(lambda row: array.array(code, row), rows_of(np.dtype(code).name))


def test_kinds_mix_within_a_batch() -> None:
    kinds = itertools.cycle([*LISTS.values(), *BUFFERS.values()])

    def make(row: list[int]) -> Any:
        return next(kinds)(row)

    check(make, [[1, 2, 7], [3], []] * 40)


WEIGHTS = PreferenceCollator(
    Layout("weights", (Matrix((("x",),), (Column("ids"), Column("weights", "{}_weights", dtype="float32"))),)),
    pad_token_id=0,
)
VALUES = [1.5, -2.0, 0.25]
FLOATS: dict[str, Callable[[], Any]] = {
    "list": lambda: VALUES,
    "list of scalars": lambda: [torch.tensor(1.5), np.float16(-2.0), 0.25],
    "list with integers": lambda: [np.float32(1.5), -2, 0.25],
    "float32 tensor": lambda: torch.tensor(VALUES),
    "float64 tensor": lambda: torch.tensor(VALUES, dtype=torch.float64),
    "float16 tensor": lambda: torch.tensor(VALUES, dtype=torch.float16),
    "bfloat16 tensor": lambda: torch.tensor(VALUES, dtype=torch.bfloat16),
    "requires grad": lambda: torch.tensor(VALUES, requires_grad=True),
    "result of a graph": lambda: torch.tensor(VALUES, requires_grad=True) * 1,
    "parameter": lambda: torch.nn.Parameter(torch.tensor(VALUES)),
    # Memory that is not the value: torch notes that it is to be negated.
    "negative bit": lambda: torch.complex(torch.zeros(3), -torch.tensor(VALUES)).conj().imag,
    "real part of a conjugate": lambda: torch.complex(torch.tensor(VALUES), torch.ones(3)).conj().real,
    "strided": lambda: torch.tensor([VALUES, VALUES]).T[:, 1],
    "expanded": lambda: torch.tensor([VALUES]).expand(2, 3)[1],
    "float32 array": lambda: np.array(VALUES, np.float32),
    "float64 array": lambda: np.array(VALUES),
    "float16 array": lambda: np.array(VALUES, np.float16),
    "byte-swapped array": lambda: np.array(VALUES, ">f4"),
    "byte-swapped float16 array": lambda: np.array(VALUES, ">f2"),
    "byte-swapped subclass": lambda: np.array(VALUES, ">f8").view(Array),
    "negative stride": lambda: np.array(VALUES[::-1])[::-1],
    "misaligned": lambda: misaligned(np.array(VALUES)),
    "array.array": lambda: array.array("d", VALUES),
}


@pytest.mark.parametrize("way", FLOATS)
def test_floating_point_column(way: str) -> None:
    batch = WEIGHTS([{"x_input_ids": [1, 2, 3], "x_weights": FLOATS[way]()}, {"x_input_ids": [4], "x_weights": [7]}])
    assert batch["weights"].dtype == torch.float32
    assert batch["weights"].tolist() == [VALUES, [7.0, 0.0, 0.0]]
    assert not batch["weights"].requires_grad


SAMPLE: dict[str, Any] = {
    "chosen_input_ids": [1, 2, 3],
    "chosen_labels": torch.tensor([-100, 2, 3]),
    "rejected_input_ids": np.array([1, 4]),
    "rejected_labels": (-100, 4),
    "margin": 0.5,
}


class Lazy(collections.UserDict[str, Any]):
    """Makes its values when asked, as `datasets` does: nothing else holds them."""

    def __getitem__(self, key: str) -> Any:
        return copy.copy(self.data[key])


class Decoding(dict[str, Any]):
    """Keeps values encoded."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        super().__init__({key: (value,) for key, value in values.items()})

    def __getitem__(self, key: str) -> Any:
        return super().__getitem__(key)[0]


MAPPINGS: dict[str, Callable[[dict[str, Any]], Mapping[str, Any]]] = {
    "dict": dict,
    "reversed dict": lambda sample: dict(reversed(sample.items())),
    "OrderedDict": collections.OrderedDict,
    "UserDict": collections.UserDict,
    "MappingProxyType": types.MappingProxyType,
    "ChainMap": lambda sample: collections.ChainMap({"margin": 0.5}, sample),
    "defaultdict": lambda sample: collections.defaultdict(lambda: [9, 9], sample),
    "lazy": Lazy,
    "dict with its own __getitem__": Decoding,
}


def lists(batch: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value.tolist() for key, value in batch.items()}


@pytest.mark.parametrize("way", MAPPINGS)
def test_mapping(way: str) -> None:
    collator = PreferenceCollator(pad_token_id=0)
    samples = [MAPPINGS[way](SAMPLE), SAMPLE, MAPPINGS[way](SAMPLE)]
    assert lists(collator(samples)) == lists(collator([SAMPLE] * 3))
    assert [len(sample) for sample in samples] == [5, 5, 5]  # a defaultdict has not grown


SAMPLES: dict[str, Callable[[list[Any]], Any]] = {
    "list": list,
    "list subclass": type("Samples", (list,), {}),
    "UserList": collections.UserList,
    "tuple": tuple,
    "deque": collections.deque,
    "iterator": iter,
    "generator": lambda samples: (sample for sample in samples),
    "map": lambda samples: map(dict, samples),
    "array of objects": lambda samples: np.array(samples, object),
}


@pytest.mark.parametrize("way", SAMPLES)
@pytest.mark.parametrize("extra", [{}, {"tiles": [[1]]}], ids=["tokens", "extra keys"])
def test_samples(way: str, extra: dict[str, Any]) -> None:
    collator = PreferenceCollator(pad_token_id=0, extra_keys="list")
    samples = [SAMPLE | extra, dict(SAMPLE, chosen_labels=[1, 2, 3]) | extra]
    images = [{**sample, "pixel_values": torch.ones(1, 2), "image_flags": [1]} for sample in samples]
    for given in (samples, images):
        batch, expected = collator(SAMPLES[way](given)), collator(given)
        assert batch.pop("tiles", None) == expected.pop("tiles", None)
        assert lists(batch) == lists(expected)


class Picky(collections.UserDict[str, Any]):
    """A row that decodes when asked; one of its columns cannot be."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        super().__init__(values)
        self.asked: list[str] = []

    def __getitem__(self, key: str) -> Any:
        self.asked.append(key)
        if key in {"image", "chosen_attention_mask"}:
            raise OSError(f"cannot decode {key}")
        return self.data[key]


def test_values_that_are_not_used_are_not_asked_for() -> None:
    sample = Picky({**SAMPLE, "image": b"broken"})
    collator = PreferenceCollator(pad_token_id=0)
    assert lists(collator([sample])) == lists(collator([SAMPLE]))
    assert sorted(sample.asked) == sorted(SAMPLE)
    masked = Picky({**SAMPLE, "chosen_attention_mask": b"broken"})
    assert "chosen_attention_mask" not in PreferenceCollator(pad_token_id=0, attention_mask=None)([masked])
    with pytest.raises(OSError, match="cannot decode image"):
        PreferenceCollator(pad_token_id=0, extra_keys="list")([sample])


@pytest.mark.parametrize("extra_keys", ["list", "stack"])
def test_values_are_asked_for_once(extra_keys: Any) -> None:
    samples = [Picky({**SAMPLE, "id": 7}), Picky({**SAMPLE, "id": 8})]
    batch = PreferenceCollator(pad_token_id=0, extra_keys=extra_keys)(samples)
    assert list(batch["id"]) == [7, 8]
    assert [sorted(sample.asked) for sample in samples] == [sorted([*SAMPLE, "id"])] * 2


def test_an_error_while_samples_are_listed_comes_through() -> None:
    class Broken:
        calls = 0

        def __iter__(self) -> Iterator[Any]:
            self.calls += 1
            raise TypeError("no samples today")

    samples = Broken()
    with pytest.raises(TypeError, match=r"^no samples today$"):
        PreferenceCollator(pad_token_id=0)(samples)  # type: ignore[arg-type]
    assert samples.calls == 1
