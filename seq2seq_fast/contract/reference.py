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

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, ParamSpec, TypeVar

import numpy as np

from .dtypes import narrow, wide
from .float_state import subnormals_kept

if TYPE_CHECKING:
    from ..sdpa.call import Plan

Array = np.ndarray[Any, Any]
P = ParamSpec("P")
R = TypeVar("R")

BLOCK = 256  # the terms of one block of a sum
LANES = 16  # the lanes of a row sum
CACHED = 1 << 16  # elements of an array that is to stay in the cache
MOST_SCORES = 1 << 19  # scores that are held at a time, about

# The columns of a sequence's span, which the kernel calls s2s_span: its rows of the operands, the
# position of its query 0 among the keys, and how many of packed keys are in panels.
SPAN = FIRST_QUERY, QUERIES, FIRST_KEY, KEYS, OFFSET, PACKED = range(6)


def under_contract(function: Callable[P, R]) -> Callable[P, R]:
    """Decorator: subnormals kept; no warnings for NaN, infinity and overflow, results like any."""

    @functools.wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        with np.errstate(all="ignore"), subnormals_kept():
            return function(*args, **kwargs)

    return wrapper


@under_contract
def rounded(array: Array, dtype: np.dtype[Any]) -> Array:
    """The same numbers in `dtype`, float32 or float64; an axis that broadcasts has length 1."""
    once = array[(..., *(slice(1) if step == 0 else slice(None) for step in array.strides))]
    return wide(once).astype(dtype, copy=False)


# ---- sums ----


def ordered_matmul(a: Array, b: Array, taking_part: Array | None = None) -> Array:
    """Matrix product whose every element is an ordered sum.

    a (..., rows, depth), b (..., depth, cols) give (..., rows, cols); leading axes broadcast.
    Where `taking_part` (..., rows, depth) is False the term is left out: it may be NaN.
    """
    rows, cols = a.shape[-2], b.shape[-1]
    if rows > cols:  # the longer axis innermost; x * y is y * x
        b, a = a.swapaxes(-1, -2), b.swapaxes(-1, -2)
        swapped = None if taking_part is None else taking_part.swapaxes(-1, -2)
        return _ordered_product(a, b, None, swapped).swapaxes(-1, -2)
    return _ordered_product(a, b, taking_part, None)


