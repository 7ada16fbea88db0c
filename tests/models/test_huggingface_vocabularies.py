"""Vocabularies of Hugging Face's folders: the ids that transformers' own tokenizers give."""

from __future__ import annotations

import io
import json
from types import SimpleNamespace

import pytest
import sentencepiece as spm

from seq2seq_fast.models.vocabularies import huggingface as folders
from seq2seq_fast.models.vocabularies.directions import Languages, iso
from seq2seq_fast.nn.sources import Embedding

LINES = [
    "The quick brown fox jumps over the lazy dog.", "Die Straße ist naß; schön, nicht?",
    "Быстрая коричневая лиса прыгает.", "Η γρήγορη αλεπού πηδά.", "الثعلب البني السريع يقفز.",
    "השועל החום המהיר קופץ.", "तेज़ भूरी लोमड़ी कूदती है।", "দ্রুত বাদামী শিয়াল লাফ দেয়।",
    "விரைவான பழுப்பு நரி தாவுகிறது.", "వేగవంతమైన గోధుమ నక్క దూకుతుంది.", "สุนัขจิ้งจอกสีน้ำตาลกระโดด",
    "ໝາຈອກສີນ້ຳຕານໂດດ", "កញ្ជ្រោងត្នោតលោត។", "မြန်ဆန်သောအညိုရောင်မြေခွေး", "სწრაფი ყავისფერი მელა ხტება.",
    "Արագ շագանակագույն աղվեսը ցատկում է։", "ፈጣኑ ቡናማ ቀበሮ ይዘላል።", "빠른 갈색 여우가 뛰어넘는다.",
    "素早い茶色の狐が飛び越える。", "敏捷的棕色狐狸跳过懒狗。", "ᏩᎯᏯ ᎤᏃᏕᎾ ᏗᎦᎳᏫ.",
]  # fmt: skip
HARD = [
    "", " ", "  two  spaces  ", "tab\there", "\u00a0no-break", "e\u0301 combining",
    "emoji 😀👩‍👩‍👧 here",
    "ﬁ ligature ① ½", "123,456.78 %", "</s> is not the end", "don't  stop!", "ALL CAPS", "x" * 60,
]  # fmt: skip
WEIGHTED = [line for i, line in enumerate(LINES) for _ in range(5 + i * i % 23)]
"""Lines that differ in how often they come: no two ways to cut a word are as likely."""
LANGUAGES = ["deu_Latn", "eng_Latn", "zho_Hans", "zho_Hant"]


@pytest.fixture(scope="module")
def piece_model():
    """SentencePiece models as their families train them, by the ids of their first pieces."""
    made = {}

    def of(**ids):
        key = tuple(sorted(ids.items()))
        if key not in made:
            out = io.BytesIO()
            spm.SentencePieceTrainer.train(
                sentence_iterator=iter(WEIGHTED), model_writer=out, vocab_size=420,
                hard_vocab_limit=False,
                character_coverage=1.0, minloglevel=2, **ids,
            )  # fmt: skip
            made[key] = out.getvalue()
        return made[key]

    return of


T5_IDS = {"pad_id": 0, "eos_id": 1, "unk_id": 2, "bos_id": -1}
FAIRSEQ_IDS = {"unk_id": 0, "bos_id": 1, "eos_id": 2, "pad_id": -1}


def model_of(size, eos, bos=0):
    """What of a model a vocabulary depends on."""
    embedding = object.__new__(Embedding)
    object.__setattr__(embedding, "matrix", SimpleNamespace(outputs=size))
    return SimpleNamespace(
        encoder=SimpleNamespace(embedding=embedding), vocabulary_size=size, eos=eos, bos=bos,
        unk=None,
    )  # fmt: skip


def written(folder, config, **files):
    (folder / "config.json").write_text(json.dumps(config))
    for name, content in files.items():
        path = folder / name.replace("__", ".")
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        path.write_bytes(data)
    return folder


