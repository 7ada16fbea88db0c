"""Text to tokens and back: sentences by sentencex, tokens by SentencePiece."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import cast

from .extras import require


def sentences(text: str, language: str = "en") -> list[list[str]]:
    """The sentences of each line of a text, without the white space between them."""
    segment = require("sentencex", "text").segment
    text = text.encode("utf-8", "replace").decode("utf-8")  # half a surrogate pair is no text
    return [
        [stripped for sentence in segment(language, line) if (stripped := sentence.strip())]
        for line in text.splitlines()
    ]


class Vocabulary:
    """A SentencePiece model (``*.spm``).

    Raises
    ------
    ValueError
        The file is no SentencePiece model.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        sentencepiece = require("sentencepiece", "text")
        data = Path(path).read_bytes()
        self._processor = sentencepiece.SentencePieceProcessor()
        try:
            loaded = bool(data) and self._processor.LoadFromSerializedProto(data)
        except RuntimeError:
            loaded = False
        if not loaded:
            raise ValueError(f"{path}: not a SentencePiece model")
        self.size: int = self._processor.vocab_size()
        self.eos: int = self._processor.eos_id()
        self.unk: int = self._processor.unk_id()

    def encode(self, text: str) -> list[int]:
        """The ids of a text's tokens. What the vocabulary cannot express becomes `unk`."""
        return cast("list[int]", self._processor.encode(text))

    def decode(self, ids: Sequence[int]) -> str:
        """The text of token ids."""
        return cast(str, self._processor.decode(list(ids)))

    def tokens(self, ids: Sequence[int]) -> list[str]:
        """Each id's piece of text; "\u2581" stands for a space."""
        return cast("list[str]", self._processor.id_to_piece(list(ids)))
