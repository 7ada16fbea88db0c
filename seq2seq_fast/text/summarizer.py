"""Summarizer: texts in, summaries out, of texts of any length.

A text that is longer than the model reads at once is cut at the ends of sentences into parts of
similar length; the summary is that of each part in turn, and is itself summarized again where it is
still too long.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

from ..checks import integer
from ..decoding.options import Options
from ..models.vocabularies import FilePath
from ..option_names import names_checked
from .documents import parts_of
from .model import TextModel
from .results import Summary
from .texts import each, groups, in_batches

__all__ = ["Summarizer"]

BATCH_TEXTS = 8
OVERFLOW = ("split", "error")
MAX_ROUNDS = 8  # of summaries of summaries; each is shorter than what it is of


class Summarizer(TextModel):
    """Summarizes texts with a published model.

    A summary depends on its own text alone: not on the other texts, the backend, the instruction
    set or the number of threads. A summarizer pickles as the files that it was made of; summaries
    pickle without the model.

    Parameters
    ----------
    path : path
        A folder with a model that load() reads and its vocabulary, or the model's file in it.
    vocabulary : path or pair of paths, optional
        A tokenizer that lies elsewhere: a SentencePiece model or ``tokenizer.json``, a folder with
        one, or the files of the source and of the target.
    weights : {"float32", "float16", "int8"}, optional
        What the matrices are kept as; as they are in the file if left out.
    max_source_tokens : int, optional
        Longer texts are cut. By default what the model reads at once.

    Raises
    ------
    FileNotFoundError, ValueError
        As load() does; also if the vocabulary is missing or is not the model's.
    TypeError
        An option that does not exist.
    ImportError
        The extra "text" is not installed.

    References
    ----------
    Lewis et al., "BART: Denoising Sequence-to-Sequence Pre-training for Natural Language
    Generation, Translation, and Comprehension", 2020.

    Examples
    --------
    Of any model that reads text and writes it:

    >>> from seq2seq_fast.demo import find_translation_model
    >>> summarizer = Summarizer(find_translation_model("pt"))
    >>> summarizer.summarize(["Good morning."])[0].text
    'Bom dia.'
    """

    @names_checked
    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        vocabulary: FilePath | tuple[FilePath, FilePath] | None = None,
        weights: str | None = None,
        max_source_tokens: int | None = None,
    ) -> None:
        super().__init__(path, vocabulary, weights)
        # Of a model of several tasks a source says which; of others this is empty.
        self._prefix, self._defaults = self.task("summarization")
        room = self.room - len(self.vocabulary.encode(self._prefix))
        limit = self.vocabulary.limit
        self.max_source_tokens = room if limit is None else max(1, min(room, limit))
        if max_source_tokens is not None:
            self.max_source_tokens = integer("max_source_tokens", max_source_tokens, 1, room)

    def summarize(
        self, texts: Iterable[str], *, language: str = "en", overflow: str = "split", **options: Any
    ) -> list[Any]:
        """Summarize texts.

        Parameters
        ----------
        texts : iterable of str
            Of any length; a blank text gives a blank summary.
        language : str
            ISO 639-1 code, which guides the splitting into sentences.
        overflow : {"split", "error"}
            What becomes of a text that is longer than the model reads at once: it is cut at the
            ends of sentences, or it is an error. It is never cut off.
        **options
            How to decode: the fields of `seq2seq_fast.decoding.options.Options`, such as
            max_new_tokens, min_new_tokens and length_penalty; what is left out is as the model's
            own folder says.

        Returns
        -------
        list of Summary, or of lists of them, if `num_return_sequences` was given
            In the order of the texts. The i-th of a list has the i-th of what was found of each
            part.

        Raises
        ------
        TypeError
            `texts` holds something else than str, or is a str itself; an option does not exist, or
            is of a wrong type.
        ValueError
            An option makes no sense; a text is too long and `overflow` is "error".

        Examples
        --------
        >>> from seq2seq_fast.demo import find_translation_model
        >>> summarizer = Summarizer(find_translation_model("pt"), max_source_tokens=12)
        >>> summary = summarizer.summarize(["I love this city. It is warm. It is by the sea."])[0]
        >>> summary.cut_into, summary.finished
        (2, True)
        """
        return list(self.stream(list(each(texts)), language=language, overflow=overflow, **options))

    def stream(
        self, texts: Iterable[str], *, language: str = "en", overflow: str = "split", **options: Any
    ) -> Iterator[Any]:
        """Summarize texts a few at a time, as they come.

        Parameters
        ----------
        texts : iterable of str
        language, overflow : str
        **options
            All as for summarize().

        Yields
        ------
        Summary, or list of them
            In the order of the texts, as they are finished.

        Raises
        ------
        TypeError, ValueError
            As summarize() does: at once for an option, and for one of the texts when those before
            it have been given.
        """
        chosen = self.options(options, "Summarizer.summarize", Summarizer.summarize, self._defaults)
        if overflow not in OVERFLOW:
            raise ValueError(f"overflow must be one of {', '.join(OVERFLOW)}; got {overflow!r}")
        return self._summaries(each(texts), language, overflow == "split", chosen)

    def _summaries(
        self, texts: Iterator[str], language: str, split: bool, chosen: Options
    ) -> Iterator[Any]:
        for group in groups(texts, BATCH_TEXTS):
            cut = [self._parts(text, language, split) for text in group]
            found = iter(self._ranked([part for parts in cut for part in parts], chosen))
            for parts in cut:
                ranked = self._joined([next(found) for _ in parts])
                ranked = [self._shortened(one, language, chosen) for one in ranked]
                yield ranked if chosen.num_return_sequences else ranked[0]

    def _parts(self, text: str, language: str, split: bool) -> list[str]:
        """What the model is given of a text, one after the other."""
        count = self._count(text)
        if count <= self.max_source_tokens:
            return [text] if text.strip() else []
        if not split:
            raise ValueError(
                f"a text has {count} tokens, of which the model reads {self.max_source_tokens} at"
                f" once, and overflow is 'error' ({text[:40]!r}...)"
            )
        return parts_of(text, language, self._count, self.max_source_tokens)

    def _count(self, text: str) -> int:
        return len(self.vocabulary.encode(text))

    def _ranked(self, texts: list[str], chosen: Options) -> list[list[Summary]]:
        """Of each text that the model reads at once its summaries, the best first."""
        sources = [self.source(self._prefix + text) for text in texts]
        every = in_batches(lambda ids: self.decode(ids, chosen), sources, len, BATCH_TEXTS, chosen)
        vocabulary = self.vocabulary
        return [
            [
                Summary(
                    text=vocabulary.decode(one.tokens).strip(),
                    tokens=vocabulary.tokens(one.tokens),
                    source_tokens=vocabulary.source.tokens(ids),
                    score=sum(one.token_scores),
                    finished=one.finished,
                    parts=[(ids, one)],
                    model=self.model,
                )
                for one in found
            ]
            for ids, found in zip(sources, every, strict=True)
        ]

    def _joined(self, parts: list[list[Summary]]) -> list[Summary]:
        """Summaries of a text from those of its parts, the best first: the i-th has the i-th of
        each, or the last that there is."""
        count = max(map(len, parts), default=1)
        return [
            self._in_turn([some[min(i, len(some) - 1)] for some in parts]) for i in range(count)
        ]

    def _in_turn(self, parts: list[Summary]) -> Summary:
        return Summary(
            text=" ".join(one.text for one in parts),
            tokens=[token for one in parts for token in one.tokens],
            source_tokens=[token for one in parts for token in one.source_tokens],
            score=sum(one.score for one in parts),
            finished=all(one.finished for one in parts),
            parts=[part for one in parts for part in one.parts],
            model=self.model,
            cut_into=len(parts),
        )

    def _shortened(self, summary: Summary, language: str, chosen: Options) -> Summary:
        """A summary that the model could read at once: summarized again until it could, or until
        that makes it no shorter."""
        for _ in range(MAX_ROUNDS):
            count = self._count(summary.text)
            if count <= self.max_source_tokens:
                break
            parts = self._parts(summary.text, language, True)
            again = self._in_turn([ranked[0] for ranked in self._ranked(parts, chosen)])
            if self._count(again.text) >= count:
                break
            summary = replace(again, cut_into=summary.cut_into)
        return summary
