"""The compiled kernel's library: the only importer of the extension, and how arrays reach it.

Arrays become addresses and byte strides here. Whatever was not made here passes `contiguous` or
`in_place` first, which see to it that nothing is read misaligned. Without the extension
`why_missing` says why, and nothing else may be called.
"""

from __future__ import annotations

import functools
import os.path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..aligned import contiguous, in_place

__all__ = ["ffi", "lib", "why_missing"]

from ..contract.plan import Plan
from .backend import LinearWeights

if TYPE_CHECKING:
    from ..nn.weights import Matrix

try:
    from .._native import ffi, lib
except ImportError as error:
    why_missing: str | None = f"the compiled kernel is not there ({error}); " + (
        "this is the source tree, where `pip install -e .` puts it"
        if os.path.exists(os.path.join(os.path.dirname(__file__), "..", "..", "setup.py"))
        else "installing the package with a C compiler at hand builds it"
    )
    ffi = lib = None
else:
    why_missing = None

Array = np.ndarray[Any, Any]
Shape = tuple[int, ...]
Strides = tuple[int, ...]
Signature = tuple[Shape, Strides]


def enum(name: str) -> dict[str | None, int]:
    """The numbers of a C enum's members by their names: S2S_FLOAT32 is "float32"."""
    if why_missing:
        return {}
    members: dict[int, str] = ffi.typeof(f"enum {name}").elements
    return {members[number].removeprefix("S2S_").lower(): number for number in sorted(members)}


ALL_ISAS = ("generic", "avx2", "avx512", "avx512_vnni", "neon")  # the least of a processor first
ISA_NUMBERS = enum("s2s_isa")
TYPES = enum("s2s_type")
ACTIVATION_NUMBERS = enum("s2s_activation")


@functools.cache
def struct_dtype(name: str) -> np.dtype[Any]:
    """The aligned dtype of a C struct: its fields at C's offsets, pointers as integers."""
    struct = ffi.typeof(name)
    fields = dict(struct.fields)
    return np.dtype(
        {
            "names": list(fields),
            "formats": [_format(field.type) for field in fields.values()],
            "offsets": [field.offset for field in fields.values()],
            "itemsize": ffi.sizeof(struct),
        },
        align=True,  # an offset or a size that is not aligned is an error
    )


def _format(ctype: Any) -> Any:
    """What NumPy calls one field of a struct."""
    if ctype.kind == "array":
        return (_format(ctype.item), (ctype.length,))
    if ctype.kind == "struct":
        return struct_dtype(ctype.cname)
    if ctype.kind == "pointer":
        return np.uintp
    return {"float": np.float32, "double": np.float64}.get(ctype.cname) or np.dtype(
        ctype.cname.removesuffix("_t")
    )


def _isas(test: Any) -> list[str]:
    return [isa for isa in ALL_ISAS if test(ISA_NUMBERS[isa])]


def compiled_isas() -> list[str]:
    """Instruction sets that the extension holds, the least first."""
    return [] if why_missing else _isas(lib.s2s_isa_compiled)


def usable_isas() -> list[str]:
    """Of those, the ones that this processor and its operating system run."""
    return [] if why_missing else _isas(lib.s2s_isa_usable)


def compiler() -> str | None:
    """Name and version of the compiler that built the extension."""
    return None if why_missing else str(ffi.string(lib.s2s_compiler()).decode())


def readable(array: Array) -> Array:
    return array if in_place(array) else array.copy(order="C")


def first_of(array: Array) -> Any:
    """A pointer to the first element of an array that the kernel can use where it lies."""
    if array.flags.c_contiguous:
        return ffi.from_buffer(array)
    if array.size == 0:
        return ffi.NULL
    # The first row is contiguous; NumPy takes longer to tell an address than to cut it out.
    return ffi.from_buffer(array[(0,) * (array.ndim - 1)])


def operand(array: Array) -> tuple[Any, Array]:
    """A pointer to the first element, and the array, which must outlive it: a copy if need be."""
    flags = array.flags
    if flags.c_contiguous and flags.aligned:
        return ffi.from_buffer(array), array
    array = readable(array)
    return first_of(array), array


def broadcasting(array: Array | None) -> tuple[Any, Array | None, Signature | None]:
    """As operand(), of a mask or bias, whose last axis may also broadcast (stride 0); with its
    shape and strides."""
    if array is None:
        return ffi.NULL, None, None
    if array.ndim == 0:
        array = array[None]
    if array.strides[-1] == 0 and array.flags.aligned:
        pointer = ffi.cast("void *", array.__array_interface__["data"][0])
    else:
        pointer, array = operand(array)
    return pointer, array, (array.shape, array.strides)


