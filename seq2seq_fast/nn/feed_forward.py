"""The feed-forward sublayer: x -> residual + f(x)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from .checks import must_be_known, must_equal
from .linear import Linear

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, eq=False)
class FeedForward:
    """activation(x W1 + b1) W2 + b2; gated: (activation(x W1 + b1) * (x V + c)) W2 + b2
    (Shazeer, "GLU Variants Improve Transformer", 2020)."""

    up: Linear
    down: Linear
    activation: str = "relu"
    gate: Linear | None = None  # V, c

    def __post_init__(self) -> None:
        gate = self.up.matrix if self.gate is None else self.gate.matrix
        up, down = self.up.matrix, self.down.matrix
        must_equal("widths of a feed-forward layer", up.outputs, gate.outputs, down.inputs)
        must_equal("widths of a feed-forward layer", up.inputs, gate.inputs, down.outputs)
        must_be_known(self.activation)

    @property
    def width(self) -> int:
        return self.up.matrix.inputs

    def __call__(self, x: Array, residual: Array) -> Array:
        """x, residual and the result (..., features)."""
        hidden = self.up(x, self.activation)
        if self.gate is not None:
            hidden = self.gate(x, gate=hidden)
        return self.down(hidden, residual=residual)
