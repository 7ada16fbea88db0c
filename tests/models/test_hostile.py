"""Files that are damaged, lie, or are no models: each ends in a ValueError that begins with the
file's name, having taken no more than a small multiple of its size."""

from __future__ import annotations

import contextlib
import gc
import io
import json
import pickle
import struct
import subprocess
import sys
import tracemalloc
import zipfile
from pathlib import Path

import fuzz
import numpy as np
import pytest
import random_ctranslate2
import tiny_marian
import tiny_torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from seq2seq_fast import load
from seq2seq_fast.models.formats import (
    ctranslate2,
    huggingface,
    marian,
    npz,
    safetensors,
    sniff,
    torch_file,
)  # fmt: skip
from seq2seq_fast.models.formats.stored import Quantised

ONE = np.arange(6, dtype=np.float32).reshape(2, 3)
CONFIG = np.frombuffer(tiny_marian.CONFIG.encode() + b"\0", np.int8)
NESTED = b"[" * 200_000 + b"]" * 200_000


@contextlib.contextmanager
def at_most(size):
    """What happens within takes no more memory than so many bytes."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < size
    finally:
        tracemalloc.stop()


# ---- random damage ----


@pytest.mark.parametrize("target", fuzz.TARGETS)
def test_fuzz(target):
    command = [sys.executable, fuzz.__file__, target, "--cases", "100", "--seed", "17"]
    found = subprocess.run(command, capture_output=True, text=True)
    assert found.returncode == 0, found.stdout + found.stderr


# ---- every cut ----


def text_of(name):
    return name.encode() + b"\0"


def small_marian():
    config = (tiny_marian.INT8, CONFIG.shape, CONFIG.tobytes())
    blobs = {"b": tiny_marian.blob(ONE), "W": tiny_marian.intgemm8(ONE, transposed=True)}
    return tiny_marian.pack({"special:model.yml": config, **blobs})


def small_npz():
    file = io.BytesIO()
    np.savez_compressed(file, **{"b": ONE, marian.CONFIG_NAME: CONFIG})
    return file.getvalue()


def string(name):
    return struct.pack("<H", len(name) + 1) + name.encode() + b"\0"


def small_ctranslate2():
    data = struct.pack("<I", 6) + string("TransformerSpec") + struct.pack("<II", 7, 1)
    data += string("b") + struct.pack("<BIIBI", 2, 2, 3, 0, 24) + ONE.tobytes()
    return data + struct.pack("<I", 1) + string("also") + string("b")


def small_safetensors(folder):
    safetensors.write(folder / "x", {"a": ONE, "b": ONE[0]}, {"key": "value"})
    return (folder / "x").read_bytes()


def small_shortlist(folder):
    fuzz.write_shortlist(folder)
    return (folder / "lex.bin").read_bytes()


def read_all(tensors):
    for tensor in tensors.values():
        np.asarray(tensor.rows if isinstance(tensor, Quantised) else tensor)


READERS = {
    "model.bin": (lambda _: small_marian(), lambda path: read_all(marian.read(path).tensors)),
    "model.npz": (lambda _: small_npz(), lambda path: read_all(marian.read(path).tensors)),
    "ctranslate2.bin": (
        lambda _: small_ctranslate2(), lambda path: read_all(ctranslate2.read(path).tensors)
    ),
    "x.safetensors": (small_safetensors, lambda path: read_all(safetensors.read(path).tensors)),
    "lex.bin": (small_shortlist, lambda path: marian.Shortlist(path, 13)),
    "config.json": (lambda _: b'{"a": [1, 2], "b": "c"}', huggingface.read_json),
    "vocabulary.json": (lambda _: b'["</s>", "a", "\\u2581b"]', ctranslate2.read_vocabulary),
    "model.safetensors.index.json": (lambda _: b'{"weight_map": {"a": "x"}}', huggingface.read),
    "pytorch_model.bin": (lambda _: tiny_torch.checkpoint({"a": ONE, "b": ONE[0]}),
                          lambda path: read_all(huggingface.read(path))),
    "legacy.bin": (lambda _: tiny_torch.checkpoint({"a": ONE, "b": ONE[0]}, old=True),
                   lambda path: read_all(huggingface.read(path))),
}  # fmt: skip


@pytest.mark.parametrize("name", READERS)
def test_every_cut(tmp_path, name):
    make, read = READERS[name]
    data = make(tmp_path)
    path = tmp_path / name
    path.write_bytes(data)
    (tmp_path / "x").write_bytes(small_safetensors(tmp_path))
    read(path)
    for size in range(len(data)):
        path.write_bytes(data[:size])
        with pytest.raises(ValueError) as caught:
            read(path)
        assert str(caught.value).startswith(f"{path}: ")


def test_a_file_that_is_cut_after_its_header_was_read(tmp_path):
    path = tmp_path / "model.bin"
    for data, read in (
        (small_marian(), lambda path: marian.read(path).tensors),
        (small_ctranslate2(), lambda path: ctranslate2.read(path).tensors),
        (tiny_torch.checkpoint({"a": ONE}), torch_file.entries),
    ):
        path.write_bytes(data)
        tensors = read(path)
        path.write_bytes(data[: data.index(ONE.tobytes()) + 9])
        with pytest.raises(ValueError, match=r"model\.bin: was cut short while it was read"):
            read_all(tensors)


# ---- what a file is ----


def zip_of(name):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(name, b"1")
    return file.getvalue()


NO_MODELS = {
    "nothing": (b"", "an empty file"),
    "html": (b"\n<!DOCTYPE html>\n<html><body>404</body></html>", "a web page (HTML)"),
    "old html": (b"<HTML><head><title>Acc\xe8s refus\xe9</title>", "a web page (HTML)"),
    "xml": (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code>', "an XML document"),
    "lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 17140899\n",
            "a Git LFS pointer to a file that was not downloaded (git lfs pull fetches it)"),
    "gzip": (b"\x1f\x8b\x08\0" + bytes(60), "compressed by gzip: unpack it first"),
    "zstd": (b"\x28\xb5\x2f\xfd" + bytes(60), "compressed by zstd: unpack it first"),
    "zip": (zip_of("readme"), "a ZIP archive"),
    "pickle": (pickle.dumps({"a": 1}, 2), "a pickle"),
    "version 3": (struct.pack("<I", 3) + string("TransformerSpec"),
                  "a CTranslate2 model of version 3, read are 4 to 6"),
    "version 7": (struct.pack("<I", 7) + string("TransformerSpec"),
                  "a CTranslate2 model of version 7, read are 4 to 6"),
    "version 100": (struct.pack("<I", 100) + string("WhisperSpec"),
                    "a CTranslate2 model of version 100, read are 4 to 6"),
    "json": (b'{"model_type": "whisper"}', "JSON text"),
    "text": ("Não é um modelo.\n".encode() * 99, "text that begins 'Não é um modelo."),
    "gguf": (b"GGUF\3\0\0\0", "a GGUF model of llama.cpp"),
    "npy": (b"\x93NUMPY\1\0", "a single NumPy array (.npy)"),
    "shortlist": (struct.pack("<6Q", 0xF11A48D5013417F5, 0, 0, 0, 0, 0), "a Marian shortlist"),
    "sound": (b"RIFF" + bytes(40), "a sound file"),
    "zeros": (bytes(4096), "of a kind that is not known: it begins with the bytes 00 00 00"),
    "latin1": (b"caf\xe9 " * 9, "of a kind that is not known"),
    "wide marian": (struct.pack("<Q", 2**32 + 1), "of a kind that is not known"),
}  # fmt: skip


@pytest.mark.parametrize("name", ["model.bin", "model.npz", "model.safetensors", "other"])
@pytest.mark.parametrize("what", NO_MODELS)
def test_what_is_no_model_is_called_what_it_is(tmp_path, monkeypatch, what, name):
    data, words = NO_MODELS[what]
    (tmp_path / name).write_bytes(data)
    monkeypatch.chdir(tmp_path)
    for path in (tmp_path / name, Path(name)):
        with pytest.raises(ValueError) as caught:
            load(path)
        message = str(caught.value)
        assert message.startswith(
            f"{path}: expected a Marian model, a NumPy archive (.npz), a CTranslate2 model, a"
            " safetensors file, a PyTorch checkpoint or a PyTorch checkpoint of before version 1.6;"
            f" this is {words}"
        )
        assert message.count(name) == 1


BEGINNINGS = sorted({data[:9] for data, _ in NO_MODELS.values()})


@settings(deadline=None)
@given(beginning=st.sampled_from(BEGINNINGS), cut=st.integers(0, 9), rest=st.binary(max_size=600))
def test_any_file_is_called_something(tmp_path_factory, beginning, cut, rest):
    path = tmp_path_factory.getbasetemp() / "any"
    path.write_bytes(beginning[:cut] + rest)
    assert sniff.kind(path).isprintable()


@pytest.mark.parametrize("what", ["nothing", "html", "lfs"])
def test_so_is_what_lies_beside_a_model(tmp_path, what):
    data, words = NO_MODELS[what]
    (tmp_path / "lex.bin").write_bytes(data)
    with pytest.raises(ValueError, match=r"lex\.bin: expected a Marian shortlist; this is ") as one:
        marian.Shortlist(tmp_path / "lex.bin", 9)
    (tmp_path / "config.json").write_bytes(data)
    with pytest.raises(ValueError, match=r"config\.json: not JSON: .*; this is ") as other:
        huggingface.read_json(tmp_path / "config.json")
    for caught in (one, other):
        assert f"this is {words}" in str(caught.value)


@pytest.mark.parametrize("kind", ["marian", "npz", "ctranslate2", "hugging_face", "torch",
                                  "old_torch", "saved_text"])  # fmt: skip
@pytest.mark.parametrize("name", ["model.bin", "model.npz", "model.safetensors"])
def test_a_model_is_known_whatever_its_name(tmp_path, kind, name):
    target = fuzz.TARGETS[kind]
    target.write(tmp_path)
    size = load(tmp_path).nbytes
    (tmp_path / target.damaged[0]).rename(tmp_path / name)
    model = load(tmp_path)
    target.run(model)
    assert model.nbytes == size


def test_a_relative_path_is_named_once(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fuzz.write_hugging_face(tmp_path)
    save_file({"a": ONE}, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match=r"^model\.safetensors: tensor \S+ is missing$"):
        load("model.safetensors")
    Path("config.json").write_text("[")
    with pytest.raises(ValueError, match=r"^config\.json: not JSON"):
        load("model.safetensors")
    bad = tiny_marian.CONFIG.replace("heads: 2", "heads: 5")
    Path("model.bin").write_bytes(tiny_marian.model_file(config=bad))
    with pytest.raises(ValueError, match=r"^model\.bin: width 16 does not divide into 5 heads$"):
        load("model.bin")


# ---- .npz ----


def write_npz(path, tensors, method=zipfile.ZIP_DEFLATED):
    """Arrays, and those of any size that are zeros, given by their shape."""
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, tensor in tensors.items():
            with archive.open(f"{name}.npy", "w") as file:
                if isinstance(tensor, np.ndarray):
                    np.lib.format.write_array(file, tensor)
                    continue
                header = {"descr": "<f4", "fortran_order": False, "shape": tensor}
                np.lib.format.write_array_header_1_0(file, header)
                for _ in range(np.prod(tensor, dtype=int) * 4 >> 20):
                    file.write(bytes(1 << 20))


def test_what_nobody_needs_is_not_inflated(tmp_path):
    path = tmp_path / "model.npz"
    tensors = {marian.CONFIG_NAME: CONFIG, **tiny_marian.random_tensors()}
    write_npz(path, {**tensors, "adam_QuantMultA": (1 << 24,)})
    load(path)  # imports what it needs
    with at_most(4 << 20):
        assert len(load(path).encoder.layers) == 2
    write_npz(path, {**tensors, "adam": (1 << 24,)})
    with at_most(4 << 20), pytest.raises(ValueError, match=r"model\.npz: has adam, which is not"):
        load(path)


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("Wemb", (1 << 20, 16), "Wemb takes 67108864 bytes .* more than 32 times its size"),
        ("encoder_l1_self_Wq", (1 << 20, 16), r"the shape \(1048576, 16\), expected \(16, 16\)"),
        (marian.CONFIG_NAME, (1 << 24,), "takes 67108864 bytes inflated"),
    ],
)
def test_what_becomes_too_much_is_not_inflated(tmp_path, name, shape, message):
    path = tmp_path / "model.npz"
    tensors = {marian.CONFIG_NAME: CONFIG, **tiny_marian.random_tensors()}
    write_npz(path, {**tensors, name: shape})
    with at_most(4 << 20), pytest.raises(ValueError, match=rf"model\.npz: .*{message}"):
        load(path)


def test_many_arrays_together_become_no_more(tmp_path):
    path = tmp_path / "model.npz"
    write_npz(path, {f"zeros{i}": (1 << 18,) for i in range(40)})
    arrays = npz.Archive(path).arrays
    with at_most(8 << 20), pytest.raises(ValueError, match="more than 32 times its size"):
        for array in arrays.values():
            np.asarray(array)


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_unusual_compression(tmp_path, method):
    write_npz(tmp_path / "model.npz", {marian.CONFIG_NAME: CONFIG}, method)
    with pytest.raises(ValueError, match=rf"model\.npz: .* by method {method}, read is deflate"):
        load(tmp_path)


@pytest.mark.parametrize(
    "header",
    [
        b"{'descr': '<f4', 'fortran_order': False, 'shape': (",
        b"{'descr': '<f4', 'fortran_order': False, 'shape': (" + b"(" * 9000,
        b"{'descr': '<f4', 'fortran_order': False, 'shape': (" + b"1, " * 65 + b"), }",
        b"{'descr': '<f4', 'fortran_order': False, 'shape': (" + b"9" * 9000 + b",), }",
        b"{'descr': '<f3', 'fortran_order': False, 'shape': (1,), }",
        b"{'descr': '|O', 'fortran_order': False, 'shape': (1,), }",
        b"{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,), }",
        b"{'shape': (-1,)}",
        b"'" * 5000,
        b"-" * 9000 + b"1",
        b"\xff" * 99,
    ],
)
def test_headers_of_arrays(tmp_path, header):
    path = tmp_path / "model.npz"
    with zipfile.ZipFile(path, "w") as archive:
        start = b"\x93NUMPY\1\0" + struct.pack("<H", len(header))
        archive.writestr(f"{marian.CONFIG_NAME}.npy", start + header + bytes(4))
    with pytest.raises(ValueError, match=rf"model\.npz: {marian.CONFIG_NAME}: (is no|has the sha)"):
        load(path)


def test_a_header_that_claims_gigabytes(tmp_path):
    path = tmp_path / "model.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        start = b"\x93NUMPY\2\0" + struct.pack("<I", 1 << 26)
        archive.writestr(f"{marian.CONFIG_NAME}.npy", start + b" " * (1 << 26))
    with at_most(2 << 20), pytest.raises(ValueError, match="is no array of numbers"):
        load(path)


def test_arrays_as_numpy_writes_them(tmp_path):
    written = {
        "a": ONE, "transposed": np.asfortranarray(ONE), "scalar": np.float32(7), "none": ONE[:0],
        "double": ONE.astype(np.float64), "half": ONE.astype(np.float16),
        "bytes": ONE.astype(np.int8), "big": ONE.astype(">f4"), "long": ONE.astype(np.uint64),
    }  # fmt: skip
    for write in (np.savez, np.savez_compressed):
        write(tmp_path / "x.npz", **written)
        read = npz.Archive(tmp_path / "x.npz").arrays
        for name, want in written.items():
            found = np.asarray(read[name])
            assert (found.dtype, found.shape) == (np.float32, want.shape)
            assert (found == want).all()
            assert read[name].stored().dtype == want.dtype


# ---- safetensors ----


def entry(shape, begin, end):
    return {"dtype": "F32", "shape": shape, "data_offsets": [begin, end]}


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ({"a": entry([2], 0, 8), "b": entry([2], 0, 8)},
         "tensor b begins at byte 0 of the data, expected 8"),
        ({"a": entry([2], 0, 8), "b": entry([2], 4, 12)}, "tensor b begins at byte 4"),
        ({"b": entry([2], 16, 24), "a": entry([2], 0, 8)}, "tensor b begins at byte 16"),
        ({"a": entry([2], 8, 16)}, "tensor a begins at byte 8 of the data, expected 0"),
        ({"a": entry([2], 0, 8)}, "the tensors end at byte 8 of the data, which has 24"),
        ({}, "the tensors end at byte 0 of the data"),
        ({"a": entry([1] * 65, 0, 4)}, "tensor a: the entry .* makes no sense"),
        ({"a": entry([2**62, 4], 0, 0)}, "does not take the bytes"),
        ({"a": entry([-1], 0, 4)}, "makes no sense"),
        ({"a": entry([True], 0, 4)}, "makes no sense"),
        ({"a": entry([2], 8, 0)}, "does not take the bytes"),
        ({"a": {"dtype": [], "shape": [], "data_offsets": [0, 4]}}, "makes no sense"),
        ({"a": None}, "makes no sense"),
        ({"__metadata__": {"a": 1}}, "the metadata are not strings"),
    ],
)  # fmt: skip
def test_safetensors(tmp_path, header, message):
    text = json.dumps(header).encode()
    path = tmp_path / "model.safetensors"
    path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(24))
    for read in (load, safetensors.read):
        with pytest.raises(ValueError, match=rf"model\.safetensors: .*{message}"):
            read(path)


def test_tensors_that_share_bytes_cost_nothing(tmp_path):
    size = 1 << 22
    header = {f"t{i}": entry([size // 4], 0, size) for i in range(400)}
    text = json.dumps(header).encode()
    path = tmp_path / "model.safetensors"
    path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(size))
    with at_most(size), pytest.raises(ValueError, match="begins at byte 0 of the data, expected"):
        safetensors.read(path)


def test_an_index_is_exact(tmp_path):
    fuzz.write_index(tmp_path)
    index = tmp_path / "model.safetensors.index.json"
    listed = json.loads(index.read_text())["weight_map"]
    for name, error, message in (
        ("missing.safetensors", FileNotFoundError, "names 'missing.safetensors', which is not"),
        ("", FileNotFoundError, "names '', which is not there"),
        ("a\0b", FileNotFoundError, "which is not there"),
        ("x" * 999, FileNotFoundError, "which is not there"),
        ("../part.safetensors", ValueError, "is not a file of its own folder"),
        ("/dev/zero", ValueError, "is not a file of its own folder"),
    ):
        index.write_text(json.dumps({"weight_map": {**listed, "a": name}}))
        with pytest.raises(error, match=rf"index\.json: .*{message}"):
            load(tmp_path)
    index.write_text(json.dumps({"weight_map": {**listed, "a": "part.safetensors"}}))
    with pytest.raises(ValueError, match=r"index\.json: tensor a is not in part\.safetensors"):
        load(tmp_path)


# ---- what is linear in a file's size: the square of these sizes would not end ----


def test_long_lines_of_a_configuration(tmp_path):
    config = "a: b" + " \t" * 3_000_000 + "b\n" + "c" * 3_000_000 + "\n" + tiny_marian.CONFIG
    path = tmp_path / "model.bin"
    path.write_bytes(tiny_marian.model_file(config=config))
    assert len(load(path).encoder.layers) == 2


def test_a_configuration_with_other_ends_of_lines(tmp_path):
    path = tmp_path / "model.bin"
    config = tiny_marian.CONFIG.replace("\n", " \t\r\n")
    path.write_bytes(tiny_marian.model_file(config=config))
    assert len(load(path).encoder.layers) == 2


def test_two_of_many_tensors_have_one_name(tmp_path):
    count = marian.MAX_TENSORS
    names = [*(f"{i:05}" for i in range(count - 1)), "65534"]
    header = np.tile(np.array([6, tiny_marian.FLOAT32, 0, 4], "<u8"), count)
    path = tmp_path / "model.bin"
    path.write_bytes(
        struct.pack("<2Q", 1, count) + header.tobytes() + b"".join(map(text_of, names))
        + struct.pack("<Q", 0) + bytes(4 * count)
    )  # fmt: skip
    with pytest.raises(ValueError, match=r"model\.bin: holds two tensors named 65534"):
        load(path)


def test_two_arrays_have_one_name(tmp_path):
    with zipfile.ZipFile(tmp_path / "model.npz", "w") as archive:
        for name in ("W.npy", "W"):
            archive.writestr(name, b"")
    with pytest.raises(ValueError, match=r"model\.npz: holds two arrays named W"):
        load(tmp_path)


def test_one_vector_under_many_names_is_read_once(tmp_path):
    """A layer with a long bias a hundred times over, by names alone."""
    random_ctranslate2.write(
        tmp_path, layers=1, width=4, inner=1 << 16, vocabulary=8, heads=1, zero_start=True
    )
    path = tmp_path / "model.bin"
    tensors = ctranslate2.read(path).tensors
    aliases = [
        string(name.replace("layer_0", f"layer_{i}")) + string(name)
        for name in tensors
        for i in range(1, 100)
        if "/layer_0/" in name
    ]
    end = max(tensor.offset + tensor.nbytes for tensor in tensors.values())
    path.write_bytes(path.read_bytes()[:end] + struct.pack("<I", len(aliases)) + b"".join(aliases))
    with at_most(6 * path.stat().st_size):
        assert len(load(tmp_path).encoder.layers) == 100


# ---- JSON ----


@pytest.mark.parametrize(
    ("target", "name"),
    [
        ("ctranslate2", "config.json"),
        ("ctranslate2", "shared_vocabulary.json"),
        ("hugging_face", "config.json"),
        ("index", "model.safetensors.index.json"),
    ],
)
@pytest.mark.parametrize("data", [NESTED, b'{"a":' * 100_000, b"\xff\xfe", b"nul", b"7", b""])
def test_json(tmp_path, target, name, data):
    fuzz.TARGETS[target].write(tmp_path)
    (tmp_path / name).write_bytes(data)
    with pytest.raises(ValueError) as caught:
        load(tmp_path)
    assert str(caught.value).startswith(f"{tmp_path / name}: ")


@pytest.mark.parametrize("key", ["activation_function", "model_type", "encoder_layers",
                                 "decoder_attention_heads", "eos_token_id"])  # fmt: skip
@pytest.mark.parametrize("value", [[], {}, None, [[[[[]]]]], "x", -1, 2**70, 1e300, True])
def test_configurations(tmp_path, key, value):
    fuzz.write_hugging_face(tmp_path)
    path = tmp_path / "config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps({**config, key: value}))
    with pytest.raises(ValueError, match=rf"config\.json: says {key}: "):
        load(tmp_path)


@pytest.mark.parametrize("name", ["config.json", "shared_vocabulary.json"])
def test_what_is_too_long_is_not_read(tmp_path, name):
    fuzz.write_ctranslate2(tmp_path)
    path = tmp_path / name
    with path.open("wb") as file:
        file.write(b"[")
        file.truncate(1 << 34)
    with at_most(1 << 20), pytest.raises(ValueError, match=rf"{name}: .* at most 16777216 bytes"):
        load(tmp_path)
    path.unlink()
    path.symlink_to("/dev/zero")
    with pytest.raises(ValueError, match=rf"{name}: .* this is no file but a device"):
        load(tmp_path)


def test_a_header_that_is_too_long_is_not_read(tmp_path):
    path = tmp_path / "model.safetensors"
    with path.open("wb") as file:
        file.write(struct.pack("<Q", 90_000_000) + b"{")
        file.truncate(1 << 30)
    with at_most(1 << 20), pytest.raises(ValueError, match=r"tensors: the header claims 90000000"):
        load(path)


# ---- save()'s own files ----


def changed_model(path, change):
    data = path.read_bytes()
    (length,) = struct.unpack_from("<Q", data)
    header = json.loads(data[8 : 8 + length])
    description = json.loads(header["__metadata__"]["seq2seq_fast"])
    change(description["model"])
    header["__metadata__"]["seq2seq_fast"] = json.dumps(description)
    text = json.dumps(header).encode()
    text += b" " * (-(8 + len(text)) % 64)
    path.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + length :])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda e: e.update(activation="x"), "activation 'x' is not known"),
        (lambda e: e.update(activation=[]), r"holds \[\] where"),
        (lambda e: e["first"].update(stride=2**62), "no convolution"),
        (lambda e: e["second"].update(stride=4), "no convolution"),
        (lambda e: e["second"].update(stride=-1), "no convolution"),
        (lambda e: e["second"].update(kernel=0), "no convolution"),
        (lambda e: e["second"].update(kernel=2**62), "no convolution"),
        (lambda e: e.update(positions=None), "holds None where"),
        (lambda e: e.update(part=[]), "unhashable"),
        (lambda e: e["positions"].update(table={"tensor": []}), "unhashable"),
        (lambda e: e["positions"].update(table={"tensor": "x"}), "'x' is missing"),
    ],
)  # fmt: skip
def test_saved_speech(tmp_path, change, message):
    fuzz.TARGETS["saved_speech"].write(tmp_path)
    changed_model(
        tmp_path / "model.safetensors", lambda model: change(model["encoder"]["embedding"])
    )
    with pytest.raises(ValueError, match=rf"model\.safetensors: .*{message}"):
        load(tmp_path)


@pytest.mark.parametrize("scale", [1e39, -1e300, float("nan"), float("inf")])
def test_numbers_that_are_no_float32(tmp_path, scale):
    fuzz.TARGETS["saved_text"].write(tmp_path)
    path = tmp_path / "model.safetensors"
    changed_model(path, lambda model: model["decoder"]["embedding"].update(scale=scale))
    with pytest.raises(ValueError, match=r"model\.safetensors: holds the number .* no float32"):
        load(path)


def test_panels_anywhere_in_a_file(tmp_path):
    """The kernel reads them four bytes at a time, or sixteen numbers."""
    path = tmp_path / "model.safetensors"
    fuzz.TARGETS["saved_text"].write(tmp_path)
    want = load(path).generate([[5, 3, 0]])
    data = path.read_bytes()
    (length,) = struct.unpack_from("<Q", data)
    for shift in (1, 2, 3, 32):
        text = data[8 : 8 + length] + b" " * shift
        path.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + length :])
        model = load(path)
        assert model.generate([[5, 3, 0]]) == want
        panels = model.encoder.layers[0].feed_forward.up.matrix.panels
        assert panels.ctypes.data % 64 == 0


CUT = """
import os, sys
from seq2seq_fast import load
from seq2seq_fast.models.encoder_decoder import distinct_arrays

