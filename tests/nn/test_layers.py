"""The layers: every backend against the contract to the bit, the contract against float64."""

from __future__ import annotations

import math

import numpy as np
import pytest
from conftest import assert_same_bits
from hypothesis import given, settings
from hypothesis import strategies as st
from ml_dtypes import bfloat16

from seq2seq_fast import use
from seq2seq_fast.contract.layers import ACTIVATIONS
from seq2seq_fast.nn.eager import EAGER
from seq2seq_fast.nn.linear import Linear
from seq2seq_fast.nn.logits import topk_log_softmax
from seq2seq_fast.nn.norms import Norm, SublayerNorm
from seq2seq_fast.nn.ssru import SSRU, SSRUState
from seq2seq_fast.nn.weights import WEIGHTS, Matrix

SIZES = [1, 3, 15, 16, 17, 31, 33, 97]
SPECIAL = [0.0, -0.0, np.inf, -np.inf, np.nan, 1e-40, -1e-40, 3e38, -3e38, 1e-30]


def draw(rng, *shape):
    return rng.standard_normal(shape).astype(np.float32)


def matrix(rng, outputs, inputs, weights):
    rows = draw(rng, outputs, inputs) / np.float32(math.sqrt(inputs))
    if weights == "bfloat16":
        return Matrix.pack(rows.astype(bfloat16))
    return Matrix.pack(rows).to(weights)


def check(function, *arguments, **options):
    """Same bits as the contract, and on three threads."""
    with use(backend="numpy"):
        want = function(*arguments, **options)
    for threads in (1, 3):
        with use(threads=threads):
            got = function(*arguments, **options)
        for one, other in zip(
            got if isinstance(got, tuple) else [got],
            want if isinstance(want, tuple) else [want],
            strict=True,
        ):
            assert_same_bits(one, other)
    return want


# ---- linear ----


@pytest.mark.parametrize("weights", [*WEIGHTS, "bfloat16"])
@pytest.mark.parametrize("rows", [1, 2, 5, 24, 50, 130])
def test_linear(backend, rng, weights, rows):
    # Rows of 272 numbers lie as the tile takes them, and are not copied.
    for inputs, outputs in ((1, 1), (17, 33), (256, 40), (257, 16), (272, 33), (600, 300)):
        layer = Linear(matrix(rng, outputs, inputs, weights), draw(rng, outputs))
        check(layer, draw(rng, rows, inputs))


@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activation_and_other(backend, rng, weights, activation):
    layer = Linear(matrix(rng, 83, 20, weights), draw(rng, 83) * 5)
    x, other = draw(rng, 2, 3, 20), draw(rng, 2, 3, 83)
    check(layer, x, activation)
    check(layer, x, activation, residual=other)
    check(layer, x, activation, gate=other)


@settings(max_examples=60, deadline=None)
@given(
    shape=st.tuples(*[st.integers(1, 300)] * 2, st.integers(0, 60)),
    weights=st.sampled_from(WEIGHTS),
    has_bias=st.booleans(),
    activation=st.sampled_from(sorted(ACTIVATIONS)),
    seed=st.integers(0, 1000),
)
def test_any_linear(shape, weights, has_bias, activation, seed):
    rng = np.random.default_rng(seed)
    inputs, outputs, rows = shape
    layer = Linear(matrix(rng, outputs, inputs, weights), draw(rng, outputs) if has_bias else None)
    x = draw(rng, rows, inputs)[::-1]
    x[rng.random(x.shape) < 0.01] = rng.choice(SPECIAL)
    check(layer, x, activation)


@pytest.mark.parametrize("weights", WEIGHTS)
def test_special_numbers(backend, rng, weights):
    layer = Linear(matrix(rng, 40, 24, weights))
    x = draw(rng, len(SPECIAL), 24)
    x[np.arange(len(SPECIAL)), np.arange(len(SPECIAL))] = SPECIAL
    x[5] = 1e-42
    got = check(layer, x)
    assert np.isnan(got[4]).all()
    assert np.isfinite(got[[0, 1, 5, 9]]).all()
    if weights == "int8":  # infinity has no place in a row's scale
        assert np.isnan(got[2]).all()


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activation_of_special_numbers(backend, activation):
    ones = Linear(Matrix.pack(np.ones((1, 1), np.float32)))
    check(ones, np.array(SPECIAL, np.float32)[:, None], activation)


@pytest.mark.parametrize("weights", WEIGHTS)
def test_rows_and_columns_stand_alone(backend, rng, weights):
    layer = Linear(matrix(rng, 100, 300, weights), draw(rng, 100))
    x = draw(rng, 40, 300)
    every = layer(x)
    assert_same_bits(layer(x[7:8]), every[7:8])
    ids = np.array([3, 99, 16, 15])
    assert_same_bits(layer.select(ids)(x), every[:, ids])


