"""Transcripts as text, SRT, WebVTT, tables and JSON: read back by small readers of the formats."""

from __future__ import annotations

import dataclasses
import html
import json
import re
from types import SimpleNamespace

import pytest
from fake_models import SEGMENTS
from hypothesis import given
from hypothesis import strategies as st

from seq2seq_fast.speech.subtitles import FORMATS, Layout, writer
from seq2seq_fast.speech.transcript import Segment, Word

UNKNOWN = SimpleNamespace(language=None, language_probability=None, duration=None)
KNOWN = SimpleNamespace(language="en", language_probability=0.75, duration=3662.5)


def written(segments, format, layout=None, spoken=KNOWN):
    one = writer(format, spoken, layout)
    return "".join([*map(one.segment, segments), one.end()])


def cues(text, format):
    """Start, end and lines of each cue, as players read them: a blank line ends a cue."""
    parts = list(filter(None, re.split(r"\n\n+", text.strip("\n"))))
    if format == "vtt":
        assert parts.pop(0) == "WEBVTT"
    found = []
    for number, part in enumerate(parts, 1):
        lines = part.split("\n")
        if format == "srt":
            assert lines.pop(0) == str(number)
        times = re.findall(r"(\d\d+):(\d\d):(\d\d)[.,](\d\d\d)", lines.pop(0))
        start, end = (
            int(h) * 3_600_000 + int(m) * 60_000 + int(s) * 1000 + int(t) for h, m, s, t in times
        )
        found.append((start, end, lines))
    return found


def test_formats():
    assert written(SEGMENTS, "txt") == "Yes, <I> & you --> here.\n日本\n"
    assert written(SEGMENTS, "srt") == (
        "1\n00:00:00,000 --> 00:00:01,500\nYes, <I> & you -> here.\n\n"
        "2\n01:01:01,250 --> 01:01:02,000\n日本\n\n"
    )
    assert written(SEGMENTS, "vtt") == (
        "WEBVTT\n"
        "\n00:00:00.000 --> 00:00:01.500\nYes, &lt;I&gt; &amp; you --&gt; here.\n"
        "\n01:01:01.250 --> 01:01:02.000\n日本\n"
    )
    assert written(SEGMENTS, "tsv") == (
        "start\tend\ttext\n0\t1500\tYes, <I> & you --> here.\n3661250\t3662000\t日本\n"
    )
    assert json.loads(written(SEGMENTS, "json")) == {
        "language": "en",
        "language_probability": 0.75,
        "segments": [dataclasses.asdict(segment) for segment in SEGMENTS],
        "duration": 3662.5,
    }


def test_long_arrows_are_no_times():
    segment = dataclasses.replace(SEGMENTS[0], text="a ----> b")
    assert cues(written([segment], "srt"), "srt")[0][2] == ["a -> b"]


def test_nothing_said():
    assert [written([], name) for name in ("txt", "srt", "vtt", "tsv")] == [
        "", "", "WEBVTT\n", "start\tend\ttext\n"
    ]  # fmt: skip
    assert json.loads(written([], "json", spoken=UNKNOWN)) == {
        "language": None, "language_probability": None, "segments": [], "duration": None
    }  # fmt: skip


def test_json_is_whole_after_any_segment():
    for count in range(3):
        one = writer("json", KNOWN)
        text = "".join(map(one.segment, SEGMENTS[:count])) + one.end()
        assert len(json.loads(text)["segments"]) == count


TEXT = st.text(st.sampled_from("ab <>&-\t\n\r\f\v\x1c\x85\u2028'é日"), max_size=30)
TIMES = st.floats(0, 400_000)


@given(st.lists(st.tuples(TIMES, TIMES, TEXT.filter(str.strip)), max_size=4))
def test_whatever_a_text_holds_a_segment_is_a_cue_and_a_line(parts):
    """Blank lines, arrows, marks of markup, ends of lines of every kind."""
    segments = [Segment(min(a, b), max(a, b), text, [], [], 0.0, 0.0, 0.0) for a, b, text in parts]
    for format in ("srt", "vtt"):
        found = cues(written(segments, format), format)
        assert len(found) == len(segments)
        for (start, end, lines), segment in zip(found, segments, strict=True):
            assert start < end and abs(start - 1000 * segment.start) <= 0.5
            text = "\n".join(lines)
            assert "-->" not in text
            if format == "vtt":
                assert not set("<>") & set(text)
                assert html.unescape(text).split() == segment.text.split()
    assert written(segments, "txt").count("\n") == len(segments)
    for line in written(segments, "tsv").split("\n")[1:-1]:
        assert line.count("\t") == 2
    segments_read = json.loads(written(segments, "json"))["segments"]
    assert [one["text"] for one in segments_read] == [one.text for one in segments]


