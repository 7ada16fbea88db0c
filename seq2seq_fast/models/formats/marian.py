"""Marian's model files: binary (`model.*.bin`, little-endian) and `.npz`, and its shortlists.

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

import collections
import math
import os
import re
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ...pickling import FromFiles, Origin
from . import sniff
from .stored import Quantised, Source, Stored

if TYPE_CHECKING:
    from .npz import Deflated

Array = np.ndarray[Any, Any]

CONFIG_NAME = "special:model.yml"
MAX_TENSORS = 1 << 16
MAX_AXES = 8

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
    tensors: dict[str, Stored | Deflated | Quantised]
    """Matrices of float32 (inputs, outputs), quantised ones (outputs, inputs), embeddings (tokens,
    features), vectors (1, length)"""


class _Header(NamedTuple):
    name_length: int
    type: int
    axes: int
    data_length: int


def read(path: str | os.PathLike[str]) -> MarianModel:
    """Reads a Marian model file, binary or `.npz`.

    Raises
    ------
    ValueError
        The file is no Marian file, is cut short, or contradicts itself; the message names the
        file and the tensor, and says what was expected.
    OSError
        The file cannot be read.
    """
    path = Path(path)
    kind = sniff.expect(path, sniff.MARIAN, sniff.NPZ)
    return _read_npz(path) if kind == sniff.NPZ else _Reader(path).read()


def _read_npz(path: Path) -> MarianModel:
    from .npz import Archive

    arrays = Archive(path).arrays
    config = arrays.pop(CONFIG_NAME, None)
    return MarianModel(_config(b"" if config is None else config.stored().tobytes()), {**arrays})


class _Reader:
    def __init__(self, path: Path) -> None:
        self.path, self.source = path, Source(path)
        self.at = 0
        self.size = path.stat().st_size

    def fail(self, what: str) -> ValueError:
        return ValueError(f"{self.path}: {what}")

    def skip(self, size: int, what: str) -> int:
        """Past the next `size` bytes; returns where they begin."""
        left = self.size - self.at
        if size > left:
            raise self.fail(f"{what} needs {size} bytes at offset {self.at}, {left} are left")
        self.at += size
        return self.at - size

    def take(self, size: int, what: str) -> bytes:
        """The next `size` bytes."""
        return self.bytes_at(self.skip(size, what), size, what)

    def bytes_at(self, at: int, size: int, what: str) -> bytes:
        self.file.seek(at)
        data = self.file.read(size)
        if len(data) < size:
            raise self.fail(f"{what} was cut short while it was read")
        return data

    def integers(self, count: int, what: str) -> tuple[int, ...]:
        return struct.unpack(f"<{count}Q", self.take(8 * count, what))

    def header(self) -> int:
        _, count = self.integers(2, "the header")
        if count > MAX_TENSORS:
            raise self.fail(f"claims {count} tensors, at most {MAX_TENSORS} are plausible")
        return count

    def read(self) -> MarianModel:
        with self.path.open("rb") as self.file:
            return self.model(self.header())

    def model(self, count: int) -> MarianModel:
        headers = [_Header(*self.integers(4, f"the header of tensor {i}")) for i in range(count)]
        names = [self.name(i, header) for i, header in enumerate(headers)]
        name, times = collections.Counter(names).most_common(1)[0] if names else ("", 1)
        if times > 1:
            raise self.fail(f"holds two tensors named {name}")
        shapes = [self.shape(*pair) for pair in zip(names, headers, strict=True)]
        (padding,) = self.integers(1, "the padding's length")
        self.skip(padding, "the padding")
        config: dict[str, str] = {}
        tensors: dict[str, Stored | Deflated | Quantised] = {}
        for name, header, shape in zip(names, headers, shapes, strict=True):
            if name == CONFIG_NAME:
                config = _config(self.take(header.data_length, f"tensor {name}"))
            else:
                tensors[name] = self.tensor(name, header, shape)
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
        if header.axes > MAX_AXES:
            raise self.fail(f"tensor {name} claims {header.axes} axes, expected 1 to {MAX_AXES}")
        raw = self.take(4 * header.axes, f"the shape of tensor {name}")
        shape = struct.unpack(f"<{header.axes}i", raw)
        if any(length < 0 for length in shape):
            raise self.fail(f"tensor {name} has the shape {shape}")
        return shape

    def tensor(self, name: str, header: _Header, shape: tuple[int, ...]) -> Stored | Quantised:
        dtype = _DTYPES.get(header.type)
        if dtype is None:
            raise self.fail(f"tensor {name} has the type {header.type:#06x}, which is not known")
        size = math.prod(shape)
        needed = size * dtype.itemsize + (4 if header.type == _INTGEMM8 else 0)
        if needed > header.data_length:
            raise self.fail(
                f"tensor {name} of shape {shape} needs {needed} bytes,"
                f" its data has {header.data_length}"
            )
        start = self.skip(header.data_length, f"tensor {name}")
        if header.type != _INTGEMM8:
            return Stored(self.source, start, shape, dtype, np.dtype(np.float32))
        (multiplier,) = struct.unpack("<f", self.bytes_at(start + size, 4, f"tensor {name}"))
        if not (math.isfinite(multiplier) and multiplier > 0):
            raise self.fail(f"tensor {name} has the quantisation multiplier {multiplier}")
        if len(shape) != 2:
            raise self.fail(f"tensor {name} has the shape {shape}, expected a matrix")
        # Embeddings are stored as they are, the rest transposed.
        outputs, inputs = shape if "Wemb" in name else shape[::-1]
        return Quantised(Stored(self.source, start, (outputs, inputs), dtype, dtype), multiplier)


def _config(data: bytes) -> dict[str, str]:
    """The `key: scalar` lines of YAML. The configuration is flat; its few lists are of no use."""
    text = data.rstrip(b"\0").decode("utf-8", "replace")
    pairs = re.findall(r"^([\w-]+):[ \t]+(\S.*)$", text, flags=re.MULTILINE)
    return {key: value.rstrip().strip("\"'") for key, value in pairs}


class Shortlist(FromFiles):
    """Which target tokens a source token's translation may need (`lex.*.s2t.bin`).

    Layout::

        u64 magic, checksum, first, best, n_offsets, n_list
        u64 offsets[n_offsets];  u32 list[n_list]

    Raises
    ------
    ValueError
        The file is no shortlist, is cut short or contradicts itself.
    """

    def __init__(self, path: str | os.PathLike[str], vocabulary_size: int) -> None:
        def fail(what: str) -> ValueError:
            return ValueError(f"{path}: {what}")

        sniff.expect(path, sniff.SHORTLIST)
        size = os.path.getsize(path)
        with Path(path).open("rb") as file:
            header = file.read(48)
            if len(header) < 48:
                raise fail(f"the header needs 48 bytes, the file has {size}")
            _, _, first, _, offsets, entries = struct.unpack("<6Q", header)
            if 48 + 8 * offsets + 4 * entries != size:
                raise fail(f"of {offsets} offsets and {entries} entries does not take {size} bytes")
            self._offsets = np.frombuffer(file.read(8 * offsets), "<u8")
            self._list = np.frombuffer(file.read(4 * entries), "<u4")
        if first > vocabulary_size:
            raise fail(f"begins with {first} tokens of a vocabulary of {vocabulary_size}")
        if (
            offsets < 2
            or self._offsets[-1] > entries
            or (np.diff(self._offsets.view("<i8")) < 0).any()
        ):
            raise fail("has offsets that do not rise to the number of entries")
        if entries and self._list.max() >= vocabulary_size:
            raise fail(f"holds the token {self._list.max()} of a vocabulary of {vocabulary_size}")
        self._first, self._size = first, vocabulary_size
        arguments = {"path": os.path.abspath(path), "vocabulary_size": vocabulary_size}
        Origin(Shortlist, arguments, [path]).of(self)

    def __call__(self, ids: Sequence[int]) -> Array:
        """The target tokens that the source tokens `ids` may need, rising."""
        known = len(self._offsets) - 1
        lists = [
            self._list[int(self._offsets[i]) : int(self._offsets[i + 1])]
            for i in set(ids)
            if i < known
        ]
        chosen = np.zeros(self._size, bool)
        chosen[: self._first] = True
        if lists:
            chosen[np.concatenate(lists)] = True
        return np.flatnonzero(chosen)