file, stays_mapped = sys.argv[1:]
model = load(file)
os.truncate(file, 0)
for array in distinct_arrays(model):
    if array.ndim < 3 or not stays_mapped:
        array.tobytes()
print("alive")
"""


@pytest.mark.parametrize("target", ["marian", "npz", "ctranslate2", "hugging_face", "torch",
                                    "old_torch", "saved_text", "saved_speech"])  # fmt: skip
def test_a_file_that_is_cut_in_use(tmp_path, target):
    """Nothing but the panels of a saved file's matrices stays in the file that was loaded."""
    fuzz.TARGETS[target].write(tmp_path)
    file = str(tmp_path / fuzz.TARGETS[target].damaged[0])
    command = [sys.executable, "-c", CUT, file, "panels" if target.startswith("saved") else ""]
    found = subprocess.run(command, capture_output=True, text=True)
    assert (found.returncode, found.stdout) == (0, "alive\n"), found.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="what is open is in Linux's /proc")
@pytest.mark.parametrize(
    "target", ["marian", "npz", "ctranslate2", "hugging_face", "torch", "old_torch", "index"]
)
def test_no_file_stays_open(tmp_path, target):
    def opened():
        links = Path("/proc/self/fd").iterdir()
        return [link for link in links if str(tmp_path) in str(link.resolve())]

    fuzz.TARGETS[target].write(tmp_path)
    model = load(tmp_path)
    gc.collect()  # an archive and its arrays hold each other
    assert not opened()
    assert fuzz.TARGETS[target].run(model) is None


def test_what_was_saved_stays_mapped(tmp_path):
    fuzz.TARGETS["saved_text"].write(tmp_path)
    model = load(tmp_path)
    for linear in (model.decoder.output, model.encoder.layers[0].feed_forward.up):
        base = linear.matrix.panels
        while isinstance(base.base, np.ndarray):
            base = base.base
        assert isinstance(base, np.memmap)
