"""Writes Whisper models of random weights, by CTranslate2's own specification classes or as Hugging
Face lays them out, with a tokenizer by the tokenizers library."""

from __future__ import annotations

import json

import numpy as np
from ctranslate2.specs.whisper_spec import WhisperSpec
from safetensors.numpy import save_file
from tiny_torch import checkpoint
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

BANDS, POSITIONS, PLACES = 80, 1500, 48
LANGUAGES = ["en", "pt", "ja"]
VOCABULARY = 51865  # from so many tokens on a model is multilingual
TIMES = 1501


def tokenizer(filling=None):
    """Bytes and a filling, then the special tokens, so that those of times are the last."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    if filling is None:
        filling = VOCABULARY - TIMES - len(alphabet) - 7 - len(LANGUAGES)
    names = [*alphabet, *(f"<filling{i}>" for i in range(filling))]
    made = Tokenizer(models.BPE({name: i for i, name in enumerate(names)}, []))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    special = ["endoftext", "startoftranscript", *LANGUAGES, "translate", "transcribe",
               "startofprev", "nospeech", "notimestamps"]  # fmt: skip
    made.add_special_tokens([AddedToken(f"<|{name}|>", special=True) for name in special])
    return made


def tensors(layers=2, width=16, heads=2, inner=24, seed=0):
    """Weights by the names of Hugging Face's model, all float32."""
    rng = np.random.default_rng(seed)

    def draw(*shape):
        return rng.standard_normal(shape).astype(np.float32)

    found = {}

    def linear(name, outputs, *inputs, bias=True):
        found[f"{name}.weight"] = draw(outputs, *inputs) / np.float32(np.sqrt(np.prod(inputs)))
        if bias:
            found[f"{name}.bias"] = draw(outputs) * np.float32(0.1)

    def norm(name):
        found[f"{name}.weight"] = 1 + draw(width) * np.float32(0.1)
        found[f"{name}.bias"] = draw(width) * np.float32(0.1)

    linear("model.encoder.conv1", width, BANDS, 3)
    linear("model.encoder.conv2", width, width, 3)
    for side, count in (("encoder", POSITIONS), ("decoder", PLACES)):
        found[f"model.{side}.embed_positions.weight"] = draw(count, width)
        for i in range(layers):
            name = f"model.{side}.layers.{i}"
            for part in ("self_attn", *(["encoder_attn"] if side == "decoder" else [])):
                for one in ("q", "k", "v", "out"):
                    linear(f"{name}.{part}.{one}_proj", width, width, bias=one != "k")
                norm(f"{name}.{part}_layer_norm")
            linear(f"{name}.fc1", inner, width)
            linear(f"{name}.fc2", width, inner)
            norm(f"{name}.final_layer_norm")
        norm(f"model.{side}.layer_norm")
    found["model.decoder.embed_tokens.weight"] = draw(VOCABULARY, width)
    return found, heads


LAYOUTS = {
    "safetensors": ("model", "safetensors", save_file),
    "torch": ("pytorch_model", "bin", lambda some, path: path.write_bytes(checkpoint(some))),
    "old torch": (
        "pytorch_model", "bin", lambda some, path: path.write_bytes(checkpoint(some, old=True))
    ),
}  # fmt: skip
"""How Hugging Face's files of weights begin and end, and what writes one."""


def write_hugging_face(folder, *, parts=1, layout="safetensors", dtype=np.float32, **sizes):
    """A folder as Hugging Face has it, in so many files of weights."""
    found, heads = tensors(**sizes)
    found = {name: array.astype(dtype) for name, array in found.items()}
    layers = sizes.get("layers", 2)
    config = {
        "model_type": "whisper", "activation_function": "gelu", "scale_embedding": False,
        "encoder_layers": layers, "decoder_layers": layers, "encoder_attention_heads": heads,
        "decoder_attention_heads": heads,
        "decoder_start_token_id": tokenizer().token_to_id("<|startoftranscript|>"),
        "eos_token_id": tokenizer().token_to_id("<|endoftext|>"),
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    tokenizer().save(str(folder / "tokenizer.json"))
    stem, end, save = LAYOUTS[layout]
    if parts == 1:
        save(found, folder / f"{stem}.{end}")
        return
    listed = {}
    for i in range(parts):
        names = sorted(found)[i::parts]
        file = f"{stem}-{i + 1:05}-of-{parts:05}.{end}"
        save({name: found[name] for name in names}, folder / file)
        listed.update(dict.fromkeys(names, file))
    (folder / f"{stem}.{end}.index.json").write_text(json.dumps({"weight_map": listed}))


def write(folder, *, quantization=None, **sizes):
    """The same model as CTranslate2 has it."""
    found, heads = tensors(**sizes)
    layers = sizes.get("layers", 2)
    spec = WhisperSpec(layers, heads, layers, heads)

    def set_linear(part, *names):
        part.weight = np.concatenate([found[f"{name}.weight"] for name in names])
        zeros = np.zeros(len(part.weight) // len(names), np.float32)
        part.bias = np.concatenate([found.get(f"{name}.bias", zeros) for name in names])

    def set_norm(part, name):
        part.gamma, part.beta = found[f"{name}.weight"], found[f"{name}.bias"]

    for i, part in ((1, spec.encoder.conv1), (2, spec.encoder.conv2)):
        set_linear(part, f"model.encoder.conv{i}")
    for side, part in (("encoder", spec.encoder), ("decoder", spec.decoder)):
        part.position_encodings.encodings = found[f"model.{side}.embed_positions.weight"]
        set_norm(part.layer_norm, f"model.{side}.layer_norm")
        for i, layer in enumerate(part.layer):
            name = f"model.{side}.layers.{i}"
            own = f"{name}.self_attn"
            set_linear(layer.self_attention.linear[0], *(f"{own}.{one}_proj" for one in "qkv"))
            set_linear(layer.self_attention.linear[1], f"{own}.out_proj")
            set_norm(layer.self_attention.layer_norm, f"{own}_layer_norm")
            if side == "decoder":
                other = f"{name}.encoder_attn"
                set_linear(layer.attention.linear[0], f"{other}.q_proj")
                set_linear(layer.attention.linear[1], *(f"{other}.{one}_proj" for one in "kv"))
                set_linear(layer.attention.linear[2], f"{other}.out_proj")
                set_norm(layer.attention.layer_norm, f"{other}_layer_norm")
            set_linear(layer.ffn.linear_0, f"{name}.fc1")
            set_linear(layer.ffn.linear_1, f"{name}.fc2")
            set_norm(layer.ffn.layer_norm, f"{name}.final_layer_norm")
    spec.decoder.embeddings.weight = found["model.decoder.embed_tokens.weight"]
    spec.decoder.projection.weight = spec.decoder.embeddings.weight
    made = tokenizer()
    known = made.get_vocab_size()
    names = [made.id_to_token(i) for i in range(known)]
    spec.register_vocabulary([*names, *(f"<|{i}|>" for i in range(VOCABULARY - known))])
    spec.validate()
    spec.optimize(quantization=quantization)
    spec.save(str(folder))
    made.save(str(folder / "tokenizer.json"))
