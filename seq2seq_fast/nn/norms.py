"""Norms of rows, and where a sublayer has its norm: pre-norm, post-norm, or both."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..backends.selection import current
from ..pickling import Part
from .checks import must_equal
from .weights import check_floats

Array = np.ndarray[Any, Any]

KINDS = ("layer", "rms")
PLACEMENTS = ("pre", "post", "both")


@dataclass(frozen=True, eq=False)
class Norm(Part):
    """A norm of rows x (..., features), of one of KINDS.

    Layer norm: (x - mean) / sqrt(variance + eps) * gamma + beta (Ba et al., "Layer Normalization",
    2016); without beta, zeros are added. RMS norm: x / sqrt(mean of x^2 + eps) * gamma (Zhang and
    Sennrich, "Root Mean Square Layer Normalization", 2019), which has no beta.
    """

    gamma: Array  # (features,)
    beta: Array | None  # (features,)
    eps: float
    kind: str = "layer"

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"a norm is of the kind {self.kind!r}, expected one of {KINDS}")
        check_floats("gamma", self.gamma, self.gamma.size)
        if self.beta is not None:
            if self.kind == "rms":
                raise ValueError("an RMS norm has no beta")
            check_floats("beta", self.beta, self.gamma.size)

    @functools.cached_property
    def shift(self) -> Array | None:
        """What is added at last (features,), as backends take it: for them a norm without is RMS
        norm. To add zeros makes 0 of -0 and changes nothing else."""
        if self.beta is None and self.kind == "layer":
            return np.zeros(self.gamma.size, np.float32)
        return self.beta

    def __call__(self, x: Array) -> Array:
        return current().norm(x, self.gamma, self.shift, self.eps)


@dataclass(frozen=True, eq=False)
class SublayerNorm:
    """The norm of a sublayer f, by its placement (Xiong et al., "On Layer Normalization in the
    Transformer Architecture", 2020): pre-norm is x + f(norm(x)), post-norm is norm(x + f(x)), and
    both together are second(x + f(norm(x)))."""

    norm: Norm
    placement: str  # of PLACEMENTS
    second: Norm | None = None  # where there are both

    def __post_init__(self) -> None:
        if self.placement not in PLACEMENTS:
            raise ValueError(f"a norm is placed {self.placement!r}, expected one of {PLACEMENTS}")
        if (self.placement == "both") != (self.second is not None):
            raise ValueError(f"a second norm is for the placement 'both'; got {self.placement!r}")
        if self.second is not None:
            must_equal("widths of norms", self.norm.gamma.size, self.second.gamma.size)

    def before(self, ops: Any, x: Any) -> Any:
        """What f takes, of the sublayer's input x."""
        return x if self.placement == "post" else ops.norm(self.norm, x)

    def after(self, ops: Any, y: Any) -> Any:
        """The sublayer's output, of y = x + what f gave."""
        if self.placement == "post":
            return ops.norm(self.norm, y)
        return y if self.second is None else ops.norm(self.second, y)