def peer(name):
    """A tokenizer's class of transformers."""
    import transformers

    transformers.logging.set_verbosity_error()
    return getattr(transformers, name)


def assert_same_ids(ours, theirs, texts=(*LINES, *HARD)):
    """Without special tokens, and with what a source begins and ends with. A text that holds the
    end's name is not ended by it here."""
    for text in texts:
        wanted = theirs(text, add_special_tokens=False)["input_ids"]
        if "</s>" not in text:
            assert ours.encode(text) == wanted, text
            if ours.source.unk not in wanted:
                decoded = theirs.decode(wanted, skip_special_tokens=True)
                assert ours.decode(wanted).strip() == decoded.strip(), text
    source = [*ours.start, *ours.encode(LINES[0]), *ours.end]
    assert source == theirs(LINES[0])["input_ids"]


@pytest.mark.transformers
def test_t5(tmp_path, piece_model):
    model = piece_model(**T5_IDS)
    folder = written(tmp_path, {"model_type": "t5"}, spiece__model=model)
    ours = folders.find(folder, model_of(544, 1))
    theirs = peer("T5Tokenizer").from_pretrained(folder)
    assert_same_ids(ours, theirs)
    assert ours.source.id("<extra_id_0>") == theirs.convert_tokens_to_ids("<extra_id_0>")
    assert ours.source.id("<extra_id_99>") == theirs.convert_tokens_to_ids("<extra_id_99>")
    hole = "The <extra_id_0> fox jumps <extra_id_1> dog."
    assert ours.encode(hole, sentinels=True) == theirs(hole, add_special_tokens=False)["input_ids"]
    assert ours.source.id("<extra_id_0>") not in ours.encode(hole)
    assert ours.decode([543, 542]) == ""  # ids that no piece has


@pytest.mark.transformers
def test_tokenizer_json_is_preferred_and_means_the_same(tmp_path, piece_model):
    folder = written(tmp_path, {"model_type": "t5"}, spiece__model=piece_model(**T5_IDS))
    theirs = peer("T5Tokenizer").from_pretrained(folder)
    theirs.save_pretrained(tmp_path / "new")
    written(tmp_path / "new", {"model_type": "t5"})
    assert (tmp_path / "new" / "tokenizer.json").is_file()
    assert_same_ids(folders.find(tmp_path / "new", model_of(544, 1)), theirs)


@pytest.mark.transformers
def test_pegasus(tmp_path, piece_model):
    folder = written(
        tmp_path, {"model_type": "pegasus"}, spiece__model=piece_model(**T5_IDS),
        tokenizer_config__json={"tokenizer_class": "PegasusTokenizer"},
    )  # fmt: skip
    ours = folders.find(folder, model_of(530, 1))
    assert_same_ids(ours, peer("PegasusTokenizer").from_pretrained(folder), [*LINES, *HARD[5:9]])


@pytest.mark.transformers
def test_nllb(tmp_path, piece_model):
    told = {"additional_special_tokens": LANGUAGES, "tokenizer_class": "NllbTokenizer"}
    folder = written(
        tmp_path, {"model_type": "m2m_100"}, tokenizer_config__json=told,
        special_tokens_map__json={"additional_special_tokens": LANGUAGES},
        sentencepiece__bpe__model=piece_model(**FAIRSEQ_IDS),
    )  # fmt: skip
    ours = folders.find(folder, model_of(440, 2))
    theirs = peer("NllbTokenizer").from_pretrained(
        folder, src_lang="eng_Latn", tgt_lang="deu_Latn", additional_special_tokens=LANGUAGES
    )
    for text in LINES:
        wanted = theirs(text, add_special_tokens=False)["input_ids"]
        assert ours.encode(text) == wanted
    direction = ours.between("en", "de")
    source = [*direction.start, *ours.encode(LINES[0]), *direction.end]
    assert source[1:] == theirs(LINES[0])["input_ids"][1:]
    # Languages come right after the pieces, as in the published files, and the mask after them;
    # transformers numbers them anew where there is no tokenizer.json.
    pieces = len(spm.SentencePieceProcessor(model_proto=piece_model(**FAIRSEQ_IDS)))
    assert source[0] == pieces + 1 + LANGUAGES.index("eng_Latn")
    assert direction.forced_bos_token_id == pieces + 1 + LANGUAGES.index("deu_Latn")


