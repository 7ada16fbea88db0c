"""Decoding: from a model and source tokens to target tokens, by greedy or beam search or sampling.

One loop serves them all. Every sequence has the same number of beams (1 but for beam search); its
rows lie one after the other, sequences that are finished leave, and nothing that a sequence gets
depends on the others.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from . import reference
from .layers import best

if TYPE_CHECKING:
    from .transformer import EncoderDecoder

Array = np.ndarray[Any, Any]



class Hypothesis(NamedTuple):
    """One generated sequence."""

    tokens: list[int]  # without the end of the sentence
    score: float
    """Sum of `token_scores`, divided by their number to the power of the length penalty, plus the
    coverage penalty's part: what beam search ranks by."""
    token_scores: list[float]
    """Log-probability of each token, that of the end included; 0 for those of the prefix."""


class Token(NamedTuple):
    """One token of a stream."""

    id: int
    score: float  # log-probability


@dataclass(frozen=True)
class Options:
    """How to decode. The defaults are greedy search.

    Parameters
    ----------
    beam_size : int
        Beam search where more than 1: Graves, "Sequence Transduction with RNNs", 2012.
    n_best : int, optional
        Return a list of so many hypotheses, the best first; with `sample`, so many samples.
    max_length, min_length : int
        Of a result's tokens, the end included; the default for the longest is 10 + 2.5 x the source's
        own length.
    length_penalty : float
        A sum of log-probabilities is divided by length ** length_penalty before it is compared.
    coverage_penalty : float
        Times the sum over source tokens of log(min(attention paid, 1)), of the last layer's mean
        over heads, is added: Wu et al., "Google's Neural Machine Translation System", 2016.
    patience : float
        A beam search ends with beam_size * patience hypotheses: Kasai et al., "A Call for
        Clarification in Beam Search", 2022.
    early_stopping : bool
        End a beam search as soon as the best beam is finished.
    sample : bool
        Draw tokens instead of taking the likeliest.
    temperature : float
        Logits are divided by it before a draw.
    top_k : int
        Draw from so many likeliest tokens only; 0 for all.
    top_p : float
        Draw from the likeliest tokens only that together are as likely as this: Holtzman et al.,
        "The Curious Case of Neural Text Degeneration", 2020.
    seed : int
        Of the draws. A source draws the same whatever its neighbours.
    repetition_penalty : float
        Logits of tokens that are there already are divided by it (multiplied, if negative): Keskar
        et al., "CTRL", 2019.
    no_repeat_ngram : int
        No n tokens in a row occur twice; 0 for no such rule.
    prefix : sequence of sequences of int, optional
        Tokens that each result begins with.
    suppress : sequence of int
        Tokens that never occur.
    require : sequence of int
        Tokens that every result has at least once: the end waits for them.
    vocabulary : sequence of sequences of int, optional
        For each source the only tokens that may occur (a shortlist), the end among them. Others are
        not computed, and take no part in probabilities.
    """

    beam_size: int = 1
    n_best: int | None = None
    max_length: int | None = None
    min_length: int = 0
    length_penalty: float = 1.0
    coverage_penalty: float = 0.0
    patience: float = 1.0
    early_stopping: bool = False
    sample: bool = False
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    seed: int = 0
    repetition_penalty: float = 1.0
    no_repeat_ngram: int = 0
    prefix: Sequence[Sequence[int]] | None = None
    suppress: Sequence[int] = ()
    require: Sequence[int] = ()
    vocabulary: Sequence[Sequence[int]] | None = None
    callback: Callable[[int, Token], Any] | None = None
    """Called with a source's number and each of its tokens as soon as that is found; not with
    beams."""

    def checked(self, vocabulary_size: int, sources: int) -> Options:
        """Itself.

        Raises
        ------
        TypeError, ValueError
            An option makes no sense; the message names it.
        """

        def check(name: str, fine: bool, expected: str) -> None:
            if not fine:
                raise ValueError(f"{name} must be {expected}; got {getattr(self, name)!r}")

        for name in ("beam_size", "n_best", "max_length"):
            given = getattr(self, name)
            check(name, given is None or _is_integer(given) and given >= 1, "at least 1")
        for name in ("min_length", "top_k", "no_repeat_ngram", "seed"):
            given = getattr(self, name)
            check(name, _is_integer(given) and given >= 0, "an integer of at least 0")
        check("seed", self.seed < 1 << 128, "less than 2^128")
        for name in ("length_penalty", "coverage_penalty"):
            check(name, math.isfinite(getattr(self, name)), "finite")
        for name in ("patience", "temperature", "repetition_penalty"):
            check(name, 0 < getattr(self, name) < math.inf, "positive")
        check("top_p", 0 < self.top_p <= 1, "over 0, at most 1")
        if self.n_best is not None and not self.sample:
            check("n_best", self.n_best <= self.beam_size, f"at most beam_size, {self.beam_size}")
        if self.beam_size > 1 and (self.sample or self.callback):
            raise ValueError("beam_size must be 1 with sample or callback")
        for name in ("prefix", "vocabulary"):
            given = getattr(self, name)
            check(name, given is None or len(given) == sources, f"one for each of {sources} sources")
        for name, ids in (
            ("suppress", self.suppress),
            ("require", self.require),
            *(("prefix", ids) for ids in self.prefix or ()),
            *(("vocabulary", ids) for ids in self.vocabulary or ()),
        ):
            array = np.asarray(ids)
            if array.size and not np.issubdtype(array.dtype, np.integer):
                raise TypeError(f"{name} must be integers; got {array.dtype}")
            if array.size and not 0 <= array.min() <= array.max() < vocabulary_size:
                raise ValueError(
                    f"{name} must be from 0 to {vocabulary_size - 1};"
                    f" got {array.min()} to {array.max()}"
                )
        return self


