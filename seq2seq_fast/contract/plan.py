"""Plan: everything about a call of attention but its arrays, checked."""

from __future__ import annotations

import functools
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