@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("outputs", [(16, 32), (5, 40)])
def test_side_by_side(backend, rng, weights, outputs):
    one, two = (Linear(matrix(rng, n, 30, weights), draw(rng, n)) for n in outputs)
    x = draw(rng, 4, 30)
    both = Linear.side_by_side(one, Linear(two.matrix))(x)
    assert_same_bits(both, np.concatenate([one(x), Linear(two.matrix)(x)], axis=1))
    with pytest.raises(ValueError, match="must have the same type and input scale"):
        Linear.side_by_side(one, Linear(matrix(rng, 4, 31, weights)))


@pytest.mark.parametrize("scale", [0.0, 20.0])
def test_int8_is_what_it_says(rng, scale):
    """Against integers worked out one by one."""
    rows = rng.integers(-128, 128, (6, 50)).astype(np.int8)
    x = draw(rng, 3, 50)
    got = Linear(Matrix.pack_integers(rows, 300.0, scale))(x)
    for i, row in enumerate(x):
        factor = np.float32(scale) or np.float32(127) / np.abs(row).max()
        q = [max(-127, min(127, round(float(v * factor)))) for v in row]
        for j, weights in enumerate(rows.tolist()):
            total = np.float32(sum(a * b for a, b in zip(q, weights, strict=True)))
            assert got[i, j] == total * (np.float32(1) / (factor * np.float32(300)))


def test_weights_of_every_type(rng):
    rows = draw(rng, 37, 21)
    packed = Matrix.pack(rows)
    assert_same_bits(packed.rows(), rows)
    half = packed.to("float16")
    assert_same_bits(half.rows(), rows.astype(np.float16).astype(np.float32))
    eight = packed.to("int8")
    assert np.abs(eight.rows() - rows).max() <= 0.5001 * np.abs(rows).max() / 127
    assert (packed.type, half.type, eight.type) == ("float32", "float16", "int8")
    ids = np.array([36, 0, 5])
    for each in (packed, half, eight):
        assert_same_bits(each.rows(ids), each.rows()[ids])
        assert_same_bits(each.select(ids).rows(), each.rows()[ids])
        assert each.panels.ctypes.data % 64 == 0
    with pytest.raises(ValueError, match="weights must be one of float32, float16, int8; got 'x'"):
        packed.to("x")


# ---- the contract against float64 ----


def test_linear_is_near_float64(rng):
    x, rows, bias = draw(rng, 9, 700), draw(rng, 50, 700), draw(rng, 50)
    want = x.astype(np.float64) @ rows.T.astype(np.float64) + bias
    for weights, bound in (("float32", 2e-4), ("float16", 0.05), ("int8", 1.5)):
        got = Linear(Matrix.pack(rows).to(weights), bias)(x)
        assert np.abs(got - want).max() < bound


