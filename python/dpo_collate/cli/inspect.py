"""``dpo-collate inspect``: what batches a data set makes, and what would be better."""

from __future__ import annotations

import re
from pathlib import Path  # noqa: TC003 - typer reads annotations
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import pyarrow as pa
import typer
from rich.console import Console

from dpo_collate import PreferenceCollator, inspection
from dpo_collate._behind import layout_of
from dpo_collate._token_rows import token_rows
from dpo_collate.datasets import lengths
from dpo_collate.inspection import html, plots, terminal

from .failure import Failure, by_option, reason
from .files import open_data
from .options import OUTPUT, Source, Split, not_fitting, with_collator
from .progress import watched
from .tiles import TILES, tiles_of

if TYPE_CHECKING:
    import numpy.typing as npt

    from .blocks import Block
    from .files import Data

BATCHES = "Batches"


@with_collator
def inspect(  # noqa: PLR0913 - as many as there are
    data: Source,
    *,
    collator: PreferenceCollator,
    split: Split = None,
    batch_size: Annotated[int, typer.Option(metavar="N", rich_help_panel=BATCHES, help="Pairs of a batch.")] = 8,
    max_tokens: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            rich_help_panel=BATCHES,
            show_default=False,
            help="Most tokens of a batch, padding included: batches by such a budget are looked at as well.",
        ),
    ] = None,
    tile_bytes: Annotated[
        int | None,
        typer.Option(
            metavar="N", rich_help_panel=BATCHES, show_default=False, help="Bytes of a tile, such as 3 * 448 * 448 * 4."
        ),
    ] = None,
    workers: Annotated[int, typer.Option(metavar="N", rich_help_panel=BATCHES, help="Workers of the DataLoader.")] = 2,
    prefetch: Annotated[
        int,
        typer.Option(metavar="N", rich_help_panel=BATCHES, help="Its prefetch_factor: batches that each makes ahead."),
    ] = 2,
    best_buckets: Annotated[
        int, typer.Option(metavar="N", rich_help_panel=BATCHES, help="Look for the best buckets, so many at most.")
    ] = 8,
    seed: Annotated[int, typer.Option(metavar="N", rich_help_panel=BATCHES, help="Draws the orders of pairs.")] = 0,
    html_file: Annotated[
        Path | None,
        typer.Option(
            "--html", metavar="FILE", rich_help_panel=OUTPUT, show_default=False, help="Write a page as well."
        ),
    ] = None,
    png_folder: Annotated[
        Path | None,
        typer.Option(
            "--png",
            metavar="FOLDER",
            rich_help_panel=OUTPUT,
            show_default=False,
            help="Draw the figures into a folder.",
        ),
    ] = None,
) -> int:
    """Say what batches a data set makes: padding, bytes, what is cut, and what would be better.

    Only lengths are looked at: a million pairs take seconds.

      dpo-collate inspect pairs.parquet --inputs split --batch-size 16
      dpo-collate inspect pairs.parquet --max-length 2048 --html report.html

    Exit statuses: 0 it is said, 2 it could not be.
    """
    opened = open_data(data, split)
    found, tiles, prompts = _read(opened, collator)
    try:
        result = inspection.inspect(
            found,
            collator,
            parts=None if prompts is None else {"prompt": prompts},
            tiles=tiles,
            tile_bytes=tile_bytes,
            batch_size=batch_size,
            max_tokens=max_tokens,
            workers=workers,
            prefetch=prefetch,
            buckets=best_buckets,
            seed=seed,
        )
    except ValueError as error:
        raise Failure(by_option(str(error))) from error
    terminal.show(Console(), result, title=opened.name)
    try:
        if html_file is not None:
            html.write(html_file, result, title=opened.name)
        if png_folder is not None:
            plots.save(png_folder, result)
    except (OSError, ImportError) as error:
        raise Failure(f"cannot write {html_file or png_folder}: {reason(error)}") from error
    return 0


def _read(
    data: Data, collator: PreferenceCollator
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64] | None, npt.NDArray[np.int64] | None]:
    """The lengths of all pairs, how many tiles each has, and how long prompts are, where rows say so."""
    keys = [key for row in token_rows(layout_of(collator)) for key in row.keys]
    media = [key for key in TILES if key in data.columns]
    wanted = dict.fromkeys([*keys, *media])
    sentence = not_fitting(collator, data.columns)
    if sentence is not None:
        raise Failure(f"cannot inspect {data.path}: {sentence}")
    found, tiles, prompts = [], [], []
    before = 0
    for block in watched(data, data.blocks(list(wanted))):
        rows = _table(block, list(wanted))
        try:
            found.append(lengths(rows, collator))
        except (KeyError, TypeError, ValueError) as error:
            raise Failure(f"{_numbered(error.args[0], before)}; dpo-collate check finds all such rows") from error
        tiles.append(tiles_of(rows))
        if collator.inputs == "split":
            prompts.append(lengths(rows, "prompt_left", inputs="split")[:, 0])
        before += len(block)
    return np.concatenate(found), np.concatenate(tiles) if media else None, np.concatenate(prompts) if prompts else None


def _table(block: Block, columns: list[str]) -> Any:
    """The rows of a block as a table of these columns."""
    if not isinstance(block.rows, list):
        return block.rows
    for sentence in block.unreadable.values():
        raise Failure(f"{sentence}; dpo-collate check finds all such rows")
    try:
        return pa.Table.from_pylist([{key: row.get(key) for key in columns} for row in block.rows])
    except pa.ArrowException as error:
        raise Failure(f"lines differ in what they have: {reason(error)}; dpo-collate check says which") from error


def _numbered(sentence: str, before: int) -> str:
    """A sentence that counts rows from the first of the data, not of the block."""
    return re.sub(r"^sample (\d+)", lambda match: f"row {before + int(match[1])}", sentence)
