"""The encoder: a stack of self-attention and feed-forward layers."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..backends.selection import current
from ..graph.ops import Graph
from ..graph.recorder import Recorder
from ..pickling import Part
from .attention import SelfAttention
from .checks import check_widths, must_equal
from .feed_forward import FeedForward
from .norms import Norm, SublayerNorm
from .sources import Embedding, SpectrumEmbedding

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Memory:
    """What the encoder made of a batch of sequences."""

    values: Array  # (batch, time, features); rows at or past the length are padding
    lengths: Array  # (batch,) int64


@dataclass(frozen=True, eq=False)
class EncoderLayer:
    attention: SelfAttention
    attention_norm: SublayerNorm
    feed_forward: FeedForward
    feed_forward_norm: SublayerNorm

    def __post_init__(self) -> None:
        must_equal(
            "widths of an encoder's layer",
            *(part.width for part in (self.attention, self.feed_forward)),
            *(place.norm.gamma.size for place in (self.attention_norm, self.feed_forward_norm)),
        )

    def __call__(self, ops: Any, x: Any, integer_scores: bool) -> Any:
        """x -> the layer's output, both (batch, time, features)."""
        place = self.attention_norm
        y = self.attention.encode(ops, place.before(ops, x), x, integer_scores)
        x = place.after(ops, y)
        place = self.feed_forward_norm
        return place.after(ops, self.feed_forward(ops, place.before(ops, x), x))


@dataclass(frozen=True, eq=False)
class Encoder(Part):
    embedding: Embedding | SpectrumEmbedding
    layers: tuple[EncoderLayer, ...]
    norm: Norm | None = None

    def __post_init__(self) -> None:
        check_widths("an encoder", self.embedding.width, self.layers, self.norm)

    def __call__(self, sources: Sequence[Any]) -> Memory:
        """What the embedding takes a batch of."""
        x, lengths = self.embedding.batch(sources)
        ragged = lengths if lengths.min() < lengths.max() else None
        return Memory(current().encode(self.graph, x, ragged), lengths)

    @functools.cached_property
    def graph(self) -> Graph:
        """All layers, of what the embedding gives."""
        recorder = Recorder()
        x = given = recorder.buffer(self.embedding.width)
        for layer in self.layers:
            x = layer(recorder, x, self.integer_scores)
        out = x if self.norm is None else recorder.norm(self.norm, x)
        return recorder.graph(given, out)

    @functools.cached_property
    def integer_scores(self) -> bool:
        """Whether attention multiplies eight-bit integers, too, as the linear layers do: where the
        source is sound, for then most of the time would go into it."""
        return isinstance(self.embedding, SpectrumEmbedding) and all(
            layer.attention.projection.matrix.is_integer for layer in self.layers
        )
