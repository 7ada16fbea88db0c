"""Hugging Face's folders of Whisper: config.json, and model.safetensors whole or in parts.

Radford et al., "Robust Speech Recognition via Large-Scale Weak Supervision", 2022. Names are those
of huggingface/transformers, `models/whisper/modeling_whisper.py`.
"""

from __future__ import annotations

import reprlib
from pathlib import Path
from typing import Any

from ..formats import huggingface
from ..plan import Layer, Names, NormTraits, Plan, Spectrum, Stack, Tokens, heads_of
from ..tensors import Ignored, Tensors

NAMES = Names(
    weight="weight", bias="bias", gamma="weight", beta="bias",
    self_projection=tuple(f"{{layer}}.self_attn.{part}_proj.*" for part in "qkv"),
    self_output="{layer}.self_attn.out_proj.*",
    self_norm=("{layer}.self_attn_layer_norm.*",),
    cross_query="{layer}.encoder_attn.q_proj.*",
    cross_key_value=("{layer}.encoder_attn.k_proj.*", "{layer}.encoder_attn.v_proj.*"),
    cross_output="{layer}.encoder_attn.out_proj.*",
    cross_norm=("{layer}.encoder_attn_layer_norm.*",),
    up="{layer}.fc1.*", down="{layer}.fc2.*",
    feed_forward_norm=("{layer}.final_layer_norm.*",),
)  # fmt: skip
IGNORED = {"model.*coder.version": Ignored("the version of the program that trained it")}
NORM = NormTraits("layer", 1e-5)
ACTIVATIONS = {
    "gelu": "gelu", "gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu", "silu": "silu", "swish": "silu",
}  # fmt: skip
TOKENS = "model.decoder.embed_tokens.weight"
OUTPUT = "proj_out.weight"
MAX_LAYERS = 1000


def read(file: Path, weights: str | None) -> tuple[Plan, Tensors]:
    """A file of weights, or the index of several, with config.json beside it."""
    tensors = Tensors(file, dict(huggingface.read(file)), weights)
    config_file = file.with_name("config.json")
    if not config_file.exists():
        raise tensors.fail("not a model of seq2seq_fast's, and there is no config.json beside it")
    config = huggingface.read_json(config_file)

    def says(key: str, expected: str) -> ValueError:
        have = reprlib.repr(config.get(key))
        return ValueError(f"{config_file}: says {key}: {have}, expected {expected}")

    def integer(key: str, least: int, most: int) -> int:
        have: Any = config.get(key)
        if not isinstance(have, int) or isinstance(have, bool) or not least <= have <= most:
            raise says(key, f"an integer from {least} to {most}")
        return have

    if config.get("model_type") != "whisper":
        raise says("model_type", "whisper")
    activation = config.get("activation_function", "gelu")
    if not isinstance(activation, str) or activation not in ACTIVATIONS:
        raise says("activation_function", f"one of {', '.join(ACTIVATIONS)}")
    if config.get("scale_embedding"):
        raise says("scale_embedding", "false")
    vocabulary, width = tensors.table_shape(TOKENS)

    def stack(side: str) -> Stack:
        heads = heads_of(width, integer(f"{side}_attention_heads", 1, width))
        count = integer(f"{side}_layers", 1, MAX_LAYERS)
        return Stack(
            tuple(Layer(f"model.{side}.layers.{i}", heads) for i in range(count)),
            "pre",
            ACTIVATIONS[activation],
            f"model.{side}.layer_norm.*",
        )

    convolutions = ("model.encoder.conv1.*", "model.encoder.conv2.*")
    positions = {side: f"model.{side}.embed_positions.weight" for side in ("encoder", "decoder")}
    plan = Plan(
        NAMES,
        Spectrum(convolutions, positions["encoder"]),
        stack("encoder"),
        Tokens(TOKENS, 1.0, positions["decoder"]),
        stack("decoder"),
        output=OUTPUT if OUTPUT in tensors else None,
        norm=NORM,
        bos=integer("decoder_start_token_id", 0, vocabulary - 1),
        eos=integer("eos_token_id", 0, vocabulary - 1),
        unk=None,
        ignored=IGNORED,
    )
    return plan, tensors
