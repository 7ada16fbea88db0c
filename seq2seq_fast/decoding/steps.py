"""The steps of a search: the decoder's graph, run token by token over a state of its own.

A search that is over leaves its steps to the next one of the same shape.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING, Any

import numpy as np

from ..aligned import contiguous
from ..backends.selection import current
from ..contract.plan import PACKED
from ..graph.steps import StepState
from ..nn.attention import DecoderCache
from ..sdpa.cache import KeyValueCache

if TYPE_CHECKING:
    from ..models.encoder_decoder import EncoderDecoder
    from ..nn.decoder import State

Array = np.ndarray[Any, Any]

FIRST_STEPS = 32  # that there is room for at first
FIRST_MEMORY = 32  # keys that kept steps have room for, or twice that and so on
MAX_MEMORY = 256
"""Keys of one sequence that are copied, so that steps that are there can be used again."""
MAX_IDLE = 4  # of a kind: as many threads as are likely to be here at a time


def steps_of(model: EncoderDecoder, state: State, beams: int, *, attention: bool = False) -> Any:
    """The steps of a search from a state with one row to a sequence, which stays as it is; with
    the attention to the source, if that is wanted, which a graph does not give."""
    if attention:
        return EagerSteps(model, state, beams)
    longest = int(state.lengths.max())
    if len(state.lengths) > 1 or state.position or longest > MAX_MEMORY:
        return RecordedSteps(model, state.select(np.repeat(np.arange(state.rows), beams)))
    room = FIRST_MEMORY
    while room < longest:
        room *= 2
    kind = (current().settings, beams, room)
    try:
        steps: RecordedSteps = model.idle_steps[kind].pop()
    except (KeyError, IndexError):
        return RecordedSteps(model, state.select(np.zeros(beams, np.intp)), kind, room)
    steps.begin(state)
    return steps


class RecordedSteps:
    """The decoder's graph over a state that nobody else has."""

    attention: Array | None = None

    def __init__(
        self, model: EncoderDecoder, state: State, kind: Hashable = None, room: int | None = None
    ) -> None:
        self.model, self.kind, self.output = model, kind, state.output
        sequences = len(state.lengths)
        memory = [cache if room is None else cache.with_room(room) for cache in state.memory]
        self.memory: list[KeyValueCache] = memory
        self.past = [
            layer.cache if isinstance(layer, DecoderCache) else layer.values for layer in state.past
        ]
        self.place = np.arange(state.rows)
        """Where a search's rows are among the state's: a sequence's own, in any order."""
        self.origins = np.empty((len(self.place), 0), np.int64)
        self._prepare(state.position, sequences, state.rows // sequences, state.lengths)

    def _prepare(self, position: int, sequences: int, beams: int, lengths: Array) -> None:
        """The state and the backend's steps, of the caches as they are."""
        self.state = StepState(
            sequences,
            beams,
            np.array([position], np.int64),
            self._positions(position + FIRST_STEPS),
            [
                cache.operands()[:2] if isinstance(cache, KeyValueCache) else cache
                for cache in self.past
            ],
            [cache.operands()[:2] for cache in self.memory],
            lengths,
        )
        self.sequences = sequences
        self.steps = current().steps(self.model.decoder.graph, self.output.weights, self.state)
        positions = self.state.positions
        self._room = 1 << 62 if positions is None else len(positions)
        for cache in self.past:
            if isinstance(cache, KeyValueCache):
                self._room = min(self._room, cache.capacity)

    def _positions(self, steps: int) -> Array | None:
        """Vectors of the positions of so many steps, or of as many as the model knows."""
        positions = self.model.decoder.embedding.positions
        if positions is None:
            return None
        return contiguous(positions(0, min(steps, positions.most)))

    def begin(self, state: State) -> None:
        """Once more, from another state of one sequence."""
        self.sequences = 1
        self.place = np.arange(self.state.beams)
        self.origins = np.empty((len(self.place), 0), np.int64)
        self.state.begin(0)
        for own, start in zip(self.past, state.past, strict=True):
            if isinstance(own, np.ndarray):
                assert not isinstance(start, DecoderCache)
                own[:] = start.values
        for cache, source in zip(self.memory, state.memory, strict=True):
            cache.assign(source)
        self.state.remember(state.lengths)
        if state.output is not self.output:
            self.output = state.output
            self.steps.choose(self.output.weights)

    def give_back(self) -> None:
        """To be used again by another search: this one is over."""
        if self.kind is not None:
            idle = self.model.idle_steps.setdefault(self.kind, [])
            if len(idle) < MAX_IDLE:
                idle.append(self)

    @property
    def rows(self) -> int:
        return self.sequences * self.state.beams

    def step(self, tokens: Array | None) -> Array:
        """One token further: tokens (rows,), None at first -> logits (rows, vocabulary), each where
        `place` says, which the next step writes over."""
        self._read_next(tokens)
        self.steps.run(self.sequences)
        self.state.step[0] += 1
        return self.steps.logits[: self.rows]

    def greedy(
        self,
        tokens: Array | None,
        most: int,
        never: Array,
        ids: Array | None,
        own: tuple[Array, Array, Array] | None,
        end: int,
    ) -> tuple[Array, Array]:
        """Some tokens further in greedy search: see graph.steps.Steps."""
        most = min(most, self._read_next(tokens))
        return self.steps.greedy(self.rows, most, never, ids, own, end)

    def _read_next(self, tokens: Array | None) -> int:
        """Tokens to the state. Returns how many steps there is room for."""
        if tokens is None:
            self.state.tokens[: self.rows] = -1 if self.model.bos is None else self.model.bos
        else:
            self.state.tokens[self.place] = tokens
        number = int(self.state.step[0])
        if number >= self._room:
            self._grow(number)
        return self._room - number

    def _grow(self, length: int) -> None:
        """Room for more steps: what is in use moves, and the steps are prepared anew."""
        positions = self.model.decoder.embedding.positions
        if positions is not None:
            positions(length, 1)  # raises if the model knows no more
        before = self.state
        for i, cache in enumerate(self.past):
            if isinstance(cache, KeyValueCache):
                cache.set_lengths(length)
                self.past[i] = cache.select(np.arange(self.rows)).with_room(2 * cache.capacity)
            else:
                self.past[i] = cache[: self.rows].copy()
        every = np.arange(self.sequences)
        self.memory = [
            cache if len(cache.lengths) == self.sequences else cache.select(every)
            for cache in self.memory
        ]
        self._prepare(length, self.sequences, before.beams, self.memory[0].lengths)
        self.state.past_spans[..., PACKED] = before.past_spans[:, : self.rows, PACKED]
        self.state.tokens[:] = before.tokens[: self.rows]

    def select(self, rows: Array, sequences: Array | None) -> None:
        """Go on with the given rows; `sequences` says whose they are, if that changes."""
        length, beams = int(self.state.step[0]), self.state.beams
        # The first that follows a row takes its place, so that only others are copied, into the
        # places of rows that nothing follows.
        before, every = self.place[rows], np.arange(len(rows))
        first = np.empty(self.rows, np.intp)
        first[before[::-1]] = every[::-1]  # of equal ones the last assignment counts
        stays = (first[before] == every) & (before // beams == every // beams)
        is_free = np.ones(len(rows), bool)
        is_free[before[stays]] = False
        targets, sources = np.flatnonzero(is_free), before[~stays]
        self.place = before
        self.place[~stays] = targets
        starts = self._differ_from(targets, sources, length)
        for values in self.past:
            if isinstance(values, np.ndarray):
                values[targets] = values[sources]
        self.steps.copy_history(targets, sources, starts, length)
        if sequences is not None:
            targets = np.flatnonzero(sequences != np.arange(len(sequences)))
            sources = sequences[targets]
            for cache in self.memory:
                cache.overwrite(targets, sources)
            self.state.memory_spans[targets] = self.state.memory_spans[sources]
            self.sequences = len(sequences)

    def _differ_from(self, targets: Array, sources: Array, length: int) -> Array:
        """The first of `length` steps in which places differ from others, which they become."""
        places, steps = self.origins.shape
        since = np.arange(places)[:, None].repeat(length - steps, axis=1)
        self.origins = np.concatenate([self.origins, since], axis=1)
        theirs = self.origins[sources]
        differ = self.origins[targets] != theirs
        self.origins[targets] = theirs
        return np.where(differ.any(axis=1), differ.argmax(axis=1), length)


class EagerSteps:
    """The model's own step(), which gives attention, too."""

    greedy = None

    def __init__(self, model: EncoderDecoder, state: State, beams: int) -> None:
        self.model = model
        self.state = state.select(np.repeat(np.arange(state.rows), beams))
        self.place = np.arange(self.state.rows)  # rows stay where they are
        self.attention: Array | None = None
        """To each source token in the last step, (rows, time): the mean over heads."""

    def step(self, tokens: Array | None) -> Array:
        """One token further: tokens (rows,), None at first -> logits (rows, vocabulary)."""
        logits, self.state, weights = self.model.step(tokens, self.state, attention=-1)
        assert weights is not None
        self.attention = mean_over_heads(weights)
        return logits

    def select(self, rows: Array, sequences: Array | None) -> None:
        """Go on with the given rows; `sequences` says whose they are, if that changes."""
        self.state = self.state.select(rows, sequences)
        self.place = np.arange(len(rows))

    def give_back(self) -> None:
        """There is nothing to be used again."""


def mean_over_heads(weights: Array) -> Array:
    """(rows, heads, keys) -> (rows, keys), heads added left to right."""
    total = np.zeros_like(weights[:, 0])
    for head in range(weights.shape[1]):
        total = total + weights[:, head]
    return total / np.float32(weights.shape[1])
