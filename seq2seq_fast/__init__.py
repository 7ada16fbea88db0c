"""Encoder-decoder models and fused attention on the CPU, with the same bits everywhere."""

from .attention import attention, ragged_attention
from .cache import KeyValueCache
from .fingerprint import fingerprint
from .load import load
from .runtime import info, use
from .save import save
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
