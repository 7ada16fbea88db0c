"""Tokens per second of models of text beside CTranslate2, transformers and ONNX Runtime.

pip install ".[test]" torch transformers
python benchmarks/transformer.py [--quick] [--models t5-small ...] [--json FILE]

The models have the sizes of published ones and random weights, which transformers writes and
CTranslate2's own converter converts. Every engine has a process of its own and they take turns; all
decode the same sources, and results have a forced length, so that all do the same work. Tokens are
compared with those of transformers, or of CTranslate2 where it is not there.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

import limits
import numpy as np
from engines import ENGINES, UNKNOWN, Engine, token

from seq2seq_fast import load
from seq2seq_fast.cli.contestants import describe

T5_SMALL = {
    "vocab_size": 32128, "d_model": 512, "d_kv": 64, "d_ff": 2048, "num_layers": 6, "num_heads": 8,
    "feed_forward_proj": "relu", "decoder_start_token_id": 0, "pad_token_id": 0, "eos_token_id": 1,
}  # fmt: skip
MARIAN = {
    "activation_function": "swish", "scale_embedding": True, "eos_token_id": 0, "bos_token_id": 0,
    "encoder_layers": 6, "decoder_layers": 6, "encoder_attention_heads": 8,
    "decoder_attention_heads": 8, "encoder_ffn_dim": 2048, "decoder_ffn_dim": 2048,
    "d_model": 512, "max_position_embeddings": 512, "forced_eos_token_id": None,
}  # fmt: skip
MODELS = {
    "six-layers": (
        "Marian",
        {**MARIAN, "vocab_size": 32001, "pad_token_id": 32000, "decoder_start_token_id": 32000},
    ),
    "t5-small": ("T5", T5_SMALL),
    "flan-t5-base": (
        "T5",
        {
            **T5_SMALL, "d_model": 768, "num_layers": 12, "num_heads": 12,
            "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False,
        },
    ),
    "opus-mt": (
        "Marian",
        {**MARIAN, "vocab_size": 58101, "pad_token_id": 58100, "decoder_start_token_id": 58100},
    ),
    "bart-large-cnn": (
        "Bart",
        {
            "vocab_size": 50264, "d_model": 1024, "encoder_layers": 12, "decoder_layers": 12,
            "encoder_attention_heads": 16, "decoder_attention_heads": 16, "encoder_ffn_dim": 4096,
            "decoder_ffn_dim": 4096, "max_position_embeddings": 1024, "bos_token_id": 0,
            "pad_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 2,
            "forced_eos_token_id": None,
        },
    ),
}  # fmt: skip
LENGTH = {"six-layers": (21, 24)}  # source and result; 64 and 64 of the others
QUICK = ["six-layers"]


def make(name, folder):
    """Writes a model as Hugging Face's folder `hf` and as CTranslate2's folder `ct2`."""
    if (folder / "ct2" / "model.bin").exists():
        return
    import ctranslate2.converters.transformers as convert
    import torch
    import transformers

    kind, given = MODELS[name]
    config = getattr(transformers, f"{kind}Config")(**given)
    suffix = "MTModel" if kind == "Marian" else "ForConditionalGeneration"
    torch.manual_seed(1)
    model = getattr(transformers, kind + suffix)(config).eval()
    with torch.no_grad():
        for key, value in model.named_parameters():
            if value.ndim == 1:  # 0 and 1 in a new model, which would hide a mistake
                value.add_(0.02 * torch.randn_like(value))
            elif "decoder" in key and key.endswith("o.weight"):  # or T5 repeats its last token
                value.mul_(8)
    model.generation_config.update(forced_eos_token_id=None, forced_bos_token_id=None)
    model.save_pretrained(folder / "hf")

    class Tokenizer:  # what the converter asks one for
        bos_token, eos_token = token(given.get("bos_token_id", 0)), token(given["eos_token_id"])
        pad_token, unk_token = token(given["pad_token_id"]), token(UNKNOWN)
        convert_ids_to_tokens = staticmethod(token)

    loader = convert._MODEL_LOADERS[type(config).__name__]
    with torch.no_grad():
        spec = loader.get_model_spec(model)
    loader.set_config(spec.config, model, Tokenizer())
    # The converter adds the last token of Marian's tables by itself.
    loader.set_vocabulary(spec, [token(i) for i in range(given["vocab_size"] - (kind == "Marian"))])
    spec.validate()
    spec.optimize(quantization=None)
    (folder / "ct2").mkdir(parents=True)
    spec.save(str(folder / "ct2"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--quick", action="store_true", help=f"{', '.join(QUICK)}, one thread, batches of 1 and 8"
    )
    parser.add_argument("--models", nargs="+", choices=MODELS, default=None)
    parser.add_argument("--engines", nargs="+", choices=ENGINES, default=[*ENGINES][:5])
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 8])
    parser.add_argument("--beams", nargs="+", type=int, default=[1, 4])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", type=Path, help="where models are kept for another run")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if options.quick:
        options.threads = [1]
    names = options.models or (QUICK if options.quick else [*MODELS])
    print(*describe(), sep="\n")
    machine = limits.measure()
    if machine is not None:
        print(machine)
    print(f"tokens/s, median ± half the range of {options.rounds} rounds in turn")
    table: list[dict] = []
    with tempfile.TemporaryDirectory() as temporary:
        for name in names:
            folder = (options.folder or Path(temporary)) / name
            make(name, folder)
            model = load(folder / "hf")
            for threads in options.threads:
                measure(name, folder, threads, options, machine, model, table)
    summary(table)
    if options.json:
        options.json.write_text(json.dumps({"machine": describe(), "rows": table}, indent=1))


def measure(name, folder, threads, options, machine, model, table):
    """All cells of a model on some threads, added to the table."""
    engines = {}
    try:
        for key in options.engines:
            try:
                engines[key] = Engine(key, folder, threads)
            except RuntimeError as error:
                print(f"{name}: {key}: {error}")
        for batch in options.batches:
            for beams in options.beams:
                row = cell(name, engines, batch, beams, options.rounds, model)
                row.update(model=name, threads=threads, batch=batch, beams=beams)
                if machine is not None:
                    row["at most"] = at_most(name, machine, model, threads, batch, beams)
                table.append(row)
                print(line(row), flush=True)
    finally:
        for engine in engines.values():
            engine.close()


def cell(name, engines, batch, beams, rounds, model):
    """Tokens per second of each engine, their spread, and how many results are alike."""
    source, length = LENGTH.get(name, (64, 64))
    rng = np.random.default_rng(5)
    sources = rng.integers(4, model.encoder.embedding.size - 1, (batch, source - 1)).tolist()
    sources = [[*one, model.eos] for one in sources]
    times, found = {key: [] for key in engines}, {}
    for engine in engines.values():
        engine.generate(sources, beams, 4)
    for _ in range(rounds):
        for key, engine in engines.items():
            found[key], seconds = engine.generate(sources, beams, length)
            times[key].append(seconds)
            assert all(len(one) == length for one in found[key]), key
            time.sleep(0.05)  # its threads stop spinning
    row = {}
    reference = next((key for key in ("transformers", "ctranslate2") if key in found), None)
    for key, seconds in times.items():
        middle = statistics.median(seconds)
        row[key] = batch * length / middle
        row[f"{key} spread"] = (max(seconds) - min(seconds)) / 2 / middle
        if reference is not None:
            alike = zip(found[key], found[reference], strict=True)
            row[f"{key} same"] = sum(one == other for one, other in alike) / batch
    return row


def at_most(name, machine, model, threads, batch, beams):
    """Tokens per second of float32 if nothing but products and reads took time: of each step the
    longer of its products and of one reading of the decoder's weights."""
    source, length = LENGTH.get(name, (64, 64))
    encoding = machine.least(
        limits.Products().plus(limits.encoding(model.encoder, source), batch), threads
    )
    step = limits.decoding(model.decoder, source, length, beams)
    products = machine.least(limits.Products().plus(step, batch / length), threads)
    read = limits.weights_of(model.decoder)
    reads = read / machine.read_rate(read) / threads
    return batch * length / (encoding + length * max(products, reads))


def line(row):
    cells = [
        f"{key} {row[key]:.1f} ±{row[f'{key} spread']:.0%}"
        + (f" same {row[f'{key} same']:.0%}" if f"{key} same" in row else "")
        for key in ENGINES
        if key in row
    ]
    most = f"; float32 at most {row['at most']:.0f}" if "at most" in row else ""
    where = (
        f"{row['model']:14} threads {row['threads']} batch {row['batch']:2} beams {row['beams']}"
    )
    return f"{where}: {', '.join(cells)}{most}"


def summary(table):
    """How many times as fast as each peer: of each model the geometric mean and the least."""
    for own in ("ours", "ours-int8"):
        for peer in ENGINES:
            if peer.startswith("ours") or peer.endswith("int8") != own.endswith("int8"):
                continue
            for model in dict.fromkeys(row["model"] for row in table):
                ratios = [
                    row[own] / row[peer]
                    for row in table
                    if row["model"] == model and own in row and peer in row
                ]
                if ratios:
                    print(
                        f"{own} / {peer}, {model}: geometric mean"
                        f" {statistics.geometric_mean(ratios):.2f}, least {min(ratios):.2f}"
                    )


if __name__ == "__main__":
    main()
