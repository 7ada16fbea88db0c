"""When words begin where there are pauses: this package and faster-whisper, in turn.

apt-get install pocketsphinx-testdata
pip install ".[test]"
python benchmarks/word_times.py [--json FILE]

The truth is what faster-whisper finds in each of five recordings by itself, where there are no
pauses to be led astray by. They are joined with silence or white noise of 1 to 60 seconds between
them, and both engines write down the joined sound, with Whisper tiny.en, beam 5. Words are matched
in their order by their letters; of those that match, the share that begins within 0.3 s of the
truth, the same of all words of the truth, and how long the longest word is.
"""

from __future__ import annotations

import argparse
import difflib
import json
import sys
from pathlib import Path
from typing import NamedTuple

import faster_whisper
import numpy as np
import soundfile

from seq2seq_fast import Transcriber
from seq2seq_fast.cli.contestants import describe
from seq2seq_fast.demo import find_speech_model

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
import recordings

RATE = 16_000
NEAR = 0.3  # seconds
ORDERS = (((0, 1, 2, 3, 4), (1, 5, 12, 60)), ((4, 2, 0, 3, 1), (2, 30, 8, 20)),
          ((3, 1, 0, 4, 2), (12, 3, 45, 16)))  # fmt: skip
"""Recordings by their numbers, and the seconds between them."""
LEVELS = (0.0, 0.001, 0.01, 0.05)
"""Of the noise between them, as its root mean square; that of the speech is 0.06."""


class Spoken(NamedTuple):
    """A word, with letters and digits only, and its seconds."""

    text: str
    start: float
    end: float


def spoken(text: str, start: float, end: float) -> Spoken:
    return Spoken("".join(c for c in text.lower() if c.isalnum()), float(start), float(end))


def joined(sounds, order, pauses, level):
    """Samples, and where in them each recording begins, in seconds."""
    rng, parts, offsets, at = np.random.default_rng(0), [], [], 0
    for i, seconds in zip(order, (*pauses, 0), strict=True):
        offsets.append(at / RATE)
        noise = rng.standard_normal(seconds * RATE) * level
        parts += [sounds[i], noise.astype(np.float32)]
        at += len(sounds[i]) + len(noise)
    return np.concatenate(parts), offsets


def errors(truth: list[Spoken], found: list[Spoken]) -> list[float]:
    """How far off each word begins that both have."""
    matcher = difflib.SequenceMatcher(
        None, [word.text for word in truth], [word.text for word in found], autojunk=False
    )
    return [
        abs(truth[a + i].start - found[b + i].start)
        for a, b, count in matcher.get_matching_blocks()
        for i in range(count)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    print(*describe(), f"faster-whisper {faster_whisper.__version__}", sep="\n")
    transcriber = Transcriber(find_speech_model())
    whisper = faster_whisper.WhisperModel(str(find_speech_model()), compute_type="float32")

    def ours(sound):
        segments = transcriber.transcribe(sound, word_timestamps=True).segments
        return [spoken(w.text, w.start, w.end) for segment in segments for w in segment.words]

    def peer(sound):
        segments, _ = whisper.transcribe(sound, beam_size=5, word_timestamps=True)
        return [spoken(w.word, w.start, w.end) for segment in segments for w in segment.words]

    sounds = [
        soundfile.read(recordings.recording(name), dtype="float32")[0] for name in recordings.NAMES
    ]
    alone = [peer(sound) for sound in sounds]
    table = []
    for level in LEVELS:
        for name, engine in (("ours", ours), ("faster-whisper", peer)):
            late, words, longest = [], 0, 0.0
            for order, pauses in ORDERS:
                sound, offsets = joined(sounds, order, pauses, level)
                truth = [
                    Spoken(word.text, word.start + offset, word.end + offset)
                    for i, offset in zip(order, offsets, strict=True)
                    for word in alone[i]
                ]
                found = engine(sound)
                late += errors(truth, found)
                words += len(truth)
                longest = max([longest, *(word.end - word.start for word in found)])
            near = sum(one <= NEAR for one in late)
            row = {"noise": level, "engine": name, "near": near / len(late),
                   "near of all": near / words, "longest": longest}  # fmt: skip
            table.append(row)
            print(
                f"noise {level:<6} {name:15} within {NEAR} s: {row['near']:.1%} of {len(late)},"
                f" {row['near of all']:.1%} of all {words}; longest word {longest:.2f} s",
                flush=True,
            )
    if options.json:
        options.json.write_text(json.dumps(table, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
