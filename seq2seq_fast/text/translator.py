"""Translator: texts in, translations out.

A text becomes parts that a model can translate and what is kept as it is (`parts`); the parts of
some texts are translated together, those that have lost something again; then each text is put
together.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from ..checks import flag, integer, shown
from ..decoding.options import Options
from ..models.formats.marian import Shortlist
from ..models.vocabularies import FilePath
from ..models.vocabularies.directions import Direction, iso
from ..option_names import names_checked
from .copying import marks_of
from .languages import languages_of
from .model import TextModel
from .parts import TRIES, Cutter, Item, Part
from .results import Translation
from .texts import each, groups, in_batches

__all__ = ["Translator"]

TASK = re.compile(r"translation_([a-z]{2,3})_to_([a-z]{2,3})")
MAX_SOURCE_TOKENS = 80  # small models have learned from few sentences of more
BATCH_SENTENCES = 32
SHORTLIST_SENTENCES = 16  # logits are computed of all tokens that any of them may need


class _Call(NamedTuple):
    """What a call asks for."""

    language: str  # of the source, ISO 639-1 where there is such a code
    options: Options
    direction: Direction


class Translator(TextModel):
    """Translates text with a published model.

    A translation depends on its own text alone: not on the other texts, the backend, the
    instruction set or the number of threads. A translator pickles as the files that it was made of;
    translations pickle without the model.

    Parameters
    ----------
    path : path
        A folder with a model that load() reads and its vocabulary, or the model's file in it.
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

    Attributes
    ----------
    source_language, target_language : str or None
        ISO 639 codes, where the folder says what its model translates between.

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
    >>> from seq2seq_fast.demo import find_translation_model
    >>> translator = Translator(find_translation_model("pt"))
    >>> translator.translate(["How are you today?"])[0].text
    'Como você está hoje?'
    """

    @names_checked
    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        vocabulary: FilePath | tuple[FilePath, FilePath] | None = None,
        weights: str | None = None,
        shortlist: bool = False,
        copy: bool = True,
        max_source_tokens: int | None = None,
    ) -> None:
        shortlist, copy = flag("shortlist", shortlist), flag("copy", copy)
        super().__init__(path, vocabulary, weights)
        self.source_language, self.target_language = languages_of(self.folder)
        self._cutter = Cutter(self.vocabulary, copy, self._max_source_tokens(max_source_tokens))
        self.shortlist = None
        if shortlist:
            lex = _only_file(self.folder, "lex*.bin", "shortlist")
            self.shortlist = Shortlist(lex, self.model.vocabulary_size)

    def _max_source_tokens(self, wanted: int | None) -> int:
        if wanted is None:
            return min(MAX_SOURCE_TOKENS, self.room)
        return integer("max_source_tokens", wanted, 1, self.room)

    def translate(
        self,
        texts: Iterable[str],
        source_language: str | None = None,
        target_language: str | None = None,
        **options: Any,
    ) -> list[Any]:
        """Translate texts.

        Parameters
        ----------
        texts : iterable of str
            Each of any number of lines and sentences; a blank text gives a blank one.
        source_language : str, optional
            One of the model's own codes, such as ``eng_Latn``, or ISO 639's, which also guides the
            splitting into sentences; if left out, what the folder says, or "en".
        target_language : str, optional
            The same of what to translate to; a model of one pair of languages needs none.
        **options
            How to decode: the fields of `seq2seq_fast.decoding.options.Options`, such as num_beams
            and num_return_sequences. Those that are given for each sequence of tokens
            (decoder_input_ids, prefix, shortlist, callback) are left to the model's own generate().

        Returns
        -------
        list of Translation, or of lists of them, if `num_return_sequences` was given
            In the order of the texts. At most num_return_sequences of each, the best first: the
            i-th has the i-th of what was found of each sentence, or the last if there are fewer; a
            blank text has one.

        Raises
        ------
        TypeError
            `texts` holds something else than str, or is a str itself; the message says where. An
            option does not exist, or is of a wrong type.
        ValueError
            An option makes no sense; the model does not translate to that language, or has to be
            told one: the message lists near ones.

        References
        ----------
        Vaswani et al., "Attention Is All You Need", 2017. Shortlists: Dyer et al., "A Simple, Fast,
        and Effective Reparameterization of IBM Model 2", 2013.

        Examples
        --------
        >>> from seq2seq_fast.demo import find_translation_model
        >>> translator = Translator(find_translation_model("pt"))
        >>> best = translator.translate(["Yes."], num_beams=4, num_return_sequences=2)[0]
        >>> [found.text for found in best]
        ['Sim.', 'Sim, sim.']
        """
        call = self._checked("translate", source_language, target_language, options)
        return list(self._translations(list(each(texts)), call))

    def stream(
        self,
        texts: Iterable[str],
        source_language: str | None = None,
        target_language: str | None = None,
        **options: Any,
    ) -> Iterator[Any]:
        """Translate texts a few at a time, as they come.

        Parameters
        ----------
        texts : iterable of str
        source_language, target_language : str, optional
        **options
            All as for translate().

        Yields
        ------
        Translation, or list of them
            As translate() returns them, in the order of the texts, as they are finished.

        Raises
        ------
        TypeError, ValueError
            As translate() does: at once if `texts` is no iterable of str or for an option, and for
            one of the texts when all before it have been given, as any error is that `texts` itself
            raises.

        Examples
        --------
        >>> from seq2seq_fast.demo import find_translation_model
        >>> translator = Translator(find_translation_model("pt"))
        >>> for found in translator.stream(iter(["Good morning.", "Good night."])):
        ...     print(found.text)
        Bom dia.
        Boa noite.
        """
        call = self._checked("stream", source_language, target_language, options)
        return self._translations(each(texts), call)

    def _checked(
        self, method: str, source: str | None, target: str | None, options: dict[str, Any]
    ) -> _Call:
        """What a call asks for."""
        for name, language in (("source_language", source), ("target_language", target)):
            if not isinstance(language, str | None):
                raise TypeError(f"{name} must be a str; got {shown(language)}")
        task: dict[str, Any] = {}
        languages, vocabulary = self.vocabulary.languages, self.vocabulary
        if languages.ids:
            direction = vocabulary.between(source or self.source_language, target)
        else:
            prefix, task = self._task(source, target)
            start = [*vocabulary.start, *(vocabulary.encode(prefix) if prefix else ())]
            direction = Direction(start, vocabulary.end)
        chosen = self.options(options, f"Translator.{method}", Translator.translate, task)
        if self.shortlist is not None and chosen.logits_processor is not None:
            raise ValueError("logits_processor must be None with a translator's shortlist")
        return _Call(iso(source or self.source_language or "en"), chosen, direction)

    def _task(self, source: str | None, target: str | None) -> tuple[str, dict[str, Any]]:
        """What a source begins with, and options, of a model that is told its task in words."""
        pairs = {
            match.groups(): name
            for name in self._config.get("task_specific_params") or {}
            if (match := TASK.fullmatch(name))
        }
        if not pairs:
            if target not in (None, self.target_language):
                known = self.target_language
                raise ValueError(
                    f"target_language must be None{f' or {known!r}' if known else ''}, for the"
                    f" model translates to {'it' if known else 'one language'} alone; got"
                    f" {shown(target)}"
                )
            return "", {}
        name = pairs.get((source or "en", target or ""))
        if name is None:
            known = ", ".join(f"{of} to {to}" for of, to in pairs)
            raise ValueError(
                f"target_language must be one of those that the model translates to: {known}; got"
                f" {source or 'en'} to {target}"
            )
        return self.task(name)

    def _translations(self, texts: Iterator[str] | list[str], call: _Call) -> Iterator[Any]:
        for group in groups(texts, BATCH_SENTENCES):
            yield from self._translate(group, call)

    def _translate(self, texts: list[str], call: _Call) -> list[Any]:
        sources = [self._cutter.items(text, call.language) for text in texts]
        for _ in range(1 + TRIES):
            flat = [item for items in sources for item in items if isinstance(item, Part)]
            self._decode([part for part in flat if not part.hypotheses], call)
            if not any(part.lost for part in flat):
                break
            sources = [self._cutter.retried(items) for items in sources]
        every = [self._ranked(items) for items in sources]
        return every if call.options.num_return_sequences else [ranked[0] for ranked in every]

    def _decode(self, parts: list[Part], call: _Call) -> None:
        """Hypotheses of the parts, and which of them keep what they must."""
        size = SHORTLIST_SENTENCES if self.shortlist else BATCH_SENTENCES
        direction = call.direction
        for part in parts:
            part.ids = [*direction.start, *part.ids, *direction.end]

        def generate(batch: list[Part]) -> list[Any]:
            ids = [part.ids for part in batch]
            more: dict[str, Any] = {}
            if self.shortlist:
                more["shortlist"] = [self.shortlist(source) for source in ids]
            if direction.forced_bos_token_id is not None:
                more["forced_bos_token_id"] = direction.forced_bos_token_id
            if direction.decoder_start is not None:
                more["decoder_input_ids"] = [[direction.decoder_start]] * len(ids)
            found: list[Any] = self.decode(ids, call.options, **more)
            return found

        every = in_batches(generate, parts, lambda part: len(part.ids), size, call.options)
        for part, found in zip(parts, every, strict=True):
            self._cutter.judge(part, found)

    def _ranked(self, items: list[Item]) -> list[Translation]:
        """A text's translations, the best first: the i-th has the i-th hypothesis of each sentence,
        or the last that it has."""
        count = max((len(item.kept) for item in items if isinstance(item, Part)), default=1)
        return [self._join(items, rank) for rank in range(count)]

    def _join(self, items: list[Item], rank: int) -> Translation:
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


def _only_file(folder: Path, pattern: str, what: str) -> Path:
    """The one file of a folder that fits a pattern."""
    found = sorted(folder.glob(pattern))
    if len(found) != 1:
        names = ", ".join(file.name for file in found) or "none"
        raise FileNotFoundError(f"{folder}: expected one {pattern} {what}; found {names}")
    return found[0]
