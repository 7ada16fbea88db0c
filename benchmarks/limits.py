"""What one core of this machine can do at most, by machine.c, and the least time that a model's
products take at that rate: no program that computes each of them is faster.

A product in float32 is a multiply and an add; one of eight-bit integers a quarter of what a lane of
a dot-product instruction does.
"""

from __future__ import annotations

import math
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, NamedTuple

from seq2seq_fast.nn.attention import CrossAttention
from seq2seq_fast.nn.linear import Linear


class Products(NamedTuple):
    """How many a piece of work has."""

    floats: float = 0
    integers: float = 0

    def plus(self, other: Products, times: float = 1) -> Products:
        return Products(self.floats + times * other.floats, self.integers + times * other.integers)


@dataclass(frozen=True)
class Limits:
    """Of one core: products a second, and bytes a second by the size of what is read."""

    floats: float
    integers: float | None  # None without VNNI
    reads: dict[int, float]

    def least(self, work: Products, threads: int = 1) -> float | None:
        """Seconds that the products take at least; None where the rate is not known."""
        if work.integers and not self.integers:
            return None
        spent = work.floats / self.floats + work.integers / (self.integers or 1)
        return spent / threads

    def read_rate(self, size: float) -> float:
        """Bytes a second, where that many are read again and again."""
        return self.reads[min(self.reads, key=lambda known: abs(math.log(known / size)))]

    def __str__(self) -> str:
        integers = "" if self.integers is None else f", {self.integers / 1e9:.0f} of eight bits"
        reads = ", ".join(f"{size >> 20} MB {rate / 1e9:.0f}" for size, rate in self.reads.items())
        return (
            f"one core: {self.floats / 1e9:.0f} G products/s of float32"
            f" ({2 * self.floats / 1e9:.0f} Gflop/s of multiply and add){integers};"
            f" reads, GB/s: {reads}"
        )


def measure() -> Limits | None:
    """What machine.c finds; None without a compiler."""
    compiler = os.environ.get("CC", "cc")
    if shutil.which(compiler) is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder, "machine")
        source = Path(__file__).with_name("machine.c")
        subprocess.run([compiler, "-O3", "-march=native", source, "-o", program], check=True)
        lines = subprocess.run([program], check=True, capture_output=True, text=True).stdout
    found = {name: 1e9 * float(rate) for name, rate in map(str.split, lines.splitlines())}
    return Limits(
        found.pop("float"), found.pop("integer", None), {int(n): r for n, r in found.items()}
    )


# ---- what a model has to compute ----


def _linears(part: Any) -> Iterator[Linear]:
    if isinstance(part, Linear):
        yield part
    elif isinstance(part, tuple):
        for one in part:
            yield from _linears(one)
    elif is_dataclass(part):
        for field in fields(part):
            yield from _linears(getattr(part, field.name))


def _of(layers: Any, rows: float) -> Products:
    """Of rows through linear layers."""
    total = Products()
    for layer in _linears(layers):
        count = rows * layer.matrix.inputs * layer.matrix.outputs
        is_float = layer.matrix.scales is None
        total = total.plus(Products(count, 0) if is_float else Products(0, count))
    return total


def encoding(encoder: Any, time: int) -> Products:
    """One sequence through an encoder; of sound, `time` is half the frames."""
    total = _of(encoder.layers, time)
    for layer in encoder.layers:
        half = time**2 * layer.attention.heads.query_width
        total = total.plus(Products(half, half) if encoder.integer_scores else Products(2 * half))
    if hasattr(encoder.embedding, "first"):
        total = total.plus(_of(encoder.embedding.first, 2 * time))
        total = total.plus(_of(encoder.embedding.second, time))
    return total


def decoding(
    decoder: Any, memory: int, steps: int, rows: int, outputs: int | None = None
) -> Products:
    """`steps` tokens of each of `rows` hypotheses of one sequence, with logits of `outputs` tokens,
    all if None. Attention to the steps before is left out: it is little."""
    total = Products()
    for layer in decoder.layers:
        cross: CrossAttention = layer.attention
        total = total.plus(_of(cross.key_value, memory))
        parts = (layer.past, cross.query, cross.output, layer.feed_forward)
        total = total.plus(_of(parts, steps * rows))
        total = total.plus(Products(2 * memory * cross.heads.query_width), steps * rows)
    part = 1 if outputs is None else outputs / decoder.output.matrix.outputs
    return total.plus(_of(decoder.output, steps * rows), part)


def weights_of(decoder: Any) -> int:
    """Bytes of the matrices that a step of a decoder reads."""
    layers = [
        (layer.past, layer.attention.query, layer.attention.output, layer.feed_forward)
        for layer in decoder.layers
    ]
    return sum(one.matrix.nbytes for one in _linears((tuple(layers), decoder.output)))
