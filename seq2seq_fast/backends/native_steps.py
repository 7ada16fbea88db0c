"""A decoder's graph through the kernel: a step, or many steps of greedy search, in one call."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..contract.panels import PANEL
from ..graph import ops
from ..graph.ops import Graph
from ..graph.steps import StepState
from . import native
from .backend import LinearWeights
from .native_graph import Calls, address, run_calls

if TYPE_CHECKING:
    from .native_backend import NativeBackend

Array = np.ndarray[Any, Any]


class NativeSteps:
    """See graph.steps.Steps."""

    def __init__(
        self, backend: NativeBackend, graph: Graph, output: LinearWeights, state: StepState
    ) -> None:
        self.backend, self.state = backend, state
        slot_of, widths = graph.slots()
        slots = [np.empty((state.rows, width), np.float32) for width in widths]
        arrays = [slots[slot] for slot in slot_of]
        calls = Calls(state.sequences)
        for op in graph.ops:
            if isinstance(op, ops.Embed):
                layer = native.native_weights(op.weights)
                calls.held.append(layer)
                calls.add(
                    native.lib.S2S_OP_EMBED, state.rows,
                    (state.tokens, state.positions if op.positions else None),
                    (arrays[op.out.number],), matrix=layer.address, number=op.scale,
                    step=address(state.step),
                )  # fmt: skip
            elif isinstance(op, ops.AddPosition):
                calls.add(
                    native.lib.S2S_OP_ADD_POSITION, state.rows,
                    (arrays[op.x.number], state.positions), (arrays[op.out.number],),
                    n=op.out.width, step=address(state.step),
                )  # fmt: skip
            elif isinstance(op, ops.SSRUStep):
                past, out = state.past[op.layer], arrays[op.out.number]
                assert isinstance(past, np.ndarray)
                ins = (arrays[op.gates.number], past, arrays[op.residual.number])
                calls.add(
                    native.lib.S2S_OP_SSRU_STEP, state.rows, ins, (out, past), n=past.shape[1]
                )
            elif isinstance(op, ops.PastAttention):
                self._add_past(calls, op, arrays)
            elif isinstance(op, ops.MemoryAttention):
                self._add_memory(calls, op, arrays)
            else:
                calls.add_rows(op, arrays)
        self._x = arrays[graph.out.number]
        self._held = calls.held
        self._calls = calls.finish()
        last = Calls(state.sequences)
        last.add(native.lib.S2S_OP_LINEAR, state.rows, (self._x, None), (self._x,), choice=0)
        self._calls = np.concatenate([self._calls, last.finish()])
        self.choose(output)

    def _add_past(self, calls: Calls, op: ops.PastAttention, arrays: list[Array]) -> None:
        state, heads, projected = self.state, op.heads, arrays[op.projected.number]
        panels, values = state.past[op.layer]
        every = heads.split(projected[:, None])
        query, key, value = np.split(every, [heads.count, heads.count + heads.keys], axis=1)
        spans, scratch = state.past_spans[op.layer], np.empty(heads.width * PANEL, np.float32)
        keys = values.shape[2]
        plan = heads.plan(state.rows, 1, keys, packed=True)
        bias = None if op.bias is None else op.bias.of_queries(0, keys, keys)[:, :1]
        out = heads.split(arrays[op.out.number][:, None])
        append = calls.add(
            native.lib.S2S_OP_APPEND, state.rows, (key, value), (panels, values, scratch, spans),
            stride=projected.shape[1],
        )  # fmt: skip
        append["problem"] = calls.add_attention(
            plan, query, panels, values, spans, out, bias, None if bias is None else state.step
        )

    def _add_memory(self, calls: Calls, op: ops.MemoryAttention, arrays: list[Array]) -> None:
        state, heads = self.state, op.heads
        panels, values = state.memory[op.layer]
        shape = (state.sequences, state.beams, heads.query_width)
        query = heads.split(arrays[op.query.number].reshape(shape))
        out = heads.split(arrays[op.out.number].reshape(shape))
        plan = heads.plan(state.sequences, state.beams, values.shape[2], packed=True)
        calls.add_attention(plan, query, panels, values, state.memory_spans, out)

    def choose(self, output: LinearWeights) -> None:
        """The last call is the output layer."""
        layer = native.native_weights(output)
        self.logits = np.empty((self.state.rows, layer.outputs), np.float32)
        self._output = layer
        self._calls[-1]["matrix"] = layer.address
        self._calls[-1]["out"][0] = address(self.logits)

    def run(self, sequences: int) -> None:
        run_calls(self.backend, self._calls, sequences)

    def greedy(
        self,
        sequences: int,
        most: int,
        never: Array,
        ids: Array | None,
        own: tuple[Array, Array, Array] | None,
        end: int,
    ) -> tuple[Array, Array]:
        found = np.empty((most, sequences), np.int64)
        scores = np.empty((most, sequences), np.float32)
        statistics = np.empty((sequences, 2), np.float32)
        taken = native.ffi.new("int64_t *")
        nothing = native.ffi.NULL
        places, lengths, sources = map(native.integers, own) if own else (nothing,) * 3
        longest = own[0].shape[1] if own else 0
        gathered = np.empty((sequences, longest), np.float32)
        choice = native.ffi.new(
            "s2s_greedy *",
            {
                "logits": native.floats(self.logits),
                "columns": self.logits.shape[1],
                "ids": nothing if ids is None else native.integers(ids),
                "places": places,
                "lengths": lengths,
                "sources": sources,
                "longest": longest,
                "own": native.floats(gathered),
                "never": native.integers(never),
                "never_count": len(never),
                "end": end,
                "tokens": native.integers(self.state.tokens),
                "step": native.integers(self.state.step),
            },
        )
        native.check(
            native.lib.s2s_run_greedy(
                native.ffi.from_buffer("s2s_op *", self._calls),
                len(self._calls),
                self.backend.isa_number,
                self.backend.threads,
                sequences,
                choice,
                most,
                native.integers(found),
                native.floats(scores),
                native.floats(statistics),
                taken,
            ),
            "step",
        )
        return found[: taken[0]], scores[: taken[0]]

    def copy_history(self, targets: Array, sources: Array, starts: Array, stop: int) -> None:
        native.lib.s2s_copy_history(
            native.ffi.from_buffer("s2s_op *", self._calls),
            len(self._calls),
            len(targets),
            *map(native.integers, (targets, sources, starts)),
            stop,
        )
