"""One sound on its way to text, half a minute at a time."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..contract.float_state import under_contract
from ..nn.decoder import State
from .audio import FRAME_RATE, RATE, Recording
from .languages import language_code
from .timestamps import parts
from .transcript import Segment, Word
from .window_text import WindowText, probability, written
from .word_times import with_marks, word_times

if TYPE_CHECKING:
    from .transcriber import Transcriber

Array = np.ndarray[Any, Any]
Clips = str | Sequence[float] | None

RESET_TEMPERATURE = 0.5  # what was drawn at more than this, the model is not told


class TranscriptStream(Iterator[Segment]):
    """The segments of a sound, each as soon as it is found. `Transcriber.stream` makes it."""

    def __init__(
        self,
        transcriber: Transcriber,
        recording: Recording,
        language: str | None,
        *,
        task: str,
        prompt: str | None,
        words: bool,
        clip_timestamps: Clips,
        vad_filter: bool,
        progress: Callable[[float], Any] | None,
    ) -> None:
        self._by, self._vocabulary = transcriber, transcriber.vocabulary
        if task not in tuple(self._vocabulary.tasks):
            raise ValueError(f"task must be transcribe or translate; got {task!r:.60}")
        if task == "translate" and not self._vocabulary.languages:
            raise ValueError("task must be transcribe: this model knows English alone")
        if not isinstance(prompt, str | None):
            raise TypeError(f"prompt must be a str; got {prompt!r:.60}")
        self._task, self._words, self._progress = task, words, progress
        self._clips = clips(clip_timestamps)
        self._language: tuple[str, float] | None = None
        if language is not None or not self._vocabulary.languages:
            known = "en" if language is None else language
            self._language = language_code(known, transcriber.languages), 1.0
        self._guess = transcriber.languages[0], 0.0  # until it is known
        self._guess_no_speech = math.inf
        self._recording, self._vad_filter = recording, vad_filter
        if vad_filter:
            from .vad import only_speech

            recording.through(only_speech)
        prompt = (prompt or "").strip()
        self._told = self._vocabulary.encode(f" {prompt}") if prompt else []
        self._frame = 0
        self._ended = False
        self._segments = self._each()

    def __iter__(self) -> TranscriptStream:
        return self

    def __next__(self) -> Segment:
        return next(self._segments)

    @property
    def language(self) -> str | None:
        """Its code; None until speech was heard, or the end."""
        return None if self._language is None else self._language[0]

    @property
    def language_probability(self) -> float | None:
        """1 if the language was given or the model knows no other, 0 if nothing was heard; None
        until it is known."""
        return None if self._language is None else self._language[1]

    @property
    def duration(self) -> float | None:
        """Of the sound, in seconds, or at the end of what was heard of it; None until known."""
        said = self._recording.duration
        return self._seconds(self._frame) if said is None and self._ended else said

    def _each(self) -> Iterator[Segment]:
        for begin, end in self._clips:
            self._recording.skip(begin)
            self._frame = begin
            while (heard := self._next(end)) > 0:
                yield from self._window(heard)
                if self._progress is not None:
                    self._progress(self._seconds(self._frame))
        if self._language is None:
            self._language = self._guess
        self._ended = True

    def _next(self, end: float) -> int:
        """How many frames the next window has, before `end`; the current frame moves on to where it
        begins."""
        if self._vad_filter:  # a window ends with the speech, and the next begins with speech
            self._frame, count = self._recording.next_sound(self._frame)
        else:
            count = self._recording.frames_from(self._frame)
        return int(min(count, end - self._frame))

    def _seconds(self, frame: float) -> float:
        seconds, said = frame / FRAME_RATE, self._recording.duration
        # Resampling may have rounded the number of samples up.
        return said if said is not None and said < seconds < said + 1 / RATE else seconds

    @under_contract
    def _window(self, heard: int) -> list[Segment]:
        """The segments of the window that begins at the current frame and has so many frames of
        sound; the current frame moves on."""
        start, by, vocabulary = self._frame, self._by, self._vocabulary
        self._frame += heard
        if self._recording.is_silent(start, heard):  # the models write something even then
            return []
        spectrum = self._recording.window(start, by.bands, heard)
        state = by.model.start(by.model.encode([spectrum]))
        language = self._decided(state)
        opening = self._opening(language)
        found = written(by, state, opening, self._told)
        if found.no_speech > by.silence and found.score < by.least_score:
            return []
        every, done = parts(found.tokens, vocabulary.first_time, heard)
        self._frame = start + done
        said = []
        for part in every:
            text = vocabulary.decode(found.tokens[part.span])
            if any(c.isalnum() for c in text):
                said.append((part, text))
        words: list[list[Word]] = [[] for _ in said]
        if self._words and said:
            # The text once more, without times: what the listening heads look at.
            spans = [part.span for part, _ in said]
            words = self._timed(state, found, spans, spectrum, start, done, language)
        segments = [
            Segment(
                own[0].start if own else self._seconds(start + part.start),
                own[-1].end if own else self._seconds(start + part.end),
                text,
                own,
                found.tokens[part.span],
                found.score,
                found.no_speech,
                found.temperature,
            )
            for (part, text), own in zip(said, words, strict=True)
        ]
        if not by.carry_text or found.temperature > RESET_TEMPERATURE:
            self._told = []
        else:
            tokens = [token for segment in segments for token in segment.tokens]
            self._told = (self._told + tokens)[-by.most_told :]
        return segments

    def _decided(self, state: State) -> str:
        """The language of a window: the sound's own, once there was speech to know it by."""
        if self._language is not None:
            return self._language[0]
        found, no_speech = self._by.languages_heard(state)
        likeliest = next(iter(found.items()))
        if no_speech < self._guess_no_speech:
            self._guess, self._guess_no_speech = likeliest, no_speech
        if no_speech <= self._by.silence:
            self._language = likeliest
        return likeliest[0]

    def _opening(self, language: str) -> list[int]:
        """The tokens that a transcript begins with."""
        vocabulary = self._vocabulary
        if not vocabulary.languages:
            return [vocabulary.start]
        return [vocabulary.start, vocabulary.languages[language], vocabulary.tasks[self._task]]

    def _timed(
        self,
        state: State,
        found: WindowText,
        spans: list[slice],
        spectrum: Array,
        start: int,
        frames: int,
        language: str,
    ) -> list[list[Word]]:
        """The words of each part of a window's text."""
        by, vocabulary = self._by, self._vocabulary
        text: list[tuple[int, float]] = []
        words: list[list[tuple[str, int]]] = []
        for span in spans:
            pairs = zip(found.tokens[span], found.token_scores[span], strict=True)
            some = [(token, score) for token, score in pairs if token < vocabulary.end]
            text += some
            words.append(with_marks(vocabulary.words([token for token, _ in some], language)))
        opening = [*self._opening(language), vocabulary.no_times]
        tokens = np.array([[*opening, *(token for token, _ in text), vocabulary.end]])
        tokens = tokens[:, : by.positions]
        layers = {layer for layer, _ in by.listening}
        _, _, paid = by.model.decode(by.model.decoder.embedding(tokens, 0), state, layers)
        # A token is written by the step before it.
        weights = np.stack([paid[layer][0, head, :-1] for layer, head in by.listening])
        counts = [count for some in words for _, count in some]
        times = iter(word_times(weights, len(opening) - 1, counts, spectrum, frames))
        scores = (score for _, score in text)
        return [
            [
                Word(
                    word,
                    self._seconds(start + begin),
                    self._seconds(start + end),
                    probability(sum(next(scores) for _ in range(count)) / count),
                )
                for (word, count), (begin, end) in zip(some, times, strict=False)
            ]
            for some in words
        ]


def clips(given: Any) -> list[tuple[int, float]]:
    """The parts of a sound that are to be heard, as frames: first, one past the last.

    Parameters
    ----------
    given : str or sequence of float, optional
        Seconds: start, end, start, end ...; the last part may lack its end. A string has commas.

    Raises
    ------
    ValueError
        They are no such seconds.

    Examples
    --------
    >>> clips("0,5.5,10")
    [(0, 550), (1000, inf)]
    """
    if isinstance(given, str):
        given = given.split(",") if given.strip() else []
    try:
        seconds = [] if given is None else [float(one) for one in given]
    except (TypeError, ValueError):
        seconds = [math.nan]
    in_order = all(a <= b for a, b in zip([0.0, *seconds], seconds, strict=False))
    if not in_order or not all(map(math.isfinite, seconds)):
        raise ValueError(
            f"clip_timestamps must be seconds that do not fall, start,end,start,end...;"
            f" got {given!r:.60}"
        )
    frames: list[float] = [round(one * FRAME_RATE) for one in seconds] or [0]
    if len(frames) % 2:
        frames.append(math.inf)
    return [(int(begin), end) for begin, end in zip(frames[::2], frames[1::2], strict=True)]
