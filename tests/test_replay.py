"""The kernel built by other compilers, under sanitizers, and for AArch64 under qemu.

The contract writes problems with their results into a file; tests/replay.c, linked with csrc/, runs
them and compares every bit. Each case is skipped where its compiler is not installed.
"""

from __future__ import annotations

import functools
import platform
import shutil
import struct
import subprocess
from pathlib import Path

import numpy as np
import pytest

from seq2seq_fast import attention, use

ROOT = Path(__file__).parents[1]
STRICT = ["-std=c11", "-ffp-contract=off", "-pthread", "-Wall", "-Wextra", "-Wpedantic",
          "-Wshadow", "-Wconversion", "-Werror"]  # fmt: skip
X86 = {
    "avx2": ["-mavx2"],
    "avx512": ["-mavx512f", "-mavx512dq", "-mavx512bw", "-mavx512vl"],
}
HERE = X86 if platform.machine() in ("x86_64", "AMD64") else {"neon": []}


@pytest.fixture(scope="module")
def vectors(tmp_path_factory):
    """A file of problems of both types with what the contract says of them."""
    rng = np.random.default_rng(1706)
    path = tmp_path_factory.mktemp("replay") / "vectors.bin"
    problems = [
        one
        for dtype in (np.float32, np.float64)
        for one in (
            *((1, 1, 1, n, n, n, n) for n in (1, 15, 16, 17, 31, 33, 97)),
            (2, 4, 2, 1, 64, 64, 64),
            (1, 2, 1, 1, 300, 5, 3),
            (1, 1, 1, 29, 513, 64, 80),
            (1, 2, 2, 3, 40, 257, 1),
            (1, 1, 1, 200, 20, 16, 16),
        )
        for one in [(dtype, one)]
    ]
    with path.open("wb") as file, use(backend="numpy"):
        file.write(struct.pack("=q", 4 * len(problems)))
        for dtype, shape in problems:
            for option in range(4):
                file.write(_problem(rng, dtype, shape, option))
    return path


def _problem(rng, dtype, shape, option):
    batch, heads, key_heads, queries, keys, width, value_width = shape

    def draw(*shape):
        return rng.standard_normal(shape).astype(dtype)

    q, k = draw(batch, heads, queries, width), draw(batch, key_heads, keys, width)
    v = draw(batch, key_heads, keys, value_width)
    options, mask, bias, lengths, offset = {"scale": 0.3}, None, None, None, 0
    if option == 1:
        options["causal"], offset = "bottom_right", keys - queries
    elif option == 2:
        options["mask"] = mask = rng.random((queries, keys)) < 0.6
        options["bias"] = bias = draw(heads, 1, keys)
        v[:, :, ~mask[0]] = np.nan  # hidden from the first query, seen by others
    elif option == 3:
        options["key_lengths"] = lengths = rng.integers(0, keys + 1, batch)
        q[..., 0] *= dtype(1e30)
        v[..., 0] *= np.finfo(dtype).tiny
    given = [a is not None for a in (mask, bias, lengths)]
    fields = (int(dtype is np.float64), *shape, option == 1, offset, *given)
    out, weights = attention(q, k, v, return_weights=True, **options)
    parts = [q, k, v, mask, bias, None if lengths is None else lengths.astype(np.int64)]
    arrays = [part for part in parts if part is not None]
    return struct.pack(f"={len(fields)}qd", *map(int, fields), options["scale"]) + b"".join(
        np.ascontiguousarray(array).tobytes() for array in [*arrays, out, weights]
    )


def build(folder, compiler, flags, isas):
    """Compiles csrc/ and replay.c as the package's build does, every warning an error."""
    csrc = ROOT / "csrc"
    compile_ = functools.partial(
        subprocess.run, check=True, capture_output=True, text=True, cwd=folder
    )
    objects = []
    for isa, isa_flags in {"generic": [], **isas}.items():
        objects.append(f"{isa}.o")
        define = f"-DS2S_ISA_{isa.upper()}"
        compile_([compiler, *STRICT, *flags, *isa_flags, define, "-c", csrc / "isa" / "kernels.c",
                  "-o", objects[-1]])  # fmt: skip
    have = [f"-DS2S_HAVE_{isa.upper()}" for isa in isas]
    sources = [csrc / "dispatch.c", csrc / "pool.c", csrc / "attention.c"]
    compile_([compiler, *STRICT, *flags, *have, *sources, ROOT / "tests" / "replay.c", *objects,
              "-o", "replay"])  # fmt: skip
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


@pytest.mark.parametrize("optimise", ["-O3", "-O0"])
@pytest.mark.parametrize("compiler", ["gcc", "clang"])
def test_compilers_agree(tmp_path, vectors, compiler, optimise):
    needs(compiler)
    replay = build(tmp_path, compiler, [optimise], HERE)
    assert "generic" in check([replay, vectors], ["generic", *HERE])


# Each at the optimisation at which building and running it takes least.
@pytest.mark.parametrize(("sanitizers", "level"), [("address,undefined", "-O0"), ("thread", "-O1")])
def test_sanitizers_find_nothing(tmp_path, vectors, sanitizers, level):
    needs("gcc")
    flags = [level, "-g", f"-fsanitize={sanitizers}", "-fno-sanitize-recover=all"]
    check([build(tmp_path, "gcc", flags, HERE), vectors], HERE)


def test_neon_under_qemu(tmp_path, vectors):
    cross, qemu = "aarch64-linux-gnu-gcc", "qemu-aarch64"
    needs(cross, qemu)
    replay = build(tmp_path, cross, ["-O3", "-static"], {"neon": []})
    assert check([qemu, replay, vectors], ["neon"]) == ["neon"]
