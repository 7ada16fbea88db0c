"""Hugging Face's families of text: the same numbers and tokens as transformers has."""

from __future__ import annotations

import numpy as np
import pytest
from random_huggingface import FAMILIES, random_model, saved, transformers

from seq2seq_fast import load
from seq2seq_fast.nn.logits import topk_log_softmax

pytestmark = pytest.mark.peers

SOURCE = [5, 9, 13, 22, 31, 7, 41, 8, 55, 12, 17, 33, 2]
TARGET = [4, 8, 15, 16, 23, 42, 11, 10, 9, 8, 7, 6]


@pytest.fixture(params=FAMILIES)
def family(request):
    transformers()
    return request.param


def states_of(model, source, target):
    """transformers' encoder states and the logits of each step, of a target that follows the
    start."""
    import torch

    start = model.config.decoder_start_token_id
    with torch.no_grad():
        out = model(
            input_ids=torch.tensor([source]),
            attention_mask=torch.ones(1, len(source), dtype=torch.long),
            decoder_input_ids=torch.tensor([[2 if start is None else start, *target]]),
        )
    return out.encoder_last_hidden_state[0].numpy(), out.logits[0].numpy()


def ours_of(model, source, target):
    """The same of ours."""
    memory = model.encode([source])
    state = model.start(memory)
    logits = []
    for token in [None, *target]:
        step = model.step(None if token is None else [token], state)
        state = step.state
        logits.append(step.logits[0])
    return memory.values[0], np.array(logits)


def assert_near(ours, theirs):
    assert ours.shape == theirs.shape
    assert np.abs(ours - theirs).max() <= 1e-4 * np.ptp(theirs)


def test_states_and_logits(family, tmp_path):
    theirs = random_model(family)
    model = load(saved(theirs, tmp_path))
    for ours, wanted in zip(
        ours_of(model, SOURCE, TARGET), states_of(theirs, SOURCE, TARGET), strict=True
    ):
        assert_near(ours, wanted)


def greedy_of(theirs, source, count):
    """The likeliest tokens one after the other, without any of generate()'s rules."""
    target = []
    for _ in range(count):
        _, logits = states_of(theirs, source, target)
        target.append(int(logits[-1].argmax()))
    return target


def test_greedy(family, tmp_path):
    """As many tokens as are asked for: through the recorded steps."""
    theirs = random_model(family)
    model = load(saved(theirs, tmp_path))
    for source in (SOURCE, SOURCE[:3], SOURCE[3:] * 3):
        wanted = greedy_of(theirs, source, 40)
        found = model.generate([source], max_new_tokens=40)
        end = wanted.index(model.eos) + 1 if model.eos in wanted else 40
        assert [*found[0].tokens, model.eos][:end] == wanted[:end]


def test_recorded_steps_are_steps(family, backend, tmp_path):
    """generate() runs a graph, step() runs layer by layer: the same bits, whatever the position."""
    model = load(saved(random_model(family), tmp_path))
    found = model.generate([SOURCE], max_new_tokens=50, suppress_tokens=[model.eos])[0]
    assert len(found.tokens) == 50
    state, token = model.start(model.encode([SOURCE])), None
    for chosen, score in zip(found.tokens, found.token_scores, strict=True):
        logits, state, _ = model.step(token, state)
        logits[:, model.eos] = -np.inf
        ids, scores, _ = topk_log_softmax(logits, 1)
        assert (ids[0, 0], scores[0, 0]) == (chosen, score)
        token = [chosen]
