"""Damaged files through every reader, within limits of memory and time: whatever a file holds, it
gives what runs, or a ValueError that begins with the file's name.

    python tests/fuzz.py TARGET [--seconds 600] [--seed 1]
    python tests/fuzz.py TARGET --seed 1 --case 4711

The second command repeats one case. A crash or a hang ends the process; its file is left where the
first line says.
"""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import io
import json
import random
import re
import resource
import struct
import sys
import tempfile
import time
import traceback
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import random_ctranslate2
import random_whisper
import sentencepiece
import tiny_marian
import tiny_torch
import tokenizers
from safetensors.numpy import load_file, save_file

import seq2seq_fast
from seq2seq_fast import load, save
from seq2seq_fast.models.formats import marian, sniff
from seq2seq_fast.models.saving import KEY
from seq2seq_fast.speech.audio import Recording
from seq2seq_fast.speech.transcriber import Transcriber
from seq2seq_fast.text.translator import Translator

MEMORY = 96 << 20  # bytes that a case may take beside what a good file takes
SECONDS = 60  # of a case, on a machine however busy
MAX_BYTES = 1 << 18  # of a damaged file


class Target(NamedTuple):
    write: Callable[[Path], Any]  # good files into a folder
    damaged: tuple[str, ...]  # those that are damaged, one at a time
    read: Callable[[Path], Any]  # may raise ValueErrors that name a file
    run: Callable[[Any], Any]  # what was read; may raise ValueErrors


# ---- good files, as small as they can be ----


def write_marian(folder: Path) -> None:
    (folder / "model.bin").write_bytes(tiny_marian.model_file())


def write_npz(folder: Path) -> None:
    config = np.frombuffer(tiny_marian.CONFIG.encode() + b"\0", np.int8)
    tensors = {marian.CONFIG_NAME: config, **tiny_marian.random_tensors()}
    np.savez_compressed(folder / "model.npz", **tensors)


def write_ctranslate2(folder: Path) -> None:
    random_ctranslate2.write(folder, layers=1, width=8, inner=8, vocabulary=8, heads=2)


def write_hugging_face(folder: Path, vocabulary: int = 8, positions: int = 8) -> None:
    found, heads = random_whisper.tensors(layers=1, width=4, inner=4)
    few = {name: found[name][:positions] for name in found if "embed_positions" in name}
    few["model.decoder.embed_tokens.weight"] = found["model.decoder.embed_tokens.weight"][
        :vocabulary
    ]
    save_file(found | few, folder / "model.safetensors")
    config = {
        "model_type": "whisper", "activation_function": "gelu", "scale_embedding": False,
        "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": heads,
        "decoder_attention_heads": heads, "decoder_start_token_id": 1, "eos_token_id": 0,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))


def write_torch(folder: Path, old: bool = False) -> None:
    write_hugging_face(folder)
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(tiny_torch.checkpoint(tensors, old))


def write_index(folder: Path) -> None:
    write_hugging_face(folder)
    (folder / "model.safetensors").rename(folder / "part.safetensors")
    found, _ = random_whisper.tensors(layers=1, width=4, inner=4)
    listed = {"weight_map": dict.fromkeys(found, "part.safetensors")}
    (folder / "model.safetensors.index.json").write_text(json.dumps(listed))


def write_saved(folder: Path, write: Callable[[Path], Any]) -> None:
    with tempfile.TemporaryDirectory() as source:
        write(Path(source))
        save(load(source), folder / "model.safetensors")


def write_shortlist(folder: Path) -> None:
    offsets, entries = [0, 2, 2, 4], [3, 9, 4, 12]
    numbers = (sniff.SHORTLIST_MAGIC, 0, 2, 50, len(offsets), len(entries), *offsets, *entries)
    (folder / "lex.bin").write_bytes(struct.pack("<10Q4I", *numbers))


