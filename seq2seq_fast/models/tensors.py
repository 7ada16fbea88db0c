"""The tensors of a model's file, by name: checked, read, and packed as the kernel takes them.

Whoever assembles a model takes them from here one by one. What is left over at the end has to be
known as something that changes no result: else the file is refused.
"""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..contract.dtypes import BFLOAT16, wide
from ..nn.weights import Matrix
from .formats.stored import Quantised, Stored

if TYPE_CHECKING:
    from ..nn.linear import Linear
    from .formats.npz import Deflated
    from .formats.stored import Transposed

Array = np.ndarray[Any, Any]

SOME_NUMBERS = 1 << 20  # that are compared at a time
Named = dict[str, "Stored | Transposed | Deflated | Quantised"]

_FLOATS = (np.dtype(np.float32), np.dtype(np.float16), BFLOAT16)


class Ignored(NamedTuple):
    """A tensor that need not be read."""

    reason: str
    value: float | None = None  # the one at which that is so; None: it is so at any


class Tensors:
    """Named tensors of a file.

    Parameters
    ----------
    file : Path
        For messages.
    named : dict of str to array
        Left in the file until they are read. One array may have several names.
    weights : {"float32", "float16", "int8"} or None
        What matrices are packed as; as they are if None.
    """

    def __init__(self, file: Path, named: Named, weights: str | None = None) -> None:
        self.file, self.named, self.weights = file, named, weights
        self._read: set[str] = set()
        # By the array: a small file may have many names of one.
        self._matrices: dict[int, Matrix] = {}
        self._joined: dict[tuple[int, ...], Matrix] = {}
        self._vectors: dict[int, Array] = {}

    def __contains__(self, name: str) -> bool:
        return name in self.named

    def fail(self, what: str) -> ValueError:
        return ValueError(f"{self.file}: {what}")

    def take(self, name: str) -> Stored | Transposed | Deflated | Quantised:
        """A tensor, which counts as read."""
        if name not in self.named:
            raise self.fail(f"tensor {name} is missing")
        self._read.add(name)
        return self.named[name]

    def fits(self, name: str, shape: tuple[int, ...], expected: tuple[int | None, ...]) -> None:
        """Raises ValueError unless the shape is the expected one, None for any length but 0."""
        fine = len(shape) == len(expected) and all(
            have == want if want else have > 0 for have, want in zip(shape, expected, strict=True)
        )
        if not fine:
            wanted = ", ".join(str(n or "any") for n in expected)
            raise self.fail(f"tensor {name} has the shape {shape}, expected ({wanted})")

    def table_shape(self, name: str) -> tuple[int, int]:
        """Rows and features of a table: tokens of an embedding, positions."""
        shape = self.take(name).shape
        self.fits(name, shape, (None, None))
        return shape[0], shape[1]

    def number(self, name: str, default: float) -> float:
        """A scalar of any type, or what it is where it is missing."""
        if name not in self.named:
            return default
        value = np.asarray(self.take(name), np.float64)
        if value.shape != () or not np.isfinite(value):
            raise self.fail(f"tensor {name} is {value!r:.60}, expected one number")
        return float(value)

    def vector(self, name: str, length: int) -> Array:
        """A bias or the like (length,), which may lie as a row (1, length)."""
        tensor = self._floats(name)
        shape = tensor.shape
        if shape != (1, length):
            self.fits(name, shape, (length,))
        if id(tensor) not in self._vectors:
            self._vectors[id(tensor)] = np.asarray(tensor, np.float32).reshape(-1)
        return self._vectors[id(tensor)]

    def table(self, name: str, width: int) -> Array:
        """Vectors (any, width) that are kept as float32."""
        tensor = self._floats(name)
        self.fits(name, tensor.shape, (None, width))
        return np.asarray(tensor, np.float32)

    def matrix(
        self,
        name: str,
        outputs: int | None,
        inputs: int | None,
        *,
        transposed: bool = False,
        keep_float: bool = False,
    ) -> Matrix:
        """Weights (outputs, inputs), None for any number, which lie so or transposed. Where others
        become eight-bit, those that are to be kept as floats become of two bytes."""
        tensor = self.take(name)
        shape = tensor.shape
        expected = (inputs, outputs) if transposed else (outputs, inputs)
        if isinstance(tensor, Quantised):  # whose rows lie as they are packed
            self.fits(name, shape[::-1] if transposed else shape, expected)
            return self._packed(name, tensor, tensor.rows)
        tensor = self._floats(name)
        self.fits(name, shape, expected)
        if transposed or not isinstance(tensor, Stored):
            rows = np.asarray(tensor)
            return self._packed(name, tensor, rows.T if transposed else rows, keep_float)
        return self._packed(name, tensor, tensor, keep_float)

    def joined(self, names: list[str], parts: list[Linear]) -> Matrix:
        """The matrix of all outputs of layers, whose weights these tensors are, in turn. The parts
        themselves are not kept: nobody else needs them."""
        key = tuple(id(self.named[name]) for name in names)
        if key not in self._joined:
            try:
                self._joined[key] = Matrix.stack(*(part.matrix for part in parts))
            except ValueError as error:
                raise self.fail(f"{', '.join(names)}: {error}") from None
        for name in names:
            self._matrices.pop(self._key(self.named[name]), None)
        return self._joined[key]

    def convolution(self, name: str, kernel: int) -> Matrix:
        """Weights (outputs, channels, kernel), as those of a linear layer whose inputs are the
        channels of a row, then those of the next."""
        tensor = self.take(name)
        self.fits(name, tensor.shape, (None, None, kernel))
        stored = tensor.rows if isinstance(tensor, Quantised) else self._floats(name)
        rows = np.asarray(stored)
        rows = np.ascontiguousarray(rows.swapaxes(1, 2)).reshape(len(rows), -1)
        return self._packed(name, tensor, rows)

    def finish(self, ignored: Mapping[str, Ignored], copies: Mapping[str, str]) -> None:
        """Raises ValueError for a tensor that was neither read nor is one of the ignored, by
        patterns of their names, nor the same as the one that it is a copy of: it would change
        every result."""
        for name in sorted(self.named.keys() - self._read):
            if name in copies:
                if not self.same(name, copies[name]):
                    raise self.fail(f"has {name}, which is not the same as {copies[name]}")
                continue
            known = next(
                (one for pattern, one in ignored.items() if fnmatch.fnmatchcase(name, pattern)),
                None,
            )
            if known is None:
                raise self.fail(f"has {name}, which is not read so far")
            if known.value is not None and self.number(name, known.value) != known.value:
                have = self.number(name, known.value)
                raise self.fail(f"has {name} {have:g}; read so far is {known.value:g}")

    def same(self, name: str, original: str) -> bool:
        """Whether two tensors have the same numbers; they are read some rows at a time."""
        one, other = self.named[name], self.named[original]
        if one is other:
            return True
        if isinstance(one, Quantised) or isinstance(other, Quantised) or one.shape != other.shape:
            return False
        a, b = (each if isinstance(each, Stored) else np.asarray(each) for each in (one, other))
        step = max(1, SOME_NUMBERS // max(1, math.prod(one.shape[1:])))
        return all(
            np.array_equal(
                wide(a[first : first + step]), wide(b[first : first + step]), equal_nan=True
            )
            for first in range(0, one.shape[0] if one.shape else 0, step)
        )

    def _floats(self, name: str) -> Stored | Transposed | Deflated:
        tensor = self.take(name)
        if isinstance(tensor, Quantised) or tensor.dtype not in _FLOATS:
            raise self.fail(f"tensor {name} is of {tensor.dtype}, expected floats")
        return tensor

    @staticmethod
    def _key(tensor: Any) -> int:
        return id(tensor.rows if isinstance(tensor, Quantised) else tensor)

    def _packed(self, name: str, tensor: Any, rows: Any, keep_float: bool = False) -> Matrix:
        """The matrix of an array's rows (outputs, inputs), packed once under all of its names."""
        key = self._key(tensor)
        if key in self._matrices:
            return self._matrices[key]
        if isinstance(tensor, Quantised):
            matrix = Matrix.pack_integers(rows, self._scales(name, tensor), tensor.input_scale)
            matrix = matrix if self.weights is None else matrix.to(self.weights)
        elif self.weights == "int8" and not keep_float:
            matrix = Matrix.quantise(rows)
        else:
            kept = self.weights
            if kept == "int8":
                kept = "float16" if rows.dtype == np.float32 else None
            matrix = Matrix.pack(rows, None if kept is None else np.dtype(kept))
        self._matrices[key] = matrix
        return matrix

    def _scales(self, name: str, tensor: Quantised) -> Array:
        """What real weights were multiplied by, (outputs,) or one for all ()."""
        scales = np.asarray(tensor.scales, np.float32)
        if scales.size == 1:
            scales = scales.reshape(())
        else:
            self.fits(f"{name}_scale", scales.shape, (tensor.shape[0],))
        if not (np.isfinite(scales).all() and (scales > 0).all()):
            raise self.fail(f"tensor {name}_scale has numbers that are not positive")
        return scales
