"""What was said, and when: the results of transcription."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["Segment", "Transcription", "Word"]


@dataclass(frozen=True)
class Word:
    """A word, with its mark of punctuation and the space before it. Words follow each other;
    between them there may be pauses.

    Attributes
    ----------
    text : str
    start, end : float
        Seconds.
    probability : float
        The geometric mean of its tokens' probabilities.

    Examples
    --------
    >>> Word(" Had", 0.0, 0.5, 0.9).text
    ' Had'
    """

    text: str
    start: float
    end: float
    probability: float


@dataclass(frozen=True)
class Segment:
    """A phrase or sentence. Segments follow each other, within the sound.

    Attributes
    ----------
    start, end : float
        Seconds.
    text : str
        With the space before it.
    words : list of Word
        Those that the segment's own times are from, with `word_timestamps`; else empty.
    tokens : list of int
        Those of times included.
    score : float
        Mean log-probability of the tokens of the half minute that this is of.
    no_speech : float
        Probability that there is no speech in that half minute.
    temperature : float
        At which it was sampled; 0 for the beam search.

    Examples
    --------
    >>> Segment(0.0, 6.0, " Had he married.", [], [50363], -0.2, 0.01, 0.0)
    Segment(start=0.0, end=6.0, text=' Had he married.', words=[])
    """

    start: float
    end: float
    text: str
    words: list[Word]
    tokens: list[int] = field(repr=False)
    score: float = field(repr=False)
    no_speech: float = field(repr=False)
    temperature: float = field(repr=False)


@dataclass(frozen=True)
class Transcription:
    """What was said.

    Attributes
    ----------
    text : str
        All of it, without space at either end.
    segments : list of Segment
    language : str
        Its code.
    duration : float
        Of the sound, in seconds.
    language_probability : float
        1 if the language was given or the model knows no other; 0 if there was no speech to detect
        it by.

    Examples
    --------
    >>> from seq2seq_fast import Transcriber
    >>> from seq2seq_fast.demo import find_speech_model
    >>> found = Transcriber(find_speech_model()).transcribe("talk.wav", beam_size=1)
    >>> found.text[:35], found.language, found.language_probability, found.duration
    ('Had he married a more amiable woman', 'en', 1.0, 6.05)
    >>> [(segment.start, segment.end) for segment in found.segments]
    [(0.0, 6.0)]
    """

    text: str
    segments: list[Segment] = field(repr=False)
    language: str
    duration: float
    language_probability: float
