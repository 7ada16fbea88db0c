"""Types of the compiled extension, which exports what cffi made of csrc/seq2seq_fast.h."""

from typing import Any

ffi: Any
lib: Any
