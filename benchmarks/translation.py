"""Sentences per second of the English-Portuguese model, one at a time and in a batch.

pip install ".[demo]"
python benchmarks/translation.py [--threads N]
"""

from __future__ import annotations

import argparse
import statistics
import time

from seq2seq_fast import Translator, use
from seq2seq_fast.bench import describe
from seq2seq_fast.translate import find_model

ROUNDS = 5
SENTENCES = [
    "The children were playing happily in the garden.",
    "How are you today?",
    "I love this city.",
    "The weather was bad, so we stayed at home and read a book.",
    "Did you see the new film that everybody talks about?",
    "We will meet at the station at eight.",
    "She opened the window and looked at the sea.",
    "Nobody knows what the answer is.",
] * 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    threads = parser.parse_args().threads
    print(*describe(), f"threads: {threads}; median of {ROUNDS} rounds", sep="\n")
    translator = Translator(find_model("pt"))
    translator.translate(SENTENCES[:2])
    for backend in ("native", "numpy"):
        with use(backend=backend, threads=threads):
            alone, together = [], []
            for _ in range(ROUNDS):
                start = time.perf_counter()
                for sentence in SENTENCES:
                    translator.translate([sentence])
                middle = time.perf_counter()
                translator.translate(SENTENCES)
                alone.append(len(SENTENCES) / (middle - start))
                together.append(len(SENTENCES) / (time.perf_counter() - middle))
        print(
            f"{backend}: {statistics.median(alone):.1f} sentences/s one at a time,"
            f" {statistics.median(together):.1f} in a batch of {len(SENTENCES)}"
        )


if __name__ == "__main__":
    main()
