"""save(): a model in one file of the package's own, which loads by memory mapping.

The file is safetensors. Its metadata have, under "seq2seq_fast", a JSON text of the parts that the
model is made of: {"part": name, field: value ...}, where {"tensor": name} stands for an array. The
names are the format's own, whatever the classes and their fields are called. Matrices lie packed as
the kernel reads them, so that nothing is left to do when the file is loaded.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import reprlib
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np

from ..aligned import aligned_zeros
from ..nn.attention import CrossAttention, Heads, SelfAttention
from ..nn.decoder import Decoder, DecoderLayer
from ..nn.encoder import Encoder, EncoderLayer
from ..nn.feed_forward import FeedForward
from ..nn.linear import Convolution, Linear
from ..nn.norms import Norm, SublayerNorm
from ..nn.positions import LearnedPositions, RelativeBias, Sinusoids
from ..nn.sources import Embedding, SpectrumEmbedding
from ..nn.ssru import SSRU
from ..nn.weights import Matrix
from .encoder_decoder import EncoderDecoder
from .formats import safetensors

__all__ = ["restore", "save"]

Array = np.ndarray[Any, Any]

KEY = "seq2seq_fast"
VERSION = 2
MAX_FLOAT = float(np.finfo(np.float32).max)


class _Format:
    """How a class is written: the names that its fields have in a file, those that are the same
    here, then those that are not, as name=field."""

    def __init__(self, part: type, *same: str, **others: str) -> None:
        self.part = part
        self.fields = {**{name: name for name in same}, **others}
        every = {field.name: field for field in dataclasses.fields(part)}
        if set(self.fields.values()) != set(every):
            raise TypeError(f"{part.__name__} has the fields {sorted(every)}")
        self.required = {
            name
            for name, field in self.fields.items()
            if every[field].default is dataclasses.MISSING
            and every[field].default_factory is dataclasses.MISSING
        }

    @functools.cached_property
    def hints(self) -> dict[str, Any]:
        """The types of the class's fields."""
        return typing.get_type_hints(self.part)

    def built(self, name: str, described: dict[str, Any], tensors: dict[str, Array]) -> Any:
        """An object of what a file says of it; a field that it lacks has its default."""
        given = described.keys() - {"part"}
        if not self.required <= given <= self.fields.keys():
            raise ValueError(f"{name} has the fields {sorted(given)}")
        return self.part(
            **{
                field: _built(described[key], self.hints[field], tensors)
                for key, field in self.fields.items()
                if key in given
            }
        )


_FORMATS: dict[str, _Format] = {
    "Matrix": _Format(Matrix, "panels", "inputs", "outputs", "scales", "input_scale"),
    "Linear": _Format(Linear, "matrix", "bias"),
    "Convolution": _Format(Convolution, "linear", "kernel", "stride"),
    "Norm": _Format(Norm, "gamma", "beta", "eps", "kind"),
    "SublayerNorm": _Format(SublayerNorm, "norm", "placement", "second"),
    "Sinusoids": _Format(Sinusoids, "width", "first", "endpoint"),
    "RelativeBias": _Format(RelativeBias, "table", "bidirectional", "max_distance"),
    "LearnedPositions": _Format(LearnedPositions, "table"),
    "Embedding": _Format(Embedding, "matrix", "scale", "positions", "norm", "norm_first"),
    "SpectrumEmbedding": _Format(
        SpectrumEmbedding, "first", "second", "positions", "activation"
    ),
    "FeedForward": _Format(FeedForward, "up", "down", "activation", "gate"),
    "Heads": _Format(Heads, "count", "keys", "width", "scale"),
    "SelfAttention": _Format(SelfAttention, "projection", "output", "heads", "bias"),
    "CrossAttention": _Format(CrossAttention, "query", "key_value", "output", "heads"),
    "SSRU": _Format(SSRU, "gates"),
    "EncoderLayer": _Format(
        EncoderLayer, "attention", "attention_norm", "feed_forward", "feed_forward_norm"
    ),
    "DecoderLayer": _Format(
        DecoderLayer, "past", "past_norm", "attention", "attention_norm", "feed_forward",
        "feed_forward_norm",
    ),
    "Encoder": _Format(Encoder, "embedding", "layers", "norm"),
    "Decoder": _Format(Decoder, "embedding", "layers", "output", "norm"),
    "EncoderDecoder": _Format(
        EncoderDecoder, "encoder", "decoder", "bos", "eos", "unk", "defaults"
    ),
}  # fmt: skip
"""By the names that parts have in a file. A name, once written, stays: what is renamed in the
package changes its place here alone, and a field that is new has a default."""

_NAMES = {format_.part: name for name, format_ in _FORMATS.items()}


