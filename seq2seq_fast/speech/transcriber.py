"""Transcriber: speech in, text with times out, by the models of Whisper.

The model reads half a minute at a time and writes text between tokens of times. What it wrote says
where the next half minute is to begin, and is the prompt of what it writes there: Radford et al.,
"Robust Speech Recognition via Large-Scale Weak Supervision", 2022, sections 2 and 4.5.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ..checks import number
from ..models.loading import load
from ..nn.decoder import State
from ..nn.logits import topk_log_softmax
from ..nn.sources import SpectrumEmbedding
from ..option_names import names_checked
from .audio import FRAMES, RATE, Recording
from .audio_input import Audio
from .config import SpeechConfig
from .options import TranscriptionOptions
from .transcript import Transcription
from .transcript_stream import TranscriptStream
from .vocabulary import SpeechVocabulary
from .window_text import probability, probability_of

__all__ = ["Transcriber"]

Array = np.ndarray[Any, Any]
Sound = Audio | Recording
POSITIONS = 448  # of Whisper's decoder


class Transcriber:
    """Writes down speech with a published model of Whisper.

    A transcript depends on its own sound alone: not on the backend, the instruction set or the
    number of threads. A transcriber pickles as the files that it was made of.

    Parameters
    ----------
    path : path
        A folder with a model that load() reads, its ``config.json``, and its ``tokenizer.json`` or
        ``vocab.json`` and ``merges.txt``.
    weights : {"float32", "float16", "int8"}, optional
        What the matrices are kept as; as they are in the file if left out.

    Raises
    ------
    FileNotFoundError, ValueError
        As load() does; also if the tokenizer is missing or is not the model's, or if the model is
        not of speech.
    ImportError
        The extra "speech" is not installed.

    Examples
    --------
    >>> from seq2seq_fast.demo import find_speech_model
    >>> transcriber = Transcriber(find_speech_model())
    >>> transcriber.transcribe("talk.wav", beam_size=1).text[:35]
    'Had he married a more amiable woman'
    """

    @names_checked
    def __init__(self, path: str | os.PathLike[str], *, weights: str | None = None) -> None:
        folder = Path(path)
        self.model = load(folder, weights=weights)
        folder = folder if folder.is_dir() else folder.parent
        encoder_embedding = self.model.encoder.embedding
        if not isinstance(encoder_embedding, SpectrumEmbedding):
            raise ValueError(f"{path}: a model of text; expected one of speech")
        self.bands = encoder_embedding.bands
        self.vocabulary = SpeechVocabulary(folder, self.model.vocabulary_size)
        if self.model.eos != self.vocabulary.end:
            raise ValueError(
                f"{folder}: its tokenizer is not the model's: end {self.vocabulary.end},"
                f" expected {self.model.eos}"
            )
        config = SpeechConfig.read(folder, self.model, self.vocabulary)
        self.suppress_tokens, self.begin_suppress_tokens, self.alignment_heads = config
        positions = self.model.decoder.embedding.positions
        self.positions = positions.most if positions is not None else POSITIONS
        if self.positions < 16:
            raise ValueError(f"{path}: has {self.positions} positions, too few for a transcript")
        # Half of them are for what is written of a window, half for the prompt.
        self.max_new_tokens = self.positions // 2
        self.max_prompt_tokens = self.max_new_tokens - 1

    @property
    def languages(self) -> list[str]:
        """Codes of the languages that the model knows."""
        return list(self.vocabulary.languages) or ["en"]

    def transcribe(
        self,
        audio: Sound,
        language: str | None = None,
        *,
        task: str = "transcribe",
        rate: int = RATE,
        progress: Callable[[float], Any] | None = None,
        **options: Any,
    ) -> Transcription:
        """Write down what is said.

        Parameters
        ----------
        audio : path, bytes, binary file, ndarray or Recording
            As Recording takes it. A Recording is read once.
        language : str, optional
            Its code or English name, such as "de" or "German"; if left out, what the model detects
            in the first half minute with speech.
        task : {"transcribe", "translate"}
            "translate" writes English, whatever the language.
        rate : int
            Samples a second of an array.
        progress : callable, optional
            Called with the seconds of sound that are done, whenever they are more.
        **options
            How to transcribe: the fields of `seq2seq_fast.speech.options.TranscriptionOptions`,
            which are beam_size, best_of, patience, length_penalty, temperature,
            compression_ratio_threshold, log_prob_threshold, no_speech_threshold,
            condition_on_previous_text, initial_prompt, word_timestamps, clip_timestamps,
            vad_filter and seed.

        Returns
        -------
        Transcription
            .text, .segments, .language, .language_probability and .duration, in seconds.

        Raises
        ------
        FileNotFoundError, ValueError
            There is no such file, it is no sound, samples are not finite; a language or task that
            the model does not know; an option that makes no sense. The message names it.
        TypeError
            An option does not exist, or is of a wrong type.

        References
        ----------
        Radford et al., "Robust Speech Recognition via Large-Scale Weak Supervision", 2022.

        Examples
        --------
        >>> from seq2seq_fast.demo import find_speech_model
        >>> transcriber = Transcriber(find_speech_model())
        >>> found = transcriber.transcribe("talk.wav", word_timestamps=True, temperature=0)
        >>> [(word.text, word.start) for word in found.segments[0].words[:3]], found.duration
        ([(' Had', 0.0), (' he', 0.5), (' married', 0.74)], 6.05)
        """
        chosen = TranscriptionOptions.of(options, "Transcriber.transcribe", Transcriber.transcribe)
        stream = self._stream(audio, language, task, rate, progress, chosen)
        segments = list(stream)
        text = "".join(segment.text for segment in segments).strip()
        language, probability_of_it = stream.language, stream.language_probability
        duration = stream.duration
        assert language is not None and probability_of_it is not None and duration is not None
        return Transcription(text, segments, language, duration, probability_of_it)

    def stream(
        self,
        audio: Sound,
        language: str | None = None,
        *,
        task: str = "transcribe",
        rate: int = RATE,
        progress: Callable[[float], Any] | None = None,
        **options: Any,
    ) -> TranscriptStream:
        """What transcribe() gives, each segment as soon as it is found.

        Parameters
        ----------
        audio : path, bytes, binary file, ndarray or Recording
        language : str, optional
        task, rate, progress, **options
            All as for transcribe().

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
        >>> from seq2seq_fast.demo import find_speech_model
        >>> transcriber = Transcriber(find_speech_model())
        >>> stream = transcriber.stream("talk.wav", "English", beam_size=1)
        >>> [segment.text[:15] for segment in stream], stream.language, stream.duration
        ([' Had he married'], 'en', 6.05)
        """
        chosen = TranscriptionOptions.of(options, "Transcriber.stream", Transcriber.stream)
        return self._stream(audio, language, task, rate, progress, chosen)

    def _stream(
        self,
        audio: Sound,
        language: str | None,
        task: str,
        rate: int,
        progress: Callable[[float], Any] | None,
        options: TranscriptionOptions,
    ) -> TranscriptStream:
        return TranscriptStream(self, _recording(audio, rate), language, task, options, progress)

    @names_checked
    def detect_language(
        self, audio: Sound, *, rate: int = RATE, no_speech_threshold: float = 0.6
    ) -> dict[str, float]:
        """Which language is spoken, by the first half minute with speech.

        Parameters
        ----------
        audio : path, bytes, binary file, ndarray or Recording
        rate : int
            Samples a second of an array.
        no_speech_threshold : float
            A half minute has speech if the probability of no speech is at most this.

        Returns
        -------
        dict
            The probability of each language by its code, the likeliest first. If there is no
            speech, of the half minute that is likest to it.

        Raises
        ------
        FileNotFoundError, ValueError, TypeError
            As transcribe() does.

        Examples
        --------
        >>> from seq2seq_fast.demo import find_speech_model
        >>> Transcriber(find_speech_model()).detect_language("talk.wav")  # it knows English alone
        {'en': 1.0}
        """
        threshold = number("no_speech_threshold", no_speech_threshold, 0, float("inf"))
        if not self.vocabulary.languages:
            return {"en": 1.0}
        recording = _recording(audio, rate)
        likest: dict[str, float] = {}
        frame, lowest = 0, 2.0
        while (num_frames := recording.frames_from(frame)) and lowest > threshold:
            if not recording.is_silent(frame):
                found, no_speech = self._detected(recording.window(frame, self.bands))
                if no_speech < lowest:
                    likest, lowest = found, no_speech
            frame += num_frames
        return likest or self._detected(np.zeros((FRAMES, self.bands), np.float32))[0]

    def _detected(self, spectrum: Array) -> tuple[dict[str, float], float]:
        return self.language_probabilities(self.model.start(self.model.encode([spectrum])))

    def language_probabilities(self, state: State) -> tuple[dict[str, float], float]:
        """The probability of each language in a window, and of no speech.

        Parameters
        ----------
        state : State
            Of the model, with one row, that has read nothing yet.

        Returns
        -------
        languages : dict
            By their codes, the likeliest first.
        no_speech : float
        """
        logits, _, _ = self.model.step([self.vocabulary.start], state, attention=None)
        codes = list(self.vocabulary.languages)
        among = logits[:, list(self.vocabulary.languages.values())]
        order, scores, _ = topk_log_softmax(among, len(codes))
        languages = {
            codes[i]: probability(score)
            for i, score in zip(order[0].tolist(), scores[0].tolist(), strict=True)
        }
        return languages, probability_of(logits, self.vocabulary.no_speech)


def _recording(audio: Sound, rate: int) -> Recording:
    return audio if isinstance(audio, Recording) else Recording(audio, rate)
