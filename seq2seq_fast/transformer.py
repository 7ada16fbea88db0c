"""Encode, Attend, Decode: the encoder, the decoder, and the model made of them.

What published models differ in (norms before or after, kinds of norm, feed-forward and position,
self-attention or a recurrent unit) are the parts that an EncoderDecoder is put together from;
load.py does so from files.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from .cache import KeyValueCache
from .generate import Options, Token, mean_over_heads, search, stream
from .layers import (
    SSRU,
    Cell,
    CrossAttention,
    Embedding,
    FeedForward,
    History,
    Linear,
    Norm,
    SelfAttention,
    must_equal,
)
from .reference import under_contract

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Memory:
    """What the encoder made of a batch of sequences."""

    values: Array  # (batch, time, features); rows at or past the length are padding
    lengths: Array  # (batch,) int64


@dataclass(frozen=True, eq=False)
class NormPlace:
    """Where a sublayer f has its norm: x + f(norm(x)) (pre), or norm(x + f(x)) (post)."""

    norm: Norm
    pre: bool

    def before(self, x: Array) -> Array:
        return self.norm(x) if self.pre else x

    def after(self, y: Array) -> Array:
        return y if self.pre else self.norm(y)


@dataclass(frozen=True, eq=False)
class EncoderLayer:
    attention: SelfAttention
    attention_norm: NormPlace
    feed_forward: FeedForward
    feed_forward_norm: NormPlace

    def __post_init__(self) -> None:
        must_equal(
            "widths of an encoder's layer",
            *(part.width for part in (self.attention, self.feed_forward)),
            *(place.norm.gamma.size for place in (self.attention_norm, self.feed_forward_norm)),
        )

    def __call__(self, x: Array, lengths: Array | None) -> Array:
        place = self.attention_norm
        x = place.after(self.attention(place.before(x), x, lengths))
        place = self.feed_forward_norm
        return place.after(self.feed_forward(place.before(x), x))


@dataclass(frozen=True, eq=False)
class DecoderLayer:
    past: SelfAttention | SSRU
    past_norm: NormPlace
    attention: CrossAttention
    attention_norm: NormPlace
    feed_forward: FeedForward
    feed_forward_norm: NormPlace

    def __post_init__(self) -> None:
        places = (self.past_norm, self.attention_norm, self.feed_forward_norm)
        must_equal(
            "widths of a decoder's layer",
            *(part.width for part in (self.past, self.attention, self.feed_forward)),
            *(place.norm.gamma.size for place in places),
        )

    def step(
        self, x: Array, past: Any, memory: KeyValueCache, return_weights: bool
    ) -> tuple[Array, Any, Array | None]:
        """x (rows, features) -> output, what the next step needs, weights (rows, heads, keys)."""
        place = self.past_norm
        y, past = self.past.step(place.before(x), x, past)
        x = place.after(y)
        place = self.attention_norm
        y, weights = self.attention.step(place.before(x), x, memory, return_weights)
        x = place.after(y)
        place = self.feed_forward_norm
        return place.after(self.feed_forward(place.before(x), x)), past, weights


@dataclass(frozen=True, eq=False)
class Encoder:
    embedding: Embedding
    layers: tuple[EncoderLayer, ...]
    norm: Norm | None = None

    def __post_init__(self) -> None:
        _check_widths("an encoder", self.embedding, self.layers, self.norm)

    def __call__(self, ids: Array, lengths: Array | None) -> Array:
        """ids (batch, time) -> (batch, time, features)."""
        x = self.embedding(ids)
        for layer in self.layers:
            x = layer(x, lengths)
        return x if self.norm is None else self.norm(x)


@dataclass(frozen=True, eq=False)
class Decoder:
    embedding: Embedding
    layers: tuple[DecoderLayer, ...]
    output: Linear
    norm: Norm | None = None

    def __post_init__(self) -> None:
        _check_widths("a decoder", self.embedding, self.layers, self.norm)
        must_equal("widths of a decoder", self.embedding.width, self.output.matrix.inputs)
        must_equal("vocabularies of a decoder", self.embedding.size, self.output.matrix.outputs)


def _check_widths(name: str, embedding: Embedding, layers: Any, norm: Norm | None) -> None:
    if not layers:
        raise ValueError(f"{name} must have a layer")
    norms = () if norm is None else (norm.gamma.size,)
    every = (layer.feed_forward.width for layer in layers)
    must_equal(f"widths of {name}", embedding.width, *every, *norms)


@dataclass(frozen=True)
class State:
    """Where decoding stands. Steps make new states and change none, so a search may branch.

    Every sequence has the same number of rows (a beam search's beams), one after the other.
    """

    position: int
    past: tuple[Cell | History, ...]  # of each layer
    memory: tuple[KeyValueCache, ...]  # of each layer; never changed
    lengths: Array  # (sequences,) of the memory
    rows: int
    output: Linear  # of the vocabulary, or of what is left of it

    def select(self, rows: Array, sequences: Array | None = None) -> State:
        """The state of the given rows; `sequences` says whose they are, if that changes."""
        past = tuple(layer.select(rows) for layer in self.past)
        memory, lengths = self.memory, self.lengths
        if sequences is not None:
            memory = tuple(cache.select(sequences) for cache in memory)
            lengths = lengths[sequences]
        return replace(self, past=past, memory=memory, lengths=lengths, rows=len(rows))


class Step(NamedTuple):
    """What one step of the decoder gives."""

    logits: Array  # (rows, vocabulary)
    state: State
    attention: Array | None  # (rows, heads, source time), of the layer that was asked for


@dataclass(frozen=True, eq=False)
class EncoderDecoder:
    """A model. Its weights are read-only; any number of threads may use it.

    Examples
    --------
    >>> model = load("path/to/model")                          # doctest: +SKIP
    >>> model.generate([[12, 847, 0]])[0].tokens               # doctest: +SKIP
    >>> state = model.start(model.encode([[12, 847, 0]]))      # or by hand   # doctest: +SKIP
    >>> logits, state, attention = model.step(None, state)     # doctest: +SKIP
    """

    encoder: Encoder
    decoder: Decoder
    bos: int | None  # the first input of the decoder; None: the zero vector
    eos: int
    unk: int | None

    def __post_init__(self) -> None:
        memory = self.encoder.embedding.width
        for layer in self.decoder.layers:
            must_equal("widths of memory", memory, layer.attention.key_value.matrix.inputs)
        for name in ("bos", "eos", "unk"):
            token = getattr(self, name)
            if token is not None and not 0 <= token < self.vocabulary_size:
                raise ValueError(f"{name} is {token}, of {self.vocabulary_size} tokens")

    @property
    def vocabulary_size(self) -> int:
        """Tokens that the decoder knows."""
        return self.decoder.output.matrix.outputs

    @property
    def nbytes(self) -> int:
        """Bytes of all weights, each counted once."""
        return sum(array.nbytes for array in _distinct_arrays(self))

    @under_contract
    def encode(self, ids: Sequence[Sequence[int]]) -> Memory:
        """Encode a batch of token id sequences, each ending with `eos`.

        Raises
        ------
        ValueError
            No sequence, an empty one, or an id that is not in the vocabulary.
        """
        padded, lengths = self._pad(ids)
        ragged = lengths.min() < lengths.max()
        return Memory(self.encoder(padded, lengths if ragged else None), lengths)

    @under_contract
    def start(self, memory: Memory, *, beams: int = 1, vocabulary: Array | None = None) -> State:
        """The state before the first step.

        Parameters
        ----------
        memory : Memory
        beams : int
            Rows for each sequence.
        vocabulary : ndarray of int, optional
            The tokens that logits are wanted of, all if None. The decoder's input tokens are those
            of the whole vocabulary still.
        """
        rows = len(memory.lengths) * beams
        output = self.decoder.output
        return State(
            position=0,
            past=tuple(layer.past.start(rows) for layer in self.decoder.layers),
            memory=tuple(
                layer.attention.remember(memory.values, memory.lengths)
                for layer in self.decoder.layers
            ),
            lengths=memory.lengths,
            rows=rows,
            output=output if vocabulary is None else output.select(vocabulary),
        )

    @under_contract
    def step(
        self, ids: Sequence[int] | Array | None, state: State, *, attention: int | None = -1
    ) -> Step:
        """One token further.

        Parameters
        ----------
        ids : sequence of int, shape (rows,)
            The tokens before; None at the first step, for the model's own beginning.
        state : State
            From start() or the step before.
        attention : int or None
            The layer whose attention to the source is wanted, -1 for the last one.

        Raises
        ------
        ValueError
            Not one token per row, a token that is not in the vocabulary, or no such layer.
        """
        layers = range(len(self.decoder.layers))
        if attention is not None and not -len(layers) <= attention < len(layers):
            raise ValueError(
                f"attention must be a layer from 0 to {len(layers) - 1}; got {attention}"
            )
        wanted = None if attention is None else layers[attention]
        return self.decode(self._input(ids, state), state, wanted)

    def decode(self, x: Array, state: State, wanted: int | None) -> Step:
        """A step's layers: x (rows, features) are embedded tokens; `wanted` is the layer whose
        attention is."""
        past, weights = [], None
        for i, (layer, before, memory) in enumerate(
            zip(self.decoder.layers, state.past, state.memory, strict=True)
        ):
            x, after, found = layer.step(x, before, memory, i == wanted)
            past.append(after)
            weights = weights if found is None else found
        x = x if self.decoder.norm is None else self.decoder.norm(x)
        after_all = replace(state, position=state.position + 1, past=tuple(past))
        return Step(state.output(x), after_all, weights)

    def _input(self, ids: Sequence[int] | Array | None, state: State) -> Array:
        """The decoder's input (rows, features)."""
        embedding = self.decoder.embedding
        if ids is None and self.bos is None:
            nothing = np.zeros((state.rows, 1, embedding.width), np.float32)
            return embedding.placed(nothing, state.position)[:, 0]
        if ids is None:
            tokens: Array = np.full(state.rows, self.bos)
        else:
            tokens = _checked(np.asarray(ids), embedding.size, "ids")
        if tokens.shape != (state.rows,):
            raise ValueError(
                f"ids must have one token per row, ({state.rows},); got shape {tokens.shape}"
            )
        return embedding(tokens[:, None], state.position)[:, 0]

    @under_contract
    def generate(self, ids: Sequence[Sequence[int]], **options: Any) -> Any:
        """Decode a batch of source sequences, each ending with `eos`.

        Parameters
        ----------
        ids : sequence of sequences of int
        **options
            The fields of `seq2seq_fast.generate.Options`: beam_size, n_best, max_length,
            length_penalty, temperature and so on.

        Returns
        -------
        list of Hypothesis, or of lists of them, the best first, if `n_best` is given
            .tokens, .score and .token_scores; none depends on the other sequences of the batch.

        Raises
        ------
        TypeError, ValueError
            An option that does not exist or makes no sense, and ids as for encode().
        """
        chosen = Options(**options).checked(self.vocabulary_size, len(ids))
        found = search(self, ids, chosen)
        return [one[0] for one in found] if chosen.n_best is None else found

    def stream(self, ids: Sequence[int], **options: Any) -> Iterator[Token]:
        """Decode one source sequence, yielding each token as soon as it is found.

        Parameters
        ----------
        ids : sequence of int
        **options
            As for generate(), without beams.

        Yields
        ------
        Token
            .id and .score
        """
        chosen = Options(**options).checked(self.vocabulary_size, 1)
        return stream(self, ids, chosen)

    @under_contract
    def align(
        self,
        ids: Sequence[int],
        tokens: Sequence[int],
        *,
        layer: int = -1,
        head: int | None = None,
    ) -> Array:
        """How much each of the target tokens looked at each source token.

        Parameters
        ----------
        ids, tokens : sequence of int
            One source sequence and what was generated from it.
        layer : int
            Of the decoder, -1 for the last one.
        head : int, optional
            The mean over the heads if left out.

        Returns
        -------
        ndarray of float32, shape (tokens, source tokens)
        """
        state = self.start(self.encode([ids]))
        rows = []
        before = None
        for token in tokens:
            _, state, weights = self.step(before, state, attention=layer)
            assert weights is not None
            if head is not None and not -weights.shape[1] <= head < weights.shape[1]:
                raise ValueError(f"head must be from 0 to {weights.shape[1] - 1}; got {head}")
            rows.append(mean_over_heads(weights)[0] if head is None else weights[0, head])
            before = [token]
        return np.array(rows, np.float32).reshape(len(tokens), len(ids))

    def _pad(self, ids: Sequence[Sequence[int]]) -> tuple[Array, Array]:
        if len(ids) == 0:
            raise ValueError("ids must hold at least one sequence")
        lengths = np.array([len(sequence) for sequence in ids], np.int64)
        if lengths.min() == 0:
            raise ValueError(f"ids: sequence {lengths.argmin()} is empty")
        padded = np.full((len(ids), lengths.max()), self.eos, np.int64)
        size = self.encoder.embedding.size
        for row, sequence in zip(padded, ids, strict=True):
            row[: len(sequence)] = _checked(np.asarray(sequence), size, "ids")
        return padded, lengths


def _checked(ids: Array, size: int, name: str) -> Array:
    if not np.issubdtype(ids.dtype, np.integer):
        raise TypeError(f"{name} must be integers; got {ids.dtype}")
    if ids.size and (ids.min() < 0 or ids.max() >= size):
        raise ValueError(f"{name} must be from 0 to {size - 1}; got {ids.min()} to {ids.max()}")
    return ids


def _distinct_arrays(part: Any) -> list[Array]:
    """Every array that a model is made of, once."""
    found: dict[int, Array] = {}

    def walk(part: Any) -> None:
        if isinstance(part, np.ndarray):
            found[part.__array_interface__["data"][0]] = part
        elif isinstance(part, tuple):
            for one in part:
                walk(one)
        elif hasattr(part, "__dataclass_fields__"):
            for name in part.__dataclass_fields__:
                walk(getattr(part, name))

    walk(part)
    return list(found.values())
