"""Which backend, instruction set and number of threads a call uses: use(), info(), fingerprint().

The defaults come from the environment (SEQ2SEQ_FAST_BACKEND, SEQ2SEQ_FAST_ISA,
SEQ2SEQ_FAST_THREADS) or from the machine (see processors.py), and are settled at the first call.
None of them changes a result.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from types import TracebackType
from typing import Any

import numpy as np

from . import native
from .backend import Backend
from .native_backend import NativeBackend
from .numpy_backend import NumpyBackend
from .processors import allowed

__all__ = ["info", "use"]

BACKENDS = ("native", "numpy")
MAX_THREADS = 256


def _choose(
    backend: str | None, isa: str | None, threads: int | None, base: Backend | None
) -> Backend:
    """Checks a request, whatever is None filled in from `base` or the machine."""
    if backend is not None and backend not in BACKENDS:
        raise ValueError(f"backend must be one of {', '.join(BACKENDS)}; got {backend!r}")
    whole = isinstance(threads, int) and not isinstance(threads, bool)
    if threads is not None and not (whole and 1 <= threads <= MAX_THREADS):
        raise ValueError(f"threads must be an integer from 1 to {MAX_THREADS}; got {threads!r}")
    if isa is not None and isa not in native.ALL_ISAS:
        raise ValueError(f"isa must be one of {', '.join(native.ALL_ISAS)}; got {isa!r}")
    if isa is not None and backend == "numpy":
        raise ValueError(f"isa={isa!r} needs the native backend; got backend='numpy'")
    if isa is not None:
        backend = "native"
    if backend is None:
        backend = base.name if base else ("numpy" if native.why_missing else "native")
    threads_from = "use"
    if threads is None:
        threads, threads_from = (base.threads, base.threads_from) if base else allowed()
        threads = min(threads, MAX_THREADS)
    if backend == "numpy":
        return NumpyBackend(threads, threads_from)
    if native.why_missing:
        raise RuntimeError(f"the native backend was asked for, but {native.why_missing}")
    usable = native.usable_isas()
    if isa is None:
        isa = base.isa if base and base.isa else usable[-1]
    if isa not in usable:
        why = "this processor does not run it" if isa in native.compiled_isas() else "not compiled"
        raise RuntimeError(f"instruction set {isa!r}: {why}; usable here: {', '.join(usable)}")
    return NativeBackend(isa, threads, threads_from)


def _from_environment() -> Backend:
    def variable(name: str) -> str | None:
        return os.environ.get(f"SEQ2SEQ_FAST_{name}") or None

    threads = variable("THREADS")
    try:
        count = None if threads is None else int(threads)
        chosen = _choose(variable("BACKEND"), variable("ISA"), count, None)
    except (ValueError, RuntimeError) as error:
        asked = ", ".join(
            f"SEQ2SEQ_FAST_{name}={variable(name)}"
            for name in ("BACKEND", "ISA", "THREADS")
            if variable(name)
        )
        raise RuntimeError(f"{asked}: {error}") from None
    if count is not None:
        chosen.threads_from = "SEQ2SEQ_FAST_THREADS"
    return chosen


class _Local(threading.local):
    active: Backend | None = None


_local = _Local()
_default: Backend | None = None


def current() -> Backend:
    """The calling thread's choice."""
    global _default
    if _local.active is not None:
        return _local.active
    if _default is None:
        _default = _from_environment()
    return _default


@contextlib.contextmanager
def using(backend: Backend) -> Iterator[None]:
    """The calling thread's calls go to a backend, inside a `with` block."""
    before = _local.active
    _local.active = backend
    try:
        yield
    finally:
        _local.active = before


class use:
    """Choose backend, instruction set or threads for the calling thread, inside a `with` block.

    Parameters
    ----------
    backend : {"native", "numpy"}, optional
    isa : {"generic", "avx2", "avx512", "avx512_vnni", "neon"}, optional
        An instruction set of the native backend.
    threads : int, optional
        An upper bound on the threads of a call, 1 to 256.

    Raises
    ------
    ValueError
        A name or number that makes no sense.
    RuntimeError
        A backend or instruction set that this installation or processor does not have.

    Examples
    --------
    >>> with use(backend="numpy"):
    ...     info()["backend"]
    'numpy'
    """

    def __init__(
        self,
        *,
        backend: str | None = None,
        isa: str | None = None,
        threads: int | None = None,
    ) -> None:
        self._request = _choose(backend, isa, threads, current())
        self._before: list[Backend | None] = []

    def __enter__(self) -> None:
        self._before.append(_local.active)
        _local.active = self._request

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        _local.active = self._before.pop()


def info() -> dict[str, Any]:
    """What this installation is and what the calling thread's calls run on.

    Returns
    -------
    dict
        version, backend, why_not_native (None if it is there), isas (compiled, usable, active),
        threads, threads_from ("affinity", "cgroup", "OMP_NUM_THREADS", "SEQ2SEQ_FAST_THREADS" or
        "use": what decided their number), compiler, numpy (its version).

    Examples
    --------
    >>> with use(backend="numpy"):
    ...     info()["isas"]["active"] is None
    True
    """
    from .. import __version__

    active = current()
    return {
        "version": __version__,
        "backend": active.name,
        "why_not_native": native.why_missing,
        "isas": {
            "compiled": native.compiled_isas(),
            "usable": native.usable_isas(),
            "active": active.isa,
        },
        "threads": active.threads,
        "threads_from": active.threads_from,
        "compiler": native.compiler(),
        "numpy": np.__version__,
    }
