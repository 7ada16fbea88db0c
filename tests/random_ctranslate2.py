"""Writes CTranslate2 models of random weights, by its own specification classes."""

from __future__ import annotations

import numpy as np
from ctranslate2.specs import common_spec
from ctranslate2.specs.transformer_spec import TransformerSpec

TOKENS = ["<blank>", "<s>", "</s>"]


def write(folder, *, layers=2, width=32, inner=48, vocabulary=40, heads=4, seed=0,
          quantization=None, tied=False, zero_start=False, positions=0, spread=1.0,
          **choices):  # fmt: skip
    """A model in `folder` and its vocabulary <blank>, <s>, </s>, w3, w4 ...

    `choices` are those of TransformerSpec.from_config; `positions`: how many are learned;
    `spread` widens the differences of logits.
    """
    rng = np.random.default_rng(seed)
    # Attention is that of all heads, as here.
    spec = TransformerSpec.from_config(layers, heads, alignment_heads=heads, **choices)
    biased = not choices.get("rms_norm", False)

    def fill(linear, outputs, inputs, scale=1.0):
        linear.weight = draw(outputs, inputs) * np.float32(scale / np.sqrt(inputs))
        if biased:
            linear.bias = draw(outputs) * np.float32(0.1)

    def draw(*shape):
        return rng.standard_normal(shape).astype(np.float32)

    def norm(part):
        part.gamma = 1 + draw(width) * np.float32(0.1)
        if biased:
            part.beta = draw(width) * np.float32(0.1)

    key_width = width // heads if choices.get("multi_query_attention") else width
    for side in (spec.encoder, spec.decoder):
        for layer in side.layer:
            fill(layer.self_attention.linear[0], width + 2 * key_width, width)
            fill(layer.self_attention.linear[1], width, width)
            norm(layer.self_attention.layer_norm)
            if side is spec.decoder:
                fill(layer.attention.linear[0], width, width)
                fill(layer.attention.linear[1], 2 * key_width, width)
                fill(layer.attention.linear[2], width, width)
                norm(layer.attention.layer_norm)
            fill(layer.ffn.linear_0, inner, width)
            if choices.get("ffn_glu"):
                fill(layer.ffn.linear_0_noact, inner, width)
            fill(layer.ffn.linear_1, width, inner)
            norm(layer.ffn.layer_norm)
        if positions:
            side.position_encodings.encodings = draw(positions, width)
        if choices.get("layernorm_embedding"):
            norm(side.layernorm_embedding)
        if getattr(side, "layer_norm", None) is not None and not choices.get("no_final_norm"):
            norm(side.layer_norm)
    spec.encoder.embeddings[0].weight = draw(vocabulary, width)
    spec.decoder.embeddings.weight = (
        spec.encoder.embeddings[0].weight if tied else draw(vocabulary, width)
    )
    fill(spec.decoder.projection, vocabulary, width, spread)
    if tied:
        spec.decoder.projection.weight = spec.decoder.embeddings.weight
    spec.decoder.start_from_zero_embedding = zero_start
    names = [*TOKENS, *(f"w{i}" for i in range(len(TOKENS), vocabulary))]
    spec.register_source_vocabulary(names)
    spec.register_target_vocabulary(names)
    spec.validate()
    spec.optimize(quantization=quantization)
    spec.save(str(folder))
    return names


ACTIVATIONS = {
    "relu": common_spec.Activation.RELU,
    "gelu": common_spec.Activation.GELU,
    "gelu_tanh": common_spec.Activation.GELUTanh,
    "gelu_sigmoid": common_spec.Activation.GELUSigmoid,
    "silu": common_spec.Activation.SWISH,
}
