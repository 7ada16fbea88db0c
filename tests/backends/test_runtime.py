"""Choosing what runs: use(), the environment, info(), fingerprint(); threads, fork, subnormals."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import numpy as np
import pytest
from conftest import assert_same_bits, choose

import seq2seq_fast
from seq2seq_fast import attention, fingerprint, info, use
from seq2seq_fast.backends import native

ROOT = Path(__file__).parents[2]
ELSEWHERE = tempfile.gettempdir()  # where `import seq2seq_fast` finds what is installed


def run(code, **environment):
    """A Python process of its own; returns the finished process."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("SEQ2SEQ_FAST_")}
    return subprocess.run(
        [sys.executable, "-c", "import numpy as np, seq2seq_fast as s\n" + code],
        env={**env, **environment}, capture_output=True, text=True, timeout=120, cwd=ELSEWHERE,
    )  # fmt: skip


def test_names_of_models_are_imported_when_they_are_asked_for():
    """Also where their modules were imported before, whatever the order."""
    done = run(
        "import sys\n"
        "assert set(s.__all__) <= set(dir(s))\n"
        "assert not {'seq2seq_fast.nn.linear', 'seq2seq_fast.text.translator'} & set(sys.modules)\n"
        "import seq2seq_fast.models.loading, seq2seq_fast.text.translator\n"
        "found = [getattr(s, name) for name in s.__all__]\n"
        "print(all(map(callable, found)), s.load is seq2seq_fast.models.loading.load)\n"
        "s.nothing"
    )
    assert done.stdout == "True True\n"
    assert "has no attribute 'nothing'" in done.stderr


@pytest.mark.parametrize("isa", native.ALL_ISAS)
def test_this_machine_has(isa):
    """Shows what the bit-for-bit tests did not run on, which is not a failure."""
    if isa not in native.usable_isas():
        pytest.skip(f"no {isa} kernel for this machine")
    with use(isa=isa):
        assert info()["isas"]["active"] == isa


def test_info_is_plain():
    found = info()
    assert list(found) == [
        "version", "backend", "why_not_native", "isas", "threads", "threads_from", "compiler",
        "numpy",
    ]  # fmt: skip
    assert list(found["isas"]) == ["compiled", "usable", "active"]
    assert set(found["isas"]["usable"]) <= set(found["isas"]["compiled"])
    assert found["version"] == seq2seq_fast.__version__
    assert (found["backend"] == "native") == (found["isas"]["active"] is not None)


def test_use_nests_and_restores():
    before = info()
    with use(backend="numpy", threads=3):
        assert (info()["backend"], info()["threads"]) == ("numpy", 3)
        with use(threads=1):
            assert (info()["backend"], info()["threads"]) == ("numpy", 1)
        assert info()["threads"] == 3
    assert info() == before


def test_use_is_for_the_calling_thread():
    seen = []
    with use(threads=7):
        thread = threading.Thread(target=lambda: seen.append(info()["threads"]))
        thread.start()
        thread.join()
    assert seen == [info()["threads"]]


@pytest.mark.parametrize(
    ("request_", "error", "message"),
    [
        ({"backend": "cuda"}, ValueError, "backend must be one of native, numpy; got 'cuda'"),
        ({"isa": "sse9"}, ValueError, "isa must be one of .*; got 'sse9'"),
        ({"isa": "generic", "backend": "numpy"}, ValueError, "needs the native backend"),
        ({"threads": 0}, ValueError, "threads must be an integer from 1 to 256; got 0"),
        ({"threads": 1.5}, ValueError, "threads must be an integer from 1 to 256; got 1.5"),
        ({"threads": True}, ValueError, "threads must be .*; got True"),
    ],
)
def test_use_refuses_nonsense(request_, error, message):
    with pytest.raises(error, match=message):
        use(**request_)


def test_an_instruction_set_that_is_not_there_is_an_error():
    missing = next(isa for isa in native.ALL_ISAS if isa not in native.usable_isas())
    with pytest.raises(RuntimeError, match=missing if not native.why_missing else "native"):
        use(isa=missing)
    done = run("s.attention([[1.0]], [[1.0]], [[1.0]])", SEQ2SEQ_FAST_ISA=missing)
    assert done.returncode == 1
    assert f"RuntimeError: SEQ2SEQ_FAST_ISA={missing}: " in done.stderr


def test_environment():
    done = run("print(s.info()['backend'], s.info()['threads'])",
               SEQ2SEQ_FAST_BACKEND="numpy", SEQ2SEQ_FAST_THREADS="5")  # fmt: skip
    assert done.stdout.split() == ["numpy", "5"]
    for name, value in (("BACKEND", "fast"), ("ISA", "mmx"), ("THREADS", "many"), ("THREADS", "0")):
        done = run("s.info()", **{f"SEQ2SEQ_FAST_{name}": value})
        assert f"RuntimeError: SEQ2SEQ_FAST_{name}={value}: " in done.stderr


