"""seq2seq-fast translate: a line in, a line out, whatever it holds and however it comes."""

from __future__ import annotations

import os
import subprocess
import threading
import tracemalloc

import fake_models
import pytest
from commands import one_line, run
from hypothesis import given, settings
from hypothesis import strategies as st

from seq2seq_fast.cli import main

HELLO = "The children were playing happily in the garden."
OLA = "As crianças estavam brincando alegremente no jardim."
SEPARATORS = "\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029"  # of str.splitlines


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


# ---- the published models ----


def test_arguments_files_and_standard_input(tmp_path):
    done = run("translate", HELLO)
    assert (done.returncode, done.stdout, done.stderr) == (0, OLA + "\n", "")
    file, out = tmp_path / "text.txt", tmp_path / "out.txt"
    file.write_bytes(f"{HELLO}\r\n\nYes".encode())
    assert run("translate", "--file", str(file), "--output", str(out)).stdout == ""
    text = out.read_bytes().decode()
    assert text.split("\n")[:2] == [OLA, ""] and text.count("\n") == 2
    assert run("translate", input=f"{HELLO}\n\nYes").stdout == text
    assert run("translate", "--to", "EN", OLA).stdout.startswith("The children were")
    assert run("translate", "", "  ").stdout == "\n  \n"


def test_every_separator_stays_in_its_line():
    lines = [f"Hello.{separator}How are you?" for separator in SEPARATORS if separator != "\n"]
    done = run(
        "translate", input="\n".join([*lines, "Goodbye."]).encode(), text=None, encoding=None
    )
    found = done.stdout.decode().split("\n")
    assert len(found) == len(lines) + 1
    assert all("Como" in line for line in found[:-1])
    assert found[-1] == "Adeus."


def test_attention_picture(tmp_path, capsys):
    picture = tmp_path / "heat.png"
    assert main(["translate", HELLO, "--attention", str(picture)]) == 0
    assert picture.read_bytes().startswith(b"\x89PNG\r\n")
    assert capsys.readouterr().out == OLA + "\n"
    svg = tmp_path / "heat.SVG"
    assert main(["translate", "", "--attention", str(svg)]) == 0  # nothing to see, no crash
    assert b"<svg" in svg.read_bytes()


def test_what_is_wrong_with_a_picture_is_told_before_the_work(fakes, tmp_path, capsys):
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "in.png").write_text("yes")
    for name, message in (
        ("folder.png", "is a folder"), ("heat", "ends in .png"), ("heat.doc", "ends in .png"),
        ("no/heat.png", "is no folder"), ("out.png", "is the name for --output and for"),
    ):  # fmt: skip
        assert main(["translate", "a", "--attention", name, "--output", "out.png"]) == 2
        out, err = capsys.readouterr()
        assert out == "" and message in one_line(err)
    assert sorted(os.listdir()) == ["folder.png", "in.png"]


def test_a_damaged_model(tmp_path):
    (tmp_path / "model.bin").write_bytes(b"\0" * 100)
    done = run("translate", "--model", str(tmp_path), "a")
    assert done.returncode == 2
    assert one_line(done.stderr).startswith(f"{tmp_path}/model.bin: expected a Marian model")


# ---- lines ----


@pytest.mark.parametrize(
    "data", [b"", b"\n", b"a", b"a\n", b"\n\n", b"a\n\nb", b"a\r\nb\r\n", b"\r"]
)
def test_as_many_lines_come_out_as_go_in(fakes, tmp_path, capsys, data):
    (tmp_path / "in.txt").write_bytes(data)
    assert main(["translate", "--file", "in.txt"]) == 0
    assert capsys.readouterr().out.encode() == data.upper().replace(b"\r\n", b"\n")


# What a pipe, a file and a fake translator, which changes only letters, make of any text.
LINES = st.lists(st.text(st.sampled_from("a é\r" + SEPARATORS[1:]), max_size=5), max_size=8)


