"""Files that save() has written, by every version of its format so far: each still loads, and gives
the tokens and scores that it gave then, to the bit.

    python tests/models/test_golden.py FOLDER

writes those of the format as it is now, and results.json, which is to be merged with the one here.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest

from seq2seq_fast import load, save

GOLDEN = Path(__file__).with_name("golden")
RESULTS = json.loads((GOLDEN / "results.json").read_text())


def sources(model):
    """Token ids, or spectra, of small numbers that have no error."""
    if not hasattr(model.encoder.embedding, "bands"):
        return [[5, 3, 6, model.eos], [7, model.eos]]
    counts = [np.arange(frames * model.encoder.embedding.bands) for frames in (6, 9)]
    return [(n * 37 % 101 / 32 - 1.5).astype(np.float32).reshape(-1, 80) for n in counts]


def results(model):
    """Of a greedy search and of one with beams: tokens and scores."""
    greedy = model.generate(sources(model), max_new_tokens=6, min_new_tokens=2)
    beams = model.generate(sources(model), max_new_tokens=6, num_beams=2, num_return_sequences=2)
    every = [*greedy, *(one for some in beams for one in some)]
    return [[one.tokens, one.score, one.token_scores] for one in every]


def test_there_are_some_of_each_version():
    kinds = {"text", "norms", "speech"}
    assert {name.split(".")[0] for name in RESULTS} == kinds
    assert {path.name for path in GOLDEN.glob("*.safetensors")} == set(RESULTS)


@pytest.mark.parametrize("name", RESULTS)
def test_a_saved_model_gives_what_it_gave(backend, name):
    assert results(load(GOLDEN / name)) == RESULTS[name]


@pytest.mark.parametrize("name", RESULTS)
def test_and_so_it_does_when_it_is_saved_again(tmp_path, name):
    save(load(GOLDEN / name), tmp_path / name)
    assert results(load(tmp_path / name)) == RESULTS[name]


def record(folder):
    """Small models of each kind: Marian's with SSRU, in int8; one with RMS norms, gates and shared
    keys; Whisper."""
    import fuzz
    import random_ctranslate2
    import tiny_marian

    from seq2seq_fast.models.saving import VERSION

    def write_text(source):
        for name in ("WIDTH", "INNER"):
            setattr(tiny_marian, name, 8)
        tiny_marian.ENCODERS = tiny_marian.DECODERS = 1
        config = tiny_marian.CONFIG.replace("depth: 2", "depth: 1")
        (source / "model.bin").write_bytes(tiny_marian.model_file(config=config))

    def write_norms(source):
        random_ctranslate2.write(
            source, layers=1, width=8, inner=8, vocabulary=8, heads=2, rms_norm=True, ffn_glu=True,
            multi_query_attention=True, spread=3.0,
        )  # fmt: skip

    kinds = {
        "text": (write_text, None),
        "norms": (write_norms, None),
        "speech": (fuzz.write_hugging_face, "float16"),
    }
    recorded = {}
    for kind, (write, weights) in kinds.items():
        with tempfile.TemporaryDirectory() as source:
            write(Path(source))
            name = f"{kind}.{VERSION}.safetensors"
            save(load(source, weights=weights), folder / name)
            recorded[name] = results(load(folder / name))
    (folder / "results.json").write_text(json.dumps(recorded, indent=1) + "\n")


if __name__ == "__main__":
    record(Path(sys.argv[1]))
