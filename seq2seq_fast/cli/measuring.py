"""Side-by-side timing of attention: this package's backends and every peer that is installed.

All contestants compute the same problem in one process, in turn, round by round, so that whatever
slows the machine slows all of them. Each is compared with float64, computed
differently.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from ..backends import selection
from ..sdpa.call import attention

Array = np.ndarray[Any, Any]
Compute = Callable[[], Any]

OURS = ("native", "numpy")
ROUNDS = 7
ROUND_SECONDS = 0.02  # a round repeats a short call until it lasts this long
SLOW_SECONDS = 0.3  # a call that takes longer is timed twice only
QUIET_SECONDS = 0.15  # between rounds: OpenBLAS was seen to spin for 0.1 s after a call


class Shape(NamedTuple):
    """One problem: batch, heads, queries, keys, width, and what is special about it."""

    batch: int
    heads: int
    queries: int
    keys: int
    width: int
    key_heads: int = 0  # 0: as many as heads
    causal: bool = False
    dtype: str = "float32"

    def __str__(self) -> str:
        heads = f"{self.heads}:{self.key_heads}" if self.key_heads else f"{self.heads}"
        parts = [self.batch, heads, self.queries, self.keys, self.width]
        text = ", ".join(map(str, parts)) + (" causal" if self.causal else "")
        return text if self.dtype == "float32" else f"{text} {self.dtype}"


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

# Beside it: other widths, batches, causal masks, grouped-query heads, half the bytes.
WIDE_GRID = (
    *GRID,
    *(Shape(1, 8, 512, 512, width) for width in (32, 80, 128, 256)),
    *(Shape(1, 8, 1, 1024, width) for width in (32, 80, 128, 256)),
    Shape(1, 2, 4096, 4096, 64),
    Shape(1, 4, 2048, 2048, 128),
    Shape(1, 8, 512, 512, 64, causal=True),
    Shape(1, 8, 2048, 2048, 64, causal=True),
    Shape(1, 32, 1, 4096, 64, key_heads=4),
    Shape(1, 32, 512, 512, 64, key_heads=4),
    Shape(16, 8, 1, 512, 64),
    Shape(64, 8, 1, 512, 64),
    Shape(64, 8, 32, 32, 64),
    Shape(1, 8, 1, 4096, 64, dtype="float16"),
    Shape(64, 8, 1, 512, 64, dtype="float16"),
    Shape(1, 8, 512, 512, 64, dtype="float16"),
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
    """Time every contestant at every shape; calls `report` after each."""
    table = []
    for shape in shapes:
        row = _measure(shape, threads)
        table.append(row)
        if report:
            report(shape, row)
    return table


def _measure(shape: Shape, threads: int) -> dict[str, Cell]:
    draw = np.random.default_rng(0)
    b, h, tq, tk, d, hk, causal, dtype = shape
    q, k, v = (
        draw.standard_normal((b, heads, t, d), np.float32).astype(dtype)
        for heads, t in ((h, tq), (hk or h, tk), (hk or h, tk))
    )
    problem = Problem(q, k, v, causal, threads)
    exact = _exact(q, k, v, causal)
    ways: dict[str, Way] = {}
    for name, prepare in _CONTESTANTS.items():
        try:
            found = [(_seconds(way, 2), way) for way in prepare(problem)]
        except Exception as error:  # a peer that cannot do this shape says so in its own way
            print(f"{name} does not do {shape}: {str(error).splitlines()[0]}", file=sys.stderr)
            continue
        if found:
            ways[name] = min(found, key=lambda pair: pair[0])[1]
    times: dict[str, list[float]] = {name: [] for name in ways}
    errors, repeats, rounds = {}, {}, {}
    for name, way in ways.items():
        with way.context:
            errors[name] = float(np.abs(np.asarray(way.compute(), np.float64) - exact).max())
        spent = _seconds(way, 1)
        repeats[name] = max(1, int(ROUND_SECONDS / spent))
        rounds[name] = ROUNDS if spent < SLOW_SECONDS else 2
    for turn in range(ROUNDS):
        for name, way in ways.items():
            if turn >= rounds[name]:
                continue
            _let_others_sleep()
            _seconds(way, min(repeats[name], 3))  # its own threads awake, its data in the cache
            times[name].append(_seconds(way, repeats[name]))
    return {
        name: Cell(
            median := statistics.median(found), (max(found) - min(found)) / median, errors[name]
        )
        for name, found in times.items()
    }


def _seconds(way: Way, repeats: int) -> float:
    compute = way.compute
    with way.context:
        start = time.perf_counter()
        for _ in range(repeats):
            compute()
        return (time.perf_counter() - start) / repeats


def _let_others_sleep() -> None:
    """Waits, without sleeping itself: a virtual processor that idles may come back slower."""
    end = time.perf_counter() + QUIET_SECONDS
    while time.perf_counter() < end:
        pass


def _exact(q: Array, k: Array, v: Array, causal: bool) -> Array:
    """float64, head by head, through BLAS and NumPy's exp: shares nothing with the contract."""
    out = np.empty((*q.shape[:-1], v.shape[-1]))
    group = q.shape[1] // k.shape[1]
    for index in np.ndindex(q.shape[:2]):
        at = index[0], index[1] // group
        scores = q[index].astype(np.float64) @ k[at].astype(np.float64).T / q.shape[-1] ** 0.5
        if causal:
            scores[np.tri(*scores.shape) == 0] = -np.inf
        weights = np.exp(scores - scores.max(axis=1, keepdims=True))
        out[index] = weights / weights.sum(axis=1, keepdims=True) @ v[at].astype(np.float64)
    return out


