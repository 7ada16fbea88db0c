"""A folder that was converted gives the same bits as the one it was made from."""

from __future__ import annotations

import sys

import pytest
import random_ctranslate2
import random_whisper
import recordings
from conftest import assert_same_bits

from seq2seq_fast import Transcriber, Translator, load
from seq2seq_fast.demo import find_speech_model, find_translation_model
from seq2seq_fast.models.convert import convert
from seq2seq_fast.models.encoder_decoder import distinct_arrays

TEXT = "How are you today? The house is 12.5 m wide."


@pytest.mark.parametrize("weights", [None, "float32"])
def test_translator(tmp_path, weights):
    source, target = find_translation_model("pt"), tmp_path / "converted"
    convert(source, target, weights=weights)
    for shortlist, beams in ((False, 1), (True, 3)):
        old, new = (
            one.translate([TEXT], num_beams=beams)[0]
            for one in (
                Translator(source, weights=weights, shortlist=shortlist),
                Translator(target, shortlist=shortlist),
            )
        )
        assert (new.text, new.tokens, new.score) == (old.text, old.tokens, old.score)
        assert_same_bits(new.attention, old.attention)
    assert [file.name for file in tmp_path.iterdir()] == ["converted"]
    assert not list(target.glob("model.*.bin"))


def test_transcriber(tmp_path):
    source, target = find_speech_model(), tmp_path / "converted"
    convert(source, target, weights="int8")
    recording = recordings.recording(recordings.NAMES[0])
    old, new = Transcriber(source, weights="int8"), Transcriber(target)
    assert new.transcribe(recording) == old.transcribe(recording)


@pytest.mark.parametrize("weights", [None, "float32", "float16", "int8"])
@pytest.mark.parametrize("parts", [1, 3])
def test_weights(tmp_path, weights, parts):
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    random_whisper.write_hugging_face(source, parts=parts)
    convert(source, target, weights=weights)
    new, old = load(target), load(source, weights=weights)
    for one, other in zip(distinct_arrays(new), distinct_arrays(old), strict=True):
        assert_same_bits(one, other)
    assert {file.name for file in target.iterdir()} == {
        "config.json", "model.safetensors", "tokenizer.json"
    }  # fmt: skip


def test_of_a_file_into_an_empty_folder(tmp_path):
    source, target = tmp_path / "source", tmp_path / "source" / "target"
    target.mkdir(parents=True)
    random_ctranslate2.write(source)
    convert(source / "model.bin", target)
    assert load(target).generate([[5, 2]]) == load(source).generate([[5, 2]])
    assert (target / "shared_vocabulary.json").exists()
    if sys.platform != "win32":
        assert target.stat().st_mode == source.stat().st_mode  # others may read it, too


@pytest.mark.parametrize("which", ["source", "full", "file"])
def test_nothing_is_written_over(tmp_path, which):
    source = tmp_path / "source"
    source.mkdir()
    random_ctranslate2.write(source)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("mine")
    (tmp_path / "file").write_text("mine")

    def files():
        return {path: path.is_file() and path.read_bytes() for path in tmp_path.rglob("*")}

    before = files()
    with pytest.raises(FileExistsError, match=rf"{which}: exists; name a folder that does not"):
        convert(source, tmp_path / which)
    assert files() == before


def test_nothing_is_left_of_a_failure(tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    with pytest.raises(FileNotFoundError, match="expected one model"):
        convert(source, tmp_path / "target")
    random_ctranslate2.write(source)
    with pytest.raises(ValueError, match="weights must be one of"):
        convert(source, tmp_path / "target", weights="int4")
    with pytest.raises(FileNotFoundError, match="none: no such folder to write target to"):
        convert(source, tmp_path / "none" / "target")
    (source / "a.json").symlink_to(source / "b.json")
    (source / "b.json").mkdir()  # what cannot be copied is no file
    convert(source, tmp_path / "target")
    assert {path.name for path in tmp_path.iterdir()} == {"source", "target"}


def test_a_copy_that_fails_leaves_nothing(tmp_path, monkeypatch):
    source = tmp_path / "source"
    source.mkdir()
    random_ctranslate2.write(source)

    def full(*files):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("seq2seq_fast.models.convert.shutil.copyfile", full)
    with pytest.raises(OSError, match="No space left"):
        convert(source, tmp_path / "target")
    assert [path.name for path in tmp_path.iterdir()] == ["source"]
