"""Hugging Face's folders of a model: `model.safetensors` or `pytorch_model.bin`, or an index of
such files, and JSON.

A large model's tensors are divided over files, which the index lists::

    {"weight_map": {tensor: file}}
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from . import safetensors, sniff, torch_file
from .stored import Stored, Transposed

INDEX = "model.safetensors.index.json"
TORCH_INDEX = "pytorch_model.bin.index.json"
TORCH_FILE = "pytorch_model.bin"
KINDS = (sniff.SAFETENSORS, sniff.TORCH, sniff.OLD_TORCH)
MAX_TEXT = 16 << 20  # bytes; what Python makes of JSON takes thirty times as much


def is_index(path: Path) -> bool:
    """Whether a file, by its name, lists the files of the tensors."""
    return path.name in (INDEX, TORCH_INDEX)


def read(path: Path) -> dict[str, Stored | Transposed]:
    """The tensors of a file, or of all files of an index.

    Raises
    ------
    ValueError
        A file is damaged or makes no sense; the message names it.
    FileNotFoundError
        An index names a file that is not there.
    OSError
        A file cannot be read.
    """
    if not is_index(path):
        return _tensors(path)
    listed = read_json(path).get("weight_map")
    if not isinstance(listed, dict) or not all(isinstance(name, str) for name in listed.values()):
        raise ValueError(f"{path}: expected a weight_map of tensors to files")
    files: dict[str, dict[str, Stored | Transposed]] = {}
    for name in sorted(set(listed.values())):
        if Path(name).name != name:
            raise ValueError(f"{path}: {name!r} is not a file of its own folder")
        part = path.parent / name
        if not os.path.isfile(part):
            raise FileNotFoundError(f"{path}: names {name!r}, which is not there")
        files[name] = _tensors(part)
    for tensor, name in listed.items():
        if tensor not in files[name]:
            raise ValueError(f"{path}: tensor {tensor} is not in {name}")
    return {tensor: files[name][tensor] for tensor, name in listed.items()}


def _tensors(path: Path) -> dict[str, Stored | Transposed]:
    """Those of one file."""
    if sniff.expect(path, *KINDS) == sniff.SAFETENSORS:
        return {**safetensors.entries(path).tensors}
    return torch_file.entries(path)


def read_json(path: Path) -> dict[str, Any]:
    """The object that a JSON file holds.

    Raises
    ------
    ValueError
        It is no such file; the message names it.
    """
    text = read_text(path)
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not JSON: {error}; this is {sniff.kind(path)}") from None
    if not isinstance(found, dict):
        raise ValueError(f"{path}: expected an object, got {type(found).__name__}")
    return found


def json_if_there(path: Path) -> dict[str, Any]:
    """The same; nothing, where there is no such file."""
    return read_json(path) if path.is_file() else {}


def read_text(path: Path) -> str:
    """A text that lies beside a model.

    Raises
    ------
    ValueError
        It is no text, or a longer one than any model has; the message names it.
    """
    size = path.stat().st_size
    if not path.is_file() or size > MAX_TEXT:
        raise ValueError(
            f"{path}: expected a text of at most {MAX_TEXT} bytes; this is {sniff.kind(path)} of"
            f" {size} bytes"
        )
    try:
        return path.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8: {error}; this is {sniff.kind(path)}") from None
