"""Engines that generate from token ids, each in a process of its own: the threads of two in one
process slow each other down (CTranslate2 beside PyTorch on two threads to half its speed).

    with Engine("ctranslate2-int8", folder, threads=2) as engine:
        tokens, seconds = engine.generate(sources, beams=4, length=64)

Run as a program, this file is such a process: it reads a line of JSON for each call and answers
with one.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

UNKNOWN = 3  # the token of this id is called <unk>, which CTranslate2 asks for


def token(number):
    """The name that CTranslate2's files have for a token."""
    return "<unk>" if number == UNKNOWN else f"t{number}"


def number(name):
    """The token that has a name."""
    return UNKNOWN if name == "<unk>" else int(name[1:])


class Ours:
    def __init__(self, folder, threads, weights):
        import seq2seq_fast

        seq2seq_fast.use(threads=threads)
        self.model = seq2seq_fast.load(folder / "hf", weights=weights)

    def generate(self, sources, beams, length):
        found = self.model.generate(
            sources, num_beams=beams, max_new_tokens=length, min_new_tokens=length
        )
        return [one.tokens for one in found]


class CTranslate2:
    def __init__(self, folder, threads, weights):
        import ctranslate2

        self.translator = ctranslate2.Translator(
            str(folder / "ct2"), compute_type=weights, inter_threads=1, intra_threads=threads
        )

    def generate(self, sources, beams, length):
        found = self.translator.translate_batch(
            [[token(i) for i in source] for source in sources],
            beam_size=beams, min_decoding_length=length, max_decoding_length=length,
            max_batch_size=0,
        )  # fmt: skip
        return [[number(name) for name in one.hypotheses[0]] for one in found]


class Transformers:
    def __init__(self, folder, threads, weights):
        import torch
        from transformers import AutoModelForSeq2SeqLM

        self.torch = torch
        torch.set_num_threads(threads)
        self.model = AutoModelForSeq2SeqLM.from_pretrained(folder / "hf").float().eval()

    def generate(self, sources, beams, length):
        ids = self.torch.tensor(sources)
        with self.torch.inference_mode():
            found = self.model.generate(
                input_ids=ids, attention_mask=self.torch.ones_like(ids), num_beams=beams,
                do_sample=False, min_new_tokens=length, max_new_tokens=length,
            )  # fmt: skip
        return found[:, 1:].tolist()


class OnnxRuntime:
    """By the package optimum-onnx, which wants an older transformers than the others: its Python is
    that of an environment of its own, named by the variable ONNX_PYTHON."""

    def __init__(self, folder, threads, weights):
        import onnxruntime
        from optimum.onnxruntime import ORTModelForSeq2SeqLM

        whole, quantised = folder / "onnx", folder / "onnx-int8"
        if not (whole / "encoder_model.onnx").exists():
            exported = ORTModelForSeq2SeqLM.from_pretrained(
                folder / "hf", export=True, use_cache=True
            )
            exported.save_pretrained(whole)
        if weights == "int8" and not quantised.exists():
            _quantise(whole, quantised)
        session = onnxruntime.SessionOptions()
        session.intra_op_num_threads, session.inter_op_num_threads = threads, 1
        self.model = ORTModelForSeq2SeqLM.from_pretrained(
            quantised if weights == "int8" else whole, session_options=session,
            provider="CPUExecutionProvider", use_io_binding=False,
        )  # fmt: skip
        import torch

        torch.set_num_threads(1)
        self.torch = torch

    generate = Transformers.generate


def _quantise(whole, quantised):
    from onnxruntime.quantization import QuantType, quantize_dynamic

    quantised.mkdir()
    for file in whole.iterdir():
        if file.suffix == ".onnx":
            quantize_dynamic(
                file, quantised / file.name, weight_type=QuantType.QInt8, per_channel=True,
                extra_options={"DefaultTensorType": 1},
            )  # fmt: skip
        elif file.suffix == ".json":
            (quantised / file.name).write_bytes(file.read_bytes())


ENGINES = {
    "ours": (Ours, "float32"),
    "ours-int8": (Ours, "int8"),
    "ctranslate2": (CTranslate2, "float32"),
    "ctranslate2-int8": (CTranslate2, "int8"),
    "transformers": (Transformers, "float32"),
    "onnxruntime": (OnnxRuntime, "float32"),
    "onnxruntime-int8": (OnnxRuntime, "int8"),
}


class Engine:
    """One of ENGINES, with a model's folder that make() in transformer.py wrote.

    Raises
    ------
    RuntimeError
        It is not installed, or does not read the model.
    """

    def __init__(self, name, folder, threads):
        python = sys.executable
        if name.startswith("onnxruntime"):
            python = os.environ.get("ONNX_PYTHON", python)
        self._process = subprocess.Popen(
            [python, __file__, name, str(folder), str(threads)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
            env={**os.environ, "HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error"},
        )  # fmt: skip
        try:
            self._answer()
        except RuntimeError:
            self.close()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def generate(self, sources, beams, length):
        """The tokens of each source, `length` of them, and the seconds that it took."""
        self._process.stdin.write(json.dumps([sources, beams, length]) + "\n")
        self._process.stdin.flush()
        found = self._answer()
        return found["tokens"], found["seconds"]

    def close(self):
        self._process.stdin.close()
        self._process.wait()

    def _answer(self):
        line = self._process.stdout.readline()
        found = json.loads(line) if line else {"error": "its process ended"}
        if "error" in found:
            raise RuntimeError(found["error"])
        return found


def _answer_calls(name, folder, threads):
    """What the process of an engine does. What libraries print goes to standard error."""
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def say(**answer):
        out.write(json.dumps(answer) + "\n")
        out.flush()

    kind, weights = ENGINES[name]
    try:
        engine = kind(Path(folder), int(threads), weights)
    except Exception as error:
        say(error=f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:150]}")
        return
    say(ready=True)
    for line in sys.stdin:
        sources, beams, length = json.loads(line)
        start = time.perf_counter()
        tokens = engine.generate(sources, beams, length)
        seconds = time.perf_counter() - start
        say(tokens=[[int(i) for i in row] for row in tokens], seconds=seconds)


if __name__ == "__main__":
    _answer_calls(*sys.argv[1:])
