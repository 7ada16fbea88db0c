"""Sound as people have it, to blocks of float samples: files, bytes, pipes and arrays.

libsndfile (soundfile) reads WAV, FLAC, OGG, MP3 and others. What it refuses, FFmpeg's libraries
(PyAV, the extra "media") read: MP4, M4A, WebM, AAC, the sound of videos. All is read block by
block, so that memory is bounded, and time linear in the file.
"""

from __future__ import annotations

import io
import itertools
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ..extras import require
from .audio_stream import Stream, true_lengths

__all__ = ["Audio", "Sound", "open_sound"]

Array = np.ndarray[Any, Any]
Audio = str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryIO | Array

BLOCK = 1 << 16  # moments that are read at a time, of up to eight channels
LOWEST_RATE, HIGHEST_RATE = 1000, 768_000  # samples a second
MAX_CHANNELS = 8  # of an array whose first axis is the channels
# libsndfile knows these by their names, too, whatever they begin with; but says on stderr what is
# wrong with a web page that is named .mp3, so that a head of a frame must be among its first bytes.
NAMED = {".mp3": rb"\xff[\xe2-\xff]", ".gsm": b"", ".vox": b""}
INTEGERS = {"i2": (0, 32768), "i4": (0, 1 << 31), "u1": (128, 128)}  # what is 0, and what is 1


@dataclass
class Sound:
    """What was opened, to be read once."""

    name: str
    """For messages."""
    rate: int
    blocks: Iterator[Array]
    """(n, channels) float32; raises ValueError where the file is damaged."""
    duration: float | None
    """In seconds; what the file says until all is read, None if it says nothing."""


def open_sound(audio: Audio, rate: int) -> Sound:
    """Open what Recording takes; `rate` is that of an array.

    Raises
    ------
    FileNotFoundError, OSError, ValueError, TypeError, ImportError
        As Recording does.
    """
    if isinstance(audio, np.ndarray):
        sound = _of_array(audio, rate)
    elif isinstance(audio, (str, os.PathLike)):
        name = os.fsdecode(audio)
        try:
            file: BinaryIO = open(name, "rb")  # noqa: SIM115
        except FileNotFoundError:
            raise FileNotFoundError(f"{name}: no such audio file") from None
        except ValueError as error:
            raise ValueError(f"{name!r}: not a path: {error}") from None
        sound = _of_file(Stream(file, name, ours=True), name)
    elif isinstance(audio, (bytes, bytearray, memoryview)):
        sound = _of_file(Stream(io.BytesIO(audio), "audio", ours=True))
    elif hasattr(audio, "read"):
        named = getattr(audio, "name", None)
        sound = _of_file(Stream(audio, named if isinstance(named, str) else "audio", ours=False))
    else:
        raise TypeError(
            "audio must be a path, the bytes of a file, a file opened in binary mode or a NumPy"
            f" array; got {type(audio).__name__}: numpy.asarray() makes arrays of lists and tensors"
        )
    if not LOWEST_RATE <= sound.rate <= HIGHEST_RATE:
        raise ValueError(
            f"{sound.name}: the rate is {sound.rate} samples a second;"
            f" expected {LOWEST_RATE} to {HIGHEST_RATE}"
        )
    return sound


def _of_array(audio: Array, rate: int) -> Sound:
    if isinstance(rate, bool) or not isinstance(rate, (int, np.integer)):
        raise ValueError(f"rate must be an integer; got {rate!r}")
    kind = audio.dtype.str[1:]
    if kind not in INTEGERS and audio.dtype.kind != "f":
        raise ValueError(f"audio must be of floats, int16, int32 or uint8; got {audio.dtype}")
    shape = audio.shape
    if audio.ndim == 1:
        audio = audio[:, None]
    elif audio.ndim == 2 and 0 < shape[0] < shape[1] and shape[0] <= MAX_CHANNELS:
        audio = audio.T
    if audio.ndim != 2 or not audio.shape[1] or 0 < len(audio) < audio.shape[1]:
        raise ValueError(
            "audio must have the shape (n,) or (n, channels), or (channels, n) with at most"
            f" {MAX_CHANNELS} channels; got {shape}"
        )
    step = _moments(audio.shape[1])
    blocks = (_floats(audio[i : i + step]) for i in range(0, len(audio), step))
    return Sound("audio", int(rate), blocks, len(audio) / rate if rate > 0 else None)


