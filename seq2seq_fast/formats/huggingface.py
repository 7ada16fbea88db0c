"""Hugging Face's folders of a model: `model.safetensors`, or an index of such files, and JSON.

A large model's tensors are divided over files, which `model.safetensors.index.json` lists::

    {"weight_map": {tensor: file}}
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from . import safetensors
from .stored import Stored

INDEX = "model.safetensors.index.json"


def read(path: Path) -> dict[str, Stored]:
    """The tensors of a file, or of all files of an index.

    Raises
    ------
    ValueError
        A file is damaged or makes no sense; the message names it.
    OSError
        A file cannot be read.
    """
    if path.name != INDEX:
        return safetensors.entries(path).tensors
    listed = read_json(path).get("weight_map")
    if not isinstance(listed, dict) or not all(isinstance(name, str) for name in listed.values()):
        raise ValueError(f"{path}: expected a weight_map of tensors to files")
    tensors: dict[str, Stored] = {}
    for name in sorted(set(listed.values())):
        if Path(name).name != name:
            raise ValueError(f"{path}: {name!r} is not a file of its own folder")
        tensors.update(safetensors.entries(path.with_name(name)).tensors)
    missing = sorted(set(listed) - set(tensors))
    if missing:
        raise ValueError(f"{path}: tensor {missing[0]} is in none of the files")
    return tensors


def read_json(path: Path) -> dict[str, Any]:
    """The object that a JSON file holds.

    Raises
    ------
    ValueError
        It is no such file; the message names it.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not JSON: {error}") from None
    if not isinstance(found, dict):
        raise ValueError(f"{path}: expected an object, got {type(found).__name__}")
    return found
