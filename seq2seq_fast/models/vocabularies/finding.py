"""Which files are the vocabulary of a model, and what its sources begin and end with.

Published folders look like this, among others::

    model.*.bin, vocab.*.spm                               Marian
    model.*.npz, source.spm, target.spm, *.vocab.yml       Marian, by OPUS
    model.bin, shared_vocabulary.json, source.spm, target.spm, config.json     CTranslate2, of OPUS
    model.bin, source_vocabulary.txt, target_vocabulary.txt, *.model           CTranslate2
    sentencepiece.model, model/model.bin, model/shared_vocabulary.txt          argos translate
    model.bin, shared_vocabulary.json, tokenizer.json      CTranslate2, of Hugging Face's models
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ...nn.sources import SpectrumEmbedding
from ..encoder_decoder import EncoderDecoder
from ..formats import ctranslate2, huggingface, sniff
from ..loading import model_file
from . import huggingface as huggingface_vocabulary
from .directions import Languages
from .vocabulary import TextVocabulary, Vocabulary

FilePath = str | os.PathLike[str]

TOKENIZERS = ("*.spm", "*.model", "tokenizer.json")
ABOVE = "sentencepiece.model"  # of argos translate's packages, beside the model's folder
TOKEN_LISTS = (  # of the source and of the target
    ("shared_vocabulary.json", "shared_vocabulary.json"),
    ("shared_vocabulary.txt", "shared_vocabulary.txt"),
    ("source_vocabulary.json", "target_vocabulary.json"),
    ("source_vocabulary.txt", "target_vocabulary.txt"),
    ("vocab.json", "target_vocab.json"),
    ("vocab.json", "vocab.json"),
)
MARIAN_TOKEN_LIST = "*vocab*.yml"
MAX_CONFIG = 1 << 20  # bytes; a larger YAML file is no configuration


class Sides(NamedTuple):
    """A file of the source and one of the target, which may be the same."""

    source: Path
    target: Path


class Settings(NamedTuple):
    """What a converted model's configuration says of its tokens."""

    bos: str | None = None  # None where it says nothing
    eos: str | None = None
    unk: str | None = None
    add_source_bos: bool = False
    add_source_eos: bool = False


def find_vocabulary(
    path: FilePath,
    model: EncoderDecoder,
    vocabulary: FilePath | tuple[FilePath, FilePath] | None = None,
) -> TextVocabulary:
    """The vocabulary of a model.

    Parameters
    ----------
    path : path
        What load() read the model from.
    model : EncoderDecoder
        What load() made of it.
    vocabulary : path or pair of paths, optional
        The tokenizer, where it lies elsewhere or there are several: a file, a folder with one, or
        the files of the source and of the target.

    Returns
    -------
    TextVocabulary

    Raises
    ------
    FileNotFoundError
        There is no vocabulary; the message says what was looked for and what was found.
    ValueError
        A file is damaged or not the model's; there are several; the model needs to be told
        languages, or is one of speech.
    TypeError
        `vocabulary` is neither a path nor a pair.

    Examples
    --------
    >>> from seq2seq_fast import load
    >>> from seq2seq_fast.demo import find_translation_model
    >>> folder = find_translation_model("pt")
    >>> vocabulary = find_vocabulary(folder, load(folder))
    >>> vocabulary.source.tokens([*vocabulary.encode("Hello, world!"), *vocabulary.end])
    ['▁Hello', ',', '▁world', '!', '</s>']
    """
    file = model_file(Path(path))
    if isinstance(model.encoder.embedding, SpectrumEmbedding):
        raise ValueError(f"{file}: is a model of speech: Transcriber takes it")
    folder = file.parent
    if huggingface_vocabulary.is_folder(folder):
        if vocabulary is None:
            return huggingface_vocabulary.find(folder, model)
        named = _named(vocabulary).source
        if named.suffix == ".json":
            return huggingface_vocabulary.find(folder, model, named)
    tokenizers = _named(vocabulary) if vocabulary is not None else _tokenizers(file.parent)
    lists = _token_lists(file.parent) or _token_lists(tokenizers.source.parent)
    if lists is None and model.unk is None and tokenizers.source.suffix != ".json":
        # SentencePiece's ids are the model's own with Marian alone.
        raise FileNotFoundError(
            f"{file.parent}: there is no list of the tokens that {tokenizers.source.name} cuts text"
            f" into; {_looked_for(file.parent, [*dict.fromkeys(sum(TOKEN_LISTS, ()))])}"
        )
    settings = _settings(file, model)
    source, target = (
        (tokenizer, tokens, settings.eos, settings.unk)
        for tokenizer, tokens in zip(tokenizers, lists or (None, None), strict=True)
    )
    of_source = Vocabulary(*source)
    of_target = of_source if source == target else Vocabulary(*target)
    _check(of_source, model.encoder.embedding.size, model, "source")
    _check(of_target, model.vocabulary_size, model, "target")
    start, end = _start_and_end(of_source, of_target, model, settings)
    return TextVocabulary(of_source, of_target, start, end, Languages.of(of_source.names))


def _named(vocabulary: Any) -> Sides:
    """The tokenizers that a caller names."""
    pair = vocabulary if isinstance(vocabulary, (tuple, list)) else (vocabulary, vocabulary)
    if len(pair) != 2 or not all(isinstance(one, (str, os.PathLike)) for one in pair):
        raise TypeError(
            f"vocabulary must be a path or a pair of paths (source, target); got {vocabulary!r:.80}"
        )
    sides = Sides(Path(pair[0]), Path(pair[1]))
    if pair is not vocabulary and sides.source.is_dir():
        return _tokenizers(sides.source)
    for one in sides:
        if not one.is_file():
            raise FileNotFoundError(f"{one}: there is no such vocabulary")
    return sides


