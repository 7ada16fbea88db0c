"""Encoder-decoder models and fused attention on the CPU, with the same bits everywhere."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .backends.selection import info, use
    from .fingerprinting import fingerprint
    from .models.encoder_decoder import EncoderDecoder
    from .models.loading import load
    from .models.saving import save
    from .sdpa.cache import KeyValueCache
    from .sdpa.call import attention, ragged_attention
    from .speech.transcriber import Transcriber
    from .speech.transcript import Transcription
    from .text.generator import TextGenerator
    from .text.results import Generation, Summary, Translation
    from .text.summarizer import Summarizer
    from .text.translator import Translator

__version__ = "0.1.0"
__all__ = [
    "EncoderDecoder",
    "Generation",
    "KeyValueCache",
    "Summarizer",
    "Summary",
    "TextGenerator",
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

# Names are fetched when they are first used: models take longer to import than attention does,
# and the command line sets up its signals before NumPy is imported.
_MODULES = {
    "EncoderDecoder": "models.encoder_decoder",
    "Generation": "text.results",
    "KeyValueCache": "sdpa.cache",
    "Summarizer": "text.summarizer",
    "Summary": "text.results",
    "TextGenerator": "text.generator",
    "Transcriber": "speech.transcriber",
    "Transcription": "speech.transcript",
    "Translation": "text.results",
    "Translator": "text.translator",
    "attention": "sdpa.call",
    "fingerprint": "fingerprinting",
    "info": "backends.selection",
    "load": "models.loading",
    "ragged_attention": "sdpa.call",
    "save": "models.saving",
    "use": "backends.selection",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = importlib.import_module(f".{_MODULES[name]}", __name__)
    return globals().setdefault(name, getattr(module, name))


def __dir__() -> list[str]:
    return sorted(globals().keys() | _MODULES)
