"""CTranslate2's models: Transformers of text, T5 among them, and Whisper.

What each attribute means, and what it is where it is missing, is as CTranslate2 4.8 has it:
`src/layers/transformer.cc`, `attention_layer.cc`, `common.cc`, `src/models/transformer.cc`.
"""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ...nn.attention import Heads
from ...nn.positions import Sinusoids
from ..formats import ctranslate2, huggingface
from ..formats.stored import Quantised, Stored
from ..plan import Bias, Layer, Learned, Names, NormTraits, Plan, Spectrum, Stack, Tokens, heads_of
from ..tensors import Ignored, Named, Tensors

NAMES = Names(
    weight="weight", bias="bias", gamma="gamma", beta="beta",
    self_projection=("{layer}/self_attention/linear_0/*",),
    self_output="{layer}/self_attention/linear_1/*",
    self_norm=("{layer}/self_attention/layer_norm/*",),
    cross_query="{layer}/attention/linear_0/*",
    cross_key_value=("{layer}/attention/linear_1/*",),
    cross_output="{layer}/attention/linear_2/*",
    cross_norm=("{layer}/attention/layer_norm/*",),
    up="{layer}/ffn/linear_0/*", gate="{layer}/ffn/linear_0_noact/*",
    down="{layer}/ffn/linear_1/*",
    feed_forward_norm=("{layer}/ffn/layer_norm/*",),
)  # fmt: skip
IGNORED = {
    "*/alignment_heads": Ignored("nothing is generated from it"),
    "*/alignment_layer": Ignored("nothing is generated from it"),
    "*/alibi": Ignored("no biases of positions", 0),
    "*/alibi_use_positive_positions": Ignored("of biases that there are none of"),
    "*/scale_alibi": Ignored("of biases that there are none of"),
    "*/embeddings_merge": Ignored("there is one source"),
    "*/final_logit_softcapping": Ignored("no cap", 0),
    "*/layer_norm_use_residual": Ignored("gamma is the factor itself", 0),
    "*/layer_scalar": Ignored("a factor of 1", 1),
    "*/multi_query": Ignored("num_heads_kv is in its place", 0),
    "*multi_query_attention": Ignored("each layer says so again"),
    "*/multiply_by_sqrt_depth": Ignored("scale_embeddings is in its place"),
    "*/rotary_dim": Ignored("no rotary positions", -1),
    "*/sliding_window": Ignored("no window", 0),
    "*/start_from_zero_embedding": Ignored("of a transcript", 0),
    "*with_relative_position": Ignored("there would be tensors of them"),
    "*/relative_attention_max_distance": Ignored("of a bias that the layer before has, too"),
}
SPECS = {"TransformerSpec": 7, "WhisperSpec": 3}  # kinds of model, the latest revision of each
ACTIVATIONS = ("relu", "gelu_tanh", "silu", "gelu", "gelu_sigmoid", "tanh", "sigmoid")
NORM_EPS, RMS_NORM_EPS = 1e-5, 1e-6
OF_BOTH_SIDES = ("num_heads", "pre_norm", "activation", "embeddings_merge", "alignment_layer",
                 "alignment_heads")  # fmt: skip
# The same in all models of Whisper.
WHISPER_TOKENS = {"eos_token": "<|endoftext|>", "decoder_start_token": "<|startoftranscript|>"}
MAX_LAYERS = 1000
MAX_DISTANCE = 1 << 16


def read(file: Path, weights: str | None) -> tuple[Plan, Tensors]:
    """A model.bin, with the vocabulary and, if there is one, config.json beside it."""
    reader = _Reader(file, weights)
    return reader.plan(), reader.tensors


