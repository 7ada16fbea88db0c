"""Folders as huggingface/transformers writes them, of small models with random weights."""

from __future__ import annotations

from functools import cache

BART = {
    "vocab_size": 67, "d_model": 32, "encoder_layers": 2, "decoder_layers": 3,
    "encoder_attention_heads": 4, "decoder_attention_heads": 2, "encoder_ffn_dim": 48,
    "decoder_ffn_dim": 40, "max_position_embeddings": 72,
}  # fmt: skip
T5 = {
    "vocab_size": 67, "d_model": 32, "d_kv": 12, "d_ff": 48, "num_layers": 2, "num_heads": 4,
    "num_decoder_layers": 3, "decoder_start_token_id": 0, "relative_attention_max_distance": 20,
}  # fmt: skip
FAMILIES = {
    "bart": ("Bart", BART),
    "bart-scaled": ("Bart", {**BART, "scale_embedding": True, "activation_function": "gelu_new"}),
    "mbart": ("MBart", {**BART, "scale_embedding": True, "decoder_start_token_id": 2}),
    "plbart": ("PLBart", {**BART, "scale_embedding": True, "decoder_start_token_id": 2}),
    "marian": (
        "Marian",
        {
            **BART, "scale_embedding": True, "activation_function": "swish", "pad_token_id": 66,
            "eos_token_id": 0, "decoder_start_token_id": 66, "forced_eos_token_id": 0,
        },
    ),
    "marian-two-tables": (
        "Marian",
        {
            **BART, "pad_token_id": 60, "eos_token_id": 0, "decoder_start_token_id": 60,
            "decoder_vocab_size": 61, "share_encoder_decoder_embeddings": False,
            "forced_eos_token_id": 0,
        },
    ),
    "m2m_100": ("M2M100", {**BART, "scale_embedding": True}),
    "pegasus": ("Pegasus", {**BART, "scale_embedding": True, "activation_function": "relu"}),
    "blenderbot": ("Blenderbot", BART),
    "blenderbot-small": ("BlenderbotSmall", BART),
    "t5": ("T5", T5),
    "t5-gated": ("T5", {**T5, "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}),
    "t5-silu": ("T5", {**T5, "feed_forward_proj": "gated-silu"}),
    "mt5": ("MT5", {**T5, "feed_forward_proj": "gated-gelu"}),
    "umt5": ("UMT5", {**T5, "feed_forward_proj": "gated-gelu"}),
}  # fmt: skip
"""Of each the name of its classes, and what its config is given."""
SUFFIX = {"Marian": "MTModel"}


@cache
def transformers():
    """The package, quiet."""
    import torch
    import transformers

    torch.set_num_threads(1)  # more would only wait for each other
    transformers.logging.set_verbosity_error()
    return transformers


@cache
def random_model(family, seed=0, **changes):
    """A model of transformers', in evaluation: all numbers random, so that what is a default in a
    new one shows when it is left out."""
    import torch

    name, given = FAMILIES[family]
    module = transformers()
    config = getattr(module, f"{name}Config")(**{**given, **changes})
    torch.manual_seed(seed)
    suffix = SUFFIX.get(name, "ForConditionalGeneration")
    model = getattr(module, f"{name}{suffix}")(config).eval()
    with torch.no_grad():
        for key, value in [*model.named_parameters(), *model.named_buffers()]:
            sinusoids = "embed_positions" in key and name in ("Marian", "Pegasus", "M2M100")
            if not value.is_floating_point() or sinusoids:
                continue
            is_norm = value.dim() == 1 and key.endswith("weight")
            scale = 0.3 if value.dim() > 1 else 0.2
            value.normal_(1.0 if is_norm else 0.0, scale)
    return model


def saved(model, folder, **changes):
    """Writes the folder."""
    model.save_pretrained(folder, **changes)
    return folder
