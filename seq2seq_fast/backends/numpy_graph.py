"""A graph's ops one after the other, by a backend's own methods: how NumPy runs it."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..contract.plan import KEYS, SPAN
from ..graph import ops
from ..graph.ops import Graph
from ..graph.steps import StepState
from .backend import Backend, LinearWeights

Array = np.ndarray[Any, Any]
Arrays = dict[int, Array]


def encode(backend: Backend, graph: Graph, x: Array, lengths: Array | None) -> Array:
    """See Backend.encode."""
    assert graph.x is not None
    arrays = {graph.x.number: x}
    batch, time, _ = x.shape
    for i, op in enumerate(graph.ops):
        if isinstance(op, ops.SelfAttention):
            merged = np.empty((batch, time, op.out.width), np.float32)
            every = op.heads.split(arrays[op.projected.number])
            self_attention(backend, op, every, lengths, merged)
            arrays[op.out.number] = merged
        else:
            _run_rows(backend, op, arrays)
        for buffer in ops.read_by(op):
            if graph.last_read[buffer.number] == i:
                arrays.pop(buffer.number, None)
    return arrays[graph.out.number]


def self_attention(
    backend: Backend, op: ops.SelfAttention, every: Array, lengths: Array | None, merged: Array
) -> None:
    """Of what the projection gave, in heads (batch, heads, time, width), of which `lengths` are
    there, into merged (batch, time, features)."""
    batch, _, time, _ = every.shape
    heads, spans = op.heads, None
    plan = heads.plan(batch, time, time, integer_scores=op.integer_scores)
    if lengths is not None:
        spans = np.empty((batch, len(SPAN)), np.int64)
        spans[:] = plan.span
        spans[:, KEYS] = lengths
    query, key, value = np.split(every, [heads.count, heads.count + heads.keys], axis=1)
    bias = None if op.bias is None else op.bias.of_queries(0, time, time)
    _attend(backend, plan, query, key, value, bias, spans, heads.split(merged))


def _run_rows(backend: Backend, op: ops.Op, arrays: Arrays) -> None:
    """An op that each row goes through by itself."""
    if isinstance(op, ops.Linear):
        residual = None if op.residual is None else arrays[op.residual.number]
        gate = None if op.gate is None else arrays[op.gate.number]
        x = arrays[op.x.number]
        arrays[op.out.number] = backend.linear(op.weights, x, op.activation, residual, gate)
    elif isinstance(op, ops.Norm):
        arrays[op.out.number] = backend.norm(arrays[op.x.number], op.gamma, op.beta, op.eps)
    else:
        raise TypeError(f"no such op: {op}")


def _attend(
    backend: Backend,
    plan: Any,
    query: Array,
    key: Array,
    value: Array,
    bias: Array | None,
    spans: Array | None,
    out: Array,
) -> None:
    backend.attention(
        plan, query, key, value, plan.scale, 0.0, None, bias, None, spans, out, None, None
    )


class NumpySteps:
    """See graph.steps.Steps."""

    def __init__(
        self, backend: Backend, graph: Graph, output: LinearWeights, state: StepState
    ) -> None:
        self.backend, self.graph, self.output, self.state = backend, graph, output, state
        self.logits = np.empty((0, output.matrix.outputs), np.float32)

    def choose(self, output: LinearWeights) -> None:
        self.output = output

    def run(self, sequences: int) -> None:
        rows = sequences * self.state.beams
        arrays: Arrays = {}
        for op in self.graph.ops:
            if isinstance(op, ops.Embed):
                arrays[op.out.number] = self._embedded(op, rows)
            elif isinstance(op, ops.AddPosition):
                arrays[op.out.number] = self._with_position(arrays[op.x.number])
            elif isinstance(op, ops.SSRUStep):
                state = self.state.past[op.layer]
                assert isinstance(state, np.ndarray)
                gates, residual = arrays[op.gates.number], arrays[op.residual.number]
                found = self.backend.ssru_step(gates, state[:rows], residual)
                arrays[op.out.number], state[:rows] = found
            elif isinstance(op, ops.PastAttention):
                arrays[op.out.number] = self._past(op, arrays[op.projected.number])
            elif isinstance(op, ops.MemoryAttention):
                arrays[op.out.number] = self._memory(op, arrays[op.query.number], sequences)
            else:
                _run_rows(self.backend, op, arrays)
        self.logits = self.backend.linear(self.output, arrays[self.graph.out.number])

    def _embedded(self, op: ops.Embed, rows: int) -> Array:
        tokens = self.state.tokens[:rows]
        x = op.weights.matrix.rows(np.maximum(tokens, 0))
        x[tokens < 0] = 0
        if op.scale != 1:
            x = x * np.float32(op.scale)
        return self._with_position(x) if op.positions else x

    def _with_position(self, x: Array) -> Array:
        positions = self.state.positions
        return x if positions is None else x + positions[self.state.step[0]]

    def _past(self, op: ops.PastAttention, projected: Array) -> Array:
        rows, heads = len(projected), op.heads
        panels, values = self.state.past[op.layer]
        spans = self.state.past_spans[op.layer]
        every = heads.split(projected[:, None])
        query, key, value = np.split(every, [heads.count, heads.count + heads.keys], axis=1)
        each, at, lanes = np.arange(rows), spans[:rows, KEYS], panels.shape[-1]
        panels[each, :, at // lanes, :, at % lanes] = key[:, :, 0]
        values[each, :, at] = value[:, :, 0]
        spans[:rows, KEYS] += 1
        merged = np.empty((rows, 1, heads.query_width), np.float32)
        bias = None
        if op.bias is not None:
            step = int(self.state.step[0])
            bias = op.bias.of_queries(step, 1, step + 1)
        self._attend(heads, query, panels[:rows], values[:rows], bias, spans[:rows], merged)
        return merged[:, 0]

    def _memory(self, op: ops.MemoryAttention, query: Array, sequences: int) -> Array:
        heads = op.heads
        panels, values = self.state.memory[op.layer]
        merged = np.empty((sequences, self.state.beams, heads.query_width), np.float32)
        queries = heads.split(query.reshape(sequences, self.state.beams, -1))
        spans = self.state.memory_spans[:sequences]
        self._attend(heads, queries, panels[:sequences], values[:sequences], None, spans, merged)
        return merged.reshape(len(query), -1)

    def _attend(
        self,
        heads: Any,
        query: Array,
        panels: Array,
        values: Array,
        bias: Array | None,
        spans: Array,
        merged: Array,
    ) -> None:
        keys = int(spans[:, KEYS].max())
        plan = heads.plan(len(query), query.shape[2], keys, packed=True)
        key = panels[:, :, : -(-keys // panels.shape[-1])]
        value, out = values[:, :, :keys], heads.split(merged)
        _attend(self.backend, plan, query, key, value, bias, spans, out)

    def greedy(
        self,
        sequences: int,
        most: int,
        never: Array,
        ids: Array | None,
        own: tuple[Array, Array, Array] | None,
        end: int,
    ) -> tuple[Array, Array]:
        found: list[Array] = []
        scores: list[Array] = []
        while len(found) < most and not (found and (found[-1] == end).any()):
            self.run(sequences)
            logits = self.logits
            logits[:, never] = -np.inf
            if own is not None:
                places, lengths, sources = own
                logits = np.take_along_axis(logits, places[sources], axis=1)
                logits[np.arange(logits.shape[1]) >= lengths[sources][:, None]] = -np.inf
            columns, best, _ = self.backend.topk_log_softmax(logits, 1)
            columns = columns[:, 0]
            if own is not None:
                columns = places[sources, columns]
            tokens = columns if ids is None else ids[columns]
            tokens = np.where(best[:, 0] == -np.inf, end, tokens)
            self.state.tokens[:sequences] = tokens
            self.state.step[0] += 1
            found.append(tokens)
            scores.append(best[:, 0])
        return np.array(found), np.array(scores)

    def copy_history(self, targets: Array, sources: Array, starts: Array, stop: int) -> None:
        for cache in self.state.past:
            if not isinstance(cache, tuple):
                continue
            panels, values = cache
            lanes = panels.shape[-1]
            for target, source, start in zip(targets, sources, starts, strict=True):
                some, others = slice(start // lanes, -(-stop // lanes)), slice(start, stop)
                panels[target, :, some] = panels[source, :, some]
                values[target, :, others] = values[source, :, others]
