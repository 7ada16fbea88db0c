"""The graph of a model: what it refuses to record, its schedules, and where its results lie."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
from conftest import assert_same_bits

from seq2seq_fast import attention, use
from seq2seq_fast.backends import native
from seq2seq_fast.backends.native_graph import run_calls
from seq2seq_fast.backends.selection import current
from seq2seq_fast.graph import ops
from seq2seq_fast.graph.recorder import NoOp, Recorder
from seq2seq_fast.graph.schedule import FEW_ROWS, SHORT, schedule_of
from seq2seq_fast.nn.attention import Heads
from seq2seq_fast.nn.linear import Linear
from seq2seq_fast.nn.norms import Norm
from seq2seq_fast.nn.weights import Matrix

HEADS = Heads(4, 2, 8)
ARGUMENTS = [
    name
    for name, parameter in inspect.signature(attention).parameters.items()
    if parameter.kind is inspect.Parameter.KEYWORD_ONLY
]


@pytest.mark.parametrize("name", ARGUMENTS)
def test_an_argument_of_attention_that_has_no_op_is_refused(name):
    """Never dropped: a mask that is not applied gives another model."""
    recorder = Recorder()
    projected = recorder.buffer(HEADS.query_width + 2 * HEADS.key_width)
    query = recorder.buffer(HEADS.query_width)
    for record in (
        lambda **given: recorder.self_attention(projected, HEADS, False, **given),
        lambda **given: recorder.past_attention(projected, HEADS, 0, **given),
        lambda **given: recorder.memory_attention(query, HEADS, 0, **given),
    ):
        with pytest.raises(NoOp, match=f"has no op with {name}"):
            record(**{name: np.ones(1, bool) if name == "mask" else True})


def test_schedules():
    """Few rows, or a short sequence: op by op; many: by blocks of rows."""
    assert schedule_of(1, SHORT, 1) == "by_op"
    assert schedule_of(1, SHORT + 1, 1) == "by_row_block"
    assert schedule_of(2, FEW_ROWS, 2) == "by_op"
    assert schedule_of(2, FEW_ROWS, 1) == "by_row_block"


def an_encoder(rng, layers):
    """The graph of layers with norms before and after, of 16 features."""

    def linear(inputs, outputs):
        rows = rng.standard_normal((outputs, inputs)).astype(np.float32) / np.float32(4)
        return Linear(Matrix.pack(rows), rng.standard_normal(outputs, np.float32))

    recorder = Recorder()
    x = given = recorder.buffer(16)
    for i in range(layers):
        norm = Norm(*rng.standard_normal((2, 16), np.float32), 1e-5)
        y = x if i % 2 else recorder.norm(norm, x)
        projected = recorder.linear(linear(16, HEADS.query_width + 2 * HEADS.key_width), y)
        merged = recorder.self_attention(projected, HEADS, False)
        x = recorder.linear(linear(HEADS.query_width, 16), merged, residual=x)
        hidden = recorder.linear(linear(16, 40), x, "gelu")
        gated = recorder.linear(linear(16, 40), x, gate=hidden)
        x = recorder.linear(linear(40, 16), gated, residual=x)
        x = recorder.norm(norm, x) if i % 2 else x
    return recorder.graph(given, x)


def test_no_slot_is_written_while_it_is_still_to_be_read(rng):
    graph = an_encoder(rng, 3)
    slot_of, widths = graph.slots()
    assert len(widths) < len(graph.widths) / 3
    holds = {slot_of[graph.x.number]: graph.x}
    for op in graph.ops:
        for buffer in ops.read_by(op):
            assert holds[slot_of[buffer.number]] == buffer
            assert widths[slot_of[buffer.number]] == buffer.width
        assert slot_of[op.out.number] not in {slot_of[b.number] for b in ops.read_by(op)}
        holds[slot_of[op.out.number]] = op.out
    assert holds[slot_of[graph.out.number]] == graph.out


@pytest.mark.parametrize("shape", [(1, 5), (1, SHORT), (1, SHORT + 90), (3, 20), (2, 150)])
@pytest.mark.parametrize("threads", [1, 3])
def test_every_schedule_gives_the_same_bits(backend, rng, shape, threads):
    """And a program that is used again gives what a new one does."""
    graph = an_encoder(rng, 3)
    x = rng.standard_normal((*shape, 16), np.float32)
    lengths = rng.integers(1, shape[1] + 1, shape[0]) if shape[0] > 1 else None
    with use(backend="numpy"):
        want = current().encode(graph, x.copy(), lengths)
    # Rows past a length are padding, of which nothing is promised.
    ends = [shape[1]] if lengths is None else lengths.tolist()
    with use(threads=threads):
        for _ in range(2):
            got = current().encode(graph, x.copy(), lengths)
            for one, expected, end in zip(got, want, ends, strict=True):
                assert_same_bits(one[:end], expected[:end])


def test_an_op_that_the_kernel_does_not_know_is_an_error():
    """A kind that Python and C do not agree on must not become another op."""
    if native.why_missing:
        pytest.skip(native.why_missing)
    calls = np.zeros(1, native.struct_dtype("s2s_op"))
    calls["kind"] = 99
    with use(isa="generic"), pytest.raises(RuntimeError, match="no such op"):
        run_calls(current(), calls, 1)


def test_a_block_of_rows_with_an_op_that_it_has_not_is_an_error():
    buffers = np.zeros(1, native.struct_dtype("s2s_buffer"))
    for kind in (native.lib.S2S_OP_ATTEND, 99):
        op = np.zeros(1, native.struct_dtype("s2s_op"))
        op["kind"] = kind
        status = native.lib.s2s_run_row_blocks(
            native.ffi.from_buffer("s2s_op *", op), 1,
            native.ffi.from_buffer("s2s_buffer *", buffers), 1, 0, 1, 4,
        )  # fmt: skip
        assert status == native.lib.S2S_NO_SUCH_OP
