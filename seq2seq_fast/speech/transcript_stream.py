"""One sound on its way to text, half a minute at a time."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from ..checks import shown
from ..contract.float_state import under_contract
from ..nn.decoder import State
from .audio import FRAME_RATE, RATE, Recording
from .languages import language_code
from .options import TranscriptionOptions, clips
from .timestamps import parts
from .transcript import Segment, Word
from .window_text import WindowText, probability, written
from .word_times import with_marks, word_times

if TYPE_CHECKING:
    from .transcriber import Transcriber

Array = np.ndarray[Any, Any]

RESET_TEMPERATURE = 0.5  # what was sampled at more than this is no prompt for what follows


class TranscriptStream(Iterator[Segment]):
    """The segments of a sound, each as soon as it is found. `Transcriber.stream` makes it."""

    def __init__(
        self,
        transcriber: Transcriber,
        recording: Recording,
        language: str | None,
        task: str,
        options: TranscriptionOptions,
        progress: Callable[[float], Any] | None,
    ) -> None:
        self._transcriber, self._vocabulary = transcriber, transcriber.vocabulary
        if task not in tuple(self._vocabulary.tasks):
            raise ValueError(f"task must be transcribe or translate; got {shown(task)}")
        if task == "translate" and not self._vocabulary.languages:
            raise ValueError("task must be transcribe: this model knows English alone")
        self._task, self._options, self._progress = task, options, progress
        self._clips = clips(options.clip_timestamps)
        self._language: tuple[str, float] | None = None
        if language is not None or not self._vocabulary.languages:
            known = "en" if language is None else language
            self._language = language_code(known, transcriber.languages), 1.0
        self._guess = transcriber.languages[0], 0.0  # until it is known
        self._guess_no_speech = math.inf
        self._recording = recording
        if options.vad_filter:
            from .vad import only_speech

            recording.through(only_speech)
        prompt = (options.initial_prompt or "").strip()
        self._prompt_tokens = self._vocabulary.encode(f" {prompt}") if prompt else []
        self._frame = 0
        self._ended = False
        self._segments = self._each()

    def __iter__(self) -> TranscriptStream:
        return self

    def __next__(self) -> Segment:
        return next(self._segments)

    @property
    def language(self) -> str | None:
        """Its code; None until there was speech, or the end."""
        return None if self._language is None else self._language[0]

    @property
    def language_probability(self) -> float | None:
        """1 if the language was given or the model knows no other, 0 if there was no speech; None
        until it is known."""
        return None if self._language is None else self._language[1]

    @property
    def duration(self) -> float | None:
        """Of the sound, in seconds, or at the end of what was read of it; None until known."""
        said = self._recording.duration
        return self._seconds(self._frame) if said is None and self._ended else said

    def _each(self) -> Iterator[Segment]:
        for begin, end in self._clips:
            self._recording.skip(begin)
            self._frame = begin
            while (num_frames := self._next(end)) > 0:
                yield from self._window(num_frames)
                if self._progress is not None:
                    self._progress(self._seconds(self._frame))
        if self._language is None:
            self._language = self._guess
        self._ended = True

    def _next(self, end: float) -> int:
        """How many frames the next window has, before `end`; the current frame moves on to where it
        begins."""
        if self._options.vad_filter:  # a window ends with speech, and the next begins with it
            self._frame, count = self._recording.next_sound(self._frame)
        else:
            count = self._recording.frames_from(self._frame)
        return int(min(count, end - self._frame))

    def _seconds(self, frame: float) -> float:
        seconds, said = frame / FRAME_RATE, self._recording.duration
        # Resampling may have rounded the number of samples up.
        return said if said is not None and said < seconds < said + 1 / RATE else seconds

    @under_contract
    def _window(self, num_frames: int) -> list[Segment]:
        """The segments of the window that begins at the current frame and has so many frames of
        sound; the current frame moves on."""
        start, transcriber, options = self._frame, self._transcriber, self._options
        vocabulary = self._vocabulary
        self._frame += num_frames
        if self._recording.is_silent(start, num_frames):  # the models write something even then
            return []
        spectrum = self._recording.window(start, transcriber.bands, num_frames)
        state = transcriber.model.start(transcriber.model.encode([spectrum]))
        language = self._decided(state)
        opening = self._opening(language)
        found = written(transcriber, options, state, opening, self._prompt_tokens)
        if options.is_silence(found.no_speech, found.score):
            return []
        every, done = parts(found.tokens, vocabulary.first_time, num_frames)
        self._frame = start + done
        said = []
        for part in every:
            text = vocabulary.decode(found.tokens[part.span])
            if any(c.isalnum() for c in text):
                said.append((part, text))
        words: list[list[Word]] = [[] for _ in said]
        if options.word_timestamps and said:
            # The text once more, without times: what the alignment heads look at.
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
        if not options.condition_on_previous_text or found.temperature > RESET_TEMPERATURE:
            self._prompt_tokens = []
        else:
            tokens = [token for segment in segments for token in segment.tokens]
            last = (self._prompt_tokens + tokens)[-transcriber.max_prompt_tokens :]
            self._prompt_tokens = last
        return segments

    def _decided(self, state: State) -> str:
        """The language of a window: the sound's own, once there was speech to know it by."""
        if self._language is not None:
            return self._language[0]
        found, no_speech = self._transcriber.language_probabilities(state)
        likeliest = next(iter(found.items()))
        if no_speech < self._guess_no_speech:
            self._guess, self._guess_no_speech = likeliest, no_speech
        if self._options.is_speech(no_speech):
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
        transcriber, vocabulary = self._transcriber, self._vocabulary
        text: list[tuple[int, float]] = []
        words: list[list[tuple[str, int]]] = []
        for span in spans:
            pairs = zip(found.tokens[span], found.token_scores[span], strict=True)
            some = [(token, score) for token, score in pairs if token < vocabulary.end]
            text += some
            words.append(with_marks(vocabulary.words([token for token, _ in some], language)))
        opening = [*self._opening(language), vocabulary.no_times]
        tokens = np.array([[*opening, *(token for token, _ in text), vocabulary.end]])
        tokens = tokens[:, : transcriber.positions]
        heads, model = transcriber.alignment_heads, transcriber.model
        layers = {layer for layer, _ in heads}
        _, _, cross_attention = model.decode(model.decoder.embedding(tokens, 0), state, layers)
        # A token is written by the step before it.
        weights = np.stack([cross_attention[layer][0, head, :-1] for layer, head in heads])
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
