"""Tokens per second of a six-layer Transformer beside CTranslate2 and transformers, in one run.

pip install ".[test]" torch transformers
python benchmarks/transformer.py [--quick] [--json FILE]

The model has random weights (width 512, feed-forward 2048, 8 heads, vocabulary 32000), written by
CTranslate2's own classes and read by both; `transformers` gets a Marian model of the same size.
The length of the results is forced: the end cannot occur. Engines take turns, every one decodes
the same sources, and the tokens of this package and CTranslate2 are compared.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path

import ctranslate2
import limits
import numpy as np
from turns import at_most, rounds

from seq2seq_fast import load, use
from seq2seq_fast.cli.contestants import describe

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
import random_ctranslate2

WIDTH, INNER, LAYERS, HEADS, VOCABULARY = 512, 2048, 6, 8, 32000
SOURCE, TARGET, ROUNDS = 20, 24, 5
EOS = 2


def of_transformers():
    """A Marian model of the same size with random weights, or None."""
    try:
        import torch
        from transformers import MarianConfig, MarianMTModel
    except ImportError:
        return None
    torch.manual_seed(0)
    config = MarianConfig(
        vocab_size=VOCABULARY, d_model=WIDTH, encoder_layers=LAYERS, decoder_layers=LAYERS,
        encoder_attention_heads=HEADS, decoder_attention_heads=HEADS, encoder_ffn_dim=INNER,
        decoder_ffn_dim=INNER, pad_token_id=0, eos_token_id=EOS, decoder_start_token_id=0,
        activation_function="relu", forced_eos_token_id=None,
    )  # fmt: skip
    return MarianMTModel(config).eval()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one thread, batch 1 and 8")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    print(*describe(), f"ctranslate2 {ctranslate2.__version__}", sep="\n")
    print(f"{LAYERS} layers, width {WIDTH}, {SOURCE} source and {TARGET} target tokens; tokens/s,")
    print(f"median ± half the range of {ROUNDS} rounds in turn\n")
    rng = np.random.default_rng(0)
    peer = of_transformers()
    table = []
    machine = limits.measure()
    if machine is not None:
        print(machine)
    with tempfile.TemporaryDirectory() as folder:
        names = random_ctranslate2.write(
            folder, layers=LAYERS, width=WIDTH, inner=INNER, vocabulary=VOCABULARY, heads=HEADS,
            spread=3.0,
        )  # fmt: skip
        for weights in ("float32", "int8"):
            model = load(folder, weights=weights)
            for threads in (1,) if options.quick else (1, 2):
                theirs = ctranslate2.Translator(
                    folder, compute_type=weights, intra_threads=threads, inter_threads=1
                )
                for batch in (1, 8) if options.quick else (1, 8, 64):
                    sources = [
                        [*rng.integers(3, VOCABULARY, SOURCE).tolist(), EOS] for _ in range(batch)
                    ]
                    for beams in (1, 4):
                        row = compare(
                            model, theirs, peer if weights == "float32" else None, names, sources,
                            beams, threads, ROUNDS if batch < 64 else 3, machine,
                        )  # fmt: skip
                        row.update(weights=weights, threads=threads, batch=batch, beams=beams)
                        table.append(row)
                        print(line(row), flush=True)
    ratios = [row["ctranslate2 / ours"] for row in table]
    print(f"\nagainst CTranslate2: geometric mean {statistics.geometric_mean(ratios):.2f},"
          f" least {min(ratios):.2f}")  # fmt: skip
    if options.json:
        options.json.write_text(json.dumps({"machine": describe(), "rows": table}, indent=1))


def compare(model, theirs, peer, names, sources, beams, threads, count, machine):
    """Times and tokens of one cell."""
    found = {}
    texts = [[names[i] for i in source] for source in sources]

    def ours():
        with use(threads=threads):
            found["ours"] = [
                one.tokens
                for one in model.generate(
                    sources, num_beams=beams, max_new_tokens=TARGET, suppress_tokens=[EOS]
                )
            ]

    def ctranslate():
        results = theirs.translate_batch(
            texts, beam_size=beams, max_decoding_length=TARGET, min_decoding_length=TARGET
        )
        found["ctranslate2"] = [result.hypotheses[0] for result in results]

    contestants = {"ours": ours, "ctranslate2": ctranslate}
    if peer is not None:
        import torch

        torch.set_num_threads(threads)
        inputs = torch.tensor(sources)

        def transformers():
            with torch.inference_mode():
                peer.generate(
                    inputs, num_beams=beams, min_new_tokens=TARGET, max_new_tokens=TARGET,
                    do_sample=False,
                )  # fmt: skip

        contestants["transformers"] = transformers
    row, times = {}, rounds(contestants, count)
    if machine is not None:
        work = limits.encoding(model.encoder, SOURCE + 1).plus(
            limits.decoding(model.decoder, SOURCE + 1, TARGET, beams)
        )
        row["at most"] = at_most(
            times, machine.least(limits.Products().plus(work, len(sources)), threads)
        )
    for name, (seconds, spread) in times.items():
        row[name] = len(sources) * TARGET / seconds
        row[f"{name} spread"] = spread
        if name != "ours":
            row[f"{name} / ours"] = row["ours"] / row[name]
    same = sum(
        [names[i] for i in one] == other
        for one, other in zip(found["ours"], found["ctranslate2"], strict=True)
    )
    row["same"] = same / len(sources)
    return row


def line(row):
    cells = [
        f"{name} {row[name]:8.1f} ±{row[f'{name} spread']:.0%}"
        for name in ("ours", "ctranslate2", "transformers")
        if name in row
    ]
    ratios = [
        f"{row[f'{name} / ours']:.2f}x" for name in ("ctranslate2", "transformers") if name in row
    ]
    return (
        f"{row['weights']:8} threads {row['threads']} batch {row['batch']:2} beams {row['beams']}: "
        + "  ".join(cells)
        + f"  ({', '.join(ratios)}; same results {row['same']:.0%}{row.get('at most', '')})"
    )  # fmt: skip


if __name__ == "__main__":
    main()
