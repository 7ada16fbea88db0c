"""A text as what is kept as it is and what is translated, in turn; and what is tried again where a
translation has lost something of its sentence.

1. A sentence is given to the model as it is, but for what the model does not know (emoji, letters
   of other scripts): a stand-in, such as "X1", takes its place.
2. If numbers or addresses are missing from the translation, they get stand-ins, too, and the
   sentence is cut into shorter parts.
3. If a stand-in is still missing, the sentence is cut around what must arrive.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ..decoding.search import Hypothesis
from ..models.vocabularies import TextVocabulary
from .copying import Masked, is_strange, mask, number_spans, numbers, plain_marks, spans
from .sentences import parts, pieces

MIN_TOKENS = 24  # of the parts of a sentence that has lost something
TRIES = 2  # more, for a sentence that has lost something


@dataclass(eq=False)
class Part:
    """A sentence, or a part of one, on its way."""

    masked: Masked
    ids: list[int]
    tries: int  # before this one
    marks: str = ""  # the sentence with its own quotation marks, where the model is given others
    hypotheses: list[Hypothesis] = field(default_factory=list)
    texts: list[str | None] = field(default_factory=list)  # of each; None if something is lost

    @property
    def lost(self) -> bool:
        """Whether the best translation has lost something."""
        return self.texts[0] is None

    @property
    def kept(self) -> list[tuple[Hypothesis, str]]:
        """The hypotheses that have lost nothing."""
        every = zip(self.hypotheses, self.texts, strict=True)
        return [(one, text) for one, text in every if text is not None]


Item = str | Part
"""Text that is kept, or a part that is translated."""


class Cutter:
    """Cuts texts into items for one model.

    Parameters
    ----------
    vocabulary : TextVocabulary
    copy : bool
        Whether what would be lost is copied from the source; nothing is tried again if not.
    max_tokens : int
        Tokens of a part.
    """

    def __init__(self, vocabulary: TextVocabulary, copy: bool, max_tokens: int) -> None:
        self.vocabulary, self.copy, self.max_tokens = vocabulary, copy, max_tokens

    def items(self, text: str, language: str) -> list[Item]:
        """A text, before any try."""
        items: list[Item] = []
        found = pieces(text, language)
        for i, piece in enumerate(found):
            if i % 2:
                items += self._sentence(piece)
            else:  # scripts without spaces have none between sentences
                items.append(piece or " " * (0 < i < len(found) - 1))
        return items

    def judge(self, part: Part, hypotheses: list[Hypothesis]) -> None:
        """Gives a part its hypotheses, and says which of them have lost nothing."""
        part.hypotheses = hypotheses
        source = part.masked.source() if self.copy else ""
        for one in hypotheses:
            text = part.masked.restored(self.vocabulary.decode(one.tokens))
            if part.tries < TRIES and text is not None and not _keeps(source, text):
                text = None
            part.texts.append(text)

    def retried(self, items: list[Item]) -> list[Item]:
        """Items, with another try in place of what has lost something."""
        result: list[Item] = []
        for item in items:
            result += self._again(item) if isinstance(item, Part) and item.lost else [item]
        return result

    def _sentence(self, sentence: str) -> list[Item]:
        """A sentence, before any try."""
        if not any(map(str.isalpha, sentence)):
            return [sentence]
        ids, count = self.vocabulary.encode(sentence), self.max_tokens
        if not (self.copy and self._has_unknown(sentence, ids)):
            tries = 0 if self.copy else TRIES
            if len(ids) <= count:  # as almost all are
                return [Part(Masked(sentence, {}), ids, tries)]
            return self._cut(Masked(sentence, {}), count, tries)
        text = plain_marks(sentence, self._unknown)
        places = [(begin, end) for begin, end, strange in spans(text, self._unknown) if strange]
        # What stands apart at either end, such as an emoji or a bullet, stays there.
        begin, end = 0, len(text)
        while places and places[0][0] == begin and _stands_apart(text, *places[0]):
            begin = places.pop(0)[1]
            begin += len(text[begin:]) - len(text[begin:].lstrip())
        while places and places[-1][1] == end and _stands_apart(text, *places[-1]):
            end = len(text[: places.pop()[0]].rstrip())
        middle = text[begin:end]
        masked = mask(middle, [(one - begin, other - begin) for one, other in places])
        if not any(map(str.isalpha, _without(masked))):
            return [sentence]
        items = self._cut(masked, count, 0)
        if text != sentence:
            _set_marks(items, sentence)
        return [text[:begin], *items, text[end:]]

    def _cut(self, masked: Masked, count: int, tries: int) -> list[Item]:
        """A sentence in parts of at most `count` tokens, and the white space between them."""
        ids = self.vocabulary.encode(masked.text)
        if len(ids) <= count:
            return [Part(masked, ids, tries)]
        items: list[Item] = []
        for part in masked.cut(parts(masked.text, self._count, count)):
            stripped = Masked(part.text.strip(), part.copies)
            before, after = part.text.split(stripped.text, 1) if stripped.text else ("", part.text)
            ids = self.vocabulary.encode(stripped.text)
            if len(ids) <= count and stripped.text:
                items += [before, Part(stripped, ids, tries), after or " "]
            else:  # one word, which no model could take
                items.append(stripped.source(part.text))
        return [*items[:-1], *(item for item in items[-1:] if item != " ")]

    def _again(self, part: Part) -> list[Item]:
        """What has lost something: with stand-ins for all that could be lost and in shorter parts;
        at last, cut around it."""
        source, tries = part.masked.source(), part.tries + 1
        translation = self.vocabulary.decode(part.hypotheses[0].tokens)
        places = [(begin, end) for begin, end, _ in spans(source, self._unknown)]
        covered = {i for begin, end in places for i in range(begin, end)}
        places += [
            (begin, end)
            for begin, end in number_spans(source)
            if covered.isdisjoint(range(begin, end)) and not numbers(source[begin:end], translation)
        ]
        if tries < TRIES:
            items = self._cut(mask(source, places), max(MIN_TOKENS, len(part.ids) // 2), tries)
        else:
            items = self._around(source, sorted(places), tries)
        _set_marks(items, part.marks)
        return items

    def _around(self, source: str, places: list[tuple[int, int]], tries: int) -> list[Item]:
        """A sentence cut around places, which are kept."""
        items: list[Item] = []
        at = 0
        for begin, end in [*places, (len(source), len(source))]:
            between = source[at:begin]
            core = between.strip()
            if any(map(str.isalpha, core)):
                before, after = between.split(core, 1)
                items += [before, *self._cut(Masked(core, {}), self.max_tokens, tries), after]
            else:
                items.append(between)
            items.append(source[begin:end])
            at = end
        return items

    def _count(self, text: str) -> int:
        return len(self.vocabulary.encode(text))

    def _has_unknown(self, text: str, ids: list[int]) -> bool:
        """Whether something of a text with these tokens is not known to the model."""
        return self.vocabulary.source.unk in ids or any(map(is_strange, text))

    def _unknown(self, text: str) -> bool:
        return self._has_unknown(text, self.vocabulary.encode(text))


def _keeps(source: str, text: str) -> bool:
    """Whether a translation has the numbers and addresses of its source."""
    if not numbers(source, text):
        return False
    wanted = [source[begin:end] for begin, end, _ in spans(source, lambda _: False)]
    return all(text.count(one) >= wanted.count(one) for one in wanted)


def _set_marks(items: list[Item], sentence: str) -> None:
    for item in items:
        if isinstance(item, Part):
            item.marks = sentence


def _stands_apart(text: str, begin: int, end: int) -> bool:
    """Whether a place of a text is neither word nor number, and white space is around it."""
    around = text[max(0, begin - 1) : begin] + text[end : end + 1]
    return not around.strip() and not any(map(str.isalnum, text[begin:end]))


def _without(masked: Masked) -> str:
    """Without the stand-ins."""
    text = masked.text
    for name in masked.copies:
        text = text.replace(name, "")
    return text
