"""seq2seq-fast translate: a text or a line in, a translation out."""

from __future__ import annotations

import argparse
import contextlib
import functools
import re
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from .lines import Line, grouped
from .outputs import STANDARD, Target, files_of
from .parser import count, given, number, text_of
from .pictures import Picture
from .progress import progress

if TYPE_CHECKING:
    from ..text.translation import Translation
    from ..text.translator import Translator

EXAMPLES = """examples:
  seq2seq-fast translate "How are you today?"
  seq2seq-fast translate --to English --file report.txt --output report.en.txt
  tail -f log | seq2seq-fast translate
  seq2seq-fast translate --num-beams 4 --num-return-sequences 2 --scores "Yes."
  seq2seq-fast translate --model opus-mt-de-en --from de "Guten Tag."

As many lines come out as go in. A text that begins with - comes after --."""

LANGUAGES = {"english": "en", "portuguese": "pt"}  # of the models that the extra "demo" brings
OPTIONS = (  # of Translator.stream()
    "num_beams", "num_return_sequences", "max_new_tokens", "length_penalty", "repetition_penalty",
    "no_repeat_ngram_size",
)  # fmt: skip
NOT_UTF8 = re.compile("([\ud800-\udfff]+)")  # as lone surrogates


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from ..nn.weights import WEIGHTS

    add = parser.add_argument_group("texts").add_argument
    add("text", nargs="*", help="a text; none: read files or standard input, a text per line")
    add(
        "--file", action="append", default=[], metavar="FILE",
        help="UTF-8, a text per line; - is standard input; can be given several times",
    )  # fmt: skip
    add(
        "--errors", choices=("strict", "keep"), default="strict",
        help="what is not UTF-8 is an error, or passes through as it is (default: strict)",
    )  # fmt: skip
    add("--output", default=STANDARD, metavar="FILE", help="(default: standard output)")
    add(
        "--scores", action="store_true",
        help="write the score, a tab and the translation: the sum of the tokens' log-probabilities",
    )  # fmt: skip
    add("--attention", metavar="FILE", help="picture of one text's attention: .png, .svg, .pdf")

    add = parser.add_argument_group("model").add_argument
    add(
        "--from",
        dest="source",
        type=_code,
        metavar="LANGUAGE",
        help="(default: what the model reads, where that is known, or en)",
    )
    add("--to", type=_code, metavar="LANGUAGE", help="pt, en, or their English names (default: pt)")
    add("--model", metavar="FOLDER", help="a model of your own")
    add("--vocabulary", metavar="FILE", help="(default: what lies in the model's folder)")
    add("--weights", choices=WEIGHTS, help="(default: as they are published)")
    add(
        "--shortlist", action="store_true",
        help="only the tokens that the model's lex*.bin lists: faster, now and then another text",
    )  # fmt: skip

    add(
        "--no-copy", dest="copy", action="store_false",
        help="leave what the model does not know, addresses and placeholders to the model, which"
        " drops or changes them",
    )  # fmt: skip
    add(
        "--max-source-tokens", type=count, metavar="N",
        help="longer sentences are cut at the ends of clauses (default: 80)",
    )  # fmt: skip

    add = parser.add_argument_group("search").add_argument
    add("--num-beams", type=count, metavar="N", help="(default: 1)")
    add(
        "--num-return-sequences", type=count, metavar="N",
        help="the N best of the beams, a line each (default: 1)",
    )  # fmt: skip
    add(
        "--max-new-tokens", type=count, metavar="N",
        help="of a sentence (default: by its own length)",
    )  # fmt: skip
    add("--length-penalty", type=number, metavar="X", help="(default: 1)")
    add(
        "--repetition-penalty", type=number, metavar="X",
        help="more than 1: against tokens that are there already (default: 1)",
    )  # fmt: skip
    add(
        "--no-repeat-ngram-size", type=count, metavar="N",
        help="no N tokens in a row occur twice",
    )  # fmt: skip


