"""The options that say what batches are: those of a collator, which all commands have."""

from __future__ import annotations

import inspect
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

import typer

from dpo_collate import ImageTokens, PreferenceCollator

from .failure import Failure, by_option

if TYPE_CHECKING:
    from collections.abc import Callable

LAYOUT = "Layout"
ROWS = "Rows"
IMAGES = "Images"
OUTPUT = "Output"

Source: TypeAlias = Annotated[
    Path,
    typer.Argument(
        metavar="DATA",
        show_default=False,
        help="A .parquet, .arrow or .jsonl file; a folder of such files; or a folder made by save_to_disk of datasets.",
    ),
]
Split: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="NAME", show_default=False, help="Which split of a folder; by default the only one, or train."
    ),
]


def widths(text: str) -> tuple[int, ...]:
    """Widths such as ``512,1024``."""
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise typer.BadParameter(f"{text!r}: expected widths, such as 512,1024") from None


def collator_of(  # noqa: PLR0913 - as many as a collator has
    *,
    layout: Annotated[
        Literal["separate", "concatenated", "interleaved", "prompt_left", "padding_free"],
        typer.Option(
            metavar="NAME",
            rich_help_panel=LAYOUT,
            help="What a batch is: separate, concatenated, interleaved, prompt_left or padding_free.",
        ),
    ] = "separate",
    inputs: Annotated[
        Literal["full", "split"] | None,
        typer.Option(
            metavar="FORM",
            rich_help_panel=LAYOUT,
            show_default=False,
            help="What rows have. full: chosen_input_ids, chosen_labels and the same of rejected (default); "
            "split: prompt_ids, chosen_ids, rejected_ids.",
        ),
    ] = None,
    targets: Annotated[
        Literal["labels", "completion_mask"] | None,
        typer.Option(
            metavar="NAME",
            rich_help_panel=LAYOUT,
            show_default=False,
            help="What a batch says of what is scored: labels or completion_mask.",
        ),
    ] = None,
    pad_token_id: Annotated[
        int,
        typer.Option("--pad-token-id", "--tokenizer-pad", metavar="ID", rich_help_panel=LAYOUT, help="Pads token ids."),
    ] = 0,
    label_pad_token_id: Annotated[
        int, typer.Option(metavar="ID", rich_help_panel=LAYOUT, help="Pads labels: what the loss ignores.")
    ] = -100,
    max_length: Annotated[
        int | None,
        typer.Option(metavar="N", rich_help_panel=ROWS, show_default=False, help="Longer rows are truncated."),
    ] = None,
    truncation_mode: Annotated[
        Literal["keep_start", "keep_end", "error"] | None,
        typer.Option(
            metavar="NAME",
            rich_help_panel=ROWS,
            show_default=False,
            help="How: keep_start (default), keep_end, or error: longer rows are problems.",
        ),
    ] = None,
    pad_to_multiple_of: Annotated[
        int | None,
        typer.Option(metavar="N", rich_help_panel=ROWS, show_default=False, help="Widths are rounded up to multiples."),
    ] = None,
    buckets: Annotated[
        Any,
        typer.Option(
            metavar="N,N,…",
            parser=widths,
            rich_help_panel=ROWS,
            show_default=False,
            help="Widths are rounded up to the next of these; a row that fits none is a problem.",
        ),
    ] = None,
    row_multiple_of: Annotated[
        int | None,
        typer.Option(metavar="N", rich_help_panel=ROWS, show_default=False, help="Rows are rounded up to multiples."),
    ] = None,
    images: Annotated[
        Literal["per_pair", "per_row", "per_side"] | None,
        typer.Option(
            metavar="NAME",
            rich_help_panel=IMAGES,
            show_default=False,
            help="How often images are sent: per_pair, per_row or per_side (as chosen_pixel_values and "
            "rejected_pixel_values).",
        ),
    ] = None,
    image_token: Annotated[
        int | None,
        typer.Option(
            metavar="ID",
            rich_help_panel=IMAGES,
            show_default=False,
            help="The token that stands for a part of an image: rows must have as many as their images ask for.",
        ),
    ] = None,
    per_tile: Annotated[
        int | None,
        typer.Option(
            metavar="N", rich_help_panel=IMAGES, show_default=False, help="Image tokens of a tile (InternVL: 256)."
        ),
    ] = None,
    per_grid: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            rich_help_panel=IMAGES,
            show_default=False,
            help="Or: how many patches of a side become one token (Qwen-VL's merge_size, 2).",
        ),
    ] = None,
) -> PreferenceCollator:
    """The collator that has these options.

    Raises:
        Failure: They make no sense.
    """
    tokens = None
    if image_token is None and (per_tile, per_grid) != (None, None):
        raise Failure("--per-tile and --per-grid say how many image tokens there are: expected --image-token as well")
    if image_token is not None and (per_tile, per_grid) == (None, None):
        raise Failure("--image-token needs --per-tile or --per-grid, which say how many an image takes")
    try:
        if image_token is not None:
            tokens = ImageTokens(image_token, per_tile=per_tile, per_grid=per_grid)
        return PreferenceCollator(
            layout,
            pad_token_id=pad_token_id,
            label_pad_token_id=label_pad_token_id,
            inputs=inputs,
            targets=targets,
            max_length=max_length,
            truncation_mode=truncation_mode,
            pad_to_multiple_of=pad_to_multiple_of,
            buckets=buckets,
            row_multiple_of=row_multiple_of,
            images=images,
            image_tokens=tokens,
            return_tensors="np",
        )
    except (TypeError, ValueError) as error:
        raise Failure(by_option(str(error))) from error


