"""The cffi build script of `seq2seq_fast._native`: declarations from the header, sources beside it.

It imports nothing of the package. `setup.py` adds the kernels, which are compiled once for each
instruction set with flags of their own.
"""

from pathlib import Path

import cffi

HEADER = Path(__file__).with_name("seq2seq_fast.h")

# cffi parses C declarations, not the preprocessor's lines around them.
declarations = "\n".join(
    line
    for line in HEADER.read_text(encoding="utf-8").splitlines()
    if not line.startswith(("#if", "#endif", "#include", "#define SEQ2SEQ_FAST_H"))
)

ffi = cffi.FFI()
ffi.cdef(declarations)
ffi.set_source(
    "seq2seq_fast._native",
    '#include "seq2seq_fast.h"',
    sources=sorted(str(path) for path in Path("csrc").glob("*.c")),
    include_dirs=["csrc"],
    depends=[str(path) for path in Path("csrc").rglob("*.[ch]")],
)
