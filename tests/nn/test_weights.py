"""Matrices are packed a few rows at a time, from memory or a file: every number in its place."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import assert_same_bits
from hypothesis import given, settings
from hypothesis import strategies as st
from ml_dtypes import bfloat16

from seq2seq_fast.models.formats.stored import BFLOAT16, Source, Stored
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
    read_as = np.dtype(np.float32) if values.dtype == bfloat16 else values.dtype
    return Stored(Source(path), before, values.shape, kind, read_as)


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


def test_stored(tmp_path, rng):
    values = rng.standard_normal((5, 2, 3)).astype(bfloat16)
    array = stored(tmp_path, values)
    assert (array.ndim, array.size, array.nbytes, array.dtype) == (3, 30, 60, np.float32)
    for some in (slice(None), slice(1, 3), slice(4, 9), slice(3, 3), slice(-2, None)):
        assert_same_bits(array[some], values[some].astype(np.float32))
    assert_same_bits(np.asarray(array), values.astype(np.float32))
    array.source.path.write_bytes(bytes(40))
    assert_same_bits(array[:1], np.zeros((1, 2, 3), np.float32))
    with pytest.raises(ValueError, match="array: was cut short while it was read"):
        array[2:4]
