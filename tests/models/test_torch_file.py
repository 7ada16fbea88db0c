"""PyTorch's checkpoints: what torch.save() writes is read as torch.load() reads it; code in a file
is named and not run; files that lie are refused."""

from __future__ import annotations

import importlib.util
import io
import os
import pickle
import struct
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
import tiny_torch
from conftest import assert_same_bits
from ml_dtypes import bfloat16
from tiny_torch import END, START, archive, call, dict_of, named, number, sequence, storage, tensor

from seq2seq_fast.models.formats import torch_file
from seq2seq_fast.models.formats.stored import Stored

ONE = np.arange(6, dtype=np.float32).reshape(2, 3)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "pytorch_model.bin"


def read(path):
    return {name: np.asarray(one) for name, one in torch_file.entries(path).items()}


# ---- what torch writes ----


def state_dicts():
    import torch

    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Linear(5, 7), torch.nn.LayerNorm(7), torch.nn.Conv1d(7, 3, 2)
    )
    plain = model.state_dict()  # an OrderedDict with _metadata
    table = torch.randn(6, 4)
    channels_last = torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last)
    dtypes = (
        "float32",
        "float16",
        "bfloat16",
        "float64",
        "int64",
        "int32",
        "int8",
        "uint8",
        "bool",
    )
    return {
        "module": plain,
        "parameters": dict(model.named_parameters()),
        "dtypes": {name: (torch.randn(3, 4) * 9).to(getattr(torch, name)) for name in dtypes},
        "tied": {"a": table, "b": table, "c": torch.nn.Parameter(table)},
        "views": {"rows": table[2:5], "one": table[3], "number": table[1, 2],
                  "flat": table.view(-1)},
        "transposed": {
            "matrix": table.t(), "three": torch.randn(2, 3, 4).permute(2, 0, 1),
            "four": channels_last, "row": table[:1].t(), "table": table,
        },
        "empty": {"none": torch.zeros(0, 4), "nothing": torch.zeros(3, 0),
                  "number": torch.tensor(2.5)},
        "no tensors": {},
    }  # fmt: skip


@pytest.mark.transformers
@pytest.mark.parametrize("old", [False, True], ids=["zip", "legacy"])
def test_agrees_with_torch(path, old):
    import torch

    for written in state_dicts().values():
        torch.save(written, path, _use_new_zipfile_serialization=not old)
        found = torch_file.entries(path)
        assert list(found) == list(written)
        wanted = torch.load(path, weights_only=True)
        for name, want in wanted.items():
            want = want.detach()
            bits = want.view(torch.int16) if want.dtype == torch.bfloat16 else want
            bits = bits.numpy().view(np.uint16) if bits is not want else bits.numpy()
            assert_same_bits(np.asarray(found[name]), bits)
            assert (found[name].shape, found[name].dtype) == (bits.shape, bits.dtype)


@pytest.mark.transformers
@pytest.mark.parametrize("old", [False, True], ids=["zip", "legacy"])
def test_the_same_numbers_are_the_same_object(path, old):
    import torch

    torch.save(state_dicts()["tied"], path, _use_new_zipfile_serialization=not old)
    a, b, c = torch_file.entries(path).values()
    assert a is b is c


@pytest.mark.transformers
@pytest.mark.parametrize("old", [False, True], ids=["zip", "legacy"])
def test_what_is_no_state_dict(path, old):
    import torch

    for written, message in (
        ({"model": {"a": torch.ones(2)}, "epoch": 3}, "holds a dict as 'model', expected tensors"),
        ({"a": torch.ones(2), "epoch": 3}, "holds a int as 'epoch'"),
        ({"a": None}, "holds None as 'a'"),
        ([torch.ones(2)], "holds a list, expected tensors by name"),
        (torch.ones(2), "holds a _Tensor"),
        ({"a": torch.ones(4, 4)[:, 1:3]}, r"tensor a: its shape \(4, 2\) has the strides \(4, 1\)"),
        ({"a": torch.ones(1).expand(4)}, r"tensor a: its shape \(4,\) has the strides \(0,\)"),
        ({"a": torch.ones(2, dtype=torch.complex64)}, "names torch.ComplexFloatStorage"),
        ({"a": np.float64(1)}, "names numpy"),
        (torch.nn.Linear(2, 2), "names torch.nn.modules.linear.Linear: it holds code"),
    ):
        torch.save(written, path, _use_new_zipfile_serialization=not old)
        with pytest.raises(ValueError, match=rf"pytorch_model\.bin: .*{message}"):
            torch_file.entries(path)


