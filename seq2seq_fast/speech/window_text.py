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
from .options import TranscriptionOptions
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
    def compression_ratio(self) -> float:
        """How many times smaller zlib makes the text."""
        data = self.text.encode("utf-8")
        return len(data) / len(zlib.compress(data))


def written(
    transcriber: Transcriber,
    options: TranscriptionOptions,
    state: State,
    opening: list[int],
    prompt_tokens: list[int],
) -> WindowText:
    """What the model writes of a window: the first result that is not doubtful, or else the
    likeliest of those that do not repeat themselves.

    Parameters
    ----------
    transcriber : Transcriber
    options : TranscriptionOptions
    state : State
        Of one row, that has read nothing yet.
    opening : list of int
        The tokens that a transcript begins with.
    prompt_tokens : list of int
        Tokens of the text before, if any.
    """
    model, vocabulary = transcriber.model, transcriber.vocabulary
    if prompt_tokens:
        before = prompt_tokens[-transcriber.max_prompt_tokens :]
        _, state, _ = model.step(np.array([[vocabulary.previous, *before]]), state, attention=None)
    logits, _, _ = model.step(opening[:1], state, attention=None)
    no_speech = probability_of(logits, vocabulary.no_speech)
    room = transcriber.positions - state.position - len(opening)
    every: list[WindowText] = []
    for temperature in options.temperatures:
        hypothesis: Any = model.generate(
            state,
            decoder_input_ids=[opening],
            max_new_tokens=min(transcriber.max_new_tokens, room),
            suppress_tokens=transcriber.suppress_tokens,
            logits_processor=TimestampRules(vocabulary, transcriber.begin_suppress_tokens),
            **options.search(temperature),
        )[0]
        one: Hypothesis = hypothesis[0] if temperature else hypothesis
        score = sum(one.token_scores) / len(one.token_scores)
        text = vocabulary.decode(one.tokens).strip()
        found = WindowText(one.tokens, score, temperature, no_speech, text, one.token_scores)
        is_doubtful = options.is_repetitive(found.compression_ratio) or options.is_unlikely(score)
        if not is_doubtful or options.is_silence(no_speech, score):
            return found
        every.append(found)
    fine = [found for found in every if not options.is_repetitive(found.compression_ratio)]
    return max(fine or every, key=lambda found: found.score)


def probability_of(logits: np.ndarray[Any, Any], token: int) -> float:
    """The probability of one token, from logits of shape (1, vocabulary)."""
    _, _, statistics = topk_log_softmax(logits, 1)
    shift, log_total = statistics[0].tolist()
    return probability(float(logits[0, token]) - shift - log_total)


def probability(score: float) -> float:
    """The probability whose logarithm is `score`, by the contract's exp."""
    return float(exp(np.array([score]))[0])
