"""attention(): the same bits everywhere, the right numbers, and errors that help."""

from __future__ import annotations

import math
import subprocess
import sys

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from conftest import assert_same_bits
from hypothesis import given, settings
from hypothesis import strategies as st
from loops import attention as loops
from loops import integer_score
from ml_dtypes import bfloat16

from seq2seq_fast import KeyValueCache, attention, contract, ragged_attention, use
from seq2seq_fast.aligned import in_place
from seq2seq_fast.backends import native
from seq2seq_fast.sdpa.call import integer_attention
from seq2seq_fast.sdpa.overlap import overlaps_itself
from seq2seq_fast.sdpa.planning import MAX_LEADING_AXES

EDGES = (1, 15, 16, 17, 31, 33, 97)


def problem(rng, dtype, queries, keys, width, value_width=None, lead=(), heads=1, key_heads=1):
    """Random query, key, value."""

    def draw(*shape):
        return rng.standard_normal(shape).astype(dtype)

    return (
        draw(*lead, heads, queries, width),
        draw(*lead, key_heads, keys, width),
        draw(*lead, key_heads, keys, value_width or width),
    )


def check_against_contract(*arrays, **options):
    """The active backend's results have the contract's bits; context and weights are returned."""
    got = attention(*arrays, return_weights=True, return_logsumexp=True, **options)
    with use(backend="numpy"):
        want = attention(*arrays, return_weights=True, return_logsumexp=True, **options)
    for g, w in zip(got, want, strict=True):
        assert_same_bits(g, w)
    assert_same_bits(attention(*arrays, **options), want[0])
    return got[:2]


def float64_attention(q, k, v, scale=None, mask=None, bias=0.0, softcap=None, sinks=None):
    """Independent: BLAS and NumPy's exp in float64. q (..., Tq, D), k (..., Tk, D), sinks (..., H)
    give the context and the log-sum-exp."""
    q, k, v = (a.astype(np.float64) for a in (q, k, v))
    if q.shape[-3:-2] != k.shape[-3:-2]:
        k, v = (np.repeat(a, q.shape[-3] // a.shape[-3], axis=-3) for a in (k, v))
    scores = np.einsum("...id,...jd->...ij", q, k) * (scale or q.shape[-1] ** -0.5)
    if softcap is not None:
        scores = softcap * np.tanh(scores / softcap)
    scores = scores + np.asarray(bias, np.float64)
    if mask is not None:
        scores = np.where(mask, scores, -np.inf)
    most = scores.max(axis=-1, keepdims=True)
    most = np.where(np.isinf(most), 0, most)
    weights = np.exp(scores - most)
    total = weights.sum(axis=-1, keepdims=True)
    if sinks is not None:
        total = total + np.exp(np.asarray(sinks, np.float64)[..., None, None] - most)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(total > 0, weights @ v / total, 0), (most + np.log(total))[..., 0]


# ---- the textbook ----


def test_textbook_example(backend):
    w_enc, w_dec = np.array([[1.0, 2], [3, 4]]), np.array([[1.0, -1], [0, 1]])
    h = np.array([w_enc @ [1.0, 0], w_enc @ [0.0, 1]])
    s1 = w_dec @ [0.5, 0.5]
    assert h.tolist() == [[1, 3], [2, 4]]
    assert s1.tolist() == [0, 0.5]
    context, weights = attention(s1[None], h, h, scale=1, return_weights=True)
    assert weights.round(2).tolist() == [[0.38, 0.62]]
    assert context.round(2).tolist() == [[1.62, 3.62]]
    # The whole result, bit for bit, by the textbook's loops over Python's floats.
    scores = [0.0 + 0.0 * 1 + 0.5 * 3, 0.0 + 0.0 * 2 + 0.5 * 4]
    e = [float(contract.exp(np.array([s - max(scores)]))[0]) for s in scores]
    total = 0.0 + e[0] + e[1]
    by_hand = [[(0.0 + e[0] * h[0, c] + e[1] * h[1, c]) / total for c in range(2)]]
    assert_same_bits(context, np.array(by_hand))
    assert_same_bits(weights, np.array([[e[0] / total, e[1] / total]]))


@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (3, 5, 4, 2), (2, 17, 16, 3), (2, 300, 3, 2)])
def test_equals_plain_loops(backend, dtype, rng, shape):
    queries, keys, width, value_width = shape
    q, k, v = (a[0] for a in problem(rng, dtype, queries, keys, width, value_width))
    visible = rng.random((queries, keys)) < 0.7
    bias = rng.standard_normal((queries, keys)).astype(dtype)
    got = attention(q, k, v, mask=visible, bias=bias, return_weights=True)
    want = loops(q, k, v, 1 / math.sqrt(width), lambda i, j: visible[i, j], bias)
    for g, w in zip(got, want, strict=True):
        assert_same_bits(g, w)


@pytest.mark.parametrize("width", [257, 513])
def test_long_features_are_added_in_blocks(backend, dtype, rng, width):
    q, k, v = (a[0] for a in problem(rng, dtype, 2, 3, width, 2))
    for g, w in zip(
        attention(q, k, v, return_weights=True), loops(q, k, v, 1 / math.sqrt(width)), strict=True
    ):
        assert_same_bits(g, w)


def test_loops_with_nan_and_infinity(backend, dtype):
    """Every mixture of special numbers in places that are seen, as the loops have it."""
    special = [0.0, -0.0, 1.0, np.inf, -np.inf, np.nan, np.finfo(dtype).max, np.finfo(dtype).tiny]
    numbers = np.array(special, dtype)
    q = numbers[:, None]
    for k in numbers:
        keys = np.array([[k], [1.0], [-1.0]], dtype)
        values = np.stack([np.roll(numbers, i)[:3] for i in range(8)], axis=1)
        got = attention(q, keys, values, scale=1, return_weights=True)
        for g, w in zip(got, loops(q, keys, values, 1.0), strict=True):
            assert_same_bits(g, w)


# ---- scores of eight-bit integers ----


def integer_scores(q, k, v, key_lengths=None):
    out = np.full((*q.shape[:-1], v.shape[-1]), np.nan, np.float32)
    return integer_attention(q, k, v, key_lengths=key_lengths, out=out)


@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (3, 5, 4, 2), (2, 17, 15, 3), (2, 300, 3, 2)])
def test_integer_scores_equal_plain_loops(backend, rng, shape):
    queries, keys, width, value_width = shape
    q, k, v = problem(rng, np.float32, queries, keys, width, value_width)
    q[0, -1, 0], k[0, 0] = 1e30, 0  # a row that is all but one number, and one of nothing
    want, _ = loops(q[0], k[0], v[0], 1 / math.sqrt(width), score=integer_score)
    assert_same_bits(integer_scores(q, k, v)[0], want)
    q[0, 0, 0], k[0, -1, 0] = np.nan, np.inf
    want, _ = loops(q[0], k[0], v[0], 1 / math.sqrt(width), score=integer_score)
    assert_same_bits(integer_scores(q, k, v)[0], want)


