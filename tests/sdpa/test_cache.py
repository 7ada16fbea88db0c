"""KeyValueCache: attention over it is attention over its arrays; it grows, reorders and refuses."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import assert_same_bits
from hypothesis import given, settings
from hypothesis import strategies as st

from seq2seq_fast import KeyValueCache, attention, use
from seq2seq_fast.backends import native

SIZES = {"sequences": 3, "heads": 2, "width": 24, "value_width": 17}


def draw(rng, keys, dtype, sequences=3):
    """Keys and values to append."""
    return (
        rng.standard_normal((sequences, 2, keys, 24)).astype(dtype),
        rng.standard_normal((sequences, 2, keys, 17)).astype(dtype),
    )


def check(cache, query, **options):
    """The cache's attention has the bits of attention over the plain arrays."""
    everything = {"return_logsumexp": True, **options}
    with use(backend="numpy"):
        want = attention(
            query, cache.keys(), cache.values(), key_lengths=cache.lengths, **everything
        )
    for g, w in zip(attention(query, cache, **everything), want, strict=True):
        assert_same_bits(g, w)


@pytest.mark.parametrize("how", ["step by step", "at once", "ragged"])
def test_attention_over_a_cache(backend, any_dtype, rng, how):
    query_dtype = np.float64 if any_dtype is np.float64 else np.float32
    cache = KeyValueCache(**SIZES, dtype=any_dtype, capacity=5)
    arrays = [], []
    for keys in {"step by step": [1] * 40, "at once": [300], "ragged": [3, 40, 17]}[how]:
        k, v = draw(rng, keys, query_dtype)
        lengths = rng.integers(0, keys + 1, 3) if how == "ragged" else None
        cache.append(k, v, lengths)
        for b in range(3) if lengths is None else ():
            for array, new in zip(arrays, (k, v), strict=True):
                if b == 0:
                    array.append(new.astype(any_dtype))
    if how != "ragged":
        assert_same_bits(cache.keys(), np.concatenate(arrays[0], axis=2))
        assert_same_bits(cache.values(), np.concatenate(arrays[1], axis=2))
    for queries in (1, 7, 60):
        q = rng.standard_normal((3, 4, queries, 24)).astype(query_dtype)
        check(cache, q)
        check(cache, q, causal="bottom_right", window=(20, 0))
        check(cache, q, causal=True, query_offset=cache.lengths - 1, softcap=2.0)
        longest = cache.lengths.max()
        check(cache, q, return_weights=True)
        check(cache, q, mask=rng.random((queries, longest)) < 0.6)
        check(cache, q, bias=rng.standard_normal((4, 1, longest)).astype(query_dtype))


def test_a_bias_of_minus_infinity_hides_keys_of_a_cache(backend, any_dtype, rng):
    """As a mask does; they may hold anything."""
    query_dtype = np.float64 if any_dtype is np.float64 else np.float32
    cache = KeyValueCache(**SIZES, dtype=any_dtype)
    keys, values = draw(rng, 70, query_dtype)
    shown = rng.random(70) < 0.6
    shown[-1] = False
    keys[:, :, ~shown], values[:, :, ~shown] = np.nan, np.inf
    cache.append(keys, values)
    for queries in (1, 5, 200):
        q = rng.standard_normal((3, 4, queries, 24)).astype(query_dtype)
        bias = np.where(shown, 0, -np.inf)
        check(cache, q, bias=bias, return_weights=True)
        want = attention(q, cache, mask=shown)
        assert np.isfinite(want).all()
        assert_same_bits(attention(q, cache, bias=bias), want)


def test_many_rows_over_a_cache(backend, any_dtype, rng):
    """So many that they take several passes, in which half floats and values are kept widened."""
    query_dtype = np.float64 if any_dtype is np.float64 else np.float32
    cache = KeyValueCache(**SIZES, dtype=any_dtype)
    cache.append(*draw(rng, 600, query_dtype), lengths=[600, 333, 16])
    q = rng.standard_normal((3, 4, 300, 24)).astype(query_dtype)
    check(cache, q)
    check(cache, q, causal="bottom_right", window=(200, 0))


def test_decoding_with_a_cache_equals_the_whole(backend, rng):
    """Causal attention row by row."""
    q, k, v = rng.standard_normal((3, 2, 2, 50, 24)).astype(np.float32)
    whole = attention(q, k, v, causal=True)
    cache = KeyValueCache(2, 2, 24)
    for i in range(50):
        cache.append(k[:, :, i : i + 1], v[:, :, i : i + 1])
        assert_same_bits(attention(q[:, :, i : i + 1], cache)[:, :, 0], whole[:, :, i])
    assert cache.lengths.tolist() == [50, 50]