# ---- contestants: each a list of ways to compute a problem, of which the fastest is taken ----


class Problem(NamedTuple):
    """q (B, H, Tq, D), k and v (B, Hk, Tk, D)."""

    q: Array
    k: Array
    v: Array
    causal: bool
    threads: int


class Way(NamedTuple):
    """One way to compute a problem, and what must be switched on while it does."""

    compute: Compute
    context: contextlib.AbstractContextManager[Any] = contextlib.nullcontext()


Prepare = Callable[[Problem], list[Way]]


def _ours(backend: str) -> Prepare:
    def prepare(problem: Problem) -> list[Way]:
        q, k, v, causal, threads = problem
        try:
            chosen = selection.use(backend=backend, threads=threads)
        except RuntimeError:  # without a compiled kernel
            return []

        def compute() -> Any:
            return attention(q, k, v, causal=causal)

        return [Way(compute, chosen)]

    return prepare


def _blas(problem: Problem) -> list[Way]:
    q, k, v, causal, threads = problem
    if importlib.util.find_spec("threadpoolctl") is not None:
        # For the rest of the process: nothing else here uses BLAS.
        importlib.import_module("threadpoolctl").threadpool_limits(threads)
    scale = np.float32(q.shape[-1] ** -0.5)
    hidden = np.tri(q.shape[2], k.shape[2]) == 0
    grouped = (*k.shape[:2], -1, q.shape[3])

    def compute() -> Any:
        # BLAS has no half floats.
        wide_q, wide_k, wide_v = (a.astype(np.float32, copy=False) for a in (q, k, v))
        if causal:
            weights = wide_q @ wide_k.swapaxes(-1, -2) * scale
            weights[..., hidden] = -np.inf
        else:
            weights = wide_q.reshape(grouped) @ wide_k.swapaxes(-1, -2) * scale
        weights = np.exp(weights - weights.max(axis=-1, keepdims=True))
        out = weights @ wide_v / weights.sum(axis=-1, keepdims=True)
        return out.reshape(q.shape).astype(q.dtype, copy=False)

    return [Way(compute)]


