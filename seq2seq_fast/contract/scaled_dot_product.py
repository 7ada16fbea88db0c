"""Attention: scaled dot products, softmax, weighted sums."""

from __future__ import annotations

from typing import Any, ParamSpec, TypeVar

import numpy as np

from .dtypes import narrow, wide
from .float_state import under_contract
from .functions import canonical, exp, log, tanh
from .integers import integer_products
from .plan import SPAN, Plan
from .sums import BLOCK, CACHED, ordered_matmul, row_sum

Array = np.ndarray[Any, Any]
P = ParamSpec("P")
R = TypeVar("R")


MAX_SCORES = 1 << 19  # scores that are held at a time, about


@under_contract
def attention(
    plan: Plan,
    query: Array,
    key: Array,
    value: Array,
    scale: float,
    softcap: float,
    mask: Array | None,
    bias: Array | None,
    sinks: Array | None,
    spans: Array | None,
    out: Array,
    weights: Array | None,
    statistics: Array | None,
) -> None:
    """Fills `out` (and `weights`, `statistics`): see seq2seq_fast.attention for the shapes.

    `softcap` 0 is none. `spans` (*lead, 6): see SPAN. `statistics` (..., 2): of each row the
    greatest score and the sum of the weights.
    """
    group = plan.heads // plan.key_heads if plan.key_heads else 1
    pairs = (*plan.lead, plan.heads, plan.queries, plan.keys)
    mask = None if mask is None else np.broadcast_to(mask, pairs)
    bias = None if bias is None else np.broadcast_to(bias, pairs)
    if sinks is not None:
        sinks = np.broadcast_to(sinks, (*plan.lead, plan.heads))
    if spans is None:
        spans = plan.span
    spans = np.broadcast_to(spans, (*plan.lead, len(SPAN)))

    def every_index(array: Array) -> Array:
        """With all leading axes and one of heads."""
        array = array if array.ndim > 2 else array[None]
        return np.broadcast_to(array, (*plan.lead, *array.shape[-3:]))

    query, key, value = every_index(query), every_index(key), every_index(value)
    for index in np.ndindex(plan.lead):
        first_query, queries, first_key, keys, offset, _ = map(int, spans[index])
        rows, columns = (
            slice(first_query, first_query + queries),
            slice(first_key, first_key + keys),
        )

        def result(array: Array, index: Any = index, rows: slice = rows) -> Array:
            array = array if plan.ragged else array[index]
            return (array if array.ndim > 2 else array[None])[:, rows]

        _attend_sequence(
            query[index][:, rows],
            key[index][:, columns],
            value[index][:, columns],
            group,
            plan.dtype,
            (plan.integer_scores, scale, softcap),
            (offset, plan.left, plan.right),
            None if mask is None else mask[index][:, rows, columns],
            None if bias is None else bias[index][:, rows, columns],
            None if sinks is None else sinks[index],
            result(out),
            None if weights is None else result(weights),
            None if statistics is None else result(statistics),
        )


