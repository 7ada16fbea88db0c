"""Sums and products whose order is stated: see the package's docstring."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import numpy as np

if TYPE_CHECKING:
    pass


Array = np.ndarray[Any, Any]
P = ParamSpec("P")
R = TypeVar("R")


BLOCK = 256  # the terms of one block of a sum


LANES = 16  # the lanes of a row sum


CACHED = 1 << 16  # elements of an array that is to stay in the cache


def ordered_matmul(a: Array, b: Array, taking_part: Array | None = None) -> Array:
    """Matrix product whose every element is an ordered sum.

    a (..., rows, depth), b (..., depth, cols) give (..., rows, cols); leading axes broadcast.
    Where `taking_part` (..., rows, depth) is False the term is left out: it may be NaN.
    """
    rows, cols = a.shape[-2], b.shape[-1]
    if rows > cols:  # the longer axis innermost; x * y is y * x
        b, a = a.swapaxes(-1, -2), b.swapaxes(-1, -2)
        swapped = None if taking_part is None else taking_part.swapaxes(-1, -2)
        return _ordered_product(a, b, None, swapped).swapaxes(-1, -2)
    return _ordered_product(a, b, taking_part, None)


def _ordered_product(a: Array, b: Array, in_a: Array | None, in_b: Array | None) -> Array:
    """ordered_matmul with the part-taking terms given on a's or on b's side."""
    (rows, depth), cols = a.shape[-2:], b.shape[-1]
    lead = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    product = np.empty((*lead, rows, cols), a.dtype)
    if product.size == 0:
        return product
    b = np.ascontiguousarray(b)
    col_step = min(cols, CACHED)
    row_step = max(1, CACHED // (math.prod(lead) * col_step))
    for row in range(0, rows, row_step):
        for col in range(0, cols, col_step):
            r, c = slice(row, row + row_step), slice(col, col + col_step)
            total = product[..., r, c]
            total[...] = 0
            block, term = np.empty_like(total), np.empty_like(total)
            for start in range(0, depth, BLOCK):
                block[...] = 0
                for k in range(start, min(start + BLOCK, depth)):
                    np.multiply(a[..., r, k : k + 1], b[..., k : k + 1, c], out=term)
                    if in_a is not None:
                        np.copyto(term, 0, where=~in_a[..., r, k : k + 1])
                    if in_b is not None:
                        np.copyto(term, 0, where=~in_b[..., k : k + 1, c])
                    np.add(block, term, out=block)
                np.add(total, block, out=total)
    return product


def row_sum(x: Array) -> Array:
    """Row sums of the last axis, which stays as length 1: x (..., n) gives (..., 1)."""
    n = x.shape[-1]
    blocks = -(-n // BLOCK)
    padded = np.zeros((*x.shape[:-1], blocks * BLOCK), x.dtype)
    padded[..., :n] = x
    terms = padded.reshape(*x.shape[:-1], blocks, BLOCK // LANES, LANES)
    lanes = np.zeros((*x.shape[:-1], blocks, LANES), x.dtype)
    for i in range(BLOCK // LANES):
        lanes = lanes + terms[..., i, :]
    half = LANES // 2
    while half:
        lanes = lanes[..., :half] + lanes[..., half : 2 * half]
        half //= 2
    total = np.zeros((*x.shape[:-1], 1), x.dtype)
    for i in range(blocks):
        total = total + lanes[..., i, :]
    return total
