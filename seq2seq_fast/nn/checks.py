"""Checks of a model's parts against each other, and of what a model is given."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import contract

Array = np.ndarray[Any, Any]


def must_equal(what: str, *numbers: int) -> None:
    """Raises ValueError unless widths that have to fit each other do."""
    if len(set(numbers)) > 1:
        raise ValueError(f"{what} do not fit each other: {numbers}")


def must_be_known(activation: str) -> None:
    """Raises ValueError unless there is such an activation."""
    if activation not in contract.ACTIVATIONS:
        raise ValueError(f"activation {activation!r} is not known")


def checked_ids(ids: Array, size: int, name: str) -> Array:
    """Themselves, if they are integers from 0 to size - 1."""
    if ids.dtype.kind not in "iu":
        raise TypeError(f"{name} must be integers; got {ids.dtype}")
    if ids.size and (ids.min() < 0 or ids.max() >= size):
        raise ValueError(f"{name} must be from 0 to {size - 1}; got {ids.min()} to {ids.max()}")
    return ids


def check_widths(name: str, width: int, layers: Sequence[Any], norm: Any) -> None:
    """Raises ValueError unless all layers, of which there are some, and the norm have a width."""
    if not layers:
        raise ValueError(f"{name} must have a layer")
    norms = () if norm is None else (norm.gamma.size,)
    every = (layer.feed_forward.width for layer in layers)
    must_equal(f"widths of {name}", width, *every, *norms)
