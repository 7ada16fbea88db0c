"""load(): from a published model's files to an EncoderDecoder."""

from __future__ import annotations

import json
import math
import os
import reprlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ..nn.attention import CrossAttention, Heads, SelfAttention
from ..nn.decoder import Decoder, DecoderLayer
from ..nn.encoder import Encoder, EncoderLayer
from ..nn.feed_forward import FeedForward
from ..nn.linear import Convolution, Linear
from ..nn.norms import Norm, SublayerNorm
from ..nn.positions import LearnedPositions, Sinusoids
from ..nn.sources import Embedding, SpectrumEmbedding
from ..nn.ssru import SSRU
from ..nn.weights import WEIGHTS, Matrix, Rows
from ..pickling import Origin
from .encoder_decoder import EncoderDecoder
from .formats import ctranslate2, huggingface, marian, sniff
from .formats.stored import Stored
from .saving import is_saved, restore

if TYPE_CHECKING:
    from .formats.npz import Deflated

Array = np.ndarray[Any, Any]

__all__ = ["load"]

MOST_LAYERS = 1000

# What is the same in all models of Whisper.
WHISPER_TOKENS = {"eos_token": "<|endoftext|>", "decoder_start_token": "<|startoftranscript|>"}
WHISPER_KERNEL = 3  # of its convolutions


def load(path: str | os.PathLike[str], *, weights: str | None = None) -> EncoderDecoder:
    """Load a published encoder-decoder model.

    Parameters
    ----------
    path : path
        A file of any name, or the folder that holds one: Marian's ``model*.bin`` and ``model*.npz``
        (Transformers, with self-attention or SSRU in the decoder), CTranslate2's ``model.bin`` of a
        Transformer or of Whisper, Hugging Face's folder of Whisper (``model.safetensors``, also in
        parts), and what save() wrote.
    weights : {"float32", "float16", "int8"}, optional
        What the matrices are kept as; as they are in the file if left out.

    Returns
    -------
    EncoderDecoder

    Raises
    ------
    FileNotFoundError
        Nothing is there.
    ValueError
        The file is not such a model, is damaged, or misses a tensor; the message names it.

    References
    ----------
    Junczys-Dowmunt et al., "Marian: Fast Neural Machine Translation in C++", 2018. The formats are
    those of the projects' own readers and writers: marian-nmt/marian-dev, OpenNMT/CTranslate2,
    huggingface/transformers.

    Examples
    --------
    >>> from seq2seq_fast.text.translator import find_model
    >>> load(find_model("pt"), weights="float32").vocabulary_size
    32000
    """
    if weights is not None and weights not in WEIGHTS:
        raise ValueError(f"weights must be one of {', '.join(WEIGHTS)}; got {weights!r}")
    file = model_file(Path(path))
    in_parts = file.name == huggingface.INDEX
    arguments = {"path": os.path.abspath(path), "weights": weights}
    origin = Origin(load, arguments, _files_of(file))
    kind = sniff.SAFETENSORS if in_parts else sniff.expect(file, *_BUILDERS)
    if kind == sniff.SAFETENSORS and not in_parts and is_saved(file):
        if weights is not None:
            raise ValueError(f"{file}: weights must be left out: they are as they were saved")
        return origin.of(restore(file))
    try:
        return origin.of(_BUILDERS[kind](file, weights).model())
    except ValueError as error:
        # What the parts of a model themselves find amiss does not name the file.
        named = any(str(error).startswith(f"{one}: ") for one in file.parent.iterdir())
        raise error if named else ValueError(f"{file}: {error}") from None


def model_file(path: Path) -> Path:
    """The file that load(path) reads.

    Raises
    ------
    FileNotFoundError
        Nothing is there, or too much.
    """
    if not path.is_dir():
        if not path.exists():
            raise FileNotFoundError(f"{path}: no such model file or folder")
        return path
    index = path / huggingface.INDEX
    if index.exists():
        return index
    found = sorted(
        file for end in ("bin", "npz", "safetensors") for file in path.glob(f"model*.{end}")
    )
    if not found and (path / "model").is_dir():  # a package of argos translate
        return model_file(path / "model")
    if len(found) != 1:
        names = ", ".join(file.name for file in found) or "none"
        raise FileNotFoundError(
            f"{path}: expected one model*.bin, .npz or .safetensors in this folder; found {names}"
        )
    return found[0]


def _files_of(file: Path) -> list[Path]:
    """All files that a model is made of: its weights, what they are listed in or described by."""
    beside = ["config.json", "*vocabulary.json", "*vocabulary.txt"]
    if file.name == huggingface.INDEX:
        beside.append("*.safetensors")
    return [file, *(found for pattern in beside for found in sorted(file.parent.glob(pattern)))]


