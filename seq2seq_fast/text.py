"""Sentences of text, by sentencex, and the tokens of models of speech, by tokenizers."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import cast

from .extras import require
from .pickling import FromFiles, Origin


def sentences(text: str, language: str = "en") -> list[list[str]]:
    """The sentences of each line of a text, without the white space between them."""
    segment = require("sentencex", "text").segment
    text = text.encode("utf-8", "replace").decode("utf-8")  # half a surrogate pair is no text
    return [
        [stripped for sentence in segment(language, line) if (stripped := sentence.strip())]
        for line in text.splitlines()
    ]


SPACELESS = ("zh", "ja", "th", "lo", "my", "yue")
"""Languages written without spaces between words."""


class SpeechVocabulary(FromFiles):
    """Whisper's tokens (``tokenizer.json``): text, then tokens of languages, tasks and times.

    Parameters
    ----------
    path : path
    size : int
        Tokens of the model.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    ValueError
        It is no tokenizer of Whisper's, or has not the model's tokens.
    """

    TIMES = 1501  # tokens of times: 0 to 30 seconds
    FIRST_MULTILINGUAL = 51865  # tokens; smaller models know English alone

    def __init__(self, path: str | os.PathLike[str], size: int) -> None:
        tokenizers = require("tokenizers", "speech")
        if not Path(path).is_file():
            raise FileNotFoundError(f"{path}: no such tokenizer")
        try:
            self._tokenizer = tokenizers.Tokenizer.from_file(os.fspath(path))
        except Exception as error:  # the library raises nothing more special
            raise ValueError(f"{path}: not a tokenizer: {error}") from None

        def known(*names: str) -> int:
            for name in names:
                found = self._tokenizer.token_to_id(f"<|{name}|>")
                if found is not None:
                    return cast(int, found)
            raise ValueError(f"{path}: not a tokenizer of Whisper: it has no <|{names[0]}|>")

        self.end = known("endoftext")  # tokens before it are text
        self.start = known("startoftranscript")
        self.previous = known("startofprev")
        self.no_speech = known("nospeech", "nocaptions")
        self.no_times = known("notimestamps")
        self.tasks = {"transcribe": known("transcribe"), "translate": known("translate")}
        self.first_time = self.no_times + 1
        last = self.first_time + self.TIMES - 1
        if last >= size:
            raise ValueError(f"{path}: has the token {last}, the model only {size} tokens")
        self.languages: dict[str, int] = {}
        """The tokens of languages by their codes; none for a model of English alone."""
        if size >= self.FIRST_MULTILINGUAL:
            for token in range(self.start + 1, min(self.tasks.values())):
                name = self._tokenizer.id_to_token(token) or ""
                self.languages[name.strip("<|>")] = token
        arguments = {"path": os.path.abspath(path), "size": size}
        Origin(SpeechVocabulary, arguments, [path]).of(self)

    def encode(self, text: str) -> list[int]:
        """The tokens of a text."""
        return cast("list[int]", self._tokenizer.encode(text, add_special_tokens=False).ids)

    def decode(self, ids: Sequence[int]) -> str:
        """The text of tokens; those that are no text are left out."""
        text = [i for i in ids if i < self.end]
        return cast(str, self._tokenizer.decode(text, skip_special_tokens=False))

    def words(self, ids: Sequence[int], language: str) -> list[tuple[str, int]]:
        """The words that tokens of text make, each with its spaces and number of tokens; where
        words are not parted by spaces, the characters."""
        characters: list[tuple[str, int]] = []
        count = 0
        for i in range(len(ids)):
            count += 1
            text = self.decode(ids[i + 1 - count : i + 1])
            # A token may end within a character, which then shows as U+FFFD.
            if "\ufffd" not in text or i == len(ids) - 1:
                characters.append((text, count))
                count = 0
        if language in SPACELESS:
            return characters
        words: list[tuple[str, int]] = []
        for text, count in characters:
            if words and not text.startswith(" ") and any(c.isalnum() for c in text):
                text, count = words[-1][0] + text, words[-1][1] + count
                words[-1] = (text, count)
            else:
                words.append((text, count))
        return words
