"""Whisper, as huggingface/transformers names and configures it.

Radford et al., "Robust Speech Recognition via Large-Scale Weak Supervision", 2022. Its layers have
BART's names, in `models/whisper/modeling_whisper.py`.
"""

from __future__ import annotations

from ..plan import Layer, Learned, Plan, Spectrum, Stack, Tokens, heads_of
from ..tensors import Ignored, Tensors
from .bart import NAMES, NORM
from .config import MAX_LAYERS, Config

IGNORED = {"model.*coder.version": Ignored("the version of the program that trained it")}
TOKENS = "model.decoder.embed_tokens.weight"
OUTPUT = "proj_out.weight"


def plan(config: Config, tensors: Tensors) -> Plan:
    """The plan of a model whose model_type is whisper."""
    activation = config.activation("activation_function", "gelu")
    if config.values.get("scale_embedding"):
        raise config.says("scale_embedding", "false")
    vocabulary, width = tensors.table_shape(TOKENS)

    def stack(side: str) -> Stack:
        heads = heads_of(width, config.integer(f"{side}_attention_heads", 1, width))
        count = config.integer(f"{side}_layers", 1, MAX_LAYERS)
        return Stack(
            tuple(Layer(f"model.{side}.layers.{i}", heads) for i in range(count)),
            "pre",
            activation,
            f"model.{side}.layer_norm.*",
        )

    convolutions = ("model.encoder.conv1.*", "model.encoder.conv2.*")
    positions = {
        side: Learned(f"model.{side}.embed_positions.weight") for side in ("encoder", "decoder")
    }
    return Plan(
        NAMES,
        Spectrum(convolutions, positions["encoder"]),
        stack("encoder"),
        Tokens(TOKENS, 1.0, positions["decoder"]),
        stack("decoder"),
        output=OUTPUT if OUTPUT in tensors else None,
        norm=NORM,
        bos=config.integer("decoder_start_token_id", 0, vocabulary - 1),
        eos=config.integer("eos_token_id", 0, vocabulary - 1),
        unk=None,
        ignored=IGNORED,
    )
