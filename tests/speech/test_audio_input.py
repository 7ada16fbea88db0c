"""Sound as people have it: the same samples however they come, or a sentence that says why not."""

from __future__ import annotations

import io
import os
import re
import struct
import sys
import threading
import zipfile

import numpy as np
import pytest
from conftest import assert_same_bits
from hypothesis import given, settings
from hypothesis import strategies as st
from sounds import Pipe, by_ffmpeg, heard, speechlike, written

from seq2seq_fast.speech import audio_input, audio_stream
from seq2seq_fast.speech.audio import RATE, Recording

INTEGERS = {"i2": (0, 2**15), "i4": (0, 2**31), "u1": (2**7, 2**7)}


# Arrays


@given(st.data())
def test_arrays(data):
    """Every layout, type, byte order and stride."""
    channels = data.draw(st.integers(1, 8), "channels")
    count = data.draw(st.integers(channels, 60), "count")
    kind = data.draw(st.sampled_from(["f2", "f4", "f8", *INTEGERS]), "kind")
    rng = np.random.default_rng(data.draw(st.integers(0, 99), "seed"))
    if kind in INTEGERS:
        zero, one = INTEGERS[kind]
        samples = rng.integers(zero - one, zero + one, (count, channels)).astype(kind)
        floats = (samples.astype(np.float64) - zero).astype(np.float32) / np.float32(one)
    else:
        samples = rng.uniform(-1, 1, (count, channels)).astype(kind)
        floats = samples.astype(np.float32)
    total = floats[:, 0]
    for channel in floats.T[1:]:
        total = total + channel
    want = total / np.float32(channels)
    if data.draw(st.booleans(), "big-endian"):
        samples = samples.astype(samples.dtype.newbyteorder(">"))
    if data.draw(st.booleans(), "strided"):
        wide = np.full((2 * count, 3 * channels), 77, samples.dtype)
        wide[::-2, 1::3] = samples
        samples = wide[::-2, 1::3]
    if channels == 1 and data.draw(st.booleans(), "one axis"):
        samples = samples[:, 0]
    if channels < count and data.draw(st.booleans(), "channels first"):
        samples = samples.T
    samples.flags.writeable = False
    assert_same_bits(heard(samples), want)


def test_ambiguous_shapes():
    """Both axes alike: the second is the channels'."""
    assert_same_bits(heard(np.float32([[1, 3], [5, 7]])), np.float32([2, 6]))
    assert len(heard(np.zeros(0, np.int16))) == len(heard(np.zeros((0, 2)))) == 0


@pytest.mark.parametrize(
    ("samples", "rate", "message"),
    [
        (np.zeros((2, 2, 2), np.float32), RATE, r"\(channels, n\) with .* 8 channels; got \(2, 2"),
        (np.zeros((), np.float32), RATE, r"got \(\)"),
        (np.zeros((2, 0), np.float32), RATE, r"got \(2, 0\)"),
        (np.zeros((9, 16000), np.float32), RATE, r"got \(9, 16000\)"),
        (np.zeros(2, np.int64), RATE, "of floats, int16, int32 or uint8; got int64"),
        (np.zeros(2, np.int8), RATE, "got int8"),
        (np.zeros(2, bool), RATE, "got bool"),
        (np.zeros(2, complex), RATE, "got complex128"),
        (np.zeros(2, object), RATE, "got object"),
        (np.zeros(2, np.float32), 16e3, "rate must be an integer; got 16000.0"),
        (np.zeros(2, np.float32), True, "rate must be an integer; got True"),
        (np.zeros(2, np.float32), "16k", "rate must be an integer; got '16k'"),
        *(
            (np.zeros(2, np.float32), rate, f"rate is {rate} samples a second; expected 1000 to 76")
            for rate in (-1, 0, 999, 768_001, 2**63, 10**400)
        ),
        (np.full(2, np.nan), RATE, r"audio: sample 0 is not a finite .*nan"),
        (np.array([0, 1e300]), RATE, r"audio: sample 1 is not a finite .*inf"),
        (np.float32([[0, 0], [0, -3e38]]), RATE, r"sample 1 is not a finite .*e\+38"),
    ],
)
def test_bad_arrays(samples, rate, message):
    with pytest.raises(ValueError, match=message):
        heard(samples, rate)


@pytest.mark.parametrize("other", [[0.0, 1.0], None, 5, 1.5, object()])
def test_other_types(other):
    with pytest.raises(TypeError, match=r"audio must be a path, the bytes of a file.*asarray"):
        Recording(other)


