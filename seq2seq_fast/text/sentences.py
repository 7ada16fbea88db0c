"""Text in pieces that a model can translate: sentences, and parts of those that are too long.

Nothing is lost on the way: pieces and what lies between them are the text again. Sentences are
found by sentencex.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from ..extras import require

BLOCK = 4096  # characters that are searched for sentences at a time, since that may be quadratic

# White space that parts a line into cells, or a text into lines: each is translated by itself.
CELLS = re.compile("([\n\r\t\v\f\x1c-\x1f\x85\u2028\u2029]+)")
SENTENCE_END = re.compile(
    r"[.!?\u2026]['\")\]\u201d\u2019]*\s+|[\u3002\uff01\uff1f][\u300d\u300f\uff09]*\s*"
)
SPACE = re.compile(r"\s+")

# Characters of scripts without spaces, each with the marks that close it; else words.
ATOMS = re.compile(
    "[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff][\u3001\u3002\uff01-\uff1f\u300d\u300f]*\\s*"
    "|[^\\s\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]+\\s*"
    "|\\s+"
)
CLAUSE_MARKS, PHRASE_MARKS = ";:.!?\u3002\uff1b\uff1a\uff01\uff1f", ",\u3001\uff0c\u2013\u2014-"
CONJUNCTIONS = frozenset(  # of English, Portuguese, Spanish, French, German
    [
        *("and", "or", "but", "because", "which", "while", "e", "ou", "mas", "porque", "enquanto"),
        *("y", "o", "pero", "et", "mais", "und", "oder", "aber"),
    ]
)


def pieces(text: str, language: str = "en") -> list[str]:
    """The sentences of a text and what lies between them, in turn.

    Parameters
    ----------
    text : str
    language : str
        ISO 639-1 code.

    Returns
    -------
    list of str
        As re.split() gives with a group: what stands before the first sentence, the sentence, what
        stands before the next one, and so on. Together they are the text (half a surrogate pair is
        no text, and becomes "?"). No sentence is empty, begins or ends with white space, or holds
        what ends a line anywhere.

    Examples
    --------
    >>> pieces("\\tDr. Smith left.  He was late.\\n")
    ['\\t', 'Dr. Smith left.', '  ', 'He was late.', '\\n']
    """
    segment = require("sentencex", "text").segment
    text = text.encode("utf-8", "replace").decode("utf-8")
    found, between = [], ""
    for i, cell in enumerate(CELLS.split(text)):
        if i % 2:
            between += cell
            continue
        for block in _blocks(cell):
            for sentence in segment(language, block):
                stripped = sentence.strip()
                if not stripped:
                    between += sentence
                    continue
                at = sentence.index(stripped)
                found += [between + sentence[:at], stripped]
                between = sentence[at + len(stripped) :]
    return [*found, between]


def _blocks(text: str) -> Iterator[str]:
    """A text in blocks that end with a sentence, if one ends there, else with a word."""
    at = 0
    while len(text) - at > BLOCK:
        ends = [match.end() for match in SENTENCE_END.finditer(text, at + BLOCK // 2, at + BLOCK)]
        end = ends[-1] if ends else None
        if end is None:
            space = SPACE.search(text, at + BLOCK)
            end = space.end() if space else len(text)
        yield text[at:end]
        at = end
    yield text[at:]


def parts(sentence: str, count: Callable[[str], int], max_tokens: int) -> list[str]:
    """A long sentence in parts of similar length, cut at the ends of clauses where there are some,
    and never within a word.

    Parameters
    ----------
    sentence : str
    count : callable
        The number of tokens of a text.
    max_tokens : int
        Tokens of a part. Only a single word may have more.

    Returns
    -------
    list of str
        Together the sentence; each but the last ends with the white space that follows it.

    Examples
    --------
    >>> parts("one two, three four five", lambda text: len(text.split()), 3)
    ['one two, ', 'three four five']
    """
    atoms = ATOMS.findall(sentence)
    counts = [count(atom) for atom in atoms]
    left, begin, found = sum(counts), 0, []
    while left > max_tokens and begin < len(atoms) - 1:
        ideal = left / -(-left // max_tokens)
        best, end, tokens = (-1, 0.0), begin + 1, 0
        for i in range(begin, len(atoms) - 1):
            tokens += counts[i]
            if tokens > max_tokens:
                break
            rank = (_break_after(atoms[i], atoms[i + 1]), -abs(tokens - ideal))
            if tokens >= ideal / 2 and rank > best:
                best, end = rank, i + 1
        found.append("".join(atoms[begin:end]))
        left -= sum(counts[begin:end])
        begin = end
    return [*found, "".join(atoms[begin:])]


def _break_after(atom: str, next_atom: str) -> int:
    """How good a place to cut is between two words."""
    last = atom.rstrip()[-1:]
    if last and last in CLAUSE_MARKS:
        return 3
    if last and last in PHRASE_MARKS:
        return 2
    return int(next_atom.strip().casefold() in CONJUNCTIONS)
