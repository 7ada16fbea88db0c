"""Matrices are packed a few rows at a time, from memory or a file: every number in its place."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import assert_same_bits
from hypothesis import given, settings
from hypothesis import strategies as st
from ml_dtypes import bfloat16

from seq2seq_fast.contract.dtypes import BFLOAT16
from seq2seq_fast.models.formats.stored import Source, Stored, Transposed
from seq2seq_fast.nn import weights
from seq2seq_fast.nn.weights import Matrix

SHAPES = st.tuples(st.integers(1, 70), st.integers(1, 21))


@pytest.fixture(autouse=True)
def few_at_a_time(monkeypatch):
    monkeypatch.setattr(weights, "SOME_WEIGHTS", 500)


def stored(folder, values, before=3):
    """The array in a file, where it need not begin at a multiple of its size."""
    path = folder / "array"
    path.write_bytes(bytes(before) + values.tobytes() + b"after")
    kind = BFLOAT16 if values.dtype == bfloat16 else values.dtype
    return Stored(Source(path), before, values.shape, kind, kind)


def in_panels(rows, group):
    """Rows (outputs, inputs) as panels hold them: sixteen outputs side by side, `group` inputs of
    each together, zeros where there is none."""
    outputs, inputs = rows.shape
    panels = np.zeros((-(-outputs // 16), -(-inputs // group), 16, group), rows.dtype)
    for output in range(outputs):
        for i in range(inputs):
            panels[output // 16, i // group, output % 16, i % group] = rows[output, i]
    return panels


@settings(max_examples=40, deadline=None)
@given(shape=SHAPES, seed=st.integers(0, 99), kind=st.sampled_from([np.float32, np.float16]))
def test_floats(tmp_path_factory, shape, seed, kind):
    rows = np.random.default_rng(seed).standard_normal(shape).astype(kind)
    for source in (rows, np.asfortranarray(rows), stored(tmp_path_factory.getbasetemp(), rows)):
        for dtype in (None, np.float16, np.float32):
            matrix = Matrix.pack(source, dtype and np.dtype(dtype))
            assert_same_bits(matrix.panels, in_panels(rows.astype(dtype or kind), 1)[..., 0])


@settings(max_examples=40, deadline=None)
@given(shape=SHAPES, seed=st.integers(0, 99))
def test_integers(tmp_path_factory, shape, seed):
    rows = np.random.default_rng(seed).integers(-127, 128, shape).astype(np.int8)
    for source in (rows, stored(tmp_path_factory.getbasetemp(), rows)):
        matrix = Matrix.pack_integers(source, 2.0)
        assert_same_bits(matrix.panels, in_panels(rows, 4).astype(np.uint8) + np.uint8(128))
        assert_same_bits(matrix.integers(), rows)
        assert_same_bits(matrix.rows(), rows / np.float32(2))


@settings(max_examples=40, deadline=None)
@given(shape=SHAPES, seed=st.integers(0, 99), first=st.integers(0, 70), count=st.integers(0, 70))
def test_quantised(tmp_path_factory, shape, seed, first, count):
    rows = np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
    scales = np.float32(127) / np.abs(rows).max(axis=1)
    want = np.rint(rows * scales[:, None]).astype(np.int8)
    for source in (rows, stored(tmp_path_factory.getbasetemp(), rows), Matrix.pack(rows)):
        matrix = Matrix.quantise(source)
        assert_same_bits(matrix.integers(), want)
        assert_same_bits(matrix.scales[: len(rows)], scales)
        some = slice(first, first + count)
        assert_same_bits(matrix.integers(some), want[some])
        assert_same_bits(matrix.rows(some), (want / scales[:, None])[some])
    assert_same_bits(
        matrix.to("float16").rows(), (want / scales[:, None]).astype(np.float16).astype(np.float32)
    )


@settings(max_examples=40, deadline=None)
@given(shape=SHAPES, seed=st.integers(0, 99))
def test_bfloat16(tmp_path_factory, shape, seed):
    """Kept as it is, whether as the type of ml_dtypes or as its bits; converted from what it is."""
    rows = np.random.default_rng(seed).standard_normal(shape).astype(bfloat16)
    bits, floats = rows.view(np.uint16), rows.astype(np.float32)
    for source in (rows, bits, stored(tmp_path_factory.getbasetemp(), rows)):
        matrix = Matrix.pack(source)
        assert (matrix.type, matrix.panels.nbytes) == ("bfloat16", matrix.nbytes)
        assert_same_bits(matrix.panels, in_panels(bits, 1)[..., 0])
        assert_same_bits(matrix.rows(), floats)
        for kind in (np.float32, np.float16):
            want = Matrix.pack(floats, np.dtype(kind))
            assert_same_bits(Matrix.pack(source, np.dtype(kind)).panels, want.panels)
            assert_same_bits(matrix.to(np.dtype(kind).name).panels, want.panels)
        eight, want = Matrix.quantise(source), Matrix.quantise(floats)
        assert_same_bits(eight.panels, want.panels)
        assert_same_bits(eight.scales, want.scales)
        assert_same_bits(matrix.select(np.arange(len(rows))[::-1]).rows(), floats[::-1])
        assert_same_bits(Matrix.stack(matrix, matrix).rows(), np.concatenate([floats, floats]))
    for dtype in (bfloat16, np.dtype(np.uint16)):
        assert_same_bits(Matrix.pack(floats, np.dtype(dtype)).panels, Matrix.pack(rows).panels)


def test_stored(tmp_path, rng):
    values = rng.standard_normal((5, 2, 3)).astype(bfloat16)
    bits = values.view(np.uint16)
    array = stored(tmp_path, values)
    assert (array.ndim, array.size, array.nbytes, array.dtype) == (3, 30, 60, BFLOAT16)
    for some in (slice(None), slice(1, 3), slice(4, 9), slice(3, 3), slice(-2, None)):
        assert_same_bits(array[some], bits[some])
    assert_same_bits(np.asarray(array), bits)
    assert_same_bits(np.asarray(array, np.float32), values.astype(np.float32))
    turned = Transposed(array, (2, 0, 1))
    assert (turned.shape, turned.size, turned.dtype) == ((3, 5, 2), 30, BFLOAT16)
    assert_same_bits(np.asarray(turned, np.float32), values.astype(np.float32).transpose(2, 0, 1))
    array.source.path.write_bytes(bytes(40))
    assert_same_bits(array[:1], np.zeros((1, 2, 3), np.uint16))
    with pytest.raises(ValueError, match="array: was cut short while it was read"):
        array[2:4]
