"""In which order an encoder's graph is run: the one place where that is chosen."""

from __future__ import annotations

from typing import Literal

Schedule = Literal["by_op", "by_row_block"]

FEW_ROWS = 96
"""So many rows a thread are faster with the threads side by side at each op."""
SHORT = 128
"""A single sequence of so many rows keeps its program, and takes the first schedule."""


def schedule_of(batch: int, time: int, threads: int) -> Schedule:
    """By op: each op for all rows, then the next. By row block: a few rows at a time go through all
    the ops between one attention and the next, so that what they are stays in the cache.

    Parameters
    ----------
    batch, time : int
        Sequences, and rows of each.
    threads : int

    Examples
    --------
    >>> schedule_of(1, 20, 2), schedule_of(1, 1500, 2)
    ('by_op', 'by_row_block')
    """
    if is_short(batch, time) or batch * time <= FEW_ROWS * threads:
        return "by_op"
    return "by_row_block"


def is_short(batch: int, time: int) -> bool:
    """Whether it is a single short sequence, of which many are likely to come."""
    return batch == 1 and time <= SHORT