@pytest.mark.parametrize("rate", [1000, 11_025, 768_000])
def test_rates(rate):
    assert len(heard(np.zeros(rate, np.float32), rate)) == pytest.approx(RATE, abs=1)


# Files, however they are handed over


def test_ways_to_hand_over_a_file(tmp_path):
    samples = speechlike()
    data, want = written(samples), heard(samples)
    path = tmp_path / "x.wav"
    path.write_bytes(data)
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    threading.Thread(target=fifo.write_bytes, args=(data,)).start()
    scattered = np.zeros((2, len(data)), np.uint8)
    scattered[0] = np.frombuffer(data, np.uint8)
    ways = [
        path, str(path), fifo,
        data, bytearray(data), memoryview(data), memoryview(scattered.T[:, 0]),
        io.BytesIO(data), Pipe(data), io.BufferedReader(Pipe(data)),
    ]  # fmt: skip
    for way in ways:
        assert_same_bits(heard(way), want)
    with zipfile.ZipFile(io.BytesIO(), "w") as archive:
        archive.writestr("x.wav", data)
        with archive.open("x.wav") as member:
            assert_same_bits(heard(member), want)
    for buffering in (-1, 0):
        with open(path, "rb", buffering=buffering) as file:
            assert_same_bits(heard(file), want)
            assert not file.closed


@pytest.mark.skipif(sys.platform == "darwin", reason="its file names are UTF-8")
def test_names_that_are_not_utf8(tmp_path):
    name = os.fsencode(tmp_path) + b"/caf\xe9.wav"
    samples = speechlike()
    with open(name, "wb") as file:
        file.write(written(samples))
    assert_same_bits(heard(os.fsdecode(name)), heard(samples))

    class Named:
        def __fspath__(self):
            return name

    assert_same_bits(heard(Named()), heard(samples))


def test_a_file_is_read_from_where_it_stands():
    samples = speechlike()
    for kind in ("WAV", "FLAC", "OGG"):
        data = written(samples, kind)
        file = io.BytesIO(b"something before" + data)
        file.seek(16)
        assert_same_bits(heard(file), heard(data))
    file.seek(0, io.SEEK_END)
    with pytest.raises(ValueError, match=r"after its position: seek\(0\) goes to its beginning"):
        Recording(file)


def test_a_long_pipe_lies_in_a_file(monkeypatch):
    monkeypatch.setattr(audio_stream, "IN_MEMORY", 100)
    samples = speechlike()
    assert_same_bits(heard(Pipe(written(samples))), heard(samples))


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"x\.wav: no such audio file"):
        Recording(tmp_path / "x.wav")
    with pytest.raises(IsADirectoryError, match=re.escape(str(tmp_path))):
        Recording(tmp_path)
    with pytest.raises(ValueError, match=r"'a\\x00b': not a path"):
        Recording("a\0b")
    (tmp_path / "text").write_text("text")
    with open(tmp_path / "text") as file:
        for text in (io.StringIO("text"), file):
            with pytest.raises(TypeError, match="a text file; open it in binary mode"):
                Recording(text)
    file = io.BytesIO(written(speechlike()))
    file.close()
    with pytest.raises(ValueError, match="audio: cannot be read: I/O operation on closed file"):
        Recording(file)


@pytest.mark.parametrize("kind", ["WAV", "FLAC", "adts"])
def test_errors_while_reading(kind, capfd):
    """They come from the file as they are, though libraries read it from C."""
    noise = np.random.default_rng(0).integers(-9000, 9000, (60_000, 1)).astype(np.int16)
    data = by_ffmpeg(noise, kind, "aac") if kind == "adts" else written(noise, kind)

    class Failing(io.BytesIO):
        error: BaseException | None = None

        def read(self, count=-1):
            if self.error is not None and self.tell() > 3 * len(data) // 4:
                raise self.error
            return super().read(count)

    for error, raised in ((OSError("disk gone"), ValueError), (KeyboardInterrupt(), None)):
        file = Failing(data)
        blocks = Recording(file).samples()
        file.error = error
        with pytest.raises(raised or KeyboardInterrupt, match=r"cannot be read: disk gone|^$"):
            for _ in blocks:
                pass
    assert capfd.readouterr().err == ""


# What headers say


SIZES = [0, 1, 2, 3, 35, 36, 2**31 - 1, 0x7FFFF000, 2**31, 2**32 - 2, 2**32 - 1]


