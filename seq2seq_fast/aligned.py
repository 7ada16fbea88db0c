"""Arrays that begin with a cache line, so that none of the kernel's loads needs two of them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

CACHE_LINE = 64


def aligned_zeros(shape: tuple[int, ...], dtype: np.dtype[Any]) -> np.ndarray[Any, Any]:
    """np.zeros(shape, dtype), aligned."""
    size = math.prod(shape) * dtype.itemsize
    room = np.zeros(size + CACHE_LINE, np.uint8)
    start = -room.__array_interface__["data"][0] % CACHE_LINE
    return room[start : start + size].view(dtype).reshape(shape)