def test_without_the_extension_the_fallback_computes_and_info_says_why():
    code = """
import sys
for name in [n for n in sys.modules if n.startswith("seq2seq_fast")]: del sys.modules[name]
sys.modules["seq2seq_fast._native"] = None
import seq2seq_fast as s
print(s.info()["backend"], s.info()["isas"], s.fingerprint(), s.info()["why_not_native"])
try: s.use(backend="native")
except RuntimeError as error: print(error)
"""
    done = run(code)
    first, second = done.stdout.splitlines()
    assert first.startswith("numpy {'compiled': [], 'usable': [], 'active': None} ")
    assert fingerprint() in first
    assert "the compiled kernel is not there" in first and (
        "a C compiler" in first or "pip install -e" in first
    )
    assert second.startswith("the native backend was asked for, but the compiled kernel is not")


# ---- the same everywhere ----


@pytest.mark.parametrize("threads", [1, 2, 8])
def test_fingerprint_is_the_published_one(backend, threads):
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    with use(threads=threads):
        assert fingerprint() in readme


def problem(seed, keys=300):
    rng = np.random.default_rng(seed)
    return [rng.standard_normal((4, n, 64)).astype(np.float32) for n in (70, keys, keys)]


def test_concurrent_calls_from_python_threads(backend):
    problems = [problem(seed, 100 + 50 * seed) for seed in range(4)]
    want = [attention(*p) for p in problems]
    failures = []

    def work(index):
        try:
            with choose(backend), use(threads=1 + index % 3):
                for _ in range(20 if backend != "numpy" else 2):
                    assert_same_bits(attention(*problems[index]), want[index])
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_fork_after_use(backend):
    """A child, and a child's child, compute with threads of their own."""
    code = f"""
import os, sys
sys.path[:0] = [{str(ROOT / "tests")!r}]
from conftest import choose
rng = np.random.default_rng(0)
q, k, v = (rng.standard_normal((4, 200, 64)).astype(np.float32) for _ in range(3))
with choose({backend!r}), s.use(threads=3):
    want = s.attention(q, k, v).tobytes()
    for generation in range(2):
        child = os.fork()
        if child:
            sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        assert all(s.attention(q, k, v).tobytes() == want for _ in range(5))
    os._exit(7)
"""
    done = run(code)
    assert done.returncode == 7, done.stderr


# ---- flush-to-zero, switched on by somebody else ----


def test_flush_to_zero_of_the_process_has_no_effect(backend, dtype, rng, flush_to_zero):
    q = rng.standard_normal((2, 30, 20)).astype(dtype)
    tiny = (rng.standard_normal((2, 40, 20)) * np.finfo(dtype).tiny / 8).astype(dtype)
    calls = [(q, tiny, tiny), (tiny, tiny, q[:, :1].repeat(40, 1)), (q, q, tiny[:, :30])]
    want = [attention(*call, scale=2.0**20) for call in calls]
    assert any(np.any((w != 0) & (np.abs(w) < np.finfo(dtype).tiny)) for w in want)
    with flush_to_zero(), use(threads=2):
        got = [attention(*call, scale=2.0**20) for call in calls]
    for g, w in zip(got, want, strict=True):
        assert_same_bits(g, w)


def test_fingerprint_under_flush_to_zero(backend, flush_to_zero):
    want = fingerprint()
    with flush_to_zero():
        assert fingerprint() == want


@pytest.mark.parametrize(
    ("variables", "threads", "by"),
    [
        ({"OMP_NUM_THREADS": "1"}, 1, {"OMP_NUM_THREADS", "affinity", "cgroup"}),
        ({"OMP_NUM_THREADS": "1", "SEQ2SEQ_FAST_THREADS": "7"}, 7, {"SEQ2SEQ_FAST_THREADS"}),
    ],
)
def test_info_says_what_decided_the_threads(variables, threads, by):
    code = "import json, seq2seq_fast; print(json.dumps(seq2seq_fast.info()))"
    found = json.loads(
        subprocess.run(
            [sys.executable, "-c", code], env={**os.environ, **variables}, check=True,
            capture_output=True, text=True,
        ).stdout
    )  # fmt: skip
    assert found["threads"] == threads and found["threads_from"] in by
    default = info()
    with use(threads=default["threads"]):  # who decided, even if it is the same number
        assert info()["threads_from"] == "use"
        with use(backend="numpy"):
            assert info()["threads_from"] == "use"
    with use(backend="numpy"):
        assert info()["threads_from"] == default["threads_from"]