def write_sentencepiece(folder: Path) -> None:
    write_marian(folder)
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["a bad cab", "dab a cab", "bad dad"] * 9), model_writer=model,
        vocab_size=tiny_marian.VOCABULARY, hard_vocab_limit=False, minloglevel=2,
        eos_id=0, unk_id=1, bos_id=-1, pad_id=-1, character_coverage=1.0,
    )  # fmt: skip
    processor = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    tensors = tiny_marian.random_tensors()
    rows = np.resize(tensors["Wemb"], (processor.vocab_size(), tiny_marian.WIDTH))
    bias = np.zeros((1, len(rows)), np.float32)
    tensors |= {"Wemb": rows, "decoder_ff_logit_out_b": bias}
    (folder / "model.bin").write_bytes(tiny_marian.model_file(tensors))
    (folder / "vocab.spm").write_bytes(model.getvalue())


def write_tokenizer(folder: Path) -> None:
    special = ["endoftext", "startoftranscript", "translate", "transcribe", "startofprev",
               "nospeech", "notimestamps"]  # fmt: skip
    write_hugging_face(folder, vocabulary=1511, positions=1500)
    made = tokenizers.Tokenizer(tokenizers.models.BPE({"a": 0, "b": 1, "ab": 2}, [("a", "b")]))
    made.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = tokenizers.decoders.ByteLevel()
    made.add_special_tokens([tokenizers.AddedToken(f"<|{name}|>") for name in special])
    made.save(str(folder / "tokenizer.json"))
    config = json.loads((folder / "config.json").read_text())
    config["eos_token_id"] = made.token_to_id("<|endoftext|>")
    (folder / "config.json").write_text(json.dumps(config))
    more = {"suppress_tokens": [1, 2], "begin_suppress_tokens": [1], "alignment_heads": [[0, 1]]}
    (folder / "generation_config.json").write_text(json.dumps(more))


def write_sound(folder: Path) -> None:
    samples = np.random.default_rng(0).integers(-9999, 9999, 800).astype("<i2").tobytes()
    header = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, 8000, 16000, 2, 16)
    data = b"WAVE" + header + struct.pack("<4sI", b"data", len(samples)) + samples
    (folder / "sound.wav").write_bytes(struct.pack("<4sI", b"RIFF", len(data)) + data)


# ---- running what was read ----


def run_text(model: Any) -> None:
    for beams in (1, 2):
        model.generate([[3, 5, model.eos], [2, model.eos]], num_beams=beams, max_new_tokens=3)


def run_speech(model: Any) -> None:
    spectrum = np.linspace(-1, 1, 6 * random_whisper.BANDS, dtype=np.float32)
    model.generate([spectrum.reshape(6, -1)], max_new_tokens=3)


def run_any(model: Any) -> None:
    """A file may turn one kind of model into the other."""
    (run_speech if hasattr(model.encoder.embedding, "bands") else run_text)(model)


def run_transcriber(transcriber: Any) -> None:
    vocabulary = transcriber.vocabulary
    ids = vocabulary.encode("ab ba")
    vocabulary.decode(ids)
    vocabulary.words(ids, "en")


def run_sound(recording: Any) -> None:
    for frame in (0, 100):
        recording.window(frame, random_whisper.BANDS)


TARGETS = {
    "marian": Target(write_marian, ("model.bin",), load, run_any),
    "npz": Target(write_npz, ("model.npz",), load, run_any),
    "ctranslate2": Target(
        write_ctranslate2, ("model.bin", "model.bin", "config.json", "shared_vocabulary.json"),
        load, run_any,
    ),
    "hugging_face": Target(
        write_hugging_face, ("model.safetensors", "config.json"), load, run_any
    ),
    "torch": Target(write_torch, ("pytorch_model.bin", "config.json"), load, run_any),
    "old_torch": Target(
        lambda folder: write_torch(folder, old=True), ("pytorch_model.bin",), load, run_any
    ),
    "index": Target(write_index, ("model.safetensors.index.json",), load, run_any),
    "saved_text": Target(
        lambda folder: write_saved(folder, write_marian), ("model.safetensors",), load, run_any
    ),
    "saved_speech": Target(
        lambda folder: write_saved(folder, write_hugging_face), ("model.safetensors",), load,
        run_any,
    ),
    "shortlist": Target(
        write_shortlist, ("lex.bin",), lambda folder: marian.Shortlist(folder / "lex.bin", 13),
        lambda shortlist: [shortlist(ids) for ids in ([0, 2, 99], [1])],
    ),
    "sentencepiece": Target(
        write_sentencepiece, ("vocab.spm",), Translator,
        lambda translator: translator.translate(["a bad cab"]),
    ),
    "tokenizer": Target(
        write_tokenizer, ("tokenizer.json", "generation_config.json"), Transcriber,
        run_transcriber,
    ),
    "sound": Target(
        write_sound, ("sound.wav",), lambda folder: Recording(folder / "sound.wav"), run_sound
    ),
}  # fmt: skip


