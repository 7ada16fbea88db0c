"""Backend: what computes. Layers call the active one (selection.current()) and know no more of it.

Arrays are validated before they come here. All backends give the same bits: those of the contract,
whose functions of the same names say what each result is.
"""

from __future__ import annotations

import abc
from collections.abc import Hashable
from typing import TYPE_CHECKING, Any

import numpy as np

from ..contract.plan import Plan
from ..graph.ops import Graph
from ..graph.steps import Steps, StepState

if TYPE_CHECKING:
    from ..nn.weights import Matrix

Array = np.ndarray[Any, Any]


class LinearWeights:
    """A linear layer's matrix (outputs, inputs) and bias (outputs,), as backends take them.

    `handle` is what a backend makes of them once, and keeps here.
    """

    def __init__(self, matrix: Matrix, bias: Array | None = None) -> None:
        self.matrix, self.bias = matrix, bias
        self.handle: Any = None


class Backend(abc.ABC):
    """One way to compute, with the number of threads that a call may use."""

    name: str
    isa: str | None = None
    """The instruction set, where there is a choice."""

    def __init__(self, threads: int, threads_from: str) -> None:
        self.threads = threads
        self.threads_from = threads_from  # what decided their number, as info() names it

    @property
    def settings(self) -> Hashable:
        """What two backends that do the same have in common."""
        return self.name, self.isa, self.threads

    @abc.abstractmethod
    def attention(
        self,
        plan: Plan,
        query: Array,
        key: Array,
        value: Array,
        scale: float,
        softcap: float,
        mask: Array | None,
        bias: Array | None,
        sinks: Array | None,
        spans: Array | None,
        out: Array,
        weights: Array | None,
        statistics: Array | None,
    ) -> None:
        """Fills `out` (and `weights`, `statistics`): see contract.attention."""

    @abc.abstractmethod
    def linear(
        self,
        weights: LinearWeights,
        x: Array,
        activation: str = "none",
        residual: Array | None = None,
        gate: Array | None = None,
        out: Array | None = None,
    ) -> Array:
        """x (..., inputs) -> activation(x W + b), then plus `residual` or times `gate`,
        (..., outputs); into `out`, if it is given."""

    @abc.abstractmethod
    def select(self, weights: LinearWeights, ids: Array) -> Matrix:
        """The matrix of some outputs alone: ids (n,) give (n, inputs)."""

    @abc.abstractmethod
    def norm(self, x: Array, gamma: Array, beta: Array | None, eps: float) -> Array:
        """Layer norm, or without beta RMS norm, of x (..., n); gamma, beta (n,)."""

    @abc.abstractmethod
    def ssru_step(self, gates: Array, state: Array, residual: Array) -> tuple[Array, Array]:
        """gates (rows, 2 n), state and residual (rows, n) -> the result and the new state."""

    @abc.abstractmethod
    def topk_log_softmax(self, logits: Array, k: int) -> tuple[Array, Array, Array]:
        """logits (rows, n) -> ids and log-probabilities (rows, k) of the likeliest, the likeliest
        first, and what is to be subtracted from a logit, twice, to give its own, (rows, 2)."""

    @abc.abstractmethod
    def encode(self, graph: Graph, x: Array, lengths: Array | None) -> Array:
        """An encoder's graph, of x (batch, time, width), which may be written over, of which
        `lengths` (batch,) are there, all if None -> rows of that shape."""

    @abc.abstractmethod
    def steps(self, graph: Graph, output: LinearWeights, state: StepState) -> Steps:
        """What runs a decoder's graph step by step, with an output layer after it."""
