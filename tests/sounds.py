"""Sounds for tests: made of nothing, in the files that people have."""

from __future__ import annotations

import io

import av
import numpy as np
import soundfile

from seq2seq_fast.speech.audio import RATE, Recording

HEADER = 44  # bytes of a WAV file before its samples


def sweep(seconds, seed=0):
    """A tone that rises and falls, and noise: (n,) float32, 16 kHz."""
    rng = np.random.default_rng(seed)
    t = np.arange(int(seconds * RATE)) / RATE
    return (np.sin(2 * np.pi * (200 + 100 * np.sin(t)) * t) * rng.random(len(t))).astype(np.float32)


def heard(audio, rate=RATE):
    return np.concatenate([np.zeros(0, np.float32), *Recording(audio, rate).samples()])


def speechlike(count=3000, channels=1):
    """int16 (count, channels), never silent."""
    t = np.arange(count)[:, None] + 7 * np.arange(channels)
    return (9000 * np.sin(t / 9) + 300 * np.cos(t * t / 7)).astype(np.int16)


def written(samples, kind="WAV", rate=RATE, **options):
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=kind, **options)
    return file.getvalue()


def by_ffmpeg(samples, kind, codec, rate=RATE, video=False):
    """A file that FFmpeg's libraries write."""
    file = io.BytesIO()
    layout = {1: "mono", 2: "stereo", 6: "5.1", 8: "7.1"}[samples.shape[1]]
    with av.open(file, "w", format=kind) as container:
        if video:
            picture = container.add_stream("mpeg4", rate=25)
            picture.width = picture.height = 32
        if codec:
            track = container.add_stream(codec, rate=rate, layout=layout)
            if codec == "wavpack":  # would be of 8 bits
                track.codec_context.format = "s16p"
            frame = av.AudioFrame.from_ndarray(samples.reshape(1, -1), "s16", layout)
            frame.sample_rate = RATE
            for one in (frame, None):
                container.mux(track.encode(one))
        if video:
            for _ in range(5):
                container.mux(picture.encode(av.VideoFrame(32, 32, "yuv420p")))
            container.mux(picture.encode(None))
    return file.getvalue()


class Pipe(io.RawIOBase):
    """Bytes that come a few at a time and only once."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def readable(self):
        return True

    def readinto(self, buffer):
        some = self.data[self.at : self.at + min(len(buffer), 1000)]
        buffer[: len(some)] = some
        self.at += len(some)
        return len(some)
