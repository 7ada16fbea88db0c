"""How to transcribe: the options of a call, which are those of OpenAI's Whisper, checked where they
are given."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ..checks import flag, integer, number, sequence, shown
from ..decoding.options import MAX_BEAMS, MAX_FACTOR, MAX_SAMPLES, MIN_FACTOR, Options
from ..option_names import known
from .audio import FRAME_RATE

__all__ = ["TranscriptionOptions"]

Clips = str | Sequence[float] | None


@dataclass(frozen=True)
class TranscriptionOptions:
    """How to transcribe. The model writes half a minute at a time; where the result is doubtful, it
    tries again by sampling: Radford et al., "Robust Speech Recognition via Large-Scale Weak
    Supervision", 2022, section 4.5.

    Parameters
    ----------
    beam_size : int
        Of the beam search at temperature 0, 1 for the likeliest token at each step; at most 256.
    best_of : int
        Samples at other temperatures, of which the likeliest is taken; at most 4096.
    patience, length_penalty : float
        Of the beam search: see `seq2seq_fast.decoding.options.Options`.
    temperature : float or sequence of float
        What is tried in turn while a result is doubtful; 0 is the beam search, others are samples.
    compression_ratio_threshold : float, optional
        A text that zlib makes more times smaller than this repeats itself, and is doubtful; None
        for any.
    log_prob_threshold : float, optional
        A result of a lower mean log-probability of tokens is doubtful; None for any.
    no_speech_threshold : float, optional
        A result below `log_prob_threshold` is silence where the probability of no speech is more
        than this; None for never.
    condition_on_previous_text : bool
        Give the model the text so far. It keeps names and style, but may also keep repeating.
    initial_prompt : str, optional
        Text to give the model before it begins: names, say.
    word_timestamps : bool
        Also find when each word was said. Segments then begin and end with their words.
    clip_timestamps : sequence of float or str, optional
        Seconds start, end, start, end ... of the parts that are transcribed, the last up to the end
        if its end is left out; or as a string, such as "0,5.5,10". All if left out.
    vad_filter : bool
        Take for silence what a detector finds no speech in. Needs the extra "vad".
    seed : int
        Of the samples.

    Raises
    ------
    TypeError, ValueError
        An option is of a wrong type, or makes no sense; the message names it.

    Examples
    --------
    >>> TranscriptionOptions(temperature=0.4).temperatures
    (0.4,)
    >>> TranscriptionOptions(best_of=0)
    Traceback (most recent call last):
    ValueError: best_of must be from 1 to 4096; got 0
    """

    beam_size: int = 5
    best_of: int = 5
    patience: float = 1.0
    length_penalty: float = 1.0
    temperature: float | Sequence[float] = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
    compression_ratio_threshold: float | None = 2.4
    log_prob_threshold: float | None = -1.0
    no_speech_threshold: float | None = 0.6
    condition_on_previous_text: bool = True
    initial_prompt: str | None = None
    word_timestamps: bool = False
    clip_timestamps: Clips = None
    vad_filter: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        self._keep("beam_size", integer("beam_size", self.beam_size, 1, MAX_BEAMS))
        self._keep("best_of", integer("best_of", self.best_of, 1, MAX_SAMPLES))
        assert self.temperatures
        for name, minimum in (
            ("compression_ratio_threshold", 0.0),
            ("log_prob_threshold", -math.inf),
            ("no_speech_threshold", 0.0),
        ):
            given = getattr(self, name)
            if given is not None:
                self._keep(name, number(name, given, minimum, math.inf))
        for name in ("condition_on_previous_text", "word_timestamps", "vad_filter"):
            self._keep(name, flag(name, getattr(self, name)))
        if not isinstance(self.initial_prompt, str | None):
            raise TypeError(f"initial_prompt must be a str; got {shown(self.initial_prompt)}")
        clips(self.clip_timestamps)
        for temperature in (0.0, 1.0):
            Options(**self.search(temperature))

    def _keep(self, name: str, checked: Any) -> None:
        object.__setattr__(self, name, checked)

    @classmethod
    def of(
        cls, given: dict[str, Any], where: str, function: Callable[..., Any]
    ) -> TranscriptionOptions:
        """Those that `function` was given by their names, beside its own.

        Raises
        ------
        TypeError, ValueError
            One of them does not exist, or as for the class.
        """
        known(cls, given, where, also=function)
        return cls(**given)

    @property
    def temperatures(self) -> tuple[float, ...]:
        """What is tried in turn."""
        given: Any = self.temperature
        is_one = not hasattr(given, "__len__")
        every = [given] if is_one else sequence("temperature", given, "numbers")
        if not len(every):
            raise ValueError("temperature must be at least one number; got none")
        found = []
        for i, one in enumerate(every):
            name = "temperature" if is_one else f"temperature[{i}]"
            minimum = 0.0 if number(name, one, 0, MAX_FACTOR) == 0 else MIN_FACTOR
            found.append(number(name, one, minimum, MAX_FACTOR))
        return tuple(found)

    def is_repetitive(self, compression_ratio: float) -> bool:
        """Whether a text of this ratio repeats itself."""
        threshold = self.compression_ratio_threshold
        return threshold is not None and compression_ratio > threshold

    def is_unlikely(self, score: float) -> bool:
        """Whether a text of this mean log-probability is doubtful."""
        return self.log_prob_threshold is not None and score < self.log_prob_threshold

    def is_silence(self, no_speech: float, score: float) -> bool:
        """Whether a text of this mean log-probability, where the probability of no speech is that,
        is none."""
        return (self.log_prob_threshold is None or self.is_unlikely(score)) and not self.is_speech(
            no_speech
        )

    def is_speech(self, no_speech: float) -> bool:
        """Whether the probability of no speech is not above the threshold."""
        return self.no_speech_threshold is None or no_speech <= self.no_speech_threshold

    def search(self, temperature: float) -> dict[str, Any]:
        """Options of generate(): a beam search at temperature 0, samples at others."""
        if temperature == 0:
            return {
                "num_beams": self.beam_size,
                "patience": self.patience,
                "length_penalty": self.length_penalty,
            }
        return {
            "do_sample": True,
            "num_return_sequences": self.best_of,
            "seed": self.seed,
            "temperature": temperature,
        }


def clips(given: Any) -> list[tuple[int, float]]:
    """The parts of a sound that are transcribed, as frames: first, one past the last.

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
