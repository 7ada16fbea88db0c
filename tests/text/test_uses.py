"""From text to text with folders of Hugging Face's: what transformers makes of the same folder."""

from __future__ import annotations

import io
import json
import pickle

import pytest
import sentencepiece as spm
from random_huggingface import random_model, transformers

from seq2seq_fast import Summarizer, TextGenerator, Translator, load
from seq2seq_fast.cli import main

pytestmark = pytest.mark.transformers

TEXT = (
    "The quick brown fox jumps over the lazy dog. A second sentence follows it here. And a third"
    " one ends what is said about the fox and the dog. Nobody knows what the dog said to the fox."
)
LANGUAGES = ["deu_Latn", "eng_Latn", "zho_Hans", "zho_Hant"]


def pieces(**ids):
    out = io.BytesIO()
    spm.SentencePieceTrainer.train(
        sentence_iterator=iter([TEXT, "the fox", "a dog", "what it said"] * 9), model_writer=out,
        vocab_size=60, hard_vocab_limit=False, minloglevel=2, **ids,
    )  # fmt: skip
    return out.getvalue()


def write(folder, family, generation, tokenizer, **changes):
    """A folder with a random model, its vocabulary and what it asks for."""
    transformers()
    model = random_model(family, **changes)
    model.save_pretrained(folder)
    (folder / "generation_config.json").write_text(json.dumps(generation))
    for name, content in tokenizer.items():
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        (folder / name).write_bytes(data)
    return folder


@pytest.fixture(scope="module")
def t5(tmp_path_factory):
    said = {"num_beams": 3, "max_length": 20, "decoder_start_token_id": 0, "eos_token_id": 1,
            "pad_token_id": 0, "no_repeat_ngram_size": 2}  # fmt: skip
    model = pieces(pad_id=0, eos_id=1, unk_id=2, bos_id=-1)
    size = len(spm.SentencePieceProcessor(model_proto=model)) + 100
    config = {"tokenizer_class": "T5Tokenizer", "model_max_length": 24}
    return write(
        tmp_path_factory.mktemp("t5"), "t5", said,
        {"spiece.model": model, "tokenizer_config.json": config}, vocab_size=size + 4,
        num_decoder_layers=2,  # transformers fails to generate with others than the encoder has
    )  # fmt: skip


def transformers_says(folder, text, **options):
    import torch

    module = transformers()
    tokenizer = module.AutoTokenizer.from_pretrained(folder)
    model = module.AutoModelForSeq2SeqLM.from_pretrained(folder).eval()
    with torch.no_grad():
        found = model.generate(**tokenizer(text, return_tensors="pt"), **options)
    return tokenizer.decode(found[0], skip_special_tokens=True)


def test_generate_by_the_folders_own_settings(t5, capsys):
    generator = TextGenerator(t5)
    texts = ["what did the fox say", "the <extra_id_0> jumps over the <extra_id_1>"]
    wanted = [transformers_says(t5, text) for text in texts]
    found = generator.generate(texts)
    assert [one.text.strip() for one in found] == [text.strip() for text in wanted]
    assert found[0].attention.shape == (len(found[0].tokens), len(found[0].source_tokens))
    greedy = generator.generate(texts[:1], num_beams=1)[0]
    assert greedy.text.strip() == transformers_says(t5, texts[0], num_beams=1).strip()
    assert main(["generate", "--model", str(t5), *texts]) == 0
    assert capsys.readouterr().out.splitlines() == [one.text for one in found]
    again = pickle.loads(pickle.dumps(generator))
    assert again.generate(texts)[0].text == found[0].text
    assert pickle.loads(pickle.dumps(found[0])).text == found[0].text


def test_summaries_of_any_length(t5, tmp_path, capsys):
    """A text of more than 24 tokens, as tokenizer_config.json says, is cut at sentences."""
    summarizer = Summarizer(t5)
    short, long = summarizer.summarize(["The fox jumps.", TEXT])
    assert (short.cut_into, short.text.strip()) == (
        1, transformers_says(t5, "The fox jumps.").strip(),
    )  # fmt: skip
    assert long.cut_into > 2
    sources = [summarizer.vocabulary.source.decode(ids) for ids, _ in long.parts]
    if len(sources) == long.cut_into:  # not summarized again
        assert " ".join(sources) == TEXT
    with pytest.raises(ValueError, match=r"has \d+ tokens, of which the model reads 24 at once"):
        summarizer.summarize([TEXT], overflow="error")
    with pytest.raises(ValueError, match="overflow must be one of split, error; got 'cut'"):
        summarizer.summarize([TEXT], overflow="cut")
    assert [one.text for one in summarizer.summarize(["", TEXT])] == ["", long.text]
    report = tmp_path / "report.txt"
    report.write_text(TEXT)
    assert main(["summarize", "--model", str(t5), "--file", str(report)]) == 0
    out, err = capsys.readouterr()
    assert out == long.text + "\n"
    assert f"report.txt: cut into {long.cut_into} parts" in err


