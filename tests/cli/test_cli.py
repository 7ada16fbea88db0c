"""The command line as a whole: help, errors, exit codes, streams and signals; small commands."""

from __future__ import annotations

import io
import itertools
import json
import os
import re
import signal
import subprocess
import sys
import types

import fake_models
import pytest
from commands import COMMAND, ELSEWHERE, one_line, run

import seq2seq_fast
from seq2seq_fast.cli import main, plot
from seq2seq_fast.cli.measuring import Ratio
from seq2seq_fast.cli.running import COMMANDS

# ---- help and misuse ----


def test_help_has_an_example_of_each_command(capsys):
    assert main(["--help"]) == 0
    overview = capsys.readouterr().out
    for command in COMMANDS:
        assert f"\n  {command} " in overview
        assert main([command, "--help"]) == 0
        out, err = capsys.readouterr()
        assert err == ""
        assert out.startswith(f"usage: seq2seq-fast {command} ")
        assert "--threads N" in out
        assert f"\n  seq2seq-fast {command} " in out[out.index("example") :]
    assert main([]) == 2
    assert capsys.readouterr() == ("", overview)


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"seq2seq-fast {seq2seq_fast.__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["tranlate", "a"], "unknown command 'tranlate'; did you mean translate?"),
        (["x"], "unknown command 'x'; known: translate, summarize, generate, transcribe, convert,"),
        (["--verson"], "unknown option --verson; did you mean --version?"),
        (["translate", "--beam", "4", "a"], "unknown option --beam; did you mean --num-beams?"),
        (["translate", "--num-beam=4", "a"], "unknown option --num-beam; did you mean --num-beams"),
        (["translate", "-5°C"], "unknown option -5°C; what begins with - and is no option comes"),
        (["info", "x"], "unexpected argument 'x'"),
        (["info", "--threads", "0"], "argument --threads: must be an integer of at least 1; got"),
        (["info", "--threads", "9" * 5000], "argument --threads: must be an integer of at least"),
        (["info", "--threads", "999"], "threads must be an integer from 1 to 256; got 999"),
        (["translate", "--num-beams", "x", "a"], "argument --num-beams: must be an integer of at"),
        (["translate", "--length-penalty", "nan", "a"], "--length-penalty: must be a number; got"),
        (["translate", "--num-beams"], "argument --num-beams: expected one argument"),
        (["transcribe"], "the following arguments are required: audio"),
        (["transcribe", "--temperature", "0,x", "a"], "must be numbers with commas between them;"),
        (
            ["bench", "--shape", "1,2"],
            "argument --shape: must be five positive integers B,H,Tq,Tk,",
        ),
        (["bench", "--shape", "1,1,1,1,0"], "argument --shape: must be five positive integers"),
    ],
)
def test_misuse_is_one_line_and_exit_code_2(capsys, arguments, message):
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert message in one_line(err)
    assert len(err) < 300


def test_what_is_not_installed_is_named():
    code = """
import sys
sys.modules.update(dict.fromkeys(sys.argv[1].split(","), None))
from seq2seq_fast.cli import main, plot
from seq2seq_fast.cli.measuring import Ratio
sys.exit(main(sys.argv[2:]))
"""

    def without(modules, *arguments):
        done = run(modules, *arguments, command=[sys.executable, "-c", code])
        assert (done.returncode, done.stdout) == (2, "")
        return one_line(done.stderr)

    for missing, extra in (("sentencepiece", "text"), ("sentencex", "text")):
        error = without(missing, "translate", "a")
        assert f"{missing} is needed for this" in error
        assert f'pip install "seq2seq_fast[{extra}]"' in error
    plot = 'pip install "seq2seq_fast[plot]"'
    for drawing in (["bench", "--plot", "x.png"], ["translate", "a", "--attention", "x.png"]):
        assert plot in without("matplotlib,matplotlib.figure", *drawing)


def test_a_bad_environment():
    done = run("info", env={**os.environ, "SEQ2SEQ_FAST_BACKEND": "gpu"})
    assert done.returncode == 2
    assert one_line(done.stderr).startswith("SEQ2SEQ_FAST_BACKEND=gpu: backend must be")


# ---- streams ----

CLOSED = {"0": "<&-", "1": ">&-", "2": "2>&-"}
USES = {  # what is run: what it writes, and whether it reads standard input
    ("--help",): ("usage: seq2seq-fast", False),
    ("info",): ("version ", False),
    ("fingerprint",): ("72b097bf51c084b4", False),
    ("translate", "Yes"): ("YES\n", False),
    ("translate",): ("", True),
    ("transcribe", __file__): ("Yes, <I> &", False),
}


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="a shell closes the streams")
@pytest.mark.parametrize("arguments", USES, ids=" ".join)
def test_closed_streams(arguments):
    """Every combination of them: an error if the command needs one, in one line on standard error
    and nowhere else."""
    wanted, reads = USES[arguments]
    fake = arguments[0] in ("translate", "transcribe")
    command = [*(fake_models.COMMAND if fake else COMMAND), *arguments]
    combinations = [c for n in (1, 2, 3) for c in itertools.combinations(CLOSED, n)]
    running = [
        subprocess.Popen(
            ["sh", "-c", 'exec "$@" ' + " ".join(CLOSED[c] for c in closed), "sh", *command],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            cwd=ELSEWHERE,
        )
        for closed in combinations
    ]  # fmt: skip
    for closed, process in zip(combinations, running, strict=True):
        out, err = process.communicate(timeout=120)
        bad = next((name for number, name, used in (("1", "output", True), ("0", "input", reads))
                    if number in closed and used), None)  # fmt: skip
        if bad is None:
            assert (process.returncode, err) == (0, ""), closed
            assert out.startswith(wanted)
            continue
        assert (process.returncode, out) == (2, ""), closed
        if "2" not in closed:
            assert one_line(err) == f"standard {bad} is closed"


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no device that is full")
@pytest.mark.parametrize("arguments", [("--help",), ("info",), ("translate", "Yes")], ids=" ".join)
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_output_that_is_full(arguments, unbuffered):
    with open("/dev/full", "w") as full:
        process = subprocess.run(
            [sys.executable, fake_models.__file__, *arguments], input="", stdout=full,
            stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
        )  # fmt: skip
    assert process.returncode == 2
    assert one_line(process.stderr) == "standard output: No space left on device"


