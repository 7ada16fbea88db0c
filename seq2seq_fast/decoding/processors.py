"""What the options of a search forbid, force and penalise at each step, from the tokens before it.

They act on logits, before the softmax: what is left shares all probability. By transformers' rules
beam search takes log-probabilities of all tokens first, and what is forbidden keeps its share.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..nn.logits import topk_log_softmax
from .candidates import Candidates
from .options import Options

if TYPE_CHECKING:
    from ..models.encoder_decoder import EncoderDecoder

Array = np.ndarray[Any, Any]


class Processors:
    """Of one search.

    Parameters
    ----------
    model : EncoderDecoder
    options : Options
    sources : sequence of sequences of int, or None
        Token ids, for what is not to be repeated of them.
    samples : int
        Rows of a source that are drawn apart, each of which counts as a source to the search.
    """

    def __init__(
        self,
        model: EncoderDecoder,
        options: Options,
        sources: Sequence[Sequence[int]] | None,
        samples: int,
    ) -> None:
        self.options, self.samples = options, samples
        self.ends = list(options.ends(model))
        unknown = () if model.unk is None else (model.unk,)
        # An end as a word by itself stays: without it nothing would end.
        ends = [(end,) for end in self.ends]
        words = [word for word in map(tuple, options.bad_words_ids) if word not in ends]
        single = [word[0] for word in words if len(word) == 1]
        self.never: Array = np.array([*options.suppress_tokens, *unknown, *single], np.int64)
        """Tokens that never occur."""
        self.words = [word for word in words if len(word) > 1]
        self.start = [] if model.bos is None else [model.bos]
        size = options.encoder_no_repeat_ngram_size
        self.source_ngrams = [_ngrams([*map(int, ids)], size) for ids in sources or ()]
        self.judges_rows = bool(
            options.repetition_penalty != 1
            or options.no_repeat_ngram_size
            or options.required_tokens
            or self.words
            or size
        )
        """Whether something depends on the tokens of a row."""
        self.forces = (
            options.prefix is not None
            or options.forced_bos_token_id is not None
            or options.forced_eos_token_id is not None
        )
        """Whether there are tokens that must come."""

    def plain_steps(self, position: int, limit: int) -> tuple[int, Array]:
        """How many steps from a position on, up to a limit, ask for nothing but that some tokens do
        not occur, and these tokens."""
        options, never = self.options, self.never
        is_first = position <= self._begin and (
            options.begin_suppress_tokens or options.forced_bos_token_id is not None
        )
        if self.judges_rows or is_first or options.logits_processor or options.prefix is not None:
            return 0, never
        if options.forced_eos_token_id is not None:
            limit -= 1
        if position < options.min_new_tokens:
            limit, never = min(limit, options.min_new_tokens), np.append(never, self.ends)
        return limit - position, never

    @property
    def _begin(self) -> int:
        """The position of the first token that is chosen."""
        return 0 if self.options.forced_bos_token_id is None else 1

    def forced(self, position: int, source: int, limit: int) -> int | None:
        """The token that one of the search's sources has to have; None if it is chosen."""
        options = self.options
        if options.prefix is not None:
            prefix = options.prefix[source // self.samples]
            if position < len(prefix):
                return int(prefix[position])
        if position == 0 and options.forced_bos_token_id is not None:
            return options.forced_bos_token_id
        if position == limit - 1 and options.forced_eos_token_id is not None:
            return options.forced_eos_token_id
        return None

    # ---- on logits ----

    def on_logits(
        self,
        logits: Array,
        vocabulary: Candidates,
        tokens: Array,
        sources: list[int],
        limits: Array,
    ) -> None:
        """Changes logits (rows, columns) in place: what is forbidden becomes -inf.

        tokens (rows, position); of each row its source, of each source its limit.
        """
        options, position = self.options, tokens.shape[1]
        if len(self.never) and vocabulary.union is None:
            logits[:, self.never] = -np.inf
        if options.logits_processor is not None:
            changed = options.logits_processor(tokens, logits)
            if changed is not None and changed is not logits:
                logits[...] = changed
        by_position = self._by_position(position)
        for row, source in enumerate(sources if by_position else ()):
            logits[row, vocabulary.columns(by_position, source)] = -np.inf
        if not self.judges_rows:
            return
        for row, source in enumerate(sources):
            own = self._history(tokens[row])
            penalised, forbidden = self._penalised(own), self._forbidden(own, source)
            if penalised:
                seen = vocabulary.columns(sorted(penalised), source)
                penalty = np.float32(options.repetition_penalty)
                taken = logits[row, seen]
                logits[row, seen] = np.where(taken < 0, taken * penalty, taken / penalty)
            logits[row, vocabulary.columns(sorted(forbidden), source)] = -np.inf
            missing = sorted(set(options.required_tokens) - {*tokens[row].tolist(), *self.ends})
            if missing:
                logits[row, vocabulary.columns(self.ends, source)] = -np.inf
                if len(missing) >= limits[source] - position - 1:  # no room for others
                    kept = vocabulary.columns(missing, source)
                    only = logits[row, kept]
                    logits[row] = -np.inf
                    logits[row, kept] = only

    # ---- on log-probabilities ----

    def likeliest(
        self, logits: Array, tokens: Array, sources: list[int], count: int
    ) -> tuple[Array, Array]:
        """The `count` likeliest tokens of each row of logits (rows, vocabulary) and their
        log-probabilities among all tokens, the likeliest first; what is forbidden comes last, with
        -inf. tokens (rows, position)."""
        options, position = self.options, tokens.shape[1]
        size = logits.shape[1]
        if options.logits_processor is not None:
            return self._likeliest_of_all(logits, tokens, sources, count)
        changes = [
            self._changes(tokens[row], source, position) for row, source in enumerate(sources)
        ]
        # Those that are changed may be among the likeliest: as many more are looked at.
        more = max(map(len, changes))
        ids, scores, statistics = topk_log_softmax(logits, min(count + more, size))
        if not more:
            return ids, scores
        found = np.empty((len(logits), min(count, size)), np.int64)
        values = np.empty(found.shape, np.float32)
        for row, penalised in enumerate(changes):
            changed = np.array([*penalised], np.int64)
            factors = np.array([*penalised.values()], np.float32)
            shift, total = statistics[row]
            own = _penalise((logits[row, changed] - shift) - total, factors)
            apart = np.isin(ids[row], changed)
            every = np.concatenate([ids[row][~apart], changed])
            all_scores = np.concatenate([scores[row][~apart], own])
            order = np.lexsort((every, -all_scores))[: found.shape[1]]
            found[row], values[row] = every[order], all_scores[order]
        return found, values

    def _likeliest_of_all(
        self, logits: Array, tokens: Array, sources: list[int], count: int
    ) -> tuple[Array, Array]:
        """The same, with a caller's function, which sees all log-probabilities."""
        _, _, statistics = topk_log_softmax(logits, 1)
        scores = (logits - statistics[:, :1]) - statistics[:, 1:]
        for row, source in enumerate(sources):
            penalised = self._changes(tokens[row], source, tokens.shape[1])
            changed = [*penalised]
            factors = np.array([*penalised.values()], np.float32)
            scores[row, changed] = _penalise(scores[row, changed], factors)
        assert self.options.logits_processor is not None
        given = self.options.logits_processor(tokens, scores)
        scores = scores if given is None else np.asarray(given, np.float32)
        ids = np.argsort(-scores, axis=1, kind="stable")[:, :count]
        return ids, np.take_along_axis(scores, ids, axis=1)

    def _changes(self, tokens: Array, source: int, position: int) -> dict[int, float]:
        """What log-probabilities of tokens are multiplied by: inf for those that are forbidden."""
        own = self._history(tokens)
        found = dict.fromkeys(sorted(self._penalised(own)), self.options.repetition_penalty)
        forbidden = self._forbidden(own, source)
        forbidden.update(self.never.tolist(), self._by_position(position))
        return {**found, **dict.fromkeys(sorted(forbidden), np.inf)}

    # ---- which tokens ----

    def _history(self, tokens: Array) -> list[int]:
        """What counts as there already: by transformers' rules what the decoder read first, too."""
        own: list[int] = tokens.tolist()
        return [*self.start, *own] if self.options.search == "transformers" else own

    def _by_position(self, position: int) -> list[int]:
        """Tokens that are forbidden at a position, whatever came before."""
        ends = self.ends if position < self.options.min_new_tokens else []
        first = self.options.begin_suppress_tokens if position == self._begin else ()
        return [*ends, *first]

    def _penalised(self, tokens: list[int]) -> set[int]:
        return set(tokens) if self.options.repetition_penalty != 1 else set()

    def _forbidden(self, tokens: list[int], source: int) -> set[int]:
        """Tokens that would repeat something, or end a word that must not occur."""
        size, of_source = (
            self.options.no_repeat_ngram_size,
            self.options.encoder_no_repeat_ngram_size,
        )
        found: set[int] = set()
        if size and len(tokens) >= size - 1:
            found.update(_ngrams(tokens, size).get(_last(tokens, size - 1), ()))
        if of_source and self.source_ngrams and len(tokens) >= of_source - 1:
            ngrams = self.source_ngrams[source // self.samples]
            found.update(ngrams.get(_last(tokens, of_source - 1), ()))
        found.update(word[-1] for word in self.words if _last(tokens, len(word) - 1) == word[:-1])
        return found


def _ngrams(tokens: list[int], size: int) -> dict[tuple[int, ...], set[int]]:
    """What has followed each `size` - 1 tokens in a row."""
    found: dict[tuple[int, ...], set[int]] = {}
    for i in range(len(tokens) - size + 1 if size else 0):
        found.setdefault(tuple(tokens[i : i + size - 1]), set()).add(tokens[i + size - 1])
    return found


def _last(tokens: list[int], count: int) -> tuple[int, ...]:
    return tuple(tokens[len(tokens) - count :]) if 0 < count <= len(tokens) else ()


def _penalise(scores: Array, factors: Array) -> Array:
    """Log-probabilities, of which none is positive, times factors."""
    with np.errstate(invalid="ignore"):  # 0 times inf
        return np.where(np.isinf(factors), np.float32(-np.inf), scores * factors)
