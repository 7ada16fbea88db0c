"""What of a text arrives as it was: characters that a model does not know, addresses, paths,
placeholders, numbers.

A model is given a stand-in for it, such as "X1", which models copy, and what it stands for is put
back into the translation. Where that fails, too, the text is cut around it.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable
from typing import NamedTuple

Unknown = Callable[[str], bool]  # whether a model knows no token for a text

# What may hold spaces. All are bounded, so that a search is linear in the text.
MARKUP = re.compile(
    r"`[^`\n]{1,200}`"  # code
    r"|\{{1,2}[^{}\n]{0,100}\}{1,2}|\$\{[^{}\n]{1,100}\}"  # {name}, {{ name }}, ${name}
    r"|%\(\w{1,100}\)[sdifgr]|%[sdifgr]\b|%\d{1,2}\b"  # %(name)s, %s, %1
    r"|</?[A-Za-z][^<>\n]{0,200}>"  # tags
)
WORD = re.compile(r"\S+")
OPENING, CLOSING = "([\"'\u201c\u2018\u00ab", ".,;:!?)]\"'\u201d\u2019\u00bb\u2026"
NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
ORDINAL = re.compile(r"\d+(?:st|nd|rd|th|am|pm)\b", re.IGNORECASE)
ADDRESS_MARK = re.compile(r"[@/._:]")  # every address has one, and few other words do
ADDRESS = re.compile(
    r"[^@\s]+@[\w-]+(\.[\w-]+)+\Z"  # mail
    r"|[A-Za-z][A-Za-z0-9+.-]{0,20}://.|www\.."
    r"|(~|\.{1,2})?/\w|[A-Za-z]:[\\/]"  # paths
    r"|(?!.{100})[\w-]+(\.[\w-]+)*\.[a-z]{2,6}\Z"  # a file or a host
    r"|\w*[^\W_]_[^\W_]\w*\Z"  # an identifier
)
MAX_WORD = 1000  # characters; a longer word is none that anybody would put into another order

# Marks that many vocabularies lack, and the plain ones that they have instead.
PLAIN = {
    **dict.fromkeys("\u201c\u201d\u201e\u201f\u00ab\u00bb", '"'),
    **dict.fromkeys("\u2018\u2019\u201a\u2039\u203a", "'"),
    **dict.fromkeys("\u2012\u2013\u2014\u2015", "-"),
}


class Copy(NamedTuple):
    """What a stand-in stands for, and whether it had no space before and after it."""

    text: str
    joins_left: bool
    joins_right: bool


class Masked(NamedTuple):
    """A text with stand-ins, and what they stand for."""

    text: str
    copies: dict[str, Copy]

    def source(self, text: str | None = None) -> str:
        """The text, or some of it, with what the stand-ins stand for."""
        text = self.text if text is None else text
        for stand_in, copy in self.copies.items():
            before, after = (" " * joins for joins in copy[1:])
            there = re.compile(rf"{before}\b{stand_in}(?!\d){after}")
            text = there.sub(copy.text.replace("\\", r"\\"), text)
        return text

    def restored(self, translation: str) -> str | None:
        """A translation with what the stand-ins stand for; None if one is missing, or is there
        twice."""
        for stand_in, copy in self.copies.items():
            before, after = (" ?" if joins else "" for joins in copy[1:])
            found = list(re.finditer(rf"{before}\b{stand_in}(?!\d){after}", translation))
            if len(found) != 1:
                return None
            begin, end = found[0].span()
            translation = translation[:begin] + copy.text + translation[end:]
        return translation

    def cut(self, parts: Iterable[str]) -> list[Masked]:
        """Parts of the text, each with those of the stand-ins that are in it."""
        return [
            Masked(
                part,
                {
                    name: copy
                    for name, copy in self.copies.items()
                    if re.search(rf"\b{name}(?!\d)", part)
                },
            )
            for part in parts
        ]


def spans(text: str, unknown: Unknown) -> list[tuple[int, int, bool]]:
    """What must arrive as it is: (start, end, whether it holds what the model does not know),
    rising."""
    found = []
    at = 0
    for match in [*MARKUP.finditer(text), None]:
        begin = match.start() if match else len(text)
        for word in WORD.finditer(text, at, begin):
            start, end = _core(text, word.start(), word.end())
            if end > start:
                strange = unknown(text[start:end])
                if strange or _is_address(text[start:end]):
                    found.append((start, end, strange))
        if match:
            found.append((*match.span(), unknown(match.group())))
            at = match.end()
    return found


def numbers(text: str, translation: str) -> bool:
    """Whether all numbers of a text are in its translation, and none more often than there. Their
    digits count: points and commas are a language's own."""

    def digits(text: str) -> Counter[str]:
        return Counter(re.sub("[.,]", "", number) for number in NUMBER.findall(text))

    want, have = digits(ORDINAL.sub("", text)), digits(translation)
    return all(count <= have[number] for number, count in want.items()) and all(
        have[number] <= count for number, count in digits(text).items()
    )


