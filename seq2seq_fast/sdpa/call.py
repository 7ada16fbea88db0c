"""attention() and ragged_attention(): what their arguments mean, and every check of them.

A call's shapes and dtypes are checked once and remembered as a Plan, so that the next call of the
same shapes pays for a look-up only. Then the active backend computes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from .. import contract
from ..aligned import in_place
from ..backends.selection import current
from ..contract.dtypes import as_array, compute_dtype
from ..contract.plan import FIRST_KEY, FIRST_QUERY, KEYS, OFFSET, QUERIES, SPAN, Plan
from .arguments import check_out, finite, integers, spans_of
from .cache import KeyValueCache
from .planning import Causal, Window, checked_causal, checked_window, plan_of

Array = np.ndarray[Any, Any]
Shape = tuple[int, ...]


def attention(
    query: ArrayLike,
    key: ArrayLike | KeyValueCache,
    value: ArrayLike | None = None,
    *,
    scale: float | None = None,
    mask: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    causal: Causal = False,
    query_offset: ArrayLike | None = None,
    key_lengths: ArrayLike | None = None,
    query_lengths: ArrayLike | None = None,
    window: Window | None = None,
    softcap: float | None = None,
    sinks: ArrayLike | None = None,
    return_weights: bool = False,
    return_logsumexp: bool = False,
    out: Array | None = None,
) -> Any:
    """Scaled dot-product attention, ``softmax(query @ key.T * scale + bias) @ value``, fused.

    The result is defined to the bit (see ``seq2seq_fast/contract``): it does not depend on backend,
    instruction set, threads, batch, padding or memory layout. Pairs that are excluded by
    their position (causal, window, lengths) are skipped, not computed.

    Parameters
    ----------
    query : array_like, shape (..., Hq, Tq, D) or (Tq, D)
    key : array_like, shape (..., Hk, Tk, D) or (Tk, D), or a KeyValueCache
    value : array_like, shape (..., Hk, Tk, Dv) or (Tk, Dv); left out with a KeyValueCache
        float16, bfloat16 (of ``ml_dtypes``), float32 or float64; key and value have one dtype, and
        float64 goes with float64 only. The half types are widened exactly and computed in float32.
        Hq is a multiple of Hk (grouped-query attention: query head h reads key head
        ``h // (Hq // Hk)``). Leading axes broadcast. Any strides; no copy is made where the last
        axis is contiguous.
    scale : float, optional
        Multiplies the scores; ``1 / sqrt(D)`` if None (1 if D is 0).
    mask : array_like of bool, optional, broadcastable to (..., Hq, Tq, Tk)
        True where a query may attend to a key.
    bias : array_like, optional, broadcastable to (..., Hq, Tq, Tk)
        Added to the scaled scores. Of any of the dtypes above, whatever the query's; rounded once
        to the one that is computed in. Where it is -inf it hides the pair, as `mask` does.
    causal : {False, True, "top_left", "bottom_right"}
        A query sees the keys up to its own position. Query i is at position i ("top_left"), or
        where the last query of a sequence is at its last key ("bottom_right"). True only with
        `query_offset` or where Tq == Tk, since otherwise the two differ.
    query_offset : int or array_like of int, optional, broadcastable to the leading axes (...)
        Query i is at position ``i + query_offset``: so many keys came before. For `causal` (True)
        and `window`.
    key_lengths, query_lengths : array_like of int, optional, broadcastable to (...)
        Keys at or past the length are hidden; queries at or past it give zeros.
    window : (left, right), optional
        A query at position p sees the keys ``p - left`` to ``p + right`` only; None is unbounded.
        Needs to know positions, as `causal` does.
    softcap : float, optional
        Scores become ``softcap * tanh(score / softcap)`` before the bias is added.
    sinks : array_like, optional, broadcastable to (..., Hq)
        One more score for each head, which takes its share of the softmax and has no value. Of any
        dtype that `bias` may have, and rounded likewise.
    return_weights : bool
        Also return the weights, shape (..., Hq, Tq, Tk).
    return_logsumexp : bool
        Also return the logarithm of the softmax's sum, shape (..., Hq, Tq), float32 (float64 for
        float64); -inf for a query that sees no key.
    out : ndarray, optional, shape (..., Hq, Tq, Dv)
        Filled and returned. Any strides. May overlap the inputs, but not itself.

    Returns
    -------
    ndarray, shape (..., Hq, Tq, Dv), or a tuple with the weights and the log-sum-exp, in that order
        Of the query's dtype. A query that sees no key gives zeros; one that sees a NaN score gives
        NaN. Keys and values that are hidden from a query are without effect on it, even if they
        are NaN.

    Raises
    ------
    TypeError
        A dtype that is not supported, or arguments that do not agree in it.
    ValueError
        Shapes that do not fit, a scale that is not finite, lengths out of range.

    See Also
    --------
    ragged_attention : sequences of different lengths, end to end.
    KeyValueCache : keys and values that grow step by step.

    References
    ----------
    Vaswani et al., "Attention Is All You Need", 2017, section 3.2.1. Ainslie et al., "GQA", 2023.
    Beltagy et al., "Longformer", 2020 (window). Gemma Team, "Gemma 2", 2024 (softcap). Xiao et al.,
    "Efficient Streaming Language Models with Attention Sinks", 2023.

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
    query = as_array("query", query)
    packed = isinstance(key, KeyValueCache)
    if isinstance(key, KeyValueCache):
        cache = key
        if value is not None or key_lengths is not None:
            raise ValueError("a KeyValueCache has its own values and lengths: pass neither")
        longest = mask is not None or bias is not None or return_weights
        key, value, key_lengths = cache.operands(
            int(cache.lengths.max(initial=0)) if longest else None
        )
        key_shape = (*value.shape[:-1], cache.width)
    else:
        if value is None:
            raise TypeError("value must be given, unless key is a KeyValueCache")
        key, value = as_array("key", key), as_array("value", value)
        key_shape = key.shape
    if mask is not None:
        mask = as_array("mask", mask)
    if bias is not None:
        bias = as_array("bias", bias)
    if sinks is not None:
        sinks = as_array("sinks", sinks)
    causal = checked_causal(causal)
    plan = plan_of(
        query.shape,
        key_shape,
        value.shape,
        query.dtype,
        key.dtype,
        value.dtype,
        packed,
        causal,
        query_offset is not None,
        None if window is None else checked_window(window),
        None if mask is None else (mask.shape, mask.dtype),
        None if bias is None else (bias.shape, bias.dtype),
        None if sinks is None else (sinks.shape, sinks.dtype),
    )
    spans = None
    if key_lengths is not None or query_lengths is not None or query_offset is not None:
        spans = spans_of(plan, causal, query_offset, key_lengths, query_lengths)
    return _run(
        plan, query, key, value, scale, softcap, mask, bias, sinks, spans,
        return_weights, return_logsumexp, out, query_lengths is not None,
    )  # fmt: skip


