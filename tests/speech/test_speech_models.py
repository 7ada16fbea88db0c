"""The files that a model of speech is made of: all kinds give the same, damaged ones are named."""

from __future__ import annotations

import json

import ctranslate2
import numpy as np
import pytest
import random_whisper
from conftest import assert_same_bits
from hypothesis import given, settings
from hypothesis import strategies as st
from sounds import sweep

from seq2seq_fast import Transcriber, load, save
from seq2seq_fast.speech.audio import Recording

LOOSE = {"temperature": 0.0, "log_prob_threshold": -99.0}  # what is written first is taken


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A small model of random weights, of three languages."""
    folder = tmp_path_factory.mktemp("whisper")
    random_whisper.write(folder)
    return folder


def test_heads_that_a_distilled_model_has_not(tmp_path):
    """They are its teacher's."""
    random_whisper.write(tmp_path, layers=2)  # of two heads
    config = json.loads((tmp_path / "config.json").read_text())

    def alignment_heads(heads):
        (tmp_path / "config.json").write_text(json.dumps({**config, "alignment_heads": heads}))
        by = Transcriber(tmp_path)
        found = by.transcribe(sweep(2), word_timestamps=True, **LOOSE)
        assert any(segment.words for segment in found.segments)
        return by.alignment_heads

    assert alignment_heads([[0, 1], [9, 0], [1, 7], [-1, 0]]) == [(0, 1)]
    assert alignment_heads([[10, 12], [13, 17]]) == alignment_heads([]) == [(1, 0), (1, 1)]


def test_vocab_and_merges_beside_a_model(folder, tmp_path):
    random_whisper.write(tmp_path)
    (tmp_path / "tokenizer.json").unlink()
    made = random_whisper.tokenizer()
    vocabulary = made.get_vocab()
    (tmp_path / "vocab.json").write_text(json.dumps(vocabulary))
    (tmp_path / "merges.txt").write_text("#version: 0.2\n")
    want = Transcriber(folder).transcribe(sweep(2), temperature=0)
    assert want.segments and Transcriber(tmp_path).transcribe(sweep(2), temperature=0) == want


@pytest.mark.slow
def test_hugging_face_folders(folder, tmp_path):
    """The same model from all kinds of files: the same bits."""
    spectrum = Recording(sweep(1)).window(0, 80)
    want = load(folder).encode([spectrum]).values
    for parts in (1, 3):
        there = tmp_path / str(parts)
        there.mkdir()
        random_whisper.write_hugging_face(there, parts=parts)
        assert_same_bits(load(there).encode([spectrum]).values, want)
        assert Transcriber(there).transcribe(sweep(2)) == Transcriber(folder).transcribe(sweep(2))

    save(load(there, weights="int8"), tmp_path / "model.safetensors")
    (tmp_path / "tokenizer.json").write_bytes((there / "tokenizer.json").read_bytes())
    int8 = Transcriber(there, weights="int8").transcribe(sweep(2))
    assert Transcriber(tmp_path).transcribe(sweep(2)) == int8


@pytest.mark.parametrize("quantization", [None, "float16", "int8", "int8_float16"])
def test_quantised_files(tmp_path, quantization):
    random_whisper.write(tmp_path, quantization=quantization)
    model = load(tmp_path)
    spectrum = Recording(sweep(1)).window(0, 80)
    peer = ctranslate2.models.Whisper(str(tmp_path), compute_type="float32")
    features = ctranslate2.StorageView.from_array(np.ascontiguousarray(spectrum.T[None]))
    found = model.encode([spectrum]).values
    tolerance = 1e-3 if quantization in (None, "float16") else 0.3  # of activations as integers
    np.testing.assert_allclose(found, np.array(peer.encode(features)), atol=tolerance)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("tokenizer.json", None, "no such tokenizer"),
        ("tokenizer.json", b"{}", "not a tokenizer"),
        ("tokenizer.json", "plain", r"not a tokenizer of Whisper: it has no <\|endoftext\|>"),
        ("config.json", b"{", "not JSON"),
        ("config.json", b'{"suppress_ids": "x"}', "suppress_tokens is 'x', expected integers"),
        ("config.json", b'{"suppress_ids": [99999]}', "from 0 to 51864"),
        ("config.json", b'{"alignment_heads": [[0, 0], [1]]}', "alignment_heads is"),
        ("config.json", b'{"alignment_heads": [[0, 0, 0]]}', "pairs of a layer and a head"),
    ],
)
def test_bad_files_beside_a_model(tmp_path, name, content, message):
    random_whisper.write(tmp_path, layers=1)
    path = tmp_path / name
    if content is None:
        path.unlink()
    elif content == "plain":
        from tokenizers import Tokenizer, models

        Tokenizer(models.BPE()).save(str(path))
    else:
        path.write_bytes(content)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        Transcriber(tmp_path)


def test_bad_models(tmp_path):
    random_whisper.write_hugging_face(tmp_path, layers=1)
    config = json.loads((tmp_path / "config.json").read_text())
    for key, value in {
        "model_type": "bert", "encoder_layers": 10**6, "eos_token_id": -1,
        "activation_function": "sine", "encoder_attention_heads": 3,
    }.items():  # fmt: skip
        (tmp_path / "config.json").write_text(json.dumps({**config, key: value}))
        with pytest.raises(ValueError, match=rf"{tmp_path}/.*({key}|heads)"):
            load(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "model.safetensors.index.json").write_text('{"weight_map": {"a": "../b"}}')
    with pytest.raises(ValueError, match="is not a file of its own folder"):
        load(tmp_path)
    (tmp_path / "config.json").unlink()
    with pytest.raises(ValueError, match=r"there is no config\.json beside it"):
        load(tmp_path)


@settings(max_examples=60, deadline=None)
@given(flips=st.lists(st.tuples(st.integers(0, 3000), st.integers(0, 255)), min_size=1, max_size=4))
def test_any_bytes_give_a_model_or_an_error(folder, flips):
    """The headers are where the lies are: what lies near the names of tensors."""
    data = bytearray((folder / "model.bin").read_bytes())
    for at, value in flips:
        data[at] = value
    broken = folder / "broken"
    broken.mkdir(exist_ok=True)
    for file in folder.glob("*.*"):
        (broken / file.name).write_bytes(file.read_bytes() if file.suffix != ".bin" else data)
    try:
        load(broken).encode([np.zeros((4, 80), np.float32)])
    except ValueError as error:
        assert "model.bin" in str(error) or "spectra" in str(error)
