"""Translator's options and texts are checked where they are given."""

from __future__ import annotations

import numpy as np
import pytest

from seq2seq_fast import Translator
from seq2seq_fast.checks import shown
from seq2seq_fast.demo import find_translation_model


@pytest.fixture(scope="module")
def translator():
    return Translator(find_translation_model("pt"))


# ---- options ----


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"shortlst": True}, TypeError, "no option 'shortlst'; did you mean 'shortlist'"),
        ({"num_beams": 4}, TypeError, "Translator has no option 'num_beams'"),
        ({"shortlist": "yes"}, TypeError, "shortlist must be True or False; got 'yes'"),
        ({"copy": 1}, TypeError, "copy must be True or False; got 1"),
        ({"max_source_tokens": 0}, ValueError, "max_source_tokens must be from 1 to"),
        ({"weights": "int4"}, ValueError, "weights must be one of"),
    ],
    ids=shown,
)
def test_a_translator_refuses_options_when_it_is_made(options, error, message):
    with pytest.raises(error, match=message):
        Translator(find_translation_model("pt"), **options)


def test_names_are_read_before_models():
    with pytest.raises(TypeError, match="did you mean 'weights'"):
        Translator("no such folder", weight="int8")


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"num_beans": 2}, TypeError, "no option 'num_beans'; did you mean 'num_beams'"),
        ({"temprature": 1}, TypeError, "no option 'temprature'; did you mean 'temperature'"),
        ({"target": "pt"}, TypeError, "no option 'target'; did you mean 'target_language'"),
        ({"num_beams": 0}, ValueError, "num_beams must be from 1 to 256; got 0"),
        ({"prefix": [[3]]}, TypeError, "does not take prefix: it is given for each sequence"),
        ({"decoder_input_ids": [[3]]}, TypeError, "does not take decoder_input_ids"),
        ({"shortlist": [[3]]}, TypeError, "does not take shortlist"),
        ({"callback": print}, TypeError, "does not take callback"),
        ({"suppress_tokens": [32000]}, ValueError, "must be from 0 to 31999; got 32000"),
    ],
    ids=shown,
)
def test_a_call_refuses_options_before_any_work(translator, options, error, message):
    for name in ("translate", "stream"):
        with pytest.raises(error, match=message) as refused:
            getattr(translator, name)(iter(["Yes."]), **options)
        if error is TypeError:
            assert str(refused.value).startswith(f"Translator.{name} ")


def test_a_logits_processor_needs_all_logits():
    translator = Translator(find_translation_model("pt"), shortlist=True)
    with pytest.raises(ValueError, match="logits_processor must be None with"):
        translator.translate(["Yes."], logits_processor=lambda tokens, logits: None)


# ---- texts ----


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ("Hello", "texts must be a list or another iterable of str; got 'Hello'"),
        (b"Hello", "texts must be a list or another iterable of str; got b'Hello'"),
        (None, "texts must be a list or another iterable of str; got None"),
        (5, "texts must be a list or another iterable of str; got 5"),
    ],
)
def test_one_text_is_not_many(translator, texts, message):
    for call in (translator.translate, translator.stream):
        with pytest.raises(TypeError, match=message):
            call(texts)  # at once, not when the first is asked for


@pytest.mark.parametrize("wrong", [None, 1, b"bytes", ["Yes"], np.str_, 1.5])
@pytest.mark.parametrize("before", [0, 3, 32, 40])
def test_a_wrong_text_is_named_and_costs_no_other(translator, wrong, before):
    texts = ["Yes"] * before + [wrong, "No"]
    with pytest.raises(TypeError, match=rf"texts\[{before}\] must be a str; got "):
        translator.translate(texts)
    stream, given = translator.stream(iter(texts)), []
    with pytest.raises(TypeError, match=rf"texts\[{before}\] must be a str; got "):
        given.extend(found.text for found in iter(stream.__next__, None))
    assert len(given) == before


def test_what_texts_raise_comes_after_those_before(translator):
    def broken():
        yield from ["Yes"] * 3
        raise OSError("the disk is gone")

    given = []
    with pytest.raises(OSError, match="the disk is gone"):
        for found in translator.stream(broken()):
            given.append(found.text)
    assert len(given) == 3
    with pytest.raises(TypeError, match="decode it"):
        translator.translate(["Yes", b"bytes"])
