"""Which hypotheses a beam search keeps, and when it is over: by CTranslate2's rules or by those of
transformers, whose models were published with results of theirs."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from .options import Options

Array = np.ndarray[Any, Any]


class Continuations(NamedTuple):
    """The best continuations of one source's beams, the best first, (count,) each."""

    scores: Array  # sums of log-probabilities
    is_end: Array
    found: list[float]  # scores of the hypotheses so far, divided by their length as options say
    position: int  # tokens before this one
    is_last: bool  # no token may follow


class Choice(NamedTuple):
    """What becomes of them."""

    finished: list[int]  # that are hypotheses now
    taken: Array  # (beams,) that the beams go on with; -inf scores are none
    done: bool  # the source needs no more
    kept: int | None = None  # of all its hypotheses the best so many; None: all


def ctranslate2(options: Options, given: Continuations) -> Choice:
    """A beam that ends is replaced by the next best that does not. The search is over when so many
    have ended as there are beams, or the best one has, where no later one can be better."""
    beams, scores = options.num_beams, given.scores
    taken, spare = np.arange(beams), beams
    finished = []
    for beam in range(beams):
        if not (given.is_last or given.is_end[beam]) or scores[beam] == -np.inf:
            continue
        finished.append(beam)
        while spare < len(scores) and given.is_end[spare]:
            spare += 1
        if spare < len(scores):
            taken[beam] = spare
            spare += 1
        else:
            scores[beam] = -np.inf
    if (scores[taken] == -np.inf).all():
        return Choice(finished, taken, True)
    found = len(given.found) + len(finished)
    plain = options.patience == 1 and not (options.length_penalty or options.coverage_penalty)
    if options.early_stopping or plain:
        enough = 0 in finished and found >= (options.num_return_sequences or 1)
    else:
        enough = found >= round(beams * options.patience)
    return Choice(finished, taken, given.is_last or enough)


def transformers(options: Options, given: Continuations, limit: int) -> Choice:
    """Twice as many continuations as beams are looked at: those among the first half that end are
    hypotheses, of which the best are kept; the beams go on with the best that do not end. The
    search is over when the best beam cannot become better than the worst hypothesis, by its length
    now (early_stopping False) or at best ("never"), or when there are enough (True)."""
    beams, scores = options.num_beams, given.scores
    length = given.position + 1
    ends = given.is_end | given.is_last
    full = len(given.found) >= beams
    finished = [
        int(i)
        for i in np.flatnonzero(ends[:beams] & (scores[:beams] > -np.inf))
        if not (full and options.early_stopping is True)
    ]
    going = np.flatnonzero(~ends)[:beams]
    taken = np.zeros(beams, np.int64)
    taken[: len(going)] = going
    if len(going) < beams:  # beams that are not there go on with nothing
        spare = np.flatnonzero(ends)[: beams - len(going)]
        taken[len(going) :] = spare
        scores[spare] = -np.inf
    if not len(going) or scores[taken[0]] == -np.inf:
        return Choice(finished, taken, True, beams)
    every = sorted(
        [*given.found, *(float(scores[i]) / length**options.length_penalty for i in finished)],
        reverse=True,
    )[:beams]
    done = False
    if len(every) >= beams:
        most = limit if options.early_stopping == "never" and options.length_penalty > 0 else length
        best = float(scores[taken[0]]) / most**options.length_penalty
        done = options.early_stopping is True or not best > every[-1]
    return Choice(finished, taken, done, beams)
