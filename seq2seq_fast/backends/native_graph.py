"""An encoder's graph through the kernel: one call, or blocks of rows between attentions."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from ..aligned import contiguous
from ..contract.plan import KEYS, PACKED, QUERIES, SPAN
from ..graph import ops
from ..graph.ops import Buffer, Graph
from ..graph.schedule import SHORT, is_short, schedule_of
from . import native
from .numpy_graph import self_attention

if TYPE_CHECKING:
    from .native_backend import NativeBackend

Array = np.ndarray[Any, Any]


def encode(backend: NativeBackend, graph: Graph, x: Array, lengths: Array | None) -> Array:
    """See Backend.encode."""
    batch, time, _ = x.shape
    if schedule_of(batch, time, backend.threads) == "by_row_block":
        blocks: RowBlocks | None = graph.prepared.get("row_blocks")
        if blocks is None:
            blocks = graph.prepared["row_blocks"] = RowBlocks(graph)
        return blocks.run(backend, x, lengths)
    if not is_short(batch, time):
        return EncoderCalls(graph, batch, time).run(backend, x, lengths)
    # Each program is run by one thread at a time, which takes it and gives it back.
    idle: list[EncoderCalls] = graph.prepared.setdefault("short", [])
    try:
        program = idle.pop()
    except IndexError:
        program = EncoderCalls(graph, 1, SHORT)
    out = program.run(backend, x, lengths)
    if len(idle) < MAX_IDLE:
        idle.append(program)
    return out


MAX_IDLE = 4  # as many threads as are likely to be here at a time


def address(array: Array) -> int:
    return int(native.ffi.cast("uintptr_t", native.first_of(array)))


class Calls:
    """A graph's ops with the addresses of what they read and write, as the kernel takes them."""

    def __init__(self, sequences: int) -> None:
        self.sequences = sequences
        self.held: list[Any] = []  # what the addresses lead to
        self._listed: list[Array] = []

    def add(
        self,
        kind: int,
        rows: int,
        ins: tuple[Array | None, ...],
        outs: tuple[Array, ...],
        **fields: Any,
    ) -> Array:
        """Returns the call, a struct whose fields can be set."""
        self.held.append((ins, outs))
        op = np.zeros((), native.struct_dtype("s2s_op"))
        op["kind"], op["rows"] = kind, rows // self.sequences
        for name, value in fields.items():
            op[name] = value
        for name, arrays in (("in", ins), ("out", outs)):
            for i, array in enumerate(arrays):
                op[name][i] = 0 if array is None else address(array)
        self._listed.append(op)
        return op

    def add_rows(self, op: ops.Op, arrays: list[Array]) -> None:
        """An op that each row goes through by itself; arrays (..., width) by buffer."""
        kind, read, constants, fields = self._of_rows(op)
        ins = (*(None if one is None else arrays[one.number] for one in read), *constants)
        rows = arrays[op.out.number].size // op.out.width
        self.add(kind, rows, ins, (arrays[op.out.number],), **fields)

    def add_to_block(self, op: ops.Op, number: Callable[[Buffer | None], int]) -> None:
        """The same by row block, where buffers are numbers."""
        kind, (x, *others), constants, fields = self._of_rows(op)
        call = self.add(kind, 0, (None, *constants) if constants else (), (), **fields)
        call["buffers"] = (number(x), number(op.out), number(others[0] if others else None))

    def _of_rows(
        self, op: ops.Op
    ) -> tuple[int, tuple[Buffer | None, ...], tuple[Array | None, ...], dict[str, Any]]:
        """An op's kind, the buffers that it reads, what it reads beside them, and its fields."""
        if isinstance(op, ops.Linear):
            layer = native.native_weights(op.weights)
            self.held.append(layer)
            return native.lib.S2S_OP_LINEAR, (op.x, op.gate or op.residual), (), {
                "choice": native.ACTIVATION_NUMBERS[op.activation],
                "multiply": op.gate is not None, "matrix": layer.address,
            }  # fmt: skip
        if isinstance(op, ops.Norm):
            beta = None if op.beta is None else contiguous(op.beta)
            fields = {"n": len(op.gamma), "number": op.eps}
            return native.lib.S2S_OP_NORM, (op.x,), (contiguous(op.gamma), beta), fields
        raise TypeError(f"no such op: {op}")

    def add_attention(
        self,
        plan: Any,
        query: Array,
        key: Array,
        value: Array,
        spans: Array,
        out: Array,
        bias: Array | None = None,
        step: Array | None = None,
    ) -> int:
        """`bias` (heads, queries, keys) is that of queries from position 0 on, or from the step's.
        Returns the address of the problem."""
        strides = (query.strides, key.strides, value.strides, out.strides)
        biased = None if bias is None else (bias.shape, bias.strides)
        shared = native.attention_problem(plan, *strides, None, biased, None, None, None)
        problem = native.ffi.new("s2s_attention_problem *", shared[0])
        self.held.append(problem)
        at = int(native.ffi.cast("uintptr_t", problem))
        self.add(
            native.lib.S2S_OP_ATTEND, plan.lead[0], (query, key, value, spans, bias), (out,),
            problem=at, number=plan.scale, step=0 if step is None else address(step),
        )  # fmt: skip
        return at

    def finish(self) -> Array:
        """All of them, (calls,) of s2s_op."""
        return np.array(self._listed, native.struct_dtype("s2s_op"))


