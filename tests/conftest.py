"""What the tests share: one fixture that runs a test on every backend and instruction set."""

from __future__ import annotations

import contextlib
import ctypes
import platform
import sys

import numpy as np
import pytest
from ml_dtypes import bfloat16

import seq2seq_fast
from seq2seq_fast.backends import native

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


@pytest.fixture(params=[np.float16, bfloat16, np.float32, np.float64],
                ids=["float16", "bfloat16", "float32", "float64"])  # fmt: skip
def any_dtype(request):
    """The half types, too."""
    return request.param


@pytest.fixture
def rng():
    return np.random.default_rng(20170612)


# Where the control word lies in the C library's fenv_t, and its flush-to-zero bits.
_FLUSH = {"x86_64": (28, 0x8040), "aarch64": (0, 1 << 24)}.get(platform.machine())


@pytest.fixture
def flush_to_zero():
    """A context in which this thread flushes subnormals, as some libraries leave it."""
    if _FLUSH is None or not sys.platform.startswith("linux"):
        pytest.skip("no known way to switch flush-to-zero on here")

    def flushes():
        subnormal = np.full(1, 2.0**-1074)
        return (subnormal * subnormal.dtype.type(1))[0] == 0

    @contextlib.contextmanager
    def flushing():
        library = ctypes.CDLL(None)
        before = ctypes.create_string_buffer(512)
        library.fegetenv(before)
        offset, flag = _FLUSH
        changed = ctypes.create_string_buffer(before.raw)
        word = int.from_bytes(before.raw[offset : offset + 4], "little") | flag
        changed[offset : offset + 4] = word.to_bytes(4, "little")
        library.fesetenv(changed)
        try:
            at_first = flushes()
            yield
            at_last = flushes()
        finally:
            library.fesetenv(before)
        assert at_first and at_last  # the switch worked, and was left as it was found

    return flushing


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