def _ordered_product(a: Array, b: Array, in_a: Array | None, in_b: Array | None) -> Array:
    """ordered_matmul with the part-taking terms given on a's or on b's side."""
    (rows, depth), cols = a.shape[-2:], b.shape[-1]
    lead = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    product = np.empty((*lead, rows, cols), a.dtype)
    if product.size == 0:
        return product
    b = np.ascontiguousarray(b)
    col_step = min(cols, CACHED)
    row_step = max(1, CACHED // (math.prod(lead) * col_step))
    for row in range(0, rows, row_step):
        for col in range(0, cols, col_step):
            r, c = slice(row, row + row_step), slice(col, col + col_step)
            total = product[..., r, c]
            total[...] = 0
            block, term = np.empty_like(total), np.empty_like(total)
            for start in range(0, depth, BLOCK):
                block[...] = 0
                for k in range(start, min(start + BLOCK, depth)):
                    np.multiply(a[..., r, k : k + 1], b[..., k : k + 1, c], out=term)
                    if in_a is not None:
                        np.copyto(term, 0, where=~in_a[..., r, k : k + 1])
                    if in_b is not None:
                        np.copyto(term, 0, where=~in_b[..., k : k + 1, c])
                    np.add(block, term, out=block)
                np.add(total, block, out=total)
    return product


def row_sum(x: Array) -> Array:
    """Row sums of the last axis, which stays as length 1: x (..., n) gives (..., 1)."""
    n = x.shape[-1]
    blocks = -(-n // BLOCK)
    padded = np.zeros((*x.shape[:-1], blocks * BLOCK), x.dtype)
    padded[..., :n] = x
    terms = padded.reshape(*x.shape[:-1], blocks, BLOCK // LANES, LANES)
    lanes = np.zeros((*x.shape[:-1], blocks, LANES), x.dtype)
    for i in range(BLOCK // LANES):
        lanes = lanes + terms[..., i, :]
    half = LANES // 2
    while half:
        lanes = lanes[..., :half] + lanes[..., half : 2 * half]
        half //= 2
    total = np.zeros((*x.shape[:-1], 1), x.dtype)
    for i in range(blocks):
        total = total + lanes[..., i, :]
    return total


# ---- functions of one number ----


class _Constants(NamedTuple):
    """A float type's layout, and what its exp and log are made of."""

    bits: type[np.signedinteger[Any]]  # the integer of the same size
    mantissa: int
    bias: int
    exp_least: str  # exp is 0 below, where results are not normal numbers
    exp_most: str  # and infinite above
    log2e: str
    ln2_high: str  # few enough bits that a product with sixteenths of an exponent is exact
    ln2_low: str
    exp_poly: tuple[str, ...]  # of (exp(r) - 1 - r) / r^2 on [-ln2/32, ln2/32], highest power first
    tanh_poly: tuple[str, ...]  # the like on [-ln2/2, ln2/2]
    log_terms: int


_CONSTANTS = {
    np.dtype(np.float32): _Constants(
        bits=np.int32,
        mantissa=23,
        bias=127,
        exp_least="-0x1.5cp+6",  # -87
        exp_most="0x1.62e42ep+6",  # the greatest float32 whose exp is finite
        log2e="0x1.715476p+0",
        ln2_high="0x1.62ep-1",
        ln2_low="0x1.0bfbe8p-15",
        exp_poly=("0x1.555734p-3", "0x1.00022p-1"),
        tanh_poly=("0x1.6a23cep-10", "0x1.123a20p-7", "0x1.5558fap-5", "0x1.555492p-3",
                   "0x1.fffffcp-2"),
        log_terms=5,
    ),
    np.dtype(np.float64): _Constants(
        bits=np.int64,
        mantissa=52,
        bias=1023,
        exp_least="-0x1.62p+9",  # -708
        exp_most="0x1.62e42fefa39efp+9",
        log2e="0x1.71547652b82fep+0",
        ln2_high="0x1.62e42fefa4p-1",
        ln2_low="-0x1.8432a1b0e2634p-43",
        exp_poly=("0x1.a01b86a249999p-13", "0x1.6c184177b39f4p-10", "0x1.111111108fbb7p-7",
                  "0x1.555555547f64p-5", "0x1.5555555555559p-3", "0x1.0000000000004p-1"),
        tanh_poly=("0x1.ad7e6d051aaaap-26", "0x1.28ada1d7e48acp-22", "0x1.71df261b6b0e2p-19",
                   "0x1.a01999d9c338cp-16", "0x1.a01a0129f663ap-13", "0x1.6c16c1843cc95p-10",
                   "0x1.1111111127ce6p-7", "0x1.5555555550825p-5", "0x1.55555555554fap-3",
                   "0x1.000000000000ap-1"),
        log_terms=12,
    ),
}  # fmt: skip


# 2^(i / 16), i = 0 .. 15.
_ROOTS_OF_TWO = tuple(
    map(float.fromhex,
        ("0x1p+0", "0x1.0b5586cf9890fp+0", "0x1.172b83c7d517bp+0", "0x1.2387a6e756238p+0",
         "0x1.306fe0a31b715p+0", "0x1.3dea64c123422p+0", "0x1.4bfdad5362a27p+0",
         "0x1.5ab07dd485429p+0", "0x1.6a09e667f3bcdp+0", "0x1.7a11473eb0187p+0",
         "0x1.8ace5422aa0dbp+0", "0x1.9c49182a3f090p+0", "0x1.ae89f995ad3adp+0",
         "0x1.c199bdd85529cp+0", "0x1.d5818dcfba487p+0", "0x1.ea4afa2a490dap+0"))
)  # fmt: skip


def exp(x: Array) -> Array:
    """e^x. Worst error: 0.998 ulp over all float32; 1.00 ulp seen in float64.

    Results below the normal numbers are 0 (x < -87 in float32, x < -708 in float64).
    """
    constants = _CONSTANTS[x.dtype]
    real = x.dtype.type
    number, r = _reduced(x, 16)
    root = np.array(_ROOTS_OF_TWO, x.dtype)[number & 15]
    result = root + root * _expm1(r, constants.exp_poly)
    # Times 2^n: an integer add to the exponent's bits.
    result = (result.view(constants.bits) + (number >> 4 << constants.mantissa)).view(x.dtype)
    result = np.where(x < _number(x, constants.exp_least), real(0), result)
    result = np.where(x > _number(x, constants.exp_most), real(np.inf), result)
    return np.where(np.isnan(x), real(np.nan), result)


def _number(x: Array, hexadecimal: str) -> Any:
    return x.dtype.type(float.fromhex(hexadecimal))


def _reduced(x: Array, parts: int) -> tuple[Array, Array]:
    """x = n ln2 / parts + r gives n, an integer, and r. `parts` is a power of two."""
    constants = _CONSTANTS[x.dtype]
    # Adding the magic number rounds to so many parts, whose count then stands in the low bits.
    magic = x.dtype.type(1.5 * 2.0**constants.mantissa / parts)
    t = x * _number(x, constants.log2e) + magic
    n = t - magic
    r = (x - n * _number(x, constants.ln2_high)) - n * _number(x, constants.ln2_low)
    return t.view(constants.bits) - magic.view(constants.bits), r


def _expm1(r: Array, poly: tuple[str, ...]) -> Array:
    """e^r - 1 of a small r."""
    q = np.full_like(r, _number(r, poly[0]))
    for coefficient in poly[1:]:
        q = q * r + _number(r, coefficient)
    return q * (r * r) + r


def tanh(x: Array) -> Array:
    """Hyperbolic tangent. Worst error: 2.498 ulp over all float32; 2.5 ulp seen in float64."""
    real = x.dtype.type
    # u = exp(-2|x|) - 1, without the loss of digits that this subtraction would have.
    y = np.where(x < 0, x, real(0) - x)
    y = y + y
    least = real(-40 if x.dtype == np.float32 else -80)  # beyond, tanh is 1
    constants = _CONSTANTS[x.dtype]
    n, r = _reduced(np.where(y < least, least, y), 1)
    power = (n + constants.bits(constants.bias) << constants.mantissa).view(x.dtype)
    u = (power - real(1)) + power * _expm1(r, constants.tanh_poly)
    result = (real(0) - u) / (u + real(2))
    result = np.where(x < 0, real(0) - result, result)
    return np.where(x == 0, x, np.where(np.isnan(x), real(np.nan), result))


def log(x: Array) -> Array:
    """Natural logarithm. Worst error: 0.835 ulp over all float32; 0.80 ulp seen in float64."""
    constants = _CONSTANTS[x.dtype]
    real, bits = x.dtype.type, constants.bits
    # x = 2^k (1 + f) with 1 + f between sqrt(1/2) and sqrt(2); subnormals are scaled up first.
    tiny = x < np.finfo(x.dtype).tiny
    scaled = np.where(tiny, x * real(2.0**54), x)
    root = np.sqrt(real(0.5)).view(bits)
    exponent = (scaled.view(bits) - root) >> constants.mantissa
    f = (scaled.view(bits) - (exponent << constants.mantissa)).view(x.dtype) - real(1)
    k = (exponent - np.where(tiny, bits(54), bits(0))).astype(x.dtype)
    # log(1 + f) = f - f^2/2 + s (f^2/2 + series), s = f / (2 + f), series of atanh.
    s = f / (real(2) + f)
    z = s * s
    series = np.zeros_like(x)
    for i in range(constants.log_terms, 0, -1):
        series = (series + real(2.0 / (2 * i + 1))) * z
    half = (real(0.5) * f) * f
    low = s * (half + series) + k * real(float.fromhex(constants.ln2_low))
    result = k * real(float.fromhex(constants.ln2_high)) - ((half - low) - f)
    result = np.where(x == real(np.inf), x, result)
    result = np.where(x == 0, real(-np.inf), result)
    return np.where(np.isnan(x) | (x < 0), real(np.nan), result)


def sincos(x: Array) -> tuple[Array, Array]:
    """Sine and cosine of float64 numbers from 0 to 10^5: the angles of position encodings."""
    magic = 1.5 * 2.0**52
    n = (x * float.fromhex("0x1.45f306dc9c883p-1") + magic) - magic  # 2 / pi
    # pi / 2 in three parts, the first two of 33 bits, so that their products with n are exact.
    r = x - n * float.fromhex("0x1.921fb544p+0")
    r = (r - n * float.fromhex("0x1.0b4611a6p-34")) - n * float.fromhex("0x1.3198a2e037073p-69")
    z = r * r
    sine, cosine = np.zeros_like(x), np.zeros_like(x)
    for i in range(9, 0, -1):
        sine = (sine + (-1) ** i / math.factorial(2 * i + 1)) * z
        cosine = (cosine + (-1) ** i / math.factorial(2 * i)) * z
    sine, cosine = sine * r + r, cosine + 1.0
    quarter = n.astype(np.int64) % 4
    return (
        np.choose(quarter, [sine, cosine, -sine, -cosine]),
        np.choose(quarter, [cosine, -sine, -cosine, sine]),
    )


def erf(x: Array) -> Array:
    """Error function of float32. Worst error: 1.958 ulp over all of them."""
    a = np.where(x < 0, np.float32(0) - x, x)
    a = np.where(a > _ERF_MOST, _ERF_MOST, a)  # beyond, erf is 1
    quarters = a * np.float32(4) - np.float32(0.5)
    rounded = quarters + _WHOLE_MAGIC  # its low bits are the piece's number
    piece = rounded.view(np.int32) & 15
    d = quarters - (rounded - _WHOLE_MAGIC)
    y = _ERF_TABLE[0][piece]
    for coefficients in _ERF_TABLE[1:]:
        y = y * d + coefficients[piece]
    y = a * y
    return canonical(np.where(x < 0, np.float32(0) - y, y))


def _float32s(*hexadecimal: str) -> tuple[np.float32, ...]:
    return tuple(np.float32(float.fromhex(number)) for number in hexadecimal)


_WHOLE_MAGIC = np.float32(3 << 22)

# erf(a) / a in sixteen pieces, each a quarter wide, by the distance from its middle in quarters:
# the coefficients of each power, highest first.
_ERF_MOST = np.float32(3.921875)
_ERF_TABLE = np.array([
    _float32s("-0x1.3ef6a2p-16", "-0x1.7b01a8p-15", "-0x1.7d051cp-15", "-0x1.a30542p-16",
              "-0x1.62d6c8p-21", "0x1.d7de22p-17", "0x1.15582p-16", "0x1.8b4a56p-17",
              "0x1.83f0ccp-18", "0x1.b7ce18p-20", "-0x1.42934ep-22", "-0x1.c5956ap-21",
              "-0x1.ab84aap-21", "-0x1.41755p-21", "-0x1.c03928p-22", "-0x1.336eaep-22"),
    _float32s("0x1.b26736p-12", "0x1.00cfecp-12", "0x1.039aep-17", "-0x1.6bb6cp-13",
              "-0x1.ee48b6p-13", "-0x1.9d3456p-13", "-0x1.e80ae8p-14", "-0x1.7157fap-15",
              "-0x1.0b2998p-21", "0x1.1ec966p-16", "0x1.4a6202p-16", "0x1.141936p-16",
              "0x1.9a712ep-17", "0x1.25015cp-17", "0x1.a0c85ep-18", "0x1.2c04fp-18"),
    _float32s("0x1.c5a77p-11", "0x1.24d5f4p-9", "0x1.671dbp-9", "0x1.367b2cp-9", "0x1.8a2976p-10",
              "0x1.3fc1cep-11", "-0x1.6844dp-16", "-0x1.5d2c2cp-12", "-0x1.ae6c76p-12",
              "-0x1.834a48p-12", "-0x1.3244d2p-12", "-0x1.cac5p-13", "-0x1.52a6bp-13",
              "-0x1.f709a2p-14", "-0x1.7b265ap-14", "-0x1.229a5cp-14"),
    _float32s("-0x1.766ac6p-6", "-0x1.276b5p-6", "-0x1.527662p-7", "-0x1.457a8ep-9",
              "0x1.bbf076p-9", "0x1.ab144ep-8", "0x1.df8a4cp-8", "0x1.b7e9a8p-8", "0x1.6bfbecp-8",
              "0x1.1e31ep-8", "0x1.ba09b4p-9", "0x1.560c04p-9", "0x1.0bd8e2p-9", "0x1.a9f472p-10",
              "0x1.57e982p-10", "0x1.1993dcp-10"),
    _float32s("-0x1.7d8ff6p-6", "-0x1.09ac2ep-4", "-0x1.7edefep-4", "-0x1.b29328p-4",
              "-0x1.ad1538p-4", "-0x1.82ad18p-4", "-0x1.48b7c4p-4", "-0x1.0e9e1ap-4",
              "-0x1.b87062p-5", "-0x1.67575ap-5", "-0x1.284246p-5", "-0x1.ef1beep-6",
              "-0x1.a35764p-6", "-0x1.6793eep-6", "-0x1.37b3d6p-6", "-0x1.10c82ep-6"),
    _float32s("0x1.1f5e1ap+0", "0x1.13e08cp+0", "0x1.fe8f16p-1", "0x1.cacbc2p-1", "0x1.9450bcp-1",
              "0x1.611066p-1", "0x1.3448f8p-1", "0x1.0ee122p-1", "0x1.e09a7ap-2", "0x1.aed2p-2",
              "0x1.8603ep-2", "0x1.642828p-2", "0x1.47ad4p-2", "0x1.2f6828p-2", "0x1.1a7b9p-2",
              "0x1.08421p-2"),
])  # fmt: skip


def sigmoid(x: Array) -> Array:
    """1 / (1 + exp(-x)), from e = exp(-|x|): e / (1 + e) where x is negative."""
    one = x.dtype.type(1)
    e = exp(np.where(x < 0, x, x.dtype.type(0) - x))
    return np.where(x < 0, e, one) / (one + e)


def canonical(x: Array) -> Array:
    """The same, every NaN the positive quiet one without payload."""
    return np.where(np.isnan(x), x.dtype.type(np.nan), x)


# ---- attention ----


@under_contract
def attention(
    plan: Plan,
    query: Array,
    key: Array,
    value: Array,
    scale: float,
    softcap: float,
    mask: Array | None,
    bias: Array | None,
    sinks: Array | None,
    spans: Array | None,
    out: Array,
    weights: Array | None,
    statistics: Array | None,
) -> None:
    """Fills `out` (and `weights`, `statistics`): see seq2seq_fast.attention for the shapes.

    `softcap` 0 is none. `spans` (*lead, 6): see SPAN. `statistics` (..., 2): of each row the
    greatest score and the sum of the weights.
    """
    group = plan.heads // plan.key_heads if plan.key_heads else 1
    pairs = (*plan.lead, plan.heads, plan.queries, plan.keys)
    mask = None if mask is None else np.broadcast_to(mask, pairs)
    bias = None if bias is None else np.broadcast_to(bias, pairs)
    if sinks is not None:
        sinks = np.broadcast_to(sinks, (*plan.lead, plan.heads))
    if spans is None:
        spans = plan.span
    spans = np.broadcast_to(spans, (*plan.lead, len(SPAN)))

    def every_index(array: Array) -> Array:
        """With all leading axes and one of heads."""
        array = array if array.ndim > 2 else array[None]
        return np.broadcast_to(array, (*plan.lead, *array.shape[-3:]))

    query, key, value = every_index(query), every_index(key), every_index(value)
    for index in np.ndindex(plan.lead):
        first_query, queries, first_key, keys, offset, _ = map(int, spans[index])
        rows, columns = (
            slice(first_query, first_query + queries),
            slice(first_key, first_key + keys),
        )

        def result(array: Array, index: Any = index, rows: slice = rows) -> Array:
            array = array if plan.ragged else array[index]
            return (array if array.ndim > 2 else array[None])[:, rows]

        _attend_sequence(
            query[index][:, rows],
            key[index][:, columns],
            value[index][:, columns],
            group,
            plan.dtype,
            (plan.integer_scores, scale, softcap),
            (offset, plan.left, plan.right),
            None if mask is None else mask[index][:, rows, columns],
            None if bias is None else bias[index][:, rows, columns],
            None if sinks is None else sinks[index],
            result(out),
            None if weights is None else result(weights),
            None if statistics is None else result(statistics),
        )


def _attend_sequence(
    query: Array,
    key: Array,
    value: Array,
    group: int,
    dtype: np.dtype[Any],
    parameters: tuple[bool, float, float],
    positions: tuple[int, int, int],
    mask: Array | None,
    bias: Array | None,
    sinks: Array | None,
    out: Array,
    weights: Array | None,
    statistics: Array | None,
) -> None:
    """query (heads, queries, D), key (key heads, keys, D), value (.., keys, Dv), mask and bias
    (heads, queries, keys), sinks (heads,), out (heads, queries, Dv) and so on."""
    heads, queries, keys = len(query), query.shape[1], key.shape[1]
    offset, left, right = positions
    # Rows together are what NumPy's inner loops run over in the weighted sum: many are fast.
    row_step = min(max(16, MOST_SCORES // max(1, keys)), 256, max(1, queries))
    head_step = max(1, CACHED // max(1, keys * row_step))
    for row in range(0, queries, row_step):
        rows = slice(row, min(row + row_step, queries))
        at = np.arange(rows.start, rows.stop)[:, None] + offset
        # What these rows can see at all, from the beginning of a block on.
        begin = max(0, int(at[0, 0]) - left) // BLOCK * BLOCK
        columns = slice(begin, max(begin, min(keys, int(at[-1, 0]) + right + 1)))
        j = np.arange(columns.start, columns.stop)
        near = (j >= at - left) & (j <= at + right)
        for head in range(0, heads, head_step):
            some = slice(head, head + head_step)
            key_heads = np.arange(heads)[some] // group
            visible = near[None]
            if mask is not None:
                visible = visible & mask[some, rows, columns]
            context, e, total, greatest = _attend(
                wide(query[some, rows]),
                wide(key[key_heads, columns]),
                wide(value[key_heads, columns]),
                *parameters,
                visible,
                None if bias is None else wide(bias[some, rows, columns]),
                None if sinks is None else wide(sinks[some]),
            )
            out[some, rows] = narrow(_divide(context, total), dtype)
            if weights is not None:
                weights[some, rows] = narrow(_divide(np.zeros_like(total), total), dtype)
                weights[some, rows, columns] = narrow(_divide(e, total), dtype)
            if statistics is not None:
                statistics[some, rows, :1], statistics[some, rows, 1:] = greatest, total


def _attend(
    query: Array,
    key: Array,
    value: Array,
    integer_scores: bool,
    scale: float,
    softcap: float,
    visible: Array,
    bias: Array | None,
    sinks: Array | None,
) -> tuple[Array, Array, Array, Array]:
    """query (heads, rows, D), key (heads, keys, D), value (heads, keys, Dv), visible (.., keys),
    sinks (heads,) give the undivided context (heads, rows, Dv), e (heads, rows, keys), its sum and
    the greatest score (heads, rows, 1). A row that sees no key has the sum 0."""
    real = query.dtype.type
    if integer_scores:
        s = integer_products(query, key, scale)
    else:
        s = ordered_matmul(query, key.swapaxes(-1, -2)) * real(scale)
    if softcap:
        s = real(softcap) * tanh(s / real(softcap))
    if bias is not None:
        s = s + bias
        visible = visible & (bias != -np.inf)  # it excludes its pair as the mask does, even if NaN
    visible = visible & (s != -np.inf)  # a score of -inf excludes its pair, too
    s = np.where(visible, s, real(-np.inf))
    m = np.fmax.reduce(s, axis=-1, keepdims=True, initial=-np.inf)
    if sinks is not None:
        m = np.fmax(m, sinks[:, None, None])
    shift = np.where(m == -np.inf, real(0), m)
    e = np.where(visible, exp(s - shift), real(0))
    total = row_sum(e)
    sees_none = ~visible.any(axis=-1, keepdims=True)
    if sinks is not None:
        total = np.where(sees_none, total, total + exp(sinks[:, None, None] - shift))
    # A finite value times a weight of 0 adds nothing; a NaN or infinite one has to be left out.
    hidden_matter = not np.isfinite(value).all()
    context = ordered_matmul(e, value, visible if hidden_matter else None)
    return context, e, total, np.where(sees_none, real(-np.inf), m)


@under_contract
def log_sum_exp(statistics: Array, dtype: np.dtype[Any]) -> Array:
    """The logarithm of the sum of exp(score): (..., 2) float64, greatest score and sum, both
    numbers of `dtype`, give (...)."""
    statistics = statistics.astype(dtype)
    return canonical(statistics[..., 0] + log(statistics[..., 1]))


def _divide(x: Array, total: Array) -> Array:
    """x / total, every NaN the positive quiet one without payload. A sum of 0 says that the row
    sees no key, for the greatest visible score has the weight 1: such a row is zeros."""
    return np.where(total == 0, x.dtype.type(0), canonical(x / total))


# ---- layers ----

ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "none": lambda x: x,
    "relu": lambda x: np.where(x < 0, x.dtype.type(0), x),
    "gelu": lambda x: _half_of_one_plus(x, erf(x * np.float32(math.sqrt(0.5)))),
    "gelu_tanh": lambda x: _half_of_one_plus(
        x, tanh(np.float32(math.sqrt(2 / math.pi)) * (x + np.float32(0.044715) * ((x * x) * x)))
    ),
    "gelu_sigmoid": lambda x: x * sigmoid(np.float32(1.702) * x),
    "silu": lambda x: x * sigmoid(x),
    "tanh": tanh,
    "sigmoid": sigmoid,
}
"""By name; the kinds of GELU are of float32: Hendrycks and Gimpel, 2016."""


def _half_of_one_plus(x: Array, y: Array) -> Array:
    return (x * x.dtype.type(0.5)) * (x.dtype.type(1) + y)


@under_contract
def linear(
    x: Array,
    weight: Array,
    bias: Array | None = None,
    activation: str = "none",
    plus: Array | None = None,
    times: Array | None = None,
) -> Array:
    """activation(x W + bias), then plus or times an array of the result's shape: x (..., in),
    weight (in, out), bias (out,) give (..., out)."""
    rows = x.reshape(math.prod(x.shape[:-1]), x.shape[-1])
    return _finish(x, ordered_matmul(rows, weight), bias, activation, plus, times)


@under_contract
def integer_linear(
    x: Array,
    weight: Array,
    scales: Array,
    input_scale: float,
    bias: Array | None = None,
    activation: str = "none",
    plus: Array | None = None,
    times: Array | None = None,
) -> Array:
    """The like with weights of eight-bit integers (in, out), which are what the real ones gave when
    they were multiplied by `scales` (out,).

    Inputs are multiplied by `input_scale`, or if that is 0 by 127 / the greatest of their row, and
    rounded to -127 .. 127. The sums of products are exact.
    """
    rows = x.reshape(math.prod(x.shape[:-1]), x.shape[-1])
    q, scale = quantise(rows, np.float32(input_scale))
    y = _sums_of_integers(q, weight) * (np.float32(1) / (scale * scales))
    return _finish(x, y, bias, activation, plus, times)


def integer_products(query: Array, key: Array, scale: float) -> Array:
    """Scores (.., rows, keys) of query (.., rows, D) and key (.., keys, D), of which each row is
    rounded to integers by its own scale: a sum of products times (scale / the query row's * (1 /
    the key's))."""
    q, query_scales = quantise(query, np.float32(0))
    k, key_scales = quantise(key, np.float32(0))
    one = np.float32(1)
    return _sums_of_integers(q, k.swapaxes(-1, -2)) * (
        (np.float32(scale) / query_scales) * (one / key_scales).swapaxes(-1, -2)
    )


def _sums_of_integers(a: Array, b: Array) -> Array:
    """a @ b in float32. Far below 2^53, float64 holds the sums exactly, in any order."""
    return (a.astype(np.float64) @ b.astype(np.float64)).astype(np.float32)


def quantise(rows: Array, scale: np.float32) -> tuple[Array, Array]:
    """Rows (.., width) as integers -127 .. 127 (.., width), and what they were multiplied by
    (.., 1): `scale`, or if that is 0 a row's own. A row that is not finite has the scale NaN."""
    greatest = np.abs(rows).max(axis=-1, keepdims=True, initial=np.float32(2.0**-100))
    scales = np.full_like(greatest, scale) if scale else np.float32(127) / greatest
    finite = np.isfinite(rows).all(axis=-1, keepdims=True)
    q = np.rint(np.clip(rows * scales, -127, 127))
    return np.where(finite, q, np.float32(0)), np.where(finite, scales, np.float32(np.nan))


def _finish(
    x: Array,
    y: Array,
    bias: Array | None,
    activation: str,
    plus: Array | None,
    times: Array | None,
) -> Array:
    if bias is not None:
        y = y + bias
    y = ACTIVATIONS[activation](y).reshape(*x.shape[:-1], y.shape[-1])
    if plus is not None:
        y = y + plus
    if times is not None:
        y = y * times
    return canonical(y)


@under_contract
def layer_norm(x: Array, gamma: Array, beta: Array, eps: float) -> Array:
    """Ba et al., "Layer Normalization", 2016, over the last axis: x (..., n), gamma, beta (n,)."""
    n = x.dtype.type(x.shape[-1])
    centred = x - row_sum(x) / n
    variance = row_sum(centred * centred) / n
    return canonical(centred / np.sqrt(variance + x.dtype.type(eps)) * gamma + beta)


@under_contract
def rms_norm(x: Array, gamma: Array, eps: float) -> Array:
    """Zhang and Sennrich, "Root Mean Square Layer Normalization", 2019: x (..., n), gamma (n,)."""
    mean = row_sum(x * x) / x.dtype.type(x.shape[-1])
    return canonical(x / np.sqrt(mean + x.dtype.type(eps)) * gamma)


@under_contract
def recur(gates: Array, cell: Array, plus: Array) -> tuple[Array, Array]:
    """One step of an SSRU, see layers.SSRU: gates (rows, 2 n), the candidate and the forget gate's
    argument, cell and plus (rows, n) give plus + relu(new cell), and the new cell."""
    candidate, forget = np.split(gates, 2, axis=-1)
    f = sigmoid(forget)
    cell = f * cell + (np.float32(1) - f) * candidate
    return canonical(plus + ACTIVATIONS["relu"](cell)), canonical(cell)


@under_contract
def softmax(x: Array) -> tuple[Array, Array]:
    """Probabilities over the last axis and their logarithms: x (..., n) gives twice (..., n)."""
    greatest = np.fmax.reduce(x, axis=-1, keepdims=True, initial=-np.inf)
    shifted = x - np.where(greatest == -np.inf, x.dtype.type(0), greatest)
    e = exp(shifted)
    total = row_sum(e)
    return canonical(e / total), canonical(shifted - log(total))


@under_contract
def best(logits: Array, count: int) -> tuple[Array, Array, Array]:
    """Of each row of logits (rows, n) the `count` greatest, in order, of equal ones the first (NaN
    counts as -inf): ids and log-probabilities (rows, count), and what is to be subtracted from a
    logit, and then again, to give its log-probability (rows, 2)."""
    known = np.where(np.isnan(logits), logits.dtype.type(-np.inf), logits)
    ids = np.argsort(-known, axis=-1, kind="stable")[:, :count].astype(np.int64)
    values = np.take_along_axis(known, ids, axis=-1)
    shift = np.where(values[:, :1] == -np.inf, logits.dtype.type(0), values[:, :1])
    log_total = log(row_sum(exp(logits - shift)))
    statistics = np.concatenate([shift, log_total], axis=1)
    log_probabilities = canonical((values - shift) - log_total)
    # Where nothing is possible, neither is this.
    return ids, np.where(values == -np.inf, values, log_probabilities), statistics
