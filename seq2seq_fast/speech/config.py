"""SpeechConfig: what a model of speech says beside its weights and its tokenizer."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..models.encoder_decoder import EncoderDecoder
from ..models.formats.huggingface import read_json
from .vocabulary import SpeechVocabulary


class SpeechConfig(NamedTuple):
    """From ``config.json`` and ``generation_config.json``, as CTranslate2 or Hugging Face have
    them."""

    suppress_tokens: list[int]
    """Tokens that a text has nowhere."""
    begin_suppress_tokens: list[int]
    """Tokens that a text does not begin with."""
    alignment_heads: list[tuple[int, int]]
    """Layers and heads of the decoder whose cross-attention follows the sound as it is written."""

    @staticmethod
    def read(folder: Path, model: EncoderDecoder, vocabulary: SpeechVocabulary) -> SpeechConfig:
        """What the folder's files say, as far as there are any.

        Raises
        ------
        ValueError
            They make no sense; the message names the file or folder.
        """

        def listed(name: str, found: Any, depth: int) -> list[Any]:
            try:
                array = np.array(found if found else np.zeros((0,) * depth, int))
            except ValueError:  # of lists that differ in length
                array = np.zeros(())
            if array.ndim != depth or array.dtype.kind != "i":
                raise ValueError(f"{folder}: {name} is {found!r:.80}, expected integers")
            return array.tolist()

        config: dict[str, Any] = {}
        for name in ("config.json", "generation_config.json"):
            if (folder / name).exists():
                config.update(read_json(folder / name))
        suppressed = config.get("suppress_ids", config.get("suppress_tokens"))
        at_first = config.get("suppress_ids_begin", config.get("begin_suppress_tokens"))
        special = set(range(vocabulary.start, vocabulary.no_times))
        every = sorted(special | set(listed("suppress_tokens", suppressed, 1)))
        first = listed("begin_suppress_tokens", at_first, 1)
        size = model.vocabulary_size
        if not all(0 <= token < size for token in (*every, *first)):
            raise ValueError(f"{folder}: tokens to suppress must be from 0 to {size - 1}")
        named = listed("alignment_heads", config.get("alignment_heads"), 2)
        if any(len(pair) != 2 for pair in named):
            raise ValueError(f"{folder}: alignment_heads must be pairs of a layer and a head")
        layers = model.decoder.layers
        heads = [(i, j) for i in range(len(layers)) for j in range(layers[i].attention.heads.count)]
        # A distilled model may name its teacher's heads, some of them in layers that it has not.
        own = [(layer, head) for layer, head in named if (layer, head) in heads]
        upper = [(layer, head) for layer, head in heads if layer >= len(layers) // 2]
        return SpeechConfig(every, first, own or upper)