@given(
    st.sampled_from([0, *SIZES[5:], 6001, 2**16]),
    st.sampled_from([*SIZES, None]),
    st.sampled_from(["PCM_16", "PCM_24", "PCM_U8", "FLOAT", "ULAW"]),
    st.sampled_from(["FILE", "LITTLE", "BIG"]),
    st.sampled_from([0, 1, 5]),
)
@settings(max_examples=150, deadline=None)
def test_lengths_that_are_not_known(size, riff, subtype, endian, garbage):
    """The recorder was killed, or wrote to a pipe: all there is is heard."""
    samples = speechlike()
    data = bytearray(written(samples, subtype=subtype, endian=endian))
    want = heard(bytes(data))
    assert len(want) == len(samples)
    order = ">" if data[:4] == b"RIFX" else "<"
    at = data.index(b"data")
    end = at + 8 + struct.unpack(order + "I", data[at + 4 : at + 8])[0]
    size = max(size, end - at) if size else size
    data[at + 4 : at + 8] = struct.pack(order + "I", size)
    if riff is not None:
        data[4:8] = struct.pack(order + "I", riff)
    found = heard(bytes(data[:end]) + b"\x80" * garbage)
    assert_same_bits(found[: len(want)], want)
    assert len(found) - len(want) <= garbage


@pytest.mark.parametrize("length", [0, 2**64 - 1, 2**63, 10**9, 6000])
@pytest.mark.parametrize("short", [0, 1, 2000])
def test_lengths_of_rf64(length, short):
    samples = speechlike()
    data = bytearray(written(samples, "RF64"))
    data[20:44] = struct.pack("<QQQ", length, length, 0)
    want = heard(samples)[: len(samples) - (short + 1) // 2]
    assert_same_bits(heard(bytes(data[: len(data) - short])), want)


def test_lengths_of_other_formats():
    samples = speechlike()
    want = heard(samples)
    aiff = bytearray(written(samples, "AIFF"))
    at = aiff.index(b"SSND")
    for frames, size in ((0, 0), (0, 8), (0, 2**32 - 1)):
        aiff[22:26], aiff[at + 4 : at + 8] = struct.pack(">I", frames), struct.pack(">I", size)
        assert_same_bits(heard(bytes(aiff)), want)
    au = bytearray(written(samples, "AU"))
    for size in (0, 2**32 - 1):
        au[8:12] = struct.pack(">I", size)
        assert_same_bits(heard(bytes(au)), want)
    flac = bytearray(written(samples, "FLAC"))
    flac[21] &= 0xF0
    flac[22:26] = bytes(4)
    recording = Recording(bytes(flac))
    assert recording.duration is None
    assert_same_bits(np.concatenate(list(recording.samples())), want)
    assert recording.duration == len(samples) / RATE


def test_no_samples_are_no_samples():
    """What follows them is no sound."""
    empty = written(np.zeros((0, 1), np.int16))
    for more in (b"", b"LIST\4\0\0\0INFO", b"LIST\5\0\0\0INFOx\0", b"cue \0\0\0\0LIST\0\0\0\0"):
        assert len(heard(empty + more)) == 0


@given(st.data())
@settings(max_examples=100, deadline=None)
def test_headers_at_their_edges(data):
    """Whatever a header says, there is sound or an error, in memory that the file's size bounds."""
    file = bytearray(written(speechlike(channels=2)))
    for _ in range(data.draw(st.integers(1, 3))):
        at, code = data.draw(
            st.sampled_from([(16, "I"), (20, "H"), (22, "H"), (24, "I"), (28, "I"), (32, "H"),
                             (34, "H"), (40, "I"), (4, "I")])
        )  # fmt: skip
        top = 2 ** (8 * struct.calcsize(code)) - 1
        edges = [0, 1, 2, 3, 8, 255, 256, 1024, 1025, top // 2, top // 2 + 1, top - 1, top]
        value = data.draw(st.one_of(st.sampled_from(edges), st.integers(0, top)))
        struct.pack_into("<" + code, file, at, value)
    try:
        found = heard(bytes(file))
    except ValueError as error:
        assert str(error).startswith("audio: ")
    else:
        assert len(found) <= 16 * len(file)


@pytest.mark.parametrize("rate", [1, 999, 768_001, 2**31 - 1])
def test_absurd_rates(tmp_path, rate):
    path = tmp_path / "x.wav"
    path.write_bytes(written(speechlike(60_000), rate=rate))
    with pytest.raises(ValueError, match=rf"x\.wav: the rate is {rate} samples a second; expected"):
        Recording(path)


def test_many_channels_take_no_more_memory():
    samples = np.zeros((2000, 1024), np.int16)
    recording = Recording(written(samples))
    sizes = [block.size for block in recording._sound.blocks]
    assert max(sizes) <= 8 * audio_input.BLOCK and sum(sizes) == samples.size
