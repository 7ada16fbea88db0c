"""From a model and source tokens to target tokens, by greedy or beam search or sampling.

One loop serves them all. Every sequence has the same number of beams (1 but for beam search); its
rows lie one after the other, sequences that are finished leave, and nothing that a sequence gets
depends on the others.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .. import contract
from ..nn.logits import topk_log_softmax
from .options import Options

if TYPE_CHECKING:
    from ..models.encoder_decoder import EncoderDecoder
    from ..nn.decoder import State
from . import beams as beam_rules
from .beams import Continuations
from .candidates import Candidates
from .processors import Processors
from .sampling import draw
from .steps import steps_of

Array = np.ndarray[Any, Any]


class Hypothesis(NamedTuple):
    """One generated sequence."""

    tokens: list[int]  # without the end of the sentence
    score: float
    """Sum of `token_scores`, divided by their number to the power of the length penalty, plus the
    coverage penalty's part: what beam search ranks by."""
    token_scores: list[float]
    """Log-probability of each token, that of the end included; 0 for those of the prefix."""
    finished: bool
    """Whether it came to its end; False if it was cut at the limit of its length."""


class Token(NamedTuple):
    """One token of a stream."""

    id: int
    score: float  # log-probability


FIRST_TOKENS = 64  # of a result that there is room for at first


MAX_STEPS = 32  # in one call of the kernel: between calls, Python hears of Ctrl-C


def most_tokens(source_length: int) -> int:
    """The length at which a result of one source sequence is cut."""
    return 10 + source_length * 5 // 2


