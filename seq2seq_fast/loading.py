"""load(): from a published model's files to an EncoderDecoder."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from .formats import ctranslate2, huggingface, marian
from .layers import (
    SSRU,
    Convolution,
    CrossAttention,
    Embedding,
    FeedForward,
    Heads,
    LearnedPositions,
    Linear,
    Norm,
    SelfAttention,
    Sinusoids,
    SpectrumEmbedding,
)
from .pickling import Origin
from .saving import is_saved, restore
from .transformer import Decoder, DecoderLayer, Encoder, EncoderDecoder, EncoderLayer, NormPlace
from .weights import WEIGHTS, Matrix

Array = np.ndarray[Any, Any]

__all__ = ["load"]

MOST_LAYERS = 1000

# What is the same in all models of Whisper.
WHISPER_TOKENS = ("<|endoftext|>", "<|startoftranscript|>")  # end and start of a transcript
WHISPER_KERNEL = 3  # of its convolutions


def load(path: str | os.PathLike[str], *, weights: str | None = None) -> EncoderDecoder:
    """Load a published encoder-decoder model.

    Parameters
    ----------
    path : path
        A file, or the folder that holds one: Marian's ``model*.bin`` and ``model*.npz``
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
    >>> from seq2seq_fast.translate import find_model
    >>> load(find_model("pt"), weights="float32").vocabulary_size
    32000
    """
    if weights is not None and weights not in WEIGHTS:
        raise ValueError(f"weights must be one of {', '.join(WEIGHTS)}; got {weights!r}")
    file = _model_file(Path(path))
    arguments = {"path": os.path.abspath(path), "weights": weights}
    origin = Origin(load, arguments, _files_of(file))
    builder: type[_MarianBuilder | _CTranslate2Builder | _HuggingFaceBuilder]
    if file.suffix == ".safetensors" and is_saved(file):
        if weights is not None:
            raise ValueError(f"{file}: weights must be left out: they are as they were saved")
        return origin.of(restore(file))
    if file.suffix in (".safetensors", ".json"):
        builder = _HuggingFaceBuilder
    else:
        builder = _CTranslate2Builder if _is_ctranslate2(file) else _MarianBuilder
    try:
        return origin.of(builder(file, weights).model())
    except ValueError as error:
        # What the parts of a model themselves find amiss does not name the file.
        named = str(error).startswith(str(file.parent))
        raise error if named else ValueError(f"{file}: {error}") from None


def _model_file(path: Path) -> Path:
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


def _is_ctranslate2(file: Path) -> bool:
    """Marian's files begin with a version of eight bytes, these with one of four and a name."""
    with file.open("rb") as opened:
        start = opened.read(8)
    return len(start) == 8 and 2 <= start[0] <= ctranslate2.VERSION and start[4:6] != b"\0\0"


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

    def positions(self, name: str, table: Array, width: int) -> LearnedPositions:
        self.fits(name, table.shape, (None, width))
        return LearnedPositions(np.ascontiguousarray(table, np.float32))

    def kept(self, matrix: Matrix) -> Matrix:
        return matrix if self.weights is None else matrix.to(self.weights)

    def side_by_side(self, names: str, *layers: Linear) -> Linear:
        try:
            return Linear.side_by_side(*layers)
        except ValueError as error:
            raise self.fail(f"{names}: {error}") from None

    def convolution(self, name: str, rows: Array) -> Array:
        """Weights (outputs, inputs, kernel) as those of a linear layer."""
        self.fits(name, rows.shape, (None, None, WHISPER_KERNEL))
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
        self.pre = self.places("transformer-preprocess") == "n"
        after = self.places("transformer-postprocess")
        if after != ("a" if self.pre else "an"):
            raise self.fail(f"norms stand in a way that is not known: {self.pre=}, {after=}")
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

    def norm(self, name: str) -> NormPlace:
        suffix = "_pre" if self.pre else ""
        gamma = self.vector(f"{name}_ln_scale{suffix}", self.width)
        beta = self.vector(f"{name}_ln_bias{suffix}", self.width)
        return NormPlace(Norm(gamma, beta, self.NORM_EPS), self.pre)

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
        return self.kept(Matrix.pack(tensor.T))

    def embedding_matrix(self, name: str) -> Matrix:
        """Token vectors."""
        tensor = self.tensor(name)
        if isinstance(tensor, marian.Quantised):
            self.fits(name, tensor.shape, (None, None))
            return self.kept(Matrix.pack_integers(tensor.rows, tensor.multiplier))
        self.fits(name, tensor.shape, (None, None))
        return self.kept(Matrix.pack(tensor))

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
        scale = float(tensor.reshape(()))
        if not (math.isfinite(scale) and scale > 0):
            raise self.fail(f"tensor {name} is {scale}, expected a positive number")
        return scale

    def vector(self, name: str, length: int) -> Array:
        tensor = self.tensor(name)
        self.fits(name, marian.shape_of(tensor), (1, length))
        if isinstance(tensor, marian.Quantised):
            raise self.fail(f"tensor {name} is quantised, expected float32")
        return tensor[0]

    def tensor(self, name: str) -> Array | marian.Quantised:
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
    SPECS = ("TransformerSpec", "WhisperSpec")
    ACTIVATIONS = ("relu", "gelu_tanh", "silu", "gelu", "gelu_sigmoid", "tanh", "sigmoid")
    NORM_EPS = 1e-5
    NO_MATTER = (  # to a single source, and to what is generated
        "encoder/embeddings_merge",
        "decoder/alignment_heads",
        "decoder/alignment_layer",
    )

    def __init__(self, file: Path, weights: str | None) -> None:
        super().__init__(file, weights)
        read = ctranslate2.read(file)
        if read.spec not in self.SPECS:
            raise self.fail(f"is a {read.spec}; read so far: {', '.join(self.SPECS)}")
        self.is_speech = read.spec == "WhisperSpec"
        self.tensors = read.tensors
        self.used = set(self.NO_MATTER)
        self.matrices: dict[int, Matrix] = {}
        self.config = self.read_config()
        eps = self.config.get("layer_norm_epsilon")
        self.eps = self.NORM_EPS if eps is None else eps
        if not (isinstance(self.eps, float) and 0 <= self.eps < 1):
            raise self.fail(f"config.json says layer_norm_epsilon: {self.eps!r}")

    def read_config(self) -> dict[str, Any]:
        path = self.file.with_name("config.json")
        return huggingface.read_json(path) if path.exists() else {}

    def model(self) -> EncoderDecoder:
        encoder_embedding: Embedding | SpectrumEmbedding
        if self.is_speech:
            encoder_embedding = self.spectrum_embedding()
        else:
            encoder_embedding = self.embedding("encoder", "embeddings_0")
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
        end, start = WHISPER_TOKENS if self.is_speech else ("</s>", "<s>")
        eos = self.token(tokens, "eos_token", end)
        bos = None
        if not self.flag("decoder/start_from_zero_embedding", 0):
            bos = self.token(tokens, "decoder_start_token", start)
        encoder_norm = self.norm("encoder/layer_norm", optional=True)
        decoder_norm = self.norm("decoder/layer_norm", optional=True)
        # What is not understood must not be passed over: it would change every result.
        for name in sorted(set(self.tensors) - self.used):
            if self.tensors[name].size != 1 or self.flag(name, 0):
                raise self.fail(f"has {name}, which is not read so far")
        return EncoderDecoder(
            Encoder(encoder_embedding, encoder, encoder_norm),
            Decoder(decoder_embedding, decoder, output, decoder_norm),
            bos=bos,
            eos=eos,
            unk=None,
        )

    def token(self, tokens: list[str], key: str, usual: str) -> int:
        """The id of a token that config.json names."""
        name = self.config.get(key, usual)
        if name not in tokens:
            raise self.fail(f"config.json says {key}: {name!r}, which is not in the vocabulary")
        return tokens.index(name)

    def vocabulary(self, size: int) -> list[str]:
        """The target tokens, from the file beside the model."""
        for name in ("target_vocabulary", "shared_vocabulary", "vocabulary"):
            for path in (self.file.with_name(f"{name}{end}") for end in (".json", ".txt")):
                if path.exists():
                    tokens = read_vocabulary(path)
                    if len(tokens) < size:
                        raise ValueError(f"{path}: has {len(tokens)} tokens, expected {size}")
                    return tokens[:size]
        raise self.fail("there is no shared_vocabulary or target_vocabulary beside it")

    def layers(self, side: str) -> list[str]:
        names = {name.split("/")[1] for name in self.tensors if name.startswith(f"{side}/layer_")}
        count = len(names - {"layer_norm"})
        if not 1 <= count <= MOST_LAYERS:
            raise self.fail(f"{side} has {count} layers, expected 1 to {MOST_LAYERS}")
        return [f"{side}/layer_{i}" for i in range(count)]

    def embedding(self, side: str, name: str) -> Embedding:
        matrix = self.matrix(f"{side}/{name}", None, None)
        width = matrix.inputs
        scale = math.sqrt(width) if self.flag(f"{side}/scale_embeddings", 1) else 1.0
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
        matrix = self.kept(self.packed(name, rows))
        self.used.add(f"{name}/weight_scale")
        return Convolution(Linear(matrix, self.bias(name, matrix)), WHISPER_KERNEL, stride)

    def heads_of(self, name: str, side: str, width: int) -> Heads:
        heads = self.flag(f"{side}/num_heads", 8)
        key_heads = 1 if self.flag(f"{side}/multi_query_attention", 0) else heads
        key_heads = self.flag(f"{name}/num_heads_kv", self.flag(f"{side}/num_heads_kv", key_heads))
        if key_heads < 1 or heads % key_heads:
            raise self.fail(f"{name}: {heads} heads do not divide over {key_heads} key heads")
        return self.divided(width, heads, key_heads)

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
        usual = self.ACTIVATIONS.index("gelu" if self.is_speech else "relu")
        number = self.flag(f"{side}/activation", usual)
        if not 0 <= number < len(self.ACTIVATIONS):
            raise self.fail(
                f"{side}/activation is {number}, known are 0 to {len(self.ACTIVATIONS) - 1}"
            )
        return FeedForward(
            up, self.linear(f"{name}/linear_1", inner, width), self.ACTIVATIONS[number], gate
        )

    def norm_place(self, name: str, side: str) -> NormPlace:
        norm = self.norm(f"{name}/layer_norm")
        assert norm is not None
        return NormPlace(norm, bool(self.flag(f"{side}/pre_norm", 1)))

    def norm(self, name: str, *, optional: bool = False) -> Norm | None:
        if optional and f"{name}/gamma" not in self.tensors:
            return None
        gamma = self.tensor(f"{name}/gamma")
        self.fits(f"{name}/gamma", gamma.shape, (None,))
        beta = self.optional(f"{name}/beta")
        if beta is not None:
            self.fits(f"{name}/beta", beta.shape, gamma.shape)
            beta = beta.astype(np.float32)
        return Norm(gamma.astype(np.float32), beta, self.eps)

    def linear(self, name: str, inputs: int | None, outputs: int | None) -> Linear:
        matrix = self.matrix(name, inputs, outputs)
        return Linear(matrix, self.bias(name, matrix))

    def bias(self, name: str, matrix: Matrix) -> Array | None:
        bias = self.optional(f"{name}/bias")
        if bias is None:
            return None
        self.fits(f"{name}/bias", bias.shape, (matrix.outputs,))
        return bias.astype(np.float32)

    def matrix(self, name: str, inputs: int | None, outputs: int | None) -> Matrix:
        """A weight (outputs, inputs), packed once under all of its names."""
        rows = self.tensor(f"{name}/weight")
        self.fits(f"{name}/weight", rows.shape, (outputs, inputs))
        self.used.add(f"{name}/weight_scale")  # shared, as the weights are
        place = rows.__array_interface__["data"][0]
        if place not in self.matrices:
            self.matrices[place] = self.kept(self.packed(name, rows))
        return self.matrices[place]

    def packed(self, name: str, rows: Array) -> Matrix:
        if rows.dtype != np.int8:
            if rows.dtype not in (np.float32, np.float16):
                raise self.fail(f"tensor {name}/weight is of {rows.dtype}")
            return Matrix.pack(rows)
        scales = self.tensor(f"{name}/weight_scale").astype(np.float32)
        if scales.size == 1:
            scales = scales.reshape(())
        else:
            self.fits(f"{name}/weight_scale", scales.shape, (len(rows),))
        if not (np.isfinite(scales).all() and (scales > 0).all()):
            raise self.fail(f"tensor {name}/weight_scale has numbers that are not positive")
        return Matrix.pack_integers(rows, scales)

    def flag(self, name: str, default: int) -> int:
        if name not in self.tensors:
            return default
        value = self.tensor(name)
        if value.size != 1 or not np.isfinite(value).all():
            raise self.fail(f"tensor {name} is {value!r:.60}, expected one number")
        return int(value.reshape(()))

    def optional(self, name: str) -> Array | None:
        return self.tensor(name) if name in self.tensors else None

    def tensor(self, name: str) -> Array:
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
        if self.config.get("activation_function", "gelu") not in self.ACTIVATIONS:
            raise self.says("activation_function", f"one of {', '.join(self.ACTIVATIONS)}")
        self.activation = self.ACTIVATIONS[self.config.get("activation_function", "gelu")]
        if self.config.get("scale_embedding"):
            raise self.says("scale_embedding", "false")
        embeddings = "model.decoder.embed_tokens.weight"
        self.vocabulary, self.width = self.tensor(embeddings, (None, None)).shape

    def says(self, key: str, expected: str) -> ValueError:
        have = self.config.get(key)
        return ValueError(f"{self.config_file}: says {key}: {have!r:.80}, expected {expected}")

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
        matrix = self.kept(Matrix.pack(self.convolution(name, rows)))
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

    def norm_place(self, name: str) -> NormPlace:
        return NormPlace(self.norm(name), True)

    def norm(self, name: str) -> Norm:
        gamma, beta = (self.tensor(f"{name}.{part}", (self.width,)) for part in ("weight", "bias"))
        return Norm(gamma.astype(np.float32), beta.astype(np.float32), self.NORM_EPS)

    def linear(self, name: str, inputs: int, outputs: int | None) -> Linear:
        matrix = self.matrix(f"{name}.weight", inputs, outputs)
        return Linear(matrix, self.bias(name, matrix))

    def bias(self, name: str, matrix: Matrix) -> Array | None:
        if f"{name}.bias" not in self.tensors:
            return None
        return self.tensor(f"{name}.bias", (matrix.outputs,)).astype(np.float32)

    def matrix(self, name: str, inputs: int, outputs: int | None) -> Matrix:
        return self.kept(Matrix.pack(self.tensor(name, (outputs, inputs))))

    def tensor(self, name: str, shape: tuple[int | None, ...]) -> Array:
        if name not in self.tensors:
            raise self.fail(f"tensor {name} is missing")
        tensor = self.tensors[name]
        self.fits(name, tensor.shape, shape)
        if tensor.dtype not in (np.float32, np.float16):
            raise self.fail(f"tensor {name} is of {tensor.dtype}, expected floats")
        return tensor


def read_vocabulary(path: Path) -> list[str]:
    """The tokens of a CTranslate2 vocabulary, by id: a JSON list, or a line each.

    Raises
    ------
    ValueError
        The file is not one.
    """
    try:
        text = path.read_text(encoding="utf-8")
        if path.suffix != ".json":  # a token may hold any other end of a line
            return text.removesuffix("\n").split("\n")
        found = json.loads(text)
    except ValueError as error:
        raise ValueError(f"{path}: not a vocabulary: {error}") from None
    if not (isinstance(found, list) and all(isinstance(token, str) for token in found)):
        raise ValueError(f"{path}: not a vocabulary: expected a list of strings")
    return found
