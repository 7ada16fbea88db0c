"""The layers of models, on rows of float32."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import numpy as np

if TYPE_CHECKING:
    pass
from .float_state import under_contract
from .functions import canonical, erf, exp, log, sigmoid, tanh
from .integers import quantise, sums_of_integers
from .sums import ordered_matmul, row_sum

Array = np.ndarray[Any, Any]
P = ParamSpec("P")
R = TypeVar("R")


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
    residual: Array | None = None,
    gate: Array | None = None,
) -> Array:
    """activation(x W + bias), then plus `residual` or times `gate`, arrays of the result's
    shape: x (..., in),
    weight (in, out), bias (out,) give (..., out)."""
    rows = x.reshape(math.prod(x.shape[:-1]), x.shape[-1])
    return _epilogue(x, ordered_matmul(rows, weight), bias, activation, residual, gate)


@under_contract
def integer_linear(
    x: Array,
    weight: Array,
    scales: Array,
    input_scale: float,
    bias: Array | None = None,
    activation: str = "none",
    residual: Array | None = None,
    gate: Array | None = None,
) -> Array:
    """Linear with weights of eight-bit integers (in, out), which are what the real ones gave when
    they were multiplied by `scales` (out,).

    Inputs are multiplied by `input_scale`, or if that is 0 by 127 / the greatest of their row, and
    rounded to -127 .. 127. The sums of products are exact.
    """
    rows = x.reshape(math.prod(x.shape[:-1]), x.shape[-1])
    q, scale = quantise(rows, np.float32(input_scale))
    y = sums_of_integers(q, weight) * (np.float32(1) / (scale * scales))
    return _epilogue(x, y, bias, activation, residual, gate)


def _epilogue(
    x: Array,
    y: Array,
    bias: Array | None,
    activation: str,
    residual: Array | None,
    gate: Array | None,
) -> Array:
    if bias is not None:
        y = y + bias
    y = ACTIVATIONS[activation](y).reshape(*x.shape[:-1], y.shape[-1])
    if residual is not None:
        y = y + residual
    if gate is not None:
        y = y * gate
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
def ssru_step(gates: Array, state: Array, residual: Array) -> tuple[Array, Array]:
    """One step of an SSRU, see nn.ssru: gates (rows, 2 n), the candidate and the forget gate's
    argument, state and residual (rows, n) give residual + relu(new state), and the new state."""
    candidate, forget = np.split(gates, 2, axis=-1)
    f = sigmoid(forget)
    state = f * state + (np.float32(1) - f) * candidate
    return canonical(residual + ACTIVATIONS["relu"](state)), canonical(state)


@under_contract
def softmax(x: Array) -> tuple[Array, Array]:
    """Probabilities over the last axis and their logarithms: x (..., n) gives twice (..., n)."""
    greatest = np.fmax.reduce(x, axis=-1, keepdims=True, initial=-np.inf)
    shifted = x - np.where(greatest == -np.inf, x.dtype.type(0), greatest)
    e = exp(shifted)
    total = row_sum(e)
    return canonical(e / total), canonical(shifted - log(total))


@under_contract
def topk_log_softmax(logits: Array, count: int) -> tuple[Array, Array, Array]:
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
