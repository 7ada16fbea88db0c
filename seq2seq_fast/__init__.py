"""Encoder-decoder models and fused attention on the CPU, with the same bits everywhere."""

from .attention import attention
from .runtime import info, use

__version__ = "0.1.0"
__all__ = ["attention", "info", "use"]
