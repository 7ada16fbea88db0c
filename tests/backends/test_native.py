"""What Python takes from the C header: enums by name, structs as dtypes."""

from __future__ import annotations

import numpy as np
import pytest

from seq2seq_fast.backends import native
from seq2seq_fast.contract.layers import ACTIVATIONS

if native.why_missing:
    pytest.skip("the extension is not built", allow_module_level=True)

STRUCTS = ["s2s_span", "s2s_strides", "s2s_attention_problem", "s2s_matrix", "s2s_op",
           "s2s_buffer", "s2s_greedy"]  # fmt: skip


def test_enums_have_the_contracts_names():
    assert list(native.enum("s2s_activation")) == list(ACTIVATIONS)
    assert list(native.enum("s2s_isa")) == list(native.ALL_ISAS)
    assert list(native.enum("s2s_type")) == ["float32", "float64", "float16", "bfloat16", "int8"]


def test_numbers_of_instruction_sets_are_those_that_the_kernel_names():
    names = {isa: native.ffi.string(native.lib.s2s_isa_name(number)).decode()
             for isa, number in native.enum("s2s_isa").items()}  # fmt: skip
    assert all(isa == name for isa, name in names.items())


@pytest.mark.parametrize("name", STRUCTS)
def test_a_structs_dtype_is_as_c_lays_it_out(name):
    dtype = native.struct_dtype(name)
    assert dtype.isalignedstruct
    assert dtype.itemsize == native.ffi.sizeof(name)
    fields = dict(native.ffi.typeof(name).fields)
    assert list(dtype.names) == list(fields)
    assert [dtype.fields[field][1] for field in fields] == [f.offset for f in fields.values()]


def test_c_reads_what_numpy_writes():
    array = np.zeros(2, native.struct_dtype("s2s_op"))
    pointers = (13, 14, 15, 16, 17), (18, 19, 20, 21)
    array[1] = (4, 3, 1, 7, 8, 9, 0.5, 10, 11, 12, *pointers, (22, 23, 24))
    op = native.ffi.from_buffer("s2s_op[]", array)[1]
    assert (op.kind, op.choice, op.multiply, op.rows, op.n, op.stride) == (4, 3, 1, 7, 8, 9)
    assert op.number == 0.5 and list(op.buffers) == [22, 23, 24]
    addresses = [op.matrix, op.problem, op.step, *getattr(op, "in"), *op.out]
    assert [int(native.ffi.cast("uintptr_t", a)) for a in addresses] == list(range(10, 22))


def test_structs_inside_structs():
    array = np.zeros(1, native.struct_dtype("s2s_attention_problem"))
    array["lead"][0, :2] = 5, 6
    array["bias"]["row"] = 7
    problem = native.ffi.from_buffer("s2s_attention_problem[]", array)[0]
    assert (problem.lead[1], problem.bias.row) == (6, 7)
