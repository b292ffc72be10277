"""The chart of the loader bench."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from matplotlib.figure import Figure

from loader_ways import EMPTY, LIMIT, OURS

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.axes import Axes

    from loader import Result

COLOURS: Final = {OURS: "#c8553d", EMPTY: "#c9ced6", LIMIT: "#c9ced6"}
OTHERS: Final = "#6b7a8f"


def plot(path: Path, results: list[Result], facts: dict[str, str]) -> None:
    """Draw one panel for each case: milliseconds a batch, bars from zero, each panel with its own scale."""
    if not results:
        return
    figure = Figure(figsize=(12, 2.9), dpi=150, layout="constrained")
    figure.suptitle("From a DataLoader worker to the training process: milliseconds a batch (less is better)")
    panels = figure.subplots(1, len(results), squeeze=False)[0]
    for panel, result in zip(panels, results, strict=True):
        draw(panel, result)
    versions = ", ".join(f"{name} {value}" if name != "cpu" else value for name, value in facts.items())
    figure.supxlabel(
        f"1 worker; medians of one run; in brackets: as many times as long as {OURS}; {versions}",
        fontsize=8,
        color="#555555",
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


def draw(panel: Axes, result: Result) -> None:
    """Draw one case."""
    delivered = sorted(result.delivered, key=lambda name: result.median(name, "wall"))
    names = [*(name for name in (EMPTY, LIMIT) if name in result.readings), *delivered]
    times = [result.median(name, "wall") for name in names]
    labels = [f"{result.shown(name, 'wall')} ms" for name in names]
    for at, name in enumerate(names):
        if name in delivered and name != OURS:
            labels[at] += f" ({result.ratio(name, OURS, 'wall'):.1f}x)"
    bars = panel.barh(names, times, color=[COLOURS.get(name, OTHERS) for name in names], height=0.7)
    panel.bar_label(bars, labels, padding=3, fontsize=9)
    panel.set_title(result.case.title.replace(", each", ",\neach"), fontsize=9)
    panel.set_xlim(0, max(times) * 1.45)  # room for the numbers
    panel.set_xticks([])
    panel.tick_params(axis="y", length=0)
    panel.spines[["top", "right", "bottom"]].set_visible(False)