@pytest.mark.parametrize("width", [1, 16, 63, 64, 257, 300])
@pytest.mark.parametrize(("queries", "keys"), [(1, 33), (25, 17), (49, 700), (600, 300), (5, 0)])
def test_integer_scores_have_the_contracts_bits(backend, rng, queries, keys, width):
    """Tiles' edges, blocks, several passes over kept panels, heads that share keys, lengths."""
    q, k, v = problem(rng, np.float32, queries, keys, width, 20, (2,), heads=2, key_heads=1)
    if keys:
        k[0, 0, -1, 0], v[1, 0, -1, 0] = np.inf, np.nan  # both hidden from the shorter sequences
    for lengths in (None, np.array([keys // 2, 0]), np.array([max(0, keys - 1)] * 2)):
        found = integer_scores(q, k, v, lengths)
        with use(backend="numpy"):
            assert_same_bits(found, integer_scores(q, k, v, lengths))
    assert np.isfinite(found).all()


def test_integer_scores_depend_on_no_thread_and_no_neighbour(rng):
    q, k, v = problem(rng, np.float32, 700, 520, 64, lead=(2,), heads=3, key_heads=3)
    with use(threads=1):
        want = integer_scores(q, k, v)
    for threads in (2, 3):
        with use(threads=threads):
            assert_same_bits(integer_scores(q, k, v), want)
    assert_same_bits(integer_scores(q[1:, :, 300:], k[1:], v[1:]), want[1:, :, 300:])
    shorter = integer_scores(q, k, v, [400, 520])
    assert_same_bits(shorter[0], integer_scores(q[0], k[0, :, :400], v[0, :, :400]))


def test_integer_scores_are_close(backend, rng):
    """Each number of query and key is off by 1/254 of its row's greatest at most."""
    q, k, v = problem(rng, np.float32, 40, 200, 64)
    found, (exact, _) = integer_scores(q, k, v), float64_attention(q, k, v)
    assert np.abs(found - exact).max() < 0.02
    assert np.abs(found - exact).max() > 1e-5  # it is another arithmetic


def test_integer_scores_are_of_float32(rng):
    with pytest.raises(TypeError, match="query and key must be float32; got float64"):
        integer_scores(*problem(rng, np.float64, 3, 4, 5))


# ---- sizes ----


@pytest.mark.parametrize("queries", EDGES)
@pytest.mark.parametrize("keys", EDGES)
def test_sizes_around_the_tiles(backend, dtype, rng, queries, keys):
    for width, value_width in ((16, 17), (33, 15), (1, 64)):
        check_against_contract(*problem(rng, dtype, queries, keys, width, value_width))


def test_every_width(backend, dtype, rng):
    for width in range(1, 257):
        check_against_contract(*problem(rng, dtype, 7, 20, width))


@pytest.mark.parametrize("keys", [255, 256, 257, 511, 512, 513, 1100])
def test_keys_around_the_blocks(backend, dtype, rng, keys):
    for queries in (1, 3, 26):
        check_against_contract(*problem(rng, dtype, queries, keys, 20))


@pytest.mark.parametrize("queries", [23, 24, 25, 47, 48, 49, 95, 96, 193])
def test_rows_around_the_tiles(backend, dtype, rng, queries):
    check_against_contract(*problem(rng, dtype, queries, 40, 24, heads=2, key_heads=2))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"causal": "bottom_right"},
        {"window": (90, 3), "query_offset": 250},
        {"key_lengths": [300]},
    ],
    ids=str,
)
def test_many_rows_over_values_far_apart(backend, any_dtype, rng, options):
    """So many that the kernel copies values first; beside them lies what must not be read."""
    q, k, v = problem(rng, any_dtype, 200, 530, 20, 37, lead=(1,))
    apart = np.full((*v.shape[:-1], 3 * v.shape[-1]), np.nan, any_dtype)[..., 40:77]
    apart[...] = v
    check_against_contract(q, k, apart, **options)


PASSES = (400, 600, 20)
"""Queries, keys, width: rows enough for several passes over a head's kept panels, of which the last
is not full, and neither is the last block."""


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"causal": "top_left"},
        {"causal": "bottom_right", "window": (70, None)},
        {"window": (100, 30), "query_offset": 150},
        {"key_lengths": [600, 517]},
        {"query_lengths": [400, 133], "key_lengths": [300, 600], "causal": "bottom_right"},
    ],
    ids=lambda options: "-".join(options) or "plain",
)
def test_several_passes_over_a_head(backend, any_dtype, rng, options):
    arrays = problem(rng, any_dtype, *PASSES, 24, lead=(2,), heads=2, key_heads=1)
    check_against_contract(*arrays, **options)


def test_passes_touch_no_hidden_key(backend, dtype, rng):
    """What no row of a pass sees may be packed for later ones: it may hold anything."""
    q, k, v = problem(rng, dtype, *PASSES)
    mask = rng.random((PASSES[0], PASSES[1])) < 0.5
    mask[:, 300:310] = False
    plain = attention(q, k, v, mask=mask)
    k[:, 300:310], v[:, 300:310] = np.nan, np.inf
    assert_same_bits(attention(q, k, v, mask=mask), plain)


def test_weights_of_rows_of_very_many_keys(backend, rng):
    """So many that few rows' weights fit the memory of a unit: it takes several passes."""
    check_against_contract(*problem(rng, np.float32, 30, 40_000, 4))


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_passes_of_every_thread(rng, threads):
    q, k, v = problem(rng, np.float32, 1000, 700, 64, heads=3, key_heads=3)
    with use(backend="numpy"):
        want = attention(q, k, v)
    with use(threads=threads):
        assert_same_bits(attention(q, k, v), want)


@pytest.mark.parametrize(
    ("q", "k", "v"),
    [
        ((0, 4), (3, 4), (3, 5)),
        ((2, 4), (0, 4), (0, 5)),
        ((2, 0), (3, 0), (3, 5)),
        ((2, 4), (3, 4), (3, 0)),
        ((0, 2, 4), (0, 3, 4), (0, 3, 5)),
        ((0, 2, 2, 4), (0, 2, 3, 4), (0, 2, 3, 5)),
        ((0, 0), (0, 0), (0, 0)),
    ],
)
def test_empty_axes(backend, dtype, q, k, v):
    out, weights = attention(
        np.ones(q, dtype), np.ones(k, dtype), np.ones(v, dtype), return_weights=True
    )
    assert out.shape == (*q[:-1], v[-1])
    assert weights.shape == (*q[:-1], k[-2])
    # No keys: zeros. No features: all scores are 0, the mean of ones is 1.
    assert (out == (1 if k[-2] else 0)).all()


# ---- what is hidden has no effect ----


@pytest.mark.parametrize("poison", [np.nan, np.inf, -np.inf, 1e30])
@pytest.mark.parametrize("how", ["mask", "bias", "lengths", "causal"])
def test_hidden_keys_and_values_may_hold_anything(backend, dtype, rng, poison, how):
    q, k, v = problem(rng, dtype, 40, 40, 16, lead=(2,))
    hidden = np.zeros((2, 1, 40, 40), bool)
    if how == "lengths":
        hidden[:, :, :, 33:] = True
        options = {"key_lengths": [33, 33]}
    elif how == "causal":
        hidden |= ~np.tri(40, dtype=bool)
        options = {"causal": True}
    else:
        hidden |= rng.random((40, 40)) < 0.4
        options = {"mask": ~hidden}
        if how == "bias":
            options = {"bias": np.where(hidden, -np.inf, 0).astype(dtype)}
    clean = attention(q, k, v, return_weights=True, **options)
    for j in (5, 17, 35, 39):
        seen = ~hidden[0, 0, :, j]
        bad_k, bad_v = k.copy(), v.copy()
        bad_k[:, :, j] = bad_v[:, :, j] = poison
        got = attention(q, bad_k, bad_v, return_weights=True, **options)
        for g, c in zip(got, clean, strict=True):
            assert_same_bits(g[:, :, ~seen], c[:, :, ~seen])
        check_against_contract(q, bad_k, bad_v, **options)


def test_a_row_that_sees_no_key_gives_zeros(backend, dtype, rng):
    q, k, v = problem(rng, dtype, 3, 20, 8)
    v[0, 4] = np.nan
    mask = np.ones((3, 20), bool)
    mask[1] = False
    out, weights = check_against_contract(q, k, v, mask=mask)
    assert_same_bits(out[0, 1], np.zeros(8, dtype))
    assert_same_bits(weights[0, 1], np.zeros(20, dtype))
    assert np.isnan(out[0, [0, 2]]).all()
    q[0, 2] = k[0, 3] = np.nan
    nothing = np.array(-np.inf, dtype)
    for options in (
        {"key_lengths": 0},
        {"mask": False},
        {"bias": nothing},
        {"bias": np.full((3, 20), nothing)},
        {"bias": nothing, "softcap": 1.0, "sinks": np.ones(1, dtype)},
    ):
        out, weights = check_against_contract(q, k, v, **options)
        assert not out.any() and not weights.any()
        _, lse = attention(q, k, v, return_logsumexp=True, **options)
        assert (lse == -np.inf).all()


def test_a_row_that_sees_a_nan_score_gives_nan(backend, dtype, rng):
    q, k, v = problem(rng, dtype, 4, 33, 8)
    q[0, 2, 3] = np.nan
    out, weights = check_against_contract(q, k, v)
    assert np.isnan(out[0, 2]).all() and np.isnan(weights[0, 2]).all()
    assert np.isfinite(np.delete(out, 2, axis=1)).all()


def test_nan_is_stored_canonical(backend, dtype, rng):
    """Whatever payload and sign went in, one NaN comes out."""
    q, k, v = problem(rng, dtype, 2, 16, 8)
    bits = v.view(f"u{v.itemsize}")
    bits[0, 3, :] = np.array(np.nan, dtype).view(bits.dtype) | bits.dtype.type(12345)
    bits[0, 3, ::2] |= bits.dtype.type(1 << (8 * v.itemsize - 1))
    out = attention(q, k, v)
    assert_same_bits(out, np.full_like(out, np.nan))


