"""Eager: layers that are called with it compute at once, on arrays (rows, time, features).

It has the methods of graph.recorder.Recorder, which records instead.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..backends.selection import current
from ..sdpa.cache import KeyValueCache
from ..sdpa.call import attention

if TYPE_CHECKING:
    from .attention import DecoderCache, Heads
    from .linear import Linear
    from .norms import Norm
    from .positions import RelativeBias
    from .ssru import SSRU, SSRUState

Array = np.ndarray[Any, Any]


class Eager:
    """The active backend's calls."""

    def linear(
        self,
        layer: Linear,
        x: Array,
        activation: str = "none",
        *,
        residual: Array | None = None,
        gate: Array | None = None,
    ) -> Array:
        return layer(x, activation, residual=residual, gate=gate)

    def norm(self, norm: Norm, x: Array) -> Array:
        return norm(x)

    def ssru_step(
        self, unit: SSRU, gates: Array, residual: Array, state: SSRUState
    ) -> tuple[Array, SSRUState]:
        """One token after the other."""
        outputs, values = [], state.values
        for t in range(gates.shape[1]):
            y, values = current().ssru_step(gates[:, t], values, residual[:, t])
            outputs.append(y)
        out = outputs[0][:, None] if len(outputs) == 1 else np.stack(outputs, axis=1)
        return out, type(state)(values)

    def past_attention(
        self,
        projected: Array,
        heads: Heads,
        past: DecoderCache,
        *,
        relative_bias: RelativeBias | None = None,
    ) -> tuple[Array, DecoderCache]:
        """Each token attends to those before it, and to itself."""
        width, first, time = heads.query_width, past.length, projected.shape[1]
        bias = None
        if relative_bias is not None:
            bias = relative_bias.of_queries(first, time, first + time)
        past = past.append(*heads.keys_values(projected[..., width:]))
        merged = np.empty((*projected.shape[:2], width), np.float32)
        attention(
            heads.split(projected[..., :width]),
            past.cache,
            scale=heads.scale,
            bias=bias,
            causal="bottom_right" if time > 1 else False,
            out=heads.split(merged),
        )
        return merged, past

    def memory_attention(
        self, query: Array, heads: Heads, memory: KeyValueCache, return_weights: bool = False
    ) -> tuple[Array, Array | None]:
        """query (rows, time, features), the same number of rows to each sequence of the memory:
        the result and, if asked, the weights (rows, heads, time, longest)."""
        rows, time, width = query.shape
        sequences = len(memory.lengths)
        queries = heads.split(query.reshape(sequences, -1, width))
        merged = np.empty((sequences, queries.shape[2], width), np.float32)
        found = attention(
            queries,
            memory,
            scale=heads.scale,
            out=heads.split(merged),
            return_weights=return_weights,
        )
        weights = None
        if return_weights:
            each = found[1].reshape(sequences, heads.count, rows // sequences, time, -1)
            weights = each.swapaxes(1, 2).reshape(rows, heads.count, time, -1)
        return merged.reshape(rows, time, width), weights


EAGER = Eager()
