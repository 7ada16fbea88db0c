"""A translator and a transcriber that are ready at once and say what a test expects: the command
line is tested with them, in the test's own process or, `python fake_models.py translate ...`, in
another."""

from __future__ import annotations

import os
import sys
import time
from types import SimpleNamespace

import seq2seq_fast.demo
import seq2seq_fast.speech.audio
import seq2seq_fast.speech.transcriber
import seq2seq_fast.text.translator
from seq2seq_fast.speech.transcript import Segment, Word

COMMAND = [sys.executable, __file__]
PAUSE = "FAKE_PAUSE"  # after so many results say "ready" on standard error, and then wait


def _pausing(results):
    after = int(os.environ.get(PAUSE, -1))
    for i, result in enumerate(results):
        if i == after:
            print("ready", file=sys.stderr, flush=True)
            time.sleep(60)
        yield result


class Translator:
    """Upper case; n of it, if the n best are wanted."""

    def __init__(self, path, **options):
        Translator.path, Translator.options = path, options
        Translator.pulled = 0

    def stream(self, texts, source_language=None, **options):
        Translator.call = {"source_language": source_language, **options}
        return _pausing(map(self._one, texts))

    def _one(self, text):
        Translator.pulled += 1
        best = [
            SimpleNamespace(text=text.upper() + "'" * i, score=-1.0 - i)
            for i in range(self.call.get("num_return_sequences", 1))
        ]
        return best if "num_return_sequences" in self.call else best[0]


SEGMENTS = [
    Segment(
        0.0, 1.5, " Yes, <I> & you --> here.",
        [Word(" Yes,", 0.0, 0.5, 0.9), Word(" <I>", 0.5, 0.7, 0.9), Word(" &", 0.7, 0.8, 0.9),
         Word(" you", 0.8, 1.0, 0.9), Word(" -->", 1.0, 1.1, 0.9), Word(" here.", 1.2, 1.5, 0.9)],
        [1], -0.5, 0.1, 0.0,
    ),
    Segment(3661.25, 3662.0, " 日本", [Word(" 日本", 3661.25, 3662.0, 0.5)], [2], -0.5, 0.1, 0.0),
]  # fmt: skip


class Stream:
    """What Transcriber.stream() gives."""

    def __init__(self, segments):
        self._segments = iter(segments)
        self.language = self.language_probability = self.duration = None

    def __iter__(self):
        return self

    def __next__(self):
        segment = next(self._segments)
        self.language, self.language_probability, self.duration = "en", 0.75, 3662.5
        return segment


class Recording:
    """Any bytes are a sound; those that begin with "bad" are none."""

    def __init__(self, audio):
        self.duration = 1.0
        data = audio.read() if hasattr(audio, "read") else audio.read_bytes()
        if data.startswith(b"bad"):
            raise ValueError(f"{audio}: not an audio file that can be read")


class Transcriber:
    """Always SEGMENTS."""

    def __init__(self, path, **options):
        Transcriber.options = options

    def stream(self, audio, language=None, **options):
        if language == "Klingon":
            raise ValueError("language must be one of en; got 'Klingon'")
        Transcriber.call = {"language": language, **options}
        return Stream(_pausing(SEGMENTS))


def install(set_attribute=setattr):
    """Put them where the command finds them; set_attribute may be a monkeypatch's."""
    set_attribute(seq2seq_fast.text.translator, "Translator", Translator)
    set_attribute(seq2seq_fast.speech.transcriber, "Transcriber", Transcriber)
    set_attribute(seq2seq_fast.demo, "find_speech_model", lambda: "fake")
    set_attribute(seq2seq_fast.speech.audio, "Recording", Recording)


if __name__ == "__main__":
    install()
    from seq2seq_fast.cli import main

    sys.exit(main())