@functools.lru_cache(maxsize=1024)
def attention_problem(
    plan: Plan,
    query: Strides,
    key: Strides,
    value: Strides,
    out: Strides,
    mask: Signature | None,
    bias: Signature | None,
    sinks: Signature | None,
    weights: Strides | None,
    statistics: Strides | None,
) -> Any:
    """The C struct of a call, kept for the next call of the same shapes and strides."""
    problem = ffi.new("s2s_attention_problem *")
    problem.type = TYPES[plan.dtype.name]
    problem.key_type = TYPES[plan.key_dtype.name]
    problem.bias_type = TYPES[plan.bias_dtype.name]
    problem.packed = plan.packed
    problem.integer_scores = plan.integer_scores
    problem.lead_axes = len(plan.lead)
    problem.lead[0 : len(plan.lead)] = plan.lead
    problem.heads, problem.key_heads = plan.heads, plan.key_heads
    problem.queries, problem.keys = plan.queries, plan.keys
    problem.width, problem.value_width = plan.width, plan.value_width
    problem.left, problem.right, problem.offset = plan.left, plan.right, plan.offset

    def fill(target: Any, shape: Shape, strides: Strides) -> None:
        # An operand may have fewer axes than the call, or axes of length 1 that broadcast.
        full = [0] * (len(plan.lead) + 3)
        for axis in range(1, len(shape) + 1):
            full[-axis] = 0 if shape[-axis] == 1 else strides[-axis]
        *lead, target.head, target.row, target.column = full
        target.lead[0 : len(lead)] = lead

    for target, shape, strides in (
        (problem.query, plan.query_shape, query),
        # A row of packed keys is a panel; the axis within it is not walked.
        (problem.key, plan.key_shape, key[:-1] if plan.packed else key),
        (problem.value, plan.value_shape, value),
        (problem.out, plan.out_shape, out),
    ):
        fill(target, shape, strides)
    if weights is not None:
        fill(problem.weights, plan.weights_shape, weights)
    if statistics is not None:
        fill(problem.statistics, (*plan.out_shape[:-1], 2), statistics)
    if mask is not None:
        fill(problem.mask, *mask)
    if bias is not None:
        fill(problem.bias, *bias)
    if sinks is not None:
        shape, strides = sinks
        fill(problem.sinks, (*shape, 1, 1), (*strides, 0, 0))
    return problem


class NativeWeights:
    """A matrix and its bias, as the kernel takes them; holds what the struct points to."""

    def __init__(self, matrix: Matrix, bias: Array | None) -> None:
        bias = None if bias is None else contiguous(bias)
        scales = None if matrix.scales is None else contiguous(matrix.scales)
        self.outputs = matrix.outputs
        self.inputs = matrix.inputs
        self._held = (matrix, bias, scales)
        self.struct = ffi.new("s2s_matrix *")
        self.struct.type = TYPES[matrix.type]
        self.struct.inputs, self.struct.outputs = matrix.inputs, matrix.outputs
        self.struct.panels = ffi.from_buffer(matrix.panels)
        self.struct.bias = ffi.NULL if bias is None else floats(bias)
        self.struct.scales = ffi.NULL if scales is None else floats(scales)
        self.struct.input_scale = matrix.input_scale
        self.address = int(ffi.cast("uintptr_t", self.struct))


def floats(array: Array) -> Any:
    return ffi.from_buffer("float *", array)


def integers(array: Array) -> Any:
    return ffi.from_buffer("int64_t *", array)


def strided(array: Array) -> tuple[Array, int]:
    """A float32 array whose rows are equally far apart, and how far; they may overlap."""
    if array.ndim == 2 and not array.flags.c_contiguous and in_place(array):
        row, rest = divmod(array.strides[0], array.itemsize)
        if row > 0 and not rest:
            return array, row
    return contiguous(array), array.shape[-1]


def check(status: int, what: str) -> None:
    """Raises for a status that is not S2S_OK."""
    if status == lib.S2S_NO_SUCH_OP:
        raise RuntimeError(f"{what}: the kernel has no such op")
    if status != lib.S2S_OK:
        raise MemoryError(f"{what}: no memory for the kernel's scratch buffers")


def native_weights(weights: LinearWeights) -> NativeWeights:
    """The C struct of a linear layer's weights, made once."""
    if weights.handle is None:
        weights.handle = NativeWeights(weights.matrix, weights.bias)
    found: NativeWeights = weights.handle
    return found
