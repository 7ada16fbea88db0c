"""What a model of speech writes of half a minute, tried again as long as it is doubtful."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..contract.functions import exp
from ..decoding.search import Hypothesis
from ..nn.decoder import State
from ..nn.logits import topk_log_softmax
from .timestamps import TimestampRules

if TYPE_CHECKING:
    from .transcriber import Transcriber


@dataclass(frozen=True)
class WindowText:
    """What the model wrote of a window."""

    tokens: list[int]  # those of times included
    score: float  # mean log-probability of the tokens
    temperature: float
    no_speech: float  # probability
    text: str
    token_scores: list[float]  # log-probabilities, that of the end included

    @property
    def repetition(self) -> float:
        """How many times smaller zlib makes the text."""
        data = self.text.encode("utf-8")
        return len(data) / len(zlib.compress(data))


def written(by: Transcriber, state: State, opening: list[int], told: list[int]) -> WindowText:
    """What the model writes of a window.

    Parameters
    ----------
    by : Transcriber
    state : State
        Of one row, that has read nothing yet.
    opening : list of int
        The tokens that a transcript begins with.
    told : list of int
        Tokens of the text before, if any.
    """
    model, vocabulary = by.model, by.vocabulary
    if told:
        before = np.array([[vocabulary.previous, *told[-by.most_told :]]])
        _, state, _ = model.step(before, state, attention=None)
    logits, _, _ = model.step(opening[:1], state, attention=None)
    no_speech = probability_of(logits, vocabulary.no_speech)
    most = min(by.most_tokens, by.positions - state.position - len(opening))
    every: list[WindowText] = []
    for temperature in by.temperatures:
        hypothesis: Any = model.generate(
            state,
            prompt=[opening],
            max_length=most,
            suppress=by.never,
            rules=TimestampRules(vocabulary, by.never_first),
            **by.decoding(temperature),
        )[0]
        one: Hypothesis = hypothesis[0] if temperature else hypothesis
        score = sum(one.token_scores) / len(one.token_scores)
        text = vocabulary.decode(one.tokens).strip()
        found = WindowText(one.tokens, score, temperature, no_speech, text, one.token_scores)
        silent = no_speech > by.silence and score < by.least_score
        repeats = found.repetition > by.most_repetition
        if silent or not (repeats or score < by.least_score):
            return found
        every.append(found)
    fine = [found for found in every if found.repetition <= by.most_repetition]
    return max(fine or every, key=lambda found: found.score)


def probability_of(logits: np.ndarray[Any, Any], token: int) -> float:
    """Of one token, from logits (1, vocabulary)."""
    _, _, statistics = topk_log_softmax(logits, 1)
    shift, log_total = statistics[0].tolist()
    return probability(float(logits[0, token]) - shift - log_total)


def probability(score: float) -> float:
    """Of a log-probability, by the contract."""
    return float(exp(np.array([score]))[0])