class _Reader:
    def __init__(self, file: Path, weights: str | None) -> None:
        self.file = file
        version, spec, revision, stored = ctranslate2.read(file)
        self.is_speech = spec == "WhisperSpec"
        self.tensors = Tensors(file, _with_scales(file, stored), weights)
        if spec not in SPECS:
            raise self.tensors.fail(f"is a {spec}; read so far: {', '.join(SPECS)}")
        if revision > SPECS[spec]:
            raise self.tensors.fail(
                f"is of revision {revision}, read are those up to {SPECS[spec]}"
            )
        if not self.is_speech and revision < 5:
            self.divide_attributes()
        old = not self.is_speech and version < 6
        self.config = self.config_of_old() if old else self.read_config()

    def divide_attributes(self) -> None:
        """Encoder and decoder get what files said of both at once."""
        named = self.tensors.named
        for key in OF_BOTH_SIDES:
            if key in named:
                value = named.pop(key)
                for side in ("encoder", "decoder"):
                    named.setdefault(f"{side}/{key}", value)

    # ---- the configuration and the vocabulary ----

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

    def vocabulary(self, size: int) -> list[str]:
        """The target tokens, from the file beside the model."""
        names = ("vocabulary",) if self.is_speech else ("shared_vocabulary", "target_vocabulary")
        for name in names:
            for path in (self.file.with_name(f"{name}{end}") for end in (".json", ".txt")):
                if path.exists():
                    tokens = ctranslate2.read_vocabulary(path)
                    if len(tokens) < size:
                        raise ValueError(f"{path}: has {len(tokens)} tokens, expected {size}")
                    return tokens[:size]
        raise self.tensors.fail(f"there is no {' or '.join(names)} beside it")

    def token(self, tokens: list[str], key: str, usual: str) -> int:
        """The id of a token that the configuration names."""
        name = self.config.get(key, usual)
        if name is None:
            raise self.tensors.fail(
                f"its {key} is null: the model has to be told the first token of each target, which"
                " is not read so far"
            )
        if name not in tokens:
            raise self.tensors.fail(f"its {key} is {name!r}, which is not in the vocabulary")
        return tokens.index(name)

    # ---- attributes, which are tensors ----

    def whole(self, name: str, default: int, least: int, most: int = (1 << 15) - 1) -> int:
        value = self.tensors.number(name, default)
        if value != int(value) or not least <= value <= most:
            raise self.tensors.fail(
                f"{name} is {value:g}, expected a whole number from {least} to {most}"
            )
        return int(value)

    def positive(self, name: str, default: float) -> float:
        value = self.tensors.number(name, default)
        if not value > 0:
            raise self.tensors.fail(f"{name} is {value:g}, expected a positive number")
        return value

    def flag(self, name: str, default: bool) -> bool:
        return bool(self.whole(name, default, -128, 127))

    def text(self, name: str, default: str) -> str:
        if name not in self.tensors:
            return default
        value = np.asarray(self.tensors.take(name))
        if value.ndim != 1 or value.dtype != np.int8:
            raise self.tensors.fail(f"tensor {name} is {value!r:.60}, expected bytes of text")
        return value.tobytes().decode("utf-8", "replace")

    # ---- the plan ----

    def plan(self) -> Plan:
        source: Tokens | Spectrum
        if self.is_speech:
            convolutions = ("encoder/conv1/*", "encoder/conv2/*")
            source = Spectrum(convolutions, Learned("encoder/position_encodings/encodings"))
            _, width = self.tensors.table_shape(source.positions.table)
        else:
            only = "encoder/embeddings/weight" in self.tensors  # as older files have it
            source, width = self.tokens("encoder", "embeddings" if only else "embeddings_0")
        target, target_width = self.tokens("decoder", "embeddings")
        vocabulary, _ = self.tensors.table_shape(target.table)
        tokens = self.vocabulary(vocabulary)
        if self.is_speech:  # whatever config.json says
            self.config |= WHISPER_TOKENS
        bos = None
        if self.is_speech or not self.flag("decoder/start_from_zero_embedding", False):
            bos = self.token(tokens, "decoder_start_token", "<s>")
        eps = self.config.get("layer_norm_epsilon")
        if eps is not None and not (isinstance(eps, float) and 0 <= eps < 1):
            raise self.tensors.fail(f"config.json says layer_norm_epsilon: {eps!r}")
        is_t5 = any("relative_attention_bias" in name for name in self.tensors.named)
        return Plan(
            # See families.t5 for why.
            replace(NAMES, float_down=is_t5),
            source,
            self.stack("encoder", width),
            target,
            self.stack("decoder", target_width),
            output="decoder/projection/*",
            output_scale=self.positive("decoder/scale_outputs", 1.0),
            norm=NormTraits("layer", NORM_EPS if eps is None else eps),
            bare_norm=NormTraits("rms", RMS_NORM_EPS if eps is None else eps),
            bos=bos,
            eos=self.token(tokens, "eos_token", "</s>"),
            unk=None,
            ignored=IGNORED,
        )

    def stack(self, side: str, width: int) -> Stack:
        layers = tuple(
            Layer(
                name,
                self.heads(f"{name}/self_attention", side, width),
                self.heads(f"{name}/attention", side, width) if side == "decoder" else None,
                self.bias(side, name),
            )
            for name in self.layers(side)
        )
        norm = f"{side}/layer_norm"
        activation, placement = "gelu", "pre"  # of speech's encoder, whatever the file says
        if not self.is_speech or side == "decoder":
            most = len(ACTIVATIONS) - 1
            activation = ACTIVATIONS[self.whole(f"{side}/activation", 0, 0, most)]
            placement = "pre" if self.flag(f"{side}/pre_norm", True) else "post"
        return Stack(layers, placement, activation, self.optional_norm(norm))

    def layers(self, side: str) -> list[str]:
        """What the names of each layer's tensors begin with."""
        names = {
            name.split("/")[1] for name in self.tensors.named if name.startswith(f"{side}/layer_")
        }
        count = len(names - {"layer_norm"})
        if not 1 <= count <= MAX_LAYERS:
            raise self.tensors.fail(f"{side} has {count} layers, expected 1 to {MAX_LAYERS}")
        return [f"{side}/layer_{i}" for i in range(count)]

    def heads(self, name: str, side: str, width: int) -> Heads:
        count = self.whole(f"{side}/num_heads", 8, 1)
        keys = self.whole(f"{name}/num_heads_kv", count, 1)
        if count % keys:
            raise self.tensors.fail(f"{name}: {count} heads do not divide over {keys} key heads")
        heads = heads_of(self.inner_width(name, width), count, keys)
        have = self.tensors.number(f"{name}/head_dim", heads.width)
        if have != heads.width:
            raise self.tensors.fail(f"has {name}/head_dim {have:g}; read so far is {heads.width}")
        # Where nothing is said, a head counts as wide as if all together had the layer's width.
        said = f"{name}/head_dim" in self.tensors
        scale = self.positive(
            f"{name}/queries_scale", 1 / math.sqrt(heads.width if said else width / count)
        )
        usual = math.isclose(scale, 1 / math.sqrt(heads.width), rel_tol=1e-6)
        return heads if usual else replace(heads, scale=scale)

    def inner_width(self, name: str, width: int) -> int:
        """Of all heads side by side: what the output of an attention of this width takes."""
        output = f"{name}/linear_{1 if name.endswith('self_attention') else 2}/weight"
        if output not in self.tensors:
            return width
        return self.tensors.table_shape(output)[1]

    def bias(self, side: str, layer: str) -> Bias | None:
        """A layer's own relative bias, or the first layer's."""
        tables = (
            f"{one}/self_attention/relative_attention_bias" for one in (layer, f"{side}/layer_0")
        )
        table = next((one for one in tables if one in self.tensors), None)
        if table is None:
            return None
        distance = self.whole(
            table.replace("attention_bias", "attention_max_distance"), 128, 2, MAX_DISTANCE
        )
        return Bias(table, side == "encoder", distance)

    def optional_norm(self, name: str) -> str | None:
        return f"{name}/*" if f"{name}/gamma" in self.tensors else None

    def tokens(self, side: str, name: str) -> tuple[Tokens, int]:
        """An embedding of tokens and its width."""
        table = f"{side}/{name}/weight"
        _, width = self.tensors.table_shape(table)
        encodings = f"{side}/position_encodings/encodings"
        positions: Sinusoids | Learned | None = Learned(encodings)
        if encodings not in self.tensors:
            positions = None if self.bias(side, "") else Sinusoids(width, first=1)
        norm = self.optional_norm(f"{side}/layernorm_embedding")
        return Tokens(table, self.embedding_scale(side, width), positions, norm), width

    def embedding_scale(self, side: str, width: int) -> float:
        """A byte is a flag, of the root of the width; any other number is the scale itself."""
        name = f"{side}/scale_embeddings"
        if name not in self.tensors:
            name = f"{side}/embeddings/multiply_by_sqrt_depth"  # as older files have it
        if name not in self.tensors:
            return math.sqrt(width)
        dtype = self.tensors.take(name).dtype
        if dtype == np.int8:
            return math.sqrt(width) if self.flag(name, True) else 1.0
        scale = self.tensors.number(name, 1)
        if dtype.kind == "i" and scale != 1:
            raise self.tensors.fail(
                f"tensor {name} is {scale:g} of {dtype}, expected int8 or a float"
            )
        return scale


def _with_scales(file: Path, stored: dict[str, Stored]) -> Named:
    """Eight-bit weights with their scales, which then have no names of their own."""
    found: Named = dict(stored)
    for name, tensor in stored.items():
        if name.endswith("/weight") and tensor.dtype == np.int8:
            scales = f"{name}_scale"
            if scales not in stored:
                raise ValueError(f"{file}: tensor {scales} is missing")
            found[name] = Quantised(tensor, stored[scales])
            found.pop(scales, None)
    return found
