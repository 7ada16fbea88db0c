"""The compiled kernel as a backend: one instruction set, and threads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..aligned import aligned_zeros, contiguous
from ..contract.panels import PANEL
from ..contract.plan import Plan
from ..graph.ops import Graph
from ..graph.steps import Steps, StepState
from . import native
from .backend import Backend, LinearWeights
from .native import ACTIVATION_NUMBERS, first_of, floats, integers, operand, strided
from .native_graph import encode
from .native_steps import NativeSteps

if TYPE_CHECKING:
    from ..nn.weights import Matrix

Array = np.ndarray[Any, Any]


class NativeBackend(Backend):
    """The kernel of an instruction set that this processor runs."""

    name = "native"

    def __init__(self, isa: str, threads: int, threads_from: str) -> None:
        super().__init__(threads, threads_from)
        self.isa = isa
        self.isa_number = native.ISA_NUMBERS[isa]

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
        query_at, query = operand(query)
        key_at, key = operand(key)
        value_at, value = operand(value)
        mask_at, mask, mask_signature = native.broadcasting(mask)
        bias_at, bias, bias_signature = native.broadcasting(bias)
        sinks_at, sinks, sinks_signature = native.broadcasting(sinks)
        problem = native.attention_problem(
            plan,
            query.strides,
            key.strides,
            value.strides,
            out.strides,
            mask_signature,
            bias_signature,
            sinks_signature,
            None if weights is None else weights.strides,
            None if statistics is None else statistics.strides,
        )
        status = native.lib.s2s_attention(
            problem,
            self.isa_number,
            self.threads,
            scale,
            softcap,
            query_at,
            key_at,
            value_at,
            mask_at,
            bias_at,
            sinks_at,
            native.ffi.NULL if spans is None else native.ffi.from_buffer("s2s_span *", spans),
            operand(out)[0],
            native.ffi.NULL if weights is None else native.ffi.from_buffer(weights),
            native.ffi.NULL
            if statistics is None
            else native.ffi.from_buffer("double *", statistics),
        )
        if status != native.lib.S2S_OK:
            raise MemoryError("attention: no memory for the kernel's scratch buffers")

    def linear(
        self,
        weights: LinearWeights,
        x: Array,
        activation: str = "none",
        residual: Array | None = None,
        gate: Array | None = None,
        out: Array | None = None,
    ) -> Array:
        layer, other = native.native_weights(weights), gate if residual is None else residual
        x, stride = strided(x)
        other = None if other is None else contiguous(other)
        shape = (*x.shape[:-1], layer.outputs)
        target = np.empty(shape, np.float32) if out is None else contiguous(out)
        native.check(
            native.lib.s2s_linear(
                layer.struct,
                native.ffi.NULL,
                self.isa_number,
                self.threads,
                ACTIVATION_NUMBERS[activation],
                x.size // layer.inputs,
                native.ffi.cast("float *", first_of(x)),
                stride,
                native.ffi.NULL if other is None else floats(other),
                layer.outputs,
                gate is not None,
                floats(target),
                layer.outputs,
            ),
            "linear",
        )
        if out is None or target is out:
            return target
        out[...] = target
        return out

    def select(self, weights: LinearWeights, ids: Array) -> Matrix:
        matrix = weights.matrix
        shape = (-(-len(ids) // PANEL), *matrix.panels.shape[1:])
        panels = aligned_zeros(shape, matrix.panels.dtype)
        ids = contiguous(np.asarray(ids, np.int64))
        struct = native.native_weights(weights).struct
        native.lib.s2s_select(struct, len(ids), integers(ids), native.ffi.from_buffer(panels))
        return matrix.selected(ids, panels)

    def norm(self, x: Array, gamma: Array, beta: Array | None, eps: float) -> Array:
        x, gamma = contiguous(x), contiguous(gamma)
        beta = None if beta is None else contiguous(beta)
        out = np.empty(x.shape, np.float32)
        n = len(gamma)
        native.check(
            native.lib.s2s_norm(
                self.isa_number,
                self.threads,
                x.size // n,
                n,
                floats(x),
                floats(gamma),
                native.ffi.NULL if beta is None else floats(beta),
                eps,
                floats(out),
            ),
            "norm",
        )
        return out

    def ssru_step(self, gates: Array, state: Array, residual: Array) -> tuple[Array, Array]:
        rows, n = state.shape
        out, new_state = np.empty((rows, n), np.float32), np.empty((rows, n), np.float32)
        gates, state, residual = contiguous(gates), contiguous(state), contiguous(residual)
        native.check(
            native.lib.s2s_ssru_step(
                self.isa_number,
                rows,
                n,
                floats(gates),
                floats(state),
                floats(residual),
                floats(new_state),
                floats(out),
            ),
            "ssru_step",
        )
        return out, new_state

    def topk_log_softmax(self, logits: Array, k: int) -> tuple[Array, Array, Array]:
        logits = contiguous(logits)
        rows, n = logits.shape
        ids = np.empty((rows, k), np.int64)
        log_probabilities = np.empty((rows, k), np.float32)
        statistics = np.empty((rows, 2), np.float32)
        native.check(
            native.lib.s2s_topk_log_softmax(
                self.isa_number,
                self.threads,
                rows,
                n,
                floats(logits),
                n,
                k,
                integers(ids),
                floats(log_probabilities),
                floats(statistics),
            ),
            "topk_log_softmax",
        )
        return ids, log_probabilities, statistics

    def encode(self, graph: Graph, x: Array, lengths: Array | None) -> Array:
        return encode(self, graph, x, lengths)

    def steps(self, graph: Graph, output: LinearWeights, state: StepState) -> Steps:
        return NativeSteps(self, graph, output, state)
