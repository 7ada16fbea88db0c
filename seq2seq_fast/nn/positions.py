"""Vectors of positions: sinusoids, learned ones."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import contract

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, eq=False)
class Sinusoids:
    """Position vectors of Vaswani et al., 2017, section 3.5, sines in the first half and cosines in
    the second: sin(p * 10000^(-i / (width / 2 - 1)))."""

    width: int
    first: int = 0  # the position of the first token

    def __post_init__(self) -> None:
        if self.width % 2 or self.width < 4 or not 0 <= self.first <= 1:
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
        return sinusoids(known, self.width)[start : start + count]


@functools.lru_cache(maxsize=16)
def sinusoids(count: int, width: int) -> Array:
    """Of the positions from 0: (count, width)."""
    half = width // 2
    rate = -contract.log(np.array([1e4])) / (half - 1)
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


def check_positions(name: str, positions: Sinusoids | LearnedPositions | None, time: int) -> None:
    """Raises ValueError unless the model has positions for a source."""
    if positions is not None and time > positions.most:
        raise ValueError(
            f"{name} must take at most {positions.most} positions, as the model has; got {time}"
        )
