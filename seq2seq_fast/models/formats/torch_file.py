"""PyTorch's checkpoints: `pytorch_model.bin` and other files of `torch.save(state_dict)`.

Layout since PyTorch 1.6, a ZIP archive whose files are not compressed, from
https://github.com/pytorch/pytorch/blob/main/torch/serialization.py::

    NAME/data.pkl     pickle of the tensors by name, each a view of a storage
    NAME/data/KEY     the numbers of a storage
    NAME/byteorder    b"little" or b"big", if it is there

and before that::

    pickles of a magic number; of the version, 1001; of {"little_endian": bool, ...};
    of the tensors by name; of the list of the storages' keys
    a storage for each key: i64 count, the numbers

A file is untrusted. Its pickles are read by an interpreter that makes nothing but dicts, numbers
and the descriptions of tensors (`pickles`); the tensors themselves stay in the file, at places that
were compared with what is there. The archive's checksums are not: PyTorch can be told to write
none.
"""

from __future__ import annotations

import io
import os
import struct
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ...contract.dtypes import BFLOAT16
from . import pickles, sniff
from .pickles import Name
from .stored import Source, Stored, Transposed

MAX_INDEX = 4 << 20  # bytes that say which tensors there are; one takes two hundred
MAX_AXES = 8
MAX_RATIO = 4  # bytes of all views that a byte of the file may have
VERSION = 1001  # of the old layout
_LOCAL_HEADER = struct.Struct("<4s22xHH")  # magic, lengths of the name and of what follows it

_STORAGES: dict[str, np.dtype[Any]] = {
    "torch.FloatStorage": np.dtype("<f4"),
    "torch.HalfStorage": np.dtype("<f2"),
    "torch.BFloat16Storage": BFLOAT16,
    "torch.DoubleStorage": np.dtype("<f8"),
    "torch.LongStorage": np.dtype("<i8"),
    "torch.IntStorage": np.dtype("<i4"),
    "torch.ShortStorage": np.dtype("<i2"),
    "torch.CharStorage": np.dtype("<i1"),
    "torch.ByteStorage": np.dtype("<u1"),
    "torch.BoolStorage": np.dtype("?"),
}


class _Storage(NamedTuple):
    """Numbers that lie one after the other in a file."""

    key: str
    dtype: np.dtype[Any]
    length: int

    @property
    def nbytes(self) -> int:
        return self.length * self.dtype.itemsize


class _Tensor(NamedTuple):
    """A view of a storage; places and strides in numbers."""

    storage: _Storage
    first: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def entries(path: str | os.PathLike[str]) -> dict[str, Stored | Transposed]:
    """The tensors of a state dict, by name. Tensors of the same numbers are the same object.

    Raises
    ------
    ValueError
        The file is no such checkpoint, holds something else than tensors by name, is cut short, or
        contradicts itself; the message names it.
    OSError
        The file cannot be read.
    """
    path = Path(path)
    kind = sniff.expect(path, sniff.TORCH, sniff.OLD_TORCH)
    try:
        with _Bounded(path) as file:
            layout = _Archive(file) if kind == sniff.TORCH else _Sequence(file)
            return _stored(Source(path), layout, os.fstat(file.fileno()).st_size)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _stored(
    source: Source, layout: _Archive | _Sequence, size: int
) -> dict[str, Stored | Transposed]:
    """What a file holds, which must be a dict of tensors by name."""
    wanted = "expected tensors by name, such as torch.save(model.state_dict()) writes"
    if type(layout.state) is not dict:
        raise ValueError(f"holds a {type(layout.state).__name__}, {wanted}")
    made: dict[_Tensor, Stored | Transposed] = {}
    tensors, total = {}, 0
    for name, tensor in layout.state.items():
        if type(name) is not str or type(tensor) is not _Tensor:
            kind = "None" if tensor is None else f"a {type(tensor).__name__}"
            raise ValueError(f"holds {kind} as {name!r:.80}, {wanted}")
        if tensor not in made:
            try:
                made[tensor] = _view(source, layout.offset(tensor.storage), tensor)
            except ValueError as error:
                raise ValueError(f"tensor {name}: {error}") from None
            total += made[tensor].size * tensor.storage.dtype.itemsize
            if total > MAX_RATIO * size:  # storages are shared: few bytes could be all of them
                raise ValueError(f"the tensors take more than {MAX_RATIO} times the file's size")
        tensors[name] = made[tensor]
    return tensors


