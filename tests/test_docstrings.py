"""The examples of the docstrings run as they stand and give what they say."""

from __future__ import annotations

import dataclasses
import doctest
import importlib
import inspect
import re
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
    if name in ("speech.transcriber", "speech.transcript"):
        (tmp_path / "talk.wav").write_bytes(recordings.recording(recordings.NAMES[3]).read_bytes())
    failed, tried = doctest.testmod(importlib.import_module(f"seq2seq_fast.{name}"))
    assert tried > 0
    assert failed == 0


@pytest.mark.parametrize("name", sorted(seq2seq_fast.__all__))
def test_what_is_public_has_an_example(name):
    assert "Examples\n---" in getattr(seq2seq_fast, name).__doc__.replace("    ", "")


def public():
    """Everything public that is called, by its name: functions, classes and their methods, but for
    what the layers of models do with a cache."""
    for name in sorted(seq2seq_fast.__all__):
        thing = getattr(seq2seq_fast, name)
        yield name, thing
        if inspect.isclass(thing):
            for method, function in vars(thing).items():
                inner = name == "KeyValueCache" and method not in ("append", "reorder")
                if inspect.isfunction(function) and not method.startswith("_") and not inner:
                    yield f"{name}.{method}", function


@pytest.mark.parametrize("thing", [pytest.param(thing, id=name) for name, thing in public()])
def test_every_parameter_is_documented(thing):
    """In a section of its own, by numpydoc's rules; so is what is returned. What a dataclass has
    from another one stands there."""
    text = inspect.getdoc(thing)
    if dataclasses.is_dataclass(thing):
        text = "\n".join(inspect.getdoc(one) for one in thing.__mro__ if one.__doc__)
    signature = inspect.signature(thing)
    listed = re.findall(r"^([\w*, ]+?) :|^(\*\*\w+)$|^([\w*]+(?:, [\w*]+)+)$", text, re.MULTILINE)
    documented = {one.strip(" *") for group in listed for part in group for one in part.split(",")}
    assert {*signature.parameters} - {"self"} <= documented
    returned = signature.return_annotation
    if inspect.isfunction(thing) and returned not in ("None", inspect.Signature.empty):
        assert re.search(r"^(Returns|Yields)\n---", text, re.MULTILINE)
