"""A transcript as text, SubRip (SRT), WebVTT, tab-separated values or JSON, segment by segment."""

from __future__ import annotations

import dataclasses
import html
import json
import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from .transcript import Segment, Word

__all__ = ["FORMATS", "Layout", "Writer", "writer"]


class Spoken(Protocol):
    """What is known of the whole, by and by: None until it is. Transcriber.stream() gives one."""

    @property
    def language(self) -> str | None: ...
    @property
    def language_probability(self) -> float | None: ...
    @property
    def duration(self) -> float | None: ...


@dataclasses.dataclass(frozen=True)
class Layout:
    """How subtitles are cut into lines and cues: by words, if any of this is given. No cue holds
    words of two segments.

    Parameters
    ----------
    line_width : int, optional
        Characters of a line. A word that is longer has a line of its own.
    line_count : int, optional
        Lines of a cue. Left out, it is 1 if `line_words` is given, else any number.
    line_words : int, optional
        Words of a line.
    highlight : bool
        Show a cue once for each of its words, which is underlined.

    Raises
    ------
    ValueError
        A limit is less than 1.
    """

    line_width: int | None = None
    line_count: int | None = None
    line_words: int | None = None
    highlight: bool = False

    def __post_init__(self) -> None:
        for name in ("line_width", "line_count", "line_words"):
            limit = getattr(self, name)
            if limit is not None and limit < 1:
                raise ValueError(f"{name} must be at least 1; got {limit!r}")

    def cues(
        self, segment: Segment, escape: Callable[[str], str]
    ) -> Iterator[tuple[float, float, str]]:
        """The cues of a segment: start and end in seconds, lines of text."""
        if self == Layout() or not segment.words:
            yield segment.start, segment.end, escape(_without_blank_lines(segment.text))
            return
        lines = self._lines(segment.words)
        count = self.line_count or (1 if self.line_words else len(lines))
        for first in range(0, len(lines), count):
            cue = lines[first : first + count]
            words = [word for line in cue for word in line]
            if not self.highlight:
                yield words[0].start, words[-1].end, _text(cue, escape)
                continue
            ends = [*(word.start for word in words[1:]), words[-1].end]
            for word, end in zip(words, ends, strict=True):
                yield word.start, end, _text(cue, escape, underlined=word)

    def _lines(self, words: list[Word]) -> list[list[Word]]:
        lines: list[list[Word]] = []
        width = 0
        for word in words:
            wide = self.line_width is not None and width + len(word.text) > self.line_width
            if not lines or wide or len(lines[-1]) == self.line_words:
                lines.append([])
                width = len(word.text.lstrip()) - len(word.text)
            lines[-1].append(word)
            width += len(word.text)
        return lines


def _text(
    lines: list[list[Word]], escape: Callable[[str], str], underlined: Word | None = None
) -> str:
    def one(word: Word) -> str:
        text = " ".join(word.text.split())
        before = " " if word.text[:1].isspace() else ""
        return before + (f"<u>{escape(text)}</u>" if word is underlined else escape(text))

    return "\n".join("".join(map(one, line)).strip() for line in lines)


def _without_blank_lines(text: str) -> str:
    """A blank line would end the cue."""
    return "\n".join(line.strip() for line in text.splitlines() if line.strip())


class Writer:
    """Gives the parts of a file one after the other: one for each segment, then the end."""

    head = ""

    def __init__(self, spoken: Spoken, layout: Layout) -> None:
        self.spoken, self.layout = spoken, layout
        self.count = 0  # of the segments so far

    def segment(self, segment: Segment) -> str:
        """The part of the next segment."""
        self.count += 1
        return (self.head if self.count == 1 else "") + self._part(segment)

    def end(self) -> str:
        """What comes last, however many segments there were."""
        return "" if self.count else self.head

    def _part(self, segment: Segment) -> str:
        raise NotImplementedError


class _Text(Writer):
    """A line of text for each segment."""

    def _part(self, segment: Segment) -> str:
        return " ".join(_without_blank_lines(segment.text).split("\n")) + "\n"


class _Table(Writer):
    """Start and end in thousandths of a second, and the text, as OpenAI's whisper has them."""

    head = "start\tend\ttext\n"

    def _part(self, segment: Segment) -> str:
        text = " ".join(_without_blank_lines(segment.text).replace("\t", " ").split("\n"))
        return f"{round(1000 * segment.start)}\t{round(1000 * segment.end)}\t{text}\n"


class _SubRip(Writer):
    cues = 0

    def _part(self, segment: Segment) -> str:
        part = ""
        for start, end, text in self.layout.cues(segment, str):
            self.cues += 1
            text = re.sub("--+>", "->", text)  # in a line of text it would be read as times
            part += f"{self.cues}\n{_times(start, end, ',')}\n{text}\n\n"
        return part


class _WebVTT(Writer):
    """https://www.w3.org/TR/webvtt1/"""

    head = "WEBVTT\n"

    def _part(self, segment: Segment) -> str:
        return "".join(
            f"\n{_times(start, end, '.')}\n{text}\n"
            for start, end, text in self.layout.cues(segment, _escape)
        )


def _escape(text: str) -> str:
    return html.escape(text, quote=False)


class _JSON(Writer):
    """An object: language and language_probability, as soon as they are known; segments, with all
    that a Segment has, a line for each; duration."""

    def segment(self, segment: Segment) -> str:
        self.count += 1
        text = json.dumps(dataclasses.asdict(segment), ensure_ascii=False)
        return (self._head() if self.count == 1 else ",\n") + text

    def end(self) -> str:
        before = "\n" if self.count else self._head()
        return f'{before}], "duration": {json.dumps(self.spoken.duration)}}}\n'

    def _head(self) -> str:
        known = {
            "language": self.spoken.language,
            "language_probability": self.spoken.language_probability,
        }
        return f'{json.dumps(known)[:-1]}, "segments": [\n'


_WRITERS = {"txt": _Text, "srt": _SubRip, "vtt": _WebVTT, "tsv": _Table, "json": _JSON}
FORMATS = tuple(_WRITERS)


def writer(format: str, spoken: Spoken, layout: Layout | None = None) -> Writer:
    """What writes a transcript.

    Parameters
    ----------
    format : {"txt", "srt", "vtt", "tsv", "json"}
        A line of text for each segment; SubRip; WebVTT; a table of start and end in thousandths of
        a second and text; a JSON object of language, language_probability, segments and duration.
    spoken : object
        Has the attributes language, language_probability and duration: the language is read at the
        first segment, the duration at the end.
    layout : Layout, optional
        Of the subtitles; a cue for each segment if left out.
    """
    return _WRITERS[format](spoken, layout or Layout())


def _times(start: float, end: float, point: str) -> str:
    """The first line of a cue, which lasts at least a thousandth of a second."""
    begin = round(start * 1000)
    return f"{_clock(begin, point)} --> {_clock(max(round(end * 1000), begin + 1), point)}"


def _clock(thousandths: int, point: str) -> str:
    """HH:MM:SS and thousandths."""
    minutes, thousandths = divmod(thousandths, 60_000)
    hours, minutes = divmod(minutes, 60)
    seconds, thousandths = divmod(thousandths, 1000)
    return f"{hours:02}:{minutes:02}:{seconds:02}{point}{thousandths:03}"
