"""The examples of the docstrings run as they stand and give what they say."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import pytest
import recordings

import seq2seq_fast

FOLDER = Path(seq2seq_fast.__file__).parent
MODULES = sorted(
    ".".join(file.relative_to(FOLDER).with_suffix("").parts)
    for file in FOLDER.rglob("*.py")
    if ">>> " in file.read_text(encoding="utf-8")
)


@pytest.mark.parametrize("name", MODULES)
def test_examples(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # where models are saved, and talk.wav is
    if name == "speech.transcriber":
        (tmp_path / "talk.wav").write_bytes(recordings.recording(recordings.NAMES[3]).read_bytes())
    failed, tried = doctest.testmod(importlib.import_module(f"seq2seq_fast.{name}"))
    assert tried > 0
    assert failed == 0


# Results, whose fields say what they are, have no example of their own.
@pytest.mark.parametrize("name", sorted({*seq2seq_fast.__all__} - {"Translation", "Transcription"}))
def test_what_is_public_has_an_example(name):
    assert "Examples\n---" in getattr(seq2seq_fast, name).__doc__.replace("    ", "")
