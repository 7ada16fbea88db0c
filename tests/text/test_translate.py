"""Text to text with the published English-Portuguese models."""

from __future__ import annotations

import re
import shutil

import numpy as np
import pytest
from conftest import assert_same_bits

from seq2seq_fast import Translator, use
from seq2seq_fast.backends import native
from seq2seq_fast.demo import find_translation_model
from seq2seq_fast.models.vocabularies import Vocabulary
from seq2seq_fast.text import parts

# What a float32 run of the published model says, found with another reader of it.
KNOWN = {
    "The children were playing happily in the garden.":
        "As crianças estavam brincando alegremente no jardim.",
    "How are you today?": "Como você está hoje?",
    "I love this city.": "Eu amo essa cidade.",
}  # fmt: skip
TEXTS = [
    *KNOWN,
    "",
    "The weather was bad, so we stayed at home. Dr. Smith read a book! Did you?",
    "One.\n\nTwo lines.",
    "Yes",
]


@pytest.fixture(scope="module")
def translator():
    return Translator(find_translation_model("pt"))


@pytest.mark.parametrize(("source", "target"), KNOWN.items())
def test_known_translations(backend, translator, source, target):
    found = translator.translate([source])[0]
    assert found.text == target
    assert "".join(found.tokens).replace("\u2581", " ").strip() == target
    assert found.source_tokens[-1] == "</s>"
    assert found.attention.shape == (len(found.tokens), len(found.source_tokens))
    assert np.abs(found.attention.sum(axis=1) - 1).max() < 1e-6
    assert -5 < found.score < 0


def test_the_other_direction():
    translator = Translator(find_translation_model("en"))
    assert (translator.source_language, translator.target_language) == ("pt", "en")
    for languages in ((), ("pt", "en"), (None, "en")):
        found = translator.translate(["Eu amo essa cidade."], *languages)
        assert found[0].text == "I love this city."


def test_the_source_language_guides_the_splitting(translator, monkeypatch):
    """And is what the folder says, if it is left out."""
    split = []
    monkeypatch.setattr(parts, "pieces", lambda text, language: (split.append(language), text)[1:])
    translator.translate(["Yes."])
    next(translator.stream(["Yes."], "de"))
    translator.translate(["Yes."], source_language="pt", num_beams=2)
    assert split == ["en", "de", "pt"]


def test_the_target_language_is_the_models(translator, tmp_path):
    message = "target_language must be None or 'pt', for the model translates to it alone; got 'de'"
    for call in (translator.translate, translator.stream):
        with pytest.raises(ValueError, match=message):
            call(["Yes."], None, "de")
        with pytest.raises(TypeError, match="source_language must be a str; got 5"):
            call(["Yes."], 5)
    for path in find_translation_model("pt").iterdir():
        (tmp_path / path.name.replace("enpt", "")).symlink_to(path)
    unknown = Translator(tmp_path)
    assert unknown.source_language is unknown.target_language is None
    with pytest.raises(ValueError, match="target_language must be None, for the model translates"):
        unknown.translate(["Yes."], target_language="pt")
    (tmp_path / "tokenizer_config.json").write_text('{"source_lang": "en", "target_lang": "pt"}')
    assert Translator(tmp_path).translate(["Yes."], "en", "pt")[0].text == "Sim."


@pytest.mark.slow
def test_neighbours_backends_and_threads_change_nothing(backend, translator):
    with use(backend="numpy"):
        alone = [translator.translate([text])[0] for text in TEXTS]
    with use(threads=3):
        together = translator.translate(TEXTS[::-1])[::-1]
    for found, want in zip(together, alone, strict=True):
        assert (found.text, found.tokens, found.score) == (want.text, want.tokens, want.score)
        assert_same_bits(found.attention, want.attention)


def test_long_text_is_split_into_sentences(translator):
    text = "I love this city. How are you today?"
    first, second = (translator.translate([one])[0] for one in KNOWN if one[0] in "IH")
    first, second = second, first  # KNOWN's order
    found = translator.translate([text])[0]
    assert found.text == f"{first.text} {second.text}"
    assert found.tokens == first.tokens + second.tokens
    assert found.score == first.score + second.score
    height, width = first.attention.shape
    assert_same_bits(found.attention[:height, :width].copy(), first.attention)
    assert_same_bits(found.attention[height:, width:].copy(), second.attention)
    assert not found.attention[:height, width:].any()


def test_lines_are_kept(translator):
    assert translator.translate(["I love this city.\n\nHow are you today?"])[0].text == (
        "Eu amo essa cidade.\n\nComo você está hoje?"
    )


@pytest.mark.parametrize(
    "text",
    ["", " ", "\n\t\n", "日本語のテキスト。", "Привет, мир!", "😀😀", "\0\x07", "\ud800", "...",
     "x" * 150, "\u202eabc", "<s></s>"],
)  # fmt: skip
def test_any_text_is_translated(translator, text):
    found = translator.translate([text])[0]
    assert isinstance(found.text, str)
    assert found.attention.shape == (len(found.tokens), len(found.source_tokens))
    if not text.strip():
        assert (found.text.strip(), found.tokens, found.score) == ("", [], 0.0)


def test_any_iterable_of_texts(translator):
    assert [found.text for found in translator.translate(text for text in KNOWN)] == [
        *KNOWN.values()
    ]


def test_stream_yields_before_the_source_ends(translator):
    def endless():
        while True:
            yield "Yes"

    stream = translator.stream(endless())
    assert next(stream).text == next(stream).text


