"""search="transformers": the hypotheses that transformers' own generate() gives, all of them.

One source at a time, for with padding transformers' own results change; then in batches, which
change nothing here.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from conftest import BACKENDS, choose
from random_huggingface import random_model, saved, transformers

from seq2seq_fast import load

pytestmark = pytest.mark.transformers

SETTINGS = {
    **{
        f"length_penalty {penalty}, early_stopping {stopping}": {
            "length_penalty": penalty, "early_stopping": stopping,
        }
        for penalty in (0.0, 0.6, 1.0, 2.0)
        for stopping in (False, True, "never")
    },
    "bart-large-cnn": {
        "length_penalty": 2.0, "early_stopping": True, "no_repeat_ngram_size": 3, "min_length": 12,
        "forced_bos_token_id": 4, "forced_eos_token_id": 2,
    },
    "forced end": {"max_length": 14, "forced_eos_token_id": 2},
    "repetition": {"repetition_penalty": 1.3},
    "repetition welcome": {"repetition_penalty": 0.8, "max_length": 16},
    "encoder n-grams": {"encoder_no_repeat_ngram_size": 2, "no_repeat_ngram_size": 2},
    "bad words": {"bad_words_ids": [[5], [7, 9], [11, 12, 13], [2]]},
    "suppressed": {"suppress_tokens": [3, 6, 9], "begin_suppress_tokens": [8, 10, 12, 14]},
    "several ends": {"eos_token_id": [2, 9, 30], "length_penalty": 1.5},
}  # fmt: skip
BEAMS = {"early_stopping", "length_penalty"}


@cache
def theirs():
    """A model that says this and that and comes to an end: its layers change little, and its head
    is its table in another order, so that a token asks for another one."""
    import torch

    model = random_model("bart", seed=3, tie_word_embeddings=False)
    model.generation_config.forced_eos_token_id = None
    with torch.no_grad():
        for name, value in model.named_parameters():
            if name.endswith(("out_proj.weight", "fc2.weight", "bias")):
                value.mul_(0.2)
        order = torch.randperm(67, generator=torch.Generator().manual_seed(3))
        model.lm_head.weight.copy_(model.model.decoder.embed_tokens.weight[order])
        model.final_logits_bias[0, 2] += 3
    return model


@pytest.fixture(scope="module")
def ours(tmp_path_factory):
    transformers()
    return load(saved(theirs(), tmp_path_factory.mktemp("bart")))


@pytest.fixture(scope="module")
def sources():
    rng = np.random.default_rng(8)
    return [[*rng.integers(3, 67, rng.integers(3, 24)).tolist(), 2] for _ in range(25)]


def expected(source, beams, settings):
    """transformers' hypotheses of one source: tokens without start and end, and scores."""
    import torch

    given = {"max_length": 30, "eos_token_id": 2, **settings}
    ids = torch.tensor([source])
    with torch.no_grad():
        found = theirs().generate(
            ids, attention_mask=torch.ones_like(ids), do_sample=False, num_beams=beams,
            num_return_sequences=beams, return_dict_in_generate=True, output_scores=True, **given,
        )  # fmt: skip
    ends = given["eos_token_id"] if isinstance(given["eos_token_id"], list) else [2]
    tokens = []
    for row in found.sequences.tolist():
        row = row[1:]
        end = next((i for i, token in enumerate(row) if token in ends), len(row))
        tokens.append(row[:end])
    return tokens, found.sequences_scores.tolist() if beams > 1 else None


def options_of(beams, settings):
    """The same by this package's names: lengths do not count the start."""
    given = {"max_length": 30, "eos_token_id": 2, **settings}
    named = {"max_length": "max_new_tokens", "min_length": "min_new_tokens"}
    return {
        **{named.get(key, key): value - (key in named) for key, value in given.items()
           if key in named},
        **{key: value for key, value in given.items() if key not in named},
        "search": "transformers", "num_beams": beams, "num_return_sequences": beams,
    }  # fmt: skip


@pytest.mark.parametrize("name", SETTINGS)
def test_beams(ours, sources, name):
    settings = SETTINGS[name]
    for source in sources:
        found = ours.generate([source], **options_of(4, settings))[0]
        tokens, scores = expected(source, 4, settings)
        assert [one.tokens for one in found] == tokens
        np.testing.assert_allclose([one.score for one in found], scores, atol=1e-4)


@pytest.mark.parametrize("name", [name for name in SETTINGS if not BEAMS & SETTINGS[name].keys()])
def test_greedy(ours, sources, name):
    for source in sources:
        found = ours.generate([source], **options_of(1, SETTINGS[name]))[0]
        assert [one.tokens for one in found] == expected(source, 1, SETTINGS[name])[0]


@pytest.mark.parametrize("name", ["bart-large-cnn", "repetition", "encoder n-grams", "bad words"])
def test_batches_and_backends_change_nothing(ours, sources, name):
    options = options_of(4, SETTINGS[name])
    alone = [ours.generate([source], **options)[0] for source in sources]
    assert ours.generate(sources, **options) == alone
    for backend in BACKENDS:
        with choose(backend):
            assert ours.generate(sources[:6], **options) == alone[:6]
