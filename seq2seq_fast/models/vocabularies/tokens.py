"""Files that list a model's tokens by id, as its trainer or converter wrote them.

CTranslate2's are a JSON list or a line for each token (`shared_vocabulary.json`, `.txt`), Hugging
Face's an object of tokens and ids (`vocab.json`), Marian's the same in YAML (`vocab.yml`)::

    "</s>": 0
    ▁the: 2
    "\\"": 17
"""

from __future__ import annotations

import json
import re
from pathlib import Path

from ..formats.ctranslate2 import read_vocabulary
from ..formats.huggingface import read_text

_ESCAPES = {
    "0": "\0", "a": "\a", "b": "\b", "t": "\t", "n": "\n", "v": "\v", "f": "\f", "r": "\r",
    "e": "\x1b", "N": "\x85", "_": "\xa0", "L": "\u2028", "P": "\u2029",
}  # fmt: skip


def read_tokens(path: Path) -> list[str]:
    """The tokens of a vocabulary's file, by id.

    Raises
    ------
    ValueError
        It is no such file, or its ids are not 0, 1, 2 ...; the message names it.
    """
    if path.suffix in (".yml", ".yaml"):
        return _by_id(path, _read_yaml(path))
    if path.suffix != ".json":
        return read_vocabulary(path)
    text = read_text(path)
    try:
        given = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not a vocabulary: {error}") from None
    return _by_id(path, given) if isinstance(given, dict) else read_vocabulary(path)


def _by_id(path: Path, ids: dict[str, object]) -> list[str]:
    tokens = {i: token for token, i in ids.items() if type(i) is int}
    if len(tokens) != len(ids) or (tokens and (min(tokens), max(tokens)) != (0, len(ids) - 1)):
        raise ValueError(
            f"{path}: not a vocabulary: expected the ids 0 to {len(ids) - 1}, each of one token"
        )
    return [tokens[i] for i in range(len(tokens))]


def _read_yaml(path: Path) -> dict[str, object]:
    """Marian's vocabulary: a token and its id in each line, or in two (``? token``, ``: id``)."""
    ids: dict[str, object] = {}
    key = ""
    for number, line in enumerate(read_text(path).split("\n"), 1):
        line = line.removesuffix("\r")
        if line.startswith("? "):
            key = line[2:]
            continue
        start, _, number_text = line.rpartition(":")
        value = number_text.strip()
        if value.isascii() and value.isdigit() and len(value) < 10 and (start or key):
            ids[_plain(start or key)] = int(value)
        elif line and line != "---":
            raise ValueError(
                f"{path}: not a vocabulary: expected a token and its id in line {number};"
                f" got {line!r:.60}"
            )
        key = ""
    return ids


def _plain(scalar: str) -> str:
    """What a scalar of YAML stands for."""
    quote = scalar[:1]
    if len(scalar) < 2 or quote not in "\"'" or not scalar.endswith(quote):
        return scalar
    inner = scalar[1:-1]
    if quote == "'":
        return inner.replace("''", "'")

    def character(match: re.Match[str]) -> str:
        digits = match[1] or match[2] or match[3]
        if digits is None:
            return _ESCAPES.get(match[4], match[4])
        code = int(digits, 16)
        return chr(code) if code <= 0x10FFFF else match[0]

    hexadecimal = "x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})"
    return re.sub(rf"\\(?:{hexadecimal}|(.))", character, inner, flags=re.DOTALL)
