"""The attention sublayers of encoders and decoders: x -> residual + f(x)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..backends.selection import current
from ..contract.panels import PANEL
from ..sdpa.cache import KeyValueCache
from ..sdpa.call import attention, integer_attention
from .checks import must_equal
from .linear import Linear

Array = np.ndarray[Any, Any]


SOME_ROWS = 24 * PANEL


"""Rows of keys and values that are made at a time, so that they are stored out of the cache."""


@dataclass(frozen=True, eq=False)
class Heads:
    """How features divide into heads: Vaswani et al., 2017, section 3.2.2; with fewer key heads,
    Ainslie et al., "GQA", 2023."""

    count: int
    keys: int
    width: int  # of one head

    def __post_init__(self) -> None:
        if min(self.count, self.keys, self.width) < 1 or self.count % self.keys:
            raise ValueError(f"no heads: {self}")

    @property
    def query_width(self) -> int:
        return self.count * self.width

    @property
    def key_width(self) -> int:
        return self.keys * self.width

    def split(self, x: Array) -> Array:
        """(batch, time, features) -> (batch, heads, time, width), a view."""
        batch, time, features = x.shape
        return x.reshape(batch, time, features // self.width, self.width).transpose(0, 2, 1, 3)

    def keys_values(self, both: Array) -> tuple[Array, Array]:
        """Keys and values side by side (batch, time, features) -> each (batch, heads, ...)."""
        return self.split(both[..., : self.key_width]), self.split(both[..., self.key_width :])


@dataclass(frozen=True, eq=False)
class SelfAttention:
    """Attention of a sequence to itself: over all of it in an encoder, over what came before in
    a decoder."""

    projection: Linear  # queries, keys and values side by side
    output: Linear
    heads: Heads

    def __post_init__(self) -> None:
        heads, projection, output = self.heads, self.projection.matrix, self.output.matrix
        must_equal(
            "widths of attention", projection.outputs, heads.query_width + 2 * heads.key_width
        )
        must_equal("widths of attention", output.inputs, heads.query_width)
        must_equal("widths of attention", output.outputs, projection.inputs)

    @property
    def width(self) -> int:
        return self.projection.matrix.inputs

    def attend(
        self, every: Array, lengths: Array | None, merged: Array, integer_scores: bool = False
    ) -> None:
        """What the projection gave, in heads (batch, heads, time, width), of which `lengths` are
        there, (batch,) -> what the output layer takes, into merged (batch, time, features)."""
        count, keys = self.heads.count, self.heads.keys
        query, key, value = np.split(every, [count, count + keys], axis=1)
        function = integer_attention if integer_scores else attention
        function(query, key, value, key_lengths=lengths, out=self.heads.split(merged))

    def start(self, rows: int) -> History:
        """What a decoder's step needs of the steps before: nothing yet."""
        return History(KeyValueCache(rows, self.heads.keys, self.heads.width, capacity=32), 0)

    def step(self, x: Array, residual: Array, history: History) -> tuple[Array, History]:
        """x (rows, time, features): each token attends to those before it, and to itself."""
        width = self.heads.query_width
        every = self.projection(x)
        history = history.append(*self.heads.keys_values(every[..., width:]))
        merged = np.empty((*x.shape[:2], width), np.float32)
        attention(
            self.heads.split(every[..., :width]),
            history.cache,
            causal="bottom_right" if x.shape[1] > 1 else False,
            out=self.heads.split(merged),
        )
        return self.output(merged, residual=residual), history


class History:
    """Keys and values of a decoder's steps so far. Never changes, as its holder sees it: histories
    that follow each other share a cache, and one that branches off gets a copy."""

    def __init__(self, cache: KeyValueCache, length: int) -> None:
        self.cache, self.length = cache, length

    def append(self, keys: Array, values: Array) -> History:
        """With some steps more: (rows, heads, steps, width) each."""
        cache = self.cache
        if current().append(cache, keys, values):
            return self
        if cache.lengths[0] > self.length:
            cache = cache.copy()
            cache.truncate(self.length)
        cache.append(keys, values)
        return History(cache, self.length + keys.shape[2])

    def select(self, rows: Array) -> History:
        """Of the given rows."""
        cache = self.cache.select(rows)
        cache.truncate(self.length)
        return History(cache, self.length)


@dataclass(frozen=True, eq=False)
class CrossAttention:
    """Attention of a decoder to the encoder's memory."""

    query: Linear
    key_value: Linear  # keys and values side by side
    output: Linear
    heads: Heads

    def __post_init__(self) -> None:
        heads, output = self.heads, self.output.matrix
        must_equal("widths of attention", self.query.matrix.outputs, heads.query_width)
        must_equal("widths of attention", self.key_value.matrix.outputs, 2 * heads.key_width)
        must_equal("widths of attention", output.inputs, heads.query_width)
        must_equal("widths of attention", output.outputs, self.query.matrix.inputs)

    @property
    def width(self) -> int:
        return self.query.matrix.inputs

    def remember(self, memory: Array, lengths: Array) -> KeyValueCache:
        """Keys and values of a memory (batch, time, features), its first `lengths` of time."""
        batch, time, _ = memory.shape
        cache = KeyValueCache(batch, self.heads.keys, self.heads.width, capacity=time)
        # Some sequences at a time, or some panels of a long one.
        some = max(1, SOME_ROWS // time)
        for first in range(0, batch, some):
            which = slice(first, first + some)
            for start in range(0, time, SOME_ROWS):
                both = self.key_value(memory[which, start : start + SOME_ROWS])
                cache.store(start, *self.heads.keys_values(both), which)
        cache.set_lengths(lengths)
        return cache

    def step(
        self, x: Array, residual: Array, memory: KeyValueCache, return_weights: bool
    ) -> tuple[Array, Array | None]:
        """x (rows, time, features), the same number of rows to each sequence of the memory: the
        result and, if asked, the weights (rows, heads, time, longest)."""
        rows, time, _ = x.shape
        sequences, width = len(memory.lengths), self.heads.query_width
        query = self.heads.split(self.query(x).reshape(sequences, -1, width))
        merged = np.empty((sequences, query.shape[2], width), np.float32)
        out = self.heads.split(merged)
        found = attention(query, memory, out=out, return_weights=return_weights)
        weights = None
        if return_weights:
            each = found[1].reshape(sequences, self.heads.count, rows // sequences, time, -1)
            weights = each.swapaxes(1, 2).reshape(rows, self.heads.count, time, -1)
        return self.output(merged.reshape(rows, time, width), residual=residual), weights
