"""The contract's parts: the order of its sums, and the error of its functions over all inputs."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor

import mpmath
import numpy as np
import pytest
from conftest import assert_same_bits
from loops import ordered_sum, row_sum

from seq2seq_fast import contract


@pytest.mark.parametrize("depth", [0, 1, 16, 255, 256, 257, 513, 1000])
@pytest.mark.parametrize(("rows", "cols"), [(3, 2), (2, 3)])
def test_ordered_matmul_adds_blocks_from_left_to_right(dtype, rng, depth, rows, cols):
    a = rng.standard_normal((rows, depth)).astype(dtype)
    b = rng.standard_normal((depth, cols)).astype(dtype)
    part = rng.random((rows, depth)) < 0.5
    zero = dtype(0)
    for taking_part in (None, part):
        want = [
            [
                ordered_sum(
                    [
                        a[i, k] * b[k, j] if taking_part is None or taking_part[i, k] else None
                        for k in range(depth)
                    ],
                    zero,
                )
                for j in range(cols)
            ]
            for i in range(rows)
        ]
        assert_same_bits(contract.ordered_matmul(a, b, taking_part), np.array(want, dtype))


def test_ordered_matmul_cut_into_blocks_is_the_same(monkeypatch, rng):
    a = rng.standard_normal((2, 40, 30)).astype(np.float32)
    b = rng.standard_normal((30, 70)).astype(np.float32)
    want = contract.ordered_matmul(a, b)
    for cached in (1, 64, 200, 3000):
        monkeypatch.setattr(contract.sums, "CACHED", cached)
        assert_same_bits(contract.ordered_matmul(a, b), want)


@pytest.mark.parametrize("n", [0, 1, 15, 16, 17, 31, 255, 256, 257, 1000])
def test_row_sum_folds_sixteen_lanes(dtype, rng, n):
    x = rng.standard_normal((3, n)).astype(dtype)
    assert_same_bits(
        contract.row_sum(x)[:, 0], np.array([row_sum(list(row), dtype(0)) for row in x], dtype)
    )


def test_sums_never_give_negative_zero(dtype):
    minus = np.full((1, 20), -0.0, dtype)
    assert_same_bits(contract.row_sum(minus), np.zeros((1, 1), dtype))
    assert_same_bits(contract.ordered_matmul(minus, -minus.T), np.zeros((1, 1), dtype))


def test_rounded_leaves_what_broadcasts_as_it_is():
    """Else a mask of one row would become one of all queries: here of 8 TB."""
    every = np.broadcast_to(np.array([1 / 3, -1e300, 1e-42]), (10**6, 10**6, 3))
    found = contract.rounded(every, np.dtype(np.float32))
    assert_same_bits(found, np.array([[[1 / 3, -np.inf, 1e-42]]], np.float32))
    assert_same_bits(contract.rounded(np.array(1 / 3), np.dtype("f4")), np.array(1 / 3, "f4"))


# ---- functions: every float32, against float64; float64 against many digits ----


def worst_ulp_float32(function, exact, first, last):
    """Largest error in ulp of the exact result over all float32 whose bits lie in [first, last)."""
    step = 1 << 16

    def worst(start):
        stop = min(start + step, last)
        x = np.arange(start, stop, dtype=np.uint32).view(np.float32)
        with np.errstate(all="ignore"):
            got = function(x).astype(np.float64)
            want = exact(x.astype(np.float64))
            spacing = np.spacing(np.abs(want).astype(np.float32)).astype(np.float64)
        error = np.abs(got - want) / spacing
        return error[np.isfinite(want) & (want != 0)].max(initial=0.0)

    with ThreadPoolExecutor(2) as pool:
        return max(pool.map(worst, range(first, last, step)))


def bits_of(x):
    return int(np.float32(x).view(np.uint32))


@pytest.mark.slow
def test_exp_float32_all_inputs():
    # Up to 2^-25 in magnitude exp is 1 to within half an ulp, and so it must be.
    worst = max(
        worst_ulp_float32(contract.exp, np.exp, bits_of(2.0**-25), bits_of(88.722839) + 1),
        worst_ulp_float32(contract.exp, np.exp, bits_of(-(2.0**-25)), bits_of(-87.0) + 1),
    )
    assert worst == pytest.approx(0.998, abs=0.0005)  # what the docstring says
    near_zero = np.concatenate(
        [np.arange(0, bits_of(2.0**-25), 997, np.uint32),
         np.arange(bits_of(-0.0), bits_of(-(2.0**-25)), 997, np.uint32)]
    ).view(np.float32)  # fmt: skip
    assert (contract.exp(near_zero) == 1).all()


def test_exp_special(dtype):
    least, most = (-87.0, 88.72283) if dtype is np.float32 else (-708.0, 709.782712893384)
    x = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, -np.nan, least], dtype)
    with np.errstate(all="ignore"):
        got = contract.exp(x)
    assert_same_bits(got[:6], np.array([1, 1, np.inf, 0, np.nan, np.nan], dtype))
    assert got[6] > np.finfo(dtype).tiny
    below, above = np.nextafter(dtype(least), dtype(-np.inf)), dtype(most * 1.0001)
    with np.errstate(all="ignore"):
        assert_same_bits(
            contract.exp(np.array([below, above, -1e30], dtype)), np.array([0, np.inf, 0], dtype)
        )
    assert np.isfinite(contract.exp(np.array([most], dtype)))[0]


def worst_ulp_float64(function, exact, numbers):
    mpmath.mp.dps = 40
    worst = 0
    with np.errstate(all="ignore"):
        results = function(numbers)
    for x, got in zip(numbers, results, strict=True):
        want = exact(mpmath.mpf(float(x)))
        worst = max(worst, abs(mpmath.mpf(float(got)) - want) / np.spacing(abs(float(want))))
    return float(worst)


def test_exp_float64(rng):
    x = np.concatenate([rng.uniform(-1, 1, 10000), rng.uniform(-708, 709, 10000)])
    assert worst_ulp_float64(contract.exp, mpmath.exp, x) < 1.005


@pytest.mark.slow
def test_log_float32_all_inputs():
    worst = worst_ulp_float32(contract.log, np.log, 1, bits_of(np.inf))
    assert worst == pytest.approx(0.835, abs=0.0005)  # what the docstring says


def test_log_float64(rng):
    x = np.concatenate([rng.uniform(0.5, 2, 10000), 10.0 ** rng.uniform(-300, 300, 10000)])
    assert worst_ulp_float64(contract.log, mpmath.log, x) < 0.8


def test_log_special(dtype):
    x = np.array([1, 0.0, -0.0, np.inf, -1, np.nan], dtype)
    with np.errstate(all="ignore"):
        got = contract.log(x)
    assert_same_bits(got, np.array([0, -np.inf, -np.inf, np.inf, np.nan, np.nan], dtype))


@pytest.mark.slow
def test_tanh_float32_all_inputs():
    worst = worst_ulp_float32(contract.tanh, np.tanh, bits_of(2.0**-13), bits_of(10.0))
    assert worst == pytest.approx(2.498, abs=0.0005)  # what the docstring says


def test_tanh_float64(rng):
    x = np.concatenate([rng.uniform(-3, 3, 10000), np.exp(rng.uniform(-30, 3, 10000))])
    assert worst_ulp_float64(contract.tanh, mpmath.tanh, x) < 2.5


def test_erf_float32():
    """A sample of all numbers between those at which erf is nearly linear and nearly 1."""
    x = np.arange(bits_of(2.0**-13), bits_of(4.5), 59, dtype=np.int32).view(np.float32)
    exact = np.fromiter(map(math.erf, x.tolist()), np.float64, len(x))
    errors = np.abs(contract.erf(x) - exact) / np.spacing(exact.astype(np.float32))
    assert 1.8 < errors.max() <= 1.958  # what the docstring says of all


def test_erf_special():
    x = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 7, -1e30, 1e-30], np.float32)
    want = [0.0, -0.0, 1, -1, np.nan, 1, -1, math.erf(1e-30)]
    with np.errstate(all="ignore"):
        assert_same_bits(contract.erf(x), np.array(want, np.float32))


def test_tanh_special(dtype):
    x = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, -np.nan, 30, -1e30, 1e-30], dtype)
    with np.errstate(all="ignore"):
        got = contract.tanh(x)
    want = [0.0, -0.0, 1, -1, np.nan, np.nan, 1, -1, 1e-30]
    assert_same_bits(got, np.array(want, dtype))


def test_sincos(rng):
    x = np.concatenate([rng.uniform(0, 10, 3000), rng.uniform(0, 1e5, 3000), [0.0]])
    for got, exact in zip(contract.sincos(x), (mpmath.sin, mpmath.cos), strict=True):
        errors = [abs(float(g - exact(mpmath.mpf(float(v))))) for v, g in zip(x, got, strict=True)]
        assert max(errors) < 2e-16


# ---- layers, against float64 written differently ----


def test_sigmoid(dtype, rng):
    x = np.concatenate([rng.uniform(-20, 20, 1000), [-100, 100, -1000, 1000, 0]]).astype(dtype)
    want = 0.5 * (1 + np.tanh(x.astype(np.float64) / 2))
    with np.errstate(over="ignore"):
        assert np.abs(contract.sigmoid(x) - want).max() < 3 * np.finfo(dtype).eps


def test_linear(dtype, rng):
    x = rng.standard_normal((2, 3, 300))
    w, b = rng.standard_normal((300, 20)), rng.standard_normal(20)
    got = contract.linear(x.astype(dtype), w.astype(dtype), b.astype(dtype))
    assert got.shape == (2, 3, 20)
    assert np.abs(got - (x @ w + b)).max() < 400 * np.finfo(dtype).eps
    assert contract.linear(np.zeros((0, 3), dtype), np.zeros((3, 4), dtype)).shape == (0, 4)


def test_layer_norm(dtype, rng):
    x = rng.standard_normal((4, 100)) * 3 + 1
    gamma, beta = rng.standard_normal(100), rng.standard_normal(100)
    want = (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + 1e-6) * gamma + beta
    got = contract.layer_norm(*(a.astype(dtype) for a in (x, gamma, beta)), 1e-6)
    assert np.abs(got - want).max() < 100 * np.finfo(dtype).eps


def test_softmax(dtype, rng):
    x = (rng.standard_normal((2, 5000)) * 5).astype(dtype)
    x[0, 7] = -np.inf
    p, log_p = contract.softmax(x)
    shifted = x.astype(np.float64) - x.max(axis=1, keepdims=True)
    want = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    assert np.abs(p - np.exp(want)).max() < 10 * np.finfo(dtype).eps
    assert p[0, 7] == 0 and log_p[0, 7] == -np.inf
    seen = np.isfinite(want)
    assert np.abs(log_p[seen] - want[seen]).max() < 50 * np.finfo(dtype).eps
