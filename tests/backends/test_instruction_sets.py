"""Which instruction sets the kernel says this processor runs: asked of the processor itself."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from pathlib import Path

import pytest

from seq2seq_fast.backends import native

CSRC = Path(__file__).parents[2] / "csrc"
CPUINFO = Path("/proc/cpuinfo")
X86 = platform.machine() in ("x86_64", "AMD64")

# What /proc/cpuinfo calls the features of each set.
FLAGS = {
    "avx2": {"avx", "avx2", "f16c"},
    "avx512": {"avx2", "f16c", "avx512f", "avx512dq", "avx512bw", "avx512vl"},
}
FLAGS["avx512_vnni"] = FLAGS["avx512"] | {"avx512_vnni"}

# dispatch.c with empty tables of kernels, which nobody calls.
PROBE = r"""
#include <stdio.h>
#include "dispatch.c"
const s2s_kernels s2s_kernels_generic[S2S_FLOAT_TYPES], s2s_kernels_avx2[S2S_FLOAT_TYPES];
const s2s_kernels s2s_kernels_avx512[S2S_FLOAT_TYPES];
const s2s_layer_kernels s2s_layer_kernels_generic, s2s_layer_kernels_avx2;
const s2s_layer_kernels s2s_layer_kernels_avx512;
const s2s_integer_kernels s2s_integer_kernels_generic, s2s_integer_kernels_avx2;
const s2s_integer_kernels s2s_integer_kernels_avx512_vnni;
int main(void)
{
    for (int isa = 0; isa < S2S_ISAS; isa++)
        if (s2s_isa_usable(isa))
            printf("%s ", s2s_isa_name(isa));
    return 0;
}
"""


@pytest.fixture(scope="module", params=["gcc", "clang"])
def probe(request, tmp_path_factory):
    """A program that prints the sets that it may use."""
    if not X86 or not shutil.which(request.param):
        pytest.skip(f"needs x86-64 and {request.param}")
    folder = tmp_path_factory.mktemp("probe")
    (folder / "probe.c").write_text(PROBE)
    have = ["-DS2S_HAVE_AVX2", "-DS2S_HAVE_AVX512"]
    command = [request.param, "-std=c11", "-static", f"-I{CSRC}", *have, "probe.c", "-o", "probe"]
    subprocess.run(command, check=True, cwd=folder)
    return folder / "probe"


def flags_of_this_processor():
    if not X86 or not CPUINFO.exists():
        pytest.skip("/proc/cpuinfo names the features of x86 processors only")
    lines = CPUINFO.read_text().splitlines()
    return set(next(line for line in lines if line.startswith("flags")).split())


def sets_with(flags):
    return {"generic"} | {isa for isa, needed in FLAGS.items() if needed <= flags}


def test_the_extension_sees_what_the_system_says():
    if native.why_missing:
        pytest.skip("the extension is not built")
    assert set(native.usable_isas()) == sets_with(flags_of_this_processor())


def test_both_compilers_see_what_the_system_says(probe):
    done = subprocess.run([probe], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) == sets_with(flags_of_this_processor())


@pytest.mark.parametrize(
    ("processor", "sets"),
    [
        ("Nehalem", ["generic"]),
        ("SandyBridge", ["generic"]),  # AVX alone
        ("Haswell", ["generic", "avx2"]),
        ("Haswell,-f16c", ["generic"]),
        ("Haswell,-avx2", ["generic"]),
        ("Haswell,-xsave", ["generic"]),  # a system that does not save the registers
    ],
)
def test_older_processors_get_what_they_run(probe, processor, sets):
    qemu = shutil.which("qemu-x86_64")
    if qemu is None:
        pytest.skip("not installed: qemu-x86_64")
    done = subprocess.run(
        [qemu, "-cpu", processor, probe], capture_output=True, text=True, check=True,
        env={**os.environ, "LC_ALL": "C"},
    )  # fmt: skip
    assert done.stdout.split() == sets