def search(
    model: EncoderDecoder,
    state: State,
    options: Options,
    sources: Sequence[Sequence[int]] | None = None,
) -> list[list[Hypothesis]]:
    """For each sequence of a state its hypotheses, the best first. `sources` are its token ids, for
    options that go by them."""
    samples = options.num_return_sequences or 1 if options.do_sample else 1
    reports = options.callback is not None
    running = _Search(model, state, options, samples, sources, reports=reports)
    while running.rows:
        for source, token in running.advance():
            if options.callback is not None:
                options.callback(source // samples, token)
    running.steps.give_back()
    found = [
        [one for some in running.found[i : i + samples] for one in some]
        for i in range(0, len(running.found), samples)
    ]
    wanted = options.num_return_sequences or 1
    return [sorted(some, key=lambda one: -one.score)[:wanted] for some in found]


def stream(
    model: EncoderDecoder,
    state: State,
    options: Options,
    sources: Sequence[Sequence[int]] | None = None,
) -> Iterator[Token]:
    """The tokens of one sequence, without the end."""
    running = contract.under_contract(_Search)(model, state, options, 1, sources, reports=True)
    advance = contract.under_contract(running.advance)
    while running.rows:
        for _, token in advance():
            yield token
    running.steps.give_back()


class _Search:
    """The sources that are not finished, and what has been found of the others."""

    def __init__(
        self,
        model: EncoderDecoder,
        state: State,
        options: Options,
        samples: int,
        sources: Sequence[Sequence[int]] | None,
        *,
        reports: bool,
    ) -> None:
        """`state` has one row to a sequence. It stays as it is."""
        self.model, self.options, self.samples, self.reports = model, options, samples, reports
        self.beams = options.num_beams
        self.processors = Processors(model, options, sources, samples)
        self.ends: Array = np.array(self.processors.ends, np.int64)
        self.vocabulary = Candidates(model, options, samples, self.processors.never)
        if self.vocabulary.union is not None:
            state = state.choosing(self.vocabulary.union)
        # What the first step is to read; None is the model's own beginning.
        self.first: Array | None = None
        if options.decoder_input_ids is not None:
            prompt = np.array(options.decoder_input_ids, np.int64)
            if prompt.shape[1] > 1:
                _, state, _ = model.step(prompt[:, :-1], state, attention=None)
            self.first = np.repeat(prompt[:, -1], samples * self.beams)
        if samples > 1:
            each = np.repeat(np.arange(state.rows), samples)
            state = state.select(each, each)
        count = len(state.lengths)
        self.lengths = state.lengths
        self.found: list[list[Hypothesis]] = [[] for _ in range(count)]
        left = model.positions - state.position
        self.limits = np.array(
            [min(options.max_new_tokens or most_tokens(n), left) for n in self.lengths]
        )
        self.sources: Array = np.arange(count)  # that are running; of each, its number
        self.steps = steps_of(model, state, self.beams, attention=options.coverage_penalty != 0)
        self.rows = count * self.beams
        self.position = 0
        # Of each row the tokens so far, and their log-probabilities.
        self.tokens = np.zeros((self.rows, min(int(self.limits.max()), FIRST_TOKENS)), np.int64)
        self.token_scores = np.zeros(self.tokens.shape)
        self.scores = np.zeros((count, self.beams))  # their sums
        self.scores[:, 1:] = -np.inf  # beams begin alike: one of them counts
        self.cross_attention: Array | None = None
        """The sum of the steps' attention to each source token, (rows, time)."""
        self.draws = [
            np.random.Philox(key=options.seed, counter=[0, 0, 0, i % samples])
            for i in (range(count) if options.do_sample else ())
        ]
        # Greedy search with nothing in it that is decided here goes on in the kernel.
        self.may_be_plain = not (
            self.beams > 1 or options.do_sample or len(self.ends) > 1 or self.steps.greedy is None
        )

    def advance(self) -> list[tuple[int, Token]]:
        """One token further, or several, if they are not to be reported. Returns, if it reports,
        each source's number and token, unless that is the end; nothing with beams."""
        before = self.tokens[: self.rows, self.position - 1] if self.position else self.first
        if self.may_be_plain and (found := self._plain(before)) is not None:
            return self._one_each(*found)
        logits = self.vocabulary.arrange(self.steps.step(before), self.sources, self.beams)
        if self.steps.attention is not None:
            mean = self.steps.attention
            before_it = self.cross_attention
            total = mean if before_it is None else before_it[:, : mean.shape[1]] + mean
            self.cross_attention = total
        if self.beams > 1:
            self._beams(logits)
            return []
        self._process(logits)
        tokens, scores = (
            self._sampled(logits) if self.options.do_sample else self._likeliest(logits)
        )
        for i, token in self._forced():
            tokens[i], scores[i] = token, 0
        return self._one_each(tokens[None], scores[None])

    def _plain(self, before: Array | None) -> tuple[Array, Array] | None:
        """Tokens of greedy search and their log-probabilities, (steps, rows) each, by the kernel;
        None if the next one is not for it."""
        steps, never = self.processors.plain_steps(
            self.position, int(self.limits[self.sources].min())
        )
        if self.vocabulary.union is not None:
            if len(never) > len(self.processors.never):  # of columns it knows no tokens
                return None
            never = never[:0]
        if steps < 1:
            return None
        found: tuple[Array, Array] = self.steps.greedy(
            before,
            1 if self.reports else min(steps, MAX_STEPS),
            never,
            self.vocabulary.union,
            self.vocabulary.own(self.sources),
            int(self.ends[0]),
        )
        return found

    def _process(self, logits: Array) -> None:
        """What the options forbid becomes -inf."""
        sources = np.repeat(self.sources, self.beams).tolist()
        self.processors.on_logits(logits, self.vocabulary, self._so_far(), sources, self.limits)

    def _is_end(self, tokens: Array) -> Array:
        return (tokens[..., None] == self.ends).any(axis=-1)

    def _one_each(self, tokens: Array, scores: Array) -> list[tuple[int, Token]]:
        """Greedy search and sampling: each source has one row, and goes on with the tokens
        (steps, rows). Only the last of them may be the end."""
        self._make_room(len(tokens))
        start, self.position = self.position, self.position + len(tokens)
        self.tokens[: self.rows, start : self.position] = tokens.T
        self.token_scores[: self.rows, start : self.position] = scores.T
        # One after the other, as if they had come one at a time.
        sums = np.concatenate([self.scores.T, scores])
        self.scores[:, 0] = np.add.accumulate(sums, axis=0)[-1]
        tokens, scores = tokens[-1], scores[-1]
        ends = self._is_end(tokens)
        done = ends | (self.limits[self.sources] <= self.position)
        reported: list[tuple[int, Token]] = []
        if self.reports:
            every = zip(
                self.sources.tolist(), tokens.tolist(), scores.tolist(), ends.tolist(), strict=True
            )
            reported = [(i, Token(token, score)) for i, token, score, is_end in every if not is_end]
        if done.any():
            for row in np.flatnonzero(done).tolist():
                self._found(
                    row, row, self.position - 1, tokens[row], scores[row], self.scores[row, 0]
                )
            kept = _filled(done)
            self._select(kept, kept)
        return reported

    def _make_room(self, steps: int) -> None:
        """For the tokens of some steps more."""
        lacking = self.position + steps - self.tokens.shape[1]
        if lacking > 0:
            room = ((0, 0), (0, max(lacking, self.position)))
            self.tokens = np.pad(self.tokens, room)
            self.token_scores = np.pad(self.token_scores, room)

    def _likeliest(self, logits: Array) -> tuple[Array, Array]:
        columns, log_probabilities, _ = topk_log_softmax(logits, 1)
        tokens = self.vocabulary.ids(columns, self.sources, 1)[:, 0]
        scores = log_probabilities[:, 0].astype(np.float64)
        tokens[scores == -np.inf] = self.ends[0]  # the options leave no token: an end it is
        return tokens, scores

    def _sampled(self, logits: Array) -> tuple[Array, Array]:
        options = self.options
        kept, _, statistics = topk_log_softmax(logits, min(max(1, options.top_k), logits.shape[1]))
        chosen = [
            draw(row, kept[i] if options.top_k else None, options, self.draws[source])
            for i, (row, source) in enumerate(zip(logits, self.sources.tolist(), strict=True))
        ]
        columns = np.array([column or 0 for column in chosen])[:, None]
        taken = np.take_along_axis(logits, columns, axis=1)
        scores = ((taken - statistics[:, :1]) - statistics[:, 1:])[:, 0].astype(np.float64)
        tokens = self.vocabulary.ids(columns, self.sources, 1)[:, 0]
        none = np.array([column is None for column in chosen])
        tokens[none], scores[none] = self.ends[0], -np.inf
        return tokens, scores

    def _beams(self, logits: Array) -> None:
        """One token further of each beam."""
        beams, sources = self.beams, len(self.sources)
        # 1. Of each source the best continuations of all beams, so many that enough are left if
        # all of the best are ends.
        wanted = max(2, 1 + len(self.ends)) * beams
        ids, found = self._continuations(logits, wanted)
        token_scores = found.reshape(sources, -1).astype(np.float64)
        scores = np.repeat(self.scores, ids.shape[1], axis=1) + token_scores
        order = np.argsort(-scores, axis=1, kind="stable")[:, :wanted]
        scores = np.take_along_axis(scores, order, axis=1)
        tokens = np.take_along_axis(ids.reshape(sources, -1), order, axis=1)
        token_scores = np.take_along_axis(token_scores, order, axis=1)
        parents = order // ids.shape[1] + np.arange(sources)[:, None] * beams
        for i, token in self._forced():
            best = np.argsort(-self.scores[i], kind="stable")
            tokens[i], token_scores[i], scores[i] = token, 0, -np.inf
            scores[i, :beams], parents[i, :beams] = self.scores[i, best], i * beams + best

        # 2. Which of them the beams go on with; ends and cut ones are found.
        taken = np.tile(np.arange(beams), (sources, 1))
        done = np.zeros(sources, bool)
        last = self.limits[self.sources] <= self.position + 1
        is_end = self._is_end(tokens)
        some = last | is_end.any(axis=1) | (scores[:, 0] == -np.inf)
        if self.options.search == "transformers":  # hypotheses are compared with running beams, too
            some |= np.array([len(self.found[source]) > 0 for source in self.sources])
        for i in np.flatnonzero(some).tolist():
            taken[i], done[i] = self._ended(
                i, tokens[i], parents[i], token_scores[i], scores[i], is_end[i], bool(last[i])
            )
        kept = _filled(done)
        self._make_room(1)
        at = (kept[:, None], taken[kept])
        self._select(parents[at].reshape(-1), kept)
        self.tokens[: self.rows, self.position] = tokens[at].reshape(-1)
        self.token_scores[: self.rows, self.position] = token_scores[at].reshape(-1)
        self.scores = scores[at]
        self.position += 1

    def _continuations(self, logits: Array, count: int) -> tuple[Array, Array]:
        """Of each row, in the order of beams, its likeliest tokens and their log-probabilities."""
        place = self.steps.place
        count = min(count, logits.shape[1])
        if self.options.search == "transformers":
            sources = np.repeat(self.sources, self.beams).tolist()
            ids, found = self.processors.likeliest(logits, self._so_far(), sources, count)
            return ids[place], found[place]
        self._process(logits)
        columns, found = (a[place] for a in topk_log_softmax(logits, count)[:2])
        return self.vocabulary.ids(columns, self.sources, self.beams), found

    def _ended(
        self,
        i: int,
        tokens: Array,
        parents: Array,
        token_scores: Array,
        scores: Array,
        is_end: Array,
        last: bool,
    ) -> tuple[Array, bool]:
        """Takes finished hypotheses out of one source's continuations. Returns which of them the
        beams go on with, and whether the source is done."""
        options, source = self.options, int(self.sources[i])
        every = [one.score for one in self.found[source]]
        given = Continuations(scores.copy(), is_end, every, self.position, last)
        if options.search == "transformers":
            choice = beam_rules.transformers(options, given, int(self.limits[source]))
        else:
            choice = beam_rules.ctranslate2(options, given)
        for beam in choice.finished:
            self._found(
                i, parents[beam], self.position, tokens[beam], token_scores[beam], scores[beam]
            )
        if not self.found[source] and scores[0] == -np.inf:
            # The options leave no token: an end it is.
            self._found(i, parents[0], self.position, int(self.ends[0]), -np.inf, -np.inf)
        if choice.kept is not None:
            self.found[source] = sorted(self.found[source], key=lambda one: -one.score)[
                : choice.kept
            ]
        scores[:] = given.scores
        return choice.taken, choice.done

    def _found(
        self, i: int, row: int, length: int, token: int, token_score: float, score: float
    ) -> None:
        """One hypothesis of the i-th running source: `length` tokens of a row, and one more."""
        options, source = self.options, int(self.sources[i])
        tokens = [*self.tokens[row, :length].tolist(), int(token)]
        token_scores = [*self.token_scores[row, :length].tolist(), float(token_score)]
        ranked = float(score)
        if options.length_penalty:
            ranked /= float(len(tokens)) ** options.length_penalty
        if options.coverage_penalty:
            assert self.cross_attention is not None
            attention = self.cross_attention[row, : self.lengths[source]]
            covered_by = np.minimum(attention, np.float32(1))[None]
            least = np.float32(np.finfo(np.float32).tiny)
            covered = contract.row_sum(contract.log(np.maximum(covered_by, least)))
            ranked += options.coverage_penalty * float(covered[0, 0])
        finished = token in self.processors.ends
        if finished:
            tokens.pop()
        self.found[source].append(Hypothesis(tokens, ranked, token_scores, bool(finished)))

    def _select(self, rows: Array, kept: Array) -> None:
        """Go on with the given rows, those of the given ones of the running sources."""
        every = len(kept) == len(self.sources)
        if every and np.array_equal(rows, np.arange(self.rows)):
            return
        if len(kept):
            self.steps.select(rows, None if every else kept)
        self.rows = len(rows)
        self.tokens[: self.rows] = self.tokens[rows]
        self.token_scores[: self.rows] = self.token_scores[rows]
        if self.cross_attention is not None:
            self.cross_attention = self.cross_attention[rows]
        self.scores, self.sources = self.scores[kept], self.sources[kept]

    def _forced(self) -> list[tuple[int, int]]:
        """Which of the running sources has a token that must come next, and the token."""
        if not self.processors.forces:
            return []
        every = (
            (i, self.processors.forced(self.position, source, int(self.limits[source])))
            for i, source in enumerate(self.sources.tolist())
        )
        return [(i, token) for i, token in every if token is not None]

    def _so_far(self) -> Array:
        """The tokens of the rows of logits, (rows, position)."""
        return self.tokens[np.argsort(self.steps.place), : self.position]


def _filled(done: Array) -> Array:
    """Which of the running sources go on: the last take the places of those that are done, so that
    little has to be moved."""
    count = int(len(done) - done.sum())
    kept = np.arange(count)
    kept[done[:count]] = count + np.flatnonzero(~done[count:])
    return kept
