"""A transcript as text, SubRip (SRT), WebVTT or JSON: each segment as soon as it is there."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .transcribe import Segment

FORMATS = ("txt", "srt", "vtt", "json")


def written(segments: Iterable[Segment], format: str) -> Iterator[str]:
    """The parts of a file, one after the other.

    Parameters
    ----------
    segments : iterable of Segment
    format : {"txt", "srt", "vtt", "json"}
        A line of text for each segment; SubRip; WebVTT
        (https://www.w3.org/TR/webvtt1/); a JSON list of what a Segment has, a line for each.
    """
    if format == "vtt":
        yield "WEBVTT\n"
    if format != "json":
        for number, segment in enumerate(segments, 1):
            yield _cue(number, segment, format)
        return
    before, end = "[\n", "[]\n"
    try:
        for segment in segments:
            yield before + json.dumps(dataclasses.asdict(segment), ensure_ascii=False)
            before, end = ",\n", "\n]\n"
    except (Exception, KeyboardInterrupt):  # what there is by then is a list, too
        yield end
        raise
    yield end


def _cue(number: int, segment: Segment, format: str) -> str:
    text = segment.text.strip()
    if format == "txt":
        return f"{text}\n"
    if format == "srt":
        times = f"{_clock(segment.start, ',')} --> {_clock(segment.end, ',')}"
        return f"{number}\n{times}\n{_one_cue(text)}\n\n"
    times = f"{_clock(segment.start, '.')} --> {_clock(segment.end, '.')}"
    escaped = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return f"\n{times}\n{escaped}\n"


def _one_cue(text: str) -> str:
    """An arrow in a line would be read as times."""
    return text.replace("-->", "->")


def _clock(seconds: float, point: str) -> str:
    """HH:MM:SS and thousandths."""
    thousandths = round(seconds * 1000)
    minutes, thousandths = divmod(thousandths, 60_000)
    hours, minutes = divmod(minutes, 60)
    whole, thousandths = divmod(thousandths, 1000)
    return f"{hours:02}:{minutes:02}:{whole:02}{point}{thousandths:03}"
