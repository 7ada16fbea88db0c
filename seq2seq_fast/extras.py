"""Optional libraries: imported when first needed, named with their extra when missing."""

from __future__ import annotations

import importlib
from types import ModuleType


def require(module: str, extra: str) -> ModuleType:
    """Import `module`, which the package's extra `extra` brings.

    Raises
    ------
    ImportError
        It is not installed; the message says how to install it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        name = module.partition(".")[0]
        raise ImportError(
            f'{name} is needed for this ({error}): pip install "seq2seq_fast[{extra}]"'
        ) from None
