"""The README's code runs as it stands and prints what the README says."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path

import numpy as np
import recordings

README = Path(__file__).parents[1].joinpath("README.md").read_text(encoding="utf-8")


def test_examples(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # where talk.wav is
    (tmp_path / "talk.wav").write_bytes(recordings.recording(recordings.NAMES[3]).read_bytes())
    rng = np.random.default_rng(0)
    # What the examples take for granted: a batch of two.
    names = {name: rng.standard_normal((2, 4, 42, 16)) for name in ("query", "key", "value")}
    for name in ("new_query", "new_key", "new_value"):
        names[name] = rng.standard_normal((2, 8, 1, 64)).astype(np.float32)
    blocks = re.findall(r"```python\n(.*?)```\n(?:```\n(.*?)```\n)?", README, flags=re.DOTALL)
    assert len(blocks) == 7
    for code, output in blocks:
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(code, names)
        assert printed.getvalue() == output


def test_commands_are_the_first_indented_lines():
    """.ci/run takes them from there."""
    commands = re.findall(r"^    (.*)$", README, flags=re.MULTILINE)
    assert commands[0].startswith('pip install ".[demo]" && seq2seq-fast translate "')
    assert commands[1] == 'pip install ".[test]" && pytest'
