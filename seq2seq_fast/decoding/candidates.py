"""The tokens that a source may use: all, or those of its shortlist."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .options import Options

if TYPE_CHECKING:
    from ..models.encoder_decoder import EncoderDecoder


Array = np.ndarray[Any, Any]


class Candidates:
    """Which token each column of the logits is: itself, or the one of the source's shortlist."""

    def __init__(self, model: EncoderDecoder, options: Options, samples: int, never: Array) -> None:
        self.union: Array | None = None
        self.places: Array | None = None
        if options.shortlist is None:
            return
        allowed = np.ones(model.vocabulary_size, bool)
        allowed[never] = False
        lists = []
        for i, given in enumerate(options.shortlist):
            ids = rising(given)
            if not (ids == model.eos).any():
                raise ValueError(f"shortlist: the list of source {i} lacks the end, {model.eos}")
            lists.append(ids[allowed[ids]])
        if min(map(len, lists)) == 0:
            raise ValueError("shortlist: a list has no token that is not suppressed")
        self.lists = [ids for ids in lists for _ in range(samples)]
        self.union = lists[0]
        self.lengths = np.array([len(ids) for ids in self.lists])
        if len(lists) > 1:
            wanted = np.zeros(len(allowed), bool)
            wanted[np.concatenate(lists)] = True
            self.union = np.flatnonzero(wanted)
            # Where each source's tokens stand in the union; past its list, nowhere.
            at = np.cumsum(wanted) - 1
            self.places = np.zeros((len(self.lists), self.lengths.max()), np.int64)
            for row, ids in zip(self.places, self.lists, strict=True):
                row[: len(ids)] = at[ids]

    def arrange(self, logits: Array, sources: Array, beams: int) -> Array:
        """Logits (rows, union) -> (rows, longest list), each row's own tokens first, then -inf."""
        if self.union is None or self.places is None:
            return logits
        every = np.repeat(sources, beams)
        own = np.take_along_axis(logits, self.places[every], axis=1)
        own[np.arange(own.shape[1]) >= self.lengths[every][:, None]] = -np.inf
        return own

    def own(self, sources: Array) -> tuple[Array, Array, Array] | None:
        """What arrange() goes by: each source's places, how many it has, and the rows' sources."""
        return None if self.places is None else (self.places, self.lengths, sources)

    def ids(self, columns: Array, sources: Array, beams: int) -> Array:
        """The tokens of columns (rows, any)."""
        if self.union is None:
            return columns
        if self.places is None:
            return self.union[columns]
        return self.union[self.places[np.repeat(sources, beams)[:, None], columns]]

    def columns(self, ids: Sequence[int], source: int) -> Any:
        """The columns of those of the tokens that one source may use."""
        return list(ids) if self.union is None else places(self.lists[source], ids)


def rising(ids: Sequence[int]) -> Array:
    """The ids in order, each once."""
    array = np.asarray(ids, np.int64)
    return array if (array[1:] > array[:-1]).all() else np.unique(array)


def places(rising: Array, ids: Sequence[int] | Array) -> Array:
    """Where those of the ids that are in a rising array stand in it."""
    wanted = np.asarray(ids, np.int64)
    at = np.minimum(np.searchsorted(rising, wanted), len(rising) - 1)
    return at[rising[at] == wanted]
