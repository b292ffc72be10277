"""Writes the rows that are right into a file: whole, or not at all."""

from __future__ import annotations

import os
import secrets
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Self

import pyarrow as pa

from .failure import Failure, reason
from .files import is_stream
from .tables import Lines, LinesAsTable, Tables

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import numpy as np
    import numpy.typing as npt

    from .blocks import Block
    from .files import Data
    from .tables import Writer

SUFFIXES = (".parquet", ".arrow", ".jsonl")


class Cleaned:
    """A file that gets rows of the data: a context, at whose end it is there, or as before if an exception ends it.

    What is written lies beside it until then, under another name. Signals are exceptions, too (see ``app``).

    Raises:
        Failure: The file cannot be written, or is the data.
    """

    def __init__(self, path: Path, data: Data) -> None:
        self._path = path
        self._parts: list[Path] = []
        with self._writing():
            _check_place(path, data)
            with self._removing_on_error():
                self._writer = self._opened(data)

    def write(self, block: Block, good: npt.NDArray[np.bool_]) -> None:
        """Writes the rows of a block that are good."""
        with self._writing():
            self._writer.write(block, good)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        with self._writing(), self._removing_on_error():
            if kind is None:
                self._writer.finish()
                _sync(self._parts[0])
                self._parts[0].replace(self._path)
            else:
                with suppress(pa.ArrowException, OSError):  # it may be what the error is about
                    self._writer.close()
            self._remove()

    def _opened(self, data: Data) -> Writer:
        suffix = self._path.suffix.lower()
        part = self._part(suffix)
        if suffix == ".jsonl":
            return Lines(part)
        # Arrow has two forms: that of the data, if it is one of them.
        form = "Parquet" if suffix == ".parquet" else "stream" if is_stream(data.files[0]) else "file"
        if data.schema is None:
            return LinesAsTable(part, self._part(".jsonl"), form)
        return Tables(part, data.schema, form)

    def _part(self, suffix: str) -> Path:
        part = self._path.with_name(f".{self._path.name}.{secrets.token_hex(4)}.part{suffix}")
        self._parts.append(part)
        part.open("xb").close()
        return part

    def _remove(self) -> None:
        for part in self._parts:
            part.unlink(missing_ok=True)

    @contextmanager
    def _removing_on_error(self) -> Iterator[None]:
        try:
            yield
        except BaseException:
            self._remove()
            raise

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except (pa.ArrowException, OSError, Failure) as error:
            raise Failure(f"cannot write {self._path}: {reason(error)}") from error


def _check_place(path: Path, data: Data) -> None:
    if path.suffix.lower() not in SUFFIXES:
        raise Failure(f"expected a name that ends in {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}")
    if path.is_dir():
        raise Failure("it is a folder")
    if path.exists() and any(path.samefile(file) for file in data.files):
        raise Failure("it is the data that is read")
    if data.path.is_dir() and data.path.resolve() in path.resolve().parents:
        raise Failure(f"it would be one more file of the data in {data.path}")


def _sync(path: Path) -> None:
    """Waits until the disk has it: what a full one or a broken one says comes before the file takes its place."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
