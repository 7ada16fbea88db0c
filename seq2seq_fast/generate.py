"""Decoding: from a model and source tokens to target tokens. Greedy search so far."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from . import reference

if TYPE_CHECKING:
    from .transformer import EncoderDecoder

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Hypothesis:
    """One generated sequence."""

    tokens: list[int]  # without the end of the sentence
    score: float  # sum of the tokens' log-probabilities, that of the end included
    attention: Array  # (tokens, source tokens): the last layer's, mean over the heads


def most_tokens(source_length: int) -> int:
    """The length at which a result of one source sequence is cut."""
    return 10 + source_length * 5 // 2


def greedy(
    model: EncoderDecoder, ids: Sequence[Sequence[int]], max_length: int | None = None
) -> list[Hypothesis]:
    """The likeliest token at every step; the lowest id wins a tie, and `unk` is never taken.

    Sequences that are finished leave the batch.
    """
    state = model.start(model.encode(ids))
    tokens: list[list[int]] = [[] for _ in ids]
    scores = [0.0] * len(ids)
    attention: list[list[Array]] = [[] for _ in ids]
    running: Array = np.arange(len(ids))  # the rows of `state`: which sequence each is
    before: Array | None = None
    while len(running):
        logits, state, weights = model.step(before, state)
        logits[:, model.unk] = -np.inf
        chosen = logits.argmax(axis=1)
        _, log_probabilities = reference.softmax(logits)
        mean = _mean_over_heads(weights)
        goes_on = np.zeros(len(running), bool)
        for row, sequence in enumerate(running.tolist()):
            token = int(chosen[row])
            scores[sequence] += float(log_probabilities[row, token])
            if token == model.eos:
                continue
            tokens[sequence].append(token)
            attention[sequence].append(mean[row, : len(ids[sequence])])
            limit = max_length or most_tokens(len(ids[sequence]))
            goes_on[row] = len(tokens[sequence]) < limit
        if not goes_on.all():
            state = state.select(goes_on)
        running, before = running[goes_on], chosen[goes_on]
    return [
        Hypothesis(tokens[i], scores[i], np.array(attention[i]).reshape(-1, len(ids[i])))
        for i in range(len(ids))
    ]


def _mean_over_heads(weights: Array) -> Array:
    """(batch, heads, keys) -> (batch, keys), heads added left to right."""
    total = np.zeros_like(weights[:, 0])
    for head in range(weights.shape[1]):
        total = total + weights[:, head]
    return total / np.float32(weights.shape[1])