@pytest.mark.transformers
def test_bart(tmp_path):
    import tokenizers

    trained = tokenizers.ByteLevelBPETokenizer()
    trained.train_from_iterator(
        LINES, 500, special_tokens=["<s>", "<pad>", "</s>", "<unk>", "<mask>"],
        show_progress=False,
    )  # fmt: skip
    trained.save_model(str(tmp_path))
    folder = written(tmp_path, {"model_type": "bart"})
    ours = folders.find(folder, model_of(trained.get_vocab_size(), 2))
    theirs = peer("BartTokenizer").from_pretrained(folder)
    assert_same_ids(ours, theirs)
    # As published files of BART have it, the mask takes the space before it.
    before, after = (theirs(one, add_special_tokens=False)["input_ids"] for one in ("The", " fox."))
    hole = "The <mask> fox."
    assert ours.encode(hole, sentinels=True) == [*before, theirs.mask_token_id, *after]
    assert theirs.mask_token_id not in ours.encode(hole)


def test_holes_that_added_tokens_json_has(tmp_path):
    """As of CodeT5."""
    import tokenizers

    trained = tokenizers.ByteLevelBPETokenizer()
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    trained.train_from_iterator(LINES, 400, special_tokens=special, show_progress=False)
    trained.save_model(str(tmp_path))
    size = trained.get_vocab_size()
    holes = {f"<extra_id_{i}>": size + 2 - i for i in range(3)}
    folder = written(
        tmp_path, {"model_type": "t5"}, added_tokens__json=holes,
        tokenizer_config__json={"tokenizer_class": "RobertaTokenizer"},
    )  # fmt: skip
    ours = folders.find(folder, model_of(size + 3, 2))
    ids = ours.encode("def add(a, b): <extra_id_0>", sentinels=True)
    assert ids[-1] == size + 2 and size + 2 not in ours.encode("<extra_id_0>")
    assert (ours.start, ours.end) == ([0], [2])
    (tmp_path / "added_tokens.json").write_text(json.dumps({"<extra_id_0>": 7}))
    with pytest.raises(ValueError, match=r"added_tokens\.json does not go on"):
        folders.find(folder, model_of(size + 3, 2))


@pytest.mark.parametrize("template", ["$A </s> eng_Latn", "eng_Latn $A </s>"])
def test_a_language_in_tokenizer_json_is_that_of_its_last_use(tmp_path, template):
    """Published files of NLLB have one or the other; what is asked for takes its place."""
    import tokenizers

    words = tokenizers.models.WordLevel(
        {name: i for i, name in enumerate(["<s>", "<pad>", "</s>", "<unk>", "fox", *LANGUAGES])},
        "<unk>",
    )
    made = tokenizers.Tokenizer(words)
    made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    made.add_special_tokens(["<s>", "<pad>", "</s>", "<unk>", *LANGUAGES])
    made.post_processor = tokenizers.processors.TemplateProcessing(
        single=template, special_tokens=[("</s>", 2), ("eng_Latn", 6)]
    )
    made.save(str(tmp_path / "tokenizer.json"))
    ours = folders.find(written(tmp_path, {"model_type": "m2m_100"}), model_of(9, 2))
    assert (ours.start, ours.end) == ([], [2])
    assert ours.between("zho_Hans", "de") == ([7], [2], 5, None)


