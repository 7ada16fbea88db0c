"""Marian's Transformers, with self-attention or SSRU in the decoder.

Names and what the configuration means are as in marian-nmt/marian-dev, `src/models/transformer.h`
and `src/rnn/cells.h`.
"""

from __future__ import annotations

import math
from pathlib import Path

from ...nn.positions import Sinusoids
from ..formats import marian
from ..formats.stored import Quantised
from ..plan import Layer, Names, NormTraits, Plan, Stack, Tokens, heads_of
from ..tensors import Ignored, Named, Tensors

NAMES = Names(
    weight="W", bias="b", gamma="ln_scale", beta="ln_bias",
    self_projection=("{layer}_self_*q", "{layer}_self_*k", "{layer}_self_*v"),
    self_output="{layer}_self_*o",
    self_norm=("{layer}_self_Wo_*_pre", "{layer}_self_Wo_*"),
    ssru=("{layer}_rnn_W", "{layer}_rnn_*f"),
    ssru_norm=("{layer}_rnn_ffn_*_pre", "{layer}_rnn_ffn_*"),
    cross_query="{layer}_context_*q",
    cross_key_value=("{layer}_context_*k", "{layer}_context_*v"),
    cross_output="{layer}_context_*o",
    cross_norm=("{layer}_context_Wo_*_pre", "{layer}_context_Wo_*"),
    up="{layer}_ffn_*1", down="{layer}_ffn_*2",
    feed_forward_norm=("{layer}_ffn_ffn_*_pre", "{layer}_ffn_ffn_*"),
    transposed=True, always_bias=True,
)  # fmt: skip
IGNORED = {
    "*_QuantMultA": Ignored("the scale of the inputs of weights that are floats, or only looked up")
}
EOS, UNK = 0, 1  # by convention the first two of a vocabulary
NORM = NormTraits("layer", 1e-6)
ACTIVATIONS = {"relu": "relu", "swish": "silu", "gelu": "gelu_sigmoid"}
PLACEMENTS = {("n", "a"): "pre", ("", "an"): "post", ("n", "an"): "both"}
"""By what happens before a sublayer and after it: a norm, the addition of its input."""
MAX_LAYERS = 1000


def read(file: Path, weights: str | None) -> tuple[Plan, Tensors]:
    """A model file, binary or .npz."""
    config, named = marian.read(file)
    settings = _Config(file, config)
    settings.require("type", "transformer")
    recurrent = config.get("transformer-decoder-autoreg") == "rnn"
    if recurrent:
        settings.require("dec-cell", "ssru")
    else:
        settings.require("transformer-decoder-autoreg", "self-attention", None)
    settings.require("transformer-train-position-embeddings", "false", None)
    settings.require("transformer-ffn-depth", "2", None)
    settings.require("transformer-tied-layers", "[]", None)
    settings.require("transformer-no-projection", "false", None)
    activation = ACTIVATIONS[settings.require("transformer-ffn-activation", *ACTIVATIONS) or ""]
    before = settings.steps("transformer-preprocess")
    after = settings.steps("transformer-postprocess")
    if (before, after) not in PLACEMENTS:
        raise settings.fail(f"norms stand in a way that is not known: {before=}, {after=}")
    top = settings.has_norm("transformer-postprocess-top")
    normed = settings.has_norm("transformer-postprocess-emb")

    shared = "Wemb" in named
    is_tied = "decoder_ff_logit_out_W" not in named
    tensors = Tensors(file, _with_input_scales(file, dict(named)), weights)

    def embedding(side: str) -> Tokens:
        table = "Wemb" if shared else f"{side}_Wemb"
        _, width = tensors.table_shape(table)
        norm = f"{side}_emb_*_pre" if normed else None
        return Tokens(table, math.sqrt(width), Sinusoids(width), norm)

    source, target = embedding("encoder"), embedding("decoder")

    def stack(side: str, embedding: Tokens, layers: str) -> Stack:
        _, width = tensors.table_shape(embedding.table)
        heads = heads_of(width, settings.integer("transformer-heads"))
        return Stack(
            tuple(Layer(f"{side}_l{i}", heads) for i in range(1, 1 + settings.integer(layers))),
            PLACEMENTS[before, after],
            activation,
            f"{side}_top_*" if top else None,
            recurrent=recurrent and side == "decoder",
        )

    if is_tied:
        settings.require("tied-embeddings-all" if shared else "tied-embeddings", "true")
    plan = Plan(
        NAMES,
        source,
        stack("encoder", source, "enc-depth"),
        target,
        stack("decoder", target, "dec-depth"),
        output=None if is_tied else "decoder_ff_logit_out_*",
        output_bias="decoder_ff_logit_out_b" if is_tied else None,
        norm=NORM,
        bos=None,
        eos=EOS,
        unk=UNK,
        ignored=IGNORED,
    )
    return plan, tensors


def _with_input_scales(file: Path, named: Named) -> Named:
    """Eight-bit weights with what a published model multiplies their inputs by. Those of an output
    layer that is tied to a table have no name of their own."""
    tensors = Tensors(file, named)
    found: Named = {}
    for name, tensor in named.items():
        scale = f"{'none' if name.endswith('Wemb') else name}_QuantMultA"
        if isinstance(tensor, Quantised) and scale in named:
            multiplier = float(tensors.vector(scale, 1)[0])
            if not (math.isfinite(multiplier) and multiplier > 0):
                raise tensors.fail(f"tensor {scale} is {multiplier}, expected a positive number")
            tensor = tensor._replace(input_scale=multiplier)
        found[name] = tensor
    return found


class _Config:
    """The scalars of the training configuration."""

    def __init__(self, file: Path, found: dict[str, str]) -> None:
        self.file, self.found = file, found

    def fail(self, what: str) -> ValueError:
        return ValueError(f"{self.file}: {what}")

    def require(self, key: str, *known: str | None) -> str | None:
        """What it says, one of the known; None stands for nothing."""
        have = self.found.get(key)
        if have not in known:
            expected = tuple(one for one in known if one is not None)
            raise self.fail(f"{marian.CONFIG_NAME} says {key}: {have}; read so far: {expected}")
        return have

    def steps(self, key: str) -> str:
        """What happens before or after a sublayer, a letter each, dropout apart."""
        return self.found.get(key, "").replace("d", "")

    def has_norm(self, key: str) -> bool:
        if self.steps(key) not in ("", "n"):
            raise self.fail(f"{marian.CONFIG_NAME} says {key}: {self.found[key]}; known are n, d")
        return self.steps(key) == "n"

    def integer(self, key: str) -> int:
        have = self.found.get(key, "")
        if not (have.isascii() and have.isdigit() and 1 <= int(have) <= MAX_LAYERS):
            raise self.fail(
                f"{marian.CONFIG_NAME} says {key}: {have!r}, expected 1 to {MAX_LAYERS}"
            )
        return int(have)
