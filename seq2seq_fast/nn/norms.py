"""Norms of rows, and where a sublayer has its norm."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..backends.selection import current
from .weights import check_floats

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, eq=False)
class Norm:
    """Layer norm: (x - mean) / sqrt(variance + eps) * gamma + beta (Ba et al., 2016). Without beta,
    RMS norm: x / sqrt(mean of x^2 + eps) * gamma (Zhang and Sennrich, 2019)."""

    gamma: Array  # (features,)
    beta: Array | None
    eps: float

    def __post_init__(self) -> None:
        check_floats("gamma", self.gamma, self.gamma.size)
        if self.beta is not None:
            check_floats("beta", self.beta, self.gamma.size)

    def __call__(self, x: Array) -> Array:
        return current().norm(x, self.gamma, self.beta, self.eps)


@dataclass(frozen=True, eq=False)
class NormPlace:
    """Where a sublayer f has its norm: x + f(norm(x)) (pre), or norm(x + f(x)) (post)."""

    norm: Norm
    pre: bool

    def before(self, x: Array) -> Array:
        return self.norm(x) if self.pre else x

    def after(self, y: Array) -> Array:
        return y if self.pre else self.norm(y)
