"""The contract as a backend: in NumPy, where there is no compiled kernel."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .. import contract
from ..contract.panels import unpacked
from ..contract.plan import Plan
from .backend import Backend, LinearWeights

if TYPE_CHECKING:
    from ..nn.weights import Matrix

Array = np.ndarray[Any, Any]


class NumpyBackend(Backend):
    """NumPy's own loops, on one thread."""

    name = "numpy"

    def attention(self, plan: Plan, query: Array, key: Array, *rest: Any) -> None:
        if plan.packed:
            key = unpacked(key)[..., : plan.keys, :]
        contract.attention(plan, query, key, *rest)

    def linear(
        self,
        weights: LinearWeights,
        x: Array,
        activation: str = "none",
        residual: Array | None = None,
        gate: Array | None = None,
        out: Array | None = None,
    ) -> Array:
        matrix, bias = weights.matrix, weights.bias
        if matrix.scales is None:
            result = contract.linear(x, matrix.rows().T, bias, activation, residual, gate)
        else:
            scales = matrix.scales[: matrix.outputs]
            result = contract.integer_linear(
                x, matrix.integers().T, scales, matrix.input_scale,
                bias, activation, residual, gate,
            )  # fmt: skip
        if out is None:
            return result
        out[...] = result
        return out

    def select(self, weights: LinearWeights, ids: Array) -> Matrix:
        return weights.matrix.select(ids)

    def norm(self, x: Array, gamma: Array, beta: Array | None, eps: float) -> Array:
        if beta is None:
            return contract.rms_norm(x, gamma, eps)
        return contract.layer_norm(x, gamma, beta, eps)

    def ssru_step(self, gates: Array, state: Array, residual: Array) -> tuple[Array, Array]:
        return contract.ssru_step(gates, state, residual)

    def topk_log_softmax(self, logits: Array, k: int) -> tuple[Array, Array, Array]:
        return contract.topk_log_softmax(logits, k)
