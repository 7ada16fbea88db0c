"""Transcriber's options: checked where they are given, and what they do to a doubtful result."""

from __future__ import annotations

import zlib

import numpy as np
import pytest
import random_whisper

from seq2seq_fast import Transcriber
from seq2seq_fast.checks import shown
from seq2seq_fast.speech.audio import RATE
from seq2seq_fast.speech.options import TranscriptionOptions


@pytest.fixture(scope="module")
def transcriber(tmp_path_factory):
    """A small model of random weights, which is always in doubt."""
    folder = tmp_path_factory.mktemp("whisper")
    random_whisper.write(folder)
    return Transcriber(folder)


@pytest.fixture(scope="module")
def sound():
    return np.sin(np.arange(2 * RATE, dtype=np.float32) / 9)


# ---- what is refused ----


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"beamsize": 2}, TypeError, "no option 'beamsize'; did you mean 'beam_size'"),
        ({"langage": "en"}, TypeError, "no option 'langage'; did you mean 'language'"),
        ({"words": True}, TypeError, "no option 'words'; did you mean 'word_timestamps'"),
        ({"beam_size": 2.0}, TypeError, "beam_size must be an integer; got 2.0"),
        ({"beam_size": 257}, ValueError, "beam_size must be from 1 to 256; got 257"),
        ({"patience": 0}, ValueError, "patience must be from"),
        ({"length_penalty": "1"}, TypeError, "length_penalty must be a number; got '1'"),
        ({"best_of": 0}, ValueError, "best_of must be from 1 to 4096; got 0"),
        ({"seed": 0.5}, TypeError, "seed must be an integer; got 0.5"),
        ({"seed": -1}, ValueError, "seed must be from 0 to"),
        ({"temperature": None}, TypeError, "temperature must be a number; got None"),
        ({"temperature": True}, TypeError, "temperature must be a number; got True"),
        ({"temperature": -1}, ValueError, "temperature must be from 0 to"),
        ({"temperature": "0"}, TypeError, "temperature must be a sequence of numbers; got '0'"),
        ({"temperature": ()}, ValueError, "temperature must be at least one number"),
        ({"temperature": (0, 1e-39)}, ValueError, r"temperature\[1\] must be from 1e-12 to"),
        ({"temperature": (0, -1)}, ValueError, r"temperature\[1\] must be from 0 to"),
        ({"temperature": (0, np.nan)}, ValueError, r"temperature\[1\] must be from 0 to"),
        ({"temperature": [None]}, TypeError, r"temperature\[0\] must be a number; got None"),
        ({"compression_ratio_threshold": "2"}, TypeError, "threshold must be a number; got '2'"),
        ({"log_prob_threshold": np.nan}, ValueError, "must be from -inf to inf; got nan"),
        ({"no_speech_threshold": -1}, ValueError, "must be from 0 to inf; got -1"),
        ({"condition_on_previous_text": 1}, TypeError, "must be True or False; got 1"),
        ({"word_timestamps": None}, TypeError, "must be True or False; got None"),
        ({"vad_filter": "yes"}, TypeError, "must be True or False; got 'yes'"),
        ({"initial_prompt": 3}, TypeError, "initial_prompt must be a str; got 3"),
        ({"clip_timestamps": [2, 1]}, ValueError, "clip_timestamps must be seconds"),
    ],
    ids=shown,
)
def test_a_call_refuses_options_before_any_work(transcriber, options, error, message):
    for name in ("transcribe", "stream"):
        with pytest.raises(error, match=message):
            getattr(transcriber, name)("no such sound", **options)


def test_the_object_takes_none_of_them():
    with pytest.raises(TypeError, match="Transcriber has no option 'beam_size'"):
        Transcriber("no such folder", beam_size=2)


# ---- what a doubtful result leads to ----


def temperatures(transcriber, sound, **options):
    found = transcriber.transcribe(sound, temperature=(0, 0.5, 1), **options).segments
    return {segment.temperature for segment in found}


def test_a_temperature_is_tried_while_the_result_is_doubtful(transcriber, sound):
    never = {"no_speech_threshold": None, "compression_ratio_threshold": None}
    score = transcriber.transcribe(sound, temperature=0).segments[0].score
    assert temperatures(transcriber, sound, log_prob_threshold=score - 0.1, **never) == {0}
    assert temperatures(transcriber, sound, log_prob_threshold=None, **never) == {0}
    # If all are doubtful, the likeliest of them is taken.
    every = [
        transcriber.transcribe(sound, temperature=one, log_prob_threshold=None, **never)
        for one in (0, 0.5, 1)
    ]
    best = max((one.segments[0] for one in every), key=lambda segment: segment.score)
    found = transcriber.transcribe(sound, temperature=(0, 0.5, 1), log_prob_threshold=0.0, **never)
    assert found.segments[0] == best


def test_what_repeats_itself_is_doubtful(transcriber, sound):
    loose = {"no_speech_threshold": None, "log_prob_threshold": None}

    def ratio(temperature):
        text = transcriber.transcribe(sound, temperature=temperature, **loose).text.encode()
        return len(text) / len(zlib.compress(text))

    likeliest, sampled = ratio(0), ratio(1)
    assert likeliest > sampled * 1.1  # or this is no test
    for threshold, expected in ((likeliest + 0.1, 0), (sampled + 0.01, 1)):
        options = {"compression_ratio_threshold": threshold, "temperature": (0, 1), **loose}
        found = transcriber.transcribe(sound, **options)
        assert {segment.temperature for segment in found.segments} == {expected}


def test_an_unlikely_text_is_silence_if_no_speech_is_likely(transcriber, sound):
    def segments(**options):
        return transcriber.transcribe(sound, temperature=0, **options).segments

    no_speech = segments(no_speech_threshold=None)[0].no_speech
    assert segments(no_speech_threshold=no_speech / 2, log_prob_threshold=0.0) == []
    assert segments(no_speech_threshold=no_speech / 2, log_prob_threshold=None) == []
    assert segments(no_speech_threshold=no_speech / 2, log_prob_threshold=-1e9)
    assert segments(no_speech_threshold=no_speech * 2, log_prob_threshold=0.0)
    assert segments(no_speech_threshold=None, log_prob_threshold=0.0)


def test_the_best_of_some_samples_by_their_seed(transcriber, sound):
    options = {"temperature": 0.7, "log_prob_threshold": None, "no_speech_threshold": None}
    one, many = (
        transcriber.transcribe(sound, best_of=count, **options).segments[0] for count in (1, 9)
    )
    assert many.score >= one.score
    assert transcriber.transcribe(sound, best_of=1, seed=1, **options).segments[0] != one


def test_numbers_of_numpy(transcriber):
    numpys = TranscriptionOptions(beam_size=np.int64(2), temperature=np.float32(0.5))
    assert (numpys.beam_size, numpys.temperatures) == (2, (0.5,))
    assert TranscriptionOptions(temperature=np.array([0, 0.5])).temperatures == (0.0, 0.5)
