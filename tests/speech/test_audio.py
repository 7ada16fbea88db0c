"""Sound to spectra: against an independent implementation, and the same bits however it is read."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import soundfile
import soxr
from conftest import assert_same_bits, choose
from faster_whisper.feature_extractor import FeatureExtractor

from seq2seq_fast.speech import audio_input
from seq2seq_fast.speech.audio import FRAMES, HOP, MARGIN, RATE, Recording, log_mel, mel_filters


def noise(rng, seconds, rate=RATE):
    """Louder and softer, with tones."""
    t = np.arange(int(seconds * rate)) / rate
    loud = np.exp(3 * np.sin(2 * np.pi * t / 1.7) - 4)
    tones = np.sin(2 * np.pi * 440 * t) + 0.1 * np.sin(2 * np.pi * 3000 * t)
    return (loud * (tones + 0.3 * rng.standard_normal(len(t)))).astype(np.float32)


@pytest.mark.peers
@pytest.mark.parametrize("bands", [80, 128])
def test_mel_filters(bands):
    want = FeatureExtractor(feature_size=bands).mel_filters
    np.testing.assert_allclose(mel_filters(bands), want, rtol=0, atol=1e-9)


@pytest.mark.peers
@pytest.mark.parametrize("bands", [80, 128])
def test_spectrum(backend, rng, bands):
    x = noise(rng, 30)
    want = FeatureExtractor(feature_size=bands)(x, padding=0).T  # by FFT
    found = Recording(x).window(0, bands)
    # The independent one pads what lies past the end by reflection.
    assert np.abs(found - want)[:-2].max() < 1e-4
    assert found.dtype == np.float32 and found.shape == (FRAMES, bands)


def test_spectrum_against_its_definition(rng):
    x = noise(rng, 1)
    frames = np.lib.stride_tricks.sliding_window_view(x.astype(np.float64), 400)[::HOP]
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400)
    power = np.abs(np.fft.rfft(frames * hann)) ** 2 @ mel_filters(80).astype(np.float64).T
    levels = np.log10(np.maximum(power, 1e-10))
    want = (np.maximum(levels, levels.max() - 8) + 4) / 4
    np.testing.assert_allclose(log_mel(x), want, rtol=0, atol=2e-5)


def test_bits_of_a_spectrum(backend, rng):
    x = noise(rng, 2)
    with choose("numpy"):
        want = log_mel(x)
    assert_same_bits(log_mel(x), want)


def test_windows_are_cut_from_the_whole(rng, monkeypatch, tmp_path):
    """However it is read, and whatever was forgotten."""
    x = noise(rng, 75)
    padded = np.concatenate([x[MARGIN:0:-1], x, np.zeros(RATE * 30 + MARGIN, np.float32)])
    file = tmp_path / "x.wav"
    soundfile.write(file, x, RATE, subtype="FLOAT")
    for block, source in itertools.product((1 << 16, 999), (x, file)):
        monkeypatch.setattr(audio_input, "BLOCK", block)
        recording = Recording(source)
        for frame in (0, 10, 1234, 4000, 4600, 7499):
            heard = min(FRAMES, 7500 - frame)
            assert recording.frames_from(frame) == heard
            found = recording.window(frame, 80)
            want = log_mel(padded[frame * HOP : (frame + heard - 1) * HOP + 2 * MARGIN])
            assert_same_bits(found[:heard], want)
            assert (found[heard:] == 0).all()
        assert recording.frames_from(7500) == 0


def test_hours_take_no_more_memory_than_a_minute(rng):
    recording = Recording(np.zeros(RATE * 600, np.int16))
    for frame in range(0, 57_000, 2900):
        recording.window(frame, 80)
        assert len(recording._kept) <= FRAMES * HOP + 2 * MARGIN + audio_input.BLOCK


@pytest.mark.parametrize("kind", ["WAV", "FLAC", "OGG", "MP3"])
@pytest.mark.parametrize("rate", [8000, 16000, 44100])
@pytest.mark.parametrize("channels", [1, 2, 3])
def test_files(tmp_path, rng, kind, rate, channels):
    if (kind, channels) == ("MP3", 3):
        channels = 1
    x = np.stack([noise(rng, 2, rate) / 20 for _ in range(channels)], axis=1)
    path = tmp_path / f"x.{kind.lower()}"
    soundfile.write(path, x, rate, format=kind)
    recording = Recording(path)
    assert recording.duration == pytest.approx(2, abs=0.1)
    read, _ = soundfile.read(path, dtype="float32", always_2d=True)
    want = soxr.resample(read.astype(np.float64).mean(axis=1), rate, RATE)
    recording.frames_from(0)
    assert len(recording._kept) == pytest.approx(len(want), abs=2)
    n = min(len(want), len(recording._kept))
    # soundfile seeks after each block, which MP3 decoders do not do to the bit.
    np.testing.assert_allclose(recording._kept[:n], want[:n], atol=1e-3 if kind == "MP3" else 1e-5)


def test_arrays(rng):
    x = noise(rng, 3)
    both = np.stack([x, x], axis=1)
    integers = np.rint(np.clip(x, -1, 1) * 32767).astype(np.int16)
    want = Recording(x).window(0, 80)
    assert_same_bits(Recording(both).window(0, 80), want)
    assert_same_bits(Recording(x.astype(np.float64)).window(0, 80), want)
    found = Recording(integers).window(0, 80)
    exact = Recording(integers.astype(np.float32) / 32768).window(0, 80)
    assert_same_bits(found, exact)


def test_bad_samples_end_the_sound(rng):
    x = noise(rng, 40)
    x[RATE * 35 + 7] = np.nan
    recording = Recording(x)
    recording.window(0, 80)
    at = recording.frames_from(3000) + 3000
    assert 3000 < at <= 3500
    with pytest.raises(ValueError, match=f"audio: sample {RATE * 35 + 7} is not a finite number"):
        recording.frames_from(at)


def test_what_is_forgotten_is_not_heard_again(rng):
    """A sound that was read once would be cut at its beginning."""
    recording = Recording(noise(rng, 75))
    recording.window(0, 80)
    recording.window(0, 80)
    recording.window(3000, 80)
    for again in (recording.window, recording.frames_from, recording.is_silent):
        with pytest.raises(ValueError, match=r"audio: was read already, .* up to 29\.99 s; make"):
            again(0, 80) if again == recording.window else again(0)
    with pytest.raises(ValueError, match="was read already"):
        next(recording.samples())
    with pytest.raises(ValueError, match="was read already"):
        recording.through(iter)


def test_what_is_kept_is_heard_again(rng):
    x = noise(rng, 20)
    recording = Recording(x)
    first = recording.window(0, 80)
    assert recording.frames_from(2000) == 0
    assert_same_bits(recording.window(0, 80), first)
    assert_same_bits(np.concatenate(list(recording.samples())), x)


def test_samples_go_through_a_function(rng):
    x = noise(rng, 40)
    recording = Recording(x)
    assert recording.frames_from(0) == FRAMES
    recording.through(lambda blocks: (block[::-1] * 0 + 1 for block in blocks))
    assert_same_bits(np.concatenate(list(recording.samples())), np.ones_like(x))


@pytest.mark.parametrize("level", [1.0, 1e-3])
def test_opposed_channels(rng, level):
    """Their mean is silence; ordinary sound is its channels' mean, whatever one block of it is."""
    x = noise(rng, 10) * np.float32(level)
    want = Recording(x).window(0, 80)
    for opposed in ([x, -x], [0 * x, x, -x], [x, -x + 1e-3 * x.max()], [x, -x, x, -x]):
        recording = Recording(np.stack(opposed, axis=1))
        assert_same_bits(recording.window(0, 80), want)
    for ordinary in ([x, 0 * x], [x, x[::-1]], [x, -0.9 * x], [0 * x, 0 * x]):
        channels = np.stack(ordinary, axis=1).astype(np.float32)
        found = np.concatenate(list(Recording(channels).samples()))
        assert_same_bits(found, (channels[:, 0] + channels[:, 1]) / np.float32(2))


