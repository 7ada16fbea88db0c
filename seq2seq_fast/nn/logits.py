"""What searches ask of logits."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..backends.selection import current

Array = np.ndarray[Any, Any]


def topk_log_softmax(logits: Array, k: int) -> tuple[Array, Array, Array]:
    """The k likeliest of each row of logits (rows, n), the likeliest first: ids and
    log-probabilities (rows, k), and what is to be subtracted from a logit, twice, to give its own
    log-probability, (rows, 2)."""
    return current().topk_log_softmax(logits, k)
