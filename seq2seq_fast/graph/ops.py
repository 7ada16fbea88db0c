"""Graph: ops over numbered buffers. Pure data: nothing here knows how they are run.

A buffer stands for rows of float32, one for each token; its width is their number of features.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from ..backends.backend import LinearWeights
    from ..nn.attention import Heads
    from ..nn.positions import RelativeBias

Array = np.ndarray[Any, Any]


class Buffer(NamedTuple):
    """Rows that an op gives, or that the graph is given."""

    number: int
    width: int


@dataclass(frozen=True, eq=False)
class Linear:
    """out = activation(x W + b), then plus `residual` or times `gate`."""

    weights: LinearWeights
    activation: str
    x: Buffer
    residual: Buffer | None
    gate: Buffer | None
    out: Buffer


@dataclass(frozen=True, eq=False)
class Norm:
    """Layer norm, or without beta RMS norm."""

    x: Buffer
    gamma: Array
    beta: Array | None
    eps: float
    out: Buffer


@dataclass(frozen=True, eq=False)
class SelfAttention:
    """Of each sequence to itself; `projected` has queries, keys and values side by side."""

    projected: Buffer
    heads: Heads
    integer_scores: bool
    bias: RelativeBias | None
    out: Buffer


@dataclass(frozen=True, eq=False)
class Embed:
    """Vectors of the step's tokens, times `scale`."""

    weights: LinearWeights
    scale: float
    positions: bool  # plus the vector of the step's position, if there are any
    out: Buffer


@dataclass(frozen=True, eq=False)
class AddPosition:
    """x plus the vector of the step's position."""

    x: Buffer
    out: Buffer


@dataclass(frozen=True, eq=False)
class SSRUStep:
    """The recurrent unit of a decoder's layer, whose state it replaces."""

    gates: Buffer
    layer: int
    residual: Buffer
    out: Buffer


@dataclass(frozen=True, eq=False)
class PastAttention:
    """The step's key and value, appended to the cache of a decoder's layer, then attention to the
    cache; `projected` has queries, keys and values side by side."""

    projected: Buffer
    heads: Heads
    layer: int
    bias: RelativeBias | None
    out: Buffer


@dataclass(frozen=True, eq=False)
class MemoryAttention:
    """To what a decoder's layer has kept of the encoder's output. The rows (beams) of a sequence
    are its queries."""

    query: Buffer
    heads: Heads
    layer: int
    out: Buffer


Op = (
    Linear | Norm | SelfAttention | Embed | AddPosition | SSRUStep | PastAttention | MemoryAttention
)

_READ = ("x", "residual", "gate", "projected", "gates", "query")


def read_by(op: Op) -> list[Buffer]:
    """The buffers that an op reads."""
    found = (getattr(op, name, None) for name in _READ)
    return [buffer for buffer in found if isinstance(buffer, Buffer)]


class Graph:
    """Ops in the order in which they may be run.

    Parameters
    ----------
    ops : list of Op
    widths : list of int
        Of each buffer, by its number.
    x : Buffer, optional
        What the graph is given, if it is given rows.
    out : Buffer
        What it gives.
    """

    def __init__(self, ops: list[Op], widths: list[int], x: Buffer | None, out: Buffer) -> None:
        self.ops, self.widths, self.x, self.out = tuple(ops), tuple(widths), x, out
        self.last_read = {out.number: len(ops)}
        """Of each buffer the number of the last op that reads it."""
        for i, op in enumerate(ops):
            for buffer in read_by(op):
                self.last_read[buffer.number] = max(i, self.last_read.get(buffer.number, 0))
        self.prepared: dict[Any, Any] = {}
        """What backends have made of the graph, by their own keys."""

    def slots(self) -> tuple[list[int], list[int]]:
        """Of each buffer the number of a slot, which several may use one after the other, and of
        each slot the width."""
        slot_of = [-1] * len(self.widths)
        widths: list[int] = []
        free: list[int] = []

        def take(buffer: Buffer) -> None:
            same = [slot for slot in free if widths[slot] == buffer.width]
            if same:
                free.remove(same[-1])
                slot_of[buffer.number] = same[-1]
            else:
                widths.append(buffer.width)
                slot_of[buffer.number] = len(widths) - 1

        if self.x is not None:
            take(self.x)
        for i, op in enumerate(self.ops):
            take(op.out)  # before what it reads is free: none is written while it is read
            for buffer in {*read_by(op)}:
                if self.last_read[buffer.number] == i:
                    free.append(slot_of[buffer.number])
        return slot_of, widths
