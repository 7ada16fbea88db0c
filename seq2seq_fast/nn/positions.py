"""Positions: vectors that are added to tokens, and biases that are added to scores of attention."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import contract

Array = np.ndarray[Any, Any]

MAX_FIRST = 1 << 16


@dataclass(frozen=True, eq=False)
class Sinusoids:
    """Position vectors of Vaswani et al., 2017, section 3.5, sines in the first half and cosines in
    the second: sin(p * 10000^(-i / n)). The paper's n is width / 2; with `endpoint` it is one less,
    so that the last rate is 1 / 10000 itself, as tensor2tensor has it and most since."""

    width: int
    first: int = 0  # the position of the first token
    endpoint: bool = True

    def __post_init__(self) -> None:
        if self.width % 2 or self.width < 4 or not 0 <= self.first <= MAX_FIRST:
            raise ValueError(f"no sinusoids of width {self.width} from {self.first}")

    @property
    def most(self) -> int:
        """Tokens that there are vectors for."""
        return 1 << 62

    def __call__(self, start: int, count: int) -> Array:
        """The vectors of `count` tokens from the token `start` on: (count, width)."""
        start += self.first
        known = 64
        while known < start + count:
            known *= 2
        return sinusoids(known, self.width, self.endpoint)[start : start + count]


@functools.lru_cache(maxsize=16)
def sinusoids(count: int, width: int, endpoint: bool = True) -> Array:
    """Of the positions from 0: (count, width)."""
    half = width // 2
    rate = -contract.log(np.array([1e4])) / (half - endpoint)
    angles = np.arange(count)[:, None] * contract.exp(np.arange(half) * rate)
    table = np.concatenate(contract.sincos(angles), axis=1).astype(np.float32)
    table.flags.writeable = False
    return table


@dataclass(frozen=True, eq=False)
class LearnedPositions:
    """One vector for each position that the model has seen."""

    table: Array  # (positions, width)

    def __post_init__(self) -> None:
        if self.table.ndim != 2 or self.table.dtype != np.float32:
            raise ValueError(f"positions are {self.table.shape} {self.table.dtype}")

    @property
    def width(self) -> int:
        return int(self.table.shape[1])

    @property
    def most(self) -> int:
        """Tokens that there are vectors for."""
        return len(self.table)

    def __call__(self, start: int, count: int) -> Array:
        """The vectors of `count` tokens from the token `start` on: (count, width)."""
        if start + count > len(self.table):
            raise ValueError(
                f"the model knows {len(self.table)} positions; got a sequence of {start + count}"
            )
        return self.table[start : start + count]


@dataclass(frozen=True, eq=False)
class RelativeBias:
    """What is added to the scores of attention by how far a key is from its query: Raffel et al.,
    "Exploring the Limits of Transfer Learning with a Unified Text-to-Text Transformer", 2020,
    section 2.1.

    Distances share buckets: half of these are of one distance each, the others widen up to
    `max_distance`, from which on all have the last one. Of a bidirectional bias the second half of
    the table is of the keys that come after their query.
    """

    table: Array  # (buckets, heads)
    bidirectional: bool
    max_distance: int

    def __post_init__(self) -> None:
        if self.table.ndim != 2 or self.table.dtype != np.float32:
            raise ValueError(f"a relative bias has {self.table.shape} {self.table.dtype}")
        if self._exact < 1 or self.max_distance <= self._exact:
            raise ValueError(
                f"no relative bias of {len(self.table)} buckets up to {self.max_distance}"
            )

    @property
    def heads(self) -> int:
        return int(self.table.shape[1])

    @property
    def _side(self) -> int:
        """Buckets of the keys before a query."""
        return len(self.table) // 2 if self.bidirectional else len(self.table)

    @property
    def _exact(self) -> int:
        """Those that are of one distance each."""
        return self._side // 2

    @functools.cached_property
    def _starts(self) -> list[int]:
        """The distance at which each bucket begins. Whole numbers are compared, so that no rounding
        of a logarithm moves a boundary: bucket exact + k begins with the least distance d of
        (d / exact) ** (side - exact) >= (max_distance / exact) ** k."""
        exact, wide = self._exact, self._side - self._exact
        starts = [*range(exact), exact]
        for k in range(1, wide):
            least = self.max_distance**k * exact ** (wide - k)
            d = starts[-1]
            while d**wide < least:
                d += 1
            starts.append(d)
        return starts

    def line(self, distance: int) -> Array:
        """The biases of keys from `distance` before their query to as many after it,
        (heads, 2 * distance + 1)."""
        known = self._lines.get("line")
        if known is None or known.shape[1] < 2 * distance + 1:
            room = 64
            while room < distance:
                room *= 2
            known = self._lines["line"] = self._line(room)
        middle = known.shape[1] // 2
        return known[:, middle - distance : middle + distance + 1]

    @functools.cached_property
    def _lines(self) -> dict[str, Array]:
        """The longest line so far."""
        return {}

    def _line(self, distance: int) -> Array:
        before = np.searchsorted(self._starts, np.arange(distance + 1), side="right") - 1
        after = before + self._side if self.bidirectional else np.zeros_like(before)
        buckets = np.concatenate([before[:0:-1], before[:1], after[1:]])
        line = np.ascontiguousarray(self.table[buckets].T)
        line.flags.writeable = False
        return line

    def of_queries(self, first: int, queries: int, keys: int) -> Array:
        """The biases of queries at the positions from `first` on and keys at those from 0,
        (heads, queries, keys): a view of one line."""
        line = self.line(max(first + queries, keys))
        middle = line.shape[1] // 2
        head, step = line.strides
        return np.lib.stride_tricks.as_strided(
            line[:, middle - first :],
            (self.heads, queries, keys),
            (head, -step, step),
            writeable=False,
        )


def check_positions(name: str, positions: Sinusoids | LearnedPositions | None, time: int) -> None:
    """Raises ValueError unless the model has positions for a source."""
    if positions is not None and time > positions.most:
        raise ValueError(
            f"{name} must take at most {positions.most} positions, as the model has; got {time}"
        )
