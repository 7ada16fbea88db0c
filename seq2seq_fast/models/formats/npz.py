"""NumPy's archives of arrays (`.npz`): ZIP files of `.npy` files, inflated as they are asked for.

Deflate can make a thousand bytes of one. So an array's shape is known before it is inflated, and
all arrays of a file together become no more than weights can ever have been compressed from.
"""

from __future__ import annotations

import math
import os
import re
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Literal, NamedTuple

import numpy as np

from . import sniff

Array = np.ndarray[Any, Any]

MAX_ARRAYS = 1 << 16
MAX_AXES = 8
MAX_HEADER = 10_000  # bytes of an array's header, as in NumPy
MAX_RATIO = 32  # bytes of float32 that a byte of the file may become: pruned weights shrink by 10
SLACK = 1 << 20  # bytes more: the smallest files may be all zeros

# NumPy's own parser of headers takes any Python literal, and raises what its tokenizer raises.
_HEADER = re.compile(
    rb"\{'descr': *'([<>|=]?(?:f[248]|[iu][1248]))', *'fortran_order': *(True|False),"
    rb" *'shape': *\(([\d, ]*)\),? *\}\s*"
)


class _Header(NamedTuple):
    shape: tuple[int, ...]
    order: Literal["C", "F"]
    dtype: np.dtype[Any]


class Archive:
    """The arrays of a file, by name.

    Raises
    ------
    ValueError
        The file is no such archive or is damaged; the message names it.
    OSError
        The file cannot be read.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        sniff.expect(self.path, sniff.NPZ)
        self.left = MAX_RATIO * self.path.stat().st_size + SLACK  # bytes
        with self.sound():
            self.zip = zipfile.ZipFile(self.path)  # closed when the archive is forgotten
        entries = self.zip.infolist()
        if len(entries) > MAX_ARRAYS:
            raise self.fail(f"holds {len(entries)} arrays, at most {MAX_ARRAYS} are plausible")
        self.arrays: dict[str, Deflated] = {}
        for entry in entries:
            name = entry.filename.removesuffix(".npy")
            if name in self.arrays:
                raise self.fail(f"holds two arrays named {name}")
            self.arrays[name] = Deflated(self, name, entry)

    def fail(self, what: str) -> ValueError:
        return ValueError(f"{self.path}: {what}")

    @contextmanager
    def sound(self) -> Iterator[None]:
        """Where zipfile reads: of damage it raises nearly anything."""
        try:
            yield
        except Exception as error:
            raise self.fail(f"not a sound .npz file: {error}") from None

    def spend(self, size: int, name: str) -> None:
        """Counts bytes that are about to be made."""
        self.left -= size
        if self.left < 0:
            raise self.fail(
                f"{name} takes {size} bytes inflated, so that the file would become more than"
                f" {MAX_RATIO} times its size"
            )


class Deflated:
    """An array that is read as float32 when it is asked for."""

    dtype = np.dtype(np.float32)

    def __init__(self, archive: Archive, name: str, entry: zipfile.ZipInfo) -> None:
        self.archive, self.name, self.entry = archive, name, entry

    def fail(self, what: str) -> ValueError:
        return self.archive.fail(f"{self.name}: {what}")

    @property
    def shape(self) -> tuple[int, ...]:
        with self._opened() as file:
            return self._header(file).shape

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        """All of it."""
        whole = self.stored().astype(np.float32, copy=False)
        return whole if dtype is None else whole.astype(dtype, copy=False)

    def stored(self) -> Array:
        """As it lies in the file."""
        with self._opened() as file:
            shape, order, dtype = self._header(file)
            count = math.prod(shape)
            self.archive.spend(count * max(dtype.itemsize, self.dtype.itemsize), self.name)
            with self.archive.sound():
                data = file.read(count * dtype.itemsize)
        if len(data) != count * dtype.itemsize:
            raise self.fail(f"has {len(data)} bytes, expected {count * dtype.itemsize}")
        return np.frombuffer(data, dtype).reshape(shape, order=order)

    @contextmanager
    def _opened(self) -> Iterator[IO[bytes]]:
        if self.entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise self.fail(f"is compressed by method {self.entry.compress_type}, read is deflate")
        with self.archive.sound():
            file = self.archive.zip.open(self.entry)
        with file:
            yield file

    def _header(self, file: IO[bytes]) -> _Header:
        """What the array says of itself; the file then stands at its data."""
        with self.archive.sound():
            start = file.read(8)
            digits = {b"\1\0": 2, b"\2\0": 4}.get(start[6:], 0)  # of the header's length
            length = int.from_bytes(file.read(digits), "little")
            found = _HEADER.fullmatch(file.read(min(length, MAX_HEADER)))
        if start[:6] != b"\x93NUMPY" or not found:
            raise self.fail("is no array of numbers")
        lengths = [one.strip() for one in found[3].split(b",") if one.strip()]
        if len(lengths) > MAX_AXES or not all(one.isdigit() and len(one) < 16 for one in lengths):
            raise self.fail(f"has the shape ({found[3].decode():.80}), which is not plausible")
        shape, dtype = tuple(map(int, lengths)), np.dtype(found[1].decode())
        left = self.entry.file_size - (8 + digits + length)
        if math.prod(shape) * dtype.itemsize != left:
            raise self.fail(f"of shape {shape} and type {dtype} does not take {left} bytes")
        return _Header(shape, "F" if found[2] == b"True" else "C", dtype)
