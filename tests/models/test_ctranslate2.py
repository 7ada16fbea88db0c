"""CTranslate2's models of random weights: the same tokens and scores as CTranslate2 itself."""

from __future__ import annotations

import struct

import ctranslate2
import numpy as np
import pytest
import random_ctranslate2
from hypothesis import given, settings
from hypothesis import strategies as st
from random_ctranslate2 import ACTIVATIONS

from seq2seq_fast import load
from seq2seq_fast.models.formats import ctranslate2 as reader

pytestmark = pytest.mark.peers

EOS = 2
SOURCES = [
    [*np.random.default_rng(3).integers(3, 40, length).tolist(), EOS] for length in (4, 7, 1, 12, 9)
]
KINDS = {
    "pre_norm": {},
    "post_norm": {"pre_norm": False, "no_final_norm": True},
    "post_norm_tied": {"pre_norm": False, "tied": True},
    "tied_int8": {"tied": True, "quantization": "int8"},
    "int8": {"quantization": "int8"},
    "float16": {"quantization": "float16"},
    "zero_start": {"zero_start": True},
    "learned_positions": {"positions": 64},
    "gated": {"ffn_glu": True, "activation": ACTIVATIONS["silu"]},
    "norm_of_embedding": {"layernorm_embedding": True},
    "one_key_head": {"multi_query_attention": True},
    "rms_norm": {"rms_norm": True},
    **{name: {"activation": activation} for name, activation in ACTIVATIONS.items()},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("model")


@pytest.mark.parametrize("kind", KINDS)
def test_same_tokens_and_scores(tmp_path, kind):
    names = random_ctranslate2.write(tmp_path, spread=3.0, **KINDS[kind])
    # In floats, whatever the weights are: how its integers add up depends on the processor.
    theirs = ctranslate2.Translator(str(tmp_path), compute_type="float32")
    ours = load(tmp_path, weights="float32")
    texts = [[names[i] for i in source] for source in SOURCES]
    for beams, penalty in ((1, 1.0), (4, 1.0), (4, 0.0), (3, 0.6)):
        want = theirs.translate_batch(
            texts, beam_size=beams, num_hypotheses=beams, length_penalty=penalty,
            return_scores=True, max_decoding_length=15,
        )  # fmt: skip
        # Their shortest result has one token beside the end.
        got = ours.generate(
            SOURCES, num_beams=beams, num_return_sequences=beams, length_penalty=penalty,
            max_new_tokens=15, min_new_tokens=1,
        )  # fmt: skip
        for wanted, found in zip(want, got, strict=True):
            assert [[names[i] for i in one.tokens] for one in found] == wanted.hypotheses
            assert [one.score for one in found] == pytest.approx(wanted.scores, abs=1e-4)


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ({"repetition_penalty": 1.3}, {"repetition_penalty": 1.3}),
        ({"no_repeat_ngram_size": 2}, {"no_repeat_ngram_size": 2}),
        ({"patience": 2.0}, {"patience": 2.0}),
        ({"coverage_penalty": 0.4}, {"coverage_penalty": 0.4}),
        ({"min_decoding_length": 6}, {"min_new_tokens": 6}),
        ({"suppress_sequences": [["w7"], ["w20"]]}, {"suppress_tokens": [7, 20]}),
        ({"target_prefix": [["w5", "w9"]] * 5}, {"prefix": [[5, 9]] * 5}),
    ],
    ids=lambda options: "-".join(options),
)
@pytest.mark.parametrize("beams", [1, 4])
def test_same_options(backend, tmp_path, beams, theirs, ours):
    names = random_ctranslate2.write(tmp_path, spread=3.0)
    translator = ctranslate2.Translator(str(tmp_path))
    texts = [[names[i] for i in source] for source in SOURCES]
    if "target_prefix" in theirs:
        theirs = {"target_prefix": theirs["target_prefix"][:1]}
    # One at a time: in a batch their coverage penalty counts the padding.
    want = [
        translator.translate_batch(
            [text], beam_size=beams, num_hypotheses=beams, max_decoding_length=12, **theirs
        )[0]
        for text in texts
    ]
    options = {"min_new_tokens": 1, **ours}
    found = load(tmp_path).generate(
        SOURCES, num_beams=beams, num_return_sequences=beams, max_new_tokens=12, **options
    )
    for wanted, one in zip(want, found, strict=True):
        assert [[names[i] for i in each.tokens] for each in one] == wanted.hypotheses