# ---- numbers at the edges of the format ----


@pytest.mark.parametrize("magnitude", ["subnormal", "tiny", "huge", "overflowing", "zero"])
def test_magnitudes(backend, dtype, rng, magnitude):
    info = np.finfo(dtype)
    factor = {
        "subnormal": info.smallest_subnormal * 40,
        "tiny": math.sqrt(info.tiny),
        "huge": math.sqrt(info.max) / 100,
        "overflowing": math.sqrt(info.max) * 10,
        "zero": -0.0,
    }[magnitude]
    q, k, v = problem(rng, dtype, 19, 37, 24)
    for scaled in ((q * dtype(factor), k, v), (q * dtype(factor), k * dtype(factor), v),
                   (q, k, v * dtype(factor))):  # fmt: skip
        check_against_contract(*scaled)


def test_weights_never_are_subnormal(backend, dtype):
    """exp is 0 where it would be subnormal: keys whose scores fall in even steps."""
    k = -np.arange(2000, dtype=dtype)[:, None] / 2
    _, weights = check_against_contract(np.ones((1, 1), dtype), k, k, scale=1)
    smallest = weights[weights > 0].min()
    assert smallest > np.finfo(dtype).tiny / 2
    assert (weights == 0).any()


def test_negative_zero_sums_to_positive_zero(backend, dtype):
    q = k = np.ones((1, 1), dtype)
    assert_same_bits(attention(q, k, np.array([[-0.0]], dtype)), np.zeros((1, 1), dtype))


# ---- options ----


def test_causal(backend, dtype, rng):
    for queries, keys in ((5, 5), (3, 9), (9, 3), (50, 60), (130, 130)):
        q, k, v = problem(rng, dtype, queries, keys, 8)
        i, j = np.ogrid[:queries, :keys]
        for name, mask in (("top_left", j <= i), ("bottom_right", j <= i + keys - queries)):
            got = check_against_contract(q, k, v, causal=name)
            for g, w in zip(got, attention(q, k, v, mask=mask, return_weights=True), strict=True):
                assert_same_bits(g, w)
    for g, w in zip(attention(q, k, v, causal=True), attention(q, k, v, causal="top_left"),
                    strict=True):  # fmt: skip
        assert_same_bits(g, w)


def test_key_lengths_equal_shorter_keys(backend, dtype, rng):
    """Padded against unpadded."""
    q, k, v = problem(rng, dtype, 9, 70, 16, lead=(4,), heads=2, key_heads=2)
    lengths = [70, 1, 33, 0]
    out = attention(q, k, v, key_lengths=lengths)
    for b, n in enumerate(lengths):
        assert_same_bits(out[b], attention(q[b], k[b, :, :n], v[b, :, :n]))
    check_against_contract(q, k, v, key_lengths=np.array([[9]], np.uint8)[0])


@pytest.mark.parametrize("shape", [(), (60,), (40, 1), (40, 60), (2, 1, 1), (2, 40, 60),
                                   (3, 1, 1, 60), (3, 2, 40, 60)])  # fmt: skip
def test_mask_and_bias_broadcast(backend, dtype, rng, shape):
    q, k, v = problem(rng, dtype, 40, 60, 8, lead=(3,), heads=2, key_heads=1)
    mask = rng.random(shape) < 0.6
    bias = rng.standard_normal(shape).astype(dtype)
    full = (3, 2, 40, 60)
    for options in (
        {"mask": mask},
        {"bias": bias},
        {"mask": mask, "bias": bias, "causal": "top_left"},
    ):
        expanded = {
            name: np.broadcast_to(a, full).copy() if name in ("mask", "bias") else a
            for name, a in options.items()
        }
        got = check_against_contract(q, k, v, **options)
        assert_same_bits(got[0], attention(q, k, v, **expanded))


def test_grouped_query_heads(backend, dtype, rng):
    q, k, v = problem(rng, dtype, 7, 19, 16, lead=(2,), heads=6, key_heads=2)
    repeated = [np.repeat(a, 3, axis=1) for a in (k, v)]
    got = check_against_contract(q, k, v, causal="bottom_right")
    assert_same_bits(got[0], attention(q, *repeated, causal="bottom_right"))


def test_leading_axes_broadcast(backend, dtype, rng):
    q = rng.standard_normal((3, 1, 2, 4, 8)).astype(dtype)
    k = rng.standard_normal((5, 2, 6, 8)).astype(dtype)
    v = rng.standard_normal((1, 1, 2, 6, 3)).astype(dtype)
    lengths = rng.integers(0, 7, (3, 5))
    out, _ = check_against_contract(q, k, v, key_lengths=lengths)
    assert out.shape == (3, 5, 2, 4, 3)
    for a in range(3):
        for b in range(5):
            alone = attention(q[a, 0], k[b], v[0, 0], key_lengths=lengths[a, b])
            assert_same_bits(out[a, b], alone)


def test_many_leading_axes(backend, rng):
    q, k, v = problem(rng, np.float32, 3, 4, 5, lead=(1, 2) * 8)
    out = attention(q, k, v)
    flat = [a.reshape(256, 1, *a.shape[-2:]) for a in (q, k, v)]
    assert_same_bits(out.reshape(256, 1, 3, 5), attention(*flat))
    with pytest.raises(ValueError, match="query has more than 16 leading axes"):
        attention(q[None], k, v)


def test_the_kernel_walks_as_many_leading_axes():
    if native.why_missing:
        pytest.skip(native.why_missing)
    assert native.lib.S2S_MAX_LEAD == MAX_LEADING_AXES


def test_scale(backend, dtype, rng):
    q, k, v = problem(rng, dtype, 5, 20, 16)
    assert_same_bits(attention(q, k, v), attention(q, k, v, scale=0.25))
    for scale in (0, -1.5, 1e-30, 1 / 3, np.float32(0.1)):
        check_against_contract(q, k, v, scale=scale)


# ---- positions: causal with an offset, windows, lengths of queries ----


def sees(queries, keys, offset, left, right):
    """(Tq, Tk): what the query at position i + offset sees."""
    i, j = np.ogrid[:queries, :keys]
    return (j >= i + offset - left) & (j <= i + offset + right)


def test_window_where_a_unit_of_rows_goes_on_with_the_next_head(backend, dtype, rng):
    """Its first rows see the last keys, its last rows the first ones."""
    q, k, v = problem(rng, dtype, 1834, 1834, 4, heads=2)
    check_against_contract(q, k, v, causal=True, window=(250, 0))


@pytest.mark.parametrize("offset", [0, 7, -3, 50, 1000, -1000])
def test_query_offset(backend, dtype, rng, offset):
    q, k, v = problem(rng, dtype, 30, 45, 8, heads=2)
    got = check_against_contract(q, k, v, causal=True, query_offset=offset)
    mask = sees(30, 45, offset, math.inf, 0)
    for g, w in zip(got, attention(q, k, v, mask=mask, return_weights=True), strict=True):
        assert_same_bits(g, w)


def test_query_offset_of_each_sequence(backend, dtype, rng):
    """Keys that came before: a step of decoding is the last row of the whole."""
    q, k, v = problem(rng, dtype, 20, 20, 8, lead=(3,), heads=2, key_heads=2)
    whole = attention(q, k, v, causal=True)
    offsets = [0, 11, 19]
    steps = np.stack([q[b, :, i : i + 1] for b, i in enumerate(offsets)])
    out = attention(steps, k, v, causal=True, query_offset=offsets)
    for b, i in enumerate(offsets):
        assert_same_bits(out[b, :, 0], whole[b, :, i])


@pytest.mark.parametrize("window", [(0, 0), (5, 2), (None, 3), (40, None), (300, 0), (None, None)])
@pytest.mark.parametrize("causal", [False, "top_left", "bottom_right"])
def test_window(backend, dtype, rng, window, causal):
    for queries, keys in ((60, 60), (1, 700), (130, 700), (700, 60)):
        q, k, v = problem(rng, dtype, queries, keys, 8)
        offset = keys - queries if causal == "bottom_right" else 0
        left, right = (math.inf if bound is None else bound for bound in window)
        options = {"query_offset": 0} if causal is False else {"causal": causal}
        got = check_against_contract(q, k, v, window=window, **options)
        mask = sees(queries, keys, offset, left, min(right, 0) if causal else right)
        for g, w in zip(got, attention(q, k, v, mask=mask, return_weights=True), strict=True):
            assert_same_bits(g, w)


