"""Contestants that take turns, so that what else the machine does hits all of them; and what of a
search's time is Python's."""

from __future__ import annotations

import statistics
import time

from seq2seq_fast.backends import native


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


def at_most(times, least):
    """A note on what rounds() gave: how many times as fast as the peer, the second contestant, one
    can be, if the work takes `least` seconds."""
    if least is None:
        return ""
    peer = list(times.values())[1][0]
    return f"; {1e3 * least:.4g} ms at least, so {peer / least:.2f}x at most"


def share_of_python(model, sources, **options):
    """The part of a search's time that is not spent in the kernel; encoding does not count."""
    shares = []
    for _ in range(5):
        state = model.start(model.encode(sources))
        kernel = _Clocked(native.lib)
        native.lib, real = kernel, native.lib
        start = time.perf_counter()
        try:
            model.generate(state, **options)
        finally:
            native.lib = real
        shares.append(1 - kernel.seconds / (time.perf_counter() - start))
    return statistics.median(shares)


class _Clocked:
    """The kernel's functions, and the seconds that they took."""

    def __init__(self, lib):
        self.lib, self.seconds = lib, 0.0

    def __getattr__(self, name):
        function = getattr(self.lib, name)

        def clocked(*arguments):
            start = time.perf_counter()
            result = function(*arguments)
            self.seconds += time.perf_counter() - start
            return result

        return clocked if callable(function) else function