# ---- damage ----

EDGES = (0, 1, 7, 127, 128, 255, 32767, 65535, 2**31 - 1, 2**31, 2**32 - 1, 2**62, 2**63, 2**64 - 1)
NESTED = "@nested"
ODD = (None, True, [], {}, "", "x", [[1]], -1, 0, 1, 2**62, 2**64, 10**30, 1e300, -1e300, 0.5,
       float("nan"), float("inf"), [1] * 65, [0] * 65, NESTED)  # fmt: skip


def damage(data: bytes, chance: random.Random) -> bytes:
    """The bytes with a few changes, half of them where headers are."""
    kind = _kind(data)
    if chance.random() < 0.5 and kind in _BY_KIND:
        with contextlib.suppress(ValueError, KeyError, IndexError):
            return _BY_KIND[kind](data, chance)
    changed = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 4))):
        _change(changed, chance)
    return bytes(changed[:MAX_BYTES])


def _change(data: bytearray, chance: random.Random) -> None:
    at = chance.randrange(chance.choice((len(data), min(len(data), 1024))) or 1)
    size = chance.choice((1, 2, 4, 8))
    number = int.from_bytes(data[at : at + size], "little")
    match chance.randrange(8):
        case 0:
            del data[at:]
        case 1:
            del data[at : at + chance.choice((1, 4, 8, 64, 300))]
        case 2:
            data[at : at + 1] = bytes([chance.randrange(256)])
        case 3:
            data[at : at + 1] = bytes([number % 256 ^ 1 << chance.randrange(8)])
        case 4:
            number = chance.choice(EDGES)
            data[at : at + size] = (number % (1 << 8 * size)).to_bytes(size, "little")
        case 5:
            number = (number + chance.choice((-2, -1, 1, 2))) % (1 << 8 * size)
            data[at : at + size] = number.to_bytes(size, "little")
        case 6:
            other, length = chance.randrange(len(data) or 1), chance.choice((4, 16, 64))
            part, data[at : at + length] = data[at : at + length], data[other : other + length]
            data[other : other + length] = part
        case _:
            part = data[at : at + chance.choice((1, 4, 32, 256))]
            data[at:at] = (part * chance.choice((1, 2, 10, 1000)))[:MAX_BYTES]


def damage_json(data: bytes, chance: random.Random) -> bytes:
    """A value replaced by an odd one or by another of the file, or taken away."""
    found = json.loads(data)
    places = [place for place in _places(found) if place]
    for _ in range(chance.choice((1, 1, 2, 3))):
        holder, key = chance.choice(places)
        other_holder, other = chance.choice(places)
        with contextlib.suppress(KeyError, IndexError):
            if chance.random() < 0.2:
                del holder[key]
            else:
                values = (chance.choice(ODD), chance.choice(ODD), other_holder[other])
                holder[key] = json.loads(json.dumps(chance.choice(values)))
    depth = chance.choice((90, 990, 100_000))
    return json.dumps(found).replace(f'"{NESTED}"', "[" * depth + "]" * depth).encode()


