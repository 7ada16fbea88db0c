"""Speech to text: what faster-whisper writes, the same bits everywhere, and bad input."""

from __future__ import annotations

import json

import ctranslate2
import numpy as np
import pytest
import random_whisper
import recordings
import soundfile
from conftest import BACKENDS, assert_same_bits, choose
from faster_whisper import WhisperModel
from faster_whisper.feature_extractor import FeatureExtractor
from hypothesis import given, settings
from hypothesis import strategies as st

import seq2seq_fast
from seq2seq_fast import Transcriber, load, save
from seq2seq_fast.speech.audio import RATE, Recording
from seq2seq_fast.speech.transcriber import find_model
from seq2seq_fast.speech.vocabulary import SpeechVocabulary


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


@pytest.mark.slow
@pytest.mark.peers
@pytest.mark.parametrize("beam_size", [1, 5])
@pytest.mark.parametrize("name", recordings.NAMES)
def test_the_same_text_as_faster_whisper(transcriber, peer, name, beam_size, monkeypatch):
    file = recordings.recording(name)
    monkeypatch.setattr(transcriber, "beam_size", beam_size)
    segments, _ = peer.transcribe(str(file), beam_size=beam_size)
    want = list(segments)
    found = transcriber.transcribe(file)
    # The peer's times may be past the end of the sound.
    assert [(s.start, s.end, s.text) for s in found.segments] == [
        (s.start, min(s.end, found.duration), s.text) for s in want
    ]
    assert found.segments[0].score == pytest.approx(want[0].avg_logprob, abs=1e-3)
    assert found.segments[0].no_speech == pytest.approx(want[0].no_speech_prob, abs=1e-4)


@pytest.mark.slow
@pytest.mark.peers
def test_long_sound(transcriber, peer):
    """Windows that follow the times, and text that is carried over."""
    x = recordings.all_in_turn()
    x = np.concatenate([x, x[5 * RATE :], x[:RATE]])
    segments, _ = peer.transcribe(x, beam_size=5)
    want = [(s.start, min(s.end, len(x) / RATE), s.text) for s in segments]
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


@pytest.mark.peers
@pytest.mark.parametrize("name", recordings.NAMES)
def test_encoder_against_ctranslate2(transcriber, peer, name):
    spectrum = Recording(recordings.recording(name)).window(0, 80)
    features = ctranslate2.StorageView.from_array(np.ascontiguousarray(spectrum.T[None]))
    want = np.array(peer.model.encode(features))
    np.testing.assert_allclose(transcriber.model.encode([spectrum]).values, want, atol=1e-3)


@pytest.mark.slow
@pytest.mark.peers
def test_words(transcriber, peer):
    file = recordings.recording(recordings.NAMES[3])
    segments, _ = peer.transcribe(str(file), beam_size=5, word_timestamps=True)
    want = [word for segment in segments for word in segment.words]
    found = transcriber.transcribe(file, words=True)
    words = [word for segment in found.segments for word in segment.words]
    assert [word.text for word in words] == [word.word for word in want]
    assert "".join(word.text for word in words) == "".join(s.text for s in found.segments)
    # Its first word begins with the sound, ours when the voice does.
    assert [word.start for word in words] == pytest.approx([w.start for w in want], abs=0.3)
    assert all(0 < word.probability <= 1 for word in words)


def test_silence_and_nothing(transcriber):
    rng = np.random.default_rng(0)
    for seconds in (0, 0.001, 0.5, 31):
        count = int(seconds * RATE)
        for samples in (np.zeros(count, np.float32), rng.integers(-1, 2, count).astype(np.int16)):
            found = transcriber.transcribe(samples)
            assert found.text == "" and found.segments == []
        assert found.duration == pytest.approx(seconds, abs=1e-3)


@pytest.mark.parametrize(("text", "kept"), [(" .", False), (" - ♪ !", False), (" 7", True)])
def test_what_has_no_letter_or_digit_is_no_segment(folder, monkeypatch, text, kept):
    monkeypatch.setattr(SpeechVocabulary, "decode", lambda self, ids: text)
    found = Transcriber(folder, temperatures=(0.0,), least_score=-99.0).transcribe(sound(1))
    assert [segment.text for segment in found.segments] == ([text] if kept else [])
    assert found.text == (text.strip() if kept else "")