def test_positions_end(backend, tmp_path):
    """Where the model has seen no more, an error says so before anything is decoded."""
    random_ctranslate2.write(tmp_path, positions=40, spread=3.0)
    model = load(tmp_path)
    found = model.generate(SOURCES, max_new_tokens=40, suppress_tokens=[EOS])
    assert all(len(one.tokens) == 40 for one in found)
    with pytest.raises(ValueError, match="max_new_tokens must be at most 40, since the model has"):
        model.generate(SOURCES, max_new_tokens=10**9, suppress_tokens=[EOS])


# ---- files ----


def test_reads_what_was_written(tmp_path):
    random_ctranslate2.write(tmp_path, tied=True)
    _, spec, revision, tensors = reader.read(tmp_path / "model.bin")
    assert (spec, revision) == ("TransformerSpec", 7)
    assert tensors["decoder/projection/weight"] is tensors["encoder/embeddings_0/weight"]
    assert tensors["decoder/projection/weight"].shape == (40, 32)
    assert load(tmp_path).nbytes < 1.1 * (tmp_path / "model.bin").stat().st_size


@pytest.fixture(scope="module")
def data(folder):
    random_ctranslate2.write(folder, layers=1, width=8, inner=8, vocabulary=8, heads=2)
    return (folder / "model.bin").read_bytes()


def test_every_cut_is_noticed(tmp_path, data):
    path = tmp_path / "model.bin"
    for size in [*range(80), *range(80, len(data), 61)]:
        path.write_bytes(data[:size])
        with pytest.raises(ValueError, match=r"model\.bin: .* (needs \d+ bytes|this is)"):
            reader.read(path)


@settings(max_examples=300, deadline=None)
@given(flips=st.lists(st.tuples(st.integers(0, 1 << 16), st.integers(0, 255)), max_size=8))
def test_any_bytes_give_a_model_or_an_error(folder, data, flips):
    broken = bytearray(data)
    for at, value in flips:
        broken[at % len(broken)] = value
    path = folder / "broken" / "model.bin"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(broken)
    for name in ("config.json", "shared_vocabulary.json"):
        (path.parent / name).write_bytes((folder / name).read_bytes())
    try:
        load(path).generate([[3, EOS]], max_new_tokens=2)
    except ValueError as error:
        assert "model.bin" in str(error) or "positions" in str(error)


@pytest.mark.parametrize(
    ("start", "message"),
    [
        (struct.pack("<I", 9), "of a kind that is not known"),
        (struct.pack("<IH5s", 3, 5, b"Spec\0"), "version 3, read are 4 to 6"),
        (struct.pack("<IH16sI", 6, 16, b"TransformerSpec\0", 7) + b"\xff" * 4,
         "claims 4294967295 tensors"),
        (struct.pack("<IH12sII", 6, 12, b"WhisperSpex\0", 3, 0) + b"\0" * 4, "is a WhisperSpex"),
    ],
)  # fmt: skip
def test_what_is_no_such_model(tmp_path, start, message):
    path = tmp_path / "model.bin"
    path.write_bytes(start + bytes(20))
    with pytest.raises(ValueError, match=message):
        load(path)


def test_what_is_not_understood_is_an_error(tmp_path):
    random_ctranslate2.write(tmp_path, layers=1)
    path = tmp_path / "model.bin"
    data = path.read_bytes()
    path.write_bytes(data.replace(b"layer_0/ffn/linear_0/bias\0", b"layer_0/ffn/linear_0/bios\0"))
    with pytest.raises(
        ValueError, match="has decoder/layer_0/ffn/linear_0/bios, which is not read"
    ):
        load(path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("config.json", b"{", r"config\.json: not JSON"),
        ("config.json", b"[]", r"config\.json: expected an object, got list"),
        ("config.json", b'{"eos_token": "<none>"}', "'<none>', which is not in the vocabulary"),
        ("config.json", b'{"layer_norm_epsilon": "x"}', "layer_norm_epsilon: 'x'"),
        ("shared_vocabulary.json", b"{}", r"shared_vocabulary\.json: not a vocabulary"),
        ("shared_vocabulary.json", b'["</s>"]', "has 1 tokens, expected 40"),
        ("shared_vocabulary.json", b"\xff", r"shared_vocabulary\.json: not UTF-8"),
        ("shared_vocabulary.json", None, "there is no shared_vocabulary or target_vocabulary"),
    ],
)
def test_bad_files_beside_it(tmp_path, name, content, message):
    random_ctranslate2.write(tmp_path, layers=1)
    if content is None:
        (tmp_path / name).unlink()
    else:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        load(tmp_path)
