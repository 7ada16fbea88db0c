"""Speech to text: what faster-whisper writes, the same bits everywhere, and bad input."""

from __future__ import annotations

import itertools
import json

import ctranslate2
import numpy as np
import pytest
import random_whisper
import soundfile
import speech
from conftest import BACKENDS, assert_same_bits, choose
from faster_whisper import WhisperModel
from faster_whisper.feature_extractor import FeatureExtractor
from hypothesis import given, settings
from hypothesis import strategies as st

import seq2seq_fast
from seq2seq_fast import Transcriber, load, save
from seq2seq_fast.alignment import token_times
from seq2seq_fast.audio import RATE, Recording
from seq2seq_fast.transcribe import _Rules, find_model


@pytest.fixture(scope="module")
def transcriber():
    return Transcriber(find_model(), weights="float32")


@pytest.fixture(scope="module")
def peer():
    return WhisperModel(str(find_model()), compute_type="float32", cpu_threads=2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A small model of random weights, of three languages."""
    folder = tmp_path_factory.mktemp("whisper")
    random_whisper.write(folder)
    return folder


def sound(seconds, seed=0):
    rng = np.random.default_rng(seed)
    t = np.arange(int(seconds * RATE)) / RATE
    return (np.sin(2 * np.pi * (200 + 100 * np.sin(t)) * t) * rng.random(len(t))).astype(np.float32)


# ---- what is written ----


@pytest.mark.parametrize("beam_size", [1, 5])
@pytest.mark.parametrize("name", speech.NAMES)
def test_the_same_text_as_faster_whisper(transcriber, peer, name, beam_size, monkeypatch):
    file = speech.recording(name)
    monkeypatch.setitem(transcriber.search, "beam_size", beam_size)
    segments, _ = peer.transcribe(str(file), beam_size=beam_size)
    want = list(segments)
    found = transcriber.transcribe(file)
    assert [(s.start, s.end, s.text) for s in found.segments] == [
        (s.start, s.end, s.text) for s in want
    ]
    assert found.segments[0].score == pytest.approx(want[0].avg_logprob, abs=1e-3)
    assert found.segments[0].no_speech == pytest.approx(want[0].no_speech_prob, abs=1e-4)


def test_long_sound(transcriber, peer):
    """Windows that follow the times, and text that is carried over."""
    x = speech.all_in_turn()
    x = np.concatenate([x, x[5 * RATE :], x[:RATE]])
    segments, _ = peer.transcribe(x, beam_size=5)
    want = [(s.start, s.end, s.text) for s in segments]
    done = []
    found = transcriber.transcribe(x, progress=done.append)
    got = [(s.start, s.end, s.text) for s in found.segments]
    assert [text for *_, text in got] == [text for *_, text in want]
    assert np.array([times for *times, _ in got]) == pytest.approx(
        np.array([times for *times, _ in want]), abs=0.021
    )
    assert found.duration == pytest.approx(len(x) / RATE)
    assert done == sorted(done) and done[-1] == pytest.approx(found.duration, abs=0.01)
    assert list(transcriber.stream(x)) == found.segments


@pytest.mark.parametrize("name", speech.NAMES)
def test_encoder_against_ctranslate2(transcriber, peer, name):
    spectrum = Recording(speech.recording(name)).window(0, 80)
    features = ctranslate2.StorageView.from_array(np.ascontiguousarray(spectrum.T[None]))
    want = np.array(peer.model.encode(features))
    np.testing.assert_allclose(transcriber.model.encode([spectrum]).values, want, atol=1e-3)


def test_words(transcriber, peer):
    file = speech.recording(speech.NAMES[3])
    segments, _ = peer.transcribe(str(file), beam_size=5, word_timestamps=True)
    want = [word for segment in segments for word in segment.words]
    found = transcriber.transcribe(file, words=True)
    words = [word for segment in found.segments for word in segment.words]
    assert [word.text for word in words] == [word.word for word in want]
    assert "".join(word.text for word in words) == "".join(s.text for s in found.segments)
    # The peer shortens words at pauses; ours last until the next one.
    assert [word.start for word in words] == pytest.approx([w.start for w in want], abs=0.25)
    assert [word.start for word in words[1:]] == [word.end for word in words[:-1]]
    assert all(0 < word.probability <= 1 for word in words)


def test_silence_and_nothing(transcriber):
    rng = np.random.default_rng(0)
    for seconds in (0, 0.001, 0.5, 31):
        count = int(seconds * RATE)
        for samples in (np.zeros(count, np.float32), rng.integers(-1, 2, count).astype(np.int16)):
            found = transcriber.transcribe(samples)
            assert found.text == "" and found.segments == []
        assert found.duration == pytest.approx(seconds, abs=1e-3)


def test_prompt_is_told(transcriber):
    file = speech.recording(speech.NAMES[0])
    assert "Dashwood" in transcriber.transcribe(file).text
    assert "Dashwoode" in transcriber.transcribe(file, prompt="Mr. John Dashwoode was there.").text


# ---- bits ----


@pytest.fixture(scope="module")
def written_by_numpy(folder):
    with choose("numpy"):
        return _everything(folder)


def _everything(folder):
    """Two windows with words, and a language that is detected; the first is drawn again."""
    every = Transcriber(folder, beam_size=3, best_of=2, temperatures=(0.0, 0.7))
    every.least_score = -5.0
    found = every.transcribe(sound(33), words=True)
    return found, every.detect_language(sound(3))


def test_bits(backend, folder, written_by_numpy):
    found, languages = _everything(folder)
    assert len(found.segments) > 1 and any(segment.words for segment in found.segments)
    assert (found, languages) == written_by_numpy  # times, scores and probabilities included


def test_bits_of_the_published_model_on_every_backend():
    file = speech.recording(speech.NAMES[1])
    for weights in (None, "int8"):
        transcriber = Transcriber(find_model(), weights=weights, beam_size=2)
        found = []
        slow = () if weights else ("numpy",)
        for name, threads in (*((name, 2) for name in (*slow, *BACKENDS[1:])), (BACKENDS[-1], 1)):
            with choose(name), seq2seq_fast.use(threads=threads):
                found.append(transcriber.transcribe(file, words=True))
        assert all(one == found[0] for one in found)


def test_encoding_is_independent_of_neighbours(folder):
    model = load(folder)
    rng = np.random.default_rng(0)
    spectra = [rng.random((n, 80)).astype(np.float32) for n in (40, 7, 1, 40)]
    together = model.encode(spectra)
    assert together.lengths.tolist() == [20, 4, 1, 20]
    for i, spectrum in enumerate(spectra):
        alone = model.encode([spectrum])
        assert_same_bits(together.values[i, : together.lengths[i]], alone.values[0])


# ---- models ----


def test_hugging_face_folders(folder, tmp_path):
    """The same model from all kinds of files: the same bits."""
    spectrum = Recording(sound(1)).window(0, 80)
    want = load(folder).encode([spectrum]).values
    for parts in (1, 3):
        there = tmp_path / str(parts)
        there.mkdir()
        random_whisper.write_hugging_face(there, parts=parts)
        assert_same_bits(load(there).encode([spectrum]).values, want)
        assert Transcriber(there).transcribe(sound(2)) == Transcriber(folder).transcribe(sound(2))

    save(load(there, weights="int8"), tmp_path / "model.safetensors")
    (tmp_path / "tokenizer.json").write_bytes((there / "tokenizer.json").read_bytes())
    int8 = Transcriber(there, weights="int8").transcribe(sound(2))
    assert Transcriber(tmp_path).transcribe(sound(2)) == int8


@pytest.mark.parametrize("quantization", [None, "float16", "int8", "int8_float16"])
def test_quantised_files(tmp_path, quantization):
    random_whisper.write(tmp_path, quantization=quantization)
    model = load(tmp_path)
    spectrum = Recording(sound(1)).window(0, 80)
    peer = ctranslate2.models.Whisper(str(tmp_path), compute_type="float32")
    features = ctranslate2.StorageView.from_array(np.ascontiguousarray(spectrum.T[None]))
    found = model.encode([spectrum]).values
    tolerance = 1e-3 if quantization in (None, "float16") else 0.3  # of activations as integers
    np.testing.assert_allclose(found, np.array(peer.encode(features)), atol=tolerance)


def test_languages(folder):
    """The probabilities of the languages' tokens, after the one that starts a transcript."""
    model, tokenizer = load(folder), random_whisper.tokenizer()
    state = model.start(model.encode([Recording(sound(3)).window(0, 80)]))
    logits, _, _ = model.step([tokenizer.token_to_id("<|startoftranscript|>")], state)
    of = {
        code: np.exp(float(logits[0, tokenizer.token_to_id(f"<|{code}|>")]))
        for code in random_whisper.LANGUAGES
    }
    found = Transcriber(folder).detect_language(sound(3))
    assert found == pytest.approx({code: value / sum(of.values()) for code, value in of.items()})
    assert list(found.values()) == sorted(found.values(), reverse=True)
    assert Transcriber(folder).transcribe(sound(3)).language == next(iter(found))


def test_tasks_and_languages(folder):
    small = Transcriber(folder, temperatures=(0.0,))
    assert small.languages == random_whisper.LANGUAGES
    by_language = {
        code: small.transcribe(sound(2), code).segments for code in random_whisper.LANGUAGES
    }
    assert by_language["en"] != by_language["pt"]
    assert small.transcribe(sound(2), "pt", task="translate").segments != by_language["pt"]
    assert small.transcribe(sound(2), "pt").language == "pt"
    for given_, message in (
        ({"language": "xx"}, "language must be one of en, pt, ja; got 'xx'"),
        ({"task": "sing"}, "task must be transcribe or translate"),
    ):
        with pytest.raises(ValueError, match=message):
            small.transcribe(sound(1), **given_)
    with pytest.raises(ValueError, match="this model knows English alone"):
        Transcriber(find_model()).transcribe(sound(1), task="translate")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("tokenizer.json", None, "no such tokenizer"),
        ("tokenizer.json", b"{}", "not a tokenizer"),
        ("tokenizer.json", "plain", r"not a tokenizer of Whisper: it has no <\|endoftext\|>"),
        ("config.json", b"{", "not JSON"),
        ("config.json", b'{"suppress_ids": "x"}', "suppress_tokens is 'x', expected integers"),
        ("config.json", b'{"suppress_ids": [99999]}', "from 0 to 51864"),
        ("config.json", b'{"alignment_heads": [[9, 0]]}', "there is no alignment head 9, 0"),
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
    with pytest.raises(ValueError, match="temperatures must be"):
        Transcriber(find_model(), temperatures=())
    random_whisper.write_hugging_face(tmp_path, layers=1)
    config = json.loads((tmp_path / "config.json").read_text())
    for key, value in {
        "model_type": "bart", "encoder_layers": 10**6, "eos_token_id": -1,
        "activation_function": "sine", "encoder_attention_heads": 3,
    }.items():  # fmt: skip
        (tmp_path / "config.json").write_text(json.dumps({**config, key: value}))
        with pytest.raises(ValueError, match=rf"{tmp_path}/.*({key}|heads)"):
            load(tmp_path)
    (tmp_path / "config.json").unlink()
    with pytest.raises(ValueError, match=r"there is no config\.json beside it"):
        load(tmp_path)
    (tmp_path / "model.safetensors.index.json").write_text('{"weight_map": {"a": "../b"}}')
    with pytest.raises(ValueError, match="is not a file of its own folder"):
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


# ---- rules ----


def test_rules_of_times(folder):
    """Whatever the logits: a time first, times in pairs, never falling, text between them."""
    vocabulary = Transcriber(folder).vocabulary
    rules = _Rules(vocabulary, [5])
    first, end = vocabulary.first_time, vocabulary.end
    rng = np.random.default_rng(0)
    for _ in range(20):
        tokens = []
        for _ in range(60):
            logits = rng.standard_normal((1, 51865)).astype(np.float32) * 3
            logits[:, vocabulary.start : first] = -np.inf
            logits[:, end] += 4 * rng.random()
            rules(np.array([tokens], np.int64).reshape(1, -1), logits)
            tokens.append(int(logits[0].argmax()))
            if tokens[-1] == end:
                break
        assert first <= tokens[0] <= first + 50
        times = [t for t in tokens if t >= first]
        assert times == sorted(times)
        runs = "".join("t" if t >= first else "e" if t == end else "x" for t in tokens)
        assert "ttt" not in runs and not runs.startswith("tt")
        # A part of text is between times; only the end may follow one time that closes a part.
        for i, (before, now) in enumerate(itertools.pairwise(runs)):
            if before == "t" and "x" in runs[:i] and runs[i - 1] == "x":
                assert now in "te"


def test_a_time_where_times_together_are_likelier(folder):
    vocabulary = Transcriber(folder).vocabulary
    rules, first = _Rules(vocabulary, []), vocabulary.first_time
    past = np.array([[first, 7]])
    for spread, is_time in ((0.0, True), (-9.0, False)):
        logits = np.full((1, 51865), -20, np.float32)
        logits[0, 65] = 0
        logits[0, first:] = -7 + spread  # 1501 of them: e^7.3 times one
        rules(past, logits)
        assert (logits.argmax() >= first) == is_time


def test_paths_through_attention(rng):
    """Tokens that listen to one place each are found there; small shapes are no trouble."""
    starts = np.array([0, 5, 12, 13, 30])
    weights = np.full((3, 5, 40), 1e-3, np.float32)
    for i, (begin, end) in enumerate(zip(starts, [*starts[1:], 40], strict=True)):
        weights[:, i, begin:end] = 1
    assert np.abs(token_times(weights, 0) - starts).max() <= 2
    assert token_times(weights, 2).tolist()[0] == 0
    assert token_times(np.ones((1, 1, 1), np.float32), 0).tolist() == [0]
    assert token_times(np.ones((2, 3, 2), np.float32), 0).shape == (3,)


def test_features_of_the_peer_are_those_of_the_tests(transcriber):
    """That both hear the same is what makes the comparisons above fair."""
    x, _ = soundfile.read(speech.recording(speech.NAMES[0]), dtype="float32")
    want = FeatureExtractor()(x)[:, : len(x) // 160].T
    found = Recording(x).window(0, 80)[: len(x) // 160]
    np.testing.assert_allclose(found[:-2], want[:-2], atol=1e-4)