def _is_integer(given: Any) -> bool:
    return isinstance(given, (int, np.integer)) and not isinstance(given, bool)


def most_tokens(source_length: int) -> int:
    """The length at which a result of one source sequence is cut."""
    return 10 + source_length * 5 // 2


def search(
    model: EncoderDecoder, ids: Sequence[Sequence[int]], options: Options
) -> list[list[Hypothesis]]:
    """For each source its hypotheses, the best first."""
    samples = options.n_best or 1 if options.sample else 1
    running = _Search(model, [source for source in ids for _ in range(samples)], options, samples)
    while running.rows:
        for source, token in running.advance():
            if options.callback is not None and token.id != model.eos:
                options.callback(source // samples, token)
    found = [
        [one for some in running.found[i : i + samples] for one in some]
        for i in range(0, len(running.found), samples)
    ]
    wanted = options.n_best or 1
    return [sorted(some, key=lambda one: -one.score)[:wanted] for some in found]


def stream(model: EncoderDecoder, ids: Sequence[int], options: Options) -> Iterator[Token]:
    """The tokens of one source, without the end."""
    if options.beam_size > 1:
        raise ValueError(f"beam_size must be 1 for a stream; got {options.beam_size}")
    running = reference.under_contract(_Search)(model, [ids], options, 1)
    while running.rows:
        for _, token in running.advance():
            if token.id != model.eos:
                yield token


class _Search:
    """The sources that are not finished, and what has been found of the others."""

    def __init__(
        self,
        model: EncoderDecoder,
        ids: Sequence[Sequence[int]],
        options: Options,
        samples: int,
    ) -> None:
        self.model, self.options, self.samples = model, options, samples
        self.beams = options.beam_size
        self.found: list[list[Hypothesis]] = [[] for _ in ids]
        self.limits = [options.max_length or most_tokens(len(source)) for source in ids]
        self.sources: Array = np.arange(len(ids))  # that are running; of each, its number
        self.vocabulary = _Vocabulary(model, options, samples)
        self.state = model.start(
            model.encode(ids), beams=self.beams, vocabulary=self.vocabulary.union
        )
        rows = len(ids) * self.beams
        self.tokens = np.zeros((rows, 0), np.int64)
        self.token_scores = np.zeros((rows, 0))
        self.scores = np.zeros((len(ids), self.beams))
        self.scores[:, 1:] = -np.inf  # beams begin alike: one of them counts
        self.paid: Array | None = None  # attention to each source token so far: (rows, time)
        self.draws = [
            np.random.Philox(key=options.seed, counter=[0, 0, 0, i % samples])
            for i in (range(len(ids)) if options.sample else ())
        ]

    @property
    def rows(self) -> int:
        return len(self.tokens)

    @reference.under_contract
    def advance(self) -> list[tuple[int, Token]]:
        """One token further. Returns, without beams, each source's number and token."""
        options, beams = self.options, self.beams
        position = self.tokens.shape[1]
        before = self.tokens[:, -1] if position else None
        covering = options.coverage_penalty != 0
        logits, self.state, weights = self.model.step(
            before, self.state, attention=-1 if covering else None
        )
        logits = self.vocabulary.arrange(logits, np.repeat(self.sources, beams))
        self._adjust(logits)
        ids, log_probabilities = self._candidates(logits)
        # 1. Of each source the best continuations of all beams, twice as many as there are beams,
        # so that enough are left if half of them are ends.
        count = ids.shape[1]
        scores = (self.scores[:, :, None] + log_probabilities.reshape(-1, beams, count)).reshape(
            len(self.sources), -1
        )
        order = np.argsort(-scores, axis=1, kind="stable")[:, : max(1, 2 * beams)]
        parents = order // count
        rows = np.arange(len(self.sources))[:, None] * beams
        tokens = ids.reshape(len(self.sources), -1)[rows // beams, order]
        token_scores = log_probabilities.reshape(len(self.sources), -1)[rows // beams, order]
        scores = scores[rows // beams, order].astype(np.float64)
        self._force(tokens, parents, token_scores, scores, position)
        if covering:
            assert weights is not None
            self._pay(weights)

        # 2. Which of them the beams go on with; ends and cut ones are found.
        ends = tokens == self.model.eos
        taken = np.broadcast_to(np.arange(beams), (len(tokens), beams)).copy()
        goes_on = np.ones(len(tokens), bool)
        for i, source in enumerate(self.sources.tolist()):
            last = position + 1 >= self.limits[source]
            if last or ends[i, :beams].any():
                taken[i], goes_on[i] = self._finish(
                    i, source, tokens[i], rows[i] + parents[i], token_scores[i], scores[i], last
                )
        heads = [
            (int(source), Token(int(token), float(score)))
            for source, token, score in zip(
                self.sources.tolist() if beams == 1 else [],
                tokens[:, 0],
                token_scores[:, 0],
                strict=False,
            )
        ]
        self._go_on(goes_on, taken, tokens, rows + parents, token_scores, scores)
        return heads

    def _candidates(self, logits: Array) -> tuple[Array, Array]:
        """Ids and log-probabilities (rows, candidates) of each row's continuations."""
        options = self.options
        if not options.sample:
            count = 1 if self.beams == 1 else min(2 * self.beams, logits.shape[1])
            columns, log_probabilities, _ = best(logits, count)
        else:
            kept, log_probabilities, statistics = best(logits, max(1, options.top_k))
            chosen = [
                _draw(row, kept[i] if options.top_k else None, options, self.draws[source])
                for i, (row, source) in enumerate(zip(logits, self.sources.tolist(), strict=True))
            ]
            columns = np.array(chosen)[:, None]
            taken = np.take_along_axis(logits, columns, axis=1)
            log_probabilities = (taken - statistics[:, :1]) - statistics[:, 1:]
        return self.vocabulary.ids(columns, np.repeat(self.sources, self.beams)), log_probabilities

    def _adjust(self, logits: Array) -> None:
        """What the options forbid becomes -inf."""
        options, vocabulary, position = self.options, self.vocabulary, self.tokens.shape[1]
        sources = np.repeat(self.sources, self.beams).tolist()
        never = [*options.suppress, *(() if self.model.unk is None else (self.model.unk,))]
        if position + 1 < options.min_length:
            never.append(self.model.eos)
        if vocabulary.union is None:
            if never:
                logits[:, never] = -np.inf
        else:
            for row, source in enumerate(sources):
                logits[row, vocabulary.columns(never, source)] = -np.inf
        if not (options.repetition_penalty != 1 or options.no_repeat_ngram or options.require):
            return
        for row, source in enumerate(sources):
            tokens = self.tokens[row].tolist()
            if options.repetition_penalty != 1:
                seen = vocabulary.columns(sorted(set(tokens)), source)
                penalty = np.float32(options.repetition_penalty)
                taken = logits[row, seen]
                logits[row, seen] = np.where(taken < 0, taken * penalty, taken / penalty)
            if options.no_repeat_ngram:
                repeats = _repeats(tokens, options.no_repeat_ngram)
                logits[row, vocabulary.columns(repeats, source)] = -np.inf
            missing = sorted(set(options.require) - set(tokens) - {self.model.eos})
            if missing:
                logits[row, vocabulary.columns([self.model.eos], source)] = -np.inf
                if len(missing) >= self.limits[source] - position - 1:  # no room for others
                    kept = vocabulary.columns(missing, source)
                    only = logits[row, kept]
                    logits[row] = -np.inf
                    logits[row, kept] = only

    def _force(
        self, tokens: Array, parents: Array, token_scores: Array, scores: Array, position: int
    ) -> None:
        """The prefix's token in place of the candidates, where there is one."""
        if self.options.prefix is None:
            return
        for i, source in enumerate(self.sources.tolist()):
            prefix = self.options.prefix[source // self.samples]
            if position < len(prefix):
                tokens[i], parents[i], token_scores[i] = prefix[position], 0, 0
                scores[i] = -np.inf
                scores[i, 0] = self.scores[i, 0]

    def _pay(self, weights: Array) -> None:
        from .transformer import mean_over_heads

        mean = mean_over_heads(weights)
        self.paid = mean if self.paid is None else self.paid[:, : mean.shape[1]] + mean

    def _finish(
        self,
        i: int,
        source: int,
        tokens: Array,
        rows: Array,
        token_scores: Array,
        scores: Array,
        last: bool,
    ) -> tuple[Array, bool]:
        """Takes finished hypotheses out of one source's candidates. Returns which candidates the
        beams go on with, and whether they do."""
        options, beams = self.options, self.beams
        taken, spare = np.arange(beams), beams
        best_ended = False
        for beam in range(beams):
            end = tokens[beam] == self.model.eos
            if not (end or last) or scores[beam] == -np.inf:
                continue
            best_ended |= beam == 0
            path = [*self.tokens[rows[beam]].tolist(), int(tokens[beam])]
            path_scores = [*self.token_scores[rows[beam]].tolist(), float(token_scores[beam])]
            score = self._ranked(float(scores[beam]), len(path), rows[beam], self.state.lengths[i])
            self.found[source].append(Hypothesis(path[:-1] if end else path, score, path_scores))
            while spare < len(tokens) and tokens[spare] == self.model.eos:
                spare += 1
            if spare < len(tokens):
                taken[beam] = spare
                spare += 1
        enough = round(beams * options.patience)
        plain = options.patience == 1 and not (options.length_penalty or options.coverage_penalty)
        if options.early_stopping or plain:
            done = best_ended and len(self.found[source]) >= (options.n_best or 1)
        else:
            done = len(self.found[source]) >= enough
        return taken, not (last or done)

    def _ranked(self, score: float, length: int, row: int, source_length: int) -> float:
        """A hypothesis' sum of log-probabilities with the penalties."""
        options = self.options
        if options.length_penalty:
            score /= float(length) ** options.length_penalty
        if options.coverage_penalty:
            assert self.paid is not None
            paid = np.minimum(self.paid[row, :source_length], np.float32(1))[None]
            least = np.float32(np.finfo(np.float32).tiny)
            covered = reference.row_sum(reference.log(np.maximum(paid, least)))
            score += options.coverage_penalty * float(covered[0, 0])
        return score

    def _go_on(
        self,
        goes_on: Array,
        taken: Array,
        tokens: Array,
        parents: Array,
        token_scores: Array,
        scores: Array,
    ) -> None:
        """The beams of the sources that go on become what was taken."""
        kept = np.flatnonzero(goes_on)
        at = (kept[:, None], taken[kept])
        rows = parents[at].reshape(-1)
        every = len(kept) == len(goes_on)
        if not (every and np.array_equal(rows, np.arange(self.rows))):
            if len(rows):
                self.state = self.state.select(rows, None if every else kept)
            self.tokens, self.token_scores = self.tokens[rows], self.token_scores[rows]
            self.paid = None if self.paid is None else self.paid[rows]
            self.sources = self.sources[kept]
        self.tokens = np.concatenate([self.tokens, tokens[at].reshape(-1, 1)], axis=1)
        self.token_scores = np.concatenate(
            [self.token_scores, token_scores[at].reshape(-1, 1)], axis=1
        )
        self.scores = scores[at]


class _Vocabulary:
    """Which token each column of the logits is: itself, or the one of the source's shortlist."""

    def __init__(self, model: EncoderDecoder, options: Options, samples: int) -> None:
        self.union: Array | None = None
        if options.vocabulary is None:
            return
        lists = [np.unique(np.asarray(ids, np.int64)) for ids in options.vocabulary]
        for i, ids in enumerate(lists):
            if model.eos not in ids:
                raise ValueError(f"vocabulary: the list of source {i} lacks the end, {model.eos}")
        self.union = np.unique(np.concatenate(lists))
        width = max(len(ids) for ids in lists)
        self.lists = [ids for ids in lists for _ in range(samples)]
        # Where each source's tokens stand in the union; past its list, nowhere.
        self.places = np.zeros((len(self.lists), width), np.intp)
        self.lengths = np.array([len(ids) for ids in self.lists])
        for row, ids in zip(self.places, self.lists, strict=True):
            row[: len(ids)] = np.searchsorted(self.union, ids)

    def arrange(self, logits: Array, sources: Array) -> Array:
        """Logits (rows, union) -> (rows, longest list), each row's own tokens first, then -inf."""
        if self.union is None:
            return logits
        own = np.take_along_axis(logits, self.places[sources], axis=1)
        own[np.arange(own.shape[1]) >= self.lengths[sources][:, None]] = -np.inf
        return own

    def ids(self, columns: Array, sources: Array) -> Array:
        """The tokens of columns (rows, any)."""
        if self.union is None:
            return columns
        return self.union[self.places[sources[:, None], columns]]

    def columns(self, ids: Sequence[int], source: int) -> Any:
        """The columns of those of the tokens that one source may use."""
        if self.union is None:
            return list(ids)
        known = self.lists[source]
        wanted = np.asarray(ids, np.int64)
        at = np.minimum(np.searchsorted(known, wanted), len(known) - 1)
        return at[known[at] == wanted]


def _repeats(tokens: list[int], n: int) -> list[int]:
    """The tokens that would make n in a row that were there before."""
    if len(tokens) < n:
        return []
    end = tokens[len(tokens) - n + 1 :]
    return sorted(
        {tokens[i + n - 1] for i in range(len(tokens) - n + 1) if tokens[i : i + n - 1] == end}
    )


def _draw(logits: Array, kept: Array | None, options: Options, bits: np.random.Philox) -> int:
    """A token by its probability: the walk goes in the order of ids, in float64.

    logits (n,); `kept` are the ones to draw from, all if None.
    """
    columns = np.arange(len(logits)) if kept is None else np.sort(kept)
    probabilities, _ = reference.softmax(logits[columns][None] / np.float32(options.temperature))
    weights = probabilities[0].astype(np.float64)
    if options.top_p < 1:
        order = np.argsort(-weights, kind="stable")
        # As many as it takes: those before which the sum had not reached top_p.
        before = np.cumsum(weights[order]) - weights[order]
        weights[order[before >= options.top_p * np.cumsum(weights)[-1]]] = 0
    walk = np.cumsum(weights)
    point = (int(bits.random_raw()) >> 11) * 2.0**-53 * walk[-1]
    at = np.searchsorted(walk, point, side="right")
    return int(columns[min(int(at), int(np.flatnonzero(weights)[-1]))])  # rounding may end past it
