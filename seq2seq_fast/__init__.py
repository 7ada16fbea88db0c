"""Encoder-decoder models and fused attention on the CPU, with the same bits everywhere."""

import importlib
from typing import TYPE_CHECKING, Any

from .attention import attention, ragged_attention
from .cache import KeyValueCache
from .runtime import info, use

if TYPE_CHECKING:
    from .fingerprinting import fingerprint
    from .loading import load
    from .saving import save
    from .transcribe import Transcriber, Transcription
    from .transformer import EncoderDecoder
    from .translate import Translation, Translator

__version__ = "0.1.0"
__all__ = [
    "EncoderDecoder",
    "KeyValueCache",
    "Transcriber",
    "Transcription",
    "Translation",
    "Translator",
    "attention",
    "fingerprint",
    "info",
    "load",
    "ragged_attention",
    "save",
    "use",
]

# Models take longer to import than attention does: their names are fetched when first asked for.
_MODULES = {
    "EncoderDecoder": "transformer",
    "Transcriber": "transcribe",
    "Transcription": "transcribe",
    "Translation": "translate",
    "Translator": "translate",
    "fingerprint": "fingerprinting",
    "load": "loading",
    "save": "saving",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = importlib.import_module(f".{_MODULES[name]}", __name__)
    return globals().setdefault(name, getattr(module, name))


def __dir__() -> list[str]:
    return sorted(globals().keys() | _MODULES)
