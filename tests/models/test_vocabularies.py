"""Vocabularies: folders of every layout translate text, as CTranslate2 does where it can read the
model; and whatever is wrong with a file is said."""

from __future__ import annotations

import copy
import io
import json
import pickle
import random
from concurrent.futures import ThreadPoolExecutor

import ctranslate2
import numpy as np
import pytest
import random_ctranslate2
import random_whisper
import sentencepiece
import tiny_marian
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from seq2seq_fast import Translator, load, save
from seq2seq_fast.demo import find_translation_model
from seq2seq_fast.models.vocabularies import Vocabulary, find_vocabulary
from seq2seq_fast.models.vocabularies.tokens import read_tokens

ENGLISH = [
    "the children were playing happily in the garden",
    "how are you today my friend",
    "a black cat sat on the old mat and slept",
    "she reads a long book under the tall tree",
]
PORTUGUESE = [
    "as crianças estavam brincando no jardim",
    "como você está hoje meu amigo",
    "um gato preto dormia no tapete velho",
    "ela lê um livro longo sob a árvore",
]
TEXTS = ["the cat is happy", "how old are you my friend", "trees"]
SPECIAL = ["<unk>", "<s>", "</s>"]
LENGTH = 12
OPTIONS = {"max_new_tokens": LENGTH, "min_new_tokens": 1}  # CTranslate2's shortest has one, too


def trained(lines, **options):
    """The bytes of a small SentencePiece model."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines * 5), model_writer=model, vocab_size=120,
        hard_vocab_limit=False, minloglevel=2, **options,
    )  # fmt: skip
    return model.getvalue()


@pytest.fixture(scope="module")
def spm():
    """SentencePiece models of two languages, and one of Marian's kind, as bytes."""
    marian = {"eos_id": 0, "unk_id": 1, "bos_id": -1}
    return {
        "en": trained(ENGLISH),
        "pt": trained(PORTUGUESE),
        "both": trained(ENGLISH + PORTUGUESE),
        "marian": trained(ENGLISH + PORTUGUESE, **marian),
        "marian_en": trained(ENGLISH, **marian),
        "marian_pt": trained(PORTUGUESE, **marian),
    }


def processor(data):
    return sentencepiece.SentencePieceProcessor(model_proto=data)


def pieces_of(*data):
    """The pieces of some models that stand for text, in an order of their own."""
    found = {p.id_to_piece(i) for p in map(processor, data) for i in range(3, p.vocab_size())}
    return random.Random(7).sample(sorted(found), len(found))


@pytest.fixture(scope="module")
def tokenizer():
    """Of Hugging Face's kind, with a token before and one behind a source."""
    made = Tokenizer(models.BPE(unk_token="<unk>"))
    made.pre_tokenizer, made.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    specials = ["<s>", "<pad>", "</s>", "<unk>"]
    made.train_from_iterator(
        ENGLISH + PORTUGUESE,
        trainers.BpeTrainer(vocab_size=120, special_tokens=specials, show_progress=False),
    )
    made.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return made


# ---- CTranslate2 ----


def write_model(folder, tokens, target=None, *, end=".json", zero_start=False, **config):
    """A model of random weights whose lists of tokens are the given ones."""
    folder.mkdir(parents=True, exist_ok=True)
    random_ctranslate2.write(
        folder, layers=1, vocabulary=len(tokens), spread=4.0, zero_start=zero_start
    )
    lists = {"shared": tokens} if target is None else {"source": tokens, "target": target}
    (folder / "shared_vocabulary.json").unlink()
    for name, listed in lists.items():
        text = json.dumps(listed) if end == ".json" else "".join(f"{one}\n" for one in listed)
        (folder / f"{name}_vocabulary{end}").write_text(text, encoding="utf-8", newline="")
    said = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**said, **config}))
    return folder


def argos(path, spm, tokenizer):
    """What OpenNMT-py trained reads neither a start nor an end."""
    write_model(path / "model", SPECIAL + pieces_of(spm["both"]), end=".txt")
    (path / "sentencepiece.model").write_bytes(spm["both"])
    return path / "model", spm["both"], spm["both"], []


