"""What the commands of text share: where texts come from, the model, the search."""

from __future__ import annotations

import argparse
import contextlib
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from .lines import Line, grouped
from .outputs import STANDARD, Files, Target, files_of
from .parser import count, number, text_of

if TYPE_CHECKING:
    from ..text.results import TextResult
    from .translate import Found

SEARCH = (  # options of a call, by the names that they have here
    "num_beams", "num_return_sequences", "max_new_tokens", "min_new_tokens", "length_penalty",
    "repetition_penalty", "no_repeat_ngram_size",
)  # fmt: skip
NOT_UTF8 = re.compile("([\ud800-\udfff]+)")  # as lone surrogates


def add_texts(parser: argparse.ArgumentParser, unit: str) -> None:
    """Texts as arguments or from files, of which a `unit` is one, and where results go."""
    add = parser.add_argument_group("texts").add_argument
    add("text", nargs="*", help=f"a text; none: read files or standard input, {unit}")
    add(
        "--file", action="append", default=[], metavar="FILE",
        help=f"UTF-8, {unit}; - is standard input; can be given several times",
    )  # fmt: skip
    add(
        "--errors", choices=("strict", "keep"), default="strict",
        help="what is not UTF-8 is an error, or passes through as it is (default: strict)",
    )  # fmt: skip
    add("--output", default=STANDARD, metavar="FILE", help="(default: standard output)")
    add(
        "--scores", action="store_true",
        help="write the score, a tab and the result: the sum of the tokens' log-probabilities",
    )  # fmt: skip


def add_model(parser: argparse.ArgumentParser, *, required: bool) -> None:
    """The model and how it is kept."""
    from ..nn.weights import WEIGHTS

    add = parser.add_argument_group("model").add_argument
    add("--model", metavar="FOLDER", required=required, help="a model of your own")
    add("--vocabulary", metavar="FILE", help="(default: what lies in the model's folder)")
    add("--weights", choices=WEIGHTS, help="(default: as they are published)")


def add_search(parser: argparse.ArgumentParser) -> None:
    """The search; what is left out is as the model's folder says, or as the text in brackets."""
    add = parser.add_argument_group("search").add_argument
    add("--num-beams", type=count, metavar="N", help="(default: 1)")
    add(
        "--num-return-sequences", type=count, metavar="N",
        help="the N best of the beams, a line each (default: 1)",
    )  # fmt: skip
    add("--max-new-tokens", type=count, metavar="N", help="(default: by the text's own length)")
    add("--min-new-tokens", type=count, metavar="N", help="(default: 0)")
    add("--length-penalty", type=number, metavar="X", help="(default: 1)")
    add(
        "--repetition-penalty", type=number, metavar="X",
        help="more than 1: against tokens that are there already (default: 1)",
    )  # fmt: skip
    add(
        "--no-repeat-ngram-size", type=count, metavar="N",
        help="no N tokens in a row occur twice",
    )  # fmt: skip


def check_texts(options: argparse.Namespace) -> None:
    """Raises ValueError for options that do not go together."""
    if options.text and options.file:
        raise ValueError("give texts or --file, not both")


def opened(options: argparse.Namespace) -> tuple[list[str], Files, Target]:
    """The names of the files that texts are read from, all files that are read, and what is
    written."""
    files = options.file or ([] if options.text else [STANDARD])
    inputs = files_of([*files, *([options.vocabulary] if options.vocabulary else [])])
    return files, inputs, Target(options.output, inputs)


@contextlib.contextmanager
def lines_of(options: argparse.Namespace, files: list[str]) -> Iterator[Iterable[list[Line]]]:
    """The texts that are arguments, or the lines of files, in groups."""
    keep = options.errors == "keep"
    if options.text:
        yield [arguments(options.text, keep)]
    else:
        with grouped(files, keep=keep) as groups:
            yield groups


def arguments(texts: list[str], keep: bool) -> list[Line]:
    """Texts that are arguments.

    Raises
    ------
    ValueError
        One is not UTF-8, and such bytes are not to be kept.
    """
    found = [text_of(text) for text in texts]
    for i, text in enumerate(found, 1):
        if NOT_UTF8.search(text) and not keep:
            raise ValueError(
                f"text {i}, '{text:.60}', is not UTF-8; --errors keep lets such bytes through"
            )
    return [Line(text, "\n") for text in found]


def written(results: Sequence[TextResult | Found], scores: bool, *, one_line: bool) -> str:
    """Results of a text, the best first, a line each; several are, whatever their text."""
    texts = [one.text for one in results]
    if one_line or scores or len(texts) > 1:
        texts = [text.replace("\n", " ") for text in texts]
    if scores:
        texts = [f"{one.score:.4f}\t{text}" for one, text in zip(results, texts, strict=True)]
    return "\n".join(texts)
