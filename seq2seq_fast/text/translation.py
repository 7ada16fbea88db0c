"""Translation: what Translator gives for a text."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..decoding.search import Hypothesis
from ..models.encoder_decoder import EncoderDecoder
from ..pickling import Result

__all__ = ["Translation"]

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, eq=False)
class Translation(Result):
    """A translated text. It pickles without its model's weights.

    Attributes
    ----------
    text : str
    tokens : list of str
        Those of the translation, all sentences in turn, as the model wrote them: with stand-ins,
        such as "X1", for what is copied from the source.
    source_tokens : list of str
        Those of the source, with the end of each sentence.
    score : float
        The sum of the tokens' log-probabilities, the ends of the sentences included.
    finished : bool
        Whether each sentence came to its end; False if one was cut at the limit of its length.
    parts : list of (list of int, Hypothesis)
        Of each sentence, or part of a long one, the source's token ids, its end included, and what
        was found.
    model : EncoderDecoder
        What translated it.

    Examples
    --------
    >>> from seq2seq_fast import Translator
    >>> from seq2seq_fast.demo import find_translation_model
    >>> found = Translator(find_translation_model("pt")).translate(["How are you today?"])[0]
    >>> found.text, round(found.score, 3), found.finished
    ('Como você está hoje?', -1.099, True)
    >>> found.attention.shape == (len(found.tokens), len(found.source_tokens))
    True
    """

    text: str
    tokens: list[str]
    source_tokens: list[str]
    score: float
    finished: bool
    parts: list[tuple[list[int], Hypothesis]] = field(repr=False)
    model: EncoderDecoder = field(repr=False)

    @functools.cached_property
    def attention(self) -> Array:
        """Cross-attention, of shape (tokens, source_tokens): how much each token looked at each
        source token, as the last layer's mean over heads. It is computed when it is first read."""
        return self.attention_of()

    def attention_of(self, layer: int = -1, head: int | None = None) -> Array:
        """Cross-attention of one layer of the decoder, or of one of its heads. A sentence attends
        to itself only, so blocks lie along the diagonal.

        Parameters
        ----------
        layer : int
            Of the decoder, -1 for the last one.
        head : int, optional
            The mean over the heads if left out.

        Returns
        -------
        ndarray of float32, shape (tokens, source_tokens)

        Raises
        ------
        ValueError
            There is no such layer or head.
        """
        attention = np.zeros((len(self.tokens), len(self.source_tokens)), np.float32)
        row = column = 0
        for ids, found in self.parts:
            height, width = len(found.tokens), len(ids)
            attention[row : row + height, column : column + width] = self.model.align(
                ids, found.tokens, layer=layer, head=head
            )
            row, column = row + height, column + width
        return attention
