"""The files that a folder of Hugging Face's may hold weights in: of each kind the same model."""

from __future__ import annotations

import json

import numpy as np
import pytest
import random_whisper
from conftest import assert_same_bits
from ml_dtypes import bfloat16

from seq2seq_fast import load, save
from seq2seq_fast.models.encoder_decoder import distinct_arrays
from seq2seq_fast.models.loading import model_file
from seq2seq_fast.nn.weights import WEIGHTS

SPECTRUM = np.random.default_rng(0).standard_normal((30, random_whisper.BANDS), np.float32)


def written(folder, **options):
    """A folder with a small model of speech."""
    folder.mkdir(exist_ok=True)
    random_whisper.write_hugging_face(folder, layers=1, **options)
    return folder


def numbers_of(model):
    """What a model computes, in two steps of its decoder."""
    memory = model.encode([SPECTRUM])
    first = model.step(None, model.start(memory))
    second = model.step([5], first.state)
    return np.concatenate([memory.values.ravel(), first.logits.ravel(), second.logits.ravel()])


@pytest.mark.parametrize("parts", [1, 3])
def test_layouts(tmp_path, parts):
    want = load(written(tmp_path / "safetensors", parts=parts))
    for layout in random_whisper.LAYOUTS:
        model = load(written(tmp_path / layout, parts=parts, layout=layout))
        assert_same_bits(numbers_of(model), numbers_of(want))
        assert model.nbytes == want.nbytes


# ---- bfloat16 ----


@pytest.fixture(scope="module")
def halves(tmp_path_factory):
    """Folders of one model, of bfloat16 in each layout, and of the same numbers as float32."""
    folder = tmp_path_factory.mktemp("bfloat16")
    for layout in random_whisper.LAYOUTS:
        written(folder / layout, layout=layout, dtype=bfloat16)
    with pytest.MonkeyPatch.context() as patch:
        tensors = random_whisper.tensors

        def rounded(**sizes):
            found, heads = tensors(**sizes)
            return {name: array.astype(bfloat16) for name, array in found.items()}, heads

        patch.setattr(random_whisper, "tensors", rounded)
        written(folder / "float32")
    return folder


def test_bfloat16_is_kept(halves, backend):
    """The same bits as of the same numbers in float32, in half the memory."""
    wide = load(halves / "float32")
    want = numbers_of(wide)
    for layout in random_whisper.LAYOUTS:
        model = load(halves / layout)
        assert_same_bits(numbers_of(model), want)
        assert model.decoder.output.matrix.type == "bfloat16"
        for array in distinct_arrays(model):
            assert array.dtype == (np.uint16 if array.ndim == 3 else np.float32)
        assert model.nbytes < 0.65 * wide.nbytes  # positions are kept as float32


@pytest.mark.parametrize("weights", WEIGHTS)
def test_bfloat16_becomes_other_weights(halves, weights):
    want = numbers_of(load(halves / "float32", weights=weights))
    for layout in random_whisper.LAYOUTS:
        model = load(halves / layout, weights=weights)
        assert_same_bits(numbers_of(model), want)
        assert model.decoder.output.matrix.type == weights


def test_bfloat16_is_saved_as_it_is(halves, backend, tmp_path):
    model = load(halves / "torch")
    file = tmp_path / "model.safetensors"
    save(model, file)
    data = file.read_bytes()
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    assert {one.get("dtype") for one in header.values()} == {"BF16", "F32", None}
    again = load(file)
    assert again.nbytes == model.nbytes
    assert_same_bits(numbers_of(again), numbers_of(model))


# ---- which file it is ----


def test_safetensors_come_first(tmp_path):
    """A folder may have the same weights in both."""
    for name in ("pytorch_model.bin", "pytorch_model.bin.index.json", "model.safetensors"):
        (tmp_path / name).touch()
        assert model_file(tmp_path).name == name
    (tmp_path / "model.safetensors.index.json").touch()
    assert model_file(tmp_path).name == "model.safetensors.index.json"


def test_what_was_expected(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"or pytorch_model\.bin, in this folder; found no"):
        load(tmp_path)
    written(tmp_path, layout="torch")
    file = tmp_path / "pytorch_model.bin"
    for data, words in (
        (b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer to a file that was"),
        (b"<html></html>", "a web page"),
        (b"\x80\4]q.", "a pickle$"),
        (b"", "an empty file"),
    ):
        file.write_bytes(data)
        with pytest.raises(ValueError, match=rf"pytorch_model\.bin: expected .*; this is {words}"):
            load(tmp_path)
    written(tmp_path, layout="torch", parts=2)
    part = "pytorch_model-00002-of-00002.bin"
    (tmp_path / part).write_bytes(b"<html></html>")
    with pytest.raises(ValueError, match=rf"{part}: expected .*; this is a web page"):
        load(tmp_path)
    (tmp_path / part).unlink()
    with pytest.raises(FileNotFoundError, match=rf"index\.json: names '{part}', which is not"):
        load(tmp_path)


def test_a_checkpoint_without_config(tmp_path):
    (written(tmp_path, layout="torch") / "config.json").unlink()
    with pytest.raises(ValueError, match=r"pytorch_model\.bin: .*there is no config\.json beside"):
        load(tmp_path)