@pytest.mark.transformers
def test_torch_reads_what_is_written_here(path):
    """So that the files below are such as torch writes."""
    import torch

    tensors = {"a": ONE, "b": ONE[0].astype(np.float16), "c": np.arange(3)}
    for old in (False, True):
        path.write_bytes(tiny_torch.checkpoint(tensors, old))
        found = torch.load(path, weights_only=True, map_location="cpu")
        assert list(found) == list(tensors)
        assert all(np.array_equal(found[name].numpy(), tensors[name]) for name in tensors)


@pytest.mark.transformers
def test_a_published_file():
    """Of ANNalog (MIT), written on a GPU: 132 tensors, each as torch.load() has it."""
    import torch

    package = importlib.util.find_spec("annalog")  # which is not imported: only its file is needed
    if package is None:
        pytest.skip("no such package: pip install --no-deps annalog==1.0.6")
    file = Path(package.origin).parent / "ckpt_and_vocab" / "Lev_extended.pt"
    found = read(file)
    wanted = torch.load(file, weights_only=True, map_location="cpu")
    assert len(found) == len(wanted) == 132
    for name, want in wanted.items():
        assert_same_bits(found[name], want.numpy())


# ---- without torch ----


@pytest.mark.parametrize("old", [False, True], ids=["zip", "legacy"])
def test_tensors_stay_in_the_file(path, old):
    tensors = {
        "a": ONE, "half": ONE.astype(np.float16), "bfloat16": np.arange(5).astype(bfloat16),
        "long": np.array(7), "none": ONE[:0],
    }  # fmt: skip
    path.write_bytes(tiny_torch.checkpoint(tensors, old))
    for name, one in torch_file.entries(path).items():
        assert isinstance(one, Stored)
        want = tensors[name].view(np.uint16) if name == "bfloat16" else tensors[name]
        assert_same_bits(np.asarray(one), want)
        assert path.read_bytes()[one.offset : one.offset + one.nbytes] == tensors[name].tobytes()


def test_axes_in_another_order(path):
    of = storage("FloatStorage", "0", 24)
    values = np.arange(24, dtype=np.float32)
    parts = {
        "last": tensor(of, 0, (2, 3, 4), (1, 8, 2)),
        "pair": tensor(of, 4, (4, 5), (1, 4)),
        "ones": tensor(of, 0, (1, 4, 1, 6), (7, 1, 9, 4)),
        "rows": tensor(of, 0, (6, 1, 4), (4, 1, 1)),
    }
    path.write_bytes(archive(START + dict_of(parts) + END, {"0": values.tobytes()}))
    found = read(path)
    assert_same_bits(found["last"], values.reshape(3, 4, 2).transpose(2, 0, 1))
    assert_same_bits(found["pair"], values[4:].reshape(5, 4).T)
    assert_same_bits(found["ones"], values.reshape(1, 1, 6, 4).transpose(0, 3, 1, 2))
    assert_same_bits(found["rows"], values.reshape(6, 1, 4))


A = tensor(storage("FloatStorage", "0", 6), 0, (2, 3), (3, 1))
DATA = {"0": ONE.tobytes()}


class Reduces:
    """Pickles as a call."""

    def __init__(self, *call):
        self.call = call

    def __reduce__(self):
        return self.call


def pickled(*call, protocol=2):
    return pickle.dumps(Reduces(*call), protocol)


