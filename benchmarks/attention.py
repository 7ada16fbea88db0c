"""Attention beside every installed peer, and beside what this machine can do at most.

    pip install ".[bench]" torch onnxruntime onnx
    python benchmarks/attention.py [--quick] [--json FILE.json] [--plot FILE.png]

Prints the tables of README.md beside it (`--quick`: nine shapes only) and the goals of the kernel:
the share of the multiply-add rate and of the read bandwidth, both measured in the same run by
machine.c, the cost of a call, memory, and time over the number of keys. Each number of threads
has a process of its own, since libraries keep their threads once they have started.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import limits
import numpy as np

from seq2seq_fast import KeyValueCache, attention, use
from seq2seq_fast.cli import measuring
from seq2seq_fast.cli.contestants import CONTESTANTS, describe

ROUNDS = 9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="nine shapes only")
    parser.add_argument(
        "--json", type=Path, metavar="FILE.json", help="everything, with the machine"
    )
    parser.add_argument("--plot", type=Path, metavar="FILE.png", help="its ratios on one thread")
    parser.add_argument("--part", help=argparse.SUPPRESS)  # of the work, in a process of its own
    options = parser.parse_args()
    if options.part:
        found = goals() if options.part == "goals" else grid(int(options.part), options.quick)
        options.json.write_text(json.dumps(found))
        return
    print(*describe(), sep="\n", flush=True)
    everything = {"machine": describe(), "date": time.strftime("%Y-%m-%d"), "grid": {}}
    with tempfile.TemporaryDirectory() as folder:
        for part in ("1", "2", "goals"):
            print(f"\n## {part if part == 'goals' else f'Threads: {part}'}\n", flush=True)
            result = Path(folder, part)
            command = [sys.executable, __file__, "--part", part, "--json", str(result)]
            subprocess.run(command + ["--quick"] * options.quick, check=True)
            found = json.loads(result.read_text())
            if part == "goals":
                everything[part] = found
            else:
                everything["grid"][part] = found
    if options.json:
        options.json.write_text(json.dumps(everything, indent=1))
    if options.plot:
        from seq2seq_fast.cli.plot import benchmark

        rows = [
            (row["shape"], {name: measuring.Cell(**cell) for name, cell in row["cells"].items()})
            for row in everything["grid"]["1"]
        ]
        benchmark([(shape, measuring.ratios(cells)) for shape, cells in rows], options.plot)


def grid(threads: int, quick: bool) -> list[dict]:
    """The table of one number of threads."""
    print(measuring.header())
    rows, shapes = [], []

    def report(shape: measuring.Shape, row: dict[str, measuring.Cell]) -> None:
        print(measuring.line(shape, row, list(CONTESTANTS)), flush=True)
        cells = {name: dataclasses.asdict(cell) for name, cell in row.items()}
        rows.append({"shape": str(shape), "ratio": measuring.ratio(row), "cells": cells})
        shapes.append(shape)

    measuring.measure(measuring.GRID if quick else measuring.WIDE_GRID, threads, report)
    ratios = [row["ratio"] for row in rows]
    mean = statistics.geometric_mean(ratios)
    slower = [row["shape"] for row in rows if row["ratio"] < 1]
    print(f"\nfastest peer / native: geometric mean {mean:.2f}, least {min(ratios):.2f}")
    print(f"slower than a peer: {'; '.join(slower) or 'none'}")
    machine = limits.measure()
    if machine is not None:
        for row, shape in zip(rows, shapes, strict=True):
            row["least"] = least_seconds(machine, shape, threads)
        native = statistics.geometric_mean(
            row["cells"]["native"]["seconds"] / row["least"] for row in rows
        )
        print(
            f"the least that products and reads take ({machine}):\nnative takes {native:.2f} times"
            f" that, the fastest peer {native * mean:.2f} times (geometric means): so much faster"
            " than peers one can be at most"
        )
    return rows


def least_seconds(machine: limits.Limits, shape: measuring.Shape, threads: int) -> float:
    """What the visible pairs' products take, or reading keys and values, if that is more."""
    heads = shape.batch * shape.heads
    pairs = shape.queries * shape.keys
    if shape.causal:  # as many queries as keys
        pairs = shape.queries * (shape.queries + 1) // 2
    products = limits.Products(2 * heads * pairs * shape.width)
    key_heads = shape.batch * (shape.key_heads or shape.heads)
    size = 2 * key_heads * shape.keys * shape.width * np.dtype(shape.dtype).itemsize
    return max(machine.least(products) or 0, size / machine.read_rate(size)) / threads