def _attend_sequence(
    query: Array,
    key: Array,
    value: Array,
    group: int,
    dtype: np.dtype[Any],
    parameters: tuple[bool, float, float],
    positions: tuple[int, int, int],
    mask: Array | None,
    bias: Array | None,
    sinks: Array | None,
    out: Array,
    weights: Array | None,
    statistics: Array | None,
) -> None:
    """query (heads, queries, D), key (key heads, keys, D), value (.., keys, Dv), mask and bias
    (heads, queries, keys), sinks (heads,), out (heads, queries, Dv) and so on."""
    heads, queries, keys = len(query), query.shape[1], key.shape[1]
    offset, left, right = positions
    # Rows together are what NumPy's inner loops run over in the weighted sum: many are fast.
    row_step = min(max(16, MAX_SCORES // max(1, keys)), 256, max(1, queries))
    head_step = max(1, CACHED // max(1, keys * row_step))
    for row in range(0, queries, row_step):
        rows = slice(row, min(row + row_step, queries))
        at = np.arange(rows.start, rows.stop)[:, None] + offset
        # What these rows can see at all, from the beginning of a block on.
        begin = max(0, int(at[0, 0]) - left) // BLOCK * BLOCK
        columns = slice(begin, max(begin, min(keys, int(at[-1, 0]) + right + 1)))
        j = np.arange(columns.start, columns.stop)
        near = (j >= at - left) & (j <= at + right)
        for head in range(0, heads, head_step):
            some = slice(head, head + head_step)
            key_heads = np.arange(heads)[some] // group
            visible = near[None]
            if mask is not None:
                visible = visible & mask[some, rows, columns]
            context, e, total, greatest = _attend(
                wide(query[some, rows]),
                wide(key[key_heads, columns]),
                wide(value[key_heads, columns]),
                *parameters,
                visible,
                None if bias is None else wide(bias[some, rows, columns]),
                None if sinks is None else wide(sinks[some]),
            )
            out[some, rows] = narrow(_normalize(context, total), dtype)
            if weights is not None:
                weights[some, rows] = narrow(_normalize(np.zeros_like(total), total), dtype)
                weights[some, rows, columns] = narrow(_normalize(e, total), dtype)
            if statistics is not None:
                statistics[some, rows, :1], statistics[some, rows, 1:] = greatest, total


def _attend(
    query: Array,
    key: Array,
    value: Array,
    integer_scores: bool,
    scale: float,
    softcap: float,
    visible: Array,
    bias: Array | None,
    sinks: Array | None,
) -> tuple[Array, Array, Array, Array]:
    """query (heads, rows, D), key (heads, keys, D), value (heads, keys, Dv), visible (.., keys),
    sinks (heads,) give the undivided context (heads, rows, Dv), e (heads, rows, keys), its sum and
    the greatest score (heads, rows, 1). A row that sees no key has the sum 0."""
    real = query.dtype.type
    if integer_scores:
        s = integer_products(query, key, scale)
    else:
        s = ordered_matmul(query, key.swapaxes(-1, -2)) * real(scale)
    if softcap:
        s = real(softcap) * tanh(s / real(softcap))
    if bias is not None:
        s = s + bias
        visible = visible & (bias != -np.inf)  # it excludes its pair as the mask does, even if NaN
    visible = visible & (s != -np.inf)  # a score of -inf excludes its pair, too
    s = np.where(visible, s, real(-np.inf))
    m = np.fmax.reduce(s, axis=-1, keepdims=True, initial=-np.inf)
    if sinks is not None:
        m = np.fmax(m, sinks[:, None, None])
    shift = np.where(m == -np.inf, real(0), m)
    e = np.where(visible, exp(s - shift), real(0))
    total = row_sum(e)
    sees_none = ~visible.any(axis=-1, keepdims=True)
    if sinks is not None:
        total = np.where(sees_none, total, total + exp(sinks[:, None, None] - shift))
    # A finite value times a weight of 0 adds nothing; a NaN or infinite one has to be left out.
    hidden_matter = not np.isfinite(value).all()
    context = ordered_matmul(e, value, visible if hidden_matter else None)
    return context, e, total, np.where(sees_none, real(-np.inf), m)


@under_contract
def log_sum_exp(statistics: Array, dtype: np.dtype[Any]) -> Array:
    """The logarithm of the sum of exp(score): (..., 2) float64, greatest score and sum, both
    numbers of `dtype`, give (...)."""
    statistics = statistics.astype(dtype)
    return canonical(statistics[..., 0] + log(statistics[..., 1]))


def _normalize(x: Array, total: Array) -> Array:
    """x / total, every NaN the positive quiet one without payload. A sum of 0 says that the row
    sees no key, for the greatest visible score has the weight 1: such a row is zeros."""
    return np.where(total == 0, x.dtype.type(0), canonical(x / total))