@pytest.mark.parametrize("causal", [False, "top_left", "bottom_right"])
def test_padding_changes_nothing(backend, any_dtype, rng, causal):
    """Queries and keys of each sequence padded with NaN, against the sequence alone."""
    q, k, v = problem(rng, any_dtype, 40, 70, 16, lead=(4,), heads=4, key_heads=2)
    queries, keys = [40, 1, 17, 0], [70, 33, 5, 12]
    for b, (m, n) in enumerate(zip(queries, keys, strict=True)):
        q[b, :, m:], k[b, :, n:], v[b, :, n:] = np.nan, np.nan, np.nan
    options = {"causal": causal, "softcap": 3.0, "window": (9, 9) if causal else None}
    padded = attention(
        q, k, v, query_lengths=queries, key_lengths=keys,
        return_weights=True, return_logsumexp=True, **options,
    )  # fmt: skip
    for b, (m, n) in enumerate(zip(queries, keys, strict=True)):
        alone = attention(
            q[b, :, :m], k[b, :, :n], v[b, :, :n],
            return_weights=True, return_logsumexp=True, **options,
        )  # fmt: skip
        assert_same_bits(padded[0][b, :, :m], alone[0])
        assert_same_bits(padded[1][b, :, :m, :n], alone[1])
        assert_same_bits(padded[2][b, :, :m], alone[2])
        assert not padded[0][b, :, m:].any() and not padded[1][b, :, m:].any()
        assert (padded[2][b, :, m:] == -np.inf).all()
    given = np.full((4, 4, 40, 16), 7, any_dtype)
    attention(q, k, v, query_lengths=queries, key_lengths=keys, out=given, **options)
    assert_same_bits(given, padded[0])


def test_ragged_sequences_equal_each_alone(backend, any_dtype, rng):
    queries, keys = [5, 0, 30, 1, 1], [9, 4, 30, 0, 300]
    starts = [np.concatenate([[0], np.cumsum(n)]) for n in (queries, keys)]
    # Data as (N, H, D), passed as a transposed view.
    q = rng.standard_normal((sum(queries), 4, 16)).astype(any_dtype).swapaxes(0, 1)
    k = rng.standard_normal((sum(keys), 2, 16)).astype(any_dtype).swapaxes(0, 1)
    v = rng.standard_normal((sum(keys), 2, 9)).astype(any_dtype).swapaxes(0, 1)
    sinks = rng.standard_normal(4).astype(any_dtype)
    for options in (
        {},
        {"causal": "top_left"},
        {"causal": "bottom_right", "window": (3, None)},
        {"scale": 2.0, "softcap": 1.5, "sinks": sinks},
    ):
        out, lse = ragged_attention(q, k, v, *starts, return_logsumexp=True, **options)
        for b in range(len(queries)):
            rows, columns = (slice(at[b], at[b + 1]) for at in starts)
            alone = attention(
                q[:, rows], k[:, columns], v[:, columns], return_logsumexp=True, **options
            )
            assert_same_bits(out[:, rows], alone[0])
            assert_same_bits(lse[:, rows], alone[1])
        with use(threads=3):
            assert_same_bits(ragged_attention(q, k, v, *starts, **options), out)
    target = np.empty((sum(queries), 4, 9), any_dtype).swapaxes(0, 1)
    assert ragged_attention(q, k, v, *starts, out=target, **options) is target
    assert_same_bits(target, out)
    none = ragged_attention(q[:, :0], k[:, :0], v[:, :0], [0], [0])
    assert none.shape == (4, 0, 9)


def test_ragged_causal_needs_a_name_unless_lengths_agree(backend, rng):
    rows = rng.standard_normal((1, 8, 4)).astype(np.float32)
    same = [0, 3, 8]
    assert_same_bits(
        ragged_attention(rows, rows, rows, same, same, causal=True),
        ragged_attention(rows, rows, rows, same, same, causal="bottom_right"),
    )
    with pytest.raises(ValueError, match="causal=True needs as many queries as keys in each"):
        ragged_attention(rows, rows, rows, same, [0, 4, 8], causal=True)
    with pytest.raises(ValueError, match="window needs as many queries as keys in each"):
        ragged_attention(rows, rows, rows, same, [0, 4, 8], window=(1, 1))


@pytest.mark.parametrize(
    ("starts", "message"),
    [
        (([0, 3, 8], [0, 8]), "key_starts must have one number more"),
        (([0, 3, 7], [0, 4, 8]), r"query_starts must rise from 0 to the number of rows, 8; got"),
        (([0, 9, 8], [0, 4, 8]), "query_starts must rise from 0"),
        (([1, 3, 8], [0, 4, 8]), "query_starts must rise from 0"),
        (([], []), "query_starts must have one number more"),
    ],
)
def test_ragged_errors(backend, starts, message):
    rows = np.zeros((1, 8, 4), np.float32)
    with pytest.raises(ValueError, match=message):
        ragged_attention(rows, rows, rows, *starts)


# ---- what is done to the scores ----


@pytest.mark.parametrize("softcap", [0.3, 5.0, 50.0, 1e30])
def test_softcap(backend, any_dtype, rng, softcap):
    q, k, v = problem(rng, any_dtype, 9, 70, 16, heads=2, key_heads=2)
    bias = rng.standard_normal((9, 70)).astype(any_dtype)
    check_against_contract(q, k, v, softcap=softcap, bias=bias, scale=2.0)
    check_against_contract(q * any_dtype(100), k, v, softcap=softcap, causal="top_left")


def test_sinks(backend, any_dtype, rng):
    q, k, v = problem(rng, any_dtype, 9, 70, 16, lead=(2,), heads=4, key_heads=2)
    mask = rng.random((9, 70)) < 0.5
    mask[3] = False  # sees no key, only the sink: zeros
    for sinks in (
        rng.standard_normal(4).astype(any_dtype),
        rng.standard_normal((2, 1)).astype(any_dtype),
        np.array(60, any_dtype),  # takes nearly everything
        np.array(-np.inf, any_dtype),
        np.array([np.nan, np.inf, -np.inf, -0.0], any_dtype),
    ):
        check_against_contract(q, k, v, sinks=sinks, mask=mask)
    assert_same_bits(attention(q, k, v, sinks=np.array(-np.inf, any_dtype)), attention(q, k, v))


def test_every_option_equals_plain_loops(backend, dtype, rng):
    q, k, v = (a[0] for a in problem(rng, dtype, 6, 300, 5, 3))
    bias = rng.standard_normal((6, 300)).astype(dtype)
    mask = rng.random((6, 300)) < 0.8
    near = sees(6, 300, 270, 260, 20)
    got = attention(
        q, k, v, scale=0.7, mask=mask, bias=bias, query_offset=270, window=(260, 20),
        softcap=1.3, sinks=np.array([0.4], dtype), return_weights=True,
    )  # fmt: skip
    want = loops(q, k, v, 0.7, lambda i, j: mask[i, j] and near[i, j], bias, 1.3, dtype(0.4))
    for g, w in zip(got, want, strict=True):
        assert_same_bits(g, w)


def test_logsumexp_merges_parts(backend, rng):
    """Attention over all keys from attention over two parts of them, in float64."""
    q, k, v = problem(rng, np.float64, 9, 100, 16, heads=2, key_heads=2)
    whole = attention(q, k, v)
    parts = [attention(q, k[:, at], v[:, at], return_logsumexp=True)
             for at in (slice(0, 37), slice(37, 100))]  # fmt: skip
    weights = [np.exp(lse - parts[0][1])[..., None] for _, lse in parts]
    merged = sum(w * out for w, (out, _) in zip(weights, parts, strict=True)) / sum(weights)
    assert np.abs(merged - whole).max() < 1e-14
    out, lse = attention(q, k, v, key_lengths=0, return_logsumexp=True)
    assert not out.any() and (lse == -np.inf).all() and lse.dtype == np.float64


# ---- half types ----


