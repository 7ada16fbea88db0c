"""What a model reads first: tokens, or the spectrum of sound."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..backends.backend import LinearWeights
from ..checks import shown, token_ids
from ..pickling import Part
from .checks import checked_ids, must_be_known, must_equal
from .linear import Convolution
from .norms import Norm
from .positions import LearnedPositions, Sinusoids, check_positions
from .weights import Matrix

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, eq=False)
class Embedding(Part):
    """norm(table[id] * scale + position), or norm(table[id] * scale) + position."""

    matrix: Matrix  # an output for each token
    scale: float
    positions: Sinusoids | LearnedPositions | None
    norm: Norm | None = None
    norm_first: bool = False

    def __post_init__(self) -> None:
        if self.norm_first and self.norm is None:
            raise ValueError("norm_first needs a norm")
        if self.positions is not None:
            must_equal("widths of an embedding", self.width, self.positions.width)
        if self.norm is not None:
            must_equal("widths of an embedding", self.width, self.norm.gamma.size)

    @functools.cached_property
    def weights(self) -> LinearWeights:
        """The table as the kernel takes it."""
        return LinearWeights(self.matrix)

    @property
    def size(self) -> int:
        """Tokens in the vocabulary."""
        return self.matrix.outputs

    @property
    def width(self) -> int:
        return self.matrix.inputs

    def batch(self, sources: Sequence[Any]) -> tuple[Array, Array]:
        """Sequences of token ids -> (batch, time, features) and each one's length.

        Raises
        ------
        TypeError, ValueError
            No sequence, an empty one, or an id that is not in the vocabulary; the message names the
            sequence.
        """
        if len(sources) == 0:
            raise ValueError("sources must hold at least one sequence")
        every = []
        for i, ids in enumerate(sources):
            name = f"sources[{i}]"
            given = token_ids(name, ids)
            if not len(given):
                raise ValueError(f"{name} must not be empty")
            every.append(checked_ids(given, self.size, name))
            check_positions(name, self.positions, len(given))
        lengths = [len(ids) for ids in every]
        padded = np.zeros((len(every), max(lengths)), np.int64)
        for row, ids in zip(padded, every, strict=True):
            row[: len(ids)] = ids
        return self(padded), np.array(lengths, np.int64)

    def __call__(self, ids: Array, start: int = 0) -> Array:
        """ids (batch, time) -> (batch, time, features); the first is the token `start`."""
        rows = self.matrix.rows(ids.reshape(-1)).reshape(*ids.shape, self.width)
        if self.scale != 1:
            rows = rows * np.float32(self.scale)
        return self.placed(rows, start)

    def placed(self, rows: Array, start: int) -> Array:
        """What becomes of scaled token vectors (batch, time, features)."""
        if self.norm_first and self.norm is not None:
            rows = self.norm(rows)
        if self.positions is not None:
            rows = rows + self.positions(start, rows.shape[1])
        return rows if self.norm is None or self.norm_first else self.norm(rows)


@dataclass(frozen=True, eq=False)
class SpectrumEmbedding:
    """What stands in place of an embedding where the source is sound: two convolutions of its
    spectrum, and positions (Radford et al., "Robust Speech Recognition via Large-Scale Weak
    Supervision", 2022, section 2.2)."""

    first: Convolution
    second: Convolution
    positions: LearnedPositions
    activation: str = "gelu"

    def __post_init__(self) -> None:
        must_equal(
            "widths of a spectrum's embedding", self.first.linear.matrix.outputs,
            self.second.channels, self.second.linear.matrix.outputs, self.positions.width,
        )  # fmt: skip
        must_be_known(self.activation)

    @property
    def width(self) -> int:
        return self.positions.width

    @property
    def bands(self) -> int:
        """Frequencies of a spectrum."""
        return self.first.channels

    def batch(self, sources: Sequence[Any]) -> tuple[Array, Array]:
        """Spectra (frames, bands) float32 -> (batch, time, features) and each one's length.

        Raises
        ------
        TypeError, ValueError
            No spectrum, an empty one, or one of another shape or type.
        """
        if len(sources) == 0:
            raise ValueError("sources must hold at least one spectrum")
        for i, spectrum in enumerate(sources):
            if not isinstance(spectrum, np.ndarray) or spectrum.dtype != np.float32:
                what = spectrum.dtype if isinstance(spectrum, np.ndarray) else shown(spectrum)
                raise TypeError(f"sources[{i}] must be an array of float32; got {what}")
            if spectrum.ndim != 2 or spectrum.shape[1] != self.bands or not len(spectrum):
                raise ValueError(
                    f"sources[{i}] must have the shape (frames, {self.bands}); got {spectrum.shape}"
                )
            time = self.second.length(self.first.length(len(spectrum)))
            check_positions(f"sources[{i}]", self.positions, time)
        every = [self._one(spectrum) for spectrum in sources]
        lengths = np.array([len(x) for x in every], np.int64)
        if len(every) == 1:
            return every[0][None], lengths
        padded = np.zeros((len(every), lengths.max(), self.width), np.float32)
        for row, x in zip(padded, every, strict=True):
            row[: len(x)] = x
        return padded, lengths

    def _one(self, spectrum: Array) -> Array:
        """(frames, bands) -> (time, features)."""
        padded, inner = self.first.padded(len(spectrum))
        inner[:] = spectrum
        time = self.first.length(len(spectrum))
        between, inner = self.second.padded(time)
        self.first(padded, self.activation, out=inner)
        positions = self.positions(0, self.second.length(time))
        return self.second(between, self.activation, residual=positions)
