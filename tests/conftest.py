"""What the tests share: one fixture that runs a test on every backend and instruction set."""

from __future__ import annotations

import numpy as np
import pytest

import seq2seq_fast
from seq2seq_fast import native

BACKENDS = ("numpy", *native.usable_isas())


def choose(name: str) -> seq2seq_fast.use:
    """use() for one of BACKENDS."""
    return seq2seq_fast.use(backend="numpy") if name == "numpy" else seq2seq_fast.use(isa=name)


@pytest.fixture(params=BACKENDS)
def backend(request):
    """The test runs on every backend and instruction set that this machine has.

    test_runtime.py shows as skipped the ones that it lacks.
    """
    with choose(request.param):
        yield request.param


@pytest.fixture(params=[np.float32, np.float64], ids=["float32", "float64"])
def dtype(request):
    return request.param


@pytest.fixture
def rng():
    return np.random.default_rng(20170612)


def assert_same_bits(got, want):
    """Equal in shape, dtype and every bit: NaN's payload and the sign of zero included."""
    got, want = np.asarray(got), np.asarray(want)
    assert got.dtype == want.dtype
    assert got.shape == want.shape
    if got.tobytes() != want.tobytes():
        bits = f"u{got.dtype.itemsize}"
        differ = np.ascontiguousarray(got).view(bits) != np.ascontiguousarray(want).view(bits)
        first = tuple(int(axis[0]) for axis in np.nonzero(differ))
        raise AssertionError(
            f"{differ.sum()} of {differ.size} elements differ, the first at {first}:"
            f" {got[first]!r} instead of {want[first]!r}"
        )