@pytest.mark.parametrize("tail", [0.0, 0.3, 5.0])
def test_sounds_between_pauses(tail):
    """Pauses of less than a second are part of a sound, which lasts as long as a window at most."""
    sounds = [(6500, 7000), (7050, 7149), (7300, 7301), (10_000, 14_500), (14_700, 14_800)]
    x = np.zeros(148 * RATE + int(tail * RATE), np.float32)
    for begin, end in sounds:
        x[begin * HOP : end * HOP] = 0.5
    recording, frame, found = Recording(x), 0, []
    while True:
        frame, count = recording.next_sound(frame)
        if not count:
            break
        found.append((frame, frame + count))
        frame += count
        assert len(recording._kept) <= 2 * FRAMES * HOP + 2 * MARGIN + audio_input.BLOCK
    last = 14_700, 14_830 if tail == 0.3 else 14_800
    assert found == [(6500, 7149), (7300, 7301), (10_000, 13_000), (13_000, 14_500), last]
    assert frame == len(x) // HOP


def test_duration_is_that_of_what_was_read(tmp_path, rng):
    path = tmp_path / "x.wav"
    soundfile.write(path, noise(rng, 3, 8000), 8000)
    path.write_bytes(path.read_bytes()[: 44 + 2 * 8000])
    recording = Recording(path)
    list(recording.samples())
    assert recording.duration == 1
