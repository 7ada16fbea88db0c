"""Matrix: the weights of a linear layer, packed once as the kernel reads them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from ..aligned import aligned_zeros
from ..contract.dtypes import BFLOAT16, bare, is_bfloat16, narrow, wide
from ..contract.panels import PANEL
from ..pickling import Part

__all__ = ["WEIGHTS", "Matrix"]

Array = np.ndarray[Any, Any]

QUAD = 4  # eight-bit inputs that lie together
OFFSETS = np.uint32(0x80808080)  # a quad of eight-bit weights is stored plus 128, each
SOME_WEIGHTS = 1 << 18  # that are read and packed at a time

WEIGHTS = ("float32", "float16", "int8")
"""What a model's matrices can be kept as."""


@dataclass(frozen=True, eq=False)
class Matrix(Part):
    """Weights (outputs, inputs) in panels of sixteen outputs, the last one padded with zeros.

    An eight-bit weight is what the real one gave when it was multiplied by its output's scale.
    """

    panels: Array
    """(panels, inputs, 16) of float32, float16, or uint16, which is bfloat16;
    (panels, inputs / 4, 16, 4) of uint8"""
    inputs: int
    outputs: int
    scales: Array | None = None  # (panels * 16,) float32, of eight-bit weights
    input_scale: float = 0.0  # what inputs are multiplied by; 0: each row's own

    def __post_init__(self) -> None:
        panels, quads = -(-self.outputs // PANEL), -(-self.inputs // QUAD)
        expected = (panels, quads, PANEL, QUAD) if self.is_integer else (panels, self.inputs, PANEL)
        kinds = ("uint8",) if self.is_integer else ("float32", "float16", "uint16")
        if self.inputs < 1 or self.panels.shape != expected or self.panels.dtype.name not in kinds:
            raise ValueError(
                f"a matrix of {self.inputs} inputs and {self.outputs} outputs has panels of"
                f" {kinds} and shape {expected}; got {self.panels.dtype}, {self.panels.shape}"
            )
        if not (self.panels.flags.c_contiguous and self.panels.flags.aligned):
            raise ValueError("panels must be contiguous and aligned")
        if self.scales is not None:
            check_floats("scales", self.scales, panels * PANEL)
        if not 0 <= self.input_scale < np.inf:
            raise ValueError(f"input_scale must be 0 or positive; got {self.input_scale}")

    @staticmethod
    def pack(rows: Rows, dtype: np.dtype[Any] | None = None) -> Matrix:
        """Float weights (outputs, inputs), in their own type or rounded to another."""
        outputs, inputs = rows.shape
        kept = rows.dtype if dtype is None else dtype
        kept = BFLOAT16 if is_bfloat16(kept) else kept
        panels = aligned_zeros((-(-outputs // PANEL), inputs, PANEL), kept)
        for first, some in _some_at_a_time(rows):
            some = bare(some)
            some = some if some.dtype == kept else narrow(wide(some), kept)
            place = panels[first // PANEL :]
            whole, rest = divmod(len(some), PANEL)
            place[:whole] = some[: whole * PANEL].reshape(whole, PANEL, inputs).swapaxes(1, 2)
            if rest:
                place[whole, :, :rest] = some[whole * PANEL :].T
        return Matrix(panels, inputs, outputs)

    @staticmethod
    def pack_integers(rows: Rows, scales: Array | float, input_scale: float = 0.0) -> Matrix:
        """Weights (outputs, inputs) of int8 and their scales (outputs,), or one for all."""
        outputs, inputs = rows.shape
        panels = _integer_panels(outputs, inputs)
        for first, some in _some_at_a_time(rows):
            _pack_integers(some, panels[first // PANEL :])
        return Matrix(panels, inputs, outputs, _padded(scales, outputs), input_scale)

    @staticmethod
    def quantise(rows: Rows) -> Matrix:
        """Float weights (outputs, inputs) as eight-bit ones: times 127 / an output's greatest."""
        outputs, inputs = rows.shape
        panels, scales = _integer_panels(outputs, inputs), np.empty(outputs, np.float32)
        for first, some in _some_at_a_time(rows):
            some = wide(some)
            greatest = np.abs(some).max(axis=1, initial=np.float32(2.0**-100))
            scale = scales[first : first + len(some)]
            np.divide(np.float32(127), greatest, out=scale)
            integers = np.rint(some * scale[:, None]).astype(np.int8)
            _pack_integers(integers, panels[first // PANEL :])
        return Matrix(panels, inputs, outputs, _padded(scales, outputs))

    @property
    def is_integer(self) -> bool:
        return self.scales is not None

    @property
    def type(self) -> str:
        """int8, or the type of the panels' numbers."""
        if self.is_integer:
            return "int8"
        return "bfloat16" if self.panels.dtype == BFLOAT16 else self.panels.dtype.name

    @property
    def nbytes(self) -> int:
        """Bytes of memory held."""
        return self.panels.nbytes + (0 if self.scales is None else self.scales.nbytes)

    def to(self, weights: str) -> Matrix:
        """The same weights, rounded to another type of WEIGHTS."""
        if weights == self.type:
            return self
        if weights not in WEIGHTS:
            raise ValueError(f"weights must be one of {', '.join(WEIGHTS)}; got {weights!r}")
        if weights == "int8":
            return Matrix.quantise(self)
        return Matrix.pack(self, np.dtype(weights))

    @property
    def shape(self) -> tuple[int, int]:
        return self.outputs, self.inputs

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of rows()."""
        return np.dtype(np.float32)

    def __getitem__(self, outputs: slice) -> Array:
        """rows(), so that a matrix is itself what another one is packed from."""
        return self.rows(outputs)

    def integers(self, ids: Array | slice = slice(None)) -> Array:
        """Eight-bit weights of the given outputs, (ids, inputs) int8."""
        quads = self.panels.reshape(*self.panels.shape[:2], PANEL * QUAD).view(np.uint32)
        rows = _rows_of(quads, self.outputs, ids) ^ OFFSETS
        return np.ascontiguousarray(rows).view(np.int8)[:, : self.inputs]

    def rows(self, ids: Array | slice = slice(None)) -> Array:
        """Weights of the given outputs as float32, (ids, inputs): an embedding, say."""
        if self.scales is None:
            return wide(np.ascontiguousarray(_rows_of(self.panels, self.outputs, ids)))
        return self.integers(ids).astype(np.float32) / self.scales[: self.outputs][ids][:, None]

    def select(self, ids: Array) -> Matrix:
        """The matrix of the given outputs."""
        if self.scales is None:
            return Matrix.pack(_rows_of(self.panels, self.outputs, ids))
        return Matrix.pack_integers(self.integers(ids), self.scales[ids], self.input_scale)

    def selected(self, ids: Array, panels: Array) -> Matrix:
        """The same, of panels that are there already."""
        scales = None if self.scales is None else _padded(self.scales[ids], len(ids))
        return Matrix(panels, self.inputs, len(ids), scales, self.input_scale)

    @staticmethod
    def stack(*matrices: Matrix) -> Matrix:
        """One matrix whose outputs are those of `matrices`, in turn.

        Raises
        ------
        ValueError
            They differ in type or in what their inputs are multiplied by.
        """
        first = matrices[0]
        if len({(m.type, m.inputs, m.input_scale) for m in matrices}) > 1:
            raise ValueError(
                "matrices of the same input must have the same type and input scale; got "
                + ", ".join(f"{m.type} {m.inputs} {m.input_scale}" for m in matrices)
            )
        if all(m.outputs % PANEL == 0 for m in matrices):
            return Matrix(
                _joined([m.panels for m in matrices]),
                first.inputs,
                sum(m.outputs for m in matrices),
                np.concatenate([m.scales for m in matrices]) if first.is_integer else None,
                first.input_scale,
            )
        if first.scales is None:
            parts = [_rows_of(m.panels, m.outputs, slice(None)) for m in matrices]
            return Matrix.pack(np.concatenate(parts))
        return Matrix.pack_integers(
            np.concatenate([m.integers() for m in matrices]),
            np.concatenate([m.scales[: m.outputs] for m in matrices if m.scales is not None]),
            first.input_scale,
        )


class Rows(Protocol):
    """Weights (outputs, inputs) that can be had a few rows at a time: an array, one in a file."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> np.dtype[Any]: ...

    def __getitem__(self, outputs: slice, /) -> Array: ...


def _some_at_a_time(rows: Rows) -> Iterator[tuple[int, Array]]:
    """Whole panels of rows, few enough for the cache and for memory, and where they begin."""
    outputs, inputs = rows.shape
    step = max(1, SOME_WEIGHTS // (inputs * PANEL)) * PANEL
    for first in range(0, outputs, step):
        yield first, rows[first : first + step]


def _integer_panels(outputs: int, inputs: int) -> Array:
    shape = (-(-outputs // PANEL), -(-inputs // QUAD), PANEL, QUAD)
    return aligned_zeros(shape, np.dtype(np.uint8))


def _pack_integers(rows: Array, panels: Array) -> None:
    """Weights of int8 (outputs, inputs), those of the last panel or of whole ones, into their
    panels, which may be followed by others."""
    outputs, inputs = rows.shape
    padded = np.ascontiguousarray(rows)
    if outputs % PANEL or inputs % QUAD:
        padded = np.zeros((-(-outputs // PANEL) * PANEL, -(-inputs // QUAD) * QUAD), np.int8)
        padded[:outputs, :inputs] = rows
    quads = padded.view(np.uint32).reshape(-1, PANEL, panels.shape[1])
    place = panels[: len(quads)].view(np.uint32)[..., 0]
    np.bitwise_xor(quads.swapaxes(1, 2), OFFSETS, out=place)


def check_floats(name: str, array: Array, length: int) -> None:
    """Raises ValueError unless the array is (length,) float32."""
    if array.shape != (length,) or array.dtype != np.float32 or not array.flags.c_contiguous:
        raise ValueError(f"{name} must be ({length},) float32; got {array.shape} {array.dtype}")


def _padded(scales: Array | float, outputs: int) -> Array:
    """Scales of so many outputs, and of those that fill the last panel: 1."""
    every = np.ones(-(-outputs // PANEL) * PANEL, np.float32)
    every[:outputs] = scales
    return every


def _joined(panels: list[Array]) -> Array:
    shape = (sum(len(p) for p in panels), *panels[0].shape[1:])
    return np.concatenate(panels, out=aligned_zeros(shape, panels[0].dtype))


def _rows_of(panels: Array, outputs: int, ids: Array | slice) -> Array:
    """Panels (panels, inputs, 16) as rows (ids, inputs) of the given outputs, which are neighbours
    if they are a slice."""
    if isinstance(ids, slice):
        start, stop, _ = ids.indices(outputs)
        first = start // PANEL
        some = panels[first : -(-stop // PANEL)].swapaxes(1, 2).reshape(-1, panels.shape[1])
        return some[start - first * PANEL : stop - first * PANEL]
    return panels[ids // PANEL, :, ids % PANEL]
