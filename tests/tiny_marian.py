"""Writes Marian binary files: a tiny model of random weights, of the published models' make."""

from __future__ import annotations

import struct

import numpy as np

WIDTH, INNER, HEADS, VOCABULARY, ENCODERS, DECODERS = 16, 24, 2, 20, 2, 2

CONFIG = f"""dim-emb: {WIDTH}
dim-vocabs:
  - {VOCABULARY}
  - {VOCABULARY}
enc-depth: {ENCODERS}
dec-depth: {DECODERS}
dec-cell: ssru
tied-embeddings-all: true
transformer-decoder-autoreg: rnn
transformer-ffn-activation: relu
transformer-heads: {HEADS}
transformer-postprocess: dan
transformer-postprocess-top: ""
type: transformer
"""

FLOAT32, INT8, INTGEMM8 = 0x0404, 0x0101, 0x4101


def shapes() -> dict[str, tuple[int, int]]:
    """Every tensor of the model."""
    d, f = WIDTH, INNER
    found = {"Wemb": (VOCABULARY, d), "decoder_ff_logit_out_b": (1, VOCABULARY)}

    def attention(name):
        found.update({f"{name}_W{part}": (d, d) for part in "qkvo"})
        found.update({f"{name}_b{part}": (1, d) for part in "qkvo"})
        norm(f"{name}_Wo")

    def norm(name):
        found[f"{name}_ln_scale"] = found[f"{name}_ln_bias"] = (1, d)

    def feed_forward(name):
        found[f"{name}_W1"], found[f"{name}_b1"] = (d, f), (1, f)
        found[f"{name}_W2"], found[f"{name}_b2"] = (f, d), (1, d)
        norm(f"{name}_ffn")

    for i in range(1, 1 + ENCODERS):
        attention(f"encoder_l{i}_self")
        feed_forward(f"encoder_l{i}_ffn")
    for i in range(1, 1 + DECODERS):
        found[f"decoder_l{i}_rnn_W"] = found[f"decoder_l{i}_rnn_Wf"] = (d, d)
        found[f"decoder_l{i}_rnn_bf"] = (1, d)
        norm(f"decoder_l{i}_rnn_ffn")
        attention(f"decoder_l{i}_context")
        feed_forward(f"decoder_l{i}_ffn")
    return found


def random_tensors(seed: int = 0) -> dict[str, np.ndarray]:
    """float32 weights; norms near 1."""
    rng = np.random.default_rng(seed)
    tensors = {}
    for name, shape in shapes().items():
        spread = 1.0 if name == "Wemb" else 0.3
        tensors[name] = (rng.standard_normal(shape) * spread).astype(np.float32)
        if name.endswith("ln_scale"):
            tensors[name] += 1
    return tensors


def blob(array: np.ndarray) -> tuple[int, tuple[int, ...], bytes]:
    """A float32 tensor as (type, shape, data)."""
    return FLOAT32, array.shape, array.astype("<f4").tobytes()


def intgemm8(array: np.ndarray, *, transposed: bool) -> tuple[int, tuple[int, ...], bytes]:
    """A quantised tensor as (type, shape, data), and padded as Marian pads it."""
    multiplier = np.float32(127 / np.abs(array).max())
    integers = np.rint(array * multiplier).astype(np.int8)
    data = (integers.T if transposed else integers).tobytes() + struct.pack("<f", multiplier)
    return INTGEMM8, array.shape, data + bytes(-len(data) % 256)


def pack(blobs: dict[str, tuple[int, tuple[int, ...], bytes]], version: int = 1) -> bytes:
    """The bytes of a file."""
    names = {name: name.encode() + b"\0" for name in blobs}
    file = struct.pack("<QQ", version, len(blobs))
    for name, (type_, shape, data) in blobs.items():
        file += struct.pack("<4Q", len(names[name]), type_, len(shape), len(data))
    file += b"".join(names.values())
    for _, shape, _ in blobs.values():
        file += struct.pack(f"<{len(shape)}i", *shape)
    padding = -(len(file) + 8) % 256
    file += struct.pack("<Q", padding) + bytes(padding)
    return file + b"".join(data for _, _, data in blobs.values())


def model_file(tensors=None, config: str = CONFIG) -> bytes:
    """The whole tiny model; matrices quantised, vectors not, as in the published files."""
    tensors = random_tensors() if tensors is None else tensors
    blobs = {
        name: blob(array) if array.shape[0] == 1 else intgemm8(array, transposed="Wemb" not in name)
        for name, array in tensors.items()
    }
    text = config.encode() + b"\0"
    blobs["special:model.yml"] = (INT8, (len(text),), text)
    return pack(blobs)


def self_attention_file() -> bytes:
    """The tiny model with self-attention in place of recurrence."""
    rng = np.random.default_rng(5)
    d = WIDTH
    tensors = {k: v for k, v in random_tensors().items() if "_rnn_" not in k}
    for i in range(1, 1 + DECODERS):
        name = f"decoder_l{i}_self"
        for part in "qkvo":
            tensors[f"{name}_W{part}"] = rng.standard_normal((d, d)).astype(np.float32) * 0.3
            tensors[f"{name}_b{part}"] = rng.standard_normal((1, d)).astype(np.float32) * 0.3
        tensors[f"{name}_Wo_ln_scale"] = np.ones((1, d), np.float32)
        tensors[f"{name}_Wo_ln_bias"] = np.zeros((1, d), np.float32)
    return model_file(tensors, CONFIG.replace("autoreg: rnn", "autoreg: self-attention"))
