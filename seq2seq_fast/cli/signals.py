"""What happens when the command is told to stop: by Ctrl-C, by SIGTERM, by a terminal that closes.

As long as there is nothing to put away the process ends at once, whatever library is at work.
Inside careful() the signal becomes an exception, so that what was finished is kept; inside held()
it waits for the end of the block. This module is imported before all others and imports little.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from typing import Any

NAMES = ("SIGINT", "SIGTERM", "SIGHUP")
IMPATIENT = 1.0  # seconds after which a second signal is one more wish, not the same


class Stopped(KeyboardInterrupt):
    """A signal ends the work."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class _State:
    careful = 0  # blocks of careful() and held() that we are in
    held = 0
    waiting: int | None = None  # a signal that waits for the end of held()
    since = float("-inf")  # when the last signal came that was heeded


def install() -> None:
    """Take the signals whose handlers are still the usual ones: what `nohup`, or a shell for a job
    in the background, has set to be ignored stays ignored."""
    for name in NAMES:
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) in (
            signal.SIG_DFL,
            signal.default_int_handler,
        ):
            signal.signal(number, _handle)


def _handle(number: int, frame: Any) -> None:
    again = time.monotonic() - _State.since > IMPATIENT
    if not _State.careful or (_State.held and _State.waiting is not None and again):
        os._exit(128 + number)
    if not again:  # the first one is being heeded
        return
    _State.since = time.monotonic()
    if not _State.held:
        raise Stopped(number)
    _State.waiting = number


@contextlib.contextmanager
def careful() -> Iterator[None]:
    """A signal raises Stopped in this block, instead of ending the process."""
    _State.careful += 1
    try:
        yield
    finally:
        _State.careful -= 1


@contextlib.contextmanager
def held() -> Iterator[None]:
    """A signal waits for the end of this block: an interrupted write can cut a line, or repeat
    one."""
    _State.held += 1
    try:
        yield
    finally:
        _State.held -= 1
    if not _State.held and _State.waiting is not None:
        number, _State.waiting = _State.waiting, None
        raise Stopped(number)
