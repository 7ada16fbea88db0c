"""Documents in parts: nothing lost, none too long, cut at sentences, of similar length."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from seq2seq_fast.text.documents import parts_of


def words(text):
    return len(text.split())


def letters(text):
    return len(text.replace(" ", ""))


def test_parts_are_sentences_of_similar_length():
    text = " ".join(f"This is sentence number {i}." for i in range(1, 21))  # of five words each
    found = parts_of(text, "en", words, 40)
    assert " ".join(found) == text
    assert [words(part) for part in found] == [35, 35, 30]


def test_what_is_longer_than_a_part_is_cut_within():
    text = "One two three four five, six seven eight nine ten. Short."
    assert parts_of(text, "en", words, 6) == [
        "One two three four five,", "six seven eight nine ten. Short.",
    ]  # fmt: skip
    assert parts_of("abcdefgh", "en", letters, 3) == ["ab", "cd", "ef", "gh"]


def test_lines_and_paragraphs_stay_within_a_part():
    text = "First.\n\nSecond.\nThird."
    assert parts_of(text, "en", words, 3) == [text]
    assert parts_of(text, "en", words, 2) == ["First.\n\nSecond.", "Third."]
    assert parts_of(" \n ", "en", words, 3) == []


@given(
    st.text("ab .,!?\n\u4e2d\u3002\u00e9", max_size=200),
    st.sampled_from([words, letters, len]),
    st.integers(1, 30),
)
def test_nothing_is_lost_and_no_part_is_too_long(text, count, limit):
    found = parts_of(text, "en", count, limit)
    assert "".join("".join(found).split()) == "".join(text.split())
    assert all(part and part == part.strip() for part in found)
    assert all(count(part) <= limit for part in found)
