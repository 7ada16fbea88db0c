"""Whether an array overlaps itself, so that writing one element changes another."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np


def overlaps_itself(array: np.ndarray[Any, Any]) -> bool:
    """Whether two elements of an array, of any shape and strides, share a byte. Exact."""
    if array.flags.c_contiguous:  # as every empty array is
        return False
    return _overlap(array.shape, array.strides, array.itemsize)


@functools.lru_cache(maxsize=1024)
def _overlap(shape: tuple[int, ...], strides: tuple[int, ...], itemsize: int) -> bool:
    """Cheap where the axes nest, as those of slices and transposes do. Else the addresses are
    sorted, of which there are no more than bytes from the first to the last."""
    axes = sorted((abs(step), n) for n, step in zip(shape, strides, strict=True) if n > 1)
    extent, count, nested = itemsize, 1, True  # bytes and elements of the axes so far
    for step, n in axes:
        nested = nested and step >= extent
        extent += step * (n - 1)
        count *= n
    if nested or count * itemsize > extent:
        return not nested
    addresses = np.zeros(1, np.int64)
    for step, n in axes:
        addresses = np.add.outer(addresses, step * np.arange(n)).ravel()
    addresses.sort()
    return bool((np.diff(addresses) < itemsize).any())
