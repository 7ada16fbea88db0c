"""Nothing of a text is lost: long sentences, lines, and what a model does not know."""

from __future__ import annotations

import re
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seq2seq_fast import Translator
from seq2seq_fast.demo import find_translation_model
from seq2seq_fast.text.copying import mask, numbers, spans

SEPARATORS = ["\v", "\f", "\x1c", "\x1d", "\x1e", "\x85", "\u2028", "\u2029", "\r"]


@pytest.fixture(scope="module")
def translator():
    return Translator(find_translation_model("pt"))


def test_digits_are_numbers_whatever_parts_them():
    assert numbers("1,500.50 and 3", "3 e 1.500,50")
    assert not numbers("1,500.50 and 3", "1.500,50")
    assert not numbers("room 3", "quarto 3, quarto 3")
    assert numbers("the 19th century, 3pm", "s\u00e9culo XIX, 15h")
    assert numbers("two", "2")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Write to jane.doe@example.org, please.", ["jane.doe@example.org"]),
        ("See (https://example.org/a?b=1#c).", ["https://example.org/a?b=1#c"]),
        (r"Open C:\Users\me or ~/x/y.txt", [r"C:\Users\me", "~/x/y.txt"]),
        ("%(name)s of %d in {count} ${x}", ["%(name)s", "%d", "{count}", "${x}"]),
        ("a <b>bold</b> `x = 1` file.txt", ["<b>", "</b>", "`x = 1`", "file.txt"]),
        ("He and/or she ran 5 km/h, e.g. here; 50% e 3.", []),
    ],
)
def test_what_must_arrive_is_found(text, found):
    places = spans(text, lambda _: False)
    assert [text[begin:end] for begin, end, _ in places] == found


@given(
    st.lists(st.sampled_from(["a", " ", "X1", "X2", "7", ".", "\u00e9", "{b}"])).map("".join),
    st.sets(st.integers(0, 20), max_size=8),
)
def test_a_masked_text_is_the_text_again(text, edges):
    at = sorted(edge for edge in edges if edge <= len(text))
    places = [
        (begin, end)
        for begin, end in zip(at[::2], at[1::2], strict=False)
        if text[begin:end].strip()
    ]
    masked = mask(text, places)
    assert masked.source() == text
    assert masked.restored(masked.text) == text
    for name in masked.copies:
        assert masked.restored(masked.text.replace(name, "")) is None
        assert masked.restored(masked.text + f" {name}") is None


LISTS = {
    "pt": [
        "; ".join(f"room {i} is on the second floor next to the lift" for i in range(11, 45)),
        ", ".join(f"{i} grams of {['flour', 'milk', 'salt'][i % 3]}" for i in range(10, 70)),
        " and shall ".join(
            ["The tenant shall pay 500 euros"]
            + [f"deliver {i} boxes of goods to the landlord" for i in range(101, 135)]
        ),
        " ".join(f"we saw {i} birds and then we walked to house {i + 100}" for i in range(20, 50)),
    ],
    "en": [
        "; ".join(f"o quarto {i} fica ao lado do elevador" for i in range(11, 45)),
        ", ".join(f"{i} gramas de {['farinha', 'leite', 'sal'][i % 3]}" for i in range(10, 70)),
    ],
}


@pytest.mark.parametrize(("to", "text"), [(to, text) for to in LISTS for text in LISTS[to]])
def test_long_sentences_keep_their_numbers(to, text):
    found = Translator(find_translation_model(to)).translate([text])[0]
    assert Counter(re.findall(r"\d+", found.text)) == Counter(re.findall(r"\d+", text))
    assert found.finished


@pytest.mark.parametrize("text", ["ACGT" * 200, "Mississippi " * 60 + "Albuquerque"])
def test_no_word_is_cut(translator, text):
    assert set(translator.translate([text])[0].text.split()) <= set(text.split())


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("Write to jane.doe@example.org today.", ["jane.doe@example.org"]),
        ("Hello {name}, you have {count} new messages.", ["{name}", "{count}"]),
        ("See https://example.org/a/b?x=1#y for details.", ["https://example.org/a/b?x=1#y"]),
        (r"Open C:\Users\me\file.txt or /usr/local/bin.", [r"C:\Users\me\file.txt", "/usr/local"]),
        ("Press <b>OK</b> to go on.", ["<b>OK</b>"]),
        ("%s of %d files (%(name)s)", ["%s", "%d", "%(name)s"]),
        ("Use `pip install foo` now.", ["`pip install foo`"]),
        ("I love it \U0001f600 very much \U0001f600", ["\U0001f600"]),
        ("I met \u0418\u0432\u0430\u043d \u041f\u0435\u0442\u0440\u043e\u0432 yesterday.",
         ["\u0418\u0432\u0430\u043d \u041f\u0435\u0442\u0440\u043e\u0432"]),
        ("The land has 20 m\u00b2, \u00bd of it for \u20ac50.", ["m\u00b2", "\u00bd", "\u20ac50"]),
        ("He said \u201cI love this city\u201d \u2014 and left.", ["\u201c", "\u201d", " \u2014 "]),
        ("# Heading of a page", ["# "]),
        ("\u2022 item one", ["\u2022 "]),
    ],
)  # fmt: skip
def test_what_a_model_does_not_know_arrives(translator, text, kept):
    found = translator.translate([text])[0].text
    for one in kept:
        assert found.count(one) == text.count(one)
    # Something else was translated.
    assert found != text


@pytest.mark.parametrize("text", ["\u041f\u0440\u0438\u0432\u0435\u0442, \u043c\u0438\u0440!",
                                  "\U0001f600\U0001f600", "12.5", "---", "{x}"])  # fmt: skip
def test_what_cannot_be_translated_is_copied(translator, text):
    found = translator.translate([text])[0]
    assert (found.text, found.tokens, found.score, found.finished) == (text, [], 0.0, True)


def test_white_space_stays(translator):
    text = "\t  The first line.  The second one.\t5\n\n\n- I love this city.\r\nThank you!\n\n"
    found = translator.translate([text])[0].text
    assert re.findall(r"[\t\r\n]+", found) == re.findall(r"[\t\r\n]+", text)
    assert found.startswith("\t  ") and found.endswith(".\n\n") and ".  " in found


@pytest.mark.parametrize("separator", SEPARATORS)
def test_one_line_is_one_line(translator, separator):
    text = f"Hello.{separator}How are you?"
    found = translator.translate([text])[0].text
    assert "\n" not in found and found.count(separator) == 1


@settings(max_examples=25, deadline=None)
@given(st.text(max_size=12))
def test_ends_of_lines_are_those_of_the_source(translator, text):
    found = translator.translate([text])[0].text
    assert found.count("\n") == text.count("\n")
    end = len(text) - len(text.rstrip("\n"))
    assert found.endswith(text[len(text) - end :])


def test_nothing_is_copied_if_not_wanted():
    plain = Translator(find_translation_model("pt"), copy=False)
    assert "jane.doe@example.org" not in plain.translate(["Write to jane.doe@example.org."])[0].text


def test_a_translation_says_whether_it_came_to_its_end():
    plain = Translator(find_translation_model("pt"), copy=False)
    texts = ["The children were playing happily.", "Yes"]
    cut, whole = plain.translate(texts, max_new_tokens=3)
    assert (cut.finished, whole.finished) == (False, True)
