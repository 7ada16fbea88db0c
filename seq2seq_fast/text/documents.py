"""A document in parts that a model reads at once, cut at the ends of sentences."""

from __future__ import annotations

from collections.abc import Callable

from .sentences import parts, pieces


def parts_of(text: str, language: str, count: Callable[[str], int], max_tokens: int) -> list[str]:
    """A text in as few parts of similar length as there must be.

    Parameters
    ----------
    text : str
    language : str
        ISO 639-1 code.
    count : callable
        The number of tokens of a text.
    max_tokens : int
        Tokens of a part. A sentence of more is cut at the ends of clauses, a word of more between
        characters.

    Returns
    -------
    list of str
        Without the white space around them.

    Examples
    --------
    >>> parts_of("One. Two. Three. Four.", "en", lambda text: len(text.split()), 2)
    ['One. Two.', 'Three. Four.']
    """
    atoms = _atoms(text, language, count, max_tokens)
    total = sum(tokens for _, tokens in atoms)
    left = -(-total // max_tokens)
    found: list[str] = []
    begun, tokens = "", 0
    for atom, added in atoms:
        ideal = total / max(1, left)
        # Closed where another sentence would not fit, or would go further beyond the ideal length
        # than the part now falls short of it.
        over = tokens + added - ideal > ideal - tokens and left > 1
        if begun and (over or count((begun + atom).strip()) > max_tokens):
            found.append(begun.strip())
            total, left = total - tokens, left - 1
            begun, tokens = "", 0
        begun, tokens = begun + atom, tokens + added
    return [*found, begun.strip()] if begun.strip() else found


def _atoms(
    text: str, language: str, count: Callable[[str], int], max_tokens: int
) -> list[tuple[str, int]]:
    """What is not cut, with the white space after it and its number of tokens."""
    found: list[tuple[str, int]] = []
    split = pieces(text, language)
    for sentence, between in zip(split[1::2], split[2::2], strict=True):
        some = [sentence] if count(sentence) <= max_tokens else parts(sentence, count, max_tokens)
        some = [short for one in some for short in _short(one, count, max_tokens)]
        some[-1] += between
        found += [(one, count(one.strip())) for one in some]
    return found


def _short(text: str, count: Callable[[str], int], max_tokens: int) -> list[str]:
    """A text in halves of halves, until they are short enough or single characters."""
    if len(text) < 2 or count(text.strip()) <= max_tokens:
        return [text]
    middle = len(text) // 2
    halves = (text[:middle], text[middle:])
    return [one for half in halves for one in _short(half, count, max_tokens)]
