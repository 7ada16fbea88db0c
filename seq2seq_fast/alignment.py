"""When each token was said: a path through a model's attention to the sound.

Some heads of a model of speech look at what they hear while they write it. Their attention, made
sharper, is a picture with a line from corner to corner; dynamic time warping finds the line
(Radford et al., 2022; Giorgino, "Computing and Visualizing Dynamic Time Warping Alignments in R",
2009). All of it is in the contract's arithmetic.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .reference import row_sum, under_contract

Array = np.ndarray[Any, Any]

SMOOTHED = 7  # neighbours in time whose median is taken


@under_contract
def token_times(weights: Array, first: int) -> Array:
    """The frame at which each token begins.

    Parameters
    ----------
    weights : ndarray of float32, shape (heads, tokens, frames)
        Attention of the heads that listen.
    first : int
        The first token that is wanted: those before it were not said.

    Returns
    -------
    ndarray of int64, shape (tokens - first,)
        Not falling.
    """
    heads, tokens, frames = weights.shape
    count, least = np.float32(tokens), np.float32(np.finfo(np.float32).tiny)
    edge = min(SMOOTHED // 2, frames - 1)
    total = np.zeros((tokens - first, frames), np.float32)
    for head in range(heads):
        # 1. Of each frame, how much more than others a token listens to it.
        shares = weights[head] / row_sum(weights[head])
        columns = np.ascontiguousarray(shares.T)
        centred = columns - row_sum(columns) / count
        spread = np.sqrt(row_sum(centred * centred) / count)
        standard = (centred / np.maximum(spread, least)).T[first:]
        # 2. Smoothed in time; the sum of the heads.
        padded = np.pad(standard, ((0, 0), (edge, edge)), mode="reflect")
        near = np.lib.stride_tricks.sliding_window_view(padded, 2 * edge + 1, axis=1)
        total = total + np.partition(near, edge, axis=-1)[..., edge]
    # 3. The path that pays most attention.
    return _first_columns(-total.astype(np.float64))


def _first_columns(cost: Array) -> Array:
    """Of the cheapest path from corner to corner of cost (rows, columns), by steps right, down or
    both, the first column in each row. Of equal paths the one with steps of both, then down."""
    rows, columns = cost.shape
    # Diagonals of the table lie in rows, so that each is computed at once: total[i + j, i].
    total = np.full((rows + columns + 1, rows + 1), np.inf)
    came = np.zeros((rows + columns + 1, rows + 1), np.int8)
    total[0, 0] = 0
    for diagonal in range(2, rows + columns + 1):
        low, high = max(1, diagonal - columns), min(rows, diagonal - 1) + 1
        i = np.arange(low, high)
        choices = np.stack(
            [total[diagonal - 2, i - 1], total[diagonal - 1, i - 1], total[diagonal - 1, i]]
        )
        came[diagonal, low:high] = np.argmin(choices, axis=0)
        total[diagonal, low:high] = cost[i - 1, diagonal - i - 1] + choices.min(axis=0)
    first = np.zeros(rows, np.int64)
    i, j = rows, columns
    while i > 0 and j > 0:
        first[i - 1] = j - 1
        step = came[i + j, i]
        i, j = i - (step != 2), j - (step != 1)
    return first