def test_a_reader_that_leaves():
    process = subprocess.Popen(
        [*fake_models.COMMAND, "translate"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, bufsize=0,
    )  # fmt: skip
    process.stdin.write(b"Yes\n")
    assert process.stdout.read(4) == b"YES\n"
    process.stdout.close()
    process.stdin.write(b"Yes\n")
    assert process.wait(60) == 0
    assert process.stderr.read() == b""


# ---- signals ----


@pytest.mark.parametrize(
    "module", ["argparse", "numpy", "seq2seq_fast.text.translator", "sentencepiece"]
)
def test_ctrl_c_during_imports(module):
    code = f"""
import os, signal, sys
class Interrupt:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Interrupt())
from seq2seq_fast.cli import main
sys.exit(main())
"""
    done = run(
        "translate", "Yes", command=[sys.executable, "-c", code],
        # A background job of a shell starts with Ctrl-C ignored; this one must not.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


def test_nothing_slow_is_imported_before_the_signals_are_set_up():
    code = """
import sys
before = {*sys.modules}
import seq2seq_fast.cli
print(*sorted({name.partition(".")[0] for name in {*sys.modules} - before}))
"""
    done = run(command=[sys.executable, "-c", code])
    assert "seq2seq_fast" in done.stdout.split()
    assert not {"numpy", "cffi", "argparse"} & {*done.stdout.split()}


@pytest.mark.parametrize(("number", "code"), [("SIGINT", 130), ("SIGTERM", 143), ("SIGHUP", 129)])
def test_signals_while_nothing_happens(number, code):
    process = subprocess.Popen(
        [*fake_models.COMMAND, "translate"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True, env={**os.environ, fake_models.PAUSE: "1"},
        # Whatever started the tests may ignore it.
        preexec_fn=lambda: signal.signal(getattr(signal, number), signal.SIG_DFL),
    )  # fmt: skip
    process.stdin.write("Yes\nNo\n")
    process.stdin.flush()
    assert process.stderr.readline() == "ready\n"
    process.send_signal(getattr(signal, number))
    assert process.wait(30) == code
    assert (process.stdout.read(), process.stderr.read()) == ("YES\n", "")


def test_a_signal_that_is_ignored_stays_ignored():
    """As nohup has it."""
    process = subprocess.Popen(
        [*fake_models.COMMAND, "translate"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        bufsize=0, preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN),
    )  # fmt: skip
    process.stdin.write(b"Yes\n")
    assert process.stdout.read(4) == b"YES\n"
    process.send_signal(signal.SIGHUP)
    process.stdin.write(b"No\n")
    process.stdin.close()
    assert process.stdout.read() == b"NO\n"
    assert process.wait(30) == 0


# ---- small commands ----


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
    for name in (str(tmp_path), str(tmp_path / "x.doc"), str(tmp_path / "no" / "x.png")):
        assert main(["bench", "--plot", name]) == 2
        out, err = capsys.readouterr()
        assert out == ""  # told before the work
        assert name.rpartition("/x.png")[0] in one_line(err) or name in one_line(err)


def test_bench_picture():
    """The ratio to the fastest peer is written beside each shape that has one."""
    rows = [
        ("1, 8", {"blas": Ratio(3, 2.9, 3.1), "torch": Ratio(0.5, 0.4, 0.6)}),
        ("2, 8", {}),
        ("3, 8", {"blas": Ratio(1.25, 1.2, 1.3)}),
    ]
    svg = io.BytesIO()
    plot.benchmark(rows, svg, "svg")
    texts = re.findall("<!-- (.*?) -->", svg.getvalue().decode())
    assert [text for text in texts if re.fullmatch(r"\d\.\d\d", text)] == ["0.50", "1.25"]
    assert {"1, 8", "3, 8", "blas", "torch"} <= {*texts}
    assert "2, 8" not in texts


def test_convert(tmp_path, capsys, monkeypatch):
    calls = []
    module = types.ModuleType("seq2seq_fast.models.convert")
    module.convert = lambda source, target, *, weights: calls.append((source, target, weights))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    source, target = str(tmp_path), str(tmp_path / "new")
    assert main(["convert", source, target, "--weights", "int8"]) == 0
    assert main(["convert", source, target]) == 0
    assert calls == [(source, target, "int8"), (source, target, None)]
    (tmp_path / "link").symlink_to(tmp_path)
    assert main(["convert", source, str(tmp_path / "link")]) == 2
    assert "link: is the input, too" in one_line(capsys.readouterr().err)
    assert len(calls) == 2