def test_a_missing_model_says_how_to_get_one(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(FileNotFoundError, match=r'pip install "seq2seq_fast\[demo\]" brings one'):
        find_translation_model("pt")


def test_missing_and_wrong_vocabularies(tmp_path):
    with pytest.raises(FileNotFoundError, match="no model is known that translates to 'xx'"):
        find_translation_model("xx")
    source = find_translation_model("pt")
    model = next(source.glob("model*.bin"))
    (tmp_path / model.name).symlink_to(model)
    with pytest.raises(FileNotFoundError, match=r"looked for \*\.spm, .*; found model"):
        Translator(tmp_path)
    vocabulary = tmp_path / "vocab.spm"
    for content in (b"", b"no model", next(source.glob("*.spm")).read_bytes()[:1000]):
        vocabulary.write_bytes(content)
        with pytest.raises(ValueError, match=r"vocab\.spm: not "):
            Translator(tmp_path)
    shutil.copy(next(source.glob("*.spm")), vocabulary)
    assert Translator(tmp_path / model.name).vocabulary.size == 32000


def test_a_vocabulary_round_trip():
    vocabulary = Vocabulary(next(find_translation_model("pt").glob("*.spm")))
    ids = vocabulary.encode("Hello, world!")
    assert vocabulary.decode(ids) == "Hello, world!"
    assert "".join(vocabulary.tokens(ids)).replace("\u2581", " ").strip() == "Hello, world!"


# ---- two hundred sentences ----


def real_sentences(count):
    """English sentences of the manual that comes with Python."""
    from pydoc_data.topics import topics

    text = " ".join(re.sub(r"\s+", " ", topics[name]) for name in sorted(topics))
    found = re.findall(r"(?<=\. )[A-Z][a-z ,'-]{20,110}\.(?= )", text)
    return list(dict.fromkeys(found))[:count]


@pytest.mark.parametrize("weights", ["float32", "int8"])
def test_the_same_bits_of_two_hundred_sentences(weights):
    """On every backend and instruction set, 1 to 8 threads, any batches and orders."""
    texts = real_sentences(200)
    assert len(texts) == 200
    translator = Translator(find_translation_model("pt"), weights=weights)
    model = translator.model
    ids = [[*translator.vocabulary.encode(text)[:40], model.eos] for text in texts]
    by_length = sorted(range(200), key=lambda i: len(ids[i]))

    def translated(order, batch):
        found = {}
        for start in range(0, 200, batch):
            some = order[start : start + batch]
            found.update(zip(some, model.generate([ids[i] for i in some]), strict=True))
        return [found[i] for i in range(200)]

    with use(backend="numpy"):
        want = translated(by_length, 100)
    assert sum(len(one.tokens) for one in want) > 2000
    rng = np.random.default_rng(1)
    for i, isa in enumerate(native.usable_isas()):
        for threads, batch in ((1 + i, 64), (8 - i, 7)):
            with use(isa=isa, threads=threads):
                assert translated(rng.permutation(200).tolist(), batch) == want
    with use(backend="native" if native.usable_isas() else "numpy", threads=1):
        alone = [model.generate([one])[0] for one in ids[:40]]
    assert alone == want[:40]


def test_shortlist_beams_and_weights(backend):
    source = "How are you today?"
    for options, call in (
        ({"shortlist": True}, {}), ({}, {"num_beams": 4}),
        ({"weights": "float32", "shortlist": True}, {"num_beams": 2}),
    ):  # fmt: skip
        translator = Translator(find_translation_model("pt"), **options)
        found = translator.translate([source, "Yes."], **call)
        assert found[0].text == KNOWN[source]
        assert found[0].attention.shape == (len(found[0].tokens), len(found[0].source_tokens))


@pytest.mark.parametrize(
    "options", [{"num_beams": 4}, {"num_beams": 70}, {"do_sample": True, "temperature": 2}], ids=str
)
def test_the_best_of_each_text(translator, options):
    """Are those of its sentences, in turn, as the model ranks them."""
    ranking = {"num_return_sequences": 3, **options}
    texts = ["I love this city.", "", "Yes. How are you today?\n\nNo."]
    every = translator.translate(texts, **ranking)
    assert [len(ranked) for ranked in every] == [3, 1, 3]
    assert every[1][0].text == ""
    sentences = ["I love this city.", "Yes.", "How are you today?", "No."]
    model, vocabulary = translator.model, translator.vocabulary
    ids = [[*vocabulary.encode(one), model.eos] for one in sentences]
    found = model.generate(ids, **ranking)
    love, yes, how, no = (
        [(vocabulary.decode(one.tokens), sum(one.token_scores)) for one in some] for some in found
    )
    assert [(one.text, one.score) for one in every[0]] == love
    assert [one.text for one in every[2]] == [
        f"{yes[i][0]} {how[i][0]}\n\n{no[i][0]}" for i in range(3)
    ]
    assert [one.score for one in every[2]] == [
        pytest.approx(yes[i][1] + how[i][1] + no[i][1]) for i in range(3)
    ]
    assert len({one.text for one in every[0]}) == 3
    for one in every[2]:
        assert one.attention.shape == (len(one.tokens), len(one.source_tokens))
    streamed = list(translator.stream(iter(texts), **ranking))
    assert [[one.text for one in ranked] for ranked in streamed] == [
        [one.text for one in ranked] for ranked in every
    ]


def test_a_missing_shortlist_is_named(tmp_path):
    for path in find_translation_model("pt").glob("*"):
        if not path.name.startswith("lex"):
            (tmp_path / path.name).symlink_to(path)
    with pytest.raises(FileNotFoundError, match=r"expected one lex\*\.bin shortlist; found none"):
        Translator(tmp_path, shortlist=True)