@settings(max_examples=60, deadline=None)
@given(LINES, st.booleans(), st.integers(1, 4))
def test_any_text_by_pipe_and_by_file(lines, ended, chunk):
    from seq2seq_fast.cli import lines as reading

    data = "".join(line + "\n" for line in lines).encode()
    if not ended:
        data = data.removesuffix(b"\n")
    ours, theirs = os.pipe()

    def send():
        for i in range(0, len(data), chunk):
            os.write(theirs, data[i : i + chunk])
        os.close(theirs)

    sender = threading.Thread(target=send)
    sender.start()
    found = [line for group in reading._of_pipe("x", ours) for line in group]
    sender.join()
    os.close(ours)
    assert b"".join(found) == data
    assert all(line.count(b"\n") == 1 for line in found[:-1])


def test_a_translation_of_several_lines_is_written_as_one(fakes, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(
        fakes, "_one", lambda self, text: fake_models.SimpleNamespace(text="1\n2", score=0.0)
    )
    (tmp_path / "in.txt").write_text("a\nb\n")
    assert main(["translate", "--file", "in.txt"]) == 0
    assert capsys.readouterr().out == "1 2\n1 2\n"
    assert main(["translate", "a\nb"]) == 0  # an argument may have lines
    assert capsys.readouterr().out == "1\n2\n"


def test_several_files(fakes, tmp_path, capsys):
    for name, text in (("a", "one\ntwo"), ("b", ""), ("c", "three\n"), ("d", "four")):
        (tmp_path / name).write_text(text)
    files = [f"--file={name}" for name in "abcd"]
    assert main(["translate", *files]) == 0
    assert capsys.readouterr().out == "ONE\nTWO\nTHREE\nFOUR"
    done = fake("translate", "--file", "-", f"--file={tmp_path / 'a'}", input=b"zero\n")
    assert done.stdout == b"ZERO\nONE\nTWO"


def test_a_name_that_is_wrong_is_told_before_the_work(fakes, tmp_path, capsys):
    (tmp_path / "a").write_text("one")
    for name, message in (("missing", "No such file"), (str(tmp_path), "directory")):
        assert main(["translate", "--file=a", f"--file={name}"]) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert name in one_line(err) and message in err


def test_lines_of_a_pipe_are_answered_when_it_pauses():
    process = subprocess.Popen(
        [*fake_models.COMMAND, "translate"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        bufsize=0,
    )
    for question, answer in ((b"a\n", b"A\n"), (b"b\nc\n", b"B\nC\n"), (b"d\ne", b"D\n")):
        process.stdin.write(question)
        found = b""
        while len(found) < len(answer):
            found += process.stdout.read(len(answer) - len(found))
        assert found == answer
    process.stdin.close()
    assert process.stdout.read() == b"E"
    assert process.wait(60) == 0


def test_lines_typed_at_a_terminal_are_answered_at_once():
    pty = pytest.importorskip("pty", reason="no terminals on this system")
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [*fake_models.COMMAND, "translate"], stdin=theirs, stdout=subprocess.PIPE
    )
    os.close(theirs)
    for _ in range(2):
        os.write(ours, b"yes\n")
        assert process.stdout.readline() == b"YES\n"
    os.write(ours, b"\x04")  # Ctrl-D: the end of the input
    assert process.wait(60) == 0
    os.close(ours)


def test_memory_is_bounded_however_many_lines_there_are(fakes, tmp_path, monkeypatch):
    """No more than a group of lines is held at a time, here of 4 kB."""
    monkeypatch.setattr("seq2seq_fast.cli.lines.GROUP_BYTES", 4096)
    peaks = []
    for count in (1000, 20_000):
        (tmp_path / "in.txt").write_bytes(b"a short line of text\n" * count)
        tracemalloc.start()
        try:
            assert main(["translate", "--file", "in.txt", "--output", "out.txt"]) == 0
            peaks.append(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()
        assert (tmp_path / "out.txt").stat().st_size == (tmp_path / "in.txt").stat().st_size
    assert peaks[1] < peaks[0] + 50_000  # of 420,000 bytes


def test_a_line_of_50_megabytes():
    line = b"word " * 10_000_000
    done = fake("translate", input=line + b"\nshort")
    assert done.stdout == line.upper() + b"\nSHORT"


# ---- bytes that are not UTF-8 ----


@pytest.mark.parametrize("by", ["file", "pipe"])
def test_the_line_that_is_not_utf8(tmp_path, by):
    data = b"yes\n" * 40 + b"caf\xe9\n"
    file = tmp_path / "latin.txt"
    file.write_bytes(data)
    done = fake("translate", "--file", str(file)) if by == "file" else fake("translate", input=data)
    assert done.returncode == 2
    assert done.stdout == b"YES\n" * 40
    name = str(file) if by == "file" else "standard input"
    assert one_line(done.stderr.decode()) == (
        f"{name}: line 41: not UTF-8 text: byte 0xe9 at 4 (unexpected end of data);"
        " --errors keep lets such bytes through"
    )


def test_lines_before_it_are_kept(fakes, tmp_path, capsys):
    (tmp_path / "in.txt").write_bytes(b"yes\nno\n\xff\nyes\n")
    assert main(["translate", "--file", "in.txt", "--output", "out.txt"]) == 2
    assert (tmp_path / "out.partial.txt").read_text() == "YES\nNO\n"
    assert not (tmp_path / "out.txt").exists()


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=12).filter(lambda data: b"\n" not in data and b"\r" not in data))
def test_bytes_that_are_kept_are_all_there(data):
    """Whatever a translator makes of text: this one leaves it as it is."""
    from seq2seq_fast.cli.lines import Line
    from seq2seq_fast.cli.translate import translated

    def same(texts):
        for text in texts:
            text.encode("utf-8")  # it is text that is translated
            yield fake_models.SimpleNamespace(text=text, score=-1.0)

    line = Line(data.decode("utf-8", "surrogateescape"), "\n")
    ((_, (found,)),) = translated(same, [line])
    assert found.text.encode("utf-8", "surrogateescape") == data


