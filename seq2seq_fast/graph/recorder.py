"""Recorder: layers that are called with it leave ops in a graph instead of computing.

It has the methods of nn.eager.Eager, which computes at once. What it has no op for is an error.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from . import ops
from .ops import Buffer, Graph

if TYPE_CHECKING:
    from ..nn import attention, linear, norms, positions, sources, ssru


class NoOp(TypeError):
    """A call that no op stands for."""


class Recorder:
    """Ops in the order in which they were recorded."""

    def __init__(self) -> None:
        self._ops: list[ops.Op] = []
        self._widths: list[int] = []

    def buffer(self, width: int) -> Buffer:
        """One more, of rows that have this many features."""
        self._widths.append(width)
        return Buffer(len(self._widths) - 1, width)

    def graph(self, x: Buffer | None, out: Buffer) -> Graph:
        """What has been recorded, from what is given to what it gives."""
        return Graph(self._ops, self._widths, x, out)

    def _add(self, op: ops.Op) -> Buffer:
        self._ops.append(op)
        return op.out

    def linear(
        self,
        layer: linear.Linear,
        x: Buffer,
        activation: str = "none",
        *,
        residual: Buffer | None = None,
        gate: Buffer | None = None,
    ) -> Buffer:
        out = self.buffer(layer.matrix.outputs)
        return self._add(ops.Linear(layer.weights, activation, x, residual, gate, out))

    def norm(self, norm: norms.Norm, x: Buffer) -> Buffer:
        return self._add(ops.Norm(x, norm.gamma, norm.shift, norm.eps, self.buffer(x.width)))

    def self_attention(
        self,
        projected: Buffer,
        heads: attention.Heads,
        integer_scores: bool,
        *,
        relative_bias: positions.RelativeBias | None = None,
        **arguments: Any,
    ) -> Buffer:
        _refuse("self_attention", arguments)
        out = self.buffer(heads.query_width)
        return self._add(ops.SelfAttention(projected, heads, integer_scores, relative_bias, out))

    def embed(self, embedding: sources.Embedding) -> Buffer:
        """The vectors of a step's tokens and of its position."""
        first = embedding.norm_first
        out = self.buffer(embedding.width)
        self._add(ops.Embed(embedding.weights, embedding.scale, not first, out))
        if embedding.norm is not None:
            out = self.norm(embedding.norm, out)
        if first and embedding.positions is not None:
            out = self._add(ops.AddPosition(out, self.buffer(out.width)))
        return out

    def ssru_step(
        self, unit: ssru.SSRU, gates: Buffer, residual: Buffer, layer: int
    ) -> tuple[Buffer, int]:
        out = self.buffer(residual.width)
        return self._add(ops.SSRUStep(gates, layer, residual, out)), layer

    def past_attention(
        self,
        projected: Buffer,
        heads: attention.Heads,
        layer: int,
        *,
        relative_bias: positions.RelativeBias | None = None,
        **arguments: Any,
    ) -> tuple[Buffer, int]:
        _refuse("past_attention", arguments)
        out = self.buffer(heads.query_width)
        return self._add(ops.PastAttention(projected, heads, layer, relative_bias, out)), layer

    def memory_attention(
        self,
        query: Buffer,
        heads: attention.Heads,
        layer: int,
        return_weights: bool = False,
        **arguments: Any,
    ) -> tuple[Buffer, None]:
        if return_weights:
            arguments["return_weights"] = True
        _refuse("memory_attention", arguments)
        out = self.buffer(heads.query_width)
        return self._add(ops.MemoryAttention(query, heads, layer, out)), None


def _refuse(what: str, arguments: dict[str, Any]) -> None:
    if arguments:
        raise NoOp(f"{what} has no op with {', '.join(sorted(arguments))}")