def _places(value: Any) -> list[Any]:
    """Each (list or object, index or key) in a value of JSON."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    found: list[Any] = []
    for key, part in items:
        found.append((value, key))
        if isinstance(part, (dict, list)):
            found += _places(part)
    return found


def damage_safetensors(data: bytes, chance: random.Random) -> bytes:
    """The header damaged, or the model's description in it."""
    (length,) = struct.unpack_from("<Q", data)
    header, rest = data[8 : 8 + length], data[8 + length :]
    described = json.loads(header).get("__metadata__", {}).get(KEY)
    if described and chance.random() < 0.7:
        whole = json.loads(header)
        whole["__metadata__"][KEY] = damage_json(described.encode(), chance).decode()
        header = json.dumps(whole).encode()
    else:
        header = damage_json(header, chance)
    return struct.pack("<Q", len(header)) + header + rest


def damage_npz(data: bytes, chance: random.Random) -> bytes:
    """An array damaged, in an archive that is sound."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    changed = chance.choice(list(files))
    files[changed] = damage(files[changed], chance)
    written = io.BytesIO()
    methods = (zipfile.ZIP_DEFLATED, zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED, zipfile.ZIP_BZIP2)
    with zipfile.ZipFile(written, "w", chance.choice(methods)) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return written.getvalue()


_BY_KIND = {
    "JSON": damage_json,
    sniff.SAFETENSORS: damage_safetensors,
    sniff.NPZ: damage_npz,
}


def _kind(data: bytes) -> str:
    if data[:1] in (b"{", b"["):
        return "JSON"
    if data[8:9] == b"{":
        return sniff.SAFETENSORS
    return sniff.NPZ if data[:2] == b"PK" else "bytes"


# ---- the hunt ----


def limit_memory() -> None:
    """No more than MEMORY beyond what is used now."""
    if sys.platform == "linux":
        status = Path("/proc/self/status").read_text()
        used = int(re.search(r"VmSize:\s+(\d+)", status)[1]) << 10
        resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, resource.RLIM_INFINITY))


def try_one(target: Target, folder: Path) -> str | None:
    """What is wrong with what comes of a folder, if anything is."""
    limit_memory()
    faulthandler.dump_traceback_later(SECONDS, exit=True)
    found = None
    try:
        found = target.read(folder)
        target.run(found)
    except (ValueError, FileNotFoundError) as error:  # a file may name others
        named = str(error).startswith(str(folder))
        return None if named or found is not None else traceback.format_exc()
    except BaseException:  # such as a panic of a library
        return traceback.format_exc()
    finally:
        faulthandler.cancel_dump_traceback_later()
    return None


def hunt(name: str, seed: int, cases: range, seconds: float) -> int:
    """Tries cases until the time is over; the number of findings."""
    target, findings = TARGETS[name], 0
    folder = Path(tempfile.mkdtemp(prefix=f"fuzz_{name}_"))
    print(f"{name}: files in {folder}", flush=True)
    target.write(folder)
    good = {file: (folder / file).read_bytes() for file in target.damaged}
    target.run(target.read(folder))
    end = time.monotonic() + seconds
    case = cases.start
    for case in cases:
        if time.monotonic() > end:
            break
        chance = random.Random(f"{seed} {case}")
        file = folder / chance.choice(target.damaged)
        file.write_bytes(damage(good[file.name], chance))
        (folder / "case").write_text(f"{name} --seed {seed} --case {case}")
        wrong = try_one(target, folder)
        if wrong:
            findings += 1
            print(f"\n{name} --seed {seed} --case {case}\n{wrong}", flush=True)
        file.unlink()  # it may be mapped
        file.write_bytes(good[file.name])
    print(f"{name}: {case - cases.start + 1} cases, {findings} findings", flush=True)
    return findings


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--cases", type=int, default=sys.maxsize, help="at most so many")
    parser.add_argument("--case", type=int, help="only this one")
    given = parser.parse_args()
    faulthandler.enable()
    warnings.simplefilter("ignore", RuntimeWarning)  # weights may be infinite
    cases = range(given.cases) if given.case is None else range(given.case, given.case + 1)
    with seq2seq_fast.use(threads=1):
        return int(hunt(given.target, given.seed, cases, given.seconds) > 0)


if __name__ == "__main__":
    sys.exit(main())
