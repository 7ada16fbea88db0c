"""The layers of encoder-decoder models: weights and an equation each, float32.

Attention runs through the package's own attention(), everything else through the contract's NumPy
(reference.py). Arrays are (batch, time, features) unless said otherwise. A row's result depends on
that row (and, for attention, on its sequence) alone.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np

from . import reference
from .attention import attention

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Linear:
    """y = x W + b."""

    weight: Array  # (in, out)
    bias: Array | None = None  # (out,)

    def __call__(self, x: Array) -> Array:
        return reference.linear(x, self.weight, self.bias)

    @staticmethod
    def side_by_side(*layers: Linear) -> Linear:
        """One layer whose outputs are those of `layers`, in turn: fewer, larger products."""
        biases = [
            np.zeros(layer.weight.shape[1], np.float32) if layer.bias is None else layer.bias
            for layer in layers
        ]
        return Linear(
            np.concatenate([layer.weight for layer in layers], axis=1), np.concatenate(biases)
        )


@dataclass(frozen=True)
class LayerNorm:
    """Ba et al., 2016: (x - mean) / sqrt(variance + eps) * gamma + beta."""

    gamma: Array  # (features,)
    beta: Array
    eps: float

    def __call__(self, x: Array) -> Array:
        return reference.layer_norm(x, self.gamma, self.beta, self.eps)


@dataclass(frozen=True)
class Embedding:
    """Token vectors times sqrt(features), plus sinusoids of the position."""

    table: Array  # (vocabulary, features)

    def __call__(self, ids: Array, first_position: int = 0) -> Array:
        """ids (batch, time) -> (batch, time, features)."""
        width = self.table.shape[1]
        scaled = self.table[ids] * np.float32(np.sqrt(width))
        return scaled + self.positions(ids.shape[1], first_position)

    def positions(self, count: int, first: int = 0) -> Array:
        """The position vectors alone: (count, features)."""
        known = 64
        while known < first + count:
            known *= 2
        return sinusoids(known, self.table.shape[1])[first : first + count]


@functools.lru_cache(maxsize=16)
def sinusoids(count: int, width: int) -> Array:
    """Vaswani et al., 2017, section 3.5, sines in the first half and cosines in the second.

    sin(p * 10000^(-i / (width / 2 - 1))) for positions p from 0: (count, width).
    """
    half = width // 2
    rate = -reference.log(np.array([1e4])) / (half - 1)
    angles = np.arange(count)[:, None] * reference.exp(np.arange(half) * rate)
    table = np.concatenate(reference.sincos(angles), axis=1).astype(np.float32)
    table.flags.writeable = False
    return table


@dataclass(frozen=True)
class FeedForward:
    """relu(x W1 + b1) W2 + b2."""

    up: Linear
    down: Linear

    def __call__(self, x: Array) -> Array:
        return self.down(np.maximum(self.up(x), np.float32(0)))


@dataclass(frozen=True)
class MultiHeadAttention:
    """Vaswani et al., 2017, section 3.2.2, the projections around attention()."""

    query: Linear
    key_value: Linear  # keys and values side by side
    output: Linear
    heads: int

    def _split(self, x: Array) -> Array:
        """(batch, time, features) -> (batch, heads, time, features / heads), a view."""
        batch, time, width = x.shape
        return x.reshape(batch, time, self.heads, width // self.heads).transpose(0, 2, 1, 3)

    def keys_values(self, memory: Array) -> tuple[Array, Array]:
        """Keys and values of a memory, each (batch, heads, time, features / heads)."""
        both = self.key_value(memory)
        width = both.shape[-1] // 2
        return self._split(both[..., :width]), self._split(both[..., width:])

    def __call__(
        self, x: Array, keys: Array, values: Array, lengths: Array, *, return_weights: bool = False
    ) -> tuple[Array, Array | None]:
        """x (batch, time, features) over keys and values as of keys_values(), the first `lengths`
        (batch,) of them: (batch, time, features) and weights (batch, heads, time, keys)."""
        merged = np.empty((*x.shape[:2], values.shape[1] * values.shape[3]), x.dtype)
        result = attention(
            self._split(self.query(x)),
            keys,
            values,
            key_lengths=lengths,
            out=self._split(merged),
            return_weights=return_weights,
        )
        return self.output(merged), result[1] if return_weights else None


@dataclass(frozen=True)
class SSRU:
    """Simpler simple recurrent unit: Kim et al., "From Research to Production and Back", 2019.

    f = sigmoid(x Wf + bf);  c' = f c + (1 - f) (x W);  the output is relu(c').
    """

    both: Linear  # W and Wf side by side

    def __call__(self, x: Array, cell: Array) -> tuple[Array, Array]:
        """One step: x, cell (batch, features) -> output and the new cell."""
        candidate, forget = np.split(self.both(x), 2, axis=-1)
        f = reference.sigmoid(forget)
        cell = f * cell + (np.float32(1) - f) * candidate
        return np.maximum(cell, np.float32(0)), cell
