"""Media that are stacked or padded instead of concatenated, and media that become another dtype."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dpo_collate import Layout, PreferenceCollator
from dpo_collate.layout import Media
from dpo_collate.named import SEPARATE
from pairs import PAIRS, collate, full, third

GIVEN = full(PAIRS[0])
UNSIGNED = ("uint8", "uint16", "uint32", "uint64")
DTYPES = ("float32", "float16", "bfloat16", "float64", "uint8", "int64", "bool")


def joined(values: list[Any], *, options: dict[str, Any] | None = None, **fields: Any) -> Any:
    """What becomes of a medium of these values."""
    table = Layout("mine", SEPARATE.matrices, (Media("x", ("x",), **fields),))
    samples = [GIVEN | ({} if value is None else {"x": value}) for value in values]
    return PreferenceCollator(table, pad_token_id=0, **options or {})(samples).get("x")


def kinds(values: Any, number: int) -> Any:
    """The same values as a tensor, an array, or nested lists."""
    return (torch.from_numpy(values.copy()), values, values.tolist())[number % 3]


def plainly(values: list[Any], pad: float) -> Any:
    """Each value at the beginning of its place, the rest padding."""
    shape = (len(values), *map(max, zip(*(value.shape for value in values), strict=True)))
    out = np.full(shape, pad, values[0].dtype)
    for index, value in enumerate(values):
        for place in np.ndindex(value.shape):
            out[(index, *place)] = value[place]
    return out


# --- pad and stack --------------------------------------------------------------------------------


def test_padded() -> None:
    values = [[[1, 2]], [[3], [4]], [[5, 6, 7]]]
    assert joined(values, combine="pad").tolist() == [
        [[1, 2, 0], [0, 0, 0]],
        [[3, 0, 0], [4, 0, 0]],
        [[5, 6, 7], [0, 0, 0]],
    ]
    assert joined(values, combine="pad", pad=-1).tolist()[1] == [[3, -1, -1], [4, -1, -1]]
    assert joined([None, None], combine="pad") is None


def test_stacked() -> None:
    assert joined([[1, 2], (3, 4), np.array([5, 6])], combine="stack").tolist() == [[1, 2], [3, 4], [5, 6]]
    assert joined([torch.zeros(0), torch.zeros(0)], combine="stack").shape == (2, 0)
    assert joined([None, None], combine="stack") is None


@given(
    ndim=st.integers(1, 4),
    sizes=st.lists(st.lists(st.integers(0, 3), min_size=4, max_size=4), min_size=1, max_size=5),
    pad=st.sampled_from([0, -1, 0.5, 7]),
    ways=st.lists(st.integers(0, 2), min_size=5, max_size=5),
    return_tensors=st.sampled_from(["pt", "np"]),
)
def test_padding_against_a_plain_one(
    ndim: int, sizes: list[list[int]], pad: float, ways: list[int], return_tensors: str
) -> None:
    # float32, as lists of floats are; a list cannot say how large what is in nothing would be.
    values = [np.arange(1.0, 1 + np.prod(shape[:ndim]), dtype=np.float32).reshape(shape[:ndim]) for shape in sizes]
    given = [kinds(value, way if value.size else way % 2) for value, way in zip(values, ways, strict=False)]
    found = joined(given, combine="pad", pad=pad, options={"return_tensors": return_tensors})
    assert type(found) is (torch.Tensor if return_tensors == "pt" else np.ndarray)
    wanted = plainly(values, pad)
    assert (tuple(found.shape), str(found.dtype).removeprefix("torch.")) == (wanted.shape, "float32")
    assert found.tolist() == wanted.tolist()
    same = [value for value in given if np.shape(value) == np.shape(given[0])]
    stacked = joined(same, combine="stack", options={"return_tensors": return_tensors})
    assert stacked.tolist() == [np.asarray(value).tolist() for value in same]


@pytest.mark.parametrize("combine", ["cat", "stack", "pad"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_dtypes_stay_what_they_are(dtype: str, combine: Any) -> None:
    values = torch.arange(6).reshape(2, 3).to(getattr(torch, dtype))
    for tensors in ([values, values], [values.T.contiguous().T, values]):
        found = joined(tensors, combine=combine)
        assert found.dtype == values.dtype
        assert torch.equal(found, torch.cat(tensors) if combine == "cat" else torch.stack(tensors))
    if dtype == "bfloat16":
        with pytest.raises(
            TypeError, match=r"^sample 0: 'x' has dtype bfloat16, which NumPy does not have: use return_"
        ):
            joined([values, values], combine=combine, options={"return_tensors": "np"})
        return
    array = values.numpy()
    mixtures: list[list[Any]] = [[array, array], [values, array], [array, values]]
    for mixture in mixtures:
        assert joined(mixture, combine=combine).dtype == values.dtype
        assert joined(mixture, combine=combine, options={"return_tensors": "np"}).dtype == array.dtype


def test_samples_are_not_written_to() -> None:
    for combine in ("pad", "stack"):
        tensor, array = torch.ones(2), np.ones(2, np.float32)
        found = joined([tensor, array], combine=combine)
        found[:] = 5
        assert (tensor.tolist(), array.tolist()) == ([1, 1], [1, 1])


UNPADDED = "they cannot be padded to one shape"
WRONG: list[tuple[dict[str, Any], list[Any], type[Exception], str]] = [
    (
        {"combine": "pad"},
        [[1, 2], None],
        KeyError,
        "sample 1: no 'x', but sample 0 has 'x': expected in all samples or in none",
    ),
    (
        {"combine": "stack"},
        [None, None, [1, 2]],
        KeyError,
        "sample 0: no 'x', but sample 2 has 'x': expected in all samples or in none",
    ),
    (
        {"combine": "pad"},
        [[1, 2], [[1, 2]]],
        ValueError,
        f"sample 1: 'x' has shape [1, 2] and dtype int64, but that of sample 0 has [2] and int64: {UNPADDED}",
    ),
    (
        {"combine": "pad"},
        [torch.ones(2), torch.ones(2).half()],
        ValueError,
        f"sample 1: 'x' has shape [2] and dtype float16, but that of sample 0 has [2] and float32: {UNPADDED}",
    ),
    (
        {"combine": "stack"},
        [[1, 2], np.array([1, 2, 3])],
        ValueError,
        "sample 1: 'x' has shape [3] and dtype int64, but that of sample 0 has [2] and int64: they cannot be stacked",
    ),
    (
        {"combine": "stack"},
        [[1, 2], [1.0, 2.0]],
        ValueError,
        "sample 1: 'x' has shape [2] and dtype float32, but that of sample 0 has [2] and int64: they cannot be stacked",
    ),
    (
        {"combine": "stack", "optional": False},
        [None],
        KeyError,
        "sample 0: no tile in 'x', nor in that of any other sample of the batch",
    ),
    *(
        (
            {"combine": "pad", "pad": pad},
            [torch.ones(1, dtype=dtype), torch.ones(2, dtype=dtype)],
            OverflowError,
            f"sample 0: 'x' has dtype {str(dtype).removeprefix('torch.')}, which cannot hold the padding {pad!r}",
        )
        for dtype, pad in (
            (torch.uint8, -1),
            (torch.uint8, 256),
            (torch.int32, 2**31),
            (torch.int64, 0.5),
            (torch.int64, float("nan")),
            (torch.bool, 2),
        )
    ),
    (
        {"combine": "pad", "pad": -1},
        [np.ones(1, np.uint8)],
        OverflowError,
        "sample 0: 'x' has dtype uint8, which cannot hold the padding -1",
    ),
    (
        {"combine": "cat"},
        [torch.tensor(5)],
        ValueError,
        "sample 0: 'x' is a single number, expected a first dimension that counts tiles",
    ),
]


@pytest.mark.parametrize(("fields", "values", "error", "sentence"), WRONG, ids=[row[3] for row in WRONG])
def test_wrong(fields: dict[str, Any], values: list[Any], error: type[Exception], sentence: str) -> None:
    for return_tensors in ("pt", "np"):
        with pytest.raises(error) as caught:
            joined(values, options={"return_tensors": return_tensors}, **fields)
        assert caught.value.args == (sentence,)


@pytest.mark.parametrize(
    ("dtype", "pad"), [("uint8", 255), ("int8", -128.0), ("bool", 1), ("float16", float("inf")), ("bfloat16", -0.5)]
)
def test_padding_that_fits(dtype: str, pad: float) -> None:
    values = [torch.zeros(1, dtype=getattr(torch, dtype)), torch.zeros(2, dtype=getattr(torch, dtype))]
    assert joined(values, combine="pad", pad=pad).tolist() == [[0, pad], [0, 0]]


# --- dtype ----------------------------------------------------------------------------------------


TO = ("int64", "int32", "bool", "float16", "float32", "float64")


@pytest.mark.parametrize("combine", ["cat", "stack", "pad"])
@pytest.mark.parametrize("dtype", TO)
def test_values_become_a_dtype(dtype: str, combine: Any) -> None:
    values: list[Any] = [torch.tensor([1, 0], dtype=torch.int8), np.array([0, 1], ">i4"), [1, 0], [True, False]]
    values += [np.array([1, 0], kind) for kind in UNSIGNED]
    values += [torch.tensor([1, 0]).to(getattr(torch, kind)) for kind in (*UNSIGNED, "bool", "int64")]
    if "float" in dtype:
        values += [torch.tensor([1.5, 0.0], dtype=torch.bfloat16), np.array([2.25, 0.0]), [3.0, 0.0]]
    wanted = [torch.tensor([*map(float, value)]).to(getattr(torch, dtype)) for value in values]
    for return_tensors in ("pt", "np"):
        found = joined(values, combine=combine, dtype=dtype, options={"return_tensors": return_tensors})
        assert str(found.dtype).removeprefix("torch.") == dtype
        assert found.tolist() == (torch.cat(wanted) if combine == "cat" else torch.stack(wanted)).tolist()
    one = joined(wanted[:1], combine=combine, dtype=dtype)
    assert (one.dtype, one.flatten().tolist()) == (wanted[0].dtype, wanted[0].tolist())


@pytest.mark.parametrize("dtype", ["int64", "bool", "float16"])
def test_where_there_is_no_value_any_dtype_will_do(dtype: str) -> None:
    """Of bfloat16 too, which NumPy does not have."""
    found = joined([torch.tensor([], dtype=torch.bfloat16)], combine="stack", dtype=dtype)
    assert (found.dtype, found.shape) == (getattr(torch, dtype), (1, 0))


def test_floats_are_rounded() -> None:
    found = joined([torch.tensor([0.1, 1e-300], dtype=torch.float64), np.array([1 / 3, 70000])], dtype="float32")
    assert found.tolist() == np.array([0.1, 0, 1 / 3, 70000], np.float32).tolist()
    infinite = [float("inf"), -float("inf")]
    for value in (torch.tensor(infinite), np.array(infinite), torch.tensor(infinite).bfloat16()):
        assert joined([value], dtype="float16").tolist() == infinite
    assert joined([np.array([np.nan])], dtype="float16").isnan().tolist() == [True]
    assert joined([[2**53 + 1]], dtype="float64").tolist() == [2.0**53]


@pytest.mark.parametrize("dtype", ["int64", "int32", "bool"])
@pytest.mark.parametrize("kind", ["float16", "bfloat16", "float32", "float64", "complex64"])
def test_floats_never_become_integers(kind: str, dtype: Any) -> None:
    value = torch.ones(2, dtype=getattr(torch, kind))
    for each in (value, value.numpy()) if kind != "bfloat16" else (value,):
        with pytest.raises(TypeError) as caught:
            joined([[True, True], each], dtype=dtype)
        assert caught.value.args == (f"sample 1: 'x' has dtype {kind}, expected one that becomes {dtype}",)


def test_complex_numbers_never_become_others() -> None:
    with pytest.raises(TypeError, match=r"^sample 0: 'x' has dtype complex128, expected one that becomes float32$"):
        joined([np.ones(1, complex)], dtype="float32")


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("kind", "value", "dtype"),
    [
        ("int64", 2**31, "int32"),
        ("int64", -(2**31) - 1, "int32"),
        ("uint32", 2**32 - 1, "int32"),
        ("uint64", 2**63, "int64"),
        ("uint64", 2**64 - 1, "int64"),
        ("int64", 2, "bool"),
        ("int8", -1, "bool"),
        ("uint8", 2, "bool"),
        ("int64", 65520, "float16"),
        ("uint64", 2**64 - 1, "float16"),
        ("float32", 65520.0, "float16"),
        ("float64", -1e39, "float32"),
    ],
)
def test_what_does_not_fit(kind: str, value: Any, dtype: Any) -> None:
    array = np.array([0, value], kind)
    for each in (array, torch.from_numpy(array), array[1:].reshape(()), torch.from_numpy(array)[1]):
        with pytest.raises(OverflowError) as caught:
            joined([each], dtype=dtype, combine="cat" if each.ndim else "stack")
        assert caught.value.args == (f"sample 0: 'x' has dtype {kind}, and a value that does not fit {dtype}",)


@pytest.mark.parametrize("return_tensors", ["pt", "np"])
@pytest.mark.parametrize("combine", ["stack", "pad"])
def test_single_numbers(combine: Any, return_tensors: str) -> None:
    options = {"return_tensors": return_tensors}
    for values in ([torch.tensor(5), np.array(6)], [torch.tensor(5), torch.tensor(6)]):
        found = joined(values, combine=combine, options=options)
        assert (tuple(found.shape), found.tolist()) == ((2,), [5, 6])
    assert joined([torch.tensor(5), np.array(1, ">i2")], combine=combine, dtype="float32").tolist() == [5.0, 1.0]
    with pytest.raises(ValueError, match=r"^sample 1: 'x' has shape \[1\] and dtype int64, but that of sample 0 has"):
        joined([torch.tensor(5), torch.tensor([5])], combine=combine, options=options)


def test_a_blank_is_of_that_dtype_too() -> None:
    assert joined([None], blank=(2,), dtype="float16").dtype == torch.float16
    assert joined([None], blank=(2,)).dtype == torch.float32


# --- where a named layout has them ----------------------------------------------------------------


def test_images_of_prompts_that_are_rows() -> None:
    samples = [
        third(PAIRS[0])
        | {
            "pixel_values": torch.full((1, 3, 2, 2), 1.0, dtype=torch.bfloat16),
            "pixel_attention_mask": torch.ones(1, 2, 2, dtype=torch.int64),
            "image_sizes": [2, 2],
        },
        third(PAIRS[1])
        | {
            "pixel_values": torch.full((2, 3, 1, 3), 2.0, dtype=torch.bfloat16),
            "pixel_attention_mask": torch.ones(2, 1, 3, dtype=torch.int64),
            "image_sizes": np.array([1, 3]),
        },
    ]
    batch = collate("prompt_left", samples)
    assert list(batch)[6:] == ["pixel_values", "pixel_attention_mask", "image_sizes"]
    assert (batch["pixel_values"].dtype, batch["pixel_values"].shape) == (torch.bfloat16, (2, 2, 3, 2, 3))
    assert batch["pixel_values"][:, :, 0].tolist() == [
        [[[1, 1, 0], [1, 1, 0]], [[0, 0, 0], [0, 0, 0]]],
        [[[2, 2, 2], [0, 0, 0]], [[2, 2, 2], [0, 0, 0]]],
    ]
    assert batch["pixel_attention_mask"].tolist() == batch["pixel_values"][:, :, 0].clamp(max=1).tolist()
    assert batch["image_sizes"].tolist() == [[2, 2], [1, 3]]
    with pytest.raises(
        KeyError, match="sample 1: no 'pixel_values', but sample 0 has 'pixel_values': expected in all s"
    ):
        collate("prompt_left", [samples[0], third(PAIRS[1])])


@pytest.mark.parametrize("combine", ["pad", "stack"])
def test_max_batch_bytes_counts_what_is_padded(combine: Any) -> None:
    tokens = PreferenceCollator(Layout("mine", SEPARATE.matrices), pad_token_id=0, return_tensors="np")
    base = sum(-(-value.nbytes // 64) * 64 for value in list(tokens([GIVEN] * 2).values())[:-1])
    base += list(tokens([GIVEN] * 2).values())[-1].nbytes
    values = [torch.zeros(100), torch.zeros(90 if combine == "pad" else 100)]
    assert joined(values, combine=combine, options={"max_batch_bytes": base + 800}).shape == (2, 100)
    sentence = f"of 400 bytes, makes a batch of {base + 800} bytes, more than max_batch_bytes={base + 799}"
    with pytest.raises(MemoryError, match=f"^sample [01]: 'x', {sentence}$"):
        joined(values, combine=combine, options={"max_batch_bytes": base + 799})
