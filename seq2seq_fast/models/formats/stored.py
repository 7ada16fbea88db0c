"""Stored: an array that stays in its file until rows of it are asked for. Transposed: one whose
axes lie there in another order.

A model is to be in memory once, not as its file has it and as the kernel reads it; and what is
read, not mapped, stays whole when the file changes.
"""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ...contract.dtypes import wide

Array = np.ndarray[Any, Any]


class Source:
    """A file that is opened when the first of its arrays is read, and closed when nobody has one of
    them any more: to open it for each of hundreds takes longer than to read them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: io.FileIO | None = None

    def read_into(self, memory: memoryview, offset: int) -> None:
        """Fills bytes of memory with those of the file from the offset on.

        Raises
        ------
        ValueError
            The file has become shorter.
        """
        if self._file is None:
            self._file = io.FileIO(self.path)
        self._file.seek(offset)
        while memory:
            read = self._file.readinto(memory)
            if not read:
                raise ValueError(f"{self.path}: was cut short while it was read")
            memory = memory[read:]

    def __del__(self) -> None:
        if self._file is not None:
            self._file.close()


@dataclass(frozen=True, eq=False)
class Stored:
    """An array (rows, ...) in a file, which is known to be long enough for it."""

    source: Source
    offset: int
    shape: tuple[int, ...]
    stored: np.dtype[Any]
    dtype: np.dtype[Any]  # of what is read; bfloat16 is read as it is

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes in the file."""
        return self.size * self.stored.itemsize

    def __getitem__(self, rows: slice) -> Array:
        """Neighbouring rows, read from the file.

        Raises
        ------
        ValueError
            The file has become shorter.
        """
        start, stop, _ = rows.indices(self.shape[0])
        row = math.prod(self.shape[1:])
        return self._read(start * row, (stop - start) * row).reshape(-1, *self.shape[1:])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        """All of it, read from the file."""
        whole = self._read(0, self.size).reshape(self.shape)
        return whole if dtype is None else wide(whole).astype(dtype, copy=False)

    def _read(self, first: int, count: int) -> Array:
        values = np.empty(count, self.stored)
        at = self.offset + first * self.stored.itemsize
        self.source.read_into(values.view(np.uint8).data, at)
        return values.astype(self.dtype, copy=False)


@dataclass(frozen=True, eq=False)
class Transposed:
    """An array whose axes are those of a stored one in another order; read as a whole."""

    lying: Stored
    axes: tuple[int, ...]  # of `lying`, as numpy.transpose takes them

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.lying.shape[axis] for axis in self.axes)

    @property
    def size(self) -> int:
        return self.lying.size

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.lying.dtype

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        """All of it, read from the file."""
        return self.lying.__array__(dtype).transpose(self.axes)


class Quantised(NamedTuple):
    """A matrix of eight-bit weights."""

    rows: Stored  # (outputs, inputs) int8
    scales: Stored | float  # real weight = integer / scale: of each output, or of all
    input_scale: float = 0.0  # what inputs are multiplied by; 0: the file does not say

    @property
    def shape(self) -> tuple[int, ...]:
        return self.rows.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.rows.dtype
