"""Plan: what a family of models says of a file - the names of its tensors, and the traits of the
model that they make. Nothing is read for it but shapes; assembly.py makes the model of it.

The names of linear layers and norms are templates. In them `*` stands for what the family calls
weight, bias, gamma and beta, `{layer}` for what the names of a layer begin with, and `{last}` for
what its last sublayer is called. The name of a linear layer without `*` is that of its weights
alone: there is no bias.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..nn.attention import Heads
from ..nn.positions import Sinusoids
from .tensors import Ignored


@dataclass(frozen=True)
class Names:
    """Where a family has the tensors of its layers."""

    weight: str
    bias: str
    gamma: str
    beta: str
    self_projection: tuple[str, ...]  # queries, keys and values, or one of all three
    self_output: str
    self_norm: tuple[str, ...]  # of pre-norm and of post-norm, or one of both
    cross_query: str
    cross_key_value: tuple[str, ...]  # keys and values, or one of both
    cross_output: str
    cross_norm: tuple[str, ...]
    up: str
    down: str
    feed_forward_norm: tuple[str, ...]
    gate: str | None = None  # of feed-forward layers that have one
    ssru: tuple[str, ...] = ()  # candidate and forget gate
    ssru_norm: tuple[str, ...] = ()
    transposed: bool = False  # linear layers lie (inputs, outputs)
    always_bias: bool = False  # a linear layer may not lack its bias
    float_down: bool = False  # the second feed-forward matrix never becomes eight-bit


@dataclass(frozen=True)
class NormTraits:
    kind: str  # of nn.norms.KINDS
    eps: float


@dataclass(frozen=True)
class Learned:
    """A table of positions."""

    table: str
    offset: int = 0  # its rows that stand for none


@dataclass(frozen=True)
class Tokens:
    """An embedding of token ids."""

    table: str
    scale: float
    positions: Sinusoids | Learned | None
    norm: str | None = None
    norm_first: bool = False  # it is of tokens alone: positions come after it


@dataclass(frozen=True)
class Spectrum:
    """What takes the spectrum of sound: Whisper's two convolutions."""

    convolutions: tuple[str, str]
    positions: Learned


@dataclass(frozen=True)
class Bias:
    """A relative bias; layers that name the same table share it."""

    table: str
    bidirectional: bool
    max_distance: int


@dataclass(frozen=True)
class Layer:
    name: str  # what the names of its tensors begin with
    heads: Heads  # of self-attention
    cross_heads: Heads | None = None
    bias: Bias | None = None  # of self-attention
    last: str = ""


@dataclass(frozen=True)
class Stack:
    """The layers of an encoder or a decoder."""

    layers: tuple[Layer, ...]
    placement: str  # of nn.norms.PLACEMENTS
    activation: str
    norm: str | None  # of what the last layer gives
    recurrent: bool = False  # an SSRU in place of self-attention


@dataclass(frozen=True)
class Plan:
    names: Names
    source: Tokens | Spectrum
    encoder: Stack
    target: Tokens
    decoder: Stack
    output: str | None  # a linear layer; None if it is tied to the decoder's embedding
    norm: NormTraits  # of norms with beta
    bos: int | None
    eos: int
    unk: int | None
    bare_norm: NormTraits | None = None  # of norms without beta; None if they must have it
    output_bias: str | None = None  # of an output that is tied, or whose name has no bias
    output_scale: float = 1.0  # what the last norm's features are multiplied by
    ignored: Mapping[str, Ignored] = field(default_factory=dict)
    """What need not be read, by patterns of names; what is left beside it is an error."""
    defaults: Mapping[str, Any] = field(default_factory=dict)
    """How the model's folder asks for it to be decoded, by the names of options."""
    copies: Mapping[str, str] = field(default_factory=dict)
    """Tensors that may be there once more, and what they must be the same as."""


def heads_of(width: int, count: int, keys: int | None = None) -> Heads:
    """Heads that a width divides into.

    Raises
    ------
    ValueError
        It does not.
    """
    if count < 1 or width % count:
        raise ValueError(f"width {width} does not divide into {count} heads")
    return Heads(count, keys or count, width // count)
