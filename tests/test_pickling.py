"""What is public pickles and copies, used or not: models as what they were loaded from, in a few
hundred bytes; results without their models; what was made by hand as its arrays."""

from __future__ import annotations

import copy
import dataclasses
import gc
import json
import multiprocessing
import os
import pickle
import shutil
import weakref
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import numpy as np
import pytest
import random_whisper
import recordings
import tiny_marian
from conftest import assert_same_bits
from hypothesis import given, settings
from hypothesis import strategies as st
from ml_dtypes import bfloat16

from seq2seq_fast import KeyValueCache, Transcriber, Translator, load, pickling, save, use
from seq2seq_fast.decoding.options import Options
from seq2seq_fast.demo import find_speech_model, find_translation_model
from seq2seq_fast.models.vocabularies import Vocabulary
from seq2seq_fast.speech.vocabulary import SpeechVocabulary

SOURCES = [[5, 3, 9, 0], [7, 0]]
TEXTS = ["How are you today?", "", "I love this city.\n\nYes. No."]
LITTLE = 3000  # bytes: paths take some of them


def by_buffers(thing):
    """As programs do that send large arrays beside the rest."""
    buffers = []
    data = pickle.dumps(thing, protocol=5, buffer_callback=buffers.append)
    return pickle.loads(data, buffers=[bytearray(buffer.raw()) for buffer in buffers])


WAYS = {
    "pickle": lambda thing: pickle.loads(pickle.dumps(thing)),
    "pickle of Python's": lambda thing: pickle._loads(pickle._dumps(thing)),
    "buffers": by_buffers,
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
}


@pytest.fixture(params=WAYS)
def again(request):
    """A thing's copy, by each of the ways."""
    return WAYS[request.param]


@pytest.fixture
def elsewhere(monkeypatch):
    """Nothing is there yet, as in another process."""
    monkeypatch.setattr(pickling, "_alive", weakref.WeakValueDictionary())


def elsewhere_again(thing):
    """What another process makes of a thing."""
    data = pickle.dumps(thing)
    pickling._alive.clear()
    return pickle.loads(data)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "model.tiny.bin").write_bytes(tiny_marian.model_file())
    return tmp_path


@pytest.fixture(scope="module")
def translator():
    return Translator(find_translation_model("pt"), shortlist=True)


@pytest.fixture(scope="module")
def transcriber():
    return Transcriber(find_speech_model())


def used(model):
    """The model, with all that it keeps from one search for the next."""
    for options in ({}, {"num_beams": 3}):
        model.generate(SOURCES, **options)
        model.generate(SOURCES[:1], **options)
    model.generate([[2] * 400 + [0]], max_new_tokens=2)  # by row block
    return model


# ---- models ----


@pytest.mark.parametrize("weights", [None, "float16"])
def test_a_model_pickles_as_what_it_was_loaded_from(folder, again, weights):
    model = load(folder, weights=weights)
    assert len(pickle.dumps(model)) < LITTLE
    assert again(model) is model
    assert again(used(model)) is model
    assert len(pickle.dumps(model)) < LITTLE
    read = elsewhere_again(model)
    assert read is not model
    assert read.generate(SOURCES, num_beams=3) == model.generate(SOURCES, num_beams=3)
    assert read.decoder.output.matrix.type == model.decoder.output.matrix.type


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_every_protocol(folder, protocol, elsewhere):
    model = load(folder)
    for one in (model, dataclasses.replace(model)):
        data = pickle.dumps((one, one.start(one.encode(SOURCES))), protocol)
        pickling._alive.clear()
        other, state = pickle.loads(data)
        assert other.generate(state) == model.generate(SOURCES)


def test_a_relative_path_holds_in_another_folder(folder, tmp_path_factory, monkeypatch, elsewhere):
    monkeypatch.chdir(folder)
    data = pickle.dumps(load("model.tiny.bin"))
    monkeypatch.chdir(tmp_path_factory.mktemp("other"))
    assert pickle.loads(data).generate(SOURCES)