WORDS = [Word(f" {'x' * n}", 0.5 * i, 0.5 * i + 0.4, 1.0) for i, n in enumerate((3, 9, 2, 4, 1))]
SENTENCE = Segment(0.0, 3.0, "".join(w.text for w in WORDS), WORDS, [], 0.0, 0.0, 0.0)


@pytest.mark.parametrize(
    ("layout", "want"),
    [
        (Layout(line_width=7), [["xxx", "xxxxxxxxx", "xx xxxx", "x"]]),
        (Layout(line_width=7, line_count=2), [["xxx", "xxxxxxxxx"], ["xx xxxx", "x"]]),
        (Layout(line_words=2), [["xxx xxxxxxxxx"], ["xx xxxx"], ["x"]]),
        (Layout(line_words=2, line_count=2), [["xxx xxxxxxxxx", "xx xxxx"], ["x"]]),
        (Layout(line_count=1), [["xxx xxxxxxxxx xx xxxx x"]]),
        (Layout(), [["xxx xxxxxxxxx xx xxxx x"]]),
    ],
)
def test_layout(layout, want):
    for format in ("srt", "vtt"):
        found = cues(written([SENTENCE], format, layout), format)
        assert [lines for _, _, lines in found] == want


@given(
    st.lists(st.integers(1, 12), min_size=1, max_size=12),
    st.none() | st.integers(1, 14), st.none() | st.integers(1, 3), st.none() | st.integers(1, 4),
)  # fmt: skip
def test_layout_keeps_words_and_limits(lengths, width, count, most):
    words = [Word(f" {'x' * n}", float(i), i + 0.5, 1.0) for i, n in enumerate(lengths)]
    segment = Segment(0.0, 99.0, "".join(w.text for w in words), words, [], 0.0, 0.0, 0.0)
    layout = Layout(width, count, most)
    found = cues(written([segment], "srt", layout), "srt")
    read = [word for _, _, lines in found for line in lines for word in line.split(" ")]
    assert [len(word) for word in read] == lengths
    at = 0
    for start, end, lines in found:
        assert count is None or len(lines) <= count
        in_cue = 0
        for line in lines:
            in_line = line.split(" ")
            assert width is None or len(line) <= width or len(in_line) == 1
            assert most is None or len(in_line) <= most
            in_cue += len(in_line)
        if layout != Layout():  # a cue lasts from its first word to its last
            assert (start, end) == (1000 * at, 1000 * (at + in_cue) - 500)
        at += in_cue


def test_highlighted_words():
    found = cues(written(SEGMENTS[:1], "vtt", Layout(highlight=True)), "vtt")
    texts = [html.unescape(lines[0]) for _, _, lines in found]
    assert texts[0] == "<u>Yes,</u> <I> & you --> here."
    assert texts[4] == "Yes, <I> & you <u>--></u> here."
    # A word is underlined until the next one is said.
    assert [(start, end) for start, end, _ in found][3:] == [
        (800, 1000),
        (1000, 1200),
        (1200, 1500),
    ]
    (lines,) = {tuple(lines) for _, _, lines in cues(written(SEGMENTS[1:], "srt"), "srt")}
    assert lines == ("日本",)


def test_layout_of_segments_without_words():
    segment = dataclasses.replace(SENTENCE, words=[])
    assert written([segment], "srt", Layout(line_width=4)) == written([SENTENCE], "srt")


def test_bad_layouts():
    for name in ("line_width", "line_count", "line_words"):
        with pytest.raises(ValueError, match=f"{name} must be at least 1; got 0"):
            Layout(**{name: 0})


def test_every_format_is_tested():
    assert {*FORMATS} == {"txt", "srt", "vtt", "tsv", "json"}