def number_spans(text: str) -> list[tuple[int, int]]:
    """The words that hold numbers."""
    found = []
    for word in WORD.finditer(text):
        start, end = _core(text, word.start(), word.end())
        if NUMBER.search(text, start, end) and not ORDINAL.search(text, start, end):
            found.append((start, end))
    return found


def mask(text: str, places: Iterable[tuple[int, int]], taken: str = "") -> Masked:
    """Stand-ins for places of a text, which do not overlap; neighbours have one together.

    `taken` is a text that must not hold a stand-in, either.
    """
    joined: list[tuple[int, int]] = []
    for start, end in sorted(places):
        if joined and text[joined[-1][1] : start] in ("", " "):
            joined[-1] = (joined[-1][0], end)
        else:
            joined.append((start, end))
    number = 0
    copies: dict[str, Copy] = {}
    out, at = "", 0
    for start, end in joined:
        number += 1
        while f"X{number}" in text or f"X{number}" in taken:
            number += 1
        left = start > 0 and text[start - 1].isalnum()
        right = end < len(text) and text[end].isalnum()
        copies[f"X{number}"] = Copy(text[start:end], left, right)
        out += text[at:start] + " " * left + f"X{number}" + " " * right
        at = end
    return Masked(out + text[at:], copies)


def is_strange(character: str) -> bool:
    """Whether a tokenizer makes another number or sign of a character: a power, a fraction."""
    return (
        unicodedata.category(character) in ("No", "So")
        and unicodedata.normalize("NFKC", character) != character
    )


def plain_marks(text: str, unknown: Unknown) -> str:
    """A text with plain quotation marks and dashes where the model does not know those there."""
    for mark in {*text} & PLAIN.keys():
        if unknown(mark):
            if PLAIN[mark] == "-":  # between words it stands alone; within numbers it is a sign
                text = re.sub(rf"(?<=[^\W\d]){mark}(?=[^\W\d])", " - ", text)
                text = re.sub(rf"(?<= ){mark}(?= )", "-", text)
            else:
                text = text.replace(mark, PLAIN[mark])
    return text


def marks_of(source: str, translation: str) -> str:
    """A translation with the source's own quotation marks and dashes, where it has as many."""
    for plain, pattern, there in (
        ('"', '["\u201c\u201d\u201e\u201f\u00ab\u00bb]', '"'),
        ("'", "['\u2018\u2019\u201a\u2039\u203a]", "'"),
        ("-", " [\u2012-\u2015-] |(?<=[^\\W\\d])[\u2012-\u2015](?=[^\\W\\d])", " - "),
    ):
        marks = re.findall(pattern, source)
        if any(mark.strip() != plain for mark in marks) and len(marks) == translation.count(there):
            pieces = translation.split(there)
            translation = pieces[0] + "".join(
                mark + piece for mark, piece in zip(marks, pieces[1:], strict=True)
            )
    return translation


def _core(text: str, start: int, end: int) -> tuple[int, int]:
    """A word without the marks around it."""
    while start < end and text[start] in OPENING:
        start += 1
    while end > start and text[end - 1] in CLOSING:
        end -= 1
    return start, end


def _is_address(word: str) -> bool:
    """Of mail or the web, a path, a file's name, an identifier."""
    return (
        len(word) <= MAX_WORD
        and ADDRESS_MARK.search(word) is not None
        and (word.count("/") > 1 or ADDRESS.match(word) is not None)
    )