def test_half_types_are_float32_inside(backend, rng):
    """Widened exactly, rounded once."""
    for half in (np.float16, bfloat16):
        q, k, v = problem(rng, half, 30, 300, 40, 24, heads=4, key_heads=2)
        bias = rng.standard_normal((30, 300)).astype(half)
        options = {"causal": "bottom_right", "return_weights": True}
        wide = attention(*(a.astype(np.float32) for a in (q, k, v)),
                         bias=bias.astype(np.float32), **options)  # fmt: skip
        got = attention(q, k, v, bias=bias, **options)
        for g, w in zip(got, wide, strict=True):
            assert_same_bits(g, w.astype(half))
        mixed = attention(q.astype(np.float32), k, v, bias=bias.astype(np.float32), **options)
        for g, w in zip(mixed, wide, strict=True):
            assert_same_bits(g, w)


@pytest.mark.slow
@pytest.mark.parametrize("half", [np.float16, bfloat16], ids=["float16", "bfloat16"])
def test_every_half_number_is_read_and_written(backend, half):
    """One key: the context is its value. All 65536, as widths of panels and of what is left."""
    numbers = np.arange(65536, dtype=np.uint16).view(half)
    one = np.ones((1, 1), half)
    with np.errstate(invalid="ignore"):
        want = np.where(np.isnan(numbers.astype(np.float32)), np.float32(np.nan),
                        numbers.astype(np.float32) + 0).astype(half)  # fmt: skip
    for width in (16, 17, 1):
        values = np.resize(numbers, (65536 // width + 1, 1, 1, width))
        wanted = np.resize(want, values.shape)
        assert_same_bits(attention(one, one, values), wanted)
    # As keys: the score is the key's number, and the statistics show it.
    keys = numbers.reshape(-1, 1, 1, 1)
    lse = attention(one, keys, one, scale=1, return_logsumexp=True)[1]
    seen = numbers.astype(np.float32).reshape(lse.shape)
    finite = np.isfinite(seen)
    assert_same_bits(lse[finite], seen[finite] + np.float32(0))
    # Sixteen keys at a time, through the transposing loads.
    keys = numbers.reshape(-1, 1, 32, 64)
    wide = keys.astype(np.float32)
    for width in (64, 63, 8, 7):
        q = np.ones((1, width), np.float32)
        assert_same_bits(
            attention(q, keys[..., :width], keys, return_logsumexp=True)[1],
            attention(q, wide[..., :width], wide, return_logsumexp=True)[1],
        )


@pytest.mark.parametrize("half", [np.float16, bfloat16], ids=["float16", "bfloat16"])
def test_results_are_rounded_to_nearest_even(backend, half, rng):
    """Means of two halves, which often are ties or subnormal, against NumPy's rounding."""
    pairs = rng.integers(0, 65536, (4096, 1, 2, 16)).astype(np.uint16).view(half)
    pairs[:2048].view(np.uint16)[:, :, 1] = pairs[:2048].view(np.uint16)[:, :, 0] + 1
    got = attention(np.zeros((1, 1), half), np.zeros((2, 1), half), pairs)
    with np.errstate(all="ignore"):
        wide = pairs.astype(np.float32)
        mean = (wide[:, :, :1] + wide[:, :, 1:]) / np.float32(2)
        want = np.where(np.isnan(mean), np.float32(np.nan), mean + np.float32(0)).astype(half)
    assert_same_bits(got, want)


# ---- layout, batch, threads ----


def test_strides(backend, dtype, rng):
    """Any layout gives the same bits; (B, T, H, D) passes as a transposed view."""
    q, k, v = problem(rng, dtype, 20, 40, 16, lead=(2,), heads=3, key_heads=3)
    want = attention(q, k, v)

    def views(a):
        yield np.ascontiguousarray(a.swapaxes(1, 2)).swapaxes(1, 2)
        yield np.asfortranarray(a)
        yield np.repeat(a, 2, axis=-1)[..., ::2]
        yield a[:, :, ::-1].copy()[:, :, ::-1]
        yield a[..., ::-1].copy()[..., ::-1]
        yield np.pad(a, ((0, 0), (0, 0), (0, 0), (3, 5)))[..., 3:-5]
        unaligned = np.zeros(a.nbytes + 1, np.uint8)[1:].view(dtype).reshape(a.shape)
        unaligned[...] = a
        yield unaligned

    for x, y, z in zip(views(q), views(k), views(v), strict=True):
        assert_same_bits(attention(x, y, z), want)
        assert_same_bits(attention(q, y, v), want)
    mask = rng.random((2, 3, 40, 20)) < 0.5
    bias = rng.standard_normal((2, 3, 40, 20)).astype(dtype)
    flipped = {"mask": mask.swapaxes(2, 3), "bias": bias.swapaxes(2, 3)}
    copied = {name: a.copy() for name, a in flipped.items()}
    assert_same_bits(attention(q, k, v, **flipped), attention(q, k, v, **copied))


def test_views_are_not_copied(monkeypatch, rng):
    if native.why_missing:
        pytest.skip(native.why_missing)

    def refuse(array):
        assert in_place(array)
        return array

    monkeypatch.setattr(native, "readable", refuse)
    arrays = problem(rng, np.float32, 4, 6, 8, lead=(2,), heads=2, key_heads=2)
    q, k, v = (np.ascontiguousarray(a.swapaxes(1, 2)).swapaxes(1, 2) for a in arrays)
    mask = np.broadcast_to(rng.random((6,)) < 0.5, (2, 2, 4, 6))
    with use(backend="native"):
        assert attention(q, k, v, mask=mask).shape == (2, 2, 4, 8)


def test_out(backend, dtype, rng):
    q, k, v = problem(rng, dtype, 6, 6, 8, lead=(2,), heads=2, key_heads=2)
    want = attention(q, k, v)
    wide = np.full((2, 6, 2, 8), 7, dtype)
    for out in (np.empty_like(want), wide.swapaxes(1, 2), np.empty((2, 2, 6, 16), dtype)[..., ::2]):
        assert attention(q, k, v, out=out) is out
        assert_same_bits(out, want)
    for overlapping in (q, k, v):
        arrays = [a.copy() if a is not overlapping else overlapping for a in (q, k, v)]
        before = overlapping.copy()
        attention(*arrays, out=overlapping)
        assert_same_bits(overlapping, want)
        overlapping[...] = before


def test_one_row_alone_and_in_a_batch(backend, dtype, rng):
    q, k, v = problem(rng, dtype, 50, 90, 32, lead=(3,), heads=2, key_heads=2)
    whole = attention(q, k, v)
    for b, h, i in ((0, 0, 0), (1, 1, 17), (2, 0, 49)):
        alone = attention(q[b, h, i : i + 1], k[b, h], v[b, h])
        assert_same_bits(alone[0], whole[b, h, i])


@pytest.mark.parametrize("threads", range(1, 9))
def test_threads(backend, dtype, rng, threads):
    q, k, v = problem(rng, dtype, 70, 300, 64, lead=(2,), heads=4, key_heads=2)
    with use(threads=1):
        want = attention(q, k, v, causal="bottom_right")
    with use(threads=threads):
        for _ in range(3):
            assert_same_bits(attention(q, k, v, causal="bottom_right"), want)


def test_kernel_memory_does_not_grow_with_the_pairs():
    """Half a million queries by 2000 keys would be 4 GB of scores; 64 MB are allowed."""
    if native.why_missing:
        pytest.skip(native.why_missing)
    if not sys.platform.startswith("linux"):
        pytest.skip("reads its size from Linux's /proc")
    resource = pytest.importorskip("resource")
    code = f"""
import resource, numpy as np, seq2seq_fast as s
q = np.ones((500_000, 4), np.float32); k = np.ones((2000, 4), np.float32)
with s.use(threads=2):
    s.attention(q[:100], k, k)
    used = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + (64 << 20), {resource.RLIM_INFINITY}))
    print(s.attention(q, k, k).sum())
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd="/"
    )
    assert float(done.stdout) == 2_000_000


# ---- shapes nobody thinks of ----


@st.composite
def calls(draw):
    """Arguments of a call, small, of any shape and with any option."""
    dtype, key_dtype = draw(
        st.sampled_from(
            [
                (np.float32, np.float32),
                (np.float64, np.float64),
                (np.float16, np.float16),
                (bfloat16, bfloat16),
                (np.float32, np.float16),
                (np.float16, np.float32),
                (np.float32, bfloat16),
            ]
        )
    )
    lead = draw(hnp.array_shapes(min_dims=0, max_dims=2, min_side=0, max_side=3))
    key_heads = draw(st.integers(1, 3))
    heads = key_heads * draw(st.integers(1, 3))
    side = st.integers(0, 40)
    queries, keys, width, value_width = (draw(side) for _ in range(4))
    seed = draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    special = draw(st.floats(0, 0.05))

    def numbers(*shape):
        array = np.asarray(rng.standard_normal(shape) * 10.0 ** rng.integers(-3, 4))
        odd = np.asarray(rng.random(shape) < special)
        array[odd] = rng.choice([np.nan, np.inf, -np.inf, -0.0, 1e30, 1e-40], odd.sum())
        with np.errstate(over="ignore"):
            return array.astype(dtype)

    def thinned(shape):
        """The shape, some axes of which broadcast."""
        shape = [n if draw(st.booleans()) else 1 for n in shape]
        return tuple(shape[draw(st.integers(0, len(shape))) :])

    def some_lead():
        shape = [n if draw(st.booleans()) else 1 for n in lead]
        return shape[draw(st.integers(0, len(shape))) :]

    with np.errstate(over="ignore"):
        arrays = (
            numbers(*lead, heads, queries, width),
            numbers(*some_lead(), key_heads, keys, width).astype(key_dtype),
            numbers(*some_lead(), key_heads, keys, value_width).astype(key_dtype),
        )
    pairs = (*lead, heads, queries, keys)
    options = {"causal": draw(st.sampled_from([False, True, "top_left", "bottom_right"]))}
    if draw(st.booleans()):
        bound = st.none() | st.integers(0, 30)
        options["window"] = draw(bound), draw(bound)
    if options["causal"] is True or (options["causal"] is False and "window" in options):
        options["query_offset"] = rng.integers(-20, 50, thinned(lead) if lead else ())
    if draw(st.booleans()):
        options["softcap"] = draw(st.floats(0.01, 100))
    if draw(st.booleans()):
        options["sinks"] = numbers(*thinned((*lead, heads)))
    if draw(st.booleans()):
        options["query_lengths"] = rng.integers(0, queries + 1, thinned(lead) if lead else ())
    if draw(st.booleans()):
        options["mask"] = rng.random(thinned(pairs)) < draw(st.floats(0, 1))
    if draw(st.booleans()):
        options["bias"] = numbers(*thinned(pairs))
    if draw(st.booleans()):
        options["key_lengths"] = rng.integers(0, keys + 1, thinned(lead) if lead else ())
    if draw(st.booleans()):
        options["scale"] = draw(st.floats(-5, 5))
    return arrays, options


@pytest.mark.slow
@settings(max_examples=1500, deadline=None)
@given(calls(), st.integers(1, 3))
def test_any_call_has_the_same_bits_everywhere(call, threads):
    arrays, options = call
    everything = {"return_weights": True, "return_logsumexp": True}
    with use(backend="numpy"):
        want = attention(*arrays, **everything, **options)
    for isa in native.usable_isas():
        with use(isa=isa, threads=threads):
            for g, w in zip(attention(*arrays, **everything, **options), want, strict=True):
                assert_same_bits(g, w)
            assert_same_bits(attention(*arrays, **options), want[0])


@settings(max_examples=300, deadline=None)
@given(calls(), st.integers(0, 2**32 - 1), st.floats(0, 1))
def test_a_bias_of_minus_infinity_is_a_mask_in_any_call(call, seed, density):
    (q, k, v), options = call
    rng = np.random.default_rng(seed)
    lead = np.broadcast_shapes(q.shape[:-3], k.shape[:-3], v.shape[:-3])
    pairs = (*lead, *q.shape[-3:-1], k.shape[-2])
    shown = rng.random(pairs) < density
    bias = np.broadcast_to(options.pop("bias", np.float32(0)), pairs)
    mask = np.broadcast_to(options.pop("mask", True), pairs)
    everything = {**options, "return_weights": True, "return_logsumexp": True}
    hiding = np.where(shown, bias, np.array(-np.inf, bias.dtype))
    neutral = np.where(shown, bias, np.array(0, bias.dtype))
    for backend in ("numpy", *native.usable_isas()):
        with use(backend="numpy") if backend == "numpy" else use(isa=backend):
            want = attention(q, k, v, bias=neutral, mask=mask & shown, **everything)
            got = attention(q, k, v, bias=hiding, mask=mask, **everything)
        for g, w in zip(got, want, strict=True):
            assert_same_bits(g, w)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 3), st.integers(1, 20), st.integers(1, 6), st.integers(0, 2**32 - 1))
def test_any_small_head_equals_the_loops(queries, keys, width, seed):
    rng = np.random.default_rng(seed)
    q, k, v = (a[0] for a in problem(rng, np.float32, queries, keys, width))
    mask = rng.random((queries, keys)) < rng.random()
    v[rng.random(v.shape) < 0.1] = rng.choice([np.nan, np.inf, -np.inf])
    want = loops(q, k, v, 1 / math.sqrt(width), lambda i, j: mask[i, j])
    with use(backend="numpy"):
        got = attention(q, k, v, mask=mask, return_weights=True)
    for g, w in zip(got, want, strict=True):
        assert_same_bits(g, w)


# ---- accuracy, against a float64 computation written differently ----


@pytest.mark.parametrize("keys", [1, 64, 1000, 5000])
def test_accuracy(backend, dtype, rng, keys):
    q, k, v = problem(rng, dtype, 6, keys, 64, heads=2, key_heads=2)
    error = np.abs(attention(q, k, v) - float64_attention(q, k, v)[0]).max()
    # Values are of order 1: a few units in the last place of float32; float64 shares its oracle's.
    assert error < (2e-6 if dtype is np.float32 else 4e-15)


@pytest.mark.parametrize(
    "options",
    [
        {"causal": "bottom_right"},
        {"window": (20, 5), "query_offset": 40},
        {"causal": True, "query_offset": 100, "window": (70, None)},
        {"softcap": 2.0},
        {"sinks": np.linspace(-2, 6, 4)},
        {"bias": np.linspace(-1, 1, 200)},
        {"mask": np.arange(200) % 3 > 0},
        {"key_lengths": 111},
        {"scale": 0.5},
        {"softcap": 4.0, "sinks": np.ones(4), "window": (64, 64), "causal": "top_left"},
    ],
    ids=lambda options: "-".join(options),
)
def test_accuracy_of_every_feature(backend, any_dtype, rng, options):
    """Against float64, grouped-query heads throughout."""
    queries, keys = 60, 200
    q, k, v = problem(rng, any_dtype, queries, keys, 32, heads=4, key_heads=2)
    given = {
        name: x.astype(any_dtype) if name in ("sinks", "bias") else x for name, x in options.items()
    }
    out, lse = attention(q, k, v, return_logsumexp=True, **given)
    visible = np.ones((queries, keys), bool)
    causal = options.get("causal")
    offset = options.get("query_offset", keys - queries if causal == "bottom_right" else 0)
    left, right = options.get("window") or (None, None)
    if causal:
        right = 0
    visible &= sees(queries, keys, offset, *(math.inf if n is None else n for n in (left, right)))
    visible &= options.get("mask", True)
    visible[:, options.get("key_lengths", keys) :] = False
    same = {name: given[name] for name in ("scale", "softcap", "sinks", "bias") if name in given}
    want, want_lse = float64_attention(q, k, v, mask=visible, **same)
    # Half an ulp of the result's type at 4, and what float32 loses on the way.
    bound = {"float16": 2e-3, "bfloat16": 1.6e-2, "float32": 5e-6, "float64": 1e-14}
    name = np.dtype(any_dtype).name
    assert np.abs(out.astype(np.float64) - want).max() < bound[name]
    finite = np.isfinite(want_lse)
    assert (np.isfinite(lse) == finite).all()
    assert np.abs(lse - want_lse)[finite].max() < (2e-14 if name == "float64" else 4e-6)


def test_accuracy_of_peaked_and_masked_rows(backend, rng):
    q, k, v = problem(rng, np.float32, 30, 200, 32)
    mask = rng.random((30, 200)) < 0.5
    mask[:, 0] = True
    got = attention(q, k, v, scale=3.0, mask=mask)
    assert np.abs(got - float64_attention(q, k, v, 3.0, mask)[0]).max() < 2e-5


# ---- errors name the argument and what was seen ----

F = np.zeros((2, 3, 4), np.float32)


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        ((F[0, 0], F, F), {}, ValueError, r"query must have at least .*\(4,\)"),
        ((F, F[..., :3], F), {}, ValueError, r"key .*width.*\(2, 3, 3\) and \(2, 3, 4\)"),
        ((F, F, F[:, :2]), {}, ValueError, r"value .*Tk.*\(2, 2, 4\) and \(2, 3, 4\)"),
        ((F, F, F[:1]), {}, ValueError, r"value .*heads.*\(1, 3, 4\) and \(2, 3, 4\)"),
        ((F[:1], F, F), {}, ValueError, "multiple of key's; got 1 and 2"),
        ((F, F[:0], F[:0]), {}, ValueError, "multiple of key's; got 2 and 0"),
        ((np.zeros((2, 2, 3, 4), "f4"), np.zeros((3, 2, 3, 4), "f4"), F), {}, ValueError,
         r"key's leading axes .*\(3, 2, 3, 4\) and \(2, 2, 3, 4\)"),
        ((F.astype(int), F, F), {}, TypeError,
         "query must be float16, bfloat16, float32 or float64; got int64"),
        ((F.astype(">f4"), F, F), {}, TypeError, "query must be float16, .* got >f4"),
        ((F, F.astype("f8"), F.astype("f8")), {}, TypeError,
         "float64 goes with float64 only; got query float32, key float64"),
        ((F, F.astype("f8"), F), {}, TypeError,
         "value must have the key's dtype; got float32 and float64"),
        (([[1.0], [1.0, 2.0]], F, F), {}, ValueError, "query is no array: "),
        ((F, F, F), {"key_lengths": [[1], [1, 2]]}, ValueError, "key_lengths is no array: "),
        ((F, F, "text"), {}, TypeError, "value must be float16, .* got <U4"),
        ((F, F, F), {"scale": np.nan}, ValueError, "scale must be finite in float32; got nan"),
        ((F, F, F), {"scale": np.inf}, ValueError, "scale must be finite in float32; got inf"),
        ((F, F, F), {"scale": 1e39}, ValueError, r"scale must be finite in float32; got 1e\+39"),
        ((F, F, F), {"scale": "1"}, TypeError, "scale must be a real number; got '1'"),
        ((F, F, F), {"scale": 1j}, TypeError, "scale must be a real number; got 1j"),
        ((F, F, F), {"scale": [1.0]}, TypeError, "scale must be a real number"),
        ((F, F, F), {"mask": np.ones((3, 3))}, TypeError, "mask must be bool; got float64"),
        ((F, F, F), {"mask": np.ones((3, 2), bool)}, ValueError,
         r"mask must broadcast to \(2, 3, 3\); got shape \(3, 2\)"),
        ((F, F, F), {"mask": np.ones((5, 2, 3, 3), bool)}, ValueError, "mask must broadcast to"),
        ((F, F, F), {"bias": np.ones((3, 3), int)}, TypeError, "bias must be float16, .*got int64"),
        ((F, F, F), {"bias": np.ones(4, "f4")}, ValueError, "bias must broadcast to"),
        ((F, F, F), {"causal": "left"}, ValueError, "causal must be .*; got 'left'"),
        ((F, F, F), {"causal": 1}, TypeError, "causal must be a bool or a name; got 1"),
        ((F, F[:, :2], F[:, :2]), {"causal": True}, ValueError,
         "causal=True needs query_offset, or as many queries as keys; got 3 and 2: say"),
        ((F, F, F), {"key_lengths": 4}, ValueError, "key_lengths .*number of keys, 3; got 4 to 4"),
        ((F, F, F), {"key_lengths": -1}, ValueError, "key_lengths .*; got -1"),
        ((F, F, F), {"key_lengths": 1.0}, TypeError, "key_lengths must be integers; got float64"),
        ((F, F, F), {"key_lengths": [1, 2]}, ValueError, r"leading axes \(\); got shape \(2,\)"),
        ((F, F, F), {"causal": "top_left", "query_offset": 1}, ValueError,
         "query_offset goes with causal=True; got causal='top_left'"),
        ((F, F, F), {"causal": True, "query_offset": 1.5}, TypeError,
         "query_offset must be integers; got float64"),
        ((F, F, F), {"causal": True, "query_offset": [1, 2]}, ValueError,
         r"query_offset must broadcast to the leading axes \(\); got shape \(2,\)"),
        ((F, F, F), {"causal": True, "query_offset": 1 << 60}, ValueError,
         r"query_offset must be from .* to 2\*\*48"),
        ((F, F, F), {"query_lengths": 4}, ValueError,
         "query_lengths must be from 0 to the number of queries, 3; got 4 to 4"),
        ((F, F[:, :2], F[:, :2]), {"window": (1, 1)}, ValueError,
         "window without causal needs query_offset, or as many queries as keys; got 3 and 2"),
        ((F, F, F), {"window": 3}, ValueError, r"window must be two integers .*; got 3"),
        ((F, F, F), {"window": (-1, 0)}, ValueError, r"window must be two .*; got \(-1, 0\)"),
        ((F, F, F), {"window": (1.5, 0)}, ValueError, "window must be two integers"),
        ((F, F, F), {"softcap": 0}, ValueError, "softcap must be positive; got 0"),
        ((F, F, F), {"softcap": -1.0}, ValueError, "softcap must be positive; got -1.0"),
        ((F, F, F), {"softcap": 1e-50}, ValueError, "softcap must be positive; got 1e-50"),
        ((F, F, F), {"softcap": np.inf}, ValueError, "softcap must be finite in float32; got inf"),
        ((F, F, F), {"softcap": "1"}, TypeError, "softcap must be a real number; got '1'"),
        ((F, F, F), {"sinks": np.zeros(2, bool)}, TypeError, "sinks must be .*; got bool"),
        ((F, F, F), {"sinks": np.zeros(3, "f4")}, ValueError,
         r"sinks must broadcast to \(2,\); got shape \(3,\)"),
        ((F, F), {}, TypeError, "value must be given, unless key is a KeyValueCache"),
        ((F, F, F), {"out": [0]}, TypeError, "out must be a NumPy array; got list"),
        ((F, F, F), {"out": F.astype("f8")}, TypeError, "out must be float32; got float64"),
        ((F, F, F), {"out": F[:1]}, ValueError, r"out .*shape \(2, 3, 4\); got \(1, 3, 4\)"),
        ((F, F, F), {"out": np.broadcast_to(F[:, :, :1], F.shape)}, ValueError, "out is read-only"),
    ],
)  # fmt: skip
def test_errors(backend, arguments, options, error, message):
    with pytest.raises(error, match=message):
        attention(*arguments, **options)


def test_too_many_keys_for_the_memory(backend):
    keys = np.broadcast_to(np.float32(1), (10**14, 1))
    with pytest.raises(MemoryError):
        attention(keys[:1], keys, keys, return_weights=True)


def test_out_must_not_overlap_itself(backend):
    out = np.lib.stride_tricks.as_strided(np.zeros(4, np.float32), F.shape, (0, 0, 4))
    with pytest.raises(ValueError, match="out overlaps itself"):
        attention(F, F, F, out=out)


# ---- what hides, what is rounded, what lies oddly in memory ----


@pytest.mark.parametrize("poison", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("shape", [(1, 1, 1, 3), (1, 1, 1, 1), (1, 2, 5, 1)])
def test_a_bias_of_minus_infinity_hides_as_a_mask_does(backend, dtype, rng, poison, shape):
    q, k, v = problem(rng, dtype, 5, 40, 8, lead=(2,), heads=2, key_heads=2)
    hidden = rng.random((*shape[:3], 40)) < 0.4
    hidden[..., 7] = True
    always = hidden.all(axis=(0, 1, 2))
    k[:, :, always], v[:, :, always] = poison, poison
    bias = np.where(hidden, -np.inf, 0).astype(dtype)
    options = {"softcap": 5.0, "sinks": np.zeros(2, dtype)}
    got = check_against_contract(q, k, v, bias=bias, **options)
    want = attention(q, k, v, mask=~hidden, return_weights=True, **options)
    for g, w in zip(got, want, strict=True):
        assert_same_bits(g, w)


@pytest.mark.parametrize("softcap", [None, 1.3])
def test_loops_with_every_number_as_a_bias(backend, dtype, softcap):
    """Beside every special score: -inf hides a NaN or infinite one, other numbers are added."""
    special = [0.0, 1.0, np.inf, -np.inf, np.nan, np.finfo(dtype).max, np.finfo(dtype).min]
    numbers = np.array(special, dtype)
    values = np.stack([np.roll(numbers, i) for i in range(3)], axis=1)[:6]
    pairs = np.array(np.meshgrid(numbers, numbers), dtype).reshape(2, -1).T
    bias = np.concatenate([pairs, np.ones((len(pairs), 4), dtype)], axis=1)
    bias[:, 2:4] = -np.inf
    for k in numbers:
        keys = np.array([[k], [-k], [np.nan], [np.inf], [k], [1]], dtype)
        q = np.ones((len(bias), 1), dtype)
        got = attention(q, keys, values, scale=1, bias=bias, softcap=softcap, return_weights=True)
        with np.errstate(all="ignore"):
            want = loops(q, keys, values, 1.0, bias=bias, softcap=softcap)
        for g, w in zip(got, want, strict=True):
            assert_same_bits(g, w)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"softcap": 2.0},
        {"sinks": [0.5, -1.0]},
        {"causal": "bottom_right", "window": (300, 0)},
        {"key_lengths": [700, 500], "query_lengths": [150, 20]},
    ],
    ids=lambda options: "-".join(options) or "plain",
)
def test_a_bias_of_minus_infinity_hides_what_a_mask_hides(backend, any_dtype, rng, options):
    """Blocks, several passes, grouped heads; what is hidden from every query holds anything."""
    q, k, v = problem(rng, any_dtype, 150, 700, 20, 17, lead=(2,), heads=2, key_heads=1)
    shown = rng.random((2, 1, 150, 700)) < 0.5
    shown[..., 40:60] = shown[..., 690:] = False
    shown[0, 0, 7] = False  # a row that sees nothing
    k[:, :, 40:50], k[:, :, 50:60] = np.nan, np.inf
    k[:, :, 690:], v[:, :, 40:60], v[:, :, 695:] = -np.inf, np.nan, np.inf
    given = {**options, "return_weights": True, "return_logsumexp": True}
    want = attention(q, k, v, mask=shown, **given)
    assert np.isfinite(want[0].astype(np.float64)).all()
    for dtype in (any_dtype, np.float64):
        bias = np.where(shown, 0, -np.inf).astype(dtype)
        for g, w in zip(attention(q, k, v, bias=bias, **given), want, strict=True):
            assert_same_bits(g, w)


def test_a_hidden_key_may_overflow(backend):
    context = attention([[1.0]], [[1.0], [np.nan]], [[1.0], [2.0]], bias=[[0, -np.inf]])
    assert context.tolist() == [[1.0]]
    context, weights, total = attention(
        [[1e300]], [[1e300]], [[np.inf]], bias=[[-np.inf]],
        return_weights=True, return_logsumexp=True,
    )  # fmt: skip
    assert (context.tolist(), weights.tolist(), total.tolist()) == ([[0.0]], [[0.0]], [-np.inf])


@pytest.mark.parametrize("kind", [np.float16, bfloat16, np.float32, np.float64])
def test_a_bias_of_any_type_is_rounded_once(backend, dtype, rng, kind):
    q, k, v = problem(rng, dtype, 5, 40, 8, heads=2, key_heads=1)
    bias, sinks = rng.standard_normal((5, 40)).astype(kind), rng.standard_normal(2).astype(kind)
    bias[:, 3] = -np.inf
    wide = np.float64 if dtype == np.float64 else np.float32
    got = check_against_contract(q, k, v, bias=bias, sinks=sinks)
    want = check_against_contract(q, k, v, bias=bias.astype(wide), sinks=sinks.astype(wide))
    for g, w in zip(got, want, strict=True):
        assert_same_bits(g, w)


def test_everybodys_first_bias(backend, rng):
    q, k, v = problem(rng, np.float32, 3, 4, 8)
    mask = rng.random((3, 4)) < 0.7
    want = attention(q, k, v, mask=mask)
    for bias in (
        np.where(mask, 0, -np.inf),
        np.where(mask, 0.0, -np.inf).tolist(),
        np.asfortranarray(np.where(mask, 0, -np.inf)),
        np.broadcast_to(np.where(mask, 0, -np.inf), (1, 3, 4)),
        np.where(mask, 0, np.finfo(np.float64).min),  # -inf in float32
    ):
        assert_same_bits(attention(q, k, v, bias=bias), want)


def test_a_bias_that_broadcasts_is_rounded_as_it_is(backend, rng):
    q, k, v = problem(rng, np.float32, 3, 4, 8, heads=2, key_heads=2)
    bias = rng.standard_normal((3, 1)) / 3
    want = attention(q, k, v, bias=np.repeat(bias.astype(np.float32), 4, axis=1))
    for shown in (bias, np.broadcast_to(bias, (2, 3, 4)), np.broadcast_to(bias, (3, 4))):
        assert_same_bits(attention(q, k, v, bias=shown), want)


def test_a_bias_is_rounded_to_subnormal_numbers(backend, flush_to_zero):
    """Also where the process flushes them to zero: it is the whole score here."""
    zero = np.zeros((1, 1), np.float32)
    with flush_to_zero():
        _, lse = attention(zero, zero, zero, bias=[[1e-40]], return_logsumexp=True)
    assert_same_bits(lse, np.array([1e-40], np.float32))


def test_booleans_may_be_numpys(backend, rng):
    q, k, v = problem(rng, np.float32, 3, 3, 8)
    starts = [0, 1, 3]
    for flag in (False, True):
        given = np.bool_(flag)
        assert_same_bits(attention(q, k, v, causal=given), attention(q, k, v, causal=flag))
        assert_same_bits(attention(q, k, v, mask=given), attention(q, k, v, mask=flag))
        assert_same_bits(
            ragged_attention(q, k, v, starts, starts, causal=given),
            ragged_attention(q, k, v, starts, starts, causal=flag),
        )
        assert isinstance(attention(q, k, v, return_weights=given), tuple) == flag
    with pytest.raises(ValueError, match="window needs as many queries as keys in each"):
        ragged_attention(q, k[:, :2], v[:, :2], [0, 3], [0, 2], window=(1, 1), causal=np.False_)


@pytest.mark.parametrize(("queries", "width"), [(0, 4), (3, 0), (0, 0)])
def test_an_empty_result_may_be_given(backend, queries, width):
    q, k = np.ones((2, queries, 4), np.float32), np.ones((2, 5, 4), np.float32)
    out = np.empty((2, queries, width), np.float32)
    assert attention(q, k, np.ones((2, 5, width), np.float32), out=out) is out


@given(
    st.tuples(*[st.integers(0, 3)] * 3),
    st.tuples(*[st.integers(-6, 6)] * 3),
    st.sampled_from([1, 2]),
)
def test_whether_an_array_overlaps_itself(shape, steps, size):
    room = np.zeros(256, np.uint8)
    dtype = np.dtype(f"u{size}")
    array = np.lib.stride_tricks.as_strided(room[128:].view(dtype)[:1], shape, steps)
    starts = [sum(i * s for i, s in zip(at, steps, strict=True)) for at in np.ndindex(*shape)]
    touched = [start + byte for start in starts for byte in range(size)]
    assert overlaps_itself(array) == (len(set(touched)) < len(touched))


def test_an_out_that_overlaps_itself_is_refused(backend, rng):
    q, k, v = problem(rng, np.float32, 4, 4, 4)
    room = np.zeros(64, np.float32)
    window = np.lib.stride_tricks.as_strided(room, (1, 4, 4), (64, 8, 4))
    with pytest.raises(ValueError, match="out overlaps itself: strides"):
        attention(q, k, v, out=window)
    strided = np.zeros((1, 8, 9), np.float32)[:, ::-2, 8:0:-2]
    assert_same_bits(attention(q, k, v, out=strided).copy(), attention(q, k, v))


@pytest.mark.parametrize(
    "error",
    [
        TypeError("Got unsupported ScalarType BFloat16"),
        RuntimeError("Can't call numpy() on Tensor that requires grad."),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_tensor_of_another_library_is_told_how(error):
    class Tensor:
        def __array__(self, dtype=None, copy=None):
            raise error

        def numpy(self):
            raise error

    Tensor.__module__ = "torch"
    told = r"key is no array: .*\.detach\(\)\.cpu\(\)\.numpy\(\), one of bfloat16 as .*ml_dtypes"
    with pytest.raises(TypeError, match=told) as raised:
        attention(F, Tensor(), F)
    assert str(error) in str(raised.value)
    with pytest.raises(TypeError, match="key is no array: "):
        KeyValueCache(1, 1, 4).append(Tensor(), F)
    with pytest.raises(TypeError, match=r"out must be a NumPy array; got Tensor.*\.numpy\(\)"):
        attention(F, F, F, out=Tensor())
