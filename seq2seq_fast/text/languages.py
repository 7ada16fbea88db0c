"""Which languages a model translates between, where its folder says so."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from ..models.formats.huggingface import read_json

MOZILLA = re.compile(r"(?:src|trg)?vocab\.([a-z]{2})([a-z]{2})\.spm")


class Languages(NamedTuple):
    """ISO 639 codes; None where nothing is said."""

    source: str | None
    target: str | None


def languages_of(folder: Path) -> Languages:
    """The languages of a folder's model: by Hugging Face's ``tokenizer_config.json``, or by the
    names that Mozilla gives its vocabularies, such as ``vocab.enpt.spm``.

    Raises
    ------
    ValueError
        ``tokenizer_config.json`` is no JSON; the message names it.
    """
    config = folder / "tokenizer_config.json"
    if config.is_file():
        found = read_json(config)
        source, target = (found.get(key) for key in ("source_lang", "target_lang"))
        if isinstance(source, str) and isinstance(target, str):
            return Languages(source, target)
    matches = [MOZILLA.fullmatch(file.name) for file in folder.glob("*.spm")]
    pairs = {match.groups() for match in matches if match}
    return Languages(*pairs.pop()) if len(pairs) == 1 else Languages(None, None)
