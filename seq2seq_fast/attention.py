"""attention(): what its arguments mean, and every check of them.

A call's shapes and dtypes are checked once and remembered as a Plan, so that the next call of the
same shapes pays for a look-up only. Then one of the two backends computes: native.attention or
reference.attention. They take the same arguments and give the same bits.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from . import native, reference, runtime

__all__ = ["attention"]

Array = np.ndarray[Any, Any]
Shape = tuple[int, ...]

FLOATS = (np.dtype(np.float32), np.dtype(np.float64))
MOST_LEADING_AXES = 16


@dataclass(frozen=True, eq=False)
class Plan:
    """The checked shapes of a call. Compared by identity, which makes it a cheap key."""

    dtype: np.dtype[Any]
    query_shape: Shape
    key_shape: Shape
    value_shape: Shape
    lead: Shape  # the leading axes, broadcast
    heads: int
    key_heads: int
    queries: int
    keys: int
    width: int
    value_width: int
    causal_offset: int | None  # query i sees the keys j <= i + causal_offset; None: all
    out_shape: Shape
    weights_shape: Shape
    scale: float  # the default


def attention(
    query: ArrayLike,
    key: ArrayLike,
    value: ArrayLike,
    *,
    scale: float | None = None,
    mask: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    causal: bool | Literal["top_left", "bottom_right"] = False,
    key_lengths: ArrayLike | None = None,
    return_weights: bool = False,
    out: Array | None = None,
) -> Any:
    """Scaled dot-product attention, ``softmax(query @ key.T * scale + bias) @ value``, fused.

    The result is defined to the bit (see ``seq2seq_fast/reference.py``): it does not depend on
    backend, instruction set, threads, batch, padding or memory layout.

    Parameters
    ----------
    query : array_like, shape (..., Hq, Tq, D) or (Tq, D)
    key : array_like, shape (..., Hk, Tk, D) or (Tk, D)
    value : array_like, shape (..., Hk, Tk, Dv) or (Tk, Dv)
        float32 or float64, all three the same. Hq is a multiple of Hk (grouped-query attention:
        query head h reads key head ``h // (Hq // Hk)``). Leading axes broadcast. Any strides; no
        copy is made where the last axis is contiguous.
    scale : float, optional
        Multiplies the scores; ``1 / sqrt(D)`` if None (1 if D is 0).
    mask : array_like of bool, optional, broadcastable to (..., Hq, Tq, Tk)
        True where a query may attend to a key.
    bias : array_like, optional, broadcastable to (..., Hq, Tq, Tk)
        Added to the scaled scores; of the query's dtype. -inf hides the pair.
    causal : {False, True, "top_left", "bottom_right"}
        Query i sees the keys ``j <= i`` ("top_left") or ``j <= i + Tk - Tq`` ("bottom_right").
        True only where Tq == Tk, since otherwise the two differ.
    key_lengths : array_like of int, optional, broadcastable to the leading axes (...)
        Keys at or past the length are hidden.
    return_weights : bool
        Return ``(out, weights)``, weights of shape (..., Hq, Tq, Tk).
    out : ndarray, optional, shape (..., Hq, Tq, Dv)
        Filled and returned. May overlap the inputs.

    Returns
    -------
    ndarray, shape (..., Hq, Tq, Dv), or a tuple with the weights
        A query that sees no key gives zeros; one that sees a NaN score gives NaN. Keys and values
        that are hidden from a query are without effect on it, even if they are NaN.

    Raises
    ------
    TypeError
        A dtype that is not supported, or arguments that do not agree in it.
    ValueError
        Shapes that do not fit, a scale that is not finite, lengths out of range.

    References
    ----------
    Vaswani et al., "Attention Is All You Need", 2017, section 3.2.1. Ainslie et al., "GQA", 2023.

    Examples
    --------
    >>> import numpy as np
    >>> keys = np.array([[1.0, 3.0], [2.0, 4.0]])
    >>> context, weights = attention([[0.0, 0.5]], keys, keys, scale=1, return_weights=True)
    >>> weights.round(2)
    array([[0.38, 0.62]])
    >>> context.round(2)
    array([[1.62, 3.62]])
    """
    query, key, value = _array("query", query), _array("key", key), _array("value", value)
    if mask is not None:
        mask = _array("mask", mask)
    if bias is not None:
        bias = _array("bias", bias)
    if not isinstance(causal, (bool, str)):
        raise TypeError(f"causal must be a bool or a name; got {causal!r}")
    plan = _plan(
        query.shape,
        key.shape,
        value.shape,
        query.dtype,
        key.dtype,
        value.dtype,
        causal,
        None if mask is None else (mask.shape, mask.dtype),
        None if bias is None else (bias.shape, bias.dtype),
    )
    scale = plan.scale if scale is None else _finite_scale(scale, plan.dtype)
    lengths = None if key_lengths is None else _checked_lengths(key_lengths, plan)
    target = np.empty(plan.out_shape, plan.dtype)
    if out is not None:
        _check_out(out, plan)
        if native.in_place(out) and not any(
            np.may_share_memory(out, array)
            for array in (query, key, value, mask, bias)
            if array is not None
        ):
            target = out
    weights = np.empty(plan.weights_shape, plan.dtype) if return_weights else None

    active = runtime.current()
    if active.isa is not None:
        native.attention(
            plan, active.isa, active.threads,
            query, key, value, scale, mask, bias, lengths, target, weights,
        )  # fmt: skip
    else:
        reference.attention(plan, query, key, value, scale, mask, bias, lengths, target, weights)
    if out is not None and target is not out:
        out[...] = target
    result = target if out is None else out
    return (result, weights) if return_weights else result


def _array(name: str, given: ArrayLike) -> Array:
    try:
        return np.asarray(given)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{name} is no array: {error}") from None


@functools.lru_cache(maxsize=512)
def _plan(
    query: Shape,
    key: Shape,
    value: Shape,
    query_dtype: np.dtype[Any],
    key_dtype: np.dtype[Any],
    value_dtype: np.dtype[Any],
    causal: bool | str,
    mask: tuple[Shape, np.dtype[Any]] | None,
    bias: tuple[Shape, np.dtype[Any]] | None,
) -> Plan:
    for name, dtype in (("query", query_dtype), ("key", key_dtype), ("value", value_dtype)):
        if dtype not in FLOATS:
            raise TypeError(f"{name} must be float32 or float64; got {dtype}")
        if dtype != query_dtype:
            raise TypeError(f"{name} must have the query's dtype; got {dtype} and {query_dtype}")
    for name, shape in (("query", query), ("key", key), ("value", value)):
        if len(shape) < 2:
            raise ValueError(f"{name} must have at least the axes (T, D); got shape {shape}")
        if len(shape) > MOST_LEADING_AXES + 3:
            raise ValueError(f"{name} has more than {MOST_LEADING_AXES} leading axes: {len(shape)}")
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
        _check_pairs("mask", *mask, pairs, np.dtype(np.bool_))
    if bias is not None:
        _check_pairs("bias", *bias, pairs, query_dtype)
    return Plan(
        dtype=np.dtype(query_dtype),
        query_shape=query,
        key_shape=key,
        value_shape=value,
        lead=lead,
        heads=heads(query),
        key_heads=heads(key),
        queries=queries,
        keys=keys,
        width=query[-1],
        value_width=value[-1],
        causal_offset=_causal_offset(causal, queries, keys),
        out_shape=(*rows, value[-1]),
        weights_shape=pairs,
        scale=1.0 / math.sqrt(query[-1]) if query[-1] else 1.0,
    )


def _check_pairs(
    name: str, shape: Shape, dtype: np.dtype[Any], pairs: Shape, wanted: np.dtype[Any]
) -> None:
    if dtype != wanted:
        raise TypeError(f"{name} must be {wanted}; got {dtype}")
    try:
        fits = np.broadcast_shapes(shape, pairs) == pairs
    except ValueError:
        fits = False
    if not fits:
        raise ValueError(f"{name} must broadcast to {pairs}; got shape {shape}")


def _causal_offset(causal: bool | str, queries: int, keys: int) -> int | None:
    if causal is False:
        return None
    if causal == "top_left":
        return 0
    if causal == "bottom_right":
        return keys - queries
    if causal is not True:
        raise ValueError(
            f"causal must be False, True, 'top_left' or 'bottom_right'; got {causal!r}"
        )
    if queries != keys:
        raise ValueError(
            f"causal=True needs as many queries as keys; got {queries} and {keys}: say"
            " 'top_left' (query i sees keys up to i) or 'bottom_right' (the last query sees all)"
        )
    return 0


def _finite_scale(scale: float, dtype: np.dtype[Any]) -> float:
    if isinstance(scale, (str, bytes)) or np.ndim(scale) != 0 or np.iscomplexobj(scale):
        raise TypeError(f"scale must be a real number; got {scale!r}")
    try:
        number = float(scale)
    except (TypeError, ValueError):
        raise TypeError(f"scale must be a real number; got {scale!r}") from None
    with np.errstate(over="ignore"):
        if not np.isfinite(dtype.type(number)):
            raise ValueError(f"scale must be finite in {dtype}; got {scale!r}")
    return number


def _checked_lengths(key_lengths: ArrayLike, plan: Plan) -> Array:
    given = _array("key_lengths", key_lengths)
    if given.size and not np.issubdtype(given.dtype, np.integer):
        raise TypeError(f"key_lengths must be integers; got {given.dtype}")
    try:
        fits = np.broadcast_shapes(given.shape, plan.lead) == plan.lead
    except ValueError:
        fits = False
    if not fits:
        raise ValueError(
            f"key_lengths must broadcast to the leading axes {plan.lead}; got shape {given.shape}"
        )
    if given.size and (given.min() < 0 or given.max() > plan.keys):
        raise ValueError(
            f"key_lengths must be from 0 to the number of keys, {plan.keys};"
            f" got {given.min()} to {given.max()}"
        )
    return given.astype(np.int64)  # a copy: nobody can change it once it is checked


def _check_out(out: object, plan: Plan) -> None:
    if not isinstance(out, np.ndarray):
        raise TypeError(f"out must be a NumPy array; got {type(out).__name__}")
    if out.dtype != plan.dtype:
        raise TypeError(f"out must be {plan.dtype}; got {out.dtype}")
    if out.shape != plan.out_shape:
        raise ValueError(f"out must have the shape {plan.out_shape}; got {out.shape}")
    if not out.flags.writeable:
        raise ValueError("out is read-only")
    if any(n > 1 and step == 0 for n, step in zip(out.shape, out.strides, strict=True)):
        raise ValueError(f"out overlaps itself: strides {out.strides}")
