"""Runs the command line in a process of its own, for tests."""

from __future__ import annotations

import subprocess
import sys
import tempfile

ELSEWHERE = tempfile.gettempdir()  # where `import seq2seq_fast` finds what is installed
COMMAND = [sys.executable, "-m", "seq2seq_fast.cli"]


def run(*arguments, command=COMMAND, **options):
    return subprocess.run(
        [*command, *arguments], capture_output=True, timeout=120, cwd=ELSEWHERE,
        **{"text": True, "encoding": "utf-8", **options},
    )  # fmt: skip


def one_line(error):
    """What follows "error: " in the only line of standard error."""
    assert error.count("\n") == 1
    assert error.startswith("seq2seq-fast: error: ")
    return error.removeprefix("seq2seq-fast: error: ").rstrip("\n")
