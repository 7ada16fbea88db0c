"""When each token was said: a path through a model's attention to the sound.

Some heads of a model of speech look at what they hear while they write it. Their attention, made
sharper, is a picture with a line from corner to corner; dynamic time warping finds the line
(Radford et al., 2022; Giorgino, "Computing and Visualizing Dynamic Time Warping Alignments in R",
2009). Where nobody speaks the path is free, and words that it leads through a pause keep to one
side of it. All of it is in the contract's arithmetic.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..contract.float_state import under_contract
from ..contract.sums import row_sum

Array = np.ndarray[Any, Any]

SMOOTHED = 7  # neighbours in time whose median is taken

# Of levels: means of a log-mel spectrum over its bands, of which 1 is 40 dB.
NEAR = 12  # ticks to either side that are looked at: together half a second
STEADY = 0.1  # what stays within this so long is noise, hum or silence, not speech
BELOW = 0.75  # what is lower than loud speech by more than this is a pause
LOUD = 50  # ticks: loud is what is passed for a second
EDGE = 3  # ticks of a pause that are left to the speech beside it
SHORTEST_PAUSE = 15  # ticks


@under_contract
def spoken(spectrum: Array, ticks: int) -> Array:
    """Where somebody may be speaking.

    Parameters
    ----------
    spectrum : ndarray of float32, shape (frames, bands)
        Log-mel, of at least 2 * ticks frames.
    ticks : int
        Pairs of frames, at least 1.

    Returns
    -------
    ndarray of bool, shape (ticks,)
        True where sound changes and is not much weaker than the loudest that does. If that is
        nowhere, it is everywhere.
    """
    bands = spectrum.shape[1]
    pairs = row_sum(spectrum[: 2 * ticks]).reshape(ticks, 2) / np.float32(bands)
    level = pairs.max(axis=1)
    padded = np.pad(level, NEAR, mode="edge")
    near = np.lib.stride_tricks.sliding_window_view(padded, 2 * NEAR + 1)
    changes = _eroded(near.max(axis=1) - near.min(axis=1) >= STEADY, NEAR)
    if not changes.any():
        return np.ones(ticks, bool)
    among = level[changes]
    loudest = np.partition(among, -min(LOUD, len(among)))[-min(LOUD, len(among))]
    voiced: Array = ~_eroded(~(changes & (level >= loudest - np.float32(BELOW))), EDGE)
    for pause in runs(np.flatnonzero(~voiced)):
        if len(pause) < SHORTEST_PAUSE and pause[0] > 0 and pause[-1] < ticks - 1:
            voiced[pause] = True
    return voiced


def _eroded(mask: Array, by: int) -> Any:
    """True where mask (n,) is True all around, up to so many places."""
    padded = np.pad(mask, by, constant_values=True)
    return np.lib.stride_tricks.sliding_window_view(padded, 2 * by + 1).all(axis=1)


def runs(places: Array) -> list[Array]:
    """Rising integers (n,) as runs without gaps."""
    return np.split(places, np.flatnonzero(np.diff(places) > 1) + 1) if len(places) else []


@under_contract
def token_times(weights: Array, first: int, voiced: Array | None = None) -> Array:
    """The tick at which each token begins.

    Parameters
    ----------
    weights : ndarray of float32, shape (heads, tokens, ticks)
        Attention of the heads that listen.
    first : int
        The first token that is wanted: those before it were not said.
    voiced : ndarray of bool, shape (ticks,), optional
        Where somebody may be speaking: elsewhere attention does not count.

    Returns
    -------
    ndarray of int64, shape (tokens - first,)
        Not falling.
    """
    heads, tokens, ticks = weights.shape
    count, least = np.float32(tokens), np.float32(np.finfo(np.float32).tiny)
    edge = min(SMOOTHED // 2, ticks - 1)
    total = np.zeros((tokens - first, ticks), np.float32)
    for head in range(heads):
        # 1. Of each tick, how much more than others a token listens to it.
        shares = weights[head] / np.maximum(row_sum(weights[head]), least)
        columns = np.ascontiguousarray(shares.T)
        centred = columns - row_sum(columns) / count
        spread = np.sqrt(row_sum(centred * centred) / count)
        standard = (centred / np.maximum(spread, least)).T[first:]
        # 2. Smoothed in time; the sum of the heads.
        padded = np.pad(standard, ((0, 0), (edge, edge)), mode="reflect")
        near = np.lib.stride_tricks.sliding_window_view(padded, 2 * edge + 1, axis=1)
        total = total + np.partition(near, edge, axis=-1)[..., edge]
    if voiced is not None:
        total[:, ~voiced] = 0
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
