"""seq2seq-fast translate: a text or a line in, a translation out."""

from __future__ import annotations

import argparse
import contextlib
import functools
import re
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from .lines import Line
from .parser import count, given
from .pictures import Picture
from .progress import progress
from .uses import (
    NOT_UTF8,
    SEARCH,
    add_model,
    add_search,
    add_texts,
    check_texts,
    lines_of,
    opened,
    written,
)

if TYPE_CHECKING:
    from ..text.results import Translation
    from ..text.translator import Translator

EXAMPLES = """examples:
  seq2seq-fast translate "How are you today?"
  seq2seq-fast translate --to English --file report.txt --output report.en.txt
  tail -f log | seq2seq-fast translate
  seq2seq-fast translate --num-beams 4 --num-return-sequences 2 --scores "Yes."
  seq2seq-fast translate --model opus-mt-de-en --from de "Guten Tag."

As many lines come out as go in. A text that begins with - comes after --."""

LANGUAGES = {"english": "en", "portuguese": "pt"}  # of the models that the extra "demo" brings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_texts(parser, "a text per line")
    add = parser.add_argument_group("translation").add_argument
    add(
        "--from",
        dest="source",
        metavar="LANGUAGE",
        help="(default: what the model reads, where that is known, or en)",
    )
    add(
        "--to", metavar="LANGUAGE",
        help="pt, en, or their English names (default: pt); of a model of several languages one of"
        " its own codes or ISO 639's",
    )  # fmt: skip
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
    add("--attention", metavar="FILE", help="picture of one text's attention: .png, .svg, .pdf")
    add_model(parser, required=False)
    add_search(parser)


def run(options: argparse.Namespace) -> None:
    _check(options)
    files, inputs, target = opened(options)
    picture = Picture(options.attention, inputs) if options.attention else None
    if picture and target.path is not None and picture.target.path == target.path:
        raise ValueError(f"{options.output}: is the name for --output and for --attention")
    with contextlib.ExitStack() as stack:
        groups = stack.enter_context(lines_of(options, files))
        translator = _translator(options)
        stream = functools.partial(
            translator.stream, **_languages(options), **given(options, *SEARCH)
        )
        write = stack.enter_context(target.open())
        total = len(options.text) or None
        step = stack.enter_context(
            progress(total, " texts", wanted=total != 1 and not target.is_terminal)
        )
        before = ""  # ends the line of a file that does not, if another file goes on
        for group in groups:
            for line, found in translated(stream, group):
                write(before + written(found, options.scores, one_line=not options.text) + line.end)
                before = "" if line.end else "\n"
                step(1)
    if picture:
        from .plot import heat_map

        picture.draw(lambda file, format: heat_map(found[0].translation, file, format))


def _check(options: argparse.Namespace) -> None:
    check_texts(options)
    if options.attention and len(options.text) != 1:
        raise ValueError("--attention shows one text: give it as the only argument")
    beams, best = options.num_beams or 1, options.num_return_sequences or 1
    if best > beams:
        raise ValueError(f"--num-return-sequences is {best}: give at least as many --num-beams")


def _languages(options: argparse.Namespace) -> dict[str, Any]:
    """What the translator is told: without a model of one's own, the languages choose one."""
    if options.model is None:
        return {"source_language": _code(options.source)}
    return {"source_language": options.source, "target_language": options.to}


def _code(language: str | None) -> str | None:
    """Of a language: "PT", "pt-BR", "pt_BR" and "Portuguese" are "pt"."""
    if language is None:
        return None
    first = re.split("[-_]", language.casefold())[0]
    return LANGUAGES.get(first, first)


def _translator(options: argparse.Namespace) -> Translator:
    from ..demo import find_translation_model
    from ..text.translator import Translator

    model = options.model
    if model is None:
        source, target = _code(options.source), _code(options.to)
        model = find_translation_model(target or ("en" if source == "pt" else "pt"), source)
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