def ragged_attention(
    query: ArrayLike,
    key: ArrayLike,
    value: ArrayLike,
    query_starts: ArrayLike,
    key_starts: ArrayLike,
    *,
    scale: float | None = None,
    causal: Causal = False,
    window: Window | None = None,
    softcap: float | None = None,
    sinks: ArrayLike | None = None,
    return_logsumexp: bool = False,
    out: Array | None = None,
) -> Any:
    """Attention within each of several sequences that lie end to end, without any padding.

    Each sequence has the same bits as ``attention`` of it alone.

    Parameters
    ----------
    query : array_like, shape (Hq, Nq, D)
    key : array_like, shape (Hk, Nk, D)
    value : array_like, shape (Hk, Nk, Dv)
        The rows of all sequences, as for ``attention``. Data of shape (N, H, D) passes as a
        transposed view.
    query_starts, key_starts : array_like of int, shape (sequences + 1,)
        Sequence b has the queries ``query_starts[b]`` to ``query_starts[b + 1] - 1``, and so of
        keys: from 0, never falling, to Nq or Nk.
    causal : {False, True, "top_left", "bottom_right"}
        As for ``attention``, in each sequence by itself. True only where every sequence has as many
        queries as keys.
    scale, window, softcap, sinks, return_logsumexp, out
        As for ``attention``; `sinks` broadcasts to (Hq,).

    Returns
    -------
    ndarray, shape (Hq, Nq, Dv), or a tuple with the log-sum-exp, shape (Hq, Nq)

    Raises
    ------
    TypeError, ValueError
        As ``attention``, and for starts that are not as described.

    References
    ----------
    The layout is that of "variable length" attention in Dao, "FlashAttention-2", 2023.

    Examples
    --------
    >>> import numpy as np
    >>> rows = np.ones((1, 5, 8), np.float32)
    >>> ragged_attention(rows, rows, rows, [0, 2, 5], [0, 2, 5]).shape
    (1, 5, 8)
    """
    query, key, value = as_array("query", query), as_array("key", key), as_array("value", value)
    for name, array in (("query", query), ("key", key), ("value", value)):
        if array.ndim != 3:
            raise ValueError(f"{name} must have the axes (H, N, D); got shape {array.shape}")
    if value.shape[1] != key.shape[1]:
        raise ValueError(
            f"value must have as many rows as key; got shapes {value.shape} and {key.shape}"
        )
    spans = np.zeros((max(0, np.size(query_starts) - 1), len(SPAN)), np.int64)
    for first, count, name, starts, rows in (
        (FIRST_QUERY, QUERIES, "query_starts", query_starts, query.shape[1]),
        (FIRST_KEY, KEYS, "key_starts", key_starts, key.shape[1]),
    ):
        at = integers(name, starts)
        if at.ndim != 1 or len(at) != len(spans) + 1 or len(at) < 1:
            raise ValueError(
                f"{name} must have one number more than there are sequences, as query_starts has;"
                f" got shapes {np.shape(key_starts)} and {np.shape(query_starts)}"
            )
        if at[0] != 0 or at[-1] != rows or (np.diff(at) < 0).any():
            raise ValueError(f"{name} must rise from 0 to the number of rows, {rows}; got {at}")
        spans[:, first], spans[:, count] = at[:-1], np.diff(at)
    causal = checked_causal(causal)
    if causal == "bottom_right":
        spans[:, OFFSET] = spans[:, KEYS] - spans[:, QUERIES]
    elif (causal is True or (window is not None and causal is False)) and (
        spans[:, QUERIES] != spans[:, KEYS]
    ).any():
        raise ValueError(
            f"{'causal=True' if causal else 'window'} needs as many queries as keys in each"
            " sequence: say causal='top_left' or 'bottom_right'"
        )
    if sinks is not None:
        sinks = as_array("sinks", sinks)
    longest = spans.max(axis=0, initial=0)
    plan = plan_of(
        (len(query), int(longest[QUERIES]), query.shape[2]),
        (len(key), int(longest[KEYS]), key.shape[2]),
        (len(value), int(longest[KEYS]), value.shape[2]),
        query.dtype,
        key.dtype,
        value.dtype,
        False,
        "top_left" if causal is True else causal,
        True,
        None if window is None else checked_window(window),
        None,
        None,
        None if sinks is None else (sinks.shape, sinks.dtype),
        (len(spans), query.shape, key.shape, value.shape),
    )
    return _run(
        plan, query, key, value, scale, softcap, None, None, sinks, spans,
        False, return_logsumexp, out, False,
    )  # fmt: skip


