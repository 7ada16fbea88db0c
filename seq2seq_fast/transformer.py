"""Encode, Attend, Decode: the encoder, the decoder, and the model made of them.

The encoder is a post-norm Transformer. The decoder replaces self-attention by a recurrent unit
(SSRU), as Marian's fast student models do, and attends to the encoder's memory in every layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from .generate import Hypothesis, greedy
from .layers import SSRU, Embedding, FeedForward, LayerNorm, Linear, MultiHeadAttention
from .reference import under_contract

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Memory:
    """What the encoder made of a batch of sequences."""

    values: Array  # (batch, time, features); rows at or past the length are padding
    lengths: Array  # (batch,) int64


@dataclass(frozen=True)
class EncoderLayer:
    attention: MultiHeadAttention
    attention_norm: LayerNorm
    feed_forward: FeedForward
    feed_forward_norm: LayerNorm

    def __call__(self, x: Array, lengths: Array) -> Array:
        context, _ = self.attention(x, *self.attention.keys_values(x), lengths)
        x = self.attention_norm(x + context)
        return self.feed_forward_norm(x + self.feed_forward(x))


@dataclass(frozen=True)
class DecoderLayer:
    recurrent: SSRU
    recurrent_norm: LayerNorm
    attention: MultiHeadAttention
    attention_norm: LayerNorm
    feed_forward: FeedForward
    feed_forward_norm: LayerNorm

    def __call__(
        self, x: Array, cell: Array, keys: Array, values: Array, lengths: Array
    ) -> tuple[Array, Array, Array]:
        """x, cell (batch, features) -> output, new cell, attention (batch, heads, keys)."""
        hidden, cell = self.recurrent(x, cell)
        x = self.recurrent_norm(x + hidden)
        context, weights = self.attention(x[:, None, :], keys, values, lengths, return_weights=True)
        assert weights is not None
        x = self.attention_norm(x + context[:, 0])
        return self.feed_forward_norm(x + self.feed_forward(x)), cell, weights[:, :, 0]


@dataclass(frozen=True)
class State:
    """Where decoding stands. Steps make new states and change none, so a search may branch."""

    position: int
    cells: tuple[Array, ...]  # per layer (batch, features)
    memory: tuple[tuple[Array, Array], ...]  # per layer keys, values (batch, heads, time, ...)
    lengths: Array  # (batch,)

    def select(self, rows: Array) -> State:
        """The state of the given sequences of the batch."""
        return State(
            self.position,
            tuple(cell[rows] for cell in self.cells),
            tuple((keys[rows], values[rows]) for keys, values in self.memory),
            self.lengths[rows],
        )


class Step(NamedTuple):
    """What one step of the decoder gives."""

    logits: Array  # (batch, vocabulary)
    state: State
    attention: Array  # (batch, heads, source time), of the last layer


@dataclass(frozen=True)
class EncoderDecoder:
    """A model. Its weights are read-only; any number of threads may use it.

    Examples
    --------
    >>> model = load("path/to/model")                          # doctest: +SKIP
    >>> model.generate([[12, 847, 0]])[0].tokens               # doctest: +SKIP
    >>> state = model.start(model.encode([[12, 847, 0]]))      # or by hand   # doctest: +SKIP
    >>> logits, state, attention = model.step(None, state)     # doctest: +SKIP
    """

    embedding: Embedding  # of source and target
    encoder: tuple[EncoderLayer, ...]
    decoder: tuple[DecoderLayer, ...]
    output: Linear
    eos: int
    unk: int

    @under_contract
    def encode(self, ids: Sequence[Sequence[int]]) -> Memory:
        """Encode a batch of token id sequences, each ending with `eos`.

        Raises
        ------
        ValueError
            No sequence, an empty one, or an id that is not in the vocabulary.
        """
        padded, lengths = self._pad(ids)
        x = self.embedding(padded)
        for layer in self.encoder:
            x = layer(x, lengths)
        return Memory(x, lengths)

    @under_contract
    def start(self, memory: Memory) -> State:
        """The state before the first step."""
        batch, _, width = memory.values.shape
        return State(
            position=0,
            cells=tuple(np.zeros((batch, width), np.float32) for _ in self.decoder),
            memory=tuple(layer.attention.keys_values(memory.values) for layer in self.decoder),
            lengths=memory.lengths,
        )

    @under_contract
    def step(self, ids: Sequence[int] | Array | None, state: State) -> Step:
        """One token further.

        Parameters
        ----------
        ids : sequence of int, shape (batch,)
            The tokens before; None at the first step, whose input is the zero vector.
        state : State
            From start() or the step before.
        """
        if ids is None:
            positions = self.embedding.positions(1, state.position)
            x = np.repeat(positions, len(state.lengths), axis=0)
        else:
            tokens = self._checked(np.asarray(ids), "ids")
            if tokens.shape != state.lengths.shape:
                raise ValueError(
                    f"ids must have one token per sequence, {state.lengths.shape};"
                    f" got shape {tokens.shape}"
                )
            x = self.embedding(tokens[:, None], state.position)[:, 0]
        cells = []
        for layer, cell, (keys, values) in zip(
            self.decoder, state.cells, state.memory, strict=True
        ):
            x, cell, weights = layer(x, cell, keys, values, state.lengths)
            cells.append(cell)
        after = State(state.position + 1, tuple(cells), state.memory, state.lengths)
        return Step(self.output(x), after, weights)

    @under_contract
    def generate(
        self, ids: Sequence[Sequence[int]], *, max_length: int | None = None
    ) -> list[Hypothesis]:
        """Greedy decoding of a batch of source sequences, each ending with `eos`.

        Parameters
        ----------
        ids : sequence of sequences of int
        max_length : int, optional
            Most tokens of a result, `eos` included; by default 10 + 2.5 x the source's own length.

        Returns
        -------
        list of Hypothesis
            .tokens, .score and .attention; none depends on the other sequences of the batch.
        """
        if max_length is not None and max_length < 1:
            raise ValueError(f"max_length must be at least 1; got {max_length}")
        return greedy(self, ids, max_length)

    def _pad(self, ids: Sequence[Sequence[int]]) -> tuple[Array, Array]:
        if len(ids) == 0:
            raise ValueError("ids must hold at least one sequence")
        lengths = np.array([len(sequence) for sequence in ids], np.int64)
        if lengths.min() == 0:
            raise ValueError(f"ids: sequence {lengths.argmin()} is empty")
        padded = np.full((len(ids), lengths.max()), self.eos, np.int64)
        for row, sequence in zip(padded, ids, strict=True):
            row[: len(sequence)] = self._checked(np.asarray(sequence), "ids")
        return padded, lengths

    def _checked(self, ids: Array, name: str) -> Array:
        size = self.embedding.table.shape[0]
        if not np.issubdtype(ids.dtype, np.integer):
            raise TypeError(f"{name} must be integers; got {ids.dtype}")
        if ids.size and (ids.min() < 0 or ids.max() >= size):
            raise ValueError(f"{name} must be from 0 to {size - 1}; got {ids.min()} to {ids.max()}")
        return ids
