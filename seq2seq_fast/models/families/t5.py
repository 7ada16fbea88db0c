"""T5 and its kin, as huggingface/transformers names and configures them: T5 1.0 and 1.1, Flan-T5,
CodeT5, MADLAD-400, ByT5 (all model_type t5), mT5, UMT5.

Raffel et al., "Exploring the Limits of Transfer Learning with a Unified Text-to-Text Transformer",
2020; Shazeer, "GLU Variants Improve Transformer", 2020. Names are those of
`models/t5/modeling_t5.py`: a block's last sublayer is number 1 in the encoder, 2 in the decoder.
"""

from __future__ import annotations

import dataclasses
import math

from ...nn.attention import Heads
from .. import generation_config
from ..plan import Bias, Layer, Names, NormTraits, Plan, Stack, Tokens
from ..tensors import Ignored, Tensors
from .config import ACTIVATIONS, MAX_LAYERS, Config

NAMES = Names(
    weight="weight", bias="bias", gamma="weight", beta="bias",
    self_projection=tuple(f"{{layer}}.0.SelfAttention.{part}.weight" for part in "qkv"),
    self_output="{layer}.0.SelfAttention.o.weight",
    self_norm=("{layer}.0.layer_norm.*",),
    cross_query="{layer}.1.EncDecAttention.q.weight",
    cross_key_value=("{layer}.1.EncDecAttention.k.weight", "{layer}.1.EncDecAttention.v.weight"),
    cross_output="{layer}.1.EncDecAttention.o.weight",
    cross_norm=("{layer}.1.layer_norm.*",),
    up="{layer}.{last}.DenseReluDense.wi.weight",
    down="{layer}.{last}.DenseReluDense.wo.weight",
    feed_forward_norm=("{layer}.{last}.layer_norm.*",),
    # What the hidden features are multiplied by: those of some inputs are in the ten thousands,
    # beside which eight bits leave nothing of the others.
    float_down=True,
)  # fmt: skip
GATED = dataclasses.replace(
    NAMES,
    up="{layer}.{last}.DenseReluDense.wi_0.weight",
    gate="{layer}.{last}.DenseReluDense.wi_1.weight",
)
KINDS = ("t5", "mt5", "umt5")
TABLES = ("shared.weight", "encoder.embed_tokens.weight", "decoder.embed_tokens.weight")
OUTPUT = "lm_head.weight"
BIAS = "{side}.block.{i}.layer.0.SelfAttention.relative_attention_bias.weight"
CROSS_BIAS = "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight"
MAX_DISTANCE = 1 << 16


def plan(config: Config, tensors: Tensors) -> Plan:
    """The plan of a model whose model_type is one of KINDS."""
    kind = config.values["model_type"]
    activation, gated = _feed_forward(config)
    table = next((name for name in TABLES if name in tensors), TABLES[0])
    vocabulary, width = tensors.table_shape(table)
    heads = Heads(
        config.integer("num_heads", 1, 1 << 12), config.integer("num_heads", 1, 1 << 12),
        config.integer("d_kv", 1, 1 << 12), scale=1.0,
    )  # fmt: skip
    distance = config.integer("relative_attention_max_distance", 2, MAX_DISTANCE, 128)
    layers = config.integer("num_layers", 1, MAX_LAYERS)
    counts = {
        "encoder": layers,
        "decoder": config.integer("num_decoder_layers", 1, MAX_LAYERS, layers),
    }

    def stack(side: str) -> Stack:
        def bias(i: int) -> Bias:
            owner = i if kind == "umt5" else 0  # the layers after the first take its
            return Bias(BIAS.format(side=side, i=owner), side == "encoder", distance)

        return Stack(
            tuple(
                Layer(
                    f"{side}.block.{i}.layer", heads, bias=bias(i),
                    last="1" if side == "encoder" else "2",
                )
                for i in range(counts[side])
            ),
            "pre",
            activation,
            f"{side}.final_layer_norm.*",
        )  # fmt: skip

    # A file with a table alone is tied, and so is one that does not say that it is not; a model
    # that was trained so has its last features scaled, whatever its file holds beside the table.
    tied = config.flag("tie_word_embeddings", True)
    if not tied and OUTPUT not in tensors:
        raise tensors.fail(f"tensor {OUTPUT} is missing: {config.file} says that it is not tied")
    scaled = config.flag("scale_decoder_outputs", tied and kind != "mt5")
    tokens = Tokens(table, 1.0, None)
    eps = config.number("layer_norm_epsilon", 1e-6, 1.0)
    norm = NormTraits("rms", eps)
    return Plan(
        GATED if gated else NAMES,
        tokens,
        stack("encoder"),
        tokens,
        stack("decoder"),
        output=OUTPUT if OUTPUT in tensors else None,
        output_scale=1 / math.sqrt(width) if scaled else 1.0,
        norm=norm,
        bare_norm=norm,
        bos=config.start_token(vocabulary) if _says_start(config) else 0,
        eos=config.end_token(vocabulary),
        unk=None,
        defaults=generation_config.read(config.file.parent, config.values),
        ignored={CROSS_BIAS: Ignored("early files have one; nothing adds it")},
        copies={name: table for name in TABLES if name != table},
    )


def _says_start(config: Config) -> bool:
    return config.values.get("decoder_start_token_id") is not None


def _feed_forward(config: Config) -> tuple[str, bool]:
    """The activation, and whether there is a gate."""
    said = config.values.get("feed_forward_proj", "relu")
    name = said.removeprefix("gated-") if isinstance(said, str) else None
    if name not in ACTIVATIONS:
        raise config.says("feed_forward_proj", "an activation, or gated- and an activation")
    gated = said != name
    # The name of what T5 1.1 has is older than that of its approximation.
    return ("gelu_tanh" if gated and name == "gelu" else ACTIVATIONS[name]), gated