def argos_package(path, spm, tokenizer):
    argos(path, spm, tokenizer)
    return path, spm["both"], spm["both"], []


def beside(path, spm, tokenizer):
    write_model(path, SPECIAL + pieces_of(spm["both"]))
    (path / "sentencepiece.bpe.model").write_bytes(spm["both"])
    return path, spm["both"], spm["both"], []


def source_and_target(path, spm, tokenizer):
    """Two lists, as long as each other; the source's lacks pieces, which are unknown then."""
    source, target = pieces_of(spm["en"]), pieces_of(spm["pt"])
    size = min(len(source), len(target)) - 5
    write_model(path, source[:size] + SPECIAL, SPECIAL + target[:size])
    (path / "src.model").write_bytes(spm["en"])
    (path / "tgt.model").write_bytes(spm["pt"])
    return path / "model.bin", spm["en"], spm["pt"], []


def opus(path, spm, tokenizer):
    """As ct2-transformers-converter writes it: the end comes from the tokenizer."""
    tokens = ["</s>", "<unk>", *pieces_of(spm["en"], spm["pt"])]
    write_model(path, tokens, zero_start=True, decoder_start_token="</s>", add_source_eos=False)
    (path / "source.spm").write_bytes(spm["en"])
    (path / "target.spm").write_bytes(spm["pt"])
    ids = {token: i for i, token in enumerate([*tokens, "<pad>"])}
    (path / "vocab.json").write_text(json.dumps(ids))
    return path, spm["en"], spm["pt"], ["</s>"]


def opus_of_marian(path, spm, tokenizer):
    """As ct2-opus-mt-converter writes it: CTranslate2 adds the end itself."""
    tokens = ["</s>", "<unk>", *pieces_of(spm["en"], spm["pt"])]
    write_model(path, tokens, zero_start=True, decoder_start_token="</s>", add_source_eos=True)
    (path / "source.spm").write_bytes(spm["en"])
    (path / "target.spm").write_bytes(spm["pt"])
    return path, spm["en"], spm["pt"], []


def fairseq(path, spm, tokenizer):
    tokens = ["<s>", "<pad>", "</s>", "<unk>", *pieces_of(spm["both"])]
    write_model(path, tokens, end=".txt", decoder_start_token="</s>", add_source_eos=True)
    (path / "spm.model").write_bytes(spm["both"])
    return path, spm["both"], spm["both"], []


def start_and_end(path, spm, tokenizer):
    write_model(path, SPECIAL + pieces_of(spm["both"]), add_source_bos=True, add_source_eos=True)
    (path / "sp.model").write_bytes(spm["both"])
    return path, spm["both"], spm["both"], []


SENTENCEPIECE_LAYOUTS = (
    argos, argos_package, beside, source_and_target, opus, opus_of_marian, fairseq, start_and_end,
)  # fmt: skip


def check_translations(folder, sources):
    """That texts get the tokens and scores that CTranslate2 gives for these tokens of theirs."""
    found = Translator(folder, copy=False).translate(TEXTS, **OPTIONS)
    folder = folder if folder.is_dir() else folder.parent
    folder = folder if (folder / "model.bin").exists() else folder / "model"
    want = ctranslate2.Translator(str(folder)).translate_batch(
        sources, beam_size=1, max_decoding_length=LENGTH, length_penalty=0, return_scores=True
    )
    assert [one.tokens for one in found] == [one.hypotheses[0] for one in want]
    assert [one.score for one in found] == pytest.approx([one.scores[0] for one in want], abs=1e-4)
    assert len({one.score for one in found}) == len(TEXTS)  # the source matters
    return found


@pytest.mark.peers
@pytest.mark.parametrize("layout", SENTENCEPIECE_LAYOUTS, ids=lambda one: one.__name__)
def test_a_folder_translates_as_in_ctranslate2(tmp_path, spm, layout):
    folder, source, target, end = layout(tmp_path, spm, None)
    pieces = [processor(source).encode(text, out_type=str) for text in TEXTS]
    found = check_translations(folder, [[*some, *end] for some in pieces])
    vocabulary = find_vocabulary(folder, load(folder))
    for text, one in zip(PORTUGUESE, found, strict=False):
        pieces = [*processor(target).encode(text, out_type=str), *one.tokens]
        pieces = [name for name in pieces if vocabulary.target.id(name) is not None]
        ids = [vocabulary.target.id(name) for name in [*pieces, "</s>"]]
        plain = [name for name in pieces if name not in ("<s>", "</s>", "<pad>")]
        assert vocabulary.decode(ids) == processor(target).decode(plain)