def with_collator(command: Callable[..., int]) -> Callable[..., int]:
    """A command that is given a ``collator``, with the options of one in its place."""
    of_collator = inspect.signature(collator_of, eval_str=True).parameters
    own = inspect.signature(command, eval_str=True).parameters

    @wraps(command)
    def run(**given: Any) -> int:
        collator = collator_of(**{name: given.pop(name) for name in of_collator})
        return command(collator=collator, **given)

    def in_place(name: str, parameter: inspect.Parameter) -> list[inspect.Parameter]:
        return [*of_collator.values()] if name == "collator" else [parameter]

    parameters = [new for name, parameter in own.items() for new in in_place(name, parameter)]
    parameters = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in parameters]
    vars(run)["__signature__"] = inspect.Signature(parameters)  # which typer reads
    return run


_SPLIT = ("prompt_ids", "chosen_ids", "rejected_ids")
_FULL = ("chosen_input_ids", "chosen_labels", "rejected_input_ids", "rejected_labels")
_APART = ("prompt_input_ids", "chosen_input_ids", "rejected_input_ids")
FORMS = {_SPLIT: "--layout {any} --inputs split", _FULL: "--layout {full}", _APART: "--layout prompt_left"}
"""What columns there may be, and the options that they fit."""


def not_fitting(collator: PreferenceCollator, columns: tuple[str, ...]) -> str | None:
    """What to say of columns that are not those of the options; None if all are there."""
    layout = str(collator.layout)
    wanted = _SPLIT if collator.inputs == "split" else _APART if layout == "prompt_left" else _FULL
    missing = [name for name in wanted if name not in columns]
    if not missing:
        return None
    given = f"--layout {layout}" + (f" --inputs {collator.inputs}" if collator.inputs else "")
    sentence = f"there is no column {missing[0]}, which {given} needs"
    for needed, options in FORMS.items():
        if set(needed) <= set(columns):
            fit = options.format(any=layout, full="separate" if layout == "prompt_left" else layout)
            return f"{sentence}; the columns that there are fit {fit}"
    if {"chosen", "rejected"} <= set(columns):
        return f"{sentence}; chosen and rejected, if they are text, have to be tokenized first"
    return f"{sentence}; there are {', '.join(columns) or 'none'}"
