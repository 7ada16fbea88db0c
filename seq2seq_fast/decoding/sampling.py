"""A draw from logits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .. import contract
from .options import Options

if TYPE_CHECKING:
    pass


Array = np.ndarray[Any, Any]


def draw(logits: Array, kept: Array | None, options: Options, bits: np.random.Philox) -> int | None:
    """A token by its probability: the walk goes in the order of ids, in float64. None if there is
    no token left.

    logits (n,); `kept` are the ones to draw from, all if None.
    """
    columns = np.arange(len(logits)) if kept is None else np.sort(kept)
    if (logits[columns] == -np.inf).all():
        return None
    probabilities, _ = contract.softmax(logits[columns][None] / np.float32(options.temperature))
    weights = probabilities[0].astype(np.float64)
    if options.top_p < 1:
        order = np.argsort(-weights, kind="stable")
        # As many as it takes: those before which the sum had not reached top_p.
        before = np.cumsum(weights[order]) - weights[order]
        weights[order[before >= options.top_p * np.cumsum(weights)[-1]]] = 0
    walk = np.cumsum(weights)
    point = (int(bits.random_raw()) >> 11) * 2.0**-53 * walk[-1]
    at = np.searchsorted(walk, point, side="right")
    return int(columns[min(int(at), int(np.flatnonzero(weights)[-1]))])  # rounding may end past it
