"""A model saved and loaded: the same bits; the format's own library agrees; helpful errors."""

from __future__ import annotations

import json
import struct

import numpy as np
import pytest
import tiny_marian
from conftest import assert_same_bits
from hypothesis import given, settings
from hypothesis import strategies as st
from ml_dtypes import bfloat16
from safetensors.numpy import load_file, save_file

from seq2seq_fast import load, save
from seq2seq_fast.models.formats import safetensors
from seq2seq_fast.nn.weights import WEIGHTS

SOURCES = [[5, 3, 9, 0], [7, 0]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("model")
    (path / "model.tiny.bin").write_bytes(tiny_marian.model_file())
    return path


@pytest.mark.parametrize("weights", WEIGHTS)
def test_the_same_model_comes_back(backend, folder, tmp_path, weights):
    model = load(folder, weights=weights)
    path = tmp_path / "model.safetensors"
    save(model, path)
    again = load(path)
    assert again.generate(SOURCES, num_beams=3) == model.generate(SOURCES, num_beams=3)
    assert again.nbytes == model.nbytes
    assert path.stat().st_size < 1.1 * model.nbytes + 40000
    save(again, path)  # in place of the file that it is mapped from
    assert load(tmp_path).generate(SOURCES) == again.generate(SOURCES)
    assert [file.name for file in tmp_path.iterdir()] == ["model.safetensors"]


def test_agrees_with_the_library(tmp_path, rng):
    tensors = {
        "a": rng.standard_normal((3, 5)).astype(np.float32),
        "b": rng.integers(0, 255, (16, 4)).astype(np.uint8),
        "c": np.array(7, np.int64),
        "d": rng.standard_normal(9).astype(np.float16),
        "none": np.zeros((0, 4), np.float64),
    }
    save_file(tensors, tmp_path / "theirs", {"key": "value"})
    metadata, read = safetensors.read(tmp_path / "theirs")
    assert metadata == {"key": "value"}
    safetensors.write(tmp_path / "ours", tensors, {"key": "value"})
    for found in (read, load_file(tmp_path / "ours")):
        assert set(found) == set(tensors)
        for name, want in tensors.items():
            assert (found[name].dtype, found[name].shape) == (want.dtype, want.shape)
            assert (found[name] == want).all()


def test_bfloat16_stays_as_it_is(tmp_path, rng):
    values = rng.standard_normal((3, 4)).astype(bfloat16)
    path = tmp_path / "x.safetensors"
    save_file({"a": values}, path)
    found = safetensors.read(path).tensors
    assert_same_bits(found["a"], values.view(np.uint16))
    safetensors.write(path, found, {})
    assert_same_bits(load_file(path)["a"], values)


def test_the_name_must_end_so(folder, tmp_path):
    with pytest.raises(ValueError, match=r"path must end in \.safetensors; got '.*model\.bin'"):
        save(load(folder), tmp_path / "model.bin")


def test_weights_stay_as_they_were_saved(folder, tmp_path):
    save(load(folder), tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match="weights must be left out"):
        load(tmp_path, weights="float32")


@pytest.fixture(scope="module")
def data(folder, tmp_path_factory):
    path = tmp_path_factory.mktemp("saved") / "model.safetensors"
    save(load(folder), path)
    return path.read_bytes()


def test_every_cut_is_noticed(tmp_path, data):
    path = tmp_path / "model.safetensors"
    for size in [*range(40), *range(40, len(data), 499)]:
        path.write_bytes(data[:size])
        with pytest.raises(ValueError, match=r"model\.safetensors: "):
            load(path)


@settings(max_examples=300, deadline=None)
@given(flips=st.lists(st.tuples(st.integers(0, 1 << 16), st.integers(0, 255)), max_size=6))
def test_any_bytes_give_a_model_or_an_error(tmp_path_factory, data, flips):
    broken = bytearray(data)
    for at, value in flips:
        broken[at % len(broken)] = value
    path = tmp_path_factory.getbasetemp() / "broken.safetensors"
    path.write_bytes(broken)
    try:
        load(path).generate(SOURCES, max_new_tokens=2)
    except ValueError as error:
        assert "broken.safetensors" in str(error) or "sources" in str(error)


def changed(data, change):
    """The file with another description of the model."""
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    model = json.loads(header["__metadata__"]["seq2seq_fast"])
    change(header, model)
    if "__metadata__" in header:
        header["__metadata__"]["seq2seq_fast"] = json.dumps(model)
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data[8 + length :]


def first_linear(model):
    return model["model"]["encoder"]["layers"][0]["attention"]["projection"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda h, m: h.pop("__metadata__"), "not a model of seq2seq_fast"),
        (lambda h, m: m.update(version=3), "is of version 3, read are 1 to 2"),
        (lambda h, m: m.update(version=[]), r"is of version \[\], read are 1 to 2"),
        (lambda h, m: m["model"].update(eos=99), "eos is 99, of 20 tokens"),
        (lambda h, m: m["model"].update(eos="0"), "holds '0' where"),
        (lambda h, m: m["model"].pop("unk"), "EncoderDecoder has the fields"),
        (lambda h, m: m["model"].update(more=None), "EncoderDecoder has the fields .*'more'"),
        (lambda h, m: first_linear(m).update(part="Bilinear"), "where .* was expected"),
        (lambda h, m: m["model"].update(decoder=m["model"]["encoder"]), "where .* was expected"),
        (lambda h, m: m["model"]["encoder"].update(layers=[]), "an encoder must have a layer"),
        (lambda h, m: first_linear(m)["matrix"].update(outputs=64), "has panels of"),
        (lambda h, m: first_linear(m)["matrix"].update(panels={"tensor": "x"}), "'x' is missing"),
        (lambda h, m: first_linear(m)["matrix"].update(input_scale=-1.0), "input_scale must be"),
        (lambda h, m: first_linear(m).update(bias=first_linear(m)["matrix"]["panels"]),
         "bias must be"),
        (lambda h, m: m["model"]["encoder"]["layers"][0]["attention"]["heads"].update(width=4),
         "widths of attention do not fit each other"),
        (lambda h, m: m["model"]["encoder"]["layers"][0]["feed_forward"].update(activation="x"),
         "activation 'x' is not known"),
        (lambda h, m: h[next(iter(h.keys() - {"__metadata__"}))].update(dtype="F65"),
         "makes no sense"),
        (lambda h, m: h[next(iter(h.keys() - {"__metadata__"}))].update(data_offsets=[0, 1 << 60]),
         "does not take the bytes"),
    ],
)  # fmt: skip
def test_lies_are_named(tmp_path, data, change, message):
    path = tmp_path / "model.safetensors"
    path.write_bytes(changed(data, change))
    with pytest.raises(ValueError, match=rf"model\.safetensors: .*{message}"):
        load(path)


def test_what_a_file_does_not_say_is_as_usual(tmp_path, data):
    """So that a field that is new takes nothing from files that have it not."""
    path = tmp_path / "model.safetensors"

    def leave_out(header, model):
        for layer in model["model"]["encoder"]["layers"]:
            del layer["feed_forward"]["activation"], layer["feed_forward"]["gate"]

    path.write_bytes(data)
    want = load(path).generate(SOURCES)
    path.write_bytes(changed(data, leave_out))
    assert load(path).generate(SOURCES) == want
