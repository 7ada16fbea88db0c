"""seq2seq-fast translate: options reach the translator, or are refused in one line."""

from __future__ import annotations

import os
import struct
import subprocess

import fake_models
import pytest
from commands import ELSEWHERE, one_line, run

from seq2seq_fast.cli import main


@pytest.fixture
def fakes(monkeypatch, tmp_path):
    fake_models.install(monkeypatch.setattr)
    monkeypatch.chdir(tmp_path)
    return fake_models.Translator


def fake(*arguments, **options):
    """The command with fakes, in a process of its own."""
    return run(
        *arguments, command=fake_models.COMMAND, **{"text": None, "encoding": None, **options}
    )


def test_options_reach_the_translator(fakes, capsys):
    assert main(["translate", "a"]) == 0
    assert fakes.options == {"weights": None, "shortlist": False, "copy": True}
    assert fakes.call == {"source_language": None}
    assert main([
        "translate", "a", "--model", "folder", "--from", "de_AT", "--vocabulary", __file__,
        "--weights", "int8", "--shortlist", "--num-beams", "4", "--max-new-tokens", "9",
        "--length-penalty", "-.5", "--repetition-penalty", "1.5", "--no-repeat-ngram-size", "3",
        "--no-copy", "--max-source-tokens", "40", "--to", "eng_Latn", "--min-new-tokens", "2",
    ]) == 0  # fmt: skip
    assert fakes.path == "folder"
    assert fakes.options == {
        "vocabulary": __file__, "weights": "int8", "shortlist": True, "copy": False,
        "max_source_tokens": 40,
    }  # fmt: skip
    assert fakes.call == {
        "source_language": "de_AT", "target_language": "eng_Latn", "num_beams": 4,
        "max_new_tokens": 9, "min_new_tokens": 2, "length_penalty": -0.5,
        "repetition_penalty": 1.5, "no_repeat_ngram_size": 3,
    }  # fmt: skip


def test_scores_and_several_translations(fakes, capsys):
    assert main(["translate", "a", "b", "--scores"]) == 0
    assert capsys.readouterr().out == "-1.0000\tA\n-1.0000\tB\n"
    two = ["translate", "a", "b", "--num-beams", "2", "--num-return-sequences", "2"]
    assert main(two) == 0
    assert capsys.readouterr().out == "A\nA'\nB\nB'\n"
    assert main([*two, "--scores"]) == 0
    assert capsys.readouterr().out == "-1.0000\tA\n-2.0000\tA'\n-1.0000\tB\n-2.0000\tB'\n"
    assert main(["translate", "a", "--num-return-sequences", "2"]) == 2
    assert "--num-return-sequences is 2: give at least as many" in one_line(capsys.readouterr().err)


@pytest.mark.parametrize("to", ["pt", "PT", "pt-BR", "pt_BR", "Portuguese", "portuguese"])
def test_names_of_languages(fakes, capsys, to):
    from seq2seq_fast.demo import find_translation_model

    assert main(["translate", "a", "--to", to]) == 0
    assert (fakes.path, fakes.call) == (find_translation_model("pt"), {"source_language": None})
    for names, source in (
        (["--from", to], "pt"), (["--from", to, "--to", "EN-us"], "pt"), (["--to", "English"], None)
    ):  # fmt: skip
        assert main(["translate", "a", *names]) == 0
        assert fakes.path == find_translation_model("en")
        assert fakes.call == {"source_language": source}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--to", "xx", "a"], "no model is known that translates to 'xx'"),
        (["--to", "German", "a"], "no model is known that translates to 'german'"),
        (["--from", "fr", "a"], "no model is known that translates from 'fr' to 'pt'"),
        (
            ["--from", "pt", "--to", "pt", "a"],
            "no model is known that translates from 'pt' to 'pt'",
        ),
        (["--model", "/no/such", "a"], "no such model file or folder"),
        (["--file", "/no/such.txt"], "/no/such.txt: No such file"),
        (["--vocabulary", "/no/such.spm", "a"], "/no/such.spm: No such file"),
        (["--file", "x", "a"], "give texts or --file, not both"),
        (["a", "b", "--attention", "x.png"], "--attention shows one text"),
    ],
)
def test_misuse(capsys, arguments, message):
    assert main(["translate", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert message in one_line(err)


def test_options_and_texts_in_any_order(fakes, capsys):
    for arguments in (
        ["a", "--num-beams", "2", "b"], ["a", "b", "--num-beams=2"],
        ["--num-beams=2", "--", "a", "b"],
    ):  # fmt: skip
        assert main(["translate", *arguments]) == 0
        assert capsys.readouterr().out == "A\nB\n"
        assert fakes.call["num_beams"] == 2
    assert main(["translate", "--", "-5°c", "--x"]) == 0
    assert capsys.readouterr().out == "-5°C\n--X\n"


def test_the_progress_bar_is_for_terminals():
    pty = pytest.importorskip("pty", reason="no terminals on this system")
    import fcntl
    import termios

    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("4H", 24, 80, 0, 0))
    done = subprocess.run(
        [*fake_models.COMMAND, "translate", *"abcde"], stdout=subprocess.PIPE, stderr=theirs,
        cwd=ELSEWHERE, timeout=60,
    )  # fmt: skip
    os.close(theirs)
    assert done.stdout == b"A\nB\nC\nD\nE\n"
    assert b"5/5" in os.read(ours, 1 << 16)
    os.close(ours)
    assert fake("translate", *"abcde").stderr == b""
