"""seq2seq-fast generate: a text or a line in, what a model answers out."""

from __future__ import annotations

import argparse
import contextlib

from .parser import given
from .progress import progress
from .uses import SEARCH, add_model, add_search, add_texts, check_texts, lines_of, opened, written

EXAMPLES = """examples:
  seq2seq-fast generate --model flan-t5-small "Answer the question: what is the capital of Peru?"
  seq2seq-fast generate --model codet5-base "def add(a, b): <extra_id_0>"
  seq2seq-fast generate --model byt5-small --file questions.txt --output answers.txt

A text or a line is given to the model as it is, whole. A text that begins with - comes after --."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_texts(parser, "a text per line")
    add_model(parser, required=True)
    add_search(parser)


def run(options: argparse.Namespace) -> None:
    check_texts(options)
    files, _, target = opened(options)
    with contextlib.ExitStack() as stack:
        groups = stack.enter_context(lines_of(options, files))

        from ..text.generator import TextGenerator

        generator = TextGenerator(
            options.model, weights=options.weights, **given(options, "vocabulary")
        )
        write = stack.enter_context(target.open())
        total = len(options.text) or None
        step = stack.enter_context(
            progress(total, " texts", wanted=total != 1 and not target.is_terminal)
        )
        for group in groups:
            lines = [line for line in group if line.text.strip()]
            results = generator.stream([line.text for line in lines], **given(options, *SEARCH))
            for line in group:
                found = next(results) if line.text.strip() else []
                every = found if isinstance(found, list) else [found]
                write(written(every, options.scores, one_line=not options.text) + line.end)
                step(1)
