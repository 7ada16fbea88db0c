"""The kernel built by other compilers, under sanitizers, and for AArch64 under qemu.

The contract writes problems with their results into a file; replay.c, linked with csrc/, runs them
and compares every bit. Each case is skipped where its compiler is not installed.
"""

from __future__ import annotations

import dataclasses
import functools
import platform
import shutil
import struct
import subprocess
from pathlib import Path

import numpy as np
import pytest
from ml_dtypes import bfloat16

from seq2seq_fast import KeyValueCache, contract, use
from seq2seq_fast.contract.dtypes import wide
from seq2seq_fast.contract.plan import Plan
from seq2seq_fast.nn.linear import Linear
from seq2seq_fast.nn.norms import Norm
from seq2seq_fast.nn.weights import Matrix

HERE = Path(__file__).parent
CSRC = HERE.parents[1] / "csrc"
STRICT = ["-std=c11", "-ffp-contract=off", "-pthread", "-Wall", "-Wextra", "-Wpedantic",
          "-Wshadow", "-Wconversion", "-Werror"]  # fmt: skip
X86 = {
    "avx2": ["-mavx2", "-mf16c"],
    "avx512": ["-mavx512f", "-mavx512dq", "-mavx512bw", "-mavx512vl"],
}
SETS_HERE = X86 if platform.machine() in ("x86_64", "AMD64") else {"neon": []}


@pytest.fixture(scope="module")
def vectors(tmp_path_factory):
    """A file of problems of both types with what the contract says of them."""
    rng = np.random.default_rng(1706)
    path = tmp_path_factory.mktemp("replay") / "vectors.bin"
    shapes = [
        *((1, 1, 1, n, n, n, n) for n in (1, 15, 16, 17, 31, 33, 97)),
        (2, 4, 2, 1, 64, 64, 64),
        (1, 2, 1, 1, 300, 5, 3),
        (1, 1, 1, 29, 513, 64, 80),
        (1, 2, 2, 3, 40, 257, 1),
        (1, 1, 1, 200, 20, 16, 16),
        (1, 1, 1, 150, 530, 5, 3),  # several passes over the same panels
    ]
    problems = [
        (types, shape, option)
        for types in (("f4", "f4"), ("f8", "f8"), ("f2", "f2"), ("f4", bfloat16))
        for shape in (shapes if types[0] != "f2" else shapes[3:])
        for option in range(8 if types == ("f4", "f4") else 7)
    ]
    with path.open("wb") as file:
        file.write(struct.pack("=q", len(problems)))
        for types, shape, option in problems:
            file.write(_problem(rng, *map(np.dtype, types), shape, option))
        layers = list(_layers(rng))
        file.write(struct.pack("=q", len(layers)) + b"".join(layers))
    return path


WEIGHT_TYPES = {"float32": 0, "float16": 2, "bfloat16": 3, "int8": 4}
ACTIVATIONS = list(contract.ACTIVATIONS)  # in the order of enum s2s_activation


