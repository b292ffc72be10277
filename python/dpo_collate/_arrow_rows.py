"""Hugging Face data sets as Arrow tables: rows are numbers until the collator reads what is there."""

from __future__ import annotations

from bisect import bisect_right
from itertools import accumulate
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from ._checks import check_int64
from ._core import ArrowTable
from ._samples import is_table

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import numpy.typing as npt
    from torch.utils.data import Dataset

    _Dataset = Dataset[Any]
else:
    _Dataset = object
"""torch's, for those who check types: it has nothing that is needed, and importing it takes a second."""


class ArrowRows(_Dataset):
    """A Hugging Face ``Dataset`` as Arrow tables: for a ``DataLoader`` with our collator.

    A batch is a table that points to where the tokens of its rows lie (in memory-mapped files, mostly), and the
    collator reads them there. The rows may be shuffled, selected, sharded, concatenated and filtered, by the data set
    or by a sampler; ``torch.utils.data.Subset``, ``random_split`` and ``ConcatDataset`` go around ``ArrowRows``. It
    pickles as the data set does: workers that are started anew open its files again.

    A column is handed over as it is stored. What the data set would make of it when a row is read does not take place:
    an ``Image`` stays encoded, and formats such as ``"torch"`` mean nothing. (A collator leaves out columns that its
    layout does not know, unless they begin like those that it knows.)

    Args:
        dataset: A ``datasets.Dataset``.
        columns: Names of the columns that rows have. None: those that the data set's format names, which are all of
            them unless ``with_format(…, columns=…)`` says otherwise.

    Attributes:
        dataset: The data set.
        columns: Names of the columns that rows have, a tuple.

    Raises:
        TypeError: It is no ``datasets.Dataset``, or of a class that makes rows in a way of its own.
        ValueError: It has a transform, which would not take place; there are no columns.
        KeyError: It has no such column.

    Example:
        >>> import datasets
        >>> from torch.utils.data import DataLoader
        >>> from dpo_collate import PreferenceCollator
        >>> from dpo_collate.datasets import ArrowRows
        >>> pairs = {"prompt_ids": [[1], [2, 3]], "chosen_ids": [[4, 5], [6]], "rejected_ids": [[7], [8]]}
        >>> rows = ArrowRows(datasets.Dataset.from_dict(pairs))
        >>> rows
        ArrowRows(num_rows=2, columns=('prompt_ids', 'chosen_ids', 'rejected_ids'))
        >>> collator = PreferenceCollator("concatenated", inputs="split", pad_token_id=0)
        >>> loader = DataLoader(rows, batch_size=2, num_workers=0, collate_fn=collator)
        >>> next(iter(loader))["input_ids"]
        tensor([[1, 4, 5],
                [2, 3, 6],
                [1, 7, 0],
                [2, 3, 8]])
    """

    dataset: Any
    columns: tuple[str, ...]

    def __init__(self, dataset: Any, *, columns: Sequence[str] | None = None) -> None:
        _check_dataset(dataset)
        self.dataset = dataset
        self.columns = _chosen_columns(dataset, columns)
        if not self.columns:
            raise ValueError("no columns: expected at least one")
        self._open()

    def _open(self) -> None:
        self._size = len(self.dataset)
        # Without metadata: it says nothing of the rows, and would go with every table.
        self._table = self.dataset.data.table.select(list(self.columns)).replace_schema_metadata(None)
        self._read = ArrowTable([self._table])
        self._batches = [batch for batch in self._table.to_batches() if len(batch)]
        self._begins = _begins(self._batches)
        # Shuffled and selected data sets are the table that they were made of, and this list of rows.
        mapping = self.dataset._indices  # noqa: SLF001 - there is no public name
        self._mapping = None if mapping is None else [chunk.to_numpy() for chunk in mapping.column(0).chunks]
        self._mapping_begins = _begins(self._mapping or [])

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, index: Any) -> Any:
        """A ``pyarrow.Table`` of the row with that index; of a slice or a list of indices, of all these rows.

        Raises:
            IndexError: There is no such row.
            TypeError: It is no index.
        """
        if isinstance(index, slice):
            index = range(*index.indices(self._size))
        several = isinstance(index, list | tuple | range) or getattr(index, "ndim", 0) == 1
        return self._as_arrow([self._row(number) for number in (index if several else [index])])

    def __getitems__(self, indices: Iterable[Any]) -> ArrowBatch:
        """The rows with these indices, in that order: what a ``DataLoader`` asks for, and hands to the collator.

        Raises:
            IndexError: There is no such row.
            TypeError: One of them is no index.
        """
        return ArrowBatch(self, [self._row(index) for index in indices])

    def _order(self) -> npt.NDArray[np.int64] | None:
        """Which rows of the table that was taken over these are, in order. None: all of them as they are."""
        if self._mapping is None:
            return None
        return np.concatenate([np.empty(0, np.int64), *self._mapping], dtype=np.int64)

    def _row(self, index: Any) -> int:
        """The row of the table that has that index."""
        number = index if type(index) is int else check_int64("index", index)
        if number < 0:
            number += self._size
        if not 0 <= number < self._size:
            raise IndexError(f"index {index} is out of range: the data set has {self._size} rows")
        if self._mapping is None:
            return number
        chunk, place = _place(self._mapping_begins, number)
        return int(self._mapping[chunk][place])

    def _as_arrow(self, rows: list[int]) -> Any:
        """These rows of the table. Those that follow one another are one piece."""
        pieces: list[Any] = []
        begin = end = 0
        for row in rows:
            if row != end:
                pieces += self._pieces(begin, end)
                begin = row
            end = row + 1
        pieces += self._pieces(begin, end)
        return self._table.from_batches(pieces, self._table.schema)

    def _pieces(self, begin: int, end: int) -> list[Any]:
        """Rows of the table that follow one another, as slices of what it consists of."""
        pieces = []
        while begin < end:
            batch, place = _place(self._begins, begin)
            pieces.append(self._batches[batch].slice(place, end - begin))
            begin += len(pieces[-1])
        return pieces

    def __getstate__(self) -> dict[str, Any]:
        """The data set, which knows where its files are; what is made of it is made anew."""
        return {"dataset": self.dataset, "columns": self.columns}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._open()

    def __repr__(self) -> str:
        return f"{type(self).__name__}(num_rows={len(self)}, columns={self.columns!r})"


