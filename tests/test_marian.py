"""The Marian reader: right numbers from good files, a helpful ValueError from every bad one."""

from __future__ import annotations

import struct
import tracemalloc

import numpy as np
import pytest
import tiny_marian
from hypothesis import given, settings
from hypothesis import strategies as st

from seq2seq_fast import load
from seq2seq_fast.formats import marian


@pytest.fixture
def write(tmp_path):
    """Writes a file's bytes; returns its path."""

    def write(data, name="model.tiny.bin"):
        path = tmp_path / name
        path.write_bytes(data)
        return path

    return write


def test_reads_what_was_written(write):
    rng = np.random.default_rng(0)
    plain = rng.standard_normal((3, 5)).astype(np.float32)
    packed = rng.standard_normal((4, 6)).astype(np.float32)
    embedding = rng.standard_normal((7, 2)).astype(np.float32)
    half = plain.astype(np.float16)
    text = b"dim-emb: 2\nlist:\n  - 1\nname: \"a b\"\nquoted: ''\n\0"
    path = write(
        tiny_marian.pack(
            {
                "plain": tiny_marian.blob(plain),
                "half": (0x0402, half.shape, half.tobytes()),
                "packed": tiny_marian.intgemm8(packed, transposed=True),
                "x_Wemb": tiny_marian.intgemm8(embedding, transposed=False),
                "special:model.yml": (tiny_marian.INT8, (len(text),), text),
            }
        )
    )
    config, tensors = marian.read(path)
    assert config == {"dim-emb": "2", "name": "a b", "quoted": ""}
    assert list(tensors) == ["plain", "half", "packed", "x_Wemb"]
    for name, want in (("plain", plain), ("half", half)):
        assert tensors[name].dtype == np.float32
        assert (tensors[name] == want).all()
    for name, want in (("packed", packed.T), ("x_Wemb", embedding)):
        rows, multiplier = tensors[name]
        assert (rows.dtype, rows.shape) == (np.int8, want.shape)
        assert np.abs(rows / multiplier - want).max() <= 0.5001 * np.abs(want).max() / 127


def test_every_cut_is_noticed(write):
    data = tiny_marian.model_file()
    header = 16 + 32 * 4
    for size in [*range(0, header, 3), *range(header, len(data), 397), len(data) - 300]:
        path = write(data[:size])
        with pytest.raises(ValueError, match=r"model\.tiny\.bin: .* needs \d+ bytes"):
            marian.read(path)


@pytest.mark.parametrize("magic", [0, 2, 0x04034B50, 2**64 - 1])
def test_wrong_magic(write, magic):
    with pytest.raises(ValueError, match=f"not a Marian binary file: version {magic}, expected 1"):
        marian.read(write(tiny_marian.pack({}, version=magic)))


def test_what_is_no_model_is_not_read_to_its_end():
    with pytest.raises(ValueError, match="/dev/zero: not a Marian binary file: version 0"):
        marian.read("/dev/zero")


