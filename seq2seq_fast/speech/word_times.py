"""The words of a window of sound, and when each was said."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, groupby, pairwise
from typing import Any

import numpy as np

from ..contract.float_state import under_contract
from ..contract.sums import row_sum
from .alignment import runs, spoken, token_times
from .timestamps import FRAMES_OF_TICK, TICKS

Array = np.ndarray[Any, Any]

OPENING, CLOSING = "\"'“¿([{-", "\"'.。,，!！?？:：”)]}、"  # marks that go with the next, last word
LONGEST_WORD = 2 * TICKS


def with_marks(words: list[tuple[str, int]]) -> list[tuple[str, int]]:
    """Words, each with its number of tokens: marks that open something joined to the next one,
    others to the one before."""
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


@under_contract
def word_times(
    weights: Array, first: int, counts: Sequence[int], spectrum: Array, frames: int
) -> list[tuple[float, float]]:
    """When words were said.

    Parameters
    ----------
    weights : ndarray of float32, shape (heads, tokens, ticks)
        Attention of the heads that listen, of a tick of two frames each.
    first : int
        The first token that was said. The words' follow from there on, then one for their end;
        there may be fewer, if they were too many for the model.
    counts : sequence of int
        Tokens of each word, at least 1.
    spectrum : ndarray of float32, shape (frames or more, bands)
        What was heard, log-mel.
    frames : int
        That the words are in, at least 1.

    Returns
    -------
    list of (float, float)
        The frames from and up to which each word lasts: between 0 and `frames`, in order, no word
        empty, longer than two seconds, or across a pause.
    """
    ticks = max(1, min(frames // FRAMES_OF_TICK, weights.shape[2]))
    weights = np.ascontiguousarray(weights[..., :ticks])
    voiced = spoken(spectrum, ticks) if frames >= FRAMES_OF_TICK else np.ones(1, bool)
    begins = token_times(weights, first, voiced)
    paid = np.zeros((len(begins), ticks), np.float32)
    for head in weights[:, first:]:
        paid = paid + head
    tokens = list(accumulate(counts, initial=0))  # where each word's begin, and the last one's end
    starts = begins[np.minimum(tokens, len(begins) - 1)].tolist()
    times: list[tuple[float, float]] = []
    for start, same in groupby(range(len(counts)), key=starts.__getitem__):
        words = list(same)
        after = words[-1] + 1
        places = np.arange(start, max(starts[after], start + 1))
        places = places[voiced[places]] if voiced[places].any() else places
        heard = np.zeros(ticks, np.float32)
        for row in paid[tokens[words[0]] : tokens[after]]:
            heard = heard + row
        begin, end = _most_heard(heard, places)
        # Words that begin in the same tick divide it; the last one has what follows, too.
        tick = min((begin + 1) * FRAMES_OF_TICK, frames) - begin * FRAMES_OF_TICK
        marks = [begin * FRAMES_OF_TICK + tick * i / len(words) for i in range(len(words))]
        times += pairwise([*marks, min(end * FRAMES_OF_TICK, frames)])
    return times


def _most_heard(paid: Array, places: Array) -> tuple[int, int]:
    """Of the places (n,) without gaps between them, the ones that get most attention, paid
    (ticks,): the first, and one past the last. At most as many as a word has."""
    run = max(runs(places), key=lambda run: float(row_sum(paid[run])[0]))
    begin, end = int(run[0]), int(run[-1]) + 1
    if end - begin > LONGEST_WORD:
        near = np.lib.stride_tricks.sliding_window_view(paid[begin:end], LONGEST_WORD)
        begin += int(row_sum(near)[:, 0].argmax())
        end = begin + LONGEST_WORD
    return begin, end
