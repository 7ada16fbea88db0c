"""The encoder: a stack of self-attention and feed-forward layers."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..backends.selection import current
from ..graph.program import Chain, EncoderProgram, Idle
from ..pickling import Part
from .attention import SelfAttention
from .checks import check_widths, must_equal
from .feed_forward import FeedForward
from .norms import Norm, NormPlace
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
    attention_norm: NormPlace
    feed_forward: FeedForward
    feed_forward_norm: NormPlace

    def __post_init__(self) -> None:
        must_equal(
            "widths of an encoder's layer",
            *(part.width for part in (self.attention, self.feed_forward)),
            *(place.norm.gamma.size for place in (self.attention_norm, self.feed_forward_norm)),
        )

    def __call__(self, x: Array, lengths: Array | None, integer_scores: bool) -> Array:
        """x (batch, time, features) -> the like."""
        merged = np.empty((*x.shape[:2], self.attention.heads.query_width), np.float32)
        every = self.attention.heads.split(self.before(x))
        self.attention.attend(every, lengths, merged, integer_scores)
        return self.after(merged, x)

    def before(self, x: Array) -> Array:
        """What attention takes."""
        return self.attention.projection(self.attention_norm.before(x))

    def after(self, merged: Array, x: Array) -> Array:
        """From what attention gave, and the layer's input, to its output."""
        x = self.attention_norm.after(self.attention.output(merged, residual=x))
        place = self.feed_forward_norm
        return place.after(self.feed_forward(place.before(x), x))


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
        batch, time, _ = x.shape
        short = batch == 1 and time <= EncoderProgram.MOST_TIME
        if current().runs_programs() and short and not self.integer_scores:
            return Memory(EncoderProgram.run(self, x), lengths)
        ragged = lengths if lengths.min() < lengths.max() else None
        return Memory(self.through_layers(x, ragged), lengths)

    def through_layers(
        self, x: Array, lengths: Array | None, after_each: Callable[[Array], None] | None = None
    ) -> Array:
        """x (batch, time, features), which may be written over, of which `lengths` are there -> the
        memory. `after_each` is called with each layer's result."""
        active = current()
        if active.runs_programs() and x.shape[0] * x.shape[1] > Chain.FEW * active.threads:
            return self._through_chains(x, lengths)
        for layer in self.layers:
            x = layer(x, lengths, self.integer_scores)
            if after_each is not None:
                after_each(x)
        return x if self.norm is None else self.norm(x)

    def _through_chains(self, x: Array, lengths: Array | None) -> Array:
        """The like. Rows take part in attention together; in what comes before and after it they go
        a few at a time, so that all of it stays in the cache."""

        def room(array: Array | None, *shape: int) -> Array:
            """It again, where it has the shape: new memory is slow at first."""
            if array is not None and array.shape == shape:
                return array
            return np.empty(shape, np.float32)

        merged = every = None
        rows: tuple[Array, ...] = (x,)  # what a chain takes, and where x goes on
        for layer, chain in zip(self.layers, self.chains[:-1], strict=True):
            # Each head's queries, keys and values lie together, as attention reads them.
            heads = layer.attention.heads
            every = room(every, chain.widths[-1] // heads.width, *x.shape[:2], heads.width)
            chain(*rows, every)
            merged = room(merged, *x.shape[:2], heads.query_width)
            layer.attention.attend(every.swapaxes(0, 1), lengths, merged, self.integer_scores)
            rows = (merged, x, x)
        self.chains[-1](*rows)
        return x

    @functools.cached_property
    def chains(self) -> tuple[Chain, ...]:
        """What a row goes through before, between and after the layers' attention."""

        def between(layer: EncoderLayer, next_layer: EncoderLayer) -> Any:
            def links(merged: Array, x: Array) -> tuple[Array, ...]:
                x = layer.after(merged, x)
                return x, next_layer.before(x)

            return links

        def last(merged: Array, x: Array) -> tuple[Array]:
            x = self.layers[-1].after(merged, x)
            return (x if self.norm is None else self.norm(x),)

        links = [between(*pair) for pair in itertools.pairwise(self.layers)]
        widths = [
            (layer.attention.heads.query_width, layer.attention.width) for layer in self.layers
        ]
        return (
            Chain(lambda x: (self.layers[0].before(x),), self.layers[0].attention.width),
            *(Chain(function, *two) for function, two in zip((*links, last), widths, strict=True)),
        )

    @functools.cached_property
    def integer_scores(self) -> bool:
        """Whether attention multiplies eight-bit integers, too, as the linear layers do: where the
        source is sound, for then most of the time would go into it."""
        return isinstance(self.embedding, SpectrumEmbedding) and all(
            layer.attention.projection.matrix.is_integer for layer in self.layers
        )

    @functools.cached_property
    def idle(self) -> Idle:
        """Programs of this encoder."""
        return Idle()
