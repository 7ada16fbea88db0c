"""Sound files that are cut, damaged or no sound, and those that FFmpeg reads: sound, or a sentence
that says why not."""

from __future__ import annotations

import io
import sys

import av
import numpy as np
import pytest
from conftest import assert_same_bits
from hypothesis import given, settings
from hypothesis import strategies as st
from sounds import HEADER, Pipe, by_ffmpeg, heard, speechlike, written

from seq2seq_fast.speech import audio_input
from seq2seq_fast.speech.audio import RATE, Recording

WHOLE = {
    "WAV": written(speechlike(300)),
    "FLAC": written(speechlike(300), "FLAC"),
    "OGG": written(speechlike(300), "OGG"),
    "M4A": by_ffmpeg(speechlike(), "mp4", "aac"),
    "AAC": by_ffmpeg(speechlike(), "adts", "aac"),
    "MKA": by_ffmpeg(speechlike(), "matroska", "alac"),
    "WebM": by_ffmpeg(speechlike(), "webm", "libopus", 48_000),
    "FLV": by_ffmpeg(speechlike(), "flv", "aac"),
}


@pytest.mark.parametrize("kind", WHOLE)
def test_truncated_files(kind):
    """At every byte: an error, or what is there."""
    data = WHOLE[kind]
    whole = heard(data)
    step = 1 if kind in ("WAV", "FLAC") else 13
    for length in range(0, len(data), step):
        found = []
        try:
            for block in Recording(data[:length]).samples():
                found.append(block)
        except ValueError as error:
            assert str(error).startswith("audio: ")
        if kind == "WAV" and length >= HEADER:
            assert sum(map(len, found)) == (length - HEADER) // 2
        samples = np.concatenate([np.zeros(0, np.float32), *found])
        assert len(samples) <= len(whole)
        if kind in ("WAV", "FLAC", "MKA"):
            assert_same_bits(samples, whole[: len(samples)])


@given(st.data())
@settings(max_examples=200, deadline=None)
def test_damaged_files(data):
    """Bytes changed, cut out: an error, or sound that is no longer than a file can be."""
    file = bytearray(WHOLE[data.draw(st.sampled_from(sorted(WHOLE)))])
    for _ in range(data.draw(st.integers(1, 5))):
        at = data.draw(st.integers(0, 99) | st.integers(0, len(file) - 1))
        edge = st.sampled_from([0, 1, 0x7FFFFFFF, 0xFFFFFFFF]).map(lambda n: n.to_bytes(4, "big"))
        file[at : at + data.draw(st.integers(0, 8))] = data.draw(edge | st.binary(max_size=8))
    try:
        found = heard(bytes(file))
    except ValueError as error:
        assert str(error).startswith("audio: ")
    else:
        assert np.isfinite(found).all() and len(found) <= 400 * 16 * len(file)


# What FFmpeg reads


@pytest.mark.parametrize(
    ("kind", "codec", "channels"),
    [("ipod", "alac", 1), ("ipod", "alac", 2), ("avi", "pcm_s16le", 2), ("mov", "pcm_s16be", 6),
     *(("matroska", "wavpack", channels) for channels in (1, 2, 6, 8)),
     ("matroska", "pcm_f32le", 8)],
)  # fmt: skip
def test_media(tmp_path, kind, codec, channels):
    """Codecs that lose nothing give the samples that went in."""
    samples = speechlike(70_000, channels)
    data = by_ffmpeg(samples, kind, codec, video=kind in ("matroska", "mov"))
    want = heard(samples)
    path = tmp_path / "x"
    path.write_bytes(data)
    for way in (data, path, io.BytesIO(data), Pipe(data)):
        recording = Recording(way)
        assert recording.duration == pytest.approx(70_000 / RATE, abs=0.01)
        found = np.concatenate(list(recording.samples()))
        assert_same_bits(found[: len(want)], want)
        assert not found[len(want) :].any()  # ALAC's last frame may be filled up


