"""What the uses of models of text give for a text: translations, summaries, generations."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..decoding.search import Hypothesis
from ..models.encoder_decoder import EncoderDecoder
from ..pickling import Result

__all__ = ["Generation", "Summary", "TextResult", "Translation"]

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, eq=False)
class TextResult(Result):
    """What a model made of a text. It pickles without the model's weights.

    Attributes
    ----------
    text : str
    tokens : list of str
        Those of the result, all parts in turn, as the model wrote them.
    source_tokens : list of str
        Those of the source, with what each part begins and ends with.
    score : float
        The sum of the tokens' log-probabilities, the ends of the parts included.
    finished : bool
        Whether each part came to its end; False if one was cut at the limit of its length.
    parts : list of (list of int, Hypothesis)
        Of each part that the model was given by itself the source's token ids, and what was found.
    model : EncoderDecoder
        What made it.
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
        """Cross-attention of one layer of the decoder, or of one of its heads. A part attends to
        itself only, so blocks lie along the diagonal.

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


@dataclass(frozen=True, eq=False)
class Translation(TextResult):
    """A translated text. Its parts are sentences, and parts of long ones; its tokens are as the
    model wrote them, with stand-ins, such as "X1", for what is copied from the source.

    Attributes are those of TextResult.

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


@dataclass(frozen=True, eq=False)
class Summary(TextResult):
    """A summarized text.

    Attributes
    ----------
    cut_into : int
        How many parts the text was cut into: 1, unless it was longer than the model reads at once.
        The summary is that of each in turn; of what was summarized again, `parts` and `tokens` are
        those of the last time.

    Others are those of TextResult.

    Examples
    --------
    >>> from seq2seq_fast import Summarizer
    >>> from seq2seq_fast.demo import find_translation_model
    >>> found = Summarizer(find_translation_model("pt")).summarize(["Good night."])[0]
    >>> found.text, found.cut_into
    ('Boa noite.', 1)
    """

    cut_into: int = 1


@dataclass(frozen=True, eq=False)
class Generation(TextResult):
    """What a model answers to a text, which is its only part.

    Attributes are those of TextResult.

    Examples
    --------
    >>> from seq2seq_fast import TextGenerator
    >>> from seq2seq_fast.demo import find_translation_model
    >>> found = TextGenerator(find_translation_model("pt")).generate(["Good night."])[0]
    >>> found.text, found.tokens
    ('Boa noite.', ['▁Boa', '▁noite', '.'])
    """
