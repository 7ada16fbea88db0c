"""The attention sublayers of encoders and decoders: x -> residual + f(x)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..contract.panels import PANEL
from ..contract.plan import Plan, heads_plan
from ..sdpa.cache import KeyValueCache
from .checks import must_equal
from .linear import Linear
from .positions import RelativeBias

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
    scale: float | None = None  # of scores; None: 1 / sqrt(width)

    def __post_init__(self) -> None:
        if min(self.count, self.keys, self.width) < 1 or self.count % self.keys:
            raise ValueError(f"no heads: {self}")
        if self.scale is not None and not 0 < self.scale < np.inf:
            raise ValueError(f"scale must be a positive number; got {self.scale}")

    def plan(
        self,
        batch: int,
        queries: int,
        keys: int,
        *,
        packed: bool = False,
        integer_scores: bool = False,
    ) -> Plan:
        """Of attention where every query sees every key."""
        sizes = self.count, self.keys, self.width
        return heads_plan(batch, sizes, queries, keys, packed, integer_scores, self.scale)

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
    bias: RelativeBias | None = None

    def __post_init__(self) -> None:
        if self.bias is not None:
            must_equal("heads of attention", self.heads.count, self.bias.heads)
        heads, projection, output = self.heads, self.projection.matrix, self.output.matrix
        must_equal(
            "widths of attention", projection.outputs, heads.query_width + 2 * heads.key_width
        )
        must_equal("widths of attention", output.inputs, heads.query_width)
        must_equal("widths of attention", output.outputs, projection.inputs)

    @property
    def width(self) -> int:
        return self.projection.matrix.inputs

    def encode(self, ops: Any, x: Any, residual: Any, integer_scores: bool) -> Any:
        """x -> residual + attention of each sequence to all of itself."""
        projected = ops.linear(self.projection, x)
        merged = ops.self_attention(projected, self.heads, integer_scores, relative_bias=self.bias)
        return ops.linear(self.output, merged, residual=residual)

    def start(self, rows: int) -> DecoderCache:
        """What a decoder's step needs of the steps before: nothing yet."""
        return DecoderCache(KeyValueCache(rows, self.heads.keys, self.heads.width, capacity=32), 0)

    def step(self, ops: Any, x: Any, residual: Any, past: Any) -> tuple[Any, Any]:
        """x -> residual + attention of each token to those before it and to itself, and `past`
        with it."""
        projected = ops.linear(self.projection, x)
        merged, past = ops.past_attention(projected, self.heads, past, relative_bias=self.bias)
        return ops.linear(self.output, merged, residual=residual), past


class DecoderCache:
    """Keys and values of a decoder's steps so far. Never changes, as its holder sees it: histories
    that follow each other share a cache, and one that branches off gets a copy."""

    def __init__(self, cache: KeyValueCache, length: int) -> None:
        self.cache, self.length = cache, length

    def append(self, keys: Array, values: Array) -> DecoderCache:
        """With some steps more: (rows, heads, steps, width) each."""
        cache = self.cache
        if cache.lengths[0] > self.length:
            cache = cache.copy()
            cache.truncate(self.length)
        cache.append(keys, values)
        return DecoderCache(cache, self.length + keys.shape[2])

    def select(self, rows: Array) -> DecoderCache:
        """Of the given rows."""
        cache = self.cache.select(rows)
        cache.truncate(self.length)
        return DecoderCache(cache, self.length)


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
        self, ops: Any, x: Any, residual: Any, memory: Any, return_weights: bool
    ) -> tuple[Any, Any]:
        """x -> residual + attention to the memory and, if asked, the weights (rows, heads, time,
        longest)."""
        query = ops.linear(self.query, x)
        merged, weights = ops.memory_attention(query, self.heads, memory, return_weights)
        return ops.linear(self.output, merged, residual=residual), weights
