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
    if isinstance(sys.stderr, io.TextIOWrapper):
        sys.stderr.reconfigure(encoding="utf-8", errors="backslashreplace", newline="\n")


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


def write_output(text: str | bytes) -> None:
    """Write to standard output, now.

    Raises
    ------
    OSError
        It is closed or full, or nobody reads it. What Python still holds of it goes nowhere then,
        instead of failing once more when the process ends.
    """
    out = standard_output()
    left = memoryview(text if isinstance(text, bytes) else encoded(text))
    try:
        while left:
            left = left[out.buffer.write(left) :]
        out.buffer.flush()
    except OSError as error:
        with contextlib.suppress(OSError, ValueError):
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, out.fileno())
            os.close(null)
        raise OSError(error.errno, error.strerror, "standard output") from None


def encoded(text: str) -> bytes:
    """UTF-8, and bytes that are not as they came in."""
    return text.encode("utf-8", "surrogateescape")


def say(message: str) -> None:
    """A line on standard error, if anybody can read it."""
    with contextlib.suppress(OSError):
        print(f"{PROGRAM}: {readable(message)}", file=sys.stderr, flush=True)


def readable(message: str) -> str:
    """One line, in which bytes of names that are not UTF-8 appear as \\xff."""
    line = " ".join(message.split())
    try:
        return encoded(line).decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:  # half a surrogate pair in a name of Windows
        return line.encode("utf-8", "backslashreplace").decode()


def described(error: BaseException) -> str:
    """What an exception says, as a user reads it: file: what is wrong."""
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return f"{os.fsdecode(error.filename)}: {error.strerror}"
    return str(error) or type(error).__name__
