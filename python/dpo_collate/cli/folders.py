"""Which files hold the data: a file, a folder of files, or what ``save_to_disk`` of ``datasets`` makes."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from .failure import Failure, reason

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

KINDS = {
    ".parquet": "Parquet",
    ".arrow": "Arrow",
    ".arrows": "Arrow",
    ".feather": "Arrow",
    ".ipc": "Arrow",
    ".jsonl": "JSON Lines",
    ".ndjson": "JSON Lines",
    ".json": "JSON Lines",
}
"""By suffix what a file is."""

DEFAULT_SPLIT = "train"


def kind_of(path: Path) -> str:
    """What a file is, by its suffix.

    Raises:
        Failure: Nobody knows.
    """
    if path.suffix.lower() not in KINDS:
        raise Failure(f"cannot read {path}: expected a file that ends in {_listed(KINDS, 'or')}, or a folder of such")
    return KINDS[path.suffix.lower()]


def files_of(path: Path, split: str | None) -> tuple[list[Path], str | None]:
    """The files of the data, in order, and the split that they are of, where there are splits.

    Raises:
        Failure: There are none, or no such split.
    """
    try:
        if path.is_dir():
            return _files_in(path, split)
        path.stat()
    except OSError as error:
        raise Failure(f"cannot read {path}: {reason(error)}") from error
    kind_of(path)
    if split is not None:
        raise Failure(f"{path} is one file: --split is for folders")
    return [path], None


def _files_in(folder: Path, split: str | None) -> tuple[list[Path], str | None]:
    if (folder / "dataset_dict.json").is_file():
        names = _names(_read(folder / "dataset_dict.json"), "splits")
        if names is None:
            raise Failure(f"cannot read {folder / 'dataset_dict.json'}: expected the names of splits")
        chosen = _chosen(folder, names, split)
        return _saved(folder / chosen), chosen
    if (folder / "state.json").is_file():
        if split is not None:
            raise Failure(f"{folder} is one data set without splits: leave --split out")
        return _saved(folder), None
    return _listed_in(folder, split)


def _saved(folder: Path) -> list[Path]:
    """The files that a folder made by ``save_to_disk`` names."""
    state = _read(folder / "state.json")
    files = state.get("_data_files") if isinstance(state, dict) else None
    names = [entry["filename"] for entry in files or () if isinstance(entry, dict) and "filename" in entry]
    if not names:
        raise Failure(f"cannot read {folder / 'state.json'}: it names no files")
    if state.get("_indices_data_files"):
        raise Failure(f"cannot read {folder}: its rows are chosen by another file; flatten_indices() writes them out")
    return [folder / str(name) for name in names]


def _listed_in(folder: Path, split: str | None) -> tuple[list[Path], str | None]:
    """The files that lie in a folder, by name."""
    files = sorted(
        path
        for path in folder.iterdir()
        # Hidden ones, and what `datasets` keeps of its own work, are no data.
        if path.suffix.lower() in KINDS and not re.match(r"[._]|cache-|dataset_info\.json$", path.name)
    )
    if not files:
        raise Failure(f"{folder} has no files that end in {_listed(KINDS, 'or')}")
    kinds = sorted({kind_of(path) for path in files})
    if len(kinds) > 1:
        raise Failure(f"{folder} has files of {_listed(kinds, 'and')}: name the files, or a folder of one kind")
    splits = {path: _split_of(path) for path in files}
    names = sorted({name for name in splits.values() if name is not None})
    if split is None and not names:
        return files, None
    others = [path.name for path in files if splits[path] is None]
    if split is None and others:
        raise Failure(f"{folder} has files of {_listed(names, 'and')}, but also {others[0]}: name a file, or a --split")
    chosen = _chosen(folder, names, split)
    return [path for path in files if splits[path] == chosen], chosen


def _split_of(path: Path) -> str | None:
    """The split that a name such as ``train-00000-of-00002.parquet`` or ``train.jsonl`` is of."""
    numbered = re.fullmatch(r"(?:.*-)?(\w+)-\d{5}-of-\d{5}", path.stem)
    return numbered[1] if numbered else path.stem if path.stem in _SPLITS else None


_SPLITS = {DEFAULT_SPLIT, "test", "validation", "valid", "val", "dev", "eval"}


def _chosen(folder: Path, names: list[str], split: str | None) -> str:
    wanted = split or (names[0] if len(names) == 1 else DEFAULT_SPLIT)
    if wanted in names:
        return wanted
    there = f"it has {_listed(names, 'and')}" if names else "it has none"
    if split is None:
        raise Failure(f"{folder} has several splits: choose one with --split ({there})")
    raise Failure(f"{folder} has no split {split!r}: {there}")


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise Failure(f"cannot read {path}: {reason(error)}") from error


def _names(value: Any, key: str) -> list[str] | None:
    names = value.get(key) if isinstance(value, dict) else None
    return names if isinstance(names, list) and names and all(isinstance(name, str) for name in names) else None


def _listed(names: Iterable[str], last: str) -> str:
    *others, final = names
    return f"{', '.join(others)} {last} {final}" if others else final