def test_reorder(backend, rng):
    cache = KeyValueCache(**SIZES)
    cache.append(*draw(rng, 20, np.float32), lengths=[20, 3, 11])
    keys, values = cache.keys(), cache.values()
    cache.reorder([2, 2, 0, 1, 2])
    assert cache.lengths.tolist() == [11, 11, 20, 3, 11]
    for b, old in enumerate([2, 2, 0, 1, 2]):
        n = cache.lengths[b]
        assert_same_bits(cache.keys()[b, :, :n], keys[old, :, :n])
        assert_same_bits(cache.values()[b, :, :n], values[old, :, :n])
    cache.append(*draw(rng, 1, np.float32, sequences=5))
    check(cache, rng.standard_normal((5, 2, 1, 24)).astype(np.float32))
    cache.reorder([])
    assert attention(np.zeros((0, 2, 1, 24), np.float32), cache).shape == (0, 2, 1, 17)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_history_equals_plain_arrays(data):
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    cache = KeyValueCache(**SIZES, capacity=data.draw(st.integers(0, 40)), dtype=np.float16)
    plain = [(np.zeros((2, 0, 24), "f2"), np.zeros((2, 0, 17), "f2")) for _ in range(3)]
    for _ in range(data.draw(st.integers(1, 6))):
        if data.draw(st.booleans()):
            chosen = data.draw(st.lists(st.integers(0, len(plain) - 1), min_size=1, max_size=4))
            cache.reorder(chosen)
            plain = [plain[b] for b in chosen]
        new = data.draw(st.integers(0, 30))
        k, v = draw(rng, new, np.float16, len(plain))
        lengths = rng.integers(0, new + 1, len(plain))
        cache.append(k, v, lengths)
        plain = [
            (np.concatenate([old_k, k[b, :, :n]], axis=1), np.concatenate([old_v, v[b, :, :n]], 1))
            for b, ((old_k, old_v), n) in enumerate(zip(plain, lengths, strict=True))
        ]
    q = rng.standard_normal((len(plain), 2, 3, 24)).astype(np.float32)
    for isa in native.usable_isas():
        with use(isa=isa):
            got = attention(q, cache)
            for b, (k, v) in enumerate(plain):
                assert_same_bits(got[b], attention(q[b], k, v))


def test_capacity(rng):
    cache = KeyValueCache(**SIZES, capacity=10)
    seen = []
    for _ in range(100):
        cache.append(*draw(rng, 1, np.float32))
        seen.append(cache.capacity)
    assert seen[0] >= 10 and seen[-1] >= 100
    assert len(set(seen)) <= 5  # doubled, not stretched at each step
    half = KeyValueCache(**SIZES, capacity=cache.capacity, dtype=np.float16)
    assert cache.nbytes == 2 * half.nbytes


def test_a_fixed_cache_refuses_and_stays_as_it_was(rng):
    cache = KeyValueCache(**SIZES, capacity=10, fixed=True)
    cache.append(*draw(rng, 7, np.float32))
    keys = cache.keys()
    with pytest.raises(ValueError, match="the cache has room for 10 keys; got 11"):
        cache.append(*draw(rng, 4, np.float32))
    assert_same_bits(cache.keys(), keys)
    cache.append(*draw(rng, 4, np.float32), lengths=[3, 0, 1])
    assert cache.lengths.tolist() == [10, 7, 8]


K, V = np.zeros((3, 2, 4, 24), np.float32), np.zeros((3, 2, 4, 17), np.float32)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda c: c.append(K[:2], V), ValueError, r"key must have the shape \(3, 2, T, 24\).*got"),
        (lambda c: c.append(K[0], V), ValueError, r"key must have the shape"),
        (lambda c: c.append(K, V[:, :, :3]), ValueError, "value must have the shape"),
        (lambda c: c.append(K, K), ValueError, r"value must have the shape .*\(3, 2, 4, 24\)"),
        (lambda c: c.append(K.astype("f8"), V), TypeError, "key must go with .*float32; got floa"),
        (lambda c: c.append(K.astype(int), V), TypeError, "key must go with .* got int64"),
        (lambda c: c.append(K, V, [1, 2]), ValueError, "lengths must be 3 integers"),
        (lambda c: c.append(K, V, [1, 2, 5]), ValueError, "lengths must be from 0 to .*, 4; got"),
        (lambda c: c.append(K, V, [-1, 2, 4]), ValueError, "lengths must be from 0"),
        (lambda c: c.reorder([3]), ValueError, "sequences must be from 0 to 2; got 3 to 3"),
        (lambda c: c.reorder([-1]), ValueError, "sequences must be from 0 to 2; got -1 to -1"),
        (lambda c: c.reorder([0.5]), TypeError, "sequences must be a row of integers"),
        (lambda c: attention(K[:, :, :1], c, V), ValueError, "a KeyValueCache has its own values"),
        (lambda c: attention(K[:2, :, :1], c), ValueError, "leading axes do not broadcast"),
        (lambda c: attention(K[:, :, :1, :5], c), ValueError, "key must have the query's width"),
        (lambda c: attention(K[:, :, :1], c, causal=True), ValueError, "got a KeyValueCache: say"),
        (lambda c: c.truncate(-1), ValueError, "length must not be negative; got -1"),
        (lambda c: c.truncate([1, 2]), ValueError, r"the shape \(\) or \(3,\); got \(2,\)"),
        (lambda c: c.truncate(0.5), TypeError, "length must be of integers; got float64"),
        (lambda c: KeyValueCache(1, 1, 1, dtype=int), TypeError, "dtype must be float16, .*; got"),
        (lambda c: KeyValueCache(1, 1, -1), ValueError, "width must not be negative; got -1"),
        (
            lambda c: KeyValueCache(1, 1, 1, capacity=-1),
            ValueError,
            "must not be negative; got 1, -",
        ),
    ],
)
def test_errors(call, error, message):
    cache = KeyValueCache(**SIZES)
    with pytest.raises(error, match=message):
        call(cache)
    assert not cache.lengths.any()
