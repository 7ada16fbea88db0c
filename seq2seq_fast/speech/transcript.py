"""What was said, and when: the results of transcription."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Word:
    """A word, with its mark of punctuation and the space before it. Words follow each other;
    between them there may be pauses."""

    text: str
    start: float  # seconds
    end: float
    probability: float


@dataclass(frozen=True)
class Segment:
    """A phrase or sentence. Segments follow each other, within the sound."""

    start: float  # seconds
    end: float
    text: str
    words: list[Word]
    """Empty unless asked for; otherwise they are what the segment's own times are from."""
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
    language_probability: float
    """1 if the language was given or the model knows no other; 0 if nothing was heard."""
