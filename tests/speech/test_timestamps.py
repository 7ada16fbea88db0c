"""Tokens of time: how a model may write them, and what they say."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import random_whisper
from hypothesis import given
from hypothesis import strategies as st

from seq2seq_fast.speech.timestamps import TimestampRules, parts
from seq2seq_fast.speech.vocabulary import SpeechVocabulary

FIRST = 1000  # a token of time 0; all before are text


@pytest.fixture(scope="module")
def vocabulary(tmp_path_factory):
    file = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    random_whisper.tokenizer().save(str(file))
    return SpeechVocabulary(file, random_whisper.VOCABULARY)


def test_rules_of_times(vocabulary):
    """Whatever the logits: a time first, times in pairs, never falling, text between them."""
    rules = TimestampRules(vocabulary, [5])
    first, end = vocabulary.first_time, vocabulary.end
    rng = np.random.default_rng(0)
    for _ in range(20):
        tokens = []
        for _ in range(60):
            logits = rng.standard_normal((1, 51865)).astype(np.float32) * 3
            logits[:, vocabulary.start : first] = -np.inf
            logits[:, end] += 4 * rng.random()
            rules(np.array([tokens], np.int64).reshape(1, -1), logits)
            tokens.append(int(logits[0].argmax()))
            if tokens[-1] == end:
                break
        assert first <= tokens[0] <= first + 50
        times = [t for t in tokens if t >= first]
        assert times == sorted(times)
        runs = "".join("t" if t >= first else "e" if t == end else "x" for t in tokens)
        assert "ttt" not in runs and not runs.startswith("tt")
        # A part of text is between times; only the end may follow one time that closes a part.
        for i, (before, now) in enumerate(itertools.pairwise(runs)):
            if before == "t" and "x" in runs[:i] and runs[i - 1] == "x":
                assert now in "te"


def test_a_time_where_times_together_are_likelier(vocabulary):
    rules, first = TimestampRules(vocabulary, []), vocabulary.first_time
    past = np.array([[first, 7]])
    for spread, is_time in ((0.0, True), (-9.0, False)):
        logits = np.full((1, 51865), -20, np.float32)
        logits[0, 65] = 0
        logits[0, first:] = -7 + spread  # 1501 of them: e^7.3 times one
        rules(past, logits)
        assert (logits.argmax() >= first) == is_time


# ---- what they say ----


def written(*parts_of_text, open_end=()):
    """Tokens of segments given by their times in seconds, each with one token of text."""
    tokens = []
    for start, end in parts_of_text:
        tokens += [FIRST + round(start * 50), 7, FIRST + round(end * 50)]
    return [*tokens, *open_end]


def test_parts():
    """In frames; what is not closed is heard once more."""
    tokens = written((0, 2), (2, 4.5))
    found, done = parts(tokens, FIRST, 3000)
    assert [(p.start, p.end, tokens[p.span]) for p in found] == [
        (0, 200, tokens[:3]), (200, 450, tokens[3:])
    ]  # fmt: skip
    assert done == 3000
    tokens = written((0, 2), (2, 4.5), open_end=[FIRST + 225, 8])
    found, done = parts(tokens, FIRST, 3000)
    assert [(p.start, p.end) for p in found] == [(0, 200), (200, 450)] and done == 450
    assert parts([7, 8], FIRST, 3000)[0][0][:2] == (0, 3000)
    assert parts(written((0, 3)), FIRST, 3000)[0][0][:2] == (0, 300)


def test_times_past_the_end_of_the_sound():
    """As models write them of clips and of noise."""
    found, done = parts(written((0, 1)), FIRST, 50)
    assert [p[:2] for p in found] == [(0, 50)] and done == 50
    found, done = parts(written((0, 4), (4, 16), (16, 26)), FIRST, 1000)
    assert [p[:2] for p in found] == [(0, 400), (400, 1000)] and done == 1000
    # All of it is said to be later than the sound: it is still text.
    found, done = parts(written((0.8, 1), (1, 1.5)), FIRST, 50)
    assert [p[:2] for p in found] == [(0, 50)] and done == 50


@given(
    tokens=st.lists(
        st.one_of(st.integers(0, 9), st.integers(FIRST, FIRST + 1500)), min_size=1, max_size=30
    ),
    heard=st.one_of(st.integers(1, 60), st.integers(1, 3000)),
)
def test_parts_follow_each_other_within_the_sound(tokens, heard):
    """Whatever the tokens, in order or not."""
    found, done = parts(tokens, FIRST, heard)
    assert 1 <= done <= heard
    at = place = 0
    for part in found:
        assert at <= part.start < part.end <= done
        assert place <= part.span.start < part.span.stop <= len(tokens)
        at, place = part.end, part.span.stop
