"""Whisper tiny.en beside CTranslate2 and faster-whisper, in one run.

apt-get install pocketsphinx-testdata
pip install ".[test]"
python benchmarks/transcription.py [--rounds N] [--json FILE]

The model is the published one, as it is (float16) and in other weights. Three kinds of work: the
encoder on half a minute of sound; 100 tokens of greedy decoding from what it gave, the end
suppressed; and files from samples to text with times, beam 5. Engines take turns, and what they
give is compared.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import ctranslate2
import faster_whisper
import limits
import numpy as np
import soundfile
from turns import at_most, rounds, share_of_python

from seq2seq_fast import Transcriber, use
from seq2seq_fast.cli.contestants import describe
from seq2seq_fast.demo import find_speech_model
from seq2seq_fast.speech.audio import Recording

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
import recordings

TOKENS = 100
PAIRS = (("float32", "float32"), ("float16", "float32"), ("int8", "int8"))
"""Our weights, and what CTranslate2 computes in."""


def encoding(transcriber, theirs, spectrum, found):
    """Half a minute of speech."""
    features = ctranslate2.StorageView.from_array(np.ascontiguousarray(spectrum.T[None]))

    def ours():
        found["ours"] = transcriber.model.encode([spectrum])

    def ctranslate():
        found["ctranslate2"] = theirs.encode(features)

    return {"ours": ours, "ctranslate2": ctranslate}


def decoding(transcriber, theirs, memory, features):
    """TOKENS tokens of greedy search, from the encoder's output of CTranslate2 and of ours."""
    vocabulary, model, tokens = transcriber.vocabulary, transcriber.model, {}
    prompt = [vocabulary.start, vocabulary.no_times]
    # Both choose among all tokens of text.
    never = list(range(vocabulary.end, model.vocabulary_size))

    def ours():
        (one,) = model.generate(
            model.start(memory),
            decoder_input_ids=[prompt],
            max_new_tokens=TOKENS,
            suppress_tokens=never,
        )
        tokens["ours"] = one.tokens

    def ctranslate():
        (one,) = theirs.generate(
            features, [prompt], beam_size=1, max_length=2 * TOKENS, suppress_tokens=never,
            suppress_blank=False,
        )  # fmt: skip
        tokens["ctranslate2"] = one.sequences_ids[0]

    return {"ours": ours, "ctranslate2": ctranslate}, tokens


def files(transcriber, theirs):
    """Every recording, beam 5, from samples to text."""
    sounds = [
        soundfile.read(recordings.recording(name), dtype="float32")[0] for name in recordings.NAMES
    ]
    texts = {}

    def ours():
        texts["ours"] = [transcriber.transcribe(x).text for x in sounds]

    def peer():
        texts["faster-whisper"] = [
            "".join(segment.text for segment in theirs.transcribe(x, beam_size=5)[0]).strip()
            for x in sounds
        ]

    return {"ours": ours, "faster-whisper": peer}, texts, sum(map(len, sounds)) / 16000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    print(*describe(), f"ctranslate2 {ctranslate2.__version__}",
          f"faster-whisper {faster_whisper.__version__}", sep="\n")  # fmt: skip
    print(f"Whisper tiny.en; median ± half the range of {options.rounds} rounds in turn\n")
    folder, table = str(find_speech_model()), []
    machine = limits.measure()
    if machine is not None:
        print(machine)
    spectrum = Recording(recordings.all_in_turn()).window(0, 80)
    for weights, compute in PAIRS:
        transcriber = Transcriber(folder, weights=weights)
        for threads in (1, 2):
            theirs = ctranslate2.models.Whisper(folder, compute_type=compute, intra_threads=threads)
            whisper = faster_whisper.WhisperModel(folder, compute_type=compute, cpu_threads=threads)
            with use(threads=threads):
                found = {}
                contestants = encoding(transcriber, theirs, spectrum, found)
                times = rounds(contestants, options.rounds)
                values = np.array(found["ctranslate2"])
                error = np.abs(found["ours"].values - values).max()
                row = {"weights": weights, "threads": threads}
                note = f"differ by {error:.1e}"
                if machine is not None:
                    work = limits.encoding(transcriber.model.encoder, len(spectrum) // 2)
                    note += at_most(times, machine.least(work, threads))
                report(table, row, "encode", times, 1e3, "ms", note)

                contestants, tokens = decoding(
                    transcriber, theirs, found["ours"], found["ctranslate2"]
                )
                times = rounds(contestants, options.rounds)
                same = sum(map(int.__eq__, tokens["ours"], tokens["ctranslate2"]))
                note = f"{same} of {TOKENS} tokens alike"
                report(table, row, "decode", times, 1e3 / TOKENS, "ms a token", note)

                silence = np.zeros((3000, transcriber.bands), np.float32)
                never = list(range(transcriber.vocabulary.end, transcriber.model.vocabulary_size))
                share = share_of_python(
                    transcriber.model, [silence], max_new_tokens=TOKENS, suppress_tokens=never
                )
                print(f"{weights:8} threads {threads} Python's share of a step: {share:.0%}")

                contestants, texts, seconds = files(transcriber, whisper)
                times = rounds(contestants, max(3, options.rounds // 2))
                ours, other = texts.values()
                note = f"{sum(map(str.__eq__, ours, other))} of {len(ours)} texts alike"
                report(table, row, "files", times, 1 / seconds, "of their length", note)
    if options.json:
        options.json.write_text(json.dumps({"machine": describe(), "rows": table}, indent=1))


def report(table, row, work, times, scale, unit, note):
    """Prints and keeps one cell."""
    (ours, spread), (name, (other, other_spread)) = times["ours"], list(times.items())[1]
    ratio = other / ours
    table.append({**row, "work": work, "ours": ours, "peer": name, "seconds": other,
                  "ratio": ratio, "note": note})  # fmt: skip
    print(
        f"{row['weights']:8} threads {row['threads']} {work:7}"
        f" ours {ours * scale:8.3g} ±{spread:.0%}  {name} {other * scale:8.3g} ±{other_spread:.0%}"
        f" {unit}  ({ratio:.2f}x; {note})",
        flush=True,
    )


if __name__ == "__main__":
    main()
