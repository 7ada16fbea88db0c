"""argparse with one-line errors that offer the nearest name, and the types of this command's
arguments."""

from __future__ import annotations

import argparse
import difflib
import math
import os
import sys
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

from .streams import say, write_output


class Parser(argparse.ArgumentParser):
    """Help with an example; options are not abbreviated, so that a new one breaks no script."""

    def __init__(self, program: str, **options: Any) -> None:
        super().__init__(
            program,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
            **options,
        )

    def error(self, message: str) -> NoReturn:
        say(f"error: {message}")
        raise SystemExit(2)

    def _print_message(self, message: str, file: Any = None) -> None:
        """argparse's own hides an output that is closed or full."""
        if file is sys.stdout:
            write_output(message)
        else:
            super()._print_message(message, file)

    def parse(self, arguments: Sequence[str]) -> argparse.Namespace:
        """Options and other arguments in any order; none after -- is an option."""
        end = arguments.index("--") if "--" in arguments else len(arguments)
        # argparse mixes up what comes after -- there, so that has other names meanwhile. No
        # argument of a process has a NUL.
        literal = {f"\0{i}": argument for i, argument in enumerate(arguments[end + 1 :])}
        options, unknown = self.parse_known_intermixed_args([*arguments[:end], *literal])
        if unknown:
            self.error(self._unknown(literal.get(unknown[0], unknown[0])))
        for name, value in vars(options).items():
            if isinstance(value, str):
                setattr(options, name, literal.get(value, value))
            elif isinstance(value, list):
                setattr(options, name, [literal.get(str(one), one) for one in value])
        return options

    def _unknown(self, argument: str) -> str:
        if not argument.startswith("-"):
            return f"unexpected argument '{argument}'"
        name = argument.partition("=")[0]
        known = [text for action in self._actions for text in action.option_strings]
        offer = nearest(name, known)
        if not offer and any(not action.option_strings for action in self._actions):
            offer = "; what begins with - and is no option comes after --"
        return f"unknown option {name}{offer}"


def nearest(name: str, known: Iterable[str]) -> str:
    """A question that offers the nearest of the known names, if one is near."""
    found = difflib.get_close_matches(name, list(known), 1)
    return f"; did you mean {found[0]}?" if found else ""


def count(text: str) -> int:
    """An integer of at least 1."""
    try:
        found = int(text)
    except ValueError:
        found = 0
    if found < 1:
        raise argparse.ArgumentTypeError(f"must be an integer of at least 1; got {text!r:.40}")
    return found


def number(text: str) -> float:
    """A finite number."""
    try:
        found = float(text)
    except ValueError:
        found = math.nan
    if not math.isfinite(found):
        raise argparse.ArgumentTypeError(f"must be a number; got {text!r:.40}")
    return found


def numbers(text: str) -> list[float]:
    """Finite numbers with commas between them."""
    try:
        return [number(part) for part in text.split(",")]
    except argparse.ArgumentTypeError:
        raise argparse.ArgumentTypeError(
            f"must be numbers with commas between them; got {text!r:.40}"
        ) from None


def text_of(argument: str) -> str:
    """An argument as text. Arguments are bytes that Python has decoded by the locale: they are
    UTF-8, whatever the locale; a byte that is not becomes a lone surrogate."""
    try:
        return os.fsencode(argument).decode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # not from a shell but from Python, so it is text
        return argument


def utf8(argument: str) -> str:
    """An argument as text, of which every byte is UTF-8."""
    text = text_of(argument)
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise argparse.ArgumentTypeError(f"'{text:.60}' is not UTF-8")
    return text


def given(options: argparse.Namespace, *names: str) -> dict[str, Any]:
    """Those options that were given; the others have the defaults of what takes them."""
    found = {name: getattr(options, name) for name in names}
    return {name: value for name, value in found.items() if value is not None}