@pytest.mark.slow
def test_clips(transcriber):
    """Only these parts are heard, and times are those of the whole."""
    x = recordings.all_in_turn()
    files = [soundfile.info(recordings.recording(name)).duration for name in recordings.NAMES]
    begin = files[0] + 0.5 + files[1] + 0.5
    end = begin + files[2]
    last = begin + files[2] + 0.5 + files[3] + 0.5
    clips = [begin, end, last]
    found = transcriber.transcribe(x, clip_timestamps=clips, words=True)
    assert found.text.startswith("Unless to be") and found.text.endswith("amiable himself.")
    assert "married" not in found.text and "Dashwood" not in found.text
    assert found.duration == pytest.approx(len(x) / RATE)
    for segment in found.segments:
        inside = begin - 0.01 <= segment.start < segment.end <= end + 0.01
        assert inside or last - 0.01 <= segment.start
    written = ",".join(map(str, clips))
    assert list(transcriber.stream(x, clip_timestamps=written, words=True)) == found.segments


@pytest.mark.parametrize("given_", ["", [], None, [0], "0", (0, 99)])
def test_clips_of_all(folder, given_):
    by = Transcriber(folder, temperatures=(0.0,))
    found = by.transcribe(sound(2), clip_timestamps=given_)
    assert found == by.transcribe(sound(2)) and found.segments
    assert by.transcribe(sound(2), clip_timestamps=[5, 7, 9]).segments == []


@pytest.mark.parametrize("given_", ["a", "1,,2", [2, 1], [-1], [float("nan")], 3, [None]])
def test_bad_clips(folder, given_):
    with pytest.raises(ValueError, match="clip_timestamps must be seconds"):
        Transcriber(folder).stream(sound(1), clip_timestamps=given_)


def test_a_clip_far_on_takes_no_memory(folder):
    """What lies before it is not kept."""
    recording = Recording(np.zeros(20 * 60 * RATE, np.int16))
    kept = []
    read = recording._read
    recording._read = lambda end: (read(end), kept.append(len(recording._kept)))
    assert Transcriber(folder).transcribe(recording, clip_timestamps=[1190]).segments == []
    assert max(kept) < 70 * RATE


@pytest.mark.slow
def test_vad_filter(transcriber):
    """Noise before and after makes no segment, and times are those of the whole sound."""
    x, _ = soundfile.read(recordings.recording(recordings.NAMES[1]), dtype="float32")
    rng = np.random.default_rng(0)
    before, after = (rng.standard_normal(n * RATE).astype(np.float32) * 0.03 for n in (15, 5))
    for clips in (None, [2, 20]):
        found = transcriber.transcribe(
            np.concatenate([before, x, after]), vad_filter=True, clip_timestamps=clips
        )
        (segment,) = found.segments
        assert segment.text == " He was not an old-sposed young man."
        assert 14.5 <= segment.start < 15.5 and 17.5 < segment.end <= 18.5
    assert transcriber.transcribe(before, vad_filter=True).segments == []


def test_prompt_is_told(transcriber):
    file = recordings.recording(recordings.NAMES[0])
    assert "Dashwood" in transcriber.transcribe(file, prompt=None).text
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


@pytest.mark.slow
def test_bits_of_the_published_model_on_every_backend():
    file = recordings.recording(recordings.NAMES[1])
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


# ---- languages ----


def no_speech(model, samples):
    """Of the first window, by the model's own steps: probability of no speech, likeliest
    language."""
    tokenizer = random_whisper.tokenizer()
    state = model.start(model.encode([Recording(samples).window(0, 80)]))
    logits, _, _ = model.step([tokenizer.token_to_id("<|startoftranscript|>")], state)
    shares = np.exp(logits[0].astype(np.float64) - logits.max())
    shares /= shares.sum()
    of = {code: shares[tokenizer.token_to_id(f"<|{code}|>")] for code in random_whisper.LANGUAGES}
    return float(shares[tokenizer.token_to_id("<|nospeech|>")]), max(of, key=of.get)


@pytest.fixture(scope="module")
def hesitant(tmp_path_factory):
    """Half a minute that is less like speech than the next one, which has another language; and a
    transcriber that takes only the latter for speech."""
    folder = tmp_path_factory.mktemp("hesitant")
    random_whisper.write(folder, seed=4)
    tone = np.sin(2 * np.pi * 3000 / RATE * np.arange(30 * RATE)).astype(np.float32)
    windows = (tone, sound(30))
    (silence, wrong), (speech, right) = (no_speech(load(folder), x) for x in windows)
    assert silence > speech * 1.1 and wrong != right  # or this is no test
    by = Transcriber(folder, temperatures=(0.0,), least_score=-99.0, silence=(silence + speech) / 2)
    return by, *windows, wrong, right