EXACT = {
    "none": lambda x: x,
    "relu": lambda x: max(x, 0.0),
    "gelu": lambda x: x * 0.5 * (1 + math.erf(x / math.sqrt(2))),
    "gelu_tanh": lambda x: (
        0.5 * x * (1 + math.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    ),
    "gelu_sigmoid": lambda x: x / (1 + math.exp(-1.702 * x)),
    "silu": lambda x: x / (1 + math.exp(-x)),
    "tanh": math.tanh,
    "sigmoid": lambda x: 1 / (1 + math.exp(-x)),
}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_are_near_float64(rng, name):
    x = np.concatenate([draw(rng, 5000) * 3, np.linspace(-30, 30, 999, dtype=np.float32)])
    want = np.array([EXACT[name](float(v)) for v in x])
    assert np.abs(ACTIVATIONS[name](x) - want).max() < 5e-7 * max(1, np.abs(want).max())


# ---- norms, SSRU, the likeliest ----


@pytest.mark.parametrize("n", [*SIZES, 256, 257, 600])
def test_norms(backend, rng, n):
    x = draw(rng, 40, n) * 3 + 1
    gamma, beta = draw(rng, n), draw(rng, n)
    x[1, 0], x[2, n // 2] = np.nan, np.inf
    x[3] = 0
    check(Norm(gamma, beta, 1e-6), x)
    check(Norm(gamma, None, 1e-6), x)
    check(Norm(gamma, None, 1e-6, "rms"), x)


def test_norms_are_near_float64(rng):
    x, gamma, beta = draw(rng, 5, 300) + 1, draw(rng, 300), draw(rng, 300)
    exact = x.astype(np.float64)
    centred = exact - exact.mean(axis=1, keepdims=True)
    layer = centred / np.sqrt((centred**2).mean(axis=1, keepdims=True) + 1e-6) * gamma
    rms = exact / np.sqrt((exact**2).mean(axis=1, keepdims=True) + 1e-6) * gamma
    assert np.abs(Norm(gamma, beta, 1e-6)(x) - (layer + beta)).max() < 2e-6
    assert np.abs(Norm(gamma, None, 1e-6)(x) - layer).max() < 2e-6
    assert np.abs(Norm(gamma, None, 1e-6, "rms")(x) - rms).max() < 2e-6


def test_a_layer_norm_without_beta_adds_zeros(backend, rng):
    x, gamma = draw(rng, 3, 40), draw(rng, 40)
    x[0] = 1  # nothing is left of it but zeros, some of them negative until zeros are added
    got = check(Norm(gamma, None, 1e-6), x)
    assert_same_bits(got, Norm(gamma, np.zeros(40, np.float32), 1e-6)(x))
    assert_same_bits(got[0], np.zeros(40, np.float32))


def test_placements(backend, rng):
    x, y = draw(rng, 3, 40), draw(rng, 3, 40)
    one, two = (Norm(draw(rng, 40), draw(rng, 40), 1e-6) for _ in range(2))
    for place, before, after in (
        (SublayerNorm(one, "pre"), one(x), y),
        (SublayerNorm(one, "post"), x, one(y)),
        (SublayerNorm(one, "both", two), one(x), two(y)),
    ):
        assert_same_bits(place.before(EAGER, x), before)
        assert_same_bits(place.after(EAGER, y), after)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda norm: Norm(norm.gamma, None, 1e-6, "batch"), "of the kind 'batch', expected one"),
        (lambda norm: Norm(norm.gamma, norm.beta, 1e-6, "rms"), "an RMS norm has no beta"),
        (lambda norm: Norm(norm.gamma, norm.beta[1:], 1e-6), r"beta must be \(40,\) float32"),
        (lambda norm: SublayerNorm(norm, "before"), "is placed 'before', expected one of"),
        (lambda norm: SublayerNorm(norm, "both"), "a second norm is for the placement 'both'"),
        (lambda norm: SublayerNorm(norm, "pre", norm), "for the placement 'both'; got 'pre'"),
        (lambda norm: SublayerNorm(norm, "both", Norm(norm.gamma[1:], None, 1e-6)),
         r"widths of norms do not fit each other: \(40, 39\)"),
    ],
)  # fmt: skip
def test_norms_that_make_no_sense(rng, make, message):
    with pytest.raises(ValueError, match=message):
        make(Norm(draw(rng, 40), draw(rng, 40), 1e-6))


@pytest.mark.parametrize("n", SIZES)
def test_ssru(backend, rng, n):
    unit = SSRU(Linear(matrix(rng, 2 * n, n, "float32"), draw(rng, 2 * n)))
    x, cell, plus = draw(rng, 7, n), draw(rng, 7, n), draw(rng, 7, n)
    cell[0, 0] = np.nan

    def step():
        y, after = unit.step(EAGER, x[:, None], plus[:, None], SSRUState(cell))
        return y, after.values

    check(step)


@pytest.mark.parametrize("n", [*SIZES, 255, 256, 257, 1000, 5000])
def test_best(backend, rng, n):
    logits = draw(rng, 6, n) * 10
    logits[1] = np.rint(logits[1])  # many are equal
    logits[2] = -np.inf
    logits[3, :: max(1, n // 7)] = np.nan
    logits[4, : n // 2] = -np.inf
    logits[5] = 1.5
    for count in sorted({1, min(4, n), min(70, n), n if n < 300 else 1}):
        check(topk_log_softmax, logits, count)


def test_best_is_near_float64(rng):
    logits = draw(rng, 3, 4000) * 4
    ids, log_probabilities, statistics = topk_log_softmax(logits, 5)
    exact = logits.astype(np.float64)
    exact -= np.log(np.exp(exact).sum(axis=1, keepdims=True))
    assert (ids == np.argsort(-exact, axis=1)[:, :5]).all()
    assert np.abs(log_probabilities - np.take_along_axis(exact, ids, axis=1)).max() < 3e-6
    assert np.abs((logits - statistics[:, :1]) - statistics[:, 1:] - exact).max() < 6e-6


def test_ties_go_to_the_lowest_id(backend):
    ids, _, _ = topk_log_softmax(np.array([[1, 3, 3, 2, 3]], np.float32), 4)
    assert ids.tolist() == [[1, 2, 4, 3]]


def test_flush_to_zero_of_the_process_has_no_effect(backend, rng, flush_to_zero):
    layer = Linear(Matrix.pack(draw(rng, 40, 24) * np.float32(1e-39)))
    x = draw(rng, 3, 24)
    want = layer(x)
    assert np.any((want != 0) & (np.abs(want) < np.finfo(np.float32).tiny))
    with flush_to_zero():
        got = layer(x)
    assert_same_bits(got, want)