def lie(**changes):
    """A file of one tensor, a field of whose header was changed."""
    data = bytearray(tiny_marian.pack({"Wq": tiny_marian.blob(np.ones((2, 3), np.float32))}))
    places = {"count": 8, "name_length": 16, "type": 24, "axes": 32, "data_length": 40, "rows": 51}
    for field, value in changes.items():
        size = "<i" if field == "rows" else "<Q"
        struct.pack_into(size, data, places[field], value)
    return bytes(data)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"count": 2**63}, "claims 9223372036854775808 tensors"),
        ({"count": 60000}, "the header of tensor"),
        ({"name_length": 2**40}, "the name of tensor 0 needs 1099511627776 bytes"),
        ({"name_length": 0}, "the name of tensor 0 is not NUL-terminated"),
        ({"name_length": 2}, "the name of tensor 0 is not NUL-terminated"),
        ({"type": 0x9999}, "tensor Wq has the type 0x9999"),
        ({"axes": 2**62}, "tensor Wq claims 4611686018427387904 axes"),
        ({"data_length": 2**62}, "tensor Wq needs 4611686018427387904 bytes"),
        ({"data_length": 20}, r"tensor Wq of shape \(2, 3\) needs 24 bytes, its data has 20"),
        ({"rows": -1}, r"tensor Wq has the shape \(-1, 3\)"),
        ({"rows": 2**31 - 1}, r"tensor Wq of shape \(2147483647, 3\) needs 25769803764 bytes"),
    ],
)
def test_lies(write, changes, message):
    path = write(lie(**changes))
    tracemalloc.start()
    with pytest.raises(ValueError, match=message) as caught:
        marian.read(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert str(path) in str(caught.value)
    assert peak < 1 << 20  # nothing near what was claimed


@pytest.mark.parametrize("multiplier", [0.0, -1.0, np.nan, np.inf])
def test_bad_multiplier(write, multiplier):
    data = struct.pack("<4bf", 1, 2, 3, 4, multiplier)
    path = write(tiny_marian.pack({"Wq": (tiny_marian.INTGEMM8, (2, 2), data)}))
    with pytest.raises(ValueError, match="tensor Wq has the quantisation multiplier"):
        marian.read(path)


def test_two_tensors_of_one_name(write):
    one = tiny_marian.blob(np.ones((1, 1), np.float32))
    data = tiny_marian.pack({"Wq": one, "Wk": one}).replace(b"Wk\0", b"Wq\0")
    with pytest.raises(ValueError, match="holds two tensors named Wq"):
        marian.read(write(data))


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_flipped_bytes_give_a_value_error_or_a_model(tmp_path_factory, data):
    file = bytearray(tiny_marian.model_file())
    header = 16 + 32 * len(tiny_marian.shapes()) + 3000
    for _ in range(data.draw(st.integers(1, 4))):
        file[data.draw(st.integers(0, header))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "model.flipped.bin"
    path.write_bytes(file)
    try:
        model = load(path)
    except ValueError as error:
        assert str(error).startswith(f"{path}: ")
    else:
        model.generate([[3, 0]], max_length=2)


# ---- load(): a model out of named arrays ----


@pytest.mark.parametrize("name", ["encoder_l2_self_Wv", "decoder_l1_rnn_bf", "decoder_ff_logit_out_b"])
def test_a_missing_tensor_is_named(write, name):
    tensors = tiny_marian.random_tensors()
    del tensors[name]
    with pytest.raises(ValueError, match=rf"model\.tiny\.bin: tensor {name} is missing"):
        load(write(tiny_marian.model_file(tensors)))


def test_missing_embeddings_are_named(write):
    tensors = tiny_marian.random_tensors()
    del tensors["Wemb"]
    with pytest.raises(ValueError, match="tensor encoder_Wemb is missing"):
        load(write(tiny_marian.model_file(tensors)))


@pytest.mark.parametrize(
    ("name", "shape"), [("encoder_l1_self_Wq", (16, 8)), ("decoder_l2_ffn_b1", (1, 3))]
)
def test_a_wrong_shape_is_named(write, name, shape):
    tensors = tiny_marian.random_tensors()
    tensors[name] = np.ones(shape, np.float32)
    with pytest.raises(
        ValueError, match=rf"tensor {name} has the shape \({shape[0]}, {shape[1]}\)"
    ):
        load(write(tiny_marian.model_file(tensors)))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("dec-cell: ssru", "dec-cell: gru", "dec-cell: gru"),
        ("autoreg: rnn", "autoreg: self-attention", "tensor decoder_l1_self_Wq is missing"),
        ("autoreg: rnn", "autoreg: average", "transformer-decoder-autoreg: average"),
        ("heads: 2", "heads: 3", "width 16 does not divide into 3 heads"),
        ("heads: 2", "heads: 0", "transformer-heads: '0', expected 1 to 1000"),
        ("heads: 2", "heads: many", "transformer-heads: 'many'"),
        ("enc-depth: 2", "enc-depth: 999", "tensor encoder_l3_self_Wq is missing"),
        ("dim-emb: 16\n", "", None),  # not needed
    ],
)
def test_configuration(write, old, new, message):
    assert old in tiny_marian.CONFIG
    path = write(tiny_marian.model_file(config=tiny_marian.CONFIG.replace(old, new)))
    if message is None:
        assert len(load(path).encoder.layers) == 2
    else:
        with pytest.raises(ValueError, match=message):
            load(path)


def test_what_is_not_there(tmp_path, write):
    with pytest.raises(FileNotFoundError, match="no such model file or folder"):
        load(tmp_path / "nothing")
    with pytest.raises(FileNotFoundError, match=r"expected one model\*\.bin .*; found none"):
        load(tmp_path)
    write(b"")
    with pytest.raises(ValueError, match="the header needs 16 bytes"):
        load(tmp_path)
    write(b"", "model.second.bin")
    with pytest.raises(FileNotFoundError, match=r"found model\.second\.bin, model\.tiny\.bin"):
        load(tmp_path)
