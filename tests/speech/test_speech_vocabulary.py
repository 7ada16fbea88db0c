"""Tokenizers of speech models: the library's tokens, from both kinds of file; bad files."""

from __future__ import annotations

import json
import pickle

import pytest
import random_whisper
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st

from seq2seq_fast.demo import find_speech_model
from seq2seq_fast.speech.languages import language_code
from seq2seq_fast.speech.vocabulary import SpeechVocabulary, guarded

SIZE = random_whisper.VOCABULARY
PUBLISHED = 51864  # tokens of tiny.en
ANY_JSON = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.floats(), st.sampled_from([-1, 0, 7, 2**31, 2**32, 10**30]),
        st.sampled_from(["", "a", "Ġ a", "BPE", "\ud800", "<|endoftext|>", "Ā"]),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.sampled_from(["a", "id", "content", "\udc80"]), inner, max_size=3),
    ),
    max_leaves=6,
)  # fmt: skip


@pytest.fixture(scope="module")
def published():
    return SpeechVocabulary(find_speech_model(), PUBLISHED)


@pytest.fixture(scope="module")
def small():
    """What is in a tokenizer.json of 256 bytes' tokens and the special ones, as Python has it."""
    return json.loads(random_whisper.tokenizer(filling=4).to_str())


def vocabulary(folder, data, size=SIZE):
    text = data if isinstance(data, str) else json.dumps(data)
    (folder / "tokenizer.json").write_text(text, encoding="utf-8")
    return SpeechVocabulary(folder, size)


# ---- tokens and text ----


@pytest.fixture(scope="module")
def theirs():
    found = tokenizers.Tokenizer.from_file(str(find_speech_model() / "tokenizer.json"))
    found.encode_special_tokens = True  # a text that looks like one is text
    return found


@settings(deadline=None)
@given(text=st.text(max_size=40))
def test_the_same_tokens_as_the_library(published, theirs, text):
    want = theirs.encode(text, add_special_tokens=False).ids
    assert published.encode(text) == want
    assert published.decode(want) == theirs.decode(want, skip_special_tokens=False)


def test_text_that_looks_like_a_special_token_is_text(published):
    tokens = published.encode("<|endoftext|><|en|>")
    assert max(tokens) < published.end
    assert published.decode(tokens) == "<|endoftext|><|en|>"


