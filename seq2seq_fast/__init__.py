"""Encoder-decoder models and fused attention on the CPU, with the same bits everywhere."""

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .attention import attention, ragged_attention
    from .cache import KeyValueCache
    from .fingerprinting import fingerprint
    from .loading import load
    from .runtime import info, use
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

# Names are fetched when they are first asked for: models take longer to import than attention does,
# and the command line sets up its signals before NumPy is imported.
_MODULES = {
    "EncoderDecoder": "transformer",
    "KeyValueCache": "cache",
    "Transcriber": "transcribe",
    "Transcription": "transcribe",
    "Translation": "translate",
    "Translator": "translate",
    "attention": "attention",
    "fingerprint": "fingerprinting",
    "info": "runtime",
    "load": "loading",
    "ragged_attention": "attention",
    "save": "saving",
    "use": "runtime",
}


class _Package(ModuleType):
    """A package in which `attention` is the function, not the module that has it: whoever imports a
    submodule has it set as the package's attribute."""

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in _MODULES and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = importlib.import_module(f".{_MODULES[name]}", __name__)
    return globals().setdefault(name, getattr(module, name))


def __dir__() -> list[str]:
    return sorted(globals().keys() | _MODULES)
