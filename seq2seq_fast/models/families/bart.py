"""BART and its kin, as huggingface/transformers names and configures them: mBART, PLBart, Marian,
M2M100 (NLLB, SMaLL-100), Pegasus, Blenderbot.

Lewis et al., "BART: Denoising Sequence-to-Sequence Pre-training", 2020. They are one grammar, in
`models/*/modeling_*.py`; what tells them apart is a row of KINDS.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from ...nn.positions import Sinusoids
from .. import generation_config
from ..plan import Layer, Learned, Names, NormTraits, Plan, Stack, Tokens, heads_of
from ..tensors import Ignored, Tensors
from .config import MAX_LAYERS, Config

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
NORM = NormTraits("layer", 1e-5)


@dataclass(frozen=True)
class Kind:
    """What a model_type says beside config.json."""

    placement: str  # of the norms of sublayers; pre-norm has one after the last layer, too
    positions: str  # learned, or the kind of sinusoids
    offset: int = 0  # rows of a table of positions that stand for none; the first sinusoid
    embedding_norm: bool = False
    activation: str = "gelu"  # where config.json says nothing
    decoder_norm_first: bool = False  # its norm is of tokens alone, before positions


KINDS = {
    "bart": Kind("post", "learned", 2, embedding_norm=True),
    "mbart": Kind("pre", "learned", 2, embedding_norm=True),
    "plbart": Kind("post", "learned", 2, embedding_norm=True),
    "marian": Kind("post", "paper"),
    "m2m_100": Kind("pre", "endpoint", 2, activation="relu"),
    "pegasus": Kind("pre", "paper"),
    "blenderbot": Kind("pre", "learned"),
    "blenderbot-small": Kind(
        "post", "learned", embedding_norm=True, decoder_norm_first=True
    ),
}  # fmt: skip
SHARED = "model.shared.weight"
OWN = {side: f"model.{side}.embed_tokens.weight" for side in ("encoder", "decoder")}
OUTPUT = "lm_head.weight"
IGNORED = {
    "model.*coder.version": Ignored("the version of the program that trained it"),
    "model.*coder.embed_positions._float_tensor": Ignored("says the type of what is computed"),
    "model.*coder.embed_positions.weights": Ignored("sinusoids, which are computed"),
}
NOT_SHARED = Ignored("each side has a table of its own")


def plan(config: Config, tensors: Tensors) -> Plan:
    """The plan of a model whose model_type is one of KINDS."""
    kind = KINDS[config.values["model_type"]]
    activation = config.activation("activation_function", kind.activation)
    tables = {side: _table(tensors, side) for side in OWN}

    def tokens(side: str) -> Tokens:
        _, width = tensors.table_shape(tables[side])
        name = f"model.{side}.embed_positions.weight"
        positions: Sinusoids | Learned
        if kind.positions == "learned" or name in tensors:
            positions = Learned(name, kind.offset)
        else:
            positions = Sinusoids(width, kind.offset, kind.positions == "endpoint")
        return Tokens(
            tables[side],
            math.sqrt(width) if config.flag("scale_embedding", False) else 1.0,
            positions,
            f"model.{side}.layernorm_embedding.*" if kind.embedding_norm else None,
            norm_first=kind.decoder_norm_first and side == "decoder",
        )

    def stack(side: str) -> Stack:
        _, width = tensors.table_shape(tables[side])
        heads = heads_of(width, config.integer(f"{side}_attention_heads", 1, width))
        count = config.integer(f"{side}_layers", 1, MAX_LAYERS)
        return Stack(
            tuple(Layer(f"model.{side}.layers.{i}", heads) for i in range(count)),
            kind.placement,
            activation,
            f"model.{side}.layer_norm.*" if kind.placement == "pre" else None,
        )

    vocabulary, _ = tensors.table_shape(tables["decoder"])
    bias = "final_logits_bias"
    return Plan(
        NAMES,
        tokens("encoder"),
        stack("encoder"),
        tokens("decoder"),
        stack("decoder"),
        output=OUTPUT if OUTPUT in tensors else None,
        output_bias=bias if bias in tensors else None,
        norm=NORM,
        bos=config.start_token(vocabulary),
        eos=config.end_token(vocabulary),
        unk=None,
        defaults=generation_config.read(config.file.parent, config.values),
        ignored=IGNORED if SHARED in tables.values() else {**IGNORED, SHARED: NOT_SHARED},
        copies={OWN[side]: table for side, table in tables.items() if table != OWN[side]},
    )


def _table(tensors: Tensors, side: str) -> str:
    """The name of a side's embedding: its own, unless that is the shared one once more."""
    own, other = OWN[side], OWN["decoder" if side == "encoder" else "encoder"]
    if own in tensors and not (SHARED in tensors and tensors.same(own, SHARED)):
        return own
    return next((name for name in (SHARED, other) if name in tensors), SHARED)
