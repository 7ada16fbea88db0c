"""Loading takes hardly more memory than what is kept."""

from __future__ import annotations

import subprocess
import sys

import pytest
import random_ctranslate2
import random_whisper
import tiny_marian
from ml_dtypes import bfloat16

MEASURE = """
import re, sys
import seq2seq_fast.speech.transcriber
from seq2seq_fast import load

def status(key):
    with open("/proc/self/status") as file:
        return int(re.search(rf"{key}:\\s+(\\d+)", file.read())[1]) * 1024

before = status("VmRSS")
with open("/proc/self/clear_refs", "w") as file:
    file.write("5")  # the peak begins anew
model = load(sys.argv[1], weights=sys.argv[2] or None)
print(status("VmHWM") - before, model.nbytes)
"""
CONSTANT = 6 << 20  # blocks of weights on their way, the tokens' names, Python's own objects


def write_text(folder, quantization):
    random_ctranslate2.write(
        folder, layers=3, width=384, inner=1536, vocabulary=9000, positions=64, tied=True,
        quantization=quantization,
    )  # fmt: skip


def write_speech(folder, quantization):
    random_whisper.write(folder, width=192, inner=768, quantization=quantization)


def write_hugging_face(layout):
    def write(folder, quantization):
        random_whisper.write_hugging_face(
            folder, width=192, inner=768, layout=layout, dtype=quantization or "float32"
        )

    return write


def write_marian(folder, quantization):
    with pytest.MonkeyPatch.context() as patch:
        for name, size in (("WIDTH", 384), ("INNER", 1536), ("VOCABULARY", 16000)):
            patch.setattr(tiny_marian, name, size)
        tensors = tiny_marian.random_tensors()
        file = tiny_marian.model_file(tensors)
    if quantization is None:
        text = tiny_marian.CONFIG.encode() + b"\0"
        blobs = {name: tiny_marian.blob(array) for name, array in tensors.items()}
        blobs["special:model.yml"] = (tiny_marian.INT8, (len(text),), text)
        file = tiny_marian.pack(blobs)
    (folder / "model.bin").write_bytes(file)


@pytest.mark.skipif(sys.platform != "linux", reason="what is measured is in Linux's /proc")
@pytest.mark.parametrize(
    ("write", "quantization", "weights"),
    [
        (write_text, None, ""),
        (write_text, None, "float16"),
        (write_text, None, "int8"),
        (write_text, "float16", ""),
        (write_text, "float16", "int8"),
        (write_text, "int8", ""),
        (write_text, "int8", "float32"),
        (write_speech, "float16", ""),
        (write_speech, "float16", "int8"),
        *(
            (write_hugging_face(layout), quantization, weights)
            for layout in random_whisper.LAYOUTS
            for quantization in (None, "float16", bfloat16)
            for weights in ("", "int8")
        ),
        (write_hugging_face("torch"), None, "float16"),
        (write_hugging_face("torch"), bfloat16, "float32"),
        (write_marian, "int8", ""),
        (write_marian, "int8", "float32"),
        (write_marian, None, ""),
        (write_marian, None, "int8"),
    ],
)
def test_memory(tmp_path, write, quantization, weights):
    write(tmp_path, quantization)
    command = [sys.executable, "-c", MEASURE, str(tmp_path), weights]
    found = subprocess.run(command, check=True, capture_output=True, text=True)
    grown, kept = map(int, found.stdout.split())
    assert grown < 1.05 * kept + CONSTANT