class _Builder:
    """What the builders of all formats share: named tensors, their checks, and their errors."""

    def __init__(self, file: Path, weights: str | None) -> None:
        self.file = file
        self.weights = weights

    def fail(self, what: str) -> ValueError:
        return ValueError(f"{self.file}: {what}")

    def fits(self, name: str, shape: tuple[int, ...], expected: tuple[int | None, ...]) -> None:
        """Raises unless the shape is the expected one, None for any length but 0."""
        fine = len(shape) == len(expected) and all(
            have == want if want else have > 0 for have, want in zip(shape, expected, strict=True)
        )
        if not fine:
            wanted = ", ".join(str(n or "any") for n in expected)
            raise self.fail(f"tensor {name} has the shape {shape}, expected ({wanted})")

    def positions(self, name: str, table: Stored, width: int) -> LearnedPositions:
        self.fits(name, table.shape, (None, width))
        return LearnedPositions(np.asarray(table).astype(np.float32, copy=False))

    def packed(self, rows: Rows) -> Matrix:
        """Float weights (outputs, inputs)."""
        if self.weights == "int8":
            return Matrix.quantise(rows)
        return Matrix.pack(rows, None if self.weights is None else np.dtype(self.weights))

    def kept(self, matrix: Matrix) -> Matrix:
        return matrix if self.weights is None else matrix.to(self.weights)

    def side_by_side(self, names: str, *layers: Linear) -> Linear:
        try:
            return Linear.side_by_side(*layers)
        except ValueError as error:
            raise self.fail(f"{names}: {error}") from None

    def convolution(self, name: str, stored: Stored) -> Array:
        """Weights (outputs, inputs, kernel) as those of a linear layer."""
        self.fits(name, stored.shape, (None, None, WHISPER_KERNEL))
        rows = np.asarray(stored)
        return np.ascontiguousarray(rows.swapaxes(1, 2)).reshape(len(rows), -1)

    def divided(self, width: int, heads: int, key_heads: int | None = None) -> Heads:
        if heads < 1 or width % heads:
            raise self.fail(f"width {width} does not divide into {heads} heads")
        return Heads(heads, key_heads or heads, width // heads)


# ---- Marian ----


class _MarianBuilder(_Builder):
    EOS, UNK = 0, 1  # by convention the first two of a Marian vocabulary
    NORM_EPS = 1e-6
    ACTIVATIONS: ClassVar[dict[str | None, str]] = {
        "relu": "relu", "swish": "silu", "gelu": "gelu_sigmoid"
    }  # fmt: skip

    PLACEMENTS: ClassVar[dict[tuple[str, str], str]] = {
        ("n", "a"): "pre", ("", "an"): "post", ("n", "an"): "both"
    }  # fmt: skip
    """By what happens before a sublayer and after it: a norm, the addition of its input."""

    def __init__(self, file: Path, weights: str | None) -> None:
        super().__init__(file, weights)
        read = marian.read(file)
        self.config, self.tensors = read.config, read.tensors
        self.require("type", "transformer")
        autoregressive = self.config.get("transformer-decoder-autoreg", "self-attention")
        self.recurrent_decoder = autoregressive == "rnn"
        if self.recurrent_decoder:
            self.require("dec-cell", "ssru")
        else:
            self.require("transformer-decoder-autoreg", "self-attention", None)
        self.require("transformer-train-position-embeddings", "false", None)
        self.require("transformer-ffn-depth", "2", None)
        self.require("transformer-tied-layers", "[]", None)
        self.require("transformer-no-projection", "false", None)
        activation = self.require("transformer-ffn-activation", *self.ACTIVATIONS)
        self.activation = self.ACTIVATIONS[activation]
        before = self.places("transformer-preprocess")
        after = self.places("transformer-postprocess")
        if (before, after) not in self.PLACEMENTS:
            raise self.fail(f"norms stand in a way that is not known: {before=}, {after=}")
        self.placement = self.PLACEMENTS[before, after]
        self.top = self.norm_or_none("transformer-postprocess-top")
        self.embedding_norm = self.norm_or_none("transformer-postprocess-emb")
        if "Wemb" in self.tensors:
            self.source_embeddings = self.target_embeddings = self.embedding_matrix("Wemb")
        else:
            self.source_embeddings = self.embedding_matrix("encoder_Wemb")
            self.target_embeddings = self.embedding_matrix("decoder_Wemb")
        self.width = self.source_embeddings.inputs
        if self.target_embeddings.inputs != self.width or self.width % 2 or self.width < 4:
            raise self.fail(
                f"embeddings have {self.width} and {self.target_embeddings.inputs} features"
            )
        self.heads = self.divided(self.width, self.integer("transformer-heads"))

    def model(self) -> EncoderDecoder:
        encoder = tuple(
            EncoderLayer(
                self.self_attention(f"encoder_l{i}_self"),
                self.norm(f"encoder_l{i}_self_Wo"),
                self.feed_forward(f"encoder_l{i}_ffn"),
                self.norm(f"encoder_l{i}_ffn_ffn"),
            )
            for i in range(1, 1 + self.integer("enc-depth"))
        )
        decoder = tuple(
            DecoderLayer(
                self.recurrent(f"decoder_l{i}_rnn")
                if self.recurrent_decoder
                else self.self_attention(f"decoder_l{i}_self"),
                self.norm(
                    f"decoder_l{i}_rnn_ffn" if self.recurrent_decoder else f"decoder_l{i}_self_Wo"
                ),
                self.cross_attention(f"decoder_l{i}_context"),
                self.norm(f"decoder_l{i}_context_Wo"),
                self.feed_forward(f"decoder_l{i}_ffn"),
                self.norm(f"decoder_l{i}_ffn_ffn"),
            )
            for i in range(1, 1 + self.integer("dec-depth"))
        )
        return EncoderDecoder(
            Encoder(
                self.embedding("encoder", self.source_embeddings), encoder, self.top_norm("encoder")
            ),
            Decoder(
                self.embedding("decoder", self.target_embeddings),
                decoder,
                self.output(),
                self.top_norm("decoder"),
            ),
            bos=None,
            eos=self.EOS,
            unk=self.UNK,
        )

    def embedding(self, side: str, matrix: Matrix) -> Embedding:
        norm = None
        if self.embedding_norm:
            gamma = self.vector(f"{side}_emb_ln_scale_pre", self.width)
            beta = self.vector(f"{side}_emb_ln_bias_pre", self.width)
            norm = Norm(gamma, beta, self.NORM_EPS)
        return Embedding(matrix, math.sqrt(self.width), Sinusoids(self.width), norm)

    def output(self) -> Linear:
        vocabulary = self.target_embeddings.outputs
        bias = self.vector("decoder_ff_logit_out_b", vocabulary)
        if "decoder_ff_logit_out_W" in self.tensors:
            return Linear(self.matrix("decoder_ff_logit_out_W", self.width, vocabulary), bias)
        self.require("tied-embeddings-all" if "Wemb" in self.tensors else "tied-embeddings", "true")
        scale = self.input_scale("none") if self.target_embeddings.is_integer else 0.0
        matrix = self.target_embeddings
        return Linear(
            Matrix(matrix.panels, matrix.inputs, matrix.outputs, matrix.scales, scale), bias
        )

    def self_attention(self, name: str) -> SelfAttention:
        return SelfAttention(
            self.side_by_side(name, *(self.linear(name, part) for part in "qkv")),
            self.linear(name, "o"),
            self.heads,
        )

    def cross_attention(self, name: str) -> CrossAttention:
        return CrossAttention(
            self.linear(name, "q"),
            self.side_by_side(name, self.linear(name, "k"), self.linear(name, "v")),
            self.linear(name, "o"),
            self.heads,
        )

    def feed_forward(self, name: str) -> FeedForward:
        up = self.linear(name, "1", outputs=None)
        down = self.linear(name, "2", inputs=up.matrix.outputs)
        return FeedForward(up, down, self.activation)

    def recurrent(self, name: str) -> SSRU:
        candidate = Linear(self.matrix(f"{name}_W", self.width, self.width))
        forget = Linear(
            self.matrix(f"{name}_Wf", self.width, self.width), self.vector(f"{name}_bf", self.width)
        )
        return SSRU(self.side_by_side(name, candidate, forget))

    def linear(
        self, name: str, part: str, *, inputs: int | None = 0, outputs: int | None = 0
    ) -> Linear:
        """W and b of one part; 0 stands for the model's width."""
        matrix = self.matrix(
            f"{name}_W{part}",
            self.width if inputs == 0 else inputs,
            self.width if outputs == 0 else outputs,
        )
        return Linear(matrix, self.vector(f"{name}_b{part}", matrix.outputs))

    def norm(self, name: str) -> SublayerNorm:
        def one(suffix: str) -> Norm:
            gamma = self.vector(f"{name}_ln_scale{suffix}", self.width)
            beta = self.vector(f"{name}_ln_bias{suffix}", self.width)
            return Norm(gamma, beta, self.NORM_EPS)

        if self.placement == "both":
            return SublayerNorm(one("_pre"), "both", one(""))
        return SublayerNorm(one("_pre" if self.placement == "pre" else ""), self.placement)

    def top_norm(self, name: str) -> Norm | None:
        if not self.top:
            return None
        gamma = self.vector(f"{name}_top_ln_scale", self.width)
        return Norm(gamma, self.vector(f"{name}_top_ln_bias", self.width), self.NORM_EPS)

    def matrix(self, name: str, inputs: int | None, outputs: int | None) -> Matrix:
        tensor = self.tensor(name)
        self.fits(name, marian.shape_of(tensor), (inputs, outputs))
        if isinstance(tensor, marian.Quantised):
            scale = self.input_scale(name)
            return self.kept(Matrix.pack_integers(tensor.rows, tensor.multiplier, scale))
        return self.packed(np.asarray(tensor).T)

    def embedding_matrix(self, name: str) -> Matrix:
        """Token vectors."""
        tensor = self.tensor(name)
        if isinstance(tensor, marian.Quantised):
            self.fits(name, tensor.shape, (None, None))
            return self.kept(Matrix.pack_integers(tensor.rows, tensor.multiplier))
        self.fits(name, tensor.shape, (None, None))
        return self.packed(tensor if isinstance(tensor, Stored) else np.asarray(tensor))

    def input_scale(self, name: str) -> float:
        """What a published model multiplies the inputs of a matrix by; 0 if it does not say."""
        name = f"{name}_QuantMultA"
        if name not in self.tensors:
            return 0.0
        tensor = self.tensors[name]
        if isinstance(tensor, marian.Quantised) or tensor.size != 1:
            raise self.fail(
                f"tensor {name} has the shape {marian.shape_of(tensor)}, expected (1, 1)"
            )
        scale = float(np.asarray(tensor).reshape(()))
        if not (math.isfinite(scale) and scale > 0):
            raise self.fail(f"tensor {name} is {scale}, expected a positive number")
        return scale

    def vector(self, name: str, length: int) -> Array:
        tensor = self.tensor(name)
        self.fits(name, marian.shape_of(tensor), (1, length))
        if isinstance(tensor, marian.Quantised):
            raise self.fail(f"tensor {name} is quantised, expected float32")
        return np.asarray(tensor)[0]

    def tensor(self, name: str) -> Stored | Deflated | marian.Quantised:
        if name not in self.tensors:
            raise self.fail(f"tensor {name} is missing")
        return self.tensors[name]

    def require(self, key: str, *known: str | None) -> str | None:
        have = self.config.get(key)
        if have not in known:
            expected = tuple(one for one in known if one is not None)
            raise self.fail(f"{marian.CONFIG_NAME} says {key}: {have}; read so far: {expected}")
        return have

    def places(self, key: str) -> str:
        """What happens before or after a sublayer, dropout apart."""
        return self.config.get(key, "").replace("d", "")

    def norm_or_none(self, key: str) -> bool:
        if self.places(key) not in ("", "n"):
            raise self.fail(f"{marian.CONFIG_NAME} says {key}: {self.config[key]}; known are n, d")
        return self.places(key) == "n"

    def integer(self, key: str) -> int:
        have = self.config.get(key, "")
        if not (have.isascii() and have.isdigit() and 1 <= int(have) <= MOST_LAYERS):
            raise self.fail(
                f"{marian.CONFIG_NAME} says {key}: {have!r}, expected 1 to {MOST_LAYERS}"
            )
        return int(have)


# ---- CTranslate2 ----


class _CTranslate2Builder(_Builder):
    """What each attribute means, and what it is where it is missing, is as CTranslate2 4.8 has it:
    `src/layers/transformer.cc`, `attention_layer.cc`, `common.cc`, `src/models/transformer.cc`."""

    SPECS: ClassVar[dict[str, int]] = {"TransformerSpec": 7, "WhisperSpec": 3}
    """Kinds of model, and the latest revision of each."""
    ACTIVATIONS = ("relu", "gelu_tanh", "silu", "gelu", "gelu_sigmoid", "tanh", "sigmoid")
    NORM_EPS, RMS_NORM_EPS = 1e-5, 1e-6
    NEUTRAL: ClassVar[dict[str, float | None]] = {
        "alignment_heads": None, "alignment_layer": None,  # nothing is generated from these
        "alibi": 0, "alibi_use_positive_positions": None, "scale_alibi": None,
        "embeddings_merge": None,  # there is one source
        "final_logit_softcapping": 0,
        "layer_norm_use_residual": 0,
        "layer_scalar": 1,
        "multi_query": 0,
        "multi_query_attention": None,  # each layer says so again
        "multiply_by_sqrt_depth": None,  # scale_embeddings is in its place
        "rotary_dim": -1,
        "scale_outputs": 1,
        "sliding_window": 0,
        "start_from_zero_embedding": 0,  # of a transcript
        "with_relative_position": None,  # there would be tensors of them
    }  # fmt: skip
    """Attributes that change nothing: with the given value, or with any (None)."""

    def __init__(self, file: Path, weights: str | None) -> None:
        super().__init__(file, weights)
        read = ctranslate2.read(file)
        if read.spec not in self.SPECS:
            raise self.fail(f"is a {read.spec}; read so far: {', '.join(self.SPECS)}")
        if read.revision > self.SPECS[read.spec]:
            latest = self.SPECS[read.spec]
            raise self.fail(f"is of revision {read.revision}, read are those up to {latest}")
        self.is_speech = read.spec == "WhisperSpec"
        self.tensors = read.tensors
        self.used: set[str] = set()
        self.matrices: dict[int, Matrix] = {}
        self.vectors: dict[int, Array] = {}
        if not self.is_speech and read.revision < 5:
            self.divide_attributes()
        old = not self.is_speech and read.version < 6
        self.config = self.config_of_old() if old else self.read_config()
        self.eps = self.config.get("layer_norm_epsilon")
        if self.eps is not None and not (isinstance(self.eps, float) and 0 <= self.eps < 1):
            raise self.fail(f"config.json says layer_norm_epsilon: {self.eps!r}")

    def divide_attributes(self) -> None:
        """Encoder and decoder get what files said of both at once."""
        for key in ("num_heads", "pre_norm", "activation", "embeddings_merge",
                    "alignment_layer", "alignment_heads"):  # fmt: skip
            if key in self.tensors:
                value = self.tensors.pop(key)
                for side in ("encoder", "decoder"):
                    self.tensors.setdefault(f"{side}/{key}", value)

    def read_config(self) -> dict[str, Any]:
        path = self.file.with_name("config.json")
        return huggingface.read_json(path) if path.exists() else {}

    def config_of_old(self) -> dict[str, Any]:
        """What config.json says of a newer model."""
        config: dict[str, Any] = {
            "unk_token": self.text("unk_token", "<unk>"),
            "bos_token": self.text("bos_token", "<s>"),
            "eos_token": self.text("eos_token", "</s>"),
            "add_source_bos": self.flag("with_source_bos", False),
            "add_source_eos": self.flag("with_source_eos", False),
        }
        first = "bos_token" if self.flag("with_target_bos", True) else "eos_token"
        told = self.flag("user_decoder_start_tokens", False)
        config["decoder_start_token"] = None if told else config[first]
        return config

    def model(self) -> EncoderDecoder:
        encoder_embedding: Embedding | SpectrumEmbedding
        if self.is_speech:
            encoder_embedding = self.spectrum_embedding()
        else:
            only = "encoder/embeddings/weight" in self.tensors  # as older files have it
            encoder_embedding = self.embedding("encoder", "embeddings" if only else "embeddings_0")
        decoder_embedding = self.embedding("decoder", "embeddings")
        encoder = tuple(
            EncoderLayer(
                self.self_attention(f"{name}/self_attention", "encoder"),
                self.norm_place(f"{name}/self_attention", "encoder"),
                self.feed_forward(f"{name}/ffn", "encoder"),
                self.norm_place(f"{name}/ffn", "encoder"),
            )
            for name in self.layers("encoder")
        )
        decoder = tuple(
            DecoderLayer(
                self.self_attention(f"{name}/self_attention", "decoder"),
                self.norm_place(f"{name}/self_attention", "decoder"),
                self.cross_attention(f"{name}/attention", "decoder"),
                self.norm_place(f"{name}/attention", "decoder"),
                self.feed_forward(f"{name}/ffn", "decoder"),
                self.norm_place(f"{name}/ffn", "decoder"),
            )
            for name in self.layers("decoder")
        )
        output = self.linear("decoder/projection", decoder_embedding.width, None)
        tokens = self.vocabulary(output.matrix.outputs)
        if self.is_speech:  # whatever config.json says
            self.config |= WHISPER_TOKENS
        eos = self.token(tokens, "eos_token", "</s>")
        bos = None
        if self.is_speech or not self.flag("decoder/start_from_zero_embedding", False):
            bos = self.token(tokens, "decoder_start_token", "<s>")
        encoder_norm = self.norm("encoder/layer_norm", optional=True)
        decoder_norm = self.norm("decoder/layer_norm", optional=True)
        self.check_unused()
        return EncoderDecoder(
            Encoder(encoder_embedding, encoder, encoder_norm),
            Decoder(decoder_embedding, decoder, output, decoder_norm),
            bos=bos,
            eos=eos,
            unk=None,
        )

    def check_unused(self) -> None:
        """What is not understood must not be passed over: it would change every result."""
        for name in sorted(set(self.tensors) - self.used):
            key = name.rsplit("/")[-1]
            if key not in self.NEUTRAL:
                raise self.fail(f"has {name}, which is not read so far")
            value, neutral = self.number(name, 0), self.NEUTRAL[key]
            if neutral is not None and value != neutral:
                raise self.fail(f"has {name} {value:g}; read so far is {neutral:g}")

    def token(self, tokens: list[str], key: str, usual: str) -> int:
        """The id of a token that the configuration names."""
        name = self.config.get(key, usual)
        if name is None:
            raise self.fail(
                f"its {key} is null: the model has to be told the first token of each target, which"
                " is not read so far"
            )
        if name not in tokens:
            raise self.fail(f"its {key} is {name!r}, which is not in the vocabulary")
        return tokens.index(name)

    def vocabulary(self, size: int) -> list[str]:
        """The target tokens, from the file beside the model."""
        names = ("vocabulary",) if self.is_speech else ("shared_vocabulary", "target_vocabulary")
        for name in names:
            for path in (self.file.with_name(f"{name}{end}") for end in (".json", ".txt")):
                if path.exists():
                    tokens = read_vocabulary(path)
                    if len(tokens) < size:
                        raise ValueError(f"{path}: has {len(tokens)} tokens, expected {size}")
                    return tokens[:size]
        raise self.fail(f"there is no {' or '.join(names)} beside it")

    def layers(self, side: str) -> list[str]:
        names = {name.split("/")[1] for name in self.tensors if name.startswith(f"{side}/layer_")}
        count = len(names - {"layer_norm"})
        if not 1 <= count <= MOST_LAYERS:
            raise self.fail(f"{side} has {count} layers, expected 1 to {MOST_LAYERS}")
        return [f"{side}/layer_{i}" for i in range(count)]

    def embedding(self, side: str, name: str) -> Embedding:
        matrix = self.matrix(f"{side}/{name}", None, None)
        width = matrix.inputs
        scale = self.embedding_scale(side, width)
        positions: Sinusoids | LearnedPositions
        encodings = f"{side}/position_encodings/encodings"
        if encodings in self.tensors:
            positions = self.positions(encodings, self.tensor(encodings), width)
        else:
            if width % 2 or width < 4:
                raise self.fail(f"{side}: {width} features have no sinusoids")
            positions = Sinusoids(width, first=1)
        return Embedding(
            matrix, scale, positions, self.norm(f"{side}/layernorm_embedding", optional=True)
        )

    def embedding_scale(self, side: str, width: int) -> float:
        """A byte is a flag, of the root of the width; any other number is the scale itself."""
        name = f"{side}/scale_embeddings"
        if name not in self.tensors:
            name = f"{side}/embeddings/multiply_by_sqrt_depth"  # as older files have it
        if name not in self.tensors:
            return math.sqrt(width)
        dtype = self.tensors[name].dtype
        if dtype == np.int8:
            return math.sqrt(width) if self.flag(name, True) else 1.0
        scale = self.number(name, 1)
        if dtype.kind == "i" and scale != 1:
            raise self.fail(f"tensor {name} is {scale:g} of {dtype}, expected int8 or a float")
        return scale

    def spectrum_embedding(self) -> SpectrumEmbedding:
        first, second = (
            self.convolved(f"encoder/conv{i}", stride) for i, stride in ((1, 1), (2, 2))
        )
        encodings = "encoder/position_encodings/encodings"
        width = second.linear.matrix.outputs
        return SpectrumEmbedding(
            first, second, self.positions(encodings, self.tensor(encodings), width)
        )

    def convolved(self, name: str, stride: int) -> Convolution:
        rows = self.convolution(f"{name}/weight", self.tensor(f"{name}/weight"))
        matrix = self.weights_of(name, rows)
        return Convolution(Linear(matrix, self.bias(name, matrix)), WHISPER_KERNEL, stride)

    def heads_of(self, name: str, side: str, width: int) -> Heads:
        heads = self.whole(f"{side}/num_heads", 8, 1)
        key_heads = self.whole(f"{name}/num_heads_kv", heads, 1)
        if heads % key_heads:
            raise self.fail(f"{name}: {heads} heads do not divide over {key_heads} key heads")
        divided = self.divided(width, heads, key_heads)
        usual = {"head_dim": divided.width, "queries_scale": 1 / math.sqrt(divided.width)}
        for key, expected in usual.items():
            have = self.number(f"{name}/{key}", expected)
            if not math.isclose(have, expected, rel_tol=1e-6):
                raise self.fail(f"has {name}/{key} {have:g}; read so far is {expected:g}")
        return divided

    def self_attention(self, name: str, side: str) -> SelfAttention:
        projection = self.linear(f"{name}/linear_0", None, None)
        width = projection.matrix.inputs
        heads = self.heads_of(name, side, width)
        self.fits(
            f"{name}/linear_0/weight",
            (projection.matrix.outputs, width),
            (width + 2 * heads.key_width, width),
        )
        return SelfAttention(projection, self.linear(f"{name}/linear_1", width, width), heads)

    def cross_attention(self, name: str, side: str) -> CrossAttention:
        query = self.linear(f"{name}/linear_0", None, None)
        width = query.matrix.inputs
        heads = self.heads_of(name, side, width)
        key_value = self.linear(f"{name}/linear_1", None, 2 * heads.key_width)
        return CrossAttention(
            query, key_value, self.linear(f"{name}/linear_2", width, width), heads
        )

    def feed_forward(self, name: str, side: str) -> FeedForward:
        up = self.linear(f"{name}/linear_0", None, None)
        inner, width = up.matrix.outputs, up.matrix.inputs
        gate = None
        if f"{name}/linear_0_noact/weight" in self.tensors:
            gate = self.linear(f"{name}/linear_0_noact", width, inner)
        down = self.linear(f"{name}/linear_1", inner, width)
        return FeedForward(up, down, self.activation(side), gate)

    def activation(self, side: str) -> str:
        if self.is_speech and side == "encoder":
            return "gelu"  # whatever the file says
        most = len(self.ACTIVATIONS) - 1
        return self.ACTIVATIONS[self.whole(f"{side}/activation", 0, 0, most)]

    def norm_place(self, name: str, side: str) -> SublayerNorm:
        norm = self.norm(f"{name}/layer_norm")
        assert norm is not None
        always_pre = self.is_speech and side == "encoder"
        pre = always_pre or self.flag(f"{side}/pre_norm", True)
        return SublayerNorm(norm, "pre" if pre else "post")

    def norm(self, name: str, *, optional: bool = False) -> Norm | None:
        if optional and f"{name}/gamma" not in self.tensors:
            return None
        gamma = self.tensor(f"{name}/gamma")
        self.fits(f"{name}/gamma", gamma.shape, (None,))
        beta = self.optional(f"{name}/beta")
        if beta is not None:
            self.fits(f"{name}/beta", beta.shape, gamma.shape)
        usual = self.RMS_NORM_EPS if beta is None else self.NORM_EPS
        eps = usual if self.eps is None else self.eps
        if beta is None:
            return Norm(self.floats(gamma), None, eps, "rms")
        return Norm(self.floats(gamma), self.floats(beta), eps)

    def linear(self, name: str, inputs: int | None, outputs: int | None) -> Linear:
        matrix = self.matrix(name, inputs, outputs)
        return Linear(matrix, self.bias(name, matrix))

    def bias(self, name: str, matrix: Matrix) -> Array | None:
        bias = self.optional(f"{name}/bias")
        if bias is None:
            return None
        self.fits(f"{name}/bias", bias.shape, (matrix.outputs,))
        return self.floats(bias)

    def floats(self, vector: Stored) -> Array:
        """Read once under all of its names, of which a small file may have many."""
        if id(vector) not in self.vectors:
            self.vectors[id(vector)] = np.asarray(vector, np.float32)
        return self.vectors[id(vector)]

    def matrix(self, name: str, inputs: int | None, outputs: int | None) -> Matrix:
        """A weight (outputs, inputs), packed once under all of its names."""
        rows = self.tensor(f"{name}/weight")
        self.fits(f"{name}/weight", rows.shape, (outputs, inputs))
        if id(rows) not in self.matrices:
            self.matrices[id(rows)] = self.weights_of(name, rows)
        self.used.add(f"{name}/weight_scale")  # shared, as the weights are
        return self.matrices[id(rows)]

    def weights_of(self, name: str, rows: Rows) -> Matrix:
        self.used.add(f"{name}/weight_scale")
        if rows.dtype != np.int8:
            if rows.dtype not in (np.float32, np.float16):
                raise self.fail(f"tensor {name}/weight is of {rows.dtype}")
            return self.packed(rows)
        scales = np.asarray(self.tensor(f"{name}/weight_scale"), np.float32)
        if scales.size == 1:
            scales = scales.reshape(())
        else:
            self.fits(f"{name}/weight_scale", scales.shape, (rows.shape[0],))
        if not (np.isfinite(scales).all() and (scales > 0).all()):
            raise self.fail(f"tensor {name}/weight_scale has numbers that are not positive")
        return self.kept(Matrix.pack_integers(rows, scales))

    def number(self, name: str, default: float) -> float:
        """A scalar of any type, or what it is where it is missing."""
        if name not in self.tensors:
            return default
        value = np.asarray(self.tensor(name))
        if value.shape != () or not np.isfinite(value):
            raise self.fail(f"tensor {name} is {value!r:.60}, expected one number")
        return float(value)

    def whole(self, name: str, default: int, least: int, most: int = (1 << 15) - 1) -> int:
        value = self.number(name, default)
        if value != int(value) or not least <= value <= most:
            raise self.fail(f"{name} is {value:g}, expected a whole number from {least} to {most}")
        return int(value)

    def flag(self, name: str, default: bool) -> bool:
        return bool(self.whole(name, default, -128, 127))

    def text(self, name: str, default: str) -> str:
        if name not in self.tensors:
            return default
        value = np.asarray(self.tensor(name))
        if value.ndim != 1 or value.dtype != np.int8:
            raise self.fail(f"tensor {name} is {value!r:.60}, expected bytes of text")
        return value.tobytes().decode("utf-8", "replace")

    def optional(self, name: str) -> Stored | None:
        return self.tensor(name) if name in self.tensors else None

    def tensor(self, name: str) -> Stored:
        if name not in self.tensors:
            raise self.fail(f"tensor {name} is missing")
        self.used.add(name)
        return self.tensors[name]


# ---- Hugging Face ----


class _HuggingFaceBuilder(_Builder):
    """Folders of Whisper: config.json, and model.safetensors whole or in parts."""

    NORM_EPS = 1e-5
    ACTIVATIONS: ClassVar[dict[str, str]] = {
        "gelu": "gelu", "gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh",
        "relu": "relu", "silu": "silu", "swish": "silu",
    }  # fmt: skip

    def __init__(self, file: Path, weights: str | None) -> None:
        super().__init__(file, weights)
        self.tensors = huggingface.read(file)
        self.config_file = file.with_name("config.json")
        if not self.config_file.exists():
            raise self.fail("not a model of seq2seq_fast's, and there is no config.json beside it")
        self.config = huggingface.read_json(self.config_file)
        if self.config.get("model_type") != "whisper":
            raise self.says("model_type", "whisper")
        activation = self.config.get("activation_function", "gelu")
        if not isinstance(activation, str) or activation not in self.ACTIVATIONS:
            raise self.says("activation_function", f"one of {', '.join(self.ACTIVATIONS)}")
        self.activation = self.ACTIVATIONS[activation]
        if self.config.get("scale_embedding"):
            raise self.says("scale_embedding", "false")
        embeddings = "model.decoder.embed_tokens.weight"
        self.vocabulary, self.width = self.tensor(embeddings, (None, None)).shape

    def says(self, key: str, expected: str) -> ValueError:
        have = self.config.get(key)
        return ValueError(
            f"{self.config_file}: says {key}: {reprlib.repr(have)}, expected {expected}"
        )

    def integer(self, key: str, least: int, most: int) -> int:
        have = self.config.get(key)
        if not isinstance(have, int) or isinstance(have, bool) or not least <= have <= most:
            raise self.says(key, f"an integer from {least} to {most}")
        return have

    def model(self) -> EncoderDecoder:
        layers = {
            side: [
                f"model.{side}.layers.{i}"
                for i in range(self.integer(f"{side}_layers", 1, MOST_LAYERS))
            ]
            for side in ("encoder", "decoder")
        }
        heads = {
            side: self.divided(self.width, self.integer(f"{side}_attention_heads", 1, self.width))
            for side in layers
        }
        encoder = tuple(
            EncoderLayer(
                self.self_attention(f"{name}.self_attn", heads["encoder"]),
                self.norm_place(f"{name}.self_attn_layer_norm"),
                self.feed_forward(name),
                self.norm_place(f"{name}.final_layer_norm"),
            )
            for name in layers["encoder"]
        )
        decoder = tuple(
            DecoderLayer(
                self.self_attention(f"{name}.self_attn", heads["decoder"]),
                self.norm_place(f"{name}.self_attn_layer_norm"),
                self.cross_attention(f"{name}.encoder_attn", heads["decoder"]),
                self.norm_place(f"{name}.encoder_attn_layer_norm"),
                self.feed_forward(name),
                self.norm_place(f"{name}.final_layer_norm"),
            )
            for name in layers["decoder"]
        )
        embeddings = self.matrix("model.decoder.embed_tokens.weight", self.width, self.vocabulary)
        output = embeddings
        if "proj_out.weight" in self.tensors:
            output = self.matrix("proj_out.weight", self.width, self.vocabulary)
        return EncoderDecoder(
            Encoder(self.spectrum_embedding(), encoder, self.norm("model.encoder.layer_norm")),
            Decoder(
                Embedding(embeddings, 1.0, self.placed("decoder")),
                decoder,
                Linear(output),
                self.norm("model.decoder.layer_norm"),
            ),
            bos=self.integer("decoder_start_token_id", 0, self.vocabulary - 1),
            eos=self.integer("eos_token_id", 0, self.vocabulary - 1),
            unk=None,
        )

    def placed(self, side: str) -> LearnedPositions:
        name = f"model.{side}.embed_positions.weight"
        return self.positions(name, self.tensor(name, (None, self.width)), self.width)

    def spectrum_embedding(self) -> SpectrumEmbedding:
        first, second = (
            self.convolved(f"model.encoder.conv{i}", stride) for i, stride in ((1, 1), (2, 2))
        )
        return SpectrumEmbedding(first, second, self.placed("encoder"))

    def convolved(self, name: str, stride: int) -> Convolution:
        rows = self.tensor(f"{name}.weight", (None, None, WHISPER_KERNEL))
        matrix = self.packed(self.convolution(name, rows))
        return Convolution(Linear(matrix, self.bias(name, matrix)), WHISPER_KERNEL, stride)

    def self_attention(self, name: str, heads: Heads) -> SelfAttention:
        parts = (self.linear(f"{name}.{part}_proj", self.width, self.width) for part in "qkv")
        output = self.linear(f"{name}.out_proj", self.width, self.width)
        return SelfAttention(self.side_by_side(name, *parts), output, heads)

    def cross_attention(self, name: str, heads: Heads) -> CrossAttention:
        query, key, value, output = (
            self.linear(f"{name}.{part}_proj", self.width, self.width)
            for part in ("q", "k", "v", "out")
        )
        return CrossAttention(query, self.side_by_side(name, key, value), output, heads)

    def feed_forward(self, name: str) -> FeedForward:
        up = self.linear(f"{name}.fc1", self.width, None)
        return FeedForward(
            up, self.linear(f"{name}.fc2", up.matrix.outputs, self.width), self.activation
        )

    def norm_place(self, name: str) -> SublayerNorm:
        return SublayerNorm(self.norm(name), "pre")

    def norm(self, name: str) -> Norm:
        gamma, beta = (self.tensor(f"{name}.{part}", (self.width,)) for part in ("weight", "bias"))
        return Norm(np.asarray(gamma, np.float32), np.asarray(beta, np.float32), self.NORM_EPS)

    def linear(self, name: str, inputs: int, outputs: int | None) -> Linear:
        matrix = self.matrix(f"{name}.weight", inputs, outputs)
        return Linear(matrix, self.bias(name, matrix))

    def bias(self, name: str, matrix: Matrix) -> Array | None:
        if f"{name}.bias" not in self.tensors:
            return None
        return np.asarray(self.tensor(f"{name}.bias", (matrix.outputs,)), np.float32)

    def matrix(self, name: str, inputs: int, outputs: int | None) -> Matrix:
        return self.packed(self.tensor(name, (outputs, inputs)))

    def tensor(self, name: str, shape: tuple[int | None, ...]) -> Stored:
        if name not in self.tensors:
            raise self.fail(f"tensor {name} is missing")
        tensor = self.tensors[name]
        self.fits(name, tensor.shape, shape)
        if tensor.dtype not in (np.float32, np.float16):
            raise self.fail(f"tensor {name} is of {tensor.dtype}, expected floats")
        return tensor


_BUILDERS: dict[str, type[_MarianBuilder | _CTranslate2Builder | _HuggingFaceBuilder]] = {
    sniff.MARIAN: _MarianBuilder,
    sniff.NPZ: _MarianBuilder,
    sniff.CTRANSLATE2: _CTranslate2Builder,
    sniff.SAFETENSORS: _HuggingFaceBuilder,
}
"""What builds a model, by the kind of its file."""


def read_vocabulary(path: Path) -> list[str]:
    """The tokens of a CTranslate2 vocabulary, by id: a JSON list, or a line each.

    Raises
    ------
    ValueError
        The file is not one.
    """
    text = huggingface.read_text(path)
    if path.suffix != ".json":  # a token may hold any other end of a line
        lines = text.removesuffix("\n").split("\n")
        windows = all(line.endswith("\r") for line in lines)
        return [line[:-1] for line in lines] if windows else lines
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not a vocabulary: {error}") from None
    if not (isinstance(found, list) and set(map(type, found)) <= {str}):
        raise ValueError(f"{path}: not a vocabulary: expected a list of strings")
    return found
