"""Writes PyTorch's checkpoints without PyTorch: pickles put together opcode by opcode, so that
files can be written which no library would write."""

from __future__ import annotations

import io
import struct
import zipfile

import numpy as np

KINDS = {
    "float32": "FloatStorage", "float16": "HalfStorage", "bfloat16": "BFloat16Storage",
    "float64": "DoubleStorage", "int64": "LongStorage", "int32": "IntStorage",
    "int16": "ShortStorage", "int8": "CharStorage", "uint8": "ByteStorage", "bool": "BoolStorage",
}  # fmt: skip
MAGIC = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."
START, END = b"\x80\x02", b"."


def text(value):
    encoded = value.encode()
    return b"X" + struct.pack("<I", len(encoded)) + encoded


def number(value):
    if 0 <= value < 1 << 31:
        return b"J" + struct.pack("<i", value)
    data = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8a" + bytes([len(data)]) + data


def named(module, name):
    return b"c" + module.encode() + b"\n" + name.encode() + b"\n"


def tuple_of(*parts):
    return b"(" + b"".join(parts) + b"t"


def call(module, name, *arguments):
    return named(module, name) + tuple_of(*arguments) + b"R"


def storage(kind, key, length, *more):
    parts = (text("storage"), named("torch", kind), text(key), text("cuda:0"), number(length))
    return tuple_of(*parts, *more) + b"Q"


def tensor(of, first=0, shape=(), strides=()):
    """A view of what storage() wrote."""
    return call(
        "torch._utils", "_rebuild_tensor_v2", of, number(first), tuple_of(*map(number, shape)),
        tuple_of(*map(number, strides)), b"\x89", call("collections", "OrderedDict"),
    )  # fmt: skip


def dict_of(parts):
    """A state dict of names and opcodes, with attributes as torch gives it."""
    items = b"".join(text(name) + part for name, part in parts.items())
    attributes = b"}" + text("_metadata") + b"}" + b"s"
    return call("collections", "OrderedDict") + b"(" + items + b"u" + attributes + b"b"


def archive(pickle, storages, root="archive", method=zipfile.ZIP_STORED, **more):
    """The bytes of a ZIP archive of a pickle, of storages by key, and of more files."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", method) as file:
        file.writestr(f"{root}/data.pkl", pickle)
        for name, data in more.items():
            file.writestr(f"{root}/{name}", data)
        for key, data in storages.items():
            file.writestr(f"{root}/data/{key}", data)
    return made.getvalue()


def sequence(pickle, storages, version=1001, little_endian=True):
    """The bytes of the layout of before 1.6, of storages (count, data) by key."""
    system = b"}" + text("little_endian") + (b"\x88" if little_endian else b"\x89") + b"s"
    keys = b"](" + b"".join(map(text, storages)) + b"e"
    pickles = (number(version), system, pickle.removeprefix(START).removesuffix(END), keys)
    numbers = (struct.pack("<q", count) + data for count, data in storages.values())
    return MAGIC + b"".join(START + one + END for one in pickles) + b"".join(numbers)


def checkpoint(tensors, old=False):
    """The bytes of a file of tensors by name, in the layout since 1.6 or before."""
    parts, storages = {}, {}
    for i, (name, array) in enumerate(tensors.items()):
        array = np.ascontiguousarray(array).reshape(np.shape(array))
        strides = [step // array.itemsize for step in array.strides]
        of = storage(KINDS[array.dtype.name], str(i), array.size, *([b"N"] if old else []))
        parts[name] = tensor(of, 0, array.shape, strides)
        storages[str(i)] = (array.size, array.tobytes()) if old else array.tobytes()
    pickle = START + dict_of(parts) + END
    if old:
        return sequence(pickle, storages)
    return archive(pickle, storages, byteorder=b"little", version=b"3\n")
