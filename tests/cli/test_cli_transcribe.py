"""seq2seq-fast transcribe: sounds, formats, folders and options."""

from __future__ import annotations

import json
import os
import struct
import subprocess
from pathlib import Path

import fake_models
import pytest
import recordings
import soundfile
from commands import one_line, run

from seq2seq_fast.cli import main
from seq2seq_fast.speech.audio import RATE

TEXT = "Yes, <I> & you --> here.\n日本\n"


@pytest.fixture
def fakes(monkeypatch, tmp_path):
    fake_models.install(monkeypatch.setattr)
    monkeypatch.chdir(tmp_path)
    for name in ("talk.wav", "speech.mp3"):
        Path(name).write_bytes(b"fine")
    return fake_models.Transcriber


# ---- the published model ----


def test_the_published_model(tmp_path, capsys):
    file = recordings.recording(recordings.NAMES[1])
    text = "He was not an old-sposed young man."
    assert main(["transcribe", str(file)]) == 0
    assert capsys.readouterr().out == text + "\n"
    options = ["--beam-size", "1", "--max-words-per-line", "2", "--max-line-count", "2"]
    out = tmp_path / "out.srt"
    assert main(["transcribe", str(file), *options, "--output", str(out)]) == 0
    assert out.read_text(encoding="utf-8").split("\n")[2:4] == ["He was", "not an"]


def test_what_was_heard_before_the_damage_is_written(tmp_path, capsys):
    path = tmp_path / "x.flac"
    soundfile.write(path, recordings.all_in_turn(), RATE)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert main(["transcribe", str(path), "--beam-size", "1"]) == 2
    out, err = capsys.readouterr()
    assert out.startswith("And Mr. John Dashwood")
    assert "x.flac: damaged" in one_line(err)


# ---- formats and files ----


def test_all_formats_from_one_run(fakes, tmp_path, capsys):
    Path("texts").mkdir()
    command = ["transcribe", "talk.wav", "speech.mp3", "--output-dir", "texts"]
    assert main([*command, "--format", "srt", "--format", "json"]) == 0
    assert sorted(os.listdir("texts")) == ["speech.json", "speech.srt", "talk.json", "talk.srt"]
    assert main([*command, "--format", "all"]) == 0
    assert capsys.readouterr() == ("", "")
    for name in ("talk", "speech"):
        found = {
            format: Path("texts", f"{name}.{format}").read_bytes().decode()
            for format in ("txt", "srt", "vtt", "tsv", "json")
        }
        assert found["txt"] == TEXT
        assert found["srt"].startswith("1\n00:00:00,000 --> ")
        assert found["vtt"].startswith("WEBVTT\n\n00:00:00.000 --> ")
        assert found["tsv"].startswith("start\tend\ttext\n0\t1500\t")
        whole = json.loads(found["json"])
        assert [*whole] == ["language", "language_probability", "segments", "duration"]
        assert (whole["language"], whole["language_probability"]) == ("en", 0.75)
        assert (len(whole["segments"]), whole["duration"]) == (2, 3662.5)
    assert len(os.listdir("texts")) == 10


def test_one_format(fakes, capsys):
    assert main(["transcribe", "talk.wav"]) == 0
    assert capsys.readouterr().out == TEXT
    assert main(["transcribe", "talk.wav", "speech.mp3"]) == 0
    assert capsys.readouterr().out == TEXT * 2
    assert main(["transcribe", "talk.wav", "--output", "x.SRT"]) == 0
    assert main(["transcribe", "talk.wav", "--output", "x", "--format", "srt"]) == 0
    assert Path("x").read_bytes() == Path("x.SRT").read_bytes()
    Path("texts").mkdir()
    assert main(["transcribe", "talk.wav", "--output-dir", "texts"]) == 0
    assert os.listdir("texts") == ["talk.txt"]


def test_standard_input(tmp_path):
    for arguments in (["-"], ["-", "--output-dir", str(tmp_path)]):
        done = run("transcribe", *arguments, command=fake_models.COMMAND, input="fine")
        assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "stdin.txt").read_text(encoding="utf-8") == TEXT


def test_segments_are_written_as_they_are_found():
    process = subprocess.Popen(
        [*fake_models.COMMAND, "transcribe", "-", "--format", "json"], stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, encoding="utf-8",
        env={**os.environ, fake_models.PAUSE: "1"},
    )  # fmt: skip
    assert process.stderr.readline() == "ready\n"
    first = process.stdout.readline()
    assert json.loads(first + "]}")["language"] == "en"
    process.terminate()  # and is whole even then
    assert len(json.loads(first + process.stdout.read())["segments"]) == 1
    assert process.wait(30) == 143


def test_a_sound_that_cannot_be_heard_is_no_reason_to_give_up_the_others(fakes, capsys):
    Path("texts").mkdir()
    Path("broken.wav").write_bytes(b"bad")
    command = ["transcribe", "talk.wav", "broken.wav", "speech.mp3", "--output-dir", "texts"]
    assert main(command) == 2
    out, err = capsys.readouterr()
    assert out == "" and "broken.wav: not an audio file" in one_line(err)
    assert sorted(os.listdir("texts")) == ["speech.txt", "talk.txt"]
    assert main([*command, "--language", "Klingon"]) == 2  # said once
    assert "language must be one of en; got 'Klingon'" in one_line(capsys.readouterr().err)


