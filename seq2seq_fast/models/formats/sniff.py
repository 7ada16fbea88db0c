"""What a file is, by its first bytes: load() chooses a reader by it, and errors call a file what it
is, whatever its name says."""

from __future__ import annotations

import os
import re
import struct
from pathlib import Path

MARIAN = "a Marian model"
NPZ = "a NumPy archive (.npz)"
CTRANSLATE2 = "a CTranslate2 model"
SAFETENSORS = "a safetensors file"
TORCH = "a PyTorch checkpoint"
OLD_TORCH = "a PyTorch checkpoint of before version 1.6"
SHORTLIST = "a Marian shortlist"

CTRANSLATE2_VERSIONS = range(4, 7)
MAX_HEADER = 100_000_000  # bytes of a safetensors header, by the format
SHORTLIST_MAGIC = 0xF11A48D5013417F5
OLD_TORCH_MAGIC = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."  # a number, pickled

_MUCH = 512  # bytes that are looked at

_BEGINNINGS = {
    b"version https://git-lfs.": "a Git LFS pointer to a file that was not downloaded"
    " (git lfs pull fetches it)",
    b"\x1f\x8b": "compressed by gzip: unpack it first",
    b"BZh": "compressed by bzip2: unpack it first",
    b"\xfd7zXZ\0": "compressed by xz: unpack it first",
    b"\x28\xb5\x2f\xfd": "compressed by zstd: unpack it first",
    b"7z\xbc\xaf\x27\x1c": "a 7z archive: unpack it first",
    b"GGUF": "a GGUF model of llama.cpp",
    b"lmgg": "a GGML model of whisper.cpp",
    b"\x89HDF\r\n\x1a\n": "an HDF5 file",
    b"\x93NUMPY": "a single NumPy array (.npy)",
    b"%PDF": "a PDF document",
    b"RIFF": "a sound file",
    b"fLaC": "a sound file",
    b"OggS": "a sound file",
    b"ID3": "a sound file",
    struct.pack("<Q", SHORTLIST_MAGIC): SHORTLIST,
}


def kind(path: str | os.PathLike[str]) -> str:
    """What a file is, in words that can stand behind "this is".

    Raises
    ------
    OSError
        It cannot be read.
    """
    path = Path(path)
    if not path.is_file():  # reading a pipe would wait, and a folder's error says what it is
        path.stat()
        return "a folder" if path.is_dir() else "no file but a device or a pipe"
    with path.open("rb") as file:
        start = file.read(_MUCH)
    return _model(start) or _other(start)


def expect(path: str | os.PathLike[str], *expected: str) -> str:
    """The kind of a file, which must be one of the expected.

    Raises
    ------
    ValueError
        It is another one.
    OSError
        It cannot be read.
    """
    found = kind(path)
    if found not in expected:
        wanted = " or ".join(filter(None, (", ".join(expected[:-1]), expected[-1])))
        raise ValueError(f"{path}: expected {wanted}; this is {found}")
    return found


def _model(start: bytes) -> str | None:
    """One of the kinds that are read here, or a version of one that is not."""
    if start.startswith(b"PK\x03\x04") and len(start) >= 30:
        (length,) = struct.unpack_from("<H", start, 26)
        name = start[30 : 30 + length]  # of the archive's first file
        if name.endswith(b".npy"):
            return NPZ
        return TORCH if name.endswith(b"/data.pkl") else "a ZIP archive"
    if start.startswith(OLD_TORCH_MAGIC):
        return OLD_TORCH
    if len(start) < 9:
        return None
    (number,) = struct.unpack_from("<Q", start)
    if number == 1:
        return MARIAN
    if start[8:9] == b"{" and number <= MAX_HEADER:
        return SAFETENSORS
    version, length = struct.unpack_from("<IH", start)
    if re.fullmatch(rb"\w+\0", start[6 : 6 + length]) and version < 1 << 16:
        known = CTRANSLATE2_VERSIONS
        if version in known:
            return CTRANSLATE2
        return f"{CTRANSLATE2} of version {version}, read are {known[0]} to {known[-1]}"
    return None


def _other(start: bytes) -> str:
    """What cannot be read here."""
    if not start:
        return "an empty file"
    for beginning, words in _BEGINNINGS.items():
        if start.startswith(beginning):
            return words
    if re.match(rb"\x80[\2-\5]", start):
        return "a pickle"
    if start[:1] == b"\n" and b"<unk>" in start[:64]:
        return "a SentencePiece vocabulary"
    if start[257:262] == b"ustar":
        return "a tar archive: unpack it first"
    trimmed = start.removeprefix("\ufeff".encode()).lstrip()
    if re.match(rb"<(!doctype html|html|head|body)\b", trimmed, re.IGNORECASE):
        return "a web page (HTML)"
    if trimmed.startswith(b"<?xml"):
        return "an XML document"
    text = _text(start)
    if text is None:
        return f"of a kind that is not known: it begins with the bytes {start[:8].hex(' ')}"
    if trimmed[:1] in (b"{", b"["):
        return "JSON text"
    return f"text that begins {text.strip()[:40]!r}"


def _text(start: bytes) -> str | None:
    """The text that a file begins with; none if it does not look like text."""
    try:
        text = start.decode("utf-8")
    except UnicodeDecodeError as error:
        if error.start < len(start) - 3 or len(start) < _MUCH:  # not a character that is cut
            return None
        text = start[: error.start].decode("utf-8")
    readable = all(character.isprintable() or character in "\ufeff\t\r\n\f" for character in text)
    return text if readable else None
