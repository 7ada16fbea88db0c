"""Speech to text: what faster-whisper writes, the same bits everywhere, and bad input."""

from __future__ import annotations

import ctranslate2
import numpy as np
import pytest
import random_whisper
import recordings
import soundfile
from conftest import BACKENDS, assert_same_bits, choose
from faster_whisper import WhisperModel
from faster_whisper.feature_extractor import FeatureExtractor
from sounds import sweep

import seq2seq_fast
from seq2seq_fast import Transcriber, load
from seq2seq_fast.demo import find_speech_model
from seq2seq_fast.speech.audio import RATE, Recording
from seq2seq_fast.speech.vocabulary import SpeechVocabulary

LOOSE = {"temperature": 0.0, "log_prob_threshold": -99.0}  # what is written first is taken


@pytest.fixture(scope="module")
def transcriber():
    return Transcriber(find_speech_model(), weights="float32")


@pytest.fixture(scope="module")
def peer():
    return WhisperModel(str(find_speech_model()), compute_type="float32", cpu_threads=2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A small model of random weights, of three languages."""
    folder = tmp_path_factory.mktemp("whisper")
    random_whisper.write(folder)
    return folder


# ---- what is written ----


@pytest.mark.slow
@pytest.mark.peers
@pytest.mark.parametrize("beam_size", [1, 5])
@pytest.mark.parametrize("name", recordings.NAMES)
def test_the_same_text_as_faster_whisper(transcriber, peer, name, beam_size):
    file = recordings.recording(name)
    segments, _ = peer.transcribe(str(file), beam_size=beam_size)
    want = list(segments)
    found = transcriber.transcribe(file, beam_size=beam_size)
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
    found = transcriber.transcribe(file, word_timestamps=True)
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
    found = Transcriber(folder).transcribe(sweep(1), **LOOSE)
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
    found = transcriber.transcribe(x, clip_timestamps=clips, word_timestamps=True)
    assert found.text.startswith("Unless to be") and found.text.endswith("amiable himself.")
    assert "married" not in found.text and "Dashwood" not in found.text
    assert found.duration == pytest.approx(len(x) / RATE)
    for segment in found.segments:
        inside = begin - 0.01 <= segment.start < segment.end <= end + 0.01
        assert inside or last - 0.01 <= segment.start
    written = ",".join(map(str, clips))
    assert (
        list(transcriber.stream(x, clip_timestamps=written, word_timestamps=True)) == found.segments
    )


@pytest.mark.parametrize("given_", ["", [], None, [0], "0", (0, 99)])
def test_clips_of_all(folder, given_):
    by = Transcriber(folder)
    found = by.transcribe(sweep(2), clip_timestamps=given_, temperature=0)
    assert found == by.transcribe(sweep(2), temperature=0) and found.segments
    assert by.transcribe(sweep(2), clip_timestamps=[5, 7, 9]).segments == []


@pytest.mark.parametrize("given_", ["a", "1,,2", [2, 1], [-1], [float("nan")], 3, [None]])
def test_bad_clips(folder, given_):
    with pytest.raises(ValueError, match="clip_timestamps must be seconds"):
        Transcriber(folder).stream(sweep(1), clip_timestamps=given_)


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


def test_the_initial_prompt_is_read(transcriber):
    file = recordings.recording(recordings.NAMES[0])
    assert "Dashwood" in transcriber.transcribe(file, initial_prompt=None).text
    prompt = "Mr. John Dashwoode was there."
    assert "Dashwoode" in transcriber.transcribe(file, initial_prompt=prompt).text


# ---- bits ----


@pytest.fixture(scope="module")
def written_by_numpy(folder):
    with choose("numpy"):
        return _everything(folder)


def _everything(folder):
    """Two windows with words, and a language that is detected; the first is drawn again."""
    every = Transcriber(folder)
    found = every.transcribe(
        sweep(33), word_timestamps=True, beam_size=3, best_of=2, temperature=(0.0, 0.7),
        log_prob_threshold=-5.0,
    )  # fmt: skip
    return found, every.detect_language(sweep(3))


def test_bits(backend, folder, written_by_numpy):
    found, languages = _everything(folder)
    assert len(found.segments) > 1 and any(segment.words for segment in found.segments)
    assert (found, languages) == written_by_numpy  # times, scores and probabilities included


@pytest.mark.slow
def test_bits_of_the_published_model_on_every_backend():
    file = recordings.recording(recordings.NAMES[1])
    for weights in (None, "int8"):
        transcriber = Transcriber(find_speech_model(), weights=weights)
        found = []
        slow = () if weights else ("numpy",)
        for name, threads in (*((name, 2) for name in (*slow, *BACKENDS[1:])), (BACKENDS[-1], 1)):
            with choose(name), seq2seq_fast.use(threads=threads):
                found.append(transcriber.transcribe(file, word_timestamps=True, beam_size=2))
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
    windows = (tone, sweep(30))
    (silence, wrong), (speech, right) = (no_speech(load(folder), x) for x in windows)
    assert silence > speech * 1.1 and wrong != right  # or this is no test
    return Transcriber(folder), (silence + speech) / 2, *windows, wrong, right


def test_the_language_is_that_of_the_first_window_with_speech(hesitant):
    by, threshold, first, second, wrong, right = hesitant
    x = np.concatenate([first, second])
    options = {**LOOSE, "no_speech_threshold": threshold}
    detected = by.detect_language(x, no_speech_threshold=threshold)
    assert next(iter(detected)) == right
    found = by.transcribe(x, **options)
    assert found.language == right
    assert found.language_probability == pytest.approx(detected[right])
    # A sound that begins with speech stays with the language of that.
    assert by.transcribe(np.concatenate([second, first]), **options).language == right
    # Without any, it is the likeliest of the window that is likest to speech.
    detected = by.detect_language(first, no_speech_threshold=threshold)
    assert by.transcribe(first, **options).language == wrong == next(iter(detected))
    # Whatever the first window holds, where there is no threshold.
    assert by.transcribe(x, **{**options, "no_speech_threshold": None}).language == wrong


def test_a_stream_says_what_it_knows(hesitant):
    by, threshold, first, second, _, right = hesitant
    options = {**LOOSE, "no_speech_threshold": threshold}
    stream = by.stream(np.concatenate([first, second]), **options)
    assert stream.language is stream.language_probability is None
    assert stream.duration == 60 and iter(stream) is stream
    segments = list(stream)
    assert segments and stream.language == right and 0 < stream.language_probability < 1
    stream = by.stream(second, "Portuguese", **options)
    assert (stream.language, stream.language_probability) == ("pt", 1.0)


def test_silence_has_no_language(folder):
    found = Transcriber(folder).transcribe(np.zeros(40 * RATE, np.float32))
    assert found.segments == [] and (found.language, found.language_probability) == ("en", 0.0)
    assert Transcriber(find_speech_model()).transcribe(np.zeros(9)).language_probability == 1.0


def test_languages(folder):
    """The probabilities of the languages' tokens, after the one that starts a transcript."""
    model, tokenizer = load(folder), random_whisper.tokenizer()
    state = model.start(model.encode([Recording(sweep(3)).window(0, 80)]))
    logits, _, _ = model.step([tokenizer.token_to_id("<|startoftranscript|>")], state)
    of = {
        code: np.exp(float(logits[0, tokenizer.token_to_id(f"<|{code}|>")]))
        for code in random_whisper.LANGUAGES
    }
    found = Transcriber(folder).detect_language(sweep(3))
    assert found == pytest.approx({code: value / sum(of.values()) for code, value in of.items()})
    assert list(found.values()) == sorted(found.values(), reverse=True)
    assert Transcriber(folder).transcribe(sweep(3)).language == next(iter(found))


def test_tasks_and_languages(folder):
    small = Transcriber(folder)

    def segments(*language, **options):
        return small.transcribe(sweep(2), *language, temperature=0, **options).segments

    assert small.languages == random_whisper.LANGUAGES
    by_language = {code: segments(code) for code in random_whisper.LANGUAGES}
    assert by_language["en"] != by_language["pt"]
    assert segments("pt", task="translate") != by_language["pt"]
    assert small.transcribe(sweep(2), "pt").language == "pt"
    for name in ("PT", "Portuguese"):
        assert segments(name) == by_language["pt"]
    with pytest.raises(TypeError, match="initial_prompt must be a str; got 3"):
        small.transcribe(sweep(1), initial_prompt=3)
    for given_, message in (
        ({"language": "xx"}, "language must be one of en, pt, ja; got 'xx'"),
        ({"language": ["en"]}, r"language must be one of en, pt, ja; got \['en'\]"),
        ({"task": "sing"}, "task must be transcribe or translate"),
        ({"task": []}, "task must be transcribe or translate"),
    ):
        with pytest.raises(ValueError, match=message):
            small.transcribe(sweep(1), **given_)
    with pytest.raises(ValueError, match="this model knows English alone"):
        Transcriber(find_speech_model()).transcribe(sweep(1), task="translate")


@pytest.mark.peers
def test_features_of_the_peer_are_those_of_the_tests(transcriber):
    """That both hear the same is what makes the comparisons above fair."""
    x, _ = soundfile.read(recordings.recording(recordings.NAMES[0]), dtype="float32")
    want = FeatureExtractor()(x)[:, : len(x) // 160].T
    found = Recording(x).window(0, 80)[: len(x) // 160]
    np.testing.assert_allclose(found[:-2], want[:-2], atol=1e-4)
