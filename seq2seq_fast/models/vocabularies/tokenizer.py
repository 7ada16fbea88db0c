"""Tokenizers: text to pieces and back, by SentencePiece's models and by `tokenizer.json`.

Their files are untrusted. What the libraries make of a damaged one, when it is read or later in
use, becomes a ValueError that names the file.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Collection, Iterator, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any, cast

from ...extras import require
from ..formats import huggingface
from .layouts import bytes_names


class Tokenizer:
    """What the kinds of tokenizers share. Any number of threads may use one.

    Parameters
    ----------
    path : path

    Raises
    ------
    ValueError
        The file is no such tokenizer.
    """

    names: list[str]  # its own vocabulary, by id
    control: set[str]  # the names of tokens that steer a model, and stand for no text
    eos: str | None = None  # the names of the end and of what is unknown, where it says them
    unk: str | None = None
    start: Sequence[str] = ()  # what it puts before and after the pieces of a source
    end: Sequence[str] = ()

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)

    def encode(self, text: str) -> list[str]:
        """The pieces of a text; what the tokenizer does not know stands as it is, or as `unk`."""
        raise NotImplementedError

    def decode(self, pieces: Sequence[str]) -> str:
        """The text of pieces."""
        raise NotImplementedError

    def encode_with(self, text: str, tokens: Collection[str]) -> list[str]:
        """The pieces of a text in which some tokens stand as they are."""
        pattern = "|".join(map(re.escape, sorted(tokens, key=len, reverse=True)))
        found: list[str] = []
        for i, part in enumerate(re.split(f"({pattern})", text)):
            found += [part] if i % 2 else self.encode(part)
        return found

    @contextlib.contextmanager
    def blaming_file(self, what: str) -> Iterator[None]:
        """Errors of a library become a ValueError that names the file."""
        try:
            yield
        except (KeyboardInterrupt, SystemExit, MemoryError, UnicodeEncodeError, TypeError):
            raise  # not of the file's making
        except BaseException as error:  # a panic in Rust is no Exception
            raise ValueError(f"{self.path}: {what}: {error}") from None


class SentencePiece(Tokenizer):
    """A SentencePiece model (``*.spm``, ``*.model``)."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        super().__init__(path)
        self._processor = require("sentencepiece", "text").SentencePieceProcessor()
        data = self.path.read_bytes()
        with self.blaming_file("not a SentencePiece model"):
            if not data:
                raise ValueError("the file is empty")
            if not self._processor.LoadFromSerializedProto(data):
                raise ValueError("it cannot be read")
            ids = list(range(self._processor.vocab_size()))
            self.names = self._processor.id_to_piece(ids)
            controls = self._processor.is_control(ids)
        self.control = {name for name, one in zip(self.names, controls, strict=True) if one}
        self.eos, self.unk = (
            self.names[i] if 0 <= i < len(ids) else None
            for i in (self._processor.eos_id(), self._processor.unk_id())
        )

    def encode(self, text: str) -> list[str]:
        with self.blaming_file("a damaged SentencePiece model"):
            return cast("list[str]", self._processor.encode(text, out_type=str))

    def decode(self, pieces: Sequence[str]) -> str:
        with self.blaming_file("a damaged SentencePiece model"):
            return cast(str, self._processor.decode_pieces(list(pieces)))


class TokenizerFile(Tokenizer):
    """A ``tokenizer.json`` of Hugging Face's tokenizers."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        super().__init__(path)
        library = require("tokenizers", "text")
        with self.blaming_file("not a tokenizer"):
            self._tokenizer = self._read(library)
            # A text is neither cut short nor filled up, whatever was usual in training.
            self._tokenizer.no_truncation()
            self._tokenizer.no_padding()
            ids = self._tokenizer.get_vocab(with_added_tokens=True)
            added = self._tokenizer.get_added_tokens_decoder().values()
            # Ids may leave gaps of any width: such a tokenizer has no list of names.
            dense = set(ids.values()) == set(range(len(ids)))
            self.names = sorted(ids, key=lambda name: ids[name]) if dense else []
            probe = self._tokenizer.encode("a")
        self.control = {token.content for token in added if token.special}
        around = list(zip(probe.tokens, probe.special_tokens_mask, strict=True))
        self.start = [name for name, _ in takewhile(lambda one: one[1], around)]
        rest = around[len(self.start) :]
        self.end = [name for name, _ in takewhile(lambda one: one[1], reversed(rest))][::-1]

    def _read(self, library: Any) -> Any:
        return library.Tokenizer.from_buffer(self.path.read_bytes())

    def encode(self, text: str) -> list[str]:
        with self.blaming_file("a damaged tokenizer"):
            ids = self._tokenizer.encode(text, add_special_tokens=False).ids
            # Names of ids: what the library calls tokens has the white space around some.
            return cast("list[str]", [self._tokenizer.id_to_token(i) for i in ids])

    def encode_with(self, text: str, tokens: Collection[str]) -> list[str]:
        return self.encode(text)  # it has them, with what becomes of the white space around them

    def decode(self, pieces: Sequence[str]) -> str:
        decoder: Any = self._tokenizer.decoder
        if decoder is None:
            return " ".join(pieces)
        with self.blaming_file("a damaged tokenizer"):
            return cast(str, decoder.decode(list(pieces)))


class Merges(TokenizerFile):
    """Byte pairs: ``vocab.json``, with ``merges.txt`` beside it (Sennrich et al., "Neural Machine
    Translation of Rare Words with Subword Units", 2016; of bytes, as GPT-2 has it)."""

    def _read(self, library: Any) -> Any:
        merges = self.path.with_name("merges.txt")
        told = huggingface.json_if_there(self.path.with_name("tokenizer_config.json"))
        found = library.ByteLevelBPETokenizer(
            str(self.path), str(merges), add_prefix_space=bool(told.get("add_prefix_space"))
        )._tokenizer
        known = found.get_vocab()
        special = [name for name in ("<s>", "<pad>", "</s>", "<unk>") if name in known]
        found.add_special_tokens([library.AddedToken(name, special=True) for name in special])
        more = self.path.with_name("added_tokens.json")
        ids = huggingface.json_if_there(more)
        added = sorted(ids, key=lambda name: (str(type(ids[name])), ids[name]))
        if [ids[name] for name in added] != list(range(len(known), len(known) + len(ids))):
            raise ValueError(f"{more.name} does not go on where vocab.json ends")
        found.add_special_tokens([library.AddedToken(name, special=True) for name in added])
        if "<mask>" in known:
            found.add_special_tokens([library.AddedToken("<mask>", lstrip=True, special=True)])
        return found


class Bytes(Tokenizer):
    """The bytes of UTF-8, each a piece: Xue et al., "ByT5: Towards a Token-Free Future with
    Pre-trained Byte-to-Byte Models", 2022."""

    eos, unk = "</s>", "<unk>"

    def __init__(self, path: str | os.PathLike[str]) -> None:
        super().__init__(path)
        self.names = bytes_names()
        self.control = {"<pad>", "</s>", "<unk>"}

    def encode(self, text: str) -> list[str]:
        return [chr(byte) for byte in text.encode("utf-8")]

    def decode(self, pieces: Sequence[str]) -> str:
        return bytes(ord(piece) for piece in pieces if len(piece) == 1).decode("utf-8", "ignore")


def open_tokenizer(path: Path, layout: str | None = None) -> Tokenizer:
    """The tokenizer of a file, by its layout or by the end of its name."""
    if layout in ("merges", "bytes"):
        return Merges(path) if layout == "merges" else Bytes(path)
    return TokenizerFile(path) if path.suffix == ".json" else SentencePiece(path)
