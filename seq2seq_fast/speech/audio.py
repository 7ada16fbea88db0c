"""Sound as a model of speech hears it: 16 kHz samples and their log-mel spectra.

Sound is brought to 16 kHz by soxr. From the samples on, the arithmetic is the contract's, and so
are the bits: a spectrum is two linear layers and a logarithm. Sound is read as it is needed and
forgotten once it is past, so that hours of it take no more memory than a minute.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from ..contract.float_state import under_contract
from ..contract.functions import exp, log, sincos
from ..extras import require
from ..nn.linear import Linear
from ..nn.weights import Matrix
from .audio_input import Audio, Sound, open_sound

__all__ = ["FRAMES", "FRAME_RATE", "RATE", "Recording", "log_mel"]

Array = np.ndarray[Any, Any]

RATE = 16_000  # samples of a second
HOP = 160  # samples from frame to frame
WINDOW = 400  # samples of a frame
FRAME_RATE = RATE // HOP
FRAMES = 3000  # of the half minute that models hear at a time
MARGIN = WINDOW // 2  # samples that a frame reaches to either side of its middle

BINS = WINDOW // 2 + 1  # frequencies of a frame
RANGE = 8  # powers of ten below the loudest that are told apart
LEAST = 1e-10  # power; less is silence
SILENCE = 1.5 / 32768  # the most that a sample of a silent sound is
LOUDEST = 2.0**31  # of a sample; more is no sound and would overflow in a spectrum
CANCELLED = 1 / 32  # of a channel's peak; where the channels' mean has less, they cancel each other


@functools.cache
def _fourier() -> Linear:
    """The windowed discrete Fourier transform of a frame: cosines, then sines."""
    n = np.arange(WINDOW)
    _, cosine = sincos(n * (2 * math.pi / WINDOW))
    hann = 0.5 - 0.5 * cosine
    # The angle of n * frequency turns, whole turns left out: exact.
    turns = (np.arange(BINS)[:, None] * n) % WINDOW
    sines, cosines = sincos(turns * (2 * math.pi / WINDOW))
    return Linear(Matrix.pack((np.concatenate([cosines, sines]) * hann).astype(np.float32)))


@functools.cache
def mel_filters(bands: int) -> Array:
    """How much each frequency counts in each mel band, (bands, 201) float32: triangles of equal
    area, between points that are equally far apart on Slaney's mel scale ("Auditory Toolbox",
    1998), which is linear up to 1000 Hz and logarithmic above."""
    linear = 3 / 200  # mels of a hertz, up to 1000 Hz, which is the mel 15
    step = log(np.array([6.4])) / 27
    top = 15 + log(np.array([RATE / 2 / 1000])) / step
    mels = np.arange(bands + 2) * (top / (bands + 1))
    hertz = np.where(mels < 15, mels / linear, 1000 * exp(step * np.maximum(mels - 15, 0)))
    frequencies = np.arange(BINS) * (RATE / WINDOW)
    low, middle, high = hertz[:-2, None], hertz[1:-1, None], hertz[2:, None]
    rising, falling = (frequencies - low) / (middle - low), (high - frequencies) / (high - middle)
    return (np.maximum(0, np.minimum(rising, falling)) * (2 / (high - low))).astype(np.float32)


@functools.cache
def _mel(bands: int) -> Linear:
    return Linear(Matrix.pack(mel_filters(bands)))


@under_contract
def log_mel(samples: Array, bands: int = 80) -> Array:
    """The log-mel spectrum that Whisper hears.

    Parameters
    ----------
    samples : ndarray of float32, shape (160 * n + 240,)
        16 kHz, from -1 to 1: frame t is of the samples from 160 t on, its middle being 200 further.
    bands : int
        Of mel.

    Returns
    -------
    ndarray of float32, shape (n, bands)
        With w Hann's window, x a frame's samples and F the mel filters, all float32 (DFT and window
        multiplied in float64), the ordered sums of a linear layer, and m the greatest y::

            re = x (w cos), im = x (w sin);  p = F (re * re + im * im)
            y = log(max(p, 1e-10)) * (1 / log(10));  (max(y, m - 8) + 4) / 4

    References
    ----------
    Radford et al., "Robust Speech Recognition via Large-Scale Weak Supervision", 2022, section 2.2.

    Examples
    --------
    >>> log_mel(np.zeros(16000, np.float32)).shape  # a second
    (98, 80)
    """
    count = max(0, (len(samples) - WINDOW) // HOP + 1)
    x = np.ascontiguousarray(samples, np.float32)
    if not count:
        return np.zeros((0, bands), np.float32)
    (step,) = x.strides
    each = np.lib.stride_tricks.as_strided(x, (count, WINDOW), (HOP * step, step), writeable=False)
    parts = _fourier()(each)
    np.multiply(parts, parts, out=parts)
    power = _mel(bands)(parts[:, :BINS] + parts[:, BINS:])
    levels = log(np.maximum(power, np.float32(LEAST))) * np.float32(1 / math.log(10))
    floor = levels.max() - np.float32(RANGE)
    return (np.maximum(levels, floor) + np.float32(4)) / np.float32(4)


class Recording:
    """Sound, of which only what is still needed is kept: times go forward.

    The samples are the channels' mean. Where channels cancel each other (one is the other turned
    upside down, by a cable's wiring, say, so that in a block the mean's peak is less than 1/32 of a
    channel's), they are those of the first channel with half of the highest peak.

    Parameters
    ----------
    audio : path, bytes, binary file or ndarray
        A file that libsndfile reads (WAV, FLAC, OGG, MP3 and others) or, with the extra "media",
        FFmpeg (M4A, MP4, WebM, AAC, videos and others): its path; its bytes; or it, opened, which
        is read from where it stands on and not closed. What cannot seek, such as a pipe, is first
        read to its end, what is more than 32 MiB of it to a temporary file. A WAV, AIFF or AU file
        whose header has no length, or a wrong one, is read to its end.

        Or samples of shape (n,), (n, channels) or (channels, n): the shorter axis is that of the
        channels, the second where both are alike. Floats from -1 to 1, int16, int32, or uint8
        around 128, as in WAV files.
    rate : int
        Samples a second of an array, from 1000 to 768000.

    Raises
    ------
    FileNotFoundError, OSError
        There is no such file, or it may not be read.
    ValueError
        The file is no sound, or an array is not of this shape, type or rate. Also, once all that
        comes before was read: the file is damaged, or a sample is not finite or absurd. Also when
        asked for what is forgotten.
    TypeError
        `audio` is something else, or a file in text mode.
    ImportError
        The extra "speech" or "media" is not installed and is needed.

    Examples
    --------
    >>> Recording(np.zeros((22050, 2), np.float32), rate=44100).duration
    0.5
    """

    def __init__(self, audio: Audio, rate: int = RATE) -> None:
        self._sound = open_sound(audio, rate)
        self._blocks = _resampled(self._sound)
        self._start = 0  # of what is kept, in samples
        self._kept = np.zeros(0, np.float32)
        self._ended = False
        self._error: ValueError | None = None  # at which the sound ended

    @property
    def duration(self) -> float | None:
        """In seconds; before all is read, what the file says, and None if it does not say."""
        return self._sound.duration

    def through(self, change: Callable[[Iterator[Array]], Iterator[Array]]) -> None:
        """Hear only what a function makes of the samples, in blocks of any length, of which there
        must remain as many."""
        self._check(0)
        blocks, self._blocks = self._blocks, iter(())
        self._blocks = change(itertools.chain([self._kept], blocks))
        self._kept, self._ended = np.zeros(0, np.float32), False

    def samples(self) -> Iterator[Array]:
        """All samples, 16 kHz, in blocks (n,) float32, read once instead of in windows.

        Raises
        ------
        ValueError
            As the class says.
        """
        self._check(0)
        yield self._kept
        self._start += len(self._kept)
        self._kept = np.zeros(0, np.float32)
        for block in self._blocks:
            self._start += len(block)
            yield block
        if self._error is not None:
            raise self._error

    def _check(self, sample: int) -> None:
        """Raises ValueError if what is from a sample on is forgotten."""
        if sample < self._start:
            raise ValueError(
                f"{self._sound.name}: was read already, and is forgotten up to"
                f" {self._start / RATE:.2f} s; make a new Recording of it"
            )

    def frames_from(self, frame: int) -> int:
        """How many whole frames there are from one on, up to those of a window."""
        self._check(max(0, frame * HOP - MARGIN))
        self._read(frame * HOP + FRAMES * HOP + MARGIN)
        end = self._start + len(self._kept)
        count = min(FRAMES, max(0, end // HOP - frame))
        if not count and self._error is not None:
            raise self._error
        return count

    def skip(self, frame: int) -> None:
        """Reads on to a frame, and forgets what lies before it as it goes."""
        while not self._ended and self._start + len(self._kept) < frame * HOP - MARGIN:
            self._start += len(self._kept)
            self._kept = np.zeros(0, np.float32)
            self._read(self._start + 1)

    def is_silent(self, frame: int, count: int = FRAMES) -> bool:
        """Whether so many frames, from one on, move by no more than 16 bits round off."""
        heard = self._heard(frame, count)
        return not len(heard) or float(np.abs(heard).max()) <= SILENCE

    def window(self, frame: int, bands: int, count: int = FRAMES) -> Array:
        """The log-mel spectrum of so many frames, at most half a minute, from one on: (3000,
        bands), zeros past the end, as the models have learned it. What lies before it is
        forgotten."""
        heard = self._heard(frame, count)
        spectrum = np.zeros((FRAMES, bands), np.float32)
        count = min(count, self.frames_from(frame))
        if count:
            padded = np.zeros((count - 1) * HOP + WINDOW, np.float32)
            padded[: len(heard)] = heard[: len(padded)]
            spectrum[:count] = log_mel(padded, bands)
        return spectrum

    def _heard(self, frame: int, count: int) -> Array:
        """The samples that so many frames from one on reach, as far as there are any."""
        begin = frame * HOP - MARGIN
        end = frame * HOP + count * HOP + MARGIN - HOP
        self._check(max(0, begin))
        self._read(end)
        if begin < 0:  # the sound is mirrored at its beginning
            mirrored = np.zeros(MARGIN, np.float32)
            head = self._kept[1 : MARGIN + 1]
            mirrored[MARGIN - len(head) :] = head[::-1]
            return np.concatenate([mirrored, self._kept[:end]])
        forgotten = min(begin - self._start, len(self._kept))
        self._kept = self._kept[forgotten:].copy()
        self._start += forgotten
        return self._kept[: end - begin]

    def next_sound(self, frame: int) -> tuple[int, int]:
        """Where the next sound begins from a frame on, and how many frames there are up to a pause
        of a second, or those of a window; none at the end. What lies before it is forgotten."""
        while count := self.frames_from(frame):
            if not (self.is_silent(frame) or (silent := self._silent(frame, count)).all()):
                frame += int(np.argmin(silent))
                break
            frame += count
        silent = self._silent(frame, self.frames_from(frame))
        so_far = np.cumsum(silent)
        (pauses,) = np.nonzero(so_far[FRAME_RATE:] - so_far[:-FRAME_RATE] == FRAME_RATE)
        return frame, int(pauses[0]) + 1 if len(pauses) else len(silent)

    def _silent(self, frame: int, count: int) -> Array:
        """Which of so many frames from one on are silent, (count,)."""
        begin = frame * HOP - self._start
        loud = np.abs(self._kept[begin : begin + count * HOP]).reshape(count, HOP).max(axis=1)
        return loud <= SILENCE

    def _read(self, end: int) -> None:
        """Makes sure that samples up to `end` are kept, or all that there are."""
        blocks = [self._kept]
        have = self._start + len(self._kept)
        while not self._ended and have < end:
            try:
                block = next(self._blocks, None)
            except ValueError as error:  # what was read before is worth hearing
                block, self._error = None, error
            if block is None:
                self._ended = True
            else:
                blocks.append(block)
                have += len(block)
        if len(blocks) > 1:
            self._kept = np.concatenate(blocks)


def _resampled(sound: Sound) -> Iterator[Array]:
    """A sound's 16 kHz samples (n,); its duration, once all is read."""
    stream = None
    if sound.rate != RATE:
        soxr = require("soxr", "speech")
        stream = soxr.ResampleStream(sound.rate, RATE, 1, dtype="float32")

    def each() -> Iterator[Array]:
        at = 0
        for block in sound.blocks:
            fine = (np.abs(block) <= LOUDEST).all(axis=1)
            if not fine.all():
                row = int(np.argmin(fine))
                raise ValueError(
                    f"{sound.name}: sample {at + row} is not a finite number of at most 32 bits:"
                    f" {np.abs(block[row]).max()}"
                )
            at += len(block)
            mono = _mixed(block)
            yield mono if stream is None else stream.resample_chunk(mono)
        sound.duration = at / sound.rate
        if stream is not None:
            yield stream.resample_chunk(np.zeros(0, np.float32), last=True)

    return each()


def _mixed(block: Array) -> Array:
    """Channels (n, channels) to one, (n,), as Recording says."""
    total = block[:, 0].copy()
    for channel in range(1, block.shape[1]):
        total += block[:, channel]
    mono = total / np.float32(block.shape[1])
    if block.shape[1] > 1 and len(block):
        peaks = np.abs(block).max(axis=0)
        if np.abs(mono).max() < CANCELLED * peaks.max():
            return block[:, int(np.argmax(peaks >= peaks.max() / 2))]
    return mono
