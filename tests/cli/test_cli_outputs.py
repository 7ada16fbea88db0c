"""Output that cannot hurt: a file appears when it is complete, and is never one of the inputs."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
from pathlib import Path

import fake_models
import pytest

from seq2seq_fast.cli import main
from seq2seq_fast.cli.outputs import Target, files_of

resource = pytest.importorskip("resource", reason="links, pipes, modes and limits")


@pytest.fixture(autouse=True)
def fakes(monkeypatch, tmp_path):
    fake_models.install(monkeypatch.setattr)
    monkeypatch.chdir(tmp_path)


def write(name, *parts, error=None):
    with Target(name).open() as part:
        for one in parts:
            part(one)
        if error is not None:
            raise error


def names(folder="."):
    return sorted(os.listdir(folder))


def test_a_new_file_and_one_in_the_place_of_another():
    umask = os.umask(0o027)
    try:
        write("new.txt", "é\n", b"\xff\n", "\udcff")
    finally:
        os.umask(umask)
    assert Path("new.txt").read_bytes() == "é\n".encode() + b"\xff\n\xff"
    assert stat.S_IMODE(os.stat("new.txt").st_mode) == 0o640
    os.chmod("new.txt", 0o604)
    write("new.txt", "other")
    assert Path("new.txt").read_text() == "other"
    assert stat.S_IMODE(os.stat("new.txt").st_mode) == 0o604
    write("new.txt")
    assert Path("new.txt").read_text() == ""
    assert names() == ["new.txt"]


def test_it_appears_when_it_is_complete():
    Path("out.txt").write_text("old")
    with Target("out.txt").open() as part:
        part("new")
        assert Path("out.txt").read_text() == "old"
    assert Path("out.txt").read_text() == "new"


@pytest.mark.parametrize("error", [KeyboardInterrupt(), ValueError("bad")], ids=repr)
def test_what_was_finished_is_kept(error, capsys):
    Path("talk.srt").write_text("old")
    for name in ("talk.partial.srt", "talk.partial2.srt"):  # never over what is there
        with pytest.raises(type(error)):
            write("talk.srt", "one\n", "two\n", error=error)
        assert Path(name).read_text() == "one\ntwo\n"
        assert capsys.readouterr().err.endswith(f"what was finished is in {Path(name).resolve()}\n")
    with pytest.raises(type(error)):  # nothing was finished: nothing is left
        write("talk.srt", error=error)
    assert names() == ["talk.partial.srt", "talk.partial2.srt", "talk.srt"]
    assert Path("talk.srt").read_text() == "old"
    assert capsys.readouterr().err == ""


def test_a_disk_that_is_full():
    """The line that does not fit is left out, whole. A file may be no larger than 8 bytes here."""
    Path("in.txt").write_text("12345\n67890\n")
    Path("out.txt").write_text("old")
    done = subprocess.run(
        [*fake_models.COMMAND, "translate", "--file", "in.txt", "--output", "out.txt"],
        stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (8, 8)),
    )  # fmt: skip
    assert done.returncode == 2
    kept, error = done.stderr.splitlines()
    assert kept.endswith("/out.partial.txt")
    assert error == "seq2seq-fast: error: out.txt: File too large"
    assert Path("out.partial.txt").read_text() == "12345\n"
    assert Path("out.txt").read_text() == "old"
    assert names() == ["in.txt", "out.partial.txt", "out.txt"]


def test_the_end_is_written_whatever_happens():
    target = Target("x.json")
    with pytest.raises(KeyboardInterrupt), target.open(lambda: "]") as part:
        part("[1")
        raise KeyboardInterrupt
    assert Path("x.partial.json").read_text() == "[1]"
    with target.open(lambda: "[]"):
        pass
    assert Path("x.json").read_text() == "[]"


def test_the_input_is_never_the_output(capsys, monkeypatch):
    Path("text.txt").write_text("yes\n")
    Path("folder").mkdir()
    os.symlink("text.txt", "link.txt")
    os.symlink("../text.txt", "folder/link.txt")
    os.link("text.txt", "hard.txt")
    os.symlink("hard.txt", "link to hard.txt")
    whole = os.path.abspath("text.txt")
    same = ["text.txt", "./folder/../text.txt", whole, "link.txt", "folder/link.txt", "hard.txt",
            "link to hard.txt"]  # fmt: skip
    for given in same:
        for output in same:
            assert main(["translate", "--file", given, "--output", output]) == 2
            assert "is the input, too" in capsys.readouterr().err
        assert main(["transcribe", given, "--output", "hard.txt"]) == 2
        assert main(["transcribe", given, "--output-dir", "folder", "--format", "srt"]) == 0
    assert Path("text.txt").read_text() == "yes\n"
    os.symlink("../text.txt", "folder/text.vtt")  # the name that it would give the file itself
    capsys.readouterr()
    assert main(["transcribe", "text.txt", "--output-dir", "folder", "--format", "vtt"]) == 2
    assert "folder/text.vtt: is the input, too" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["--file", "text.txt"], []], ids=["file", "standard input"])
def test_a_shell_that_appends_to_the_input(arguments):
    Path("text.txt").write_text("yes\n")
    with open("text.txt") as given, open("text.txt", "a") as output:
        done = subprocess.run(
            [*fake_models.COMMAND, "translate", *arguments], stdin=given, stdout=output,
            stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
    assert done.returncode == 2
    assert "standard output: is the input, too" in done.stderr
    assert Path("text.txt").read_text() == "yes\n"


def test_links_are_followed():
    Path("folder").mkdir()
    Path("folder/real.txt").write_text("old")
    os.symlink("folder/real.txt", "link.txt")
    os.symlink("folder/new.txt", "dangling.txt")
    write("link.txt", "new")
    write("dangling.txt", "new")
    assert os.path.islink("link.txt") and os.path.islink("dangling.txt")
    assert Path("folder/real.txt").read_text() == Path("folder/new.txt").read_text() == "new"
    assert names("folder") == ["new.txt", "real.txt"]


def test_pipes_and_devices_are_written_directly():
    os.mkfifo("pipe")
    reader = os.open("pipe", os.O_RDONLY | os.O_NONBLOCK)
    with Target("pipe").open() as part:
        part("now")
        assert os.read(reader, 10) == b"now"
    os.close(reader)
    write("/dev/null", "x")
    assert names() == ["pipe"]
    assert stat.S_ISFIFO(os.stat("pipe").st_mode)


@pytest.mark.parametrize("name", ["-", "/dev/stdout", "/dev/fd/1", "out.txt"])
def test_standard_output_by_any_name(name):
    """Also where it is a file, to which others write, too."""
    with open("out.txt", "w") as out:
        subprocess.run(
            ["sh", "-c", 'echo before; "$@"; echo after', "sh", *fake_models.COMMAND, "translate",
             "yes", "--output", name],
            stdout=out, check=True,
        )  # fmt: skip
    assert Path("out.txt").read_text() == "before\nYES\nafter\n"
    assert names() == ["out.txt"]


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("no/such/out.txt", "no/such: is no folder"),
        ("file/out.txt", "Not a directory"),
        ("folder", "folder: is a folder; give the name of a file"),
        ("folder/", "'folder/' is no name of a file"),
        ("new/", "'new/' is no name of a file"),
        ("", "'' is no name of a file"),
        ("loop", "loop: Too many levels of symbolic links"),
        ("a" * 300, "File name too long"),
    ],
)
def test_what_cannot_be_written_is_told_before_the_work(name, error, capsys):
    Path("folder").mkdir()
    Path("file").write_text("")
    os.symlink("loop", "loop")
    fake_models.Translator.path = None
    assert main(["translate", "yes", "--output", name]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert error in err and err.count("\n") == 1
    assert fake_models.Translator.path is None  # it was not even loaded
    assert names() == ["file", "folder", "loop"]


def test_what_is_not_writable(monkeypatch):
    """By the system's answer: root, who may run the tests, could write everywhere."""
    Path("old.txt").write_text("old")
    here = os.path.realpath(".")
    for name, locked in (("new.txt", here), ("old.txt", os.path.join(here, "old.txt"))):
        monkeypatch.setattr(os, "access", lambda path, mode, locked=locked: str(path) != locked)
        with pytest.raises(PermissionError, match="not writable"):
            Target(name)


