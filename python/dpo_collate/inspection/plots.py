"""The findings as images."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from .figures import Inspection


def save(directory: Path, inspection: Inspection) -> list[Path]:
    """Writes a PNG image of each figure into the directory, which is made if need be.

    Returns:
        Their paths.

    Raises:
        ImportError: matplotlib is not installed.
        OSError: They cannot be written.

    Example:
        >>> import pathlib, tempfile
        >>> from dpo_collate.inspection import inspect
        >>> from dpo_collate.inspection.plots import save
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     [path.name for path in save(pathlib.Path(folder), inspect([[3, 2]], "separate"))][:2]
        ['lengths.png', 'padding_by_layout.png']
    """
    from .drawings import drawings, render  # noqa: PLC0415 - matplotlib is for those who draw

    directory.mkdir(parents=True, exist_ok=True)
    found = []
    for drawing in drawings(inspection):
        path = directory / f"{drawing.name}.png"
        drawing.figure.suptitle(drawing.title, x=0.01, ha="left", fontweight="bold", fontsize=10)
        render(drawing, path, dpi=200)
        found.append(path)
    return found