def test_keeping_bytes(tmp_path):
    data = b"caf\xe9 au lait\n\xff\n\xe2\x82\nyes\n"
    want = b"CAF\xe9 AU LAIT\n\xff\n\xe2\x82\nYES\n"
    assert fake("translate", "--errors", "keep", input=data).stdout == want
    assert fake("translate", "--errors", "keep", b"caf\xe9", b"yes").stdout == b"CAF\xe9\nYES\n"
    done = fake("translate", "yes", b"caf\xe9")
    assert (done.returncode, done.stdout) == (2, b"")
    assert one_line(done.stderr.decode()) == (
        r"text 2, 'caf\xe9', is not UTF-8; --errors keep lets such bytes through"
    )


PLAIN = {**os.environ, "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}


@pytest.mark.skipif(os.name != "posix", reason="arguments are bytes")
def test_utf8_whatever_the_locale(tmp_path):
    """Texts, and names of files, which are bytes."""
    assert fake("translate", "café", env=PLAIN).stdout == "CAFÉ\n".encode()
    assert fake("translate", input="café".encode(), env=PLAIN).stdout == "CAFÉ".encode()
    for name in ("café", b"caf\xe9".decode("utf-8", "surrogateescape")):
        file, out = os.fsencode(tmp_path / name), os.fsencode(tmp_path / f"{name}.out")
        with open(file, "wb") as given_:
            given_.write("é\n".encode())
        done = fake("translate", "--file", file, b"--output", out, env=PLAIN)
        assert (done.returncode, done.stderr) == (0, b"")
        with open(out, "rb") as found:
            assert found.read() == "É\n".encode()
        os.remove(file)
        shown = os.fsencode(file).decode("utf-8", "backslashreplace")
        done = fake("translate", "--file", file, env=PLAIN)
        assert one_line(done.stderr.decode()) == f"{shown}: No such file or directory"
