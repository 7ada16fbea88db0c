"""The contract once more, as the textbook's plain loops over numbers: the oracle of the oracle.

Written from the definitions alone, without NumPy's arrays: a "number" is a NumPy scalar (or a
Python float), so that each operation below is one rounded operation. Slow, for small problems.
"""

from __future__ import annotations

import math

import numpy as np

from seq2seq_fast import contract


def ordered_sum(terms, zero):
    total, block = zero, zero
    for i, term in enumerate(terms):
        if i % 256 == 0 and i:
            total, block = total + block, zero
        if term is not None:  # takes no part, and does not shift the others
            block = block + term
    return total + block


def row_sum(terms, zero):
    total = zero
    for start in range(0, len(terms), 256):
        lanes = [zero] * 16
        for i, term in enumerate(terms[start : start + 256]):
            lanes[i % 16] = lanes[i % 16] + term
        for half in (8, 4, 2, 1):
            for i in range(half):
                lanes[i] = lanes[i] + lanes[i + half]
        total = total + lanes[0]
    return total


def exp(x):
    """The contract's, of one number."""
    return contract.exp(np.array([x]))[0]


def tanh(x):
    """The contract's, of one number."""
    return contract.tanh(np.array([x]))[0]


def integers(row):
    """A row of float32 as Python's integers, and the scale that it was multiplied by."""
    if not all(math.isfinite(x) for x in row):
        return [0] * len(row), np.float32(np.nan)
    scale = np.float32(127) / max(*(abs(x) for x in row), np.float32(2.0**-100))
    return [round(float(x * scale)) for x in row], scale  # half to even, as the contract rounds


def integer_score(q, k, scale):
    """Of two rows, each as integers."""
    (q, q_scale), (k, k_scale) = integers(q), integers(k)
    total = np.float32(sum(map(int.__mul__, q, k)))
    return total * ((np.float32(scale) / q_scale) * (np.float32(1) / k_scale))


def real_score(q, k, scale):
    """Of two rows."""
    return ordered_sum([a * b for a, b in zip(q, k, strict=True)], q.dtype.type(0)) * (
        q.dtype.type(scale)
    )


def attention(
    q, k, v, scale, visible=lambda i, j: True, bias=None, softcap=None, sink=None, score=real_score
):
    """One head: q (Tq, D), k (Tk, D), v (Tk, Dv) arrays -> context (Tq, Dv), weights (Tq, Tk)."""
    real = q.dtype.type
    zero = real(0)
    context = np.zeros((len(q), v.shape[1]), q.dtype)
    weights = np.zeros((len(q), len(k)), q.dtype)
    with np.errstate(all="ignore"):
        for i in range(len(q)):
            scores = []
            for j in range(len(k)):
                s = score(q[i], k[j], scale)
                if softcap is not None:
                    s = real(softcap) * tanh(s / real(softcap))
                if bias is not None:
                    s = s + bias[i, j]
                hidden = not visible(i, j) or (bias is not None and bias[i, j] == -np.inf)
                scores.append(None if hidden or s == -np.inf else s)
            seen = [s for s in scores if s is not None]
            if not seen:
                continue
            if any(math.isnan(s) for s in seen):
                context[i], weights[i] = np.nan, np.nan
                continue
            m = max(seen) if sink is None else max(*seen, sink)
            e = [zero if s is None else exp(s - m) for s in scores]
            total = row_sum(e, zero)
            if sink is not None:
                total = total + exp(sink - m)
            for c in range(v.shape[1]):
                terms = [
                    None if s is None else w * v[j, c]
                    for j, (s, w) in enumerate(zip(scores, e, strict=True))
                ]
                context[i, c] = ordered_sum(terms, zero) / total
            weights[i] = [w / total for w in e]
    context[np.isnan(context)] = np.nan  # the canonical one
    weights[np.isnan(weights)] = np.nan
    return context, weights