def test_vocab_and_merges(tmp_path, published):
    """The same tokenizer as older folders have it."""
    data = json.loads((find_speech_model() / "tokenizer.json").read_text(encoding="utf-8"))
    special = {token["content"]: token["id"] for token in data["added_tokens"]}
    (tmp_path / "vocab.json").write_text(json.dumps(data["model"]["vocab"]))
    (tmp_path / "added_tokens.json").write_text(json.dumps(special))
    merges = "\n".join(["#version: 0.2", *data["model"]["merges"], ""])
    (tmp_path / "merges.txt").write_text(merges, encoding="utf-8")
    found = SpeechVocabulary(tmp_path, PUBLISHED)
    text = "It’s 12 o’clock – naïve 日本 🙂"
    assert found.encode(text) == published.encode(text)
    assert (found.end, found.start, found.first_time) == (
        published.end, published.start, published.first_time
    )  # fmt: skip
    (tmp_path / "merges.txt").write_bytes(b"a b\nc\n")
    with pytest.raises(ValueError, match=r"merges.txt: .* 'c' is not a pair"):
        SpeechVocabulary(tmp_path, PUBLISHED)
    (tmp_path / "merges.txt").write_bytes(b"\xff")
    with pytest.raises(ValueError, match=r"merges.txt: not UTF-8"):
        SpeechVocabulary(tmp_path, PUBLISHED)
    (tmp_path / "merges.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"merges\.txt"):
        SpeechVocabulary(tmp_path, PUBLISHED)


def test_pickling(published):
    data = pickle.dumps(published)
    assert len(data) < 500
    assert pickle.loads(data) is published


# ---- languages ----


@pytest.mark.parametrize(
    ("given_", "code"),
    [("de", "de"), ("DE", "de"), ("German", "de"), (" german ", "de"), ("CASTILIAN", "es")],
)
def test_names_of_languages(given_, code):
    assert language_code(given_, ["en", "de", "es"]) == code


@pytest.mark.parametrize("given_", ["xx", "french", "", None, 3])
def test_unknown_languages(given_):
    with pytest.raises(ValueError, match="language must be one of en, de; got"):
        language_code(given_, ["en", "de"])


# ---- bad files ----


def test_special_tokens_must_be_the_models(tmp_path, small):
    """A token of 2e9 would make for as many languages."""
    for name in ("transcribe", "translate", "startofprev", "notimestamps"):
        data = json.loads(json.dumps(small))
        for token in data["added_tokens"]:
            if token["content"] == f"<|{name}|>":
                token["id"] = 2_000_000_000
        with pytest.raises(ValueError, match=r"tokenizer\.json: has the token 2000000000"):
            vocabulary(tmp_path, data)


@pytest.mark.parametrize(
    "data",
    ["[" * 100_000, '{"model":' * 100_000, "{}", "[]", "", "\ud83d", '{"model": NaN}'],
)
def test_what_is_no_tokenizer(tmp_path, data):
    (tmp_path / "tokenizer.json").write_bytes(data.encode("utf-8", "surrogatepass"))
    with pytest.raises(ValueError, match=r"tokenizer\.json: "):
        SpeechVocabulary(tmp_path, SIZE)


@settings(deadline=None)
@given(data=st.data())
def test_any_json_gives_a_tokenizer_or_an_error(tmp_path_factory, small, data):
    """Any value in any place: read, used, or refused with the file's name."""
    changed = json.loads(json.dumps(small))
    parts = {"vocab": changed["model"], "merges": changed["model"], "added_tokens": changed,
             "model": changed, "decoder": changed, "normalizer": changed}  # fmt: skip
    name = data.draw(st.sampled_from(sorted(parts)))
    within, value = parts[name][name], data.draw(ANY_JSON)
    if isinstance(within, list) and data.draw(st.booleans()):
        within.append(value)
    elif isinstance(within, dict) and data.draw(st.booleans()):
        within[data.draw(st.sampled_from(["a", "type", "\ud800", "Ġ", "<|en|>"]))] = value
    else:
        parts[name][name] = value
    folder = tmp_path_factory.mktemp("tokenizer")
    try:
        found = vocabulary(folder, changed)
        tokens = found.encode("a <|en|> 日")
        found.decode([*tokens, *range(300)])
        found.words(tokens, "en")
    except ValueError as error:
        assert str(folder) in str(error)


@pytest.mark.parametrize(
    "extra",
    [
        {"normalizer": {"type": "Precompiled", "precompiled_charsmap": "AAAA"}},
        {"truncation": {"max_length": 1, "strategy": "LongestFirst", "stride": 5,
                        "direction": "Right"}},
        {"padding": {"strategy": {"Fixed": 2 * 10**9}, "direction": "Right", "pad_id": 0,
                     "pad_type_id": 0, "pad_token": "a"}},
    ],
    ids=lambda extra: next(iter(extra)),
)  # fmt: skip
def test_what_makes_the_library_panic_is_not_told_it(tmp_path, small, extra, capfd):
    """As it loads, encodes, or takes 48 GB and ends the program."""
    found = vocabulary(tmp_path, {**small, **extra})
    assert found.decode(found.encode("Hello 日本")) == "Hello 日本"
    assert capfd.readouterr() == ("", "")


def test_a_panic_of_the_library_is_an_error(tmp_path):
    """It is no Exception. What stops a program passes."""

    class Panic(BaseException):
        pass

    def fails(error):
        raise error

    with pytest.raises(ValueError, match=r"x\.json: not a tokenizer: no"):
        guarded("x.json", lambda: fails(Panic("no")))
    for error in (KeyboardInterrupt, SystemExit):
        with pytest.raises(error):
            guarded("x.json", lambda error=error: fails(error()))