# ---- goals: the kernel beside the machine ----


def seconds(compute, least: float = 0.05) -> float:
    """Median of some rounds, each of which repeats a short call."""
    compute()
    start = time.perf_counter()
    compute()
    repeats = max(1, int(least / (time.perf_counter() - start)))
    rounds = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        for _ in range(repeats):
            compute()
        rounds.append((time.perf_counter() - start) / repeats)
    return statistics.median(rounds)


def goals() -> list[dict]:
    machine = limits.measure()
    if machine is None:
        print("no C compiler: nothing to compare with")
        return []
    print(machine, end="\n\n")
    peak = 2 * machine.floats / 1e9
    found = [{"peak": peak, "read": {n: r / 1e9 for n, r in machine.reads.items()}}]
    rng = np.random.default_rng(0)

    def draw(*shape, dtype=np.float32):
        return rng.standard_normal(shape, np.float32).astype(dtype)

    def row(name: str, value: float, unit: str, share: float | None = None) -> None:
        beside = "" if share is None else f"{100 * share:.0f} %"
        print(f"| {name} | {value:,.2f} {unit} | {beside} |", flush=True)
        found.append({"name": name, "value": value, "unit": unit, "share": share})

    print("| what | measured | of the machine's |\n|---|---|---|")
    for width in (64, 128):
        for heads, keys in ((8, 512), (8, 1024), (4, 2048), (1, 4096)):
            arrays = [draw(heads, keys, width) for _ in range(3)]
            once = {}
            for threads in (1, 2):
                with use(threads=threads):
                    once[threads] = seconds(lambda a=arrays: attention(*a), 0.2)
            rate = 4 * heads * keys * keys * width / once[1] / 1e9
            row(f"{heads} x {keys} x {keys} x {width}", rate, "Gflop/s", rate / peak)
            row("the same, two threads", once[1] / once[2], "times as fast")
    for keys, heads in ((1024, 8), (4096, 8), (32768, 16)):
        for dtype in (np.float32, np.float16):
            q = draw(1, heads, 1, 64)
            k, v = draw(1, heads, keys, 64, dtype=dtype), draw(1, heads, keys, 64, dtype=dtype)
            cache = KeyValueCache(1, heads, 64, capacity=keys, dtype=dtype)
            cache.append(k, v)
            size = k.nbytes + v.nbytes
            for layout, operands in (("rows", (k, v)), ("cache", (cache,))):
                with use(threads=1):
                    rate = size / seconds(lambda q=q, o=operands: attention(q, *o)) / 1e9
                name = f"decode, {np.dtype(dtype).name}, {size / 2**20:.0f} MB, {layout}"
                row(name, rate, "GB/s", 1e9 * rate / machine.read_rate(size))
    tiny = [draw(8, keys, 64) for keys in (1, 16, 16)]
    with use(threads=1):
        row("a call: 8 x 1 x 16 x 64", 1e6 * seconds(lambda: attention(*tiny)), "us")
    for queries in (1, 1000):
        row(f"memory beyond the result, {queries} x 100,000", extra_memory(queries), "MB")
    for keys in (1024, 4096, 16384, 65536, 131072):
        q, k, v = draw(256, 64), draw(keys, 64), draw(keys, 64)
        with use(threads=1):
            spent = seconds(lambda q=q, k=k, v=v: attention(q, k, v), 0.2)
            row(f"256 x {keys}", 1e9 * spent / (256 * keys), "ns a pair")
            q, k, v = draw(keys, 64), draw(keys, 64), draw(keys, 64)
            spent = seconds(lambda q=q, k=k, v=v: attention(q, k, v, causal=True, window=(255, 0)))
            row(f"{keys} x {keys}, causal, window 256", 1e9 * spent / (256 * keys), "ns a pair")
    return found


def extra_memory(queries: int) -> float:
    """MB that a call on one thread takes at most beyond its arguments and its result."""
    code = f"""
import numpy as np, seq2seq_fast as s
def status(name):
    return int(next(l for l in open("/proc/self/status") if l.startswith(name)).split()[1]) / 1024
q, k = np.ones(({queries}, 64), "f4"), np.ones((100_000, 64), "f4")
out = np.ones_like(q)
with s.use(threads=1):
    s.attention(q[:1, :1], q[:1, :1], q[:1, :1])
    open("/proc/self/clear_refs", "w").write("5")  # the peak counts from here
    before = status("VmRSS")
    s.attention(q, k, k, out=out)
    print(status("VmHWM") - before)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd="/"
    )
    return float(done.stdout)


if __name__ == "__main__":
    main()
