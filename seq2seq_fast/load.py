"""load(): from a published model's files to an EncoderDecoder."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from .formats import marian
from .layers import SSRU, Embedding, FeedForward, LayerNorm, Linear, MultiHeadAttention
from .transformer import DecoderLayer, EncoderDecoder, EncoderLayer

Array = np.ndarray[Any, Any]

__all__ = ["load"]

MARIAN_EOS, MARIAN_UNK = 0, 1  # by convention the first two of a Marian vocabulary
LAYER_NORM_EPS = 1e-6


def load(path: str | os.PathLike[str]) -> EncoderDecoder:
    """Load a published encoder-decoder model.

    Parameters
    ----------
    path : path
        A Marian binary file (``model.*.bin``), or the folder that holds one. Read so far: the
        Transformer encoder with SSRU decoder of the Firefox and Bergamot "tiny" and "base" models.

    Returns
    -------
    EncoderDecoder

    Raises
    ------
    FileNotFoundError
        Nothing is there.
    ValueError
        The file is not such a model, is damaged, or misses a tensor; the message names it.
    """
    file = _model_file(Path(path))
    return _MarianBuilder(file, marian.read(file)).model()


def _model_file(path: Path) -> Path:
    if not path.is_dir():
        if not path.exists():
            raise FileNotFoundError(f"{path}: no such model file or folder")
        return path
    found = sorted(path.glob("model*.bin"))
    if len(found) != 1:
        names = ", ".join(file.name for file in found) or "none"
        raise FileNotFoundError(f"{path}: expected one model*.bin in this folder; found {names}")
    return found[0]


class _MarianBuilder:
    """Puts the named arrays of a Marian file into layers, checking each shape."""

    def __init__(self, file: Path, read: marian.MarianModel) -> None:
        self.file = file
        self.config = read.config
        self.tensors = read.tensors
        self.embeddings = self.tensor("Wemb", None, None)
        self.width = self.embeddings.shape[1]
        self.require("transformer-decoder-autoreg", "rnn")
        self.require("dec-cell", "ssru")
        self.require("transformer-postprocess", "dan", "an")
        self.require("transformer-ffn-activation", "relu")
        self.require("tied-embeddings-all", "true")
        self.heads = self.integer("transformer-heads")
        if self.width % (2 * self.heads):
            raise self.fail(f"width {self.width} does not divide into {self.heads} heads")

    def model(self) -> EncoderDecoder:
        encoder = tuple(
            EncoderLayer(
                self.attention(f"encoder_l{i}_self"),
                self.norm(f"encoder_l{i}_self_Wo"),
                self.feed_forward(f"encoder_l{i}_ffn"),
                self.norm(f"encoder_l{i}_ffn_ffn"),
            )
            for i in range(1, 1 + self.integer("enc-depth"))
        )
        decoder = tuple(
            DecoderLayer(
                self.recurrent(f"decoder_l{i}_rnn"),
                self.norm(f"decoder_l{i}_rnn_ffn"),
                self.attention(f"decoder_l{i}_context"),
                self.norm(f"decoder_l{i}_context_Wo"),
                self.feed_forward(f"decoder_l{i}_ffn"),
                self.norm(f"decoder_l{i}_ffn_ffn"),
            )
            for i in range(1, 1 + self.integer("dec-depth"))
        )
        vocabulary = self.embeddings.shape[0]
        output = Linear(
            np.ascontiguousarray(self.embeddings.T),
            self.tensor("decoder_ff_logit_out_b", 1, vocabulary)[0],
        )
        return EncoderDecoder(
            Embedding(self.embeddings), encoder, decoder, output, MARIAN_EOS, MARIAN_UNK
        )

    def attention(self, name: str) -> MultiHeadAttention:
        query, key, value, output = (
            Linear(
                self.tensor(f"{name}_W{part}", self.width, self.width),
                self.tensor(f"{name}_b{part}", 1, self.width)[0],
            )
            for part in "qkvo"
        )
        return MultiHeadAttention(query, Linear.side_by_side(key, value), output, self.heads)

    def feed_forward(self, name: str) -> FeedForward:
        up = self.tensor(f"{name}_W1", self.width, None)
        inner = up.shape[1]
        down = self.tensor(f"{name}_W2", inner, self.width)
        return FeedForward(
            Linear(up, self.tensor(f"{name}_b1", 1, inner)[0]),
            Linear(down, self.tensor(f"{name}_b2", 1, self.width)[0]),
        )

    def recurrent(self, name: str) -> SSRU:
        candidate = Linear(self.tensor(f"{name}_W", self.width, self.width))
        forget = Linear(
            self.tensor(f"{name}_Wf", self.width, self.width),
            self.tensor(f"{name}_bf", 1, self.width)[0],
        )
        return SSRU(Linear.side_by_side(candidate, forget))

    def norm(self, name: str) -> LayerNorm:
        gamma = self.tensor(f"{name}_ln_scale", 1, self.width)[0]
        beta = self.tensor(f"{name}_ln_bias", 1, self.width)[0]
        return LayerNorm(gamma, beta, LAYER_NORM_EPS)

    def tensor(self, name: str, rows: int | None, columns: int | None) -> Array:
        """A matrix of the file; None stands for any length but 0."""
        if name not in self.tensors:
            raise self.fail(f"tensor {name} is missing")
        array = self.tensors[name]
        fits = len(array.shape) == 2 and all(
            have == want if want else have > 0
            for have, want in zip(array.shape, (rows, columns), strict=True)
        )
        if not fits:
            wanted = ", ".join(str(n or "any") for n in (rows, columns))
            raise self.fail(f"tensor {name} has the shape {array.shape}, expected ({wanted})")
        return array

    def require(self, key: str, *known: str) -> None:
        have = self.config.get(key)
        if have not in known:
            raise self.fail(f"{marian.CONFIG_NAME} says {key}: {have}; read so far: {known}")

    def integer(self, key: str) -> int:
        have = self.config.get(key, "")
        if not (have.isascii() and have.isdigit() and 1 <= int(have) <= 1000):
            raise self.fail(f"{marian.CONFIG_NAME} says {key}: {have!r}, expected 1 to 1000")
        return int(have)

    def fail(self, what: str) -> ValueError:
        return ValueError(f"{self.file}: {what}")
