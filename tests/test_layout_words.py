"""The words of the layout language one by one, in batches that are written out."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from dpo_collate import PreferenceCollator
from dpo_collate.layout import Column, Layout, Length, Matrix, Media, Scalar

IDS = Column("ids")
ROW = Matrix((("c",),), (IDS,), tokens="{}_ids")


def layout(matrix: Matrix = ROW, **fields: Any) -> Layout:
    return Layout(**{"name": "mine", "matrices": (matrix,), **fields})


def batch_of(table: Layout, *samples: Any, **options: Any) -> Any:
    return PreferenceCollator(table, pad_token_id=9, return_tensors="np", **options)(list(samples))


def columns_of(matrix: Matrix, *samples: Any, **options: Any) -> dict[str, Any]:
    batch = batch_of(layout(matrix), *samples, **options)
    return {key: value.tolist() if isinstance(value, np.ndarray) else value for key, value in batch.items()}


def raised(table: Layout, *samples: Any, **options: Any) -> Exception:
    """The one exception there is."""
    with pytest.raises((KeyError, ValueError, TypeError, OverflowError)) as caught:
        batch_of(table, *samples, **options)
    assert len(caught.value.args) == 1
    return caught.value


LONG = {"c_ids": [1, 2, 3, 4, 5]}
SHORT = {"c_ids": [6, 7]}


# --- columns --------------------------------------------------------------------------------------


def test_counts() -> None:
    counts = [Column(of, of, pad=-1, start=start) for of, start in (("position", 0), ("row", 1), ("segment", 5))]
    matrix = Matrix((("p", "a"), ("p", "b")), tuple(counts), tokens="{}_ids")
    samples = ({"p_ids": [1, 2], "a_ids": [3], "b_ids": [4, 5]}, {"p_ids": [], "a_ids": [6], "b_ids": []})
    assert columns_of(matrix, *samples) == {
        "position": [[0, 1, 2, -1], [0, -1, -1, -1], [0, 1, 2, 3], [-1, -1, -1, -1]],
        "row": [[1, 1, 1, -1], [2, -1, -1, -1], [3, 3, 3, 3], [-1, -1, -1, -1]],
        "segment": [[5, 5, 6, -1], [6, -1, -1, -1], [5, 5, 6, 6], [-1, -1, -1, -1]],
    }


@pytest.mark.parametrize(
    ("side", "pad", "positions"),
    [
        ("right", 0, [[3, 4, 5], [3, 4, 0]]),
        ("right", "continue", [[3, 4, 5], [3, 4, 5]]),
        ("left", 0, [[3, 4, 5], [0, 3, 4]]),
    ],
)
def test_positions_count_what_is_kept(side: Any, pad: Any, positions: list[list[int]]) -> None:
    column = Column("position", of="position", pad=pad, start=3)
    matrix = replace(ROW, columns=(column,), side=side, length=Length(max_length=3, truncation_mode="keep_end"))
    assert columns_of(matrix, LONG, SHORT) == {"position": positions}


def test_a_count_that_does_not_fit() -> None:
    column = Column("position", of="position", dtype="int32", start=2**31 - 3)
    assert columns_of(replace(ROW, columns=(column,)), SHORT)["position"] == [[2**31 - 3, 2**31 - 2]]
    error = raised(layout(replace(ROW, columns=(column,))), SHORT, LONG)
    assert isinstance(error, OverflowError)
    assert str(error) == f"sample 1: to count the tokens of 'c_ids' needs {2**31}, which does not fit int32"


@pytest.mark.parametrize("side", ["right", "left"])
def test_skip_shift_and_drop_last(side: Any) -> None:
    # What Megatron does before a batch: labels of the next token, none of the last.
    columns = (
        IDS,
        Column("labels", pad=-100, shift=1),
        Column("mask", of="ones", shift=2),
        Column("skipped", skip=1, pad=0),
    )
    plain = columns_of(replace(ROW, columns=columns, side=side, drop_last=1), {"c_ids": [1, 2, 3]}, {"c_ids": [4]})
    assert plain == {
        "ids": [[1, 2], [9, 9]],
        "labels": [[2, 3], [-100, -100]],
        "mask": [[1, 0], [0, 0]],
        "skipped": [[0, 2], [0, 0]],
    }
    # Cells of a row are counted from its first token that is kept; beyond the last one nothing is shown.
    length = Length(max_length=2, truncation_mode="keep_end")
    cut = columns_of(replace(ROW, columns=columns, side=side, length=length), LONG)
    assert cut == {"ids": [[4, 5]], "labels": [[5, -100]], "mask": [[0, 0]], "skipped": [[0, 5]]}


@pytest.mark.parametrize(
    ("column", "keeps"),
    [
        (Column("labels", of="{}_labels", pad="label_pad_token_id"), True),
        (Column("labels", of="{}_labels", pad="label_pad_token_id", shift=2), False),
        (Column("labels", of="{}_labels", pad="label_pad_token_id", skip=2), False),
        (Column("mask", of="{}_labels", differs_from="label_pad_token_id", skip=2), False),
        (Column("mask", of="ones", on=(0,), shift=2), False),
        (Column("mask", of="ones", on=(0,), shift=1), True),
    ],
)
def test_what_is_scored_is_asked_of_the_cells_that_are_shown(column: Column, keeps: bool) -> None:  # noqa: FBT001
    table = layout(replace(ROW, columns=(column,)))
    sample = {"c_ids": [1, 2, 3], "c_labels": [-100, 2, 3]}
    if keeps:
        assert batch_of(table, sample, max_length=2)[column.name].shape == (1, 2)
    else:
        assert "truncation from 3 to 2 tokens leaves nothing to score" in str(raised(table, sample, max_length=2))


def test_truncation_leaves_nothing_only_of_what_was_something() -> None:
    columns = (IDS, Column("labels", of="{}_labels", pad="label_pad_token_id"))
    table = layout(replace(ROW, columns=columns))
    nothing = {"c_ids": [1, 2, 3], "c_labels": [-100] * 3}
    assert batch_of(table, nothing, max_length=2)["labels"].tolist() == [[-100, -100]]
    sentence = "sample 1: truncation from 3 to 2 tokens leaves nothing to score in 'c_labels'"
    assert str(raised(table, nothing, {**nothing, "c_labels": [-100, -100, 3]}, max_length=2)) == sentence


def test_of_tokens_that_are_shown_any_is_scored() -> None:
    # 9 is the pad id, and the end of a text too.
    columns = (IDS, Column("answer", on=(1,)))
    table = layout(Matrix((("p", "a"),), columns, tokens="{}_ids"))
    found = batch_of(table, {"p_ids": [1], "a_ids": [9, 2]}, max_length=2)
    assert (found["ids"].tolist(), found["answer"].tolist()) == ([[1, 9]], [[9, 9]])
    assert batch_of(table, {"p_ids": [1, 2, 3], "a_ids": []}, max_length=2)["answer"].tolist() == [[9, 9]]
    sentence = "truncation from 3 to 2 tokens leaves nothing to score in"
    assert sentence in str(raised(table, {"p_ids": [1, 2], "a_ids": [9]}, max_length=2))


# --- flat matrices --------------------------------------------------------------------------------

PER_ROW = (
    Column("length", of="length"),
    Column("cu_seq_lens", of="cu_seq_lens", dtype="int32"),
    Column("max_length", of="max_length"),
)
FLAT = Matrix(
    (("a",), ("b",)),
    (IDS, Column("position", of="position", pad="continue"), Column("row", of="row", pad=-1), *PER_ROW),
    tokens="{}_ids",
    flat=True,
)
PAIR = {"a_ids": [1, 2, 3], "b_ids": [4]}


def test_rows_end_to_end() -> None:
    assert columns_of(FLAT, PAIR, {"a_ids": [], "b_ids": [5, 6]}) == {
        "ids": [[1, 2, 3, 4, 5, 6]],
        "position": [[0, 1, 2, 0, 0, 1]],
        "row": [[0, 0, 0, 2, 3, 3]],
        "length": [3, 0, 1, 2],
        "cu_seq_lens": [0, 3, 3, 4, 6],
        "max_length": 3,
    }


@pytest.mark.parametrize(
    ("tail", "ends", "longest"), [("segment", [0, 3, 4, 8], 4), ("outside", [0, 3, 4], 3)], ids=["segment", "outside"]
)
def test_the_tail_of_a_flat_matrix(tail: Any, ends: list[int], longest: int) -> None:
    found = columns_of(replace(FLAT, tail=tail, length=Length(multiple_of=8)), PAIR)
    assert found == {
        "ids": [[1, 2, 3, 4, 9, 9, 9, 9]],
        "position": [[0, 1, 2, 0, 0, 1, 2, 3]],
        "row": [[0, 0, 0, 1, -1, -1, -1, -1]],
        "length": [3, 1],
        "cu_seq_lens": ends,
        "max_length": longest,
    }


def test_rows_of_a_flat_matrix_that_are_rounded_up() -> None:
    found = columns_of(replace(FLAT, length=Length(multiple_of=5, row_multiple_of=2)), PAIR)
    assert found == {
        # A row and its padding, the other, and what is left of the least multiple of both.
        "ids": [[1, 2, 3, 9, 4, 9, 9, 9, 9, 9]],
        "position": [[0, 1, 2, 3, 0, 1, 0, 1, 2, 3]],
        "row": [[0, 0, 0, -1, 1, -1, -1, -1, -1, -1]],
        "length": [3, 1],
        "cu_seq_lens": [0, 4, 6, 10],
        "max_length": 4,
    }


def test_what_padded_rows_are_long() -> None:
    matrix = replace(ROW, columns=PER_ROW, length=Length(multiple_of=8), drop_last=1)
    found = batch_of(layout(matrix), LONG, SHORT, {"c_ids": []})
    assert found["length"].tolist() == [4, 1, 0]
    assert found["cu_seq_lens"].tolist() == [0, 4, 5, 5]
    assert found["max_length"] == 4
    assert {key: str(value.dtype) for key, value in found.items() if key != "max_length"} == {
        "length": "int64",
        "cu_seq_lens": "int32",
    }
    assert type(found["max_length"]) is int


def test_a_flat_matrix_has_the_least_width_too() -> None:
    collator = PreferenceCollator(layout(FLAT), pad_token_id=9)
    assert collator([PAIR], min_length=6)["ids"].tolist() == [[1, 2, 3, 4, 9, 9]]
    assert columns_of(replace(FLAT, length=Length(min_length=5)), PAIR)["ids"] == [[1, 2, 3, 4, 9]]
    assert columns_of(replace(FLAT, length=Length(buckets=(3, 5))), PAIR)["ids"] == [[1, 2, 3, 4, 9]]


# --- matrices that may be absent ------------------------------------------------------------------

OPTIONAL = Layout(
    "optional",
    (
        ROW,
        Matrix((("k",),), (Column("k_ids"), Column("k_labels", of="{}_labels")), tokens="{}_ids", optional=True),
    ),
)
BOTH = {"c_ids": [1], "k_ids": [2], "k_labels": [3]}


@pytest.mark.parametrize(
    ("samples", "expected"),
    [
        ([SHORT], ["ids"]),
        ([{**SHORT, "k_ids": None}, LONG], ["ids"]),
        ([BOTH], ["ids", "k_ids", "k_labels"]),
        ([BOTH, SHORT], "sample 1: no 'k_ids', but sample 0 has it: expected in all samples or in none"),
        ([{**BOTH, "k_ids": None}, SHORT], "sample 0: no 'k_ids'"),
        ([SHORT, {**SHORT, "k_labels": [1]}], "sample 1: no 'k_ids'"),
        ([BOTH, {**SHORT, "k_ids": [1]}], "sample 1: no 'k_labels'"),
    ],
)
def test_a_matrix_that_may_be_absent(samples: list[Any], expected: Any) -> None:
    if isinstance(expected, list):
        assert list(batch_of(OPTIONAL, *samples)) == expected
    else:
        error = raised(OPTIONAL, *samples)
        assert isinstance(error, KeyError)
        assert error.args[0].startswith(expected)


@pytest.mark.parametrize("nothing", [{"k_labels": None}, {"k_ids": None, "k_labels": None}])
def test_what_is_parallel_to_absent_tokens_may_be_none(nothing: dict[str, Any]) -> None:
    # A sample that is a tuple cannot say in another way that it has none.
    assert list(batch_of(OPTIONAL, {**SHORT, **nothing})) == ["ids"]
    error = raised(OPTIONAL, BOTH, {**BOTH, "k_labels": None})
    assert isinstance(error, KeyError)
    assert error.args[0].startswith("sample 1: no 'k_labels'")


# --- media ----------------------------------------------------------------------------------------


def with_sizes(*sizes: Any) -> list[dict[str, Any]]:
    return [{"c_ids": [1], "size": size} for size in sizes]


def test_stacked() -> None:
    table = layout(media=(Media("sizes", ("size",), combine="stack"),))
    found = batch_of(table, *with_sizes(np.array([1, 2]), [3, 4]))["sizes"]
    assert (found.tolist(), found.dtype) == ([[1, 2], [3, 4]], np.int64)
    sentence = (
        "sample 1: 'size' has shape [3] and dtype int64, but that of sample 0 has [2] and int64: they cannot be stacked"
    )
    assert str(raised(table, *with_sizes([1, 2], [1, 2, 3]))) == sentence
    assert "dtype float32" in str(raised(table, *with_sizes([1, 2], [0.5, 1.0])))
    assert list(batch_of(table, SHORT)) == ["ids"]


def test_padded_to_the_largest() -> None:
    table = layout(media=(Media("sizes", ("size",), combine="pad", pad=-1),))
    found = batch_of(table, *with_sizes(np.ones((2, 1)), np.zeros((1, 3))))["sizes"]
    assert found.tolist() == [[[1, -1, -1], [1, -1, -1]], [[0, 0, 0], [-1, -1, -1]]]
    tensors = PreferenceCollator(table, pad_token_id=9)(with_sizes(torch.ones(0), torch.ones(1)))["sizes"]
    assert torch.equal(tensors, torch.tensor([[-1.0], [1.0]]))
    assert "they cannot be padded to one shape" in str(raised(table, *with_sizes(np.ones((2, 1)), np.ones(2))))


@pytest.mark.parametrize("combine", ["stack", "pad"])
def test_what_is_stacked_all_samples_have(combine: Any) -> None:
    table = layout(media=(Media("sizes", ("a", "b"), combine=combine),))
    samples = [{"c_ids": [1], "a": [1], "b": [2]}, {"c_ids": [1], "a": [3], "b": [4]}]
    assert batch_of(table, *samples)["sizes"].tolist() == [[1], [3], [2], [4]]
    assert batch_of(replace(table, order="interleaved"), *samples)["sizes"].tolist() == [[1], [2], [3], [4]]
    error = raised(table, samples[0], {**samples[1], "b": None})
    assert isinstance(error, KeyError)
    assert error.args == ("sample 1: no 'b', but sample 0 has 'a': expected in all samples or in none",)


def test_an_optional_key_of_one_side() -> None:
    columns = (IDS, Column("weights", of="{}_weights", optional=True))
    table = layout(Matrix((("a",), ("b",)), columns, tokens="{}_ids"))
    error = raised(table, {"a_ids": [1], "b_ids": [2], "a_weights": [3]})
    assert isinstance(error, KeyError)
    assert error.args == ("sample 0: no 'b_weights', but it has 'a_weights': expected both or none",)


def test_a_key_that_is_named_twice() -> None:
    table = layout(media=(Media("images", ("size", "size")), Media("flags", ("flag", "flag"), flags_of="images")))
    samples = [{"c_ids": [1], "size": [[1], [2]], "flag": [1, 0]}, {"c_ids": [1], "size": [[3]], "flag": [1]}]
    found = batch_of(table, *samples)
    assert found["images"].tolist() == [[1], [2], [3], [1], [2], [3]]
    assert found["flags"].tolist() == [1, 0, 1, 1, 0, 1]
    found = batch_of(replace(table, order="interleaved"), *samples)
    assert found["images"].tolist() == [[1], [2], [1], [2], [3], [3]]
    assert found["flags"].tolist() == [1, 0, 1, 0, 1, 1]


@pytest.mark.parametrize("dtype", ["int64", "int32", "bool", "float16", "float32", "float64"])
def test_media_become_a_dtype(dtype: Any) -> None:
    table = layout(media=(Media("sizes", ("size",), dtype=dtype),))
    # Two dtypes of one batch may become one.
    found = batch_of(table, *with_sizes(np.array([1, 0], np.uint8), torch.tensor([False, True])))["sizes"]
    assert found.dtype == dtype
    assert found.tolist() == [1, 0, 0, 1]
    tensors = PreferenceCollator(table, pad_token_id=9)(with_sizes(torch.tensor([True]), torch.tensor([0]).int()))
    assert tensors["sizes"].dtype == getattr(torch, dtype)
    assert tensors["sizes"].tolist() == [1, 0]


def test_tiles_without_any_flag_are_images() -> None:
    table = layout(media=(Media("images", ("image",)), Media("flags", ("flag",), flags_of="images")))
    image = {"c_ids": [1, 2], "image": [[1.0]]}
    assert list(batch_of(table, image, LONG)) == ["ids", "images"]
    assert "sample 0: truncation could cut image tokens" in str(raised(table, image, SHORT, max_length=1))
    flagged = {**image, "flag": [0]}
    assert batch_of(table, flagged, SHORT, max_length=1)["flags"].tolist() == [0]
    # With any flag in the batch, all tiles have one.
    error = raised(table, flagged, image)
    assert isinstance(error, KeyError)
    assert error.args[0].startswith("sample 1: no 'flag', but 'image' has 1 tiles")


# --- numbers and constants ------------------------------------------------------------------------


def test_a_list_of_whatever_samples_have() -> None:
    a, b = object(), ["b"]
    names = Scalar("names", ("x", "y"), None, default=-1)
    samples = [{"c_ids": [1], "x": a}, {"c_ids": [1], "x": None, "y": b}]
    assert batch_of(layout(scalars=(names,)), *samples)["names"] == [a, -1, -1, b]
    assert batch_of(layout(scalars=(names,), order="interleaved"), *samples)["names"] == [a, -1, -1, b]
    plain = replace(names, default=None)
    assert batch_of(layout(scalars=(plain,)), *samples)["names"] == [a, None, None, b]
    assert batch_of(layout(scalars=(plain,)), SHORT)["names"] == [None, None]
    assert list(batch_of(layout(scalars=(replace(plain, optional=True),)), SHORT)) == ["ids"]
    assert batch_of(layout(scalars=(replace(plain, optional=True),)), samples[0])["names"] == [a, None]


def test_constants() -> None:
    kept = ["the very object"]
    table = layout(constants=(("attention_mask", None), ("kept", kept)), scalars=(Scalar("number", ("number",)),))
    found = batch_of(table, {**SHORT, "number": 1, "attention_mask": "ignored"})
    assert list(found) == ["ids", "number", "attention_mask", "kept"]
    assert found["attention_mask"] is None
    assert found["kept"] == kept
    assert found["kept"][0] is kept[0]
    # Each batch has its own: what a trainer does to one is not in the next.
    found["kept"].append("changed")
    assert batch_of(table, {**SHORT, "number": 1})["kept"] == kept == ["the very object"]


# --- samples, and what is returned ----------------------------------------------------------------


def test_samples_that_are_tuples() -> None:
    table = layout(scalars=(Scalar("extra", ("extra",), None),), sample=("c_ids", "extra"))
    found = batch_of(table, ([1], "a"), [[2, 3], None], {"c_ids": [4]})
    assert found["ids"].tolist() == [[1, 9], [2, 3], [4, 9]]
    assert found["extra"] == ["a", None, None]
    error = raised(table, ([1], "a"), ([1],))
    assert str(error) == "sample 1 has 1 parts, expected 2: c_ids, extra"
    assert str(raised(table, 5)) == "sample 0: expected a mapping such as a dict, got int"
    collator = PreferenceCollator(table, pad_token_id=9)
    with pytest.raises(TypeError, match=r"^expected a list of samples or a table, got int$"):
        collator(5)  # type: ignore[arg-type]


ROWS: dict[str, Any] = {
    "list": [[1, 2]],
    "tuple": ((1, 2),),
    "tensor": torch.tensor([[1, 2]]),
    "array": np.array([[1, 2]], np.int32),
    "list of a tensor": [torch.tensor([1, 2])],
    "list of an array": [np.array([1, 2])],
    "strided": torch.tensor([[1, 0, 2, 0]])[:, ::2],
    "one dimension": [1, 2],
}


@pytest.mark.parametrize("labels", ROWS)
@pytest.mark.parametrize("ids", ROWS)
def test_rows_of_a_batch_of_one(ids: str, labels: str) -> None:
    matrix = replace(ROW, columns=(IDS, Column("labels", of="{}_labels")))
    table = layout(matrix, unbatch=True)
    sample = {"c_ids": ROWS[ids], "c_labels": ROWS[labels]}
    found = batch_of(table, sample, {"c_ids": [[3]], "c_labels": [4]})
    assert found["ids"].tolist() == [[1, 2], [3, 9]]
    assert found["labels"].tolist() == [[1, 2], [4, 0]]


@pytest.mark.parametrize("rows", [torch.ones(2, 2).int(), np.ones((1, 1, 2), int), [[1], [2]], [[[1]]]])
def test_rows_that_are_no_batch_of_one(rows: Any) -> None:
    assert str(raised(layout(unbatch=True), {"c_ids": rows})).startswith("sample 0: 'c_ids' ")


def test_nests() -> None:
    table = layout(
        replace(ROW, columns=(IDS, Column("mask", of="ones"), Column("types", of="{}_types", optional=True))),
        constants=(("kind", "dpo"),),
        returns=({"data": {"x": "ids", "y": "mask", "z": "types"}, "samples": ("kind",)}, (), "ids"),
    )
    nest, nothing, ids = batch_of(table, SHORT)
    assert nothing == ()
    assert ids.tolist() == [[6, 7]]
    assert list(nest) == ["data", "samples"]
    # A dict leaves out what the batch lacks.
    assert list(nest["data"]) == ["x", "y"]
    assert nest["data"]["x"] is ids
    assert nest["samples"] == ("dpo",)
    # A tuple cannot.
    error = raised(replace(table, returns=("ids", "types")), SHORT)
    assert error.args == ("the batch has no 'types', as no sample has what it is made of: a tuple cannot leave it out",)
    found = batch_of(replace(table, returns=("ids", "types")), {**SHORT, "c_types": [1, 2]})
    assert [array.tolist() for array in found] == [[[6, 7]], [[1, 2]]]


def test_the_order_of_the_first_sample() -> None:
    matrix = replace(ROW, columns=(Column("mask", of="ones"), Column("c_ids")))
    table = layout(matrix, constants=(("kind", "dpo"),), extra="list", returns="sample")
    batch = batch_of(table, {"note": "a", "c_ids": [1], "kind": "b"}, {"kind": "c", "note": "d", "c_ids": [2]})
    assert list(batch) == ["note", "c_ids", "kind", "mask"]
    assert batch["note"] == ["a", "d"]
    assert batch["kind"] == "dpo"


def test_one_name_is_a_nest() -> None:
    assert batch_of(layout(returns="ids"), SHORT).tolist() == [[6, 7]]


# --- wildcards ------------------------------------------------------------------------------------

WILD = Layout(
    "wild",
    matrices=(
        Matrix((("p",),), (Column("{}_ids"),), tokens="{}_ids", side="left", optional=True),
        Matrix((("*",),), (Column("{}_ids"), Column("{}_mask", of="ones")), tokens="{}_ids"),
    ),
    media=(Media("*_pixels", ("*_pixels",)), Media("image", ("image_pixels",))),
    scalars=(
        Scalar("*_logps", ("*_logps",), optional=True),
        Scalar("ref", ("ref_logps",), optional=True),
        Scalar("*", ("*",), None, optional=True),
    ),
    reserved=(),
    ignored=("note",),
)


def test_wildcards() -> None:
    one = {
        "b_ids": [1, 2],
        "p_ids": [3],
        "a_ids": [4],
        "x_logps": 0.5,
        "ref_logps": 1,
        "left_pixels": [[1.0]],
        "image_pixels": [[2.0]],
        "anything": "kept",
        "note": "ignored",
        "a_mask": "what the batch makes anew",
        5: "no name",
    }
    batch = batch_of(WILD, one)
    names = ["p_ids", "b_ids", "b_mask", "a_ids", "a_mask", "left_pixels", "image", "x_logps", "ref", "anything"]
    assert list(batch) == names
    assert batch["b_mask"].tolist() == [[1, 1]]
    assert batch["ref"].tolist() == [1.0]
    assert batch["anything"] == ["kept"]


def test_wildcards_are_what_the_first_sample_has() -> None:
    collator = PreferenceCollator(WILD, pad_token_id=9, return_tensors="np")
    first, second = {"a_ids": [1]}, {"a_ids": [2], "b_ids": [3]}
    # One collator, batches of other keys, and of these keys again.
    for _ in range(2):
        assert list(collator([first])) == ["a_ids", "a_mask"]
        assert list(collator([second])) == ["a_ids", "a_mask", "b_ids", "b_mask"]
        assert list(collator([{"b_ids": [3], "a_ids": [2]}])) == ["b_ids", "b_mask", "a_ids", "a_mask"]
        with pytest.raises(KeyError, match="sample 1: the key 'b_ids' is not in sample 0: expected in all samples or"):
            collator([first, second])
        with pytest.raises(KeyError, match="sample 1: no 'b_ids'"):
            collator([second, first])
    for at in range(100):
        assert list(collator([{f"{at}_ids": [at]}])) == [f"{at}_ids", f"{at}_mask"]


def test_wildcards_without_any_row() -> None:
    table = replace(WILD, matrices=WILD.matrices[1:])
    error = raised(table, {"a_logps": 0.5, "ids": [1]})
    assert isinstance(error, KeyError)
    assert error.args == ("sample 0: no key like '*_ids'",)


@pytest.mark.parametrize("key", ["b_ids", "b_logps", "b_pixels", "note 2"])
@pytest.mark.parametrize("extra", ["drop", "list", "error"])
def test_what_a_wildcard_takes_the_first_sample_has(key: str, extra: Any) -> None:
    error = raised(replace(WILD, extra=extra), {"a_ids": [1]}, {"a_ids": [1], key: [1]})
    assert isinstance(error, KeyError)
    assert error.args == (f"sample 1: the key '{key}' is not in sample 0: expected in all samples or in none",)


def test_what_the_table_names_no_wildcard_takes() -> None:
    first = {"a_ids": [1]}
    later = {"a_ids": [2], "image_pixels": [[1.0]], "note": 1, "a_mask": "what the batch makes anew", 5: "no name"}
    assert batch_of(WILD, first, later)["image"].tolist() == [[1.0]]
    error = raised(WILD, first, {**first, "ref_logps": 1.0})
    assert error.args == ("sample 0: no 'ref_logps', but sample 1 has it: expected in all samples or in none",)
    error = raised(WILD, first, {**first, "p_ids": [1]})
    assert error.args == ("sample 0: no 'p_ids', but sample 1 has it: expected in all samples or in none",)


@pytest.mark.parametrize(
    "part", [{"media": (Media("*_x", ("*_x",), optional=False),)}, {"scalars": (Scalar("*_x", ("*_x",)),)}]
)
def test_wildcards_that_are_not_optional(part: dict[str, Any]) -> None:
    assert list(batch_of(layout(**part), {**SHORT, "a_x": 1.0 if "scalars" in part else [1.0]})) == ["ids", "a_x"]
    error = raised(layout(**part), SHORT)
    assert isinstance(error, KeyError)
    assert error.args == ("sample 0: no key like '*_x'",)
    (name,) = part
    optional: dict[str, Any] = {name: tuple(replace(each, optional=True) for each in part[name])}
    assert list(batch_of(layout(**optional), SHORT)) == ["ids"]


def test_a_star_overlaps_nothing() -> None:
    # Both ends of the name must be there, one after the other.
    matrix = Matrix((("*",),), (IDS,), tokens="abc{}cd")
    assert batch_of(layout(matrix), {"abccd": [1], "abcd": [2]})["ids"].tolist() == [[1]]
    wild = layout(scalars=(Scalar("*_logps", ("*_logps",), optional=True),))
    assert list(batch_of(wild, {**SHORT, "a_logps": 0.5})) == ["ids", "a_logps"]
    assert list(batch_of(wild, SHORT)) == ["ids"]
    # A list of samples is refused by the core, whatever the table.
    collator = PreferenceCollator(wild, pad_token_id=9)
    for nothing in ([], [5]):
        with pytest.raises((ValueError, TypeError), match=r"expected"):
            collator(nothing)  # type: ignore[arg-type]