def test_every_kind_of_folder(tmp_path, elsewhere):
    folders = [tmp_path / name for name in ("saved", "parts", "ctranslate2")]
    for path in folders:
        path.mkdir()
    (tmp_path / "m.bin").write_bytes(tiny_marian.model_file())
    save(load(tmp_path / "m.bin"), folders[0] / "model.safetensors")
    random_whisper.write_hugging_face(folders[1], parts=2)
    random_whisper.write(folders[2])
    for path in folders:
        model = load(path)
        read = elsewhere_again(model)
        assert read is not model
        assert read.nbytes == model.nbytes
        assert len(pickle.dumps(model)) < LITTLE
        for file in path.iterdir():  # one with another content, whichever it is
            if file.name != "tokenizer.json":
                whole = file.read_bytes()
                file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
                data = pickle.dumps(read)
                assert len(data) > LITTLE  # not by name any more
                file.write_bytes(whole)
                read = load(path)


def test_a_model_made_by_hand_pickles_its_arrays(folder, again):
    model = load(folder)
    made = dataclasses.replace(model, eos=3)
    for one in (made, used(made)):
        found = again(one)
        assert found is not one
        assert found.eos == 3
        assert found.nbytes == one.nbytes  # what is shared is shared still
        assert found.generate(SOURCES, num_beams=2) == one.generate(SOURCES, num_beams=2)
    assert len(pickle.dumps(made)) > made.nbytes
    deep = copy.deepcopy(made)
    assert not np.shares_memory(deep.decoder.output.bias, made.decoder.output.bias)


def test_a_file_that_was_copied_serves(folder, elsewhere):
    path = folder / "model.tiny.bin"
    model = load(folder)
    data, other = pickle.dumps(model), path.with_name("copy")
    shutil.copyfile(path, other)  # with a time of its own
    os.replace(other, path)
    pickling._alive.clear()
    read = pickle.loads(data)
    assert read.generate(SOURCES) == model.generate(SOURCES)
    assert pickle.loads(data) is read


def test_another_file_does_not(folder, elsewhere):
    path = folder / "model.tiny.bin"
    data = pickle.dumps(load(folder))
    kept = os.stat(path)
    path.write_bytes(tiny_marian.model_file(tiny_marian.random_tensors(seed=1)))  # of that size
    assert os.stat(path).st_size == kept.st_size
    for times in ((0, 0), (kept.st_atime_ns, kept.st_mtime_ns)):  # even with the same time
        os.utime(path, ns=times)
        with pytest.raises(ValueError, match=r"model\.tiny\.bin: not the file of \d+ bytes that"):
            pickle.loads(data)
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"model\.tiny\.bin"):
        pickle.loads(data)


def test_what_its_file_no_longer_holds_is_in_the_pickle(folder, elsewhere):
    path = folder / "model.tiny.bin"
    model = used(load(folder))
    want = model.generate(SOURCES)
    for change in (
        lambda: path.write_bytes(tiny_marian.model_file(tiny_marian.random_tensors(seed=1))),
        path.unlink,
    ):
        change()
        assert elsewhere_again(model).generate(SOURCES) == want


def test_a_model_that_nobody_holds_is_let_go(folder):
    path = weakref.ref(load(folder))
    gc.collect()
    assert path() is None


# ---- vocabularies ----


def write_text_vocabulary(folder):
    shutil.copy(next(find_translation_model("pt").glob("*.spm")), folder / "a.spm")
    return Vocabulary(folder / "a.spm")


def write_speech_vocabulary(folder):
    shutil.copy(find_speech_model() / "tokenizer.json", folder)
    return SpeechVocabulary(folder, 51864)  # tokens of tiny.en


def write_vocab_and_merges(folder):
    data = json.loads((find_speech_model() / "tokenizer.json").read_text(encoding="utf-8"))
    special = {token["content"]: token["id"] for token in data["added_tokens"]}
    (folder / "vocab.json").write_text(json.dumps(data["model"]["vocab"]))
    (folder / "added_tokens.json").write_text(json.dumps(special))
    (folder / "merges.txt").write_text("\n".join(data["model"]["merges"]), encoding="utf-8")
    return SpeechVocabulary(folder, 51864)