@pytest.mark.skipif(os.name != "posix", reason="names are bytes")
def test_names_that_are_not_utf8(fakes, capsys):
    names = ["a\udcff.wav", "b\udcff.wav"]
    Path(names[0]).write_bytes(b"fine")
    Path("texts").mkdir()
    assert main(["transcribe", names[0], "--output-dir", "texts"]) == 0
    assert os.listdir("texts") == ["a\udcff.txt"]
    Path(names[1]).write_bytes(b"bad")
    for name in (names[1], "missing\udcff.wav"):
        assert main(["transcribe", name]) == 2
        assert one_line(capsys.readouterr().err).startswith(name.replace("\udcff", r"\xff"))


# ---- options ----


def test_options_reach_the_transcriber(fakes):
    assert main(["transcribe", "talk.wav"]) == 0
    assert fakes.options == {"weights": None}
    call = {name: value for name, value in fakes.call.items() if name != "progress"}
    assert call == {"language": None, "word_timestamps": False}
    assert main([
        "transcribe", "talk.wav", "--weights", "int8", "--beam-size", "2", "--patience", "2",
        "--length-penalty", "0.5", "--temperature", "0,0.5", "--best-of", "3", "--seed", "7",
        "--compression-ratio-threshold", "3", "--log-prob-threshold", "-0.5",
        "--no-speech-threshold", ".5", "--no-condition-on-previous-text", "--language", "German",
        "--task", "translate", "--initial-prompt", "Anna", "--clip-timestamps", "0,1.5",
        "--vad-filter", "--word-timestamps", "--format", "json",
    ]) == 0  # fmt: skip
    assert fakes.options == {"weights": "int8"}
    call = {name: value for name, value in fakes.call.items() if name != "progress"}
    assert call == {
        "language": "German", "task": "translate", "beam_size": 2, "patience": 2.0,
        "length_penalty": 0.5, "temperature": [0.0, 0.5], "best_of": 3, "seed": 7,
        "compression_ratio_threshold": 3.0, "log_prob_threshold": -0.5,
        "no_speech_threshold": 0.5, "condition_on_previous_text": False,
        "initial_prompt": "Anna", "word_timestamps": True, "clip_timestamps": [0.0, 1.5],
        "vad_filter": True,
    }  # fmt: skip


@pytest.mark.parametrize(
    "layout",
    [["--max-line-width", "9"], ["--max-words-per-line", "2"], ["--highlight-words"]],
    ids=" ".join,
)
def test_layout_needs_words(fakes, capsys, layout):
    assert main(["transcribe", "talk.wav", "--format", "srt", *layout]) == 0
    assert fakes.call["word_timestamps"] is True
    cues = capsys.readouterr().out.split("\n\n")
    assert len(cues) > 2 or "\nYes, <I>\n" in cues[0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["missing.wav"], "missing.wav: No such file"),
        (["talk.wav", "--output", "x.doc"], "--output must end in one of .txt, .srt, .vtt, .tsv, "),
        (["talk.wav", "--format", "doc"], "argument --format: invalid choice: 'doc'"),
        (["talk.wav", "--format", "all"], "several formats are written with --output-dir"),
        (["talk.wav", "--output", "a.txt", "--output-dir", "."], "--output or --output-dir, not"),
        (["talk.wav", "speech.mp3", "--output", "x.txt"], "several sounds are written with"),
        (["talk.wav", "speech.mp3", "--format", "srt"], "several sounds are written with"),
        (["talk.wav", "a/talk.mp3", "--output-dir", "."], "talk.wav and a/talk.mp3 would both be"),
        (["talk.wav", "--output-dir", "none"], "none: is no folder"),
        (["talk.wav", "--output-dir", "talk.wav"], "talk.wav/talk.txt: Not a directory"),
        (["talk.wav", "--word-timestamps"], "--word-timestamps is for --format json; subtitles"),
        (["talk.wav", "--word-timestamps", "--format", "srt"], "is for --format json; subtitles"),
        (["talk.wav", "--max-line-width", "9"], "lines, cues and highlighted words are for"),
        (["talk.wav", "--max-line-width", "0"], "--max-line-width: must be an integer of at least"),
        (["talk.wav", "--initial-prompt", "\udcff"], r"--initial-prompt: '\xff' is not UTF-8"),
    ],
)
def test_misuse(fakes, capsys, arguments, message):
    Path("a").mkdir()
    Path("a/talk.mp3").write_bytes(b"fine")
    before = sorted(os.listdir())
    assert main(["transcribe", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert message in one_line(err)
    assert sorted(os.listdir()) == before


def test_the_progress_bar_is_for_terminals(fakes, tmp_path):
    pty = pytest.importorskip("pty", reason="no terminals on this system")
    import fcntl
    import termios

    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("4H", 24, 80, 0, 0))
    subprocess.run([*fake_models.COMMAND, "transcribe", "talk.wav", "--output", "x.txt"],
                   stderr=theirs, timeout=60, check=True)  # fmt: skip
    os.close(theirs)
    assert b"/1" in os.read(ours, 1 << 16)
    os.close(ours)