def _view(source: Source, offset: int, tensor: _Tensor) -> Stored | Transposed:
    """A tensor whose storage lies at the offset, and whose numbers lie one after the other, in
    whatever order of its axes."""
    dtype, shape, strides = tensor.storage.dtype, tensor.shape, tensor.strides
    offset += tensor.first * dtype.itemsize
    long = [axis for axis in range(len(shape)) if shape[axis] != 1]
    if 0 not in shape:
        long.sort(key=lambda axis: -strides[axis])
        step = 1
        for axis in reversed(long):
            if strides[axis] != step:
                raise ValueError(
                    f"its shape {shape} has the strides {strides}, read are those of numbers that"
                    " lie one after the other (tensor.contiguous() makes them so)"
                )
            step *= shape[axis]
    if long == sorted(long):
        return Stored(source, offset, shape, dtype, dtype)
    order = [*(axis for axis in range(len(shape)) if axis not in long), *long]
    lying = Stored(source, offset, tuple(shape[axis] for axis in order), dtype, dtype)
    return Transposed(lying, tuple(order.index(axis) for axis in range(len(shape))))


# ---- what a pickle may name ----


def _ordered_dict(arguments: tuple[Any, ...]) -> dict[str, Any]:
    if arguments:
        raise ValueError("makes an OrderedDict of arguments, expected an empty one")
    return {}


def _tensor(arguments: tuple[Any, ...]) -> _Tensor:
    """Of storage, first number, shape, strides, requires_grad, hooks and more."""
    if len(arguments) < 4 or type(arguments[0]) is not _Storage:
        raise ValueError(f"makes a tensor of {len(arguments)} arguments, expected a view's")
    storage, first, shape, strides = arguments[:4]
    plain = type(shape) is type(strides) is tuple and len(shape) == len(strides) <= MAX_AXES
    if not plain or not all(_is_natural(n) for n in (first, *shape, *strides)):
        raise ValueError("makes a tensor whose place, shape and strides are not natural numbers")
    end = first
    if 0 not in shape:
        end += 1 + sum((n - 1) * step for n, step in zip(shape, strides, strict=True))
    if end > storage.length:
        raise ValueError(
            f"a tensor of shape {shape} and strides {strides} ends at number {end} of its storage,"
            f" which has {storage.length}"
        )
    return _Tensor(storage, first, shape, strides)


def _parameter(arguments: tuple[Any, ...]) -> _Tensor:
    """Of the tensor, requires_grad, hooks."""
    if not arguments or type(arguments[0]) is not _Tensor:
        raise ValueError("makes a Parameter of something else than a tensor")
    return arguments[0]


_FUNCTIONS = {
    "collections.OrderedDict": _ordered_dict,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_parameter": _parameter,
    **dict.fromkeys(_STORAGES),
}


def _storage(identity: Any) -> _Storage:
    """Of "storage", its class, its key, its device and its length; then None, in old files: it is
    no view of another one."""
    given = identity if type(identity) is tuple else ()
    if len(given) < 5 or given[0] != "storage" or type(given[1]) is not Name:
        raise ValueError("refers to something else than a storage of numbers")
    (name,), key, length = given[1], given[2], given[4]
    if name not in _STORAGES or type(key) is not str or not _is_natural(length):
        raise ValueError(f"refers to a storage of the class {name} that makes no sense")
    if any(rest is not None for rest in given[5:]):
        raise ValueError(f"storage {key!r:.40} is a view of another one, which is not read")
    return _Storage(key, _STORAGES[name], length)


def _is_natural(number: Any) -> bool:
    return type(number) is int and 0 <= number < 1 << 63


# ---- where the storages are ----