class ArrowBatch:
    """Rows of an :class:`ArrowRows`: a table, but that no object of pyarrow's is made for each row before one asks.

    The collator reads the rows where they lie. Everything that knows the Arrow PyCapsule protocol takes them as well,
    ``pyarrow.table(batch)`` and ``polars.from_arrow(batch)`` for example, by way of :meth:`to_arrow`; and what else a
    ``pyarrow.Table`` has (``num_rows``, ``column_names``, ``to_pylist()``, …) they have too. In a pickle they are a
    ``pyarrow.Table`` of these rows alone.
    """

    __slots__ = ("_numbers", "_of")

    def __init__(self, of: ArrowRows, numbers: list[int]) -> None:
        self._of, self._numbers = of, numbers

    def __dpo_collate_table__(self) -> ArrowTable:
        """For the collator: the data set's table has been taken over already, so that only numbers of rows are new."""
        return self._of._read.take(self._numbers)  # noqa: SLF001 - of this file

    def to_arrow(self) -> Any:
        """A ``pyarrow.Table`` of these rows, which are not copied."""
        return self._of._as_arrow(self._numbers)  # noqa: SLF001 - of this file

    def __arrow_c_stream__(self, requested_schema: Any = None) -> Any:
        return self.to_arrow().__arrow_c_stream__(requested_schema)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return getattr(self.to_arrow(), name)

    def __getitem__(self, key: Any) -> Any:
        """A column, by its name."""
        return self.to_arrow()[key]

    def __len__(self) -> int:
        return len(self._numbers)

    def __iter__(self) -> NoReturn:
        raise TypeError(
            "rows of an Arrow table were taken for a list of samples, which their to_pylist() makes: with "
            "transformers' Trainer, pass remove_unused_columns=False in its TrainingArguments"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        # Copied first: with a slice all that it is a slice of would be pickled.
        reduced: tuple[Any, ...] = self.to_arrow().take(np.arange(len(self))).__reduce__()
        return reduced

    def __repr__(self) -> str:
        return f"{type(self).__name__}(num_rows={len(self)}, columns={self._of.columns!r})"


def _begins(parts: Iterable[Any]) -> list[int]:
    """Where each of these parts begins, and the last one ends."""
    return list(accumulate(map(len, parts), initial=0))


def _place(begins: list[int], number: int) -> tuple[int, int]:
    """In which part the row of that number is, and where in it."""
    part = bisect_right(begins, number) - 1
    return part, number - begins[part]


_HUGGING_FACE = {
    "datasets.arrow_dataset": ("Dataset",),
    "datasets.iterable_dataset": ("IterableDataset",),
    "datasets.dataset_dict": ("DatasetDict", "IterableDatasetDict"),
}


def hugging_face(data: object) -> type | None:
    """The class of Hugging Face's that the data are of, if any."""
    # By name: to ask isinstance, datasets would have to be imported.
    return next((kind for kind in type(data).__mro__ if kind.__name__ in _HUGGING_FACE.get(kind.__module__, ())), None)


def _check_dataset(data: Any) -> None:
    """Refuses what is no data set of rows that are there, as they are stored."""
    kind = hugging_face(data)
    if kind is None:
        raise TypeError(f"dataset is a {type(data).__name__}, {_hint(data)}")
    if kind.__name__ == "IterableDataset":
        raise TypeError(
            "dataset is an IterableDataset, whose rows have no index: give it to the DataLoader itself, or iterate "
            "over dataset.with_format('arrow').iter(batch_size=8), whose tables the collator takes"
        )
    if kind.__name__ != "Dataset":
        splits = ", ".join(map(repr, data)) or "none"
        raise TypeError(f"dataset has splits ({splits}): expected one of them, as in dataset['train']")
    makes_rows = next((name for name in _ROWS if getattr(type(data), name) is not getattr(kind, name)), None)
    if makes_rows is not None:
        raise TypeError(
            f"dataset is a {type(data).__name__}, whose {makes_rows} is its own and would not be called: "
            "give it to the DataLoader itself"
        )
    if data.format["type"] == "custom":
        raise ValueError(
            "dataset has a transform (with_transform or set_transform), which would not be called: give it to the "
            "DataLoader itself, apply the transform once with map, or take the columns as they are stored with "
            "dataset.with_format(None)"
        )


_ROWS = ("__getitem__", "__getitems__", "_getitem")
"""What makes the rows of a data set."""


def _hint(data: Any) -> str:
    """What was expected instead, and the way to it."""
    expected = "expected a Hugging Face datasets.Dataset"
    if hugging_face(getattr(data, "dataset", None)) is not None:  # a Subset, of random_split for example
        return f"{expected}: wrap the data set before it is split, as in Subset(ArrowRows(dataset), indices)"
    if is_table(data):
        return f"{expected}, such as datasets.Dataset(pyarrow.table(data)); the collator takes tables as they are"
    return expected


def _chosen_columns(dataset: Any, columns: Any) -> tuple[str, ...]:
    there: tuple[str, ...] = tuple(dataset.column_names)
    if columns is None:
        chosen = dataset.format
        # In the order of the table, as the data set gives them.
        return tuple(name for name in there if chosen["output_all_columns"] or name in chosen["columns"])
    if isinstance(columns, str):
        raise TypeError(f"columns={columns!r}: expected a list of names")
    names = tuple(dict.fromkeys(columns))
    for name in names:
        check_column(name, there)
    return names


def check_column(name: object, there: Sequence[str]) -> None:
    """Raises a KeyError unless there is a column of that name."""
    if name not in there:
        raise KeyError(f"no column {name!r}: there are {', '.join(map(repr, there)) or 'none'}")
