"""No array is read or written at an address where its type must not be, whichever argument it is.

NumPy calls an array contiguous that begins at an odd address; reading it there is undefined in C.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import random_ctranslate2
from conftest import assert_same_bits
from hypothesis import given
from hypothesis import strategies as st

from seq2seq_fast import KeyValueCache, attention, load, ragged_attention, use
from seq2seq_fast.aligned import contiguous
from seq2seq_fast.backends import native
from seq2seq_fast.nn.linear import Convolution, Linear
from seq2seq_fast.nn.logits import topk_log_softmax
from seq2seq_fast.nn.norms import Norm
from seq2seq_fast.nn.positions import LearnedPositions
from seq2seq_fast.nn.sources import SpectrumEmbedding
from seq2seq_fast.nn.ssru import SSRU, SSRUState
from seq2seq_fast.nn.weights import WEIGHTS, Matrix
from seq2seq_fast.sdpa.call import integer_attention


def misaligned(array, strided=False):
    """The same numbers one byte off; with `strided`, nor do they follow each other."""
    array = np.asarray(array)
    shape = (*array.shape[:-1], 2 * array.shape[-1]) if strided else array.shape
    room = np.zeros(int(np.prod(shape)) * array.itemsize + 1, np.uint8)[1:]
    off = np.ndarray(shape, array.dtype, room)
    off = off[..., ::2] if strided else off
    off[...] = array
    assert not off.flags.aligned or array.itemsize == 1
    assert off.flags.c_contiguous != strided or array.size <= 1
    return off


class Watched:
    """cffi's, that refuses to give the address of a misaligned array."""

    def __init__(self, ffi):
        self.ffi, self.seen = ffi, 0

    def __getattr__(self, name):
        return getattr(self.ffi, name)

    def from_buffer(self, *arguments):
        assert arguments[-1].flags.aligned
        self.seen += 1
        return self.ffi.from_buffer(*arguments)


@pytest.fixture
def watched(monkeypatch):
    """Calls inside are native ones, whose every address is looked at."""
    if native.why_missing:
        pytest.skip(native.why_missing)
    ffi = Watched(native.ffi)
    monkeypatch.setattr(native, "ffi", ffi)
    with use(backend="native"):
        yield ffi
    assert ffi.seen


@given(st.lists(st.integers(1, 3), min_size=1, max_size=3), st.booleans(), st.booleans())
def test_contiguous_copies_what_c_cannot_read_and_nothing_else(shape, off, strided):
    array = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    array = misaligned(array, strided) if off else array[..., ::-1] if strided else array
    copy = contiguous(array)
    assert copy.flags.c_contiguous and copy.flags.aligned
    assert_same_bits(copy, array)
    assert (copy is array) == (array.flags.c_contiguous and array.flags.aligned)


def call(rng, dtype):
    """Every array that attention() takes."""
    draw = rng.standard_normal
    return {
        "query": draw((2, 4, 9, 16)).astype(dtype),
        "key": draw((2, 2, 40, 16)).astype(dtype),
        "value": draw((2, 2, 40, 17)).astype(dtype),
        "mask": rng.random((9, 40)) < 0.7,
        "bias": draw((2, 4, 9, 40)).astype(dtype),
        "sinks": draw((2, 4)).astype(dtype),
        "key_lengths": np.array([40, 33]),
        "query_lengths": np.array([9, 5]),
        "query_offset": np.array([31, 20]),
        "out": np.zeros((2, 4, 9, 17), dtype),
    }


@pytest.mark.parametrize("strided", [False, True])
@pytest.mark.parametrize("name", [*call(np.random.default_rng(0), np.float32), "all of them"])
def test_attention(watched, any_dtype, rng, name, strided):
    arrays = call(rng, any_dtype)
    want = attention(**{**arrays, "out": None}, causal=True)
    off = {
        key: misaligned(array, strided) if name in (key, "all of them") else array
        for key, array in arrays.items()
    }
    assert attention(**off, causal=True) is off["out"]
    assert_same_bits(off["out"], want)


@pytest.mark.parametrize("to", [(2, 4, 9, 40), (2, 4, 9, 1)])
def test_attention_with_what_broadcasts(watched, any_dtype, rng, to):
    arrays = call(rng, any_dtype)
    arrays["bias"] = arrays["bias"][:, :1, :, :1]
    want = attention(**{**arrays, "out": None}, causal=True)
    arrays["bias"] = np.broadcast_to(misaligned(arrays["bias"]), to)
    assert_same_bits(attention(**{**arrays, "out": None}, causal=True), want)


@pytest.mark.parametrize("strided", [False, True])
def test_attention_of_other_kinds(watched, rng, strided):
    arrays = [rng.standard_normal((2, 9, 16)).astype(np.float32) for _ in range(3)]
    off = [misaligned(array, strided) for array in arrays]
    starts = np.array([0, 4, 9])
    assert_same_bits(
        ragged_attention(*off, misaligned(starts), misaligned(starts), causal=True),
        ragged_attention(*arrays, starts, starts, causal=True),
    )
    out, off_out = np.zeros((2, 9, 16), np.float32), misaligned(arrays[0], strided)
    integer_attention(*arrays, key_lengths=None, out=out)
    integer_attention(*off, key_lengths=None, out=off_out)
    assert_same_bits(off_out, out)


