"""Tokens of time: how a model of speech may write them, and what they say."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ..nn.logits import topk_log_softmax
from .audio import FRAME_RATE
from .vocabulary import SpeechVocabulary

Array = np.ndarray[Any, Any]

TICKS = 50  # tokens of time of a second
FRAMES_OF_TICK = FRAME_RATE // TICKS
LATEST_START = 50  # ticks: the first words of a window begin within a second


class TimestampRules:
    """How text and times must follow each other: times in pairs around each part, never falling,
    the first within the first second; and a time wherever that is likelier than any text.

    Parameters
    ----------
    vocabulary : SpeechVocabulary
    never_first : list of int
        Tokens that a text does not begin with.
    """

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
        _, _, statistics = topk_log_softmax(logits[:, first:], 1)
        total = statistics[:, 0] + statistics[:, 1]  # log of the sum over times
        likelier = total > logits[:, :first].max(axis=1)
        logits[likelier, :first] = -np.inf


class Part(NamedTuple):
    """A segment as the model wrote it."""

    start: int  # frames from the window's start
    end: int
    span: slice  # of the window's tokens


def parts(tokens: list[int], first_time: int, heard: int) -> tuple[list[Part], int]:
    """What was written of a window, and how many of its frames are done with.

    Parameters
    ----------
    tokens : list of int
        Text between tokens of time.
    first_time : int
        The token of time 0.
    heard : int
        Frames of sound in the window, at least 1. Models write times up to half a minute whatever
        they heard.

    Returns
    -------
    parts : list of Part
        In order, all within the frames of sound; those that have no time there are left out.
    done : int
        From 1 to `heard`.
    """

    def frame(token: int) -> int:
        return min((token - first_time) * FRAMES_OF_TICK, heard)

    is_time = [token >= first_time for token in tokens]
    ends = [i for i in range(1, len(tokens)) if is_time[i - 1] and is_time[i]]
    closed = is_time[-2:] == [False, True]  # nothing is said after the last time
    if not ends:
        times = [token for token, is_one in zip(tokens, is_time, strict=True) if is_one]
        end = frame(times[-1]) if times and times[-1] > first_time else heard
        return [Part(0, end, slice(0, len(tokens)))], heard
    found: list[Part] = []
    begin = at = 0
    for end in [*ends, *([len(tokens)] if closed else [])]:
        start = max(at, frame(tokens[begin]))
        at = max(start, frame(tokens[end - 1]))
        if not found and start == heard:  # all of it is said to be past the end
            start = 0
        if start < at:
            found.append(Part(start, at, slice(begin, end)))
        begin = end
    return found, heard if closed else at or heard