@pytest.mark.parametrize(
    "write", [write_text_vocabulary, write_speech_vocabulary, write_vocab_and_merges]
)
def test_a_vocabulary(tmp_path, elsewhere, again, write):
    vocabulary = write(tmp_path)
    want = vocabulary.encode(TEXTS[0])
    assert again(vocabulary) is vocabulary
    assert len(pickle.dumps(vocabulary)) < LITTLE
    read = elsewhere_again(vocabulary)
    assert read is not vocabulary
    assert read.encode(TEXTS[0]) == want
    data = pickle.dumps(vocabulary)
    for file in tmp_path.iterdir():  # another content, whichever it is of
        whole = file.read_bytes()
        file.write_bytes(whole[:-1] + b" ")
        pickling._alive.clear()
        with pytest.raises(ValueError, match=rf"{file.name}: not the file of \d+ bytes that was"):
            pickle.loads(data)
        assert elsewhere_again(vocabulary).encode(TEXTS[0]) == want  # not by name any more
        file.write_bytes(whole)


# ---- what is made of models ----


def fields(found):
    """What is known of a translation or transcription."""
    return {name: one for name, one in vars(found).items() if name not in ("model", "_origin")}


def test_a_translator(translator, again):
    want = [fields(found) for found in translator.translate(TEXTS)]
    found = again(translator)
    assert found is not translator
    assert found.model is translator.model
    assert [fields(one) for one in found.translate(TEXTS)] == want
    assert len(pickle.dumps(translator)) < LITTLE


def test_a_translator_elsewhere(translator, elsewhere):
    found = elsewhere_again(translator)
    assert found.model is not translator.model
    for one, want in zip(found.translate(TEXTS), translator.translate(TEXTS), strict=True):
        assert fields(one) == fields(want)
        assert_same_bits(one.attention, want.attention)


def test_a_translation(translator, again):
    for one in translator.translate(TEXTS):
        found = again(one)
        assert fields(found) == fields(one)
        assert found.model is translator.model
        assert_same_bits(found.attention, one.attention)
        assert_same_bits(again(one).attention, one.attention)  # now that it was asked for
        assert len(pickle.dumps(one)) < LITTLE + one.attention.nbytes


def test_a_translation_needs_its_model_for_nothing_else(tmp_path, elsewhere):
    for path in find_translation_model("pt").iterdir():
        if path.suffix in (".bin", ".spm"):
            shutil.copy(path, tmp_path)
    translator = Translator(tmp_path)
    found = elsewhere_again(translator.translate(TEXTS[:1])[0])
    assert not pickling._alive  # it is not loaded for the text
    again = pickle.loads(pickle.dumps(found))
    assert again.text == found.text == translator.translate(TEXTS[:1])[0].text
    assert_same_bits(found.attention, translator.translate(TEXTS[:1])[0].attention)
    shutil.rmtree(tmp_path)
    pickling._alive.clear()
    assert again.tokens == found.tokens
    with pytest.raises(FileNotFoundError, match=r"model.*\.bin"):
        again.attention  # noqa: B018
    with pytest.raises(AttributeError, match="'Translation' object has no attribute 'modle'"):
        again.modle  # noqa: B018


def test_many_translations_load_one_model(translator, elsewhere):
    data = [pickle.dumps(found) for found in translator.translate(TEXTS * 4)]
    pickling._alive.clear()
    every = [pickle.loads(one) for one in data]
    assert len({id(one.model) for one in every}) == 1


@pytest.fixture(scope="module")
def heard(transcriber):
    file = recordings.recording(recordings.NAMES[3])
    return transcriber.transcribe(file, beam_size=1, word_timestamps=True)


def test_a_transcriber_and_what_it_gives(transcriber, heard, again):
    found = again(transcriber)
    assert found.model is transcriber.model
    assert found.transcribe(np.zeros(16000, np.float32)).text == ""
    assert len(pickle.dumps(found)) < LITTLE
    found = again(heard)
    assert found == heard
    assert found.segments[0].words == heard.segments[0].words != []


def test_a_transcriber_elsewhere(transcriber, heard, elsewhere):
    found = elsewhere_again(transcriber)
    assert found.model is not transcriber.model
    file = recordings.recording(recordings.NAMES[3])
    assert found.transcribe(file, beam_size=1, word_timestamps=True) == heard


