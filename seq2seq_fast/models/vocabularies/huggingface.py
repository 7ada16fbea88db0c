"""The vocabulary of a folder of Hugging Face's: by tokenizer.json, or by what older folders have.

===================================  =============================================
files                                of
===================================  =============================================
tokenizer.json                       most
source.spm, target.spm, vocab.json   Marian
sentencepiece.bpe.model, vocab.json  M2M100, SMaLL-100
sentencepiece.bpe.model              NLLB, mBART
spiece.model                         T5, mT5, Pegasus
vocab.json, merges.txt               BART, CodeT5, Blenderbot
none                                 ByT5
===================================  =============================================
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from ...nn.sources import Embedding
from ..encoder_decoder import EncoderDecoder
from ..formats import huggingface
from .directions import Languages
from .layouts import name_of
from .vocabulary import TextVocabulary, Vocabulary

FILES = ("tokenizer.json", "sentencepiece.bpe.model", "spiece.model", "merges.txt")
SIDES = ("source.spm", "target.spm")
BOTH_ENDS = ("bart", "plbart")
"""Kinds whose sources begin with <s>, where no tokenizer.json says so."""


class Told(NamedTuple):
    """What the JSON files of a folder say."""

    config: dict[str, Any]
    tokenizer: dict[str, Any]
    special: dict[str, Any]

    def name(self, key: str, usual: str) -> str:
        """The name of a token."""
        return name_of(self.special.get(key)) or name_of(self.tokenizer.get(key)) or usual


def is_folder(folder: Path) -> bool:
    """Whether a folder is one of Hugging Face's with a model of text."""
    config = huggingface.json_if_there(folder / "config.json")
    return isinstance(config.get("model_type"), str)


def find(folder: Path, model: EncoderDecoder, named: Path | None = None) -> TextVocabulary:
    """The vocabulary of a model of a folder; `named` is a tokenizer.json that lies elsewhere.

    Raises
    ------
    FileNotFoundError
        There is none; the message says what was looked for and what was found.
    ValueError
        A file is damaged, or not the model's.
    """
    told = Told(*(huggingface.json_if_there(folder / name) for name in NAMES))
    kind = str(told.config.get("model_type"))
    embedding = model.encoder.embedding
    assert isinstance(embedding, Embedding)
    sizes = embedding.size, model.vocabulary_size
    eos, unk = told.name("eos_token", "</s>"), told.name("unk_token", "<unk>")

    def vocabulary(path: Path, size: int, tokens: Path | None, layout: str | None) -> Vocabulary:
        return Vocabulary(path, tokens, eos, unk, layout=layout, size=size)

    if all((folder / name).is_file() for name in SIDES) and named is None:
        lists = [folder / "vocab.json", folder / "target_vocab.json"]
        if not lists[1].is_file():
            lists[1] = lists[0]
        source, target = (
            vocabulary(folder / name, size, tokens, None)
            for name, size, tokens in zip(SIDES, sizes, lists, strict=True)
        )
    else:
        path, tokens, layout = _files(folder, told, named)
        source = vocabulary(path, sizes[0], tokens, layout)
        target = source
        if sizes[1] != sizes[0]:
            target = vocabulary(path, sizes[1], tokens, layout)
    for side in (source, target):
        if side.eos is None or side.unk is None or (side is target and side.eos != model.eos):
            raise ValueError(
                f"{side.path}: not the vocabulary of the model: end {side.eos}, unknown"
                f" {side.unk}; expected {model.eos}, any"
            )
    languages = _languages(source, kind, told)
    # A tokenizer.json has the language of its last use among them.
    start, end = (
        [i for i in some if source.names[i] not in languages.codes]
        for some in _around(kind, source, told)
    )
    limit = told.tokenizer.get("model_max_length")
    return TextVocabulary(
        source, target, start, end,
        languages,
        limit if isinstance(limit, int) and 0 < limit < MAX_LIMIT else None,
    )  # fmt: skip


NAMES = ("config.json", "tokenizer_config.json", "special_tokens_map.json")
MAX_LIMIT = 1 << 20  # tokens; some files have a number of thirty digits for none


def _files(folder: Path, told: Told, named: Path | None) -> tuple[Path, Path | None, str | None]:
    """A tokenizer, a list of its tokens' ids and their layout."""
    kind, maker = str(told.config.get("model_type")), str(told.tokenizer.get("tokenizer_class"))
    if named is not None:
        return named, None, None
    if (folder / FILES[0]).is_file():
        return folder / FILES[0], None, None
    shared = folder / "sentencepiece.bpe.model"
    if shared.is_file() and kind == "plbart":
        raise ValueError(f"{folder}: the vocabulary of PLBart is read from tokenizer.json alone")
    if shared.is_file():
        if (folder / "vocab.json").is_file() and not maker.startswith("Nllb"):
            return shared, folder / "vocab.json", "m2m100"
        return shared, None, "mbart"
    if (folder / "spiece.model").is_file():
        return folder / "spiece.model", None, "pegasus" if kind == "pegasus" else "t5"
    if (folder / "merges.txt").is_file() and (folder / "vocab.json").is_file():
        return folder / "vocab.json", None, "merges"
    if maker.startswith("ByT5"):
        return folder / "tokenizer_config.json", None, "bytes"
    there = ", ".join(sorted(one.name for one in folder.iterdir())[:12])
    wanted = ", ".join((*FILES, *SIDES))
    raise FileNotFoundError(
        f"{folder}: there is no vocabulary; looked for {wanted}; found {there}."
        " One that lies elsewhere is named by vocabulary="
    )


def _around(kind: str, source: Vocabulary, told: Told) -> tuple[list[int], list[int]]:
    """What sources begin and end with, languages apart."""
    tokenizer = source.tokenizer
    names = list(tokenizer.start), list(tokenizer.end)
    if not any(names):  # the tokenizer does not say
        maker = str(told.tokenizer.get("tokenizer_class"))
        both = kind in BOTH_ENDS or maker.startswith(("Roberta", "Bart"))
        names = ([told.name("bos_token", "<s>")] if both else []), [told.name("eos_token", "</s>")]
    ids = [[source.id(name) for name in some] for some in names]
    if any(None in some for some in ids):
        raise ValueError(f"{source.path}: lacks one of {names}, which sources begin or end with")
    start, end = ([i for i in some if i is not None] for some in ids)
    return start, end


def _languages(source: Vocabulary, kind: str, told: Told) -> Languages:
    found = Languages.of(source.names)
    if not found.kind:
        return found
    maker = str(told.tokenizer.get("tokenizer_class"))
    # mBART of 25 languages begins its decoder with one; mBART-50 and all since force it.
    first = kind == "mbart" and "50" not in maker and told.config.get("forced_bos_token_id") is None
    return Languages(
        found.kind,
        found.ids,
        source_last=first or bool(told.tokenizer.get("legacy_behaviour")),
        decoder_starts=first,
        target_on_source=found.target_on_source or maker.startswith("SMALL100"),
    )
