"""Side-by-side timing of attention: this package's backends and every peer that is installed.

All contestants compute the same problem in one process, in turn, round by round, so that whatever
slows the machine slows all of them. Each is compared with float64, computed
differently.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from . import runtime
from .attention import attention

Array = np.ndarray[Any, Any]
Compute = Callable[[], Any]

ROUNDS = 7
ROUND_SECONDS = 0.02  # a round repeats a short call until it lasts this long
QUIET_SECONDS = 0.15  # between rounds: OpenBLAS was seen to spin for 0.1 s after a call


class Shape(NamedTuple):
    """(B, H, Tq, Tk, D): batch, heads, queries, keys, width."""

    batch: int
    heads: int
    queries: int
    keys: int
    width: int


GRID = (
    Shape(1, 8, 1, 64, 64),
    Shape(1, 8, 1, 512, 64),
    Shape(1, 8, 1, 4096, 64),
    Shape(8, 8, 1, 512, 64),
    Shape(1, 8, 32, 32, 64),
    Shape(1, 8, 128, 128, 64),
    Shape(1, 8, 512, 512, 64),
    Shape(1, 8, 2048, 2048, 64),
    Shape(1, 6, 1500, 1500, 64),  # the encoder of Whisper tiny
)


@dataclass(frozen=True)
class Cell:
    """One contestant at one shape."""

    seconds: float  # median of the rounds
    spread: float  # (slowest - fastest round) / median
    error: float  # largest absolute difference from float64


def measure(
    shapes: Sequence[Shape] = GRID,
    threads: int = 1,
    report: Callable[[Shape, dict[str, Cell]], None] | None = None,
) -> list[dict[str, Cell]]:
    """Time every contestant at every shape, float32; calls `report` after each shape."""
    table = []
    for shape in shapes:
        row = _measure(shape, threads)
        table.append(row)
        if report:
            report(shape, row)
    return table


def _measure(shape: Shape, threads: int) -> dict[str, Cell]:
    draw = np.random.default_rng(0)
    b, h, tq, tk, d = shape
    q, k, v = (draw.standard_normal((b, h, t, d), np.float32) for t in (tq, tk, tk))
    exact = _exact(q, k, v)
    contestants = {
        name: prepared
        for name, prepare in _CONTESTANTS.items()
        if (prepared := prepare(q, k, v, threads)) is not None
    }
    times: dict[str, list[float]] = {name: [] for name in contestants}
    errors, repeats = {}, {}
    for name, compute in contestants.items():
        errors[name] = float(np.abs(np.asarray(compute(), np.float64) - exact).max())
        repeats[name] = max(1, int(ROUND_SECONDS / _seconds(compute, 3)))
    for _ in range(ROUNDS):
        for name, compute in contestants.items():
            _let_others_sleep()
            _seconds(compute, min(repeats[name], 3))  # its own threads awake, its data in the cache
            times[name].append(_seconds(compute, repeats[name]))
    return {
        name: Cell(
            median := statistics.median(found), (max(found) - min(found)) / median, errors[name]
        )
        for name, found in times.items()
    }


def _seconds(compute: Compute, repeats: int) -> float:
    start = time.perf_counter()
    for _ in range(repeats):
        compute()
    return (time.perf_counter() - start) / repeats


def _let_others_sleep() -> None:
    """Waits, without sleeping itself: a virtual processor that idles may come back slower."""
    end = time.perf_counter() + QUIET_SECONDS
    while time.perf_counter() < end:
        pass


def _exact(q: Array, k: Array, v: Array) -> Array:
    """float64, head by head, through BLAS and NumPy's exp: shares nothing with the contract."""
    out = np.empty((*q.shape[:-1], v.shape[-1]))
    for index in np.ndindex(q.shape[:2]):
        scores = q[index].astype(np.float64) @ k[index].astype(np.float64).T / q.shape[-1] ** 0.5
        weights = np.exp(scores - scores.max(axis=1, keepdims=True))
        out[index] = weights / weights.sum(axis=1, keepdims=True) @ v[index].astype(np.float64)
    return out


# ---- contestants: (q, k, v, threads) -> a function of nothing, or None where not installed ----


def _ours(backend: str) -> Callable[[Array, Array, Array, int], Compute | None]:
    def prepare(q: Array, k: Array, v: Array, threads: int) -> Compute | None:
        try:
            chosen = runtime.use(backend=backend, threads=threads)
        except RuntimeError:
            return None

        def compute() -> Any:
            with chosen:
                return attention(q, k, v)

        return compute

    return prepare


