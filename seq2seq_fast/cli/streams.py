"""The three standard streams: UTF-8 whatever the locale, "\\n" at the end of lines, and an error
that says so where one of them is closed or full."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from typing import BinaryIO, TextIO

PROGRAM = "seq2seq-fast"


class _Closed(io.TextIOBase):
    """In the place of a stream that was closed before the program began."""

    def write(self, text: str) -> int:
        raise OSError("standard output is closed")


def prepare() -> None:
    """Set up the streams that the process was given. In the place of a closed one is the null
    device, or the next file to be opened would get its number and what is meant for the stream."""
    for name, descriptor in (("stdin", 0), ("stdout", 1), ("stderr", 2)):
        stream = getattr(sys, name)
        if stream is None:
            with contextlib.suppress(OSError):
                os.fstat(descriptor)
                continue
            os.open(os.devnull, os.O_RDWR)
    if sys.stdin is None:
        sys.stdin = _Closed()
    if sys.stdout is None:
        sys.stdout = _Closed()
    if sys.stderr is None:
        sys.stderr = os.fdopen(os.open(os.devnull, os.O_WRONLY), "w", encoding="utf-8")
    for stream, errors in ((sys.stdout, "surrogateescape"), (sys.stderr, "backslashreplace")):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors=errors, newline="\n")


def standard_input() -> BinaryIO:
    """The bytes of standard input.

    Raises
    ------
    OSError
        It is closed.
    """
    if isinstance(sys.stdin, _Closed):
        raise OSError("standard input is closed")
    return sys.stdin.buffer


def standard_output() -> TextIO:
    """Standard output.

    Raises
    ------
    OSError
        It is closed.
    """
    if isinstance(sys.stdout, _Closed):
        raise OSError("standard output is closed")
    return sys.stdout


def status_of_output() -> os.stat_result | None:
    """Of what standard output is; None if it lies in memory.

    Raises
    ------
    OSError
        It is closed.
    """
    out = standard_output()
    try:
        return os.fstat(out.fileno())
    except io.UnsupportedOperation:
        return None


def write_output(data: bytes) -> None:
    """Write to standard output, now."""
    out = standard_output()
    out.flush()
    out.buffer.write(data)
    out.buffer.flush()


def say(message: str) -> None:
    """A line on standard error, if anybody can read it."""
    with contextlib.suppress(OSError):
        print(f"{PROGRAM}: {readable(message)}", file=sys.stderr, flush=True)


def readable(message: str) -> str:
    """One line, in which bytes of names that are not UTF-8 appear as \\xff."""
    data = " ".join(message.split()).encode("utf-8", "surrogateescape")
    return data.decode("utf-8", "backslashreplace")


def described(error: BaseException) -> str:
    """What an exception says, as a user reads it: file: what is wrong."""
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return f"{os.fsdecode(error.filename)}: {error.strerror}"
    return str(error) or type(error).__name__


def flush_output() -> None:
    """Write what Python still holds of standard output.

    Raises
    ------
    OSError
        Nobody reads it, or it is full. What is held then goes nowhere, instead of failing once more
        when the process ends.
    """
    try:
        sys.stdout.flush()
    except OSError as error:
        with contextlib.suppress(OSError, ValueError):
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, sys.stdout.fileno())
            os.close(null)
        raise OSError(error.errno, error.strerror, "standard output") from None