def test_hypotheses_tokens_options(folder, again):
    model = load(folder)
    every = model.generate(SOURCES, num_beams=3, num_return_sequences=2)
    assert again(every) == every
    tokens = list(model.stream(SOURCES[0], max_new_tokens=4))
    assert again(tokens) == tokens
    options = Options(num_beams=np.int64(3), suppress_tokens=np.array([1, 2]), prefix=[[1], []])
    assert again(options) == options
    with again(use(backend="numpy", threads=2)):
        assert model.generate(SOURCES, num_beams=3, num_return_sequences=2) == every


def test_states(folder, again):
    """Go on as the original does, and apart from it."""
    for model in (load(folder), load_self_attention(folder)):
        memory = model.encode(SOURCES)
        assert_same_bits(again(memory).values, memory.values)
        _, state, _ = model.step(None, model.start(again(memory)))
        step = model.step([3, 4], state)
        assert_same_bits(again(step).logits, step.logits)
        other = again(step.state)
        for tokens in ([5, 6], [7, 8]):
            # The one first, so that what they share, if anything, is written over.
            want = model.step(tokens, step.state)
            model.step([9, 9], other)
            assert_same_bits(model.step(tokens, other).logits, want.logits)
        assert model.generate(other) == model.generate(step.state)


def load_self_attention(folder):
    path = folder / "other.bin"
    path.write_bytes(tiny_marian.self_attention_file())
    return load(path)


# ---- caches ----


@settings(max_examples=60, deadline=None)
@given(
    lengths=st.lists(st.integers(0, 40), max_size=4),
    heads=st.integers(0, 2),
    widths=st.tuples(st.integers(0, 5), st.integers(0, 5)),
    capacity=st.integers(0, 70),
    fixed=st.booleans(),
    dtype=st.sampled_from([np.float16, bfloat16, np.float32, np.float64]),
    way=st.sampled_from(sorted(WAYS)),
)
def test_a_cache(lengths, heads, widths, capacity, fixed, dtype, way):
    longest = max(lengths, default=0)
    cache = KeyValueCache(
        len(lengths), heads, *widths, capacity=max(capacity, longest + 1), fixed=fixed, dtype=dtype
    )
    rng = np.random.default_rng(0)

    def some(count):
        return [
            rng.standard_normal((len(lengths), heads, count, width)).astype(dtype)
            for width in widths
        ]

    def content(cache):
        return [
            array[i, :, :length].tobytes()
            for array in (cache.keys(), cache.values())
            for i, length in enumerate(cache.lengths)
        ]

    cache.append(*some(longest), np.array(lengths, np.int64))
    before = content(cache)
    other = WAYS[way](cache)
    for name in ("capacity", "nbytes", "fixed", "dtype", "heads", "width", "value_width"):
        assert getattr(other, name) == getattr(cache, name)
    assert other.lengths.tolist() == cache.lengths.tolist() == lengths
    assert content(other) == before
    more = some(1)
    other.append(*more)
    assert content(cache) == before  # neither changes with the other
    cache.append(*more)
    assert content(other) == content(cache)


# ---- other processes, threads ----


@pytest.mark.parametrize("method", multiprocessing.get_all_start_methods())
def test_pools(method, folder, translator):
    model = used(load(folder))
    want = [fields(found) for found in translator.translate(TEXTS)]
    attention = translator.translate(TEXTS[:1])[0].attention
    context = multiprocessing.get_context(method)
    with ProcessPoolExecutor(2, mp_context=context) as pool:
        translated = [pool.submit(translator.translate, TEXTS) for _ in range(2)]
        generated = pool.submit(model.generate, SOURCES, num_beams=3)
        assert generated.result() == model.generate(SOURCES, num_beams=3)
        for one in translated:
            found = one.result()
            assert [fields(each) for each in found] == want
            assert found[0].model is translator.model
            assert_same_bits(found[0].attention, attention)


def test_threads_at_once(folder, translator, elsewhere):
    model = used(load(folder))
    want = model.generate(SOURCES)

    def each(number):
        other = pickle.loads(pickle.dumps((model, translator)))[0]
        return copy.deepcopy(other).generate(SOURCES)

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(each, range(24))) == [want] * 24