CODE = {
    "system": (pickled(os.system, ("touch PWNED",)), r"names (posix|nt)\.system"),
    "eval": (pickled(eval, ("1",)), r"names (__builtin__|builtins)\.eval: it holds code"),
    "getattr": (START + named("builtins", "getattr") + END, "names builtins.getattr"),
    "numpy": (START + named("numpy.core.multiarray", "_reconstruct") + END, "names numpy.core"),
    "torch's own": (START + named("torch.serialization", "load") + END, "names torch.serial"),
    "a submodule": (START + named("torch", "FloatStorage.load") + END, "names torch.FloatS"),
    "a line more": (START + b"ccollections\nOrderedDict.x\n" + END, "names collections.Ordered"),
    "called string": (START + tiny_torch.text("os.system") + b")R" + END, "calls a str with a"),
    "called storage": (START + call("torch", "FloatStorage") + END, "calls torch.FloatStorage"),
    "called tensor": (START + A + b")R" + END, "calls a _Tensor with a tuple"),
    "called with a list": (START + named("collections", "OrderedDict") + b"]R" + END,
                           "calls collections.OrderedDict with a list"),
    "dict of items": (START + call("collections", "OrderedDict", b"]") + END, "of arguments"),
    "NEWOBJ": (START + named("collections", "OrderedDict") + b")\x81" + END, "opcode NEWOBJ"),
    "OBJ": (START + b"(" + named("collections", "OrderedDict") + b"o" + END, "opcode OBJ"),
    "INST": (START + b"(ios\nsystem\n" + END, "opcode INST"),
    "STACK_GLOBAL": (START + b"\x8c\x02os\x8c\x06system\x93" + END, "SHORT_BINUNICODE"),
    "EXT1": (START + b"\x82\x01" + END, "opcode EXT1"),
    "EXT4": (START + b"\x84\x01\0\0\0" + END, "opcode EXT4"),
    "PERSID": (START + b"Pstorage\n" + END, "opcode PERSID"),
    "module": (START + tiny_torch.tuple_of(tiny_torch.text("module"), *[b"N"] * 4) + b"Q" + END,
               "refers to something else than a storage"),
    "BINPERSID of a dict": (START + b"}Q" + END, "refers to something else than a storage"),
    "DUP": (START + b"}2" + END, "opcode DUP"),
    "frozen set": (START + b"(\x91" + END, "opcode FROZENSET"),
    "BUILD of a tensor": (START + A + b"}b" + END, "does BUILD to a _Tensor"),
    "item of a tensor": (START + A + b"K\1K\2s" + END, "does SETITEM to a _Tensor"),
    "append to a tuple": (START + b")K\1a" + END, "does APPEND to a tuple"),
    "protocol 0": (b"(dp0\n.", "opcode DICT"),
    "protocol 4": (pickle.dumps({"a": 1}, 4), "is a pickle of protocol 4, read is 2"),
    "tuple as key": (START + b"}))s" + END, "holds a tuple as a key"),
}  # fmt: skip


