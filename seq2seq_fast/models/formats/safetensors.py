"""Safetensors files: named arrays and a metadata table, memory-mapped.

Layout, from https://github.com/huggingface/safetensors::

    u64 n;  n bytes of JSON {"__metadata__": {str: str}, name: {"dtype", "shape", "data_offsets"}}
    the arrays' bytes, without gaps and overlaps

A file is untrusted: nothing is read or allocated before its size was compared with what is there.
The library of that name copies every array; a mapped one is there at once, and is shared between
processes.
"""

from __future__ import annotations

import json
import math
import os
import reprlib
import struct
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from . import sniff
from .stored import Source, Stored

Array = np.ndarray[Any, Any]

ALIGNMENT = 64  # where the data begins; arrays of whole cache lines, coming first, keep it
MAX_AXES = 8
MAX_HEADER = 16 << 20  # bytes; the format's own limit is more than any model needs

_DTYPES = {
    "U8": "<u1", "I8": "<i1", "I16": "<i2", "I32": "<i4", "I64": "<i8",
    "BF16": "<u2", "F16": "<f2", "F32": "<f4", "F64": "<f8",
}  # fmt: skip
_NAMES = {np.dtype(dtype): name for name, dtype in _DTYPES.items()}
_READ = {name: dtype for dtype, name in _NAMES.items()}


class Safetensors(NamedTuple):
    """What a file holds."""

    metadata: dict[str, str]
    tensors: dict[str, Array]  # read-only, in the file's memory; bfloat16 as uint16


class Entries(NamedTuple):
    """What a file holds, read when it is asked for."""

    metadata: dict[str, str]
    tensors: dict[str, Stored]


def read(path: str | os.PathLike[str]) -> Safetensors:
    """Maps a safetensors file into memory.

    Raises
    ------
    ValueError, OSError
        As entries() does.
    """
    metadata, found = entries(path)
    data = np.memmap(path, np.uint8, "r")
    tensors = {}
    for name, one in found.items():
        values = data[one.offset : one.offset + one.nbytes].view(one.stored).reshape(one.shape)
        # An array that does not begin where its type may is copied.
        tensors[name] = np.require(values, requirements="A")
    return Safetensors(metadata, tensors)


def entries(path: str | os.PathLike[str]) -> Entries:
    """Reads the header of a safetensors file.

    Raises
    ------
    ValueError
        The file is no such file, is cut short, or contradicts itself; the message names it.
    OSError
        The file cannot be read.
    """
    path = Path(path)
    sniff.expect(path, sniff.SAFETENSORS)

    def fail(what: str) -> ValueError:
        return ValueError(f"{path}: {what}")

    size = path.stat().st_size
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        if length > MAX_HEADER:
            raise fail(f"the header claims {length} bytes, at most {MAX_HEADER} are plausible")
        if length > size - 8:
            raise fail(f"the header claims {length} bytes, {size - 8} are left")
        try:
            header = json.loads(file.read(length).decode("utf-8"))
        except (ValueError, RecursionError) as error:
            raise fail(f"the header is not JSON: {error}") from None
    if not isinstance(header, dict):
        raise fail(f"the header is a {type(header).__name__}, expected an object")
    metadata = header.pop("__metadata__", {})
    if not (isinstance(metadata, dict) and all(isinstance(v, str) for v in metadata.values())):
        raise fail("the metadata are not strings by name")
    left = size - 8 - length
    source, tensors = Source(path), {}
    for name, entry in header.items():
        try:
            dtype = _READ[entry["dtype"]]
            shape, (begin, end) = tuple(entry["shape"]), entry["data_offsets"]
            plain = all(type(n) is int and n >= 0 for n in (*shape, begin, end))
        except (KeyError, TypeError, ValueError):
            plain = False
        if not plain or len(shape) > MAX_AXES:
            raise fail(f"tensor {name}: the entry {reprlib.repr(entry)} makes no sense")
        if not begin <= end <= left or end - begin != math.prod(shape) * dtype.itemsize:
            raise fail(
                f"tensor {name} of shape {shape} and type {dtype} does not take the bytes"
                f" {begin} to {end} of {left}"
            )
        tensors[name] = Stored(source, 8 + length + begin, shape, dtype, dtype)
    # Arrays that shared their bytes would make much of a small file.
    at = start = 8 + length
    for name in sorted(tensors, key=lambda name: (tensors[name].offset, tensors[name].nbytes)):
        one = tensors[name]
        if one.offset != at:
            raise fail(
                f"tensor {name} begins at byte {one.offset - start} of the data,"
                f" expected {at - start}, where the one before it ends"
            )
        at += one.nbytes
    if at != size:
        raise fail(f"the tensors end at byte {at - start} of the data, which has {size - start}")
    return Entries(metadata, tensors)


def write(
    path: str | os.PathLike[str], tensors: dict[str, Array], metadata: dict[str, str]
) -> None:
    """Writes a safetensors file, whole or not at all."""
    # What fills whole lines comes first, so that it is aligned.
    order = sorted(tensors, key=lambda name: tensors[name].nbytes % ALIGNMENT != 0)
    header: dict[str, Any] = {"__metadata__": metadata}
    at = 0
    for name in order:
        array = tensors[name]
        end = at + array.nbytes
        header[name] = {
            "dtype": _NAMES[array.dtype], "shape": list(array.shape), "data_offsets": [at, end]
        }  # fmt: skip
        at = end
    text = json.dumps(header).encode("utf-8")
    text += b" " * (-(8 + len(text)) % ALIGNMENT)
    path = Path(path)
    part = path.with_name(path.name + ".part")
    try:
        with part.open("wb") as file:
            file.write(struct.pack("<Q", len(text)) + text)
            for name in order:
                file.write(np.ascontiguousarray(tensors[name]).data)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