def test_an_argument_that_is_wrong_leaves_the_output_as_it_was(capsys):
    Path("out.txt").write_text("old")
    Path("talk.wav").write_bytes(b"bad")
    Path("fine.wav").write_bytes(b"fine")
    for arguments in (
        ["transcribe", "talk.wav"], ["transcribe", "fine.wav", "--language", "Klingon"],
        ["transcribe", "missing.wav"], ["transcribe", "fine.wav", "--word-timestamps"],
        ["translate", "--file", "missing.txt"], ["translate", "--file", "out.wav", "a"],
        ["translate", "a", "--num-return-sequences", "2"],
    ):  # fmt: skip
        assert main([*arguments, "--output", "out.txt"]) == 2
        assert capsys.readouterr().err.count("\n") == 1
        assert Path("out.txt").read_text() == "old"
    assert names() == ["fine.wav", "out.txt", "talk.wav"]


@pytest.mark.parametrize(("number", "code"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_a_signal_keeps_what_was_finished(number, code):
    Path("out.txt").write_text("old")
    Path("talk.wav").write_bytes(b"fine")
    Path("in.txt").write_text("yes\nno\nperhaps\n")
    for arguments, output, kept in (
        (["translate", "--file", "in.txt"], "out.txt", "YES\nNO\n"),
        (["transcribe", "talk.wav"], "talk.json", None),
    ):
        count = "2" if kept else "1"
        process = subprocess.Popen(
            [*fake_models.COMMAND, *arguments, "--output", output], stderr=subprocess.PIPE,
            text=True, env={**os.environ, fake_models.PAUSE: count},
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )  # fmt: skip
        assert process.stderr.readline() == "ready\n"
        process.send_signal(getattr(signal, number))
        process.send_signal(getattr(signal, number))  # twice is no more than once
        assert process.wait(30) == code
        partial = Path(output).with_suffix(f".partial{Path(output).suffix}").resolve()
        assert process.stderr.read() == f"seq2seq-fast: what was finished is in {partial}\n"
        text = partial.read_text(encoding="utf-8")
        if kept:
            assert text == kept
        else:
            assert len(json.loads(text)["segments"]) == 1
    assert Path("out.txt").read_text() == "old"
    assert names() == ["in.txt", "out.partial.txt", "out.txt", "talk.partial.json", "talk.wav"]


def test_many_inputs_are_looked_at_once(monkeypatch):
    Path("a.wav").write_bytes(b"fine")
    files = files_of(["a.wav", "-"])
    assert len(files) == 2
    with pytest.raises(ValueError, match=r"a\.wav: is the input, too"):
        Target("a.wav", files)
    with pytest.raises(FileNotFoundError):
        files_of(["missing.wav"])
