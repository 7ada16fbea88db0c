"""Panels: sixteen rows of keys side by side, as a key-value cache and the kernel hold them."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

PANEL = 16


def unpacked(panels: Array) -> Array:
    """Panels (..., n, D, 16) as rows (..., n * 16, D)."""
    *lead, count, width, lanes = panels.shape
    return panels.swapaxes(-1, -2).reshape(*lead, count * lanes, width)
