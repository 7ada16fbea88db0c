"""Products of rows that are rounded to eight-bit integers, whose sums are exact."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import numpy as np

if TYPE_CHECKING:
    pass


Array = np.ndarray[Any, Any]
P = ParamSpec("P")
R = TypeVar("R")


def integer_products(query: Array, key: Array, scale: float) -> Array:
    """Scores (.., rows, keys) of query (.., rows, D) and key (.., keys, D), of which each row is
    rounded to integers by its own scale: a sum of products times (scale / the query row's * (1 /
    the key's))."""
    q, query_scales = quantise(query, np.float32(0))
    k, key_scales = quantise(key, np.float32(0))
    one = np.float32(1)
    return sums_of_integers(q, k.swapaxes(-1, -2)) * (
        (np.float32(scale) / query_scales) * (one / key_scales).swapaxes(-1, -2)
    )


def sums_of_integers(a: Array, b: Array) -> Array:
    """a @ b in float32. Far below 2^53, float64 holds the sums exactly, in any order."""
    return (a.astype(np.float64) @ b.astype(np.float64)).astype(np.float32)


def quantise(rows: Array, scale: np.float32) -> tuple[Array, Array]:
    """Rows (.., width) as integers -127 .. 127 (.., width), and what they were multiplied by
    (.., 1): `scale`, or if that is 0 a row's own. A row that is not finite has the scale NaN."""
    greatest = np.abs(rows).max(axis=-1, keepdims=True, initial=np.float32(2.0**-100))
    scales = np.full_like(greatest, scale) if scale else np.float32(127) / greatest
    finite = np.isfinite(rows).all(axis=-1, keepdims=True)
    q = np.rint(np.clip(rows * scales, -127, 127))
    return np.where(finite, q, np.float32(0)), np.where(finite, scales, np.float32(np.nan))