@pytest.mark.parametrize("what", CODE)
@pytest.mark.parametrize("old", [False, True], ids=["zip", "legacy"])
def test_code_is_not_run(path, old, what, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    code, message = CODE[what]
    inner = code.removeprefix(START).removesuffix(END)
    whole = START + dict_of({"a": A, "b": inner}) + END
    for data in (code, whole) if inner != code and not code.startswith(b"\x80\4") else (code,):
        length = {"0": (6, ONE.tobytes())}
        path.write_bytes(sequence(data, length) if old else archive(data, DATA))
        with pytest.raises(ValueError, match=rf"pytorch_model\.bin: .*{message}"):
            torch_file.entries(path)
    assert list(tmp_path.iterdir()) == [path]


def view(first, shape, strides, length=6, key="0"):
    of = storage("FloatStorage", key, length)
    return START + dict_of({"a": tensor(of, first, shape, strides)}) + END


LIES = {
    "offset": (view(1, (2, 3), (3, 1)), "ends at number 7 of its storage, which has 6"),
    "shape": (view(0, (3, 3), (3, 1)), "ends at number 9"),
    "strides": (view(0, (2, 3), (4, 1)), "ends at number 7"),
    "huge": (view(0, (1 << 62, 1 << 62), (1 << 62, 1)), "ends at number"),
    "too huge": (view(0, (1 << 64,), (1,)), "not natural numbers"),
    "negative": (view(-1, (2, 3), (3, 1)), "not natural numbers"),
    "negative stride": (view(5, (6,), (-1,)), "not natural numbers"),
    "zero stride": (view(0, (1 << 30,), (0,)), "has the strides"),
    "overlap": (view(0, (3, 3), (1, 1)), "has the strides"),
    "axes": (view(0, (1,) * 9, (1,) * 9), "not natural numbers"),
    "fewer strides": (view(0, (2, 3), (1,)), "not natural numbers"),
    "length": (view(0, (2, 3), (3, 1), length=7), "24 bytes, expected 28|has 6 numbers"),
    "huge length": (view(0, (2, 3), (3, 1), length=1 << 62), "expected|has 6 numbers"),
    "key": (view(0, (2, 3), (3, 1), key="1"), "'archive/data/1' is missing|lists 1 storages"),
    "key elsewhere": (view(0, (2, 3), (3, 1), key="../../x"), "is missing|lists 1 storages"),
    "true as length": (
        START + tiny_torch.tuple_of(
            tiny_torch.text("storage"), named("torch", "FloatStorage"), tiny_torch.text("0"),
            tiny_torch.text("cpu"), b"\x88",
        ) + b"Q" + END, "makes no sense",
    ),
    "view of a storage": (
        START + dict_of({"a": tensor(storage("FloatStorage", "0", 6, b"]"))}) + END,
        "storage '0' is a view of another one",
    ),
    "no tensor": (START + dict_of({"a": b"K\3"}) + END, "holds a int as 'a'|lists 1"),
    "number as name": (START + b"}K\1K\2s" + END, "holds a int as 1|lists 1"),
    "no dict": (START + b"K\3" + END, "holds a int, expected tensors by name|lists 1"),
    "few arguments": (START + call("torch._utils", "_rebuild_tensor_v2") + END, "0 arguments"),
    "no storage": (START + tensor(b"K\3") + END, "10 arguments|expected a view's"),
    "parameter": (START + call("torch._utils", "_rebuild_parameter", b"}") + END, "a Parameter of"),
    "long": (START + b"\x8a\xff" + bytes(254) + b"\1" + END, "an integer of 2033 bits"),
    "longer": (START + b"\x8b" + struct.pack("<i", 1 << 30) + END, "not a sound pickle"),
    "long string": (START + b"X\xff\xff\xff\x7f" + END, "not a sound pickle"),
    "very long string": (START + b"\x8d" + b"\xff" * 8 + END, "not a sound pickle"),
    "long memo": (START + b"h\7" + END, "has nothing under the number 7"),
    "no mark": (START + b"t" + END, "has no mark"),
    "past a mark": (START + b"}(K\1s" + END, "takes what is not there"),
    "key alone": (START + b"}(K\1u" + END, "has a key without a value"),
    "nothing": (START + END, "takes what is not there"),
    "no end": (START + b"}", "not a sound pickle"),
    "bad text": (START + b"X\1\0\0\0\xff" + END, "not a sound pickle"),
}  # fmt: skip


@pytest.mark.parametrize("what", LIES)
@pytest.mark.parametrize("old", [False, True], ids=["zip", "legacy"])
def test_lies(path, old, what):
    code, message = LIES[what]
    if old and not code.endswith(END):
        return  # the next pickle would be taken for its end
    length = {"0": (6, ONE.tobytes())}
    path.write_bytes(sequence(code, length) if old else archive(code, DATA))
    with pytest.raises(ValueError, match=rf"pytorch_model\.bin: .*({message})"):
        torch_file.entries(path)


def pickles_that_grow():
    """Small pickles whose objects are endless to walk through."""
    pairs = b")q\0" + b"".join(b"0h\0h\0\x86q\0" if i else b"h\0\x86q\0" for i in range(90))
    lists = b"]q\0" + b"".join(b"]q\1(h\0h\0eq\0" for _ in range(90))
    itself = b"]q\0h\0a"
    tuples = b")" + b"\x85" * 20_000
    marks = b"(" * 20_000
    return {
        "pairs": b")q\0" + b"h\0h\0\x86q\0" * 90, "lists": lists, "itself": itself,
        "tuples": tuples, "marks": marks + b"t" * 20_000, "sharing": pairs.replace(b"0h", b"h"),
    }  # fmt: skip


@pytest.mark.parametrize("what", pickles_that_grow())
def test_small_pickles_stay_small(path, what):
    bomb = pickles_that_grow()[what]
    wraps = (
        bomb, dict_of({"a": bomb}), b"}" + bomb + b"K\1s", bomb + b"Q", bomb + b")R",
        call("torch._utils", "_rebuild_tensor_v2", *[bomb] * 6),
        tensor(storage("FloatStorage", "0", 6), 0).replace(number(0), bomb, 1),
        tensor(storage("FloatStorage", "0", 6, bomb)),
    )  # fmt: skip
    for code in wraps:
        whole = START + code + END
        for data in (archive(whole, DATA), sequence(whole, {"0": (6, ONE.tobytes())})):
            path.write_bytes(data)
            tracemalloc.start()
            with pytest.raises(ValueError, match=r"pytorch_model\.bin: "):
                torch_file.entries(path)
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            assert peak < 150 * len(data) + 100_000
    for version in (bomb, bomb + b"K\1"):  # where a number is expected
        pickles = (version, b"}", b"}", b"]")
        path.write_bytes(tiny_torch.MAGIC + b"".join(START + one + END for one in pickles))
        with pytest.raises(ValueError, match=r"pytorch_model\.bin: is of version"):
            torch_file.entries(path)


def test_many_views_of_one_storage(path):
    """Each begins one number later; the same one under many names is one object."""
    size = 1 << 16
    of = storage("FloatStorage", "0", size)
    for first in ((lambda i: 0), (lambda i: i)):
        parts = {str(i): tensor(of, first(i), (size - 600,), (1,)) for i in range(600)}
        path.write_bytes(archive(START + dict_of(parts) + END, {"0": bytes(4 * size)}))
        if first(1):
            with pytest.raises(ValueError, match="tensors take more than 4 times the file's size"):
                torch_file.entries(path)
        else:
            assert len(set(torch_file.entries(path).values())) == 1


# ---- archives ----

PICKLE = START + dict_of({"a": A}) + END


def patched(data, old, new, count=1):
    assert data.count(old) >= count
    return data.replace(old, new)


def member(data, name):
    """Where a file's header begins, and where its entry in the archive's index does."""
    return data.index(name) - 30, data.rindex(name) - 46


def changed(name, at_header=None, at_entry=None):
    """The archive, with numbers in a file's header or entry changed: (offset, format, value)."""
    data = bytearray(archive(PICKLE, DATA, byteorder=b"little"))
    header, entry = member(data, name)
    for start, change in ((header, at_header), (entry, at_entry)):
        if change:
            offset, form, value = change
            struct.pack_into(form, data, start + offset, value)
    return bytes(data)


def two_of_one_name():
    data = archive(PICKLE, {"0": ONE.tobytes(), "1": ONE.tobytes()})
    return patched(data, b"archive/data/1", b"archive/data/0", 2)


NUMBERS, INDEX = b"archive/data/0", b"archive/data.pkl"
ARCHIVES = {
    "compressed": (archive(PICKLE, {"0": bytes(24)}, method=zipfile.ZIP_DEFLATED),
                   "data.pkl is compressed"),
    "said to be": (changed(NUMBERS, at_entry=(10, "<H", 8)), "data/0 is compressed"),
    "encrypted": (changed(NUMBERS, at_entry=(8, "<H", 1)), "data/0 is encrypted"),
    "encrypted index": (changed(INDEX, at_entry=(8, "<H", 1)), "data.pkl is encrypted"),
    "smaller": (changed(NUMBERS, at_entry=(24, "<I", 20)), "data/0 is compressed"),
    "two sizes": (changed(NUMBERS, at_entry=(20, "<Q", 28 | 28 << 32)),
                  "does not end before byte|bytes, expected 24"),
    "huge": (changed(NUMBERS, at_entry=(20, "<Q", 0xFFFFFFF0 | 0xFFFFFFF0 << 32)),
             "does not end before byte"),
    "zip64 without its field": (changed(NUMBERS, at_entry=(20, "<Q", (1 << 64) - 1)),
                                "not a sound ZIP archive|does not end|is compressed"),
    "header elsewhere": (changed(NUMBERS, at_entry=(42, "<I", 7)), "does not begin at byte"),
    "header past the end": (changed(NUMBERS, at_entry=(42, "<I", 0x7FFFFFFF)), "not begin at byte"),
    "another's header": (changed(NUMBERS, at_entry=(42, "<I", 0)), "does not begin at byte 0"),
    "no magic": (changed(NUMBERS, at_header=(0, "<I", 0)), "does not begin at byte"),
    "longer name": (changed(NUMBERS, at_header=(26, "<H", 999)), "does not end before byte"),
    "longer field": (changed(NUMBERS, at_header=(28, "<H", 9999)), "does not end before byte"),
    "shifted into the next": (changed(INDEX, at_header=(28, "<H", 8)), "does not end before byte"),
    "two of one name": (two_of_one_name(), "holds two files of one name"),
    "big endian": (archive(PICKLE, DATA, byteorder=b"big"), "byteorder is b'big', read is little"),
    "two roots": (archive(PICKLE, {**DATA, "/data.pkl": PICKLE}), "holds 2 files data.pkl"),
    "no numbers": (archive(PICKLE, {}), "'archive/data/0' is missing"),
    "fewer numbers": (archive(PICKLE, {"0": bytes(20)}), "data/0 has 20 bytes, expected 24"),
    "more numbers": (archive(PICKLE, {"0": bytes(28)}), "data/0 has 28 bytes, expected 24"),
}  # fmt: skip


@pytest.mark.parametrize("what", ARCHIVES)
def test_archives(path, what):
    data, message = ARCHIVES[what]
    path.write_bytes(data)
    with pytest.raises(ValueError, match=rf"pytorch_model\.bin: .*({message})"):
        torch_file.entries(path)


def test_files_that_share_bytes(path):
    """One storage within another: each has its own header, and its own place in the index."""
    inner = archive(PICKLE, {"1": ONE.tobytes()})
    start = inner.index(b"archive/data/1") - 30
    header = inner[start : inner.index(b"PK\1\2")]
    outer = ONE.tobytes() + header
    length = len(outer) // 4
    outer = outer[: 4 * length]
    code = dict_of({"a": tensor(storage("FloatStorage", "0", length), 0, (length,), (1,))})
    data = bytearray(archive(START + code + END, {"0": outer, "1": ONE.tobytes()}))
    path.write_bytes(data)
    assert read(path)["a"].size == length
    _, entry = member(data, b"archive/data/1")
    struct.pack_into("<I", data, entry + 42, data.index(header[:30]))
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"data/0 of .* does not end before byte"):
        torch_file.entries(path)