@pytest.mark.parametrize("strided", [False, True])
def test_a_cache(watched, any_dtype, rng, strided):
    query, key, value = (rng.standard_normal((2, 3, n, 8)).astype(any_dtype) for n in (2, 21, 21))
    contexts = []
    for same in (lambda array: array, lambda array: misaligned(array, strided)):
        cache = KeyValueCache(2, 3, 8, dtype=any_dtype)
        cache.append(same(key), same(value), same(np.array([21, 4])))
        cache.append(same(key), same(value))
        cache.truncate(same(np.array([37, 20])))
        cache.reorder(same(np.array([1, 0])))
        contexts.append(attention(same(query), cache))
    assert_same_bits(contexts[1], contexts[0])


@pytest.mark.parametrize("strided", [False, True])
@pytest.mark.parametrize("weights", WEIGHTS)
def test_linear_layers(watched, rng, weights, strided):
    def draw(*shape):
        return rng.standard_normal(shape).astype(np.float32)

    def off(array):
        return misaligned(array, strided)

    matrix, bias = Matrix.pack(draw(20, 33)).to(weights), draw(20)
    x, other = draw(5, 33), draw(5, 20)
    scales = None if matrix.scales is None else misaligned(matrix.scales)
    layer = Linear(matrix, bias)
    other_layer = Linear(dataclasses.replace(matrix, scales=scales), misaligned(bias))
    out = off(other)
    assert other_layer(off(x), "relu", residual=off(other), out=out) is out
    assert_same_bits(out, layer(x, "relu", residual=other))
    assert_same_bits(other_layer(off(x), gate=off(other)), layer(x, gate=other))
    ids = np.array([3, 17, 5])
    assert_same_bits(other_layer.select(misaligned(ids))(off(x)), layer.select(ids)(x))


@pytest.mark.parametrize("strided", [False, True])
def test_other_layers(watched, rng, strided):
    def draw(*shape):
        return rng.standard_normal(shape).astype(np.float32)

    def off(array):
        return misaligned(array, strided)

    x, gamma, beta = draw(5, 33), draw(33), draw(33)
    assert_same_bits(Norm(misaligned(gamma), None, 1e-6)(off(x)), Norm(gamma, None, 1e-6)(x))
    norm = Norm(misaligned(gamma), misaligned(beta), 1e-6)
    assert_same_bits(norm(off(x)), Norm(gamma, beta, 1e-6)(x))
    for got, want in zip(topk_log_softmax(off(x), 4), topk_log_softmax(x, 4), strict=True):
        assert_same_bits(got, want)
    unit = SSRU(Linear(Matrix.pack(draw(32, 16))))
    x, plus, cell = draw(4, 1, 16), draw(4, 1, 16), draw(4, 16)
    y, after = unit.step(x, plus, SSRUState(cell))
    found, found_after = unit.step(off(x), off(plus), SSRUState(off(cell)))
    assert_same_bits(found, y)
    assert_same_bits(found_after.values, after.values)


def with_every_array_off(part):
    """A model whose vectors and tables lie one byte off, as a file may have them."""
    if isinstance(part, np.ndarray):
        return misaligned(part)
    if isinstance(part, tuple):
        return tuple(map(with_every_array_off, part))
    if not dataclasses.is_dataclass(part):
        return part
    fields = {field.name: getattr(part, field.name) for field in dataclasses.fields(part)}
    panels = {"panels": fields.pop("panels")} if isinstance(part, Matrix) else {}
    return type(part)(**{n: with_every_array_off(one) for n, one in fields.items()}, **panels)


@pytest.mark.parametrize("quantization", [None, "int8"])
def test_a_models_weights(watched, tmp_path, quantization):
    """Programs, chains and single calls, with positions that a table holds."""
    random_ctranslate2.write(tmp_path, positions=300, spread=3.0, quantization=quantization)
    model = load(tmp_path)
    off = with_every_array_off(model)
    for sources in ([[5, 3, 9, 2]], [[5, 2], [7, 2]], [list(range(3, 30)) * 5] * 2):
        with use(threads=1):
            assert_same_bits(off.encode(sources).values, model.encode(sources).values)
    for sources in ([[5, 3, 9, 2]], [[5, 2], [7, 2]]):
        want, found = model.generate(sources), off.generate(sources)
        assert [one.tokens for one in found] == [one.tokens for one in want]
    logits = [one.step(None, one.start(one.encode(sources))).logits for one in (off, model)]
    assert_same_bits(*logits)


def test_a_spectrums_positions(watched, rng):
    """As an ordinary speech model's file has them."""

    def draw(*shape):
        return rng.standard_normal(shape).astype(np.float32)

    first = Convolution(Linear(Matrix.pack(draw(16, 3 * 8)), draw(16)), 3)
    second = Convolution(Linear(Matrix.pack(draw(16, 3 * 16)), draw(16)), 3, 2)
    table, spectrum = draw(30, 16), draw(21, 8)
    want, _ = SpectrumEmbedding(first, second, LearnedPositions(table)).batch([spectrum])
    off = SpectrumEmbedding(first, second, LearnedPositions(misaligned(table)))
    assert_same_bits(off.batch([misaligned(spectrum)])[0], want)
