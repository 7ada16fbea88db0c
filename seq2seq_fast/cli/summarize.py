"""seq2seq-fast summarize: a text or a file in, a summary out."""

from __future__ import annotations

import argparse
import contextlib
from pathlib import Path

from . import streams
from .outputs import STANDARD
from .parser import count, given
from .progress import progress
from .uses import SEARCH, add_model, add_search, add_texts, arguments, check_texts, opened, written

EXAMPLES = """examples:
  seq2seq-fast summarize --model bart-large-cnn --file report.txt
  seq2seq-fast summarize --model pegasus-xsum --file monday.txt --file tuesday.txt
  seq2seq-fast summarize --model bart-large-cnn --overflow error < report.txt

Each file is one text, and gives one summary, a line each. A text that is longer than the model
reads at once is cut at the ends of sentences: standard error says into how many parts."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_texts(parser, "a text per file")
    add = parser.add_argument_group("summary").add_argument
    add("--language", metavar="CODE", help="of the text, ISO 639-1 (default: en)")
    add(
        "--overflow", choices=("split", "error"),
        help="what becomes of a text that is longer than the model reads (default: split)",
    )  # fmt: skip
    add(
        "--max-source-tokens", type=count, metavar="N",
        help="longer texts are cut (default: what the model reads)",
    )  # fmt: skip
    add_model(parser, required=True)
    add_search(parser)


def run(options: argparse.Namespace) -> None:
    check_texts(options)
    keep = options.errors == "keep"
    files, _, target = opened(options)
    named = (
        [(f"text {i}", line.text) for i, line in enumerate(arguments(options.text, keep), 1)]
        if options.text
        else [(name, _read(name, keep)) for name in files]
    )

    from ..text.summarizer import Summarizer

    summarizer = Summarizer(
        options.model,
        weights=options.weights,
        **given(options, "vocabulary", "max_source_tokens"),
    )
    results = summarizer.stream(
        [text for _, text in named], **given(options, "language", "overflow", *SEARCH)
    )
    with contextlib.ExitStack() as stack:
        write = stack.enter_context(target.open())
        step = stack.enter_context(
            progress(len(named), " texts", wanted=len(named) > 1 and not target.is_terminal)
        )
        for (name, _), found in zip(named, results, strict=True):
            every = found if isinstance(found, list) else [found]
            if every[0].cut_into > 1:
                streams.say(f"{name}: cut into {every[0].cut_into} parts")
            write(written(every, options.scores, one_line=True) + "\n")
            step(1)


def _read(name: str, keep: bool) -> str:
    """A whole file as text."""
    data = streams.standard_input().read() if name == STANDARD else Path(name).read_bytes()
    try:
        return data.decode("utf-8", "replace" if keep else "strict")
    except UnicodeDecodeError as error:
        where = "standard input" if name == STANDARD else name
        raise ValueError(
            f"{where}: not UTF-8 text: byte 0x{data[error.start]:02x} at {error.start + 1}"
            f" ({error.reason}); --errors keep replaces such bytes"
        ) from None
