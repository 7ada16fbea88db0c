"""Recorded speech for tests: Debian's package pocketsphinx-testdata (16 kHz, one reader)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

FOLDER = Path("/usr/share/pocketsphinx/test/data/librivox")
NAMES = [
    f"sense_and_sensibility_01_austen_64kb-{n}" for n in ("0870", "0880", "0890", "0920", "0930")
]


def recording(name):
    """The file of one of NAMES."""
    path = FOLDER / f"{name}.wav"
    if not path.exists():
        pytest.skip("recorded speech is not here: apt-get install pocketsphinx-testdata")
    return path


def all_in_turn(pause=8000):
    """The samples of all of them, with pauses: 27 seconds."""
    return np.concatenate([
        np.concatenate([soundfile.read(recording(name), dtype="float32")[0],
                        np.zeros(pause, np.float32)])
        for name in NAMES
    ])  # fmt: skip
