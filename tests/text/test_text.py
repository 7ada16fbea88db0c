"""Text in pieces: nothing is lost, nothing is cut within a word."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seq2seq_fast.text.sentences import parts, pieces

# What ends a line somewhere, and what only parts words.
ENDS = "\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029"
TEXTS = st.lists(
    st.sampled_from(["Dr. Smith left.", "Why?", "a", "\u4e2d\u6587\u3002", *ENDS, *" \t\xa0\u3000"])
    | st.text(max_size=5)
).map("".join)


def words(text):
    return len(text.split())


def test_sentences():
    assert pieces("Dr. Smith left. He was late.\n \nWhy?") == [
        "", "Dr. Smith left.", " ", "He was late.", "\n \n", "Why?", ""
    ]  # fmt: skip
    assert pieces("") == [""]
    assert pieces(" \n\n") == [" \n\n"]


@given(TEXTS)
def test_pieces_are_the_text(text):
    found = pieces(text)
    assert len(found) % 2 == 1
    assert "".join(found) == text.encode("utf-8", "replace").decode("utf-8")
    for sentence in found[1::2]:
        assert sentence and sentence == sentence.strip()
        assert sentence.splitlines() == [sentence]
    assert not "".join(found[::2]).strip()


@pytest.mark.parametrize("unit", ['; and (x) "y" . ', "\u4e2d\u6587\u5b57\u3002", "word ", "A"])
def test_long_lines_are_cut_in_blocks(unit):
    text = unit * (100_000 // len(unit))
    found = pieces(text)
    assert "".join(found) == text
    assert all(sentence.strip() for sentence in found[1::2])
    if unit.strip() != unit:  # there are spaces to cut at
        assert max(map(len, found)) < 10_000


def test_clauses_are_where_it_is_cut():
    text = "the first clause is here; the second one follows it, and the third one ends it"
    assert parts(text, words, 100) == [text]
    assert parts(text, words, 8) == [
        "the first clause is here; ",
        "the second one follows it, ",
        "and the third one ends it",
    ]
    assert parts("we walk and they run fast", words, 4) == ["we walk ", "and they run fast"]


@given(TEXTS, st.integers(1, 6))
def test_parts_are_the_sentence(text, most):
    for sentence in pieces(text)[1::2]:
        found = parts(sentence, words, most)
        assert "".join(found) == sentence
        assert all(words(part) <= most for part in found)
        for before, after in itertools.pairwise(found):  # at white space, or in a script without
            assert before[-1].isspace() or max(before[-1], after[0]) > "\u2e80"


def test_a_word_stays_whole():
    word = "Mississippi" * 20
    assert parts(f"{word} and {word}", len, 30) == [f"{word} ", "and ", word]
