"""When words were said: in the sound, in order, and not in its pauses."""

from __future__ import annotations

import difflib

import numpy as np
import pytest
import recordings
import soundfile
from faster_whisper import WhisperModel
from hypothesis import given
from hypothesis import strategies as st

from seq2seq_fast import Transcriber
from seq2seq_fast.demo import find_speech_model
from seq2seq_fast.speech.alignment import spoken, token_times
from seq2seq_fast.speech.audio import RATE, Recording
from seq2seq_fast.speech.word_times import with_marks, word_times

# Whatever is written first is taken.
LOOSE = {"beam_size": 1, "temperature": 0.0, "log_prob_threshold": -9.0}


@pytest.fixture(scope="module")
def transcriber():
    return Transcriber(find_speech_model(), weights="int8")


@pytest.fixture(scope="module")
def alone():
    """Of each recording by itself, the words with their starts that faster-whisper finds."""
    peer = WhisperModel(str(find_speech_model()), compute_type="float32", cpu_threads=2)
    found = {}
    for name in (recordings.NAMES[1], recordings.NAMES[3]):
        segments, _ = peer.transcribe(str(recordings.recording(name)), word_timestamps=True)
        found[name] = [(word.word, word.start) for part in segments for word in part.words]
    return found


def plain(text):
    return "".join(c for c in text.lower() if c.isalnum())


# ---- recordings with pauses between them ----


@pytest.mark.slow
@pytest.mark.peers
@pytest.mark.parametrize(
    ("names", "seconds", "noise"),
    [((3, 1), 12, 0.0), ((3, 1), 4, 0.02), ((1, 3), 25, 0.002)],
)
def test_a_pause_belongs_to_nobody(transcriber, alone, names, seconds, noise):
    first, second = (soundfile.read(recordings.recording(recordings.NAMES[i]))[0] for i in names)
    pause = np.random.default_rng(0).standard_normal(seconds * RATE) * noise
    sound = np.concatenate([first, pause, second])
    begin, end = len(first) / RATE, len(first) / RATE + seconds
    found = transcriber.transcribe(sound, word_timestamps=True, temperature=0.0)
    words = [word for segment in found.segments for word in segment.words]
    assert "".join(word.text for word in words) == "".join(s.text for s in found.segments)
    # Each word is in the first recording, or in the second.
    assert all(word.end <= begin + 0.1 or word.start >= end - 0.1 for word in words)
    assert max(word.end - word.start for word in words) < 1.2
    for segment in found.segments:
        assert (segment.start, segment.end) == (segment.words[0].start, segment.words[-1].end)
    # They begin when the peer says that they do where there is no pause.
    want = [
        (plain(text), at + offset)
        for i, offset in zip(names, (0, end), strict=True)
        for text, at in alone[recordings.NAMES[i]]
    ]
    matcher = difflib.SequenceMatcher(
        None, [text for text, _ in want], [plain(word.text) for word in words], autojunk=False
    )
    late = [
        abs(want[a + i][1] - words[b + i].start)
        for a, b, count in matcher.get_matching_blocks()
        for i in range(count)
    ]
    assert len(late) >= 0.9 * len(want)
    assert sum(one <= 0.3 for one in late) >= 0.95 * len(late)


@pytest.mark.parametrize("samples", [8000, 20_077])
def test_cut_recordings(transcriber, samples):
    """Half a second and more, also where a word is cut."""
    x, _ = soundfile.read(recordings.recording(recordings.NAMES[0]), dtype="float32")
    for words in (False, True):
        done = []
        found = transcriber.transcribe(
            x[RATE:][:samples], word_timestamps=words, progress=done.append, **LOOSE
        )
        assert found.segments
        check_order(found, words)
        assert done == sorted(done) and done[-1] <= found.duration


def test_white_noise(transcriber):
    """The models write something, with times as if they had heard half a minute."""
    x = (np.random.default_rng(0).standard_normal(31 * RATE) * 0.1).astype(np.float32)
    for words in (False, True):
        done = []
        found = transcriber.transcribe(x, word_timestamps=words, progress=done.append, **LOOSE)
        check_order(found, words)
        assert max(done) <= found.duration == 31


