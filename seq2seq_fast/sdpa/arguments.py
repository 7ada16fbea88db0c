"""Checks of a call's numbers and arrays: lengths, offsets, scale, `out`."""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ..contract.dtypes import as_array, compute_dtype
from ..contract.plan import KEYS, OFFSET, QUERIES, SPAN, Plan
from .overlap import overlaps_itself

Array = np.ndarray[Any, Any]
Shape = tuple[int, ...]


def finite(name: str, given: float, plan: Plan) -> float:
    if isinstance(given, (str, bytes)) or np.ndim(given) != 0 or np.iscomplexobj(given):
        raise TypeError(f"{name} must be a real number; got {given!r}")
    try:
        number = float(given)
    except (TypeError, ValueError):
        raise TypeError(f"{name} must be a real number; got {given!r}") from None
    dtype = compute_dtype(plan.dtype)
    with np.errstate(over="ignore"):
        if not np.isfinite(dtype.type(number)):
            raise ValueError(f"{name} must be finite in {dtype}; got {given!r}")
    return number


def integers(name: str, given: ArrayLike) -> Array:
    array = as_array(name, given)
    if array.size and array.dtype.kind not in "iu":
        raise TypeError(f"{name} must be integers; got {array.dtype}")
    return array


def spans_of(
    plan: Plan,
    causal: bool | str,
    query_offset: ArrayLike | None,
    key_lengths: ArrayLike | None,
    query_lengths: ArrayLike | None,
) -> Array:
    """For each index of the leading axes, (*lead, 6) int64: see contract.SPAN."""

    def checked(name: str, given: ArrayLike, least: int, most: int, most_is: str) -> Array:
        array = integers(name, given)
        fits = array.shape == plan.lead  # so it is in every step of a decoder
        if not fits:
            with contextlib.suppress(ValueError):
                fits = np.broadcast_shapes(array.shape, plan.lead) == plan.lead
        if not fits:
            raise ValueError(
                f"{name} must broadcast to the leading axes {plan.lead}; got shape {array.shape}"
            )
        if array.size and (array.min() < least or array.max() > most):
            raise ValueError(
                f"{name} must be from {least} to {most_is}; got {array.min()} to {array.max()}"
            )
        return array

    # A copy: nobody can change it once it is checked.
    spans = np.empty((*plan.lead, len(SPAN)), np.int64)
    spans[...] = plan.span
    if query_lengths is not None:
        most = f"the number of queries, {plan.queries}"
        spans[..., QUERIES] = checked("query_lengths", query_lengths, 0, plan.queries, most)
    if key_lengths is not None:
        most = f"the number of keys, {plan.keys}"
        spans[..., KEYS] = checked("key_lengths", key_lengths, 0, plan.keys, most)
    if causal == "bottom_right":
        spans[..., OFFSET] = spans[..., KEYS] - spans[..., QUERIES]
    if query_offset is not None:
        if isinstance(causal, str):
            raise ValueError(f"query_offset goes with causal=True; got causal={causal!r}")
        far = 1 << 48
        spans[..., OFFSET] = checked("query_offset", query_offset, -far, far, "2**48")
    return spans


def check_out(out: object, plan: Plan) -> None:
    if not isinstance(out, np.ndarray):
        raise TypeError(
            f"out must be a NumPy array; got {type(out).__name__}"
            + (": its memory is that of .numpy()" if hasattr(out, "numpy") else "")
        )
    if out.dtype != plan.dtype:
        raise TypeError(f"out must be {plan.dtype}; got {out.dtype}")
    if out.shape != plan.out_shape:
        raise ValueError(f"out must have the shape {plan.out_shape}; got {out.shape}")
    if not out.flags.writeable:
        raise ValueError("out is read-only")
    if overlaps_itself(out):
        raise ValueError(f"out overlaps itself: strides {out.strides}")