def test_an_index_that_is_too_long_is_not_read(path):
    """Neither the archive's nor the pickle."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as file:
        file.writestr("archive/data.pkl", PICKLE)
        for i in range(60_000):
            file.writestr(f"archive/data/{i:030}", b"")
    for data, message in (
        (made.getvalue(), "its index claims .* bytes, at most"),
        (archive(PICKLE + bytes(5 << 20), DATA), "data.pkl has .* bytes, at most"),
    ):
        path.write_bytes(data)
        tracemalloc.start()
        with pytest.raises(ValueError, match=rf"pytorch_model\.bin: .*{message}"):
            torch_file.entries(path)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (sequence(PICKLE, {"0": (6, ONE.tobytes())}, version=1002), "is of version 1002"),
        (sequence(PICKLE, {"0": (6, ONE.tobytes())}, little_endian=False), "little-endian machine"),
        (sequence(PICKLE, {"0": (5, ONE.tobytes())}), "has 5 numbers, expected 6"),
        (sequence(PICKLE, {"0": (6, ONE.tobytes()[:-1])}), "23 bytes are left"),
        (sequence(PICKLE, {}), "lists 0 storages, refers to 1 others"),
        (sequence(PICKLE, {"1": (6, ONE.tobytes())}), "lists 1 storages"),
        (sequence(PICKLE, {"0": (6, ONE.tobytes()), "1": (0, b"")}), "lists 2 storages"),
        (tiny_torch.MAGIC, "not a sound pickle"),
        (tiny_torch.MAGIC + b"".join(START + one + END for one in (number(1001), b"}", b"}", b"}")),
         "little-endian machine"),
    ],
)  # fmt: skip
def test_sequences(path, data, message):
    path.write_bytes(data)
    with pytest.raises(ValueError, match=rf"pytorch_model\.bin: .*{message}"):
        torch_file.entries(path)


def test_two_storages_of_one_key(path):
    parts = {
        kind: tensor(storage(f"{kind}Storage", "0", 6), 0, (6,), (1,)) for kind in ("Float", "Int")
    }
    data = {"0": (6, ONE.tobytes())}
    path.write_bytes(sequence(START + dict_of(parts) + END, data))
    with pytest.raises(ValueError, match="refers to storage '0' as two different ones"):
        torch_file.entries(path)
