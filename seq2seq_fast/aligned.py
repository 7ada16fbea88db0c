"""Arrays as the kernel needs them in memory: aligned to their type, and to cache lines if they are
made here, so that none of its loads needs two of them."""

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


def contiguous(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The array, or a copy where it is not C-contiguous, or begins where its type must not: NumPy
    calls an array contiguous that lies at an odd address, and C cannot read it there."""
    flags = array.flags
    return array if flags.c_contiguous and flags.aligned else array.copy(order="C")


def in_place(array: np.ndarray[Any, Any]) -> bool:
    """Whether the kernel can read or write `array` where it lies: aligned, last axis contiguous."""
    return bool(
        array.flags.aligned
        and (array.shape[-1] <= 1 or array.strides[-1] == array.itemsize or array.size == 0)
    )