def _moments(channels: int) -> int:
    """How many to read at a time, so that memory stays bounded."""
    return max(1, BLOCK * 8 // max(8, channels))


def _floats(samples: Array) -> Array:
    """Any type of samples as float32, from -1 to 1."""
    with np.errstate(over="ignore"):  # too large for float32: infinite, which is refused later
        floats = samples.astype(np.float32)
    if samples.dtype.kind == "f":
        return floats
    zero, one = INTEGERS[samples.dtype.str[1:]]
    return (floats - np.float32(zero)) * np.float32(1 / one)


def _of_file(stream: Stream, path: str | None = None) -> Sound:
    unreadable = f"{stream.name}: not an audio file that can be read"
    if not stream.size:
        where = "after its position: seek(0) goes to its beginning" if stream.start else "in it"
        raise ValueError(f"{unreadable}: there is nothing {where}")
    if _is_media(stream.look(0, 12)):  # libsndfile may take its bytes for MP3, and say so on stderr
        return _by_av(_ffmpeg(), stream)
    soundfile = require("soundfile", "speech")
    stream.replaced = true_lengths(stream)
    try:
        return _by_soundfile(soundfile, stream, stream)
    except soundfile.SoundFileError as error:
        stream.check()
        reason = str(getattr(error, "error_string", error)).rstrip(".")
    sign = None if path is None else NAMED.get(Path(path).suffix.lower())
    if path is not None and sign is not None and re.search(sign, stream.look(0, BLOCK)):
        try:
            return _by_soundfile(soundfile, stream, os.fsencode(path))
        except soundfile.SoundFileError:
            pass
    try:
        av = _ffmpeg()
    except ImportError:
        raise ValueError(
            f'{unreadable}: {reason}. More formats: pip install "seq2seq_fast[media]"'
        ) from None
    stream.seek(0)
    stream.replaced = {}
    return _by_av(av, stream)


def _by_soundfile(soundfile: Any, stream: Stream, source: Any) -> Sound:
    file = soundfile.SoundFile(source)
    # soundfile goes to where it is after each block if it can: libmpg123 then loses what a frame
    # has from the one before, and libFLAC fails where the file does not say where it ends.
    file.seekable = lambda: False
    moments = _moments(file.channels)

    def blocks() -> Iterator[Array]:
        with file:
            while True:
                try:
                    block = file.read(moments, dtype="float32", always_2d=True)
                except soundfile.SoundFileError as error:
                    stream.check()
                    raise ValueError(f"{stream.name}: damaged: {error}") from None
                stream.check()
                if not len(block):
                    return
                yield block

    known = file.frames < 1 << 60
    return Sound(
        stream.name, file.samplerate, blocks(), file.frames / file.samplerate if known else None
    )


def _is_media(head: bytes) -> bool:
    """Whether a file begins as those do that FFmpeg alone reads."""
    return (
        head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip")  # MP4, M4A, MOV
        or head.startswith((b"\x1aE\xdf\xa3", b"0&\xb2u", b"FLV", b"#!AMR"))  # Matroska, WebM; ASF
        or (head[:4], head[8:]) == (b"RIFF", b"AVI ")
        or (head[:1] == b"\xff" and head[1:2] in (b"\xf0", b"\xf1", b"\xf8", b"\xf9"))  # AAC
    )


def _ffmpeg() -> Any:
    """PyAV; versions before 17.1 crash at the options that _by_av() needs."""
    av = require("av", "media")
    if tuple(map(int, av.__version__.split(".")[:2])) < (17, 1):
        raise ImportError(
            f'av {av.__version__} is too old: pip install "seq2seq_fast[media]" brings another'
        )
    return av


def _by_av(av: Any, stream: Stream) -> Sound:
    unreadable = f"{stream.name}: not an audio file that can be read"
    try:
        # A playlist could name other files, which are none of its business.
        container = av.open(
            stream, metadata_errors="ignore", options={"protocol_whitelist": "none"}
        )
        track = container.streams.best("audio")
    except (av.FFmpegError, ValueError, OSError) as error:
        stream.check()
        raise ValueError(f"{unreadable}: {getattr(error, 'strerror', error)}") from None
    if getattr(track, "codec_context", None) is None:
        raise ValueError(f"{unreadable}: it has no track of sound that can be decoded")
    frames = _frames(av, container, track, stream)
    first = next(frames, None)
    if first is None:
        raise ValueError(f"{unreadable}: there is no sound in it")
    rate = first.sample_rate

    def blocks() -> Iterator[Array]:
        held: list[Array] = []  # frames are of a few milliseconds
        kind: tuple[str, str] | None = None
        error: ValueError | None = None
        convert: Any = None
        try:
            for frame in itertools.chain([first], frames):
                if frame.sample_rate != rate:
                    raise ValueError(f"{stream.name}: its rate changes to {frame.sample_rate}")
                if kind != (kind := (frame.format.name, frame.layout.name)):
                    # frame.to_ndarray() of planar samples crashes at eight channels or more.
                    convert = av.AudioResampler("flt")
                channels = len(frame.layout.channels)
                for one in convert.resample(frame):
                    samples = one.to_ndarray().reshape(-1, channels)
                    full = sum(map(len, held)) + len(samples) > _moments(channels)
                    if held and (full or held[0].shape[1] != channels):
                        yield np.concatenate(held)
                        held.clear()
                    held.append(samples)
        except av.FFmpegError as damage:  # what comes before is worth hearing
            error = ValueError(f"{stream.name}: damaged: {damage.strerror}")
        except ValueError as damage:
            error = damage
        if held:
            yield np.concatenate(held)
        if error is not None:
            raise error

    duration = None
    if track.duration:
        duration = float(track.duration * track.time_base)
    elif container.duration:
        duration = container.duration / av.time_base
    return Sound(stream.name, rate, blocks(), duration)


def _frames(av: Any, container: Any, track: Any, stream: Stream) -> Iterator[Any]:
    """What is decoded of a track. Packets that cannot be are the ends of a sound that was cut; but
    damage where there is sound before and after."""
    begun, bad = False, None
    with container:
        packets = container.demux(track)
        while True:
            try:
                packet = next(packets, None)
            except av.FFmpegError as error:
                raise ValueError(f"{stream.name}: damaged: {error.strerror}") from None
            finally:
                stream.check()
            if packet is None:
                return
            try:
                frames = packet.decode()
            except av.FFmpegError as error:
                bad = error
                continue
            if packet.size and frames and begun and bad is not None:
                raise ValueError(f"{stream.name}: damaged: {bad.strerror}")
            begun = begun or bool(frames)
            yield from frames
