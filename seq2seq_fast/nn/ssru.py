"""The SSRU, a recurrent unit in place of a decoder's self-attention."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..backends.selection import current
from .checks import must_equal
from .linear import Linear

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, eq=False)
class SSRU:
    """Simpler simple recurrent unit: Kim et al., "From Research to Production and Back", 2019.

    f = sigmoid(x Wf + bf);  c' = f c + (1 - f) (x W);  the output is relu(c').
    """

    gates: Linear  # W and Wf side by side

    def __post_init__(self) -> None:
        must_equal("widths of an SSRU", self.gates.matrix.outputs, 2 * self.gates.matrix.inputs)

    @property
    def width(self) -> int:
        return self.gates.matrix.inputs

    def start(self, rows: int) -> SSRUState:
        """c before the first step."""
        return SSRUState(np.zeros((rows, self.gates.matrix.outputs // 2), np.float32))

    def step(self, x: Array, residual: Array, state: SSRUState) -> tuple[Array, SSRUState]:
        """x (rows, time, features): one token after the other."""
        gates = self.gates(x)
        outputs = []
        for t in range(x.shape[1]):
            y, values = current().ssru_step(gates[:, t], state.values, residual[:, t])
            outputs.append(y)
            state = SSRUState(values)
        return outputs[0][:, None] if len(outputs) == 1 else np.stack(outputs, axis=1), state


@dataclass(frozen=True, eq=False)
class SSRUState:
    """A recurrent unit's state."""

    values: Array  # (rows, features)

    def select(self, rows: Array) -> SSRUState:
        """Of the given rows."""
        return SSRUState(self.values[rows])
