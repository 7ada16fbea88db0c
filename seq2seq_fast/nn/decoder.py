"""The decoder, and the state of its steps."""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from ..graph.ops import Graph
from ..graph.recorder import Recorder
from ..pickling import Part
from ..sdpa.cache import KeyValueCache
from .attention import CrossAttention, DecoderCache, SelfAttention
from .checks import check_widths, must_equal
from .feed_forward import FeedForward
from .linear import Linear
from .norms import Norm, SublayerNorm
from .sources import Embedding
from .ssru import SSRU, SSRUState

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, eq=False)
class DecoderLayer:
    past: SelfAttention | SSRU
    past_norm: SublayerNorm
    attention: CrossAttention
    attention_norm: SublayerNorm
    feed_forward: FeedForward
    feed_forward_norm: SublayerNorm

    def __post_init__(self) -> None:
        places = (self.past_norm, self.attention_norm, self.feed_forward_norm)
        must_equal(
            "widths of a decoder's layer",
            *(part.width for part in (self.past, self.attention, self.feed_forward)),
            *(place.norm.gamma.size for place in places),
        )

    def step(
        self, ops: Any, x: Any, past: Any, memory: Any, return_weights: bool = False
    ) -> tuple[Any, Any, Any]:
        """x -> output, what the next step needs, and if asked the weights (rows, heads, time,
        keys)."""
        place = self.past_norm
        y, past = self.past.step(ops, place.before(ops, x), x, past)
        x = place.after(ops, y)
        place = self.attention_norm
        y, weights = self.attention.step(ops, place.before(ops, x), x, memory, return_weights)
        x = place.after(ops, y)
        place = self.feed_forward_norm
        return place.after(ops, self.feed_forward(ops, place.before(ops, x), x)), past, weights


@dataclass(frozen=True, eq=False)
class Decoder(Part):
    embedding: Embedding
    layers: tuple[DecoderLayer, ...]
    output: Linear
    norm: Norm | None = None

    def __post_init__(self) -> None:
        check_widths("a decoder", self.embedding.width, self.layers, self.norm)
        must_equal("widths of a decoder", self.embedding.width, self.output.matrix.inputs)
        must_equal("vocabularies of a decoder", self.embedding.size, self.output.matrix.outputs)

    @functools.cached_property
    def graph(self) -> Graph:
        """A step, but for the output layer."""
        recorder = Recorder()
        x = recorder.embed(self.embedding)
        for i, layer in enumerate(self.layers):
            x, _, _ = layer.step(recorder, x, i, i)
        return recorder.graph(None, x if self.norm is None else recorder.norm(self.norm, x))


@dataclass(frozen=True)
class State:
    """Where decoding stands. Steps make new states and change none, so a search may branch.

    Every sequence has the same number of rows (a beam search's beams), one after the other.
    """

    position: int
    past: tuple[SSRUState | DecoderCache, ...]  # of each layer
    memory: tuple[KeyValueCache, ...]  # of each layer; never changed
    lengths: Array  # (sequences,) of the memory
    rows: int
    output: Linear  # of the vocabulary, or of what is left of it

    def choosing(self, vocabulary: Array) -> State:
        """A state whose logits are those of the given tokens alone."""
        return replace(self, output=self.output.select(vocabulary))

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
    attention: Array | None  # (rows, heads, source time), of the layer that was named