def _torch(problem: Problem) -> list[Way]:
    if importlib.util.find_spec("torch") is None:
        return []
    torch = importlib.import_module("torch")
    torch.set_num_threads(problem.threads)
    tensors = [torch.from_numpy(array) for array in (problem.q, problem.k, problem.v)]
    grouped = problem.q.shape[1] != problem.k.shape[1]
    backends = torch.nn.attention.SDPBackend

    def by(backend: Any) -> Compute:
        def compute() -> Any:
            with torch.nn.attention.sdpa_kernel(backend):
                return plain()

        return compute

    def plain() -> Any:
        return torch.nn.functional.scaled_dot_product_attention(
            *tensors, is_causal=problem.causal, enable_gqa=grouped
        )

    return [Way(plain), Way(by(backends.MATH))]


def _onnxruntime(operator: str) -> Prepare:
    """The contrib operator MultiHeadAttention or the standard's Attention."""

    def prepare(problem: Problem) -> list[Way]:
        if any(importlib.util.find_spec(name) is None for name in ("onnx", "onnxruntime")):
            return []
        q, k, v, causal, threads = problem
        onnx = importlib.import_module("onnx")
        onnxruntime = importlib.import_module("onnxruntime")
        contrib = operator == "MultiHeadAttention"
        if contrib and (q.shape[1] != k.shape[1] or q.dtype != np.float32):
            return []
        inputs = {"query": q, "key": k, "value": v}
        if contrib:  # (B, T, H * D)
            inputs = {
                name: np.ascontiguousarray(array.swapaxes(1, 2).reshape(len(array), -1, width))
                for name, array in inputs.items()
                for width in (array.shape[1] * array.shape[3],)
            }
        attributes: dict[str, Any] = (
            {"num_heads": q.shape[1], "domain": "com.microsoft", "unidirectional": int(causal)}
            if contrib
            else {"is_causal": int(causal)}
        )
        helper = onnx.helper
        real = helper.np_dtype_to_tensor_dtype(q.dtype)
        graph = helper.make_graph(
            [helper.make_node(operator, list(inputs), ["out"], **attributes)],
            "attention",
            [helper.make_tensor_value_info(n, real, a.shape) for n, a in inputs.items()],
            [helper.make_tensor_value_info("out", real, None)],
        )
        opsets = [helper.make_opsetid("", 23), helper.make_opsetid("com.microsoft", 1)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 4
        session = onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )

        def compute() -> Any:
            (out,) = session.run(None, inputs)
            if not contrib:
                return out
            return out.reshape(len(out), -1, q.shape[1], q.shape[3]).swapaxes(1, 2)

        return [Way(compute)]

    return prepare


_CONTESTANTS: dict[str, Prepare] = {
    "native": _ours("native"),
    "numpy": _ours("numpy"),
    "blas": _blas,
    "torch": _torch,
    "ort MHA": _onnxruntime("MultiHeadAttention"),
    "ort Attention": _onnxruntime("Attention"),
}


# ---- the report ----


def describe() -> list[str]:
    """The machine, the versions, and what was not held to the given threads: a line each."""
    found = selection.info()
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


def header(contestants: Sequence[str] = tuple(_CONTESTANTS)) -> str:
    """The first two lines of a Markdown table."""
    columns = ["B, H, Tq, Tk, D", *contestants, "fastest peer / native", "error", "peers' error"]
    return f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}"


def line(shape: Shape, row: dict[str, Cell], contestants: Sequence[str] | None = None) -> str:
    """One line of it: microseconds (and the spread of the rounds), the ratio, errors."""
    native = row.get("native") or row["numpy"]
    peers = [cell for name, cell in row.items() if name not in OURS]
    cells = [str(shape)]
    for name in contestants or row:
        cell = row.get(name)
        cells.append(f"{1e6 * cell.seconds:,.1f} ±{50 * cell.spread:.0f}%" if cell else "")
    cells.append(f"{ratio(row):.2f}" if peers else "")
    cells.append(f"{native.error:.1e}")
    cells.append(f"{min(c.error for c in peers):.1e}" if peers else "")
    return f"| {' | '.join(cells)} |"


def ratio(row: dict[str, Cell]) -> float:
    """The fastest peer's time by ours: above 1 is faster than every peer."""
    native = row.get("native") or row["numpy"]
    return min(c.seconds for name, c in row.items() if name not in OURS) / native.seconds
