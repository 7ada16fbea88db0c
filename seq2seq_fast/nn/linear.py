"""Linear layers and convolutions: packed weights and a bias."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..backends.backend import LinearWeights
from ..backends.selection import current
from ..pickling import Part
from .weights import Matrix, check_floats

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, eq=False)
class Linear(Part):
    """activation(x W + b)."""

    matrix: Matrix
    bias: Array | None = None  # (outputs,)

    def __post_init__(self) -> None:
        if self.bias is not None:
            check_floats("bias", self.bias, self.matrix.outputs)

    @functools.cached_property
    def weights(self) -> LinearWeights:
        """The layer as backends take it."""
        return LinearWeights(self.matrix, self.bias)

    def __call__(
        self,
        x: Array,
        activation: str = "none",
        *,
        residual: Array | None = None,
        gate: Array | None = None,
        out: Array | None = None,
    ) -> Array:
        """x (..., inputs) -> (..., outputs), at last plus `residual` or times `gate`, arrays of
        that shape; into `out`, a contiguous one, if it is given."""
        return current().linear(self.weights, x, activation, residual, gate, out)

    def select(self, ids: Array) -> Linear:
        """The layer of the given outputs alone."""
        matrix = current().select(self.weights, ids)
        return Linear(matrix, None if self.bias is None else self.bias[ids])

    @staticmethod
    def side_by_side(*layers: Linear, matrix: Matrix | None = None) -> Linear:
        """One layer whose outputs are those of `layers`, in turn: fewer, larger products. Of
        `matrix`, if that has been made of theirs already."""
        if matrix is None:
            matrix = Matrix.stack(*(layer.matrix for layer in layers))
        if all(layer.bias is None for layer in layers):
            return Linear(matrix)
        biases = [
            np.zeros(layer.matrix.outputs, np.float32) if layer.bias is None else layer.bias
            for layer in layers
        ]
        return Linear(matrix, np.concatenate(biases))


@dataclass(frozen=True, eq=False)
class Convolution:
    """Over time, as long as its input and centred: a linear layer of `kernel` rows of the input,
    which lie one after the other. Rows before the first and past the last are zeros."""

    linear: Linear  # of kernel * channels inputs
    kernel: int
    stride: int = 1

    def __post_init__(self) -> None:
        divides = self.kernel > 0 and self.linear.matrix.inputs % self.kernel == 0
        if not divides or not 1 <= self.stride <= self.kernel:  # or rows would be passed over
            inputs = self.linear.matrix.inputs
            raise ValueError(f"no convolution: {inputs} inputs, {self.kernel=}, {self.stride=}")

    @property
    def channels(self) -> int:
        return self.linear.matrix.inputs // self.kernel

    def padded(self, time: int) -> tuple[Array, Array]:
        """Room for an input with the zeros around it, and a view (time, channels) of the input."""
        padded = np.empty((time + self.kernel - 1, self.channels), np.float32)
        before = (self.kernel - 1) // 2
        padded[:before] = padded[before + time :] = 0
        return padded, padded[before : before + time]

    def length(self, time: int) -> int:
        """How many rows come of so many."""
        return -(-time // self.stride)

    def __call__(
        self,
        padded: Array,
        activation: str = "none",
        *,
        residual: Array | None = None,
        out: Array | None = None,
    ) -> Array:
        """What padded() gave -> (length, outputs), plus `residual` of that shape; into `out`,
        if it is given."""
        row, column = padded.strides
        windows = np.lib.stride_tricks.as_strided(
            padded,
            (self.length(len(padded) - self.kernel + 1), self.linear.matrix.inputs),
            (self.stride * row, column),
            writeable=False,
        )
        return self.linear(windows, activation, residual=residual, out=out)
