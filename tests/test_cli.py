"""The command line: results on standard output, one line and exit code 2 for what went wrong."""

from __future__ import annotations

import json
import os
import signal
import struct
import subprocess
import sys
import tempfile
import time

import pytest

import seq2seq_fast
from seq2seq_fast.cli import main

ELSEWHERE = tempfile.gettempdir()  # where `import seq2seq_fast` finds what is installed
COMMAND = [sys.executable, "-m", "seq2seq_fast.cli"]
HELLO = "The children were playing happily in the garden."
OLA = "As crianças estavam brincando alegremente no jardim."


def run(*arguments, **options):
    return subprocess.run(
        [*COMMAND, *arguments], capture_output=True, timeout=120, cwd=ELSEWHERE,
        **{"text": True, "encoding": "utf-8", **options},
    )  # fmt: skip


def test_translates_arguments_files_and_standard_input(tmp_path):
    done = run("translate", HELLO)
    assert (done.returncode, done.stdout, done.stderr) == (0, OLA + "\n", "")
    file = tmp_path / "text.txt"
    file.write_text(f"{HELLO}\r\n\nYes", encoding="utf-8")
    from_file = run("translate", "--file", str(file))
    assert from_file.stdout.splitlines()[:2] == [OLA, ""]
    assert run("translate", input=f"{HELLO}\n\nYes").stdout == from_file.stdout
    assert run("translate", "--to", "en", OLA).stdout.startswith("The children were")
    assert run("translate", "", "  ").stdout == "\n\n"


def test_attention_picture(tmp_path, capsys):
    picture = tmp_path / "heat.png"
    assert main(["translate", HELLO, "--attention", str(picture)]) == 0
    assert picture.read_bytes().startswith(b"\x89PNG\r\n")
    assert capsys.readouterr().out == OLA + "\n"
    assert main(["translate", "", "--attention", str(picture)]) == 0  # nothing to see, no crash


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["translate", "--to", "xx", "a"], "no model is known that translates to 'xx'"),
        (["translate", "--model", "/no/such", "a"], "no such model file or folder"),
        (["translate", "--file", "/no/such.txt"], "No such file"),
        (["translate", "--file", "x", "a"], "give texts or --file, not both"),
        (["translate", "a", "b", "--attention", "x.png"], "--attention shows one text"),
        (["translate", "--threads", "0", "a"], "threads must be an integer from 1 to 256; got 0"),
        (["bench", "--shape", "1,2"], "--shape must be five positive integers"),
        (["bench", "--shape", "1,1,1,1,0"], "--shape must be five positive integers"),
    ],
)
def test_errors_are_one_line_and_exit_code_2(capsys, arguments, message):
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("seq2seq-fast: error: ") and err.count("\n") == 1
    assert message in err


def test_input_that_is_not_utf8(tmp_path):
    file = tmp_path / "latin.txt"
    file.write_bytes(HELLO.encode() + b"\n\xe9\xff\n")
    for done in (run("translate", "--file", str(file)),
                 run("translate", input=b"\xff", text=None, encoding=None)):  # fmt: skip
        assert done.returncode == 2
        assert "not UTF-8" in str(done.stderr) and str(done.stderr).count("error") == 1


def test_a_damaged_model(tmp_path):
    (tmp_path / "model.bin").write_bytes(b"\0" * 100)
    done = run("translate", "--model", str(tmp_path), "a")
    assert done.returncode == 2
    assert done.stderr == (
        f"seq2seq-fast: error: {tmp_path}/model.bin: not a Marian binary file:"
        " version 0, expected 1\n"
    )


def test_a_bad_environment():
    done = run("info", env={**os.environ, "SEQ2SEQ_FAST_BACKEND": "gpu"})
    assert done.returncode == 2
    assert done.stderr.startswith("seq2seq-fast: error: SEQ2SEQ_FAST_BACKEND=gpu: backend must be")