def _tokenizers(folder: Path) -> Sides:
    for pattern in TOKENIZERS:
        if found := sorted(folder.glob(pattern)):
            return _sides(folder, found)
    above = folder.absolute().parent / ABOVE
    if above.is_file():
        return Sides(above, above)
    raise FileNotFoundError(
        f"{folder}: there is no vocabulary; {_looked_for(folder, [*TOKENIZERS, f'../{ABOVE}'])}."
        " One that lies elsewhere is named by vocabulary="
    )


def _token_lists(folder: Path) -> Sides | None:
    for names in TOKEN_LISTS:
        sides = Sides(*(folder / name for name in names))
        if all(one.is_file() for one in sides):
            return sides
    found = sorted(folder.glob(MARIAN_TOKEN_LIST))
    return _sides(folder, found) if found else None


def _sides(folder: Path, found: Sequence[Path]) -> Sides:
    """Which of some files is the source's, which the target's."""
    if len(found) == 1:
        return Sides(found[0], found[0])
    by_name = {file.name: file for file in found}
    for names in _vocabularies_of_configs(folder):
        if names and set(names) <= set(by_name):
            return Sides(by_name[names[0]], by_name[names[-1]])
    source = [file for file in found if re.search("src|source", file.name.lower())]
    target = [file for file in found if re.search("tgt|trg|target", file.name.lower())]
    if len(source) == len(target) == 1:
        return Sides(source[0], target[0])
    raise ValueError(
        f"{folder}: holds several vocabularies, {', '.join(by_name)}: name the one to be used, or"
        " (source, target), by vocabulary="
    )


def _vocabularies_of_configs(folder: Path) -> Iterator[list[str]]:
    """The names under ``vocabs:`` in each of Marian's configurations, the source's first."""
    for file in sorted(folder.glob("*.yml")):
        if file.stat().st_size > MAX_CONFIG:
            continue
        names: list[str] | None = None
        for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.rstrip() == "vocabs:":
                names = []
            elif names is not None:
                item = line.strip()
                if not item.startswith("- "):
                    break
                names.append(Path(item[2:].strip().strip("\"'")).name)
        yield names or []


def _looked_for(folder: Path, names: Sequence[str]) -> str:
    there = sorted(one.name for one in folder.iterdir())
    more = f" and {len(there) - 12} more" if len(there) > 12 else ""
    return f"looked for {', '.join(names)}; found {', '.join(there[:12])}{more}"


def _settings(file: Path, model: EncoderDecoder) -> Settings:
    config_file = file.with_name("config.json")
    if config_file.is_file():
        config = huggingface.read_json(config_file)
        for key in ("bos_token", "eos_token", "unk_token"):
            if not isinstance(config.get(key), str | None):
                raise ValueError(f"{config_file}: says {key}: {config[key]!r:.80}, expected a name")
        return Settings(
            config.get("bos_token"), config.get("eos_token"), config.get("unk_token"),
            bool(config.get("add_source_bos")), bool(config.get("add_source_eos")),
        )  # fmt: skip
    if sniff.kind(file) != sniff.CTRANSLATE2:
        return Settings()
    # CTranslate2's files up to version 5 say it themselves.
    tensors = ctranslate2.read(file).tensors

    def name(key: str) -> str | None:
        return np.asarray(tensors[key]).tobytes().decode() if key in tensors else None

    def flag(key: str) -> bool:
        return key in tensors and bool(np.asarray(tensors[key]).any())

    return Settings(
        name("bos_token"), name("eos_token"), name("unk_token"),
        flag("with_source_bos"), flag("with_source_eos"),
    )  # fmt: skip


def _check(vocabulary: Vocabulary, size: int, model: EncoderDecoder, side: str) -> None:
    """Raises unless a vocabulary is that of a side of the model."""
    have = (vocabulary.size, vocabulary.eos, vocabulary.unk)
    # A list of the source's alone may have its end elsewhere.
    eos = vocabulary.eos if side == "source" and model.unk is None else model.eos
    unk = vocabulary.unk if model.unk is None else model.unk
    # Hugging Face's lists of Marian's tokens have one that the model itself has not.
    beyond = set(vocabulary.names[size:]) - {"<pad>"}
    if have[0] < size or beyond or have[1:] != (eos, unk) or eos is None or unk is None:
        raise ValueError(
            f"{vocabulary.path}: not the vocabulary of the model's {side}: {have[0]} tokens,"
            f" end {have[1]}, unknown {have[2]}; expected {size}, {_or_any(eos)}, {_or_any(unk)}"
        )


def _or_any(token: int | None) -> str:
    return "any" if token is None else str(token)


def _start_and_end(
    source: Vocabulary, target: Vocabulary, model: EncoderDecoder, settings: Settings
) -> tuple[list[int], list[int]]:
    """The ids that a source begins and ends with."""
    start, end = list(source.tokenizer.start), list(source.tokenizer.end)
    bos = settings.bos or "<s>"
    if settings.add_source_bos and bos not in start:
        start.insert(0, bos)
    # Models of Marian, fairseq and Hugging Face read the end of a source, and their decoders begin
    # with that end or with nothing; those of OpenNMT begin with <s>, and read no end unless their
    # configuration says so.
    begins_with_bos = model.bos is not None and target.names[model.bos] == "<s>"
    if settings.add_source_eos or not begins_with_bos:
        eos = settings.eos or "</s>"
        end = end if eos in end else [*end, eos]
    found = []
    for names in (start, end):
        ids = [source.id(name) for name in names]
        if None in ids:
            raise ValueError(
                f"{source.path}: lacks {names[ids.index(None)]!r}, which sources begin or end with"
            )
        found.append([i for i in ids if i is not None])
    return found[0], found[1]
