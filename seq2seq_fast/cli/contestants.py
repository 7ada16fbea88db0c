"""Who computes attention in a benchmark: this package's backends and the installed peers."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import os
import platform
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ..backends import selection
from ..sdpa.call import attention

Array = np.ndarray[Any, Any]
Compute = Callable[[], Any]

OURS = ("native", "numpy")


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


# The ways of a contestant to compute a problem, of which the fastest is taken; none where it is not
# installed, or cannot do the problem.
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


CONTESTANTS: dict[str, Prepare] = {
    "native": _ours("native"),
    "numpy": _ours("numpy"),
    "blas": _blas,
    "torch": _torch,
    "ort MHA": _onnxruntime("MultiHeadAttention"),
    "ort Attention": _onnxruntime("Attention"),
}


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