def test_what_is_not_installed_is_named():
    code = """
import sys
sys.modules.update(dict.fromkeys(sys.argv[1].split(","), None))
from seq2seq_fast.cli import main
sys.exit(main(sys.argv[2:]))
"""

    def without(modules, *arguments):
        done = subprocess.run(
            [sys.executable, "-c", code, modules, *arguments], capture_output=True, text=True,
            cwd=ELSEWHERE,
        )  # fmt: skip
        return done.returncode, done.stderr

    for missing, extra in (("sentencepiece", "text"), ("sentencex", "text")):
        status, error = without(missing, "translate", "a")
        assert status == 2
        assert f"{missing} is needed for this" in error
        assert f'pip install "seq2seq_fast[{extra}]"' in error
    status, error = without("matplotlib,matplotlib.figure", "bench", "--plot", "x.png")
    assert status == 2 and 'pip install "seq2seq_fast[plot]"' in error


def test_ctrl_c_stops_at_once_and_keeps_what_was_finished(tmp_path):
    file = tmp_path / "long.txt"
    file.write_text(f"{HELLO}\n" * 3000, encoding="utf-8")
    process = subprocess.Popen(
        [*COMMAND, "translate", "--file", str(file)], stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True, encoding="utf-8", cwd=ELSEWHERE,
        # A background job of a shell starts with Ctrl-C ignored; this one must not.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    first = process.stdout.readline()
    process.send_signal(signal.SIGINT)
    start = time.monotonic()
    rest, errors = process.communicate(timeout=30)
    assert time.monotonic() - start < 5
    assert process.returncode == 130
    assert errors == ""
    lines = (first + rest).splitlines()
    assert 1 <= len(lines) < 3000 and set(lines) == {OLA}


def test_a_reader_that_leaves(tmp_path):
    file = tmp_path / "long.txt"
    file.write_text("Yes\n" * 200, encoding="utf-8")
    process = subprocess.Popen(
        [*COMMAND, "translate", "--file", str(file)], stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, cwd=ELSEWHERE,
    )  # fmt: skip
    process.stdout.readline()
    process.stdout.close()
    assert process.wait(60) == 0
    assert process.stderr.read() == b""


def test_the_progress_bar_is_for_terminals(tmp_path):
    pty = pytest.importorskip("pty", reason="no terminals on this system")
    import fcntl
    import termios

    file = tmp_path / "text.txt"
    file.write_text("Yes\n" * 5, encoding="utf-8")
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("4H", 24, 80, 0, 0))
    done = subprocess.run(
        [*COMMAND, "translate", "--file", str(file)], stdout=subprocess.PIPE, stderr=theirs,
        cwd=ELSEWHERE, timeout=60,
    )  # fmt: skip
    os.close(theirs)
    assert done.stdout.count(b"\n") == 5 and b"texts" not in done.stdout
    assert b"5 texts" in os.read(ours, 1 << 16)
    os.close(ours)
    assert run("translate", "--file", str(file)).stderr == ""


def test_lines_typed_at_a_terminal_are_answered_at_once():
    pty = pytest.importorskip("pty", reason="no terminals on this system")
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [*COMMAND, "translate"], stdin=theirs, stdout=subprocess.PIPE, cwd=ELSEWHERE
    )
    os.close(theirs)
    for _ in range(2):
        os.write(ours, HELLO.encode() + b"\n")
        assert process.stdout.readline().decode() == OLA + "\n"
    os.write(ours, b"\x04")  # Ctrl-D: the end of the input
    assert process.wait(60) == 0
    os.close(ours)


def test_info_and_fingerprint(capsys):
    assert main(["info", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == seq2seq_fast.info()
    assert main(["info"]) == 0
    text = capsys.readouterr().out
    assert all(name in text for name in seq2seq_fast.info())
    assert main(["fingerprint"]) == 0
    assert capsys.readouterr().out == seq2seq_fast.fingerprint() + "\n"


def test_bench(tmp_path, capsys):
    picture = tmp_path / "bench.png"
    shapes = ["--shape", "1,2,1,20,16", "--shape", "1,1,20,20,16"]
    assert main(["bench", *shapes, "--plot", str(picture)]) == 0
    out = capsys.readouterr().out
    assert f"seq2seq_fast {seq2seq_fast.__version__}" in out
    table = [line for line in out.splitlines() if line.startswith("|")]
    assert len(table) == 4
    assert all(name in table[0] for name in ("numpy", "blas", "error"))
    errors = [float(cell) for line in table[2:] for cell in line.split("|")[-3:-1]]
    assert max(errors) < 1e-5
    assert picture.read_bytes().startswith(b"\x89PNG\r\n")


def test_version(capsys):
    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out == f"seq2seq-fast {seq2seq_fast.__version__}\n"
