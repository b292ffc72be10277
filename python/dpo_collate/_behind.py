"""The collator, and the table, behind whatever makes batches.

A drop-in is a function, or an object, that comes to its collator when it is called, out of its present attributes. So
it is called, with no samples and the question on: the collator that it comes to answers instead of collating. That is
so for any function that hands its samples to a collator, too.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ._asking import Answer, asking
from .collator import PreferenceCollator
from .layout import Layout
from .named import NAMES, named

if TYPE_CHECKING:
    from .named import Inputs


def layout_of(layout: Any, inputs: Inputs | None = None) -> Layout:
    """The table of the layout that is meant, with the least width that a drop-in asks for.

    Args:
        layout: The name of a layout, a :class:`Layout`, a collator, a drop-in, or a function that calls one of them.
        inputs: What samples have, of a named layout.

    Raises:
        TypeError: It is nothing of the kind.
        ValueError: There is no such layout, or ``inputs`` makes no sense with it.
    """
    if isinstance(layout, str):
        return named(layout, inputs)
    if isinstance(layout, Layout):
        table, least = layout, 0
    else:
        answer = behind(layout, f"{', '.join(map(repr, NAMES))}, a dpo_collate.layout.Layout, ")
        table, least = answer.collator._table, answer.min_length  # noqa: SLF001 - of this package
    if inputs is not None:
        raise ValueError(f"inputs={inputs!r}: only a named layout has forms to choose from")
    return _at_least(table, least) if least else table


def _at_least(table: Layout, width: int) -> Layout:
    """The table whose matrices are at least so wide."""
    lengths = (replace(old, min_length=max(old.min_length, width)) for old in (each.length for each in table.matrices))
    matrices = (replace(matrix, length=length) for matrix, length in zip(table.matrices, lengths, strict=True))
    return replace(table, matrices=tuple(matrices))


def behind(collator: Any, others: str = "") -> Answer:
    """The collator that makes its batches, and their least width.

    Args:
        collator: A collator, or whatever calls one.
        others: What else might have been given, as messages list it.

    Raises:
        TypeError: It comes to no collator of ours, as far as one can see.
    """
    if isinstance(collator, PreferenceCollator):
        return Answer(collator, 0)
    why = ""
    if callable(collator) and not isinstance(collator, type):
        reset = asking.set(True)
        try:
            collator([])
        except Answer as answer:
            return answer
        except Exception as error:  # noqa: BLE001 - whatever a function of somebody else does with no samples
            why = f" (called with no samples, it raises {type(error).__name__}: {error})"
        finally:
            asking.reset(reset)
    raise TypeError(
        f"{collator!r}: expected {others}a PreferenceCollator, a drop-in, or a function that calls one{why}"
    )
