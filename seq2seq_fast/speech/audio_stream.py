"""A binary file as decoders are given it: whole, able to seek, with lengths that are true.

Decoders read it from C, where no error can be raised, and go back and forth in it. Headers of WAV,
AIFF and AU say how long the samples are, which a recorder that was killed, or that wrote to a pipe,
could not note.
"""

from __future__ import annotations

import io
import shutil
import struct
import tempfile
import weakref
from collections.abc import Iterator
from typing import Any

__all__ = ["Stream", "true_lengths"]

IN_MEMORY = 1 << 25  # bytes of a pipe; what is more lies in a temporary file
UNKNOWN = (0, 0xFFFFFFFF)  # what writers that cannot go back say of a length


class Stream:
    """What a binary file has from where it stands on.

    Parameters
    ----------
    file : binary file
        Read to its end at once if it cannot seek.
    name : str
        For messages.
    ours : bool
        Whether the file is to be closed.

    Raises
    ------
    TypeError
        The file is in text mode.
    ValueError
        It is closed. Also from look() and check(): it could not be read.
    """

    def __init__(self, file: Any, name: str, ours: bool) -> None:
        self.name = name
        self.replaced: dict[int, bytes] = {}
        self.at = 0
        self._error: BaseException | None = None
        try:
            if isinstance(file.read(0), str):
                raise TypeError(f"{name}: a text file; open it in binary mode (sys.stdin.buffer)")
            if not (hasattr(file, "seekable") and file.seekable()):  # decoders go back and forth
                spool = tempfile.SpooledTemporaryFile(IN_MEMORY)  # noqa: SIM115
                shutil.copyfileobj(file, spool)
                if ours:
                    file.close()
                file, ours = spool, True
                file.seek(0)
            self.start = file.tell()
            file.seek(0, io.SEEK_END)
            self.size = file.tell() - self.start
        except ValueError as error:  # closed
            raise ValueError(f"{name}: cannot be read: {error}") from None
        self.file = file
        if ours:
            weakref.finalize(self, file.close)

    def read(self, count: int) -> bytes:
        data = b""
        try:
            self.file.seek(self.start + self.at)
            while len(data) < count and (more := self.file.read(count - len(data))):
                data += more
        except BaseException as error:  # Ctrl-C among them
            self._error = error
            return b""
        for offset, new in self.replaced.items():
            begin = offset - self.at
            if -len(new) < begin < len(data):
                kept = new[max(0, -begin) : len(data) - begin]
                begin = max(0, begin)
                data = data[:begin] + kept + data[begin + len(kept) :]
        self.at += len(data)
        return data

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        to = offset + (0, self.at, self.size)[whence]
        if to >= 0:
            self.at = to
        return self.at

    def tell(self) -> int:
        return self.at

    def look(self, offset: int, count: int) -> bytes:
        """Bytes from anywhere, as far as there are so many."""
        self.at = offset
        data = self.read(count)
        self.check()
        self.at = 0
        return data

    def check(self) -> None:
        error, self._error = self._error, None
        if isinstance(error, Exception):
            raise ValueError(f"{self.name}: cannot be read: {error}") from error
        if error is not None:
            raise error


def true_lengths(stream: Stream) -> dict[int, bytes]:
    """What to replace in the head of a file whose writer could not go back to note its length (it
    was killed, or wrote to a pipe), so that libsndfile reads all there is: bytes by offset."""
    head = stream.look(0, 36)
    kind, form = head[:4], head[8:12]
    if kind in (b"RIFF", b"RIFX", b"RF64") and form == b"WAVE":
        order = ">" if kind == b"RIFX" else "<"
        for name, at, size in _chunks(stream, 12, order):
            if name == b"data":
                if kind == b"RF64" and head[12:16] == b"ds64" and size == 0xFFFFFFFF:
                    (size,) = struct.unpack("<Q", head[28:36])
                if _is_unknown(stream, at, size, order):
                    # What libsndfile takes for a file that was not closed.
                    new = b"RIFX" if kind == b"RIFX" else b"RIFF"
                    return {0: new + struct.pack(order + "I", 8), at + 4: bytes(4)}
                break
    elif kind == b"FORM" and form in (b"AIFF", b"AIFC"):
        for name, at, size in _chunks(stream, 12, ">"):
            if name == b"SSND":
                # The samples follow eight bytes more.
                return {at + 4: bytes(4)} if _is_unknown(stream, at + 8, size - 8, ">") else {}
    elif kind == b".snd" and head[8:12] == bytes(4):
        return {8: b"\xff" * 4}
    return {}


def _chunks(stream: Stream, at: int, order: str) -> Iterator[tuple[bytes, int, int]]:
    """The first chunks of a file: their names, where they begin, how long they say they are."""
    for _ in range(64):
        head = stream.look(at, 8)
        if len(head) < 8 or not head[:4].isascii() or not head[:4].decode().isprintable():
            return
        (size,) = struct.unpack(order + "I", head[4:])
        yield head[:4], at, size
        at += 8 + size + size % 2


def _is_unknown(stream: Stream, at: int, size: int, order: str) -> bool:
    """Whether a chunk of samples is longer than it says: more follows, which are no chunks."""
    begin = at + 8
    if size not in UNKNOWN:
        return size > stream.size - begin
    end = begin
    for _, at, size in _chunks(stream, begin, order):
        end = at + 8 + size + size % 2
    return end < stream.size
