"""JSON Lines: an object a line. Lines that cannot be read are problems of their rows, and no end of the run."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.json

from .blocks import Block
from .failure import Failure

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

TEXT_BYTES = 8 << 20
"""About how much text is read at once."""

_MARK = b"\xef\xbb\xbf"


class JsonLines:
    """A file of JSON Lines. Lines of white space do not count as rows."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._size = path.stat().st_size
        self.rows: int | None = None
        self.schema = None
        self.read = 0.0
        numbers, lines, _ = next(texts(path), ([], [], 0))
        if not lines:
            raise Failure(f"{path} is empty")
        if lines[0].startswith(b"["):
            raise Failure(
                f"cannot read {path}: it begins with '[', expected JSON Lines, an object a line; "
                f"jq -c '.[]' {path.name} > {path.stem}.jsonl makes them of an array"
            )
        block = block_of(lines, numbers)
        if len(block.unreadable) == len(block):
            raise Failure(f"cannot read {path}: {block.unreadable[0]}, and no line after it is better")
        self.columns = _columns(block)

    def blocks(self, columns: Sequence[str] | None) -> Iterator[Block]:  # noqa: ARG002 - lines are read whole
        """The rows, in order."""
        for numbers, lines, read in texts(self._path):
            yield block_of(lines, numbers)
            self.read = read / self._size


def texts(path: Path) -> Iterator[tuple[list[int], list[bytes], int]]:
    """A file in pieces: numbers of lines, from 1, lines that are not blank, and how many bytes have been read."""
    before = 0
    with path.open("rb") as file:
        while text := file.read(TEXT_BYTES) + file.readline():
            every = text.removeprefix(_MARK if before == 0 else b"").split(b"\n")
            stripped = [line.strip() for line in every]
            numbers = [number for number, line in enumerate(stripped, before + 1) if line]
            if numbers:
                yield numbers, [line for line in stripped if line], file.tell()
            before += len(every) - 1


def block_of(lines: list[bytes], numbers: Sequence[int]) -> Block:
    """The rows of lines: a ``pyarrow.RecordBatch`` where all are alike."""
    batch = _batch(lines)
    return as_dicts(lines, numbers) if batch is None else Block(batch, lines, numbers=numbers)


def as_dicts(lines: list[bytes], numbers: Sequence[int]) -> Block:
    """The rows of lines as dicts."""
    rows: list[dict[str, Any] | None] = []
    unreadable = {}
    for index, (line, number) in enumerate(zip(lines, numbers, strict=True)):
        try:
            rows.append(_row(line))
        except (ValueError, RecursionError) as error:
            rows.append(None)
            unreadable[index] = f"line {number} {_wrong(error)}"
    return Block(rows, lines, unreadable, numbers)


def _batch(lines: list[bytes]) -> Any:
    """A batch of the lines; None where Arrow's reader would make of a line what it is not, or fails."""
    try:
        table = parsed(lines)
    except pa.ArrowException:
        return None
    if (
        table is None
        or table.num_rows != len(lines)
        or not table.num_columns
        or any(_may_be_mixed(kind) for kind in table.schema.types)
    ):
        return None
    (batch,) = table.combine_chunks().to_batches()
    return batch


def parsed(lines: list[bytes], schema: Any = None) -> Any:
    """What Arrow's reader makes of lines: a ``pyarrow.Table``; None where they are nothing that it reads well.

    Raises:
        pyarrow.ArrowException: Values of a column are of different types, or not of the schema's.
    """
    text = b"\n".join(lines)
    # It takes objects that go over several lines, or stand in one, for rows; does not look at the encoding; and makes
    # empty lists, or arrays that are not valid, of null in a list.
    if not all(line.startswith(b"{") and line.endswith(b"}") for line in lines) or not _is_utf8(text):
        return None
    if re.search(rb"[\[,]\s*null", text):
        return None
    read = pa.json.ReadOptions(use_threads=False, block_size=len(text) + 1)
    return pa.json.read_json(pa.BufferReader(text), read, pa.json.ParseOptions(explicit_schema=schema))


def _may_be_mixed(kind: Any) -> bool:
    """Whether integers may have become floating-point numbers, since a list beside theirs has one."""
    return bool(pa.types.is_list(kind) and pa.types.is_floating(kind.value_type))


def _wrong(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"is no JSON: {error.msg} (column {error.colno})"
    if isinstance(error, UnicodeDecodeError):
        return f"is no UTF-8: byte {error.start + 1} is 0x{error.object[error.start]:02x}"
    if isinstance(error, RecursionError):
        return "is nested too deeply"
    return str(error) if isinstance(error, _LineError) else f"is no JSON: {error}"


class _LineError(ValueError):
    """What is wrong with a line that is JSON."""


def _is_utf8(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True


def _row(line: bytes) -> dict[str, Any]:
    row = json.loads(line.decode(), object_pairs_hook=_object)
    if not isinstance(row, dict):
        raise _LineError(f"is a {type(row).__name__}, expected an object")
    return row


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise _LineError(f"has {twice!r} twice")
    return made


def _columns(block: Block) -> tuple[str, ...]:
    if not isinstance(block.rows, list):
        return tuple(block.rows.schema.names)
    return tuple(dict.fromkeys(key for row in block.rows if row is not None for key in row))
