"""Marian's binary model files (`model.*.bin`, little-endian), weights dequantised to float32.

Layout, from Marian's `src/common/binary.cpp`::

    u64 version = 1;  u64 n
    n x { u64 name_length (with NUL), u64 type, u64 shape_length, u64 data_length }
    n names, NUL-terminated;  n x i32[shape_length];  u64 padding;  that many bytes
    n blobs of data_length bytes

`intgemm8` blobs hold one int8 per element and then a float32, the multiplier that made the integers
(real value = integer / multiplier). Matrices so packed lie transposed, but for embeddings.

A file is untrusted: nothing is read or allocated before its size was compared with what is there.
"""

from __future__ import annotations

import math
import os
import re
import struct
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

Array = np.ndarray[Any, Any]

CONFIG_NAME = "special:model.yml"
MOST_TENSORS = 1 << 16
MOST_AXES = 8

_INTGEMM8 = 0x4101
_DTYPES: dict[int, np.dtype[Any]] = {
    0x0101: np.dtype("<i1"),
    0x0204: np.dtype("<u4"),
    0x0402: np.dtype("<f2"),
    0x0404: np.dtype("<f4"),
    _INTGEMM8: np.dtype("<i1"),
}


class MarianModel(NamedTuple):
    """What a file holds."""

    config: dict[str, str]  # the scalars of the training configuration
    tensors: dict[str, Array]  # float32, matrices as (in, out)


class _Header(NamedTuple):
    name_length: int
    type: int
    axes: int
    data_length: int


def read(path: str | os.PathLike[str]) -> MarianModel:
    """Reads a Marian binary file.

    Raises
    ------
    ValueError
        The file is no Marian file, is cut short, or contradicts itself; the message names the
        file and the tensor, and says what was expected.
    OSError
        The file cannot be read.
    """
    return _Reader(Path(path)).read()


class _Reader:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.at = 0
        # The first bytes decide whether the rest, of any size, is worth reading.
        with path.open("rb") as file:
            self.data = file.read(16)
            self.count = self.header()
            self.data += file.read()

    def fail(self, what: str) -> ValueError:
        return ValueError(f"{self.path}: {what}")

    def take(self, size: int, what: str) -> memoryview:
        """The next `size` bytes, a view."""
        left = len(self.data) - self.at
        if size > left:
            raise self.fail(f"{what} needs {size} bytes at offset {self.at}, {left} are left")
        self.at += size
        return memoryview(self.data)[self.at - size : self.at]

    def integers(self, count: int, what: str) -> tuple[int, ...]:
        return struct.unpack(f"<{count}Q", self.take(8 * count, what))

    def header(self) -> int:
        version, count = self.integers(2, "the header")
        if version != 1:
            raise self.fail(f"not a Marian binary file: version {version}, expected 1")
        if count > MOST_TENSORS:
            raise self.fail(f"claims {count} tensors, at most {MOST_TENSORS} are plausible")
        return count

    def read(self) -> MarianModel:
        headers = [
            _Header(*self.integers(4, f"the header of tensor {i}")) for i in range(self.count)
        ]
        names = [self.name(i, header) for i, header in enumerate(headers)]
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise self.fail(f"holds two tensors named {twice}")
        shapes = [self.shape(*pair) for pair in zip(names, headers, strict=True)]
        (padding,) = self.integers(1, "the padding's length")
        self.take(padding, "the padding")
        config: dict[str, str] = {}
        tensors: dict[str, Array] = {}
        for name, header, shape in zip(names, headers, shapes, strict=True):
            blob = self.take(header.data_length, f"tensor {name}")
            if name == CONFIG_NAME:
                config = _scalars_of_yaml(bytes(blob).rstrip(b"\0").decode("utf-8", "replace"))
            else:
                tensors[name] = self.tensor(name, header, shape, blob)
        return MarianModel(config, tensors)

    def name(self, index: int, header: _Header) -> str:
        raw = bytes(self.take(header.name_length, f"the name of tensor {index}"))
        if not raw.endswith(b"\0") or len(raw) < 2:
            raise self.fail(f"the name of tensor {index} is not NUL-terminated: {raw[:40]!r}")
        try:
            return raw[:-1].decode("utf-8")
        except UnicodeDecodeError:
            raise self.fail(f"the name of tensor {index} is not UTF-8: {raw[:40]!r}") from None

    def shape(self, name: str, header: _Header) -> tuple[int, ...]:
        if header.axes > MOST_AXES:
            raise self.fail(f"tensor {name} claims {header.axes} axes, expected 1 to {MOST_AXES}")
        raw = self.take(4 * header.axes, f"the shape of tensor {name}")
        shape = struct.unpack(f"<{header.axes}i", raw)
        if any(length < 0 for length in shape):
            raise self.fail(f"tensor {name} has the shape {shape}")
        return shape

    def tensor(self, name: str, header: _Header, shape: tuple[int, ...], blob: memoryview) -> Array:
        dtype = _DTYPES.get(header.type)
        if dtype is None:
            raise self.fail(f"tensor {name} has the type {header.type:#06x}, which is not known")
        size = math.prod(shape)
        needed = size * dtype.itemsize + (4 if header.type == _INTGEMM8 else 0)
        if needed > len(blob):
            raise self.fail(
                f"tensor {name} of shape {shape} needs {needed} bytes, its data has {len(blob)}"
            )
        values = np.frombuffer(blob, dtype, size)
        if header.type != _INTGEMM8:
            return values.astype(np.float32).reshape(shape)
        (multiplier,) = struct.unpack_from("<f", blob, size)
        if not (math.isfinite(multiplier) and multiplier > 0):
            raise self.fail(f"tensor {name} has the quantisation multiplier {multiplier}")
        real = values.astype(np.float32) / np.float32(multiplier)
        if "Wemb" in name or len(shape) != 2:
            return real.reshape(shape)
        return np.ascontiguousarray(real.reshape(shape[::-1]).T)


def _scalars_of_yaml(text: str) -> dict[str, str]:
    """The `key: scalar` lines. The configuration is flat; its few lists are of no use here."""
    pairs = re.findall(r"^([\w-]+):[ \t]+(\S.*?)[ \t]*$", text, flags=re.MULTILINE)
    return {key: value.strip("\"'") for key, value in pairs}