class EncoderCalls:
    """By op: all rows of a batch go through each op, one call for all of them."""

    def __init__(self, graph: Graph, batch: int, time: int) -> None:
        assert graph.x is not None
        slot_of, widths = graph.slots()
        slots = [np.empty((batch, time, width), np.float32) for width in widths]
        arrays = [slots[slot] for slot in slot_of]
        self.x, self.out = arrays[graph.x.number], arrays[graph.out.number]
        self.spans = np.zeros((batch, len(SPAN)), np.int64)
        self.spans[:, PACKED] = time
        calls = Calls(batch)
        for op in graph.ops:
            if isinstance(op, ops.SelfAttention):
                heads = op.heads
                every = heads.split(arrays[op.projected.number])
                parts = np.split(every, [heads.count, heads.count + heads.keys], axis=1)
                plan = heads.plan(batch, time, time, integer_scores=op.integer_scores)
                out = heads.split(arrays[op.out.number])
                query, key, value = parts
                bias = None if op.bias is None else op.bias.of_queries(0, time, time)
                calls.add_attention(plan, query, key, value, self.spans, out, bias)
            else:
                calls.add_rows(op, arrays)
        self.ops, self._held = calls.finish(), calls.held
        self._of_rows = self.ops["kind"] != native.lib.S2S_OP_ATTEND

    def run(self, backend: NativeBackend, x: Array, lengths: Array | None) -> Array:
        """x (batch, time, width): of fewer rows than there is room for, if it is one sequence."""
        batch, time, _ = x.shape
        self.x[:, :time] = x
        self.ops["rows"][self._of_rows] = time
        self.spans[:, QUERIES] = time
        self.spans[:, KEYS] = time if lengths is None else lengths
        run_calls(backend, self.ops, batch)
        return self.out[:, :time].copy()


def run_calls(backend: NativeBackend, calls: Array, sequences: int) -> None:
    """All calls, for the first of the sequences that they were made for."""
    status = native.lib.s2s_run_program(
        native.ffi.from_buffer("s2s_op *", calls), len(calls), backend.isa_number,
        backend.threads, sequences,
    )  # fmt: skip
    native.check(status, "program")


# ---- by row block ----


