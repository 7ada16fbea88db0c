"""The layers of encoder-decoder models: weights and an equation each, float32.

Each runs on the calling thread's backend, with the same bits on all of them.
Arrays are (batch, time, features). A row's result depends on
that row (and, for attention and convolution, on its sequence) alone.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..backends import native
from ..backends.selection import current
from ..checks import shown, token_ids
from ..contract import reference
from ..pickling import Part
from ..sdpa.cache import PANEL, KeyValueCache
from ..sdpa.call import attention, integer_attention
from .weights import Matrix, check_floats

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, eq=False)
class Linear(Part):
    """activation(x W + b)."""

    matrix: Matrix
    bias: Array | None = None  # (outputs,)

    def __post_init__(self) -> None:
        if self.bias is not None:
            check_floats("bias", self.bias, self.matrix.outputs)

    @functools.cached_property
    def weights(self) -> native.Weights:
        """The layer as the kernel takes it."""
        return native.Weights(self.matrix, self.bias)

    def __call__(
        self,
        x: Array,
        activation: str = "none",
        *,
        plus: Array | None = None,
        times: Array | None = None,
        out: Array | None = None,
    ) -> Array:
        """x (..., inputs) -> (..., outputs), at last plus or times an array of that shape; into
        `out`, a contiguous one, if it is given."""
        active = current()
        if active.backend == "native":
            return native.linear(self.weights, active, x, activation, plus, times, out)
        matrix = self.matrix
        if matrix.scales is None:
            weight = matrix.rows().T
            result = reference.linear(x, weight, self.bias, activation, plus, times)
        else:
            result = reference.integer_linear(
                x,
                matrix.integers().T,
                matrix.scales[: matrix.outputs],
                matrix.input_scale,
                self.bias,
                activation,
                plus,
                times,
            )
        if out is None:
            return result
        out[...] = result
        return out

    def select(self, ids: Array) -> Linear:
        """The layer of the given outputs alone."""
        if current().backend == "native":
            matrix = native.select(self.weights, self.matrix, ids)
        else:
            matrix = self.matrix.select(ids)
        return Linear(matrix, None if self.bias is None else self.bias[ids])

    @staticmethod
    def side_by_side(*layers: Linear) -> Linear:
        """One layer whose outputs are those of `layers`, in turn: fewer, larger products."""
        matrix = Matrix.stack(*(layer.matrix for layer in layers))
        if all(layer.bias is None for layer in layers):
            return Linear(matrix)
        biases = [
            np.zeros(layer.matrix.outputs, np.float32) if layer.bias is None else layer.bias
            for layer in layers
        ]
        return Linear(matrix, np.concatenate(biases))


@dataclass(frozen=True, eq=False)
class Convolution:
    """Over time, as long as its input and centred: a linear layer of `kernel` rows of the input,
    which lie one after the other. Rows before the first and past the last are zeros."""

    linear: Linear  # of kernel * channels inputs
    kernel: int
    stride: int = 1

    def __post_init__(self) -> None:
        divides = self.kernel > 0 and self.linear.matrix.inputs % self.kernel == 0
        if not divides or not 1 <= self.stride <= self.kernel:  # or rows would be passed over
            inputs = self.linear.matrix.inputs
            raise ValueError(f"no convolution: {inputs} inputs, {self.kernel=}, {self.stride=}")

    @property
    def channels(self) -> int:
        return self.linear.matrix.inputs // self.kernel

    def padded(self, time: int) -> tuple[Array, Array]:
        """Room for an input with the zeros around it, and a view (time, channels) of the input."""
        padded = np.empty((time + self.kernel - 1, self.channels), np.float32)
        before = (self.kernel - 1) // 2
        padded[:before] = padded[before + time :] = 0
        return padded, padded[before : before + time]

    def length(self, time: int) -> int:
        """How many rows come of so many."""
        return -(-time // self.stride)

    def __call__(
        self,
        padded: Array,
        activation: str = "none",
        *,
        plus: Array | None = None,
        out: Array | None = None,
    ) -> Array:
        """What padded() gave -> (length, outputs), at last plus the like; into `out`, if given."""
        row, column = padded.strides
        windows = np.lib.stride_tricks.as_strided(
            padded,
            (self.length(len(padded) - self.kernel + 1), self.linear.matrix.inputs),
            (self.stride * row, column),
            writeable=False,
        )
        return self.linear(windows, activation, plus=plus, out=out)


@dataclass(frozen=True, eq=False)
class Norm:
    """Layer norm: (x - mean) / sqrt(variance + eps) * gamma + beta (Ba et al., 2016). Without beta,
    RMS norm: x / sqrt(mean of x^2 + eps) * gamma (Zhang and Sennrich, 2019)."""

    gamma: Array  # (features,)
    beta: Array | None
    eps: float

    def __post_init__(self) -> None:
        check_floats("gamma", self.gamma, self.gamma.size)
        if self.beta is not None:
            check_floats("beta", self.beta, self.gamma.size)

    def __call__(self, x: Array) -> Array:
        active = current()
        if active.backend == "native":
            return native.norm(active, x, self.gamma, self.beta, self.eps)
        if self.beta is None:
            return reference.rms_norm(x, self.gamma, self.eps)
        return reference.layer_norm(x, self.gamma, self.beta, self.eps)


def must_equal(what: str, *numbers: int) -> None:
    """Raises ValueError unless widths that have to fit each other do."""
    if len(set(numbers)) > 1:
        raise ValueError(f"{what} do not fit each other: {numbers}")


def must_be_known(activation: str) -> None:
    """Raises ValueError unless there is such an activation."""
    if activation not in reference.ACTIVATIONS:
        raise ValueError(f"activation {activation!r} is not known")


def best(logits: Array, count: int) -> tuple[Array, Array, Array]:
    """The likeliest of each row: see reference.best."""
    active = current()
    if active.backend == "native":
        return native.best(active, logits, count)
    return reference.best(logits, count)


# ---- embeddings ----


@dataclass(frozen=True, eq=False)
class Sinusoids:
    """Position vectors of Vaswani et al., 2017, section 3.5, sines in the first half and cosines in
    the second: sin(p * 10000^(-i / (width / 2 - 1)))."""

    width: int
    first: int = 0  # the position of the first token

    def __post_init__(self) -> None:
        if self.width % 2 or self.width < 4 or not 0 <= self.first <= 1:
            raise ValueError(f"no sinusoids of width {self.width} from {self.first}")

    @property
    def most(self) -> int:
        """Tokens that there are vectors for."""
        return 1 << 62

    def __call__(self, start: int, count: int) -> Array:
        """The vectors of `count` tokens from the token `start` on: (count, width)."""
        start += self.first
        known = 64
        while known < start + count:
            known *= 2
        return sinusoids(known, self.width)[start : start + count]


@functools.lru_cache(maxsize=16)
def sinusoids(count: int, width: int) -> Array:
    """Of the positions from 0: (count, width)."""
    half = width // 2
    rate = -reference.log(np.array([1e4])) / (half - 1)
    angles = np.arange(count)[:, None] * reference.exp(np.arange(half) * rate)
    table = np.concatenate(reference.sincos(angles), axis=1).astype(np.float32)
    table.flags.writeable = False
    return table


@dataclass(frozen=True, eq=False)
class LearnedPositions:
    """One vector for each position that the model has seen."""

    table: Array  # (positions, width)

    def __post_init__(self) -> None:
        if self.table.ndim != 2 or self.table.dtype != np.float32:
            raise ValueError(f"positions are {self.table.shape} {self.table.dtype}")

    @property
    def width(self) -> int:
        return int(self.table.shape[1])

    @property
    def most(self) -> int:
        """Tokens that there are vectors for."""
        return len(self.table)

    def __call__(self, start: int, count: int) -> Array:
        """The vectors of `count` tokens from the token `start` on: (count, width)."""
        if start + count > len(self.table):
            raise ValueError(
                f"the model knows {len(self.table)} positions; got a sequence of {start + count}"
            )
        return self.table[start : start + count]


@dataclass(frozen=True, eq=False)
class Embedding(Part):
    """norm(table[id] * scale + position)."""

    matrix: Matrix  # an output for each token
    scale: float
    positions: Sinusoids | LearnedPositions | None
    norm: Norm | None = None

    def __post_init__(self) -> None:
        if self.positions is not None:
            must_equal("widths of an embedding", self.width, self.positions.width)
        if self.norm is not None:
            must_equal("widths of an embedding", self.width, self.norm.gamma.size)

    @functools.cached_property
    def weights(self) -> native.Weights:
        """The table as the kernel takes it."""
        return native.Weights(self.matrix, None)

    @property
    def size(self) -> int:
        """Tokens in the vocabulary."""
        return self.matrix.outputs

    @property
    def width(self) -> int:
        return self.matrix.inputs

    def batch(self, sources: Sequence[Any]) -> tuple[Array, Array]:
        """Sequences of token ids -> (batch, time, features) and each one's length.

        Raises
        ------
        TypeError, ValueError
            No sequence, an empty one, or an id that is not in the vocabulary; the message names the
            sequence.
        """
        if len(sources) == 0:
            raise ValueError("sources must hold at least one sequence")
        every = []
        for i, ids in enumerate(sources):
            name = f"sources[{i}]"
            given = token_ids(name, ids)
            if not len(given):
                raise ValueError(f"{name} must not be empty")
            every.append(checked_ids(given, self.size, name))
            _check_positions(name, self.positions, len(given))
        lengths = [len(ids) for ids in every]
        padded = np.zeros((len(every), max(lengths)), np.int64)
        for row, ids in zip(padded, every, strict=True):
            row[: len(ids)] = ids
        return self(padded), np.array(lengths, np.int64)

    def __call__(self, ids: Array, start: int = 0) -> Array:
        """ids (batch, time) -> (batch, time, features); the first is the token `start`."""
        rows = self.matrix.rows(ids.reshape(-1)).reshape(*ids.shape, self.width)
        if self.scale != 1:
            rows = rows * np.float32(self.scale)
        return self.placed(rows, start)

    def placed(self, rows: Array, start: int) -> Array:
        """What becomes of scaled token vectors (batch, time, features)."""
        if self.positions is not None:
            rows = rows + self.positions(start, rows.shape[1])
        return rows if self.norm is None else self.norm(rows)


def _check_positions(name: str, positions: Sinusoids | LearnedPositions | None, time: int) -> None:
    """Raises ValueError unless the model has positions for a source."""
    if positions is not None and time > positions.most:
        raise ValueError(
            f"{name} must take at most {positions.most} positions, as the model has; got {time}"
        )


def checked_ids(ids: Array, size: int, name: str) -> Array:
    """Themselves, if they are integers from 0 to size - 1."""
    if ids.dtype.kind not in "iu":
        raise TypeError(f"{name} must be integers; got {ids.dtype}")
    if ids.size and (ids.min() < 0 or ids.max() >= size):
        raise ValueError(f"{name} must be from 0 to {size - 1}; got {ids.min()} to {ids.max()}")
    return ids


@dataclass(frozen=True, eq=False)
class SpectrumEmbedding:
    """What stands in place of an embedding where the source is sound: two convolutions of its
    spectrum, and positions (Radford et al., "Robust Speech Recognition via Large-Scale Weak
    Supervision", 2022, section 2.2)."""

    first: Convolution
    second: Convolution
    positions: LearnedPositions
    activation: str = "gelu"

    def __post_init__(self) -> None:
        must_equal(
            "widths of a spectrum's embedding", self.first.linear.matrix.outputs,
            self.second.channels, self.second.linear.matrix.outputs, self.positions.width,
        )  # fmt: skip
        must_be_known(self.activation)

    @property
    def width(self) -> int:
        return self.positions.width

    @property
    def bands(self) -> int:
        """Frequencies of a spectrum."""
        return self.first.channels

    def batch(self, sources: Sequence[Any]) -> tuple[Array, Array]:
        """Spectra (frames, bands) float32 -> (batch, time, features) and each one's length.

        Raises
        ------
        TypeError, ValueError
            No spectrum, an empty one, or one of another shape or type.
        """
        if len(sources) == 0:
            raise ValueError("sources must hold at least one spectrum")
        for i, spectrum in enumerate(sources):
            if not isinstance(spectrum, np.ndarray) or spectrum.dtype != np.float32:
                what = spectrum.dtype if isinstance(spectrum, np.ndarray) else shown(spectrum)
                raise TypeError(f"sources[{i}] must be an array of float32; got {what}")
            if spectrum.ndim != 2 or spectrum.shape[1] != self.bands or not len(spectrum):
                raise ValueError(
                    f"sources[{i}] must have the shape (frames, {self.bands}); got {spectrum.shape}"
                )
            time = self.second.length(self.first.length(len(spectrum)))
            _check_positions(f"sources[{i}]", self.positions, time)
        every = [self._one(spectrum) for spectrum in sources]
        lengths = np.array([len(x) for x in every], np.int64)
        if len(every) == 1:
            return every[0][None], lengths
        padded = np.zeros((len(every), lengths.max(), self.width), np.float32)
        for row, x in zip(padded, every, strict=True):
            row[: len(x)] = x
        return padded, lengths

    def _one(self, spectrum: Array) -> Array:
        """(frames, bands) -> (time, features)."""
        padded, inner = self.first.padded(len(spectrum))
        inner[:] = spectrum
        time = self.first.length(len(spectrum))
        between, inner = self.second.padded(time)
        self.first(padded, self.activation, out=inner)
        positions = self.positions(0, self.second.length(time))
        return self.second(between, self.activation, plus=positions)


# ---- sublayers: x -> plus + f(x) ----

SOME_ROWS = 24 * PANEL
"""Rows of keys and values that are made at a time, so that they are stored out of the cache."""


@dataclass(frozen=True, eq=False)
class FeedForward:
    """activation(x W1 + b1) W2 + b2; gated: (activation(x W1 + b1) * (x V + c)) W2 + b2
    (Shazeer, "GLU Variants Improve Transformer", 2020)."""

    up: Linear
    down: Linear
    activation: str = "relu"
    gate: Linear | None = None  # V, c

    def __post_init__(self) -> None:
        gate = self.up.matrix if self.gate is None else self.gate.matrix
        up, down = self.up.matrix, self.down.matrix
        must_equal("widths of a feed-forward layer", up.outputs, gate.outputs, down.inputs)
        must_equal("widths of a feed-forward layer", up.inputs, gate.inputs, down.outputs)
        must_be_known(self.activation)

    @property
    def width(self) -> int:
        return self.up.matrix.inputs

    def __call__(self, x: Array, plus: Array) -> Array:
        """x, plus and the result (..., features)."""
        hidden = self.up(x, self.activation)
        if self.gate is not None:
            hidden = self.gate(x, times=hidden)
        return self.down(hidden, plus=plus)


@dataclass(frozen=True, eq=False)
class Heads:
    """How features divide into heads: Vaswani et al., 2017, section 3.2.2; with fewer key heads,
    Ainslie et al., "GQA", 2023."""

    count: int
    keys: int
    width: int  # of one head

    def __post_init__(self) -> None:
        if min(self.count, self.keys, self.width) < 1 or self.count % self.keys:
            raise ValueError(f"no heads: {self}")

    @property
    def query_width(self) -> int:
        return self.count * self.width

    @property
    def key_width(self) -> int:
        return self.keys * self.width

    def split(self, x: Array) -> Array:
        """(batch, time, features) -> (batch, heads, time, width), a view."""
        batch, time, features = x.shape
        return x.reshape(batch, time, features // self.width, self.width).transpose(0, 2, 1, 3)

    def keys_values(self, both: Array) -> tuple[Array, Array]:
        """Keys and values side by side (batch, time, features) -> each (batch, heads, ...)."""
        return self.split(both[..., : self.key_width]), self.split(both[..., self.key_width :])


@dataclass(frozen=True, eq=False)
class SelfAttention:
    """Attention of a sequence to itself: over all of it in an encoder, over what came before in
    a decoder."""

    projection: Linear  # queries, keys and values side by side
    output: Linear
    heads: Heads

    def __post_init__(self) -> None:
        heads, projection, output = self.heads, self.projection.matrix, self.output.matrix
        must_equal(
            "widths of attention", projection.outputs, heads.query_width + 2 * heads.key_width
        )
        must_equal("widths of attention", output.inputs, heads.query_width)
        must_equal("widths of attention", output.outputs, projection.inputs)

    @property
    def width(self) -> int:
        return self.projection.matrix.inputs

    def attend(
        self, every: Array, lengths: Array | None, merged: Array, integer_scores: bool = False
    ) -> None:
        """What the projection gave, in heads (batch, heads, time, width), of which `lengths` are
        there, (batch,) -> what the output layer takes, into merged (batch, time, features)."""
        count, keys = self.heads.count, self.heads.keys
        query, key, value = np.split(every, [count, count + keys], axis=1)
        function = integer_attention if integer_scores else attention
        function(query, key, value, key_lengths=lengths, out=self.heads.split(merged))

    def start(self, rows: int) -> History:
        """What a decoder's step needs of the steps before: nothing yet."""
        return History(KeyValueCache(rows, self.heads.keys, self.heads.width, capacity=32), 0)

    def step(self, x: Array, plus: Array, history: History) -> tuple[Array, History]:
        """x (rows, time, features): each token attends to those before it, and to itself."""
        width = self.heads.query_width
        every = self.projection(x)
        history = history.append(*self.heads.keys_values(every[..., width:]))
        merged = np.empty((*x.shape[:2], width), np.float32)
        attention(
            self.heads.split(every[..., :width]),
            history.cache,
            causal="bottom_right" if x.shape[1] > 1 else False,
            out=self.heads.split(merged),
        )
        return self.output(merged, plus=plus), history


class History:
    """Keys and values of a decoder's steps so far. Never changes, as its holder sees it: histories
    that follow each other share a cache, and one that branches off gets a copy."""

    def __init__(self, cache: KeyValueCache, length: int) -> None:
        self.cache, self.length = cache, length

    def append(self, keys: Array, values: Array) -> History:
        """With some steps more: (rows, heads, steps, width) each."""
        cache, tape = self.cache, current().tape
        if tape is not None:
            tape.append(cache, keys, values)
            return self
        if cache.lengths[0] > self.length:
            cache = cache.copy()
            cache.truncate(self.length)
        cache.append(keys, values)
        return History(cache, self.length + keys.shape[2])

    def select(self, rows: Array) -> History:
        """Of the given rows."""
        cache = self.cache.select(rows)
        cache.truncate(self.length)
        return History(cache, self.length)


@dataclass(frozen=True, eq=False)
class CrossAttention:
    """Attention of a decoder to the encoder's memory."""

    query: Linear
    key_value: Linear  # keys and values side by side
    output: Linear
    heads: Heads

    def __post_init__(self) -> None:
        heads, output = self.heads, self.output.matrix
        must_equal("widths of attention", self.query.matrix.outputs, heads.query_width)
        must_equal("widths of attention", self.key_value.matrix.outputs, 2 * heads.key_width)
        must_equal("widths of attention", output.inputs, heads.query_width)
        must_equal("widths of attention", output.outputs, self.query.matrix.inputs)

    @property
    def width(self) -> int:
        return self.query.matrix.inputs

    def remember(self, memory: Array, lengths: Array) -> KeyValueCache:
        """Keys and values of a memory (batch, time, features), its first `lengths` of time."""
        batch, time, _ = memory.shape
        cache = KeyValueCache(batch, self.heads.keys, self.heads.width, capacity=time)
        # Some sequences at a time, or some panels of a long one.
        some = max(1, SOME_ROWS // time)
        for first in range(0, batch, some):
            which = slice(first, first + some)
            for start in range(0, time, SOME_ROWS):
                both = self.key_value(memory[which, start : start + SOME_ROWS])
                cache.store(start, *self.heads.keys_values(both), which)
        cache.set_lengths(lengths)
        return cache

    def step(
        self, x: Array, plus: Array, memory: KeyValueCache, return_weights: bool
    ) -> tuple[Array, Array | None]:
        """x (rows, time, features), the same number of rows to each sequence of the memory: the
        result and, if asked, the weights (rows, heads, time, longest)."""
        rows, time, _ = x.shape
        sequences, width = len(memory.lengths), self.heads.query_width
        query = self.heads.split(self.query(x).reshape(sequences, -1, width))
        merged = np.empty((sequences, query.shape[2], width), np.float32)
        out = self.heads.split(merged)
        found = attention(query, memory, out=out, return_weights=return_weights)
        weights = None
        if return_weights:
            each = found[1].reshape(sequences, self.heads.count, rows // sequences, time, -1)
            weights = each.swapaxes(1, 2).reshape(rows, self.heads.count, time, -1)
        return self.output(merged.reshape(rows, time, width), plus=plus), weights


@dataclass(frozen=True, eq=False)
class SSRU:
    """Simpler simple recurrent unit: Kim et al., "From Research to Production and Back", 2019.

    f = sigmoid(x Wf + bf);  c' = f c + (1 - f) (x W);  the output is relu(c').
    """

    gates: Linear  # W and Wf side by side

    def __post_init__(self) -> None:
        must_equal("widths of an SSRU", self.gates.matrix.outputs, 2 * self.gates.matrix.inputs)

    @property
    def width(self) -> int:
        return self.gates.matrix.inputs

    def start(self, rows: int) -> Cell:
        """c before the first step."""
        return Cell(np.zeros((rows, self.gates.matrix.outputs // 2), np.float32))

    def step(self, x: Array, plus: Array, cell: Cell) -> tuple[Array, Cell]:
        """x (rows, time, features): one token after the other."""
        active = current()
        gates = self.gates(x)
        outputs = []
        for t in range(x.shape[1]):
            now = (gates[:, t], cell.values, plus[:, t])
            if active.backend == "native":
                y, values = native.recur(active, *now)
            else:
                y, values = reference.recur(*now)
            outputs.append(y)
            cell = Cell(values)
        return outputs[0][:, None] if len(outputs) == 1 else np.stack(outputs, axis=1), cell


@dataclass(frozen=True, eq=False)
class Cell:
    """A recurrent unit's state."""

    values: Array  # (rows, features)

    def select(self, rows: Array) -> Cell:
        """Of the given rows."""
        return Cell(self.values[rows])
