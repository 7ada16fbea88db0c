"""load(): which files a model is made of, and which family it belongs to."""

from __future__ import annotations

import os
from pathlib import Path

from ..nn.weights import WEIGHTS
from ..pickling import Origin
from .assembly import assemble
from .encoder_decoder import EncoderDecoder
from .families import ctranslate2, marian
from .families import huggingface as huggingface_families
from .formats import huggingface, sniff
from .saving import is_saved, restore

__all__ = ["load"]

# What reads a model, by the kind of its file.
_FAMILIES = {
    sniff.MARIAN: marian.read,
    sniff.NPZ: marian.read,
    sniff.CTRANSLATE2: ctranslate2.read,
    **dict.fromkeys(huggingface.KINDS, huggingface_families.read),
}


def load(path: str | os.PathLike[str], *, weights: str | None = None) -> EncoderDecoder:
    """Load a published encoder-decoder model.

    Parameters
    ----------
    path : path
        A file of any name, or the folder that holds one: Marian's ``model*.bin`` and ``model*.npz``
        (Transformers, with self-attention or SSRU in the decoder), CTranslate2's ``model.bin`` of a
        Transformer or of Whisper, Hugging Face's folders (``model.safetensors`` or
        ``pytorch_model.bin``, also in parts), and what save() wrote.
    weights : {"float32", "float16", "int8"}, optional
        What the matrices are kept as; as they are in the file if left out.

    Returns
    -------
    EncoderDecoder

    Raises
    ------
    FileNotFoundError
        Nothing is there.
    ValueError
        The file is not such a model, is damaged, misses a tensor or has one that is not known; the
        message names it.

    References
    ----------
    Junczys-Dowmunt et al., "Marian: Fast Neural Machine Translation in C++", 2018. The formats are
    those of the projects' own readers and writers: marian-nmt/marian-dev, OpenNMT/CTranslate2,
    huggingface/transformers.

    Examples
    --------
    >>> from seq2seq_fast.demo import find_translation_model
    >>> load(find_translation_model("pt"), weights="float32").vocabulary_size
    32000
    """
    if weights is not None and weights not in WEIGHTS:
        raise ValueError(f"weights must be one of {', '.join(WEIGHTS)}; got {weights!r}")
    file = model_file(Path(path))
    in_parts = huggingface.is_index(file)
    arguments = {"path": os.path.abspath(path), "weights": weights}
    origin = Origin(load, arguments, _files_of(file))
    kind = sniff.SAFETENSORS if in_parts else sniff.expect(file, *_FAMILIES)
    if kind == sniff.SAFETENSORS and not in_parts and is_saved(file):
        if weights is not None:
            raise ValueError(f"{file}: weights must be left out: they are as they were saved")
        return origin.of(restore(file))
    try:
        return origin.of(assemble(*_FAMILIES[kind](file, weights)))
    except ValueError as error:
        # What the parts of a model themselves find amiss does not name the file.
        named = any(str(error).startswith(f"{one}: ") for one in file.parent.iterdir())
        raise error if named else ValueError(f"{file}: {error}") from None


def model_file(path: Path) -> Path:
    """The file that load(path) reads.

    Raises
    ------
    FileNotFoundError
        Nothing is there, or too much.
    """
    if not path.is_dir():
        if not path.exists():
            raise FileNotFoundError(f"{path}: no such model file or folder")
        return path
    index = path / huggingface.INDEX
    if index.exists():
        return index
    found = sorted(
        file for end in ("bin", "npz", "safetensors") for file in path.glob(f"model*.{end}")
    )
    for name in (huggingface.TORCH_INDEX, huggingface.TORCH_FILE):
        if not found and (path / name).exists():  # such a folder may have the same as safetensors
            return path / name
    if not found and (path / "model").is_dir():  # a package of argos translate
        return model_file(path / "model")
    if len(found) != 1:
        names = ", ".join(file.name for file in found) or "none"
        raise FileNotFoundError(
            f"{path}: expected one model*.bin, .npz or .safetensors, or {huggingface.TORCH_FILE},"
            f" in this folder; found {names}"
        )
    return found[0]


def _files_of(file: Path) -> list[Path]:
    """All files that a model is made of: its weights, what they are listed in or described by."""
    beside = ["config.json", "generation_config.json", "*vocabulary.json", "*vocabulary.txt"]
    if huggingface.is_index(file):
        beside.append("*.safetensors" if file.name == huggingface.INDEX else "pytorch_model*.bin")
    return [file, *(found for pattern in beside for found in sorted(file.parent.glob(pattern)))]
