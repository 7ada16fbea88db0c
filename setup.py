"""Builds the extension: the frames once, the kernels once per instruction set.

A missing or failing compiler is no error, the package then runs on NumPy; with
SEQ2SEQ_FAST_REQUIRE_EXT=1 it is one.
"""

import os
import platform

from setuptools import setup
from setuptools.command.build_ext import build_ext

FLAGS = ["-std=c11", "-O3", "-ffp-contract=off", "-fvisibility=hidden", "-pthread", "-g0"]
FLAGS += ["-fno-math-errno", "-Wall", "-Wextra"]
KERNELS = "csrc/isa/kernels.c"

# The flags of each instruction set, by processor architecture. `generic` is built everywhere.
ISA_FLAGS = {
    "x86_64": {
        "avx2": ["-mavx2", "-mf16c"],
        "avx512": ["-mavx512f", "-mavx512dq", "-mavx512bw", "-mavx512vl"],
    },
    "aarch64": {"neon": []},
}
MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}


class BuildKernels(build_ext):
    def build_extension(self, ext):
        ext.optional = os.environ.get("SEQ2SEQ_FAST_REQUIRE_EXT", "") in ("", "0")
        machine = platform.machine().lower()
        isas = {"generic": [], **ISA_FLAGS.get(MACHINES.get(machine, machine), {})}
        ext.extra_compile_args = FLAGS
        ext.extra_link_args = ["-pthread", "-lm"]
        ext.define_macros += [("Py_LIMITED_API", "0x030A0000")]
        ext.define_macros += [(f"S2S_HAVE_{isa.upper()}", "1") for isa in isas]
        ext.extra_objects = [
            *ext.extra_objects,
            *(self.compile_kernels(isa, flags) for isa, flags in isas.items()),
        ]
        # An interpreter's own link flags can carry paths of the machine that built it.
        self.compiler.linker_so = [
            arg for arg in self.compiler.linker_so if not arg.startswith(("-Wl,-rpath", "-L"))
        ]
        super().build_extension(ext)

    def compile_kernels(self, isa, flags):
        """One object file of its own folder, since all come from the same source."""
        (compiled,) = self.compiler.compile(
            [KERNELS],
            output_dir=os.path.join(self.build_temp, isa),
            macros=[(f"S2S_ISA_{isa.upper()}", "1")],
            extra_postargs=FLAGS + flags,
        )
        return compiled


setup(
    cffi_modules=["csrc/ffi_build.py:ffi"],
    cmdclass={"build_ext": BuildKernels},
    options={"bdist_wheel": {"py_limited_api": "cp310"}},
)