def test_the_language_is_that_of_the_first_window_with_speech(hesitant):
    by, first, second, wrong, right = hesitant
    x = np.concatenate([first, second])
    assert next(iter(by.detect_language(x))) == right
    found = by.transcribe(x)
    assert found.language == right
    assert found.language_probability == pytest.approx(by.detect_language(x)[right])
    # A sound that begins with speech stays with the language of that.
    assert by.transcribe(np.concatenate([second, first])).language == right
    # Without any, it is the likeliest of the window that is likest to speech.
    assert by.transcribe(first).language == wrong == next(iter(by.detect_language(first)))


def test_a_stream_says_what_it_knows(hesitant):
    by, first, second, _, right = hesitant
    stream = by.stream(np.concatenate([first, second]))
    assert stream.language is stream.language_probability is None
    assert stream.duration == 60 and iter(stream) is stream
    segments = list(stream)
    assert segments and stream.language == right and 0 < stream.language_probability < 1
    stream = by.stream(second, "Portuguese")
    assert (stream.language, stream.language_probability) == ("pt", 1.0)


def test_silence_has_no_language(folder):
    found = Transcriber(folder).transcribe(np.zeros(40 * RATE, np.float32))
    assert found.segments == [] and (found.language, found.language_probability) == ("en", 0.0)
    assert Transcriber(find_model()).transcribe(np.zeros(9)).language_probability == 1.0


# ---- models ----


def test_heads_that_a_distilled_model_has_not(tmp_path):
    """They are its teacher's."""
    random_whisper.write(tmp_path, layers=2)  # of two heads
    config = json.loads((tmp_path / "config.json").read_text())

    def listening(heads):
        (tmp_path / "config.json").write_text(json.dumps({**config, "alignment_heads": heads}))
        by = Transcriber(tmp_path, temperatures=(0.0,), least_score=-99.0)
        assert any(segment.words for segment in by.transcribe(sound(2), words=True).segments)
        return by.listening

    assert listening([[0, 1], [9, 0], [1, 7], [-1, 0]]) == [(0, 1)]
    assert listening([[10, 12], [13, 17]]) == listening([]) == [(1, 0), (1, 1)]


def test_vocab_and_merges_beside_a_model(folder, tmp_path):
    random_whisper.write(tmp_path)
    (tmp_path / "tokenizer.json").unlink()
    made = random_whisper.tokenizer()
    vocabulary = made.get_vocab()
    (tmp_path / "vocab.json").write_text(json.dumps(vocabulary))
    (tmp_path / "merges.txt").write_text("#version: 0.2\n")
    by = {"temperatures": (0.0,)}
    want = Transcriber(folder, **by).transcribe(sound(2))
    assert want.segments and Transcriber(tmp_path, **by).transcribe(sound(2)) == want


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
    for name in ("PT", "Portuguese"):
        assert small.transcribe(sound(2), name).segments == by_language["pt"]
    with pytest.raises(TypeError, match="prompt must be a str; got 3"):
        small.transcribe(sound(1), prompt=3)
    for given_, message in (
        ({"language": "xx"}, "language must be one of en, pt, ja; got 'xx'"),
        ({"language": ["en"]}, r"language must be one of en, pt, ja; got \['en'\]"),
        ({"task": "sing"}, "task must be transcribe or translate"),
        ({"task": []}, "task must be transcribe or translate"),
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


@pytest.mark.parametrize(
    ("name", "value"),
    [("temperatures", ()), ("temperatures", "0"), ("beam_size", 1000), ("beam_size", 0),
     ("beam_size", True), ("best_of", 4097), ("silence", None), ("least_score", float("nan")),
     ("length_penalty", float("inf")), ("seed", -1)],
)  # fmt: skip
def test_bad_options(folder, name, value):
    with pytest.raises((TypeError, ValueError), match=f"{name} must be"):
        Transcriber(folder, **{name: value})


def test_bad_models(tmp_path):
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


@pytest.mark.peers
def test_features_of_the_peer_are_those_of_the_tests(transcriber):
    """That both hear the same is what makes the comparisons above fair."""
    x, _ = soundfile.read(recordings.recording(recordings.NAMES[0]), dtype="float32")
    want = FeatureExtractor()(x)[:, : len(x) // 160].T
    found = Recording(x).window(0, 80)[: len(x) // 160]
    np.testing.assert_allclose(found[:-2], want[:-2], atol=1e-4)
