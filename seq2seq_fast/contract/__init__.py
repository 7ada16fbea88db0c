"""The arithmetic contract in NumPy: what every result of this package is, to the bit.

It is the oracle of the tests and the backend where the compiled kernel is missing. Each operation
below is one IEEE-754 operation per element, rounded to nearest-even in the array's dtype (float32
or float64); what matters is only their order, and this file is where the order is stated:

- ordered_matmul: terms in blocks of 256, each block added left to right, the blocks likewise;
- row_sum: in each block of 256, sixteen strided lanes, folded in halves;
- integers: exact sums of products of rows that were rounded, each by its own scale;
- exp, log, tanh, erf, sincos: from + - * / and operations on bits alone;
- attention and the layers: from these.

NumPy's own sum, matmul, exp and the like appear nowhere: their order of operations changes with
version, machine and memory layout. Work is cut into blocks that stay in the cache, which changes
no bit.
"""

from .dtypes import narrow, rounded, wide
from .float_state import subnormals_kept, under_contract
from .functions import canonical, erf, exp, log, sigmoid, sincos, tanh
from .integers import integer_products, quantise
from .layers import (
    ACTIVATIONS,
    integer_linear,
    layer_norm,
    linear,
    rms_norm,
    softmax,
    ssru_step,
    topk_log_softmax,
)
from .plan import FIRST_KEY, FIRST_QUERY, KEYS, OFFSET, PACKED, QUERIES, SPAN, Plan
from .scaled_dot_product import attention, log_sum_exp
from .sums import BLOCK, LANES, ordered_matmul, row_sum

__all__ = [
    "ACTIVATIONS",
    "BLOCK",
    "FIRST_KEY",
    "FIRST_QUERY",
    "KEYS",
    "LANES",
    "OFFSET",
    "PACKED",
    "QUERIES",
    "SPAN",
    "Plan",
    "attention",
    "canonical",
    "erf",
    "exp",
    "integer_linear",
    "integer_products",
    "layer_norm",
    "linear",
    "log",
    "log_sum_exp",
    "narrow",
    "ordered_matmul",
    "quantise",
    "rms_norm",
    "rounded",
    "row_sum",
    "sigmoid",
    "sincos",
    "softmax",
    "ssru_step",
    "subnormals_kept",
    "tanh",
    "topk_log_softmax",
    "under_contract",
    "wide",
]
