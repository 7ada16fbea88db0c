"""Contestants that take turns, so that what else the machine does hits all of them."""

from __future__ import annotations

import statistics
import time


def rounds(contestants, count):
    """Of each contestant (a function of nothing, by its name) the median of its seconds, and half
    their range as a part of it, over `count` rounds after one that does not count."""
    for run in contestants.values():
        run()
    times = {name: [] for name in contestants}
    for _ in range(count):
        for name, run in contestants.items():
            start = time.perf_counter()
            run()
            times[name].append(time.perf_counter() - start)
    return {
        name: (statistics.median(some), (max(some) - min(some)) / 2 / statistics.median(some))
        for name, some in times.items()
    }
