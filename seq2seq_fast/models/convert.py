"""convert(): from a published model's folder to one that loads by mapping it into memory."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from .loading import load
from .saving import save

__all__ = ["convert"]

BESIDE = ("*.json", "*.model", "*.spm", "*.txt", "*.vocab", "*.yml", "*.yaml", "lex*.bin")
"""Files that a model's users read: vocabularies, tokenizers, configurations, shortlists."""


def convert(
    source: str | os.PathLike[str], target: str | os.PathLike[str], *, weights: str | None = None
) -> None:
    """Write a model's folder anew, so that it loads at once and shares its memory with others.

    Translator and Transcriber give the same results with the new folder, bit by bit, as they do
    with the old one and `weights`.

    Parameters
    ----------
    source : path
        A folder, or a file, that load() reads.
    target : path
        A folder that does not exist, or is empty. It appears when it is whole. What lies beside the
        model (vocabularies, tokenizers, configurations, shortlists) is copied to it.
    weights : {"float32", "float16", "int8"}, optional
        What the matrices are kept as; as they are in the source if left out.

    Raises
    ------
    FileExistsError
        The target is a file, or a folder that is not empty.
    FileNotFoundError
        Nothing is there to be converted, or the target's own folder does not exist.
    ValueError
        As load() does.
    OSError
        The target cannot be written.

    Examples
    --------
    >>> from seq2seq_fast.demo import find_translation_model
    >>> from seq2seq_fast.text.translator import Translator
    >>> convert(find_translation_model("pt"), "portuguese", weights="int8")
    >>> Translator("portuguese").translate(["How are you today?"])[0].text
    'Como você está hoje?'
    """
    source, target = Path(source), Path(os.path.abspath(target))
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        raise FileExistsError(f"{target}: exists; name a folder that does not, or an empty one")
    if not target.parent.is_dir():
        raise FileNotFoundError(f"{target.parent}: no such folder to write {target.name} to")
    model = load(source, weights=weights)
    folder = source if source.is_dir() else source.parent
    with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as beside:
        part = Path(beside, target.name)  # not `beside` itself, which is its owner's alone
        part.mkdir()
        save(model, part / "model.safetensors")
        for file in {file for pattern in BESIDE for file in folder.glob(pattern)}:
            # The index of a model in parts would be taken for the model.
            if file.is_file() and not file.name.endswith(".index.json"):
                shutil.copyfile(file, part / file.name)
        if target.exists():
            target.rmdir()
        part.rename(target)
