"""Whisper's tokens: the tokenizer that lies beside a model of speech.

Its files are read here, and the library is given only what they say of byte-level BPE, which is all
that Whisper has: tokens, merges and special tokens. So whatever else a file asks for cannot happen,
and both kinds of file, ``tokenizer.json`` and ``vocab.json`` with ``merges.txt``, give the same.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar, cast

from ..extras import require
from ..models.formats.huggingface import read_json
from ..pickling import FromFiles, Origin
from .languages import SPACELESS

R = TypeVar("R")


class SpeechVocabulary(FromFiles):
    """Whisper's tokens: text, then tokens of languages, tasks and times.

    Parameters
    ----------
    path : path
        A ``tokenizer.json``, or a folder with one, or with ``vocab.json``, ``merges.txt`` and, if
        that names the special tokens, ``added_tokens.json``.
    size : int
        Tokens of the model.

    Raises
    ------
    FileNotFoundError
        There are no such files.
    ValueError
        They are no tokenizer of Whisper's, or have not the model's tokens. The message names the
        file.
    ImportError
        The extra "speech" is not installed.
    """

    TIMES = 1501  # tokens of times: 0 to 30 seconds
    FIRST_MULTILINGUAL = 51865  # tokens; smaller models know English alone

    def __init__(self, path: str | os.PathLike[str], size: int) -> None:
        self.size = size
        folder = Path(path)
        file = folder / "tokenizer.json" if folder.is_dir() else folder
        arguments = {"path": os.path.abspath(path), "size": size}
        if file.is_file():
            origin = Origin(SpeechVocabulary, arguments, [file])
            tokens, merges, special = _read_tokenizer(file)
        elif folder.is_dir() and (folder / "vocab.json").is_file():
            file = folder / "vocab.json"
            names = ("vocab.json", "merges.txt", "added_tokens.json")
            files = [folder / name for name in names if (folder / name).is_file()]
            origin = Origin(SpeechVocabulary, arguments, files)
            tokens, merges, special = _read_vocab_and_merges(folder)
        else:
            raise FileNotFoundError(
                f"{file}: no such tokenizer, nor vocab.json and merges.txt beside it"
            )
        ids = {**tokens, **special}

        def known(*names: str) -> int:
            for name in names:
                found = ids.get(f"<|{name}|>")
                if found is not None:
                    break
            else:
                raise ValueError(f"{file}: not a tokenizer of Whisper: it has no <|{names[0]}|>")
            if not 0 <= found < size:
                raise ValueError(f"{file}: has the token {found}, the model only {size} tokens")
            return found

        self.end = known("endoftext")  # tokens before it are text
        self.start = known("startoftranscript")
        self.previous = known("startofprev")
        self.no_speech = known("nospeech", "nocaptions")
        self.no_times = known("notimestamps")
        self.tasks = {"transcribe": known("transcribe"), "translate": known("translate")}
        self.first_time = self.no_times + 1
        last = self.first_time + self.TIMES - 1
        if last >= size:
            raise ValueError(f"{file}: has the token {last}, the model only {size} tokens")
        self.languages: dict[str, int] = {}
        """The tokens of languages by their codes, in their order; none for a model of English
        alone."""
        if size >= self.FIRST_MULTILINGUAL:
            among = range(self.start + 1, min(self.tasks.values()))
            self.languages = {
                name.strip("<|>"): token
                for token, name in sorted((token, name) for name, token in ids.items())
                if token in among
            }
        self._file = file
        self._tokenizer = guarded(file, lambda: _byte_level(tokens, merges))
        origin.of(self)

    def encode(self, text: str) -> list[int]:
        """The tokens of a text."""
        text = text.encode("utf-8", "replace").decode("utf-8")  # half a surrogate pair is no text
        return guarded(self._file, lambda: cast("list[int]", self._tokenizer.encode(text).ids))

    def decode(self, ids: Sequence[int]) -> str:
        """The text of tokens; those that are no text are left out."""
        text = [i for i in ids if i < self.end]
        return guarded(self._file, lambda: cast(str, self._tokenizer.decode(text)))

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


Files = tuple[dict[str, int], list[tuple[str, str]], dict[str, int]]
"""The ids of tokens, pairs of tokens that merge, the ids of special tokens."""


def _read_tokenizer(file: Path) -> Files:
    data = read_json(file)
    model, added = data.get("model"), data.get("added_tokens", [])
    if not isinstance(model, dict) or model.get("type", "BPE") != "BPE":
        raise ValueError(f"{file}: not a tokenizer: expected a model of type BPE")
    if not isinstance(added, list) or not all(isinstance(token, dict) for token in added):
        raise ValueError(f"{file}: not a tokenizer: added_tokens must be a list of objects")
    names = [token.get("content") for token in added]
    if not all(isinstance(name, str) for name in names):
        raise ValueError(f"{file}: not a tokenizer: a token of added_tokens has no content")
    special = dict(zip(names, (token.get("id") for token in added), strict=True))
    merges = model.get("merges")
    if not isinstance(merges, list):
        raise ValueError(f"{file}: not a tokenizer: merges must be a list")
    return _ids(file, model.get("vocab")), _pairs(file, merges), _ids(file, special)


def _read_vocab_and_merges(folder: Path) -> Files:
    tokens = _ids(folder / "vocab.json", read_json(folder / "vocab.json"))
    file = folder / "merges.txt"
    if not file.is_file():
        raise FileNotFoundError(f"{file}: no such file; vocab.json is of no use without it")
    try:
        lines = file.read_text(encoding="utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise ValueError(f"{file}: not UTF-8 text ({error.reason})") from None
    first = 1 if lines[0].startswith("#version") else 0
    merges = _pairs(file, [line for line in lines[first:] if line])
    added = folder / "added_tokens.json"
    return tokens, merges, _ids(added, read_json(added)) if added.is_file() else {}


def _ids(file: Path, given: Any) -> dict[str, int]:
    if not isinstance(given, dict) or not all(type(token) is int for token in given.values()):
        raise ValueError(f"{file}: not a tokenizer: expected ids of tokens, all integers")
    return given


def _pairs(file: Path, given: list[Any]) -> list[tuple[str, str]]:
    """Merges, each "a b" or ["a", "b"]."""
    pairs = [tuple(merge.split(" ") if isinstance(merge, str) else merge)
             if isinstance(merge, (str, list)) else () for merge in given]  # fmt: skip
    for merge, pair in zip(given, pairs, strict=True):
        if len(pair) != 2 or not all(isinstance(part, str) for part in pair):
            raise ValueError(f"{file}: not a tokenizer: {merge!r:.60} is not a pair of tokens")
    return cast("list[tuple[str, str]]", pairs)


def _byte_level(tokens: dict[str, int], merges: list[tuple[str, str]]) -> Any:
    tokenizers = require("tokenizers", "speech")
    made = tokenizers.Tokenizer(tokenizers.models.BPE(tokens, merges))
    made.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = tokenizers.decoders.ByteLevel()
    return made


def guarded(file: Path, run: Callable[[], R]) -> R:
    """What the library gives; what it raises names the file. A panic of its Rust is no Exception,
    nor is what stops a program, which passes."""
    try:
        return run()
    except (ImportError, KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as error:
        raise ValueError(f"{file}: not a tokenizer: {error!s:.200}") from None
