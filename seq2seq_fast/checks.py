"""Checks of values that the package is given: each names what it is of, what was expected and what
was given. A wrong type is a TypeError, a value that makes no sense a ValueError."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


def integer(name: str, given: Any, least: int, most: int | None = None) -> int:
    """It as an int, if it is an integer of Python's or NumPy's from `least` to `most`."""
    if isinstance(given, bool) or not isinstance(given, (int, np.integer)):
        raise TypeError(f"{name} must be an integer; got {shown(given)}")
    if given < least or (most is not None and given > most):
        expected = f"at least {least}" if most is None else f"from {least} to {_power(most)}"
        raise ValueError(f"{name} must be {expected}; got {shown(given)}")
    return int(given)


def number(name: str, given: Any, least: float, most: float) -> float:
    """It as a float, if it is a real number of Python's or NumPy's from `least` to `most`."""
    if isinstance(given, bool) or not isinstance(given, (int, float, np.integer, np.floating)):
        raise TypeError(f"{name} must be a number; got {shown(given)}")
    # NumPy's would be compared in their own type. An integer of Python's may be no float.
    value = given if isinstance(given, int) else float(given)
    if not least <= value <= most:  # so for NaN, too
        raise ValueError(f"{name} must be from {least:g} to {most:g}; got {shown(given)}")
    return float(value)


def flag(name: str, given: Any) -> bool:
    """It as a bool, if it is one of Python's or NumPy's."""
    if not isinstance(given, (bool, np.bool_)):
        raise TypeError(f"{name} must be True or False; got {shown(given)}")
    return bool(given)


def shown(given: Any) -> str:
    """A short repr for a message, whatever it is."""
    try:
        text = repr(given)
    except Exception:  # an integer of too many digits, say
        text = f"<{type(given).__name__}>"
    return text if len(text) <= 60 else f"{text[:57]}..."


def _power(most: int) -> str:
    """A bound, as one reads it."""
    for bound in (most, most + 1):
        if bound > 1 << 32 and bound & (bound - 1) == 0:
            return f"2**{bound.bit_length() - 1}" + (" - 1" if bound > most else "")
    return str(most)


def sequence(name: str, given: Any, of: str) -> Any:
    """It, if it has a length and elements in order."""
    listed = isinstance(given, Sequence) and not isinstance(given, (str, bytes))
    if not listed and not (isinstance(given, np.ndarray) and given.ndim):
        raise TypeError(f"{name} must be a sequence of {of}; got {shown(given)}")
    return given


def token_ids(name: str, given: Any) -> Array:
    """Token ids as an array, if they are that."""
    try:
        array = np.asarray(sequence(name, given, "integers"))
    except ValueError:  # of sequences that differ in length
        array = np.empty(0, object)
    if array.ndim != 1 or (array.dtype.kind not in "iu" and len(given)):
        what = array.dtype if array.ndim == 1 and array.dtype != object else shown(given)
        raise TypeError(f"{name} must be integers; got {what}")
    return array