def integer_attention(
    query: Array, key: Array, value: Array, *, key_lengths: Array | None, out: Array
) -> Any:
    """attention() in float32 whose scores are products of eight-bit integers: each row of query and
    key is rounded to -127 .. 127, by a scale of its own. What a model of int8 weights may compute.

    query (..., Hq, Tq, D), key (..., Hk, Tk, D) and value (..., Hk, Tk, Dv) give (..., Hq, Tq, Dv),
    which fills `out` and is returned; key_lengths broadcasts to (...). Raises as attention() does,
    and a TypeError for other dtypes than float32.

    References
    ----------
    Zhang et al., "SageAttention: Accurate 8-Bit Attention for Plug-and-play Inference
    Acceleration", 2024, section 4.2, but that each row has a scale, and nothing is smoothed.
    """
    plan = plan_of(
        query.shape, key.shape, value.shape, query.dtype, key.dtype, value.dtype,
        False, False, False, None, None, None, None, integer_scores=True,
    )  # fmt: skip
    if plan.dtype != np.float32 or plan.key_dtype != np.float32:
        raise TypeError(f"query and key must be float32; got {plan.dtype} and {plan.key_dtype}")
    spans = None if key_lengths is None else spans_of(plan, False, None, key_lengths, None)
    return _run(
        plan, query, key, value, None, None, None, None, None, spans, False, False, out, False
    )


def _run(
    plan: Plan,
    query: Array,
    key: Array,
    value: Array,
    scale: float | None,
    softcap: float | None,
    mask: Array | None,
    bias: Array | None,
    sinks: Array | None,
    spans: Array | None,
    return_weights: bool,
    return_logsumexp: bool,
    out: Array | None,
    unvisited: bool,
) -> Any:
    """The checked call on the active backend. `unvisited`: it may leave rows untouched, which are
    those of queries that see no key."""
    if bias is not None and bias.dtype != plan.bias_dtype:
        bias = contract.rounded(bias, plan.bias_dtype)
    if sinks is not None and sinks.dtype != compute_dtype(plan.dtype):
        sinks = contract.rounded(sinks, compute_dtype(plan.dtype))
    scale = plan.scale if scale is None else finite("scale", scale, plan)
    cap = 0.0 if softcap is None else finite("softcap", softcap, plan)
    if softcap is not None and not compute_dtype(plan.dtype).type(cap) > 0:
        raise ValueError(f"softcap must be positive; got {softcap!r}")
    if out is None:
        target = np.empty(plan.out_shape, plan.dtype)
    else:
        check_out(out, plan)
        given = (query, key, value, mask, bias, sinks)
        alone = not any(a is not None and np.may_share_memory(out, a) for a in given)
        usable = in_place(out) and alone
        target = out if usable else np.empty(plan.out_shape, plan.dtype)
    weights = np.empty(plan.weights_shape, plan.dtype) if return_weights else None
    statistics = None
    if return_logsumexp:
        statistics = np.empty((*plan.out_shape[:-1], 2))  # the greatest score, the sum
    if unvisited:
        target[...] = 0
        if weights is not None:
            weights[...] = 0
        if statistics is not None:
            statistics[...] = -np.inf, 0

    current().attention(
        plan, query, key, value, scale, cap, mask, bias, sinks, spans, target, weights, statistics
    )
    if out is not None and target is not out:
        out[...] = target
    result = target if out is None else out
    if weights is None and statistics is None:
        return result
    results = [result]
    if weights is not None:
        results.append(weights)
    if statistics is not None:
        results.append(contract.log_sum_exp(statistics, compute_dtype(plan.dtype)))
    return tuple(results)
