"""Vocabularies: a tokenizer and the ids that a model has for its pieces."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ...pickling import FromFiles, Origin
from .directions import Direction, Languages
from .layouts import LAYOUTS, SENTINEL
from .tokenizer import open_tokenizer
from .tokens import read_tokens

NO_LANGUAGES = Languages()
UNNAMED = "<>"  # stands for the ids that a tokenizer has no token for
CONTROL = frozenset({"<s>", "</s>", "<pad>", "<blank>"})
"""Tokens that steer a model, in vocabularies whose tokenizer does not say so."""


class Vocabulary(FromFiles):
    """The tokens of a model's source or target. Any number of threads may use it; it pickles as its
    files' paths.

    Parameters
    ----------
    path : path
        The tokenizer: a SentencePiece model (``*.spm``, ``*.model``), ``tokenizer.json``, or
        ``vocab.json`` with ``merges.txt`` beside it.
    tokens : path, optional
        The file that says which id each piece has; the tokenizer's own ids if left out.
    eos, unk : str, optional
        The names of the tokens that end a sequence and that stand for what is unknown, where they
        are not the tokenizer's own, ``</s>`` and ``<unk>``.
    layout : str, optional
        Which id each piece has, where that is a rule: of `layouts.LAYOUTS`, "merges" or "bytes".
    size : int, optional
        Tokens that the model knows: ids beyond it are none, and what the tokenizer lacks of them
        has no name.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    ValueError
        A file is no tokenizer or no list of tokens; the message names it.

    Examples
    --------
    >>> from seq2seq_fast.demo import find_translation_model
    >>> vocabulary = Vocabulary(next(find_translation_model("pt").glob("*.spm")))
    >>> ids = vocabulary.encode("How are you?")
    >>> vocabulary.tokens(ids), vocabulary.decode(ids)
    (['▁How', '▁are', '▁you', '?'], 'How are you?')
    """

    names: list[str]
    """Every token, by id."""
    size: int
    eos: int | None
    """The id of the token that ends a sequence; None if there is none."""
    unk: int | None
    """The id of what the vocabulary cannot express; None if there is none."""

    def __init__(
        self,
        path: str | os.PathLike[str],
        tokens: str | os.PathLike[str] | None = None,
        eos: str | None = None,
        unk: str | None = None,
        *,
        layout: str | None = None,
        size: int | None = None,
    ) -> None:
        files = {"path": path} if tokens is None else {"path": path, "tokens": tokens}
        paths = {name: os.path.abspath(file) for name, file in files.items()}
        more = {"eos": eos, "unk": unk, "layout": layout, "size": size}
        origin = Origin(Vocabulary, {**paths, **more}, paths.values())
        self.tokenizer = open_tokenizer(Path(path), layout)
        self.path = Path(path if tokens is None else tokens)
        self.names = self.tokenizer.names
        if layout in LAYOUTS:
            listed = None if tokens is None else Path(tokens)
            self.names = LAYOUTS[layout](self.names, Path(path).parent, listed)
        elif tokens is not None:
            self.names = read_tokens(self.path)
        if size is not None:
            self.names = [*self.names[:size], *([UNNAMED] * (size - len(self.names)))]
        self.size = len(self.names)
        eos, unk = eos or self.tokenizer.eos or "</s>", unk or self.tokenizer.unk or "<unk>"
        ids: dict[str, int] = {}
        for i, name in enumerate(self.names):
            ids.setdefault(name, i)  # the first counts, as in CTranslate2
        self.eos, self.unk = ids.get(eos), ids.get(unk)
        self._ids = ids
        self._control = {*CONTROL, *self.tokenizer.control, UNNAMED, eos} - {unk}
        self._control.update(Languages.of(self.names).codes)
        self.sentinels = {name for name in ids if SENTINEL.fullmatch(name)}
        """What stands for a hole in a text."""
        self._control |= self.sentinels
        origin.of(self)

    def id(self, name: str) -> int | None:
        """The id of a token; None if there is no such token."""
        return self._ids.get(name)

    def encode(self, text: str, *, sentinels: bool = False) -> list[int]:
        """The ids of a text's tokens. What the vocabulary cannot express becomes `unk`.

        Parameters
        ----------
        text : str
        sentinels : bool
            ``<extra_id_0>``, ``<mask>`` and their like in the text are holes; else they are not
            known, as all that steers a model.

        Raises
        ------
        ValueError
            The tokenizer's file is damaged.
        """
        if self.unk is None:
            raise ValueError(f"{self.path}: has no token for what is unknown")
        # A text that happens to hold "</s>" does not end there.
        control = self._control
        if sentinels and self.sentinels:
            control = control - self.sentinels
            pieces = self.tokenizer.encode_with(text, self.sentinels)
        else:
            pieces = self.tokenizer.encode(text)
        unk, ids = self.unk, self._ids
        return [unk if piece in control else ids.get(piece, unk) for piece in pieces]

    def decode(self, ids: Sequence[int]) -> str:
        """The text of token ids; those that steer the model stand for none.

        Raises
        ------
        ValueError
            The tokenizer's file is damaged.
        """
        return self.tokenizer.decode(
            [name for name in self.tokens(ids) if name not in self._control]
        )

    def tokens(self, ids: Sequence[int]) -> list[str]:
        """Each id's piece of text; "\u2581" stands for a space in SentencePiece's."""
        return [self.names[i] for i in ids]


@dataclass(frozen=True)
class TextVocabulary:
    """Both sides of a model's vocabulary, and what a source of the model's begins and ends with."""

    source: Vocabulary
    target: Vocabulary
    start: list[int]
    end: list[int]
    languages: Languages = NO_LANGUAGES
    limit: int | None = None
    """Tokens of a source, where the tokenizer's files name a limit."""

    def between(self, source_language: str | None, target_language: str | None) -> Direction:
        """What a source begins and ends with, and what its result has to.

        Parameters
        ----------
        source_language, target_language : str or None
            The model's own codes, or ISO 639's; a model of one pair needs none.

        Raises
        ------
        ValueError
            A language is missing or is none of the model's; the message lists near ones.
        """
        return self.languages.between(source_language, target_language, self.start, self.end)

    @property
    def size(self) -> int:
        """Tokens of the target."""
        return self.target.size

    @property
    def eos(self) -> int | None:
        """The target's token that ends a sequence."""
        return self.target.eos

    @property
    def unk(self) -> int | None:
        """The target's token for what is unknown."""
        return self.target.unk

    def encode(self, text: str, *, sentinels: bool = False) -> list[int]:
        """The ids of a source text's tokens, without `start` and `end`."""
        return self.source.encode(text, sentinels=sentinels)

    def decode(self, ids: Sequence[int]) -> str:
        """The text of target tokens."""
        return self.target.decode(ids)

    def tokens(self, ids: Sequence[int]) -> list[str]:
        """Each target id's piece of text."""
        return self.target.tokens(ids)
