"""fingerprint(): one number that says whether this machine computes what every other one does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from . import contract
from .nn.linear import Linear
from .nn.logits import topk_log_softmax
from .nn.norms import Norm
from .nn.ssru import SSRU
from .nn.weights import WEIGHTS, Matrix
from .sdpa.call import attention, integer_attention

__all__ = ["fingerprint"]

Array = np.ndarray[Any, Any]


@contract.under_contract
def fingerprint() -> str:
    """SHA-256 over the results of fixed problems, on the calling thread's backend.

    It is the same for every backend, instruction set, number of threads and machine, of one version
    of this package. If it is not, something is wrong.

    Returns
    -------
    str
        64 hexadecimal digits.

    Examples
    --------
    >>> from seq2seq_fast import use
    >>> with use(backend="numpy"):
    ...     digits = fingerprint()
    >>> digits == fingerprint()
    True
    """
    import hashlib  # slow to import, and of no use to anything else

    digest = hashlib.sha256()

    def add(array: Array) -> None:
        little = array.astype(array.dtype.newbyteorder("<"))
        digest.update(repr((array.dtype.name, array.shape)).encode())
        digest.update(little.tobytes())

    draw = _Numbers(2026)
    for dtype in (np.dtype(np.float32), np.dtype(np.float64)):
        for heads, key_heads, queries, keys, width, value_width in (
            (2, 1, 1, 16, 64, 64),
            (1, 1, 17, 31, 33, 15),
            (4, 2, 30, 300, 16, 1),
            (1, 1, 5, 700, 257, 40),
        ):
            query = draw((2, heads, queries, width), dtype)
            key = draw((2, key_heads, keys, width), dtype)
            value = draw((2, key_heads, keys, value_width), dtype)
            mask = draw((queries, keys), dtype) > 0
            bias = draw((heads, 1, keys), dtype)
            value[:, :, 3] = np.where(mask[0, 3], value[:, :, 3], np.nan)
            for options in (
                {},
                {"causal": "bottom_right", "bias": bias},
                {"mask": mask, "key_lengths": [keys // 2, keys], "scale": 3.5},
            ):
                for array in attention(query, key, value, return_weights=True, **options):
                    add(array)
            half = [array.astype(np.float16) for array in (query, key, value)]
            mixed = [half, [query, *half[1:]]] if dtype == np.float32 else []
            for arrays in ([query, key, value], *mixed):
                for array in attention(
                    *arrays,
                    causal="bottom_right",
                    window=(100, 0),
                    softcap=3.0,
                    sinks=np.linspace(-1, 1, heads).astype(arrays[0].dtype),
                    return_logsumexp=True,
                ):
                    add(array)
        x = draw((3, 600), dtype)
        add(contract.exp(x * dtype.type(40)))
        for array in contract.softmax(x):
            add(array)
        add(contract.tanh(x))
    query, key, value = (draw((2, 2, rows, 70), np.dtype(np.float32)) for rows in (30, 300, 300))
    out, lengths = np.empty_like(query), np.array([150, 300])
    add(integer_attention(query, key, value, key_lengths=lengths, out=out))
    _add_layers(add, draw)
    for array in contract.sincos(draw((100,), np.dtype(np.float64)) ** 2 * 1e4):
        add(array)
    return digest.hexdigest()


def _add_layers(add: Callable[[Array], None], draw: _Numbers) -> None:
    float32 = np.dtype(np.float32)
    x, rows, bias = draw((5, 300), float32), draw((40, 300), float32), draw((40,), float32)
    other = draw((5, 40), float32)
    for weights in WEIGHTS:
        layer = Linear(Matrix.pack(rows).to(weights), bias)
        for activation in contract.ACTIVATIONS:
            add(layer(x / np.float32(16), activation, residual=other))
        add(layer(x[:1], gate=other[:1]))
    add(Norm(x[0], x[1], 1e-6)(x))
    add(Norm(x[0], None, 1e-6)(x))
    for array in topk_log_softmax(x, 7):
        add(array)
    unit = SSRU(Linear(Matrix.pack(draw((80, 40), float32))))
    other = other[:, None]
    y, cell = unit.step(other, other, unit.start(5))
    y, cell = unit.step(y, other, cell)
    add(y[:, 0])
    add(cell.values)


class _Numbers:
    """Numbers from -2 to 2 that every version of NumPy draws alike: from a generator's raw bits."""

    def __init__(self, seed: int) -> None:
        self._bits = np.random.Philox(key=seed)

    def __call__(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        raw = self._bits.random_raw(int(np.prod(shape)))
        # 24 bits are exact in float32, and so are the steps to its range.
        whole = (raw >> np.uint64(40)).astype(np.int64) - (1 << 23)
        return (whole.astype(dtype) / dtype.type(1 << 22)).reshape(shape)