@pytest.mark.transformers
def test_byt5(tmp_path):
    folder = written(
        tmp_path, {"model_type": "t5"}, tokenizer_config__json={"tokenizer_class": "ByT5Tokenizer"}
    )
    ours = folders.find(folder, model_of(384, 1))
    theirs = peer("ByT5Tokenizer")()
    assert_same_ids(ours, theirs)
    assert ours.source.id("<extra_id_0>") == theirs.convert_tokens_to_ids("<extra_id_0>")


@pytest.mark.transformers
def test_marian(tmp_path, piece_model):
    model = piece_model(pad_id=-1, eos_id=0, unk_id=1, bos_id=-1)
    pieces = spm.SentencePieceProcessor(model_proto=model)
    names = [*(pieces.id_to_piece(i) for i in range(len(pieces))), ">>deu<<", ">>por<<", "<pad>"]
    ids = {name: i for i, name in enumerate(names)}
    folder = written(
        tmp_path, {"model_type": "marian"}, source__spm=model, target__spm=model,
        vocab__json=ids, tokenizer_config__json={"source_lang": "en", "target_lang": "de"},
    )  # fmt: skip
    ours = folders.find(folder, model_of(len(names), 0, len(names) - 1))
    theirs = peer("MarianTokenizer").from_pretrained(folder)
    for text in LINES:
        assert [*ours.encode(text), *ours.end] == theirs(text)["input_ids"]
        assert ours.decode(ours.encode(text)) == theirs.decode(
            theirs(text)["input_ids"], skip_special_tokens=True
        )
    direction = ours.between(None, "de")
    source = [*direction.start, *ours.encode(LINES[1]), *direction.end]
    assert source == theirs(">>deu<< " + LINES[1])["input_ids"]
    assert direction.forced_bos_token_id is None


# ---- languages ----

NLLB = Languages.of(["<s>", *LANGUAGES, "por_Latn"])


def test_languages_by_their_own_codes_and_iso_639():
    assert NLLB.codes == [*LANGUAGES, "por_Latn"]
    for given in ("eng_Latn", "en", "eng", "EN", "en-US", "en_GB"):
        assert NLLB.find(given, "source_language") == "eng_Latn"
    assert NLLB.between("en", "zho_Hans", [7], [2]) == ([2], [2], 3, None)
    assert [iso(one) for one in ("eng_Latn", "__de__", ">>deu<<", "<2pt>", "pt_XX", "ceb")] == [
        "en", "de", "de", "pt", "pt", "ceb",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("source", "target", "message"),
    [
        ("en", None, "target_language must be one of the model's 5 languages, such as deu_Latn"),
        (None, "de", "source_language must be one of the model's 5 languages, such as deu_Latn"),
        ("en", "zh", "target_language 'zh' is any of zho_Hans, zho_Hant: name one"),
        ("xx", "de", "source_language 'xx' is none of the model's 5 languages, such as"),
    ],
)
def test_a_language_that_the_model_does_not_have(source, target, message):
    with pytest.raises(ValueError, match=message):
        NLLB.between(source, target, [], [2])


def test_mbart_begins_the_decoder_with_the_language():
    found = Languages("mbart", {"en_XX": 8, "ro_RO": 9}, source_last=True, decoder_starts=True)
    assert found.between("en", "ro", [], [2]) == ([], [2, 8], None, 9)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "there is no vocabulary; looked for tokenizer.json"),
        ({"tokenizer__json": b"{}"}, r"tokenizer\.json: not a tokenizer"),
        ({"spiece__model": b"\0\1"}, r"spiece\.model: not a SentencePiece model"),
        ({"vocab__json": b"[]", "merges__txt": b""}, r"vocab\.json: not a tokenizer"),
        ({"tokenizer_config__json": b"[]"}, r"tokenizer_config\.json: expected an object"),
    ],
)
def test_files_that_are_none(tmp_path, files, message):
    folder = written(tmp_path, {"model_type": "t5"}, **files)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        folders.find(folder, model_of(544, 1))