class RowBlocks:
    """By row block: rows take part in attention together; between two of them a few rows at a time
    go through all ops, so that what they are stays in the cache."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.parts: list[tuple[RowOps | ops.SelfAttention, int]] = []
        """Each with the number of the op after it."""
        listed: list[ops.Op] = []
        for i, op in enumerate(graph.ops):
            if isinstance(op, ops.SelfAttention):
                self.parts += [(RowOps(graph, listed, i - len(listed)), i), (op, i + 1)]
                listed = []
            else:
                listed.append(op)
        if listed:
            end = len(graph.ops)
            self.parts.append((RowOps(graph, listed, end - len(listed)), end))

    def run(self, backend: NativeBackend, x: Array, lengths: Array | None) -> Array:
        """x (batch, time, width), which is written over -> the result."""
        assert self.graph.x is not None
        arrays = {self.graph.x.number: x}
        spare: list[Array] = []  # new memory is slow at first
        projected = {
            part.projected: part.heads
            for part, _ in self.parts
            if isinstance(part, ops.SelfAttention)
        }

        def room(*shape: int) -> Array:
            for i, array in enumerate(spare):
                if array.size == math.prod(shape):
                    return spare.pop(i).reshape(shape)
            return np.empty(shape, np.float32)

        for part, end in self.parts:
            if isinstance(part, RowOps):
                for buffer, replaced in zip(part.results, part.replaced, strict=True):
                    if replaced is not None:
                        arrays[buffer.number] = arrays[replaced.number]
                    elif buffer in projected:
                        # Each head's rows lie together, as attention reads them.
                        width = projected[buffer].width
                        shape = (buffer.width // width, *x.shape[:2], width)
                        arrays[buffer.number] = room(*shape)
                    else:
                        arrays[buffer.number] = room(*x.shape[:2], buffer.width)
                part.run(backend, *(arrays[b.number] for b in (*part.given, *part.results)))
                read = [buffer for buffer in part.given if buffer not in part.replaced]
            else:
                merged = arrays[part.out.number] = room(*x.shape[:2], part.out.width)
                self_attention(
                    backend, part, arrays[part.projected.number].swapaxes(0, 1), lengths, merged
                )
                read = [part.projected]
            spare += [
                arrays.pop(buffer.number)
                for buffer in read
                if self.graph.last_read[buffer.number] < end
            ]
        return arrays[self.graph.out.number]


class RowOps:
    """Ops that each row goes through by itself, from the graph's op `start` on."""

    def __init__(self, graph: Graph, listed: list[ops.Op], start: int) -> None:
        self.end = start + len(listed)
        made = [op.out for op in listed]
        read = dict.fromkeys(buffer for op in listed for buffer in ops.read_by(op))
        self.given: list[Buffer] = [buffer for buffer in read if buffer not in made]
        self.results: list[Buffer] = [
            buffer for buffer in made if graph.last_read.get(buffer.number, -1) >= self.end
        ]
        # A result may take the place of what nothing reads any more when it is written.
        self.replaced: list[Buffer | None] = []
        for result in self.results:
            written = start + made.index(result)
            free = [
                buffer
                for buffer in self.given
                if buffer.width == result.width
                and graph.last_read[buffer.number] < written
                and buffer not in self.replaced
            ]
            self.replaced.append(free[0] if free else None)
        buffers = [*self.given, *made]
        self._buffers = np.array(
            [(0, buffer.width, 0) for buffer in buffers], native.struct_dtype("s2s_buffer")
        )
        self._numbers = [buffers.index(buffer) for buffer in (*self.given, *self.results)]
        calls = Calls(1)
        for op in listed:
            calls.add_to_block(op, lambda one: -1 if one is None else buffers.index(one))
        self._ops, self._held = calls.finish(), calls.held

    def run(self, backend: NativeBackend, *arrays: Array) -> None:
        """Arrays of what is given, then of the results: contiguous, (..., width), or of a result
        that no op reads in parts, (parts, ..., width / parts)."""
        buffers = self._buffers.copy()
        for number, array in zip(self._numbers, arrays, strict=True):
            assert contiguous(array) is array and array.dtype == np.float32
            buffers["rows"][number], buffers["part"][number] = address(array), array.shape[-1]
        status = native.lib.s2s_run_row_blocks(
            native.ffi.from_buffer("s2s_op *", self._ops),
            len(self._ops),
            native.ffi.from_buffer("s2s_buffer *", buffers),
            len(buffers),
            backend.isa_number,
            backend.threads,
            math.prod(arrays[0].shape[:-1]),
        )
        native.check(status, "row blocks")
