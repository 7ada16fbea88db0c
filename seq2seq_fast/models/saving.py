"""save(): a model in one file of the package's own, which loads by memory mapping.

The file is safetensors. Its metadata have, under "seq2seq_fast", a JSON text of the parts that the
model is made of, by the names of their classes and fields; {"tensor": name} stands for an array.
Matrices lie packed as the kernel reads them, so that nothing is left to do when the file is loaded.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import reprlib
import types
import typing
from pathlib import Path
from typing import Any

import numpy as np

from ..aligned import aligned_zeros
from ..nn.attention import CrossAttention, Heads, SelfAttention
from ..nn.decoder import Decoder, DecoderLayer
from ..nn.encoder import Encoder, EncoderLayer
from ..nn.feed_forward import FeedForward
from ..nn.linear import Convolution, Linear
from ..nn.norms import Norm, NormPlace
from ..nn.positions import LearnedPositions, Sinusoids
from ..nn.sources import Embedding, SpectrumEmbedding
from ..nn.ssru import SSRU
from ..nn.weights import Matrix
from .encoder_decoder import EncoderDecoder
from .formats import safetensors

__all__ = ["restore", "save"]

Array = np.ndarray[Any, Any]

KEY = "seq2seq_fast"
VERSION = 1
MOST_FLOAT = float(np.finfo(np.float32).max)

_PARTS: dict[str, type] = {
    part.__name__: part
    for part in (
        Matrix, Linear, Convolution, Norm, Sinusoids, LearnedPositions, Embedding,
        SpectrumEmbedding, FeedForward, Heads, SelfAttention, CrossAttention, SSRU, NormPlace,
        EncoderLayer, DecoderLayer, Encoder, Decoder, EncoderDecoder,
    )
}  # fmt: skip


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
            fields = {
                field.name: described(getattr(part, field.name), f"{name}.{field.name}".strip("."))
                for field in dataclasses.fields(part)
            }
            return {"part": type(part).__name__, **fields}
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
        if found["version"] != VERSION:
            raise ValueError(f"is of version {found['version']!r}, read is {VERSION}")
        model = _built(found["model"], EncoderDecoder, tensors)
    except KeyError as error:
        raise ValueError(f"{path}: not a model of seq2seq_fast: {error} is missing") from None
    except (ValueError, TypeError, RecursionError) as error:
        raise ValueError(f"{path}: {error}") from None
    return model


def _kept(array: Array) -> Array:
    """A mapped array, copied unless it is a matrix's panels, which have more than two axes. What is
    small then stays whole whatever becomes of the file, and all begins with a cache line."""
    if array.ndim > 2 and array.__array_interface__["data"][0] % safetensors.ALIGNMENT == 0:
        return array
    copy = aligned_zeros(array.shape, array.dtype)
    copy[...] = array
    return copy


@functools.cache
def _hints(part: type) -> dict[str, Any]:
    return typing.get_type_hints(part)


def _built(described: Any, hint: Any, tensors: dict[str, Array]) -> Any:
    """What a description stands for, which must be of the type that a field has."""
    kinds = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    plain = [typing.get_origin(kind) or kind for kind in kinds]
    if isinstance(described, dict) and "tensor" in described and np.ndarray in plain:
        return tensors[described["tensor"]]
    if isinstance(described, dict) and described.get("part") in _PARTS:
        part = _PARTS[described["part"]]
        if part in plain:
            hints = _hints(part)
            if set(described) != {"part", *hints}:
                raise ValueError(f"{part.__name__} has the fields {sorted(described)}")
            return part(**{name: _built(described[name], hints[name], tensors) for name in hints})
    if isinstance(described, list) and tuple in plain:
        (kind,) = (kind for kind in kinds if typing.get_origin(kind) is tuple)
        return tuple(_built(one, typing.get_args(kind)[0], tensors) for one in described)
    if described is None and types.NoneType in plain:
        return None
    if type(described) in plain:
        if isinstance(described, float) and not abs(described) <= MOST_FLOAT:
            raise ValueError(f"holds the number {described}, which is no float32")
        return described
    raise ValueError(f"holds {reprlib.repr(described)} where {hint} was expected")
