"""Side-by-side timing of attention, and the table of it.

All contestants compute the same problem in one process, in turn, round by round, so that whatever
slows the machine slows all of them. Each is compared with float64, computed differently.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from .contestants import CONTESTANTS, OURS, Array, Problem, Way

ROUNDS = 7
ROUND_SECONDS = 0.02  # a round repeats a short call until it lasts this long
SLOW_SECONDS = 0.3  # a call that takes longer is timed twice only
QUIET_SECONDS = 0.15  # between rounds: OpenBLAS was seen to spin for 0.1 s after a call


class Shape(NamedTuple):
    """One problem: batch, heads, queries, keys, width, and what is special about it."""

    batch: int
    heads: int
    queries: int
    keys: int
    width: int
    key_heads: int = 0  # 0: as many as heads
    causal: bool = False
    dtype: str = "float32"

    def __str__(self) -> str:
        heads = f"{self.heads}:{self.key_heads}" if self.key_heads else f"{self.heads}"
        parts = [self.batch, heads, self.queries, self.keys, self.width]
        text = ", ".join(map(str, parts)) + (" causal" if self.causal else "")
        return text if self.dtype == "float32" else f"{text} {self.dtype}"


GRID = (
    Shape(1, 8, 1, 64, 64),
    Shape(1, 8, 1, 512, 64),
    Shape(1, 8, 1, 4096, 64),
    Shape(8, 8, 1, 512, 64),
    Shape(1, 8, 32, 32, 64),
    Shape(1, 8, 128, 128, 64),
    Shape(1, 8, 512, 512, 64),
    Shape(1, 8, 2048, 2048, 64),
    Shape(1, 6, 1500, 1500, 64),  # the encoder of Whisper tiny
)

# Beside it: other widths, batches, causal masks, grouped-query heads, half the bytes.
WIDE_GRID = (
    *GRID,
    *(Shape(1, 8, 512, 512, width) for width in (32, 80, 128, 256)),
    *(Shape(1, 8, 1, 1024, width) for width in (32, 80, 128, 256)),
    Shape(1, 2, 4096, 4096, 64),
    Shape(1, 4, 2048, 2048, 128),
    Shape(1, 8, 512, 512, 64, causal=True),
    Shape(1, 8, 2048, 2048, 64, causal=True),
    Shape(1, 32, 1, 4096, 64, key_heads=4),
    Shape(1, 32, 512, 512, 64, key_heads=4),
    Shape(16, 8, 1, 512, 64),
    Shape(64, 8, 1, 512, 64),
    Shape(64, 8, 32, 32, 64),
    Shape(1, 8, 1, 4096, 64, dtype="float16"),
    Shape(64, 8, 1, 512, 64, dtype="float16"),
    Shape(1, 8, 512, 512, 64, dtype="float16"),
)


@dataclass(frozen=True)
class Cell:
    """One contestant at one shape."""

    seconds: float  # median of the rounds
    fastest: float  # round
    slowest: float
    error: float  # largest absolute difference from float64


def measure(
    shapes: Sequence[Shape] = GRID,
    threads: int = 1,
    report: Callable[[Shape, dict[str, Cell]], None] | None = None,
) -> list[dict[str, Cell]]:
    """Time every contestant at every shape; calls `report` after each."""
    table = []
    for shape in shapes:
        row = _measure(shape, threads)
        table.append(row)
        if report:
            report(shape, row)
    return table


def _measure(shape: Shape, threads: int) -> dict[str, Cell]:
    draw = np.random.default_rng(0)
    b, h, tq, tk, d, hk, causal, dtype = shape
    q, k, v = (
        draw.standard_normal((b, heads, t, d), np.float32).astype(dtype)
        for heads, t in ((h, tq), (hk or h, tk), (hk or h, tk))
    )
    problem = Problem(q, k, v, causal, threads)
    exact = _exact(q, k, v, causal)
    ways: dict[str, Way] = {}
    for name, prepare in CONTESTANTS.items():
        try:
            found = [(_seconds(way, 2), way) for way in prepare(problem)]
        except Exception as error:  # a peer that cannot do this shape says so in its own way
            print(f"{name} does not do {shape}: {str(error).splitlines()[0]}", file=sys.stderr)
            continue
        if found:
            ways[name] = min(found, key=lambda pair: pair[0])[1]
    times: dict[str, list[float]] = {name: [] for name in ways}
    errors, repeats, rounds = {}, {}, {}
    for name, way in ways.items():
        with way.context:
            errors[name] = float(np.abs(np.asarray(way.compute(), np.float64) - exact).max())
        spent = _seconds(way, 1)
        repeats[name] = max(1, int(ROUND_SECONDS / spent))
        rounds[name] = ROUNDS if spent < SLOW_SECONDS else 2
    for turn in range(ROUNDS):
        for name, way in ways.items():
            if turn >= rounds[name]:
                continue
            _let_others_sleep()
            _seconds(way, min(repeats[name], 3))  # its own threads awake, its data in the cache
            times[name].append(_seconds(way, repeats[name]))
    return {
        name: Cell(statistics.median(found), min(found), max(found), errors[name])
        for name, found in times.items()
    }


def _seconds(way: Way, repeats: int) -> float:
    compute = way.compute
    with way.context:
        start = time.perf_counter()
        for _ in range(repeats):
            compute()
        return (time.perf_counter() - start) / repeats


def _let_others_sleep() -> None:
    """Waits, without sleeping itself: a virtual processor that idles may come back slower."""
    end = time.perf_counter() + QUIET_SECONDS
    while time.perf_counter() < end:
        pass


def _exact(q: Array, k: Array, v: Array, causal: bool) -> Array:
    """float64, head by head, through BLAS and NumPy's exp: shares nothing with the contract."""
    out = np.empty((*q.shape[:-1], v.shape[-1]))
    group = q.shape[1] // k.shape[1]
    for index in np.ndindex(q.shape[:2]):
        at = index[0], index[1] // group
        scores = q[index].astype(np.float64) @ k[at].astype(np.float64).T / q.shape[-1] ** 0.5
        if causal:
            scores[np.tri(*scores.shape) == 0] = -np.inf
        weights = np.exp(scores - scores.max(axis=1, keepdims=True))
        out[index] = weights / weights.sum(axis=1, keepdims=True) @ v[at].astype(np.float64)
    return out


