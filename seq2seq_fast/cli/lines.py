"""Lines of text files and of standard input, in the groups in which they come.

A line ends at "\\n" and nowhere else; a "\\r" before it belongs to the end. What else parts lines
elsewhere (form feeds, U+2028 ...) is part of the text: as many lines go out as come in.
"""

from __future__ import annotations

import contextlib
import os
import queue
import stat
import threading
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from . import streams

GROUP_BYTES = 1 << 20  # of a file that are taken at a time
CHUNK_BYTES = 1 << 16  # of a pipe, at most
WAITING_CHUNKS = 16  # of a pipe that are read ahead


class Line(NamedTuple):
    text: str
    """What is not UTF-8 is lone surrogates, as Python's "surrogateescape" has them."""
    end: str
    """"\\n", or "" after the last line of a file that does not end with one."""


@contextlib.contextmanager
def grouped(files: list[str], *, keep: bool) -> Iterator[Iterator[list[Line]]]:
    """The lines of files in turn. From a pipe or a terminal a group is what came without a pause.

    Parameters
    ----------
    files : list of str
        Names; "-" is standard input. All are opened at first: a wrong name is an error before
        any work.
    keep : bool
        Let bytes through that are not UTF-8.

    Raises
    ------
    OSError
        A file cannot be opened; later, read.
    ValueError
        Later, after the lines before it: a line is not UTF-8. The message has its file and number.
    """
    with contextlib.ExitStack() as stack:
        opened = [
            ("standard input", streams.standard_input())
            if name == "-"
            else (name, stack.enter_context(open(name, "rb")))
            for name in files
        ]
        yield (group for name, file in opened for group in _decoded(name, file, keep))


def _decoded(name: str, file: BinaryIO, keep: bool) -> Iterator[list[Line]]:
    number, errors = 0, "surrogateescape" if keep else "strict"
    for group in _groups(name, file):
        lines: list[Line] = []
        for data in group:
            number += 1
            text = data.removesuffix(b"\n")
            end = "\n" if len(text) < len(data) else ""
            if end:
                text = text.removesuffix(b"\r")
            try:
                lines.append(Line(text.decode("utf-8", errors), end))
            except UnicodeDecodeError as error:
                yield lines
                raise ValueError(
                    f"{name}: line {number}: not UTF-8 text: byte 0x{text[error.start]:02x} at"
                    f" {error.start + 1} ({error.reason}); --errors keep lets such bytes through"
                ) from None
        yield lines


def _groups(name: str, file: BinaryIO) -> Iterator[list[bytes]]:
    try:
        descriptor = file.fileno()
    except OSError:  # it lies in memory
        return _of_file(file)
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return _of_file(file)
    return _of_pipe(name, descriptor)


def _of_file(file: BinaryIO) -> Iterator[list[bytes]]:
    while group := file.readlines(GROUP_BYTES):
        yield group


def _of_pipe(name: str, descriptor: int) -> Iterator[list[bytes]]:
    begun: list[bytes] = []  # of a line whose end has not come yet
    for data in _without_pause(name, descriptor):
        lines, newline, rest = data.rpartition(b"\n")
        if newline:
            yield [line + b"\n" for line in b"".join([*begun, lines]).split(b"\n")]
            begun = []
        begun.append(rest)
    if rest := b"".join(begun):
        yield [rest]


def _without_pause(name: str, descriptor: int) -> Iterator[bytes]:
    """What came since the last time. A thread reads ahead; os.read() takes no lock that the thread
    would hold while the process ends."""
    chunks: queue.Queue[bytes | OSError] = queue.Queue(WAITING_CHUNKS)

    def read() -> None:
        try:
            while data := os.read(descriptor, CHUNK_BYTES):
                chunks.put(data)
            chunks.put(b"")
        except OSError as error:
            chunks.put(OSError(error.errno, error.strerror, name))

    threading.Thread(target=read, name="reader", daemon=True).start()
    last: bytes | OSError | None = None
    while last != b"":
        came = []
        last = chunks.get()
        while isinstance(last, bytes) and last:
            came.append(last)
            if chunks.empty() or len(came) == WAITING_CHUNKS:
                break
            last = chunks.get()
        if came:
            yield b"".join(came)
        if isinstance(last, OSError):
            raise last