def test_a_task_in_the_words_of_the_folder(t5, tmp_path):
    """T5's config.json has a text for each task, and options."""
    for file in t5.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    config = json.loads((tmp_path / "config.json").read_text())
    config["task_specific_params"] = {
        "summarization": {"prefix": "what: ", "max_length": 6, "num_beams": 2},
        "translation_en_to_de": {"prefix": "the dog: ", "max_length": 8, "num_beams": 1},
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    wanted = transformers_says(t5, "what: the fox", max_length=6, num_beams=2)
    assert Summarizer(tmp_path).summarize(["the fox"])[0].text.strip() == wanted.strip()
    translator = Translator(tmp_path, copy=False)
    wanted = transformers_says(t5, "the dog: the fox", max_length=8, num_beams=1)
    assert translator.translate(["the fox"], "en", "de")[0].text.strip() == wanted.strip()
    with pytest.raises(ValueError, match="one of those that the model translates to: en"):
        translator.translate(["the fox"], "en", "fr")


def test_a_model_of_several_languages(tmp_path, capsys):
    model = pieces(unk_id=0, bos_id=1, eos_id=2, pad_id=-1)
    size = len(spm.SentencePieceProcessor(model_proto=model)) + 1 + len(LANGUAGES) + 1
    said = {"max_length": 12, "decoder_start_token_id": 2, "eos_token_id": 2, "pad_token_id": 1}
    told = {"additional_special_tokens": LANGUAGES, "tokenizer_class": "NllbTokenizer"}
    folder = write(
        tmp_path, "m2m_100", said,
        {"sentencepiece.bpe.model": model, "tokenizer_config.json": told,
         "special_tokens_map.json": {"additional_special_tokens": LANGUAGES}},
        vocab_size=size,
    )  # fmt: skip
    translator = Translator(folder, copy=False)
    (found,) = translator.translate(["the fox jumps"], "eng_Latn", "de")
    assert found.source_tokens[0] == "eng_Latn" and found.source_tokens[-1] == "</s>"
    assert found.tokens[0] == "deu_Latn" and "deu_Latn" not in found.text
    # The same by hand.
    vocabulary = translator.vocabulary
    ids = [vocabulary.source.id("eng_Latn"), *vocabulary.encode("the fox jumps"), 2]
    (by_hand,) = load(folder).generate([ids], forced_bos_token_id=vocabulary.source.id("deu_Latn"))
    assert found.text == vocabulary.decode(by_hand.tokens)
    command = ["translate", "--model", str(folder), "--no-copy", "the fox jumps"]
    assert main([*command, "--from", "eng_Latn", "--to", "deu_Latn"]) == 0
    assert capsys.readouterr().out == found.text + "\n"
    for more, message in (
        (["--from", "en"], "target_language must be one of the model's 4 languages"),
        (["--from", "en", "--to", "zh"], "'zh' is any of zho_Hans, zho_Hant: name one"),
        (["--from", "en", "--to", "qq"], "'qq' is none of the model's 4 languages"),
    ):
        assert main([*command, *more]) == 2
        assert message in capsys.readouterr().err


def test_a_text_beyond_the_positions_is_refused_with_both_numbers(tmp_path):
    import tokenizers

    trained = tokenizers.ByteLevelBPETokenizer()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    trained.train_from_iterator([TEXT], 300, special_tokens=special, show_progress=False)
    trained.save_model(str(tmp_path))
    write(tmp_path, "bart", {"max_length": 9}, {}, vocab_size=trained.get_vocab_size())
    generator = TextGenerator(tmp_path)
    assert generator.generate(["the fox <mask>"])[0].finished in (True, False)
    with pytest.raises(ValueError, match=r"a text has \d{3} tokens, of which the model reads 69"):
        generator.generate([TEXT * 2])