# ---- the report ----


def header(contestants: Sequence[str] = tuple(CONTESTANTS)) -> str:
    """The first two lines of a Markdown table."""
    columns = ["B, H, Tq, Tk, D", *contestants, "fastest peer / native", "error", "peers' error"]
    return f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}"


def line(shape: Shape, row: dict[str, Cell], contestants: Sequence[str] | None = None) -> str:
    """One line of it: microseconds (and the spread of the rounds), the ratio, errors."""
    native = row.get("native") or row["numpy"]
    peers = [cell for name, cell in row.items() if name not in OURS]
    cells = [str(shape)]
    for name in contestants or row:
        cell = row.get(name)
        cells.append(f"{1e6 * cell.seconds:,.1f} ±{100 * spread(cell):.0f}%" if cell else "")
    cells.append(f"{ratio(row):.2f}" if peers else "")
    cells.append(f"{native.error:.1e}")
    cells.append(f"{min(c.error for c in peers):.1e}" if peers else "")
    return f"| {' | '.join(cells)} |"


def spread(cell: Cell) -> float:
    """Half the range of the rounds, as a part of their median."""
    return (cell.slowest - cell.fastest) / 2 / cell.seconds


class Ratio(NamedTuple):
    """A peer's time by ours: above 1 is faster than the peer."""

    median: float
    least: float  # the peer's fastest round by our slowest
    most: float


def ratios(row: dict[str, Cell]) -> dict[str, Ratio]:
    """Of every peer at one shape."""
    ours = row.get("native") or row["numpy"]
    return {
        name: Ratio(
            cell.seconds / ours.seconds,
            cell.fastest / ours.slowest,
            cell.slowest / ours.fastest,
        )
        for name, cell in row.items()
        if name not in OURS
    }


def ratio(row: dict[str, Cell]) -> float:
    """The fastest peer's time by ours: above 1 is faster than every peer."""
    return min(one.median for one in ratios(row).values())