def save(model: EncoderDecoder, path: str | os.PathLike[str]) -> None:
    """Write a model to one file, which load() reads by mapping it into memory.

    Parameters
    ----------
    model : EncoderDecoder
        With its weights as they are: to change their type, load them so.
    path : path
        Ending in ``.safetensors``. An existing file is replaced once the new one is whole.

    Raises
    ------
    ValueError
        The path does not end so.
    OSError
        The file cannot be written.

    Examples
    --------
    >>> from seq2seq_fast import load
    >>> from seq2seq_fast.demo import find_translation_model
    >>> save(load(find_translation_model("pt"), weights="int8"), "model.safetensors")
    >>> load("model.safetensors").vocabulary_size
    32000
    """
    if Path(path).suffix != ".safetensors":
        raise ValueError(f"path must end in .safetensors; got {os.fspath(path)!r}")
    tensors: dict[str, Array] = {}
    names: dict[tuple[int, tuple[int, ...]], str] = {}  # an array that is shared is written once

    def described(part: Any, name: str) -> Any:
        if isinstance(part, np.ndarray):
            place = (part.__array_interface__["data"][0], part.shape)
            if place not in names:
                names[place] = name
                tensors[name] = part
            return {"tensor": names[place]}
        if isinstance(part, tuple):
            return [described(one, f"{name}.{i}") for i, one in enumerate(part)]
        if dataclasses.is_dataclass(part):
            kind = _NAMES[type(part)]
            fields = {
                key: described(getattr(part, field), f"{name}.{key}".strip("."))
                for key, field in _FORMATS[kind].fields.items()
            }
            return {"part": kind, **fields}
        return part

    text = json.dumps({"version": VERSION, "model": described(model, "")})
    safetensors.write(path, tensors, {KEY: text})


def is_saved(path: Path) -> bool:
    """Whether save() wrote a safetensors file.

    Raises
    ------
    ValueError
        It is no such file.
    """
    return KEY in safetensors.entries(path).metadata


def restore(path: Path) -> EncoderDecoder:
    """The model that save() wrote.

    Raises
    ------
    ValueError
        The file is not such a model, or is damaged; the message names it.
    """
    metadata, mapped = safetensors.read(path)
    tensors = {name: _kept(array) for name, array in mapped.items()}
    try:
        found = json.loads(metadata[KEY])
        version, model = found["version"], found["model"]
        if version not in (1, VERSION):
            raise ValueError(f"is of version {version!r}, read are 1 to {VERSION}")
        if version == 1:
            model = _from_version_1(model)
        return cast(EncoderDecoder, _built(model, EncoderDecoder, tensors))
    except KeyError as error:
        raise ValueError(f"{path}: not a model of seq2seq_fast: {error} is missing") from None
    except (ValueError, TypeError, RecursionError) as error:
        raise ValueError(f"{path}: {error}") from None


def _kept(array: Array) -> Array:
    """A mapped array, copied unless it is a matrix's panels, which have more than two axes. What is
    small then stays whole whatever becomes of the file, and all begins with a cache line."""
    if array.ndim > 2 and array.__array_interface__["data"][0] % safetensors.ALIGNMENT == 0:
        return array
    copy = aligned_zeros(array.shape, array.dtype)
    copy[...] = array
    return copy


def _from_version_1(described: Any) -> Any:
    """What a description of version 1 is now: a norm without beta was RMS norm, and where it stands
    was a flag."""
    if isinstance(described, list):
        return [_from_version_1(one) for one in described]
    if not isinstance(described, dict):
        return described
    described = {name: _from_version_1(one) for name, one in described.items()}
    if described.get("part") == "Norm":
        described["kind"] = "rms" if described["beta"] is None else "layer"
    if described.get("part") == "NormPlace":
        pre = described.pop("pre")
        if type(pre) is not bool:
            raise ValueError(f"holds {reprlib.repr(pre)} where {bool} was expected")
        described |= {"part": "SublayerNorm", "placement": "pre" if pre else "post"}
    return described


def _built(described: Any, hint: Any, tensors: dict[str, Array]) -> Any:
    """What a description stands for, which must be of the type that a field has."""
    kinds = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    plain = [typing.get_origin(kind) or kind for kind in kinds]
    if isinstance(described, dict) and "tensor" in described and np.ndarray in plain:
        return tensors[described["tensor"]]
    if isinstance(described, dict) and described.get("part") in _FORMATS:
        name = described["part"]
        if _FORMATS[name].part in plain:
            return _FORMATS[name].built(name, described, tensors)
    if isinstance(described, list) and tuple in plain:
        (kind,) = (kind for kind in kinds if typing.get_origin(kind) is tuple)
        return tuple(_built(one, typing.get_args(kind)[0], tensors) for one in described)
    if isinstance(described, dict) and Mapping in plain:
        return described  # options, which are checked by what they are given to
    if described is None and types.NoneType in plain:
        return None
    if type(described) in plain:
        if isinstance(described, float) and not abs(described) <= MAX_FLOAT:
            raise ValueError(f"holds the number {described}, which is no float32")
        return described
    raise ValueError(f"holds {reprlib.repr(described)} where {hint} was expected")
