"""The findings as one page that needs no other file and no network."""

from __future__ import annotations

import re
from html import escape
from importlib.resources import files
from io import StringIO
from typing import TYPE_CHECKING, Final

from .tables import facts, notes, share, tables
from .words import count, nbytes

if TYPE_CHECKING:
    from pathlib import Path

    from .drawings import Drawing
    from .figures import Inspection
    from .tables import Table

_TEXT: Final = "#010203"
_LINE: Final = "#040506"
"""Colours that figures are drawn in, to be found again: the page has its own, for light and for dark."""


_CODE: Final = re.compile(r"`([^`]+)`|\w+\(\w+=\d+\)|\w+=(?:\([^)]*\)|'[^']*'|\d+)")


def write(path: Path, inspection: Inspection, *, title: str = "Preference pairs") -> None:
    """Writes the page.

    Args:
        path: The file.
        inspection: What was found.
        title: What data it is about, such as a file name.

    Raises:
        ImportError: matplotlib is not installed.
        OSError: It cannot be written.

    Example:
        >>> import pathlib, tempfile
        >>> from dpo_collate.inspection import inspect
        >>> from dpo_collate.inspection.html import write
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = pathlib.Path(folder) / "pairs.html"
        ...     write(path, inspect([[3, 2]], "separate"), title="pairs.parquet")
        ...     "<h1>pairs.parquet</h1>" in path.read_text(encoding="utf-8")
        True
    """
    path.write_text(page(inspection, title=title), encoding="utf-8")


def page(inspection: Inspection, *, title: str = "Preference pairs") -> str:
    """The page as text."""
    from .drawings import Ink, drawings  # noqa: PLC0415 - matplotlib is for those who draw

    drawn = {each.name: each for each in drawings(inspection, Ink(_TEXT, _LINE))}
    sections = [_section(table, drawn.get(table.drawing)) for table in tables(inspection)]
    links = [
        ("what-to-do", "What to do"),
        *((table.key, table.title) for table in tables(inspection)),
        ("notes", "Notes"),
    ]
    contents = "".join(f'<li><a href="#{key}">{escape(text)}</a></li>' for key, text in links)
    style = files(__package__).joinpath("page.css").read_text(encoding="utf-8")
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{escape(title)}: padding of preference pairs</title>\n<style>\n{style}</style>\n</head>\n<body>\n"
        f"<header>\n<p class=kind>Padding of preference pairs</p>\n<h1>{escape(title)}</h1>\n"
        f"<p>{_marked(facts(inspection))}.</p>\n{_key_figures(inspection)}</header>\n"
        f'<nav aria-label="Contents"><ul>{contents}</ul></nav>\n<main>\n{_advice(inspection)}'
        f"{''.join(sections)}{_notes(inspection)}</main>\n</body>\n</html>\n"
    )


def _key_figures(found: Inspection) -> str:
    """The numbers that one looks for first."""
    shuffled, pairs = found.choice(), found.choice(way=found.proposed)
    figures = (
        (count(found.pairs), "pair" if found.pairs == 1 else "pairs"),
        (share(shuffled), "padding, shuffled"),
        (share(pairs), "padding, PairBatchSampler"),
        (nbytes(pairs.bytes_most), "largest batch"),
    )
    items = "".join(f"<div><dt>{_breakable(text)}</dt><dd>{escape(value)}</dd></div>" for value, text in figures)
    return f"<dl class=figures>{items}</dl>\n"


def _advice(found: Inspection) -> str:
    items = "".join(f"<li>{_marked(each.text)}</li>\n" for each in found.advice)
    return f'<section id="what-to-do">\n<h2>What to do</h2>\n<ol class=advice>\n{items}</ol>\n</section>\n'


def _marked(text: str) -> str:
    """Text whose names in backticks, and options with their values, are code."""
    pieces, end = [], 0
    for found in _CODE.finditer(text):
        pieces += [escape(text[end : found.start()]), _code(found[1] or found[0])]
        end = found.end()
    return "".join([*pieces, escape(text[end:])])


def _code(text: str) -> str:
    return f"<code>{escape(text)}</code>"


def _breakable(text: str) -> str:
    """Text that may be broken within names, and before a bracket."""
    return re.sub(r"(?<=[a-z])(?=[A-Z(])", "<wbr>", escape(text))


def _section(table: Table, drawing: Drawing | None) -> str:
    figure = "" if drawing is None else _figure(drawing)
    return (
        f'<section id="{table.key}">\n<h2>{escape(table.title)}</h2>\n<p>{_marked(table.text)}</p>\n{figure}'
        f"{_table(table)}</section>\n"
    )


def _table(table: Table) -> str:
    """A table that scrolls by itself where it is wider than the page."""
    heads = "".join(f"<th scope=col>{_breakable(name)}</th>" for name in table.columns)
    rows = "".join(
        f"<tr><th scope=row>{_breakable(first)}</th>{''.join(f'<td>{escape(cell)}</td>' for cell in rest)}</tr>\n"
        for first, *rest in table.rows
    )
    return (
        f'<div class=scroll role=region tabindex=0 aria-label="{escape(table.title)}, table">\n<table>\n'
        f"<thead><tr>{heads}</tr></thead>\n<tbody>\n{rows}</tbody>\n</table>\n</div>\n"
    )


def _figure(drawing: Drawing) -> str:
    return f"<figure>\n{svg(drawing)}\n</figure>\n"


def svg(drawing: Drawing) -> str:
    """The figure as an SVG element whose ids are its own, with the colours of the page."""
    from .drawings import SERIES, render  # noqa: PLC0415 - matplotlib is for those who draw

    text = StringIO()
    render(drawing, text, format="svg", transparent=True, metadata={"Date": None})
    body = text.getvalue()
    body = body[body.index("<svg") :]
    body = re.sub(r"<metadata>.*?</metadata>\s*|<!--.*?-->\s*", "", body, flags=re.DOTALL)
    body = re.sub(r'\s+(?:xmlns(?::xlink)?|version)="[^"]*"', "", body)
    body = body.replace("xlink:href", "href")
    body = re.sub(r'\bid="([^"]+)"', rf'id="{drawing.name}-\1"', body)
    body = re.sub(r'(url\(#|href="#)', rf"\g<1>{drawing.name}-", body)
    body = re.sub(r'width="[\d.]+pt" height="[\d.]+pt"', "", body, count=1)
    for index, colour in enumerate(SERIES):
        body = body.replace(colour, f"var(--series-{index})")
    body = body.replace(_TEXT, "currentColor").replace(_LINE, "var(--line)")
    return body.strip().replace("<svg", f'<svg role="img" aria-label="{escape(drawing.alt)}"', 1)


def _notes(found: Inspection) -> str:
    items = "".join(f"<li>{_marked(note)}</li>\n" for note in notes(found))
    return f'<section id="notes">\n<h2>Notes</h2>\n<ul>\n{items}</ul>\n</section>\n'
