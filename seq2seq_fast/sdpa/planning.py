"""A call's shapes, types and options become a Plan, or an error that names what is wrong."""

from __future__ import annotations

import functools
import math
import operator
from typing import Any, Literal

import numpy as np

from ..contract.dtypes import SUPPORTED, compute_dtype, is_supported
from ..contract.plan import UNBOUNDED, Plan

Array = np.ndarray[Any, Any]
Shape = tuple[int, ...]
Signature = tuple[Shape, np.dtype[Any]]
Causal = bool | Literal["top_left", "bottom_right"]
Window = tuple[int | None, int | None]

MAX_LEADING_AXES = 16


@functools.lru_cache(maxsize=1024)
def plan_of(
    query: Shape,
    key: Shape,
    value: Shape,
    query_dtype: np.dtype[Any],
    key_dtype: np.dtype[Any],
    value_dtype: np.dtype[Any],
    packed: bool,
    causal: bool | str,
    has_offset: bool,
    window: tuple[int, int] | None,
    mask: Signature | None,
    bias: Signature | None,
    sinks: Signature | None,
    ragged: tuple[int, Shape, Shape, Shape] | None = None,
    integer_scores: bool = False,
) -> Plan:
    """`ragged`: the number of sequences and the shapes of the operands, of which the first three
    arguments then have the longest sequence only."""
    for name, dtype in (("query", query_dtype), ("key", key_dtype), ("value", value_dtype)):
        if not is_supported(dtype):
            raise TypeError(f"{name} must be {SUPPORTED}; got {dtype}")
    if value_dtype != key_dtype:
        raise TypeError(f"value must have the key's dtype; got {value_dtype} and {key_dtype}")
    if compute_dtype(key_dtype) != compute_dtype(query_dtype):
        raise TypeError(f"float64 goes with float64 only; got query {query_dtype}, key {key_dtype}")
    for name, shape in (("query", query), ("key", key), ("value", value)):
        if len(shape) < 2:
            raise ValueError(f"{name} must have at least the axes (T, D); got shape {shape}")
        if len(shape) > MAX_LEADING_AXES + 3:
            raise ValueError(f"{name} has more than {MAX_LEADING_AXES} leading axes: {len(shape)}")
    if key[-1] != query[-1]:
        raise ValueError(f"key must have the query's width D; got shapes {key} and {query}")
    if value[-2] != key[-2]:
        raise ValueError(f"value must have as many rows Tk as key; got shapes {value} and {key}")

    def heads(shape: Shape) -> int:
        return shape[-3] if len(shape) > 2 else 1

    if heads(value) != heads(key):
        raise ValueError(f"value must have as many heads as key; got shapes {value} and {key}")
    if heads(query) != heads(key) and (heads(key) == 0 or heads(query) % heads(key)):
        raise ValueError(
            f"query's heads must be a multiple of key's; got {heads(query)} and {heads(key)}"
            f" in shapes {query} and {key}"
        )
    lead: Shape = query[:-3]
    for name, shape in (("key", key), ("value", value)):
        try:
            lead = np.broadcast_shapes(lead, shape[:-3])
        except ValueError:
            raise ValueError(
                f"{name}'s leading axes do not broadcast with the others;"
                f" got shapes {shape} and {query}"
            ) from None
    queries, keys = query[-2], key[-2]
    # Without a heads axis anywhere the results have none either.
    flat = len(query) == len(key) == len(value) == 2
    rows: Shape = (queries,) if flat else (*lead, heads(query), queries)
    pairs = (*rows, keys)
    if mask is not None:
        if mask[1] != np.bool_:
            raise TypeError(f"mask must be bool; got {mask[1]}")
        check_broadcast("mask", mask[0], pairs)
    bias_dtype = query_dtype
    if bias is not None:
        bias_dtype = taken_as("bias", bias[1], query_dtype)
        check_broadcast("bias", bias[0], pairs)
    if sinks is not None:
        taken_as("sinks", sinks[1], query_dtype)
        check_broadcast("sinks", sinks[0], (*lead, heads(query)))
    offset = _offset(causal, has_offset, packed, window is not None, queries, keys)
    left, right = window or (UNBOUNDED, UNBOUNDED)
    out_shape = (*rows, value[-1])
    if ragged is not None:
        sequences, query, key, value = ragged
        lead, out_shape = (sequences,), (*query[:-1], value[-1])
    return Plan(
        dtype=np.dtype(query_dtype),
        key_dtype=np.dtype(key_dtype),
        bias_dtype=np.dtype(bias_dtype),
        query_shape=query,
        key_shape=key,
        value_shape=value,
        packed=packed,
        integer_scores=integer_scores,
        ragged=ragged is not None,
        lead=lead,
        heads=heads(query),
        key_heads=heads(key),
        queries=queries,
        keys=keys,
        width=query[-1],
        value_width=value[-1],
        left=left,
        right=right if causal is False else min(right, 0),
        offset=offset,
        out_shape=out_shape,
        weights_shape=pairs,
        scale=1.0 / math.sqrt(query[-1]) if query[-1] else 1.0,
    )


def taken_as(name: str, dtype: np.dtype[Any], query: np.dtype[Any]) -> np.dtype[Any]:
    """What a bias of some dtype is rounded to: its own where it is of the query's compute type."""
    if not is_supported(dtype):
        raise TypeError(f"{name} must be {SUPPORTED}; got {dtype}")
    wanted = compute_dtype(query)
    return dtype if compute_dtype(dtype) == wanted else wanted


def check_broadcast(name: str, shape: Shape, to: Shape) -> None:
    try:
        fits = np.broadcast_shapes(shape, to) == to
    except ValueError:
        fits = False
    if not fits:
        raise ValueError(f"{name} must broadcast to {to}; got shape {shape}")


def checked_causal(causal: Causal | np.bool_) -> Causal:
    if isinstance(causal, np.bool_):
        return bool(causal)
    if not isinstance(causal, (bool, str)):
        raise TypeError(f"causal must be a bool or a name; got {causal!r}")
    return causal


def _offset(
    causal: bool | str, has_offset: bool, packed: bool, window: bool, queries: int, keys: int
) -> int:
    """Where query 0 stands among the keys, unless spans say so."""
    if causal not in (False, True, "top_left", "bottom_right"):
        raise ValueError(
            f"causal must be False, True, 'top_left' or 'bottom_right'; got {causal!r}"
        )
    if isinstance(causal, str):
        return keys - queries if causal == "bottom_right" else 0
    if (causal or window) and not has_offset and (packed or queries != keys):
        what = "causal=True" if causal else "window without causal"
        seen = "a KeyValueCache" if packed else f"{queries} and {keys}"
        raise ValueError(
            f"{what} needs query_offset, or as many queries as keys; got {seen}: say causal="
            "'top_left' (query i is at key i) or 'bottom_right' (the last query is at the last key)"
        )
    return 0


def checked_window(window: Window) -> tuple[int, int]:
    def bound(given: int | None) -> int:
        if given is None:
            return UNBOUNDED
        size = operator.index(given)
        if size < 0:
            raise ValueError
        return min(size, UNBOUNDED)

    try:
        left, right = window
        return bound(left), bound(right)
    except (TypeError, ValueError):
        raise ValueError(
            f"window must be two integers from 0, or None, (left, right); got {window!r}"
        ) from None