@pytest.mark.peers
@pytest.mark.parametrize("template", [True, False])
def test_a_tokenizer_json_translates_as_in_ctranslate2(tmp_path, tokenizer, template):
    ids = tokenizer.get_vocab()
    write_model(tmp_path, sorted(ids, key=ids.get), decoder_start_token="</s>")
    made = Tokenizer.from_str(tokenizer.to_str())
    if not template:
        made.post_processor = None
    made.enable_truncation(2)
    made.enable_padding(length=50)
    made.save(str(tmp_path / "tokenizer.json"))
    sources = [tokenizer.encode(text).tokens for text in TEXTS]
    if not template:  # then the end is added, without which no model of this kind was trained
        sources = [tokens[1:] for tokens in sources]
    found = check_translations(tmp_path, sources)
    assert [one.source_tokens for one in found] == sources
    vocabulary = find_vocabulary(tmp_path, load(tmp_path))
    plain = tokenizer.encode(TEXTS[1], add_special_tokens=False).ids
    assert vocabulary.decode([0, *plain, 2]) == TEXTS[1]


def test_settings_of_older_files(tmp_path, spm):
    """Up to version 5 there was no config.json: model.bin has its flags."""
    folder, *_ = start_and_end(tmp_path, spm, None)
    model = load(folder)
    (folder / "config.json").unlink()
    assert find_vocabulary(folder, model).end == []
    file = folder / "model.bin"
    data = file.read_bytes()
    # Behind the version, the name of the specification, its revision and the number of tensors.
    at = 4 + 2 + len("TransformerSpec") + 1 + 4
    count = int.from_bytes(data[at : at + 4], "little")
    flags = b"".join(
        (len(name) + 1).to_bytes(2, "little") + name + b"\0\0\1\1\0\0\0\1"
        for name in (b"with_source_bos", b"with_source_eos")
    )
    file.write_bytes(
        b"\5" + data[1:at] + (count + 2).to_bytes(4, "little") + flags + data[at + 4 :]
    )
    found = find_vocabulary(folder, model)
    assert (found.source.tokens(found.start), found.source.tokens(found.end)) == (["<s>"], ["</s>"])


# ---- Marian ----


