"""Writes CTranslate2 models of random weights, by its own specification classes, and edits them."""

from __future__ import annotations

import struct

import numpy as np
from ctranslate2.specs import common_spec, model_spec
from ctranslate2.specs.transformer_spec import TransformerSpec

from seq2seq_fast.models.formats import ctranslate2 as reader

TOKENS = ["<blank>", "<s>", "</s>"]


def write(folder, *, layers=2, width=32, inner=48, vocabulary=40, heads=4, key_heads=None, seed=0,
          quantization=None, tied=False, zero_start=False, positions=0, spread=1.0, scale=True,
          special=TOKENS, config=None, head_width=None, distance=20, **choices):  # fmt: skip
    """A model in `folder` and its vocabulary: `special`, and w3, w4 ... behind them.

    `choices` are those of TransformerSpec.from_config; `positions`: how many are learned;
    `spread` widens the differences of logits; `scale` is that of both embeddings; `config` changes
    what config.json says; a relative bias reaches as far as `distance`, and scores then have no
    scale.
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

    if choices.get("multi_query_attention"):
        key_heads = 1
    query_width = heads * (head_width or width // heads)
    key_width = query_width // heads * (key_heads or heads)
    for side in (spec.encoder, spec.decoder):
        side.scale_embeddings = scale
        bias = draw(32, heads) if choices.get("relative_attention_bias") else None
        for layer in side.layer:
            fill(layer.self_attention.linear[0], query_width + 2 * key_width, width)
            fill(layer.self_attention.linear[1], width, query_width)
            if choices.get("relative_attention_bias"):
                own = layer.self_attention
                own.relative_attention_bias = bias
                own.relative_attention_max_distance = np.int32(distance)
                own.queries_scale = np.float32(1)
            norm(layer.self_attention.layer_norm)
            if side is spec.decoder:
                fill(layer.attention.linear[0], query_width, width)
                fill(layer.attention.linear[1], 2 * key_width, width)
                fill(layer.attention.linear[2], width, query_width)
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
    names = [*special, *(f"w{i}" for i in range(len(special), vocabulary))]
    for key, value in (config or {}).items():
        setattr(spec.config, key, value)
    spec.register_source_vocabulary(names)
    spec.register_target_vocabulary(names)
    spec.validate()
    spec.optimize(quantization=quantization)
    model_spec.visit_spec(spec, leave_room)
    spec.save(str(folder))
    if key_heads:
        attentions = (
            *((f"encoder/layer_{i}/self_attention") for i in range(layers)),
            *((f"decoder/layer_{i}/{part}") for i in range(layers)
              for part in ("self_attention", "attention")),
        )  # fmt: skip
        edit(folder, {f"{name}/num_heads_kv": np.int32(key_heads) for name in attentions})
    return names


def leave_room(part, name, value):
    """Eight-bit weights become seven-bit ones: where a processor has no instruction for dot
    products of bytes, CTranslate2 adds pairs in 16 bits, which the others overflow."""
    if name.endswith("/weight") and getattr(value, "dtype", None) == "int8":
        value.array = np.rint(value.array / np.float32(2)).astype(np.int8)
        part.weight_scale.array = part.weight_scale.array / np.float32(2)


def edit(folder, change, *, rename=str, version=6, revision=None):
    """Writes the model's file anew with changed tensors (None: without them), and other names."""
    path = folder / "model.bin"
    _, spec, old, stored = reader.read(path)
    first = {}  # the name of each tensor, of which the others are aliases
    aliases = [(rename(name), first[id(one)]) for name, one in stored.items()
               if first.setdefault(id(one), rename(name)) != rename(name)]  # fmt: skip
    arrays = {first[id(one)]: np.asarray(one) for one in stored.values()}
    arrays = {
        name: np.asarray(value) for name, value in {**arrays, **change}.items() if value is not None
    }

    def text(value):
        return struct.pack("<H", len(value) + 1) + value.encode() + b"\0"

    parts = [struct.pack("<I", version), text(spec)]
    parts.append(struct.pack("<II", revision or old, len(arrays)))
    for name, array in arrays.items():
        kind = ["f4", "i1", "i2", "i4", "f2"].index(array.dtype.str[1:])
        parts += [text(name), struct.pack(f"<B{array.ndim}I", array.ndim, *array.shape),
                  struct.pack("<BI", kind, array.nbytes), array.tobytes()]  # fmt: skip
    parts += [struct.pack("<I", len(aliases)), *(text(name) for pair in aliases for name in pair)]
    path.write_bytes(b"".join(parts))


ACTIVATIONS = {
    "relu": common_spec.Activation.RELU,
    "gelu": common_spec.Activation.GELU,
    "gelu_tanh": common_spec.Activation.GELUTanh,
    "gelu_sigmoid": common_spec.Activation.GELUSigmoid,
    "silu": common_spec.Activation.SWISH,
}
