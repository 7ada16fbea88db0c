"""A bar on standard error, if that is a terminal."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def progress(total: int | None, unit: str, *, wanted: bool) -> Iterator[Callable[[int], object]]:
    """Yields what is called with how much more is done. Without tqdm there is no bar."""
    bar = None
    if wanted and sys.stderr.isatty():
        with contextlib.suppress(ImportError):
            from tqdm import tqdm

            bar = tqdm(total=total, unit=unit, file=sys.stderr)
    try:
        yield bar.update if bar is not None else lambda more: None
    finally:
        if bar is not None:
            bar.close()
