"""CTranslate2's model files (`model.bin`, little-endian) and lists of tokens, as its converters
write them.

Layout, from its `python/ctranslate2/specs/model_spec.py`::

    u32 binary_version;  str spec_name;  u32 spec_revision;  u32 n
    n x { str name;  u8 rank;  u32 shape[rank];  u8 dtype;  u32 n_bytes;  bytes }
    u32 n_aliases;  n_aliases x { str alias;  str name }
    str: u16 length with the trailing NUL, bytes

A file is untrusted: nothing is read or allocated before its size was compared with what is there.
"""

from __future__ import annotations

import json
import math
import os
import struct
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from ...contract.dtypes import BFLOAT16
from . import sniff
from .huggingface import read_text
from .stored import Source, Stored

MAX_TENSORS = 1 << 20
MAX_AXES = 8

_DTYPES: dict[int, np.dtype[Any]] = {
    0: np.dtype("<f4"),
    1: np.dtype("<i1"),
    2: np.dtype("<i2"),
    3: np.dtype("<i4"),
    4: np.dtype("<f2"),
    5: BFLOAT16,
}


class CTranslate2Model(NamedTuple):
    """What a file holds."""

    version: int  # of the format
    spec: str  # "TransformerSpec", "WhisperSpec" ...
    revision: int
    tensors: dict[str, Stored]
    """Matrices (outputs, inputs). An alias names the same array."""


def read(path: str | os.PathLike[str]) -> CTranslate2Model:
    """Reads a `model.bin`.

    Raises
    ------
    ValueError
        The file is no model of CTranslate2's, is cut short, or contradicts itself; the message
        names the file and the tensor, and says what was expected.
    OSError
        The file cannot be read.
    """
    sniff.expect(path, sniff.CTRANSLATE2)
    with Path(path).open("rb") as file:
        return _Reader(Path(path), file).read()


class _Reader:
    def __init__(self, path: Path, file: BinaryIO) -> None:
        self.path, self.file, self.source = path, file, Source(path)
        self.size = os.fstat(file.fileno()).st_size

    def fail(self, what: str) -> ValueError:
        return ValueError(f"{self.path}: {what}")

    def reserve(self, size: int, what: str) -> int:
        """Where the file stands, if so many bytes are left."""
        at = self.file.tell()
        if size > self.size - at:
            raise self.fail(f"{what} needs {size} bytes at offset {at}, {self.size - at} are left")
        return at

    def take(self, size: int, what: str) -> bytes:
        """The next `size` bytes."""
        self.reserve(size, what)
        data = self.file.read(size)
        if len(data) < size:
            raise self.fail(f"{what} was cut short while it was read")
        return data

    def integer(self, kind: str, what: str) -> int:
        return int(struct.unpack(f"<{kind}", self.take(struct.calcsize(kind), what))[0])

    def string(self, what: str) -> str:
        raw = self.take(self.integer("H", f"the length of {what}"), what)
        if not raw.endswith(b"\0"):
            raise self.fail(f"{what} is not NUL-terminated: {raw[:40]!r}")
        try:
            return raw[:-1].decode("utf-8")
        except UnicodeDecodeError:
            raise self.fail(f"{what} is not UTF-8: {raw[:40]!r}") from None

    def read(self) -> CTranslate2Model:
        version = self.integer("I", "the header")
        spec = self.string("the name of the model's kind")
        revision = self.integer("I", "the revision")
        tensors: dict[str, Stored] = {}
        for i in range(self.count("tensors")):
            name = self.string(f"the name of tensor {i}")
            if name in tensors:
                raise self.fail(f"holds two tensors named {name}")
            tensors[name] = self.tensor(name)
        for i in range(self.count("aliases")):
            alias, name = self.string(f"alias {i}"), self.string(f"the name that alias {i} is of")
            if name not in tensors:
                raise self.fail(f"alias {alias} is of {name}, which is missing")
            tensors[alias] = tensors[name]
            if f"{name}_scale" in tensors:  # its quantisation goes with it
                tensors.setdefault(f"{alias}_scale", tensors[f"{name}_scale"])
        return CTranslate2Model(version, spec, revision, tensors)

    def count(self, what: str) -> int:
        count = self.integer("I", f"the number of {what}")
        if count > MAX_TENSORS:
            raise self.fail(f"claims {count} {what}, at most {MAX_TENSORS} are plausible")
        return count

    def tensor(self, name: str) -> Stored:
        rank = self.integer("B", f"the rank of tensor {name}")
        if rank > MAX_AXES:
            raise self.fail(f"tensor {name} claims {rank} axes, expected at most {MAX_AXES}")
        shape = tuple(self.integer("I", f"the shape of tensor {name}") for _ in range(rank))
        kind = self.integer("B", f"the type of tensor {name}")
        if kind not in _DTYPES:
            raise self.fail(f"tensor {name} has the type {kind}, known are 0 to {max(_DTYPES)}")
        size = self.integer("I", f"the size of tensor {name}")
        needed = math.prod(shape) * _DTYPES[kind].itemsize
        if size != needed:
            raise self.fail(f"tensor {name} of shape {shape} needs {needed} bytes, claims {size}")
        at = self.reserve(size, f"tensor {name}")
        self.file.seek(size, os.SEEK_CUR)
        dtype = _DTYPES[kind]
        return Stored(self.source, at, shape, dtype, dtype)


def read_vocabulary(path: Path) -> list[str]:
    """The tokens of a CTranslate2 vocabulary, by id: a JSON list, or a line each.

    Raises
    ------
    ValueError
        The file is not one.
    """
    text = read_text(path)
    if path.suffix != ".json":  # a token may hold any other end of a line
        lines = text.removesuffix("\n").split("\n")
        windows = all(line.endswith("\r") for line in lines)
        return [line[:-1] for line in lines] if windows else lines
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not a vocabulary: {error}") from None
    if not (isinstance(found, list) and set(map(type, found)) <= {str}):
        raise ValueError(f"{path}: not a vocabulary: expected a list of strings")
    return found