def _layers(rng):
    """Layers with their results, as replay.c reads them."""

    def draw(*shape):
        return rng.standard_normal(shape).astype(np.float32)

    def packed(kind, rows, inputs, outputs, number, arrays, **fields):
        named = {"weights": 0, "activation": 0, "bias": 0, "other": 0, **fields}
        numbers = (kind, named["weights"], rows, inputs, outputs, named["activation"],
                   named["bias"], named["other"])  # fmt: skip
        return struct.pack("=8qd", *numbers, number) + b"".join(
            np.ascontiguousarray(array).tobytes() for array in arrays if array is not None
        )

    shapes = ((1, 1, 1), (3, 17, 33), (1, 300, 40), (26, 64, 16), (2, 515, 20), (9, 30, 300))
    for number, (rows, inputs, outputs) in enumerate(shapes):
        for weights, code in WEIGHT_TYPES.items():
            values = draw(outputs, inputs)
            if weights == "bfloat16":
                matrix = Matrix.pack(values.astype(bfloat16))
            else:
                matrix = Matrix.pack(values).to(weights)
            for case, activation in enumerate(ACTIVATIONS if number == 1 else ("none", "gelu")):
                bias, x = draw(outputs) if case % 2 else None, draw(rows, inputs)
                other, scale = draw(rows, outputs), 17.0 if number % 2 and code == 4 else 0.0
                how = (None, "residual", "gate")[case % 3]
                options = {how: other} if how else {}
                layer = Linear(
                    dataclasses.replace(matrix, input_scale=scale) if code == 4 else matrix, bias
                )
                x[0, 0] = (1.0, np.nan, np.inf, 1e-40)[case % 4]
                with use(backend="numpy"):
                    want = layer(x, activation, **options)
                yield packed(
                    0, rows, inputs, outputs, scale,
                    [matrix.panels, bias, matrix.scales, x, other if how else None, want],
                    weights=code, activation=ACTIVATIONS.index(activation), bias=bias is not None,
                    other=case % 3,
                )  # fmt: skip
            tokens = rng.integers(0, outputs, rows)
            position = draw(1, inputs)
            want = matrix.rows(tokens) * np.float32(1.5) + position
            yield packed(
                4, rows, inputs, outputs, 1.5,
                [matrix.panels, position, matrix.scales, tokens, want], weights=code,
            )  # fmt: skip
    for n in (1, 16, 31, 256, 300):
        x, gamma, beta = draw(5, n), draw(n), draw(n)
        x[1, 0] = np.nan
        for shift in (beta, None):
            with use(backend="numpy"):
                want = Norm(gamma, shift, 1e-5, "rms" if shift is None else "layer")(x)
            yield packed(1, 5, n, 0, 1e-5, [x, gamma, shift, want], bias=shift is not None)
        gates, cell, other = draw(4, 2 * n) * 9, draw(4, n), draw(4, n)
        yield packed(2, 4, n, 0, 0.0, [gates, cell, other, *contract.ssru_step(gates, cell, other)])
        logits = np.rint(draw(6, n) * 5)
        logits[0], logits[1, n // 2] = -np.inf, np.nan
        yield packed(
            3, 6, n, min(n, 9), 0.0, [logits, *contract.topk_log_softmax(logits, min(n, 9))]
        )


def _problem(rng, dtype, key_dtype, shape, option):
    """One problem with its results, as replay.c reads them."""
    batch, heads, key_heads, queries, keys, width, value_width = shape
    types = {"float32": 0, "float64": 1, "float16": 2, "bfloat16": 3}

    def draw(*shape):
        return rng.standard_normal(shape).astype(dtype)

    q = draw(batch, heads, queries, width)
    k, v = draw(batch, key_heads, keys, width), draw(batch, key_heads, keys, value_width)
    mask = bias = sinks = spans = None
    bias_dtype = dtype
    unbounded = 1 << 62
    left, right, softcap, packed = unbounded, unbounded, 0.0, False
    if option == 1:  # causal, the last query at the last key
        right = 0
        spans = np.array([[0, queries, 0, keys, keys - queries, keys]] * batch)
    elif option == 2:
        mask = rng.random((queries, keys)) < 0.6
        bias_dtype = {"float16": np.float32, "bfloat16": np.float16}.get(key_dtype.name, dtype)
        bias = draw(heads, 1, keys).astype(bias_dtype)
        v[:, :, ~mask[0]] = np.nan  # hidden from the first query, seen by others
        hidden = rng.random(keys) < 0.3
        bias[..., hidden] = -np.inf
        k[:, :, hidden] = np.nan
    elif option == 3:
        lengths = rng.integers(0, keys + 1, batch)
        spans = np.array([[0, queries, 0, length, 0, length] for length in lengths])
        q[..., 0] *= dtype.type(1e4)
        v[..., 0] *= np.finfo(dtype).tiny
    elif option == 4:
        left, right, softcap = 20, 3, 0.7
        sinks = wide(draw(heads))
        v[:, :, -1] = np.inf
    elif option == 5:
        packed = True
    elif option == 7:  # scores of integers
        k[-1, -1, -1, 0] = np.inf
        lengths = rng.integers(0, keys + 1, batch)
        spans = np.array([[0, queries, 0, length, 0, length] for length in lengths])
    elif option == 6:  # only whole panels; the keys after them are rows
        packed = True
        spans = np.array([[0, queries, 0, keys, 0, keys // 16 * 16]] * batch)
    k, v = k.astype(key_dtype), v.astype(key_dtype)
    out, weights = (
        np.empty((*q.shape[:-1], value_width), dtype),
        np.empty((*q.shape[:-1], keys), dtype),
    )
    statistics = np.empty((*q.shape[:-1], 2))
    plan = Plan(
        dtype=dtype, key_dtype=key_dtype, bias_dtype=np.dtype(bias_dtype),
        query_shape=q.shape, key_shape=k.shape, value_shape=v.shape, packed=False,
        integer_scores=option == 7, ragged=False, lead=(batch,),
        heads=heads, key_heads=key_heads, queries=queries, keys=keys, width=width,
        value_width=value_width, left=left, right=right, offset=0, out_shape=out.shape,
        weights_shape=weights.shape, scale=1,
    )  # fmt: skip
    contract.attention(
        plan, q, k, v, 0.3, softcap, mask, bias, sinks, spans, out, weights, statistics
    )
    if packed:
        cache = KeyValueCache(batch, key_heads, width, value_width, capacity=keys, dtype=key_dtype)
        cache.append(k, v)
        rows, k = k, cache.operands(None)[0]
        if spans is not None and keys % 16:
            last = np.zeros((batch, key_heads, 16, width), key_dtype)
            last[:, :, : keys % 16] = rows[:, :, keys // 16 * 16 :]
            k[:, :, -1] = last.reshape(batch, key_heads, width, 16)
    given = [int(array is not None) for array in (mask, bias, sinks, spans)]
    kinds = (
        *(types[np.dtype(kind).name] for kind in (dtype, key_dtype, bias_dtype)),
        packed, option == 7,
    )  # fmt: skip
    fields = (*kinds, *shape, left, right, *given)
    arrays = [q, k, v, mask, bias, sinks, spans, out, weights, statistics]
    return struct.pack(f"={len(fields)}q2d", *fields, 0.3, softcap) + b"".join(
        np.ascontiguousarray(array).tobytes() for array in arrays if array is not None
    )


def build(folder, compiler, flags, isas):
    """Compiles csrc/ and replay.c as the package's build does, every warning an error."""
    compile_ = functools.partial(
        subprocess.run, check=True, capture_output=True, text=True, cwd=folder
    )
    objects = []
    for isa, isa_flags in {"generic": [], **isas}.items():
        objects.append(f"{isa}.o")
        define = f"-DS2S_ISA_{isa.upper()}"
        compile_([compiler, *STRICT, *flags, *isa_flags, define, "-c", CSRC / "isa" / "kernels.c",
                  "-o", objects[-1]])  # fmt: skip
    have = [f"-DS2S_HAVE_{isa.upper()}" for isa in isas]
    sources = [*CSRC.glob("*.c"), HERE / "replay.c"]
    compile_([compiler, *STRICT, *flags, *have, f"-I{CSRC}", *sources, *objects,
              "-o", "replay", "-lm"])  # fmt: skip
    return folder / "replay"


def needs(*programs):
    missing = [program for program in programs if not shutil.which(program)]
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")


def check(command, isas):
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith(", 0 differ\n")
    return [isa for isa in isas if f" {isa}" in done.stdout]


@pytest.mark.slow
@pytest.mark.parametrize("optimise", ["-O3", "-O0"])
@pytest.mark.parametrize("compiler", ["gcc", "clang"])
def test_compilers_agree(tmp_path, vectors, compiler, optimise):
    needs(compiler)
    replay = build(tmp_path, compiler, [optimise], SETS_HERE)
    assert "generic" in check([replay, vectors], ["generic", *SETS_HERE])


# Each at the optimisation at which building and running it takes least.
@pytest.mark.slow
@pytest.mark.parametrize(("sanitizers", "level"), [("address,undefined", "-O0"), ("thread", "-O1")])
def test_sanitizers_find_nothing(tmp_path, vectors, sanitizers, level):
    needs("gcc")
    flags = [level, "-g", f"-fsanitize={sanitizers}", "-fno-sanitize-recover=all"]
    check([build(tmp_path, "gcc", flags, SETS_HERE), vectors], SETS_HERE)


@pytest.mark.qemu
def test_neon_under_qemu(tmp_path, vectors):
    cross, qemu = "aarch64-linux-gnu-gcc", "qemu-aarch64"
    needs(cross, qemu)
    replay = build(tmp_path, cross, ["-O3", "-static"], {"neon": []})
    assert check([qemu, replay, vectors], ["neon"]) == ["neon"]
