"""Plan: everything about a call of attention but its arrays, checked."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
Shape = tuple[int, ...]

# The columns of a sequence's span, which the kernel calls s2s_span: its rows of the operands, the
# position of its query 0 among the keys, and how many of packed keys are in panels.
SPAN = FIRST_QUERY, QUERIES, FIRST_KEY, KEYS, OFFSET, PACKED = range(6)


@dataclass(frozen=True, eq=False)
class Plan:
    """The checked shapes of a call. Compared by identity, which makes it a cheap key."""

    dtype: np.dtype[Any]  # of the query and the results
    key_dtype: np.dtype[Any]  # of key and value
    bias_dtype: np.dtype[Any]  # of the bias as backends take it
    query_shape: Shape
    key_shape: Shape
    value_shape: Shape
    packed: bool  # key is a KeyValueCache's panels
    integer_scores: bool  # see integer_attention
    ragged: bool  # the operands' rows are those of all sequences, end to end
    lead: Shape  # the leading axes, broadcast; of a ragged call the sequences
    heads: int
    key_heads: int
    queries: int  # of the longest sequence
    keys: int
    width: int
    value_width: int
    left: int  # a query at position p sees the keys p - left .. p + right
    right: int
    offset: int  # query i is at position i + offset, where spans do not say otherwise
    out_shape: Shape
    weights_shape: Shape
    scale: float  # the default

    @functools.cached_property
    def span(self) -> Array:
        """A sequence's, where nothing else is said."""
        return np.array([0, self.queries, 0, self.keys, self.offset, self.keys])


UNBOUNDED = 1 << 62  # keys, before or after a position


@functools.lru_cache(maxsize=1024)
def heads_plan(
    batch: int,
    heads: tuple[int, int, int],
    queries: int,
    keys: int,
    packed: bool = False,
    integer_scores: bool = False,
    scale: float | None = None,
) -> Plan:
    """Of a model's attention in float32, where every query sees every key: `heads` are the number
    of query heads, of key heads, and their width; a scale of None is 1 / sqrt(width)."""
    count, key_heads, width = heads
    float32 = np.dtype(np.float32)
    key_shape = (batch, key_heads, keys, width)
    return Plan(
        dtype=float32,
        key_dtype=float32,
        bias_dtype=float32,
        query_shape=(batch, count, queries, width),
        key_shape=key_shape,
        value_shape=key_shape,
        packed=packed,
        integer_scores=integer_scores,
        ragged=False,
        lead=(batch,),
        heads=count,
        key_heads=key_heads,
        queries=queries,
        keys=keys,
        width=width,
        value_width=width,
        left=UNBOUNDED,
        right=UNBOUNDED,
        offset=0,
        out_shape=(batch, count, queries, width),
        weights_shape=(batch, count, queries, keys),
        scale=1.0 / math.sqrt(width) if scale is None else scale,
    )
