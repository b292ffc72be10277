"""Writes rows: as Parquet, as Arrow, as JSON Lines."""

from __future__ import annotations

import datetime as dt
import json
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol

import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet

from .failure import Failure
from .json_lines import parsed, texts

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    import numpy.typing as npt

    from .blocks import Block

GROUP_BYTES = 128 << 20
"""About how large a row group of Parquet is, as it is in memory."""


class Writer(Protocol):
    """Writes rows of blocks into a file."""

    def write(self, block: Block, good: npt.NDArray[np.bool_]) -> None:
        """Writes the rows that are good."""
        ...

    def finish(self) -> None:
        """Writes what is left, and closes the file."""
        ...

    def close(self) -> None:
        """Closes the file, whatever is in it."""
        ...


class Tables:
    """Writes record batches: as ``"Parquet"``, or in one of Arrow's forms, ``"file"`` and ``"stream"``."""

    def __init__(self, path: Path, schema: Any, form: str) -> None:
        self._schema = schema
        self._rows: list[Any] = []
        self._bytes = 0
        self._group = GROUP_BYTES if form == "Parquet" else 0
        self._sink = pa.OSFile(str(path), "wb")
        make = {"Parquet": pa.parquet.ParquetWriter, "stream": pa.ipc.new_stream, "file": pa.ipc.new_file}[form]
        self._writer = make(self._sink, schema)

    def write(self, block: Block, good: npt.NDArray[np.bool_]) -> None:
        """Writes the rows of a batch that are good."""
        self.add(block.rows if good.all() else block.rows.filter(pa.array(good)))

    def add(self, batch: Any) -> None:
        """Writes a batch."""
        self._rows.append(batch if batch.schema.equals(self._schema) else self._as_first(batch))
        self._bytes += batch.nbytes
        if self._bytes >= self._group:
            self._flush()

    def _as_first(self, batch: Any) -> Any:
        if set(batch.schema.names) != set(self._schema.names):
            different = sorted(set(batch.schema.names) ^ set(self._schema.names))
            raise Failure(f"cannot write one file of files that have other columns: {', '.join(different)}")
        return batch.select(self._schema.names).cast(self._schema)

    def _flush(self) -> None:
        table = pa.Table.from_batches(self._rows, self._schema)
        if table.num_rows:
            # A row group each; Arrow's writers keep the batches as they are.
            self._writer.write_table(table, *([table.num_rows] if self._group else []))
        self._rows, self._bytes = [], 0

    def finish(self) -> None:
        """Writes what is left, and closes the file."""
        self._flush()
        self._writer.close()
        self._sink.close()

    def close(self) -> None:
        """Closes the file, whatever is in it."""
        try:
            self._writer.close()
        finally:
            self._sink.close()


class Lines:
    """Writes JSON Lines: lines as they were, and an object for each row of a batch."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb")

    def write(self, block: Block, good: npt.NDArray[np.bool_]) -> None:
        """Writes the rows that are good."""
        if block.lines is None:
            rows = block.rows if good.all() else block.rows.filter(pa.array(good))
            lines = [_line(row) for row in rows.to_pylist()]
        else:
            lines = [line for line, is_good in zip(block.lines, good.tolist(), strict=True) if is_good]
        self._file.writelines(line + b"\n" for line in lines)

    def finish(self) -> None:
        """Writes what is left, and closes the file."""
        self._file.close()

    close = finish


class LinesAsTable:
    """Writes JSON Lines, of which it makes a table in the end: no type of a column is certain before the last line."""

    def __init__(self, path: Path, lines: Path, form: str) -> None:
        self._path, self._lines_path, self._form = path, lines, form
        self._lines = Lines(lines)
        self.write = self._lines.write
        self.close = self._lines.close

    def finish(self) -> None:
        """Makes the table."""
        self._lines.finish()
        schema = pa.schema([])
        for _, lines, _ in texts(self._lines_path):
            found = _with_text(_parsed(lines).schema)
            schema = pa.unify_schemas([schema, found], promote_options="permissive")
        tables = Tables(self._path, schema, self._form)
        try:
            for _, lines, _ in texts(self._lines_path):
                for batch in _parsed(lines, schema).to_batches():
                    tables.add(batch)
            tables.finish()
        except BaseException:
            with suppress(pa.ArrowException, OSError):  # it may be what the error is about
                tables.close()
            raise


def _parsed(lines: list[bytes], schema: Any = None) -> Any:
    table = parsed(lines, schema)
    if table is not None:
        return table
    rows = [json.loads(line) for line in lines]
    if schema is not None:
        return pa.Table.from_pylist(rows, schema)
    keys = dict.fromkeys(key for row in rows for key in row)
    return pa.table({key: pa.array([row.get(key) for row in rows]) for key in keys})


def _with_text(schema: Any) -> Any:
    """Dates stay the text that they were in the lines."""
    return pa.schema([field.with_type(_text(field.type)) for field in schema])


def _text(kind: Any) -> Any:
    if pa.types.is_timestamp(kind):
        return pa.string()
    if pa.types.is_list(kind):
        return pa.list_(_text(kind.value_type))
    if pa.types.is_struct(kind):
        return pa.struct([field.with_type(_text(field.type)) for field in kind])
    return kind


def _line(row: dict[str, Any]) -> bytes:
    return json.dumps(row, ensure_ascii=False, default=_plain).encode()


def _plain(value: Any) -> str:
    if isinstance(value, dt.date | dt.time):
        return value.isoformat()
    raise Failure(f"JSON has no form for {type(value).__name__}, which a column has: .parquet and .arrow take it")
