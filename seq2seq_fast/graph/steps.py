"""StepState: what a decoder's steps read and write beside their graph's buffers. It has one owner,
the search, and one layout, which backends agree on."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from ..contract.panels import PANEL
from ..contract.plan import KEYS, PACKED, QUERIES, SPAN

if TYPE_CHECKING:
    from ..backends.backend import LinearWeights

Array = np.ndarray[Any, Any]


@dataclass(eq=False)
class StepState:
    """Of `sequences` sequences with `beams` rows each, one after the other.

    A cache is (panels, values): keys (rows, heads, panels, width, 16) and values (rows, heads,
    keys, width). A row of a past cache's spans says how many keys it has, and how many of them lie
    in panels: those after them lie as rows in the room of their panel.
    """

    sequences: int
    beams: int
    step: Array  # (1,) int64: how many there were
    positions: Array | None  # (steps, width): the vectors of positions
    past: list[Array | tuple[Array, Array]]  # of each layer: SSRU states (rows, n), or a cache
    memory: list[tuple[Array, Array]]  # of each layer, one row to a sequence
    lengths: Array  # (sequences,) of the memory
    tokens: Array = field(init=False)  # (rows,) int64 that the next step reads; -1: the zero vector
    past_spans: Array = field(init=False)  # (layers, rows, 6): see contract.SPAN
    memory_spans: Array = field(init=False)  # (sequences, 6)

    def __post_init__(self) -> None:
        self.tokens = np.zeros(self.rows, np.int64)
        self.past_spans = np.zeros((len(self.past), self.rows, len(SPAN)), np.int64)
        self.past_spans[..., QUERIES] = 1
        self.begin(int(self.step[0]))
        self.memory_spans = np.zeros((self.sequences, len(SPAN)), np.int64)
        self.memory_spans[:, QUERIES] = self.beams
        self.remember(self.lengths)

    @property
    def rows(self) -> int:
        return self.sequences * self.beams

    def begin(self, position: int) -> None:
        """Caches have the keys of so many steps, all in panels."""
        self.step[0] = position
        self.past_spans[..., KEYS] = position
        self.past_spans[..., PACKED] = -(-position // PANEL) * PANEL

    def remember(self, lengths: Array) -> None:
        """Memories have so many keys, all in panels."""
        self.memory_spans[:, KEYS] = lengths
        self.memory_spans[:, PACKED] = max(
            (values.shape[2] for _, values in self.memory), default=0
        )


class Steps(Protocol):
    """How a backend runs the steps."""

    logits: Array
    """(rows, vocabulary), of the last step."""

    def run(self, sequences: int) -> None:
        """A step of the first of the sequences, from the state's tokens."""

    def greedy(
        self,
        sequences: int,
        most: int,
        never: Array,
        ids: Array | None,
        own: tuple[Array, Array, Array] | None,
        end: int,
    ) -> tuple[Array, Array]:
        """Steps of greedy search, with one row to a sequence, until one comes to its end, at most
        `most`: the tokens and their log-probabilities, (steps, rows) each.

        `ids` are the tokens of the columns of logits, themselves if None. `own` are, where sources
        choose among columns of their own, these, (sources, longest), how many each has, and the
        rows' sources. Columns in `never` are not chosen; where no other is, it is the end."""

    def copy_history(self, targets: Array, sources: Array, starts: Array, stop: int) -> None:
        """What rows have appended becomes, from a key of each on, what other rows have."""

    def choose(self, output: LinearWeights) -> None:
        """Go on with another output layer."""