def _blas(q: Array, k: Array, v: Array, threads: int) -> Compute:
    scale = np.float32(q.shape[-1] ** -0.5)
    if importlib.util.find_spec("threadpoolctl") is not None:
        # For the rest of the process: nothing else here uses BLAS.
        importlib.import_module("threadpoolctl").threadpool_limits(threads)

    def compute() -> Any:
        weights = q @ k.swapaxes(-1, -2) * scale
        weights = np.exp(weights - weights.max(axis=-1, keepdims=True))
        return weights @ v / weights.sum(axis=-1, keepdims=True)

    return compute


def _torch(q: Array, k: Array, v: Array, threads: int) -> Compute | None:
    if importlib.util.find_spec("torch") is None:
        return None
    torch = importlib.import_module("torch")
    torch.set_num_threads(threads)
    tensors = [torch.from_numpy(array) for array in (q, k, v)]
    return lambda: torch.nn.functional.scaled_dot_product_attention(*tensors)


def _onnxruntime(q: Array, k: Array, v: Array, threads: int) -> Compute | None:
    if any(importlib.util.find_spec(name) is None for name in ("onnx", "onnxruntime")):
        return None
    onnx = importlib.import_module("onnx")
    onnxruntime = importlib.import_module("onnxruntime")
    heads, width = q.shape[1], q.shape[3]
    inputs = {
        name: np.ascontiguousarray(array.swapaxes(1, 2).reshape(len(array), -1, heads * width))
        for name, array in (("query", q), ("key", k), ("value", v))
    }
    helper, real = onnx.helper, onnx.TensorProto.FLOAT
    node = helper.make_node(
        "MultiHeadAttention", list(inputs), ["out"], num_heads=heads, domain="com.microsoft"
    )
    graph = helper.make_graph(
        [node],
        "attention",
        [helper.make_tensor_value_info(n, real, a.shape) for n, a in inputs.items()],
        [helper.make_tensor_value_info("out", real, None)],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )

    def compute() -> Any:
        (out,) = session.run(None, inputs)
        return out.reshape(len(out), -1, heads, width).swapaxes(1, 2)

    return compute


_CONTESTANTS: dict[str, Callable[[Array, Array, Array, int], Compute | None]] = {
    "native": _ours("native"),
    "numpy": _ours("numpy"),
    "blas": _blas,
    "torch": _torch,
    "onnxruntime": _onnxruntime,
}


# ---- the report ----


def describe() -> list[str]:
    """The machine, the versions, and what was not held to the given threads: a line each."""
    found = runtime.info()
    versions = [f"seq2seq_fast {found['version']} ({found['isas']['active'] or 'no kernel'})"]
    versions += [f"NumPy {found['numpy']}"]
    for name in ("torch", "onnxruntime"):
        if importlib.util.find_spec(name) is not None:
            versions.append(f"{name} {importlib.import_module(name).__version__}")
    lines = [
        f"{_processor()}, {os.cpu_count()} processors, {platform.system()}, "
        f"Python {platform.python_version()}",
        ", ".join(versions),
    ]
    if importlib.util.find_spec("threadpoolctl") is None:
        lines.append("BLAS takes the threads it likes: threadpoolctl is not installed")
    return lines


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            names = {line.partition(":")[2].strip() for line in lines if "model name" in line}
        return ", ".join(sorted(names)) or platform.machine()
    except OSError:
        return platform.processor() or platform.machine()


def header(contestants: Sequence[str]) -> str:
    """The first two lines of a Markdown table."""
    columns = ["B, H, Tq, Tk, D", *contestants, "fastest peer / native", "error", "peers' error"]
    return f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}"


def line(shape: Shape, row: dict[str, Cell]) -> str:
    """One line of it: microseconds (and the spread of the rounds), the ratio, errors."""
    native = row.get("native") or row["numpy"]
    peers = {name: cell for name, cell in row.items() if name not in ("native", "numpy")}
    cells = [", ".join(map(str, shape))]
    cells += [f"{1e6 * c.seconds:,.1f} ±{50 * c.spread:.0f}%" for c in row.values()]
    cells.append(f"{min(c.seconds for c in peers.values()) / native.seconds:.2f}")
    cells.append(f"{native.error:.1e}")
    cells.append(f"{min(c.error for c in peers.values()):.1e}")
    return f"| {' | '.join(cells)} |"