def check_order(found, words):
    """Segments and words follow each other, within the sound."""
    at = 0.0
    for segment in found.segments:
        assert at <= segment.start < segment.end <= found.duration
        at = segment.start
        assert bool(segment.words) == words
        for word in segment.words:
            assert at <= word.start < word.end <= segment.end
            at = word.end
        at = segment.end


# ---- where somebody speaks ----


def bursts(*seconds, level=0.3, ground=0.0):
    """Noise that comes and goes four times a second, as syllables do, from each first to second
    time; the sound ends with the last of them. The log-mel spectrum of it."""
    rng = np.random.default_rng(0)
    t = np.arange(int(seconds[-1][1] * RATE)) / RATE
    x = rng.standard_normal(len(t)) * ground
    for begin, end in seconds:
        inside = (t >= begin) & (t < end)
        x += inside * level * rng.standard_normal(len(t)) * np.sin(4 * np.pi * (t - begin)) ** 2
    return Recording(x.astype(np.float32)).window(0, 80)


@pytest.mark.parametrize("ground", [0.0, 0.001, 0.02])
def test_pauses_are_found(ground):
    """Digital silence, and noise, of which the bursts are not that much louder."""
    ticks = 500
    found = spoken(bursts((1, 3), (7, 10), ground=ground), ticks)
    away = np.ones(ticks, bool)
    for begin, end in ((1, 3), (7, 10)):
        assert found[50 * begin + 10 : 50 * end - 15].all()
        away[50 * begin - 15 : 50 * end + 15] = False
    assert not found[away].any()


def test_what_never_changes_may_be_speech_everywhere():
    for level in (0.0, 0.1):
        x = np.random.default_rng(0).standard_normal(5 * RATE) * level
        assert spoken(Recording(x).window(0, 80), 250).all()
    assert spoken(np.zeros((2, 80), np.float32), 1).tolist() == [True]


def test_words_keep_to_one_side_of_a_pause():
    """Attention to the pause, too, as models pay it, does not count; a word that has sound on both
    sides is where most attention is."""
    spectrum = bursts((0, 1), (4, 5))
    weights = np.full((2, 4, 250), 1e-4, np.float32)
    weights[:, 0, :25] = 1  # the first word, and on into the pause
    weights[:, 1, 25:50] = weights[:, 1, 60:150] = 1
    weights[:, 2, 190:250] = 1  # the last one, from within the pause on
    weights[:, 3, 249:] = 2
    (_, _), (start, end), (late, last) = word_times(weights, 0, [1, 1, 1], spectrum, 500)
    assert abs(start - 50) <= 6 and abs(end - 100) <= 12
    assert abs(late - 400) <= 12 and last <= 500


# ---- paths and words ----


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


@given(
    counts=st.lists(st.integers(1, 3), min_size=1, max_size=12),
    frames=st.one_of(st.integers(1, 40), st.integers(1, 400)),
    seed=st.integers(0, 99),
    lost=st.integers(0, 3),
)
def test_words_follow_each_other_within_the_sound(counts, frames, seed, lost):
    """Whatever is heard and wherever attention goes; also if the last tokens had no room."""
    rng = np.random.default_rng(seed)
    first = int(rng.integers(0, 3))
    tokens = first + max(1, sum(counts) + 1 - lost)
    weights = rng.random((2, tokens, 200)).astype(np.float32) ** int(rng.integers(1, 9))
    spectrum = np.repeat(rng.random((80, 4)) * rng.integers(0, 2, (80, 1)), 5, axis=0)
    found = word_times(weights, first, counts, spectrum.astype(np.float32), frames)
    assert len(found) == len(counts)
    at = 0.0
    for start, end in found:
        assert at <= start < end <= frames
        assert end - start <= 200
        at = end


def test_marks_go_with_words():
    words = [(" He", 1), (" said", 1), (":", 1), (' "', 1), ("yes", 1), (".", 1), ('"', 1)]
    assert with_marks(words) == [(" He", 1), (" said:", 2), (' "yes."', 4)]
    assert with_marks([(" (", 1)]) == [(" (", 1)]
