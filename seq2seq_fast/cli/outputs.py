"""Output that cannot hurt: a file appears when it is complete, and is never one of the inputs.

What is written goes beside the file, into its folder, and is renamed at the end: until then
whatever was there before stays as it was. Of work that is stopped or fails, what was finished is
kept under a name that says so. Standard output, pipes and devices are written directly.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import re
import secrets
import stat
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from . import signals, streams

STANDARD = "-"
_OPEN_ALREADY = re.compile(r"/(?:dev|proc/self)/fd/([0-9]+)")
_NAMES = {STANDARD: 1, "/dev/stdout": 1, "/dev/stderr": 2}

Write = Callable[[str | bytes], None]
"""Writes a part, whole: what was finished is the parts that were written."""


Files = frozenset[tuple[int, int]]
"""What files are, whatever their names: devices and numbers."""


def files_of(names: Iterable[str]) -> Files:
    """Which files names stand for; "-" is standard input.

    Raises
    ------
    OSError
        There is no such file.
    """
    found = [os.stat(0 if name == STANDARD else name) for name in names]
    return frozenset((one.st_dev, one.st_ino) for one in found)


class Target:
    """A place for output, checked before the work.

    Parameters
    ----------
    name : str
        Of a file; "-" for standard output.
    inputs : set
        What files_of() gives of the files that are read.

    Raises
    ------
    OSError
        It cannot be written.
    ValueError
        It is one of the inputs.
    """

    def __init__(self, name: str = STANDARD, inputs: Files = frozenset()) -> None:
        self.name = name
        found = _status(name)
        regular = found is not None and stat.S_ISREG(found.st_mode)
        self.descriptor = _descriptor(name, found)
        self.path: Path | None = None  # of the file that appears when it is complete
        self.old = found if regular else None
        if self.descriptor is None and (regular or found is None):
            self.path = Path(os.path.realpath(name))
            _check_folder(self.path.parent)
            if regular and not os.access(self.path, os.W_OK):
                raise PermissionError(errno.EACCES, "is not writable", name)
        if found is not None and regular and (found.st_dev, found.st_ino) in inputs:
            what = "standard output" if name == STANDARD else name
            raise ValueError(f"{what}: is the input, too; give the output another name")

    @property
    def is_terminal(self) -> bool:
        """Whether somebody sees what is written, and so how far the work is."""
        return self.descriptor == 1 and streams.standard_output().isatty()

    @contextlib.contextmanager
    def open(self, end: Callable[[], str] = str) -> Iterator[Write]:
        """The output, open in a `with` block.

        Parameters
        ----------
        end : callable
            Gives what is written last, also after work that is cut short.
        """
        with signals.careful(), contextlib.ExitStack() as stack:
            if self.path is not None:
                yield stack.enter_context(_Beside(self.path, self.name, self.old, end)).write
                return
            descriptor = self.descriptor
            if descriptor is None:  # a pipe or a device
                descriptor = os.open(self.name, os.O_WRONLY)
                stack.callback(os.close, descriptor)

            def write(part: str | bytes) -> None:
                with signals.held():
                    if descriptor == 1:
                        streams.write_output(part)
                    else:
                        _write(descriptor, _bytes(part), self.name)

            try:
                yield write
            finally:
                write(end())


class _Beside:
    """A file that is written beside the one whose place it takes."""

    def __init__(
        self, path: Path, name: str, old: os.stat_result | None, end: Callable[[], str]
    ) -> None:
        self.path, self.name, self.old, self.end = path, name, old, end
        self.size = 0  # of the parts that are whole
        self.temporary = path.with_name(f".seq2seq-fast-{secrets.token_hex(8)}.tmp")

    def __enter__(self) -> _Beside:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
        with signals.held():
            try:
                self.file = os.open(self.temporary, flags, 0o666)
            except OSError as error:
                raise OSError(error.errno, error.strerror, self.name) from None
            if self.old is not None:
                with contextlib.suppress(OSError, AttributeError):  # only root may give files away
                    os.chown(self.temporary, self.old.st_uid, self.old.st_gid)
                os.chmod(self.temporary, stat.S_IMODE(self.old.st_mode))
        return self

    def write(self, part: str | bytes) -> None:
        data = _bytes(part)
        with signals.held():
            _write(self.file, data, self.name)
            self.size += len(data)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with signals.held():
            failed: OSError | None = None
            try:
                self._close()
                if kind is None:
                    os.replace(self.temporary, self.path)
                    return
            except OSError as error:
                failed = error
            if self.size:
                streams.say(f"what was finished is in {_kept(self.temporary, self.path)}")
            else:
                self.temporary.unlink(missing_ok=True)
            if kind is None and failed is not None:
                raise OSError(failed.errno, failed.strerror, self.name)

    def _close(self) -> None:
        try:
            # A disk that is full may have taken the beginning of a part.
            os.ftruncate(self.file, self.size)
            os.lseek(self.file, self.size, os.SEEK_SET)
            _write(self.file, _bytes(self.end()), self.name)
            os.fsync(self.file)
        finally:
            os.close(self.file)


def _kept(temporary: Path, path: Path) -> Path:
    """Where the finished part of a file is kept: under a name that is free."""
    names = (f".partial{number}" for number in itertools.chain([""], itertools.count(2)))
    free = (path.with_name(path.stem + name + path.suffix) for name in names)
    try:
        return temporary.rename(next(kept for kept in free if not os.path.lexists(kept)))
    except OSError:  # the name is too long, say
        return temporary


def _bytes(part: str | bytes) -> bytes:
    return part if isinstance(part, bytes) else streams.encoded(part)


def _write(file: int, data: bytes, name: str) -> None:
    left = memoryview(data)
    try:
        while left:
            left = left[os.write(file, left) :]
    except OSError as error:
        raise OSError(error.errno, error.strerror, name) from None


def _status(name: str) -> os.stat_result | None:
    """Of what is there already."""
    if name == STANDARD:
        return streams.status_of_output()
    if not name or name.endswith(("/", os.sep)):
        raise ValueError(f"'{name}' is no name of a file")
    try:
        found = os.stat(name)
    except FileNotFoundError:
        return None
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(errno.EISDIR, "is a folder; give the name of a file", name)
    return found


def _descriptor(name: str, found: os.stat_result | None) -> int | None:
    """The number of an output that is open already: also of a file that is standard output."""
    match = _OPEN_ALREADY.fullmatch(name)
    number = int(match[1]) if match else _NAMES.get(name)
    if number == 1:
        streams.standard_output()  # it is open
    elif number is None and found is not None and stat.S_ISREG(found.st_mode):
        with contextlib.suppress(OSError):
            out = streams.status_of_output()
            return 1 if out is not None and os.path.samestat(found, out) else None
    return number


def _check_folder(folder: Path) -> None:
    if not folder.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, "is no folder", str(folder))
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, "the folder is not writable", str(folder))
