"""TextGenerator: texts in, what the model answers to each out."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import Any

from ..decoding.options import Options
from ..decoding.search import Hypothesis
from ..models.vocabularies import FilePath
from ..option_names import names_checked
from .model import TextModel
from .results import Generation
from .texts import each, groups, in_batches

__all__ = ["TextGenerator"]

BATCH_TEXTS = 32


class TextGenerator(TextModel):
    """Generates text from text with a published model: instructions, code, what is masked.

    A result depends on its own text alone: not on the other texts, the backend, the instruction set
    or the number of threads. A generator pickles as the files that it was made of; results pickle
    without the model.

    Parameters
    ----------
    path : path
        A folder with a model that load() reads and its vocabulary, or the model's file in it.
    vocabulary : path or pair of paths, optional
        A tokenizer that lies elsewhere: a SentencePiece model or ``tokenizer.json``, a folder with
        one, or the files of the source and of the target.
    weights : {"float32", "float16", "int8"}, optional
        What the matrices are kept as; as they are in the file if left out.

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
    Raffel et al., "Exploring the Limits of Transfer Learning with a Unified Text-to-Text
    Transformer", 2020.

    Examples
    --------
    A model that translates answers with a translation:

    >>> from seq2seq_fast.demo import find_translation_model
    >>> generator = TextGenerator(find_translation_model("pt"))
    >>> generator.generate(["Good morning."])[0].text
    'Bom dia.'
    """

    @names_checked
    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        vocabulary: FilePath | tuple[FilePath, FilePath] | None = None,
        weights: str | None = None,
    ) -> None:
        super().__init__(path, vocabulary, weights)

    def generate(self, texts: Iterable[str], **options: Any) -> list[Any]:
        """What the model answers to texts.

        Parameters
        ----------
        texts : iterable of str
            Each is given to the model as it is, whole: what the model knows as special, such as
            ``<extra_id_0>`` of T5 and CodeT5 or ``<mask>`` of BART, is that.
        **options
            How to decode: the fields of `seq2seq_fast.decoding.options.Options`, such as num_beams
            and num_return_sequences; what is left out is as the model's own folder says.

        Returns
        -------
        list of Generation, or of lists of them, if `num_return_sequences` was given
            In the order of the texts.

        Raises
        ------
        TypeError
            `texts` holds something else than str, or is a str itself; an option does not exist, or
            is of a wrong type.
        ValueError
            An option makes no sense; a text has no token, or more than the model has positions for:
            the message says how many each.

        Examples
        --------
        >>> from seq2seq_fast.demo import find_translation_model
        >>> generator = TextGenerator(find_translation_model("pt"))
        >>> best = generator.generate(["Yes."], num_beams=4, num_return_sequences=2)[0]
        >>> [found.text for found in best]
        ['Sim.', 'Sim, sim.']
        """
        return list(self.stream(list(each(texts)), **options))

    def stream(self, texts: Iterable[str], **options: Any) -> Iterator[Any]:
        """What the model answers to texts, a few at a time, as they come.

        Parameters
        ----------
        texts : iterable of str
        **options
            All as for generate().

        Yields
        ------
        Generation, or list of them
            In the order of the texts, as they are finished.

        Raises
        ------
        TypeError, ValueError
            As generate() does: at once for an option, and for one of the texts when those before it
            have been given.
        """
        chosen = self.options(options, "TextGenerator.generate", TextGenerator.generate)
        return self._generations(each(texts), chosen)

    def _generations(self, texts: Iterator[str], chosen: Options) -> Iterator[Any]:
        for group in groups(texts, BATCH_TEXTS):
            sources = [self.checked_source(text) for text in group]
            every = in_batches(
                lambda ids: self.decode(ids, chosen), sources, len, BATCH_TEXTS, chosen
            )
            for ids, found in zip(sources, every, strict=True):
                results = [self._result(ids, one) for one in found]
                yield results[0] if chosen.num_return_sequences is None else results

    def _result(self, ids: list[int], found: Hypothesis) -> Generation:
        vocabulary = self.vocabulary
        return Generation(
            text=vocabulary.decode(found.tokens),
            tokens=vocabulary.tokens(found.tokens),
            source_tokens=vocabulary.source.tokens(ids),
            score=sum(found.token_scores),
            finished=found.finished,
            parts=[(ids, found)],
            model=self.model,
        )
