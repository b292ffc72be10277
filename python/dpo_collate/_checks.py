"""What options and the fields of a table may be: each check raises a sentence that says what was expected."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


def check_choice(name: str, value: object, choices: Iterable[object]) -> None:
    """Raises a ValueError that names the allowed values, unless ``value`` is one of them."""
    choices = tuple(choices)
    if not any(value is choice or (type(value) is type(choice) and value == choice) for choice in choices):
        raise ValueError(f"{name}={value!r}: expected {' or '.join(repr(choice) for choice in choices)}")


def check_count(name: str, value: object, least: int) -> int:
    """The integer that ``value`` is. Raises a TypeError or ValueError unless it is one of at least ``least``."""
    count = _integer(name, value)
    if count < least:
        raise ValueError(f"{name}={value!r}: expected {least} or more")
    if count >= 1 << 62:
        raise ValueError(f"{name}={value!r}: expected less than 2**62")
    return count


def check_int64(name: str, value: object) -> int:
    """The integer that ``value`` is. Raises a TypeError or ValueError unless it is one of 64 bits."""
    number = _integer(name, value)
    if not -(1 << 63) <= number < 1 << 63:
        raise ValueError(f"{name}={value!r}: expected an integer of 64 bits")
    return number


def check_number(name: str, value: object) -> None:
    """Raises a TypeError or ValueError unless ``value`` is a float or an int of 64 bits."""
    if not isinstance(value, float):
        check_int64(name, value)


def _integer(name: str, value: object) -> int:
    """Python's integers, and NumPy's (a tokenizer may have those); a bool counts as neither."""
    if not isinstance(value, bool) and not getattr(value, "ndim", 0):
        try:
            return operator.index(value)  # type: ignore[arg-type]
        except TypeError:
            pass
    raise TypeError(f"{name}={value!r}: expected an integer")


def check_type(name: str, value: object, kind: type) -> None:
    """Raises a TypeError unless ``value`` is of that type."""
    if not isinstance(value, kind):
        raise TypeError(f"{name}={value!r}: expected a {kind.__name__}")


def check_tuple(name: str, value: object, kind: type) -> None:
    """Raises a TypeError unless ``value`` is a tuple of entries of that type."""
    if not isinstance(value, tuple):
        one = " (a tuple of one needs a comma)" if isinstance(value, kind) else ""
        raise TypeError(f"{name}={value!r}: expected a tuple of {kind.__name__}{one}")
    if not all(isinstance(entry, kind) for entry in value):
        raise TypeError(f"{name}={value!r}: expected a tuple of {kind.__name__}")