class _Bounded(io.FileIO):
    """A file of which no more than an index is read at a time: zipfile believes what an archive
    says of the length of its own."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > MAX_INDEX:
            raise ValueError(f"its index claims {size} bytes, at most {MAX_INDEX} are plausible")
        return super().read(size) or b""


class _Archive:
    """The layout since PyTorch 1.6."""

    def __init__(self, file: _Bounded) -> None:
        self.file = file
        try:
            archive = zipfile.ZipFile(file)
        except Exception as error:  # of damage it raises nearly anything
            raise ValueError(f"not a sound ZIP archive: {error}") from None
        self.files = {entry.orig_filename: entry for entry in archive.infolist()}
        if len(self.files) != len(archive.infolist()):
            raise ValueError("holds two files of one name")
        roots = [name[: -len("data.pkl")] for name in self.files if name.endswith("/data.pkl")]
        if len(roots) != 1:
            raise ValueError(f"holds {len(roots)} files data.pkl, expected one")
        self.root = roots[0]
        # By the byte at which a file begins, the one before which it has to end.
        starts = sorted({entry.header_offset for entry in archive.infolist()})
        self.ends = dict(zip(starts, [*starts[1:], archive.start_dir], strict=True))
        byteorder = f"{self.root}byteorder"
        if byteorder in self.files and (found := self.read(byteorder)) != b"little":
            raise ValueError(f"its byteorder is {found[:20]!r}, read is little")
        pickle = io.BytesIO(self.read(f"{self.root}data.pkl"))
        self.state = pickles.load(pickle, _FUNCTIONS, _storage)

    def read(self, name: str) -> bytes:
        at, size = self.place(name)
        if size > MAX_INDEX:
            raise ValueError(f"{name} has {size} bytes, at most {MAX_INDEX} are plausible")
        self.file.seek(at)
        return self.file.read(size)

    def place(self, name: str) -> tuple[int, int]:
        """Where a file of the archive begins, and how many bytes it has."""
        entry = self.files.get(name)
        if entry is None:
            raise ValueError(f"{name!r:.80} is missing")
        if entry.flag_bits & 1:
            raise ValueError(f"{name} is encrypted")
        size = entry.file_size
        if entry.compress_type != zipfile.ZIP_STORED or entry.compress_size != size:
            raise ValueError(f"{name} is compressed, which PyTorch's own files are not")
        start, length = entry.header_offset, _LOCAL_HEADER.size
        end = self.ends[start]
        wanted = entry.orig_filename.encode("utf-8" if entry.flag_bits & 0x800 else "cp437")
        header, found = b"", b""
        if 0 <= start <= end - length:
            self.file.seek(start)
            header, found = self.file.read(length), self.file.read(len(wanted))
        if len(header) < length or header[:4] != b"PK\3\4" or found != wanted:
            raise ValueError(f"{name} does not begin at byte {start}, where its index has it")
        _, name_length, more = _LOCAL_HEADER.unpack(header)
        at = start + length + name_length + more
        if name_length != len(wanted) or at + size > end:
            raise ValueError(
                f"{name} of {size} bytes at {at} does not end before byte {end}, where something"
                " else begins"
            )
        return at, size

    def offset(self, storage: _Storage) -> int:
        name = f"{self.root}data/{storage.key}"
        at, size = self.place(name)
        if size != storage.nbytes:
            raise ValueError(
                f"{name} has {size} bytes, expected {storage.nbytes} of {storage.length} numbers"
            )
        return at


class _Sequence:
    """The layout before PyTorch 1.6."""

    def __init__(self, file: _Bounded) -> None:
        size = os.fstat(file.fileno()).st_size
        start = io.BytesIO(file.read(min(size, MAX_INDEX)))
        self.storages: dict[str, _Storage] = {}

        def load() -> Any:
            return pickles.load(start, _FUNCTIONS, self.known)

        load()  # the magic number
        version, system, self.state, keys = (load() for _ in range(4))
        if type(version) is not int or version != VERSION:
            what = version if type(version) is int else f"a {type(version).__name__}"
            raise ValueError(f"is of version {what}, read is {VERSION}")
        if type(system) is not dict or system.get("little_endian") is not True:
            raise ValueError("was not written on a little-endian machine, which alone is read")
        if type(keys) is not list or any(type(key) is not str for key in keys):
            raise ValueError("does not list the keys of its storages")
        if len(keys) != len(self.storages) or set(keys) != self.storages.keys():
            raise ValueError(f"lists {len(keys)} storages, refers to {len(self.storages)} others")
        self.offsets = {}
        at = start.tell()
        for key in keys:
            storage = self.storages[key]
            file.seek(at)
            count = int.from_bytes(file.read(8), "little")
            if at + 8 + storage.nbytes > size or count != storage.length:
                raise ValueError(
                    f"storage {key} of {storage.nbytes} bytes at {at} has {count} numbers, expected"
                    f" {storage.length}; {max(0, size - at - 8)} bytes are left"
                )
            self.offsets[key] = at + 8
            at += 8 + storage.nbytes

    def known(self, identity: Any) -> _Storage:
        storage = _storage(identity)
        if self.storages.setdefault(storage.key, storage) != storage:
            raise ValueError(f"refers to storage {storage.key!r:.40} as two different ones")
        return storage

    def offset(self, storage: _Storage) -> int:
        return self.offsets[storage.key]