@pytest.mark.parametrize(
    ("kind", "codec"),
    [("ipod", "aac"), ("adts", "aac"), ("webm", "libopus"), ("mpegts", "mp2"), ("asf", "aac"),
     ("flv", "aac"), ("ac3", "ac3")],
)  # fmt: skip
def test_media_that_lose_a_little(kind, codec):
    samples = speechlike(48_000)
    rate = 48_000 if codec in ("libopus", "ac3") else 44_100 if codec == "mp2" else RATE
    found = heard(by_ffmpeg(samples, kind, codec, rate))
    want = heard(samples)
    assert len(found) == pytest.approx(len(want), abs=RATE // 5)
    spectra = [np.abs(np.fft.rfft(x, 1 << 17)) for x in (found, want)]
    assert spectra[0] @ spectra[1] > 0.95 * np.linalg.norm(spectra[0]) * np.linalg.norm(spectra[1])


@pytest.mark.parametrize("kind", ["ipod", "adts", "webm", "avi", "flv", "asf"])
@pytest.mark.parametrize("name", ["x.mp3", "x.wav"])
def test_media_by_another_name(tmp_path, monkeypatch, capfd, kind, name):
    """Nothing but our own message on stderr, with PyAV and without."""
    codec = "libopus" if kind == "webm" else "aac"
    path = tmp_path / name
    path.write_bytes(by_ffmpeg(speechlike(), kind, codec, 48_000 if kind == "webm" else RATE))
    assert len(heard(path)) == pytest.approx(3000, abs=2500)
    advice = r'pip install "seq2seq_fast\[media\]"'
    monkeypatch.setattr(av, "__version__", "16.1.0")
    with pytest.raises(ImportError, match=r"av 16\.1\.0 is too old: " + advice):
        Recording(path)
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(ImportError, match=advice):
        Recording(path)
    assert capfd.readouterr().err == ""


def test_files_that_are_no_sound(tmp_path, monkeypatch, capfd):
    page = b"<!DOCTYPE html><html><body>404 Not Found</body></html>" * 100
    unreadable = r"(audio|x\.mp3): not an audio file that can be read: .*"
    path = tmp_path / "x.mp3"
    path.write_bytes(page)
    for way in (
        page,
        path,
        b"RIFF",
        bytes(1000),
        b"",
        by_ffmpeg(speechlike(), "mp4", None, video=1),
    ):
        with pytest.raises(ValueError, match=unreadable):
            Recording(way)
    monkeypatch.setitem(sys.modules, "av", None)
    for way in (page, path, b"RIFF", bytes(1000)):
        with pytest.raises(
            ValueError, match=unreadable + r'.* pip install "seq2seq_fast\[media\]"'
        ):
            Recording(way)
    assert capfd.readouterr().err == ""


def test_a_file_names_no_other(tmp_path):
    """A playlist is no sound, whatever lies where it points."""
    other = tmp_path / "other.ts"
    other.write_bytes(by_ffmpeg(speechlike(), "mpegts", "mp2", 44_100))
    assert len(heard(other))
    playlist = f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nfile://{other}\n#EXT-X-ENDLIST\n"
    for text in (playlist, f"ffconcat version 1.0\nfile {other}\n"):
        (tmp_path / "x.m3u8").write_text(text)
        for way in (text.encode(), tmp_path / "x.m3u8"):
            with pytest.raises(ValueError, match="not an audio file that can be read"):
                Recording(way)


def test_damaged_media():
    """What comes before is heard, then an error; a sound that was cut just ends or begins there."""
    data = by_ffmpeg(speechlike(100_000), "adts", "aac")
    whole = heard(data)
    at = len(data) // 2
    blocks = Recording(data[:at] + bytes(range(256)) + data[at + 256 :]).samples()
    found = []
    with pytest.raises(ValueError, match="audio: damaged: "):
        for block in blocks:
            found.append(block)
    found = np.concatenate(found)
    assert len(whole) // 3 < len(found) < 2 * len(whole) // 3
    assert_same_bits(found, whole[: len(found)])
    assert len(whole) // 3 < len(heard(data[:at])) < 2 * len(whole) // 3
    assert len(whole) // 3 < len(heard(data[at:])) < 2 * len(whole) // 3


# MP3


def test_mp3_is_read_without_a_break(monkeypatch, capfd):
    """Frames of MP3 need those before them: blocks must not show, nor be heard of."""
    noise = np.random.default_rng(0).integers(-9000, 9000, (40_000, 1)).astype(np.int16)
    data = written(noise, "MP3")
    want = heard(data)
    monkeypatch.setattr(audio_input, "BLOCK", 1000)
    assert_same_bits(heard(data), want)
    assert capfd.readouterr().err == ""


def test_mp3_that_begins_with_something_else(tmp_path):
    data = written(speechlike(20_000), "MP3")
    path = tmp_path / "x.mp3"
    path.write_bytes(bytes(5000) + data)
    assert_same_bits(heard(path), heard(data))
