"""The floating-point state that NumPy's arithmetic needs: subnormal numbers kept, no warnings.

Another library in the process may have switched the processor's flush-to-zero on for this thread.
The compiled kernel sets and restores the control state itself; here the C library's fesetenv does
it, reached by ctypes. Where there is no such function (Windows), the state is left as it is.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import sys
from collections.abc import Callable, Iterator
from typing import ParamSpec, TypeVar

import numpy as np

P = ParamSpec("P")
R = TypeVar("R")

_STATE_SIZE = 512  # bytes: more than any platform's fenv_t


def _find() -> tuple[ctypes.CDLL, ctypes.c_void_p] | None:
    """The C library and its FE_DFL_ENV."""
    try:
        library = ctypes.CDLL(None)
        for function in (library.fegetenv, library.fesetenv):
            function.argtypes = [ctypes.c_void_p]
        if sys.platform == "darwin":
            symbol = ctypes.c_byte.in_dll(library, "_FE_DFL_ENV")
            return library, ctypes.c_void_p(ctypes.addressof(symbol))
        return library, ctypes.c_void_p(-1)
    except (OSError, TypeError, AttributeError, ValueError):
        return None


_found = _find()
_LEAST = np.full(1, 2.0**-149, np.float32)


@contextlib.contextmanager
def subnormals_kept() -> Iterator[None]:
    """The default floating-point state inside the block, the caller's again after it."""
    # A look costs less than the switch, and the state is nearly always the default already.
    if _found is None or (_LEAST * _LEAST.dtype.type(1))[0] != 0:
        yield
        return
    library, default = _found
    before = ctypes.create_string_buffer(_STATE_SIZE)
    library.fegetenv(before)
    library.fesetenv(default)
    try:
        yield
    finally:
        library.fesetenv(before)


def under_contract(function: Callable[P, R]) -> Callable[P, R]:
    """Decorator: subnormals kept; no warnings for NaN, infinity and overflow, results like any."""

    @functools.wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        with np.errstate(all="ignore"), subnormals_kept():
            return function(*args, **kwargs)

    return wrapper
