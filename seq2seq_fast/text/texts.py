"""What the uses of models of text share: texts that come one by one, and sources in batches."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

from ..checks import shown
from ..decoding.options import Options
from ..decoding.search import Hypothesis

S = TypeVar("S")
BATCH_ROWS = 256  # of beams or samples, each with logits of its own


def each(texts: Iterable[str]) -> Iterator[str]:
    """The texts, each checked when it comes."""
    given: Iterator[Any] = iter(())
    try:
        given = iter(texts)
        fine = not isinstance(texts, (str, bytes))
    except TypeError:
        fine = False
    if not fine:
        raise TypeError(f"texts must be a list or another iterable of str; got {shown(texts)}")

    def checked() -> Iterator[str]:
        for i, text in enumerate(given):
            if not isinstance(text, str):
                hint = ": decode it" if isinstance(text, bytes) else ""
                raise TypeError(f"texts[{i}] must be a str; got {shown(text)}{hint}")
            yield text

    return checked()


def groups(texts: Iterable[str], size: int) -> Iterator[list[str]]:
    """Some at a time. An error comes when all before it have been given."""
    group: list[str] = []
    try:
        for text in texts:
            group.append(text)
            if len(group) == size:
                yield group
                group = []
    except Exception:
        if group:
            yield group
        raise
    if group:
        yield group


def in_batches(
    generate: Callable[[list[S]], list[Any]],
    sources: Sequence[S],
    length: Callable[[S], int],
    size: int,
    options: Options,
) -> list[list[Hypothesis]]:
    """Hypotheses of sources, the best first, at most `size` at a time.

    Neighbours of similar length waste little on padding; no result depends on the order.
    """
    rows = options.num_return_sequences or 1 if options.do_sample else options.num_beams
    size = max(1, min(size, BATCH_ROWS // rows))
    order = sorted(range(len(sources)), key=lambda i: length(sources[i]))
    found: list[list[Hypothesis]] = [[] for _ in sources]
    for at in range(0, len(order), size):
        batch = order[at : at + size]
        every = generate([sources[i] for i in batch])
        for i, one in zip(batch, every, strict=True):
            found[i] = [one] if options.num_return_sequences is None else one
    return found
