"""Hugging Face's folders: config.json says which family a model is of."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from pathlib import Path

from ..formats import huggingface
from ..plan import Plan
from ..tensors import Tensors
from . import bart, t5, whisper
from .config import Config

FAMILIES: dict[str, Callable[[Config, Tensors], Plan]] = {
    **dict.fromkeys(bart.KINDS, bart.plan),
    **dict.fromkeys(t5.KINDS, t5.plan),
    "whisper": whisper.plan,
}
"""What reads a model, by its model_type."""


def read(file: Path, weights: str | None) -> tuple[Plan, Tensors]:
    """A file of weights, or the index of several, with config.json beside it."""
    config = Config.beside(file)
    kind = config.values.get("model_type")
    if not isinstance(kind, str) or kind not in FAMILIES:
        near = difflib.get_close_matches(str(kind), FAMILIES, 1)
        hint = f"; {near[0]} is near" if near else ""
        raise config.says("model_type", f"one of {', '.join(sorted(FAMILIES))}{hint}")
    tensors = Tensors(file, dict(huggingface.read(file)), weights)
    return FAMILIES[kind](config, tensors), tensors