def run(options: argparse.Namespace) -> None:
    _check(options)
    keep = options.errors == "keep"
    files = options.file or ([] if options.text else [STANDARD])
    inputs = files_of([*files, *([options.vocabulary] if options.vocabulary else [])])
    target = Target(options.output, inputs)
    picture = Picture(options.attention, inputs) if options.attention else None
    if picture and target.path is not None and picture.target.path == target.path:
        raise ValueError(f"{options.output}: is the name for --output and for --attention")
    with contextlib.ExitStack() as stack:
        groups: Iterable[list[Line]]
        if options.text:
            groups = [_arguments(options.text, keep)]
        else:
            groups = stack.enter_context(grouped(files, keep=keep))
        translator = _translator(options)
        stream = functools.partial(
            translator.stream, source_language=options.source, **given(options, *OPTIONS)
        )
        write = stack.enter_context(target.open())
        total = len(options.text) or None
        step = stack.enter_context(
            progress(total, " texts", wanted=total != 1 and not target.is_terminal)
        )
        before = ""  # ends the line of a file that does not, if another file goes on
        for group in groups:
            for line, found in translated(stream, group):
                write(before + _written(found, options) + line.end)
                before = "" if line.end else "\n"
                step(1)
    if picture:
        from .plot import heat_map

        picture.draw(lambda file, format: heat_map(found[0].translation, file, format))


def _check(options: argparse.Namespace) -> None:
    if options.text and options.file:
        raise ValueError("give texts or --file, not both")
    if options.attention and len(options.text) != 1:
        raise ValueError("--attention shows one text: give it as the only argument")
    if options.model and options.to:
        raise ValueError("--to chooses a model, and so does --model: give one of them")
    beams, best = options.num_beams or 1, options.num_return_sequences or 1
    if best > beams:
        raise ValueError(f"--num-return-sequences is {best}: give at least as many --num-beams")


def _arguments(texts: list[str], keep: bool) -> list[Line]:
    found = [text_of(text) for text in texts]
    for i, text in enumerate(found, 1):
        if NOT_UTF8.search(text) and not keep:
            raise ValueError(
                f"text {i}, '{text:.60}', is not UTF-8; --errors keep lets such bytes through"
            )
    return [Line(text, "\n") for text in found]


def _code(language: str) -> str:
    """Of a language: "PT", "pt-BR", "pt_BR" and "Portuguese" are "pt"."""
    first = re.split("[-_]", language.casefold())[0]
    return LANGUAGES.get(first, first)


def _translator(options: argparse.Namespace) -> Translator:
    from ..demo import find_translation_model
    from ..text.translator import Translator

    source = options.source
    model = options.model
    if model is None:
        model = find_translation_model(options.to or ("en" if source == "pt" else "pt"), source)
    return Translator(
        model,
        weights=options.weights,
        shortlist=options.shortlist,
        copy=options.copy,
        **given(options, "vocabulary", "max_source_tokens"),
    )


class Found(NamedTuple):
    """One of the best translations of a line."""

    text: str
    score: float
    translation: Translation


def translated(
    stream: Callable[[Iterable[str]], Iterator[Any]], lines: list[Line]
) -> Iterator[tuple[Line, list[Found]]]:
    """Each line and its translations, the best first, as `stream` gives those of texts. Bytes
    that are not UTF-8 part a line into texts, and stay between their translations."""
    parts = [NOT_UTF8.split(line.text) for line in lines]  # text, bytes, text ...
    results = stream(text for part in parts for text in part[::2])
    for line, part in zip(lines, parts, strict=True):
        found = [next(results) for _ in part[::2]]
        yield line, _joined([one if isinstance(one, list) else [one] for one in found], part[1::2])


def _joined(texts: list[list[Translation]], between: list[str]) -> list[Found]:
    """The translations of a line from those of its texts, each the best first."""
    found = []
    for rank in range(max(map(len, texts))):
        chosen = [best[min(rank, len(best) - 1)] for best in texts]
        text = chosen[0].text
        for kept, next_one in zip(between, chosen[1:], strict=True):
            text += kept + next_one.text
        found.append(Found(text, sum(one.score for one in chosen), chosen[0]))
    return found


def _written(found: list[Found], options: argparse.Namespace) -> str:
    """What is written of a line, but for its end."""
    texts = [one.text for one in found]
    if not options.text or options.scores or len(found) > 1:  # a line each, whatever the text
        texts = [text.replace("\n", " ") for text in texts]
    if options.scores:
        texts = [f"{one.score:.4f}\t{text}" for one, text in zip(found, texts, strict=True)]
    return "\n".join(texts)