def write_marian(folder, source, target=None):
    """A tiny model of so many tokens; of two vocabularies if there is a target."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(5)
    tensors, config = tiny_marian.random_tensors(), tiny_marian.CONFIG
    del tensors["Wemb"]
    sizes = {"Wemb": source}
    if target is not None:
        sizes = {"encoder_Wemb": source, "decoder_Wemb": target}
        config = config.replace("tied-embeddings-all", "tied-embeddings")
    for name, size in sizes.items():
        tensors[name] = rng.standard_normal((size, tiny_marian.WIDTH)).astype(np.float32)
    last = source if target is None else target
    tensors["decoder_ff_logit_out_b"] = rng.standard_normal((1, last)).astype(np.float32)
    (folder / "model.tiny.bin").write_bytes(tiny_marian.model_file(tensors, config))
    return folder


def check_marian(translator, source, target, ids_of=None):
    """That a translator gives what the model makes of ids that are told here."""
    sources = [processor(source).encode(text, out_type=ids_of and str) for text in TEXTS]
    if ids_of:
        sources = [[ids_of.get(piece, 1) for piece in pieces] for pieces in sources]
    want = translator.model.generate([[*ids, 0] for ids in sources], max_new_tokens=LENGTH)
    found = translator.translate(TEXTS, max_new_tokens=LENGTH)
    assert [one.parts[0][1].tokens for one in found] == [one.tokens for one in want]
    if not ids_of:
        for tokens in (one.tokens for one in want):
            assert translator.vocabulary.decode(tokens) == processor(target).decode(tokens)
        assert [one.source_tokens for one in found] == [
            processor(source).id_to_piece([*ids, 0]) for ids in sources
        ]


def test_one_vocabulary_of_marian(tmp_path, spm):
    write_marian(tmp_path, processor(spm["marian"]).vocab_size())
    (tmp_path / "vocab.enpt.spm").write_bytes(spm["marian"])
    (tmp_path / "tokenizer.json").write_text("of no use")
    translator = Translator(tmp_path)
    check_marian(translator, spm["marian"], spm["marian"])
    assert translator.vocabulary.source is translator.vocabulary.target


@pytest.mark.parametrize(
    ("names", "config"),
    [
        (("source.spm", "target.spm"), None),
        (("vocab.src.spm", "vocab.trg.spm"), None),
        (("srcvocab.enpt.spm", "trgvocab.enpt.spm"), None),
        (("b.spm", "a.spm"), "relative-paths: true\nvocabs:\n  - b.spm\n  - a.spm\nbeam-size: 1\n"),
        (("z.spm", "y.spm"), "models:\n- m.bin\nvocabs:\n- /there/z.spm\n- '/there/y.spm'\n"),
    ],
)
def test_two_vocabularies_of_marian(tmp_path, spm, names, config):
    """They may differ in size."""
    data = spm["marian_en"], spm["marian_pt"]
    sizes = [processor(one).vocab_size() for one in data]
    assert sizes[0] != sizes[1]
    write_marian(tmp_path, *sizes)
    for name, one in zip(names, data, strict=True):
        (tmp_path / name).write_bytes(one)
    if config:
        (tmp_path / "config.yml").write_text(config)
    check_marian(Translator(tmp_path), *data)


def test_ids_of_marian_in_yaml(tmp_path, spm):
    """As OPUS publishes them: SentencePiece cuts, another file says the ids."""
    tokens = ["</s>", "<unk>", *pieces_of(spm["en"], spm["pt"])]
    ids = {token: i for i, token in enumerate(tokens)}
    write_marian(tmp_path, len(tokens))
    (tmp_path / "source.spm").write_bytes(spm["en"])
    (tmp_path / "target.spm").write_bytes(spm["pt"])
    (tmp_path / "opus.spm32k-spm32k.vocab.yml").write_text(
        "".join(f"{json.dumps(token)}: {i}\n" for token, i in ids.items())
    )
    translator = Translator(tmp_path)
    check_marian(translator, spm["en"], spm["pt"], ids)
    assert translator.vocabulary.target.path.name == "opus.spm32k-spm32k.vocab.yml"


CHARACTERS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)


@settings(max_examples=100, deadline=None)
@given(
    tokens=st.lists(CHARACTERS, min_size=1, unique=True),
    escaped=st.booleans(),
    quoted=st.booleans(),
)
def test_any_tokens_in_yaml(tmp_path_factory, tokens, escaped, quoted):
    path = tmp_path_factory.mktemp("yaml") / "vocab.yml"
    options = {"allow_unicode": not escaped, "width": 1 << 20}
    if quoted:  # as Marian writes what is not plain: line breaks are escaped
        lines = [
            f"{yaml.safe_dump(token, default_style=chr(34), **options).strip()}: {i}\n"
            for i, token in enumerate(tokens)
        ]
    else:
        tokens = [token for token in tokens if len(f"{token}.".splitlines()) == 1]
        lines = [yaml.safe_dump({token: i}, **options) for i, token in enumerate(tokens)]
    path.write_bytes("".join(lines).encode())
    assert read_tokens(path) == tokens


# ---- elsewhere ----


def test_vocabularies_that_lie_elsewhere(tmp_path, spm):
    folder, *_ = opus(tmp_path / "model", spm, None)
    plain = Translator(folder, copy=False)
    want = [one.tokens for one in plain.translate(TEXTS, **OPTIONS)]
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for name in ("source.spm", "target.spm"):
        (folder / name).rename(elsewhere / name)
    pair = (elsewhere / "source.spm", str(elsewhere / "target.spm"))
    for named in (elsewhere, pair, [*pair]):
        named_one = Translator(folder, vocabulary=named, copy=False)
        found = named_one.translate(TEXTS, **OPTIONS)
        assert [one.tokens for one in found] == want
    one = Translator(folder, vocabulary=pair[0]).vocabulary
    assert one.source is one.target


@pytest.mark.parametrize("named", [3, ("a.spm",), ("a.spm", "b.spm", "c.spm"), ("a.spm", None)])
def test_what_names_no_vocabulary(tmp_path, spm, named):
    opus(tmp_path, spm, None)
    with pytest.raises(TypeError, match="vocabulary must be a path or a pair of paths"):
        Translator(tmp_path, vocabulary=named)


def test_a_saved_model_keeps_its_vocabulary(tmp_path, spm):
    folder, *_ = opus(tmp_path / "a", spm, None)
    own = tmp_path / "own"
    own.mkdir()
    save(load(folder), own / "model.safetensors")
    for name in ("source.spm", "target.spm", "vocab.json"):
        (own / name).write_bytes((folder / name).read_bytes())
    want, found = (Translator(one, copy=False).translate(TEXTS, **OPTIONS) for one in (folder, own))
    assert [one.tokens for one in found] == [one.tokens for one in want]
    (own / "vocab.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"no list of the tokens that source\.spm cuts"):
        Translator(own)


# ---- what they share ----


def test_pickles_as_its_paths_and_serves_threads(tmp_path, spm, tokenizer):
    folder, *_ = opus(tmp_path, spm, None)
    vocabulary = find_vocabulary(folder, load(folder))
    texts = [f"{text} {i}" for i in range(40) for text in ENGLISH]
    want = [vocabulary.encode(text) for text in texts]
    data = pickle.dumps(vocabulary)
    assert len(data) < 1500  # of three files the paths, sizes, times and digests
    for again in (pickle.loads(data), copy.deepcopy(vocabulary)):
        with ThreadPoolExecutor(4) as pool:
            assert list(pool.map(again.encode, texts)) == want
        assert again.decode(want[0]) == vocabulary.decode(want[0])
        assert (again.size, again.eos, again.unk) == (vocabulary.size, 0, 1)


def test_marians_ids_are_sentencepieces_own(spm):
    """Those of the published model, of any text."""
    path = next(find_translation_model("pt").glob("*.spm"))
    vocabulary, own = Vocabulary(path), processor(path.read_bytes())
    for text in ("", " ", "Hello,  world!", "日本 {x} 😀", "</s> <unk>", "a\tb\u2581c", "ﬁ½"):
        ids = own.encode(text)
        assert vocabulary.encode(text) == ids
        assert vocabulary.decode([0, *ids, 1]) == own.decode([0, *ids, 1])
        assert vocabulary.tokens(ids) == own.id_to_piece(ids)


@pytest.mark.parametrize("kind", ["sentencepiece", "tokenizer"])
def test_a_text_with_the_name_of_the_end_does_not_end(tmp_path, spm, tokenizer, kind):
    if kind == "sentencepiece":
        folder, *_ = opus(tmp_path, spm, None)
    else:
        ids = tokenizer.get_vocab()
        folder = write_model(tmp_path, sorted(ids, key=ids.get), decoder_start_token="</s>")
        tokenizer.save(str(tmp_path / "tokenizer.json"))
    vocabulary = find_vocabulary(folder, load(folder))
    assert vocabulary.source.eos not in vocabulary.encode("the </s> cat</s>")
    assert vocabulary.unk in vocabulary.encode("the </s> cat</s>")


# ---- what is wrong ----


def test_what_is_not_there_is_named(tmp_path, spm):
    folder, *_ = opus(tmp_path, spm, None)
    (folder / "source.spm").unlink()
    (folder / "target.spm").unlink()
    message = r"looked for \*\.spm, \*\.model, tokenizer\.json, \.\./.*; found config\.json, model"
    with pytest.raises(FileNotFoundError, match=message):
        Translator(folder)
    with pytest.raises(FileNotFoundError, match=r"x\.spm: there is no such vocabulary"):
        Translator(folder, vocabulary=folder / "x.spm")
    for name in ("a.spm", "b.spm"):
        (folder / name).write_bytes(spm["en"])
    with pytest.raises(ValueError, match=r"several vocabularies, a\.spm, b\.spm: name the one"):
        Translator(folder)


@pytest.mark.parametrize(
    ("list_of_source", "message"),
    [
        (lambda tokens: tokens[:-1], "not the vocabulary of the model's source: .* tokens"),
        (lambda tokens: [*tokens, "x"], "not the vocabulary of the model's source: .* tokens"),
        (lambda tokens: [*tokens[:-1], "<pad>", "<pad>"], None),
        (lambda tokens: ["<UNK>", *tokens[1:]], "unknown None"),
        (lambda tokens: [*tokens[:2], "</S>", *tokens[3:]], "end None"),
    ],
)
def test_a_list_that_is_not_the_models(tmp_path, spm, list_of_source, message):
    tokens = SPECIAL + pieces_of(spm["both"])
    write_model(tmp_path, tokens, tokens)
    (tmp_path / "sentencepiece.model").write_bytes(spm["both"])
    path = tmp_path / "source_vocabulary.json"
    path.write_text(json.dumps(list_of_source(tokens)))
    if message is None:
        Translator(tmp_path)
        return
    with pytest.raises(ValueError, match=rf"source_vocabulary\.json: .*{message}"):
        Translator(tmp_path)


def test_a_sentencepiece_model_that_is_not_marians(tmp_path, spm):
    write_marian(tmp_path, processor(spm["marian"]).vocab_size())
    for other in ("marian_pt", "both"):
        (tmp_path / "vocab.spm").write_bytes(spm[other])
        with pytest.raises(ValueError, match=r"vocab\.spm: not the vocabulary of the model's"):
            Translator(tmp_path)


def test_a_model_of_speech_is_refused(tmp_path):
    random_whisper.write(tmp_path)
    with pytest.raises(ValueError, match="is a model of speech: Transcriber takes it"):
        Translator(tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("vocab.yml", "a b\n", "expected a token and its id in line 1; got 'a b'"),
        ("vocab.yml", "a: 0\nb: 200000000\n", "expected the ids 0 to 1"),
        ("vocab.yml", "b: 20000000000\n", "expected a token and its id in line 1"),
        ("vocab.yml", "a: 0\nb: 0\n", r"expected the ids 0 to 1"),
        ("vocab.yml", b"\xff: 0", "not UTF-8"),
        ("vocab.json", '{"a": 0, "b": 2000000000}', "expected the ids 0 to 1"),
        ("vocab.json", '{"a": "0"}', "expected the ids 0 to 0"),
        ("vocab.json", '{"a": true}', "expected the ids 0 to 0"),
        ("vocab.json", "[" * 200_000, "not a vocabulary"),
        ("vocab.json", "{", "not a vocabulary"),
        ("vocab.json", '["a", 3]', "expected a list of strings"),
    ],
)
def test_lists_of_tokens_that_make_no_sense(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ValueError, match=rf"{name}: .*{message}"):
        read_tokens(path)


def test_bad_settings_are_named(tmp_path, spm):
    folder, *_ = start_and_end(tmp_path, spm, None)
    model = load(folder)
    for config, message in (
        ({"unk_token": []}, r"config\.json: says unk_token: \[\], expected a name"),
        ({"add_source_bos": True, "bos_token": "<B>"}, "lacks '<B>', which sources begin or end"),
    ):
        (folder / "config.json").write_text(json.dumps(config))
        with pytest.raises(ValueError, match=message):
            find_vocabulary(folder, model)


def hostile(tokenizer):
    """Descriptions that make the library panic or fail, when they are read or later."""
    good = json.loads(tokenizer.to_str())

    def changed(**parts):
        return json.dumps({**good, **parts})

    template = [{"SpecialToken": {"id": "</s>", "type_id": 0}}]
    return {
        "merges": changed(model={"type": "BPE", "vocab": {"a": 0, "b": 1}, "merges": [["a", "b"]]}),
        "normalizer": changed(normalizer={"type": "Precompiled", "precompiled_charsmap": "AAAA"}),
        "template": changed(
            post_processor={
                "type": "TemplateProcessing", "single": template, "pair": [], "special_tokens": {}
            }
        ),
        "unknown": changed(
            model={"type": "WordLevel", "vocab": {"the": 0}, "unk_token": "<unk>"},
            added_tokens=[], post_processor=None,
        ),
        "nested": "[" * 1_000_000,
        "nested_objects": '{"a":' * 1_000_000,
        "empty": "",
    }  # fmt: skip


@pytest.mark.parametrize(
    "kind",
    ["merges", "normalizer", "template", "unknown", "nested", "nested_objects", "empty"],
)
def test_hostile_tokenizers_are_a_value_error(tmp_path, tokenizer, kind):
    path = tmp_path / "tokenizer.json"
    path.write_text(hostile(tokenizer)[kind])
    with pytest.raises(ValueError, match=r"tokenizer\.json: (not|a damaged) "):
        Vocabulary(path).encode("the cat")


@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    at=st.floats(0, 1),
    length=st.integers(0, 8),
    new=st.sampled_from(["", "0", "-1", "2000000000", "null", "[]", "{}", '""', "x", '"</s>"']),
)
def test_a_damaged_tokenizer_works_or_is_named(tmp_path, tokenizer, at, length, new):
    text = tokenizer.to_str()
    start = int(at * len(text))
    path = tmp_path / "tokenizer.json"
    path.write_text(text[:start] + new + text[start + length :], encoding="utf-8")
    try:
        vocabulary = Vocabulary(path)
        vocabulary.decode(vocabulary.encode("the cat"))
    except ValueError as error:
        assert str(error).startswith(str(path))


def test_ids_of_any_height_cost_nothing(tmp_path, tokenizer):
    """The ids of tokenizer.json are not the model's where there is a list of tokens."""
    ids = tokenizer.get_vocab()
    write_model(tmp_path, sorted(ids, key=ids.get), decoder_start_token="</s>")
    path = tmp_path / "tokenizer.json"
    tokenizer.save(str(path))
    want = Translator(tmp_path, copy=False).translate(TEXTS, **OPTIONS)
    text = path.read_text(encoding="utf-8")
    token = next(piece for piece in want[0].source_tokens if len(piece) > 2)
    old = f'"{token}": {ids[token]}'
    assert old in text
    path.write_text(text.replace(old, f'"{token}": 2000000000'), encoding="utf-8")
    found = Translator(tmp_path, copy=False).translate(TEXTS, **OPTIONS)
    assert [one.tokens for one in found] == [one.tokens for one in want]
    assert Vocabulary(path).size == 0  # on its own it is no vocabulary


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    flips=st.lists(st.tuples(st.integers(0, 1 << 20), st.integers(0, 255)), max_size=8),
    cut=st.none() | st.integers(0, 1 << 20),
)
def test_a_damaged_sentencepiece_model_translates_or_is_named(tmp_path, spm, flips, cut):
    if not (tmp_path / "model.tiny.bin").exists():
        write_marian(tmp_path, processor(spm["marian"]).vocab_size())
    data = bytearray(spm["marian"])
    for at, value in flips:
        # The pieces are at its start and the way to normalise text at its end.
        data[at % 4000 if at % 2 else -1 - at % 1000] = value
    path = tmp_path / "vocab.spm"
    path.write_bytes(data if cut is None else data[: cut % len(data)])
    try:
        found = Translator(tmp_path).translate(TEXTS, max_new_tokens=4)
        assert len(found) == len(TEXTS)
    except ValueError as error:
        assert str(error).startswith(str(path))


@pytest.mark.parametrize(
    "error", [RuntimeError("bad"), UnicodeDecodeError("utf-8", b"x", 0, 1, "")]
)
@pytest.mark.parametrize("method", ["encode", "decode_pieces"])
def test_damage_that_shows_while_translating(tmp_path, spm, monkeypatch, error, method):
    write_marian(tmp_path, processor(spm["marian"]).vocab_size())
    (tmp_path / "vocab.spm").write_bytes(spm["marian"])
    translator = Translator(tmp_path)

    def fail(*given, **options):
        raise error

    monkeypatch.setattr(sentencepiece.SentencePieceProcessor, method, fail)
    with pytest.raises(ValueError, match=r"vocab\.spm: a damaged SentencePiece model: "):
        translator.translate(TEXTS)
