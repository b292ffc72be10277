"""Opens data: a file of Parquet, Arrow or JSON Lines, or several, read in blocks that do not fill the memory."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet

from .blocks import BLOCK_BYTES, Block, rows_in, sliced
from .failure import Failure, reason
from .folders import files_of, kind_of
from .json_lines import JsonLines

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path


class Part(Protocol):
    """One file.

    Attributes:
        rows: How many rows it has; None where that is not known before they are read.
        schema: The types of its columns, with its metadata; None of JSON Lines.
        columns: Their names; of JSON Lines those of the first block.
        read: How much of it has been read, of 1.
    """

    rows: int | None
    schema: Any
    columns: tuple[str, ...]
    read: float

    def blocks(self, columns: Sequence[str] | None) -> Iterator[Block]:
        """The rows, in order."""
        ...


class Data:
    """Files, one after the other.

    Attributes:
        path: What the user named.
        name: The same, and which split it is.
        files: The files.
        rows: How many rows there are; None where that is not known before they are read.
        columns: The names of the columns of the first file.
        schema: Their types, with the metadata of that file; None of JSON Lines.
        size: Bytes of all files.
    """

    def __init__(self, path: Path, parts: dict[Path, Part], split: str | None = None) -> None:
        self.path = path
        self.name = str(path) if split is None else f"{path} ({split})"
        self.files = tuple(parts)
        first = next(iter(parts.values()))
        rows = [part.rows for part in parts.values()]
        self.rows = None if None in rows else sum(filter(None, rows))
        self.columns, self.schema = first.columns, first.schema
        self._parts = parts
        self._sizes = {file: file.stat().st_size for file in parts}
        self.size = sum(self._sizes.values())

    @property
    def read(self) -> int:
        """About how many bytes have been read."""
        return round(sum(part.read * self._sizes[file] for file, part in self._parts.items()))

    def blocks(self, columns: Sequence[str] | None = None) -> Iterator[Block]:
        """The rows of all files, in order.

        Args:
            columns: Which columns; None: all. (Lines are read whole.)

        Raises:
            Failure: A file cannot be read, or none has rows.
        """
        any_rows = False
        for file, part in self._parts.items():
            with _reading(file):
                for block in part.blocks(columns):
                    any_rows = True
                    yield block
            part.read = 1.0
        if not any_rows:
            raise Failure(f"{self.path} has no rows")


def open_data(path: Path, split: str | None = None) -> Data:
    """Opens a file, or a folder of files.

    Raises:
        Failure: It is not there, cannot be read, or has no such split.
    """
    parts: dict[Path, Part] = {}
    files, chosen = files_of(path, split)
    for file in files:
        with _reading(file):
            parts[file] = _OPENED[kind_of(file)](file)
    return Data(path, parts, chosen)


@contextmanager
def _reading(file: Path) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError, ValueError, NotImplementedError) as error:
        raise Failure(f"cannot read {file}: {reason(error)}") from error


class _Parquet:
    def __init__(self, path: Path) -> None:
        self._file = pa.parquet.ParquetFile(path)
        self.rows: int | None = self._file.metadata.num_rows
        self.schema = self._file.schema_arrow
        self.columns = tuple(self.schema.names)
        self.read = 0.0

    def blocks(self, columns: Sequence[str] | None) -> Iterator[Block]:
        metadata = self._file.metadata
        for index in range(metadata.num_row_groups):
            group = metadata.row_group(index)
            # Pages are decoded when a batch asks for them. What they take then is known when they are there: the size
            # that the file says is that of encoded values.
            rows = rows_in(BLOCK_BYTES // 4, group.num_rows, group.total_byte_size)
            for batch in self._file.iter_batches(batch_size=rows, row_groups=[index], columns=columns):
                yield from sliced(batch, BLOCK_BYTES)
                self.read += batch.num_rows / metadata.num_rows


class _ArrowFile:
    def __init__(self, path: Path) -> None:
        self._reader = pa.ipc.open_file(pa.memory_map(str(path)))
        self.schema = self._reader.schema
        self.columns = tuple(self.schema.names)
        numbers = range(self._reader.num_record_batches)
        self.rows: int | None = sum(self._reader.get_batch(number).num_rows for number in numbers)
        self.read = 0.0

    def blocks(self, columns: Sequence[str] | None) -> Iterator[Block]:
        for number in range(self._reader.num_record_batches):
            yield from sliced(_selected(self._reader.get_batch(number), columns), BLOCK_BYTES)
            self.read = (number + 1) / self._reader.num_record_batches


class _ArrowStream:
    """What ``datasets`` writes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with pa.memory_map(str(path)) as source, pa.ipc.open_stream(source) as reader:
            self.schema = reader.schema
        self.columns = tuple(self.schema.names)
        self.rows: int | None = None
        self.read = 0.0

    def blocks(self, columns: Sequence[str] | None) -> Iterator[Block]:
        with pa.memory_map(str(self._path)) as source, pa.ipc.open_stream(source) as reader:
            for batch in reader:
                yield from sliced(_selected(batch, columns), BLOCK_BYTES)
                self.read = source.tell() / source.size()


def _selected(batch: Any, columns: Sequence[str] | None) -> Any:
    return batch if columns is None else batch.select(list(columns))


def _arrow(path: Path) -> Part:
    with path.open("rb") as file:
        begin = file.read(6)
    if not begin:
        raise Failure(f"{path} is empty")
    return _ArrowFile(path) if begin == b"ARROW1" else _ArrowStream(path)


def is_stream(path: Path) -> bool:
    """Whether a file of Arrow's has the form of a stream."""
    return kind_of(path) == "Arrow" and isinstance(_arrow(path), _ArrowStream)


def _parquet(path: Path) -> Part:
    if path.stat().st_size == 0:
        raise Failure(f"{path} is empty")
    return _Parquet(path)


_OPENED: dict[str, Callable[[Path], Part]] = {"Parquet": _parquet, "Arrow": _arrow, "JSON Lines": JsonLines}
