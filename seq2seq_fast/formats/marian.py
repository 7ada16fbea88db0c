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

import math
import os
import re
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..pickling import FromFiles, Origin

if TYPE_CHECKING:
    import zipfile

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


class Quantised(NamedTuple):
    """A matrix of eight-bit weights, which stays in its file until it is asked for: a model is to
    be in memory once, not as stored and as packed."""

    path: Path
    offset: int
    shape: tuple[int, int]  # outputs, inputs
    multiplier: float  # real weight = integer / multiplier

    @property
    def rows(self) -> Array:
        """(outputs, inputs) int8."""
        values = np.fromfile(self.path, np.int8, math.prod(self.shape), offset=self.offset)
        if len(values) < math.prod(self.shape):
            raise ValueError(f"{self.path}: was cut short while it was read")
        return values.reshape(self.shape)


class MarianModel(NamedTuple):
    """What a file holds."""

    config: dict[str, str]  # the scalars of the training configuration
    tensors: dict[str, Array | Quantised]
    """float32, matrices as (inputs, outputs), embeddings as (tokens, features)"""


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
    return _read_npz(path) if path.suffix == ".npz" else _Reader(path).read()


def shape_of(tensor: Array | Quantised) -> tuple[int, ...]:
    """As the file says it: (inputs, outputs) but for embeddings, which are (tokens, features)."""
    return tensor.shape if isinstance(tensor, np.ndarray) else tensor.shape[::-1]


def _read_npz(path: Path) -> MarianModel:
    import zipfile  # slow to import, and of no use to most models
    import zlib

    def fail(what: str) -> ValueError:
        return ValueError(f"{path}: {what}")

    config: dict[str, str] = {}
    tensors: dict[str, Array | Quantised] = {}
    try:
        with zipfile.ZipFile(path) as archive:
            if len(archive.infolist()) > MOST_TENSORS:
                raise fail(
                    f"holds {len(archive.infolist())} files, at most {MOST_TENSORS} expected"
                )
            for info in archive.infolist():
                name = info.filename.removesuffix(".npy")
                array = _read_npy(archive, info, lambda what, name=name: fail(f"{name}: {what}"))
                if name == CONFIG_NAME:
                    config = _scalars_of_yaml(
                        array.tobytes().rstrip(b"\0").decode("utf-8", "replace")
                    )
                else:
                    tensors[name] = array.astype(np.float32)
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, EOFError, RuntimeError) as error:
        raise fail(f"not a sound .npz file: {error}") from None
    return MarianModel(config, tensors)


def _read_npy(archive: zipfile.ZipFile, info: zipfile.ZipInfo, fail: Any) -> Array:
    """One array; its size is known before anything is allocated."""
    if info.file_size > 1100 * info.compress_size:  # more than deflate can make of it
        raise fail(f"claims {info.file_size} bytes, stored in {info.compress_size}")
    with archive.open(info) as file:
        try:
            version = np.lib.format.read_magic(file)
            read_header = {
                (1, 0): np.lib.format.read_array_header_1_0,
                (2, 0): np.lib.format.read_array_header_2_0,
            }[version]
            shape, fortran, dtype = read_header(file)
        except (ValueError, KeyError, TypeError) as error:
            raise fail(f"no array: {error}") from None
        if dtype.kind not in "fiu" or len(shape) > MOST_AXES:
            raise fail(f"has the type {dtype} and shape {shape}")
        left = info.file_size - file.tell()
        if math.prod(shape) * dtype.itemsize != left:
            raise fail(f"of shape {shape} and type {dtype} does not take {left} bytes")
        data = file.read()
    if len(data) != left:
        raise fail(f"has {len(data)} bytes, expected {left}")
    return np.frombuffer(data, dtype).reshape(shape, order="F" if fortran else "C")


class _Reader:
    def __init__(self, path: Path) -> None:
        self.path = path
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
        self.file.seek(self.skip(size, what))
        data = self.file.read(size)
        if len(data) < size:
            raise self.fail(f"{what} was cut short while it was read")
        return data

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
        with self.path.open("rb") as self.file:
            return self.model(self.header())

    def model(self, count: int) -> MarianModel:
        headers = [_Header(*self.integers(4, f"the header of tensor {i}")) for i in range(count)]
        names = [self.name(i, header) for i, header in enumerate(headers)]
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise self.fail(f"holds two tensors named {twice}")
        shapes = [self.shape(*pair) for pair in zip(names, headers, strict=True)]
        (padding,) = self.integers(1, "the padding's length")
        self.take(padding, "the padding")
        config: dict[str, str] = {}
        tensors: dict[str, Array | Quantised] = {}
        for name, header, shape in zip(names, headers, shapes, strict=True):
            if name == CONFIG_NAME:
                text = self.take(header.data_length, f"tensor {name}").rstrip(b"\0")
                config = _scalars_of_yaml(text.decode("utf-8", "replace"))
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
        if header.axes > MOST_AXES:
            raise self.fail(f"tensor {name} claims {header.axes} axes, expected 1 to {MOST_AXES}")
        raw = self.take(4 * header.axes, f"the shape of tensor {name}")
        shape = struct.unpack(f"<{header.axes}i", raw)
        if any(length < 0 for length in shape):
            raise self.fail(f"tensor {name} has the shape {shape}")
        return shape

    def tensor(self, name: str, header: _Header, shape: tuple[int, ...]) -> Array | Quantised:
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
        start = self.at
        if header.type != _INTGEMM8:
            values = np.frombuffer(self.take(header.data_length, f"tensor {name}"), dtype, size)
            return values.astype(np.float32).reshape(shape)
        self.skip(header.data_length, f"tensor {name}")
        self.file.seek(start + size)
        (multiplier,) = struct.unpack("<f", self.file.read(4))
        if not (math.isfinite(multiplier) and multiplier > 0):
            raise self.fail(f"tensor {name} has the quantisation multiplier {multiplier}")
        if len(shape) != 2:
            raise self.fail(f"tensor {name} has the shape {shape}, expected a matrix")
        # Embeddings are stored as they are, the rest transposed.
        outputs, inputs = shape if "Wemb" in name else shape[::-1]
        return Quantised(self.path, start, (outputs, inputs), multiplier)


def _scalars_of_yaml(text: str) -> dict[str, str]:
    """The `key: scalar` lines. The configuration is flat; its few lists are of no use here."""
    pairs = re.findall(r"^([\w-]+):[ \t]+(\S.*?)[ \t]*$", text, flags=re.MULTILINE)
    return {key: value.strip("\"'") for key, value in pairs}


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

    MAGIC = 0xF11A48D5013417F5

    def __init__(self, path: str | os.PathLike[str], vocabulary_size: int) -> None:
        def fail(what: str) -> ValueError:
            return ValueError(f"{path}: {what}")

        size = os.path.getsize(path)
        with Path(path).open("rb") as file:
            header = file.read(48)
            if len(header) < 48 or struct.unpack_from("<Q", header)[0] != self.MAGIC:
                raise fail("not a shortlist of Marian's")
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
